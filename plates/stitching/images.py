"""What is kept of a tile for registration: its mean projection and a reduced volume."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..ingest.acquisition import Slab

Array = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]

_COARSE_UM = 0.6  # pixel of the reduced volumes: coarser than the optics, finer than a nucleolus


@dataclass(frozen=True)
class TileImage:
    """What is kept of a tile's tomogram for registration; a few per cent of its size.

    Attributes
    ----------
    projection
        (y, x) mean over the slices, index x 10,000; 0 where missing.
    present
        (y, x) whether at least half of the slices are there.
    volume
        (z, y, x) means over squares of `bin` pixels; NaN where missing.
    bin
        Pixels along a side of such a square.
    """

    projection: Image
    present: npt.NDArray[np.bool_]
    volume: Image
    bin: int


def tile_image(
    slabs: Iterable[Slab], *, shape: tuple[int, int, int], voxel_um: tuple[float, float, float]
) -> TileImage:
    """Reduce a tomogram to what registration needs, in one pass over its slabs."""
    step = max(1, round(_COARSE_UM / voxel_um[1]))
    depth, height, width = shape
    total, count = np.zeros((height, width)), np.zeros((height, width), dtype=np.int32)
    volume = np.full((depth, height // step, width // step), np.nan, dtype=np.float32)
    for slab in slabs:
        for z, plane in enumerate(slab.counts, start=slab.z):
            present = plane > 0
            total += plane
            count += present
            sums, seen = _binned(plane.astype(np.float32), step), _binned(present.astype(np.float32), step)
            enough = 2 * seen >= step * step
            volume[z][enough] = sums[enough] / seen[enough]
    present = 2 * count >= depth
    projection = np.where(present, total / np.maximum(count, 1), 0).astype(np.float32)
    return TileImage(projection=projection, present=present & (count > 0), volume=volume, bin=step)


def overlap_volumes(a: TileImage, b: TileImage, sideways: Array) -> tuple[Image, Image]:
    """Overlap as either reduced volume shows it, on the pixels of `a`; NaN where missing."""
    offset = sideways / a.bin
    whole = np.floor(offset).astype(int)
    part = (offset - whole).astype(np.float32)
    height, width = a.volume.shape[1:]
    padded = np.pad(b.volume, ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    # bilinear: b at (y - offset), between its pixels whole and whole + 1 back
    moved = sum(
        wy * wx * padded[:, sy : sy + height + 1, sx : sx + width + 1]
        for sy, wy in ((1, 1 - part[0]), (0, part[0]))
        for sx, wx in ((1, 1 - part[1]), (0, part[1]))
        if wy * wx > 0
    )
    low = np.maximum(whole, 0)
    high = np.maximum(np.minimum(whole + b.volume.shape[1:], a.volume.shape[1:]), low)
    ours = a.volume[:, low[0] : high[0], low[1] : high[1]]
    start, stop = low - whole, high - whole
    return ours, np.asarray(moved)[:, start[0] : stop[0], start[1] : stop[1]]


def _binned(plane: Image, step: int) -> Image:
    """Sum over squares; what does not fill a last square is left out."""
    height, width = plane.shape[0] // step, plane.shape[1] // step
    sums: Image = plane[: height * step, : width * step].reshape(height, step, width, step).sum(axis=(1, 3))
    return sums
