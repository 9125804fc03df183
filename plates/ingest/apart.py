"""Acquisitions read in a process of their own, as if they were read here: a file that kills its reader fails alone."""

from __future__ import annotations

import atexit
import errno
import fcntl
import json
import math
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import AcquisitionError, MissingInputError
from .acquisition import FluorescenceChannel, FluorescenceTransform, Slab
from .child import MESSAGE_BYTES, kind

_PROGRAM = "import sys; sys.path[:] = {path!r}; from plates.ingest.child import main; main({control})"
# what a reader needs of the environment; no access keys, and no folder from which HDF5 would load plugins
_KEPT = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "HDF5_USE_FILE_LOCKING")
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
# what a file may have done to its reader ends with the reader
_FILES_A_READER = 32
_IDLE_READERS = 8
_MAX_DOCUMENT_BYTES = 1 << 26
_DAMAGED = "The file is damaged or hostile; copy it again from the microscope, or remove it."


@dataclass(frozen=True)
class Limits:
    """What a reader may take before it is ended.

    Attributes
    ----------
    memory_bytes
        Beyond what its libraries take. The largest slab known, of a stitched field whose chunks span its depth,
        takes less than half of this.
    header_seconds, block_seconds
        Of the processor, for the header and for each slab or stack.
    silent_seconds
        Of the clock, without an answer: drives can be slow.
    """

    memory_bytes: int = 8 << 30
    header_seconds: int = 20
    block_seconds: int = 120
    silent_seconds: float = 1800.0


LIMITS = Limits()


@contextmanager
def open_apart(
    path: Path,
    *,
    part: str = "",
    channel: str | None = None,
    voxel_um: tuple[float, float, float] | None = None,
    limits: Limits = LIMITS,
) -> Iterator[ApartAcquisition]:
    """Open an acquisition in a process of its own; only headers are read. As `open_acquisition`.

    Parameters
    ----------
    path, part, channel
        As of `open_acquisition`.
    voxel_um
        Of a TIFF that lacks one.
    limits
        What its reader may take.

    Raises
    ------
    MissingInputError, AcquisitionError
        As there; or it crashed its reader, or took more than the limits.
    """
    path = Path(path)
    libraries = kind(path)
    line = _SERVER.line(libraries)
    reusable = False
    try:
        line.take(path, limits)
        acquisition = ApartAcquisition(line, part=part, channel=channel, voxel_um=voxel_um)
        yield acquisition
        acquisition.close()
        reusable = True
    finally:
        _SERVER.give_back(line, libraries, reusable=reusable)


class ApartAcquisition:
    """An acquisition whose reader is another process; its attributes are those of every acquisition.

    Attributes
    ----------
    process
        Number of that process.
    """

    def __init__(
        self, line: _Line, *, part: str, channel: str | None, voxel_um: tuple[float, float, float] | None
    ) -> None:
        self._line = line
        self._open = True
        self.path = line.path
        self.process = line.process
        seconds = line.limits.header_seconds
        order = {"path": str(line.path), "part": part, "channel": channel, "voxel_um": voxel_um}
        line.ask({**order, "memory_bytes": line.limits.memory_bytes, "seconds": seconds})
        try:
            self._take(line.document())
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, AcquisitionError):
                raise
            raise line.broken("gave a header that makes no sense") from error

    def _take(self, header: dict[str, Any]) -> None:
        self.frames: tuple[int, ...] = tuple(header["frames"])
        self.planned: int = header["planned"]
        depth, height, width = header["shape_zyx"]
        self.shape_zyx: tuple[int, int, int] = (depth, height, width)
        z, y, x = header["voxel_um"]
        self.voxel_um: tuple[float, float, float] = (z, y, x)
        self.times_s: Mapping[int, float] = dict(header["times_s"])
        recorded = header["recorded"]
        self.recorded = datetime.fromisoformat(recorded) if recorded is not None else None
        self.medium_index: float = header["medium_index"]
        self.position_mm: tuple[float, ...] = tuple(header["position_mm"])
        self.channels: Mapping[str, FluorescenceChannel] = {
            channel["name"]: _channel(channel) for channel in header["channels"]
        }
        transform = header["fluorescence_transform"]
        self.fluorescence_transform = FluorescenceTransform(
            **{**transform, "translation_um": tuple(transform["translation_um"])}
        )
        self.format: str = header["format"]
        self.stored: str = header["stored"]

    def slabs(self, frame: int, *, depth: int = 1) -> Iterator[Slab]:
        """Yield a tomogram in slabs along z; the next one is read while the caller works on the last."""
        line = self._line
        line.ask({"frame": int(frame), "depth": int(depth), "seconds": line.limits.block_seconds})
        end, whole = 0, self.shape_zyx[0]
        try:
            while end < whole:
                line.ask({"more": True})
                words, counts = line.array()
                fits = counts.ndim == 3 and counts.shape[1:] == self.shape_zyx[1:] and words.get("z") == end
                if not fits or not 0 < len(counts) <= whole - end or counts.dtype != np.uint16:
                    raise line.broken(f"gave a slab of {counts.shape} at {words.get('z')}")
                end += len(counts)
                yield Slab(z=words["z"], counts=counts, nonfinite=int(words["nonfinite"]))
        finally:
            if self._open and end < whole:  # the reader stands ready with a slab that nobody takes
                line.ask({"more": False})

    def close(self) -> None:
        """Let the file go; a reader that dies of that is told like any other."""
        self._open = False
        self._line.ask({"close": True})
        self._line.closed()

    def describe_instrument(self) -> Mapping[str, Any]:
        """What the file and those beside it say of the microscope and the vessel, as JSON."""
        self._line.ask({"instrument": True, "seconds": self._line.limits.header_seconds})
        return dict(self._line.document())

    def read_fluorescence(self, channel: str, *, frame: int) -> np.ndarray:
        """One fluorescence stack (z, y, x) in camera units, as stored (uint8 or uint16)."""
        self._line.ask({"channel": channel, "number": int(frame), "seconds": self._line.limits.block_seconds})
        return self._line.array()[1]


class _Line:
    """Questions and answers over a socket, checked: the reader may have been taken over by its file."""

    def __init__(self, connection: socket.socket) -> None:
        self.path = Path()
        self.limits = LIMITS
        self.files = 0
        self._connection = connection
        self._lost = ""
        self.process = int(self._hear()[0]["process"])

    def take(self, path: Path, limits: Limits) -> None:
        """Go on with another file."""
        self.path, self.limits = path, limits
        self.files += 1
        self._connection.settimeout(limits.silent_seconds)

    def hang_up(self) -> None:
        """Let the reader end."""
        self._connection.close()

    def ask(self, order: dict[str, Any]) -> None:
        if not self._lost:
            with suppress(BrokenPipeError, ConnectionResetError):  # the answer tells why
                self._connection.send(json.dumps(order).encode())

    def closed(self) -> None:
        """Wait until the file is closed."""
        words, shared = self._hear()
        if shared is not None:
            os.close(shared)
        if not words.get("closed"):
            raise self._told(words)

    def document(self) -> Any:
        """An answer in JSON."""
        _, memory = self._answer()
        if len(memory) > _MAX_DOCUMENT_BYTES:
            raise self.broken(f"gave a header of {len(memory):,} bytes")
        try:
            return json.loads(memory[:])
        except (ValueError, RecursionError) as error:
            raise self.broken("gave a header that makes no sense") from error

    def array(self) -> tuple[dict[str, Any], np.ndarray]:
        """An answer that is an array, and what was said with it."""
        words, memory = self._answer()
        dtype, shape = np.dtype(str(words["dtype"])), tuple(int(size) for size in words["shape"])
        size = math.prod(shape)
        if dtype.kind not in "uif" or min(shape, default=0) < 1 or size * dtype.itemsize != len(memory):
            raise self.broken(f"gave {len(memory)} bytes as {dtype} of shape {shape}")
        return words, np.frombuffer(memory, dtype=dtype, count=size).reshape(shape)

    def broken(self, what: str) -> AcquisitionError:
        """Give the reader up."""
        with suppress(ProcessLookupError):
            os.kill(self.process, signal.SIGKILL)
        self._lost = f"{self.path}: its reader {what}. {_DAMAGED}"
        return AcquisitionError(self._lost)

    def _answer(self) -> tuple[dict[str, Any], mmap.mmap]:
        words, shared = self._hear()
        if shared is None:
            raise self._told(words)
        try:
            length = int(words["bytes"])
            if fcntl.fcntl(shared, fcntl.F_GET_SEALS) & _SEALS != _SEALS or not 0 < length <= os.fstat(shared).st_size:
                raise self.broken("gave memory that is not as it says")
            return words, mmap.mmap(shared, length, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
        finally:
            os.close(shared)

    def _hear(self) -> tuple[dict[str, Any], int | None]:
        if self._lost:
            raise AcquisitionError(self._lost)
        try:
            try:
                message, shared, _, _ = socket.recv_fds(self._connection, MESSAGE_BYTES, 1)
            except ConnectionResetError:  # told first where a question was left unread; the last words come after it
                message, shared, _, _ = socket.recv_fds(self._connection, MESSAGE_BYTES, 1)
        except TimeoutError:
            raise self.broken(f"gave no answer for {self.limits.silent_seconds:g} s") from None
        return (json.loads(message) if message else {}), shared[0] if shared else None

    def _told(self, words: dict[str, Any]) -> Exception:
        """What the reader, or the one who buried it, says instead of data."""
        if words.get("refused") == "MissingInputError":
            return MissingInputError(words["text"])
        if "refused" in words:
            return AcquisitionError(words["text"])
        if "errno" in words:
            return OSError(words["errno"] or errno.EIO, words["text"])
        if "failed" in words:
            return AcquisitionError(f"{self.path}: reading it failed ({words['failed']}). {_DAMAGED}")
        how = words.get("died")
        if how == -signal.SIGXCPU:
            self._lost = f"{self.path}: reading it takes too long; its reader was ended. {_DAMAGED}"
        else:
            name = signal.Signals(-how).name if isinstance(how, int) and how < 0 else f"status {how}"
            self._lost = f"{self.path}: it ended the process that read it ({name}). {_DAMAGED}"
        return AcquisitionError(self._lost)


class _Server:
    """The process that makes the readers: started on first use, once in this process, for all its threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._idle: dict[str, list[_Line]] = {}

    def line(self, libraries: str) -> _Line:
        """A line to a reader that nobody else uses."""
        with self._lock:
            if self._owner == os.getpid() and self._idle.get(libraries):
                return self._idle[libraries].pop()
        return _Line(self._connect(libraries))

    def give_back(self, line: _Line, libraries: str, *, reusable: bool) -> None:
        """Keep a reader for the next file, unless it met trouble or served many."""
        with self._lock:
            idle = self._idle.setdefault(libraries, [])
            if reusable and line.files < _FILES_A_READER and len(idle) < _IDLE_READERS and self._owner == os.getpid():
                idle.append(line)
                return
        line.hang_up()

    def _connect(self, libraries: str) -> socket.socket:
        for _ in range(2):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with self._lock, theirs:
                try:
                    socket.send_fds(self._started(), [libraries.encode()], [theirs.fileno()])
                except (BrokenPipeError, ConnectionResetError):  # somebody ended it
                    self._stop()
                    ours.close()
                    continue
            return ours
        raise OSError(errno.EAGAIN, "the process that opens acquisitions cannot be started")

    def _started(self) -> socket.socket:
        # a fork of this process needs a server of its own: answers would get mixed up
        if self._control is None or self._owner != os.getpid():
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                program = _PROGRAM.format(
                    path=[str(Path(place).absolute()) for place in sys.path], control=theirs.fileno()
                )
                self._process = subprocess.Popen(
                    [sys.executable, "-c", program],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={**{key: os.environ[key] for key in _KEPT if key in os.environ}, "OMP_NUM_THREADS": "1"},
                    # an interrupt at the terminal is for us alone
                    process_group=0,
                )
            self._owner = os.getpid()
            self._idle = {}
            atexit.register(self._stop)
        return self._control

    def _stop(self) -> None:
        if self._owner != os.getpid() or self._control is None or self._process is None:
            return
        for line in chain.from_iterable(self._idle.values()):
            line.hang_up()
        self._idle = {}
        self._control.close()
        self._control = None
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _channel(channel: dict[str, Any]) -> FluorescenceChannel:
    depth, height, width = channel["shape_zyx"]
    z, y, x = channel["voxel_um"]
    return FluorescenceChannel(
        **{
            **channel,
            "frames": tuple(channel["frames"]),
            "shape_zyx": (depth, height, width),
            "voxel_um": (z, y, x),
            "times_s": dict(channel["times_s"]),
        }
    )


# the one thing kept between calls: a new one for each file would cost more than reading its header
_SERVER = _Server()
