"""Control statistics against R's and against sums done by hand; verdicts that give their reasons."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from plates.results import read_result, write_result
from screening.analysis.control_statistics import signal_to_background, ssmd, z_prime
from screening.analysis.normalization import normalize
from screening.analysis.plate_controls import READOUTS
from screening.analysis.quality import FLAGS, Rule, assess, assess_plate

from .by_hand import fractions_of
from .planted import fields_at, laid_wrongly, planted_plate

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


def test_every_vehicle_is_compared_with_its_own_positive_controls_where_it_has_some() -> None:
    plate = fractions_of(COMPOUNDS, vehicle=16, seed=23)
    control = plate.control.values
    vehicle = np.full(plate.sizes["well"], "DMSO", dtype=object)
    vehicle[np.flatnonzero(control == "negative")[:6]] = "ethanol"
    vehicle[np.flatnonzero(control == "positive")[::2]] = "ethanol"
    groups = assess_plate(plate.assign_coords(vehicle=("well", vehicle)), draws=50)
    found = groups["vehicle_quality"]
    assert dict(zip(found.vehicle.values, found.n_negative.sel(readout="death")[:, -1].values, strict=True)) == {
        "dmso": 10,
        "ethanol": 6,
    }
    assert list(found.n_positive.sel(readout="death")[:, -1]) == [6, 6]
    assert found.matched.all()
    ours = found.sel(vehicle="ethanol", readout="necrosis").isel(timepoint=-1)
    death = plate.fraction.sel(state="necrosis").isel(timepoint=-1).values
    own = vehicle == "ethanol"
    inducer = plate.inducer.values == "necrosis"
    assert float(ours.z_prime) == pytest.approx(z_prime(death[own & inducer], death[own & (control == "negative")]))
    xr.testing.assert_identical(
        groups["quality"].n_negative.sel(readout="death"),
        found.n_negative.sel(vehicle="dmso", readout="death", drop=True).assign_coords(readout="death"),
    )


def test_positive_controls_without_a_vehicle_stand_in_for_all_and_it_is_said() -> None:
    plate = fractions_of(COMPOUNDS, seed=24)
    vehicle = np.where(plate.control.values == "positive", "", "DMSO").astype(object)
    groups = assess_plate(plate.assign_coords(vehicle=("well", vehicle)), draws=50)
    assert not groups["vehicle_quality"].matched.any()
    np.testing.assert_array_equal(
        groups["vehicle_quality"].robust_z_prime.sel(vehicle="dmso"), groups["quality"].robust_z_prime
    )


@pytest.mark.parametrize(
    ("faulty", "verdict", "words"),
    [
        (lambda: planted_plate(edge=0.2, seed=1), "REVIEW", "edge"),
        (lambda: planted_plate(gradient=0.2, seed=1), "REVIEW", "place of replicates"),
        (lambda: planted_plate(drift=0.2, seed=1), "REVIEW", "imaged later"),
        (lambda: planted_plate(contaminated=8, seed=1), "REVIEW", "do not look like their kind"),
        (lambda: laid_wrongly(planted_plate(seed=1), "turned"), "FAIL", "better turned by 180 degrees"),
        (lambda: laid_wrongly(planted_plate(seed=1), "columns 3 15"), "REVIEW", "columns 4 and 16 exchanged"),
    ],
)
def test_each_planted_fault_reaches_the_verdict(faulty: object, verdict: str, words: str) -> None:
    plate = faulty()  # type: ignore[operator]
    quality = assess(plate, fields_at(plate), draws=20)
    assert quality.attrs["verdict"] == verdict
    assert any(words in reason for reason in json.loads(quality.attrs["reasons"]))


def test_a_clean_plate_passes_with_all_of_its_groups() -> None:
    plate = planted_plate(seed=1)
    groups = assess_plate(plate, fields_at(plate), draws=20)
    assert groups["quality"].attrs["verdict"] == "PASS"
    assert set(groups) == {"quality", "vehicle_quality", "spatial", "drift", "layout_check", "field_quality"}
    assert list(groups["spatial"].readout.values) == list(READOUTS)
    assert np.isfinite(groups["spatial"].p.sel(readout="death")).all()
    assert np.isfinite(groups["drift"].p.sel(quantity="focus")).all()


def test_a_rule_that_tolerates_turned_plates_only_asks_for_review() -> None:
    plate = laid_wrongly(planted_plate(layout="columns", seed=2), "turned")
    assert assess(plate, draws=20).attrs["verdict"] == "FAIL"
    assert assess(plate, draws=20, rule=Rule(turned="REVIEW")).attrs["verdict"] == "REVIEW"


def test_a_plate_unlike_the_training_and_fields_to_leave_out_ask_for_review() -> None:
    plate = planted_plate(seed=3)
    fields = fields_at(plate)
    attrs = {"outlier_flagged": 1, "outlier_text": "31.0% of the patches lie further from the training data."}
    dims = ("well", "field", "timepoint", "py", "px", "state")
    shape = (*fields.status.shape, 2, 2, 5)
    coords = {name: fields[name].values for name in dims[:3]}
    probabilities = xr.Dataset({"probability": (dims, np.full(shape, 0.2))}, coords=coords, attrs=attrs)
    unlike = assess(plate, fields, probabilities=probabilities, draws=20)
    assert unlike.attrs["verdict"] == "REVIEW"
    assert "31.0% of the patches" in unlike.attrs["reasons"]
    wet = fields.assign(medium_index=fields.medium_index + 0.01 * (fields.field == 2))
    assert "25% of the fields are proposed to be left out" in assess(plate, wet, draws=20).attrs["reasons"]


@pytest.mark.parametrize("filled", [np.nan, np.inf, 0.0, 1.0, 0.3])
def test_a_plate_of_nothing_or_of_one_value_is_for_review_without_numbers_or_warnings(filled: float) -> None:
    plate = planted_plate(seed=4)
    hostile = plate.assign(death=xr.full_like(plate.death, filled), fraction=xr.full_like(plate.fraction, filled))
    quality = assess(hostile, fields_at(plate), draws=20)
    assert quality.attrs["verdict"] == "REVIEW"
    assert quality.robust_z_prime.isnull().all()
    assert all("not computable" in reason for reason in quality.reason.values.ravel())
    assert not any(np.isinf(quality[name]).any() for name in quality.data_vars if quality[name].dtype.kind == "f")


def test_one_control_well_of_each_kind_or_no_well_at_all_gives_reasons() -> None:
    plate = fractions_of(COMPOUNDS, vehicle=1, inducers=1, seed=5)
    lonely = assess(plate, draws=20)
    assert lonely.attrs["verdict"] == "REVIEW"
    assert "1 negative control wells with cells" in lonely.attrs["reasons"]
    empty = assess(plate.isel(well=slice(0, 0)), draws=20)
    assert empty.attrs["verdict"] == "REVIEW"


@pytest.mark.parametrize("hostile", [False, True])
def test_every_group_is_stored_and_read_back_as_it_was(tmp_path: Path, hostile: bool) -> None:
    plate = fractions_of(COMPOUNDS, vehicle=1, seed=6) if hostile else planted_plate(seed=5)
    groups = assess_plate(plate, None if hostile else fields_at(plate), draws=20)
    for name, dataset in {**groups, "normalized": normalize(plate)}.items():
        write_result(tmp_path / "P001.zarr", name, dataset, provenance={})
        stored = read_result(tmp_path / "P001.zarr", name)
        del stored.attrs["provenance"]
        xr.testing.assert_equal(stored, dataset)
        assert set(stored.attrs) == set(dataset.attrs)
