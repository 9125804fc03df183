"""Tomogram to tomogram: shift in three dimensions and turn in the plane, to a small part of a voxel.

The shift is first found by cross-correlation at several turns, then all four numbers are
refined by Gauss-Newton steps on the intensities (Lucas and Kanade 1981) with cubic splines between the voxels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from .errors import AcquisitionError
from .placement import Placement, grid_map

_MAX_TURN_RAD = float(np.deg2rad(4.0))
_MAX_VOXELS = 4_000_000
_STEPS = 30
_CONVERGED_VOXELS = 1e-3
_MIN_CORRELATION = 0.3  # of the intensities, once registered
_MIN_OVERLAP = 100  # voxels
_BLOCKS = 4  # along y and along x

_Floats = NDArray[np.floating[Any]]


def register_index(fixed: np.ndarray, moving: np.ndarray, *, voxel_um: tuple[float, ...]) -> Placement:
    """Find how one tomogram lies on another of the same grid, such as the next timepoint or a repeated field.

    Parameters
    ----------
    fixed, moving
        uint16 counts (z, y, x) or projections (y, x) of one shape; 0 = missing.
    voxel_um
        Voxel size, one an axis.

    Returns
    -------
    Placement
        Shift along all axes and turn in the plane, scale 1; `before` and `after` are correlations of the
        intensities. Where nothing can be told: no move, not trusted, with the reason.

    Raises
    ------
    AcquisitionError
        The two have different shapes.
    """
    if fixed.shape != moving.shape or fixed.ndim not in (2, 3):
        raise AcquisitionError(
            f"tomograms of the shapes {fixed.shape} and {moving.shape} cannot be registered; expected two of one "
            "shape. Cut them to the same grid first."
        )
    pitch = tuple(float(step) for step in voxel_um[-fixed.ndim :])
    factor = max(1, int(np.ceil(np.sqrt(fixed.size / _MAX_VOXELS))))
    flat = fixed.ndim == 2
    first, second = (_binned(image[None] if flat else image, factor) for image in (fixed, moving))
    # binning keeps the middle of what it keeps of both, so the shift stays the same
    steps = (pitch[0] if not flat else 1.0, pitch[-2] * factor, pitch[-1] * factor)
    pair = _Pair(first, second, steps)
    if pair.empty:
        return Placement(reason="there is no structure in one of the tomograms")
    start = pair.correlation(Placement())
    found, covariance = pair.refine(pair.search())
    after, residual = pair.correlation(found), float(np.sqrt(np.trace(covariance)))
    if not after > max(start - 1e-6, _MIN_CORRELATION):
        return Placement(before=start, after=start, reason=f"the tomograms do not agree (correlation {after:.2f})")
    return replace(found, how="refined", before=start, after=after, residual_um=residual, trusted=True)


class _Pair:
    """Both tomograms (z, y, x) above the medium, and the fit between them."""

    def __init__(self, fixed: _Floats, moving: _Floats, pitch: tuple[float, float, float]) -> None:
        from scipy.ndimage import gaussian_filter, spline_filter1d

        self.pitch, self.shape = np.array(pitch), fixed.shape
        self.seen, self.seen_moving = np.isfinite(fixed), np.isfinite(moving)
        # less noise: interpolation between voxels damps it, and that alone would draw towards half voxels
        sigma = [0.8 if size > 1 else 0.0 for size in self.shape]
        self.fixed, self.moving = (gaussian_filter(np.nan_to_num(image), sigma) for image in (fixed, moving))
        self.empty = min(float(np.std(self.fixed)), float(np.std(self.moving))) < 1e-6
        self.spline = self.moving
        for axis in range(3):
            if self.shape[axis] > 1:
                self.spline = spline_filter1d(self.spline, axis=axis, output=np.float32, mode="mirror")
        half = [(size - 1) / 2 for size in self.shape]
        self.y = ((np.arange(self.shape[1]) - half[1]) * pitch[1])[None, :, None]
        self.x = ((np.arange(self.shape[2]) - half[2]) * pitch[2])[None, None, :]
        self.lever = float(np.sqrt(np.mean(self.y**2) + np.mean(self.x**2)))

    def search(self) -> Placement:
        """Best of some turns, each with its best shift in whole voxels, by cross-correlation."""
        flat = self.fixed.mean(axis=0)
        plane = _Spectrum(flat)
        tries = []
        for turn in np.linspace(-1, 1, 9) * _MAX_TURN_RAD:
            placement = Placement(rotation_rad=float(turn))
            turned = self._moved(self.moving.mean(axis=0, keepdims=True), placement, order=1)[0]
            peak, shift = plane.peak(turned)
            tries.append((peak, turn, shift))
        _, turn, shift = max(tries)
        turned = self._moved(self.moving, Placement(rotation_rad=float(turn)), order=1)
        _, voxels = _Spectrum(self.fixed).peak(turned)
        move = np.array(voxels) * self.pitch
        # the shift found is one on the fixed grid, after the turn was undone
        move[1:] = Placement(rotation_rad=float(turn)).matrix @ move[1:]
        return Placement(rotation_rad=float(turn), shift_um=(float(move[0]), float(move[1]), float(move[2])))

    def refine(self, start: Placement) -> tuple[Placement, _Floats]:
        """Gauss-Newton on the intensities; the placement and the covariance of its step (um), by blocks."""
        placement = start
        for _ in range(_STEPS):
            hessian, pulls = self._normal(placement)
            step = np.linalg.pinv(hessian, rcond=1e-6) @ pulls.sum(axis=1)
            z, y, x = np.add(placement.shift_um, step[:3])
            turn = float(placement.rotation_rad + step[3] / self.lever)
            placement = Placement(rotation_rad=turn, shift_um=(float(z), float(y), float(x)))
            if np.abs(step[:3] / self.pitch).max() < _CONVERGED_VOXELS:
                break
        hessian, pulls = self._normal(placement)
        moves = np.linalg.pinv(hessian, rcond=1e-6) @ pulls
        return placement, moves @ moves.T

    def correlation(self, placement: Placement) -> float:
        """Pearson's correlation of the intensities where both are there."""
        moved, seen = self._overlap(placement, order=1)
        if np.count_nonzero(seen) < _MIN_OVERLAP:
            return 0.0
        return float(np.corrcoef(self.fixed[seen], moved[seen])[0, 1])

    def _overlap(self, placement: Placement, *, order: int) -> tuple[_Floats, NDArray[np.bool_]]:
        source = self.spline if order > 1 else self.moving
        moved = self._moved(source, placement, order=order)
        there = self._moved(self.seen_moving.astype(np.float32), placement, order=1, outside=0.0) > 0.999
        return moved, there & self.seen

    def _moved(self, source: _Floats, placement: Placement, *, order: int, outside: float | None = None) -> _Floats:
        from scipy.ndimage import affine_transform

        shape, pitch = source.shape, tuple(self.pitch)
        matrix, offset = grid_map(placement, shape=shape, voxel_um=pitch, onto_shape=shape, onto_voxel_um=pitch)
        if shape[0] == 1:
            offset[0] = 0.0
        ways: dict[str, Any] = {"mode": "mirror"} if outside is None else {"mode": "constant", "cval": outside}
        moved: _Floats = affine_transform(source, matrix, offset, order=order, prefilter=False, **ways)
        return moved

    def _normal(self, placement: Placement) -> tuple[_Floats, _Floats]:
        """Normal matrix of the linearised fit, and each block's right-hand side, (4, block)."""
        moved, seen = self._overlap(placement, order=3)
        if np.count_nonzero(seen) < _MIN_OVERLAP:
            return np.zeros((4, 4)), np.zeros((4, _BLOCKS**2))
        slopes = [
            np.gradient(moved, step, axis=axis) if size > 1 else np.zeros_like(moved)
            for axis, (step, size) in enumerate(zip(self.pitch, self.shape, strict=True))
        ]
        # slopes are along the fixed axes: turned, they are those along the moving ones
        cos, sin = np.cos(placement.rotation_rad), np.sin(placement.rotation_rad)
        turn = (-self.x * slopes[1] + self.y * slopes[2]) / self.lever
        columns = [slopes[0], cos * slopes[1] - sin * slopes[2], sin * slopes[1] + cos * slopes[2], turn]
        design = np.array([column[seen] for column in columns])
        # brightness and offset may differ between the two
        there, here = moved[seen] - moved[seen].mean(), self.fixed[seen] - self.fixed[seen].mean()
        gain = float(there @ here) / max(float(there @ there), 1e-12)
        left, rest = gain * design, here - gain * there
        rows, places = (np.arange(size) * _BLOCKS // size for size in self.shape[1:])
        block = np.broadcast_to(rows[None, :, None] * _BLOCKS + places[None, None, :], self.shape)[seen]
        pulls = np.array([np.bincount(block, part * rest, minlength=_BLOCKS**2) for part in left])
        return (left @ left.T).astype(float), pulls


class _Spectrum:
    """A picture of any number of axes to find others on, by cross-correlation without wrapping."""

    def __init__(self, fixed: _Floats) -> None:
        self.shape = fixed.shape
        self.padded = [scipy.fft.next_fast_len(size + size // 2, real=True) for size in fixed.shape]
        self.conjugate = self._transform(fixed).conj()

    def peak(self, moving: _Floats) -> tuple[float, list[int]]:
        """Height of the highest peak, and by how many voxels `moving` lies further along each axis."""
        scores = scipy.fft.irfftn(self._transform(moving) * self.conjugate, self.padded)
        place = np.unravel_index(int(np.argmax(scores)), scores.shape)
        shift = [int(at) - (size if at > size // 2 else 0) for at, size in zip(place, scores.shape, strict=True)]
        return float(scores.max()), shift

    def _transform(self, image: _Floats) -> NDArray[np.complexfloating[Any]]:
        spectrum: NDArray[np.complexfloating[Any]] = scipy.fft.rfftn(image - image.mean(), self.padded)
        return spectrum


def _binned(image: np.ndarray, factor: int) -> _Floats:
    """Counts above the medium, NaN where missing, as means over `factor` x `factor` pixels in the plane."""
    depth, height, width = image.shape
    height, width = height // factor, width // factor
    present = image > 0
    medium = float(np.median(image[present])) if present.any() else 0.0
    index = np.where(present, image.astype(np.float32) - np.float32(medium), np.float32(np.nan))
    cut = index[:, : height * factor, : width * factor]
    means: _Floats = cut.reshape(depth, height, factor, width, factor).mean(axis=(2, 4))
    return means
