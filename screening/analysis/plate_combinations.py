"""Every pair of compounds that shares wells: what it does beyond its parts, from the wells of one or more plates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from plates.layout.roles import COMBINATION, roles

from .combinations import MODELS, Synergy, synergy
from .normalization import normalize

_PARTS = ("expected", "excess", "excess_low", "excess_high")
NONE = "no well of the plate map holds two compounds"


def fit_combinations(
    plates: Sequence[xr.Dataset], *, timepoint: int = -1, level: float = 0.95, draws: int = 200, seed: int = 0
) -> xr.Dataset:
    """Compare every pair of compounds with HSA, Bliss, Loewe and ZIP, over all plates together.

    The response is the excess death over each plate's own vehicle, as it is for curves. The wells of a compound alone
    are those of all plates, on the cell line of the pair.

    Parameters
    ----------
    plates
        `normalized` (or `fractions`) of each plate, with `compound_2` and `dose_2` where wells hold two compounds.
    timepoint
        Position of the timepoint that is read.
    level, draws, seed
        Of the intervals (`combinations.synergy`).

    Returns
    -------
    Dataset
        Group `combinations`. (pair, dose_index, dose_2_index): `response` (mean excess death), `wells`, also of the
        compounds alone, at dose 0 of the other; (pair, dose_index, dose_2_index, model): `expected`, `excess` (response
        minus expected, above 0 is synergy), `excess_low`, `excess_high`, `excess_status`. (pair, dose_index) `dose`,
        (pair, dose_2_index) `dose_2`: uM, 0 first. (pair, model): `mean_excess` with `_low`, `_high`, `dose_pairs`
        (that it is the mean of), `verdict`; (pair): `compound`, `compound_2`, `cell_line`, `status` (ok, or why nothing
        or no interval could be computed). No pair where no well holds two compounds: `note` says so.
    """
    frames = [_wells(plate, number, timepoint) for number, plate in enumerate(plates, start=1)]
    table = pd.concat(frames, ignore_index=True)
    pairs = list(dict.fromkeys(map(tuple, table.loc[table["second"] != "", ["first", "second", "line"]].to_numpy())))
    lines = {line for *_, line in pairs}
    found = [(pair, _matrix(table, pair)) for pair in pairs]
    parts = [
        _of_pair(pair, matrix, synergy(matrix, level=level, draws=draws, seed=seed), named=len(lines) > 1)
        for pair, matrix in found
    ]
    attrs = {
        "level": level,
        "timepoint": int(plates[0].timepoint.values[timepoint]),
        "response": "excess death over vehicle, (x - vehicle) / (1 - vehicle death)",
        "rule": "synergy or antagonism where the interval of the mean excess lies on one side of 0",
        "note": "" if parts else NONE,
    }
    # pairs of fewer doses than others are filled up with missing values
    result = xr.concat(parts, dim="pair", join="outer", combine_attrs="drop") if parts else _nothing()
    result["wells"] = result["wells"].fillna(0).astype(int)
    for name in ("dose", "dose_2"):
        result[name].attrs["units"] = "uM"
    return result.assign_attrs(attrs)


def _wells(plate: xr.Dataset, number: int, timepoint: int) -> pd.DataFrame:
    """Wells of one compound or two: their compounds in the order of the alphabet, doses, excess death."""
    data = plate if "death_excess" in plate else normalize(plate)
    excess = data.get("corrected_death_excess", data.death_excess)
    if not bool(data.vehicle_death.notnull().any()):
        excess = data.death
    role = roles(data)
    used = np.isin(role, ("none", COMBINATION)) & (data["dose"].values.astype(float) > 0)
    nobody = np.full(role.size, "", dtype=object)
    second = data["compound_2"].values.astype(object) if "compound_2" in data else nobody
    frame = pd.DataFrame(
        {
            "plate": str(plate.attrs.get("plate", f"plate {number}")),
            "line": data["cell_line"].values if "cell_line" in data.coords else nobody,
            "first": data["compound"].values.astype(object),
            "second": np.where(role == COMBINATION, second, ""),
            "dose_a": data["dose"].values.astype(float),
            "dose_b": data["dose_2"].values.astype(float) if "dose_2" in data else np.zeros(role.size),
            "response": excess.transpose("well", "timepoint").values[:, timepoint].astype(float),
        }
    )[used]
    frame["dose_b"] = frame["dose_b"].where(frame["second"] != "", 0.0)
    # A with B and B with A are one pair
    turned = (frame["second"] != "") & (frame["second"].astype(str) < frame["first"].astype(str))
    for one, other in (("first", "second"), ("dose_a", "dose_b")):
        kept = frame[one].where(~turned, frame[other])
        frame[other] = frame[other].where(~turned, frame[one])
        frame[one] = kept
    return frame


def _matrix(table: pd.DataFrame, pair: tuple[str, str, str]) -> pd.DataFrame:
    """Wells of a pair and of its compounds alone, with doses that differ by rounding only made one."""
    first, second, line = pair
    here = table[table["line"] == line]
    both = here[(here["first"] == first) & (here["second"] == second)]
    alone = here[(here["second"] == "") & here["first"].isin([first, second])]
    of_second = alone["first"] == second
    alone = alone.assign(dose_b=alone["dose_a"].where(of_second, 0.0), dose_a=alone["dose_a"].where(~of_second, 0.0))
    matrix = pd.concat([both, alone], ignore_index=True)
    for name in ("dose_a", "dose_b"):
        matrix[name] = [float(f"{dose:.5g}") for dose in matrix[name]]
    return matrix[["plate", "dose_a", "dose_b", "response"]]


def _of_pair(pair: tuple[str, str, str], matrix: pd.DataFrame, found: Synergy, *, named: bool) -> xr.Dataset:
    """What was found of one pair, on the grid of its doses."""
    first, second, line = pair
    known = matrix[np.isfinite(matrix["response"])]
    doses = [np.unique(np.r_[0.0, matrix[name]]) for name in ("dose_a", "dose_b")]
    shape = tuple(one.size for one in doses)
    grouped = known.groupby(["dose_a", "dose_b"])["response"].agg(["mean", "size"])
    response, wells = np.full(shape, np.nan), np.zeros(shape)
    places = tuple(np.searchsorted(doses[side], grouped.index.get_level_values(side)) for side in (0, 1))
    response[places], wells[places] = grouped["mean"], grouped["size"]
    numbers = {part: np.full((*shape, len(MODELS)), np.nan) for part in _PARTS}
    status = np.full((*shape, len(MODELS)), "", dtype=object)
    a, b = (np.searchsorted(one, found.cells[name]) for one, name in zip(doses, ("dose_a", "dose_b"), strict=True))
    for number, model in enumerate(MODELS):
        for part in _PARTS:
            numbers[part][a, b, number] = found.cells[f"{model}_{part.removeprefix('excess_')}"]
        status[a, b, number] = found.cells[f"{model}_status"]
    grid = ("pair", "dose_index", "dose_2_index")
    summary = found.summary.loc[list(MODELS)]
    name = f"{first} + {second}" + (f" [{line}]" if named and line else "")
    means = {"mean_excess": "excess", "mean_excess_low": "low", "mean_excess_high": "high", "dose_pairs": "cells"}
    texts = {"compound": first, "compound_2": second, "cell_line": line, "status": found.status}
    return xr.Dataset(
        {
            "dose": (grid[:2], doses[0][None]),
            "dose_2": (("pair", grid[2]), doses[1][None]),
            "response": (grid, response[None]),
            "wells": (grid, wells[None]),
            **{part: ((*grid, "model"), values[None]) for part, values in numbers.items()},
            "excess_status": ((*grid, "model"), status[None]),
            **{new: (("pair", "model"), summary[old].to_numpy(float)[None]) for new, old in means.items()},
            "verdict": (("pair", "model"), summary["verdict"].to_numpy(object)[None]),
            **{key: ("pair", np.array([text], dtype=object)) for key, text in texts.items()},
        },
        coords={
            "pair": np.array([name], dtype=object),
            "model": np.array(MODELS, dtype=object),
            "dose_index": np.arange(shape[0]),
            "dose_2_index": np.arange(shape[1]),
        },
    )


def _nothing() -> xr.Dataset:
    """The group without any pair."""
    empty = pd.DataFrame({name: np.empty(0) for name in ("plate", "dose_a", "dose_b", "response")})
    return _of_pair(("", "", ""), empty, synergy(empty), named=False).isel(pair=slice(0, 0))
