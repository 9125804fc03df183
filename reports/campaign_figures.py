"""Figures of a campaign's compounds as functions of its stored results: potency, pathways and timing.

They work in a notebook as they do on the pages. Rows are ordered and counted here, nothing is fitted or averaged.
A point of a compound carries the compound's place in the ranking, so that the page can show its row.
"""

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from plates.states import COLOURS, DEAD, LETTERS

from . import words
from .figures import GRID, PERCENT_AXIS, SYMBOLS, TEMPLATE, VEHICLE
from .plate_maps import colour_scale

BESIDE = 2.2  # times the outermost dose: where compounds without EC50 stand
MOST_POINTS = 2000  # of compounds in one figure: more are a cloud, and cost seconds to draw
MOST_ROWS = 1000  # of the map of pathways: clustering costs the square of them
NAMED_ROWS = 60


def potency_and_share(ranking: xr.Dataset, *, dose_min: float, dose_max: float, height: int = 420) -> go.Figure:
    """EC50 against the share of the dominant pathway; compounds without EC50 stand open beside the tested doses.

    Up to 60 compounds have their intervals.

    Parameters
    ----------
    ranking
        The stored `ranking`; its first 2,000 compounds are drawn.
    dose_min, dose_max
        Lowest and highest dose tested, micromolar. An EC50 below the tested doses stands left of them, all others
        that are not determined right of them.
    """
    shown = ranking.isel(compound=slice(0, MOST_POINTS))
    ec50 = shown["ec50"].values.astype(float)
    known = _has_ec50(shown)
    low, high = (end if math.isfinite(end) else 1.0 for end in (dose_min, dose_max))
    x = np.where(known, ec50, np.where(shown["status"].values == "below_range", low / BESIDE, high * BESIDE))
    figure = go.Figure()
    pathway = shown["dominant_pathway"].values
    for name in DEAD:
        for place, filled in ((known, True), (~known, False)):
            rows = np.flatnonzero((pathway == name) & place)
            if not len(rows):
                continue
            symbol = SYMBOLS[name] + ("" if filled else "-open")
            label = f"{LETTERS[name]} {name}" + ("" if filled else ", no EC50")
            share = shown["dominant_share"].values
            _points(figure, x[rows], share[rows], rows, shown, label, COLOURS[name], symbol)
            if len(x) <= NAMED_ROWS:
                lower, upper = (shown[f"dominant_share_{end}"].values[rows].astype(float) for end in ("low", "high"))
                figure.data[-1].update(error_y=interval_bars(share[rows], lower, upper, COLOURS[name]))
                if filled:
                    lower, upper = (shown[f"ec50_{end}"].values[rows].astype(float) for end in ("low", "high"))
                    figure.data[-1].update(error_x=interval_bars(x[rows], lower, upper, COLOURS[name]))
    figure.update_layout(
        template=TEMPLATE,
        height=height,
        meta={"pick": True},
        xaxis={"type": "log", "title": {"text": "EC50 of death (µM)"}, "dtick": 1,
               "showgrid": True, "gridcolor": GRID},
        yaxis={**PERCENT_AXIS, "range": [0.3, 1.04], "title": {"text": "share of the dominant pathway"}},
    )  # fmt: skip
    return figure


def pathway_map(fits: xr.Dataset, ranking: xr.Dataset) -> go.Figure:
    """Excess death by each pathway at the top dose, a row a compound; like compounds stand together.

    Rows are ordered by average linkage over Euclidean distances (`scipy.cluster.hierarchy`); compounds of which a
    value is missing stand last. The first 1,000 of the ranking are drawn.
    """
    compounds = ranking["compound"].values[:MOST_ROWS]
    excess = fits["emax"].sel(readout=list(DEAD)).reindex(compound=compounds).transpose("compound", "readout").values
    order = clustered(np.clip(excess, 0, 1))
    named = len(order) <= NAMED_ROWS
    names = [words.in_figure(compounds[row]) for row in order]
    values = excess[order]
    told = [[f"{names[i]}<br>{name}: {words.percent(v)}" for name, v in zip(DEAD, row, strict=True)]
            for i, row in enumerate(values)]  # fmt: skip
    figure = go.Figure()
    add_cells(
        figure, values, told=told, written=[[words.percent(v).replace("-0 %", "0 %") for v in row] for row in values]
        if named
        else None,
        picked=order.tolist(),
    )  # fmt: skip
    figure.update_layout(
        template=TEMPLATE,
        height=110 + 22 * len(order) if named else 720,
        barmode="overlay",
        showlegend=False,
        meta={"pick": True},
        margin={"t": 34, "b": 8},
        xaxis={"side": "top", "showline": False, "ticks": "", "range": [0, len(DEAD)],
               "tickvals": [place + 0.5 for place in range(len(DEAD))],
               "ticktext": [f"{LETTERS[name]} {name}" for name in DEAD]},
        yaxis={"range": [len(order) - 0.5, -0.5], "showgrid": False, "automargin": True}
              | ({"tickvals": list(range(len(order))), "ticktext": names} if named
                 else {"showticklabels": False, "title": {"text": f"{len(order)} compounds"}}),
    )  # fmt: skip
    return figure


def clustered(values: np.ndarray) -> np.ndarray:
    """An order of rows in which like ones are neighbours; rows with a missing value last, as they came."""
    whole = np.isfinite(values).all(axis=1)
    rows = np.flatnonzero(whole)
    if len(rows) > 2:
        from scipy.cluster import hierarchy

        # the order of the leaves is improved where that is cheap
        tree = hierarchy.linkage(values[rows], "average", optimal_ordering=len(rows) <= 200)
        rows = rows[hierarchy.leaves_list(tree)]
    return np.concatenate([rows, np.flatnonzero(~whole)])


def kinetics_map(kinetics: xr.Dataset, ranking: xr.Dataset, *, height: int = 420) -> go.Figure | None:
    """Onset against rate of death at the top dose, with intervals; None where no compound has both.

    Parameters
    ----------
    kinetics
        The stored `kinetics`: `onset` (h) and `rate` (1/h) with intervals.
    """
    if "onset" not in kinetics or "rate" not in kinetics:
        return None
    order = ranking["compound"].values[:MOST_POINTS]
    timed = kinetics.reindex(compound=order)
    onset, rate = timed["onset"].values.astype(float), timed["rate"].values.astype(float)
    held = np.isfinite(onset) & np.isfinite(rate) & (rate > 0)
    if not held.any():
        return None
    figure = go.Figure()
    pathway = ranking["dominant_pathway"].values[: len(order)]
    few = int(held.sum()) <= NAMED_ROWS
    for name in (*DEAD, ""):
        rows = np.flatnonzero(held & (pathway == name))
        if not len(rows):
            continue
        colour = COLOURS.get(name, VEHICLE)
        label = f"{LETTERS[name]} {name}" if name else "no dominant pathway"
        _points(figure, onset[rows], rate[rows], rows, ranking, label, colour, SYMBOLS.get(name, "circle"))
        if few:
            ends = {end: (timed[f"onset_{end}"].values[rows], timed[f"rate_{end}"].values[rows])
                    for end in ("low", "high")}  # fmt: skip
            figure.data[-1].update(
                error_x=interval_bars(onset[rows], ends["low"][0], ends["high"][0], colour),
                error_y=interval_bars(rate[rows], ends["low"][1], ends["high"][1], colour),
            )
    figure.update_layout(
        template=TEMPLATE,
        height=height,
        meta={"pick": True},
        xaxis={"title": {"text": "onset of death (h)"}, "showgrid": True, "gridcolor": GRID, "rangemode": "tozero"},
        yaxis={"type": "log", "title": {"text": "rate of death after the onset (1/h)"}, "gridcolor": GRID},
    )
    return figure


def add_cells(
    figure: go.Figure,
    values: np.ndarray,
    *,
    told: Sequence[Sequence[str]],
    written: Sequence[Sequence[str]] | None,
    picked: Sequence[int] | None = None,
) -> None:
    """A map of numbers from 0 to 1 as bars, one trace a column.

    plotly's own heat maps and colour bars write style attributes, which the policy of the pages forbids.
    """
    shades = colour_scale()
    rows = list(range(len(values)))
    for column in range(values.shape[1]):
        steps = [round(100 * float(np.clip(v, 0, 1))) if math.isfinite(v) else -1 for v in values[:, column]]
        figure.add_bar(
            x=[0.97] * len(rows), base=[column + 0.015] * len(rows), y=rows, orientation="h",
            width=0.94 if len(rows) <= NAMED_ROWS else 1.0, customdata=picked,
            marker={"color": [shades[step] if step >= 0 else "#ffffff" for step in steps], "line": {"width": 0}},
            hovertext=[row[column] for row in told], hovertemplate="%{hovertext}<extra></extra>",
            **({} if written is None else {
                "text": [row[column] for row in written], "textposition": "inside", "insidetextanchor": "middle",
                "textangle": 0, "constraintext": "none",
                "textfont": {"size": 11, "color": ["#fff" if step < 55 else "#111" for step in steps]},
            }),
        )  # fmt: skip


def _points(
    figure: go.Figure,
    x: np.ndarray,
    y: np.ndarray,
    rows: np.ndarray,
    ranking: xr.Dataset,
    label: str,
    colour: str,
    symbol: str,
) -> None:
    """Compounds as points that know their rows."""
    names = [words.in_figure(ranking["compound"].values[row]) for row in rows]
    figure.add_scatter(
        x=x, y=y, mode="markers", name=label, customdata=rows.tolist(), text=names,
        marker={"size": 10, "color": colour, "symbol": symbol, "line": {"width": 1, "color": colour}},
        hovertemplate="%{text}<br>%{x:.3g}, %{y:.3g}<extra></extra>",
    )  # fmt: skip


def _has_ec50(ranking: xr.Dataset) -> np.ndarray:
    return np.array(
        [
            words.has_ec50({"status": status, "ec50": ec50})
            for status, ec50 in zip(ranking["status"].values, ranking["ec50"].values, strict=True)
        ],
        dtype=bool,
    )


def interval_bars(value: np.ndarray, low: np.ndarray, high: np.ndarray, colour: str) -> dict[str, object]:
    """Bars from the value to the ends of its interval; an end that is not known has no bar."""
    up, down = (np.where(np.isfinite(part), part, 0.0) for part in (high - value, value - low))
    return {"type": "data", "symmetric": False, "array": np.maximum(up, 0), "arrayminus": np.maximum(down, 0),
            "thickness": 1.2, "width": 0, "color": colour}  # fmt: skip
