"""All curves of one design at once: fit, intervals, tests, areas, other shapes, and what to draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from . import log_logistic, no_effect, shape_tests
from .areas import activity_area, mean_response
from .curve_status import SHAPE_LEVEL
from .global_fit import fit
from .log_logistic import ZERO_DOSE, Array, Design, Limits, dose_at
from .other_curves import Other, choose
from .profile_likelihood import profile_ends
from .survey import survey

FEWEST_DOSES, FEWEST_POINTS = 5, 6
CURVE_POINTS = 61
ORDER_LEVEL = 0.6827  # its upper end, one standard error up, is the cautious EC50 that compounds are ordered by


@dataclass(frozen=True)
class Fits:
    """Curves of one design: the table, and the drawn curve with its band, (curve, curve_point) each."""

    table: pd.DataFrame
    dose: Array
    curve: Array
    low: Array
    high: Array


def collapse(log_dose: Array, responses: Array) -> tuple[Design, Array, Array]:
    """Wells of one dose as their mean: the design, (curve, dose) means, (curve,) spread inside doses."""
    unique, inverse, number = np.unique(log_dose, return_inverse=True, return_counts=True)
    means = responses @ np.eye(unique.size)[inverse] / number
    spread = ((responses - means[:, inverse]) ** 2).sum(axis=1)
    return Design(unique, number.astype(float), log_dose.size - unique.size), means, spread


def fit_design(
    design: Design,
    means: Array,
    spread: Array,
    *,
    limits: Limits,
    level: float,
    design_effect: Array,
    noise: Array,
    seed: int,
    fractions: bool = False,
    absolute: float | None = 0.5,
    wells: int | None = None,
    draw: bool = True,
) -> Fits:
    """Fit the curves of one design.

    Parameters
    ----------
    design, means, spread
        What `collapse` gives; (curve, dose) and (curve,), finite.
    limits
        Box of the parameters.
    level
        Of all intervals.
    design_effect, noise
        (curve,): factor of the variance; SD of single wells without effect, NaN if unknown.
    seed
        Of simulated nulls.
    fractions, absolute
        As in `curves.fit_curves`.
    wells
        Number of wells, if it is not that of the design.
    draw
        Whether the curve and its band are wanted over all doses, not only at the top one.
    """
    count = len(means)
    points = design.log_dose.size + design.within
    table = pd.DataFrame({"n": np.full(count, points if wells is None else wells), "doses": design.tested.size})
    if design.log_dose.size < FEWEST_DOSES or points < FEWEST_POINTS or design.tested.size < 2:
        return _unfitted(table, means, spread, design, level, draw)
    weight = design.weight

    grid = survey(design, means, limits)
    curves = fit(design, means, spread, limits=limits, grid=grid)
    uneven = _unevenness(design, curves, limits) if fractions else 1.0
    wide = design_effect * uneven
    wanted = ((level, -1), (level, 1), (ORDER_LEVEL, 1))
    low, high, bound = profile_ends(design, means, spread, curves, wanted, limits=limits, design_effect=wide, grid=grid)
    p = (
        no_effect.p_values(design, means, spread, curves, limits=limits, design_effect=design_effect, seed=seed)
        if no_effect.testable(limits)
        else np.full(count, np.nan)
    )
    drawn = np.linspace(design.tested[0], design.tested[-1], CURVE_POINTS) if draw else design.tested[-1:]
    t = stats.t.ppf(0.5 + level / 2, design.freedom(limits))
    ends = (min(limits.bottom[0], limits.top[0]), max(limits.bottom[1], limits.top[1]))
    se, location_se, absolute_se = log_logistic.band(
        design, curves, drawn, limits=limits, design_effect=design_effect, level=absolute
    )
    curve = curves.at(drawn)
    fixed = limits.bottom[0] == limits.bottom[1]
    start = curves.bottom if fixed else curves.at(design.log_dose[:1])[:, 0]
    met = dose_at(curves, absolute) if absolute is not None else np.full(count, np.nan)
    lack = shape_tests.lack_of_fit(curves, spread, design, limits, design_effect)
    turning, left = shape_tests.non_monotone(design, means, spread, curves, design_effect=design_effect, seed=seed)
    anova = shape_tests.doses_differ(means, spread, design, design_effect)
    other = _others(design, means, spread, curves, (p, lack, turning, left, anova), limits, design_effect, drawn)
    effect = curve[:, -1] - start
    otherwise = (other.name != "")[:, None]
    curve, se = np.where(otherwise, other.curve, curve), np.where(otherwise, other.curve_se, se)
    band_low, band_high = (np.clip(curve + sign * t * se, *ends) for sign in (-1, 1))
    first, last = design.tested[0], design.tested[-1]
    with np.errstate(over="ignore"):
        table = table.assign(
            ec50_fit=10**curves.location,
            profile_low=10**low,
            profile_high=10**high,
            ec50_absolute=10**met,
            ec50_absolute_low=10 ** (met - t * absolute_se),
            ec50_absolute_high=10 ** (met + t * absolute_se),
            _other=10**other.location,
            _other_low=10 ** (other.location - t * other.location_se),
            _other_high=10 ** (other.location + t * other.location_se),
            ec50_loss=10**other.loss,
            peak_dose=10**other.peak,
            _bound=10**bound,
        )
    table = table.assign(
        _low=low,
        _high=high,
        bottom=curves.bottom,
        top=curves.top,
        hill=curves.hill,
        rss=curves.rss,
        log10_ec50_se=location_se,
        emax=curve[:, -1],
        emax_low=band_low[:, -1],
        emax_high=band_high[:, -1],
        auc=mean_response(curves, first, last),
        aac=activity_area(curves, first, last),
        p_value=p,
        lack_of_fit=lack,
        non_monotone=turning,
        shape=other.name,
        shape_p=other.p_value,
        relative_placed=_bends(curves, design),
        absolute_placed=_straddled(curves, design, absolute),
        _anova=anova,
        _effect=effect,
        _departure=other.departure,
        _top_wells=weight[-1],
        _noise=noise,
        _first=first,
        _last=last,
        _others=_departure_below_top(means, start, weight),
    )
    if not draw:
        return Fits(table, *(np.empty((count, 0)) for _ in range(4)))
    doses = np.broadcast_to(10**drawn, curve.shape)
    return Fits(table, doses, curve, band_low, band_high)


def _others(
    design: Design,
    means: Array,
    spread: Array,
    curves: log_logistic.Curves,
    tests: tuple[Array, Array, Array, Array, Array],
    limits: Limits,
    design_effect: Array,
    drawn: Array,
) -> Other:
    """Other shapes for the curves that ask for one.

    They ask by lack of fit, by turning around, or by doses that differ without a sigmoid (all p < 0.01).
    Without replicates there is no such test: then by a misfit half of which no monotone curve could mend.
    """
    p, lack, turning, left, anova = tests
    asked = (lack < SHAPE_LEVEL) | (turning < SHAPE_LEVEL) | ((anova < SHAPE_LEVEL) & ~(p < SHAPE_LEVEL))
    if design.within < 1:
        asked = left > 0.5 * curves.rss
    rows = np.flatnonzero(asked)
    some = choose(
        design,
        means[rows],
        spread[rows],
        log_logistic.Curves(*curves.packed()[:, rows]),
        limits=limits,
        design_effect=design_effect[rows],
        drawn=drawn,
    )
    out = {}
    for name, values in vars(some).items():
        whole = np.full((len(means), *values.shape[1:]), "" if name == "name" else np.nan, dtype=values.dtype)
        whole[rows] = values
        out[name] = whole
    return Other(**out)


def _unfitted(table: pd.DataFrame, means: Array, spread: Array, design: Design, level: float, draw: bool) -> Fits:
    """Too few doses for a curve: the mean at the top dose, its interval from the spread of all curves together."""
    count = len(table)
    mean = means[:, -1] if design.tested.size else np.full(count, np.nan)
    half = np.full(count, np.nan)
    if design.within and design.tested.size:
        half = (
            stats.t.ppf(0.5 + level / 2, design.within * count)
            * np.sqrt(spread.mean() / design.within / design.weight[-1])
            * np.ones(count)
        )
    names = """
        ec50_fit profile_low profile_high ec50_absolute ec50_absolute_low ec50_absolute_high _other _other_low
        _other_high ec50_loss peak_dose _bound _low _high bottom top hill rss log10_ec50_se auc aac p_value
        lack_of_fit non_monotone shape_p _anova _effect _departure _top_wells _noise _first _last _others
        """
    table = table.assign(shape="", relative_placed=False, absolute_placed=False)
    nothing = np.full((count, CURVE_POINTS if draw else 0), np.nan)
    table = table.assign(**dict.fromkeys(names.split(), np.nan), emax=mean, emax_low=mean - half, emax_high=mean + half)
    return Fits(table, nothing, nothing.copy(), nothing.copy(), nothing.copy())


def stack(fits: list[Fits]) -> Fits:
    """Curves of several designs as one."""
    drawn = (np.concatenate([getattr(f, name) for f in fits]) for name in ("dose", "curve", "low", "high"))
    return Fits(pd.concat([f.table for f in fits]), *drawn)


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


def _bends(curves: log_logistic.Curves, design: Design) -> Array:
    """Whether two doses lie beyond either bend point of the curve; vehicle counts at the lower one."""
    reach = np.log10(4.6805) / curves.hill  # Sebaugh & McCray 2003
    before = (design.log_dose[None, :] <= (curves.location - reach)[:, None]).sum(axis=1)
    after = (design.log_dose[None, :] >= (curves.location + reach)[:, None]).sum(axis=1)
    placed: Array = (before >= 2) & (after >= 2)
    return placed


def _straddled(curves: log_logistic.Curves, design: Design, level: float | None) -> Array:
    """Whether two doses are predicted to lie on either side of an absolute level (Sebaugh 2011)."""
    if level is None:
        return np.zeros(curves.hill.size, dtype=bool)
    fitted = curves.at(design.log_dose)
    placed: Array = ((fitted < level).sum(axis=1) >= 2) & ((fitted > level).sum(axis=1) >= 2)
    return placed


def _departure_below_top(means: Array, start: Array, weight: Array) -> Array:
    """Largest departure from the curve's start below the top dose, scaled to the top dose's wells."""
    departure = (means[:, :-1] - start[:, None]) * np.sqrt(np.minimum(weight[:-1] / weight[-1], 1.0))
    largest = np.abs(departure).argmax(axis=1)
    found: Array = departure[np.arange(len(means)), largest]
    return found
