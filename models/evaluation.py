"""How right a classifier is on patches whose state is known, with wells as the unit of doubt."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from models.calibration import brier_score, expected_calibration_error, negative_log_likelihood
from plates.states import STATES


def evaluate(
    probability: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    groups: npt.ArrayLike,
    states: Sequence[str] = STATES,
    seed: int = 0,
) -> dict[str, Any]:
    """Score probabilities against known states.

    Parameters
    ----------
    probability
        (patch, state).
    truth
        (patch,) index of the true state.
    groups
        (patch,) plate and well of each patch: whole wells are resampled for the interval, since patches
        of one well are not independent.
    states
        Names of the states.
    seed
        Of the bootstrap.

    Returns
    -------
    scores
        Plain numbers, lists and dicts that JSON can hold; None where a score is not defined (a state
        that is absent, or fewer than two wells for an interval).
    """
    p, y = np.asarray(probability, dtype=float), np.asarray(truth, dtype=np.int64)
    called = p.argmax(axis=1)
    table = confusion(y, called, states=len(states))
    low, high = bootstrap_accuracy(called == y, groups=groups, seed=seed)
    right = np.diag(table)
    return {
        "patches": len(y),
        "wells": len(np.unique(np.asarray(groups))),
        "accuracy": float((called == y).mean()),
        "accuracy_low": low,
        "accuracy_high": high,
        "recall": _per_state(states, right, table.sum(axis=1)),
        "precision": _per_state(states, right, table.sum(axis=0)),
        "auc": {state: one_vs_rest_auc(p[:, k], y == k) for k, state in enumerate(states)},
        "confusion": table.tolist(),
        "ece": expected_calibration_error(p, y),
        "nll": negative_log_likelihood(p, y),
        "brier": brier_score(p, y),
    }


def confusion(truth: npt.ArrayLike, called: npt.ArrayLike, *, states: int) -> npt.NDArray[np.int64]:
    """Count patches by (true state, called state)."""
    pairs = np.asarray(truth) * states + np.asarray(called)
    return np.bincount(pairs, minlength=states**2).reshape(states, states)


def one_vs_rest_auc(score: npt.ArrayLike, is_state: npt.ArrayLike) -> float | None:
    """Area under the ROC curve (Mann-Whitney, ties count half); None if one side is empty."""
    s, positive = np.asarray(score, dtype=float), np.asarray(is_state, dtype=bool)
    n, m = int(positive.sum()), int((~positive).sum())
    if n == 0 or m == 0:
        return None
    return float((rankdata(s)[positive].sum() - n * (n + 1) / 2) / (n * m))


def bootstrap_accuracy(
    right: npt.ArrayLike, *, groups: npt.ArrayLike, seed: int, resamples: int = 2000
) -> tuple[float | None, float | None]:
    """95 % percentile interval of the accuracy from resampling whole wells; None with fewer than two."""
    _, well = np.unique(np.asarray(groups), return_inverse=True)
    patches = np.bincount(well)
    correct = np.bincount(well, weights=np.asarray(right, dtype=float))
    if len(patches) < 2:
        return None, None
    drawn = np.random.default_rng(seed).integers(len(patches), size=(resamples, len(patches)))
    accuracy = correct[drawn].sum(axis=1) / patches[drawn].sum(axis=1)
    low, high = np.quantile(accuracy, (0.025, 0.975))
    return float(low), float(high)


def _per_state(
    states: Sequence[str], part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]
) -> dict[str, float | None]:
    return {state: float(part[k] / whole[k]) if whole[k] else None for k, state in enumerate(states)}
