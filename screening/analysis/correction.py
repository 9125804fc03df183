"""A plate's fractions corrected for its classifier's errors, where the plate allows it."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from plates.layout.roles import is_masked
from plates.states import DEAD, STATES

from .counting import DIMS, Counted
from .quantification import Corrected, adjusted_fractions, em_fractions
from .shift import PLATE_DISTANCE, PLATE_P, Shift, check_shift
from .validation import ABSENT, ATTRIBUTE, GROUP_OF_STATE, GROUPS, Validation, merge_live, read_record

CORRECTED, EMPTY, SHIFTED, REFUSED = 0, 1, 2, 3
MEANINGS = "corrected no_patches unlike_the_validation_patches refused"
METHODS = {
    "adjusted": "from calls and the inverted confusion matrix (adjusted counts)",
    "em": "of greatest likelihood from calibrated probabilities (EM)",
}
OVER_TIME, OVER_GROUP = ("well", "timepoint"), ("well", "timepoint", "group")


def correct(probabilities: xr.Dataset, layout: xr.Dataset, counted: Counted, *, level: float = 0.95) -> xr.Dataset:
    """Correct the fractions of apoptosis, necroptosis, necrosis and live for the classifier's confusion matrix.

    The two live states are one state seen under two conditions: telling them apart is no prevalence, and they are
    reported together. Their errors may differ, and vehicle wells hold the one and treated wells the other: the
    correction is made with the five states, and the two are added afterwards. Where the matrix hardly tells them
    apart, or one was not validated, they are added before, which is right only in wells that hold them in the
    proportion of the validation patches. A well is left uncorrected where its patches do not look
    like a mixture of the validation patches (see `shift.check_shift`), and the whole plate where it does not.

    Parameters
    ----------
    probabilities
        Group `probabilities`; its attribute `validation` holds what `validation.record_of_card` made.
    layout
        Group `layout`, for the masked wells: they say nothing about the others.
    counted
        `counting.count_patches` of the same probabilities.

    Returns
    -------
    Dataset
        (well, timepoint, group), for each of `adjusted` and `em`: `fraction_<method>` with `_low`, `_high` and
        `_price` (standard error over that of the uncorrected fraction of the same patches); (well, timepoint):
        `death_<method>` with `_low`, `_high`, `correction_status`, `shift_p`; (group): `dispersion_<method>`.
        `attrs`: `correction` (what was done, or why nothing was), `confusion_condition`, `confusion_source`,
        `confusion_solved_in`, `shift`. NaN where nothing was corrected.
    """
    found = read_record(probabilities.attrs.get(ATTRIBUTE))
    votes = counted.votes.transpose(0, 2, 1, 3, 4)  # (well, timepoint, field, called, bin)
    there = votes.sum(axis=(2, 3, 4)) > 0
    masked = set(layout.well.values[is_masked(layout)])
    tells = np.array([well not in masked for well in probabilities.well.values], dtype=bool)
    if found is None:
        return _dataset(probabilities, {}, _status(there, None, refused=True), None, {"correction": ABSENT})

    solved, kinds, groups = found, votes, GROUP_OF_STATE
    how = "five states, the live ones added afterwards"
    adjusted = adjusted_fractions(
        votes.sum(axis=4), found.confusion, effective=found.effective, groups=groups, tells=tells, level=level
    )
    if adjusted.status:
        solved, kinds, groups, how = merge_live(found), _merge_live(votes), np.arange(len(GROUPS)), "four groups"
        adjusted = adjusted_fractions(
            kinds.sum(axis=4), solved.confusion, effective=solved.effective, tells=tells, level=level
        )
    attrs: dict[str, object] = {
        "confusion_source": found.text,
        "confusion_condition": adjusted.condition,
        "confusion_solved_in": how,
    }
    if adjusted.status:
        status = _status(there, None, refused=True)
        return _dataset(probabilities, {}, status, None, {**attrs, "correction": adjusted.status})
    shift, seen = _check(kinds, solved, tells)
    attrs |= {"shift": _describe_shift(shift, there, seen)}
    attrs |= {"plate_shift_p": shift.plate_p, "plate_shift_distance": shift.plate_distance}
    if shift.plate_shifted:
        why = "not corrected: the plate's patches are unlike those on which the classifier's errors were counted"
        status = _status(there, None, refused=True)
        return _dataset(probabilities, {}, status, shift, {**attrs, "correction": why})
    em = em_fractions(
        _by_patch(probabilities, grouped=solved is not found),
        solved.prior,
        solved.confusion,
        field=_field_of_patch(probabilities),
        effective=solved.effective,
        groups=groups,
        tells=tells,
        level=level,
    )
    results = {"adjusted": adjusted} if em.status else {"adjusted": adjusted, "em": em}
    text = "corrected for the classifier's confusion matrix; `fraction` and `death` are not, and stay the first reading"
    if em.status:
        text += f"; EM {em.status}"
    return _dataset(probabilities, results, _status(there, shift, refused=False), shift, {**attrs, "correction": text})


def _check(votes: NDArray[np.int64], solved: Validation, tells: NDArray[np.bool_]) -> tuple[Shift, str]:
    """By called state and how sure the calls were; by called state alone where the classifier brings no more."""
    of_state = adjusted_fractions(votes.sum(axis=4), solved.confusion, effective=solved.effective, tells=tells)
    if solved.scores is None:
        kinds, validated, seen = (
            votes.sum(axis=4),
            solved.confusion,
            "calls alone, which show only what no mixture explains",
        )
    else:
        kinds, seen = votes.reshape(*votes.shape[:3], -1), "calls and their probabilities"
        validated = solved.scores.reshape(len(solved.scores), -1)
    return check_shift(kinds, validated, of_state.fraction, effective=solved.effective, tells=tells), seen


def _merge_live(votes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(..., called state, bin) -> (..., called group, bin)."""
    live = votes[..., len(DEAD) :, :].sum(axis=-2, keepdims=True)
    return np.concatenate([votes[..., : len(DEAD), :], live], axis=-2)


def _describe_shift(shift: Shift, there: NDArray[np.bool_], seen: str) -> str:
    wells = f"{int(shift.shifted.sum())} of {int(there.sum())} wells and timepoints"
    words = f"checked on {seen}: {wells} are unlike a mixture of the validation patches"
    if shift.plate_shifted:
        words += (
            f"; over the plate {shift.plate_distance:.0%} of the patches are of another kind than expected "
            f"(p {shift.plate_p:.2g}; allowed: {PLATE_DISTANCE:.0%}, or p above {PLATE_P:g})"
        )
    return words


def _status(there: NDArray[np.bool_], shift: Shift | None, *, refused: bool) -> NDArray[np.int8]:
    status = np.where(there, REFUSED if refused else CORRECTED, EMPTY).astype(np.int8)
    if shift is not None:
        status[shift.shifted & there] = SHIFTED
    return status


def _by_patch(probabilities: xr.Dataset, *, grouped: bool) -> NDArray[np.floating]:
    """(well, timepoint, patch, state or group): the probability of being live is that of either live state."""
    values = probabilities.probability.transpose("well", "timepoint", "field", "py", "px", "state")
    if list(values.state.values) != list(STATES):
        values = values.sel(state=list(STATES))
    array: NDArray[np.floating] = values.values
    if grouped:
        live = array[..., len(DEAD) :].sum(axis=-1, keepdims=True)
        array = np.concatenate([array[..., : len(DEAD)], live], axis=-1)
    return array.reshape(*array.shape[:2], -1, array.shape[-1])


def _field_of_patch(probabilities: xr.Dataset) -> NDArray[np.int64]:
    sizes = [probabilities.sizes[name] for name in DIMS[3:5]]
    return np.repeat(np.arange(probabilities.sizes["field"]), int(np.prod(sizes)))


def _dataset(
    probabilities: xr.Dataset,
    results: dict[str, Corrected],
    status: NDArray[np.int8],
    shift: Shift | None,
    attrs: dict[str, object],
) -> xr.Dataset:
    """Everything under its name, NaN where it was not made."""
    nothing = np.full((*status.shape, len(GROUPS)), np.nan)
    kept = (status == CORRECTED)[..., None]
    made: dict[str, object] = {}
    for method, meaning in METHODS.items():
        found = results.get(method)
        parts = [nothing] * 4 if found is None else [found.fraction, found.low, found.high, found.price]
        value, low, high, price = (np.where(kept, part, np.nan) for part in parts)
        name = f"fraction_{method}"
        made |= {
            name: (OVER_GROUP, value, {"units": "1", "long_name": f"fraction of the patches with cells, {meaning}"}),
            f"{name}_low": (OVER_GROUP, low, {"units": "1"}),
            f"{name}_high": (OVER_GROUP, high, {"units": "1"}),
            f"{name}_price": (
                OVER_GROUP,
                price,
                {"units": "1", "long_name": "standard error over that of the uncorrected fraction"},
            ),
            f"death_{method}": (
                OVER_TIME,
                1 - value[..., -1],
                {"units": "1", "long_name": f"dead fraction of the patches with cells, {meaning}"},
            ),
            f"death_{method}_low": (OVER_TIME, 1 - high[..., -1], {"units": "1"}),
            f"death_{method}_high": (OVER_TIME, 1 - low[..., -1], {"units": "1"}),
            f"dispersion_{method}": (
                "group",
                np.full(len(GROUPS), np.nan) if found is None else found.dispersion,
                {"units": "1", "long_name": "correlation of the true states of two patches of a field"},
            ),
        }
    made["correction_status"] = (
        OVER_TIME,
        status,
        {"flag_values": [CORRECTED, EMPTY, SHIFTED, REFUSED], "flag_meanings": MEANINGS},
    )
    # JSON knows no infinity: an attribute that is no number is left out
    attrs = {name: value for name, value in attrs.items() if not isinstance(value, float) or np.isfinite(value)}
    made["shift_p"] = (
        OVER_TIME,
        nothing[..., 0] if shift is None else shift.p,
        {"units": "1", "long_name": "p value of looking like a mixture of the validation patches"},
    )
    coords = {"well": probabilities.well.values.astype(object), "timepoint": probabilities.timepoint.values}
    return xr.Dataset(made, coords={**coords, "group": np.array(GROUPS, dtype=object)}, attrs=attrs)
