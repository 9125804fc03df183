"""Drift: over the order in which a plate was imaged, and from plate to plate by Levey and Jennings' chart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .control_statistics import MAD, as_columns
from .permutation import pattern_tests, ranks

FEWEST_PLATES = 8  # below which neither a usual value nor its spread is known


@dataclass(frozen=True)
class Westgard:
    """Which rules are looked at (Westgard et al. 1981), and which of them alone reject a plate.

    1_2s: beyond 2 SD (a warning). 1_3s: beyond 3 SD. 2_2s: two in a row beyond the same 2 SD. R_4s: two in a
    row at least 4 SD apart, beyond 2 SD on either side. 4_1s: four in a row beyond the same 1 SD. 10_x: ten in
    a row on the same side. 7_T: seven in a row rising, or falling.
    """

    rules: tuple[str, ...] = ("1_2s", "1_3s", "2_2s", "R_4s", "4_1s", "10_x", "7_T")
    warnings: tuple[str, ...] = ("1_2s",)


def levey_jennings(
    values: np.ndarray,
    *,
    center: float | None = None,
    spread: float | None = None,
    baseline: int | None = None,
    rules: Westgard = Westgard(),
) -> pd.DataFrame:
    """Judge a series of plates, in the order in which they were made.

    Parameters
    ----------
    values
        (plate), such as the vehicle's death, Z', or the reference compound's log EC50. Plates without a value
        are skipped by every rule.
    center, spread
        Usual value and its standard deviation where they are known from before.
    baseline
        Number of first plates that they are taken from otherwise; without it all plates. Median and 1.4826
        MAD, so that a bad plate among them does not hide itself; the MAD is corrected for few plates.
    rules
        Which rules, and which of them only warn.

    Returns
    -------
    DataFrame
        One row a plate: `value`, `z` (in SDs), `rules` (broken at this plate, comma separated), `status`: in
        control, warning, out of control, no value, or not judged (fewer than eight plates to learn from, or no
        spread); `center` and `spread`.
    """
    values = np.asarray(values, dtype=float)
    values = np.where(np.isfinite(values), values, np.nan)
    known = values[: baseline if baseline is not None else values.size]
    known = known[np.isfinite(known)]
    enough = known.size >= FEWEST_PLATES or (center is not None and spread is not None)
    middle = center if center is not None else (float(np.median(known)) if known.size else float("nan"))
    width = spread if spread is not None else _spread(known)
    judged = enough and np.isfinite(width) and width > 1e-12
    z = (values - middle) / width if judged else np.full(values.size, np.nan)
    broken = westgard(z, rules=rules)
    status = []
    for value, names in zip(values, broken, strict=True):
        if not np.isfinite(value):
            status.append("no value")
        elif not judged:
            status.append("not judged")
        elif set(names) - set(rules.warnings):
            status.append("out of control")
        else:
            status.append("warning" if names else "in control")
    return pd.DataFrame(
        {
            "value": values,
            "z": z,
            "rules": [", ".join(names) for names in broken],
            "status": status,
            "center": middle if enough else float("nan"),
            "spread": width if judged else float("nan"),
        }
    )


def westgard(z: np.ndarray, *, rules: Westgard = Westgard()) -> list[list[str]]:
    """Names of the rules that each plate breaks together with those before it; plates without z are skipped."""
    z = np.asarray(z, dtype=float)
    there = np.flatnonzero(np.isfinite(z))
    series = z[there]
    broken: list[list[str]] = [[] for _ in z]
    for place, plate in enumerate(there):
        past = series[: place + 1]
        found = {
            "1_2s": abs(past[-1]) > 2,
            "1_3s": abs(past[-1]) > 3,
            "2_2s": _same_side(past, 2, 2.0),
            "R_4s": past.size >= 2 and past[-1] * past[-2] < 0 and min(abs(past[-2:])) > 2,
            "4_1s": _same_side(past, 4, 1.0),
            "10_x": _same_side(past, 10, 0.0),
            "7_T": past.size >= 7 and bool((np.diff(past[-7:]) > 0).all() or (np.diff(past[-7:]) < 0).all()),
        }
        broken[plate] = [name for name in rules.rules if found[name]]
    return broken


def drift_over_order(
    values: np.ndarray,
    order: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    permutations: int = 999,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Test wells that should be equal for a trend over the order in which they were imaged.

    Parameters
    ----------
    values
        (well, ...), of vehicle wells or, with `groups`, of any.
    order
        (well) anything that rises with time: a number, hours. Wells without one take no part.
    groups
        (well) integers of wells that should be equal (`permutation.pattern_tests`).
    permutations, seed
        Of the p value, which is exact for a trend up or down.

    Returns
    -------
    dict
        Arrays of shape (...): `spearman` (of the deviations from the group), `p`, `change` from the first well
        imaged to the last (Theil and Sen's slope times the range), `n`. Wells were imaged in the order of their
        places, so a trend over time and one over the plate are not to be told apart by this alone.
    """
    values = np.asarray(values, dtype=float)
    rest = values.shape[1:]
    order = np.asarray(order, dtype=float)
    timed = np.isfinite(order)
    flat = np.where(np.isfinite(values) & timed.reshape(-1, *[1] * (values.ndim - 1)), values, np.nan)
    flat = as_columns(flat)
    place = ranks(np.where(timed, order, 0.0)[:, None])
    explained, _ = pattern_tests(flat, {"order": place}, groups=groups, permutations=permutations, seed=seed)
    change = np.full(flat.shape[1], np.nan)
    sign = np.full(flat.shape[1], np.nan)
    labels = np.zeros(len(flat), dtype=int) if groups is None else np.asarray(groups)
    for column in np.flatnonzero(np.isfinite(explained["order"].share)):
        known = np.isfinite(flat[:, column])
        slope = _theil_sen(order[known], flat[known, column], labels[known])
        change[column], sign[column] = slope * np.ptp(order[known]), np.sign(slope)
    out = {
        "spearman": sign * np.sqrt(explained["order"].share),
        "p": explained["order"].p,
        "change": change,
        "n": np.isfinite(flat).sum(axis=0),
    }
    return {name: found.reshape(rest) for name, found in out.items()}


def _theil_sen(order: np.ndarray, values: np.ndarray, labels: np.ndarray) -> float:
    """Median slope over the pairs of wells of one group; 0 where no two were imaged apart."""
    first, second = np.triu_indices(len(order), 1)
    pairs = (labels[first] == labels[second]) & (order[first] != order[second])
    first, second = first[pairs], second[pairs]
    if not first.size:
        return 0.0
    return float(np.median((values[second] - values[first]) / (order[second] - order[first])))


def _same_side(past: np.ndarray, number: int, limit: float) -> bool:
    last = past[-number:]
    return last.size == number and bool((last > limit).all() or (last < -limit).all())


def _spread(values: np.ndarray) -> float:
    """1.4826 MAD times n / (n - 0.8), which takes off its bias for few values (Croux and Rousseeuw 1992)."""
    if values.size < 2:
        return float("nan")
    return float(MAD * np.median(np.abs(values - np.median(values))) * values.size / (values.size - 0.8))
