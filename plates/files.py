"""Files that appear whole or not at all, on a disk or in an object store."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from io import BytesIO
from pathlib import Path
from threading import get_ident
from typing import BinaryIO, cast

from .errors import SettingsError

_PARTIAL = ".partial"


def location(place: str | Path) -> Path:
    """A folder or file by its name: a path of this machine, or a URL such as ``s3://bucket/P012.zarr``.

    A URL becomes an object that is used like a path (of the package universal-pathlib, over fsspec). Access keys
    and the address of the store come from the environment, as the store's own tools read them.

    Raises
    ------
    SettingsError
        The URL's kind is unknown, or the package that reaches it is not installed.
    """
    text = str(place)
    if isinstance(place, Path) and re.match(r"[a-z0-9]{2,}:/[^/]", text):
        raise SettingsError(f"{text}: a URL was taken for a path, which cost it a '/'. Give it as text.")
    if "://" not in text:
        return Path(place)
    if not isinstance(place, str):
        return place
    try:
        from upath import UPath

        found = UPath(text.rstrip("/"))
        found.fs  # noqa: B018  is made on first use, and with it whatever is missing
        return cast(Path, found)
    except (ImportError, ValueError) as error:
        raise SettingsError(
            f"{text}: this kind of place cannot be reached ({error}). Expected a folder, or a URL such as "
            "s3://bucket/folder with tomoscreen[s3] installed."
        ) from error


def is_remote(place: Path) -> bool:
    """Whether a place lies in an object store, where there are no folders and nothing is renamed."""
    return not isinstance(place, Path)


def file_size(file: Path) -> int:
    """Size in bytes; 0 where there is no such file."""
    try:
        return int(file.stat().st_size)
    except FileNotFoundError:
        return 0


def gigabytes(size: float) -> str:
    """Size for people: 31.5 GB, 4.2 MB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def write_text(file: Path, text: str) -> None:
    """Write a text whole, without waiting for the disk: for what is made again at no cost."""
    if is_remote(file):
        file.write_bytes(text.encode())
        return
    with _replacing(file) as temporary:
        temporary.write_text(text)


def write_durable(file: Path, data: bytes) -> None:
    """Write a file whole: under another name, down to the disk, then renamed."""
    with appearing_whole(file) as handle:
        handle.write(data)


@contextmanager
def appearing_whole(file: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears under its name only when all of it is on the disk.

    An exception leaves nothing. In an object store the bytes are held until the end and put in one request.
    """
    if is_remote(file):
        buffer = BytesIO()
        yield buffer
        file.write_bytes(buffer.getvalue())
        return
    with _replacing(file) as temporary, temporary.open("wb") as handle:
        yield handle
        handle.flush()
        os.fsync(handle.fileno())


@contextmanager
def _replacing(file: Path) -> Iterator[Path]:
    """A name beside a file to write to; it takes the file's name in the end, or nothing is left of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(file)
    temporary = file.with_name(f"{file.name}.{os.getpid()}-{get_ident()}{_PARTIAL}")
    try:
        yield temporary
        temporary.replace(file)
    except OSError as error:
        # a full disk does not say of which file
        if error.errno is not None:  # one that was raised by hand has words of its own
            error.filename = error.filename or str(file)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def settle(file: Path) -> None:
    """Wait until a file that somebody else's library wrote is on the disk."""
    if is_remote(file):
        return  # an object is stored when it was put
    with file.open("rb+") as handle:
        os.fsync(handle.fileno())


def remove(file: Path) -> None:
    """Remove a file and what an interrupted writer of it left behind."""
    file.unlink(missing_ok=True)
    if not is_remote(file):
        _remove_leftovers(file)


def _remove_leftovers(file: Path) -> None:
    """Remove what a killed writer of a file left behind; a file has one writer at a time."""
    for leftover in file.parent.glob(f"{escape(file.name)}.*{_PARTIAL}"):
        leftover.unlink(missing_ok=True)
