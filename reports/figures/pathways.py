"""By which pathway a compound kills at each dose, and the dose at which it changes its way."""

import math
from typing import Any

import numpy as np
import xarray as xr

from plates.states import COLOURS, DEAD, LETTERS

from .. import words
from .looks import HIGH_LEGEND, INK, QUIET, SYMBOLS, TEMPLATE, dose_ticks, excess_axis, floor_of, say, scalar
from .showing import Figure

SPLIT = ("switch", "shift", "constant")
DASHES = dict(zip(DEAD, ("solid", "dash", "dot"), strict=True))


def pathway_curves(pathways: xr.Dataset, *, compound: str, fits: xr.Dataset | None = None, height: int = 300) -> Figure:
    """Excess death of each pathway against dose with its band, and the dose at which the leading one changes.

    Parameters
    ----------
    pathways
        The stored `pathways` result. A compound without effect has no curves; the figure then says so.
    compound
        A name as the result has it.
    fits
        The stored `dose_response` result, whose wells are drawn as points; none without it.
    """
    one = pathways.sel(compound=compound)
    dose = one["curve_dose"].values.astype(float)
    figure = Figure()
    known = {name: scalar(one, name) for name in _TOLD}
    for pathway in DEAD if known["status"] in SPLIT else ():
        _add_pathway(figure, one.sel(pathway=pathway), dose, pathway)
    tested, responses = _add_wells(figure, fits, compound)
    drawn = dose[np.isfinite(dose)]
    if not len(tested) and len(drawn):
        tested = np.geomspace(drawn.min(), drawn.max(), 4)
    axis = excess_axis(responses)
    _add_switch(figure, known, tested, floor=floor_of(axis))
    say(figure, told(known))
    figure.update_layout(
        template=TEMPLATE,
        height=height,
        **HIGH_LEGEND,
        xaxis={"type": "log", "title": {"text": "dose (µM)"}, **dose_ticks(tested)},
        yaxis={**axis, "title": {"text": "excess death"}},
    )
    return figure


def told(known: dict[str, Any]) -> str:
    """Tell in words whether and where the leading pathway changes.

    Parameters
    ----------
    known
        `status`, `leading`, `switch_from`, `switch_to`, `switch_dose`, `switch_low`, `switch_high` of a compound.
    """
    status = str(known["status"])
    if status == "switch":
        where = _where(float(known["switch_dose"]), float(known["switch_low"]), float(known["switch_high"]))
        return f"{known['switch_from']} to {known['switch_to']} {where}"
    if status == "shift":
        return f"the split changes with dose, {known['leading']} leads throughout"
    if status == "constant":
        return "the split does not change with dose"
    return {"no_effect": "no effect: no split", "not_fitted": "too few doses for a split"}.get(
        status, status.replace("_", " ")
    )


_TOLD = ("status", "leading", "switch_from", "switch_to", "switch_dose", "switch_low", "switch_high")


def _where(dose: float, low: float, high: float) -> str:
    ends = []
    if math.isfinite(low) and low > 0:
        ends.append(f"above {words.concentration(low)}")
    if math.isfinite(high):
        ends.append(f"below {words.concentration(high)}")
    if len(ends) == 2:
        ends = [f"{words.concentration(low)} to {words.concentration(high)}"]
    between = f" ({ends[0]})" if ends else ""
    return f"at {words.concentration(dose)}{between}" if math.isfinite(dose) else f"at a dose not known{between}"


def _add_pathway(figure: Figure, one: xr.Dataset, dose: np.ndarray, pathway: str) -> None:
    curve, low, high = (one[name].values.astype(float) for name in ("curve", "curve_low", "curve_high"))
    held = np.isfinite(dose) & np.isfinite(curve)
    if not held.any():
        return
    band = held & np.isfinite(low) & np.isfinite(high)
    figure.add_scatter(
        x=np.concatenate([dose[band], dose[band][::-1]]), y=np.concatenate([high[band], low[band][::-1]]),
        fill="toself", mode="lines", fillcolor=COLOURS[pathway], opacity=0.14, line={"width": 0}, hoverinfo="skip",
        legendgroup=pathway, showlegend=False, name=f"{pathway} interval",
    )  # fmt: skip
    figure.add_scatter(
        x=dose[held], y=curve[held], mode="lines", name=f"{LETTERS[pathway]} {pathway}", legendgroup=pathway,
        line={"color": COLOURS[pathway], "width": 2.4, "dash": DASHES[pathway]},
        hovertemplate="%{x:.3g} µM<br>%{y:.1%} " + pathway + "<extra></extra>",
    )  # fmt: skip


def _add_wells(figure: Figure, fits: xr.Dataset | None, compound: str) -> tuple[np.ndarray, np.ndarray]:
    """Draw the wells that were fitted and return the doses tested, ascending, and all responses."""
    if fits is None or compound not in fits["compound"].values:
        return np.array([]), np.array([])
    one = fits.sel(compound=compound)
    dose = one["dose"].values.astype(float)
    responses = [np.array([])]
    for pathway in DEAD:
        if pathway not in one["readout"].values:
            continue
        response = one["response"].sel(readout=pathway).transpose(*one["dose"].dims).values.astype(float)
        held = np.isfinite(dose) & np.isfinite(response)
        names = [str(well) for well in one["well"].values[held]]
        responses.append(response[held])
        figure.add_scatter(
            x=dose[held], y=response[held], mode="markers", customdata=names, legendgroup=pathway, showlegend=False,
            name=pathway, opacity=0.75,
            marker={"symbol": SYMBOLS[pathway], "size": 7, "color": COLOURS[pathway],
                    "line": {"color": "#ffffff", "width": 0.8}},
            hovertemplate="%{customdata}<br>%{x:.3g} µM: %{y:.1%} " + pathway + "<extra></extra>",
        )  # fmt: skip
    return np.unique(dose[np.isfinite(dose) & (dose > 0)]), np.concatenate(responses)


def _add_switch(figure: Figure, known: dict[str, Any], tested: np.ndarray, *, floor: float) -> None:
    """A dotted line at the switching dose and a bar for its interval; an end that is open leaves the frame."""
    if known["status"] != "switch" or not len(tested):
        return
    at, low, high = (float(known[name]) for name in ("switch_dose", "switch_low", "switch_high"))
    low = low if math.isfinite(low) and low > 0 else float(tested[0])
    high = high if math.isfinite(high) else float(tested[-1])
    figure.add_scatter(x=[low, high], y=[floor, floor], mode="lines", line={"color": QUIET, "width": 5}, opacity=0.6,
                       hoverinfo="skip", showlegend=False, name="switch interval")  # fmt: skip
    if math.isfinite(at) and at > 0:
        figure.add_scatter(
            x=[at, at], y=[floor, 0.9], mode="lines", line={"color": INK, "width": 1.2, "dash": "dot"},
            hovertemplate="switch at %{x:.3g} µM<extra></extra>", showlegend=False, name="switch",
        )  # fmt: skip
