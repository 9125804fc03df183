"""What every reader gives, whatever the format: a header now, tomograms one slab at a time on demand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..counts import COUNTS_PER_INDEX
from ..errors import AcquisitionError, MissingInputError

_SAMPLED_VALUES = 100_000
_CACHED_VALUES = 1 << 16  # converted at a time, so that they stay in the processor's cache
_GARBAGE = 1e6  # beyond any index in either unit: 1e30 and the like count as not finite


@dataclass(frozen=True)
class Slab:
    """Part of a tomogram along z.

    Attributes
    ----------
    z
        First slice.
    counts
        Refractive index x 10,000 as uint16 (z, y, x); 0 = not reconstructed or not finite.
    nonfinite
        Voxels that were NaN, infinite or absurd (and are 0 in `counts`).
    """

    z: int
    counts: np.ndarray
    nonfinite: int


@dataclass(frozen=True)
class FluorescenceChannel:
    """One fluorescence channel; its stacks are read on demand.

    Attributes
    ----------
    name
        ``CH0``, ``CH1``, ...
    frames
        Frame numbers present; often fewer than the tomograms.
    shape_zyx, voxel_um
        Own grid of the channel.
    offset_z_um
        As stored: height of the first slice (HT-X1) or of the centre (HT-2H) in tomogram coordinates.
    excitation_um, emission_um
        NaN where the file does not say.
    times_s
        Seconds since the first tomogram by frame number; NaN, or left out, where the file does not say.
    """

    name: str
    frames: tuple[int, ...]
    shape_zyx: tuple[int, int, int]
    voxel_um: tuple[float, float, float]
    offset_z_um: float
    excitation_um: float
    emission_um: float
    times_s: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class FluorescenceTransform:
    """Where the instrument says that fluorescence lies relative to the tomogram, about the field's centre.

    Attributes
    ----------
    rotation_rad
        Turn of the fluorescence.
    scale
        Its magnification; 1 = none.
    translation_um
        Its shift (y, x).
    """

    rotation_rad: float = 0.0
    scale: float = 1.0
    translation_um: tuple[float, float] = (0.0, 0.0)


class Acquisition(Protocol):
    """One open acquisition: a series of tomograms of one field.

    Attributes
    ----------
    path
        The file, or the folder of an OME-Zarr plate.
    frames
        Numbers of the tomograms present, ascending; a missing one leaves a gap.
    planned
        Number of tomograms that the acquisition announced, at least those present.
    shape_zyx, voxel_um
        Of the tomograms; um.
    times_s
        Seconds since the first frame, by frame number; NaN where the file does not say.
    recorded
        Local time of the first frame, or None.
    medium_index
        Index of the medium as entered at the instrument, or NaN.
    position_mm
        Stage position (x, y, z) of the first frame; NaN where the file does not say.
    channels
        Fluorescence channels by name.
    fluorescence_transform
        How they lie on the tomogram.
    format, stored
        Such as ``"TCF"`` and ``"uint16"``, for people.
    """

    path: Path
    frames: tuple[int, ...]
    planned: int
    shape_zyx: tuple[int, int, int]
    voxel_um: tuple[float, float, float]
    times_s: Mapping[int, float]
    recorded: datetime | None
    medium_index: float
    position_mm: tuple[float, ...]
    channels: Mapping[str, FluorescenceChannel]
    fluorescence_transform: FluorescenceTransform
    format: str
    stored: str

    def slabs(self, frame: int, *, depth: int = 1) -> Iterator[Slab]:
        """Yield a tomogram in slabs along z, in order, each some 16 million voxels at most (or one chunk).

        Parameters
        ----------
        depth
            Slabs of a multiple of so many slices suit the caller, where that costs the reader nothing.
        """

    def describe_instrument(self) -> Mapping[str, Any]:
        """What the file says of the microscope and its settings, as JSON; empty where it says nothing."""

    def read_fluorescence(self, channel: str, *, frame: int) -> np.ndarray:
        """One fluorescence stack (z, y, x) in camera units, as stored (uint8 or uint16)."""


def open_acquisition(path: Path, *, part: str = "", channel: str | None = None) -> AbstractContextManager[Acquisition]:
    """Open an acquisition of any known format for lazy reading; only headers are read.

    Parameters
    ----------
    path
        A file, or the folder of an OME-Zarr plate.
    part
        Which image of it, where it holds several (``"A/1/0"`` of a plate); empty for the only one.
    channel
        Which channel of an OME-Zarr image holds the refractive index, where that is not plain.

    Raises
    ------
    MissingInputError
        There is nothing at `path`.
    AcquisitionError
        It is of no known format, cut short, still being written, or not safe to read.
    """
    from .ome_tiff import open_tiff
    from .ome_zarr import is_ome_zarr, open_ome_zarr
    from .tcf import open_tcf
    from .tiff_pages import MAGIC

    path = Path(path)
    if not path.exists():
        raise MissingInputError(f"{path}: there is no such acquisition.")
    if path.is_dir():
        if is_ome_zarr(path):
            return open_ome_zarr(path, part=part, channel=channel)
        raise AcquisitionError(f"{path}: a folder, but no OME-Zarr plate (it has no zarr.json or .zattrs). Remove it.")
    with path.open("rb") as file:
        start = file.read(8)
        size = file.seek(0, 2)
    if start[:4] in MAGIC:
        return open_tiff(path, part=part)
    if part:
        raise AcquisitionError(f"{path}: holds no parts, but {part!r} of it was asked for. Correct the manifest.")
    if size == 0:
        raise AcquisitionError(f"{path}: holds 0 bytes. Is it still being copied? Copy it again, or remove it.")
    # a damaged start of a TCF is for its reader to say
    if start == b"\x89HDF\r\n\x1a\n" or path.suffix.lower() == ".tcf":
        return open_tcf(path)
    raise AcquisitionError(
        f"{path}: neither TCF (HDF5), TIFF nor OME-Zarr; it starts with {start!r}. Export it in one of these "
        "formats, or remove it."
    )


def read_frame(acquisition: Acquisition, frame: int) -> tuple[np.ndarray, int]:
    """Whole tomogram as uint16 counts (z, y, x) and the number of voxels that were not finite."""
    slabs = acquisition.slabs(frame)
    first = next(slabs)
    if first.counts.shape == acquisition.shape_zyx:
        return first.counts, first.nonfinite
    counts = np.empty(acquisition.shape_zyx, dtype=np.uint16)
    nonfinite = 0
    for slab in chain([first], slabs):
        counts[slab.z : slab.z + len(slab.counts)] = slab.counts
        nonfinite += slab.nonfinite
    return counts, nonfinite


def index_counts(block: np.ndarray, *, where: str) -> tuple[np.ndarray, int]:
    """Stored values of any numeric kind as uint16 counts; checked, never wrapped around.

    Integers are the index x 10,000. Floating values are the index itself where they lie near 1, and the
    index x 10,000 where they lie near 13,000.

    Parameters
    ----------
    where
        File and frame, for the message of the error.

    Returns
    -------
    counts, nonfinite
        Index x 10,000 with 0 for what is missing or no number; how many were no number.

    Raises
    ------
    AcquisitionError
        Values that are no refractive index.
    """
    if block.dtype == np.uint16:
        return block, 0
    if np.issubdtype(block.dtype, np.integer):
        _check_range(block, where=where)
        return block.astype(np.uint16), 0
    flat = np.ascontiguousarray(block).reshape(-1)
    counts, nonfinite = np.empty(flat.shape, dtype=np.uint16), 0
    with np.errstate(invalid="ignore", over="ignore"):
        factor = flat.dtype.type(1 if _is_scaled(flat) else COUNTS_PER_INDEX)
        for start in range(0, flat.size, _CACHED_VALUES):
            part = flat[start : start + _CACHED_VALUES]
            values = np.rint(part * factor)
            if not (values.min() >= 0 and values.max() <= np.iinfo(np.uint16).max):  # NaN compares false
                usable = np.abs(part) < _GARBAGE
                nonfinite += int(part.size - np.count_nonzero(usable))
                values = np.where(usable, values, 0)
                _check_range(values, where=where)
            counts[start : start + _CACHED_VALUES] = values
    return counts.reshape(block.shape), nonfinite


def _is_scaled(flat: np.ndarray) -> bool:
    """Whether floating values are the index x 10,000: the median tells, whatever single voxels hold."""
    sample = flat[:: 1 + flat.size // _SAMPLED_VALUES]
    sample = sample[(sample != 0) & (np.abs(sample) < _GARBAGE)]
    if not sample.size:  # little of it was reconstructed
        present = flat[(flat != 0) & (np.abs(flat) < _GARBAGE)]
        sample = present[:: 1 + present.size // _SAMPLED_VALUES]
    return bool(sample.size > 0 and abs(float(np.median(sample))) > 100)


def _check_range(counts: np.ndarray, *, where: str) -> None:
    low, high = counts.min(), counts.max()
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise AcquisitionError(
            f"{where} holds refractive indices from {low / COUNTS_PER_INDEX:g} to "
            f"{high / COUNTS_PER_INDEX:g}; expected 0 (missing) or 1 to 6.5535. Reconstruct it again, or remove it."
        )
