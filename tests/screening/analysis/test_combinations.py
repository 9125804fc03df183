"""Two compounds in a well, drawn so that one of the models is true."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from screening.analysis.combinations import MODELS, loewe_effect, synergy

DOSES = (0.0, 0.1, 0.4, 1.6, 6.4, 25.6)


def hill(dose: float, ec50: float, slope: float, top: float) -> float:
    return top / (1 + (ec50 / dose) ** slope) if dose > 0 else 0.0


A, B = (1.0, 1.3, 0.9), (3.0, 1.6, 0.8)


def matrix(effect: object, *, replicates: int = 3, noise: float = 0.03, plates: int = 1, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for a in DOSES:
        for b in DOSES:
            for number in range(replicates):
                y = effect(a, b) + rng.normal(0, noise) if noise else effect(a, b)  # type: ignore[operator]
                rows.append((a, b, y, f"P{number % plates}"))
    return pd.DataFrame(rows, columns=["dose_a", "dose_b", "response", "plate"])


def bliss(a: float, b: float) -> float:
    one, other = hill(a, *A), hill(b, *B)
    return one + other - one * other


def test_wells_that_follow_bliss_have_no_excess_over_it_and_some_over_hsa() -> None:
    found = synergy(matrix(bliss))
    assert found.status == "ok"
    assert found.summary.loc["bliss", "verdict"] == "within error"
    assert found.summary.loc["zip", "verdict"] == "within error"
    assert found.summary.loc["hsa", "verdict"] == "synergy"
    assert (found.cells["bliss_status"] == "ok").all()
    assert len(found.cells) == 25


def test_without_noise_the_excess_is_the_one_put_in() -> None:
    found = synergy(matrix(lambda a, b: bliss(a, b) + 0.1 * (a > 0 and b > 0), noise=0.0))
    assert found.cells["bliss_excess"].to_numpy() == pytest.approx(0.1, abs=1e-9)
    expected = [max(hill(a, *A), hill(b, *B)) for a, b in found.cells[["dose_a", "dose_b"]].to_numpy()]
    assert found.cells["hsa_expected"].to_numpy() == pytest.approx(expected, abs=1e-9)
    assert found.summary.loc["bliss", "excess"] == pytest.approx(0.1)
    assert found.summary.loc["zip", "excess"] == pytest.approx(0.1, abs=0.02)


def test_a_compound_combined_with_itself_is_additive_by_loewe_alone() -> None:
    found = synergy(matrix(lambda a, b: hill(a + b, *A), noise=0.0))
    ok = found.cells["loewe_status"] == "ok"
    assert ok.all()
    assert found.cells["loewe_excess"].to_numpy() == pytest.approx(0, abs=2e-3)
    assert found.cells["bliss_excess"].abs().max() > 0.05


def test_loewe_solves_its_equation_and_is_silent_beyond_the_weaker_compound() -> None:
    curves = np.array([[0.9, 1.0, 1.3], [0.4, 3.0, 1.6]])
    y = loewe_effect(np.array([[0.3, 1.0], [50.0, 1.0]]), curves)
    inverse = [ec50 * (top / y[0] - 1) ** (-1 / slope) for top, ec50, slope in curves]
    assert 0.3 / inverse[0] + 1.0 / inverse[1] == pytest.approx(1)
    assert np.isnan(y[1])


def test_the_interval_of_the_mean_excess_covers_with_plates_that_differ() -> None:
    held = 0
    for seed in range(16):
        rng = np.random.default_rng(1000 + seed)
        table = matrix(bliss, replicates=4, plates=4, seed=seed)
        shift = dict(zip([f"P{k}" for k in range(4)], rng.normal(0, 0.02, 4), strict=True))
        table["response"] += table["plate"].map(shift)
        one = synergy(table, draws=60, seed=seed).summary.loc["hsa"]
        # HSA's true mean excess of Bliss-independent wells
        truth = np.mean([bliss(a, b) - max(hill(a, *A), hill(b, *B)) for a in DOSES[1:] for b in DOSES[1:]])
        held += one["low"] <= truth <= one["high"]
    assert held >= 13


def test_antagonism_is_told_from_synergy() -> None:
    found = synergy(matrix(lambda a, b: bliss(a, b) * (0.6 if a > 0 and b > 0 else 1.0)))
    assert found.summary.loc["bliss", "verdict"] == "antagonism"
    assert (found.cells["bliss_high"] >= found.cells["bliss_low"]).all()


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        ([], "no well holds both compounds"),
        ([(1.0, 0.0, 0.3), (0.0, 1.0, 0.3)], "no well holds both compounds"),
        ([(1.0, 1.0, 0.3)], "a compound has no wells by itself"),
        ([(1.0, 0.0, 0.3), (0.0, 1.0, 0.2), (1.0, 1.0, 0.5)], "no interval: too few replicate wells"),
        ([(1.0, 0.0, np.nan), (0.0, 1.0, np.inf), (1.0, -1.0, 0.5)], "no well holds both compounds"),
    ],
)
def test_what_cannot_be_computed_is_said(rows: list[tuple[float, float, float]], status: str) -> None:
    found = synergy(pd.DataFrame(rows, columns=["dose_a", "dose_b", "response"]))
    assert found.status == status
    assert list(found.summary.index) == list(MODELS)
    numbers = found.cells.select_dtypes("number").to_numpy(float)
    assert not np.isinf(numbers).any()


@pytest.mark.parametrize("value", [0.0, 1.0, 1e6, -5.0])
def test_constant_and_absurd_responses_give_no_infinite_number(value: float) -> None:
    found = synergy(matrix(lambda a, b: value, noise=0.0), draws=20)
    numbers = found.cells.select_dtypes("number").to_numpy(float)
    assert not np.isinf(numbers).any()


def test_a_dose_that_was_not_tested_alone_has_no_bliss() -> None:
    table = matrix(bliss)
    table = table[~((table["dose_a"] == 1.6) & (table["dose_b"] == 0))]
    found = synergy(table, draws=20)
    lost = found.cells["dose_a"] == 1.6
    assert (found.cells.loc[lost, "bliss_status"] == "not_computable").all()
    assert (found.cells.loc[~lost, "bliss_status"] == "ok").all()
    assert found.cells.loc[lost, "loewe_excess"].notna().any()
