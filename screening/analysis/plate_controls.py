"""The control statistics of a plate: every readout, timepoint and vehicle, with the reason for what is missing."""

from __future__ import annotations

import numpy as np
import xarray as xr

from plates.layout.roles import main_vehicle, roles, vehicle_controls, vehicles
from plates.states import DEAD, STATES

from .control_statistics import control_statistics

READOUTS = ("death", *STATES)
OTHER = "not named"  # vehicle of control wells whose plate map names none


def plate_controls(
    fractions: xr.Dataset, values: np.ndarray, *, draws: int, seed: int
) -> tuple[xr.Dataset, xr.Dataset]:
    """Every statistic of every readout at every timepoint: of the main vehicle, and of each vehicle.

    Parameters
    ----------
    fractions
        Group `fractions`, for what each well holds.
    values
        (well, timepoint, readout) of `READOUTS`.
    draws, seed
        Of the bootstrap.

    Returns
    -------
    (Dataset, Dataset)
        (readout, timepoint), with the main vehicle's control wells and all positive controls; and (vehicle,
        readout, timepoint), with `matched` (vehicle, readout): the positive controls are those in that
        vehicle, because there are two or more of them, and not all.
    """
    role, vehicle, inducer = roles(fractions), vehicles(fractions), fractions.inducer.values
    groups = {
        name: wells
        for name, wells in vehicle_controls(fractions).items()
        if wells.any() and (name or len(set(vehicle)) == 1)
    }
    own = {name: vehicle == name for name in groups}
    parts: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    matched = np.zeros((len(groups), len(READOUTS)), dtype=bool)
    main = []
    for number, readout in enumerate(READOUTS):
        positives = role == "positive"
        if readout in DEAD:
            positives &= inducer == readout
        one = values[:, :, number]
        negatives = main_vehicle(fractions)
        main.append(_with_reason(control_statistics(one[positives], one[negatives], draws=draws, seed=seed), readout))
        for place, (name, wells) in enumerate(groups.items()):
            here = positives & own[name]
            matched[place, number] = here.sum() >= 2
            chosen = here if matched[place, number] else positives
            if np.array_equal(chosen, positives) and np.array_equal(wells, negatives):
                parts[name, readout] = main[-1]
            else:
                found = control_statistics(one[chosen], one[wells], draws=draws, seed=seed)
                parts[name, readout] = _with_reason(found, readout)
    time = {"timepoint": fractions.timepoint.values, "hours": fractions.hours}
    dims = ("readout", "timepoint")
    quality = xr.Dataset(
        {name: (dims, np.stack([row[name] for row in main])) for name in main[0]},
        coords={"readout": list(READOUTS), **time},
    )
    shape = (len(groups), len(READOUTS), fractions.sizes["timepoint"])
    stacked = {}
    for name, values_of in main[0].items():
        table = np.empty(shape, dtype=values_of.dtype)
        for place, v in enumerate(groups):
            table[place] = [parts[v, readout][name] for readout in READOUTS]
        stacked[name] = (("vehicle", *dims), table)
    by_vehicle = xr.Dataset(
        {**stacked, "matched": (("vehicle", "readout"), matched)},
        coords={"vehicle": np.array([v or OTHER for v in groups], dtype=object), "readout": list(READOUTS), **time},
    )
    return quality, by_vehicle


def _with_reason(one: dict[str, np.ndarray], readout: str) -> dict[str, np.ndarray]:
    """The statistics of one readout with the reason for what is missing, (timepoint) each."""
    whose = f"{readout} inducer" if readout in DEAD else "positive control"
    reasons = []
    for t in range(one["z_prime"].size):
        if one["n_negative"][t] < 2:
            reasons.append("not computable: fewer than two vehicle wells with cells")
        elif one["n_positive"][t] < 2:
            reasons.append(f"not computable: fewer than two wells of the {whose} with cells")
        elif np.isnan(one["z_prime"][t]):
            reasons.append(
                "not computable: positive and negative controls have the same mean, or none of them scatters"
            )
        elif np.isnan([one["robust_z_prime"][t], one["robust_ssmd"][t]]).any():
            reasons.append("not computable: control wells without spread or with equal medians")
        elif np.isnan([one["ssmd"][t], one["signal_to_background"][t]]).any():
            reasons.append("signal to background or SSMD not computable: nothing of it in the vehicle wells")
        else:
            reasons.append("")
    return {**one, "reason": np.array(reasons, dtype=object)}
