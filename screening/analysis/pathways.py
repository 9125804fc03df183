"""By which pathway a compound kills at each dose, and the dose at which it changes its way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special, stats

from plates.states import DEAD

from .pathway_model import PARAMETERS, Fit, Wells, effect_and_split, fit, moved, weak_penalty
from .pathway_switch import active_from, profile_switch

Array: TypeAlias = NDArray[Any]

FEWEST_DOSES = 4
CHANGING = 4  # parameters by which a split may change with dose
FEWEST_REPLICATES = 8  # degrees of freedom between replicate wells below which their spread is not known
LEAST_DISPERSION = 0.05  # identical replicates are copies, not a measure of certainty
CURVE_POINTS = 61
DRAWS = 400
RULE = (
    "In this order. not_fitted: fewer than 4 doses with cells. no_effect: the fitted excess death at the top dose is "
    "below {minimum_effect:g}, or the test against no deaths beyond vehicle has p > {alpha:g}. constant: the test "
    "against a split that does not depend on dose has p > {alpha:g}. switch: the pathway with the most deaths changes "
    "between the lowest active dose (excess death of {minimum_effect:g}) and the top dose. shift: the split changes, "
    "the leading pathway does not; the switching dose is a bound outside the active doses."
)


@dataclass(frozen=True)
class PathwayFits:
    """Compounds with their split among pathways.

    `table` has one row a compound, see `fit_pathways`; `shares` one column a quantity over (compound, pathway);
    `dose`, `curve`, `low`, `high`: excess death of each pathway, (compound, curve_point[, pathway]). `theta` and
    `dispersion` belong to `pathway_model`.
    """

    table: pd.DataFrame
    shares: dict[str, Array]
    dose: Array
    curve: Array
    low: Array
    high: Array
    theta: Array
    dispersion: float
    freedom: int


def fit_pathways(
    dose: Array,
    counts: Array,
    *,
    background: Array,
    level: float = 0.95,
    alpha: float = 0.01,
    minimum_effect: float = 0.1,
    dispersion: float | None = None,
    seed: int = 0,
) -> PathwayFits:
    """Fit total death and its split among apoptosis, necroptosis and necrosis jointly, all compounds at once.

    Parameters
    ----------
    dose
        (compound, well) uM; NaN where a compound has fewer wells than others.
    counts
        (compound, well, state) cells (or patches, or sums of calibrated probabilities) by pathway and, last, alive.
    background
        (pathway,), or (compound, well, pathway) where plates differ: fractions of the vehicle wells.
    level
        Of the intervals.
    alpha
        Size of the tests.
    minimum_effect
        Excess death from which a dose counts as active.
    dispersion
        phi, by which wells scatter more than independent cells: variance over multinomial variance. Estimated
        from replicate wells of all compounds together where not given (from the fits, where too few have replicates).
    seed
        Of the draws behind the intervals of shares.

    Returns
    -------
    PathwayFits
        `table`: `status` and its rule in `RULE`; `ec50`, `top`, `hill` of excess death; `split_p`, that the split
        does not change with dose; `switch_from`, `switch_to`, `switch_dose` (uM) with `switch_low`, `switch_high` (0
        or inf where unbounded; for a shift, the bound alone), `switch_bound`: interval, lower, upper or none;
        `leading`, the pathway with most deaths over the active doses; `purity`, its share of them, and `selectivity`,
        1 for one pathway and 0 for three alike (1 - H / ln 3, H Shannon's entropy of the shares), each with `_low`,
        `_high`; `window`, dose at which a second pathway kills `minimum_effect` over the dose at which the first
        does, with `window_bound` True where no second does within the tested doses (the window is wider); `fit_p`, of
        lack of fit.
    """
    wells = arrange(dose, counts, background)
    compounds = len(wells.log_dose)
    doses = np.array([np.unique(x[n > 0]).size for x, n in zip(wells.log_dose, wells.number, strict=True)], dtype=int)
    usable = np.flatnonzero(doses >= FEWEST_DOSES)
    table = _empty(compounds, doses)
    drawn = np.full((compounds, CURVE_POINTS), np.nan)
    curves = [np.full((compounds, CURVE_POINTS, len(DEAD)), np.nan) for _ in range(3)]
    shares = {name: np.full((compounds, len(DEAD)), np.nan) for name in _SHARES}
    theta = np.full((compounds, PARAMETERS), np.nan)
    if not usable.size:
        return PathwayFits(table, shares, drawn, curves[0], curves[1], curves[2], theta, float("nan"), 0)
    chosen = wells.take(usable)
    first, last = _range(chosen)
    centre = (first + last) / 2
    raw = fit(chosen, centre)
    phi, freedom = (dispersion, 10**6) if dispersion is not None else _dispersion(chosen, raw.theta, centre)
    scaled = Wells(chosen.log_dose, chosen.number / phi, chosen.fraction, chosen.background)
    found = fit(scaled, centre, start=raw.theta)
    theta[usable] = found.theta
    numbers = _tests(scaled, found, centre, freedom)
    misfit = numbers.pop("_misfit")
    numbers |= profile_switch(scaled, found, centre, first, last, freedom, level, minimum_effect, misfit)
    # the penalty is no evidence that could be doubted
    penalty = weak_penalty(scaled).weight
    widened = penalty + (found.information - penalty) / misfit[:, None, None]
    found = Fit(found.theta, found.objective, widened)
    rng = np.random.default_rng(seed)
    derived, part, bands = _derive(found, centre, first, last, level, minimum_effect, rng)
    for name, values in (numbers | derived).items():
        table.loc[usable, name] = values
    for name in _SHARES:
        shares[name][usable] = part[name]
    drawn[usable] = 10 ** np.linspace(first, last, CURVE_POINTS, axis=1)
    for target, values in zip(curves, bands, strict=True):
        target[usable] = values
    table = _judge(table, shares, alpha=alpha, minimum_effect=minimum_effect)
    return PathwayFits(table, shares, drawn, curves[0], curves[1], curves[2], theta, phi, freedom)


_NUMBERS = (
    *("ec50", "top", "hill", "excess", "effect_p", "split_p", "fit_p", "active_from"),
    *("switch_dose", "switch_low", "switch_high", "purity", "purity_low", "purity_high"),
    *("selectivity", "selectivity_low", "selectivity_high", "window"),
)
_SHARES = tuple(
    f"{name}{end}" for name in ("share", "share_at_lowest", "share_at_top") for end in ("", "_low", "_high")
)


def arrange(dose: Array, counts: Array, background: Array, *, dispersion: float = 1.0) -> Wells:
    """Plain arrays as `pathway_model` and `compare_pathways` want them; wells that hold nothing get the number 0."""
    dose, counts = np.atleast_2d(np.asarray(dose, dtype=float)), np.asarray(counts, dtype=float)
    if counts.shape != (*dose.shape, len(DEAD) + 1):
        raise ValueError(
            f"expected counts (compound, well, {len(DEAD) + 1}) for doses {dose.shape}, got {counts.shape}"
        )
    held = np.isfinite(counts).all(axis=2) & np.isfinite(dose) & (dose > 0)
    filled = np.where(held[..., None], np.maximum(counts, 0.0), 0.0)
    number = filled.sum(axis=2)
    number = np.where(np.isfinite(number), number, 0.0)
    fraction = filled / np.where(number > 0, number, 1.0)[..., None]
    behind = np.broadcast_to(np.asarray(background, dtype=float), (*dose.shape, len(DEAD)))
    behind = np.clip(np.where(np.isfinite(behind), behind, 0.0), 1e-6, 0.3)
    log_dose = np.log10(np.where(dose > 0, dose, 1.0), out=np.zeros_like(dose), where=np.isfinite(dose) & (dose > 0))
    return Wells(np.where(number > 0, np.round(log_dose, 5), 0.0), number / dispersion, fraction, behind)


def _empty(count: int, doses: Array) -> pd.DataFrame:
    table = pd.DataFrame({"doses": doses, **{name: np.full(count, np.nan) for name in _NUMBERS}})
    for name in ("status", "switch_from", "switch_to", "switch_bound", "leading"):
        table[name] = pd.Series(np.full(count, "not_fitted" if name == "status" else "", dtype=object), dtype=object)
    table["window_bound"] = False
    return table


def _range(wells: Wells) -> tuple[Array, Array]:
    used = wells.number > 0
    return np.where(used, wells.log_dose, np.inf).min(axis=1), np.where(used, wells.log_dose, -np.inf).max(axis=1)


def _dispersion(wells: Wells, theta: Array, centre: Array) -> tuple[float, int]:
    """Find phi by moments, from replicate wells around their dose; summed before dividing: rare states weigh little."""
    scatter = room = replicates = 0.0
    e, split = effect_and_split(theta, wells.log_dose, centre)
    p = (1 - e)[..., None] * wells.background + e[..., None] * split
    p = np.concatenate([p, 1 - p.sum(axis=2, keepdims=True)], axis=2)
    spread = (p * (1 - p)).sum(axis=2)
    for x, n, y, v in zip(wells.log_dose, wells.number, wells.fraction, spread, strict=True):
        for value in np.unique(x[n > 0]):
            members = (x == value) & (n > 0)
            size = members.sum()
            if size > 1:
                mean = n[members] @ y[members] / n[members].sum()
                scatter += float(n[members] @ ((y[members] - mean) ** 2).sum(axis=1))
                room += float((size - 1) * v[members].mean())
                replicates += size - 1
    if replicates < FEWEST_REPLICATES or room <= 0:
        used = wells.number > 0
        free = max(int(used.sum() * len(DEAD) - theta.size), 1)
        off = (wells.number * ((wells.fraction - p) ** 2).sum(axis=2))[used].sum()
        total = spread[used].sum() * free / max(int(used.sum()) * len(DEAD), 1)
        return max(float(off / max(total, 1e-12)), LEAST_DISPERSION), free
    return max(scatter / room, LEAST_DISPERSION), int(replicates * len(DEAD) / 2)


def _tests(wells: Wells, found: Fit, centre: Array, freedom: int) -> dict[str, Array]:
    """Test p values: of no deaths beyond vehicle, of a split that stays, of lack of fit."""
    count = len(found.theta)
    penalty = weak_penalty(wells)
    flat = np.tile(np.eye(PARAMETERS)[-CHANGING:], (count, 1, 1))  # trend and bend
    still = fit(wells, centre, penalty=penalty.holding(flat), start=moved(found, flat))
    split = np.maximum(2 * (found.objective - still.objective), 0.0)
    # against vehicle alone; the weak penalty is no evidence
    behind = np.concatenate([wells.background, 1 - wells.background.sum(axis=2, keepdims=True)], axis=2)
    e, shares = effect_and_split(found.theta, wells.log_dose, centre)
    p = (1 - e)[..., None] * behind
    p[..., :3] += e[..., None] * shares
    weighted = wells.number[..., None] * wells.fraction
    gain = np.maximum(2 * (weighted * np.log(np.maximum(p, 1e-9) / behind)).sum(axis=(1, 2)), 0.0)
    lack, free = _lack(wells, p)
    fit_p = np.where(free > 0, stats.f.sf(lack / np.maximum(free, 1), np.maximum(free, 1), freedom), np.nan)
    return {
        # where dose means depart from the model by more than their error, intervals are widened by as much
        "_misfit": np.where(np.nan_to_num(fit_p, nan=1.0) < 0.05, lack / np.maximum(free, 1), 1.0),
        "effect_p": stats.f.sf(gain / PARAMETERS, PARAMETERS, freedom),
        "split_p": stats.f.sf(split / CHANGING, CHANGING, freedom),
        "fit_p": fit_p,
    }


def _lack(wells: Wells, p: Array) -> tuple[Array, Array]:
    """Sum over doses and states of squared departures of dose means, in units of their error, and its freedom."""
    lack, free = np.zeros(len(p)), np.zeros(len(p))
    for row, (x, n, y, q) in enumerate(zip(wells.log_dose, wells.number, wells.fraction, p, strict=True)):
        for value in np.unique(x[n > 0]):
            members = (x == value) & (n > 0)
            total = n[members].sum()
            mean, expected = n[members] @ y[members] / total, n[members] @ q[members] / total
            seen = expected * total >= 1  # as in any chi-square: states too rare to be normal are put together
            pooled = np.r_[mean[seen], mean[~seen].sum()], np.r_[expected[seen], expected[~seen].sum()]
            lack[row] += float(total * ((pooled[0] - pooled[1]) ** 2 / np.maximum(pooled[1], 1e-3 / total)).sum())
            free[row] += seen.sum() - 1 + (expected[~seen].sum() * total >= 1)
    return lack, free - PARAMETERS


def _derive(
    found: Fit, centre: Array, first: Array, last: Array, level: float, minimum_effect: float, rng: np.random.Generator
) -> tuple[dict[str, Array], dict[str, Array], list[Array]]:
    """Shares, purity, selectivity, window; intervals from normal draws around the optimum."""
    count = len(found.theta)
    root = np.linalg.cholesky(found.covariance)
    noise = rng.standard_normal((DRAWS, count, found.theta.shape[1]))
    drawn = found.theta + np.einsum("bkl,dbl->dbk", root, noise)
    grid = np.linspace(first, last, CURVE_POINTS, axis=1)
    all_theta = np.concatenate([found.theta[None], drawn])
    killed = np.empty((1 + DRAWS, count, CURVE_POINTS, len(DEAD)))
    shares = {name: np.empty((1 + DRAWS, count, len(DEAD))) for name in ("share", "share_at_lowest", "share_at_top")}
    point_start = active_from(found.theta, centre, first, last, minimum_effect)
    for k, theta in enumerate(all_theta):
        e, split = effect_and_split(theta, grid, centre)
        killed[k] = e[..., None] * split
        weight = np.where(grid >= point_start[:, None], e, 0.0)
        weight[:, -1] = e[:, -1]
        shares["share"][k] = np.einsum("bx,bxj->bj", weight, split) / np.maximum(weight.sum(axis=1), 1e-12)[:, None]
        shares["share_at_top"][k] = split[:, -1]
        shares["share_at_lowest"][k] = effect_and_split(theta, point_start[:, None], centre)[1][:, 0]
    tails = ((1 - level) / 2, (1 + level) / 2)
    part: dict[str, Array] = {}
    for name, values in shares.items():
        part[name] = values[0]
        part[f"{name}_low"], part[f"{name}_high"] = np.quantile(values[1:], tails, axis=0)
    lead = shares["share"][0].argmax(axis=1)
    row = np.arange(count)
    purity = shares["share"][:, row, lead]
    entropy = -special.xlogy(shares["share"], shares["share"]).sum(axis=2)
    selectivity = 1 - entropy / np.log(len(DEAD))
    numbers: dict[str, Array] = {
        "ec50": 10 ** np.clip(found.theta[:, 0], -300, 300),
        "hill": np.exp(found.theta[:, 1]),
        "top": special.expit(found.theta[:, 2]),
        "excess": killed[0, :, -1].sum(axis=1),
        "leading": np.array(DEAD, dtype=object)[lead],
    }
    for name, values in (("purity", purity), ("selectivity", selectivity)):
        numbers[name] = values[0]
        numbers[f"{name}_low"], numbers[f"{name}_high"] = np.quantile(values[1:], tails, axis=0)
    numbers["window"], numbers["window_bound"] = _window(grid, killed[0], minimum_effect)
    bands = [killed[0], *np.quantile(killed[1:], tails, axis=0)]
    return numbers, part, bands


def _window(grid: Array, killed: Array, minimum_effect: float) -> tuple[Array, Array]:
    """Ratio of the doses at which the second and the first pathway kill the minimum; True where it is a lower bound."""
    reached = killed >= minimum_effect
    when = np.where(
        reached.any(axis=1), np.take_along_axis(grid[..., None], reached.argmax(axis=1)[:, None], axis=1)[:, 0], np.inf
    )
    ordered = np.sort(when, axis=1)
    bound = ~np.isfinite(ordered[:, 1])
    second = np.where(bound, grid[:, -1], ordered[:, 1])
    known = np.isfinite(ordered[:, 0])
    window = np.where(known, 10 ** (second - np.where(known, ordered[:, 0], 0.0)), np.nan)
    return window, bound & known


def _judge(table: pd.DataFrame, shares: dict[str, Array], *, alpha: float, minimum_effect: float) -> pd.DataFrame:
    """Statuses, and switching doses as bounds where they lie outside the active doses."""
    fitted = table["ec50"].notna().to_numpy()
    none = fitted & ~((table["excess"] >= minimum_effect) & (table["effect_p"] <= alpha)).to_numpy()
    constant = fitted & ~none & ~(table["split_p"] <= alpha).to_numpy()
    moving = fitted & ~none & ~constant
    changed = np.zeros(len(table), dtype=bool)
    if fitted.any():
        changed[fitted] = table.loc[fitted, "_changed"].to_numpy(dtype=bool)
    switch, shift = moving & changed, moving & ~changed
    for mask, word in ((none, "no_effect"), (constant, "constant"), (switch, "switch"), (shift, "shift")):
        table.loc[mask, "status"] = word
    if fitted.any():
        # beyond the tested doses nothing was seen
        first, last = table["_first"].to_numpy(dtype=float), table["_last"].to_numpy(dtype=float)
        table.loc[(table["switch_low"] < first) & moving, "switch_low"] = 0.0
        table.loc[(table["switch_high"] > last) & moving, "switch_high"] = np.inf
        above = shift & (table["switch_dose"] >= table["_last"]).to_numpy()
        below = shift & ~above
        table.loc[above, "switch_low"] = np.fmin(table["switch_low"], last)[above]
        table.loc[above, "switch_high"] = np.inf
        table.loc[below, "switch_high"] = np.fmax(table["switch_high"], first)[below]
        table.loc[below, "switch_low"] = 0.0
    table.loc[shift, "switch_dose"] = np.nan
    gone = none | constant | ~fitted
    table.loc[gone, ["switch_dose", "switch_low", "switch_high"]] = np.nan
    table.loc[gone, ["switch_from", "switch_to"]] = ""
    low, high = table["switch_low"].to_numpy(dtype=float), table["switch_high"].to_numpy(dtype=float)
    bounded_low, bounded_high = low > 0, np.isfinite(high)
    words = np.select([bounded_low & bounded_high, bounded_low, bounded_high], ["interval", "lower", "upper"], "none")
    table["switch_bound"] = np.where(moving, words, "").astype(object)
    empty = none | ~fitted
    table.loc[empty, "leading"] = ""
    names = [name for name in _NUMBERS if name.startswith(("purity", "selectivity", "window", "split_p"))]
    table.loc[none, [*names, "ec50", "hill", "top", "active_from"]] = np.nan
    table.loc[none, "window_bound"] = False
    for values in shares.values():
        values[empty] = np.nan
    return table.drop(columns=[name for name in table if str(name).startswith("_")])
