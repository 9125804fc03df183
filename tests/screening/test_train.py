"""From a table to a classifier: what is dealt, what is warned of, what is left out in turn."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from models.recipes import Recipe
from plates.creation import create_plate
from plates.errors import SettingsError
from plates.results import write_result
from plates.states import STATES
from screening.train import prepare, train_classifier, train_folds
from tests.models.made_patches import MEDIUM, made_index

PX = 32
RECIPE = Recipe(architecture="resnet18", epochs=3, batch=16, patch_px=PX, small_share=0.0, focus=0.0)


def make_plate(folder: Path, name: str, *, wells: int = 10, seed: int = 0) -> list[dict[str, Any]]:
    """A plate whose wells hold made-up cells, one state a well; the rows that annotate it."""
    import xarray as xr

    random = np.random.default_rng(seed)
    names = [f"A{number + 1:02d}" for number in range(wells)]
    side = 4 * PX
    plate = create_plate(
        folder / f"{name}.zarr",
        name=name,
        wells=names,
        fields=1,
        timepoints=1,
        shape_zyx=(2, side, side),
        voxel_um=(1.0, 0.16, 0.16),
        rows=8,
        columns=24,
        hours=[0.0],
        provenance={},
    )
    rows = []
    scattered = random.permutation(wells) % 5  # a state that lay in one column on both plates would be warned of
    for state, well in zip(scattered.tolist(), names, strict=True):
        image = np.zeros((side, side))
        for place in range(16):
            y, x = PX * (place // 4), PX * (place % 4)
            image[y : y + PX, x : x + PX] = made_index(state, px=PX, random=random)
            centre = {"y_um": (y + PX / 2) * 0.16, "x_um": (x + PX / 2) * 0.16}
            rows.append(
                {"plate": f"{name}.zarr", "well": well, "field": 0, "timepoint": 0, "state": STATES[state]} | centre
            )
        volume = np.rint((np.stack([image, image]) + MEDIUM) * 1e4).astype(np.uint16)
        plate.write_field(well, field=0, timepoint=0, volume=volume)
    medium = xr.DataArray(
        np.full((wells, 1, 1), MEDIUM),
        dims=("well", "field", "timepoint"),
        coords={"well": np.array(names, dtype=object), "field": [0], "timepoint": [0]},
    )
    write_result(plate.path, "fields", xr.Dataset({"medium_index": medium}), provenance={})
    return rows


@pytest.fixture(scope="module")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("annotated")
    rows = [row for number in range(2) for row in make_plate(folder, f"P{number + 1}", wells=15, seed=number)]
    pd.DataFrame(rows).to_csv(folder / "annotations.csv", index=False)
    return folder / "annotations.csv"


def test_wells_are_dealt_whole_and_a_split_of_the_table_is_kept(annotations: Path, tmp_path: Path) -> None:
    table, warnings = prepare(annotations)
    assert set(table["split"]) == {"train", "validation", "test"}
    assert table.groupby(["plate", "well"])["split"].nunique().max() == 1
    assert warnings == []
    held, _ = prepare(annotations, by="plate", hold_out=["P2"])
    assert set(held["plate"][held["split"] == "test"].map(lambda path: Path(path).name)) == {"P2.zarr"}
    own = pd.read_csv(annotations).assign(split="train")
    own.loc[own["well"] == "A02", "split"] = "validation"
    own["plate"] = [str(annotations.parent / name) for name in own["plate"]]
    own.to_csv(tmp_path / "own.csv", index=False)
    kept, told = prepare(tmp_path / "own.csv")
    assert kept["split"].tolist() == own["split"].tolist()
    assert any("validation" in line for line in told)
    with pytest.raises(SettingsError, match="has a column 'split', and P2 is to be held out as well"):
        prepare(tmp_path / "own.csv", by="plate", hold_out=["P2"])


def test_a_state_that_lies_on_one_plate_is_warned_of(annotations: Path, tmp_path: Path) -> None:
    rows = pd.read_csv(annotations)
    rows["plate"] = [str(annotations.parent / name) for name in rows["plate"]]
    dead = rows["state"].isin(STATES[:3])
    rows[dead == rows["plate"].str.contains("P1")].to_csv(tmp_path / "confounded.csv", index=False)
    _, warnings = prepare(tmp_path / "confounded.csv")
    assert any(line.startswith("warning") and "plate" in line for line in warnings)


def test_training_writes_a_classifier_with_its_plot(annotations: Path, tmp_path: Path) -> None:
    table, _ = prepare(annotations)
    seen: list[tuple[int, int]] = []
    classifier = train_classifier(
        table, out=tmp_path / "net", recipe=RECIPE, progress=lambda done, total, _: seen.append((done, total))
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert (
        classifier.card.metrics["test"]["wells"]
        == table.loc[table["split"] == "test", ["plate", "well"]].drop_duplicates().shape[0]
    )
    assert "<html" in (tmp_path / "net" / "training.html").read_text()
    assert not (tmp_path / "net.training").exists()
    again = train_classifier(table, out=tmp_path / "more", recipe=RECIPE, start=tmp_path / "net")
    assert again.card.metrics["validation"]["accuracy"] is not None


def test_each_plate_is_left_out_once_and_a_finished_fold_is_not_trained_again(
    annotations: Path, tmp_path: Path
) -> None:
    table, _ = prepare(annotations)
    trained: list[str] = []
    scores = train_folds(
        table, out=tmp_path / "folds", recipe=RECIPE, progress=lambda done, total, text: trained.append(text)
    )
    assert [row["name"] for row in scores["folds"]] == ["P1", "P2"]
    assert sorted(set(trained)) == ["without P1", "without P2"]
    assert scores["pooled"]["confusion"] is not None
    assert sum(row["patches"] for row in scores["folds"]) == len(table)
    assert json.loads((tmp_path / "folds" / "folds.json").read_text()) == scores
    trained.clear()
    assert train_folds(table, out=tmp_path / "folds", recipe=RECIPE, progress=lambda *_: trained.append("x")) == scores
    assert trained == []
