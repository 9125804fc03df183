"""The dose at which a compound changes the way it kills, with the interval of its profile likelihood."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from plates.states import DEAD

from .pathway_model import BEND, CONTRASTS, LEVEL, PARAMETERS, TREND, Fit, Wells, fit, logits, moved, weak_penalty

Array: TypeAlias = NDArray[Any]

PROFILE_POINTS = 41


def profile_switch(
    wells: Wells,
    found: Fit,
    centre: Array,
    first: Array,
    last: Array,
    freedom: int,
    level: float,
    minimum_effect: float,
    misfit: Array,
) -> dict[str, Array]:
    """The dose at which two pathways take equal shares, with the interval of its profile likelihood.

    The two are those that lead at the lowest active and at the top dose; where one leads at both, it and the one that
    gains or loses most against it. `misfit` (compound,) is a factor of the variance.
    """
    theta = found.theta
    row = np.arange(len(theta))
    start = active_from(theta, centre, first, last, minimum_effect)
    ends = logits(theta, np.stack([start, last], axis=1) - centre[:, None])  # (compound, end, pathway)
    before, after = ends.argmax(axis=2).T
    # where hardly a dose is active its ends are too close to show a trend
    early = np.minimum(start, last - 0.25 * (last - first))
    gain = ends[:, 1] - logits(theta, (early - centre)[:, None])[:, 0]
    relative = np.abs(gain - gain[row, before][:, None])
    relative[row, before] = -1.0
    rival = relative.argmax(axis=1)
    rising = gain[row, rival] > gain[row, before]
    changed = before != after
    origin = np.where(changed, before, np.where(rising, before, rival))
    target = np.where(changed, after, np.where(rising, rival, before))
    contrast = CONTRASTS[origin] - CONTRASTS[target]  # (compound, contrast)
    crossing, lean = _crossing(theta, origin, target, centre, start, first, last)
    grid = _profile_grid(found, contrast, lean, crossing, centre, first, last)
    repeat = np.repeat(row, PROFILE_POINTS)
    constraint = _constraint(contrast[repeat], grid.ravel() - centre[repeat])[:, None]
    wide = Fit(theta[repeat], found.objective[repeat], found.information[repeat])
    penalty = weak_penalty(wells).take(repeat)
    held = fit(wells.take(repeat), centre[repeat], penalty=penalty.holding(constraint), start=moved(wide, constraint))
    loss = 2 * (found.objective[:, None] - held.objective.reshape(grid.shape))
    threshold = stats.t.ppf(0.5 + level / 2, freedom) ** 2
    low, high = _region(grid, loss / misfit[:, None], crossing, threshold)
    return {
        "switch_dose": 10 ** np.clip(crossing, -300, 300),
        "switch_low": np.where(np.isneginf(low), 0.0, 10 ** np.clip(low, -300, 300)),
        "switch_high": np.where(np.isposinf(high), np.inf, 10 ** np.clip(high, -300, 300)),
        "switch_from": np.array(DEAD, dtype=object)[origin],
        "switch_to": np.array(DEAD, dtype=object)[target],
        "active_from": 10**start,
        "_changed": changed,
        "_first": 10**first,
        "_last": 10**last,
    }


def active_from(theta: Array, centre: Array, first: Array, last: Array, minimum_effect: float) -> Array:
    """Log10 dose from which the excess death is at least `minimum_effect`; the top dose where it never is."""
    top = special.expit(theta[:, 2])
    ratio = np.clip(minimum_effect / top, 1e-9, 1 - 1e-9)
    dose = theta[:, 0] + special.logit(ratio) / (np.log(10) * np.exp(theta[:, 1]))
    return np.clip(np.where(top > minimum_effect, dose, last), first, last)


def _crossing(
    theta: Array, origin: Array, target: Array, centre: Array, start: Array, first: Array, last: Array
) -> tuple[Array, Array]:
    """log10 dose at which `target` overtakes `origin`, and how fast; beyond the tested doses along the tangent there.

    Of several crossings of a bent split the one nearest the active doses counts.
    """
    row = np.arange(len(theta))
    grid = np.linspace(first, last, 201, axis=1)
    split = logits(theta, grid - centre[:, None])
    ahead = split[row, :, target] - split[row, :, origin]  # (compound, dose)
    over = (ahead[:, :-1] <= 0) & (ahead[:, 1:] > 0)
    away = np.where(over, np.maximum(start[:, None] - grid[:, 1:], 0.0), np.inf)
    k = away.argmin(axis=1)
    step = grid[:, 1] - grid[:, 0]
    rise = np.maximum(ahead[row, k + 1] - ahead[row, k], 1e-12)
    inside = grid[row, k] - ahead[row, k] / rise * step
    # outside: from the end at which the two are closer
    end = np.where(np.abs(ahead[:, -1]) <= np.abs(ahead[:, 0]), grid.shape[1] - 2, 0)
    slope = np.maximum((ahead[row, end + 1] - ahead[row, end]) / step, 1e-9)
    outside = grid[row, end] - np.clip(ahead[row, end] / slope, -1e3, 1e3)
    found = over.any(axis=1)
    beyond = np.where(ahead[:, -1] <= 0, np.fmax(outside, last), np.fmin(outside, first))
    return np.where(found, inside, beyond), np.where(found, rise / step, slope)


def _constraint(contrast: Array, u: Array) -> Array:
    """Row (compound, parameter) whose product with theta is the difference of two logits at u (compound,)."""
    result = np.zeros((len(u), PARAMETERS))
    for power, place in enumerate((LEVEL, TREND, BEND)):
        result[:, place] = contrast * (u**power)[:, None]
    return result


def _profile_grid(
    found: Fit, contrast: Array, lean: Array, crossing: Array, centre: Array, first: Array, last: Array
) -> Array:
    """Doses to hold the switch at: close by within four standard errors, and half a tested range beyond the tested."""
    margin = 0.5 * (last - first)
    low, high = first - margin, last + margin
    middle = np.clip(crossing, low, high)
    gradient = _constraint(contrast, middle - centre)
    variance = np.einsum("bk,bkl,bl->b", gradient, found.covariance, gradient)
    error = np.clip(np.sqrt(variance) / np.maximum(np.abs(lean), 1e-9), 1e-4, (high - low) / 4)
    near = np.clip(middle[:, None] + error[:, None] * np.linspace(-4, 4, 25), low[:, None], high[:, None])
    wide = np.linspace(low, high, PROFILE_POINTS - 25, axis=1)
    return np.sort(np.concatenate([near, wide], axis=1), axis=1)


def _region(grid: Array, loss: Array, point: Array, threshold: float) -> tuple[Array, Array]:
    """Ends of the doses around the optimum that lose less than the threshold; infinite where they leave the grid.

    Only what hangs together with the optimum counts: far below the active doses a bent split may cross anywhere.
    """
    count = grid.shape[1]
    row, place = np.arange(len(grid)), np.arange(count)
    middle = np.abs(grid - point[:, None]).argmin(axis=1)
    outside = loss > threshold
    ends = []
    for sign, infinite in ((-1, -np.inf), (1, np.inf)):
        beyond = outside & ((place - middle[:, None]) * sign >= 0)
        far = beyond.argmax(axis=1) if sign > 0 else count - 1 - beyond[:, ::-1].argmax(axis=1)
        near = np.clip(far - sign, 0, count - 1)
        # losses grow as squares: interpolate their roots
        left, right = np.sqrt(np.maximum(loss[row, far], 0)), np.sqrt(np.maximum(loss[row, near], 0))
        gap = np.where(left > right, left - right, 1.0)
        share = np.clip((left - np.sqrt(threshold)) / gap, 0, 1)
        crossing = grid[row, far] + share * (grid[row, near] - grid[row, far])
        crossing = np.where(outside[row, middle], point, crossing)
        ends.append(np.where(beyond.any(axis=1), crossing, infinite))
    return np.fmin(ends[0], point), np.fmax(ends[1], point)
