"""A plate against its own controls: percent of them, z, what each state gained, raw, and corrected for place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import xarray as xr

from plates.layout.roles import MASKED, main_vehicle, roles, vehicle_controls, vehicles
from plates.states import DEAD, STATES

from .b_score import b_score, refusal
from .scales import finite, npi, percent_of_vehicle, z_score
from .spatial_correction import Trend, fit_trend

SMALLEST_WINDOW = 0.1  # positive controls minus vehicle below which "percent" means nothing
SMALLEST_VEHICLE = 0.005  # fraction of vehicle below which percent of it means nothing
READOUTS = ("death", *STATES)
Center = Callable[[np.ndarray], np.ndarray]


def normalize(
    fractions: xr.Dataset,
    *,
    center: Literal["median", "mean"] = "median",
    timepoint: int = -1,
    alpha: float = 0.01,
    permutations: int = 999,
    seed: int = 0,
) -> xr.Dataset:
    """Express a plate's fractions relative to its controls, timepoint by timepoint; raw ones stay beside.

    With v the vehicle's fraction and V its death, the excess of a state with fraction x is (x - v) / (1 -
    V): for death this is Abbott's (1925) correction, the share of the cells that vehicle leaves alive which
    the compound kills, and the excesses of the three pathways add up to it (exactly with the mean as centre, for
    medians do not add up). The live states' excesses are their losses on the same scale.

    Cells in ethanol are no control of cells in DMSO: where the plate map names vehicles, v and V are those of
    the well's own vehicle (`plates.layout.roles.vehicle_controls`). Positive controls are taken together,
    whatever their vehicle. Masked wells keep their raw values and take no part.

    Correction for place: v and V are the same all over the plate, unless the vehicle wells' death at the
    reading timepoint depends on place (`spatial_correction.fit_trend`, which wants 16 scattered ones and a
    test that asks for it). Then v and V become those of the well's place: the fitted pattern times its
    size at each timepoint, by least squares over the vehicle wells. What is corrected lies beside what is not.

    Parameters
    ----------
    fractions
        `fractions` of one plate.
    center
        Centre of the control wells. A mislabelled or contaminated control well moves the mean, not the
        median.
    timepoint
        Position of the timepoint at which place is tested.
    alpha, permutations, seed
        Of that test.

    Returns
    -------
    Dataset
        (well, timepoint): `death_percent` (0 = vehicle, 100 = positive controls of whatever pathway; not
        clipped), `death_excess`, `own_vehicle_death` (V of the well's own vehicle), and raw `death`; (well,
        timepoint, state): `excess` and raw `fraction`; (timepoint): `vehicle_death` of the vehicle with the
        most control wells, `positive_death`, `n_vehicle`, `n_positive` (wells with cells, of all vehicles).
        (well, timepoint, readout), each of `READOUTS` against the own vehicle: `percent_of_vehicle`, `npi`
        (normalised percent inhibition: 0 = vehicle, 100 = positive controls, of a pathway its own inducers),
        `z` and `robust_z` (in standard deviations of the vehicle wells).
        Corrected for place, equal to the uncorrected where nothing was: `corrected_death`,
        `corrected_fraction`, `corrected_death_excess`, `corrected_excess`, `corrected_death_percent`; (well)
        `place_effect` on death at the reading timepoint. `b_score` (well, timepoint) of death, empty where
        `attrs["b_score_refused"]` says why.
        Everything relative is NaN in masked wells and where the plate has no vehicle wells with cells that
        match, and percents of positive controls also where it has none or they differ by at most 0.1 from
        vehicle; `attrs["note"]` then says so. `attrs["correction"]` says whether and why there was one.
    """
    reduce: Center = _median if center == "median" else _mean
    death = finite(fractions.death.transpose("well", "timepoint").values)
    states = finite(fractions.fraction.transpose("well", "timepoint", "state").sel(state=list(STATES)).values)
    counted = np.isfinite(death)
    role = roles(fractions)
    vehicle, positive = role == "negative", role == "positive"
    main = main_vehicle(fractions)
    own = _own_vehicle(fractions, np.concatenate([death[..., None], states], axis=-1), reduce)
    own_death, own_state = own[..., 0], own[..., 1:]
    vehicle_death, positive_death = reduce(death[main]), reduce(death[positive])
    alive = np.where(own_death < 1, 1 - own_death, np.nan)
    window = positive_death - own_death
    window = np.where(window > SMALLEST_WINDOW, window, np.nan)

    trend = _trend(fractions, death, main, timepoint, alpha=alpha, permutations=permutations, seed=seed)
    local = _local(trend, death, states, own, main, reduce)
    b_scores, refused = _b_scores(fractions, death, timepoint)
    over_time, over_state = ("well", "timepoint"), ("well", "timepoint", "state")
    over_readout = ("well", "timepoint", "readout")
    percent = {"units": "percent of controls"}
    spreads = {"units": "standard deviations of the vehicle wells"}
    corrected = {"long_name": "corrected for the well's place, or as it was where nothing was corrected"}
    return xr.Dataset(
        {
            "death_percent": (over_time, 100 * (death - own_death) / window, percent),
            "death_excess": (over_time, (death - own_death) / alive, {"units": "1"}),
            "excess": (over_state, (states - own_state) / alive[..., None], {"units": "1"}),
            "death": fractions.death.transpose(*over_time),
            "fraction": fractions.fraction.transpose(*over_state),
            "vehicle_death": ("timepoint", vehicle_death),
            "own_vehicle_death": (over_time, own_death, {"units": "1"}),
            "vehicle_fraction": (("timepoint", "state"), reduce(states[main])),
            "positive_death": ("timepoint", positive_death),
            "n_vehicle": ("timepoint", counted[vehicle].sum(axis=0)),
            "n_positive": ("timepoint", counted[positive].sum(axis=0)),
            **{
                name: (over_readout, values, percent if name in ("percent_of_vehicle", "npi") else spreads)
                for name, values in _against_controls(fractions, death, states, own, reduce).items()
            },
            **{
                f"corrected_{name}": (over_state if values.ndim == 3 else over_time, values, corrected)
                for name, values in _corrected(death, states, own, local, positive_death).items()
            },
            "place_effect": ("well", trend.pattern, {"units": "1", "long_name": "effect of place on death"}),
            "b_score": (over_time, b_scores, {"units": "robust standard deviations of the sample wells"}),
        },
        coords={**fractions.coords, "state": list(STATES), "readout": list(READOUTS)},
        attrs={
            "center": center,
            "excess": "(x - vehicle) / (1 - vehicle death), Abbott 1925",
            "note": _note(own_death[role != MASKED], window[role != MASKED], bool(positive.any())),
            "correction": f"{'Corrected for' if trend.applied else 'Not corrected for'} place: {trend.reason}.",
            "correction_applied": int(trend.applied),
            "correction_terms": trend.terms,
            "correction_p": trend.p,
            "b_score_refused": refused,
        },
    )


def _median(values: np.ndarray) -> np.ndarray:
    """Median over wells, NaN (without a warning) where no well has cells."""
    return _center(values, np.nanmedian)


def _mean(values: np.ndarray) -> np.ndarray:
    return _center(values, np.nanmean)


def _center(values: np.ndarray, reduce: Callable[..., np.ndarray]) -> np.ndarray:
    held = np.isfinite(values).any(axis=0)
    filled = np.where(held, values, 0.0) if len(values) else np.zeros((1, *values.shape[1:]))
    return np.where(held, reduce(filled, axis=0), np.nan)


def _own_vehicle(fractions: xr.Dataset, values: np.ndarray, reduce: Center) -> np.ndarray:
    """Centre of the control wells of each well's own vehicle, (well, timepoint, readout)."""
    own = np.full_like(values, np.nan)
    for controls, members in _by_vehicle(fractions):
        own[members] = reduce(values[controls])
    return own


def _by_vehicle(fractions: xr.Dataset) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each vehicle its control wells and all wells in it that are not masked, (well) bool each."""
    vehicle, used = vehicles(fractions), roles(fractions) != MASKED
    return [(controls, used & (vehicle == name)) for name, controls in vehicle_controls(fractions).items()]


def _against_controls(
    fractions: xr.Dataset, death: np.ndarray, states: np.ndarray, own: np.ndarray, reduce: Center
) -> dict[str, np.ndarray]:
    """Every readout in percent and in standard deviations of controls, (well, timepoint, readout)."""
    values = np.concatenate([death[..., None], states], axis=-1)
    used = roles(fractions) != MASKED
    values = np.where(used[:, None, None], values, np.nan)
    role, inducer = roles(fractions), fractions.inducer.values
    positives = np.stack(
        [
            reduce(values[(role == "positive") & ((inducer == name) if name in DEAD else True), :, number])
            for number, name in enumerate(READOUTS)
        ],
        axis=-1,
    )
    z, robust_z = np.full(values.shape, np.nan), np.full(values.shape, np.nan)
    for controls, members in _by_vehicle(fractions):
        z[members] = z_score(values[members], values[controls])
        robust_z[members] = z_score(values[members], values[controls], robust=True)
    return {
        "percent_of_vehicle": percent_of_vehicle(values, own, least=SMALLEST_VEHICLE),
        "npi": npi(values, own, positives, least=SMALLEST_WINDOW),
        "z": z,
        "robust_z": robust_z,
    }


def _trend(
    fractions: xr.Dataset,
    death: np.ndarray,
    main: np.ndarray,
    timepoint: int,
    *,
    alpha: float,
    permutations: int,
    seed: int,
) -> Trend:
    if not death.shape[1] or not death.shape[0]:
        return Trend(np.zeros(len(death)), False, "there are no wells or no timepoints", "", np.nan, "", np.ones(0))
    rows, columns = (fractions[name].values.astype(float) for name in ("row", "column"))
    return fit_trend(death[:, timepoint], rows, columns, main, alpha=alpha, permutations=permutations, seed=seed)


def _local(
    trend: Trend, death: np.ndarray, states: np.ndarray, own: np.ndarray, main: np.ndarray, reduce: Center
) -> np.ndarray:
    """What the vehicle would show at each well's place, (well, timepoint, readout).

    The pattern is that of the reading timepoint; how large it is at another timepoint, and in a state, is one
    number each, the least-squares slope of the vehicle wells' deviations on the pattern. Slopes of the
    pathways add up to that of death, so the corrected pathways add up to the corrected death.
    """
    if not trend.applied:
        return own
    values = np.concatenate([death[..., None], states], axis=-1)
    deviation = values[main] - reduce(values[main])
    pattern = trend.pattern[main][:, None, None]
    known = np.isfinite(deviation)
    square = np.where(known, pattern**2, 0).sum(axis=0)
    slope = np.where(known, deviation * pattern, 0).sum(axis=0) / np.where(square > 0, square, np.nan)
    return np.asarray(own + np.nan_to_num(slope) * trend.pattern[:, None, None])


def _corrected(
    death: np.ndarray, states: np.ndarray, own: np.ndarray, local: np.ndarray, positive_death: np.ndarray
) -> dict[str, np.ndarray]:
    """Abbott's excess over the vehicle at the well's place, and what the well would have shown at a usual place.

    Percent of controls keeps the positive controls' centre, whose wells are not corrected for it. Raw values that no
    correction touches come back as they are, to the last digit.
    """
    own_death, own_state, local_death, local_state = own[..., 0], own[..., 1:], local[..., 0], local[..., 1:]
    alive = np.where(local_death < 1, 1 - local_death, np.nan)
    excess = (states - local_state) / alive[..., None]
    death_excess = (death - local_death) / alive
    usual = 1 - own_death
    moved = np.isfinite(death_excess) & (local_death != own_death)
    corrected_death = np.where(moved, own_death + usual * death_excess, death)
    shifted = np.isfinite(excess) & ((local_state != own_state) | moved[..., None])
    corrected_fraction = np.where(shifted, own_state + usual[..., None] * excess, states)
    window = positive_death - own_death
    window = np.where(window > SMALLEST_WINDOW, window, np.nan)
    return {
        "death": corrected_death,
        "fraction": corrected_fraction,
        "death_excess": death_excess,
        "excess": excess,
        "death_percent": 100 * np.where(np.isfinite(own_death), corrected_death - own_death, np.nan) / window,
    }


def _b_scores(fractions: xr.Dataset, death: np.ndarray, timepoint: int) -> tuple[np.ndarray, str]:
    """B-scores of death at every timepoint, or why there are none."""
    scores = np.full(death.shape, np.nan)
    if not death.size:
        return scores, "there are no wells or no timepoints"
    samples = roles(fractions) == "none"
    refused = refusal(death[:, timepoint], fractions.compound.values, fractions.dose.values, samples)
    if refused:
        return scores, refused
    rows, columns = (fractions[name].values.astype(int) for name in ("row", "column"))
    shape = rows.max() + 1, columns.max() + 1
    sampled = np.zeros(shape, dtype=bool)
    sampled[rows, columns] = samples
    for t in range(death.shape[1]):
        table = np.full(shape, np.nan)
        table[rows, columns] = death[:, t]
        scores[:, t] = b_score(table, sampled)[rows, columns]
    scores[roles(fractions) == MASKED] = np.nan
    return scores, ""


def _note(own_death: np.ndarray, window: np.ndarray, has_positive: bool) -> str:
    matched = np.isfinite(own_death).any(axis=1)
    if not matched.any():
        return (
            "No vehicle well (control 'negative') with cells: nothing can be expressed relative to vehicle, "
            "raw fractions only. Mark the vehicle wells in the plate map."
        )
    if not matched.all():
        return (
            f"{(~matched).sum()} wells are in a vehicle without control wells: they have raw fractions only. "
            "Add control wells of that vehicle, or spell it in the plate map as in the control wells."
        )
    if not has_positive:
        return "No positive control: death as percent of controls is not defined."
    if not np.isfinite(window).all():
        return (
            f"Where positive controls die at most {SMALLEST_WINDOW} more than vehicle, "
            "death as percent of controls is left empty."
        )
    return ""
