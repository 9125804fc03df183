"""How much damage `verify` finds, how often it cries wolf, what protection costs, and how many kills a run survives.

python -m tests.benchmarks.integrity --faults 1000 --clean 100      share found, false alarms
python -m tests.benchmarks.integrity --overhead 3                   CPU time with and without protection
python -m tests.benchmarks.integrity --kills 50                     kill -9 at random moments, then compared
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from statistics import median
from unittest.mock import patch

from models.checksums import write_checksums
from screening.pipeline import run
from screening.settings import read_settings
from screening.verify import verify
from tests.faults.harm import assert_same_plate, assert_same_results, flip_bit, truncate
from tests.faults.small_plate import SmallCampaign, write_small_campaign


def main() -> None:
    """Run what was asked for and print its numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=0)
    parser.add_argument("--clean", type=int, default=0)
    parser.add_argument("--overhead", type=int, default=0, help="repetitions")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument("--shape", type=int, nargs=3, default=(8, 176, 176))
    parser.add_argument("--frames", type=int, default=3, help="of each of the 4 wells, for --overhead")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if asked.faults or asked.clean:
            campaign = finished(Path(folder) / "faults", wells=("A01", "B01", "B02"), frames=1)
            measure_faults(campaign, faults=asked.faults, clean=asked.clean, seed=asked.seed)
        if asked.overhead:
            measure_overhead(Path(folder) / "overhead", asked.overhead, shape=tuple(asked.shape), frames=asked.frames)
        if asked.kills:
            measure_kills(Path(folder) / "kills", asked.kills, seed=asked.seed)


def finished(folder: Path, **changes: object) -> SmallCampaign:
    """A small campaign that has run, with its record."""
    campaign = write_small_campaign(folder, **changes)  # type: ignore[arg-type]
    write_checksums(campaign.classifier)
    run(read_settings(campaign.settings))
    return campaign


def measure_faults(campaign: SmallCampaign, *, faults: int, clean: int, seed: int) -> None:
    """Damage one file at a time, verify, and put it back."""
    draw = random.Random(seed)
    places = {
        "plate": [campaign.store(), campaign.store().with_name("P001_mip.zarr")],
        "results": [campaign.store().with_name("P001.results.zarr"), campaign.out / "small.results.zarr"],
        "classifier": [campaign.classifier],
    }
    files = {
        name: [file for root in roots for file in sorted(root.rglob("*")) if file.is_file()]
        for name, roots in places.items()
    }
    wrong = sum(bool(verify([campaign.out, campaign.classifier]).bad) for _ in range(clean))
    print(f"{clean} verifications of undamaged stores: {wrong} false alarms", flush=True)
    tried: Counter[str] = Counter()
    found: Counter[str] = Counter()
    began = time.process_time()
    for _ in range(faults):
        name = draw.choice(list(places))
        file = draw.choice([file for file in files[name] if file.stat().st_size])
        data = file.read_bytes()
        kind = draw.choice(("bit", "cut"))
        if kind == "bit":
            flip_bit(file, byte=draw.randrange(len(data)), bit=draw.randrange(8))
        else:
            truncate(file, draw.randrange(len(data)))
        path = file if name == "classifier" else next(root for root in places[name] if root in file.parents)
        path = campaign.classifier if name == "classifier" else path
        if name == "plate":
            path = campaign.store()
        key = f"{name}, {'bit flipped' if kind == 'bit' else 'cut short'}"
        tried[key] += 1
        if verify([path]).bad:
            found[key] += 1
        else:
            print(f"not found: {file}, {kind}", flush=True)
        file.write_bytes(data)
    for key, count in sorted(tried.items()):
        print(f"{key}: {found[key]} of {count} found")
    print(f"all: {sum(found.values())} of {sum(tried.values())}; {time.process_time() - began:.0f} CPU s", flush=True)


@contextmanager
def unprotected() -> Iterator[None]:
    """Without checksums, seals, read-back, waiting for the disk and the records that vouch for contents.

    CRC-32C inside the shards stays: it belongs to the format of the stores.
    """
    off = {
        "plates.files.os.fsync": lambda _: None,
        "plates.ingest.units.fingerprint_of": lambda file: [file.stat().st_size, "00000000"],
        "screening.units.fingerprint_of": lambda file: [file.stat().st_size, "00000000"],
        "screening.regions.fingerprint_of": lambda file: [file.stat().st_size, "00000000"],
        "screening.regions.settle": lambda _: None,
        # results still list their files, for through that list they are read faster
        "plates.integrity.checksum": lambda _: "crc32:00000000",
        "plates.integrity.has_checksum": lambda *_: True,
        "plates.results._settle_all": lambda _: None,
        "plates.metadata.seal": lambda text: text,
        "plates.shards.seal": lambda text: text,
        "plates.results.seal": lambda text: text,
        "plates.integrity.seal": lambda text: text,
        "plates.integrity.seal_broken": lambda _: None,
        "plates.store.seal_broken": lambda _: None,
        "plates.metadata.seal_broken": lambda _: None,
        "screening.pipeline.recorded": lambda _: nullcontext({"warnings": []}),
        "screening.pipeline.read_run": lambda _: {},
        "screening.pipeline.for_crate": lambda _: {},
        "screening.pipeline.write_crate": lambda *_: None,
    }
    with ExitStack() as stack:
        for name, replacement in off.items():
            stack.enter_context(patch(name, replacement))
        yield


def measure_overhead(folder: Path, repetitions: int, *, shape: tuple[int, int, int], frames: int) -> None:
    """Run the same campaign with and without protection, in turns, and compare processor time.

    That of the processes that read the acquisitions counts too: they hash what they read either way.
    """
    campaign = write_small_campaign(folder, shape=shape, frames=frames)
    campaign.truth.clear()  # type: ignore[attr-defined]
    text = campaign.settings.read_text()
    spent: dict[str, list[float]] = {"with": [], "without": []}
    for number in range(repetitions + 1):
        for kind in ("with", "without") if number % 2 else ("without", "with"):
            out = folder / f"{kind}-{number}"
            campaign.settings.write_text(text.replace("/results", f"/{out.name}"))
            settings = read_settings(campaign.settings)
            began = processor_s()
            with unprotected() if kind == "without" else nullcontext():
                run(settings)
            if number:  # the first of each loads libraries
                spent[kind].append(processor_s() - began)
            shutil.rmtree(out)
    ratios = [one / other for one, other in zip(spent["with"], spent["without"], strict=True)]
    print(f"processor s with {median(spent['with']):.2f}, without {median(spent['without']):.2f}, medians of turns")
    print(f"overhead {median(ratios) - 1:+.1%}, turns {min(ratios) - 1:+.1%} to {max(ratios) - 1:+.1%}", flush=True)


def processor_s() -> float:
    """Processor time of this process and of those that it started and that ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def measure_kills(folder: Path, kills: int, *, seed: int) -> None:
    """Kill runs at random moments until one has been killed so often; each campaign is then finished and compared."""
    draw = random.Random(seed)
    calm = finished(folder / "calm")
    text = calm.settings.read_text()
    done = campaigns = 0
    longest = 20.0
    while done < kills:
        campaigns += 1
        out = folder / f"stormy-{campaigns}"
        calm.settings.write_text(text.replace(calm.out.as_posix(), out.as_posix()))
        for _ in range(10):
            process = subprocess.Popen(
                [sys.executable, "-m", "screening", "run", str(calm.settings)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            began = time.monotonic()
            while not out.exists() and process.poll() is None:
                time.sleep(0.05)  # it has begun when its folder is there
            try:
                process.wait(draw.uniform(0, longest / 3))
                longest = time.monotonic() - began
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                done += 1
        run(read_settings(calm.settings))
        assert_same_plate(out / "P001.zarr", calm.store())
        assert_same_results(out / "small.results.zarr", calm.out / "small.results.zarr")
        bad = verify([out]).bad
        print(f"{done} kills, {campaigns} campaigns: all equal to the calm run, {len(bad)} bad", flush=True)
        assert not bad


if __name__ == "__main__":
    main()
