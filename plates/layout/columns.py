"""Names of columns and grids, as laboratories write them, to what they hold."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import PlateMapError
from .problems import Problems, listed, shown
from .units import looks_like_unit, read_unit

# Names of columns as laboratories, JUMP and LINCS plate maps, Echo and D300 reports write them; of several
# that are present, the first in this order is read.
COLUMN_NAMES = {
    "well": "well|well position|metadata well|destination well|dispensed well|position|wells|well id",
    "row": "row|well row|dispensed row",
    "column": "column|col|well column|well col|dispensed column|dispensed col",
    "compound": "compound|compound name|pert iname|drug|treatment|fluid name|sample name|compound id|"
    "broad sample|gnumber",
    "dose": "dose|concentration|conc|final dose|final concentration|final conc",
    "unit": "unit|units|dose unit|dose units|concentration unit|concentration units|conc unit|conc units",
    "weight": "molecular weight|mw|mol weight|mol wt|molecular mass|molar mass|formula weight|fw",
    "control": "control|control type|role|pert type|content|type",
    "inducer": "inducer|death inducer",
    "replicate": "replicate|rep|replicate id",
    "cell_line": "cell line|cellline|cells|cell",
    "solvent": "solvent|vehicle",
    "mask": "mask|masked|mask reason|exclude|excluded|exclusion|exclusion reason|reason for exclusion",
}
KNOWN_NAMES = "|".join(COLUMN_NAMES.values()).split("|")
# What a second compound in the same well has columns of its own for: "compound 2", "dose 2 (uM)", "second drug".
SECOND = ("compound", "dose", "unit", "weight")
_UNIT_NAMES = {"mmoles per liter": "mM", "mg per ml": "mg/ml"}
_DOSE = r"(?:final[\s_]*)?(?:dose|concentration|conc)"
_BEFORE_UNIT = r"[\s_.]*(?:in(?=[\s_]))?[\s_.\[(/,-]+"


@dataclass
class Columns:
    """Which column, by its place, holds what ("well", "dose", ...), and what the dose columns' names say.

    The roles of a second compound in the well end in "_2", and `second` says what its dose's name does.
    """

    roles: dict[str, int]
    dose: DoseHeader
    second: DoseHeader
    notes: list[str]


@dataclass(frozen=True)
class DoseHeader:
    """What the name of a dose's column or grid says: its unit ("" where none), whether logarithms, and its line."""

    unit: str = ""
    is_log: bool = False
    line: int = 0


@dataclass(frozen=True)
class _DoseName:
    unit: str
    is_log: bool


def name_columns(header: Sequence[str], *, lines: Sequence[int], noun: str, problems: Problems) -> Columns:
    """Return which column or grid holds what.

    Parameters
    ----------
    header
        The names.
    lines
        The line in which each name stands.
    noun
        "column" or "grid"; grids need none that names the well.
    problems
        Takes the faults.
    """
    plain = [plain_name(name) for name in header]
    for i, name in enumerate(plain):
        if name and name in plain[:i] and plain[:i].count(name) == 1:
            problems.add(lines[i], f"{noun} {shown(header[i])} is there twice. Rename one.")
    of_second = [name_of_second(name) for name in header]
    # the columns of one compound at a time, the others blank
    first_header = ["" if second else name for name, second in zip(header, of_second, strict=True)]
    roles, dose = _roles(first_header, header, lines=lines, noun=noun, problems=problems)
    seconds, second_dose = _roles(of_second, header, lines=lines, noun=noun, problems=problems)
    seconds = {f"{role}_2": place for role, place in seconds.items() if role in SECOND}
    columns = Columns({**roles, **seconds}, dose, second_dose, notes=[])
    every = listed(map(shown, header))
    if "well" in roles or noun == "grid":
        columns.roles.pop("row", None)
        columns.roles.pop("column", None)
    elif not {"row", "column"} <= roles.keys():
        problems.add(lines[0], f"no column names the well. Expected 'well' among {every}.")
    if noun == "grid":
        columns.roles.pop("well", None)
    if not roles.keys() & {"compound", "control", "solvent"}:
        problems.add(lines[0], f"no {noun} names the compound. Expected 'compound' among {every}.")
    for one, other in (("compound", "dose"), ("dose", "compound")):
        if f"{one}_2" in seconds and f"{other}_2" not in seconds:
            at = seconds[f"{one}_2"]
            what = f"{noun} {shown(header[at])} is there, but none holds the {other} that belongs to it."
            problems.add(lines[at], f"{what} Expected '{other} 2' among {every}.")
    columns.notes.extend(_unused(header, used=set(columns.roles.values()), noun=noun))
    return columns


def name_of_second(name: str) -> str:
    """Return what a column of a second compound would be called were it the first's; "" for any other column."""
    name = name.strip()
    dose = re.fullmatch(rf"((?i:log(?:10)?)[\s_.(\[]*)?((?i:{_DOSE}))[\s_.-]*2(?![A-Za-z0-9])(.*)", name)
    spoken = re.fullmatch(r"(?i:second)[\s_.-]+(\S.*)|(\S.*?)[\s_.-]*2", name)
    if dose is not None:
        bare = f"{dose[1] or ''}{dose[2]}{dose[3]}"
    else:
        bare = "" if spoken is None else spoken[1] or spoken[2]
    known = [one for role in SECOND for one in COLUMN_NAMES[role].split("|")]
    return bare if plain_name(bare) in known or (bare and _dose_name(bare) is not None) else ""


def _roles(
    named: Sequence[str], header: Sequence[str], *, lines: Sequence[int], noun: str, problems: Problems
) -> tuple[dict[str, int], DoseHeader]:
    """Which of the names holds what, and what the dose's says; names that are blank hold nothing.

    Parameters
    ----------
    named
        The names to go by.
    header
        The same names as they stand in the file, for messages.
    """
    plain = [plain_name(name) for name in named]
    weight = [_without_weight_unit(name) for name in plain]
    present: dict[str, list[int]] = {}
    for role, known in COLUMN_NAMES.items():
        here = weight if role == "weight" else plain
        present[role] = [here.index(name) for name in known.split("|") if name in here]
    roles = {role: places[0] for role, places in present.items() if places}
    found = _find_dose(named, header, plainly=present["dose"], lines=lines, noun=noun, problems=problems)
    if found is None:
        return roles, DoseHeader(line=lines[0])
    roles["dose"], dose = found
    return roles, dose


def plain_name(name: str) -> str:
    """Return the name without what does not matter: capitals, underscores, hyphens, points."""
    return re.sub(r"[\s_\-.]+", " ", name.casefold()).strip()


def count_known(names: Sequence[str]) -> int:
    """Return how many of the names are those of columns."""
    return sum(
        plain_name(name) in KNOWN_NAMES or _dose_name(name) is not None or bool(name_of_second(name)) for name in names
    )


def _without_weight_unit(plain: str) -> str:
    return re.sub(r"\s*[(\[]?\s*(?:g/mol|g mol 1|da|daltons?)\s*[)\]]?$", "", plain)


def _find_dose(
    names: Sequence[str],
    header: Sequence[str],
    *,
    plainly: Sequence[int],
    lines: Sequence[int],
    noun: str,
    problems: Problems,
) -> tuple[int, DoseHeader] | None:
    """Settle which column holds the dose, in which unit, and whether as logarithm."""
    named = {i: meant for i, name in enumerate(names) if (meant := _dose_name(name)) is not None}
    places = sorted({*plainly, *named})
    # LINCS maps hold mg_per_ml beside mmoles_per_liter: the molar column is the one to read, and no logarithm
    # where the dose itself is there
    molar = [i for i in places if i not in named or not _is_mass(named[i].unit)]
    best = [i for i in molar if i not in named or not named[i].is_log] or molar or places
    if len(best) > 1:
        several = listed(shown(header[i]) for i in best)
        problems.add(lines[best[1]], f"several {noun}s could be the dose: {several}. Keep one.")
    if not best:
        _refuse_unclear_dose(names, header, lines=lines, noun=noun, problems=problems)
        return None
    dose = best[0]
    meant = named.get(dose, _DoseName("", is_log=False))
    if meant.is_log and not meant.unit:
        what = f"{noun} {shown(header[dose])} holds logarithms, but of which unit?"
        problems.add(lines[dose], f"{what} Rename it, for example to 'log10 dose (M)'.")
    elif meant.unit:
        problems.attempt(lines[dose], "", read_unit, meant.unit)
    return dose, DoseHeader(meant.unit, meant.is_log, lines[dose])


def _refuse_unclear_dose(
    names: Sequence[str], header: Sequence[str], *, lines: Sequence[int], noun: str, problems: Problems
) -> None:
    for name, written, line in zip(names, header, lines, strict=True):
        may_be = re.match(rf"(?:ln|log\s?\d*)?[\s_.(\[]*{_DOSE}", name.strip(), re.IGNORECASE)
        if may_be and plain_name(name) not in COLUMN_NAMES["unit"].split("|"):
            what = f"{noun} {shown(written)} may be the dose, but its unit is not understood."
            problems.add(line, f"{what} Rename it, for example to 'dose (uM)' or 'log10 dose (M)'.")


def _dose_name(name: str) -> _DoseName | None:
    """Return what a name such as "dose (uM)", "conc_nM" or "log10 dose (M)" says; None where it is no dose's."""
    if plain_name(name) in _UNIT_NAMES:
        return _DoseName(_UNIT_NAMES[plain_name(name)], is_log=False)
    name = name.strip()
    linear = re.fullmatch(rf"(?i:{_DOSE}){_BEFORE_UNIT}(\S.*)", name)
    if linear:
        unit = _bare(linear[1])
        return _DoseName(unit, is_log=False) if looks_like_unit(unit) else None
    log = re.fullmatch(rf"(?i:log(?:10)?)(?:[\s_.(\[]*((?i:{_DOSE}))(?![A-Za-z]))?(.*)", name)
    if log is None:
        return None
    unit = _bare(re.sub(r"^[\s_.\[(/,-]*(?:in(?=[\s_]))?[\s_.\[(/,-]*", "", log[2]))
    if not unit:
        return _DoseName("", is_log=True) if log[1] else None
    return _DoseName(unit, is_log=True) if looks_like_unit(unit) else None


def _bare(unit: str) -> str:
    """Return the unit of a column's name without the brackets around it."""
    unit = unit.replace("_per_", "/").strip()
    while unit and any(unit[-1] == end and unit.count(end) > unit.count(start) for start, end in ("()", "[]")):
        unit = unit[:-1].strip()
    return unit


def _is_mass(unit: str) -> bool:
    if unit.startswith("%"):
        return True
    try:
        return read_unit(unit).is_mass
    except PlateMapError:  # said where the unit is used
        return False


def _unused(header: Sequence[str], *, used: set[int], noun: str) -> list[str]:
    notes = []
    for i, name in enumerate(header):
        if i not in used and name and plain_name(name) not in KNOWN_NAMES:
            guess = difflib.get_close_matches(plain_name(name), KNOWN_NAMES, n=1, cutoff=0.8)
            hint = f" Did you mean '{guess[0]}'?" if guess else ""
            notes.append(f"{noun.capitalize()} {shown(name)} is not used.{hint}")
    return notes
