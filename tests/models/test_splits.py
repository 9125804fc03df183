"""Whole wells, plates or dates lie on one side of a split; states are nowhere missing where the data allow it."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from models.dates import dates_of
from models.splits import (
    UNITS,
    Unit,
    count_states,
    folds,
    missing_states,
    plate_names,
    split_by,
    split_wells,
    unit_names,
)
from plates.errors import SettingsError
from plates.results import write_result
from plates.states import STATES

DAYS = {"P001": "monday", "P002": "monday", "P003": "tuesday", "P004": "friday", "P005": "sunday"}


def table_of(plates: int = 5, *, wells: int = 10, patches: int = 6) -> pd.DataFrame:
    """Every state in two wells of ten, on every plate."""
    names = [f"P{number + 1:03d}" for number in range(plates)]
    return pd.DataFrame(
        {
            "plate": f"/data/{name}.zarr",
            "well": f"B{well + 1:02d}",
            "field": patch % 2,
            "timepoint": 0,
            "state": STATES[well % 5],
            "date": DAYS[name],
        }
        for name in names
        for well in range(wells)
        for patch in range(patches)
    )


@pytest.mark.parametrize("by", UNITS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_unit_is_divided_and_every_state_is_everywhere(by: Unit, seed: int) -> None:
    table = table_of()
    split = split_by(table, by=by, seed=seed)
    for unit in ("well", by):
        assert (pd.Series(split).groupby(unit_names(table, by=unit)).nunique() == 1).all()
    counts = count_states(table, split)
    assert list(counts.columns) == ["train", "train wells", "validation", "validation wells", "test", "test wells"]
    assert list(counts.index) == list(STATES)
    assert (counts > 0).all(axis=None)
    assert missing_states(table, split) == []


def test_counts_are_patches_and_wells() -> None:
    table = table_of(1)
    split = np.where(table["well"].isin(["B01", "B02"]), "test", "train")
    counts = count_states(table, split)
    assert counts.loc["apoptosis"].to_dict() == {"train": 6, "train wells": 1, "test": 6, "test wells": 1}
    assert counts.loc["necrosis"].to_dict() == {"train": 12, "train wells": 2, "test": 0, "test wells": 0}
    assert missing_states(table, split)[0] == (
        "No patch of necrosis is in test: no score speaks of it (train 12 patches in 2 wells)."
    )


def test_shares_are_about_what_was_wanted_and_the_seed_decides() -> None:
    table = table_of()
    split = split_by(table, by="plate", seed=1, shares=(0.6, 0.2, 0.2))
    assert pd.Series(split).value_counts().to_dict() == {"train": 180, "validation": 60, "test": 60}
    dealt = {tuple(split_by(table, by="plate", seed=seed, shares=(0.6, 0.2, 0.2))) for seed in range(8)}
    assert len(dealt) > 1
    assert (split_by(table, by="plate", seed=1, shares=(0.6, 0.2, 0.2)) == split).all()


def test_a_share_of_zero_leaves_the_split_empty() -> None:
    table = table_of()
    for by in ("well", "plate"):
        assert set(split_by(table, by=by, seed=1, shares=(0.6, 0.0, 0.4))) == {"train", "test"}


def test_plates_are_dealt_so_that_a_rare_state_is_in_every_split() -> None:
    table = table_of()
    # necrosis is on three plates of five: of all deals only few leave it nowhere out
    table = table[(table["state"] != "necrosis") | table["plate"].str.contains("P001|P003|P004")]
    for seed in range(5):
        assert missing_states(table, split_by(table, by="plate", seed=seed)) == []


def test_a_state_on_too_few_plates_is_told_with_its_counts() -> None:
    table = table_of()
    table = table[(table["state"] != "necrosis") | table["plate"].str.contains("P002")]
    told = missing_states(table, split_by(table, by="plate", seed=1))
    assert len(told) == 2
    assert all(sentence.startswith("No patch of necrosis is in ") for sentence in told)
    assert "12 patches in 2 wells" in told[0]


def test_a_plate_is_held_out_by_its_name() -> None:
    table = table_of()
    split = split_by(table, by="plate", seed=1, hold_out=["P003"])
    assert set(plate_names(table)[split == "test"]) == {"P003"}
    assert set(split[plate_names(table) != "P003"]) == {"train", "validation"}
    with pytest.raises(SettingsError, match=r"No annotated plate is called 'P009'. Expected one of P001, P002"):
        split_by(table, by="plate", seed=1, hold_out=["P009"])
    with pytest.raises(SettingsError, match="Nothing is left to train on"):
        split_by(table_of(1), by="plate", seed=1, hold_out=["P001"])


def test_wells_and_dates_are_held_out_by_their_names() -> None:
    table = table_of()
    split = split_by(table, by="well", seed=1, hold_out=["P001:B01", "P002:B07"])
    assert set(unit_names(table, by="well")[split == "test"]) == {"P001:B01", "P002:B07"}
    split = split_by(table, by="date", seed=1, hold_out=["monday"])
    assert set(plate_names(table)[split == "test"]) == {"P001", "P002"}


def test_every_plate_is_left_out_once() -> None:
    table = table_of(4)
    seen = dict(folds(table, by="plate", seed=1))
    assert list(seen) == ["P001", "P002", "P003", "P004"]
    for name, split in seen.items():
        assert (plate_names(table)[split == "test"] == name).all()
        assert (split == "test").sum() == 60
        assert missing_states(table, split) == []
        assert (pd.Series(split).groupby(unit_names(table, by="well")).nunique() == 1).all()


def test_every_date_is_left_out_with_all_its_plates() -> None:
    table = table_of()
    seen = dict(folds(table, by="date", seed=1))
    assert list(seen) == ["friday", "monday", "sunday", "tuesday"]
    assert set(plate_names(table)[seen["monday"] == "test"]) == {"P001", "P002"}


def test_a_single_plate_cannot_be_left_out() -> None:
    with pytest.raises(SettingsError, match=r"All annotated patches lie on one plate \(P001\)"):
        next(iter(folds(table_of(1), by="plate", seed=1)))


def test_too_few_plates_for_three_splits_are_refused_with_what_to_do() -> None:
    with pytest.raises(SettingsError, match=r"lie on 2 plates \(P001, P002\), too few for train, validation, test"):
        split_by(table_of(2), by="plate", seed=1)


def test_plates_of_one_name_in_two_folders_are_two_plates() -> None:
    table = pd.concat([table_of(1), table_of(1).assign(plate="/other/P001.zarr")])
    assert set(plate_names(table)) == {"/data/P001.zarr", "/other/P001.zarr"}


def test_a_well_of_two_dates_and_a_well_of_none_are_refused_when_split_by_date() -> None:
    table = table_of()
    table.loc[3, "date"] = "wednesday"
    with pytest.raises(SettingsError, match=r"Well B01 of P001.zarr has the dates monday and wednesday"):
        split_by(table, by="date", seed=1)
    table["date"] = ""
    with pytest.raises(SettingsError, match=r"date of well B01 of P001.zarr is not known"):
        split_by(table, by="date", seed=1)


def test_the_first_wells_of_a_rare_state_go_where_there_is_a_share() -> None:
    table = table_of(1)
    assert set(split_wells(table, seed=1, shares=(0.5, 0.0, 0.5))) == {"train", "test"}
    counts = count_states(table, split_wells(table, seed=1, shares=(0.9, 0.1, 0.0)))
    assert (counts["validation wells"] == 1).all()


def ingested(folder: Path, name: str, starts: Mapping[str, datetime | None], *, frames: int = 3) -> Path:
    """Results of a plate whose wells were imaged every eight hours from their start."""
    times = [
        [
            [
                np.datetime64(start + timedelta(hours=8 * frame), "ns") if start else np.datetime64("NaT")
                for frame in range(frames)
            ]
        ]
        for start in starts.values()
    ]
    dataset = xr.Dataset(
        {"acquired": (("well", "field", "timepoint"), np.array(times, dtype="datetime64[ns]"))},
        coords={"well": np.array(list(starts), dtype=object), "field": [0], "timepoint": list(range(frames))},
    )
    write_result(folder / f"{name}.zarr", "fields", dataset, provenance={})
    return folder / f"{name}.zarr"


def test_a_lapse_past_midnight_is_of_the_day_on_which_it_began(tmp_path: Path) -> None:
    evening = datetime(2026, 3, 2, 23, 30)
    starts = {f"A{k + 1:02d}": evening + timedelta(minutes=20 * k) for k in range(4)}
    late = {"B01": evening + timedelta(days=3), "B02": None}
    plate = ingested(tmp_path, "P001", starts | late)
    table = pd.DataFrame({"plate": str(plate), "well": [*starts, *late]})
    assert dates_of(table).tolist() == ["2026-03-02"] * 4 + ["2026-03-05", ""]


def test_dishes_of_two_days_in_one_plate_are_told_apart(tmp_path: Path) -> None:
    starts = {"A01": datetime(2026, 3, 2, 9), "A02": datetime(2026, 3, 3, 9), "A03": datetime(2026, 3, 3, 10)}
    plate = ingested(tmp_path, "P001", starts, frames=1)
    table = pd.DataFrame({"plate": str(plate), "well": ["A03", "A01", "A02"]})
    assert dates_of(table).tolist() == ["2026-03-03", "2026-03-02", "2026-03-03"]


def test_the_tables_own_date_comes_first_and_a_plate_without_results_has_none(tmp_path: Path) -> None:
    plate = ingested(tmp_path, "P001", {"A01": datetime(2026, 3, 2)})
    table = pd.DataFrame({"plate": [str(plate)] * 2, "well": "A01", "date": [" day one ", None]})
    assert dates_of(table).tolist() == ["day one", ""]
    assert dates_of(pd.DataFrame({"plate": [str(tmp_path / "none.zarr")], "well": "A01"})).tolist() == [""]
