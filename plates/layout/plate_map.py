"""Plate map: what is in each well, read from the table a lab keeps and checked before anything runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import xarray as xr

from .broad import join_compounds, settle_blanks
from .problems import Problems, listed
from .remarks import remarks
from .roles import is_masked
from .rows import Row, number_replicates, read_rows
from .second import join_fluids
from .table import read_table
from .text import read_bytes, read_lines
from .units import read_unit
from .wells import FORMATS, inside, parse_well, smallest_format, well_name


@dataclass(frozen=True, eq=False)
class PlateMap:
    """What is in each well of one plate.

    Attributes
    ----------
    table
        One row per well, row-major. Columns: well ("A01"), row and column (from 0), compound, dose
        (micromolar, to 8 digits, NaN where there is none), compound_2 and dose_2 where wells of the plate hold two
        compounds (empty and NaN in those that do not), control ("negative", "positive", "none", or "combination" of
        two compounds), inducer (empty where there is none), replicate, cell_line, vehicle (the solvent, empty where
        unknown), masked (why the well is not to be used, empty where it is), line (in the file, from 1).
    rows, columns
        The plate's format.
    source
        Name of the file.
    sha256
        Of the file's bytes, followed by those of the table of compounds where one was joined.
    notes
        What is worth a second look but stops nothing, one sentence each.
    """

    table: pd.DataFrame
    rows: int
    columns: int
    source: str
    sha256: str
    notes: tuple[str, ...] = field(default=())

    def to_dataset(self) -> xr.Dataset:
        """Return the map as the stored result `layout`: dimension well, doses in micromolar.

        `compound_2` and `dose_2` are there only where a well of the plate holds two compounds.
        """
        texts = {
            name: ("well", self.table[name].to_numpy(dtype=object))
            for name in ("compound", "control", "inducer", "cell_line", "vehicle", "masked")
        }
        numbers = {
            name: ("well", self.table[name].to_numpy(dtype="int64")) for name in ("replicate", "row", "column", "line")
        }
        dose = ("well", self.table["dose"].to_numpy(dtype="float64"), {"units": "uM"})
        layout = xr.Dataset(
            {**texts, "dose": dose, **numbers},
            coords={"well": ("well", self.table["well"].to_numpy(dtype=object))},
            attrs={"source": self.source, "sha256": self.sha256, "dose_unit": "uM"},
        )
        if "compound_2" not in self.table:
            return layout
        return layout.assign(
            compound_2=("well", self.table["compound_2"].to_numpy(dtype=object)),
            dose_2=("well", self.table["dose_2"].to_numpy(dtype="float64"), {"units": "uM"}),
        )

    def check_against(self, imaged: Iterable[str]) -> list[str]:
        """Say how the map and the imaged wells differ, one sentence each; nothing where they agree.

        Parameters
        ----------
        imaged
            Names of the wells that have acquisitions, in any accepted spelling.
        """
        seen = {well_name(*parse_well(well)) for well in imaged}
        mapped = set(self.table["well"])
        found = []
        beyond = [well for well in seen if not inside(parse_well(well), (self.rows, self.columns))]
        if beyond:
            found.append(
                f"{self.source} describes a {self.rows * self.columns}-well plate, but wells outside it were "
                f"imaged: {listed(sorted(beyond))}. Is it the map of another plate?"
            )
        if seen - mapped:
            found.append(f"Imaged, but not in {self.source}: {listed(sorted(seen - mapped))}.")
        # nobody misses the image of a well that is not to be used
        missing = mapped - seen - set(self.table["well"][is_masked(self.table)])
        if missing:
            found.append(f"In {self.source}, but not imaged: {listed(sorted(missing))}.")
        return found


def read_plate_map(
    path: Path,
    *,
    dose_unit: str | None = None,
    plate_format: int | None = None,
    sheet: str | None = None,
    metadata: Path | None = None,
) -> PlateMap:
    """Read and check a plate map: a table with one line per well, or grids in the shape of the plate.

    CSV and TSV (UTF-8, UTF-16; comma, tab or semicolon) and Excel workbooks are told apart by their contents.
    Every cell is read as text: a compound called "NA" stays one. Nothing is guessed: what can be read in two
    ways is refused.

    Parameters
    ----------
    path
        The file; the first line of a table names its columns, the top-left cell of a grid what it holds.
    dose_unit
        Unit of doses that carry none in their cell, column name or unit column.
    plate_format
        Number of wells of the plate; that of the grids, or else the smallest format that holds all wells,
        where it is not given.
    sheet
        Sheet of a workbook; its first visible one where it is not given.
    metadata
        Table of compounds, joined by the column that names them, as Broad Institute and JUMP plates have it:
        gives names, control types, inducers and molecular weights.

    Raises
    ------
    PlateMapError
        Names every fault of the file with its line, well and remedy.
    MissingInputError
        There is no such file.
    """
    path = Path(path)
    problems = Problems(path.name)
    if dose_unit is not None:
        problems.attempt(0, "", read_unit, dose_unit)
    if plate_format is not None and plate_format not in FORMATS:
        problems.add(0, f"no plate has {plate_format} wells. Expected one of {listed(FORMATS)}.")
    problems.stop()
    data = read_bytes(path)
    table = read_table(read_lines(data, sheet=sheet, problems=problems), problems=problems)
    settle_blanks(table)
    join_fluids(table, problems=problems)
    digest = hashlib.sha256(data)
    if metadata is not None:
        digest.update(join_compounds(table, metadata))
    rows, traces = read_rows(table, dose_unit=dose_unit, problems=problems)
    shape = _shape(rows, table.shape, plate_format, problems)
    empty = [row.well for row in rows if row.control == "empty"]
    rows = [row for row in rows if row.control != "empty"]
    if not rows and not problems.found:
        problems.add(0, "holds no wells. Expected one line per well below the column names.")
    problems.stop()
    number_replicates(rows)
    frame = _frame(rows)
    left_out = [f"Left out as empty: {listed(empty)}."] if empty else []
    return PlateMap(
        frame,
        rows=shape[0],
        columns=shape[1],
        source=path.name,
        sha256=digest.hexdigest(),
        notes=(*table.notes, *traces, *left_out, *remarks(frame)),
    )


def _shape(
    rows: list[Row], drawn: tuple[int, int] | None, plate_format: int | None, problems: Problems
) -> tuple[int, int]:
    """Return the plate's rows and columns, and note what does not fit them."""
    shape = smallest_format(row.position for row in rows)
    if plate_format is not None:
        shape = FORMATS[plate_format]
    if drawn is not None:
        if plate_format is not None and drawn != shape:
            what = f"its grids are those of a {drawn[0] * drawn[1]}-well plate, not of the {plate_format} wells stated."
            problems.add(0, f"{what} Correct the grids or the plate's format.")
        return drawn
    for row in rows:
        if not inside(row.position, shape):
            what = f"lies outside a {shape[0] * shape[1]}-well plate. Correct the well or the plate's format."
            problems.add(row.line, what, well=row.well)
    return shape


def _frame(rows: list[Row]) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "well": [row.well for row in rows],
            "row": [row.position[0] for row in rows],
            "column": [row.position[1] for row in rows],
            "compound": [row.compound for row in rows],
            "dose": [row.dose for row in rows],
            "control": [row.control for row in rows],
            "inducer": [row.inducer for row in rows],
            "replicate": [row.replicate for row in rows],
            "cell_line": [row.cell_line for row in rows],
            "vehicle": [row.vehicle for row in rows],
            "masked": [row.masked for row in rows],
            "line": [row.line for row in rows],
        }
    )
    if any(row.second.compound for row in rows):
        doses = [row.second.dose.micromolar if row.second.compound else float("nan") for row in rows]
        frame = frame.assign(compound_2=[row.second.compound for row in rows], dose_2=doses)
    return frame
