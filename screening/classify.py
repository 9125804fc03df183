"""Dask maps inference over wells and fields into one table of probabilities, resumable."""

import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from plates.errors import ClassifierError, SettingsError, TomoscreenError, UnfinishedError, WorkerLostError
from plates.files import write_durable
from plates.ingest.tables import DONE, FAILED, MISSING, PENDING
from plates.ingest.units import progress_folder
from plates.mapping import map_units
from plates.patches import FOREGROUND_INDEX, FOREGROUND_SHARE, PATCH_PX, class_map, patch_centres
from plates.results import read_result, write_result
from plates.states import STATES
from plates.store import Plate, open_plate
from screening.fingerprints import current_result, digest, provenance

Progress = Callable[[int, int, str], None]

RULES = 2
"""Version of what a unit's numbers mean; raised when the same input would give other numbers."""

UNITS_PER_TASK = 8  # a field takes a fraction of a second; fields of one task share batches and read-ahead


@dataclass(frozen=True)
class _Job:
    """What every task of one run has in common; small, for it travels with each of them."""

    plate: str
    classifier: str
    weights_sha256: str
    device: str
    stride: int
    batch: int | None
    progress: str


@dataclass(frozen=True)
class _Unit:
    """One field of one well: the medium's index at each timepoint, and what its numbers depend on."""

    well: str
    field: int
    medium: tuple[float, ...]
    fingerprint: str


def classify_plate(
    path: Path,
    *,
    classifier: Path,
    stride: int = PATCH_PX,
    batch: int | None = None,
    device: str = "auto",
    client: Any = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Classify every patch of a plate and keep the probabilities as its result `probabilities`.

    A unit is one field of one well with all its timepoints. Workers read projections and write what they
    found to a file of the unit's own, and the map of states beside the projection; nothing but paths and
    counts travels through the scheduler. A unit whose projections, classifier and settings are the same as
    before is not done again.

    Parameters
    ----------
    path
        The plate's store of tomograms; projections are read from its sibling.
    classifier
        Folder of the classifier.
    stride
        Distance between windows, in pixels of 0.16 um; at most a patch.
    client
        A Dask client of any cluster that sees the same files; None works in this process.

    Returns
    -------
    xr.Dataset
        (well, field, timepoint, py, px, state); NaN for background and for missing fields.

    Raises
    ------
    ClassifierError
        The classifier is missing or altered; nothing has been done then.
    UnfinishedError
        Some units failed; the others are kept.
    """
    from models.classifier import read_card, require_for_screening

    # workers may have another working directory
    path, classifier = path.resolve(), classifier.resolve()
    plate = open_plate(path)
    card = read_card(classifier)
    require_for_screening(card, path=classifier)
    folder = progress_folder(plate.path) / "probabilities"
    folder.mkdir(parents=True, exist_ok=True)
    # read before the units run, so that a plate that changes meanwhile is done again next time
    medium = read_result(path, "fields")["medium_index"]
    job = _Job(
        plate=str(plate.path),
        classifier=str(classifier),
        weights_sha256=card.weights_sha256,
        device=device,
        stride=stride,
        batch=batch,
        progress=str(folder),
    )
    units = [_unit(plate, well, field, job, medium) for well in plate.wells for field in range(plate.fields)]
    waiting = [unit for unit in units if _stored_fingerprint(_file(folder, unit)) != unit.fingerprint]
    tasks = [waiting[start : start + UNITS_PER_TASK] for start in range(0, len(waiting), UNITS_PER_TASK)]
    done, failures = len(units) - len(waiting), []
    report = progress or _silent
    report(done, len(units), f"classifying {plate.name}")
    for (_, task), outcome in map_units(classify_units, [(job, task) for task in tasks], client=client):
        if isinstance(outcome, Exception):
            if not isinstance(outcome, WorkerLostError):
                raise outcome  # what no field can be blamed for: a missing classifier, a fault of ours
            failures += [f"{unit.well} field {unit.field}: {outcome}" for unit in task]
        else:
            failures += outcome
        done += len(task)
        report(done, len(units), f"classifying {plate.name}")
    fingerprint = digest([unit.fingerprint for unit in units])
    stored = None if waiting else current_result(path, "probabilities", fingerprint=fingerprint)
    if stored is not None:
        return stored
    result = _assemble(plate, card, job, folder, units)
    write_result(path, "probabilities", result, provenance=provenance("classify", fingerprint))
    if failures:
        raise UnfinishedError(
            f"{plate.path.name}: {len(failures)} of {len(units)} fields could not be classified; the others "
            f"are kept and will not be done again. Mend these and run again: " + "; ".join(failures[:5])
        )
    return result


def classify_units(job: _Job, units: Sequence[_Unit]) -> list[str]:
    """Classify the fields of one task on this worker; return a sentence for each that failed."""
    try:
        _classify(job, units)
        return []
    except (ClassifierError, SettingsError):
        raise  # no field's fault
    except (TomoscreenError, OSError) as error:
        if len(units) == 1:
            return [f"{units[0].well} field {units[0].field}: {error}"]
    # one damaged field must not cost its neighbours: each for itself
    return [failure for unit in units for failure in classify_units(job, [unit])]


def _classify(job: _Job, units: Sequence[_Unit]) -> None:
    from models.inference import cached_classifier, classify_projections

    plate = open_plate(Path(job.plate))
    classifier = cached_classifier(Path(job.classifier), device=job.device)
    if classifier.card.weights_sha256 != job.weights_sha256:
        raise ClassifierError(
            f"The classifier {job.classifier} was changed while the run was going: its weights are no longer "
            f"{job.weights_sha256[:12]}. Start the run again."
        )
    # a field without a known medium was never converted, or its file is gone: what lies there is not its own
    present = [
        [
            t
            for t in range(plate.timepoints)
            if math.isfinite(unit.medium[t]) and plate.has_field(unit.well, field=unit.field, timepoint=t)
        ]
        for unit in units
    ]

    def projections() -> Iterator[tuple[NDArray[np.uint16], tuple[float, float], float]]:
        for unit, timepoints in zip(units, present, strict=True):
            for timepoint in timepoints:
                counts = plate.projection(unit.well, field=unit.field, timepoint=timepoint)
                yield counts, plate.voxel_um[1:], unit.medium[timepoint]

    answers = classify_projections(classifier, projections(), stride=job.stride, batch=job.batch)
    rows, columns = _grid(plate, job.stride)
    for unit, timepoints in zip(units, present, strict=True):
        probability = np.full((plate.timepoints, len(rows), len(columns), len(STATES)), np.nan, np.float32)
        foreground = np.full(probability.shape[:3], np.nan, np.float32)
        outlier = np.full(probability.shape[:3], np.nan, np.float32)
        status = np.full(plate.timepoints, MISSING, np.int8)
        for timepoint in timepoints:
            answer = next(answers)
            probability[timepoint], foreground[timepoint] = answer.probability, answer.foreground
            outlier[timepoint] = answer.outlier
            status[timepoint] = DONE
            classes = class_map(
                answer.probability, shape=plate.shape_zyx[1:], voxel_um=plate.voxel_um[1:], stride=job.stride
            )
            plate.write_classes(unit.well, field=unit.field, timepoint=timepoint, classes=classes)
        _write_unit(
            Path(job.progress), unit, probability=probability, foreground=foreground, outlier=outlier, status=status
        )


def _grid(plate: Plate, stride: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return patch_centres(plate.shape_zyx[1:], voxel_um=plate.voxel_um[1:], stride=stride)


def _silent(done: int, total: int, text: str) -> None:
    """Progress that nobody watches."""


def _file(folder: Path, unit: _Unit) -> Path:
    return folder / f"{unit.well}_{unit.field}.npz"


def _unit(plate: Plate, well: str, field: int, job: _Job, medium: xr.DataArray) -> _Unit:
    """A unit with its fingerprint; the projections' sizes and times stand for their content."""
    indices = tuple(float(value) for value in medium.sel(well=well, field=field))
    files = []
    for timepoint in range(plate.timepoints):
        for file in plate.field_files(well, field=field, timepoint=timepoint):
            if plate.mip_path in file.parents and file.exists():
                stat = file.stat()
                files.append([file.relative_to(plate.mip_path).as_posix(), stat.st_size, stat.st_mtime_ns])
    settings = [job.weights_sha256, job.stride, job.batch, FOREGROUND_INDEX, FOREGROUND_SHARE]
    # repr, for the index of a field that was never converted is NaN
    return _Unit(well, field, indices, digest([RULES, settings, files, repr(indices)]))


def _write_unit(
    folder: Path,
    unit: _Unit,
    *,
    probability: NDArray[np.float32],
    foreground: NDArray[np.float32],
    outlier: NDArray[np.float32],
    status: NDArray[np.int8],
) -> None:
    """One file holds the numbers and what they were made from: it is there whole, or not at all."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        fingerprint=np.array(unit.fingerprint),
        probability=probability,
        foreground=foreground,
        outlier=outlier,
        status=status,
    )
    write_durable(_file(folder, unit), buffer.getvalue())


def _stored_fingerprint(path: Path) -> str | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return str(stored["fingerprint"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None  # absent or damaged: done again


def _assemble(plate: Plate, card: Any, job: _Job, folder: Path, units: Sequence[_Unit]) -> xr.Dataset:
    rows, columns = _grid(plate, job.stride)
    shape = (len(plate.wells), plate.fields, plate.timepoints, len(rows), len(columns))
    probability = np.full((*shape, len(STATES)), np.nan, np.float32)
    foreground = np.full(shape, np.nan, np.float32)
    outlier = np.full(shape, np.nan, np.float32)
    status = np.full(shape[:3], FAILED, np.int8)
    for unit in units:
        if _stored_fingerprint(_file(folder, unit)) != unit.fingerprint:
            continue
        place = plate.wells.index(unit.well), unit.field
        with np.load(_file(folder, unit), allow_pickle=False) as stored:
            probability[place] = stored["probability"]
            foreground[place] = stored["foreground"]
            outlier[place] = stored["outlier"]
            status[place] = stored["status"]
    dims = ("well", "field", "timepoint", "py", "px")
    return xr.Dataset(
        {
            "probability": (
                (*dims, "state"),
                probability,
                {"long_name": "calibrated probability of the state"},
            ),
            "foreground": (
                dims,
                foreground,
                {"long_name": "share of the patch's pixels that belong to cells"},
            ),
            "outlier": (
                dims,
                outlier,
                {"long_name": "distance from what the classifier was trained on; NaN where it knows none"},
            ),
            "status": (
                dims[:3],
                status,
                {"flag_values": [PENDING, DONE, FAILED, MISSING], "flag_meanings": "pending done failed missing"},
            ),
        },
        coords={
            "well": np.array(plate.wells, dtype=object),
            "field": np.arange(plate.fields),
            "timepoint": np.arange(plate.timepoints),
            "state": np.array(STATES, dtype=object),
            "hours": ("timepoint", np.array(plate.hours, dtype=np.float64), {"units": "h"}),
            "py_um": ("py", rows, {"units": "um"}),
            "px_um": ("px", columns, {"units": "um"}),
        },
        attrs={
            "classifier": card.name,
            "classifier_sha256": card.weights_sha256,
            "calibration": card.calibration,
            "temperature": card.temperature,
            "trained_on": card.trained_on,
            "patch_px": card.patch_px,
            "patch_um": card.patch_px * card.um_per_px,
            "um_per_px": card.um_per_px,
            "resampled_from_um": list(plate.voxel_um[1:]),
            "stride_px": job.stride,
            "foreground_index": FOREGROUND_INDEX,
            "foreground_share": FOREGROUND_SHARE,
            **_doubts(plate, card, job, probability, outlier),
        },
    )


def _doubts(
    plate: Plate, card: Any, job: _Job, probability: NDArray[np.float32], outlier: NDArray[np.float32]
) -> dict[str, Any]:
    """What the classifier itself says against its numbers: patches unlike its training, patches uncertain."""
    from models.inference import cached_classifier
    from models.outliers import judge_outliers

    doubts: dict[str, Any] = {}
    called = np.isfinite(probability[..., 0])
    if card.uncertain and called.any():
        threshold = float(card.uncertain["threshold"])
        share = float((probability[called].max(axis=-1) < threshold).mean())
        doubts |= {
            "uncertain_below": threshold,
            "uncertain_share": share,
            "uncertain_expected": 1 - float(card.uncertain["coverage"]),
        }
    scored = np.isfinite(outlier)
    outliers = cached_classifier(Path(job.classifier), device="cpu").outliers if scored.any() else None
    if outliers is not None:
        wells = np.broadcast_to(np.array(plate.wells)[:, None, None, None, None], outlier.shape)
        verdict = judge_outliers(outlier[scored], groups=wells[scored], threshold=float(outliers.threshold))
        doubts |= {
            "outlier_threshold": verdict["threshold"],
            "outlier_share": verdict["share_above"],
            "outlier_flagged": int(verdict["flagged"]),
            "outlier_text": verdict["text"],
        }
    return doubts
