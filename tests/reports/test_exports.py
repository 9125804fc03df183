"""Tables and pictures for other programs: what is written is what is read back, and nothing of it runs."""

import io
import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import openpyxl
import pandas as pd
import pytest
from PIL import Image

from plates.errors import MissingInputError, StoreError
from plates.results import read_result
from reports import figures, pictures
from reports.exports import figures_of, tables_of, workbook, write_figures, write_tables
from reports.page import guard_formulas
from reports.pictures import draw_pictures, find_browser

# what a plate map may hold: each runs as a formula in a spreadsheet that is let
FORMULAS = ("=1+1", "+1", "-1 toxin", "@SUM(A1)", "\t=1+1", '=HYPERLINK("http://evil.example")', "=cmd|'/C calc'!A0")
TABLE = pd.DataFrame(
    {
        "compound": [*FORMULAS, "plain", "", "'quoted", "  spaces  ", "µ ü 漢"],
        "ec50": [-1.5, 0.1 + 0.2, 1e-300, np.nan, np.inf, -np.inf, 0.0, 1e9, 2.0, 3.0, 4.0, 5.0],
        "rank": range(12),
        "used": [True, False] * 6,
    }
)
has_browser = pytest.mark.skipif(
    not any(map(shutil.which, pictures.BROWSERS)), reason="neither Chromium nor Chrome is installed"
)


def read_book(path: Path) -> Any:
    return openpyxl.load_workbook(path)


def test_no_cell_of_a_workbook_is_a_formula_and_texts_are_unchanged(tmp_path: Path) -> None:
    (path,) = write_tables({"curves": TABLE}, tmp_path, stem="P1", form="xlsx")
    rows = list(read_book(path)["curves"].iter_rows(min_row=2))
    for row, text in zip(rows, TABLE["compound"], strict=True):
        assert row[0].data_type != "f"
        assert (row[0].value or "") == text
        assert row[0].quotePrefix == text.startswith(("=", "+", "-", "@", "\t", "\r"))
    with zipfile.ZipFile(path) as archive:
        assert b"<f>" not in archive.read("xl/worksheets/sheet1.xml")


def test_without_the_protection_the_same_text_is_a_formula() -> None:
    """The off-check: openpyxl takes text that begins with = for a formula unless told otherwise."""
    book = openpyxl.Workbook()
    book.active["A1"] = FORMULAS[0]
    assert book.active["A1"].data_type == "f"


def test_numbers_of_a_workbook_are_numbers_negative_ones_too(tmp_path: Path) -> None:
    (path,) = write_tables({"curves": TABLE}, tmp_path, stem="P1", form="xlsx")
    values = [row[1].value for row in read_book(path)["curves"].iter_rows(min_row=2)]
    assert values[0] == -1.5
    assert values[1] == pytest.approx(0.1 + 0.2, rel=1e-15), "a sheet keeps 15 digits, and so does Excel"
    assert values[3] is None
    assert values[4:6] == ["inf", "-inf"], "a sheet holds no infinite number"
    back = pd.read_excel(path, sheet_name="curves", keep_default_na=False, na_values={"ec50": [""]})
    np.testing.assert_allclose(back["ec50"].astype(float), TABLE["ec50"], rtol=1e-15)
    assert back["used"].tolist() == TABLE["used"].tolist()


def test_csv_files_carry_an_apostrophe_and_parquet_the_raw_text(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (csv,) = write_tables({"curves": TABLE}, tmp_path, stem="P1", form="csv")
    back = pd.read_csv(csv, keep_default_na=False)
    assert back["compound"].tolist()[: len(FORMULAS)] == [f"'{text}" for text in FORMULAS]
    assert back["ec50"].iloc[0] == "-1.5" or float(back["ec50"].iloc[0]) == -1.5, "numeric columns are exempt"
    (parquet,) = write_tables({"curves": TABLE}, tmp_path, stem="P1", form="parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(parquet), TABLE, check_dtype=False)


def test_taking_one_apostrophe_off_gives_the_text_back(tmp_path: Path) -> None:
    """The documented way back from CSV: exactly what was guarded has an apostrophe before a formula's sign."""
    (csv,) = write_tables({"curves": TABLE}, tmp_path, stem="P1", form="csv")
    back = pd.read_csv(csv, dtype=str, keep_default_na=False)["compound"]
    undone = back.str.replace(r"^'(?=[=+\-@\t\r])", "", regex=True)
    assert undone.tolist() == TABLE["compound"].tolist()
    assert guard_formulas(TABLE)["rank"].tolist() == list(range(12))


def test_characters_that_a_workbook_cannot_hold_are_replaced() -> None:
    book = openpyxl.load_workbook(io.BytesIO(workbook({"t": pd.DataFrame({"a": ["x\x00y\x0bz"]})})))
    assert book["t"]["A2"].value == "x\N{REPLACEMENT CHARACTER}y\N{REPLACEMENT CHARACTER}z"


def test_what_a_sheet_cannot_hold_is_refused_by_name() -> None:
    with pytest.raises(StoreError, match="long, column b, has 40000 characters"):
        workbook({"long": pd.DataFrame({"a": ["x"], "b": ["y" * 40_000]})})


def test_sheets_of_long_names_stay_apart() -> None:
    names = ["kinetics.compound_dose_index_pathway", "kinetics.compound_dose_index_pathways", "a:b", "A_B"]
    book = openpyxl.load_workbook(io.BytesIO(workbook(dict.fromkeys(names, TABLE))))
    assert len({name.lower() for name in book.sheetnames}) == 4
    assert all(len(name) <= 31 for name in book.sheetnames)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.exports.find_spec", lambda name: None)
    with pytest.raises(MissingInputError, match=r"tomoscreen\[parquet\]"):
        write_tables({"curves": TABLE}, tmp_path, stem="P1", form="parquet")


def test_the_tables_are_those_beside_the_page(plate: Path) -> None:
    results = {name: read_result(plate, name) for name in ("fractions", "quality", "dose_response", "ranking")}
    made = tables_of(results)
    assert list(made) == ["wells", "quality", "curves", "points", "ranking"]
    fractions = results["fractions"]
    stored = results["quality"]["z_prime"].sel(readout="necrosis", timepoint=2)
    quality = made["quality"].set_index(["readout", "timepoint"])
    assert quality["z_prime"].to_dict()["necrosis", 2] == stored.item()
    assert len(made["wells"]) == fractions.sizes["well"] * fractions.sizes["timepoint"]


def test_every_compound_has_its_figures_under_a_safe_name(plate: Path) -> None:
    results = {
        name: read_result(plate, name) for name in ("fractions", "quality", "dose_response", "ranking", "fields")
    }
    made = figures_of(results)
    compounds = results["ranking"].sizes["compound"]
    assert sum(name.endswith(".dose_response") for name in made) == compounds
    assert {"controls", "quality_over_time", "rows_and_columns", "potency_by_pathway"} <= set(made)


def test_pages_of_figures_share_one_script_and_fetch_nothing(plate: Path, tmp_path: Path) -> None:
    figure = figures.control_strip(read_result(plate, "fractions"), timepoint=3)
    written = write_figures({"controls": figure}, tmp_path, form="html")
    assert [path.name for path in written] == ["controls.html", "plotly.min.js"]
    html = written[0].read_text(encoding="utf-8")
    assert 'src="plotly.min.js"' in html
    assert "https://" not in html
    assert '"showSendToCloud": false' in html
    assert len(html) < 60_000


@has_browser
def test_a_picture_holds_the_figure_and_its_words_as_text(plate: Path, tmp_path: Path) -> None:
    fits = read_result(plate, "dose_response")
    figure = figures.dose_response(fits, compound="TNF mimetic")
    svg, png = draw_pictures({"fit": figure}, out=tmp_path, formats=("svg", "png"))
    drawn = ElementTree.fromstring(svg.read_text(encoding="utf-8"))
    texts = {element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")} | {
        element.text for element in drawn.iter("{http://www.w3.org/2000/svg}tspan")
    }
    assert "dose (µM)" in texts
    points = [e for e in drawn.iter("{http://www.w3.org/2000/svg}path") if "point" in (e.get("class") or "").split()]
    assert len(points) == np.isfinite(fits["response"].sel(compound="TNF mimetic", readout="death").values).sum()
    picture = Image.open(png)
    assert picture.size == (640 * 3, 300 * 3)
    assert np.asarray(picture.convert("L")).min() < 60, "something dark is drawn"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fit.png", "fit.svg"], "no temporary files are left"


@has_browser
def test_names_in_a_picture_run_nothing(plate: Path, tmp_path: Path) -> None:
    figure = figures.control_strip(read_result(plate, "fractions"), timepoint=3)
    figure.add_annotation(text="</script><script>document.body.append('run')</script>", x=0, y=0)
    figure.update_layout(title="</script><script>document.title='run'</script>")
    (svg,) = draw_pictures({"hostile": figure}, out=tmp_path)
    drawn = ElementTree.fromstring(svg.read_text(encoding="utf-8"))
    assert not list(drawn.iter("{http://www.w3.org/2000/svg}script"))


def test_without_a_browser_the_message_names_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(pictures, "MAC", tmp_path / "absent")
    with pytest.raises(MissingInputError, match="apt install chromium"):
        find_browser()


def stand_in(folder: Path, does: str) -> Path:
    path = folder / "browser"
    path.write_text(f"#!{sys.executable}\nimport sys, time\n{does}\n")
    path.chmod(0o755)
    return path


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a script with a shebang")
@pytest.mark.parametrize(("does", "message"), [
    ("sys.stderr.write('no room in /dev/shm'); sys.exit(1)", "drew 0 of 1 figures .* no room in /dev/shm"),
    ("print('<pre id=\"drawn-0\" class=\"failed\">b2ggbm8=</pre>')", "could not draw a figure: oh no"),
    ("time.sleep(60)", "was not done within"),
])  # fmt: skip
def test_a_browser_that_fails_is_told_and_leaves_nothing(
    does: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plate: Path
) -> None:
    monkeypatch.setattr(pictures, "PATIENCE", 1.0)
    out = tmp_path / "out"
    figure = figures.control_strip(read_result(plate, "fractions"), timepoint=3)
    with pytest.raises(StoreError, match=message):
        draw_pictures({"fit": figure}, out=out, browser=stand_in(tmp_path, does))
    assert list(out.iterdir()) == []


def test_a_browser_that_is_none_is_told(tmp_path: Path, plate: Path) -> None:
    figure = figures.control_strip(read_result(plate, "fractions"), timepoint=3)
    with pytest.raises(MissingInputError, match="cannot be started"):
        draw_pictures({"fit": figure}, out=tmp_path / "out", browser=tmp_path / "absent")
