"""TCF files in every variant, read back to the last voxel, and refused where they cannot be trusted."""

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

from plates.errors import AcquisitionError
from plates.ingest import tcf
from plates.ingest.acquisition import read_frame
from plates.ingest.tcf import open_tcf
from plates.simulation.acquisition import FluorescenceFrames, Variant

from .acquisitions import SHAPE, START, VOXEL_UM, tomogram, write_one

FRAME = "Data/3D/000000"


def read(path: Path, frame: int = 0, **options: Any) -> tuple[np.ndarray, int]:
    with open_tcf(path, **options) as acquisition:
        return read_frame(acquisition, frame)


def edited(path: Path, change: Callable[[Any], None]) -> Path:
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def replace_frame(file: Any, data: np.ndarray, **options: Any) -> None:
    attributes = dict(file[FRAME].attrs)
    del file[FRAME]
    file.create_dataset(FRAME, data=data, **options).attrs.update(attributes)


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("variant", ["uint16", "float", "ldm", "ldm8"])
def test_every_variant_is_read_to_the_last_voxel(tmp_path: Path, variant: Variant, compression: str) -> None:
    frames = [tomogram(seed) for seed in range(3)]
    if variant == "ldm8":  # levels of 1e-3 above the lowest index
        frames = [np.where(f > 0, 13300 + (f - np.uint16(13300)) // 10 * 10, 0).astype(np.uint16) for f in frames]
    path = write_one(tmp_path / "a.TCF", frames, variant=variant, compression=compression)
    with open_tcf(path) as acquisition:
        assert acquisition.frames == (0, 1, 2)
        assert acquisition.shape_zyx == SHAPE
        for number, frame in enumerate(frames):
            counts, nonfinite = read_frame(acquisition, number)
            assert counts.dtype == np.uint16
            np.testing.assert_array_equal(counts, frame)
            assert nonfinite == 0


@pytest.mark.parametrize("variant", ["uint16", "float", "ldm", "ldm8"])
def test_slabs_put_together_are_the_frame(tmp_path: Path, variant: Variant, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(0)], variant=variant, compression="none")
    whole, _ = read(path)
    monkeypatch.setattr(tcf, "_SLAB_VOXELS", 2 * SHAPE[1] * SHAPE[2])
    with open_tcf(path) as acquisition:
        slabs = list(acquisition.slabs(0))
        assert [slab.z for slab in slabs] == [0, 2, 4]
        np.testing.assert_array_equal(np.concatenate([slab.counts for slab in slabs]), whole)
        np.testing.assert_array_equal(read_frame(acquisition, 0)[0], whole)


def test_header_is_read_with_units(tmp_path: Path) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(0)] * 2, times_s=[0.0, 1790.5], position_mm=(1.5, -2.0, 0.25))
    with open_tcf(path) as acquisition:
        assert acquisition.voxel_um == VOXEL_UM
        assert acquisition.times_s == {0: 0.0, 1: 1790.5}
        assert acquisition.recorded == START
        assert acquisition.medium_index == pytest.approx(1.337)
        assert acquisition.position_mm == (1.5, -2.0, 0.25)
        assert acquisition.planned == 2


def test_medium_and_lowest_index_may_come_times_ten_thousand(tmp_path: Path) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(0)], variant="ldm8")
    stored, _ = read(path)

    def plain(file: Any) -> None:
        lowest = file[FRAME].attrs["RIMin"][0]
        assert lowest > 100
        file[FRAME].attrs["RIMin"] = np.array([lowest / 1e4])
        file["Info/Device"].attrs["RI"] = np.array([13370.0])

    edited(path, plain)
    np.testing.assert_array_equal(read(path)[0], stored)
    with open_tcf(path) as acquisition:
        assert acquisition.medium_index == pytest.approx(1.337)


def test_level_zero_of_eight_bits_is_missing_or_the_lowest_index(tmp_path: Path) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(0)], variant="ldm8")
    with h5py.File(path) as file:
        lowest = round(file[FRAME].attrs["RIMin"][0])
    missing = tomogram(0) == 0
    assert (read(path)[0][missing] == 0).all()
    assert (read(path, zero_level_is_missing=False)[0][missing] == lowest).all()


def test_floats_may_be_indices_or_times_ten_thousand(tmp_path: Path) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(0)], variant="float")
    edited(path, lambda file: replace_frame(file, tomogram(0).astype(np.float64)))
    np.testing.assert_array_equal(read(path)[0], tomogram(0))


def test_only_tiles_of_full_resolution_are_data(tmp_path: Path) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(0)], variant="ldm", tiles_yx=(3, 2), decoy=True)
    with h5py.File(path) as file:
        steps = [int(tile.attrs["SamplingStep"][0]) for tile in file[FRAME].values()]
    assert sorted(steps) == [1, 1, 1, 1, 1, 1, 2]
    np.testing.assert_array_equal(read(path)[0], tomogram(0))
    # the fault bites: the decoy taken for data is refused, never blended in
    edited(path, lambda file: file[FRAME]["TILE_00"].attrs.update(SamplingStep=np.array([1])))
    with pytest.raises(AcquisitionError, match="TILE_00 covers voxels"):
        read(path)


def test_tiles_are_larger_than_what_they_cover_and_overlap(tmp_path: Path) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(0)], variant="ldm", tiles_yx=(1, 1), decoy=False)

    def pad(file: Any) -> None:
        padded = np.pad(tomogram(0), ((0, 2), (0, 10), (0, 5)), constant_values=9)
        attributes = dict(file[FRAME]["TILE_00"].attrs)
        del file[FRAME]["TILE_00"]
        for name in ("TILE_000", "TILE_001"):  # assigned, not added
            file[FRAME].create_dataset(name, data=padded).attrs.update(attributes)

    np.testing.assert_array_equal(read(edited(path, pad))[0], tomogram(0))


def test_what_no_tile_covers_is_missing(tmp_path: Path) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(0)], variant="ldm", tiles_yx=(2, 1), decoy=False)
    edited(path, lambda file: file[FRAME].__delitem__("TILE_01"))
    counts, _ = read(path)
    np.testing.assert_array_equal(counts[:, :35], tomogram(0)[:, :35])
    assert counts[:, 35:].max() == 0


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "gzip", "shuffle": True, "chunks": (2, 35, 64)},
        {**hdf5plugin.Blosc(cname="zstd"), "chunks": (4, 70, 32)},
        {**hdf5plugin.Zstd(), "chunks": (3, 70, 64)},
    ],
)
def test_filters_do_not_matter(tmp_path: Path, options: dict[str, Any]) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(1)])
    edited(path, lambda file: replace_frame(file, tomogram(0), **options))
    np.testing.assert_array_equal(read(path)[0], tomogram(0))


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int16, np.float32, np.float64, ">u2"])
def test_number_types_do_not_matter(tmp_path: Path, dtype: Any) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(1)])
    edited(path, lambda file: replace_frame(file, tomogram(0).astype(dtype)))
    counts, _ = read(path)
    assert counts.dtype == np.uint16
    np.testing.assert_array_equal(counts, tomogram(0))


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e30, -1e30])
@pytest.mark.parametrize("scale", [1, 1e4])
def test_garbage_is_counted_and_missing(tmp_path: Path, garbage: float, scale: float) -> None:
    values = tomogram(0) / 1e4 * scale
    values[2, 30:40, 30] = garbage
    path = write_one(tmp_path / "a.TCF", [tomogram(1)])
    edited(path, lambda file: replace_frame(file, values.astype(np.float32)))
    counts, nonfinite = read(path)
    assert nonfinite == 10
    expected = tomogram(0)
    expected[2, 30:40, 30] = 0
    np.testing.assert_array_equal(counts, expected)


@pytest.mark.parametrize(("value", "shown"), [(-1.337, "-1.337"), (7.0, "7")])
def test_an_index_that_does_not_fit_is_refused_not_wrapped(tmp_path: Path, value: float, shown: str) -> None:
    values = tomogram(0) / 1e4
    values[0, 5, 5] = value
    path = write_one(tmp_path / "a.TCF", [tomogram(1)])
    edited(path, lambda file: replace_frame(file, values))
    with pytest.raises(AcquisitionError, match=f"refractive indices from .*{shown}"):
        read(path)
    edited(path, lambda file: replace_frame(file, np.rint(values * 1e4).astype(np.int32)))
    with pytest.raises(AcquisitionError, match=f"refractive indices from .*{shown}"):
        read(path)


def test_a_missing_frame_leaves_a_gap_and_the_plan_is_known(tmp_path: Path) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(seed) for seed in range(4)])

    def cut(file: Any) -> None:
        del file["Data/3D/000001"]
        file["Data/3D"].attrs["DataCount"] = np.array([6])

    with open_tcf(edited(path, cut)) as acquisition:
        assert acquisition.frames == (0, 2, 3)
        assert acquisition.planned == 6
        np.testing.assert_array_equal(read_frame(acquisition, 2)[0], tomogram(2))
        with pytest.raises(AcquisitionError, match="frame 1 is missing"):
            read_frame(acquisition, 1)


def test_times_come_from_the_interval_where_frames_have_none(tmp_path: Path) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(0)] * 3)

    def older(file: Any) -> None:
        for frame in file["Data/3D"].values():
            del frame.attrs["Time"]
        file["Data/3D"].attrs["TimeInterval"] = np.array([600.0])

    with open_tcf(edited(path, older)) as acquisition:
        assert acquisition.times_s == {0: 0.0, 1: 600.0, 2: 1200.0}


@pytest.mark.parametrize("variant", ["uint16", "ldm"])
def test_fluorescence_has_its_own_grid_and_frames(tmp_path: Path, variant: Variant) -> None:
    rng = np.random.default_rng(0)
    stacks: dict[str, np.ndarray] = {
        "CH0": rng.integers(0, 255, (3, 50, 40)).astype(np.uint8),
        "CH1": rng.integers(0, 4000, (3, 50, 40)).astype(np.uint16),
    }
    channels = {
        name: FluorescenceFrames(
            frames=[stack],
            voxel_um=(1.04, 0.1215, 0.1215),
            times_s=[0.0],
            offset_z_um=2.5,
            excitation_um=0.392,
            emission_um=0.432,
        )
        for name, stack in stacks.items()
    }
    path = write_one(tmp_path / "a.TCF", [tomogram(0)] * 2, variant=variant, fluorescence=channels)
    with open_tcf(path) as acquisition:
        assert set(acquisition.channels) == {"CH0", "CH1"}
        channel = acquisition.channels["CH1"]
        assert (channel.frames, channel.shape_zyx) == ((0,), (3, 50, 40))
        assert (channel.voxel_um, channel.offset_z_um) == ((1.04, 0.1215, 0.1215), 2.5)
        for name, stack in stacks.items():
            read_back = acquisition.read_fluorescence(name, frame=0)
            assert read_back.dtype == stack.dtype
            np.testing.assert_array_equal(read_back, stack)
        with pytest.raises(AcquisitionError, match="'CH0' frame 1 is missing"):
            acquisition.read_fluorescence("CH0", frame=1)


def test_the_same_acquisition_gives_the_same_bytes(tmp_path: Path) -> None:
    variants: tuple[Variant, ...] = ("uint16", "float", "ldm", "ldm8")

    def written(folder: Path) -> list[bytes]:
        return [
            write_one(folder / variant / "a.TCF", [tomogram(0)], variant=variant).read_bytes() for variant in variants
        ]

    first = written(tmp_path / "1")
    time.sleep(1.1)  # HDF5's clock counts seconds
    assert written(tmp_path / "2") == first


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_one_clear_error(tmp_path: Path, share: float) -> None:
    path = write_one(tmp_path / "cut.TCF", [tomogram(0)] * 2)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(AcquisitionError, match=r"cut\.TCF: not a complete TCF .* Copy it again"):
        read(path)


def test_a_file_still_being_written_is_said_so(tmp_path: Path) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(0)])
    script = "import h5py,sys; f=h5py.File(sys.argv[1],'r+'); print('open',flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        with pytest.raises(AcquisitionError, match="still being written by another program"):
            read(path)
        writer.kill()


def test_a_frame_that_was_never_filled_is_refused_alone(tmp_path: Path) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(0)] * 2)

    def hollow(file: Any) -> None:
        del file["Data/3D/000001"]
        file.create_dataset("Data/3D/000001", SHAPE, dtype=np.uint16, chunks=SHAPE)

    with open_tcf(edited(path, hollow)) as acquisition:
        np.testing.assert_array_equal(read_frame(acquisition, 0)[0], tomogram(0))
        with pytest.raises(AcquisitionError, match="000001 holds no data"):
            read_frame(acquisition, 1)


@pytest.mark.parametrize(
    ("shape", "chunks"), [((1 << 14, 1 << 16, 1 << 15), (1, 1024, 1024)), ((64, 4096, 4096), (1, 1024, 1024))]
)
def test_impossible_claims_are_refused_before_memory_is_taken(
    tmp_path: Path, shape: tuple[int, int, int], chunks: tuple[int, int, int]
) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(0)])

    def claim(file: Any) -> None:
        del file[FRAME]
        frame = file.create_dataset(FRAME, shape, dtype=np.uint16, chunks=chunks, compression="gzip")
        frame[0, :1024, :1024] = 13370

    edited(path, claim)
    assert path.stat().st_size < 200_000
    with pytest.raises(AcquisitionError, match="claims"):
        read(path)


def test_links_and_storage_outside_the_file_are_never_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file.create_dataset("3D/000000", data=tomogram(7))
        file["3D"].attrs["DataCount"] = 1
    raw = tmp_path / "secret.bin"
    raw.write_bytes(tomogram(7).tobytes())

    def external_frame(file: Any) -> None:
        del file[FRAME]
        file[FRAME] = h5py.ExternalLink(str(secret), "3D/000000")

    def external_midway(file: Any) -> None:
        del file["Data"]
        file["Data"] = h5py.ExternalLink(str(secret), "/")

    def soft_loop(file: Any) -> None:
        del file[FRAME]
        file[FRAME] = h5py.SoftLink(f"/{FRAME}")

    def external_storage(file: Any) -> None:
        del file[FRAME]
        file.create_dataset(FRAME, SHAPE, dtype=np.uint16, external=[(str(raw), 0, h5py.h5f.UNLIMITED)])

    def virtual(file: Any) -> None:
        del file[FRAME]
        layout = h5py.VirtualLayout(SHAPE, dtype=np.uint16)
        layout[:] = h5py.VirtualSource(str(secret), "3D/000000", shape=SHAPE)
        file.create_virtual_dataset(FRAME, layout)

    for change in (external_frame, external_midway, soft_loop, external_storage, virtual):
        path = edited(write_one(tmp_path / "a.TCF", [tomogram(0)]), change)
        with pytest.raises(AcquisitionError, match=r"is a link to elsewhere|takes its data from another file"):
            read(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.__delitem__("Data/3D"), "/Data/3D is missing"),
        (lambda file: file["Data/3D"].attrs.__delitem__("ResolutionX"), "does not give a voxel size"),
        (lambda file: file.__delitem__(FRAME), "holds no tomogram"),
        (lambda file: replace_frame(file, tomogram(0)[0]), "expected \\(z, y, x\\)"),
        (lambda file: replace_frame(file, np.full(SHAPE, b"x")), "not numbers"),
    ],
)
def test_what_is_no_tomogram_is_said_so(tmp_path: Path, change: Callable[[Any], None], message: str) -> None:
    path = edited(write_one(tmp_path / "a.TCF", [tomogram(0)]), change)
    with pytest.raises(AcquisitionError, match=message):
        read(path)


def test_frames_have_times_and_places_of_their_own(tmp_path: Path) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(0)] * 2, times_s=[0.0, 1790.5], position_mm=(1.5, -2.0, 0.25))

    def move(file: Any) -> None:
        file["Data/3D/000001"].attrs["PositionX"] = 1.75  # a scalar
        del file["Data/3D/000001"].attrs["RecordingTime"]
        del file["Data/3D/000001"].attrs["PositionZ"]

    with open_tcf(edited(path, move)) as acquisition:
        assert acquisition.recorded_frames == {0: START, 1: None}
        assert acquisition.positions_mm[0] == acquisition.position_mm == (1.5, -2.0, 0.25)
        np.testing.assert_equal(acquisition.positions_mm[1], (1.75, -2.0, np.nan))


@pytest.mark.parametrize("name", ["a.TCF", "a.tcf", "no extension"])
def test_structure_decides_and_neither_name_nor_version(tmp_path: Path, name: str) -> None:
    path = write_one(tmp_path / name, [tomogram(0)])

    def rewrite(file: Any) -> None:
        file.attrs["FormatVersion"] = np.array([99.5])
        file["Info"].attrs["Version"] = "none"

    np.testing.assert_array_equal(read(edited(path, rewrite))[0], tomogram(0))


def test_phase_maps_and_bright_field_are_let_lie(tmp_path: Path) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(0)])

    def add(file: Any) -> None:
        file.create_dataset("Data/2D/000000", data=np.full((70, 64), np.nan, dtype=np.float32))
        file.create_dataset("Data/BF/000000", data=np.zeros((70, 64, 3), dtype=np.uint8))
        file.create_dataset("Data/BF/000001", data=np.zeros((3, 70, 64), dtype=np.uint8))
        file["Data/Table"] = np.array([(1, 2.0)], dtype=[("a", int), ("b", float)])

    with open_tcf(edited(path, add)) as acquisition:
        assert acquisition.frames == (0,)
        np.testing.assert_array_equal(read_frame(acquisition, 0)[0], tomogram(0))


@pytest.mark.parametrize("variant", ["uint16", "float", "ldm", "ldm8"])
def test_the_instruments_projection_is_the_maximum_of_the_volume(tmp_path: Path, variant: Variant) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(0), tomogram(1)], variant=variant)
    with open_tcf(path) as acquisition:
        for frame in acquisition.frames:
            top = read_frame(acquisition, frame)[0].max(axis=0)
            np.testing.assert_array_equal(acquisition.own_projection(frame), top)
            np.testing.assert_array_equal(acquisition.projection(frame), top)


@pytest.mark.parametrize("stored", [None, np.ones((3, 3), dtype=np.uint16), np.ones((3, 70, 64), dtype=np.uint16)])
def test_a_projection_is_made_where_the_file_holds_none_that_fits(tmp_path: Path, stored: np.ndarray | None) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(0)])

    def replace(file: Any) -> None:
        del file["Data/2DMIP/000000"]
        if stored is not None:
            file["Data/2DMIP/000000"] = stored

    with open_tcf(edited(path, replace)) as acquisition:
        assert acquisition.own_projection(0) is None
        np.testing.assert_array_equal(acquisition.projection(0), tomogram(0).max(axis=0))


def test_eight_bits_without_a_lowest_index_mean_nothing(tmp_path: Path) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(0)])
    levels = np.arange(tomogram(0).size).reshape(SHAPE).astype(np.uint8)
    edited(path, lambda file: replace_frame(file, levels))
    edited(path, lambda file: file[FRAME].attrs.update(RIMin=np.array([13310.0])))
    expected = np.where(levels > 0, 13310 + 10 * levels.astype(int), 0)
    np.testing.assert_array_equal(read(path)[0], expected)

    def set_lowest(file: Any, *, lowest: float) -> None:
        file[FRAME].attrs["RIMin"] = lowest

    for lowest in (0.0, 0.01331, 7.0, np.nan):
        edited(path, partial(set_lowest, lowest=lowest))
        with pytest.raises(AcquisitionError, match="8-bit levels above a lowest index"):
            read(path)


@pytest.mark.parametrize(("variant", "other"), [("ldm", 1), ("ldm8", 0)])
def test_a_header_that_contradicts_the_tiles_is_refused(tmp_path: Path, variant: Variant, other: int) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(0)], variant=variant)
    edited(path, lambda file: file[FRAME].attrs.update(ScalarType=other))
    with pytest.raises(AcquisitionError, match=f"gives ScalarType {other} for values of uint"):
        read(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file["Data/3D"].attrs.update(SizeX=66), r"announces tomograms of \(6, 70, 66\) voxels"),
        (lambda file: file["Data/3D"].move("000001", "0000\x101"), "announces 2 frames and holds 1 beside"),
        (lambda file: file["Data/3D"].copy("000001", "0001"), "holds frame 1 twice"),
        (lambda file: file["Data/3D"].attrs.update(DataCount=20_000), "announces 20000 frames"),
        (lambda file: file["Data/3D"].attrs.update(DataCount=2.5), "DataCount as 2.5, expected a whole number"),
    ],
)
def test_a_series_that_contradicts_itself_is_refused(
    tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    path = edited(write_one(tmp_path / "a.TCF", [tomogram(0), tomogram(1)]), change)
    with pytest.raises(AcquisitionError, match=message):
        read(path)


def test_a_frame_of_another_shape_is_refused_alone(tmp_path: Path) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(0), tomogram(1)])

    def crop(file: Any) -> None:
        del file["Data/3D/000001"]
        file["Data/3D/000001"] = tomogram(1)[:, :60]

    with open_tcf(edited(path, crop)) as acquisition:
        np.testing.assert_array_equal(read_frame(acquisition, 0)[0], tomogram(0))
        with pytest.raises(AcquisitionError, match=r"frame 1 has the shape \(6, 60, 64\)"):
            read_frame(acquisition, 1)


def stained(path: Path, stack: np.ndarray, **changes: Any) -> Path:
    frames = FluorescenceFrames(frames=[stack], voxel_um=(1.04, 0.12, 0.12), times_s=[0.0], offset_z_um=2.5)
    return write_one(path, [tomogram(0)] * 3, fluorescence={"CH0": frames}, **changes)


def test_the_height_of_fluorescence_is_given_in_either_place(tmp_path: Path) -> None:
    path = stained(tmp_path / "a.TCF", np.ones((3, 50, 40), dtype=np.uint8))

    def to_stacks(file: Any) -> None:  # as HT-2H does
        del file["Data/3DFL/CH0"].attrs["OffsetZ"]
        file["Data/3DFL"].attrs["OffsetZ"] = np.array([7.5])
        for name in list(file[FRAME].attrs):
            del file[FRAME].attrs[name]

    with open_tcf(path) as acquisition:
        assert acquisition.channels["CH0"].offset_z_um == 2.5
    with open_tcf(edited(path, to_stacks)) as acquisition:
        assert acquisition.channels["CH0"].offset_z_um == 7.5
        assert acquisition.channels["CH0"].frames == (0,)  # of three tomograms
        np.testing.assert_array_equal(read_frame(acquisition, 0)[0], tomogram(0))


def test_tiled_fluorescence_lies_above_its_lowest_intensity(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 256, (3, 50, 40)).astype(np.uint8)
    path = stained(tmp_path / "a.TCF", stack, variant="ldm")

    def set_base(file: Any, *, base: int) -> None:
        file["Data/3DFL/CH0/000000"].attrs["MinIntensity"] = float(base)

    for base in (0, 90, 65280):
        edited(path, partial(set_base, base=base))
        with open_tcf(path) as acquisition:
            read_back = acquisition.read_fluorescence("CH0", frame=0)
        assert read_back.dtype == (np.uint16 if base else np.uint8)
        np.testing.assert_array_equal(read_back, stack.astype(int) + base)
    edited(path, lambda file: file["Data/3DFL/CH0/000000"].attrs.update(MinIntensity=65281.0))
    with open_tcf(path) as acquisition, pytest.raises(AcquisitionError, match="MinIntensity as 65281"):
        acquisition.read_fluorescence("CH0", frame=0)


@pytest.mark.parametrize("stack", [np.full((3, 50, 40), -1), np.full((3, 50, 40), 70_000), np.ones((3, 50, 40))])
def test_what_no_camera_gives_is_refused_and_tomograms_are_not(tmp_path: Path, stack: np.ndarray) -> None:
    path = stained(tmp_path / "a.TCF", np.ones((3, 50, 40), dtype=np.uint8))

    def replace(file: Any) -> None:
        del file["Data/3DFL/CH0/000000"]
        file["Data/3DFL/CH0/000000"] = stack

    with open_tcf(edited(path, replace)) as acquisition:
        with pytest.raises(AcquisitionError, match="expected whole numbers to 65535"):
            acquisition.read_fluorescence("CH0", frame=0)
        np.testing.assert_array_equal(read_frame(acquisition, 0)[0], tomogram(0))


def test_an_error_of_the_caller_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(0)])
    with pytest.raises(OSError, match="disk full"), open_tcf(path):
        raise OSError(28, "disk full")
