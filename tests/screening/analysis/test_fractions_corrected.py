"""A plate carries its corrected fractions beside the raw ones, or the reason why it has none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from models.counted_errors import SCORE_EDGES, measure
from plates.results import read_result, write_result
from plates.states import STATES
from screening.analysis.fractions import aggregate

from .confused import CONFUSION, MANY, Known, kinds_of, known, observe, probabilities

FIELDS, SIDE = 4, 9


def plate(
    rng: np.random.Generator,
    truth: np.ndarray,
    classifier: Known,
    *,
    kinds: np.ndarray | None = None,
    record: object = "its own",
    phi: float = 0.03,
) -> tuple[xr.Dataset, xr.Dataset]:
    """(well, timepoint, state) -> groups `probabilities` and `layout`."""
    wells, timepoints, _ = truth.shape
    seen = observe(rng, truth.reshape(-1, 5), fields=FIELDS, cells=SIDE**2, phi=phi, kinds=kinds)
    values = probabilities(seen, classifier.posterior).reshape(wells, timepoints, FIELDS, SIDE, SIDE, 5)
    names = np.array([f"{chr(65 + i // 24)}{i % 24 + 1:02d}" for i in range(wells)], dtype=object)
    stored = xr.Dataset(
        {
            "probability": (
                ("well", "field", "timepoint", "py", "px", "state"),
                values.transpose(0, 2, 1, 3, 4, 5).astype(np.float32),
            )
        },
        coords={
            "well": names,
            "field": range(FIELDS),
            "timepoint": range(timepoints),
            "state": list(STATES),
            "hours": ("timepoint", np.arange(timepoints, dtype=float)),
        },
        attrs={"validation": json.dumps(validated(classifier) if record == "its own" else record)},
    )
    text = np.array(["x"] * wells, dtype=object)
    return stored, xr.Dataset({"compound": ("well", text)}, coords={"well": names})


def validated(classifier: Known) -> dict[str, object]:
    """The record of a classifier, from the patches that were labelled."""
    kinds = np.repeat(np.tile(np.arange(15), 5), classifier.validated.ravel())
    truth = np.repeat(np.arange(5), classifier.validated.sum(axis=1))
    groups = [f"P:{k % 150}" for k in range(len(truth))]
    return {**measure(classifier.posterior[kinds], truth, groups=groups), "text": "labelled by hand"}


def in_groups(truth: np.ndarray) -> np.ndarray:
    return np.concatenate([truth[..., :3], truth[..., 3:].sum(axis=-1, keepdims=True)], axis=-1)


def test_corrected_fractions_of_a_mixed_plate_cover_the_truth_and_raw_ones_stay_first() -> None:
    covered: dict[str, list[float]] = {"adjusted": [], "em": []}
    for seed in range(8):
        rng = np.random.default_rng(seed)
        truth = rng.dirichlet(np.ones(5), size=(30, 1))
        truth[:10] = [0.01, 0.01, 0.02, 0.90, 0.06]
        result = aggregate(*plate(rng, truth, known(rng)))
        assert result.attrs["correction"].startswith("corrected")
        kept = (result.correction_status == 0).values
        assert kept.mean() > 0.9
        for method, shares in covered.items():
            low, high = (result[f"fraction_{method}_{end}"].values for end in ("low", "high"))
            hit = (low <= in_groups(truth)) & (in_groups(truth) <= high)
            shares.append(float(hit[kept].mean()))
        assert list(result.group.values) == ["apoptosis", "necroptosis", "necrosis", "live"]
        np.testing.assert_allclose(result.fraction.sum("state"), 1, atol=1e-6)
        np.testing.assert_allclose(result.fraction_em.sum("group").values[kept], 1, atol=1e-6)
        np.testing.assert_allclose(
            result.death_adjusted.values[kept], 1 - result.fraction_adjusted.sel(group="live").values[kept]
        )
        assert float(result.fraction_adjusted_price.mean()) > 1.05
    assert np.mean(covered["adjusted"]) > 0.92
    assert np.mean(covered["em"]) > 0.92


def test_correction_changes_nothing_of_the_raw_numbers() -> None:
    rng = np.random.default_rng(3)
    stored, layout = plate(rng, rng.dirichlet(np.ones(5), size=(12, 2)), known(rng))
    raw = aggregate(stored.assign_attrs(validation="{}"), layout)
    both = aggregate(stored, layout)
    for name in ("fraction", "fraction_low", "fraction_high", "death", "death_low", "count", "patches", "dispersion"):
        xr.testing.assert_equal(raw[name], both[name])
    assert raw.data_vars.keys() == both.data_vars.keys()


@pytest.mark.parametrize("record", [{}, {"confusion": [[1, 2], [3, 4]]}, None, "text"])
def test_a_classifier_without_a_matrix_corrects_nothing_and_says_so(record: object) -> None:
    rng = np.random.default_rng(4)
    result = aggregate(*plate(rng, rng.dirichlet(np.ones(5), size=(6, 1)), known(rng), record=record))
    assert result.attrs["correction"] == "not corrected: the classifier brings no confusion matrix"
    assert result.fraction_adjusted.isnull().all()
    assert result.death_em.isnull().all()
    assert (result.correction_status == 3).all()
    assert result.fraction.notnull().all()


def test_a_matrix_that_hardly_tells_states_apart_is_refused() -> None:
    rng = np.random.default_rng(5)
    alike = (np.full((5, 5), 100) + 10 * np.eye(5)).tolist()
    record = {"confusion": alike, "text": ""}
    result = aggregate(*plate(rng, rng.dirichlet(np.ones(5), size=(6, 1)), known(rng), record=record))
    assert "condition number" in result.attrs["correction"]
    assert result.attrs["confusion_condition"] > 10
    assert result.fraction_adjusted.isnull().all()


def test_a_plate_that_looks_otherwise_than_the_validation_is_not_corrected() -> None:
    rng = np.random.default_rng(6)
    truth = rng.dirichlet(np.ones(5), size=(40, 1))
    result = aggregate(*plate(rng, truth, known(rng), kinds=kinds_of(right=(0.35, 0.25, 0.40))))
    assert "unlike those on which the classifier's errors were counted" in result.attrs["correction"]
    assert "over the plate" in result.attrs["shift"]
    assert result.fraction_em.isnull().all()
    assert (result.shift_p < 0.05).mean() > 0.5


def test_how_many_live_cells_respond_is_no_shift() -> None:
    rng = np.random.default_rng(13)
    # the validation holds as many patches of either live state; the plate's live cells all respond
    truth = np.repeat(np.array([[[0.1, 0.1, 0.1, 0.01, 0.69]]]), 40, axis=0)
    result = aggregate(*plate(rng, truth, known(rng)))
    assert result.attrs["correction"].startswith("corrected")
    assert (result.correction_status == 0).mean() > 0.9


def test_live_states_that_are_not_told_apart_are_added_before_the_correction() -> None:
    rng = np.random.default_rng(14)
    kinds = kinds_of()
    kinds[3:] = kinds[3:].mean(axis=0)
    alike = known(rng, labelled=3000, kinds=kinds)
    truth = rng.dirichlet(np.ones(5), size=(40, 1))
    result = aggregate(*plate(rng, truth, alike, kinds=kinds))
    assert result.attrs["correction"].startswith("corrected")
    assert result.attrs["confusion_solved_in"] == "four groups"
    low, high = result.fraction_adjusted_low.values, result.fraction_adjusted_high.values
    assert ((low <= in_groups(truth)) & (in_groups(truth) <= high)).mean() > 0.85  # one plate


def test_vehicle_and_treated_wells_may_hold_either_live_state() -> None:
    # untreated live cells are never called dead, treated ones often: added before, vehicle wells would be overcorrected
    confusion = CONFUSION.copy()
    confusion[3] = [0.0, 0.0, 0.0, 0.9, 0.1]
    confusion[4] = [0.1, 0.05, 0.05, 0.15, 0.65]
    kinds = kinds_of(confusion)
    rng = np.random.default_rng(15)
    truth = np.repeat([[[0.10, 0.05, 0.05, 0.80, 0.00]], [[0.10, 0.05, 0.05, 0.00, 0.80]]], 100, axis=0)
    result = aggregate(*plate(rng, truth, known(rng, labelled=3000, kinds=kinds), kinds=kinds))
    assert result.attrs["confusion_solved_in"].startswith("five states")
    for wells in (slice(0, 100), slice(100, 200)):
        assert float(np.nanmean(result.death_adjusted.values[wells])) == pytest.approx(0.2, abs=0.015)
        assert float(np.nanmean(result.death_em.values[wells])) == pytest.approx(0.2, abs=0.015)


def test_one_odd_well_is_left_uncorrected_and_the_others_are_not() -> None:
    rng = np.random.default_rng(7)
    classifier = known(rng)
    stored, layout = plate(rng, rng.dirichlet(np.ones(5) * 3, size=(40, 1)), classifier)
    dim = stored.probability.values
    dim[5] = 0.19  # a well of nothing but undecided patches
    dim[5, ..., 0] = 0.24
    result = aggregate(stored, layout)
    assert result.attrs["correction"].startswith("corrected")
    assert result.correction_status.values[5, 0] == 2
    assert np.isnan(result.fraction_em.values[5]).all()
    assert (result.correction_status == 0).mean() > 0.9


def test_without_scores_the_shift_check_says_how_little_it_sees() -> None:
    rng = np.random.default_rng(8)
    record = {"confusion": (CONFUSION * 300).tolist(), "text": "an older card"}
    result = aggregate(*plate(rng, rng.dirichlet(np.ones(5), size=(20, 1)), known(rng), record=record))
    assert "calls alone, which show only what no mixture explains" in result.attrs["shift"]
    assert "prior taken as equal" in result.attrs["confusion_source"]


def test_masked_wells_are_corrected_but_judge_no_other() -> None:
    rng = np.random.default_rng(9)
    stored, layout = plate(rng, rng.dirichlet(np.ones(5), size=(30, 1)), known(rng), phi=0.01)
    stored.probability.values[:6] = np.eye(5)[np.arange(6) % 5][:, None, None, None, None, :]
    masked = layout.assign(masked=("well", np.where(np.arange(30) < 6, "bubble", "").astype(object)))
    with_them, without = (
        aggregate(stored, masked),
        aggregate(stored.isel(well=slice(6, None)), layout.isel(well=slice(6, None))),
    )
    np.testing.assert_allclose(with_them.fraction_adjusted_low.values[6:], without.fraction_adjusted_low.values)
    np.testing.assert_allclose(with_them.dispersion_em, without.dispersion_em)
    assert with_them.attrs["plate_shift_p"] == pytest.approx(without.attrs["plate_shift_p"])


def test_wells_that_were_never_classified_have_no_correction() -> None:
    rng = np.random.default_rng(10)
    stored, layout = plate(rng, np.repeat(MANY[None, None], 6, axis=0), known(rng))
    stored.probability.values[2] = np.nan
    result = aggregate(stored.isel(well=[0, 1, 2, 3]), layout)
    assert result.correction_status.values[:, 0].tolist() == [0, 0, 1, 0, 1, 1]
    assert np.isnan(result.fraction_adjusted.values[[2, 4, 5]]).all()


def test_everything_is_stored_and_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    result = aggregate(*plate(rng, np.repeat(MANY[None, None], 6, axis=0), known(rng)))
    path = tmp_path / "P1.zarr"
    write_result(path, "fractions", result, provenance={})
    again = read_result(path, "fractions")
    for name in result.data_vars:
        np.testing.assert_array_equal(again[name], result[name])
    assert again.attrs["confusion_condition"] == pytest.approx(result.attrs["confusion_condition"])


def test_a_plate_without_patches_and_a_matrix_without_a_state_are_stored_without_infinities(tmp_path: Path) -> None:
    rng = np.random.default_rng(16)
    stored, layout = plate(rng, np.repeat(MANY[None, None], 3, axis=0), known(rng))
    empty = stored.assign(probability=stored.probability * np.nan)
    lacking = (CONFUSION * 300).copy()
    lacking[2] = 0
    for name, groups in (
        ("empty", empty),
        ("lacking", stored.assign_attrs(validation=json.dumps({"confusion": lacking.tolist()}))),
    ):
        result = aggregate(groups, layout)
        assert all(np.isfinite(value) for value in result.attrs.values() if isinstance(value, float))
        write_result(tmp_path / f"{name}.zarr", "fractions", result, provenance={})
    assert "fewer than 10 patches" in read_result(tmp_path / "lacking.zarr", "fractions").attrs["correction"]


def test_sureness_of_the_stored_probabilities_is_binned_as_that_of_the_record() -> None:
    from screening.analysis.counting import count_patches

    rng = np.random.default_rng(12)
    values = rng.dirichlet(np.ones(5) * 0.5, size=(1, FIELDS, 1, SIDE, SIDE))
    stored, _ = plate(rng, np.repeat(MANY[None, None], 1, axis=0), known(rng))
    stored["probability"] = (stored.probability.dims, values)
    flat = values.reshape(-1, 5)
    expected = measure(flat, np.zeros(len(flat), dtype=int), groups=["w"] * len(flat))
    counted = count_patches(stored).votes.sum(axis=(0, 1, 2))
    np.testing.assert_array_equal(counted, np.asarray(expected["scores"])[0])
    assert counted.shape == (5, len(SCORE_EDGES) + 1)
