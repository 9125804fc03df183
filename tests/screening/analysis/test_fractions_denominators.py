"""Dead cells that floated away are missing from `death`, and named where the vehicle's wells are the measure."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from plates.states import STATES
from screening.analysis.fractions import aggregate


def wells_of(counts: list[tuple[int, int]], *, vehicles: int, fields: int = 4) -> tuple[xr.Dataset, xr.Dataset]:
    """(dead, live) patches per field of each well; the first `vehicles` are vehicle."""
    side = 10
    probability = np.full((len(counts), fields, 1, side * side, 5), np.nan, np.float32)
    for well, (dead, live) in enumerate(counts):
        probability[well, :, 0, :dead] = [0, 0, 1, 0, 0]
        probability[well, :, 0, dead : dead + live] = [0, 0, 0, 0.25, 0.75]
    names = np.array([f"A{k + 1:02d}" for k in range(len(counts))], dtype=object)
    dims = ("well", "field", "timepoint", "py", "px")
    shape = (len(counts), fields, 1, side, side)
    stored = xr.Dataset(
        {
            "probability": ((*dims, "state"), probability.reshape(*shape, 5)),
            "foreground": (dims, np.where(np.isnan(probability[..., 0]), 0.0, 0.5).reshape(shape)),
            "status": (dims[:3], np.ones(shape[:3], np.int8)),
        },
        coords={"well": names, "state": list(STATES), "timepoint": [0], "hours": ("timepoint", [0.0])},
        attrs={"stride_px": 160, "um_per_px": 0.16},
    )
    control = np.array(["negative"] * vehicles + ["none"] * (len(counts) - vehicles), dtype=object)
    return stored, xr.Dataset({"control": ("well", control)}, coords={"well": names})


def test_detached_cells_are_missing_and_not_among_the_dead() -> None:
    vehicle = [(0, 60), (0, 60), (0, 60), (0, 60)]
    # 40 of 60 died; in the second well half of the dead floated away, in the third all
    result = aggregate(*wells_of([*vehicle, (40, 20), (20, 20), (0, 20), (0, 0)], vehicles=4)).isel(timepoint=0)
    np.testing.assert_allclose(result.death.values[4:7], [2 / 3, 1 / 2, 0], atol=1e-6)
    np.testing.assert_allclose(result.death_of_seeded.values[4:], [2 / 3, 1 / 3, 0, 0], atol=1e-6)
    np.testing.assert_allclose(result.live_of_seeded.values[4:], [1 / 3, 1 / 3, 1 / 3, 0], atol=1e-6)
    np.testing.assert_allclose(result.missing_of_seeded.values[4:], [0, 1 / 3, 2 / 3, 1], atol=1e-6)
    assert (result.vehicle_patches == 60).all()
    assert "missing" not in result.attrs["denominator"]
    assert "same vehicle" in result.attrs["denominator"]


def test_unevenly_seeded_vehicle_wells_widen_the_interval() -> None:
    even = aggregate(*wells_of([(0, 60)] * 6 + [(30, 30)], vehicles=6)).isel(timepoint=0, well=6)
    uneven = aggregate(*wells_of([(0, k) for k in (40, 50, 60, 60, 70, 80)] + [(30, 30)], vehicles=6))
    uneven = uneven.isel(timepoint=0, well=6)
    assert float(even.death_of_seeded) == float(uneven.death_of_seeded) == pytest.approx(0.5)
    assert float(even.death_of_seeded_high) == pytest.approx(float(even.death_high), abs=1e-6)
    assert float(uneven.death_of_seeded_high) - 0.5 > 1.5 * (float(even.death_of_seeded_high) - 0.5)


def test_too_few_vehicle_wells_give_no_interval_and_none_give_nothing() -> None:
    two = aggregate(*wells_of([(0, 60), (0, 60), (30, 30)], vehicles=2))
    assert np.isfinite(two.death_of_seeded).all()
    assert two.death_of_seeded_low.isnull().all()
    none = aggregate(*wells_of([(0, 60), (30, 30)], vehicles=0))
    assert none.death_of_seeded.isnull().all()
    empty = aggregate(*wells_of([(0, 0), (0, 0), (30, 30)], vehicles=2))
    assert empty.missing_of_seeded.isnull().all()


def test_fields_that_were_not_imaged_are_not_missing_cells() -> None:
    stored, layout = wells_of([(0, 60)] * 4 + [(30, 30)], vehicles=4)
    stored.probability.values[4, 2:] = np.nan
    stored.status.values[4, 2:] = 3
    result = aggregate(stored, layout).isel(timepoint=0, well=4)
    assert int(result.fields_imaged) == 2
    assert float(result.missing_of_seeded) == pytest.approx(0)
    stored.status.values[4, 2:] = 1  # imaged, and nothing there
    result = aggregate(stored, layout).isel(timepoint=0, well=4)
    assert float(result.missing_of_seeded) == pytest.approx(0.5)


def test_live_is_the_rest_of_death_and_the_response_to_treatment_is_called_a_score() -> None:
    result = aggregate(*wells_of([(0, 60), (30, 30), (60, 0)], vehicles=1)).isel(timepoint=0)
    np.testing.assert_allclose(result.live, [1, 0.5, 0], atol=1e-6)
    np.testing.assert_allclose(result.live_low, 1 - result.death_high)
    np.testing.assert_allclose(result.treated_response.values[:2], 0.75, atol=1e-6)
    assert np.isnan(result.treated_response.values[2])
    assert result.treated_response.attrs["long_name"].startswith("score, not a prevalence")


def test_votes_and_foreground_are_counted() -> None:
    result = aggregate(*wells_of([(10, 30)], vehicles=0)).isel(timepoint=0, well=0)
    np.testing.assert_array_equal(result["count"], [0, 0, 40, 0, 120])
    np.testing.assert_allclose(result.voted, [0, 0, 0.25, 0, 0.75])
    assert float(result.foreground) == pytest.approx(160 * 0.5 * 25.6**2)
    assert result.foreground.attrs["units"] == "um2"
