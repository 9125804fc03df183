"""Fields with a planted fault carry its flag and are proposed, never left out."""

from __future__ import annotations

import numpy as np
import xarray as xr

from screening.analysis.field_quality import FLAGS, FieldRule, assess_fields, proposals

from .planted import fields_at, planted_plate


def _spoiled() -> tuple[xr.Dataset, xr.Dataset]:
    plate = planted_plate(seed=1)
    fields = fields_at(plate).copy(deep=True)
    fields["focus"][0, 1, 0] = 2.0
    fields["medium_index"][1, 0, 0] = 1.345
    fields["missing_share"][2, 2, 0] = 0.3
    fields["confluency"][3, 3, 0] = 0.0
    fields["status"][4, 0, 0] = 2
    shape = (fields.sizes["well"], 4, 1, 4, 5)
    outlier = np.random.default_rng(2).normal(1.0, 0.1, shape).astype(np.float32)
    outlier[5, 2] = 3.0
    probability = np.full((*shape, 5), 0.2, dtype=np.float32)
    dims = ("well", "field", "timepoint", "py", "px")
    probabilities = xr.Dataset(
        {"probability": ((*dims, "state"), probability), "outlier": (dims, outlier)},
        coords={name: fields[name].values for name in ("well", "field", "timepoint")},
        attrs={"outlier_threshold": 1.5},
    )
    return fields, probabilities


def test_each_fault_of_a_field_has_its_flag_and_others_have_none() -> None:
    fields, probabilities = _spoiled()
    found = assess_fields(fields, probabilities)
    places = {name: np.argwhere(found[name].values).tolist() for name in FLAGS}
    assert places == {
        "missing": [[4, 0, 0]],
        "out_of_focus": [[0, 1, 0]],
        "strange_medium": [[1, 0, 0]],
        "garbage": [[2, 2, 0]],
        "no_foreground": [[3, 3, 0]],
        "unlike_training": [[5, 2, 0]],
    }
    assert float(found.outlier_share[5, 2, 0]) == 1.0
    assert float(found.patches[5, 2, 0]) == 20


def test_what_is_proposed_is_listed_with_its_reason_and_changes_nothing() -> None:
    fields, probabilities = _spoiled()
    before = fields.copy(deep=True), probabilities.copy(deep=True)
    listed = proposals(assess_fields(fields, probabilities))
    assert list(listed["reason"]) == ["out of focus", "strange medium", "garbage", "unlike training"]
    assert list(listed["field"]) == [1, 0, 2, 2]
    xr.testing.assert_identical(before[0], fields)
    xr.testing.assert_identical(before[1], probabilities)
    assert proposals(assess_fields(fields, probabilities, rule=FieldRule(proposes=()))).empty


def test_a_classifier_that_knows_no_outliers_flags_none() -> None:
    fields, probabilities = _spoiled()
    del probabilities.attrs["outlier_threshold"]
    found = assess_fields(fields, probabilities)
    assert found.outlier_share.isnull().all()
    assert not found.unlike_training.any()
    assert np.isnan(found.attrs["outlier_share"])


def test_a_plate_without_a_single_good_number_has_missing_flags_and_no_warning() -> None:
    fields, _ = _spoiled()
    empty = fields.assign(
        {name: xr.full_like(fields[name], np.nan) for name in ("focus", "medium_index", "confluency")}
    )
    assert not assess_fields(empty).out_of_focus.any()
    none = assess_fields(fields.assign(status=xr.zeros_like(fields.status)))
    assert none.missing.all()
    assert not none.proposed.any()
