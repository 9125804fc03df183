"""How far an EC50 can be moved before the curve stops fitting: profile-likelihood intervals, by the thousand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from .descent import descend, normal, trial_at
from .global_fit import fit
from .log_logistic import Array, Curves, Design, Limits
from .survey import LOCATIONS, Survey, survey

SAME = 1e-7  # decades to which an end is found
FEW, CELLS_AHEAD = 400, 8  # ends that are still walking, and how many cells they then look at together
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
    ends = [(level, side) for side in sides]
    return profile_ends(design, means, spread, curves, ends, limits=limits, design_effect=design_effect, grid=grid)


def profile_ends(
    design: Design,
    means: Array,
    spread: Array,
    curves: Curves,
    ends: Sequence[tuple[float, int]],
    *,
    limits: Limits,
    design_effect: float | Array = 1.0,
    grid: Survey | None = None,
) -> tuple[Array, ...]:
    """Find some ends of some profile intervals, `ends` being (level, side) of each; all at once, which is faster.

    Parameters and result are those of `profile`.
    """
    grid = grid or survey(design, means, limits)
    freedom = design.freedom(limits)
    t = [stats.t.ppf(0.5 + level / 2, freedom) for level, _ in ends]
    # limits without the spread inside doses, which no parameter changes
    ceiling = np.concatenate([curves.rss * (1 + design_effect * one**2 / freedom) - spread for one in t])
    side = np.repeat([side for _, side in ends], len(means))
    found = _outermost(design, means, curves, ceiling, side, grid, limits)
    return tuple(found.reshape(len(ends), len(means)))


def fit_with_interval(
    design: Design, means: Array, spread: Array, *, limits: Limits, level: float = 0.95
) -> tuple[Curves, Array, Array]:
    """Fit curves and bound log10 EC50, over one survey."""
    grid = survey(design, means, limits)
    curves = fit(design, means, spread, limits=limits, grid=grid)
    low, high = profile(design, means, spread, curves, limits=limits, level=level, grid=grid)
    return curves, low, high


def _outermost(
    design: Design, means: Array, curves: Curves, ceiling: Array, side: Array, grid: Survey, limits: Limits
) -> Array:
    """Outermost location on each side at which the profile reaches the ceiling; +-inf where it never does.

    `ceiling` and `side` are (end,), whole rounds of all curves one after the other.
    """
    last = LOCATIONS - 1
    locations = grid.locations
    count = max(len(means), 1)
    rows = np.arange(side.size) % count
    parts = [_last_inside(grid, curves, ceiling[k : k + count], int(side[k])) for k in range(0, side.size, count)]
    edge = np.concatenate(parts) if parts else np.empty(0, dtype=int)
    found, hill = curves.location[rows], curves.hill[rows]
    limit = np.where(side > 0, last, 0)
    ends = np.where(edge == limit, np.inf * side, np.nan)
    beyond = side * (locations[edge] - found) > 0
    near = np.where(beyond, locations[edge], found)  # a location known to be inside
    start = np.log(hill)
    far = np.flatnonzero(beyond & np.isnan(ends))
    start[far] = np.log(grid.slopes[grid.over_slopes(edge[far], limits, rows[far]).argmin(axis=1)])
    # the grid overstates the profile between its slopes: look again, and walk on while still inside
    outer = np.clip(edge + side, 0, last)
    todo = np.flatnonzero(np.isnan(ends))
    while todo.size:
        # the few that walk far look at several cells in one go
        ahead = 1 if todo.size > FEW else CELLS_AHEAD
        cells = outer[todo][:, None] + side[todo][:, None] * np.arange(ahead)
        there = (cells >= 0) & (cells <= last)
        cells = np.clip(cells, 0, last)
        which, flat = np.repeat(todo, ahead), cells.ravel()
        at, own = locations[flat], means[rows[which]]
        over = np.log(grid.slopes[grid.over_slopes(flat, limits, rows[which]).argmin(axis=1)])
        rss, ln_hill = _profile_at(design, own, at, over, limits, rounds=8)
        unsure = np.flatnonzero(rss > ceiling[which])
        other, other_hill = _profile_at(design, own[unsure], at[unsure], start[which][unsure], limits, rounds=8)
        lower = other < rss[unsure]
        rss[unsure[lower]], ln_hill[unsure[lower]] = other[lower], other_hill[lower]
        held = (rss <= ceiling[which]).reshape(cells.shape) & there
        steps = np.logical_and.accumulate(held, axis=1).sum(axis=1)  # cells in a row that are still inside
        walked = np.flatnonzero(steps)
        final = cells[walked, steps[walked] - 1]
        near[todo[walked]] = locations[final]
        start[todo[walked]] = ln_hill.reshape(cells.shape)[walked, steps[walked] - 1]
        outer[todo] += side[todo] * steps
        ended = todo[walked[(final == 0) | (final == last)]]
        ends[ended] = np.inf * side[ended]
        todo = todo[(steps == ahead) & np.isnan(ends[todo])]
    todo = np.flatnonzero(np.isnan(ends))
    if todo.size:
        own = means[rows[todo]]
        ends[todo] = _root(design, own, near[todo], locations[outer[todo]], start[todo], ceiling[todo], limits)
    return ends


def _last_inside(grid: Survey, curves: Curves, ceiling: Array, side: int) -> Array:
    """Outermost cell of the grid on one side, or that of the fit, whose profile lies below the ceiling."""
    last = LOCATIONS - 1
    inside = grid.lowest <= ceiling[:, None]
    if side > 0:
        edge = np.where(inside.any(axis=1), last - inside[:, ::-1].argmax(axis=1), -1)
        own = np.clip(np.searchsorted(grid.locations, curves.location, side="right") - 1, 0, last)
        return np.asarray(np.maximum(edge, own))
    edge = np.where(inside.any(axis=1), inside.argmax(axis=1), LOCATIONS)
    return np.asarray(np.minimum(edge, np.clip(np.searchsorted(grid.locations, curves.location), 0, last)))


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
