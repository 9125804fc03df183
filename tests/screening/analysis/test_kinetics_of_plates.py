"""The group `kinetics` of plates whose course of death is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from plates.results import read_result, write_result
from screening.analysis.kinetics import half_times
from screening.analysis.normalization import normalize
from screening.analysis.time_deaths import time_deaths

from .by_hand import fractions_of

HOURS = tuple(float(hour) for hour in range(0, 25, 2))
KILLERS = {
    "apo": {"apoptosis": (0.1, 1.5, 0.9)},
    "both": {"apoptosis": (0.3, 1.5, 0.3), "necrosis": (0.3, 1.5, 0.6)},
    "flat": {},
}


@pytest.fixture(scope="module")
def timed() -> xr.Dataset:
    return time_deaths([fractions_of(KILLERS, hours=HOURS, half_time=5.0, effective=150, seed=1)], draws=50)


def test_half_times_stay_what_they_were(timed: xr.Dataset) -> None:
    plate = fractions_of(KILLERS, hours=HOURS, half_time=5.0, effective=150, seed=1)
    before = half_times([plate], draws=50)
    xr.testing.assert_equal(timed[list(before.data_vars)], before)


def test_the_rate_and_plateau_of_the_top_dose_are_found(timed: xr.Dataset) -> None:
    rate = np.log(2) / 5.0
    for name, plateau in (("apo", 0.9), ("both", 0.9)):
        one = timed.sel(compound=name)
        assert one.course_status.item() == "fitted"
        assert one.rate_low <= rate <= one.rate_high
        assert one.plateau_level_low <= plateau <= one.plateau_level_high
        assert one.slope_low <= plateau * rate <= one.slope_high
        assert one.onset_low == 0.0
    assert timed.course_status.sel(compound="flat").item() == "flat"
    assert timed.rate.attrs["units"] == "1/h"


def test_deaths_are_split_among_their_pathways(timed: xr.Dataset) -> None:
    top = timed.isel(dose_index=-1)
    share = top.pathway_share.sel(compound="both")
    assert float(share.sel(pathway="necrosis")) == pytest.approx(2 / 3, abs=0.06)
    assert float(share.sum()) == pytest.approx(1.0)
    assert top.pathway_share.sel(compound="flat").isnull().all()


def test_the_ec50_is_told_for_every_frame(timed: xr.Dataset) -> None:
    one = timed.sel(compound="apo")
    later = one.ec50_by_time.values[4:]
    assert timed.hours.values[-1] == 24.0
    assert np.nanmedian(later) == pytest.approx(0.1, rel=0.3)
    assert one.ec50_by_time_status.values[0] == "no_effect"
    assert timed.ec50_by_time.sel(compound="flat").isnull().all()


def test_the_group_is_written_and_read_back(timed: xr.Dataset, tmp_path: Path) -> None:
    write_result(tmp_path / "P1.results.zarr", "kinetics", timed, provenance={})
    xr.testing.assert_equal(read_result(tmp_path / "P1.results.zarr", "kinetics"), timed)


def test_one_frame_missing_wells_and_plates_without_vehicle_give_statuses() -> None:
    single = time_deaths([fractions_of(KILLERS, hours=(16.0,), seed=2)], draws=20)
    assert set(single.course_status.values) == {"not_computable"}
    plate = fractions_of(KILLERS, hours=HOURS, replicates=1, vehicle=0, inducers=0, seed=3)
    lost = np.flatnonzero(plate.compound.values == "apo")[-1]
    plate["death"][lost] = np.nan
    plate["fraction"][lost] = np.nan
    timed = time_deaths([plate], draws=20)
    assert timed.attrs["course_noise"].startswith("frames taken as independent")
    assert timed.course_status.sel(compound="apo").item() == "not_computable", "its top dose is the lost well"
    assert timed.course_status.sel(compound="both").item() in ("fitted", "plateau_not_reached")


def test_plates_with_other_clocks_are_timed_on_the_coarser_one() -> None:
    fine = fractions_of(KILLERS, hours=tuple(np.arange(0.5, 24.5, 1.0)), half_time=5.0, effective=150, seed=4)
    coarse = fractions_of(KILLERS, hours=HOURS, half_time=5.0, effective=150, seed=5)
    timed = time_deaths([normalize(fine), normalize(coarse)], draws=20)
    assert set(timed.hours.values) <= set(HOURS)
    assert timed.course_status.sel(compound="apo").item() == "fitted"
