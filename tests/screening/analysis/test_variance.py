"""Variance components, against what was drawn."""

from __future__ import annotations

import numpy as np
import pytest

from screening.analysis.variance import variance_components


def drawn(
    rng: np.random.Generator, *, batches: int, plates: int, wells: int, sd: tuple[float, float, float]
) -> tuple[np.ndarray, ...]:
    batch = np.repeat(np.arange(batches), plates * wells)
    plate = np.repeat(np.arange(batches * plates), wells)
    treatment = np.tile(np.arange(wells) % 8, batches * plates)
    y = rng.normal(0, sd[0], batches)[batch] + rng.normal(0, sd[1], batches * plates)[plate]
    return y + treatment * 0.1 + rng.normal(0, sd[2], y.size), treatment, plate, batch


def test_components_are_unbiased_on_an_unbalanced_campaign() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(60):
        y, treatment, plate, batch = drawn(rng, batches=6, plates=4, wells=24, sd=(0.05, 0.03, 0.08))
        y[rng.random(y.size) < 0.3] = np.nan
        y[(plate == 3) & (treatment > 2)] = np.nan
        found.append(variance_components(y, treatment, plate, batch, draws=20)["variance"].to_numpy())
    assert np.mean(found, axis=0) == pytest.approx([0.05**2, 0.03**2, 0.08**2], rel=0.2)


def test_balanced_components_are_those_of_the_analysis_of_variance() -> None:
    y, _, plate, _ = drawn(np.random.default_rng(1), batches=1, plates=10, wells=12, sd=(0, 0.1, 0.1))
    found = variance_components(y, np.zeros(y.size), plate, draws=20)
    by_plate = y.reshape(10, 12)
    within = by_plate.var(axis=1, ddof=1).mean()
    between = by_plate.mean(axis=1).var(ddof=1) - within / 12
    assert found.loc["plate", "variance"] == pytest.approx(between)
    assert found.loc["well", "variance"] == pytest.approx(within)
    assert found.loc["batch", "status"] == "one_level"
    assert found["share"].sum() == pytest.approx(1)


def test_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(2)
    held = 0
    for seed in range(60):
        y, treatment, plate, _ = drawn(rng, batches=1, plates=12, wells=16, sd=(0, 0.05, 0.05))
        row = variance_components(y, treatment, plate, draws=100, seed=seed).loc["plate"]
        held += bool(row["variance_low"] <= 0.05**2 <= row["variance_high"])
    assert held / 60 > 0.8


def test_batches_of_one_plate_each_cannot_be_told_from_plates() -> None:
    y, treatment, plate, _ = drawn(np.random.default_rng(3), batches=1, plates=5, wells=16, sd=(0, 0.1, 0.1))
    found = variance_components(y, treatment, plate, plate)
    assert found.loc["batch", "status"] == "not_separable"
    assert found.loc["plate", "status"] == "estimated"


@pytest.mark.parametrize("y", [[], [1.0], [np.nan] * 4, [2.0] * 4, [np.inf, 1.0, 2.0, 3.0]])
def test_hostile_values_have_a_status_and_no_infinite_number(y: list[float]) -> None:
    found = variance_components(np.array(y), np.zeros(len(y)), np.arange(len(y)) % 2)
    assert set(found["status"]) <= {"estimated", "one_level", "not_computable", "not_separable"}
    assert not np.isinf(found[["variance", "sd", "variance_high"]].to_numpy(float)).any()
