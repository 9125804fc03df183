"""Arrest and killing told apart where the truth is written down."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from screening.analysis.growth import (
    division_and_death,
    grade,
    growth_rate_inhibition,
    separate_arrest,
    static_and_toxic,
)

from .by_hand import DOSES, fractions_of


def test_growth_rate_inhibition_of_textbook_wells() -> None:
    live = np.array([200.0, 100 * np.sqrt(2), 100.0, 50.0, 0.0, np.nan])
    gr = growth_rate_inhibition(live, np.array(100.0), np.array(200.0), np.array(100.0))
    np.testing.assert_allclose(gr, [1.0, np.sqrt(2) - 1, 0.0, -0.5, -1.0, np.nan])


def test_untreated_cells_that_do_not_grow_leave_nothing_to_inhibit() -> None:
    assert np.isnan(growth_rate_inhibition(np.array(50.0), np.array(100.0), np.array(105.0), np.array(100.0)))


@pytest.mark.parametrize(("division", "death"), [(0.03, 0.01), (0.0, 0.05), (0.02, 0.02)])
def test_division_and_death_are_separated(division: float, death: float) -> None:
    net, hours = division - death, 20.0
    live = 100 * np.exp(net * hours)
    mean = 100 * (np.expm1(net * hours) / (net * hours) if net else 1.0)
    found = division_and_death(live, np.array(100.0), np.array(7 + death * mean * hours), np.array(7.0), hours)
    np.testing.assert_allclose(found, (division, death), atol=1e-12)


def test_static_and_toxic_parts_are_one_and_zero_for_what_does_nothing() -> None:
    np.testing.assert_allclose(static_and_toxic(0.03, 0.001, 0.03, 0.001, hours=24), (1.0, 0.0))
    static, toxic = static_and_toxic(0.0, 0.051, 0.03, 0.001, hours=24)
    np.testing.assert_allclose(static, 0.0)
    np.testing.assert_allclose(toxic, 2**-1.2 - 1)


def test_pure_killing_is_grade_100_and_pure_arrest_grade_0() -> None:
    doublings = 72 / 26
    killed = np.linspace(0, 1, 1000)[:-1]
    gr = 2 ** (1 + np.log2(1 - killed) / doublings) - 1
    growing = gr > 0
    assert grade(gr[growing], (1 - killed)[growing], doublings=doublings) == pytest.approx(100, abs=0.2)
    assert grade(np.linspace(0.05, 1, 9), np.ones(9), doublings=doublings) == pytest.approx(0, abs=1e-9)


def test_grade_is_the_ratio_of_two_angles() -> None:
    # two points and the untreated one lie on a line of slope 0.2; the pure-death line is fitted by numpy here
    doublings = 2.0
    killed = np.linspace(0, 1, 1000)[:-1]
    bound = 2 ** (1 + np.log2(1 - killed) / doublings) - 1
    slope = np.polyfit(bound[bound > 0], (1 - killed)[bound > 0], 1)[0]
    expected = 100 * np.arctan(0.2) / np.arctan(slope)
    assert grade([0.5, 0.2, -0.3, np.nan], [0.9, 0.84, 0.1, 0.5], doublings=doublings) == pytest.approx(
        expected, abs=1e-9
    )


def test_no_angle_without_a_dose_that_slows_growth() -> None:
    assert np.isnan(grade([0.95, 1.0], [1.0, 1.0], doublings=2.0))
    assert np.isnan(grade([0.5], [0.9], doublings=0.0))
    assert np.isnan(grade([], [], doublings=2.0))


def grown(plate: xr.Dataset, arrested: str) -> xr.Dataset:
    """Give every well area: it doubles in 16 h, except under the top doses of one compound."""
    hours = plate.hours.values
    area = np.tile(0.2 * 2 ** (hours / 16), (plate.sizes["well"], 1))
    halted = (plate.compound.values == arrested) & (plate.dose.values > DOSES[1])
    area[halted] = 0.2 * 2 ** (0.4 * hours / 16)
    return plate.assign(confluency=(("well", "timepoint"), area))


def test_a_compound_that_only_arrests_and_one_that_kills_are_told_apart() -> None:
    kills = {"kills": {"apoptosis": (10.0, 1.5, 0.6)}, "arrests": {}}
    plate = fractions_of(kills, hours=(0.0, 4.0, 8.0, 16.0), half_time=4.0, effective=2000, seed=1)
    found = separate_arrest([grown(plate, "arrests")])
    assert float(found.doublings[0]) == pytest.approx(1.0, abs=0.1)
    assert float(found.grade.sel(compound="arrests")) < 15
    assert float(found.grade.sel(compound="kills")) > 60
    assert list(found.reason.values) == ["", ""]
    top = found.isel(dose_index=-1)
    assert float(top.gr_static.sel(compound="arrests")) < 0.6
    assert float(top.gr_toxic.sel(compound="kills")) < float(top.gr_toxic.sel(compound="arrests")) - 0.2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda plate: plate.drop_vars("confluency"), "confluency was not measured"),
        (lambda plate: plate.assign(confluency=plate.confluency * np.nan), "confluency was not measured in vehicle"),
        (lambda plate: plate.assign(confluency=xr.full_like(plate.confluency, 0.3)), "doublings"),
        (lambda plate: plate.assign(confluency=xr.full_like(plate.confluency, 0.95)), "no longer counts cells"),
        (lambda plate: plate.isel(timepoint=[0]), "one frame only"),
        (lambda plate: plate.isel(well=plate.control.values != "negative"), "no vehicle wells"),
    ],
)
def test_where_area_cannot_stand_for_cells_a_reason_stands_for_numbers(change: object, reason: str) -> None:
    plate = grown(fractions_of({"a": {"necrosis": (1.0, 1.5, 0.8)}}, hours=(0.0, 8.0, 16.0), seed=2), "none")
    found = separate_arrest([change(plate)])  # type: ignore[operator]
    assert reason in str(found.reason[0].item())
    assert found.grade.isnull().all()
    assert found.gr.isnull().all()
