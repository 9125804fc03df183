"""OME-Zarr plates of other programs read to the last voxel, whatever their layout and metadata."""

import shutil
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tifffile
import zarr
from zarr.codecs import GzipCodec

from plates.creation import create_plate
from plates.errors import AcquisitionError
from plates.ingest import ome_zarr
from plates.ingest.acquisition import read_frame
from plates.ingest.ome_zarr import is_ome_zarr, open_ome_zarr, plate_sources

from .foreign_plates import (
    PART,
    SHAPE,
    TOOLS,
    VOXEL_UM,
    Tool,
    edit,
    one,
    read,
    stack,
    write_by_hand,
    write_image,
    write_with,
)

HL60 = Path(__file__).parents[1] / "data/hl60_tomogram/hl60_ri_x10000_140x140x140_0.139um.tif"


@pytest.mark.filterwarnings("ignore:Call to deprecated class Scaler")  # within ome-zarr-py
@pytest.mark.parametrize("tool", TOOLS)
def test_a_measured_tomogram_comes_through_other_peoples_plates_voxel_by_voxel(tmp_path: Path, tool: Tool) -> None:
    measured = tifffile.imread(HL60)
    path = write_with(tool, tmp_path / "p.zarr", {"A/1/0": measured, "B/3/0": measured[::-1]}, voxel_um=(0.139,) * 3)
    first, second = plate_sources(path)
    assert (first.well, second.well) == ("A01", "B03")
    np.testing.assert_array_equal(read(path, part=first.part), measured)
    np.testing.assert_array_equal(read(path, part=second.part), measured[::-1])
    with open_ome_zarr(path, part=first.part) as image:
        assert image.voxel_um == pytest.approx((0.139,) * 3)
        assert image.frames == (0,)
        assert dict(image.times_s) == {0: 0.0}


def test_our_own_plate_is_read_like_any_other(tmp_path: Path) -> None:
    measured = tifffile.imread(HL60)
    plate = create_plate(
        tmp_path / "own.zarr",
        name="own",
        wells=["A01", "C12"],
        fields=2,
        timepoints=3,
        shape_zyx=measured.shape,
        voxel_um=(0.139, 0.139, 0.139),
        rows=8,
        columns=12,
        hours=[0.0, 0.5, 2.0],
        provenance={},
    )
    plate.write_field("C12", field=1, timepoint=0, volume=measured)
    plate.write_field("C12", field=1, timepoint=2, volume=measured[::-1].copy())
    sources = plate_sources(plate.path)
    assert [(source.well, source.field) for source in sources] == [("A01", 0), ("A01", 1), ("C12", 0), ("C12", 1)]
    with open_ome_zarr(plate.path, part=sources[-1].part) as image:
        assert image.frames == (0, 2)
        assert image.planned == 3
        assert dict(image.times_s) == {0: 0.0, 2: 7200.0}  # uneven, as OME-Zarr itself cannot say
        np.testing.assert_array_equal(read_frame(image, 0)[0], measured)
        np.testing.assert_array_equal(read_frame(image, 2)[0], measured[::-1])
        with pytest.raises(AcquisitionError, match="frame 1 is missing"):
            read_frame(image, 1)
    with (
        pytest.raises(AcquisitionError, match="no chunk of a tomogram is stored"),
        open_ome_zarr(plate.path, part=sources[0].part),
    ):
        pass


LAYOUTS: dict[str, dict[str, Any]] = {
    "v2 slash": {"version": "0.4"},
    "v2 dot": {"version": "0.4", "array": {"chunk_key_encoding": {"name": "v2", "separator": "."}}},
    "v2 big-endian": {"version": "0.4", "array": {"dtype": ">u2"}},
    "v2 in Fortran's order": {"version": "0.4", "array": {"order": "F"}},
    "v3": {},
    "v3 dot": {"array": {"chunk_key_encoding": {"name": "default", "separator": "."}}},
    "v3 with v2 keys": {"array": {"chunk_key_encoding": {"name": "v2", "separator": "/"}}},
    "v3 sharded": {"sharded": True},
    "v3 gzip": {"array": {"compressors": [GzipCodec()]}},
}


@pytest.mark.filterwarnings("ignore:The `order` keyword argument has no effect")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axes", ["zyx", "czyx", "tzyx", "tczyx"])
def test_every_layout_and_order_of_axes_is_read_to_the_last_voxel(tmp_path: Path, axes: str, layout: str) -> None:
    choices = dict(LAYOUTS[layout])
    times, channels = (3 if "t" in axes else 1), (2 if "c" in axes else 1)
    truth = np.stack([np.stack([stack(10 * t + c) for c in range(channels)]) for t in range(times)])
    stored = truth.reshape([{"t": times, "c": channels}.get(axis) or SHAPE["zyx".index(axis)] for axis in axes])
    if choices.pop("sharded", False):
        lead = [1] * (len(axes) - 3)
        choices["array"] = {"chunks": (*lead, 2, 16, 16), "shards": (*lead, 6, 48, 48)}
    path = one(tmp_path, stored, axes=axes, labels=["RI", "DAPI"][:channels], **choices)
    with open_ome_zarr(path, part=PART) as image:
        assert image.shape_zyx == SHAPE
        assert image.voxel_um == VOXEL_UM
        assert image.frames == tuple(range(times))
        for frame in image.frames:
            np.testing.assert_array_equal(read_frame(image, frame)[0], truth[frame, 0])
            if channels == 2:
                np.testing.assert_array_equal(image.read_fluorescence("DAPI", frame=frame), truth[frame, 1])


@pytest.mark.parametrize("axes", ["xyz", "ctzyx", "zcyx"])
def test_axes_in_an_order_of_their_own_are_put_right(tmp_path: Path, axes: str) -> None:
    whole = np.stack([stack(0), stack(1)])[:, None]  # t, c, z, y, x
    shape = [size for axis, size in zip("tczyx", whole.shape, strict=True) if axis in axes]
    part = whole if "t" in axes else whole[:1]
    lying = [axis for axis in "tczyx" if axis in axes]
    if "t" in axes:
        shape[0] = 2
    stored = part.reshape(shape).transpose([lying.index(axis) for axis in axes])
    np.testing.assert_array_equal(read(one(tmp_path, stored, axes=axes), frame=part.shape[0] - 1), part[-1, 0])


def test_slabs_follow_the_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = one(tmp_path, array={"chunks": (2, 16, 16)})
    monkeypatch.setattr(ome_zarr, "_SLAB_VOXELS", 5 * SHAPE[1] * SHAPE[2])
    with open_ome_zarr(path, part=PART) as image:
        slabs = list(image.slabs(0))
    assert [slab.z for slab in slabs] == [0, 4]
    np.testing.assert_array_equal(np.concatenate([slab.counts for slab in slabs]), stack())


@pytest.mark.parametrize(
    ("stored", "attributes"),
    [
        (stack() / 1e4, {}),
        ((stack() / 1e4).astype(np.float32), {}),
        (stack().astype(np.float32), {}),
        (stack().astype(np.int16), {}),
        ((stack() / 1e4).astype(np.float32), {"scale_factor": 1.0}),
        (np.where(stack() > 0, stack() / 1e4, np.nan), {"scale_factor": 1.0, "missing_value": float("nan")}),
        (stack(), {"scale_factor": 1e-4}),
        (
            np.where(stack() > 0, stack() * 2.0 - 26000, 65535).astype(np.uint16),
            {"scale_factor": 0.5e-4, "add_offset": 1.3, "_FillValue": 65535},
        ),
        (np.where(stack() > 0, stack() / 1e4, np.nan).astype(np.float32), {"_FillValue": float("nan")}),
        (np.where(stack() > 0, stack(), 9).astype(np.uint16), {"missing_value": 9}),
    ],
    ids=[
        "float64",
        "float32",
        "float x 10,000",
        "int16",
        "scale 1",
        "scale 1 and NaN",
        "scale 1e-4",
        "scale and offset",
        "NaN",
        "missing value",
    ],
)
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_refractive_index_is_found_in_every_encoding(
    tmp_path: Path, stored: np.ndarray, attributes: dict[str, Any], version: Literal["0.4", "0.5"]
) -> None:
    path = one(tmp_path, stored, attributes=attributes, version=version)
    with open_ome_zarr(path, part=PART) as image:
        counts, nonfinite = read_frame(image, 0)
    assert counts.dtype == np.uint16
    np.testing.assert_array_equal(counts, stack())
    assert nonfinite == 0


def test_half_precision_is_not_made_worse(tmp_path: Path) -> None:
    half = (stack() / 1e4).astype(np.float16)
    np.testing.assert_array_equal(read(one(tmp_path, half)), np.rint(half.astype(np.float64) * 1e4).astype(np.uint16))


@pytest.mark.parametrize("attributes", [{"scale_factor": "x"}, {"scale_factor": 0}, {"add_offset": float("inf")}])
def test_a_scale_that_is_no_number_is_refused(tmp_path: Path, attributes: dict[str, Any]) -> None:
    with pytest.raises(AcquisitionError, match="scale_factor"):
        read(one(tmp_path, attributes=attributes))


def test_levels_of_eight_bits_need_their_scale(tmp_path: Path) -> None:
    levels = ((stack() - 13300.0).clip(0) / 10).astype(np.uint8)
    path = one(tmp_path, levels, attributes={"scale_factor": 1e-3, "add_offset": 1.33})
    np.testing.assert_array_equal(read(path), 13300 + 10 * levels.astype(np.uint16))
    bare = write_by_hand(tmp_path / "bare.zarr", {PART: levels})
    with pytest.raises(AcquisitionError, match="8-bit levels without scale_factor"):
        read(bare)


def test_garbage_is_counted_and_declared_gaps_are_not(tmp_path: Path) -> None:
    index = (stack() / 1e4).astype(np.float32)
    index[0, 0, 5] = np.nan
    index[0, 0, 6] = 1e30
    with open_ome_zarr(one(tmp_path, index), part=PART) as image:
        counts, nonfinite = read_frame(image, 0)
    assert nonfinite == 2
    assert counts[0, 0, 5] == counts[0, 0, 6] == 0


def test_what_is_no_refractive_index_is_refused(tmp_path: Path) -> None:
    camera = np.random.default_rng(0).integers(100, 4000, SHAPE).astype(np.uint16)
    with pytest.raises(AcquisitionError, match="median would be a refractive index of 0\\.2"):
        read(one(tmp_path, camera))


# size, place, time


def test_scale_and_translation_of_image_and_dataset_apply_one_after_the_other(tmp_path: Path) -> None:
    path = one(
        tmp_path,
        units={"z": "nanometer", "y": "nanometer", "x": "nanometer"},
        transformations=[
            {"type": "scale", "scale": [475, 80, 80]},
            {"type": "translation", "translation": [100, 200, 300]},
        ],
        multiscale={
            "coordinateTransformations": [
                {"type": "scale", "scale": [2, 2, 2]},
                {"type": "translation", "translation": [1e6, 2e6, 3e6]},
            ]
        },
    )
    with open_ome_zarr(path, part=PART) as image:
        assert image.voxel_um == pytest.approx(VOXEL_UM)
        assert image.position_mm == pytest.approx((3.0006, 2.0004, 1.0002))


def test_a_missing_unit_is_micrometer_only_where_that_can_be(tmp_path: Path) -> None:
    with open_ome_zarr(one(tmp_path / "a", units={}), part=PART) as image:
        assert image.voxel_um == VOXEL_UM
        assert np.isnan(image.position_mm).all()
    for number, scale in enumerate([[1, 1, 1], [950, 160, 160], [1e-6, 1e-7, 1e-7]]):
        path = one(tmp_path / str(number), units={}, transformations=[{"type": "scale", "scale": scale}])
        with pytest.raises(AcquisitionError, match=r'without a unit.*write scale and "unit": "micrometer"'):
            read(path)
    with pytest.raises(AcquisitionError, match="lengths in parsec"):
        read(one(tmp_path / "far", units={"z": "parsec", "y": "micrometer", "x": "micrometer"}))


@pytest.mark.parametrize(
    ("unit", "seconds"), [("minute", 600.0), ("hour", 36000.0), ("millisecond", 0.01), (None, np.nan)]
)
def test_times_come_from_the_step_and_its_unit(tmp_path: Path, unit: str | None, seconds: float) -> None:
    units = {"z": "micrometer", "y": "micrometer", "x": "micrometer", **({"t": unit} if unit else {})}
    path = one(
        tmp_path,
        np.stack([stack(0), stack(1)]),
        axes="tzyx",
        units=units,
        transformations=[{"type": "scale", "scale": [10, *VOXEL_UM]}],
    )
    with open_ome_zarr(path, part=PART) as image:
        np.testing.assert_allclose(image.times_s[1], seconds)


# plates


def test_fields_count_in_the_order_of_the_metadata_whatever_their_names(tmp_path: Path) -> None:
    images = {"B/02/fov1": stack(1), "B/02/fov0": stack(0), "AA/10/x": stack(2)}
    path = write_by_hand(tmp_path / "p.zarr", images)
    sources = plate_sources(path)
    assert [(source.well, source.field, source.part) for source in sources] == [
        ("B02", 0, "B/02/fov1"),
        ("B02", 1, "B/02/fov0"),
        ("AA10", 0, "AA/10/x"),
    ]
    for source in sources:
        np.testing.assert_array_equal(read(source.path, part=source.part), images[source.part])


def test_rows_may_be_numbered_and_names_without_meaning_are_counted(tmp_path: Path) -> None:
    numbered = write_by_hand(tmp_path / "p.zarr", {"2/5/0": stack(), "3/6/0": stack()})
    assert [source.well for source in plate_sources(numbered)] == ["B05", "C06"]
    named = write_by_hand(tmp_path / "q.zarr", {"row1/left/0": stack(), "row2/right/0": stack()})
    assert [source.well for source in plate_sources(named)] == ["A01", "B02"]


@pytest.mark.parametrize("starttime", [1_773_480_413, 1_773_480_413_000], ids=["seconds", "milliseconds"])
def test_one_of_several_acquisitions_is_to_be_chosen(tmp_path: Path, starttime: int) -> None:
    path = write_by_hand(
        tmp_path / "p.zarr",
        {"A/1/0": stack(0), "A/1/1": stack(1)},
        acquisitions={"A/1/0": 1, "A/1/1": 2},
        runs=[{"id": 1}, {"id": 2, "starttime": starttime}],
    )
    with pytest.raises(AcquisitionError, match=r"acquisitions 1, 2.*Choose one"):
        plate_sources(path)
    (source,) = plate_sources(path, acquisition=2)
    assert (source.part, source.field) == ("A/1/1", 0)
    assert source.recorded == datetime.fromtimestamp(1_773_480_413)
    with open_ome_zarr(path, part="A/1/1") as image:
        assert image.recorded == source.recorded
    with pytest.raises(AcquisitionError, match="no image of acquisition 3"):
        plate_sources(path, acquisition=3)


def test_a_plate_and_a_single_image_are_told_from_other_folders(tmp_path: Path) -> None:
    write_image(tmp_path / "image.zarr", stack(), axes="zyx")
    plate = one(tmp_path)
    (tmp_path / "empty").mkdir()
    zarr.create_group(str(tmp_path / "group.zarr"))
    broken = one(tmp_path / "broken")
    (broken / "zarr.json").write_text("{")
    answers = {path.name: is_ome_zarr(path) for path in (plate, tmp_path / "image.zarr", broken)}
    assert all(answers.values())
    assert not any(is_ome_zarr(tmp_path / name) for name in ("empty", "group.zarr", "absent"))
    np.testing.assert_array_equal(read(tmp_path / "image.zarr", part=""), stack())
    np.testing.assert_array_equal(read(plate, part=""), stack())
    with pytest.raises(AcquisitionError, match="not a plate"):
        plate_sources(tmp_path / "image.zarr")
    several = write_by_hand(tmp_path / "two.zarr", {"A/1/0": stack(), "A/2/0": stack()})
    with pytest.raises(AcquisitionError, match=r"a plate of 2 images \(A/1/0, A/2/0\)"):
        read(several, part="")


def test_wells_that_contradict_themselves_are_refused(tmp_path: Path) -> None:
    path = write_by_hand(tmp_path / "p.zarr", {"A/1/0": stack(), "B/2/0": stack()})
    original = (path / "zarr.json").read_text()

    def wells(document: Any) -> Any:
        return document["attributes"]["ome"]["plate"]["wells"]

    edit(path / "zarr.json", lambda document: wells(document)[0].update(rowIndex=1))
    with pytest.raises(AcquisitionError, match="'A/1' is said to lie in row 'B'"):
        plate_sources(path)
    (path / "zarr.json").write_text(original)
    edit(path / "zarr.json", lambda document: wells(document).append(wells(document)[0]))
    with pytest.raises(AcquisitionError, match="lists the wells A01 twice"):
        plate_sources(path)
    (path / "zarr.json").write_text(original)
    edit(path / "zarr.json", lambda document: wells(document)[1].update(rowIndex=-1))
    with pytest.raises(AcquisitionError, match="'B/2' is said to lie"):
        plate_sources(path)
    (path / "zarr.json").write_text(original)
    well = (path / "A/1/zarr.json").read_text()
    edit(
        path / "A/1/zarr.json",
        lambda document: document["attributes"]["ome"]["well"].update(images=[{"path": "0"}] * 2),
    )
    with pytest.raises(AcquisitionError, match="list an image twice among A/1/0, A/1/0"):
        plate_sources(path)
    (path / "A/1/zarr.json").write_text(well)
    shutil.rmtree(path / "B")
    with pytest.raises(AcquisitionError, match="B/2: the metadata name this folder, but it holds no zarr data"):
        plate_sources(path)


# channels


def test_the_channel_of_the_index_is_named_or_asked_for(tmp_path: Path) -> None:
    both = np.stack([stack(1) // 100, stack(0)])
    path = one(tmp_path / "a", both, axes="czyx", labels=["DAPI", "Refractive Index"])
    np.testing.assert_array_equal(read(path), stack(0))
    with open_ome_zarr(path, part=PART) as image:
        assert list(image.channels) == ["DAPI"]
        assert image.channels["DAPI"].shape_zyx == SHAPE
        np.testing.assert_array_equal(image.read_fluorescence("DAPI", frame=0), both[0])
        with pytest.raises(AcquisitionError, match="'FITC' frame 0 is missing"):
            image.read_fluorescence("FITC", frame=0)
    unclear = one(tmp_path / "b", both, axes="czyx", labels=["DAPI", "phase"])
    with pytest.raises(AcquisitionError, match=r"none of the channels DAPI, phase is .*\(option channel\)"):
        read(unclear)
    np.testing.assert_array_equal(read(unclear, channel="PHASE"), stack(0))
    np.testing.assert_array_equal(read(unclear, channel="1"), stack(0))
    with pytest.raises(AcquisitionError, match="'Hoechst', which was asked for"):
        read(unclear, channel="Hoechst")
    unnamed = one(tmp_path / "c", both, axes="czyx")
    with open_ome_zarr(unnamed, part=PART, channel="1") as image:
        assert list(image.channels) == ["CH0"]


# what is not stored


@pytest.mark.parametrize("sharded", [False, True])
def test_a_chunk_left_out_is_missing_and_a_frame_left_out_is_absent(tmp_path: Path, sharded: bool) -> None:
    frames = np.stack([stack(0), np.zeros(SHAPE, np.uint16), stack(2)])
    frames[0, :, :16, :16] = 0  # written by nobody: zarr leaves out what is the fill value
    array: dict[str, Any] = {"chunks": (1, 2, 16, 16)}
    if sharded:
        array["shards"] = (3, 6, 48, 48)  # all times in one file: only its index tells
    path = one(tmp_path, frames, axes="tzyx", array=array)
    with open_ome_zarr(path, part=PART) as image:
        assert image.frames == (0, 2)
        assert image.planned == 3
        np.testing.assert_array_equal(read_frame(image, 0)[0], frames[0])
        np.testing.assert_array_equal(read_frame(image, 2)[0], frames[2])


@pytest.mark.parametrize("sharded", [False, True])
def test_a_missing_chunk_that_would_pass_for_an_index_is_refused(tmp_path: Path, sharded: bool) -> None:
    volume = stack()
    volume[:2, 16:32, 16:32] = 13370
    array: dict[str, Any] = {"chunks": (2, 16, 16), "fill_value": 13370}
    if sharded:
        array["shards"] = (6, 48, 48)
    path = one(tmp_path, volume, array=array)
    with pytest.raises(AcquisitionError, match="1 of 27 chunks of timepoint 0 are not stored and would read as 13370"):
        read(path)


def test_a_lost_chunk_of_a_writer_that_stores_even_empty_ones_is_noticed(tmp_path: Path) -> None:
    volume = stack()
    volume[:2, :16, :16] = 0
    path = one(tmp_path, volume, array={"chunks": (2, 16, 16), "config": {"write_empty_chunks": True}})
    np.testing.assert_array_equal(read(path), volume)
    (path / PART / "0/c/1/1/1").unlink()
    with pytest.raises(AcquisitionError, match="chunks of timepoint 0 were lost"):
        read(path)


def test_an_offset_makes_a_missing_chunk_an_index_and_so_an_error(tmp_path: Path) -> None:
    levels = ((stack() - 13300.0).clip(0) / 10).astype(np.uint8)
    levels[:2, :16, :16] = 0
    attributes = {"scale_factor": 1e-3, "add_offset": 1.33}
    with pytest.raises(AcquisitionError, match="would read as 0, which is a refractive index"):
        read(one(tmp_path / "a", levels, array={"chunks": (2, 16, 16)}, attributes=attributes))
    path = one(tmp_path / "b", levels, array={"chunks": (2, 16, 16)}, attributes={**attributes, "_FillValue": 0})
    assert (read(path)[:2, :16, :16] == 0).all()
