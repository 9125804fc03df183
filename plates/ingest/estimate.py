"""How large a plate will be and how long it takes to convert, measured on a little of it beforehand."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from ..errors import AcquisitionError, NoSpaceError
from ..files import gigabytes, is_remote
from ..levels import projection_levels, volume_levels
from ..shards import ShardWriter
from ..store import Plate
from .opening import open_source
from .survey import Header

# Room for what conversion does not write but the file system takes: half-full blocks, records, results.
_MARGIN = 1.05
_SAMPLED_FILES = 3


@dataclass(frozen=True)
class Estimate:
    """What conversion will need.

    Attributes
    ----------
    tomograms
        To be converted.
    raw_bytes
        Of their voxels, uncompressed.
    stored_bytes
        Of the files that will be written, projections and coarser levels with them.
    ratio
        Compression measured on a sample.
    seconds
        With one worker; reading and compressing alone, measured on the same sample.
    free_bytes
        On the disk of the output; -1 where nobody knows.
    """

    tomograms: int
    raw_bytes: int
    stored_bytes: int
    ratio: float
    seconds: float
    free_bytes: int


def estimate(headers: Sequence[Header], *, out: Path, shape_zyx: tuple[int, int, int], tomograms: int) -> Estimate:
    """Measure the first slab of a few files and project it onto the plate.

    Parameters
    ----------
    headers
        Of the files that can be read.
    out
        Where the plate will be.
    tomograms
        To be converted.
    """
    voxels, stored, seconds = 0, 0, 0.0
    step = max(1, len(headers) // _SAMPLED_FILES)
    for header in headers[::step][:_SAMPLED_FILES] if tomograms else []:
        try:
            here = _measure(header, shape_zyx=shape_zyx)
        except AcquisitionError:
            # conversion will say what is wrong with it
            continue
        voxels, stored, seconds = voxels + here[0], stored + here[1], seconds + here[2]
    raw = 2 * voxels
    ratio = raw / stored if stored else 1.0
    levels = [np.prod(level.shape, dtype=float) for level in volume_levels(shape_zyx)]
    projections = 3 * sum(np.prod(level.shape, dtype=float) for level in projection_levels(shape_zyx))
    one = 2 * (sum(levels) + projections) / ratio
    return Estimate(
        tomograms=tomograms,
        raw_bytes=int(2 * levels[0] * tomograms),
        stored_bytes=int(one * tomograms),
        ratio=ratio,
        seconds=seconds / voxels * levels[0] * tomograms if voxels else 0.0,
        free_bytes=_free(out),
    )


def check_space(headers: Sequence[Header], *, plate: Plate, tomograms: int) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises
    ------
    NoSpaceError
        The message says how much is needed and how much is free.
    """
    needed = estimate(headers, out=plate.path, shape_zyx=plate.shape_zyx, tomograms=tomograms)
    refuse_if_too_large(needed, out=plate.path)


def refuse_if_too_large(needed: Estimate, *, out: Path) -> None:
    """Raise `NoSpaceError` where the disk is smaller than what is needed."""
    if 0 <= needed.free_bytes < _MARGIN * needed.stored_bytes:
        raise NoSpaceError(
            f"{out.parent}: {needed.tomograms} tomograms will take about {gigabytes(needed.stored_bytes)}, but only "
            f"{gigabytes(needed.free_bytes)} are free. Free some space, or give an output on a larger disk."
        )


def _measure(header: Header, *, shape_zyx: tuple[int, int, int]) -> tuple[int, int, float]:
    """Voxels, stored bytes and seconds of one slab of a file."""
    level = volume_levels(shape_zyx)[0]
    started = time.perf_counter()
    with open_source(header.source) as acquisition:
        slab = next(acquisition.slabs(header.frames[0])).counts[: level.chunk[0]]
    sink = BytesIO()
    ShardWriter(sink, shape=(len(slab), *shape_zyx[1:]), chunk=level.chunk).write_slab(0, slab)
    return slab.size, len(sink.getvalue()), time.perf_counter() - started


def _free(out: Path) -> int:
    if is_remote(out):
        return -1
    folder = out.parent
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
