"""Figures as functions of stored results: each takes named results and returns a plotly figure.

They work in a notebook as they do on the pages. Nothing is fitted or averaged here: a point is a well.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from plates.states import COLOURS, DEAD, LETTERS, STATES

from . import words
from .tables import wells_of

INK = "#1b2733"
QUIET = "#5b6875"
GRID = "#e3e7eb"
VEHICLE = "#9aa5b1"
CURVE = "#0b3c5d"
# light to dark as the dose rises: order is seen without the legend, in grey print too
DOSES = ("#b5c62a", "#6cbf52", "#2fa878", "#1f8a8a", "#2e6d8e", "#3d4a89", "#440154")
SYMBOLS = dict(zip(STATES, ("triangle-up", "square", "diamond", "circle", "circle-open"), strict=True))
LONGEST_FOREST = 60

TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": "system-ui, 'Segoe UI', Roboto, 'Noto Sans', sans-serif", "size": 12, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 52, "r": 12, "t": 26, "b": 44},
        "modebar": {"bgcolor": "rgba(255,255,255,0.9)", "color": QUIET, "activecolor": INK},
        "hoverlabel": {"bgcolor": "#ffffff", "font": {"color": INK, "size": 12}},
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.0, "yanchor": "bottom", "font": {"size": 11}},
        "xaxis": {"showgrid": False, "zeroline": False, "linecolor": QUIET, "showline": True, "ticks": "outside",
                  "ticklen": 4, "tickcolor": QUIET, "title": {"standoff": 6}},
        "yaxis": {"gridcolor": GRID, "zeroline": False, "ticks": "", "title": {"standoff": 6}},
    }
)  # fmt: skip
PERCENT_AXIS = {"range": [-0.04, 1.04], "tickformat": ".0%", "tickvals": [0, 0.25, 0.5, 0.75, 1]}


def dose_response(fits: xr.Dataset, *, compound: str, height: int = 300) -> go.Figure:
    """Excess death over vehicle against dose: every well a point; curve, band and EC50 only where one was determined.

    Parameters
    ----------
    fits
        The stored `dose_response` result; its responses are fractions of one and may be negative.
    """
    one = fits.sel(compound=compound)
    death = one.sel(readout="death")
    figure = go.Figure()
    fit: dict[str, Any] = {name: _scalar(death, name) for name in ("status", "ec50", "ec50_low", "ec50_high")}
    if words.has_ec50(fit):
        _add_curve(figure, death)
        _add_potency(figure, fit)
    else:
        figure.add_annotation(
            text="no curve: EC50 not determined", x=0.02, y=0.97, xref="paper", yref="paper", showarrow=False,
            xanchor="left", font={"color": QUIET, "size": 11},
        )  # fmt: skip
    doses, responses, names = _points(death)
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
        xaxis={"type": "log", "title": {"text": "dose (µM)"}, **_dose_ticks(tested)},
        yaxis={**PERCENT_AXIS, "range": [-0.12, 1.04], "title": {"text": "excess death"}},
    )
    return figure


def pathway_stack(
    fractions: xr.Dataset, *, compound: str, timepoint: int, vehicle: bool = True, height: int = 300
) -> go.Figure:
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
    centres = np.concatenate([_side_by_side(index, len(group)) for index, group in enumerate(groups)])
    widths = np.concatenate([np.full(len(group), 0.82 / max(len(group), 1)) for group in groups])
    names = fractions["well"].values[wells]
    figure = go.Figure()
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


def time_courses(fractions: xr.Dataset, *, compound: str, height: int = 300) -> go.Figure:
    """Death over time, one line a well, darker with the dose; vehicle wells in grey.

    The stored intervals are drawn at the highest dose alone: at all of them they would hide each other.
    """
    treated = wells_of(fractions, compound)
    dosed = fractions["dose"].values[treated].astype(float)
    doses = np.unique(dosed)
    groups = [("vehicle", np.flatnonzero(fractions["control"].values == "negative"), VEHICLE)]
    for rank, dose in enumerate(doses):
        colour = DOSES[round(rank * (len(DOSES) - 1) / max(len(doses) - 1, 1))]
        groups.append((words.number(dose), treated[dosed == dose], colour))
    figure = go.Figure()
    for name, wells, colour in groups:
        for index, well in enumerate(wells):
            one = fractions.isel(well=int(well))
            death = one["death"].values
            interval = _error(death, one["death_low"].values, one["death_high"].values, colour)
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


def control_strip(fractions: xr.Dataset, *, timepoint: int, height: int = 320) -> go.Figure:
    """Death in every control well at one timepoint with its interval, one column a kind of control."""
    at_time = fractions.isel(timepoint=timepoint)
    kinds = _control_kinds(fractions)
    figure = go.Figure()
    for column, (kind, wells) in enumerate(kinds.items()):
        death = at_time["death"].values[wells]
        figure.add_scatter(
            x=column + (np.arange(len(wells)) - (len(wells) - 1) / 2) * min(0.08, 0.6 / len(wells)),
            y=death, mode="markers", name=kind, showlegend=False, customdata=fractions["well"].values[wells],
            marker={"size": 9, "color": CURVE if column else VEHICLE, "symbol": "diamond" if column else "circle"},
            error_y=_error(death, at_time["death_low"].values[wells], at_time["death_high"].values[wells], QUIET),
            hovertemplate="%{customdata}: %{y:.1%} dead<extra></extra>",
        )  # fmt: skip
    figure.update_layout(
        template=TEMPLATE,
        height=height,
        xaxis={"tickvals": list(range(len(kinds))), "tickangle": 0,
               "ticktext": [words.in_figure(kind).replace(" (", "<br>(") for kind in kinds],
               "range": [-0.6, len(kinds) - 0.4]},
        yaxis={**PERCENT_AXIS, "title": {"text": "dead cells"}},
    )  # fmt: skip
    return figure


def quality_over_time(quality: xr.Dataset, *, hours: Sequence[float], limit: float, height: int = 320) -> go.Figure:
    """Z' and robust Z' of death at every timepoint, with the limit that the verdict used."""
    death = quality.sel(readout="death")
    figure = go.Figure()
    for name, label, colour, symbol in (
        ("z_prime", "Z'", CURVE, "circle"),
        ("robust_z_prime", "robust Z'", COLOURS["live-treated"], "diamond"),
    ):
        figure.add_scatter(
            x=list(hours), y=death[name].values, mode="lines+markers", name=label, line={"color": colour, "width": 2},
            marker={"symbol": symbol, "size": 8}, hovertemplate="%{x:.3g} h: " + label + " %{y:.2f}<extra></extra>",
        )  # fmt: skip
    if math.isfinite(limit):
        note = {"text": f"limit {words.number(limit)}", "font": {"size": 11, "color": QUIET}}
        figure.add_hline(y=limit, line={"color": QUIET, "dash": "dash", "width": 1}, annotation=note)
    figure.update_layout(
        template=TEMPLATE,
        height=height,
        xaxis={"title": {"text": "hours since the first frame"}},
        # a hopeless early timepoint must not squeeze the readable ones
        yaxis={"range": [-1, 1.02], "title": {"text": "Z'"}},
    )
    return figure


def potency_by_pathway(ranking: xr.Dataset, *, dose_max: float) -> go.Figure:
    """EC50 with its interval, one row a compound, grouped by dominant pathway; an arrow where only a bound is known.

    Parameters
    ----------
    ranking
        The stored `ranking` result; the best 60 compounds are drawn.
    dose_max
        Highest dose tested, micromolar: intervals without upper end stop there.
    """
    shown = ranking.isel(compound=slice(0, LONGEST_FOREST))
    pathways = [str(name) for name in shown["dominant_pathway"].values]
    order = sorted(range(len(pathways)), key=lambda i: (_place(pathways[i]), i))
    figure = go.Figure()
    for pathway in (*DEAD, ""):
        rows = [
            row for row, i in enumerate(order) if pathways[i] == pathway or (not pathway and pathways[i] not in DEAD)
        ]
        if rows:
            _add_forest(figure, shown, [order[row] for row in rows], rows, pathway, dose_max)
    names = [words.in_figure(shown["compound"].values[i]) for i in order]
    figure.update_layout(
        template=TEMPLATE,
        height=100 + 26 * len(order),
        margin={"r": 240},
        xaxis={"type": "log", "title": {"text": "EC50 of death (µM)"}, "dtick": 1, "showgrid": True, "gridcolor": GRID,
               "minor": {"ticks": "outside", "ticklen": 3, "dtick": "D1"}, "range": _log_range(shown, dose_max)},
        yaxis={"tickvals": list(range(len(order))), "ticktext": names, "automargin": True,
               "range": [len(order) - 0.4, -0.6]},
    )  # fmt: skip
    for row, i in enumerate(order):
        told = words.ec50({**_row(shown, i), "dose_min": math.nan, "dose_max": dose_max})
        figure.add_annotation(text=words.in_figure(told), x=1.01, xref="paper", xanchor="left", y=row, showarrow=False,
                              font={"size": 11, "color": QUIET})  # fmt: skip
    return figure


def _add_curve(figure: go.Figure, death: xr.Dataset) -> None:
    dose, low, high = (death[name].values for name in ("curve_dose", "curve_low", "curve_high"))
    figure.add_scatter(
        x=np.concatenate([dose, dose[::-1]]), y=np.concatenate([high, low[::-1]]), fill="toself", mode="lines",
        fillcolor="rgba(11,60,93,0.16)", line={"width": 0}, hoverinfo="skip", name="95 % interval",
    )  # fmt: skip
    figure.add_scatter(
        x=dose, y=death["curve"].values, mode="lines", line={"color": CURVE, "width": 2.2}, name="fit",
        hovertemplate="%{x:.3g} µM<br>%{y:.1%}<extra>fit</extra>",
    )  # fmt: skip


def _add_potency(figure: go.Figure, fit: dict[str, Any]) -> None:
    low, high = fit["ec50_low"], fit["ec50_high"]
    if math.isfinite(low) and math.isfinite(high) and low > 0:
        figure.add_scatter(x=[low, high], y=[-0.1, -0.1], mode="lines", line={"color": CURVE, "width": 5}, opacity=0.45,
                           hoverinfo="skip")  # fmt: skip
    figure.add_scatter(
        x=[fit["ec50"], fit["ec50"]], y=[-0.1, 1], mode="lines", line={"color": CURVE, "width": 1, "dash": "dot"},
        hovertemplate="EC50 %{x:.3g} µM<extra></extra>",
    )  # fmt: skip


def _add_forest(
    figure: go.Figure, ranking: xr.Dataset, picked: list[int], rows: list[int], pathway: str, dose_max: float
) -> None:
    one = ranking.isel(compound=picked)
    colour = COLOURS.get(pathway, VEHICLE)
    ec50, low, high = (one[name].values.astype(float) for name in ("ec50", "ec50_low", "ec50_high"))
    known = np.array(
        [words.has_ec50({"status": s, "ec50": e}) for s, e in zip(one["status"].values, ec50, strict=True)]
    )
    bound = ~known & np.isfinite(low) & (low > 0)
    for end_low, end_high, row in zip(low, high, rows, strict=True):
        if math.isfinite(end_low) and end_low > 0:
            figure.add_scatter(
                x=[end_low, end_high if math.isfinite(end_high) else dose_max], y=[row, row], mode="lines",
                line={"color": colour, "width": 3}, opacity=0.5, showlegend=False, hoverinfo="skip",
            )  # fmt: skip
    label = f"{LETTERS[pathway]} {pathway}" if pathway in LETTERS else "no dominant pathway"
    figure.add_scatter(
        x=np.where(known, ec50, np.where(bound, low, np.nan)), y=rows, mode="markers", name=label,
        marker={"color": colour, "size": 11,
                "symbol": np.where(known, SYMBOLS.get(pathway, "circle"), "triangle-right-open")},
        hovertemplate="%{x:.3g} µM<extra></extra>",
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


def _scalar(dataset: xr.Dataset, name: str) -> str | float:
    value = dataset[name].item()
    return value if isinstance(value, str) else float(value)


def _row(dataset: xr.Dataset, index: int) -> dict[str, str | float]:
    one = dataset.isel(compound=index)
    return {name: _scalar(one, name) for name in ("status", "ec50", "ec50_low", "ec50_high")}


def _control_kinds(fractions: xr.Dataset) -> dict[str, np.ndarray]:
    """Vehicle wells first, then the positive controls by what they induce."""
    control, inducer, compound = (fractions[name].values for name in ("control", "inducer", "compound"))
    kinds = {"vehicle": np.flatnonzero(control == "negative")}
    for name in sorted(set(inducer[control == "positive"]), key=_place):
        wells = np.flatnonzero((control == "positive") & (inducer == name))
        kinds[str(compound[wells[0]]) + (f" ({name})" if name else "")] = wells
    return kinds


def _place(pathway: str) -> int:
    return DEAD.index(pathway) if pathway in DEAD else len(DEAD)


def _side_by_side(centre: int, count: int) -> np.ndarray:
    return centre + (np.arange(count) - (count - 1) / 2) * 0.82 / max(count, 1)


def _error(value: np.ndarray, low: np.ndarray, high: np.ndarray, colour: str) -> dict[str, object]:
    return {"type": "data", "symmetric": False, "array": high - value, "arrayminus": value - low, "thickness": 1,
            "width": 0, "color": colour}  # fmt: skip


def _log_range(ranking: xr.Dataset, dose_max: float) -> list[float]:
    """Exponents of ten that hold every potency and bound, with some room."""
    stored = np.concatenate([ranking[name].values.astype(float) for name in ("ec50", "ec50_low", "ec50_high")])
    held = [*stored[np.isfinite(stored) & (stored > 0)], dose_max if math.isfinite(dose_max) else 1.0]
    return [math.log10(min(held)) - 0.15, math.log10(max(held)) + 0.15]


def _dose_ticks(doses: np.ndarray) -> dict[str, object]:
    """Label the tested doses themselves; thin them out where they would run into each other."""
    if not len(doses):
        return {}
    shown = doses[:: math.ceil(len(doses) / 8)]
    spread = 0.08 * max(math.log10(doses[-1] / doses[0]), 1)
    return {
        "tickvals": shown.tolist(),
        "ticktext": [words.number(dose, 2) for dose in shown],
        "range": [math.log10(doses[0]) - spread, math.log10(doses[-1]) + spread],
    }
