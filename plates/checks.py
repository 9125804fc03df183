"""A plate and its results read again, byte by byte: what is damaged or gone, and where on the plate it belongs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Literal

from . import ngff
from .errors import MissingInputError, StoreError
from .ingest.units import progress_folder
from .integrity import SEAL, has_checksum, read_sealed, seal_broken, why_other, why_torn
from .levels import Level, projection_levels
from .results import checksums, results_path
from .store import Plate, open_plate

Kind = Literal["damaged", "missing", "changed", "leftover", "foreign", "unrecorded", "unverified"]
BAD: tuple[Kind, ...] = ("damaged", "missing", "changed")
"""Kinds of findings that make numbers doubtful; the others are worth knowing only."""

Scope = Literal["frame", "unit", "document", "root", "result", "record", "page", "classifier", "input", "file"]
_FOREIGN = (".DS_Store", "Thumbs.db", "desktop.ini")
_FOREIGN_STARTS = ("._", ".nfs", ".smb")


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it was written.

    Attributes
    ----------
    kind
        "damaged", "missing" and "changed" are bad. "leftover" is of an interrupted write of ours, "foreign" a file
        that others put there, "unrecorded" whole but without a record, "unverified" of a version without checksums.
    scope
        What has to be made again to mend it.
    what
        In words, after the file's name.
    """

    kind: Kind
    scope: Scope
    file: Path
    what: str
    plate: Path | None = None
    well: str = ""
    field: int = -1
    timepoint: int = -1
    result: str = ""

    @property
    def place(self) -> str:
        """Plate, well, field and timepoint, as far as it has them."""
        parts = [
            self.plate.name if self.plate is not None else "",
            f"well {self.well}" if self.well else "",
            f"field {self.field}" if self.field >= 0 else "",
            f"timepoint {self.timepoint}" if self.timepoint >= 0 else "",
            f"result {self.result}" if self.result else "",
        ]
        return ", ".join(part for part in parts if part)

    def __str__(self) -> str:
        place = f"{self.place}: " if self.place else ""
        return f"{place}{self.file} {self.what}"


@dataclass
class Checked:
    """What a part of the check read and found."""

    files: int = 0
    size: int = 0
    findings: list[Finding] = field(default_factory=list)
    known: set[Path] = field(default_factory=set)

    def read(self, file: Path) -> bytes:
        """The bytes of a file, counted; empty where it is not there or cannot be read."""
        self.known.add(file)
        try:
            data = file.read_bytes()
        except OSError:
            return b""
        self.files += 1
        self.size += len(data)
        return data

    def add(self, other: Checked) -> None:
        """Take up what another part found."""
        self.files += other.files
        self.size += other.size
        self.findings += other.findings
        self.known |= other.known


Part = Callable[[], Checked]


def plate_parts(path: Path) -> Iterator[Part]:
    """What there is to check of a plate's images and records, in parts that may be checked in any order."""
    try:
        plate = open_plate(path)
    except (StoreError, MissingInputError) as error:
        found = Finding("damaged", "root", path / "zarr.json", f"cannot be used: {error}", path)
        yield lambda: Checked(findings=[found])
        return
    roots = [plate.path, *(sibling.path for sibling in plate.siblings() if sibling.path != plate.path)]
    sealed = any(seal_broken(_bytes(root / "zarr.json")) is False for root in roots)
    yield lambda: _documents(plate, [root / "zarr.json" for root in roots], "root", sealed=sealed)
    for well in plate.wells:
        yield lambda well=well: _well_documents(plate, well, sealed=sealed)  # type: ignore[misc]
        for number in range(plate.fields):
            yield lambda well=well, number=number: check_field(plate, well, number, sealed=sealed)  # type: ignore[misc]


def check_field(plate: Plate, well: str, number: int, *, sealed: bool = True) -> Checked:
    """Check the images of one field at all timepoints against their records, or by themselves where there are none."""
    checked = Checked()
    for timepoint in range(plate.timepoints):
        marker = progress_folder(plate.path) / well / f"{number}_{timepoint}.json"
        place: dict[str, Any] = {"plate": plate.path, "well": well, "field": number, "timepoint": timepoint}
        data = checked.read(marker)
        broken = seal_broken(data)
        if marker.exists() and (not data or broken or (broken is None and sealed)):
            checked.findings.append(Finding("damaged", "frame", marker, "is no whole record", **place))
            continue
        record: dict[str, Any] = {}
        if data:
            try:
                record = read_sealed(marker)
            except (StoreError, OSError):
                checked.findings.append(Finding("damaged", "frame", marker, "is no whole record", **place))
                continue
        checked.add(_frame(plate, place, record))
    return checked


def result_parts(path: Path) -> Iterator[Part]:
    """What there is to check of a plate's or campaign's results, in parts."""
    store = results_path(path)
    names = sorted(part.name for part in store.iterdir() if part.is_dir()) if store.is_dir() else []
    listed = [name for name in names if (store / name / "checksums" / "zarr.json").exists()]
    sealed = seal_broken(_bytes(store / "zarr.json")) is False
    whole = sealed or (bool(names) and len(listed) == len(names))
    yield lambda: _documents(None, [store / "zarr.json"], "document", sealed=whole)
    wells = _wells_of(store)
    for name in names:
        yield lambda name=name: _result(store, name, wells=wells, expected=whole)  # type: ignore[misc]


def strays(root: Path, known: set[Path]) -> list[Finding]:
    """Files below a folder that nothing vouches for: leftovers of ours, and what others put there."""
    found = []
    for folder, _, names in os.walk(root):
        for name in names:
            file = Path(folder) / name
            if name.endswith(".partial") or ".partial/" in f"{Path(folder).relative_to(root.parent).as_posix()}/":
                found.append(Finding("leftover", "file", file, "was left by an interrupted write"))
            elif name in _FOREIGN or name.startswith(_FOREIGN_STARTS):
                found.append(Finding("foreign", "file", file, "was put there by another program"))
            elif file not in known:
                found.append(Finding("foreign", "file", file, "belongs to nothing that is recorded"))
    return found


def chunks_of(plate: Plate, well: str, number: int, timepoint: int) -> dict[Path, int]:
    """Files that one field may have at one timepoint -> inner chunks of each."""
    place = {"field": number, "timepoint": timepoint}
    levels = [
        (level, sibling.together)
        for sibling in plate.siblings()
        if sibling.path != plate.fluorescence_path
        for level in sibling.levels
    ]
    projected = projection_levels(plate.shape_zyx)
    fluorescence, maps = plate.fluorescence_files(well, **place), plate.label_files(well, **place)
    return {
        **{file: _count(*level) for file, level in zip(plate.field_files(well, **place), levels, strict=True)},
        **{file: _count(projected[k % len(projected)], 1) for k, file in enumerate(fluorescence)},
        **{file: _count(level, 1) for file, level in zip(maps, projected, strict=True)},
    }


def _frame(plate: Plate, place: dict[str, Any], record: dict[str, Any]) -> Checked:
    """The images of one field at one timepoint."""
    checked = Checked()
    chunks = chunks_of(plate, place["well"], place["field"], place["timepoint"])
    maps = plate.label_files(place["well"], field=place["field"], timepoint=place["timepoint"])
    images = [file for file in chunks if file not in maps]
    if not record:
        there = [file for file in images if file.exists()]
        for file in there:
            wrong = why_torn(checked.read(file), chunks=chunks[file])
            if wrong:
                checked.findings.append(Finding("damaged", "frame", file, wrong, **place))
        lost = [file for file in plate.field_files(place["well"], **_only(place)) if there and file not in there]
        checked.findings += [
            Finding("missing", "frame", file, "is missing beside others of its frame", **place) for file in lost
        ]
        if there and not lost and not checked.findings and progress_folder(plate.path).exists():
            checked.findings.append(Finding("unrecorded", "frame", there[0], "is whole, but has no record", **place))
        return checked
    for name, size in record["bytes"].items():
        file = plate.path.parent / name
        data = checked.read(file)
        expected = record.get("crc32c_of", {}).get(name)
        if not data:
            checked.findings.append(Finding("missing", "frame", file, _gone(file), **place))
        elif len(data) != size:
            what = f"has {len(data):,} bytes, {size:,} were written"
            checked.findings.append(Finding("damaged", "frame", file, what, **place))
        else:
            wrong = why_torn(data, chunks=chunks[file]) if file in chunks else "is no image of this plate"
            if not wrong and expected is not None and not has_checksum(data, expected):
                wrong = "is whole, but is not what was written"
            if wrong:
                checked.findings.append(Finding("damaged", "frame", file, wrong, **place))
    return checked


def _only(place: dict[str, Any]) -> dict[str, int]:
    return {"field": place["field"], "timepoint": place["timepoint"]}


def _gone(file: Path) -> str:
    return "is empty" if file.exists() else "is missing"


def _well_documents(plate: Plate, well: str, *, sealed: bool) -> Checked:
    """The zarr.json files of a well, without which its images cannot be opened."""
    checked = Checked()
    for sibling in plate.siblings():
        folder = sibling.path / ngff.well_path(well)
        checked.add(_documents(plate, [folder.parent / "zarr.json", folder / "zarr.json"], "document", sealed=sealed))
        for number in range(plate.fields):
            names = ["zarr.json", *(f"{level}/zarr.json" for level in range(len(sibling.levels)))]
            if (folder / str(number) / "labels").is_dir():
                states = [f"labels/states/{level}/zarr.json" for level in range(len(sibling.levels))]
                names += ["labels/zarr.json", "labels/states/zarr.json", *states]
            files = [folder / str(number) / name for name in names]
            checked.add(_documents(plate, files, "document", sealed=sealed, well=well, number=number))
    return checked


def _documents(
    plate: Plate | None, files: list[Path], scope: Scope, *, sealed: bool, well: str = "", number: int = -1
) -> Checked:
    checked = Checked()
    home = plate.path if plate is not None else None
    for file in files:
        data = checked.read(file)
        broken = seal_broken(data)
        if not data:
            checked.findings.append(Finding("missing", scope, file, _gone(file), home, well, number))
        elif broken or (broken is None and sealed):
            what = "was altered after it was written"
            checked.findings.append(Finding("damaged", scope, file, what, home, well, number))
        elif broken is None:
            what = f"is of a version without checksums ({SEAL})"
            checked.findings.append(Finding("unverified", scope, file, what, home, well, number))
    return checked


def _result(store: Path, name: str, *, wells: tuple[str, ...], expected: bool) -> Checked:
    checked = Checked()
    listing = store / name / "checksums" / "zarr.json"
    data = checked.read(listing)
    try:
        files = checksums(store, name)
        broken = bool(data) and seal_broken(data) is not False
    except (StoreError, OSError):
        files, broken = {}, True
    if broken or (not files and expected):
        what = "was altered after it was written" if data else "is missing"
        checked.findings.append(Finding("damaged", "result", listing, what, store, result=name))
        for file in (store / name).rglob("*"):
            checked.known.add(file)
        return checked
    if not files:
        what = "is of a version without checksums"
        checked.findings.append(Finding("unverified", "result", store / name, what, store, result=name))
    for relative, recorded in files.items():
        file = store / name / relative
        checked.known.add(file)
        checked.files += 1
        checked.size += recorded[0]
        wrong = why_other(file, recorded)
        if wrong:
            kind: Kind = "missing" if wrong in ("is missing", "is empty") else "damaged"
            well, number = _place_in(relative, wells)
            checked.findings.append(Finding(kind, "result", file, wrong, store, well, number, result=name))
    return checked


def _place_in(relative: str, wells: tuple[str, ...]) -> tuple[str, int]:
    """Well and field of a chunk of the probabilities."""
    parts = relative.split("/")
    if parts[0] in ("probability", "foreground", "outlier") and len(parts) > 4 and parts[1] == "c":
        number = int(parts[2])
        return (wells[number] if number < len(wells) else ""), int(parts[3])
    return "", -1


def _wells_of(store: Path) -> tuple[str, ...]:
    try:
        return open_plate(store.with_name(store.name.replace(".results.zarr", ".zarr"))).wells
    except (StoreError, MissingInputError):
        return ()


def _count(level: Level, channels: int) -> int:
    return channels * prod(-(-size // step) for size, step in zip(level.shape, level.chunk, strict=True))


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""
