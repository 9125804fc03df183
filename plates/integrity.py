"""Bytes that vouch for themselves: checksums of files, documents with a seal, shards that are whole.

CRC-32C finds every flipped bit and every torn write, at memory speed; it is what the chunks of the stores carry too.
Files made of such chunks all have one and the same CRC-32C, whatever they hold: what tells them apart in records is
CRC-32, of another polynomial. Neither stops somebody who alters a file and its checksum on purpose: for that the run's
record and the audit trail hold SHA-256.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .errors import StoreError
from .files import write_durable, write_text

SEAL = "crc32c"
"""Key of a document's own checksum, taken over its bytes with zeros in its place."""

UNSEALED = "00000000"
_HELD = re.compile(rb'"crc32c": "([0-9a-f]{8})"')
_BLANK = f'"{SEAL}": "{UNSEALED}"'
_ABSENT = 2**64 - 1
_CRC32 = "crc32:"


def crc32c(data: bytes) -> str:
    """CRC-32C of some bytes, as eight hexadecimal digits."""
    import google_crc32c

    return f"{int(google_crc32c.value(data)):08x}"


def checksum(data: bytes) -> str:
    """CRC-32 (of ISO 3309) of a file's bytes, as records hold it."""
    return f"{_CRC32}{zlib.crc32(data):08x}"


def has_checksum(data: bytes, recorded: str) -> bool:
    """Whether a file's bytes have the checksum of their record; those of older versions hold CRC-32C."""
    return recorded == (checksum(data) if recorded.startswith(_CRC32) else crc32c(data))


def fingerprint_of(file: Path) -> list[Any]:
    """Size in bytes and checksum of a file, as records hold them."""
    data = file.read_bytes()
    return [len(data), checksum(data)]


def why_other(file: Path, recorded: Sequence[Any]) -> str:
    """What is wrong with a file whose size and checksum were recorded; empty where it is as it was written."""
    return read_recorded(file, recorded)[1]


def read_recorded(file: Path, recorded: Sequence[Any]) -> tuple[bytes, str]:
    """A file whose size and checksum were recorded, and what is wrong with it; empty where it is as it was written."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return b"", "is missing"
    except OSError as error:
        return b"", f"cannot be read ({error.strerror or error})"
    if len(data) != recorded[0]:
        return data, "is empty" if not data else f"has {len(data):,} bytes, {recorded[0]:,} were written"
    return data, "" if has_checksum(data, recorded[1]) else "holds other bytes than were written"


def seal(text: str) -> str:
    """Put a document's checksum where it holds ``"crc32c": "00000000"``."""
    if text.count(_BLANK) != 1:
        raise ValueError(f"a document is sealed at one place {_BLANK}; this one has {text.count(_BLANK)}")
    return text.replace(_BLANK, f'"{SEAL}": "{crc32c(text.encode())}"')


def seal_broken(data: bytes) -> bool | None:
    """Whether a document was altered since it was sealed; None where it carries no seal."""
    held = _HELD.findall(data)
    if not held:
        return None
    blank = _HELD.sub(_BLANK.encode(), data)
    return len(held) > 1 or crc32c(blank) != held[0].decode()


def sealed_document(values: Mapping[str, Any]) -> str:
    """A record as JSON with a seal."""
    return seal(json.dumps({**values, SEAL: UNSEALED}, indent=1))


def write_sealed(file: Path, values: Mapping[str, Any], *, durable: bool = True) -> None:
    """Write a record whole; `durable` waits until it is on the disk."""
    if durable:
        write_durable(file, sealed_document(values).encode())
    else:
        write_text(file, sealed_document(values))


def read_sealed(file: Path) -> dict[str, Any]:
    """Read a record, without its seal; one of an older version that has none is taken as it is.

    Raises
    ------
    FileNotFoundError
        There is none.
    StoreError
        It was altered, cut short or is no record.
    """
    data = file.read_bytes()
    if seal_broken(data):
        raise StoreError(f"{file}: was altered after it was written, or is damaged.")
    try:
        values = json.loads(data)
    except ValueError as error:
        raise StoreError(f"{file}: is damaged ({error}).") from error
    if not isinstance(values, dict):
        raise StoreError(f"{file}: is damaged (it holds no names and values).")
    values.pop(SEAL, None)
    return values


def why_torn(data: bytes, *, chunks: int) -> str:
    """What is wrong with the bytes of a shard of ours; empty where index and chunks are as they were written.

    Every byte of a shard belongs to a chunk, to the index or to a checksum, so that nothing can change unseen.

    Parameters
    ----------
    chunks
        Inner chunks it must hold.
    """
    import google_crc32c

    if not data:
        return "is empty"
    size = 16 * chunks + 4
    if len(data) < size:
        return f"is cut short: {len(data):,} bytes"
    index = data[-size:]
    if google_crc32c.value(index[:-4]).to_bytes(4, "little") != index[-4:]:
        return "is cut short, or its index is damaged"
    spans = np.frombuffer(index[:-4], "<u8").reshape(chunks, 2)
    if (spans == _ABSENT).any():
        return "lacks chunks"
    position = 0
    for number in np.argsort(spans[:, 0]):
        start, length = (int(value) for value in spans[number])
        if start != position or length < 4:
            return f"has chunks that do not follow each other: number {number} at byte {start:,}"
        position += length
        if google_crc32c.value(data[start : position - 4]).to_bytes(4, "little") != data[position - 4 : position]:
            return f"is damaged in its chunk {number}"
    return "" if position == len(data) - size else "holds bytes that belong to no chunk"
