"""Where wells lie: controls only at an edge, replicates side by side, and maps that fit the plate only when turned."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import comb, factorial, prod

import numpy as np
import pandas as pd

from .finding import Finding
from .wells import FORMATS, well_name

# Chance below which a place is no accident; a plate has a handful of these rules.
CHANCE = 0.01
# Share of wells in common from which a turned map is the right one.
FIT = 0.9
Place = tuple[int, int]


def place_findings(used: pd.DataFrame, shape: Place) -> list[Finding]:
    """Findings about the places of controls, replicates and doses; `used` holds no masked well."""
    return [
        *_control_places(used, shape),
        *_neighbouring_replicates(used),
        *_doses_along(used),
    ]


def orientation_findings(table: pd.DataFrame, shape: Place, seen: set[Place] | None) -> list[Finding]:
    """Whether the map is that of the plate, or of the plate turned or transposed.

    Parameters
    ----------
    table
        All wells of the map, masked ones too.
    shape
        Rows and columns of the map's format.
    seen
        Row and column of the wells imaged; None where that is not known.
    """
    mapped = set(zip(table["row"], table["column"], strict=True))
    if seen:
        return _turned(mapped, shape, seen)
    if seen is None:
        return _transposed(table, mapped, shape)
    return []


def _turned(mapped: set[Place], shape: Place, seen: set[Place]) -> list[Finding]:
    """The one way of turning the map that fits the wells imaged, where the map as it stands does not."""
    rows, columns = shape
    ways = {
        "with rows and columns exchanged": {(column, row) for row, column in mapped},
        "turned by 180 degrees": {(rows - 1 - row, columns - 1 - column) for row, column in mapped},
    }
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        name = f"spread over every second row and column from {well_name(down, right)} on"
        ways[name] = {(2 * row + down, 2 * column + right) for row, column in mapped}
    fits = {name: len(places & seen) / len(places | seen) for name, places in ways.items()}
    best = max(fits, key=lambda name: fits[name])
    as_is = len(mapped & seen) / len(mapped | seen)
    if fits[best] < FIT or fits[best] <= as_is:
        return []
    shared = len(ways[best] & seen)
    what = (
        f"The {len(seen)} wells imaged are those of the map {best}: {shared} agree then, "
        f"{len(mapped & seen)} as it stands."
    )
    remedy = "Turn the plate map likewise, or find out how the plate lay on the microscope."
    return [Finding("stop", what, (), remedy)]


def _transposed(table: pd.DataFrame, mapped: set[Place], shape: Place) -> list[Finding]:
    """Signs of exchanged rows and columns in the map alone."""
    exchanged = {(column, row) for row, column in mapped}
    smaller = [
        format_ for wells, format_ in FORMATS.items() if wells < shape[0] * shape[1] and _holds(format_, exchanged)
    ]
    remedy = "Look whether rows and columns were exchanged when the map was written."
    # a few wells in a corner fit many formats; a plate half full is a plate
    if smaller and len(mapped) >= smaller[0][0] * smaller[0][1] / 2 and not _holds(smaller[0], mapped):
        rows, columns = smaller[0]
        what = (
            f"The {len(mapped)} wells need a {shape[0] * shape[1]}-well plate, but would fit a {rows * columns}-well "
            f"plate with rows and columns exchanged."
        )
        return [Finding("warning", what, (), remedy)]
    treated = table[(table["role"] == "none") & (table["dose"] > 0)]
    last_column = max(column for _, column in mapped)
    steps = treated.groupby("compound")["dose"].nunique()
    if last_column != shape[0] - 1 or (steps >= 4).sum() < 2:
        return []
    constant = treated.groupby("column")["dose"].nunique().eq(1).all()
    along_rows = treated.groupby("row")["compound"].nunique().eq(1).all()
    if constant and along_rows and treated["column"].nunique() == shape[0]:
        what = (
            f"Dose series of {shape[0]} run along the rows and leave columns {shape[0] + 1} to {shape[1]} of a "
            f"{shape[0]} x {shape[1]} plate free, as if rows and columns had been exchanged."
        )
        return [Finding("note", what, (), remedy)]
    return []


def _holds(shape: Place, places: set[Place]) -> bool:
    return all(row < shape[0] and column < shape[1] for row, column in places)


def _control_places(used: pd.DataFrame, shape: Place) -> list[Finding]:
    found = []
    for role, name in (("negative", "vehicle"), ("positive", "positive control")):
        wells = used[used["role"] == role]
        if len(wells) < 2:
            continue
        for where, chance, severity_is_note in _confinements(used, wells, shape):
            if chance < CHANCE:
                what = (
                    f"All {len(wells)} {name} wells lie {where}, so they cannot be told from effects of that place; "
                    f"scattered at random over the map's wells they would do so with a chance of {chance:.1g}."
                )
                remedy = "Scatter the controls over the plate; on this one, look at the edge statistics first."
                found.append(Finding("note" if severity_is_note else "warning", what, tuple(wells["well"]), remedy))
                break
    return found


def _confinements(used: pd.DataFrame, wells: pd.DataFrame, shape: Place) -> Iterator[tuple[str, float, bool]]:
    """Regions that hold all of these wells, with the chance of it and whether that is but a note.

    The chance that all n wells fall into K of the N wells of the map is hypergeometric, C(K, n) / C(N, n);
    for "one column, whichever" it is summed over the columns.
    """
    total, number = len(used), len(wells)
    everything = comb(total, number)
    for axis in ("column", "row"):
        values = sorted(set(wells[axis]))
        if len(values) == 1:
            sizes = used.groupby(axis).size()
            yield f"in {_line(axis, values[0])}", sum(comb(int(size), number) for size in sizes) / everything, False
    if _at_edge(wells, used).all():
        yield "at the edge of the wells in use", comb(int(_at_edge(used, used).sum()), number) / everything, False
    for axis, first, second in (("column", "left", "right"), ("row", "upper", "lower")):
        half = shape[0 if axis == "row" else 1] / 2
        before = wells[axis] < half
        if before.all() or not before.any():
            inside = int((used[axis] < half).sum())
            chance = (comb(inside, number) + comb(total - inside, number)) / everything
            yield f"in the {first if before.all() else second} half of the plate", chance, False
    for axis in ("column", "row"):
        values = sorted(set(wells[axis]))
        if len(values) == 2:
            sizes = used.groupby(axis).size()
            pairs = sum(comb(int(one + other), number) for one, other in combinations(sizes, 2))
            yield f"in {_line(axis, values[0])} and {_line(axis, values[1])}", pairs / everything, True


def _line(axis: str, value: int) -> str:
    return f"column {value + 1}" if axis == "column" else f"row {well_name(value, 0)[:-2]}"


def _at_edge(wells: pd.DataFrame, used: pd.DataFrame) -> pd.Series:
    """Whether wells are outermost; a map that leaves the border empty has its edge where its wells end."""
    inner_row = wells["row"].between(used["row"].min() + 1, used["row"].max() - 1)
    inner_column = wells["column"].between(used["column"].min() + 1, used["column"].max() - 1)
    edge: pd.Series = ~(inner_row & inner_column)
    return edge


def _neighbouring_replicates(used: pd.DataFrame) -> list[Finding]:
    treated = used[used["role"] == "none"]
    groups = [group for _, group in treated.groupby(["compound", "dose", "cell_line"], dropna=False) if len(group) > 1]
    side_by_side = [group for group in groups if _is_one_block(group)]
    # a few pairs meet by accident
    if len(groups) < 3 or len(side_by_side) * 2 <= len(groups):
        return []
    wells = tuple(pd.concat(side_by_side).sort_values(["row", "column"])["well"])
    what = (
        f"In {len(side_by_side)} of {len(groups)} doses with replicates all replicates are neighbours: they share "
        "their place's error, so their agreement says too much."
    )
    return [Finding("warning", what, wells, "Scatter replicates over the plate, or better over several plates.")]


def _is_one_block(wells: pd.DataFrame) -> bool:
    left = set(zip(wells["row"], wells["column"], strict=True))
    reached = [left.pop()]
    while reached:
        row, column = reached.pop()
        near = {(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)} & left
        left -= near
        reached.extend(near)
    return not left


def _doses_along(used: pd.DataFrame) -> list[Finding]:
    """Whether every dose series rises in the same direction."""
    treated = used[(used["role"] == "none") & (used["dose"] > 0)]
    series = [group for _, group in treated.groupby("compound") if group["dose"].nunique() >= 3]
    if not series:
        return []
    for axis, low, high in (("column", "on the left", "on the right"), ("row", "above", "below")):
        signs = [_direction(group, axis) for group in series]
        # by chance, each series of m doses would have this one of m! orders
        chance = 2 * prod(1 / factorial(group["dose"].nunique()) for group in series)
        if abs(sum(signs)) == len(series) and chance < CHANCE:
            many = f"In all {len(series)} dose series" if len(series) > 1 else "In the dose series"
            side = low if signs[0] > 0 else high
            what = (
                f"{many} the low doses lie {side}, the high ones opposite: a gradient over the plate would look "
                "like an effect of dose."
            )
            return [Finding("note", what, (), "Randomise the places of doses, or turn every second series round.")]
    return []


def _direction(wells: pd.DataFrame, axis: str) -> int:
    """+1 where the dose rises with every step along the axis, -1 where it falls, 0 otherwise."""
    ordered = wells.sort_values([axis, "dose"])
    places, doses = ordered[axis].to_numpy(), np.log10(ordered["dose"].to_numpy())
    middle = pd.Series(doses).groupby(places).agg(["min", "max"])
    if len(middle) < wells["dose"].nunique():
        return 0
    low, high = middle["min"].to_numpy(), middle["max"].to_numpy()
    if (low[1:] >= high[:-1]).all():
        return 1
    return -1 if (high[1:] <= low[:-1]).all() else 0
