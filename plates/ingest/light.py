"""Fluorescence of a frame into the plate: which stack belongs to it, and where it lies on the tomogram."""

from __future__ import annotations

import math
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

    Fluorescence is often taken at every third tomogram only, and numbered for itself. Where times are known, a
    stack belongs to the tomogram nearest in time, if that is near, and of several such stacks the nearest is taken;
    a stack or a tomogram whose own time is missing has no partner then. Without times of stacks or
    tomograms equal numbers belong together.
    """
    channels = acquisition.channels.values()
    stacks = {
        number: channel.times_s[number]
        for channel in channels
        for number in channel.frames
        if math.isfinite(channel.times_s.get(number, math.nan))
    }
    own = {number: acquisition.times_s.get(number, math.nan) for number in acquisition.frames}
    own = {number: seconds for number, seconds in own.items() if math.isfinite(seconds)}
    # the first tomogram is at 0 s by definition: its time alone tells nothing of the others
    if not stacks or len(own) < min(2, len(acquisition.frames)):
        return frame if any(frame in channel.frames for channel in channels) else None
    if frame not in own:
        return None
    seconds = np.array([*own.values()])
    reach = _NEAR * float(np.median(np.diff(np.sort(seconds)))) if len(own) > 1 else _ALONE_S
    away = {
        number: abs(own[frame] - taken)
        for number, taken in stacks.items()
        if abs(own[frame] - taken) <= reach and [*own][int(np.argmin(np.abs(seconds - taken)))] == frame
    }
    return min(away, key=lambda number: (away[number], number), default=None)
