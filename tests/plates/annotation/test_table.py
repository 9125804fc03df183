"""The annotation table: written whole, corrected by hand, read back, and refused by line where it is wrong."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plates.annotation.rule import INDUCED_POSITIVE, TREATED_NEGATIVE, UNTREATED_NEGATIVE
from plates.annotation.table import COLUMNS, counts, read_corrections, with_corrections, write_table
from plates.errors import SettingsError

PLATE = Path("results/P012.zarr")


def table() -> pd.DataFrame:
    rows = [
        ("A01", "live-control", UNTREATED_NEGATIVE, ""),
        ("B01", "necrosis", INDUCED_POSITIVE, "necrosis"),
        ("C01", "live-treated", TREATED_NEGATIVE, ""),
        ("C02", "undecided", "too little cell area", ""),
    ]
    return pd.DataFrame(
        [
            {
                **{"well": well, "field": 0, "timepoint": 2, "y_um": 12.80486, "x_um": 38.4451},
                **{"state": state, "rule": rule, "hoechst": 90.04, "annexin_v": np.nan, "pi": -3.0},
                **{"inducer": inducer, "area": 0.51239, "positive": 0.0},
            }
            for well, state, rule, inducer in rows
        ]
    )


def written(folder: Path) -> Path:
    path = folder / "P012.annotations.csv"
    write_table(table(), path, plate=folder / "P012.zarr")
    return path


def edit(path: Path, line: int, **changes: str) -> None:
    """Change cells of a line as a spreadsheet would; line 1 is the header."""
    with path.open(newline="") as file:
        lines = list(csv.reader(file))
    for name, value in changes.items():
        lines[line - 1][lines[0].index(name)] = value
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(lines)


def corrected(path: Path) -> pd.DataFrame:
    plate = path.with_name("P012.zarr")
    return with_corrections(table(), read_corrections(path, plate=plate, table=table()))


def test_the_table_holds_every_column_and_names_the_plate_from_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    path = tmp_path / "tables" / "a.csv"
    write_table(table(), path, plate=tmp_path / "results" / "P012.zarr")
    read = pd.read_csv(path, keep_default_na=False)
    assert tuple(read.columns) == COLUMNS
    assert set(read["plate"]) == {"../results/P012.zarr"}
    assert read["annexin_v"].tolist() == [""] * 4
    assert read["y_um"].tolist() == [12.805] * 4
    assert read["pi"].tolist() == [-3.0] * 4, "a negative number is no formula"


def test_an_interrupted_write_leaves_the_earlier_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)
    before = path.read_bytes()
    monkeypatch.setattr("plates.files.os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_table(table().iloc[:1], path, plate=tmp_path / "P012.zarr")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_an_untouched_table_corrects_nothing(tmp_path: Path) -> None:
    assert read_corrections(written(tmp_path), plate=tmp_path / "P012.zarr", table=table()).empty


def test_a_changed_state_goes_over_the_gates_and_survives_another_round(tmp_path: Path) -> None:
    path = written(tmp_path)
    edit(path, 3, state=" Apoptosis ", corrected_by="AB", note="=looks blebby")
    first = corrected(path)
    assert first[["state", "rule", "corrected_by", "note"]].to_numpy()[1].tolist() == [
        "apoptosis",
        "by hand",
        "AB",
        "=looks blebby",
    ]
    assert first.drop(index=1)["state"].tolist() == table().drop(index=1)["state"].tolist()
    write_table(first, path, plate=tmp_path / "P012.zarr")
    assert "'=looks blebby" in path.read_text(), "a spreadsheet must not run it"
    pd.testing.assert_frame_equal(corrected(path), first)


def test_a_state_that_a_person_only_confirms_is_kept_when_the_gates_change_their_mind(tmp_path: Path) -> None:
    path = written(tmp_path)
    edit(path, 2, corrected_by="AB")
    rows = read_corrections(path, plate=tmp_path / "P012.zarr", table=table())
    assert rows[["state", "rule"]].to_numpy().tolist() == [["live-control", "by hand"]]


def test_a_state_taken_back_is_undecided_by_hand(tmp_path: Path) -> None:
    path = written(tmp_path)
    edit(path, 4, state="undecided")
    assert corrected(path)[["state", "rule"]].to_numpy()[2].tolist() == ["undecided", "by hand"]


def test_a_note_alone_is_kept_and_decides_nothing(tmp_path: Path) -> None:
    path = written(tmp_path)
    edit(path, 2, note="out of focus")
    row = corrected(path)[["state", "rule", "note"]].to_numpy()[0]
    assert row.tolist() == ["live-control", UNTREATED_NEGATIVE, "out of focus"]


def test_a_table_without_rules_is_all_by_hand_and_a_spreadsheets_semicolons_are_read(tmp_path: Path) -> None:
    path = tmp_path / "hand.csv"
    path.write_text("﻿Well;Field;Timepoint;Y_um;X_um;State\nA01;0;2;12,8;38,4;necroptosis\n", encoding="utf-8")
    assert corrected(path)[["state", "rule"]].to_numpy()[0].tolist() == ["necroptosis", "by hand"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state": "dead"}, r"line 3: state 'dead' is not known. Expected one of apoptosis, .* or undecided"),
        ({"state": ""}, "line 3: state '' is not known"),
        ({"state": "apoptosis", "well": "H12"}, "line 3: the plate has no patch of well H12"),
        ({"state": "apoptosis", "x_um": "99"}, "line 3: the plate has no patch .* same --stride and --frames"),
        ({"state": "apoptosis", "timepoint": "soon"}, "line 3: field '0', timepoint 'soon'"),
        ({"state": "apoptosis", "x_um": "nan"}, "line 3: the plate has no patch"),
        ({"state": "apoptosis", "well": "A01"}, "line 3: this patch stands in line 2 already"),
        ({"plate": "../P013.zarr"}, "line 3: this row is of the plate ../P013.zarr"),
    ],
)
def test_a_wrong_line_is_refused_with_its_number(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    path = written(tmp_path)
    edit(path, 3, **changes)
    with pytest.raises(SettingsError, match=message):
        read_corrections(path, plate=tmp_path / "P012.zarr", table=table())


def test_a_table_without_a_needed_column_and_a_picture_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("well,field,timepoint,y_um,x_um\n")
    with pytest.raises(SettingsError, match="line 1: the column 'state' is missing"):
        read_corrections(path, plate=tmp_path / "P012.zarr", table=table())
    path.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_corrections(path, plate=tmp_path / "P012.zarr", table=table())


def test_counts_are_in_the_order_of_the_states_with_undecided_last() -> None:
    assert counts(table())["state"].tolist()[-2:] == ["live-treated", "undecided"]
    assert counts(table())["patches"].sum() == 4
