"""Figures of studies on classifiers: two kinds on the same patches, and one before and after it was adapted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from . import words
from .classifier_figures import AFTER, BEFORE, errors, floats, framed
from .figures import VEHICLE
from .state_looks import state_looks

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x")


def accuracies(scores: Mapping[str, Mapping[str, Any]], *, height: int | None = None) -> go.Figure:
    """Accuracy of every classifier with its interval, the first on top.

    Parameters
    ----------
    scores
        By what the classifier is called: its accuracy {value, low, high}.
    """
    value, low, high = (_ends(list(scores.values()), key) for key in ("value", "low", "high"))
    names = [words.in_figure(name) for name in scores]
    rows = list(range(len(names)))
    figure = go.Figure()
    bars = errors(value, low, high, AFTER)
    figure.add_scatter(
        x=value, y=rows, mode="markers", showlegend=False, error_x=bars, customdata=names,
        marker={"color": AFTER, "size": 11, "symbol": [SYMBOLS[row % len(SYMBOLS)] for row in rows]},
        hovertemplate="%{customdata}: %{x:.2%}<extra></extra>",
    )  # fmt: skip
    y = {"tickvals": rows, "ticktext": names, "range": [len(rows) - 0.5, -0.5], "automargin": True}
    x = {"tickformat": ".1~%", "tickangle": 0, "nticks": 6, "title": {"text": "accuracy"}}
    return framed(figure, height or 90 + 40 * len(rows), x=x, y=y)


def recalls(
    before: Mapping[str, Any], after: Mapping[str, Any], *, states: Sequence[str], height: int | None = None
) -> go.Figure:
    """Recall of every state before (open square) and after (filled circle), each with its interval.

    Parameters
    ----------
    before, after
        `recall` {state: {value, low, high}}; a state without patches is left out.
    """
    figure = go.Figure()
    looks = state_looks(states)
    for name, scores, colour, symbol, shift in (
        ("before", before, BEFORE, "square-open", -0.14), ("after", after, AFTER, "circle", 0.14),
    ):  # fmt: skip
        recall = [scores["recall"].get(state) or {} for state in states]
        value, low, high = (floats([entry.get(key) for entry in recall]) for key in ("value", "low", "high"))
        figure.add_scatter(
            x=value, y=[row + shift for row in range(len(states))], mode="markers", name=name,
            error_x=errors(value, low, high, colour), marker={"color": colour, "size": 10, "symbol": symbol},
            customdata=[look.label for look in looks],
            hovertemplate="%{customdata}: %{x:.1%}<extra>" + name + "</extra>",
        )  # fmt: skip
    y = {"tickvals": list(range(len(states))), "ticktext": [look.label for look in looks],
         "range": [len(states) - 0.5, -0.5], "automargin": True}  # fmt: skip
    x = {"tickformat": ".0%", "title": {"text": "recall"}}
    return framed(figure, height or 100 + 44 * len(states), x=x, y=y)


def accuracy_against_patches(
    curve: Sequence[Mapping[str, Any]], *, before: float = math.nan, height: int = 340
) -> go.Figure:
    """Accuracy on the new and the old line against the number of annotated patches it took, with intervals.

    Parameters
    ----------
    curve
        `patches`, `accuracy` and where known `old_accuracy` of each step, {value, low, high}; numbers of patches
        are drawn as categories in their order.
    before
        Accuracy on the new line without adaptation, drawn as a line.
    """
    steps = [f"{int(step['patches']):,}" for step in curve]
    places = list(range(len(steps)))
    figure = go.Figure()
    if math.isfinite(before):
        figure.add_scatter(
            x=[-0.5, len(steps) - 0.5], y=[before, before], mode="lines", name="new line, before", hoverinfo="skip",
            line={"color": VEHICLE, "width": 1.5, "dash": "dot"},
        )  # fmt: skip
    for key, name, colour, symbol in (
        ("old_accuracy", "old line", BEFORE, "square-open"),
        ("accuracy", "new line", AFTER, "circle"),
    ):
        value, low, high = (_ends([step.get(key) for step in curve], end) for end in ("value", "low", "high"))
        if np.isfinite(value).any():
            figure.add_scatter(
                x=places, y=value, mode="lines+markers", name=name, error_y=errors(value, low, high, colour),
                line={"color": colour, "width": 2}, marker={"size": 9, "symbol": symbol}, customdata=steps,
                hovertemplate="%{customdata} patches: %{y:.1%}<extra>" + name + "</extra>",
            )  # fmt: skip
    x = {"tickvals": places, "ticktext": steps, "range": [-0.5, len(steps) - 0.5]}
    y = {"tickformat": ".0%", "title": {"text": "accuracy"}}
    return framed(figure, height, x=x | {"title": {"text": "annotated patches"}}, y=y)


def _ends(scores: Sequence[Mapping[str, Any] | None], key: str) -> npt.NDArray[np.float64]:
    return floats([(entry or {}).get(key) for entry in scores])
