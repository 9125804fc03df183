"""Two analyses side by side."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from plates.errors import MissingInputError
from plates.results import write_result
from screening.analysis.comparison import compare_analyses, differing_causes

from .test_exclusions import ranking


def made(dataset: xr.Dataset, **provenance: object) -> xr.Dataset:
    return dataset.assign_attrs(provenance=json.dumps(provenance))


def layout(masked: str = "", dose: float = 1.0) -> xr.Dataset:
    return xr.Dataset(
        {"masked": ("well", np.array([masked, ""], dtype=object)), "dose": ("well", [dose, np.nan])},
        coords={"well": np.array(["A01", "A02"], dtype=object)},
    )


def probabilities(value: float = 0.2, **attrs: object) -> xr.Dataset:
    return xr.Dataset({"probability": ("patch", [value])}, attrs=attrs)


def test_an_analysis_equals_itself() -> None:
    one = {"ranking": made(ranking(a=1.0, b=2.0), version="1", settings={"seed": 0}), "layout": layout()}
    found = compare_analyses(one, one)
    assert not found.moved.any()
    assert found.attrs["causes"] == ""
    assert found.attrs["summary"] == "2 compounds, nothing moved."


def test_what_moved_is_said_in_words() -> None:
    second = ranking(b=1.0, a=3.0, new=1.0)
    second["status"] = ("compound", np.array(["quantified", "above_range", "quantified"], dtype=object))
    second["ec50_low"] = ("compound", [0.5, 1.0, 0.5])
    found = compare_analyses({"ranking": ranking(a=1.0, b=2.0, gone=5.0)}, {"ranking": second})
    what = dict(zip(found.compound.values, found.what.values, strict=True))
    assert what["a"] == "quantified became above_range, EC50 x 3, rank 1 to 2"
    assert what["b"] == "EC50 x 0.5, rank 2 to 1"
    assert what["gone"] == "only in the first analysis"
    assert what["new"] == "only in the second analysis"
    assert found.ec50_ratio.sel(compound="a").item() == 3
    assert bool(found.outside.sel(compound="a"))


def test_why_names_settings_classifier_map_and_exclusions() -> None:
    first = {
        "ranking": made(ranking(a=1.0), version="0.1", settings={"seed": 0, "timepoint": "last"}, fingerprint="x"),
        "layout": layout(),
        "probabilities": probabilities(classifier_sha256="aaa", stride_px=160),
    }
    entry = {"plate": "P1", "well": "A01", "field": 2, "timepoint": -1, "reason": "dust", "name": "Ada"}
    record = xr.Dataset({name: ("exclusion", [value]) for name, value in {**entry, "date": "2026-03-02"}.items()})
    second = {
        "ranking": made(ranking(a=2.0), version="0.2", settings={"seed": 0, "timepoint": 3}, fingerprint="y"),
        "layout": layout(masked="leak", dose=2.0),
        "probabilities": probabilities(0.3, classifier_sha256="bbb", stride_px=160),
        "exclusions": record,
    }
    found = compare_analyses(first, second)
    assert found.attrs["causes"].splitlines() == [
        "setting settings.timepoint: last -> 3",
        "version: 0.1 -> 0.2",
        "classification: classifier_sha256: aaa -> bbb",
        "plate map: dose of 1 wells: A01 1.0 -> 2.0",
        "plate map: masked of 1 wells: A01  -> leak",
        "exclusions: left out: P1 A01 field 2 (dust; Ada, 2026-03-02)",
    ]
    assert "6 things differ at once; their parts cannot be told apart" in found.attrs["summary"]


def test_other_images_under_the_same_classifier_are_inputs() -> None:
    same = {"classifier_sha256": "aaa"}
    causes = differing_causes(
        {"probabilities": probabilities(0.1, **same)}, {"probabilities": probabilities(0.9, **same)}
    )
    assert causes == ["inputs: the probabilities differ, made by the same classifier from other images or fields"]


def test_a_change_that_nothing_explains_is_not_explained() -> None:
    found = compare_analyses({"ranking": ranking(a=1.0)}, {"ranking": ranking(a=2.0)})
    assert found.attrs["summary"].endswith("The stores hold no difference that explains it.")


def test_stores_are_read_and_a_missing_ranking_is_told(tmp_path: Path) -> None:
    for name, value in (("one", 1.0), ("two", 2.0)):
        write_result(tmp_path / name / "P1.results.zarr", "ranking", ranking(a=value), provenance={"version": name})
    found = compare_analyses(tmp_path / "one" / "P1.results.zarr", tmp_path / "two" / "P1.results.zarr")
    assert found.what.values.tolist() == ["EC50 x 2"]
    assert found.attrs["causes"] == "version: one -> two"
    with pytest.raises(MissingInputError):
        compare_analyses(tmp_path / "none.results.zarr", tmp_path / "one" / "P1.results.zarr")


def test_infinite_and_missing_ec50s_have_no_ratio() -> None:
    found = compare_analyses({"ranking": ranking(a=np.inf, b=np.nan, c=0.0)}, {"ranking": ranking(a=1.0, b=1.0, c=1.0)})
    assert found.ec50_ratio.isnull().all()
    assert not found.moved.any()
