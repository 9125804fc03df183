"""A plate converted and classified while workers are killed at random and the disk fails: as a calm run makes it.

    python -m tests.benchmarks.soak                               # a few wells, a minute
    python -m tests.benchmarks.soak --wells 384 --timepoints 24   # the whole soak

A run that ends, as for a drive that stays away, is started again as a person would do it.
"""

import argparse
import json
import logging
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from distributed import WorkerPlugin

from plates.errors import UnfinishedError
from plates.ingest.convert import ingest
from plates.layout import PlateMap, read_plate_map
from plates.layout.wells import FORMATS
from plates.results import read_result
from plates.store import open_plate
from screening.classify import classify_plate
from screening.cluster import cluster
from tests.faults.small_plate import made_up_tomogram, write_small_acquisition, write_untrained_classifier

MOST_RUNS = 50


class Mortal(WorkerPlugin):  # type: ignore[misc]
    """A worker dies at a random moment after its first task, as of `distributed.chaos.KillWorker`.

    That one counts from the start, which takes longer than any life on a busy machine.
    """

    def __init__(self, *, mean_s: float) -> None:
        self.mean_s, self.marked = mean_s, False

    def setup(self, worker: Any) -> None:
        """Runs in each worker that starts."""
        self.marked = False

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:
        """A task went from one state to another."""
        if finish == "memory" and not self.marked:
            self.marked = True
            delay = random.Random(os.getpid()).expovariate(1 / self.mean_s)
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()


class FailingDisk(WorkerPlugin):  # type: ignore[misc]
    """Now and then opening a file of a folder fails, as on a network drive that is away for a moment."""

    def __init__(self, folder: Path, *, share: float) -> None:
        self.folder, self.share = str(folder), share

    def setup(self, worker: Any) -> None:
        """Runs in each worker that starts."""
        import errno

        from plates import patience

        draw, opened, folder, share = random.Random(os.getpid()), Path.open, self.folder, self.share

        def open_(path: Path, *arguments: Any, **named: Any) -> Any:
            if str(path).startswith(folder) and draw.random() < share:
                with opened(Path(folder).with_name("faults"), "a") as log:
                    log.write("x")
                number = draw.choice([errno.ESTALE, errno.EIO, errno.ETIMEDOUT])
                raise OSError(number, os.strerror(number), str(path))
            return opened(path, *arguments, **named)

        patience.PAUSES_S = (0.05, 0.1, 0.2)
        Path.open = open_  # type: ignore[method-assign,assignment]


def write_plate(folder: Path, *, wells: int, timepoints: int, shape: tuple[int, int, int]) -> PlateMap:
    """TCF files and a plate map of so many wells."""
    rows, columns = FORMATS[384]
    names = [f"{chr(65 + row)}{column + 1:02d}" for row in range(rows) for column in range(columns)][:wells]
    for number, well in enumerate(names):
        images = [made_up_tomogram(number * 1000 + time_, shape=shape) for time_ in range(timepoints)]
        write_small_acquisition(folder / "P001", well, images, number=number + 1)
    lines = [f"{well},drug,{number + 1},uM,none" for number, well in enumerate(names)]
    (folder / "P001.csv").write_text("\n".join(["well,compound,concentration,unit,control", *lines]) + "\n")
    return read_plate_map(folder / "P001.csv")


def work(folder: Path, out: Path, plate_map: PlateMap, classifier: Path, *, client: Any) -> None:
    """Both steps that workers do."""
    ingest(folder / "P001", out=out, plate_map=plate_map, client=client)
    classify_plate(out, classifier=classifier, batch=8, device="cpu", client=client)


def soak(folder: Path, *, wells: int, timepoints: int, workers: int, kill_s: float, share: float) -> dict[str, Any]:
    """Make the plate twice, calmly and in the storm, and compare."""
    plate_map = write_plate(folder, wells=wells, timepoints=timepoints, shape=(4, 164, 164))
    classifier = write_untrained_classifier(folder / "classifier")
    calm, stormy = folder / "calm" / "P001.zarr", folder / "stormy" / "P001.zarr"
    began = time.monotonic()
    with cluster(workers=workers) as client:
        work(folder, calm, plate_map, classifier, client=client)
    calm_s, began = time.monotonic() - began, time.monotonic()
    runs, ended, pids = 0, [], set[int]()
    stormy.parent.mkdir()
    for runs in range(1, MOST_RUNS + 1):  # noqa: B007
        try:
            with cluster(workers=workers) as client:
                client.register_plugin(Mortal(mean_s=kill_s))
                client.register_plugin(FailingDisk(stormy.parent, share=share))
                seen: Any = client.cluster.workers

                def note(*_: Any, seen: Any = seen) -> None:
                    pids.update(nanny.pid for nanny in seen.values() if nanny.pid)

                ingest(folder / "P001", out=stormy, plate_map=plate_map, client=client, progress=note)
                classify_plate(stormy, classifier=classifier, batch=8, device="cpu", client=client, progress=note)
            break
        except (OSError, UnfinishedError) as error:
            ended.append(str(error).splitlines()[0][:160])
    storm_s = time.monotonic() - began
    compare(stormy, calm)
    faults = stormy.parent.with_name("faults")
    return {
        "wells": wells,
        "timepoints": timepoints,
        "calm_s": round(calm_s, 1),
        "storm_s": round(storm_s, 1),
        "runs": runs,
        "ended": ended,
        "processes": len(pids),
        "killed": len(pids) - workers * runs,
        "faults_of_the_disk": faults.stat().st_size if faults.exists() else 0,
        "equal": True,
    }


def compare(one: Path, other: Path) -> None:
    """Every voxel, probability and map; an AssertionError where they differ."""
    first, second = open_plate(one), open_plate(other)
    for well in second.wells:
        for timepoint in range(second.timepoints):
            place = {"field": 0, "timepoint": timepoint}
            for read in ("volume", "projection", "classes"):
                np.testing.assert_array_equal(getattr(first, read)(well, **place), getattr(second, read)(well, **place))
    for name in ("fields", "sources", "probabilities"):
        found, expected = read_result(one, name), read_result(other, name)
        for dataset in (found, expected):
            dataset.attrs.pop("provenance")
        xr.testing.assert_identical(found, expected)
    assert (read_result(one, "probabilities")["status"] == 1).all()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wells", type=int, default=6)
    parser.add_argument("--timepoints", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kill-s", type=float, default=2.0, help="mean life of a worker after its first task")
    parser.add_argument("--share", type=float, default=0.02, help="of files that fail to open")
    given = parser.parse_args()
    logging.getLogger("tomoscreen").setLevel(logging.ERROR)
    folder = Path(tempfile.mkdtemp(prefix="soak"))
    try:
        found = soak(
            folder,
            wells=given.wells,
            timepoints=given.timepoints,
            workers=given.workers,
            kill_s=given.kill_s,
            share=given.share,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
