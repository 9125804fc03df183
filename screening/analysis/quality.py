"""Can this plate be trusted: how well its controls separate, what is wrong with which well, and a verdict."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from plates.layout.roles import MASKED, main_vehicle, roles
from plates.states import DEAD, STATES

MAD = 1.4826  # median absolute deviation to standard deviation, normal distribution
READOUTS = ("death", *STATES)
FEWEST_INNER = 5  # vehicle wells away from the rim, below which the edge is not tested
FLAGS = ("missing", "no_foreground", "few_patches", "out_of_focus")


@dataclass(frozen=True)
class Rule:
    """When a plate passes. Z' is the robust one of death at the reading timepoint.

    `fail_z_prime`, `pass_z_prime`: below the first the plate fails, from the second on it can pass (Zhang
    1999: 0 and 0.5). `pass_ssmd`: robust |SSMD| of death below which it is for review (Zhang 2007).
    `fewest_controls`: wells of each kind below which Z' is not believed. `contamination`: gap between
    robust and classical Z' that tells of outlying control wells. `edge`: |t| of edge against inner vehicle
    wells. `flagged_review`, `flagged_fail`: share of the plate's wells with a flag. `fewest_patches`: of a
    well. `focus`: robust z of a well's focus, below minus which it is out of focus.
    """

    fail_z_prime: float = 0.0
    pass_z_prime: float = 0.5
    pass_ssmd: float = 3.0
    fewest_controls: int = 4
    contamination: float = 0.3
    edge: float = 4.0
    flagged_review: float = 0.05
    flagged_fail: float = 0.25
    fewest_patches: int = 10
    focus: float = 5.0

    def __str__(self) -> str:
        return (
            f"Robust Z' of death at the reading timepoint: FAIL below {self.fail_z_prime:g}, REVIEW below "
            f"{self.pass_z_prime:g} or where it cannot be computed; REVIEW if robust |SSMD| of death is "
            f"below {self.pass_ssmd:g}. Wells with a flag: FAIL above "
            f"{self.flagged_fail:.0%}, REVIEW above {self.flagged_review:.0%}. REVIEW also if a kind of "
            f"control has fewer than {self.fewest_controls} wells, if robust and classical Z' differ by more than "
            f"{self.contamination:g}, or if edge and inner vehicle wells differ by |t| > {self.edge:g}. "
            "Otherwise PASS."
        )


def assess(
    fractions: xr.Dataset,
    fields: xr.Dataset | None = None,
    *,
    rule: Rule = Rule(),
    timepoint: int = -1,
    draws: int = 500,
    seed: int = 0,
) -> xr.Dataset:
    """Judge a plate by its control wells and by what is missing or out of line in its wells.

    Vehicle wells are compared with positive controls: for death and for the live states with all of them,
    for a pathway with those whose inducer is that pathway, because a necrosis inducer is no positive
    control of apoptosis. Classical statistics are printed beside robust ones (median, 1.4826 MAD): a large
    gap between them is a sign of contaminated control wells. Positive minus negative is the sign of SSMD,
    so it is positive where a readout rises. Of several vehicles the one with the most control wells counts;
    masked wells take no part, and no flag of theirs does.

    Parameters
    ----------
    fractions
        Group `fractions` of one plate.
    fields
        Group `fields`, for focus and missing fields.
    rule
        Of the verdict.
    timepoint
        Position of the timepoint at which the verdict is read.
    draws, seed
        Bootstrap of control wells within their kind, for the percentile intervals.

    Returns
    -------
    Dataset
        Group `quality`. (readout, timepoint): `z_prime`, `robust_z_prime`, `ssmd`, `robust_ssmd`,
        `signal_to_background` (mean of positive over mean of negative), each with `_low`, `_high` (95 %),
        `cv_negative`, `cv_positive` (percent), `n_negative`, `n_positive`, `reason` (why something is NaN;
        never infinite). (well, timepoint): one bool per flag of `FLAGS`; (well): `flags`, those at the
        reading timepoint in words. attrs: verdict, reasons (JSON list), rule, `edge_t` and its numbers of
        wells (NaN where not computable).
    """
    controls = _controls(fractions, draws=draws, seed=seed)
    flags = _flags(fractions, fields, rule)
    reading = fractions.isel(timepoint=timepoint)
    at_reading = {name: flags[name].isel(timepoint=timepoint).values for name in FLAGS}
    edge_t, n_edge, n_inner = _edge(reading)
    death = controls.sel(readout="death").isel(timepoint=timepoint)
    used = roles(fractions) != MASKED
    counted = {name: values[used] for name, values in at_reading.items()}
    verdict, reasons = _verdict(death, np.any(list(counted.values()), axis=0), counted, edge_t, rule)
    words = [", ".join(name for name in FLAGS if at_reading[name][i]) for i in range(used.size)]
    for i in np.flatnonzero(~used):
        words[i] = f"masked: {fractions.masked.values[i]}"
    result = xr.merge([controls, flags]).assign(flags=("well", np.array(words, dtype=object)))
    return result.assign_attrs(
        verdict=verdict,
        reasons=json.dumps(reasons),
        rule=str(rule),
        z_prime_limit=rule.pass_z_prime,
        timepoint=int(reading.timepoint),
        edge_t=edge_t,
        edge_wells=n_edge,
        inner_wells=n_inner,
        sign="positive minus negative control",
    )


def z_prime(positive: np.ndarray, negative: np.ndarray, *, robust: bool = False) -> np.ndarray:
    """1 - 3 (s_p + s_n) / |m_p - m_n| (Zhang et al. 1999), wells along axis 0; NaN where undefined.

    `robust` takes median and 1.4826 MAD for mean and standard deviation. NaN entries are wells without a
    value; fewer than two wells of a kind, or equal centres, have no Z'.
    """
    m_p, s_p, m_n, s_n = _moments(positive, negative, robust=robust)
    return 1 - _ratio(3 * (s_p + s_n), np.abs(m_p - m_n))


def ssmd(positive: np.ndarray, negative: np.ndarray, *, robust: bool = False) -> np.ndarray:
    """(m_p - m_n) / sqrt(s_p^2 + s_n^2) (Zhang 2007), wells along axis 0; NaN where undefined."""
    m_p, s_p, m_n, s_n = _moments(positive, negative, robust=robust)
    return _ratio(m_p - m_n, np.hypot(s_p, s_n))


def signal_to_background(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Mean of positive over mean of negative controls; NaN where the latter is 0."""
    m_p, _, m_n, _ = _moments(positive, negative, robust=False)
    return _ratio(m_p, m_n)


def _moments(positive: np.ndarray, negative: np.ndarray, *, robust: bool) -> tuple[np.ndarray, ...]:
    return *_center_and_spread(positive, robust), *_center_and_spread(negative, robust)


def _center_and_spread(values: np.ndarray, robust: bool) -> tuple[np.ndarray, np.ndarray]:
    """Centre and spread over axis 0, NaN (without a warning) where fewer than two wells have a value."""
    values = np.asarray(values, dtype=float)
    enough = np.isfinite(values).sum(axis=0) >= 2
    filled = np.where(enough, values, 0.0) if len(values) else np.zeros((1, *values.shape[1:]))
    if robust:
        center = np.nanmedian(filled, axis=0)
        spread = MAD * np.nanmedian(np.abs(filled - center), axis=0)
    else:
        center = np.nanmean(filled, axis=0)
        freedom = np.maximum(np.isfinite(filled).sum(axis=0) - 1, 1)
        spread = np.sqrt(np.nansum((filled - center) ** 2, axis=0) / freedom)
    return np.where(enough, center, np.nan), np.where(enough, spread, np.nan)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Quotient, NaN where the denominator is 0 up to rounding."""
    above, below = np.broadcast_arrays(np.asarray(above, dtype=float), np.asarray(below, dtype=float))
    ratio: np.ndarray = np.divide(above, below, out=np.full(above.shape, np.nan), where=np.abs(below) > 1e-12)
    return ratio


STATISTICS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "z_prime": z_prime,
    "robust_z_prime": lambda p, n: z_prime(p, n, robust=True),
    "ssmd": ssmd,
    "robust_ssmd": lambda p, n: ssmd(p, n, robust=True),
    "signal_to_background": signal_to_background,
}


def _controls(fractions: xr.Dataset, *, draws: int, seed: int) -> xr.Dataset:
    """Every statistic of every readout at every timepoint, with its interval or the reason for none."""
    states = fractions.fraction.transpose("well", "timepoint", "state").sel(state=list(STATES)).values
    death = fractions.death.transpose("well", "timepoint").values
    values = np.concatenate([death[..., None], states], axis=-1)  # (well, timepoint, readout)
    role, negatives, inducer = roles(fractions), main_vehicle(fractions), fractions.inducer.values
    rng = np.random.default_rng(seed)
    columns: dict[str, list[np.ndarray]] = {}
    for number, readout in enumerate(READOUTS):
        chosen = role == "positive"
        if readout in DEAD:
            chosen &= inducer == readout
        positive, negative = values[chosen, :, number], values[negatives, :, number]
        one = _statistics(positive, negative, rng, draws)
        one["reason"] = _reasons(one, readout)
        for name, column in one.items():
            columns.setdefault(name, []).append(column)
    return xr.Dataset(
        {name: (("readout", "timepoint"), np.stack(rows)) for name, rows in columns.items()},
        coords={"readout": list(READOUTS), "timepoint": fractions.timepoint.values, "hours": fractions.hours},
    )


def _statistics(
    positive: np.ndarray, negative: np.ndarray, rng: np.random.Generator, draws: int
) -> dict[str, np.ndarray]:
    """(well, timepoint) of both kinds -> (timepoint) of every statistic."""
    resampled = [_resampled(kind, rng, draws) for kind in (positive, negative)]
    out: dict[str, np.ndarray] = {}
    for name, statistic in STATISTICS.items():
        out[name] = statistic(positive, negative)
        drawn = statistic(*resampled)  # (draw, timepoint)
        # a draw without spread or difference has no value; where many have none the interval would be a
        # choice of draws
        usable = np.isfinite(out[name]) & (np.isfinite(drawn).mean(axis=0) > 0.9)
        ends = np.nanquantile(np.where(usable, drawn, 0.0), [0.025, 0.975], axis=0)
        out[f"{name}_low"], out[f"{name}_high"] = (np.where(usable, end, np.nan) for end in ends)
    for name, kind in (("negative", negative), ("positive", positive)):
        center, spread = _center_and_spread(kind, False)
        out[f"cv_{name}"] = 100 * _ratio(spread, center)
        out[f"n_{name}"] = np.isfinite(kind).sum(axis=0)
    return out


def _resampled(values: np.ndarray, rng: np.random.Generator, draws: int) -> np.ndarray:
    """Wells drawn with replacement, (well, draw, timepoint)."""
    if not len(values):
        return np.empty((0, draws, values.shape[1]))
    return values[rng.integers(len(values), size=(len(values), draws))]


def _reasons(one: dict[str, np.ndarray], readout: str) -> np.ndarray:
    whose = f"{readout} inducer" if readout in DEAD else "positive control"
    reasons = []
    for t in range(one["z_prime"].size):
        if one["n_negative"][t] < 2:
            reasons.append("not computable: fewer than two vehicle wells with cells")
        elif one["n_positive"][t] < 2:
            reasons.append(f"not computable: fewer than two wells of the {whose} with cells")
        elif np.isnan(one["z_prime"][t]):
            reasons.append("not computable: positive and negative controls have the same mean")
        elif np.isnan([one["robust_z_prime"][t], one["robust_ssmd"][t]]).any():
            reasons.append("not computable: control wells without spread or with equal medians")
        elif np.isnan([one["ssmd"][t], one["signal_to_background"][t]]).any():
            reasons.append("signal to background or SSMD not computable: nothing of it in the vehicle wells")
        else:
            reasons.append("")
    return np.array(reasons, dtype=object)


def _flags(fractions: xr.Dataset, fields: xr.Dataset | None, rule: Rule) -> xr.Dataset:
    """One bool per well and timepoint for each of `FLAGS`."""
    patches = fractions.patches.transpose("well", "timepoint")
    missing = out_of_focus = xr.zeros_like(patches, dtype=bool)
    used = (roles(fractions) != MASKED)[:, None]
    if fields is not None:
        known = fields.reindex(well=fractions.well, timepoint=fractions.timepoint)
        missing = ~(known.status == 1).any("field").transpose("well", "timepoint")
        focus = known.focus.where(known.status == 1).median("field").transpose("well", "timepoint").values
        out_of_focus = missing.copy(data=_low_outlier(np.where(used, focus, np.nan), rule.focus))
    return xr.Dataset(
        {
            "missing": missing,
            "no_foreground": (patches == 0) & ~missing,
            "few_patches": (patches > 0) & (patches < rule.fewest_patches),
            "out_of_focus": out_of_focus & ~missing,
        }
    ).reset_coords(drop=True)


def _low_outlier(focus: np.ndarray, limit: float) -> np.ndarray:
    """Wells whose focus lies far below the plate's at the same timepoint."""
    center, spread = _center_and_spread(focus, True)
    z = _ratio(focus - center, np.broadcast_to(spread, focus.shape))
    return np.asarray(np.nan_to_num(z) < -limit)


def _edge(reading: xr.Dataset) -> tuple[float, int, int]:
    """Edge against inner vehicle wells: t of their medians by the inner MAD, and the wells of either."""
    rows, columns, death = (reading[name].values.astype(float) for name in ("row", "column", "death"))
    # a plate map that leaves the border empty has its rim where its wells end: evaporation is met there
    rim = (rows == rows.min()) | (rows == rows.max()) | (columns == columns.min()) | (columns == columns.max())
    usable = main_vehicle(reading) & np.isfinite(death)
    edge, inner = death[usable & rim], death[usable & ~rim]
    # the MAD of three or four wells is often next to nothing, and t then next to endless
    if edge.size < 3 or inner.size < FEWEST_INNER:
        return float("nan"), edge.size, inner.size
    spread = MAD * np.median(np.abs(inner - np.median(inner)))
    t = _ratio(np.median(edge) - np.median(inner), spread * np.sqrt(1 / edge.size + 1 / inner.size))
    return float(t), edge.size, inner.size


def _verdict(
    death: xr.Dataset, flagged: np.ndarray, flags: dict[str, np.ndarray], edge_t: float, rule: Rule
) -> tuple[str, list[str]]:
    """PASS, REVIEW or FAIL, and a sentence for everything that is wrong."""
    failures, doubts = [], []
    robust, classical = float(death.robust_z_prime), float(death.z_prime)
    if np.isnan(robust):
        doubts.append(f"Z' of death: {death.reason.item() or 'not computable'}.")
    elif robust < rule.pass_z_prime:
        sentence = (
            f"Robust Z' of death is {robust:.2f} ({float(death.robust_z_prime_low):.2f} to "
            f"{float(death.robust_z_prime_high):.2f})"
        )
        if robust < rule.fail_z_prime:
            failures.append(f"{sentence}, below {rule.fail_z_prime:g}.")
        else:
            doubts.append(f"{sentence}, below {rule.pass_z_prime:g}.")
    if abs(float(death.robust_ssmd)) < rule.pass_ssmd:
        doubts.append(f"Robust SSMD of death is {float(death.robust_ssmd):.1f}, below {rule.pass_ssmd:g} in size.")
    if robust - classical > rule.contamination:
        doubts.append(
            f"Robust ({robust:.2f}) and classical ({classical:.2f}) Z' differ: "
            "some control wells do not behave like controls."
        )
    for name in ("negative", "positive"):
        number = int(death[f"n_{name}"])
        if number < rule.fewest_controls:
            doubts.append(
                f"{number} {name} control wells with cells; {rule.fewest_controls} are the least to judge by."
            )
    share = float(flagged.mean()) if flagged.size else 0.0
    if share > rule.flagged_review:
        which = ", ".join(f"{name.replace('_', ' ')} {int(flags[name].sum())}" for name in FLAGS if flags[name].any())
        sentence = f"{int(flagged.sum())} of {flagged.size} wells carry a flag ({which})"
        if share > rule.flagged_fail:
            failures.append(f"{sentence}, more than {rule.flagged_fail:.0%}.")
        else:
            doubts.append(f"{sentence}, more than {rule.flagged_review:.0%}.")
    if abs(edge_t) > rule.edge:
        doubts.append(f"Vehicle wells at the edge die differently from inner ones (t = {edge_t:.1f}).")
    return ("FAIL" if failures else "REVIEW" if doubts else "PASS"), [*failures, *doubts]
