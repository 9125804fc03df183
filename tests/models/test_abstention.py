"""What is gained by saying "uncertain", on patches whose probabilities are honest by construction."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import softmax

from models.abstention import abstention, choose_uncertain, risk_coverage


def honest(patches: int, *, seed: int, sharpness: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Probabilities and truth drawn from them; most patches are plain, one in ten is not."""
    random = np.random.default_rng(seed)
    plain = random.random(patches) < 0.9
    logits = random.normal(0, 1, (patches, 5))
    logits[np.arange(patches), random.integers(5, size=patches)] += np.where(plain, 4 * sharpness, sharpness)
    probability = softmax(logits, axis=1)
    truth = (probability.cumsum(axis=1) > random.random((patches, 1))).argmax(axis=1)
    return probability, truth


def test_giving_up_five_percent_halves_the_error() -> None:
    probability, _ = honest(4000, seed=0, sharpness=2.5)
    uncertain = choose_uncertain(probability)
    assert uncertain["coverage"] == pytest.approx(0.95, abs=0.002)
    shown = abstention(*honest(20_000, seed=1, sharpness=2.5), threshold=uncertain["threshold"])
    assert shown["coverage"] == pytest.approx(0.95, abs=0.01)
    assert shown["error_of_kept"] is not None
    assert shown["error_of_all"] is not None
    assert shown["error_of_kept"] < 0.5 * shown["error_of_all"]


def test_a_classifier_whose_confidence_says_nothing_gains_nothing() -> None:
    probability, truth = honest(20_000, seed=2, sharpness=2.5)
    shuffled = np.random.default_rng(3).permutation(20_000)
    called = np.eye(5)[probability.argmax(axis=1)]
    confidence = probability.max(axis=1)[shuffled, None]
    unrelated = confidence * called + (1 - confidence) / 4 * (1 - called)
    shown = abstention(unrelated, truth, threshold=choose_uncertain(unrelated)["threshold"])
    assert shown["error_of_kept"] == pytest.approx(shown["error_of_all"], rel=0.05)


def test_the_curve_by_hand() -> None:
    probability = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.7, 0.3]]
    curve = risk_coverage(probability, [0, 1, 0, 1])
    # the two patches of confidence 0.7 come together
    assert curve["coverage"] == [0.25, 0.5, 1.0]
    assert curve["error"] == [0.0, 0.5, 0.5]
    assert curve["threshold"] == [0.9, 0.8, 0.7]


def test_a_long_curve_is_thinned_and_agrees_with_every_threshold() -> None:
    probability, truth = honest(5000, seed=4, sharpness=2.0)
    curve = risk_coverage(probability, truth)
    assert len(curve["error"]) <= 200
    assert curve["coverage"][-1] == 1.0
    for coverage, error, threshold in list(zip(*curve.values(), strict=True))[::20]:
        shown = abstention(probability, truth, threshold=threshold)
        assert (shown["coverage"], shown["error_of_kept"]) == pytest.approx((coverage, error))


def test_a_threshold_that_nobody_reaches_keeps_nothing() -> None:
    shown = abstention([[0.6, 0.4], [0.7, 0.3]], [0, 1], threshold=0.9)
    assert (shown["coverage"], shown["error_of_kept"], shown["error_of_all"]) == (0.0, None, 0.5)
