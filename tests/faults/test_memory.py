"""A long series under a limit of memory: conversion holds one slab, whatever the file holds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.small_plate import made_up_tomogram, write_small_acquisition
from tests.hosts import ROOT

resource = pytest.importorskip("resource", reason="limits of memory are Unix's")

SHAPE, FRAMES = (24, 256, 256), 24  # 75 MB in all, 3 MB a frame
ROOM = 48 << 20

# Converts a folder, or makes room for its file as a whole, with little more memory than the program itself has.
PROGRAM = """
import resource, sys
from pathlib import Path
import numpy as np
import zarr, xarray, pandas, numcodecs.blosc
from plates.ingest.convert import ingest
small, large, out, whole = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4] == "whole"
ingest(small, out=out / "first.zarr")  # all that is loaded once
used = 1024 * int(Path("/proc/self/status").read_text().split("VmData:")[1].split()[0])
resource.setrlimit(resource.RLIMIT_DATA, (used + int(sys.argv[5]), used + int(sys.argv[5])))
if whole:
    frames = np.ones(tuple(map(int, sys.argv[6:])), np.uint16)  # as much as the file holds
else:
    ingest(large, out=out / "P001.zarr")
print("done")
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same field with one frame, and with many."""
    found = []
    image = made_up_tomogram(1, shape=SHAPE)
    for name, frames in (("small", 1), ("large", FRAMES)):
        folder = tmp_path_factory.mktemp(name)
        write_small_acquisition(folder, "A01", [image] * frames)
        found.append(folder)
    return found[0], found[1]


def limited(folders: tuple[Path, Path], out: Path, how: str) -> "subprocess.CompletedProcess[str]":
    words = [*map(str, folders), str(out), how, *map(str, (ROOM, FRAMES, *SHAPE))]
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read as Linux tells it")
def test_a_series_larger_than_the_memory_is_converted(folders: tuple[Path, Path], tmp_path: Path) -> None:
    streamed = limited(folders, tmp_path, "streamed")
    assert streamed.stdout.strip() == "done", streamed.stderr
    whole = limited(folders, tmp_path / "whole", "whole")
    assert "done" not in whole.stdout
    assert "MemoryError" in whole.stderr
