"""The optimum of a lag-exponential course, and how far it may be left: intervals from the region of likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from .lag_grid import Courses, Limits, Solved, basis, solve

Array: TypeAlias = NDArray[Any]

HALF = 0.5  # death that `t50` waits for


def misfit_factor(rss: Array, free: Array) -> Array:
    """Factor of the variance: 1, unless the courses depart from the model by more than their noise (p < 0.05)."""
    factor: Array = np.where(stats.chi2.sf(rss, free) < 0.05, rss / free, 1.0)
    return factor


def box(inside: Array, nodes: Array, end: float) -> tuple[Array, Array]:
    """Ends of each row's region on the grid, one cell wider."""
    first, final = inside.argmax(axis=1), inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)
    low = nodes[np.maximum(first - 1, 0)]
    high = np.r_[nodes, end][np.minimum(final + 1, nodes.size)]
    # an onset at the very last frame would leave nothing to see
    return low, np.where(high >= end, np.fmax(end - 1e-6 * abs(end), nodes[-1]), high)


def zoom(data: Courses, onset: Array, log_rate: Array, step: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Walk to the optimum on ever finer 5 x 5 grids: D0, DR, y0, P, sum of squares."""
    reach = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    by_onset, by_rate = np.repeat(reach, 5), np.tile(reach, 5)
    row = np.arange(len(onset))
    top = np.log(data.limits.highest_rate)
    width = 1.5 * step
    for _ in range(48):
        d0 = np.clip(onset[:, None] + width[0][:, None] * by_onset, 0.0, data.hours[-1] * (1 - 1e-9))
        log = np.minimum(log_rate[:, None] + width[1][:, None] * by_rate, top)
        v = np.matmul(basis(data.hours, d0, np.exp(log)), np.swapaxes(data.root, 1, 2))
        solved = solve(data, v)
        best = solved.rss.argmin(axis=1)
        onset, log_rate = d0[row, best], log[row, best]
        width = width * 0.7
    return onset, np.exp(log_rate), solved.baseline[row, best], solved.plateau[row, best], solved.rss[row, best]


def profile_ends(nodes: Array, profile: Array, threshold: Array, point: Array) -> tuple[Array, Array]:
    """Outermost places (row,) where the profile crosses its threshold, by linear interpolation."""
    below = profile <= threshold[:, None]
    row = np.arange(len(nodes))
    result = []
    for flip in (1, -1):
        x, y, held = nodes[:, ::flip], profile[:, ::flip], below[:, ::flip]
        k = held.argmax(axis=1)
        before = np.maximum(k - 1, 0)
        fall = y[row, before] - y[row, k]
        share = np.where(fall > 0, (y[row, before] - threshold) / np.where(fall > 0, fall, 1.0), 0.0)
        crossing = x[row, before] + np.clip(share, 0.0, 1.0) * (x[row, k] - x[row, before])
        result.append(np.where(held.any(axis=1), crossing, point))
    return np.fmin(result[0], point), np.fmax(result[1], point)


@dataclass(frozen=True)
class Cells:
    """Every cell of the fine grid that is likely enough, and how far P and y0 may stray there."""

    solved: Solved
    onset: Array
    rate: Array
    extra: Array  # square root of what is left below the threshold
    inside: Array
    limits: Limits

    def ends(self, name: str, last: float) -> tuple[Array, Array]:
        """Lowest and highest value of a quantity over the region of likelihood, (row,) each."""
        s = self.solved
        determinant = np.maximum(s.uu * s.vv - s.uv**2, 1e-300)
        y0, p, rise = s.baseline, s.plateau, s.plateau - s.baseline
        if name == "baseline":
            half = np.sqrt(s.vv / determinant) * self.extra
            low, high = (np.clip(y0 + sign * half, *self.limits.baseline) for sign in (-1, 1))
        elif name == "plateau":
            half = np.sqrt(s.uu / determinant) * self.extra
            low, high = (np.clip(p + sign * half, *self.limits.plateau) for sign in (-1, 1))
        elif name == "slope":
            half = np.sqrt((s.uu + 2 * s.uv + s.vv) / determinant) * self.extra
            most = self.limits.plateau[1] - self.limits.baseline[0]
            low, high = (np.clip(rise + sign * half, -most, most) * self.rate for sign in (-1, 1))
        else:
            # the curve at a time is (1 - g) y0 + g P: its variance at fixed onset and rate
            at = last if name == "final" else time_to(HALF, y0, p, self.onset, self.rate)
            at = np.where(np.isfinite(at), at, last)
            g = -np.expm1(-self.rate * np.maximum(at - self.onset, 0.0))
            half = np.sqrt(np.maximum((1 - g) ** 2 * s.vv - 2 * g * (1 - g) * s.uv + g**2 * s.uu, 0.0) / determinant)
            half = half * self.extra
            if name == "final":
                low, high = (np.clip(y0 + rise * g + sign * half, *self.limits.plateau) for sign in (-1, 1))
            else:
                low, high = (time_to(HALF - sign * half, y0, p, self.onset, self.rate) for sign in (1, -1))
        low, high = np.where(self.inside, low, np.inf), np.where(self.inside, high, -np.inf)
        lowest, highest = low.min(axis=1), high.max(axis=1)
        none = ~self.inside.any(axis=1)
        return np.where(none, np.nan, lowest), np.where(none, np.nan, highest)


def time_to(level: Array | float, y0: Array, p: Array, onset: Array, rate: Array) -> Array:
    """Hours at which a curve reaches a level: inf where never, -inf where it starts above it."""
    rise = p - y0
    share = np.divide(level - y0, rise, out=np.full(rise.shape, np.inf), where=rise > 0)
    reached = (share < 1) & (share > 0)
    time = onset - np.log1p(-np.where(reached, share, 0.0)) / rate
    return np.where(reached, time, np.where(np.asarray(level) <= y0, -np.inf, np.inf))
