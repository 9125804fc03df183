"""The plate's controls: death in each of their wells, and how well it separates them over time."""

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr

from plates.states import COLOURS

from .. import words
from .looks import CURVE, PERCENT_AXIS, QUIET, TEMPLATE, VEHICLE, error_bars, place
from .showing import Figure


def control_strip(fractions: xr.Dataset, *, timepoint: int, height: int = 320) -> Figure:
    """Death in every control well at one timepoint with its interval, one column a kind of control."""
    at_time = fractions.isel(timepoint=timepoint)
    kinds = _control_kinds(fractions)
    figure = Figure()
    for column, (kind, wells) in enumerate(kinds.items()):
        death = at_time["death"].values[wells]
        figure.add_scatter(
            x=column + (np.arange(len(wells)) - (len(wells) - 1) / 2) * min(0.08, 0.6 / len(wells)),
            y=death, mode="markers", name=kind, showlegend=False, customdata=fractions["well"].values[wells],
            marker={"size": 9, "color": CURVE if column else VEHICLE, "symbol": "diamond" if column else "circle"},
            error_y=error_bars(death, at_time["death_low"].values[wells], at_time["death_high"].values[wells], QUIET),
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


def quality_over_time(quality: xr.Dataset, *, hours: Sequence[float], limit: float, height: int = 320) -> Figure:
    """Z' and robust Z' of death at every timepoint, with the limit that the verdict used."""
    death = quality.sel(readout="death")
    figure = Figure()
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


def _control_kinds(fractions: xr.Dataset) -> dict[str, np.ndarray]:
    """Vehicle wells first, then the positive controls by what they induce."""
    control, inducer, compound = (fractions[name].values for name in ("control", "inducer", "compound"))
    kinds = {"vehicle": np.flatnonzero(control == "negative")}
    for name in sorted(set(inducer[control == "positive"]), key=place):
        wells = np.flatnonzero((control == "positive") & (inducer == name))
        kinds[str(compound[wells[0]]) + (f" ({name})" if name else "")] = wells
    return kinds
