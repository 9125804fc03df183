"""Patches to wells: what fraction of each well is in which state, and how sure we are."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import stats

from plates.layout.roles import is_masked
from plates.states import DEAD, STATES

ASSUMED_DISPERSION = 0.05  # between-field correlation where a plate cannot tell its own (one field per well)
FEWEST_FREEDOM = 4  # differences between fields below which the plate cannot tell either


def aggregate(
    probabilities: xr.Dataset,
    layout: xr.Dataset,
    fields: xr.Dataset | None = None,
    *,
    level: float = 0.95,
    assumed_dispersion: float = ASSUMED_DISPERSION,
) -> xr.Dataset:
    """Average the calibrated probabilities of each well's foreground patches; the field is the unit of doubt.

    Cells that share a field share seeding, medium and focus, so patches are not independent and counting
    them makes intervals far too short. A percentile bootstrap over the two to nine fields of a well is too
    short as well (66 to 80 % coverage of nominal 95 % with four fields): so few fields cannot tell their
    own spread, and one says nothing about it. The spread is therefore pooled over the plate: fields are
    Dirichlet-multinomial with one dispersion phi per state (correlation of two patches of a field),
    estimated by moments from all wells with two or more fields. A well of n_f patches per field then counts
    as N_eff = N / (1 + (sum n_f^2 / N - 1) phi) independent patches, and the interval is Wilson's (1927)
    for N_eff, with Student's t for the degrees of freedom behind phi. It stays within [0, 1] and is not
    empty at 0 or 1.

    Parameters
    ----------
    probabilities
        Group `probabilities`; NaN marks patches without cells or without pixels, which do not count.
    layout
        Group `layout`; wells that are not in `probabilities` are kept, empty.
    fields
        Group `fields`, for the confluency.
    level
        Of the intervals.
    assumed_dispersion
        phi where fewer than four differences between fields of a well exist; `attrs["dispersion_source"]`
        says so.

    Returns
    -------
    Dataset
        Group `fractions`. (well, timepoint, state): `fraction`, `fraction_low`, `fraction_high`, `count`
        (votes of single patches); (well, timepoint): `death` (sum of the three pathways) with `death_low`,
        `death_high`, `patches`, `fields_used`, `confluency`; `dispersion` (readout: death, then states).
        NaN where no patch has cells.
    """
    totals, patches, votes = _per_field(probabilities)
    readouts = np.concatenate([totals[..., : len(DEAD)].sum(axis=-1, keepdims=True), totals], axis=-1)
    masked = set(layout.well.values[is_masked(layout)])
    used = np.array([well not in masked for well in probabilities.well.values], dtype=bool)
    dispersion, freedom = _dispersion(readouts[used], patches[used])
    pooled = freedom >= FEWEST_FREEDOM
    phi = dispersion if pooled else np.full(len(dispersion), assumed_dispersion)
    quantile = stats.t.ppf(0.5 + level / 2, freedom) if pooled else stats.norm.ppf(0.5 + level / 2)

    number = patches.sum(axis=1)  # (well, timepoint)
    mean = np.divide(
        readouts.sum(axis=1),
        number[..., None],
        out=np.full((*number.shape, len(phi)), np.nan),
        where=number[..., None] > 0,
    )
    crowd = np.divide((patches**2).sum(axis=1), number, out=np.ones(number.shape), where=number > 0)
    effective = number[..., None] / (1 + (crowd[..., None] - 1) * phi)
    low, high = _wilson(mean, effective, quantile)

    over_time, over_state = ("well", "timepoint"), ("well", "timepoint", "state")
    result = xr.Dataset(
        {
            "fraction": (over_state, mean[..., 1:]),
            "fraction_low": (over_state, low[..., 1:]),
            "fraction_high": (over_state, high[..., 1:]),
            "count": (over_state, votes.sum(axis=1)),
            "death": (over_time, mean[..., 0]),
            "death_low": (over_time, low[..., 0]),
            "death_high": (over_time, high[..., 0]),
            "patches": (over_time, number),
            "fields_used": (over_time, (patches > 0).sum(axis=1)),
            "dispersion": ("readout", phi),
        },
        coords={
            "well": probabilities.well.values.astype(object),
            "timepoint": probabilities.timepoint.values,
            "state": list(STATES),
            "readout": ["death", *STATES],
            "hours": ("timepoint", probabilities.hours.values),
        },
        attrs={
            "level": level,
            "interval": "Wilson, effective number of patches, dispersion of fields pooled over the plate",
            "dispersion_source": "plate" if pooled else "assumed: too few wells with two or more fields",
            "dispersion_freedom": freedom,
        },
    ).reindex(well=layout.well.values.astype(object))
    for name in ("count", "patches", "fields_used"):  # wells that were never classified hold none
        result[name] = result[name].fillna(0).astype(np.int64)
    if fields is not None:
        result["confluency"] = fields.confluency.mean("field").reindex(well=result.well, timepoint=result.timepoint)
    else:
        result["confluency"] = xr.full_like(result.death, np.nan)
    return result.assign_coords({name: ("well", layout[name].values) for name in layout.variables if name != "well"})


def _per_field(probabilities: xr.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum of probabilities (well, field, timepoint, state), number of patches, and votes per state."""
    dims = ("well", "field", "timepoint", "py", "px", "state")
    values = probabilities.probability.transpose(*dims).sel(state=list(STATES)).values
    wells, fields, timepoints = values.shape[:3]
    totals = np.zeros((wells, fields, timepoints, len(STATES)))
    votes = np.zeros_like(totals, dtype=np.int64)
    patches = np.zeros((wells, fields, timepoints), dtype=np.int64)
    for well in range(wells):  # one well at a time: a plate's patches are a few hundred megabytes
        one = values[well].reshape(fields, timepoints, -1, len(STATES))
        counted = np.isfinite(one).all(axis=-1)
        filled = np.where(counted[..., None], one, 0)
        totals[well] = filled.sum(axis=2, dtype=float)
        patches[well] = counted.sum(axis=2)
        winner = np.where(counted, filled.argmax(axis=-1), -1)
        for state in range(len(STATES)):
            votes[well, ..., state] = (winner == state).sum(axis=2)
    return totals, patches, votes


def _dispersion(readouts: np.ndarray, patches: np.ndarray) -> tuple[np.ndarray, int]:
    """Correlation phi of two patches of a field, per readout, and the degrees of freedom it rests on.

    Moments, summed over wells before dividing, so that wells with nothing in a state weigh nothing: with p
    a well's mean, E sum_f n_f (x_f - p)^2 = p (1 - p) [(F - 1) + phi (N - sum n_f^2 / N - F + 1)]. A field
    is followed over time, so timepoints add no freedom.
    """
    n = patches.astype(float)  # (well, field, timepoint)
    number, used = n.sum(axis=1), (n > 0).sum(axis=1)
    safe = np.maximum(number, 1)
    mean = readouts.sum(axis=1) / safe[..., None]  # (well, timepoint, readout)
    field_mean = readouts / np.maximum(n, 1)[..., None]
    scatter = (n[..., None] * (field_mean - mean[:, None]) ** 2).sum(axis=1)
    # p (1 - p) at a well's own mean is a few percent too small, above and below the line alike
    bernoulli = mean * (1 - mean) * (used > 1)[..., None]
    alone = (bernoulli * (used - 1)[..., None]).sum(axis=(0, 1))
    room = (bernoulli * (number - (n**2).sum(axis=1) / safe - used + 1)[..., None]).sum(axis=(0, 1))
    excess = (scatter * (used > 1)[..., None]).sum(axis=(0, 1)) - alone
    phi = np.clip(np.divide(excess, room, out=np.zeros_like(excess), where=room > 0), 0.0, 1.0)
    freedom = int(np.maximum(used - 1, 0).max(axis=1, initial=0).sum())
    return phi, freedom


def _wilson(mean: np.ndarray, number: np.ndarray, quantile: float) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval; NaN where the mean is."""
    number = np.where(number > 0, number, np.nan)
    share = quantile**2 / number
    centre = (mean + share / 2) / (1 + share)
    half = np.sqrt(np.maximum(mean * (1 - mean), 0) * share + share**2 / 4) / (1 + share)
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)
