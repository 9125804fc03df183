"""Compounds in order: what is known about potency first, then only bounded, then nothing to rank by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from plates.states import DEAD

from . import wells
from .hits import HitRule, against_vehicle, call_hits
from .rank_intervals import rank_intervals, tie_groups

SMALLEST_EXCESS = 0.05  # over vehicle, below which no pathway is named: there are no deaths to share out
STRATA = ("potency", "above tested doses", "not fitted", "no effect", "inverse")
ORDER = (
    "By stratum: EC50 of death with a bounded interval or below the tested doses; EC50 above the tested "
    "doses or unbounded; no curve fitted; no effect; fewer deaths than vehicle. Inside the first by the "
    "EC50 one standard error up (upper end of its 68 % interval), inside the others by the lower end of "
    "the effect at the top dose: what is claimed is what the data hold, not the luckiest reading of them."
)


def rank(
    dose_response: xr.Dataset,
    kinetics: xr.Dataset,
    plates: Sequence[xr.Dataset],
    *,
    timepoint: int = -1,
    level: float = 0.95,
    least_effect: float = 0.05,
    hit_rule: HitRule | None = None,
    msr: float = float("nan"),
    msr_source: str = "",
    draws: int = 2000,
    seed: int = 0,
) -> xr.Dataset:
    """Order compounds by conservative potency, say how sure the order is, and name how each kills.

    The 95 % limit would order compounds by how well their tops are known rather than by potency: in
    simulated plates the rank correlation with the truth is 0.89 with it, 0.96 with one standard error, 0.98
    with the bare estimate, which however rewards luck.

    The dominant pathway has the largest excess over vehicle at the upper active doses: those from the EC50
    of death up, or the top dose where the EC50 lies above it or is not known.

    Parameters
    ----------
    dose_response, kinetics
        Groups of the same names, over the same plates.
    plates
        `normalized` or `fractions` of each plate.
    timepoint
        Position of the timepoint that the curves were read at.
    level
        Of the intervals of shares and of ranks.
    least_effect
        Excess death below which a compound counts as without effect when ranks are drawn, as for the curves.
    hit_rule
        What a hit is; `HitRule()` unless given.
    msr, msr_source
        Minimum significant ratio of EC50s, and where it comes from: a reference compound over plates
        (`agreement.msr_of_reference`). Without one it is 10^(2 sqrt(2) s), s the median standard error of
        the compounds' own log10 EC50s, which does not hold what changes from plate to plate.
    draws, seed
        Of the intervals of ranks.

    Returns
    -------
    Dataset
        Group `ranking`, dim compound in order of `rank` (1 is best): `stratum`, `score` (what orders inside
        it: uM in the first stratum, excess death in the others), `ec50`, `emax` with intervals and `status`
        of death, `ec50_fit`, `t_half` with interval and `t_half_status`; `dominant_pathway` ("" without
        effect), `dominant_share` of all excess death with `_low`, `_high`, `second_pathway`, and
        `dominant_tied`: the second lies within error, or one well cannot tell. `rank_low`, `rank_high`
        (`rank_intervals.rank_intervals`); `tie_group`, `ties` (`rank_intervals.tie_groups`); `potency_rank`,
        `efficacy_rank`, `speed_rank`, `selectivity_rank`, each by the cautious end (EC50 one standard error up, lower
        end of the effect, upper end of the half time, lower end of the pathway's share) and 0 where there is none;
        `hit_p_value`, `hit_p_adjusted`, `hit`, `hit_reason` (`hits.call_hits`).
    """
    death = dose_response.sel(readout="death")
    names = [str(name) for name in death.compound.values]
    columns = (
        "ec50",
        "ec50_low",
        "ec50_high",
        "ec50_bound",
        "ec50_fit",
        "emax",
        "emax_low",
        "emax_high",
        "p_value",
        "status",
        "grade",
        "note",
    )
    table = pd.DataFrame({name: death[name].values for name in columns}, index=names)
    timed = kinetics.reindex(compound=names)
    for name in ("t_half", "t_half_low", "t_half_high"):
        table[name] = timed[name].values
    table["t_half_status"] = timed.status.values

    frame = wells.table(wells.pool_wells(plates), timepoint=timepoint)
    pathways = [
        _dominant(frame[(frame["compound"] == name) & ~frame["vehicle"]], row, level) for name, row in table.iterrows()
    ]
    keys = (
        "dominant_pathway",
        "dominant_share",
        "dominant_share_low",
        "dominant_share_high",
        "second_pathway",
        "dominant_tied",
    )
    for number, key in enumerate(keys):
        table[key] = [pathway[number] for pathway in pathways]

    stratum = np.array([_stratum(row) for _, row in table.iterrows()], dtype=int)
    table["stratum"] = np.array(STRATA, dtype=object)[stratum]
    effect = table["emax_low"].fillna(table["emax"])
    table["score"] = np.where(stratum == 0, table["ec50_bound"], effect)
    table["_stratum"] = stratum
    table["_key"] = np.where(stratum == 0, table["ec50_bound"], -effect)
    # equal bounds: the point decides, then the name, so that the same plate always gives the same order
    table["_name"] = names
    of_wells = against_vehicle(frame, level=level).reindex(names)
    table = table.join(_hits(table, of_wells, hit_rule))
    table["_low_dose"], table["_high_dose"] = _tested(death)
    spread = table.rename(columns={"_low_dose": "lowest", "_high_dose": "highest"}).assign(stratum=stratum)
    alone = (table["status"] == "not_fitted") & of_wells["effect_low"].notna()
    spread.loc[alone, ["emax", "emax_low", "emax_high"]] = of_wells[["effect", "effect_low", "effect_high"]].to_numpy()[
        alone
    ]
    table = table.join(rank_intervals(spread, least_effect=least_effect, level=level, draws=draws, seed=seed))
    table = table.assign(**_separate_ranks(table, stratum))
    table = table.sort_values(["_stratum", "_key", "ec50", "_name"])
    if not np.isfinite(msr):
        msr, msr_source = _own_msr(death)
    known = table["ec50_bound"].where(table["_stratum"] == 0).to_numpy(float)
    table["tie_group"], table["ties"] = tie_groups(known, msr)
    result = xr.Dataset(
        {
            name: ("compound", table[name].to_numpy(object if table[name].dtype.kind in "OT" else None))
            for name in map(str, table)
            if not name.startswith("_")
        },
        coords={"compound": np.array(table.index, dtype=object)},
        attrs={
            "order": ORDER,
            "level": level,
            "hit_rule": (hit_rule or HitRule()).text,
            "msr": float(msr),
            "msr_source": msr_source,
        },
    )
    result["rank"] = ("compound", np.arange(1, len(names) + 1))
    for name in ("ec50", "ec50_low", "ec50_high", "ec50_bound", "ec50_fit"):
        result[name].attrs["units"] = "uM"
    for name in ("t_half", "t_half_low", "t_half_high"):
        result[name].attrs["units"] = "h"
    return result


def _hits(table: pd.DataFrame, of_wells: pd.DataFrame, rule: HitRule | None) -> pd.DataFrame:
    """Hits by the curves' p values, and by the wells of the top dose where there is no curve."""
    evidence = table[["p_value", "emax", "emax_low", "status"]].copy()
    without = evidence["p_value"].isna()
    evidence.loc[without, "p_value"] = of_wells["p_value"]
    evidence["emax_low"] = evidence["emax_low"].fillna(of_wells["effect_low"])
    return call_hits(evidence, rule=rule)


def _tested(death: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest dose of each compound; NaN where it has no wells."""
    compounds = death.sizes["compound"]
    dose = death["dose"].values.reshape(compounds, -1) if compounds else np.empty((0, 0))
    known = np.isfinite(dose) & (dose > 0)
    some = known.any(axis=1)
    lowest = np.where(known, dose, np.inf).min(axis=1, initial=np.inf)
    highest = np.where(known, dose, -np.inf).max(axis=1, initial=-np.inf)
    return np.where(some, lowest, np.nan), np.where(some, highest, np.nan)


def _separate_ranks(table: pd.DataFrame, stratum: np.ndarray) -> dict[str, np.ndarray]:
    """Place by each quality on its own, 1 is best, equal ones share a place; 0 where it is not known."""
    effective = ~np.isin(stratum, (STRATA.index("no effect"), STRATA.index("inverse")))
    qualities = {
        "potency_rank": table["ec50_bound"].where(stratum == 0),
        "efficacy_rank": -table["emax_low"].fillna(table["emax"]).where(effective),
        "speed_rank": table["t_half_high"].fillna(table["t_half"]).where(effective),
        "selectivity_rank": -table["dominant_share_low"].where(effective),
    }
    return {name: values.rank(method="min").fillna(0).to_numpy().astype(int) for name, values in qualities.items()}


def _own_msr(death: xr.Dataset) -> tuple[float, str]:
    quantified = death["status"].values == "quantified"
    # the cautious EC50 lies one standard error above the EC50
    ratio = death["ec50_bound"].values[quantified].astype(float) / death["ec50"].values[quantified].astype(float)
    ratio = ratio[np.isfinite(ratio) & (ratio >= 1)]
    if not ratio.size:
        return float("nan"), "none: no compound has a quantified EC50"
    msr = 10 ** min(2 * np.sqrt(2) * float(np.median(np.log10(ratio))), 300.0)
    return float(msr), "no reference compound: the median standard error of the compounds' own log10 EC50s"


def _stratum(row: pd.Series) -> int:
    status = row["status"]
    if status in ("no_effect", "inverse", "not_fitted"):
        return STRATA.index(status.replace("_", " "))
    bounded = np.isfinite(row["ec50_high"]) and np.isfinite(row["ec50_bound"])
    return 0 if status != "above_range" and bounded else 1


def _dominant(mine: pd.DataFrame, fit: pd.Series, level: float) -> tuple[str, float, float, float, str, bool]:
    """Pathway, its share with interval, the second pathway, and whether the two lie within error."""
    nothing = ("", np.nan, np.nan, np.nan, "", False)
    if mine.empty or fit["status"] in ("no_effect", "inverse"):
        return nothing
    top = mine["log_dose"].max()
    known = np.isfinite(fit["ec50"]) and fit["ec50"] > 0
    lowest = np.log10(fit["ec50"]) if known else (-np.inf if fit["status"] == "below_range" else top)
    active = mine[mine["log_dose"] >= min(lowest, top)]
    excess = active[list(DEAD)].to_numpy()  # (well, pathway)
    mean = excess.mean(axis=0)
    first, second = np.argsort(-mean, kind="stable")[:2]
    total = np.maximum(mean, 0).sum()
    if mean[first] < SMALLEST_EXCESS:
        return nothing
    share = float(mean[first] / total)
    dose = active["log_dose"].to_numpy()
    # linearised ratio: how a well's pathway departs from its share of the well's death
    se_share, t = _standard_error((excess[:, first] - share * np.maximum(excess, 0).sum(axis=1)) / total, dose, level)
    se_gap, _ = _standard_error(excess[:, first] - excess[:, second], dose, level)
    gap = mean[first] - mean[second]
    tied = bool(not gap > t * se_gap)
    low, high = (float(np.clip(share + sign * t * se_share, 0, 1)) for sign in (-1, 1))
    return DEAD[first], share, low, high, DEAD[second], tied


def _standard_error(values: np.ndarray, dose: np.ndarray, level: float) -> tuple[float, float]:
    """Standard error of a mean over wells, from their spread inside doses, and Student's t for it."""
    _, group = np.unique(dose, return_inverse=True)
    freedom = values.size - (group.max() + 1)
    if freedom < 1:  # no replicates: doses differ by more than chance, which makes the interval wide, not wrong
        group, freedom = np.zeros(values.size, dtype=int), values.size - 1
    if freedom < 1:
        return float("nan"), float("nan")
    centre = np.bincount(group, values) / np.bincount(group)
    variance = ((values - centre[group]) ** 2).sum() / freedom
    return float(np.sqrt(variance / values.size)), float(stats.t.ppf(0.5 + level / 2, freedom))
