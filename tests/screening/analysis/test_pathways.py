"""Total death and its split by pathway, from counts whose truth is written down."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy import special

from plates.results import read_result, write_result
from screening.analysis.pathway_comparison import compare_pathways
from screening.analysis.pathway_model import PARAMETERS, Wells, fit, probabilities, weak_penalty
from screening.analysis.pathways import arrange, fit_pathways
from screening.analysis.plate_pathways import fit_plate_pathways

from .by_hand import fractions_of

Array = NDArray[np.float64]
DOSES = np.repeat(np.geomspace(0.03, 30, 8), 3)
BACKGROUND = np.array([0.03, 0.005, 0.015])


def drawn(
    rng: np.random.Generator,
    logits: Array,
    *,
    ec50: float = 0.5,
    hill: float = 1.5,
    top: float = 0.9,
    cells: int = 300,
    phi: float = 3.0,
    dose: Array = DOSES,
) -> Array:
    """Counts (well, state) of one compound whose pathways' logits (well, pathway) are given."""
    e = top / (1 + (ec50 / dose) ** hill)
    split = special.softmax(logits, axis=1)
    p = (1 - e)[:, None] * BACKGROUND + e[:, None] * split
    p = np.column_stack([p, 1 - p.sum(axis=1)])
    concentration = (cells - phi) / (phi - 1)
    shaken = [rng.dirichlet(np.maximum(concentration * row, 1e-9)) for row in p]
    return np.array([rng.multinomial(cells, row) for row in shaken], dtype=float)


def switching(at: float, steepness: float = 3.0, dose: Array = DOSES) -> Array:
    """Apoptosis below `at` uM, necrosis above it."""
    x = steepness * np.log10(dose / at)
    return np.column_stack([-x / 2, np.full_like(x, -6.0), x / 2])


def steady(*shares: float) -> Array:
    return np.tile(np.log(shares), (DOSES.size, 1))


def test_the_switching_dose_lies_in_its_interval_as_often_as_promised() -> None:
    rng = np.random.default_rng(0)
    at = 10 ** rng.uniform(0.0, 0.8, 80)
    counts = np.stack([drawn(rng, switching(x)) for x in at])
    table = fit_pathways(np.tile(DOSES, (80, 1)), counts, background=BACKGROUND).table
    assert (table.status == "switch").mean() > 0.97
    assert set(table.switch_from[table.status == "switch"]) == {"apoptosis"}
    assert set(table.switch_to[table.status == "switch"]) == {"necrosis"}
    held = (table.switch_low <= at) & (at <= table.switch_high)
    assert 0.90 <= held.mean() <= 0.985
    assert abs(np.median(np.log10(table.switch_dose / at))) < 0.02


def test_a_split_that_does_not_change_is_no_switch() -> None:
    rng = np.random.default_rng(1)
    counts = np.stack([drawn(rng, steady(0.5, 0.1, 0.4)) for _ in range(100)])
    table = fit_pathways(np.tile(DOSES, (100, 1)), counts, background=BACKGROUND).table
    assert (table.split_p < 0.05).mean() == pytest.approx(0.05, abs=0.045)
    assert (table.status == "switch").sum() <= 4
    assert table.switch_dose[table.status == "constant"].isna().all()


def test_one_pathway_alone_is_pure_and_selective() -> None:
    rng = np.random.default_rng(2)
    counts = np.stack([drawn(rng, steady(0.996, 0.002, 0.002)), drawn(rng, steady(1 / 3, 1 / 3, 1 / 3))])
    table = fit_pathways(np.tile(DOSES, (2, 1)), counts, background=BACKGROUND).table
    assert table.leading[0] == "apoptosis"
    assert table.purity[0] > 0.97
    assert table.selectivity[0] > 0.85
    assert bool(table.window_bound[0]), "no second pathway within the doses: the window is at least as wide"
    assert table.purity_low[1] <= 1 / 3 + 0.05
    assert table.selectivity[1] < 0.05


def test_a_switch_above_the_tested_doses_is_a_lower_bound() -> None:
    rng = np.random.default_rng(3)
    counts = np.stack([drawn(rng, switching(200.0, 2.0), cells=2000) for _ in range(5)])
    table = fit_pathways(np.tile(DOSES, (5, 1)), counts, background=BACKGROUND).table
    assert set(table.status) == {"shift"}
    assert table.switch_dose.isna().all()
    assert set(table.switch_bound) == {"lower"}
    assert np.isposinf(table.switch_high).all()
    assert (table.switch_low >= 1.0).all()
    assert (table.switch_low <= 200.0).all()


def test_wells_that_scatter_more_count_for_less() -> None:
    rng = np.random.default_rng(4)
    calm, wild = (np.stack([drawn(rng, switching(2.0), phi=phi) for _ in range(40)]) for phi in (1.2, 6.0))
    fits = [fit_pathways(np.tile(DOSES, (40, 1)), counts, background=BACKGROUND) for counts in (calm, wild)]
    assert fits[0].dispersion == pytest.approx(1.2, rel=0.2)
    assert fits[1].dispersion == pytest.approx(6.0, rel=0.2)
    widths = [np.median(np.log10(one.table.switch_high / one.table.switch_low)) for one in fits]
    assert widths[1] / widths[0] == pytest.approx(np.sqrt(5), rel=0.25)


def test_derivatives_are_those_of_the_probabilities() -> None:
    rng = np.random.default_rng(5)
    wells = arrange(DOSES[None], drawn(rng, switching(2.0))[None], BACKGROUND)
    theta = np.array([[-0.2, 0.3, 1.0, 0.4, -0.7, 0.5, 1.1, 0.3, -0.4]])
    for centre in (np.array([0.1]), None):
        _, jacobian = probabilities(theta, wells, centre)
        for k in range(PARAMETERS):
            step = np.zeros_like(theta)
            step[0, k] = 1e-6
            ends = [probabilities(theta + sign * step, wells, centre)[0] for sign in (1, -1)]
            np.testing.assert_allclose(jacobian[..., k], (ends[0] - ends[1]) / 2e-6, atol=1e-7)


def test_the_optimum_is_one() -> None:
    rng = np.random.default_rng(6)
    wells = arrange(np.tile(DOSES, (8, 1)), np.stack([drawn(rng, switching(2.0)) for _ in range(8)]), BACKGROUND)
    centre = np.zeros(8)
    found = fit(wells, centre)
    penalty = weak_penalty(wells)
    for _ in range(30):
        near = found.theta + rng.normal(0, 0.02, found.theta.shape)
        p, _ = probabilities(near, wells, centre)
        off = near - penalty.mean
        value = (wells.number[..., None] * wells.fraction * np.log(p)).sum(axis=(1, 2))
        value -= 0.5 * np.einsum("bk,bkl,bl->b", off, penalty.weight, off)
        assert (value <= found.objective + 1e-6).all()


def pairs_of(rng: np.random.Generator, number: int, phi: float) -> Wells:
    """Compounds in twos that kill alike at equal effect, at unlike doses."""
    counts = []
    for _ in range(number):
        level, trend = rng.normal(0, 1.5, 3), rng.normal(0, 0.6, 3)
        for _ in range(2):
            ec50, hill = 10 ** rng.uniform(-0.8, 0.6), rng.uniform(1, 2.2)
            u = hill * np.log10(DOSES / ec50)
            counts.append(drawn(rng, level + trend * u[:, None], ec50=ec50, hill=hill, phi=phi))
    return arrange(np.tile(DOSES, (2 * number, 1)), np.array(counts), BACKGROUND, dispersion=phi)


def test_compounds_that_kill_alike_are_called_different_as_often_as_promised() -> None:
    wells = pairs_of(np.random.default_rng(7), 200, 2.0)
    pairs = np.arange(400).reshape(200, 2)
    p = compare_pathways(wells, pairs, freedom=1000).p_value
    assert 0.015 <= (p < 0.05).mean() <= 0.085
    swapped = compare_pathways(wells, pairs[:20, ::-1], freedom=1000).p_value
    np.testing.assert_allclose(swapped, p[:20], atol=1e-3)
    others = np.column_stack([pairs[:, 0], np.roll(pairs[:, 1], 1)])
    assert (compare_pathways(wells, others, freedom=1000).p_value < 0.01).mean() > 0.9


def test_the_bootstrap_agrees_with_the_f_test() -> None:
    wells = pairs_of(np.random.default_rng(8), 8, 2.0)
    found = compare_pathways(wells, np.arange(16).reshape(8, 2), freedom=1000, draws=99)
    np.testing.assert_allclose(found.p_bootstrap, found.p_value, atol=0.17)


def test_hostile_counts_get_a_status_and_no_warning() -> None:
    counts = np.full((6, DOSES.size, 4), np.nan)
    counts[1] = 0.0
    counts[2] = [0, 0, 0, 300]
    counts[3] = [300, 0, 0, 0]
    counts[4] = [75, 75, 75, 75]
    counts[5, :3] = 10.0
    dose = np.tile(DOSES, (6, 1))
    dose[5, 1] = np.nan
    table = fit_pathways(dose, counts, background=BACKGROUND).table
    assert list(table.status) == ["not_fitted", "not_fitted", "no_effect", "constant", "constant", "not_fitted"]
    one_dose = fit_pathways(np.ones((1, 6)), np.full((1, 6, 4), 20.0), background=BACKGROUND)
    assert list(one_dose.table.status) == ["not_fitted"]
    assert len(fit_pathways(np.empty((0, 3)), np.empty((0, 3, 4)), background=BACKGROUND).table) == 0
    dead_vehicle = fit_pathways(dose[4:5], counts[4:5], background=np.array([np.nan, 1.0, np.inf]))
    assert len(dead_vehicle.table) == 1


def test_counts_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="expected counts"):
        fit_pathways(DOSES[None], np.zeros((1, DOSES.size, 3)), background=BACKGROUND)


@pytest.fixture(scope="module")
def plate() -> xr.Dataset:
    kills = {
        "apo": {"apoptosis": (0.1, 1.5, 0.9)},
        "apo too": {"apoptosis": (1.0, 1.5, 0.9)},
        "nec": {"necrosis": (0.3, 1.5, 0.9)},
        "flat": {},
    }
    return fit_plate_pathways([fractions_of(kills, half_time=3.0, effective=200, seed=1)])


def test_a_plate_says_who_kills_how_and_who_kills_alike(plate: xr.Dataset) -> None:
    assert list(plate.leading.values) == ["apoptosis", "apoptosis", "necrosis", ""]
    assert plate.status.sel(compound="flat").item() == "no_effect"
    assert float(plate.different_p.sel(compound="apo", other="nec")) < 1e-6
    assert float(plate.different_p.sel(compound="apo", other="apo too")) > 0.01
    assert plate.different_p.sel(compound="flat").isnull().all()
    assert float(plate.purity.sel(compound="apo")) > 0.93
    assert (plate.curve_low <= plate.curve_high).all()


def test_the_group_is_written_and_read_back(plate: xr.Dataset, tmp_path: Path) -> None:
    write_result(tmp_path / "P1.results.zarr", "pathways", plate, provenance={})
    xr.testing.assert_equal(read_result(tmp_path / "P1.results.zarr", "pathways"), plate)


def test_masked_wells_and_a_mislabelled_control_change_little(plate: xr.Dataset) -> None:
    kills = {"apo": {"apoptosis": (0.1, 1.5, 0.9)}, "nec": {"necrosis": (0.3, 1.5, 0.9)}}
    clean = fractions_of(kills, half_time=3.0, effective=200, seed=2)
    spoiled = clean.copy(deep=True)
    bad = [
        int(np.flatnonzero(clean.control.values == "negative")[0]),
        int(np.flatnonzero(clean.compound.values == "apo")[3]),
    ]
    spoiled["fraction"][bad] = [0.0, 0.9, 0.1, 0.0, 0.0]
    masked = np.full(clean.sizes["well"], "", dtype=object)
    masked[bad[1]] = "bubble"
    spoiled = spoiled.assign_coords(masked=("well", masked))
    before, after = fit_plate_pathways([clean]), fit_plate_pathways([spoiled])
    np.testing.assert_allclose(before.share, after.share, atol=0.02)


def test_no_plates_and_no_vehicle_are_answered() -> None:
    assert fit_plate_pathways([]).sizes["compound"] == 0
    bare = fractions_of({"apo": {"apoptosis": (0.1, 1.5, 0.9)}}, vehicle=0, inducers=0, seed=3)
    assert fit_plate_pathways([bare]).leading.values[0] == "apoptosis"
