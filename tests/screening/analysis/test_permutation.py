"""Permutation tests against SciPy's classical ones, and their false alarms where nothing is planted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from screening.analysis.permutation import pattern_tests, ranks


def test_groups_of_wells_give_kruskal_and_wallis_and_two_groups_wilcoxon() -> None:
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(4), 10)
    values = rng.normal(size=40) + 0.6 * (group == 2)
    patterns = {"four": (group[:, None] == np.arange(4)).astype(float), "two": (group[:, None] < 2).astype(float)}
    found, _ = pattern_tests(values[:, None], patterns, permutations=9999)
    kruskal = stats.kruskal(*(values[group == g] for g in range(4)))
    assert found["four"].share[0] * 39 == pytest.approx(kruskal.statistic)
    assert found["four"].p[0] == pytest.approx(kruskal.pvalue, abs=0.02)
    whitney = stats.mannwhitneyu(values[group < 2], values[group >= 2], method="asymptotic", use_continuity=False)
    assert found["two"].p[0] == pytest.approx(whitney.pvalue, abs=0.02)


def test_ranks_are_scipys_centred() -> None:
    values = np.random.default_rng(2).integers(0, 6, (30, 4)).astype(float)
    np.testing.assert_allclose(ranks(values), stats.rankdata(values, axis=0) - 15.5)


def test_p_values_are_uniform_where_nothing_is_planted_also_within_groups_of_mirrored_replicates() -> None:
    rng = np.random.default_rng(3)
    x = np.linspace(-1, 1, 40)
    x = np.concatenate([x, -x])  # each replicate pair lies at mirrored places, the worst case for a gradient
    groups = np.tile(np.arange(40), 2)
    values = rng.normal(size=(80, 600)) + rng.normal(0, 5, 40)[groups][:, None]
    found, _ = pattern_tests(values, {"gradient": x[:, None]}, groups=groups, permutations=199)
    p = found["gradient"].p
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.03)
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_a_gradient_under_replicates_that_differ_is_found_only_within_groups() -> None:
    rng = np.random.default_rng(4)
    x = rng.random(60)
    groups = np.repeat(np.arange(30), 2)
    values = (2.0 * x + rng.normal(0, 0.2, 60) + rng.normal(0, 10, 30)[groups])[:, None]
    with_groups, _ = pattern_tests(values, {"gradient": x[:, None]}, groups=groups)
    without, _ = pattern_tests(values, {"gradient": x[:, None]})
    assert with_groups["gradient"].p[0] <= 0.01 < without["gradient"].p[0]


def test_wells_without_value_or_company_take_no_part_and_constant_columns_have_no_p() -> None:
    rng = np.random.default_rng(5)
    values = np.column_stack([rng.normal(size=20), np.full(20, 0.3), np.full(20, np.nan)])
    values[3, 0] = np.inf
    pattern = np.arange(20.0)[:, None]
    found, alike = pattern_tests(values, {"order": pattern}, weights=np.ones((20, 20)))
    kept = np.delete(values[:, :1], 3, axis=0)
    alone, _ = pattern_tests(kept, {"order": np.delete(pattern, 3, axis=0)})
    assert found["order"].share[0] == pytest.approx(alone["order"].share[0])
    assert np.isnan(found["order"].p[1:]).all()
    assert np.isnan(alike.p[1:]).all()
    lonely, _ = pattern_tests(values, {"order": pattern}, groups=np.arange(20))
    assert np.isnan(lonely["order"].p).all()
