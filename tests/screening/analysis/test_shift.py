"""Wells that a classifier's validation explains pass; wells whose cells look otherwise do not."""

from __future__ import annotations

import numpy as np
import pytest

from screening.analysis.quantification import adjusted_fractions
from screening.analysis.shift import Shift, check_shift

from .confused import CONFUSION, calls, kinds_of, known, observe

VEHICLE = np.array([0.01, 0.01, 0.02, 0.90, 0.06])


def plate(rng: np.random.Generator) -> np.ndarray:
    """A quarter vehicle, the rest of any composition."""
    return np.concatenate([np.repeat(VEHICLE[None], 24, axis=0), rng.dirichlet(np.ones(5), size=72)])


def checked(rng: np.random.Generator, kinds: np.ndarray | None = None, *, by_score: bool = True) -> Shift:
    """A plate seen with other kinds of patches than those on which the errors were counted."""
    classifier = known(rng)
    seen = observe(rng, plate(rng), fields=4, cells=80, phi=0.03, kinds=kinds)
    fraction = adjusted_fractions(calls(seen), classifier.confusion).fraction
    observed, validated = (seen, classifier.validated) if by_score else (calls(seen), classifier.confusion)
    return check_shift(observed[:, None], validated, fraction[:, None])


def test_a_plate_like_the_validation_is_not_called_shifted() -> None:
    rng = np.random.default_rng(0)
    found = [checked(rng) for _ in range(20)]
    p = np.concatenate([shift.p.ravel() for shift in found])
    assert 0.005 < (p < 0.05).mean() < 0.06
    assert np.mean([shift.shifted.mean() for shift in found]) < 0.02
    assert not any(shift.plate_shifted for shift in found)


def test_calls_that_are_less_sure_than_they_were_are_seen_on_plate_and_wells() -> None:
    found = checked(np.random.default_rng(1), kinds_of(right=(0.35, 0.25, 0.40)))
    assert found.plate_shifted
    assert found.shifted.mean() > 0.5


def test_a_state_that_looks_otherwise_is_seen_in_the_wells_that_hold_it() -> None:
    # a third of the apoptotic cells of this plate look like treated live ones, and the classifier is unsure of them
    kinds = kinds_of()
    kinds[0] *= 0.67
    kinds[0, 12] += 0.33
    rng = np.random.default_rng(2)
    classifier, wells = known(rng), plate(rng)
    seen = observe(rng, wells, fields=4, cells=80, phi=0.03, kinds=kinds)
    fraction = adjusted_fractions(calls(seen), classifier.confusion).fraction
    found = check_shift(seen[:, None], classifier.validated, fraction[:, None])
    assert found.shifted[wells[:, 0] > 0.4].mean() > 0.7
    assert found.shifted[:24].mean() < 0.2


def test_calls_alone_show_only_what_no_mixture_explains() -> None:
    rng = np.random.default_rng(3)
    blind = checked(rng, kinds_of(right=(0.35, 0.25, 0.40)), by_score=False)
    assert not blind.plate_shifted
    # fewer cells are called the fourth state than in wells that hold none of it
    seen = np.zeros((40, 1, 4, 5))
    seen[..., 0], seen[..., 1] = 78, 2
    fraction = adjusted_fractions(seen[:, 0], CONFUSION * 1000).fraction
    found = check_shift(seen, CONFUSION * 1000, fraction[:, None])
    assert found.plate_shifted


def test_fields_that_disagree_are_no_shift() -> None:
    # every other field is out of focus, where calls are less sure; on average they are as sure as ever
    rng = np.random.default_rng(4)
    classifier, wells = known(rng, labelled=3000), plate(rng)
    timid, sure = kinds_of(right=(0.30, 0.25, 0.45)), kinds_of(right=(0.0, 0.25, 0.75))
    focused = rng.random((96, 6, 1)) < 0.5
    seen = np.where(
        focused, *(observe(rng, wells, fields=6, cells=80, phi=0.03, kinds=kinds) for kinds in (sure, timid))
    )
    fraction = adjusted_fractions(calls(seen), classifier.confusion).fraction
    found = check_shift(seen[:, None], classifier.validated, fraction[:, None])
    as_one = check_shift(seen.sum(axis=1)[:, None, None], classifier.validated, fraction[:, None])
    assert found.shifted.mean() < 0.5 * as_one.shifted.mean()
    assert not found.plate_shifted


def test_few_validation_patches_leave_room() -> None:
    rng = np.random.default_rng(5)
    classifier = known(rng, labelled=40)
    seen = observe(rng, plate(rng), fields=4, cells=80, phi=0.03)
    fraction = adjusted_fractions(calls(seen), classifier.confusion).fraction
    few = check_shift(seen[:, None], classifier.validated, fraction[:, None])
    certain = check_shift(seen[:, None], classifier.validated * 1000, fraction[:, None])
    assert few.shifted.mean() < 0.05
    assert certain.shifted.mean() > 0.3
    crowded = check_shift(seen[:, None], classifier.validated * 1000, fraction[:, None], effective=np.full(5, 40))
    assert crowded.shifted.mean() < 0.05


@pytest.mark.parametrize("wells", [0, 3])
def test_plates_without_patches_are_not_judged(wells: int) -> None:
    found = check_shift(np.zeros((wells, 2, 4, 15)), np.full((5, 15), 20), np.full((wells, 2, 5), np.nan))
    assert np.isnan(found.p).all()
    assert not found.shifted.any()
    assert not found.plate_shifted
    assert np.isnan(found.plate_p)
