"""Intervals against simulation with a known truth, and against published numbers."""

import numpy as np
import numpy.typing as npt
import pytest

from models.intervals import (
    auc_interval,
    effective_size,
    mean_interval,
    resampled_interval,
    share_interval,
    wells_of,
    wider,
    wilson,
)


def judged_wells(
    random: np.random.Generator, *, wells: int, error: float, correlation: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Right (1) or wrong (0) for 20 to 60 patches a well, whose error rates follow a beta distribution."""
    rate = np.full(wells, error)
    if correlation:
        total = (1 - correlation) / correlation
        rate = random.beta(error * total, (1 - error) * total, size=wells)
    well = np.repeat(np.arange(wells), random.integers(20, 61, size=wells))
    return (random.random(len(well)) >= rate[well]).astype(float), well


@pytest.mark.parametrize("error", [0.003, 0.02, 0.15])
@pytest.mark.parametrize(("wells", "correlation"), [(8, 0.0), (8, 0.1), (40, 0.2)])
def test_nine_in_ten_intervals_and_more_hold_the_truth(wells: int, correlation: float, error: float) -> None:
    random = np.random.default_rng(wells)
    held = 0
    for seed in range(150):
        right, well = judged_wells(random, wells=wells, error=error, correlation=correlation)
        groups = wells_of(well, seed=seed, resamples=500)
        drawn = (groups.draws @ groups.sums(right)) / (groups.draws @ groups.sums(np.ones(len(right))))
        low, high = wider(resampled_interval(drawn, wells=wells), share_interval(right, well))
        assert low is not None
        assert high is not None
        held += low <= 1 - error <= high
    assert held >= 0.88 * 150  # 0.91 expected at worst; three standard errors of 150 trials are 0.07


def test_plain_percentiles_of_few_wells_with_rare_errors_would_hold_it_far_too_seldom() -> None:
    """What the two corrections are for: the plain bootstrap holds the truth in a third of the trials."""
    random = np.random.default_rng(0)
    held = 0
    for seed in range(150):
        right, well = judged_wells(random, wells=8, error=0.003, correlation=0.1)
        groups = wells_of(well, seed=seed, resamples=500)
        drawn = (groups.draws @ groups.sums(right)) / (groups.draws @ groups.sums(np.ones(len(right))))
        low, high = np.quantile(drawn, (0.025, 0.975))
        held += low <= 0.997 <= high
    assert held < 0.6 * 150


def test_no_error_at_all_is_not_certainty() -> None:
    low, high = share_interval(np.ones(400), np.repeat(np.arange(10), 40))
    assert low is not None
    # as 400 / (1 + 39 * 0.1) = 82 independent patches: Wilson's 82 / (82 + 1.96**2)
    assert low == pytest.approx(81.63 / (81.63 + 1.959964**2), abs=1e-4)
    assert high == 1.0


def test_patches_that_agree_within_wells_are_worth_as_many_as_the_wells() -> None:
    right = np.repeat(np.arange(40) % 4 > 0, 50).astype(float)
    assert effective_size(right, np.repeat(np.arange(40), 50)) == pytest.approx(40, rel=0.05)


def test_patches_that_know_nothing_of_each_other_are_worth_their_number() -> None:
    right = np.random.default_rng(3).random(20_000) < 0.7
    assert effective_size(right, np.repeat(np.arange(400), 50)) > 0.9 * 20_000
    assert effective_size(right, np.arange(20_000)) == 20_000


@pytest.mark.parametrize(
    ("right", "of", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(right: int, of: int, low: float, high: float) -> None:
    assert wilson(right / of, of) == pytest.approx((low, high), abs=5e-5)


def test_an_area_of_one_has_a_lower_end_and_the_interval_of_an_area_holds_the_truth() -> None:
    low, high = auc_interval(1.0, positives=20, negatives=40)
    assert 0.85 < low < 0.95
    assert high == 1.0
    random = np.random.default_rng(4)
    held = 0
    for _ in range(300):
        positive, negative = random.normal(1.8124, 1, 25), random.normal(0, 1, 40)  # area 0.9
        area = float((positive[:, None] > negative).mean())
        low, high = auc_interval(area, positives=25, negatives=40)
        held += low <= 0.9 <= high
    assert 0.91 <= held / 300 <= 0.99


def test_the_mean_of_scores_is_surer_than_each() -> None:
    low, high = mean_interval(np.array([0.8, 0.8, 0.8, 0.8]), [(0.7, 0.9)] * 4)
    assert (low, high) == pytest.approx((0.75, 0.85))
    assert mean_interval(np.array([0.8, 0.9]), [(0.7, 0.9), (None, None)]) == (None, None)


def test_fewer_than_five_wells_give_no_interval() -> None:
    assert resampled_interval(np.linspace(0, 1, 100), wells=4) == (None, None)
    assert resampled_interval(np.linspace(0, 1, 100), wells=5) != (None, None)
