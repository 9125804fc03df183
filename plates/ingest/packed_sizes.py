"""What a packed chunk unfolds to, told without holding it: from its header, or by unfolding it piece by piece."""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import BinaryIO, Protocol

# codecs of zarr's versions 2 and 3 by their last name
COMPRESSORS = frozenset({"blosc", "zstd", "lz4", "gzip", "zlib", "bz2", "lzma"})

_PIECE = 1 << 20
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class _Unfolding(Protocol):
    """Decompressors of zlib, bz2 and lzma."""

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def compressors(codecs: Sequence[str]) -> list[str]:
    """Those of an array's codecs that unfold, in the order in which they pack."""
    return [name for name in (codec.rsplit(".", 1)[-1] for codec in codecs) if name in COMPRESSORS]


def unfolds_beyond(file: BinaryIO, *, offset: int, length: int, codec: str, limit: int) -> bool:
    """Whether a packed chunk unfolds to more bytes than a chunk has.

    Blosc, LZ4 and Zstandard say in their header how much they unfold to, and refuse in decoding what does not keep to
    it; a Zstandard stream may leave that out. The others are unfolded a piece at a time, and nothing is kept.

    Parameters
    ----------
    offset, length
        Where the chunk lies in the file.
    codec
        One of `COMPRESSORS`.
    limit
        Bytes of the chunk, as the array's shape has it.
    """
    file.seek(offset)
    if codec in ("gzip", "zlib", "bz2", "lzma"):
        return _unfolds_beyond(file, length, codec, limit)
    head = file.read(min(length, 18))
    if codec == "blosc":
        return len(head) >= 8 and int(struct.unpack_from("<I", head, 4)[0]) > limit
    if codec == "lz4":
        return len(head) >= 4 and int(struct.unpack_from("<I", head)[0]) > limit
    return _zstd_size(head) > limit


def _zstd_size(head: bytes) -> int:
    """Size that the header of a Zstandard frame gives (RFC 8878, 3.1.1.1); 0 where it gives none."""
    if len(head) < 18 or head[:4] != _ZSTD_MAGIC:
        return 0
    single = head[4] >> 5 & 1
    width = (single, 2, 4, 8)[head[4] >> 6]
    start = 5 + (1 - single) + (0, 1, 2, 4)[head[4] & 3]
    return int.from_bytes(head[start : start + width], "little") + (256 if width == 2 else 0)


def _unfolds_beyond(file: BinaryIO, length: int, codec: str, limit: int) -> bool:
    makers: dict[str, Callable[[], _Unfolding]] = {
        "gzip": lambda: _Zlib(31),
        "zlib": lambda: _Zlib(15),
        "bz2": bz2.BZ2Decompressor,
        "lzma": lzma.LZMADecompressor,
    }
    unfolding, total = makers[codec](), 0
    while length > 0 and not unfolding.eof:
        packed = file.read(min(_PIECE, length))
        if not packed:
            break
        length -= len(packed)
        try:
            while True:
                unfolded = len(unfolding.decompress(packed, _PIECE))
                total += unfolded
                if total > limit:
                    return True
                if unfolding.eof or (packed == b"" and unfolded == 0) or unfolded < _PIECE:
                    break
                packed = b""
        except (zlib.error, OSError, EOFError, lzma.LZMAError):
            return False  # decoding says what is wrong with it
    # a second stream behind the first would be unfolded as well
    return length > 0


class _Zlib:
    """`zlib`'s own, with what it has not taken yet kept as the others keep it."""

    def __init__(self, window: int) -> None:
        self._unfolding = zlib.decompressobj(window)
        self.eof = False

    def decompress(self, data: bytes, max_length: int) -> bytes:
        found = self._unfolding.decompress(self._unfolding.unconsumed_tail + data, max_length)
        self.eof = self._unfolding.eof
        return found
