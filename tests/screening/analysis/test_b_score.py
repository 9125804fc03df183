"""B-scores against R's on real plates, and their refusal where they would lie."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from screening.analysis.b_score import b_score, median_polish, refusal
from screening.analysis.scales import z_score

from .test_quality import KCVIAB


@pytest.mark.skipif(not KCVIAB.exists(), reason=f"the KcViab screen (test only) is not at {KCVIAB}")
def test_b_scores_and_robust_z_of_a_real_screen_are_rs() -> None:
    raw = pd.read_csv(KCVIAB / "KcViab_raw_long.csv.gz")
    expected = pd.read_csv(KCVIAB / "expected_scores_R.csv.gz")
    kind = raw["controlStatus"].to_numpy()
    for plate in range(1, 58):
        here = (raw["plate"] == plate).to_numpy()
        table = raw.loc[here, "rep1"].to_numpy(float).reshape(16, 24)
        ours = b_score(table, (kind[here] == "sample").reshape(16, 24)).ravel()
        np.testing.assert_allclose(ours, expected.loc[here, "bscore1"], atol=1e-6)
    scaled = expected["norm1"].to_numpy()
    np.testing.assert_allclose(-z_score(scaled, scaled[kind == "sample"], robust=True), expected["z1"], atol=1e-9)


def test_median_polish_takes_rows_and_columns_apart_around_a_hit_and_a_gap() -> None:
    rows, columns = np.array([0.0, 1.0, -1.0, 2.0, 0.5]), np.array([0.0, 3.0, -2.0, 1.0, 0.0, 5.0])
    table = 10 + rows[:, None] + columns
    table[2, 3] += 50
    table[0, 0] = np.nan
    fit = median_polish(table)
    np.testing.assert_allclose(fit.overall + fit.rows[:, None] + fit.columns + fit.residuals, table)
    assert fit.residuals[2, 3] == pytest.approx(50)
    left = fit.residuals.copy()
    left[2, 3] = 0
    assert np.nanmax(np.abs(left)) < 1e-9


def test_a_row_effect_is_taken_off_and_controls_do_not_decide_it() -> None:
    rng = np.random.default_rng(1)
    table = rng.normal(0, 1, (16, 24)) + 8 * (np.arange(16) == 4)[:, None]
    samples = np.ones((16, 24), dtype=bool)
    samples[:, 0] = False
    table[:, 0] = 1000
    scores = b_score(table, samples)
    assert abs(np.median(scores[4, 1:])) < 1e-9
    assert np.all(scores[:, 0] > 100)
    assert np.nanmedian(np.abs(scores[:, 1:])) == pytest.approx(1 / 1.4826, rel=0.05)


def test_a_dose_response_plate_is_refused_with_the_reason() -> None:
    compound = np.repeat([f"c{k}" for k in range(10)], 8)
    dose = np.tile(np.geomspace(0.01, 30, 8), 10)
    values = np.random.default_rng(2).normal(size=80)
    assert "10 of 10 compounds are here in more than 2 doses (up to 8)" in refusal(
        values, compound, dose, np.ones(80, bool)
    )
    one_dose = np.array([f"c{k}" for k in range(80)])
    assert refusal(values, one_dose, np.ones(80), np.ones(80, bool)) == ""
    values[:30] += 20
    assert "of the sample wells are hits" in refusal(values, one_dose, np.ones(80), np.ones(80, bool))
    assert "32 are the least" in refusal(values[:9], one_dose[:9], np.ones(9), np.ones(9, bool))


@pytest.mark.parametrize("table", [np.full((8, 12), np.nan), np.full((8, 12), 3.0), np.full((8, 12), np.inf)])
def test_a_plate_without_differences_has_no_scores(table: np.ndarray) -> None:
    assert np.isnan(b_score(table, np.ones((8, 12), dtype=bool))).all()
