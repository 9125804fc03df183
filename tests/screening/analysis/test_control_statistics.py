"""Control statistics and their intervals against SciPy's bootstrap, R's numbers, and sums done by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from screening.analysis.control_statistics import (
    CLASSICAL,
    ROBUST,
    avr,
    center_and_spread,
    control_statistics,
    signal_to_background,
    signal_to_noise,
    signal_window,
    ssmd,
    ssmd_small_sample,
    z_prime,
)

from .test_quality import KCVIAB

ACEA = KCVIAB.parent / "tcplfit2"


def _controls(seed: int = 1, *, positive: int = 12, negative: int = 16) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0.9, 0.04, positive), rng.normal(0.05, 0.02, negative)


def test_the_other_statistics_are_the_textbook_formulas() -> None:
    positive, negative = np.array([0.9, 0.8, 1.0, 0.9]), np.array([0.1, 0.0, 0.2, 0.1])
    s = np.std(positive, ddof=1)
    assert signal_window(positive, negative) == pytest.approx((0.8 - 6 * s) / s)
    assert avr(positive, negative) == pytest.approx(6 * s / 0.8)
    assert signal_to_noise(positive, negative) == pytest.approx(0.8 / s)
    assert signal_to_background(positive, negative) == pytest.approx(9)
    assert ssmd_small_sample(positive, negative) == pytest.approx(0.8 / np.sqrt(2 / 4.52 * 6 * s**2))


def test_the_small_sample_ssmd_loses_the_bias_of_four_wells() -> None:
    rng = np.random.default_rng(2)
    positive, negative = rng.normal(3, 1, (4, 20_000)), rng.normal(0, 1, (4, 20_000))
    truth = 3 / np.sqrt(2)
    assert np.mean(ssmd_small_sample(positive, negative)) == pytest.approx(truth, rel=0.03)
    assert np.mean(ssmd(positive, negative)) > 1.1 * truth


@pytest.mark.skipif(not ACEA.exists(), reason=f"the ACEA plates (tcplfit2) are not at {ACEA}")
def test_every_statistic_of_436_real_plates_is_rs() -> None:
    wells = pd.read_csv(ACEA / "mc0_ACEA_AR_raw_plates.csv.gz")
    expected = pd.read_csv(ACEA / "expected_mc0_plate_qc_R.csv").set_index("apid")
    for plate, here in wells[wells["wllq"] == 1].groupby("apid"):
        positive, negative = (here.loc[here["wllt"] == kind, "rval"].to_numpy(float) for kind in ("p", "n"))
        # in this assay the vehicle gives the signal, so background and noise are the positive controls'
        ours = [
            z_prime(positive, negative),
            z_prime(positive, negative, robust=True),
            ssmd(positive, negative),
            ssmd(positive, negative, robust=True),
            signal_to_background(negative, positive),
            signal_to_noise(negative, positive),
            signal_window(positive, negative),
            avr(positive, negative),
        ]
        names = ["zprime", "robust_zprime", "ssmd", "robust_ssmd", "signal_background", "signal_noise"]
        np.testing.assert_allclose(
            ours, expected.loc[plate, [*names, "signal_window", "avr"]].to_numpy(float), rtol=1e-9
        )


def test_robust_intervals_are_those_of_scipys_percentile_bootstrap() -> None:
    positive, negative = _controls()
    ours = control_statistics(positive, negative, draws=20_000, seed=3)
    scipys = stats.bootstrap(
        (positive, negative),
        lambda p, n, axis: ssmd(np.moveaxis(p, axis, 0), np.moveaxis(n, axis, 0), robust=True),
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(4),
    ).confidence_interval
    width = scipys.high - scipys.low
    assert ours["robust_ssmd_low"] == pytest.approx(scipys.low, abs=0.05 * width)
    assert ours["robust_ssmd_high"] == pytest.approx(scipys.high, abs=0.05 * width)


@pytest.mark.parametrize(("wells", "least"), [(4, 0.84), (8, 0.85), (16, 0.87), (32, 0.89)])
def test_intervals_hold_the_truth_where_percentiles_would_not(wells: int, least: float) -> None:
    rng = np.random.default_rng(8)
    positive, negative = rng.normal(0.9, 0.05, (wells, 1500)), rng.normal(0.05, 0.02, (wells, 1500))
    found = control_statistics(positive, negative, draws=300, seed=9)
    for name, truth in (("z_prime", 1 - 0.21 / 0.85), ("avr", 0.21 / 0.85), ("ssmd", 0.85 / np.hypot(0.05, 0.02))):
        held = (found[f"{name}_low"] <= truth) & (truth <= found[f"{name}_high"])
        assert least <= held.mean() <= 0.97


def test_missing_wells_are_as_if_they_were_not_there() -> None:
    positive, negative = _controls(5)
    gaps = np.append(positive, [np.nan, np.inf, -np.inf])
    with_gaps, without = (control_statistics(kind, negative, draws=0) for kind in (gaps, positive))
    for name in (*CLASSICAL, *ROBUST, "n_positive", "cv_positive"):
        assert with_gaps[name] == pytest.approx(without[name])
    center, spread = center_and_spread(gaps)
    assert (center, spread) == pytest.approx((np.median(positive), stats.median_abs_deviation(positive) * 1.4826))


def test_columns_are_computed_side_by_side_as_each_alone() -> None:
    rng = np.random.default_rng(6)
    positive, negative = rng.normal(0.9, 0.05, (8, 3, 2)), rng.normal(0.1, 0.02, (10, 3, 2))
    together = control_statistics(positive, negative, draws=200, seed=7)
    alone = control_statistics(positive[:, 2, 1], negative[:, 2, 1], draws=200, seed=7)
    assert together["robust_z_prime"].shape == (3, 2)
    for name, values in alone.items():
        assert together[name][2, 1] == pytest.approx(values)


@pytest.mark.parametrize(
    ("positive", "negative"),
    [
        ([np.nan] * 8, [0.1] * 8),
        ([0.5] * 8, [0.5] * 8),
        ([1.0] * 8, [0.0] * 8),
        ([0.9], [0.1, 0.2, 0.3]),
        ([], []),
        ([np.inf] * 4, [-np.inf] * 4),
        ([1e200, -1e200, 1e200], [1e300, 2e300, 3e300]),
    ],
)
def test_hostile_controls_give_nan_never_infinity_nor_a_warning(positive: list[float], negative: list[float]) -> None:
    found = control_statistics(np.array(positive), np.array(negative), draws=50)
    assert not any(np.isinf(values).any() for values in found.values())
    assert np.isnan(found["z_prime"]) or len(set(negative)) > 1
    assert np.isnan(found["robust_z_prime_low"]) or np.isfinite(found["robust_z_prime"])


def test_controls_that_never_scatter_have_no_z_prime_of_one() -> None:
    found = control_statistics(np.full(8, 1.0), np.zeros(8), draws=50)
    assert np.isnan([found["z_prime"], found["robust_z_prime"], found["ssmd"], found["signal_window"]]).all()
