"""Excel workbooks (.xlsx) to the lines of cells that a CSV file of the same sheet would have."""

from __future__ import annotations

import datetime
import io
import re
import warnings
import zipfile
import zlib
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree

from ..errors import PlateMapError
from .problems import Problems, listed, shown
from .text import Lines

# What an honest workbook of a plate holds is far below these.
MAX_UNPACKED = 100_000_000
MAX_CELLS = 2_000_000

_SPREADSHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_FORMULA_ERROR = re.compile(r"#(N/A|REF!|VALUE!|DIV/0!|NAME\?|NUM!|NULL!)")
_SPEAKING_FORMAT = re.compile(r'%|"[^"]*[^\W\d_][^"]*"')


def read_workbook(data: bytes, *, sheet: str | None, problems: Problems) -> Lines:
    """Return one sheet's lines; their numbers are Excel's rows. Faults of the whole file end the reading.

    Cells become the text that Excel shows: 15 digits at most, never an exponent, whole numbers without a point.
    What Excel has changed (dates) or hides (formulas never calculated, percentages) is a fault of its cell.

    Parameters
    ----------
    data
        The file's bytes.
    sheet
        The sheet's name; the first visible sheet where it is None.
    problems
        Takes the faults.
    """
    problem = _what_is_wrong(data)
    if problem:
        problems.add(0, problem)
        problems.stop()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of drawings and validations, which hold no wells
            return _read(data, sheet=sheet, problems=problems)
    except PlateMapError:
        raise
    except _DAMAGE as error:
        problems.add(0, f"is a damaged Excel workbook ({type(error).__name__}). Open it in Excel and save it again.")
        problems.stop()
        raise


# what openpyxl and the packages below it raise for contents that Excel would not write
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, ElementTree.ParseError, KeyError, ValueError, TypeError, IndexError),
    *(AttributeError, NotImplementedError, RuntimeError, OSError, ArithmeticError, EOFError),
)


def _what_is_wrong(data: bytes) -> str:
    """Return why these bytes are no workbook that can be read, empty where they are one."""
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        if "EncryptedPackage".encode("utf-16-le") in data:
            return "is an Excel workbook with a password. Save it without one, or as 'CSV UTF-8'."
        return "is an old Excel workbook (.xls). Save it as .xlsx or as 'CSV UTF-8'."
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = {entry.filename for entry in archive.infolist()}
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return "is a damaged Excel workbook or zip file. Open it in Excel and save it again."
    if unpacked > MAX_UNPACKED:
        return f"unpacks to {unpacked // 10**6} MB: this is not a plate map."
    if "xl/workbook.bin" in names:
        return "is a binary Excel workbook (.xlsb). Save it as .xlsx or as 'CSV UTF-8'."
    if "content.xml" in names and "mimetype" in names:
        return "is an OpenDocument file (.ods). Save it as .xlsx or as 'CSV UTF-8'."
    if "xl/workbook.xml" not in names:
        return "is a zip file, but no Excel workbook. Give the plate map itself as .xlsx, CSV or TSV."
    return ""


def _read(data: bytes, *, sheet: str | None, problems: Problems) -> Lines:
    import openpyxl  # only a plate map in Excel pays for it

    book: Any = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
    sheets = list(book.worksheets)
    if sheet is None:
        chosen = next((one for one in sheets if one.sheet_state == "visible"), None)
    else:
        chosen = next((one for one in sheets if one.title.casefold() == sheet.strip().casefold()), None)
    if chosen is None:
        missing = "no sheet with cells" if sheet is None else f"no sheet {shown(sheet)}"
        problems.add(0, f"has {missing}. Its sheets are {listed(shown(one.title) for one in sheets) or 'none'}.")
        problems.stop()
        raise KeyError(sheet)  # stop() has raised
    merged, uncalculated = _scan(data, chosen)
    for cells in merged:
        line = int(re.sub(r"\D", "", cells.split(":")[0]) or 0)
        problems.add(line, f"cells {cells} are merged. Unmerge them and write the value into each.")
    problems.stop()
    lines = _cells(chosen, uncalculated, problems)
    others = [shown(one.title) for one in sheets if one is not chosen]
    if sheet is None and others:
        lines.notes.append(f"Sheet {shown(chosen.title)} is read, the first one. Not read: {listed(others)}.")
    return lines


def _scan(data: bytes, sheet: Any) -> tuple[list[str], set[str]]:
    """Return merged ranges, and formulas without a value, neither of which openpyxl tells where it only reads."""
    merged: list[str] = []
    uncalculated: set[str] = set()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open(sheet._worksheet_path) as source:
        for _, element in ElementTree.iterparse(source):
            if element.tag == f"{_SPREADSHEET}mergeCell":
                merged.append(element.get("ref", ""))
            elif element.tag == f"{_SPREADSHEET}c":
                formula = element.find(f"{_SPREADSHEET}f")
                # a formula may well give an empty text
                if formula is not None and not element.findtext(f"{_SPREADSHEET}v") and element.get("t") != "str":
                    uncalculated.add(element.get("r", ""))
            elif element.tag == f"{_SPREADSHEET}row":
                element.clear()
    return merged, uncalculated


def _cells(sheet: Any, uncalculated: set[str], problems: Problems) -> Lines:
    sheet.reset_dimensions()  # what the file says about its size may be wrong
    lines = Lines([])
    seen = 0
    for line, row in enumerate(sheet.iter_rows(), start=1):
        seen += len(row) + 1
        if seen > MAX_CELLS:
            problems.add(0, f"holds more than {MAX_CELLS:,} cells: this is not a plate map.")
            problems.stop()
        texts = []
        for place, cell in enumerate(row):
            text, fault = _text(cell)
            if getattr(cell, "coordinate", "") in uncalculated:
                fault = "holds a formula that was never calculated. Open the file in Excel and save it."
            if fault:
                lines.faults[line, place] = fault
            texts.append(text)
        if any(texts) or any((line, place) in lines.faults for place in range(len(row))):
            lines.rows.append((line, texts))
    width = max((len(cells) for _, cells in lines.rows), default=0)
    for _, cells in lines.rows:
        cells.extend([""] * (width - len(cells)))
    return lines


def _text(cell: Any) -> tuple[str, str]:
    """Return the cell as a CSV file would hold it, and why it cannot be used, empty where it can."""
    value = cell.value
    if value is None:
        return "", ""
    if isinstance(value, bool):
        return str(value).upper(), ""
    if isinstance(value, (datetime.date, datetime.time, datetime.timedelta)):
        text = str(value)
        return text, f"{shown(text)}: Excel has turned this into a date. Format the column as text and type it again."
    if isinstance(value, (int, float)):
        text = f"{Decimal(f'{value:.15g}'):f}"
        if _SPEAKING_FORMAT.search(str(cell.number_format or "")):
            what = f"holds {text}, but Excel shows it with a percent sign or text of its own"
            return text, f"{what}. Format the cell as a plain number."
        return re.sub(r"\.0*$|(\.\d*?)0+$", r"\1", text), ""
    text = str(value).strip()
    if _FORMULA_ERROR.fullmatch(text):
        return text, f"{text} is a formula's error. Write the value itself."
    return text, ""
