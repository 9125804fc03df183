"""One compound: death against dose, the five states against dose, death over time."""

import math
from typing import Any

import numpy as np
import xarray as xr

from plates.states import COLOURS, LETTERS, STATES

from .. import words
from ..tables import wells_of
from .looks import (
    CURVE,
    INK,
    PERCENT_AXIS,
    TEMPLATE,
    VEHICLE,
    dose_colour,
    dose_ticks,
    error_bars,
    excess_axis,
    floor_of,
    say,
    scalar,
    side_by_side,
)
from .showing import Figure


def dose_response(fits: xr.Dataset, *, compound: str, readout: str = "death", height: int = 300) -> Figure:
    """Excess death over vehicle against dose: every well a point; curve, band and EC50 only where one was determined.

    Parameters
    ----------
    fits
        The stored `dose_response` result; its responses are fractions of one and may be negative.
    readout
        "death", or one of the pathways.
    """
    one = fits.sel(compound=compound)
    death = one.sel(readout=readout)
    figure = Figure()
    doses, responses, names = _points(death)
    axis = excess_axis(responses)
    fit: dict[str, Any] = {name: scalar(death, name) for name in ("status", "ec50", "ec50_low", "ec50_high")}
    if words.has_ec50(fit):
        _add_curve(figure, death)
        _add_potency(figure, fit, floor=floor_of(axis))
    else:
        say(figure, "no curve: EC50 not determined")
    figure.add_scatter(
        x=doses, y=responses, mode="markers", customdata=names,
        marker={"size": 8, "color": "#ffffff", "line": {"color": INK, "width": 1.6}},
        hovertemplate="%{customdata}<br>%{x:.3g} µM: %{y:.1%}<extra></extra>",
    )  # fmt: skip
    tested = np.unique(doses)
    figure.update_layout(
        template=TEMPLATE,
        height=height,
        showlegend=False,
        xaxis={"type": "log", "title": {"text": "dose (µM)"}, **dose_ticks(tested)},
        yaxis={**axis, "title": {"text": f"excess {readout}"}},
    )
    return figure


def pathway_stack(
    fractions: xr.Dataset, *, compound: str, timepoint: int, vehicle: bool = True, height: int = 300
) -> Figure:
    """The five states against dose at one timepoint, one stacked bar a well, vehicle wells first.

    Parameters
    ----------
    fractions
        The stored `fractions` result. Wells without foreground patches leave a gap.
    """
    at_time = fractions.isel(timepoint=timepoint)
    treated = wells_of(fractions, compound)
    doses = np.unique(fractions["dose"].values[treated].astype(float))
    groups = [np.flatnonzero(fractions["control"].values == "negative")] if vehicle else []
    labels = ["vehicle"] if vehicle else []
    for dose in doses:
        groups.append(treated[fractions["dose"].values[treated].astype(float) == dose])
        labels.append(words.number(dose))
    wells = np.concatenate(groups)
    centres = np.concatenate([side_by_side(index, len(group)) for index, group in enumerate(groups)])
    widths = np.concatenate([np.full(len(group), 0.82 / max(len(group), 1)) for group in groups])
    names = fractions["well"].values[wells]
    figure = Figure()
    for state in STATES:
        share = at_time["fraction"].sel(state=state).values[wells]
        # the letter is the second channel; a bar too low to hold it goes without
        roomy = (share > 0.09) & (widths > 0.2)
        letters = np.where(roomy, LETTERS[state], "")
        figure.add_bar(
            x=centres, y=share, width=widths * 0.94, name=f"{LETTERS[state]} {state}", customdata=names,
            text=letters, textposition="inside", insidetextanchor="middle", textangle=0,
            textfont={"color": words.LETTER_INKS[state], "size": 11},
            marker={"color": COLOURS[state], "line": {"width": 0}},
            hovertemplate="%{customdata}: %{y:.1%} " + state + "<extra></extra>",
        )  # fmt: skip
    figure.update_layout(
        template=TEMPLATE,
        height=height,
        barmode="stack",
        showlegend=False,
        xaxis={"tickvals": list(range(len(labels))), "ticktext": labels, "title": {"text": "dose (µM)"},
               "range": [-0.55, len(labels) - 0.45]},
        yaxis={**PERCENT_AXIS, "range": [0, 1.0], "title": {"text": "share of patches"}, "showgrid": False},
    )  # fmt: skip
    return figure


def time_courses(fractions: xr.Dataset, *, compound: str, height: int = 300) -> Figure:
    """Death over time, one line a well, darker with the dose; vehicle wells in grey.

    The stored intervals are drawn at the highest dose alone: at all of them they would hide each other.
    """
    treated = wells_of(fractions, compound)
    dosed = fractions["dose"].values[treated].astype(float)
    doses = np.unique(dosed)
    groups = [("vehicle", np.flatnonzero(fractions["control"].values == "negative"), VEHICLE)]
    for rank, dose in enumerate(doses):
        groups.append((words.number(dose), treated[dosed == dose], dose_colour(rank, len(doses))))
    figure = Figure()
    for name, wells, colour in groups:
        for index, well in enumerate(wells):
            one = fractions.isel(well=int(well))
            death = one["death"].values
            interval = error_bars(death, one["death_low"].values, one["death_high"].values, colour)
            figure.add_scatter(
                x=one["hours"].values.astype(float), y=death, mode="lines+markers", name=name, legendgroup=name,
                line={"color": colour, "width": 1.8, "dash": "dot" if name == "vehicle" else "solid"},
                marker={"size": 5}, showlegend=index == 0, error_y=interval if name == groups[-1][0] else None,
                hovertemplate=f"{one['well'].item()}, {name}" + "<br>%{x:.3g} h: %{y:.1%} dead<extra></extra>",
            )  # fmt: skip
    figure.update_layout(
        template=TEMPLATE,
        height=height,
        legend={"orientation": "v", "x": 1.01, "y": 1, "yanchor": "top", "font": {"size": 10}, "tracegroupgap": 0,
                "title": {"text": "µM", "font": {"size": 10}}, "traceorder": "reversed"},
        margin={"r": 78},
        xaxis={"title": {"text": "hours since the first frame"}},
        yaxis={**PERCENT_AXIS, "title": {"text": "dead cells"}},
    )  # fmt: skip
    return figure


def _add_curve(figure: Figure, death: xr.Dataset) -> None:
    dose, low, high = (death[name].values for name in ("curve_dose", "curve_low", "curve_high"))
    figure.add_scatter(
        x=np.concatenate([dose, dose[::-1]]), y=np.concatenate([high, low[::-1]]), fill="toself", mode="lines",
        fillcolor="rgba(11,60,93,0.16)", line={"width": 0}, hoverinfo="skip", name="95 % interval",
    )  # fmt: skip
    figure.add_scatter(
        x=dose, y=death["curve"].values, mode="lines", line={"color": CURVE, "width": 2.2}, name="fit",
        hovertemplate="%{x:.3g} µM<br>%{y:.1%}<extra>fit</extra>",
    )  # fmt: skip


def _add_potency(figure: Figure, fit: dict[str, Any], *, floor: float) -> None:
    low, high = fit["ec50_low"], fit["ec50_high"]
    if math.isfinite(low) and math.isfinite(high) and low > 0:
        figure.add_scatter(x=[low, high], y=[floor, floor], mode="lines", line={"color": CURVE, "width": 5},
                           opacity=0.45, hoverinfo="skip")  # fmt: skip
    figure.add_scatter(
        x=[fit["ec50"], fit["ec50"]], y=[floor, 1], mode="lines", line={"color": CURVE, "width": 1, "dash": "dot"},
        hovertemplate="EC50 %{x:.3g} µM<extra></extra>",
    )  # fmt: skip


def _points(death: xr.Dataset) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Doses, responses and names of the wells that were fitted."""
    response = death["response"].transpose("dose_index", "replicate").values
    held = np.isfinite(response)
    wells = [
        f"{words.in_figure(plate)} {well}"
        for plate, well in zip(death["plate"].values[held], death["well"].values[held], strict=True)
    ]
    return death["dose"].values[held], response[held], wells
