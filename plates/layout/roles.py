"""What part each well plays, masked wells none, and which controls are those of its own vehicle."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import xarray as xr

MASKED = "masked"
COMBINATION = "combination"


def roles(plate: pd.DataFrame | xr.Dataset) -> np.ndarray:
    """Return "negative", "positive", "none" (one compound), "combination" (two) or "masked" for each well.

    A masked well keeps its place, its images and its numbers, but no statistic may see it. A well with two compounds
    is no point of either compound's curve.

    Parameters
    ----------
    plate
        The table of a plate map, the stored `layout`, or a result that carries it. Without `masked`, as in
        results stored by earlier versions, every well is used.
    """
    control = np.asarray(plate["control"].values, dtype=object)
    return np.where(is_masked(plate), MASKED, control).astype(object)


def is_masked(plate: pd.DataFrame | xr.Dataset) -> np.ndarray:
    """Whether each well is masked; none is where the plate knows no masks."""
    return np.asarray(_texts(plate, "masked") != "", dtype=bool)


def vehicles(plate: pd.DataFrame | xr.Dataset) -> np.ndarray:
    """Return the vehicle of each well, spelled alike ("dmso"); "" where it is not known."""
    return np.array([" ".join(name.casefold().split()) for name in _texts(plate, "vehicle")], dtype=object)


def vehicle_controls(plate: pd.DataFrame | xr.Dataset) -> dict[str, np.ndarray]:
    """For each vehicle on the plate, which wells are its negative controls; an array of bool over all wells.

    A vehicle without controls of its own has those whose vehicle is not known. Wells of unknown vehicle
    ("") are compared with all negative controls; unknown controls count as the only vehicle where there is
    but one. No entry is True where a vehicle has no control at all.
    """
    negative, vehicle = roles(plate) == "negative", vehicles(plate)
    one_only = len(set(vehicle[negative]) - {""}) == 1
    found = {}
    for name in dict.fromkeys(vehicle):
        own = negative & (vehicle == name)
        unknown = negative & (vehicle == "")
        if name == "":
            found[name] = negative
        elif own.any():
            found[name] = own | unknown if one_only else own
        else:
            found[name] = unknown
    return found


def main_vehicle(plate: pd.DataFrame | xr.Dataset) -> np.ndarray:
    """Negative controls of the vehicle that has most of them, as bool over all wells."""
    negative, vehicle = roles(plate) == "negative", vehicles(plate)
    named = Counter(vehicle[negative & (vehicle != "")])
    unknown = int((negative & (vehicle == "")).sum())
    # of equal numbers the first in the order of wells
    name = max(named, key=lambda name: named[name], default="")
    if len(named) > 1 and unknown > named[name]:
        return np.asarray(negative & (vehicle == ""))
    return np.asarray(vehicle_controls(plate).get(name, negative))


def _texts(plate: pd.DataFrame | xr.Dataset, name: str) -> np.ndarray:
    if name not in plate:
        size = plate.sizes["well"] if isinstance(plate, xr.Dataset) else len(plate)
        return np.full(size, "", dtype=object)
    return np.asarray(plate[name].values, dtype=object)
