"""Figures of a classifier's evaluation: each takes one part of the record and returns a plotly figure.

They work in a notebook as they do on the pages. Every number comes from the record; a missing one leaves a gap.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from . import words
from .figures import GRID, INK, TEMPLATE, VEHICLE
from .state_looks import state_looks

AFTER, BEFORE, LIMIT = "#0072B2", "#8A8A8A", "#9c2f00"
CORNER = 0.1  # of the ROC: where the curves of a good classifier lie
FEW_EPOCHS = 12  # so many ticks fit
MOST_WELLS = 40
SCORE_BINS = 60

Numbers = Mapping[str, Sequence[float | None]]
Row = Mapping[str, Any]


def roc(
    curves: Mapping[str, Numbers | None],
    *,
    states: Sequence[str],
    corner: bool = False,
    log: bool = False,
    height: int = 380,
) -> go.Figure:
    """One-against-the-rest ROC curves.

    Parameters
    ----------
    curves
        A state's `false_positive` and `true_positive` rates; a state without patches has none.
    corner
        Show only the corner of few false and many true positives.
    log
        False-positive rates on a logarithmic axis; rates of zero are drawn at its left end.
    """
    drawn = [
        (look, floats(curve["false_positive"]), floats(curve["true_positive"]))
        for state, look in zip(states, state_looks(states), strict=True)
        if (curve := curves.get(state))
    ]
    floor = min((float(false[false > 0].min()) for _, false, _ in drawn if (false > 0).any()), default=0.01) / 2
    if log:  # of the rates of zero only the last, with the most true positives, says something
        drawn = [(look, np.maximum(false, floor)[_from(false)], true[_from(false)]) for look, false, true in drawn]
    figure = go.Figure()
    for look, false, true in drawn:
        # "hv": between points that were thinned out the lower way is drawn
        figure.add_scatter(
            x=false, y=true, mode="lines", name=look.label,
            line={"color": look.colour, "dash": look.dash, "width": 2, "shape": "hv"},
            hovertemplate="%{x:.3g} false, %{y:.2%} true<extra>" + look.label + "</extra>",
        )  # fmt: skip
    if not corner and not log:
        figure.add_scatter(
            x=[0, 1], y=[0, 1], mode="lines", line={"color": VEHICLE, "width": 1}, showlegend=False, hoverinfo="skip"
        )
    x: dict[str, Any] = {"range": [-0.02, 1.02], "title": {"text": "false-positive rate"}}
    y: dict[str, Any] = {"range": [-0.02, 1.02], "title": {"text": "true-positive rate"}}
    if corner:
        x["range"], y["range"] = [-CORNER / 50, CORNER], [1 - CORNER, 1 + CORNER / 50]
    if log:
        x |= {"type": "log", "range": [math.log10(floor), 0.02], "dtick": 1, "exponentformat": "none"}
        lowest = min((float(true.min()) for _, _, true in drawn), default=0.0)
        y["range"] = [lowest - 0.05 * (1 - lowest) - 0.001, 1 + 0.05 * (1 - lowest) + 0.001]
    return framed(figure, height, x=x, y=y)


def reaches_corner(curve: Numbers) -> bool:
    """Whether a ROC curve enters the corner of few false and many true positives."""
    false, true = floats(curve["false_positive"]), floats(curve["true_positive"])
    return bool(((false <= CORNER) & (true >= 1 - CORNER)).any())


def _from(false: npt.NDArray[np.float64]) -> slice:
    return slice(max(int((false == 0).sum()) - 1, 0), None)


def reliability(calibration: Mapping[str, Mapping[str, Any] | None], *, height: int = 420) -> go.Figure:
    """Accuracy against confidence before and after calibration, each bin with its interval; patches per bin below.

    Parameters
    ----------
    calibration
        `before` and `after`, each with `bins` {confidence, accuracy, count, low, high}. Empty bins hold nulls.
    """
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"color": VEHICLE, "width": 1}, showlegend=False, hoverinfo="skip"
    )
    start, most = 1.0, 1.0
    for name, colour, symbol in (("before", BEFORE, "square-open"), ("after", AFTER, "circle")):
        bins = (calibration.get(name) or {}).get("bins")
        if not bins:
            continue
        confidence, accuracy, low, high = (floats(bins[key]) for key in ("confidence", "accuracy", "low", "high"))
        count = floats(bins["count"])
        held = count > 0
        start = min(start, float(confidence[held].min(initial=1.0)))
        most = max(most, float(count[held].max(initial=1.0)))
        figure.add_scatter(
            x=confidence[held], y=accuracy[held], customdata=count[held], mode="lines+markers", name=name,
            marker={"color": colour, "symbol": symbol, "size": 9}, line={"color": colour, "width": 1},
            error_y=errors(accuracy[held], low[held], high[held], colour),
            hovertemplate="confidence %{x:.1%}: %{y:.1%} right<br>%{customdata} patches<extra>" + name + "</extra>",
        )  # fmt: skip
        figure.add_bar(
            x=confidence[held], y=count[held], yaxis="y2", showlegend=False, width=0.02,
            marker={"color": colour if name == "after" else "rgba(0,0,0,0)", "line": {"color": colour, "width": 1}},
            hovertemplate="confidence %{x:.1%}: %{y} patches<extra>" + name + "</extra>",
        )  # fmt: skip
    across = [max(-0.02, start - 0.05), 1.02]
    x = {"range": across, "tickformat": ".0%", "title": {"text": "confidence"}, "anchor": "y2"}
    y = {"range": [-0.04, 1.04], "tickformat": ".0%", "title": {"text": "share right"}, "domain": [0.3, 1]}
    framed(figure, height, x=x, y=y)
    figure.update_layout(
        barmode="overlay",
        yaxis2={"type": "log", "range": [math.log10(0.6), math.log10(1.5 * most)], "domain": [0, 0.22], "dtick": 1,
                "title": {"text": "patches"}, "gridcolor": GRID, "exponentformat": "none", "anchor": "x"},
    )  # fmt: skip
    return figure


def risk_coverage(curve: Numbers, *, chosen: Row | None = None, height: int = 320) -> go.Figure:
    """Share of wrong patches among those kept, against the share kept, as the least certain are left out.

    Parameters
    ----------
    curve
        `coverage`, `error` and `threshold` (the least confidence that is kept).
    chosen
        `coverage`, `error_of_kept` and `threshold` of the "uncertain" threshold in use.
    """
    figure = go.Figure()
    figure.add_scatter(
        x=floats(curve["coverage"]), y=floats(curve["error"]), customdata=floats(curve["threshold"]), mode="lines",
        line={"color": AFTER, "width": 2}, showlegend=False,
        hovertemplate="%{x:.1%} kept: %{y:.2%} of them wrong<br>confidence from %{customdata:.3f}<extra></extra>",
    )  # fmt: skip
    if chosen is not None and math.isfinite(one(chosen.get("coverage"))):
        figure.add_scatter(
            x=[one(chosen["coverage"])], y=[one(chosen.get("error_of_kept"))], mode="markers", name="chosen threshold",
            marker={"color": LIMIT, "symbol": "diamond", "size": 12},
            hovertemplate="%{x:.1%} kept: %{y:.2%} of them wrong<extra>chosen</extra>",
        )  # fmt: skip
    return framed(figure, height, x={"range": [-0.02, 1.02], "tickformat": ".0%", "title": {"text": "patches kept"}},
                  y={"rangemode": "tozero", "tickformat": ".1~%",
                     "title": {"text": "wrong among kept", "standoff": 12}, "automargin": True})  # fmt: skip


def outlier_scores(scores: npt.ArrayLike, *, threshold: float, height: int = 320) -> go.Figure:
    """Histogram of the patches' outlier scores, with the threshold beyond which a patch is unlike the training data.

    Parameters
    ----------
    scores
        (patch,), NaN where a patch has none.
    """
    held = floats(scores)
    held = held[np.isfinite(held)]
    width = max(float(np.ptp(held)) / SCORE_BINS, 1e-9) if len(held) else 1.0
    # an edge lies on the threshold, so that no bar holds patches of both sides
    edge = threshold if math.isfinite(threshold) else 0.0
    places, counts = np.unique(np.ceil((held - edge) / width), return_counts=True)
    centres, above = edge + (places - 0.5) * width, places > 0
    figure = go.Figure()
    for name, part, colour in (("within", ~above, AFTER), ("above the threshold", above, LIMIT)):
        figure.add_bar(
            x=centres[part], y=counts[part], width=width, name=name, marker={"color": colour, "line": {"width": 0}},
            hovertemplate="score %{x:.3g}: %{y} patches<extra></extra>",
        )  # fmt: skip
    if math.isfinite(threshold):
        upright(figure, threshold, "threshold")
    top = math.log10(1.5 * max(float(counts.max(initial=1.0)), 1.0))
    y = {"type": "log", "range": [math.log10(0.6), top], "dtick": 1, "exponentformat": "none"}
    return framed(figure, height, x={"title": {"text": "outlier score"}}, y={**y, "title": {"text": "patches"}})


def accuracy_by_well(rows: Sequence[Row], *, height: int | None = None) -> go.Figure:
    """Accuracy of every well, the worst on top; at most 40 are drawn.

    Parameters
    ----------
    rows
        `plate`, `well`, `patches` and `accuracy` of each well. The ring is larger where more patches were judged.
    """
    worst = worst_first(rows)[:MOST_WELLS]
    names = [f"{words.in_figure(plate_name(row['plate']))} {words.in_figure(row['well'])}" for row in worst]
    accuracy = floats([row["accuracy"] for row in worst])
    patches = floats([row["patches"] for row in worst])
    figure = go.Figure()
    figure.add_scatter(
        x=accuracy, y=list(range(len(worst))), customdata=np.stack([names, patches.astype(int).astype(str)], axis=1),
        mode="markers", showlegend=False,
        marker={"color": "#ffffff", "line": {"color": INK, "width": 1.6},
                "size": 6 + 8 * np.sqrt(patches / max(float(patches.max(initial=1.0)), 1.0))},
        hovertemplate="%{customdata[0]}: %{x:.1%} of %{customdata[1]} patches right<extra></extra>",
    )  # fmt: skip
    low = float(np.nanmin(accuracy)) if len(accuracy) and np.isfinite(accuracy).any() else 0.0
    spare = max(1 - low, 0.01)
    framed(figure, height or 80 + 17 * len(worst),
           x={"range": [max(-0.02, low - 0.1 * spare), 1 + 0.04 * spare], "tickformat": ".1%" if spare < 0.1 else ".0%",
              "title": {"text": "share of patches right"}},
           y={"tickvals": list(range(len(worst))), "ticktext": names, "range": [len(worst) - 0.4, -0.6],
              "automargin": True})  # fmt: skip
    return figure


def training_loss(rows: Sequence[Row], *, chosen: int | None = None, height: int = 300) -> go.Figure:
    """Loss of training and validation patches after every epoch; `chosen` marks the epoch that was kept."""
    lines = (
        ("train_loss", "training", BEFORE, "circle-open"),
        ("validation_loss", "validation", AFTER, "circle"),
    )
    return _epochs(rows, lines, chosen=chosen, height=height, y={"title": {"text": "loss"}, "rangemode": "tozero"})


def training_accuracy(rows: Sequence[Row], *, chosen: int | None = None, height: int = 300) -> go.Figure:
    """Mean recall of the states on validation wells after every epoch."""
    lines = (("accuracy", "validation", AFTER, "circle"),)
    y = {"title": {"text": "mean recall"}, "tickformat": ".0%"}
    return _epochs(rows, lines, chosen=chosen, height=height, y=y)


def _epochs(
    rows: Sequence[Row], lines: Sequence[tuple[str, str, str, str]], *, chosen: int | None, height: int,
    y: dict[str, Any],
) -> go.Figure:  # fmt: skip
    epochs = floats([row["epoch"] for row in rows]) + 1
    figure = go.Figure()
    for key, name, colour, symbol in lines:
        figure.add_scatter(
            x=epochs, y=floats([row.get(key) for row in rows]), mode="lines+markers", name=name,
            line={"color": colour, "width": 2}, marker={"symbol": symbol, "size": 7},
            hovertemplate="epoch %{x}: %{y:.4g}<extra>" + name + "</extra>",
        )  # fmt: skip
    if chosen is not None:
        upright(figure, chosen + 1, "chosen")
    x: dict[str, Any] = {"title": {"text": "epoch"}, "range": [0.5, epochs.max(initial=1.0) + 0.5]}
    if epochs.max(initial=1.0) <= FEW_EPOCHS:
        x["dtick"] = 1  # there is no epoch 1.5
    return framed(figure, height, x=x, y=y)


def worst_first(rows: Sequence[Row]) -> list[Row]:
    """Wells by accuracy, the lowest first; of equals the one with more patches."""
    return sorted(rows, key=lambda row: (one(row["accuracy"], missing=2.0), -one(row["patches"], missing=0.0)))


def plate_name(text: object) -> str:
    """Name of a plate: of a path to its store the last part, without its suffix."""
    name = str(text)
    return PurePosixPath(name).name.removesuffix(".zarr") if name.endswith(".zarr") else name


def framed(figure: go.Figure, height: int, *, x: Mapping[str, Any], y: Mapping[str, Any]) -> go.Figure:
    """Put the reports' look around a figure."""
    figure.update_layout(template=TEMPLATE, height=height, xaxis=dict(x), yaxis=dict(y))
    return figure


def upright(figure: go.Figure, x: float, text: str) -> None:
    """A dashed upright line with a word on top of it."""
    figure.add_vline(
        x=x, line={"color": LIMIT, "width": 1.5, "dash": "dash"}, annotation_text=text, annotation_position="top left",
        annotation_font={"color": LIMIT, "size": 11},
    )  # fmt: skip


def errors(value: npt.ArrayLike, low: npt.ArrayLike, high: npt.ArrayLike, colour: str) -> dict[str, Any]:
    """Error bars from the ends of intervals; none where an end is missing."""
    middle = floats(value)
    above, below = np.nan_to_num(floats(high) - middle), np.nan_to_num(middle - floats(low))
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below,
            "thickness": 1.2, "width": 3, "color": colour}  # fmt: skip


def floats(values: Any) -> npt.NDArray[np.float64]:
    """Numbers of a record as an array, NaN for null."""
    return np.array([one(value) for value in np.asarray(values, dtype=object).ravel()], dtype=np.float64)


def one(value: Any, *, missing: float = math.nan) -> float:
    """One number of a record; `missing` for null."""
    return missing if value is None or (isinstance(value, float) and math.isnan(value)) else float(value)
