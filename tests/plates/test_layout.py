"""Plate maps as laboratories write them: read right, or refused with the line and the remedy."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plates.errors import MissingInputError, PlateMapError
from plates.layout import (
    COLUMN_NAMES,
    CONTROL_WORDS,
    FORMATS,
    USUAL_UNITS,
    PlateMap,
    micromolar_per,
    parse_well,
    read_plate_map,
    well_name,
)

from .plate_maps import plate_map, refusal

GOOD = (
    "well,compound,concentration,control,inducer,replicate,cell line\n"
    "A1,DMSO,,negative,,1,HeLa\n"
    "A2,staurosporine,1 uM,positive,apoptosis,1,HeLa\n"
    "A3,Drug A,10 uM,none,,1,HeLa\n"
    "B3,Drug A,300 nM,none,,1,HeLa\n"
    "B1,NA,0.3 uM,,,1,HeLa\n"
)


def doses(read: PlateMap) -> list[float]:
    return [float(dose) for dose in read.table["dose"]]


def test_a_tidy_map_is_read_well_by_well(tmp_path: Path) -> None:
    read = plate_map(tmp_path, GOOD)
    assert list(read.table["well"]) == ["A01", "A02", "A03", "B01", "B03"]
    assert list(read.table["compound"]) == ["DMSO", "staurosporine", "Drug A", "NA", "Drug A"]
    assert doses(read)[1:] == [1.0, 10.0, 0.3, 0.3]
    assert np.isnan(doses(read)[0])
    assert list(read.table["control"]) == ["negative", "positive", "none", "none", "none"]
    assert list(read.table["inducer"]) == ["", "apoptosis", "", "", ""]
    assert list(read.table["line"]) == [2, 3, 4, 6, 5]
    assert (read.rows, read.columns) == (2, 3)
    assert read.sha256 == hashlib.sha256(GOOD.encode()).hexdigest()


def test_the_map_becomes_the_stored_layout(tmp_path: Path) -> None:
    layout = plate_map(tmp_path, GOOD).to_dataset()
    names = {"compound", "dose", "control", "inducer", "replicate", "cell_line", "row", "column", "vehicle", "masked"}
    names |= {"line"}
    assert set(layout.data_vars) == names
    assert layout.attrs["dose_unit"] == "uM"
    assert layout["compound"].dtype == object
    assert layout["dose"].sel(well="B03").item() == 0.3
    layout.to_zarr(tmp_path / "layout.zarr", consolidated=False)
    again = xr.open_dataset(tmp_path / "layout.zarr", engine="zarr", consolidated=False)
    assert list(again["compound"].values) == list(layout["compound"].values)


@pytest.mark.parametrize("name", ["NA", "None", "null", "nan", "TRUE", "1e5", "007", "=1+1"])
def test_a_compound_is_text_whatever_it_looks_like(tmp_path: Path, name: str) -> None:
    read = plate_map(tmp_path, f"well,compound,dose\nA1,{name},1 uM\n")
    assert list(read.table["compound"]) == [name]


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode("utf-16"),
        lambda text: text.encode("utf-16-le"),
        lambda text: text.encode("utf-16-be"),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("\n", "\r").encode(),
        lambda text: text.replace(",", "\t").encode(),
        lambda text: text.replace(",", ";").encode(),
        lambda text: ("sep=;\n" + text.replace(",", ";")).encode(),
        lambda text: text.replace("\n", "\n,,,,,,\n\n").encode(),
        lambda text: text.replace("\n", ",,\n").encode(),
    ],
    ids=["bom", "utf16", "utf16le", "utf16be", "crlf", "cr", "tsv", "semicolon", "sep", "blank", "trailing"],
)
def test_the_same_map_however_it_was_saved(tmp_path: Path, encode: object) -> None:
    expected = plate_map(tmp_path, GOOD).table.drop(columns="line")
    saved = plate_map(tmp_path, encode(GOOD)).table.drop(columns="line")  # type: ignore[operator]
    assert saved.equals(expected)


@pytest.mark.parametrize("text", ["a1", "A1", "A01", "A:1", "A-01", "A_1", "a001", " A1 "])
def test_one_well_has_many_spellings(text: str) -> None:
    assert parse_well(text) == (0, 0)


@pytest.mark.parametrize("text", ["", "1E5", "13", "A", "A0", "A1.0", "AG1", "A49", "1A", "A٣", "BA1", "A1B"])
def test_what_is_no_well_is_refused(text: str) -> None:
    with pytest.raises(PlateMapError, match=r"not a well|outside"):
        parse_well(text)


def test_every_well_of_the_largest_plate_keeps_its_place() -> None:
    rows, columns = FORMATS[1536]
    places = [(row, column) for row in range(rows) for column in range(columns)]
    names = [well_name(*place) for place in places]
    assert [parse_well(name) for name in names] == places
    assert (names[0], names[-1], names[26 * columns]) == ("A01", "AF48", "AA01")


@pytest.mark.parametrize(
    ("last", "wells"),
    [("B3", 6), ("C4", 12), ("D6", 24), ("F8", 48), ("H12", 96), ("P24", 384), ("AF48", 1536), ("I1", 384)],
)
def test_the_smallest_plate_that_holds_all_wells_is_taken(tmp_path: Path, last: str, wells: int) -> None:
    read = plate_map(tmp_path, f"well,compound,dose (uM)\nA1,x,1\n{last},x,2\n")
    assert (read.rows, read.columns) == FORMATS[wells]


def test_a_stated_format_refuses_wells_outside_it(tmp_path: Path) -> None:
    text = "well,compound,dose (uM)\nA1,x,1\nI1,x,2\n"
    assert refusal(tmp_path, text, plate_format=96) == (
        "map.csv, line 3, well I01: lies outside a 96-well plate. Correct the well or the plate's format."
    )
    assert plate_map(tmp_path, text, plate_format=1536).rows == 32
    assert "no plate has 97 wells" in refusal(tmp_path, text, plate_format=97)


@pytest.mark.parametrize(
    ("cell", "micromolar"),
    [
        ("10 uM", 10),
        ("10uM", 10),
        ("10 \N{MICRO SIGN}M", 10),
        ("10\N{NO-BREAK SPACE}\N{GREEK SMALL LETTER MU}M", 10),
        ("300 nM", 0.3),
        ("2 mM", 2000),
        ("1e-6 M", 1),
        ("1E+1 uM", 10),
        (".5 uM", 0.5),
        ("70 pM", 0.00007),
        ("1 umol/L", 1),
        ("1.125 uM", 1.125),
    ],
)
def test_doses_become_micromolar(tmp_path: Path, cell: str, micromolar: float) -> None:
    assert doses(plate_map(tmp_path, f"well,compound,dose\nA1,x,{cell}\n")) == [micromolar]


@pytest.mark.parametrize(
    "header",
    [
        "dose (uM)",
        "dose_uM",
        "Concentration [\N{MICRO SIGN}M]",
        "conc. (uM)",
        "Dose in uM",
        "dose/uM",
        "conc uM",
    ],
)
def test_the_column_may_carry_the_unit(tmp_path: Path, header: str) -> None:
    assert doses(plate_map(tmp_path, f"well,compound,{header}\nA1,x,10\n")) == [10.0]


def test_unit_column_and_fallback_unit_are_used_where_the_cell_has_none(tmp_path: Path) -> None:
    text = "well,compound,dose,unit\nA1,x,10,nM\nA2,x,10,mM\nA3,x,10,\n"
    assert doses(plate_map(tmp_path, text, dose_unit="M")) == [0.01, 10_000, 10_000_000]


def test_a_dose_without_unit_names_place_and_remedy(tmp_path: Path) -> None:
    assert refusal(tmp_path, "well,compound,dose\nB7,Drug A,10\n") == (
        "map.csv, line 2, well B07: dose '10' has no unit. Write it as in '10 uM', name the column as in "
        "'dose (uM)', or give dose_unit once for the plate."
    )


def test_micrometres_are_not_micromolar(tmp_path: Path) -> None:
    expected = "unit 'um' is not a concentration. Did you mean uM? Expected M, mM, uM, nM or pM."
    assert refusal(tmp_path, "well,compound,dose\nA1,x,10 um\n") == f"map.csv, line 2, well A01: {expected}"
    assert refusal(tmp_path, "well,compound,dose_um\nA1,x,10\n") == f"map.csv, line 1: {expected}"
    assert refusal(tmp_path, "well,compound,dose\nA1,x,10\n", dose_unit="um") == f"map.csv: {expected}"


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("1 mg/ml", "the molecular weight is unknown"),
        ("0.1 %", "it may be of weight or of volume"),
        ("10 nmol", "is not a concentration"),
        ("10 mm", "Did you mean mM?"),
        ("-6 uM", "is negative"),
        ("nan", "is not a concentration"),
        ("nan uM", "is not a concentration"),
        ("inf uM", "is not a concentration"),
        ("=A2*2", "is not a concentration"),
        ("1e99 uM", "cannot be meant"),
        ("1e-30 uM", "cannot be meant"),
        ("0 uM", "dose 0 of 'x'"),
        ("", "no dose of 'x'"),
        ("1-2 uM", "is not a concentration"),
        ("1.000.000 uM", "is not a concentration"),
        ("12 Mar", "is not a concentration"),
    ],
)
def test_a_dose_that_cannot_be_meant_is_refused(tmp_path: Path, cell: str, why: str) -> None:
    message = refusal(tmp_path, f"well,compound,dose\nA1,y,1 uM\nA2,x,{cell}\n")
    assert message.startswith("map.csv, line 3, well A02: ")
    assert why in message


def test_a_cell_that_contradicts_its_column_is_refused(tmp_path: Path) -> None:
    assert "dose '10 uM' is given in uM and nM" in refusal(tmp_path, "well,compound,dose (nM)\nA1,x,10 uM\n")
    both = "well,compound,dose (nM),unit\nA1,x,10,mM\n"
    assert "dose '10' is given in mM and nM" in refusal(tmp_path, both)
    assert doses(plate_map(tmp_path, "well,compound,dose (nM)\nA1,x,10 nM\n")) == [0.01]


def test_a_decimal_comma_is_read_where_it_can_only_be_one(tmp_path: Path) -> None:
    head = "well;compound;dose (uM)\n"
    assert doses(plate_map(tmp_path, head + "A1;x;0,5\nA2;x;1,125\nA3;x;12\n")) == [0.5, 1.125, 12]
    assert doses(plate_map(tmp_path, 'well,compound,dose\nA1,x,"0,5 uM"\n')) == [0.5]


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ("A1;x;1,000\nA2;x;3\n", 2),  # one, or a thousand?
        ("A1;x;3\nA2;x;1.000\n", 3),  # the same, as written in Germany
        ("A1;x;0,5\nA2;x;1.000\n", 3),
        ("A1;x;0.5\nA2;x;0,5\n", 3),  # two decimal marks
    ],
)
def test_a_number_that_can_be_read_in_two_ways_is_refused(tmp_path: Path, rows: str, line: int) -> None:
    message = refusal(tmp_path, "well;compound;dose (uM)\n" + rows)
    assert message.startswith(f"map.csv, line {line}, ")
    assert "two ways" in message or "decimal comma" in message


def test_an_unquoted_decimal_comma_does_not_shift_the_cells(tmp_path: Path) -> None:
    message = refusal(tmp_path, "well,dose (uM),compound\nA1,0,5,x\n")
    assert message == (
        "map.csv, line 2: has 4 cells, but there are 3 columns. "
        "Is a decimal comma read as a separator, or the line cut off?"
    )


def test_vehicle_wells_are_known_by_any_of_their_marks(tmp_path: Path) -> None:
    text = (
        "well_position\tbroad_sample\tsolvent\tcontrol\tdose\n"
        "A01\t\tDMSO\t\t\n"  # as Broad and JUMP write it
        "A02\tDMSO\t\t\t\n"
        "A03\tDrug A\tDMSO\tvehicle\t0\n"
        "A04\t\t\tuntreated\t0 uM\n"
        "A05\tDrug A\tDMSO\t\t1 uM\n"
    )
    read = plate_map(tmp_path, text)
    assert list(read.table["control"]) == ["negative"] * 4 + ["none"]
    assert list(read.table["compound"]) == ["DMSO", "DMSO", "Drug A", "vehicle", "Drug A"]


def test_a_vehicle_well_with_a_dose_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, "well,compound,dose (uM),control\nA1,x,3,vehicle\n")
    assert message == "map.csv, line 2, well A01: a vehicle control with dose 3 uM. Clear the dose or the control."


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ("TNF,positive,", "a positive control without inducer"),
        ("x,none,apoptosis", "the well is not a positive control"),
        (",,", "neither compound nor control"),
        ("x,vehicel,", "Did you mean 'vehicle'?"),
        ("x,Positve,", "Did you mean 'positive'?"),
        ("x\N{RIGHT-TO-LEFT OVERRIDE}y,,", "holds an invisible character"),
        ("x\x00y,,", "holds an invisible character"),
        ("x" * 201 + ",,", "is longer than 200 characters"),
        ("#N/A,,", "is a formula's error"),
    ],
)
def test_contradictory_wells_are_refused(tmp_path: Path, cells: str, why: str) -> None:
    message = refusal(tmp_path, f"well,compound,control,inducer\nA1,{cells}\n")
    assert message.startswith("map.csv, line 2, well A01: ")
    assert why in message


def test_a_state_is_recognised_as_inducer_in_any_case(tmp_path: Path) -> None:
    text = "well,compound,control,inducer\nA1,TNF,pos,Necroptosis\nA2,,positive,CD95 ligand\n"
    read = plate_map(tmp_path, text)
    assert list(read.table["inducer"]) == ["necroptosis", "CD95 ligand"]
    assert list(read.table["compound"]) == ["TNF", "CD95 ligand"]


def test_both_lines_of_a_well_described_twice_are_named(tmp_path: Path) -> None:
    text = "well,compound,dose (uM)\nA1,x,1\nB1,x,2\na01,y,3\n"
    assert refusal(tmp_path, text) == (
        "map.csv, line 4, well A01: the well is already described in line 2. Keep one of the two."
    )


def test_every_error_is_reported_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    message = refusal(tmp_path, "well,compound,dose\nA1,x,10\n1E5,x,1 uM\nA3,x,0 uM\nA1,x,1 uM\nA6\n")
    lines = message.splitlines()
    assert lines[0] == "map.csv has 5 errors:"
    assert [line.split(",")[1].split(":")[0] for line in lines[1:]] == [f" line {n}" for n in range(2, 7)]


def test_a_flood_of_errors_is_capped_and_counted(tmp_path: Path) -> None:
    text = "well,compound,dose\n" + "".join(f"A{i},x,{i}\n" for i in range(1, 49))
    lines = refusal(tmp_path, text).splitlines()
    assert lines[0] == "map.csv has 48 errors:"
    assert len(lines) == 22
    assert lines[-1] == "... and 28 more."


def test_replicates_are_numbered_where_the_map_does_not(tmp_path: Path) -> None:
    read = plate_map(tmp_path, "well,compound,dose\nA1,x,1 uM\nA2,x,2 uM\nA3,x,1000 nM\nA4,y,1 uM\n")
    assert list(read.table["replicate"]) == [1, 1, 2, 1]
    some = "well,compound,dose,rep\nA1,x,1 uM,R2\nA2,x,1 uM,\n"
    assert "no replicate, but other wells have one" in refusal(tmp_path, some)


def test_rows_and_columns_in_separate_cells_make_a_well(tmp_path: Path) -> None:
    read = plate_map(tmp_path, "row,col,compound,dose (uM)\nB,03,x,1\n")
    assert list(read.table["well"]) == ["B03"]
    assert "'2:3' is not a well" in refusal(tmp_path, "row,col,compound,dose (uM)\n2,3,x,1\n")


def test_columns_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    assert "column 'well' is there twice" in refusal(tmp_path, "well,well,compound\nA1,A2,x\n")
    assert "several columns could be the dose" in refusal(tmp_path, "well,compound,dose (uM),dose (nM)\nA1,x,1,1000\n")
    assert "its unit is not understood" in refusal(tmp_path, "well,compound,dose (foo)\nA1,x,1\n")
    assert "no column names the well" in refusal(tmp_path, "compound,dose\nx,1 uM\n")
    assert "no column names the compound" in refusal(tmp_path, "well,dose\nA1,1 uM\n")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"\n , ,\n", "is empty"),
        (b"well,compound\n", "holds no wells"),
        (b"PK\x03\x04...", "Excel workbook"),
        (b"well,compound,dose\nA1,x,3 uM\nA2,x,3 \xb5M\n", "line 3: is not UTF-8 text"),
        (b'well,compound\nA1,"x\nA2,y\n', "line 2: cannot be split into cells"),
        (b'well,compound\nA1,"x\nA2,y",\n', "line 2: a cell goes over several lines"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    assert why in refusal(tmp_path, data)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"nowhere\.csv does not exist"):
        read_plate_map(tmp_path / "nowhere.csv")


def test_what_deserves_a_second_look_is_noted_not_refused(tmp_path: Path) -> None:
    text = (
        "well,compound,dose,control,repliacte,operator\n"
        "A1,,,vehicle,1,me\nA2,Drug A,1 uM,,1,me\nA3,drug a,1 uM,,1,me\nA4,Drug A,2 uM,,1,me\n"
        "A5,Drug A,2 uM,,1,me\nA6,1-Mar,2 uM,,1,me\nA7,,,empty,1,me\n"
    )
    assert plate_map(tmp_path, text).notes == (
        "Column 'repliacte' is not used. Did you mean 'replicate'?",
        "Column 'operator' is not used.",
        "Left out as empty: A07.",
        "Vehicle wells: only 1, which says little about their spread.",
        "No positive controls: death cannot be given in percent of an inducer's.",
        "Taken as different compounds, though they differ in spelling only: 'Drug A' (line 3) and 'drug a' (line 4).",
        "Compounds that look like dates, as Excel makes them of names: 1-Mar.",
        "One dose only, hence no curve: 1-Mar, drug a.",
        "A single well each: 1-Mar 2 uM, Drug A 1 uM, drug a 1 uM.",
    )


def test_a_screen_at_one_unstated_dose_is_allowed_and_says_so(tmp_path: Path) -> None:
    read = plate_map(tmp_path, "well,compound,control\nA1,,negative\nA2,x,\n")
    assert np.isnan(doses(read)).all()
    assert any("No doses" in note for note in read.notes)


def test_wells_imaged_and_wells_mapped_are_compared(tmp_path: Path) -> None:
    read = plate_map(tmp_path, GOOD)
    assert read.check_against(["A1", "A02", "A3", "B1", "B3"]) == []
    assert read.check_against(["A01", "A02", "B02", "B03", "H12"]) == [
        "map.csv describes a 6-well plate, but wells outside it were imaged: H12. Is it the map of another plate?",
        "Imaged, but not in map.csv: B02, H12.",
        "In map.csv, but not imaged: A03, B01.",
    ]


def test_units_are_case_sensitive() -> None:
    assert [float(micromolar_per(unit)) for unit in ("M", "mM", "uM", "nM", "pM")] == [
        1e6,
        1e3,
        1,
        1e-3,
        1e-6,
    ]
    for unit in ("m", "mm", "MM", "nm", "UM", "g"):
        with pytest.raises(PlateMapError, match="not a concentration"):
            micromolar_per(unit)


def test_units_and_workbooks_are_loaded_only_where_a_plate_map_needs_them() -> None:
    code = "import sys, plates.layout; print([name for name in ('pint', 'openpyxl') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def guide() -> tuple[str, list[str]]:
    """Return the guide's prose and its examples."""
    text = (Path(__file__).parents[2] / "docs" / "plate_map.md").read_text(encoding="utf-8")
    examples = re.findall(r"```(?:csv|text)\n(.+?)```", text, flags=re.DOTALL)
    return re.sub(r"```.+?```", "", text, flags=re.DOTALL), examples


def test_the_guide_names_every_accepted_word() -> None:
    named = {word.casefold().replace("_", " ") for word in re.findall(r"`([^`]+)`", guide()[0])}
    accepted = "|".join([*COLUMN_NAMES.values(), *CONTROL_WORDS.values()]).split("|")
    assert [word for word in [*accepted, *map(str.casefold, USUAL_UNITS)] if word not in named] == []


def test_the_examples_of_the_guide_are_read(tmp_path: Path) -> None:
    examples = [plate_map(tmp_path, text) for text in guide()[1]]
    assert [len(read.table) for read in examples] == [8, 5, 2, 1, 1, 3, 4, 2]
    assert list(examples[0].table["inducer"])[2:4] == ["apoptosis", "necroptosis"]
    assert doses(examples[3]) == doses(examples[4]) == [1.0]
    assert list(examples[6].table["control"]) == ["negative", "none", "none", "combination"]
    assert list(examples[7].table["masked"]) == ["edge of the plate", ""]


CELLS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        [
            "A1",
            "AF48",
            "",
            "10 uM",
            "1,000",
            "1.000",
            "0,5",
            "1e5",
            "-",
            "NA",
            "neg",
            "pos",
            "ctrl",
            '"',
            "\x00",
            "0",
        ]
    ),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200))
def test_random_bytes_are_read_or_refused(tmp_path: Path, data: bytes) -> None:
    check_read_or_refused(tmp_path, data)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=st.lists(st.one_of(st.sampled_from(GOOD.splitlines()[0].split(",")), CELLS), min_size=1, max_size=8),
    body=st.lists(st.lists(CELLS, max_size=8), max_size=6),
    separator=st.sampled_from(",;\t"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_random_tables_are_read_or_refused(
    tmp_path: Path, header: list[str], body: list[list[str]], separator: str, encoding: str
) -> None:
    text = "\n".join(separator.join(cells) for cells in [header, *body])
    check_read_or_refused(tmp_path, text.encode(encoding, "surrogatepass"))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    place=st.integers(0, len(GOOD)),
    length=st.integers(0, 12),
    insert=st.one_of(st.text(max_size=4), st.sampled_from(list(',;\t"\n\r=µ%-.0'))),
)
def test_a_mutated_map_is_read_or_refused(tmp_path: Path, place: int, length: int, insert: str) -> None:
    text = GOOD[:place] + insert + GOOD[place + length :]
    check_read_or_refused(tmp_path, text.encode("utf-8", "surrogatepass"))


def check_read_or_refused(folder: Path, data: bytes) -> None:
    try:
        read = plate_map(folder, data)
    except PlateMapError:
        return
    assert set(read.table["control"]) <= {"negative", "positive", "none"}
    assert (read.table["compound"].str.len() > 0).all()
    dose = read.table["dose"]
    assert (dose.isna() | (dose > 0) | (read.table["control"] == "negative")).all()
    assert read.table["well"].is_unique
