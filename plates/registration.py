"""Fluorescence to tomogram: the placement that tells most about one image from the other (mutual information).

A similarity (rotation, one scale, shift) in the plane is found in two steps: a search over rotation, scale and all
shifts at once, each shift by Fourier transform and scored by the correlation ratio (Roche et al., MICCAI 1998), then
ascent of the mutual information (Mattes et al., IEEE TMI 22, 2003) between classes of the refractive index and the
light of all channels together. Its error is estimated by the sandwich formula (Huber 1967) over blocks of the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from .mutual_information import IndexClasses, Light, Scene
from .placement import Placement

REACH_UM = 8.0
"""How far the shift is searched around the start, along y and along x."""

MAX_TURN_RAD = float(np.deg2rad(5.0))
MAX_LOG_SCALE = float(np.log(1.15))
"""How far the rotation, and the logarithm of the scale, are searched."""

TRUSTED_RESIDUAL_UM = 0.8
"""Estimated error up to which a refinement is believed; on simulated fields true errors were a third of it."""

_COARSE_UM = 2.0  # pixels of the search
_MIN_CELLS = 5  # fewer cannot tell rotation and scale
_CONFIRMED = 9.49  # 95 % of chi-square with four degrees of freedom

_Floats = NDArray[np.floating[Any]]


def register(
    tomogram: np.ndarray,
    fluorescence: Mapping[str, np.ndarray],
    *,
    voxel_um: tuple[float, ...],
    fluorescence_voxel_um: tuple[float, ...],
    start: Placement,
    max_residual_um: float = TRUSTED_RESIDUAL_UM,
) -> Placement:
    """Refine where fluorescence lies on a tomogram; in the plane, the shift along z stays that of the start.

    All channels are used together, for one camera saw them all. A start that the images cannot tell from the
    best placement is kept (``how`` stays "metadata"), and trusted.

    Parameters
    ----------
    tomogram
        uint16 counts (y, x), a maximum projection, or (z, y, x), whose maximum projection is taken; 0 = missing.
    fluorescence
        Channel -> stack (z, y, x) or projection (y, x) in camera units, all on one grid.
    voxel_um, fluorescence_voxel_um
        Voxel sizes; the last two are used.
    start
        Where to begin, usually `metadata_placement`; the best one is looked for within `REACH_UM`,
        `MAX_TURN_RAD` and a factor of 1.15 in scale.
    max_residual_um
        A refinement whose estimated error is larger is refused.

    Returns
    -------
    Placement
        The refined one, or the start, not trusted, with the reason why refinement was refused.
    """
    projection = tomogram.max(axis=0) if tomogram.ndim == 3 else tomogram
    lights = [stack.max(axis=0) if stack.ndim == 3 else stack for stack in fluorescence.values()]
    fixed = IndexClasses.of(projection, pitch=voxel_um[-2:])
    if fixed is None:
        return _refused(start, "there are too few cells in the tomogram")
    moving = [light for light in (Light.of(light, pitch=fluorescence_voxel_um[-2:]) for light in lights) if light]
    if not moving:
        return _refused(start, "there is too little light in the fluorescence")
    scene = Scene(fixed, moving, start)
    before = scene.similarity(np.zeros(4))
    coarse = scene.coarser(2)
    reached = [coarse.climb(guess) for guess in [np.zeros(4), *_search(scene)]]
    best = scene.climb(max(reached, key=scene.similarity))
    return _judged(scene, best, before, max_residual_um=max_residual_um)


def _judged(scene: Scene, best: _Floats, before: float, *, max_residual_um: float) -> Placement:
    """The refined placement, the confirmed start, or the start with the reason of the refusal."""
    start = scene.start
    after = scene.similarity(best)
    cells = scene.count(best)
    if cells < _MIN_CELLS:
        return _refused(start, f"there are too few stained cells ({cells}; at least {_MIN_CELLS} are needed)", before)
    covariance = scene.covariance(best)
    found = scene.placement(best)
    if covariance is None:
        return _refused(start, "no error can be told: no clear maximum of the similarity, or a field too small", before)
    residual = float(np.sqrt(np.trace(covariance)))
    found = replace(found, how="refined", before=before, after=after, residual_um=residual, trusted=True, reason="")
    if np.abs(best[2:]).max() > REACH_UM or abs(found.rotation_rad - start.rotation_rad) > MAX_TURN_RAD:
        return _refused(start, "refinement moved to the limit of its reach", before)
    if abs(np.log(found.scale / start.scale)) > MAX_LOG_SCALE:
        return _refused(start, "refinement changed the scale to the limit of its reach", before)
    if residual > max_residual_um:
        return _refused(start, f"refinement is uncertain by {residual:.2f} um", before, residual)
    if (
        best @ np.linalg.solve(covariance, best) < _CONFIRMED
        and start.how == "metadata"
        and start != Placement(shift_um=(start.shift_um[0], 0.0, 0.0), reason=start.reason)
    ):
        return replace(start, before=before, after=before, residual_um=residual, trusted=True, reason="")
    if after <= before:
        return _refused(start, "refinement is not better than the start", before, residual)
    return found


def _refused(
    start: Placement, reason: str, before: float = float("nan"), residual_um: float = float("nan")
) -> Placement:
    return replace(start, before=before, after=before, residual_um=residual_um, trusted=False, reason=reason)


def _search(scene: Scene, *, keep: int = 2) -> list[_Floats]:
    """Best steps of a search over turn, scale and all shifts within reach, best first and apart from each other."""
    factor = max(1, round(_COARSE_UM / scene.fixed.pitch[0]))
    coarse = scene.coarser(factor)
    fixed = coarse.fixed
    shifts = [int(np.ceil(REACH_UM / step)) for step in fixed.pitch]
    shape = [scipy.fft.next_fast_len(n + k, real=True) for n, k in zip(fixed.classes.shape, shifts, strict=True)]
    kinds = range(int(fixed.classes.max()) + 1)
    members = scipy.fft.rfft2(np.array([fixed.classes == kind for kind in kinds], np.float32), shape).conj()
    found: list[tuple[float, _Floats]] = []
    for turn in np.linspace(-1, 1, 5) * MAX_TURN_RAD:
        for log_scale in np.linspace(-1, 1, 9) * MAX_LOG_SCALE:
            step = np.array([turn * coarse.lever, log_scale * coarse.lever, 0, 0])
            score = sum(
                _correlation_ratio(members, *coarse.moved(light, step), shape=shape, shifts=shifts)
                for light in coarse.moving
            )
            peak = np.unravel_index(np.argmax(score), np.shape(score))
            # the moving image goes the other way than the window over it
            move = np.array([(int(at) - k) * p for at, k, p in zip(peak, shifts, fixed.pitch, strict=True)])
            step[2:] = coarse.placement(step).matrix @ move
            found.append((float(np.max(score)), step))
    found.sort(key=lambda pair: -pair[0])
    return [step for _, step in found[:keep]]


def _correlation_ratio(
    members: NDArray[np.complexfloating[Any]],
    levels: _Floats,
    reached: NDArray[np.bool_],
    *,
    shape: list[int],
    shifts: list[int],
) -> _Floats:
    """How far the classes explain the light, as a gain in log likelihood a pixel, at every shift in the window.

    Parameters
    ----------
    members
        Conjugate Fourier transforms of each class's pixels, (class, ky, kx).
    levels, reached
        Light on the fixed grid, and where there is any.
    shape
        Of the transforms, wide enough that nothing wraps into the window.
    shifts
        Half the window, (y, x) in pixels.
    """
    images = np.array([reached, reached * levels, reached * levels**2], np.float32)
    rows, columns = (np.arange(-k, k + 1) for k in shifts)

    def sums(product: NDArray[np.complexfloating[Any]]) -> _Floats:
        window: _Floats = scipy.fft.irfft2(product, shape)[:, rows[:, None], columns[None, :]]
        return window

    spectra = scipy.fft.rfft2(images, shape)
    counts = np.maximum(sums(members * spectra[0]), 1e-3)
    light = sums(members * spectra[1])
    squares = sums(members.sum(axis=0)[None] * spectra[2:])[0]
    number = counts.sum(axis=0)
    mean = light.sum(axis=0) / number
    spread = np.maximum(squares / number - mean**2, 1e-9)
    between = np.sum(light**2 / counts, axis=0) / number - mean**2
    gain: _Floats = -np.log1p(-np.clip(between / spread, 0, 0.999)) * number / max(number.max(), 1.0)
    gain[number < 0.5 * number.max()] = 0
    return gain
