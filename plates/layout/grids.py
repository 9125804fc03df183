"""Grids: plate-shaped blocks of cells, one per quantity, each with its name in the top-left corner."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .problems import Problems, listed, shown
from .wells import FORMATS, row_letters


@dataclass
class Grid:
    """One grid.

    Attributes
    ----------
    name
        What stands in its top-left cell.
    line
        The line of its column numbers.
    shape
        Rows and columns of the plate.
    rows
        Line and cells of each row, from A; a cell per column.
    """

    name: str
    line: int
    shape: tuple[int, int]
    rows: list[tuple[int, list[str]]]


def starts_grid(cells: Sequence[str]) -> bool:
    """Say whether this line begins a grid: a name, or nothing, then the numbers 1, 2, 3 of the columns.

    A line that begins with these numbers themselves counts as well, so that missing row labels are named.
    """
    return _numbers(cells[1:4]) == [1, 2, 3] or (_numbers(cells[:3]) == [1, 2, 3] and _counts_up(cells))


def read_grids(lines: Iterable[tuple[int, list[str]]], *, problems: Problems) -> list[Grid]:
    """Return the grids that stand below each other, with or without blank lines between them.

    Each must have all rows and columns of a plate of 6 to 1536 wells; faults end the reading.
    """
    grids: list[Grid] = []
    for line, cells in lines:
        if starts_grid(cells):
            _check_rows_end(grids, problems)
            grids.append(_begin(line, cells, problems))
        elif grids:
            _add_row(grids[-1], line, cells, problems)
    _check_rows_end(grids, problems)
    problems.stop()
    for grid in grids[1:]:
        if grid.shape != grids[0].shape:
            here, first = (shape[0] * shape[1] for shape in (grid.shape, grids[0].shape))
            what = f"grid {shown(grid.name)} is that of a {here}-well plate, the first grid of a {first}-well plate."
            problems.add(grid.line, f"{what} Keep one plate in one file.")
    problems.stop()
    return grids


def _begin(line: int, cells: list[str], problems: Problems) -> Grid:
    if _numbers(cells[:3]) == [1, 2, 3]:
        problems.add(
            line, "the row labels are missing. Expected the name of the grid, then 1, 2, 3 ..., and A, B, C below."
        )
        problems.stop()
    last = max(i for i, cell in enumerate(cells) if cell)
    numbers = _numbers(cells[1 : last + 1])
    if numbers != list(range(1, last + 1)):
        wrong = next(i for i, number in enumerate(numbers, start=1) if number != i)
        problems.add(line, f"column {wrong} of the grid is headed {shown(cells[wrong])}. Expected {wrong}.")
        problems.stop()
    shape = next((shape for shape in FORMATS.values() if shape[1] == last), None)
    if shape is None:
        known = listed(columns for _, columns in FORMATS.values())
        problems.add(line, f"the grid has {last} columns, as no plate has. Expected one of {known}.")
        problems.stop()
        raise AssertionError  # stop() has raised
    return Grid(cells[0], line, shape, [])


def _add_row(grid: Grid, line: int, cells: list[str], problems: Problems) -> None:
    rows, columns = grid.shape
    label = cells[0].upper()
    if len(grid.rows) == rows:
        last = row_letters(rows - 1)
        what = f"row {shown(cells[0])} stands below row {last}, the last of a {rows * columns}-well plate."
        problems.add(line, f"{what} Delete it, or begin a grid with its name and column numbers.")
        return
    expected = row_letters(len(grid.rows))
    if label != expected:
        known = [row_letters(row) for row in range(rows)]
        if label in known[len(grid.rows) :]:
            missing = known[len(grid.rows) : known.index(label)]
            problems.add(
                line, f"row {', '.join(missing)} is missing above row {label}. Grids have all rows, even empty."
            )
            grid.rows.extend((line, [""] * columns) for _ in missing)
        else:
            label = f"is labelled {shown(cells[0])}" if cells[0] else "has no label"
            problems.add(line, f"row {expected} of the grid {label}. Expected {expected} in its first cell.")
    beyond = next((i for i, cell in enumerate(cells) if i > columns and cell), None)
    if beyond is not None:
        what = f"{shown(cells[beyond])} stands to the right of column {columns}, the last of the grid."
        problems.add(line, f"{what} Delete it, or add the number of its column.")
    elif len(cells) < columns + 1:
        what = f"row {expected} has {len(cells) - 1} cells, but the grid has {columns} columns."
        problems.add(line, f"{what} Is the line cut off?")
    grid.rows.append((line, (cells[1 : columns + 1] + [""] * columns)[:columns]))


def _check_rows_end(grids: list[Grid], problems: Problems) -> None:
    if grids and len(grids[-1].rows) < grids[-1].shape[0]:
        rows, columns = grids[-1].shape
        missing = [row_letters(row) for row in range(len(grids[-1].rows), rows)]
        line = grids[-1].rows[-1][0] if grids[-1].rows else grids[-1].line
        what = (
            f"row {listed(missing)} is missing below: the grid has {columns} columns, as {rows * columns}-well plates."
        )
        problems.add(line, f"{what} Add the row, even empty.")


def _numbers(cells: Sequence[str]) -> list[int]:
    """Return the cells as numbers from 1, 0 for what is none."""
    return [int(cell) if re.fullmatch(r"0?[1-9][0-9]?", cell) else 0 for cell in cells]


def _counts_up(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if cell]
    return _numbers(filled) == list(range(1, len(filled) + 1))
