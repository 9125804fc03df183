"""Plate maps of the Broad Institute: their blanks, the table of compounds beside them, the map of barcodes."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import MissingInputError, PlateMapError
from .columns import COLUMN_NAMES, plain_name
from .doses import NO_VALUE
from .problems import Problems, listed, shown
from .rows import CONTROL_WORDS
from .table import Table
from .text import Lines, read_bytes, read_lines

_SAMPLE = "broad sample"
_SAMPLE_IDS = ("pert id", "broad id")
_NAMES = ("pert iname", "compound name", "compound", "drug", "name")
_BARCODES = ("assay plate barcode", "plate barcode", "barcode", "plate")
_MAPS = ("plate map name", "platemap name", "platemap", "plate map")
_MAP_SUFFIXES = (".txt", ".csv", ".tsv", ".xlsx")


def platemap_of(barcode_map: Path, barcode: str, *, folder: Path | None = None) -> Path:
    """Return the plate map of a plate, found by the plate's barcode.

    Parameters
    ----------
    barcode_map
        Table with columns such as Assay_Plate_Barcode and Plate_Map_Name.
    barcode
        Of the plate; capitals do not matter.
    folder
        Where the plate maps are; where it is None, the folder `platemap` beside the barcode map, or else the
        barcode map's own.

    Raises
    ------
    PlateMapError
        The table is not one of barcodes, names the barcode not at all or for two maps.
    MissingInputError
        The table or the plate map it names is not there.
    """
    barcode_map = Path(barcode_map)
    problems = Problems(barcode_map.name)
    lines = _read(barcode_map, what="Barcode map", problems=problems)
    header = lines.rows[0][1]
    barcodes, maps = (_find(header, names, problems) for names in (_BARCODES, _MAPS))
    names: dict[str, dict[str, int]] = {}
    for line, cells in lines.rows[1:]:
        names.setdefault(cells[barcodes].casefold(), {}).setdefault(cells[maps], line)
    found = names.get(barcode.strip().casefold(), {})
    if not found:
        near = difflib.get_close_matches(barcode.casefold(), names, n=1, cutoff=0.8)
        hint = f" Did you mean {near[0].upper()}?" if near else ""
        raise PlateMapError(f"{barcode_map.name} names no plate {shown(barcode)} among {len(names)}.{hint}")
    if len(found) > 1:
        places = " and ".join(f"{shown(name)} (line {line})" for name, line in found.items())
        raise PlateMapError(f"{barcode_map.name} gives plate {shown(barcode)} two plate maps: {places}. Keep one.")
    return _map_file(next(iter(found)), barcode_map, folder)


def settle_blanks(table: Table) -> None:
    """Read a broad_sample of "NA" as blank, as it is meant there, and a well without sample and solvent as empty."""
    if plain_name(table.names.get("compound", "")) != _SAMPLE:
        return
    for entry in table.entries:
        cells = entry.cells
        if cells["compound"].casefold() in NO_VALUE:
            cells["compound"] = ""
            if not any(_given(cells.get(role, "")) for role in ("solvent", "control", "inducer")):
                cells["control"] = "empty"


def join_compounds(table: Table, path: Path) -> bytes:
    """Fill in the name, control type, inducer and molecular weight of compounds from a table of compounds.

    The table is joined by its column of the same name as the plate map's compounds; `broad_sample` also by
    `pert_id`, which is its beginning. What the plate map says itself stays. Positive controls of unknown
    inducer are taken as compounds to be judged, with a note: those of the Broad Institute change how cells
    look, not how they die.

    Returns
    -------
    The bytes of the table.

    Raises
    ------
    PlateMapError, MissingInputError
        The table cannot be joined, contradicts itself, or is not there.
    """
    path = Path(path)
    problems = Problems(path.name)
    compounds = _read_compounds(path, table.names.get("compound", ""), problems)
    problems.stop()
    unknown: dict[str, None] = {}
    named: dict[str, dict[str, None]] = {}
    judged = 0
    for entry in table.entries:
        cells = entry.cells
        sample = cells.get("compound", "")
        cells_of_sample = compounds.records.get(_key(sample, compounds.by_beginning))
        if cells_of_sample is None:
            if _given(sample):
                unknown.setdefault(sample)
            continue
        from_here = {role: text for role, text in cells_of_sample.items() if _given(text)}
        if cells.get("control") == "empty":
            continue
        if not _given(sample) and _given(cells.get("solvent", "")):
            from_here.pop("compound", None)  # the well's own solvent says better which vehicle it holds
        if "compound" in from_here:
            named.setdefault(from_here["compound"], {}).setdefault(sample)
        is_positive = plain_name(from_here.get("control", "")) in CONTROL_WORDS["positive"].split("|")
        if is_positive and not _given(from_here.get("inducer", "")) and not _given(cells.get("inducer", "")):
            from_here["control"] = "none"
            judged += not _given(cells.get("control", ""))
        for role, text in from_here.items():
            if role == "compound" or not _given(cells.get(role, "")):
                cells[role] = text
    for role, name in compounds.names.items():
        table.names.setdefault(role, name)
    table.notes.extend(_notes(path.name, unknown, named, judged))
    return path.read_bytes()


@dataclass
class _Compounds:
    """The table of compounds: for each sample's key, what it says for each role; the columns' names by role."""

    records: dict[str, dict[str, str]]
    names: dict[str, str]
    by_beginning: bool


def _read_compounds(path: Path, sample_name: str, problems: Problems) -> _Compounds:
    lines = _read(path, what="Compound table", problems=problems)
    header = lines.rows[0][1]
    plain = [plain_name(name) for name in header]
    by_beginning = plain_name(sample_name) not in plain and plain_name(sample_name) == _SAMPLE
    keys = _SAMPLE_IDS if by_beginning else (plain_name(sample_name),)
    key = next((plain.index(name) for name in keys if name in plain), None)
    if not sample_name:
        problems.add(0, "cannot be joined: no column of the plate map names the compounds. Expected 'compound'.")
        problems.stop()
    if key is None:
        what = f"has no column {shown(sample_name)}, by which the plate map names its compounds"
        problems.add(lines.rows[0][0], f"{what}. Its columns are {listed(map(shown, header))}.")
        problems.stop()
        raise KeyError(sample_name)  # stop() has raised
    wanted = {role: COLUMN_NAMES[role].split("|") for role in ("control", "inducer", "weight")}
    wanted["compound"] = list(_NAMES)
    places: dict[str, int] = {}
    for role, names in wanted.items():
        place = next((plain.index(name) for name in names if name in plain and plain.index(name) != key), None)
        if place is not None:
            places[role] = place
    records: dict[str, dict[str, str]] = {}
    first_line: dict[str, int] = {}
    for line, cells in lines.rows[1:]:
        sample = _key(cells[key], by_beginning)
        record = {role: cells[place] for role, place in places.items()}
        if records.setdefault(sample, record) != record:
            what = f"{shown(cells[key])} is described otherwise in line {first_line[sample]}. Keep one of the two."
            problems.add(line, what)
        first_line.setdefault(sample, line)
    return _Compounds(records, {role: header[place] for role, place in places.items()}, by_beginning)


def _notes(source: str, unknown: dict[str, None], named: dict[str, dict[str, None]], judged: int) -> list[str]:
    notes = []
    if unknown:
        notes.append(f"Not in {source}, hence called as in the plate map: {listed(unknown)}.")
    several = [f"{name} ({', '.join(samples)})" for name, samples in named.items() if len(samples) > 1]
    if several:
        notes.append(f"Taken as one compound, since {source} gives them one name: {listed(several)}.")
    if judged:
        notes.append(
            f"{judged} wells are positive controls in {source}, but of no stated death: taken as compounds to be "
            "judged. Give the death in a column 'inducer' to use them as controls."
        )
    return notes


def _read(path: Path, *, what: str, problems: Problems) -> Lines:
    lines = read_lines(read_bytes(path, what=what), sheet=None, problems=problems)
    if not lines.rows:
        problems.add(0, "is empty. Expected a line of column names.")
    width = len(lines.rows[0][1]) if lines.rows else 0
    for line, cells in lines.rows[1:]:
        if len(cells) < width:
            problems.add(line, f"has {len(cells)} cells, but there are {width} columns. Is the line cut off?")
    problems.stop()
    return lines


def _find(header: list[str], names: tuple[str, ...], problems: Problems) -> int:
    plain = [plain_name(name) for name in header]
    place = next((plain.index(name) for name in names if name in plain), None)
    if place is None:
        problems.add(0, f"has no column {shown(names[0])}. Its columns are {listed(map(shown, header))}.")
        problems.stop()
        raise KeyError(names[0])  # stop() has raised
    return place


def _map_file(name: str, barcode_map: Path, folder: Path | None) -> Path:
    if folder is None:
        beside = barcode_map.parent / "platemap"
        folder = beside if beside.is_dir() else barcode_map.parent
    if not name or Path(name).name != name:
        raise PlateMapError(f"{barcode_map.name} names a plate map {shown(name)}. Expected the name of a file.")
    named = [folder / name, *(folder / f"{name}{suffix}" for suffix in _MAP_SUFFIXES)]
    found = [path for path in named if path.is_file()]
    if not found:
        raise MissingInputError(f"{folder} holds no plate map {shown(name)}, which {barcode_map.name} names. Add it.")
    if len(found) > 1:
        raise PlateMapError(
            f"{folder} holds several plate maps {shown(name)}: {listed(p.name for p in found)}. Keep one."
        )
    return found[0]


def _key(sample: str, by_beginning: bool) -> str:
    if not _given(sample):
        return ""
    beginning = re.match(r"BRD-[A-Z][0-9]{8}", sample) if by_beginning else None
    return beginning[0] if beginning else sample


def _given(text: str) -> bool:
    return text.casefold() not in NO_VALUE
