"""A field as a grid of patches: where the windows lie, how they are scaled, which of them hold cells."""

import math
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from plates.counts import COUNTS_PER_INDEX
from plates.errors import StoreError

# The scale and patch at which cell death is classified: 160 px of 0.16 um are 25.6 um, about one cell.
UM_PER_PX = 0.16
PATCH_PX = 160
# A pixel belongs to a cell above medium + 0.0054 (1.3424 in a medium of 1.337).
FOREGROUND_INDEX = 0.0054
FOREGROUND_SHARE = 0.05

Vote = Literal["mean", "majority"]
VOTES: tuple[Vote, ...] = get_args(Vote)


def window_grid(size_px: int, *, patch: int = PATCH_PX, stride: int = PATCH_PX) -> npt.NDArray[np.int64]:
    """Spread windows evenly along one axis of a field.

    The first window starts at 0 and the last ends at the border, so every pixel is covered, save that
    a remainder below a tenth of a patch earns no window of its own: the windows then stand up to a
    tenth of a patch apart.

    Parameters
    ----------
    size_px
        Length of the axis, in pixels of the analysis scale.
    patch
        Side of a window.
    stride
        Largest wanted distance between two windows.

    Returns
    -------
    offsets
        First pixel of each window, ascending.

    Raises
    ------
    StoreError
        If the field is smaller than one patch.
    """
    if stride < 1 or patch < 1:
        raise ValueError(f"patch and stride are whole pixels from 1 up, not {patch} and {stride}")
    if size_px < patch:
        raise StoreError(
            f"A field of {size_px} px ({size_px * UM_PER_PX:.1f} um) is smaller than one patch of {patch} px "
            f"({patch * UM_PER_PX:.1f} um). Expected fields of at least one patch. Stitch the tiles, or "
            "acquire a wider field."
        )
    count = max(1, math.ceil((size_px - 0.1 * patch - patch) / stride) + 1)
    return np.rint(np.linspace(0, size_px - patch, count)).astype(np.int64)


def analysis_shape(shape: tuple[int, int], *, voxel_um: tuple[float, float]) -> tuple[int, int]:
    """Size of a field (y, x) after resampling to 0.16 um per pixel."""
    rows, columns = (max(1, round(size * voxel / UM_PER_PX)) for size, voxel in zip(shape, voxel_um, strict=True))
    return rows, columns


def patch_centres(
    shape: tuple[int, int], *, voxel_um: tuple[float, float], patch: int = PATCH_PX, stride: int = PATCH_PX
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Centres of a field's windows (rows, columns), in um from the field's upper left corner.

    Parameters
    ----------
    shape
        Size of the stored field (y, x), before resampling.
    voxel_um
        Its pixel size (y, x).
    patch, stride
        As in `window_grid`, at the analysis scale.
    """
    resampled = analysis_shape(shape, voxel_um=voxel_um)
    centres = []
    for count, size, voxel in zip(resampled, shape, voxel_um, strict=True):
        # resampling covers the whole field, so a pixel is extent / count, which rounding moves off 0.16
        um_per_px = size * voxel / count
        offsets = window_grid(count, patch=patch, stride=stride).astype(np.float64)
        centres.append((offsets + patch / 2) * um_per_px)
    return centres[0], centres[1]


def foreground_shares(
    counts: npt.NDArray[np.uint16], *, medium_index: float, patch: int = PATCH_PX, stride: int = PATCH_PX
) -> npt.NDArray[np.float32]:
    """Share of each window's pixels whose index exceeds the medium by more than 0.0054.

    Parameters
    ----------
    counts
        Projection (y, x) at the analysis scale, refractive index times 10,000; 0 is missing.
    medium_index
        Refractive index of the field's medium.
    patch, stride
        As in `window_grid`.

    Returns
    -------
    shares
        (row, column) of the window grid; NaN where a window holds no measured pixel. A window counts
        as foreground when its share is above `FOREGROUND_SHARE`.
    """
    rows = window_grid(counts.shape[0], patch=patch, stride=stride)
    columns = window_grid(counts.shape[1], patch=patch, stride=stride)
    # float32 throughout, as a device computes it, so that a pixel on the threshold falls on one side
    relative = (counts.astype(np.float32) - np.float32(medium_index * COUNTS_PER_INDEX)) / COUNTS_PER_INDEX
    cell = relative > np.float32(FOREGROUND_INDEX)
    share = _window_sums(cell, rows, columns, patch) / patch**2
    measured = _window_sums(counts > 0, rows, columns, patch)
    return np.where(measured > 0, share, np.nan).astype(np.float32)


def class_map(
    probability: npt.NDArray[np.float32],
    *,
    shape: tuple[int, int],
    voxel_um: tuple[float, float],
    patch: int = PATCH_PX,
    stride: int = PATCH_PX,
    vote: Vote = "mean",
) -> npt.NDArray[np.uint8]:
    """Paint a field by the state of the windows that cover each pixel.

    Parameters
    ----------
    probability
        (row, column, state) of the window grid; NaN for background, which has no say.
    shape, voxel_um
        Of the stored field (y, x), in um.
    patch, stride
        As in `window_grid`.
    vote
        Where windows overlap: "mean" takes the largest mean of their probabilities; "majority" lets each
        vote for its own state, and the means decide between states with as many votes.

    Returns
    -------
    classes
        (y, x) of the stored field: 0 where no window with cells lies, else 1 + the state's index.
    """
    resampled = analysis_shape(shape, voxel_um=voxel_um)
    # between two window borders nothing changes: vote on that coarse grid, then enlarge
    borders, covers = [], []
    for size, count in zip(shape, resampled, strict=True):
        spans = np.array(_spans(window_grid(count, patch=patch, stride=stride), patch=patch, scale=size / count))
        edges = np.unique([0, size, *spans.ravel()])
        borders.append(edges)
        covers.append(((edges[:-1, None] >= spans[:, 0]) & (edges[:-1, None] < spans[:, 1])).astype(np.float64))
    known = np.isfinite(probability[..., 0])
    weight = np.where(known[..., None], probability, 0).astype(np.float64)
    windows = _over(known[..., None].astype(np.float64), covers)
    total = _over(weight, covers) / np.maximum(windows, 1)
    if vote == "majority":
        choice = (np.eye(weight.shape[-1])[weight.argmax(axis=-1)]) * known[..., None]
        total += _over(choice, covers)  # a mean is at most one vote, and equals one only where all agree
    coarse = np.where(windows[..., 0] > 0, total.argmax(axis=-1) + 1, 0).astype(np.uint8)
    return coarse.repeat(np.diff(borders[0]), axis=0).repeat(np.diff(borders[1]), axis=1)


def _over(values: npt.NDArray[np.float64], covers: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """Sum (row, column, state) of windows over those that cover each part of the coarse grid."""
    rows = np.tensordot(covers[0], values, axes=(1, 0))
    return np.ascontiguousarray(np.tensordot(rows, covers[1], axes=(1, 1)).transpose(0, 2, 1))


def _spans(offsets: npt.NDArray[np.int64], *, patch: int, scale: float) -> list[tuple[int, int]]:
    """First and last pixel of each window on the stored field; windows a few pixels apart meet half-way."""
    starts, ends = offsets * scale, (offsets + patch) * scale
    gaps = np.maximum(starts[1:] - ends[:-1], 0) / 2
    starts[1:] -= gaps
    ends[:-1] += gaps
    return [(round(start), round(end)) for start, end in zip(starts, ends, strict=True)]


def _window_sums(
    mask: npt.NDArray[np.bool_], rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], patch: int
) -> npt.NDArray[np.int64]:
    # a summed-area table: each pixel is read once, however much the windows overlap
    table = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), dtype=np.int64)
    np.cumsum(np.cumsum(mask, axis=0, dtype=np.int64), axis=1, out=table[1:, 1:])
    below, right = rows + patch, columns + patch
    return (
        table[np.ix_(below, right)]
        - table[np.ix_(rows, right)]
        - table[np.ix_(below, columns)]
        + table[np.ix_(rows, columns)]
    )
