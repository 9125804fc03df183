"""Whether two compounds kill differently: one split among pathways for both, or one each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from .pathway_model import PARAMETERS, Fit, Penalty, Wells, fit, probabilities, weak_penalty

Array: TypeAlias = NDArray[Any]

SHARED = 6  # level, trend and bend of two contrasts; the bend is penalised, so that the test is a little cautious
CHUNK = 400  # pairs at a time


@dataclass(frozen=True)
class Differences:
    """For each pair: twice the difference of quasi-log-likelihoods over phi, its F test, its bootstrap (NaN: none)."""

    statistic: Array
    p_value: Array
    p_bootstrap: Array


def compare_pathways(wells: Wells, pairs: Array, *, freedom: int, draws: int = 0, seed: int = 0) -> Differences:
    """Test whether the compounds of each pair kill by the same pathways at the same effect.

    The split is a function of the compound's own effect, u = h (X - E), so compounds of different potency and
    steepness are compared where each does as much of what it can do. Under the null hypothesis both follow one split;
    potency, slope and top stay their own. Twice the log-likelihood ratio over six is referred to F(6, freedom), or,
    with `draws`, to the same statistic of wells drawn from the fit of the null hypothesis.

    Parameters
    ----------
    wells
        Compounds with numbers already divided by the dispersion phi.
    pairs
        (pair, 2) rows of `wells`.
    freedom
        Degrees of freedom behind phi.
    draws, seed
        Of the parametric bootstrap: 0 for none. Its smallest p value is 1 / (draws + 1).
    """
    pairs = np.asarray(pairs, dtype=int).reshape(-1, 2)
    single = fit(wells, None)
    statistic = np.full(len(pairs), np.nan)
    nulls = np.full((len(pairs), 2 * PARAMETERS), np.nan)
    for start in range(0, len(pairs), CHUNK):
        part = slice(start, start + CHUNK)
        nulls[part], joint = _common(wells, single, pairs[part])
        statistic[part] = 2 * (single.objective[pairs[part]].sum(axis=1) - joint)
    statistic = np.maximum(statistic, 0.0)
    p = stats.f.sf(statistic / SHARED, SHARED, freedom)
    bootstrap = np.full(len(pairs), np.nan)
    if draws:
        rng = np.random.default_rng(seed)
        for k, pair in enumerate(pairs):
            null = _null(wells.take(pair), nulls[k].reshape(2, PARAMETERS), rng, draws)
            bootstrap[k] = (1 + (null >= statistic[k]).sum()) / (1 + draws)
    return Differences(statistic, p, bootstrap)


def _common(wells: Wells, single: Fit, pairs: Array) -> tuple[Array, Array]:
    """Parameters (pair, 18) and objective of one split for both compounds."""
    theta = single.theta[pairs].copy()  # (pair, 2, parameter)
    information = single.information[pairs][..., 3:, 3:]
    total = information.sum(axis=1)
    pooled = np.einsum("nckl,ncl->nk", information, theta[..., 3:])
    theta[..., 3:] = np.linalg.solve(total, pooled[..., None])[..., 0][:, None]
    first, second = wells.take(pairs[:, 0]), wells.take(pairs[:, 1])
    return _climb_together((first, second), theta)


def _climb_together(both: tuple[Wells, Wells], theta: Array, *, steps: int = 40) -> tuple[Array, Array]:
    """Fisher scoring over (E, h, top) of either compound and the split they share."""
    penalties = [weak_penalty(one) for one in both]
    places = [np.r_[0:3, 6:12], np.r_[3:6, 6:12]]
    own = np.concatenate([theta[:, 0, :3], theta[:, 1, :3], theta[:, 0, 3:]], axis=1)
    objective, gradient, information = _joint(both, penalties, places, own)
    damping = np.full(len(own), 1e-3)
    going = np.arange(len(own))
    for _ in range(steps):
        if not going.size:
            break
        diagonal = np.einsum("bkk->bk", information[going])
        damped = information[going] + np.eye(own.shape[1]) * (damping[going, None] * diagonal)[:, None, :]
        step = np.linalg.solve(damped, gradient[going][..., None])[..., 0]
        step *= np.minimum(1.0, 2.0 / np.maximum(np.abs(step).max(axis=1), 1e-300))[:, None]
        trial = own[going] + step
        reached, slope, curvature = _joint(
            (both[0].take(going), both[1].take(going)), [one.take(going) for one in penalties], places, trial
        )
        gain = reached - objective[going]
        better = gain > 0
        up = going[better]
        own[up], objective[up] = trial[better], reached[better]
        gradient[up], information[up] = slope[better], curvature[better]
        damping[going] = np.where(better, np.maximum(damping[going] / 5, 1e-9), damping[going] * 10)
        going = going[~((np.abs(gain) < 1e-7) | (damping[going] > 1e8))]
    split = own[:, 6:]
    return np.concatenate([own[:, :3], split, own[:, 3:6], split], axis=1), objective


def _joint(
    both: tuple[Wells, Wells], penalties: list[Penalty], places: list[Array], own: Array
) -> tuple[Array, Array, Array]:
    count, size = own.shape
    objective, gradient, information = np.zeros(count), np.zeros((count, size)), np.zeros((count, size, size))
    for wells, penalty, place in zip(both, penalties, places, strict=True):
        theta = own[:, place]
        p, jacobian = probabilities(theta, wells, None)
        off = theta - penalty.mean
        pulled = np.einsum("bkl,bl->bk", penalty.weight, off)
        objective += (wells.number[..., None] * wells.fraction * np.log(p)).sum(axis=(1, 2)) - 0.5 * (off * pulled).sum(
            axis=1
        )
        pull = wells.number[..., None] * wells.fraction / p
        gradient[:, place] += np.einsum("bws,bwsk->bk", pull, jacobian) - pulled
        scaled = (jacobian * np.sqrt(wells.number[..., None] / p)[..., None]).reshape(
            count, p.shape[1] * p.shape[2], -1
        )
        information[:, place[:, None], place[None, :]] += np.swapaxes(scaled, 1, 2) @ scaled + penalty.weight
    return objective, gradient, information


def _null(pair: Wells, theta: Array, rng: np.random.Generator, draws: int) -> Array:
    """The statistic of wells drawn from the null hypothesis: multinomials of cells / phi cells."""
    p, _ = probabilities(theta, pair, None)
    p = p / p.sum(axis=2, keepdims=True)
    number = np.where(pair.number > 0, np.maximum(np.round(pair.number), 1), 0).astype(int)
    drawn = rng.multinomial(number, p, size=(draws, *number.shape)).astype(float)
    fraction = drawn / np.maximum(number, 1)[..., None]
    # all draws of both compounds as one batch: first and second in turn
    rows = np.tile([0, 1], draws)
    wells = Wells(
        pair.log_dose[rows], pair.number[rows], fraction.reshape(2 * draws, *p.shape[1:]), pair.background[rows]
    )
    single = fit(wells, None, start=theta[rows])
    pairs = np.arange(2 * draws).reshape(draws, 2)
    start = np.broadcast_to(theta, (draws, 2, PARAMETERS)).copy()
    _, joint = _climb_together((wells.take(pairs[:, 0]), wells.take(pairs[:, 1])), start)
    found: Array = np.maximum(2 * (single.objective[pairs].sum(axis=1) - joint), 0.0)
    return found
