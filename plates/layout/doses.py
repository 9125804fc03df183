"""Doses as written: numbers in either decimal mark, units, logarithms and masses, all to micromolar."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Context, Decimal

from ..errors import PlateMapError
from .problems import shown
from .units import micromolar_per, read_unit

NO_VALUE = ("", "-", "na", "n/a", "none", "null")
# Doses are kept to so many digits: plate maps hold 3.33333333228294 and 3.3333333340894 for one and the same dose.
DIGITS = 8

_NUMBER = r"[+-]?(?:[0-9]{1,20}(?:[.,][0-9]{0,20})?|[.,][0-9]{1,20})(?:[eE][+-]?[0-9]{1,3})?"
_DOSE = re.compile(rf"({_NUMBER})\s*([^\s0-9.,].*)?")
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}[.,][0-9]{3}(?![0-9])")
_MAX_LOG = 20


@dataclass(frozen=True)
class DoseColumn:
    """What holds for all doses of a file.

    Attributes
    ----------
    name
        Of the column, empty where there is none.
    unit
        In the column's name, empty where it has none.
    is_log
        The cells hold decimal logarithms.
    fallback
        Unit of doses that have none elsewhere.
    marks, weight_marks
        Decimal marks that are proven for doses and for molecular weights.
    """

    name: str = ""
    unit: str = ""
    is_log: bool = False
    fallback: str = ""
    marks: frozenset[str] = frozenset(".")
    weight_marks: frozenset[str] = frozenset(".")


@dataclass(frozen=True)
class Dose:
    """A dose in micromolar, NaN where there is none, and the mass unit it was converted from, if any."""

    micromolar: float
    mass_unit: str = ""


def read_dose(text: str, unit: str, weight: str, column: DoseColumn) -> Dose:
    """Return the dose that a cell holds.

    Parameters
    ----------
    text
        The cell.
    unit
        Unit that stands in the same line, empty where there is none.
    weight
        Molecular weight in g/mol in the same line, empty where there is none.
    column
        What holds for all doses of the file.

    Raises
    ------
    PlateMapError
        It is no dose, or it can be read in two ways.
    """
    if text.casefold() in NO_VALUE:
        return Dose(float("nan"))
    match = _DOSE.fullmatch(text)
    if match is None:
        raise PlateMapError(
            f"dose {shown(text)} is not a concentration. Expected a number with a unit such as '10 uM'."
        )
    number, own_unit = match[1], match[2]
    if not column.is_log:  # a logarithm has no thousands
        check_mark("dose", number, column.marks)
    value = Decimal(number.replace(",", "."))
    stated = [name for name in (own_unit, unit, column.unit) if name]
    if len({read_unit(name) for name in stated}) > 1:
        raise PlateMapError(f"dose {shown(text)} is given in {' and '.join(stated)}. Keep one unit.")
    meant = (*stated, column.fallback)[0]
    if column.is_log:
        if abs(value) > _MAX_LOG:
            raise PlateMapError(f"dose {shown(text)} cannot be meant: it is no logarithm of a concentration.")
        value = Decimal(10) ** value
    elif value < 0:
        raise PlateMapError(
            f"dose {shown(text)} is negative. Expected a concentration; name a column of logarithms "
            "as in 'log10 dose (M)'."
        )
    if not meant and value:
        raise PlateMapError(
            f"dose {shown(text)} has no unit. Write it as in '{number} uM', name the column as in "
            "'dose (uM)', or give dose_unit once for the plate."
        )
    if not value:
        return Dose(0.0)
    mass_unit = meant if read_unit(meant).is_mass else ""
    value *= _micromolar(meant, weight, column.weight_marks)
    if not Decimal("1e-9") <= value <= 10**8:
        raise PlateMapError(f"dose {shown(text)} cannot be meant: outside 1 fM to 100 M.")
    # through Decimal, so that 300 nM and 0.3 uM are the same number
    return Dose(float(Context(prec=DIGITS).create_decimal(value)), mass_unit)


def _micromolar(unit: str, weight: str, marks: frozenset[str]) -> Decimal:
    meant = read_unit(unit)
    if not meant.is_mass or weight.casefold() in NO_VALUE:
        return micromolar_per(unit)  # refuses a mass
    if re.fullmatch(_NUMBER, weight) is None:
        raise PlateMapError(f"molecular weight {shown(weight)} is not a number. Expected grams per mole, as in 543.5.")
    check_mark("molecular weight", weight, marks)
    grams_per_mole = Decimal(weight.replace(",", "."))
    if not 1 <= grams_per_mole <= 10**7:
        raise PlateMapError(f"molecular weight {shown(weight)} cannot be meant. Expected grams per mole, as in 543.5.")
    return meant.factor / grams_per_mole * 10**6


def proven_marks(cells: Iterable[str], separator: str) -> frozenset[str]:
    """Return the marks ("." or ",") that stand for decimals beyond doubt somewhere in the file."""
    numbers = [match[1] for text in cells if (match := _DOSE.fullmatch(text))]
    proven = {mark for n in numbers for mark in ".," if mark in n and not _THOUSANDS.match(n)}
    # where the comma separates cells (or the tab), a lone point is the usual decimal mark
    return frozenset(proven or ({"."} if separator != ";" else set()))


def check_mark(what: str, number: str, marks: frozenset[str]) -> None:
    """Refuse 1,000 where it may be one or one thousand, and files that mix decimal marks."""
    mark = next((mark for mark in ".," if mark in number), "")
    if mark == "," and len(marks) > 1:
        raise PlateMapError(f"{what} {shown(number)} has a decimal comma, others a decimal point. Use one.")
    if mark and mark not in marks:
        whole, decimals = number.split(mark)
        meant = f"{whole}{decimals} or {whole}{',' if ',' in marks else '.'}{decimals}0"
        raise PlateMapError(f"{what} {shown(number)} may be read in two ways. Write {meant}.")
