"""The folds of a leave-one-out as one: pooled scores, and how far the folds differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import softmax
from scipy.stats import t

from .calibration import expected_calibration_error
from .classifier import Classifier
from .datasets import Patches
from .prediction import predict_logits
from .scores import score

LEAST_FOLDS = 3


@dataclass(frozen=True, eq=False)
class Fold:
    """What one classifier says about the patches that were kept from it: a plate, a date, a family of files."""

    name: str
    probability: npt.NDArray[np.floating]  # (patch, state), calibrated
    truth: npt.NDArray[np.int64]  # (patch,)
    groups: npt.NDArray[np.str_]  # (patch,) plate and well


def predict_fold(name: str, classifier: Classifier, held_out: Patches) -> Fold:
    """A classifier's answers on the patches that it was not trained on."""
    probability = softmax(predict_logits(classifier, held_out) / classifier.card.temperature, axis=1)
    return Fold(name, probability, held_out.truth, held_out.group)


def evaluate_folds(folds: Sequence[Fold], *, states: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """Score the folds together and each by itself.

    Returns
    -------
    scores
        `pooled`: as `scores.score`, over the patches of all folds; its intervals know of wells, not that the
        wells of a fold share a plate and a classifier, and its AUC compares probabilities of different
        classifiers. `folds`: name, patches, wells, accuracy, balanced_accuracy and ece of each. `worst`: name
        of the fold of the lowest balanced accuracy. `between_folds`: mean balanced accuracy of the folds with
        its 95 % interval by Student's t (None with fewer than three), which is what another plate may give.

    Raises
    ------
    ValueError
        If there is no fold, or a well is in two of them.
    """
    if not folds:
        raise ValueError("there is no fold to evaluate")
    wells = np.concatenate([np.unique(fold.groups) for fold in folds])
    names, often = np.unique(wells, return_counts=True)
    if (often > 1).any():
        raise ValueError(f"well {names[often > 1][0]} is in two folds: each is held out once")
    pooled = score(
        np.concatenate([fold.probability for fold in folds]),
        np.concatenate([fold.truth for fold in folds]),
        groups=np.concatenate([fold.groups for fold in folds]),
        states=states,
        seed=seed,
    )
    rows = [_row(fold) for fold in folds]
    recall = np.array([row["balanced_accuracy"] for row in rows])
    return {
        "pooled": pooled,
        "folds": rows,
        "worst": rows[int(recall.argmin())]["name"],
        "between_folds": _mean(recall),
    }


def _row(fold: Fold) -> dict[str, Any]:
    right = fold.probability.argmax(axis=1) == fold.truth
    return {
        "name": fold.name,
        "patches": len(fold.truth),
        "wells": len(np.unique(fold.groups)),
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(np.mean([right[fold.truth == state].mean() for state in np.unique(fold.truth)])),
        "ece": expected_calibration_error(fold.probability, fold.truth),
    }


def _mean(values: npt.NDArray[np.float64]) -> dict[str, float | None]:
    mean = float(values.mean())
    if len(values) < LEAST_FOLDS:
        return {"value": mean, "low": None, "high": None}
    half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return {"value": mean, "low": max(0.0, mean - half), "high": min(1.0, mean + half)}
