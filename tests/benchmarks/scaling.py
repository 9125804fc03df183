"""How the work grows: from one worker to two, over a million units, over a plate of thousands of frames.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.scaling throughput --out /tmp/scaling
    OMP_NUM_THREADS=1 python -m tests.benchmarks.scaling overhead
    OMP_NUM_THREADS=1 python -m tests.benchmarks.scaling plate --out /tmp/scaling --wells 384 --timepoints 48

`throughput` classifies the same simulated fields with one worker (in this process) and with two, in turns. `overhead`
hands out units that do nothing, with arguments as large as those of a classification. `plate` classifies a plate of
tiny images through a cluster and watches the memory of the process that hands out the work.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import xarray as xr

from plates.creation import create_plate
from plates.layout.wells import FORMATS, well_name
from plates.mapping import map_units
from plates.results import write_result
from plates.store import Plate, open_plate
from screening.classify import classify_plate
from screening.cluster import cluster
from screening.regions import RUN, work_folder
from screening.units import Done, Job, Unit

MEDIUM = 1.337
CLASSIFIER = Path(__file__).parents[2] / "models" / "demonstration"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("throughput", "overhead", "plate"))
    parser.add_argument("--out", type=Path, default=Path("scaling"), help="folder for the plates, some of them large")
    parser.add_argument("--wells", type=int, default=16)
    parser.add_argument("--timepoints", type=int, default=8)
    parser.add_argument("--field-px", type=int, default=0, help="side of a field; 1440 for throughput, 160 for plate")
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--classifier", type=Path, default=CLASSIFIER)
    given = parser.parse_args()
    {"throughput": throughput, "overhead": overhead, "plate": plate_of_frames}[given.part](given)


@dataclass
class Cost:
    """Seconds of the clock and of processors: of this process, and of its workers."""

    wall: float
    here: float
    there: float


def costed(client: Any, act: Callable[[], Any]) -> Cost:
    """Run something and say what it cost."""
    before, here, start = _worker_seconds(client), time.process_time(), time.perf_counter()
    act()
    wall, here = time.perf_counter() - start, time.process_time() - here
    return Cost(wall, here, _worker_seconds(client) - before)


def _worker_seconds(client: Any) -> float:
    return 0.0 if client is None else float(sum(client.run(time.process_time).values()))


def throughput(given: argparse.Namespace) -> None:
    """Classify the same plate with one worker and with two, several times in turns."""
    plate = simulated_plate(given, side=given.field_px or 1440, timepoints=1)
    frames = len(plate.wells)
    rates: dict[int, list[float]] = {1: [], 2: []}
    costs: dict[int, list[float]] = {1: [], 2: []}
    patches = 0
    with cluster(workers=2) as client:
        for _ in range(given.rounds + 1):
            for workers, where in ((1, None), (2, client)):
                shutil.rmtree(work_folder(plate.path), ignore_errors=True)
                cost = costed(where, lambda: classify(plate, given, client=where))  # noqa: B023  called at once
                rates[workers].append(frames / cost.wall)
                costs[workers].append((cost.here + cost.there) / frames)
                patches = int(classified["run"].timing["patches"])
    # of the first round, in which every process loads the network, nothing is counted
    ratios = [two / one for one, two in zip(rates[1][1:], rates[2][1:], strict=True)]
    effort = [one / two for one, two in zip(costs[1][1:], costs[2][1:], strict=True)]
    print(
        f"{frames} fields, {patches} patches, {CLASSIFIER.name if given.classifier == CLASSIFIER else given.classifier}"
    )
    for workers in (1, 2):
        print(
            f"  {workers} worker(s): {median(rates[workers][1:]):.2f} fields/s by the clock, "
            f"{median(costs[workers][1:]):.3f} processor seconds a field, {os.cpu_count()} cores"
        )
    print(f"two workers over one, by the clock: {median(ratios):.2f} (rounds: {_list(ratios)})")
    print(f"two workers over one, by processor seconds a field: {2 * median(effort):.2f} (rounds: {_list(effort, 2)})")
    busy = [100 - share for share in [psutil.cpu_times_percent(interval=1.0).idle]]
    print(f"the machine was {busy[0]:.0f} % busy a moment later: only on a quiet one does the clock tell the truth")


classified: dict[str, Any] = {}


def classify(plate: Plate, given: argparse.Namespace, *, client: Any) -> None:
    """Classify a plate and keep the run's summary."""
    classified["run"] = classify_plate(plate.path, classifier=given.classifier, device="cpu", client=client)


def overhead(given: argparse.Namespace) -> None:
    """Hand out units that do nothing, as large as those of a classification."""
    job = Job(
        "/share/plates/P001.zarr",
        "/share/classifiers/HeLa",
        "0" * 64,
        "auto",
        160,
        None,
        "mean",
        "exact",
        "/share",
        "0" * 64,
        0.5,
    )
    task = [Unit("A01", field, 0, ("0" * 64,) * RUN, (MEDIUM,) * RUN) for field in range(8)]
    units = [(job, task)] * given.units
    with cluster(workers=max(2, given.workers)) as client:
        list(map_units(nothing, units[:50], client=client))
        cost = costed(client, lambda: list(map_units(nothing, units, client=client)))
    per = [1e3 * seconds / given.units for seconds in (cost.wall, cost.here, cost.there)]
    frames = len(task) * RUN
    print(
        f"{given.units} units of {frames} frames, {max(2, given.workers)} workers: {per[0]:.1f} ms a unit by the clock"
    )
    print(f"  processor time: {per[1]:.1f} ms of scheduler and client, {per[2]:.1f} ms of workers")
    print(f"  a frame's share of the scheduler's and client's time: {per[1] / frames:.3f} ms")


def nothing(job: Job, units: list[Unit]) -> Done:
    """The answer of a task, without the work."""
    return Done(frames=sum(len(unit.inputs) for unit in units), host="here")


def plate_of_frames(given: argparse.Namespace) -> None:
    """Classify a plate of many tiny frames through a cluster, and watch the memory of this process."""
    plate = simulated_plate(given, side=given.field_px or 160, timepoints=given.timepoints)
    shutil.rmtree(work_folder(plate.path), ignore_errors=True)
    me, seen = psutil.Process(), dict[int, float]()

    def watch(done: int, total: int, text: str) -> None:
        reached = int(100 * done / total)
        for mark in (0, 10, 25, 50, 75, 100):
            if reached >= mark and mark not in seen:
                seen[mark] = me.memory_info().rss / 1e6
                print(f"  {mark:3d} %: {seen[mark]:.0f} MB in the process that hands out", flush=True)

    with cluster(workers=max(2, given.workers)) as client:
        start, here = time.perf_counter(), time.process_time()
        run = classify_plate(plate.path, classifier=given.classifier, device="cpu", client=client, progress=watch)
        wall, here = time.perf_counter() - start, time.process_time() - here
        workers = {worker: about["metrics"]["memory"] / 1e6 for worker, about in _workers(client).items()}
    frames = len(plate.wells) * given.timepoints
    print(f"{len(plate.wells)} wells x {given.timepoints} timepoints = {frames} frames, {run.workers} workers")
    print(
        f"{wall:.0f} s; the process that hands out: {here:.1f} processor seconds, {1e3 * here / frames:.2f} ms a frame"
    )
    print(f"memory after the end: {me.memory_info().rss / 1e6:.0f} MB here, workers {_list(list(workers.values()))} MB")
    print(f"grown from 10 % to 100 %: {seen[100] - seen[10]:+.0f} MB")
    for line in run.lines():
        print(line)


def _workers(client: Any) -> dict[str, Any]:
    return dict(client.scheduler_info(n_workers=-1)["workers"])


def simulated_plate(given: argparse.Namespace, *, side: int, timepoints: int) -> Plate:
    """A plate of one field a well, as conversion leaves it; one that is there already is taken."""
    path = given.out / f"S{given.wells}x{timepoints}x{side}.zarr"
    if (path.parent / f"{path.stem}.results.zarr").exists():
        return open_plate(path)
    rows, columns = FORMATS[384]
    wells = [well_name(number // columns, number % columns) for number in range(given.wells)]
    shape = (1, side, side)
    plate = create_plate(
        path.resolve(),
        name=path.stem,
        wells=wells,
        fields=1,
        timepoints=timepoints,
        shape_zyx=shape,
        voxel_um=(1.0, 0.16, 0.16),
        rows=rows,
        columns=columns,
        hours=[0.5 * number for number in range(timepoints)],
        provenance={"step": "benchmark"},
    )
    with cluster(workers=given.workers) as client:
        units = [(plate, well) for well in wells]
        for done, (_, outcome) in enumerate(map_units(write_well, units, client=client), start=1):
            if isinstance(outcome, Exception):
                raise outcome
            if done % 64 == 0:
                print(f"  {done} of {len(wells)} wells written", file=sys.stderr, flush=True)
    medium = np.full((len(wells), 1, timepoints), MEDIUM)
    fields = xr.Dataset({"medium_index": (("well", "field", "timepoint"), medium)}, coords={"well": wells})
    write_result(plate.path, "fields", fields, provenance={})
    return plate


def write_well(plate: Plate, well: str) -> None:
    """Medium with noise, and a cell in every patch."""
    rng = np.random.default_rng([plate.wells.index(well)])
    axis = np.arange(plate.shape_zyx[1]) % 160 - 80
    cell = np.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / 40.0**2)
    for timepoint in range(plate.timepoints):
        noise = rng.normal(0, 3, plate.shape_zyx[1:])
        counts = np.rint(MEDIUM * 1e4 + noise + rng.uniform(200, 500) * cell).astype(np.uint16)
        plate.write_field(well, field=0, timepoint=timepoint, volume=counts[None])


def _list(values: list[float], factor: float = 1) -> str:
    return ", ".join(f"{factor * value:.2f}" for value in values)


if __name__ == "__main__":
    main()
