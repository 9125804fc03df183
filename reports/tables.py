"""Stored results as tables: rows for the pages, and flat tables for the files beside them."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from markupsafe import Markup

from . import words

FIRST_COLUMNS = (
    "plate", "well", "timepoint", "hours", "rank", "compound", "readout", "dose_index", "replicate", "dose", "control",
    "inducer", "cell_line", "verdict", "status", "ec50", "ec50_low", "ec50_high", "emax", "emax_low", "emax_high",
    "dominant_pathway", "dominant_share", "response", "death", "death_low", "death_high",
)  # fmt: skip
SPARK_WIDTH, SPARK_HEIGHT = 92, 26


def ranking_rows(ranking: xr.Dataset, fits: xr.Dataset) -> list[dict[str, Any]]:
    """One dictionary a ranked compound, in stored order: the stored values plus range, name and sparkline.

    Parameters
    ----------
    ranking, fits
        The stored `ranking` and `dose_response` results.
    """
    rows = []
    for position, compound in enumerate(str(name) for name in ranking["compound"].values):
        row = _values(ranking.isel(compound=position))
        row["compound"] = compound
        fit = fits.sel(compound=compound, readout="death")
        row["dose_min"], row["dose_max"] = tested_range(fit)
        row["spark"] = sparkline(fit)
        rows.append(row)
    return rows


def readout_rows(fits: xr.Dataset, compound: str) -> list[dict[str, Any]]:
    """The stored fits of one compound, one dictionary a readout."""
    rows = []
    for readout in fits["readout"].values:
        fit = fits.sel(compound=compound, readout=readout)
        row = _values(fit)
        row["readout"] = str(readout)
        row["dose_min"], row["dose_max"] = tested_range(fit)
        rows.append(row)
    return rows


def quality_rows(quality: xr.Dataset, *, timepoint: int) -> list[dict[str, Any]]:
    """The stored control statistics at one timepoint, one dictionary a readout."""
    at_time = quality.isel(timepoint=timepoint)
    return [_values(at_time.sel(readout=readout)) | {"readout": str(readout)} for readout in quality["readout"].values]


def wells_table(fractions: xr.Dataset, quality: xr.Dataset, normalized: xr.Dataset | None) -> pd.DataFrame:
    """Every well at every timepoint: plate map, death and states with intervals, flags, normalised values."""
    table = _flat(fractions)
    for added in (quality, normalized):
        if added is not None:
            more = _flat(added)
            new = [name for name in more.columns if name in ("well", "timepoint") or name not in table.columns]
            table = table.merge(more[new], on=["well", "timepoint"], how="left")
    return _ordered(table)


def curves_table(fits: xr.Dataset) -> pd.DataFrame:
    """Every fit of every compound and readout, without its points and drawn curve."""
    parameters = [name for name in fits.data_vars if fits[name].dims == ("compound", "readout")]
    return _ordered(fits[parameters].to_dataframe().reset_index())


def points_table(fits: xr.Dataset) -> pd.DataFrame:
    """Every well that a curve was fitted to."""
    names = ["dose", "response", "plate", "well"]
    return _ordered(fits[names].to_dataframe().reset_index().dropna(subset=["dose", "response"]))


def ranking_table(ranking: xr.Dataset) -> pd.DataFrame:
    """The stored ranking as a table."""
    return _ordered(ranking.to_dataframe().reset_index())


def quality_table(quality: xr.Dataset) -> pd.DataFrame:
    """Every control statistic of every readout at every timepoint."""
    names = [name for name in quality.data_vars if set(quality[name].dims) == {"readout", "timepoint"}]
    return _ordered(quality[names].to_dataframe(dim_order=["readout", "timepoint"]).reset_index())


def plates_table(plates: xr.Dataset) -> pd.DataFrame:
    """The stored plates of a campaign as a table, without their places on one machine's disk."""
    return _ordered(plates.drop_vars("path", errors="ignore").to_dataframe().reset_index())


def tested_range(fit: xr.Dataset) -> tuple[float, float]:
    """Lowest and highest dose of a fit's points in micromolar; NaN where it has none."""
    doses = fit["dose"].values.astype(float)
    doses = doses[np.isfinite(doses) & (doses > 0)]
    return (float(doses.min()), float(doses.max())) if doses.size else (math.nan, math.nan)


def sparkline(fit: xr.Dataset) -> Markup:
    """Points and curve of a fit in the height of a line of text."""
    low, high = tested_range(fit)
    if not math.isfinite(low):
        return Markup("")
    start, span = math.log10(low), max(math.log10(high / low), 1e-9)

    def place(dose: np.ndarray, response: np.ndarray) -> list[str]:
        x = 3 + (np.log10(dose) - start) / span * (SPARK_WIDTH - 6)
        y = 3 + (1 - np.clip(response, 0, 1)) * (SPARK_HEIGHT - 6)
        return [f"{a:.0f} {b:.1f}" for a, b in zip(x, y, strict=True)]

    dose, response = fit["dose"].values.ravel(), fit["response"].values.ravel()
    valid = np.isfinite(dose) & np.isfinite(response) & (dose > 0)
    dots = "".join(f"M{at}h0" for at in place(dose[valid], response[valid]))
    line = ""
    if words.has_ec50(_values(fit)):
        curve_dose, curve = fit["curve_dose"].values, fit["curve"].values
        inside = (curve_dose >= low * 0.999) & (curve_dose <= high * 1.001)
        line = "M" + "L".join(place(curve_dose[inside], curve[inside])[::3])
    return Markup(
        '<svg class="spark" viewBox="0 0 {} {}" aria-hidden="true">'
        '<path class="line" d="{}"/><path class="dots" d="{}"/></svg>'
    ).format(SPARK_WIDTH, SPARK_HEIGHT, line, dots)


def wells_of(layout: xr.Dataset, compound: str) -> np.ndarray:
    """Positions of the wells treated with a compound at a stated dose, controls left out.

    Parameters
    ----------
    layout
        The stored `layout`, or a result that carries it.
    compound
        A name as the fits use it: with the cell line in brackets where a compound met several.
    """
    named = np.array(
        [
            compound in (str(name), f"{name} [{line}]")
            for name, line in zip(layout["compound"].values, layout["cell_line"].values, strict=True)
        ],
        dtype=bool,
    )
    dosed = layout["dose"].values.astype(float) > 0
    return np.flatnonzero(named & dosed & (layout["control"].values == "none"))


def _values(one: xr.Dataset) -> dict[str, Any]:
    """The scalar variables of a selection as plain Python values."""
    return {str(name): one[name].item() for name in one.data_vars if one[name].ndim == 0}


def _flat(dataset: xr.Dataset) -> pd.DataFrame:
    """(well, timepoint) rows, one column a state or group of them; what is not of the wells is left out."""
    columns: dict[str, xr.DataArray] = {}
    for name, variable in {**dataset.coords, **dataset.data_vars}.items():
        plain = variable.reset_coords(drop=True)
        if name in plain.dims or set(plain.dims) - {"well", "timepoint", "state", "group"}:
            continue
        if "well" not in plain.dims and name != "hours":
            continue
        shared = [dim for dim in ("state", "group") if dim in plain.dims]
        if shared:
            columns |= {
                f"{value}_{name}": plain.sel({shared[0]: value}, drop=True) for value in dataset[shared[0]].values
            }
        else:
            columns[str(name)] = plain
    table: pd.DataFrame = xr.Dataset(columns).to_dataframe(dim_order=["well", "timepoint"]).reset_index()
    return table


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    """Columns in an order of their own: a store gives its arrays back in any order."""
    names = [name for name in FIRST_COLUMNS if name in table.columns]
    return table[names + sorted(set(table.columns) - set(names))]


def provenance(dataset: xr.Dataset) -> Mapping[str, Any]:
    """What a result says about its making."""
    stored = dataset.attrs.get("provenance", {})
    record: Mapping[str, Any] = json.loads(stored) if isinstance(stored, str) else stored
    return record
