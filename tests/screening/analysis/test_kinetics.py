"""Half-times of death, and the bounds that stand where there is no half-time."""

from __future__ import annotations

import numpy as np
import pytest

from screening.analysis.kinetics import crossings, half_times

from .by_hand import fractions_of

HOURS = tuple(float(hour) for hour in range(0, 25, 2))
KILLERS = {
    "apo": {"apoptosis": (0.1, 1.5, 0.9)},
    "nec": {"necrosis": (0.3, 1.5, 0.9)},
    "flat": {},
}


def true_half(half_time: float, last: float) -> float:
    """When 1 - 2^(-t / half_time) is half of its value at `last`."""
    return float(-half_time * np.log2(1 - (1 - 0.5 ** (last / half_time)) / 2))


def test_crossings_interpolate_between_frames() -> None:
    hours = np.array([0.0, 2.0, 4.0, 6.0])
    courses = np.array([[0, 0.2, 0.8, 1.0], [0.6, 0.7, 0.9, 1.0], [0, 0, 0, 0]])
    np.testing.assert_allclose(crossings(hours, courses), [3.0, -np.inf, np.nan])


def test_half_times_are_found_with_an_interval_around_them() -> None:
    plate = fractions_of(KILLERS, hours=HOURS, half_time=5.0, effective=150, seed=1)
    result = half_times([plate])
    for name in ("apo", "nec"):
        one = result.sel(compound=name)
        assert one.status.item() == "timed"
        assert float(one.t_half) == pytest.approx(true_half(5.0, 24.0), abs=1.0)
        assert one.t_half_low < one.t_half < one.t_half_high
        assert float(one.dose) == pytest.approx(30.0)
        assert bool(one.plateau)
    assert result.status.sel(compound="flat").item() == "no_effect"
    assert np.isnan(result.t_half.sel(compound="flat"))
    assert result.t_half.attrs["units"] == "h"


def test_most_intervals_hold_the_true_half_time() -> None:
    truth = true_half(5.0, 24.0)
    held = []
    for seed in range(20):
        result = half_times([fractions_of(KILLERS, hours=HOURS, half_time=5.0, effective=150, seed=seed)])
        killers = result.sel(compound=["apo", "nec"])
        held += list((killers.t_half_low <= truth) & (truth <= killers.t_half_high))
    # short of 95 %: linear interpolation between frames two hours apart has an error of its own
    assert np.mean(held) >= 0.85


def test_death_before_the_first_frame_is_a_bound() -> None:
    plate = fractions_of(KILLERS, hours=(10.0, 15.0, 20.0), half_time=2.0, effective=300, seed=2)
    one = half_times([plate]).sel(compound="apo")
    assert one.status.item() == "before_first"
    assert np.isnan(one.t_half)
    assert (float(one.t_half_low), float(one.t_half_high)) == (0.0, 10.0)


def test_death_that_still_rises_is_no_plateau() -> None:
    plate = fractions_of(KILLERS, hours=(0.0, 4.0, 8.0), half_time=12.0, effective=300, seed=3)
    assert not half_times([plate]).plateau.sel(compound="apo")


def test_one_frame_or_few_replicates_give_no_time_or_no_interval() -> None:
    single = half_times([fractions_of(KILLERS, hours=(16.0,), seed=4)])
    assert set(single.status.values) == {"not_computable"}
    few = half_times([fractions_of(KILLERS, hours=HOURS, replicates=1, seed=5)])
    assert few.t_half.sel(compound="apo").notnull()
    assert few.t_half_low.isnull().all()


def test_plates_with_other_frame_times_share_one_clock() -> None:
    shifted = tuple(hour + 0.5 for hour in HOURS)
    plates = [fractions_of(KILLERS, hours=h, half_time=5.0, effective=300, seed=6) for h in (HOURS, shifted)]
    one = half_times(plates).sel(compound="apo")
    assert one.status.item() == "timed"
    assert float(one.t_half) == pytest.approx(true_half(5.0, 24.0), abs=0.7)
