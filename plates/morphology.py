"""What a plate's images say without any classifier: how the index of the medium drifts over time and place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .ngff import well_position

if TYPE_CHECKING:
    import xarray as xr

# Fewer fields than this say nothing about five coefficients.
_FEWEST_FIELDS = 8
_TERMS = ("time", "row", "column")


def medium_drift(fields: xr.Dataset) -> xr.Dataset:
    """Drift of the medium's index over the plate, at each timepoint: along acquisition time, rows and columns.

    A least-squares plane through the fields' medium indices. The edges of a plate dry out and a microscope warms up:
    both move the index of the medium by more than cells differ, and both look like an effect of the wells there.

    Parameters
    ----------
    fields
        The result `fields`: `medium_index` and `acquired` (well, field, timepoint), NaN or NaT where there is none.

    Returns
    -------
    xarray.Dataset
        By timepoint: `time_slope` (index/h; NaN where times are unknown or all the same), `row_slope` and
        `column_slope` (index a well) with their standard errors, `spread` (standard deviation of what the plane
        leaves) and `range` (largest less smallest of the plane's values over the fields). NaN with fewer than 8 fields.
    """
    import xarray as xr

    rows, columns = np.array([well_position(str(well)) for well in fields["well"].values]).T
    medium = fields["medium_index"].transpose("timepoint", "well", "field").values
    acquired = fields["acquired"].transpose("timepoint", "well", "field").values
    names = [f"{term}_{what}" for term in _TERMS for what in ("slope", "error")] + ["spread", "range"]
    table = {name: np.full(len(medium), np.nan) for name in names}
    for timepoint, (index, times) in enumerate(zip(medium, acquired, strict=True)):
        usable = np.isfinite(index)
        if np.count_nonzero(usable) < _FEWEST_FIELDS:
            continue
        hours = (times - np.nanmin(times)) / np.timedelta64(1, "h") if not np.isnat(times[usable]).any() else None
        terms = {
            "time": hours[usable] if hours is not None else np.zeros(np.count_nonzero(usable)),
            "row": np.broadcast_to(rows[:, None], index.shape)[usable].astype(float),
            "column": np.broadcast_to(columns[:, None], index.shape)[usable].astype(float),
        }
        for name, value in _fit_plane(terms, index[usable]).items():
            table[name][timepoint] = value
    units = {"time": "1/h", "row": "1 a row", "column": "1 a column"}
    variables: dict[str, Any] = {}
    for name, values in table.items():
        term = name.split("_")[0]
        variables[name] = ("timepoint", values, {"units": units.get(term, "1")})
    return xr.Dataset(variables, coords={"timepoint": fields["timepoint"].values})


def _fit_plane(terms: dict[str, np.ndarray], values: np.ndarray) -> dict[str, float]:
    """Slopes with standard errors; a term that does not vary has none."""
    varying = {name: x - x.mean() for name, x in terms.items() if np.ptp(x) > 0}
    design = np.column_stack([np.ones(len(values)), *varying.values()])
    solution, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    fitted = design @ solution
    freedom = len(values) - rank
    spread = float(np.sqrt(np.sum((values - fitted) ** 2) / freedom)) if freedom > 0 else float("nan")
    result = {"spread": spread, "range": float(np.ptp(fitted))}
    if rank < design.shape[1]:
        # time and place cannot be told apart, as when wells are visited once in their order
        return result
    errors = spread * np.sqrt(np.diag(np.linalg.inv(design.T @ design)))
    for number, name in enumerate(varying, start=1):
        result[f"{name}_slope"], result[f"{name}_error"] = float(solution[number]), float(errors[number])
    return result
