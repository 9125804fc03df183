"""Whether the state of an annotated patch could be told from where and when it was recorded, without a look at it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from plates.errors import PlateMapError, TomoscreenError
from plates.layout.wells import parse_well, row_letters, smallest_format
from plates.store import open_plate

from .dates import dates_of
from .splits import plate_names, state_order, well_groups

PERMUTATIONS = 499
# Below this p-value an association is not chance; above these strengths it matters, or is worth a line.
SURE, STRONG, WEAK = 0.01, 0.3, 0.1

_REMEDIES = {
    "plate": "Score it with one plate left out at a time: a classifier that knows the plates fails there.",
    "date": "Score it with one date left out at a time: a classifier that knows the days fails there.",
    "row": "Scatter the treatments over the plate, and score it on a plate with another layout.",
    "column": "Scatter the treatments over the plate, and score it on a plate with another layout.",
    "edge": "Annotate wells of every state at the rim and inside, or leave the rim out.",
    "field": "Annotate the same fields of every well.",
    "timepoint": "Annotate every state at several timepoints, living cells also late: medium and density drift.",
}


@dataclass(frozen=True)
class Finding:
    """One way in which the state could be guessed without looking at a cell.

    Attributes
    ----------
    severity
        "warning": scores may be about the circumstance and not the cell; "note": good to know.
    about
        The circumstance: plate, date, row, column, edge, field or timepoint.
    what
        One sentence, with its numbers.
    remedy
        What to do, one sentence.
    association
        Bias-corrected Cramer's V of state and circumstance over wells, 0 to 1; None where it is not defined.
    guessed, chance
        How often another well of the same circumstance, drawn at random, has the same state, and the mean of
        that when the circumstances are shuffled over the wells.
    p_value
        Share of the shuffles that guess as well.
    """

    severity: Literal["warning", "note"]
    about: str
    what: str
    remedy: str
    association: float | None
    guessed: float
    chance: float
    p_value: float


@dataclass(frozen=True)
class _Measure:
    wells: pd.DataFrame  # (state, value) wells, each shared out over its states and values
    association: float | None
    guessed: float
    chance: float
    p_value: float


def check_confounding(table: pd.DataFrame, *, seed: int = 0) -> list[Finding]:
    """Find circumstances that tell the state of a well: plate, date, row, column, edge, field and timepoint.

    Wells are the units: patches of one well share all of these, and a thousand of them prove no more than
    one. A well of several states counts for each by its share of patches.

    Parameters
    ----------
    table
        As `read_annotations` returns it.
    seed
        Of the shuffles.

    Returns
    -------
    findings
        The worst first; empty if nothing tells the state.
    """
    if table["state"].nunique() < 2:
        return []
    groups, states = well_groups(table), table["state"].to_numpy(dtype=str)
    circumstances = _circumstances(table)
    codes = {about: np.unique(values, return_inverse=True)[1] for about, values in circumstances.items()}
    findings = []
    if codes["plate"].max() == 0:
        findings.append(_one_plate(circumstances["plate"]))
    elif _same_partition(codes["plate"], codes["date"]):
        del codes["date"]  # every plate has a day of its own: said once, of the plate
    for about, code in codes.items():
        if code.max() > 0:
            measure = _measure(states, circumstances[about], groups, seed=seed)
            found = _judge(about, measure, remedy=_REMEDIES[about], certain=about in ("plate", "date"))
            findings += [] if found is None else [found]
    return sorted(findings, key=lambda finding: (finding.severity != "warning", finding.p_value))


def describe(findings: Sequence[Finding]) -> list[str]:
    """Lines to print, one a finding."""
    return [f"{finding.severity}: {finding.what} {finding.remedy}" for finding in findings]


def cramers_v(counts: npt.ArrayLike, *, units: int) -> float | None:
    """Cramer's V with the correction for bias of Bergsma (2013, J. Korean Stat. Soc. 42, 323-328).

    Parameters
    ----------
    counts
        (row, column) of a table of counts, no row or column empty.
    units
        How many independent units were counted.

    Returns
    -------
    association
        0 (none) to 1; None where every unit has a row or a column of its own, and nothing can be said.
    """
    observed = np.asarray(counts, dtype=float)
    rows, columns = observed.shape
    if units < 2:
        return None
    expected = observed.sum(axis=1, keepdims=True) * observed.sum(axis=0, keepdims=True) / observed.sum()
    phi2 = float(((observed - expected) ** 2 / expected).sum() / observed.sum())
    phi2 = max(0.0, phi2 - (rows - 1) * (columns - 1) / (units - 1))
    room = min(rows - (rows - 1) ** 2 / (units - 1), columns - (columns - 1) ** 2 / (units - 1)) - 1
    return min(1.0, float(np.sqrt(phi2 / room))) if room > 1e-9 else None


def _circumstances(table: pd.DataFrame) -> dict[str, npt.NDArray[np.str_]]:
    """Circumstance -> its value for every row; one value everywhere where it is not known."""
    unknown = np.full(len(table), "")
    dates = dates_of(table)
    circumstances = {
        "plate": plate_names(table),
        # wells whose day nobody noted would share a made-up one
        "date": unknown if (dates == "").any() else dates,
        **_positions(table),
    }
    for name in ("field", "timepoint"):
        circumstances[name] = table[name].astype(str).to_numpy(dtype=str)
    return circumstances


def _positions(table: pd.DataFrame) -> dict[str, npt.NDArray[np.str_]]:
    """Row, column and edge; nothing where a well's name is no place on a plate."""
    try:
        places = [parse_well(str(well)) for well in table["well"]]
    except PlateMapError:
        return {}
    paths = table["plate"].astype(str).to_list()
    shapes = {
        path: _shape(path, [place for place, of in zip(places, paths, strict=True) if of == path])
        for path in set(paths)
    }
    edge = [
        row in (0, shapes[path][0] - 1) or column in (0, shapes[path][1] - 1)
        for (row, column), path in zip(places, paths, strict=True)
    ]
    return {
        "row": np.array([row_letters(row) for row, _ in places]),
        "column": np.array([str(column + 1) for _, column in places]),
        "edge": np.where(edge, "edge", "inside"),
    }


def _shape(path: str, places: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Rows and columns of a plate; of the smallest that holds the annotated wells if it cannot be opened."""
    try:
        plate = open_plate(Path(path))
    except TomoscreenError:
        return smallest_format(places)
    return plate.rows, plate.columns


def _same_partition(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> bool:
    pairs = len(np.unique(one * (other.max() + 1) + other))
    return pairs == len(np.unique(one)) == len(np.unique(other))


def _measure(
    states: npt.NDArray[np.str_], values: npt.NDArray[np.str_], groups: npt.NDArray[np.str_], *, seed: int
) -> _Measure:
    told = pd.DataFrame({"well": groups, "value": values, "state": states})
    parts = told.groupby(["well", "value", "state"]).size().unstack(fill_value=0)
    present = sorted(set(states.tolist()), key=state_order)
    parts = parts[present]
    parts = parts.div(parts.groupby("well").sum().sum(axis=1), axis=0, level="well")  # a well counts 1
    share = parts.to_numpy(dtype=float)  # (part of a well, state)
    well = np.unique(parts.index.get_level_values("well"), return_inverse=True)[1]
    names, value = np.unique(parts.index.get_level_values("value").to_numpy(dtype=str), return_inverse=True)
    counts = _count(share, value, len(names))
    guessed = _guessed(share, value, well, len(names))
    random = np.random.default_rng(seed)
    shuffled = [_guessed(share, moved, well, len(names)) for moved in _shuffles(value, well, random)]
    return _Measure(
        wells=pd.DataFrame(counts.T, index=list(parts.columns), columns=list(names)),
        association=cramers_v(counts, units=int(well.max()) + 1),
        guessed=guessed,
        chance=float(np.mean(shuffled)),
        p_value=(1 + sum(score >= guessed - 1e-9 for score in shuffled)) / (1 + PERMUTATIONS),
    )


def _guessed(
    share: npt.NDArray[np.float64], value: npt.NDArray[np.int64], well: npt.NDArray[np.int64], values: int
) -> float:
    """Chance that another well of the same value, drawn at random, has the same state; mean over the wells.

    The commonest state of the others would be the sharper guess, but not a fair one: where states are equally
    frequent, leaving a well out makes its own state the rarest, and the guess is always wrong.
    """
    others = _count(share, value, values)[value] - share
    everywhere = share.sum(axis=0) - _count(share, well, int(well.max()) + 1)[well]
    # where no other well has this value, any other well is asked
    seen = np.where(others.sum(axis=1, keepdims=True) > 1e-9, others, everywhere)
    drawn = seen / seen.sum(axis=1, keepdims=True)
    return float((share * drawn).sum() / (well.max() + 1))


def _count(share: npt.NDArray[np.float64], code: npt.NDArray[np.int64], codes: int) -> npt.NDArray[np.float64]:
    """Sum the shares (part, state) by code: (code, state)."""
    states = share.shape[1]
    place = (code[:, None] * states + np.arange(states)).ravel()
    counts = np.bincount(place, weights=share.ravel(), minlength=codes * states).astype(np.float64)
    return counts.reshape(codes, states)


def _shuffles(
    value: npt.NDArray[np.int64], well: npt.NDArray[np.int64], random: np.random.Generator
) -> Iterator[npt.NDArray[np.int64]]:
    """Values dealt anew, as a design without confounding could have dealt them.

    Wells with equally many values exchange them, and within a well its values change places: a circumstance
    that differs between wells is shuffled over wells, one that differs within them within each.
    """
    order = np.argsort(well, kind="stable")
    sizes = np.bincount(well)[well[order]]
    blocks = [order[sizes == size].reshape(-1, size) for size in np.unique(sizes)]  # (well, part)
    for _ in range(PERMUTATIONS):
        moved = value.copy()
        for block in blocks:
            moved[block] = random.permuted(random.permutation(value[block]), axis=1)
        yield moved


def _judge(about: str, measure: _Measure, *, remedy: str, certain: bool) -> Finding | None:
    """Say what is tied; a place is only blamed where chance does not explain it, a day or plate always is."""
    numbers = (
        f"Another well of the same {about} has the same state in {measure.guessed:.0%} of the cases, against "
        f"{measure.chance:.0%} by chance (p = {measure.p_value:.3f}"
        + ("" if measure.association is None else f", Cramer's V {measure.association:.2f}")
        + ")."
    )

    def finding(severity: Literal["warning", "note"], what: str, advice: str) -> Finding:
        return Finding(
            severity, about, what, advice, measure.association, measure.guessed, measure.chance, measure.p_value
        )

    there = measure.wells > 0
    alone = there.sum(axis=0) == 1  # values that hold one state only
    once = there.sum(axis=1) == 1  # states that have one value only
    sure = measure.p_value <= SURE
    tied = [state for state in there.index if once[state] and alone[there.loc[state]].all()]
    if tied and (certain or sure):
        places = "; ".join(f"{state}: {_value_of(there, state)}" for state in tied[:8])
        if len(tied) == len(there):
            what = (
                f"No {about} holds two states ({places}), so no score can tell whether the classifier sees the "
                f"state or the {about}."
            )
            advice = f"Record at least two states on every {about}; until then no way of splitting helps."
        else:
            what = (
                f"State and {about} cannot be told apart for {_and(tied)}: each occurs on one {about} only, which "
                f"holds no other state ({places}). {numbers}"
            )
            advice = f"Record these states on more than one {about}, or other states beside them."
        return finding("warning", what, advice)
    if alone.all() and (certain or sure):
        what = f"No {about} holds two states, so the classifier may learn the {about}. {numbers}"
        return finding("warning", what, remedy)
    if sure and (measure.association or 0.0) >= WEAK:
        what = f"State and {about} go together. {numbers}"
        return finding("warning" if (measure.association or 0.0) >= STRONG else "note", what, remedy)
    lonely = [state for state in there.index if once[state]] if certain else []
    if lonely:
        places = "; ".join(f"{state}: {_value_of(there, state)}" for state in lonely[:8])
        what = f"Only one {about} holds {_and(lonely)} ({places}): with it left out the state cannot be learned."
        return finding("note", what, f"Annotate {_and(lonely)} on another {about}.")
    return None


def _one_plate(values: npt.NDArray[np.str_]) -> Finding:
    what = f"All patches lie on one plate ({values[0]}): no score here tells how the classifier does on another."
    return Finding("note", "plate", what, "Annotate a second plate before you trust it there.", None, 1.0, 1.0, 1.0)


def _value_of(there: pd.DataFrame, state: str) -> str:
    return str(there.columns[there.loc[state].to_numpy(dtype=bool)][0])


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
