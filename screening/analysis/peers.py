"""What a well should show, told by its peers: controls of its kind, replicates, neighbouring doses."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import sparse


def replicate_groups(plate: pd.DataFrame) -> np.ndarray:
    """Number the groups of wells that hold the same thing: (well) integers.

    Parameters
    ----------
    plate
        One row a well: `role` (as `plates.layout.roles` gives it), `compound`, `dose` (uM), `inducer`, `vehicle`,
        `cell_line`; `compound_2`, `dose_2` where wells hold two. A masked well is alone in its group.
    """
    keys = _keys(plate)
    alone = plate["role"].to_numpy() == "masked"
    keys = np.where(alone, [f"masked {number}" for number in range(len(plate))], keys)
    return np.asarray(pd.factorize(keys)[0])


def peer_weights(plate: pd.DataFrame) -> sparse.csr_array:
    """(well, well) weights whose product with values predicts each well from others, never from itself.

    A control is predicted by the mean of its kind, a treated well by its replicates at the same dose or, where
    it has none, by the wells of the next lower and next higher dose of its compound. Rows of wells without
    peers are empty, others add up to 1.

    Parameters
    ----------
    plate
        As for `replicate_groups`.
    """
    group = replicate_groups(plate)
    members = {number: np.flatnonzero(group == number) for number in np.unique(group)}
    rows, columns, weights = [], [], []

    def add(well: int, others: np.ndarray) -> None:
        rows.extend([well] * len(others))
        columns.extend(others.tolist())
        weights.extend([1 / len(others)] * len(others))

    next_doses = _next_doses(plate, members)
    for number, wells in members.items():
        for well in wells:
            others = wells[wells != well] if len(wells) > 1 else next_doses.get(number, wells[:0])
            if len(others):
                add(int(well), others)
    return sparse.csr_array((weights, (rows, columns)), shape=(len(plate), len(plate)))


def _keys(plate: pd.DataFrame) -> np.ndarray:
    """A text for each well that is equal for wells that hold the same."""
    dose = plate["dose"].to_numpy(dtype=float)
    # doses that differ by rounding only are one dose
    level = [f"{value:.4g}" if np.isfinite(value) else "" for value in dose]
    if "compound_2" in plate:
        pairs = zip(level, plate["compound_2"].astype(str).str.casefold(), plate["dose_2"].astype(float), strict=True)
        level = ["|".join((one, name, f"{value:.4g}" if name else "")) for one, name, value in pairs]
    role = plate["role"].astype(str).to_numpy()
    parts = [
        plate[name].astype(str).str.casefold().to_numpy() for name in ("compound", "inducer", "vehicle", "cell_line")
    ]
    compound, inducer, vehicle, line = parts
    treated = np.isin(role, ("none", "positive", "combination"))
    keys = [
        "|".join((kind, line[i], vehicle[i], *((compound[i], inducer[i], level[i]) if treated[i] else ())))
        for i, kind in enumerate(role)
    ]
    return np.array(keys, dtype=object)


def _next_doses(plate: pd.DataFrame, members: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """For each group of treated wells, the wells of the doses next to it."""
    first = {number: wells[0] for number, wells in members.items()}
    table = plate.iloc[list(first.values())].assign(group=list(first))
    table = table[(table["role"] == "none") & (table["dose"] > 0)].sort_values("dose")
    found = {}
    for _, series in table.groupby(["compound", "vehicle", "cell_line"], sort=False):
        groups = series["group"].to_numpy()
        for place, number in enumerate(groups):
            near = [members[groups[k]] for k in (place - 1, place + 1) if 0 <= k < len(groups)]
            if near:
                found[int(number)] = np.concatenate(near)
    return found
