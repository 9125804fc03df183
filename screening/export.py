"""What a plate or a campaign says, in files for other programs: tables, figures and the text of the methods section."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from plates.errors import MissingInputError
from plates.files import write_durable
from plates.results import has_result, read_result, results_path
from plates.store import open_plate
from screening.analysis.tables import described_tables
from screening.settings import AnalysisSettings

if TYPE_CHECKING:
    import xarray as xr

TOO_LARGE = ("probabilities",)  # a row a patch, window and state: read them with xarray
ELSEWHERE = {"plates": "path", "sources": "path"}  # places on one machine's disk


def export(
    results: Path,
    *,
    out: Path,
    table_format: Literal["csv", "parquet", "xlsx"] = "csv",
    figure_format: Literal["svg", "png", "html"] | None = None,
    browser: Path | None = None,
) -> list[Path]:
    """Write every table of a plate or a campaign, its methods text and, where asked for, its figures.

    Tables: those beside the page (`wells`, `curves`, `points`, `ranking`, `plates`) and every other result, one for
    each set of dimensions (`kinetics.compound_dose_index`), with `dictionary` of all columns and `attributes`, the
    rules and levels. Probabilities of single patches are left out.

    Parameters
    ----------
    results
        A plate, its results, or a campaign's results.
    out
        Folder; made if need be.
    table_format
        Of the tables; xlsx puts them into one workbook.
    figure_format
        Of the figures, which go into `<out>/<name>_figures`; none are drawn without it.
    browser
        That draws SVG and PNG; looked for where none is given.

    Returns
    -------
    list
        The files written.

    Raises
    ------
    MissingInputError
        There are no results, no pyarrow for Parquet, or no browser for SVG and PNG.
    """
    from reports.exports import figures_of, origin, tables_of, write_figures, write_tables

    store = results_path(results)
    stored = stored_results(store)
    stem = store.name.removesuffix(".results.zarr")
    tables = described_tables({name: _kept(name, one) for name, one in stored.items()}, beside=tables_of(stored))
    written = write_tables(tables, out, stem=stem, form=table_format)
    path = out / f"{stem}.methods.txt"
    write_durable(path, methods_file(stored, plate=store.with_name(f"{stem}.zarr")).encode())
    written.append(path)
    if figure_format is not None:
        drawn = figures_of(stored)
        written += write_figures(
            drawn, out / f"{stem}_figures", form=figure_format, browser=browser, made=origin(stored)
        )
    return written


def stored_results(store: Path) -> dict[str, xr.Dataset]:
    """Every result of a store by its name.

    Raises
    ------
    MissingInputError
        There are none.
    """
    store = results_path(store)
    names = (
        sorted(folder.name for folder in store.iterdir() if has_result(store, folder.name)) if store.is_dir() else []
    )
    if not names:
        raise MissingInputError(f"{store}: there are no results to export. Run `tomoscreen analyse` first.")
    return {name: read_result(store, name) for name in names}


def methods_file(results: Mapping[str, xr.Dataset], *, plate: Path) -> str:
    """The methods section and its references as plain text."""
    from reports.methods import methods_text, references

    opened = open_plate(plate) if plate.is_dir() else None
    paragraphs = methods_text(results, plate=opened, changed=changed_settings(results))
    return "\n\n".join([*paragraphs, "References", "\n".join(references(results, plate=opened))]) + "\n"


def changed_settings(results: Mapping[str, xr.Dataset]) -> list[str] | None:
    """Tell the settings of the analysis that are not the defaults; None where the results do not say their settings."""
    from reports.methods import settings_difference
    from reports.tables import provenance

    defaults = AnalysisSettings().model_dump(mode="json")
    used = [
        record["settings"] for one in results.values() if "step" in (record := provenance(one)) and "settings" in record
    ]
    return settings_difference({**defaults, **used[0]}, defaults) if used else None


def _kept(name: str, result: xr.Dataset) -> xr.Dataset:
    """What is exported of a result; of one that is too large, its attributes."""
    return result.drop_vars(list(result.variables) if name in TOO_LARGE else ELSEWHERE.get(name, []), errors="ignore")
