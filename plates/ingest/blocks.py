"""Blocks of a stored array at the speed of the disk: fetched and decoded here, by HDF5 only where unusual.

HDF5 holds one lock over all its work, decoding included, and copies twice. Plain arrays and chunks packed
with deflate, Zstandard or Blosc are therefore read from the file straight away, each chunk checked to expand
to exactly its own size, which also stops decompression bombs before they grow.
"""

from __future__ import annotations

import math
import os
import struct
import sys
import threading
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from ..errors import AcquisitionError
from .codecs import CODECS, unpack, unshuffle
from .hdf5 import check_stored, problem

_SHUFFLE = 2  # its number as a filter of HDF5
_MAX_CHUNKS = 1 << 20
_REUSED_BYTES = 1 << 20
_KEPT_BUFFERS = 3
_HEADER_BYTES = 16  # the least that describes an object in any version of the format
_DAMAGED = "Copy the file again from the microscope, or remove it."


class RawFile:
    """Bytes of a file by offset, for several threads."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._lock = threading.Lock()
        self._buffers: list[np.ndarray] = []
        self.path = path
        self.size = os.fstat(self._file.fileno()).st_size

    def read(self, offset: int, size: int) -> np.ndarray:
        """As many bytes from `offset` on, as uint8.

        Raises
        ------
        AcquisitionError
            The file ends before, or cannot be read.
        """
        # claims are checked before memory is taken
        if offset < 0 or offset + size > self.size:
            raise self._cut_short(offset + size)
        with self._lock:
            data = self._memory(size)
            view = data.data
            try:
                self._file.seek(offset)
                while view:
                    count = self._file.readinto(view)
                    if not count:
                        raise self._cut_short(offset + size)
                    view = view[count:]
            except OSError as error:
                raise AcquisitionError(
                    f"{self.path}: cannot be read: {error}. Check the disk, then run again."
                ) from error
        return data

    def _memory(self, size: int) -> np.ndarray:
        """Memory to read into: that of an earlier block which nobody holds any more, for fresh pages cost as much."""
        if size < _REUSED_BYTES:
            return np.empty(size, dtype=np.uint8)
        for number in range(len(self._buffers)):
            # two references: the list's and that of the question itself
            if self._buffers[number].size >= size and sys.getrefcount(self._buffers[number]) == 2:
                return self._buffers[number][:size]
        self._buffers = [*self._buffers[-_KEPT_BUFFERS + 1 :], np.empty(size, dtype=np.uint8)]
        return self._buffers[-1][:size]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _cut_short(self, needed: int) -> AcquisitionError:
        return AcquisitionError(f"{self.path}: ends at byte {self.size:,}, but data goes on to {needed:,}. {_DAMAGED}")


@dataclass(frozen=True)
class BlockReader:
    """Reads blocks of one array (y, x) or (z, y, x).

    Attributes
    ----------
    dataset
        The array in HDF5.
    depth
        Slices that a block should be a multiple of, so that no chunk is decoded twice.
    """

    dataset: Any
    depth: int
    _read: Callable[[int, int], np.ndarray]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows or slices `start` to `stop` of the first axis, whole in the others."""
        return self._read(start, stop)


def block_reader(
    dataset: Any, *, raw: RawFile, run: Callable[[Callable[[Any], None], Iterable[Any]], Iterable[None]] = map
) -> BlockReader:
    """Choose how an array is read.

    Parameters
    ----------
    dataset
        Checked to lie in this file.
    raw
        The same file.
    run
        ``map``, or that of an executor, over which the chunks of a block are decoded.

    Raises
    ------
    AcquisitionError
        It claims what it cannot hold, or its chunks do not fit it.
    """
    check_stored(dataset)
    if dataset.chunks and dataset.fillvalue != 0 and _number_of_chunks(dataset) > dataset.id.get_num_chunks():
        raise problem(
            dataset,
            f"{dataset.name} was not written in full, and would read as {dataset.fillvalue} there",
            "The acquisition was not finished, or the file is damaged. Copy it again, or remove it.",
        )
    depth = dataset.chunks[0] if dataset.chunks else 1
    index = _chunk_index(dataset, raw=raw) if dataset.chunks else None
    read = _direct(dataset, index=index, raw=raw, run=run) or (lambda start, stop: np.asarray(dataset[start:stop]))
    return BlockReader(dataset=dataset, depth=depth, _read=read)


def stored_spans(node: Any) -> list[tuple[int, int]]:
    """First byte and number of bytes of an array's description and its data; none where the data are in pieces."""
    from h5py import Dataset, h5o

    # asking for the description of an array in chunks would read the index of all of them
    if not isinstance(node, Dataset) or (span := _contiguous_span(node)) is None or node.file.userblock_size:
        return []  # behind a user block HDF5 counts the one with it and the other without
    described = h5o.get_info(node.id)
    # a description in several pieces tells only where the first begins
    length = int(described.hdr.space.total) if described.hdr.nchunks == 1 else _HEADER_BYTES
    return [(int(described.addr), length), span]


def check_disjoint(node: Any, spans: Iterable[tuple[int, int]]) -> None:
    """Refuse pieces of data (first byte, number of bytes) that share bytes: an address among them is damaged."""
    ordered = sorted(spans)
    for (first, size), (second, _) in pairwise(ordered):
        if first + size > second:
            raise problem(node, f"two parts of {node.name} lie on byte {second:,} of the file", _DAMAGED)


def _contiguous_span(dataset: Any) -> tuple[int, int] | None:
    from h5py import h5d

    if dataset.id.get_create_plist().get_layout() != h5d.CONTIGUOUS or (offset := dataset.id.get_offset()) is None:
        return None
    return int(offset), int(dataset.id.get_storage_size())


def _direct(
    dataset: Any, *, index: dict[tuple[int, ...], _Stored] | None, raw: RawFile, run: Any
) -> Callable[[int, int], np.ndarray] | None:
    """Way to read without HDF5, or None where anything is unusual."""
    file = dataset.file
    plain = sys.byteorder == "little" and dataset.dtype.newbyteorder("<") == dataset.dtype
    if not plain or file.driver != "sec2" or file.userblock_size:
        return None
    if (span := _contiguous_span(dataset)) is not None:
        offset, stored = span
        if stored != dataset.size * dataset.dtype.itemsize:
            raise problem(dataset, f"{dataset.name} stores fewer bytes than its shape {dataset.shape} needs", _DAMAGED)
        return partial(_read_contiguous, raw, offset, dataset.shape[1:], dataset.dtype)
    packing = _packing(dataset) if index is not None else None
    if index is None or packing is None:
        return None
    chunks = _Chunks(
        name=f"{raw.path}: {dataset.name}",
        raw=raw,
        index=index,
        shape=dataset.chunks,
        dtype=dataset.dtype,
        packing=packing,
    )
    return partial(_read_chunked, chunks, run, dataset.shape[1:])


def _read_contiguous(
    raw: RawFile, offset: int, row: tuple[int, ...], dtype: np.dtype[Any], start: int, stop: int
) -> np.ndarray:
    step = math.prod(row) * dtype.itemsize
    return raw.read(offset + start * step, (stop - start) * step).view(dtype).reshape(-1, *row)


@dataclass(frozen=True)
class _Packing:
    """What was done to a chunk before it was stored: bytes shuffled, then one codec; each has its filter bit."""

    shuffle_bit: int = 0
    codec: int = 0
    codec_bit: int = 0


@dataclass(frozen=True)
class _Stored:
    """Where a chunk lies, and which filters were left out for it."""

    offset: int
    size: int
    skipped: int


@dataclass(frozen=True)
class _Chunks:
    """Chunks of one array, by their first voxel; those never written are 0, which is missing."""

    name: str
    raw: RawFile
    index: dict[tuple[int, ...], _Stored]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    packing: _Packing

    def decode(self, corner: tuple[int, ...]) -> Any:
        """One chunk, or 0."""
        stored = self.index.get(corner)
        if stored is None:
            return 0
        data = self.raw.read(stored.offset, stored.size)
        size = math.prod(self.shape) * self.dtype.itemsize
        if self.packing.codec and not stored.skipped & self.packing.codec_bit:
            try:
                data = unpack(data, codec=self.packing.codec, size=size)
            except (ValueError, RuntimeError, zlib.error, struct.error) as error:
                raise AcquisitionError(f"{self.name}, chunk at {corner}: damaged: {error}. {_DAMAGED}") from error
        if len(data) != size:
            raise AcquisitionError(f"{self.name}, chunk at {corner}: holds {len(data)} bytes, not {size}. {_DAMAGED}")
        if self.packing.shuffle_bit and not stored.skipped & self.packing.shuffle_bit:
            return unshuffle(data, self.dtype).reshape(self.shape)
        return data.view(self.dtype).reshape(self.shape)


def _read_chunked(chunks: _Chunks, run: Any, row: tuple[int, ...], start: int, stop: int) -> np.ndarray:
    block = np.empty((stop - start, *row), dtype=chunks.dtype)

    def place(corner: tuple[int, ...]) -> None:
        first, last = max(corner[0], start), min(corner[0] + chunks.shape[0], stop)
        target = block[
            (
                slice(first - start, last - start),
                *(slice(c, c + n) for c, n in zip(corner[1:], chunks.shape[1:], strict=True)),
            )
        ]
        data = chunks.decode(corner)
        if np.ndim(data):
            data = data[(slice(first - corner[0], last - corner[0]), *(slice(0, size) for size in target.shape[1:]))]
        target[...] = data

    depth = chunks.shape[0]
    starts = [range(start // depth * depth, stop, depth)]
    starts += [range(0, size, step) for size, step in zip(row, chunks.shape[1:], strict=True)]
    for _ in run(place, product(*starts)):
        pass
    return block


def _packing(dataset: Any) -> _Packing | None:
    """Filters of an array, or None where they are not ours to undo."""
    settings = dataset.id.get_create_plist()
    filters = [settings.get_filter(number) for number in range(settings.get_nfilters())]
    for code, _, parameters, _ in filters:
        if code == _SHUFFLE and tuple(parameters[:1]) != (dataset.dtype.itemsize,):
            raise problem(dataset, f"{dataset.name} has bytes shuffled for values of another size", _DAMAGED)
    codes = [code for code, *_ in filters]
    if not codes:
        return _Packing()
    if codes[-1] not in CODECS:
        return None
    if len(codes) == 1:
        return _Packing(codec=codes[0], codec_bit=1)
    if len(codes) == 2 and codes[0] == _SHUFFLE:
        return _Packing(shuffle_bit=1, codec=codes[1], codec_bit=2)
    return None


def _chunk_index(dataset: Any, *, raw: RawFile) -> dict[tuple[int, ...], _Stored] | None:
    """Where the chunks lie, or None where only HDF5 can tell; refused where they do not fit the array.

    The index has no checksum in most files, and HDF5 finds a wrong chunk by a damaged one.
    """
    if _number_of_chunks(dataset) > _MAX_CHUNKS or not hasattr(dataset.id, "chunk_iter"):
        return None
    found: list[Any] = []
    dataset.id.chunk_iter(found.append)
    filters = dataset.id.get_create_plist().get_nfilters()
    size = math.prod(dataset.chunks) * dataset.dtype.itemsize
    unclear = False
    index: dict[tuple[int, ...], _Stored] = {}
    for chunk in found:
        corner = tuple(int(start) for start in chunk.chunk_offset)
        packed = filters > 0 and chunk.filter_mask & ((1 << filters) - 1) != (1 << filters) - 1
        fits = all(
            start < extent and start % step == 0
            for start, extent, step in zip(corner, dataset.shape, dataset.chunks, strict=True)
        )
        # a filter adds little to what it cannot shrink
        right = 0 < chunk.size <= 2 * size + 4096 if packed else chunk.size == size
        inside = chunk.byte_offset is not None and chunk.byte_offset + chunk.size <= raw.size
        if not (fits and right and inside) or corner in index:
            raise problem(
                dataset,
                f"{dataset.name} has a chunk at {corner} of {chunk.size} bytes, which does not fit its shape "
                f"{dataset.shape} in chunks of {dataset.chunks}",
                _DAMAGED,
            )
        index[corner] = _Stored(offset=chunk.byte_offset, size=chunk.size, skipped=chunk.filter_mask)
        over = any(start + step > end for start, end, step in zip(corner, dataset.shape, dataset.chunks, strict=True))
        # files may leave the filters out for chunks over the border, and do not say so here
        unclear |= packed and over and chunk.size == size
    check_disjoint(dataset, [(stored.offset, stored.size) for stored in index.values()])
    return None if unclear else index


def _number_of_chunks(dataset: Any) -> int:
    return math.prod(-(-size // step) for size, step in zip(dataset.shape, dataset.chunks, strict=True))
