"""Lag-exponential courses on a grid of onsets and rates, with y0 and P solved exactly inside their limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

UNKNOWN = 1e6  # standard deviation of a frame that is missing


@dataclass(frozen=True)
class Limits:
    """Where parameters are looked for; those of MATLAB's fitLED. The onset lies between 0 and the last frame."""

    baseline: tuple[float, float] = (0.0, 0.5)
    plateau: tuple[float, float] = (0.0, 1.0)
    highest_rate: float = 2.0


@dataclass(frozen=True)
class Courses:
    """Courses and what makes their errors independent: `root` @ (y - model) has unit variance (or equal variance)."""

    hours: Array  # (time,)
    root: Array  # (course, time, time)
    ones: Array  # (course, time), root @ 1
    response: Array  # (course, time), root @ y
    limits: Limits

    def take(self, rows: Array | slice) -> Courses:
        """Some of the courses."""
        return Courses(self.hours, self.root[rows], self.ones[rows], self.response[rows], self.limits)


@dataclass(frozen=True)
class Solved:
    """Best y0 and P at given (D0, DR), (course, cell) each; `u`, `v` moments of the basis 1 - g and g."""

    baseline: Array
    plateau: Array
    rss: Array
    uu: Array
    uv: Array
    vv: Array


def prepare(hours: Array, courses: Array, known: Array, covariance: Array | None, limits: Limits) -> Courses:
    """Whiten courses (course, time) by their covariance; without one, frames are taken as they are."""
    size = hours.size
    filled = np.where(known, courses, 0.0)
    if covariance is None:
        root = np.eye(size) * known[:, None, :]
    else:
        both = known[:, :, None] & known[:, None, :]
        held = np.where(both, covariance, 0.0) + np.eye(size) * np.where(known, 0.0, UNKNOWN**2)[:, None, :]
        root = np.linalg.inv(np.linalg.cholesky(held))
        root = root * known[:, None, :]  # a missing frame weighs nothing, not next to nothing
    ones, response = root.sum(axis=2), np.einsum("cst,ct->cs", root, filled)
    return Courses(hours, root, ones, response, limits)


def coarse_grid(data: Courses) -> tuple[Array, Array]:
    """Onsets and rates of the first grid, the same for all courses."""
    last = data.hours[-1]
    gap = np.diff(data.hours).min()
    steps = int(np.clip(np.ceil(3 * last / gap), 12, 72))
    onsets = np.linspace(0.0, last, steps, endpoint=False)
    onsets = onsets[onsets < last - 1e-9 * last]
    slowest = min(0.05 / last, data.limits.highest_rate / 10)
    return onsets, np.geomspace(slowest, data.limits.highest_rate, 24)


def basis(hours: Array, onset: Array, rate: Array) -> Array:
    """1 - exp(-DR (t - D0)) after the onset, 0 before; (..., time)."""
    grown: Array = -np.expm1(-rate[..., None] * np.maximum(hours - onset[..., None], 0.0))
    return grown


def on_shared_grid(data: Courses, onset: Array, rate: Array) -> Array:
    """Sum of squares (course, cell)."""
    g = basis(data.hours, onset, rate)  # (cell, time)
    result = np.empty((len(data.response), onset.size))
    for row in range(len(result)):  # one course at a time: its whitened basis fits the cache
        result[row] = solve(data.take(slice(row, row + 1)), (g @ data.root[row].T)[None]).rss[0]
    return result


def solve(data: Courses, v: Array) -> Solved:
    """Best y0 and P inside their box for whitened bases v (course, cell, time): the inside, or the best edge."""
    aa, ay, yy = (np.einsum("ct,ct->c", x, y)[:, None] for x, y in _pairs(data))
    va, vy = (np.einsum("ckt,ct->ck", v, x) for x in (data.ones, data.response))
    vv = np.einsum("ckt,ckt->ck", v, v)
    uu, uv, uy = np.maximum(aa - 2 * va + vv, 0.0), va - vv, ay - vy
    (y_low, y_high), (p_low, p_high) = data.limits.baseline, data.limits.plateau
    determinant = uu * vv - uv**2
    sound = determinant > 1e-12 * aa * np.maximum(vv, 1e-12 * aa)
    safe = np.where(sound, determinant, 1.0)
    best_y0, best_p = (uy * vv - vy * uv) / safe, (vy * uu - uy * uv) / safe
    inside = sound & (best_y0 >= y_low) & (best_y0 <= y_high) & (best_p >= p_low) & (best_p <= p_high)

    def squares(y0: Array, p: Array) -> Array:
        rest: Array = yy + y0 * (y0 * uu + 2 * p * uv - 2 * uy) + p * (p * vv - 2 * vy)
        return rest

    best = np.where(inside, squares(best_y0, best_p), np.inf)
    y0, p = np.where(inside, best_y0, 0.0), np.where(inside, best_p, 0.0)
    tiny = 1e-12 * aa
    edges = [
        (np.full_like(vv, end), np.clip((vy - uv * end) / np.maximum(vv, tiny), p_low, p_high))
        for end in (y_low, y_high)
    ]
    edges += [
        (np.clip((uy - uv * end) / np.maximum(uu, tiny), y_low, y_high), np.full_like(vv, end))
        for end in (p_low, p_high)
    ]
    for edge_y0, edge_p in edges:
        rss = squares(edge_y0, edge_p)
        better = rss < best
        best, y0, p = np.where(better, rss, best), np.where(better, edge_y0, y0), np.where(better, edge_p, p)
    # deaths do not come back: where the best P lies below y0, the best of P >= y0 is a constant
    falls = p < y0
    level = np.clip(ay / aa, max(y_low, p_low), min(y_high, p_high))
    y0, p = np.where(falls, level, y0), np.where(falls, level, p)
    best = np.where(falls, yy - 2 * level * ay + level**2 * aa, best)
    return Solved(y0, p, np.maximum(best, 0.0), uu, uv, vv)


def _pairs(data: Courses) -> tuple[tuple[Array, Array], ...]:
    a, y = data.ones, data.response
    return (a, a), (a, y), (y, y)


def best_constant(data: Courses) -> tuple[Array, Array]:
    """The best constant and the sum of squares around it, (course,) each."""
    aa, ay, yy = (np.einsum("ct,ct->c", x, y) for x, y in _pairs(data))
    level = np.clip(ay / aa, *data.limits.plateau)
    return level, np.maximum(yy - 2 * level * ay + level**2 * aa, 0.0)
