"""How far an EC50 can be moved before the curve stops fitting: profile-likelihood intervals, by the thousand."""

from __future__ import annotations

import numpy as np
from scipy import stats

from .descent import descend, normal, trial_at
from .global_fit import fit
from .log_logistic import Array, Curves, Design, Limits
from .survey import LOCATIONS, Survey, survey

SAME = 1e-7  # decades to which an end is found
NEWTON, HALVINGS = 14, 20  # rounds; what the first leaves open is narrowed down


def profile(
    design: Design,
    means: Array,
    spread: Array,
    curves: Curves,
    *,
    limits: Limits,
    level: float = 0.95,
    design_effect: float | Array = 1.0,
    grid: Survey | None = None,
    sides: tuple[int, ...] = (-1, 1),
) -> tuple[Array, ...]:
    """Profile-likelihood interval of log10 EC50, all other parameters fitted again at each trial value.

    The interval is {E : RSS(E) <= RSS_min (1 + t^2 / df)} (Bates & Watts 1988, 6.1), its ends the outermost
    crossings; an end that is not found within `REACH` decades of the tested doses is unbounded. Slopes stay
    within `limits.hill`, on which the interval depends.

    Parameters
    ----------
    design, means, spread, limits, grid
        As in `global_fit.fit`.
    curves
        What it found.
    level
        Of the interval.
    design_effect
        Factor of the variance for wells that are not independent.
    sides
        -1 for the lower end, 1 for the upper one.

    Returns
    -------
    tuple of arrays
        log10 limits, (curve,) for each side, -inf or inf where unbounded.
    """
    grid = grid or survey(design, means, limits)
    t = stats.t.ppf(0.5 + level / 2, design.freedom(limits))
    # limits without the spread inside doses, which no parameter changes
    ceiling = curves.rss * (1 + design_effect * t**2 / design.freedom(limits)) - spread
    return tuple(_end(design, means, curves, ceiling, grid, limits, side) for side in sides)


def fit_with_interval(
    design: Design, means: Array, spread: Array, *, limits: Limits, level: float = 0.95
) -> tuple[Curves, Array, Array]:
    """Fit curves and bound log10 EC50, over one survey."""
    grid = survey(design, means, limits)
    curves = fit(design, means, spread, limits=limits, grid=grid)
    low, high = profile(design, means, spread, curves, limits=limits, level=level, grid=grid)
    return curves, low, high


def _end(
    design: Design, means: Array, curves: Curves, ceiling: Array, grid: Survey, limits: Limits, side: int
) -> Array:
    """Outermost location on one side at which the profile reaches the ceiling; +-inf where it never does."""
    last = LOCATIONS - 1
    locations = grid.locations
    inside = grid.lowest <= ceiling[:, None]
    if side > 0:
        edge = np.where(inside.any(axis=1), last - inside[:, ::-1].argmax(axis=1), -1)
        edge = np.maximum(edge, np.clip(np.searchsorted(locations, curves.location, side="right") - 1, 0, last))
    else:
        edge = np.where(inside.any(axis=1), inside.argmax(axis=1), LOCATIONS)
        edge = np.minimum(edge, np.clip(np.searchsorted(locations, curves.location, side="left"), 0, last))
    ends = np.where(edge == (last if side > 0 else 0), np.inf * side, np.nan)
    beyond = side * (locations[edge] - curves.location) > 0
    near = np.where(beyond, locations[edge], curves.location)  # a location known to be inside
    start = np.log(curves.hill)
    far = np.flatnonzero(beyond & np.isnan(ends))
    start[far] = np.log(grid.slopes[grid.over_slopes(edge[far], limits, far).argmin(axis=1)])
    # the grid overstates the profile between its slopes: look again, and walk on while still inside
    outer = np.clip(edge + side, 0, last)
    todo = np.flatnonzero(np.isnan(ends))
    while todo.size:
        at = locations[outer[todo]]
        over = np.log(grid.slopes[grid.over_slopes(outer[todo], limits, todo).argmin(axis=1)])
        rss, ln_hill = _profile_at(design, means[todo], at, over, limits, rounds=8)
        unsure = np.flatnonzero(rss > ceiling[todo])
        other, other_hill = _profile_at(design, means[todo][unsure], at[unsure], start[todo][unsure], limits, rounds=8)
        lower = other < rss[unsure]
        rss[unsure[lower]], ln_hill[unsure[lower]] = other[lower], other_hill[lower]
        still = rss <= ceiling[todo]
        near[todo[still]], start[todo[still]] = at[still], ln_hill[still]
        ended = still & ((outer[todo] == 0) | (outer[todo] == last))
        ends[todo[ended]] = np.inf * side
        todo = todo[still & ~ended]
        outer[todo] += side
    todo = np.flatnonzero(np.isnan(ends))
    if todo.size:
        ends[todo] = _root(design, means[todo], near[todo], locations[outer[todo]], start[todo], ceiling[todo], limits)
    return ends


def _root(
    design: Design, means: Array, inner: Array, outer: Array, ln_hill: Array, ceiling: Array, limits: Limits
) -> Array:
    """Where the profile crosses its ceiling between a location inside the interval and one outside it.

    Newton's steps on both the ceiling and the slope's optimum, along the valley of `ln_hill`, the best slope
    at the inner location, and inside the bracket.
    """
    y, weight = np.ascontiguousarray(means.T), design.weight
    box = np.log(limits.hill)
    theta = np.stack([ln_hill, inner])
    inner_hill, found = ln_hill.copy(), np.full(len(means), np.nan)
    before, trust = np.zeros(len(means)), np.ones(len(means))
    active = np.arange(len(means))
    for _ in range(NEWTON):
        state = trial_at(design, y, theta, limits)
        gradient, curvature = normal(theta, state, weight)
        c00, c01, c11 = np.maximum(curvature[0, 0], 1e-200), curvature[0, 1], curvature[1, 1]
        free = ~((theta[0] <= box[0]) & (gradient[0] < 0) | (theta[0] >= box[1]) & (gradient[0] > 0))
        shift = np.where(free, gradient[0] / c00, 0)
        follow = np.where(free, c01 / c00, 0)
        # the profile as a parabola around here: low + 2 slope d + bend d^2
        low = state.rss - ceiling - shift * gradient[0]
        slope, bend = -(gradient[1] - follow * gradient[0]), np.maximum(c11 - follow * c01, 0)
        inside = state.rss <= ceiling
        settled = np.abs(shift) < 1e-3
        inner, inner_hill = np.where(inside, theta[1], inner), np.where(inside, theta[0], inner_hill)
        outer = np.where(~inside & settled & (low > 0), theta[1], outer)
        out = np.sign(outer - inner)
        root = np.sqrt(np.maximum(slope**2 - bend * low, 0))
        # the root on the rising side, written without a difference of like numbers
        steep = slope + out * root
        usable = np.abs(steep) * 10 > np.abs(low)  # further than ten decades is no step
        wanted = theta[1] - np.divide(low, steep, out=np.zeros_like(low), where=usable)
        between = usable & ((wanted - inner) * (wanted - outer) <= 0)
        # without a usable step: settle the slope here first, or halve the bracket
        wanted = np.where(between, wanted, np.where(settled | inside, (inner + outer) / 2, theta[1]))
        moved = wanted - theta[1]
        # the slope's curvature leaves out its second derivatives: turn less where it overshot
        trust = np.where(shift * before < 0, trust / 2, np.minimum(2 * trust, 1.0))
        before = shift
        turn = np.clip(trust * shift - np.where(between, follow * moved, 0), -0.7, 0.7)
        found_slope = (np.abs(turn) < 1e-4) | (np.abs(shift * gradient[0]) < 1e-9 * state.rss)
        done = between & (np.abs(moved) < SAME) & found_slope | (np.abs(outer - inner) < SAME)
        found[active[done]] = wanted[done]
        theta = np.stack([np.clip(theta[0] + turn, *box), wanted])
        if done.any():
            kept = np.flatnonzero(~done)
            active, theta, y = active[kept], theta[:, kept], y[:, kept]
            inner, outer, inner_hill, ceiling = inner[kept], outer[kept], inner_hill[kept], ceiling[kept]
            before, trust = before[kept], trust[kept]
            if not active.size:
                return found
    found[active] = _narrow(design, means[active], inner, outer, inner_hill, ceiling, limits)
    return found


def _profile_at(
    design: Design, means: Array, location: Array, ln_hill: Array, limits: Limits, *, rounds: int = 12
) -> tuple[Array, Array]:
    held = descend(design, means, ln_hill, location, limits, hold=True, rounds=rounds, close=1e-6)
    return held.rss, np.log(held.hill)


def _narrow(
    design: Design, means: Array, inner: Array, outer: Array, ln_hill: Array, ceiling: Array, limits: Limits
) -> Array:
    """The crossing by regula falsi (Illinois) and halves in turn, for the few on which Newton's steps go astray."""
    found, active = np.full(len(means), np.nan), np.arange(len(means))
    under, hill = _profile_at(design, means, inner, ln_hill, limits)
    over, _ = _profile_at(design, means, outer, ln_hill, limits)
    under, over = np.minimum(under - ceiling, 0), np.maximum(over - ceiling, 0)
    for turn in range(2 * HALVINGS):
        share = np.divide(-under, over - under, out=np.full(len(under), 0.5), where=over > under)
        trial = inner + (outer - inner) * (np.clip(share, 0.02, 0.98) if turn % 3 < 2 else 0.5)
        rss, tried = _profile_at(design, means, trial, hill, limits)
        gap = rss - ceiling
        inside = gap <= 0
        inner, outer = np.where(inside, trial, inner), np.where(inside, outer, trial)
        # the end that stays counts half, or it would stay for long
        under, over = np.where(inside, gap, under / 2), np.where(inside, over / 2, gap)
        hill = np.where(inside, tried, hill)
        done = (np.abs(outer - inner) < 10 * SAME) | (np.abs(gap) < 1e-7 * ceiling)
        if done.any():
            found[active[done]] = trial[done]
            kept = np.flatnonzero(~done)
            active, means, ceiling, hill = active[kept], means[kept], ceiling[kept], hill[kept]
            inner, outer, under, over = inner[kept], outer[kept], under[kept], over[kept]
            if not active.size:
                return found
    found[active] = (inner + outer) / 2
    return found
