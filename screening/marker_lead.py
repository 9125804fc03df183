"""The lead of the label-free call over annexin V and PI, on plates whose markers somebody annotated."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import xarray as xr

from plates.errors import StoreError
from plates.results import results_path
from screening.analysis.early_detection import early_detection

_TEXT, _NUMBERS = "well", ("field", "timepoint", "y_um", "x_um", "area", "positive")
_FEWEST_FRAMES = 2
_MOST_DRAWS = 400  # resamplings of wells; more take minutes on a full plate and change nothing


def annotation_of(plate: Path) -> Path:
    """Where `tomoscreen annotate` writes the table of a plate unless told otherwise."""
    store = results_path(plate)
    return store.with_name(store.name.removesuffix(".results.zarr") + ".annotations.csv")


def lead_over_markers(
    plate: Path, probabilities: xr.Dataset, layout: xr.Dataset, *, draws: int = _MOST_DRAWS, seed: int = 0
) -> xr.Dataset:
    """Compare the label-free call with the markers, where a table of annotations lies beside the plate.

    Parameters
    ----------
    plate
        The plate, or its results.
    probabilities, layout
        Its groups of these names.
    draws, seed
        Of the intervals.

    Returns
    -------
    Dataset
        Group `early_detection` (`analysis.early_detection`). Without a table, or with one that tells no lead, it is
        empty and the attribute `note` says why: a plate without markers has no lead, and that is no error.
    """
    file = annotation_of(plate)
    if not file.exists():
        return _nothing(f"{file.name} is not there: annotate the plate where it was imaged with annexin V and PI")
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:
        return _nothing(f"{file.name} cannot be read as a table ({error})")
    lost = [name for name in (_TEXT, *_NUMBERS) if name not in table]
    if lost:
        return _nothing(f"{file.name} has no column {lost[0]!r}, as tables of `tomoscreen annotate` have")
    table = table.assign(**{name: pd.to_numeric(table[name], errors="coerce") for name in _NUMBERS})
    measured = table.dropna(subset=list(_NUMBERS))
    frames = measured["timepoint"].nunique()
    if frames < _FEWEST_FRAMES:
        return _nothing(
            f"{file.name} holds the markers of {frames} timepoints, and a lead needs two or more: annotate all frames"
        )
    try:
        found = early_detection(probabilities, measured, layout, draws=min(draws, _MOST_DRAWS), seed=seed)
    except StoreError as error:
        return _nothing(str(error))
    return found.assign_attrs(note="", annotation=file.name)


def _nothing(why: str) -> xr.Dataset:
    return xr.Dataset(attrs={"note": why})
