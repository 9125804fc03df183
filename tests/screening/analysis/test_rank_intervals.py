"""Intervals of ranks, and ties."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from screening.analysis.rank_intervals import rank_intervals, tie_groups


def compounds(rows: list[dict[str, float]]) -> pd.DataFrame:
    usual = {"stratum": 0, "lowest": 0.01, "highest": 100.0, "emax": 0.9, "emax_low": 0.85, "emax_high": 0.95}
    return pd.DataFrame([{**usual, **row} for row in rows])


def potent(ec50: float, factor: float) -> dict[str, float]:
    return {"ec50_fit": ec50, "ec50_low": ec50 / factor, "ec50_high": ec50 * factor}


NO_EC50 = {"ec50_fit": np.nan, "ec50_low": np.nan, "ec50_high": np.nan}
FLAT = {**NO_EC50, "stratum": 3, "emax": 0.0, "emax_low": -0.02, "emax_high": 0.02}


def test_compounds_far_apart_have_one_place_and_close_ones_share_theirs() -> None:
    found = rank_intervals(
        compounds([potent(0.1, 1.2), potent(1.0, 1.5), potent(1.1, 1.5), FLAT, FLAT]), least_effect=0.05
    )
    assert list(found["rank_low"]) == [1, 2, 2, 4, 4]
    assert list(found["rank_high"]) == [1, 3, 3, 5, 5]


def test_an_open_end_reaches_to_the_last_of_those_with_an_effect() -> None:
    rows = [potent(0.1, 1.2), {"ec50_fit": 20.0, "ec50_low": 5.0, "ec50_high": np.inf}, potent(50.0, 1.2), FLAT]
    found = rank_intervals(compounds(rows), least_effect=0.05)
    assert list(found.loc[1]) == [2, 3]


def test_a_compound_whose_effect_may_be_real_may_stand_anywhere() -> None:
    maybe = {**FLAT, "emax": 0.05, "emax_low": -0.1, "emax_high": 0.2}
    found = rank_intervals(compounds([potent(0.5, 1.2), potent(5.0, 1.2), maybe, FLAT]), least_effect=0.05)
    assert found.loc[2, "rank_low"] == 1
    assert found.loc[2, "rank_high"] == 4


def test_nothing_known_means_any_place_in_the_stratum() -> None:
    unknown = {**NO_EC50, "stratum": 2, "emax": np.nan, "emax_low": np.nan, "emax_high": np.nan}
    found = rank_intervals(compounds([potent(0.5, 1.2), unknown, unknown, FLAT]), least_effect=0.05)
    assert list(found.loc[1]) == [2, 3]
    assert rank_intervals(compounds([FLAT]).iloc[:0], least_effect=0.05).empty


@pytest.mark.parametrize("value", [0.0, np.inf, np.nan, -1.0])
def test_hostile_numbers_give_ranks_and_no_warning(value: float) -> None:
    rows = [potent(1.0, 1.2), {"ec50_fit": value, "ec50_low": value, "ec50_high": value, "emax": value}]
    found = rank_intervals(compounds(rows), least_effect=0.05)
    assert found["rank_low"].ge(1).all()
    assert found["rank_high"].le(2).all()


def test_ranks_of_compounds_drawn_around_a_known_order_are_held() -> None:
    rng = np.random.default_rng(3)
    held = []
    for seed in range(40):
        truth = np.sort(rng.uniform(-1, 1, 20))
        se = rng.uniform(0.02, 0.2, 20)
        seen = truth + se * rng.standard_normal(20)
        table = compounds([potent(10**value, 10 ** (1.96 * error)) for value, error in zip(seen, se, strict=True)])
        found = rank_intervals(table, least_effect=0.05, draws=800, seed=seed)
        held += list((found["rank_low"] <= np.arange(1, 21)) & (found["rank_high"] >= np.arange(1, 21)))
    assert 0.93 <= np.mean(held) <= 0.995


def test_ties_are_groups_within_the_ratio_of_the_first() -> None:
    group, ties = tie_groups(np.array([1.0, 1.5, 1.9, 2.5, 9.0, np.nan]), 2.0)
    assert list(group) == [1, 1, 1, 2, 3, 0]
    # 1.5 lies within 2 of 1, 1.9 and 2.5
    assert list(ties) == [2, 3, 3, 2, 0, 0]


@pytest.mark.parametrize("msr", [np.nan, np.inf, 0.5])
def test_without_a_ratio_there_are_no_groups(msr: float) -> None:
    group, ties = tie_groups(np.array([1.0, 0.0, np.inf]), msr)
    assert not group.any()
    assert not ties.any()
