"""The table of annotated patches: read, and checked line by line."""

import csv
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from plates.errors import SettingsError
from plates.states import STATES

from .splits import SPLITS

COLUMNS = ("plate", "well", "field", "timepoint", "y_um", "x_um", "state")
UNDECIDED = "undecided"


def read_annotations(path: Path, *, states: Sequence[str] = STATES) -> pd.DataFrame:
    """Read a table of annotated patches (CSV) and check every line.

    Columns: plate (path of a plate store, relative to the table), well, field, timepoint, y_um, x_um
    (the patch's centre in its field), state, and optionally split (train, validation or test) and date (any
    text that is the same for what was recorded together). Other columns are for people and are not read.

    Parameters
    ----------
    states
        The names that may stand in the column `state`; rows that are "undecided" are left out.

    Returns
    -------
    table
        One row per patch with those columns; plate is an absolute path, and `line` the line in the file.

    Raises
    ------
    SettingsError
        Naming the file, the line and the remedy.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(
            f"The annotation table {path} cannot be read ({error}). Expected a CSV file with the columns "
            f"{', '.join(COLUMNS)}."
        ) from error
    header = [name.strip() for name in lines[0]] if lines else []
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise SettingsError(
            f"{path}, line 1: the column {missing[0]!r} is missing. Expected {', '.join(COLUMNS)} "
            "and optionally split. Add it, or correct its name."
        )
    rows = [
        _checked_row(
            dict(zip(header, values, strict=False)), where=f"{path}, line {number}", base=path.parent, states=states
        )
        | {"line": number}
        for number, values in enumerate(lines[1:], start=2)
        if any(value.strip() for value in values)
    ]
    rows = [row for row in rows if row["state"] != UNDECIDED]
    if not rows:
        raise SettingsError(f"{path} holds no annotated patch. Expected one row per patch below the header.")
    table = pd.DataFrame(rows)
    if "split" in header:
        _check_splits(table, path)
    return table


def _checked_row(row: dict[str, str], *, where: str, base: Path, states: Sequence[str]) -> dict[str, object]:
    values: dict[str, object] = {"plate": str((base / row.get("plate", "").strip()).resolve())}
    values["well"] = row.get("well", "").strip()
    for name, kind in (("field", int), ("timepoint", int), ("y_um", float), ("x_um", float)):
        text = row.get(name, "").strip()
        try:
            value = kind(text)
            if not 0 <= value < float("inf"):
                raise ValueError
        except ValueError:
            wanted = "a whole number from 0 up" if kind is int else "a distance in um from the field's corner"
            raise SettingsError(f"{where}: {name} {text!r} is not {wanted}. Correct the cell.") from None
        values[name] = value
    values["state"] = row.get("state", "").strip()
    if values["state"] not in (*states, UNDECIDED):
        raise SettingsError(
            f"{where}: state {values['state']!r} is not known. Expected one of {', '.join(states)}, or "
            f"{UNDECIDED}. Correct the cell, or name all your states (--states)."
        )
    if "date" in row:
        values["date"] = row["date"].strip()
    if "split" in row:
        values["split"] = row["split"].strip()
        if values["split"] not in SPLITS:
            raise SettingsError(
                f"{where}: split {values['split']!r} is not known. Expected one of {', '.join(SPLITS)}, in "
                "every row. Correct the cell, or leave the column out and the wells are split for you."
            )
    return values


def _check_splits(table: pd.DataFrame, path: Path) -> None:
    for (plate, well), rows in table.groupby(["plate", "well"], sort=False):
        if rows["split"].nunique() > 1:
            second = rows[rows["split"] != rows["split"].iloc[0]].iloc[0]
            raise SettingsError(
                f"{path}, line {second['line']}: well {well} of {Path(str(plate)).name} is in "
                f"{second['split']!r} and, at line {rows['line'].iloc[0]}, in {rows['split'].iloc[0]!r}. "
                "Patches of one well look alike, so a well belongs to one split. Give all its rows the "
                "same split."
            )
