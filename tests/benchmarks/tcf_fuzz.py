"""TCF files damaged at random: every one must give one clear error, or what it gave before the damage.

Bits are flipped and files cut, at structural boundaries and anywhere. Children do the reading, under limits of
memory and time, since HDF5 has crashed on damaged files before: a child that dies is a finding.

HDF5 guards only its newer structures by checksums, and of the codecs only deflate has one. What comes of a
damaged file is therefore one of:

- refused: one clear error, for the file or for the frame;
- same: everything is as before, the damage lies in what nobody reads;
- voxel, chunk: a bit of an unpacked voxel changed that voxel, one in a chunk packed by Zstandard, Blosc or LZF
  changed voxels of that chunk, and nothing else;
- number: an attribute or the number of a frame changed, and no image;
- missing: part of an image is lost and is said to be missing, the rest is as before;
- unguarded: an image changed because its description did, in a header that has no checksum;
- crash, hang, other error, wrong: faults of the reader. There must be none.

    python -m tests.benchmarks.tcf_fuzz [MUTATIONS] [SEED]
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from plates.errors import AcquisitionError
from plates.ingest.acquisition import read_frame
from plates.ingest.tcf import open_tcf
from plates.simulation.acquisition import FluorescenceFrames, write_tcf
from tests.plates.tcf_files import Stored, write_file

SHAPE = (6, 24, 20)
MEMORY_BYTES = 1 << 30  # beyond what the interpreter and its libraries take
SECONDS = 20  # for one damaged file
BATCH = 500  # files a child reads
ALLOWED = ("refused", "same", "voxel", "chunk", "number", "missing")
FAULTS = ("crash", "hang", "other error", "wrong")


@dataclass(frozen=True)
class Mutation:
    """One damage: bits flipped (byte, bit), or the file cut to a length."""

    flips: tuple[tuple[int, int], ...] = ()
    cut: int = -1

    def apply(self, good: bytes) -> bytes:
        bad = bytearray(good if self.cut < 0 else good[: self.cut])
        for byte, bit in self.flips:
            bad[byte] ^= 1 << bit
        return bytes(bad)


@dataclass(frozen=True)
class Area:
    """Bytes of the file that hold voxels: of which image, how many, packed or not."""

    start: int
    stop: int
    image: str
    voxels: int
    packed: bool

    def holds(self, byte: int) -> bool:
        return self.start <= byte < self.stop


def main() -> None:
    mutations = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with tempfile.TemporaryDirectory() as folder:
        total: Counter[str] = Counter()
        for path in write_variants(Path(folder)):
            outcomes = fuzz(path, mutations=mutations // len(VARIANTS), seed=seed)
            counts = Counter(outcome for outcome, _ in outcomes)
            total += counts
            print(f"{path.stem:24}", dict(counts.most_common()), flush=True)
            for outcome, detail in outcomes:
                if outcome not in ALLOWED:
                    print("   ", outcome, detail)
        print(f"{'all':24}", dict(total.most_common()))


def fuzz(path: Path, *, mutations: int, seed: int, cuts: bool = True) -> list[tuple[str, str]]:
    """Damage a good file in many ways.

    Parameters
    ----------
    mutations
        Number of files with flipped bits.
    cuts
        Whether the file is also cut at every structural boundary and at as many random places.

    Returns
    -------
    outcomes
        What came of each damaged file and, where it is not harmless, which damage that was.
    """
    rng = np.random.default_rng(seed)
    good = path.read_bytes()
    areas = voxel_areas(path)
    todo = [_flips(rng, good, areas) for _ in range(mutations)]
    if cuts:
        edges = boundaries(path)
        places = sorted({*edges, *(int(at) for at in rng.integers(0, len(good), len(edges)))})
        todo += [Mutation(cut=at) for at in places if at < len(good)]
    outcomes = []
    for start in range(0, len(todo), BATCH):
        outcomes += _in_children(path, todo[start : start + BATCH])
    return outcomes


def voxel_areas(path: Path) -> list[Area]:
    """Where the voxels of each array lie in the file."""
    areas: list[Area] = []

    def visit(name: str, node: Any) -> None:
        if not isinstance(node, h5py.Dataset):
            return
        image = name.split("/TILE_")[0]
        if node.chunks is None:
            start = node.id.get_offset()
            if start is not None:
                areas.append(Area(start, start + node.id.get_storage_size(), image, node.size, packed=False))
            return
        packed = node.id.get_create_plist().get_nfilters() > 0
        for number in range(node.id.get_num_chunks()):
            chunk = node.id.get_chunk_info(number)
            stop = chunk.byte_offset + chunk.size
            areas.append(Area(chunk.byte_offset, stop, image, int(np.prod(node.chunks)), packed=packed))

    with h5py.File(path) as file:
        file.visititems(visit)
    return areas


def boundaries(path: Path) -> list[int]:
    """Offsets at which something of the file's structure begins or ends."""
    edges = {0, 8, 24, 48, 96, path.stat().st_size - 1}
    for area in voxel_areas(path):
        edges |= {area.start, area.stop}
    with h5py.File(path) as file:
        found: list[int] = []
        file.visititems(lambda name, node: found.append(h5py.h5o.get_info(node.id).addr))
    return sorted(edges | set(found))


def read_all(path: Path) -> dict[str, Any]:
    """Everything that the reader gives; an item it refuses alone is None."""
    everything: dict[str, Any] = {}
    with open_tcf(path, threads=2) as acquisition:
        numbers: list[Any] = [
            acquisition.voxel_um,
            acquisition.times_s,
            acquisition.recorded,
            acquisition.recorded_frames,
        ]
        numbers += [acquisition.medium_index, acquisition.positions_mm, acquisition.planned]
        numbers += [acquisition.fluorescence_transform, acquisition.channels]
        everything["numbers"] = str(numbers)
        everything["instrument"] = str(acquisition.instrument.to_dict())
        everything["frames"] = str((acquisition.frames, acquisition.shape_zyx, list(acquisition.channels)))
        for frame in acquisition.frames:
            everything[f"Data/3D/{frame:06d}"] = _or_none(lambda frame=frame: read_frame(acquisition, frame)[0])
            everything[f"Data/2DMIP/{frame:06d}"] = _or_none(lambda frame=frame: acquisition.own_projection(frame))
        for name, channel in acquisition.channels.items():
            for frame in channel.frames:
                everything[f"Data/3DFL/{name}/{frame:06d}"] = _or_none(
                    lambda name=name, frame=frame: acquisition.read_fluorescence(name, frame=frame)
                )
    return everything


def judge(found: dict[str, Any], truth: dict[str, Any], *, mutation: Mutation, areas: list[Area]) -> tuple[str, str]:
    """What came of a damaged file, the worst first."""
    outcomes: dict[str, str] = {}
    for key in {*found, *truth}:
        # frames come and go with their names: what is left must be right
        if key not in found or key not in truth or _equal(found[key], truth[key]):
            continue
        before, after = truth[key], found[key]
        if after is None:
            outcomes["refused"] = ""
            continue
        if not isinstance(before, np.ndarray) or not isinstance(after, np.ndarray) or before.shape != after.shape:
            outcomes["number"] = key
            continue
        hits = [area for area in areas for byte, _ in mutation.flips if area.image == key and area.holds(byte)]
        header = any(not any(area.holds(byte) for area in areas) for byte, _ in mutation.flips)
        changed = int(np.count_nonzero(before != after))
        if changed <= sum(area.voxels if area.packed else 1 for area in hits):
            outcomes["chunk" if any(area.packed for area in hits) else "voxel"] = ""
        elif header and not after[before != after].any():
            outcomes["missing"] = ""
        else:
            outcomes["unguarded" if header else "wrong"] = f"{key}: {changed} of {before.size} voxels"
    if found.keys() != truth.keys():
        outcomes["number"] = "frames"
    order = ("wrong", "unguarded", "missing", "chunk", "voxel", "number", "refused")
    return next(((outcome, outcomes[outcome]) for outcome in order if outcome in outcomes), ("same", ""))


def child(path: Path, listed: Path) -> None:
    """Read damaged copies of a file, one after the other, and say what came of each."""
    truth = read_all(path)
    areas = voxel_areas(path)
    good = path.read_bytes()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))
    # what a crashed child leaves is in the way, and says nothing
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in listed.read_text().splitlines():
        record = json.loads(line)
        mutation = Mutation(flips=tuple((byte, bit) for byte, bit in record["flips"]), cut=record["cut"])
        bad = path.with_name("damaged.TCF")
        bad.write_bytes(mutation.apply(good))
        signal.alarm(SECONDS)
        try:
            outcome = judge(read_all(bad), truth, mutation=mutation, areas=areas)
        except AcquisitionError as error:
            outcome = ("refused", "") if str(bad) in str(error) else ("wrong", f"the file is not named: {error}")
        except BaseException as error:
            outcome = ("other error", f"{type(error).__name__}: {error}")
        signal.alarm(0)
        with listed.with_suffix(".told").open("a") as told:
            told.write(json.dumps(outcome) + "\n")


def _in_children(path: Path, mutations: list[Mutation]) -> list[tuple[str, str]]:
    """Outcome of each damage; after a crash a new child goes on with the next."""
    outcomes: list[tuple[str, str]] = []
    while len(outcomes) < len(mutations):
        rest = mutations[len(outcomes) :]
        listed = path.with_suffix(".jsonl")
        listed.with_suffix(".told").write_text("")
        listed.write_text("".join(json.dumps(asdict(mutation)) + "\n" for mutation in rest))
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.tcf_fuzz", "--child", str(path), str(listed)],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
            check=False,
        )
        # not by its output: decoders print there
        told = [tuple(json.loads(line)) for line in listed.with_suffix(".told").read_text().splitlines()]
        if done.returncode and not told and "Traceback" in done.stderr:
            raise RuntimeError(done.stderr)
        outcomes += [
            (outcome, detail and f"{detail} {mutation}")
            for (outcome, detail), mutation in zip(told, rest, strict=False)
        ]
        if len(told) < len(rest):
            how = "hang" if done.returncode == -signal.SIGALRM else "crash"
            outcomes.append((how, f"{done.returncode} {rest[len(told)]} {done.stderr[-300:]}"))
    return outcomes


def _flips(rng: np.random.Generator, good: bytes, areas: list[Area]) -> Mutation:
    """One or three flipped bits, four of five in what is not voxels, and there mostly where something is."""
    data = np.zeros(len(good), dtype=bool)
    for area in areas:
        data[area.start : area.stop] = True
    structure = np.flatnonzero(~data)
    used = structure[np.frombuffer(good, dtype=np.uint8)[structure] != 0]
    flips = []
    for _ in range(rng.choice([1, 1, 1, 3])):
        pool = rng.choice(3, p=[0.2, 0.2, 0.6])
        places = (np.flatnonzero(data), structure, used)[pool]
        flips.append((int(rng.choice(places)), int(rng.integers(8))))
    return Mutation(flips=tuple(flips))


def _or_none(read: Any) -> Any:
    try:
        return read()
    except AcquisitionError:
        return None


def _equal(a: Any, b: Any) -> bool:
    return isinstance(a, np.ndarray) == isinstance(b, np.ndarray) and bool(np.array_equal(a, b))


def _tomogram(seed: int) -> np.ndarray:
    counts = np.random.default_rng(seed).integers(13360, 13900, SHAPE).astype(np.uint16)
    counts[:, :, :2] = 0
    return counts


def _plain(dtype: str = "<u2", **layout: Any) -> dict[int, Stored]:
    return {
        number: Stored(
            (_tomogram(number) / (1e4 if "f" in dtype else 1)).astype(dtype), _tomogram(number), layout=layout
        )
        for number in range(2)
    }


def _simulated(path: Path, variant: Any) -> None:
    stack = np.random.default_rng(3).integers(0, 4000, (3, 20, 20)).astype(np.uint16)
    frames = FluorescenceFrames(frames=[stack], voxel_um=(1.0, 0.2, 0.2), times_s=[0.0], offset_z_um=2.0)
    write_tcf(
        path,
        frames=[_tomogram(0), _tomogram(1)],
        voxel_um=(0.95, 0.16, 0.16),
        times_s=[0.0, 1800.0],
        medium_index=1.337,
        recording_time=datetime(2026, 3, 14, 9, 26, 53),
        variant=variant,
        fluorescence={"CH0": frames},
    )


VARIANTS: dict[str, Any] = {
    "contiguous": lambda path: write_file(path, _plain(), count=2),
    "gzip": lambda path: write_file(path, _plain(compression="gzip", chunks=(2, 12, 20)), count=2),
    "gzip float": lambda path: write_file(
        path, _plain("<f4", compression="gzip", shuffle=True, chunks=(1, 24, 20)), count=2
    ),
    "blosc": lambda path: write_file(path, _plain(chunks=(3, 24, 20), **hdf5plugin.Blosc()), count=2),
    "new format": lambda path: write_file(
        path, _plain(compression="gzip", chunks=(2, 12, 20)), count=2, libver="latest"
    ),
    "lzf, checked": lambda path: write_file(
        path, _plain(chunks=(2, 24, 20), compression="lzf", fletcher32=True), count=2
    ),
    "szip": lambda path: write_file(path, _plain(chunks=(2, 24, 20), compression="szip"), count=2),
    "bitshuffle": lambda path: write_file(path, _plain(chunks=(2, 24, 20), **hdf5plugin.Bitshuffle()), count=2),
    "blosc2": lambda path: write_file(path, _plain(chunks=(2, 24, 20), **hdf5plugin.Blosc2()), count=2),
    "zstd": lambda path: _simulated(path, "uint16"),
    "tiles": lambda path: _simulated(path, "ldm"),
    "8-bit tiles": lambda path: _simulated(path, "ldm8"),
}


def write_variants(folder: Path) -> Iterator[Path]:
    """A small good file of every kind."""
    for name, write in VARIANTS.items():
        path = folder / f"{name}.TCF"
        write(path)
        yield path


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
