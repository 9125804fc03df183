"""One tomogram in a few numbers: its maximum projection, the index of its medium, and how good it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .patches import FOREGROUND_INDEX
from .store import SCALE_FACTOR

_SAMPLED_VOXELS = 500_000
_SMOOTHING = 4  # counts; noise and fringes of the background are 2 to 10 counts wide


@dataclass(frozen=True)
class FieldStatistics:
    """A field at one timepoint in numbers.

    Attributes
    ----------
    medium_index
        Refractive index of the medium; NaN where nothing was reconstructed.
    confluency
        Share of the projection's pixels above the medium by `FOREGROUND_INDEX`, of those that are there.
    focus
        Sharpness of the cells' texture (dimensionless); NaN where there are no cells.
    missing_share
        Share of voxels that were not reconstructed.
    nonfinite
        Voxels that held no number.
    """

    medium_index: float
    confluency: float
    focus: float
    missing_share: float
    nonfinite: int


def field_statistics(volume: np.ndarray, *, nonfinite: int = 0) -> FieldStatistics:
    """Statistics of a tomogram of uint16 counts (z, y, x); 0 = missing."""
    projection = maximum_projection(volume)
    medium = medium_index(volume)
    threshold = (medium + FOREGROUND_INDEX) / SCALE_FACTOR
    present = np.count_nonzero(projection)
    foreground = projection > threshold
    missing = 0.0 if volume.min() > 0 else 1 - np.count_nonzero(volume) / volume.size
    return FieldStatistics(
        medium_index=medium,
        confluency=float(np.count_nonzero(foreground) / present) if present else float("nan"),
        focus=_focus(projection, foreground=foreground),
        missing_share=float(missing),
        nonfinite=nonfinite,
    )


def maximum_projection(volume: np.ndarray) -> np.ndarray:
    """Maximum along z of a tomogram (z, y, x), so (y, x); 0 = missing throughout."""
    return np.asarray(volume.max(axis=0))


def medium_index(counts: np.ndarray) -> float:
    """Refractive index of the medium: the most frequent index of a field, finer than one count.

    Most voxels of a tomogram are medium even where cells touch, and cells only add a tail; the mode of a
    smoothed histogram is blind to the tail, unlike mean or median.

    Parameters
    ----------
    counts
        uint16 counts of any shape, best a whole tomogram (z, y, x); 0 = missing. Large ones are sampled on
        an even grid.

    Returns
    -------
    float
        NaN where nothing was reconstructed.
    """
    stride = max(1, int(np.sqrt(counts.size / _SAMPLED_VOXELS)))
    sample = counts[..., ::stride, ::stride]
    sample = sample[sample > 0]
    if sample.size == 0:
        return float("nan")
    lowest = int(sample.min())
    histogram = np.bincount((sample - np.uint16(lowest)).ravel()).astype(float)
    reach = 3 * _SMOOTHING
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / _SMOOTHING) ** 2)
    smooth = np.convolve(np.pad(histogram, reach + 1), kernel, mode="same")
    peak = int(np.argmax(smooth))
    # parabola through the logarithm of the peak and its neighbours: exact for a Gaussian background
    left, centre, right = np.log(smooth[peak - 1 : peak + 2])
    curvature = left - 2 * centre + right
    shift = 0.5 * (left - right) / curvature if curvature < 0 else 0.0
    return float((lowest + peak - (reach + 1) + shift) * SCALE_FACTOR)


def _focus(projection: np.ndarray, *, foreground: np.ndarray) -> float:
    """Energy of the Laplacian over energy of the gradient, in the cells.

    The energy of the Laplacian is among the best focus measures (Pertuz, Puig and Garcia, Pattern
    Recognition 46, 2013); divided by that of the gradient it does not grow with the number of cells.
    """
    image = projection.astype(np.float32)
    centre = image[1:-1, 1:-1]
    neighbours = (image[:-2, 1:-1], image[2:, 1:-1], image[1:-1, :-2], image[1:-1, 2:])
    usable = foreground[1:-1, 1:-1].copy()
    for neighbour in neighbours:
        usable &= neighbour > 0
    up, down, left, right = neighbours
    laplacian = (up + down + left + right - 4 * centre)[usable]
    gradient = ((down - up) ** 2 + (right - left) ** 2)[usable]
    energy = float(gradient.sum(dtype=float))
    return float((laplacian**2).sum(dtype=float) / energy) if energy > 0 else float("nan")
