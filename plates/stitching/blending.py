"""One plane of a wide field out of the planes of its tiles, without a visible seam."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Plane = npt.NDArray[np.float32]

_LEAST_WEIGHT = 1e-3  # of a voxel whose column is mostly missing: used only where no other tile has one
_LOBES = 4
_WHOLE = 0.1  # a place this close to a whole pixel is taken as one, and nothing is resampled


def feather(present: npt.NDArray[np.bool_]) -> Plane:
    """Weight of each pixel of a tile: its distance to the nearest missing pixel or edge of the tile.

    Towards an edge the weight falls to 0, so a tile fades out before it ends. Two tiles side by side mix linearly
    over their overlap.

    Parameters
    ----------
    present
        (y, x) whether the tile has data there.
    """
    distance = ndimage.distance_transform_edt(np.pad(present, 1))[1:-1, 1:-1]
    return np.asarray(np.maximum(distance, _LEAST_WEIGHT), dtype=np.float32)


def snap(offsets_yx: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Offsets with those within a tenth of a pixel of a whole number made whole, each axis for itself."""
    whole = np.rint(offsets_yx)
    return np.where(np.abs(offsets_yx - whole) < _WHOLE, whole, offsets_yx)


def blend(
    planes: Sequence[np.ndarray | None],
    *,
    offsets_yx: npt.NDArray[np.float64],
    weights: Sequence[Plane],
    corrections: Sequence[Plane],
    shape_yx: tuple[int, int],
) -> np.ndarray:
    """Mean of the tiles, weighted by their feathers; missing voxels have no weight.

    Parameters
    ----------
    planes
        (y, x) uint16 of each tile at one height, 0 = missing; None where a tile does not reach this height.
    offsets_yx
        (tile, 2) place of each tile's first pixel. A fraction of a pixel is made up for by Lanczos interpolation
        over eight pixels; a voxel beside a missing one is then missing too.
    weights, corrections
        (y, x) of each tile: weight, and what is subtracted from its counts.
    shape_yx
        Of the wide field; what lies outside is left out.

    Returns
    -------
    numpy.ndarray
        (y, x) uint16 counts, 0 where no tile has data.
    """
    total, weight = np.zeros(shape_yx, dtype=np.float32), np.zeros(shape_yx, dtype=np.float32)
    for plane, offset, feathered, correction in zip(planes, offsets_yx, weights, corrections, strict=True):
        if plane is None:
            continue
        present = plane > 0
        whole = np.rint(offset).astype(int)
        values = plane - correction
        if (offset != whole).any():
            values, present = _resample(values, present, offset - whole)
        low, high = np.maximum(whole, 0), np.minimum(whole + plane.shape, shape_yx)
        if (high <= low).any():
            continue
        target = tuple(slice(s, e) for s, e in zip(low, high, strict=True))
        source = tuple(slice(s - o, e - o) for s, e, o in zip(low, high, whole, strict=True))
        share = np.where(present[source], feathered[source], np.float32(0))
        total[target] += values[source] * share
        weight[target] += share
    covered = weight > 0
    mean = np.rint(np.divide(total, weight, out=total, where=covered))
    counts: np.ndarray = np.where(covered, np.clip(mean, 1, np.iinfo(np.uint16).max), 0).astype(np.uint16)
    return counts


def _resample(
    values: Plane, present: npt.NDArray[np.bool_], fraction: npt.NDArray[np.float64]
) -> tuple[Plane, npt.NDArray[np.bool_]]:
    """Move a plane by less than a pixel."""
    if present.all():
        filled = values
    else:
        # an even filling rings least; what is made of it is missing again or lies under a small weight
        level = np.float32(np.median(values[present])) if present.any() else np.float32(0)
        filled = np.where(present, values, level)
    gone = (~present).astype(np.float32)
    for axis, part in enumerate(fraction):
        if part == 0:
            continue
        filled = ndimage.correlate1d(filled, _lanczos(part), axis=axis, mode="nearest")
        step = int(np.sign(part))
        gone = np.maximum(gone, ndimage.shift(gone, [step * (axis == 0), step * (axis == 1)], order=0, cval=1.0))
    return filled, gone == 0


def _lanczos(fraction: float) -> Plane:
    """Kernel that moves a signal by `fraction` of a pixel; keeps the level exactly."""
    taps = np.arange(-_LOBES, _LOBES + 1) + fraction
    kernel = np.where(np.abs(taps) < _LOBES, np.sinc(taps) * np.sinc(taps / _LOBES), 0)
    return np.asarray(kernel / kernel.sum(), dtype=np.float32)
