"""Codecs of chunks undone, each held to the exact size that a chunk must have."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np

DEFLATE, BLOSC, ZSTD = 1, 32001, 32015  # numbers of the filters in HDF5
CODECS = (DEFLATE, BLOSC, ZSTD)


def unpack(data: np.ndarray, *, codec: int, size: int) -> np.ndarray:
    """Undo a codec; never takes more memory than `size`, however far the data would expand.

    Parameters
    ----------
    data
        One packed chunk, as uint8.
    codec
        Its number as a filter of HDF5.
    size
        Bytes of the chunk when unpacked.

    Raises
    ------
    ValueError, RuntimeError, zlib.error, struct.error
        It is damaged, or expands to another size.
    """
    if codec == DEFLATE:
        decoder = zlib.decompressobj()
        plain = np.frombuffer(decoder.decompress(data.data, size + 1), dtype=np.uint8)
        if not decoder.eof:
            raise ValueError("it is cut short, or expands to more than its own size")
        return plain
    claimed = _zstd_size(data) if codec == ZSTD else _blosc_size(data)
    if claimed is not None and claimed != size:
        raise ValueError(f"it expands to {claimed} bytes, not {size}")
    plain = np.empty(size, dtype=np.uint8)
    if codec == ZSTD:
        from numcodecs import zstd

        zstd.decompress(data, plain)
    else:
        from numcodecs import blosc

        blosc.decompress(data, plain)
    return plain


def _zstd_size(data: np.ndarray) -> int | None:
    """What a Zstandard frame says it expands to (RFC 8878, 3.1.1.1), or None where it does not say."""
    header = data[:18].tobytes()
    magic, descriptor = struct.unpack_from("<IB", header)
    if magic != 0xFD2FB528:
        raise ValueError("it is no Zstandard frame")
    single, flag = descriptor >> 5 & 1, descriptor >> 6
    place = 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3]
    if flag == 0:
        return header[place] if single and len(header) > place else None
    form, base = (("<H", 256), ("<I", 0), ("<Q", 0))[flag - 1]
    return int(struct.unpack_from(form, header, place)[0]) + base


def _blosc_size(data: np.ndarray) -> int:
    """What a Blosc buffer says it expands to; its own length must be what it says."""
    plain, _, packed = struct.unpack_from("<III", data[:16].tobytes(), 4)
    if packed != len(data):
        raise ValueError(f"it says that it is {packed} bytes long, but is {len(data)}")
    return int(plain)


def unshuffle(data: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Bring the bytes of each value together again: first all lowest bytes are stored, then all next ones."""
    planes = data.reshape(dtype.itemsize, -1)
    # whole words shifted are four times as fast as single bytes strewn
    words = planes[-1].astype(f"<u{dtype.itemsize}")
    for plane in planes[-2::-1]:
        words <<= 8
        words |= plane
    return np.asarray(words.view(dtype))
