"""The bytes of a plate map to numbered lines of cells, whatever program saved them; nothing is understood yet."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import MissingInputError, PlateMapError
from .columns import count_known
from .grids import starts_grid
from .problems import Problems, shown

MAX_BYTES = 20_000_000


@dataclass
class Lines:
    """A table as text.

    Attributes
    ----------
    rows
        Number, as the user's program shows it, and cells of each line that is not blank.
    separator
        What separates cells; "," for workbooks, whose numbers have decimal points.
    faults
        By line and place in it: why a cell cannot be used, should it be needed.
    notes
        What is worth a second look.
    """

    rows: list[tuple[int, list[str]]]
    separator: str = ","
    faults: dict[tuple[int, int], str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_bytes(path: Path, *, what: str = "Plate map") -> bytes:
    """Return the file's bytes; `what` names the file in the message.

    Raises
    ------
    MissingInputError, PlateMapError
        There is no such file; it is too large for a plate map.
    """
    if not path.is_file():
        raise MissingInputError(f"{what} {path} does not exist or is not a file. Correct the path.")
    if path.stat().st_size > MAX_BYTES:
        raise PlateMapError(f"{path.name} is larger than {MAX_BYTES // 10**6} MB: this is no table of a plate.")
    return path.read_bytes()


def read_lines(data: bytes, *, sheet: str | None, problems: Problems) -> Lines:
    """Return the lines of a CSV, TSV or Excel file, told apart by their bytes; faults end the reading.

    Parameters
    ----------
    data
        The file's bytes.
    sheet
        Name of an Excel file's sheet; its first where it is None.
    problems
        Takes the faults.
    """
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06", b"\xd0\xcf\x11\xe0")):
        from .workbook import read_workbook

        return read_workbook(data, sheet=sheet, problems=problems)
    if sheet is not None:
        problems.add(0, f"has no sheet {shown(sheet)}: it is a text file. Leave the sheet out.")
        problems.stop()
    return _split_text(_decode(data, problems), problems)


def _decode(data: bytes, problems: Problems) -> str:
    encoding = "utf-8-sig"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif b"\x00" in data[:2]:  # UTF-16 without its mark: the other half of the first letter is zero
        encoding = "utf-16-be" if data[0] == 0 else "utf-16-le"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = len(data[: error.start].decode(encoding, "ignore").splitlines() or [""])
        kind = "UTF-16" if encoding.startswith("utf-16") else "UTF-8"
        problems.add(line, f"is not {kind} text. Save the table as 'CSV UTF-8'.")
        problems.stop()
        raise


def _split_text(text: str, problems: Problems) -> Lines:
    first, _, rest = text.partition("\n")
    stated = re.fullmatch(r'"?sep=([,;\t])"?\s*', first)  # Excel's way to state the separator
    if stated:
        text = "\n" + rest
    head = next((line for line in text.splitlines() if line.strip(" \t,;")), "")
    separator = stated[1] if stated else max("\t;,", key=lambda mark: _fit(head.split(mark)))
    return Lines(_split(text, separator, problems) if head else [], separator)


def _fit(names: list[str]) -> tuple[int, int]:
    """Return how many cells of the first line are understood if it is split in this way, and how many there are."""
    names = [name.strip().strip('"') for name in names]
    return (len(names) if starts_grid(names) else count_known(names)), len(names)


def _split(text: str, separator: str, problems: Problems) -> list[tuple[int, list[str]]]:
    """Return number and cells of each line that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    lines = []
    start = 1
    try:
        for cells in reader:
            if any("\n" in cell or "\r" in cell for cell in cells):
                # an open quotation mark would swallow the wells up to the next one
                problems.add(start, "a cell goes over several lines. Is a quotation mark left open?")
            elif any(cell.strip() for cell in cells):
                lines.append((start, [cell.strip() for cell in cells]))
            start = reader.line_num + 1
    except csv.Error as error:
        problems.add(start, f"cannot be split into cells ({error}). Check its quotation marks.")
    problems.stop()
    return lines
