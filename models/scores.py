"""How often a classifier is right: confusion, recall, precision, F1 and AUC, with intervals over wells."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from .intervals import (
    LEAST_WELLS,
    NOTHING_KNOWN,
    Interval,
    Wells,
    auc_interval,
    effective_size,
    mean_interval,
    resampled_interval,
    share_interval,
    wells_of,
    wider,
)

CURVE_POINTS = 200


def score(
    probability: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    groups: npt.ArrayLike,
    states: Sequence[str],
    seed: int = 0,
) -> dict[str, Any]:
    """Score probabilities against known states.

    Every interval is the wider of two: whole wells resampled, since patches of one well are not
    independent; and a Wilson-type interval with the number of patches that the wells make them worth,
    since resampling says "certainly" of a score without an error.

    Parameters
    ----------
    probability
        (patch, state).
    truth
        (patch,) index of the true state.
    groups
        (patch,) plate and well of each patch.
    states
        Names of the states.
    seed
        Of the resampling.

    Returns
    -------
    scores
        `accuracy`, `balanced_accuracy` (mean recall of the states that are there), and for each state
        `recall`, `precision`, `f1` and `auc`, each {"value", "low", "high"}; `confusion` (true, called).
        None where a score is not defined (a state that is absent or never called), and for the ends of
        an interval where fewer than five wells take part.
    """
    p, y = np.asarray(probability, dtype=float), np.asarray(truth, dtype=np.int64)
    called = p.argmax(axis=1)
    wells = wells_of(groups, seed=seed)
    shares = _Shares(y, called, wells, len(states))
    everything = np.ones(len(y), dtype=bool)
    return {
        "patches": len(y),
        "wells": wells.count,
        "accuracy": shares.of(called == y, everything),
        "balanced_accuracy": shares.mean_recall(),
        "recall": {state: shares.of(called == k, y == k) for k, state in enumerate(states)},
        "precision": {state: shares.of(y == k, called == k) for k, state in enumerate(states)},
        "f1": {state: shares.f1(k) for k, state in enumerate(states)},
        "auc": {state: _auc_entry(p[:, k], y == k, wells) for k, state in enumerate(states)},
        "confusion": confusion(y, called, states=len(states)).tolist(),
    }


def confusion(truth: npt.ArrayLike, called: npt.ArrayLike, *, states: int) -> npt.NDArray[np.int64]:
    """Count patches by (true state, called state)."""
    pairs = np.asarray(truth) * states + np.asarray(called)
    return np.bincount(pairs, minlength=states**2).reshape(states, states)


def one_vs_rest_auc(score: npt.ArrayLike, is_state: npt.ArrayLike) -> float | None:
    """Area under the ROC curve (Mann-Whitney, ties count half); None if one side is empty."""
    s, positive = np.asarray(score, dtype=float), np.asarray(is_state, dtype=bool)
    n, m = int(positive.sum()), int((~positive).sum())
    if n == 0 or m == 0:
        return None
    return float((rankdata(s)[positive].sum() - n * (n + 1) / 2) / (n * m))


def roc_curve(score: npt.ArrayLike, is_state: npt.ArrayLike) -> dict[str, list[float]] | None:
    """False against true positive rate as the threshold falls, thinned evenly along the curve.

    None if all patches or none are of the state.
    """
    s, positive = np.asarray(score, dtype=float), np.asarray(is_state, dtype=bool)
    if positive.all() or not positive.any():
        return None
    order = np.argsort(-s, kind="stable")
    last = np.append(np.flatnonzero(np.diff(s[order])), len(s) - 1)  # equal scores pass the threshold together
    true = np.append(0.0, np.cumsum(positive[order])[last] / positive.sum())
    false = np.append(0.0, np.cumsum(~positive[order])[last] / (~positive).sum())
    keep = thinned(true + false)
    return {"false_positive": false[keep].tolist(), "true_positive": true[keep].tolist()}


def thinned(along: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """At most 200 indices, first and last among them, evenly spread over ascending positions."""
    if len(along) <= CURVE_POINTS:
        return np.arange(len(along))
    wanted = np.linspace(along[0], along[-1], CURVE_POINTS)
    return np.unique(np.append(np.searchsorted(along, wanted[:-1]), len(along) - 1))


class _Shares:
    """Scores that are a share of some patches, and their intervals."""

    def __init__(self, truth: npt.NDArray[np.int64], called: npt.NDArray[np.int64], wells: Wells, states: int) -> None:
        self.truth, self.called, self.wells, self.states = truth, called, wells, states

    def of(self, right: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_]) -> dict[str, float | None]:
        """The share of `right` among the patches where `among`."""
        if not among.any():
            return _entry(None, NOTHING_KNOWN)
        return _entry(float(right[among].mean()), self._interval(right, among))

    def f1(self, state: int) -> dict[str, float | None]:
        """Harmonic mean of recall and precision.

        It is 2 q / (1 + q), where q is the share of patches that are of the state and called so among those
        that are either; its interval is that of q, bent alike.
        """
        is_state, called = self.truth == state, self.called == state
        either = self.of(is_state & called, is_state | called)
        return {end: None if q is None else 2 * q / (1 + q) for end, q in either.items()}

    def mean_recall(self) -> dict[str, float | None]:
        """Mean recall of the states that are there."""
        there = [k for k in range(self.states) if (self.truth == k).any()]
        recall = [self.of(self.called == k, self.truth == k) for k in there]
        values = np.array([entry["value"] for entry in recall], dtype=float)
        separate: list[Interval] = [
            share_interval(self.called[self.truth == k] == k, self.wells.of_patch[self.truth == k]) for k in there
        ]
        resampled = np.stack([self._resampled(self.called == k, self.truth == k) for k in there])
        with np.errstate(invalid="ignore"):
            mean = np.nansum(resampled, axis=0) / (~np.isnan(resampled)).sum(axis=0)
        together = resampled_interval(mean, wells=self.wells.count)
        return _entry(float(values.mean()), wider(together, mean_interval(values, separate)))

    def _interval(self, right: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_]) -> Interval:
        well = self.wells.of_patch[among]
        taking_part = len(np.unique(well))
        if taking_part < LEAST_WELLS:
            return NOTHING_KNOWN
        resampled = resampled_interval(self._resampled(right, among), wells=taking_part)
        return wider(resampled, share_interval(right[among], well))

    def _resampled(self, right: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        part, whole = (self.wells.draws @ self.wells.sums(of.astype(float)) for of in (right & among, among))
        with np.errstate(invalid="ignore"):
            share: npt.NDArray[np.float64] = part / whole
        return share


def _auc_entry(
    score: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_], wells: Wells
) -> dict[str, float | None]:
    area = one_vs_rest_auc(score, positive)
    taking_part = min(len(np.unique(wells.of_patch[side])) for side in (positive, ~positive))
    if area is None or taking_part < LEAST_WELLS:
        return _entry(area, NOTHING_KNOWN)
    won = _pairs_won(score, positive, wells)
    n, m = (wells.sums(side.astype(float)) for side in (positive, ~positive))
    with np.errstate(invalid="ignore"):
        resampled = ((wells.draws @ won) * wells.draws).sum(axis=1) / ((wells.draws @ n) * (wells.draws @ m))
    sizes = [
        effective_size(placed, wells.of_patch[side])
        for placed, side in zip(_placements(score, positive), (positive, ~positive), strict=True)
    ]
    alone = auc_interval(area, positives=sizes[0], negatives=sizes[1])
    return _entry(area, wider(resampled_interval(resampled, wells=taking_part), alone))


def _pairs_won(
    score: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_], wells: Wells
) -> npt.NDArray[np.float64]:
    """(well, well): pairs in which a patch of the state in the first outscores another in the second."""
    order = np.argsort(score[positive], kind="stable")
    ascending, home = score[positive][order], wells.of_patch[positive][order]
    others, their_home = score[~positive], wells.of_patch[~positive]
    won = np.zeros((wells.count, wells.count))
    for well in range(wells.count):
        rivals = np.sort(others[their_home == well])
        below = np.searchsorted(rivals, ascending, "left") + np.searchsorted(rivals, ascending, "right")
        won[:, well] = np.bincount(home, weights=below / 2, minlength=wells.count)
    return won


def _placements(
    score: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Share of the other side that each patch of the state, and each other one, stands right of."""
    rank = rankdata(score)
    n, m = int(positive.sum()), int((~positive).sum())
    above = (rank[positive] - rankdata(score[positive])) / m
    below = 1 - (rank[~positive] - rankdata(score[~positive])) / n
    return above, below


def _entry(value: float | None, interval: Interval) -> dict[str, float | None]:
    return {"value": value, "low": interval[0], "high": interval[1]}
