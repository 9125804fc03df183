"""Fluorescence of a frame into the plate: which stack belongs to it, and where it lies on the tomogram."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from ..store import Plate
from .acquisition import Acquisition
from .manifest import Source

# A stack belongs to a tomogram when it was taken within half the time between two tomograms.
_NEAR = 0.5
_ALONE_S = 600.0  # and of a single tomogram within so many seconds


def add_fluorescence(plate: Plate, source: Source, acquisition: Acquisition, *, frame: int) -> dict[str, Any]:
    """Write the fluorescence that belongs to a frame, and say where it was found to lie; empty without any.

    Raises
    ------
    AcquisitionError
        The stack cannot be read.
    """
    from ..aligned import aligned_projections

    timepoint = source.timepoint + frame
    stack = matching_stack(acquisition, frame)
    if source.fluorescence == "none" or stack is None:
        return {}
    images, placement = aligned_projections(
        acquisition,
        frame,
        plate.projection(source.well, field=source.field, timepoint=timepoint),
        fluorescence_frame=stack,
        refine=source.fluorescence == "registered",
    )
    plate.write_fluorescence(source.well, field=source.field, timepoint=timepoint, images=images)
    return {"frame": stack, **asdict(placement)}


def matching_stack(acquisition: Acquisition, frame: int) -> int | None:
    """Number of the fluorescence frame that belongs to a tomogram; None where there is none.

    Fluorescence is often taken at every third tomogram only, and numbered for itself. Where times are known the
    tomogram nearest in time has it, if it is near; without times equal numbers belong together.
    """
    times = {
        number: seconds for channel in acquisition.channels.values() for number, seconds in channel.times_s.items()
    }
    numbers = {number for channel in acquisition.channels.values() for number in channel.frames}
    own = np.array([acquisition.times_s[number] for number in acquisition.frames])
    if not times or not np.isfinite([*times.values(), *own]).all():
        return frame if frame in numbers else None
    reach = _NEAR * float(np.median(np.diff(np.sort(own)))) if len(own) > 1 else _ALONE_S
    for number in sorted(numbers):
        nearest = acquisition.frames[int(np.argmin(np.abs(own - times[number])))]
        if nearest == frame and abs(acquisition.times_s[frame] - times[number]) <= reach:
            return number
    return None
