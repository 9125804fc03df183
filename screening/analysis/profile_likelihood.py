"""How far an EC50 can be moved before the curve stops fitting: profile-likelihood intervals, by the thousand."""

from __future__ import annotations

import numpy as np
from scipy import stats

from .log_logistic import CHUNK, Array, Curves, Design, Limits, add_spread, choose, chunks, descend, grid_rss

SLOPES, LOCATIONS = 28, 141  # grid on which the profile is looked at before its crossings are polished


def profile(
    design: Design,
    means: Array,
    spread: Array,
    curves: Curves,
    *,
    limits: Limits,
    level: float = 0.95,
    design_effect: float | Array = 1.0,
) -> tuple[Curves, Array, Array]:
    """Profile-likelihood interval of log10 EC50, all other parameters fitted again at each trial value.

    The interval is {E : RSS(E) <= RSS_min (1 + t^2 / df)} (Bates & Watts 1988, 6.1), its ends the outermost
    crossings; an end that is not found within `REACH` decades of the tested doses is unbounded. Slopes stay
    within `limits.hill`, on which the interval depends.

    Returns
    -------
    curves, low, high
        The curves (a corner of the grid that beat a fit has replaced it), and log10 limits, (curve,), with
        -inf or inf where unbounded.
    """
    slopes = np.geomspace(*limits.hill, SLOPES)
    locations = np.linspace(*design.reach, LOCATIONS)
    lowest = np.empty((len(means), LOCATIONS))
    slope = np.empty((len(means), LOCATIONS))
    for rows in chunks(np.arange(len(means)), CHUNK):
        grid = grid_rss(design, means[rows], slopes, locations, limits).reshape(-1, SLOPES, LOCATIONS)
        best = grid.argmin(axis=1)
        lowest[rows] = np.take_along_axis(grid, best[:, None], axis=1)[:, 0]
        slope[rows] = np.log(slopes[best])

    curves = _improved(design, means, spread, curves, lowest, slope, locations, limits)
    t = stats.t.ppf(0.5 + level / 2, design.freedom(limits))
    # limits without the spread inside doses, which no parameter changes
    ceiling = curves.rss * (1 + design_effect * t**2 / design.freedom(limits)) - spread
    low, high = (_crossing(design, means, curves, ceiling, lowest, slope, locations, limits, side) for side in (-1, 1))
    return curves, low, high


def _improved(
    design: Design,
    means: Array,
    spread: Array,
    curves: Curves,
    lowest: Array,
    slope: Array,
    locations: Array,
    limits: Limits,
) -> Curves:
    """Curves started again where the profile's grid found a lower corner than the fit did."""
    corner = lowest.argmin(axis=1)
    worse = np.flatnonzero(lowest.min(axis=1) + spread < curves.rss * (1 - 1e-9))
    if not worse.size:
        return curves
    again = descend(design, means[worse], slope[worse, corner[worse]], locations[corner[worse]], limits)
    again = add_spread(again, spread[worse])
    old = Curves(*(getattr(curves, n)[worse] for n in ("bottom", "top", "hill", "location", "rss")))
    best = choose([old, again], np.argmin([old.rss, again.rss], axis=0))
    merged = {}
    for name in ("bottom", "top", "hill", "location", "rss"):
        merged[name] = getattr(curves, name).copy()
        merged[name][worse] = getattr(best, name)
    return Curves(**merged)


def _crossing(
    design: Design,
    means: Array,
    curves: Curves,
    ceiling: Array,
    lowest: Array,
    slope: Array,
    locations: Array,
    limits: Limits,
    side: int,
) -> Array:
    """Outermost location on one side at which the profile reaches the ceiling; +-inf where it never does."""
    last = LOCATIONS - 1
    inside = lowest <= ceiling[:, None]
    index = np.arange(LOCATIONS)
    if side > 0:
        edge = np.where(inside, index, -1).max(axis=1)
        nearest = np.searchsorted(locations, curves.location, side="right") - 1
        edge = np.maximum(edge, np.clip(nearest, 0, last))
    else:
        edge = np.where(inside, index, LOCATIONS).min(axis=1)
        nearest = np.searchsorted(locations, curves.location, side="left")
        edge = np.minimum(edge, np.clip(nearest, 0, last))
    ends = np.where(edge == (last if side > 0 else 0), np.inf * side, np.nan)
    at_edge = side * (locations[edge] - curves.location)
    near = np.where(at_edge > 0, locations[edge], curves.location)  # a location known to be inside
    start = np.where(at_edge > 0, slope[np.arange(len(edge)), edge], np.log(curves.hill))
    todo = np.flatnonzero(np.isnan(ends))
    # the grid overstates the profile between its slopes: polish, and walk on while still inside
    outer = edge + side
    while todo.size:
        trial, ln_hill = _profile_at(design, means[todo], locations[outer[todo]], start[todo], limits)
        grid_start = slope[todo, outer[todo]]
        other, other_hill = _profile_at(design, means[todo], locations[outer[todo]], grid_start, limits)
        ln_hill = np.where(other < trial, other_hill, ln_hill)
        still = np.minimum(trial, other) <= ceiling[todo]
        near[todo[still]] = locations[outer[todo[still]]]
        start[todo[still]] = ln_hill[still]
        ended = still & ((outer[todo] == 0) | (outer[todo] == last))
        ends[todo[ended]] = np.inf * side
        outer[todo[still & ~ended]] += side
        todo = todo[still & ~ended]
    todo = np.flatnonzero(np.isnan(ends))
    ends[todo] = _bisect(design, means[todo], near[todo], locations[outer[todo]], start[todo], ceiling[todo], limits)
    return ends


def _profile_at(design: Design, means: Array, location: Array, ln_hill: Array, limits: Limits) -> tuple[Array, Array]:
    held = descend(design, means, ln_hill, location, limits, hold=True, rounds=40)
    return held.rss, np.log(held.hill)


def _bisect(
    design: Design, means: Array, inner: Array, outer: Array, ln_hill: Array, ceiling: Array, limits: Limits
) -> Array:
    """Crossing between a location inside the interval and one outside it, to 1e-5 of the grid's step."""
    for _ in range(17):
        middle = (inner + outer) / 2
        rss, found = _profile_at(design, means, middle, ln_hill, limits)
        inside = rss <= ceiling
        inner, outer = np.where(inside, middle, inner), np.where(inside, outer, middle)
        ln_hill = np.where(inside, found, ln_hill)
    return (inner + outer) / 2
