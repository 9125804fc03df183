"""The lowest of all valleys: thousands of log-logistic curves fitted from wherever a shared survey points."""

from __future__ import annotations

import numpy as np

from .descent import CLOSE, ROUNDS, descend
from .log_logistic import Array, Curves, Design, Limits, add_spread
from .survey import Survey, starts, survey


def fit(
    design: Design,
    means: Array,
    spread: Array,
    *,
    limits: Limits,
    grid: Survey | None = None,
    close: float = CLOSE,
    rounds: int = ROUNDS,
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
    rounds
        After which a curve that is still creeping along a ridge is left where it is.
    """
    grid = grid or survey(design, means, limits)
    begun = starts(grid, limits)
    # all starts in one descent: the few curves that need many rounds then pay for the rounds once
    rows, ln_hill, location = (np.concatenate(parts) for parts in zip(*begun, strict=True))
    found = descend(design, means[rows], ln_hill, location, limits, close=close, rounds=rounds).packed()
    best = np.full((5, len(means)), np.inf)
    first = 0
    for own, *_ in begun:
        one = found[:, first : first + own.size]
        lower = one[-1] < best[-1, own]
        best[:, own[lower]] = one[:, lower]
        first += own.size
    return add_spread(Curves(*best), spread)
