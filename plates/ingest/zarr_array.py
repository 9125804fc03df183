"""Zarr arrays written by others: what of them is stored is known before zarr reads them.

zarr reads a chunk that is not there as the fill value, without a word.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import AcquisitionError
from .packed_sizes import compressors, unfolds_beyond
from .zarr_files import COPY_AGAIN, check_inside, read_attributes, read_document

Box = tuple[slice, ...]  # one an axis, with start and stop

_MAX_CHUNK_BYTES = 1 << 30
_MAX_CHUNKS = 1 << 22  # in one tomogram, or in one shard
_NOT_STORED = np.iinfo(np.uint64).max  # in a shard's index


def open_array(folder: Path, *, root: Path) -> StoredArray:
    """Open an array of zarr version 3 or 2, sharded or not.

    Raises
    ------
    AcquisitionError
        It is damaged, holds no numbers, has impossible chunks, or needs a codec that is not installed.
    """
    name = next((name for name in ("zarr.json", ".zarray") if (folder / name).exists()), None)
    if name is None:
        raise AcquisitionError(f"{folder}: the metadata name this array, but it is not there. {COPY_AGAIN}")
    document = read_document(folder / name, root=root)
    attributes = read_attributes(folder, root=root)
    try:
        layout = _version_3(document) if name == "zarr.json" else _version_2(document)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise AcquisitionError(f"{folder / name}: damaged ({error!r}). {COPY_AGAIN}") from error
    _check_layout(layout, where=str(folder / name))
    _check_codecs(layout, where=str(folder / name))
    return StoredArray(folder, root=root, attributes=attributes, **layout)


class StoredArray:
    """One array and what of it is stored.

    Attributes
    ----------
    folder
        Where it lies.
    attributes
        As its writer left them.
    shape, dtype, fill
        Of the array; what is not stored reads as `fill`.
    chunk
        Shape of what is decoded at once: within a shard its inner chunk.
    """

    def __init__(
        self,
        folder: Path,
        *,
        root: Path,
        attributes: Mapping[str, Any],
        zarr_format: Literal[2, 3],
        shape: tuple[int, ...],
        chunk: tuple[int, ...],
        shard: tuple[int, ...],
        codecs: tuple[str, ...],
        separator: str,
        prefix: str,
        index_at_start: bool,
        index_checksum: bool | None,
    ) -> None:
        self.folder = folder
        self.attributes = attributes
        self.shape = shape
        self.chunk = chunk
        self._root = root
        self._zarr_format = zarr_format
        self._shard = shard
        self._codecs = codecs
        self._separator = separator
        self._prefix = prefix
        self._index_at_start = index_at_start
        self._index_checksum = index_checksum
        self._checked_folders: set[str] = set()
        self._array = self._open()
        self.dtype = np.dtype(self._array.dtype)
        if self.dtype.kind not in "uif":
            raise AcquisitionError(f"{folder}: holds {self.dtype}, not numbers. Give a plate of tomograms.")
        if math.prod(chunk) * self.dtype.itemsize > _MAX_CHUNK_BYTES:
            raise AcquisitionError(
                f"{folder}: one chunk has {math.prod(chunk) * self.dtype.itemsize:,} bytes ({chunk}); at most "
                f"{_MAX_CHUNK_BYTES:,} are read at once. Write the plate with smaller chunks, or in shards."
            )
        fill = self._array.fill_value
        self.fill: Any = self.dtype.type(0 if fill is None else fill)

    def read(self, box: Box) -> np.ndarray:
        """Values of a box, whatever is stored of it (see `stored`)."""
        # zarr and its codecs raise errors of every kind for damaged bytes
        try:
            return np.asarray(self._array[box])
        except Exception as error:
            raise AcquisitionError(
                f"{self.folder}: damaged, or compressed in a way that is not supported here (codecs "
                f"{', '.join(self._codecs) or 'none'}; {type(error).__name__}: {error}). {COPY_AGAIN}"
            ) from error

    def is_stored(self, box: Box) -> bool:
        """Whether any chunk of a box is stored."""
        return any(np.any(there) for _, there, _ in self._files(box))

    def stored(self, box: Box) -> tuple[np.ndarray, int]:
        """Which chunks of a box are stored (bool, one a chunk along each axis), and the bytes of their files."""
        present = np.zeros([len(span) for span in _spans(box, self.chunk)], dtype=bool)
        total = 0
        for region, there, size in self._files(box):
            present[region] = there
            total += size
        self._check_unfolded(box)
        return present, total

    def files(self, box: Box) -> list[Path]:
        """Files that hold a box, the array's own metadata first."""
        names = ("zarr.json",) if self._zarr_format == 3 else (".zarray", ".zattrs")
        documents = [self.folder / name for name in names if (self.folder / name).exists()]
        chunks = (self._file(place) for place in self._places(box))
        return [*documents, *(Path(file) for file in chunks if self._size(file) is not None)]

    def _files(self, box: Box) -> Iterator[tuple[Box, Any, int]]:
        """Files of a box: which of its chunks each holds, whether they are stored, and the file's bytes."""
        chunks = _spans(box, self.chunk)
        if math.prod(len(span) for span in chunks) > _MAX_CHUNKS:
            raise AcquisitionError(
                f"{self.folder}: more than {_MAX_CHUNKS:,} chunks ({self.chunk}) a tomogram. The plate is damaged, or "
                "its chunks are too small; write it again."
            )
        inner = tuple(shard // chunk for shard, chunk in zip(self._shard, self.chunk, strict=True))
        for place in self._places(box):
            file = self._file(place)
            size = self._size(file)
            if size is None:
                continue
            # the file's chunks within the box, counted from the box's first
            first = [max(span[0], p * n) for span, p, n in zip(chunks, place, inner, strict=True)]
            last = [min(span[-1] + 1, (p + 1) * n) for span, p, n in zip(chunks, place, inner, strict=True)]
            region = tuple(slice(f - span[0], e - span[0]) for f, e, span in zip(first, last, chunks, strict=True))
            there: Any = True
            if self._index_checksum is not None:
                own = tuple(slice(f - p * n, e - p * n) for f, e, p, n in zip(first, last, place, inner, strict=True))
                there = self._shard_index(file, inner, size=size)[own]
            yield region, there, size

    def _check_unfolded(self, box: Box) -> None:
        """Refuse chunks that unfold to more than a chunk, before any is unfolded."""
        packing = compressors(self._codecs)
        if not packing:
            return
        # filters may have made the values wider before they were packed
        limit = 8 * math.prod(self.chunk if self._index_checksum is not None else self._shard) + 1024
        for file in (self._file(place) for place in self._places(box)):
            size = self._size(file)
            if size is None:
                continue
            with Path(file).open("rb") as handle:
                for offset, length in self._extents(file, size=size):
                    if unfolds_beyond(handle, offset=offset, length=length, codec=packing[-1], limit=limit):
                        raise AcquisitionError(
                            f"{file}: a chunk unfolds to more than the {limit:,} bytes that it can have. The plate is "
                            "damaged or hostile."
                        )

    def _extents(self, file: str, *, size: int) -> list[tuple[int, int]]:
        """First byte and length of each packed chunk of a file."""
        if self._index_checksum is None:
            return [(0, size)]
        inner = tuple(shard // chunk for shard, chunk in zip(self._shard, self.chunk, strict=True))
        index = self._index(file, inner, size=size).reshape(-1, 2)
        return [(int(offset), int(length)) for offset, length in index if offset != _NOT_STORED]

    def _places(self, box: Box) -> Iterator[tuple[int, ...]]:
        """Places of the files of a box, leaving out those whose folder is not there."""
        first, *others = _spans(box, self._shard)
        for number in first:
            # one look at a folder spares thousands at the chunks of a timepoint that is not there
            if self._separator == "." or Path(self._file((number,))).is_dir():
                yield from product([number], *others)

    def _file(self, place: tuple[int, ...]) -> str:
        key = self._separator.join(str(number) for number in place)
        return os.path.join(self.folder, *(self._prefix + key).split("/"))  # noqa: PTH118  thousands a tomogram

    def _size(self, file: str) -> int | None:
        """Bytes of a chunk's file, None where there is none."""
        try:
            status = os.lstat(file)
        except (FileNotFoundError, NotADirectoryError):
            return None
        folder = os.path.dirname(file)  # noqa: PTH120
        if folder not in self._checked_folders:
            check_inside(self._root, Path(folder))
            self._checked_folders.add(folder)
        if stat.S_ISLNK(status.st_mode):
            check_inside(self._root, Path(file))
            try:
                status = os.stat(file)  # noqa: PTH116
            except FileNotFoundError as error:
                raise AcquisitionError(f"{file}: a link to nothing. {COPY_AGAIN}") from error
        limit = 2 * math.prod(self._shard) * 8 + (1 << 20)
        if not stat.S_ISREG(status.st_mode) or status.st_size == 0 or status.st_size > limit:
            raise AcquisitionError(f"{file}: no chunk of {self._shard} ({status.st_size:,} bytes). {COPY_AGAIN}")
        return status.st_size

    def _shard_index(self, file: str, inner: tuple[int, ...], *, size: int) -> np.ndarray:
        """Which inner chunks a shard stores."""
        offset, number = np.moveaxis(self._index(file, inner, size=size), -1, 0)
        there: np.ndarray = offset != _NOT_STORED
        # beyond the file's end zarr would read less than asked, or wrap around
        if np.any(there & ((offset > size) | (number > size) | (offset + number > size))):
            raise AcquisitionError(f"{file}: cut short or damaged, its chunks lie beyond its end. {COPY_AGAIN}")
        return there

    def _index(self, file: str, inner: tuple[int, ...], *, size: int) -> np.ndarray:
        """Offset and length of each chunk of a shard."""
        entries = 16 * math.prod(inner)
        length = entries + (4 if self._index_checksum else 0)
        if size < length:
            raise AcquisitionError(f"{file}: cut short, its index alone has {length:,} bytes. {COPY_AGAIN}")
        with Path(file).open("rb") as handle:
            handle.seek(0 if self._index_at_start else size - length)
            return np.frombuffer(handle.read(entries), dtype="<u8").reshape(*inner, 2)

    def _open(self) -> Any:
        import zarr

        try:
            return zarr.open_array(str(self.folder), mode="r", zarr_format=self._zarr_format)
        except Exception as error:
            raise AcquisitionError(
                f"{self.folder}: cannot be opened (codecs {', '.join(self._codecs) or 'none'}; "
                f"{type(error).__name__}: {error}). {COPY_AGAIN}"
            ) from error


def _version_3(document: Mapping[str, Any]) -> dict[str, Any]:
    grid = document["chunk_grid"]
    if grid["name"] != "regular":
        raise ValueError(f"a chunk grid of the kind {grid['name']}")
    keys = document.get("chunk_key_encoding", {"name": "default"})
    default = keys["name"] == "default"
    file_shape = _sizes(grid["configuration"]["chunk_shape"])
    codecs = document["codecs"]
    layout = {
        "zarr_format": 3,
        "shape": _sizes(document["shape"]),
        "chunk": file_shape,
        "shard": file_shape,
        "codecs": tuple(_codec_names(codecs)),
        "separator": keys.get("configuration", {}).get("separator", "/" if default else "."),
        "prefix": "",
        "index_at_start": False,
        "index_checksum": None,
    }
    layout["prefix"] = f"c{layout['separator']}" if default else ""
    # behind another codec a shard is decoded whole, like any chunk
    if len(codecs) == 1 and codecs[0]["name"] == "sharding_indexed":
        sharding = codecs[0]["configuration"]
        index = _codec_names(sharding["index_codecs"])
        if index not in (["bytes"], ["bytes", "crc32c"]) or (
            sharding["index_codecs"][0].get("configuration", {}).get("endian", "little") != "little"
        ):
            raise ValueError(f"shards whose index has the codecs {', '.join(index)}")
        layout["chunk"] = _sizes(sharding["chunk_shape"])
        layout["index_at_start"] = sharding.get("index_location", "end") == "start"
        layout["index_checksum"] = "crc32c" in index
    return layout


def _version_2(document: Mapping[str, Any]) -> dict[str, Any]:
    chunk = _sizes(document["chunks"])
    codecs = [*(document.get("filters") or []), *([document["compressor"]] if document.get("compressor") else [])]
    return {
        "zarr_format": 2,
        "shape": _sizes(document["shape"]),
        "chunk": chunk,
        "shard": chunk,
        "codecs": tuple(str(codec["id"]) for codec in codecs),
        "separator": document.get("dimension_separator", "."),
        "prefix": "",
        "index_at_start": False,
        "index_checksum": None,
    }


def _check_layout(layout: Mapping[str, Any], *, where: str) -> None:
    shape, chunk, shard = layout["shape"], layout["chunk"], layout["shard"]
    inner = [s // c for s, c in zip(shard, chunk, strict=False) if c > 0]
    if (
        not len(shape) == len(chunk) == len(shard) == len(inner)
        or min((*shape, *inner), default=0) < 1
        or any(s % c for s, c in zip(shard, chunk, strict=True))
        or math.prod(inner) > _MAX_CHUNKS
        or layout["separator"] not in ("/", ".")
    ):
        raise AcquisitionError(
            f"{where}: an array of {shape} in chunks of {chunk} and files of {shard}, separated by "
            f"{layout['separator']!r}, is impossible. {COPY_AGAIN}"
        )


def _check_codecs(layout: Mapping[str, Any], *, where: str) -> None:
    """Refuse by name what this installation cannot decode, before zarr fails somewhere within."""
    if len(compressors(layout["codecs"])) > 1:
        raise AcquisitionError(
            f"{where}: packed several times over (codecs {', '.join(layout['codecs'])}). No writer does that; do not "
            "trust the plate."
        )
    from numcodecs.registry import codec_registry, entries
    from zarr.registry import get_codec_class

    for name in layout["codecs"]:
        if layout["zarr_format"] == 2:
            known = name in codec_registry or name in entries
        else:
            try:
                known = get_codec_class(name) is not None
            except Exception:  # the kind of the error differs between versions of zarr
                known = False
        if not known:
            raise AcquisitionError(
                f"{where}: compressed with the codec {name!r}, which is not installed. Install a package that "
                "provides it for zarr, or write the plate with blosc or zstd."
            )


def _codec_names(codecs: Any) -> list[str]:
    """Names of the codecs of a version 3 array, those within shards too."""
    names = []
    for codec in codecs:
        names.append(codec if isinstance(codec, str) else str(codec["name"]))
        if names[-1] == "sharding_indexed":
            names += _codec_names(codec["configuration"]["codecs"])
    return names


def _sizes(values: Any) -> tuple[int, ...]:
    sizes = tuple(values)
    if not all(type(size) is int and 0 <= size < 1 << 40 for size in sizes):
        raise ValueError(f"sizes {values}")
    return sizes


def _spans(box: Box, step: tuple[int, ...]) -> list[range]:
    """Numbers of the chunks that a box touches, by axis."""
    return [range(part.start // size, -(-part.stop // size)) for part, size in zip(box, step, strict=True)]
