"""The record of an evaluation: the numbers of the patches that were given, whole or not there."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics import accuracy_score, confusion_matrix, roc_auc_score

import models.evaluation
from models.calibration import expected_calibration_error
from models.classifier import Card, Classifier, build_classifier
from models.datasets import Patches, by_split
from models.evaluation import evaluate, evaluation_record, read_evaluation, write_evaluation
from models.outliers import fit_outliers
from models.prediction import predict_features, predict_logits
from plates.errors import SettingsError
from plates.states import STATES
from tests.models.made_patches import make_patches

PX = 32


@pytest.fixture(scope="module")
def patches() -> Patches:
    return make_patches(90, px=PX, seed=3, wells=6)


@pytest.fixture(scope="module")
def classifier(patches: Patches) -> Classifier:
    """A network that has seen nothing, with everything that training would have left on it."""
    torch.manual_seed(0)
    card = Card(
        name="made-up",
        architecture="resnet18",
        patch_px=PX,
        temperature=0.5,
        uncertain={"threshold": 0.3, "coverage": 0.95},
        wells={"train": ["P.zarr:A01", "P.zarr:B01"], "validation": ["P.zarr:A02", "P.zarr:A03"], "test": []},
    )
    built = build_classifier(card)
    features = predict_features(built, patches)
    return replace(built, outliers=fit_outliers(features, patches.truth, features))


def table_of(patches: Patches) -> pd.DataFrame:
    """The rows that patches were read from, as an annotation table has them."""
    names = pd.Series(patches.group).str.rsplit(":", n=1, expand=True).set_axis(["plate", "well"], axis=1)
    return names.assign(field=np.arange(len(patches)), timepoint=3, y_um=1.5, x_um=2.5)


def test_the_record_holds_the_numbers_of_the_patches(classifier: Classifier, patches: Patches, tmp_path: Path) -> None:
    table = table_of(patches).assign(x_um=np.arange(90) / 2, line=np.arange(90))
    (tmp_path / "training.csv").write_text("epoch,train_loss\n0,1.5\n1,nan\n")
    record = write_evaluation(
        classifier, patches, out=tmp_path / "deep" / "record", table=table, folder=tmp_path, text="made-up cells"
    )
    assert read_evaluation(tmp_path / "deep" / "record") == record
    probability = softmax(predict_logits(classifier, patches) / 0.5, axis=1)
    called = probability.argmax(axis=1)
    assert record["data"] == {
        "text": "made-up cells",
        "patches": 90,
        "wells": 6,
        "plates": 1,
        "known_wells": {"train": 1, "validation": 2, "test": 0},
        "known_plates": 1,
    }
    assert record["scores"]["accuracy"]["value"] == pytest.approx(accuracy_score(patches.truth, called))
    assert record["scores"]["confusion"] == confusion_matrix(patches.truth, called, labels=range(5)).tolist()
    after = record["calibration"]["after"]
    assert after["ece"] == pytest.approx(expected_calibration_error(probability, patches.truth), abs=1e-6)
    assert record["calibration"]["before"]["ece"] != after["ece"]
    assert record["abstention"]["threshold"] == 0.3
    assert record["abstention"]["chosen_on"] == "validation patches"
    assert record["training"] == [{"epoch": 0.0, "train_loss": 1.5}, {"epoch": 1.0, "train_loss": None}]
    assert record["outliers"]["share_above"] <= 0.02
    assert sum(row["patches"] * row["accuracy"] for row in record["by_well"]) == pytest.approx(
        (called == patches.truth).sum()
    )


def test_every_row_of_the_predictions_is_a_patch_and_errors_point_at_their_rows(
    classifier: Classifier, patches: Patches, tmp_path: Path
) -> None:
    table = table_of(patches)
    record = write_evaluation(classifier, patches, out=tmp_path / "record", table=table)
    rows = pd.read_csv(tmp_path / "record" / "predictions.csv")
    assert list(rows) == [
        *("plate", "well", "field", "timepoint", "y_um", "x_um", "state", "called"),
        *(f"p_{state}" for state in STATES),
        "outlier",
    ]
    assert (rows["plate"] + ":" + rows["well"]).tolist() == patches.group.tolist()
    assert rows["field"].tolist() == list(range(90))
    probability = rows[[f"p_{state}" for state in STATES]].to_numpy()
    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-4)
    for k, state in enumerate(STATES):
        auc = roc_auc_score(rows["state"] == state, probability[:, k])
        assert record["scores"]["auc"][state]["value"] == pytest.approx(auc, abs=1e-3)
    wrong = rows[rows["state"] != rows["called"]]
    assert sorted(error["row"] for error in record["errors"]) == wrong.index.tolist()
    for error in record["errors"]:
        row = rows.iloc[error["row"]]
        assert (error["state"], error["called"]) == (row["state"], row["called"])
        assert error["probability"] == pytest.approx(row[f"p_{row['called']}"], rel=1e-4)
    sure = [error["probability"] for error in record["errors"]]
    assert sure == sorted(sure, reverse=True)


def test_each_prediction_has_its_own_place_when_the_table_mixes_the_splits(
    classifier: Classifier, patches: Patches, tmp_path: Path
) -> None:
    split = np.where(np.isin(patches.group, ["P.zarr:A01", "P.zarr:A03"]), "test", "train")
    table = table_of(patches).assign(split=split)
    read = by_split(table)  # as `read_patches` orders them
    given = replace(patches.take(read["field"].to_numpy()), split=read["split"].to_numpy(dtype=str))
    write_evaluation(classifier, given, out=tmp_path / "record", table=table)
    rows = pd.read_csv(tmp_path / "record" / "predictions.csv")
    assert rows["field"].tolist() == read["field"].tolist()
    assert (patches.group[rows["field"]] == rows["plate"] + ":" + rows["well"]).all()
    with pytest.raises(ValueError, match="table of 89 rows is not the one that the 90 patches were read from"):
        write_evaluation(classifier, given, out=tmp_path / "other", table=table[1:])


def test_images_of_another_kind_are_refused(classifier: Classifier, patches: Patches, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"show grey value in projections, the classifier .* for refractive index"):
        write_evaluation(classifier, replace(patches, quantity="grey value"), out=tmp_path / "record")
    card = replace(classifier.card, planes=4, um_per_plane=1.0)
    volumes = replace(patches, counts=patches.counts[:, None].repeat(4, axis=1), um_per_plane=0.5)
    with pytest.raises(SettingsError, match=r"in 4 planes 0\.5 um apart, the classifier .* in 4 planes 1\.0 um apart"):
        write_evaluation(replace(classifier, card=card), volumes, out=tmp_path / "record")


def test_curves_and_lists_stay_small_whatever_the_number_of_patches() -> None:
    random = np.random.default_rng(1)
    truth = random.integers(5, size=20_000)
    logits = random.normal(0, 1, (20_000, 5)) + 1.0 * np.eye(5)[truth]
    groups = np.array([f"P1:{well}" for well in np.arange(20_000) // 200])
    record = evaluation_record(Card(name="n", architecture="resnet18"), logits=logits, truth=truth, groups=groups)
    assert all(len(curve["false_positive"]) <= 200 for curve in record["roc"].values())
    assert len(record["risk_coverage"]["coverage"]) <= 200
    assert len(json.dumps(record)) < 250_000
    assert record["data"]["known_wells"] == {}
    assert record["abstention"]["chosen_on"] == "these patches"


def test_what_fails_half_way_leaves_nothing(
    classifier: Classifier, patches: Patches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a number that JSON cannot hold comes up when the table is written already
    monkeypatch.setattr(models.evaluation, "_training_rows", lambda _: [{"epoch": float("nan")}])
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_evaluation(classifier, patches, out=tmp_path / "record")
    assert list(tmp_path.iterdir()) == []


def test_a_record_is_not_overwritten_and_wrong_patches_are_refused(
    classifier: Classifier, patches: Patches, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(SettingsError, match=r"exists already\. Give another folder"):
        write_evaluation(classifier, patches, out=tmp_path / "there")
    with pytest.raises(SettingsError, match="no patch to evaluate on"):
        write_evaluation(classifier, patches.of("test"), out=tmp_path / "record")
    with pytest.raises(SettingsError, match="The patches are of the states a, b, but the classifier made-up tells"):
        write_evaluation(classifier, replace(patches, states=("a", "b")), out=tmp_path / "record")


def test_a_folder_without_a_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"holds no evaluation .* 'tomoscreen evaluate'"):
        read_evaluation(tmp_path)
    (tmp_path / "evaluation.json").write_text('{"format": 99}')
    with pytest.raises(SettingsError, match="of format 99, this version reads 1"):
        read_evaluation(tmp_path)


def test_what_a_card_carries_is_what_scikit_learn_finds() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(5, size=400)
    probability = softmax(random.normal(0, 1, (400, 5)) + 1.5 * np.eye(5)[truth], axis=1)
    scores = evaluate(probability, truth, groups=np.arange(400) // 20)
    assert scores["accuracy"] == pytest.approx(accuracy_score(truth, probability.argmax(axis=1)))
    assert scores["accuracy_low"] < scores["accuracy"] < scores["accuracy_high"]
    for k, state in enumerate(STATES):
        assert scores["auc"][state] == pytest.approx(roc_auc_score(truth == k, probability[:, k]))
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores
