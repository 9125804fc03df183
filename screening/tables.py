"""Every stored result of a plate or a campaign as tidy tables, with a dictionary of their columns."""

from pathlib import Path

from plates.errors import MissingInputError
from plates.results import read_result, results_path
from screening.analysis.tables import write_tables

LEFT_OUT = ("probabilities",)  # a row a patch and state: to be read with xarray


def write_all_tables(results: Path, out: Path, *, parquet: bool = False) -> list[Path]:
    """Write all results of a plate (or of its or a campaign's results) as CSV files; Parquet too where asked for.

    Raises
    ------
    MissingInputError
        Nothing was analysed there yet.
    """
    store = results_path(results)
    names = [
        path.parent.name
        for path in sorted(store.glob("*/zarr.json"))
        if path.parent.name.isidentifier() and path.parent.name not in LEFT_OUT
    ]
    if not names:
        raise MissingInputError(f"{store} holds no results yet. Run `tomoscreen analyse` first.")
    return write_tables({name: read_result(store, name) for name in names}, out, parquet=parquet)
