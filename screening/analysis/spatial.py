"""Does a well's place on the plate tell its value: edge, rows, columns, gradient and Moran's I."""

from __future__ import annotations

import numpy as np

from .control_statistics import MAD, as_columns, center_and_spread
from .permutation import FEWEST, pattern_tests

TESTS = ("edge", "row", "column", "gradient", "morans")
FEWEST_EDGE = 3
FEWEST_INNER = 5  # wells away from the rim, below which the edge has no t: the MAD of three or four is next to nothing


def spatial_tests(
    values: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    rim: np.ndarray | None = None,
    permutations: int = 999,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Test wells that should be equal for effects of their place, column by column of `values`.

    Parameters
    ----------
    values
        (well, ...): of vehicle wells, or of any wells with `groups`. What is not finite takes no part.
    rows, columns
        (well) places, from 0.
    groups
        (well) integers; wells of one group, such as replicates, should be equal, others need not
        (`pattern_tests`). Without it all wells should.
    rim
        (well) bool, whether a well lies at the rim of the wells in use; without it, whether it is outermost of
        the wells given.
    permutations, seed
        Of the p values, which are exact.

    Returns
    -------
    dict
        Arrays of shape (...). For edge, row, column, gradient: `<test>_share` of the variance of ranks that
        it explains and `<test>_p`; `morans_i` with inverse squared distances as weights, and `morans_p`;
        `edge_t`, (median edge - median inner) / (1.4826 MAD inner sqrt(1 / n_e + 1 / n_i)), and
        `edge_difference` (without groups; of deviations from the group with them);
        `gradient_rows`, `gradient_columns`, change of the value from the first row or column to the last by
        least squares; `n`; `p`, the smallest of the five times the number of tests (Holm's bound); `test`,
        which one that is ("" where none could be made); `effect`, the standard deviation of the values along
        that test's pattern, in their units.
    """
    values = np.asarray(values, dtype=float)
    values = np.where(np.isfinite(values), values, np.nan)
    rest = values.shape[1:]
    flat = as_columns(values)
    rows, columns = np.asarray(rows, dtype=float), np.asarray(columns, dtype=float)
    rim = at_rim(rows, columns) if rim is None else np.asarray(rim, dtype=bool)
    patterns = {
        "edge": rim[:, None].astype(float),
        "row": (rows[:, None] == np.unique(rows)).astype(float),
        "column": (columns[:, None] == np.unique(columns)).astype(float),
        "gradient": np.stack([rows, columns], axis=1),
    }
    explained, alike = pattern_tests(
        flat,
        patterns,
        weights=inverse_square_weights(rows, columns),
        groups=groups,
        permutations=permutations,
        seed=seed,
    )
    out: dict[str, np.ndarray] = {"n": np.isfinite(flat).sum(axis=0)}
    for name, found in explained.items():
        out[f"{name}_share"], out[f"{name}_p"] = found
    out["morans_i"], out["morans_p"] = alike
    deviations = flat if groups is None else _from_group_median(flat, np.asarray(groups))
    out["edge_t"], out["edge_difference"] = edge_t(deviations, rim)
    out["gradient_rows"], out["gradient_columns"] = _slopes(deviations, rows, columns)
    each = np.stack([out[f"{name}_p"] for name in TESTS])
    made = np.isfinite(each)
    best = np.where(made, each, np.inf).argmin(axis=0)
    smallest = np.where(made.any(axis=0), np.where(made, each, np.inf).min(axis=0), np.nan)
    out["p"] = np.minimum(smallest * made.sum(axis=0), 1.0)
    out["test"] = np.where(made.any(axis=0), np.array(TESTS, dtype=object)[best], "")
    shares = np.stack([*(out[f"{name}_share"] for name in TESTS[:-1]), np.maximum(out["morans_i"], 0)])
    spread = center_and_spread(deviations, robust=False)[1]
    out["effect"] = np.sqrt(np.minimum(shares[best, np.arange(best.size)], 1.0)) * spread
    return {name: found.reshape(rest) for name, found in out.items()}


def at_rim(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Which wells are outermost; a plate map that leaves the border empty has its rim where its wells end."""
    if not len(rows):
        return np.zeros(0, dtype=bool)
    outer_row = (rows == rows.min()) | (rows == rows.max())
    return np.asarray(outer_row | (columns == columns.min()) | (columns == columns.max()))


def inverse_square_weights(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """1 / distance^2 between wells, nothing on the diagonal: scattered wells have no touching neighbours."""
    square = (rows[:, None] - rows) ** 2 + (columns[:, None] - columns) ** 2
    return np.asarray(np.divide(1.0, square, out=np.zeros(square.shape), where=square > 0))


def edge_t(values: np.ndarray, rim: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return t, by the inner wells' MAD, and the difference of the medians of edge and inner wells, (column) each.

    NaN with fewer than three edge or five inner wells; t also where the inner wells do not differ.
    """
    t, difference = (np.full(values.shape[1], np.nan) for _ in range(2))
    there = np.isfinite(values)
    n_edge, n_inner = there[rim].sum(axis=0), there[~rim].sum(axis=0)
    for column in np.flatnonzero((n_edge >= FEWEST_EDGE) & (n_inner >= FEWEST_INNER)):
        one, known = values[:, column], there[:, column]
        edge, inner = np.median(one[rim & known]), one[~rim & known]
        middle = np.median(inner)
        spread = MAD * np.median(np.abs(inner - middle))
        difference[column] = edge - middle
        if spread > 1e-12:
            t[column] = (edge - middle) / (spread * np.sqrt(1 / n_edge[column] + 1 / n_inner[column]))
    return t, difference


def _from_group_median(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Deviations from the group's median; NaN for wells that are alone in theirs."""
    out = np.full(values.shape, np.nan)
    for group in np.unique(groups):
        members = groups == group
        one = values[members]
        number = np.isfinite(one).sum(axis=0)
        filled = np.where(number > 0, one, 0.0)
        out[members] = np.where(number >= 2, one - np.nanmedian(filled, axis=0), np.nan)
    return out


def _slopes(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Change from the first to the last row and column by least squares, (column) each; 0 where all share one."""
    spans = np.array([np.ptp(place) if place.size else 0.0 for place in (rows, columns)])
    there = np.isfinite(values)
    down, right = (np.full(values.shape[1], np.nan) for _ in range(2))
    for column in np.flatnonzero(there.sum(axis=0) >= FEWEST):
        known = there[:, column]
        design = np.stack([np.ones(known.sum()), rows[known], columns[known]], axis=1)
        slopes = np.linalg.lstsq(design, values[known, column], rcond=None)[0][1:]
        down[column], right[column] = slopes * spans
    return down, right
