"""A classifier's errors as counts: what a correction of a plate's fractions needs to know of known patches."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .intervals import effective_size

FEWEST_ERRORS = 20
SCORE_EDGES = (0.5, 0.7, 0.85, 0.95)  # of the probability of the called state


def measure(probability: ArrayLike, truth: ArrayLike, *, groups: ArrayLike) -> dict[str, Any]:
    """Count what a correction needs to know from calibrated probabilities, (patch, state), of known states.

    Returns
    -------
    record
        `confusion` (true, called); `effective` (true): independent patches that those of a state are worth, as
        their wells make right and wrong calls crowd; `prior` (state): for which the probabilities are
        calibrated, None where a state is absent or fewer than 20 patches are called wrong; `scores` (true,
        called, bin): by the probability of the called state, with limits 0.5, 0.7, 0.85 and 0.95. Plain lists
        that JSON can hold.
    """
    p, y, group = np.asarray(probability, dtype=float), np.asarray(truth, dtype=np.int64), np.asarray(groups)
    states = p.shape[1]
    called = p.argmax(axis=1)
    bins = np.searchsorted(SCORE_EDGES, p.max(axis=1), side="right")
    scores = np.zeros((states, states, len(SCORE_EDGES) + 1), dtype=np.int64)
    np.add.at(scores, (y, called, bins), 1)
    effective = [effective_size(called[y == k] == k, group[y == k]) if (y == k).any() else 0.0 for k in range(states)]
    # few errors say as little of the prior as of the temperature
    prior = implied_prior(p, y) if (called != y).sum() >= FEWEST_ERRORS else None
    return {
        "confusion": scores.sum(axis=2).tolist(),
        "effective": effective,
        "prior": None if prior is None else prior.tolist(),
        "scores": scores.tolist(),
    }


def implied_prior(probability: ArrayLike, truth: ArrayLike) -> NDArray[np.float64] | None:
    """Shares of the states for which probabilities are calibrated; None where a state has no patch.

    A classifier that was trained with all states weighing alike is calibrated for equal shares, whatever the
    shares of its validation patches. Intercepts b fitted to log P by maximum likelihood say how far the two
    are apart (the bias of "bias-corrected" calibration, Alexandari, Kundaje and Shrikumar 2020): the prior is
    the shares of these patches divided by exp(b).
    """
    p = np.maximum(np.asarray(probability, dtype=float), 1e-12)
    share = np.bincount(np.asarray(truth), minlength=p.shape[1]) / max(len(p), 1)
    if not (share > 0).all():
        return None
    factor = np.ones(p.shape[1])
    for _ in range(1000):  # each step raises the likelihood (iterative scaling)
        moved = p * factor
        change = share / (moved / moved.sum(axis=1, keepdims=True)).mean(axis=0)
        factor *= change
        if np.abs(change - 1).max() < 1e-9:
            break
    prior: NDArray[np.float64] = share / factor / (share / factor).sum()
    return prior
