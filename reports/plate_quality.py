"""What speaks for and against a plate: limits, effects of place and order, fields proposed to be left out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from plates.layout.roles import is_masked

from .tables import provenance, quality_rows

TESTS = {
    "edge": "edge against inner wells",
    "row": "rows differ",
    "column": "columns differ",
    "gradient": "gradient over the plate",
    "morans": "neighbours are alike (Moran's I)",
}
QUANTITIES = {
    "death": "dead cells",
    "focus": "focus",
    "medium_index": "index of the medium",
    "confluency": "confluency",
}
LISTED = 60  # proposed fields told one by one


def quality_of_plate(results: Mapping[str, xr.Dataset], *, timepoint: int) -> dict[str, Any]:
    """Tables of the section on controls; a result that is not there leaves its part out.

    Parameters
    ----------
    results
        By name: `layout` and `quality`, and of `vehicle_quality`, `spatial`, `drift`,
        `layout_check`, `field_quality` those that are there.
    timepoint
        Position of the timepoint that is read.
    """
    quality = results["quality"]
    return {
        "rows": quality_rows(quality, timepoint=timepoint),
        "limits": _limits(quality),
        "vehicles": _vehicles(results.get("vehicle_quality"), timepoint),
        "excluded": excluded_wells(results["layout"]),
        "places": _places(results.get("spatial"), timepoint),
        "drift": _drift(results.get("drift"), timepoint),
        "ways": _ways(results.get("layout_check")),
        "proposed": _proposed(results.get("field_quality")),
    }


def _limits(quality: xr.Dataset) -> dict[str, float]:
    """Limits of the verdict as far as they are recorded; NaN where they are not."""
    settings = provenance(quality).get("settings", {})
    recorded = settings if isinstance(settings, Mapping) else {}
    return {
        "robust_z_prime": float(quality.attrs.get("z_prime_limit", math.nan)),
        "robust_ssmd": float(recorded.get("ssmd_min", math.nan)),
        "controls": float(recorded.get("controls_min", math.nan)),
        "patches": float(recorded.get("patches_min", math.nan)),
    }


def _vehicles(quality: xr.Dataset | None, timepoint: int) -> list[dict[str, Any]]:
    """Statistics of death of each vehicle, where there are several."""
    if quality is None or quality.sizes.get("vehicle", 0) < 2:
        return []
    rows = []
    for index, vehicle in enumerate(quality["vehicle"].values):
        one = quality.isel(vehicle=index, timepoint=timepoint).sel(readout="death")
        named = ("robust_z_prime", "robust_ssmd", "n_negative", "n_positive")
        rows.append({"vehicle": str(vehicle) or "not stated"} | {name: float(one[name].item()) for name in named})
    return rows


def _places(spatial: xr.Dataset | None, timepoint: int) -> dict[str, Any] | None:
    if spatial is None:
        return None
    death = spatial.sel(readout="death").isel(timepoint=timepoint)
    rows = []
    for test, name in TESTS.items():
        share = "morans_i" if test == "morans" else f"{test}_share"
        rows.append(
            {
                "name": name,
                **{
                    whose: (_number(death, f"{prefix}{share}"), _number(death, f"{prefix}{test}_p"))
                    for whose, prefix in (("vehicle", ""), ("replicates", "replicate_"))
                },
            }
        )
    whole = {
        whose: {name: _number(death, f"{prefix}{name}") for name in ("p", "effect", "n", "edge_t")}
        for whose, prefix in (("vehicle", ""), ("replicates", "replicate_"))
    }
    return {"rows": rows, "whole": whole}


def _drift(drift: xr.Dataset | None, timepoint: int) -> list[dict[str, Any]]:
    if drift is None or "spearman" not in drift:
        return []
    at_time = drift.isel(timepoint=timepoint)
    return [
        {"name": QUANTITIES.get(str(quantity), str(quantity))}
        | {name: _number(at_time.sel(quantity=quantity), name) for name in ("spearman", "p", "change", "n")}
        for quantity in drift["quantity"].values
    ]


def _ways(check: xr.Dataset | None) -> dict[str, Any] | None:
    """How many other ways of lying were tried, and those that fit better."""
    if check is None or not check.sizes.get("way"):
        return None
    tested = [str(status) == "tested" for status in check["status"].values]
    better = [
        {"way": str(check["way"].values[i]), "p": float(check["p"].values[i]), "gain": float(check["gain"].values[i])}
        for i in np.flatnonzero(check["better"].values.astype(bool))
    ]
    return {"tested": max(sum(tested) - 1, 0), "better": better}


def _proposed(found: xr.Dataset | None) -> dict[str, Any] | None:
    """Fields that the rule proposes to leave out, a row a field, and how many more there are."""
    if found is None:
        return None
    proposed = found["proposed"].transpose("well", "field", "timepoint").values.astype(bool)
    reasons = found["reason"].transpose("well", "field", "timepoint").values
    rows = []
    for well, field in np.argwhere(proposed.any(axis=2)):
        at = np.flatnonzero(proposed[well, field])
        told = dict.fromkeys(part for text in reasons[well, field, at] for part in str(text).split(", "))
        rows.append(
            {
                "well": str(found["well"].values[well]),
                "field": int(found["field"].values[field]),
                "timepoints": ", ".join(str(found["timepoint"].values[t]) for t in at),
                "reason": ", ".join(told),
            }
        )
    return {
        "rows": rows[:LISTED],
        "more": max(len(rows) - LISTED, 0),
        "rule": str(found.attrs.get("rule", "")),
        "fields": int(proposed.shape[0] * proposed.shape[1]),
    }


def excluded_wells(layout: xr.Dataset) -> list[tuple[str, str]]:
    """Wells that no statistic sees, and why."""
    out = is_masked(layout)
    return [
        (str(well), str(why))
        for well, why in zip(layout["well"].values[out], layout["masked"].values[out] if out.any() else [], strict=True)
    ]


def _number(one: xr.Dataset, name: str) -> float:
    return float(one[name].item()) if name in one else math.nan
