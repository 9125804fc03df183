"""`tomoscreen evaluate`: wells that the classifier has not seen, and warnings where it has."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from PIL import Image

from models.classifier import Card, build_classifier, save_classifier
from plates.errors import ClassifierError, SettingsError
from plates.states import STATES
from reports.classifier import MOST_PICTURES, picture_file, write_classifier_report
from screening.evaluate import evaluate_classifier, summary, warnings_of
from tests.models.made_patches import MEDIUM, made_index
from tests.models.own_images import write_images

PX = 32
UM = 0.16


class MadePlate:
    """Five cells beside each other in every well, one of each state."""

    wells = tuple(f"A{number:02d}" for number in range(1, 13))
    fields = 1
    timepoints = 1
    voxel_um = (0.95, UM, UM)

    def projection(self, well: str, *, field: int, timepoint: int) -> npt.NDArray[np.uint16]:
        random = np.random.default_rng(int(well[1:]))
        cells = [made_index(state, px=PX, random=random) for state in range(5)]
        return np.rint((np.hstack(cells) + MEDIUM) * 1e4).astype(np.uint16)


def medium_of(_: Path) -> Callable[[str, int, int], float]:
    return lambda well, field, timepoint: MEDIUM


def annotate(path: Path, *, split: Callable[[str, str], str] | None = None) -> Path:
    """Annotations of two plates: every cell, and a split for (plate, well) where one is given."""
    rows: list[dict[str, Any]] = []
    for plate in ("P1.zarr", "P2.zarr"):
        for well in MadePlate.wells:
            for k, state in enumerate(STATES):
                place = {"y_um": PX * UM / 2, "x_um": (k + 0.5) * PX * UM}
                rows.append({"plate": plate, "well": well, "field": 0, "timepoint": 0, **place, "state": state})
                if split is not None:
                    rows[-1]["split"] = split(plate, well)
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def untrained(folder: Path, **card: Any) -> Path:
    torch.manual_seed(1)
    values = {"name": "untrained", "architecture": "resnet18", "patch_px": PX, **card}
    save_classifier(build_classifier(Card(**values)), folder)
    return folder


def judged(classifier: Path, annotations: Path, out: Path, **how: Any) -> dict[str, Any]:
    return evaluate_classifier(
        classifier, annotations, out=out, device="cpu", open_plate=lambda _: MadePlate(), medium_of=medium_of, **how
    )


def test_wells_that_trained_or_chose_are_left_out(tmp_path: Path) -> None:
    seen = {"train": [f"P1.zarr:{well}" for well in MadePlate.wells[:8]], "validation": ["P1.zarr:A09"], "test": []}
    classifier = untrained(tmp_path / "classifier", wells=seen)
    record = judged(classifier, annotate(tmp_path / "table.csv"), tmp_path / "record")
    places = {(row["plate"].rsplit("/", 1)[-1], row["well"]) for row in record["by_well"]}
    assert places == {("P1.zarr", well) for well in MadePlate.wells[9:]} | {
        ("P2.zarr", well) for well in MadePlate.wells
    }
    assert record["data"]["text"] == "table.csv: wells it has not seen"
    assert warnings_of(record) == [
        "note: it was trained on wells of 1 of these 2 plates; on a new plate it may do worse."
    ]
    predictions = pd.read_csv(tmp_path / "record" / "predictions.csv")
    assert predictions["x_um"].nunique() == 5


def test_pictures_of_the_worst_errors_stay_with_the_record_and_draw_the_page_again(tmp_path: Path) -> None:
    out = tmp_path / "record"
    record = judged(untrained(tmp_path / "classifier"), annotate(tmp_path / "table.csv"), out)
    worst = [error["row"] for error in record["errors"][:MOST_PICTURES]]
    assert worst, "an untrained classifier errs"
    assert sorted(path.name for path in out.glob("*.png")) == sorted(map(picture_file, worst))
    with Image.open(out / picture_file(worst[0])) as picture:
        pixels = np.asarray(picture.convert("RGB"))[:, :PX].astype(int)
    assert np.ptp(pixels, axis=2).max() == 0, "the patch itself is grey"
    place = pd.read_csv(out / "predictions.csv").iloc[worst[0]]
    plate = MadePlate().projection(place["well"], field=0, timepoint=0)
    cell = plate[:, int(place["x_um"] / UM) // PX * PX :][:, :PX].astype(float)
    assert np.corrcoef(cell.ravel(), pixels[..., 0].ravel())[0, 1] > 0.99
    page = (out / "evaluation.html").read_bytes()
    assert page.count(b"<img ") == len(worst)
    assert write_classifier_report(out, out=out / "evaluation.html").read_bytes() == page


def test_a_table_with_splits_is_taken_at_its_word_and_known_wells_are_warned_of(tmp_path: Path) -> None:
    seen = {"train": ["P1.zarr:A01", "P1.zarr:A02"], "validation": ["P1.zarr:A03"], "test": []}
    classifier = untrained(tmp_path / "classifier", wells=seen)
    table = annotate(tmp_path / "table.csv", split=lambda plate, _: "test" if plate == "P1.zarr" else "train")
    record = judged(classifier, table, tmp_path / "record")
    assert record["data"]["wells"] == 12
    assert warnings_of(record)[3] == "note: all wells are of one plate; the intervals know nothing of other plates."
    assert warnings_of(record)[:2] == [
        "warning: the classifier was trained on 2 of these 12 wells; the scores flatter it.",
        "warning: the classifier was chosen and calibrated on 1 of these 12 wells; the scores flatter it.",
    ]
    everything = judged(classifier, table, tmp_path / "all", split="all")
    assert everything["data"]["wells"] == 24


def test_a_card_that_names_no_wells_is_warned_of(tmp_path: Path) -> None:
    record = judged(untrained(tmp_path / "classifier"), annotate(tmp_path / "table.csv"), tmp_path / "record")
    assert warnings_of(record) == [
        "warning: the classifier's card does not name its training wells; these may be among them."
    ]


def test_the_summary_names_every_state_and_stays_narrow(tmp_path: Path) -> None:
    record = judged(untrained(tmp_path / "classifier"), annotate(tmp_path / "table.csv"), tmp_path / "record")
    lines = summary(record)
    assert "untrained on table.csv: wells it has not seen" in lines
    assert "120 patches, 24 wells, 2 plates; 95 % intervals over wells in brackets" in lines
    for state in STATES:
        assert sum(line.startswith(f"{state} ") for line in lines) == 1
    assert max(map(len, lines)) <= 110


def test_nothing_left_to_judge_is_an_error_before_anything_is_read(tmp_path: Path) -> None:
    seen = {"train": [f"{plate}:{well}" for plate in ("P1.zarr", "P2.zarr") for well in MadePlate.wells]}
    classifier = untrained(tmp_path / "classifier", wells=seen)
    with pytest.raises(SettingsError, match=r"no patch is left to judge \(wells it has not seen\).*--split all"):
        evaluate_classifier(classifier, annotate(tmp_path / "table.csv"), out=tmp_path / "record", device="cpu")
    assert not (tmp_path / "record").exists()


def test_an_existing_record_and_a_missing_classifier_are_refused(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(SettingsError, match="exists already"):
        evaluate_classifier(tmp_path / "none", tmp_path / "table.csv", out=tmp_path / "there")
    with pytest.raises(ClassifierError, match="no classifier folder"):
        evaluate_classifier(tmp_path / "none", tmp_path / "table.csv", out=tmp_path / "record")


def test_images_of_others_are_judged_by_a_classifier_of_such_images(tmp_path: Path) -> None:
    settings = write_images(tmp_path)
    from models.image_sets import read_image_set

    images = read_image_set(settings)
    card = {"states": images.states, "quantity": images.quantity, "patch_px": images.counts.shape[-1]}
    card |= {"index_window": images.window, "mean": 0.0, "sd": 1.0}
    record = judged(untrained(tmp_path / "classifier", **card), settings, tmp_path / "record")
    assert record["data"]["patches"] == len(images)
    other = untrained(tmp_path / "other", **(card | {"quantity": "refractive index"}))
    with pytest.raises(SettingsError, match="was trained on refractive index"):
        judged(other, settings, tmp_path / "again")


def test_a_state_without_a_score_is_a_dash() -> None:
    nothing = {"value": None, "low": None, "high": None}
    some = {"value": 0.5, "low": None, "high": None}
    scores = {"accuracy": some, "balanced_accuracy": some, "recall": {"a": some, "b": nothing}}
    scores |= {"precision": {"a": some, "b": nothing}, "auc": {"a": nothing, "b": nothing}}
    part = {"ece": 0.1, "ece_by_chance": {"mean": 0.05, "high": 0.1}}
    record = {
        "classifier": {"name": "n", "states": ["a", "b"]},
        "data": {"text": "t", "patches": 2, "wells": 1, "plates": 1, "known_wells": {"train": 0}, "known_plates": 0},
        "scores": scores,
        "calibration": {"before": part, "after": part},
        "abstention": {"threshold": 0.9, "coverage": 0.0, "error_of_all": 0.5, "error_of_kept": None},
        "outliers": None,
    }
    lines = summary(record)
    assert [line.split() for line in lines if line.startswith(("a ", "b "))] == [
        ["a", "0.5000", "0.5000", "-"],
        ["b", "-", "-", "-"],
    ]
