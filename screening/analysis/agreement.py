"""Whether two measurements of the same thing agree: concordance, limits of agreement, smallest real ratio."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

FEWEST_PAIRS = 3
COLUMNS = (
    *("n", "pearson", "spearman", "concordance", "concordance_low", "concordance_high"),
    *("bias", "bias_low", "bias_high", "sd", "limit_low", "limit_high", "limit_low_low", "limit_high_high", "status"),
)


def agreement(first: np.ndarray, second: np.ndarray, *, level: float = 0.95) -> dict[str, float | str]:
    """Compare two measurements pair by pair.

    Lin's concordance is the correlation about the line of identity, with the interval of his z transform (Lin
    1989, corrected 2000). Bias and limits of agreement are those of Bland and Altman (1986, 1999): `second` minus
    `first`, mean +- 1.96 SD, each with its interval.

    Parameters
    ----------
    first, second
        (pair,); pairs with a missing value, or one beyond 1e100, are left out.
    level
        Of all intervals; the limits of agreement themselves always hold 95 % of the differences.

    Returns
    -------
    dict
        `COLUMNS`. Correlations are NaN where one side does not vary; everything is NaN with fewer than three pairs.
        `status`: ok, too_few_pairs, constant.
    """
    x, y = (np.asarray(values, dtype=float).ravel() for values in (first, second))
    # squares of what no instrument gives would overflow
    kept = (np.abs(x) < 1e100) & (np.abs(y) < 1e100)
    x, y = x[kept], y[kept]
    n = int(x.size)
    result: dict[str, float | str] = dict.fromkeys(COLUMNS, float("nan"))
    result["n"] = n
    if n < FEWEST_PAIRS:
        return result | {"status": "too_few_pairs"}
    difference = y - x
    bias, sd = float(difference.mean()), float(difference.std(ddof=1))
    t = float(stats.t.ppf(0.5 + level / 2, n - 1))
    half = t * sd / np.sqrt(n)
    reach = t * sd * np.sqrt(1 / n + 1.96**2 / (2 * (n - 1)))  # of a limit's own interval
    result |= {
        **{"bias": bias, "bias_low": bias - half, "bias_high": bias + half, "sd": sd},
        **{"limit_low": bias - 1.96 * sd, "limit_high": bias + 1.96 * sd},
        **{"limit_low_low": bias - 1.96 * sd - reach, "limit_high_high": bias + 1.96 * sd + reach},
    }
    scale = max(float(np.abs(x).max()), float(np.abs(y).max()))
    if min(float(np.ptp(x)), float(np.ptp(y))) <= 1e-12 * scale:
        return result | {"status": "constant"}
    result["pearson"] = float(np.corrcoef(x, y)[0, 1])
    result["spearman"] = float(stats.spearmanr(x, y).statistic)
    return result | _concordance(x, y, level) | {"status": "ok"}


def pairwise(values: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """Agreement of every two columns (plates, replicates) over the rows that both hold.

    Returns
    -------
    DataFrame
        One row a pair: first, second, then `COLUMNS`.
    """
    rows = [
        {"first": str(a), "second": str(b), **agreement(values[a].to_numpy(), values[b].to_numpy(), level=level)}
        for a, b in combinations(values.columns, 2)
    ]
    return pd.DataFrame(rows, columns=["first", "second", *COLUMNS])


def msr_of_two_runs(first: np.ndarray, second: np.ndarray, *, level: float = 0.95) -> dict[str, float]:
    """Minimum significant ratio of two runs of the same compounds: 10^(2 SD of paired log10 differences).

    Eastwood et al. 2006, on 20 compounds or more; they are log10 EC50s, missing ones are left out.

    Returns
    -------
    dict
        msr with msr_low, msr_high, ratio (10^ the mean difference, second over first), ratio_low and ratio_high (its
        limits of agreement, ratio / msr and ratio x msr), n. NaN with fewer than three compounds.
    """
    difference = np.asarray(second, dtype=float).ravel() - np.asarray(first, dtype=float).ravel()
    difference = difference[np.isfinite(difference)]
    found = _ratio(difference, 2.0, difference.size - 1, level)
    ratio = float(10 ** difference.mean()) if difference.size >= FEWEST_PAIRS else float("nan")
    return {**found, "ratio": ratio, "ratio_low": ratio / found["msr"], "ratio_high": ratio * found["msr"]}


def msr_of_reference(values: Sequence[np.ndarray], *, level: float = 0.95) -> dict[str, float]:
    """Minimum significant ratio of compounds that were run many times: 10^(2 sqrt(2) SD of log10 EC50).

    Parameters
    ----------
    values
        For each reference compound its log10 EC50s, one a run; missing ones are left out. SDs of several compounds are
        pooled by their degrees of freedom.

    Returns
    -------
    dict
        msr with msr_low, msr_high (chi-square interval of the SD), n (values). NaN below two degrees of freedom.
    """
    runs = [np.asarray(one, dtype=float)[np.isfinite(np.asarray(one, dtype=float))] for one in values]
    runs = [one for one in runs if one.size > 1]
    residuals = np.concatenate([one - one.mean() for one in runs]) if runs else np.empty(0)
    return _ratio(residuals, 2 * np.sqrt(2), residuals.size - len(runs), level, centred=True)


def _concordance(x: np.ndarray, y: np.ndarray, level: float) -> dict[str, float | str]:
    n = x.size
    # n, not n - 1: as Lin
    sx, sy = x.std(), y.std()
    r = float(np.corrcoef(x, y)[0, 1])
    shift = (x.mean() - y.mean()) ** 2
    c = float(2 * r * sx * sy / (sx**2 + sy**2 + shift))
    if abs(r) > 1 - 1e-12 or abs(c) < 1e-12:
        # the transform has no variance at |r| = 1 and none that is defined at c = 0
        ends = (c, c) if abs(r) > 1 - 1e-12 and abs(c) > 1 - 1e-9 else (float("nan"), float("nan"))
        return {"concordance": c, "concordance_low": ends[0], "concordance_high": ends[1]}
    u2 = shift / (sx * sy)
    variance = (
        (1 - r**2) * c**2 / ((1 - c**2) * r**2)
        + 2 * c**3 * (1 - c) * u2 / (r * (1 - c**2) ** 2)
        - c**4 * u2**2 / (2 * r**2 * (1 - c**2) ** 2)
    ) / (n - 2)
    half = stats.norm.ppf(0.5 + level / 2) * np.sqrt(max(variance, 0.0))
    low, high = (float(np.tanh(np.arctanh(c) + sign * half)) for sign in (-1, 1))
    return {"concordance": c, "concordance_low": low, "concordance_high": high}


def _ratio(values: np.ndarray, factor: float, freedom: int, level: float, *, centred: bool = False) -> dict[str, float]:
    if freedom < FEWEST_PAIRS - 1:
        return {"msr": float("nan"), "msr_low": float("nan"), "msr_high": float("nan"), "n": int(values.size)}
    around = values if centred else values - values.mean()
    sd = float(np.sqrt((around**2).sum() / freedom))
    tails = stats.chi2.ppf([0.5 + level / 2, 0.5 - level / 2], freedom)
    low, high = (float(10 ** min(factor * sd * np.sqrt(freedom / tail), 300.0)) for tail in tails)
    return {"msr": float(10 ** min(factor * sd, 300.0)), "msr_low": low, "msr_high": high, "n": int(values.size)}
