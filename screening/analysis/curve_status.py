"""A word for what kind of answer each fitted curve is, with every reason that holds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from .log_logistic import Array

SHAPE_LEVEL = 0.01  # of lack of fit and of turning around
STATUSES = (
    "not_fitted",
    "no_effect",
    "inverse",
    "below_range",
    "above_range",
    "single_point",
    "slope_at_bound",
    "biphasic",
    "quantified",
)
RULE = (
    "In this order; all that hold are kept in `reasons`. not_fitted: fewer than 5 doses (vehicle counts as one) "
    "or 6 wells. no_effect: Benjamini-Hochberg adjusted p above {alpha:g} (null simulated for the design), or "
    "the fitted effect at the top dose below the larger of {minimum_effect:g} and 3 vehicle SD / sqrt(wells), "
    "unless the doses differ and rise and fall. inverse: the effect goes the wrong way. below_range, "
    "above_range: the EC50 or an end of its profile interval lies outside the tested doses; the other end is a "
    "bound. single_point: only the top dose departs. slope_at_bound: the slope is at its limit, the EC50 lies "
    "between two doses. biphasic: the means turn around (isotonic regression, p < 0.01) or a curve that rises "
    "and falls is better than the sigmoid (F test p < 0.01 and AICc). Otherwise quantified; grade A if the "
    "interval spans at most a factor of 10, two doses lie beyond either bend (Sebaugh 2011) and the means do "
    "not miss the curve, else B. Slopes are looked for within {hill}."
)


def judge(
    table: pd.DataFrame, *, alpha: float, minimum_effect: float, direction: int, hill: tuple[float, float]
) -> pd.DataFrame:
    """Add statuses, reasons, grades and EC50s that stay inside the tested doses; wipe out sigmoids without effect.

    Parameters
    ----------
    table
        What `curves.fit_design` found: columns that start with "_" are used up here.
    alpha, minimum_effect, direction, hill
        As in `curves.fit_curves`.
    """
    t = table.copy()
    t["p_adjusted"], t["_anova"] = _adjusted(t["p_value"]), _adjusted(t["_anova"])
    threshold = np.fmax(3 * t["_noise"] / np.sqrt(t["_top_wells"]), minimum_effect)
    turns = t["shape"].isin(["hormesis", "bell"])
    rescued = turns & (t["_anova"] <= alpha) & (t["_departure"].abs() > threshold)
    cases = _cases(t, threshold, turns, rescued, alpha=alpha, direction=direction, hill=hill)
    t["status"] = np.select(list(cases.values()), list(cases), "quantified").astype(object)
    t["reasons"] = _joined(cases, len(t))

    flat = (t["status"] == "no_effect").to_numpy()
    given = ~flat & (t["status"] != "not_fitted").to_numpy()
    t.loc[flat, ["ec50_fit", "hill", "log10_ec50_se", "profile_low", "profile_high"]] = np.nan
    t.loc[~given, "shape"] = ""
    t.loc[~given, ["shape_p", "ec50_loss", "peak_dose"]] = np.nan
    _bound(t, given)
    well_placed = (t["_high"] - t["_low"] <= 1) & t["relative_placed"].astype(bool) & ~(t["lack_of_fit"] < SHAPE_LEVEL)
    t["grade"] = np.where(t["status"] != "quantified", "", np.where(well_placed, "A", "B")).astype(object)
    remarks = {
        "fewer than 5 doses or 6 wells": t["status"] == "not_fitted",
        "neither end of the EC50's interval is bounded": given & (t["ec50_low"] == 0) & np.isposinf(t["ec50_high"]),
        "slope at its limit": given & cases["slope_at_bound"],
        "the curve misses the means (lack of fit p < 0.01): perhaps two phases": given
        & (t["lack_of_fit"] < SHAPE_LEVEL),
        "an uneven sigmoid (five parameters) fits better": given & (t["shape"] == "five_parameter"),
        "first goes the other way (hormesis)": given & (t["shape"] == "hormesis"),
        "rises and falls back (bell)": given & (t["shape"] == "bell"),
    }
    t["note"] = _joined(remarks, len(t))
    return t[[name for name in t if not str(name).startswith("_")]]


def _cases(
    t: pd.DataFrame,
    threshold: pd.Series,
    turns: pd.Series,
    rescued: pd.Series,
    *,
    alpha: float,
    direction: int,
    hill: tuple[float, float],
) -> dict[str, pd.Series]:
    """Which statuses hold for which curve, in the order of `RULE`."""
    location = np.log10(t["ec50_fit"])
    low_open = ~(t["_low"] >= t["_first"])
    high_open = ~(t["_high"] <= t["_last"])
    middle = (t["_first"] + t["_last"]) / 2
    fitted = t["_effect"].notna()
    below, above = location < t["_first"], location > t["_last"]
    at_limit = np.isclose(t["hill"], hill[0], rtol=1e-4) | np.isclose(t["hill"], hill[1], rtol=1e-4)
    return {
        "not_fitted": ~fitted,
        "no_effect": fitted & ((t["p_adjusted"] > alpha) | (t["_effect"].abs() <= threshold)) & ~rescued,
        "inverse": fitted & (np.where(rescued, t["_departure"], t["_effect"]) * direction < 0),
        "below_range": fitted & ~rescued & ~above & (below | (low_open & ~(high_open & (location > middle)))),
        "above_range": fitted & ~rescued & (above | high_open),
        "single_point": fitted & (t["_others"].abs() <= threshold),
        "slope_at_bound": fitted & pd.Series(at_limit, index=t.index) & ~turns,
        "biphasic": fitted & ((t["non_monotone"] < SHAPE_LEVEL) | turns),
    }


def _bound(t: pd.DataFrame, given: Array) -> None:
    """EC50s and interval ends that lie outside the tested doses become bounds: 0, inf, or the outermost dose."""
    first, last = 10 ** t["_first"], 10 ** t["_last"]
    fit, low, high = t["ec50_fit"].copy(), t["profile_low"].copy(), t["profile_high"].copy()
    # the other shape's EC50 where one was chosen
    other = (t["shape"] != "") & given
    fit[other], low[other], high[other] = (t.loc[other, name] for name in ("_other", "_other_low", "_other_high"))
    point = np.select([fit > last, fit < first], [np.inf, 0.0], fit)
    t["ec50"] = np.where(given, point, np.nan)
    inside = np.clip(low, None, last)
    t["ec50_low"] = np.where(given, np.where(low >= first, inside, 0.0), np.nan)
    t["ec50_high"] = np.where(given, np.where(high <= last, np.maximum(high, first), np.inf), np.nan)
    t["ec50_bound"] = np.where(given, np.where(t["_bound"] <= last, t["_bound"], np.inf), np.nan)
    for name in ("ec50_absolute", "ec50_absolute_low", "ec50_absolute_high"):
        t.loc[~given, name] = np.nan
    outside = ~((t["ec50_absolute"] >= first) & (t["ec50_absolute"] <= last))
    t.loc[outside, ["ec50_absolute", "ec50_absolute_low", "ec50_absolute_high"]] = np.nan
    t.loc[t["ec50_absolute_low"] < first, "ec50_absolute_low"] = 0.0
    t.loc[t["ec50_absolute_high"] > last, "ec50_absolute_high"] = np.inf


def _adjusted(p: pd.Series) -> Array:
    """Benjamini-Hochberg adjusted p-values, NaN where there is none."""
    out, tested = np.full(len(p), np.nan), p.notna().to_numpy()
    if tested.any():
        out[tested] = stats.false_discovery_control(p[tested])
    return out


def _joined(words: dict[str, pd.Series], count: int) -> Array:
    """The words that hold for each curve, "; " between them."""
    code = np.zeros(count, dtype=np.int64)
    for number, holds in enumerate(words.values()):
        code |= np.asarray(holds, dtype=np.int64) << number
    seen, which = np.unique(code, return_inverse=True)
    texts = ["; ".join(word for number, word in enumerate(words) if one >> number & 1) for one in seen]
    return np.array(texts, dtype=object)[which] if count else np.empty(0, dtype=object)
