"""Files of named folders and a few computed answers, for this machine alone; ranges of bytes, as shards are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from screening.loopback import LoopbackServer, Request

# what the parts of a path in a Zarr store are made of: no dot files, no "..", nothing percent-encoded
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_BLOCK = 1 << 20
_DATA = {"Accept-Ranges": "bytes", "Content-Security-Policy": "default-src 'none'"}


@dataclass(frozen=True)
class Answer:
    """What is sent for an address: its bytes, their kind, and further headers."""

    body: bytes
    kind: str = "application/octet-stream"
    headers: Mapping[str, str] = field(default_factory=dict)


class FileServer:
    """Serves ``files/<folder>/...`` from the disk and all else from a function, read only.

    A file is given only if its name could be one of a Zarr store's and, links followed, it lies inside its folder.
    Folders are never listed. Of a `Range` request one range is honoured, also one that counts from the end.

    Parameters
    ----------
    folders
        Name in the address -> folder on the disk.
    answer
        Called with the rest of the address; None where there is nothing.
    port
        To listen on; 0 takes a free one.

    Raises
    ------
    SettingsError
        The port is taken.
    """

    def __init__(self, folders: Mapping[str, Path], answer: Callable[[str], Answer | None], *, port: int = 0) -> None:
        self._folders = {name: folder.resolve() for name, folder in folders.items()}
        self._answer = answer
        self._server = LoopbackServer(self._respond, port=port)
        self.port, self.address = self._server.port, self._server.address

    def close(self) -> None:
        """Stop serving."""
        self._server.close()

    def _respond(self, request: Request, rest: str) -> None:
        if not rest.startswith("files/"):
            found = self._answer(rest)
            if found is None:
                request.absent()
            else:
                request.answer(200, found.body, found.kind, found.headers)
            return
        file = self._file(rest.removeprefix("files/"))
        if file is None:
            request.absent()
        else:
            _send(request, file)

    def _file(self, path: str) -> Path | None:
        name, *parts = path.split("/")
        folder = self._folders.get(name)
        if folder is None or not all(_PART.fullmatch(part) for part in parts):
            return None
        try:
            file = folder.joinpath(*parts).resolve(strict=True)
        except (OSError, RuntimeError):  # absent, not to be read, or links in a circle
            return None
        return file if file.is_relative_to(folder) and file.is_file() else None


def _send(request: Request, file: Path) -> None:
    try:
        handle = file.open("rb")
    except OSError:
        request.absent()
        return
    with handle:
        size = handle.seek(0, 2)
        kind = "application/json" if file.suffix == ".json" else "application/octet-stream"
        span = asked_range(request.headers.get("Range", ""), size=size)
        if span is None:
            request.answer(416, b"", kind, {**_DATA, "Content-Range": f"bytes */{size}"})
            return
        start, stop = span
        headers = {**_DATA, "Content-Length": str(stop - start)}
        if (start, stop) == (0, size):
            request.head(200, kind, headers)
        else:
            request.head(206, kind, {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{size}"})
        if request.command == "HEAD":
            return
        handle.seek(start)
        while start < stop and (block := handle.read(min(_BLOCK, stop - start))):
            request.wfile.write(block)
            start += len(block)
        # a file that was cut meanwhile leaves an answer too short: the connection must not be used again
        request.close_connection |= start < stop


def asked_range(text: str, *, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last of a `Range` header (RFC 9110, section 14).

    What is no single range of bytes asks for all; None where no byte of the file is asked for.
    """
    match = _RANGE.fullmatch(text.strip())
    if match is None or match.groups() == ("", ""):
        return 0, size
    if not match[1]:
        start, stop = max(size - int(match[2]), 0), size
    else:
        start, stop = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
        if match[2] and int(match[2]) < start:
            return 0, size
    return (start, stop) if start < stop else None
