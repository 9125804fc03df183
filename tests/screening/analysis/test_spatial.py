"""Effects of place: found where planted, corrected towards the truth, and refused where nobody could know them."""

from __future__ import annotations

import numpy as np
import pytest

from screening.analysis.spatial import edge_t, spatial_tests
from screening.analysis.spatial_correction import fit_trend


def _scattered(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    place = np.random.default_rng(seed).permutation(384)[:number]
    return place // 24, place % 24


def test_morans_i_is_the_double_sum() -> None:
    rows, columns = _scattered(12, 1)
    values = np.random.default_rng(1).normal(size=12)
    centred = values - values.mean()
    above = below = 0.0
    for i in range(12):
        for j in range(12):
            if i != j:
                w = 1 / ((rows[i] - rows[j]) ** 2 + (columns[i] - columns[j]) ** 2)
                above, below = above + w * centred[i] * centred[j], below + w
    expected = 12 / below * above / (centred**2).sum()
    assert spatial_tests(values, rows, columns)["morans_i"] == pytest.approx(expected)


def test_the_edge_statistic_is_its_formula() -> None:
    rim = np.array([True] * 3 + [False] * 5)
    values = np.array([0.2, 0.3, 0.4, 0.08, 0.09, 0.10, 0.11, 0.12])
    t, difference = edge_t(values[:, None], rim)
    assert difference[0] == pytest.approx(0.2)
    assert t[0] == pytest.approx(0.2 / (1.4826 * 0.01 * np.sqrt(1 / 3 + 1 / 5)))


@pytest.mark.parametrize(
    ("plant", "test"),
    [
        (lambda r, c: 0.1 * ((r == 0) | (r == 15) | (c == 0) | (c == 23)), "edge"),
        (lambda r, c: 0.15 * c / 23, "gradient"),
        (lambda r, c: 0.1 * (r % 4 == 1), "row"),
        (lambda r, c: 0.1 * (c % 6 == 2), "column"),
        (lambda r, c: 0.1 * np.sin(r / 2.2) * np.sin(c / 2.2), "morans"),
    ],
)
def test_each_effect_of_place_is_found_by_its_own_test(plant: object, test: str) -> None:
    rows, columns = _scattered(96, 2)
    noise = np.random.default_rng(2).normal(0.05, 0.02, 96)
    found = spatial_tests(noise + plant(rows, columns), rows, columns)  # type: ignore[operator]
    clean = spatial_tests(noise, rows, columns)
    assert found[f"{test}_p"] <= 0.002
    assert found["p"] <= 0.005
    assert clean["p"] > 0.05


def test_clean_plates_are_accused_no_more_often_than_stated() -> None:
    rows, columns = _scattered(32, 3)
    values = np.random.default_rng(3).beta(3, 60, (32, 400))
    values[0] = 0.9  # a contaminated well is no effect of place
    p = spatial_tests(values, rows, columns, permutations=399)["p"]
    assert (p < 0.05).mean() <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)


def test_correction_brings_every_well_nearer_to_the_truth() -> None:
    rows, columns = np.divmod(np.arange(384), 24)
    rng = np.random.default_rng(4)
    vehicle = np.zeros(384, dtype=bool)
    vehicle[rng.permutation(384)[:32]] = True
    surface = 0.2 * columns / 23 + 0.05 * ((rows == 0) | (rows == 15) | (columns == 0) | (columns == 23))
    values = 0.05 + surface + rng.normal(0, 0.02, 384)
    values[np.flatnonzero(vehicle)[[5, 20]]] = 0.95
    trend = fit_trend(values, rows, columns, vehicle)
    assert trend.applied
    assert trend.terms == "plane and step at the rim"
    away = surface - np.median(surface[vehicle])
    left = trend.pattern - away
    assert np.sqrt((left**2).mean()) < 0.25 * np.sqrt((away**2).mean())
    assert trend.weights.min() < 0.2, "two contaminated wells must weigh little"


def test_without_a_test_that_asks_nothing_is_fitted() -> None:
    rows, columns = np.divmod(np.arange(384), 24)
    rng = np.random.default_rng(5)
    vehicle = np.zeros(384, dtype=bool)
    vehicle[rng.permutation(384)[:32]] = True
    trend = fit_trend(rng.normal(0.05, 0.02, 384), rows, columns, vehicle)
    assert not trend.applied
    assert not trend.pattern.any()
    assert "no effect of place" in trend.reason


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (lambda r, c: c < 2, "not scattered"),
        (lambda r, c: (r < 4) & (c < 5), "not scattered"),
        (lambda r, c: (r * 24 + c) % 30 == 0, "16 are the least"),
    ],
)
def test_vehicle_wells_in_one_place_or_too_few_cannot_tell_the_rest_of_the_plate(chosen: object, words: str) -> None:
    rows, columns = np.divmod(np.arange(384), 24)
    values = 0.3 * columns / 23 + np.random.default_rng(6).normal(0, 0.01, 384)
    trend = fit_trend(values, rows, columns, chosen(rows, columns))  # type: ignore[operator]
    assert not trend.applied
    assert words in trend.reason


@pytest.mark.parametrize("values", [np.full(30, np.nan), np.full(30, 0.2), np.full(30, np.inf), np.zeros(0)])
def test_hostile_values_have_no_p_and_give_no_warning(values: np.ndarray) -> None:
    rows, columns = (place[: values.size] for place in _scattered(30, 7))
    found = spatial_tests(values, rows, columns)
    assert np.isnan(found["p"])
    assert found["test"] == ""
    assert not any(np.isinf(x) for name, x in found.items() if name != "test")
