"""Temperatures that are known beforehand, and scores against other people's formulas."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from models.calibration import (
    brier_score,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
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


def test_with_fewer_than_twenty_errors_nothing_is_fitted_and_the_card_says_so() -> None:
    truth = np.arange(500) % 5
    logits = 4.0 * np.eye(5)[truth]
    logits[:19] = logits[:19, ::-1] * 0 + np.eye(5)[(truth[:19] + 1) % 5]
    found = fit_temperature(logits, truth, held_out="2 validation wells")
    assert found.temperature == 1.0
    assert found.text == "not calibrated: 19 errors in 500 patches of 2 validation wells"


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
