"""Figures of a campaign's plates as functions of its stored results: how far they agree, and control charts."""

import math

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from . import words
from .campaign_figures import add_cells, interval_bars
from .figures import CURVE, GRID, INK, QUIET, TEMPLATE, VEHICLE

MOST_PLATES = 40  # of which every pair is drawn
CHARTS = {
    "reference_log10_ec50": "log10 EC50, reference (µM)",
    "vehicle_death": "death in vehicle wells",
    "positive_death": "death in positive controls",
    "z_prime": "Z' of death",
    "robust_z_prime": "robust Z' of death",
    "ssmd": "SSMD of death",
    "robust_ssmd": "robust SSMD of death",
    "cv_negative": "CV of death in vehicle wells (%)",
    "cv_positive": "CV of death in positive controls (%)",
}
DRAWN_CHARTS = ("reference_log10_ec50", "vehicle_death", "positive_death", "robust_z_prime")
# how a plate is marked by how it is judged: colour and symbol
JUDGED = {
    "in control": (CURVE, "circle"),
    "not judged": (QUIET, "circle-open"),
    "warning": ("#b36b00", "triangle-up"),
    "out of control": ("#9c2f00", "x"),
}


def plate_correlation(agreement: xr.Dataset, *, measure: str = "concordance") -> go.Figure:
    """Lin's concordance (or another stored correlation) of every two plates as a square; the first 40 plates.

    Parameters
    ----------
    agreement
        The stored `agreement`: (pair) `first`, `second`, `kind`.
    """
    pairs = _between(agreement)
    names = list(dict.fromkeys([*map(str, pairs["first"].values), *map(str, pairs["second"].values)]))[:MOST_PLATES]
    values = np.full((len(names), len(names)), np.nan)
    for first, second, value in zip(pairs["first"].values, pairs["second"].values, pairs[measure].values, strict=True):
        if first in names and second in names:
            a, b = names.index(first), names.index(second)
            values[a, b] = values[b, a] = float(value)
    shown = [words.in_figure(name) for name in names]
    told = [[f"{a} and {b}: {words.number(v)}" for b, v in zip(shown, row, strict=True)]
            for a, row in zip(shown, values, strict=True)]  # fmt: skip
    figure = go.Figure()
    few = len(names) <= 12
    add_cells(figure, values, told=told, written=[[words.number(v, 2) for v in row] for row in values] if few else None)
    places = list(range(len(names)))
    figure.update_layout(
        template=TEMPLATE,
        height=min(150 + 34 * len(names), 640),
        barmode="overlay",
        showlegend=False,
        xaxis={"range": [0, len(names)], "tickvals": [place + 0.5 for place in places], "ticktext": shown,
               "showline": False, "ticks": ""},
        yaxis={"range": [len(names) - 0.5, -0.5], "tickvals": places, "ticktext": shown, "showgrid": False,
               "automargin": True},
    )  # fmt: skip
    return figure


def limits_of_agreement(agreement: xr.Dataset) -> go.Figure:
    """Bland and Altman's bias and limits of every two plates, each with its interval; 40 pairs with the widest limits.

    Parameters
    ----------
    agreement
        The stored `agreement`; differences are in excess death, second minus first.
    """
    pairs = _between(agreement)
    reach = np.abs(np.stack([pairs["limit_low"].values, pairs["limit_high"].values])).max(axis=0)
    chosen = np.argsort(-np.nan_to_num(reach, nan=-1), kind="stable")[:MOST_PLATES]
    one = pairs.isel(pair=np.sort(chosen))
    names = [
        f"{words.in_figure(b)} - {words.in_figure(a)}"
        for a, b in zip(one["first"].values, one["second"].values, strict=True)
    ]
    rows = np.arange(len(names))
    bias, low, high = (one[name].values.astype(float) for name in ("bias", "limit_low", "limit_high"))
    figure = go.Figure()
    gaps = np.full(len(rows), np.nan)
    for ends, width, name in (
        ((one["limit_low_low"].values, one["limit_high_high"].values), 2, "interval of the limits"),
        ((low, high), 7, "limits of agreement"),
    ):
        figure.add_scatter(
            x=np.stack([*ends, gaps], axis=1).ravel(), y=np.repeat(rows, 3), mode="lines", name=name,
            line={"color": CURVE, "width": width}, opacity=0.4, hoverinfo="skip",
        )  # fmt: skip
    figure.add_scatter(
        x=bias, y=rows, mode="markers", name="bias", marker={"size": 10, "color": INK, "symbol": "line-ns-open"},
        error_x=interval_bars(bias, one["bias_low"].values, one["bias_high"].values, INK),
        hovertemplate="bias %{x:.1%}<extra></extra>",
    )  # fmt: skip
    figure.add_vline(x=0, line={"color": QUIET, "width": 1, "dash": "dot"})
    figure.update_layout(
        template=TEMPLATE,
        height=170 + 26 * len(names),
        legend={"yref": "container", "y": 1.0, "yanchor": "top"},
        margin={"t": 74},
        xaxis={"tickformat": ".0%", "title": {"text": "difference in excess death"}, "showgrid": True,
               "gridcolor": GRID, "range": _with_room([one["limit_low_low"].values, low, one["limit_high_high"].values,
                                                       high, np.zeros(1)])},
        yaxis={"tickvals": rows, "ticktext": names, "range": [len(names) - 0.4, -0.6], "automargin": True,
               "showgrid": False},
    )  # fmt: skip
    return figure


def bland_altman(agreement: xr.Dataset, *, first: str, second: str, height: int = 360) -> go.Figure | None:
    """Difference against mean of two plates over the same compounds and doses; None where the means are not stored.

    Parameters
    ----------
    agreement
        The stored `agreement` with `mean` (plate, treatment) of excess death.
    """
    if "mean" not in agreement or not {first, second} <= {str(name) for name in agreement["plate"].values}:
        return None
    x, y = (agreement["mean"].sel(plate=name).values.astype(float) for name in (first, second))
    pairs = _between(agreement)
    place = np.flatnonzero((pairs["first"].values == first) & (pairs["second"].values == second))
    figure = go.Figure()
    told = [
        f"{words.in_figure(compound)} {words.concentration(dose)}"
        for compound, dose in zip(
            agreement["treatment_compound"].values, agreement["treatment_dose"].values, strict=True
        )
    ]
    held = np.isfinite(x) & np.isfinite(y)
    figure.add_scatter(
        x=((x + y) / 2)[held], y=(y - x)[held], mode="markers", customdata=np.array(told, dtype=object)[held],
        marker={"size": 7, "color": "#ffffff", "line": {"color": INK, "width": 1.3}}, showlegend=False,
        hovertemplate="%{customdata}<br>mean %{x:.1%}, difference %{y:.1%}<extra></extra>",
    )  # fmt: skip
    if len(place):
        one = pairs.isel(pair=int(place[0]))
        for name, dash in (("bias", "solid"), ("limit_low", "dash"), ("limit_high", "dash")):
            figure.add_hline(y=float(one[name]), line={"color": CURVE, "dash": dash, "width": 1.5})
    figure.update_layout(
        template=TEMPLATE,
        height=height,
        xaxis={"tickformat": ".0%", "title": {"text": "mean of the two plates, excess death"}},
        yaxis={"tickformat": ".0%", "title": {"text": f"{words.in_figure(second)} - {words.in_figure(first)}"}},
    )
    return figure


def control_chart(charts: xr.Dataset, *, readout: str, height: int = 300) -> go.Figure | None:
    """Levey and Jennings' chart of one readout over the plates; None where no plate has a value.

    Parameters
    ----------
    charts
        The stored `control_charts`: `value`, `status`, `rules` (readout, plate); `centre`, `sd` (readout); coordinate
        `acquired` (plate), whose day stands below the plate's name.
    """
    one = charts.sel(readout=readout)
    values = one["value"].values.astype(float)
    if not np.isfinite(values).any():
        return None
    plates = [words.in_figure(name) for name in one["plate"].values]
    labels = [
        f"{name}<br>{day}" if day else name for name, day in zip(plates, days_of(charts), strict=True)
    ]  # fmt: skip
    centre, sd = float(one["centre"]), float(one["sd"])
    figure = go.Figure()
    places = np.arange(len(plates))
    if math.isfinite(centre) and math.isfinite(sd):
        for steps, dash in ((1, "dot"), (2, "dash"), (3, "solid")):
            for sign in (-1, 1):
                line = {"color": GRID if steps < 3 else "#b8c0c8", "dash": dash, "width": 1.2}
                figure.add_hline(y=centre + sign * steps * sd, line=line)
        figure.add_hline(y=centre, line={"color": QUIET, "width": 1.2})
    figure.add_scatter(x=places, y=values, mode="lines", line={"color": VEHICLE, "width": 1.2}, hoverinfo="skip",
                       showlegend=False)  # fmt: skip
    for status, (colour, symbol) in JUDGED.items():
        rows = np.flatnonzero(one["status"].values == status)
        if len(rows):
            broken = [f"<br>rules {text}" if text else "" for text in one["rules"].values[rows]]
            figure.add_scatter(
                x=places[rows], y=values[rows], mode="markers", name=status,
                marker={"size": 10, "color": colour, "symbol": symbol},
                customdata=[f"{plates[row]}: {words.number(values[row])}{rules}"
                            for row, rules in zip(rows, broken, strict=True)],
                hovertemplate="%{customdata}<extra></extra>",
            )  # fmt: skip
    step = math.ceil(len(plates) / 8)
    figure.update_layout(
        template=TEMPLATE,
        height=height,
        showlegend=True,
        xaxis={"tickvals": places[::step], "ticktext": labels[::step], "automargin": True,
               "range": [-0.5, len(plates) - 0.5]},
        yaxis={"title": {"text": CHARTS.get(readout, readout)}, "showgrid": False,
               **({"tickformat": ".0%"} if readout.endswith("_death") else {})},
    )  # fmt: skip
    return figure


def days_of(charts: xr.Dataset) -> list[str]:
    """Day on which each plate of the control charts was imaged; "" where it does not tell."""
    if "acquired" not in charts.coords:
        return [""] * charts.sizes["plate"]
    times = charts["acquired"].values.astype("datetime64[D]")
    return ["" if np.isnat(time) else str(time) for time in times]


def _with_room(values: list[np.ndarray]) -> list[float]:
    """A range that holds all of the values, of which one at least is finite, and a little more."""
    known = np.concatenate(values).astype(float)
    known = known[np.isfinite(known)]
    room = 0.06 * max(float(np.ptp(known)), 0.01)
    return [float(known.min()) - room, float(known.max()) + room]


def _between(agreement: xr.Dataset) -> xr.Dataset:
    return agreement.isel(pair=np.flatnonzero(agreement["kind"].values == "plates"))
