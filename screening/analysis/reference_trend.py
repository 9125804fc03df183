"""How steady a campaign is: its reference compound and controls from plate to plate, and how far plates agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from . import wells
from .agreement import COLUMNS, msr_of_reference, msr_of_two_runs, pairwise
from .control_charts import levey_jennings
from .variance import LEVELS, variance_components

FEWEST_PLATES = 3  # on which a compound must have an EC50 to tell how it varies


def reference_trend(
    curves: Mapping[str, xr.Dataset],
    controls: Mapping[str, xr.Dataset],
    *,
    reference: str | None = None,
    timepoint: int = -1,
    level: float = 0.95,
) -> xr.Dataset:
    """Follow the reference compound's EC50 and the controls over the plates, and say which EC50s may differ at all.

    Parameters
    ----------
    curves
        `dose_response` of each plate by itself, by the plate's name, in the order in which plates were made. Plates
        without it have no EC50.
    controls
        `normalized` of each plate; its plates are those followed.
    reference
        Name of the compound; without one the chart follows the compound that is quantified on most plates (the first by
        name of several), and the minimum significant ratio is pooled over all compounds quantified on three or more.
    timepoint
        Position of the timepoint that the controls are read at.
    level
        Of the ratio's interval.

    Returns
    -------
    Dataset
        Group `reference_trend`. (series, plate), series reference (log10 EC50, uM), vehicle and positive (deaths):
        `value`, `z`, `rules`, `status` as `control_charts.levey_jennings` gives them; (series): `center`, `spread`.
        Attributes: `reference` ("" where there is none), `msr` with `msr_low`, `msr_high` and `msr_source`.
    """
    plates = list(controls)
    ec50 = _log_ec50(curves, plates)
    often = ec50.notna().sum(axis=1)
    repeated = sorted(often.index[often >= FEWEST_PLATES])
    chosen = reference or (min(repeated, key=lambda name: (-often[name], name)) if repeated else "")
    if reference:
        runs = [ec50.loc[reference].to_numpy(float)] if reference in ec50.index else []
        source = f"{reference} over {int(often.get(reference, 0))} plates"
    else:
        runs = [ec50.loc[name].to_numpy(float) for name in repeated]
        source = f"{len(repeated)} compounds quantified on {FEWEST_PLATES} or more plates" if repeated else "none"
    ratio = msr_of_reference(runs, level=level)
    series = {
        "reference": ec50.loc[chosen].to_numpy(float) if chosen in ec50.index else np.full(len(plates), np.nan),
        "vehicle": _at(controls, "vehicle_death", timepoint),
        "positive": _at(controls, "positive_death", timepoint),
    }
    charts = [levey_jennings(values) for values in series.values()]
    over = ("series", "plate")
    result = xr.Dataset(
        {
            name: (over, np.array([chart[name].to_numpy(kind) for chart in charts], dtype=kind))
            for name, kind in (("value", float), ("z", float), ("rules", object), ("status", object))
        },
        coords={"series": np.array(list(series), dtype=object), "plate": np.array(plates, dtype=object)},
        attrs={
            "reference": chosen,
            "msr": ratio["msr"],
            "msr_low": ratio["msr_low"],
            "msr_high": ratio["msr_high"],
            "msr_source": source if np.isfinite(ratio["msr"]) else "none",
            "level": level,
        },
    )
    for name in ("center", "spread"):
        firsts = [float(chart[name].iloc[0]) if len(chart) else np.nan for chart in charts]
        result[name] = ("series", np.array(firsts))
    return result


def plate_agreement(
    plates: Sequence[xr.Dataset],
    curves: Mapping[str, xr.Dataset] | None = None,
    *,
    timepoint: int = -1,
    level: float = 0.95,
) -> xr.Dataset:
    """How far every two plates agree about the same compounds and doses, and replicates within a plate.

    Parameters
    ----------
    plates
        `normalized` of each, with their names in `attrs["plate"]`.
    curves
        `dose_response` of each plate by itself, for the ratio of EC50s.

    Returns
    -------
    Dataset
        Group `agreement`. (pair): first, second (plates, or one plate's first and second well of a treatment, "P1 #1"
        and "P1 #2"), `agreement.COLUMNS` on excess death, `kind` (plates, replicates), and between plates `msr`,
        `msr_low`, `msr_high`, `msr_n` of their EC50s (`agreement.msr_of_two_runs`). (plate, treatment): `mean`, excess
        death of its wells, NaN where the plate has none; (treatment): `treatment_compound`, `treatment_dose` in uM.
    """
    frame = wells.table(wells.pool_wells(plates), timepoint=timepoint)
    treated = frame[~frame["vehicle"]]
    means = treated.pivot_table(index=["compound", "log_dose"], columns="plate", values="death", sort=False)
    between = pairwise(means, level=level).assign(kind="plates")
    ec50 = _log_ec50(curves or {}, [str(name) for name in means.columns])
    ratios = [
        msr_of_two_runs(ec50[first].to_numpy(float), ec50[second].to_numpy(float), level=level)
        for first, second in zip(between["first"], between["second"], strict=True)
    ]
    for name in ("msr", "msr_low", "msr_high", "n"):
        between["msr_n" if name == "n" else name] = [ratio[name] for ratio in ratios]
    within = []
    for plate, own in treated.groupby("plate", sort=False):
        number = own.sort_values(["replicate", "well"]).groupby(["compound", "log_dose"]).cumcount() + 1
        pairs = own.assign(_number=number)
        pairs = pairs[pairs["_number"] <= 2].pivot_table(
            index=["compound", "log_dose"], columns="_number", values="death"
        )
        if pairs.shape[1] == 2:
            pairs.columns = pd.Index([f"{plate} #1", f"{plate} #2"])
            within.append(pairwise(pairs, level=level).assign(kind="replicates"))
    table = pd.concat([between, *within], ignore_index=True) if within else between
    texts = ("first", "second", "kind", "status")
    names = ["first", "second", "kind", *COLUMNS, "msr", "msr_low", "msr_high", "msr_n"]
    return xr.Dataset(
        {
            **{name: ("pair", table[name].to_numpy(object if name in texts else float)) for name in names},
            "mean": (("plate", "treatment"), means.to_numpy(float).T),
            "treatment_compound": ("treatment", means.index.get_level_values("compound").to_numpy(object)),
            "treatment_dose": (
                "treatment",
                10.0 ** means.index.get_level_values("log_dose").to_numpy(float),
                {"units": "uM"},
            ),
        },
        coords={"plate": np.array([str(name) for name in means.columns], dtype=object)},
        attrs={"level": level},
    )


def batch_effects(
    plates: Sequence[xr.Dataset],
    *,
    batches: Mapping[str, str] | None = None,
    timepoint: int = -1,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Split the scatter of deaths into batch, plate and well, before and after normalisation.

    Parameters
    ----------
    plates
        `normalized` of each, with their names in `attrs["plate"]`.
    batches
        Plate -> batch, such as its date; all one batch without it.

    Returns
    -------
    Dataset
        Group `batches`. (readout, level), readout raw (death fraction) and normalized (excess over vehicle), level
        batch, plate, well: columns of `variance.variance_components`.
    """
    parts: dict[str, list[pd.DataFrame]] = {"raw": [], "normalized": []}
    for number, plate in enumerate(plates, start=1):
        name = str(plate.attrs.get("plate", f"plate {number}"))
        normalized = wells.table(wells.pool_wells([plate]), timepoint=timepoint)
        raw = plate["death"].transpose("well", "timepoint").values[:, timepoint]
        placed = pd.Series(raw, index=[str(well) for well in plate.well.values])
        own = normalized.assign(plate=name, raw=placed.reindex(normalized["well"]).to_numpy())
        for readout, column in (("raw", "raw"), ("normalized", "death")):
            parts[readout].append(own.assign(value=own[column])[["plate", "compound", "log_dose", "vehicle", "value"]])
    tables = []
    for readout in parts:
        frame = pd.concat(parts[readout], ignore_index=True)
        treatment = np.where(
            frame["vehicle"], "vehicle", frame["compound"].astype(str) + " " + frame["log_dose"].astype(str)
        )
        batch = frame["plate"].map(lambda name: (batches or {}).get(name, ""))
        tables.append(
            variance_components(
                frame["value"].to_numpy(),
                treatment,
                frame["plate"].to_numpy(),
                batch.to_numpy(),
                level=level,
                seed=seed,
            )
        )
    over = ("readout", "level")
    return xr.Dataset(
        {
            str(name): (over, np.array([one[name].to_numpy(object if name == "status" else float) for one in tables]))
            for name in tables[0].columns
        },
        coords={"readout": np.array(list(parts), dtype=object), "level": np.array(LEVELS, dtype=object)},
        attrs={"interval_level": level},
    )


def _log_ec50(curves: Mapping[str, xr.Dataset], plates: Sequence[str]) -> pd.DataFrame:
    """log10 EC50 of death, quantified curves only; (compound, plate)."""
    columns = {}
    for name in plates:
        if name in curves:
            death = curves[name].sel(readout="death")
            good = death["status"].values == "quantified"
            with np.errstate(divide="ignore", invalid="ignore"):
                values = np.where(good, np.log10(death["ec50"].values.astype(float)), np.nan)
            columns[name] = pd.Series(values, index=[str(compound) for compound in death["compound"].values])
        else:
            columns[name] = pd.Series(dtype=float)
    return pd.DataFrame(columns, columns=list(plates))


def _at(controls: Mapping[str, xr.Dataset], name: str, timepoint: int) -> np.ndarray:
    return np.array([float(plate[name].values[timepoint]) for plate in controls.values()])
