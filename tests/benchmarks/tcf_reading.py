"""Speed of reading tomograms from TCF files: the reader with one and two threads beside plain h5py.

All ways read the same file in one process, in turn, several rounds; the medians are printed in MB/s of
decoded voxels. Files stay in the page cache, so the disk is left out: what is compared is copying and
decoding. The tomograms hold a medium with band-limited noise and cells, as real ones do.

    python -m tests.benchmarks.tcf_reading [ROUNDS]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from scipy.ndimage import gaussian_filter

from plates.ingest.acquisition import read_frame
from plates.ingest.tcf import open_tcf
from plates.simulation.acquisition import write_tcf

SHAPE = (60, 1059, 1059)
VOXEL_UM = (0.95, 0.155, 0.155)
FRAME = "Data/3D/000000"
NOISE = 5.0  # standard deviation, index x 1e4
LAYOUTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "uint16 contiguous": (np.uint16, {}),
    "uint16 gzip-1 (1, 1059, 1059)": (
        np.uint16,
        {"chunks": (1, *SHAPE[1:]), "compression": "gzip", "compression_opts": 1},
    ),
    "uint16 gzip-1 (8, 256, 256)": (np.uint16, {"chunks": (8, 256, 256), "compression": "gzip", "compression_opts": 1}),
    "uint16 shuffle + zstd (1, 1059, 1059)": (
        np.uint16,
        {"chunks": (1, *SHAPE[1:]), "shuffle": True, **hdf5plugin.Zstd(clevel=1)},
    ),
    "uint16 blosc-zstd (8, 256, 256)": (
        np.uint16,
        {"chunks": (8, 256, 256), **hdf5plugin.Blosc(cname="zstd", clevel=1)},
    ),
    "float32 gzip-1 (1, 1059, 1059)": (
        np.float32,
        {"chunks": (1, *SHAPE[1:]), "compression": "gzip", "compression_opts": 1},
    ),
}


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    truth = tomogram()
    print(f"{SHAPE[0]} x {SHAPE[1]} x {SHAPE[2]}, noise {NOISE:g} counts; MB/s of decoded voxels, median of {rounds}")
    print(f"{'stored as':40}{'ratio':>7}{'h5py':>8}{'ours, 1':>9}{'ours, 2':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for name, (dtype, options) in LAYOUTS.items():
            path = write(Path(folder) / "a.TCF", truth, dtype=dtype, options=options)
            ways: dict[str, Callable[[], None]] = {
                "h5py": partial(with_h5py, path),
                "ours, 1": partial(with_ours, path, threads=1),
                "ours, 2": partial(with_ours, path, threads=2),
            }
            with open_tcf(path, threads=2) as acquisition:  # also warms the cache
                np.testing.assert_array_equal(read_frame(acquisition, 0)[0], truth)
            seconds: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(rounds):
                for way, read in ways.items():
                    started = time.perf_counter()
                    read()
                    seconds[way].append(time.perf_counter() - started)
            size = truth.size * np.dtype(dtype).itemsize
            row = "".join(
                f"{size / np.median(seconds[way]) / 1e6:{width}.0f}" for way, width in zip(ways, (8, 9, 9), strict=True)
            )
            print(f"{name:40}{size / path.stat().st_size:7.2f}{row}", flush=True)
            path.unlink()


def tomogram() -> np.ndarray:
    """Medium with band-limited noise and 60 blobs, index x 1e4."""
    rng = np.random.default_rng(5)
    depth, height, width = SHAPE
    y, x = np.ogrid[:height, :width]
    cells = np.zeros((height, width))
    for _ in range(60):
        cy, cx, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(40, 90)
        np.maximum(cells, 250 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / radius**2), out=cells)
    counts = np.empty(SHAPE, dtype=np.uint16)
    for z in range(depth):
        noise = gaussian_filter(rng.standard_normal((height, width), dtype=np.float32), 1.2)
        focus = np.exp(-(((z - depth / 2) / 12) ** 2))
        counts[z] = np.rint(13370 + focus * cells + NOISE / noise.std() * noise)
    return counts


def write(path: Path, truth: np.ndarray, *, dtype: Any, options: dict[str, Any]) -> Path:
    """The file of the instrument, with its tomogram stored anew as wanted."""
    write_tcf(
        path,
        frames=[truth[:, :8, :8]],
        voxel_um=VOXEL_UM,
        times_s=[0.0],
        medium_index=1.337,
        recording_time=datetime(2026, 3, 14),
    )
    with h5py.File(path, "r+") as file:
        attributes = dict(file[FRAME].attrs)
        del file[FRAME]
        data = truth if dtype == np.uint16 else (truth / 1e4).astype(dtype)
        file.create_dataset(FRAME, data=data, **options).attrs.update(attributes)
        file["Data/3D"].attrs.update({f"Size{axis}": np.array([n]) for axis, n in zip("ZYX", SHAPE, strict=True)})
    return path


def with_h5py(path: Path) -> None:
    """Slices as they are stored, one chunk deep at a time; nothing is checked or converted."""
    with h5py.File(path, "r") as file:
        frame = file[FRAME]
        step = frame.chunks[0] if frame.chunks else 14
        for z in range(0, SHAPE[0], step):
            frame[z : z + step]


def with_ours(path: Path, *, threads: int) -> None:
    """Slabs as checked counts."""
    with open_tcf(path, threads=threads) as acquisition:
        for _ in acquisition.slabs(0):
            pass


if __name__ == "__main__":
    main()
