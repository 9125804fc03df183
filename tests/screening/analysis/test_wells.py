"""Which wells enter the numbers: masked ones never do, and stay visible."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from reports.tables import wells_table
from screening.analysis import wells
from screening.analysis.dose_response import fit_dose_response
from screening.analysis.kinetics import half_times
from screening.analysis.normalization import normalize
from screening.analysis.ranking import rank

from .by_hand import fractions_of

KILLS = {"kills": {"apoptosis": (1.0, 1.5, 0.9)}, "spares": {}}


@pytest.fixture(scope="module")
def spoiled() -> xr.Dataset:
    """A plate on which one well of every kind went wrong, was noticed, and is masked with its reason."""
    plate = fractions_of(KILLS, replicates=3, seed=11)
    control, compound = plate.control.values, plate.compound.values
    kinds = [control == "negative", control == "positive", compound == "kills", compound == "spares"]
    bad = [int(np.flatnonzero(kind)[-1]) for kind in kinds]
    masked = np.full(plate.sizes["well"], "", dtype=object)
    masked[bad] = "bubble in the well"
    death, fraction = plate.death.values.copy(), plate.fraction.values.copy()
    death[bad] = 1 - death[bad]
    fraction[bad] = fraction[bad][..., ::-1]
    changed = plate.assign(death=(plate.death.dims, death), fraction=(plate.fraction.dims, fraction))
    return changed.assign_coords(masked=("well", masked))


def _numbers(plate: xr.Dataset) -> list[xr.Dataset]:
    normalized = normalize(plate)
    fits = fit_dose_response([normalized])
    kinetics = half_times([normalized], draws=50)
    return [fits, kinetics, rank(fits, kinetics, [normalized])]


def test_a_masked_well_with_absurd_values_changes_no_curve_time_or_rank(spoiled: xr.Dataset) -> None:
    without = spoiled.isel(well=spoiled.masked.values == "")
    for masked, absent in zip(_numbers(spoiled), _numbers(without), strict=True):
        xr.testing.assert_identical(masked, absent)


def test_the_same_values_unmasked_would_change_the_curve(spoiled: xr.Dataset) -> None:
    low, high = (
        fit_dose_response([normalize(plate)]).emax.sel(compound="kills", readout="death").item()
        for plate in (spoiled.drop_vars("masked"), spoiled)
    )
    truth = 0.9 / (1 + (1.0 / 30) ** 1.5) * (1 - 0.5 ** (16 / 6))  # what by_hand kills at the top dose in 16 h
    assert high == pytest.approx(truth, abs=0.05)
    assert low < truth - 0.1


def test_a_masked_well_keeps_its_values_and_shows_its_reason_in_the_table_of_wells(spoiled: xr.Dataset) -> None:
    quality = xr.Dataset(coords={"well": spoiled.well, "timepoint": spoiled.timepoint})
    table = wells_table(spoiled, quality, normalize(spoiled))
    masked = table[table["masked"] != ""]
    assert set(masked["masked"]) == {"bubble in the well"}
    assert len(masked) == 4 * spoiled.sizes["timepoint"]
    assert masked["death"].notna().all()
    assert masked["death_excess"].isna().all(), "nothing relative is said about a well that is not used"


def test_pooling_leaves_masked_wells_out_and_keeps_all_others(spoiled: xr.Dataset) -> None:
    pooled = wells.pool_wells([spoiled])
    used = spoiled.well.values[(spoiled.masked.values == "") & (spoiled.control.values != "positive")]
    assert list(pooled.well.values) == list(used)


def test_results_stored_before_masks_and_vehicles_were_known_are_still_read(spoiled: xr.Dataset) -> None:
    plate = spoiled.drop_vars("masked")
    older = normalize(plate).drop_vars("own_vehicle_death")
    xr.testing.assert_identical(wells.pool_wells([older]), wells.pool_wells([normalize(plate)]))
