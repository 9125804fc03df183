"""How long one signal comes before another, when both are seen in frames only and some never."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from scipy.interpolate import PchipInterpolator

FEWEST_WELLS = 3  # below which wells cannot tell their spread
STATUSES = ("both", "label_free_only", "marker_only", "neither", "before_first", "not_seen")
_ROUNDS, _DRAWN_ROUNDS = 400, 120
_CHUNK = 64  # bootstrap draws taken together


@dataclass(frozen=True, eq=False)
class Lead:
    """Distribution of lead times in hours; positive where the first signal was earlier.

    Attributes
    ----------
    median, low, high
        Median lead and its interval over wells; +-inf where half of the units lie beyond what was watched, NaN where no
        unit tells a lead (median) or fewer than three wells do (interval).
    quarter, three_quarters
        Quartiles.
    counts
        Units by status, one of `STATUSES`.
    status
        estimated; between_frames (shorter than the time between frames: the interval is what the frames leave open);
        too_few_wells (no interval); not_reached (the median lies beyond the hours watched); not_computable.
    """

    median: float
    low: float
    high: float
    quarter: float
    three_quarters: float
    counts: dict[str, int]
    status: str


def first_calls(hours: np.ndarray, called: np.ndarray, *, confirm: int = 2) -> pd.DataFrame:
    """Between which two frames each unit is first called.

    Parameters
    ----------
    hours
        (timepoint,) rising.
    called
        (unit, timepoint) 1 or 0, NaN where the unit was not seen.
    confirm
        So many frames in a row must agree, counting only those in which the unit was seen; near the end as many as are
        left. One flickering frame is no call.

    Returns
    -------
    DataFrame
        One row a unit: after, until. Not called: `after` is the last hour seen and `until` inf. Called in its first
        frame: `after` is -inf. Never seen: both NaN.
    """
    hours, called = np.asarray(hours, dtype=float), np.asarray(called, dtype=float)
    after, until = np.full(len(called), np.nan), np.full(len(called), np.nan)
    for unit, course in enumerate(called):
        seen = np.flatnonzero(np.isfinite(course))
        if not seen.size:
            continue
        on = course[seen] > 0.5
        # whether this frame and the next ones agree; what lies beyond the end cannot object
        held = on.copy()
        for step in range(1, min(confirm, on.size)):
            held[:-step] &= on[step:]
        if held.any():
            k = int(held.argmax())
            after[unit] = hours[seen[k - 1]] if k else -np.inf
            until[unit] = hours[seen[k]]
        else:
            after[unit], until[unit] = hours[seen[-1]], np.inf
    return pd.DataFrame({"after": after, "until": until})


def crossings(hours: np.ndarray, courses: np.ndarray, threshold: float, *, confirm: int = 2) -> pd.DataFrame:
    """When each well's course first exceeds a threshold: the two frames, and the time between them by a line.

    Returns
    -------
    DataFrame
        One row a course: after, until as `first_calls` gives them, and at, NaN where it was not reached or at the
        first frame.
    """
    courses = np.asarray(courses, dtype=float)
    called = np.where(np.isfinite(courses), courses > threshold, np.nan)
    table = first_calls(hours, called, confirm=confirm)
    at = np.full(len(courses), np.nan)
    for unit, (after, until) in enumerate(table.to_numpy()):
        if np.isfinite(after) and np.isfinite(until):
            low, high = (float(courses[unit, int(np.searchsorted(hours, hour))]) for hour in (after, until))
            # a frame above the threshold that the next did not confirm lies before: then the crossing is late
            share = (threshold - low) / (high - low) if high > low and low <= threshold else 1.0
            at[unit] = after + share * (until - after)
    return table.assign(at=at)


def lead_table(label_free: pd.DataFrame, marker: pd.DataFrame) -> pd.DataFrame:
    """Lead of each unit: bounds by the frames, and what kind of answer it is.

    Parameters
    ----------
    label_free, marker
        `after` and `until` of the same units.

    Returns
    -------
    DataFrame
        One row a unit: low, high (the lead lies between them; +-inf where only one signal was seen), status, one of
        `STATUSES`. before_first: the label-free call was there at the first frame.
    """
    l0, l1 = label_free["after"].to_numpy(float), label_free["until"].to_numpy(float)
    m0, m1 = marker["after"].to_numpy(float), marker["until"].to_numpy(float)
    cases = {
        "not_seen": np.isnan(l0) | np.isnan(m0),
        "before_first": np.isneginf(l0),
        "both": np.isfinite(l1) & np.isfinite(m1),
        "label_free_only": np.isfinite(l1),
        "marker_only": np.isfinite(m1),
    }
    status = np.select(list(cases.values()), list(cases), "neither").astype(object)
    with np.errstate(invalid="ignore"):
        low, high = m0 - l1, m1 - l0
    known = np.isin(status, ("both", "label_free_only", "marker_only"))
    return pd.DataFrame({"low": np.where(known, low, np.nan), "high": np.where(known, high, np.nan), "status": status})


def estimate_lead(
    label_free: pd.DataFrame,
    marker: pd.DataFrame,
    wells: np.ndarray,
    *,
    frames: pd.DataFrame | None = None,
    level: float = 0.95,
    draws: int = 400,
    seed: int = 0,
) -> Lead:
    """Distribution of the lead over units whose two signals are known between frames, or not at all.

    A unit called label-free in (l0, l1] and by the marker in (m0, m1] has a lead that no subtraction of frames gives:
    the midpoint is biased as soon as some units end without a marker. Here the lead's distribution is estimated from
    all of them by maximum likelihood for doubly censored times (de Gruttola and Lagakos 1989, the first time between
    its frames as the smooth rise of all first calls says; EM of Turnbull 1976 with a light smoothing in each round,
    Silverman et al. 1990). Units without a marker count as leads longer than they were watched, units without a
    label-free call as leads shorter. Units called at their first frame tell nothing and are left out, which does not
    bias: when a cell dies does not say how long its markers take. The interval resamples wells, because patches of one
    well share everything. A lead shorter than the time between frames rests on how deaths spread between them: then
    the interval is as wide as the frames leave it.

    Parameters
    ----------
    label_free, marker
        `after`, `until` of each unit. Equal numbers are a time that is known exactly.
    wells
        (unit,) name of the unit's well.
    frames
        `lead_table` of the same units by their frames, where `label_free` and `marker` were read between them.
    level, draws, seed
        Of the interval.
    """
    table = lead_table(label_free, marker)
    counts = {status: int((table["status"] == status).sum()) for status in STATUSES}
    used = table["status"].isin(["both", "label_free_only", "marker_only"]).to_numpy()
    nan = float("nan")
    if not (counts["both"] and used.any()):
        if counts["label_free_only"] and not counts["marker_only"]:
            return Lead(np.inf, nan, nan, np.inf, np.inf, counts, "not_reached")
        return Lead(nan, nan, nan, nan, nan, counts, "not_computable")
    ends = np.column_stack([label_free[["after", "until"]], marker[["after", "until"]]])[used].astype(float)
    patterns, which = np.unique(np.round(ends, 6), axis=0, return_inverse=True)
    names, owner = np.unique(np.asarray(wells, dtype=object)[used].astype(str), return_inverse=True)
    numbers = np.zeros((len(names), len(patterns)))
    np.add.at(numbers, (owner, which.ravel()), 1.0)
    grid = _grid(patterns)
    weight = _likelihood(patterns, numbers.sum(axis=0), grid)
    whole = _em(numbers.sum(axis=0)[None], weight, np.full((1, grid.size), 1 / grid.size), _ROUNDS)
    quarter, median, three = (float(_quantile(whole, grid, q)[0]) for q in (0.25, 0.5, 0.75))
    status = "estimated" if np.isfinite(median) else "not_reached"
    bounds = (table if frames is None else frames)[(table["status"] == "both").to_numpy()]
    spacing = float(np.median(bounds["high"] - bounds["low"])) / 2
    if abs(median) < spacing:
        low, high = (float(np.median(bounds[name])) for name in ("low", "high"))
        return Lead(median, low, high, quarter, three, counts, "between_frames")
    if len(names) < FEWEST_WELLS:
        return Lead(median, nan, nan, quarter, three, counts, "too_few_wells" if status == "estimated" else status)
    rng = np.random.default_rng(seed)
    picked = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws) @ numbers
    medians = np.concatenate(
        [
            _quantile(_em(part, weight, np.repeat(whole, len(part), axis=0), _DRAWN_ROUNDS), grid, 0.5)
            for part in np.split(picked, range(_CHUNK, draws, _CHUNK))
        ]
    )
    low, high = _widened(medians, median, len(names), level)
    return Lead(median, low, high, quarter, three, counts, status)


def _grid(patterns: np.ndarray) -> np.ndarray:
    """Leads that are possible, evenly spaced: a quarter of the closest frames; the two ends stand for beyond."""
    frames = np.unique(patterns[np.isfinite(patterns)])
    steps = np.diff(frames)
    steps = steps[steps > 0.05]
    span = max(float(np.ptp(frames)), 1.0)
    step = max(min(float(steps.min()) if steps.size else 0.25, 1.0) / 4, span / 150)
    reach = np.ceil(span / step) + 1
    return np.arange(-reach, reach + 1) * step


def _likelihood(patterns: np.ndarray, numbers: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Probability of each pattern (pattern, lead) if the lead were that."""
    least = (grid[1] - grid[0]) / 2
    l0, l1, m0, m1 = (patterns[:, [column]] for column in range(4))
    # a time known exactly is spread over a step of the grid
    l0, l1 = np.where(l1 - l0 < 2 * least, l0 - least, l0), np.where(l1 - l0 < 2 * least, l1 + least, l1)
    m0, m1 = np.where(m1 - m0 < 2 * least, m0 - least, m0), np.where(m1 - m0 < 2 * least, m1 + least, m1)
    first = _smooth_distribution(patterns[:, :2], numbers)
    # label-free time somewhere between its frames: the marker's frames must lie around it plus the lead
    from_label = _within(m1 - grid, l0, l1, first) - _within(m0 - grid, l0, l1, first)
    from_marker = 1 - _within(l0 + grid, m0, m1, _smooth_distribution(patterns[:, 2:], numbers))
    weight = np.where(np.isfinite(l1), from_label, np.where(np.isfinite(m1), from_marker, 0.0))
    # nothing impossible: a pattern of rounding alone would otherwise stop the estimate
    return np.asarray(np.maximum(weight, 1e-12))


def _smooth_distribution(ends: np.ndarray, numbers: np.ndarray) -> PchipInterpolator:
    """Share of units called by each hour: known at the frames, a smooth rise between them.

    A time that is taken as uniform between frames 4 h apart makes leads of an hour half an hour too short: deaths are
    many early in the first frames and few later.
    """
    known = np.isfinite(ends[:, 1])
    hours = np.unique(np.r_[ends[known].ravel(), 0.0])
    hours = hours[np.r_[True, np.diff(hours) > 1e-6]]
    if hours.size < 2:
        hours = np.array([hours[0], hours[0] + 1.0])
    called = np.array([numbers[known & (ends[:, 1] <= hour + 1e-9)].sum() for hour in hours]) / numbers.sum()
    # a trace of the uniform, so that no interval is without any deaths
    return PchipInterpolator(hours, called + 1e-6 * (hours - hours[0]), extrapolate=True)


def _within(x: np.ndarray, start: np.ndarray, end: np.ndarray, rise: PchipInterpolator) -> np.ndarray:
    """Distribution function, at x, of a time that is known to lie between start and end."""
    known = np.isfinite(start) & np.isfinite(end)
    low, high = np.where(known, start, 0.0), np.where(known, end, 1.0)
    inside = np.clip(x, low, high)
    edges = rise.x[0], rise.x[-1]
    f, f0, f1 = (rise(np.clip(one, *edges)) for one in (inside, low, high))
    uniform = (inside - low) / (high - low)
    share = np.divide(f - f0, f1 - f0, out=uniform.copy(), where=np.broadcast_to(f1 - f0 > 1e-9, uniform.shape))
    return np.asarray(np.clip(share, 0.0, 1.0))


def _em(numbers: np.ndarray, weight: np.ndarray, start: np.ndarray, rounds: int) -> np.ndarray:
    """Smoothed EM for many samples at once: (sample, pattern) counts -> (sample, lead) probabilities."""
    p, total = start.copy(), numbers.sum(axis=1, keepdims=True)
    for _ in range(rounds):
        p *= (numbers / (p @ weight.T)) @ weight / total
        inner = p[:, 1:-1].copy()
        # what leaves at the borders comes back, and the two ends (beyond) are not mixed with what is within
        padded = np.pad(inner, ((0, 0), (1, 1)), mode="edge")
        p[:, 1:-1] = padded[:, :-2] / 4 + inner / 2 + padded[:, 2:] / 4
    return np.asarray(p / p.sum(axis=1, keepdims=True))


def _quantile(p: np.ndarray, grid: np.ndarray, q: float) -> np.ndarray:
    """Quantile of each row, inside its cell by a line; +-inf in the end cells."""
    total = np.cumsum(p, axis=1)
    cell = np.minimum((total < q).sum(axis=1), grid.size - 1)
    row = np.arange(len(p))
    before = np.where(cell > 0, total[row, cell - 1], 0.0)
    share = np.clip((q - before) / np.maximum(p[row, cell], 1e-300), 0, 1)
    step = grid[1] - grid[0]
    value = grid[cell] + (share - 0.5) * step
    return np.where(cell == 0, -np.inf, np.where(cell == grid.size - 1, np.inf, value))


def _widened(medians: np.ndarray, median: float, wells: int, level: float) -> tuple[float, float]:
    """Percentile interval of the draws, widened about the estimate for the few wells they came from."""
    low, high = (float(v) for v in np.quantile(medians, [0.5 - level / 2, 0.5 + level / 2], method="inverted_cdf"))
    if not (np.isfinite(median) and wells > 1):
        return low, high
    # resampling n wells has (n - 1) / n of their variance, and the normal's quantile instead of Student's
    factor = np.sqrt(wells / (wells - 1)) * stats.t.ppf(0.5 + level / 2, wells - 1) / stats.norm.ppf(0.5 + level / 2)
    return median + factor * (low - median), median + factor * (high - median)
