"""From what a classifier called to what is there: fractions corrected for its errors, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from .expectation import expect

CONDITION_LIMIT = 10.0  # above it the correction says more about noise than about cells
LEAST_VALIDATED = 10  # patches of a state below which its row of the matrix is a guess
ASSUMED_DISPERSION = 0.05  # between-field correlation where a plate cannot tell its own (one field per well)
FEWEST_FREEDOM = 4  # differences between fields below which the plate cannot tell either

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Corrected:
    """Corrected fractions of some wells, `...` being the leading dimensions of what was given."""

    fraction: Floats  # (..., state or group), within the simplex; NaN where nothing was counted or all was refused
    low: Floats
    high: Floats
    price: Floats  # (..., state or group), standard error over that of the uncorrected fraction of the same patches
    dispersion: Floats  # (state or group,), correlation of the true states of two patches of a field
    freedom: int  # differences between fields behind it; 0 where it was given or assumed
    condition: float  # of the matrix P(called | true)
    status: str  # why nothing was corrected; "" where it was


@dataclass(frozen=True, eq=False)
class _Scored:
    """Patches as scores whose expectation is 1 for the states of the column's group and 0 for all others."""

    fraction: Floats  # (well, timepoint, state), within the simplex
    patches: Floats  # (well, timepoint, field)
    sums: Floats  # (well, timepoint, field, group), of the scores
    second: Floats  # (well or 1, timepoint or 1, group, true state), mean squared score of patches of a state
    raw: Floats  # (well, timepoint, field, group), sums of what is not corrected
    raw_variance: Floats  # (well, timepoint, group), of one patch


def adjusted_fractions(
    counts: ArrayLike,
    confusion: ArrayLike,
    *,
    effective: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    dispersion: float | None = None,
    tells: ArrayLike | None = None,
    level: float = 0.95,
) -> Corrected:
    """Adjusted counts: solve called = M' true for each well, M being P(called | true) of held-out wells.

    With W the inverse of M', a patch that was called c scores W[k, c] for state k; a well's adjusted fraction
    is the mean score, moved to the nearest point of the simplex (Rogan and Gladen 1978 for two states; Solow,
    Davis and Hu 2001 for more). Its variance has three parts: the calls of independent patches, the true
    states that patches of a field share (`dispersion`), and the matrix, whose row j is multinomial with
    `effective[j]` patches. The interval is the set of fractions p from which the unmoved estimate lies at most
    t standard errors away, the error being that at p: Wilson's (1927) interval where the classifier is
    perfect, and everything where the matrix is too uncertain, as Fieller's.

    Parameters
    ----------
    counts
        ([[well,] timepoint,] field, state) or (well, field, state): patches by called state. Fields with
        negative or missing counts do not count.
    confusion
        (true, called): patches of known state of wells that the classifier has not seen.
    effective
        (true,): independent patches that those of each state are worth, since patches of one well are alike;
        all of them if None.
    groups
        (state,): number of the group, from 0, in which each state is reported; every state alone if None. Grouped
        afterwards, states may share in a group as they like; grouped before, in counts and matrix, they must
        share as they did where the matrix was counted.
    dispersion
        Correlation of the true states of two patches of a field. None estimates it by moments from all wells,
        for each state; with fewer than four differences between fields, 0.05 is assumed.
    tells
        (well,) bool: the wells from which the dispersion is estimated; all if None.
    level
        Of the intervals.

    Returns
    -------
    Corrected
        Everything NaN, with the reason in `status`, where the matrix cannot be inverted: a state without ten
        patches, a condition number above 10.
    """
    shaped, lead = _as_wells(np.asarray(counts, dtype=float), inner=2)
    members = _members(groups, shaped.shape[-1])
    matrix = _Matrix.of(confusion, effective, members)
    if matrix.status:
        return _refused((*lead, len(members)), matrix)
    usable = (np.isfinite(shaped) & (shaped >= 0)).all(axis=-1, keepdims=True)
    calls = np.where(usable, shaped, 0.0)
    number = calls.sum(axis=(2, 3))
    called = calls.sum(axis=2) / np.maximum(number, 1)[..., None]
    called_group = called @ members.T
    scored = _Scored(
        fraction=project_to_simplex(called @ matrix.inverse.T),
        patches=calls.sum(axis=3),
        sums=calls @ matrix.weights.T,
        second=(matrix.weights**2 @ matrix.share.T)[None, None],
        raw=calls @ members.T,
        raw_variance=called_group * (1 - called_group),
    )
    return _corrected(scored, matrix, members, lead=lead, dispersion=dispersion, tells=tells, level=level)


def em_fractions(
    probability: ArrayLike,
    prior: ArrayLike,
    confusion: ArrayLike,
    *,
    field: ArrayLike | None = None,
    effective: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    dispersion: float | None = None,
    tells: ArrayLike | None = None,
    level: float = 0.95,
) -> Corrected:
    """Maximum likelihood from calibrated probabilities: what EM of Saerens, Latinne and Decaestecker (2002) finds.

    The fractions p that maximise sum_i log sum_k p_k P(k | x_i) / prior_k. The scores of a patch are its
    influence on them, H^-1 r_i / (r_i' p) with r = P / prior and H the information: for hard calls exactly
    those of `adjusted_fractions`, whose intervals these are. The matrix stands in for how well the classifier
    is known: as if no more than its hard calls had been validated, which is a little too wide.

    Parameters
    ----------
    probability
        ([[well,] timepoint,] patch, state) or (well, patch, state): calibrated; rows with missing or negative
        numbers, or without any, do not count.
    prior
        (state,): share of each state for which the probabilities are calibrated; for a classifier trained with
        all states weighing alike, 1 / states.
    confusion, effective, groups, dispersion, tells, level
        As for `adjusted_fractions`.
    field
        (patch,): number of each patch's field, from 0; all one field if None.
    """
    shaped, lead = _as_wells(np.asarray(probability), inner=2)
    states = shaped.shape[-1]
    members = _members(groups, states)
    matrix = _Matrix.of(confusion, effective, members)
    before = np.asarray(prior, dtype=float)
    if before.shape != (states,):
        raise ValueError(f"{states} states need as many priors, not {before.shape}")
    if not matrix.status and not (np.isfinite(before).all() and (before > 0).all()):
        matrix = matrix.refused("the classifier's prior is not above 0 for each state")
    if matrix.status:
        return _refused((*lead, len(members)), matrix)
    of_field = np.zeros(shaped.shape[2], dtype=np.int64) if field is None else np.asarray(field, dtype=np.int64)
    found = expect(shaped, before / before.sum(), field=of_field, members=members)
    scored = _Scored(found.fraction, found.patches, found.sums, found.second, found.raw, found.raw_variance)
    return _corrected(scored, matrix, members, lead=lead, dispersion=dispersion, tells=tells, level=level)


def condition_number(confusion: ArrayLike) -> float:
    """Condition number of P(called | true): how much the correction can magnify noise; inf where none is possible."""
    counts = np.asarray(confusion, dtype=float)
    if not np.isfinite(counts).all() or (counts < 0).any() or (counts.sum(axis=1) <= 0).any():
        return float("inf")
    return float(np.linalg.cond(counts / counts.sum(axis=1, keepdims=True)))


def project_to_simplex(values: Floats) -> Floats:
    """The nearest point with no part below 0 and sum 1, along the last axis (Held, Wolfe and Crowder 1974)."""
    descending = -np.sort(-values, axis=-1)
    over = np.cumsum(descending, axis=-1) - 1
    rank = np.arange(1, values.shape[-1] + 1)
    kept = (descending - over / rank > 0).sum(axis=-1, keepdims=True)
    threshold = np.take_along_axis(over, np.maximum(kept, 1) - 1, axis=-1) / np.maximum(kept, 1)
    result: Floats = np.maximum(values - threshold, 0)
    return result


@dataclass(frozen=True, eq=False)
class _Matrix:
    """P(called | true) of a classifier, its inverse, and what is not known of it."""

    share: Floats  # (true, called)
    inverse: Floats  # (state, called), of the transposed matrix
    weights: Floats  # (group, called), its sums over the states of a group: the score of a call
    doubt: Floats  # (group, true), variance of a group's mean score that row `true` of the matrix adds per p^2
    condition: float
    status: str

    @classmethod
    def of(cls, confusion: ArrayLike, effective: ArrayLike | None, members: Floats) -> _Matrix:
        counts, states = np.asarray(confusion, dtype=float), members.shape[1]
        if counts.shape != (states, states):
            raise ValueError(f"{states} states need a matrix of {states} x {states}, not {counts.shape}")
        condition = condition_number(counts)
        unknown = np.full((states, states), np.nan)
        nothing = cls(unknown, unknown, unknown, unknown, condition, "")
        if not np.isfinite(counts).all() or (counts < 0).any():
            return nothing.refused("the confusion matrix holds numbers that are no counts")
        rows = counts.sum(axis=1)
        worth = rows if effective is None else np.minimum(np.asarray(effective, dtype=float), rows)
        if worth.shape != (states,):
            raise ValueError(f"{states} states need as many effective numbers, not {worth.shape}")
        if (rows < LEAST_VALIDATED).any() or not (worth > 0).all():
            return nothing.refused(f"the confusion matrix has a state with fewer than {LEAST_VALIDATED} patches")
        if not condition <= CONDITION_LIMIT:
            return nothing.refused(
                f"the condition number of the confusion matrix is {condition:.3g}, above {CONDITION_LIMIT:g}: "
                "the classifier hardly tells some states apart"
            )
        share = counts / rows[:, None]
        inverse = np.linalg.inv(share.T)
        weights = members @ inverse
        # half a patch more in each cell: a row without an error is not known to be without
        seen = (counts + 0.5) / (rows + states / 2)[:, None]
        doubt = (weights**2 @ seen.T - (weights @ seen.T) ** 2) / worth
        return cls(share, inverse, weights, doubt, condition, "")

    def refused(self, why: str) -> _Matrix:
        return replace(self, status=f"not corrected: {why}")


def _members(groups: ArrayLike | None, states: int) -> Floats:
    """(group, state): 1 where the state is of the group."""
    if groups is None:
        return np.eye(states)
    of_state = np.asarray(groups, dtype=np.int64)
    if of_state.shape != (states,):
        raise ValueError(f"{states} states need as many groups, not {of_state.shape}")
    return np.asarray(of_state == np.arange(of_state.max() + 1)[:, None], dtype=np.float64)


def _as_wells(values: NDArray[Any], *, inner: int) -> tuple[NDArray[Any], tuple[int, ...]]:
    """Bring to (well, timepoint, ...): a single well, or wells at one timepoint, are plates too."""
    lead = values.shape[:-inner]
    if len(lead) > 2:
        raise ValueError(f"at most wells and timepoints may lead, not {len(lead)} dimensions")
    wells, timepoints = (*lead, 1, 1)[:2]
    return values.reshape(wells, timepoints, *values.shape[-inner:]), lead


def _refused(shape: tuple[int, ...], matrix: _Matrix) -> Corrected:
    nothing, none = np.full(shape, np.nan), np.full(shape[-1], np.nan)
    return Corrected(nothing, nothing, nothing, nothing, none, 0, matrix.condition, matrix.status)


def _corrected(
    scored: _Scored,
    matrix: _Matrix,
    members: Floats,
    *,
    lead: tuple[int, ...],
    dispersion: float | None,
    tells: ArrayLike | None,
    level: float,
) -> Corrected:
    """The fractions of groups, and the intervals of their mean scores."""
    number = scored.patches.sum(axis=2)
    there = (number > 0)[..., None]
    safe = np.maximum(number, 1)[..., None]
    mean = scored.sums.sum(axis=2) / safe
    of_state = np.where(there, scored.fraction, 0.0)
    fraction = of_state @ members.T
    patch_variance = np.maximum((scored.second * of_state[..., None, :]).sum(axis=-1) - mean**2, 0)
    chosen = np.ones(len(number), dtype=bool) if tells is None else np.asarray(tells, dtype=bool)
    freedom = _freedom(scored.patches[chosen])
    phi, quantile = _dispersion(scored, fraction, patch_variance, chosen, freedom, given=dispersion, level=level)
    crowd = (scored.patches**2).sum(axis=2)[..., None] / safe - 1
    shared = phi * np.maximum(crowd, 0) / safe  # of p (1 - p): what patches of a field have in common

    low, high, error = _interval(
        mean,
        fraction,
        of_state + 0.5 / safe,
        scored.second,
        matrix.doubt,
        members > 0,
        alone=1 / safe,
        shared=shared,
        quantile=quantile,
    )
    raw = _raw_error(scored, chosen, crowd, safe)
    price = np.divide(error, raw, out=np.full_like(error, np.nan), where=raw > 1e-9)
    counted = freedom if dispersion is None and freedom >= FEWEST_FREEDOM else 0
    shape = (*lead, fraction.shape[-1])
    value, low, high, price = (
        np.where(there, values, np.nan).reshape(shape) for values in (fraction, low, high, price)
    )
    return Corrected(value, low, high, price, phi, counted, matrix.condition, "")


def _interval(
    mean: Floats,
    fraction: Floats,
    shares: Floats,
    second: Floats,
    doubt: Floats,
    member: NDArray[np.bool_],
    *,
    alone: Floats,
    shared: Floats,
    quantile: float,
) -> tuple[Floats, Floats, Floats]:
    """Ends of the interval of each group, and the standard error at the estimate.

    At a fraction p of a group, its states keeping their proportions i_j and the others theirs, o_j, the variance of
    the mean score is alone (p A + (1 - p) B - p^2) + shared p (1 - p) + p^2 sum_j i_j^2 doubt_j
    + (1 - p)^2 sum_j o_j^2 doubt_j, with A the mean squared score of patches of the group and B that of the others:
    quadratic in p, and so is the condition (mean - p)^2 <= t^2 variance.
    """
    inside, outside = (
        np.where(chosen, shares[..., None, :], 0.0)  # (..., group, state)
        / np.maximum((shares[..., None, :] * chosen).sum(axis=-1, keepdims=True), np.finfo(float).tiny)
        for chosen in (member, ~member)
    )
    own = np.maximum((inside * second).sum(axis=-1), 1.0)  # a score of mean 1 has no less
    rest = (outside * second).sum(axis=-1)
    row, rows = (inside**2 * doubt).sum(axis=-1), (outside**2 * doubt).sum(axis=-1)
    square = -alone - shared + row + rows
    linear = alone * (own - rest) + shared - 2 * rows
    constant = alone * rest + rows
    t2 = quantile**2
    a, b, c = 1 - t2 * square, -2 * mean - t2 * linear, mean**2 - t2 * constant
    root = np.sqrt(np.maximum(b**2 - 4 * a * c, 0))
    bounded = a > 0
    safe = np.where(bounded, 2 * a, 1.0)
    low = np.where(bounded, (-b - root) / safe, 0.0)
    high = np.where(bounded, (-b + root) / safe, 1.0)
    error = np.sqrt(np.maximum(fraction**2 * square + fraction * linear + constant, 0))
    # the estimate was moved into the simplex: it may lie beyond an end that was not
    low, high = np.minimum(np.clip(low, 0, 1), fraction), np.maximum(np.clip(high, 0, 1), fraction)
    return low, high, error


def _dispersion(
    scored: _Scored,
    fraction: Floats,
    patch_variance: Floats,
    chosen: NDArray[np.bool_],
    freedom: int,
    *,
    given: float | None,
    level: float,
) -> tuple[Floats, float]:
    """Correlation of the true states of two patches of a field, for each group, and the quantile it calls for."""
    groups = fraction.shape[-1]
    normal = float(stats.norm.ppf(0.5 + level / 2))
    if given is not None:
        return np.full(groups, float(given)), normal
    if freedom < FEWEST_FREEDOM:
        return np.full(groups, ASSUMED_DISPERSION), normal
    excess, room = _excess(scored.sums, scored.patches, patch_variance, fraction * (1 - fraction), chosen)
    together = excess.sum() / room.sum() if room.sum() > 0 else 0.0
    phi = np.divide(excess, room, out=np.full(groups, together), where=room > 0)
    return np.clip(phi, 0.0, 1.0), float(stats.t.ppf(0.5 + level / 2, freedom))


def _raw_error(scored: _Scored, chosen: NDArray[np.bool_], crowd: Floats, number: Floats) -> Floats:
    """Standard error of the uncorrected fractions, with the correlation within fields that they show."""
    excess, room = _excess(scored.raw, scored.patches, scored.raw_variance, scored.raw_variance, chosen)
    alike = np.clip(np.divide(excess, room, out=np.zeros_like(excess), where=room > 0), 0.0, 1.0)
    error: Floats = np.sqrt(np.maximum(scored.raw_variance * (1 + alike * np.maximum(crowd, 0)) / number, 0))
    return error


def _excess(
    sums: Floats, patches: Floats, alone: Floats, common: Floats, chosen: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """By how much fields scatter more than independent patches would, and the scatter that correlation 1 would add.

    Moments summed over wells before dividing, so that wells with nothing in a state weigh nothing:
    E sum_f n_f (x_f - mean)^2 = (F - 1) alone + phi common (N - sum n_f^2 / N - F + 1).
    """
    sums, n, alone, common = sums[chosen], patches[chosen], alone[chosen], common[chosen]
    number, used = n.sum(axis=2), (n > 0).sum(axis=2)
    safe = np.maximum(number, 1)
    mean = sums.sum(axis=2) / safe[..., None]
    scatter = (n[..., None] * (sums / np.maximum(n, 1)[..., None] - mean[:, :, None]) ** 2).sum(axis=2)
    several = (used > 1)[..., None]
    excess = np.where(several, scatter - alone * (used - 1)[..., None], 0).sum(axis=(0, 1))
    span = number - (n**2).sum(axis=2) / safe - used + 1
    room = np.where(several, common * np.maximum(span, 0)[..., None], 0).sum(axis=(0, 1))
    return excess, room


def _freedom(patches: Floats) -> int:
    """Differences between fields of a well; a field is followed over time, so timepoints add none."""
    used = (patches > 0).sum(axis=2)
    return int(np.maximum(used - 1, 0).max(axis=1, initial=0).sum())
