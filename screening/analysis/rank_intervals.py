"""Where a compound may truly stand: ranks drawn from the intervals, and ties by the smallest real ratio."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

APART = 1e3  # between strata in the drawn keys; above any log10 dose and any effect


def rank_intervals(
    table: pd.DataFrame,
    *,
    least_effect: float,
    level: float = 0.95,
    stated: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Interval of each compound's place in the true order.

    The true order is by EC50 where it lies among the tested doses, then by effect. Every draw gives each compound an
    EC50 and an effect from its own interval (a normal on either side of the estimate, log10 for the EC50, as wide as
    that side of the interval), puts it into the stratum that these have, and ranks. An EC50 drawn above the tested
    doses counts as above; so does every one on an unbounded side. An effect drawn below `least_effect` is none. A
    compound of stratum 3 whose effect is drawn above it would have an EC50 about which nothing is known: it is drawn
    from the tested doses and as much again above them. EC50s below the tested doses are not told from each other.

    Parameters
    ----------
    table
        One row a compound: stratum (0 EC50 known, 1 above the tested doses, 2 not fitted, 3 no effect, 4 inverse),
        ec50_fit, ec50_low, ec50_high (uM; 0 and inf where unbounded, NaN where there is none), lowest, highest (tested
        doses, uM), emax, emax_low, emax_high.
    least_effect
        Excess death below which a compound has no effect.
    level
        Of the intervals of ranks.
    stated
        Level of the intervals in `table`.

    Returns
    -------
    DataFrame
        Same index: rank_low, rank_high, 1 is best. A compound about which nothing is known has 1 to the number of
        compounds.
    """
    rng = np.random.default_rng(seed)
    count = len(table)
    if not count:
        return pd.DataFrame({"rank_low": np.empty(0, int), "rank_high": np.empty(0, int)}, index=table.index)
    width = float(stats.norm.ppf(0.5 + stated / 2))
    stratum = table["stratum"].to_numpy(int)
    keys = _keys(table, stratum, rng, draws=draws, width=width, least_effect=least_effect)
    # equal keys are in any order
    order = np.lexsort((rng.random(keys.shape), keys), axis=1)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.broadcast_to(np.arange(1, count + 1), order.shape).copy(), axis=1)
    low, high = np.quantile(ranks, [0.5 - level / 2, 0.5 + level / 2], axis=0, method="inverted_cdf")
    return pd.DataFrame({"rank_low": low.astype(int), "rank_high": high.astype(int)}, index=table.index)


def tie_groups(ec50: np.ndarray, msr: float) -> tuple[np.ndarray, np.ndarray]:
    """Groups of neighbours in the order whose EC50s differ by no more than the minimum significant ratio.

    Parameters
    ----------
    ec50
        (compound,) what the order is by, in that order, rising; NaN or 0 or inf where it is no number.
    msr
        Minimum significant ratio, at least 1.

    Returns
    -------
    group, ties
        (compound,) group from 1, each opened by the first compound above MSR times the EC50 that opened the one before;
        0 where there is no EC50 or no MSR. And how many others lie within MSR of the compound itself: being tied is not
        transitive, so a group's last member may be tied with the next group's first.
    """
    ec50 = np.asarray(ec50, dtype=float)
    group, ties = np.zeros(ec50.size, dtype=int), np.zeros(ec50.size, dtype=int)
    known = np.isfinite(ec50) & (ec50 > 0)
    if not (np.isfinite(msr) and msr >= 1) or not known.any():
        return group, ties
    reach, current, opened = np.log10(msr) + 1e-12, 0, -np.inf
    log = np.log10(ec50, out=np.full(ec50.size, np.nan), where=known)
    for place in np.flatnonzero(known):
        if log[place] > opened + reach:
            current, opened = current + 1, log[place]
        group[place] = current
    rising = np.sort(log[known])
    within = np.searchsorted(rising, log[known] + reach, "right") - np.searchsorted(rising, log[known] - reach, "left")
    ties[known] = within - 1
    return group, ties


def _keys(
    table: pd.DataFrame, stratum: np.ndarray, rng: np.random.Generator, *, draws: int, width: float, least_effect: float
) -> np.ndarray:
    """What each draw (draw, compound) orders by: stratum first, then log10 EC50 or minus the effect."""
    shape = (draws, len(table))
    # an effect without an interval is taken as it is
    effect = _drawn(table, ("emax", "emax_low", "emax_high"), rng.standard_normal(shape) / width, unbounded=0.0)
    logs = pd.DataFrame(index=table.index)
    for name in ("ec50_fit", "ec50_low", "ec50_high", "lowest", "highest"):
        with np.errstate(divide="ignore", invalid="ignore"):
            logs[name] = np.log10(table[name].to_numpy(float))
    location = _drawn(logs, ("ec50_fit", "ec50_low", "ec50_high"), rng.standard_normal(shape) / width, unbounded=np.inf)
    first, last = logs["lowest"].to_numpy(), logs["highest"].to_numpy()
    location = np.where(location < first, first, location)
    curve, flat = np.isin(stratum, (0, 1, 3)), stratum == 3
    location = np.where(flat, first + 2 * (last - first) * rng.random(shape), location)
    kills = np.where(np.isfinite(effect), effect >= least_effect, ~flat)
    drawn = np.where(curve, np.where(~kills, 3, np.where(location <= last, 0, 1)), np.broadcast_to(stratum, shape))
    # compounds without effect are alike, and one of unknown effect may stand anywhere in its stratum
    key = np.where(drawn == 0, location, np.where(drawn == 3, 0.0, -effect))
    return np.asarray(drawn * APART + np.where(np.isfinite(key), key, rng.uniform(-1, 1, shape)))


def _drawn(table: pd.DataFrame, names: tuple[str, str, str], z: np.ndarray, *, unbounded: float) -> np.ndarray:
    """Draws around a point, each side as wide as that side of its interval, or `unbounded`; (draw, compound)."""
    point, low, high = (table[name].to_numpy(float) for name in names)
    with np.errstate(invalid="ignore"):
        below, above = np.maximum(point - low, 0), np.maximum(high - point, 0)
        below, above = (np.where(np.isfinite(side), side, unbounded) for side in (below, above))
        # of an unbounded side everything lies beyond all doses
        return np.asarray(point + np.where(z < 0, below, above) * z)
