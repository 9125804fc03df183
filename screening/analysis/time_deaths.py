"""The plate's group `kinetics`: half-times, onset, rate and plateau of every compound and dose, EC50 over time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from plates.states import DEAD

from . import wells
from .death_timing import DeathTimes, time_groups
from .kinetics import groups_of_wells, half_times, on_one_clock
from .normalization import normalize
from .potency_over_time import ec50_over_time

NUMBERS = {
    **{f"onset{end}": "h" for end in ("", "_low", "_high", "_fit")},
    **{f"rate{end}": "1/h" for end in ("", "_low", "_high", "_fit")},
    **{f"slope{end}": "1/h" for end in ("", "_low", "_high")},
    **{f"t50{end}": "h" for end in ("", "_low", "_high")},
    **{f"{name}{end}": "1" for name in ("plateau", "baseline", "final") for end in ("", "_low", "_high")},
    **{"plateau_fit": "1", "auc": "h", "p_value": "1", "fit_p": "1"},
}
RENAMED = {"plateau": "plateau_level", "status": "course_status"}  # `plateau`, `status` belong to the half-times
MEANING = {
    "onset": "lag before death begins, by the lag-exponential model; NaN where only an interval is known",
    "rate": "rate of approach to the plateau; NaN where the plateau was not reached",
    "plateau_level": "excess death that is approached; NaN where it was not reached",
    "slope": "initial slope of excess death after the onset, (plateau - baseline) x rate",
    "t50": "time until half of all cells have died beyond vehicle; NaN where not reached",
    "final": "excess death at the last frame, by the model",
    "pathway_share": "share of the pathway in the rise of all excess deaths",
    "pathway_hazard": "share x slope: hazard of the pathway after the onset",
    "pathway_onset_fit": "onset of the pathway timed alone",
    "pathway_timing_p": "p value that the pathway's own onset and rate are those of all deaths",
    "ec50_by_time": "EC50 of excess death at each frame",
}


def time_deaths(
    plates: Sequence[xr.Dataset],
    *,
    minimum_effect: float = 0.1,
    level: float = 0.95,
    alpha: float = 0.01,
    draws: int = 400,
    seed: int = 0,
) -> xr.Dataset:
    """Time every compound at every dose; the top dose stands for the compound.

    Parameters
    ----------
    plates
        `normalized` or `fractions` of each plate.
    minimum_effect
        Excess death that there must be something to time.
    level, draws, seed
        Of intervals and of what is simulated.
    alpha
        Size of the test against a flat course.

    Returns
    -------
    Dataset
        Group `kinetics`: all that `half_times` gives, and from `fit_lag_exponential` its columns over (compound), at
        the top dose, and with `_by_dose` over (compound, dose_index); its `plateau` and `status` are called
        `plateau_level` and `course_status` here. Over (compound, dose_index, pathway): `pathway_share`, `_low`,
        `_high`, `pathway_incidence`, `pathway_hazard`, `pathway_onset_fit`, `_low`, `_high`, `pathway_onset_status`,
        `pathway_timing_p`. Over (compound, frame): `ec50_by_time` with `_low`, `_high`, `ec50_by_time_status`; `hours`
        (frame). Where plates lie on other clocks, courses are interpolated to the frames of the plate with the fewest.
    """
    result = half_times(plates, minimum_effect=minimum_effect, level=level, draws=draws, seed=seed)
    pooled = wells.pool_wells(plates)
    names = [str(name) for name in result.compound.values]
    hours, death = on_one_clock(pooled)
    by_pathway = np.stack([on_one_clock(pooled, readout=pathway)[1] for pathway in DEAD], axis=1)
    kept = _sparsest(pooled, hours)
    hours, death, by_pathway = hours[kept], death[:, kept], by_pathway[..., kept]
    groups = groups_of_wells(pooled, names, complete=np.isfinite(death).all(axis=1))
    keys = sorted(groups, key=lambda key: (names.index(key[0]), key[1]))
    widest = max((len(groups[key]) for key in keys), default=1)
    courses = np.full((len(keys), widest, hours.size), np.nan)
    pathways = np.full((len(keys), widest, len(DEAD), hours.size), np.nan)
    for row, key in enumerate(keys):
        members = groups[key]
        courses[row, : len(members)], pathways[row, : len(members)] = death[members], by_pathway[members]
    times = time_groups(
        hours,
        courses,
        pathways=pathways,
        baseline=_vehicle_death(plates, hours),
        vehicle_wells=int(pooled.vehicle.values.sum()),
        level=level,
        alpha=alpha,
        minimum_effect=minimum_effect,
        seed=seed,
    )
    place = _places(keys, names)
    _add_courses(result, times.total, place)
    _add_pathways(result, times, place)
    tables = ec50_over_time(
        pooled.dose.values,
        pooled.compound.values,
        pooled.vehicle.values,
        death,
        level=level,
        minimum_effect=minimum_effect,
        seed=seed,
    )
    _add_potency(result, tables, names, hours)
    for name, meaning in MEANING.items():
        result[name].attrs["long_name"] = meaning
    noise = times.noise
    words = "frames taken as independent: too few replicate wells" if noise is None else "between replicate wells"
    terms = {} if noise is None else {"cohort": noise.cohort, "pace": noise.pace, "frame": noise.frame}
    return result.assign_attrs(
        course_noise=words, alpha=alpha, **{f"noise_{key}": value for key, value in terms.items()}
    )


def _sparsest(pooled: xr.Dataset, hours: np.ndarray) -> np.ndarray:
    """Which of the common hours are frames of the plate that has fewest: interpolated frames hold no news."""
    own = pooled.hours.transpose("index", "timepoint").values
    number = np.isfinite(own).sum(axis=1)
    if not (number > 0).any():
        return np.ones(hours.size, dtype=bool)
    fewest = own[np.where(number > 0, number, own.shape[1] + 1).argmin()]
    return np.isin(np.round(hours, 6), np.round(fewest, 6))


def _vehicle_death(plates: Sequence[xr.Dataset], hours: np.ndarray) -> np.ndarray:
    """Mean over plates of the vehicle's death, at the common hours; 0 where it is not known."""
    parts = []
    for plate in plates:
        data = plate if "vehicle_death" in plate else normalize(plate)
        own, death = data.hours.values.astype(float), data.vehicle_death.values.astype(float)
        known = np.isfinite(own) & np.isfinite(death)
        if known.any() and hours.size:
            parts.append(np.interp(hours, own[known], death[known]))
    return np.clip(np.mean(parts, axis=0), 0.0, 0.9) if parts else np.zeros(hours.size)


def _places(keys: list[tuple[str, float]], names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Row of the compound and index of the dose of each group."""
    row = np.array([names.index(name) for name, _ in keys], dtype=int)
    index = np.array([sum(other == key[0] for other, _ in keys[:n]) for n, key in enumerate(keys)], dtype=int)
    return row, index


def _add_courses(result: xr.Dataset, table: pd.DataFrame, place: tuple[np.ndarray, np.ndarray]) -> None:
    shape = (result.sizes["compound"], result.sizes.get("dose_index", 0))
    last = np.zeros(shape[0], dtype=int)
    np.maximum.at(last, place[0], place[1])
    for column in (*NUMBERS, "status", "onset_status", "t50_status"):
        name = column.replace("plateau", "plateau_level") if column.startswith("plateau") else column
        name = RENAMED.get(column, name)
        text = column not in NUMBERS
        values = np.full(shape, "" if text else np.nan, dtype=object if text else float)
        values[place] = table[column].to_numpy()
        attrs = {} if text else {"units": NUMBERS[column]}
        top = values[np.arange(shape[0]), last] if shape[1] else np.full(shape[0], "" if text else np.nan)
        result[name] = ("compound", top, attrs)
        result[f"{name}_by_dose"] = (("compound", "dose_index"), values, attrs)


def _add_pathways(result: xr.Dataset, times: DeathTimes, place: tuple[np.ndarray, np.ndarray]) -> None:
    shape = (result.sizes["compound"], result.sizes.get("dose_index", 0), len(DEAD))
    slope = times.total["slope"].to_numpy()[:, None]
    numbers = {
        "pathway_incidence": (times.incidence, "1"),
        "pathway_share": (times.share, "1"),
        "pathway_share_low": (times.share_low, "1"),
        "pathway_share_high": (times.share_high, "1"),
        "pathway_hazard": (times.share * slope, "1/h"),
        "pathway_timing_p": (times.timing_p, "1"),
        **{
            f"pathway_{name}": (np.column_stack([own[name].to_numpy() for own in times.own]), "h")
            for name in ("onset_fit", "onset_low", "onset_high")
        },
        "pathway_onset_status": (np.column_stack([own["onset_status"].to_numpy() for own in times.own]), ""),
    }
    result.coords["pathway"] = list(DEAD)
    for name, (found, units) in numbers.items():
        values = np.full(shape, np.nan if units else "", dtype=float if units else object)
        values[place] = found
        result[name] = (("compound", "dose_index", "pathway"), values, {"units": units} if units else {})


def _add_potency(result: xr.Dataset, tables: dict[str, pd.DataFrame], names: list[str], hours: np.ndarray) -> None:
    result["hours"] = ("frame", hours, {"units": "h"})
    for column, name in (
        ("ec50", "ec50_by_time"),
        ("ec50_low", "ec50_by_time_low"),
        ("ec50_high", "ec50_by_time_high"),
        ("emax", "emax_by_time"),
        ("status", "ec50_by_time_status"),
    ):
        rows = [tables[key][column].to_numpy() for key in names]
        text = column == "status"
        empty = np.empty((0, hours.size), dtype=object if text else float)
        attrs = {} if text else {"units": "1" if column == "emax" else "uM"}
        result[name] = (("compound", "frame"), np.stack(rows) if rows else empty, attrs)
