"""How the level of the index differs between tiles, and what makes it equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from .images import Image, TileImage, overlap_volumes

Array = npt.NDArray[np.float64]

_BLOCK = 4  # reduced pixels along the side of a block whose level is compared
_WEAK = 1e-3  # weight against a correction that no overlap asks for


@dataclass(frozen=True)
class TileLevels:
    """How the level of the index differs between tiles, and what is subtracted to make it equal.

    Attributes
    ----------
    offsets
        (tile,) level of each tile above the mean of all, index x 10,000.
    bow
        Coefficients of (2y/H - 1)^2 - 1/3 and of the same in x, common to all tiles: a shading whose mean
        over the tile is 0.
    steps
        (pair, 2) median difference of level between the tiles of a pair before and after, index x 10,000.
    """

    offsets: Array
    bow: tuple[float, float]
    steps: Array

    def correction(self, tile: int, *, shape_yx: tuple[int, int]) -> Image:
        """Plane (y, x) to subtract from every slice of a tile, index x 10,000."""
        plane = self.offsets[tile] + sum(c * part for c, part in zip(self.bow, _bow(shape_yx), strict=True))
        return np.asarray(plane, dtype=np.float32)


def tile_levels(images: Sequence[TileImage], pairs: Sequence[tuple[int, int]], *, offsets: Array) -> TileLevels:
    """Level of each tile and the shading common to all, from what neighbours make of the same sample.

    Only differences count, so a difference of the sample itself is never removed, and the mean of all tiles stays.

    Parameters
    ----------
    offsets
        (tile, 3) where the tiles lie, voxels.
    """
    count, shape = len(images), images[0].projection.shape
    rows, values, owners = [], [], []
    for number, (i, j) in enumerate(pairs):
        difference, y, x = _differences(images[i], images[j], offsets[j] - offsets[i])
        design = np.zeros((len(difference), count + 2))
        design[:, j], design[:, i] = 1, -1
        shift = offsets[j, 1:] - offsets[i, 1:]
        for axis, (place, size) in enumerate(zip((y, x), shape, strict=True)):
            design[:, count + axis] = _parabola(place - shift[axis], size) - _parabola(place, size)
        rows.append(design)
        values.append(difference)
        owners.append(np.full(len(difference), number))
    design, level, owner = np.concatenate(rows), np.concatenate(values), np.concatenate(owners)
    # what the overlaps leave open (the mean level; the bow across a single row) is not corrected
    ridge = np.diag([_WEAK] * count + [_WEAK] * 2) * np.sqrt(max(len(level), 1))
    fit = least_squares(
        lambda unknown: np.concatenate([design @ unknown - level, ridge @ unknown]),
        np.zeros(count + 2),
        jac=lambda _: np.concatenate([design, ridge]),
        loss="soft_l1",
    )
    levels = fit.x[:count] - fit.x[:count].mean()
    left = level - design @ fit.x
    steps = [(_median(level[owner == number]), _median(left[owner == number])) for number in range(len(pairs))]
    return TileLevels(offsets=levels, bow=(float(fit.x[count]), float(fit.x[count + 1])), steps=np.array(steps))


def _differences(a: TileImage, b: TileImage, offset: Array) -> tuple[Array, Array, Array]:
    """Level of `b` above `a` in blocks of their overlap, and the blocks' centres (y, x) in pixels of `a`."""
    dz = round(offset[0])
    depth = len(a.volume)
    first, second = overlap_volumes(a, b, offset[1:])
    low, high = max(0, dz), min(depth, depth + dz)
    gap = second[low - dz : high - dz] - first[low:high]
    seen = np.isfinite(gap)
    count = seen.sum(axis=0)
    mean = np.where(count > 0, np.where(seen, gap, 0).sum(axis=0) / np.maximum(count, 1), np.nan)
    corner = np.maximum(np.floor(offset[1:] / a.bin), 0)
    blocks = []
    for y in range(0, mean.shape[0], _BLOCK):
        for x in range(0, mean.shape[1], _BLOCK):
            block = mean[y : y + _BLOCK, x : x + _BLOCK]
            usable = block[np.isfinite(block)]
            if 2 * usable.size >= block.size:
                centre = (corner + np.array([y + block.shape[0] / 2, x + block.shape[1] / 2])) * a.bin
                blocks.append((float(np.median(usable)), *centre))
    table = np.array(blocks).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def _parabola(place: npt.NDArray[np.floating], size: int) -> Array:
    """Bow along one axis at pixel edges `place`, zero in the mean over a tile of `size` pixels."""
    return (2 * place / size - 1) ** 2 - 1 / 3


def _bow(shape_yx: tuple[int, int]) -> tuple[Array, Array]:
    height, width = shape_yx
    return _parabola(np.arange(height) + 0.5, height)[:, None], _parabola(np.arange(width) + 0.5, width)[None, :]


def _median(values: Array) -> float:
    return float(np.median(values)) if values.size else float("nan")
