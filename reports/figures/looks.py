"""What the figures share: inks, symbols, axes and plotly's template."""

import math
import textwrap
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from plates.states import DEAD, STATES

from .. import words

INK = "#1b2733"
QUIET = "#5b6875"
GRID = "#e3e7eb"
VEHICLE = "#9aa5b1"
CURVE = "#0b3c5d"
LEFT_OUT = "#9c2f00"  # as the crosses of the plate maps
# light to dark as the dose rises: order is seen without the legend, in grey print too
DOSES = ("#b5c62a", "#6cbf52", "#2fa878", "#1f8a8a", "#2e6d8e", "#3d4a89", "#440154")
SYMBOLS = dict(zip(STATES, ("triangle-up", "square", "diamond", "circle", "circle-open"), strict=True))

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
# above what `say` writes, with room for a second line of the legend: a phone breaks it
HIGH_LEGEND = {
    "legend": {"x": 0, "xref": "container", "y": 1.0, "yref": "container", "yanchor": "top", "font": {"size": 10},
               "tracegroupgap": 0},
    "margin": {"t": 62},
}  # fmt: skip
LINE = 52  # characters of small print that fit into a figure on a phone
ROOMY = 6  # doses on an axis that have room for three digits each
EXCESS_RANGE = (-0.12, 1.1)  # excess over vehicle may pass 0 and 100 % by the noise of both
PERCENT_AXIS = {"range": [-0.04, 1.04], "tickformat": ".0%", "tickvals": [0, 0.25, 0.5, 0.75, 1]}


def scalar(dataset: xr.Dataset, name: str) -> str | float:
    """Return a stored value as text or number; NaN where the result has none of that name."""
    if name not in dataset:
        return math.nan
    value = dataset[name].item()
    return value if isinstance(value, str) else float(value)


def place(pathway: str) -> int:
    """Place of a pathway in the order of the states; after them what is none."""
    return DEAD.index(pathway) if pathway in DEAD else len(DEAD)


def error_bars(value: np.ndarray, low: np.ndarray, high: np.ndarray, colour: str) -> dict[str, object]:
    """Bars of a stored interval, for `error_x` or `error_y`."""
    return {"type": "data", "symmetric": False, "array": high - value, "arrayminus": value - low, "thickness": 1,
            "width": 0, "color": colour}  # fmt: skip


def excess_axis(*responses: np.ndarray) -> dict[str, Any]:
    """An axis of excess death that cuts no well off: wells with fewer deaths than vehicle may lie far below 0.

    Parameters
    ----------
    responses
        Fractions of any shape; NaN where nothing was measured.
    """
    seen = np.concatenate([np.ravel(one) for one in responses] or [np.zeros(0)]).astype(float)
    seen = seen[np.isfinite(seen)]
    low = min(EXCESS_RANGE[0], float(seen.min(initial=0)) - 0.08)
    high = max(EXCESS_RANGE[1], float(seen.max(initial=0)) + 0.06)
    step = 0.25 if high - low < 2 else 0.5 * math.ceil((high - low) / 4)
    ticks = np.arange(math.ceil(low / step), math.floor(high / step) + 1) * step
    return PERCENT_AXIS | {"range": [low, high], "tickvals": ticks.tolist()}


def floor_of(axis: dict[str, Any]) -> float:
    """Where a bar for an interval along x stands: at the foot of such an axis, below every well."""
    return float(axis["range"][0]) + 0.02


def side_by_side(centre: int, count: int) -> np.ndarray:
    """Places of so many bars around a whole number."""
    return centre + (np.arange(count) - (count - 1) / 2) * 0.82 / max(count, 1)


def dose_colour(rank: int, doses: int) -> str:
    """Colour of a compound's dose by its rank from the lowest, 0."""
    return DOSES[round(rank * (len(DOSES) - 1) / max(doses - 1, 1))]


def dose_ticks(doses: np.ndarray) -> dict[str, Any]:
    """Label the tested doses themselves; thin them out where they would run into each other."""
    if not len(doses):
        return {}
    shown = doses[:: math.ceil(len(doses) / 8)]
    spread = 0.08 * max(math.log10(doses[-1] / doses[0]), 1)
    return {
        "tickvals": shown.tolist(),
        "ticktext": [words.number(dose, 3 if len(shown) <= ROOMY else 2) for dose in shown],
        "range": [math.log10(doses[0]) - spread, math.log10(doses[-1]) + spread],
    }


def left_out_look(size: int) -> dict[str, object]:
    """Marker of a well that was measured and that no statistic sees, in every figure alike."""
    return {"size": size, "symbol": "x-thin-open", "color": LEFT_OUT, "line": {"width": 1.6}}


def name_left_out(figure: go.Figure) -> None:
    """Add the marker of wells that were left out to the legend."""
    figure.add_scatter(x=[None], y=[None], mode="markers", name="left out", marker=left_out_look(9), showlegend=True)


def say(figure: go.Figure, text: str) -> None:
    """Put a quiet line of words above the frame of a figure, where no point lies; it may hold names of any kind.

    A long one is broken into two lines, so that a phone does not cut it.
    """
    shown = words.plain(text, longest=200)
    lines = textwrap.wrap(shown, max(LINE, math.ceil(len(shown) / 2) + 8)) or [""]
    figure.add_annotation(
        text="<br>".join(_escaped(line) for line in lines), x=0, y=1, xref="paper", yref="paper", showarrow=False,
        xanchor="left", yanchor="bottom", align="left", font={"color": QUIET, "size": 11},
    )  # fmt: skip


def _escaped(text: str) -> str:
    """As `words.in_figure`, for sentences: nothing of it is markup."""
    return words.plain(text, longest=200).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
