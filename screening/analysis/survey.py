"""A first look that all curves of a design share: how well any EC50 and slope could do, and where to begin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .log_logistic import Array, Design, Limits, rise_of

SLOPES, LOCATIONS = 28, 141
MANY = 512  # curves at a time, so that the sums stay in the processor's cache
APART = 6  # EC50s of the grid between valleys: nearer ones are the grid's own ripples
WORTH_A_START = 0.2  # of what the best cell explains: what a valley may lack to be gone into all the same


@dataclass(frozen=True)
class Cells:
    """Sums over the doses for EC50s of one slope, (cell,), and the unit direction (cell, dose) beside a constant."""

    mean_rise: Array
    scale: Array
    direction: Array
    s00: Array
    s01: Array
    s11: Array

    def at(self, index: Array) -> Cells:
        """Some of the cells."""
        return Cells(*(values[index] for values in vars(self).values()))

    def residual(self, projection: Array, constant: Array, level: Array, limits: Limits) -> Array:
        """Residual sums of squares, the asymptotes solved within their limits.

        A convex bowl's lowest point in a box meets at least one of the limits that its free lowest point
        breaks: either asymptote is put on its limit and the other one follows.
        """
        rss = constant - projection**2
        if limits.bounded:
            height = projection * self.scale
            bottom = level - height * self.mean_rise
            top = bottom + height
            rss = rss + np.minimum(
                _excess(bottom, top, limits.bottom, limits.top, self.s00, self.s01, self.s11),
                _excess(top, bottom, limits.top, limits.bottom, self.s11, self.s01, self.s00),
            )
        out: Array = np.maximum(rss, 0)
        return out


def _excess(
    one: Array, other: Array, own: tuple[float, float], others: tuple[float, float], s11: Array, s12: Array, s22: Array
) -> Array:
    """What putting one asymptote inside its limits costs, the other one following inside its own."""
    moved = np.clip(one, *own) - one
    follows = np.clip(other - np.divide(s12, s22, out=np.zeros_like(s22), where=s22 > 0) * moved, *others) - other
    out: Array = moved * (s11 * moved + 2 * s12 * follows) + s22 * follows**2
    return out


@dataclass(frozen=True)
class Survey:
    """Residual sums of squares without the spread inside doses.

    `lowest` is (curve, location), over all slopes; `constant`, (curve,), what a constant leaves; `cells` are
    those of each slope.
    """

    slopes: Array
    locations: Array
    cells: list[Cells]
    lowest: Array
    constant: Array
    level: Array
    weighted: Array

    def over_slopes(self, column: Array, limits: Limits, rows: Array | slice = slice(None)) -> Array:
        """Residual sums of squares of each curve at its own location number `column`, (curve, slope)."""
        out = np.empty((column.size, self.slopes.size))
        for number, cells in enumerate(self.cells):
            own = cells.at(column)
            projection = np.einsum("cd,cd->c", self.weighted[rows], own.direction)
            out[:, number] = own.residual(projection, self.constant[rows], self.level[rows], limits)
        return out


def survey(design: Design, means: Array, limits: Limits) -> Survey:
    """Try every curve on one grid of slopes and EC50s: one matrix product a slope."""
    slopes, locations = np.geomspace(*limits.hill, SLOPES), np.linspace(*design.reach, LOCATIONS)
    cells = [_cells(design, slope, locations) for slope in slopes]
    level = means @ design.weight / design.weight.sum()
    centred = means - level[:, None]
    constant, weighted = centred**2 @ design.weight, centred * design.weight
    lowest = np.empty((len(means), LOCATIONS))
    for first in range(0, len(means), MANY):
        rows = slice(first, first + MANY)
        best = np.zeros_like(lowest[rows]) if not limits.bounded else np.full_like(lowest[rows], np.inf)
        for one in cells:
            projection = weighted[rows] @ one.direction.T
            if limits.bounded:
                np.minimum(best, one.residual(projection, constant[rows, None], level[rows, None], limits), out=best)
            else:
                np.multiply(projection, projection, out=projection)
                np.maximum(best, projection, out=best)
        lowest[rows] = best if limits.bounded else np.maximum(constant[rows, None] - best, 0)
    return Survey(slopes, locations, cells, lowest, constant, level, weighted)


def starts(grid: Survey, limits: Limits) -> list[tuple[Array, Array, Array]]:
    """Where to descend from: (curves, ln hill, log10 EC50) of each round, the first with every curve.

    The best cell; the two next valleys along the EC50; another slope's valley at the best EC50. Only the
    first matters for a clear curve, so others must not explain much less.
    """
    rows = np.arange(len(grid.lowest))
    best = grid.lowest.argmin(axis=1)
    least = grid.lowest[rows, best]
    ceiling = least + WORTH_A_START * (grid.constant - least)
    over = grid.over_slopes(best, limits)
    steep = over.argmin(axis=1)
    rounds = [(rows, np.log(grid.slopes[steep]), grid.locations[best])]
    curve, column, depth = _valleys(grid.lowest, ceiling)
    chosen = best
    for _ in range(2):
        apart = np.abs(column - chosen[curve]) >= APART
        curve, column, depth = curve[apart], column[apart], depth[apart]
        more, first = np.unique(curve, return_index=True)
        if not more.size:
            break
        lowest = column[first]  # each curve's valleys come in the order of their depth
        slope = grid.over_slopes(lowest, limits, more).argmin(axis=1)
        rounds.append((more, np.log(grid.slopes[slope]), grid.locations[lowest]))
        chosen = best.copy()
        chosen[more] = lowest
    padded = np.pad(over, ((0, 0), (1, 1)), constant_values=np.inf)
    over = np.where((over <= padded[:, :-2]) & (over < padded[:, 2:]) & (over <= ceiling[:, None]), over, np.inf)
    over[rows, steep] = np.inf
    slope = over.argmin(axis=1)
    more = np.flatnonzero(np.isfinite(over[rows, slope]))
    if more.size:
        rounds.append((more, np.log(grid.slopes[slope[more]]), grid.locations[best[more]]))
    return rounds


def _valleys(lowest: Array, ceiling: Array) -> tuple[Array, Array, Array]:
    """Curve, column, depth of every local minimum along the EC50 that is low enough; curve by curve, deepest first."""
    valley = lowest <= ceiling[:, None]
    valley[:, 1:] &= lowest[:, 1:] <= lowest[:, :-1]
    valley[:, :-1] &= lowest[:, :-1] < lowest[:, 1:]
    curve, column = np.nonzero(valley)
    depth = lowest[curve, column]
    order = np.lexsort((depth, curve))
    return curve[order], column[order], depth[order]


def _cells(design: Design, slope: float, locations: Array) -> Cells:
    weight = design.weight
    rise = rise_of(np.full(locations.size, np.log(slope)), locations, design.log_dose)  # (cell, dose)
    mean_rise = rise @ weight / weight.sum()
    deviation = rise - mean_rise[:, None]  # centred first: a rise of 1 +- 1e-9 keeps its digits
    variance = deviation**2 @ weight
    held = variance > 1e-280
    scale = np.where(held, 1 / np.sqrt(np.where(held, variance, 1)), 0)
    fall = 1 - rise
    return Cells(
        mean_rise, scale, deviation * scale[:, None], fall**2 @ weight, (fall * rise) @ weight, rise**2 @ weight
    )
