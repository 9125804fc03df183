"""Whatever a lab has goes into the same plate: formats, tiles, somebody else's plate in place, a disk too small."""

import hashlib
import json
import shutil
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile

from plates.errors import AcquisitionError, NoSpaceError, StoreError
from plates.ingest.convert import Reading, ingest, last_summary, preview
from plates.results import has_result, read_result
from plates.simulation.acquisition import FluorescenceFrames, acquisition_name
from plates.store import open_plate
from tests.benchmarks.stitching import cut, wide_field

from .acquisitions import START, tomogram, write_folder, write_one
from .foreign_plates import write_with
from .tiffs import write_ome

HL60 = Path(__file__).parents[1] / "data" / "hl60_tomogram" / "hl60_ri_x10000_140x140x140_0.139um.tif"
VOXEL = (0.139, 0.139, 0.139)


def name(well: str, suffix: str = "S001", *, seconds: int = 0) -> str:
    recorded = START + timedelta(seconds=seconds)
    return acquisition_name(recorded, experiment="e", number=1, group="g", well=well, suffix=suffix)


@pytest.mark.filterwarnings("ignore:Call to deprecated class Scaler")  # within ome-zarr-py
@pytest.mark.parametrize("kind", ["tcf", "tcf ldm", "tiff", "ome-tiff", "ome-zarr 0.4", "ome-zarr 0.5", "in place"])
def test_the_real_tomogram_is_the_same_voxels_from_every_format(tmp_path: Path, kind: str) -> None:
    cell = tifffile.imread(HL60)
    folder, reading = tmp_path / "raw", Reading()
    folder.mkdir()
    if kind.startswith("tcf"):
        write_one(folder / name("A1"), [cell], voxel_um=VOXEL, variant="ldm" if "ldm" in kind else "uint16")
    elif kind == "tiff":
        shutil.copy(HL60, folder / "cell.tif")
        (tmp_path / "m.csv").write_text(
            "path,well,field,timepoint,voxel_z_um,voxel_y_um,voxel_x_um\ncell.tif,A1,0,0,0.139,0.139,0.139\n"
        )
        reading = Reading(manifest=tmp_path / "m.csv")
    elif kind == "ome-tiff":
        sizes: dict[str, Any] = {f"PhysicalSize{axis}": 0.139 for axis in "XYZ"}
        sizes |= {f"PhysicalSize{axis}Unit": "µm" for axis in "XYZ"}
        write_ome(folder / name("A1").replace(".TCF", ".ome.tif"), cell, metadata={"axes": "ZYX", **sizes})
    else:
        tool: Any = f"ome-zarr-py {kind[-3:]}" if kind.startswith("ome-zarr") else "ngio 0.5"
        folder = write_with(tool, tmp_path / "theirs.zarr", {"A/1/0": cell}, voxel_um=VOXEL)
        reading = Reading(in_place=kind == "in place")
    plate = ingest(folder, out=tmp_path / "P1.zarr", reading=reading)
    assert plate.voxel_um == pytest.approx(VOXEL)
    again = open_plate(tmp_path / "P1.zarr")
    np.testing.assert_array_equal(again.volume("A01", field=0, timepoint=0), cell)
    np.testing.assert_array_equal(again.projection("A01", field=0, timepoint=0), cell.max(axis=0))
    assert read_result(plate.path, "fields")["medium_index"].item() == pytest.approx(1.335, abs=3e-4)


@pytest.mark.filterwarnings("ignore:Call to deprecated class Scaler")  # within ome-zarr-py
def test_a_plate_used_in_place_is_never_written_into(tmp_path: Path) -> None:
    volumes = {"A/1/0": tomogram(1), "B/3/0": tomogram(2)}
    theirs = write_with("ome-zarr-py 0.5", tmp_path / "theirs.zarr", volumes)
    before = {path: path.read_bytes() for path in sorted(theirs.rglob("*")) if path.is_file()}
    plate = ingest(theirs, out=tmp_path / "mine" / "P1.zarr", reading=Reading(in_place=True))
    assert {path: path.read_bytes() for path in sorted(theirs.rglob("*")) if path.is_file()} == before
    for well, volume in (("A01", volumes["A/1/0"]), ("B03", volumes["B/3/0"])):
        np.testing.assert_array_equal(plate.volume(well, field=0, timepoint=0), volume)
        np.testing.assert_array_equal(plate.projection(well, field=0, timepoint=0), volume.max(axis=0))
    # no tomogram was copied
    assert [path.name for path in plate.path.rglob("*")] == ["zarr.json"]
    ingest(theirs, out=tmp_path / "mine" / "P1.zarr", reading=Reading(in_place=True))
    assert (last_summary(plate.path).converted, last_summary(plate.path).skipped) == (0, 2)
    with pytest.raises(StoreError, match="read, never written into"):
        ingest(theirs, out=theirs, reading=Reading(in_place=True))
    write_folder(tmp_path / "raw", wells=["A01"], fields=2)
    with pytest.raises(AcquisitionError, match="only be used in place where all are of one OME-Zarr plate"):
        ingest(tmp_path / "raw", out=tmp_path / "P2.zarr", reading=Reading(in_place=True))


def test_sources_are_named_sized_and_hashed(tmp_path: Path) -> None:
    write_folder(tmp_path / "raw", wells=["A01"], fields=2)
    plate = ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    sources = read_result(plate.path, "sources")
    assert sources.sizes["source"] == 2
    for row in range(2):
        source = sources.isel(source=row)
        data = Path(str(source["path"].item())).read_bytes()
        assert source["sha256"] == hashlib.sha256(data).hexdigest()
        assert source["bytes"] == len(data)
        assert source["acquired"] == "2026-03-14 09:26:53.000"
        assert source["format"] == "TCF uint16"
        assert json.loads(str(source["instrument"].item()))["magnification"] == 40
    changed = Path(str(sources["path"].values[0]))
    write_one(changed, [tomogram(9), tomogram(10)])
    ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    assert read_result(plate.path, "sources")["sha256"].values[0] == hashlib.sha256(changed.read_bytes()).hexdigest()


def test_a_preview_writes_nothing_and_is_about_right(tmp_path: Path) -> None:
    write_folder(tmp_path / "raw", wells=["A01", "A02"], fields=2, shape=(30, 400, 400))
    plan, needed = preview(tmp_path / "raw", out=tmp_path / "out" / "P1.zarr")
    assert (plan.wells, plan.fields, plan.timepoints, needed.tomograms) == (["A01", "A02"], 2, 2, 8)
    assert needed.raw_bytes == 8 * 30 * 400 * 400 * 2
    assert not (tmp_path / "out").exists()
    ingest(tmp_path / "raw", out=tmp_path / "out" / "P1.zarr")
    images = [path for path in (tmp_path / "out").rglob("c/**/*") if path.is_file()]
    assert needed.stored_bytes == pytest.approx(sum(path.stat().st_size for path in images), rel=0.2)
    assert 0 < needed.seconds < 60
    # what is done needs no room
    assert preview(tmp_path / "raw", out=tmp_path / "out" / "P1.zarr")[1].tomograms == 0


def test_a_disk_too_small_is_refused_before_anything_is_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "raw", shape=(30, 200, 200))
    disk = SimpleNamespace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: disk)
    with pytest.raises(NoSpaceError, match=r"12 tomograms will take about .* MB, but only 0\.1 MB are free"):
        ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    assert not list(tmp_path.rglob("c/0/0/0/0/0"))
    disk.free = 10**9
    ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")


def test_overlapping_positions_become_one_field_with_its_seams(tmp_path: Path) -> None:
    field = wide_field(size=520, cells=20)
    world = cut(tmp_path / "tiles", field, rows=2, columns=2, overlap=0.2)
    raw = tmp_path / "raw"
    raw.mkdir()
    for number, path in enumerate(world.paths):
        shutil.copy(path, raw / name("A1", f"T001P{number + 1:02d}"))
    # and one well whose single position lies apart from all
    shutil.copy(world.paths[0], raw / name("B2", "T001P01"))
    plate = ingest(raw, out=tmp_path / "P1.zarr", reading=Reading(stitch=True))
    assert (plate.wells, plate.fields) == (("A01", "B02"), 1)
    seams = read_result(plate.path, "seams")
    assert set(seams["well"].values) == {"A01"}
    assert seams.sizes["seam"] == 4
    assert (seams["residual_um"] < 0.5).all()
    assert (abs(seams["step_after"]) < abs(seams["step_before"]).max()).all()
    wide, tile = (plate.projection(well, field=0, timepoint=0) for well in ("A01", "B02"))
    assert min(wide.shape) > 1.6 * (world.corners[1] - world.corners[0]).max()
    # the lone tile lies on the same canvas, the rest of which is missing
    assert (tile > 0).mean() < 0.5 * (wide > 0).mean()
    ingest(raw, out=tmp_path / "P1.zarr", reading=Reading(stitch=True))
    assert (last_summary(plate.path).converted, last_summary(plate.path).skipped) == (0, 2)
    unstitched = ingest(raw, out=tmp_path / "P2.zarr")
    assert unstitched.fields == 4
    assert not has_result(unstitched.path, "seams")


LIT_SHAPE = (4, 620, 640)


def write_with_fluorescence(path: Path, *, shift_px: int) -> np.ndarray:
    """Three tomograms of round cells; two stacks of one channel, taken with the first and the last of them."""
    rng = np.random.default_rng(0)
    y, x = np.ogrid[: LIT_SHAPE[1], : LIT_SHAPE[2]]
    cells, light = np.zeros((2, *LIT_SHAPE[1:]))
    for row, column in rng.integers(20, 600, (45, 2)):
        distance = np.hypot(y - row, x - column)
        cells = np.maximum(cells, 300 / (1 + np.exp((distance - rng.uniform(25, 40)) / 4)))
        light = np.maximum(light, rng.uniform(500, 900) / (1 + np.exp((distance - 15) / 3)))
    light = np.rint(light).astype(np.uint16)
    counts = np.rint(13370 + rng.normal(0, 3, LIT_SHAPE) + cells).astype(np.uint16)
    moved = np.roll(light, shift_px, axis=1)
    stacks = [np.stack([moved // 2, moved]).astype(np.uint16), np.stack([moved // 4, moved // 2]).astype(np.uint16)]
    channel = FluorescenceFrames(frames=stacks, voxel_um=(1.0, 0.16, 0.16), times_s=[20.0, 3590.0])
    write_one(path, [counts] * 3, fluorescence={"CH0": channel})
    return light


def test_fluorescence_lies_on_the_tomogram_it_was_taken_with(tmp_path: Path) -> None:
    light = write_with_fluorescence(tmp_path / "raw" / name("A1", "T001P01"), shift_px=6)
    write_one(tmp_path / "raw" / name("A2", "T001P01"), [tomogram(1, shape=LIT_SHAPE)] * 3)
    plate = ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    assert open_plate(plate.path).fluorescence == ("CH0",)
    registration = read_result(plate.path, "registration")
    assert list(registration["frame"].sel(well="A01", field=0).values) == [0, -1, 1]
    assert (registration["frame"].sel(well="A02") == -1).all()
    # the camera sees everything 6 px of 0.16 um to the right
    found = registration["shift_x_um"].sel(well="A01", field=0).values
    np.testing.assert_allclose(found[[0, 2]], 6 * 0.16, atol=0.08)
    for timepoint, brightness in ((0, 1.0), (2, 0.5)):
        seen = plate.fluorescence_projection("A01", field=0, timepoint=timepoint, channel="CH0").astype(float)
        expected = light * brightness + 1
        inside = np.s_[20:-20, 20:-20]
        assert np.corrcoef(seen[inside].ravel(), expected[inside].ravel())[0, 1] > 0.97
        assert np.median(seen[inside][light[inside] > 0] / expected[inside][light[inside] > 0]) == pytest.approx(
            1, abs=0.05
        )
    with pytest.raises(StoreError, match="never written"):
        plate.fluorescence_projection("A01", field=0, timepoint=1, channel="CH0")
    ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    assert last_summary(plate.path).converted == 0


def test_fluorescence_may_be_placed_by_the_metadata_or_left_out(tmp_path: Path) -> None:
    light = write_with_fluorescence(tmp_path / "raw" / name("A1", "T001P01"), shift_px=6)
    plate = ingest(tmp_path / "raw", out=tmp_path / "P1.zarr", reading=Reading(fluorescence="metadata"))
    seen = plate.fluorescence_projection("A01", field=0, timepoint=0, channel="CH0")
    np.testing.assert_array_equal(seen, np.roll(light, 6, axis=1) + 1)
    assert (read_result(plate.path, "registration")["how"].sel(timepoint=0) == "metadata").all()
    without = ingest(tmp_path / "raw", out=tmp_path / "P2.zarr", reading=Reading(fluorescence="none"))
    assert without.fluorescence == ()
    assert not has_result(without.path, "registration")
    assert not without.fluorescence_path.exists()
    # another choice is another conversion
    ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    assert last_summary(plate.path).converted == 3
    assert "fluorescence" in next(iter(last_summary(plate.path).recomputed.values()))
