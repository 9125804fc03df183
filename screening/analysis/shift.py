"""Whether wells look like a mixture of the patches that a classifier's errors were counted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

RARE = 0.01  # kinds of patches with a smaller share are taken together: few counts are not normal
FALSE_ALARMS = 0.01  # of the wells that are called shifted, as a share (Benjamini and Hochberg 1995)
PLATE_P = 0.001
PLATE_DISTANCE = 0.05  # share of a plate's patches that must be elsewhere to matter

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Shift:
    """How unlike the validation patches some wells are."""

    p: Floats  # (well, timepoint), NaN where nothing was counted
    shifted: NDArray[np.bool_]  # (well, timepoint), after allowing for the number of wells
    plate_p: float
    plate_distance: float  # share of the plate's patches that would have to be of another kind
    plate_shifted: bool


def check_shift(
    observed: ArrayLike,
    validated: ArrayLike,
    fraction: ArrayLike,
    *,
    effective: ArrayLike | None = None,
    tells: ArrayLike | None = None,
) -> Shift:
    """Compare each well's kinds of patches with those of the validation patches, mixed as the well's fractions say.

    A correction assumes that patches of a state look as those of that state did when the errors were counted.
    Then a well's shares of each kind (called state and how sure the call was) are the mixture of the
    validation's. Pearson's statistic, with the variance of the well's shares widened by what fields have in
    common (Rao and Scott 1981) and that of the validation's added, is compared with chi-square. The plate is
    judged by the sum over its wells, which sees shifts that no well shows: there a small p is not enough,
    more than 5 % of the patches must be of another kind than expected.

    With calls alone (as many kinds as states) any calls within reach of the matrix fit perfectly: only what no
    mixture explains is seen.

    Parameters
    ----------
    observed
        (well, timepoint, field, kind): patches.
    validated
        (state, kind): patches of known state.
    fraction
        (well, timepoint, state): the corrected fractions; NaN where nothing was counted.
    effective
        (state,): independent patches that those of each state are worth; all of them if None.
    tells
        (well,) bool: the wells that may judge the plate; all if None.
    """
    kinds, truth, mixed = (np.asarray(values, dtype=float) for values in (observed, validated, fraction))
    n = kinds.sum(axis=3)
    number = n.sum(axis=2)
    there = (number > 0) & np.isfinite(mixed).all(axis=2)
    mixed = np.where(there[..., None], mixed, 0.0)
    chosen = there & (np.ones(len(n), dtype=bool) if tells is None else np.asarray(tells, dtype=bool))[:, None]
    rows = np.maximum(truth.sum(axis=1), 1)
    worth = np.maximum(rows if effective is None else np.asarray(effective, dtype=float), 1)
    kinds, truth = _without_rare(kinds, truth, truth / rows[:, None], mixed[chosen])

    safe = np.maximum(number, 1)
    share = truth / rows[:, None]
    expected = mixed @ share
    difference = np.where(there[..., None], kinds.sum(axis=2) / safe[..., None] - expected, 0.0)
    own = _design_effect(kinds, n, chosen) / safe  # one over the number of patches that the well is worth
    others = mixed**2 @ (1 / worth)  # and the validation's
    freedom = max(1, truth.shape[1] - truth.shape[0])
    p = stats.chi2.sf(_statistic(difference, expected, own, others), freedom)

    weight = np.where(chosen, number, 0.0)
    all_patches = max(float(weight.sum()), 1.0)
    moved, usual, together = (
        (weight[..., None] * values).sum(axis=(0, 1)) / all_patches for values in (difference, expected, mixed)
    )
    # the fields of a well are the same at all times: their doubts add up, not their variances
    own_plate = ((weight * np.sqrt(own)).sum(axis=1) ** 2).sum() / all_patches**2
    plate_p = float(stats.chi2.sf(_statistic(moved, usual, own_plate, together**2 @ (1 / worth)), freedom))
    distance = float(np.abs(moved).sum() / 2)
    return Shift(
        p=np.where(there, p, np.nan),
        shifted=_after_benjamini_hochberg(p, there),
        plate_p=plate_p if chosen.any() else np.nan,
        plate_distance=distance if chosen.any() else np.nan,
        plate_shifted=plate_p < PLATE_P and distance > PLATE_DISTANCE,
    )


def _without_rare(kinds: Floats, truth: Floats, share: Floats, mixed: Floats) -> tuple[Floats, Floats]:
    """Add up the kinds that are rare on this plate."""
    states, count = truth.shape
    expected = (mixed @ share).mean(axis=0) if len(mixed) else np.ones(count)
    rare = expected < RARE
    if rare.sum() < 2 or count - rare.sum() + 1 < states:
        return kinds, truth
    return tuple(  # type: ignore[return-value]
        np.concatenate([values[..., ~rare], values[..., rare].sum(axis=-1, keepdims=True)], axis=-1)
        for values in (kinds, truth)
    )


def _design_effect(kinds: Floats, n: Floats, chosen: NDArray[np.bool_]) -> Floats:
    """How many times the variance of a well's shares is that of independent patches; (well, timepoint)."""
    number, used = n.sum(axis=2), (n > 0).sum(axis=2)
    safe = np.maximum(number, 1)
    share = kinds.sum(axis=2) / safe[..., None]
    scatter = (n[..., None] * (kinds / np.maximum(n, 1)[..., None] - share[:, :, None]) ** 2).sum(axis=(2, 3))
    alone = (share * (1 - share)).sum(axis=2)
    crowd = (n**2).sum(axis=2) / safe
    several = chosen & (used > 1)
    excess = (scatter - alone * (used - 1))[several].sum()
    room = (alone * np.maximum(number - crowd - used + 1, 0))[several].sum()
    alike = min(max(excess / room, 0.0), 1.0) if room > 0 else 0.0
    return np.asarray(1 + alike * np.maximum(crowd - 1, 0))


def _statistic(difference: Floats, expected: Floats, own: ArrayLike, others: ArrayLike) -> Floats:
    """Chi-square of two samples that differ so; a kind's share is that of both together, since either may miss it."""
    first, second = (np.asarray(values)[..., None] for values in (own, others))
    total = np.maximum(first + second, np.finfo(float).tiny)
    variance = (expected + difference * second / total) * total
    terms = np.divide(difference**2, variance, out=np.zeros_like(difference), where=variance > 0)
    result: Floats = terms.sum(axis=-1)
    return result


def _after_benjamini_hochberg(p: Floats, there: NDArray[np.bool_]) -> NDArray[np.bool_]:
    sorted_p = np.sort(p[there])
    below = np.flatnonzero(sorted_p <= FALSE_ALARMS * np.arange(1, len(sorted_p) + 1) / max(len(sorted_p), 1))
    limit = sorted_p[below[-1]] if len(below) else -1.0
    return np.asarray(there & (p <= limit))
