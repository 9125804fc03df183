"""One plate while it is acquired: which frames have landed, where they belong, and their conversion."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from plates.creation import design_plate, write_plate
from plates.errors import StoreError, TomoscreenError, WorkerLostError
from plates.ingest.manifest import Source
from plates.ingest.survey import Header, nominal_hours
from plates.ingest.units import (
    Digest,
    Frames,
    convert_frames,
    delete_images,
    forget,
    progress_folder,
    read_record,
    take_digest,
    why_convert,
)
from plates.layout import PlateMap
from plates.mapping import map_units
from plates.ngff import well_position
from plates.store import Plate, open_plate
from screening.landing import Landing
from screening.opened_files import Frame, Opened, OpenedFiles, Place, find_sources
from screening.settings import PlateSettings

_GEOMETRY_DIGITS = 4
SETTLING = "its size or time changed a moment ago"


@dataclass(frozen=True)
class Waiting:
    """A file that cannot be used yet, since when (to be shown), and why."""

    path: Path
    since: datetime
    why: str


class Arrivals:
    """What `run` does with a whole folder, file by file.

    Only what is new is opened. What `run` would refuse waits and is told; `run` says it again at the end.

    Parameters
    ----------
    plate
        Its folder, plate map and how files are read.
    out
        The plate to make or to continue.
    landing
        Of its folder.
    """

    def __init__(self, plate: PlateSettings, *, out: Path, plate_map: PlateMap, landing: Landing) -> None:
        self.settings = plate
        self.out = out.absolute()
        self.landing = landing
        self.layout = plate_map.to_dataset()
        self.format = (plate_map.rows, plate_map.columns)
        self.plate: Plate | None = open_plate(self.out) if (self.out / "zarr.json").exists() else None
        self.waiting: list[Waiting] = []
        self.problem = ""
        self.done: set[Place] = set()
        self.later: set[Place] = set()
        self.queue: list[Frame] = []
        self.headers: list[Header] = []
        self._files = OpenedFiles(landing.clock)
        self._finished: dict[Place, tuple[Path, str, Mapping[str, Any]]] = {}
        self._places: dict[tuple[str, str], Source] = {}
        self._refused: dict[Path, str] = {}
        self._undigested: dict[Path, Source] = {}
        self._planned: Any = None

    @property
    def at_the_end(self) -> bool:
        """Whether the plate can only be made of all its files: stitched, or left where it is."""
        return self.settings.stitch or self.settings.in_place

    def wells_missing(self) -> set[str]:
        """Wells of the plate map of which no file has landed."""
        return {str(well) for well in self.layout["well"].values} - {header.source.well for header in self.headers}

    def plan(self) -> None:
        """Take up what has landed since the last time: `queue` has what to convert, newest first.

        Raises
        ------
        StoreError
            Another plate's acquisitions are in the store.
        """
        landed = self.landing.landed()
        present = {path: one.since for path, one in landed.items()}
        if present == self._planned and not self._files.due():
            self._list_waiting()
            return
        refused: dict[Path, str] = {}
        try:
            sources = find_sources(self.settings, out=self.out, refused=refused)
            self.problem = ""
        except (TomoscreenError, OSError) as error:
            self.problem = str(error)
            return
        opened = self._files.open(sources, landed, refused)
        accepted = self._accept(opened, refused)
        if accepted and not self.at_the_end:
            self._grow([known.header for known in accepted])
            self._move(sources)
            self._sort(accepted)
        self.headers = [known.header for known in accepted]
        self._planned = present
        self._refused = refused
        self._list_waiting()

    def convert(self, frames: Sequence[Frame], *, client: Any, threads: int) -> Iterator[tuple[Frame, str]]:
        """Convert frames and yield each as it is finished, with what went wrong or an empty text."""
        assert self.plate is not None
        by_source: dict[Source, list[Frame]] = {}
        for frame in frames:
            by_source.setdefault(frame.source, []).append(frame)
        units = [
            (Frames(self.plate, source, tuple(sorted(frame.number for frame in members))),)
            for source, members in by_source.items()
        ]
        for (unit,), outcome in map_units(convert_frames, units, client=client, threads=threads):
            if isinstance(outcome, Exception) and not isinstance(outcome, WorkerLostError):
                raise outcome
            for frame in by_source[unit.source]:
                if isinstance(outcome, Exception):
                    problem = f"{unit.source.path}: {outcome}"
                else:
                    problem = outcome.get(frame.number, "")
                self._note(frame, problem)
                yield frame, problem
        taken = {frame.place for frame in frames}
        self.queue = [frame for frame in self.queue if frame.place not in taken]

    def medium(self, frame: Frame) -> float:
        """Refractive index of the medium of a converted frame; NaN where its record is gone."""
        assert self.plate is not None
        record = read_record(Frames(self.plate, frame.source, (frame.number,)).marker(frame.number))
        return float(record.get("statistics", {}).get("medium_index", math.nan))

    def take_a_digest(self) -> bool:
        """Take the SHA-256 of one file that was converted; False where none is left."""
        if self.plate is None or not self._undigested:
            return False
        take_digest(Digest(self.plate, self._undigested.popitem()[1]))
        return True

    def converted_headers(self) -> dict[tuple[str, int], list[Header]]:
        """Well and field -> headers of its files, with the frames that are converted."""
        found: dict[tuple[str, int], list[Header]] = {}
        for header in self.headers:
            source = header.source
            pairs = [
                (number, seconds)
                for number, seconds in zip(header.frames, header.seconds, strict=True)
                if (source.well, source.field, source.timepoint + number) in self.done
            ]
            if pairs:
                numbers, seconds = zip(*pairs, strict=True)
                here = found.setdefault((source.well, source.field), [])
                here.append(replace(header, frames=numbers, seconds=seconds))
        return found

    def _accept(self, opened: Sequence[Opened], refused: dict[Path, str]) -> list[Opened]:
        """Files that `run` would take; the others wait, each with the reason why it would not."""
        wells = {str(well) for well in self.layout["well"].values}
        kinds = Counter(_geometry(known.header.shape_zyx, known.header.voxel_um) for known in opened)
        if self.plate is not None:
            usual = _geometry(self.plate.shape_zyx, self.plate.voxel_um)
        else:
            usual = kinds.most_common(1)[0][0] if kinds else ""
        taken: dict[Place, Path] = {}
        accepted = []
        for known in sorted(opened, key=lambda one: one.seen.since):
            source, header = known.source, known.header
            places = [(source.well, source.field, source.timepoint + n) for n in range(header.planned)]
            other = next((taken[place] for place in places if place in taken), None)
            geometry = _geometry(header.shape_zyx, header.voxel_um)
            if source.well not in wells:
                refused[source.path] = f"well {source.well} is not in the plate map"
            elif geometry != usual:
                refused[source.path] = f"it holds {geometry}, the plate {usual}"
            elif other is not None:
                refused[source.path] = f"{other.name} has the same place on the plate"
            else:
                taken.update(dict.fromkeys(places, source.path))
                accepted.append(known)
        return accepted

    def _grow(self, headers: Sequence[Header]) -> None:
        """Make the plate, or let it grow to hold these files; nothing is written where it holds them."""
        timepoints = max(header.source.timepoint + header.planned for header in headers)
        wells = sorted({header.source.well for header in headers}, key=well_position)
        lit = self.settings.fluorescence != "none"
        # the medians of all fields change by a breath with each of them, and with them every image's metadata
        if self.plate is not None and self.plate.timepoints == timepoints:
            hours: Sequence[float] = self.plate.hours
        else:
            hours = nominal_hours(headers, timepoints=timepoints)
        plate = design_plate(
            self.out,
            name=self.settings.name,
            wells=wells,
            fields=max(header.source.field for header in headers) + 1,
            timepoints=timepoints,
            shape_zyx=headers[0].shape_zyx,
            voxel_um=headers[0].voxel_um,
            rows=self.format[0],
            columns=self.format[1],
            hours=hours,
            fluorescence=sorted({name for header in headers for name in header.channels}) if lit else (),
        )
        if plate != self.plate:
            folder = str(self.settings.acquisitions.absolute())
            write_plate(plate, provenance={"folder": folder, "files": len(headers), "stitched": None})
            self.plate = plate

    def _move(self, sources: Sequence[Source]) -> None:
        """Forget frames whose file has another place now, because one came that its names put before it."""
        assert self.plate is not None
        places = {(source.path.name, source.part): source for source in sources}
        if self._places and all(_same_place(places.get(key), source) for key, source in self._places.items()):
            self._places = places
            return
        self._places = places
        for marker in progress_folder(self.plate.path).glob("*/[0-9]*_[0-9]*.json"):
            field, _, timepoint = marker.stem.partition("_")
            record = read_record(marker)
            recorded = record.get("fingerprint", {})
            source = places.get((recorded.get("name", ""), recorded.get("part", "")))
            if source is None or not timepoint.isdigit():
                continue  # archived elsewhere, or no record of a frame
            here = (marker.parent.name, int(field), int(timepoint))
            if here != (source.well, source.field, source.timepoint + int(record["frame"])):
                old = replace(source, well=here[0], field=here[1], timepoint=here[2])
                forget(Frames(self.plate, old, (0,)), 0)
                delete_images(Frames(self.plate, old, (0,)), 0)
                self._finished.pop(here, None)

    def _sort(self, accepted: Sequence[Opened]) -> None:
        """Say of every frame whether it is done, comes next, or is done again at the end."""
        assert self.plate is not None
        queue: list[Frame] = []
        done, later = set(), set()
        for known in accepted:
            source, state = known.source, (known.source.path, known.source.part, known.fingerprint)
            unit = Frames(self.plate, source, known.header.frames)
            reasons: dict[int, str | None] = {}
            for number in known.header.frames:
                place = (source.well, source.field, source.timepoint + number)
                if self._finished.get(place) == state:
                    reasons[number] = None
                    continue
                self._check_ours(unit, number)
                reasons[number] = why_convert(unit, number, fingerprint=known.fingerprint)
            # of a series that grew in its file, only the frames that are new are wanted now
            grown = "" in reasons.values() or set(known.earlier) < set(known.header.frames)
            for number, reason in reasons.items():
                place = (source.well, source.field, source.timepoint + number)
                if reason is None:
                    done.add(place)
                    self._finished[place] = state
                elif grown and reason.startswith("changed"):
                    done.add(place)
                    later.add(place)
                elif known.settled and (known.retry == math.inf or known.retry <= self.landing.clock()):
                    queue.append(known.frame(number))
        self.done, self.later = done, later
        self.queue = sorted(queue, key=lambda frame: (frame.acquired, frame.place), reverse=True)

    def _check_ours(self, unit: Frames, number: int) -> None:
        """A place of the plate belongs to one acquisition: another plate's files never overwrite it."""
        recorded = read_record(unit.marker(number)).get("fingerprint", {}).get("name", unit.source.path.name)
        if recorded != unit.source.path.name:
            raise StoreError(
                f"{unit.plate.path}: well {unit.source.well}, field {unit.source.field} was converted from "
                f"{recorded}, but {unit.source.path} is to be its acquisition now. Give another output, or remove "
                "the old plate."
            )

    def _note(self, frame: Frame, problem: str) -> None:
        known = self._files.of(frame.source)
        if problem:
            self._files.try_later(known)
            self._refused[frame.source.path] = problem
        else:
            known.retry, known.tries = math.inf, 0
            self._refused.pop(frame.source.path, None)
            self.done.add(frame.place)
            self._undigested[frame.source.path] = frame.source
            self._finished[frame.place] = (frame.source.path, frame.source.part, frame.fingerprint)

    def _list_waiting(self) -> None:
        """Files that are there and not in the plate, each with its reason."""
        reasons = {path: (one, SETTLING) for path, one in self.landing.unsettled().items()}
        for path, one in self.landing.temporary().items():
            reasons[path] = (one, "its name says that it is still being copied")
        landed = self.landing.landed()
        for path, why in self._refused.items():
            if path in landed:
                reasons[path] = (landed[path], why.removeprefix(f"{path}: "))
        by_time = sorted(reasons.items(), key=lambda item: item[1][0].since)
        self.waiting = [Waiting(path, one.at, why) for path, (one, why) in by_time]


def _same_place(one: Source | None, other: Source) -> bool:
    return one is None or (one.well, one.field, one.timepoint) == (other.well, other.field, other.timepoint)


def _geometry(shape_zyx: Sequence[int], voxel_um: Sequence[float]) -> str:
    shape = " x ".join(str(size) for size in shape_zyx)
    return f"{shape} voxels of {' x '.join(f'{round(step, _GEOMETRY_DIGITS):g}' for step in voxel_um)} um (z, y, x)"
