"""From a folder to the wells, fields and timepoints of its acquisitions, whatever their format."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from ..errors import AcquisitionError, MissingInputError
from .acquisition_name import AcquisitionName, Kind, parse_export, parse_name, stem, well_name
from .manifest import Source, read_manifest

__all__ = ["Discovery", "FileFormat", "Source", "discover", "find_acquisitions", "parse_name", "well_name"]

FileFormat = Literal["tcf", "tiff", "ome-zarr"]

_REMEDY = "Move one away, or say what they are in a manifest (CSV: path, well, field, timepoint)."
_LISTED = 20
# folders that the acquisition software keeps beside a TCF file; what is in them is no acquisition
_SIDE_FOLDERS = ("thumbnail", "bgimages", "profile")


@dataclass(frozen=True)
class Discovery:
    """What is in a folder.

    Attributes
    ----------
    sources
        By well, field and timepoint. Positions become fields 0, 1, ... in their order: over the whole plate
        where its wells share the numbers, else within the well. Single frames become timepoints in their
        order over the whole plate. So one that is missing leaves a gap, and may come later.
    problems
        Files that cannot be placed, and why.
    left_out
        Files that are no acquisitions of this plate, and why.
    """

    sources: tuple[Source, ...]
    problems: tuple[tuple[Path, str], ...]
    left_out: tuple[tuple[Path, str], ...]


def discover(
    folder: Path,
    *,
    manifest: Path | None = None,
    file_format: FileFormat | None = None,
    acquisition: int | None = None,
) -> list[Source]:
    """Find the acquisitions below a folder and give each its place on the plate.

    Parameters
    ----------
    folder
        Searched with all folders below it for ``.TCF`` files, TIFF files and OME-Zarr plates, whatever the
        case of the ending. Links are followed. Nothing inside an OME-Zarr folder is looked at, and plates that
        tomoscreen made are left out.
    manifest
        CSV with the columns path (from `folder`), well, field and, where needed, timepoint, part and voxel
        sizes; the files it lists are placed by it, the others by their names or their own metadata.
    file_format
        Use only files of this format, where acquisitions lie there in several.
    acquisition
        Number of the run to take, where an OME-Zarr plate holds several.

    Raises
    ------
    MissingInputError
        There is no such folder, or no acquisition in it.
    AcquisitionError
        Names that say nothing, or two files for one place; the message names up to 20 of them.
    """
    found = find_acquisitions(folder, manifest=manifest, file_format=file_format, acquisition=acquisition)
    reasons = list(dict.fromkeys(reason for _, reason in found.problems))
    if len(reasons) > _LISTED:
        reasons[_LISTED:] = [f"and {len(reasons) - _LISTED} more such files."]
    if reasons:
        raise AcquisitionError("\n".join(reasons))
    if not found.sources:
        unused = "".join(f"\n  {path}: {reason}" for path, reason in found.left_out[:_LISTED])
        raise MissingInputError(
            f"{folder}: no .TCF file, TIFF tomogram or OME-Zarr plate in it or in the folders below it."
            + (f" Left out:{unused}" if unused else "")
        )
    return list(found.sources)


def find_acquisitions(
    folder: Path,
    *,
    manifest: Path | None = None,
    file_format: FileFormat | None = None,
    acquisition: int | None = None,
) -> Discovery:
    """Find the acquisitions below a folder, and say what is wrong instead of stopping at it; see `discover`."""
    folder = Path(folder)
    if folder.is_file():
        raise MissingInputError(f"{folder}: is a file. Give the folder that holds it.")
    if not folder.is_dir():
        raise MissingInputError(f"{folder}: there is no such folder of acquisitions.")
    sources = read_manifest(manifest, folder=folder) if manifest is not None else []
    listed = {source.path.resolve() for source in sources}
    candidates = _Candidates(acquisition=acquisition, listed=[source.path for source in sources])
    for path in [folder] if _is_zarr(folder) else _walk(folder):
        if path.resolve() not in listed:
            candidates.add(path, file_format=file_format)
    sources += candidates.placed
    problems = candidates.problems
    sources += _place(candidates.named, problems=problems)
    sources = _distinct(sources, problems=problems)
    return Discovery(
        sources=tuple(
            sorted(sources, key=lambda source: (_row_major(source.well), source.field, source.timepoint, source.path))
        ),
        problems=tuple(problems),
        left_out=tuple(candidates.left_out + candidates.lone_fluorescence()),
    )


def _walk(folder: Path) -> Iterator[Path]:
    """Files and OME-Zarr folders, without what file systems leave behind (._x); links are followed.

    A folder to which several links lead is searched once, so that a link to a folder above ends; and a file is
    taken once under each name that it has.
    """
    searched = {folder.resolve()}
    taken: set[tuple[Path, str]] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        here = Path(parent)
        stores = [name for name in folders if _is_zarr(here / name)]
        below = []
        for name in sorted(name for name in folders if name not in stores and not name.startswith(".")):
            if (real := (here / name).resolve()) not in searched:
                searched.add(real)
                below.append(name)
        folders[:] = below
        for name in sorted(name for name in [*stores, *files] if not name.startswith(".")):
            if (known := ((here / name).resolve(), name)) not in taken:
                taken.add(known)
                yield here / name


def _is_zarr(folder: Path) -> bool:
    if folder.suffix.lower() == ".zarr":
        return True
    return any((folder / name).is_file() for name in ("zarr.json", ".zgroup", ".zattrs"))


class _Candidates:
    """Files sorted by what can be said of each on its own."""

    def __init__(self, *, acquisition: int | None, listed: Sequence[Path]) -> None:
        self._acquisition = acquisition
        self.named: dict[Path, AcquisitionName] = {}
        self.placed: list[Source] = []
        self.problems: list[tuple[Path, str]] = []
        self.left_out: list[tuple[Path, str]] = []
        self._fluorescence: dict[Path, str] = {}
        # of tomograms that a manifest places, the fluorescence is read with them as well
        self._exported = {stem(path) for path in listed}

    def add(self, path: Path, *, file_format: FileFormat | None) -> None:
        """Sort one file in; files of no known ending are passed over."""
        own = _format(path)
        if own is None:
            return
        if not path.exists():
            self.left_out.append((path, "a link to a file that is not there"))
            return
        if file_format is not None and own != file_format:
            self.left_out.append((path, f"it is not of the format asked for ({file_format})"))
            return
        try:
            if own == "tcf":
                self.named[path] = parse_name(path)
            elif own == "tiff":
                self._add_tiff(path)
            else:
                self._add_zarr(path)
        except AcquisitionError as error:
            self.problems.append((path, str(error)))

    def lone_fluorescence(self) -> list[tuple[Path, str]]:
        """Exported fluorescence whose tomogram is not there; the other is read with its tomogram."""
        return [
            (path, "fluorescence without the tomogram of the same acquisition (_HT3D_)")
            for path, name in self._fluorescence.items()
            if name not in self._exported
        ]

    def _add_tiff(self, path: Path) -> None:
        from .tiff_pages import PictureError

        export = parse_export(path)
        if any(parent.lower() in _SIDE_FOLDERS for parent in path.parts[-2:-1]):
            self.left_out.append((path, "a side file of the acquisition software"))
        elif export is not None and export.content == "projection":
            self.left_out.append((path, f"a projection or picture ({export.kind}), no tomogram"))
        elif export is not None and export.content == "fluorescence":
            self._fluorescence[path] = export.stem
        else:
            if export is not None:
                self._exported.add(export.stem)
            try:
                self.named[path] = parse_name(path)
            except AcquisitionError as unnamed:
                try:
                    self.placed += _tiff_by_metadata(path, otherwise=unnamed)
                except PictureError as error:
                    self.left_out.append((path, str(error).removeprefix(f"{path}: ")))

    def _add_zarr(self, path: Path) -> None:
        from .ome_zarr import plate_sources

        attributes = _attributes(path)
        mine = "tomoscreen" in attributes or path.name.endswith((".results.zarr", "_mip.zarr", "_fl.zarr"))
        described = attributes.get("ome", attributes)
        if mine:
            self.left_out.append((path, "made by tomoscreen, or a sibling of such a plate"))
        elif isinstance(described, dict) and "plate" in described:
            self.placed += plate_sources(path, acquisition=self._acquisition)
        else:
            self.left_out.append((path, "no OME-Zarr plate; a single image can be placed by a manifest"))


def _format(path: Path) -> FileFormat | None:
    if path.is_dir():
        return "ome-zarr"
    formats: dict[str, FileFormat] = {".tcf": "tcf", ".tif": "tiff", ".tiff": "tiff"}
    return formats.get(path.suffix.lower())


def _tiff_by_metadata(path: Path, *, otherwise: AcquisitionError) -> list[Source]:
    """Places that an OME-TIFF's own plate gives; a picture that is no tomogram is told apart."""
    from .ome_tiff import check_tomogram, tiff_sources

    sources = tiff_sources(path)
    if not sources:
        check_tomogram(path)
        raise otherwise
    return sources


def _attributes(folder: Path) -> dict[str, Any]:
    """Attributes of a Zarr group of either version; empty where they cannot be read."""
    for name in ("zarr.json", ".zattrs"):
        try:
            document = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        attributes = document.get("attributes") if name == "zarr.json" and isinstance(document, dict) else document
        if isinstance(attributes, dict):
            return attributes
    return {}


def _place(named: dict[Path, AcquisitionName], *, problems: list[tuple[Path, str]]) -> list[Source]:
    """Wells from names; fields from positions; timepoints from the order of single-frame files."""
    wells: dict[str, list[tuple[Path, AcquisitionName]]] = defaultdict(list)
    for path, name in named.items():
        wells[name.well].append((path, name))
    common = {kind: _common_positions(named.values(), kind=kind) for kind in {name.kind for name in named.values()}}
    orders = sorted({name.order for name in named.values() if name.kind == "single frames"})
    sources = []
    for well, members in wells.items():
        first_path, first = members[0]
        other = next(((path, name) for path, name in members if name.kind != first.kind), None)
        if other is not None:
            reason = f"well {well} has a {first.kind} file ({first_path}) and a {other[1].kind} file ({other[0]}). "
            problems += [(path, reason + _REMEDY) for path, _ in members]
            continue
        positions = common[first.kind] or sorted({name.position for _, name in members})
        placed = [
            Source(
                path=path,
                well=well,
                field=positions.index(name.position),
                timepoint=orders.index(name.order) if name.kind == "single frames" else 0,
                recorded=name.recorded,
            )
            for path, name in members
        ]
        _check_order(placed, problems=problems)
        sources += placed
    return sources


def _common_positions(names: Iterable[AcquisitionName], *, kind: Kind) -> list[int]:
    """Numbers of positions that mean the same in every well, ascending; empty where they count through the plate.

    Counted in each well, the numbers recur from well to well, and the plate has hardly more of them than its
    fullest well. Counted through the plate (A1 has 1 to 4, A2 has 5 to 8), no two wells share one, and two full
    wells have twice as many as one.
    """
    wells: dict[str, set[int]] = defaultdict(set)
    for name in names:
        if name.kind == kind:
            wells[name.well].add(name.position)
    positions = sorted(set().union(*wells.values()))
    shared = len(positions) < sum(len(own) for own in wells.values())
    fullest = max(len(own) for own in wells.values())
    return positions if shared and len(positions) < 2 * fullest else []


def _check_order(sources: Sequence[Source], *, problems: list[tuple[Path, str]]) -> None:
    """Single-frame files must have been recorded in the order of their numbers."""
    ordered = sorted(sources, key=lambda source: source.timepoint)
    for before, after in pairwise(ordered):
        if before.timepoint < after.timepoint and _later(before.recorded, after.recorded):
            reason = (
                f"{after.path} was recorded before {before.path}, which its number in the series puts first. {_REMEDY}"
            )
            problems.append((after.path, reason))


def _later(first: datetime | None, second: datetime | None) -> bool:
    return first is not None and second is not None and first > second


def _distinct(sources: Sequence[Source], *, problems: list[tuple[Path, str]]) -> list[Source]:
    """The first source of every place; the others are problems."""
    kept: dict[Source, Source] = {}
    for source in sources:
        place = replace(source, path=Path(), recorded=None, part="", voxel_um=None)
        if place not in kept:
            kept[place] = source
            continue
        first = kept[place]
        remedy = _REMEDY
        if _format(first.path) != _format(source.path) and stem(first.path) == stem(source.path):
            remedy = (
                f"They are one acquisition in two formats: remove one, or choose one by --format {_format(first.path)} "
                "(or `format` in screen.toml)."
            )
        problems.append(
            (
                source.path,
                f"{_called(first)} and {_called(source)} are both well {source.well}, field {source.field}, "
                f"timepoint {source.timepoint}. {remedy}",
            )
        )
    return list(kept.values())


def _called(source: Source) -> str:
    return f"{source.path} ({source.part})" if source.part else str(source.path)


def _row_major(well: str) -> tuple[int, str]:
    """A01, A02, ..., B01, ..., Z24, AA01."""
    letters = well.rstrip("0123456789")
    return len(letters), well
