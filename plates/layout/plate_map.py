"""Plate map: what is in each well, read from the table a lab keeps and checked before anything runs."""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import xarray as xr

from ..errors import MissingInputError, PlateMapError
from ..states import DEAD

FORMATS = {6: (2, 3), 12: (3, 4), 24: (4, 6), 48: (6, 8), 96: (8, 12), 384: (16, 24), 1536: (32, 48)}

# Names of columns as laboratories, JUMP and LINCS plate maps, Echo and D300 reports write them; of several
# that are present, the first in this order is read.
COLUMN_NAMES = {
    "well": "well|well position|metadata well|destination well|dispensed well|position|wells|well id",
    "row": "row|well row|dispensed row",
    "column": "column|col|well column|well col|dispensed column|dispensed col",
    "compound": "compound|compound name|pert iname|drug|treatment|fluid name|sample name|compound id|"
    "broad sample|gnumber",
    "dose": "dose|concentration|conc",
    "unit": "unit|units|dose unit|dose units|concentration unit|concentration units|conc unit|conc units",
    "control": "control|control type|role|pert type|content|type",
    "inducer": "inducer|death inducer",
    "replicate": "replicate|rep|replicate id",
    "cell_line": "cell line|cellline|cells|cell",
    "solvent": "solvent|vehicle",
}
CONTROL_WORDS = {
    "negative": "negative|neg|negcon|nc|negative control|neg control|vehicle|vehicle control|solvent|"
    "solvent control|dmso|untreated|mock|ctl vehicle",
    "positive": "positive|pos|poscon|pc|positive control|pos control|inducer|inducer control|poscon cp|poscon diverse",
    "none": "none|no|treatment|treated|sample|compound|test|trt|trt cp",
    "empty": "empty|unused|not used",
}
# Spellings of the molar units, in micromolar. Case matters: mM is not MM, and um is a length.
UNITS = {
    **dict.fromkeys(("M", "mol/l", "mol/L", "molar"), Decimal("1e6")),
    **dict.fromkeys(("mM", "mmol/l", "mmol/L", "millimolar"), Decimal("1e3")),
    **dict.fromkeys(("uM", "umol/l", "umol/L", "micromolar"), Decimal(1)),
    **dict.fromkeys(("nM", "nmol/l", "nmol/L", "nanomolar"), Decimal("1e-3")),
    **dict.fromkeys(("pM", "pmol/l", "pmol/L", "picomolar"), Decimal("1e-6")),
}
_MASS_UNIT = re.compile(r"(?:[munpk]?g/(?:[mud]?l|liter)|%|% ?[wv]/v|ppm)", re.IGNORECASE)
_UNIT_NAMES = {"mmoles per liter": "mM", "mg per ml": "mg/ml"}

_VEHICLE_NAMES = ("dmso", "vehicle", "untreated", "solvent", "mock")
_NO_VALUE = ("", "-", "na", "n/a", "none", "null")
_KNOWN_NAMES = "|".join(COLUMN_NAMES.values()).split("|")
_CONTROLS = {word: control for control, words in CONTROL_WORDS.items() for word in words.split("|")}
_DOSE = re.compile(
    r"([+-]?(?:[0-9]{1,20}(?:[.,][0-9]{1,20})?|[.,][0-9]{1,20})(?:[eE][+-]?[0-9]{1,2})?)\s*([^\s0-9.,].*)?"
)
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}[.,][0-9]{3}(?![0-9])")

MAX_NAME = 200
MAX_ERRORS = 20
MAX_BYTES = 20_000_000
# Fewer vehicle wells than this say next to nothing about their own spread (a judgement, not a standard).
FEW_VEHICLES = 4

_Value = TypeVar("_Value")


@dataclass(frozen=True, eq=False)
class PlateMap:
    """What is in each well of one plate.

    Attributes
    ----------
    table
        One row per well, row-major. Columns: well ("A01"), row and column (from 0), compound, dose
        (micromolar, NaN where there is none), control ("negative", "positive", "none"), inducer (empty
        where there is none), replicate, cell_line, line (in the file, from 1).
    rows, columns
        The plate's format.
    source
        Name of the file.
    sha256
        Of the file's bytes.
    notes
        What is worth a second look but stops nothing, one sentence each.
    """

    table: pd.DataFrame
    rows: int
    columns: int
    source: str
    sha256: str
    notes: tuple[str, ...] = field(default=())

    def to_dataset(self) -> xr.Dataset:
        """Return the map as the stored result `layout`: dimension well, doses in micromolar."""
        texts = {
            name: ("well", self.table[name].to_numpy(dtype=object))
            for name in ("compound", "control", "inducer", "cell_line")
        }
        numbers = {name: ("well", self.table[name].to_numpy(dtype="int64")) for name in ("replicate", "row", "column")}
        dose = ("well", self.table["dose"].to_numpy(dtype="float64"), {"units": "uM"})
        return xr.Dataset(
            {**texts, "dose": dose, **numbers},
            coords={"well": ("well", self.table["well"].to_numpy(dtype=object))},
            attrs={"source": self.source, "sha256": self.sha256, "dose_unit": "uM"},
        )

    def check_against(self, imaged: Iterable[str]) -> list[str]:
        """Say how the map and the imaged wells differ, one sentence each; nothing where they agree.

        Parameters
        ----------
        imaged
            Names of the wells that have acquisitions, in any accepted spelling.
        """
        seen = {well_name(*parse_well(well)) for well in imaged}
        mapped = set(self.table["well"])
        found = []
        beyond = [well for well in seen if not _inside(parse_well(well), (self.rows, self.columns))]
        if beyond:
            found.append(
                f"{self.source} describes a {self.rows * self.columns}-well plate, but wells outside it were "
                f"imaged: {_listed(sorted(beyond))}. Is it the map of another plate?"
            )
        if seen - mapped:
            found.append(f"Imaged, but not in {self.source}: {_listed(sorted(seen - mapped))}.")
        if mapped - seen:
            found.append(f"In {self.source}, but not imaged: {_listed(sorted(mapped - seen))}.")
        return found


def read_plate_map(path: Path, *, dose_unit: str | None = None, plate_format: int | None = None) -> PlateMap:
    """Read and check a plate map kept as a table, one row per well.

    Every cell is read as text: a compound called "NA" stays one. Comma, tab and semicolon separate cells;
    UTF-8 and UTF-16 are read. Nothing is guessed: what can be read in two ways is refused.

    Parameters
    ----------
    path
        The CSV or TSV file; its first line names the columns.
    dose_unit
        Unit of doses that carry none in their cell, column name or unit column.
    plate_format
        Number of wells of the plate; the smallest format that holds all wells where it is not given.

    Raises
    ------
    PlateMapError
        Names every fault of the file with its line, well and remedy.
    MissingInputError
        There is no such file.
    """
    path = Path(path)
    problems = _Problems(path.name)
    if dose_unit is not None:
        problems.attempt(0, "", micromolar_per, dose_unit)
    if plate_format is not None and plate_format not in FORMATS:
        problems.add(0, f"no plate has {plate_format} wells. Expected one of {_listed(FORMATS)}.")
    problems.stop()
    data = _read_bytes(path)
    text = _decode(data, problems)
    problems.stop()
    table = _read_table(text, problems)
    rows = _read_rows(table, dose_unit=dose_unit, problems=problems)
    shape = _fit_format([row.position for row in rows], plate_format)
    for row in rows:
        if not _inside(row.position, shape):
            what = f"lies outside a {shape[0] * shape[1]}-well plate. Correct the well or the plate's format."
            problems.add(row.line, what, well=row.well)
    empty = [row.well for row in rows if row.control == "empty"]
    rows = sorted((row for row in rows if row.control != "empty"), key=lambda row: row.position)
    if not rows and not problems.found:
        problems.add(0, "holds no wells. Expected one line per well below the column names.")
    problems.stop()
    _number_replicates(rows)
    frame = pd.DataFrame(
        {
            "well": [row.well for row in rows],
            "row": [row.position[0] for row in rows],
            "column": [row.position[1] for row in rows],
            "compound": [row.compound for row in rows],
            "dose": [row.dose for row in rows],
            "control": [row.control for row in rows],
            "inducer": [row.inducer for row in rows],
            "replicate": [row.replicate for row in rows],
            "cell_line": [row.cell_line for row in rows],
            "line": [row.line for row in rows],
        }
    )
    notes = [*table.notes, *([f"Left out as empty: {_listed(empty)}."] if empty else []), *_remarks(frame)]
    digest = hashlib.sha256(data).hexdigest()
    return PlateMap(frame, rows=shape[0], columns=shape[1], source=path.name, sha256=digest, notes=tuple(notes))


def parse_well(text: str) -> tuple[int, int]:
    """Return row and column, both from 0, of a well written as A1, a01, A:1 or A-01, up to AF48.

    Raises
    ------
    PlateMapError
        The text is not the name of a well ("13", "1E5", "AG1").
    """
    match = re.fullmatch(r"([A-Za-z]{1,2})[:_\-]?0{0,2}([1-9][0-9]?)", text.strip())
    if match is None:
        raise PlateMapError(f"{_shown(text)} is not a well. Expected a letter and a number such as 'A01'.")
    letters = match[1].upper()
    row = ord(letters[-1]) - ord("A") + 26 * (ord(letters[0]) - ord("A") + 1) * (len(letters) - 1)
    column = int(match[2]) - 1
    if not _inside((row, column), FORMATS[1536]):
        raise PlateMapError(f"{_shown(text)} lies outside a 1536-well plate, whose last well is AF48.")
    return row, column


def well_name(row: int, column: int) -> str:
    """Return the name, such as "A01", of the well in this row and column, both from 0."""
    letters = chr(ord("A") + row) if row < 26 else "A" + chr(ord("A") + row - 26)
    return f"{letters}{column + 1:02d}"


def micromolar_per(unit: str) -> Decimal:
    """Return how many micromolar one of this unit is.

    Raises
    ------
    PlateMapError
        It is no molar unit; the message says which one may be meant.
    """
    spelled = _one_micro(unit.strip())
    if spelled in UNITS:
        return UNITS[spelled]
    if _MASS_UNIT.fullmatch(spelled):
        raise PlateMapError(
            f"unit {_shown(unit)} cannot be turned into uM: the molecular weight is unknown. "
            "Expected M, mM, uM, nM or pM."
        )
    near = [known for known in UNITS if known.casefold() == spelled.casefold()]
    hint = f" Did you mean {near[-1]}?" if near else ""
    raise PlateMapError(f"unit {_shown(unit)} is not a concentration.{hint} Expected M, mM, uM, nM or pM.")


@dataclass
class _Row:
    """One well as understood; dose in micromolar, replicate 0 where the file leaves it open."""

    line: int
    position: tuple[int, int]
    compound: str
    dose: float
    control: str
    inducer: str
    replicate: int
    cell_line: str

    @property
    def well(self) -> str:
        return well_name(*self.position)


class _Problems:
    """Collects every fault of a file, so that the user mends them all at once."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.found: list[tuple[int, str]] = []

    def add(self, line: int, what: str, *, well: str = "") -> None:
        place = "".join([f", line {line}" if line else "", f", well {well}" if well else ""])
        self.found.append((line, f"{self.source}{place}: {what}"))

    def attempt(self, line: int, well: str, parse: Callable[..., _Value], *cells: object) -> _Value | None:
        """Return what `parse` makes of the cells, or None with its complaint noted."""
        try:
            return parse(*cells)
        except PlateMapError as error:
            self.add(line, str(error), well=well)
            return None

    def stop(self) -> None:
        if not self.found:
            return
        lines = [text for _, text in sorted(self.found, key=lambda fault: fault[0])]
        if len(lines) > 1:
            lines.insert(0, f"{self.source} has {len(lines)} errors:")
        if len(lines) > MAX_ERRORS + 1:
            lines = [*lines[: MAX_ERRORS + 1], f"... and {len(lines) - MAX_ERRORS - 1} more."]
        raise PlateMapError("\n".join(lines))


def _read_bytes(path: Path) -> bytes:
    if not path.is_file():
        raise MissingInputError(f"Plate map {path} does not exist or is not a file. Correct the path.")
    if path.stat().st_size > MAX_BYTES:
        raise PlateMapError(f"{path.name} is larger than {MAX_BYTES // 10**6} MB: this is not a plate map.")
    return path.read_bytes()


def _decode(data: bytes, problems: _Problems) -> str:
    if data.startswith(b"PK\x03\x04"):
        problems.add(0, "is an Excel workbook or a zip file. Save the sheet as 'CSV UTF-8' and give that.")
        return ""
    encoding = "utf-8-sig"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif b"\x00" in data[:2]:  # UTF-16 without its mark: the other half of the first letter is zero
        encoding = "utf-16-be" if data[0] == 0 else "utf-16-le"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = len(data[: error.start].decode(encoding, "ignore").splitlines() or [""])
        kind = "UTF-16" if encoding.startswith("utf-16") else "UTF-8"
        problems.add(line, f"is not {kind} text. Save the table as 'CSV UTF-8'.")
        return ""


@dataclass
class _Table:
    """The file as text: below the column names, each line's cells by what they say ("well", "dose", ...)."""

    lines: list[tuple[int, dict[str, str]]]
    header_unit: str
    separator: str
    notes: list[str]


def _read_table(text: str, problems: _Problems) -> _Table:
    first, _, rest = text.partition("\n")
    stated = re.fullmatch(r'"?sep=([,;\t])"?\s*', first)  # Excel's way to state the separator
    if stated:
        text = "\n" + rest
    head = next((line for line in text.splitlines() if line.strip(" \t,;")), "")
    separator = stated[1] if stated else max("\t;,", key=lambda mark: _count_known(head.split(mark)))
    lines = _split(text, separator, problems) if head else []
    if not lines:
        problems.add(0, "is empty. Expected a line of column names and one line per well.")
        problems.stop()
    (line, header), *body = lines
    header = [cell.strip() for cell in header]
    roles, header_unit = _name_columns(header, line=line, problems=problems)
    problems.stop()
    named = []
    for line, cells in body:
        if len(cells) < len(header) or any(cell.strip() for cell in cells[len(header) :]):
            what = f"has {len(cells)} cells, but there are {len(header)} columns."
            problems.add(line, f"{what} Is a decimal comma read as a separator, or the line cut off?")
        else:
            named.append((line, {role: cells[i].strip() for role, i in roles.items()}))
    return _Table(named, header_unit, separator, _unused(header, used=set(roles.values())))


def _split(text: str, separator: str, problems: _Problems) -> list[tuple[int, list[str]]]:
    """Return number and cells of each line that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    lines = []
    start = 1
    try:
        for cells in reader:
            if any("\n" in cell or "\r" in cell for cell in cells):
                # an open quotation mark would swallow the wells up to the next one
                what = "a cell goes over several lines. Is a quotation mark left open?"
                problems.add(start, what)
            elif any(cell.strip() for cell in cells):
                lines.append((start, cells))
            start = reader.line_num + 1
    except csv.Error as error:
        problems.add(start, f"cannot be split into cells ({error}). Check its quotation marks.")
    problems.stop()
    return lines


def _name_columns(header: list[str], *, line: int, problems: _Problems) -> tuple[dict[str, int], str]:
    """Return which column holds what, and the unit that the dose column's name carries."""
    plain = [_plain(name) for name in header]
    for name in sorted({name for name in plain if name and plain.count(name) > 1}):
        problems.add(line, f"column {_shown(header[plain.index(name)])} is there twice. Rename one.")
    present = {
        role: [plain.index(name) for name in names.split("|") if name in plain] for role, names in COLUMN_NAMES.items()
    }
    roles = {role: columns[0] for role, columns in present.items() if columns}
    dose, unit = _find_dose(header, plainly=present["dose"], line=line, problems=problems)
    if dose is not None:
        roles["dose"] = dose
    if "well" in roles:
        roles.pop("row", None)
        roles.pop("column", None)
    elif not {"row", "column"} <= roles.keys():
        problems.add(line, f"no column names the well. Expected 'well' among {_listed(map(_shown, header))}.")
    if not roles.keys() & {"compound", "control", "solvent"}:
        problems.add(line, f"no column names the compound. Expected 'compound' among {_listed(map(_shown, header))}.")
    return roles, unit


def _find_dose(header: list[str], *, plainly: list[int], line: int, problems: _Problems) -> tuple[int | None, str]:
    units = {i: unit for i, name in enumerate(header) if (unit := _unit_in_name(name))}
    doses = sorted({*plainly, *units})
    # LINCS maps hold mg_per_ml beside mmoles_per_liter: the molar column is the one to read
    molar = [i for i in doses if not _MASS_UNIT.fullmatch(units.get(i, ""))]
    if len(molar) > 1:
        listed = _listed(_shown(header[i]) for i in molar)
        problems.add(line, f"several columns could be the dose: {listed}. Keep one.")
    if not doses:
        for name in header:
            if re.match(r"(dose|conc)", _plain(name)) and _plain(name) not in COLUMN_NAMES["unit"].split("|"):
                what = f"column {_shown(name)} may be the dose, but its unit is not understood."
                problems.add(line, f"{what} Rename it, for example to 'dose (uM)'.")
        return None, ""
    dose = (molar or doses)[0]
    if dose in units:
        problems.attempt(line, "", micromolar_per, units[dose])
    return dose, units.get(dose, "")


def _count_known(names: list[str]) -> int:
    names = [name.strip().strip('"') for name in names]
    return sum(_plain(name) in _KNOWN_NAMES or bool(_unit_in_name(name)) for name in names)


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-.]+", " ", name.casefold()).strip()


def _unit_in_name(name: str) -> str:
    """Return the unit in a column's name such as "dose (uM)" or "conc_nM"; empty where there is none."""
    if _plain(name) in _UNIT_NAMES:
        return _UNIT_NAMES[_plain(name)]
    match = re.fullmatch(r"(?i:dose|concentration|conc)[\s_.]*(?:in(?=[\s_]))?[\s_.\[(/,-]+(\S+?)[\])]?", name.strip())
    if match is None:
        return ""
    unit = match[1].replace("_per_", "/")
    spellings = {known.casefold() for known in UNITS}
    return unit if _one_micro(unit).casefold() in spellings or _MASS_UNIT.fullmatch(unit) else ""


def _unused(header: list[str], *, used: set[int]) -> list[str]:
    notes = []
    for i, name in enumerate(header):
        if i not in used and name and _plain(name) not in _KNOWN_NAMES:
            guess = difflib.get_close_matches(_plain(name), _KNOWN_NAMES, n=1, cutoff=0.8)
            hint = f" Did you mean '{guess[0]}'?" if guess else ""
            notes.append(f"Column {_shown(name)} is not used.{hint}")
    return notes


def _read_rows(table: _Table, *, dose_unit: str | None, problems: _Problems) -> list[_Row]:
    marks = _decimal_marks([cells.get("dose", "") for _, cells in table.lines], table.separator)
    first_line: dict[tuple[int, int], int] = {}
    rows = []
    for line, cells in table.lines:
        where = cells["well"] if "well" in cells else f"{cells['row']}:{cells['column']}"
        position = problems.attempt(line, "", parse_well, where)
        if position is None:
            continue
        if position in first_line:
            what = f"the well is already described in line {first_line[position]}. Keep one of the two."
            problems.add(line, what, well=well_name(*position))
            continue
        first_line[position] = line
        units = (cells.get("unit", ""), table.header_unit, dose_unit or "")
        row = _read_row(line, position, cells, units=units, marks=marks, problems=problems)
        if row is not None:
            rows.append(row)
    _check_complete(rows, problems)
    return rows


def _read_row(
    line: int,
    position: tuple[int, int],
    cells: dict[str, str],
    *,
    units: tuple[str, str, str],
    marks: frozenset[str],
    problems: _Problems,
) -> _Row | None:
    """Return one well, or None with its faults noted."""

    def attempt(parse: Callable[..., _Value], *values: object) -> _Value | None:
        return problems.attempt(line, well_name(*position), parse, *values)

    names = {
        role: attempt(_name, cells.get(role, ""), role.replace("_", " "))
        for role in ("compound", "inducer", "cell_line", "solvent")
    }
    control = attempt(_control, cells.get("control", ""))
    dose = attempt(_dose, cells.get("dose", ""), units, marks)
    replicate = attempt(_replicate, cells.get("replicate", ""))
    if control is None or dose is None or replicate is None:
        return None
    texts = {role: text for role, text in names.items() if text is not None}
    if len(texts) < len(names):
        return None
    row = _Row(line, position, texts["compound"], dose, control, texts["inducer"], replicate, texts["cell_line"])
    return attempt(_understand, row, texts["solvent"])


def _understand(row: _Row, solvent: str) -> _Row:
    """Settle what the well is from what its cells say together."""
    if solvent.casefold() in _NO_VALUE:
        solvent = ""
    if row.control == "":
        # a blank compound in a solvent is the vehicle control of Broad and JUMP plate maps
        vehicle = row.compound.casefold() in _VEHICLE_NAMES or (not row.compound and bool(solvent))
        row.control = "negative" if vehicle else "none"
    if row.inducer.casefold() in _NO_VALUE:
        row.inducer = ""
    row.inducer = next((state for state in DEAD if state == row.inducer.casefold()), row.inducer)
    if row.control == "empty":
        return row
    if row.control == "positive" and not row.inducer:
        raise PlateMapError("a positive control without inducer. Write which death it induces, such as 'apoptosis'.")
    if row.control != "positive" and row.inducer:
        what = f"inducer {_shown(row.inducer)}, but the well is not a positive control."
        raise PlateMapError(f"{what} Write 'positive' in the control column or clear the inducer.")
    if not row.compound and row.control == "none":
        raise PlateMapError(
            "neither compound nor control. Write the compound, or 'negative' as control of a vehicle well, "
            "or delete the line."
        )
    if not row.compound:
        row.compound = row.inducer or solvent or "vehicle"
    if row.control == "negative" and row.dose > 0:
        raise PlateMapError(f"a vehicle control with dose {row.dose:g} uM. Clear the dose or the control.")
    if row.control != "negative" and row.dose == 0:
        raise PlateMapError(
            f"dose 0 of {_shown(row.compound)}. Write 'negative' as its control if it is a vehicle well."
        )
    return row


def _check_complete(rows: list[_Row], problems: _Problems) -> None:
    """Note what a well lacks that others of the plate have; screens at one dose may leave the dose out."""
    treated = [row for row in rows if row.control == "none"]
    if any(row.dose > 0 for row in treated):
        for row in treated:
            if np.isnan(row.dose):
                what = f"no dose of {_shown(row.compound)}. Write one such as '10 uM', or 'negative' as control."
                problems.add(row.line, what, well=row.well)
    if any(row.replicate for row in rows):
        for row in rows:
            if not row.replicate and row.control != "empty":
                problems.add(row.line, "no replicate, but other wells have one. Write its number.", well=row.well)


def _name(text: str, role: str) -> str:
    if re.fullmatch(r"#(N/A|REF!|VALUE!|DIV/0!|NAME\?|NUM!|NULL!)", text):
        raise PlateMapError(f"{role} {text} is a formula's error. Write the name itself.")
    if any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in text):
        raise PlateMapError(f"{role} {_shown(text)} holds an invisible character. Type the name again.")
    if len(text) > MAX_NAME:
        raise PlateMapError(f"{role} {_shown(text)} is longer than {MAX_NAME} characters. Shorten it.")
    return text


def _control(text: str) -> str:
    """Return "negative", "positive", "none", "empty", or "" where the cell leaves it open."""
    word = _plain(text)
    if word in _NO_VALUE and word != "none":
        return ""
    if word in _CONTROLS:
        return _CONTROLS[word]
    guess = difflib.get_close_matches(word, _CONTROLS, n=1, cutoff=0.6)
    hint = f" Did you mean '{guess[0]}'?" if guess else ""
    raise PlateMapError(f"control {_shown(text)} is not known. Expected negative, positive or none.{hint}")


def _dose(text: str, units: tuple[str, str, str], marks: frozenset[str]) -> float:
    """Return micromolar, NaN for a blank cell; `units` are the line's, the column's and the fallback."""
    if text.casefold() in _NO_VALUE:
        return float("nan")
    match = _DOSE.fullmatch(text)
    if match is None:
        raise PlateMapError(
            f"dose {_shown(text)} is not a concentration. Expected a number with a unit such as '10 uM'."
        )
    number, unit = match[1], match[2]
    _check_mark(number, marks)
    value = Decimal(number.replace(",", "."))
    if value < 0:
        raise PlateMapError(
            f"dose {_shown(text)} is negative. Expected a concentration; write logarithms out, 1 uM for -6."
        )
    stated = [name for name in (unit, *units[:2]) if name]
    if len({micromolar_per(name) for name in stated}) > 1:
        raise PlateMapError(f"dose {_shown(text)} is given in {' and '.join(stated)}. Keep one unit.")
    unit = (*stated, units[2])[0]
    if unit:
        value *= micromolar_per(unit)
    elif value:
        raise PlateMapError(
            f"dose {_shown(text)} has no unit. Write it as in '{number} uM', name the column as in "
            "'dose (uM)', or give dose_unit once for the plate."
        )
    dose = float(value)  # through Decimal, so that 300 nM and 0.3 uM are the same number
    if value and not 1e-9 <= dose <= 1e8:
        raise PlateMapError(f"dose {_shown(text)} cannot be meant: outside 1 fM to 100 M.")
    return dose


def _decimal_marks(doses: list[str], separator: str) -> frozenset[str]:
    """Return the marks ("." or ",") that stand for decimals beyond doubt somewhere in the file."""
    numbers = [match[1] for text in doses if (match := _DOSE.fullmatch(text))]
    proven = {mark for n in numbers for mark in ".," if mark in n and not _THOUSANDS.match(n)}
    # where the comma separates cells (or the tab), a lone point is the usual decimal mark
    return frozenset(proven or ({"."} if separator != ";" else set()))


def _check_mark(number: str, marks: frozenset[str]) -> None:
    """Refuse 1,000 where it may be one or one thousand, and files that mix decimal marks."""
    mark = next((mark for mark in ".," if mark in number), "")
    if mark == "," and len(marks) > 1:
        raise PlateMapError(f"dose {_shown(number)} has a decimal comma, other doses a decimal point. Use one.")
    if mark and mark not in marks:
        whole, decimals = number.split(mark)
        meant = f"{whole}{decimals} or {whole}{',' if ',' in marks else '.'}{decimals}0"
        raise PlateMapError(f"dose {_shown(number)} may be read in two ways. Write {meant}.")


def _one_micro(unit: str) -> str:
    return unit.replace("\N{MICRO SIGN}", "u").replace("\N{GREEK SMALL LETTER MU}", "u")


def _replicate(text: str) -> int:
    """Return the number, 0 where the cell is blank."""
    if text.casefold() in _NO_VALUE:
        return 0
    match = re.fullmatch(r"(?:r|rep|replicate)?[ _.-]?0{0,3}([1-9][0-9]{0,3})(?:\.0)?", text, re.IGNORECASE)
    if match is None:
        raise PlateMapError(f"replicate {_shown(text)} is not a number. Expected 1, 2, 3 ...")
    return int(match[1])


def _fit_format(positions: list[tuple[int, int]], wells: int | None) -> tuple[int, int]:
    if wells is not None:
        return FORMATS[wells]
    fits = [shape for shape in FORMATS.values() if all(_inside(p, shape) for p in positions)]
    return fits[0]


def _inside(position: tuple[int, int], shape: tuple[int, int]) -> bool:
    return position[0] < shape[0] and position[1] < shape[1]


def _number_replicates(rows: list[_Row]) -> None:
    """Number the wells of one compound and dose from 1, where the file leaves it to us."""
    count: Counter[tuple[str, str, str, str]] = Counter()
    for row in rows:
        alike = (row.compound, str(row.dose), row.control, row.cell_line)
        count[alike] += 1
        row.replicate = row.replicate or count[alike]


def _remarks(table: pd.DataFrame) -> list[str]:
    """Say what is worth a second look, in the order of how much harm it can do."""
    vehicles = int((table["control"] == "negative").sum())
    treated = table[table["control"] == "none"]
    notes = []
    if vehicles == 0:
        notes.append("No vehicle wells: death cannot be compared with untreated cells.")
    elif vehicles < FEW_VEHICLES:
        notes.append(f"Vehicle wells: only {vehicles}, which says little about their spread.")
    if not (table["control"] == "positive").any():
        notes.append("No positive controls: death cannot be given in percent of an inducer's.")
    notes.extend(_odd_names(table))
    if len(treated) and treated["dose"].isna().all():
        notes.append("No doses: read as a screen at one unknown dose, without dose-response curves.")
        return notes
    doses = treated.groupby("compound")["dose"].nunique()
    if (doses == 1).any():
        notes.append(f"One dose only, hence no curve: {_listed(list(doses.index[doses == 1]))}.")
    wells = treated.groupby(["compound", "dose"]).size()
    if (wells == 1).any():
        lone = [f"{compound} {dose:g} uM" for compound, dose in wells.index[wells == 1]]
        notes.append(f"A single well each: {_listed(lone)}.")
    return notes


def _odd_names(table: pd.DataFrame) -> list[str]:
    notes = []
    spellings: dict[str, dict[str, int]] = {}
    for name, line in zip(table["compound"], table["line"], strict=True):
        key = "".join(unicodedata.normalize("NFKC", name).casefold().split())
        spellings.setdefault(key, {}).setdefault(name, line)
    for alike in spellings.values():
        if len(alike) > 1:
            places = " and ".join(f"{_shown(name)} (line {line})" for name, line in alike.items())
            notes.append(f"Taken as different compounds, though they differ in spelling only: {places}.")
    months = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
    date = re.compile(rf"[0-9]{{1,2}}-(?:{months})(?:-[0-9]+)?|(?:{months})-[0-9]{{2}}", re.IGNORECASE)
    dates = [name for name in dict.fromkeys(table["compound"]) if date.fullmatch(name)]
    if dates:
        notes.append(f"Compounds that look like dates, as Excel makes them of names: {_listed(dates)}.")
    inducers = dict.fromkeys(table["inducer"])
    for name in inducers:
        guess = difflib.get_close_matches(name.casefold(), DEAD, n=1, cutoff=0.8)
        if guess and name not in DEAD:
            notes.append(f"Inducer {_shown(name)} is read as a name of its own. Did you mean '{guess[0]}'?")
    return notes


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")


def _listed(names: Iterable[object]) -> str:
    texts = [str(name) for name in names]
    more = f" and {len(texts) - 12} more" if len(texts) > 12 else ""
    return ", ".join(texts[:12]) + more
