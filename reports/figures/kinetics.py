"""When and how fast a compound kills: deaths by pathway over time, EC50 against time, half-times against dose."""

import math

import numpy as np
import xarray as xr

from plates.states import COLOURS, DEAD, LETTERS

from .. import words
from ..tables import wells_of
from .looks import (
    CURVE,
    HIGH_LEGEND,
    INK,
    QUIET,
    SYMBOLS,
    TEMPLATE,
    dose_ticks,
    error_bars,
    excess_axis,
    floor_of,
    say,
    scalar,
)
from .showing import Figure

POINTS = 80
FITTED = ("fitted", "plateau_not_reached")
HOURS_AXIS = {"title": {"text": "hours since the first frame"}}


def cumulative_incidence(
    normalized: xr.Dataset, *, compound: str, dose: float | None = None, kinetics: xr.Dataset | None = None,
    height: int = 300,
) -> Figure:  # fmt: skip
    """Excess death of each pathway over time at one dose, a line a well: deaths stay, so the lines add up.

    Parameters
    ----------
    normalized
        The stored `normalized` result of a plate.
    dose
        Micromolar; the highest dose of the compound where none is given.
    kinetics
        The stored `kinetics` result: its half-time with interval is drawn and, where a course was fitted, the modelled
        sum of all deaths. Without it the wells alone are drawn.
    """
    treated = wells_of(normalized, compound)
    doses = normalized["dose"].values[treated].astype(float)
    figure = Figure()
    chosen = (doses.max() if len(doses) else math.nan) if dose is None else dose
    hours = normalized["hours"].values.astype(float)
    at_dose = treated[np.isclose(doses, chosen)]
    axis = excess_axis(normalized["excess"].isel(well=at_dose).sel(state=list(DEAD)).values)
    for pathway in DEAD:
        shown = True
        for well in at_dose:
            one = normalized.isel(well=int(well))
            figure.add_scatter(
                x=hours, y=one["excess"].sel(state=pathway).values.astype(float), mode="lines+markers",
                name=f"{LETTERS[pathway]} {pathway}", legendgroup=pathway, showlegend=shown,
                line={"color": COLOURS[pathway], "width": 1.6}, marker={"symbol": SYMBOLS[pathway], "size": 7},
                hovertemplate=f"{one['well'].item()}" + "<br>%{x:.3g} h: %{y:.1%} " + pathway + "<extra></extra>",
            )  # fmt: skip
            shown = False
    if kinetics is not None and compound in kinetics["compound"].values:
        _add_timing(figure, kinetics.sel(compound=compound), chosen, hours, floor=floor_of(axis))
    if not figure.data:
        say(figure, "no well of this compound at this dose")
    else:
        say(figure, f"at {words.concentration(chosen)}")
    figure.update_layout(
        template=TEMPLATE,
        height=height,
        **HIGH_LEGEND,
        xaxis=HOURS_AXIS,
        yaxis={**axis, "title": {"text": "excess death"}},
    )
    return figure


def ec50_over_time(kinetics: xr.Dataset, *, compound: str, height: int = 300) -> Figure:
    """EC50 of excess death at each frame with its interval; an arrow where only a bound is known.

    Parameters
    ----------
    kinetics
        The stored `kinetics` result. Frames without an EC50 leave a gap.
    """
    one = kinetics.sel(compound=compound)
    hours = one["hours"].values.astype(float)
    ec50, low, high = (one[f"ec50_by_time{end}"].values.astype(float) for end in ("", "_low", "_high"))
    status = [str(name) for name in one["ec50_by_time_status"].values]
    tested = _tested(one)
    known = np.array([words.has_ec50({"status": s, "ec50": e}) for s, e in zip(status, ec50, strict=True)], dtype=bool)
    figure = Figure()
    if known.any():
        value = np.where(known, ec50, np.nan)
        ends = [np.where(np.isfinite(end) & (end > 0), end, np.nan) for end in (low, high)]
        if len(tested):  # an open end stops at the tested doses
            ends = [np.where(np.isfinite(end), end, edge) for end, edge in zip(ends, tested[[0, -1]], strict=True)]
        lower, upper = ends
        figure.add_scatter(
            x=hours, y=value, mode="lines+markers", line={"color": CURVE, "width": 2}, marker={"size": 8},
            error_y=error_bars(value, lower, upper, CURVE), name="EC50",
            hovertemplate="%{x:.3g} h: EC50 %{y:.3g} µM<extra></extra>",
        )  # fmt: skip
    for sign, symbol, end in (("above", "triangle-up-open", low), ("below", "triangle-down-open", high)):
        bound = np.array([name == f"{sign}_range" for name in status]) & np.isfinite(end) & (end > 0)
        if bound.any():
            figure.add_scatter(
                x=hours[bound], y=end[bound], mode="markers", name=f"EC50 {sign}",
                marker={"symbol": symbol, "size": 11, "color": QUIET},
                hovertemplate="%{x:.3g} h: EC50 " + sign + " %{y:.3g} µM<extra></extra>",
            )  # fmt: skip
    if not figure.data:
        say(figure, "no EC50 at any frame")
    axis = dose_ticks(tested)
    figure.update_layout(
        template=TEMPLATE,
        height=height,
        showlegend=True,
        xaxis={**HOURS_AXIS, "range": _hours_range(hours)},
        yaxis={"type": "log", "title": {"text": "EC50 (µM)"}, **axis},
    )
    return figure


def half_time_against_dose(kinetics: xr.Dataset, *, compound: str, height: int = 300) -> Figure:
    """Time to half of the final excess death at every dose that kills, with its interval."""
    one = kinetics.sel(compound=compound)
    dose = one["dose_by_dose"].values.astype(float)
    half, low, high = (one[f"t_half{end}_by_dose"].values.astype(float) for end in ("", "_low", "_high"))
    figure = Figure()
    held = np.isfinite(dose) & np.isfinite(half)
    if held.any():
        figure.add_scatter(
            x=dose[held], y=half[held], mode="lines+markers", line={"color": CURVE, "width": 2}, marker={"size": 8},
            error_y=error_bars(half[held], low[held], high[held], CURVE), name="half-time",
            hovertemplate="%{x:.3g} µM: %{y:.3g} h<extra></extra>",
        )  # fmt: skip
    else:
        say(figure, "no dose kills enough to be timed")
    figure.update_layout(
        template=TEMPLATE,
        height=height,
        showlegend=False,
        xaxis={"type": "log", "title": {"text": "dose (µM)"}, **dose_ticks(_tested(one))},
        yaxis={"title": {"text": "hours to half of the deaths"}, "rangemode": "tozero"},
    )
    return figure


def _add_timing(figure: Figure, one: xr.Dataset, dose: float, hours: np.ndarray, *, floor: float) -> None:
    at = np.flatnonzero(np.isclose(one["dose_by_dose"].values.astype(float), dose))
    if not len(at):
        return
    own = one.isel(dose_index=int(at[0]))
    half, low, high = (scalar(own, f"t_half{end}_by_dose") for end in ("", "_low", "_high"))
    half, low, high = float(half), float(low), float(high)
    if math.isfinite(low) and math.isfinite(high):
        figure.add_scatter(x=[low, high], y=[floor, floor], mode="lines", line={"color": INK, "width": 5}, opacity=0.4,
                           hoverinfo="skip", showlegend=False, name="half-time interval")  # fmt: skip
    if math.isfinite(half):
        figure.add_scatter(
            x=[half, half], y=[floor, 1], mode="lines", line={"color": INK, "width": 1, "dash": "dot"},
            hovertemplate="half of the deaths by %{x:.3g} h<extra></extra>", showlegend=False, name="half-time",
        )  # fmt: skip
    if str(scalar(own, "course_status_by_dose")) in FITTED and len(hours) > 1:
        times = np.linspace(hours[0], hours[-1], POINTS)
        figure.add_scatter(
            x=times, y=_course(own, times), mode="lines", line={"color": INK, "width": 1.6, "dash": "dash"},
            name="all deaths, fitted", hovertemplate="%{x:.3g} h: %{y:.1%} of all deaths, fitted<extra></extra>",
        )  # fmt: skip


def _course(own: xr.Dataset, times: np.ndarray) -> np.ndarray:
    """The lag-exponential course of the stored parameters at those times."""
    names = ("baseline_by_dose", "plateau_level_fit_by_dose", "rate_fit_by_dose", "onset_fit_by_dose")
    baseline, plateau, rate, onset = (float(scalar(own, name)) for name in names)
    after = np.maximum(times - onset, 0)
    course: np.ndarray = baseline + (plateau - baseline) * (1 - np.exp(-rate * after))
    return course


def _tested(one: xr.Dataset) -> np.ndarray:
    dose = one["dose_by_dose"].values.astype(float)
    return np.unique(dose[np.isfinite(dose) & (dose > 0)])


def _hours_range(hours: np.ndarray) -> list[float] | None:
    known = hours[np.isfinite(hours)]
    if not len(known):
        return None
    room = 0.05 * max(float(np.ptp(known)), 1.0)
    return [float(known.min()) - room, float(known.max()) + room]
