"""Figures of one compound over the plates of a campaign, as functions of stored results."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from . import words
from .figures import Figure, dose_response
from .figures.looks import CURVE, HIGH_LEGEND, INK, QUIET, TEMPLATE, error_bars, scalar

# the marker tells a plate where its colour does not
PLATE_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1b2733", "#8a8a8a")
PLATE_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star")
MOST_CURVES = 8  # plates whose own curve is drawn


def curves_of_plates(
    pooled: xr.Dataset, own: Mapping[str, xr.Dataset], *, compound: str, height: int = 420
) -> Figure:  # fmt: skip
    """The pooled curve with its band, and below it each plate's own curve; every well a point in its plate's marker.

    Parameters
    ----------
    pooled
        The campaign's stored `dose_response`.
    own
        `dose_response` of each plate by itself, selected to the compound, by the plate's name. Only curves with an
        EC50 are drawn, of the first eight plates.
    compound
        The compound's name in `pooled`.
    """
    figure = dose_response(pooled, compound=compound, height=height)
    # the pooled figure draws all wells alike: here each plate has its own marker
    kept = [trace for trace in figure.data if trace.mode != "markers"]
    layout = figure.layout
    figure = Figure(kept)
    figure.update_layout(layout)
    figure.update_traces(showlegend=False)
    death = pooled.sel(compound=compound, readout="death")
    dims = ("dose_index", "replicate")
    dose, response = (death[name].transpose(*dims).values.astype(float) for name in ("dose", "response"))
    plate, well = (death[name].transpose(*dims).values for name in ("plate", "well"))
    names = list(dict.fromkeys([*own, *(str(name) for name in np.unique(plate[np.isfinite(response)]))]))
    for place, name in enumerate(names):
        colour, symbol = _look(place)
        if name in own and place < MOST_CURVES:
            _add_own(figure, own[name], colour, name)
        here = np.isfinite(response) & (plate == name)
        if here.any():
            figure.add_scatter(
                x=dose[here], y=response[here], mode="markers", name=words.in_figure(name), showlegend=True,
                legendgroup=name, customdata=[f"{words.in_figure(name)} {one}" for one in well[here]],
                marker={"size": 9, "color": "rgba(255,255,255,0.8)", "symbol": symbol,
                        "line": {"color": colour, "width": 2}},
                hovertemplate="%{customdata}<br>%{x:.3g} µM: %{y:.1%}<extra></extra>",
            )  # fmt: skip
    for note in figure.layout.annotations:  # a plate may have a curve of its own
        note.text = note.text.replace("no curve", "no pooled curve")
    lines = math.ceil(sum(bool(trace.showlegend) for trace in figure.data) / 4)
    figure.update_layout(showlegend=True, legend=HIGH_LEGEND["legend"], margin={"t": 30 + 18 * max(lines, 1)})
    return figure


def ec50_of_plates(
    pooled: xr.Dataset, own: Mapping[str, xr.Dataset], *, compound: str, days: Mapping[str, str]
) -> Figure:
    """EC50 of each plate by itself with its interval, in the order of the plates, against that of all together.

    Parameters
    ----------
    pooled, own, compound
        As in `curves_of_plates`.
    days
        Day on which each plate was imaged, shown below its name; a plate may be missing.
    """
    figure = Figure()
    names = list(own)
    fits = [_fit(own[name].sel(readout="death")) for name in names]
    known = [place for place, fit in enumerate(fits) if words.has_ec50(fit)]
    all_together = _fit(pooled.sel(compound=compound, readout="death"))
    if words.has_ec50(all_together):
        low, high = float(all_together["ec50_low"]), float(all_together["ec50_high"])
        if math.isfinite(low) and math.isfinite(high) and low > 0:
            figure.add_hrect(y0=low, y1=high, fillcolor=CURVE, opacity=0.12, line_width=0)
        figure.add_hline(y=float(all_together["ec50"]), line={"color": CURVE, "width": 1.5})
    if known:
        ec50 = np.array([float(fits[place]["ec50"]) for place in known])
        ends = [np.array([float(fits[place][end]) for place in known]) for end in ("ec50_low", "ec50_high")]
        ends = [np.where(np.isfinite(end) & (end > 0), end, np.nan) for end in ends]
        figure.add_scatter(
            x=known, y=ec50, mode="markers", error_y=error_bars(ec50, ends[0], ends[1], INK),
            marker={"size": 10, "color": INK, "symbol": [_look(place)[1] for place in known]}, showlegend=False,
            customdata=[f"{words.in_figure(names[place])}: {words.in_figure(words.concentration(one))}"
                        for place, one in zip(known, ec50, strict=True)],
            hovertemplate="%{customdata}<extra></extra>",
        )  # fmt: skip
    without = [place for place in range(len(names)) if place not in known]
    for place in without:
        figure.add_annotation(x=place, y=0.02, yref="paper", text="no EC50", showarrow=False, textangle=-90,
                              yanchor="bottom", font={"size": 11, "color": QUIET})  # fmt: skip
    labels = [
        words.in_figure(name) + (f"<br>{words.in_figure(days[name])}" if days.get(name) else "") for name in names
    ]
    figure.update_layout(
        template=TEMPLATE,
        height=320,
        xaxis={"tickvals": list(range(len(names))), "ticktext": labels, "range": [-0.6, len(names) - 0.4],
               "automargin": True},
        yaxis={"type": "log", "title": {"text": "EC50 of death (µM)"}, **_ticks([all_together, *fits])},
    )  # fmt: skip
    return figure


def onset_and_rate(kinetics: xr.Dataset, *, compound: str, height: int = 300) -> Figure | None:
    """Onset of death against dose with its interval; None where no dose has one.

    Parameters
    ----------
    kinetics
        The stored `kinetics` of the campaign.
    """
    one = kinetics.sel(compound=compound)
    if "onset_by_dose" not in one:
        return None
    dose, onset, low, high = (
        one[name].values.astype(float)
        for name in ("dose_by_dose", "onset_by_dose", "onset_low_by_dose", "onset_high_by_dose")
    )
    held = np.isfinite(dose) & np.isfinite(onset)
    if not held.any():
        return None
    figure = Figure()
    figure.add_scatter(
        x=dose[held], y=onset[held], mode="lines+markers", line={"color": CURVE, "width": 2}, marker={"size": 8},
        error_y=error_bars(onset[held], low[held], high[held], CURVE), showlegend=False,
        hovertemplate="%{x:.3g} µM: onset at %{y:.3g} h<extra></extra>",
    )  # fmt: skip
    figure.update_layout(
        template=TEMPLATE,
        height=height,
        xaxis={"type": "log", "title": {"text": "dose (µM)"}},
        yaxis={"title": {"text": "onset of death (h)"}, "rangemode": "tozero"},
    )
    return figure


def _look(place: int) -> tuple[str, str]:
    return PLATE_COLOURS[place % len(PLATE_COLOURS)], PLATE_SYMBOLS[place % len(PLATE_SYMBOLS)]


def _ticks(fits: Sequence[Mapping[str, str | float]]) -> dict[str, object]:
    """1, 2 and 5 of every power of ten that the EC50s and their intervals reach."""
    ends = [float(fit[name]) for fit in fits for name in ("ec50", "ec50_low", "ec50_high")]
    held = [end for end in ends if math.isfinite(end) and end > 0]
    if not held:
        return {}
    powers = range(math.floor(math.log10(min(held))), math.ceil(math.log10(max(held))) + 1)
    values = [step * 10.0**power for power in powers for step in ((1, 2, 5) if len(powers) < 5 else (1,))]
    return {"tickvals": values, "ticktext": [words.number(value) for value in values]}


def _fit(one: xr.Dataset) -> dict[str, str | float]:
    return {name: scalar(one, name) for name in ("status", "ec50", "ec50_low", "ec50_high")}


def _add_own(figure: Figure, own: xr.Dataset, colour: str, name: str) -> None:
    death = own.sel(readout="death")
    if not words.has_ec50(_fit(death)):
        return
    figure.add_scatter(
        x=death["curve_dose"].values, y=death["curve"].values, mode="lines", legendgroup=name, showlegend=False,
        line={"color": colour, "width": 1.5, "dash": "dash"}, name=words.in_figure(name),
        hovertemplate=words.in_figure(name) + "<br>%{x:.3g} µM: %{y:.1%}<extra>own curve</extra>",
    )  # fmt: skip
