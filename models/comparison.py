"""Two classifiers on the same patches: how far apart they are, and whether that could be chance."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import softmax
from scipy.stats import binomtest

from plates.errors import SettingsError

from .classifier import Classifier
from .datasets import Patches
from .intervals import LEAST_WELLS, NOTHING_KNOWN, Interval, Z, effective_size, resampled_interval, wells_of, wider
from .prediction import predict_logits
from .scores import score


def compare_classifiers(
    one: Classifier, other: Classifier, *, seen_by_one: Patches, seen_by_other: Patches, seed: int = 0
) -> dict[str, Any]:
    """Let two classifiers judge the same places, each in its own images, and compare them.

    Parameters
    ----------
    seen_by_one, seen_by_other
        The same annotated places in the same order, such as projections and volumes of one table.
    seed
        Of the resampling of wells.

    Returns
    -------
    comparison
        As `compare_calls`, and `probability`: (patch, state) of one and of the other.

    Raises
    ------
    SettingsError
        If the patches are not the same places, or a classifier tells other states apart.
    """
    same = len(seen_by_one) == len(seen_by_other) and all(
        np.array_equal(getattr(seen_by_one, name), getattr(seen_by_other, name)) for name in ("truth", "group")
    )
    if not same or not (seen_by_one.states == seen_by_other.states == one.card.states == other.card.states):
        raise SettingsError(
            f"{one.card.name} and {other.card.name} cannot be compared: they were given other patches, or tell other "
            f"states apart ({', '.join(one.card.states)}; {', '.join(other.card.states)}). Expected the same "
            "annotated places and the same states for both."
        )
    probabilities = [
        softmax(predict_logits(classifier, patches) / classifier.card.temperature, axis=1)
        for classifier, patches in ((one, seen_by_one), (other, seen_by_other))
    ]
    truth, groups = seen_by_one.truth, seen_by_one.group
    calls = [probability.argmax(axis=1) for probability in probabilities]
    scores = [
        score(probability, truth, groups=groups, states=seen_by_one.states, seed=seed) for probability in probabilities
    ]
    return {
        "one": scores[0],
        "other": scores[1],
        **compare_calls(calls[0] == truth, calls[1] == truth, groups=groups, seed=seed),
        "probability": probabilities,
    }


def compare_calls(
    one: npt.ArrayLike, other: npt.ArrayLike, *, groups: npt.ArrayLike, seed: int = 0
) -> dict[str, dict[str, float | None]]:
    """Compare two classifiers by whether they were right, patch by patch.

    Parameters
    ----------
    one, other
        (patch,) whether it was right.
    groups
        (patch,) plate and well: whole wells are resampled, the same ones for both classifiers.

    Returns
    -------
    comparison
        `difference`: accuracy of the other less that of the one, with a 95 % interval, the wider of two:
        wells resampled, and Agresti and Min's for matched pairs (2005, Statistics in Medicine 24:729) with
        as many patches as the wells make them worth, since resampling says "certainly" where no patch was
        judged differently; its ends are None with fewer than five wells. `mcnemar`: patches that only the
        one or only the other got right, and the exact p-value (McNemar 1947), which takes patches for
        independent: where wells differ, the interval is the one to trust.
    """
    a, b = np.asarray(one, dtype=bool), np.asarray(other, dtype=bool)
    only_one, only_other = int((a & ~b).sum()), int((b & ~a).sum())
    wells = wells_of(groups, seed=seed)
    gain = b.astype(float) - a.astype(float)
    low, high = NOTHING_KNOWN
    if wells.count >= LEAST_WELLS:
        resampled = (wells.draws @ wells.sums(gain)) / (wells.draws @ wells.sums(np.ones(len(gain))))
        size = effective_size(np.abs(gain), groups)
        low, high = wider(
            resampled_interval(resampled, wells=wells.count),
            _matched_pairs(only_one * size / len(gain), only_other * size / len(gain), size),
        )
    p = binomtest(only_one, only_one + only_other).pvalue if only_one + only_other else 1.0
    return {
        "difference": {"value": float(gain.mean()), "low": low, "high": high},
        "mcnemar": {"only_one_right": only_one, "only_other_right": only_other, "p_value": float(p)},
    }


def _matched_pairs(only_one: float, only_other: float, pairs: float) -> Interval:
    """Wald's interval of a difference of matched shares, after half a pair was added to each of the four cells."""
    more = pairs + 2
    difference = (only_other - only_one) / more
    spread = Z * np.sqrt((only_one + only_other + 1) / more - difference**2) / np.sqrt(more)
    return max(-1.0, float(difference - spread)), min(1.0, float(difference + spread))
