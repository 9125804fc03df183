"""What a card or an evaluation says of a classifier's errors arrives as it was counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models.classifier import Card, build_classifier, read_card
from models.counted_errors import implied_prior, measure
from models.evaluation import write_evaluation
from plates.errors import SettingsError
from plates.states import STATES
from screening.analysis.validation import (
    merge_live,
    read_record,
    record_of_card,
    record_of_evaluation,
)
from tests.models.made_patches import make_patches

COUNTS = np.arange(1, 26).reshape(5, 5) * 10
DEMONSTRATION = Path(__file__).parents[3] / "models" / "demonstration"


def card(**parts: object) -> Card:
    wells = {"train": ["P1:A01"], "validation": ["P1:A02", "P2:A01"], "test": ["P3:A01", "P3:A02"]}
    return Card(name="made-up", architecture="resnet18", metrics=dict(parts), wells=wells)


def test_the_test_wells_are_taken_where_they_hold_all_groups() -> None:
    test, validation = COUNTS.tolist(), (COUNTS * 2).tolist()
    record = record_of_card(card(test={"confusion": test}, validation={"confusion": validation}))
    assert record["confusion"] == test
    assert record["text"] == "3250 test patches of 2 wells of plates it was not trained on"
    lacking = COUNTS.copy()
    lacking[1] = 0
    record = record_of_card(card(test={"confusion": lacking.tolist()}, validation={"confusion": validation}))
    assert record["confusion"] == validation
    assert record["text"].endswith("2 wells of plates it was trained on, which flatters it")


def test_a_card_without_a_matrix_says_nothing() -> None:
    assert record_of_card(card()) == {}
    assert record_of_card(card(test={"confusion": [[1, 2], [3, 4]]})) == {}
    assert read_record(json.dumps({})) is None


def test_the_two_live_states_become_one_group() -> None:
    found = read_record(json.dumps({"confusion": COUNTS.tolist(), "text": "made up"}))
    assert found is not None
    np.testing.assert_array_equal(found.confusion, COUNTS)
    merged = merge_live(found)
    assert merged.confusion.sum() == COUNTS.sum()
    assert merged.confusion[3, 3] == COUNTS[3:, 3:].sum()
    assert merged.confusion[0, 3] == COUNTS[0, 3:].sum()
    assert merged.confusion[3, 1] == COUNTS[3:, 1].sum()
    np.testing.assert_allclose(merged.prior, [0.2, 0.2, 0.2, 0.4])
    np.testing.assert_allclose(merged.effective, merged.confusion.sum(axis=1))
    assert found.text == "made up; patches of one well taken as independent; prior taken as equal for the five states"


def test_the_demonstration_classifiers_card_can_be_used() -> None:
    found = read_record(record_of_card(read_card(DEMONSTRATION)))
    assert found is not None
    assert (np.diag(found.confusion) / found.confusion.sum(axis=1) > 0.8).all()


@pytest.mark.parametrize(
    "stored",
    [None, "", "no JSON {", "[1, 2]", 7, '{"confusion": "x"}', '{"confusion": [[1, 2], [3]]}'],
)
def test_what_is_no_record_is_none(stored: object) -> None:
    assert read_record(stored) is None


def test_negative_or_missing_counts_are_no_record_and_odd_extras_are_left_out() -> None:
    negative = COUNTS.astype(float)
    negative[0, 0] = -1
    assert read_record({"confusion": negative.tolist()}) is None
    negative[0, 0] = np.nan
    assert read_record({"confusion": negative.tolist()}) is None
    found = read_record({"confusion": COUNTS.tolist(), "prior": [1, 2], "effective": "x", "scores": [[1]]})
    assert found is not None
    assert found.scores is None
    np.testing.assert_allclose(found.prior, np.full(5, 0.2))


def test_patches_of_few_wells_are_worth_less_than_they_are_many() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(5), 200)
    well = np.tile(np.repeat(np.arange(5), 40), 5)
    # in every state one well of five is called wrong altogether
    called = np.where(well == 0, (truth + 1) % 5, truth)
    probability = np.full((1000, 5), 0.05)
    probability[np.arange(1000), called] = 0.8
    crowded = measure(probability, truth, groups=[f"P:{k}" for k in well])
    spread = measure(probability, truth, groups=[f"P:{k}" for k in rng.permutation(1000) % 100])
    assert max(crowded["effective"]) < 20
    assert min(spread["effective"]) > 50
    assert np.sum(crowded["scores"]) == 1000
    assert np.asarray(crowded["confusion"])[0].tolist() == [160, 40, 0, 0, 0]
    found = read_record({**crowded, "text": ""})
    assert found is not None
    assert found.scores is not None
    assert found.effective.sum() == pytest.approx(sum(crowded["effective"]))


@pytest.mark.parametrize("prior", [(0.2, 0.2, 0.2, 0.2, 0.2), (0.5, 0.2, 0.1, 0.1, 0.1)])
def test_the_prior_is_found_whatever_the_shares_of_the_validation_patches(prior: tuple[float, ...]) -> None:
    rng = np.random.default_rng(1)
    truth = rng.choice(5, size=20000, p=[0.05, 0.1, 0.15, 0.3, 0.4])
    means = np.eye(5) * 2
    seen = means[truth] + rng.normal(size=(20000, 5))
    density = np.exp(-((seen[:, None] - means) ** 2).sum(axis=2) / 2) * np.array(prior)
    found = implied_prior(density / density.sum(axis=1, keepdims=True), truth)
    assert found is not None
    np.testing.assert_allclose(found, prior, atol=0.02)


def test_a_state_without_patches_leaves_the_prior_open() -> None:
    assert implied_prior(np.full((4, 5), 0.2), [0, 1, 2, 3]) is None
    assert measure(np.full((4, 5), 0.2), [0, 1, 2, 3], groups=list("abcd"))["prior"] is None


def test_an_evaluation_on_own_plates_can_stand_in_for_the_card(tmp_path: Path) -> None:
    patches = make_patches(60, px=32, seed=3, wells=6)
    untrained = Card(name="made-up", architecture="resnet18", patch_px=32, wells={"train": ["P.zarr:A01"]})
    written = write_evaluation(build_classifier(untrained), patches, out=tmp_path / "record", text="own plates")
    record = record_of_evaluation(tmp_path / "record")
    assert record["confusion"] == written["scores"]["confusion"]
    assert "own plates; 1 of these wells were trained on" in record["text"]
    assert read_record(json.dumps(record)) is not None


def test_an_evaluation_of_other_states_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "record"
    folder.mkdir()
    (folder / "evaluation.json").write_text(json.dumps({"format": 1, "classifier": {"states": ["dead", "live"]}}))
    with pytest.raises(SettingsError, match=f"Expected {STATES[0]}"):
        record_of_evaluation(folder)
