"""Doses in every unit, as masses and as logarithms, and wells that are masked or in another vehicle."""

from __future__ import annotations

import contextlib
import math
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plates.errors import PlateMapError
from plates.layout import PlateMap, micromolar_per, read_unit
from plates.layout.roles import vehicle_controls

from .plate_maps import plate_map, refusal

QUICK = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def doses(read: PlateMap) -> list[float]:
    return [float(dose) for dose in read.table["dose"]]


@pytest.mark.parametrize(
    ("unit", "micromolar"),
    [
        ("mol/L", "1e6"),
        ("mol/dm3", "1e6"),
        ("kmol/m^3", "1e6"),
        ("mol/m^3", "1e3"),
        ("mol m-3", "1e3"),
        ("mmol L-1", "1e3"),
        ("nmol/mL", "1"),
        ("umol per l", "1"),
        ("\N{MICRO SIGN}mol·L⁻¹", "1"),
        ("\N{GREEK SMALL LETTER MU}mol/liter", "1"),
        ("micromolar", "1"),
        ("pmol/ul", "1"),
        ("pmol/ml", "1e-3"),
        ("fM", "1e-9"),
    ],
)
def test_molar_units_are_read_in_any_spelling(unit: str, micromolar: str) -> None:
    assert micromolar_per(unit) == Decimal(micromolar)


@pytest.mark.parametrize(
    ("unit", "grams_per_litre"),
    [("g/l", "1"), ("mg/ml", "1"), ("ug/ul", "1"), ("ug/mL", "1e-3"), ("mcg/ml", "1e-3"), ("ng/ul", "1e-3"),
     ("ng/ml", "1e-6"), ("mg/dl", "1e-2"), ("% w/v", "10"), ("%(w/v)", "10"), ("% wv", "10")],
)  # fmt: skip
def test_mass_units_are_read_but_are_no_molar_ones(unit: str, grams_per_litre: str) -> None:
    meant = read_unit(unit)
    assert (meant.is_mass, meant.factor) == (True, Decimal(grams_per_litre))
    with pytest.raises(PlateMapError, match="the molecular weight is unknown"):
        micromolar_per(unit)


@pytest.mark.parametrize("unit", ["um", "MM", "UM", "Mmol/l", "MG/ML", "Mg/ml"])
def test_a_unit_wrong_by_its_case_alone_is_refused_with_the_right_one(unit: str) -> None:
    with pytest.raises(PlateMapError, match=r"Did you mean [mun]"):
        read_unit(unit)


@pytest.mark.parametrize("unit", ["mol", "kg", "mol/kg", "IU/ml", "U/ml", "M-1", "x", "nan", "M**9", "uM uM", "°C", ""])
def test_what_is_no_concentration_is_refused(unit: str) -> None:
    with pytest.raises(PlateMapError, match="is not a concentration"):
        read_unit(unit)


def test_a_bare_percentage_is_refused_since_it_may_be_of_volume() -> None:
    for unit in ("%", "% v/v", "ppm"):
        with pytest.raises(PlateMapError, match="it may be of weight or of volume"):
            read_unit(unit)


def test_masses_become_molar_by_the_weight_of_their_own_compound(tmp_path: Path) -> None:
    text = (
        "well,compound,dose,MW (g/mol)\n"
        "A1,staurosporine,466.53 ug/ml,466.53\nA2,doxorubicin,0.54352 mg/ml,543.52\nA3,staurosporine,2 uM,466.53\n"
        "A4,glucose,1.8016 % w/v,180.16\nA5,DMSO,,\n"
    )
    read = plate_map(tmp_path, text)
    assert doses(read)[:4] == [1000, 1000, 2, 100_000]
    assert "Doses converted from ug/ml with the molecular weights of column 'MW (g/mol)': 1." in read.notes
    assert sum("converted from" in note for note in read.notes) == 3


@pytest.mark.parametrize(
    ("header", "row", "why"),
    [
        ("dose (mg/ml)", "1", "line 1: unit 'mg/ml' cannot be turned into uM: the molecular weight is unknown"),
        ("dose (mg/ml),mw", "1,", "line 2, well A01: unit 'mg/ml' cannot be turned into uM"),
        ("dose (mg/ml),mw", "1,heavy", "molecular weight 'heavy' is not a number"),
        ("dose (mg/ml),mw", "1,0", "molecular weight '0' cannot be meant"),
        ("dose (mg/ml),mw", '1,"1,234"', "molecular weight '1,234' may be read in two ways"),
        ("dose (%)", "1", "line 1: unit '%' cannot be turned into uM: it may be of weight or of volume"),
    ],
)
def test_a_mass_without_a_clear_weight_is_refused(tmp_path: Path, header: str, row: str, why: str) -> None:
    assert why in refusal(tmp_path, f"well,compound,{header}\nA1,x,{row}\n")


@pytest.mark.parametrize(
    ("header", "cell"),
    [
        ("log10 dose (M)", "-6"),
        ("log dose [M]", "-6"),
        ("Log10(Dose in M)", "-6"),
        ("logM", "-6"),
        ("log[M]", "-6"),
        ("log10(uM)", "0"),
        ("log conc [uM]", "0"),
        ("log_concentration_nM", "3"),
        ("log dose (mmol/l)", "-3.0"),
    ],
)
def test_a_column_of_logarithms_is_raised_to_doses(tmp_path: Path, header: str, cell: str) -> None:
    read = plate_map(tmp_path, f"well,compound,{header}\nA1,x,{cell}\nA2,DMSO,\n")
    assert doses(read)[0] == 1.0
    assert math.isnan(doses(read)[1])
    assert any(note.startswith(f"Doses read as 10 to the power of column '{header}', in ") for note in read.notes)


@pytest.mark.parametrize(
    ("header", "cell", "why"),
    [
        ("log dose", "-6", "line 1: column 'log dose' holds logarithms, but of which unit?"),
        ("ln dose (M)", "-6", "its unit is not understood"),
        ("log2 dose (M)", "-6", "its unit is not understood"),
        ("log dose (M)", "-60", "it is no logarithm of a concentration"),
        ("log dose (M)", "12", "cannot be meant: outside 1 fM to 100 M"),
        ("log dose (M)", "-6 uM", "is given in uM and M"),
        ("dose (M)", "-6", "is negative. Expected a concentration; name a column of logarithms"),
    ],
)
def test_logarithms_that_can_be_read_in_two_ways_are_refused(tmp_path: Path, header: str, cell: str, why: str) -> None:
    assert why in refusal(tmp_path, f"well,compound,{header}\nA1,x,{cell}\n")


def test_a_dose_beside_its_logarithm_is_read_and_the_logarithm_left(tmp_path: Path) -> None:
    read = plate_map(tmp_path, "well,compound,log10 dose (M),dose (uM)\nA1,x,-6,3\n")
    assert doses(read) == [3.0]
    assert "Column 'log10 dose (M)' is not used." in read.notes


def test_a_dose_that_a_dispenser_writes_in_two_ways_is_one(tmp_path: Path) -> None:
    text = "well,compound,mmoles_per_liter\nA1,x,3.33333333228294\nA2,x,3.3333333340894\nA3,x,3.3333333\n"
    assert len(set(doses(plate_map(tmp_path, text))[:2])) == 1
    assert doses(plate_map(tmp_path, "well,compound,dose (mM)\nA1,x,1.e-001\n")) == [100.0]


@QUICK
@given(
    digits=st.integers(1, 999_999),
    exponent=st.integers(-9, -4),
    unit=st.sampled_from([("M", 0), ("mM", -3), ("umol/L", -6), ("nM", -9), ("nmol/ml", -6)]),
)
def test_one_dose_is_one_number_in_every_unit_and_as_logarithm(
    tmp_path: Path, digits: int, exponent: int, unit: tuple[str, int]
) -> None:
    molar = Decimal(digits).scaleb(exponent - 3)
    written = molar.scaleb(-unit[1])
    expected = float(molar.scaleb(6))
    table = f"well,compound,dose\nA1,x,{written:f} {unit[0]}\n"
    assert doses(plate_map(tmp_path, table)) == [expected]
    logs = f"well,compound,log10 dose ({unit[0]})\nA1,x,{math.log10(written)!r}\n"
    assert doses(plate_map(tmp_path, logs)) == [expected]


@QUICK
@given(milli=st.integers(1, 10**6), weight=st.integers(100, 100_000))
def test_a_mass_and_the_molar_dose_it_stands_for_are_one_number(tmp_path: Path, milli: int, weight: int) -> None:
    # grams per litre of so many uM of so many g/mol, exactly
    mass = Decimal(milli) * weight / 10**9
    text = f"well,compound,dose,mw\nA1,x,{mass:f} mg/ml,{weight}\nA2,x,{Decimal(milli) / 1000:f} uM,{weight}\n"
    one, other = doses(plate_map(tmp_path, text))
    assert one == other


@QUICK
@given(unit=st.one_of(st.text(max_size=12), st.from_regex(r"[a-zA-Zµ%]{1,6}[ /*^]{1,2}[a-zA-Z]{1,6}[-^*13]{0,4}")))
def test_random_units_are_read_or_refused(unit: str) -> None:
    with contextlib.suppress(PlateMapError):
        assert read_unit(unit).factor > 0


def test_a_masked_well_keeps_its_reason_and_its_place(tmp_path: Path) -> None:
    text = (
        "well,compound,dose (uM),exclusion reason\n"
        "A1,x,1,edge of the plate\nA2,x,1,\nA3,x,1,no\nB1,DMSO,,FALSE\nB2,DMSO,,pipetting error\n"
    )
    read = plate_map(tmp_path, text)
    assert list(read.table["masked"]) == ["edge of the plate", "", "", "", "pipetting error"]
    assert list(read.to_dataset()["masked"].values) == list(read.table["masked"])
    assert "Masked, hence not used: A01 (edge of the plate), B02 (pipetting error)." in read.notes
    assert "Vehicle wells: only 1, which says little about their spread." in read.notes


@pytest.mark.parametrize("cell", ["yes", "1", "TRUE", "x", "Excluded"])
def test_a_mask_without_a_reason_is_refused(tmp_path: Path, cell: str) -> None:
    assert refusal(tmp_path, f"well,compound,dose (uM),mask\nA1,x,1,{cell}\n") == (
        f"map.csv, line 2, well A01: mask '{cell}' gives no reason. Write why the well is not to be used, as in 'edge'."
    )


def test_vehicles_are_kept_and_their_controls_found(tmp_path: Path) -> None:
    text = (
        "well,compound,dose (uM),control,solvent\n"
        "A1,DMSO,,negative,\nA2,,,negative,water\nA3,scrambled,,negative,\n"
        "B1,x,1,,DMSO\nB2,y,1,,Water\nB3,z,1,,\n"
    )
    read = plate_map(tmp_path, text)
    assert list(read.table["vehicle"]) == ["DMSO", "water", "", "DMSO", "Water", ""]
    assert list(read.to_dataset()["vehicle"].values) == list(read.table["vehicle"])
    wells = read.table["well"].to_numpy()
    controls = {vehicle: list(wells[which]) for vehicle, which in vehicle_controls(read.table).items()}
    assert controls == {"dmso": ["A01"], "water": ["A02"], "": ["A01", "A02", "A03"]}


def test_each_positive_control_keeps_its_own_inducer(tmp_path: Path) -> None:
    text = (
        "well,compound,control,inducer\nA1,staurosporine,positive,apoptosis\nA2,TNF + zVAD,positive,necroptosis\n"
        "A3,H2O2,positive,necrosis\nB1,erastin,positive,ferroptosis\n"
    )
    assert list(plate_map(tmp_path, text).table["inducer"]) == ["apoptosis", "necroptosis", "necrosis", "ferroptosis"]
