"""Patches to wells: what fraction of each well is in which state, and how sure we are."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import stats

from plates.ingest.tables import DONE
from plates.layout.roles import is_masked
from plates.states import DEAD, STATES

from .correction import correct
from .counting import Counted, count_patches
from .denominators import of_seeded
from .quantification import ASSUMED_DISPERSION, FEWEST_FREEDOM

OVER_TIME, OVER_STATE = ("well", "timepoint"), ("well", "timepoint", "state")
WHOLE = ("count", "patches", "fields_used", "fields_imaged")
TREATED_RESPONSE = (
    "score, not a prevalence: probability of live-treated as a share of that of both live states. They are one "
    "state seen with and without treatment; how often untreated cells are called treated differs between plates, "
    "so compare with the vehicle wells of the same plate"
)


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

    These fractions hold the classifier's errors, and their intervals do not know of them. What they would be
    without stands beside them under names of its own (see `correction.correct`).

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
        (votes of single patches) and `voted`, their share; (well, timepoint): `death` (sum of the three pathways)
        with `death_low`, `death_high`; `live`, the rest, likewise; `treated_response`, `patches`, `fields_used`
        (fields with cells), `fields_imaged`, `confluency`, `foreground` (um2); `dispersion` (readout: death, then
        states); and what `denominators.of_seeded` and `correction.correct` add. NaN where no patch has cells.
    """
    counted = count_patches(probabilities)
    totals, patches = counted.totals, counted.patches
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
    corrected = correct(probabilities, layout, counted, level=level)
    result = _dataset(probabilities, counted, mean, low, high).assign({"dispersion": ("readout", phi)})
    result.attrs = {
        "level": level,
        "interval": "Wilson, effective number of patches, dispersion of fields pooled over the plate",
        "dispersion_source": "plate" if pooled else "assumed: too few wells with two or more fields",
        "dispersion_freedom": freedom,
        "denominator": "fraction, death, live: of the patches with cells at that time; dead cells detach and are "
        "in none of them. *_of_seeded: of the patches that wells of the same vehicle hold at that time",
        **corrected.attrs,
    }
    result = result.merge(corrected, combine_attrs="override").reindex(well=layout.well.values.astype(object))
    for name in WHOLE:  # wells that were never classified hold none
        result[name] = result[name].fillna(0).astype(np.int64)
    flags = corrected.correction_status.attrs
    result["correction_status"] = (
        result.correction_status.fillna(flags["flag_values"][1]).astype(np.int8).assign_attrs(flags)
    )
    if fields is not None:
        result["confluency"] = fields.confluency.mean("field").reindex(well=result.well, timepoint=result.timepoint)
    else:
        result["confluency"] = xr.full_like(result.death, np.nan)
    result = result.merge(of_seeded(result, layout))
    return result.assign_coords({name: ("well", layout[name].values) for name in layout.variables if name != "well"})


def _dataset(
    probabilities: xr.Dataset, counted: Counted, mean: np.ndarray, low: np.ndarray, high: np.ndarray
) -> xr.Dataset:
    """Means and their ends, (well, timepoint, readout), under their names, and what was counted."""
    patches, votes = counted.patches, counted.votes.sum(axis=(1, 4))
    number = patches.sum(axis=1)
    share = np.divide(votes, number[..., None], out=np.full(votes.shape, np.nan), where=number[..., None] > 0)
    live = mean[..., 1 + len(DEAD) :].sum(axis=-1)
    treated = np.divide(mean[..., -1], live, out=np.full(live.shape, np.nan), where=live > 0)
    stride_um = probabilities.attrs.get("stride_px", np.nan) * probabilities.attrs.get("um_per_px", np.nan)
    if "status" in probabilities:
        done = probabilities.status.transpose("well", "field", "timepoint").values == DONE
    else:
        done = patches > 0
    return xr.Dataset(
        {
            "fraction": (OVER_STATE, mean[..., 1:]),
            "fraction_low": (OVER_STATE, low[..., 1:]),
            "fraction_high": (OVER_STATE, high[..., 1:]),
            "count": (OVER_STATE, votes),
            "voted": (OVER_STATE, share),
            "death": (OVER_TIME, mean[..., 0]),
            "death_low": (OVER_TIME, low[..., 0]),
            "death_high": (OVER_TIME, high[..., 0]),
            "live": (OVER_TIME, 1 - mean[..., 0]),
            "live_low": (OVER_TIME, 1 - high[..., 0]),
            "live_high": (OVER_TIME, 1 - low[..., 0]),
            "treated_response": (OVER_TIME, treated, {"units": "1", "long_name": TREATED_RESPONSE}),
            "patches": (OVER_TIME, number),
            "fields_used": (OVER_TIME, (patches > 0).sum(axis=1)),
            "fields_imaged": (OVER_TIME, done.sum(axis=1)),
            "foreground": (
                OVER_TIME,
                counted.foreground * stride_um**2,
                {"units": "um2", "long_name": "area covered by cells, over all fields"},
            ),
        },
        coords={
            "well": probabilities.well.values.astype(object),
            "timepoint": probabilities.timepoint.values,
            "state": list(STATES),
            "readout": ["death", *STATES],
            "hours": ("timepoint", probabilities.hours.values),
        },
    )


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
