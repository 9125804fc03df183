"""B-scores: what is left of a plate after its rows and columns, for screens of one dose in which few wells are hits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .control_statistics import MAD

MOST_HITS = 0.2  # share of hits above which median polish breaks down (Mpindi et al. 2015)
FAR = 3.0  # robust SDs from the sample wells' median that count as a hit
MOST_DOSES = 2  # of a compound on one plate; more are a dose series
FEWEST_SAMPLES = 32  # sample wells


class Polished(NamedTuple):
    """Tukey's additive fit: `overall` + `rows` + `columns` + `residuals`."""

    overall: float
    rows: np.ndarray
    columns: np.ndarray
    residuals: np.ndarray


def median_polish(table: np.ndarray, *, tolerance: float = 1e-5, rounds: int = 200) -> Polished:
    """Tukey's (1977) median polish of (row, column), rows first; it stops as R's medpolish does.

    NaN takes no part and stays NaN. A row or column without any value has the effect 0.
    """
    left = np.where(np.isfinite(table), np.asarray(table, dtype=float), np.nan)
    rows, columns = np.zeros(left.shape[0]), np.zeros(left.shape[1])
    overall = before = 0.0
    for _ in range(rounds):
        step = _medians(left)
        left = left - step[:, None]
        rows += step
        shift = float(np.median(columns)) if columns.size else 0.0
        columns -= shift
        overall += shift
        step = _medians(left.T)
        left = left - step
        columns += step
        shift = float(np.median(rows)) if rows.size else 0.0
        rows -= shift
        overall += shift
        now = float(np.nansum(np.abs(left)))
        if now == 0 or abs(now - before) < tolerance * now:
            break
        before = now
    return Polished(overall, rows, columns, left)


def b_score(table: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """B-score (Brideau et al. 2003) of a plate laid out as (row, column).

    Rows and columns are those of the sample wells' median polish, and the scale is 1.4826 MAD of the sample wells'
    residuals; other wells are scored on the same scale. NaN where a well has no value, and everywhere where
    the samples do not differ.

    Parameters
    ----------
    table
        Values.
    samples
        bool of the same shape: wells to fit on, without controls.
    """
    table = np.where(np.isfinite(table), np.asarray(table, dtype=float), np.nan)
    fit = median_polish(np.where(samples, table, np.nan))
    residuals = table - (fit.overall + fit.rows[:, None] + fit.columns)
    of_samples = residuals[np.asarray(samples, dtype=bool) & np.isfinite(residuals)]
    if of_samples.size < 2:
        return np.full(table.shape, np.nan)
    spread = MAD * float(np.median(np.abs(of_samples - np.median(of_samples))))
    return np.asarray(residuals / spread) if spread > 1e-12 else np.full(table.shape, np.nan)


def refusal(values: np.ndarray, compound: np.ndarray, dose: np.ndarray, samples: np.ndarray) -> str:
    """Why this plate must not be B-scored; "" where it may.

    Median polish takes most wells of every row and column to be inactive. On a dose-response plate that is not
    so: high doses fill columns, and their effect would be taken for the column's.

    Parameters
    ----------
    values, compound, dose
        (well); doses in uM.
    samples
        (well) bool, wells that are no controls.
    """
    samples = np.asarray(samples, dtype=bool)
    dose = np.asarray(dose, dtype=float)
    doses: dict[str, set[str]] = {}
    for name, value in zip(np.asarray(compound)[samples], dose[samples], strict=True):
        if np.isfinite(value) and value > 0:
            doses.setdefault(str(name), set()).add(f"{value:.4g}")
    series = [name for name, held in doses.items() if len(held) > MOST_DOSES]
    if series:
        most = max(len(held) for held in doses.values())
        return (
            f"{len(series)} of {len(doses)} compounds are here in more than {MOST_DOSES} doses (up to {most}): on a "
            "dose-response plate a row or column of high doses would be taken for an effect of its place"
        )
    known = np.asarray(values, dtype=float)[samples]
    known = known[np.isfinite(known)]
    if known.size < FEWEST_SAMPLES:
        return f"{known.size} sample wells with a value; {FEWEST_SAMPLES} are the least for rows and columns"
    away = np.abs(known - np.median(known))
    hits = float((away > FAR * MAD * np.median(away)).mean())
    if hits > MOST_HITS:
        return f"{hits:.0%} of the sample wells are hits; above {MOST_HITS:.0%} median polish breaks down"
    return ""


def _medians(table: np.ndarray) -> np.ndarray:
    """Median of each row without its NaN, 0 where it has nothing else."""
    ordered = np.sort(table, axis=1)
    number = np.isfinite(table).sum(axis=1)
    line = np.arange(len(table))
    low, high = np.maximum(number - 1, 0) // 2, np.minimum(number // 2, table.shape[1] - 1)
    return np.where(number > 0, (ordered[line, low] + ordered[line, high]) / 2, 0.0)
