"""Results as tidy files: one table for each shape of a result, and a dictionary of every column."""

from __future__ import annotations

import io
from collections.abc import Hashable, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from plates.errors import StoreError
from plates.files import write_durable

from .dictionary import UNDESCRIBED, meaning_of

DICTIONARY, ATTRIBUTES = "dictionary", "attributes"
_DICTIONARY_COLUMNS = ("table", "column", "type", "unit", "meaning")


def write_tables(
    results: Mapping[str, xr.Dataset], out: Path, *, plate: str = "", parquet: bool | None = None
) -> list[Path]:
    """Write every result as tidy tables, with `dictionary.csv` and `attributes.csv` beside them.

    The variables of a result that share their dimensions make one table, a row for each place in them and the
    coordinates in front; rows that hold nothing are left out. The files are named after both: `ranking.compound.csv`,
    `fractions.well_timepoint_state.csv`.

    Parameters
    ----------
    results
        Results by name, as `plates.results.read_result` gives them.
    out
        Folder; made if need be. Files of the same names are replaced.
    plate
        Name that goes in front of every row, where the tables of several plates are to be put together.
    parquet
        Also write Parquet files; where pyarrow is installed unless told.

    Returns
    -------
    list
        The files written.

    Raises
    ------
    StoreError
        Parquet was asked for and pyarrow is not installed.
    """
    available = find_spec("pyarrow") is not None
    if parquet and not available:
        raise StoreError("Parquet needs pyarrow, which is not installed. Install it, or write CSV only.")
    parquet = available if parquet is None else parquet
    tables: dict[str, pd.DataFrame] = {}
    units: dict[tuple[str, str], tuple[str, str]] = {}
    for name, dataset in results.items():
        for table, frame in tidy(name, dataset).items():
            tables[table] = frame
            for column in map(str, frame.columns):
                units[table, column] = _described(name, dataset, column)
    rows = [
        (name, str(key), str(value))
        for name, dataset in results.items()
        for key, value in sorted(dataset.attrs.items(), key=lambda item: str(item[0]))
    ]
    tables[ATTRIBUTES] = pd.DataFrame(rows, columns=["result", "attribute", "value"])
    for column in map(str, tables[ATTRIBUTES].columns):
        units[ATTRIBUTES, column] = meaning_of(ATTRIBUTES, column)
    if plate:
        for table, frame in tables.items():
            if "plate" not in frame:
                frame.insert(0, "plate", plate)
                units[table, "plate"] = meaning_of(table, "plate")
    tables[DICTIONARY] = _dictionary(tables, units)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for table, frame in tables.items():
        path = out / f"{table}.csv"
        write_durable(path, frame.to_csv(index=False, lineterminator="\n").encode())
        written.append(path)
        if parquet:
            buffer = io.BytesIO()
            frame.to_parquet(buffer, index=False)
            path = out / f"{table}.parquet"
            write_durable(path, buffer.getvalue())
            written.append(path)
    return written


def tidy(name: str, dataset: xr.Dataset) -> dict[str, pd.DataFrame]:
    """Tables of one result, by their names; one for each set of dimensions that its variables have."""
    shapes: dict[tuple[Hashable, ...], list[Hashable]] = {}
    for key, variable in dataset.data_vars.items():
        dims = tuple(dim for dim in dataset.sizes if dim in variable.dims)  # one order for all
        shapes.setdefault(dims, []).append(key)
    tables = {}
    for dims, keys in shapes.items():
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
    for key in [*beside, *keys]:
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


def _described(name: str, dataset: xr.Dataset, column: str) -> tuple[str, str]:
    """Unit and meaning: what the result itself says goes before the dictionary."""
    unit, meaning = meaning_of(name, column)
    attrs = dataset[column].attrs if column in dataset.variables else {}
    told = str(attrs.get("long_name", ""))
    return str(attrs.get("units", unit)), told or meaning


def _dictionary(tables: Mapping[str, pd.DataFrame], units: Mapping[tuple[str, str], tuple[str, str]]) -> pd.DataFrame:
    rows = [
        (table, str(column), _kind(frame[column]), *units[table, str(column)])
        for table, frame in tables.items()
        for column in frame.columns
    ]
    rows += [(DICTIONARY, column, "text", *meaning_of(DICTIONARY, column)) for column in _DICTIONARY_COLUMNS]
    return pd.DataFrame(rows, columns=list(_DICTIONARY_COLUMNS))


def _kind(values: pd.Series) -> str:
    kind = values.dtype.kind
    if kind == "b":
        return "yes/no"
    if kind in "iu":
        return "integer"
    return "number" if kind == "f" else "date" if kind == "M" else "text"
