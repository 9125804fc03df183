"""Curves against R's drc, against simulated truth, and at the places where there is no number to give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from screening.analysis.curves import fit_curves
from screening.analysis.dose_response import fit_dose_response
from screening.analysis.log_logistic import ZERO_DOSE, Design, Limits, band
from screening.analysis.normalization import normalize
from screening.analysis.profile_likelihood import fit_with_interval

from .by_hand import DOSES, fractions_of

DRC = Path(__file__).parents[4] / "shared" / "data" / "drc"
COLUMNS = {
    "M.bahia": ("conc", "dryweight", ""),
    "O.mykiss": ("conc", "weight", ""),
    "P.promelas": ("conc", "dryweight", ""),
    "S.capricornutum": ("conc", "count", ""),
    "acidiq": ("dose", "rgr", "pct"),
    "barley": ("Dose", "weight", ""),
    "leaflength": ("Dose", "DW", ""),
    "lemna": ("conc", "frond.num", ""),
    "lettuce": ("conc", "weight", ""),
    "mdra": ("Concentration", "Response", "ExperimentID"),
    "ryegrass": ("conc", "rootl", ""),
    "ryegrass2": ("dose", "biomass", "day"),
    "terbuthylazin": ("dose", "rgr", ""),
    "vinclozolin": ("conc", "effect", "exper"),
}
DOSE = np.repeat(np.geomspace(0.01, 30, 8), 3)


def log_logistic(dose: np.ndarray, bottom: float, top: float, ec50: float, hill: float) -> np.ndarray:
    rise: np.ndarray = 1 / (1 + (ec50 / np.maximum(dose, 1e-12)) ** hill)
    return bottom + (top - bottom) * rise


def anchors() -> list[Any]:
    """One case per curve on which R's drc sits on the least-squares optimum."""
    if not DRC.exists():
        absent = pytest.mark.skip(reason=f"the drc anchors (GPL, test only) are not at {DRC}")
        return [pytest.param(None, marks=absent, id="absent")]
    table = pd.read_csv(DRC / "anchors_polished.csv")
    return [pytest.param(row, id=f"{row.dataset}-{row.curve}-{row.model}") for row in table.itertuples()]


@pytest.mark.parametrize("anchor", anchors())
def test_real_curves_reach_the_optimum_that_drc_reached(anchor: Any) -> None:
    data = pd.read_csv(DRC / "data" / f"{anchor.dataset}.csv")
    dose, response, curve = COLUMNS[anchor.dataset]
    if curve:
        data = data[data[curve].astype(str) == str(anchor.curve)]
    data = data.dropna(subset=[dose, response])
    assert len(data) == anchor.n
    x, y = data[dose].to_numpy(float), data[response].to_numpy(float)
    unique, inverse, number = np.unique(x, return_inverse=True, return_counts=True)
    means = np.bincount(inverse, y) / number
    spread = np.array([((y - means[inverse]) ** 2).sum()])
    log_dose = np.where(unique > 0, np.log10(np.where(unique > 0, unique, 1)), ZERO_DOSE)
    design = Design(log_dose, number.astype(float), x.size - unique.size)
    # drc's falling curve: its d is the response at dose 0, its c the one at infinite dose; LL.3 fixes c = 0.
    # The reference profile let slopes run from 0.02 to 2000, which some of its ends depend on.
    limits = Limits(top=(-np.inf, np.inf) if anchor.model == "LL.4" else (0.0, 0.0), hill=(0.02, 2000.0))
    fitted, low, high = fit_with_interval(design, means[None], spread, limits=limits)
    assert 10 ** fitted.location[0] == pytest.approx(anchor.e, rel=1e-6)
    assert fitted.rss[0] <= anchor.rss * (1 + 1e-9)
    assert fitted.hill[0] == pytest.approx(anchor.b, rel=1e-5)
    _, location_se, _ = band(design, fitted, design.tested, limits=limits)
    assert location_se[0] == pytest.approx(anchor.se_log10e_GN, rel=1e-5)
    for end, expected in ((low, anchor.py_profile_lo), (high, anchor.py_profile_hi)):
        if not np.isnan(expected):  # unbounded there is unbounded here
            assert 10 ** end[0] == pytest.approx(expected, rel=1e-5)


def test_profile_intervals_cover_the_true_ec50() -> None:
    rng = np.random.default_rng(7)
    count = 500
    ec50, hill = 10 ** rng.uniform(-1.5, 1.0, count), np.exp(rng.normal(0.2, 0.4, count))
    top = rng.uniform(0.4, 1.0, count)
    clean = np.array([log_logistic(DOSE, 0, *one) for one in zip(top, ec50, hill, strict=True)])
    fits = fit_curves(DOSE, clean + rng.normal(0, 0.05, clean.shape))
    covered = (fits["ec50_low"] <= ec50) & (ec50 <= fits["ec50_high"])
    assert 0.93 <= covered.mean() <= 0.97
    quantified = fits["status"] == "quantified"
    assert quantified.mean() > 0.6
    assert (np.abs(np.log2((fits["ec50"] / ec50)[quantified])) < 1).mean() > 0.97


def test_noise_alone_has_no_effect_and_no_ec50() -> None:
    rng = np.random.default_rng(8)
    fits = fit_curves(DOSE, rng.normal(0.05, 0.05, (300, DOSE.size)))
    # raw p-values are level: 5 % of noise below 0.05
    assert 0.02 <= (fits["p_value"] < 0.05).mean() <= 0.08
    assert (fits["status"] == "no_effect").mean() >= 0.99
    flat = fits[fits["status"] == "no_effect"]
    assert flat[["ec50", "ec50_low", "ec50_high", "ec50_fit"]].isna().all().all()


def test_an_ec50_outside_the_doses_is_a_bound() -> None:
    rng = np.random.default_rng(9)
    clean = np.array([log_logistic(DOSE, 0, 1, ec50, 1.5) for ec50 in (120.0, 0.0008)])
    dose = np.concatenate([np.zeros(8), DOSE])
    responses = np.column_stack([np.zeros((2, 8)), clean]) + rng.normal(0, 0.02, (2, dose.size))
    fits = fit_curves(dose, responses, bottom=(-0.1, 1.0), top=(-0.1, 1.0))
    assert list(fits["status"]) == ["above_range", "below_range"]
    assert list(fits["ec50"]) == [np.inf, 0.0]
    assert 5 < fits["ec50_low"][0] <= 30
    assert fits["ec50_high"][0] == np.inf
    assert fits["profile_high"][0] > 120
    # the interval ends below the lowest dose: what is told is "below the lowest dose"
    assert fits["ec50_low"][1] == 0
    assert fits["profile_low"][1] <= 0.0008 < fits["profile_high"][1] < 0.01
    assert fits["ec50_high"][1] == pytest.approx(0.01)
    # without a bound on the plateau nothing tells how far up the EC50 may lie
    assert fit_curves(dose, responses)["ec50_high"][0] == np.inf


def test_emax_is_the_fitted_value_at_the_top_dose_not_the_asymptote() -> None:
    clean = log_logistic(DOSE, 0.02, 1.0, 30.0, 1.0)
    noise = np.random.default_rng(10).normal(0, 0.01, DOSE.size)
    fit = fit_curves(DOSE, clean + noise).iloc[0]
    assert fit["emax"] == pytest.approx(0.51, abs=0.02)
    assert fit["emax_low"] < 0.51 < fit["emax_high"]
    assert fit["top"] > fit["emax"] + 0.2


def test_only_the_top_dose_departing_is_a_single_point() -> None:
    responses = np.random.default_rng(11).normal(0.02, 0.01, DOSE.size)
    responses[-3:] += 0.8
    fit = fit_curves(DOSE, responses, bottom=(0.0, 1.0), top=(0.0, 1.0), minimum_effect=0.05).iloc[0]
    assert fit["status"] in ("single_point", "above_range")


def test_an_effect_in_the_wrong_direction_is_inverse() -> None:
    rng = np.random.default_rng(12)
    responses = log_logistic(DOSE, 0.5, 0.1, 1.0, 1.5) + rng.normal(0, 0.02, DOSE.size)
    assert fit_curves(DOSE, responses, direction=1)["status"][0] == "inverse"
    assert fit_curves(DOSE, responses, direction=-1)["status"][0] == "quantified"
    assert fit_curves(DOSE, responses)["ec50"][0] == pytest.approx(1.0, rel=0.3)


def test_awkward_input_is_answered_without_a_warning() -> None:
    missing = np.full((4, DOSE.size), np.nan)
    missing[1, :4] = 0.5
    missing[2], missing[3] = 0.0, 1.0
    fits = fit_curves(DOSE, missing, bottom=(0.0, 1.0), top=(0.0, 1.0))
    assert list(fits["status"]) == ["not_fitted", "not_fitted", "no_effect", "no_effect"]
    single = fit_curves(np.full(6, 3.0), np.array([0.4, 0.5, 0.6, 0.4, 0.5, 0.6])).iloc[0]
    assert single["status"] == "not_fitted"
    assert single["emax"] == pytest.approx(0.5)
    assert single["emax_low"] < 0.5 < single["emax_high"]
    exact = fit_curves(DOSE, log_logistic(DOSE, 0.1, 0.9, 0.7, 2.0)).iloc[0]
    assert exact["ec50"] == pytest.approx(0.7, rel=1e-6)
    with pytest.raises(ValueError, match="doses >= 0"):
        fit_curves(-DOSE, missing)


def test_a_wells_missing_value_changes_only_its_own_curve() -> None:
    rng = np.random.default_rng(13)
    responses = log_logistic(DOSE, 0, 0.9, 1.0, 1.5) + rng.normal(0, 0.03, (3, DOSE.size))
    whole = fit_curves(DOSE, responses)
    responses[1, 5] = np.nan
    gap = fit_curves(DOSE, responses)
    np.testing.assert_allclose(gap["ec50"][[0, 2]], whole["ec50"][[0, 2]], rtol=1e-7)
    assert gap["n"][1] == DOSE.size - 1
    assert gap["ec50"][1] != whole["ec50"][1]


KILLERS = {
    "apo": {"apoptosis": (0.3, 1.5, 0.9)},
    "nec": {"necrosis": (3.0, 2.0, 0.8)},
    "late": {"necroptosis": (200.0, 1.5, 0.9)},
    "flat": {},
}


def test_a_plate_gives_each_compound_its_pathways_answer() -> None:
    result = fit_dose_response([normalize(fractions_of(KILLERS, effective=150, seed=21))])
    status = result.status.to_pandas()
    assert status.loc["apo"].to_dict() == {
        "death": "quantified", "apoptosis": "quantified", "necroptosis": "no_effect", "necrosis": "no_effect"
    }  # fmt: skip
    assert status.loc["nec", ["death", "necrosis"]].tolist() == ["quantified", "quantified"]
    assert set(status.loc["flat"]) == {"no_effect"}
    assert status.loc["late", "death"] in ("above_range", "no_effect")
    for name, ec50 in (("apo", 0.3), ("nec", 3.0)):
        assert float(result.ec50.sel(compound=name, readout="death")) == pytest.approx(ec50, rel=0.5)
    one = result.sel(compound="apo", readout="death")
    assert (one.curve_low <= one.curve).all()
    assert (one.curve <= one.curve_high).all()
    assert result.curve.sel(compound="flat").isnull().all()
    assert result.dose.sel(compound="apo").values[:, 0] == pytest.approx(DOSES)
    assert result.ec50.attrs["units"] == "uM"


def test_replicates_on_two_plates_are_fitted_together_and_keep_their_origin() -> None:
    first, second = (
        normalize(fractions_of(KILLERS, effective=150, baseline=base, seed=seed)).assign_attrs(plate=name)
        for name, base, seed in (("P1", 0.02, 31), ("P2", 0.10, 32))
    )
    alone, both = fit_dose_response([first]), fit_dose_response([first, second])
    assert both.sizes["replicate"] == 2 * alone.sizes["replicate"]
    assert sorted(set(both.plate.sel(compound="apo").values.ravel())) == ["P1", "P2"]
    width = [np.log(r.ec50_high / r.ec50_low).sel(compound="apo", readout="death").item() for r in (alone, both)]
    assert width[1] < width[0]
    assert float(both.ec50.sel(compound="apo", readout="death")) == pytest.approx(0.3, rel=0.4)


def test_plates_that_disagree_widen_the_interval() -> None:
    kill = {f"c{i}": {"apoptosis": (0.5, 1.5, 0.8)} for i in range(4)}
    more = {f"c{i}": {"apoptosis": (0.5, 1.5, 0.5)} for i in range(4)}
    plates = [normalize(fractions_of(kill, effective=300, seed=seed)) for seed in (41, 42)]
    split = [plates[0], normalize(fractions_of(more, effective=300, seed=42))]
    agree, disagree = fit_dose_response(plates), fit_dose_response(split)
    assert agree.attrs["design_effect"][0] < 4 < 8 < disagree.attrs["design_effect"][0]
    width = [float(np.log(r.ec50_high / r.ec50_low).sel(readout="death").mean()) for r in (agree, disagree)]
    assert width[1] > 2 * width[0]


def test_plates_without_vehicle_or_without_compounds_still_give_a_result() -> None:
    plate = fractions_of(KILLERS, effective=150, seed=51)
    no_vehicle = fit_dose_response([plate.isel(well=plate.control.values != "negative")])
    assert no_vehicle.status.sel(compound="apo", readout="death").item() == "quantified"
    no_compound = fit_dose_response([plate.isel(well=plate.control.values != "none")])
    assert no_compound.sizes["compound"] == 0
    assert isinstance(no_compound, xr.Dataset)
