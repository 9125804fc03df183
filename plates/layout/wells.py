"""Names of wells and formats of plates, from 6 to 1536 wells."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import PlateMapError
from .problems import shown

FORMATS = {6: (2, 3), 12: (3, 4), 24: (4, 6), 48: (6, 8), 96: (8, 12), 384: (16, 24), 1536: (32, 48)}


def parse_well(text: str) -> tuple[int, int]:
    """Return row and column, both from 0, of a well written as A1, a01, A:1 or A-01, up to AF48.

    Raises
    ------
    PlateMapError
        The text is not the name of a well ("13", "1E5", "AG1").
    """
    match = re.fullmatch(r"([A-Za-z]{1,2})[:_\-]?0{0,2}([1-9][0-9]?)", text.strip())
    if match is None:
        raise PlateMapError(f"{shown(text)} is not a well. Expected a letter and a number such as 'A01'.")
    letters = match[1].upper()
    row = ord(letters[-1]) - ord("A") + 26 * (ord(letters[0]) - ord("A") + 1) * (len(letters) - 1)
    column = int(match[2]) - 1
    if not inside((row, column), FORMATS[1536]):
        raise PlateMapError(f"{shown(text)} lies outside a 1536-well plate, whose last well is AF48.")
    return row, column


def well_name(row: int, column: int) -> str:
    """Return the name, such as "A01", of the well in this row and column, both from 0."""
    return f"{row_letters(row)}{column + 1:02d}"


def row_letters(row: int) -> str:
    """Return the letters, "A" to "AF", of the row, from 0."""
    return chr(ord("A") + row) if row < 26 else "A" + chr(ord("A") + row - 26)


def inside(position: tuple[int, int], shape: tuple[int, int]) -> bool:
    """Say whether a plate of this shape (rows, columns) has the well."""
    return position[0] < shape[0] and position[1] < shape[1]


def smallest_format(positions: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Return rows and columns of the smallest plate that holds all the wells."""
    wells = list(positions)
    return next(shape for shape in FORMATS.values() if all(inside(well, shape) for well in wells))
