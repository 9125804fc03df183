"""Scores against scikit-learn, and intervals that know about wells."""

import json

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import confusion_matrix, precision_score, recall_score, roc_auc_score

from models.evaluation import bootstrap_accuracy, confusion, evaluate, one_vs_rest_auc
from plates.states import STATES


def test_every_score_agrees_with_scikit_learn() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(5, size=400)
    probability = softmax(random.normal(0, 1, (400, 5)) + 1.5 * np.eye(5)[truth], axis=1)
    called = probability.argmax(axis=1)
    scores = evaluate(probability, truth, groups=np.arange(400) // 20)
    assert scores["confusion"] == confusion_matrix(truth, called).tolist()
    np.testing.assert_allclose(list(scores["recall"].values()), recall_score(truth, called, average=None))
    np.testing.assert_allclose(list(scores["precision"].values()), precision_score(truth, called, average=None))
    for k, state in enumerate(STATES):
        assert scores["auc"][state] == pytest.approx(roc_auc_score(truth == k, probability[:, k]))
    assert scores["wells"] == 20
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_ties_count_half_in_the_auc() -> None:
    assert one_vs_rest_auc([0.5, 0.5, 0.1], [True, False, False]) == 0.75
    assert one_vs_rest_auc([0.5, 0.5], [True, True]) is None


def test_patches_of_few_wells_say_less_than_as_many_patches_of_many() -> None:
    random = np.random.default_rng(1)
    well = np.repeat(np.arange(10), 100)
    right = random.random(1000) < np.repeat(random.uniform(0.5, 1.0, 10), 100)
    by_well = bootstrap_accuracy(right, groups=well, seed=0)
    by_patch = bootstrap_accuracy(right, groups=np.arange(1000), seed=0)
    assert by_well[0] is not None
    assert by_well[1] is not None
    assert by_patch[0] is not None
    assert by_patch[1] is not None
    assert by_well[0] < right.mean() < by_well[1]
    assert by_well[1] - by_well[0] > 2 * (by_patch[1] - by_patch[0])


def test_one_well_has_no_interval() -> None:
    assert bootstrap_accuracy([True, False], groups=["A01", "A01"], seed=0) == (None, None)


def test_a_state_that_is_absent_has_no_recall_and_no_auc() -> None:
    scores = evaluate(np.eye(5)[[0, 1]], [0, 1], groups=["A01", "A02"])
    assert scores["recall"]["necrosis"] is None
    assert scores["auc"]["necrosis"] is None
    assert confusion([0, 1], [0, 1], states=5).sum() == 2
