"""Onset, rate and plateau of death against known courses, another optimiser, and what cannot be known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import least_squares

from screening.analysis.course_noise import CourseNoise, course_noise
from screening.analysis.death_timing import time_groups
from screening.analysis.lag_exponential import curve, fit_lag_exponential

Array = NDArray[np.float64]
HOURS = np.arange(0.0, 49.0, 4.0)


def course(hours: Array, onset: float, rate: float, plateau: float, baseline: float = 0.0) -> Array:
    """Lag-exponential death written down a second time."""
    late = np.clip(hours - onset, 0, None)
    return np.asarray(baseline + (plateau - baseline) * (1 - np.exp(-rate * late)))


def test_noiseless_courses_give_their_parameters_back() -> None:
    rng = np.random.default_rng(0)
    truth = np.column_stack([rng.uniform(2, 20, 60), rng.uniform(0.1, 0.4, 60), rng.uniform(0.3, 0.95, 60)])
    table = fit_lag_exponential(HOURS, np.array([course(HOURS, row[0], row[1], row[2], 0.03) for row in truth]))
    for number, name in enumerate(("onset_fit", "rate_fit", "plateau_fit")):
        np.testing.assert_allclose(table[name], truth[:, number], atol=1e-4)
    np.testing.assert_allclose(table.baseline, 0.03, atol=1e-4)
    np.testing.assert_allclose(curve(HOURS, table)[:, -1], table.final, atol=1e-12)


def test_no_other_optimiser_finds_a_smaller_sum_of_squares() -> None:
    rng = np.random.default_rng(1)
    noisy = np.array([course(HOURS, 7.0, 0.15, 0.8, 0.02) for _ in range(6)]) + rng.normal(0, 0.03, (6, HOURS.size))
    table = fit_lag_exponential(HOURS, noisy)
    for row, y in enumerate(noisy):
        best = min(
            2
            * least_squares(
                lambda q, y=y: course(HOURS, q[0], q[1], q[2], q[3]) - y,
                [start, 0.1, 0.7, 0.05],
                bounds=([0, 0, 0, 0], [48, 2, 1, 0.5]),
                xtol=1e-12,
                ftol=1e-12,
            ).cost
            for start in np.linspace(0, 40, 9)
        )
        assert table.rss[row] <= best * (1 + 1e-6)


def test_the_area_is_that_of_trapezoids_on_a_hundred_points() -> None:
    table = fit_lag_exponential(HOURS, course(HOURS, 6.0, 0.2, 0.9)[None])
    drawn = np.linspace(0, 48, 100)
    assert table.auc[0] == pytest.approx(np.trapezoid(course(drawn, 6.0, 0.2, 0.9), drawn), abs=1e-5)


def test_noise_alone_is_flat_as_often_as_promised() -> None:
    noise = np.random.default_rng(2).normal(0.05, 0.02, (1000, HOURS.size))
    table = fit_lag_exponential(HOURS, noise, alpha=0.05)
    assert (table.p_value <= 0.05).mean() == pytest.approx(0.05, abs=0.02)
    flat = table[table.status == "flat"]
    assert len(flat) > 900
    assert (flat.onset_low == 48).all()
    assert np.isposinf(flat.onset_high).all()
    assert set(flat.onset_status) == {"after_last"}
    assert flat[["onset", "rate", "plateau", "slope", "t50"]].isna().all(axis=None)


def test_a_falling_course_is_flat() -> None:
    falling = np.linspace(0.4, 0.1, HOURS.size)[None]
    assert fit_lag_exponential(HOURS, falling).status[0] == "flat"


def test_an_onset_that_lies_between_two_frames_is_that_gap_and_no_number() -> None:
    y = course(HOURS, 10.0, 0.2, 0.9)[None] + np.random.default_rng(3).normal(0, 0.003, (1, HOURS.size))
    one = fit_lag_exponential(HOURS, y).iloc[0]
    assert (one.onset_low, one.onset_high, one.onset_status) == (8.0, 12.0, "between_frames")
    assert np.isnan(one.onset)
    assert one.onset_fit == pytest.approx(10.0, abs=0.3)


def test_an_onset_before_the_first_frame_is_a_bound() -> None:
    hours = np.arange(10.0, 40.0, 3.0)
    one = fit_lag_exponential(hours, course(hours, 2.0, 0.15, 0.9)[None]).iloc[0]
    assert (one.onset_low, one.onset_status) == (0.0, "before_first")
    assert np.isnan(one.onset)
    assert one.onset_high >= 10.0


def test_without_a_plateau_the_slope_stands_for_rate_and_plateau() -> None:
    y = course(HOURS, 8.0, 0.01, 1.0) + np.random.default_rng(4).normal(0, 0.005, HOURS.size)
    one = fit_lag_exponential(HOURS, y[None]).iloc[0]
    assert one.status == "plateau_not_reached"
    assert np.isnan(one.rate)
    assert np.isnan(one.plateau)
    assert one.slope_low <= 0.01 <= one.slope_high
    assert one.rate_low < one.rate_high
    assert one.plateau_low < one.plateau_high
    assert one.slope_high / one.slope_low < one.rate_high / one.rate_low


def test_time_to_half_is_a_number_only_where_half_have_died() -> None:
    rng = np.random.default_rng(5)
    courses = [course(HOURS, 6.0, 0.2, 0.9), course(HOURS, 6.0, 0.2, 0.3), course(HOURS, 0.0, 2.0, 0.9, 0.5)]
    table = fit_lag_exponential(HOURS, np.array(courses) + rng.normal(0, 0.01, (3, HOURS.size)))
    expected = 6.0 - np.log(1 - 0.5 / 0.9) / 0.2
    assert list(table.t50_status[:2]) == ["reached", "not_reached"]
    assert table.t50[0] == pytest.approx(expected, abs=0.5)
    assert table.t50_low[0] <= expected <= table.t50_high[0]
    assert np.isnan(table.t50[1])
    assert np.isposinf(table.t50_high[1])
    assert table.t50_low[1] == 48


def test_hostile_courses_get_a_status_and_no_warning() -> None:
    courses = np.full((7, HOURS.size), np.nan)
    courses[1, :5] = 0.3  # too few frames
    courses[2] = 0.0
    courses[3] = 1.0
    courses[4] = np.inf
    courses[5] = np.where(np.arange(HOURS.size) % 2, np.nan, course(HOURS, 8.0, 0.2, 0.9))
    courses[6] = np.where(HOURS > 20, 1.0, 0.0)  # a step
    table = fit_lag_exponential(HOURS, courses)
    assert list(table.status[:3]) == ["not_computable", "not_computable", "flat"]
    assert list(table.status[3:5]) == ["over_before_first", "not_computable"]
    assert (table.onset_low[3], table.onset_high[3], table.t50_status[3]) == (0.0, 0.0, "before_first")
    assert table.status[5] == "fitted"
    assert table.onset_low[6] <= 20 + 4
    assert table.onset_fit[6] < 24
    assert (fit_lag_exponential(np.array([4.0]), np.array([[0.3]])).status == "not_computable").all()
    assert len(fit_lag_exponential(HOURS, np.empty((0, HOURS.size)))) == 0


def test_hours_that_do_not_ascend_are_refused() -> None:
    with pytest.raises(ValueError, match="ascending hours"):
        fit_lag_exponential(np.array([0.0, 2.0, 2.0]), np.zeros((1, 3)))


def followed_cells(
    rng: np.random.Generator, hours: Array, rates: Array, onset: float, *, cells: int, wells: int
) -> Array:
    """(group, well, pathway, time): cells that die once, by competing exponential clocks after a common lag."""
    groups, pathways = rates.shape
    time = onset + rng.exponential(1 / rates[:, None, None], (groups, wells, cells, pathways))
    winner, first = time.argmin(axis=-1), time.min(axis=-1)
    dead = first[..., None] <= hours
    return np.stack([(dead & (winner == k)[..., None]).mean(axis=2) for k in range(pathways)], axis=2)


def test_noise_of_followed_cells_is_recognised_as_staying() -> None:
    rng = np.random.default_rng(6)
    hours = np.arange(0.0, 25.0, 2.0)
    rates = np.tile([[0.08]], (150, 1))
    courses = followed_cells(rng, hours, rates, 2.0, cells=100, wells=3)[:, :, 0]
    noise = course_noise(courses, np.tile(course(hours, 2.0, 0.08, 1.0), (150, 1)))
    assert noise is not None
    assert noise.freedom == 300
    assert noise.cohort == pytest.approx(1 / 100, rel=0.25)
    assert noise.frame < 0.1 * noise.cohort
    covariance = CourseNoise(0.01, 0.0, 0.0, 300).covariance(np.array([0.2, 0.6]))
    np.testing.assert_allclose(covariance, 0.01 * np.array([[0.16, 0.08], [0.08, 0.24]]), rtol=0.02)


def test_too_few_replicates_know_no_noise() -> None:
    assert course_noise(np.zeros((5, 2, 4)), np.zeros((5, 4))) is None


def test_competing_pathways_share_the_total_and_add_up_to_it() -> None:
    rng = np.random.default_rng(7)
    hours = np.arange(0.0, 25.0, 1.5)
    rates = np.tile([[0.10, 0.04, 0.02]], (120, 1))
    courses = followed_cells(rng, hours, rates, 3.0, cells=150, wells=3)
    times = time_groups(hours, courses.sum(axis=2), pathways=courses)
    np.testing.assert_allclose(times.share.sum(axis=1), 1.0)
    true_share = np.array([0.10, 0.04, 0.02]) / 0.16
    covered = (times.share_low <= true_share) & (true_share <= times.share_high)
    assert covered.mean() >= 0.92
    total = times.total
    for name, truth in (("slope", 0.16), ("rate", 0.16), ("onset", 3.0)):
        held = (total[f"{name}_low"] <= truth) & (truth <= total[f"{name}_high"])
        assert held.mean() >= 0.90, name
    assert np.nanmean(times.timing_p < 0.05) < 0.12, "pathways that start together are not told apart"


def test_a_pathway_that_starts_later_is_noticed() -> None:
    rng = np.random.default_rng(8)
    hours = np.arange(0.0, 25.0, 1.5)
    early = followed_cells(rng, hours, np.tile([[0.08]], (40, 1)), 1.0, cells=150, wells=3) * 0.5
    late = followed_cells(rng, hours, np.tile([[0.08]], (40, 1)), 9.0, cells=150, wells=3) * 0.5
    courses = np.concatenate([early, late], axis=2)
    times = time_groups(hours, courses.sum(axis=2), pathways=courses)
    assert (times.timing_p[:, 1] < 0.05).mean() > 0.9
    assert np.median(times.own[1].onset_fit) == pytest.approx(9.0, abs=0.5)


def test_one_well_a_group_is_still_timed_by_least_squares() -> None:
    rng = np.random.default_rng(9)
    y = course(HOURS, 9.0, 0.2, 0.9) + rng.normal(0, 0.02, (4, 1, HOURS.size))
    times = time_groups(HOURS, y)
    assert times.noise is None
    assert (times.total.status == "fitted").all()
