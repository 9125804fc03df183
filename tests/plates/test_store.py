"""The plate store: what is written is read, and nothing else is ever taken for data."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from plates.creation import create_plate
from plates.errors import MissingInputError, StoreError
from plates.store import Plate, open_plate

SHAPE = (7, 330, 99)


def make(path: Path, **changes: Any) -> Plate:
    settings: dict[str, Any] = {
        "name": "P1",
        "wells": ["A01", "C03"],
        "fields": 2,
        "timepoints": 2,
        "shape_zyx": SHAPE,
        "voxel_um": (0.95, 0.155, 0.155),
        "rows": 8,
        "columns": 12,
        "hours": [0.0, 1.0],
        "provenance": {"made": "by a test"},
    }
    return create_plate(path, **{**settings, **changes})


def volume(seed: int = 0, *, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(13300, 14000, shape).astype(np.uint16)


def stored_array(root: Path, name: str) -> Any:
    return zarr.open_group(str(root), mode="r")[name]


PLACE: dict[str, Any] = {"field": 1, "timepoint": 1}


@pytest.mark.parametrize("shape", [(7, 330, 99), (1, 33, 20), (24, 160, 480), (16, 600, 520)])
def test_tomogram_and_projection_come_back_to_the_last_voxel(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    plate = make(tmp_path / "P1.zarr", shape_zyx=shape)
    written = volume(shape=shape)
    before = written.copy()
    plate.write_field("C03", **PLACE, volume=written)
    again = open_plate(tmp_path / "P1.zarr")
    assert again == plate
    assert np.array_equal(again.volume("C03", **PLACE), before)
    assert np.array_equal(again.projection("C03", **PLACE), before.max(axis=0))
    assert np.array_equal(written, before)


@pytest.mark.parametrize("thickness", [1, 3, 15, 16, 40])
def test_slabs_of_any_thickness_give_the_same_files(tmp_path: Path, thickness: int) -> None:
    shape = (37, 330, 99)
    whole, slabs = (make(tmp_path / f"{name}.zarr", shape_zyx=shape) for name in ("P1", "P2"))
    written = volume(shape=shape)
    statistics = whole.write_field("C03", **PLACE, volume=written)
    parts = (written[z : z + thickness] for z in range(0, shape[0], thickness))
    assert slabs.write_field("C03", **PLACE, volume=parts) == statistics
    for one, other in zip(whole.field_files("C03", **PLACE), slabs.field_files("C03", **PLACE), strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_slabs_that_make_no_tomogram_leave_nothing(tmp_path: Path) -> None:
    plate = make(tmp_path / "P1.zarr")
    plate.write_field("C03", **PLACE, volume=volume())
    for slabs in ([volume()[:3]], [volume(), volume()], [volume()[:3], volume()[3:, 1:]]):
        with pytest.raises(StoreError, match="C03, field 1: got"):
            plate.write_field("C03", **PLACE, volume=iter(slabs))
        assert not [path for path in (tmp_path / "P1.zarr").rglob("*") if path.is_file() and path.name != "zarr.json"]


def test_the_three_projections_and_their_units(tmp_path: Path) -> None:
    plate = make(tmp_path / "P1.zarr", voxel_um=(1.0, 0.16, 0.16))
    cell = np.full(SHAPE, 13370, np.uint16)
    cell[2:5, 100:110, 20:30] = 13370 + 190
    cell[:, :4] = 0
    plate.write_field("C03", **PLACE, volume=cell)
    array = xr.open_zarr(str(plate.mip_path / "C" / "3" / "1"), consolidated=False, drop_variables=["1", "2"])["0"]
    physical = array.isel(t=1, z=0).values
    assert np.isnan(physical[:, :4]).all()
    np.testing.assert_allclose(physical[:, 105, 25], [1.356, 1.337 + 3 / 7 * 0.019, 3 * 0.019 / 0.19], atol=6e-5)
    np.testing.assert_allclose(physical[:, 50, 25], [1.337, 1.337, 1e-4], atol=1e-9)


def test_xarray_gives_the_index_and_nan(tmp_path: Path) -> None:
    plate = make(tmp_path / "P1.zarr")
    written = volume()
    written[:, :5] = 0
    plate.write_field("C03", **PLACE, volume=written)
    array = xr.open_zarr(str(plate.path / "C" / "3" / "1"), consolidated=False, drop_variables=["1"])["0"]
    np.testing.assert_allclose(array.values[1, 0], np.where(written > 0, written * 1e-4, np.nan))


def test_zarr_itself_would_describe_the_array_alike(tmp_path: Path) -> None:
    plate = make(tmp_path / "P1.zarr", shape_zyx=(16, 600, 520))
    for root, channels in ((plate.path, 1), (plate.mip_path, 3)):
        ours = stored_array(root, "C/3/1/0")
        theirs = zarr.create_array(
            zarr.storage.MemoryStore(),
            shape=ours.shape,
            chunks=ours.chunks,
            shards=ours.shards,
            dtype="uint16",
            compressors=[BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"), Crc32cCodec()],
            fill_value=0,
            dimension_names=list("tczyx"),
            attributes=dict(ours.attrs),
        )
        assert ours.metadata == theirs.metadata
        assert ours.shards[1] == channels


def test_plain_zarr_reads_the_same(tmp_path: Path) -> None:
    plate = make(tmp_path / "P1.zarr")
    plate.write_field("C03", **PLACE, volume=volume())
    stored = stored_array(plate.path, "C/3/1/0")
    assert np.array_equal(np.asarray(stored[1, 0]), volume())
    assert stored.metadata.dimension_names == ("t", "c", "z", "y", "x")


def test_coarser_levels_are_rounded_means_without_the_missing(tmp_path: Path) -> None:
    plate = make(tmp_path / "P1.zarr")
    written = volume()
    written[:, :5, :7] = 0
    plate.write_field("C03", **PLACE, volume=written)
    image = written.max(axis=0).astype(float)
    for level in (1, 2):
        image = np.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2)), mode="edge")
        pairs = image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2).swapaxes(1, 2)
        blocks = pairs.reshape(*pairs.shape[:2], 4)
        present = (blocks > 0).sum(axis=-1)
        mean = blocks.sum(axis=-1) / np.maximum(present, 1)
        thumbnail = plate.thumbnail("C03", **PLACE, level=level)
        assert thumbnail.shape == mean.shape
        assert np.array_equal(thumbnail == 0, present == 0)
        assert np.abs(thumbnail - mean).max() <= 0.5
        image = thumbnail.astype(float)


def test_coarser_levels_do_not_darken(tmp_path: Path) -> None:
    plate = make(tmp_path / "P1.zarr")
    plate.write_field("C03", **PLACE, volume=volume())
    fine, coarse = (np.asarray(stored_array(plate.path, f"C/3/1/{level}")[1, 0]) for level in (0, 1))
    # rounding is unbiased up to ties; a truncated mean would lose 0.47 of a count
    even = fine[:, :328, :96]
    assert abs(float(coarse[:, :82, :24].mean()) - float(even.mean())) < 0.06


def test_a_field_never_written_is_not_taken_for_zeros(tmp_path: Path) -> None:
    plate = make(tmp_path / "P1.zarr")
    assert not plate.has_field("A01", field=0, timepoint=0)
    for read in (plate.volume, plate.projection):
        with pytest.raises(StoreError, match="A01, field 0, timepoint 0: never written"):
            read("A01", field=0, timepoint=0)


def test_an_empty_tomogram_is_written_and_differs_from_none(tmp_path: Path) -> None:
    plate = make(tmp_path / "P1.zarr")
    plate.write_field("A01", field=0, timepoint=0, volume=np.zeros(SHAPE, np.uint16))
    assert plate.has_field("A01", field=0, timepoint=0)
    assert plate.volume("A01", field=0, timepoint=0).max() == 0


def test_a_file_emptied_by_a_crash_is_noticed_where_zarr_reads_zeros(tmp_path: Path) -> None:
    plate = make(tmp_path / "P1.zarr")
    plate.write_field("C03", **PLACE, volume=volume())
    shard = plate.field_files("C03", **PLACE)[0]
    shard.write_bytes(b"")
    assert np.asarray(stored_array(plate.path, "C/3/1/0")[1, 0]).max() == 0  # the fault bites
    with pytest.raises(StoreError, match="C03, field 1, timepoint 1"):
        plate.volume("C03", **PLACE)


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    plate = make(tmp_path / "P1.zarr")
    plate.write_field("C03", **PLACE, volume=volume())
    rng = np.random.default_rng(1)

    def projections(well: str, **place: Any) -> np.ndarray:
        kinds = ("maximum", "mean", "dry mass")
        return np.stack([plate.projection(well, **place, kind=kind) for kind in kinds])

    whole = projections("C03", **PLACE)
    for file, read in zip(
        (plate.field_files("C03", **PLACE)[0], plate.field_files("C03", **PLACE)[2]),
        (plate.volume, projections),
        strict=True,
    ):
        good = file.read_bytes()
        for position in rng.integers(0, len(good), 25):
            bad = bytearray(good)
            bad[position] ^= 1 << int(rng.integers(8))
            file.write_bytes(bad)
            with pytest.raises(StoreError, match="C03, field 1, timepoint 1: damaged"):
                read("C03", **PLACE)
        file.write_bytes(good)
        assert np.array_equal(read("C03", **PLACE), volume() if read == plate.volume else whole)


def test_a_torn_file_is_mended_by_writing_the_field_again(tmp_path: Path) -> None:
    plate = make(tmp_path / "P1.zarr")
    plate.write_field("C03", **PLACE, volume=volume(0))
    for file in plate.field_files("C03", **PLACE):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(StoreError, match="damaged"):
        plate.volume("C03", **PLACE)
    plate.write_field("C03", **PLACE, volume=volume(1))
    assert np.array_equal(plate.volume("C03", **PLACE), volume(1))
    assert np.array_equal(plate.projection("C03", **PLACE), volume(1).max(axis=0))


def test_the_same_tomogram_gives_the_same_bytes(tmp_path: Path) -> None:
    digests = set()
    for name in ("P1", "P2", "P3"):
        plate = make(tmp_path / f"{name}.zarr", shape_zyx=(16, 320, 320))
        plate.write_field("C03", **PLACE, volume=volume(shape=(16, 320, 320)))
        files = plate.field_files("C03", **PLACE)
        digests.add(hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest())
    assert len(digests) == 1


def test_writing_leaves_no_other_files(tmp_path: Path) -> None:
    plate = make(tmp_path / "P1.zarr")
    shard = plate.field_files("C03", **PLACE)[0]
    shard.parent.mkdir(parents=True)
    (shard.parent / "0.4711.partial").write_bytes(b"left by a killed writer")
    plate.write_field("C03", **PLACE, volume=volume())
    assert not list(tmp_path.rglob("*.partial"))
    shards = {path for path in tmp_path.rglob("*") if path.is_file() and path.name != "zarr.json"}
    assert shards == set(plate.field_files("C03", **PLACE))


def test_reopening_the_same_plate_keeps_its_fields(tmp_path: Path) -> None:
    plate = make(tmp_path / "P1.zarr")
    plate.write_field("C03", **PLACE, volume=volume())
    assert np.array_equal(make(tmp_path / "P1.zarr").volume("C03", **PLACE), volume())


def test_tomograms_of_another_kind_are_refused_naming_both(tmp_path: Path) -> None:
    make(tmp_path / "P1.zarr")
    with pytest.raises(StoreError, match=r"shape_zyx \(7, 330, 99\) there, \(7, 330, 100\) now"):
        make(tmp_path / "P1.zarr", shape_zyx=(7, 330, 100))


def test_a_plate_grows_and_keeps_what_it_holds(tmp_path: Path) -> None:
    plate = make(tmp_path / "P1.zarr")
    plate.write_field("C03", **PLACE, volume=volume())
    grown = make(tmp_path / "P1.zarr", wells=["A02", "C03"], fields=1, timepoints=3, hours=[0.0, 1.0, 2.0])
    assert (grown.wells, grown.fields, grown.timepoints) == (("A01", "A02", "C03"), 2, 3)
    assert open_plate(plate.path) == grown
    assert np.array_equal(grown.volume("C03", **PLACE), volume())
    grown.write_field("A02", field=1, timepoint=2, volume=volume(1))
    assert stored_array(plate.path, "A/2/1/0").shape == stored_array(plate.path, "C/3/1/0").shape == (3, 1, *SHAPE)
    # an older folder of acquisitions takes nothing away
    assert make(tmp_path / "P1.zarr").timepoints == 3


def test_a_plate_whose_making_was_interrupted_is_made_again(tmp_path: Path) -> None:
    plate = make(tmp_path / "P1.zarr")
    (plate.path / "zarr.json").unlink()
    (plate.path / "A" / "1" / "zarr.json").unlink()
    (plate.path / "A" / "zarr.json.12.partial").write_text("{")
    with pytest.raises(MissingInputError):
        open_plate(plate.path)
    make(tmp_path / "P1.zarr").write_field("A01", **PLACE, volume=volume())
    assert not list(tmp_path.rglob("*.partial"))
    assert stored_array(plate.path, "A/1/1/0").shape == (2, 1, *SHAPE)


def test_map_of_states_comes_back_and_fills_all_levels(tmp_path: Path) -> None:
    plate = make(tmp_path / "P1.zarr")
    classes = np.random.default_rng(0).integers(0, 6, SHAPE[1:]).astype(np.uint8)
    plate.write_classes("A01", field=0, timepoint=1, classes=classes)
    assert np.array_equal(plate.classes("A01", field=0, timepoint=1), classes)
    for level in ("0", "1", "2"):
        label = stored_array(plate.mip_path, f"A/1/0/labels/states/{level}")
        assert label.shape[1:] == stored_array(plate.mip_path, f"A/1/0/{level}").shape[2:]
    assert np.array_equal(np.asarray(label[1, 0]), classes[::4, ::4])


@pytest.mark.parametrize(
    "classes",
    [np.full(SHAPE[1:], 6, np.uint8), np.zeros(SHAPE[1:], np.int64), np.zeros((3, 3), np.uint8)],
)
def test_a_map_that_is_none_is_refused(tmp_path: Path, classes: np.ndarray) -> None:
    with pytest.raises(StoreError, match="map of states"):
        make(tmp_path / "P1.zarr").write_classes("A01", field=0, timepoint=0, classes=classes)


def test_what_does_not_fit_the_plate_is_refused(tmp_path: Path) -> None:
    plate = make(tmp_path / "P1.zarr")
    with pytest.raises(StoreError, match="expected uint16"):
        plate.write_field("A01", field=0, timepoint=0, volume=volume().astype(float))
    with pytest.raises(StoreError, match="expected uint16"):
        plate.write_field("A01", field=0, timepoint=0, volume=volume()[:, :-1])
    with pytest.raises(StoreError, match="no well 'A02'"):
        plate.write_field("A02", field=0, timepoint=0, volume=volume())
    with pytest.raises(StoreError, match="timepoint 2"):
        plate.projection("A01", field=0, timepoint=2)
    with pytest.raises(StoreError, match="listed twice or lies outside"):
        make(tmp_path / "P2.zarr", wells=["A01", "A01"])
    with pytest.raises(StoreError, match="listed twice or lies outside"):
        make(tmp_path / "P2.zarr", wells=["A13"])


def test_a_missing_or_foreign_plate_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="tomoscreen ingest"):
        open_plate(tmp_path / "none.zarr")
    (tmp_path / "foreign.zarr").mkdir()
    (tmp_path / "foreign.zarr" / "zarr.json").write_text(json.dumps({"attributes": {}}))
    with pytest.raises(StoreError, match="not a plate made by"):
        open_plate(tmp_path / "foreign.zarr")


def test_faster_codecs_that_check_nothing_are_not_used(tmp_path: Path) -> None:
    pytest.importorskip("zarrs", reason="comes with ngio's or iohub's extras")
    plate = make(tmp_path / "P1.zarr")
    plate.write_field("C03", **PLACE, volume=volume())
    shard = plate.field_files("C03", **PLACE)[0]
    damaged = bytearray(shard.read_bytes())
    damaged[1000] ^= 1
    shard.write_bytes(damaged)
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        with pytest.raises(StoreError, match="damaged"):
            plate.volume("C03", **PLACE)
        assert zarr.config.get("codec_pipeline.path") == "zarrs.ZarrsCodecPipeline"
