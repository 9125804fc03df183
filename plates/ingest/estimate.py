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


def estimate(headers: Sequence[Header], *, plate: Plate, tomograms: int) -> Estimate:
    """Measure the middle of a few files and project it onto the plate.

    Parameters
    ----------
    headers
        Of the files that can be read.
    plate
        As it will be.
    tomograms
        To be converted.
    """
    samples = []
    step = max(1, len(headers) // _SAMPLED_FILES)
    for header in headers[::step][:_SAMPLED_FILES] if tomograms else []:
        try:
            samples.append(_measure(header, shape_zyx=plate.shape_zyx))
        except (AcquisitionError, OSError):
            # conversion will say what is wrong with it
            continue
    voxels, stored = (sum(sample[place] for sample in samples) for place in (0, 1))
    ratio = 2 * voxels / stored if stored else 1.0
    levels = [np.prod(level.shape, dtype=float) for level in volume_levels(plate.shape_zyx)]
    projection = sum(np.prod(level.shape, dtype=float) for level in projection_levels(plate.shape_zyx))
    lit = len(plate.fluorescence) * float(np.mean([bool(header.channels) for header in headers])) if headers else 0.0
    # fluorescence is as hard to compress as its camera's noise: nothing is promised for it
    one = 2 * ((sum(levels) if plate.elsewhere is None else 0.0) + 3 * projection) / ratio + 2 * lit * projection
    return Estimate(
        tomograms=tomograms,
        raw_bytes=int(2 * levels[0] * tomograms),
        stored_bytes=int(one * tomograms),
        ratio=ratio,
        seconds=float(np.mean([sample[2] for sample in samples])) * tomograms if samples else 0.0,
        free_bytes=_free(plate.path),
    )


def refuse_if_too_large(needed: Estimate, *, out: Path) -> None:
    """Raise `NoSpaceError` where the disk is smaller than what is needed."""
    if 0 <= needed.free_bytes < _MARGIN * needed.stored_bytes:
        raise NoSpaceError(
            f"{out.parent}: {needed.tomograms} tomograms will take about {gigabytes(needed.stored_bytes)}, but only "
            f"{gigabytes(needed.free_bytes)} are free. Free some space, or give an output on a larger disk."
        )


def _measure(header: Header, *, shape_zyx: tuple[int, int, int]) -> tuple[int, int, float]:
    """Voxels and stored bytes of a layer in the middle of a frame, and seconds of the whole frame.

    The first and last slices are often not reconstructed, and would promise too much.
    """
    level = volume_levels(shape_zyx)[0]
    depth = level.chunk[0]
    reading, seen = 0.0, 0
    with open_source(header.source) as acquisition:
        slabs = acquisition.slabs(header.frames[0], depth=depth)
        while seen <= shape_zyx[0] // 2:
            started = time.perf_counter()
            slab = next(slabs)
            reading += time.perf_counter() - started
            seen = slab.z + len(slab.counts)
        layer = slab.counts[-depth:] if seen > shape_zyx[0] // 2 + depth else slab.counts[:depth]
    started = time.perf_counter()
    sink = BytesIO()
    ShardWriter(sink, shape=(len(layer), *shape_zyx[1:]), chunk=level.chunk).write_slab(0, layer)
    writing = time.perf_counter() - started
    return layer.size, len(sink.getvalue()), (reading / seen + writing / len(layer)) * shape_zyx[0]


def _free(out: Path) -> int:
    if is_remote(out):
        return -1
    folder = out.parent
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
