"""The treated wells of one or more plates in one table, as excess over each plate's own vehicle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from plates.layout.roles import roles
from plates.states import DEAD

from .normalization import normalize

READOUTS = ("death", *DEAD)


def pool_wells(plates: Sequence[xr.Dataset]) -> xr.Dataset:
    """Treated and vehicle wells of all plates, one after the other; masked wells are left out.

    Parameters
    ----------
    plates
        `normalized` (or `fractions`, which are then normalised) of each plate; `attrs["plate"]` is its
        name, or its number in the list. Plates without vehicle wells enter with their raw fractions.

    Returns
    -------
    Dataset
        Dim `index` (wells), `timepoint`, `readout`: `response`; coords on `index`: plate, well, compound,
        dose (uM), replicate, vehicle (bool), hours is (index, timepoint), because plates need not share a
        clock. A compound that was tested on several cell lines is one compound per line, "name [line]".
        `attrs["floor"]` is the smallest response possible. Plates with fewer timepoints are padded at the
        front with NaN, so that -1 is everybody's last.
    """
    parts = [_one(plate, number) for number, plate in enumerate(plates, start=1)]
    longest = max((part.sizes["timepoint"] for part in parts), default=0)
    parts = [part.pad(timepoint=(longest - part.sizes["timepoint"], 0), constant_values=np.nan) for part in parts]
    pooled = xr.concat(parts, dim="index", combine_attrs="drop") if len(parts) > 1 else parts[0]
    pooled.attrs["floor"] = min(part.attrs["floor"] for part in parts)
    lines = set(pooled.cell_line.values[~pooled.vehicle.values]) - {""}
    if len(lines) > 1:
        names = [
            f"{name} [{line}]" if line else name
            for name, line in zip(pooled.compound.values, pooled.cell_line.values, strict=True)
        ]
        pooled["compound"] = ("index", np.array(names, dtype=object))
    return pooled


def compounds(pooled: xr.Dataset) -> list[str]:
    """Names of the treated compounds, in the order in which they first appear."""
    return list(dict.fromkeys(pooled.compound.values[~pooled.vehicle.values]))


def table(pooled: xr.Dataset, *, timepoint: int) -> pd.DataFrame:
    """One row per well at one timepoint, with a column for each readout; wells without cells are left out."""
    frame = pd.DataFrame(
        {name: pooled[name].values for name in ("plate", "well", "compound", "dose", "replicate", "vehicle")}
    )
    response = pooled.response.isel(timepoint=timepoint).transpose("index", "readout").values
    frame[list(READOUTS)] = response
    # doses that differ by rounding only are one dose
    frame["log_dose"] = np.round(np.log10(frame["dose"].where(frame["dose"] > 0)), 5)
    kept: pd.DataFrame = frame[np.isfinite(response).all(axis=1)].reset_index(drop=True)
    return kept


def vehicle_spread(frame: pd.DataFrame, readout: str) -> float:
    """SD of vehicle wells around their plate's median: 1.4826 MAD, or SD where that is 0; NaN below 3."""
    wells = frame[frame["vehicle"]]
    if len(wells) < 3:
        return float("nan")
    deviation = wells[readout] - wells.groupby("plate")[readout].transform("median")
    robust = 1.4826 * float(deviation.abs().median())
    return robust if robust > 0 else float(deviation.std())


def _one(plate: xr.Dataset, number: int) -> xr.Dataset:
    data = plate if "excess" in plate else normalize(plate)
    # results stored by earlier versions know one vehicle a plate
    vehicle_death = data.get("own_vehicle_death", data.vehicle_death)
    has_vehicle = bool(vehicle_death.notnull().any())
    if has_vehicle:
        # corrected for place where the plate's own vehicle wells asked for it, else the same as uncorrected
        death = data.get("corrected_death_excess", data.death_excess)
        states = data.get("corrected_excess", data.excess)
        highest = float(vehicle_death.max())
        floor = -highest / (1 - highest)
    else:
        death, states, floor = data.death, data.fraction, 0.0
    response = xr.concat(
        [death.expand_dims(readout=["death"]), states.sel(state=list(DEAD)).rename(state="readout")],
        dim="readout",
        coords="minimal",
        compat="override",
        join="override",
    )
    role, dose, compound = roles(data), data.dose.values.astype(float), data.compound.values
    vehicle = role == "negative"
    treated = (role == "none") & (dose > 0) & (compound != "")
    chosen = np.flatnonzero(vehicle | treated)
    hours = np.broadcast_to(data.hours.values, (chosen.size, data.sizes["timepoint"]))
    name = str(plate.attrs.get("plate", f"plate {number}"))
    per_well = {
        "plate": np.full(chosen.size, name, dtype=object),
        "well": data.well.values[chosen].astype(object),
        "compound": compound[chosen].astype(object),
        "cell_line": data.cell_line.values[chosen].astype(object),
        "dose": dose[chosen],
        "replicate": data.replicate.values[chosen],
        "vehicle": vehicle[chosen],
    }
    values = response.transpose("well", "timepoint", "readout").values[chosen].astype(float)
    return xr.Dataset(
        {
            "response": (("index", "timepoint", "readout"), values),
            "hours": (("index", "timepoint"), hours.astype(float)),
            **{key: ("index", value) for key, value in per_well.items()},
        },
        coords={"readout": list(READOUTS)},
        attrs={"floor": floor},
    )
