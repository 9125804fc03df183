"""Does place, or the order of imaging, tell what a well shows: wells that should be equal, put to the test."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from plates.layout.roles import main_vehicle

from .control_charts import drift_over_order
from .peers import replicate_groups
from .plate_controls import READOUTS
from .spatial import at_rim, spatial_tests

DRIFTING = ("death", "focus", "medium_index", "confluency")


def effects_of_place(
    fractions: xr.Dataset, values: np.ndarray, plate: pd.DataFrame, timepoint: int, *, permutations: int, seed: int
) -> xr.Dataset:
    """Effects of place among vehicle wells, and among replicates at the reading timepoint."""
    rows, columns = plate["row"].to_numpy(), plate["column"].to_numpy()
    rim = at_rim(rows, columns)
    vehicle = main_vehicle(fractions)
    by_time = spatial_tests(
        np.moveaxis(values[vehicle], 2, 1),
        rows[vehicle],
        columns[vehicle],
        rim=rim[vehicle],
        permutations=permutations,
        seed=seed,
    )
    by_replicate = spatial_tests(
        _steadied(values[:, timepoint], replicate_groups(plate)),
        rows,
        columns,
        groups=replicate_groups(plate),
        rim=rim,
        permutations=permutations,
        seed=seed,
    )
    return xr.Dataset(
        {
            **{name: (("readout", "timepoint"), found) for name, found in by_time.items()},
            **{f"replicate_{name}": ("readout", found) for name, found in by_replicate.items()},
        },
        coords={"readout": list(READOUTS), "timepoint": fractions.timepoint.values, "hours": fractions.hours},
        attrs={
            "permutations": permutations,
            "vehicle": "main vehicle",
            "timepoint": int(fractions.timepoint.values[timepoint]),
        },
    )


def _steadied(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Fractions divided by how much their group should scatter, as deviations: a half scatters more than a tenth.

    The scale is sqrt(4 p (1 - p)) at the group's mean p, which is 1 at a half, and at least 0.4 (that of p = 0.04).
    """
    out = np.full(values.shape, np.nan)
    for group in np.unique(groups):
        members = groups == group
        one = values[members]
        known = np.isfinite(one)
        mean = np.where(known, one, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        scale = np.maximum(np.sqrt(np.clip(4 * mean * (1 - mean), 0, 1)), 0.4)
        out[members] = (one - mean) / scale
    return out


def effects_of_order(fractions: xr.Dataset, fields: xr.Dataset | None, *, permutations: int, seed: int) -> xr.Dataset:
    """Trends of vehicle wells over the time at which they were imaged; empty where nobody knows it."""
    coords = {"quantity": list(DRIFTING), "timepoint": fractions.timepoint.values, "hours": fractions.hours}
    if fields is None or "acquired" not in fields:
        return xr.Dataset(coords=coords, attrs={"note": "The times of imaging are not known."})
    known = fields.reindex(well=fractions.well, timepoint=fractions.timepoint)
    vehicle = main_vehicle(fractions)
    taken = known.acquired.transpose("well", "timepoint", "field").values[vehicle]
    order = _hours(taken)
    done = (known.status == 1).transpose("well", "timepoint", "field").values[vehicle]
    found = []
    for quantity in DRIFTING:
        if quantity == "death":
            values = fractions.death.transpose("well", "timepoint").values[vehicle].astype(float)
        elif quantity in known:
            one = known[quantity].transpose("well", "timepoint", "field").values[vehicle].astype(float)
            values = _mean(np.where(done, one, np.nan))
        else:
            values = np.full(order.shape, np.nan)
        # every timepoint has an order of its own
        each = [
            drift_over_order(values[:, t], order[:, t], permutations=permutations, seed=seed)
            for t in range(values.shape[1])
        ]
        found.append({name: np.array([one[name] for one in each]) for name in each[0]} if each else {})
    return xr.Dataset(
        {name: (("quantity", "timepoint"), np.stack([one[name] for one in found])) for name in found[0]},
        coords=coords,
        attrs={"note": "Wells are imaged in the order of their places: a trend may be one of place."},
    )


def _hours(taken: np.ndarray) -> np.ndarray:
    """(well, timepoint, field) times -> (well, timepoint) hours since the first, mean over fields; NaN unknown."""
    known = ~np.isnat(taken)
    if not known.any():
        return np.full(taken.shape[:2], np.nan)
    hours = (taken - taken[known].min()) / np.timedelta64(1, "h")
    return _mean(np.where(known, hours, np.nan))


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is finite; NaN where nothing is."""
    known = np.isfinite(values)
    number = known.sum(axis=-1)
    return np.where(number > 0, np.where(known, values, 0).sum(axis=-1) / np.maximum(number, 1), np.nan)
