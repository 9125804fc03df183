"""Arrest or killing: growth-rate inhibition (GR), its static and toxic parts, and drug GRADE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from plates.layout.roles import roles

Array: TypeAlias = NDArray[Any]

FEWEST_DOUBLINGS = 0.2  # of the untreated between the frames: less growth leaves nothing to inhibit
CROWDED = 0.9  # confluency above which area no longer counts cells
BOUND_RATES = 1000  # death rates that the line of pure death is drawn through
BARELY = 0.9  # GR that some dose must fall below for an angle


def growth_rate_inhibition(live: Array, live_start: Array, control: Array, control_start: Array) -> Array:
    """GR = 2^(log2(x / x0) / log2(control / control0)) - 1 (Hafner et al. 2016, doi 10.1038/nmeth.3853).

    1: grows as the untreated; 0: stands still; below 0: fewer live cells than at the start. Each well is measured
    against its own start, so uneven seeding cancels. NaN where a number is missing or not positive (a well without
    live cells is -1), or the untreated grew by less than 0.2 doublings.
    """
    live, live_start, control, control_start = (
        np.asarray(x, dtype=float) for x in np.broadcast_arrays(live, live_start, control, control_start)
    )
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        doublings = np.log2(control / control_start)
        ratio = np.log2(live / live_start) / doublings
        gr: Array = np.exp2(np.clip(ratio, -1e3, 1e2)) - 1
    sound = (live_start > 0) & (control > 0) & (control_start > 0) & (live >= 0) & (doublings >= FEWEST_DOUBLINGS)
    return np.where(sound & np.isfinite(live), gr, np.nan)


def division_and_death(
    live: Array, live_start: Array, dead: Array, dead_start: Array, hours: Array | float
) -> tuple[Array, Array]:
    """Rates (1/h) of division and death from live and dead counts at two times.

    From dx/dt = (ks - kd) x and dD/dt = kd x with constant rates: k = ln(x / x0) / t, kd = k (D - D0) / (x - x0), and
    kd = (D - D0) / (x0 t) where nothing grew; ks = k + kd. Dead cells that have detached are missed, kd is too low
    then. NaN where a number is missing, there are no live cells at either time, or `hours` is not positive.
    """
    live, live_start, dead, dead_start, span = (
        np.asarray(x, dtype=float) for x in np.broadcast_arrays(live, live_start, dead, dead_start, hours)
    )
    sound = (live > 0) & (live_start > 0) & (span > 0) & np.isfinite(dead) & np.isfinite(dead_start)
    sound &= np.isfinite(live) & np.isfinite(live_start)
    x, x0, t = (np.where(sound, value, 1.0) for value in (live, live_start, span))
    k = np.log(x / x0) / t
    # the mean number of live cells between, x0 (e^(kt) - 1) / (kt), without dividing 0 by 0
    kt = k * t
    mean_live = x0 * np.where(np.abs(kt) < 1e-8, 1 + kt / 2, np.expm1(kt) / np.where(np.abs(kt) < 1e-8, 1.0, kt))
    kd = np.where(sound, (np.where(sound, dead - dead_start, 0.0)) / (mean_live * t), np.nan)
    return np.where(sound, k, np.nan) + kd, kd


def static_and_toxic(
    division: Array | float,
    death: Array | float,
    control_division: Array | float,
    control_death: Array | float,
    *,
    hours: float = 1.0,
) -> tuple[Array, Array]:
    """GR_static = 2^(ks / ks0) - 1 and GR_toxic = 2^(-(kd - kd0) t) - 1, t in `hours`.

    As in the GR method with dead counts (Gross et al. 2023, "Dye Drop"): static 1 is undisturbed division, 0 none;
    toxic 0 is no death beyond the untreated, -1 all. The toxic part depends on the unit of time, which is therefore
    an argument. NaN where the untreated do not divide.
    """
    division, death, base, lost = (
        np.asarray(x, dtype=float) for x in np.broadcast_arrays(division, death, control_division, control_death)
    )
    dividing = base > 0
    ratio = np.divide(division, base, out=np.full(base.shape, np.nan), where=dividing)
    static = np.exp2(np.clip(ratio, -1e3, 1e2)) - 1
    toxic = np.exp2(np.clip((lost - death) * hours, -1e3, 1e2)) - 1
    return static, np.where(dividing, toxic, np.nan)


def grade(gr: Array | Sequence[float], viability: Array | Sequence[float], *, doublings: float) -> float:
    """Share, in percent, of a drug's effect on growth that is killing: drug GRADE (Schwartz et al. 2020).

    The angle of the line of fractional viability (live / all cells of the same well) on GR over doses that still
    grow, 0 < GR <= 1, with the untreated point (1, 1), relative to the angle of a drug that only kills.

    Parameters
    ----------
    gr, viability
        (dose,) or wells; pairs with a NaN are left out.
    doublings
        Of the untreated during the assay: its length over the doubling time.

    Returns
    -------
    float
        About 0 for pure arrest, 100 for pure killing; NaN where no dose has GR below 0.9 but above 0, or the untreated
        do not grow.
    """
    values, alive = np.asarray(gr, dtype=float).ravel(), np.asarray(viability, dtype=float).ravel()
    used = np.isfinite(values) & np.isfinite(alive) & (values > 0) & (values <= 1)
    x, y = np.r_[1.0, values[used]], np.r_[1.0, alive[used]]
    if not (np.isfinite(doublings) and doublings > 0) or x.min() > BARELY:
        return float("nan")
    killed = np.linspace(0.0, 1.0, BOUND_RATES)[:-1]  # the last leaves nobody: its logarithm is none
    bound = np.exp2(1 + np.log2(1 - killed) / doublings) - 1
    growing = bound > 0
    if growing.sum() < 2:
        return float("nan")
    steepest = np.arctan(_slope(bound[growing], 1 - killed[growing]))
    return float(np.arctan(_slope(x, y)) / steepest * 100)


def _slope(x: Array, y: Array) -> float:
    centred = x - x.mean()
    return float(centred @ y / (centred @ centred))


def separate_arrest(plates: Sequence[xr.Dataset], *, timepoint: int = -1) -> xr.Dataset:
    """Separate arrest from killing for every compound, from confluency as the measure of cells.

    Live cells of a well are its covered area times its live fraction, dead cells the area times the death fraction.
    Area is not a count: apoptotic cells shrink, necroptotic balloons spread, dead cells detach; so a reason is given
    instead of numbers wherever area cannot stand for cells.

    Parameters
    ----------
    plates
        `fractions` of each plate, with `confluency`.
    timepoint
        Position of the frame that is compared with the first.

    Returns
    -------
    Dataset
        (compound): `grade` (percent), `doublings` of vehicle; (compound, dose_index), means over wells: `dose`
        (uM), `gr`, `gr_static`, `gr_toxic` (per day), `division_rate`, `death_rate` (1/h), `viability`; `reason`
        (compound), "" where all is well. NaN where there is a reason.
    """
    tables = [_plate_growth(plate, timepoint) for plate in plates]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    names = list(dict.fromkeys(table["compound"])) if len(table) else []
    columns = ("dose", "gr", "gr_static", "gr_toxic", "division_rate", "death_rate", "viability")
    grouped = {
        name: table[table["compound"] == name].groupby("log_dose")[list(columns)].mean().reset_index() for name in names
    }
    longest = max((len(part) for part in grouped.values()), default=0)
    by_dose = np.full((len(columns), len(names), longest), np.nan)
    grades, doublings, reasons = np.full(len(names), np.nan), np.full(len(names), np.nan), []
    for row, name in enumerate(names):
        mine = table[table["compound"] == name]
        by_dose[:, row, : len(grouped[name])] = grouped[name][list(columns)].to_numpy().T
        if mine["doublings"].notna().any():
            doublings[row] = float(mine["doublings"].mean())
        reason = next((text for text in mine["reason"] if text), "")
        if not reason:
            grades[row] = grade(mine["gr"].to_numpy(), mine["viability"].to_numpy(), doublings=doublings[row])
            if np.isnan(grades[row]):
                reason = "no dose slows growth without stopping it (GR between 0 and 0.9): no angle"
        reasons.append(reason)
    units = dict(zip(columns, ("uM", "1", "1", "1", "1/h", "1/h", "1"), strict=True))
    return xr.Dataset(
        {
            "grade": ("compound", grades, {"units": "percent", "long_name": "killing's share of the effect on growth"}),
            "doublings": ("compound", doublings, {"units": "1"}),
            "reason": ("compound", np.array(reasons, dtype=object)),
            **{
                name: (("compound", "dose_index"), by_dose[k], {"units": units[name]}) for k, name in enumerate(columns)
            },
        },
        coords={"compound": np.array(names, dtype=object)},
        attrs={"cells": "covered area x fraction", "timepoint": timepoint},
    )


def _plate_growth(plate: xr.Dataset, timepoint: int) -> pd.DataFrame:
    """Treated wells of one plate with their growth against the plate's vehicle."""
    role, dose, compound = roles(plate), plate.dose.values.astype(float), plate.compound.values
    treated = np.flatnonzero((role == "none") & (dose > 0) & (compound != ""))
    frame = pd.DataFrame({"compound": compound[treated].astype(object), "dose": dose[treated]})
    frame["log_dose"] = np.round(np.log10(frame["dose"]), 5)
    numbers = ("gr", "gr_static", "gr_toxic", "division_rate", "death_rate", "viability", "doublings")
    frame[list(numbers)] = np.nan
    if "confluency" not in plate:
        return frame.assign(reason="confluency was not measured")
    hours = plate.hours.values.astype(float)
    area = plate.confluency.transpose("well", "timepoint").values.astype(float)
    dead_share = plate.death.transpose("well", "timepoint").values.astype(float)
    span = hours[timepoint] - hours[0] if hours.size else 0.0
    vehicle = np.flatnonzero(role == "negative")
    reason = _reason(area, dead_share, vehicle, span)
    if reason:
        return frame.assign(reason=reason)
    live, dead = area * (1 - dead_share), area * dead_share
    start, start_dead, end, end_dead = live[:, 0], dead[:, 0], live[:, timepoint], dead[:, timepoint]
    middle = [float(np.nanmedian(part[vehicle])) for part in (end, start, end_dead, start_dead)]
    doublings = np.log2(middle[0] / middle[1])
    if not doublings >= FEWEST_DOUBLINGS:
        return frame.assign(
            reason=f"vehicle grew by {doublings:.2f} doublings; at least {FEWEST_DOUBLINGS} are needed to see arrest",
            doublings=doublings,
        )
    division, death = division_and_death(end, start, end_dead, start_dead, span)
    end0, start0, dead0, dead_start0 = (np.array([part]) for part in middle)
    base = division_and_death(end0, start0, dead0, dead_start0, span)
    static, toxic = static_and_toxic(division, death, *base, hours=24.0)
    gr = growth_rate_inhibition(end, start, np.array(middle[0]), np.array(middle[1]))
    viability = (1 - dead_share[:, timepoint]) / (1 - float(np.nanmedian(dead_share[vehicle, timepoint])))
    for name, values in zip(numbers, (gr, static, toxic, division, death, viability), strict=False):
        frame[name] = values[treated]
    return frame.assign(doublings=doublings, reason="")


def _reason(area: Array, dead: Array, vehicle: Array, span: float) -> str:
    """Why area cannot stand for cells on this plate; "" where it can."""
    if not span > 0:
        return "one frame only: nothing can grow"
    if not vehicle.size:
        return "no vehicle wells to grow undisturbed"
    both = (
        np.isfinite(area[vehicle][:, [0, -1]])
        & np.isfinite(dead[vehicle][:, [0, -1]])
        & (area[vehicle][:, [0, -1]] > 0)
    )
    if not both.all(axis=1).any():
        return "confluency was not measured in vehicle wells"
    if np.nanmedian(np.where(np.isfinite(area[vehicle]), area[vehicle], np.nan)[:, -1:]) > CROWDED:
        return f"vehicle wells are more than {CROWDED:.0%} covered: area no longer counts cells"
    if np.nanmedian(dead[vehicle][:, -1:]) >= 0.9:
        return "vehicle wells are dead"
    return ""
