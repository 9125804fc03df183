"""Which patches train, which choose and which only judge: whole wells, plates or dates on one side."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from plates.errors import SettingsError
from plates.states import STATES

from .dates import dates_of

SPLITS = ("train", "validation", "test")
SHARES = (0.7, 0.15, 0.15)
Unit = Literal["well", "plate", "date"]
UNITS: tuple[Unit, ...] = ("well", "plate", "date")
_TRIES = 300


def split_by(
    table: pd.DataFrame,
    *,
    by: Unit = "well",
    seed: int,
    shares: tuple[float, float, float] = SHARES,
    hold_out: Sequence[str] = (),
) -> npt.NDArray[np.str_]:
    """Deal whole wells, plates or dates to train, validation and test.

    Parameters
    ----------
    table
        As `read_annotations` returns it.
    by
        What is never divided. A well never is, whatever is chosen.
    seed
        Of the deal.
    shares
        Wanted shares of the patches (train, validation, test); a share of 0 leaves that split empty.
    hold_out
        Names of plates, dates or wells (as `unit_names` gives them, "P003" or "P003:B07") that are the test
        set; the wells of the others are dealt to train and validation.

    Returns
    -------
    split
        One name per row of the table. Each state is in every split if the units allow it; `missing_states`
        tells where they did not.

    Raises
    ------
    SettingsError
        If there are fewer units than splits, a name is not known, a date is not known, or a well has two.
    """
    if hold_out:
        units = unit_names(table, by=by)
        unknown = [name for name in hold_out if name not in units]
        if unknown:
            raise SettingsError(
                f"No annotated {by} is called {unknown[0]!r}. Expected one of {_listed(sorted(set(units)))}. "
                "Correct the name that is to be held out."
            )
        return _with_test(table, np.isin(units, list(hold_out)), seed=seed, shares=shares, what=", ".join(hold_out))
    if by == "well":
        return split_wells(table, seed=seed, shares=shares)
    units = unit_names(table, by=by)
    names, place = np.unique(units, return_inverse=True)
    wanted = [split for split, share in zip(SPLITS, shares, strict=True) if share > 0]
    if len(names) < len(wanted):
        raise SettingsError(
            f"The annotated patches lie on {len(names)} {by}{'s' * (len(names) != 1)} ({_listed(names.tolist())}), too "
            f"few for {', '.join(wanted)}. Expected at least {len(wanted)}. Annotate another {by}, hold one out by "
            "its name (the others are then divided by wells), or split by well."
        )
    counts = pd.crosstab(units, table["state"].to_numpy()).loc[names.tolist()].to_numpy(dtype=float)
    return np.array(SPLITS, dtype="U10")[_dealt_whole(counts, shares=shares, seed=seed)[place]]


def folds(
    table: pd.DataFrame, *, by: Unit = "plate", seed: int, validation: float = 0.15
) -> Iterator[tuple[str, npt.NDArray[np.str_]]]:
    """Leave one plate, date or well out, each in turn: (its name, split of every row).

    What is left out is the test set. Of the others' wells a share of `validation` chooses the epoch and
    calibrates; those are dealt by well, since with few plates none can be spared.

    Raises
    ------
    SettingsError
        If there is only one unit, or as `split_by`.
    """
    units = unit_names(table, by=by)
    names = sorted(set(units.tolist()))
    if len(names) < 2:
        raise SettingsError(
            f"All annotated patches lie on one {by} ({names[0]}), so that none can be left out. "
            f"Annotate another {by}, or leave out something smaller."
        )
    for name in names:
        yield name, _with_test(table, units == name, seed=seed, shares=(1 - validation, validation, 0.0), what=name)


def unit_names(table: pd.DataFrame, *, by: Unit) -> npt.NDArray[np.str_]:
    """Name of the plate ("P003"), date ("2026-03-02") or well ("P003:B07") of every row.

    Raises
    ------
    SettingsError
        If a date is missing, or the rows of a well have two: it could not be kept whole.
    """
    if by == "date":
        return _whole_dates(table)
    plates = plate_names(table)
    if by == "plate":
        return plates
    return np.array([f"{plate}:{well}" for plate, well in zip(plates, table["well"], strict=True)])


def plate_names(table: pd.DataFrame) -> npt.NDArray[np.str_]:
    """Short name of each row's plate; its whole path where two plates share a name."""
    paths = [str(path) for path in table["plate"].unique()]
    short = {path: Path(path).name.removesuffix(".zarr") for path in paths}
    often = pd.Series(list(short.values())).value_counts()
    names = {path: name if often[name] == 1 else path for path, name in short.items()}
    return table["plate"].astype(str).map(names).to_numpy(dtype=str)


def count_states(table: pd.DataFrame, split: npt.ArrayLike) -> pd.DataFrame:
    """Patches by state (rows, in their order) and split (columns), and the wells that hold them.

    Columns are the splits that occur and, for each, `<split> wells`.
    """
    told = pd.DataFrame({"state": table["state"].to_numpy(), "split": np.asarray(split), "group": well_groups(table)})
    order = sorted(told["state"].unique(), key=state_order)
    by = told.groupby(["state", "split"])
    patches, wells = by.size().unstack(fill_value=0), by["group"].nunique().unstack(fill_value=0)
    there = [name for name in SPLITS if name in patches]
    return pd.DataFrame(
        {
            heading: values
            for name in there
            for heading, values in ((name, patches[name]), (f"{name} wells", wells[name]))
        }
    ).loc[order]


def missing_states(table: pd.DataFrame, split: npt.ArrayLike) -> list[str]:
    """One sentence for every state that a split lacks, with the counts and what follows from it."""
    counts = count_states(table, split)
    consequence = {
        "train": "a classifier cannot learn it",
        "validation": "the epoch and the temperature are chosen without it",
        "test": "no score speaks of it",
    }
    sentences = []
    for name in (name for name in SPLITS if name in counts):
        for state in counts.index[counts[name] == 0]:
            elsewhere = ", ".join(
                f"{other} {counts.loc[state, other]} patches in {counts.loc[state, f'{other} wells']} wells"
                for other in SPLITS
                if other in counts and counts.loc[state, other] > 0
            )
            sentences.append(f"No patch of {state} is in {name}: {consequence[name]} ({elsewhere}).")
    return sentences


def split_wells(table: pd.DataFrame, *, seed: int, shares: tuple[float, float, float] = SHARES) -> npt.NDArray[np.str_]:
    """Deal whole wells to train, validation and test, each state in about the wanted shares.

    Wells are shuffled within their commonest state; each goes to the split that lacks most patches.
    A state seen in three wells or more is present in every split.

    Returns
    -------
    split
        One name per row of the table.
    """
    groups = well_groups(table)
    random = np.random.default_rng(seed)
    used = np.flatnonzero(shares)
    split = np.full(len(table), SPLITS[0], dtype="U10")
    wells = pd.DataFrame({"group": groups, "state": table["state"].to_numpy()}).groupby("group", sort=True)
    commonest = wells["state"].agg(lambda states: states.value_counts(sort=True).index[0])
    sizes = wells.size()
    for state in sorted(commonest.unique(), key=state_order):
        names = [str(name) for name in commonest.index[commonest == state]]
        wanted = np.array(shares) * float(sizes[names].sum()) if names else np.zeros(3)
        given = np.zeros(3)
        order = random.permutation(len(names))
        for turn, place in enumerate(order):
            # the first wells go one to each split, so that a rare state is nowhere missing
            goes_to = int(used[turn]) if turn < len(used) <= len(names) else int(np.argmax(wanted - given))
            given[goes_to] += float(sizes[names[place]])
            split[groups == names[place]] = SPLITS[goes_to]
    return split


def well_groups(table: pd.DataFrame) -> npt.NDArray[np.str_]:
    """Plate and well of each row: the unit that is never divided."""
    return (table["plate"].astype(str) + ":" + table["well"].astype(str)).to_numpy(dtype=str)


def state_order(state: str) -> tuple[int, str]:
    """Sort key: the five states in their order, others after them by name."""
    return (STATES.index(state) if state in STATES else len(STATES), state)


def _with_test(
    table: pd.DataFrame,
    held_out: npt.NDArray[np.bool_],
    *,
    seed: int,
    shares: tuple[float, float, float],
    what: str,
) -> npt.NDArray[np.str_]:
    """Test what is held out; deal the wells of the rest to train and validation in the ratio of their shares."""
    if held_out.all():
        raise SettingsError(f"Nothing is left to train on when {what} is held out. Hold out less.")
    training, validation, _ = shares
    split = np.full(len(table), "test", dtype="U10")
    ratio = (training / (training + validation), validation / (training + validation), 0.0)
    split[~held_out] = split_wells(table[~held_out], seed=seed, shares=ratio)
    return split


def _whole_dates(table: pd.DataFrame) -> npt.NDArray[np.str_]:
    dates = dates_of(table)
    groups = well_groups(table)
    if (dates == "").any():
        raise SettingsError(
            f"The date of well {_short(groups[dates == ''][0])} is not known: neither a column 'date' in the table nor "
            "a time noted by the instrument tells it. Add the column 'date' to the annotation table (any text that is "
            "the same for what was recorded together)."
        )
    several = pd.Series(dates).groupby(groups).unique()
    for group, found in several[several.map(len) > 1].items():
        raise SettingsError(
            f"Well {_short(str(group))} has the dates {' and '.join(found[:2])}. Patches of one well look alike, so a "
            "well belongs to one date. Give all its rows the date on which its recording began."
        )
    return dates


def _dealt_whole(
    counts: npt.NDArray[np.float64], *, shares: tuple[float, float, float], seed: int
) -> npt.NDArray[np.int64]:
    """Split (0, 1, 2) of every unit, from patches by (unit, state).

    Of many random deals the one that leaves the fewest states out of a split, then the one closest to the
    shares. Plates and dates are few, so that many deals are most deals.
    """
    random = np.random.default_rng(seed)
    used = np.flatnonzero(shares)
    wanted = np.array(shares)[used, None] * counts.sum(axis=0)
    best, best_badness = np.zeros(len(counts), dtype=np.int64), (np.inf, np.inf)
    for _ in range(_TRIES):
        dealt = np.zeros(len(counts), dtype=np.int64)
        given = np.zeros_like(wanted)
        for turn, unit in enumerate(random.permutation(len(counts))):
            lacking = ((wanted - given) / wanted.sum(axis=1, keepdims=True)).sum(axis=1)
            goes_to = turn if turn < len(used) else int(np.argmax(lacking))
            given[goes_to] += counts[unit]
            dealt[unit] = used[goes_to]
        badness = (float((given == 0).sum()), float(np.abs(given - wanted).sum()))
        if badness < best_badness:
            best, best_badness = dealt, badness
    return best


def _short(group: str) -> str:
    plate, well = group.rsplit(":", 1)
    return f"{well} of {Path(plate).name}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(str, names[:8])) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
