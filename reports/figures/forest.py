"""Potency against pathway: the EC50s of a ranking with their intervals, grouped by how the compounds kill."""

import math

import numpy as np
import xarray as xr

from plates.states import COLOURS, DEAD, LETTERS

from .. import words
from .looks import GRID, QUIET, SYMBOLS, TEMPLATE, VEHICLE, place, scalar
from .showing import Figure

LONGEST_FOREST = 60
ROW = 36  # pixels, for a line of words and the interval below it


def potency_by_pathway(ranking: xr.Dataset, *, dose_max: float) -> Figure:
    """EC50 with its interval, one row a compound, grouped by dominant pathway; an arrow where only a bound is known.

    The potency stands in words above each row, inside the frame, so that a narrow figure keeps both.

    Parameters
    ----------
    ranking
        The stored `ranking` result; the best 60 compounds are drawn.
    dose_max
        Highest dose tested, micromolar: intervals without upper end stop there.
    """
    shown = ranking.isel(compound=slice(0, LONGEST_FOREST))
    pathways = [str(name) for name in shown["dominant_pathway"].values]
    order = sorted(range(len(pathways)), key=lambda i: (place(pathways[i]), i))
    figure = Figure()
    for pathway in (*DEAD, ""):
        rows = [
            row for row, i in enumerate(order) if pathways[i] == pathway or (not pathway and pathways[i] not in DEAD)
        ]
        if rows:
            _add_forest(figure, shown, [order[row] for row in rows], rows, pathway, dose_max)
    names = [words.in_figure(shown["compound"].values[i]) for i in order]
    figure.update_layout(
        template=TEMPLATE,
        height=110 + ROW * len(order),
        xaxis={"type": "log", "title": {"text": "EC50 of death (µM)"}, "dtick": 1, "showgrid": True, "gridcolor": GRID,
               "minor": {"ticks": "outside", "ticklen": 3, "dtick": "D1"}, "range": _log_range(shown, dose_max)},
        yaxis={"tickvals": list(range(len(order))), "ticktext": names, "automargin": True,
               "range": [len(order) - 0.4, -0.7], "showgrid": False},
    )  # fmt: skip
    for row, i in enumerate(order):
        told = words.ec50({**_row(shown, i), "dose_min": math.nan, "dose_max": dose_max})
        told = told.removeprefix("not determined: ")
        figure.add_annotation(text=words.in_figure(told), x=0, xref="paper", xanchor="left", y=row - 0.42,
                              showarrow=False, font={"size": 10, "color": QUIET})  # fmt: skip
    return figure


def _add_forest(
    figure: Figure, ranking: xr.Dataset, picked: list[int], rows: list[int], pathway: str, dose_max: float
) -> None:
    one = ranking.isel(compound=picked)
    colour = COLOURS.get(pathway, VEHICLE)
    ec50, low, high = (one[name].values.astype(float) for name in ("ec50", "ec50_low", "ec50_high"))
    known = np.array(
        [words.has_ec50({"status": s, "ec50": e}) for s, e in zip(one["status"].values, ec50, strict=True)]
    )
    above = ~known & np.isfinite(low) & (low > 0)
    below = ~known & ~above & (one["status"].values == "below_range") & np.isfinite(high)
    for end_low, end_high, row in zip(low, high, rows, strict=True):
        if math.isfinite(end_low) and end_low > 0:
            figure.add_scatter(
                x=[end_low, end_high if math.isfinite(end_high) else dose_max], y=[row, row], mode="lines",
                line={"color": colour, "width": 3}, opacity=0.5, showlegend=False, hoverinfo="skip",
            )  # fmt: skip
    label = f"{LETTERS[pathway]} {pathway}" if pathway in LETTERS else "no dominant pathway"
    # what stands in the legend is the pathway's own symbol, never the arrow of a bound
    figure.add_scatter(
        x=np.where(known, ec50, np.nan), y=rows, mode="markers", name=label,
        marker={"color": colour, "size": 11, "symbol": SYMBOLS.get(pathway, "circle")},
        hovertemplate="%{x:.3g} µM<extra></extra>",
    )  # fmt: skip
    for bound, at, symbol, side in ((above, low, "right", "above"), (below, high, "left", "below")):
        if bound.any():
            figure.add_scatter(
                x=at[bound], y=np.array(rows)[bound], mode="markers", showlegend=False, name=f"{side} that",
                marker={"color": colour, "size": 11, "symbol": f"triangle-{symbol}-open"},
                hovertemplate=side + " %{x:.3g} µM<extra></extra>",
            )  # fmt: skip


def _row(dataset: xr.Dataset, index: int) -> dict[str, str | float]:
    one = dataset.isel(compound=index)
    return {name: scalar(one, name) for name in ("status", "ec50", "ec50_low", "ec50_high", "emax_low")}


def _log_range(ranking: xr.Dataset, dose_max: float) -> list[float]:
    """Exponents of ten that hold every potency and bound, with some room."""
    stored = np.concatenate([ranking[name].values.astype(float) for name in ("ec50", "ec50_low", "ec50_high")])
    held = [*stored[np.isfinite(stored) & (stored > 0)], dose_max if math.isfinite(dose_max) else 1.0]
    return [math.log10(min(held)) - 0.15, math.log10(max(held)) + 0.15]
