"""One tomogram in a few pictures and numbers: projections, dry mass, the index of the medium, and how good it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .counts import SCALE_FACTOR
from .patches import FOREGROUND_INDEX
from .tomogram import Passed, pass_through, sampling_stride

# Refractive index increment of a cell's proteins, um3/pg (= ml/g); Barer, Nature 169 (1952), Zhao, Brown and
# Schuck, Biophys J 100 (2011): 0.185 to 0.19 for nearly all proteins.
SPECIFIC_INCREMENT = 0.19

_SMOOTHING = 4  # counts; noise and fringes of the background are 2 to 10 counts wide
_PERCENTILES = (1, 50, 99, 99.9)


@dataclass(frozen=True)
class FieldStatistics:
    """A field at one timepoint in numbers; NaN where nothing was reconstructed.

    Attributes
    ----------
    medium_index
        Refractive index of the medium.
    mean_index
        Mean refractive index of the voxels that are there.
    percentile_1, percentile_50, percentile_99, percentile_99_9
        Of the refractive index, on an even grid of voxels.
    confluency
        Share of the projection's pixels above the medium by `FOREGROUND_INDEX`, of those that are there.
    dry_mass
        Of all cells of the field, pg: index above the medium over those pixels, by `SPECIFIC_INCREMENT`.
    focus
        Sharpness of the cells' texture (dimensionless); NaN where there are no cells.
    missing_share
        Share of voxels that were not reconstructed.
    nonfinite
        Voxels that held no number.
    """

    medium_index: float
    mean_index: float
    percentile_1: float
    percentile_50: float
    percentile_99: float
    percentile_99_9: float
    confluency: float
    dry_mass: float
    focus: float
    missing_share: float
    nonfinite: int


@dataclass(frozen=True)
class Projections:
    """Pictures of a tomogram from above (y, x), uint16; 0 = missing.

    Attributes
    ----------
    maximum, mean
        Largest and mean refractive index along z, x 10,000.
    dry_mass
        Dry mass over a pixel, 0.0001 pg/um2; what lies below 0.0001 is 0.0001.
    """

    maximum: np.ndarray
    mean: np.ndarray
    dry_mass: np.ndarray


def field_statistics(
    volume: np.ndarray, *, voxel_um: tuple[float, float, float], nonfinite: int = 0
) -> FieldStatistics:
    """Statistics of a whole tomogram of uint16 counts (z, y, x); 0 = missing."""
    return summarise(_passed([volume], shape_zyx=volume.shape), voxel_um=voxel_um, nonfinite=nonfinite)[1]


def summarise(
    passed: Passed, *, voxel_um: tuple[float, float, float], nonfinite: int = 0
) -> tuple[Projections, FieldStatistics]:
    """Projections and statistics of a tomogram that passed.

    Dry mass follows from the index by Barer's relation: a picogram in a cubic micrometre raises it by
    `SPECIFIC_INCREMENT`. Its sum over a column of voxels needs no threshold, so that thin parts of a cell count.
    """
    medium = _mode(passed.histogram)
    # single precision holds a sum of counts exactly, and is twice as fast
    total, present = passed.total.astype(np.float32), passed.present.astype(np.float32)
    mean = np.rint(total / np.maximum(present, 1)).astype(np.uint16)
    # NaN becomes no mass where there is no medium, which is where nothing is there
    present *= np.float32(medium / SCALE_FACTOR if np.isfinite(medium) else 0.0)
    total -= present  # of counts above the medium
    counts_um = voxel_um[0] / SPECIFIC_INCREMENT  # counts above the medium -> 0.0001 pg/um2
    density = total * np.float32(counts_um)
    stored = np.clip(np.rint(density), 1, np.iinfo(np.uint16).max).astype(np.uint16)
    if passed.missing:
        stored[passed.present == 0] = 0
    projections = Projections(maximum=passed.maximum, mean=mean, dry_mass=stored)
    foreground = passed.maximum > (medium + FOREGROUND_INDEX) / SCALE_FACTOR
    voxels = int(np.prod(passed.shape_zyx))
    seen = voxels - passed.missing
    low, median, high, highest = _percentiles(passed.histogram)
    statistics = FieldStatistics(
        medium_index=medium,
        mean_index=float(passed.total.sum(dtype=np.uint64) * SCALE_FACTOR / seen) if seen else float("nan"),
        percentile_1=low,
        percentile_50=median,
        percentile_99=high,
        percentile_99_9=highest,
        confluency=float(np.count_nonzero(foreground) / np.count_nonzero(passed.present)) if seen else float("nan"),
        dry_mass=_sum(density, where=foreground) * SCALE_FACTOR * voxel_um[1] * voxel_um[2] if seen else float("nan"),
        focus=_focus(passed.maximum, foreground=foreground),
        missing_share=passed.missing / voxels,
        nonfinite=nonfinite,
    )
    return projections, statistics


def medium_index(counts: np.ndarray) -> float:
    """Refractive index of the medium: the most frequent index of a field, finer than one count.

    Most voxels of a tomogram are medium even where cells touch, and cells only add a tail; the mode of a
    smoothed histogram is blind to the tail, unlike mean or median.

    Parameters
    ----------
    counts
        uint16 counts (z, y, x) or (y, x); 0 = missing. Large ones are sampled on an even grid.

    Returns
    -------
    float
        NaN where nothing was reconstructed.
    """
    stride = sampling_stride(counts.shape)
    sample = counts[..., ::stride, ::stride]
    return _mode(np.bincount(sample[sample > 0], minlength=1))


def _passed(slabs: Iterable[np.ndarray], *, shape_zyx: tuple[int, ...]) -> Passed:
    depth, height, width = shape_zyx
    return pass_through(slabs, shape_zyx=(depth, height, width), chunk=(depth, height, width))


def _mode(histogram: np.ndarray) -> float:
    """Most frequent index of a histogram of counts; NaN where it is empty."""
    filled = np.flatnonzero(histogram)
    if filled.size == 0:
        return float("nan")
    lowest = int(filled[0])
    reach = 3 * _SMOOTHING
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / _SMOOTHING) ** 2)
    smooth = np.convolve(np.pad(histogram[lowest : filled[-1] + 1].astype(float), reach + 1), kernel, mode="same")
    peak = int(np.argmax(smooth))
    # parabola through the logarithm of the peak and its neighbours: exact for a Gaussian background
    left, centre, right = np.log(smooth[peak - 1 : peak + 2])
    curvature = left - 2 * centre + right
    shift = 0.5 * (left - right) / curvature if curvature < 0 else 0.0
    return float((lowest + peak - (reach + 1) + shift) * SCALE_FACTOR)


def _percentiles(histogram: np.ndarray) -> list[float]:
    cumulated = np.cumsum(histogram)
    if cumulated[-1] == 0:
        return [float("nan")] * len(_PERCENTILES)
    ranks = np.asarray(_PERCENTILES) / 100 * (cumulated[-1] - 1)
    return [float(count * SCALE_FACTOR) for count in np.searchsorted(cumulated, ranks, side="right")]


def _sum(image: np.ndarray, *, where: np.ndarray) -> float:
    return float(np.sum(image, where=where, dtype=float))


def _focus(projection: np.ndarray, *, foreground: np.ndarray) -> float:
    """Energy of the Laplacian over energy of the gradient, in the cells.

    The energy of the Laplacian is among the best focus measures (Pertuz, Puig and Garcia, Pattern
    Recognition 46, 2013); divided by that of the gradient it does not grow with the number of cells.
    """
    image = projection.astype(np.float32)
    centre = image[1:-1, 1:-1]
    up, down, left, right = image[:-2, 1:-1], image[2:, 1:-1], image[1:-1, :-2], image[1:-1, 2:]
    usable = foreground[1:-1, 1:-1]
    if projection.min() == 0:
        usable = usable & (up > 0) & (down > 0) & (left > 0) & (right > 0)
    laplacian = up + down
    laplacian += left
    laplacian += right
    laplacian -= 4 * centre
    gradient = (down - up) ** 2 + (right - left) ** 2
    energy = _sum(gradient, where=usable)
    return _sum(laplacian**2, where=usable) / energy if energy > 0 else float("nan")
