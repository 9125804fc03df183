"""What each well is, settled from what its cells say together; contradictions are refused."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ..errors import PlateMapError
from ..states import DEAD
from .columns import plain_name
from .doses import NO_VALUE, Dose, DoseColumn, proven_marks, read_dose
from .problems import Problems, shown
from .roles import COMBINATION
from .second import VEHICLE_NAMES, VEHICLES, Second, complete_pairs, read_second, settle_second
from .table import Entry, Table
from .units import read_unit
from .wells import parse_well, well_name

CONTROL_WORDS = {
    "negative": "negative|neg|negcon|nc|negative control|neg control|vehicle|vehicle control|solvent|"
    "solvent control|dmso|untreated|mock|ctl vehicle",
    "positive": "positive|pos|poscon|pc|positive control|pos control|inducer|inducer control|poscon cp|"
    "poscon diverse|poscon orf",
    "none": "none|no|treatment|treated|sample|compound|test|trt|trt cp|combination|combo",
    "empty": "empty|unused|not used",
}
MAX_NAME = 200
_CONTROLS = {word: control for control, words in CONTROL_WORDS.items() for word in words.split("|")}
_NOT_MASKED = ("no", "n", "0", "false", "f", "keep", "use", "used", "ok")
_BARELY_MASKED = ("yes", "y", "1", "true", "t", "x", "mask", "masked", "exclude", "excluded")

_Value = TypeVar("_Value")


@dataclass
class Row:
    """One well as understood; doses in micromolar, replicate 0 where the file leaves it open."""

    line: int
    position: tuple[int, int]
    compound: str
    dose: float
    control: str
    inducer: str
    replicate: int
    cell_line: str
    vehicle: str
    masked: str
    second: Second

    @property
    def well(self) -> str:
        """Its name, "A01"."""
        return well_name(*self.position)


def read_rows(table: Table, *, dose_unit: str | None, problems: Problems) -> tuple[list[Row], list[str]]:
    """Return the wells, row by row, and what was done to their doses, one sentence each; faults are noted.

    Wells that the file calls empty are among them, with "empty" as control.
    """
    column = _dose_column(table, "", dose_unit, problems)
    second = _dose_column(table, "_2", dose_unit, problems)
    first_line: dict[tuple[int, int], int] = {}
    rows: list[Row] = []
    converted: Counter[str] = Counter()
    for entry in table.entries:
        where = entry.cells["well"] if "well" in entry.cells else f"{entry.cells['row']}:{entry.cells['column']}"
        position = problems.attempt(entry.line, "", parse_well, where)
        if position is None:
            continue
        if position in first_line:
            what = f"the well is already described in line {first_line[position]}. Keep one of the two."
            problems.add(entry.line, what, well=well_name(*position))
            continue
        first_line[position] = entry.line
        found = _read_row(entry, position, column=column, second=second, problems=problems)
        if found is not None:
            rows.append(found[0])
            converted[found[1].mass_unit] += 1
            converted[found[0].second.dose.mass_unit] += 1
    _check_complete(rows, problems)
    complete_pairs(rows, problems)
    return sorted(rows, key=lambda row: row.position), _traces(rows, converted, column, table.names)


def number_replicates(rows: list[Row]) -> None:
    """Number the wells of one compound and dose from 1, where the file leaves it to us."""
    count: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        second = (row.second.compound, str(row.second.dose.micromolar))
        alike = (row.compound, str(row.dose), *second, row.control, row.cell_line)
        count[alike] += 1
        row.replicate = row.replicate or count[alike]


def _dose_column(table: Table, ending: str, dose_unit: str | None, problems: Problems) -> DoseColumn:
    """What holds for all doses of the first ("") or second ("_2") compound; a mass without weights ends the reading."""
    header = table.second if ending else table.dose
    marks = {
        role: proven_marks((entry.cells.get(f"{role}{ending}", "") for entry in table.entries), table.separator)
        for role in ("dose", "weight")
    }
    if header.unit and f"weight{ending}" not in table.names and read_unit(header.unit).is_mass:
        what = f"unit {shown(header.unit)} cannot be turned into uM: the molecular weight is unknown."
        name = f"molecular weight{ending.replace('_', ' ')}"
        problems.add(header.line, f"{what} Give M, mM, uM, nM or pM, or add '{name}' in g/mol.")
        problems.stop()
    return DoseColumn(
        name=table.names.get(f"dose{ending}", ""),
        unit=header.unit,
        is_log=header.is_log,
        fallback=dose_unit or "",
        marks=marks["dose"],
        weight_marks=marks["weight"],
    )


def _read_row(
    entry: Entry, position: tuple[int, int], *, column: DoseColumn, second: DoseColumn, problems: Problems
) -> tuple[Row, Dose] | None:
    """Return one well and its dose, or None with its faults noted."""

    def attempt(role: str, parse: Callable[..., _Value], *more: object) -> _Value | None:
        text = entry.cells.get(role, "")
        return problems.attempt(entry.line_of(role), well_name(*position), parse, text, *more)

    names = {
        role: attempt(role, _name, role.replace("_", " ")) for role in ("compound", "inducer", "cell_line", "solvent")
    }
    control = attempt("control", _control)
    dose = attempt("dose", read_dose, entry.cells.get("unit", ""), entry.cells.get("weight", ""), column)
    replicate = attempt("replicate", _replicate)
    masked = attempt("mask", _mask)
    partner = attempt("compound_2", _name, "compound 2")
    more = (entry.cells.get(role, "") for role in ("compound_2", "unit_2", "weight_2"))
    beside = attempt("dose_2", read_second, *more, second)
    texts = {role: text for role, text in names.items() if text is not None}
    if control is None or dose is None or replicate is None or masked is None or len(texts) < len(names):
        return None
    if partner is None or beside is None:
        return None
    row = Row(
        entry.line,
        position,
        compound=texts["compound"],
        dose=dose.micromolar,
        control=control,
        inducer=texts["inducer"],
        replicate=replicate,
        cell_line=texts["cell_line"],
        vehicle=texts["solvent"],
        masked=masked,
        second=beside,
    )
    understood = problems.attempt(entry.line, row.well, _understand, row)
    return None if understood is None else (understood, dose)


def _understand(row: Row) -> Row:
    """Settle what the well is from what its cells say together."""
    if row.vehicle.casefold() in NO_VALUE:
        row.vehicle = ""
    settle_second(row)
    if row.control == "":
        # a blank compound in a solvent is the vehicle control of Broad and JUMP plate maps
        vehicle = row.compound.casefold() in VEHICLE_NAMES or (not row.compound and bool(row.vehicle))
        row.control = "negative" if vehicle else "none"
    if row.inducer.casefold() in NO_VALUE:
        row.inducer = ""
    row.inducer = next((state for state in DEAD if state == row.inducer.casefold()), row.inducer)
    if row.control == "empty":
        return row
    if row.control == "positive" and not row.inducer:
        raise PlateMapError("a positive control without inducer. Write which death it induces, such as 'apoptosis'.")
    if row.control != "positive" and row.inducer:
        what = f"inducer {shown(row.inducer)}, but the well is not a positive control."
        raise PlateMapError(f"{what} Write 'positive' in the control column or clear the inducer.")
    if not row.compound and row.control == "none":
        raise PlateMapError(
            "neither compound nor control. Write the compound, or 'negative' as control of a vehicle well, "
            "or delete the line."
        )
    if not row.compound:
        row.compound = row.inducer or row.vehicle or "vehicle"
    if row.control == "negative" and not row.vehicle and row.compound.casefold() in VEHICLES:
        row.vehicle = row.compound
    if row.control == "negative" and row.dose > 0:
        raise PlateMapError(f"a vehicle control with dose {row.dose:g} uM. Clear the dose or the control.")
    if row.control != "negative" and row.dose == 0:
        raise PlateMapError(
            f"dose 0 of {shown(row.compound)}. Write 'negative' as its control if it is a vehicle well."
        )
    if row.second.compound and row.control == "none":
        row.control = COMBINATION
    return row


def _check_complete(rows: list[Row], problems: Problems) -> None:
    """Note what a well lacks that others of the plate have; screens at one dose may leave the dose out."""
    treated = [row for row in rows if row.control in ("none", COMBINATION)]
    if any(row.dose > 0 for row in treated):
        for row in treated:
            if np.isnan(row.dose):
                what = f"no dose of {shown(row.compound)}. Write one such as '10 uM', or 'negative' as control."
                problems.add(row.line, what, well=row.well)
    if any(row.replicate for row in rows):
        for row in rows:
            if not row.replicate and row.control != "empty":
                problems.add(row.line, "no replicate, but other wells have one. Write its number.", well=row.well)


def _traces(rows: list[Row], converted: Counter[str], column: DoseColumn, names: dict[str, str]) -> list[str]:
    """Say what was done to the doses on the way to micromolar."""
    traces = []
    if column.is_log:
        doses = sum(row.dose > 0 for row in rows)
        traces.append(f"Doses read as 10 to the power of column {shown(column.name)}, in {column.unit}: {doses}.")
    for unit, doses in sorted(converted.items()):
        if unit:
            source = shown(names.get("weight", ""))
            traces.append(f"Doses converted from {unit} with the molecular weights of column {source}: {doses}.")
    return traces


def _name(text: str, role: str) -> str:
    if re.fullmatch(r"#(N/A|REF!|VALUE!|DIV/0!|NAME\?|NUM!|NULL!)", text):
        raise PlateMapError(f"{role} {text} is a formula's error. Write the name itself.")
    if any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in text):
        raise PlateMapError(f"{role} {shown(text)} holds an invisible character. Type the name again.")
    if len(text) > MAX_NAME:
        raise PlateMapError(f"{role} {shown(text)} is longer than {MAX_NAME} characters. Shorten it.")
    return text


def _control(text: str) -> str:
    """Return "negative", "positive", "none", "empty", or "" where the cell leaves it open."""
    word = plain_name(text)
    if word in NO_VALUE and word != "none":
        return ""
    if word in _CONTROLS:
        return _CONTROLS[word]
    guess = difflib.get_close_matches(word, _CONTROLS, n=1, cutoff=0.6)
    hint = f" Did you mean '{guess[0]}'?" if guess else ""
    raise PlateMapError(f"control {shown(text)} is not known. Expected negative, positive or none.{hint}")


def _mask(text: str) -> str:
    """Return why the well is not to be used, empty where it is."""
    word = text.casefold()
    if word in NO_VALUE or word in _NOT_MASKED:
        return ""
    if word in _BARELY_MASKED:
        raise PlateMapError(f"mask {shown(text)} gives no reason. Write why the well is not to be used, as in 'edge'.")
    return _name(text, "mask")


def _replicate(text: str) -> int:
    """Return the number, 0 where the cell is blank."""
    if text.casefold() in NO_VALUE:
        return 0
    match = re.fullmatch(r"(?:r|rep|replicate)?[ _.-]?0{0,3}([1-9][0-9]{0,3})(?:\.0)?", text, re.IGNORECASE)
    if match is None:
        raise PlateMapError(f"replicate {shown(text)} is not a number. Expected 1, 2, 3 ...")
    return int(match[1])
