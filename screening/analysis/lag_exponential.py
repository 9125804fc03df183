"""Death that starts late and then approaches a plateau: onset, rate and plateau of many courses at once.

    y(t) = y0                                          up to the onset D0
    y(t) = y0 + (P - y0) (1 - exp(-DR (t - D0)))       after it

the lag-exponential death model of STACK (Forcina et al. 2017, doi 10.1016/j.cels.2017.05.002). The sum of squares
has a kink wherever D0 passes a frame, so no gradient is used: y0 and P enter linearly and are solved exactly inside
their limits for every (D0, DR) of a grid, first one grid for all courses, then a fine one around each course's
region of likelihood. That region, projected, is also the profile interval of each quantity, and of whatever is
computed from several: the initial slope (P - y0) DR, the time to half of the cells.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from .lag_grid import Courses, Limits, basis, best_constant, coarse_grid, on_shared_grid, prepare, solve
from .lag_region import HALF, Cells, box, misfit_factor, profile_ends, time_to, zoom

Array: TypeAlias = NDArray[Any]

FEWEST_FRAMES = 6  # four parameters, and something left to judge them by
PARAMETERS = 4
REACHED = 0.9  # share of the rise from y0 to P that the last frame must show for P to be more than a guess
FINE = (41, 33)  # onsets and rates around one course's region
NULL_COURSES = 2000
CHUNK = 64  # courses on the fine grid at a time
AREA_POINTS = 100  # of the trapezoids of `auc`, those of MATLAB's fitLED


def fit_lag_exponential(
    hours: Array,
    courses: Array,
    *,
    covariance: Array | None = None,
    freedom: float = np.inf,
    null_covariance: Array | None = None,
    limits: Limits | None = None,
    level: float = 0.95,
    alpha: float = 0.01,
    minimum_effect: float = 0.0,
    seed: int = 0,
) -> pd.DataFrame:
    """Fit lag-exponential death to courses that share their frames.

    Parameters
    ----------
    hours
        (time,) ascending, from dosing.
    courses
        (course, time) death fractions, means over replicate wells; NaN where a frame is missing.
    covariance
        (course, time, time) of those means. Without it frames count as independent with one unknown variance,
        which is plain least squares, as other tools fit; cells that are followed over time are not independent, so
        its intervals are too short for them.
    freedom
        Degrees of freedom behind `covariance`.
    null_covariance
        (time, time), up to a factor, of a course without deaths, for the test; independent frames without it.
    limits
        Of the parameters.
    level
        Of the intervals.
    alpha
        Size of the test against a constant: the drop of the (generalised) sum of squares, judged against courses of
        pure noise with the same frames on the same grid, because the textbook's F does not hold for a searched
        onset.
    minimum_effect
        Rise until the last frame below which a course counts as flat.
    seed
        Of the simulated noise.

    Returns
    -------
    DataFrame
        One row a course. `status`: not_computable (fewer than six frames), flat (test not passed, rise too small, or
        falling), over_before_first (flat, but at `minimum_effect` or more, or, if that is 0, above what y0 may be: they
        had died before), plateau_not_reached (the curve shows less than 0.9 of its rise at the last frame: rate and
        plateau are confounded, `rate` and `plateau` NaN, their intervals bounds; the slope is known), fitted.

        `onset` with `onset_low`, `onset_high` (hours) and `onset_status`: timed; between_frames (the interval lies
        inside one gap between frames: the gap is the interval, there is no number); before_first (it reaches back to
        before the first frame, `onset_low` 0); after_last (flat: not before the last frame, `onset_high` inf);
        `onset_fit` is the model's optimum in any case. `rate` (1/h), `plateau`, `baseline`, `slope` (1/h, (P - y0) DR),
        `final` (the curve at the last frame), with `_low`, `_high`; `rate_fit`, `plateau_fit`. `t50` (hours to
        half of all cells) with `t50_low`, `t50_high`, `t50_status`: reached, not_reached (`t50` NaN, `t50_high` inf),
        before_first. `auc` over 0 to the last frame, `level` (the best constant), `rss`, `p_value`,
        `fit_p` (of lack of fit; NaN without covariance), `frames`.
    """
    hours = np.asarray(hours, dtype=float)
    courses = np.atleast_2d(np.asarray(courses, dtype=float))
    if (
        hours.ndim != 1
        or courses.shape[1:] != hours.shape
        or not np.isfinite(hours).all()
        or (np.diff(hours) <= 0).any()
    ):
        raise ValueError(f"expected ascending hours and (course, {hours.size}) courses, got {hours}, {courses.shape}")
    limits = limits or Limits()
    table = _empty(len(courses))
    known = np.isfinite(courses)
    table["frames"] = known.sum(axis=1)
    rows = np.flatnonzero(known.sum(axis=1) >= FEWEST_FRAMES)
    if not rows.size or hours[-1] <= 0:
        return table
    data = prepare(hours, courses[rows], known[rows], None if covariance is None else covariance[rows], limits)
    free = known[rows].sum(axis=1) - PARAMETERS
    null_root = np.eye(hours.size) if null_covariance is None else np.linalg.inv(np.linalg.cholesky(null_covariance))
    found = _fit(data, free, covariance is not None, freedom, level, seed, null_root)
    table.loc[rows, list(found)] = found.to_numpy()
    gone = minimum_effect if minimum_effect > 0 else limits.baseline[1]
    return _judge(table, hours, alpha=alpha, minimum_effect=minimum_effect, gone=gone)


def rough_courses(
    hours: Array, courses: Array, *, covariance: Array | None = None, limits: Limits | None = None
) -> Array:
    """Best course of the coarse grid alone, (course, time): smooth, quick, NaN where too little is known."""
    known = np.isfinite(courses)
    rows = np.flatnonzero(known.sum(axis=1) >= FEWEST_FRAMES)
    result = np.full(courses.shape, np.nan)
    if not rows.size or hours[-1] <= 0:
        return result
    inner = None if covariance is None else covariance[rows]
    data = prepare(hours, courses[rows], known[rows], inner, limits or Limits())
    onsets, rates = coarse_grid(data)
    onset, rate = np.repeat(onsets, rates.size), np.tile(rates, onsets.size)
    g = basis(hours, onset, rate)
    for k, row in enumerate(rows):
        solved = solve(data.take(slice(k, k + 1)), (g @ data.root[k].T)[None])
        best = solved.rss[0].argmin()
        y0, p = solved.baseline[0, best], solved.plateau[0, best]
        result[row] = y0 + (p - y0) * g[best]
    return result


def curve(hours: Array, table: pd.DataFrame) -> Array:
    """Fitted courses at any hours, (course, time); NaN where nothing was fitted."""
    rise = (table["plateau_fit"] - table["baseline"]).to_numpy()[:, None]
    g = basis(np.asarray(hours, dtype=float), table["onset_fit"].to_numpy(), table["rate_fit"].to_numpy())
    fitted: Array = table["baseline"].to_numpy()[:, None] + rise * g
    return fitted


_INTERVALS = ("onset", "rate", "plateau", "baseline", "slope", "final", "t50")
_NUMBERS = (
    *(f"{name}{end}" for name in _INTERVALS for end in ("", "_low", "_high")),
    *("onset_fit", "rate_fit", "plateau_fit", "auc", "rss", "p_value", "fit_p", "level"),
)


def _empty(count: int) -> pd.DataFrame:
    table = pd.DataFrame({name: np.full(count, np.nan) for name in _NUMBERS})
    for name in ("status", "onset_status", "t50_status"):
        table[name] = pd.Series(np.full(count, "not_computable", dtype=object), dtype=object)
    return table


def _fit(
    data: Courses, free: Array, known: bool, freedom: float, level: float, seed: int, null_root: Array
) -> pd.DataFrame:
    onsets, rates = coarse_grid(data)
    cells = [np.repeat(onsets, rates.size), np.tile(rates, onsets.size)]
    coarse = on_shared_grid(data, *cells).reshape(-1, onsets.size, rates.size)
    constant, flat = best_constant(data)
    drop = np.maximum(flat - coarse.min(axis=(1, 2)), 0.0)
    p = _p_values(data, drop, coarse.min(axis=(1, 2)), onsets, rates, known, seed, null_root)
    parts = []
    for start in range(0, len(free), CHUNK):
        part = slice(start, start + CHUNK)
        parts.append(_refine(data.take(part), coarse[part], onsets, rates, free[part], known, freedom, level))
    found = pd.concat(parts, ignore_index=True)
    found["p_value"], found["level"] = p, constant
    return found


def _p_values(
    data: Courses, drop: Array, rss: Array, onsets: Array, rates: Array, known: bool, seed: int, null_root: Array
) -> Array:
    """Share of courses of pure noise whose squares drop as much; relative to the rest where the variance is unknown."""
    rng = np.random.default_rng(seed)
    frames = data.hours.size
    constant = null_root.sum(axis=1)
    constant = constant / np.sqrt((constant**2).sum())
    noise = rng.standard_normal((NULL_COURSES, frames))
    noise -= np.outer(noise @ constant, constant)
    cells = [np.repeat(onsets, rates.size), np.tile(rates, onsets.size)]
    g = basis(data.hours, *cells) @ null_root.T
    scale = np.sqrt((g**2).sum(axis=1)).max()
    g = (g - np.outer(g @ constant, constant)) / scale
    size = np.sqrt((g**2).sum(axis=1))
    g = g[size > 1e-9] / size[size > 1e-9, None]
    gain = np.maximum((noise @ g.T).max(axis=1), 0.0) ** 2
    null, seen = (gain, drop) if known else (_ratio(gain, (noise**2).sum(axis=1) - gain), _ratio(drop, rss))
    ranked = np.sort(null)
    above = ranked.size - np.searchsorted(ranked, seen * (1 - 1e-12), side="left")
    p: Array = (1 + above) / (1 + ranked.size)
    return np.where(seen > 0, p, 1.0)


def _ratio(part: Array, rest: Array) -> Array:
    smallest = 1e-14 * np.maximum(part + rest, 1e-300)
    ratio: Array = part / np.maximum(rest, smallest)
    return ratio


def _refine(
    data: Courses, coarse: Array, onsets: Array, rates: Array, free: Array, known: bool, freedom: float, level: float
) -> pd.DataFrame:
    """Optimum and intervals of some courses from a fine grid over their own region of likelihood."""
    quantile = stats.t.ppf(0.5 + level / 2, freedom if known else free) ** 2 * np.ones(len(free))
    lowest = coarse.min(axis=(1, 2))
    room = quantile * (misfit_factor(lowest, free) if known else np.maximum(lowest, 1e-300) / free)
    inside = coarse <= (lowest + room)[:, None, None]
    box_onset = box(inside.any(axis=2), onsets, data.hours[-1])
    box_rate = box(inside.any(axis=1), np.log(rates), np.log(rates[-1]))
    onset, log_rate = (np.linspace(*box, count, axis=1) for box, count in zip((box_onset, box_rate), FINE, strict=True))
    d0 = np.repeat(onset, FINE[1], axis=1)
    rate = np.exp(np.tile(log_rate, (1, FINE[0])))
    v = np.matmul(basis(data.hours, d0, rate), np.swapaxes(data.root, 1, 2))
    solved = solve(data, v)
    row, best = np.arange(len(free)), solved.rss.argmin(axis=1)
    step = np.stack([onset[:, 1] - onset[:, 0], log_rate[:, 1] - log_rate[:, 0]])
    d0_fit, rate_fit, y0, p, rss = zoom(data, d0[row, best], np.log(rate[row, best]), step)
    scale = misfit_factor(rss, free) if known else np.maximum(rss, 1e-300) / free
    threshold = rss + quantile * scale

    found = pd.DataFrame({"onset_fit": d0_fit, "rate_fit": rate_fit, "plateau_fit": p, "baseline": y0, "rss": rss})
    found["fit_p"] = stats.chi2.sf(rss, free) if known else np.nan
    profile = solved.rss.reshape(-1, *FINE)
    found["onset_low"], found["onset_high"] = profile_ends(onset, profile.min(axis=2), threshold, d0_fit)
    low, high = profile_ends(log_rate, profile.min(axis=1), threshold, np.log(rate_fit))
    found["rate_low"], found["rate_high"] = np.exp(low), np.exp(high)
    extra = np.sqrt(np.maximum(threshold[:, None] - solved.rss, 0.0))
    cells = Cells(solved, d0, rate, extra, solved.rss <= threshold[:, None], data.limits)
    rise = p - y0
    last = data.hours[-1]
    points = {"plateau": p, "baseline": y0, "slope": rise * rate_fit}
    points["final"] = y0 + rise * basis(data.hours[-1:], d0_fit, rate_fit)[:, 0]
    points["t50"] = time_to(HALF, y0, p, d0_fit, rate_fit)
    for name, point in points.items():
        ends = cells.ends(name, last)
        found[name] = point
        found[f"{name}_low"], found[f"{name}_high"] = np.fmin(ends[0], point), np.fmax(ends[1], point)
    drawn = np.linspace(0.0, last, AREA_POINTS)
    found["auc"] = np.trapezoid(y0[:, None] + rise[:, None] * basis(drawn, d0_fit, rate_fit), drawn, axis=1)
    found["onset"], found["rate"] = d0_fit, rate_fit
    return found


def _judge(table: pd.DataFrame, hours: Array, *, alpha: float, minimum_effect: float, gone: float) -> pd.DataFrame:
    """Statuses, and numbers taken away where they would claim more than the course holds."""
    done = table["onset_fit"].notna().to_numpy()
    first, last = hours[0], hours[-1]
    rise = (table["plateau_fit"] - table["baseline"]).to_numpy()
    grown = basis(hours[-1:], table["onset_fit"].to_numpy(), table["rate_fit"].to_numpy())[:, 0]
    flat = done & ~((table["p_value"] <= alpha) & (rise * grown >= max(minimum_effect, 1e-12))).to_numpy()
    open_top = done & ~flat & (grown < REACHED)
    level = table["level"].to_numpy()
    over = flat & (level >= gone)  # as many dead at every frame: they died before the first
    conditions = [~done, over, flat, open_top]
    words = ["not_computable", "over_before_first", "flat", "plateau_not_reached"]
    table["status"] = np.select(conditions, words, "fitted").astype(object)
    table.loc[flat | open_top, ["rate", "plateau"]] = np.nan
    ends = [f"{name}{end}" for name in ("rate", "plateau", "slope") for end in ("_low", "_high")]
    table.loc[flat, ["slope", *ends]] = np.nan

    low, high = table["onset_low"].to_numpy(), table["onset_high"].to_numpy()
    gap = np.clip(np.searchsorted(hours, np.nan_to_num(low), side="right") - 1, 0, hours.size - 2)
    early = done & ~flat & (low <= first)
    within = done & ~flat & ~early & (low >= hours[gap]) & (high <= hours[gap + 1])
    cases = [over, flat, early, within]
    table["onset_low"] = np.select(cases, [0.0, last, 0.0, hours[gap]], low)
    table["onset_high"] = np.select(cases, [first, np.inf, np.fmax(high, first), hours[gap + 1]], high)
    words = ["not_computable", "before_first", "after_last", "before_first", "between_frames"]
    table["onset_status"] = np.select([~done, *cases], words, "timed").astype(object)
    table.loc[flat | early | within, "onset"] = np.nan

    t50 = table["t50"].to_numpy()
    soon = (done & ~flat & (t50 <= first)) | (flat & (level >= HALF))
    late = done & ~soon & ((t50 > last) | flat)
    table["t50_status"] = np.where(
        ~done, "not_computable", np.where(late, "not_reached", np.where(soon, "before_first", "reached"))
    ).astype(object)
    table["t50_low"] = np.where(late, np.fmin(table["t50_low"], last), np.where(soon, 0.0, table["t50_low"]))
    table["t50_high"] = np.where(
        late | (table["t50_high"] > last), np.inf, np.where(soon, np.fmax(table["t50_high"], first), table["t50_high"])
    )
    table["t50_low"] = np.where(np.isneginf(table["t50_low"]), 0.0, table["t50_low"])
    table.loc[flat & late, "t50_low"] = last
    table.loc[late | soon, "t50"] = np.nan
    return table
