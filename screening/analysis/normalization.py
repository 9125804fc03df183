"""A plate against its own controls: death as percent of them, and what each state gained over vehicle."""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr

from plates.layout.roles import MASKED, main_vehicle, roles, vehicle_controls, vehicles
from plates.states import STATES

SMALLEST_WINDOW = 0.1  # death of positive controls minus death of vehicle below which "percent" means nothing


def normalize(fractions: xr.Dataset, *, center: Literal["median", "mean"] = "median") -> xr.Dataset:
    """Express a plate's fractions relative to its controls, timepoint by timepoint; raw ones stay beside.

    With v the vehicle's fraction and V its death, the excess of a state with fraction x is (x - v) / (1 -
    V): for death this is Abbott's (1925) correction, the share of the cells that vehicle leaves alive which
    the compound kills, and the excesses of the three pathways add up to it. The live states' excesses are
    their losses on the same scale.

    Cells in ethanol are no control of cells in DMSO: where the plate map names vehicles, v and V are those of
    the well's own vehicle (`plates.layout.roles.vehicle_controls`). Positive controls are taken together,
    whatever their vehicle. Masked wells keep their raw values and take no part.

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
        clipped), `death_excess`, `own_vehicle_death` (V of the well's own vehicle), and raw `death`; (well,
        timepoint, state): `excess` and raw `fraction`; (timepoint): `vehicle_death` of the vehicle with the
        most control wells, `positive_death`, `n_vehicle`, `n_positive` (wells with cells, of all vehicles).
        Everything relative is NaN in masked wells and where the plate has no vehicle wells with cells that
        match, and `death_percent` also where it has no positive controls or they die at most 0.1 more than
        vehicle; `attrs["note"]` then says so.
    """
    reduce = np.nanmedian if center == "median" else np.nanmean
    counted = np.isfinite(fractions.death.transpose("well", "timepoint").values)
    death = fractions.death.transpose("well", "timepoint").values.astype(float)
    states = fractions.fraction.transpose("well", "timepoint", "state").values.astype(float)
    role = roles(fractions)
    vehicle, positive = role == "negative", role == "positive"
    own_death, own_state = _own_vehicle(fractions, death, states, reduce)
    vehicle_death, positive_death = (_center(death[wells], reduce) for wells in (main_vehicle(fractions), positive))
    alive = np.where(own_death < 1, 1 - own_death, np.nan)
    window = positive_death - own_death
    window = np.where(window > SMALLEST_WINDOW, window, np.nan)

    over_time, over_state = ("well", "timepoint"), ("well", "timepoint", "state")
    percent = {"units": "percent of controls"}
    return xr.Dataset(
        {
            "death_percent": (over_time, 100 * (death - own_death) / window, percent),
            "death_excess": (over_time, (death - own_death) / alive, {"units": "1"}),
            "excess": (over_state, (states - own_state) / alive[..., None], {"units": "1"}),
            "death": fractions.death.transpose(*over_time),
            "fraction": fractions.fraction.transpose(*over_state),
            "vehicle_death": ("timepoint", vehicle_death),
            "own_vehicle_death": (over_time, own_death, {"units": "1"}),
            "vehicle_fraction": (("timepoint", "state"), _center(states[main_vehicle(fractions)], reduce)),
            "positive_death": ("timepoint", positive_death),
            "n_vehicle": ("timepoint", counted[vehicle].sum(axis=0)),
            "n_positive": ("timepoint", counted[positive].sum(axis=0)),
        },
        coords={**fractions.coords, "state": list(STATES)},
        attrs={
            "center": center,
            "excess": "(x - vehicle) / (1 - vehicle death), Abbott 1925",
            "note": _note(own_death[role != MASKED], window[role != MASKED], positive.any()),
        },
    )


def _own_vehicle(
    fractions: xr.Dataset, death: np.ndarray, states: np.ndarray, reduce: object
) -> tuple[np.ndarray, np.ndarray]:
    """Centre of the control wells of each well's own vehicle: death (well, timepoint) and (well, timepoint, state)."""
    own_death, own_state = np.full_like(death, np.nan), np.full_like(states, np.nan)
    vehicle, used = vehicles(fractions), roles(fractions) != MASKED
    for name, controls in vehicle_controls(fractions).items():
        members = used & (vehicle == name)
        own_death[members] = _center(death[controls], reduce)
        own_state[members] = _center(states[controls], reduce)
    return own_death, own_state


def _center(values: np.ndarray, reduce: object) -> np.ndarray:
    """Centre over wells, NaN (without a warning) where no well has cells."""
    held = np.isfinite(values).any(axis=0)
    filled = np.where(held, values, 0.0) if len(values) else np.zeros((1, *values.shape[1:]))
    return np.where(held, reduce(filled, axis=0), np.nan)  # type: ignore[operator]


def _note(own_death: np.ndarray, window: np.ndarray, has_positive: bool) -> str:
    matched = np.isfinite(own_death).any(axis=1)
    if not matched.any():
        return (
            "No vehicle well (control 'negative') with cells: nothing can be expressed relative to vehicle, "
            "raw fractions only. Mark the vehicle wells in the plate map."
        )
    if not matched.all():
        return (
            f"{(~matched).sum()} wells are in a vehicle without control wells: they have raw fractions only. "
            "Add control wells of that vehicle, or spell it in the plate map as in the control wells."
        )
    if not has_positive:
        return "No positive control: death as percent of controls is not defined."
    if not np.isfinite(window).all():
        return (
            f"Where positive controls die at most {SMALLEST_WINDOW} more than vehicle, "
            "death as percent of controls is left empty."
        )
    return ""
