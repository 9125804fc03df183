"""The plate on the terminal: readable at 80 columns, honest without colour, and an error where nothing may run."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from plates.errors import PlateMapError
from plates.layout import PlateMap, read_plate_map, well_name
from plates.layout.findings import findings
from screening.layout_check import check_layout, draw

HEAD = "well,compound,dose (uM),control,inducer,vehicle,mask"


def _read(folder: Path, lines: list[str], plate_format: int | None = None) -> PlateMap:
    path = folder / "P001.csv"
    path.write_text("\n".join([HEAD, *lines]) + "\n", encoding="utf-8")
    return read_plate_map(path, plate_format=plate_format)


@pytest.fixture
def small(tmp_path: Path) -> PlateMap:
    """Two compounds in two doses on a 24-well plate, with all there is to draw."""
    return _read(
        tmp_path,
        [
            "A01,DMSO,,negative,,DMSO,",
            "A02,RSL3,0.1,,,DMSO,",
            "A03,RSL3,10,,,DMSO,",
            "B01,[bold]β,0.1,,,DMSO,leak",
            "B02,[bold]β,10,,,DMSO,",
            "C06,TNF,1,positive,necroptosis,DMSO,",
            "D06,heat,,positive,heat,DMSO,",
        ],
        plate_format=24,
    )


def _drawn(plate_map: PlateMap, *, width: int = 80, terminal: bool = False) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, highlight=False)
    draw(plate_map, findings(plate_map), console=console)
    return file.getvalue()


def test_each_kind_of_well_has_its_own_symbol(small: PlateMap) -> None:
    lines = _drawn(small).splitlines()
    plate = {line.split()[0]: line[3:].split() for line in lines[3:7]}
    assert plate == {"A": ["·", "1░", "1█"], "B": ["x", "2█"], "C": ["P"], "D": ["+"]}
    assert lines[2].split() == [str(column) for column in range(1, 7)]
    assert lines[5].index("P") == lines[2].index("6"), "a well stands below its column's number"


def test_legend_and_table_say_what_the_symbols_mean(small: PlateMap) -> None:
    text = " ".join(_drawn(small).split())
    assert "P induces necroptosis, + positive control heat" in text
    assert "0.1 uM to 10 uM, x masked" in text
    assert "2 [bold]β 2 0.1 uM to 10 uM 1 of 2 DMSO" in text, "names are no markup"


@pytest.mark.parametrize(("wells", "width"), [(96, 6), (384, 3), (1536, 1)])
def test_a_whole_plate_fits_80_columns_and_every_well_is_there(wells: int, width: int, tmp_path: Path) -> None:
    rows, columns = {96: (8, 12), 384: (16, 24), 1536: (32, 48)}[wells]
    lines = [f"{well_name(row, column)},A,{column + 1},,,," for row in range(rows) for column in range(columns)]
    text = _drawn(_read(tmp_path, lines)).splitlines()
    assert max(len(line) for line in text) <= 80
    drawn = text[3 : 3 + rows]
    assert sum(line.count(shade) for line in drawn for shade in "░▒▓█") == wells
    assert {len(line) for line in drawn} == {3 + columns * width}


def test_colour_only_repeats_what_the_symbols_say(small: PlateMap) -> None:
    plain, coloured = _drawn(small), _drawn(small, terminal=True)
    assert "\x1b[" not in plain
    assert "\x1b[" in coloured
    from rich.text import Text

    assert Text.from_ansi(coloured).plain.split() == plain.split()


def test_a_terminal_without_unicode_gets_ascii(
    small: PlateMap, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "out.txt").open("w", encoding="ascii") as file:
        monkeypatch.setattr("sys.stdout", file)
        check_layout(small)
    text = (tmp_path / "out.txt").read_text(encoding="ascii")
    assert " .    1a    1d" in text
    assert "[bold]?" in text


def test_findings_are_grouped_with_remedy_and_wells(small: PlateMap) -> None:
    text = " ".join(_drawn(small).split())
    warnings, notes = text.index("Warnings ("), text.index("Notes (")
    assert warnings < text.index("Only 1 vehicle wells") < notes < text.index("(14 %) are masked")
    assert "Give the next plate more vehicle wells. Wells: A01" in text


def test_warnings_and_notes_let_the_run_go_on(small: PlateMap, capsys: pytest.CaptureFixture[str]) -> None:
    assert {finding.severity for finding in check_layout(small)} == {"warning", "note"}
    assert "P001.csv: 24-well plate, 7 wells described, 6 used" in capsys.readouterr().out


def _acquisitions(folder: Path, wells: list[str]) -> Path:
    folder.mkdir()
    for number, well in enumerate(wells, start=1):
        (folder / f"260301.101500.P001.{number:03d}.A.{well}.S001.TCF").touch()
    return folder


def test_wells_that_fit_only_a_turned_map_stop_after_everything_was_printed(
    small: PlateMap, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turned = [well_name(3 - row, 5 - column) for row, column in small.table[["row", "column"]].to_numpy()]
    folder = _acquisitions(tmp_path / "P001", turned)
    with pytest.raises(PlateMapError, match=r"P001\.csv must not be used as it is\.") as raised:
        check_layout(small, acquisitions=folder, out=tmp_path / "layout.html")
    assert raised.value.exit_code == 3
    text = " ".join(capsys.readouterr().out.split())
    assert "Stop (3)" in text
    assert "The 7 wells imaged are those of the map turned by 180 degrees: 7 agree then" in text
    assert (tmp_path / "layout.html").exists(), "the page shows what is to be mended"


def test_wells_that_agree_with_the_acquisitions_add_nothing(small: PlateMap, tmp_path: Path) -> None:
    folder = _acquisitions(tmp_path / "P001", list(small.table["well"]))
    assert check_layout(small, acquisitions=folder) == findings(small)


def test_json_is_one_object_and_nothing_else(small: PlateMap, capsys: pytest.CaptureFixture[str]) -> None:
    found = check_layout(small, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["columns"], told["wells"], told["masked"], told["imaged"]) == (4, 6, 7, 1, None)
    assert [finding["what"] for finding in told["findings"]] == [finding.what for finding in found]
