"""Folds of a leave-one-out, pooled and apart."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from models.classifier import Card, build_classifier
from models.cross_validation import Fold, evaluate_folds, predict_fold
from models.prediction import predict_logits
from tests.models.made_patches import make_patches

STATES = ("a", "b", "c")


def fold(name: str, *, skill: float, seed: int) -> Fold:
    random = np.random.default_rng(seed)
    truth = random.choice(3, p=[0.6, 0.3, 0.1], size=120)
    probability = softmax(random.normal(0, 1, (120, 3)) + skill * np.eye(3)[truth], axis=1)
    return Fold(name, probability, truth, np.array([f"{name}:A{k // 20:02d}" for k in range(120)]))


def test_pooled_scores_are_over_all_patches_and_each_fold_stands_by_itself() -> None:
    folds = [fold("P1", skill=2, seed=1), fold("P2", skill=0.2, seed=2), fold("P3", skill=2, seed=3)]
    scores = evaluate_folds(folds, states=STATES)
    called, truth = [part.probability.argmax(axis=1) for part in folds], [part.truth for part in folds]
    assert scores["pooled"]["accuracy"]["value"] == pytest.approx(
        accuracy_score(np.concatenate(truth), np.concatenate(called))
    )
    assert scores["pooled"]["wells"] == 18
    each = [balanced_accuracy_score(*pair) for pair in zip(truth, called, strict=True)]
    assert [row["balanced_accuracy"] for row in scores["folds"]] == pytest.approx(each)
    assert scores["worst"] == "P2"
    expected = stats.t.interval(0.95, 2, loc=np.mean(each), scale=stats.sem(each))
    between = scores["between_folds"]
    assert between["value"] == pytest.approx(np.mean(each))
    assert (between["low"], between["high"]) == pytest.approx(np.clip(expected, 0, 1))


def test_two_folds_say_nothing_about_a_third() -> None:
    scores = evaluate_folds([fold("P1", skill=2, seed=1), fold("P2", skill=2, seed=2)], states=STATES)
    assert scores["between_folds"]["low"] is None


def test_a_well_that_is_held_out_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="well P1:A00 is in two folds"):
        evaluate_folds([fold("P1", skill=2, seed=1), fold("P1", skill=2, seed=2)], states=STATES)
    with pytest.raises(ValueError, match="no fold"):
        evaluate_folds([], states=STATES)


def test_a_fold_carries_calibrated_probabilities() -> None:
    classifier = build_classifier(Card(name="n", architecture="resnet18", patch_px=32, temperature=0.5))
    patches = make_patches(10, px=32, seed=0)
    made = predict_fold("P", classifier, patches)
    np.testing.assert_allclose(made.probability, softmax(predict_logits(classifier, patches) / 0.5, axis=1), rtol=1e-6)
    plain = predict_fold("P", replace(classifier, card=replace(classifier.card, temperature=1.0)), patches)
    assert (plain.probability.max(axis=1) < made.probability.max(axis=1)).all()
