"""Wells of known composition, seen through a classifier whose every error is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RECALL = (0.82, 0.74, 0.80, 0.87, 0.75)
CONFUSION = np.array(
    [
        [0.82, 0.05, 0.03, 0.05, 0.05],
        [0.06, 0.74, 0.10, 0.05, 0.05],
        [0.04, 0.08, 0.80, 0.04, 0.04],
        [0.01, 0.01, 0.01, 0.87, 0.10],
        [0.03, 0.03, 0.03, 0.16, 0.75],
    ]
)
RIGHT, WRONG = (0.15, 0.25, 0.60), (0.50, 0.35, 0.15)  # how often a call is timid, middling and sure
SURENESS = len(RIGHT)
FEW = np.array([0.05, 0.05, 0.05, 0.80, 0.05])
MANY = np.array([0.40, 0.10, 0.10, 0.20, 0.20])

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def kinds_of(confusion: Floats = CONFUSION, *, right: tuple[float, ...] = RIGHT) -> Floats:
    """P(kind | true): (true, called x sureness)."""
    true, called = np.indices(confusion.shape)
    sure = np.where((true == called)[..., None], np.array(right), np.array(WRONG))
    return np.asarray((confusion[..., None] * sure).reshape(len(confusion), -1))


@dataclass(frozen=True, eq=False)
class Known:
    """A classifier as somebody knows it who labelled some patches of each state."""

    validated: Counts  # (true, kind)
    posterior: Floats  # (kind, state), learned from as many other patches; all states weigh alike

    @property
    def confusion(self) -> Counts:
        """(true, called)."""
        return np.asarray(self.validated.reshape(len(self.validated), -1, SURENESS).sum(axis=2))


def known(rng: np.random.Generator, *, labelled: int = 300, kinds: Floats | None = None) -> Known:
    """Label patches: those that count the errors, and others from which the probabilities are learned."""
    table = kinds_of() if kinds is None else kinds
    learned = rng.multinomial(labelled, table) + 0.5
    return Known(rng.multinomial(labelled, table), (learned / learned.sum(axis=0)).T)


def observe(
    rng: np.random.Generator, truth: Floats, *, fields: int, cells: int, phi: float, kinds: Floats | None = None
) -> Counts:
    """(well, state) -> (well, field, kind): fields whose compositions scatter around their well's, as cells are called.

    `phi` is the correlation of the states of two cells of a field.
    """
    table = kinds_of() if kinds is None else kinds
    composition = np.repeat(truth[:, None], fields, axis=1)
    if phi > 0:
        gamma = rng.gamma(np.maximum(composition, 1e-9) * (1 / phi - 1))
        composition = gamma / gamma.sum(axis=-1, keepdims=True)
    states = rng.multinomial(cells, composition)
    return np.asarray(sum(rng.multinomial(states[..., k], table[k]) for k in range(len(table))), dtype=np.int64)


def calls(kinds: Counts) -> Counts:
    """(..., kind) -> (..., called state)."""
    return np.asarray(kinds.reshape(*kinds.shape[:-1], -1, SURENESS).sum(axis=-1))


def probabilities(kinds: Counts, posterior: Floats) -> Floats:
    """(well, field, kind) -> (well, patch, state), field after field; every field holds as many patches."""
    each = np.tile(np.arange(kinds.shape[2]), kinds.shape[1])
    patches = np.stack([np.repeat(each, well.ravel()) for well in kinds])
    return np.asarray(posterior[patches])
