"""Control statistics against R's and against sums done by hand; verdicts that give their reasons."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from screening.analysis.quality import FLAGS, Rule, assess, signal_to_background, ssmd, z_prime

from .by_hand import fractions_of

KCVIAB = Path(__file__).parents[4] / "shared" / "data" / "kcviab"
COMPOUNDS = {"kills": {"apoptosis": (1.0, 1.5, 0.9)}}


def fields_of(plate: xr.Dataset, *, fields: int = 2) -> xr.Dataset:
    rng = np.random.default_rng(9)
    shape = (plate.sizes["well"], fields, plate.sizes["timepoint"])
    dims = ("well", "field", "timepoint")
    return xr.Dataset(
        {"focus": (dims, 10 + rng.normal(0, 0.5, shape)), "status": (dims, np.ones(shape, dtype=np.int8))},
        coords={"well": plate.well.values, "field": range(fields), "timepoint": plate.timepoint.values},
    )


def test_z_prime_and_ssmd_are_the_textbook_formulas() -> None:
    positive, negative = np.array([0.9, 0.8, 1.0, 0.9]), np.array([0.1, 0.0, 0.2, 0.1])
    s = np.std(positive, ddof=1)
    assert z_prime(positive, negative) == pytest.approx(1 - 3 * 2 * s / 0.8)
    assert ssmd(positive, negative) == pytest.approx(0.8 / np.hypot(s, s))
    assert ssmd(negative, positive) == pytest.approx(-0.8 / np.hypot(s, s))
    mad = 1.4826 * 0.05
    assert z_prime(positive, negative, robust=True) == pytest.approx(1 - 3 * 2 * mad / 0.8)
    assert signal_to_background(positive, negative) == pytest.approx(9.0)


def test_statistics_that_do_not_exist_are_nan_and_never_infinite() -> None:
    same, spread = np.array([0.5, 0.5, 0.5]), np.array([0.4, 0.5, 0.6])
    for robust in (False, True):
        assert np.isnan(z_prime(same, spread, robust=robust))
        assert np.isnan(ssmd(same, same + 0.2, robust=robust))
        assert np.isnan(z_prime(np.array([0.5]), spread, robust=robust))
        assert np.isnan(z_prime(np.array([]), spread, robust=robust))
    assert np.isnan(signal_to_background(spread, np.zeros(3)))


@pytest.mark.skipif(not KCVIAB.exists(), reason=f"the KcViab screen (test only) is not at {KCVIAB}")
def test_kcviab_controls_give_what_r_computed() -> None:
    raw = pd.read_csv(KCVIAB / "KcViab_raw_long.csv.gz")
    kind = raw["controlStatus"]
    for expected in pd.read_csv(KCVIAB / "expected_zprime_R.csv").itertuples():
        values = raw[f"rep{expected.replicate}"]
        plate_median = values[kind == "sample"].groupby(raw["plate"]).median()
        scaled = values / raw["plate"].map(plate_median)
        positive, negative = (scaled[kind == name].to_numpy() for name in ("pos", "neg"))
        assert z_prime(positive, negative, robust=bool(expected.robust)) == pytest.approx(expected.zprime, rel=1e-9)
        assert ssmd(positive, negative) == pytest.approx(expected.ssmd, rel=1e-9)
        assert ssmd(positive, negative, robust=True) == pytest.approx(expected.rssmd, rel=1e-9)
        positive, negative = (values[kind == name].to_numpy() for name in ("pos", "neg"))
        raw_z_prime = z_prime(positive, negative, robust=bool(expected.robust))
        assert raw_z_prime == pytest.approx(expected.zprime_raw, rel=1e-9)


def test_a_good_plate_passes_and_its_numbers_have_intervals() -> None:
    plate = fractions_of(COMPOUNDS, seed=1)
    quality = assess(plate, fields_of(plate))
    assert quality.attrs["verdict"] == "PASS"
    assert json.loads(quality.attrs["reasons"]) == []
    death = quality.sel(readout="death").isel(timepoint=-1)
    assert death.z_prime_low < death.z_prime < death.z_prime_high <= 1
    assert death.ssmd > 0
    assert (int(death.n_negative), int(death.n_positive)) == (16, 12)
    assert int(quality.n_positive.sel(readout="necrosis").isel(timepoint=-1)) == 4
    numbers = quality[["z_prime", "robust_z_prime", "ssmd", "robust_ssmd", "signal_to_background"]]
    assert not any(np.isinf(numbers[name]).any() for name in numbers)


def test_controls_that_do_not_separate_fail_the_plate() -> None:
    plate = fractions_of(COMPOUNDS, seed=2)
    weak = plate.where(plate.control != "positive", plate.isel(well=slice(0, 1)).mean("well") * 1.2)
    quality = assess(weak.assign(patches=plate.patches))
    assert quality.attrs["verdict"] == "FAIL"
    assert json.loads(quality.attrs["reasons"])[0].startswith("Robust Z' of death is ")


def test_contaminated_controls_are_seen_in_the_gap_between_robust_and_classical() -> None:
    plate = fractions_of(COMPOUNDS, seed=3).copy(deep=True)
    plate.death[:2] = 0.9
    quality = assess(plate)
    assert quality.attrs["verdict"] == "REVIEW"
    assert "some control wells do not behave like controls" in quality.attrs["reasons"]


def test_without_controls_nothing_is_computed_and_the_reason_is_kept() -> None:
    plate = fractions_of(COMPOUNDS, seed=4)
    quality = assess(plate.isel(well=plate.control.values == "none"))
    assert quality.z_prime.isnull().all()
    assert quality.attrs["verdict"] == "REVIEW"
    assert quality.reason.values[0, 0] == "not computable: fewer than two vehicle wells with cells"
    lonely = assess(plate.isel(well=plate.inducer.values != "necrosis"))
    assert "necrosis inducer" in lonely.reason.sel(readout="necrosis").values[0]
    assert lonely.z_prime.sel(readout="death").notnull().all()


def test_each_fault_of_a_well_has_its_flag() -> None:
    plate = fractions_of(COMPOUNDS, seed=5).copy(deep=True)
    fields = fields_of(plate)
    plate.patches[0] = 0
    plate.patches[1] = 5
    fields.status[2] = 3
    fields.focus[3] = 1.0
    quality = assess(plate, fields)
    assert list(quality.flags.values[:5]) == ["no_foreground", "few_patches", "missing", "out_of_focus", ""]
    assert int(sum(quality[name].isel(timepoint=-1).sum() for name in FLAGS)) == 4
    strict = assess(plate, fields, rule=Rule(flagged_review=0.01, flagged_fail=0.02))
    assert strict.attrs["verdict"] == "FAIL"
    assert "4 of 40 wells carry a flag" in strict.attrs["reasons"]


def test_vehicle_wells_that_die_at_the_edge_are_found() -> None:
    plate = fractions_of(COMPOUNDS, vehicle=60, seed=6).copy(deep=True)
    vehicle = np.flatnonzero(plate.control.values == "negative")
    rows, columns = plate.row.values, plate.column.values
    rim = (rows == rows.min()) | (rows == rows.max()) | (columns == columns.min()) | (columns == columns.max())
    clean = assess(plate)
    assert abs(clean.attrs["edge_t"]) < 4
    plate.death[vehicle[rim[vehicle]]] += 0.15
    spoiled = assess(plate)
    assert spoiled.attrs["edge_t"] > 4
    assert "edge" in spoiled.attrs["reasons"]


def _spoiled(seed: int) -> xr.Dataset:
    """A plate on which a vehicle and an inducer well are absurd, were noticed, and are masked."""
    plate = fractions_of({"kills": {"apoptosis": (1.0, 1.5, 0.9)}}, seed=seed)
    masked = np.full(plate.sizes["well"], "", dtype=object)
    for kind in ("negative", "positive"):
        masked[np.flatnonzero(plate.control.values == kind)[0]] = "bubble in the well"
    bad = masked != ""
    death, fraction = plate.death.values.copy(), plate.fraction.values.copy()
    death[bad], fraction[bad] = 1 - death[bad], fraction[bad][..., ::-1]
    patches = np.where(bad[:, None], 0, plate.patches.values)
    changed = {"death": death, "fraction": fraction, "patches": patches}
    return plate.assign({name: (plate[name].dims, values) for name, values in changed.items()}).assign_coords(
        masked=("well", masked)
    )


def test_masked_wells_change_no_statistic_and_no_verdict_and_tell_their_reason() -> None:
    plate = _spoiled(seed=21)
    used = plate.isel(well=plate.masked.values == "")
    with_mask, without_wells = assess(plate, draws=50), assess(used, draws=50)
    assert [with_mask.attrs[name] for name in ("verdict", "reasons", "edge_wells", "inner_wells")] == [
        without_wells.attrs[name] for name in ("verdict", "reasons", "edge_wells", "inner_wells")
    ]
    for name in ("z_prime", "robust_z_prime", "ssmd", "robust_ssmd_low", "cv_negative", "n_negative", "n_positive"):
        xr.testing.assert_identical(with_mask[name], without_wells[name])
    assert set(with_mask.flags.values[plate.masked.values != ""]) == {"masked: bubble in the well"}
    unmasked = assess(plate.drop_vars("masked"), draws=50)
    assert float(unmasked.sel(readout="death").z_prime[-1]) < float(with_mask.sel(readout="death").z_prime[-1]) - 0.2


def test_of_two_vehicles_the_one_with_more_control_wells_judges_the_plate() -> None:
    plate = fractions_of({"kills": {"apoptosis": (1.0, 1.5, 0.9)}}, vehicle=16, seed=22)
    negative = np.flatnonzero(plate.control.values == "negative")
    vehicle = np.full(plate.sizes["well"], "DMSO", dtype=object)
    vehicle[negative[:6]] = "ethanol"
    death = plate.death.values.copy()
    death[negative[:6]] += 0.4
    mixed = plate.assign(death=(plate.death.dims, death)).assign_coords(vehicle=("well", vehicle))
    without = mixed.drop_isel(well=negative[:6])
    judged = assess(mixed, draws=50).sel(readout="death")
    xr.testing.assert_identical(judged.z_prime, assess(without, draws=50).sel(readout="death").z_prime)
    assert int(judged.n_negative[-1]) == 10
