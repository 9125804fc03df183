"""Death relative to the plate's own controls."""

from __future__ import annotations

import numpy as np
import pytest

from plates.states import DEAD
from screening.normalization import normalize

from .by_hand import fractions_of


def test_controls_come_out_at_0_and_100_percent() -> None:
    plate = fractions_of({"kills": {"apoptosis": (1.0, 1.5, 0.9)}}, seed=1)
    last = normalize(plate).isel(timepoint=-1)
    for control, percent in (("negative", 0.0), ("positive", 100.0)):
        wells = last.death_percent.values[last.control.values == control]
        assert np.median(wells) == pytest.approx(percent, abs=1e-9)


def test_excess_of_death_is_abbotts_and_the_pathways_add_up_to_it() -> None:
    plate = fractions_of({"kills": {"necrosis": (1.0, 1.5, 0.9)}}, seed=2)
    result = normalize(plate, center="mean").isel(timepoint=-1)
    v = plate.death.isel(timepoint=-1).values[plate.control.values == "negative"].mean()
    np.testing.assert_allclose(result.death_excess, (result.death - v) / (1 - v))
    np.testing.assert_allclose(result.excess.sel(state=list(DEAD)).sum("state"), result.death_excess, atol=1e-12)
    np.testing.assert_array_equal(result.fraction, plate.fraction.isel(timepoint=-1))


def test_one_mislabelled_vehicle_well_moves_nothing_much() -> None:
    plate = fractions_of({"kills": {"apoptosis": (1.0, 1.5, 0.9)}}, vehicle=8, seed=3)
    spoiled = plate.copy(deep=True)
    spoiled.death[0] = 0.95
    shift = np.abs(normalize(spoiled).death_excess - normalize(plate).death_excess).values[1:]
    mean_shift = np.abs(
        normalize(spoiled, center="mean").death_excess - normalize(plate, center="mean").death_excess
    ).values[1:]
    assert shift.max() < 0.03 < mean_shift.max()


def test_without_vehicle_everything_relative_is_empty_and_the_note_says_why() -> None:
    plate = fractions_of({"kills": {"apoptosis": (1.0, 1.5, 0.9)}}, seed=4)
    result = normalize(plate.isel(well=plate.control.values != "negative"))
    assert result.death_percent.isnull().all()
    assert result.death_excess.isnull().all()
    assert result.excess.isnull().all()
    assert result.death.notnull().all()
    assert "Mark the vehicle wells in the plate map" in result.attrs["note"]


def test_percent_is_empty_while_positive_controls_have_not_died_yet() -> None:
    plate = fractions_of({"kills": {}}, hours=(0.01, 16.0), seed=5)
    result = normalize(plate)
    assert result.death_percent.isel(timepoint=0).isnull().all()
    assert result.death_percent.isel(timepoint=1).notnull().all()
    assert result.death_excess.notnull().all()
