"""Dask maps inference over wells, fields and timepoints into one table of probabilities, resumable."""

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from plates.errors import UnfinishedError, WorkerLostError
from plates.files import write_text
from plates.ingest.tables import DONE, FAILED, MISSING, PENDING
from plates.mapping import map_units
from plates.patches import FOREGROUND_INDEX, FOREGROUND_SHARE, PATCH_PX, Vote, patch_centres
from plates.results import read_result, result_attributes, write_result
from plates.states import STATES
from plates.store import Plate, open_plate
from screening import regions
from screening.analysis.validation import record_of_card
from screening.fingerprints import digest, provenance
from screening.regions import RUN, Record, link_regions, prepare, read_record, work_folder
from screening.run_summary import RunSummary, Stopwatch
from screening.units import Done, Job, Mode, Unit, classify_units, describe_input

DENSE_FIELDS = 24
"""Fields on which dense mode is compared with exact windows."""

Progress = Callable[[int, int, str], None]

RULES = 3
"""Version of what a unit's numbers mean; raised when the same input would give other numbers."""

FRAMES_PER_TASK = (8, 64)
"""Fields and timepoints of one task: they share batches and read-ahead, and a lost worker loses no more."""


def classify_plate(
    path: Path,
    *,
    classifier: Path,
    stride: int = PATCH_PX,
    batch: int | None = None,
    vote: Vote = "mean",
    mode: Mode = "exact",
    device: str = "auto",
    client: Any = None,
    progress: Progress | None = None,
    only: Collection[tuple[str, int]] | None = None,
) -> RunSummary:
    """Classify every patch of a plate and keep the probabilities as its result `probabilities`.

    A unit is one field of one well over eight timepoints. Workers read projections (or, for a classifier of
    volumes, tomograms) and write what they found into the unit's own region, and the map of states beside the
    projection; nothing but paths and counts travels through the scheduler. A timepoint whose input, classifier
    and settings are the same as before is not done again.

    Parameters
    ----------
    path
        The plate's store of tomograms; projections are read from its sibling.
    classifier
        Folder of the classifier.
    stride
        Distance between windows, in pixels of 0.16 um; at most a patch.
    batch
        Patches classified together; by default what suits the device.
    vote
        How windows that overlap are united in the map of states: by the mean of their probabilities or by
        majority. The stored probabilities are those of each window.
    mode
        "exact" shows each window to the network for itself. "dense" shows it the field at once, which is faster
        where windows overlap, and is refused where it gives other numbers on this plate's own fields.
    device
        "auto", "cpu", "cuda", "cuda:1", "mps".
    client
        A Dask client of any cluster that sees the same files; None works in this process.
    progress
        Called with (timepoints of fields done, of all, what).
    only
        Wells and fields to look at, while acquisition goes on; the result is then left as it was.

    Returns
    -------
    RunSummary
        What was done and where the time went. The result itself, (well, field, timepoint, py, px, state) with
        NaN for background and for missing fields, is read with `plates.results.read_result`.

    Raises
    ------
    ClassifierError
        The classifier is missing or altered; nothing has been done then.
    SettingsError
        Dense mode is not the same as exact windows here.
    UnfinishedError
        Some fields failed; the others are kept.
    """
    from models.classifier import read_card, require_for_screening

    clock = Stopwatch()
    # workers may have another working directory
    path, classifier = path.resolve(), classifier.resolve()
    plate = open_plate(path)
    card = read_card(classifier)
    require_for_screening(card, path=classifier)
    folder = work_folder(plate.path)
    grid = _grid(plate, stride)
    prepare(folder, fields=plate.fields, timepoints=plate.timepoints, grid=(len(grid[0]), len(grid[1])))
    job = Job(
        plate=str(plate.path),
        classifier=str(classifier),
        weights_sha256=card.weights_sha256,
        device=device,
        stride=stride,
        batch=batch,
        vote=vote,
        mode=mode,
        folder=str(folder),
        settings=digest([RULES, stride, batch, vote, mode, card.temperature, FOREGROUND_INDEX, FOREGROUND_SHARE]),
        uncertain_below=float(card.uncertain["threshold"]) if card.uncertain else 0.0,
    )
    # read before the units run, so that a plate that changes meanwhile is done again next time
    medium = read_result(path, "fields")["medium_index"].transpose("well", "field", "timepoint")
    units = list(_units(plate, medium, volumes=card.planes is not None, only=only))
    waiting, reasons = _undone(job, units)
    summary = RunSummary(
        plate=plate.name,
        classifier=card.name,
        frames=sum(len(unit.inputs) for unit in units),
        skipped=sum(len(unit.inputs) for unit in units) - sum(len(unit.inputs) - len(unit.kept) for unit in waiting),
        reasons=dict(reasons),
        workers=1 if client is None else max(1, len(client.nthreads())),
    )
    if mode == "dense" and waiting:
        _check_dense(plate, classifier, units, job)
    report = progress or _silent
    report(summary.skipped, summary.frames, f"classifying {plate.name}")
    for done in _hand_out(job, waiting, client=client, workers=summary.workers):
        summary.add(done)
        report(min(summary.skipped + summary.tried, summary.frames), summary.frames, f"classifying {plate.name}")
    if only is None:
        _publish(plate, card, job, units, grid)
    summary.wall_s = clock.seconds()
    if waiting:
        write_text(folder / "last_run.json", json.dumps(summary.as_dict(), indent=1))
    if summary.failures:
        raise UnfinishedError(
            f"{plate.path.name}: {len(summary.failures)} of {summary.frames} timepoints of fields could not be "
            f"classified; the others are kept and will not be done again. Mend these and run again: "
            + "; ".join(summary.failures[:5])
        )
    return summary


def _check_dense(plate: Plate, classifier: Path, units: Sequence[Unit], job: Job) -> None:
    """Compare both modes on fields spread over the plate; raises where they differ."""
    from models.dense import check_dense
    from models.inference import cached_classifier

    loaded = cached_classifier(classifier, device=job.device)
    places = [
        (unit, timepoint, medium)
        for unit in units
        for timepoint, medium in zip(unit.timepoints, unit.medium, strict=True)
        if math.isfinite(medium) and plate.has_field(unit.well, field=unit.field, timepoint=timepoint)
    ]
    chosen = [places[number] for number in np.linspace(0, len(places) - 1, min(len(places), DENSE_FIELDS)).astype(int)]
    volumes = loaded.card.planes is not None
    read = plate.volume if volumes else plate.projection
    voxel_um = plate.voxel_um if volumes else plate.voxel_um[1:]
    images = (
        (read(unit.well, field=unit.field, timepoint=timepoint), voxel_um, medium) for unit, timepoint, medium in chosen
    )
    check_dense(loaded, images, stride=job.stride, batch=job.batch)


def _units(
    plate: Plate, medium: xr.DataArray, *, volumes: bool, only: Collection[tuple[str, int]] | None
) -> Iterator[Unit]:
    indices = medium.sel(well=list(plate.wells)).to_numpy()
    for number, well in enumerate(plate.wells):
        for field in range(plate.fields):
            if only is not None and (well, field) not in only:
                continue
            for run in range(math.ceil(plate.timepoints / RUN)):
                timepoints = range(run * RUN, min((run + 1) * RUN, plate.timepoints))
                values = tuple(float(indices[number, field, timepoint]) for timepoint in timepoints)
                inputs = tuple(
                    # repr, for the index of a field that was never converted is NaN
                    digest([describe_input(plate, well, field=field, timepoint=t, volumes=volumes), repr(value)])
                    for t, value in zip(timepoints, values, strict=True)
                )
                yield Unit(well, field, run, inputs, values)


def _undone(job: Job, units: Sequence[Unit]) -> tuple[list[Unit], Counter[str]]:
    """Units with something to do, each with the timepoints whose numbers stand; and why others are done again."""
    waiting, reasons = [], Counter[str]()
    for unit in units:
        record = read_record(Path(job.folder), unit.place)
        current, kept = _standing(job, unit, record)
        if len(current) == len(unit.inputs):
            continue
        if record is not None:
            reasons.update(_why(job, unit, record))
        waiting.append(replace(unit, kept=kept))
    return waiting, reasons


def _standing(job: Job, unit: Unit, record: Record | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Timepoints that are as they should be; and, of these, those that hold numbers."""
    if record is None or (record.classifier, record.settings) != (job.weights_sha256, job.settings):
        return (), ()
    current = tuple(t for t, value in zip(unit.timepoints, unit.inputs, strict=True) if record.inputs.get(t) == value)
    return current, tuple(t for t in current if record.status.get(t) == DONE)


def _why(job: Job, unit: Unit, record: Record) -> Iterator[str]:
    for timepoint, value in zip(unit.timepoints, unit.inputs, strict=True):
        if timepoint not in record.inputs:
            continue  # never done
        if record.classifier != job.weights_sha256:
            yield "another classifier"
        elif record.settings != job.settings:
            yield "other settings or version"
        elif record.inputs[timepoint] != value:
            yield "its images changed"


def _hand_out(job: Job, units: Sequence[Unit], *, client: Any, workers: int) -> Iterator[Done]:
    """Run all units in tasks of several; a unit that ends its workers is found and set aside."""
    alone: list[Unit] = []
    places = [Path(job.plate), Path(job.classifier)]
    tasks = [(job, task) for task in _tasks(units, workers)]
    for (_, task), outcome in map_units(classify_units, tasks, client=client, places=places):
        if isinstance(outcome, WorkerLostError) and len(task) > 1:
            alone += task
        else:
            yield _told(outcome, task)
    # which of them it was shows when each runs for itself
    for (_, task), outcome in map_units(
        classify_units, [(job, [unit]) for unit in alone], client=client, places=places
    ):
        yield _told(outcome, task)


def _told(outcome: Any, task: Sequence[Unit]) -> Done:
    if isinstance(outcome, WorkerLostError):
        return Done(failures=[f"{unit}: {outcome}" for unit in task])
    if isinstance(outcome, Exception):
        raise outcome  # what no field can be blamed for: a missing classifier, a fault of ours
    done: Done = outcome
    return done


def _tasks(units: Sequence[Unit], workers: int) -> Iterator[list[Unit]]:
    least, most = FRAMES_PER_TASK
    total = sum(len(unit.inputs) - len(unit.kept) for unit in units)
    size = min(max(total // (8 * workers), least), most)
    task: list[Unit] = []
    held = 0
    for unit in units:
        task.append(unit)
        held += len(unit.inputs) - len(unit.kept)
        if held >= size:
            yield task
            task, held = [], 0
    if task:
        yield task


def _grid(plate: Plate, stride: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return patch_centres(plate.shape_zyx[1:], voxel_um=plate.voxel_um[1:], stride=stride)


def _silent(done: int, total: int, text: str) -> None:
    """Progress that nobody watches."""


def _publish(
    plate: Plate,
    card: Any,
    job: Job,
    units: Sequence[Unit],
    grid: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> None:
    """Make the finished units the plate's result, unless that is what it is already."""
    folder = Path(job.folder)
    status = np.full((len(plate.wells), plate.fields, plate.timepoints), FAILED, np.int8)
    number = {well: place for place, well in enumerate(plate.wells)}
    finished: list[tuple[str, int, int]] = []
    records: dict[str, list[Record]] = {}
    for unit in units:
        record = read_record(folder, unit.place)
        current, _ = _standing(job, unit, record)
        if record is None or not current:
            continue
        for timepoint in current:
            status[number[unit.well], unit.field, timepoint] = record.status[timepoint]
        finished.append(unit.place)
        records.setdefault(unit.well, []).append(record)
    validation = record_of_card(card)
    made_from = [job.settings, job.weights_sha256, validation, [unit.inputs for unit in units], status.tolist()]
    fingerprint = digest(made_from)
    stored = json.loads(result_attributes(plate.path, "probabilities").get("provenance", "{}"))
    if stored.get("fingerprint") == fingerprint:
        return
    result = xr.Dataset(
        {
            "status": (
                ("well", "field", "timepoint"),
                status,
                {"flag_values": [PENDING, DONE, FAILED, MISSING], "flag_meanings": "pending done failed missing"},
            )
        },
        coords={
            "well": np.array(plate.wells, dtype=object),
            "field": np.arange(plate.fields),
            "timepoint": np.arange(plate.timepoints),
            "state": np.array(STATES, dtype=object),
            "hours": ("timepoint", np.array(plate.hours, dtype=np.float64), {"units": "h"}),
            "py_um": ("py", grid[0], {"units": "um"}),
            "px_um": ("px", grid[1], {"units": "um"}),
        },
        attrs={
            "classifier": card.name,
            "classifier_sha256": card.weights_sha256,
            "calibration": card.calibration,
            "temperature": card.temperature,
            "trained_on": card.trained_on,
            "architecture": card.architecture,
            **({} if card.planes is None else {"planes": card.planes}),
            "patch_px": card.patch_px,
            "patch_um": card.patch_px * card.um_per_px,
            "um_per_px": card.um_per_px,
            "resampled_from_um": list(plate.voxel_um[1:]),
            "stride_px": job.stride,
            "vote": job.vote,
            "mode": job.mode,
            "validation": json.dumps(validation),
            "foreground_index": FOREGROUND_INDEX,
            "foreground_share": FOREGROUND_SHARE,
            **_doubts(card, job, records),
        },
    )

    def add(group: Path) -> None:
        regions.create(group, shape=status.shape, grid=(len(grid[0]), len(grid[1])))
        link_regions(folder, group, wells=plate.wells, places=finished)

    write_result(plate.path, "probabilities", result, provenance=provenance("classify", fingerprint), add=add)


def _doubts(card: Any, job: Job, records: dict[str, list[Record]]) -> dict[str, Any]:
    """What the classifier itself says against its numbers: patches unlike its training, patches uncertain."""
    from models.inference import cached_classifier
    from models.outliers import judge_outliers

    doubts: dict[str, Any] = {}
    everything = [record for of_well in records.values() for record in of_well]
    called = sum(record.called for record in everything)
    if card.uncertain and called:
        doubts |= {
            "uncertain_below": job.uncertain_below,
            "uncertain_share": sum(record.uncertain for record in everything) / called,
            "uncertain_expected": 1 - float(card.uncertain["coverage"]),
        }
    scored = np.array([sum(record.scored for record in of_well) for of_well in records.values()], dtype=int)
    unlike = np.array([sum(record.unlike for record in of_well) for of_well in records.values()], dtype=int)
    outliers = cached_classifier(Path(job.classifier), device="cpu").outliers if scored.any() else None
    if outliers is not None:
        # as many scores above the threshold as each well has, and none at it
        threshold = float(outliers.threshold)
        above = np.concatenate([np.arange(n) < high for n, high in zip(scored, unlike, strict=True)])
        verdict = judge_outliers(
            np.where(above, np.inf, -np.inf), groups=np.repeat(np.arange(len(scored)), scored), threshold=threshold
        )
        doubts |= {
            "outlier_threshold": verdict["threshold"],
            "outlier_share": verdict["share_above"],
            "outlier_flagged": int(verdict["flagged"]),
            "outlier_text": verdict["text"],
        }
    return doubts
