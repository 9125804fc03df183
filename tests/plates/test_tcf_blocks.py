"""Reading past HDF5: used where it can be, given up where it cannot, and stopped where a chunk lies."""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from numcodecs import blosc, zstd

from plates.errors import AcquisitionError
from plates.ingest.acquisition import read_frame
from plates.ingest.blocks import RawFile
from plates.ingest.tcf import open_tcf

from .acquisitions import SHAPE, tomogram
from .tcf_files import Stored, write_file

CHUNK = (2, 70, 64)
GZIP = {"chunks": CHUNK, "compression": "gzip"}


def written(path: Path, **layout: Any) -> Path:
    return write_file(path, {0: Stored(tomogram(0), tomogram(0), layout=layout)})


def read(path: Path, **options: Any) -> np.ndarray:
    with open_tcf(path, **options) as acquisition:
        return read_frame(acquisition, 0)[0]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"chunks": CHUNK},
        GZIP,
        {**GZIP, "shuffle": True},
        {"chunks": CHUNK, **hdf5plugin.Zstd(clevel=3)},
        {"chunks": CHUNK, "shuffle": True, **hdf5plugin.Zstd(clevel=3)},
        {"chunks": CHUNK, **hdf5plugin.Blosc()},
    ],
)
def test_usual_files_are_read_without_hdf5(
    tmp_path: Path, layout: dict[str, Any], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "a.TCF", **layout)

    def never(*_: Any) -> None:
        raise AssertionError("read by HDF5")

    monkeypatch.setattr(h5py.Dataset, "__getitem__", never)
    np.testing.assert_array_equal(read(path, threads=threads), tomogram(0))


@pytest.mark.parametrize(
    "layout",
    [
        {"chunks": CHUNK, "compression": "lzf"},
        {"chunks": CHUNK, "compression": "szip"},
        {**GZIP, "fletcher32": True},
        {"chunks": CHUNK, **hdf5plugin.Bitshuffle()},
        {"chunks": CHUNK, **hdf5plugin.Blosc2()},
    ],
)
def test_unusual_files_are_left_to_hdf5(
    tmp_path: Path, layout: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "a.TCF", **layout)
    asked = []
    by_hdf5 = h5py.Dataset.__getitem__

    def spy(*arguments: Any) -> Any:
        asked.append(1)
        return by_hdf5(*arguments)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", spy)
    np.testing.assert_array_equal(read(path), tomogram(0))
    assert asked


@pytest.mark.parametrize("filters", [{**hdf5plugin.Zfp(reversible=True)}, {**hdf5plugin.BZip2()}, {"scaleoffset": 0}])
def test_filters_that_no_tomogram_needs_are_never_run(tmp_path: Path, filters: dict[str, Any]) -> None:
    path = written(tmp_path / "a.TCF", chunks=CHUNK)
    with h5py.File(path, "r+") as file:
        del file["Data/3D/000000"]
        file.create_dataset("Data/3D/000000", data=tomogram(0).astype(np.int32), chunks=CHUNK, **filters)
    with pytest.raises(AcquisitionError, match=r"packed by filter \d+ of HDF5, which no tomogram needs"):
        read(path)


@pytest.mark.parametrize("block", [512, 1024, 8192])
def test_a_user_block_is_left_to_hdf5(tmp_path: Path, block: int) -> None:
    frames = {n: Stored(tomogram(n), tomogram(n)) for n in range(4)}
    path = write_file(tmp_path / "a.TCF", frames, userblock=block)
    with open_tcf(path) as acquisition:
        for number, frame in frames.items():
            np.testing.assert_array_equal(read_frame(acquisition, number)[0], frame.truth)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("attributes", [0, 5, 9, 40])
def test_whole_files_never_seem_to_overlap(tmp_path: Path, libver: str, attributes: int) -> None:
    many = {f"Note{number}": float(number) for number in range(attributes)}
    frames = {n: Stored(tomogram(n)[:, :9, :7], tomogram(n)[:, :9, :7], attributes=many) for n in range(12)}
    path = write_file(tmp_path / "a.TCF", frames, libver=libver)
    with open_tcf(path) as acquisition:
        for number, frame in frames.items():
            np.testing.assert_array_equal(read_frame(acquisition, number)[0], frame.truth)


@pytest.mark.parametrize(
    ("layout", "pack"),
    [
        (GZIP, zlib.compress),
        ({"chunks": CHUNK, **hdf5plugin.Zstd()}, zstd.compress),
        ({"chunks": CHUNK, **hdf5plugin.Blosc()}, lambda data: blosc.compress(data, b"zstd", 9, 1)),
    ],
)
@pytest.mark.parametrize("factor", [0.5, 2, 1000])
def test_a_chunk_that_expands_to_another_size_is_refused(
    tmp_path: Path, layout: dict[str, Any], pack: Callable[[bytes], bytes], factor: float
) -> None:
    path = written(tmp_path / "a.TCF", **layout)
    size = int(np.prod(CHUNK)) * 2
    with h5py.File(path, "r+") as file:
        bomb = bytes(pack(bytes(int(factor * size))))
        assert len(bomb) < 2 * size
        file["Data/3D/000000"].id.write_direct_chunk((2, 0, 0), bomb)
    with pytest.raises(AcquisitionError, match=r"a\.TCF: /Data/3D/000000, chunk at \(2, 0, 0\)"):
        read(path)


def test_a_chunk_with_one_flipped_bit_is_refused_by_its_checksum(tmp_path: Path) -> None:
    path = written(tmp_path / "a.TCF", **GZIP)
    with h5py.File(path) as file:
        chunk = file["Data/3D/000000"].id.get_chunk_info(1)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset + chunk.size // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(AcquisitionError, match=r"chunk at \(2, 0, 0\): damaged"):
        read(path)


def test_chunks_never_written_are_missing_and_never_a_fill_value(tmp_path: Path) -> None:
    for fill in (0, 13370):
        frame = Stored(tomogram(0), tomogram(0), layout={**GZIP, "fillvalue": fill}, written=0.01)
        path = write_file(tmp_path / "a.TCF", {0: frame})
        if fill:
            with pytest.raises(AcquisitionError, match="not written in full, and would read as 13370"):
                read(path)
        else:
            expected = tomogram(0)
            expected[2:] = 0
            np.testing.assert_array_equal(read(path), expected)


def test_numbers_of_a_kind_of_their_own_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.TCF")
    with h5py.File(path, "r+") as file:
        odd = h5py.h5t.STD_U16LE.copy()
        odd.set_precision(12)
        del file["Data/3D/000000"]
        space = h5py.h5s.create_simple(SHAPE)
        h5py.Dataset(h5py.h5d.create(file["Data/3D"].id, b"000000", odd, space))[...] = 100
    with pytest.raises(AcquisitionError, match="numbers of a kind of its own"):
        read(path)


def test_two_frames_on_the_same_bytes_are_refused(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.TCF", {n: Stored(tomogram(n), tomogram(n)) for n in range(2)})
    with h5py.File(path) as file:
        first, second = (file[f"Data/3D/{n:06d}"].id.get_offset() for n in range(2))
    data = path.read_bytes()
    assert data.count(second.to_bytes(8, "little")) == 1
    path.write_bytes(data.replace(second.to_bytes(8, "little"), (first + 2).to_bytes(8, "little")))
    with pytest.raises(AcquisitionError, match="two parts of /Data/3D lie on byte"):
        read(path)


def test_bytes_beyond_the_end_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345678")
    with RawFile(path) as raw:
        assert raw.read(2, 3).tobytes() == b"345"
        for offset, size in ((6, 3), (0, 1 << 60), (-1, 2)):
            with pytest.raises(AcquisitionError, match="ends at byte 8, but data goes on"):
                raw.read(offset, size)
        path.write_bytes(b"1234")  # cut while open
        with pytest.raises(AcquisitionError, match="ends at byte 8"):
            raw.read(0, 8)
