"""Plate maps of another plate, in other units, or spoilt on the way (rows 12, 13, 40 and 41 of the faults)."""

import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plates.errors import PlateMapError
from plates.ingest.convert import ingest
from plates.layout import PlateMap, read_plate_map
from plates.layout.units import micromolar_per
from tests.faults.small_plate import made_up_tomogram, write_small_acquisition
from tests.plates.plate_maps import plate_map, refusal

GOOD = """well,compound,dose,unit,control
A01,DMSO,,,negative
A02,drug,1.5,uM,none
A03,drug,150,nM,none
B01,x,2,mM,none
"""
DOSES = {"A02": 1.5, "A03": 0.15, "B01": 2000.0}


def doses_of(found: PlateMap) -> dict[str, float]:
    table = found.table
    return {str(well): float(dose) for well, dose in zip(table["well"], table["dose"], strict=True) if dose == dose}


def dose_or_refusal(folder: Path, data: bytes) -> tuple[float, str]:
    """The one dose of a map, or why it was refused."""
    try:
        (dose,) = doses_of(plate_map(folder, data)).values()
    except PlateMapError as error:
        return float("nan"), str(error)
    return dose, ""


def test_a_well_described_twice_names_both_lines(tmp_path: Path) -> None:
    message = refusal(tmp_path, "well,compound,dose (uM)\nA01,x,1\nA02,y,1\na1,z,1\n")
    assert "line 4" in message
    assert re.search(r"line 2|lines 2", message)


@pytest.mark.parametrize(
    ("wells", "format_", "expected"),
    [
        (("A01", "P24"), 96, r"96-well plate, but wells outside it were imaged: P24. Is it the map of another plate"),
        (("A01", "A02", "C07"), None, r"Imaged, but not in map\.csv: C07"),
        (("A01",), None, r"In map\.csv, but not imaged: A02"),
    ],
)
def test_the_map_of_another_plate_is_told(
    tmp_path: Path, wells: tuple[str, ...], format_: int | None, expected: str
) -> None:
    found = plate_map(tmp_path, "well,compound,dose (uM)\nA01,x,1\nA02,y,1\n", plate_format=format_)
    assert re.search(expected, " ".join(found.check_against(wells)))
    assert found.check_against(["A01", "A02"]) == []


def test_unmapped_wells_stop_the_run_unless_allowed_and_then_stay_unmapped(tmp_path: Path) -> None:
    image = [made_up_tomogram(0, shape=(4, 64, 64))]
    for number, well in enumerate(("A01", "A02", "A03")):
        write_small_acquisition(tmp_path / "in", well, image, number=number)
    found = plate_map(tmp_path, "well,compound,dose (uM)\nA02,y,1\nA03,z,1\n")
    with pytest.raises(PlateMapError, match=r"Imaged, but not in map\.csv: A01"):
        ingest(tmp_path / "in", out=tmp_path / "p.zarr", plate_map=found)
    assert not (tmp_path / "p.zarr").exists()
    plate = ingest(tmp_path / "in", out=tmp_path / "p.zarr", plate_map=found, allow_unmatched=True)
    assert list(plate.wells) == ["A01", "A02", "A03"]
    compounds = found.to_dataset()["compound"]
    assert str(compounds.sel(well="A02").values) == "y"  # not shifted onto A01
    assert "A01" not in compounds["well"].values


@pytest.mark.parametrize(
    "data",
    [
        GOOD.encode(),
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.encode("utf-16"),
        GOOD.replace("\n", "\r\n").encode(),
        GOOD.replace(",", ";").encode(),
        GOOD.replace(",", "\t").encode(),
        GOOD.replace(",", ";").replace("1.5", "1,5").encode(),
        GOOD.replace("uM", "\u00b5M").encode(),
        GOOD.replace("uM", "\u03bcM").encode(),
    ],
    ids=["plain", "mark", "UTF-16", "CRLF", "semicolon", "tab", "comma", "micro", "mu"],
)
def test_however_it_was_saved_the_doses_are_the_same(tmp_path: Path, data: bytes) -> None:
    assert doses_of(plate_map(tmp_path, data)) == pytest.approx(DOSES)


@pytest.mark.parametrize("number", ["1.500", "1,500", "1.500,5", "1e", "--1", "1..5", "1 500"])
def test_a_number_that_could_be_a_thousand_times_another_is_refused_or_read_as_written(
    tmp_path: Path, number: str
) -> None:
    text = f'well,compound,dose (uM)\nA01,x,"{number}"\n'
    dose, why = dose_or_refusal(tmp_path, text.encode())
    # as any program that reads English numbers
    assert dose == pytest.approx(float(number)) if not why else "line 2" in why


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    amount=st.decimals("0.001", "999", allow_nan=False, places=3),
    unit=st.sampled_from(["M", "mM", "uM", "µM", "nM", "pM"]),
    separator=st.sampled_from([",", ";", "\t"]),
    comma=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    line=st.sampled_from(["\n", "\r\n"]),
)
def test_no_way_of_saving_changes_a_dose_by_a_thousand(
    tmp_path: Path, amount: Decimal, unit: str, separator: str, comma: bool, encoding: str, line: str
) -> None:
    truth = float(amount * micromolar_per(unit))
    number = str(amount).replace(".", ",") if comma else str(amount)
    cells = [["well", "compound", "dose", "unit"], ["A01", "x", f'"{number}"', unit]]
    text = line.join(separator.join(row) for row in cells) + line
    dose, why = dose_or_refusal(tmp_path, text.encode(encoding))
    # refused where it can be read in two ways
    assert dose == pytest.approx(truth, rel=1e-6) if not why else "line 2" in why


def test_units_of_every_row_are_converted_and_what_has_none_is_refused(tmp_path: Path) -> None:
    text = "well,compound,dose,molecular weight\nA01,x,1 uM,\nA02,x,1000 nM,\nA03,x,0.5 mg/ml,500\nA04,x,1e-6 M,\n"
    found = doses_of(plate_map(tmp_path, text))
    assert found == pytest.approx({"A01": 1.0, "A02": 1.0, "A03": 1000.0, "A04": 1.0})
    assert "line 3" in refusal(tmp_path, "well,compound,dose\nA01,x,1 uM\nA02,x,1 mg/ml\n")
    assert "line 3" in refusal(tmp_path, "well,compound,dose\nA01,x,1 uM\nA02,x,5\n")
    assert doses_of(plate_map(tmp_path, "well,compound,log10 dose (M)\nA01,x,-6\nA02,x,-9\n")) == pytest.approx(
        {"A01": 1.0, "A02": 0.001}
    )


def test_merged_cells_and_formulas_without_a_value_name_their_row(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (["well", "compound", "dose (uM)"], ["A01", "x", 1], ["A02", "x", 2], ["A03", "x", 3]):
        sheet.append(row)
    sheet.merge_cells("B3:B4")
    book.save(tmp_path / "merged.xlsx")
    with pytest.raises(PlateMapError, match=r"line 3.*merged|merged.*Unmerge"):
        read_plate_map(tmp_path / "merged.xlsx")
    sheet.unmerge_cells("B3:B4")
    sheet["B4"] = "x"
    sheet["C3"] = "=1+1"
    book.save(tmp_path / "formula.xlsx")
    with pytest.raises(PlateMapError, match=r"line 3.*formula that was never calculated"):
        read_plate_map(tmp_path / "formula.xlsx")
    sheet["C3"] = 2
    book.save(tmp_path / "good.xlsx")
    assert doses_of(read_plate_map(tmp_path / "good.xlsx")) == {"A01": 1.0, "A02": 2.0, "A03": 3.0}


def test_a_hundred_thousand_rows_are_answered_in_one_short_message(tmp_path: Path) -> None:
    rows = "\n".join(f"A{number},x,1" for number in range(1, 100_001))
    message = refusal(tmp_path, f"well,compound,dose (uM)\n{rows}\n")
    assert "line" in message
    assert len(message) < 10_000


def test_a_column_with_a_slip_of_the_pen_is_told_its_neighbour(tmp_path: Path) -> None:
    try:
        notes = " ".join(plate_map(tmp_path, "well,compund,dose (uM)\nA01,x,1\n").notes)
    except PlateMapError as error:
        notes = str(error)
    assert "compound" in notes


def test_no_compound_is_ever_missing(tmp_path: Path) -> None:
    for cell in ("", "nan", "NA", "None", " "):
        text = f"well,compound,dose (uM)\nA01,{cell},1\n"
        _, why = dose_or_refusal(tmp_path, text.encode())
        assert "line 2" in why if why else str(plate_map(tmp_path, text).table["compound"][0]) == cell
    assert np.isfinite([*DOSES.values()]).all()
