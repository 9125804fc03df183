"""Acquisitions unfinished, mixed, empty, absurd or told by a wrong clock (rows 7 to 12 and 32 of the faults)."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from plates.errors import AcquisitionError, UnfinishedError
from plates.ingest import convert
from plates.ingest.acquisition import index_counts
from plates.ingest.convert import ingest, last_summary
from plates.ingest.inspection import inspect
from plates.ingest.manifest import Source
from plates.ingest.survey import read_header
from plates.patches import foreground_shares
from plates.results import read_result
from plates.store import open_plate
from tests.faults.small_plate import START, VOXEL_UM, made_up_tomogram, write_small_acquisition

SHAPE = (4, 64, 64)
WRITER = """
import sys, time, h5py, numpy as np
file = h5py.File(sys.argv[1], "r+", locking=sys.argv[2] == "locked")
for number in range(3, 6):
    file["Data/3D"].create_dataset(f"{number:06d}", data=np.full((4, 64, 64), 13370, np.uint16))
    file.flush()
    print("written", flush=True)
    time.sleep(float(sys.argv[3]))
time.sleep(60)
"""


def images(count: int, *, shape: tuple[int, int, int] = SHAPE) -> list[np.ndarray]:
    return [made_up_tomogram(number, shape=shape) for number in range(count)]


@contextmanager
def microscope(path: Path, locking: str, *, pause: float) -> Iterator[None]:
    """Another process that has written a first frame more and goes on."""
    command = [sys.executable, "-c", WRITER, str(path), locking, str(pause)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline().strip() == "written"
            yield
        finally:
            writer.kill()


def test_a_file_that_is_still_being_written_waits_and_is_read_when_it_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_small_acquisition(folder, "A01", images(3))
    bad = write_small_acquisition(folder, "A02", images(3), number=2)
    with microscope(bad, "locked", pause=60):
        with pytest.raises(UnfinishedError, match=r"still being written by another program") as caught:
            ingest(folder, out=tmp_path / "p.zarr")
        assert bad.name in str(caught.value)
    bad.unlink()
    write_small_acquisition(folder, "A02", images(3), number=2)
    plate = ingest(folder, out=tmp_path / "p.zarr")
    assert last_summary(plate.path).converted == 3
    np.testing.assert_array_equal(plate.volume("A02", field=0, timepoint=2), images(3)[2])


def test_a_file_that_grows_without_a_lock_is_not_taken_for_whole(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    path = write_small_acquisition(folder, "A01", images(3))
    with h5py.File(path, "r+") as file:
        file["Data/3D"].attrs["DataCount"] = np.array([6])
    with microscope(path, "unlocked", pause=60):
        environment = {**os.environ, "HDF5_USE_FILE_LOCKING": "FALSE", "PYTHONPATH": os.pathsep.join(sys.path)}
        # off-check: without the lock HDF5 opens the half file without complaint
        count = "import sys, h5py; print(len(h5py.File(sys.argv[1], locking=False)['Data/3D']))"
        done = subprocess.run([sys.executable, "-c", count, str(path)], capture_output=True, text=True, env=environment)
        assert done.stdout.strip() in ("3", "4")
        program = (
            "import sys\nfrom pathlib import Path\nfrom plates.ingest.inspection import inspect\n"
            "found = inspect(Path(sys.argv[1]))\n"
            "file, gaps = found.files[0], [len(gap.timepoints) for gap in found.gaps]\n"
            "print(file.planned, len(file.timepoints), gaps)\n"
        )
        command = [sys.executable, "-c", program, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    planned, present, *_ = done.stdout.split()
    # what the microscope announced is known, and what is not there yet is a gap that is told
    assert planned == "6"
    assert present in ("3", "4")
    assert done.stdout.strip().endswith(("[3]", "[2]"))


def test_a_file_that_changes_while_it_is_read_is_not_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from plates.ingest import units

    folder = tmp_path / "in"
    path = write_small_acquisition(folder, "A01", images(1))
    told = units.source_fingerprint

    def touched(source: Source) -> dict[str, object]:
        os.utime(path, ns=(touched.calls, touched.calls))  # type: ignore[attr-defined]
        touched.calls += 10**9  # type: ignore[attr-defined]
        return told(source)

    touched.calls = 10**18  # type: ignore[attr-defined]
    monkeypatch.setattr(units, "source_fingerprint", touched)
    with pytest.raises(UnfinishedError, match="the file changed while it was read"):
        ingest(folder, out=tmp_path / "p.zarr")


def test_a_frame_missing_in_the_middle_leaves_its_place_empty(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    path = write_small_acquisition(folder, "A01", images(4))
    write_small_acquisition(folder, "A02", images(4), number=2)
    with h5py.File(path, "r+") as file:
        del file["Data/3D/000001"]
        present = [file["Data/3D"][name][:] for name in file["Data/3D"]]
    plate = ingest(folder, out=tmp_path / "p.zarr")
    assert list(plate.hours) == [0.0, 1.0, 2.0, 3.0]
    np.testing.assert_array_equal(plate.volume("A01", field=0, timepoint=2), images(4)[2])
    assert not plate.has_field("A01", field=0, timepoint=1)
    fields = read_result(plate.path, "fields").sel(well="A01", field=0)
    assert np.isnan(fields["hours"].values[1])
    np.testing.assert_array_equal(fields["hours"].values[[0, 2, 3]], [0.0, 2.0, 3.0])
    # off-check: one after the other, the frames would close the gap
    np.testing.assert_array_equal(present[1], images(4)[2])
    told = inspect(folder)
    assert [(gap.well, gap.timepoints) for gap in told.gaps] == [("A01", (1,))]


@pytest.mark.parametrize(
    ("changes", "shape"),
    [({"voxel_um": (0.95, 0.16, 0.16 * 1.05)}, SHAPE), ({}, (4, 64, 72))],
)
def test_mixed_geometry_is_refused_and_its_wells_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], shape: tuple[int, int, int]
) -> None:
    folder = tmp_path / "in"
    for number, well in enumerate(("A01", "A02", "B01")):
        write_small_acquisition(folder, well, images(1), number=number)
    write_small_acquisition(folder, "B02", images(1, shape=shape), number=4, **changes)
    with pytest.raises(AcquisitionError, match=r"do not share one geometry: most have .* but .* in B02"):
        ingest(folder, out=tmp_path / "p.zarr")
    assert not (tmp_path / "p.zarr").exists()
    if shape == SHAPE:
        # off-check: without the check all wells get the voxel size of the first
        monkeypatch.setattr(convert, "check_uniform", lambda headers: None)
        plate = ingest(folder, out=tmp_path / "p.zarr")
        assert "B02" in plate.wells
        assert plate.voxel_um == pytest.approx(VOXEL_UM)


def test_other_number_types_of_one_geometry_are_converted_not_refused(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_small_acquisition(folder, "A01", images(1))
    path = write_small_acquisition(folder, "A02", images(1), number=2)
    with h5py.File(path, "r+") as file:
        del file["Data/3D/000000"]
        file["Data/3D"].create_dataset("000000", data=(images(1)[0] / 1e4).astype(np.float32))
        file["Data/3D/000000"].attrs["Time"] = np.array([0.0])
    plate = ingest(folder, out=tmp_path / "p.zarr")
    np.testing.assert_array_equal(plate.volume("A01", field=0, timepoint=0), plate.volume("A02", field=0, timepoint=0))


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e30])
def test_voxels_that_are_no_number_are_missing_and_counted(garbage: float) -> None:
    values = np.full((2, 4, 5), 1.337, np.float32)
    values[0, 1, 2] = values[1, 3, 4] = garbage
    counts, nonfinite = index_counts(values, where="a.TCF: frame 0")
    assert nonfinite == 2
    assert counts[0, 1, 2] == counts[1, 3, 4] == 0
    assert (counts == 13370).sum() == 38
    with np.errstate(invalid="ignore", over="ignore"):  # off-check: a plain cast says nothing
        cast = (values * 1e4).astype(np.uint16)
    assert cast.dtype == np.uint16


def test_a_field_above_the_limit_of_garbage_fails_with_its_share(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_small_acquisition(folder, "A01", images(1))
    path = write_small_acquisition(folder, "A02", images(1), number=2)
    values = (images(1)[0] / 1e4).astype(np.float32)
    values[:, :10] = np.nan
    with h5py.File(path, "r+") as file:
        del file["Data/3D/000000"]
        file["Data/3D"].create_dataset("000000", data=values)
    with pytest.raises(UnfinishedError, match=r"voxels that are no number, more than 1%"):
        ingest(folder, out=tmp_path / "p.zarr")


@pytest.mark.parametrize("value", [0, 13370])
def test_a_blank_field_holds_no_cells_and_so_no_death(value: int) -> None:
    """All zero is not reconstructed, one index everywhere is medium: neither has a patch with cells."""
    shares = foreground_shares(np.full((320, 320), value, np.uint16), medium_index=1.337)
    assert not (np.nan_to_num(shares) > 0).any()
    blocks = np.full((320, 320), 13370, np.uint16)
    blocks[40:120, 40:120] = 13700
    assert (
        foreground_shares(blocks, medium_index=1.337) > 0.1
    ).any()  # off-check: the rule sees cells where there are some


@pytest.mark.parametrize(("low", "high"), [(-0.5, 1.337), (1.337, 7.0), (-0.0002, 1.337)])
def test_an_index_that_does_not_fit_is_refused_with_its_range(low: float, high: float) -> None:
    values = np.full((2, 30, 30), 1.337)
    values[0, 0, 0], values[1, 1, 1] = low, high
    with pytest.raises(AcquisitionError, match=rf"a.TCF: frame 0 holds refractive indices from {low:g}.* to {high:g}"):
        index_counts(values, where="a.TCF: frame 0")
    with np.errstate(invalid="ignore"):  # off-check: 70000 would become 4464
        assert int(np.array([70_000.0]).astype(np.int64).astype(np.uint16)[0]) == 4464


def test_integers_that_do_not_fit_are_refused_as_well() -> None:
    with pytest.raises(AcquisitionError, match=r"from 1\.337 to 7; expected"):
        index_counts(np.array([[[13370, 70_000]]], np.int32), where="a.TCF: frame 0")
    with pytest.raises(AcquisitionError, match=r"from -0\.0001 to 1\.337"):
        index_counts(np.array([[[13370, -1]]], np.int32), where="a.TCF: frame 0")


def test_two_files_for_one_place_are_both_named(tmp_path: Path) -> None:
    first = write_small_acquisition(tmp_path / "in", "A01", images(1))
    second = write_small_acquisition(tmp_path / "in", "A01", images(1), number=7)
    manifest = tmp_path / "manifest.csv"
    places = "\n".join(f"{path.relative_to(tmp_path / 'in').as_posix()},A01,0,0" for path in (first, second))
    manifest.write_text(f"path,well,field,timepoint\n{places}\n")
    with pytest.raises(AcquisitionError) as caught:
        ingest(tmp_path / "in", out=tmp_path / "p.zarr", reading=convert.Reading(manifest=manifest))
    assert first.name in str(caught.value) or "line 2" in str(caught.value)
    assert second.name in str(caught.value) or "line 3" in str(caught.value)
    assert not (tmp_path / "p.zarr").exists()


def test_a_clock_that_went_back_gives_no_negative_interval_and_is_told(tmp_path: Path) -> None:
    """Row 32: summer time ends between two frames, each in a file of its own."""
    folder = tmp_path / "in"
    manifest = ["path,well,field,timepoint"]
    for well in ("A01", "A02"):
        for timepoint, hours in enumerate((0.0, 0.5, 1.0, 0.75, 1.25)):
            back = well == "A01" or timepoint < 3
            moved = hours if back else hours + 0.75
            path = write_small_acquisition(
                folder / f"{well}{timepoint}", well, images(1), recording_time=START + timedelta(hours=moved)
            )
            manifest.append(f"{path.relative_to(folder).as_posix()},{well},0,{timepoint}")
    (tmp_path / "manifest.csv").write_text("\n".join(manifest))
    told = inspect(folder, manifest=tmp_path / "manifest.csv")
    assert [warning for warning in told.warnings if "the clock went back in well A01, field 0" in warning]
    assert not [warning for warning in told.warnings if "well A02" in warning and "clock" in warning]
    plate = ingest(folder, out=tmp_path / "p.zarr", reading=convert.Reading(manifest=tmp_path / "manifest.csv"))
    measured = read_result(plate.path, "fields").sel(well="A01", field=0)["hours"].values
    np.testing.assert_allclose(measured, [0.0, 0.5, 1.0, np.nan, 1.25])
    assert (np.diff(plate.hours) > 0).all()
    # off-check: the clock alone has an interval of minus a quarter of an hour
    sources = [Source(path=path, well="A01", field=0, timepoint=0) for path in sorted((folder).rglob("*.TCF"))[:5]]
    recorded = [header.recorded for header in map(read_header, sources) if header.recorded is not None]
    assert min(after - before for before, after in pairwise(recorded)) < timedelta(0)


def test_reopened_plates_know_the_order_of_frames_by_number(tmp_path: Path) -> None:
    write_small_acquisition(tmp_path / "in", "A01", images(3), times_s=[0.0, 7200.0, 3600.0])
    plate = open_plate(ingest(tmp_path / "in", out=tmp_path / "p.zarr").path)
    np.testing.assert_array_equal(plate.volume("A01", field=0, timepoint=1), images(3)[1])
    assert (np.diff(plate.hours) > 0).all()
