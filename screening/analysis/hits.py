"""Which compounds are hits, by a written rule with a stated false discovery rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

NOT_KILLING = ("inverse", "no_effect")
COLUMNS = ("hit_p_value", "hit_p_adjusted", "hit", "hit_reason")


@dataclass(frozen=True)
class HitRule:
    """When a compound is a hit.

    Attributes
    ----------
    fdr
        Expected share of false hits among all hits (Benjamini and Hochberg 1995), over the compounds that were tested.
    least_effect
        Excess death at the top dose that the lower end of its interval must reach.
    """

    fdr: float = 0.05
    least_effect: float = 0.1

    def __post_init__(self) -> None:
        if not (0 < self.fdr < 1 and 0 <= self.least_effect < 1):
            raise ValueError(f"fdr {self.fdr} and least_effect {self.least_effect} must lie between 0 and 1.")

    @property
    def text(self) -> str:
        """The rule in a sentence."""
        return (
            f"A hit has a Benjamini-Hochberg adjusted p of at most {self.fdr:g} over all compounds tested, more deaths "
            f"than vehicle, and an excess of at least {self.least_effect:g} at its top dose by the lower end of the "
            "interval. p: of the dose-response curve where one was fitted, else of the wells of the top dose against "
            "vehicle wells."
        )


def call_hits(table: pd.DataFrame, *, rule: HitRule | None = None) -> pd.DataFrame:
    """Decide for each compound whether it is a hit, and say why not.

    Parameters
    ----------
    table
        One row a compound: p_value (NaN where none could be computed), emax, emax_low (excess death at the top dose and
        the lower end of its interval; NaN where unknown) and, where there is one, status.

    Returns
    -------
    DataFrame
        Same index: hit_p_value, hit_p_adjusted, hit, hit_reason ("" for hits). A compound without a p value takes no
        part in the adjustment and is no hit.
    """
    rule = rule or HitRule()
    p = pd.to_numeric(table["p_value"], errors="coerce").to_numpy(float)
    p = np.where((p >= 0) & (p <= 1), p, np.nan)
    adjusted = np.full(len(p), np.nan)
    known = np.isfinite(p)
    if known.any():
        adjusted[known] = stats.false_discovery_control(p[known])
    effect, low = (pd.to_numeric(table[name], errors="coerce").to_numpy(float) for name in ("emax", "emax_low"))
    status = table["status"].to_numpy(object) if "status" in table else np.full(len(p), "", dtype=object)
    with np.errstate(invalid="ignore"):
        cases = [
            (~known, "no p value: too few wells to test"),
            ((status == "inverse") | (effect < 0), "fewer deaths than vehicle"),
            (~(adjusted <= rule.fdr), f"adjusted p above {rule.fdr:g}"),
            (status == "no_effect", "no effect by the rule of the curves"),
            (~np.isfinite(low), "no interval of the effect"),
            (~(low >= rule.least_effect), f"the effect may be below {rule.least_effect:g}"),
        ]
    reason = np.select([case for case, _ in cases], [text for _, text in cases], "").astype(object)
    return pd.DataFrame(
        {"hit_p_value": p, "hit_p_adjusted": adjusted, "hit": reason == "", "hit_reason": reason}, index=table.index
    )


def against_vehicle(frame: pd.DataFrame, *, readout: str = "death", level: float = 0.95) -> pd.DataFrame:
    """Test each compound's wells at its top dose against the vehicle wells of the same plates.

    Were the compound without effect, its wells would scatter as vehicle wells do. So the spread is that of vehicle
    around its plate's mean, pooled over plates, and one well of a compound is enough for a p value: t = mean
    difference / (s sqrt(sum over plates of (r_p / r)^2 (1/r_p + 1/n_p))) with the vehicle's degrees of freedom. The
    interval is made for wells that do die: their variance goes as p (1 - p), with a factor pooled over all compounds,
    and is at least the vehicle's.

    Parameters
    ----------
    frame
        One row a well: plate, compound, log_dose, vehicle (bool) and the readout, as `wells.table` gives it.

    Returns
    -------
    DataFrame
        One row a compound: effect, effect_low, effect_high, p_value (one-sided, more deaths), wells. NaN where no plate
        of the compound has vehicle wells, or where vehicle has no spread.
    """
    vehicle = frame[frame["vehicle"]]
    centre, count = vehicle.groupby("plate")[readout].mean(), vehicle.groupby("plate").size()
    around = vehicle[readout] - vehicle.groupby("plate")[readout].transform("mean")
    freedom = len(vehicle) - len(count)
    spread = float(np.sqrt((around**2).sum() / freedom)) if freedom > 0 else float("nan")
    treated = frame[~frame["vehicle"] & frame["plate"].isin(count.index)]
    top = treated[treated["log_dose"] == treated.groupby("compound")["log_dose"].transform("max")]
    own = top[readout] - top.groupby(["compound", "plate"])[readout].transform("mean")
    own_freedom = len(top) - top.groupby(["compound", "plate"]).ngroups
    shape = _shape(top.groupby(["compound", "plate"])[readout].transform("mean"))
    factor = float((own**2 / shape).sum() / own_freedom) if own_freedom > 0 else 0.0
    rows = {}
    for name in frame.loc[~frame["vehicle"], "compound"].unique():
        mine = top[top["compound"] == name]
        if mine.empty:
            rows[name] = [np.nan] * 4 + [0]
            continue
        per_plate = mine.groupby("plate").size()
        effect = float((mine[readout] - mine["plate"].map(centre)).mean())
        share = per_plate / per_plate.sum()
        unit = float(np.sqrt((share**2 * (1 / per_plate + 1 / count.loc[per_plate.index])).sum()))
        widest = max(spread, float(np.sqrt(factor * _shape(mine[readout].mean())))) if spread >= 0 else np.nan
        t = float(stats.t.ppf(0.5 + level / 2, max(min(freedom, own_freedom or freedom), 1)))
        half = t * widest * unit
        p = float(stats.t.sf(effect / (spread * unit), freedom)) if spread > 0 else np.nan
        rows[name] = [effect, effect - half, effect + half, p, len(mine)]
    return pd.DataFrame.from_dict(
        rows, orient="index", columns=["effect", "effect_low", "effect_high", "p_value", "wells"], dtype=float
    )


def _shape(mean: pd.Series | float) -> Any:
    """Variance of a fraction by its mean, up to a factor; no well is free of all scatter."""
    inside = np.clip(mean, 0, 1)
    return inside * (1 - inside) + 0.01
