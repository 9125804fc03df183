"""Corrected fractions hit the truth that raw ones miss, and their intervals hold what the correction costs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize

from screening.analysis.quantification import (
    adjusted_fractions,
    condition_number,
    em_fractions,
    project_to_simplex,
)

from .confused import CONFUSION, FEW, MANY, calls, kinds_of, known, observe, probabilities

EQUAL = np.full(5, 0.2)


@pytest.mark.parametrize(("fields", "cells", "required"), [(4, 80, 0.92), (9, 40, 0.93)])
@pytest.mark.parametrize("truth", [FEW, MANY], ids=["5 %", "40 %"])
def test_corrected_intervals_cover_the_truth_that_raw_ones_miss(
    truth: np.ndarray, fields: int, cells: int, required: float
) -> None:
    rng = np.random.default_rng(fields)
    covered: dict[str, list[float]] = {"adjusted": [], "em": [], "raw": []}
    wells = np.repeat(truth[None], 24, axis=0)
    for _ in range(25):
        classifier = known(rng)
        kinds = observe(rng, wells, fields=fields, cells=cells, phi=0.03)
        field = np.repeat(np.arange(fields), cells)
        found = {
            "adjusted": adjusted_fractions(calls(kinds), classifier.confusion),
            "em": em_fractions(probabilities(kinds, classifier.posterior), EQUAL, classifier.confusion, field=field),
            "raw": adjusted_fractions(calls(kinds), np.eye(5) * 1e9),  # the calls taken for the truth
        }
        for name, result in found.items():
            covered[name].append(float(((result.low <= wells) & (wells <= result.high)).mean()))
    assert required <= np.mean(covered["adjusted"]) <= 0.985
    assert required <= np.mean(covered["em"]) <= 0.985
    assert np.mean(covered["raw"]) < 0.9


def test_corrected_fractions_have_no_bias_where_raw_ones_have() -> None:
    rng = np.random.default_rng(1)
    wells = np.repeat(MANY[None], 400, axis=0)
    kinds = observe(rng, wells, fields=4, cells=80, phi=0.03)
    matrix = CONFUSION * 1e6
    found = adjusted_fractions(calls(kinds), matrix)
    raw = calls(kinds).sum(axis=1) / 320
    assert abs(raw[:, 0].mean() - 0.4) > 0.03
    np.testing.assert_allclose(found.fraction.mean(axis=0), MANY, atol=0.008)
    exact = kinds_of() / kinds_of().sum(axis=0)
    em = em_fractions(probabilities(kinds, exact.T), EQUAL, matrix, field=np.repeat(np.arange(4), 80))
    np.testing.assert_allclose(em.fraction.mean(axis=0), MANY, atol=0.008)


def test_the_price_is_how_much_further_estimates_scatter() -> None:
    rng = np.random.default_rng(2)
    wells = np.repeat(MANY[None], 600, axis=0)
    kinds = observe(rng, wells, fields=4, cells=80, phi=0.03)
    found = adjusted_fractions(calls(kinds), CONFUSION * 1e6)
    raw = calls(kinds).sum(axis=1) / 320
    np.testing.assert_allclose(found.price.mean(axis=0), found.fraction.std(axis=0) / raw.std(axis=0), rtol=0.12)
    assert (found.price > 1.05).all()


def test_two_states_give_rogan_and_gladens_estimate() -> None:
    sensitivity, specificity, called = 0.9, 0.8, 0.35
    counts = np.array([[35, 65]])  # one field, the first state is the one looked for
    confusion = [[900, 100], [200, 800]]
    found = adjusted_fractions(counts, confusion)
    assert found.fraction[0] == pytest.approx((called + specificity - 1) / (sensitivity + specificity - 1))


def test_a_perfect_classifier_known_exactly_gives_wilsons_interval() -> None:
    for count in (0, 1, 7, 30):
        found = adjusted_fractions([[count, 30 - count]], np.eye(2) * 1e12, dispersion=0.0)
        wilson = stats.binomtest(count, 30).proportion_ci(method="wilson")
        assert (found.low[0], found.high[0]) == pytest.approx((wilson.low, wilson.high), abs=1e-6)


def test_probabilities_that_are_certain_give_wilsons_interval_too() -> None:
    certain = np.repeat(np.eye(2), [7, 23], axis=0)
    found = em_fractions(certain, [0.5, 0.5], np.eye(2) * 1e12, dispersion=0.0)
    wilson = stats.binomtest(7, 30).proportion_ci(method="wilson")
    assert found.fraction[0] == pytest.approx(7 / 30)
    assert (found.low[0], found.high[0]) == pytest.approx((wilson.low, wilson.high), abs=1e-5)


def test_hard_calls_are_the_same_to_both_methods() -> None:
    rng = np.random.default_rng(3)
    kinds = observe(rng, np.repeat(MANY[None], 20, axis=0), fields=4, cells=80, phi=0.03)
    matrix = known(rng).confusion
    adjusted = adjusted_fractions(calls(kinds), matrix)
    inside = (adjusted.fraction > 0.001).all(axis=1)
    assert inside.sum() > 10
    share = matrix / matrix.sum(axis=1, keepdims=True)
    likelihood = np.repeat((share / share.sum(axis=0)).T, 3, axis=0)  # of a call, whatever its probability
    em = em_fractions(probabilities(kinds, likelihood), EQUAL, matrix, field=np.repeat(np.arange(4), 80))
    np.testing.assert_allclose(em.fraction[inside], adjusted.fraction[inside], atol=1e-6)
    np.testing.assert_allclose(em.low[inside], adjusted.low[inside], atol=0.003)
    np.testing.assert_allclose(em.high[inside], adjusted.high[inside], atol=0.003)


def test_the_greatest_likelihood_is_what_em_of_saerens_finds_step_by_step() -> None:
    rng = np.random.default_rng(4)
    prior = np.array([0.1, 0.2, 0.3, 0.4])
    for concentration in (0.3, 3.0):
        posterior = rng.dirichlet(prior * 4 * concentration, size=(4, 150))
        posterior[2:, :, 0] *= 0.2  # drives a state to 0
        posterior /= posterior.sum(axis=-1, keepdims=True)
        found = em_fractions(posterior, prior, np.eye(4) * 1e6)
        for well in range(4):
            current = prior
            for _ in range(2000):
                moved = posterior[well] * current / prior
                current = (moved / moved.sum(axis=1, keepdims=True)).mean(axis=0)
            np.testing.assert_allclose(found.fraction[well], current, atol=2e-3)
            reached, theirs = (np.log(posterior[well] / prior @ p).sum() for p in (found.fraction[well], current))
            assert reached >= theirs - 1e-9


def test_projection_is_the_nearest_point_of_the_simplex() -> None:
    rng = np.random.default_rng(5)
    for point in rng.normal(0.25, 0.5, size=(6, 4)):
        near = minimize(
            lambda p, to=point: ((p - to) ** 2).sum(),
            np.full(4, 0.25),
            bounds=[(0, 1)] * 4,
            constraints={"type": "eq", "fun": lambda p: p.sum() - 1},
            options={"ftol": 1e-14},
        )
        np.testing.assert_allclose(project_to_simplex(point), near.x, atol=1e-4)


def test_a_matrix_from_few_patches_widens_the_interval_and_from_hardly_any_leaves_it_open() -> None:
    counts = np.repeat([[40, 10, 10, 10, 10]], 4, axis=0)
    width = []
    for labelled in (100000, 300, 60):
        found = adjusted_fractions(counts, CONFUSION * labelled, dispersion=0.01)
        width.append(found.high[0] - found.low[0])
    assert width[0] < 0.95 * width[1] < 0.9 * width[2]
    crowded = adjusted_fractions(counts, CONFUSION * 300, effective=np.full(5, 60), dispersion=0.01)
    assert crowded.high[0] - crowded.low[0] == pytest.approx(width[2], rel=0.05)
    hardly = adjusted_fractions([[6, 4]], [[6, 4], [4, 6]], effective=[2, 2])
    assert (hardly.low[0], hardly.high[0]) == (0, 1)


def test_leaving_the_doubt_of_the_matrix_out_would_not_cover() -> None:
    rng = np.random.default_rng(6)
    covered: dict[str, list[float]] = {"with": [], "without": []}
    wells = np.repeat(MANY[None], 10, axis=0)
    for _ in range(40):
        matrix = known(rng, labelled=40).confusion
        counts = calls(observe(rng, wells, fields=9, cells=40, phi=0.0))
        for name, scale in (("with", 1), ("without", 1e6)):
            found = adjusted_fractions(counts, matrix * scale)
            covered[name].append(float(((found.low <= wells) & (wells <= found.high)).mean()))
    assert np.mean(covered["with"]) > 0.93
    assert np.mean(covered["without"]) < 0.9


def test_the_dispersion_of_the_true_states_is_found_through_a_confused_classifier() -> None:
    rng = np.random.default_rng(7)
    wells = rng.dirichlet(np.ones(5), size=400)
    for phi in (0.0, 0.03, 0.1):
        counts = calls(observe(rng, wells, fields=4, cells=80, phi=phi))
        found = adjusted_fractions(counts, CONFUSION * 1e6)
        np.testing.assert_allclose(found.dispersion, phi, atol=0.012 + 0.1 * phi)


def test_one_field_a_well_assumes_a_dispersion() -> None:
    found = adjusted_fractions(np.full((10, 1, 5), 20), CONFUSION * 300)
    assert (found.freedom, set(found.dispersion)) == (0, {0.05})


def test_a_matrix_that_tells_states_hardly_apart_is_refused_with_the_reason() -> None:
    alike = np.full((3, 3), 100) + np.diag([10, 10, 10])
    assert condition_number(alike) == pytest.approx(31)
    found = adjusted_fractions(np.full((2, 4, 3), 10), alike)
    assert np.isnan(found.fraction).all()
    assert found.fraction.shape == (2, 3)
    assert "condition number of the confusion matrix is 31, above 10" in found.status
    em = em_fractions(np.full((2, 4, 3), 1 / 3), np.full(3, 1 / 3), alike)
    assert np.isnan(em.fraction).all()
    assert em.status == found.status


@pytest.mark.parametrize(
    ("confusion", "reason"),
    [
        ([[50, 2], [0, 0]], "fewer than 10 patches"),
        ([[50, np.nan], [1, 50]], "no counts"),
        ([[50, -1], [1, 50]], "no counts"),
        ([[50, np.inf], [1, 50]], "no counts"),
    ],
)
def test_matrices_that_say_nothing_are_refused(confusion: list[list[float]], reason: str) -> None:
    found = adjusted_fractions([[3, 4]], confusion)
    assert reason in found.status
    assert np.isnan(found.low).all()


def test_a_prior_of_nothing_is_refused_by_em() -> None:
    found = em_fractions([[0.5, 0.5]], [1.0, 0.0], np.eye(2) * 100)
    assert "prior" in found.status


def test_hostile_patches_do_not_count_and_empty_wells_stay_empty() -> None:
    good = np.array([[30.0, 10.0], [20.0, 20.0]])
    bad = np.array([[np.nan, 5.0], [np.inf, 1.0], [-3.0, 9.0], [0.0, 0.0]])
    matrix = [[90, 10], [5, 95]]
    for odd in bad:
        both = adjusted_fractions(np.stack([good, np.vstack([good[:1], odd])]), matrix, dispersion=0.01)
        alone = adjusted_fractions(good[:1], matrix, dispersion=0.01)
        np.testing.assert_allclose(both.fraction[1], alone.fraction)
    empty = adjusted_fractions(np.stack([good, np.zeros((2, 2))]), matrix)
    assert np.isnan(empty.fraction[1]).all()
    assert np.isfinite(empty.fraction[0]).all()
    rows = np.array([[0.9, 0.1], [0.2, 0.8], [np.nan, 0.5], [np.inf, -np.inf], [-1.0, 2.0], [0.0, 0.0]])
    both = em_fractions(np.stack([rows, np.full_like(rows, np.nan)]), [0.5, 0.5], matrix)
    alone = em_fractions(rows[:2], [0.5, 0.5], matrix)
    np.testing.assert_allclose(both.fraction[0], alone.fraction, atol=1e-9)
    assert np.isnan(both.high[1]).all()
    assert adjusted_fractions(np.zeros((0, 4, 2)), matrix).fraction.shape == (0, 2)
    assert em_fractions(np.zeros((0, 7, 2)), [0.5, 0.5], matrix).fraction.shape == (0, 2)
    assert em_fractions(np.zeros((3, 0, 2)), [0.5, 0.5], matrix).fraction.shape == (3, 2)


def test_patches_that_all_say_the_same_keep_an_interval() -> None:
    found = em_fractions(np.tile([0.97, 0.02, 0.01], (50, 1)), np.full(3, 1 / 3), np.eye(3) * 200 + 5)
    assert found.fraction[0] == pytest.approx(1)
    assert found.low[0] < 0.99
    assert found.high[1] > 0.01
    undecided = em_fractions(np.full((50, 3), 1 / 3), np.full(3, 1 / 3), np.eye(3) * 200 + 5)
    assert (undecided.high - undecided.low > 0.9).all()


def test_timepoints_are_corrected_as_each_would_be_and_add_no_freedom() -> None:
    rng = np.random.default_rng(8)
    counts = calls(observe(rng, rng.dirichlet(np.ones(5), size=12), fields=4, cells=80, phi=0.03))
    matrix = known(rng).confusion
    once = adjusted_fractions(counts, matrix)
    often = adjusted_fractions(np.stack([counts] * 3, axis=1), matrix)
    assert often.freedom == once.freedom == 36
    for timepoint in range(3):
        np.testing.assert_allclose(often.high[:, timepoint], once.high)
