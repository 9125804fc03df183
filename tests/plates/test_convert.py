"""A folder of acquisitions into a plate: checked first, converted once, resumed after anything."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from plates.errors import AcquisitionError, PlateMapError, StoreError, UnfinishedError
from plates.ingest import tables
from plates.ingest.convert import ingest, last_summary
from plates.ingest.units import progress_folder
from plates.layout import read_plate_map
from plates.projections import FieldStatistics
from plates.results import has_result, read_result
from plates.store import Plate, open_plate

from .acquisitions import SHAPE, Truth, tomogram, write_folder, write_one


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a plate and its siblings by name, but for the record of the last run."""
    names = ("P1.zarr", "P1_mip.zarr", "P1.results.zarr")
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for name in names
        for path in sorted((folder / name).rglob("*"))
        if path.is_file()
    }


def assert_holds(plate: Plate, truth: Truth) -> None:
    for (well, field, timepoint), frame in truth.items():
        np.testing.assert_array_equal(plate.volume(well, field=field, timepoint=timepoint), frame)
        projection = plate.projection(well, field=field, timepoint=timepoint)
        np.testing.assert_array_equal(projection, frame.max(axis=0))


def file_of(folder: Path, well: str, position: int) -> Path:
    return next(folder.rglob(f"*.{well}.T001P{position:02d}.TCF"))


@pytest.mark.parametrize("variant", ["uint16", "ldm"])
def test_a_folder_becomes_a_plate_with_its_statistics(tmp_path: Path, variant: Any) -> None:
    truth = write_folder(tmp_path / "raw", variant=variant)
    seen: list[tuple[int, int]] = []
    plate = ingest(
        tmp_path / "raw",
        out=tmp_path / "P1.zarr",
        progress=lambda done, total, text: seen.append((done, total)),
    )
    assert (plate.name, plate.wells, plate.fields, plate.timepoints) == ("P1", ("A01", "A02", "B01"), 2, 2)
    assert (plate.rows, plate.columns) == (2, 3)
    assert plate.hours == (0.0, 0.5)
    assert_holds(open_plate(tmp_path / "P1.zarr"), truth)
    assert seen == [(done, 12) for done in range(0, 13, 2)]
    fields = read_result(plate.path, "fields")
    assert (fields["status"] == tables.DONE).all()
    np.testing.assert_allclose(fields["medium_index"], 1.3370, atol=1e-4)
    np.testing.assert_allclose(fields["missing_share"], 2 / SHAPE[2])
    np.testing.assert_allclose(fields["confluency"], 20 * 20 / (70 * 62))
    np.testing.assert_allclose(fields["hours"].sel(timepoint=1), 0.5)
    drift = read_result(plate.path, "medium_drift")  # of six fields nothing can be told
    assert drift["range"].isnull().all()
    assert not has_result(plate.path, "layout")


def test_a_second_run_converts_nothing_and_changes_no_result(tmp_path: Path) -> None:
    write_folder(tmp_path / "raw")
    ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    assert (last_summary(tmp_path / "P1.zarr").converted, last_summary(tmp_path / "P1.zarr").skipped) == (12, 0)
    before = contents(tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*/c/**/*") if path.is_file()}
    plate = ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    assert (last_summary(plate.path).converted, last_summary(plate.path).skipped) == (0, 12)
    assert contents(tmp_path) == before
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_dask_gives_the_same_bytes_as_one_process(tmp_path: Path) -> None:
    from distributed import Client, LocalCluster

    write_folder(tmp_path / "raw", fields=3)
    cut = file_of(tmp_path / "raw", "A2", 2)
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(UnfinishedError):
        ingest(tmp_path / "raw", out=tmp_path / "plain" / "P1.zarr")
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
        pytest.raises(UnfinishedError),
    ):
        ingest(tmp_path / "raw", out=tmp_path / "dask" / "P1.zarr", client=client)
    summary = last_summary(tmp_path / "dask" / "P1.zarr")
    assert (summary.converted, list(summary.failed)) == (16, [str(cut)])
    assert contents(tmp_path / "dask") == contents(tmp_path / "plain")


def test_a_changed_file_is_converted_again_and_that_is_said(tmp_path: Path) -> None:
    truth = write_folder(tmp_path / "raw")
    ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    changed = file_of(tmp_path / "raw", "A2", 1)
    write_one(changed, [tomogram(501), tomogram(502)])
    plate = ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    summary = last_summary(plate.path)
    assert (summary.converted, summary.skipped) == (2, 10)
    assert list(summary.recomputed) == [str(changed)]
    assert "changed since it was converted" in summary.recomputed[str(changed)]
    assert_holds(plate, truth | {("A02", 0, 0): tomogram(501), ("A02", 0, 1): tomogram(502)})


def test_a_torn_or_lost_image_is_converted_again(tmp_path: Path) -> None:
    truth = write_folder(tmp_path / "raw")
    plate = ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    torn = plate.field_files("A01", field=0, timepoint=1)[0]
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    plate.field_files("B01", field=1, timepoint=0)[2].unlink()
    with pytest.raises(StoreError):
        plate.volume("A01", field=0, timepoint=1)
    ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    summary = last_summary(plate.path)
    assert (summary.converted, summary.skipped) == (2, 10)
    assert all("lost or cut short" in reason for reason in summary.recomputed.values())
    assert_holds(plate, truth)


def test_a_cut_file_fails_alone_and_resumes_when_mended(tmp_path: Path) -> None:
    truth = write_folder(tmp_path / "raw")
    cut = file_of(tmp_path / "raw", "A2", 2)
    whole = cut.read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnfinishedError, match=rf"1 of 6 files.*\n.*{cut.name}: not a complete TCF"):
        ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    plate = open_plate(tmp_path / "P1.zarr")
    assert not plate.has_field("A02", field=1, timepoint=0)
    fields = read_result(plate.path, "fields")
    assert (fields["status"].sel(well="A02", field=1) == tables.FAILED).all()
    assert (fields["status"] == tables.DONE).sum() == 10
    cut.write_bytes(whole)
    ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    assert (last_summary(plate.path).converted, last_summary(plate.path).skipped) == (2, 10)
    assert_holds(plate, truth)
    assert (read_result(plate.path, "fields")["status"] == tables.DONE).all()
    assert not list((tmp_path / "P1.zarr.progress").rglob("*.failed.json"))


def test_a_frame_that_fails_leaves_no_image_and_the_others_go_on(tmp_path: Path) -> None:
    write_folder(tmp_path / "raw")
    bad = file_of(tmp_path / "raw", "A1", 1)
    with h5py.File(bad, "r+") as file:
        frame = file["Data/3D/000001"]
        del file["Data/3D/000001"]
        attributes, data = dict(frame.attrs), tomogram(1) / 1e4
        data[:3] = np.nan
        file.create_dataset("Data/3D/000001", data=data).attrs.update(attributes)
    with pytest.raises(UnfinishedError, match=r"frame 1 holds .* voxels that are no number, more than 1%"):
        ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    plate = open_plate(tmp_path / "P1.zarr")
    assert plate.has_field("A01", field=0, timepoint=0)
    assert not any(f.exists() for f in plate.field_files("A01", field=0, timepoint=1))
    assert list(last_summary(plate.path).failed) == [f"{bad} frame 1"]
    status = read_result(plate.path, "fields")["status"].sel(well="A01", field=0)
    assert list(status.values) == [tables.DONE, tables.FAILED]


def test_an_interrupted_run_resumes_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "raw")
    ingest(tmp_path / "raw", out=tmp_path / "whole" / "P1.zarr")

    calls = []
    write_field = Plate.write_field

    def failing(self: Plate, *place: Any, **named: Any) -> FieldStatistics:
        calls.append(place)
        statistics = write_field(self, *place, **named)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return statistics

    with monkeypatch.context() as patch:
        patch.setattr(Plate, "write_field", failing)
        with pytest.raises(KeyboardInterrupt):
            ingest(tmp_path / "raw", out=tmp_path / "broken" / "P1.zarr")
    assert not has_result(tmp_path / "broken" / "P1.zarr", "fields")
    ingest(tmp_path / "raw", out=tmp_path / "broken" / "P1.zarr")
    summary = last_summary(tmp_path / "broken" / "P1.zarr")
    assert (summary.converted, summary.skipped) == (7, 5)
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


def test_a_killed_process_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    shape = (8, 200, 200)
    write_folder(tmp_path / "raw", wells=[f"A{n:02d}" for n in range(1, 7)], shape=shape)
    ingest(tmp_path / "raw", out=tmp_path / "whole" / "P1.zarr")
    script = (
        "import sys; from pathlib import Path; from plates.ingest.convert import ingest\n"
        "report = lambda done, total, text: print(done, flush=True)\n"
        "ingest(Path(sys.argv[1]), out=Path(sys.argv[2]), progress=report)"
    )
    out = tmp_path / "killed" / "P1.zarr"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "raw"), str(out)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert any(line.strip() == "4" for line in process.stdout)
        os.kill(process.pid, signal.SIGKILL)
    done = len([path for path in progress_folder(out).rglob("A*/*.json") if path.suffixes == [".json"]])
    assert 4 <= done < 24  # it was killed in the middle
    ingest(tmp_path / "raw", out=out)
    assert last_summary(out).skipped == done
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


# Children are forked from a process that has imported everything and opened nothing. Half of them are killed once
# they have converted something, the others at any moment from their start on.
KILLER = """
import os, random, signal, sys, time
from pathlib import Path
import xarray, zarr
from plates.ingest.convert import ingest
from plates.ingest.units import progress_folder
raw, out = Path(sys.argv[1]), Path(sys.argv[2])
chance = random.Random(7)
for number in range(20):
    before = len(list(progress_folder(out).rglob("*.json")))
    child = os.fork()
    if child == 0:
        ingest(raw, out=out)
        os._exit(0)
    while number % 2 and len(list(progress_folder(out).rglob("*.json"))) == before:
        time.sleep(0.001)
    time.sleep(chance.uniform(0, 0.08 if number % 2 else 0.4))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


def test_twenty_kills_at_random_moments_change_no_byte(tmp_path: Path) -> None:
    wells = [f"{row}{column:02d}" for row in "ABC" for column in range(1, 7)]
    truth = write_folder(tmp_path / "raw", wells=wells, shape=(16, 320, 320), timepoints=6, fields=1)
    ingest(tmp_path / "raw", out=tmp_path / "whole" / "P1.zarr")
    out = tmp_path / "killed" / "P1.zarr"
    subprocess.run([sys.executable, "-c", KILLER, str(tmp_path / "raw"), str(out)], check=True, timeout=300)
    ingest(tmp_path / "raw", out=out)
    assert last_summary(out).skipped > 4  # the kills hit the conversion, neither before it
    assert last_summary(out).converted > 0  # nor after its end
    assert_holds(open_plate(out), truth)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert not list((tmp_path / "killed").rglob("*.partial"))


@pytest.fixture
def plate_map(tmp_path: Path) -> Path:
    table = tmp_path / "map.csv"
    table.write_text(
        "well,compound,dose,control,inducer,replicate,cell_line\n"
        "A01,DMSO,0 uM,negative,,1,HeLa\nA02,X,1 uM,none,,1,HeLa\nB01,X,10 uM,none,,1,HeLa\n"
    )
    return table


def test_the_plate_map_is_stored_as_layout(tmp_path: Path, plate_map: Path) -> None:
    write_folder(tmp_path / "raw")
    plate = ingest(tmp_path / "raw", out=tmp_path / "P1.zarr", plate_map=read_plate_map(plate_map))
    layout = read_result(plate.path, "layout")
    assert list(layout["compound"].values) == ["DMSO", "X", "X"]
    assert layout["dose"].sel(well="B01") == 10
    assert layout.attrs["source"] == "map.csv"


def test_wells_must_agree_with_the_plate_map_before_anything_is_written(tmp_path: Path, plate_map: Path) -> None:
    write_folder(tmp_path / "raw", wells=["A01", "A02", "A03"])
    for change in ({}, {"allow_unmatched": True}):
        if not change:
            with pytest.raises(PlateMapError, match=r"A03.*In map\.csv, but not imaged: B01"):
                ingest(tmp_path / "raw", out=tmp_path / "P1.zarr", plate_map=read_plate_map(plate_map))
            assert not (tmp_path / "P1.zarr").exists()
        else:
            ingest(
                tmp_path / "raw",
                out=tmp_path / "P1.zarr",
                plate_map=read_plate_map(plate_map),
                allow_unmatched=True,
            )
            assert open_plate(tmp_path / "P1.zarr").wells == ("A01", "A02", "A03")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"voxel_um": (0.95, 0.2, 0.2)}, r"0\.95 x 0\.2 x 0\.2 um \(z, y, x\) in A02"),
        ({"shape": (6, 70, 66)}, r"6 x 70 x 66 voxels .* in A02"),
    ],
)
def test_mixed_geometry_is_refused_naming_the_wells(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write_folder(tmp_path / "raw")
    shape = change.pop("shape", SHAPE)
    write_one(file_of(tmp_path / "raw", "A2", 1), [tomogram(0, shape=shape)] * 2, **change)
    with pytest.raises(AcquisitionError, match=message):
        ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    assert not (tmp_path / "P1.zarr").exists()


def test_a_folder_of_one_cut_file_writes_nothing(tmp_path: Path) -> None:
    write_folder(tmp_path / "raw", wells=["A01"], fields=1)
    cut = file_of(tmp_path / "raw", "A1", 1)
    cut.write_bytes(cut.read_bytes()[:2000])
    with pytest.raises(AcquisitionError, match="none of 1 files can be read"):
        ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    assert not (tmp_path / "P1.zarr").exists()


def test_another_plate_is_never_overwritten(tmp_path: Path) -> None:
    truth = write_folder(tmp_path / "raw")
    plate = ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    write_folder(tmp_path / "other", experiment="another plate")
    with pytest.raises(StoreError, match=r"A01, field 0 was converted from .*death v1.2 HeLa.*another plate.*is to be"):
        ingest(tmp_path / "other", out=tmp_path / "P1.zarr")
    assert_holds(plate, truth)


def test_a_plate_grows_with_its_acquisitions(tmp_path: Path) -> None:
    truth = write_folder(tmp_path / "raw", wells=["A01"], timepoints=2)
    ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    truth |= write_folder(tmp_path / "raw", wells=["A01", "B02"], timepoints=3)
    plate = ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    assert (plate.wells, plate.timepoints) == (("A01", "B02"), 3)
    assert_holds(open_plate(plate.path), truth)
    assert (read_result(plate.path, "fields")["status"] == tables.DONE).all()


def test_single_frame_series_and_missing_frames_keep_their_times(tmp_path: Path) -> None:
    from datetime import timedelta

    from plates.simulation.acquisition import acquisition_name

    from .acquisitions import START

    for well, numbers in (("A01", (1, 2, 3, 4)), ("A02", (1, 2, 4))):
        for number in numbers:
            recorded = START + timedelta(minutes=40 * (number - 1))
            name = acquisition_name(
                recorded, experiment="e", number=number, group="g", well=well, suffix=f"TP{number:02d}"
            )
            write_one(tmp_path / "raw" / name, [tomogram(number)], recording_time=recorded)
    plate = ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    assert plate.hours == pytest.approx((0, 2 / 3, 4 / 3, 2))
    fields = read_result(plate.path, "fields")
    assert list(fields["status"].sel(well="A02", field=0).values) == [1, 1, tables.MISSING, 1]
    assert np.isnan(fields["hours"].sel(well="A02", field=0, timepoint=2))
    assert fields["hours"].sel(well="A02", field=0, timepoint=3) == pytest.approx(2)
    np.testing.assert_array_equal(plate.volume("A02", field=0, timepoint=3), tomogram(4))


def test_a_frame_missing_inside_a_file_leaves_a_gap(tmp_path: Path) -> None:
    truth = write_folder(tmp_path / "raw", timepoints=3)
    with h5py.File(file_of(tmp_path / "raw", "A1", 1), "r+") as file:
        del file["Data/3D/000001"]
    plate = ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    del truth["A01", 0, 1]
    assert_holds(plate, truth)
    assert not plate.has_field("A01", field=0, timepoint=1)
    assert read_result(plate.path, "fields")["status"].sel(well="A01", field=0, timepoint=1) == tables.MISSING


def test_a_copied_plate_carries_no_state(tmp_path: Path) -> None:
    truth = write_folder(tmp_path / "raw")
    ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    shutil.copytree(tmp_path / "P1.zarr", tmp_path / "copy" / "P1.zarr")
    shutil.copytree(tmp_path / "P1_mip.zarr", tmp_path / "copy" / "P1_mip.zarr")
    assert_holds(open_plate(tmp_path / "copy" / "P1.zarr"), truth)
    assert not list((tmp_path / "copy").rglob("*.progress"))
