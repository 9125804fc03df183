"""Conversion against its floor, against other writers, and against itself on larger plates; and its memory.

    python -m tests.benchmarks.conversion WORK [speed] [peers] [growth] [memory]

Everything is written below WORK (about 5 GB, sparse files not counted). Rounds are interleaved and medians of ratios
are printed, because the machine is shared. The floor of a conversion is reading the same bytes and compressing them
with the same codec on as many threads, and nothing else: no projections, no coarser levels, no file is written.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import h5py
import numpy as np
from scipy.ndimage import gaussian_filter

from plates.ingest import units
from plates.ingest.convert import ingest
from plates.ingest.names import discover
from plates.levels import volume_levels
from plates.simulation.acquisition import acquisition_name, write_tcf
from screening.cluster import cluster

SHAPES = {"60 x 1059 x 1059": (60, 1059, 1059), "70 x 1414 x 1414": (70, 1414, 1414)}
FRAMES = {"60 x 1059 x 1059": 16, "70 x 1414 x 1414": 8}
VOXEL_UM = (0.839, 0.155, 0.155)
START = datetime(2026, 1, 1)
THREADS = 2
ROUNDS = 3


def main(work: Path, parts: Sequence[str]) -> None:
    """Run the parts named, or all."""
    work.mkdir(parents=True, exist_ok=True)
    for part in parts or ("speed", "peers", "growth", "memory"):
        {"speed": speed, "peers": peers, "growth": growth, "memory": memory}[part](work)


def tomogram(shape: tuple[int, int, int], *, seed: int) -> np.ndarray:
    """Medium with band-limited noise of 6 counts and some cells: about as hard to compress as a real one."""
    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.normal(0, 1, shape).astype(np.float32), (0.5, 1, 1))
    volume = 13370 + noise * (6 / noise.std())
    z, y, x = (np.arange(size, dtype=np.float32) for size in shape)
    for _ in range(shape[1] * shape[2] // 60_000):
        centre, radius = rng.uniform(0, 1, 2) * shape[1:], rng.uniform(40, 80)
        rows = np.abs(y - centre[0]) < radius
        columns = np.abs(x - centre[1]) < radius
        flat = (y[rows, None] - centre[0]) ** 2 + (x[None, columns] - centre[1]) ** 2
        height = np.clip(1 - flat / radius**2, 0, None) * shape[0] * 0.6
        inside = z[:, None, None] < height[None]
        volume[:, rows[:, None] & columns[None, :]] += (inside * rng.uniform(80, 250)).reshape(shape[0], -1)
    counts: np.ndarray = np.rint(volume).astype(np.uint16)
    return counts


def write_series(folder: Path, *, shape: tuple[int, int, int], frames: int, compression: str) -> list[Path]:
    """One TCF file with some frames; contiguous as HT-X1 files probably are, or gzip with slices as chunks."""
    first = tomogram(shape, seed=1)
    rolled = [np.roll(first, 37 * number, axis=2) for number in range(frames)]
    name = acquisition_name(START, experiment="speed", number=1, group="g", well="A01", suffix="T001P01")
    path = write_tcf(
        folder / name,
        frames=rolled,
        voxel_um=VOXEL_UM,
        times_s=[600.0 * number for number in range(frames)],
        medium_index=1.337,
        recording_time=START,
        compression="none",
    )
    if compression == "gzip":
        with h5py.File(path, "r+") as file:
            for number, frame in enumerate(rolled):
                node = file[f"Data/3D/{number:06d}"]
                attributes = dict(node.attrs)
                del file[f"Data/3D/{number:06d}"]
                node = file.create_dataset(
                    f"Data/3D/{number:06d}", data=frame, chunks=(1, *shape[1:]), compression="gzip", compression_opts=1
                )
                node.attrs.update(attributes)
    return [path]


def floor(paths: Sequence[Path], *, threads: int) -> tuple[float, int]:
    """Seconds to read all frames and compress their chunks, and the bytes that come out."""
    import zlib

    import numcodecs.blosc as blosc

    blosc.use_threads = False
    jobs = []
    for path in paths:
        with h5py.File(path, "r") as file:
            jobs += [(path, name) for name in file["Data/3D"]]

    def read(path: Path, name: str) -> np.ndarray:
        with h5py.File(path, "r") as file:
            node = file[f"Data/3D/{name}"]
            if node.chunks is None:
                return np.fromfile(path, np.uint16, count=node.size, offset=node.id.get_offset()).reshape(node.shape)
            # h5py would decode behind its lock on one core; this is as fast as anybody can read it
            slices = [
                zlib.decompress(node.id.read_direct_chunk((z, 0, 0))[1], bufsize=2 * node.shape[1] * node.shape[2])
                for z in range(node.shape[0])
            ]
            return np.frombuffer(b"".join(slices), np.uint16).reshape(node.shape)

    def one(job: tuple[Path, str]) -> int:
        volume = read(*job)
        depth, height, width = volume_levels(volume.shape)[0].chunk
        return sum(
            len(
                blosc.compress(
                    np.ascontiguousarray(volume[z : z + depth, y : y + height, x : x + width]), b"zstd", 1, 2, 0
                )
            )
            for z, y, x in product(
                *(range(0, size, step) for size, step in zip(volume.shape, (depth, height, width), strict=True))
            )
        )

    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        size = sum(pool.map(one, jobs))
    return time.perf_counter() - started, size


def convert(folder: Path, out: Path, *, client: Any = None) -> tuple[float, int]:
    """Seconds of `ingest`, all told, and the bytes of the plate."""
    shutil.rmtree(out.parent, ignore_errors=True)
    started = time.perf_counter()
    ingest(folder, out=out, client=client)
    return time.perf_counter() - started, size_of(out.parent)


def hashing(folder: Path) -> float:
    """CPU seconds of the sources' SHA-256 alone."""
    started = time.process_time()
    for source in discover(folder):
        units.source_sha256(source)
    return time.process_time() - started


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def speed(work: Path) -> None:
    """Ratio of conversion to its floor."""
    print(
        f"\nConversion by {THREADS} worker processes against its floor on {THREADS} threads, {ROUNDS} rounds, medians"
    )
    print("| frames | stored as | floor MB/s | ratio | ratio without SHA-256 | size of the plate / floor's bytes |")
    print("|---|---|---|---|---|---|")
    with cluster(workers=THREADS, scheduler="") as client:
        for (name, shape), compression in product(SHAPES.items(), ("none", "gzip")):
            _speed_of(work, name, shape, compression=compression, client=client)


def _speed_of(work: Path, name: str, shape: tuple[int, int, int], *, compression: str, client: Any) -> None:
    folder = work / f"raw-{shape[1]}-{compression}"
    paths = list(folder.glob("*.TCF")) or write_series(
        folder, shape=shape, frames=FRAMES[name], compression=compression
    )
    convert(folder, work / "warm" / "P.zarr", client=client)
    table = []
    for _ in range(ROUNDS):
        base, size = floor(paths, threads=THREADS)
        ours, stored = convert(folder, work / "ours" / "P.zarr", client=client)
        # both cores are busy all the time, so hashing costs half of its CPU seconds
        plain = ours - hashing(folder) / THREADS
        table.append((base, ours / base, plain / base, stored / size))
    base, ours, plain, stored = (median(column) for column in zip(*table, strict=True))
    megabytes = 2 * np.prod(shape) * FRAMES[name] / 1e6
    row = f"| {FRAMES[name]} of {name} | {compression} | {megabytes / base:.0f} | {ours:.2f} | {plain:.2f} "
    print(f"{row}| {stored:.3f} |", flush=True)
    shutil.rmtree(folder)
    shutil.rmtree(work / "ours", ignore_errors=True)
    shutil.rmtree(work / "warm", ignore_errors=True)


def peers(work: Path) -> None:
    """The same volume by other writers: each with its defaults, which are what its users get."""
    print(f"\nOne frame of 60 x 1059 x 1059 by other writers, {ROUNDS} interleaved rounds, medians")
    folder = work / "raw-peers"
    paths = list(folder.glob("*.TCF")) or write_series(
        folder, shape=SHAPES["60 x 1059 x 1059"], frames=1, compression="none"
    )
    writers: dict[str, Callable[[Path, Path], None]] = {
        "ome-zarr-py, array": _by_ome_zarr,
        "ome-zarr-py, dask": _by_ome_zarr_dask,
        "ngio": _by_ngio,
    }
    table: dict[str, list[tuple[float, float, int]]] = {}
    convert(folder, work / "ours" / "P.zarr")
    for _ in range(ROUNDS):
        started, cpu = time.perf_counter(), time.process_time()
        _, size = convert(folder, work / "ours" / "P.zarr")
        table.setdefault("tomoscreen", []).append((time.perf_counter() - started, time.process_time() - cpu, size))
        for name, write in writers.items():
            target = work / "peer" / "image.zarr"
            shutil.rmtree(target.parent, ignore_errors=True)
            target.parent.mkdir()
            started, cpu = time.perf_counter(), time.process_time()
            write(paths[0], target)
            row = (time.perf_counter() - started, time.process_time() - cpu, size_of(target))
            table.setdefault(name, []).append(row)
    print("| writer | wall / ours | CPU / ours | MB | projections, statistics, SHA-256, fsync |")
    print("|---|---|---|---|---|")
    for name, rows in table.items():
        walls = [row[0] / ours[0] for row, ours in zip(rows, table["tomoscreen"], strict=True)]
        cpus = [row[1] / ours[1] for row, ours in zip(rows, table["tomoscreen"], strict=True)]
        extra = "yes" if name == "tomoscreen" else "no"
        print(f"| {name} | {median(walls):.2f} | {median(cpus):.2f} | {rows[-1][2] / 1e6:.0f} | {extra} |", flush=True)
    for leftover in ("raw-peers", "ours", "peer"):
        shutil.rmtree(work / leftover, ignore_errors=True)


def _volume(path: Path) -> np.ndarray:
    with h5py.File(path, "r") as file:
        return np.asarray(file["Data/3D/000000"][()])


def _by_ome_zarr(path: Path, target: Path) -> None:
    import zarr
    from ome_zarr.writer import write_image

    write_image(_volume(path)[None, None], zarr.open_group(str(target), mode="w"), axes="tczyx")


def _by_ome_zarr_dask(path: Path, target: Path) -> None:
    import dask.array as da
    import zarr
    from ome_zarr.writer import write_image

    volume = da.from_array(_volume(path)[None, None], chunks=(1, 1, 15, 1059, 1059))
    write_image(volume, zarr.open_group(str(target), mode="w"), axes="tczyx")


def _by_ngio(path: Path, target: Path) -> None:
    from ngio import create_ome_zarr_from_array

    create_ome_zarr_from_array(target, _volume(path), pixelsize=0.155, z_spacing=0.839, axes_names="zyx")


def growth(work: Path) -> None:
    """Cost of a field on plates of 8 to 384 fields."""
    print("\nCost of a field on larger plates (24 x 256 x 256, one thread), CPU ms a field")
    print("| fields | first run | second run, which converts nothing |")
    print("|---|---|---|")
    volume = tomogram((24, 256, 256), seed=3)
    for fields in (8, 24, 96, 384):
        folder = work / f"growth-{fields}"
        for number in range(fields):
            well = f"{chr(ord('A') + number // 24)}{number % 24 + 1:02d}"
            name = acquisition_name(START, experiment="e", number=number, group="g", well=well, suffix="S001")
            write_tcf(
                folder / name,
                frames=[np.roll(volume, number, axis=1)],
                voxel_um=VOXEL_UM,
                times_s=[0.0],
                medium_index=1.337,
                recording_time=START,
                compression="none",
            )
        runs = []
        for _ in range(2):
            started = time.process_time()
            ingest(folder, out=work / "grown" / "P.zarr")
            runs.append(1000 * (time.process_time() - started) / fields)
        print(f"| {fields} | {runs[0]:.1f} | {runs[1]:.1f} |", flush=True)
        shutil.rmtree(folder)
        shutil.rmtree(work / "grown")


def memory(work: Path) -> None:
    """Peak memory while a time lapse of 31 GiB is converted: a sparse file with four real frames."""
    shape, frames, real = (70, 1414, 1414), 120, (0, 40, 80, 119)
    folder = work / "long"
    name = acquisition_name(START, experiment="long", number=1, group="g", well="A01", suffix="T001P01")
    path = write_tcf(
        folder / name,
        frames=[tomogram(shape, seed=5)],
        voxel_um=VOXEL_UM,
        times_s=[0.0],
        medium_index=1.337,
        recording_time=START,
        compression="none",
    )
    with h5py.File(path, "r+") as file:
        volumes = file["Data/3D"]
        volumes.attrs["DataCount"] = [frames]
        first, attributes = volumes["000000"][()], dict(volumes["000000"].attrs)
        early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        for number in range(1, frames):
            space = h5py.h5s.create_simple(shape)
            h5py.h5d.create(volumes.id, f"{number:06d}".encode(), h5py.h5t.STD_U16LE, space, dcpl=early)
            node = volumes[f"{number:06d}"]
            node.attrs.update(attributes | {"Time": [600.0 * number]})
            if number in real:
                node.write_direct(np.roll(first, number, axis=1))
    gibibytes, used = path.stat().st_size / 2**30, path.stat().st_blocks * 512 / 2**30
    script = (
        "import sys; from pathlib import Path; from plates.ingest.convert import ingest\n"
        "ingest(Path(sys.argv[1]), out=Path(sys.argv[2]), threads=int(sys.argv[3]))\n"
        # not ru_maxrss, which a child inherits from its parent
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    print(f"\nTime lapse of {frames} frames of 70 x 1414 x 1414: {gibibytes:.1f} GiB ({used:.1f} GiB on the disk)")
    for threads in (1, THREADS):
        shutil.rmtree(work / "long-out", ignore_errors=True)
        command = [sys.executable, "-c", script, str(folder), str(work / "long-out" / "P.zarr"), str(threads)]
        peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
        print(f"peak memory of the converting process, {threads} threads: {peak / 1e6:.2f} GB", flush=True)
    shutil.rmtree(folder)
    shutil.rmtree(work / "long-out")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
