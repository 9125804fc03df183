"""The live page of the plates that are watched: when it is written and sent, and what it is told."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from reports.alerts import Alert
from reports.live import (
    LiveFile,
    LiveFrame,
    LiveLag,
    LivePlate,
    LiveView,
    live_page,
    live_parts,
    pathway_of,
    write_live_page,
)
from screening.arrivals import Arrivals
from screening.lag import FrameLag, LagTable, percentiles
from screening.live_server import LiveServer
from screening.opened_files import Place
from screening.settings import Settings
from screening.tally import Tally

REFRESH_S = 10
_PAGE_EVERY_S, _HEARTBEAT_S = 2.0, 30.0
_SHOWN_FRAMES = 15


class _Watched(Protocol):
    """What is shown of a plate: its files, its numbers and how long they took."""

    arrivals: Arrivals
    tally: Tally
    lag: LagTable


class LivePage:
    """The live page, as a file and as it is served."""

    def __init__(
        self,
        settings: Settings,
        plates: Sequence[_Watched],
        *,
        out: Path,
        classifier: str,
        server: LiveServer | None,
    ) -> None:
        self._settings, self._plates, self._out, self._classifier = settings, plates, out, classifier
        self.server = server
        self.problems: list[str] = []
        self.failures: dict[str, str] = {}
        self.reports: list[str] = []
        self._frames: deque[LiveFrame] = deque(maxlen=_SHOWN_FRAMES)
        self._written = -math.inf
        self._shown: Any = None

    def add(self, frame: LiveFrame) -> None:
        """Show a frame among the last ones; a first look gives way to the whole."""
        place = (frame.plate, frame.well, frame.field, frame.timepoint)
        kept = [one for one in self._frames if (one.plate, one.well, one.field, one.timepoint) != place]
        self._frames = deque([frame, *kept][:_SHOWN_FRAMES], maxlen=_SHOWN_FRAMES)

    def publish(self, state: str, *, soon: bool = False) -> None:
        """Write and send the page; with `soon`, not too often, and only what changed save for a sign of life."""
        now = time.monotonic()
        if soon and now - self._written < _PAGE_EVERY_S:
            return
        known = self._known()
        if soon and known == self._shown and now - self._written < _HEARTBEAT_S:
            return
        self._written, self._shown = now, known
        view = self._view(state)
        write_live_page(view, out=self._out, refresh_s=REFRESH_S)
        if self.server is not None:
            self.server.show(live_page(view, refresh_s=REFRESH_S, served=True), live_parts(view))

    def _known(self) -> Any:
        return [
            (one.arrivals.waiting, len(one.arrivals.queue), len(one.arrivals.done), alerts_now(one.arrivals))
            for one in self._plates
        ], [*self._frames]

    def _view(self, state: str) -> LiveView:
        rows = [row for one in self._plates for row in one.lag.rows]
        failures = [*self.problems, *self.failures.values()]
        return LiveView(
            campaign=self._settings.campaign.name,
            state=state,
            at=clock_time(datetime.now(UTC)),
            classifier=self._classifier,
            version=version("tomoscreen"),
            plates=[plate_now(one.arrivals, one.tally) for one in self._plates],
            lag=lag_now(rows),
            lag_frames=sum(not row.there_before for row in rows),
            frames=list(self._frames),
            alerts=[
                *(Alert("failure", text) for text in failures),
                *(alert for one in self._plates for alert in alerts_now(one.arrivals)),
            ],
            reports=self.reports,
        )


def plate_now(arrivals: Arrivals, tally: Tally) -> LivePlate:
    """One plate as the page shows it."""
    plate, layout = arrivals.plate, arrivals.layout
    return LivePlate(
        name=arrivals.settings.name,
        fractions=tally.fractions(plate, layout) if plate is not None and tally.frames else None,
        rows=arrivals.format[0],
        columns=arrivals.format[1],
        converted=len(arrivals.done),
        classified=sum(not counted.provisional for counted in tally.frames.values()),
        queued=len(arrivals.queue),
        planned=sum(header.planned for header in arrivals.headers),
        wells=layout.sizes["well"],
        wells_imaged=len({header.source.well for header in arrivals.headers}),
        waiting=[
            LiveFile(_below(one.path, arrivals.settings.acquisitions), clock_time(one.since), one.why)
            for one in arrivals.waiting
        ],
        note=_note(arrivals),
        plate_map=f"{layout.attrs['source']} {layout.attrs['sha256'][:8]}",
    )


def alerts_now(arrivals: Arrivals) -> list[Alert]:
    """What must be known of one plate at once."""
    name = arrivals.settings.name
    told = [Alert("failure", f"{name}: {arrivals.landing.problem}")] if arrivals.landing.problem else []
    if arrivals.problem:
        told.append(Alert("failure", f"{name}: {arrivals.problem}"))
    return told


def frame_now(plate: str, place: Place, tally: Tally, *, lag_s: float = math.nan) -> LiveFrame:
    """One frame that was just counted."""
    counted = tally.frames[place]
    pathway = pathway_of(counted.sums / counted.patches, counted.death) if counted.patches else ""
    return LiveFrame(
        at=clock_time(datetime.now(UTC)),
        plate=plate,
        well=place[0],
        field=place[1],
        timepoint=place[2],
        death=counted.death,
        pathway=pathway,
        lag_s=lag_s,
        provisional=counted.provisional,
    )


def lag_now(rows: Sequence[FrameLag]) -> list[LiveLag]:
    """Lag of all frames so far."""
    return [LiveLag(one.stage, one.p50, one.p95) for one in percentiles(rows)]


def clock_time(moment: datetime) -> str:
    """Time of this place's day, as people read it."""
    return moment.astimezone().strftime("%H:%M:%S")


def _note(arrivals: Arrivals) -> str:
    if arrivals.at_the_end:
        return "This plate is made of all its files at once: it is converted when watching ends."
    if arrivals.later:
        return (
            f"{len(arrivals.later)} frames of files that have grown since are read once more when watching ends, "
            "to make sure that they are as they were."
        )
    return ""


def _below(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
