"""The plate's controls: death in each of their wells, and how well it separates them over time."""

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr

from plates.layout.roles import is_masked
from plates.states import COLOURS

from .. import words
from .looks import (
    CURVE,
    PERCENT_AXIS,
    QUIET,
    SYMBOLS,
    TEMPLATE,
    VEHICLE,
    error_bars,
    left_out_look,
    name_left_out,
    place,
)
from .showing import Figure


def control_strip(fractions: xr.Dataset, *, timepoint: int, height: int = 320) -> Figure:
    """Death in every control well at one timepoint with its interval, one column a kind of control.

    Wells that were left out stand open beside the others; the legend names them.
    """
    at_time = fractions.isel(timepoint=timepoint)
    kinds = _control_kinds(fractions)
    left_out = is_masked(fractions)
    figure = Figure()
    for column, (kind, wells) in enumerate(kinds.items()):
        inducer = str(fractions["inducer"].values[wells[0]]) if column and len(wells) else ""
        colour = COLOURS.get(inducer, CURVE) if column else VEHICLE
        symbol = SYMBOLS.get(inducer, "star") if column else "circle"
        places = column + (np.arange(len(wells)) - (len(wells) - 1) / 2) * min(0.08, 0.6 / max(len(wells), 1))
        for out in (False, True):
            here = left_out[wells] == out
            if out and not here.any():
                continue
            chosen = wells[here]
            death = at_time["death"].values[chosen]
            low, high = (at_time[name].values[chosen] for name in ("death_low", "death_high"))
            figure.add_scatter(
                x=places[here], y=death, mode="markers", name=kind, showlegend=False,
                customdata=fractions["well"].values[chosen], marker=left_out_look(9) if out else
                {"size": 9, "color": colour, "symbol": symbol}, error_y=error_bars(death, low, high, QUIET),
                hovertemplate="%{customdata}: %{y:.1%} dead" + (", left out" if out else "") + "<extra></extra>",
            )  # fmt: skip
    if any(left_out[wells].any() for wells in kinds.values()):
        name_left_out(figure)
    figure.update_layout(
        template=TEMPLATE,
        height=height,
        xaxis={"tickvals": list(range(len(kinds))), "tickangle": 0, "tickfont": {"size": 9},
               "ticktext": [words.in_figure(kind).replace(" (", "<br>(") for kind in kinds],
               "range": [-0.6, len(kinds) - 0.4]},
        yaxis={**PERCENT_AXIS, "title": {"text": "dead cells"}},
    )  # fmt: skip
    return figure


def quality_over_time(quality: xr.Dataset, *, hours: Sequence[float], limit: float, height: int = 320) -> Figure:
    """Z' and robust Z' of death at every timepoint with their intervals, and the limit that the verdict used."""
    death = quality.sel(readout="death")
    figure = Figure()
    for name, label, colour, symbol in (
        ("z_prime", "Z'", CURVE, "circle"),
        ("robust_z_prime", "robust Z'", COLOURS["live-treated"], "diamond"),
    ):
        value = death[name].values.astype(float)
        known = f"{name}_low" in death and f"{name}_high" in death
        low, high = (death[f"{name}_{end}"].values.astype(float) if known else value for end in ("low", "high"))
        figure.add_scatter(
            x=list(hours), y=value, mode="lines+markers", name=label,
            error_y=error_bars(value, low, high, colour) if known else None, line={"color": colour, "width": 2},
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
