"""What one worker does with its units: read projections, classify them, write their region, map and record."""

import math
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from plates.errors import ClassifierError, SettingsError, StoreError, TomoscreenError
from plates.ingest.tables import DONE, MISSING
from plates.ingest.units import progress_folder
from plates.integrity import fingerprint_of, read_sealed
from plates.patches import Vote, class_map
from plates.patience import patiently, raise_if_of_storage
from plates.store import Plate, open_plate
from screening.behind import WriteBehind
from screening.regions import (
    MEANINGS,
    RUN,
    Record,
    note_failure,
    read_record,
    read_region,
    timepoint_of,
    withdraw,
    write_region,
)

Mode = Literal["exact", "dense"]
MODES: tuple[Mode, ...] = get_args(Mode)
"""How windows are shown to the network: each for itself, or the field at once (`models.dense`)."""


@dataclass(frozen=True)
class Job:
    """What every unit of one run has in common; small, for it travels with each task."""

    plate: str
    classifier: str
    weights_sha256: str
    device: str
    stride: int
    batch: int | None
    vote: Vote
    mode: Mode
    folder: str
    settings: str
    uncertain_below: float  # 0 where the classifier has no threshold of doubt


@dataclass(frozen=True)
class Unit:
    """A field of a well over a run of timepoints.

    `inputs` has what each timepoint's numbers depend on, `medium` the medium's index (NaN: never converted),
    `kept` the timepoints whose numbers stand already.
    """

    well: str
    field: int
    run: int
    inputs: tuple[str, ...]
    medium: tuple[float, ...]
    kept: tuple[int, ...] = ()

    @property
    def place(self) -> tuple[str, int, int]:
        """Well, field and number of the run."""
        return self.well, self.field, self.run

    @property
    def timepoints(self) -> range:
        """Timepoints of the run that the plate has."""
        return range(self.run * RUN, self.run * RUN + len(self.inputs))

    def __str__(self) -> str:
        return f"{self.well} field {self.field}"


@dataclass
class Done:
    """What a worker tells about a task: how long it took, and which timepoints failed."""

    frames: int = 0
    failures: list[str] = field(default_factory=list)
    worked_s: float = 0.0
    loading_s: float = 0.0
    writing_s: float = 0.0  # beside the network
    write_wait_s: float = 0.0  # in which the network waited for it
    timing: dict[str, float] = field(default_factory=dict)
    peak_bytes: int = 0
    host: str = ""
    device: str = ""


@dataclass
class _Found:
    """A unit's numbers as they come in."""

    values: dict[str, NDArray[np.float32]]
    status: dict[int, int]
    failures: dict[int, str] = field(default_factory=dict)
    earlier: Record | None = None
    maps: dict[str, list[Any]] = field(default_factory=dict)


def classify_units(job: Job, units: Sequence[Unit]) -> Done:
    """Classify the units of one task on this worker.

    A timepoint whose projection cannot be read fails for itself; the others of its unit are kept.

    Raises
    ------
    ClassifierError, SettingsError, OSError
        What no field can be blamed for: of storage, that it is full or away.
    """
    started = time.perf_counter()
    done = Done(host=socket.gethostname())
    try:
        _classify(job, units, done)
    except (ClassifierError, SettingsError):
        raise
    except (TomoscreenError, OSError) as error:
        raise_if_of_storage(error)
        if len(units) == 1:
            done.failures.append(f"{units[0]}: {error}")
            note_failure(Path(job.folder), units[0].place, str(error))
        else:  # one field must not cost its neighbours: each for itself
            done = _each_alone(job, units)
    done.worked_s = time.perf_counter() - started
    done.peak_bytes = peak_memory()
    return done


def _each_alone(job: Job, units: Sequence[Unit]) -> Done:
    from models.timing import Timing

    total, timing = Done(host=socket.gethostname()), Timing()
    for unit in units:
        part = classify_units(job, [unit])
        total.frames += part.frames
        total.failures += part.failures
        total.device = part.device
        total.writing_s += part.writing_s
        total.write_wait_s += part.write_wait_s
        total.loading_s += part.loading_s
        if part.timing:
            timing.add(Timing(**part.timing))  # type: ignore[arg-type]
    total.timing = timing.as_dict()
    return total


def _classify(job: Job, units: Sequence[Unit], done: Done) -> None:
    begun = time.perf_counter()
    from models.dense import classify_dense
    from models.inference import cached_classifier, classify_fields
    from models.timing import Timing

    plate = open_plate(Path(job.plate))
    classifier = cached_classifier(Path(job.classifier), device=job.device)
    done.loading_s = time.perf_counter() - begun  # of the library too, in a worker's first task
    done.device = str(classifier.device)
    if classifier.card.weights_sha256 != job.weights_sha256:
        raise ClassifierError(
            f"The classifier {job.classifier} was changed while the run was going: its weights are no longer "
            f"{job.weights_sha256[:12]}. Start the run again."
        )
    volumes = classifier.card.planes is not None
    asked: deque[tuple[int, int]] = deque()
    found: dict[int, _Found] = {}
    threshold = math.inf if classifier.outliers is None else float(classifier.outliers.threshold)

    def images() -> Iterator[tuple[NDArray[np.uint16], Any, float]]:
        # runs in the engine's reading thread, ahead of the answers
        for number, unit in enumerate(units):
            found[number] = _Found({}, {})
            for timepoint, medium in zip(unit.timepoints, unit.medium, strict=True):
                if timepoint in unit.kept:
                    continue
                try:
                    # a field without a known medium was never converted: what lies there is not its own; one whose
                    # file is gone although its record says that it was converted fails
                    if not math.isfinite(medium) or not _expected(plate, unit, timepoint):
                        found[number].status[timepoint] = MISSING
                        continue
                    read = plate.volume if volumes else plate.projection
                    counts = patiently(partial(read, unit.well, field=unit.field, timepoint=timepoint))
                except (TomoscreenError, OSError) as error:
                    raise_if_of_storage(error)
                    found[number].failures[timepoint] = str(error)
                    continue
                asked.append((number, timepoint))
                yield counts, plate.voxel_um if volumes else plate.voxel_um[1:], medium

    def write_map(unit: Unit, of_unit: _Found, timepoint: int, probability: NDArray[np.float32]) -> None:
        if not of_unit.maps:  # what vouches for the old maps goes first
            of_unit.earlier = withdraw(Path(job.folder), unit.place)
        classes = class_map(
            probability, shape=plate.shape_zyx[1:], voxel_um=plate.voxel_um[1:], stride=job.stride, vote=job.vote
        )
        plate.write_classes(unit.well, field=unit.field, timepoint=timepoint, classes=classes)
        of_unit.maps |= _vouched(plate, unit, timepoint)

    def finish(number: int) -> None:
        writer.call(partial(_write, job, units[number], found.pop(number), threshold=threshold, done=done))

    timing, current = Timing(), 0
    if job.mode == "dense":
        answers = classify_dense(classifier, images(), stride=job.stride, timing=timing)
    else:
        answers = classify_fields(classifier, images(), stride=job.stride, batch=job.batch, timing=timing)
    with WriteBehind() as writer:
        for answer in answers:
            number, timepoint = asked.popleft()
            while current < number:
                finish(current)
                current += 1
            unit, mine = units[number], found[number]
            for name in MEANINGS:
                value = getattr(answer, name)
                if name not in mine.values:
                    mine.values[name] = np.full((len(unit.inputs), *value.shape), np.nan, np.float32)
                mine.values[name][timepoint - unit.run * RUN] = value
            mine.status[timepoint] = DONE
            writer.call(write_map, unit, mine, timepoint, answer.probability)
        for number in range(current, len(units)):
            finish(number)
    done.writing_s += writer.writing_s
    done.write_wait_s += writer.waited_s
    done.timing = timing.as_dict()


def _write(job: Job, unit: Unit, found: _Found, *, threshold: float, done: Done) -> None:
    """Write a unit's region and record; timepoints that failed are left out of the record and done again."""
    folder = Path(job.folder)
    first = unit.run * RUN
    stored = read_region(folder, unit.place, timepoints=len(unit.inputs)) if unit.kept else {}
    earlier = found.earlier or read_record(folder, unit.place)
    if not found.values:  # nothing new to show: all missing, failed or kept
        found.values = stored or _empty(folder, unit)
    for timepoint in unit.kept:
        found.status[timepoint] = DONE
        for name, value in found.values.items():
            value[timepoint - first] = stored[name][timepoint - first]
    largest = found.values["probability"].max(axis=-1)
    called, scored = np.isfinite(largest), np.isfinite(found.values["outlier"])
    record = Record(
        classifier=job.weights_sha256,
        settings=job.settings,
        inputs={timepoint: unit.inputs[timepoint - first] for timepoint in found.status},
        status=found.status,
        called=int(called.sum()),
        uncertain=int((largest[called] < job.uncertain_below).sum()),
        scored=int(scored.sum()),
        unlike=int((found.values["outlier"][scored] > threshold).sum()),
        maps={**(_maps_of(earlier, unit.kept) if earlier else {}), **found.maps},
    )
    write_region(folder, unit.place, found.values, record)
    done.frames += len(found.status) - len(unit.kept)
    done.failures += [f"{unit} timepoint {timepoint}: {why}" for timepoint, why in found.failures.items()]
    note_failure(folder, unit.place, "\n".join(found.failures.values()))


def _expected(plate: Plate, unit: Unit, timepoint: int) -> bool:
    """Whether a field's images should be there: they are, or a record says that they were."""
    marker = progress_folder(plate.path) / unit.well / f"{unit.field}_{timepoint}.json"
    return marker.exists() or plate.has_field(unit.well, field=unit.field, timepoint=timepoint)


def _vouched(plate: Plate, unit: Unit, timepoint: int) -> dict[str, list[Any]]:
    """Sizes and CRC-32C of the map of states of a timepoint, by its files below the plate's folder."""
    files = plate.label_files(unit.well, field=unit.field, timepoint=timepoint)
    return {file.relative_to(plate.path.parent).as_posix(): fingerprint_of(file) for file in files}


def _maps_of(record: Record, timepoints: Sequence[int]) -> dict[str, list[Any]]:
    """Of the maps that a record vouches for, those of some timepoints."""
    return {name: vouched for name, vouched in record.maps.items() if timepoint_of(name) in timepoints}


def _empty(folder: Path, unit: Unit) -> dict[str, NDArray[np.float32]]:
    import zarr

    arrays: dict[str, Any] = {name: zarr.open_array(folder / "work.zarr" / name, mode="r") for name in MEANINGS}
    return {name: np.full((len(unit.inputs), *array.shape[3:]), np.nan, np.float32) for name, array in arrays.items()}


def describe_input(plate: Plate, well: str, *, field: int, timepoint: int, volumes: bool) -> list[Any]:
    """What stands for the content of a field at a timepoint: its files with their sizes and checksums.

    The checksums are those of the frame's record. A file that is younger than its record, or has none, is described
    by its time: the same images then give the same text wherever and whenever they were converted.
    """
    files: list[Any] = []
    marker = progress_folder(plate.path) / well / f"{field}_{timepoint}.json"
    try:
        checksums, recorded = dict(read_sealed(marker)["crc32c_of"]), marker.stat().st_mtime_ns
    except (OSError, StoreError, KeyError, TypeError):
        checksums, recorded = {}, 0
    for file in plate.field_files(well, field=field, timepoint=timepoint):
        if (plate.mip_path in file.parents) != volumes and file.exists():
            stat = file.stat()
            inside = file.is_relative_to(plate.path.parent)
            name = file.relative_to(plate.path.parent).as_posix() if inside else file.name
            vouched = checksums.get(name) if stat.st_mtime_ns <= recorded else None
            files.append([name, stat.st_size, vouched or stat.st_mtime_ns])
    return files


def peak_memory() -> int:
    """Most memory that this process has held, in bytes; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
