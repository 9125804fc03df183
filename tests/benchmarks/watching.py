"""Watching a folder into which another process writes: the same results as `run`, and how far behind the files it is.

    python -m tests.benchmarks.watching --wells 50 --every 20 --out /tmp/watching

Some files are cut short at first and completed later, some are written under another name and renamed. The lag is set
beside what one field takes on its own, measured in the same process right after.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from plates.results import read_result
from plates.store import open_plate
from screening.analyse import PLATE_RESULTS
from screening.classify import classify_plate
from screening.demo import simulate_campaign
from screening.pipeline import run
from screening.settings import Settings, read_settings
from screening.watch import Watched, watch

RESULTS = ("layout", "fields", "sources", "probabilities", *PLATE_RESULTS)


def write_slowly(files: Sequence[tuple[str, str]], *, every_s: float, cut_s: float) -> None:
    """Copy files one after the other: whole, cut short at first, or under another name at first."""
    for number, (source, target) in enumerate(files):
        place = Path(target)
        place.parent.mkdir(parents=True, exist_ok=True)
        data = Path(source).read_bytes()
        if number % 3 == 0:
            place.write_bytes(data[: len(data) // 2])
            time.sleep(cut_s)
            with place.open("r+b") as file:
                file.seek(0, 2)
                file.write(data[file.tell() :])
        elif number % 3 == 1:
            temporary = place.with_name(place.name + ".part")
            temporary.write_bytes(data)
            time.sleep(every_s / 2)
            temporary.rename(place)
        else:
            place.write_bytes(data)
        time.sleep(every_s)


def start_writer(source: Path, target: Path, *, every_s: float, cut_s: float) -> "subprocess.Popen[bytes]":
    """Start a process that copies all TCF files below a folder, slowly."""
    files = [(str(file), str(target / file.relative_to(source))) for file in sorted(source.rglob("*.TCF"))]
    command = (
        "from tests.benchmarks.watching import write_slowly; import json, sys; write_slowly(**json.load(sys.stdin))"
    )
    process = subprocess.Popen([sys.executable, "-c", command], stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(json.dumps({"files": files, "every_s": every_s, "cut_s": cut_s}).encode())
    process.stdin.close()
    return process


def campaign(folder: Path, *, wells: int, shape: tuple[int, int, int], classifier: Path | None) -> tuple[Path, Path]:
    """Simulate a plate of so many wells; return its acquisitions, and the settings of an empty folder beside them."""
    source = folder / "source"
    # four vehicles, one well of each inducer, and one compound in as many doses as wells are left
    doses = tuple(float(dose) for dose in np.geomspace(0.03, 30, max(1, wells - 7)))
    simulate_campaign(
        source,
        seed=5,
        plates=1,
        compounds=1,
        hours=(0.0,),
        fields=1,
        shape=shape,
        workers=1,
        doses_um=doses,
        vehicles=4,
        inducers=1,
    )
    (folder / "P001").mkdir(exist_ok=True)
    shutil.copy(source / "P001.csv", folder)
    text = (source / "screen.toml").read_text().replace(str(source / "results"), str(folder / "results"))
    if classifier is not None:
        text += f'\n[classifier]\npath = "{classifier.as_posix()}"\n'
    settings = folder / "screen.toml"
    settings.write_text(text)
    return source / "P001", settings


def differences(one: Path, other: Path) -> list[str]:
    """Results, projections and maps of states in which two plates differ."""
    found = []
    for name in RESULTS:
        first, second = read_result(one, name), read_result(other, name)
        for dataset in (first, second):
            dataset.attrs.pop("provenance", None)
        if not first.identical(second):
            found.append(name)
    first_plate, second_plate = open_plate(one), open_plate(other)
    for well in first_plate.wells:
        for field in range(first_plate.fields):
            for timepoint in range(first_plate.timepoints):
                place = {"field": field, "timepoint": timepoint}
                for what in ("volume", "projection", "classes"):
                    images = [getattr(plate, what)(well, **place) for plate in (first_plate, second_plate)]
                    if not np.array_equal(*images):
                        found.append(f"{what} of {well} {place}")
    return found


def elsewhere(settings: Settings, folder: Path) -> Settings:
    """The same settings with another folder for the results."""
    return settings.model_copy(update={"campaign": settings.campaign.model_copy(update={"out": folder})})


def one_field(settings: Settings, folder: Path) -> float:
    """Seconds that one field takes on its own, from its file to its stored numbers, with the classifier loaded.

    Median over up to nine fields: its conversion, and the classification of a plate that holds it alone.
    """
    from plates.ingest.convert import ingest

    plate = settings.plates[0]
    taken = []
    for number, file in enumerate(sorted(plate.acquisitions.rglob("*.TCF"))[:9]):
        alone = folder / f"alone{number}"
        alone.mkdir(parents=True)
        shutil.copy(file, alone)
        started = time.monotonic()
        ingest(alone, out=folder / f"alone{number}.zarr")
        classify_plate(
            folder / f"alone{number}.zarr",
            classifier=settings.classifier.folder,
            stride=settings.classify.stride_px,
            batch=settings.classify.batch,
            device=settings.classifier.device,
        )
        taken.append(time.monotonic() - started)
    return float(np.median(taken[1:] or taken))  # the first one pays for what is loaded once


def measure(folder: Path, *, wells: int, every_s: float, settle_s: float, shape: tuple[int, int, int]) -> Watched:
    """Watch, run, compare, and print a row for the table of benchmarks."""
    source, file = campaign(folder, wells=wells, shape=shape, classifier=None)
    settings = read_settings(file)
    target = settings.plates[0].acquisitions
    writer: list[subprocess.Popen[bytes]] = []

    def tell(text: str) -> None:
        if not writer:  # the classifier is loaded; the first file comes now
            writer.append(start_writer(source, target, every_s=every_s, cut_s=2 * settle_s + every_s))
        sys.stderr.write(text + "\n")

    watched = watch(settings, settle_s=settle_s, expected=(1, 1), port=None, tell=tell)
    writer[0].wait()
    plain = run(elsewhere(settings, folder / "plain"))
    different = differences(watched.outcome.plates["P001"], plain.plates["P001"])
    pure = one_field(settings, folder / "alone")
    parts = {one.stage: asdict(one) for one in watched.lag}
    p95 = parts["all"]["p95"]
    print(f"{wells} files, one every {every_s:g} s, settle time {settle_s:g} s, fields of {shape} voxels")
    print(f"differences from run: {different or 'none'}")
    for name, one in parts.items():
        print(f"  {name:12} median {one['p50']:6.2f} s, p95 {one['p95']:6.2f} s")
    print(f"one field alone {pure:.2f} s; (p95 - settle time) / one field = {(p95 - settle_s) / pure:.2f} (goal 1.5)")
    return watched


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="An empty folder.")
    parser.add_argument("--wells", type=int, default=12)
    parser.add_argument("--every", type=float, default=4.0, help="Seconds between two files.")
    parser.add_argument("--settle", type=float, default=2.0)
    parser.add_argument("--side", type=int, default=512, help="Pixels of a field along y and x.")
    given = parser.parse_args()
    given.out.mkdir(parents=True)
    measure(
        given.out,
        wells=given.wells,
        every_s=given.every,
        settle_s=given.settle,
        shape=(16, given.side, given.side),
    )


if __name__ == "__main__":
    main()
