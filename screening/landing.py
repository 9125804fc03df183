"""Which files of a folder have landed: polled, for network drives tell nobody of changes, and left to settle."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

POLLS_A_SETTLE = 5
_SHORTEST_POLL_S, _LONGEST_POLL_S = 0.2, 5.0
_REST = 5  # a poll may take a sixth of the time, so that a slow drive is not kept busy by asking
_ENDINGS = (".tcf", ".tif", ".tiff")
_STORE_MARKS = ("zarr.json", ".zgroup", ".zattrs")
# what copying programs append while a file is under way
_TEMPORARY = (".part", ".partial", ".tmp", ".temp", ".filepart", ".crdownload", ".download", ".copy", ".writing")


@dataclass(frozen=True)
class Seen:
    """A file as the polls found it.

    Attributes
    ----------
    size, modified_ns
        Of the file; of an OME-Zarr folder the sum and the latest of all its files.
    since
        When it was first seen so, in seconds of the monotonic clock: clocks of shares and microscopes jump.
    at
        The same by the wall clock, to be shown only.
    there_before
        Whether it lay there, as it is, when watching began.
    """

    size: int
    modified_ns: int
    since: float
    at: datetime
    there_before: bool


class Landing:
    """The acquisitions below one folder, and since when each has not changed.

    Parameters
    ----------
    folder
        Searched with all folders below it; names that begin with a point are passed over.
    settle_s
        How long size and time of a file must stay the same before it counts as landed.
    clock
        Seconds that never run backwards.
    """

    def __init__(self, folder: Path, *, settle_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder = folder
        self.settle_s = settle_s
        self.clock = clock
        self.changed = clock()
        self._seen: dict[Path, Seen] = {}
        self._temporary: dict[Path, Seen] = {}
        self._problem = ""
        self._looked = False
        self._lock = threading.Lock()

    @property
    def problem(self) -> str:
        """Why the folder could not be listed whole the last time; empty where it could."""
        return self._problem

    def look(self) -> None:
        """Poll once. What cannot be listed for now is taken to be as it was."""
        problems: list[str] = []
        found: dict[Path, tuple[int, int]] = {}
        temporary: dict[Path, tuple[int, int]] = {}
        for path, state in _walk(self.folder, problems):
            (found if _is_acquisition(path) else temporary)[path] = state
        now, at = self.clock(), datetime.now(UTC)
        with self._lock:
            seen = self._merge(self._seen, found, now=now, at=at, keep=bool(problems))
            self._temporary = self._merge(self._temporary, temporary, now=now, at=at, keep=bool(problems))
            if {path: one.since for path, one in seen.items()} != {path: one.since for path, one in self._seen.items()}:
                self.changed = now
            self._seen, self._problem, self._looked = seen, "; ".join(problems[:3]), True

    def landed(self) -> dict[Path, Seen]:
        """Files whose size and time have not changed for the settle time."""
        with self._lock:
            end = self.clock() - self.settle_s
            return {path: one for path, one in self._seen.items() if one.since <= end}

    def unsettled(self) -> dict[Path, Seen]:
        """Files that are still being written, as far as their size and time tell."""
        with self._lock:
            end = self.clock() - self.settle_s
            return {path: one for path, one in self._seen.items() if one.since > end}

    def temporary(self) -> dict[Path, Seen]:
        """Files under names that a copying program gives up when it has ended."""
        with self._lock:
            return dict(self._temporary)

    def _merge(
        self, before: dict[Path, Seen], found: dict[Path, tuple[int, int]], *, now: float, at: datetime, keep: bool
    ) -> dict[Path, Seen]:
        merged = dict(before) if keep else {}
        for path, (size, modified) in found.items():
            old = before.get(path)
            if old is not None and (old.size, old.modified_ns) == (size, modified):
                merged[path] = old
            else:
                merged[path] = Seen(size, modified, since=now, at=at, there_before=not self._looked)
        return merged


def poll_seconds(settle_s: float) -> float:
    """Seconds between two polls that suit a settle time."""
    return min(max(settle_s / POLLS_A_SETTLE, _SHORTEST_POLL_S), _LONGEST_POLL_S)


def keep_looking(landings: Sequence[Landing], *, poll_s: float, stop: threading.Event) -> None:
    """Poll until told to stop: the work of a thread, so that files settle while others are computed."""
    while not stop.is_set():
        started = time.monotonic()
        for landing in landings:
            landing.look()
        stop.wait(max(poll_s, _REST * (time.monotonic() - started)))


def _walk(folder: Path, problems: list[str]) -> Iterable[tuple[Path, tuple[int, int]]]:
    """Acquisitions, and files under temporary names, with size and time; an OME-Zarr folder counts as one."""
    searched: set[str] = set()
    waiting = [str(folder)]
    while waiting:
        place = waiting.pop()
        real = os.path.realpath(place)
        if real in searched:  # a link to a folder above ends here
            continue
        searched.add(real)
        try:
            with os.scandir(place) as entries:
                listed = sorted((one for one in entries if not one.name.startswith(".")), key=lambda one: one.name)
        except OSError as error:
            problems.append(f"{place} cannot be listed: {error.strerror or error}")
            continue
        for entry in listed:
            path = Path(entry.path)
            try:
                if entry.is_dir():
                    if _is_store(path):
                        yield path, _store_state(path)
                    else:
                        waiting.append(entry.path)
                elif _is_acquisition(path) or _is_temporary(path):
                    state = entry.stat()
                    yield path, (state.st_size, state.st_mtime_ns)
            except FileNotFoundError:
                continue  # renamed or removed since it was listed
            except OSError as error:
                problems.append(f"{path} cannot be read: {error.strerror or error}")


def _is_acquisition(path: Path) -> bool:
    return path.suffix.lower() in (*_ENDINGS, ".zarr") or path.is_dir()


def _is_temporary(path: Path) -> bool:
    name = path.name.lower()
    return name.endswith(_TEMPORARY) or any(f"{ending}." in name for ending in _ENDINGS)


def _is_store(folder: Path) -> bool:
    return folder.suffix.lower() == ".zarr" or any((folder / mark).is_file() for mark in _STORE_MARKS)


def _store_state(folder: Path) -> tuple[int, int]:
    size, latest = 0, 0
    for parent, _, names in os.walk(folder):
        for name in names:
            state = (Path(parent) / name).stat()
            size, latest = size + state.st_size, max(latest, state.st_mtime_ns)
    return size, latest
