"""How much compound it takes: EC50 with an honest interval, or a bound, or "no effect"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import xarray as xr

from . import wells
from .curve_status import RULE, judge
from .curves import fit_curves, fit_table
from .design_fit import CURVE_POINTS, Fits, collapse, fit_design, stack
from .log_logistic import ZERO_DOSE, Design, Limits
from .plate_effect import plate_effect

__all__ = ["fit_curves", "fit_dose_response", "fit_table"]

NUMBERS = (
    *("ec50", "ec50_low", "ec50_high", "ec50_bound", "ec50_fit", "profile_low", "profile_high"),
    *("ec50_absolute", "ec50_absolute_low", "ec50_absolute_high", "ec50_loss", "peak_dose"),
    *("bottom", "top", "hill", "emax", "emax_low", "emax_high", "auc", "aac"),
    *("p_value", "p_adjusted", "lack_of_fit", "non_monotone", "shape_p", "rss", "n", "doses"),
)
TEXTS = ("status", "reasons", "grade", "note", "shape")


def fit_dose_response(
    plates: Sequence[xr.Dataset],
    *,
    timepoint: int = -1,
    level: float = 0.95,
    alpha: float = 0.01,
    minimum_effect: float = 0.05,
    hill: tuple[float, float] = (0.1, 20.0),
    seed: int = 0,
) -> xr.Dataset:
    """Fit death and each death pathway against dose, for every compound over all plates together.

    The response is the excess over each plate's own vehicle (`normalization.normalize`). Vehicle wells
    enter as dose 0: one mean with the weight of its wells but not their spread, because fractions near 0
    scatter less than those near a half and would make the curve look better known than it is; for the same
    reason the EC50's interval is widened by the variance of the wells on the slope over that of the average
    well. Every treated well is a point; wells of one compound that share a plate share its mistakes, so
    where plates disagree more than their wells do the variance is multiplied by the pooled ratio of the two
    (`design_effect`). Wells of a single plate are technical replicates: their interval does not hold the
    spread from plate to plate.

    Parameters
    ----------
    plates
        `normalized` or `fractions` of each plate.
    timepoint
        Position of the timepoint that is read.
    level
        Of all intervals.
    alpha
        False discovery rate up to which a compound has an effect, over all compounds and readouts.
    minimum_effect
        Smallest excess over vehicle at the top dose that is called an effect.
    hill
        Limits of the slope, on which intervals of steep curves depend.
    seed
        Of the simulated null.

    Returns
    -------
    Dataset
        Group `dose_response`. `ec50` is NaN where there is none, inf above the tested doses and 0 below
        them; `ec50_low`, `ec50_high` are 0 and inf where unbounded; `ec50_bound` is the upper end of the 68
        % interval; `ec50_fit` is the drawn curve's parameter, also where it is an extrapolation. `bottom`
        is the fitted response at dose 0, `top` the one at infinite dose, `emax` the one at the top tested
        dose. (compound, dose_index, replicate): `dose` (uM, NaN where there is no well), `plate`, `well`;
        `response` has a readout besides.
    """
    pooled = wells.pool_wells(plates)
    frame = wells.table(pooled, timepoint=timepoint)
    names = wells.compounds(pooled)
    treated = frame[~frame["vehicle"]]
    effects = {
        readout: plate_effect(treated, curve="compound", dose="log_dose", plate="plate", response=readout)
        for readout in wells.READOUTS
    }
    limits = Limits((pooled.attrs["floor"], 1.0), (pooled.attrs["floor"], 1.0), hill)
    fits = _fit_compounds(frame, names, effects, limits=limits, level=level, seed=seed)
    if fits is not None:
        table = judge(fits.table, alpha=alpha, minimum_effect=minimum_effect, direction=1, hill=hill)
        fits = replace(fits, table=table)
        flat = (table["status"] == "no_effect").to_numpy()
        for drawn in (fits.curve, fits.low, fits.high):
            drawn[flat] = np.nan
    reading = pooled.response.isel(timepoint=timepoint)
    return _dataset(fits, frame, names).assign_attrs(
        timepoint=int(plates[0].timepoint.values[timepoint]),
        hours=float(np.nanmean(pooled.hours.isel(timepoint=timepoint))) if reading.size else float("nan"),
        rule=RULE.format(alpha=alpha, minimum_effect=minimum_effect, hill=list(hill)),
        response="excess over vehicle, (x - vehicle) / (1 - vehicle death)",
        level=level,
        dose_unit="uM",
        design_effect=[effects[readout] for readout in wells.READOUTS],
        plates=len(plates),
    )


def _fit_compounds(
    frame: pd.DataFrame,
    names: list[str],
    effects: dict[str, float],
    *,
    limits: Limits,
    level: float,
    seed: int,
) -> Fits | None:
    """All compounds, those of one design in one batch; the table is indexed by compound and readout."""
    treated = frame[~frame["vehicle"]]
    vehicle = frame[frame["vehicle"]]
    noise = np.array([wells.vehicle_spread(frame, readout) for readout in wells.READOUTS])
    centre = vehicle[list(wells.READOUTS)].median().to_numpy() if len(vehicle) else None
    designs: dict[tuple[float, ...], list[str]] = {}
    for name in names:
        doses = tuple(sorted(treated.loc[treated["compound"] == name, "log_dose"]))
        designs.setdefault(doses, []).append(name)
    fits = []
    for doses, group in designs.items():
        rows = [treated[treated["compound"] == name].sort_values(["log_dose", "plate", "well"]) for name in group]
        responses = np.concatenate([part[list(wells.READOUTS)].to_numpy().T for part in rows])
        repeat = len(group)
        design, means, spread = collapse(np.array(doses), responses)
        if centre is not None:
            # a median is as good as the mean of 2 / pi as many wells
            weight = np.r_[len(vehicle) * 2 / np.pi, design.weight]
            design = Design(np.r_[ZERO_DOSE, design.log_dose], weight, design.within)
            means = np.column_stack([np.tile(centre, repeat), means])
        fitted = fit_design(
            design,
            means,
            spread,
            limits=limits,
            level=level,
            seed=seed,
            design_effect=np.tile([effects[readout] for readout in wells.READOUTS], repeat),
            noise=np.tile(noise, repeat),
            fractions=True,
            wells=len(doses),
        )
        index = pd.MultiIndex.from_product([group, wells.READOUTS], names=["compound", "readout"])
        fits.append(replace(fitted, table=fitted.table.set_index(index)))
    return stack(fits) if fits else None


def _dataset(fits: Fits | None, frame: pd.DataFrame, names: list[str]) -> xr.Dataset:
    """Tables, points and drawn curves as one Dataset, compounds in the given order."""
    index = pd.MultiIndex.from_product([names, wells.READOUTS], names=["compound", "readout"])
    shape = (len(names), len(wells.READOUTS))
    table = fits.table if fits else pd.DataFrame(index=index, columns=[*NUMBERS, *TEXTS])
    place = index.get_indexer(table.index)
    pairs = ("compound", "readout")
    variables: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    for name in (*NUMBERS, *TEXTS):
        values = np.empty(len(index), dtype=object if name in TEXTS else float)
        values[place] = table[name].to_numpy()
        variables[name] = (pairs, values.reshape(shape))
    for name, field in (
        ("curve_dose", "dose"),
        ("curve", "curve"),
        ("curve_low", "low"),
        ("curve_high", "high"),
    ):
        drawn = np.full((len(index), CURVE_POINTS), np.nan)
        if fits:
            drawn[place] = getattr(fits, field)
        variables[name] = ((*pairs, "curve_point"), drawn.reshape(*shape, CURVE_POINTS))
    variables |= _points(frame, names)
    dataset = xr.Dataset(variables, coords={"compound": np.array(names, dtype=object), "readout": list(wells.READOUTS)})
    potencies = [name for name in NUMBERS if name.startswith(("ec50", "profile")) or name == "peak_dose"]
    for name in (*potencies, "curve_dose", "dose"):
        dataset[name].attrs["units"] = "uM"
    return dataset


def _points(frame: pd.DataFrame, names: list[str]) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Every treated well in its place; replicates are counted over all plates."""
    treated = frame[~frame["vehicle"]].sort_values(["compound", "log_dose", "plate", "replicate", "well"])
    if treated.empty:
        treated = treated.assign(_dose=[], _well=[])
        shape = (len(names), 0, 0)
    else:
        treated = treated.assign(
            _dose=treated.groupby("compound")["log_dose"].rank("dense").astype(int) - 1,
            _well=treated.groupby(["compound", "log_dose"]).cumcount(),
        )
        shape = (len(names), int(treated["_dose"].max()) + 1, int(treated["_well"].max()) + 1)
    at = (
        pd.Index(names).get_indexer(pd.Index(treated["compound"])),
        treated["_dose"].to_numpy(int),
        treated["_well"].to_numpy(int),
    )
    dims = ("compound", "dose_index", "replicate")
    dose = np.full(shape, np.nan)
    dose[at] = treated["dose"]
    response = np.full((*shape, len(wells.READOUTS)), np.nan)
    response[at] = treated[list(wells.READOUTS)]
    plate, well = (np.full(shape, "", dtype=object) for _ in range(2))
    plate[at], well[at] = treated["plate"], treated["well"]
    return {
        "dose": (dims, dose),
        "response": (("compound", "readout", "dose_index", "replicate"), np.moveaxis(response, -1, 1)),
        "plate": (dims, plate),
        "well": (dims, well),
    }
