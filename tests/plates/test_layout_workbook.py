"""Plate maps in Excel workbooks say what the CSV file of the same sheet says, or why they cannot be used."""

from __future__ import annotations

import csv
import datetime
import io
import re
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plates.errors import PlateMapError
from plates.layout import PlateMap, read_plate_map

SHEET = "xl/worksheets/sheet1.xml"
HEADER = ["well", "compound", "dose (uM)", "control", "inducer"]
ROWS: list[list[Any]] = [
    ["A1", "DMSO", None, "negative", None],
    ["A2", "staurosporine", 1, "positive", "apoptosis"],
    ["A3", "NA", 0.1 + 0.2, None, None],
    ["B1", "1e5", 1e-05, None, None],
    ["B2", "Drug A", 10.0, "none", None],
]


def workbook(folder: Path, rows: list[list[Any]], change: Callable[[Any], object] | None = None) -> Path:
    book = openpyxl.Workbook()
    sheet = book.active
    for row in rows:
        sheet.append(row)
    if change is not None:
        change(sheet)
    path = folder / "map.xlsx"
    book.save(path)
    return path


def refusal(path: Path, **options: object) -> str:
    with pytest.raises(PlateMapError) as caught:
        read_plate_map(path, **options)  # type: ignore[arg-type]
    return str(caught.value)


def edited(path: Path, part: str, edit: Callable[[str], str]) -> Path:
    """Return the workbook with one of its parts changed as text."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts[part] = edit(parts[part].decode()).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def test_a_workbook_is_read_as_excel_shows_it(tmp_path: Path) -> None:
    read = read_plate_map(workbook(tmp_path, [HEADER, *ROWS]))
    assert list(read.table["well"]) == ["A01", "A02", "A03", "B01", "B02"]
    assert list(read.table["compound"]) == ["DMSO", "staurosporine", "NA", "1e5", "Drug A"]
    assert list(read.table["dose"])[1:] == [1.0, 0.3, 0.00001, 10.0]
    assert list(read.table["line"]) == [2, 3, 4, 5, 6]


def test_lines_are_the_rows_of_excel(tmp_path: Path) -> None:
    rows = [[], [], HEADER, ROWS[0], [], ["C99", "x", 1, None, None]]
    assert refusal(workbook(tmp_path, rows)).startswith("map.xlsx, line 6: 'C99' ")


def test_the_first_visible_sheet_is_read_unless_one_is_named(tmp_path: Path) -> None:
    def more(sheet: Any) -> None:
        sheet.title = "Readme"
        sheet.sheet_state = "hidden"
        other = sheet.parent.create_sheet("Plate 1")
        for row in [["well", "compound"], ["A1", "first"]]:
            other.append(row)
        last = sheet.parent.create_sheet("Plate 2")
        for row in [["well", "compound"], ["A1", "second"]]:
            last.append(row)
        sheet.parent.active = 1

    path = workbook(tmp_path, [HEADER, *ROWS], more)
    read = read_plate_map(path)
    assert list(read.table["compound"]) == ["first"]
    assert "Sheet 'Plate 1' is read, the first one. Not read: 'Readme', 'Plate 2'." in read.notes
    assert list(read_plate_map(path, sheet="plate 2").table["compound"]) == ["second"]
    assert refusal(path, sheet="Plate 3") == (
        "map.xlsx: has no sheet 'Plate 3'. Its sheets are 'Readme', 'Plate 1', 'Plate 2'."
    )
    (tmp_path / "map.csv").write_text("well,compound\nA1,x\n")
    assert "it is a text file" in refusal(tmp_path / "map.csv", sheet="Plate 1")


def set_cell(place: str, value: object, number_format: str = "") -> Callable[[Any], None]:
    def change(sheet: Any) -> None:
        sheet[place] = value
        sheet[place].number_format = number_format or sheet[place].number_format

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (set_cell("B3", datetime.date(2026, 3, 1)), "line 3, well A2: '2026-03-01 00:00:00': Excel has turned this"),
        (set_cell("C3", datetime.time(1, 30)), "Excel has turned this into a date. Format the column as text"),
        (set_cell("B3", "#N/A"), "line 3, well A2: #N/A is a formula's error. Write the value itself."),
        (set_cell("C3", "#DIV/0!"), "#DIV/0! is a formula's error"),
        (set_cell("C3", "=1+1"), "holds a formula that was never calculated. Open the file in Excel and save it."),
        (set_cell("C3", 0.01, "0.0%"), "holds 0.01, but Excel shows it with a percent sign or text of its own"),
        (set_cell("C3", 10, '0" nM"'), "holds 10, but Excel shows it with a percent sign or text of its own"),
        (set_cell("C3", True), "dose 'TRUE' is not a concentration"),
        (set_cell("C3", -6), "is negative"),
        (lambda sheet: sheet.merge_cells("B2:B4"), "line 2: cells B2:B4 are merged. Unmerge them"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_what_excel_hides_or_has_changed_is_refused_with_its_place(
    tmp_path: Path, change: Callable[[Any], object], why: str
) -> None:
    assert why in refusal(workbook(tmp_path, [HEADER, *ROWS], change))


def test_a_date_in_a_column_that_is_not_used_is_no_fault(tmp_path: Path) -> None:
    rows = [[*HEADER, "seeded on"], *([*row, datetime.date(2026, 3, 1)] for row in ROWS)]
    assert len(read_plate_map(workbook(tmp_path, rows)).table) == 5


def test_a_formula_is_read_by_its_value(tmp_path: Path) -> None:
    path = workbook(tmp_path, [HEADER, *ROWS], set_cell("C3", "=1+1"))
    value = partial(re.sub, r"<f>1\+1</f>(<v\s*/>|<v></v>)", "<f>1+1</f><v>2</v>")
    edited(path, SHEET, value)
    assert list(read_plate_map(path).table["dose"])[1] == 2.0


def test_grids_in_a_workbook_are_read(tmp_path: Path) -> None:
    grids: list[list[Any]] = [
        *(["compound", 1, 2, 3], ["A", "x", "y", None], ["B", "DMSO", None, None], []),
        *(["dose (uM)", 1, 2, 3], ["A", 0.5, 2, None], ["B", None, None, None]),
    ]
    read = read_plate_map(workbook(tmp_path, grids))
    assert list(read.table["well"]) == ["A01", "A02", "B01"]
    assert list(read.table["dose"])[:2] == [0.5, 2.0]
    broken = workbook(tmp_path, grids, set_cell("C6", datetime.date(2026, 1, 2)))
    assert "line 6, well A02: '2026-01-02 00:00:00': Excel has turned this into a date" in refusal(broken)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xd0\xcf\x11\xe0" + bytes(600), "is an old Excel workbook (.xls). Save it as .xlsx"),
        (b"\xd0\xcf\x11\xe0" + "EncryptedPackage".encode("utf-16-le"), "is an Excel workbook with a password"),
        (b"PK\x03\x04...", "is a damaged Excel workbook or zip file"),
    ],
)
def test_other_kinds_of_workbook_are_refused_with_the_remedy(tmp_path: Path, data: bytes, why: str) -> None:
    path = tmp_path / "map.xlsx"
    path.write_bytes(data)
    assert why in refusal(path)


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["mimetype", "content.xml"], "is an OpenDocument file (.ods)"),
        (["xl/workbook.bin"], "is a binary Excel workbook (.xlsb)"),
        (["map.csv"], "is a zip file, but no Excel workbook"),
        (["xl/workbook.xml"], "is a damaged Excel workbook"),
    ],
)
def test_zip_files_that_are_no_workbook_are_refused(tmp_path: Path, names: list[str], why: str) -> None:
    path = tmp_path / "map.xlsx"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    assert why in refusal(path)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = workbook(tmp_path, [HEADER, *ROWS])
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/media/image1.bin", bytes(150_000_000))
    assert path.stat().st_size < 1_000_000
    monkeypatch.setattr(zipfile.ZipFile, "open", None)  # anything that unpacks would fail otherwise
    assert re.search(r"unpacks to 150 MB: this is not a plate map", refusal(path))


def test_a_text_that_multiplies_itself_is_refused(tmp_path: Path) -> None:
    path = workbook(tmp_path, [HEADER, *ROWS])
    entities = "".join(f'<!ENTITY e{n} "{"&e" + str(n - 1) + ";" if n else "ha"}{f"&e{n - 1};" * 9 if n else ""}">'
                       for n in range(12))  # fmt: skip
    edited(path, SHEET, lambda text: f"<!DOCTYPE worksheet [{entities}]>" + text.replace("DMSO", "&e11;"))
    assert "is a damaged Excel workbook (ParseError)" in refusal(path)


def test_a_sheet_of_endless_width_is_refused(tmp_path: Path) -> None:
    path = workbook(tmp_path, [HEADER, *ROWS])
    rows = "".join(f'<row r="{row}"><c r="XFD{row}"><v>1</v></c></row>' for row in range(1, 200))
    edited(path, SHEET, lambda text: re.sub("(?s)<sheetData>.*</sheetData>", f"<sheetData>{rows}</sheetData>", text))
    assert "holds more than 2,000,000 cells" in refusal(path)


def test_a_wrong_size_in_the_file_neither_hides_nor_adds_wells(tmp_path: Path) -> None:
    path = workbook(tmp_path, [HEADER, *ROWS])
    for size in ("A1:B2", "A1:XFD1048576"):
        pattern, said = r'<dimension ref="[^"]*"', f'<dimension ref="{size}"'
        edited(path, SHEET, partial(re.sub, pattern, said))
        assert len(read_plate_map(path).table) == 5


def test_texts_that_excel_keeps_apart_from_the_sheet_are_read(tmp_path: Path) -> None:
    path = workbook(tmp_path, [HEADER, *ROWS])
    texts: list[str] = []

    def shared(match: re.Match[str]) -> str:
        texts.append(match[2])
        return f'<c r="{match[1]}" t="s"><v>{len(texts) - 1}</v></c>'

    edited(path, SHEET, lambda text: re.sub(r'<c r="(\w+)" t="inlineStr"><is><t>(.*?)</t></is></c>', shared, text))
    assert len(texts) > 10
    link = (
        '<Relationship Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/sharedStrings" '
        'Target="sharedStrings.xml" Id="rId99"/></Relationships>'
    )
    edited(path, "xl/_rels/workbook.xml.rels", lambda text: text.replace("</Relationships>", link))
    kind = (
        '<Override PartName="/xl/sharedStrings.xml" ContentType="application/vnd.openxmlformats-officedocument.'
        'spreadsheetml.sharedStrings+xml"/></Types>'
    )
    edited(path, "[Content_Types].xml", lambda text: text.replace("</Types>", kind))
    with zipfile.ZipFile(path, "a") as archive:
        items = "".join(f"<si><t>{text}</t></si>" for text in texts)
        names = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
        archive.writestr("xl/sharedStrings.xml", f"<sst {names}>{items}</sst>")
    assert list(read_plate_map(path).table["compound"]) == ["DMSO", "staurosporine", "NA", "1e5", "Drug A"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    wells=st.lists(
        st.tuples(
            st.sampled_from(["Drug A", "NA", "007", "x y", "µ"]),
            st.one_of(st.integers(1, 10**6), st.floats(1e-6, 1e6).map(lambda dose: float(f"{dose:.7g}"))),
            st.one_of(st.none(), st.integers(1, 99)),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_a_workbook_and_its_csv_file_say_the_same(tmp_path: Path, wells: list[tuple[str, float, int | None]]) -> None:
    replicates = all(replicate for *_, replicate in wells)
    rows: list[list[Any]] = [["well", "compound", "dose (uM)", "replicate"]]
    rows += [
        [f"A{column}", compound, dose, replicate if replicates else None]
        for column, (compound, dose, replicate) in enumerate(wells, start=1)
    ]
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    (tmp_path / "map.csv").write_text(text.getvalue(), encoding="utf-8")

    def said(read: PlateMap) -> dict[str, list[Any]]:
        return {name: list(read.table[name]) for name in read.table.columns}

    assert said(read_plate_map(workbook(tmp_path, rows))) == said(read_plate_map(tmp_path / "map.csv"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return workbook(tmp_path_factory.mktemp("whole"), [HEADER, *ROWS]).read_bytes()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1), insert=st.binary(max_size=6), length=st.integers(0, 6))
def test_a_mutated_workbook_is_read_or_refused(
    tmp_path: Path, whole: bytes, place: float, insert: bytes, length: int
) -> None:
    start = int(place * len(whole))
    check_read_or_refused(tmp_path, whole[:start] + insert + whole[start + length :])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    part=st.sampled_from([SHEET, "xl/workbook.xml", "xl/styles.xml", "xl/_rels/workbook.xml.rels"]),
    place=st.floats(0, 1),
    insert=st.one_of(st.text(max_size=4), st.sampled_from(["<", '"', "9", "A1:B2", "</row>", "s"])),
    length=st.integers(0, 20),
)
def test_a_workbook_with_mutated_parts_is_read_or_refused(
    tmp_path: Path, whole: bytes, part: str, place: float, insert: str, length: int
) -> None:
    def mutate(text: str) -> str:
        start = int(place * len(text))
        return text[:start] + insert.encode("utf-8", "replace").decode() + text[start + length :]

    path = tmp_path / "map.xlsx"
    path.write_bytes(whole)
    check_read_or_refused(tmp_path, edited(path, part, mutate).read_bytes())


def check_read_or_refused(folder: Path, data: bytes) -> None:
    path = folder / "mutated.xlsx"
    path.write_bytes(data)
    try:
        read = read_plate_map(path)
    except PlateMapError:
        return
    assert read.table["well"].is_unique
