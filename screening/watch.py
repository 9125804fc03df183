"""A campaign while it is acquired: each frame on its way to a number as soon as its file has landed."""

from __future__ import annotations

import math
import re
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from plates.errors import SettingsError, TomoscreenError
from screening.arrivals import Arrivals
from screening.cluster import clusters, worker_count
from screening.lag import Percentiles, percentiles
from screening.landing import keep_looking, poll_seconds
from screening.live_server import LiveServer
from screening.live_view import LivePage
from screening.pipeline import Outcome, Progress, run
from screening.settings import Settings
from screening.watched_plate import Rounds, Tell, WatchedPlate

SETTLE_S = 5.0
_TERMINATED = 143


@dataclass
class Watched:
    """How a watch ended: the campaign as `run` leaves it, the live page, and the lag of the frames that came."""

    outcome: Outcome
    page: Path
    why: str
    frames: int
    lag: list[Percentiles] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The same in words."""
        lines = [f"Watched until {self.why}. Live page: {self.page}"]
        whole = next((one for one in self.lag if one.stage == "all" and math.isfinite(one.p50)), None)
        if whole is not None:
            parts = ", ".join(f"{one.stage} {one.p50:.1f} s" for one in self.lag if one is not whole)
            lines.append(
                f"Lag of {self.frames} frames: median {whole.p50:.1f} s, 95 % within {whole.p95:.1f} s ({parts})."
            )
        return lines


def watch(
    settings: Settings,
    *,
    settle_s: float = SETTLE_S,
    until_idle_s: float | None = None,
    expected: tuple[int, int] | None = None,
    port: int | None = 0,
    stop: threading.Event | None = None,
    tell: Tell = lambda text: None,
    progress: Progress | None = None,
) -> Watched:
    """Convert, classify and show every frame as it lands, then end as `run` does.

    Folders are polled. A file has landed when its size and time have not changed for the settle time and its reader
    can open it; until then it waits and is told of. Newest frames come first. The stored plate and probabilities are
    those of `run`, so that a stop or a crash loses nothing: started again, the watch goes on. When it ends, `run`
    makes the rest and finds this done. First looks (every fourth window) are shown and never stored.

    Parameters
    ----------
    settings
        As for `run`.
    settle_s
        How long a file must not change.
    until_idle_s
        End when nothing has changed for so long.
    expected
        Fields a well and timepoints a field: end when all of them are there in every well of the plate map.
    port
        Of the live page on this machine; 0 takes a free one, None serves none.
    stop
        End when it is set, as after Ctrl-C.
    tell
        Called with a line for each event.
    progress
        Of the run at the end.

    Raises
    ------
    UnfinishedError
        Files or fields failed; everything else is done and reported.
    TomoscreenError
        Any other kind, as `run` raises it.
    SystemExit
        After SIGTERM: the frames at hand are dropped, for the next watch to do; `run` is not called.
    """
    from models.classifier import load_classifier, read_card, require_for_screening

    folder = settings.classifier.folder
    require_for_screening(read_card(folder), path=folder)
    device = "auto" if settings.workers.scheduler else settings.classifier.device
    card = load_classifier(folder, device=device).card
    name = f"{card.name} {card.weights_sha256[:8]}, {card.calibration}"
    plates = [WatchedPlate.start(plate, settings=settings, settle_s=settle_s) for plate in settings.plates]
    page = settings.campaign.out / f"{settings.campaign.name}.live.html"
    shown = LivePage(
        settings, plates, out=page, classifier=name, server=LiveServer(port=port) if port is not None else None
    )
    end = _End(until_idle_s=until_idle_s, expected=expected, event=stop)
    tell(f"Watching. Live page: {page}" + (f" or, on this machine, {shown.server.address}" if shown.server else ""))
    try:
        with end.listening():
            # a first Ctrl-C ends the watch, a second one all of it
            why = _follow(settings, plates, shown, end, settle_s=settle_s, device=device, tell=tell)
            if end.terminated:
                shown.publish("stopped")
                raise SystemExit(_TERMINATED)
            tell(f"Watched until {why}; finishing.")
            shown.publish("finishing")
            if missing := [one for one in plates if one.arrivals.wells_missing()]:
                tell("".join(f"{one.arrivals.settings.name}: some wells have no file yet. " for one in missing))
            end.finishing = True
            outcome = run(settings, progress=progress)
        shown.reports = [path.name for path in [*outcome.plate_reports.values(), outcome.campaign_report]]
        for one in plates:
            one.read_all()
        shown.publish("finished")
    except BaseException as error:
        if isinstance(error, TomoscreenError | OSError):
            shown.problems = [str(error)]
        shown.publish("stopped")
        raise
    finally:
        if shown.server is not None:
            shown.server.close()
    rows = [row for one in plates for row in one.lag.rows]
    return Watched(outcome, page, why, sum(not row.there_before for row in rows), percentiles(rows))


def folder_settings(
    folder: Path,
    *,
    layout: Path,
    out: Path,
    classifier: Path | None = None,
    dose_unit: str | None = None,
    workers: int | Literal["auto"] = "auto",
) -> Settings:
    """Settings of a campaign of one folder, named after it.

    Raises
    ------
    SettingsError
        The folder or the plate map is not there, or the unit is none.
    """
    name = re.sub(r"[^A-Za-z0-9-]+", "-", folder.resolve().name).strip("-")[:50] or "plate"
    described = {
        "campaign": {"name": f"{name}-campaign", "out": out},
        "plates": [{"name": name, "acquisitions": folder, "layout": layout, "dose_unit": dose_unit}],
        "classifier": {"path": classifier},
        "workers": {"count": workers},
    }
    try:
        return Settings.model_validate(described, context={"folder": Path.cwd()})
    except ValidationError as error:
        reasons = [one["msg"].removeprefix("Value error, ") for one in error.errors()]
        raise SettingsError(f"{folder} cannot be watched: {'; '.join(reasons)}.") from None


def _follow(
    settings: Settings,
    plates: Sequence[WatchedPlate],
    shown: LivePage,
    end: _End,
    *,
    settle_s: float,
    device: str,
    tell: Tell,
) -> str:
    """Take frames as they land, until something ends it; say what."""
    poll_s, quiet = poll_seconds(settle_s), threading.Event()
    landings = [one.landing for one in plates]
    looking = threading.Thread(
        target=keep_looking, args=(landings,), kwargs={"poll_s": poll_s, "stop": quiet}, name="landing", daemon=True
    )
    looking.start()
    workers = worker_count(settings.workers.count)
    try:
        where = settings.workers
        with clusters(
            workers=workers,
            scheduler=where.scheduler,
            device=settings.classifier.device,
            certificates=where.certificates,
        ) as (hands, eyes):
            _warm_up(settings, eyes)
            rounds = [
                Rounds(settings, one, hands=hands, eyes=eyes, device=device, shown=shown, tell=tell) for one in plates
            ]
            worked = time.monotonic()
            while True:
                for one in plates:
                    one.plan(tell)
                busy = max((one for one in rounds if one.has_work()), key=Rounds.newest, default=None)
                if busy is not None:
                    busy.do()
                    worked = time.monotonic()
                shown.publish("watching", soon=True)
                if why := end.reason(plates, idle_since=max([worked, *(one.changed for one in landings)])):
                    return why
                if busy is None and not any(one.arrivals.take_a_digest() for one in plates):
                    time.sleep(poll_s)
    finally:
        quiet.set()
        looking.join()


def _warm_up(settings: Settings, client: Any) -> None:
    """Load the classifier where the work is done, while no file is waited for yet."""
    folder, device = settings.classifier.folder.resolve(), settings.classifier.device
    if client is None:
        _load(folder, device)
    else:
        client.run(_load, folder, device)


def _load(folder: Path, device: str) -> None:
    from models.inference import cached_classifier

    cached_classifier(folder, device=device)


class _End:
    """What ends a watch: a signal, an event of the caller's, the last frame expected, or silence."""

    def __init__(
        self, *, until_idle_s: float | None, expected: tuple[int, int] | None, event: threading.Event | None
    ) -> None:
        self._until_idle_s, self._expected, self._event = until_idle_s, expected, event
        self._interrupted = False
        self.terminated = False
        self.finishing = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM for a wish to end; a second SIGINT ends at once."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals can be handled in the main thread alone
            return
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def reason(self, plates: Sequence[WatchedPlate], *, idle_since: float) -> str:
        """Why to end now; empty to go on."""
        if self.terminated:
            return "it was terminated"
        if self._interrupted or (self._event is not None and self._event.is_set()):
            return "it was stopped"
        if self._expected is not None and all(_is_complete(one.arrivals, self._expected) for one in plates):
            return "all frames were there"
        if self._until_idle_s is not None and time.monotonic() - idle_since >= self._until_idle_s:
            return f"nothing had changed for {self._until_idle_s:g} s"
        return ""

    def _note(self, number: int, _: Any) -> None:
        # no lock may be taken here: the main thread may hold it
        if number == signal.SIGTERM:
            self.terminated = True  # Python drops what is raised at a bad moment
            raise SystemExit(_TERMINATED)
        if self.finishing or self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = True


def _is_complete(arrivals: Arrivals, expected: tuple[int, int]) -> bool:
    fields, timepoints = expected
    wanted = arrivals.layout.sizes["well"] * fields * timepoints
    there = sum(len(header.frames) for header in arrivals.headers) if arrivals.at_the_end else len(arrivals.done)
    return there >= wanted and not arrivals.queue
