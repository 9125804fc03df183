"""Fractions of greatest likelihood from calibrated probabilities, for all wells of a plate at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STEPS = 100
TOLERANCE = 1e-8  # of the conditions of the maximum, in units of a fraction
PATCHES_AT_ONCE = 1 << 15  # what the processor's cache holds
RIDGE = 1e-10
ROUNDING = 1e-12
UNDECIDED = 1e12  # mean squared score that leaves an interval open
LEAVING = 0.7  # copying the others costs as much as a step of a third of them

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Expected:
    """Fractions of greatest likelihood, and each patch's influence on them, summed over fields."""

    fraction: Floats  # (well, timepoint, state), within the simplex
    patches: Floats  # (well, timepoint, field)
    sums: Floats  # (well, timepoint, field, group), of the scores (see `quantification.em_fractions`)
    second: Floats  # (well, timepoint, group, true state), mean squared score of patches of a state
    raw: Floats  # (well, timepoint, field, group), of the probabilities
    raw_variance: Floats  # (well, timepoint, group), of one patch's probability


def expect(probability: NDArray[np.generic], prior: Floats, *, field: NDArray[np.int64], members: Floats) -> Expected:
    """Maximise the likelihood of each well's probabilities, (well, timepoint, patch, state), over its fractions.

    Parameters
    ----------
    probability
        Calibrated for the `prior`; rows that are missing, negative or empty do not count.
    field
        (patch,): number of each patch's field.
    members
        (group, state): 1 where the state is of the group.
    """
    wells, timepoints, patches, states = probability.shape
    units = probability.reshape(wells * timepoints, patches, states)
    fields = int(field.max(initial=0)) + 1
    of_field = np.eye(fields)[:, field]  # (field, patch)
    size = max(1, PATCHES_AT_ONCE // max(patches, 1))
    parts = [_expect(units[start : start + size], prior, of_field, members) for start in range(0, len(units), size)]
    groups = len(members)
    shapes = ((states,), (fields,), (fields, groups), (groups, states), (fields, groups), (groups,))
    joined = (
        np.concatenate([part[k] for part in parts]) if parts else np.zeros((0, *shape))
        for k, shape in enumerate(shapes)
    )
    return Expected(*(values.reshape(wells, timepoints, *shape) for values, shape in zip(joined, shapes, strict=True)))


def _expect(probability: NDArray[np.generic], prior: Floats, of_field: Floats, members: Floats) -> tuple[Floats, ...]:
    """One part of the wells, (unit, patch, state), as the fields of `Expected`."""
    # (unit, state, patch): NumPy is slow along an axis of a few states
    p = np.ascontiguousarray(probability.transpose(0, 2, 1), dtype=float)
    with np.errstate(invalid="ignore"):  # inf - inf
        total = p.sum(axis=1)
        there = np.isfinite(total) & (p.min(axis=1, initial=np.inf) >= 0) & (total > 0)
    p /= np.where(there, total, 1.0)[:, None]
    np.copyto(p, 0.0, where=~there[:, None])
    number = there.sum(axis=1).astype(float)
    safe = np.maximum(number, 1)
    ratio = p / prior[:, None]  # likelihood of each state up to a factor
    absent = (~there).astype(float)
    fraction = _maximise(ratio, absent, safe)
    ratio /= _mixture(ratio, fraction, absent)[:, None]
    information = np.matmul(ratio, ratio.transpose(0, 2, 1)) / safe[:, None, None]
    inverse = np.matmul(members, _inverse(information))  # (unit, group, state)
    score = np.matmul(inverse, ratio)
    second = np.matmul(score**2, ratio.transpose(0, 2, 1)) / safe[:, None, None]
    second[_undecided(information, inverse, members)] = UNDECIDED
    p = np.matmul(members, p)
    raw = np.matmul(p, of_field.T).transpose(0, 2, 1)
    mean = raw.sum(axis=1) / safe[:, None]
    variance = np.maximum((p**2).sum(axis=2) / safe[:, None] - mean**2, 0)
    patches = np.matmul(there.astype(float), of_field.T)
    return fraction, patches, np.matmul(score, of_field.T).transpose(0, 2, 1), second, raw, variance


def _maximise(ratio: Floats, absent: Floats, number: Floats) -> Floats:
    """Fractions that maximise the mean log of fraction @ ratio; units leave as they arrive.

    Newton's steps on the parts that are not held at 0, as in Kim, Carbonetto, Stephens and Anitescu (2020,
    "mixsqp"): with the constraint sum p = 1 added as + sum p to the negative mean log likelihood, the maximum is
    the same and only p >= 0 remains. Where such a step makes it worse, the step of EM is taken, which never does.
    """
    units, states, _ = ratio.shape
    fraction = np.full((units, states), 1 / states)
    at = np.arange(units)
    here = fraction.copy()
    mixture = _mixture(ratio, here, absent)
    best = -np.log(mixture).sum(axis=1) / number
    for _ in range(STEPS):
        scaled = ratio / mixture[:, None]
        gradient = 1 - scaled.sum(axis=2) / number[:, None]
        left = np.abs(here - np.maximum(here - gradient, 0)).max(axis=1) > TOLERANCE
        fraction[at] = here
        if not left.any():
            return fraction
        if left.mean() < LEAVING:
            at, ratio, absent, number = at[left], ratio[left], absent[left], number[left]
            here, best, scaled, gradient = here[left], best[left], scaled[left], gradient[left]
        curvature = np.matmul(scaled, scaled.transpose(0, 2, 1)) / number[:, None, None]
        free = (here > 0) | (gradient < 0)
        curvature *= free[:, :, None] & free[:, None, :]
        step = np.matmul(_inverse(curvature), np.where(free, gradient, 0.0)[..., None])[..., 0]
        trial = _normalised(np.maximum(here - np.where(free, step, 0.0), 0))
        mixture = _mixture(ratio, trial, absent)
        value = -np.log(np.maximum(mixture, np.finfo(float).tiny)).sum(axis=1) / number
        worse = ~(value <= best + ROUNDING)
        if worse.any():
            trial[worse] = _normalised(here[worse] * (1 - gradient[worse]))
            mixture[worse] = _mixture(ratio[worse], trial[worse], absent[worse])
            value[worse] = -np.log(mixture[worse]).sum(axis=1) / number[worse]
        here, best = trial, value
    fraction[at] = here
    return fraction


def _mixture(ratio: Floats, fraction: Floats, absent: Floats) -> Floats:
    """Likelihood of each patch, (unit, patch), up to a factor; 1 where there is none."""
    result: Floats = np.matmul(fraction[:, None], ratio)[:, 0] + absent
    return result


def _normalised(values: Floats) -> Floats:
    total = values.sum(axis=1, keepdims=True)
    result: Floats = np.where(total > 0, values / np.where(total > 0, total, 1.0), 1 / values.shape[1])
    return result


def _undecided(information: Floats, inverse: Floats, members: Floats) -> NDArray[np.bool_]:
    """(unit, group): groups whose fraction the patches leave open, since they speak for another state as much."""
    missed = np.abs(np.matmul(inverse, information) - members) > 1e-3
    silent = np.diagonal(information, axis1=-2, axis2=-1) <= 1e-8 * np.trace(information, axis1=-2, axis2=-1)[:, None]
    missed &= ~((members > 0) & silent[:, None])  # states of which no patch speaks: there are none
    return np.asarray(missed.any(axis=2))


def _inverse(information: Floats) -> Floats:
    """Inverse of each matrix, a hair of ridge added: a state that no patch speaks for has no information."""
    states = information.shape[-1]
    size = np.trace(information, axis1=-2, axis2=-1)[:, None, None] / states
    inverse = np.linalg.inv(information + RIDGE * np.where(size > 0, size, 1.0) * np.eye(states))
    return np.asarray(inverse, dtype=np.float64)
