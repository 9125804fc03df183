"""From file names to wells, fields and timepoints.

The acquisition software writes ``YYMMDD.HHMMSS.<experiment>.<NNN>.<group>.<well>.<suffix>.TCF``. The
experiment may hold dots and spaces, so a name is read from both ends. The suffix is ``Snnn`` (snapshot),
``TnnnPnn`` (position nn of time lapse nnn, all frames in one file) or ``TPnn`` (one of a series of
single-frame files). A manifest overrides what names say.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Literal

from ..errors import AcquisitionError, MissingInputError

_MANIFEST_COLUMNS = ("path", "well", "field", "timepoint")
_MANIFEST_REMEDY = "Move one away, or say what they are in a manifest (CSV: path, well, field, timepoint)."
_SUFFIXES = {
    "snapshot": re.compile(r"S(?P<position>\d+)"),
    "time lapse": re.compile(r"T(?P<series>\d+)P(?P<position>\d+)"),
    "single frames": re.compile(r"TP(?P<order>\d+)"),
}

Kind = Literal["snapshot", "time lapse", "single frames"]


@dataclass(frozen=True)
class AcquisitionName:
    """What a file name says.

    Attributes
    ----------
    recorded
        Local start of the acquisition.
    experiment, number, group
        Experiment, number of the job in it, and its group (usually the treatment).
    well
        ``"A01"``.
    kind
        What the suffix says the file is.
    position
        Number of the position in the well; 0 for single-frame files, whose names give none.
    order
        Number in the series of single-frame files; 0 for the others.
    """

    recorded: datetime
    experiment: str
    number: int
    group: str
    well: str
    kind: Kind
    position: int
    order: int


@dataclass(frozen=True)
class Source:
    """One file and its place on the plate.

    Attributes
    ----------
    path
        The file, or the folder of an OME-Zarr plate.
    part
        Which image of it, where it holds several; empty for the only one.
    well, field
        ``"A01"``; fields count from 0 within a well.
    timepoint
        Of the file's first frame.
    recorded
        Local start of the acquisition by its name; None where only a manifest placed it.
    """

    path: Path
    well: str
    field: int
    timepoint: int
    recorded: datetime | None = None
    part: str = ""


def discover(folder: Path, *, manifest: Path | None = None) -> list[Source]:
    """Find the acquisitions below a folder and give each its place on the plate.

    Parameters
    ----------
    folder
        Searched with all folders below it for ``.TCF`` files, whatever the case of the ending.
    manifest
        CSV with the columns path (from `folder`), well, field and, where needed, timepoint; the files it
        lists are placed by it, the others by their names.

    Returns
    -------
    list of Source
        By well, field and timepoint. Positions of a well become fields 0, 1, ... in their order; single
        frames become timepoints in their order over the whole plate, so that one missing leaves a gap.

    Raises
    ------
    MissingInputError
        There is no such folder, or no acquisition in it.
    AcquisitionError
        Names that say nothing, or two files for one place; the message names them.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingInputError(f"{folder}: there is no such folder of acquisitions.")
    files = sorted(path for path in folder.rglob("*") if _is_acquisition(path))
    if not files:
        raise MissingInputError(f"{folder}: no .TCF file in it or in the folders below it.")
    placed = read_manifest(manifest, folder=folder) if manifest is not None else []
    listed = {source.path.resolve() for source in placed}
    named = {path: parse_name(path) for path in files if path.resolve() not in listed}
    sources = [*placed, *_place(named)]
    _check_distinct(sources)
    return sorted(sources, key=lambda source: (_row_major(source.well), source.field, source.timepoint))


def parse_name(path: Path) -> AcquisitionName:
    """Read a file name from both ends.

    Raises
    ------
    AcquisitionError
        It is not a name that the acquisition software gives.
    """
    match = re.fullmatch(
        r"(?P<date>\d{6})\.(?P<time>\d{6})\.(?P<experiment>.+)\.(?P<number>\d+)\.(?P<group>[^.]*)"
        r"\.(?P<well>[A-Za-z]{1,2}\d{1,2})\.(?P<suffix>[A-Za-z0-9]+)\.TCF",
        path.name,
        flags=re.IGNORECASE | re.DOTALL,
    )
    if match is not None:
        for kind, pattern in _SUFFIXES.items():
            suffix = pattern.fullmatch(match["suffix"].upper())
            if suffix is None:
                continue
            numbers = suffix.groupdict()
            try:
                return AcquisitionName(
                    recorded=datetime.strptime(match["date"] + match["time"], "%y%m%d%H%M%S"),
                    experiment=match["experiment"],
                    number=int(match["number"]),
                    group=match["group"],
                    well=well_name(match["well"]),
                    kind=kind,  # type: ignore[arg-type]
                    position=int(numbers.get("position", 0)),
                    order=int(numbers.get("order", 0)),
                )
            except ValueError:
                break
    raise AcquisitionError(
        f"{path}: the name does not say which well this is. Expected "
        "YYMMDD.HHMMSS.<experiment>.<NNN>.<group>.<well>.<suffix>.TCF with a suffix such as S001, T001P02 or "
        "TP03; rename it, or list it in a manifest (CSV: path, well, field, timepoint)."
    )


def well_name(text: str) -> str:
    """``"a1"`` -> ``"A01"``; ValueError for what names no well."""
    match = re.fullmatch(r"([A-Za-z]{1,2})0*([1-9]\d?)", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a well")
    return f"{match[1].upper()}{int(match[2]):02d}"


def read_manifest(path: Path, *, folder: Path) -> list[Source]:
    """Places given in a CSV table: path, well, field and optionally timepoint (0 where empty)."""
    path = Path(path)
    if not path.is_file():
        raise MissingInputError(f"{path}: there is no such manifest.")
    with path.open(newline="", encoding="utf-8-sig") as handle:
        table = csv.DictReader(handle)
        missing = set(_MANIFEST_COLUMNS[:3]) - set(table.fieldnames or ())
        if missing:
            raise AcquisitionError(
                f"{path}: the column {', '.join(sorted(missing))} is missing; expected the columns "
                f"{', '.join(_MANIFEST_COLUMNS)} in the first line"
            )
        sources = []
        for row in table:
            where = f"{path}, line {table.line_num}"
            file = folder / (row["path"] or "")
            if not file.is_file():
                raise AcquisitionError(f"{where}: {row['path']!r} is not a file in {folder}. Correct the path.")
            try:
                source = Source(
                    path=file,
                    well=well_name(row["well"] or ""),
                    field=int(row["field"] or ""),
                    timepoint=int(row.get("timepoint") or 0),
                )
            except ValueError as error:
                raise AcquisitionError(
                    f"{where}: {error}. Expected a well such as A01 and whole numbers from 0 for field and timepoint."
                ) from error
            if source.field < 0 or source.timepoint < 0:
                raise AcquisitionError(f"{where}: fields and timepoints count from 0.")
            sources.append(source)
    return sources


def _is_acquisition(path: Path) -> bool:
    """Files that end so, without what file systems and unfinished copies leave behind (._x, x.partial)."""
    return path.suffix.lower() == ".tcf" and not path.name.startswith(".") and path.is_file()


def _place(named: dict[Path, AcquisitionName]) -> list[Source]:
    """Wells from names; fields from positions; timepoints from the order of single-frame files."""
    wells: dict[str, list[tuple[Path, AcquisitionName]]] = defaultdict(list)
    for path, name in named.items():
        wells[name.well].append((path, name))
    orders = sorted({name.order for name in named.values() if name.kind == "single frames"})
    sources = []
    for well, members in wells.items():
        first_path, first = members[0]
        for path, name in members:
            if name.kind != first.kind:
                raise AcquisitionError(
                    f"well {well} has a {first.kind} file ({first_path}) and a {name.kind} file ({path}). "
                    + _MANIFEST_REMEDY
                )
        positions = sorted({name.position for _, name in members})
        for path, name in members:
            sources.append(
                Source(
                    path=path,
                    well=well,
                    field=positions.index(name.position),
                    timepoint=orders.index(name.order) if name.kind == "single frames" else 0,
                    recorded=name.recorded,
                )
            )
        _check_order([source for source in sources if source.well == well])
    return sources


def _check_order(sources: list[Source]) -> None:
    """Single-frame files must have been recorded in the order of their numbers."""
    ordered = sorted(sources, key=lambda source: source.timepoint)
    for before, after in pairwise(ordered):
        if before.timepoint < after.timepoint and _later(before.recorded, after.recorded):
            raise AcquisitionError(
                f"{after.path} was recorded before {before.path}, which its number in the series puts "
                "first. " + _MANIFEST_REMEDY
            )


def _later(first: datetime | None, second: datetime | None) -> bool:
    return first is not None and second is not None and first > second


def _check_distinct(sources: Iterable[Source]) -> None:
    seen: dict[Source, Path] = {}
    for source in sources:
        place = replace(source, path=Path(), recorded=None, part="")
        if place in seen:
            raise AcquisitionError(
                f"{seen[place]} and {source.path} are both well {source.well}, field {source.field}, "
                f"timepoint {source.timepoint}. {_MANIFEST_REMEDY}"
            )
        seen[place] = source.path


def _row_major(well: str) -> tuple[int, str]:
    """A01, A02, ..., B01, ..., Z24, AA01."""
    letters = well.rstrip("0123456789")
    return len(letters), well
