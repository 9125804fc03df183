"""Mutual information between classes of the refractive index and the light of all channels, and its derivatives.

After Mattes et al., IEEE TMI 22 (2003), with linear splines along the levels of light. The error of a maximum is
estimated by the sandwich formula (Huber 1967) over blocks of the field.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .counts import COUNTS_PER_INDEX
from .patches import FOREGROUND_INDEX
from .placement import Placement

_FINE_UM = 0.5  # pixels of the refinement
_CLASSES = 12  # of the refractive index in cells, and one for the medium
_LEVELS = 12  # of light
_BLOCK_UM = 20.0  # about a cell: what lies in one block errs together
_MIN_BLOCKS = 8
_BLOB_UM = 1.5  # by which light is smoothed to tell cells apart
_MIN_LIT_UM2 = 60.0  # a nucleus or two
_STEEPNESS = 20.0  # brings the curvature of the similarity near 1 per um^2, as the optimiser expects

_Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class IndexClasses:
    """Classes of the refractive index on the fixed grid: -1 missing, 0 medium, 1 and up cells, dark to bright."""

    index: _Floats  # counts above the medium, NaN where missing
    pitch: tuple[float, float]
    origin: tuple[float, float]  # of the first pixel, um from the field's centre
    classes: NDArray[np.intp]

    @classmethod
    def of(cls, projection: np.ndarray, *, pitch: tuple[float, ...]) -> IndexClasses | None:
        """From a projection of counts (y, x), 0 = missing; None where there are too few cells."""
        present = projection > 0
        if not present.any():
            return None
        histogram = np.bincount(projection[present])
        medium = int(np.argmax(np.convolve(histogram, np.ones(9), mode="same")))
        index = np.where(present, projection.astype(np.float32) - medium, np.nan)
        small, steps, origin = binned_means(index, pitch)
        return cls.classified(small, steps, origin)

    @classmethod
    def classified(cls, index: _Floats, pitch: tuple[float, float], origin: tuple[float, float]) -> IndexClasses | None:
        """From counts above the medium; None where there are too few cells."""
        threshold = FOREGROUND_INDEX * COUNTS_PER_INDEX
        inside = index > threshold  # NaN compares false
        if np.count_nonzero(inside) * pitch[0] * pitch[1] < _MIN_LIT_UM2:
            return None
        edges = np.quantile(index[inside], np.linspace(0, 1, _CLASSES + 1)[1:-1])
        classes = np.where(inside, 1 + np.searchsorted(edges, index), 0)
        classes[np.isnan(index)] = -1
        return cls(index, pitch, origin, classes)

    def binned(self, factor: int) -> IndexClasses | None:
        """The same on coarser pixels; None where nothing is left."""
        index, pitch, first = binned_means(self.index, self.pitch, factor=factor)
        return self.classified(index, pitch, _moved_origin(self.origin, self.index.shape, self.pitch, first))


@dataclass(frozen=True)
class Light:
    """Light of one channel as levels from 0 to `_LEVELS` - 1, equal steps above noise on a curve like a logarithm."""

    levels: _Floats
    pitch: tuple[float, float]
    origin: tuple[float, float]

    @classmethod
    def of(cls, light: np.ndarray, *, pitch: tuple[float, ...]) -> Light | None:
        """From a projection in camera units (y, x); None where there is too little light."""
        small, steps, origin = binned_means(light.astype(np.float32), pitch)
        dark = np.median(small)
        below = small[small <= dark]
        noise = max(1.4826 * float(np.median(dark - below)), 0.3)  # camera counts are whole numbers
        above = np.arcsinh(np.maximum(small - dark, 0) / (4 * noise))
        lit = above > np.arcsinh(2.0)  # eight standard deviations of the noise
        if np.count_nonzero(lit) * steps[0] * steps[1] < _MIN_LIT_UM2:
            return None
        top = float(np.quantile(above[lit], 0.99))
        levels = np.clip(above / top, 0, 1) * (_LEVELS - 1.001)
        return cls(levels.astype(np.float32), steps, origin)

    def binned(self, factor: int) -> Light:
        """The same on coarser pixels."""
        levels, pitch, first = binned_means(self.levels, self.pitch, factor=factor)
        return Light(levels, pitch, _moved_origin(self.origin, self.levels.shape, self.pitch, first))


class Scene:
    """Both images and what is asked of them: the similarity at a step away from the start.

    A step is (turn, log of the scale, shift y, shift x), the first two in units that move the points of the field
    by 1 um, root mean square, so that all four are alike.
    """

    def __init__(self, fixed: IndexClasses, moving: list[Light], start: Placement) -> None:
        self.fixed, self.moving, self.start = fixed, moving, start
        shape = fixed.classes.shape
        y = fixed.origin[0] + fixed.pitch[0] * np.arange(shape[0])
        x = fixed.origin[1] + fixed.pitch[1] * np.arange(shape[1])
        self.y = np.broadcast_to(y[:, None], shape).astype(np.float32)
        self.x = np.broadcast_to(x[None, :], shape).astype(np.float32)
        self.lever = start.scale * float(np.sqrt(np.mean(y**2) + np.mean(x**2)))

    def coarser(self, factor: int) -> Scene:
        """The same on coarser pixels."""
        fixed = self.fixed.binned(factor) or self.fixed
        return Scene(fixed, [light.binned(factor) for light in self.moving], self.start)

    def placement(self, step: _Floats) -> Placement:
        """Where a step leads."""
        start = self.start
        return replace(
            start,
            rotation_rad=float(start.rotation_rad + step[0] / self.lever),
            scale=float(start.scale * np.exp(step[1] / self.lever)),
            shift_um=(start.shift_um[0], float(start.shift_um[1] + step[2]), float(start.shift_um[2] + step[3])),
        )

    def moved(self, moving: Light, step: _Floats) -> tuple[_Floats, NDArray[np.bool_]]:
        """Levels of a channel on the fixed grid, and where it reaches."""
        from scipy.ndimage import affine_transform

        placement = self.placement(step)
        own, onto = np.array(moving.pitch), np.array(self.fixed.pitch)
        matrix = placement.matrix * onto[None, :] / own[:, None]
        first = placement.matrix @ np.array(self.fixed.origin) + np.array(placement.shift_um[1:])
        offset = (first - np.array(moving.origin)) / own
        shape = self.fixed.classes.shape
        levels: _Floats = affine_transform(moving.levels, matrix, offset, output_shape=shape, order=1, mode="nearest")
        rows, columns = np.arange(shape[0], dtype=np.float32)[:, None], np.arange(shape[1], dtype=np.float32)[None, :]
        reached = np.ones(shape, bool)
        for axis, size in enumerate(moving.levels.shape):
            place = matrix[axis, 0] * rows + (matrix[axis, 1] * columns + offset[axis])
            reached &= (place >= 0) & (place <= size - 1)
        return levels, reached

    def similarity(self, step: _Floats) -> float:
        """Mutual information in nats a pixel, summed over the channels."""
        return self._evaluate(step, gradients=False)[0]

    def climb(self, step: _Floats) -> _Floats:
        """Ascend to the nearest maximum."""
        from scipy.optimize import minimize

        def downhill(at: _Floats) -> tuple[float, _Floats]:
            value, pixels = self._evaluate(at, gradients=True)
            return -_STEEPNESS * value, -_STEEPNESS * pixels.sum(axis=(1, 2)).astype(float)

        outcome = minimize(downhill, step, jac=True, method="BFGS", options={"gtol": 2e-2, "maxiter": 30})
        reached: _Floats = outcome.x
        return reached

    def covariance(self, step: _Floats) -> _Floats | None:
        """Covariance of a step found (um), by the scatter of the blocks' pulls.

        None where there is no maximum, or too small a field for blocks.
        """
        size = [max(1, round(_BLOCK_UM / pitch)) for pitch in self.fixed.pitch]
        rows, columns = (np.arange(n) // k for n, k in zip(self.fixed.classes.shape, size, strict=True))
        block = (rows[:, None] * (columns[-1] + 1) + columns[None, :]).ravel()
        if block[-1] + 1 < _MIN_BLOCKS:
            return None

        def pulls(at: _Floats) -> _Floats:
            return np.array([np.bincount(block, part.ravel()) for part in self._evaluate(at, gradients=True)[1]])

        width = 1.0
        hessian = np.array(
            [
                (pulls(step + width * unit).sum(axis=1) - pulls(step - width * unit).sum(axis=1)) / (2 * width)
                for unit in np.eye(4)
            ]
        )
        hessian = (hessian + hessian.T) / 2
        if np.linalg.eigvalsh(hessian).max() >= 0:
            return None
        moves = np.linalg.inv(hessian) @ pulls(step)  # what each block alone would have liked
        # four numbers were fitted to so many cells
        number = max(self.count(step), 5)
        covariance: _Floats = moves @ moves.T * number / (number - 4)
        return covariance

    def count(self, step: _Floats) -> int:
        """Number of separate blobs of light in the field, about that of its cells."""
        from scipy.ndimage import gaussian_filter, label

        light = np.sum([levels * reached for levels, reached in (self.moved(m, step) for m in self.moving)], axis=0)
        smooth = gaussian_filter(light, [_BLOB_UM / pitch for pitch in self.fixed.pitch])
        return int(label(smooth > 0.3 * _LEVELS)[1])

    def _evaluate(self, step: _Floats, *, gradients: bool) -> tuple[float, _Floats]:
        """Similarity, and each pixel's share in its derivative by the step, (4, y, x)."""
        placement = self.placement(step)
        total = 0.0
        pull = np.zeros((2, *self.fixed.classes.shape)) if gradients else np.zeros((2, 0, 0))
        for moving in self.moving:
            levels, reached = self.moved(moving, step)
            seen = reached & (self.fixed.classes >= 0)
            if not seen.any():
                continue
            ratio, share = _log_ratio(self.fixed.classes[seen], levels[seen])
            total += float(np.sum(ratio * share))
            if not gradients:
                continue
            # the derivative of the plug-in estimate by the joint histogram is the log ratio itself
            lower = np.clip(levels.astype(np.intp), 0, _LEVELS - 2)
            rows = np.where(seen, self.fixed.classes, 0)
            slope = np.where(seen, ratio[rows, lower + 1] - ratio[rows, lower], 0) / np.count_nonzero(seen)
            slopes = np.gradient(levels, self.fixed.pitch[0], self.fixed.pitch[1])
            for axis in range(2):
                pull[axis] += slope * slopes[axis]
        if not gradients:
            return total, pull
        # slopes are along the fixed axes: a shift s in the moving image is matrix^-1 s there
        inverse = np.linalg.inv(placement.matrix)
        y, x = self.y, self.x
        along_y = pull[0] * inverse[0, 0] + pull[1] * inverse[1, 0]
        along_x = pull[0] * inverse[0, 1] + pull[1] * inverse[1, 1]
        turn = (-x * pull[0] + y * pull[1]) / self.lever
        grow = (y * pull[0] + x * pull[1]) / self.lever
        return total, np.array([turn, grow, along_y, along_x])


def _log_ratio(classes: NDArray[np.intp], levels: _Floats) -> tuple[_Floats, _Floats]:
    """Log of joint over product of marginal frequencies, and the joint frequencies, (class, level)."""
    lower = np.clip(levels.astype(np.intp), 0, _LEVELS - 2)
    above = levels - lower
    cells = classes * _LEVELS + lower
    size = (_CLASSES + 1) * _LEVELS
    counts = np.bincount(cells, 1 - above, minlength=size)
    counts += np.bincount(cells + 1, above, minlength=size)[:size]
    joint = counts.reshape(_CLASSES + 1, _LEVELS) + 1e-3
    joint /= joint.sum()
    ratio: _Floats = np.log(joint / joint.sum(axis=0) / joint.sum(axis=1, keepdims=True))
    return ratio, joint


def binned_means(
    image: _Floats, pitch: tuple[float, ...], *, factor: int | None = None
) -> tuple[_Floats, tuple[float, float], tuple[float, float]]:
    """Means over square blocks of pixels, their pitch, and where the first lies from the centre of the image."""
    factors = [factor or max(1, round(_FINE_UM / step)) for step in pitch]
    height, width = (size // k for size, k in zip(image.shape, factors, strict=True))
    cut = image[: height * factors[0], : width * factors[1]]
    means: _Floats = cut.reshape(height, factors[0], width, factors[1]).mean(axis=(1, 3))
    origin = [((k - 1) / 2 - (size - 1) / 2) * step for k, size, step in zip(factors, image.shape, pitch, strict=True)]
    return means, (factors[0] * pitch[0], factors[1] * pitch[1]), (origin[0], origin[1])


def _moved_origin(
    origin: tuple[float, float], shape: tuple[int, ...], pitch: tuple[float, float], first: tuple[float, float]
) -> tuple[float, float]:
    """Where the first of larger pixels lies, from where it lies from the middle of the smaller ones."""
    y, x = (o + (n - 1) / 2 * p + f for o, n, p, f in zip(origin, shape, pitch, first, strict=True))
    return y, x
