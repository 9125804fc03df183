"""Where tiles of a wide field really lie: pairs of neighbours matched, then reconciled over all tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from ..errors import AcquisitionError
from .images import TileImage
from .layout import CONVENTIONS, TileLayout, tile_layout
from .matching import Masked, axial_offset, match

Array = npt.NDArray[np.float64]

_HIGH_PASS_UM = 2.0  # slower changes are the medium's and the illumination's, not the sample's
_CLEAR_LEAD = 0.2  # of the correlation of a stage convention over every other
_WIDE = 20  # reduced pixels across an overlap that are enough to tell conventions apart
_WEAK = 1e-3  # weight of a stage offset beside a measured one


@dataclass(frozen=True)
class PairOffset:
    """Offset of the second tile of a pair relative to the first, in voxels (z, y, x).

    Attributes
    ----------
    metadata, measured
        From the stage; from the overlap (equal to `metadata` where `registered` is false).
    registered
        False where the overlap has too little texture: the stage is believed.
    correlation
        Of the overlap at the best offset, -1 to 1; NaN if nothing was measured.
    residual_um
        Distance between `measured` and where the solution for all tiles puts the pair.
    """

    first: int
    second: int
    metadata: tuple[float, float, float]
    measured: tuple[float, float, float]
    registered: bool
    correlation: float
    residual_um: float = float("nan")


def refine_offsets(
    images: Sequence[TileImage],
    layout: TileLayout,
    *,
    voxel_um: tuple[float, float, float],
    max_error_um: float = 10.0,
    min_correlation: float = 0.5,
) -> tuple[Array, tuple[PairOffset, ...]]:
    """Measure the offset of every pair of neighbours and place all tiles so that they agree best.

    Sideways, the mean projections of the overlap are matched; along z, reduced volumes are. Offsets of all pairs are
    reconciled by least squares with a loss that forgives outliers.

    Parameters
    ----------
    max_error_um
        How far the stage may err between neighbours; a match further away is none. About two thirds of the
        overlap is the most that can be found, however large this is.
    min_correlation
        Pairs that correlate less fall back to the stage.

    Returns
    -------
    offsets
        (tile, 3) voxels (z, y, x) relative to the first tile.
    pairs
        What was measured, in the order of the layout's pairs.
    """
    planes = [(image.projection, image.present) for image in images]
    reach, sigma = int(np.ceil(max_error_um / voxel_um[1])), _HIGH_PASS_UM / voxel_um[1]
    pairs = []
    for i, j in layout.pairs:
        stage = layout.offsets[j] - layout.offsets[i]
        prior = np.rint(stage[1:]).astype(int)
        sideways, correlation = match(planes[i], planes[j], prior=prior, reach=reach, sigma=sigma)
        measured, registered = stage.copy(), bool(correlation >= min_correlation)
        if registered:
            measured[1:] = sideways
            axial = axial_offset(images[i], images[j], sideways, min_correlation=min_correlation)
            measured[0] = stage[0] if axial is None else axial
        pairs.append(PairOffset(i, j, _triple(stage), _triple(measured), registered, correlation))
    offsets = reconcile(layout.offsets, pairs)
    step = np.array(voxel_um)
    residuals = [np.linalg.norm((offsets[p.second] - offsets[p.first] - p.measured) * step) for p in pairs]
    return offsets, tuple(replace(p, residual_um=float(r)) for p, r in zip(pairs, residuals, strict=True))


def decide_layout(
    images: Sequence[TileImage],
    positions_mm: Sequence[tuple[float, ...]],
    *,
    voxel_um: tuple[float, float, float],
    names: Sequence[str],
    max_error_um: float = 10.0,
    min_correlation: float = 0.5,
) -> TileLayout:
    """Lay tiles out by the stage convention under which their overlaps agree.

    Conventions that place all tiles alike within `max_error_um` (a single row does not tell which way the other
    axis runs) count as one.

    Raises
    ------
    AcquisitionError
        No convention makes the overlaps correlate, or two do.
    """
    shape = (images[0].volume.shape[0], *images[0].projection.shape)
    layouts: list[TileLayout] = []
    problem: AcquisitionError | None = None
    for convention in CONVENTIONS:
        try:
            layout = tile_layout(positions_mm, shape=shape, voxel_um=voxel_um, convention=convention, names=names)
        except AcquisitionError as error:
            problem = problem or error
            continue
        moved = [np.abs(layout.offsets - other.offsets)[:, 1:].max() * voxel_um[1] for other in layouts]
        if all(distance > max_error_um for distance in moved):
            layouts.append(layout)
    if not layouts and problem is not None:
        raise problem
    scores = [_agreement(images, layout, voxel_um=voxel_um, max_error_um=max_error_um) for layout in layouts]
    best = int(np.argmax(scores))
    rival = max((score for number, score in enumerate(scores) if number != best), default=-1.0)
    if scores[best] < min_correlation or scores[best] - rival < _CLEAR_LEAD:
        raise AcquisitionError(
            f"{names[0]} and {len(names) - 1} more tiles: which way the stage axes run cannot be told from the "
            f"overlaps (best correlation {scores[best]:.2f} with {layouts[best].convention}, next {rival:.2f}; "
            f"expected at least {min_correlation:g} and a lead of {_CLEAR_LEAD:g}). Give this microscope's convention."
        )
    return layouts[best]


def _agreement(
    images: Sequence[TileImage], layout: TileLayout, *, voxel_um: tuple[float, float, float], max_error_um: float
) -> float:
    """Median correlation of a few overlaps, on the reduced projections where these are wide enough."""
    along_y = [pair for pair in layout.pairs if _runs_along_y(layout, pair)]
    along_x = [pair for pair in layout.pairs if not _runs_along_y(layout, pair)]
    chosen = along_y[:2] + along_x[:2]
    size = np.array(images[0].projection.shape)
    shared = min((size - np.abs(layout.offsets[j] - layout.offsets[i])[1:]).min() for i, j in chosen)
    step = images[0].bin if shared >= _WIDE * images[0].bin else 1
    small = {tile: _projection(images[tile], reduced=step > 1) for tile in {tile for pair in chosen for tile in pair}}
    reach, sigma = int(np.ceil(max_error_um / (step * voxel_um[1]))), _HIGH_PASS_UM / (step * voxel_um[1])
    found = []
    for i, j in chosen:
        prior = np.rint((layout.offsets[j] - layout.offsets[i])[1:] / step).astype(int)
        found.append(match(small[i], small[j], prior=prior, reach=reach, sigma=sigma)[1])
    return float(np.median(found))


def _projection(image: TileImage, *, reduced: bool) -> Masked:
    if not reduced:
        return image.projection, image.present
    present = np.asarray(np.isfinite(image.volume).any(axis=0))
    projection = np.zeros(present.shape, dtype=np.float32)
    projection[present] = np.nanmean(image.volume[:, present], axis=0)
    return projection, present


def _runs_along_y(layout: TileLayout, pair: tuple[int, int]) -> bool:
    apart = np.abs(layout.offsets[pair[1]] - layout.offsets[pair[0]])
    return bool(apart[1] > apart[2])


def reconcile(stage: Array, pairs: Sequence[PairOffset]) -> Array:
    """Place all tiles so that they agree best with the offsets of pairs.

    Pairs that were not registered count only where nothing else holds a tile.

    Parameters
    ----------
    stage
        (tile, 3) where the stage puts them: the start.

    Returns
    -------
    numpy.ndarray
        (tile, 3) offsets relative to the first tile, voxels.
    """
    count = len(stage)
    design = np.zeros((len(pairs), count))
    for row, pair in enumerate(pairs):
        design[row, pair.second], design[row, pair.first] = 1, -1
    weight = np.array([pair.correlation if pair.registered else _WEAK for pair in pairs])
    measured = np.array([pair.measured for pair in pairs])
    places = np.zeros((count, 3))
    matrix = design[:, 1:] * weight[:, None]
    for axis in range(3):
        target = measured[:, axis] * weight
        place = stage[1:, axis] - stage[0, axis]
        # the first loss cannot be misled on the way, the second leaves an outlier no pull at the end
        for loss in ("soft_l1", "cauchy"):
            place = least_squares(
                lambda unknown, target=target: matrix @ unknown - target,
                place,
                jac=lambda _: matrix.copy(),  # scipy before 1.16 scales in place what it is given
                loss=loss,
                f_scale=0.5,
                x_scale=1.0,
                xtol=1e-12,
                ftol=1e-12,
                gtol=1e-12,
            ).x
        places[1:, axis] = place
    return places


def _triple(values: Array) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
