"""The lead of the label-free call on plates of cells drawn by the simulator, without images."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from plates.errors import StoreError
from plates.results import read_result, write_result
from screening.analysis.early_detection import early_detection
from tests.benchmarks.early_detection import draw_plate

HOURS = np.arange(0.0, 18.1, 1.0)


@pytest.fixture(scope="module")
def drawn() -> tuple[xr.Dataset, object, xr.Dataset]:
    return draw_plate(HOURS, 1.0, np.random.default_rng(3))


@pytest.fixture(scope="module")
def found(drawn: tuple[xr.Dataset, object, xr.Dataset]) -> xr.Dataset:
    return early_detection(*drawn, draws=100)  # type: ignore[arg-type]


def of(found: xr.Dataset, name: str, kind: str) -> xr.Dataset:
    return found.isel(group=(found.group.values == name) & (found.group_kind.values == kind)).squeeze("group")


def test_the_simulated_lead_of_necroptosis_is_recovered(found: xr.Dataset) -> None:
    # the later of two markers, each 2 to 4 h after the index: median 2 + sqrt(2) h
    for one in (of(found, "necroptosis", "compound"), of(found, "necroptosis", "pathway")):
        assert float(one.patch_lead) == pytest.approx(2 + np.sqrt(2), abs=0.2)
        assert float(one.patch_lead_low) <= 2 + np.sqrt(2) <= float(one.patch_lead_high)
    wells = of(found, "necroptosis", "compound")
    assert float(wells.well_lead) == pytest.approx(3.36, abs=0.4)
    assert wells.well_lead_status.item() == "estimated"


def test_the_other_pathways_lead_less(found: xr.Dataset) -> None:
    assert float(of(found, "apoptosis", "compound").patch_lead) == pytest.approx(1.0, abs=0.3)
    assert float(of(found, "necrosis", "compound").patch_lead) < 1


def test_wells_carry_frames_crossings_and_a_status(found: xr.Dataset) -> None:
    necroptosis = found.isel(well=found.compound.values == "necroptosis")
    assert (necroptosis.lead_status == "both").all()
    assert (necroptosis.lead_low <= necroptosis.lead).all()
    assert (necroptosis.lead <= necroptosis.lead_high).all()
    vehicle = found.isel(well=found.compound.values == "DMSO")
    assert (vehicle.lead_status == "not_treated").all()
    assert vehicle.lead.isnull().all()


def test_a_plate_that_ends_before_the_markers_says_not_reached(
    drawn: tuple[xr.Dataset, object, xr.Dataset],
) -> None:
    probabilities, annotation, layout = drawn
    early = annotation[annotation["timepoint"] <= 2]  # type: ignore[index]
    found = early_detection(probabilities.isel(timepoint=slice(0, 3)), early, layout, draws=50)
    one = of(found, "necroptosis", "compound")
    assert one.patch_lead_status.item() == "not_reached"
    assert float(one.patch_lead_n.sel(lead_kind="label_free_only")) > 0
    assert not np.isfinite(float(one.patch_lead))


def test_patches_of_another_stride_are_refused(drawn: tuple[xr.Dataset, object, xr.Dataset]) -> None:
    probabilities, annotation, layout = drawn
    moved = annotation.assign(y_um=40.0)  # type: ignore[attr-defined]
    with pytest.raises(StoreError, match="are none of the classified ones, the first of well A09"):
        early_detection(probabilities, moved[moved["well"] == "A09"], layout)


def test_nothing_annotated_is_no_crash(drawn: tuple[xr.Dataset, object, xr.Dataset]) -> None:
    probabilities, annotation, layout = drawn
    found = early_detection(probabilities, annotation.iloc[:0], layout, draws=50)  # type: ignore[attr-defined]
    assert set(found.patch_lead_status.values) == {"not_computable"}
    assert found.lead.isnull().all()


def test_the_result_is_stored_and_read_back(found: xr.Dataset, tmp_path: object) -> None:
    write_result(tmp_path / "P1.results.zarr", "early_detection", found, provenance={})  # type: ignore[operator]
    again = read_result(tmp_path / "P1.results.zarr", "early_detection")  # type: ignore[operator]
    assert again.patch_lead.values == pytest.approx(found.patch_lead.values, nan_ok=True)
    assert list(again.group.values) == list(found.group.values)
