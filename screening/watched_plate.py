"""One plate that is watched, and the rounds of work that take its frames to their numbers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

from plates.errors import UnfinishedError
from plates.layout import read_plate_map
from plates.store import open_plate
from screening.arrivals import SETTLING, Arrivals
from screening.classify import classify_plate
from screening.interim import InterimFields
from screening.lag import FrameLag, LagTable
from screening.landing import Landing
from screening.live_view import LivePage, frame_now
from screening.opened_files import Frame, Place
from screening.settings import PlateSettings, Settings
from screening.tally import Tally

_QUICK_ABOVE_S = 3.0  # a first look is worth its work where whole answers take longer than this
_OVERHEAD = 2  # a round is to take twice as long as what it costs beside the frames themselves
_LARGEST_ROUND = 64

Tell = Callable[[str], None]


class WatchedPlate:
    """One plate that is watched: its files, its numbers so far, and how long they took."""

    def __init__(self, settings: PlateSettings, *, landing: Landing, arrivals: Arrivals, lag: LagTable) -> None:
        self.settings, self.landing, self.arrivals, self.lag = settings, landing, arrivals, lag
        self.tally = Tally()
        self.fields: InterimFields | None = None
        self.unclassified: set[Place] = set()
        self.asked: set[Place] = set()
        self._told: dict[Path, str] = {}

    @classmethod
    def start(cls, plate: PlateSettings, *, settings: Settings, settle_s: float) -> WatchedPlate:
        """Begin with a plate of a campaign, new or continued; raises as its plate map does."""
        plate_map = read_plate_map(plate.layout, dose_unit=plate.dose_unit, sheet=plate.sheet, metadata=plate.compounds)
        out = settings.campaign.out / f"{plate.name}.zarr"
        landing = Landing(plate.acquisitions, settle_s=settle_s)
        arrivals = Arrivals(plate, out=out, plate_map=plate_map, landing=landing)
        return cls(plate, landing=landing, arrivals=arrivals, lag=LagTable(out.with_name(f"{plate.name}.lag.csv")))

    def plan(self, tell: Tell) -> None:
        """See what has landed; what an earlier session left unclassified is taken up again."""
        self.arrivals.plan()
        self.catch_up()
        waiting = {one.path: one.why for one in self.arrivals.waiting}
        for path, why in waiting.items():
            if why != SETTLING and self._told.get(path) != why:
                tell(f"waiting: {path.name}: {why}")
        self._told = waiting

    def catch_up(self) -> None:
        """Take up numbers that are on the disk already."""
        if self.arrivals.plate is not None and (new := self.arrivals.done - self.asked - self.tally.frames.keys()):
            self.asked |= new
            self.unclassified |= new - self.tally.read(self.arrivals.plate, new)

    def read_all(self) -> None:
        """Take up all numbers of the finished plate."""
        plate = self.arrivals.plate = open_plate(self.arrivals.out)
        self.tally.frames.clear()
        places = product(plate.wells, range(plate.fields), range(plate.timepoints))
        self.arrivals.done = self.tally.read(plate, list(places))


class Rounds:
    """Rounds of work on one plate: some frames are converted, then classified, then counted.

    What a round costs beside its frames, such as looking through the plate's records, is shared by all of them: the
    more it is, the more frames a round takes, if so many wait.
    """

    def __init__(
        self,
        settings: Settings,
        plate: WatchedPlate,
        *,
        hands: Any,
        eyes: Any,
        device: str,
        shown: LivePage,
        tell: Tell,
    ) -> None:
        self._settings, self._plate, self._device = settings, plate, device
        self._hands, self._eyes = hands, eyes  # clients that convert and that classify; None does it in this process
        self._shown, self._tell = shown, tell
        self._workers = 1 if eyes is None else max(1, len(eyes.nthreads()))
        self._size = self._workers
        self._classifying_s = math.inf  # of one frame; not known before the first

    def has_work(self) -> bool:
        """Whether frames wait."""
        return bool(self._plate.arrivals.queue or self._plate.unclassified)

    def newest(self) -> datetime:
        """When the newest frame that waits was acquired."""
        queue = self._plate.arrivals.queue
        return queue[0].acquired if queue else datetime.min

    def do(self) -> None:
        """Take the newest frames to their numbers."""
        arrivals = self._plate.arrivals
        frames = arrivals.queue[: self._size]
        started = time.monotonic()
        converted: dict[Place, tuple[Frame, float, datetime]] = {}
        for frame, problem in arrivals.convert(frames, client=self._hands, threads=1):
            if problem:
                self._tell(f"waiting: {problem}")
            else:
                converted[frame.place] = (frame, time.monotonic(), datetime.now(UTC))
        converting_s = time.monotonic() - started
        todo = {*converted, *self._plate.unclassified}
        self._plate.unclassified = set()
        if not todo or arrivals.plate is None:
            return
        self._update_fields({place[:2] for place in todo})
        if len(todo) * self._classifying_s / self._workers > _QUICK_ABOVE_S:
            self._look_quickly([frame for frame, _, _ in converted.values()])
        worked_s = self._classify({place[:2] for place in todo})
        done = self._plate.tally.read(arrivals.plate, todo)
        self._plate.asked |= todo
        self._count(converted, done, started=started)
        if worked_s is not None and frames:
            self._learn(len(frames), took=time.monotonic() - started, converting_s=converting_s, worked_s=worked_s)

    def _update_fields(self, changed: set[tuple[str, int]]) -> None:
        arrivals = self._plate.arrivals
        assert arrivals.plate is not None
        if self._plate.fields is None:
            self._plate.fields = InterimFields(arrivals.plate)
        self._plate.fields.update(arrivals.plate, arrivals.converted_headers(), changed=changed)

    def _look_quickly(self, frames: Sequence[Frame]) -> None:
        """Show every fourth window of frames whose whole answer takes long."""
        arrivals, tally = self._plate.arrivals, self._plate.tally
        assert arrivals.plate is not None
        places = [(frame.place, arrivals.medium(frame)) for frame in frames if frame.place not in tally.frames]
        looked = tally.look_quickly(
            arrivals.plate, places, classifier=self._settings.classifier.folder, device=self._device
        )
        for place in looked:
            self._shown.add(frame_now(self._plate.settings.name, place, tally))
            self._shown.publish("watching", soon=True)

    def _classify(self, changed: set[tuple[str, int]]) -> float | None:
        """Classify what is new; seconds of work it took on all workers, None where some of it failed."""
        settings, name = self._settings, self._plate.settings.name
        try:
            summary = classify_plate(
                self._plate.arrivals.out,
                classifier=settings.classifier.folder,
                stride=settings.classify.stride_px,
                batch=settings.classify.batch,
                vote=settings.classify.vote,
                mode=settings.classify.mode,
                device=settings.classifier.device,
                client=self._eyes,
                only=changed,
            )
        except UnfinishedError as error:
            self._shown.failures[name] = str(error)
            self._tell(str(error))
            return None
        self._shown.failures.pop(name, None)
        return summary.worked_s

    def _count(
        self, converted: dict[Place, tuple[Frame, float, datetime]], done: set[Place], *, started: float
    ) -> None:
        """Note how long each frame took."""
        now, at = time.monotonic(), datetime.now(UTC)
        rows = []
        for place, (frame, ended, ended_at) in converted.items():
            if place not in done:
                continue
            row = FrameLag(
                file=frame.source.path.name,
                well=place[0],
                field=place[1],
                timepoint=place[2],
                acquired=frame.acquired.isoformat(sep=" ", timespec="seconds"),
                acquired_by=frame.acquired_by,
                seen=_utc(frame.seen.at),
                landed=_utc(frame.landed_at),
                converted=_utc(ended_at),
                done=_utc(at),
                settling_s=frame.landed - frame.seen.since,
                waiting_s=started - frame.landed,
                converting_s=ended - started,
                classifying_s=now - ended,
                lag_s=now - frame.seen.since,
                there_before=frame.seen.there_before,
            )
            rows.append(row)
            self._shown.add(frame_now(self._plate.settings.name, place, self._plate.tally, lag_s=row.lag_s))
            death = self._plate.tally.frames[place].death
            share = "no cells" if math.isnan(death) else f"{death:.0%} dead"
            self._tell(f"{place[0]} field {place[1]} timepoint {place[2]}: {share}, {row.lag_s:.1f} s after its file")
        self._plate.lag.add(rows)

    def _learn(self, frames: int, *, took: float, converting_s: float, worked_s: float) -> None:
        """Choose the size of the next round by what this one took."""
        self._classifying_s = worked_s / frames
        work = converting_s + worked_s / self._workers
        overhead = max(0.0, took - work)
        wanted = math.ceil(_OVERHEAD * overhead / max(work / frames, 1e-3))
        self._size = min(max(self._workers, wanted), _LARGEST_ROUND)


def _utc(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
