"""OME-Zarr plates that are damaged, hostile or of another kind: one clear error each, never wrong voxels."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numcodecs import Blosc
from numcodecs import Zstd as ZstdV2
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec

from plates.errors import AcquisitionError
from plates.ingest.acquisition import read_frame
from plates.ingest.ome_zarr import open_ome_zarr, plate_sources

from .foreign_plates import (
    PART,
    SHAPE,
    edit,
    one,
    read,
    stack,
    write_by_hand,
    write_image,
)


def chunks_of(path: Path) -> list[Path]:
    array = path / PART / "0"
    return sorted(file for file in array.rglob("*") if file.is_file() and not file.name.startswith(("zarr.json", ".z")))


@pytest.mark.parametrize("name", ["../../secret", "/etc", "..", "", ".", "a\\..\\b", "a/../../b", "C:", "a\0b", 7])
def test_paths_that_leave_the_plate_are_refused(tmp_path: Path, name: object) -> None:
    write_image(tmp_path / "secret", stack(), axes="zyx")
    path = one(tmp_path)

    def dataset(document: Any) -> None:
        document["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"] = name

    def field(document: Any) -> None:
        document["attributes"]["ome"]["well"]["images"][0]["path"] = name

    edit(path / PART / "zarr.json", dataset)
    with pytest.raises(AcquisitionError, match="name the path"):
        read(path)
    edit(path / "A/1/zarr.json", field)
    with pytest.raises(AcquisitionError, match="name the path"):
        plate_sources(path)
    if name != "":
        with pytest.raises(AcquisitionError, match="name the path"):
            read(path, part=str(name) if name != 7 else "../p")


@pytest.mark.parametrize("what", ["A", "A/1/0", "A/1/0/0", "A/1/0/0/c", "A/1/0/0/c/0/0/0", "A/1/0/0/zarr.json"])
def test_links_out_of_the_plate_are_refused(tmp_path: Path, what: str) -> None:
    path = one(tmp_path)
    outside = tmp_path / "outside"
    shutil.move(path / what, outside)
    (path / what).symlink_to(outside)
    with pytest.raises(AcquisitionError, match="outside the plate"):
        read(path)
    (path / what).unlink()
    inside = path / "elsewhere"
    shutil.move(outside, inside)
    (path / what).symlink_to(inside)
    np.testing.assert_array_equal(read(path), stack())


def test_a_link_in_a_circle_or_a_pipe_does_not_hang(tmp_path: Path) -> None:
    path = one(tmp_path)
    chunk = path / PART / "0/c/0/0/0"
    chunk.unlink()
    chunk.symlink_to(chunk)
    with pytest.raises(AcquisitionError, match=r"cannot be followed|cannot be read|link to nothing"):
        read(path)
    chunk.unlink()
    os.mkfifo(chunk)
    with pytest.raises(AcquisitionError, match="no chunk of"):
        read(path)
    (path / PART / "zarr.json").unlink()
    os.mkfifo(path / PART / "zarr.json")
    with pytest.raises(AcquisitionError, match="no ordinary file"):
        read(path)


@pytest.mark.parametrize(
    "shape", [[60, 60000, 60000], [6, 10**9, 10**9], [5000, 20000, 20000], [-1, 4, 4], [0, 4, 4], "x"]
)
def test_impossible_shapes_are_refused_before_anything_is_allocated(tmp_path: Path, shape: object) -> None:
    path = one(tmp_path)
    edit(path / PART / "0/zarr.json", lambda document: document.update(shape=shape))
    with pytest.raises(AcquisitionError, match=r"claims|impossible|damaged|chunks"):
        read(path)


@pytest.mark.parametrize(("axes", "lead"), [("tzyx", [20_000]), ("czyx", [10**9])])
def test_endless_timepoints_and_channels_are_refused_at_once(tmp_path: Path, axes: str, lead: list[int]) -> None:
    path = one(tmp_path, stack()[None], axes=axes)
    edit(path / PART / "0/zarr.json", lambda document: document.update(shape=[*lead, *SHAPE]))
    with pytest.raises(AcquisitionError, match="it claims"):
        read(path)


def test_chunks_and_their_number_are_bounded(tmp_path: Path) -> None:
    def grid(*sizes: int) -> Callable[[Any], None]:
        return lambda document: document["chunk_grid"]["configuration"].update(chunk_shape=sizes)

    path = one(tmp_path)
    edit(path / PART / "0/zarr.json", grid(1000, 1000, 1000))
    with pytest.raises(AcquisitionError, match="one chunk has 2,000,000,000 bytes"):
        read(path)
    edit(path / PART / "0/zarr.json", grid(1, 1, 1))
    edit(path / PART / "0/zarr.json", lambda document: document.update(shape=[200, 200, 200]))
    with pytest.raises(AcquisitionError, match="more than 4,194,304 chunks"):
        read(path)


@pytest.mark.parametrize(
    "step",
    [
        {"type": "scale", "scale": [1, -1, 1]},
        {"type": "scale", "scale": [0.9, float("nan"), 0.1]},
        {"type": "scale", "scale": [0.1, 0.1]},
        {"type": "translation", "translation": [float("inf"), 0, 0]},
        {"type": "rotation", "rotation": [1, 0, 0]},
    ],
)
def test_transformations_that_mean_nothing_are_refused(tmp_path: Path, step: dict[str, Any]) -> None:
    with pytest.raises(AcquisitionError, match="damaged or incomplete"):
        read(one(tmp_path, transformations=[step]))


def test_a_small_plate_that_claims_gigabytes_is_refused(tmp_path: Path) -> None:
    path = one(tmp_path, array={"chunks": (6, 40, 36)})
    edit(path / PART / "0/zarr.json", lambda document: document.update(shape=[1000, 1000, 1000]))
    with (
        pytest.raises(AcquisitionError, match="claims 2,000,000,000 bytes and stores"),
        open_ome_zarr(path, part=PART) as image,
    ):
        next(image.slabs(0))


@pytest.mark.parametrize(
    "array",
    [
        {"compressors": [BloscCodec(cname="zstd")]},
        {"compressors": [ZstdCodec()]},
        {"compressors": [GzipCodec()]},
        {"compressors": [BloscCodec(cname="lz4"), Crc32cCodec()]},
        {"compressors": None},
        {"shards": (6, 48, 48)},
    ],
    ids=["blosc", "zstd", "gzip", "checksum", "plain", "sharded"],
)
def test_chunks_cut_short_are_refused(tmp_path: Path, array: dict[str, Any]) -> None:
    path = one(tmp_path, array=array)
    np.testing.assert_array_equal(read(path), stack())
    chunk = chunks_of(path)[0]
    whole = chunk.read_bytes()
    for length in (0, 1, 8, 15, 16, 17, len(whole) // 2, len(whole) - 4, len(whole) - 1):
        chunk.write_bytes(whole[:length])
        with pytest.raises(AcquisitionError, match="p\\.zarr"):
            read(path)


def test_a_shard_without_checksum_whose_index_points_beyond_it_is_refused(tmp_path: Path) -> None:
    path = one(tmp_path, array={"shards": (6, 48, 48)})
    shard = path / PART / "0/c/0/0/0"
    data = shard.read_bytes()[:-4]  # the index's checksum
    shard.write_bytes(data)

    def unchecked(document: Any) -> None:
        document["codecs"][0]["configuration"]["index_codecs"].pop()

    edit(path / PART / "0/zarr.json", unchecked)
    np.testing.assert_array_equal(read(path), stack())
    index = np.frombuffer(data[-16 * 9 :], dtype="<u8").reshape(9, 2).copy()
    index[4] = (len(data) - 10, 500)
    shard.write_bytes(data[: -16 * 9] + index.tobytes())
    with pytest.raises(AcquisitionError, match="its chunks lie beyond its end"):
        read(path)


def test_a_changed_bit_under_a_checksum_is_found(tmp_path: Path) -> None:
    path = one(tmp_path, array={"compressors": [BloscCodec(cname="zstd"), Crc32cCodec()]})
    chunk = chunks_of(path)[0]
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(AcquisitionError, match=r"damaged.*checksum|damaged.*crc32c"):
        read(path)


@pytest.mark.parametrize("compressor", [Blosc(cname="zstd"), ZstdV2(), None], ids=["blosc", "zstd", "plain"])
def test_a_chunk_of_another_size_is_refused(tmp_path: Path, compressor: Any) -> None:
    path = one(tmp_path, version="0.4", array={"compressors": compressor, "chunks": (6, 16, 16)})
    chunk = path / PART / "0/0/0/0"
    other = np.full((6, 16, 15), 13370, np.uint16).tobytes()
    chunk.write_bytes(compressor.encode(other) if compressor else other)
    with pytest.raises(AcquisitionError, match="damaged"):
        read(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"a": "\ud800"}', "\0", '{"attributes": 3}'])
@pytest.mark.parametrize("where", ["", "A/1", "A/1/0", "A/1/0/0"])
def test_damaged_metadata_are_one_clear_error(tmp_path: Path, where: str, text: str) -> None:
    path = one(tmp_path)
    (path / where / "zarr.json").write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(AcquisitionError, match="p\\.zarr"):
        [read(path, part=source.part) for source in plate_sources(path)]


@pytest.mark.parametrize("version", ["0.1", "0.2", "0.3", "0.6", "2"])
def test_other_versions_are_refused_by_name(tmp_path: Path, version: str) -> None:
    path = one(tmp_path, version="0.4")
    edit(path / ".zattrs", lambda document: document["plate"].update(version=version))
    edit(path / PART / ".zattrs", lambda document: document["multiscales"][0].update(version=version))
    with pytest.raises(AcquisitionError, match=f"OME-Zarr version {version}; versions 0.4 and 0.5 are read"):
        plate_sources(path)
    with pytest.raises(AcquisitionError, match=f"version {version}"):
        read(path / PART, part="")


def test_an_image_without_version_is_known_by_its_axes(tmp_path: Path) -> None:
    path = one(tmp_path, version="0.4") / PART
    edit(path / ".zattrs", lambda document: document["multiscales"][0].pop("version"))
    np.testing.assert_array_equal(read(path, part=""), stack())
    edit(path / ".zattrs", lambda document: document["multiscales"][0].update(axes=["z", "y", "x"]))
    with pytest.raises(AcquisitionError, match=r"version 0\.3 or older"):
        read(path, part="")


@pytest.mark.parametrize("codec", ["imagecodecs_jpegxl", "numcodecs.no_such"])
def test_a_codec_that_is_not_installed_is_named(tmp_path: Path, codec: str) -> None:
    path = one(tmp_path / "3")

    def change(document: Any) -> None:
        document["codecs"][-1] = {"name": codec, "configuration": {}}

    edit(path / PART / "0/zarr.json", change)
    with pytest.raises(AcquisitionError, match=f"the codec '{codec}', which is not installed"):
        read(path)
    older = one(tmp_path / "2", version="0.4")
    edit(older / PART / "0/.zarray", lambda document: document.update(compressor={"id": codec}))
    with pytest.raises(AcquisitionError, match=f"the codec '{codec}', which is not installed"):
        read(older)


def test_images_that_are_no_tomogram_are_refused(tmp_path: Path) -> None:
    double = write_by_hand(tmp_path / "double.zarr", {PART: stack()[None]}, axes="zzyx")
    with pytest.raises(AcquisitionError, match="the axes z, z, y, x"):
        read(double)
    flat = write_by_hand(tmp_path / "flat.zarr", {PART: stack()[0]}, axes="yx")
    with pytest.raises(AcquisitionError, match="the axes y, x; a tomogram has z, y, x"):
        read(flat)
    mask = write_by_hand(tmp_path / "mask.zarr", {PART: stack() > 0})
    with pytest.raises(AcquisitionError, match="holds bool, not numbers"):
        read(mask)


FUZZED: dict[str, dict[str, Any]] = {
    "v2 blosc": {"version": "0.4", "array": {"compressors": Blosc(cname="lz4")}},
    "v3 zstd": {},
    "v3 gzip": {"array": {"compressors": [GzipCodec()]}},
    "v3 sharded with checksums": {
        "array": {"shards": (6, 48, 48), "compressors": [BloscCodec(cname="zstd"), Crc32cCodec()]}
    },
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("layout", FUZZED)
def test_random_damage_is_an_error_or_harmless_and_never_a_crash(tmp_path: Path, layout: str) -> None:
    rng = np.random.default_rng(len(layout))
    pristine = one(tmp_path, **FUZZED[layout])
    files = sorted(file.relative_to(pristine) for file in pristine.rglob("*") if file.is_file())
    truth = stack()
    refused = 0
    for _ in range(150):
        file = pristine / files[rng.integers(len(files))]
        whole = file.read_bytes()
        damaged = bytearray(whole)
        if rng.random() < 0.3:
            damaged = damaged[: rng.integers(len(damaged))]
        else:
            for place in rng.integers(len(damaged), size=rng.integers(1, 4)):
                damaged[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        try:
            (source,) = plate_sources(pristine)
            with open_ome_zarr(pristine, part=source.part) as image:
                counts, _ = read_frame(image, 0)
        except AcquisitionError:
            refused += 1
        else:
            # a length of text may change unnoticed; a voxel under a checksum may not
            if layout.endswith("checksums") and counts.shape == SHAPE and file.name != "zarr.json":
                np.testing.assert_array_equal(counts, truth)
        file.write_bytes(whole)
    assert refused > 50
    np.testing.assert_array_equal(read(pristine), truth)
