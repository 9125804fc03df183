"""Files that have landed, opened: each once, and again only when it changed or after a while."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from plates.files import write_text
from plates.ingest.manifest import Source
from plates.ingest.names import find_acquisitions
from plates.ingest.ome_tiff import side_files
from plates.ingest.survey import Header, read_headers
from plates.ingest.units import progress_folder, source_fingerprint
from screening.landing import Seen
from screening.settings import PlateSettings

_FIRST_RETRY_S, _LAST_RETRY_S = 2.0, 60.0

Place = tuple[str, int, int]
"""Well, field and timepoint."""


@dataclass(frozen=True)
class Frame:
    """A tomogram that has landed: frame `number` of a file, and the place that it has on the plate."""

    source: Source
    number: int
    fingerprint: Mapping[str, Any]
    seen: Seen
    landed_at: datetime
    landed: float
    acquired: datetime
    acquired_by: str

    @property
    def place(self) -> Place:
        """Well, field and timepoint."""
        return self.source.well, self.source.field, self.source.timepoint + self.number


@dataclass
class Opened:
    """A file as it was last opened.

    Attributes
    ----------
    fingerprint
        What tells that it changed; empty where it could not be asked.
    landed, landed_at
        When it could be opened, by the monotonic clock and by that on the wall.
    earlier
        Numbers of the frames that it had when it was opened before.
    tries, retry
        How often it could not be used, and when to try again; infinite where there is no need.
    settled
        Whether it is still as it was then.
    """

    source: Source
    seen: Seen
    fingerprint: dict[str, Any]
    header: Header
    landed: float
    landed_at: datetime
    earlier: tuple[int, ...] = ()
    tries: int = 0
    retry: float = math.inf
    settled: bool = True

    def placed(self, source: Source) -> Opened:
        """The same file, at the place that it has now."""
        self.source, self.header = source, replace(self.header, source=source)
        return self

    def frame(self, number: int) -> Frame:
        """One of its frames, with the time at which it was acquired: by the file, else by the file's own time."""
        header = self.header
        seconds = dict(zip(header.frames, header.seconds, strict=True))[number]
        if header.recorded is not None and math.isfinite(seconds):
            acquired, by = header.recorded + timedelta(seconds=seconds), "file"
        else:
            acquired, by = datetime.fromtimestamp(self.seen.modified_ns / 1e9), "modified"
        return Frame(
            source=self.source,
            number=number,
            fingerprint=self.fingerprint,
            seen=self.seen,
            landed=self.landed,
            landed_at=self.landed_at,
            acquired=acquired.replace(tzinfo=None),
            acquired_by=by,
        )


class OpenedFiles:
    """All files of one folder that were opened so far.

    Parameters
    ----------
    clock
        Seconds that never run backwards.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: dict[tuple[Path, str], Opened] = {}

    def due(self) -> bool:
        """Whether a file that could not be used is to be tried again."""
        return any(known.retry <= self._clock() for known in self._known.values())

    def of(self, source: Source) -> Opened:
        """A file as it was last opened."""
        return self._known[source.path, source.part]

    def open(self, sources: Sequence[Source], landed: Mapping[Path, Seen], refused: dict[Path, str]) -> list[Opened]:
        """Files that can be opened; only those that are new, changed or due for another try are.

        Parameters
        ----------
        sources
            Places of all files, landed or not.
        landed
            Files that have landed.
        refused
            Takes the files that cannot be opened, with the reason.
        """
        now, at = self._clock(), datetime.now(UTC)
        fresh: list[tuple[Source, Seen]] = []
        opened: list[Opened] = []
        there = {(source.path, source.part) for source in sources}
        self._known = {key: known for key, known in self._known.items() if key in there}
        for source in sources:
            files = [source.path, *side_files(source.path)]
            seen = [landed[file] for file in files if file in landed]
            known = self._known.get((source.path, source.part))
            if len(seen) < len(files):
                # what was made of it before it began to change stands for now
                if known is not None and not known.header.problem:
                    known.settled = False
                    opened.append(known.placed(source))
                continue
            latest = max(seen, key=lambda one: one.since)
            if known is None or known.seen != latest or (known.header.problem and known.retry <= now):
                fresh.append((source, latest))
            else:
                known.settled = True
                opened.append(known.placed(source))
        # the fingerprint comes first: a file that changes while it is opened is opened again
        states = [_fingerprint(source) for source, _ in fresh]
        for (source, seen_now), state, header in zip(
            fresh, states, read_headers([source for source, _ in fresh]), strict=True
        ):
            before = self._known.get((source.path, source.part))
            known = Opened(source, seen_now, state, header, landed=now, landed_at=at)
            if before is not None:
                known.earlier = before.header.frames or before.earlier
                known.tries = before.tries
            if header.problem or not state:
                self.try_later(known)
            self._known[source.path, source.part] = known
            opened.append(known)
        for known in opened:
            if known.header.problem:
                refused[known.source.path] = known.header.problem
        return [known for known in opened if not known.header.problem]

    def try_later(self, known: Opened) -> None:
        """Try a file again after a while, each time after a longer one."""
        known.retry = self._clock() + min(_FIRST_RETRY_S * 2**known.tries, _LAST_RETRY_S)
        known.tries += 1


def find_sources(settings: PlateSettings, *, out: Path, refused: dict[Path, str]) -> list[Source]:
    """Places of all files whose names tell, landed or not: what is still on its way keeps its place free.

    Parameters
    ----------
    out
        The plate, beside which a manifest of the files that are there is kept.
    refused
        Takes the files that have no place, with the reason.
    """
    found = find_acquisitions(
        settings.acquisitions,
        manifest=_present_manifest(settings, out=out),
        file_format=settings.format,
        acquisition=settings.acquisition,
    )
    refused.update(found.problems)
    return [replace(source, channel=settings.channel, fluorescence=settings.fluorescence) for source in found.sources]


def _present_manifest(settings: PlateSettings, *, out: Path) -> Path | None:
    """The manifest without the files that are not there yet, which `run` would take for mistakes."""
    if settings.manifest is None:
        return None
    data = settings.manifest.read_bytes()
    text = data.decode("utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig", "replace")
    separator = max(",;\t", key=text.partition("\n")[0].count)
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    names = [name.strip().lower() for name in rows[0]] if rows else []
    if "path" not in names:
        return settings.manifest  # its reader says what is wrong
    column = names.index("path")
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=separator, lineterminator="\n").writerows(
        row
        for number, row in enumerate(rows)
        if number == 0 or (len(row) > column and (settings.acquisitions / row[column].strip()).exists())
    )
    present = progress_folder(out) / "present_manifest.csv"
    write_text(present, buffer.getvalue())
    return present


def _fingerprint(source: Source) -> dict[str, Any]:
    try:
        return source_fingerprint(source)
    except OSError:
        return {}
