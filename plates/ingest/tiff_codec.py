"""How a page of a TIFF is stored, and its strips and tiles decoded, never to more than they may hold."""

from __future__ import annotations

import importlib
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

STORED_AS_IS = 1

_DEFLATE = (8, 32946, 50013)
_OTHERS = {5: "lzw", 32773: "packbits", 34925: "lzma", 34926: "zstd", 50000: "zstd"}


@dataclass(frozen=True)
class Page:
    """One page: what it holds and where its bytes are.

    Attributes
    ----------
    shape, dtype
        Of the decoded plane (y, x), in the byte order of the file.
    segment
        Rows and columns of a strip or tile.
    tiled
        Whether tiles at the edge reach beyond the plane.
    offsets, counts
        Place and length of every strip or tile, in bytes.
    compression, predictor
        As the tags give them.
    reduced
        A smaller copy of another page, kept for viewing.
    sub_pages
        Whether further pages hang on this one (a pyramid).
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    segment: tuple[int, int]
    tiled: bool
    offsets: np.ndarray
    counts: np.ndarray
    compression: int
    predictor: int
    reduced: bool
    sub_pages: bool

    def segment_bytes(self, number: int) -> int:
        """Bytes of a decoded strip or tile; the last strip is shorter."""
        rows, columns = self.segment
        if not self.tiled:
            rows = min(rows, self.shape[0] - number * rows)
        return rows * columns * self.dtype.itemsize

    @property
    def kind(self) -> str:
        """For comparison and for people: ``"692 x 692 uint16"``."""
        return f"{self.shape[0]} x {self.shape[1]} {self.dtype.newbyteorder('=').name}"


def is_lossless(compression: int) -> bool:
    """Whether values survive the compression, and it can be read here."""
    return compression == STORED_AS_IS or compression in _DEFLATE or compression in _OTHERS


def decode_segment(raw: bytes, page: Page, number: int) -> np.ndarray:
    """Decode one strip or tile into (y, x), in the byte order of this machine.

    Raises
    ------
    ValueError
        The bytes are damaged, too few or too many.
    ImportError
        They need the package imagecodecs.
    """
    rows, columns = page.segment
    full = rows * columns * page.dtype.itemsize
    expected = page.segment_bytes(number)
    if page.compression == STORED_AS_IS:
        data = raw[:expected]
    elif page.compression in _DEFLATE:
        data = _inflate(raw, limit=full)
    else:
        data = _decode(raw, _OTHERS[page.compression], limit=full)
    # some writers fill the last strip up to the height of the others
    if len(data) not in (expected, full):
        raise ValueError(f"{len(data):,} bytes where {expected:,} belong")
    block = (
        np.frombuffer(data, dtype=page.dtype)
        .reshape(-1, columns)
        .astype(page.dtype.newbyteorder("="), copy=page.predictor == 2)
    )
    if page.predictor == 2:
        np.cumsum(block, axis=1, dtype=block.dtype, out=block)
    return block


def _inflate(raw: bytes, *, limit: int) -> bytes:
    """Decompress with a bound, and to the end, where the checksum is."""
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(raw, limit + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not stream.eof:
        raise ValueError("it is cut short, or unfolds to more than it should")
    return data


def _decode(raw: bytes, codec: str, *, limit: int) -> bytes:
    try:
        codecs: Any = importlib.import_module("imagecodecs")
    except ImportError as error:
        raise ImportError(f"it is compressed with {codec.upper()}, which needs the package imagecodecs") from error
    try:
        return bytes(getattr(codecs, f"{codec}_decode")(raw, out=limit))
    except (RuntimeError, MemoryError) as error:
        raise ValueError(str(error)) from error
