"""Does the plate hold what the plate map says: controls that look like controls, and a map that lies the right way."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from scipy import sparse, stats

from .control_statistics import MAD
from .peers import peer_weights, replicate_groups

AS_IT_IS = "as it is"
LEAST_OVERLAP = 0.5  # share of the map's wells that must have a value after turning
LEAST_CHANGED = 0.1  # share of wells that must hold something else, or the layout cannot tell
LEAST_GAIN = 0.3  # share by which the error must fall
CHANCE = 0.01  # of a wrong accusation of the plate, over everything tried
STRANGE = 5.0  # robust z of a control well among its kind
LEAST_STRANGE = 0.1  # of a fraction; controls that scatter by a percent are not strange at five percent


def fit_layout(values: np.ndarray, plate: pd.DataFrame, *, shape: tuple[int, int]) -> pd.DataFrame:
    """Compare the plate map as it is with the map turned, shifted, or with two lines exchanged.

    Every well is predicted from its peers on the map (controls of its kind, replicates, neighbouring doses),
    and the map is as good as the mean absolute error is small. A turned map is accepted only if it lowers the
    error by 30 % and the wells agree on it (Wilcoxon's signed ranks, times everything tried, below 0.01).

    Parameters
    ----------
    values
        (well, readout): death and its pathways, NaN where a well was not measured.
    plate
        One row a well in the same order: `row`, `column` (from 0) and what `peer_weights` needs.
    shape
        Rows and columns of the plate.

    Returns
    -------
    DataFrame
        One row a way of lying, the map as it is first, then exchanges of lines that are supported: `way`,
        `kind` ("as it is", "turned", "shifted", "exchanged"), `error` and `error_as_it_is` (mean absolute error
        over the wells that both have), `gain`, `p` (NaN where not tested), `wells` (compared), `changed` (share of them
        that hold something else on such a map), `better` (bool), `status` ("tested", or why it cannot be told).
    """
    weights = peer_weights(plate)
    keys = replicate_groups(plate)
    rows, columns = (plate[name].to_numpy(dtype=int) for name in ("row", "column"))
    at = np.full(shape, -1)
    at[rows, columns] = np.arange(len(plate))
    now = _error(values, weights)
    moves = _moves(shape)
    lines = _exchanges(at, shape)
    tried = len(moves) + len(lines)
    found = [_judged(AS_IT_IS, AS_IT_IS, now, now, np.zeros(len(plate), dtype=bool), 1)]
    for way, (kind, down, right) in moves.items():
        source = _source(at, *_place(rows, columns, down, right, shape))
        found.append(_compare(way, kind, source, values, weights, keys, now, tried))
    exchanged = [_compare(way, "exchanged", source, values, weights, keys, now, tried) for way, source in lines.items()]
    return pd.DataFrame([*found, *(one for one in exchanged if one["better"])])


def strange_controls(values: np.ndarray, role: np.ndarray) -> np.ndarray:
    """Which control wells do not look like their kind, (well) bool; `values` is (well) death.

    A vehicle well is strange if it lies five robust SDs and at least 0.1 from the median of its kind, or
    nearer to the positive controls' median; likewise the positive controls.
    """
    values, role = np.asarray(values, dtype=float), np.asarray(role, dtype=object)
    strange = np.zeros(values.size, dtype=bool)
    there = np.isfinite(values)
    kinds = {kind: there & (role == kind) for kind in ("negative", "positive")}
    middle = {kind: float(np.median(values[wells])) for kind, wells in kinds.items() if wells.sum() >= 3}
    for kind, center in middle.items():
        wells = kinds[kind]
        away = np.abs(values - center)
        spread = MAD * float(np.median(away[wells]))
        strange |= wells & (away > np.maximum(STRANGE * spread, LEAST_STRANGE))
        other = middle.get("positive" if kind == "negative" else "negative")
        if other is not None and abs(other - center) > LEAST_STRANGE:
            strange |= wells & (np.abs(values - other) < away)
    return strange


def _place(
    rows: np.ndarray, columns: np.ndarray, down: str, right: str, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the plate at which a turned map expects each well of the map."""
    names = {"r": rows, "c": columns, "-r": shape[0] - 1 - rows, "-c": shape[1] - 1 - columns}
    shifts = {"r+": rows + 1, "r-": rows - 1, "c+": columns + 1, "c-": columns - 1}
    places = names | shifts
    return places[down], places[right]


def _moves(shape: tuple[int, int]) -> dict[str, tuple[str, str, str]]:
    moves = {
        "turned by 180 degrees": ("turned", "-r", "-c"),
        "with rows and columns exchanged": ("turned", "c", "r"),
        "mirrored left to right": ("turned", "r", "-c"),
        "mirrored top to bottom": ("turned", "-r", "c"),
        "shifted down by one row": ("shifted", "r+", "c"),
        "shifted up by one row": ("shifted", "r-", "c"),
        "shifted right by one column": ("shifted", "r", "c+"),
        "shifted left by one column": ("shifted", "r", "c-"),
    }
    return {way: move for way, move in moves.items() if min(shape) > 1}


def _exchanges(at: np.ndarray, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """For each pair of rows or columns in use, where each well's value would come from."""
    found = {}
    for axis, name in ((1, "columns"), (0, "rows")):
        used = [line for line in range(shape[axis]) if (np.take(at, line, axis=axis) >= 0).any()]
        for one, other in combinations(used, 2):
            order = np.arange(shape[axis])
            order[[one, other]] = other, one
            turned = np.take(at, order, axis=axis)
            source = np.full(at.max() + 1, -1)
            source[at[at >= 0]] = turned[at >= 0]
            label = (str(one + 1), str(other + 1)) if axis == 1 else (_letter(one), _letter(other))
            found[f"with {name} {label[0]} and {label[1]} exchanged"] = source
    return found


def _letter(row: int) -> str:
    return (chr(64 + row // 26) if row >= 26 else "") + chr(65 + row % 26)


def _source(at: np.ndarray, down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Index of the well whose value a turned map gives to each well of the map; -1 where there is none."""
    inside = (down >= 0) & (down < at.shape[0]) & (right >= 0) & (right < at.shape[1])
    source = np.full(len(down), -1)
    source[inside] = at[down[inside], right[inside]]
    return source


def _error(values: np.ndarray, weights: sparse.csr_array) -> np.ndarray:
    """(well) absolute error of the peers' prediction, mean over readouts; NaN without a value or peers."""
    there = np.isfinite(values).all(axis=1)
    filled = np.where(there[:, None], values, 0.0)
    reach = weights @ there.astype(float)
    predicted = (weights @ filled) / np.where(reach > 0, reach, np.nan)[:, None]
    return np.asarray(np.abs(np.where(there[:, None], values, np.nan) - predicted).mean(axis=1))


def _compare(
    way: str,
    kind: str,
    source: np.ndarray,
    values: np.ndarray,
    weights: sparse.csr_array,
    keys: np.ndarray,
    now: np.ndarray,
    tried: int,
) -> dict[str, object]:
    """One way against the map as it is, well of the plate by well of the plate."""
    given = source >= 0
    turned = np.full(values.shape, np.nan)
    turned[given] = values[source[given]]
    error = _error(turned, weights)
    # errors belong to what was measured: the same well of the plate under two descriptions
    here = np.full(len(now), np.nan)
    here[source[given]] = error[given]
    moved = np.zeros(len(now), dtype=bool)
    moved[source[given]] = keys[source[given]] != keys[given]
    both = np.isfinite(now) & np.isfinite(here)
    if both.sum() < LEAST_OVERLAP * np.isfinite(now).sum():
        return _judged(way, kind, np.where(both, here, np.nan), now, moved, tried, "too few wells would be left")
    return _judged(way, kind, here, now, moved, tried)


def _judged(
    way: str, kind: str, here: np.ndarray, now: np.ndarray, moved: np.ndarray, tried: int, status: str = "tested"
) -> dict[str, object]:
    both = np.isfinite(here) & np.isfinite(now)
    error, before = (float(x[both].mean()) if both.any() else float("nan") for x in (here, now))
    changed = float(moved[both].mean()) if both.any() else 0.0
    result: dict[str, object] = {
        "way": way,
        "kind": kind,
        "error": error,
        "error_as_it_is": before,
        "gain": 0.0,
        "p": float("nan"),
        "wells": int(both.sum()),
        "changed": changed,
        "better": False,
        "status": status,
    }
    if kind == AS_IT_IS or status != "tested":
        return result
    least = LEAST_CHANGED if kind != "exchanged" else 0.0
    differs = both & (np.abs(here - now) > 1e-12)
    if changed <= least or differs.sum() < 6:
        return result | {"status": "the layout looks the same that way"}
    # wells whose description stays add the same to either error
    touched_before, touched = float(now[differs].mean()), float(here[differs].mean())
    gain = 1 - touched / touched_before if touched_before > 0 else 0.0
    result |= {"gain": gain}
    if gain < LEAST_GAIN:
        return result
    p = float(stats.wilcoxon(now[differs] - here[differs], alternative="greater").pvalue)
    return result | {"p": min(1.0, p * tried), "better": p * tried < CHANCE}
