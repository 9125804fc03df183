"""Death relative to the plate's own controls."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from plates.states import DEAD
from screening.analysis.normalization import READOUTS, normalize
from screening.analysis.scales import npi, percent_of_vehicle, z_score

from .by_hand import fractions_of
from .planted import planted_plate


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


def _two_vehicles(seed: int) -> xr.Dataset:
    """Half of a plate in DMSO, half in ethanol, which kills a fifth of the cells; no compound does anything."""
    harmless, harsh = (
        fractions_of({f"inactive in {vehicle}": {}}, replicates=4, baseline=baseline, seed=seed + number)
        for number, (vehicle, baseline) in enumerate((("DMSO", 0.03), ("ethanol", 0.2)))
    )
    halves = [
        half.assign_coords(
            vehicle=("well", np.full(half.sizes["well"], vehicle, dtype=object)),
            well=[f"{vehicle} {well}" for well in half.well.values],
        )
        for half, vehicle in ((harmless, "DMSO"), (harsh, "ethanol"))
    ]
    return xr.concat(halves, dim="well", data_vars="all", coords="different", compat="equals", join="outer")


def test_each_compound_is_measured_against_its_own_vehicle() -> None:
    plate = _two_vehicles(seed=6)
    matched = normalize(plate).death_excess.isel(timepoint=-1)
    pooled = normalize(plate.drop_vars("vehicle")).death_excess.isel(timepoint=-1)
    for vehicle in ("DMSO", "ethanol"):
        wells = plate.compound.values == f"inactive in {vehicle}"
        error = float(matched.values[wells].std() / np.sqrt(wells.sum()))
        assert abs(float(matched.values[wells].mean())) < 0.02 + 2 * error
        assert abs(float(pooled.values[wells].mean())) > 0.06, "pooled controls would invent or hide deaths"


def test_one_vehicle_gives_the_numbers_of_a_plate_map_that_names_none() -> None:
    plate = fractions_of({"kills": {"apoptosis": (1.0, 1.5, 0.9)}}, seed=7)
    vehicle = np.where(plate.control.values == "positive", "", np.where(plate.dose.values > 1, "DMSO", "dmso "))
    named = plate.assign_coords(vehicle=("well", vehicle.astype(object)))
    xr.testing.assert_identical(normalize(named).drop_vars("vehicle"), normalize(plate))


def test_a_vehicle_without_control_wells_is_left_relative_to_nothing_and_the_note_counts_its_wells() -> None:
    plate = _two_vehicles(seed=8)
    control, vehicle = plate.control.values, plate.vehicle.values
    result = normalize(plate.isel(well=~((control == "negative") & (vehicle == "ethanol"))))
    ethanol = result.vehicle.values == "ethanol"
    assert result.death_excess.values[~ethanol].size
    assert np.isfinite(result.death_excess.values[~ethanol]).all()
    assert np.isnan(result.death_excess.values[ethanol]).all()
    assert np.isfinite(result.death.values[ethanol]).all()
    assert f"{ethanol.sum()} wells are in a vehicle without control wells" in result.attrs["note"]


def test_the_vehicle_of_the_plate_is_the_one_with_most_control_wells() -> None:
    plate = _two_vehicles(seed=9)
    control, vehicle = plate.control.values, plate.vehicle.values
    fewer = (control == "negative") & (vehicle == "DMSO") & (np.arange(control.size) % 2 == 0)
    result = normalize(plate.isel(well=~fewer))
    ethanol = (control == "negative") & (vehicle == "ethanol")
    np.testing.assert_allclose(result.vehicle_death, np.median(plate.death.values[ethanol], axis=0))


def test_scales_are_their_formulas() -> None:
    values, vehicle = np.array([0.1, 0.5, 0.9]), np.array([0.08, 0.1, 0.12, 0.1])
    np.testing.assert_allclose(percent_of_vehicle(values, np.array(0.1)), [100, 500, 900])
    np.testing.assert_allclose(npi(values, np.array(0.1), np.array(0.9)), [0, 50, 100])
    np.testing.assert_allclose(z_score(values, vehicle), (values - 0.1) / vehicle.std(ddof=1))
    np.testing.assert_allclose(z_score(values, vehicle, robust=True), (values - 0.1) / (1.4826 * 0.01))
    for hostile in (np.zeros(4), np.full(4, np.nan), np.array([np.inf] * 4), np.array([])):
        assert np.isnan(z_score(values, hostile)).all()
    assert np.isnan(npi(values, np.array(0.5), np.array(0.5))).all()
    assert np.isnan(percent_of_vehicle(values, np.array(0.0))).all()


def test_controls_lie_at_0_and_100_in_every_readout_against_their_own_inducers() -> None:
    plate = fractions_of({"kills": {"apoptosis": (1.0, 1.5, 0.9)}}, seed=10)
    last = normalize(plate).isel(timepoint=-1)
    for pathway in DEAD:
        npi_of = last.npi.sel(readout=pathway).values
        assert np.median(npi_of[plate.control.values == "negative"]) == pytest.approx(0, abs=1e-9)
        assert np.median(npi_of[plate.inducer.values == pathway]) == pytest.approx(100, abs=1e-9)
    np.testing.assert_allclose(last.npi.sel(readout="death"), last.death_percent)
    negative = last.robust_z.sel(readout="death").values[plate.control.values == "negative"]
    assert (np.median(negative), np.median(np.abs(negative))) == pytest.approx((0, 1 / 1.4826))
    assert list(last.readout.values) == list(READOUTS)


def test_a_gradient_is_corrected_towards_the_truth_and_nothing_is_lost() -> None:
    plate = planted_plate(gradient=0.3, vehicle=48, seed=11)
    result = normalize(plate).isel(timepoint=0)
    treated = plate.control.values == "none"
    truth = (plate.true_death.values - 0.04) / 0.96
    before, after = (
        np.abs(values.values - truth)[treated].mean() for values in (result.death_excess, result.corrected_death_excess)
    )
    assert result.attrs["correction_applied"] == 1
    assert "Corrected for place: vehicle wells show an effect of place" in result.attrs["correction"]
    assert after < 0.75 * before
    np.testing.assert_array_equal(result.death, plate.death[:, 0])
    by_mean = normalize(plate, center="mean").isel(timepoint=0)
    pathways = by_mean.corrected_excess.sel(state=list(DEAD)).sum("state")
    np.testing.assert_allclose(pathways, by_mean.corrected_death_excess, atol=1e-9)
    np.testing.assert_allclose(by_mean.corrected_fraction.sum("state"), 1, atol=1e-9)


def test_an_even_plate_is_not_corrected_and_says_why() -> None:
    plate = planted_plate(seed=12)
    result = normalize(plate)
    assert result.attrs["correction_applied"] == 0
    assert result.attrs["correction"].startswith("Not corrected for place: vehicle wells show no effect of place")
    np.testing.assert_array_equal(result.corrected_death, result.death)
    np.testing.assert_array_equal(result.corrected_excess, result.excess)
    few = normalize(fractions_of({"kills": {}}, vehicle=8, seed=12))
    assert "16 are the least" in few.attrs["correction"]


def test_b_scores_are_there_for_one_dose_and_refused_for_dose_response() -> None:
    plate = planted_plate(active=0.0, seed=13)
    refused = normalize(plate)
    assert refused.b_score.isnull().all()
    assert "more than 2 doses" in refused.attrs["b_score_refused"]
    names = np.where(
        plate.control.values == "none", [f"c{k}" for k in range(plate.sizes["well"])], plate.compound.values
    )
    single = normalize(plate.assign_coords(compound=("well", names.astype(object))))
    assert single.attrs["b_score_refused"] == ""
    assert single.b_score.notnull().all()


@pytest.mark.parametrize("filled", [np.nan, np.inf, 0.0, 1.0])
def test_a_plate_of_nothing_or_of_one_value_is_normalised_without_warnings(filled: float) -> None:
    plate = planted_plate(seed=14)
    hostile = plate.assign(death=xr.full_like(plate.death, filled), fraction=xr.full_like(plate.fraction, filled))
    result = normalize(hostile)
    assert result.death_percent.isnull().all()
    assert result.robust_z.isnull().all()
    for name in (
        "death_excess",
        "excess",
        "npi",
        "percent_of_vehicle",
        "z",
        "corrected_excess",
        "corrected_death_percent",
    ):
        assert not np.isinf(result[name]).any()
    assert normalize(plate.isel(well=slice(0, 0))).sizes["well"] == 0
