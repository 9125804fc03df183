"""A disk that fills up at every step: 75 and a sentence, nothing half done, and the same plate once there is room."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from plates.ingest.convert import ingest
from plates.layout import read_plate_map
from plates.results import read_result
from plates.store import open_plate
from screening.analyse import PLATE_RESULTS, analyse_plate
from screening.classify import classify_plate
from screening.settings import ClassifySettings
from tests.faults.small_plate import SmallCampaign, write_small_campaign
from tests.hosts import ROOT

STEPS = ("ingest", "classify", "analyse", "report")


def small_disk(folder: Path, megabytes: int) -> list[str]:
    """A command that starts another one for which a folder is a disk of so many megabytes."""
    mount = f'mount -t tmpfs -o size={megabytes}m none "$0" && exec "$@"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, str(folder)]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("this system lets no process have mounts of its own")
    return command


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> SmallCampaign:
    return write_small_campaign(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def told(campaign: SmallCampaign, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """What each step said, and a copy of what the small disk held in the end."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "disk").mkdir()
    kept = folder / "kept"
    answer = subprocess.run(
        [
            *small_disk(folder / "disk", 24),
            *(sys.executable, "-m", "tests.faults.small_disk"),
            *(str(folder / "disk"), str(campaign.folder), str(kept)),
        ],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found, kept


def test_too_little_room_is_refused_before_anything_is_written(told: tuple[dict[str, Any], Path]) -> None:
    refused = told[0]["refused"]
    assert refused["code"] == 75
    assert "tomograms will take about" in refused["said"]
    assert "are free" in refused["said"]
    assert refused["written"] == ["ballast"]


@pytest.mark.parametrize("step", STEPS)
def test_a_disk_that_fills_up_ends_a_step_with_what_to_do_and_the_step_succeeds_once_there_is_room(
    step: str, told: tuple[dict[str, Any], Path]
) -> None:
    full = told[0][f"{step} full"]
    assert full["code"] == 75, full["said"]
    assert "No space left" in full["said"] or "cannot be written" in full["said"]
    assert "Traceback" not in full["said"]
    assert told[0][step]["code"] == 0, told[0][step]["said"]
    assert told[0][step]["unfinished"] == []


def test_a_report_that_was_there_stays_whole(told: tuple[dict[str, Any], Path]) -> None:
    assert told[0]["again"]["code"] == 75
    assert told[0]["again"]["intact"]


def test_the_plate_and_its_results_are_those_of_a_large_disk(
    campaign: SmallCampaign, told: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    calm = tmp_path / "P001.zarr"
    ingest(campaign.acquisitions["P001"], out=calm, plate_map=read_plate_map(campaign.layouts["P001"]))
    classify_plate(calm, classifier=campaign.classifier, batch=ClassifySettings().batch, device="cpu")
    analyse_plate(calm)
    plate = open_plate(told[1] / "P001.zarr")
    for (_, well, field, timepoint), counts in campaign.truth.items():
        np.testing.assert_array_equal(plate.volume(well, field=field, timepoint=timepoint), counts)
    for name in ("fields", "probabilities", *PLATE_RESULTS):
        found, expected = read_result(plate.path, name), read_result(calm, name)
        found.attrs.pop("provenance")
        expected.attrs.pop("provenance")
        xr.testing.assert_identical(found, expected)
