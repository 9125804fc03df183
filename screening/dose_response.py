"""How much compound it takes: EC50 with an honest interval, or a bound, or the word that there is no effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from . import log_logistic, no_effect, wells
from .log_logistic import ZERO_DOSE, Array, Design, Limits

FEWEST_DOSES, FEWEST_POINTS = 5, 6
CURVE_POINTS = 61
ORDER_LEVEL = (
    0.6827  # its upper end, one standard error up, is the cautious EC50 that compounds are ordered by
)
RULE = (
    "In this order. not_fitted: fewer than 5 doses (vehicle counts as one) or 6 wells. no_effect: "
    "Benjamini-Hochberg adjusted p above {alpha:g} (null simulated for the design), or the fitted effect "
    "at the top dose below the larger of {minimum_effect:g} and 3 vehicle SD / sqrt(wells). inverse: the "
    "effect goes the wrong way. below_range, above_range: the EC50 or the end of its profile interval lies "
    "outside what was tested, the other end is a bound. single_point: only the top dose departs. Otherwise "
    "quantified; grade A if the interval spans at most a factor of 10 and two doses lie beyond either bend "
    "(Sebaugh 2011), else B. Slopes are looked for within {hill}."
)


def fit_dose_response(
    plates: Sequence[xr.Dataset],
    *,
    timepoint: int = -1,
    level: float = 0.95,
    alpha: float = 0.01,
    minimum_effect: float = 0.05,
    hill: tuple[float, float] = (0.1, 20.0),
    seed: int = 0,
) -> xr.Dataset:
    """Fit death and each death pathway against dose, for every compound over all plates together.

    The response is the excess over each plate's own vehicle (`normalization.normalize`). Vehicle wells
    enter as dose 0: one mean with the weight of its wells but not their spread, because fractions near 0
    scatter less than those near a half and would make the curve look better known than it is; for the same
    reason the EC50's interval is widened by the variance of the wells on the slope over that of the average
    well. Every treated well is a point; wells of one compound that share a plate share its mistakes, so
    where plates disagree more than their wells do the variance is multiplied by the pooled ratio of the two
    (`design_effect`). Wells of a single plate are technical replicates: their interval does not hold the
    spread from plate to plate.

    Parameters
    ----------
    plates
        `normalized` or `fractions` of each plate.
    timepoint
        Position of the timepoint that is read.
    level
        Of all intervals.
    alpha
        False discovery rate up to which a compound has an effect, over all compounds and readouts.
    minimum_effect
        Smallest excess over vehicle at the top dose that is called an effect.
    hill
        Limits of the slope, on which intervals of steep curves depend.
    seed
        Of the simulated null.

    Returns
    -------
    Dataset
        Group `dose_response`. `ec50` is NaN where there is none, inf above the tested doses and 0 below
        them; `ec50_low`, `ec50_high` are 0 and inf where unbounded; `ec50_bound` is the upper end of the 68
        % interval; `ec50_fit` is the drawn curve's parameter, also where it is an extrapolation. `bottom`
        is the fitted response at dose 0, `top` the one at infinite dose, `emax` the one at the top tested
        dose. (compound, dose_index, replicate): `dose` (uM, NaN where there is no well), `plate`, `well`;
        `response` has a readout besides.
    """
    pooled = wells.pool_wells(plates)
    frame = wells.table(pooled, timepoint=timepoint)
    names = wells.compounds(pooled)
    effects = {readout: _plate_effect(frame, readout) for readout in wells.READOUTS}
    limits = Limits((pooled.attrs["floor"], 1.0), (pooled.attrs["floor"], 1.0), hill)
    fits = _fit_compounds(frame, names, effects, limits=limits, level=level, seed=seed)
    if fits is not None:
        table = _judge(fits, alpha=alpha, minimum_effect=minimum_effect, direction=1, hill=hill)
        fits = replace(fits, table=table)
    reading = pooled.response.isel(timepoint=timepoint)
    return _dataset(fits, frame, names).assign_attrs(
        timepoint=int(plates[0].timepoint.values[timepoint]),
        hours=float(np.nanmean(pooled.hours.isel(timepoint=timepoint))) if reading.size else float("nan"),
        rule=RULE.format(alpha=alpha, minimum_effect=minimum_effect, hill=list(hill)),
        response="excess over vehicle, (x - vehicle) / (1 - vehicle death)",
        level=level,
        dose_unit="uM",
        design_effect=[effects[readout] for readout in wells.READOUTS],
        plates=len(plates),
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
        raise ValueError(
            f"expected (curve, {dose.size}) responses and doses >= 0, got {responses.shape}, {dose}"
        )
    limits = Limits(bottom, top, hill)
    present = np.isfinite(responses)
    parts = []
    for pattern in np.unique(present, axis=0):
        rows = np.flatnonzero((present == pattern).all(axis=1))
        with np.errstate(divide="ignore"):
            log_dose = np.where(dose[pattern] > 0, np.log10(dose[pattern]), ZERO_DOSE)
        group = _group(
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
    table = _judge(_stack(parts), alpha=alpha, minimum_effect=minimum_effect, direction=direction, hill=hill)
    return table.sort_index()


@dataclass(frozen=True)
class _Fits:
    """Curves of one design: the table, and the drawn curve with its band, (curve, curve_point) each."""

    table: pd.DataFrame
    dose: Array
    curve: Array
    low: Array
    high: Array


def _fit_compounds(
    frame: pd.DataFrame,
    names: list[str],
    effects: dict[str, float],
    *,
    limits: Limits,
    level: float,
    seed: int,
) -> _Fits | None:
    """All compounds, those with the same doses and numbers of wells in one batch; tables are indexed by name, readout."""
    treated = frame[~frame["vehicle"]]
    vehicle = frame[frame["vehicle"]]
    noise = np.array([wells.vehicle_spread(frame, readout) for readout in wells.READOUTS])
    centre = vehicle[list(wells.READOUTS)].median().to_numpy() if len(vehicle) else None
    designs: dict[tuple[float, ...], list[str]] = {}
    for name in names:
        doses = tuple(sorted(treated.loc[treated["compound"] == name, "log_dose"]))
        designs.setdefault(doses, []).append(name)
    fits = []
    for doses, group in designs.items():
        rows = [
            treated[treated["compound"] == name].sort_values(["log_dose", "plate", "well"]) for name in group
        ]
        responses = np.concatenate([part[list(wells.READOUTS)].to_numpy().T for part in rows])
        repeat = len(group)
        fitted = _group(
            np.array(doses),
            responses,
            limits=limits,
            level=level,
            seed=seed,
            design_effect=np.tile([effects[readout] for readout in wells.READOUTS], repeat),
            noise=np.tile(noise, repeat),
            fractions=True,
            # a median is as good as the mean of 2 / pi as many wells
            vehicle=None if centre is None else (np.tile(centre, repeat), len(vehicle) * 2 / np.pi),
        )
        index = pd.MultiIndex.from_product([group, wells.READOUTS], names=["compound", "readout"])
        fits.append(replace(fitted, table=fitted.table.set_index(index)))
    return _stack(fits) if fits else None


def _stack(fits: list[_Fits]) -> _Fits:
    drawn = (np.concatenate([getattr(f, name) for f in fits]) for name in ("dose", "curve", "low", "high"))
    return _Fits(pd.concat([f.table for f in fits]), *drawn)


def _group(
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
) -> _Fits:
    """Fit the curves of one design: (point,) doses, (curve, point) finite responses, vehicle as (mean, weight)."""
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
    curves, low, high = log_logistic.profile(
        design, means, spread, curves, limits=limits, level=level, design_effect=design_effect * uneven
    )
    _, _, bound = log_logistic.profile(
        design, means, spread, curves, limits=limits, level=ORDER_LEVEL, design_effect=design_effect * uneven
    )
    testable = limits.parameters == 4
    p = (
        no_effect.p_values(
            design, means, spread, curves, limits=limits, design_effect=design_effect, seed=seed
        )
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
    return _Fits(table, doses, curve, band_low, band_high)


def _unfitted(table: pd.DataFrame, means: Array, spread: Array, design: Design, level: float) -> _Fits:
    """Too few doses for a curve: the mean at the top dose is all there is to tell."""
    count = len(table)
    nothing = np.full((count, CURVE_POINTS), np.nan)
    mean = means[:, -1] if design.tested.size else np.full(count, np.nan)
    half = np.full(count, np.nan)
    if design.within and design.tested.size:
        half = stats.t.ppf(0.5 + level / 2, design.within) * np.sqrt(
            spread / design.within / design.weight[-1]
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
    table = table.assign(
        **dict.fromkeys(names, np.nan), emax=mean, emax_low=mean - half, emax_high=mean + half
    )
    return _Fits(table, nothing, nothing.copy(), nothing.copy(), nothing.copy())


def _judge(
    fits: _Fits, *, alpha: float, minimum_effect: float, direction: int, hill: tuple[float, float]
) -> pd.DataFrame:
    """The table with a status for every curve, in the order of `RULE`; sigmoids of no effect are wiped out."""
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
    return np.maximum(telling / average, 1.0)


def _lack_of_fit(curves: log_logistic.Curves, spread: Array, design: Design, limits: Limits) -> Array:
    """p-value of the means missing the curve, against the wells' spread inside doses; NaN without replicates."""
    extra = design.log_dose.size - limits.parameters
    if extra < 1 or design.within < 1:
        return np.full(spread.size, np.nan)
    pure = spread / design.within
    missed = np.maximum(curves.rss - spread, 0) / extra
    ratio = np.divide(missed, pure, out=np.full(spread.size, np.nan), where=pure > 0)
    p: Array = stats.f.sf(ratio, extra, design.within)
    return p


def _bends(curves: log_logistic.Curves, design: Design) -> np.ndarray:
    """Whether two doses lie beyond either bend point of the curve; vehicle counts at the lower one."""
    reach = np.log10(4.6805) / curves.hill  # Sebaugh & McCray 2003
    before = (design.log_dose[None, :] <= (curves.location - reach)[:, None]).sum(axis=1)
    after = (design.log_dose[None, :] >= (curves.location + reach)[:, None]).sum(axis=1)
    return (before >= 2) & (after >= 2)


def _departure_below_top(means: Array, start: Array, weight: Array) -> Array:
    """Largest departure from the curve's start among all doses but the top one, scaled to the top dose's wells."""
    departure = (means[:, :-1] - start[:, None]) * np.sqrt(np.minimum(weight[:-1] / weight[-1], 1.0))
    largest = np.abs(departure).argmax(axis=1)
    return departure[np.arange(len(means)), largest]


def _plate_effect(frame: pd.DataFrame, readout: str) -> float:
    """How much more plates disagree about a compound than its wells do: ratio of mean squares, at least 1.

    Two-way layout (dose, plate) within each compound, pooled over compounds, because the two or three
    plates of one compound cannot tell their spread.
    """
    treated = frame[~frame["vehicle"]]
    cells = treated.groupby(["compound", "log_dose", "plate"])[readout].mean().unstack("plate")
    between = within = 0.0
    between_df = within_df = 0
    for _, block in cells.groupby(level="compound"):
        block = block.dropna(axis=1, how="all").dropna()
        doses, plates = block.shape
        if plates < 2 or doses < 2:
            continue
        values = block.to_numpy()
        column = values.mean(axis=0) - values.mean()
        rest = values - values.mean(axis=1, keepdims=True) - column
        between += doses * float((column**2).sum())
        within += float((rest**2).sum())
        between_df += plates - 1
        within_df += (plates - 1) * (doses - 1)
    if not between_df or within <= 0:
        return 1.0
    return max(1.0, (between / between_df) / (within / within_df))


def _dataset(fits: _Fits | None, frame: pd.DataFrame, names: list[str]) -> xr.Dataset:
    """Tables, points and drawn curves as one Dataset, compounds in the given order."""
    index = pd.MultiIndex.from_product([names, wells.READOUTS], names=["compound", "readout"])
    shape = (len(names), len(wells.READOUTS))
    numbers = (
        "ec50",
        "ec50_low",
        "ec50_high",
        "ec50_bound",
        "ec50_fit",
        "bottom",
        "top",
        "hill",
        "emax",
        "emax_low",
        "emax_high",
        "p_value",
        "p_adjusted",
        "rss",
        "n",
        "doses",
    )
    texts = ("status", "grade", "note")
    table = fits.table if fits else pd.DataFrame(index=index, columns=[*numbers, *texts])
    place = index.get_indexer(table.index)
    pairs = ("compound", "readout")
    variables: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    for name in (*numbers, *texts):
        values = np.empty(len(index), dtype=object if name in texts else float)
        values[place] = table[name].to_numpy()
        variables[name] = (pairs, values.reshape(shape))
    for name, field in (
        ("curve_dose", "dose"),
        ("curve", "curve"),
        ("curve_low", "low"),
        ("curve_high", "high"),
    ):
        drawn = np.full((len(index), CURVE_POINTS), np.nan)
        if fits:
            drawn[place] = getattr(fits, field)
        variables[name] = ((*pairs, "curve_point"), drawn.reshape(*shape, CURVE_POINTS))
    variables |= _points(frame, names)
    dataset = xr.Dataset(
        variables, coords={"compound": np.array(names, dtype=object), "readout": list(wells.READOUTS)}
    )
    for name in ("ec50", "ec50_low", "ec50_high", "ec50_bound", "ec50_fit", "curve_dose", "dose"):
        dataset[name].attrs["units"] = "uM"
    return dataset


def _points(frame: pd.DataFrame, names: list[str]) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Every treated well in its place: (compound, dose_index, replicate), replicates counted over all plates."""
    treated = frame[~frame["vehicle"]].sort_values(["compound", "log_dose", "plate", "replicate", "well"])
    if treated.empty:
        treated = treated.assign(_dose=[], _well=[])
        shape = (len(names), 0, 0)
    else:
        treated = treated.assign(
            _dose=treated.groupby("compound")["log_dose"].rank("dense").astype(int) - 1,
            _well=treated.groupby(["compound", "log_dose"]).cumcount(),
        )
        shape = (len(names), int(treated["_dose"].max()) + 1, int(treated["_well"].max()) + 1)
    at = (
        pd.Index(names).get_indexer(treated["compound"]),
        treated["_dose"].to_numpy(int),
        treated["_well"].to_numpy(int),
    )
    dims = ("compound", "dose_index", "replicate")
    dose = np.full(shape, np.nan)
    dose[at] = treated["dose"]
    response = np.full((*shape, len(wells.READOUTS)), np.nan)
    response[at] = treated[list(wells.READOUTS)]
    plate, well = (np.full(shape, "", dtype=object) for _ in range(2))
    plate[at], well[at] = treated["plate"], treated["well"]
    return {
        "dose": (dims, dose),
        "response": (("compound", "readout", "dose_index", "replicate"), np.moveaxis(response, -1, 1)),
        "plate": (dims, plate),
        "well": (dims, well),
    }
