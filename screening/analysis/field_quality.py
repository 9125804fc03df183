"""Is each field fit to be counted: focus, medium, broken voxels, cells, patches unlike the classifier's training."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import xarray as xr

from plates.layout.roles import is_masked

from .control_statistics import MAD

DONE = 1  # status of a field that was converted
FLAGS = ("missing", "out_of_focus", "strange_medium", "garbage", "no_foreground", "unlike_training")


@dataclass(frozen=True)
class FieldRule:
    """When a field is flagged, and which flags propose to leave it out.

    `focus`: robust z among the fields of its timepoint, below minus which it is out of focus. `medium`:
    difference of the medium's index from the plate's median at that timepoint, above which the medium, the
    calibration, or the field is another one. `garbage`: share of voxels that held no
    number or were not reconstructed, above the plate's median at that timepoint. `foreground`:
    share of the field covered by cells below which it has none. `unlike`: share of its patches beyond the
    classifier's own threshold (1 % of the patches it was validated on lie there), from `fewest_patches`
    patches on. `proposes`: flags that put a field on the list of proposed exclusions; nothing is ever left
    out by itself.
    """

    focus: float = 5.0
    medium: float = 0.002
    garbage: float = 0.02
    foreground: float = 0.01
    unlike: float = 0.2
    fewest_patches: int = 10
    proposes: tuple[str, ...] = ("out_of_focus", "strange_medium", "garbage", "unlike_training")

    def __str__(self) -> str:
        return (
            f"A field is out of focus at a robust z below -{self.focus:g} among the plate's fields of that "
            f"timepoint, its medium is strange {self.medium:g} from their median index, it is garbage with "
            f"{self.garbage:.0%} more of its voxels missing than in their median, empty with less than "
            f"{self.foreground:.0%} of it covered by cells, and unlike the training with more than {self.unlike:.0%} "
            "of its patches beyond the classifier's threshold."
        )


def assess_fields(
    fields: xr.Dataset, probabilities: xr.Dataset | None = None, *, rule: FieldRule = FieldRule()
) -> xr.Dataset:
    """Flag fields, and propose which to leave out.

    Parameters
    ----------
    fields
        Group `fields`: (well, field, timepoint) `status`, and of `focus`, `medium_index`, `confluency`,
        `missing_share` those that are there.
    probabilities
        Group `probabilities`, for `outlier` (well, field, timepoint, py, px), its `outlier_threshold` in the
        attributes, and the number of patches with cells.
    rule
        Of the flags.

    Returns
    -------
    Dataset
        Group `field_quality`, (well, field, timepoint): one bool per flag of `FLAGS`; `focus_z`,
        `medium_difference`, `missing_share`, `foreground`, `patches`, `outlier_share` (NaN where unknown);
        `proposed` (bool) and `reason` in words. attrs: `rule` (in words), `limits` (JSON), `note`, and the plate's
        `outlier_share`.
    """
    dims = ("well", "field", "timepoint")
    done = (fields["status"] == DONE).transpose(*dims).values
    masked = is_masked(fields) if "masked" in fields else np.zeros(fields.sizes["well"], dtype=bool)
    judged = done & ~masked[:, None, None]
    nothing = np.full(done.shape, np.nan)

    def known(name: str) -> np.ndarray:
        if name not in fields:
            return nothing
        values = np.asarray(fields[name].transpose(*dims).values, dtype=float)
        return np.where(done & np.isfinite(values), values, np.nan)

    focus, medium, cover, gaps = (known(name) for name in ("focus", "medium_index", "confluency", "missing_share"))
    focus_z = _from_plate(focus, judged, scaled=True)
    medium_difference = _from_plate(medium, judged, scaled=False)
    patches, unlike = _patches(probabilities, fields)
    flags = {
        "missing": ~done,
        "out_of_focus": np.nan_to_num(focus_z) < -rule.focus,
        "strange_medium": np.abs(np.nan_to_num(medium_difference)) > rule.medium,
        "garbage": np.nan_to_num(_from_plate(gaps, judged, scaled=False)) > rule.garbage,
        "no_foreground": done & (np.nan_to_num(cover, nan=1.0) < rule.foreground),
        "unlike_training": (np.nan_to_num(unlike) > rule.unlike) & (patches >= rule.fewest_patches),
    }
    proposed = np.zeros(done.shape, dtype=bool)
    reason = np.full(done.shape, "", dtype=object)
    for name in rule.proposes:
        proposed |= flags[name]
        said = np.where(reason == "", name.replace("_", " "), reason + ", " + name.replace("_", " "))
        reason = np.where(flags[name], said, reason)
    numbers = {
        "focus_z": (focus_z, "focus in robust standard deviations from the plate's fields of this timepoint", "1"),
        "medium_difference": (medium_difference, "index of the medium minus its median over the plate's fields", "1"),
        "missing_share": (gaps, "share of voxels that were not reconstructed", "1"),
        "foreground": (cover, "share of the field covered by cells", "1"),
        "outlier_share": (
            unlike,
            "share of patches further from the training data than the classifier's threshold",
            "1",
        ),
        "patches": (patches, "patches with cells", "patches"),
    }
    total = (
        float(np.nansum(unlike * patches) / patches[np.isfinite(unlike)].sum()) if np.isfinite(unlike).any() else np.nan
    )
    return xr.Dataset(
        {
            **{name: (dims, values) for name, values in flags.items()},
            **{
                name: (dims, values, {"long_name": text, "units": unit})
                for name, (values, text, unit) in numbers.items()
            },
            "proposed": (dims, proposed, {"long_name": "proposed to be left out; nothing is left out by itself"}),
            "reason": (dims, reason.astype(object)),
        },
        coords={name: fields[name].values for name in dims},
        attrs={
            "rule": str(rule),
            "limits": json.dumps(asdict(rule)),
            "note": "Proposals only: every field counts until somebody excludes it, with name and reason.",
            "outlier_share": total,
        },
    )


def proposals(field_quality: xr.Dataset) -> pd.DataFrame:
    """The proposed exclusions, one row a field: `well`, `field`, `timepoints` (count and which), `reason`."""
    found = field_quality["proposed"].transpose("well", "field", "timepoint").values
    reasons = field_quality["reason"].transpose("well", "field", "timepoint").values
    rows = []
    for well, field in zip(*np.nonzero(found.any(axis=2)), strict=True):
        at = np.flatnonzero(found[well, field])
        told = dict.fromkeys(part for text in reasons[well, field, at] for part in str(text).split(", "))
        rows.append(
            {
                "well": str(field_quality["well"].values[well]),
                "field": int(field_quality["field"].values[field]),
                "timepoints": " ".join(str(field_quality["timepoint"].values[t]) for t in at),
                "reason": ", ".join(told),
            }
        )
    return pd.DataFrame(rows, columns=["well", "field", "timepoints", "reason"])


def _from_plate(values: np.ndarray, judged: np.ndarray, *, scaled: bool) -> np.ndarray:
    """Difference from the median of the judged fields of the same timepoint, if wanted in robust SDs."""
    out = np.full(values.shape, np.nan)
    for t in range(values.shape[2]):
        one = values[:, :, t]
        usual = one[judged[:, :, t] & np.isfinite(one)]
        if usual.size < 4:
            continue
        middle = np.median(usual)
        spread = MAD * np.median(np.abs(usual - middle)) if scaled else 1.0
        if spread > 1e-12:
            out[:, :, t] = (one - middle) / spread
    return out


def _patches(probabilities: xr.Dataset | None, fields: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Patches with cells, and the share of them beyond the classifier's threshold, (well, field, timepoint)."""
    shape = tuple(fields.sizes[name] for name in ("well", "field", "timepoint"))
    number, share = np.zeros(shape, dtype=np.int64), np.full(shape, np.nan)
    if probabilities is None:
        return number, share
    place = {
        name: pd.Index(probabilities[name].values).get_indexer(fields[name].values)
        for name in ("well", "field", "timepoint")
    }
    called = probabilities["probability"].transpose("well", "field", "timepoint", "py", "px", "state")
    threshold = float(probabilities.attrs.get("outlier_threshold", np.nan))
    scores = (
        probabilities["outlier"].transpose("well", "field", "timepoint", "py", "px")
        if "outlier" in probabilities
        else None
    )
    there = np.ix_(*(np.flatnonzero(place[name] >= 0) for name in ("well", "field", "timepoint")))
    taken = np.ix_(*(place[name][place[name] >= 0] for name in ("well", "field", "timepoint")))
    number[there] = np.isfinite(called.isel(state=0).values).sum(axis=(3, 4))[taken]
    if scores is not None and np.isfinite(threshold):
        values = scores.values
        scored = np.isfinite(values).sum(axis=(3, 4))
        beyond = (values > threshold).sum(axis=(3, 4))
        share[there] = np.divide(beyond, scored, out=np.full(scored.shape, np.nan), where=scored > 0)[taken]
    return number, share
