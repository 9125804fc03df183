"""Dossiers of chosen compounds of a campaign: finds its results and pages, and has one page a compound written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from plates.errors import MissingInputError
from plates.names import file_names
from plates.results import results_path


def write_dossiers(campaign: Path, compounds: Sequence[str], *, out: Path | None = None) -> list[Path]:
    """Write a page for each compound, with its tables beside it.

    Parameters
    ----------
    campaign
        The campaign's results store, `screen.results.zarr`; the plates' results and images lie beside it.
    compounds
        Names as in the plate maps, or as in the ranking with a cell line in brackets.
    out
        Folder to write into; `dossiers` beside the store unless given.

    Returns
    -------
    list of Path
        The pages, in the order of the compounds.

    Raises
    ------
    MissingInputError
        There is no such campaign, or it ranks no such compound: then nothing is written.
    """
    from plates.results import read_result
    from reports.dossier import entries_of, write_dossier

    store = results_path(campaign)
    if not store.is_dir():
        raise MissingInputError(f"{store}: there are no results of a campaign. Run `tomoscreen run screen.toml` first.")
    names = list(dict.fromkeys(compounds))
    ranking, plates = read_result(store, "ranking"), read_result(store, "plates")
    for name in names:
        entries_of(ranking, name)
    folder = out if out is not None else store.with_name("dossiers")
    pages = {str(name): store.with_name(f"{name}.html") for name in plates["plate"].values}
    written = {name: page for name, page in pages.items() if page.exists()}
    return [
        write_dossier(store, name, out=folder / f"{file}.html", plate_reports=written)
        for name, file in zip(names, file_names(names, otherwise="compound"), strict=True)
    ]
