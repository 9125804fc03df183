"""What a person left out of the analysis: a file with reason, name and date, applied as masks, never an edit."""

from __future__ import annotations

import csv
import datetime
import difflib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from plates.errors import MissingInputError, PlateMapError, SettingsError
from plates.layout.wells import parse_well, well_name

COLUMNS = ("plate", "well", "field", "timepoint", "reason", "name", "date")
EVERY = -1  # of field and timepoint: all of them


def read_exclusions(path: Path) -> pd.DataFrame:
    """Read and check a file of exclusions.

    A CSV file with columns plate, well, reason, name (whose decision it is), date (YYYY-MM-DD) and, where only a part
    of the well is meant, field and timepoint, both counted from 0; left empty they mean all.

    Returns
    -------
    DataFrame
        plate, well ("A01"), field and timepoint (`EVERY` for all), reason, name, date, line (in the file, from 1).

    Raises
    ------
    SettingsError
        Names every fault with its line.
    MissingInputError
        There is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingInputError(f"The exclusions {path} do not exist. Correct the path.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise SettingsError(f"{path.name} is not UTF-8 text. Save it as 'CSV UTF-8'.") from None
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter=";" if first.count(";") > first.count(",") else ",")
    lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(c.strip() for c in cells)]
    header = [name.casefold() for name in lines[0][1]] if lines else []
    lost = [name for name in COLUMNS if name not in header and name not in ("field", "timepoint")]
    if lost:
        raise SettingsError(f"{path.name}, line 1: column {lost[0]!r} is missing. Expected {', '.join(COLUMNS)}.")
    faults: list[str] = []
    rows: list[dict[str, object]] = []
    for number, cells in lines[1:]:
        row = dict(zip(header, [*cells, *[""] * (len(header) - len(cells))], strict=False))
        wrong, entry = _entry(row)
        faults += [f"{path.name}, line {number}: {what}" for what in wrong]
        rows.append({**entry, "line": number})
    table = pd.DataFrame(rows, columns=[*COLUMNS, "line"])
    place = ["plate", "well", "field", "timepoint"]
    for line in table.loc[table.duplicated(place), "line"]:
        faults.append(f"{path.name}, line {line}: this is excluded already further up. Remove one of the two.")
    if faults:
        raise SettingsError("\n".join(faults))
    return table


def check_exclusions(exclusions: pd.DataFrame, plates: Mapping[str, xr.Dataset]) -> None:
    """Refuse exclusions of what is not there: a decision that has no effect was meant for something else.

    Parameters
    ----------
    plates
        `probabilities` of each plate, by its name.

    Raises
    ------
    SettingsError
        Names the line: a plate, well, field or timepoint that does not exist.
    """
    faults = []
    for _, row in exclusions.iterrows():
        if row["plate"] not in plates:
            near = difflib.get_close_matches(row["plate"].upper(), list(plates), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Expected one of {', '.join(plates)}."
            faults.append(f"line {row['line']}: there is no plate {row['plate']!r}.{hint}")
            continue
        data = plates[row["plate"]]
        if row["well"] not in {str(name) for name in data.well.values}:
            faults.append(f"line {row['line']}: plate {row['plate']} has no classified well {row['well']}. Correct it.")
        for dim in ("field", "timepoint"):
            if row[dim] >= data.sizes[dim]:
                faults.append(
                    f"line {row['line']}: plate {row['plate']} has no {dim} {row[dim]}, its last one is "
                    f"{data.sizes[dim] - 1}. They are counted from 0."
                )
    if faults:
        raise SettingsError("The exclusions name what is not there:\n" + "\n".join(faults))


def apply_exclusions(
    probabilities: xr.Dataset, layout: xr.Dataset, exclusions: pd.DataFrame, *, plate: str
) -> tuple[xr.Dataset, xr.Dataset]:
    """Return copies of a plate's inputs with its exclusions applied; the inputs are left as they are.

    A whole well is masked in the layout, after the reason it may have there already, so that it stays visible and no
    statistic sees it; fields and timepoints become patches without an answer.
    """
    mine = exclusions[exclusions["plate"] == plate]
    probabilities, layout = probabilities.copy(), layout.copy()
    if mine.empty:
        return probabilities, layout
    values = probabilities.probability.copy(deep=True)
    masked = np.array(layout["masked"].values if "masked" in layout else [""] * layout.sizes["well"], dtype=object)
    places = {str(name): place for place, name in enumerate(layout.well.values)}
    for _, row in mine.iterrows():
        if row["field"] == EVERY and row["timepoint"] == EVERY:
            if row["well"] in places:
                earlier = str(masked[places[row["well"]]])
                masked[places[row["well"]]] = "; ".join(filter(None, [earlier, f"{row['reason']} ({row['name']})"]))
            continue
        selection: dict[str, object] = {"well": values.well.values == row["well"]}
        selection |= {dim: [int(row[dim])] for dim in ("field", "timepoint") if row[dim] != EVERY}
        values[selection] = np.nan
    return probabilities.assign(probability=values), layout.assign(
        masked=("well", masked, layout.masked.attrs if "masked" in layout else {})
    )


def exclusion_record(
    exclusions: pd.DataFrame,
    *,
    before: xr.Dataset,
    after: xr.Dataset,
    columns: Sequence[str] = ("rank", "status", "ec50", "ec50_low", "ec50_high", "emax"),
) -> xr.Dataset:
    """What was left out, by whom, and what it changed.

    Parameters
    ----------
    exclusions
        Those of the plate or campaign.
    before, after
        `ranking` without and with them.

    Returns
    -------
    Dataset
        Group `exclusions`. (exclusion): plate, well, field, timepoint (-1 is all), reason, name, date. (compound): each
        of `columns` with `_before` and `_after`, and `changed`. Compounds that only one of the two holds are kept, with
        missing values.
    """
    names = list(dict.fromkeys([*map(str, before.compound.values), *map(str, after.compound.values)]))
    result = xr.Dataset(
        {
            name: ("exclusion", exclusions[name].to_numpy(int if name in ("field", "timepoint") else object))
            for name in COLUMNS
        },
        coords={"compound": np.array(names, dtype=object)},
    )
    changed = np.zeros(len(names), dtype=bool)
    for column in columns:
        pair = []
        for suffix, ranking in (("before", before), ("after", after)):
            series = pd.Series(ranking[column].values, index=[str(name) for name in ranking.compound.values])
            text = series.dtype.kind not in "fiub"
            values = series.reindex(names)
            pair.append(values.fillna("").to_numpy(object) if text else values.to_numpy(float))
            result[f"{column}_{suffix}"] = ("compound", pair[-1], dict(ranking[column].attrs))
        one, other = pair
        same = one == other
        if one.dtype != object and other.dtype != object:
            same = np.isclose(one, other, rtol=1e-9, atol=0, equal_nan=True)
        changed |= ~np.asarray(same, dtype=bool)
    return result.assign(changed=("compound", changed))


def _entry(row: Mapping[str, str]) -> tuple[list[str], dict[str, object]]:
    """Faults of a line, and its values."""
    faults: list[str] = []
    entry: dict[str, object] = {name: row.get(name, "") for name in COLUMNS}
    for name in ("plate", "reason", "name"):
        if not row[name]:
            faults.append(f"no {name} is given. Nothing is left out without one; write it.")
    try:
        entry["well"] = well_name(*parse_well(row["well"]))
    except PlateMapError as error:
        faults.append(str(error))
    for name in ("field", "timepoint"):
        text = row.get(name, "")
        if not text:
            entry[name] = EVERY
        elif text.isdecimal() and len(text) < 7:
            entry[name] = int(text)
        else:
            faults.append(f"{name} {text!r} is no number from 0. Correct it, or leave it empty for all.")
            entry[name] = EVERY
    try:
        entry["date"] = datetime.date.fromisoformat(row["date"]).isoformat()
    except ValueError:
        faults.append(f"date {row['date']!r} is no day. Expected one such as 2026-03-02.")
    return faults, entry
