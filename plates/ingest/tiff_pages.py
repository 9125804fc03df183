"""The pages of a TIFF file: all found and checked before any is decoded, then decoded one at a time.

tifffile repairs what it can: it stops at a broken chain of pages with a warning, reads every page as if it
were like the first, and fills a missing strip with zeros. A tomogram must be there as a whole or be refused,
so the pages are walked here, and every byte that they name is checked against the file. What tomograms are
written as is read: grey levels of one sample, in strips or tiles, as they are or with a lossless codec.
Reference: TIFF 6.0 (Adobe, 1992); BigTIFF and the codec numbers as in libtiff.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import AcquisitionError
from .tiff_codec import STORED_AS_IS, Page, decode_segment, is_lossless

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_MAX_AXIS = 1 << 16
_MAX_PAGES = 1_000_000
_MAX_TAGS = 4096  # instruments write some twenty a page
_MAX_PLANE_BYTES = 1 << 30
# no lossless codec shrinks a large tomogram's noise so far
_MAX_COMPRESSION = 1000
_LARGE_BYTES = 1 << 28
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGER_TYPES = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
_RATIONAL = 5
# tags that say how a page is stored; each is one number, hence within its entry
_DESCRIBING = (254, 256, 257, 258, 259, 262, 266, 277, 278, 317, 322, 323, 330, 339, 32997)
_KINDS = {1: "u", 2: "i", 3: "f"}
_COPY_AGAIN = "The file is damaged or was cut short; copy it again, or remove it."

_Entry = tuple[int, int, bytes]  # type, count, value or where it is


class PictureError(AcquisitionError):
    """A TIFF that is in order but no tomogram: in colour, of 8 bits, of one slice."""


@contextmanager
def open_pages(path: Path) -> Iterator[TiffPages]:
    """Walk the pages of a TIFF file; none is decoded.

    Raises
    ------
    AcquisitionError
        The file is no TIFF, is cut short or damaged, claims impossible sizes, or is stored in a way that
        loses values or is not known.
    """
    with Path(path).open("rb") as file:
        yield TiffPages(file, path=Path(path))


class TiffPages:
    """An open TIFF file.

    Attributes
    ----------
    path
        The file.
    pages
        In the order of the file.
    description, recorded
        Texts of the first page's tags ImageDescription and DateTime; empty where there are none.
    pixels_per_unit
        Resolution (y, x) of the first page as stored; NaN where there is none.
    unclaimed
        Bytes of the file that belong to no page; as many as a page has are a page that was lost.
    """

    def __init__(self, file: IO[bytes], *, path: Path) -> None:
        self.path = path
        self._file = file
        self._size = file.seek(0, 2)
        self.description = self.recorded = ""
        self.pixels_per_unit = (float("nan"), float("nan"))
        self.pages: list[Page] = []
        self._layouts: dict[tuple[_Entry | bool | None, ...], Page] = {}
        self._starts: list[np.ndarray] = []  # first byte, and byte after, of all that is accounted for
        self._ends: list[np.ndarray] = []
        magic = self._bytes(0, 4, "its first bytes") if self._size >= 4 else b""
        if magic not in MAGIC:
            raise self.error("it is not a TIFF file", "Copy it again, or remove it.")
        self._order = "<" if magic[:2] == b"II" else ">"
        self._big = magic in MAGIC[2:]
        self._told = 0  # bytes of tags that do not fit into their entry
        self._walk()
        self.unclaimed = self._size - self._check_extents() - self._told

    def plane(self, index: int) -> np.ndarray:
        """Decode one page into (y, x)."""
        page = self.pages[index]
        rows, columns = page.segment
        plane = np.empty(page.shape, dtype=page.dtype.newbyteorder("="))
        across = -(-page.shape[1] // columns)
        for number in range(len(page.offsets)):
            top, left = number // across * rows, number % across * columns
            block = self._segment(page, number, where=f"page {index + 1}")
            target = plane[top : top + rows, left : left + columns]
            target[...] = block[: target.shape[0], : target.shape[1]]
        return plane

    def repeat(self, planes: int) -> None:
        """Read a single page as the first of many that follow it without tags of their own.

        ImageJ writes stacks beyond 4 GB so.
        """
        first = self.pages[0]
        size = int(first.counts.sum())
        contiguous = np.array_equal(first.offsets[1:], (first.offsets + first.counts)[:-1])
        end = int(first.offsets[0]) + size * planes
        if not contiguous or first.compression != STORED_AS_IS or end > self._size:
            raise self.error(f"it announces {planes} slices and holds 1", _COPY_AGAIN)
        self.pages = [replace(first, offsets=first.offsets + number * size) for number in range(planes)]
        self.unclaimed -= size * (planes - 1)

    def error(self, what: str, remedy: str) -> AcquisitionError:
        """Word an error about this file."""
        return AcquisitionError(f"{self.path}: {what}. {remedy}")

    def _walk(self) -> None:
        width = 8 if self._big else 4
        header = self._bytes(0, 16 if self._big else 8, "its header")
        if self._big and struct.unpack(self._order + "HH", header[4:8]) != (8, 0):
            raise self.error("its BigTIFF header is wrong", _COPY_AGAIN)
        self._claim([0], [len(header)])
        offset = self._unsigned(header[-width:])
        seen: set[int] = set()
        while offset:
            if offset in seen or len(seen) >= _MAX_PAGES:
                raise self.error(f"its chain of pages runs in a circle after page {len(seen)}", _COPY_AGAIN)
            seen.add(offset)
            entries, offset = self._tags(offset, number=len(seen))
            if len(seen) == 1:
                self._read_texts(entries)
            self.pages.append(self._page(entries, where=f"page {len(seen)}"))
        if not self.pages:
            raise self.error("it holds no page", "It was not written to its end; copy it again, or remove it.")

    def _tags(self, offset: int, *, number: int) -> tuple[dict[int, _Entry], int]:
        """Tags of the page at an offset, and where the next page is."""
        count_width, entry_width, width = (8, 20, 8) if self._big else (2, 12, 4)
        where = f"page {number}"
        count = self._unsigned(self._bytes(offset, count_width, where))
        if not 0 < count <= _MAX_TAGS:
            raise self.error(f"{where} has {count} tags", _COPY_AGAIN)
        block = self._bytes(offset + count_width, count * entry_width + width, where)
        self._claim([offset], [offset + count_width + len(block)])
        form = self._order + ("HHQ8s" if self._big else "HHI4s")
        entries = {tag: (kind, size, value) for tag, kind, size, value in struct.iter_unpack(form, block[:-width])}
        for kind, size, value in entries.values():
            stored = _TYPE_BYTES.get(kind, 0) * size
            self._told += stored if stored > len(value) else 0
        return entries, self._unsigned(block[-width:])

    def _page(self, tags: dict[int, _Entry], *, where: str) -> Page:
        # pages of a stack differ in where they lie only: what the other tags mean is worked out once
        described = (324 in tags, *(tags.get(tag) for tag in _DESCRIBING))
        if described not in self._layouts:
            self._layouts[described] = self._layout(tags, where=where)
        layout = self._layouts[described]
        segments = -(-layout.shape[0] // layout.segment[0]) * -(-layout.shape[1] // layout.segment[1])
        offsets = self._integers(tags, 324 if layout.tiled else 273, where=where, count=segments)
        counts = self._integers(tags, 325 if layout.tiled else 279, where=where, count=segments)
        if offsets is None or counts is None:
            raise self.error(f"{where} does not say where its pixels are", _COPY_AGAIN)
        page = replace(layout, offsets=offsets, counts=counts)
        self._check_segments(page, where=where)
        return page

    def _layout(self, tags: dict[int, _Entry], *, where: str) -> Page:
        """All of a page but where its bytes are."""

        def integer(tag: int, default: int | None = None) -> int:
            values = self._integers(tags, tag, where=where, count=1)
            if values is None and default is None:
                raise self.error(f"{where} lacks the tag {tag}", _COPY_AGAIN)
            return default if values is None else int(values[0])  # type: ignore[return-value]

        width, height = integer(256), integer(257)
        samples, photometric = integer(277, 1), integer(262, 1)
        if samples != 1 or photometric not in (0, 1) or integer(32997, 1) != 1:
            raise PictureError(
                f"{self.path}: {where} is a colour image or a block ({samples} samples a pixel, photometric "
                f"interpretation {photometric}). A tomogram has one value a voxel and one page a slice; export it "
                "again as grey levels."
            )
        bits, form = integer(258, 1), integer(339, 1)
        if form not in _KINDS or bits not in (8, 16, 32, 64) or (form == 3 and bits == 8):
            raise self.error(
                f"{where} holds values of {bits} bits in sample format {form}",
                "Export it again as 16-bit integers (refractive index x 10,000) or as 32-bit floating point.",
            )
        dtype = np.dtype(f"{self._order}{_KINDS[form]}{bits // 8}")
        stored = width * height * dtype.itemsize
        if not (0 < width <= _MAX_AXIS and 0 < height <= _MAX_AXIS) or stored > _MAX_PLANE_BYTES:
            raise self.error(
                f"{where} claims {width} x {height} pixels of {dtype.itemsize} bytes, more than any instrument records",
                _COPY_AGAIN,
            )
        compression, predictor = integer(259, STORED_AS_IS), integer(317, 1)
        self._check_codec(compression, predictor, dtype, integer(266, 1), where=where)
        tiled = 324 in tags
        if tiled:
            segment = integer(323), integer(322)
            sane = all(0 < size <= _MAX_AXIS for size in segment)
            if not sane or segment[0] * segment[1] * dtype.itemsize > _MAX_PLANE_BYTES:
                raise self.error(f"{where} has tiles of {segment[1]} x {segment[0]} pixels", _COPY_AGAIN)
        else:
            segment = min(integer(278, height), height), width
            if segment[0] < 1:
                raise self.error(f"{where} has strips of 0 rows", _COPY_AGAIN)
        nowhere = np.zeros(0, dtype=np.int64)
        return Page(
            shape=(height, width),
            dtype=dtype,
            segment=segment,
            tiled=tiled,
            offsets=nowhere,
            counts=nowhere,
            compression=compression,
            predictor=predictor,
            reduced=bool(integer(254, 0) & 1),
            sub_pages=330 in tags,
        )

    def _check_codec(
        self, compression: int, predictor: int, dtype: np.dtype[Any], fill_order: int, *, where: str
    ) -> None:
        if not is_lossless(compression):
            raise self.error(
                f"{where} is compressed by method {compression}, which loses values or is not known",
                "Export it again without compression.",
            )
        differences = predictor == 2 and dtype.kind in "ui" and compression != STORED_AS_IS
        if fill_order != 1 or not (predictor == 1 or differences):
            raise self.error(
                f"{where} is stored in an unusual way (predictor {predictor}, fill order {fill_order})",
                "Export it again without compression.",
            )

    def _check_segments(self, page: Page, *, where: str) -> None:
        """Refuse before allocating: 200 bytes of TIFF can claim 20 GB."""
        ends = page.offsets + page.counts
        if page.offsets.min() < 8 or page.counts.min() < 1 or ends.max() > self._size:
            raise self.error(
                f"the pixels of {where} end at byte {ends.max():,}, the file has {self._size:,}", _COPY_AGAIN
            )
        claimed = page.shape[0] * page.shape[1] * page.dtype.itemsize
        stored = int(page.counts.sum())
        if claimed > _LARGE_BYTES and claimed > _MAX_COMPRESSION * stored:
            raise self.error(
                f"{where} claims {claimed:,} bytes and stores {stored:,}",
                "No tomogram compresses so far; the file is damaged or hostile.",
            )
        if page.compression == STORED_AS_IS:
            short = page.counts < page.segment_bytes(0)
            # only the last strip may be shorter
            if short[:-1].any() or page.counts[-1] < page.segment_bytes(len(page.counts) - 1):
                raise self.error(f"{where} stores {stored:,} bytes of {claimed:,}", _COPY_AGAIN)
        self._claim(page.offsets, ends)

    def _segment(self, page: Page, number: int, *, where: str) -> np.ndarray:
        raw = self._bytes(int(page.offsets[number]), int(page.counts[number]), where)
        try:
            return decode_segment(raw, page, number)
        except ImportError as error:
            raise self.error(
                str(error), "Install it (pip install imagecodecs), or export again without compression."
            ) from error
        except ValueError as error:
            raise self.error(f"{where} does not decompress: {error}", _COPY_AGAIN) from error

    def _read_texts(self, tags: dict[int, _Entry]) -> None:
        self.description = self._text(tags, 270)
        self.recorded = self._text(tags, 306)
        y, x = (self._rational(tags, tag) for tag in (283, 282))
        self.pixels_per_unit = (y, x)

    def _text(self, tags: dict[int, _Entry], tag: int) -> str:
        if tag not in tags or tags[tag][0] not in (2, 7):
            return ""
        data = self._value(tags[tag], where=f"the tag {tag}").rstrip(b"\0")
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return data.decode("latin-1")

    def _rational(self, tags: dict[int, _Entry], tag: int) -> float:
        if tag not in tags or tags[tag][:2] != (_RATIONAL, 1):
            return float("nan")
        above, below = struct.unpack(self._order + "II", self._value(tags[tag], where=f"the tag {tag}"))
        return above / below if below else float("nan")

    def _integers(self, tags: dict[int, _Entry], tag: int, *, where: str, count: int) -> np.ndarray | None:
        """Values of a tag; None where it is absent."""
        if tag not in tags:
            return None
        kind, size, _ = tags[tag]
        # one value a sample is allowed, and samples are checked to be one
        if kind not in _INTEGER_TYPES or size != count:
            raise self.error(
                f"the tag {tag} of {where} has {size} values of type {kind}, expected {count} integers", _COPY_AGAIN
            )
        values = np.frombuffer(self._value(tags[tag], where=where), dtype=self._order + _INTEGER_TYPES[kind])
        if values.max() >= 1 << 62:
            raise self.error(f"the tag {tag} of {where} holds {values.max()}", _COPY_AGAIN)
        return values.astype(np.int64)

    def _value(self, entry: _Entry, *, where: str) -> bytes:
        kind, count, inline = entry
        size = _TYPE_BYTES[kind] * count
        if size <= len(inline):
            return inline[:size]
        return self._bytes(self._unsigned(inline), size, where)

    def _unsigned(self, data: bytes) -> int:
        return int.from_bytes(data, "little" if self._order == "<" else "big")

    def _bytes(self, offset: int, size: int, what: str) -> bytes:
        """Read bytes of the file, never fewer."""
        if offset + size > self._size:
            raise self.error(f"{what} lies beyond the end of the file ({self._size:,} bytes)", _COPY_AGAIN)
        self._file.seek(offset)
        data = self._file.read(size)
        if len(data) != size:
            raise self.error("it became shorter while it was read", "Wait until it is copied, then run again.")
        return data

    def _claim(self, starts: Sequence[int] | np.ndarray, ends: Sequence[int] | np.ndarray) -> None:
        self._starts.append(np.asarray(starts, dtype=np.int64))
        self._ends.append(np.asarray(ends, dtype=np.int64))

    def _check_extents(self) -> int:
        """Bytes accounted for; nothing may be part of two pages."""
        starts, ends = np.concatenate(self._starts), np.concatenate(self._ends)
        order = np.argsort(starts, kind="stable")
        overlap = np.flatnonzero(starts[order][1:] < ends[order][:-1])
        if overlap.size:
            where = starts[order][overlap[0] + 1]
            raise self.error(f"two of its pages claim the same bytes, at {where:,}", _COPY_AGAIN)
        return int((ends - starts).sum())
