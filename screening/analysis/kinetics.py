"""How fast a compound kills: hours until half of its final excess death, or a bound."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from . import wells

FEWEST_RESIDUALS = 8  # courses of replicate wells below which an interval would be made of nothing
STILL_RISING = 0.1  # share of the final excess that the last frame interval may add before it is no plateau


def half_times(
    plates: Sequence[xr.Dataset],
    *,
    minimum_effect: float = 0.1,
    level: float = 0.95,
    draws: int = 400,
    seed: int = 0,
) -> xr.Dataset:
    """Time each compound at each of its doses; the top dose stands for the compound.

    The course is the mean over wells of the excess death over vehicle. It crosses half of its last value
    somewhere between two frames, by linear interpolation. The two or three wells of a dose cannot tell
    their own spread, so the interval adds to the course the mean of as many residual courses, drawn from
    all replicate wells of effective doses: whole courses, because a well that is ahead at one frame is
    ahead at the next.

    Parameters
    ----------
    plates
        `normalized` or `fractions` of each plate; they need not share their frame times.
    minimum_effect
        Final excess death below which there is no half to wait for.
    level, draws, seed
        Of the intervals.

    Returns
    -------
    Dataset
        Group `kinetics`. (compound): `t_half` (hours since the first frame) with `t_half_low`,
        `t_half_high`, `dose` (the top one, uM), `final_excess`, `plateau` (False: death is still rising, so
        half of the final value is not half of what was to come), `status`: timed; before_first (reached at
        or before the first frame: `t_half` is NaN, `t_half_high` that frame); no_effect; not_computable
        (one frame, or a gap). The same per dose with `_by_dose`, (compound, dose_index). Intervals are NaN
        where fewer than eight replicate courses exist.
    """
    pooled = wells.pool_wells(plates)
    names = wells.compounds(pooled)
    hours, courses = on_one_clock(pooled)
    groups = groups_of_wells(pooled, names, complete=np.isfinite(courses).all(axis=1))
    means = {key: courses[members].mean(axis=0) for key, members in groups.items()}
    residuals = _residuals(courses, groups, means, minimum_effect)
    rng = np.random.default_rng(seed)
    longest = max((sum(key[0] == name for key in groups) for name in names), default=0)
    columns = ("t_half", "t_half_low", "t_half_high", "dose", "final_excess", "plateau")
    by_dose = np.full((len(names), longest, len(columns)), np.nan)
    status = np.full((len(names), longest), "", dtype=object)
    last = np.zeros(len(names), dtype=int)
    for place, name in enumerate(names):
        for index, key in enumerate(sorted(key for key in groups if key[0] == name)):
            drawn = _drawn(means[key], len(groups[key]), residuals, rng, draws)
            values, status[place, index] = _time(hours, means[key], drawn, minimum_effect, level)
            by_dose[place, index] = [*values[:3], pooled.dose.values[groups[key][0]], *values[3:]]
            last[place] = index
    top = by_dose[np.arange(len(names)), last] if longest else np.full((len(names), len(columns)), np.nan)
    top_status = status[np.arange(len(names)), last] if longest else np.empty(len(names), dtype=object)
    result = xr.Dataset(coords={"compound": np.array(names, dtype=object)})
    for number, column in enumerate(columns):
        result[column] = ("compound", top[:, number])
        result[f"{column}_by_dose"] = (("compound", "dose_index"), by_dose[..., number])
    result["plateau"] = result.plateau == 1
    result["plateau_by_dose"] = result.plateau_by_dose == 1
    result["status"] = ("compound", top_status)
    result["status_by_dose"] = (("compound", "dose_index"), status)
    for variable in result.data_vars.values():
        if str(variable.name).startswith("t_half"):
            variable.attrs["units"] = "h"
        elif str(variable.name).startswith("dose"):
            variable.attrs["units"] = "uM"
    return result.assign_attrs(level=level, minimum_effect=minimum_effect, residual_courses=len(residuals))


def crossings(hours: np.ndarray, courses: np.ndarray) -> np.ndarray:
    """Hours at which each course (course, timepoint) first reaches half of its last value, interpolated.

    -inf where it has at the first timepoint; NaN where the last value is not positive or not known.
    """
    half = courses[:, -1:] / 2
    reached = courses >= half
    k = reached.argmax(axis=1)
    row = np.arange(len(courses))
    before = np.maximum(k - 1, 0)
    rise = courses[row, k] - courses[row, before]
    share = np.divide(half[:, 0] - courses[row, before], rise, out=np.zeros(len(row)), where=rise > 0)
    crossing = hours[before] + share * (hours[k] - hours[before])
    crossing = np.where(k == 0, -np.inf, crossing)
    return np.where(courses[:, -1] > 0, crossing, np.nan)


def on_one_clock(pooled: xr.Dataset, *, readout: str = "death") -> tuple[np.ndarray, np.ndarray]:
    """Hours of all plates, and the excess of a readout (index, hour); NaN outside a plate's own frames."""
    own_hours = pooled.hours.transpose("index", "timepoint").values
    death = pooled.response.sel(readout=readout).transpose("index", "timepoint").values
    # only where every plate was watched
    start, end = (np.nanmin(own_hours, axis=1).max(), np.nanmax(own_hours, axis=1).min()) if death.size else (0, 0)
    hours = np.unique(np.round(own_hours[np.isfinite(own_hours)], 6))
    hours = hours[(hours >= start - 1e-6) & (hours <= end + 1e-6)]
    courses = np.full((len(death), hours.size), np.nan)
    for well in range(len(death)):
        known = np.isfinite(own_hours[well]) & np.isfinite(death[well])
        if known.any():
            courses[well] = np.interp(hours, own_hours[well, known], death[well, known], left=np.nan, right=np.nan)
    return hours, courses


def groups_of_wells(
    pooled: xr.Dataset, names: list[str], *, complete: np.ndarray
) -> dict[tuple[str, float], np.ndarray]:
    """Wells of each (compound, log10 dose) whose course has no gap at either end; all of them if none has."""
    compound, vehicle = pooled.compound.values, pooled.vehicle.values
    log_dose = np.round(np.log10(np.where(vehicle, 1.0, pooled.dose.values)), 5)
    groups = {}
    for name in names:
        mine = (compound == name) & ~vehicle
        for dose in np.unique(log_dose[mine]):
            wells_of_dose = mine & (log_dose == dose)
            kept = wells_of_dose & complete
            groups[name, float(dose)] = np.flatnonzero(kept if kept.any() else wells_of_dose)
    return groups


def _residuals(
    courses: np.ndarray,
    groups: dict[tuple[str, float], np.ndarray],
    means: dict[tuple[str, float], np.ndarray],
    minimum_effect: float,
) -> np.ndarray:
    """Courses of replicate wells around their mean, (residual, hour), widened for that mean's own error."""
    parts = [np.empty((0, courses.shape[1]))]
    for key, members in groups.items():
        if len(members) > 1 and np.isfinite(means[key]).all() and means[key].size and means[key][-1] >= minimum_effect:
            parts.append((courses[members] - means[key]) * np.sqrt(len(members) / (len(members) - 1)))
    return np.concatenate(parts)


def _drawn(
    mean: np.ndarray, number: int, residuals: np.ndarray, rng: np.random.Generator, draws: int
) -> np.ndarray | None:
    if len(residuals) < FEWEST_RESIDUALS:
        return None
    picks = rng.integers(len(residuals), size=(draws, number))
    drawn: np.ndarray = mean + residuals[picks].mean(axis=1)
    return drawn


def _time(
    hours: np.ndarray, mean: np.ndarray, drawn: np.ndarray | None, minimum_effect: float, level: float
) -> tuple[list[float], str]:
    """[t_half, low, high, final excess, plateau] and status of one course."""
    nan = float("nan")
    if mean.size < 2 or not np.isfinite(mean).all():
        return [nan, nan, nan, float(mean[-1]) if mean.size else nan, nan], "not_computable"
    final = float(mean[-1])
    plateau = float(mean[-1] - mean[-2] <= STILL_RISING * final)
    if final < minimum_effect:
        return [nan, nan, nan, final, nan], "no_effect"
    crossing = float(crossings(hours, mean[None])[0])
    low = high = nan
    if drawn is not None:
        times = crossings(hours, drawn)
        times = np.sort(times[~np.isnan(times)])
        if times.size:
            # no interpolation between draws: -inf, before the first frame, is one of the values
            low, high = (float(times[round(q * (times.size - 1))]) for q in ((1 - level) / 2, (1 + level) / 2))
    if np.isneginf(crossing):
        return [
            nan,
            0.0,
            max(high, float(hours[0])) if np.isfinite(high) else float(hours[0]),
            final,
            plateau,
        ], "before_first"
    return [crossing, max(low, 0.0), high, final, plateau], "timed"
