"""Can this plate be trusted: how well its controls separate, what is wrong with which well, and a verdict."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from plates.layout.roles import MASKED, main_vehicle, roles, vehicles
from plates.layout.wells import FORMATS
from plates.states import DEAD, STATES

from .control_statistics import center_and_spread
from .control_statistics import signal_to_background as signal_to_background
from .control_statistics import ssmd as ssmd
from .control_statistics import z_prime as z_prime
from .field_quality import FieldRule, assess_fields
from .layout_fit import fit_layout, strange_controls
from .place_and_order import effects_of_order, effects_of_place
from .plate_controls import READOUTS, plate_controls
from .spatial import at_rim
from .verdict import Findings, judge
from .verdict import Rule as Rule

FLAGS = ("missing", "no_foreground", "few_patches", "out_of_focus")


def assess(
    fractions: xr.Dataset,
    fields: xr.Dataset | None = None,
    *,
    probabilities: xr.Dataset | None = None,
    rule: Rule | None = None,
    timepoint: int = -1,
    draws: int = 500,
    seed: int = 0,
) -> xr.Dataset:
    """Judge a plate: the group `quality` of `assess_plate`, whose other groups say more."""
    return assess_plate(
        fractions, fields, probabilities=probabilities, rule=rule, timepoint=timepoint, draws=draws, seed=seed
    )["quality"]


def assess_plate(
    fractions: xr.Dataset,
    fields: xr.Dataset | None = None,
    *,
    probabilities: xr.Dataset | None = None,
    rule: Rule | None = None,
    field_rule: FieldRule | None = None,
    timepoint: int = -1,
    draws: int = 500,
    permutations: int = 999,
    seed: int = 0,
) -> dict[str, xr.Dataset]:
    """Judge a plate by its control wells, by place and order, and by what is missing or out of line.

    Vehicle wells are compared with positive controls: for death and for the live states with all of them,
    for a pathway with those whose inducer is that pathway, because a necrosis inducer is no positive
    control of apoptosis. Classical statistics are printed beside robust ones (median, 1.4826 MAD): a large
    gap between them is a sign of contaminated control wells. Positive minus negative is the sign of SSMD,
    so it is positive where a readout rises. Of several vehicles the one with the most control wells counts for
    the verdict; masked wells take no part, and no flag of theirs does.

    Parameters
    ----------
    fractions
        Group `fractions` of one plate.
    fields
        Group `fields`, for focus, missing fields and the order of imaging.
    probabilities
        Group `probabilities`, for patches unlike the classifier's training.
    rule, field_rule
        Of the verdict, and of the fields' flags; without them `Rule()` and `FieldRule()`.
    timepoint
        Position of the timepoint at which the verdict is read.
    draws, permutations, seed
        Bootstrap of control wells within their kind, for the percentile intervals; permutations of wells, for
        the p values of place and order.

    Returns
    -------
    dict
        `quality`: (readout, timepoint) the statistics of `control_statistics` with `_low`, `_high` (95 %),
        `cv_negative`, `cv_positive` (percent), `n_negative`, `n_positive`, `reason` (why something is NaN;
        never infinite). (well, timepoint): one bool per flag of `FLAGS`; (well): `flags`, those at the
        reading timepoint in words, `strange_control`. attrs: verdict, reasons (JSON list), rule (in words), limits
        (JSON: the rule's fields), `edge_t` and its numbers of wells (NaN where not computable).
        `vehicle_quality`: the same statistics (vehicle, readout, timepoint), and `matched`: whether the positive
        controls are in that vehicle too; else all positive controls stand in for them.
        `spatial`: (readout, timepoint) results of `spatial_tests` on vehicle wells; (readout), with the prefix
        `replicate_`, on the deviations of all wells from their replicates, at the reading timepoint.
        `drift`: (quantity, timepoint) results of `drift_over_order` on vehicle wells.
        `layout_check`: (way) as by `fit_layout`, at the reading timepoint.
        `field_quality`: as by `assess_fields`; only with `fields`.
    """
    rule, field_rule = rule or Rule(), field_rule or FieldRule()
    values = _readouts(fractions)
    reading = fractions.isel(timepoint=timepoint)
    plate = _plate(fractions)
    controls, by_vehicle = plate_controls(fractions, values, draws=draws, seed=seed)
    spatial = effects_of_place(fractions, values, plate, timepoint, permutations=permutations, seed=seed)
    drift = effects_of_order(fractions, fields, permutations=permutations, seed=seed)
    layout = _layout(values[:, timepoint], plate)
    role = roles(fractions)
    used = role != MASKED
    strange = strange_controls(values[:, timepoint, 0], role)
    judged = _judged_fields(fractions, fields, probabilities, field_rule)
    flags = _flags(fractions, fields, rule)
    at_reading = {name: flags[name].isel(timepoint=timepoint).values for name in FLAGS}
    found = Findings(
        death=controls.sel(readout="death").isel(timepoint=timepoint),
        flags={name: wells[used] for name, wells in at_reading.items()},
        spatial=_of_death(spatial, timepoint),
        drift=_of_death(drift, timepoint) if "p" in drift else None,
        layout=layout,
        strange=[str(well) for well in fractions.well.values[strange]],
        controls=int(np.isin(role, ("negative", "positive")).sum()),
        proposed=_proposed(judged),
        unlike=_unlike(probabilities),
    )
    verdict, reasons = judge(found, rule)
    words = [", ".join(name for name in FLAGS if at_reading[name][i]) for i in range(used.size)]
    for i in np.flatnonzero(~used):
        words[i] = f"masked: {fractions.masked.values[i]}"
    vehicle = main_vehicle(fractions) & np.isfinite(values[:, timepoint, 0])
    rim = at_rim(plate["row"].to_numpy(), plate["column"].to_numpy())
    quality = (
        xr.merge([controls, flags])
        .assign(flags=("well", np.array(words, dtype=object)), strange_control=("well", strange))
        .assign_attrs(
            verdict=verdict,
            reasons=json.dumps(reasons),
            rule=str(rule),
            limits=json.dumps(asdict(rule)),
            z_prime_limit=rule.pass_z_prime,
            timepoint=int(reading.timepoint),
            edge_t=float(found.spatial["edge_t"]),
            edge_wells=int((vehicle & rim).sum()),
            inner_wells=int((vehicle & ~rim).sum()),
            sign="positive minus negative control",
        )
    )
    ways = xr.Dataset(
        {name: ("way", layout[name].to_numpy()) for name in layout.columns if name != "way"},
        coords={"way": layout["way"].to_numpy(dtype=object)},
        attrs={"timepoint": int(reading.timepoint)},
    )
    groups = {
        "quality": quality,
        "vehicle_quality": by_vehicle,
        "spatial": spatial,
        "drift": drift,
        "layout_check": ways,
    }
    return groups if judged is None else {**groups, "field_quality": judged}


def _readouts(fractions: xr.Dataset) -> np.ndarray:
    """(well, timepoint, readout) of `READOUTS`; what is not finite is NaN."""
    states = fractions.fraction.transpose("well", "timepoint", "state").sel(state=list(STATES)).values
    death = fractions.death.transpose("well", "timepoint").values
    values = np.concatenate([death[..., None], states], axis=-1).astype(float)
    return np.where(np.isfinite(values), values, np.nan)


def _plate(fractions: xr.Dataset) -> pd.DataFrame:
    """What each well holds and where it lies, one row a well."""
    size = fractions.sizes["well"]
    texts = {
        name: fractions[name].values if name in fractions.coords else np.full(size, "")
        for name in ("compound", "inducer", "cell_line")
    }
    places = {name: fractions[name].values.astype(int) for name in ("row", "column")}
    dose = fractions.dose.values.astype(float)
    second = {name: fractions[name].values for name in ("compound_2", "dose_2") if name in fractions.coords}
    held = {**texts, "dose": dose, **second}
    return pd.DataFrame({**places, **held, "role": roles(fractions), "vehicle": vehicles(fractions)})


def _layout(values: np.ndarray, plate: pd.DataFrame) -> pd.DataFrame:
    """Ways of lying, of (well, readout) values; death and its pathways tell, the live states only repeat them."""
    used = (plate["role"] != MASKED).to_numpy()
    last = tuple(int(plate[name].max()) if len(plate) else 0 for name in ("row", "column"))
    shape = next((one for one in FORMATS.values() if one[0] > last[0] and one[1] > last[1]), (last[0] + 1, last[1] + 1))
    told = values[used][:, [READOUTS.index(name) for name in ("death", *DEAD)]]
    return fit_layout(told, plate[used].reset_index(drop=True), shape=shape)


def _judged_fields(
    fractions: xr.Dataset, fields: xr.Dataset | None, probabilities: xr.Dataset | None, rule: FieldRule
) -> xr.Dataset | None:
    if fields is None:
        return None
    if "masked" in fractions.coords:
        masked = fractions.masked.reindex(well=fields.well, fill_value="")
        fields = fields.assign_coords(masked=("well", masked.values))
    return assess_fields(fields, probabilities, rule=rule)


def _proposed(judged: xr.Dataset | None) -> float:
    """Share of the converted fields and timepoints that are proposed to be left out; NaN where nobody knows."""
    if judged is None:
        return float("nan")
    there = ~judged.missing.values
    return float(judged.proposed.values[there].mean()) if there.any() else float("nan")


def _unlike(probabilities: xr.Dataset | None) -> str:
    """What the classifier says of a plate unlike its training; "" of any other."""
    if probabilities is None or not probabilities.attrs.get("outlier_flagged", 0):
        return ""
    return str(probabilities.attrs.get("outlier_text", "")) or "it says so without numbers."


def _of_death(dataset: xr.Dataset, timepoint: int) -> dict[str, Any]:
    """Results for death at one timepoint as plain values."""
    one = dataset.sel({"readout" if "readout" in dataset.dims else "quantity": "death"}).isel(timepoint=timepoint)
    return {str(name): one[name].item() for name in one.data_vars}


def _flags(fractions: xr.Dataset, fields: xr.Dataset | None, rule: Rule) -> xr.Dataset:
    """One bool per well and timepoint for each of `FLAGS`."""
    patches = fractions.patches.transpose("well", "timepoint")
    missing = out_of_focus = xr.zeros_like(patches, dtype=bool)
    used = (roles(fractions) != MASKED)[:, None]
    if fields is not None:
        known = fields.reindex(well=fractions.well, timepoint=fractions.timepoint)
        missing = ~(known.status == 1).any("field").transpose("well", "timepoint")
        focus = known.focus.where(known.status == 1).median("field").transpose("well", "timepoint").values
        out_of_focus = missing.copy(data=_low_outlier(np.where(used, focus, np.nan), rule.focus))
    return xr.Dataset(
        {
            "missing": missing,
            "no_foreground": (patches == 0) & ~missing,
            "few_patches": (patches > 0) & (patches < rule.fewest_patches),
            "out_of_focus": out_of_focus & ~missing,
        }
    ).reset_coords(drop=True)


def _low_outlier(focus: np.ndarray, limit: float) -> np.ndarray:
    """Wells whose focus lies far below the plate's at the same timepoint."""
    center, spread = center_and_spread(focus)
    return np.asarray(np.nan_to_num(focus - center) < -limit * np.where(spread > 1e-12, spread, np.inf))
