"""Numbers that a page shows, looked up in the tables beside it."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd

NUMBER = re.compile(r"(?<![\w.-])(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?![\w.])\s*(%|nM|[µμ]M|mM)?")
SCALES = {"%": (0.01, 1.0), "nM": (1e-3,), "µM": (1.0,), "μM": (1.0,), "mM": (1e3,), "": (1.0,)}
EXACT = 1e-9  # relative, for what a page holds as it is stored


@dataclass
class Row:
    """A row of a table on a page: the texts of its header cells, and of all its cells with what they sort by."""

    heading: str
    names: list[str] = field(default_factory=list)
    cells: list[tuple[str, str]] = field(default_factory=list)


class _Rows(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []
        self._row: Row | None = None
        self._cell: list[str] | None = None
        self._sort = self._heading = ""
        self._is_name = self._in_heading = self._in_body = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("h2", "h3"):
            self._in_heading, self._heading = True, ""
        elif tag == "tbody":
            self._in_body = True
        elif tag == "tr" and self._in_body:
            self._row = Row(self._heading.strip())
        elif tag in ("td", "th") and self._row is not None:
            self._cell, self._is_name = [], tag == "th"
            self._sort = given.get("data-value") or given.get("data-sort") or ""

    def handle_data(self, data: str) -> None:
        if self._in_heading:
            self._heading += data
        if self._cell is not None:
            self._cell.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("h2", "h3"):
            self._in_heading = False
        elif tag == "tbody":
            self._in_body = False
        elif tag in ("td", "th") and self._row is not None and self._cell is not None:
            text = " ".join("".join(self._cell).split())
            if self._is_name:
                self._row.names.append(text)
            else:
                self._row.cells.append((text, self._sort))
            self._cell = None
        elif tag == "tr" and self._row is not None:
            self.rows.append(self._row)
            self._row = None


def rows_of(page: Path) -> list[Row]:
    """Rows of every table of a page, as they stand there without JavaScript."""
    reader = _Rows()
    reader.feed(page.read_text(encoding="utf-8"))
    return [row for row in reader.rows if row.cells]


def not_in_the_tables(page: Path, *, apart_from: Sequence[str] = ()) -> list[str]:
    """Numbers of a page's tables that no row of the CSV files beside it holds, with where they stand.

    A row of the page is looked up by its name, a well or a compound or a plate, among the rows that have this name in
    any column, else among all. What a cell sorts by must be there exactly, what it shows to
    the digits that it shows. A cell that is a text of the tables, such as a compound's name, is no number.

    Parameters
    ----------
    apart_from
        Beginnings of headings under which settings and sentences stand, not results.
    """
    paths = sorted(page.parent.glob(f"{page.stem}.*.csv"))
    text = [
        (pd.read_csv(path), pd.read_csv(path, dtype=str, keep_default_na=False).replace("^'", "", regex=True))
        for path in paths
    ]
    missing = []
    words = {cell for _, frame in text for cell in np.unique(frame.to_numpy(dtype=str))} if text else set()
    for row in rows_of(page):
        if row.heading.startswith(tuple(apart_from)):
            continue
        known = _numbers_of(row, text)
        for shown, sort in row.cells:
            if shown in words and not NUMBER.fullmatch(shown):
                continue
            exact = _number(sort)
            if exact is not None and not _holds(known, exact, abs(exact) * EXACT):
                missing.append(f"{row.heading} / {' '.join(row.names)}: {shown} ({sort})")
            elif exact is None:
                missing += [
                    f"{row.heading} / {' '.join(row.names)}: {part} in {shown!r}"
                    for part, values in _shown(shown)
                    if not any(_holds(known, value, tolerance) for value, tolerance in values)
                ]
    return missing


def _numbers_of(row: Row, text: list[tuple[pd.DataFrame, pd.DataFrame]]) -> np.ndarray:
    """Every number of the rows that carry one of the row's names; of all rows where none does."""
    names = {name for name in row.names if name}
    found = [frame[words.isin(names).any(axis=1)] for frame, words in text]
    if not any(len(frame) for frame in found):
        found = [frame for frame, _ in text]
    numbers = [frame.select_dtypes("number").to_numpy(dtype=float).ravel() for frame in found]
    every = np.concatenate([*numbers, np.array([])])
    return np.unique(every[np.isfinite(every)])


def _holds(known: np.ndarray, value: float, tolerance: float) -> bool:
    at = int(np.searchsorted(known, value - tolerance))
    return at < len(known) and bool(known[at] <= value + tolerance)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _shown(cell: str) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Each number of a cell with what it may stand for and half of its last digit; units count backwards."""
    found = list(NUMBER.finditer(cell))
    unit = ""
    told = []
    for match in reversed(found):
        unit = match[2] or unit
        told.append((match[0].strip(), match[1], unit))
    for part, digits, unit in reversed(told):
        mantissa, _, exponent = digits.partition("e")
        places = len(mantissa.partition(".")[2]) - int(exponent or 0)
        yield part, [(float(digits) * scale, 0.5000001 * 10.0**-places * scale) for scale in SCALES[unit]]
