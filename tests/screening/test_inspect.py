"""What a person sees of a folder of acquisitions."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from plates.ingest.inspection import Inspection, inspect
from screening.inspect import draw_plate, exit_code, print_inspection
from tests.plates.acquisitions import tomogram, write_folder, write_one
from tests.plates.tiffs import write_imagej


def shown(inspection: Inspection, *, terminal: bool = False) -> str:
    out = io.StringIO()
    print_inspection(inspection, console=Console(file=out, force_terminal=terminal, width=100 if terminal else None))
    return out.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(tmp_path, wells=("A01", "A02", "B03"), fields=2, timepoints=2)
    return tmp_path


def test_the_plate_is_drawn_with_what_is_missing(folder: Path) -> None:
    next(folder.rglob("*.A2.T001P02.TCF")).unlink()
    for path in folder.rglob("*.B3.*.TCF"):
        path.write_bytes(b"")
    assert draw_plate(inspect(folder)).splitlines() == [
        "    1  2  3",
        "A   #  +  .",
        "B   .  .  x",
        "# imaged   + with gaps   x unreadable   . not imaged",
    ]


def test_elsewhere_than_on_a_terminal_it_is_plain_text_with_a_line_a_file(folder: Path) -> None:
    text = shown(inspect(folder))
    assert text.isascii()
    assert "\x1b" not in text
    lines = [line for line in text.splitlines() if line.endswith(".TCF")]
    assert len(lines) == 6
    assert lines[0].split()[:4] == ["A01", "0", "0-1", "TCF"]
    assert "6 x 70 x 64" in lines[0]
    assert "3 wells of 6, 2 fields a well, 2 timepoints, 6 files" in text
    assert text.rstrip().endswith("Can be ingested.")


def test_a_terminal_gets_lines_and_colours(folder: Path) -> None:
    assert "\x1b[1m" in shown(inspect(folder), terminal=True)
    assert "┃" in shown(inspect(folder), terminal=True)


def test_many_files_are_told_by_well_and_equal_wells_share_a_line(tmp_path: Path) -> None:
    content = write_one(tmp_path / "x", [tomogram(1)]).read_bytes()
    (tmp_path / "x").unlink()
    for column in range(1, 13):
        for field in range(1, 4):
            (tmp_path / f"260314.092653.e.001.g.A{column}.T001P{field:02d}.TCF").write_bytes(content)
    (tmp_path / "260314.092653.e.001.g.A12.T001P01.TCF").write_bytes(b"")
    lines = shown(inspect(tmp_path)).splitlines()
    rows = [line for line in lines if line.startswith("A") and "TCF" in line]
    assert len(rows) == 2
    assert rows[0].startswith("A01 ... A11 (11 wells)")
    assert " 33 " in rows[0]
    assert rows[1].startswith("A12")
    assert "1 of 3 unreadable" in rows[1]
    assert max(len(line) for line in rows) < 240


def test_names_with_brackets_are_no_markup(tmp_path: Path) -> None:
    write_one(tmp_path / "260314.092653.e[red]x[/red].001.g.A1.S001.TCF", [tomogram(1)])
    assert "260314.092653.e[red]x[/red].001.g.A1.S001.TCF" in shown(inspect(tmp_path))


def test_the_exit_code_is_that_of_ingest(tmp_path: Path, folder: Path) -> None:
    assert exit_code(inspect(folder)) == 0
    next(folder.rglob("*.A2.T001P02.TCF")).write_bytes(b"")
    assert exit_code(inspect(folder)) == 0
    write_imagej(folder / "260314.092653.e.001.g.A1.T001P01.tif", tomogram(1))
    found = inspect(folder)
    assert exit_code(found) == 3
    assert "Cannot be ingested as it is:" in shown(found)


def test_an_empty_folder_is_said_so(tmp_path: Path) -> None:
    assert "no acquisition understood" in shown(inspect(tmp_path))
    assert exit_code(inspect(tmp_path)) == 3
