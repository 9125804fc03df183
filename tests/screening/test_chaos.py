"""Workers that are killed while a plate is classified: the result is that of a calm run."""

import os
import random
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from plates.ingest.convert import ingest
from plates.layout import read_plate_map
from plates.results import read_result
from plates.store import open_plate
from screening.classify import classify_plate
from screening.cluster import cluster

KILLS = 3


def test_workers_killed_at_random_change_no_probability_and_no_map(
    acquisitions: Path, classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("screening.classify.FRAMES_PER_TASK", (2, 2))  # one well each, so that there are many tasks
    calm, stormy = tmp_path / "calm", tmp_path / "stormy"
    plate_map = read_plate_map(acquisitions / "P001.csv")
    ingest(acquisitions / "P001", out=calm / "P001.zarr", plate_map=plate_map, name="P001")
    shutil.copytree(calm, stormy)
    classify_plate(calm / "P001.zarr", classifier=classifier, batch=8)
    draw = random.Random(5)
    killed: list[int] = []

    with cluster(workers=2) as client:

        def kill(done: int, total: int, text: str) -> None:
            """Called when a task has come back, while others are under way."""
            alive = [nanny.pid for nanny in client.cluster.workers.values() if nanny.pid not in (None, *killed)]
            if alive and len(killed) < KILLS and draw.random() < 0.7:
                killed.append(draw.choice(alive))
                os.kill(killed[-1], signal.SIGKILL)

        classify_plate(stormy / "P001.zarr", classifier=classifier, batch=8, client=client, progress=kill)
    assert len(killed) == KILLS
    found, expected = (read_result(folder / "P001.zarr", "probabilities") for folder in (stormy, calm))
    assert (expected["status"] == 1).all()
    for result in (found, expected):
        result.attrs.pop("provenance")
    xr.testing.assert_identical(found, expected)
    one, other = (open_plate(folder / "P001.zarr") for folder in (stormy, calm))
    for well in one.wells:
        place = {"field": 0, "timepoint": 1}
        np.testing.assert_array_equal(one.classes(well, **place), other.classes(well, **place))
