"""One image, one file: coarser levels of it, its encoding as a zarr shard, and files that appear whole."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np

from .ngff import AXES


def array_document(shape: tuple[int, ...], *, chunk: tuple[int, ...], dtype: str, attributes: Mapping[str, Any]) -> str:
    """The zarr.json that zarr itself gives such an array."""
    files: dict[str, Any] = {}
    _memory_array(files, shape=shape, chunk=chunk, dtype=dtype, attributes=attributes)
    return str(files["zarr.json"].to_bytes().decode())


def encode(image: np.ndarray, *, chunk: tuple[int, ...]) -> bytes:
    """Bytes of the file that holds one image (z, y, x), encoded by zarr in memory.

    zarr would write the file itself, but without waiting for the disk, and version 3.1 reads the old file
    before it overwrites it: a torn one could then never be mended.
    """
    import numcodecs.blosc

    # with several threads blosc's bytes differ from run to run
    numcodecs.blosc.set_nthreads(1)
    files: dict[str, Any] = {}
    array = _memory_array(files, shape=(1, 1, *image.shape), chunk=chunk, dtype=str(image.dtype), attributes={})
    array[0, 0] = image
    return bytes(files["c/0/0/0/0/0"].to_bytes())


def _memory_array(
    files: dict[str, Any],
    *,
    shape: tuple[int, ...],
    chunk: tuple[int, ...],
    dtype: str,
    attributes: Mapping[str, Any],
) -> Any:
    """An array (t, c, z, y, x) whose image at one timepoint is one file of checksummed chunks."""
    import zarr
    from zarr.codecs import BloscCodec, Crc32cCodec

    counts = [-(-size // step) for size, step in zip(shape[2:], chunk, strict=True)]
    whole = tuple(count * step for count, step in zip(counts, chunk, strict=True))
    return zarr.create_array(
        zarr.storage.MemoryStore(files),
        shape=shape,
        chunks=(1, 1, *chunk),
        shards=(1, 1, *whole) if whole != chunk else None,
        dtype=dtype,
        # bitshuffle with the fastest level: slower ones gain 3 % on tomograms for twice the time
        compressors=[BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"), Crc32cCodec()],
        fill_value=0,
        dimension_names=list(AXES),
        attributes=dict(attributes),
        # comparing every chunk with the fill value costs a third of the time, and a chunk of zeros that is
        # there says "not reconstructed" where an absent one says "never written"
        config={"write_empty_chunks": True},
    )


def chunk_shape(shape: tuple[int, ...], *, target: tuple[int, ...]) -> tuple[int, ...]:
    """Even division of an image into chunks near the target, so that little is padding."""
    counts = [max(1, round(size / near)) for size, near in zip(shape, target, strict=True)]
    return tuple(-(-size // count) for size, count in zip(shape, counts, strict=True))


def pyramid(image: np.ndarray, *, levels: int) -> Iterator[np.ndarray]:
    """Yield an image (z, y, x) and its coarser levels, each half as wide and high; 0 = missing."""
    yield image
    for _ in range(levels - 1):
        image = _halve(image)
        yield image


def _halve(image: np.ndarray) -> np.ndarray:
    """Rounded mean of 2 x 2 voxels of a slice, over those that are not missing.

    A truncated mean, as most writers take, would lower the index by half a count at every level.
    """
    if image.shape[1] % 2 or image.shape[2] % 2:
        image = np.pad(image, ((0, 0), (0, image.shape[1] % 2), (0, image.shape[2] % 2)), mode="edge")
    if image.min() > 0 and image.max() < 1 << 14:
        # all there, and four of them fit 16 bits: the usual case, several times faster
        pairs = image[:, ::2] + image[:, 1::2]
        mean: np.ndarray = (pairs[:, :, ::2] + pairs[:, :, 1::2] + np.uint16(2)) >> np.uint16(2)
        return mean
    present = (image > 0).astype(np.uint32)
    total = image[:, ::2].astype(np.uint32) + image[:, 1::2]
    number = present[:, ::2] + present[:, 1::2]
    total = total[:, :, ::2] + total[:, :, 1::2]
    number = number[:, :, ::2] + number[:, :, 1::2]
    rounded: np.ndarray = (total + number // 2) // np.maximum(number, 1)
    return rounded.astype(np.uint16)


def write_text(file: Path, text: str) -> None:
    """Write a text whole, without waiting for the disk: for what is made again at no cost."""
    file.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(file)
    temporary = file.with_name(f"{file.name}.{os.getpid()}.partial")
    temporary.write_text(text)
    temporary.replace(file)


def write_durable(file: Path, data: bytes) -> None:
    """Write a file whole: under another name, down to the disk, then renamed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(file)
    temporary = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def remove(file: Path) -> None:
    """Remove a file and what an interrupted writer of it left behind."""
    file.unlink(missing_ok=True)
    _remove_leftovers(file)


def _remove_leftovers(file: Path) -> None:
    """Remove what a killed writer of a file left behind; a file has one writer at a time."""
    for leftover in file.parent.glob(f"{escape(file.name)}.*.partial"):
        leftover.unlink(missing_ok=True)
