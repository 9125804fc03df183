"""Other shapes than a sigmoid, only where the data ask for one; and fits that wild wells cannot bend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from screening.analysis.curves import fit_curves
from screening.analysis.other_curves import fit_shape
from screening.analysis.robust import fit_robust
from screening.analysis.shape_tests import isotonic_rss

RYEGRASS = Path(__file__).parents[4] / "shared" / "data" / "drc" / "data" / "ryegrass.csv"
DOSE = np.repeat(np.geomspace(0.01, 100, 8), 3)


def rise(dose: np.ndarray, ec50: float, hill: float) -> np.ndarray:
    up: np.ndarray = 1 / (1 + (ec50 / dose) ** hill)
    return up


def bell(dose: np.ndarray) -> np.ndarray:
    both: np.ndarray = rise(dose, 0.3, 2.0) * (1 - rise(dose, 8.0, 2.0))
    return both


def hormesis(dose: np.ndarray) -> np.ndarray:
    """Brain-Cousens: 0.3 at dose 0, dips, ends at 0.9."""
    up = rise(dose, 1.0, 2.5)
    whole: np.ndarray = (0.3 - 0.8 * dose) * (1 - up) + 0.9 * up
    return whole


def crossing(curve: object, level: float, low: float, high: float) -> float:
    def gap(x: float) -> float:
        return float(curve(np.array([10**x]))[0]) - level  # type: ignore[operator]

    return float(10 ** optimize.brentq(gap, np.log10(low), np.log10(high)))


def test_a_pathway_that_rises_and_falls_is_biphasic_and_has_both_ec50s() -> None:
    rng = np.random.default_rng(1)
    fits = fit_curves(DOSE, bell(DOSE) + rng.normal(0, 0.04, (40, DOSE.size)), direction=1)
    assert set(fits["status"]) == {"biphasic"}
    assert (fits["shape"] == "bell").mean() > 0.9
    fine = np.geomspace(0.01, 100, 4001)
    peak = bell(fine).max()
    up = crossing(bell, peak / 2, 0.01, 1.5)
    down = crossing(bell, peak / 2, 1.6, 100)
    assert fits["ec50"].median() == pytest.approx(up, rel=0.05)
    assert fits["ec50_loss"].median() == pytest.approx(down, rel=0.07)
    assert fits["peak_dose"].median() == pytest.approx(fine[bell(fine).argmax()], rel=0.15)
    # what is drawn at the top dose is the bell, not the sigmoid
    assert fits["emax"].median() == pytest.approx(float(bell(DOSE[-1:])[0]), abs=0.03)
    covered = (fits["ec50_low"] <= up) & (up <= fits["ec50_high"])
    assert covered.mean() >= 0.85


def test_hormesis_is_told_from_a_sigmoid() -> None:
    rng = np.random.default_rng(2)
    fits = fit_curves(DOSE, hormesis(DOSE) + rng.normal(0, 0.03, (40, DOSE.size)), direction=1)
    assert (fits["shape"] == "hormesis").mean() > 0.9
    assert set(fits["status"]) == {"biphasic"}
    truth = crossing(hormesis, 0.6, 0.8, 50)
    assert fits["ec50"].median() == pytest.approx(truth, rel=0.05)


def test_sigmoids_ask_for_nothing_else() -> None:
    rng = np.random.default_rng(3)
    count = 600
    ec50, hill = 10 ** rng.uniform(-1.5, 1.5, count), np.exp(rng.normal(0.2, 0.4, count))
    clean = np.array([rise(DOSE, *one) for one in zip(ec50, hill, strict=True)])
    fits = fit_curves(DOSE, clean + rng.normal(0, 0.05, clean.shape))
    assert (fits["shape"] != "").mean() < 0.02
    assert (fits["status"] == "biphasic").mean() < 0.02


@pytest.mark.parametrize("shape", ["five_parameter", "hormesis", "bell"])
def test_each_shape_finds_the_parameters_that_made_the_data(shape: str) -> None:
    dose = np.geomspace(0.01, 100, 16)
    curve, truth = {
        "five_parameter": (1 - (1 + (dose / 0.5) ** 1.5) ** -4.0, 0.5 * (2 ** (1 / 4) - 1) ** (1 / 1.5)),
        "hormesis": (hormesis(dose), crossing(hormesis, 0.6, 0.8, 50)),
        "bell": (bell(dose), crossing(bell, bell(np.geomspace(0.01, 100, 4001)).max() / 2, 0.01, 1.5)),
    }[shape]
    fit = fit_shape(dose, curve, shape=shape)
    assert fit["rss"][0] < 1e-8
    assert fit["ec50"][0] == pytest.approx(truth, rel=2e-3)


def test_the_five_parameter_ec50_is_the_dose_of_half_the_effect_not_richards_location() -> None:
    dose = np.geomspace(0.001, 1000, 25)
    foot = (1 + (dose / 0.5) ** -3.0) ** -0.2
    fit = fit_shape(dose, foot, shape="five_parameter")
    assert fit["ec50"][0] == pytest.approx(0.5 * (2 ** (1 / 0.2) - 1) ** (-1 / 3), rel=1e-3)
    assert abs(fit["ec50"][0] / 0.5 - 1) > 0.5
    with pytest.raises(ValueError, match="expected one of five_parameter"):
        fit_shape(dose, foot, shape="gnls")


def test_isotonic_regression_agrees_with_scipy() -> None:
    rng = np.random.default_rng(4)
    means, weight = rng.normal(size=(20, 7)), rng.uniform(1, 4, 7)
    expected = [float(weight @ (row - optimize.isotonic_regression(row, weights=weight).x) ** 2) for row in means]
    np.testing.assert_allclose(isotonic_rss(means, weight), expected, rtol=1e-10)


def test_two_wild_wells_do_not_move_a_robust_ec50() -> None:
    if not RYEGRASS.exists():
        pytest.skip(f"the drc data (GPL, test only) are not at {RYEGRASS}")
    data = pd.read_csv(RYEGRASS).sort_values("conc")
    dose, response = data["conc"].to_numpy(float), data["rootl"].to_numpy(float)
    clean = fit_curves(dose, response, hill=(0.02, 2000.0))["ec50"][0]
    assert clean == pytest.approx(3.058, abs=0.001)
    wild = response.copy()
    wild[np.flatnonzero(dose == 3.75)[0]] = 9.0
    wild[np.flatnonzero(dose == 7.5)[0]] = 9.0
    both = fit_curves(dose, wild, robust=True).iloc[0]
    assert both["ec50_robust"] == pytest.approx(clean, rel=0.10)
    assert 2 <= both["outliers"] <= 4
    assert abs(np.log(both["ec50_fit"] / clean)) > 2 * abs(np.log(both["ec50_robust"] / clean))


def test_without_outliers_robust_and_least_squares_agree() -> None:
    rng = np.random.default_rng(5)
    responses = rise(DOSE, 1.0, 1.5) + rng.normal(0, 0.03, (25, DOSE.size))
    plain, robust = fit_curves(DOSE, responses), fit_robust(DOSE, responses)
    apart = np.abs(np.log10(robust["ec50_robust"] / plain["ec50"]))
    assert apart.max() < 2 * plain["log10_ec50_se"].max()
    assert robust["log10_ec50_robust_se"].median() == pytest.approx(plain["log10_ec50_se"].median(), rel=0.4)
    assert robust["outliers"].sum() <= 5


def test_many_seeds_of_wild_wells_leave_the_robust_ec50_near_the_truth() -> None:
    rng = np.random.default_rng(6)
    responses = rise(DOSE, 1.0, 1.5) + rng.normal(0, 0.03, (40, DOSE.size))
    for row in responses:
        row[rng.choice(DOSE.size, 3, replace=False)] += rng.choice([-1, 1], 3) * 0.8
    robust = fit_robust(DOSE, responses)
    plain = fit_curves(DOSE, responses)
    error = np.abs(np.log10(robust["ec50_robust"]))
    assert error.median() < 0.03
    assert (error > 0.15).sum() <= 1
    assert np.abs(np.log10(plain["ec50_fit"].fillna(1e3))).median() > 2 * error.median()
