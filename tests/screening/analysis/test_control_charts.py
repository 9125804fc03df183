"""Levey and Jennings' chart with Westgard's rules, and drift over the order of imaging."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from screening.analysis.control_charts import Westgard, drift_over_order, levey_jennings, westgard


@pytest.mark.parametrize(
    ("z", "rule"),
    [
        ([0.1, -0.2, 3.2], "1_3s"),
        ([0.1, 2.3, 2.1], "2_2s"),
        ([0.0, 2.2, -2.4], "R_4s"),
        ([1.2, 1.5, 1.1, 1.3], "4_1s"),
        ([0.3, -0.1, *[0.2] * 10], "10_x"),
        ([-0.9, -0.6, -0.3, 0.0, 0.3, 0.6, 0.9], "7_T"),
    ],
)
def test_each_rule_is_broken_by_its_series_and_not_one_plate_earlier(z: list[float], rule: str) -> None:
    broken = westgard(np.array(z))
    assert rule in broken[-1]
    assert not any(rule in names for names in broken[:-1])


def test_a_plate_without_value_is_skipped_by_every_rule() -> None:
    broken = westgard(np.array([0.1, 2.3, np.nan, 2.1]))
    assert broken[2] == []
    assert "2_2s" in broken[3]


def test_false_alarms_of_a_steady_series_are_what_the_rules_imply() -> None:
    z = np.random.default_rng(1).normal(size=20_000)
    names = [name for names in westgard(z) for name in names]
    expected = {"1_2s": 0.0455, "1_3s": 0.0027, "2_2s": 2 * 0.02275**2, "4_1s": 2 * 0.15866**4, "10_x": 2 * 0.5**10}
    for rule, chance in expected.items():
        assert names.count(rule) / z.size == pytest.approx(chance, abs=4 * np.sqrt(chance / z.size) * 2)
    assert names.count("7_T") / z.size == pytest.approx(2 / 5040, abs=0.0006)


def test_a_bad_plate_among_those_learnt_from_does_not_hide_itself() -> None:
    usual = 0.05 + 0.005 * stats.norm.ppf((np.arange(20) + 0.5) / 20)
    values = np.random.default_rng(2).permutation(usual)
    values[7] = 0.4
    chart = levey_jennings(values)
    assert chart["status"][7] == "out of control"
    assert chart["center"][0] == pytest.approx(0.05, abs=0.005)
    assert list(np.flatnonzero(chart["rules"].str.contains("1_3s"))) == [7]


def test_a_warning_alone_rejects_nothing_and_rules_can_be_chosen() -> None:
    values = np.array([0.0, 2.5, 0.0])
    assert list(levey_jennings(values, center=0, spread=1)["status"]) == ["in control", "warning", "in control"]
    strict = levey_jennings(values, center=0, spread=1, rules=Westgard(rules=("1_2s",), warnings=()))
    assert strict["status"][1] == "out of control"


@pytest.mark.parametrize("values", [[0.1] * 5, [np.nan] * 12, [0.3] * 12, [np.inf] * 12, []])
def test_too_few_plates_or_no_spread_are_not_judged(values: list[float]) -> None:
    chart = levey_jennings(np.array(values))
    assert set(chart["status"]) <= {"not judged", "no value"}
    assert chart["z"].isna().all()


def test_drift_is_spearmans_and_theil_and_sens() -> None:
    rng = np.random.default_rng(3)
    order = rng.permutation(40).astype(float)
    values = 0.05 + 0.002 * order + rng.normal(0, 0.02, 40)
    found = drift_over_order(values, order, permutations=999)
    assert found["spearman"] == pytest.approx(stats.spearmanr(order, values).statistic)
    assert found["change"] == pytest.approx(stats.theilslopes(values, order).slope * 39)
    assert found["p"] == pytest.approx(0.001)


def test_steady_wells_drift_no_more_often_than_stated_and_unknown_times_have_no_p() -> None:
    values = np.random.default_rng(4).normal(size=(24, 400))
    p = drift_over_order(values, np.arange(24.0), permutations=199)["p"]
    assert (p <= 0.05).mean() <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)
    for order in (np.full(24, np.nan), np.zeros(24)):
        assert np.isnan(drift_over_order(values[:, 0], order)["p"])
