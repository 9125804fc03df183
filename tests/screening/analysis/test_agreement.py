"""Agreement of two measurements, against numbers of others and against what was drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from screening.analysis.agreement import agreement, msr_of_reference, msr_of_two_runs, pairwise

# Bland and Altman (1986), large and mini Wright peak flow meters, first readings, l/min
LARGE = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]


def test_the_peak_flow_meters_agree_as_bland_and_altman_published() -> None:
    found = agreement(np.array(MINI, float), np.array(LARGE, float))
    assert found["n"] == 17
    assert found["bias"] == pytest.approx(-2.1, abs=0.05)
    assert found["sd"] == pytest.approx(38.8, abs=0.05)
    # they took 2 SD, here 1.96
    assert found["limit_low"] == pytest.approx(-2.1 - 1.96 * 38.8, abs=0.2)
    assert found["pearson"] == pytest.approx(0.94, abs=0.005)
    assert found["bias_low"] == pytest.approx(-22.0, abs=0.2)
    assert found["bias_high"] == pytest.approx(17.8, abs=0.2)


def test_concordance_is_correlation_lessened_by_shift_and_scale() -> None:
    x = np.arange(10.0)
    same = agreement(x, x)
    assert (same["concordance"], same["concordance_low"], same["concordance_high"]) == pytest.approx((1, 1, 1))
    moved = agreement(x, x + 2)
    # 2 s^2 / (2 s^2 + shift^2), s^2 = 8.25
    assert moved["concordance"] == pytest.approx(16.5 / 20.5)
    assert moved["pearson"] == pytest.approx(1)
    assert agreement(x, -x + 9)["concordance"] == pytest.approx(-1)


def test_the_interval_of_concordance_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    rho, scale, shift = 0.9, 1.2, 0.3
    truth = 2 * rho * scale / (1 + scale**2 + shift**2)
    held = 0
    for _ in range(600):
        x = rng.normal(size=40)
        y = shift + scale * (rho * x + np.sqrt(1 - rho**2) * rng.normal(size=40))
        found = agreement(x, y)
        held += float(found["concordance_low"]) <= truth <= float(found["concordance_high"])
    assert 0.92 <= held / 600 <= 0.98


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        ([], [], "too_few_pairs"),
        ([1.0, np.nan, 3.0], [1.0, 2.0, np.inf], "too_few_pairs"),
        ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0], "constant"),
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], "constant"),
        ([1e300, -1e300, 0.0, 1.0], [1.0, 2.0, 3.0, 4.0], "too_few_pairs"),
        ([1e6, 2.0, 0.0, 1.0], [1.0, 2.0, 3.0, 4.0], "ok"),
    ],
)
def test_what_cannot_be_compared_has_a_status_and_no_infinite_number(
    first: list[float], second: list[float], status: str
) -> None:
    found = agreement(np.array(first), np.array(second))
    assert found["status"] == status
    assert not any(np.isinf(value) for value in found.values() if not isinstance(value, str))


def test_every_two_columns_are_compared_over_shared_rows() -> None:
    table = pairwise(pd.DataFrame({"P1": [0, 1, 2, 3.0], "P2": [0, 1, 2, np.nan], "P3": [3, 2, 1, 0.0]}))
    assert list(zip(table["first"], table["second"], strict=True)) == [("P1", "P2"), ("P1", "P3"), ("P2", "P3")]
    assert list(table["n"]) == [3, 4, 3]
    assert list(table["pearson"]) == pytest.approx([1, -1, -1])


def test_msr_of_two_runs_follows_from_the_drawn_spread() -> None:
    rng = np.random.default_rng(1)
    truth = rng.uniform(-2, 2, 4000)
    runs = truth + rng.normal(0, 0.15, (2, 4000)) + np.array([[0.0], [0.1]])
    found = msr_of_two_runs(*runs)
    assert found["msr"] == pytest.approx(10 ** (2 * 0.15 * np.sqrt(2)), rel=0.03)
    assert found["msr_low"] < 10 ** (2 * 0.15 * np.sqrt(2)) < found["msr_high"]
    assert found["ratio"] == pytest.approx(10**0.1, rel=0.02)
    assert found["ratio_low"] == pytest.approx(found["ratio"] / found["msr"])


def test_msr_of_a_reference_pools_compounds_and_its_interval_covers() -> None:
    rng = np.random.default_rng(2)
    truth, held = 10 ** (2 * np.sqrt(2) * 0.1), 0
    for _ in range(500):
        found = msr_of_reference([1 + rng.normal(0, 0.1, 5), rng.normal(0, 0.1, 7), np.array([3.0]), np.array([])])
        held += found["msr_low"] <= truth <= found["msr_high"]
    assert found["n"] == 12
    assert 0.92 <= held / 500 <= 0.98


def test_an_msr_needs_three_values() -> None:
    assert np.isnan(msr_of_reference([np.array([1.0, 2.0])])["msr"])
    assert np.isnan(msr_of_two_runs(np.array([1.0, np.nan, 2.0]), np.array([1.0, 1.0, 2.0]))["msr"])
    assert msr_of_two_runs(np.zeros(3), np.zeros(3))["msr"] == 1
    assert np.isfinite(msr_of_reference([np.array([-300.0, 300.0, 0.0])])["msr"])
