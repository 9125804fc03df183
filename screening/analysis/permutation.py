"""Does a pattern over wells explain more of their values than chance would: exact tests by permuting wells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

AT_ONCE = 4_000_000  # numbers of permuted values held at once, 32 MB
FEWEST = 6  # wells below which no pattern is tested


class Explained(NamedTuple):
    """Share of the variance of ranks that a pattern explains, and the chance of as much or more, (column) each."""

    share: np.ndarray
    p: np.ndarray


class Alike(NamedTuple):
    """Moran's I, and the chance of as much or more of it, (column) each."""

    i: np.ndarray
    p: np.ndarray


def pattern_tests(
    values: np.ndarray,
    patterns: Mapping[str, np.ndarray],
    *,
    weights: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    permutations: int = 999,
    seed: int = 0,
) -> tuple[dict[str, Explained], Alike]:
    """Test patterns, and Moran's I, against permuted wells.

    A pattern is tested on ranks, so that one contaminated well decides nothing; for groups of wells as
    pattern the share is Kruskal and Wallis' H over n - 1, for two groups it is that of Wilcoxon's rank sum.
    Moran's I is that of the values themselves.

    Parameters
    ----------
    values
        (well, column); columns are tested side by side, with the same permutations. What is not finite takes
        no part.
    patterns
        Name -> (well, feature): features whose span is the pattern, such as indicators of rows.
    weights
        (well, well) spatial weights with an empty diagonal; without them Moran's I is NaN.
    groups
        (well) integers: wells of one group should be equal, such as replicates. Values become deviations
        from their group's mean and wells are permuted within their group only, so that different groups may
        differ and the test stays exact whatever the layout. Without them all wells are one group.
    permutations, seed
        The smallest p value possible is 1 / (permutations + 1).

    Returns
    -------
    (dict, Alike)
        `Explained` for each pattern; NaN for a column with fewer than six wells, a constant one, or a
        pattern that is constant over its wells.
    """
    values = np.asarray(values, dtype=float)
    columns = values.shape[1]
    found = {name: Explained(np.full(columns, np.nan), np.full(columns, np.nan)) for name in patterns}
    alike = Alike(np.full(columns, np.nan), np.full(columns, np.nan))
    finite = np.isfinite(values)
    rng_seed = np.random.SeedSequence(seed)
    # columns that miss the same wells are tested together
    kinds, kind_of = np.unique(finite, axis=1, return_inverse=True)
    for number, wells in enumerate(kinds.T):
        chosen = np.flatnonzero(np.asarray(kind_of).ravel() == number)
        labels = np.zeros(int(wells.sum()), dtype=int) if groups is None else np.asarray(groups)[wells]
        wells, labels = _in_groups_of_two(wells, labels)
        if wells.sum() < FEWEST:
            continue
        deviations = _deviations(values[np.ix_(wells, chosen)], labels)
        varied = np.ptp(deviations, axis=0) > 1e-9 * np.maximum(
            np.abs(values[np.ix_(wells, chosen)]).max(axis=0), 1e-12
        )
        chosen, deviations = chosen[varied], deviations[:, varied]
        if not chosen.size:
            continue
        spans = {name: _span(np.asarray(features, dtype=float)[wells], labels) for name, features in patterns.items()}
        near = None if weights is None else np.asarray(weights, dtype=float)[np.ix_(wells, wells)]
        if near is not None and near.sum() <= 0:
            near = None
        rng = np.random.default_rng(rng_seed)
        shares, p, i, p_i = _permuted(deviations, spans, near, labels, rng, permutations)
        for name in spans:
            found[name].share[chosen], found[name].p[chosen] = shares[name], p[name]
        alike.i[chosen], alike.p[chosen] = i, p_i
    return found, alike


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks down each column, ties sharing their mean rank, centred on 0."""
    order = np.argsort(values, axis=0, kind="stable")
    ordered = np.take_along_axis(values, order, axis=0)
    place = np.arange(len(values))[:, None]
    new = np.ones(values.shape, dtype=bool)
    new[1:] = ordered[1:] != ordered[:-1]
    first = np.maximum.accumulate(np.where(new, place, 0), axis=0)
    last_of = np.ones(values.shape, dtype=bool)
    last_of[:-1] = new[1:]
    last = np.minimum.accumulate(np.where(last_of, place, len(values))[::-1], axis=0)[::-1]
    ranked = np.empty(values.shape)
    np.put_along_axis(ranked, order, (first + last) / 2, axis=0)
    return ranked - (len(values) - 1) / 2


def _in_groups_of_two(wells: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Without wells that are alone in their group: they have nothing to deviate from."""
    _, place, number = np.unique(labels, return_inverse=True, return_counts=True)
    company = number[place] >= 2
    kept = wells.copy()
    kept[np.flatnonzero(wells)[~company]] = False
    return kept, place[company]


def _deviations(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Values minus their group's mean."""
    member = labels[:, None] == np.unique(labels)
    mean = member.T @ values / member.sum(axis=0)[:, None]
    return np.asarray(values - mean[np.searchsorted(np.unique(labels), labels)])


def _span(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Orthonormal basis (well, rank) of the features' differences within groups; ranks are centred anyway."""
    centred = _deviations(features, labels)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    return np.asarray(left[:, size > 1e-9 * max(float(size.max(initial=0)), 1e-9)])


def _permuted(
    deviations: np.ndarray,
    spans: Mapping[str, np.ndarray],
    near: np.ndarray | None,
    labels: np.ndarray,
    rng: np.random.Generator,
    permutations: int,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Statistics of (well, column) deviations and the share of permutations that reach them."""
    wells, columns = deviations.shape
    ranked = ranks(deviations)
    shares = {name: _share(span, ranked) for name, span in spans.items()}
    moran = _moran(near, deviations) if near is not None else np.full(columns, np.nan)
    reached = {name: np.zeros(columns) for name in spans}
    reached_i = np.zeros(columns)
    by_group = np.argsort(labels, kind="stable")
    left = permutations
    while left:
        number = min(left, max(1, AT_ONCE // deviations.size))
        left -= number
        # sorting by group and then at random exchanges wells within their group only
        drawn = np.argsort(labels[None] + rng.random((number, wells)), axis=1)
        order = np.empty_like(drawn)
        order[:, by_group] = drawn
        mixed = ranked[order].transpose(1, 0, 2).reshape(wells, -1)
        for name, span in spans.items():
            reached[name] += (_share(span, mixed).reshape(number, columns) >= shares[name] - 1e-12).sum(axis=0)
        if near is not None:
            mixed = deviations[order].transpose(1, 0, 2).reshape(wells, -1)
            reached_i += (_moran(near, mixed).reshape(number, columns) >= moran - 1e-12).sum(axis=0)
    known = {name: span.shape[1] > 0 for name, span in spans.items()}
    p = {name: np.where(known[name], (reached[name] + 1) / (permutations + 1), np.nan) for name in spans}
    shares = {name: np.where(known[name], share, np.nan) for name, share in shares.items()}
    return shares, p, moran, np.where(np.isfinite(moran), (reached_i + 1) / (permutations + 1), np.nan)


def _share(span: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Share of the columns' squares that lies in the span."""
    return np.asarray(((span.T @ values) ** 2).sum(axis=0) / (values**2).sum(axis=0))


def _moran(near: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Moran's (1950) I of centred columns."""
    return np.asarray(len(values) / near.sum() * (values * (near @ values)).sum(axis=0) / (values**2).sum(axis=0))
