"""Deaths by pathway against dose: one curve for all deaths times a split that changes smoothly, fitted in batches.

    e(X)   = top / (1 + 10^(-h (X - E)))                            share of cells that the compound kills
    s_j(X) = softmax_j(eta_j),  eta = C (a + b u + c u^2)           its split among the pathways
    p_j    = (1 - e) background_j + e s_j,  p_alive = (1 - e) (1 - sum background)

with X = log10 dose; C holds two orthonormal contrasts of the three pathways, so that none is a reference. u is X -
centre, or h (X - E), the compound's own effect on a logit scale, by which compounds of different
potency are compared. Fitted is the multinomial quasi-likelihood: wells are over-dispersed and count as n / phi cells.
A weak penalty keeps splits of one pathway only, whose logits have no finite estimate, in the finite: see `PRIOR_SD`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array: TypeAlias = NDArray[Any]

LN10 = float(np.log(10.0))
CONTRASTS = np.array([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]]).T / np.sqrt([2.0, 6.0])  # (pathway, contrast)
LOCATION, SLOPE, TOP, LEVEL, TREND, BEND = 0, 1, 2, slice(3, 5), slice(5, 7), slice(7, 9)
SPLIT = slice(3, 9)
PARAMETERS = 9
# E (added to half of the tested range), ln h, logit top; then logits, per decade, per decade squared
PRIOR_SD = np.array([1.0, 1.0, 2.0, 5.0, 5.0, 3.0, 3.0, 1.0, 1.0])
PRIOR_MEAN = np.array([0.0, np.log(1.5), 2.0, *[0.0] * 6])  # E: the middle of the tested range
SMALLEST = 1e-9  # probability of a state, so that its logarithm exists
MOST_STEPS = 60


@dataclass(frozen=True)
class Wells:
    """Wells of a batch of compounds, padded with `number` 0.

    `log_dose`, `number` (compound, well); `fraction` (compound, well, state): the pathways, then alive; `background`
    (compound, well, pathway): vehicle of the well's own plate. `number` is cells / phi.
    """

    log_dose: Array
    number: Array
    fraction: Array
    background: Array

    def take(self, rows: Array | slice) -> Wells:
        """Some compounds; rows may repeat."""
        return Wells(self.log_dose[rows], self.number[rows], self.fraction[rows], self.background[rows])


@dataclass(frozen=True)
class Penalty:
    """Quadratic penalty (theta - mean)' weight (theta - mean) / 2; (compound, parameter) and one dimension more."""

    mean: Array
    weight: Array

    def take(self, rows: Array | slice) -> Penalty:
        """Some compounds; rows may repeat."""
        return Penalty(self.mean[rows], self.weight[rows])

    def holding(self, constraint: Array) -> Penalty:
        """The same with constraint' theta held at 0; (compound, parameter), or (compound, number, parameter)."""
        rows = constraint if constraint.ndim == 3 else constraint[:, None]
        return Penalty(self.mean, self.weight + 1e7 * np.einsum("brk,brl->bkl", rows, rows))


@dataclass(frozen=True)
class Fit:
    """Maximum: parameters (compound, parameter), quasi-log-likelihood less penalty, and the information there."""

    theta: Array
    objective: Array
    information: Array

    @property
    def covariance(self) -> Array:
        """Inverse of the information."""
        return np.linalg.inv(self.information)


def weak_penalty(wells: Wells) -> Penalty:
    """The penalty that a fit carries unless told otherwise."""
    used = wells.number > 0
    low = np.where(used, wells.log_dose, np.inf).min(axis=1)
    high = np.where(used, wells.log_dose, -np.inf).max(axis=1)
    low, high = np.where(np.isfinite(low), low, 0.0), np.where(np.isfinite(high), high, 0.0)
    mean, sd = np.tile(PRIOR_MEAN, (len(low), 1)), np.tile(PRIOR_SD, (len(low), 1))
    mean[:, LOCATION] = (low + high) / 2
    sd[:, LOCATION] += (high - low) / 2
    return Penalty(mean, np.eye(PARAMETERS) / sd[:, None, :] ** 2)


def fit(wells: Wells, centre: Array | None, *, penalty: Penalty | None = None, start: Array | None = None) -> Fit:
    """Maximise the penalised quasi-likelihood of every compound.

    Parameters
    ----------
    wells
        The batch.
    centre
        (compound,) log10 dose at which the split's level is taken; None for a split along the compound's own effect.
    penalty
        Instead of `weak_penalty`.
    start
        (compound, parameter); without it three EC50s are tried.
    """
    penalty = penalty or weak_penalty(wells)
    if start is not None:
        return _climb(wells, centre, penalty, start)
    half = np.sqrt(1 / penalty.weight[:, LOCATION, LOCATION]) - PRIOR_SD[LOCATION]
    tries = []
    for share in (-0.6, 0.0, 0.6):
        theta = penalty.mean.copy()
        theta[:, LOCATION] += share * half
        tries.append(_climb(wells, centre, penalty, theta, steps=25))
    best = np.argmax([one.objective for one in tries], axis=0)
    theta = np.stack([one.theta for one in tries])[best, np.arange(len(best))]
    return _climb(wells, centre, penalty, theta)


def moved(found: Fit, constraint: Array) -> Array:
    """Parameters moved onto constraint' theta = 0 by the shortest way in the information's metric."""
    spread = np.einsum("bkl,brl->bkr", found.covariance, constraint)
    off = np.einsum("brk,bk->br", constraint, found.theta)
    inner = np.einsum("brk,bks->brs", constraint, spread)
    there: Array = found.theta - np.einsum("bkr,br->bk", spread, np.linalg.solve(inner, off[..., None])[..., 0])
    return there


def effect_and_split(theta: Array, log_dose: Array, centre: Array | None) -> tuple[Array, Array]:
    """Share killed (compound, dose) and its split (compound, dose, pathway)."""
    h = np.exp(theta[:, SLOPE])[:, None]
    u = log_dose - (theta[:, LOCATION] if centre is None else centre)[:, None]
    e = special.expit(theta[:, TOP])[:, None] * special.expit(LN10 * h * (log_dose - theta[:, LOCATION][:, None]))
    along = _along(theta, h * u if centre is None else u)
    return e, special.softmax(along @ CONTRASTS.T, axis=-1)


def logits(theta: Array, u: Array) -> Array:
    """Logits of the pathways (compound, dose, pathway) at u (compound, dose), up to a constant."""
    total: Array = _along(theta, u) @ CONTRASTS.T
    return total


def _along(theta: Array, u: Array) -> Array:
    """Logits along the contrasts, (compound, dose, contrast)."""
    u = u[..., None]
    value: Array = theta[:, None, LEVEL] + theta[:, None, TREND] * u + theta[:, None, BEND] * u**2
    return value


def probabilities(theta: Array, wells: Wells, centre: Array | None) -> tuple[Array, Array]:
    """Probability of each state (compound, well, state) and its derivatives (..., parameter)."""
    h = np.exp(theta[:, SLOPE])[:, None]
    x = wells.log_dose - theta[:, LOCATION][:, None]
    sigmoid = special.expit(LN10 * h * x)
    top = special.expit(theta[:, TOP])[:, None]
    e = top * sigmoid
    u = h * x if centre is None else wells.log_dose - centre[:, None]
    split = special.softmax(_along(theta, u) @ CONTRASTS.T, axis=-1)  # (compound, well, pathway)
    background = wells.background
    p = np.empty((*e.shape, 4))
    p[..., :3] = (1 - e)[..., None] * background + e[..., None] * split
    p[..., 3] = (1 - e) * (1 - background.sum(axis=-1))

    by_effect = np.empty_like(p)
    by_effect[..., :3], by_effect[..., 3] = split - background, background.sum(axis=-1) - 1
    slope = e * (1 - sigmoid)
    jacobian = np.zeros((*p.shape, PARAMETERS))
    jacobian[..., LOCATION] = by_effect * (-slope * LN10 * h)[..., None]
    jacobian[..., SLOPE] = by_effect * (slope * LN10 * h * x)[..., None]
    jacobian[..., TOP] = by_effect * (e * (1 - top))[..., None]
    # d split / d contrast = diag(s) C - s (s' C)
    turned = split[..., None] * (CONTRASTS - (split @ CONTRASTS)[..., None, :])
    jacobian[..., :3, LEVEL] = e[..., None, None] * turned
    jacobian[..., :3, TREND] = jacobian[..., :3, LEVEL] * u[..., None, None]
    jacobian[..., :3, BEND] = jacobian[..., :3, TREND] * u[..., None, None]
    if centre is None:
        steepness = theta[:, None, TREND] + 2 * theta[:, None, BEND] * u[..., None]
        tilt = np.einsum("bwjc,bwc->bwj", jacobian[..., :3, LEVEL], steepness)
        jacobian[..., :3, LOCATION] -= tilt * h[..., None]
        jacobian[..., :3, SLOPE] += tilt * u[..., None]
    return np.maximum(p, SMALLEST), jacobian


def _objective(theta: Array, p: Array, wells: Wells, penalty: Penalty) -> Array:
    likelihood = np.einsum("bw,bws,bws->b", wells.number, wells.fraction, np.log(p))
    off = theta - penalty.mean
    value: Array = likelihood - 0.5 * np.einsum("bk,bkl,bl->b", off, penalty.weight, off)
    return value


def _climb(wells: Wells, centre: Array | None, penalty: Penalty, start: Array, *, steps: int = MOST_STEPS) -> Fit:
    """Fisher scoring with Levenberg's damping; compounds leave as they converge."""
    theta = start.copy()
    p, jacobian = probabilities(theta, wells, centre)
    objective = _objective(theta, p, wells, penalty)
    information = _information(p, jacobian, wells, penalty)
    gradient = _gradient(theta, p, jacobian, wells, penalty)
    damping = np.full(len(theta), 1e-3)
    going = np.arange(len(theta))
    for _ in range(steps):
        if not going.size:
            break
        here, own = wells.take(going), penalty.take(going)
        diagonal = np.einsum("bkk->bk", information[going])
        damped = information[going] + np.eye(theta.shape[1]) * (damping[going, None] * diagonal)[:, None, :]
        step = np.linalg.solve(damped, gradient[going][..., None])[..., 0]
        step *= np.minimum(1.0, 2.0 / np.maximum(np.abs(step).max(axis=1), 1e-300))[:, None]
        trial = theta[going] + step
        near = None if centre is None else centre[going]
        new_p, new_jacobian = probabilities(trial, here, near)
        reached = _objective(trial, new_p, here, own)
        gain = reached - objective[going]
        better = gain > 0
        done = (np.abs(gain) < 1e-9) | (np.abs(step).max(axis=1) < 1e-8) | (damping[going] > 1e8)
        up = going[better]
        theta[up], objective[up] = trial[better], reached[better]
        information[up] = _information(new_p[better], new_jacobian[better], here.take(better), own.take(better))
        gradient[up] = _gradient(
            trial[better], new_p[better], new_jacobian[better], here.take(better), own.take(better)
        )
        damping[going] = np.where(better, np.maximum(damping[going] / 5, 1e-9), damping[going] * 10)
        going = going[~done]
    return Fit(theta, objective, information)


def _information(p: Array, jacobian: Array, wells: Wells, penalty: Penalty) -> Array:
    scaled = jacobian * np.sqrt(wells.number[..., None] / p)[..., None]
    flat = scaled.reshape(len(p), p.shape[1] * p.shape[2], jacobian.shape[-1])
    total: Array = np.swapaxes(flat, 1, 2) @ flat + penalty.weight
    return total


def _gradient(theta: Array, p: Array, jacobian: Array, wells: Wells, penalty: Penalty) -> Array:
    pull = wells.number[..., None] * wells.fraction / p
    slope: Array = np.einsum("bws,bwsk->bk", pull, jacobian) - np.einsum(
        "bkl,bl->bk", penalty.weight, theta - penalty.mean
    )
    return slope
