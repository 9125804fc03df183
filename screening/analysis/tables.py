"""Results as tidy tables: one for each shape of a result, what the results say of themselves, and a dictionary."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np
import pandas as pd
import xarray as xr

from plates.states import STATES

from .dictionary import UNDESCRIBED, meaning_of

DICTIONARY, ATTRIBUTES = "dictionary", "attributes"
# tables beside the pages that are not called after the result they were made of
MADE_OF = {
    "wells": ("fractions", "quality", "normalized"),
    "curves": ("dose_response",),
    "points": ("dose_response",),
}
_DICTIONARY_COLUMNS = ("table", "column", "type", "unit", "meaning")


def described_tables(
    results: Mapping[str, xr.Dataset], *, beside: Mapping[str, pd.DataFrame] | None = None, plate: str = ""
) -> dict[str, pd.DataFrame]:
    """Make tidy tables of every result, with `attributes` of the results and a `dictionary` of every column.

    The variables of a result that share their dimensions make one table, a row for each place in them and the
    coordinates in front; rows that hold nothing are left out. The tables are named after both: `ranking.compound`,
    `fractions.well_timepoint_state`.

    Parameters
    ----------
    results
        Results by name, as `plates.results.read_result` gives them.
    beside
        Tables made of the same results elsewhere, such as those beside a page; they come first and are described too.
    plate
        Name that goes in front of every row, where the tables of several plates are to be put together.

    Returns
    -------
    dict
        Tables by name. `attributes` holds result, attribute and value: rules, levels, settings. `dictionary` comes last
        and holds table, column, type, unit and meaning, itself included; `undescribed` finds what it cannot tell.
    """
    tables = dict(beside or {})
    for name, dataset in results.items():
        tables |= tidy(name, dataset)
    tables[ATTRIBUTES] = _attributes(results)
    if plate:
        tables = {name: _with_plate(table, plate) for name, table in tables.items()}
    tables[DICTIONARY] = _dictionary(tables, results)
    return tables


def tidy(name: str, dataset: xr.Dataset) -> dict[str, pd.DataFrame]:
    """Tables of one result, by their names; one for each set of dimensions that its variables have.

    Variables are taken by name: a store gives its arrays, and with them its dimensions, back in any order.
    """
    shapes: dict[frozenset[Hashable], list[Hashable]] = {}
    for key in sorted(dataset.data_vars, key=str):
        shapes.setdefault(frozenset(dataset[key].dims), []).append(key)
    tables = {}
    for keys in shapes.values():
        dims = dataset[keys[0]].dims
        table = name if not dims else f"{name}.{'_'.join(map(str, dims))}"
        tables[table] = _frame(dataset, dims, keys)
    return tables


def undescribed(dictionary: pd.DataFrame) -> list[str]:
    """Columns of a dictionary that nobody has described, "table.column"."""
    lost = dictionary[dictionary["meaning"] == UNDESCRIBED]
    return [f"{table}.{column}" for table, column in zip(lost["table"], lost["column"], strict=True)]


def _frame(dataset: xr.Dataset, dims: tuple[Hashable, ...], keys: list[Hashable]) -> pd.DataFrame:
    shape = tuple(dataset.sizes[dim] for dim in dims)
    columns: dict[str, np.ndarray] = {}
    for place, dim in enumerate(dims):
        labels = dataset[dim].values if dim in dataset.coords else np.arange(shape[place])
        spread = labels.reshape([-1 if k == place else 1 for k in range(len(dims))])
        columns[str(dim)] = np.broadcast_to(spread, shape).ravel()
    # what belongs to a well or a frame stands beside it
    beside = [key for key, one in dataset.coords.items() if key not in dims and one.dims and set(one.dims) <= set(dims)]
    for key in [*sorted(beside, key=str), *keys]:
        variable = dataset[key]
        values = variable.transpose(*[dim for dim in dims if dim in variable.dims]).values
        spread = values.reshape([dataset.sizes[dim] if dim in variable.dims else 1 for dim in dims])
        columns[str(key)] = np.broadcast_to(spread, shape).ravel()
    frame = pd.DataFrame({column: _plain(values) for column, values in columns.items()})
    held = np.zeros(len(frame), dtype=bool)
    for key in keys:
        column = frame[str(key)]
        held |= column.notna().to_numpy() & (column != "").to_numpy()
    return frame[held].reset_index(drop=True)


def _plain(values: np.ndarray) -> np.ndarray:
    """Text as text, missing text empty; everything else as it is."""
    if values.dtype.kind not in "OTU":
        return values
    return np.array(["" if value is None or value != value else str(value) for value in values], dtype=object)


def _attributes(results: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    rows = [
        (name, str(key), str(value))
        for name, dataset in results.items()
        for key, value in sorted(dataset.attrs.items(), key=lambda item: str(item[0]))
    ]
    return pd.DataFrame(rows, columns=["result", "attribute", "value"])


def _with_plate(table: pd.DataFrame, plate: str) -> pd.DataFrame:
    if "plate" in table:
        return table
    return pd.concat([pd.Series(plate, index=table.index, name="plate", dtype=object), table], axis=1)


def _dictionary(tables: Mapping[str, pd.DataFrame], results: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    rows = [
        (name, str(column), _kind(table[column]), *_described(name, str(column), results))
        for name, table in tables.items()
        for column in table.columns
    ]
    rows += [(DICTIONARY, column, "text", *meaning_of(DICTIONARY, column)) for column in _DICTIONARY_COLUMNS]
    return pd.DataFrame(rows, columns=list(_DICTIONARY_COLUMNS))


def _described(table: str, column: str, results: Mapping[str, xr.Dataset]) -> tuple[str, str]:
    """Unit and meaning: what the result itself says goes before the dictionary.

    A state in front of a column says whose number it is.
    """
    name = table.split(".", 1)[0]
    sources = [one for one in MADE_OF.get(name, (name,)) if one in results and column in results[one].variables]
    unit, meaning = meaning_of(sources[0] if sources else name, column)
    if sources:
        attrs = results[sources[0]][column].attrs
        unit, meaning = str(attrs.get("units", unit)), str(attrs.get("long_name", "")) or meaning
    for part in (*STATES, "live"):
        if meaning == UNDESCRIBED and column.startswith(f"{part}_"):
            unit, meaning = _described(table, column.removeprefix(f"{part}_"), results)
            meaning = meaning if meaning == UNDESCRIBED else f"{part}: {meaning}"
    return unit, meaning


def _kind(values: pd.Series) -> str:
    kind = values.dtype.kind
    if kind == "b":
        return "yes/no"
    if kind in "iu":
        return "integer"
    return "number" if kind == "f" else "date" if kind == "M" else "text"
