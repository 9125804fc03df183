"""A plate that was annotated tells by itself how far the label-free call is ahead of the markers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plates.annotation.table import write_table
from plates.results import read_result
from screening.analyse import analyse_plate
from screening.marker_lead import annotation_of, lead_over_markers
from screening.settings import AnalysisSettings
from tests.benchmarks.early_detection import draw_plate
from tests.screening.analysis.two_compounds import write_plate


def test_the_lead_follows_from_the_table_that_annotate_writes(tmp_path: Path) -> None:
    probabilities, annotation, layout = draw_plate(np.arange(0.0, 18.1, 1.0), 1.0, np.random.default_rng(3))
    plate = tmp_path / "P1.zarr"
    assert "P1.annotations.csv is not there" in lead_over_markers(plate, probabilities, layout).attrs["note"]
    write_table(annotation.assign(state="undecided", rule=""), annotation_of(plate), plate=plate)
    found = lead_over_markers(plate, probabilities, layout, draws=100)
    own = found.isel(group=(found.group.values == "necroptosis") & (found.group_kind.values == "compound"))
    # the later of two markers, each 2 to 4 h after the index
    assert float(own.patch_lead.squeeze()) == pytest.approx(2 + np.sqrt(2), abs=0.2)
    assert found.attrs["note"] == ""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda table: table[table["timepoint"] == 2], "markers of 1 timepoints"),
        (lambda table: table.drop(columns="positive"), "has no column 'positive'"),
        (lambda table: table.assign(x_um=table["x_um"] + 7), "none of the classified ones"),
        (lambda table: table.assign(positive=""), "markers of 0 timepoints"),
    ],
)
def test_a_table_that_tells_no_lead_is_named_and_stops_nothing(tmp_path: Path, change: object, told: str) -> None:
    probabilities, annotation, layout = draw_plate(np.arange(0.0, 6.1, 2.0), 1.0, np.random.default_rng(3))
    changed = change(annotation)  # type: ignore[operator]
    changed.to_csv(tmp_path / "P1.annotations.csv", index=False)
    found = lead_over_markers(tmp_path / "P1.zarr", probabilities, layout)
    assert told in found.attrs["note"]
    assert not found.data_vars


def test_annotating_an_analysed_plate_makes_the_lead_and_nothing_is_made_twice(tmp_path: Path) -> None:
    plate = write_plate(tmp_path)
    settings = AnalysisSettings(draws=100)
    assert analyse_plate(plate, settings=settings)
    assert "is not there" in read_result(plate, "early_detection").attrs["note"]
    probabilities = read_result(plate, "probabilities")
    dead = probabilities.probability.isel(state=slice(0, 3)).sum("state").to_dataframe("dead").reset_index()
    # markers that come one frame later than the classifier's call
    late = dead.assign(timepoint=dead["timepoint"] + 1, positive=dead["dead"])
    late = late[late["timepoint"] <= 2].assign(
        y_um=late["py_um"] if "py_um" in late else 12.8 + 25.6 * late["py"],
        x_um=late["px_um"] if "px_um" in late else 12.8 + 25.6 * late["px"],
        area=1.0,
    )
    pd.DataFrame(late).to_csv(annotation_of(plate), index=False)
    assert analyse_plate(plate, settings=settings)
    found = read_result(plate, "early_detection")
    assert found.attrs["note"] == ""
    assert found.marker_dead.notnull().any()
    assert not analyse_plate(plate, settings=settings)


def test_the_limits_of_the_settings_decide_the_verdict_and_stand_beside_it(tmp_path: Path) -> None:
    plate = write_plate(tmp_path)
    analyse_plate(plate, settings=AnalysisSettings(draws=100))
    assert read_result(plate, "quality").attrs["verdict"] == "PASS"
    strict = AnalysisSettings.model_validate({"draws": 100, "z_prime_min": 0.99, "quality": {"fail_z_prime": 0.98}})
    analyse_plate(plate, settings=strict)
    quality = read_result(plate, "quality")
    assert quality.attrs["verdict"] == "FAIL"
    assert '"fail_z_prime": 0.98' in quality.attrs["limits"]
    assert '"medium": 0.002' in read_result(plate, "field_quality").attrs["limits"]
