"""What a folder of acquisitions was understood to be, before anything of it is converted."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import AcquisitionError
from ..ngff import well_position
from .names import FileFormat, find_acquisitions
from .survey import Header, check_overlap, check_uniform, clock_faults, plate_format, read_headers

if TYPE_CHECKING:
    from ..layout import PlateMap

# Raised whenever a key of the JSON changes its name or its meaning; new keys may come at any time.
SCHEMA = 1

_FORMATS = {".tcf": "TCF", ".tif": "TIFF", ".tiff": "TIFF"}


@dataclass(frozen=True)
class InspectedFile:
    """One file, or one image of a file that holds several, and what its header says.

    Attributes
    ----------
    path
        From the folder that was inspected.
    part
        Which image of it; empty for the only one.
    file_format, stored
        Such as ``"TCF"`` and ``"uint16"``.
    well, field, timepoints
        Its place on the plate; timepoints of the tomograms present.
    planned
        Tomograms announced.
    shape_zyx, voxel_um
        Of the tomograms; um. None where the file cannot be read.
    channels
        Fluorescence channels.
    recorded
        Local start, or None.
    size_bytes
        On disk; None for folders.
    problem
        Why it cannot be read; empty where it can.
    """

    path: str
    part: str
    file_format: str
    stored: str
    well: str
    field: int
    timepoints: tuple[int, ...]
    planned: int
    shape_zyx: tuple[int, int, int] | None
    voxel_um: tuple[float, float, float] | None
    channels: tuple[str, ...]
    recorded: datetime | None
    size_bytes: int | None
    problem: str


@dataclass(frozen=True)
class Gap:
    """Timepoints of a field, from 0, that no file holds."""

    well: str
    field: int
    timepoints: tuple[int, ...]


@dataclass(frozen=True)
class Inspection:
    """What was understood.

    Attributes
    ----------
    folder
        That was inspected.
    files
        By well, field and timepoint.
    rows, columns
        Of the smallest usual plate that holds the wells, or of the plate map; 0 where there is none.
    fields
        Number of fields by well.
    timepoints
        Of the whole plate.
    gaps
        Fields or timepoints that other wells or fields have.
    geometries
        Number of files by geometry, such as ``"60 x 1059 x 1059 voxels of ..."``, the commonest first.
    blockers
        Why `ingest` would refuse the folder as it is, one sentence each.
    warnings
        What it would put up with.
    unplaced
        Files that look like acquisitions but have no place of their own on the plate, and why.
    left_out
        Files that are no acquisitions of this plate, and why.
    total_bytes
        Of all files that were understood.
    seconds
        That the inspection took.
    """

    folder: Path
    files: tuple[InspectedFile, ...]
    rows: int
    columns: int
    fields: dict[str, int]
    timepoints: int
    gaps: tuple[Gap, ...]
    geometries: dict[str, int]
    blockers: tuple[str, ...]
    warnings: tuple[str, ...]
    unplaced: tuple[tuple[str, str], ...]
    left_out: tuple[tuple[str, str], ...]
    total_bytes: int
    seconds: float

    @property
    def ingestible(self) -> bool:
        """Whether `ingest` would take the folder as it is; single files may still fail."""
        return not self.blockers

    def to_json(self) -> str:
        """Everything as JSON, with the names of the attributes as keys.

        ``schema`` counts incompatible changes, and ``ingestible`` is added. Paths are texts with forward
        slashes, times are ISO 8601, sizes are bytes, lengths um; what is unknown is null.
        """
        document: dict[str, Any] = {"schema": SCHEMA, "ingestible": self.ingestible, **asdict(self)}
        document["folder"] = self.folder.as_posix()
        for name in ("unplaced", "left_out"):
            document[name] = [{"path": path, "reason": reason} for path, reason in document[name]]
        return json.dumps(document, indent=1, default=_iso, allow_nan=False)


def inspect(
    folder: Path,
    *,
    manifest: Path | None = None,
    plate_map: PlateMap | None = None,
    file_format: FileFormat | None = None,
    acquisition: int | None = None,
    channel: str | None = None,
    threads: int = 8,
) -> Inspection:
    """Say what `ingest` would make of a folder; only names and headers are read, nothing is written.

    Parameters
    ----------
    folder, manifest, file_format, acquisition
        As of `discover`.
    channel
        Which channel of an OME-Zarr plate holds the refractive index.
    plate_map
        Compared with the wells imaged.
    threads
        Headers read at a time.

    Raises
    ------
    MissingInputError
        There is no such folder or manifest.
    AcquisitionError
        A line of the manifest cannot be used.
    """
    started = time.monotonic()
    folder = Path(folder)
    found = find_acquisitions(folder, manifest=manifest, file_format=file_format, acquisition=acquisition)
    headers = read_headers([replace(source, channel=channel) for source in found.sources], threads=threads)
    files = tuple(_file(header, folder=folder) for header in headers)
    blockers = list(dict.fromkeys(reason for _, reason in found.problems)) + _blockers(headers)
    wells = sorted({header.source.well for header in headers}, key=well_position)
    rows = columns = 0
    if plate_map is not None:
        rows, columns = plate_map.rows, plate_map.columns
        blockers += plate_map.check_against(wells)
    elif wells:
        try:
            rows, columns = plate_format(wells)
        except AcquisitionError as error:
            blockers.append(str(error))
    gaps = _gaps(headers)
    return Inspection(
        folder=folder,
        files=files,
        rows=rows,
        columns=columns,
        fields=_fields(headers, wells),
        timepoints=_timepoints(headers),
        gaps=gaps,
        geometries=_geometries(files),
        blockers=tuple(blockers),
        warnings=(*_warnings(files, gaps), *clock_faults([header for header in headers if not header.problem])),
        unplaced=tuple((_relative(path, folder), reason) for path, reason in found.problems),
        left_out=tuple((_relative(path, folder), reason) for path, reason in found.left_out),
        total_bytes=sum(size for size in {file.path: file.size_bytes or 0 for file in files}.values()),
        seconds=round(time.monotonic() - started, 3),
    )


def _file(header: Header, *, folder: Path) -> InspectedFile:
    source = header.source
    return InspectedFile(
        path=_relative(source.path, folder),
        part=source.part,
        file_format=header.file_format or _FORMATS.get(source.path.suffix.lower(), "OME-Zarr"),
        stored=header.stored,
        well=source.well,
        field=source.field,
        timepoints=tuple(source.timepoint + frame for frame in header.frames),
        planned=header.planned,
        shape_zyx=None if header.problem else header.shape_zyx,
        voxel_um=None if header.problem else header.voxel_um,
        channels=header.channels,
        recorded=header.recorded or source.recorded,
        size_bytes=source.path.stat().st_size if source.path.is_file() else None,
        problem=header.problem,
    )


def _blockers(headers: Sequence[Header]) -> list[str]:
    """What the checks of `ingest` say; each in turn, so that all of it is told at once."""
    readable = [header for header in headers if not header.problem]
    if not headers:
        return ["there is no acquisition in the folder that could be placed on a plate."]
    if not readable:
        return [f"none of {len(headers)} files can be read; the first: {headers[0].problem}"]
    checks: list[Callable[[], None]] = [lambda: check_uniform(readable), lambda: check_overlap(headers)]
    found = []
    for check in checks:
        try:
            check()
        except AcquisitionError as error:
            found.append(str(error))
    return found


def _fields(headers: Sequence[Header], wells: Sequence[str]) -> dict[str, int]:
    present: dict[str, set[int]] = defaultdict(set)
    for header in headers:
        present[header.source.well].add(header.source.field)
    return {well: len(present[well]) for well in wells}


def _timepoints(headers: Sequence[Header]) -> int:
    return max((header.source.timepoint + header.planned for header in headers), default=0)


def _gaps(headers: Sequence[Header]) -> tuple[Gap, ...]:
    """What is missing where every field of every well was imaged at every timepoint; unreadable files hold nothing."""
    present: dict[tuple[str, int], set[int]] = {}
    for header in headers:
        place = header.source.well, header.source.field
        present.setdefault(place, set()).update(header.source.timepoint + frame for frame in header.frames)
    wells = sorted({well for well, _ in present}, key=well_position)
    fields = max((field for _, field in present), default=-1) + 1
    timepoints = range(_timepoints(headers))
    gaps = []
    for well in wells:
        for field in range(fields):
            missing = tuple(t for t in timepoints if t not in present.get((well, field), set()))
            if missing:
                gaps.append(Gap(well=well, field=field, timepoints=missing))
    return tuple(gaps)


def _geometries(files: Sequence[InspectedFile]) -> dict[str, int]:
    kinds = Counter(
        " x ".join(str(size) for size in file.shape_zyx)
        + " voxels of "
        + " x ".join(f"{round(step, 4):g}" for step in file.voxel_um)
        + " um (z, y, x)"
        for file in files
        if file.shape_zyx is not None and file.voxel_um is not None
    )
    return dict(kinds.most_common())


def _warnings(files: Sequence[InspectedFile], gaps: Sequence[Gap]) -> list[str]:
    unreadable = [file for file in files if file.problem]
    found = [file.problem for file in unreadable]
    if gaps:
        missing = sum(len(gap.timepoints) for gap in gaps)
        found.append(f"{missing} tomograms are missing that other wells, fields or timepoints have; they stay empty.")
    channels = Counter(file.channels for file in files if not file.problem)
    if len(channels) > 1:
        kinds = "; ".join(f"{', '.join(names) or 'none'} in {count} files" for names, count in channels.most_common())
        found.append(f"the files differ in their fluorescence channels: {kinds}.")
    return found


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()


def _iso(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{value!r} has no place in JSON")
