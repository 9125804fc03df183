"""Units of dose: any spelling of a molar or a mass concentration, turned into numbers exactly."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any

from ..errors import PlateMapError
from .problems import shown

# The usual spellings, for the remedy where only the case is wrong: mM is not MM, and um is a length.
USUAL_UNITS = (
    *("mol/l", "mmol/l", "umol/l", "nmol/l", "pmol/l", "molar", "millimolar", "micromolar", "nanomolar", "picomolar"),
    *("g/l", "mg/l", "ug/l", "ng/l", "mg/ml", "ug/ml", "ng/ml", "pg/ml", "mg/dl", "ng/ul", "ug/ul"),
    *("pM", "nM", "uM", "mM", "M"),
)
_EXPECTED = "Expected M, mM, uM, nM or pM."
# One or two words, each with an exponent at most: nothing that could make the parser of units compute for long.
_WORD = r"[A-Za-zµ]{1,20}"
_POWER = r"(?:\s?(?:\*\*|\^)?(-?[13]))?"
_UNIT = re.compile(rf"({_WORD}){_POWER}(?:\s*(/|\*|·|\s_?per[\s_]|_per_|\s)\s*({_WORD}){_POWER})?")
_WEIGHT_IN_VOLUME = re.compile(r"%\s*[(\[]?\s*(?:w\s*/?\s*v|m\s*/\s*v)\s*[)\]]?", re.IGNORECASE)


@dataclass(frozen=True)
class Unit:
    """A unit of dose: how many micromolar it is, or, for a mass concentration, how many grams per litre."""

    factor: Decimal
    is_mass: bool


def read_unit(text: str) -> Unit:
    """Return what a unit means.

    Molar concentrations ("uM", "µmol/L", "nmol per ml", "mol L-1", "mol/m^3") and mass concentrations ("mg/ml",
    "ng/ul", "% w/v", which is 10 g/l) are read, in every spelling that pint knows. Case matters.

    Raises
    ------
    PlateMapError
        It is no concentration; the message says which one may be meant.
    """
    spelled = _plain_letters(text.strip())
    if _WEIGHT_IN_VOLUME.fullmatch(spelled):
        return Unit(Decimal(10), is_mass=True)
    if _of_unclear_kind(spelled):
        raise PlateMapError(
            f"unit {shown(text)} cannot be turned into uM: it may be of weight or of volume. {_EXPECTED} "
            "A '% w/v' is read where a column gives the molecular weight."
        )
    unit = _read_with_pint(spelled)
    if unit is None:
        near = _near(spelled)
        hint = f" Did you mean {near}?" if near else ""
        raise PlateMapError(f"unit {shown(text)} is not a concentration.{hint} {_EXPECTED}")
    return unit


def micromolar_per(unit: str) -> Decimal:
    """Return how many micromolar one of this molar unit is.

    Raises
    ------
    PlateMapError
        It is no molar unit; the message says which one may be meant.
    """
    meant = read_unit(unit)
    if meant.is_mass:
        raise PlateMapError(
            f"unit {shown(unit)} cannot be turned into uM: the molecular weight is unknown. {_EXPECTED}"
        )
    return meant.factor


def looks_like_unit(text: str) -> bool:
    """Say whether this is a unit of dose, or near enough to one for its fault to be worth a message."""
    spelled = _plain_letters(text.strip())
    return (
        _of_unclear_kind(spelled)
        or bool(_near(spelled) or _WEIGHT_IN_VOLUME.fullmatch(spelled))
        or _read_with_pint(spelled) is not None
    )


def _of_unclear_kind(spelled: str) -> bool:
    return spelled.startswith("%") or spelled in ("ppm", "ppb")


def _near(spelled: str) -> str:
    """Return the usual unit that differs in capitals only, empty where there is none."""
    return next((known for known in reversed(USUAL_UNITS) if known.casefold() == spelled.casefold()), "")


def _plain_letters(text: str) -> str:
    """Return the unit with one spelling of micro, minus and exponents."""
    spelled = text.translate(str.maketrans("\N{GREEK SMALL LETTER MU}⁻¹³\N{MINUS SIGN}⋅", "µ-13-·"))
    spelled = re.sub(r"^µ", "u", re.sub(r"(?<=[^A-Za-z])µ", "u", spelled))
    return re.sub(r"(?i:\bliters?\b)", "liter", spelled)


@lru_cache(maxsize=1024)
def _read_with_pint(spelled: str) -> Unit | None:
    """Return the unit, or None where it is no concentration, or one above any that exists."""
    match = _UNIT.fullmatch(spelled)
    if match is None:
        return None
    first, power, joint, second, second_power = match.groups()
    sign = "/" if joint and (joint == "/" or "per" in joint) else "*"
    expression = f"{first}**({power or 1})" + (f"{sign}{second}**({second_power or 1})" if second else "")
    registry, failures = _registry()
    try:
        quantity = registry.Quantity(Decimal(1), registry.parse_units(expression))
    except failures:
        return None
    if quantity.check("[substance]/[volume]"):
        factor = Decimal(quantity.to("umol/l").magnitude)
        # nothing is above molar: MM and Mmol/l are mM and mmol/l typed wrongly
        return Unit(factor, is_mass=False) if factor <= 10**6 else None
    if quantity.check("[mass]/[volume]"):
        factor = Decimal(quantity.to("g/l").magnitude)
        return Unit(factor, is_mass=True) if factor <= 10**3 else None
    return None


@cache
def _registry() -> tuple[Any, tuple[type[Exception], ...]]:
    """Return pint's units with exact numbers, and what it raises for what it cannot read."""
    import pint  # half a second: only a plate map pays for it

    registry: Any = pint.UnitRegistry(non_int_type=Decimal)
    return registry, (pint.PintError, AttributeError, ValueError, TypeError, KeyError, ArithmeticError)
