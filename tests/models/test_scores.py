"""Scores against scikit-learn, and intervals that know about wells."""

import json
import time

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import softmax
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)
from sklearn.metrics import roc_curve as their_roc_curve

from models.intervals import wells_of
from models.scores import _pairs_won, confusion, one_vs_rest_auc, roc_curve, score
from plates.states import STATES


def drawn(patches: int, *, seed: int, skill: float = 1.5) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    truth = random.integers(5, size=patches)
    return softmax(random.normal(0, 1, (patches, 5)) + skill * np.eye(5)[truth], axis=1), truth


def values(scores: dict[str, dict[str, float]]) -> list[float]:
    return [entry["value"] for entry in scores.values()]


def test_every_score_agrees_with_scikit_learn() -> None:
    probability, truth = drawn(400, seed=0)
    called = probability.argmax(axis=1)
    scores = score(probability, truth, groups=np.arange(400) // 20, states=STATES)
    assert scores["confusion"] == confusion_matrix(truth, called).tolist()
    assert scores["accuracy"]["value"] == pytest.approx((called == truth).mean())
    assert scores["balanced_accuracy"]["value"] == pytest.approx(balanced_accuracy_score(truth, called))
    np.testing.assert_allclose(values(scores["recall"]), recall_score(truth, called, average=None))
    np.testing.assert_allclose(values(scores["precision"]), precision_score(truth, called, average=None))
    np.testing.assert_allclose(values(scores["f1"]), f1_score(truth, called, average=None))
    for k, state in enumerate(STATES):
        assert scores["auc"][state]["value"] == pytest.approx(roc_auc_score(truth == k, probability[:, k]))
    assert scores["wells"] == 20
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_every_interval_holds_its_score() -> None:
    probability, truth = drawn(600, seed=1, skill=3.0)
    scores = score(probability, truth, groups=np.arange(600) // 30, states=STATES)
    entries = [scores["accuracy"], scores["balanced_accuracy"]]
    entries += [entry for name in ("recall", "precision", "f1", "auc") for entry in scores[name].values()]
    for entry in entries:
        assert 0 <= entry["low"] < entry["value"] < entry["high"] <= 1


def test_a_classifier_without_an_error_is_not_said_to_be_certain() -> None:
    truth = np.arange(400) % 5
    scores = score(np.eye(5)[truth], truth, groups=np.arange(400) // 40, states=STATES)
    assert (scores["accuracy"]["low"], scores["accuracy"]["high"]) == (pytest.approx(0.955, abs=0.003), 1.0)
    for name in ("recall", "precision", "f1", "auc"):
        for entry in scores[name].values():
            assert entry["value"] == entry["high"] == 1.0
            assert 0.7 < entry["low"] < 0.98
    assert scores["balanced_accuracy"]["low"] < 0.98


def test_the_resampled_area_is_the_area_of_the_resampled_patches() -> None:
    """The shortcut over pairs of wells against scikit-learn on patches that are written out, ties and all."""
    random = np.random.default_rng(2)
    well = random.integers(6, size=150)
    positive = random.random(150) < 0.4
    value = np.round(random.normal(positive, 1), 1)
    wells = wells_of(well, resamples=20)
    won = _pairs_won(value, positive, wells)
    n, m = wells.sums(positive.astype(float)), wells.sums((~positive).astype(float))
    for draw in wells.draws:
        again = np.concatenate([np.flatnonzero(well == k) for k in range(6) for _ in range(int(draw[k]))])
        area = float(draw @ won @ draw / ((draw @ n) * (draw @ m)))
        assert area == pytest.approx(roc_auc_score(positive[again], value[again]))


def test_intervals_over_wells_hold_the_truth() -> None:
    """Wells with a shift of their own; the truth is the score of very many wells, by scikit-learn."""

    def simulated(wells: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        well = np.repeat(np.arange(wells), 30)
        truth = random.integers(2, size=len(well))
        shift = random.normal(0, 0.5, (wells, 2))
        logits = random.normal(0, 1, (len(well), 2)) + 1.5 * np.eye(2)[truth] + shift[well]
        return softmax(logits, axis=1), truth, well

    random = np.random.default_rng(5)
    p, y, _ = simulated(3000)
    called = p.argmax(axis=1)
    many = {
        "accuracy": accuracy_score(y, called),
        "balanced_accuracy": balanced_accuracy_score(y, called),
        "recall": recall_score(y == 0, called == 0),
        "precision": precision_score(y == 0, called == 0),
        "f1": f1_score(y == 0, called == 0),
        "auc": roc_auc_score(y == 0, p[:, 0]),
    }
    held = dict.fromkeys(many, 0)
    for seed in range(100):
        p, y, well = simulated(15)
        scores = score(p, y, groups=well, states=("a", "b"), seed=seed)
        for name, known in many.items():
            entry = scores[name] if "value" in scores[name] else scores[name]["a"]
            held[name] += entry["low"] <= known <= entry["high"]
    assert min(held.values()) >= 89, held  # 95 expected


def test_ten_thousand_patches_are_scored_in_seconds() -> None:
    probability, truth = drawn(10_000, seed=3)
    began = time.process_time()
    score(probability, truth, groups=np.arange(10_000) // 100, states=STATES)
    assert time.process_time() - began < 2


def test_patches_of_few_wells_say_less_than_as_many_patches_of_many() -> None:
    random = np.random.default_rng(1)
    well = np.repeat(np.arange(10), 100)
    truth = np.zeros(1000, dtype=int)
    wrong = random.random(1000) > np.repeat(random.uniform(0.5, 1.0, 10), 100)
    by_well, by_patch = (
        score(np.eye(2)[wrong.astype(int)], truth, groups=groups, states=("a", "b"))["accuracy"]
        for groups in (well, np.arange(1000))
    )
    assert by_well["high"] - by_well["low"] > 2 * (by_patch["high"] - by_patch["low"])


def test_the_curve_of_the_rates_is_that_of_scikit_learn() -> None:
    probability, truth = drawn(150, seed=4)
    is_state, value = truth == 2, np.round(probability[:, 2], 2)
    curve = roc_curve(value, is_state)
    false, true, _ = their_roc_curve(is_state, value, drop_intermediate=False)
    assert curve is not None
    np.testing.assert_allclose(curve["false_positive"], false)
    np.testing.assert_allclose(curve["true_positive"], true)


def test_a_long_curve_is_thinned_and_keeps_its_area() -> None:
    probability, truth = drawn(20_000, seed=5)
    curve = roc_curve(probability[:, 0], truth == 0)
    assert curve is not None
    assert len(curve["false_positive"]) <= 200
    assert (curve["false_positive"][0], curve["true_positive"][-1]) == (0.0, 1.0)
    area = np.trapezoid(curve["true_positive"], curve["false_positive"])
    assert area == pytest.approx(roc_auc_score(truth == 0, probability[:, 0]), abs=1e-3)


def test_ties_count_half_in_the_auc() -> None:
    assert one_vs_rest_auc([0.5, 0.5, 0.1], [True, False, False]) == 0.75
    assert one_vs_rest_auc([0.5, 0.5], [True, True]) is None


def test_few_wells_have_scores_and_no_intervals() -> None:
    probability, truth = drawn(80, seed=6)
    scores = score(probability, truth, groups=np.arange(80) // 20, states=STATES)
    assert scores["accuracy"]["value"] is not None
    assert scores["accuracy"]["low"] is None
    assert scores["auc"]["necrosis"]["high"] is None


def test_a_state_that_is_absent_has_no_recall_and_no_auc() -> None:
    scores = score(np.eye(5)[[0, 1]], [0, 1], groups=["A01", "A02"], states=STATES)
    assert scores["recall"]["necrosis"] == {"value": None, "low": None, "high": None}
    assert scores["auc"]["necrosis"]["value"] is None
    assert scores["balanced_accuracy"]["value"] == 1.0
    assert confusion([0, 1], [0, 1], states=5).sum() == 2
