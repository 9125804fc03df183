"""Two compounds in one well: the second compound's cells, and dispenser reports that list a well once a fluid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ..errors import PlateMapError
from .columns import SECOND, plain_name
from .doses import NO_VALUE, Dose, DoseColumn, read_dose
from .problems import Problems, shown
from .roles import COMBINATION
from .table import Entry, Table

VEHICLE_NAMES = ("dmso", "vehicle", "untreated", "solvent", "mock")
# Substances that a negative control's compound may name and that are its vehicle.
VEHICLES = ("dmso", "water", "h2o", "pbs", "saline", "ethanol", "etoh", "methanol", "meoh", "medium", "media")
# Names of columns in whose files a line is what was dispensed, not what a well holds (HP and Tecan D300).
_DISPENSED_WELL = ("dispensed well", "dispensed row")
_FLUID = "fluid name"


@dataclass(frozen=True)
class Second:
    """A second compound in the well, "" where there is none, and its dose."""

    compound: str = ""
    dose: Dose = field(default_factory=lambda: Dose(float("nan")))


class Well(Protocol):
    """What is settled here of a row of the plate map."""

    line: int
    compound: str
    dose: float
    control: str
    vehicle: str
    second: Second

    @property
    def well(self) -> str:
        """Its name, "A01"."""


def read_second(text: str, compound: str, unit: str, weight: str, column: DoseColumn) -> Second:
    """Return the second compound of a well from the cells of its dose, name, unit and molecular weight.

    Raises
    ------
    PlateMapError
        The dose is none, or belongs to no compound.
    """
    try:
        dose = read_dose(text, unit, weight, column)
    except PlateMapError as error:
        raise PlateMapError(f"second compound: {error}") from None
    name = "" if compound.casefold() in NO_VALUE else compound
    if not name and dose.micromolar > 0:
        what = f"a second dose of {dose.micromolar:g} uM, but no second compound."
        raise PlateMapError(f"{what} Write its name, or clear the dose.")
    return Second(name, dose)


def settle_second(row: Well) -> None:
    """Settle how many compounds the well holds: one at dose 0 and one that is the vehicle are none.

    Matrices of two compounds list the single ones with the other's dose as 0; then the well holds the other one.
    """
    second = row.second
    if not second.compound:
        return
    if _is_vehicle(second.compound):
        row.vehicle = row.vehicle or second.compound
        row.second = Second()
        return
    if second.dose.micromolar == 0:
        if row.dose == 0 and row.control != "negative" and not _is_vehicle(row.compound):
            what = f"dose 0 of {shown(row.compound)} and of {shown(second.compound)}."
            raise PlateMapError(f"{what} Write 'negative' as its control if it is a vehicle well.")
        row.second = Second()
        return
    if row.control == "negative":
        what = f"a vehicle control with {shown(second.compound)} as its second compound."
        raise PlateMapError(f"{what} Clear the compound or the control.")
    if not row.compound or row.dose == 0 or _is_vehicle(row.compound):
        if not row.compound and row.dose > 0:
            raise PlateMapError(f"a dose of {row.dose:g} uM, but no compound. Write its name, or clear the dose.")
        if _is_vehicle(row.compound):
            row.vehicle = row.vehicle or row.compound
        row.compound, row.dose, row.second = second.compound, second.dose.micromolar, Second()
        return
    if second.compound.casefold() == row.compound.casefold():
        what = f"{shown(row.compound)} is both compounds of the well."
        raise PlateMapError(f"{what} Write it once, with the sum of its doses.")


def complete_pairs(rows: Sequence[Well], problems: Problems) -> None:
    """Note wells of two compounds that lack a dose: without both nothing can be said about what they do together."""
    for row in rows:
        if row.control != COMBINATION:
            continue
        for name, dose in ((row.compound, row.dose), (row.second.compound, row.second.dose.micromolar)):
            if np.isnan(dose):
                what = f"no dose of {shown(name)}, one of two compounds. Write one such as '10 uM'."
                problems.add(row.line, what, well=row.well)


def join_fluids(table: Table, *, problems: Problems) -> None:
    """Make one entry a well of a dispenser's report, which lists a well once for each fluid.

    Only a file whose columns are called as in such a report is read so; anywhere else a well described twice is an
    error. A vehicle that was added to even out the volume is the well's vehicle, not a compound.
    """
    names = table.names
    written = plain_name(names.get("well", "") or names.get("row", ""))
    if written not in _DISPENSED_WELL or plain_name(names.get("compound", "")) != _FLUID or "compound_2" in names:
        return
    wells: dict[str, list[Entry]] = {}
    for entry in table.entries:
        wells.setdefault(_place(entry), []).append(entry)
    table.entries = [_join(entries, problems) for entries in wells.values()]
    if any("compound_2" in entry.cells for entry in table.entries):
        table.second = table.dose
        names.update({f"{role}_2": names[role] for role in SECOND if role in names})


def _join(entries: list[Entry], problems: Problems) -> Entry:
    """One entry of a well's fluids; more than two compounds, or one twice, are noted."""
    fillers = [entry for entry in entries if _is_vehicle(entry.cells["compound"])]
    compounds = [entry for entry in entries if entry not in fillers]
    if not compounds:
        fillers[0].cells.update(
            {"compound": "DMSO" if _is_dmso(fillers[0]) else fillers[0].cells["compound"], "dose": ""}
        )
        return fillers[0]
    first = compounds[0]
    if fillers and not first.cells.get("solvent", ""):
        first.cells["solvent"] = "DMSO" if _is_dmso(fillers[0]) else fillers[0].cells["compound"]
    for entry in compounds[1:]:
        name = entry.cells["compound"]
        if name.casefold() == first.cells["compound"].casefold() or "compound_2" in first.cells:
            again = "twice" if name.casefold() == first.cells["compound"].casefold() else "as a third compound"
            what = (
                f"{shown(name)} is dispensed {again}, first in line {first.line}. A well holds two compounds at most."
            )
            problems.add(entry.line, what, well=_place(entry))
            continue
        for role in SECOND:
            if role in entry.cells:
                first.cells[f"{role}_2"] = entry.cells[role]
                first.lines[f"{role}_2"] = entry.line_of(role)
    return first


def _place(entry: Entry) -> str:
    cells = entry.cells
    return (cells["well"] if "well" in cells else f"{cells['row']}:{cells['column']}").strip().upper()


def _is_dmso(entry: Entry) -> bool:
    return plain_name(entry.cells["compound"]).startswith("dmso")


def _is_vehicle(name: str) -> bool:
    plain = plain_name(name)
    return plain in VEHICLE_NAMES or plain in VEHICLES or plain.startswith("dmso ")
