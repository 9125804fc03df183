"""Acquisitions into the plate store: checked as a whole, then converted frame by frame, resumable."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..creation import design_plate, write_plate
from ..errors import AcquisitionError, MissingInputError, StoreError, UnfinishedError, WorkerLostError
from ..files import is_remote, location
from ..integrity import read_sealed, write_sealed
from ..mapping import map_units
from ..metadata import KEY
from ..morphology import medium_drift
from ..ngff import well_position
from ..results import has_result, read_result, write_result
from ..store import Elsewhere, Plate
from .estimate import Estimate, estimate, refuse_if_too_large
from .manifest import Source
from .names import FileFormat, discover
from .survey import (
    Header,
    check_overlap,
    check_uniform,
    check_wells,
    nominal_hours,
    plate_format,
    read_headers,
)
from .tables import fields_table, registration_table, seams_table, sources_table, with_earlier
from .units import (
    SETTINGS,
    Digest,
    Frames,
    delete_images,
    forget,
    has_digest,
    progress_folder,
    read_record,
    record_failure,
    recorded_frames,
    source_fingerprint,
    told,
    why_convert,
    work_on,
)
from .wide_fields import join_tiles

if TYPE_CHECKING:
    import xarray as xr

    from ..layout import PlateMap

Fluorescence = Literal["registered", "metadata", "none"]
Progress = Callable[[int, int, str], None]

# A unit of work is at most so many frames of one file: opening a long time lapse costs as much as a frame.
_FRAMES_A_UNIT = 8
_UNITS_A_WORKER = 4
_LISTED_FAILURES = 20


@dataclass(frozen=True)
class Summary:
    """What one run of `ingest` did.

    Attributes
    ----------
    converted, skipped
        Tomograms converted now, and tomograms found done.
    failed
        File, and frame where only that failed -> why it could not be converted.
    failed_files
        How many files these are.
    recomputed
        File converted again -> why.
    """

    converted: int = 0
    skipped: int = 0
    failed: Mapping[str, str] = field(default_factory=dict)
    failed_files: int = 0
    recomputed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reading:
    """How a folder of acquisitions is to be read, where it does not say itself.

    Attributes
    ----------
    manifest
        CSV that places files (path, well, field, timepoint) whose names do not.
    file_format
        Use only files of this format, where acquisitions lie there in several.
    acquisition, channel
        Of an OME-Zarr plate: number of the run to take; channel that holds the refractive index.
    fluorescence
        Whether it is registered on the tomogram, placed by the metadata alone, or left out.
    stitch
        Whether positions of a well that overlap are tiles of one wide field.
    in_place
        Whether the tomograms of an OME-Zarr plate stay where they are.
    """

    manifest: Path | None = None
    file_format: FileFormat | None = None
    acquisition: int | None = None
    channel: str | None = None
    fluorescence: Fluorescence = "registered"
    stitch: bool = False
    in_place: bool = False


@dataclass(frozen=True)
class Plan:
    """What `ingest` would do, settled before anything is written.

    Attributes
    ----------
    sources, headers
        The files and what their headers say.
    wells
        Wells imaged.
    rows, columns
        Format of the plate.
    timepoints, fields
        Of the plate.
    """

    sources: Sequence[Source]
    headers: Sequence[Header]
    wells: Sequence[str]
    rows: int
    columns: int
    fields: int
    timepoints: int

    @property
    def readable(self) -> list[Header]:
        """Headers of the files that can be read."""
        return [header for header in self.headers if not header.problem]


_PLAIN = Reading()


def ingest(
    folder: Path,
    *,
    out: Path | str,
    plate_map: PlateMap | None = None,
    reading: Reading = _PLAIN,
    name: str | None = None,
    client: Any = None,
    threads: int = 1,
    progress: Progress | None = None,
    allow_unmatched: bool = False,
    before_writing: Callable[[], object] | None = None,
) -> Plate:
    """Convert a folder of acquisitions into a plate; what is done already is not done again.

    Everything that headers and names tell is checked before anything is written. Each frame is then converted on
    its own: one that fails is recorded and the others go on. A file that changed since it was converted is
    converted again. A plate that is there grows by wells, fields and timepoints that are new. At the end the results
    `fields` (statistics of every field), `sources` (the files and their SHA-256) and `layout` (the plate map) are
    written. `last_summary` tells what was done.

    Memory does not grow with the plate: a worker holds one slab of one tomogram and its projections.

    Parameters
    ----------
    folder
        Acquisitions, searched with all folders below; or one OME-Zarr plate.
    out
        The plate to make or to continue, such as ``P012.zarr`` or ``s3://bucket/P012.zarr``.
    plate_map
        What is in each well.
    reading
        How the folder is to be read.
    name
        Name of the plate; by default that of `out`.
    client
        A ``distributed.Client``; without one, the work is done in this process.
    threads
        Frames under way at a time in this process.
    progress
        Called with tomograms done, tomograms in all and a word on the last one.
    allow_unmatched
        Whether wells may be imaged without being in the plate map, or the reverse.
    before_writing
        Called once all checks are passed, before the first byte is written.

    Raises
    ------
    MissingInputError, AcquisitionError
        No acquisitions; names without wells; two files for one place; mixed voxel sizes or shapes; no file
        readable at all.
    PlateMapError
        The wells imaged are not those of the plate map.
    StoreError
        Tomograms of another kind, or other acquisitions of the same wells, are at `out`.
    NoSpaceError
        The disk is too small for what is to be written.
    UnfinishedError
        Some files could not be converted; all others are.
    """
    # workers may have another working directory
    folder, out = Path(folder).absolute(), location(out)
    out = out if is_remote(out) else out.absolute()
    plan = survey(folder, out=out, reading=reading, plate_map=plate_map, allow_unmatched=allow_unmatched)
    plate = _design(plan, out=out, name=name, reading=reading)
    work = _Work(plate, plan.headers)
    refuse_if_too_large(_estimate(plan, plate, work), out=out)
    # nothing was written until here
    if before_writing is not None:
        before_writing()
    stitched = _canvas(plan) if reading.stitch else None
    write_plate(plate, provenance={"folder": str(folder), "files": len(plan.headers), "stitched": stitched})
    summary = work.run(client=client, threads=threads, progress=progress)
    _write_results(plate, plan.headers, plate_map=plate_map)
    write_sealed(progress_folder(plate.path) / "summary.json", asdict(summary))
    if summary.failed:
        listed = "\n".join(f"  {reason}" for reason in islice(summary.failed.values(), _LISTED_FAILURES))
        raise UnfinishedError(
            f"{plate.path}: {summary.failed_files} of {len(plan.headers)} files were not converted as a whole; what "
            f"was, will not be again. Replace these and run again:\n{listed}"
        )
    return plate


def survey(
    folder: Path,
    *,
    out: Path | None = None,
    reading: Reading = _PLAIN,
    plate_map: PlateMap | None = None,
    allow_unmatched: bool = False,
) -> Plan:
    """Find the acquisitions of a folder and check all that names and headers tell. Raises as `ingest`.

    Wide fields take the canvas of the plate at `out`, where it has one.
    """
    sources = discover(
        folder, manifest=reading.manifest, file_format=reading.file_format, acquisition=reading.acquisition
    )
    sources = [replace(source, channel=reading.channel, fluorescence=reading.fluorescence) for source in sources]
    if plate_map is not None and not allow_unmatched:
        check_wells(sources, plate_map)
    headers = read_headers(sources)
    readable = [header for header in headers if not header.problem]
    if not readable:
        raise AcquisitionError(f"none of {len(headers)} files can be read; the first: {headers[0].problem}")
    check_uniform(readable)
    check_overlap(headers)
    if reading.stitch:
        headers = join_tiles(headers, **(_known_canvas(out) if out is not None else {}))
    wells = sorted({header.source.well for header in headers}, key=well_position)
    rows, columns = (plate_map.rows, plate_map.columns) if plate_map is not None else plate_format(wells)
    return Plan(
        sources=sources,
        headers=headers,
        wells=wells,
        rows=rows,
        columns=columns,
        fields=max(header.source.field for header in headers) + 1,
        timepoints=max(header.source.timepoint + header.planned for header in headers),
    )


def preview(
    folder: Path,
    *,
    out: Path | str,
    plate_map: PlateMap | None = None,
    reading: Reading = _PLAIN,
    allow_unmatched: bool = False,
) -> tuple[Plan, Estimate]:
    """What `ingest` would convert, and what time and room that takes; nothing is written. Raises as `ingest`."""
    folder, out = Path(folder).absolute(), location(out)
    plan = survey(folder, out=out, reading=reading, plate_map=plate_map, allow_unmatched=allow_unmatched)
    plate = _design(plan, out=out, name=None, reading=reading)
    return plan, _estimate(plan, plate, _Work(plate, plan.headers))


def last_summary(plate_path: Path) -> Summary:
    """What the last run of `ingest` on a plate did."""
    file = progress_folder(location(plate_path)) / "summary.json"
    try:
        return Summary(**read_sealed(file))
    except (FileNotFoundError, ValueError, TypeError):
        raise MissingInputError(
            f"{plate_path}: no conversion was finished here. Run `tomoscreen ingest` first."
        ) from None


def _design(plan: Plan, *, out: Path, name: str | None, reading: Reading) -> Plate:
    elsewhere = _elsewhere(plan, out=out, reading=reading) if reading.in_place else None
    return design_plate(
        out,
        name=name or out.stem,
        wells=plan.wells,
        fields=plan.fields,
        timepoints=plan.timepoints,
        shape_zyx=plan.readable[0].shape_zyx,
        voxel_um=plan.readable[0].voxel_um,
        rows=plan.rows,
        columns=plan.columns,
        hours=nominal_hours(plan.headers, timepoints=plan.timepoints),
        fluorescence=_channels(plan) if reading.fluorescence != "none" else (),
        elsewhere=elsewhere,
    )


def _known_canvas(out: Path) -> dict[str, Any]:
    """Canvas of the wide fields of a plate that is there; empty where there is none."""
    root = out / "zarr.json"
    if not root.exists():
        return {}
    attributes = read_record(root).get("attributes", {})
    canvas = attributes.get(KEY, {}).get("provenance", {}).get("stitched")
    if not canvas:
        return {}
    from ..stitching import StageConvention

    stage = StageConvention(**canvas["stage"]) if canvas["stage"] else None
    return {"shape_zyx": tuple(canvas["shape_zyx"]), "stage": stage}


def _canvas(plan: Plan) -> dict[str, Any]:
    first = plan.readable[0]
    return {
        "shape_zyx": list(first.shape_zyx),
        "stage": asdict(first.source.tiles.stage) if first.source.tiles is not None else None,
    }


def _estimate(plan: Plan, plate: Plate, work: _Work) -> Estimate:
    return estimate(plan.readable, plate=plate, tomograms=sum(len(unit.numbers) for unit in work.todo))


def _channels(plan: Plan) -> list[str]:
    """Names of all fluorescence channels, in their order."""
    return sorted({channel for header in plan.readable for channel in header.channels})


def _elsewhere(plan: Plan, *, out: Path, reading: Reading) -> Elsewhere:
    """The one plate whose tomograms are to stay where they are."""
    plates = {header.source.path for header in plan.headers}
    if len(plates) > 1 or not all(header.source.part for header in plan.headers):
        raise AcquisitionError(
            f"{next(iter(plates))}: tomograms can only be used in place where all are of one OME-Zarr plate; these are "
            f"{len(plates)} files or folders. Convert them instead."
        )
    (path,) = plates
    if out.resolve() == path.resolve():
        raise StoreError(f"{out}: the plate is read, never written into. Give another output.")
    sources = [header.source for header in plan.headers]
    images = sorted((source.well, source.field, source.timepoint, source.part) for source in sources)
    return Elsewhere(path=str(path), channel=reading.channel, images=tuple(images))


class _Work:
    """Which frames are done, which are to be done and which cannot be."""

    def __init__(self, plate: Plate, headers: Sequence[Header]) -> None:
        self.plate = plate
        self.failed: dict[str, str] = {}
        self.recomputed: dict[str, str] = {}
        self.todo: list[Frames] = []
        self.digests: list[Digest] = []
        self.unreadable: list[tuple[Frames, str]] = []
        self.stale: list[tuple[Frames, int]] = []
        self.skipped = 0
        self.total = 0
        for header in headers:
            self._plan(header)

    def _plan(self, header: Header) -> None:
        source = header.source
        unit = Frames(self.plate, source, header.frames)
        self._check_same_acquisition(unit)
        recorded = recorded_frames(unit)
        try:
            fingerprint = source_fingerprint(source)
        except OSError as error:
            header = replace(header, problem=header.problem or told(error, source))
            fingerprint = {}
        if header.problem:
            # a file that was converted and is out of reach today keeps what was made of it, if it is the same file
            done = [number for number in recorded if why_convert(unit, number, fingerprint=fingerprint) is None]
            self.skipped += len(done)
            self.total += max(1, len(done))
            if not done:
                self.failed[_name(source)] = header.problem
                self.unreadable.append((unit, header.problem))
                self.stale += [(unit, number) for number in recorded]
            return
        self.total += len(header.frames)
        reasons = {number: why_convert(unit, number, fingerprint=fingerprint) for number in header.frames}
        missing = [number for number, reason in reasons.items() if reason is not None]
        self.skipped += len(reasons) - len(missing)
        self.recomputed.update({_name(source): reason for reason in reasons.values() if reason})
        self.stale += [(unit, number) for number in recorded if number not in reasons]
        if missing:
            self.todo.append(Frames(self.plate, source, tuple(missing)))
        digest = Digest(self.plate, source)
        if not has_digest(digest):
            self.digests.append(digest)

    def _check_same_acquisition(self, unit: Frames) -> None:
        """A place of the plate belongs to one acquisition: another plate's files never overwrite it."""
        for number in unit.numbers or (0,):
            converted = read_record(unit.marker(number)).get("fingerprint", {}).get("name", unit.source.path.name)
            if converted != unit.source.path.name:
                raise StoreError(
                    f"{self.plate.path}: well {unit.source.well}, field {unit.source.field} was converted from "
                    f"{converted}, but {unit.source.path} is to be its acquisition now. Give another output, or remove "
                    "the old plate."
                )

    def run(self, *, client: Any, threads: int, progress: Progress | None) -> Summary:
        report = progress or (lambda done, total, text: None)
        done = self.skipped + len(self.failed)
        report(done, self.total, f"{self.skipped} already converted" if self.skipped else "")
        for lost, number in self.stale:
            # of a file that has it no more, or can no longer be read as it is
            forget(lost, number)
            delete_images(lost, number)
        for lost, problem in self.unreadable:
            record_failure(lost, 0, problem)
        converted = 0
        failures: dict[Source, dict[int, str]] = defaultdict(dict)
        for unit, problems in self._results(client=client, threads=threads):
            if isinstance(unit, Digest):
                continue
            for number, problem in problems.items():
                record_failure(unit, number, problem)
            failures[unit.source].update(problems)
            converted += len(unit.numbers) - len(problems)
            done += len(unit.numbers)
            report(done, self.total, f"{unit.source.well} field {unit.source.field}")
        for unit in self.todo:
            of_file = failures[unit.source]
            if len(of_file) == len(unit.numbers) and len(set(of_file.values())) == 1:
                self.failed[_name(unit.source)] = next(iter(of_file.values()))
            else:
                self.failed.update({f"{_name(unit.source)} frame {number}": why for number, why in of_file.items()})
        return Summary(
            converted=converted,
            skipped=self.skipped,
            failed=self.failed,
            failed_files=len(self.unreadable) + sum(bool(of_file) for of_file in failures.values()),
            recomputed={file: why for file, why in self.recomputed.items() if file not in self.failed},
        )

    def _results(self, *, client: Any, threads: int) -> Iterator[tuple[Frames | Digest, dict[int, str]]]:
        """Do all units and yield each with what went wrong in it."""
        workers = threads if client is None else max(1, sum(client.nthreads().values()))
        units = [(unit,) for unit in self._order(workers)]
        # a worker that cannot see the acquisitions would report every one as missing
        places = [self.plate.path, *sorted({unit.source.path.parent for (unit,) in units})[:1]]
        for (unit,), outcome in map_units(work_on, units, client=client, threads=threads, places=places):
            if isinstance(outcome, WorkerLostError) and isinstance(unit, Frames):
                for number in unit.numbers:
                    delete_images(unit, number)
                yield unit, dict.fromkeys(unit.numbers, f"{unit.source.path}: {outcome}")
            elif isinstance(outcome, WorkerLostError):
                yield unit, {}  # the next run takes the digest
            elif isinstance(outcome, Exception):
                raise outcome
            else:
                yield unit, outcome

    def _order(self, workers: int) -> list[Frames | Digest]:
        """Units of work, small enough that all workers end together.

        Each file's digest comes right before its frames, which then find the file in the system's memory; after
        them, that of a long time lapse would be waited for with all other workers idle.
        """
        digests = {unit.source: unit for unit in self.digests}
        frames = sum(len(unit.numbers) for unit in self.todo)
        size = min(_FRAMES_A_UNIT, max(1, frames // (_UNITS_A_WORKER * workers)))
        order: list[Frames | Digest] = []
        for unit in self.todo:
            if unit.source in digests:
                order.append(digests.pop(unit.source))
            parts = (unit.numbers[start : start + size] for start in range(0, len(unit.numbers), size))
            order += [replace(unit, numbers=numbers) for numbers in parts]
        return [*order, *digests.values()]


def _name(source: Source) -> str:
    return f"{source.path} ({source.part})" if source.part else str(source.path)


def _write_results(plate: Plate, headers: Sequence[Header], *, plate_map: PlateMap | None) -> None:
    provenance = {"command": "ingest", "settings": SETTINGS, "files": len(headers)}
    results = {"fields": fields_table(plate, headers), "sources": sources_table(plate, headers)}
    if any(header.source.tiles is not None for header in headers):
        results["seams"] = seams_table(plate, headers)
    if plate.fluorescence:
        results["registration"] = registration_table(plate, headers)
    for name in results:
        if has_result(plate.path, name):
            # acquisitions that are archived elsewhere by now are still in the plate
            results[name] = with_earlier(results[name], read_result(plate.path, name), plate, headers)
    if plate.fluorescence:
        emission = {name: value for header in headers for name, value in header.emission_um}
        results["registration"].attrs["emission_um"] = json.dumps(emission, sort_keys=True)
    results["medium_drift"] = medium_drift(results["fields"])
    if plate_map is not None:
        results["layout"] = plate_map.to_dataset()
    for name, dataset in results.items():
        # an unchanged result keeps its date, so that nothing that depends on it is made again
        if not has_result(plate.path, name) or not _same(read_result(plate.path, name), dataset):
            write_result(plate.path, name, dataset, provenance=provenance)


def _same(stored: xr.Dataset, new: xr.Dataset) -> bool:
    return bool(stored.equals(new)) and all(stored.attrs.get(key) == new.attrs[key] for key in new.attrs)
