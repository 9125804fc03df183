"""Control charts of a campaign: what should stay the same from plate to plate, and the plates where it did not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from .control_charts import Westgard, levey_jennings

OF_NORMALIZED = {"vehicle_death": "vehicle_death", "positive_death": "positive_death"}
OF_QUALITY = ("z_prime", "robust_z_prime", "ssmd", "robust_ssmd", "cv_negative", "cv_positive")
_TEXTS = ("rules", "status")


def control_charts(
    quality: Mapping[str, xr.Dataset],
    normalized: Mapping[str, xr.Dataset],
    *,
    trend: xr.Dataset | None = None,
    acquired: Mapping[str, np.datetime64] | None = None,
    timepoint: int = -1,
    rules: Westgard | None = None,
) -> xr.Dataset:
    """Chart controls and control statistics of every plate after Levey and Jennings, with Westgard's rules.

    Parameters
    ----------
    quality, normalized
        Groups of these names, by plate.
    trend
        `reference_trend` of the same plates, for the reference compound's EC50.
    acquired
        When each plate's first field was imaged. Where all plates tell, it is their order; else the given one is.
    timepoint
        Position of the timepoint that is read.
    rules
        Which rules, and which of them only warn; `Westgard()` unless given.

    Returns
    -------
    Dataset
        Group `control_charts`. (readout, plate): `value`, `z` (in SDs from the centre), `rules` (broken, in words),
        `status` as `control_charts.levey_jennings` gives it; (readout, plate, rule): `flag`, one bool a rule;
        (readout): `centre`, `sd`, NaN below eight plates. Coordinate `acquired` (plate), NaT where unknown. Readouts:
        `vehicle_death`, `positive_death`, the control statistics of death, and `reference_log10_ec50` (log10 uM).
    """
    rules = rules or Westgard()
    unknown = np.datetime64("NaT")
    times = {plate: (acquired or {}).get(plate, unknown) for plate in normalized}
    timed = bool(times) and not any(np.isnat(time) for time in times.values())
    plates = sorted(times, key=lambda plate: times[plate]) if timed else list(times)
    series = {
        name: np.array([_at(normalized[plate][variable], timepoint) for plate in plates])
        for name, variable in OF_NORMALIZED.items()
    }
    for name in OF_QUALITY:
        series[name] = np.array([_at(quality[plate][name].sel(readout="death"), timepoint) for plate in plates])
    if trend is not None:
        followed = trend["value"].sel(series="reference").reindex(plate=np.array(plates, dtype=object))
        series["reference_log10_ec50"] = followed.values.astype(float)
    charts = [levey_jennings(values, rules=rules) for values in series.values()]
    over = ("readout", "plate")
    columns = {
        name: (over, np.array([chart[name].to_numpy(object if name in _TEXTS else float) for chart in charts]))
        for name in ("value", "z", *_TEXTS)
    }
    flags = [[[rule in told.split(", ") for rule in rules.rules] for told in chart["rules"]] for chart in charts]
    shape = (len(charts), len(plates), len(rules.rules))
    usual = {
        new: ("readout", np.array([float(chart[old].iloc[0]) if len(chart) else np.nan for chart in charts]))
        for new, old in (("centre", "center"), ("sd", "spread"))
    }
    return xr.Dataset(
        {**columns, "flag": ((*over, "rule"), np.array(flags, dtype=bool).reshape(shape)), **usual},
        coords={
            "readout": np.array(list(series), dtype=object),
            "plate": np.array(plates, dtype=object),
            "rule": np.array(rules.rules, dtype=object),
            "acquired": ("plate", np.array([times[plate] for plate in plates], dtype="datetime64[ns]")),
        },
        attrs={
            "order": "first image" if timed else "as given",
            "warnings": list(rules.warnings),
            "reference": "" if trend is None else str(trend.attrs.get("reference", "")),
        },
    )


def _at(values: xr.DataArray, timepoint: int) -> float:
    return float(values.values[timepoint])
