"""A smooth effect of place, fitted on scattered vehicle wells and taken off everywhere, where a test asks for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .control_statistics import MAD
from .spatial import TESTS, at_rim, spatial_tests

FEWEST = 16  # vehicle wells
LEAST_SPREAD = 0.6  # share of the rows and of the columns in use that the vehicle wells must span
FEWEST_LINES = 4  # rows and columns that hold vehicle wells
FEWEST_RIM = 3  # vehicle wells at the rim, and away from it, for a step there
HUBER = 1.345
CUT = 3.0
ROUNDS = 20


@dataclass(frozen=True)
class Trend:
    """An effect of place: over vehicle wells its median is 0.

    `pattern` is (well), in the units of the values it was fitted to, 0 everywhere where nothing was fitted;
    `applied` says whether there is one, `reason` why or why not, `terms` what it is made of, `p` the chance of
    as clear an effect in vehicle wells without one, `test` the test that said so. `weights`, (vehicle well),
    are what the robust fit left each vehicle well.
    """

    pattern: np.ndarray
    applied: bool
    reason: str
    terms: str
    p: float
    test: str
    weights: np.ndarray


def fit_trend(
    values: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    vehicle: np.ndarray,
    *,
    alpha: float = 0.01,
    permutations: int = 999,
    seed: int = 0,
) -> Trend:
    """Fit the effect of place on the vehicle wells, if there is one.

    The vehicle wells are tested for edge, rows, columns, gradient and Moran's I; nothing is fitted unless the
    smallest of the five p values, times their number, is below `alpha`. Then, of a plane, a step at the rim, both,
    a second-order surface and that with the step, the one is taken that predicts left-out vehicle wells best,
    and nothing if none predicts them better than their mean. The fit is robust (Huber 1964).

    Parameters
    ----------
    values
        (well) of all wells.
    rows, columns
        (well) places.
    vehicle
        (well) bool; at least 16 with a value, which must be scattered: over four or more rows and columns and
        60 % of those in use.
    alpha, permutations, seed
        Of the test.
    """
    values, rows, columns = (np.asarray(x, dtype=float) for x in (values, rows, columns))
    used = np.asarray(vehicle, dtype=bool) & np.isfinite(values)
    none = np.zeros(values.size)

    def nothing(reason: str, p: float = float("nan"), test: str = "") -> Trend:
        return Trend(none, False, reason, "", p, test, np.ones(int(used.sum())))

    if refusal := scattered(rows, columns, used):
        return nothing(refusal)
    rim = at_rim(rows, columns)
    tests = spatial_tests(values[used], rows[used], columns[used], rim=rim[used], permutations=permutations, seed=seed)
    p, test = float(tests["p"]), str(tests["test"])
    if not np.isfinite(p):
        return nothing("vehicle wells do not differ from each other")
    if p >= alpha:
        return nothing(f"vehicle wells show no effect of place (p = {p:.2g} over {len(TESTS)} tests)", p, test)
    at = _centred(rows), _centred(columns)
    best, least = "", _left_out_error(np.ones((int(used.sum()), 1)), values[used])
    for terms, design in _designs(*at, rim, used).items():
        error = _left_out_error(design[used], values[used])
        if error < least:
            best, least = terms, error
    if not best:
        return nothing("place does not predict vehicle wells that were left out", p, test)
    design = _designs(*at, rim, used)[best]
    coefficients, weights = _huber(design[used], values[used])
    pattern = design @ coefficients
    pattern -= np.median(pattern[used])
    return Trend(pattern, True, f"vehicle wells show an effect of place ({test}, p = {p:.2g})", best, p, test, weights)


def scattered(rows: np.ndarray, columns: np.ndarray, vehicle: np.ndarray) -> str:
    """Why no effect of place can be fitted on these vehicle wells, (well) bool; "" where it can."""
    number = int(vehicle.sum())
    if number < FEWEST:
        return f"{number} vehicle wells with a value; {FEWEST} are the least to fit an effect of place"
    for name, place in (("rows", rows), ("columns", columns)):
        held = place[vehicle]
        share = np.ptp(held) / max(np.ptp(place), 1)
        if np.unique(held).size < FEWEST_LINES or share < LEAST_SPREAD:
            return (
                f"vehicle wells are not scattered: they lie in {np.unique(held).size} {name} and span {share:.0%} of "
                "those in use, so an effect of place elsewhere would be a guess"
            )
    return ""


def _centred(place: np.ndarray) -> np.ndarray:
    """Places from -1 to 1."""
    low, high = place.min(), place.max()
    return np.asarray((2 * place - low - high) / max(high - low, 1))


def _designs(down: np.ndarray, right: np.ndarray, rim: np.ndarray, used: np.ndarray) -> dict[str, np.ndarray]:
    """Candidate surfaces by name, (well, term) each."""
    one = np.ones(down.size)
    plane = [one, down, right]
    surface = [*plane, down**2, right**2, down * right]
    step = [rim.astype(float)]
    candidates = {"plane": plane, "second-order surface": surface}
    if min((used & rim).sum(), (used & ~rim).sum()) >= FEWEST_RIM:
        candidates |= {"step at the rim": [one, *step], "plane and step at the rim": [*plane, *step]}
        candidates["second-order surface and step at the rim"] = [*surface, *step]
    designs = {name: np.stack(terms, axis=1) for name, terms in candidates.items()}
    return {
        name: design
        for name, design in designs.items()
        if used.sum() >= 2 * design.shape[1] and np.linalg.matrix_rank(design[used]) == design.shape[1]
    }


def _left_out_error(design: np.ndarray, values: np.ndarray) -> float:
    """Mean square of the errors at wells that are left out one at a time, each cut at three robust SDs of the wells.

    The cut is the same for every design, so that contaminated wells weigh the same in each.
    """
    coefficients, weights = _huber(design, values)
    root = np.sqrt(weights)[:, None]
    hat = ((design * root) @ np.linalg.pinv(design * root)).diagonal()
    errors = np.abs(values - design @ coefficients) / np.maximum(1 - hat, 1e-6)
    cut = CUT * MAD * float(np.median(np.abs(values - np.median(values))))
    return float((np.minimum(errors, cut) ** 2).mean())


def _huber(design: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients and weights of Huber's M-estimate by reweighting, with the MAD of residuals as scale."""
    weights = np.ones(len(values))
    coefficients = np.zeros(design.shape[1])
    for _ in range(ROUNDS):
        root = np.sqrt(weights)
        coefficients = np.linalg.lstsq(design * root[:, None], values * root, rcond=None)[0]
        residual = np.abs(values - design @ coefficients)
        scale = MAD * np.median(residual)
        if scale <= 1e-12:
            break
        weights = np.minimum(1.0, HUBER * scale / np.maximum(residual, 1e-12))
    return coefficients, weights
