"""Acquisitions into the plate store: checked as a whole, then converted one file at a time, resumable."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import AcquisitionError, MissingInputError, StoreError, UnfinishedError, WorkerLostError
from ..mapping import map_units
from ..ngff import well_position
from ..projections import field_statistics
from ..results import has_result, read_result, write_result
from ..shards import remove, write_durable
from ..store import Plate, create_plate
from .acquisition import open_acquisition, read_frame
from .names import Source, discover
from .survey import (
    Header,
    check_overlap,
    check_uniform,
    check_wells,
    measured_hours,
    nominal_hours,
    plate_format,
    read_header,
)

if TYPE_CHECKING:
    import xarray as xr

    from ..layout import PlateMap

Progress = Callable[[int, int, str], None]

# Raised whenever what conversion stores for the same file changes: everything is then converted again.
SETTINGS = 1
# A field with more voxels than this that are no number is refused.
MAX_NONFINITE_SHARE = 0.01

PENDING, DONE, FAILED, MISSING = range(4)  # status of a field at a timepoint

_LISTED_FAILURES = 20


@dataclass(frozen=True)
class Summary:
    """What one run of `ingest` did.

    Attributes
    ----------
    converted, skipped
        Files converted now, and files found done.
    failed
        File -> why it could not be converted.
    recomputed
        File converted again -> why.
    """

    converted: int = 0
    skipped: int = 0
    failed: Mapping[str, str] = field(default_factory=dict)
    recomputed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Unit:
    """One file of one field: what a worker converts and what one marker vouches for."""

    plate: Plate
    source: Source
    frames: tuple[int, ...]

    @property
    def marker(self) -> Path:
        """Record of the finished unit, beside the store, so that a copied plate carries no state."""
        name = f"{self.source.well}_{self.source.field}_{self.source.timepoint}.json"
        return progress_folder(self.plate.path) / name

    @property
    def failure(self) -> Path:
        """Record of why the unit failed."""
        return self.marker.with_suffix(".failed.json")


def ingest(
    folder: Path,
    *,
    out: Path,
    plate_map: PlateMap | None = None,
    manifest: Path | None = None,
    name: str | None = None,
    client: Any = None,
    progress: Progress | None = None,
    allow_unmatched: bool = False,
) -> Plate:
    """Convert a folder of TCF files into a plate; what is done already is not done again.

    Everything that headers and names tell is checked before anything is written. Each file is then
    converted on its own: one that fails is recorded and the others go on. A file that changed since it was
    converted is converted again. At the end the results `fields` (statistics of every field) and `layout`
    (the plate map) are written. `last_summary` tells what was done.

    Parameters
    ----------
    folder
        Acquisitions, searched with all folders below.
    out
        The plate to make or to continue, such as ``P012.zarr``.
    plate_map
        What is in each well.
    manifest
        CSV that places files (path, well, field, timepoint) whose names do not.
    name
        Name of the plate; by default that of `out`.
    client
        A ``distributed.Client``; without one, files are converted one after the other in this process.
    progress
        Called with units done, units in all and a word on the last one.
    allow_unmatched
        Whether wells may be imaged without being in the plate map, or the reverse.

    Raises
    ------
    MissingInputError, AcquisitionError
        No acquisitions; names without wells; two files for one place; mixed voxel sizes or shapes; no file
        readable at all.
    PlateMapError
        The wells imaged are not those of the plate map.
    StoreError
        A plate of another geometry is at `out`.
    UnfinishedError
        Some files could not be converted; all others are.
    """
    # workers may have another working directory
    folder, out = Path(folder).absolute(), Path(out).absolute()
    sources = discover(folder, manifest=manifest)
    if plate_map is not None and not allow_unmatched:
        check_wells(sources, plate_map)
    headers = [read_header(source) for source in sources]
    readable = [header for header in headers if not header.problem]
    if not readable:
        raise AcquisitionError(f"none of {len(headers)} files can be read; the first: {headers[0].problem}")
    check_uniform(readable)
    check_overlap(headers)
    plate = _create(headers, out=out, name=name, plate_map=plate_map, folder=folder)
    units = [_Unit(plate=plate, source=header.source, frames=header.frames) for header in headers]
    # a file that was converted and is out of reach today keeps what was made of it
    problems = {
        unit: header.problem
        for unit, header in zip(units, headers, strict=True)
        if header.problem and _why_convert(unit) is not None
    }
    summary = _convert_all(units, problems=problems, client=client, progress=progress)
    _write_results(units, headers, plate_map=plate_map)
    write_durable(progress_folder(plate.path) / "summary.json", json.dumps(asdict(summary)).encode())
    if summary.failed:
        listed = "\n".join(f"  {reason}" for reason in islice(summary.failed.values(), _LISTED_FAILURES))
        raise UnfinishedError(
            f"{plate.path}: {len(summary.failed)} of {len(units)} files were not converted; the others were, "
            f"and will not be again. Replace these and run again:\n{listed}"
        )
    return plate


def last_summary(plate_path: Path) -> Summary:
    """What the last run of `ingest` on a plate did."""
    file = progress_folder(Path(plate_path)) / "summary.json"
    if not file.exists():
        raise MissingInputError(f"{plate_path}: no conversion was run here. Run `tomoscreen ingest` first.")
    return Summary(**json.loads(file.read_text()))


def progress_folder(plate_path: Path) -> Path:
    """Where the records of a plate's conversion lie: ``P012.zarr.progress`` beside the plate."""
    return plate_path.with_name(plate_path.name + ".progress")


def convert_unit(unit: _Unit) -> None:
    """Convert one file and leave its marker; on failure leave neither marker nor images.

    Raises
    ------
    AcquisitionError
        The file cannot be converted.
    """
    source, plate = unit.source, unit.plate
    _forget(unit)
    fingerprint = _fingerprint(source.path)
    records = []
    try:
        with open_acquisition(source.path, part=source.part) as acquisition:
            for frame in acquisition.frames:
                timepoint = source.timepoint + frame
                place = {"field": source.field, "timepoint": timepoint}
                volume, nonfinite = read_frame(acquisition, frame)
                if nonfinite > MAX_NONFINITE_SHARE * volume.size:
                    raise AcquisitionError(
                        f"{source.path}: frame {frame} holds {nonfinite:,} voxels that are no number, more "
                        f"than {MAX_NONFINITE_SHARE:.0%} of it. Reconstruct it again, or remove it."
                    )
                statistics = field_statistics(volume, nonfinite=nonfinite)
                plate.write_field(source.well, volume=volume, **place)
                files = plate.field_files(source.well, **place)
                records.append(
                    {
                        "timepoint": timepoint,
                        **asdict(statistics),
                        "bytes": {str(file.relative_to(plate.path.parent)): file.stat().st_size for file in files},
                    }
                )
        if _fingerprint(source.path) != fingerprint:
            raise AcquisitionError(
                f"{source.path}: the file changed while it was read. Wait until the acquisition has ended."
            )
    except (AcquisitionError, StoreError):
        _delete_images(unit)
        raise
    marker = {"source": str(source.path), "fingerprint": fingerprint, "frames": records}
    write_durable(unit.marker, json.dumps(marker, indent=1).encode())


def _create(
    headers: Sequence[Header], *, out: Path, name: str | None, plate_map: PlateMap | None, folder: Path
) -> Plate:
    readable = [header for header in headers if not header.problem]
    wells = sorted({header.source.well for header in headers}, key=well_position)
    if plate_map is not None:
        rows, columns = plate_map.rows, plate_map.columns
    else:
        rows, columns = plate_format(wells)
    timepoints = max(header.source.timepoint + header.planned for header in headers)
    return create_plate(
        out,
        name=name or out.stem,
        wells=wells,
        fields=max(header.source.field for header in headers) + 1,
        timepoints=timepoints,
        shape_zyx=readable[0].shape_zyx,
        voxel_um=readable[0].voxel_um,
        rows=rows,
        columns=columns,
        hours=nominal_hours(headers, timepoints=timepoints),
        provenance={"folder": str(folder), "files": len(headers)},
    )


def _convert_all(
    units: Sequence[_Unit],
    *,
    problems: Mapping[_Unit, str],
    client: Any,
    progress: Progress | None,
) -> Summary:
    report = progress or (lambda done, total, text: None)
    reasons = {unit: _why_convert(unit) for unit in units if unit not in problems}
    todo = [unit for unit, reason in reasons.items() if reason is not None]
    failed = {str(unit.source.path): problem for unit, problem in problems.items()}
    for unit, problem in problems.items():
        _forget(unit)
        _record_failure(unit, problem)
    done = len(units) - len(todo)
    report(done, len(units), f"{len(reasons) - len(todo)} already converted" if reasons else "")
    for unit, problem in _run(todo, client=client):
        done += 1
        if problem:
            failed[str(unit.source.path)] = problem
            _record_failure(unit, problem)
        report(done, len(units), f"{unit.source.well} field {unit.source.field}")
    return Summary(
        converted=sum(str(unit.source.path) not in failed for unit in todo),
        skipped=len(reasons) - len(todo),
        failed=failed,
        recomputed={str(unit.source.path): reason for unit in todo if (reason := reasons[unit])},
    )


def _why_convert(unit: _Unit) -> str | None:
    """None where the unit is done; otherwise why not, empty where it was never done."""
    try:
        marker = json.loads(unit.marker.read_text())
        recorded = marker["fingerprint"]
        images = {name: size for frame in marker["frames"] for name, size in frame["bytes"].items()}
    except FileNotFoundError:
        return ""
    except (ValueError, KeyError, TypeError):
        return "its record of completion is damaged"
    fingerprint = _fingerprint(unit.source.path)
    if recorded != fingerprint:
        changed = [key for key in fingerprint if recorded.get(key) != fingerprint[key]]
        return f"changed since it was converted: {', '.join(changed)}"
    for name, size in images.items():
        file = unit.plate.path.parent / name
        if not file.exists() or file.stat().st_size != size:
            return f"its image {name} was lost or cut short"
    return None


def _fingerprint(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {
        "name": path.name,
        "size": status.st_size,
        "modified": status.st_mtime_ns,
        "settings": SETTINGS,
    }


def _run(units: Sequence[_Unit], *, client: Any) -> Iterator[tuple[_Unit, str]]:
    """Convert units and yield each with what went wrong, or an empty text."""
    for (unit,), outcome in map_units(convert_unit, [(unit,) for unit in units], client=client):
        if isinstance(outcome, WorkerLostError):
            _delete_images(unit)
            yield unit, f"{unit.source.path}: {outcome}"
        elif isinstance(outcome, Exception) and not isinstance(outcome, AcquisitionError | StoreError):
            raise outcome
        else:
            yield unit, str(outcome or "")


def _record_failure(unit: _Unit, problem: str) -> None:
    write_durable(unit.failure, json.dumps({"source": str(unit.source.path), "problem": problem}).encode())


def _forget(unit: _Unit) -> None:
    """Remove a unit's records, then the images they vouched for."""
    try:
        frames = json.loads(unit.marker.read_text())["frames"]
        images = [unit.plate.path.parent / name for frame in frames for name in frame["bytes"]]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        images = []
    unit.marker.unlink(missing_ok=True)
    unit.failure.unlink(missing_ok=True)
    for image in images:
        remove(image)


def _delete_images(unit: _Unit) -> None:
    for frame in unit.frames:
        timepoint = unit.source.timepoint + frame
        for file in unit.plate.field_files(unit.source.well, field=unit.source.field, timepoint=timepoint):
            remove(file)


def _write_results(units: Sequence[_Unit], headers: Sequence[Header], *, plate_map: PlateMap | None) -> None:
    plate = units[0].plate
    provenance = {"command": "ingest", "settings": SETTINGS, "files": len(units)}
    results = {"fields": _fields(units, headers)}
    if plate_map is not None:
        results["layout"] = plate_map.to_dataset()
    for name, dataset in results.items():
        # an unchanged result keeps its date, so that nothing that depends on it is made again
        if not has_result(plate.path, name) or not _same(read_result(plate.path, name), dataset):
            write_result(plate.path, name, dataset, provenance=provenance)


def _same(stored: xr.Dataset, new: xr.Dataset) -> bool:
    return bool(stored.equals(new)) and all(stored.attrs.get(key) == new.attrs[key] for key in new.attrs)


def _fields(units: Sequence[_Unit], headers: Sequence[Header]) -> xr.Dataset:
    """Statistics of every field at every timepoint, from the markers."""
    import xarray as xr

    plate = units[0].plate
    shape = (len(plate.wells), plate.fields, plate.timepoints)
    values = {name: np.full(shape, np.nan) for name in ("medium_index", "confluency", "focus", "missing_share")}
    nonfinite = np.zeros(shape, dtype=np.int64)
    status = np.full(shape, MISSING, dtype=np.int8)
    hours = np.full(shape, np.nan)
    wells = {well: row for row, well in enumerate(plate.wells)}
    for (well, place), measured in measured_hours(headers, timepoints=plate.timepoints).items():
        hours[wells[well], place] = measured
    finished = {unit for unit in units if unit.marker.exists()}
    for unit in (unit for unit in units if unit not in finished):
        # of an unreadable file nobody knows where it ends
        frames = unit.frames or range(plate.timepoints - unit.source.timepoint)
        for frame in frames:
            status[wells[unit.source.well], unit.source.field, unit.source.timepoint + frame] = FAILED
    for unit in finished:
        for frame in json.loads(unit.marker.read_text())["frames"]:
            index = (wells[unit.source.well], unit.source.field, frame["timepoint"])
            for name, table in values.items():
                table[index] = frame[name]
            nonfinite[index] = frame["nonfinite"]
            # nothing reconstructed is nothing seen
            status[index] = MISSING if frame["missing_share"] == 1 else DONE
    dims = ("well", "field", "timepoint")
    return xr.Dataset(
        {
            "medium_index": (
                dims,
                values["medium_index"],
                {"units": "1", "long_name": "index of the medium"},
            ),
            "confluency": (dims, values["confluency"], {"units": "1"}),
            "focus": (dims, values["focus"], {"units": "1"}),
            "missing_share": (dims, values["missing_share"], {"units": "1"}),
            "nonfinite": (dims, nonfinite, {"units": "voxels"}),
            "hours": (dims, hours, {"units": "h", "long_name": "measured since the field's first frame"}),
            "status": (
                dims,
                status,
                {
                    "flag_values": [PENDING, DONE, FAILED, MISSING],
                    "flag_meanings": "pending done failed missing",
                },
            ),
        },
        coords={
            "well": np.array(plate.wells, dtype=object),
            "field": np.arange(plate.fields),
            "timepoint": np.arange(plate.timepoints),
        },
    )
