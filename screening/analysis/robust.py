"""Curves that a few wild wells cannot bend: bisquare M-estimates from several starts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from .descent import descend
from .log_logistic import LARGEST, ZERO_DOSE, Array, Curves, Design, Limits, band
from .survey import survey

TUNING = 4.685  # of Tukey's bisquare: 95 % efficient under normal noise
ABSOLUTE_ROUNDS, ROUNDS = 12, 60
FEWEST = 6
TINY = 1e-6  # weight of a point that is thrown out, so that no dose vanishes


def fit_robust(
    dose: Array,
    responses: Array,
    *,
    bottom: tuple[float, float] = (-np.inf, np.inf),
    top: tuple[float, float] = (-np.inf, np.inf),
    hill: tuple[float, float] = (0.1, 20.0),
) -> pd.DataFrame:
    """Fit each curve by Tukey's bisquare on a MAD scale.

    Iteratively reweighted least squares on the wells themselves. The loss has several valleys: starts are the
    least-squares curve and the curve of least absolute deviations, each followed down from several cells of
    the shared grid; the scale is that of the least absolute deviations, fixed, and the valley with the lowest
    bisquare loss is taken (MM-estimation in spirit: Yohai 1987).

    Parameters
    ----------
    dose, responses, bottom, top, hill
        As in `curves.fit_curves`.

    Returns
    -------
    DataFrame
        One row per curve: ec50_robust (NaN outside the tested doses and where nothing was fitted),
        log10_ec50_robust_se (weighted Gauss-Newton), outliers (wells whose weight is below 0.01).
    """
    dose, responses = np.asarray(dose, dtype=float), np.atleast_2d(np.asarray(responses, dtype=float))
    limits = Limits(bottom, top, hill)
    out = np.full((len(responses), 3), np.nan)
    for row, response in enumerate(responses):
        used = (np.abs(response) <= LARGEST) & np.isfinite(dose)  # not where NaN
        log_dose = np.where(dose[used] > 0, np.log10(np.where(dose[used] > 0, dose[used], 1)), ZERO_DOSE)
        if np.unique(log_dose).size >= 5 and used.sum() >= FEWEST and np.ptp(response[used]) > 0:
            order = np.argsort(log_dose, kind="stable")
            out[row] = _one(log_dose[order], response[used][order], limits)
    return pd.DataFrame(out, columns=["ec50_robust", "log10_ec50_robust_se", "outliers"])


def _one(log_dose: Array, response: Array, limits: Limits) -> tuple[float, float, float]:
    """EC50, its standard error and the number of outliers of one curve."""
    median = float(np.median(response))
    unit = float(np.ptp(response))
    starts = _starts(log_dose, response, limits)
    deviations = [_reweighted(log_dose, response, limits, one, None, 1e-6 * unit, ABSOLUTE_ROUNDS) for one in starts]
    absolute = [float(np.abs(_residuals(c, log_dose, response)).sum()) for c in deviations]
    settled = deviations[int(np.argmin(absolute))]
    left = np.abs(_residuals(settled, log_dose, response))
    # as many residuals of a least-absolute fit vanish as it has parameters
    scale = float(np.median(np.sort(left)[limits.parameters :])) / 0.6745 if left.size > limits.parameters else 0.0
    scale = max(scale, 1e-9 * unit, 1e-12 * abs(median))
    found = [
        _reweighted(log_dose, response, limits, one, scale, 0.0, ROUNDS)
        for one in (settled, starts[0], deviations[0], *deviations[1:3])
    ]
    losses = [float(_loss(_residuals(c, log_dose, response) / scale).sum()) for c in found]
    curve = found[int(np.argmin(losses))]
    weight = _bisquare(_residuals(curve, log_dose, response) / scale)
    design = Design(log_dose, np.maximum(weight, TINY), 0)
    freedom = max(int((weight > 0.01).sum()) - limits.parameters, 1)
    spread = float((weight * _residuals(curve, log_dose, response) ** 2).sum())
    factor = design.freedom(limits) / freedom  # `band` divides by all points
    _, se, _ = band(
        design, replace(curve, rss=np.array([spread])), design.tested[-1:], limits=limits, design_effect=factor
    )
    location = float(curve.location[0])
    inside = design.tested[0] <= location <= design.tested[-1]
    return (10**location if inside else np.nan), float(se[0]), float((weight < 0.01).sum())


def _starts(log_dose: Array, response: Array, limits: Limits) -> list[Curves]:
    """The least-squares curve, and the curves of least squares without each extreme well in turn."""
    out = []
    order = np.argsort(np.abs(response - np.median(response)))[::-1]
    for dropped in (order[:0], order[:1], order[1:2], order[:2]):
        weight = np.ones(response.size)
        weight[dropped] = TINY
        design = Design(log_dose, weight, 0)
        grid = survey(design, response[None], limits)
        column = grid.lowest.argmin(axis=1)
        slope = grid.slopes[grid.over_slopes(column, limits).argmin(axis=1)]
        out.append(descend(design, response[None], np.log(slope), grid.locations[column], limits, rounds=40))
    return out


def _reweighted(
    log_dose: Array, response: Array, limits: Limits, curve: Curves, scale: float | None, floor: float, rounds: int
) -> Curves:
    """Least squares under weights of the last residuals: bisquare of a scale, or without one absolute deviations."""
    for _ in range(rounds):
        residual = _residuals(curve, log_dose, response)
        weight = 1 / np.maximum(np.abs(residual), floor) if scale is None else _bisquare(residual / scale)
        largest = weight.max()
        if not largest > 0:
            return curve
        design = Design(log_dose, np.maximum(weight / largest, TINY if scale is not None else 1e-12), 0)
        new = descend(design, response[None], np.log(curve.hill), curve.location, limits, rounds=20, close=1e-7)
        moved = max(abs(float(new.location[0] - curve.location[0])), abs(float(np.log(new.hill[0] / curve.hill[0]))))
        curve = new
        if moved < 1e-6:
            break
    return curve


def _residuals(curve: Curves, log_dose: Array, response: Array) -> Array:
    left: Array = response - curve.at(log_dose)[0]
    return left


def _bisquare(scaled: Array) -> Array:
    weight: Array = np.where(np.abs(scaled) < TUNING, (1 - np.minimum(np.abs(scaled) / TUNING, 1) ** 2) ** 2, 0.0)
    return weight


def _loss(scaled: Array) -> Array:
    loss: Array = 1 - (1 - np.minimum(np.abs(scaled) / TUNING, 1) ** 2) ** 3
    return loss
