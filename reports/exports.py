"""Tables and figures of stored results as files that other programs open: CSV, Parquet, Excel; SVG, PNG, HTML."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from plates.errors import MissingInputError, StoreError
from plates.files import write_durable
from plates.names import file_name

from . import figures, tables, words
from .page import PLOTLY_CONFIG, environment, guard_formulas, write_text
from .pictures import draw_pictures

TableFormat = Literal["csv", "parquet", "xlsx"]
FigureFormat = Literal["svg", "png", "html"]
FORMULA = ("=", "+", "-", "@", "\t", "\r")
LONGEST_CELL = 32_767  # characters, of Excel; as are the next two
MOST_ROWS = 1_048_576
LONGEST_SHEET = 31
ILLEGAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def write_tables(tables: Mapping[str, pd.DataFrame], out: Path, *, stem: str, form: TableFormat = "csv") -> list[Path]:
    """Write tables as `<stem>.<name>.csv` or `.parquet`, or as the sheets of one `<stem>.xlsx`.

    CSV: text that a spreadsheet would run as a formula gets an apostrophe in front, as in the files beside the pages.
    Parquet: every value as it is stored. Excel: text cells are text, whatever they begin with; infinite numbers are
    the words "inf" and "-inf", missing ones empty cells, characters that XML cannot hold are replaced by \ufffd.

    Raises
    ------
    MissingInputError
        Parquet needs pyarrow, and it is not installed.
    StoreError
        A table has more rows, or a cell more text, than a sheet of Excel holds.
    """
    out.mkdir(parents=True, exist_ok=True)
    if form == "xlsx":
        path = out / f"{stem}.xlsx"
        write_durable(path, workbook(tables))
        return [path]
    if form == "parquet" and find_spec("pyarrow") is None:
        raise MissingInputError("Parquet files need pyarrow: `pip install tomoscreen[parquet]`. Or export csv or xlsx.")
    written = []
    for name, table in tables.items():
        path = out / f"{stem}.{name}.{form}"
        if form == "csv":
            write_durable(path, guard_formulas(table).to_csv(index=False, lineterminator="\n").encode())
        else:
            buffer = io.BytesIO()
            table.to_parquet(buffer, index=False, engine="pyarrow")
            write_durable(path, buffer.getvalue())
        written.append(path)
    return written


def workbook(tables: Mapping[str, pd.DataFrame]) -> bytes:
    """Excel workbook with a sheet for each table, in which no text is a formula."""
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell

    named = dict(zip(_sheet_names(tables), tables.values(), strict=True))
    for title, table in named.items():
        _require_room(table, title=title)
    book = Workbook(write_only=True)
    for title, table in named.items():
        sheet = book.create_sheet(title)
        sheet.freeze_panes = "A2"

        def cell(value: Any, sheet: Any = sheet) -> Any:
            if isinstance(value, str):
                made = WriteOnlyCell(sheet, value=ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", value))
                # a string, and quoted: Excel would otherwise read it again when somebody edits the cell
                made.data_type = "s"
                if value.startswith(FORMULA):
                    made.quotePrefix = True
                return made
            return value

        sheet.append([cell(str(name)) for name in table.columns])
        columns = [_plain(table[name]) for name in table.columns]
        for row in zip(*columns, strict=True):
            sheet.append([cell(value) for value in row])
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def tables_of(results: Mapping[str, xr.Dataset]) -> dict[str, pd.DataFrame]:
    """Build the tables that lie beside a plate's or a campaign's page, by name, from the results that are given."""
    made: dict[str, pd.DataFrame] = {}
    if {"fractions", "quality"} <= set(results):
        made["wells"] = tables.wells_table(results["fractions"], results["quality"], results.get("normalized"))
    if "quality" in results:
        made["quality"] = tables.quality_table(results["quality"])
    if "dose_response" in results:
        made["curves"] = tables.curves_table(results["dose_response"])
        made["points"] = tables.points_table(results["dose_response"])
    if "ranking" in results:
        made["ranking"] = tables.ranking_table(results["ranking"])
    if "plates" in results:
        made["plates"] = tables.plates_table(results["plates"])
    return made


def write_figures(
    drawn: Mapping[str, figures.Figure],
    out: Path,
    *,
    form: FigureFormat = "svg",
    browser: Path | None = None,
    made: str = "",
) -> list[Path]:
    """Write figures as pictures, or as pages that share one plotly.js in their folder.

    Parameters
    ----------
    made
        What the figures come from, to stand below each page; see `origin`.

    Raises
    ------
    MissingInputError
        SVG and PNG need a browser and there is none.
    """
    out.mkdir(parents=True, exist_ok=True)
    if form != "html":
        return draw_pictures(drawn, out=out, formats=(form,), browser=browser)
    template = environment().get_template("figure.html")
    written = []
    for name, figure in drawn.items():
        # plotly empties the settings it is given
        drawing = figure.to_html(
            full_html=False, include_plotlyjs="directory", div_id="figure", config=dict(PLOTLY_CONFIG)
        )
        path = out / f"{name}.html"
        write_text(path, template.render(name=name.replace("_", " "), drawing=Markup(drawing), made=made))
        written.append(path)
    if written:
        written.append(out / "plotly.min.js")
        write_text(written[-1], get_plotlyjs())
    return written


def origin(results: Mapping[str, xr.Dataset]) -> str:
    """Name the classifier with its hash and calibration and the plate map with its hash, as far as results tell."""
    told = []
    if (classified := results.get("probabilities")) is not None:
        card = classified.attrs
        told.append(
            f"Classifier {words.plain(card.get('classifier', ''))}, SHA-256 {card.get('classifier_sha256', '')}, "
            f"{words.plain(card.get('calibration', ''), longest=400) or 'not calibrated'}"
        )
    if (layout := results.get("layout")) is not None:
        told.append(
            f"plate map {words.plain(layout.attrs.get('source', ''))}, SHA-256 {layout.attrs.get('sha256', '')}"
        )
    return "; ".join(told)


def figures_of(results: Mapping[str, xr.Dataset]) -> dict[str, figures.Figure]:
    """Draw every figure that the given results hold, by the stem of its file; a plate is shown as it was read.

    Compounds are numbered by their place in the ranking, so that names that differ in signs alone stay apart.
    """
    timepoint = reading_position(results)
    made: dict[str, figures.Figure] = {}
    fractions, quality, normalized = (results.get(name) for name in ("fractions", "quality", "normalized"))
    if fractions is not None:
        made["controls"] = figures.control_strip(fractions, timepoint=timepoint)
        made["rows_and_columns"] = figures.rows_and_columns(
            fractions, timepoint=timepoint, spatial=results.get("spatial")
        )
        if "fields" in results:
            made["imaging_order"] = figures.imaging_order(
                fractions, results["fields"], timepoint=timepoint, drift=results.get("drift")
            )
        if quality is not None:
            made["quality_over_time"] = figures.quality_over_time(
                quality,
                hours=[float(hour) for hour in fractions["hours"].values],
                limit=float(quality.attrs.get("z_prime_limit", np.nan)),
            )
    if "field_quality" in results:
        made["field_quality"] = figures.field_quality(results["field_quality"])
    if "ranking" in results and results["ranking"].sizes["compound"]:
        made["potency_by_pathway"] = figures.potency_by_pathway(results["ranking"], dose_max=_highest_dose(results))
    for number, compound in enumerate(_compounds(results), start=1):
        for name, draw in _of_compound(results, fractions, normalized, timepoint).items():
            if (figure := draw(compound=compound)) is not None:
                made[f"{number:03d}_{file_name(compound, otherwise='compound')}.{name}"] = figure
    return made


def reading_position(results: Mapping[str, xr.Dataset]) -> int:
    """Position of the timepoint at which a plate's curves were read; the last one where the results do not say."""
    fits, fractions = results.get("dose_response"), results.get("fractions")
    if fits is None or fractions is None:
        return -1
    at = np.flatnonzero(fractions["timepoint"].values == int(fits.attrs.get("timepoint", -1)))
    return int(at[0]) if len(at) else fractions.sizes["timepoint"] - 1


def _of_compound(
    results: Mapping[str, xr.Dataset], fractions: xr.Dataset | None, normalized: xr.Dataset | None, timepoint: int
) -> dict[str, Callable[..., figures.Figure | None]]:
    """Figures that a compound can have with these results."""
    fits, pathways, kinetics = (results.get(name) for name in ("dose_response", "pathways", "kinetics"))
    made: dict[str, Callable[..., figures.Figure | None]] = {}
    if fits is not None:
        made["dose_response"] = partial(_held, fits, partial(figures.dose_response, fits))
    if fractions is not None:
        made["states"] = partial(figures.pathway_stack, fractions, timepoint=timepoint)
        made["time_courses"] = partial(figures.time_courses, fractions)
    if pathways is not None:
        made["pathways"] = partial(_held, pathways, partial(figures.pathway_curves, pathways, fits=fits))
    if normalized is not None and "excess" in normalized:
        made["incidence"] = partial(figures.cumulative_incidence, normalized, kinetics=kinetics)
    if kinetics is not None:
        made["ec50_over_time"] = partial(_held, kinetics, partial(figures.ec50_over_time, kinetics))
        made["half_times"] = partial(_held, kinetics, partial(figures.half_time_against_dose, kinetics))
    return made


def _held(result: xr.Dataset, draw: Callable[..., figures.Figure], *, compound: str) -> figures.Figure | None:
    """The figure of a compound, or None where the result does not have it."""
    return draw(compound=compound) if compound in result["compound"].values else None


def _compounds(results: Mapping[str, xr.Dataset]) -> list[str]:
    for name in ("ranking", "dose_response"):
        if name in results:
            return [str(compound) for compound in results[name]["compound"].values]
    return []


def _highest_dose(results: Mapping[str, xr.Dataset]) -> float:
    if "dose_response" not in results:
        return float("nan")
    doses = results["dose_response"]["dose"].values.astype(float)
    return float(np.nanmax(doses)) if np.isfinite(doses).any() else float("nan")


def _plain(column: pd.Series) -> Sequence[Any]:
    """Values that Excel holds: missing ones None, infinite ones words."""
    values = column.tolist()
    if column.dtype.kind == "f":
        return [None if value != value else str(value) if abs(value) == np.inf else value for value in values]
    return [None if value is None or value is pd.NaT or value != value else value for value in values]


def _require_room(table: pd.DataFrame, *, title: str) -> None:
    """Refuse what a sheet cannot hold before anything is written."""
    if len(table) >= MOST_ROWS:
        raise StoreError(
            f"The table {title} has {len(table)} rows; a sheet of Excel holds {MOST_ROWS - 1}. Export as csv."
        )
    for name in table.columns:
        if table[name].dtype.kind not in "biufM":
            longest = max((len(cell) for cell in table[name] if isinstance(cell, str)), default=0)
            if longest > LONGEST_CELL:
                raise StoreError(
                    f"A cell of the table {title}, column {name}, has {longest} characters; Excel holds "
                    f"{LONGEST_CELL}. Export as csv."
                )


def _sheet_names(tables: Mapping[str, Any]) -> list[str]:
    """Names of sheets: short enough for Excel, and no two the same but for case."""
    made: list[str] = []
    for name in tables:
        plain = re.sub(r"[\[\]:*?/\\']", "_", name)
        short, number = plain[:LONGEST_SHEET], 2
        while short.lower() in {other.lower() for other in made}:
            ending = f"~{number}"
            short, number = plain[: LONGEST_SHEET - len(ending)] + ending, number + 1
        made.append(short)
    return made
