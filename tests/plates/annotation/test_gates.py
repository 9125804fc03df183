"""Gates from the controls: between the two groups, unmoved by a few deaths, and refused where nothing separates."""

import numpy as np
import pandas as pd
import pytest

from plates.annotation.gates import find_gates, read_gate
from plates.errors import SettingsError

WELLS = pd.DataFrame({"well": ["A01", "B01", "C01"], "role": ["negative", "positive", "none"]})


def cells(
    *,
    unstained: int = 300,
    stained: int = 300,
    deaths: int = 0,
    level: float = 1000.0,
    spread: float = 0.25,
    noise: float = 8.0,
    timepoint: int = 0,
    seed: int = 0,
) -> pd.DataFrame:
    """Vehicle cells around zero, some of them dead, and inducer cells, half of them stained (log-normal)."""
    rng = np.random.default_rng(seed)

    def off(count: int) -> np.ndarray:
        return rng.normal(0, noise, count)

    def on(count: int) -> np.ndarray:
        return level * np.exp(rng.normal(0, spread, count))

    vehicle = np.concatenate([off(unstained), on(deaths)])
    inducer = np.concatenate([off(stained), on(stained)])
    light = np.concatenate([vehicle, inducer])
    well = ["A01"] * len(vehicle) + ["B01"] * len(inducer)
    return pd.DataFrame({"well": well, "timepoint": timepoint, "annexin_v": light, "pi": light * 1.5})


def test_the_gate_divides_stained_from_unstained_cells_and_scales_with_the_light() -> None:
    found = find_gates(cells(), WELLS)
    gate = found["annexin_v"].plate
    assert gate is not None
    assert 30 < gate.low < gate.high < 450, "beyond 4 SD of the unstained, below 3 SD of the stained"
    assert gate.vehicle_share == 0
    assert gate.inducer_share == pytest.approx(0.5, abs=0.01)
    other = found["pi"].plate
    assert other is not None
    assert other.high == pytest.approx(1.5 * gate.high, rel=0.02)


@pytest.mark.parametrize("deaths", [0, 15, 60])
def test_spontaneous_deaths_of_vehicle_wells_do_not_move_the_gate(deaths: int) -> None:
    clean, with_deaths = (find_gates(cells(deaths=count), WELLS)["annexin_v"].plate for count in (0, deaths))
    assert clean is not None
    assert with_deaths is not None
    assert with_deaths.high == pytest.approx(clean.high, rel=0.1)
    assert with_deaths.vehicle_share == pytest.approx(deaths / (300 + deaths), abs=0.005)


def test_very_unequal_groups_still_get_a_gate_between_them() -> None:
    rows = pd.concat([cells(unstained=4000, stained=30), cells(unstained=0, stained=25, seed=1)], ignore_index=True)
    gate = find_gates(rows, WELLS)["annexin_v"].plate
    assert gate is not None
    assert 30 < gate.low < gate.high < 500


def test_bleed_through_of_a_few_percent_stays_below_the_gate() -> None:
    rows = cells(noise=1.0)
    faint = cells(unstained=0, stained=200, level=40.0, noise=1.0, seed=2)
    gate = find_gates(pd.concat([rows, faint], ignore_index=True), WELLS)["annexin_v"].plate
    assert gate is not None
    assert gate.low > 60


def test_controls_that_look_alike_give_no_gate_and_say_so() -> None:
    found = find_gates(cells(level=0.0), WELLS)["annexin_v"]
    assert found.plate is None
    assert found.of(0) is None
    assert "controls do not separate" in found.problem or "brighter" in found.problem


def test_an_inducer_that_kills_no_more_than_the_vehicle_gives_no_gate() -> None:
    rows = cells(unstained=300, deaths=300, stained=300)
    found = find_gates(rows, WELLS)["annexin_v"]
    assert found.plate is None
    assert "50% of the vehicle's cells are above the gate and 50% of the inducers'" in found.problem


@pytest.mark.parametrize(("lost", "words"), [("A01", "wells with vehicle"), ("B01", "wells with an inducer")])
def test_missing_controls_are_told_with_the_option_that_helps(lost: str, words: str) -> None:
    rows = cells()
    found = find_gates(rows[rows["well"] != lost], WELLS)["annexin_v"]
    assert found.plate is None
    assert words in found.problem
    assert "--annexin" in found.problem


def test_a_marker_without_any_value_is_told() -> None:
    assert find_gates(cells().assign(pi=np.nan), WELLS)["pi"].problem == "no cell has a value of PI"


def test_a_gate_that_is_given_needs_no_controls_and_is_kept_as_it_is() -> None:
    rows = cells()
    found = find_gates(rows[rows["well"] == "B01"], WELLS, given={"annexin_v": (300.0, 400.0)})["annexin_v"]
    assert found.given
    assert found.plate is not None
    assert (found.plate.low, found.plate.high) == (300, 400)


def test_a_lamp_that_fades_gives_each_timepoint_its_own_gate_and_others_the_nearest() -> None:
    rows = pd.concat(
        [cells(timepoint=0, level=3000), cells(timepoint=5, level=500), cells(timepoint=9, stained=0)],
        ignore_index=True,
    )
    found = find_gates(rows, WELLS)["annexin_v"]
    first, last = found.of(0), found.of(5)
    assert first is not None
    assert last is not None
    assert first.high > 1.5 * last.high
    assert found.of(9) == last
    assert "drifts" in found.notes[0]


def test_a_steady_lamp_gives_one_gate() -> None:
    rows = pd.concat([cells(timepoint=number, seed=number) for number in range(3)], ignore_index=True)
    assert find_gates(rows, WELLS)["annexin_v"].at == {}


@pytest.mark.parametrize(("text", "gate"), [("350", (350, 350)), ("300-400", (300, 400)), (" 2.5 - 3 ", (2.5, 3))])
def test_gates_are_read_as_a_number_or_a_range(text: str, gate: tuple[float, float]) -> None:
    assert read_gate(text, option="--pi") == gate


@pytest.mark.parametrize("text", ["", "high", "400-300", "-5", "0", "nan", "1-2-3", "inf"])
def test_what_is_no_gate_is_refused_naming_the_option(text: str) -> None:
    with pytest.raises(SettingsError, match="--pi"):
        read_gate(text, option="--pi")
