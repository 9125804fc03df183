"""Units that end their workers, and runs that go on with other settings: nothing lost, nothing mixed."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from distributed import WorkerPlugin

from models.classifier import Card, build_classifier, save_classifier
from plates.errors import UnfinishedError
from plates.ingest.convert import ingest, last_summary
from plates.layout import read_plate_map
from plates.results import read_result
from plates.store import open_plate
from screening.classify import classify_plate
from screening.cluster import cluster
from screening.run_summary import RunSummary
from tests.faults.small_plate import SmallCampaign, write_small_campaign


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> SmallCampaign:
    return write_small_campaign(tmp_path_factory.mktemp("campaign"), frames=2)


@pytest.fixture(scope="module")
def converted(campaign: SmallCampaign, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("converted") / "P001.zarr"
    ingest(campaign.acquisitions["P001"], out=out, plate_map=read_plate_map(campaign.layouts["P001"]))
    return out


@pytest.fixture
def plate(converted: Path, tmp_path: Path) -> Path:
    shutil.copytree(converted.parent, tmp_path / "results")
    return tmp_path / "results" / converted.name


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another classifier of the same kind."""
    torch.manual_seed(4)
    folder = tmp_path_factory.mktemp("other") / "other"
    save_classifier(build_classifier(Card(name="other", architecture="resnet18", trained_on="nothing")), folder)
    return folder


def classify(plate: Path, classifier: Path, **how: Any) -> RunSummary:
    return classify_plate(plate, classifier=classifier, batch=4, device="cpu", **how)


def probabilities(plate: Path) -> xr.Dataset:
    found = read_result(plate, "probabilities")
    found.attrs.pop("provenance")
    return found


def maps(plate: Path) -> np.ndarray:
    opened = open_plate(plate)
    return np.stack([opened.classes(well, field=0, timepoint=time) for well in opened.wells for time in (0, 1)])


class Poison(WorkerPlugin):  # type: ignore[misc]
    """One well's projections end the process that reads them."""

    def setup(self, worker: Any) -> None:
        from plates.store import Plate

        read = Plate.projection

        def projection(plate: Plate, well: str, **place: Any) -> Any:
            if well == "A02":
                os._exit(1)
            return read(plate, well, **place)

        Plate.projection = projection  # type: ignore[method-assign,assignment]


def test_a_well_that_ends_its_workers_is_set_aside_and_all_others_are_done(
    campaign: SmallCampaign, plate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("screening.classify.FRAMES_PER_TASK", (1, 1))  # its neighbours are in other tasks
    with cluster(workers=2) as client:
        client.register_plugin(Poison())
        with pytest.raises(UnfinishedError, match=r"A02 field 0.* ended 4 workers") as told:
            classify(plate, campaign.classifier, client=client)
    assert told.value.exit_code == 4
    status = probabilities(plate)["status"]
    assert (status.sel(well=["A01", "B01", "B02"]) == 1).all()
    assert not (status.sel(well="A02") == 1).any()
    again = classify(plate, campaign.classifier)  # without the poison
    assert (again.done, again.skipped) == (2, 6)
    assert (probabilities(plate)["status"] == 1).all()


def test_another_classifier_is_told_and_nothing_of_the_old_one_stays(
    campaign: SmallCampaign, plate: Path, other: Path, tmp_path: Path
) -> None:
    shutil.copytree(plate.parent, tmp_path / "calm")
    classify(plate, campaign.classifier)
    summary = classify(plate, other)
    assert summary.reasons == {"another classifier": 8}
    assert any("8 done again: another classifier" in line for line in summary.lines())
    calm = tmp_path / "calm" / plate.name
    classify(calm, other)
    xr.testing.assert_identical(probabilities(plate), probabilities(calm))
    np.testing.assert_array_equal(maps(plate), maps(calm))


def test_a_change_of_version_or_settings_is_told_and_recomputed(
    campaign: SmallCampaign, plate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classify(plate, campaign.classifier)
    assert classify(plate, campaign.classifier).done == 0
    monkeypatch.setattr("screening.classify.RULES", 1000)
    assert classify(plate, campaign.classifier).reasons == {"other settings or version": 8}
    assert classify(plate, campaign.classifier, vote="majority").reasons == {"other settings or version": 8}
    monkeypatch.setattr("plates.ingest.units.SETTINGS", 1000)
    ingest(campaign.acquisitions["P001"], out=plate, plate_map=read_plate_map(campaign.layouts["P001"]))
    summary = last_summary(plate)
    assert summary.converted == 8
    assert set(summary.recomputed.values()) == {"changed since it was converted: settings"}


def test_a_run_with_another_classifier_that_was_interrupted_leaves_no_mixture(
    campaign: SmallCampaign, plate: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("screening.classify.FRAMES_PER_TASK", (2, 2))
    shutil.copytree(plate.parent, tmp_path / "calm")
    calm = tmp_path / "calm" / plate.name
    classify(plate, campaign.classifier)
    before = probabilities(plate)

    def interrupt(done: int, total: int, text: str) -> None:
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        classify(plate, other, progress=interrupt)
    # the numbers are still all of the old one
    xr.testing.assert_identical(probabilities(plate), before)
    summary = classify(plate, other)
    assert summary.skipped == 4
    assert summary.reasons == {"another classifier": 4}
    classify(calm, other)
    xr.testing.assert_identical(probabilities(plate), probabilities(calm))
    np.testing.assert_array_equal(maps(plate), maps(calm))


def test_without_the_look_at_what_made_a_unit_stale_numbers_would_be_taken(
    campaign: SmallCampaign, plate: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(plate.parent, tmp_path / "calm")
    classify(tmp_path / "calm" / plate.name, other)
    classify(plate, campaign.classifier)
    everything = (tuple(range(2)), tuple(range(2)))
    monkeypatch.setattr("screening.classify._standing", lambda *_, **__: everything)
    assert classify(plate, other).done == 0
    stale, right = probabilities(plate), probabilities(tmp_path / "calm" / plate.name)
    assert stale.attrs["classifier"] == "other"
    assert not np.array_equal(stale["probability"], right["probability"], equal_nan=True)
