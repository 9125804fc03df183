"""Designed tables: a state tied to a plate, a day or a place is found and named, a balanced design is left alone."""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.stats.contingency import association

from models.confounding import check_confounding, cramers_v, describe
from plates.states import STATES

ROWS, COLUMNS = "ABCDEFGH", range(1, 13)


def table_of(wells: Sequence[Mapping[str, object]], *, patches: int = 4) -> pd.DataFrame:
    """`patches` rows a well; what a well does not say is the middle of one plate at timepoint 0."""
    base = {"plate": "/data/P001.zarr", "field": 0, "timepoint": 0, "date": "2026-03-02"}
    return pd.DataFrame([base | dict(well) | {"field": number % 2} for well in wells for number in range(patches)])


def scattered(seed: int, *, plates: int = 2, **more: object) -> list[dict[str, object]]:
    """60 wells of five states a plate, dealt to random places of a 96-well plate."""
    random = np.random.default_rng(seed)
    wells: list[dict[str, object]] = []
    for plate in range(plates):
        places = list(product(ROWS, COLUMNS))
        chosen = random.permutation(len(places))[:60]
        for number, place in enumerate(chosen):
            row, column = places[place]
            name = f"/data/P{plate + 1:03d}.zarr"
            wells.append({"plate": name, "well": f"{row}{column:02d}", "state": STATES[number % 5]} | more)
    return wells


def abouts(table: pd.DataFrame, severity: str = "warning") -> list[str]:
    return [finding.about for finding in check_confounding(table) if finding.severity == severity]


def test_each_state_on_a_day_of_its_own_is_the_worst_that_can_be() -> None:
    wells = [well | {"date": f"2026-03-0{STATES.index(str(well['state'])) + 1}"} for well in scattered(1)]
    (finding,) = check_confounding(table_of(wells))
    assert finding.severity == "warning"
    assert finding.about == "date"
    assert "No date holds two states (apoptosis: 2026-03-01; necroptosis: 2026-03-02; necrosis" in finding.what
    assert "no score can tell whether the classifier sees the state or the date" in finding.what
    assert "no way of splitting helps" in finding.remedy
    assert finding.association == pytest.approx(1.0)
    assert finding.guessed == pytest.approx(1.0)
    assert finding.chance < 0.3
    assert finding.p_value == pytest.approx(1 / 500)
    assert describe([finding]) == [f"warning: {finding.what} {finding.remedy}"]


def test_one_dish_a_day_is_found_although_no_second_dish_could_be_guessed() -> None:
    wells = [{"well": f"A{k + 1:02d}", "state": state, "date": f"day {k}"} for k, state in enumerate(STATES)]
    (finding,) = (found for found in check_confounding(table_of(wells)) if found.about == "date")
    assert finding.severity == "warning"
    assert finding.association is None
    assert "No date holds two states" in finding.what


def test_a_plate_with_a_day_of_its_own_is_told_once() -> None:
    wells = scattered(2)
    for well in wells:
        first = well["state"] in STATES[:3]
        well |= {"plate": f"/data/P00{1 if first else 2}.zarr", "date": "first" if first else "second"}
    assert abouts(table_of(wells)) == ["plate"]


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_a_balanced_and_scattered_design_is_left_alone(seed: int) -> None:
    assert check_confounding(table_of(scattered(seed))) == []


def test_a_state_on_one_day_among_others_is_named_with_its_day() -> None:
    wells = [
        well | {"date": "monday" if str(well["plate"]).endswith("P001.zarr") else "friday"} for well in scattered(6)
    ]
    for well in wells:
        if well["state"] == "necrosis":
            well["date"] = "sunday"
    (finding,) = check_confounding(table_of(wells))
    assert "cannot be told apart for necrosis: each occurs on one date only" in finding.what
    assert "necrosis: sunday" in finding.what
    assert finding.severity == "warning"


def test_a_state_seen_on_one_of_two_mixed_plates_is_a_note() -> None:
    wells = [well for well in scattered(7) if well["state"] != "necrosis" or str(well["plate"]).endswith("P001.zarr")]
    (finding,) = check_confounding(table_of(wells))
    assert finding.severity == "note"
    assert finding.what.startswith("Only one plate holds necrosis (necrosis: P001)")


def test_a_state_more_frequent_on_one_day_is_found_by_its_strength() -> None:
    random = np.random.default_rng(8)
    wells = scattered(8)
    for well in wells:
        often = well["state"] in STATES[:2]
        well["date"] = "monday" if random.random() < (0.85 if often else 0.15) else "friday"
    (finding,) = check_confounding(table_of(wells))
    assert finding.about == "date"
    assert finding.severity == "warning"
    assert finding.what.startswith("State and date go together.")
    assert finding.association is not None
    assert 0.4 < finding.association < 0.9
    assert finding.guessed > finding.chance + 0.1


def test_controls_in_the_first_columns_are_told_of_the_column_and_nothing_else_but_the_edge() -> None:
    wells = []
    for plate, row, column in product((1, 2), ROWS, COLUMNS):
        state = "live-control" if column in (1, 12) else STATES[(ord(row) + 5 * column + plate) % 3]
        wells.append({"plate": f"/data/P00{plate}.zarr", "well": f"{row}{column:02d}", "state": state})
    assert set(abouts(table_of(wells))) == {"column", "edge"}


def test_wells_each_in_a_column_of_its_own_blame_no_column() -> None:
    wells = [{"well": f"C{k + 2:02d}", "state": STATES[k % 2]} for k in range(8)]
    assert [finding.about for finding in check_confounding(table_of(wells))] == ["plate"]


def test_dead_cells_late_and_living_cells_early_are_found_within_wells() -> None:
    wells = []
    for well in scattered(9, plates=2):
        for timepoint in (0, 1, 2):
            late = "live-control" if timepoint == 0 else str(well["state"])
            wells.append(well | {"timepoint": timepoint, "state": late})
    found = {finding.about: finding for finding in check_confounding(table_of(wells))}
    assert set(found) == {"timepoint"}
    assert found["timepoint"].guessed > found["timepoint"].chance


def test_a_thousand_patches_of_a_few_wells_prove_nothing() -> None:
    wells = [{"well": f"B0{k + 1}", "state": STATES[k % 2], "date": "a" if k < 3 else "b"} for k in range(6)]
    assert abouts(table_of(wells, patches=400)) == []


def test_days_that_nobody_noted_are_not_a_day() -> None:
    table = table_of(scattered(10)).drop(columns="date")
    assert check_confounding(table) == []


def test_wells_whose_names_are_no_places_are_checked_for_the_rest() -> None:
    wells = [well | {"well": f"dish {k}", "date": str(well["state"])} for k, well in enumerate(scattered(11))]
    assert abouts(table_of(wells)) == ["date"]


def test_a_single_state_cannot_be_confounded() -> None:
    assert check_confounding(table_of([well | {"state": "necrosis"} for well in scattered(12)])) == []


def test_cramers_v_without_its_correction_is_scipys_and_with_it_is_unbiased() -> None:
    random = np.random.default_rng(13)
    corrected, plain = [], []
    for _ in range(200):
        counts = np.zeros((5, 6), dtype=np.int64)
        np.add.at(counts, (np.arange(60) % 5, random.integers(6, size=60)), 1)
        value = cramers_v(counts, units=60)
        assert value is not None
        corrected.append(value)
        plain.append(float(association(counts, method="cramer")))
    assert np.mean(plain) > 0.25  # what chance alone looks like
    assert np.mean(corrected) < 0.1
    many = np.array([[300, 100], [100, 300]]) * 1000
    assert cramers_v(many, units=int(many.sum())) == pytest.approx(association(many, method="cramer"), abs=1e-4)
    assert cramers_v(np.eye(4) * 10, units=40) == pytest.approx(1.0)
