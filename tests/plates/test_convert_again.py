"""What a plate holds stays true when its folder, its options or its neighbours change between two runs."""

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from plates.creation import design_plate
from plates.errors import AcquisitionError, StoreError, UnfinishedError
from plates.files import location
from plates.ingest import opening, tables, units
from plates.ingest.convert import Reading, ingest, last_summary, preview
from plates.ingest.units import progress_folder
from plates.integrity import write_sealed
from plates.results import read_result
from plates.simulation.acquisition import FluorescenceFrames
from plates.store import open_plate

from .acquisitions import SHAPE, tomogram, write_folder, write_one
from .foreign_plates import write_by_hand
from .test_convert_inputs import name

LIGHT = np.full((2, *SHAPE[1:]), 100, np.uint16)


def lit(path: Path, channels: str, *, level: int = 100, frames: int = 1) -> None:
    """A file with these fluorescence channels, such as "01", all of one level."""
    stacks = [np.full((2, *SHAPE[1:]), level, np.uint16)] * frames
    held = {
        f"CH{number}": FluorescenceFrames(
            frames=stacks, voxel_um=(1, 0.16, 0.16), times_s=[1800.0 * n for n in range(frames)]
        )
        for number in channels
    }
    write_one(path, [tomogram(n) for n in range(frames)], fluorescence=held)


def test_a_file_placed_elsewhere_by_the_manifest_is_converted_anew(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_one(raw / "series.TCF", [tomogram(n) for n in range(3)])
    manifest = tmp_path / "m.csv"
    for start in (0, 1):
        manifest.write_text(f"path,well,field,timepoint\nseries.TCF,A1,0,{start}\n")
        plate = ingest(raw, out=tmp_path / "P1.zarr", reading=Reading(manifest=manifest))
    assert last_summary(plate.path).converted == 3
    for number in range(3):
        np.testing.assert_array_equal(plate.volume("A01", field=0, timepoint=number + 1), tomogram(number))


def test_wells_whose_acquisitions_are_archived_keep_their_numbers(tmp_path: Path) -> None:
    write_folder(tmp_path / "day1", wells=["A01"], fields=2)
    write_folder(tmp_path / "day2", wells=["B02"], fields=1)
    ingest(tmp_path / "day1", out=tmp_path / "P1.zarr")
    first = read_result(tmp_path / "P1.zarr", "fields")
    plate = ingest(tmp_path / "day2", out=tmp_path / "P1.zarr")
    fields = read_result(plate.path, "fields")
    assert (fields["status"].sel(well="A01") == tables.DONE).all()
    for variable in ("medium_index", "dry_mass", "hours"):
        np.testing.assert_array_equal(fields[variable].sel(well="A01"), first[variable].sel(well="A01"))
    assert (fields["acquired"].sel(well="A01") == first["acquired"].sel(well="A01")).all()
    # the field that B02 never had is missing
    assert (fields["status"].sel(well="B02", field=1) == tables.MISSING).all()
    sources = read_result(plate.path, "sources")
    assert sorted(sources["well"].values) == ["A01", "A01", "B02"]
    assert all(len(digest) == 64 for digest in sources["sha256"].values)


def test_maps_of_states_grow_and_leave_with_their_tomogram(tmp_path: Path) -> None:
    write_folder(tmp_path / "raw", wells=["A01"], fields=1, timepoints=2)
    plate = ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    classes = np.full(SHAPE[1:], 3, np.uint8)
    for timepoint in range(2):
        plate.write_classes("A01", field=0, timepoint=timepoint, classes=classes)
    shutil.rmtree(tmp_path / "raw")
    write_folder(tmp_path / "raw", wells=["A01"], fields=1, timepoints=3)
    grown = ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    # the file changed, so the maps of its former tomograms are gone
    with pytest.raises(StoreError, match=r"never written.*tomoscreen classify"):
        grown.classes("A01", field=0, timepoint=0)
    grown.write_classes("A01", field=0, timepoint=2, classes=classes)
    np.testing.assert_array_equal(grown.classes("A01", field=0, timepoint=2), classes)


def test_a_channel_that_comes_later_leaves_the_others_readable(tmp_path: Path) -> None:
    lit(tmp_path / "raw" / name("A1"), "1")
    ingest(tmp_path / "raw", out=tmp_path / "P1.zarr", reading=Reading(fluorescence="metadata"))
    lit(tmp_path / "raw" / name("A2"), "01", level=300)
    plate = ingest(tmp_path / "raw", out=tmp_path / "P1.zarr", reading=Reading(fluorescence="metadata"))
    assert plate.fluorescence == ("CH1", "CH0")
    assert last_summary(plate.path).converted == 1
    for well, channel, level in (("A01", "CH1", 101), ("A02", "CH0", 301), ("A02", "CH1", 301)):
        image = plate.fluorescence_projection(well, field=0, timepoint=0, channel=channel)
        assert (image == level).all()
    with pytest.raises(StoreError, match="never written"):
        plate.fluorescence_projection("A01", field=0, timepoint=0, channel="CH0")


def test_nothing_is_left_of_a_run_that_died_before_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lit(tmp_path / "raw" / name("A1"), "0")

    def die_at_the_record(file: Path, values: Any) -> None:
        if not file.name.endswith(".source.json"):
            raise KeyboardInterrupt
        write_sealed(file, values)

    with monkeypatch.context() as patch:
        patch.setattr(units, "write_sealed", die_at_the_record)
        with pytest.raises(KeyboardInterrupt):
            ingest(tmp_path / "raw", out=tmp_path / "P1.zarr", reading=Reading(fluorescence="metadata"))
    assert list((tmp_path / "P1_fl.zarr").rglob("c/0/0/0/0/0"))  # it had been written
    ingest(tmp_path / "raw", out=tmp_path / "P1.zarr", reading=Reading(fluorescence="none"))
    assert not list((tmp_path / "P1_fl.zarr").rglob("c/0/0/0/0/0"))


@pytest.mark.parametrize("change", ["cut", "shortened"])
def test_frames_that_a_file_no_longer_has_leave_the_plate(tmp_path: Path, change: str) -> None:
    path = tmp_path / "raw" / name("A1", "T001P01")
    write_one(tmp_path / "raw" / name("B1", "T001P01"), [tomogram(9)] * 3)
    write_one(path, [tomogram(n) for n in range(3)])
    plate = ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    if change == "cut":
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(UnfinishedError, match="1 of 2 files"):
            ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
        assert (read_result(plate.path, "fields")["status"].sel(well="A01") == tables.FAILED).all()
    else:
        write_one(path, [tomogram(0)])
        ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
        assert not plate.has_field("A01", field=0, timepoint=2)
    for timepoint in (1, 2):
        assert not any(file.exists() for file in plate.field_files("A01", field=0, timepoint=timepoint))


def test_what_is_refused_has_changed_nothing(tmp_path: Path) -> None:
    write_folder(tmp_path / "raw", wells=["A01"], fields=1)
    ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("zarr.json"))}
    # of the first frame the record is lost; the second still knows whose plate this is
    (progress_folder(tmp_path / "P1.zarr") / "A01" / "0_0.json").unlink()
    write_folder(tmp_path / "other", wells=["A01", "B05"], fields=3, timepoints=4, experiment="other")
    with pytest.raises(StoreError, match=r"was converted from"):
        ingest(tmp_path / "other", out=tmp_path / "P1.zarr")
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("zarr.json"))} == before


def test_lost_metadata_of_a_field_come_back_with_it(tmp_path: Path) -> None:
    truth = write_folder(tmp_path / "raw", wells=["A01"], fields=1)
    plate = ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    (plate.path / "A" / "1" / "0" / "0" / "zarr.json").write_text("")
    shard = plate.field_files("A01", field=0, timepoint=0)[0]
    with pytest.raises(StoreError, match=r"Delete .* and run `tomoscreen ingest` again"):
        plate.volume("A01", field=0, timepoint=0)
    shard.unlink()  # as it says
    ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    for timepoint in range(2):
        np.testing.assert_array_equal(plate.volume("A01", field=0, timepoint=timepoint), truth["A01", 0, timepoint])


def test_a_plate_grows_past_its_format_and_a_hair_of_voxel_size(tmp_path: Path) -> None:
    write_one(tmp_path / "raw" / name("A1"), [tomogram(0)])
    first = ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    assert (first.rows, first.columns) == (2, 3)
    write_one(tmp_path / "raw2" / name("H12"), [tomogram(1)], voxel_um=(0.95, 0.16004, 0.16))
    plate = ingest(tmp_path / "raw2", out=tmp_path / "P1.zarr")
    assert (plate.rows, plate.columns, plate.wells) == (8, 12, ("A01", "H12"))
    assert plate.voxel_um == first.voxel_um


@pytest.mark.parametrize("sibling", ["P1_mip.zarr", "P1_fl.zarr", "P1.results.zarr"])
def test_a_sibling_is_no_plate(tmp_path: Path, sibling: str) -> None:
    write_folder(tmp_path / "raw", wells=["A01"], fields=1)
    plate = ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    with pytest.raises(StoreError, match="no plate can be called so"):
        ingest(tmp_path / "raw", out=tmp_path / sibling)
    with pytest.raises(StoreError, match="no plate can be called so"):
        open_plate(tmp_path / sibling)
    assert plate.projection("A01", field=0, timepoint=0, kind="mean").min() >= 0


def test_somebody_elses_sibling_is_not_written_into(tmp_path: Path) -> None:
    write_by_hand(tmp_path / "P1_mip.zarr", {"A/1/0": tomogram(0)})
    before = {path: path.read_bytes() for path in sorted((tmp_path / "P1_mip.zarr").rglob("*")) if path.is_file()}
    write_folder(tmp_path / "raw", wells=["A01"], fields=1)
    with pytest.raises(StoreError, match=r"P1_mip\.zarr: was not made by tomoscreen"):
        ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    assert {p: p.read_bytes() for p in sorted((tmp_path / "P1_mip.zarr").rglob("*")) if p.is_file()} == before


def test_images_of_one_foreign_plate_fail_each_for_itself(tmp_path: Path) -> None:
    theirs = write_by_hand(tmp_path / "theirs.zarr", {f"A/{column}/0": tomogram(column) for column in (1, 2, 3)})
    for column in (1, 3):
        chunk = max(
            (file for file in (theirs / f"A/{column}/0").rglob("*") if file.is_file()), key=lambda f: f.stat().st_size
        )
        chunk.write_bytes(chunk.read_bytes()[:-5])
    with pytest.raises(UnfinishedError, match="2 of 3 files"):
        ingest(theirs, out=tmp_path / "P1.zarr", reading=Reading(in_place=True))
    plate = open_plate(tmp_path / "P1.zarr")
    assert len(last_summary(plate.path).failed) == 2
    np.testing.assert_array_equal(plate.volume("A02", field=0, timepoint=0), tomogram(2))
    with pytest.raises(StoreError, match="A01, field 0"):
        plate.volume("A01", field=0, timepoint=0)


def test_the_estimate_is_not_fooled_by_slices_that_were_not_reconstructed(tmp_path: Path) -> None:
    shape = (60, 300, 300)
    counts = tomogram(0, shape=shape)
    counts[:16] = 0
    write_one(tmp_path / "raw" / name("A1"), [counts])
    _, needed = preview(tmp_path / "raw", out=tmp_path / "P1.zarr")
    ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    images = [path for path in tmp_path.rglob("c/**/*") if path.is_file()]
    assert 0.7 < needed.stored_bytes / sum(path.stat().st_size for path in images) < 1.6


def test_in_place_only_projections_are_counted(tmp_path: Path) -> None:
    theirs = write_by_hand(tmp_path / "theirs.zarr", {"A/1/0": tomogram(0, shape=(40, 200, 200))})
    _, needed = preview(theirs, out=tmp_path / "out" / "P1.zarr", reading=Reading(in_place=True))
    ingest(theirs, out=tmp_path / "out" / "P1.zarr", reading=Reading(in_place=True))
    images = [path for path in (tmp_path / "out").rglob("c/**/*") if path.is_file()]
    assert 0.5 < needed.stored_bytes / sum(path.stat().st_size for path in images) < 2


def test_a_preview_refuses_what_ingest_would_refuse(tmp_path: Path) -> None:
    write_folder(tmp_path / "raw", wells=["A01"], fields=2)
    ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    write_folder(tmp_path / "other", wells=["B01"], fields=1, shape=(6, 70, 66))
    for refused in (preview, ingest):
        act: Any = refused
        with pytest.raises(StoreError, match="shape_zyx"):
            act(tmp_path / "other", out=tmp_path / "P1.zarr")
        with pytest.raises(StoreError, match="no plate can be called so"):
            act(tmp_path / "raw", out=tmp_path / "P2")
        with pytest.raises(AcquisitionError, match="only be used in place"):
            act(tmp_path / "raw", out=tmp_path / "P3.zarr", reading=Reading(in_place=True))


def test_a_file_out_of_reach_costs_itself_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "raw", wells=["A01", "A02"], fields=1)
    lost = next((tmp_path / "raw").rglob("*.A2.*.TCF"))
    opened = opening.open_source

    def out_of_reach(source: Any) -> Any:
        if source.path == lost:
            raise PermissionError(13, "Permission denied")
        return opened(source)

    monkeypatch.setattr(units, "open_source", out_of_reach)
    with pytest.raises(UnfinishedError, match=r"1 of 2 files.*\n.*A2.*cannot be read: Permission denied"):
        ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    assert open_plate(tmp_path / "P1.zarr").has_field("A01", field=0, timepoint=0)


def test_a_design_is_only_a_design(tmp_path: Path) -> None:
    described: dict[str, Any] = {"name": "P1", "wells": ["A01"], "fields": 1, "timepoints": 1, "shape_zyx": SHAPE}
    place: dict[str, Any] = {"voxel_um": (1.0, 0.16, 0.16), "rows": 2, "columns": 3, "hours": [0.0]}
    design_plate(location(tmp_path / "P1.zarr"), **described, **place)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_record_is_no_traceback(tmp_path: Path) -> None:
    write_folder(tmp_path / "raw", wells=["A01"], fields=1)
    plate = ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    for record in progress_folder(plate.path).rglob("*.json"):
        record.write_text("{")
    ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    assert last_summary(plate.path).converted == 2
    with h5py.File(next((tmp_path / "raw").rglob("*.TCF"))) as file:
        np.testing.assert_array_equal(plate.volume("A01", field=0, timepoint=0), file["Data/3D/000000"][:])
