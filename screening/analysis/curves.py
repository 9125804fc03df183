"""Responses against dose: curves, their intervals, and a word for what kind of answer each of them is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from .curve_status import judge
from .design_fit import fit_design, stack
from .log_logistic import LARGEST, ZERO_DOSE, Array, Design, Limits
from .plate_effect import plate_effect
from .robust import fit_robust

AT_A_TIME = 12_500  # curves: about 100 MB


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
    absolute: float | None = 0.5,
    robust: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """Fit log-logistic curves to plain arrays, thousands at once.

    Parameters
    ----------
    dose
        (point,) uM; vehicle is 0. Replicates repeat the dose. Points without a dose (NaN) are left out.
    responses
        (curve, point); NaN where a well is missing.
    bottom, top
        Limits of the response at dose 0 and at infinite dose, (0, 1) for fractions. Equal limits fix it:
        three parameters are left. A fixed top leaves no test for an effect.
    hill
        Limits of the slope.
    level
        Of all intervals.
    alpha
        False discovery rate up to which a curve has an effect, over all curves of the call.
    minimum_effect
        Smallest effect at the top dose that is called one.
    noise
        SD of single wells without effect, if known from elsewhere.
    direction
        1 if only rising curves count as an effect, -1 if only falling ones, 0 if both do.
    design_effect
        Factor of the variance for wells that are not independent (`plate_effect`).
    fractions
        Responses are fractions, which scatter most near a half: widen the EC50's interval accordingly.
    absolute
        Response of the absolute EC50.
    robust
        Fit by bisquare as well, for outliers: a few hundred curves a second.
    seed
        Of the simulated nulls.

    Returns
    -------
    DataFrame
        One row per curve, in order:

        - `status`, `reasons` (every status that holds), `grade`, `note`: `curve_status.RULE`;
        - `ec50`, `ec50_low`, `ec50_high`: inside the tested doses, else 0 or inf, which say that it lies
          below or above them; `ec50_bound`, upper end of the 68 % interval, to order by; `ec50_fit`,
          `profile_low`, `profile_high`, the fitted parameter and its interval, extrapolated or not;
          `log10_ec50_se` (Gauss-Newton); `relative_placed`, whether two doses lie beyond either bend;
        - `ec50_absolute` with delta interval, `absolute_placed`, whether two doses lie on either side;
        - `bottom`, `top` (response at dose 0 and at infinite dose), `hill`, `rss`, `n`, `doses`;
        - `emax` with interval, the fitted response at the top tested dose;
        - `auc`, mean fitted response over log dose; `aac`, its mean distance from `bottom`;
        - `p_value` of no effect, `p_adjusted`, `lack_of_fit`, `non_monotone` (p-values);
        - `shape`: "" for the sigmoid, else the better one of `other_curves.NAMES`, whose EC50 `ec50` then
          is; `shape_p`, `ec50_loss`, `peak_dose`;
        - with `robust`: `ec50_robust`, `log10_ec50_robust_se`, `outliers`.
    """
    dose, responses = np.asarray(dose, dtype=float), np.atleast_2d(np.asarray(responses, dtype=float))
    if dose.ndim != 1 or responses.shape[1:] != dose.shape or (dose < 0).any() or np.isinf(dose).any():
        raise ValueError(
            f"expected (curve, {dose.size}) responses and doses >= 0 in micromolar (not their logarithms), "
            f"got responses {responses.shape} and doses {dose}"
        )
    limits = Limits(bottom, top, hill)
    known = np.isfinite(dose)
    dose, responses = dose[known], responses[:, known]
    with np.errstate(divide="ignore"):
        # doses that differ by rounding only are one dose
        log_dose = np.where(dose > 0, np.round(np.log10(dose), 12), ZERO_DOSE)
    parts = []
    for rows, design, means, spread in _designs(log_dose, responses):
        group = fit_design(
            design,
            means,
            spread,
            limits=limits,
            level=level,
            design_effect=np.full(rows.size, float(design_effect)),
            noise=np.full(rows.size, noise),
            seed=seed,
            fractions=fractions,
            absolute=absolute,
            draw=False,
        )
        parts.append(replace(group, table=group.table.set_index(rows)))
    table = judge(stack(parts).table, alpha=alpha, minimum_effect=minimum_effect, direction=direction, hill=hill)
    table = table.sort_index()
    return table.join(fit_robust(dose, responses, bottom=bottom, top=top, hill=hill)) if robust else table


def fit_table(
    frame: pd.DataFrame,
    *,
    dose: str,
    response: str,
    curve: str | Sequence[str],
    plate: str | None = None,
    **settings: object,
) -> pd.DataFrame:
    """Fit curves to a table in long form: one row a well.

    Parameters
    ----------
    frame
        Any number of rows for each curve and dose; curves need not share doses.
    dose, response, curve
        Names of the columns; several that name a curve together are given as a list.
    plate
        Column of the plate, if wells come from several: the variance is then multiplied by how much more
        plates disagree about a curve than its wells do, pooled over all curves (`plate_effect`).
    settings
        As in `fit_curves`; a `design_effect` given there goes before that of the plates.

    Returns
    -------
    DataFrame
        As `fit_curves`, indexed by curve, in order of first appearance.
    """
    keys = [curve] if isinstance(curve, str) else list(curve)
    missing = [name for name in (dose, response, *keys, *([plate] if plate else [])) if name not in frame]
    if missing:
        raise ValueError(f"no column {', '.join(missing)} in the table; it has {', '.join(map(str, frame.columns))}")
    if plate is not None:
        settings.setdefault("design_effect", plate_effect(frame, curve=keys, dose=dose, plate=plate, response=response))
    number = frame.groupby(keys, sort=False, dropna=False).ngroup().to_numpy()
    names = frame[keys].iloc[np.unique(number, return_index=True)[1]]
    values = frame[dose].to_numpy(float)
    order = np.lexsort((values, number))
    used = order[np.isfinite(values[order])]
    copy = pd.Series(number[used]).groupby([number[used], values[used]]).cumcount().to_numpy()
    # every distinct (dose, copy) is a point; curves without it miss it
    points, column = np.unique(np.stack([values[used], copy]), axis=1, return_inverse=True)
    responses = np.full((len(names), points.shape[1]), np.nan)
    responses[number[used], column.ravel()] = frame[response].to_numpy(float)[used]
    table = fit_curves(points[0], responses, **settings)  # type: ignore[arg-type]
    table.index = pd.Index(names[keys[0]]) if len(keys) == 1 else pd.MultiIndex.from_frame(names)
    return table


def _designs(log_dose: Array, responses: Array) -> list[tuple[Array, Design, Array, Array]]:
    """Curves with the same wells per dose together: rows, design, means, spread inside doses."""
    unique, inverse = np.unique(log_dose, return_inverse=True)
    membership = np.eye(unique.size)[inverse]  # (point, dose)
    present = np.abs(responses) <= LARGEST  # not where NaN
    wells = present @ membership  # (curve, dose)
    if not len(wells):
        return [(np.empty(0, dtype=int), Design(unique, membership.sum(axis=0), 0), wells, np.empty(0))]
    patterns, which = np.unique(wells, axis=0, return_inverse=True)
    order = np.argsort(which.ravel(), kind="stable")
    out = []
    for pattern, rows in zip(patterns, np.split(order, np.cumsum(np.bincount(which.ravel()))[:-1]), strict=True):
        held = pattern > 0
        design = Design(unique[held], pattern[held], int(pattern.sum() - held.sum()))
        for first in range(0, rows.size, AT_A_TIME):
            part = rows[first : first + AT_A_TIME]
            filled = np.where(present[part], responses[part], 0)
            means = filled @ membership[:, held] / pattern[held]
            around = (filled - means @ membership[:, held].T) * present[part]
            out.append((part, design, means, (around**2).sum(axis=1)))
    return out
