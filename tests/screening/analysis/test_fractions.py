"""Fractions are averages over patches, and their intervals hold what fields disagree about."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from plates.states import STATES
from screening.analysis.fractions import aggregate

TRUTH = np.array([0.25, 0.05, 0.05, 0.6, 0.05])


def stored(probability: np.ndarray) -> tuple[xr.Dataset, xr.Dataset]:
    """(well, field, timepoint, py, px, state) -> groups `probabilities` and `layout`."""
    wells = np.array([f"{chr(65 + i // 24)}{i % 24 + 1:02d}" for i in range(len(probability))], dtype=object)
    dims = ("well", "field", "timepoint", "py", "px", "state")
    coords = {"well": wells, "field": range(probability.shape[1]), "timepoint": range(probability.shape[2])}
    hours = ("timepoint", np.arange(probability.shape[2], dtype=float))
    probabilities = xr.Dataset(
        {"probability": (dims, probability.astype(np.float32))},
        coords={**coords, "state": list(STATES), "hours": hours},
    )
    text = np.array(["x"] * len(wells), dtype=object)
    return probabilities, xr.Dataset({"compound": ("well", text)}, coords={"well": wells})


def simulated(rng: np.random.Generator, *, wells: int, fields: int, patches: int, phi: float) -> np.ndarray:
    """Fields that disagree: their compositions scatter around TRUTH, two patches of a field correlate with phi."""
    shape = (wells, fields)
    composition = rng.dirichlet(TRUTH * (1 / phi - 1), size=shape)
    state = (rng.random((*shape, patches))[..., None] > composition.cumsum(axis=-1)[:, :, None, :]).sum(axis=-1)
    side = int(np.ceil(np.sqrt(patches)))
    out = np.full((*shape, side * side, 5), np.nan)
    out[:, :, :patches] = np.eye(5)[np.minimum(state, 4)]
    return out.reshape(wells, fields, 1, side, side, 5)


@pytest.mark.parametrize("fields", [2, 4])
def test_intervals_cover_the_truth_where_fields_disagree(fields: int) -> None:
    covered = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        result = aggregate(*stored(simulated(rng, wells=60, fields=fields, patches=80, phi=0.05)))
        hit = (result.fraction_low <= TRUTH) & (result.fraction_high >= TRUTH)
        covered.append(float(hit.mean()))
        assert result.attrs["dispersion_source"] == "plate"
    assert 0.92 <= np.mean(covered) <= 0.98  # 3,000 intervals of 95 %, not all independent


def test_counting_patches_as_if_they_were_independent_would_not_cover() -> None:
    # the same wells, their patches pooled in one field and the spread of fields declared to be none
    rng = np.random.default_rng(0)
    probability = simulated(rng, wells=60, fields=4, patches=80, phi=0.05)
    one_field = probability.transpose(0, 2, 1, 3, 4, 5).reshape(60, 1, 1, -1, 9, 5)
    result = aggregate(*stored(one_field), assumed_dispersion=0.0)
    hit = (result.fraction_low <= TRUTH) & (result.fraction_high >= TRUTH)
    assert float(hit.mean()) < 0.8


def test_fields_that_disagree_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    width = []
    for phi in (0.001, 0.05, 0.2):
        result = aggregate(*stored(simulated(rng, wells=30, fields=4, patches=100, phi=phi)))
        width.append(float((result.death_high - result.death_low).mean()))
        assert float(result.dispersion.sel(readout="death")) == pytest.approx(phi, abs=0.3 * phi + 0.003)
    assert width[0] < width[1] < width[2]


def test_one_field_per_well_assumes_a_spread_and_says_so() -> None:
    rng = np.random.default_rng(2)
    result = aggregate(*stored(simulated(rng, wells=10, fields=1, patches=100, phi=0.001)))
    assert "assumed" in result.attrs["dispersion_source"]
    # as wide as 17 patches of 100: 1 + 99 * 0.05 patches say as much as one
    assert float((result.death_high - result.death_low).mean()) > 0.35


def test_fractions_are_mean_probabilities_and_counts_are_votes() -> None:
    probability = np.full((1, 2, 1, 1, 2, 5), np.nan)
    probability[0, 0, 0, 0, 0] = [0.6, 0.1, 0.1, 0.1, 0.1]
    probability[0, 0, 0, 0, 1] = [0.3, 0.0, 0.0, 0.7, 0.0]
    probability[0, 1, 0, 0, 0] = [0.0, 0.0, 0.2, 0.8, 0.0]
    result = aggregate(*stored(probability)).isel(well=0, timepoint=0)
    np.testing.assert_allclose(result.fraction, [0.3, 0.1 / 3, 0.1, 1.6 / 3, 0.1 / 3], atol=1e-6)
    np.testing.assert_array_equal(result["count"], [1, 0, 0, 2, 0])
    assert float(result.death) == pytest.approx(1.3 / 3, abs=1e-6)
    assert (int(result.patches), int(result.fields_used)) == (3, 2)


def test_wells_without_cells_are_empty_and_all_dead_wells_keep_an_interval() -> None:
    probability = np.full((3, 2, 1, 10, 10, 5), np.nan)
    probability[1] = [1, 0, 0, 0, 0]
    probability[2] = [0, 0, 0, 1, 0]
    result = aggregate(*stored(probability)).isel(timepoint=0)
    assert np.isnan(result.death.values[0])
    assert np.isnan(result.death_low.values[0])
    assert result.patches.values[0] == 0
    assert result.death.values[1] == 1
    assert 0.8 < result.death_low.values[1] < 1
    assert result.death_high.values[1] == 1
    assert result.death.values[2] == 0
    assert 0 < result.death_high.values[2] < 0.2


def test_wells_of_the_map_that_were_never_classified_stay_empty() -> None:
    probabilities, layout = stored(np.full((3, 1, 1, 2, 2, 5), 0.2))
    result = aggregate(probabilities.isel(well=[0, 2]), layout)
    assert list(result.well.values) == list(layout.well.values)
    assert np.isnan(result.death.values[1, 0])
    assert list(result.patches.values[:, 0]) == [4, 0, 4]
    assert list(result.compound.values) == ["x", "x", "x"]


def test_masked_wells_keep_their_fractions_but_say_nothing_about_the_spread_of_fields() -> None:
    probability = simulated(np.random.default_rng(5), wells=40, fields=4, patches=80, phi=0.05)
    # in the masked wells whole fields are one state, as where a bubble passed
    probability[:4] = np.eye(5)[np.arange(4) % 5][None, :, None, None, None]
    probabilities, layout = stored(probability)
    masked = np.where(np.arange(40) < 4, "bubble", "").astype(object)
    result = aggregate(probabilities, layout.assign(masked=("well", masked)))
    used = aggregate(probabilities.isel(well=slice(4, None)), layout.isel(well=slice(4, None)))
    np.testing.assert_array_equal(result.dispersion, used.dispersion)
    np.testing.assert_array_equal(result.fraction_low[4:], used.fraction_low)
    assert result.fraction[:4].notnull().all()
    unmasked = aggregate(probabilities, layout)
    assert float(unmasked.dispersion[0]) > 2 * float(used.dispersion[0])
