"""A plate's patches counted by field: probabilities, votes, and how sure the votes were."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from models.counted_errors import SCORE_EDGES
from plates.states import STATES

DIMS = ("well", "field", "timepoint", "py", "px", "state")


@dataclass(frozen=True, eq=False)
class Counted:
    """Sums over the patches of each field that have cells."""

    totals: NDArray[np.float64]  # (well, field, timepoint, state), of the probabilities
    patches: NDArray[np.int64]  # (well, field, timepoint)
    votes: NDArray[np.int64]  # (well, field, timepoint, state, bin of the called state's probability)
    foreground: NDArray[np.float64]  # (well, timepoint), patches' worth of area that belongs to cells; NaN if unknown


def count_patches(probabilities: xr.Dataset) -> Counted:
    """Count the group `probabilities`; rows that are missing, negative or empty are no patches with cells."""
    stored = probabilities.probability.transpose(*DIMS)
    if list(stored.state.values) != list(STATES):
        stored = stored.sel(state=list(STATES))
    values = stored.values
    wells, fields, timepoints, *_, states = values.shape
    bins = len(SCORE_EDGES) + 1
    totals = np.zeros((wells, fields, timepoints, states))
    votes = np.zeros((wells, fields, timepoints, states, bins), dtype=np.int64)
    for well in range(wells):  # one well at a time: a plate's patches are a few hundred megabytes
        one = values[well].reshape(fields * timepoints, -1, states)
        # state by state: NumPy is slow along an axis of five
        planes = [np.ascontiguousarray(one[..., k]) for k in range(states)]
        total, least = planes[0].copy(), planes[0].copy()
        best, winner = planes[0].copy(), np.zeros(planes[0].shape, dtype=np.int8)
        for k, plane in enumerate(planes[1:], start=1):
            total += plane
            np.minimum(least, plane, out=least)
            winner[plane > best] = k
            np.maximum(best, plane, out=best)
        counted = np.isfinite(total) & (least >= 0) & (total > 0)
        for k, plane in enumerate(planes):
            totals[well, ..., k] = np.where(counted, plane, 0).sum(axis=1, dtype=float).reshape(fields, timepoints)
        place, patch = np.nonzero(counted)
        sure = np.searchsorted(np.asarray(SCORE_EDGES, dtype=best.dtype), best[place, patch], side="right")
        kind = (place * states + winner[place, patch]) * bins + sure
        votes[well] = np.bincount(kind, minlength=votes[well].size).reshape(votes[well].shape)
    return Counted(totals, votes.sum(axis=(3, 4)), votes, _foreground(probabilities))


def _foreground(probabilities: xr.Dataset) -> NDArray[np.float64]:
    """Sum of the patches' shares of cell pixels, over all patches of a well."""
    if "foreground" not in probabilities:
        return np.full((probabilities.sizes["well"], probabilities.sizes["timepoint"]), np.nan)
    share = probabilities.foreground.transpose(*DIMS[:-1]).values
    known = np.isfinite(share)
    area: NDArray[np.float64] = np.where(known, share, 0).sum(axis=(1, 3, 4), dtype=float)
    return np.where(known.any(axis=(1, 3, 4)), area, np.nan)
