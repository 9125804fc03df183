"""A plate against its own controls: death as percent of them, and what each state gained over vehicle."""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr

from plates.states import STATES

SMALLEST_WINDOW = 0.1  # death of positive controls minus death of vehicle below which "percent" means nothing


def normalize(fractions: xr.Dataset, *, center: Literal["median", "mean"] = "median") -> xr.Dataset:
    """Express a plate's fractions relative to its controls, timepoint by timepoint; raw ones stay beside.

    With v the vehicle's fraction and V its death, the excess of a state with fraction x is (x - v) / (1 -
    V): for death this is Abbott's (1925) correction, the share of the cells that vehicle leaves alive which
    the compound kills, and the excesses of the three pathways add up to it. The live states' excesses are
    their losses on the same scale.

    Parameters
    ----------
    fractions
        `fractions` of one plate.
    center
        Centre of the control wells. A mislabelled or contaminated control well moves the mean, not the
        median.

    Returns
    -------
    Dataset
        (well, timepoint): `death_percent` (0 = vehicle, 100 = positive controls of whatever pathway; not
        clipped), `death_excess`, and raw `death`; (well, timepoint, state): `excess` and raw `fraction`;
        (timepoint): `vehicle_death`, `positive_death`, `n_vehicle`, `n_positive` (wells with cells).
        Everything relative is NaN where the plate has no vehicle wells with cells, and `death_percent` also
        where it has no positive controls or they die at most 0.1 more than vehicle; `attrs["note"]` then
        says so.
    """
    reduce = np.nanmedian if center == "median" else np.nanmean
    counted = np.isfinite(fractions.death.transpose("well", "timepoint").values)
    death = fractions.death.transpose("well", "timepoint").values.astype(float)
    states = fractions.fraction.transpose("well", "timepoint", "state").values.astype(float)
    vehicle, positive = (fractions.control.values == kind for kind in ("negative", "positive"))

    vehicle_death, positive_death = (_center(death[wells], reduce) for wells in (vehicle, positive))
    vehicle_state = _center(states[vehicle], reduce)
    alive = np.where(vehicle_death < 1, 1 - vehicle_death, np.nan)
    window = positive_death - vehicle_death
    window = np.where(window > SMALLEST_WINDOW, window, np.nan)

    over_time, over_state = ("well", "timepoint"), ("well", "timepoint", "state")
    percent = {"units": "percent of controls"}
    return xr.Dataset(
        {
            "death_percent": (over_time, 100 * (death - vehicle_death) / window, percent),
            "death_excess": (over_time, (death - vehicle_death) / alive, {"units": "1"}),
            "excess": (over_state, (states - vehicle_state) / alive[:, None], {"units": "1"}),
            "death": fractions.death.transpose(*over_time),
            "fraction": fractions.fraction.transpose(*over_state),
            "vehicle_death": ("timepoint", vehicle_death),
            "vehicle_fraction": (("timepoint", "state"), vehicle_state),
            "positive_death": ("timepoint", positive_death),
            "n_vehicle": ("timepoint", counted[vehicle].sum(axis=0)),
            "n_positive": ("timepoint", counted[positive].sum(axis=0)),
        },
        coords={**fractions.coords, "state": list(STATES)},
        attrs={
            "center": center,
            "excess": "(x - vehicle) / (1 - vehicle death), Abbott 1925",
            "note": _note(vehicle_death, window, positive.any()),
        },
    )


def _center(values: np.ndarray, reduce: object) -> np.ndarray:
    """Centre over wells, NaN (without a warning) where no well has cells."""
    held = np.isfinite(values).any(axis=0)
    filled = np.where(held, values, 0.0) if len(values) else np.zeros((1, *values.shape[1:]))
    return np.where(held, reduce(filled, axis=0), np.nan)  # type: ignore[operator]


def _note(vehicle_death: np.ndarray, window: np.ndarray, has_positive: bool) -> str:
    if not np.isfinite(vehicle_death).any():
        return (
            "No vehicle well (control 'negative') with cells: nothing can be expressed relative to vehicle, "
            "raw fractions only. Mark the vehicle wells in the plate map."
        )
    if not has_positive:
        return "No positive control: death as percent of controls is not defined."
    if not np.isfinite(window).all():
        return (
            f"Where positive controls die at most {SMALLEST_WINDOW} more than vehicle, "
            "death as percent of controls is left empty."
        )
    return ""
