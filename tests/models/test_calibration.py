"""Temperatures that are known beforehand, and scores against other people's formulas."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from models.calibration import (
    brier_score,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability,
)


def drawn_from(logits: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A true state for each patch, drawn from the probabilities that the logits name."""
    state: np.ndarray = (softmax(logits, axis=1).cumsum(axis=1) > random.random((len(logits), 1))).argmax(1)
    return state


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_a_known_temperature_is_found_again(temperature: float) -> None:
    random = np.random.default_rng(1)
    honest = random.normal(0, 2, (6000, 5))
    truth = drawn_from(honest, random)
    found = fit_temperature(honest * temperature, truth, held_out="3 wells")
    assert found.temperature == pytest.approx(temperature, rel=0.06)
    assert found.text.endswith("from 6000 patches of 3 wells")


def test_overconfident_logits_become_calibrated() -> None:
    random = np.random.default_rng(2)
    honest = random.normal(0, 1.5, (8000, 5))
    truth = drawn_from(honest, random)
    found = fit_temperature(3 * honest[:4000], truth[:4000], held_out="half")
    before, after = (softmax(3 * honest[4000:] / t, axis=1) for t in (1.0, found.temperature))
    assert expected_calibration_error(before, truth[4000:]) > 0.15
    assert expected_calibration_error(after, truth[4000:]) < 0.03


def timid(patches: int, *, wrong: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Logits as label smoothing of 0.05 makes them (0.96 sure of what is right nearly always), and the truth."""
    truth = random.integers(5, size=patches)
    called = truth.copy()
    called[:wrong] = (called[:wrong] + 1) % 5
    logits = np.log(24 * 4) * np.eye(5)[called] + random.normal(0, 0.4, (patches, 5))
    return logits, truth


def test_with_hardly_an_error_a_timid_classifier_gets_bolder_and_never_certain() -> None:
    random = np.random.default_rng(6)
    logits, truth = timid(2500, wrong=5, random=random)
    found = fit_temperature(logits, truth, held_out="30 validation wells")
    assert 0.5 < found.temperature < 0.95
    assert found.text.endswith("of 30 validation wells, whose 5 errors were counted as 20")
    new, new_truth = timid(4000, wrong=8, random=random)
    before, after = (expected_calibration_error(softmax(new / t, axis=1), new_truth) for t in (1.0, found.temperature))
    assert before > 0.03
    assert after < 0.02
    none, no_truth = timid(2500, wrong=0, random=random)
    assert fit_temperature(none, no_truth, held_out="x").temperature > 0.5


@pytest.mark.parametrize(("patches", "wrong"), [(15, 0), (200, 1), (0, 0)])
def test_too_few_patches_without_errors_fit_nothing_and_the_card_says_so(patches: int, wrong: int) -> None:
    logits, truth = timid(patches, wrong=wrong, random=np.random.default_rng(7))
    found = fit_temperature(logits, truth, held_out="2 validation wells")
    assert found.temperature == 1.0
    assert found.text == f"not calibrated: {wrong} errors in {patches} patches of 2 validation wells, too few to tell"


def test_logits_that_know_nothing_stop_at_the_bound() -> None:
    random = np.random.default_rng(3)
    found = fit_temperature(random.normal(0, 50, (2000, 5)), random.integers(5, size=2000), held_out="noise")
    assert found.temperature == pytest.approx(10.0, rel=0.01)


def test_scores_agree_with_scikit_learn_and_with_the_hand() -> None:
    random = np.random.default_rng(4)
    probability = softmax(random.normal(0, 1, (300, 5)), axis=1)
    truth = random.integers(5, size=300)
    assert negative_log_likelihood(probability, truth) == pytest.approx(log_loss(truth, probability, labels=range(5)))
    assert brier_score([[0.7, 0.3], [0.2, 0.8]], [0, 0]) == pytest.approx((0.18 + 1.28) / 2)
    # two patches called with 0.9, one of them right: the gap is 0.4
    assert expected_calibration_error([[0.9, 0.1], [0.9, 0.1]], [0, 1]) == pytest.approx(0.4)


def test_bins_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(5)
    honest = random.normal(0, 2, (3000, 5))
    truth, probability = drawn_from(honest, random), softmax(1.5 * honest, axis=1)
    bins = reliability(probability, truth, groups=np.arange(3000) // 30)["bins"]
    accuracy, confidence = calibration_curve(
        probability.argmax(axis=1) == truth, probability.max(axis=1), n_bins=15, strategy="uniform"
    )
    np.testing.assert_allclose(bins["accuracy"], accuracy)
    np.testing.assert_allclose(bins["confidence"], confidence)
    assert sum(bins["count"]) == 3000
    assert all(
        low <= right <= high for low, right, high in zip(bins["low"], bins["accuracy"], bins["high"], strict=True)
    )


def test_what_chance_alone_would_show_is_what_calibrated_probabilities_show() -> None:
    random = np.random.default_rng(6)
    seen, said, passed = [], [], 0
    for seed in range(60):
        honest = random.normal(0, 2, (400, 5))
        probability = softmax(honest, axis=1)
        shown = reliability(probability, drawn_from(honest, random), groups=np.arange(400), seed=seed)
        seen.append(shown["ece"])
        said.append(shown["ece_by_chance"]["mean"])
        passed += shown["ece"] > shown["ece_by_chance"]["high"]
    assert np.mean(seen) == pytest.approx(np.mean(said), rel=0.08)
    assert np.mean(seen) > 0.02  # 400 patches cannot show an error of 0.02 even where there is none
    assert passed <= 8  # 3 expected


def test_equally_full_bins_see_an_error_among_the_certain() -> None:
    # all confidences in one wide bin: those of 0.999 are always right, those of 0.94 in 88 of 100
    confidence = np.repeat([0.999, 0.94], [900, 100])
    right = np.concatenate([np.ones(900), np.arange(100) < 88]).astype(bool)
    probability = np.stack([confidence, 1 - confidence], axis=1)
    wide, full = (
        expected_calibration_error(probability, np.where(right, 0, 1), equal_mass=equal) for equal in (False, True)
    )
    assert wide == pytest.approx(abs(0.9 * 0.001 - 0.1 * 0.06))
    assert full == pytest.approx(0.9 * 0.001 + 0.1 * 0.06)
