"""Two compounds in one well: do they kill more together than apart? Bliss, HSA, Loewe and ZIP with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .global_fit import fit
from .log_logistic import Design, Limits

MODELS = ("bliss", "hsa", "loewe", "zip")
FEWEST_FREEDOM = 4  # differences between replicate wells below which no interval is given
FEWEST_DOSES = 4  # of a compound alone, for the curves that Loewe and ZIP need
_LIMITS = Limits((0.0, 0.0), (0.0, 1.0), (0.1, 20.0))  # from no effect without the compound to everything dead


@dataclass(frozen=True, eq=False)
class Synergy:
    """What a combination does beyond what its parts lead to expect.

    Attributes
    ----------
    cells
        One row a combination of two doses: dose_a, dose_b, wells, response (mean) and, for each of `MODELS`,
        `_expected`, `_excess` (response minus expected; above 0 is synergy) with `_low`, `_high`, and `_status`: ok,
        beyond_one (Loewe: an effect that one compound alone never reaches has no dose of it) or not_computable.
    summary
        One row a model: excess (mean over the combinations), low, high, cells, verdict: synergy, antagonism (the
        interval lies on one side of 0), within error, no interval, not_computable.
    status
        ok, or why nothing or no interval could be computed.
    """

    cells: pd.DataFrame
    summary: pd.DataFrame
    status: str


def synergy(table: pd.DataFrame, *, level: float = 0.95, draws: int = 200, seed: int = 0) -> Synergy:
    """Compare a matrix of doses of two compounds with four models of no interaction.

    With responses y as the excess death over vehicle, a and b the compounds alone: HSA expects max(a, b); Bliss a + b -
    a b; Loewe the y at which d_a / D_a(y) + d_b / D_b(y) = 1, D the dose alone with that effect, from Hill curves; ZIP
    (Yadav et al. 2015) Bliss of the two Hill curves, and compares it with the mean of the two families of curves that
    are fitted through the combinations, each starting at the other compound's effect. Bliss and HSA use the measured
    means of the single compounds, Loewe and ZIP their curves.

    Intervals resample wells: every well is its dose pair's mean plus its plate's deviation plus its own, both drawn
    from those of all wells, because two or three wells cannot tell their own spread. All models see the same draws.

    Parameters
    ----------
    table
        One row a well: dose_a, dose_b (0 is without), response (excess death over vehicle, 0 to 1, may scatter beyond),
        optionally plate. Rows with a missing response are left out.
    level, draws, seed
        Of the intervals.
    """
    lost = [name for name in ("dose_a", "dose_b", "response") if name not in table]
    if lost:
        raise ValueError(f"column {lost[0]!r} is missing. Expected dose_a, dose_b, response and, if need be, plate.")
    frame = table.assign(plate=table["plate"].astype(str) if "plate" in table else "")
    numbers = frame[["dose_a", "dose_b", "response"]].astype(float)
    known = np.isfinite(numbers.to_numpy()).all(axis=1) & (numbers[["dose_a", "dose_b"]] >= 0).all(axis=1).to_numpy()
    frame = frame.assign(**numbers)[known]
    frame = frame[(frame["dose_a"] > 0) | (frame["dose_b"] > 0)]
    grouped = frame.groupby(["dose_a", "dose_b"])["response"]
    means = grouped.mean()
    doses = means.index.to_frame(index=False).to_numpy(float)  # (cell, 2)
    together = np.asarray((doses > 0).all(axis=1))
    alone = {side: np.flatnonzero(doses[:, 1 - side] == 0) for side in (0, 1)}
    if not together.any():
        return _nothing("no well holds both compounds")
    if not all(place.size for place in alone.values()):
        return _nothing("a compound has no wells by itself")
    drawn, status = _resampled(frame, means, draws=draws, seed=seed)
    samples = np.concatenate([means.to_numpy()[None], drawn])  # the first is what was measured
    expected, response, states = _expectations(samples, doses, together, alone)
    cells = pd.DataFrame(
        {
            "dose_a": doses[together, 0],
            "dose_b": doses[together, 1],
            "wells": grouped.size().to_numpy()[together],
            "response": means.to_numpy()[together],
        }
    )
    tails = (0.5 - level / 2, 0.5 + level / 2)
    rows = []
    for model in MODELS:
        excess = response[model] - expected[model]  # (sample, cell)
        cells[f"{model}_expected"] = expected[model][0]
        cells[f"{model}_excess"] = excess[0]
        cells[f"{model}_low"], cells[f"{model}_high"] = _interval(excess[1:], tails)
        cells[f"{model}_status"] = states[model]
        rows.append(_summary(model, excess, tails))
    return Synergy(cells, pd.DataFrame(rows).set_index("model"), status)


def loewe_effect(doses: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Effect that Loewe additivity expects.

    Parameters
    ----------
    doses
        (cell, 2), both above 0.
    curves
        (..., 2, 3): for each compound top, EC50, hill of y = top / (1 + (EC50 / d)^hill).

    Returns
    -------
    array
        (..., cell); NaN where the effect would lie above what the weaker of the two reaches at any dose.
    """
    top, ec50, hill = (curves[..., None, :, part] for part in range(3))  # (..., 1, 2)
    most = top.min(axis=-1)
    shape = np.broadcast_shapes(most.shape, doses.shape[:1])
    low, high = np.zeros(shape), np.broadcast_to(most, shape)

    def needed(y: np.ndarray) -> np.ndarray:
        """Sum of the shares of the doses that alone would have this effect; falls with the effect."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            share = np.clip(y[..., None] / top, 1e-300, 1 - 1e-12)
            log_dose = np.log(ec50) - np.log(1 / share - 1) / hill
            return np.asarray(np.exp(np.clip(np.log(doses) - log_dose, -700, 700)).sum(axis=-1))

    beyond = ~(needed(high * (1 - 1e-9)) < 1)
    for _ in range(60):
        middle = (low + high) / 2
        more = needed(middle) > 1
        low, high = np.where(more, middle, low), np.where(more, high, middle)
    return np.where(beyond, np.nan, (low + high) / 2)


def _expectations(
    samples: np.ndarray, doses: np.ndarray, together: np.ndarray, alone: dict[int, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Expected and observed effects of each model, (sample, combination), and a status for each combination."""
    pair = doses[together]
    measured = samples[:, together]
    single = [_of_single(samples, doses, alone[side], pair[:, side], side) for side in (0, 1)]
    shape = measured.shape
    curves = [_curve(doses[alone[side], side], samples[:, alone[side]]) for side in (0, 1)]
    nothing = np.full(shape, np.nan)
    expected = {
        "bliss": single[0] + single[1] - single[0] * single[1],
        "hsa": np.maximum(single[0], single[1]),
        "loewe": nothing,
        "zip": nothing,
    }
    response = {"bliss": measured, "hsa": measured, "loewe": measured, "zip": nothing}
    if curves[0] is not None and curves[1] is not None:
        both = np.stack([curves[0], curves[1]], axis=1)  # (sample, compound, parameter)
        expected["loewe"] = loewe_effect(pair, both)
        fitted = [_hill(pair[:, side][None], both[:, side]) for side in (0, 1)]
        expected["zip"] = fitted[0] + fitted[1] - fitted[0] * fitted[1]
        response["zip"] = _shifted(measured, pair, fitted)
    states = {}
    for model in MODELS:
        known = np.isfinite(expected[model][0]) & np.isfinite(response[model][0])
        why = "beyond_one" if model == "loewe" and curves[0] is not None and curves[1] is not None else "not_computable"
        states[model] = np.where(known, "ok", why).astype(object)
    return expected, response, states


def _of_single(samples: np.ndarray, doses: np.ndarray, places: np.ndarray, wanted: np.ndarray, side: int) -> np.ndarray:
    """Measured effect of a compound alone at the dose of each combination, NaN where it was not tested alone."""
    values = np.full((len(samples), wanted.size), np.nan)
    for place in places:
        same = np.isclose(wanted, doses[place, side], rtol=1e-4, atol=0)
        values[:, same] = samples[:, [place]]
    return values


def _curve(dose: np.ndarray, responses: np.ndarray) -> np.ndarray | None:
    """Hill curves from 0, (sample, 3): top, EC50, hill; None with too few doses. A flat one has top 0."""
    if np.unique(dose).size < FEWEST_DOSES:
        return None
    order = np.argsort(dose)
    values = np.clip(responses[:, order], -0.5, 1.0)
    design = Design(np.log10(dose[order]), np.ones(dose.size), 0)
    fitted = fit(design, values, np.zeros(len(values)), limits=_LIMITS)
    curve = np.column_stack([fitted.top, 10**fitted.location, fitted.hill])
    curve[~np.isfinite(curve).all(axis=1) | (curve[:, 0] <= 0)] = 0.0, 1.0, 1.0
    return curve


def _hill(dose: np.ndarray, curve: np.ndarray) -> np.ndarray:
    top, ec50, hill = (curve[:, [part]] for part in range(3))
    with np.errstate(over="ignore", divide="ignore"):
        return np.asarray(top / (1 + np.exp(np.clip(hill * (np.log(ec50) - np.log(dose)), -700, 700))))


def _shifted(measured: np.ndarray, pair: np.ndarray, fitted: list[np.ndarray]) -> np.ndarray:
    """Mean of the two families of curves through the combinations; ZIP's smoothed response."""
    total = np.zeros_like(measured)
    number = np.zeros(measured.shape[1])
    for side in (0, 1):
        other = pair[:, 1 - side]
        for dose in np.unique(other):
            row = np.flatnonzero(other == dose)
            start = fitted[1 - side][:, row[:1]]  # effect of the other compound, the curve's bottom
            rest = np.maximum(1 - start, 1e-6)
            curve = _curve(pair[row, side], (measured[:, row] - start) / rest)
            if curve is None:
                continue
            total[:, row] += start + rest * _hill(pair[row, side][None], curve)
            number[row] += 1
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _resampled(frame: pd.DataFrame, means: pd.Series, *, draws: int, seed: int) -> tuple[np.ndarray, str]:
    """Means of resampled wells, (draw, cell), and a status; no draw where replicates are too few."""
    cell = means.index.get_indexer(pd.MultiIndex.from_frame(frame[["dose_a", "dose_b"]]))
    values = frame["response"].to_numpy(float)
    residual = values - means.to_numpy()[cell]
    size = np.bincount(cell, minlength=len(means))
    freedom = int((size - 1)[size > 1].sum())
    if freedom < FEWEST_FREEDOM:
        return np.empty((0, len(means))), "no interval: too few replicate wells"
    repeated = size[cell] > 1
    residual = residual * np.sqrt(np.where(repeated, size[cell] / np.maximum(size[cell] - 1, 1), 1.0))
    plate, names = pd.factorize(frame["plate"])
    shift = np.zeros(len(names))
    if len(names) > 1:
        numbers = np.bincount(plate[repeated], minlength=len(names))
        sums = np.bincount(plate[repeated], residual[repeated], minlength=len(names))
        shift = np.divide(sums, numbers, out=shift, where=numbers > 0)
    own = (residual - shift[plate])[repeated]
    rng = np.random.default_rng(seed)
    noise = rng.choice(own, size=(draws, values.size))
    # what a plate's wells share, drawn anew for each plate
    shared = rng.choice(shift, size=(draws, len(names)))[:, plate] if len(names) > 1 else 0.0
    drawn = means.to_numpy()[cell] + noise + shared
    total = np.zeros((draws, len(means)))
    np.add.at(total.T, cell, drawn.T)
    return total / size, "ok"


def _interval(excess: np.ndarray, tails: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles over the draws; NaN where a tenth of the draws has no value, or there are none."""
    ends = np.full((2, excess.shape[1]), np.nan)
    known = np.isfinite(excess)
    if len(excess):
        enough = known.mean(axis=0) >= 0.9
        if enough.any():
            ends[:, enough] = np.nanquantile(excess[:, enough], tails, axis=0)
    return ends[0], ends[1]


def _summary(model: str, excess: np.ndarray, tails: tuple[float, float]) -> dict[str, object]:
    used = np.isfinite(excess[0])
    row: dict[str, object] = {"model": model, "excess": np.nan, "low": np.nan, "high": np.nan, "cells": int(used.sum())}
    if not used.any():
        return row | {"verdict": "not_computable"}
    mean = excess[0, used].mean()
    drawn = np.array([one[np.isfinite(one)].mean() if np.isfinite(one).any() else np.nan for one in excess[1:, used]])
    if not np.isfinite(drawn).any():
        return row | {"excess": mean, "verdict": "no interval"}
    low, high = np.nanquantile(drawn, tails)
    verdict = "synergy" if low > 0 else "antagonism" if high < 0 else "within error"
    return row | {"excess": mean, "low": low, "high": high, "verdict": verdict}


def _nothing(why: str) -> Synergy:
    names = [f"{model}_{part}" for model in MODELS for part in ("expected", "excess", "low", "high", "status")]
    cells = pd.DataFrame(columns=["dose_a", "dose_b", "wells", "response", *names])
    summary = pd.DataFrame(
        {"excess": np.nan, "low": np.nan, "high": np.nan, "cells": 0, "verdict": "not_computable"},
        index=pd.Index(MODELS, name="model"),
    )
    return Synergy(cells, summary, why)
