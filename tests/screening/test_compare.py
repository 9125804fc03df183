"""Comparing projections with volumes: a difference along z is found, trained once, and told in words."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from models.recipes import Recipe
from plates.errors import SettingsError
from screening.compare import compare, held_out_notes, in_words

STATES = ("granules above", "granules below")
MEDIUM = 1.337
WELLS = tuple(f"{row}{column:02d}" for row in "AB" for column in range(1, 9))
PX = 32
TWO = Recipe(architecture="resnet18", epochs=2, batch=16, patch_px=PX, small_share=0.0)
THREE = Recipe(
    architecture="small3d",
    epochs=12,
    batch=8,
    learning_rate=3e-3,
    patch_px=PX,
    small_share=0.0,
    planes=8,
    um_per_plane=1.0,
)
EACH = 12  # patches in a well


class LayeredPlate:
    """A layer of cells in the middle planes and bright spots above it (row A) or below it (row B)."""

    wells, fields, timepoints = WELLS, 1, 1
    voxel_um = (1.0, 0.16, 0.16)

    def __init__(self) -> None:
        self.read = 0

    def volume(self, well: str, *, field: int, timepoint: int) -> npt.NDArray[np.uint16]:
        self.read += 1
        random = np.random.default_rng(WELLS.index(well))
        index = 13370 + random.normal(0, 2, (8, EACH * PX, PX))
        first = 1 if well[0] == "A" else 5
        index[2:6] += 150
        # spots everywhere, so that a patch that is shifted in training still shows some
        for top in range(0, EACH * PX, 16):
            for left in range(0, PX, 16):
                y, x = top + random.integers(0, 11), left + random.integers(0, 11)
                index[first : first + 2, y : y + 5, x : x + 5] = 13800 + random.normal(0, 30)
        return np.rint(index).astype(np.uint16)

    def projection(self, well: str, *, field: int, timepoint: int) -> npt.NDArray[np.uint16]:
        projection: npt.NDArray[np.uint16] = self.volume(well, field=field, timepoint=timepoint).max(axis=0)
        return projection


def table() -> pd.DataFrame:
    rows = [
        {
            "plate": "P1.zarr",
            "well": well,
            "field": 0,
            "timepoint": 0,
            "y_um": (place + 0.5) * PX * 0.16,
            "x_um": 0.5 * PX * 0.16,
            "state": STATES[well[0] == "B"],
            "split": "test" if well[1:] in ("01", "02", "03") else "validation" if well[1:] == "04" else "train",
        }
        for well in WELLS
        for place in range(EACH)
    ]
    return pd.DataFrame(rows)


def run(out: Path, plate: LayeredPlate, **changed: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"two": TWO, "three": THREE, "states": STATES, "device": "cpu"} | changed
    return compare(
        options.pop("table", table()),
        out=out,
        open_plate=lambda _: plate,
        medium_of=lambda _: lambda *_: MEDIUM,
        **options,
    )


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("comparison") / "axial"
    return out, run(out, LayeredPlate())


def test_what_differs_along_z_only_is_seen_in_volumes(compared: tuple[Path, dict[str, Any]]) -> None:
    _, found = compared
    assert found["three"]["accuracy"]["value"] >= 0.9
    assert found["two"]["accuracy"]["value"] <= 0.8
    assert found["difference"]["value"] == pytest.approx(
        found["three"]["accuracy"]["value"] - found["two"]["accuracy"]["value"]
    )


def test_the_record_the_table_and_the_calls_agree(compared: tuple[Path, dict[str, Any]]) -> None:
    out, found = compared
    assert json.loads((out / "comparison.json").read_text()) == found
    with (out / "predictions.csv").open() as file:
        calls = list(csv.DictReader(file))
    assert len(calls) == 6 * EACH
    for half in ("two", "three"):
        right = np.mean([row["state"] == row[f"called_{half}"] for row in calls])
        assert right == pytest.approx(found[half]["accuracy"]["value"])
        for row in calls:
            p = {state: float(row[f"p_{half}_{state}"]) for state in STATES}
            assert sum(p.values()) == pytest.approx(1, abs=1e-4)
            assert p[row[f"called_{half}"]] >= 0.5
    scores = pd.read_csv(out / "comparison.csv")
    difference = scores[scores["classifier"] == "three less two"].iloc[0]
    assert difference["value"] == pytest.approx(found["difference"]["value"])
    assert not list(out.glob("*.npy"))


def test_finished_halves_are_not_trained_again_and_say_the_same(
    compared: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, found = compared
    monkeypatch.setattr("models.training.fit", lambda *_, **__: pytest.fail("trained again"))
    plate = LayeredPlate()
    again = run(out, plate)
    assert again["three"] == found["three"]
    assert again["mcnemar"] == found["mcnemar"]
    assert plate.read == 2 * 6  # the test wells, as projections and as volumes


def test_another_comparison_in_the_same_folder_is_refused(compared: tuple[Path, dict[str, Any]]) -> None:
    out, _ = compared
    other = table()
    other.loc[0, "state"] = STATES[1]
    with pytest.raises(SettingsError, match="holds a comparison on other patches or with other settings"):
        run(out, LayeredPlate(), table=other)


def test_the_answer_is_told_in_words_with_its_doubt(compared: tuple[Path, dict[str, Any]]) -> None:
    _, found = compared
    lines = in_words(found)
    assert lines[0].startswith("Volumes tell more: +")
    assert "Volumes (small3d): accuracy" in lines[2]
    assert "72 patches of 6 wells that neither was trained on (P1.zarr)" in lines[4]
    assert lines[5].startswith("No plate of the test wells is held out: P1 was trained on too.")
    unsure = found | {"difference": {"value": 0.02, "low": -0.05, "high": 0.09}}
    assert in_words(unsure)[0].startswith("No difference is shown: +2.0 points (95 % interval -5.0 to +9.0)")
    worse = found | {"difference": {"value": -0.1, "low": -0.15, "high": -0.05}}
    assert in_words(worse)[0].startswith("Projections tell more: -10.0 points")
    few = found | {"difference": {"value": 0.1, "low": None, "high": None}}
    assert "fewer than five test wells" in in_words(few)[0]


def test_held_out_plates_and_dates_need_no_remark_and_shared_ones_get_one() -> None:
    rows = table().assign(date="monday")
    rows.loc[rows["split"] == "test", ["plate", "date"]] = ["P2.zarr", "tuesday"]
    assert held_out_notes(rows) == []
    rows["date"] = "monday"
    assert held_out_notes(rows) == [
        "No date of the test wells is held out: monday was trained on too. On another date both networks may do worse."
    ]
    rows.loc[rows["well"] == "A01", ["plate", "date"]] = ["P1.zarr", ""]
    plate, date = held_out_notes(rows)
    assert plate.startswith("Not every plate of the test wells is held out: P1 was trained on too.")
    assert date.startswith("The date of some wells is not known")


def test_a_network_on_the_wrong_side_and_an_empty_split_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="small3d does not look at projections"):
        run(tmp_path / "a", LayeredPlate(), two=THREE)
    with pytest.raises(SettingsError, match="resnet18 does not look at volumes"):
        run(tmp_path / "b", LayeredPlate(), three=TWO)
    rows = table()
    with pytest.raises(SettingsError, match="No patch is in the split 'test'"):
        run(tmp_path / "c", LayeredPlate(), table=rows[rows["split"] != "test"])
    assert not list(tmp_path.iterdir())
