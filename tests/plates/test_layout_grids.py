"""Plate maps drawn as grids: whole plates below each other, each quantity by its name in the corner."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plates.errors import PlateMapError
from plates.layout import FORMATS, read_plate_map, well_name

from .plate_maps import plate_map, refusal

# Layouts of the R package plater, kept for its tests: good ones, and each way to break one.
LAYOUTS = Path(__file__).parents[3] / "shared" / "data" / "plater_layouts"
NAMELESS = "line 1: the grid has no name"
NO_COMPOUND = "no grid names the compound. Expected 'compound' among "
SHAPES = {"96": FORMATS[96], "384": FORMATS[384]}


def drawn(name: str, wells: dict[tuple[int, int], str], shape: tuple[int, int], separator: str = ",") -> str:
    rows, columns = shape
    lines = [[name, *map(str, range(1, columns + 1))]]
    lines += [
        [well_name(row, 0)[:-2], *(wells.get((row, column), "") for column in range(columns))] for row in range(rows)
    ]
    return "".join(separator.join(cells) + "\n" for cells in lines)


GOOD = (
    "compound,1,2,3\nA,DMSO,staurosporine,Drug A\nB,NA,,Drug A\n"
    "\n"
    "dose (uM),1,2,3\nA,,1,10\nB,300 ,,0.3\n"
    "control,1,2,3\nA,negative,positive,\nB,,,\n"
    ",,,\n,,,\n"
    "inducer,1,2,3\nA,,apoptosis,\nB,,,\n"
    "cell line,1,2,3\na,HeLa,HeLa,HeLa\n b ,HeLa,,HeLa\n"
    "replicate,1,2,3\nA,1,1,1\nB,1,,1\n"
    "Color,1,2,3\nA,red,,\nB,,,\n"
)


def test_grids_below_each_other_are_read_well_by_well(tmp_path: Path) -> None:
    read = plate_map(tmp_path, GOOD)
    assert list(read.table["well"]) == ["A01", "A02", "A03", "B01", "B03"]
    assert list(read.table["compound"]) == ["DMSO", "staurosporine", "Drug A", "NA", "Drug A"]
    assert list(read.table["dose"])[1:] == [1.0, 10.0, 300.0, 0.3]
    assert list(read.table["control"]) == ["negative", "positive", "none", "none", "none"]
    assert list(read.table["inducer"]) == ["", "apoptosis", "", "", ""]
    assert set(read.table["cell_line"]) == {"HeLa"}
    assert list(read.table["line"]) == [2, 2, 2, 3, 3]
    assert (read.rows, read.columns) == (2, 3)
    assert "Grid 'Color' is not used." in read.notes


def test_a_fault_is_placed_in_the_line_of_its_own_grid(tmp_path: Path) -> None:
    message = refusal(tmp_path, GOOD.replace("A,,1,10", "A,,1 um,10"))
    assert message.startswith("map.csv, line 6, well A02: unit 'um' is not a concentration. Did you mean uM?")


@pytest.mark.parametrize("wells", FORMATS)
def test_a_grid_of_every_format_fills_its_plate(tmp_path: Path, wells: int) -> None:
    rows, columns = FORMATS[wells]
    everywhere = {(row, column): well_name(row, column) for row in range(rows) for column in range(columns)}
    read = plate_map(tmp_path, drawn("compound", everywhere, (rows, columns)))
    assert (read.rows, read.columns) == (rows, columns)
    assert list(read.table["compound"]) == list(read.table["well"]) == list(everywhere.values())
    assert list(read.table["well"])[-1] == well_name(rows - 1, columns - 1)


def test_the_last_well_of_1536_is_af48(tmp_path: Path) -> None:
    read = plate_map(tmp_path, drawn("compound", {(31, 47): "x"}, FORMATS[1536]))
    assert list(read.table["well"]) == ["AF48"]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("compound,1,2,3", ",1,2,3", "line 1: the grid has no name"),
        ("compound,1,2,3", "gene,1,2,3", "line 6, well A03: neither compound nor control"),
        ("compound,1,2,3", "compound,1,2,3,5", "line 1: column 4 of the grid is headed '5'. Expected 4."),
        ("compound,1,2,3", "compound,1,2,3,4,5", "line 1: the grid has 5 columns, as no plate has"),
        ("A,DMSO", "B,DMSO", "line 2: row A is missing above row B"),
        ("A,DMSO", "X,DMSO", "line 2: row A of the grid is labelled 'X'. Expected A"),
        ("A,DMSO", ",DMSO", "line 2: row A of the grid has no label"),
        ("B,NA,,Drug A\n", "", "line 2: row B is missing below"),
        ("B,NA,,Drug A\n", "B,NA,,Drug A\nC,,,\n", "line 4: row 'C' stands below row B"),
        ("B,NA,,Drug A\n", "B,NA,,Drug A,x\n", "line 3: 'x' stands to the right of column 3"),
        ("B,NA,,Drug A\n", "B,NA\n", "line 3: row B has 1 cells, but the grid has 3 columns"),
        ("Color,1,2,3\nA,red,,\nB,,,\n", "Color,1,2,3,4\nA,,,,\nB,,,,\nC,,,,\n", "that of a 12-well plate"),
        ("dose (uM)", "compound", "line 5: grid 'compound' is there twice. Rename one."),
    ],
)
def test_a_broken_grid_names_what_is_wrong_and_where(tmp_path: Path, old: str, new: str, why: str) -> None:
    assert why in refusal(tmp_path, GOOD.replace(old, new, 1))


def test_grids_must_agree_with_a_stated_format(tmp_path: Path) -> None:
    assert "its grids are those of a 6-well plate, not of the 96 wells stated" in refusal(
        tmp_path, GOOD, plate_format=96
    )
    assert plate_map(tmp_path, GOOD, plate_format=6).rows == 2


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_grids_say_the_same_as_the_table_of_the_same_plate(tmp_path: Path, data: st.DataObject) -> None:
    shape = FORMATS[data.draw(st.sampled_from([6, 24, 96]))]
    separator = data.draw(st.sampled_from(",;\t"))
    places = st.tuples(st.integers(0, shape[0] - 1), st.integers(0, shape[1] - 1))
    compound = st.sampled_from(["Drug A", "drug b", "NA", "1e5", "007"])
    contents = st.tuples(compound, st.integers(1, 10**6), st.sampled_from(["nM", "uM"]), st.integers(1, 9))
    wells = data.draw(st.dictionaries(places, contents, min_size=1, max_size=12))
    quantities = {
        "compound": {place: well[0] for place, well in wells.items()},
        "Concentration": {place: f"{well[1]} {well[2]}" for place, well in wells.items()},
        "Rep": {place: str(well[3]) for place, well in wells.items()},
    }
    grids = "\n".join(drawn(name, values, shape, separator) for name, values in quantities.items())
    table = separator.join(["well", *quantities]) + "\n"
    table += "".join(
        separator.join([well_name(*place), *(values[place] for values in quantities.values())]) + "\n"
        for place in wells
    )
    from_grids = plate_map(tmp_path, grids)
    from_table = plate_map(tmp_path, table, plate_format=shape[0] * shape[1])
    assert from_grids.table.drop(columns="line").equals(from_table.table.drop(columns="line"))
    assert (from_grids.rows, from_grids.columns) == (from_table.rows, from_table.columns)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    place=st.integers(0, len(GOOD)),
    length=st.integers(0, 12),
    insert=st.one_of(st.text(max_size=4), st.sampled_from([",", "\n", "\n,1,2,3\n", "A,", "4", '"'])),
)
def test_a_mutated_grid_is_read_or_refused(tmp_path: Path, place: int, length: int, insert: str) -> None:
    text = GOOD[:place] + insert + GOOD[place + length :]
    (tmp_path / "map.csv").write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        read = read_plate_map(tmp_path / "map.csv")
    except PlateMapError:
        return
    assert read.table["well"].is_unique


# What each layout of plater is refused for as it stands; its grids are mostly called "values" or nothing.
AS_THEY_STAND = {
    "allWellIds": NO_COMPOUND + "'values'",
    "dontAddWhiteSpace": NO_COMPOUND + "'values'",
    "incorrectRowLabels": "line 2: row A of the grid is labelled 'X'. Expected A in its first cell.",
    "missingBottomRow": "is missing below: the grid has ",
    "missingColumnsWithCorrectTitles": NAMELESS,
    "missingMiddleRow": " is missing above row ",
    "missingPlateNames": NAMELESS,
    "missingRightColumn": "columns, as no plate has",
    "missingRowLabels": "line 1: the row labels are missing",
    "nonEmptyTopLeft": NO_COMPOUND + "'A'",
    "oneExtraColumn": "line 2: 'x' stands to the right of column ",
    "oneExtraRow": " stands below row ",
    "oneFullOnePartEmpty": NO_COMPOUND + "'full', 'partial'",
    "onePlateOneBlankRow": NO_COMPOUND + "'values'",
    "onePlateTwoBlankRows": NO_COMPOUND + "'values'",
    "oneWell": NO_COMPOUND + "'values'",
    "read_plates-validOne": "",
    "read_plates-validTwo": NO_COMPOUND + "'Donor', 'Media'",
    "twoPlatesNoBlankRow": "grid 'values' is there twice. Rename one.",
    "twoPlatesOneBlankRow": "grid 'values' is there twice. Rename one.",
    "twoPlatesTwoBlankRows": "grid 'values' is there twice. Rename one.",
    "validPlate": NAMELESS,
    "validPlateWithWhiteSpaceInRowNames": NAMELESS,
    "weirdCharacters": NO_COMPOUND + "'values'",
    "wellIdsAndEmptyWells": NAMELESS,
    "bad_extension": "is empty",
    "good_extension": "is empty",
    "good_extension_2": "is empty",
    "good_extension_3": "is empty",
    "incomplete-final-line": NO_COMPOUND + "'positive'",
    "numbers-and-text": NO_COMPOUND + "'NumbersAndText'",
}
BROKEN = {
    "incorrectRowLabels",
    "missingBottomRow",
    "missingMiddleRow",
    "missingRightColumn",
    "missingRowLabels",
    "oneExtraColumn",
    "oneExtraRow",
}
FILES = sorted(path for path in LAYOUTS.rglob("*") if path.is_file()) if LAYOUTS.is_dir() else []
needs_layouts = pytest.mark.skipif(not FILES, reason="the layouts of plater are not beside this checkout")


@needs_layouts
def test_every_layout_of_plater_is_in_these_tables() -> None:
    assert {path.stem for path in FILES} == set(AS_THEY_STAND)
    assert len(FILES) == 56


@needs_layouts
@pytest.mark.parametrize("path", FILES, ids=lambda path: "-".join(path.parts[-2:]))
def test_layouts_of_plater_are_read_or_refused_by_what_is_wrong(path: Path) -> None:
    why = AS_THEY_STAND[path.stem]
    if not why:
        assert len(read_plate_map(path).table) == int(path.parent.name)
        return
    with pytest.raises(PlateMapError) as caught:
        read_plate_map(path)
    assert why in str(caught.value)


@needs_layouts
@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.stem not in BROKEN and path.stat().st_size],
    ids=lambda path: "-".join(path.parts[-2:]),
)
def test_good_layouts_of_plater_are_read_whole_once_named(tmp_path: Path, path: Path) -> None:
    # an independent reading: whatever stands in row and column, by plain counting of lines
    lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    heads = [i for i, cells in enumerate(lines) if cells[1:4] == ["1", "2", "3"]]
    first = lines[heads[0] + 1 : heads[0] + 1 + SHAPES.get(path.parent.name, FORMATS[96])[0]]
    expected = {
        f"{cells[0].strip()}{column:02d}": cell.strip()
        for cells in first
        for column, cell in enumerate(cells[1:], start=1)
        if cell.strip()
    }
    for number, head in enumerate(heads):
        lines[head][0] = "compound" if number == 0 else f"other {number}"
    renamed = tmp_path / "map.csv"
    renamed.write_text("\n".join(",".join(cells) for cells in lines), encoding="utf-8")
    read = read_plate_map(renamed)
    assert dict(zip(read.table["well"], read.table["compound"], strict=True)) == expected
    assert (read.rows, read.columns) == SHAPES.get(path.parent.name, FORMATS[96])
    if path.stem in ("allWellIds", "onePlateTwoBlankRows", "twoPlatesTwoBlankRows"):
        assert list(read.table["compound"]) == list(read.table["well"])
        assert len(read.table) == int(path.parent.name)
