"""Competing pathways: what cells draw must agree with what the formulas expect."""

import numpy as np
import pytest

from plates.simulation.death import (
    RESPONSE,
    Compound,
    Hazard,
    dominant_pathway,
    draw_fate,
    expected_death,
    expected_fractions,
    random_compound,
    true_ec50,
)
from plates.states import DEAD, STATES

MIXED = Compound(
    "mixed",
    {
        "apoptosis": Hazard(0.5, 0.15, 1.5, 1.0),
        "necrosis": Hazard(4.0, 0.3, 2.0, 0.5),
        RESPONSE: Hazard(0.2, 0.4, 1.5, 0.5),
    },
)


@pytest.mark.parametrize("dose", [0.1, 1.0, 10.0])
def test_drawn_fates_follow_the_expected_fractions(dose: float) -> None:
    rng = np.random.default_rng(4)
    hours = 12.0
    states = [draw_fate(rng, MIXED, dose).state(hours) for _ in range(4000)]
    drawn = np.array([states.count(state) for state in STATES]) / len(states)
    expected = expected_fractions(MIXED, [dose], hours)[0]
    assert expected.sum() == pytest.approx(1, abs=1e-3)
    # four standard errors of 4000 draws
    assert np.all(np.abs(drawn - expected) < 4 * np.sqrt(0.25 / 4000))


def test_a_compound_that_switches_pathway_is_dominated_by_either() -> None:
    assert dominant_pathway(MIXED, 0.5, 16) == "apoptosis"
    assert dominant_pathway(MIXED, 100.0, 3) == "necrosis"
    assert dominant_pathway(Compound("inert"), 100.0, 16) == "none"


def test_an_inhibitor_turns_one_pathway_off() -> None:
    left = expected_fractions(MIXED.without("apoptosis"), [5.0], 10)[0]
    untreated = expected_fractions(None, [0.0], 10)[0]
    assert left[0] == pytest.approx(untreated[0], abs=0.01)
    assert left[2] > 0.3


def test_the_true_ec50_halves_the_way_from_no_dose_to_endless_dose() -> None:
    hours = 14.0
    ec50 = true_ec50(MIXED, hours)
    low, half, high = expected_death(MIXED, np.array([1e-9, ec50, 1e9]), hours)
    assert half == pytest.approx((low + high) / 2, abs=2e-3)
    assert np.isnan(true_ec50(Compound("inert"), hours))


def test_the_two_formulas_for_death_agree() -> None:
    doses = np.array([0.05, 0.5, 5.0])
    by_states = expected_fractions(MIXED, list(doses), 9.0)[:, :3].sum(axis=1)
    assert by_states == pytest.approx(expected_death(MIXED, doses, 9.0), abs=2e-3)


def test_markers_come_after_the_index_changes_and_pi_late_in_apoptosis() -> None:
    rng = np.random.default_rng(1)
    for pathway in DEAD:
        compound = Compound("x", {pathway: Hazard(0.01, 5.0, 2.0, 0.0)})
        fates = [draw_fate(rng, compound, 10.0) for _ in range(200)]
        fates = [fate for fate in fates if fate.pathway == pathway]
        annexin = np.array([fate.annexin_h - fate.onset_h for fate in fates])
        pi = np.array([fate.pi_h - fate.onset_h for fate in fates])
        assert len(fates) > 150
        assert np.all(annexin > 0)
        lead = {"apoptosis": (5, 9), "necroptosis": (2, 4), "necrosis": (0.3, 1.0)}[pathway]
        assert pi.min() >= lead[0]
        assert pi.max() <= lead[1]


def test_a_library_is_the_same_for_the_same_seed() -> None:
    first = random_compound(np.random.default_rng(8), "a")
    assert random_compound(np.random.default_rng(8), "a") == first
    assert random_compound(np.random.default_rng(9), "a") != first
