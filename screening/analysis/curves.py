"""Responses against dose: curves, their intervals, and a word for what kind of answer each of them is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from . import log_logistic, no_effect
from .log_logistic import ZERO_DOSE, Array, Design, Limits
from .profile_likelihood import profile

FEWEST_DOSES, FEWEST_POINTS = 5, 6
CURVE_POINTS = 61
ORDER_LEVEL = 0.6827  # its upper end, one standard error up, is the cautious EC50 that compounds are ordered by
RULE = (
    "In this order. not_fitted: fewer than 5 doses (vehicle counts as one) or 6 wells. no_effect: "
    "Benjamini-Hochberg adjusted p above {alpha:g} (null simulated for the design), or the fitted effect "
    "at the top dose below the larger of {minimum_effect:g} and 3 vehicle SD / sqrt(wells). inverse: the "
    "effect goes the wrong way. below_range, above_range: the EC50 or the end of its profile interval lies "
    "outside what was tested, the other end is a bound. single_point: only the top dose departs. Otherwise "
    "quantified; grade A if the interval spans at most a factor of 10 and two doses lie beyond either bend "
    "(Sebaugh 2011), else B. Slopes are looked for within {hill}."
)


def fit_curves(
    dose: Array,
    responses: Array,
    *,
    bottom: tuple[float, float] = (-np.inf, np.inf),
    top: tuple[float, float] = (-np.inf, np.inf),
    hill: tuple[float, float] = (0.1, 20.0),
    level: float = 0.95,
    alpha: float = 0.01,
    minimum_effect: float = 0.0,
    noise: float = float("nan"),
    direction: int = 0,
    design_effect: float = 1.0,
    fractions: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """Fit four-parameter log-logistic curves to plain arrays.

    Parameters
    ----------
    dose
        (point,) uM; vehicle is 0. Replicates repeat the dose.
    responses
        (curve, point); NaN where a well is missing.
    bottom, top
        Limits of the response at dose 0 and at infinite dose, (0, 1) for fractions. Equal limits fix it
        (three parameters left; then there is no test for an effect).
    hill
        Limits of the slope.
    level, alpha, minimum_effect, seed
        As in `fit_dose_response`.
    noise
        SD of single wells without effect, if known from elsewhere.
    direction
        1 if only rising curves count as an effect, -1 if only falling ones, 0 if both do.
    design_effect
        Factor of the variance for wells that are not independent.
    fractions
        Responses are fractions, which scatter most near a half: widen the EC50's interval accordingly.

    Returns
    -------
    DataFrame
        One row per curve: ec50, ec50_low, ec50_high, ec50_bound, ec50_fit, bottom, top, hill, rss,
        log10_ec50_se (Gauss-Newton), emax, emax_low, emax_high, p_value, p_adjusted, status, grade, note,
        n, doses.
    """
    dose, responses = np.asarray(dose, dtype=float), np.atleast_2d(np.asarray(responses, dtype=float))
    if responses.shape[1] != dose.size or (dose < 0).any() or not np.isfinite(dose).all():
        raise ValueError(f"expected (curve, {dose.size}) responses and doses >= 0, got {responses.shape}, {dose}")
    limits = Limits(bottom, top, hill)
    present = np.isfinite(responses)
    parts = []
    for pattern in np.unique(present, axis=0):
        rows = np.flatnonzero((present == pattern).all(axis=1))
        with np.errstate(divide="ignore"):
            log_dose = np.where(dose[pattern] > 0, np.log10(dose[pattern]), ZERO_DOSE)
        group = fit_design(
            log_dose,
            responses[np.ix_(rows, pattern)],
            limits=limits,
            level=level,
            design_effect=np.full(rows.size, design_effect),
            noise=np.full(rows.size, noise),
            seed=seed,
            fractions=fractions,
        )
        parts.append(replace(group, table=group.table.set_index(rows)))
    table = judge(stack(parts), alpha=alpha, minimum_effect=minimum_effect, direction=direction, hill=hill)
    return table.sort_index()


@dataclass(frozen=True)
class Fits:
    """Curves of one design: the table, and the drawn curve with its band, (curve, curve_point) each."""

    table: pd.DataFrame
    dose: Array
    curve: Array
    low: Array
    high: Array


def fit_design(
    log_dose: Array,
    responses: Array,
    *,
    limits: Limits,
    level: float,
    design_effect: Array,
    noise: Array,
    seed: int,
    fractions: bool,
    vehicle: tuple[Array, float] | None = None,
) -> Fits:
    """Fit the curves of one design: (curve, point) finite responses, vehicle as (means, weight)."""
    count = len(responses)
    unique, inverse, number = np.unique(log_dose, return_inverse=True, return_counts=True)
    membership = np.eye(unique.size)[inverse]  # (point, dose)
    means = responses @ membership / number
    spread = ((responses - means[:, inverse]) ** 2).sum(axis=1)
    weight = number.astype(float)
    within = log_dose.size - unique.size
    points = log_dose.size
    if vehicle is not None:
        unique, weight = np.r_[ZERO_DOSE, unique], np.r_[vehicle[1], weight]
        means, points = np.column_stack([vehicle[0], means]), points + 1
    design = Design(unique, weight, within)
    table = pd.DataFrame({"n": np.full(count, log_dose.size), "doses": design.tested.size})
    if unique.size < FEWEST_DOSES or points < FEWEST_POINTS or design.tested.size < 2:
        return _unfitted(table, means, spread, design, level)

    curves = log_logistic.fit(design, means, spread, limits=limits)
    uneven = _unevenness(design, curves, limits) if fractions else 1.0
    curves, low, high = profile(
        design, means, spread, curves, limits=limits, level=level, design_effect=design_effect * uneven
    )
    _, _, bound = profile(
        design, means, spread, curves, limits=limits, level=ORDER_LEVEL, design_effect=design_effect * uneven
    )
    testable = limits.parameters == 4
    p = (
        no_effect.p_values(design, means, spread, curves, limits=limits, design_effect=design_effect, seed=seed)
        if testable
        else np.full(count, np.nan)
    )
    drawn = np.linspace(design.tested[0], design.tested[-1], CURVE_POINTS)
    t = stats.t.ppf(0.5 + level / 2, design.freedom(limits))
    ends = (min(limits.bottom[0], limits.top[0]), max(limits.bottom[1], limits.top[1]))
    se, location_se = log_logistic.band(design, curves, drawn, limits=limits, design_effect=design_effect)
    curve = curves.at(drawn)
    band_low, band_high = (np.clip(curve + sign * t * se, *ends) for sign in (-1, 1))
    start = curves.at(design.log_dose[:1])[:, 0]
    table = table.assign(
        ec50_fit=10**curves.location,
        _low=low,
        _high=high,
        _bound=bound,
        bottom=curves.bottom,
        top=curves.top,
        hill=curves.hill,
        rss=curves.rss,
        log10_ec50_se=location_se,
        emax=curve[:, -1],
        emax_low=band_low[:, -1],
        emax_high=band_high[:, -1],
        p_value=p,
        _effect=curve[:, -1] - start,
        _top_wells=weight[-1],
        _noise=noise,
        _first=design.tested[0],
        _last=design.tested[-1],
        _lack=_lack_of_fit(curves, spread, design, limits),
        _bends=_bends(curves, design).astype(float),
        _others=_departure_below_top(means, start, weight),
    )
    doses = np.broadcast_to(10**drawn, curve.shape)
    return Fits(table, doses, curve, band_low, band_high)


def _unfitted(table: pd.DataFrame, means: Array, spread: Array, design: Design, level: float) -> Fits:
    """Too few doses for a curve: the mean at the top dose, its interval from the spread of all curves together."""
    count = len(table)
    nothing = np.full((count, CURVE_POINTS), np.nan)
    mean = means[:, -1] if design.tested.size else np.full(count, np.nan)
    half = np.full(count, np.nan)
    if design.within and design.tested.size:
        half = (
            stats.t.ppf(0.5 + level / 2, design.within * count)
            * np.sqrt(spread.mean() / design.within / design.weight[-1])
            * np.ones(count)
        )
    names = (
        "ec50_fit",
        "bottom",
        "top",
        "hill",
        "rss",
        "log10_ec50_se",
        "p_value",
        "_low",
        "_high",
        "_bound",
        "_effect",
        "_top_wells",
        "_noise",
        "_first",
        "_last",
        "_lack",
        "_bends",
        "_others",
    )
    table = table.assign(**dict.fromkeys(names, np.nan), emax=mean, emax_low=mean - half, emax_high=mean + half)
    return Fits(table, nothing, nothing.copy(), nothing.copy(), nothing.copy())


def stack(fits: list[Fits]) -> Fits:
    """Curves of several designs as one."""
    drawn = (np.concatenate([getattr(f, name) for f in fits]) for name in ("dose", "curve", "low", "high"))
    return Fits(pd.concat([f.table for f in fits]), *drawn)


def judge(
    fits: Fits, *, alpha: float, minimum_effect: float, direction: int, hill: tuple[float, float]
) -> pd.DataFrame:
    """A status for every curve, in the order of `RULE`; sigmoids without effect are wiped out."""
    t = fits.table.copy()
    tested = t["p_value"].notna().to_numpy()
    adjusted = np.full(len(t), np.nan)
    if tested.any():
        adjusted[tested] = stats.false_discovery_control(t.loc[tested, "p_value"])
    t["p_adjusted"] = adjusted
    threshold = np.fmax(3 * t["_noise"] / np.sqrt(t["_top_wells"]), minimum_effect)
    location = np.log10(t["ec50_fit"])
    open_low, open_high = np.isneginf(t["_low"]), np.isposinf(t["_high"])
    middle = (t["_first"] + t["_last"]) / 2
    cases = {
        "not_fitted": t["_effect"].isna(),
        "no_effect": (t["p_adjusted"] > alpha) | (t["_effect"].abs() <= threshold),
        "inverse": t["_effect"] * direction < 0,
        "below_range": (location < t["_first"]) | (open_low & ~(open_high & (location > middle))),
        "above_range": (location > t["_last"]) | open_high,
        "single_point": t["_others"].abs() <= threshold,
    }
    t["status"] = np.select(list(cases.values()), list(cases), "quantified").astype(object)

    flat = (t["status"] == "no_effect").to_numpy()
    t.loc[flat, ["ec50_fit", "hill", "log10_ec50_se"]] = np.nan
    for values in (fits.curve, fits.low, fits.high):
        values[flat] = np.nan

    given = ~t["status"].isin(["not_fitted", "no_effect"])
    point = np.select([location > t["_last"], location < t["_first"]], [np.inf, 0.0], t["ec50_fit"])
    t["ec50"] = np.where(given, point, np.nan)
    t["ec50_low"] = np.where(given, 10 ** t["_low"], np.nan)
    t["ec50_high"] = np.where(given, 10 ** t["_high"], np.nan)
    t["ec50_bound"] = np.where(given, 10 ** t["_bound"], np.nan)
    well_placed = (t["_high"] - t["_low"] <= 1) & (t["_bends"] == 1)
    t["grade"] = np.where(t["status"] != "quantified", "", np.where(well_placed, "A", "B")).astype(object)
    at_limit = np.isclose(t["hill"], hill[0], rtol=1e-6) | np.isclose(t["hill"], hill[1], rtol=1e-6)
    remarks = {
        "fewer than 5 doses or 6 wells": ~given & ~flat,
        "neither end of the EC50's interval is bounded": given & open_low & open_high,
        "slope at its limit": given & at_limit,
        "the curve misses the means (lack of fit p < 0.01): perhaps two phases": given & (t["_lack"] < 0.01),
    }
    notes = [[text for text, holds in remarks.items() if holds.iloc[i]] for i in range(len(t))]
    t["note"] = np.array(["; ".join(texts) for texts in notes], dtype=object)
    return t[[name for name in t if not str(name).startswith("_")]]


def _unevenness(design: Design, curves: log_logistic.Curves, limits: Limits) -> Array:
    """How much more the wells that tell the EC50 scatter than the average treated well, at least 1, (curve,).

    The variance of a fraction p goes as p (1 - p): wells on the slope scatter more than those on the
    plateaus, from which most of the residual variance comes. This is the ratio of the sandwich to the plain
    variance of log10 EC50.
    """
    p = np.clip(curves.at(design.log_dose), 0, 1)
    variance = p * (1 - p) + 0.01  # no well is free of all scatter
    treated = design.log_dose > ZERO_DOSE
    average = variance[:, treated] @ design.weight[treated] / design.weight[treated].sum()
    telling = (log_logistic.information(design, curves, limits=limits) * variance).sum(axis=1)
    factor: Array = np.maximum(telling / average, 1.0)
    return factor


def _lack_of_fit(curves: log_logistic.Curves, spread: Array, design: Design, limits: Limits) -> Array:
    """p-value of the means missing the curve, by the wells' spread; NaN without replicates."""
    extra = design.log_dose.size - limits.parameters
    if extra < 1 or design.within < 1:
        return np.full(spread.size, np.nan)
    pure = spread / design.within
    missed = np.maximum(curves.rss - spread, 0) / extra
    ratio = np.divide(missed, pure, out=np.full(spread.size, np.nan), where=pure > 0)
    p: Array = stats.f.sf(ratio, extra, design.within)
    return p


def _bends(curves: log_logistic.Curves, design: Design) -> Array:
    """Whether two doses lie beyond either bend point of the curve; vehicle counts at the lower one."""
    reach = np.log10(4.6805) / curves.hill  # Sebaugh & McCray 2003
    before = (design.log_dose[None, :] <= (curves.location - reach)[:, None]).sum(axis=1)
    after = (design.log_dose[None, :] >= (curves.location + reach)[:, None]).sum(axis=1)
    placed: Array = (before >= 2) & (after >= 2)
    return placed


def _departure_below_top(means: Array, start: Array, weight: Array) -> Array:
    """Largest departure from the curve's start below the top dose, scaled to the top dose's wells."""
    departure = (means[:, :-1] - start[:, None]) * np.sqrt(np.minimum(weight[:-1] / weight[-1], 1.0))
    largest = np.abs(departure).argmax(axis=1)
    found: Array = departure[np.arange(len(means)), largest]
    return found
