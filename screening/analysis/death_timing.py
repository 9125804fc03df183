"""When and how fast a compound kills, and by which pathway: lag-exponential death of replicate wells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, stats

from .course_noise import CourseNoise, course_noise
from .lag_exponential import curve, fit_lag_exponential, rough_courses
from .lag_grid import Limits

Array: TypeAlias = NDArray[Any]

EXCESS = Limits(baseline=(-0.2, 0.5), plateau=(-0.2, 1.0))  # excess over vehicle scatters around 0
TIMED = ("fitted", "plateau_not_reached")
SMALLEST_RISE = 0.02  # of a pathway until the last frame, below which it has no timing of its own


@dataclass(frozen=True)
class DeathTimes:
    """Groups of replicate wells, timed.

    `total` is the table of `fit_lag_exponential`, one row a group. The pathway arrays are (group, pathway):
    `incidence` (rise of the pathway's deaths from y0 to P), `share` of all rises with `share_low`, `share_high`,
    and `timing_p`, small where a pathway starts or rises otherwise than the total. `own` holds one table a pathway,
    timed for itself. `noise` is None where replicate wells are too few to know it.
    """

    total: pd.DataFrame
    incidence: Array
    share: Array
    share_low: Array
    share_high: Array
    timing_p: Array
    own: list[pd.DataFrame]
    noise: CourseNoise | None


def time_groups(
    hours: Array,
    courses: Array,
    *,
    pathways: Array | None = None,
    baseline: Array | float = 0.0,
    vehicle_wells: int = 0,
    limits: Limits = EXCESS,
    level: float = 0.95,
    alpha: float = 0.01,
    minimum_effect: float = 0.1,
    seed: int = 0,
) -> DeathTimes:
    """Fit lag-exponential death to groups of replicate wells, and split it among pathways.

    Pathways compete: under hazards h_p that start together, the cumulative incidence of each is h_p / h (1 -
    exp(-h (t - D0))) with the *sum* h as its rate, whatever its own hazard. So all pathways share the onset and the
    rate of the total, each has a rise of its own, and because both are linear in the data the rises add up to the
    total's. The hazard of a pathway is its share times the total's initial slope. Where a pathway starts later than
    another the shared timing is wrong: `timing_p` tests that, and `own` times each pathway alone.

    Parameters
    ----------
    hours
        (time,) from dosing.
    courses
        (group, well, time) death fractions, excess over vehicle as a rule; NaN where missing.
    pathways
        (group, well, pathway, time) of the same, adding up to `courses`.
    baseline
        (time,) death of vehicle, for how noise depends on the level.
    vehicle_wells
        Wells behind the vehicle that was subtracted: few make all groups uncertain together. 0: as if many.
    limits, level, alpha, minimum_effect, seed
        As in `fit_lag_exponential`.
    """
    courses = np.asarray(courses, dtype=float)
    options = {"limits": limits, "level": level, "alpha": alpha, "minimum_effect": minimum_effect, "seed": seed}
    total, noise = _fit(hours, courses, baseline, vehicle_wells, options)
    if pathways is None:
        nothing = np.full((len(courses), 0), np.nan)
        return DeathTimes(total, nothing, nothing, nothing, nothing, nothing, [], noise)
    pathways = np.asarray(pathways, dtype=float)
    incidence, share, low, high = _shares(hours, pathways, total, vehicle_wells, level)
    own, p = [], np.full(share.shape, np.nan)
    for number in range(pathways.shape[2]):
        part = pathways[:, :, number]
        table, part_noise = _fit(hours, part, baseline, vehicle_wells, options | {"minimum_effect": SMALLEST_RISE})
        own.append(table)
        p[:, number] = _timing_p(hours, part, table, total, part_noise, baseline, vehicle_wells)
    return DeathTimes(total, incidence, share, low, high, p, own, noise)


def _fit(
    hours: Array, courses: Array, baseline: Array | float, vehicle_wells: int, options: dict[str, Any]
) -> tuple[pd.DataFrame, CourseNoise | None]:
    """Rough courses twice, smooth enough to say how noise depends on the level; then the weighted fit."""
    means = _means(courses)
    limits = options["limits"]
    smooth = rough_courses(hours, means, limits=limits)
    noise = course_noise(courses, smooth, baseline=baseline)
    if noise is None:
        return fit_lag_exponential(hours, means, **options), None
    smooth = rough_courses(
        hours, means, covariance=_of_means(noise, courses, smooth, baseline, vehicle_wells), limits=limits
    )
    noise = course_noise(courses, smooth, baseline=baseline) or noise
    table = fit_lag_exponential(
        hours,
        means,
        covariance=_of_means(noise, courses, smooth, baseline, vehicle_wells),
        freedom=noise.freedom,
        null_covariance=noise.covariance(np.zeros(hours.size), baseline=baseline),
        **options,
    )
    return table, noise


def _means(courses: Array) -> Array:
    """Mean over wells (group, time), NaN where no well has the frame."""
    known = np.isfinite(courses)
    number = known.sum(axis=1)
    total = np.where(known, courses, 0.0).sum(axis=1)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _of_means(noise: CourseNoise, courses: Array, smooth: Array, baseline: Array | float, vehicle_wells: int) -> Array:
    """Covariance of group means, (group, time, time); wells may lack frames, and vehicle has an error of its own."""
    known = np.isfinite(courses).astype(float)
    both = np.einsum("gws,gwt->gst", known, known)
    number = np.maximum(known.sum(axis=1), 1)
    mean = np.where(np.isfinite(smooth), smooth, 0.0)
    scaled: Array = noise.covariance(mean, baseline=baseline) * both / (number[:, :, None] * number[:, None, :])
    if vehicle_wells:
        alive = 1 - np.clip(mean, 0.0, 1.0)
        behind = noise.covariance(np.zeros(mean.shape[1]), baseline=baseline) / vehicle_wells
        scaled = scaled + alive[:, :, None] * alive[:, None, :] * behind
    return scaled


def _shares(
    hours: Array, pathways: Array, total: pd.DataFrame, vehicle_wells: int, level: float
) -> tuple[Array, Array, Array, Array]:
    """Rise of each pathway under the total's onset and rate; its share with an interval from how wells differ.

    A share is a proportion of the deaths: between wells it varies by phi s (1 - s) / rise, one phi for all groups, and
    by what background deaths of the pathway add whatever the compound does, a floor of each pathway. The interval is
    Wilson's with Student's t, widened by the floor; that also holds for the vehicle wells that were subtracted.
    """
    groups, _, count, _ = pathways.shape
    g = curve(hours, total.assign(baseline=0.0, plateau_fit=1.0))  # (group, time)
    g = np.where(np.isfinite(g), g, 0.0)
    whole: Array = np.asarray(np.isfinite(pathways).all(axis=(2, 3)))  # (group, well)
    filled = np.where(whole[..., None, None], pathways, 0.0)
    centred = g - g.mean(axis=1, keepdims=True)
    size = (centred**2).sum(axis=1)
    rise = np.einsum("gwpt,gt->gwp", filled, centred) / np.where(size > 0, size, 1.0)[:, None, None]
    number = whole.sum(axis=1)
    mean = rise.sum(axis=1) / np.maximum(number, 1)[:, None]
    kept = np.maximum(mean, 0.0)
    sound = total["status"].isin(TIMED).to_numpy() & (size > 0) & (number > 0)
    sound &= kept.sum(axis=1) > 0
    safe = np.where(sound, kept.sum(axis=1), 1.0)
    share = np.where(sound[:, None], kept / safe[:, None], np.nan)
    deviation = np.where(whole[..., None], rise - share[:, None] * rise.sum(axis=2, keepdims=True), 0.0)
    deviation -= deviation.sum(axis=1, keepdims=True) / np.maximum(number, 1)[:, None, None] * whole[..., None]
    used = sound & (number > 1)
    freedom = int((number[used] - 1).sum())
    incidence = np.where(sound[:, None], mean, np.nan)
    if freedom < 2:
        nothing = np.full((groups, count), np.nan)
        return incidence, share, nothing, nothing.copy()
    scatter = (deviation[used] ** 2).sum(axis=1) / (number[used] - 1)[:, None]  # (group, pathway)
    phi, floor = _two_parts(scatter, (safe[:, None] * share * (1 - share))[used], (number[used] - 1.0)[:, None])
    quantile = stats.t.ppf(0.5 + level / 2, freedom) ** 2
    wells = np.maximum(number, 1)[:, None]
    z = quantile * phi / (safe[:, None] * wells)
    behind = quantile * floor * (1 / wells + (1 / vehicle_wells if vehicle_wells else 0.0)) / safe[:, None] ** 2
    centre = (share + z / 2) / (1 + z)
    half = np.sqrt(np.maximum(share * (1 - share), 0) * z + z**2 / 4) / (1 + z)
    half = np.sqrt(half**2 + behind)
    return incidence, share, np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def _two_parts(scatter: Array, expected: Array, weight: Array) -> tuple[float, Array]:
    """Find phi, common to all, and each pathway's floor in scatter = phi expected + floor, none below 0."""
    count = scatter.shape[1]
    # variances have errors in proportion to themselves
    size = np.sqrt(np.broadcast_to(weight, scatter.shape)) / (expected + 0.1 * expected.mean() + 1e-12)
    columns = [(expected * size).ravel()]
    for number in range(count):
        one = np.zeros_like(scatter)
        one[:, number] = size[:, number]
        columns.append(one.ravel())
    found, _ = optimize.nnls(np.column_stack(columns), (scatter * size).ravel())
    return max(float(found[0]), 1e-9), found[1:]


def _timing_p(
    hours: Array,
    courses: Array,
    own: pd.DataFrame,
    total: pd.DataFrame,
    noise: CourseNoise | None,
    baseline: Array | float,
    vehicle_wells: int,
) -> Array:
    """F test (2 degrees of freedom) of a pathway's own onset and rate against the total's."""
    result = np.full(len(own), np.nan)
    both = own["status"].isin(TIMED) & total["status"].isin(TIMED)
    rows = np.flatnonzero(both & (own["rss"].notna()))
    if noise is None or not rows.size:
        return result
    means = _means(courses[rows])
    # weights as in the pathway's own fit: noise at its least-squares course, here its weighted one, close to it
    covariance = _of_means(noise, courses[rows], curve(hours, own.iloc[rows]), baseline, vehicle_wells)
    shared = curve(hours, total.iloc[rows].assign(baseline=0.0, plateau_fit=1.0))
    alone = curve(hours, own.iloc[rows].assign(baseline=0.0, plateau_fit=1.0))
    known = np.isfinite(means)
    for k, row in enumerate(rows):
        frames = known[k]
        root = np.linalg.inv(np.linalg.cholesky(covariance[k][np.ix_(frames, frames)]))
        y = root @ means[k][frames]
        ones = root.sum(axis=1)
        rss = []
        for basis in (shared[k], alone[k]):
            x = np.column_stack([ones, root @ basis[frames]])
            rss.append(float(((y - x @ np.linalg.lstsq(x, y, rcond=None)[0]) ** 2).sum()))
        free = frames.sum() - 4
        scale = max(rss[1] / free, 1.0) if free > 0 else 1.0
        result[row] = stats.f.sf(max(rss[0] - rss[1], 0.0) / 2 / scale, 2, noise.freedom)
    return result
