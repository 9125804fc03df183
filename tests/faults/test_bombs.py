"""Files that claim far more than they store, and archives (rows 22 and 29 of the faults): refused unread."""

import ast
import io
import json
import os
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from plates.errors import AcquisitionError, ClassifierError, PlateMapError
from plates.ingest.apart import Limits, open_apart
from tests.plates.acquisitions import SHAPE, tomogram, write_one

FRAME = "Data/3D/000000"
ALLOWED_MB = 200  # beyond what the interpreter and its libraries take; the bombs unfold to gigabytes
ROOT = Path(__file__).parents[2]

# opens a file and reads all of it; prints the error, and the memory that was taken at most
READ = """
import re, sys
from pathlib import Path
from plates.ingest.acquisition import open_acquisition
import h5py, hdf5plugin, numcodecs.blosc, numcodecs.zstd, zarr
def most():  # not ru_maxrss, which a process takes over from the one that started it
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
before = most()
try:
    with open_acquisition(Path(sys.argv[1])) as acquisition:
        for frame in acquisition.frames:
            for slab in acquisition.slabs(frame):
                pass
    print("read")
except ValueError as error:
    print(type(error).__name__, error)
print((most() - before) // 1024)
"""


def read_in_child(path: Path) -> tuple[str, int]:
    """What came of reading a file, and megabytes that it took."""
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    *said, taken = done.stdout.strip().splitlines()
    return " ".join(said), int(taken)


def claims_80_terabytes(folder: Path) -> Path:
    path = write_one(folder / "claim.TCF", [tomogram(0)])
    with h5py.File(path, "r+") as file:
        del file[FRAME]
        for axis, size in zip("ZYX", (10_000, 65_000, 65_000), strict=True):
            file["Data/3D"].attrs[f"Size{axis}"] = np.array([size])
        file.create_dataset(FRAME, (10_000, 65_000, 65_000), np.uint16, chunks=(1, 1024, 1024), compression="gzip")
    assert path.stat().st_size < 50_000
    return path


def expands_a_thousandfold(folder: Path) -> Path:
    """One gzip chunk after the other of a single value: 4 GB of slices in 4 MB."""
    path = write_one(folder / "gzip.TCF", [tomogram(0)])
    shape = (1000, 1448, 1448)
    with h5py.File(path, "r+") as file:
        del file[FRAME]
        for axis, size in zip("ZYX", shape, strict=True):
            file["Data/3D"].attrs[f"Size{axis}"] = np.array([size])
        dataset = file.create_dataset(FRAME, shape, np.uint16, chunks=(1, *shape[1:]), compression="gzip")
        packed = zlib.compress(np.full(shape[1:], 13370, dtype="<u2").tobytes(), 9)
        for z in range(shape[0]):
            dataset.id.write_direct_chunk((z, 0, 0), packed)
    assert np.prod(shape) * 2 > 1000 * len(packed)
    return path


def chunk_larger_than_it_says(folder: Path) -> Path:
    """A chunk whose gzip stream goes on for 2 GB after the bytes that belong to it."""
    path = write_one(folder / "long.TCF", [tomogram(0)])
    with h5py.File(path, "r+") as file:
        del file[FRAME]
        dataset = file.create_dataset(FRAME, SHAPE, np.uint16, chunks=SHAPE, compression="gzip")
        packing = zlib.compressobj(9)
        zeros = bytes(1 << 24)
        packed = b"".join(packing.compress(zeros) for _ in range(128)) + packing.flush()
        # a filter adds little to what it cannot shrink: longer chunks are refused for that alone
        dataset.id.write_direct_chunk((0, 0, 0), packed[: 2 * int(np.prod(SHAPE)) * 2])
    return path


def huge_tiff(folder: Path) -> Path:
    """One page of 65,000 x 65,000 pixels in 200 bytes."""
    entries = [
        (256, 4, 65_000),
        (257, 4, 65_000),
        (258, 3, 16),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, 65_000),
        (279, 4, 16),
    ]
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    path = folder / "huge.tif"
    path.write_bytes(b"II*\0" + struct.pack("<I", 24) + bytes(16) + struct.pack("<H", len(entries)) + body + bytes(4))
    return path


def tiny_strips(folder: Path) -> Path:
    """Strips of zlib that unfold far beyond the page they are of."""
    import tifffile

    path = folder / "strips.tif"
    tifffile.imwrite(path, np.full((8, 64, 64), 13370, np.uint16), compression="zlib", photometric="minisblack")
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        where, counts = page.dataoffsets[0], page.tags[279]
        bomb = zlib.compress(bytes(1 << 28), 9)
        start = len(data)
        data += bomb
        for tag, value in ((page.tags[273], start), (counts, len(bomb))):
            at = tag.valueoffset
            data[at : at + 4] = struct.pack("<I", value)
    assert where
    path.write_bytes(data)
    return path


def zarr_bomb(folder: Path, codec: str) -> Path:
    """One chunk that claims, or unfolds to, a gigabyte."""
    import zarr

    root = folder / f"{codec}.zarr"
    group = zarr.open_group(root, mode="w", zarr_format=3)
    shape = (1, 4, 64, 64)
    compressor = {"zstd": zarr.codecs.ZstdCodec(), "blosc": zarr.codecs.BloscCodec(), "gzip": zarr.codecs.GzipCodec()}
    array = group.create_array("0", shape=shape, chunks=shape, dtype="uint16", compressors=compressor[codec])
    array[:] = 13370
    scale = [{"type": "scale", "scale": [1.0, 1.0, 0.2, 0.2]}]
    axes: list[Any] = [{"name": "t", "type": "time", "unit": "second"}] + [
        {"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"
    ]
    metadata: Any = {
        "version": "0.5",
        "multiscales": [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}],
    }
    group.attrs["ome"] = metadata
    (chunk,) = (file for file in (root / "0").rglob("*") if file.is_file() and file.name != "zarr.json")
    zeros = np.zeros(1 << 29, np.uint8)
    if codec == "gzip":
        import gzip

        chunk.write_bytes(gzip.compress(zeros.data, 6))
    elif codec == "zstd":
        from numcodecs import zstd

        chunk.write_bytes(zstd.compress(zeros.data, 3))
    else:
        data = bytearray(chunk.read_bytes())
        data[4:8] = struct.pack("<I", 0x7FFFFFFF)  # bytes when unpacked, as the header says
        chunk.write_bytes(data)
    return root


BOMBS: dict[str, Callable[[Path], Path]] = {
    "claims 80 TB": claims_80_terabytes,
    "expands a thousandfold": expands_a_thousandfold,
    "chunk that is too long": chunk_larger_than_it_says,
    "huge TIFF": huge_tiff,
    "tiny strips": tiny_strips,
    "zstd": lambda folder: zarr_bomb(folder, "zstd"),
    "blosc": lambda folder: zarr_bomb(folder, "blosc"),
    "gzip": lambda folder: zarr_bomb(folder, "gzip"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_unfolds(tmp_path: Path, name: str) -> None:
    path = BOMBS[name](tmp_path)
    said, taken = read_in_child(path)
    assert said.startswith("AcquisitionError"), said
    assert path.name in said
    assert taken < ALLOWED_MB


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_without_the_check_a_bomb_takes_the_memory_it_claims(tmp_path: Path) -> None:
    # off-check: HDF5 itself unfolds 4 MB to as much as is asked of it
    path = expands_a_thousandfold(tmp_path)
    program = (
        "import re, sys, h5py\nfrom pathlib import Path\n"
        # not ru_maxrss, which a process takes over from the one that started it
        "def most():\n    return int(re.search(r'VmHWM:\\s*(\\d+)', Path('/proc/self/status').read_text())[1])\n"
        "before = most()\n"
        "slices = h5py.File(sys.argv[1])['Data/3D/000000'][:200]\n"
        "print((most() - before) // 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) > ALLOWED_MB


@pytest.mark.skipif(sys.platform != "linux", reason="readers of their own are made on Linux only")
def test_a_reader_that_asks_for_too_much_memory_is_refused_it(tmp_path: Path) -> None:
    path = write_one(tmp_path / "a.TCF", [tomogram(0, shape=(16, 1024, 1024))])

    def read(limits: Limits) -> int:
        with open_apart(path, limits=limits) as acquisition:
            return sum(len(slab.counts) for slab in acquisition.slabs(0))

    assert read(Limits()) == 16  # off-check: with the usual limit it is read
    with pytest.raises(AcquisitionError, match=r"a\.TCF"):
        read(Limits(memory_bytes=1 << 23))


def test_archives_are_opened_for_workbooks_and_image_sets_only() -> None:
    """Row 29: no bundle of a plate or a classifier is ever unpacked, so that no member can leave its folder."""
    readers = set()
    for package in ("plates", "models", "screening", "reports"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
                module = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                if {"zipfile", "tarfile"} & {*names, *module}:
                    readers.add(file.relative_to(ROOT).as_posix())
                called = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
                assert called not in ("extractall", "extract", "unpack_archive"), file
    assert readers <= {"plates/layout/workbook.py", "models/image_sets.py"}


@pytest.mark.parametrize("member", ["../../x", "/etc/x", "link", "ten gigabytes"])
def test_a_bundle_in_place_of_a_classifier_or_a_plate_map_is_refused_by_name(tmp_path: Path, member: str) -> None:
    from models.classifier import load_classifier
    from plates.layout import read_plate_map

    canary = tmp_path / "x"
    bundle = tmp_path / "in" / "deep" / "bundle.xlsx"
    bundle.parent.mkdir(parents=True)
    if member == "link":
        with tarfile.open(bundle, "w") as archive:
            link = tarfile.TarInfo("card.json")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
    else:
        with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as zipped:
            zipped.writestr("xl/workbook.xml" if member == "ten gigabytes" else member, json.dumps({}))
        if member == "ten gigabytes":
            data = bytearray(bundle.read_bytes())
            at = data.index(b"PK\x01\x02")
            data[at + 24 : at + 28] = struct.pack("<I", 0xFFFFFFF0)  # unpacked size
            bundle.write_bytes(data)
    with pytest.raises(PlateMapError, match=r"bundle\.xlsx"):
        read_plate_map(bundle)
    with pytest.raises(ClassifierError, match=r"bundle\.xlsx"):
        load_classifier(bundle)
    assert not canary.exists()
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["bundle.xlsx"]


def test_an_image_set_that_unfolds_a_thousandfold_is_refused(tmp_path: Path) -> None:
    """An .npz is a zip file: 1 MB of it can hold a gigabyte."""
    from models import image_sets
    from plates.errors import SettingsError

    path = tmp_path / "bomb.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (20, 1 << 12, 1 << 12)}
    )
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w", force_zip64=True) as member,
    ):
        member.write(header.getvalue())
        for _ in range(20):
            member.write(bytes(1 << 24))
    assert path.stat().st_size < 2_000_000
    with pytest.raises(SettingsError, match=r"bomb\.npz.*(unpack|claims)"):
        image_sets._Arrays(path, where="test")
