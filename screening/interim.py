"""The result `fields` kept up to date while a plate is acquired, from the records of what is new alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from plates.ingest.survey import Header
from plates.ingest.tables import fields_table
from plates.results import has_result, read_result, write_result
from plates.store import Plate

if TYPE_CHECKING:
    import xarray as xr


class InterimFields:
    """Statistics of the fields that are converted so far; `ingest` writes them anew at the end."""

    def __init__(self, plate: Plate) -> None:
        self._table: xr.Dataset | None = read_result(plate.path, "fields") if has_result(plate.path, "fields") else None

    def update(
        self, plate: Plate, headers: Mapping[tuple[str, int], Sequence[Header]], *, changed: Collection[tuple[str, int]]
    ) -> None:
        """Take up fields with new frames, and write the result.

        Parameters
        ----------
        headers
            Well and field -> headers of its files, cut to the frames that are converted.
        changed
            Wells and fields with new frames.
        """
        known = changed if self._table is not None else headers.keys()
        table = fields_table(plate, list(chain.from_iterable(headers[place] for place in known if place in headers)))
        if self._table is not None:
            _keep(self._table, table, but=changed)
        self._table = table
        write_result(plate.path, "fields", table, provenance={"command": "watch"})


def _keep(earlier: xr.Dataset, table: xr.Dataset, *, but: Collection[tuple[str, int]]) -> None:
    """Put what was known before into a table of at least its size, save for some wells and fields."""
    rows = {str(well): row for row, well in enumerate(table["well"].values)}
    wells = np.array([rows[str(well)] for well in earlier["well"].values])
    sizes = tuple(earlier.sizes[name] for name in ("well", "field", "timepoint"))
    kept = np.ones((len(rows), table.sizes["field"]), dtype=bool)
    for well, field in but:
        kept[rows[well], field] = False
    where = np.ix_(wells, np.arange(sizes[1]), np.arange(sizes[2]))
    mask = np.broadcast_to(kept[wells][:, : sizes[1], None], sizes)
    for name in table.data_vars:
        if name in earlier:
            values = table[name].values
            values[where] = np.where(mask, earlier[name].values, values[where])
