"""Two compounds in one well: read with a dose and a unit each, or refused with line and well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plates.layout import PlateMap

from .plate_maps import plate_map, refusal

HEAD = "well,compound,dose (uM),compound 2,dose 2 (nM)\n"


def held(read: PlateMap) -> dict[str, tuple[Any, ...]]:
    """What each well holds."""
    names = ["compound", "dose", "compound_2", "dose_2", "control"]
    return {row["well"]: tuple(row[name] for name in names) for _, row in read.table.iterrows()}


def test_each_compound_has_its_dose_in_its_own_unit(tmp_path: Path) -> None:
    read = plate_map(tmp_path, HEAD + "A1,DMSO,,,\nA2,dox,1,,\nA3,ven,0.1,,\nA4,dox,1,ven,100\n")
    assert held(read)["A04"] == ("dox", 1.0, "ven", 0.1, "combination")
    second, dose, control = held(read)["A02"][2:]
    assert (second, control) == ("", "none")
    assert np.isnan(dose)
    layout = read.to_dataset()
    assert layout["compound_2"].values.tolist() == ["", "", "", "ven"]
    assert layout["dose_2"].attrs["units"] == "uM"
    assert any("dox + ven (1 wells)" in note for note in read.notes)


def test_a_plate_of_single_compounds_has_no_such_columns(tmp_path: Path) -> None:
    read = plate_map(tmp_path, HEAD + "A1,DMSO,,,\nA2,dox,1,,\n")
    assert "compound_2" not in read.table
    assert "dose_2" not in read.to_dataset()


@pytest.mark.parametrize(
    "header",
    [
        "well,drug,conc_uM,drug2,conc2_nM",
        "Well,Compound Name,Concentration [uM],Compound Name 2,Concentration 2 [nM]",
        "well,compound,dose (uM),second compound,second dose (nM)",
        "well,treatment,dose (uM),treatment 2,dose (nM) 2",
        "well,compound,dose (uM),compound_2,log10 dose 2 (nM)",
    ],
)
def test_the_second_columns_are_known_by_the_names_of_the_first(tmp_path: Path, header: str) -> None:
    second = "2" if "log10" in header else "100"
    read = plate_map(tmp_path, f"{header}\nA1,dox,1,,\nA2,ven,0.1,,\nA3,dox,1,ven,{second}\n")
    assert held(read)["A03"] == ("dox", 1.0, "ven", 0.1, "combination")


def test_grids_of_both_compounds_are_read(tmp_path: Path) -> None:
    grids = {
        "compound": ("DMSO,dox,dox", ",ven,"),
        "dose (uM)": (",1,1", ",0.1,"),
        "compound 2": (",,ven", ",,"),
        "dose 2 (uM)": (",,0.1", ",,"),
    }
    text = "\n".join(f"{name},1,2,3\nA,{a}\nB,{b}\n" for name, (a, b) in grids.items())
    assert held(plate_map(tmp_path, text))["A03"] == ("dox", 1.0, "ven", 0.1, "combination")


def test_a_matrix_may_write_single_compounds_with_the_others_dose_as_0(tmp_path: Path) -> None:
    rows = "A1,DMSO,0,ven,0\nA2,dox,1,ven,0\nA3,dox,0,ven,100\nA4,dox,1,ven,100\nA5,,,ven,100\nA6,dox,1,DMSO,\n"
    read = held(plate_map(tmp_path, HEAD + rows))
    assert [read[well][0] for well in ("A01", "A02", "A03", "A05", "A06")] == ["DMSO", "dox", "ven", "ven", "dox"]
    assert [read[well][4] for well in read] == ["negative", "none", "none", "combination", "none", "none"]
    assert read["A03"][1] == 0.1
    assert read["A05"][2] == ""


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("A2,dox,1,,100", "line 3, well A02: a second dose of 0.1 uM, but no second compound"),
        ("A2,dox,1,ven,", "line 3, well A02: no dose of 'ven', one of two compounds"),
        ("A2,dox,1,Dox,100", "line 3, well A02: 'dox' is both compounds of the well"),
        ("A2,,1,ven,100", "line 3, well A02: a dose of 1 uM, but no compound"),
        ("A2,dox,0,ven,0", "line 3, well A02: dose 0 of 'dox' and of 'ven'"),
        ("A2,dox,1,ven,much", "line 3, well A02: second compound: dose 'much' is not a concentration"),
        ("A2,dox,1,ven,100 uM", "line 3, well A02: second compound: dose '100 uM' is given in uM and nM"),
    ],
)
def test_what_is_unclear_is_refused_with_its_line(tmp_path: Path, row: str, told: str) -> None:
    assert told in refusal(tmp_path, HEAD + "A1,DMSO,,,\n" + row + "\n")


def test_a_vehicle_control_holds_no_second_compound(tmp_path: Path) -> None:
    text = "well,compound,dose (uM),control,compound 2,dose 2 (uM)\nA1,DMSO,,negative,ven,1\n"
    assert "line 2, well A01: a vehicle control with 'ven' as its second compound" in refusal(tmp_path, text)


def test_a_positive_control_of_two_reagents_stays_one(tmp_path: Path) -> None:
    text = (
        "well,compound,dose (uM),control,inducer,compound 2,dose 2 (uM)\n"
        "A1,DMSO,,negative,,,\nA2,TNF,0.001,positive,necroptosis,zVAD,20\n"
    )
    assert held(plate_map(tmp_path, text))["A02"] == ("TNF", 0.001, "zVAD", 20.0, "positive")


def test_a_column_of_a_second_compound_without_its_dose_is_refused(tmp_path: Path) -> None:
    assert "none holds the dose that belongs to it" in refusal(
        tmp_path, "well,compound,dose (uM),compound 2\nA1,x,1,y\n"
    )
    told = refusal(tmp_path, "well,compound,dose (uM),dose 2 (uM)\nA1,x,1,2\n")
    assert "line 1: column 'dose 2 (uM)' is there, but none holds the compound" in told


def test_a_dose_without_a_unit_anywhere_is_refused_and_the_plates_unit_counts_for_both(tmp_path: Path) -> None:
    text = "well,compound,dose,compound 2,dose 2\nA1,x,1,y,2\n"
    assert "second compound: dose '2' has no unit" in refusal(tmp_path, text)
    assert held(plate_map(tmp_path, text, dose_unit="nM"))["A01"] == ("x", 0.001, "y", 0.002, "combination")


D300 = "Dispensed well,Dispensed row,Dispensed col,Fluid name,Concentration,Conc. units\n"


def test_a_dispensers_report_lists_a_well_once_a_fluid(tmp_path: Path) -> None:
    rows = (
        "A1,1,1,DMSO normalization,,\nA2,1,2,dox,1,uM\nA2,1,2,DMSO normalization,,\nA3,1,3,ven,100,nM\n"
        "A4,1,4,dox,1,uM\nA4,1,4,ven,100,nM\n"
    )
    read = plate_map(tmp_path, D300 + rows)
    assert held(read)["A04"] == ("dox", 1.0, "ven", 0.1, "combination")
    assert [held(read)[well][4] for well in ("A01", "A02", "A03")] == ["negative", "none", "none"]
    assert read.table["vehicle"].tolist() == ["DMSO", "DMSO", "", ""]
    # an error in the second fluid's line names that line
    assert "line 3, well A01: second compound: dose" in refusal(tmp_path, D300 + "A1,1,1,x,1,uM\nA1,1,1,y,?,uM\n")


def test_a_third_or_the_same_fluid_is_refused(tmp_path: Path) -> None:
    three = "A1,1,1,x,1,uM\nA1,1,1,y,1,uM\nA1,1,1,z,1,uM\n"
    assert "line 4, well A1: 'z' is dispensed as a third compound, first in line 2" in refusal(tmp_path, D300 + three)
    assert "'x' is dispensed twice" in refusal(tmp_path, D300 + "A1,1,1,x,1,uM\nA1,1,1,x,2,uM\n")


def test_elsewhere_a_well_described_twice_is_no_combination(tmp_path: Path) -> None:
    text = "well,compound,dose (uM)\nA1,x,1\nA1,y,1\n"
    assert "line 3, well A01: the well is already described in line 2" in refusal(tmp_path, text)
