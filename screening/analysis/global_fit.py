"""The lowest of all valleys: thousands of log-logistic curves fitted from wherever a shared survey points."""

from __future__ import annotations

import numpy as np

from .descent import CLOSE, descend
from .log_logistic import Array, Curves, Design, Limits, add_spread
from .survey import Survey, starts, survey


def fit(
    design: Design, means: Array, spread: Array, *, limits: Limits, grid: Survey | None = None, close: float = CLOSE
) -> Curves:
    """Fit one curve per row of `means` by least squares.

    Parameters
    ----------
    design
        The doses that all curves share.
    means
        (curve, dose) mean response at each dose; finite.
    spread
        (curve,) sum of squares of the wells around their dose's mean.
    limits
        Box of the parameters.
    grid
        `survey` of the same curves, if there is one already.
    close
        Step of ln hill and log10 EC50 at which a curve is done.
    """
    grid = grid or survey(design, means, limits)
    best = np.full((5, len(means)), np.inf)
    for rows, ln_hill, location in starts(grid, limits):
        found = descend(design, means[rows], ln_hill, location, limits, close=close).packed()
        lower = found[-1] < best[-1, rows]
        best[:, rows[lower]] = found[:, lower]
    return add_spread(Curves(*best), spread)
