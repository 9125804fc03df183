"""The process in which files from elsewhere are opened, under limits, and that answers by plain bytes.

Decoders of images are large programs in C, and a file can be made to crash them, to keep them busy for ever or to
fill the memory. Here that ends one short-lived process. What comes back is JSON and arrays of numbers, never a
pickle, so that nothing which a file does to this process speaks for it in the other.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import json
import math
import os
import resource
import select
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import AcquisitionError, MissingInputError
from .acquisition import Acquisition, open_acquisition

MESSAGE_BYTES = 1 << 15
_PAGE = resource.getpagesize()
# loaded once, before the forks that need them
_OURS = ("plates.ingest.tcf", "plates.ingest.ome_tiff", "plates.ingest.ome_zarr")
_LIBRARIES = {
    "tcf": (*_OURS, "h5py", "hdf5plugin", "numcodecs.blosc", "numcodecs.zstd"),
    "folder": (*_OURS, "numcodecs", "zarr.codecs"),
    "other": _OURS,
}


def kind(path: Path) -> str:
    """Which libraries a file needs, by its looks."""
    if path.is_dir():
        return "folder"
    return "other" if path.suffix.lower() in (".tif", ".tiff") else "tcf"


def main(control: int) -> None:
    """Fork a reader for each socket that comes over the control socket; end when that is closed.

    The one who asked ends this process by closing the socket. Signals meant for the whole group are left to it: an
    interrupt lets it finish the frame under way.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    wake, woken = socket.socketpair()
    woken.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
    asking = socket.socket(fileno=control)
    readers: dict[int, socket.socket] = {}
    loaded: set[str] = set()
    while True:
        ready, _, _ = select.select([asking, wake], [], [])
        if wake in ready:
            wake.recv(4096)
            _bury(readers)
        if asking in ready:
            named, descriptors, _, _ = socket.recv_fds(asking, 64, 1)
            if not descriptors:
                return
            connection = socket.socket(fileno=descriptors[0])
            _load(named.decode(), loaded)
            number = os.fork()
            if number == 0:
                _become_reader(connection, others=(asking, wake, woken, *readers.values()))
            readers[number] = connection
            with suppress(OSError):  # it may have gone away by now
                connection.send(json.dumps({"process": number}).encode())


def describe(acquisition: Acquisition) -> dict[str, Any]:
    """The header as JSON; numbers by frame become pairs, since JSON has no whole numbers as keys."""
    recorded = acquisition.recorded
    return {
        "frames": list(acquisition.frames),
        "planned": acquisition.planned,
        "shape_zyx": list(acquisition.shape_zyx),
        "voxel_um": list(acquisition.voxel_um),
        "times_s": list(acquisition.times_s.items()),
        "recorded": recorded.isoformat() if recorded is not None else None,
        "medium_index": acquisition.medium_index,
        "position_mm": list(acquisition.position_mm),
        "channels": [
            {**asdict(channel), "times_s": list(channel.times_s.items())} for channel in acquisition.channels.values()
        ],
        "fluorescence_transform": asdict(acquisition.fluorescence_transform),
        "format": acquisition.format,
        "stored": acquisition.stored,
    }


def _load(libraries: str, loaded: set[str]) -> None:
    """Load what the next readers need, and set it in motion, so that each fork need not."""
    if libraries in loaded:
        return
    loaded.add(libraries)
    for library in _LIBRARIES.get(libraries, ()):
        importlib.import_module(library)
    if libraries == "tcf":
        _warm_up()
    # else the first collection in every fork would copy all of this
    gc.collect()
    gc.freeze()


def _warm_up() -> None:
    """Open a file of our own: much of h5py is made on first use."""
    import h5py

    from .hdf5 import member, text, timestamp

    with h5py.File("none", "w", driver="core", backing_store=False) as file:
        file.attrs["RecordingTime"] = np.array([b"2026-01-01 00:00:00.000"])
        file.create_dataset("Data/3D/000000", data=np.zeros((2, 2, 2), np.uint16), chunks=(1, 2, 2), compression=1)
        file["Data"].attrs["Resolution"] = np.array([0.1])
        data = member(file, "Data", "3D", "000000")
        data.id.chunk_iter(lambda chunk: None)
        timestamp(file, "RecordingTime")
        text(file["Data"], "Resolution")


def _bury(readers: dict[int, socket.socket]) -> None:
    """Tell those who wait for a reader that died how it died."""
    while readers:
        try:
            number, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if number == 0:
            return
        connection = readers.pop(number)
        if status:
            with suppress(OSError):
                connection.send(json.dumps({"died": os.waitstatus_to_exitcode(status)}).encode())
        connection.close()


def _become_reader(connection: socket.socket, *, others: Sequence[socket.socket]) -> None:
    """Serve until nobody asks, and end; nothing of the parent's is unwound."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for other in others:
            other.close()
        _Reader(connection).serve()
        status = 0
    finally:
        os._exit(status)


class _Reader:
    """Answers for one file after the other, until nobody asks any more."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._path = ""
        self._memory_bytes = 0

    def serve(self) -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        while order := self._next():
            if "path" in order:
                self._path, self._memory_bytes = order["path"], order["memory_bytes"]
                _limit_memory(self._memory_bytes)
                self._guarded(partial(self._serve_file, order), seconds=order["seconds"])

    def _serve_file(self, order: dict[str, Any]) -> None:
        with _open(order) as acquisition:
            self._give_json(describe(acquisition))
            order = self._next()
            while order and "close" not in order:
                following = None
                # whatever else was asked belongs to a frame that is over
                if "frame" in order:
                    following = self._slabs(acquisition, order)
                elif "channel" in order:
                    self._guarded(partial(self._stack, acquisition, order), seconds=order["seconds"])
                elif "instrument" in order:
                    self._guarded(partial(self._instrument, acquisition), seconds=order["seconds"])
                order = following or self._next()
        if order:
            self._say(closed=True)

    def _instrument(self, acquisition: Acquisition) -> None:
        self._give_json(dict(acquisition.describe_instrument()))

    def _stack(self, acquisition: Acquisition, order: dict[str, Any]) -> None:
        self._give_array(acquisition.read_fluorescence(order["channel"], frame=order["number"]))

    def _slabs(self, acquisition: Acquisition, order: dict[str, Any]) -> dict[str, Any] | None:
        """Give slabs one at a time as they are asked for; the next is read while the last is worked on.

        Returns
        -------
        order
            Another question that came instead, if one did.
        """
        slabs = acquisition.slabs(order["frame"], depth=order["depth"])
        end = 0
        while end < acquisition.shape_zyx[0]:
            slab = self._guarded(partial(next, slabs), seconds=order["seconds"])
            if slab is None:
                return None
            asked = self._next()
            if not asked.get("more"):
                return asked
            self._give_array(slab.counts, z=slab.z, nonfinite=slab.nonfinite)
            end = slab.z + len(slab.counts)
        return None

    def _guarded(self, work: Callable[[], Any], *, seconds: int) -> Any:
        """What `work` gives; what it raises goes to the one who asked, and None comes back."""
        _limit_seconds(seconds)
        try:
            return work()
        except (AcquisitionError, MissingInputError) as error:
            self._say(refused=type(error).__name__, text=str(error))
        except MemoryError:
            gigabytes = f"{self._memory_bytes / 1e9:.1f} GB"
            self._say(refused="AcquisitionError", text=f"{self._path}: reading it takes more than {gigabytes}")
        except OSError as error:
            self._say(errno=error.errno, text=error.strerror or str(error))
        except Exception as error:
            self._say(failed=f"{type(error).__name__}: {error}"[:500])
        return None

    def _next(self) -> dict[str, Any]:
        message = self._connection.recv(MESSAGE_BYTES)
        return json.loads(message) if message else {}

    def _say(self, **words: Any) -> None:
        words = {key: value[:4000] if isinstance(value, str) else value for key, value in words.items()}
        self._connection.send(json.dumps(words).encode())

    def _give_json(self, document: Any) -> None:
        self._give(np.frombuffer(json.dumps(document).encode(), dtype=np.uint8))

    def _give_array(self, array: np.ndarray, **words: Any) -> None:
        self._give(array, shape=list(array.shape), dtype=array.dtype.str, **words)

    def _give(self, array: np.ndarray, **words: Any) -> None:
        """Hand memory over rather than a copy of it; sealed, so that it can be neither cut nor grown any more."""
        shared = os.memfd_create("tomoscreen", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            # written, not mapped: pages that are mapped are first filled with zeros
            rest = np.ascontiguousarray(array).data.cast("B")
            while rest:
                rest = rest[os.write(shared, rest) :]
            fcntl.fcntl(shared, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
            socket.send_fds(self._connection, [json.dumps({"bytes": array.nbytes, **words}).encode()], [shared])
        finally:
            os.close(shared)


def _open(order: dict[str, Any]) -> AbstractContextManager[Acquisition]:
    path = Path(order["path"])
    if order["voxel_um"] is not None:
        from .ome_tiff import open_tiff

        return open_tiff(path, part=order["part"], voxel_um=tuple(order["voxel_um"]))
    return open_acquisition(path, part=order["part"], channel=order["channel"])


def _limit_memory(size: int) -> None:
    """So much more than what the libraries took."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE
    resource.setrlimit(resource.RLIMIT_AS, (taken + size, resource.RLIM_INFINITY))


def _limit_seconds(seconds: int) -> None:
    """So much of the processor's time from now on; then the system ends this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    end = math.ceil(used.ru_utime + used.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (end, resource.RLIM_INFINITY))
