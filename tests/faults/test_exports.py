"""Tables in a spreadsheet: no cell runs, no number is changed; pages have no way to upload (rows 24 and 26)."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest

from reports.exports import write_tables
from reports.page import PLOTLY_CONFIG, guard_formulas

FORMULAS = ("=HYPERLINK(1)", "+1+1", "-1+cmd|' /C calc'!A0", "@SUM(1)", "\t=1", "=1", "-", "+", "@")
HARMLESS = ("doxorubicin", "5-FU", "a=b", "(-)-epicatechin", "</script>", "é\U0001f480", "x" * 10_000)
TABLE = pd.DataFrame(
    {
        "compound": [*FORMULAS, *HARMLESS],
        "ec50": np.linspace(-3, 3, len(FORMULAS) + len(HARMLESS)),
        "rank": range(-5, len(FORMULAS) + len(HARMLESS) - 5),
    }
)


def test_text_that_a_spreadsheet_would_run_gets_an_apostrophe_and_numbers_stay(tmp_path: Path) -> None:
    (path,) = write_tables({"ranking": TABLE}, tmp_path, stem="s", form="csv")
    with path.open(newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    for row, name, ec50 in zip(rows, TABLE["compound"], TABLE["ec50"], strict=True):
        assert not row["compound"].startswith(("=", "+", "-", "@", "\t", "\r"))
        assert row["compound"].removeprefix("'") == name
        assert float(row["ec50"]) == pytest.approx(ec50)
    # off-check: pandas alone writes them as they are
    plain = TABLE.to_csv(index=False)
    assert "\n=HYPERLINK(1)" in plain


def test_columns_of_numbers_keep_their_sign() -> None:
    assert list(guard_formulas(TABLE)["ec50"]) == list(TABLE["ec50"])
    assert list(guard_formulas(TABLE)["rank"]) == list(TABLE["rank"])


def test_in_a_workbook_every_text_is_text(tmp_path: Path) -> None:
    (path,) = write_tables({"ranking": TABLE}, tmp_path, stem="s", form="xlsx")
    sheet = openpyxl.load_workbook(path).worksheets[0]
    cells = [row[0] for row in sheet.iter_rows(min_row=2)]
    assert all(cell.data_type != "f" for cell in cells)
    assert cells[0].value == FORMULAS[0]
    # off-check: written plainly, the first one is a formula
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.append([FORMULAS[0]])
    data = io.BytesIO()
    book.save(data)
    assert openpyxl.load_workbook(data).worksheets[0]["A1"].data_type == "f"


def test_parquet_keeps_every_name_as_it_was(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (path,) = write_tables({"ranking": TABLE}, tmp_path, stem="s", form="parquet")
    assert list(pd.read_parquet(path)["compound"]) == list(TABLE["compound"])


def test_no_page_offers_to_send_its_figures_anywhere() -> None:
    assert PLOTLY_CONFIG["showSendToCloud"] is False
    assert PLOTLY_CONFIG["plotlyServerURL"] == ""
    root = Path(__file__).parents[2] / "reports"
    for file in (*root.glob("templates/*.html"), *(root / "static").glob("*.js"), *(root / "static").glob("*.css")):
        text = file.read_text(encoding="utf-8")
        assert "Share chart" not in text, file
        if not file.name.endswith(".min.js"):
            assert not re.search(r"""(src|href)\s*=\s*["']?https?:|@import|url\(\s*["']?https?:""", text), file


def test_a_carriage_return_starts_no_row_of_its_own(tmp_path: Path) -> None:
    table = pd.DataFrame({"compound": ["a\r=1", "\r=1"], "ec50": [1.0, 2.0]})
    (path,) = write_tables({"ranking": table}, tmp_path, stem="s", form="csv")
    with path.open(newline="", encoding="utf-8") as file:
        rows = [*csv.reader(file)]
    assert len(rows) == 3
    assert not any(row[0].startswith("=") for row in rows)
