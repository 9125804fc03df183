"""HDF5 files that reach for other files, or that end the process that reads them (rows 6, 21 and 39)."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from plates.errors import AcquisitionError, UnfinishedError
from plates.ingest.acquisition import open_acquisition
from plates.ingest.apart import LIMITS, Limits, open_apart
from plates.ingest.convert import ingest, last_summary
from plates.ingest.survey import read_headers
from tests.faults.small_plate import made_up_tomogram, write_small_acquisition
from tests.plates.acquisitions import SHAPE, tomogram, write_one

CANARY = 54321  # no refractive index of any sample
FRAME = "Data/3D/000000"
linux = pytest.mark.skipif(sys.platform != "linux", reason="readers of their own are made on Linux only")


def external_storage(file: Any, secret: Path) -> None:
    del file[FRAME]
    raw = secret.with_suffix(".bin")
    file.create_dataset(FRAME, SHAPE, dtype=np.uint16, external=[(str(raw), 0, h5py.h5f.UNLIMITED)])


def external_link(file: Any, secret: Path) -> None:
    del file[FRAME]
    file[FRAME] = h5py.ExternalLink(str(secret), FRAME)


def external_link_midway(file: Any, secret: Path) -> None:
    del file["Data"]
    file["Data"] = h5py.ExternalLink(str(secret), "/Data")


def virtual_dataset(file: Any, secret: Path) -> None:
    del file[FRAME]
    layout = h5py.VirtualLayout(SHAPE, dtype=np.uint16)
    layout[:] = h5py.VirtualSource(str(secret), FRAME, shape=SHAPE)
    file.create_virtual_dataset(FRAME, layout)


def soft_loop(file: Any, secret: Path) -> None:
    del file[FRAME]
    file[FRAME] = h5py.SoftLink(f"/{FRAME}")


def soft_loop_midway(file: Any, secret: Path) -> None:
    del file["Data/3D"]
    file["Data/3D"] = h5py.SoftLink("/Data/3D")


REACHING = [external_storage, external_link, external_link_midway, virtual_dataset]


def write_secret(folder: Path) -> Path:
    canary = np.full(SHAPE, CANARY, dtype=np.uint16)
    secret = write_one(folder / "secret.h5", [canary])
    secret.with_suffix(".bin").write_bytes(canary.tobytes())
    return secret


def run_python(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program in a process of its own, which may crash without leaving its memory on the disk."""
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
    )


def read_under(path: Path, sent: signal.Signals, *, limits: Limits = LIMITS) -> None:
    """Read two frames; between them the reader gets a signal."""
    with open_apart(path, limits=limits) as acquisition:
        next(acquisition.slabs(0))
        os.kill(acquisition.process, sent)
        next(acquisition.slabs(acquisition.frames[-1]))


@pytest.mark.parametrize("reach", [*REACHING, soft_loop, soft_loop_midway])
def test_a_file_that_reaches_for_another_is_refused_and_no_value_of_it_is_read(
    tmp_path: Path, reach: Callable[[Any, Path], None]
) -> None:
    secret = write_secret(tmp_path / "elsewhere")
    folder = tmp_path / "in"
    good = write_small_acquisition(folder, "A01", [made_up_tomogram(1, shape=SHAPE)])
    bad = write_small_acquisition(folder, "A02", [made_up_tomogram(2, shape=SHAPE)], number=2)
    with h5py.File(bad, "r+") as file:
        reach(file, secret)
    if reach in REACHING:
        with h5py.File(bad) as file:  # off-check: HDF5 itself opens the other file without asking
            assert (file[FRAME][:] == CANARY).all()
    os.utime(secret, (1, 1))
    with pytest.raises(UnfinishedError, match=r"link to elsewhere|takes its data from another file") as caught:
        ingest(folder, out=tmp_path / "p.zarr")
    assert bad.name in str(caught.value)
    assert good.name not in str(caught.value)
    canary = np.uint16(CANARY).tobytes() * 4
    written = [file for file in tmp_path.rglob("p.zarr*/**/*") if file.is_file()]
    assert written
    for file in written:
        data = file.read_bytes()
        assert canary not in data, file
        assert str(CANARY).encode() not in data, file
    assert last_summary(tmp_path / "p.zarr").failed_files == 1


@linux
def test_a_crash_of_the_reader_is_told_of_its_file_and_others_go_on(tmp_path: Path) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(0), tomogram(1)])
    with pytest.raises(AcquisitionError, match=r"a\.TCF: it ended the process that read it \(SIGSEGV\)"):
        read_under(path, signal.SIGSEGV)
    with open_apart(path) as acquisition:  # another reader does what the dead one cannot
        np.testing.assert_array_equal(next(acquisition.slabs(1)).counts, tomogram(1))
    # off-check: read in this process, the same end takes everything with it
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom plates.ingest.acquisition import open_acquisition\n"
        f"with open_acquisition(Path({str(path)!r})) as acquisition:\n"
        "    next(acquisition.slabs(0))\n    os.kill(os.getpid(), signal.SIGSEGV)\nprint('goes on')\n"
    )
    done = run_python(program)
    assert done.returncode == -signal.SIGSEGV
    assert "goes on" not in done.stdout


@linux
def test_a_killed_server_is_started_again(tmp_path: Path) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(0)])
    with open_apart(path) as acquisition:
        reader = acquisition.process
    parent = int(Path(f"/proc/{reader}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(parent, signal.SIGKILL)
    os.kill(reader, signal.SIGKILL)
    for _ in range(2):
        try:
            with open_apart(path) as acquisition:
                assert acquisition.frames == (0,)
            return
        except AcquisitionError:  # an idle reader that died as well costs one file
            continue
    pytest.fail("no reader came back")


@linux
def test_a_reader_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(0)])
    with pytest.raises(AcquisitionError, match=r"a\.TCF: its reader gave no answer for 0\.5 s"):
        read_under(path, signal.SIGSTOP, limits=Limits(silent_seconds=0.5))


@linux
def test_a_reader_that_keeps_computing_is_ended(tmp_path: Path) -> None:
    program = "from plates.ingest.child import _limit_seconds\n_limit_seconds(0)\nwhile True: pass"
    done = run_python(program)
    assert done.returncode == -signal.SIGXCPU
    path = write_one(tmp_path / "a.TCF", [tomogram(0), tomogram(1)])
    with pytest.raises(AcquisitionError, match=r"a\.TCF: reading it takes too long"):
        read_under(path, signal.SIGXCPU)


@linux
def test_what_a_reader_says_is_not_believed(tmp_path: Path) -> None:
    def read() -> None:
        with open_apart(write_one(tmp_path / "a.TCF", [tomogram(0)])) as acquisition:
            acquisition.shape_zyx = (6, 70, 65)  # as if the reader had said so, and then gave another
            next(acquisition.slabs(0))

    with pytest.raises(AcquisitionError, match="its reader gave a slab of"):
        read()


@linux
def test_readers_give_what_is_read_here(tmp_path: Path) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(0), tomogram(1)])
    with open_acquisition(path) as here, open_apart(path) as apart:
        for name in ("frames", "planned", "shape_zyx", "voxel_um", "recorded", "medium_index", "format", "stored"):
            assert getattr(apart, name) == getattr(here, name)
        assert dict(apart.times_s) == dict(here.times_s)
        assert apart.describe_instrument() == here.describe_instrument()
        unwanted = apart.slabs(0)
        next(unwanted)  # a frame that nobody reads to its end
        for frame in (0, 1):
            for one, other in zip(here.slabs(frame), apart.slabs(frame), strict=True):
                np.testing.assert_array_equal(one.counts, other.counts)


@linux
def test_readers_have_no_keys_of_the_one_who_asks(tmp_path: Path) -> None:
    program = (
        "import os\nfrom pathlib import Path\nfrom plates.ingest.apart import open_apart\n"
        f"with open_apart(Path({str(write_one(tmp_path / 'a.TCF', [tomogram(0)]))!r})) as acquisition:\n"
        "    print(Path(f'/proc/{acquisition.process}/environ').read_text())\n"
    )
    keys = {"AWS_SECRET_ACCESS_KEY": "canary-key", "HDF5_PLUGIN_PATH": "/canary-plugins"}
    done = run_python(program, **keys)
    assert "PATH=" in done.stdout
    assert "canary" not in done.stdout


@linux
def test_many_files_share_a_reader_and_a_refused_one_costs_it(tmp_path: Path) -> None:
    paths = [write_one(tmp_path / f"{number}.TCF", [tomogram(number)]) for number in range(3)]
    readers = []
    for path in paths:
        with open_apart(path) as acquisition:
            readers.append(acquisition.process)
    assert len(set(readers)) == 1
    paths[1].write_bytes(paths[1].read_bytes()[:2000])
    with pytest.raises(AcquisitionError, match="not a complete TCF"), open_apart(paths[1]):
        pass
    with open_apart(paths[2]) as acquisition:
        assert acquisition.process != readers[0]


def test_a_file_cut_short_fails_alone_with_its_reason(tmp_path: Path) -> None:
    good = write_small_acquisition(tmp_path / "in", "A01", [made_up_tomogram(1, shape=SHAPE)])
    bad = write_small_acquisition(tmp_path / "in", "A02", [made_up_tomogram(2, shape=SHAPE)], number=2)
    size = bad.stat().st_size
    cuts = [int(cut) for cut in np.random.default_rng(0).integers(0, size, 5)]
    for cut in cuts:
        whole = bad.read_bytes()
        bad.write_bytes(whole[:cut])
        with pytest.raises(UnfinishedError) as caught:
            ingest(tmp_path / "in", out=tmp_path / f"{cut}.zarr")
        assert caught.value.exit_code == 4
        assert bad.name in str(caught.value)
        assert last_summary(tmp_path / f"{cut}.zarr").converted == 1
        bad.write_bytes(whole)
    assert good.exists()


def test_headers_of_a_folder_survive_any_file(tmp_path: Path) -> None:
    from plates.ingest.manifest import Source

    rng = np.random.default_rng(5)
    good = write_one(tmp_path / "good.TCF", [tomogram(0)]).read_bytes()
    sources = []
    for number in range(20):
        bad = bytearray(good)
        for place in rng.integers(0, 4096, 3):
            bad[place] ^= 1 << int(rng.integers(8))
        (tmp_path / f"{number}.TCF").write_bytes(bad)
        sources.append(Source(path=tmp_path / f"{number}.TCF", well="A01", field=number, timepoint=0))
    headers = read_headers(sources, threads=2)
    assert len(headers) == 20
    assert any(header.problem for header in headers)
    assert all(str(header.source.path) in header.problem for header in headers if header.problem)
