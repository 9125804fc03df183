"""What is suspicious about a plate map: each rule speaks where it should and is silent on a good layout."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from math import comb
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plates.layout import FORMATS, PlateMap, parse_well, well_name
from plates.layout.finding import Finding
from plates.layout.findings import findings
from plates.states import DEAD

DOSES = (0.01, 0.1, 1.0, 10.0, 100.0)
REAL = Path(__file__).parents[3] / "shared" / "data" / "platemaps"


def plate_map(wells: Iterable[dict[str, object]], *, wells_of_plate: int = 96, notes: tuple[str, ...] = ()) -> PlateMap:
    """A plate map from wells that name what differs from a treated well in use."""
    usual = {"compound": "A", "dose": np.nan, "control": "none", "inducer": "", "replicate": 1}
    rest = {"cell_line": "", "vehicle": "DMSO", "masked": "", "line": 1}
    table = pd.DataFrame([{**usual, **rest, **well} for well in wells])
    places = [parse_well(str(well)) for well in table["well"]]
    table = table.assign(row=[row for row, _ in places], column=[column for _, column in places])
    rows, columns = FORMATS[wells_of_plate]
    table = table.sort_values(["row", "column"]).reset_index(drop=True)
    return PlateMap(table, rows=rows, columns=columns, source="P001.csv", sha256="0" * 64, notes=notes)


def good_wells(
    *, seed: int = 1, compounds: str = "ABCDEFGH", doses: Iterable[float] = DOSES, replicates: int = 2
) -> list[dict[str, object]]:
    """80 treated wells, 8 vehicle wells, 2 wells of each inducer, all scattered over 96 wells, 2 left free."""
    content: list[dict[str, object]] = [{"compound": "DMSO", "control": "negative"}] * 8
    for state in DEAD:
        content += [{"compound": f"{state} inducer", "control": "positive", "inducer": state, "dose": 10.0}] * 2
    content += [{"compound": name, "dose": dose} for name in compounds for dose in doses] * replicates
    places = np.random.default_rng(seed).permutation(96)[: len(content)]
    return [{**well, "well": well_name(*divmod(int(place), 12))} for well, place in zip(content, places, strict=True)]


def changed(change: Callable[[dict[str, object]], dict[str, object]]) -> PlateMap:
    """The good layout with some wells changed."""
    return plate_map([{**well, **change(well)} for well in good_wells()])


def said(found: list[Finding], *words: str) -> Finding:
    """The one finding that holds all these words."""
    matching = [finding for finding in found if all(word in finding.what for word in words)]
    assert len(matching) == 1, found
    return matching[0]


def of(well: dict[str, object], compound: str, dose: float | None = None) -> bool:
    return well["compound"] == compound and (dose is None or well["dose"] == dose)


@pytest.mark.parametrize("seed", range(20))
def test_a_good_layout_has_nothing_to_find(seed: int) -> None:
    layout = plate_map(good_wells(seed=seed))
    assert findings(layout) == []
    assert findings(layout, imaged=list(layout.table["well"])) == []


# controls


def test_no_vehicle_wells_is_a_warning() -> None:
    layout = plate_map([well for well in good_wells() if well.get("control") != "negative"])
    assert said(findings(layout), "No vehicle wells").severity == "warning"


def test_three_vehicle_wells_are_few_and_named() -> None:
    wells = good_wells()
    layout = plate_map(wells[5:])
    finding = said(findings(layout), "Only 3 vehicle wells")
    assert set(finding.wells) == {str(well["well"]) for well in wells[5:8]}


def test_a_plate_without_positive_controls_is_told_what_it_lacks() -> None:
    layout = plate_map([well for well in good_wells() if well.get("control") != "positive"])
    assert "Z' cannot be computed" in said(findings(layout), "No positive controls").what


def test_a_death_that_no_control_induces_and_one_with_a_single_well_are_named() -> None:
    wells = good_wells()
    layout = plate_map([*wells[:10], *wells[13:]])
    found = findings(layout)
    assert said(found, "No positive control induces necroptosis").severity == "note"
    assert said(found, "Only one well induces necrosis").wells == (str(wells[13]["well"]),)
    assert "Only 3 positive control wells" in said(found, "Only 3").what


def test_an_inducer_that_is_no_death_is_named() -> None:
    layout = changed(lambda well: {"inducer": "TNF"} if well.get("inducer") == "necrosis" else {})
    finding = said(findings(layout), "Inducer 'TNF'", "none of apoptosis, necroptosis, necrosis")
    assert len(finding.wells) == 2


def test_a_vehicle_without_control_wells_is_named_with_its_compounds() -> None:
    layout = changed(lambda well: {"vehicle": "ethanol"} if of(well, "B") else {})
    finding = said(findings(layout), "No vehicle well holds ethanol", "10 treated wells", "(B)")
    assert finding.severity == "warning"
    assert len(finding.wells) == 10


def test_wells_of_unknown_vehicle_beside_controls_in_two_vehicles_are_counted() -> None:
    ethanol = {str(well["well"]) for well in good_wells()[:4]}

    def change(well: dict[str, object]) -> dict[str, object]:
        return {"vehicle": "ethanol"} if well["well"] in ethanol else {"vehicle": ""} if of(well, "C") else {}

    assert len(said(findings(changed(change)), "10 treated wells name no vehicle", "dmso, ethanol").wells) == 10


# places


def _moved(kind: str, places: list[str]) -> PlateMap:
    """The good layout with wells of one kind exchanged for those at the given places."""
    wells = {str(well["well"]): well for well in good_wells()}
    free = [well_name(row, column) for row in range(8) for column in range(12)]
    content = {name: wells.get(name) for name in free}
    movers = [name for name in free if (content[name] or {}).get("control") == kind and name not in places]
    targets = [name for name in places if (content[name] or {}).get("control") != kind]
    for mover, target in zip(movers, targets, strict=False):
        content[mover], content[target] = content[target], content[mover]
    return plate_map([{**well, "well": name} for name, well in content.items() if well is not None])


def test_vehicle_wells_in_one_column_cannot_be_told_from_the_column_and_the_chance_is_hypergeometric() -> None:
    layout = _moved("negative", [f"{row}07" for row in "ABCDEFGH"])
    sizes = layout.table.groupby("column").size()
    chance = sum(comb(size, 8) for size in sizes) / comb(len(layout.table), 8)
    finding = said(findings(layout), "All 8 vehicle wells lie in column 7", f"{chance:.1g}")
    assert finding.severity == "warning"
    assert finding.wells == tuple(f"{row}07" for row in "ABCDEFGH")


def test_controls_only_at_the_edge_are_found_with_their_chance() -> None:
    layout = _moved("negative", ["A02", "A06", "B01", "D12", "F01", "H03", "H09", "G12"])
    rim = sum(row in (0, 7) or column in (0, 11) for row, column in layout.table[["row", "column"]].to_numpy())
    chance = comb(rim, 8) / comb(len(layout.table), 8)
    assert f"{chance:.1g}" in said(findings(layout), "at the edge of the wells in use").what


def test_controls_in_one_half_and_in_two_columns_are_found() -> None:
    left = _moved("negative", ["A02", "B04", "C03", "D05", "E06", "F02", "G05", "H04"])
    assert said(findings(left), "in the left half").severity == "warning"
    two = _moved("negative", ["A03", "C03", "E03", "G03", "B10", "D10", "F10", "H10"])
    assert said(findings(two), "in column 3 and column 10").severity == "note"
    row = _moved("positive", ["D03", "D04", "D06", "D08", "D09", "D11"])
    assert "All 6 positive control wells lie in row D" in said(findings(row), "row D").what


def test_two_control_wells_in_one_column_are_an_accident() -> None:
    wells = good_wells()
    content = [{**wells[0], "well": "A04"}, {**wells[1], "well": "E04"}]
    content += [well for well in wells[8:] if well["well"] not in ("A04", "E04")]
    assert not [finding for finding in findings(plate_map(content)) if "lie in" in finding.what]


def _series(*, vertical: bool, reverse: Iterable[str] = (), replicates: int = 1) -> list[dict[str, object]]:
    """Compounds A to F in six doses in neighbouring wells, controls scattered over the free columns or rows."""
    wells: list[dict[str, object]] = []
    doses = [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0]
    for number, name in enumerate("ABCDEF"):
        for step, dose in enumerate(doses[::-1] if name in reverse else doses):
            place = (step + 1, number + 2) if vertical else (number + 1, step + 2)
            wells.append({"compound": name, "dose": dose, "well": well_name(*place)})
    edge = ["A03", "A07", "C01", "D11", "F01", "H05", "H08", "E12", "G12", "B11", "G01", "A10"]
    for number, well in enumerate(edge):
        kind = {"control": "negative", "compound": "DMSO"} if number < 6 else {}
        wells.append(kind | {"well": well} | ({} if kind else _inducer(DEAD[number % 3])))
    return wells


def _inducer(state: str) -> dict[str, object]:
    return {"control": "positive", "inducer": state, "compound": state, "dose": 1.0}


@pytest.mark.parametrize(("vertical", "where"), [(False, "on the left"), (True, "above")])
def test_series_that_all_rise_in_one_direction_are_noted_and_alternating_ones_are_not(
    vertical: bool, where: str
) -> None:
    found = findings(plate_map(_series(vertical=vertical)))
    assert said(found, "In all 6 dose series the low doses lie", where).severity == "note"
    turned = findings(plate_map(_series(vertical=vertical, reverse="BDF")))
    assert not [finding for finding in turned if "low doses lie" in finding.what]


def test_replicates_side_by_side_are_found() -> None:
    wells = _series(vertical=False, reverse="BDF")
    treated = [well for well in wells if well["compound"] in tuple("ABC") and well.get("control") is None]
    beside = []
    for well in treated:
        row, column = parse_well(str(well["well"]))
        beside += [{**well, "well": well_name(row * 2 - 1, column)}, {**well, "well": well_name(row * 2, column)}]
    controls = [well for well in wells if "control" in well]
    finding = said(findings(plate_map([*beside, *controls])), "In 18 of 18 doses with replicates")
    assert finding.severity == "warning"
    assert len(finding.wells) == 36


# orientation


def _corner() -> PlateMap:
    """60 wells of 96, neither symmetric nor full."""
    return plate_map([well for well in good_wells() if parse_well(str(well["well"]))[1] < 8])


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        (lambda row, column: (column, row), "with rows and columns exchanged"),
        (lambda row, column: (7 - row, 11 - column), "turned by 180 degrees"),
        (lambda row, column: (2 * row + 1, 2 * column), "every second row and column from B01"),
    ],
)
def test_a_map_that_fits_only_when_turned_stops(turn: Callable[[int, int], tuple[int, int]], words: str) -> None:
    layout = _corner()
    places = [turn(*parse_well(str(well))) for well in layout.table["well"]]
    finding = said(findings(layout, imaged=[well_name(*place) for place in places]), words)
    assert finding.severity == "stop"
    assert f"{len(places)} agree then" in finding.what


def test_a_partly_imaged_plate_is_not_taken_for_a_turned_one() -> None:
    layout = _corner()
    found = findings(layout, imaged=list(layout.table["well"])[5:])
    assert [finding.what for finding in found if finding.severity == "stop"] == [
        said(found, "but not imaged: 5 wells").what
    ]


def test_a_symmetric_map_is_not_called_turned() -> None:
    layout = plate_map(good_wells())
    full = [well_name(row, column) for row in range(8) for column in range(12)]
    assert not [finding for finding in findings(layout, imaged=full) if finding.what.startswith("The 96 wells")]


def test_a_map_of_12_rows_and_8_columns_would_fit_96_wells_transposed() -> None:
    wells = [{**well, "well": well_name(*parse_well(str(well["well"]))[::-1])} for well in good_wells()]
    finding = said(findings(plate_map(wells, wells_of_plate=384)), "would fit a 96-well plate")
    assert finding.severity == "warning"


def test_a_384_map_used_in_part_is_not_called_transposed() -> None:
    wells = [
        {**well, "well": well_name(parse_well(str(well["well"]))[0] + 3, number % 24)}
        for number, well in enumerate(good_wells())
    ]
    places = {str(well["well"]): well for well in wells}
    assert not [f for f in findings(plate_map(places.values(), wells_of_plate=384)) if "exchanged" in f.what]


def test_series_of_eight_along_the_rows_of_a_96_well_plate_are_noted() -> None:
    wells = [
        {"compound": f"C{row}", "dose": 3.0**column, "well": well_name(row, column)}
        for row in range(8)
        for column in range(8)
    ]
    assert said(findings(plate_map(wells)), "Dose series of 8 run along the rows").severity == "note"
    shifted = [{**well, "well": well_name(*(np.add(parse_well(str(well["well"])), (0, 2))))} for well in wells]
    assert not [finding for finding in findings(plate_map(shifted)) if "exchanged" in finding.what]


# doses


def test_a_dose_in_the_wrong_unit_jumps_by_a_thousand() -> None:
    layout = changed(lambda well: {"dose": 100000.0} if of(well, "B", 100.0) else {})
    finding = said(findings(layout), "jump by about a thousand", "B (10 uM to 100000 uM)")
    assert len(finding.wells) == 10
    assert "nM" in finding.remedy


def test_a_compound_in_the_wrong_unit_lies_a_thousand_off_the_others() -> None:
    layout = changed(lambda well: {"dose": float(str(well["dose"])) * 1000} if of(well, "D") else {})
    assert "D (10 uM to 100000 uM, others around 1 uM)" in said(findings(layout), "thousand times").what


def test_a_compound_ten_times_stronger_than_the_others_is_no_unit_error() -> None:
    layout = changed(lambda well: {"dose": float(str(well["dose"])) / 10} if of(well, "D") else {})
    assert findings(layout) == []


def test_a_mistyped_dose_is_an_uneven_step() -> None:
    doses = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 84.0]
    wells = good_wells(compounds="ABCD", doses=doses, replicates=1)
    wells = [well for well in wells if of(well, "A") or well["compound"] not in tuple("BCD")]
    assert "A (64 uM to 84 uM, usually 2-fold)" in said(findings(plate_map(wells)), "step unlike").what


@pytest.mark.parametrize(
    "doses", [(1.0, 3.0, 10.0, 30.0, 100.0), (1.0, 2.0, 5.0, 10.0, 20.0), (1.0, 5.0, 10.0, 50.0, 100.0), (0.5, 1.0)]
)
def test_usual_series_of_round_numbers_are_even(doses: tuple[float, ...]) -> None:
    assert findings(plate_map(good_wells(doses=doses))) == []


def test_a_series_that_lacks_a_dose_that_the_others_have_is_found() -> None:
    layout = plate_map([well for well in good_wells() if not of(well, "C", 10.0)])
    assert "C (no 10 uM)" in said(findings(layout), "lack a dose").what


def test_a_gap_of_two_steps_is_found_without_other_compounds() -> None:
    doses = [1.0, 2.0, 4.0, 16.0, 32.0, 64.0]
    wells = good_wells(doses=doses, compounds="A")
    assert "4 uM to 16 uM" in said(findings(plate_map(wells)), "lack a dose").what


def test_nearly_equal_doses_are_probably_one() -> None:
    first = next(well["well"] for well in good_wells() if of(well, "E", 10.0))
    layout = changed(lambda well: {"dose": 9.99} if well["well"] == first else {})
    assert "E (9.99 and 10 uM)" in said(findings(layout), "so close").what


def test_a_dose_in_more_wells_than_the_others_is_a_double() -> None:
    taken = {well["well"] for well in good_wells()}
    free = next(name for name in (well_name(*divmod(k, 12)) for k in range(96)) if name not in taken)
    layout = plate_map([*good_wells(), {"compound": "F", "dose": 1.0, "well": free}])
    assert "F (1 uM in 3 wells, usually 2)" in said(findings(layout), "in more wells").what


def test_a_dose_that_every_compound_has_in_more_wells_is_meant_so() -> None:
    wells = [*good_wells(doses=(0.1, 1.0, 10.0)), *good_wells(doses=(10.0,), replicates=1, seed=2)[14:]]
    free = (well_name(*divmod(place, 12)) for place in range(96))
    assert findings(plate_map([{**well, "well": next(free)} for well in _shuffled(wells)])) == []


def _shuffled(wells: list[dict[str, object]]) -> list[dict[str, object]]:
    return [wells[k] for k in np.random.default_rng(3).permutation(len(wells))]


def test_a_compound_at_one_dose_and_doses_in_one_well_are_noted() -> None:
    wells = [well for well in good_wells() if well["compound"] != "G" or of(well, "G", 1.0)]
    assert said(findings(plate_map(wells)), "1 of 8 compounds have one dose only", ": G.").severity == "note"
    single = findings(plate_map(good_wells(replicates=1)))
    assert "40 of 40 doses have a single well" in said(single, "single well").what


def test_a_map_of_stocks_is_not_taken_for_doses_over_cells() -> None:
    layout = changed(
        lambda well: {"dose": float(str(well["dose"])) * 100} if well["compound"] in tuple("ABCDEFGH") else {}
    )
    finding = said(findings(layout), "8 of 8 compounds reach 1000 uM or more, up to 10000 uM")
    assert finding.severity == "warning"


# masks, names, images


def test_masked_wells_are_listed_with_their_reasons_and_many_are_a_warning() -> None:
    wells = good_wells()
    few = plate_map([{**well, "masked": "bubble"} if number in (8, 20) else well for number, well in enumerate(wells)])
    assert said(findings(few), "2 of 94 wells (2.1 %) are masked", "bubble: ").severity == "note"
    many = plate_map([{**well, "masked": "dry"} if number % 4 == 0 else well for number, well in enumerate(wells)])
    assert said(findings(many), "24 of 94 wells (26 %)").severity == "warning"


def test_masks_that_leave_no_well_of_a_compound_or_none_at_all_say_so() -> None:
    one = changed(lambda well: {"masked": "precipitate"} if of(well, "H") else {})
    assert said(findings(one), "Every well of H is masked").severity == "warning"
    everything = changed(lambda well: {"masked": "dropped"})
    assert said(findings(everything), "All 94 wells are masked").severity == "stop"


def test_a_masked_well_counts_for_no_rule() -> None:
    first = next(well["well"] for well in good_wells() if of(well, "E", 10.0))
    layout = changed(lambda well: {"dose": 9.99, "masked": "wrong dose"} if well["well"] == first else {})
    assert {finding.severity for finding in findings(layout)} == {"note"}


def test_wells_on_one_side_only_stop_but_a_masked_well_need_not_be_imaged() -> None:
    layout = changed(lambda well: {"masked": "not seeded"} if well["well"] == good_wells()[20]["well"] else {})
    wells = list(layout.table["well"])
    masked = str(good_wells()[20]["well"])
    assert {f.severity for f in findings(layout, imaged=[well for well in wells if well != masked])} == {"note"}
    found = findings(layout, imaged=[*wells[2:], "P24"])
    assert said(found, "Imaged, but not in P001.csv: 1 well (P24), 1 of them outside its 96").severity == "stop"
    assert said(found, "but not imaged: 2 wells").wells == tuple(wells[:2])


def test_notes_of_the_reader_are_kept_but_nothing_is_said_twice() -> None:
    spelling = "Taken as different compounds, though they differ in spelling only: 'A' (line 2) and 'a' (line 3)."
    layout = plate_map(good_wells(), notes=(spelling, "No positive controls: death cannot be given."))
    assert [(finding.severity, finding.what) for finding in findings(layout)] == [("note", spelling)]


def test_the_gravest_come_first() -> None:
    layout = plate_map(good_wells()[5:], notes=("A remark.",))
    severities = [finding.severity for finding in findings(layout, imaged=["A01"])]
    assert severities == sorted(severities, key=("stop", "warning", "note").index)
    assert set(severities) == {"stop", "warning", "note"}


# real plate maps


@pytest.mark.skipif(not REAL.is_dir(), reason="the third-party plate maps are not here")
def test_real_plate_maps_are_told_what_is_true_of_them_and_nothing_else() -> None:
    from plates.layout import read_plate_map

    jump = sorted(REAL.glob("JUMP-*/*_compound_platemap.tsv"))
    first = sorted(REAL.glob("lincs-cell-painting/2016*/platemap/*.txt"))[::7]
    second = [*REAL.glob("lincs-cell-painting/2017*/platemap/AB00023158.csv")]
    assert (len(jump), len(first), len(second)) == (3, 4, 1)
    for path in jump:
        assert _warnings(path) == ["No positive controls"]
    for path in first:
        # the library's maps state the 10 mM stocks
        assert _warnings(path) == ["No positive controls", "58 of 58 compounds reach 1000 uM or more, up to 20000 uM"]
        said(findings(read_plate_map(path)), "In all 56 dose series the low doses lie on the right")
    for path in second:
        # vehicle in columns 2 and 24 and in row P; the seven doses with two wells have them side by side
        assert _warnings(path) == [
            "No positive controls",
            "All 38 vehicle wells lie at the edge of the wells in use",
            "In 7 of 7 doses with replicates all replicates are neighbours",
            "82 of 82 compounds reach 1000 uM or more, up to 10080 uM",
        ]


def _warnings(path: Path) -> list[str]:
    """Beginnings of the findings that are more than notes, up to what the rule adds to each."""
    from plates.layout import read_plate_map

    whats = [finding.what for finding in findings(read_plate_map(path)) if finding.severity != "note"]
    return [re.split(r", as stocks|, so they|: ", what)[0] for what in whats]


@pytest.mark.skipif(not REAL.is_dir(), reason="the third-party plate maps are not here")
def test_a_real_plate_map_on_a_turned_plate_is_recognised() -> None:
    from plates.layout import read_plate_map

    layout = read_plate_map(REAL / "JUMP-MOA" / "JUMP-MOA_compound_platemap.tsv")
    kept = layout.table[layout.table["row"] < 9]
    part = PlateMap(kept, rows=16, columns=24, source="half.tsv", sha256="", notes=())
    turned = [well_name(15 - row, 23 - column) for row, column in zip(kept["row"], kept["column"], strict=True)]
    assert said(findings(part, imaged=turned), "turned by 180 degrees").severity == "stop"
