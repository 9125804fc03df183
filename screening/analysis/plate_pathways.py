"""The plate's group `pathways`: by which pathway every compound kills, where it switches, and who kills alike."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import xarray as xr

from plates.layout.roles import roles, vehicle_controls, vehicles
from plates.states import DEAD

from .pathway_comparison import compare_pathways
from .pathways import RULE, PathwayFits, arrange, fit_pathways

CELLS = 100.0  # of a well whose patches were not counted: only relative numbers matter, phi takes up the rest
FAR = 5.0  # robust standard deviations from the other controls at which a control well is none
MOST_PAIRS = 3000  # compared with each other: about five seconds
UNITS = {"ec50": "uM", "active_from": "uM", "switch_dose": "uM", "switch_low": "uM", "switch_high": "uM"}


def fit_plate_pathways(
    plates: Sequence[xr.Dataset],
    *,
    timepoint: int = -1,
    level: float = 0.95,
    alpha: float = 0.01,
    minimum_effect: float = 0.1,
    seed: int = 0,
) -> xr.Dataset:
    """Fit total death and its split among pathways for every compound, over all plates.

    Parameters
    ----------
    plates
        `fractions` of each plate (or `normalized`, without numbers of patches: wells then weigh the same).
    timepoint
        Position of the frame that is read.
    level, alpha, minimum_effect, seed
        As in `fit_pathways`.

    Returns
    -------
    Dataset
        Group `pathways`. (compound): the table of `fit_pathways`; (compound, pathway): `share` over the active doses,
        `share_at_lowest` active dose and `share_at_top` dose, each with `_low`, `_high`; (compound, curve_point):
        `curve_dose` (uM); (compound, curve_point, pathway): `curve` of excess death with `curve_low`, `curve_high`;
        (compound, other): `different_p`, of the hypothesis that both split their deaths alike at the same effect; NaN
        where one has none. `attrs`: the rule, the dispersion, and why nothing was compared.
    """
    table = pd.concat([_wells(plate, timepoint) for plate in plates], ignore_index=True) if plates else _wells_none()
    lines = set(table["cell_line"]) - {""}
    if len(lines) > 1:
        named = table["compound"] + np.where(table["cell_line"] != "", " [" + table["cell_line"] + "]", "")
        table["compound"] = named
    names = list(dict.fromkeys(table["compound"]))
    members = [table[table["compound"] == name] for name in names]
    widest = max((len(part) for part in members), default=1)
    dose = np.full((len(names), widest), np.nan)
    counts, background = np.full((len(names), widest, 4), np.nan), np.full((len(names), widest, 3), np.nan)
    for row, part in enumerate(members):
        dose[row, : len(part)] = part["dose"]
        fractions = part[list(DEAD)].to_numpy(dtype=float)
        alive = np.clip(1 - fractions.sum(axis=1, keepdims=True), 0.0, 1.0)
        counts[row, : len(part)] = np.hstack([fractions, alive]) * part[["cells"]].to_numpy(dtype=float)
        background[row, : len(part)] = part[[f"vehicle {name}" for name in DEAD]]
    fits = fit_pathways(
        dose, counts, background=background, level=level, alpha=alpha, minimum_effect=minimum_effect, seed=seed
    )
    different, note = _compare(fits, dose, counts, background)
    return _dataset(names, fits, different).assign_attrs(
        level=level,
        alpha=alpha,
        minimum_effect=minimum_effect,
        rule=RULE.format(alpha=alpha, minimum_effect=minimum_effect),
        dispersion=fits.dispersion,
        dispersion_freedom=fits.freedom,
        comparison=note,
    )


def _wells(plate: xr.Dataset, timepoint: int) -> pd.DataFrame:
    """Treated wells of a plate at one frame, with the fractions of their own vehicle."""
    role, dose, compound = roles(plate), plate.dose.values.astype(float), plate.compound.values
    fraction = plate.fraction.transpose("well", "timepoint", "state").sel(state=list(DEAD)).values[:, timepoint]
    behind = np.full_like(fraction, np.nan, dtype=float)
    vehicle = vehicles(plate)
    for name, controls in vehicle_controls(plate).items():
        held = fraction[controls]
        held = held[np.isfinite(held).all(axis=1)]
        if len(held):
            behind[vehicle == name] = _centre(held)
    cells = np.full(len(dose), CELLS)
    if "patches" in plate:
        cells = plate.patches.transpose("well", "timepoint").values[:, timepoint].astype(float)
    kept = np.flatnonzero(
        (role == "none") & (dose > 0) & (compound != "") & np.isfinite(fraction).all(axis=1) & (cells > 0)
    )
    frame = pd.DataFrame({"compound": compound[kept].astype(object), "dose": dose[kept], "cells": cells[kept]})
    frame["cell_line"] = plate.cell_line.values[kept].astype(object) if "cell_line" in plate.coords else ""
    for number, name in enumerate(DEAD):
        frame[name], frame[f"vehicle {name}"] = fraction[kept, number], behind[kept, number]
    return frame


def _centre(held: np.ndarray) -> np.ndarray:
    """Mean of control wells without those that died far more or less than the others, such as a mislabelled one.

    The median of small fractions lies below their mean, and what is missing would look like deaths by the compound.
    """
    death = held.sum(axis=1)
    off = np.abs(death - np.median(death))
    spread = max(1.4826 * float(np.median(off)), 0.005)
    mean: np.ndarray = held[off <= FAR * spread].mean(axis=0)
    return mean


def _wells_none() -> pd.DataFrame:
    columns = ["compound", "dose", "cells", "cell_line", *DEAD, *(f"vehicle {name}" for name in DEAD)]
    return pd.DataFrame({name: [] for name in columns})


def _compare(fits: PathwayFits, dose: np.ndarray, counts: np.ndarray, background: np.ndarray) -> tuple[np.ndarray, str]:
    """Test p values of all pairs of compounds that kill."""
    result = np.full((len(dose), len(dose)), np.nan)
    killing = np.flatnonzero(fits.table["status"].isin(["constant", "switch", "shift"]))
    pairs = np.array(list(combinations(killing, 2)), dtype=int).reshape(-1, 2)
    if not len(pairs):
        return result, "fewer than two compounds kill"
    if len(pairs) > MOST_PAIRS:
        return result, f"left out: {len(pairs)} pairs of compounds, at most {MOST_PAIRS} are compared"
    wells = arrange(dose, counts, background, dispersion=fits.dispersion)
    found = compare_pathways(wells, pairs, freedom=fits.freedom)
    result[pairs[:, 0], pairs[:, 1]] = result[pairs[:, 1], pairs[:, 0]] = found.p_value
    return result, "F test of one split for both, at equal shares of each compound's own effect"


def _dataset(names: list[str], fits: PathwayFits, different: np.ndarray) -> xr.Dataset:
    data: dict[str, tuple[object, ...]] = {}
    for name in fits.table:
        values = fits.table[name].to_numpy()
        if values.dtype.kind not in "fib":
            values = values.astype(object)
        data[str(name)] = ("compound", values, {"units": UNITS[str(name)]} if name in UNITS else {})
    for name, shares in fits.shares.items():
        data[name] = (("compound", "pathway"), shares, {"units": "1"})
    data["curve_dose"] = (("compound", "curve_point"), fits.dose, {"units": "uM"})
    for name, values in (("curve", fits.curve), ("curve_low", fits.low), ("curve_high", fits.high)):
        data[name] = (("compound", "curve_point", "pathway"), values, {"units": "1", "long_name": "excess death"})
    data["different_p"] = (("compound", "other"), different, {"units": "1"})
    label = np.array(names, dtype=object)
    return xr.Dataset(data, coords={"compound": label, "pathway": list(DEAD), "other": label})
