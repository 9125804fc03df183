"""`tomoscreen adapt` reads the tables, deals their wells, and rehearses only what the classifier knows."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from models.classifier import Card, build_classifier, load_classifier, save_classifier
from models.datasets import Patches
from plates.errors import SettingsError
from plates.states import STATES
from screening import adapt
from tests.models.made_patches import make_patches

PX = 48


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    card = Card(name="first", architecture="resnet18", patch_px=PX, wells={"train": ["P.zarr:A01", "P.zarr:A02"]})
    save_classifier(build_classifier(card), tmp_path / "first")
    return tmp_path / "first"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[pd.DataFrame]:
    """Tables that were read; the patches of a table are made up, and nothing is trained."""
    tables: list[pd.DataFrame] = []
    made = make_patches(150, px=PX, seed=1, wells=15)

    def patches_of(table: pd.DataFrame, _: Card) -> Patches:
        tables.append(table)
        index = table["y_um"].to_numpy().astype(np.int64)
        chosen = made.take(index)
        groups = np.array([f"{plate}:{well}" for plate, well in zip(table["plate"], table["well"], strict=True)])
        return Patches(
            counts=chosen.counts,
            corner=chosen.corner,
            medium_index=chosen.medium_index,
            truth=chosen.truth,
            group=groups,
            split=table["split"].to_numpy(dtype=str),
        )

    monkeypatch.setattr(adapt, "_read", patches_of)
    monkeypatch.setattr("models.adaptation.fine_tune", lambda start, *_, **__: copy.deepcopy(start.network))
    return tables


def write_table(path: Path, *, plate: str = "Q.zarr", **more: Any) -> Path:
    """15 wells of ten patches; y_um is the number of the made-up patch."""
    rows = [
        {
            "plate": plate,
            "well": f"A{patch // 5 % 15 + 1:02d}",
            "field": 0,
            "timepoint": 0,
            "y_um": patch,
            "x_um": 0,
            "state": STATES[patch % 5],
        }
        | more
        for patch in range(150)
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_a_table_without_splits_is_dealt_by_wells(folder: Path, read: list[pd.DataFrame], tmp_path: Path) -> None:
    said: list[str] = []
    record = adapt.adapt_classifier(
        folder,
        write_table(tmp_path / "new.csv"),
        out=tmp_path / "out",
        budgets=(10, 20),
        new_line="A549",
        norm="keep",
        command="tomoscreen adapt",
        progress=lambda _, __, what: said.append(what),
    )
    (table,) = read
    assert set(table["split"]) == {"train", "test"}
    assert (table.groupby("well")["split"].nunique() == 1).all()
    assert (table["split"] == "train").mean() == pytest.approx(0.6, abs=0.07)
    assert [step["patches"] for step in record["curve"]] == [10, 20]
    assert record["text"]["new_line"] == "A549"
    assert record["old_line"] is None
    assert said == ["adapting to 10 patches", "adapting to 20 patches", "adapted"]
    assert "A549" in (tmp_path / "out" / "adaptation.html").read_text(encoding="utf-8")
    assert load_classifier(tmp_path / "out").card.command == "tomoscreen adapt"


def test_old_wells_that_were_trained_on_are_rehearsed_and_the_others_measure_forgetting(
    folder: Path, read: list[pd.DataFrame], tmp_path: Path
) -> None:
    new, old = write_table(tmp_path / "new.csv"), write_table(tmp_path / "old.csv", plate="P.zarr")
    record = adapt.adapt_classifier(folder, new, out=tmp_path / "out", old=old, budgets=(10,), norm="keep")
    known = next(table for table in read if table["plate"].iloc[0].endswith("P.zarr"))
    assert set(known["well"][known["split"] == "train"]) == {"A01", "A02"}
    assert record["old_line"]["before"]["patches"] == 130
    assert record["text"]["data"].endswith("what was forgotten is measured on 130 patches of 13 wells")


def test_a_plate_is_held_out_by_name(folder: Path, read: list[pd.DataFrame], tmp_path: Path) -> None:
    one, other = (pd.read_csv(write_table(tmp_path / "a.csv", plate=name)) for name in ("Q1.zarr", "Q2.zarr"))
    pd.concat([one, other]).to_csv(tmp_path / "both.csv", index=False)
    adapt.adapt_classifier(
        folder, tmp_path / "both.csv", out=tmp_path / "out", by="plate", hold_out=["Q2"], budgets=(10,), norm="keep"
    )
    (table,) = read
    assert set(table["split"][table["plate"].str.endswith("Q2.zarr")]) == {"test"}
    assert set(table["split"][table["plate"].str.endswith("Q1.zarr")]) == {"train"}


def test_without_wells_in_the_card_the_tables_own_splits_hold(folder: Path) -> None:
    card = Card(name="old", architecture="resnet18")
    table = pd.DataFrame({"plate": "P", "well": [f"A{k:02d}" for k in range(1, 11)], "state": "necrosis"})
    given = table.assign(split=["train"] * 4 + ["validation"] * 3 + ["test"] * 3)
    assert adapt.split_known(given, card=card)["split"].tolist() == ["train"] * 7 + ["test"] * 3
    assert adapt.split_known(table, card=card)["split"].value_counts().to_dict() == {"train": 5, "test": 5}


def test_no_more_old_patches_are_rehearsed_than_matter(folder: Path) -> None:
    card = Card(name="old", architecture="resnet18", wells={"train": ["P:A01"]})
    table = pd.DataFrame({"plate": "/data/P", "well": ["A01"] * 5000 + ["A02"] * 10, "state": "necrosis"})
    assert adapt.split_known(table, card=card)["split"].value_counts().to_dict() == {"train": 2000, "test": 10}


def test_an_unknown_treatment_of_batch_norm_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="norm 'freeze' is not known"):
        adapt.adapt_classifier(folder, tmp_path / "new.csv", out=tmp_path / "out", norm="freeze")
