"""The table of annotated patches: written whole, corrected by a person, and read back line by line."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import SettingsError
from ..files import write_durable
from ..states import STATES
from .rule import BY_HAND, BY_REGION, UNDECIDED, implied_state

COLUMNS = (
    "plate",
    "well",
    "field",
    "timepoint",
    "y_um",
    "x_um",
    "state",
    "rule",
    "hoechst",
    "annexin_v",
    "pi",
    "inducer",
    "area",
    "positive",
    "corrected_by",
    "note",
)
"""Of the table; `corrected_by` and `note` are a person's and are kept as they are."""

_PLACE = ("well", "field", "timepoint", "y_um", "x_um")
_OWN = ("corrected_by", "note")
_SAME_PLACE_UM = 0.5
_DIGITS = {"y_um": 3, "x_um": 3, "hoechst": 1, "annexin_v": 1, "pi": 1, "area": 4, "positive": 3}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_table(table: pd.DataFrame, path: Path, *, plate: Path) -> None:
    """Write the table, whole or not at all, one row a patch.

    Parameters
    ----------
    table
        Columns of `COLUMNS` but `plate`; those of a person may be left out.
    plate
        The plate's store; written relative to the table, as training reads it.
    """
    shown = pd.DataFrame({"plate": Path(os.path.relpath(plate, path.parent)).as_posix()}, index=table.index)
    for name in COLUMNS[1:]:
        values = table[name] if name in table else pd.Series("", index=table.index)
        shown[name] = [_written(name, value) for value in values]
    write_durable(path, shown.to_csv(index=False, lineterminator="\n").encode())


def read_corrections(path: Path, *, plate: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Rows of an annotation table that a person decided, checked against the plate's patches.

    A row counts as a person's when its `corrected_by` is filled, its rule says so, it has no rule, or its state is not
    the one that its rule gives.

    Parameters
    ----------
    plate
        The plate's store, which the table must name.
    table
        The patches that exist: columns well, field, timepoint, y_um, x_um.

    Returns
    -------
    rows
        One row a patch of a person: row (its label in `table`), state, rule, corrected_by, note.

    Raises
    ------
    SettingsError
        Names the line: an unknown state, a patch that the plate does not have, one that is there twice, another plate.
    """
    header, lines = _read(path)
    fields = dict(iter(table.groupby(["well", "field", "timepoint"], sort=False)))
    found: list[dict[str, Any]] = []
    seen: dict[Any, int] = {}
    for number, values in lines:
        row = dict(zip(header, values, strict=False))
        where = f"{path}, line {number}"
        _check_plate(row, path=path, plate=plate, where=where)
        state = " ".join(row.get("state", "").split()).casefold()
        if state not in (*STATES, UNDECIDED):
            raise SettingsError(
                f"{where}: state {row.get('state', '')!r} is not known. Expected one of {', '.join(STATES)}, or "
                f"{UNDECIDED}. Correct the cell."
            )
        label = _patch(fields, *_read_place(row, where))
        if label is not None and label in seen:
            raise SettingsError(f"{where}: this patch stands in line {seen[label]} already. Remove one of the two.")
        seen[label] = number
        by, rule, note = (_plain(row.get(name, "")) for name in ("corrected_by", "rule", "note"))
        gated = bool(rule) and not rule.startswith((BY_HAND, BY_REGION))
        if gated and not by and state == implied_state(rule, _plain(row.get("inducer", ""))):
            if note and label is not None:
                found.append({"row": label, "state": "", "rule": "", "corrected_by": "", "note": note})
            continue
        if label is None:
            raise SettingsError(
                f"{where}: the plate has no patch of well {row['well']}, field {row['field']}, timepoint "
                f"{row['timepoint']} around ({row['y_um']}, {row['x_um']}) um. Expected patches of this run: same "
                "--stride and --frames, wells that are not masked. Remove the row, run with the same options, or give "
                "another --out."
            )
        kept = rule if rule.startswith(BY_REGION) and not by else BY_HAND
        found.append({"row": label, "state": state, "rule": kept, "corrected_by": by, "note": note})
    return pd.DataFrame(found, columns=["row", "state", "rule", "corrected_by", "note"])


def with_corrections(table: pd.DataFrame, corrections: pd.DataFrame) -> pd.DataFrame:
    """Put a person's states over those of the gates; a row of corrections without a state keeps its note only."""
    corrected = table.copy()
    for name in _OWN:
        if name not in corrected:
            corrected[name] = ""
    decided = corrections[corrections["state"] != ""]
    for name in ("state", "rule", "corrected_by"):
        corrected.loc[decided["row"], name] = decided[name].to_numpy(object)
    corrected.loc[corrections["row"], "note"] = corrections["note"].to_numpy(object)
    return corrected


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The annotation table {path} cannot be read ({error}). Expected a CSV file.") from error
    # a spreadsheet in another country saves semicolons
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter=";" if first.count(";") > first.count(",") else ",")
    header: list[str] = []
    lines = []
    for values in reader:
        if not header:
            header = [name.strip().casefold() for name in values]
        elif any(value.strip() for value in values):
            lines.append((reader.line_num, values))
    lost = [name for name in (*_PLACE, "state") if name not in header]
    if lost:
        raise SettingsError(f"{path}, line 1: the column {lost[0]!r} is missing. Expected {', '.join(COLUMNS)}.")
    return header, lines


def _check_plate(row: Mapping[str, str], *, path: Path, plate: Path, where: str) -> None:
    named = row.get("plate", "").strip()
    # a table that was sent elsewhere names the plate by a path that is not there: its name decides
    if named and Path(named).name != plate.name:
        raise SettingsError(f"{where}: this row is of the plate {named}, not of {plate}. Give the table of this plate.")


def _read_place(row: Mapping[str, str], where: str) -> tuple[tuple[str, int, int], float, float]:
    """Well, field and timepoint of a row, and the centre of its patch."""
    try:
        field, timepoint = (int(row.get(name, "")) for name in ("field", "timepoint"))
        y_um, x_um = (float(row.get(name, "").replace(",", ".")) for name in ("y_um", "x_um"))
    except ValueError:
        raise SettingsError(
            f"{where}: field {row.get('field')!r}, timepoint {row.get('timepoint')!r} and centre "
            f"({row.get('y_um')!r}, {row.get('x_um')!r}) name no patch. Expected whole numbers, and um. "
            "Correct the line."
        ) from None
    return (row.get("well", "").strip(), field, timepoint), y_um, x_um


def _patch(fields: Mapping[Any, pd.DataFrame], field: tuple[str, int, int], y_um: float, x_um: float) -> Any:
    """Label of the patch around a place, None where there is none; a spreadsheet may have cut digits."""
    rows = fields.get(field)
    if rows is None:
        return None
    away = np.hypot(rows["y_um"].to_numpy() - y_um, rows["x_um"].to_numpy() - x_um)
    nearest = int(np.argmin(np.nan_to_num(away, nan=np.inf)))
    return rows.index[nearest] if away[nearest] <= _SAME_PLACE_UM else None


def _plain(cell: str) -> str:
    """A cell as it was before `_written` guarded it."""
    cell = cell.strip()
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell


def _written(name: str, value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return "" if not np.isfinite(value) else f"{value:.{_DIGITS[name]}f}"
    text = str(value)
    # what a spreadsheet would run as a formula is not kept as one
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA) else value


def counts(table: pd.DataFrame, *, by: Iterable[str] = ("state",)) -> pd.DataFrame:
    """Number of patches by state and whatever else, states in their order and undecided last."""
    order = pd.CategoricalDtype([*STATES, UNDECIDED], ordered=True)
    return (
        table.assign(state=table["state"].astype(order))
        .groupby(list(by), observed=False)
        .size()
        .reset_index(name="patches")
    )
