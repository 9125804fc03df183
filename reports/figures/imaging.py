"""Whether place or the order of imaging tells what a well shows, and which fields are worth a second look."""

import math

import numpy as np
import xarray as xr

from plates.layout.roles import is_masked
from plates.states import COLOURS

from .. import words
from .looks import CURVE, GRID, HIGH_LEGEND, PERCENT_AXIS, QUIET, TEMPLATE, VEHICLE, left_out_look, say, scalar
from .showing import Figure

NANOSECONDS_A_MINUTE = 60e9


def rows_and_columns(
    fractions: xr.Dataset, *, timepoint: int, spatial: xr.Dataset | None = None, height: int = 300
) -> Figure:
    """Death by row and by column: box and points of the vehicle wells, which should be equal; other wells in grey.

    Wells that were left out are crosses, and belong to no box.

    Parameters
    ----------
    fractions
        The stored `fractions` result, with `row` and `column` of each well, from 0.
    timepoint
        Position of the timepoint.
    spatial
        The stored `spatial` result, whose test is told in words; nothing is told without it.
    """
    death = fractions["death"].isel(timepoint=timepoint).values.astype(float)
    left_out = is_masked(fractions)
    vehicle = (fractions["control"].values == "negative") & ~left_out
    other = ~vehicle & ~left_out
    names = fractions["well"].values
    figure = Figure()
    for number, axis in enumerate(("row", "column"), start=1):
        place = fractions[axis].values.astype(int)
        where = {"xaxis": f"x{number if number > 1 else ''}", "yaxis": "y", "showlegend": False}
        figure.add_scatter(
            x=place[other], y=death[other], mode="markers", customdata=names[other], opacity=0.45,
            marker={"size": 5, "color": VEHICLE}, hovertemplate="%{customdata}: %{y:.1%} dead<extra></extra>",
            name="other wells", **where | {"showlegend": number == 1},
        )  # fmt: skip
        if left_out.any():
            figure.add_scatter(
                x=place[left_out], y=death[left_out], mode="markers", customdata=names[left_out],
                marker=left_out_look(7), hovertemplate="%{customdata}: %{y:.1%} dead, left out<extra></extra>",
                name="left out", **where | {"showlegend": number == 1},
            )  # fmt: skip
        figure.add_box(
            x=place[vehicle], y=death[vehicle], boxpoints="all", pointpos=0, jitter=0.4, customdata=names[vehicle],
            width=0.7, line={"color": CURVE, "width": 1.2}, fillcolor="rgba(11,60,93,0.10)",
            marker={"size": 7, "color": CURVE, "symbol": "diamond"}, name="vehicle",
            hovertemplate="%{customdata}: %{y:.1%} dead<extra></extra>", **where | {"showlegend": number == 1},
        )  # fmt: skip
    if spatial is not None:
        say(figure, _place_told(spatial.isel(timepoint=timepoint).sel(readout="death")))
    rows, columns = (np.unique(fractions[name].values.astype(int)) for name in ("row", "column"))
    # so many labels as a phone has room for
    rows, columns = rows[:: math.ceil(len(rows) / 8)], columns[:: math.ceil(len(columns) / 6)]
    figure.update_layout(
        template=TEMPLATE,
        height=height,
        **HIGH_LEGEND,
        xaxis={"domain": [0, 0.42], "title": {"text": "row"}, "tickvals": rows.tolist(), "tickangle": 0,
               "ticktext": [_row_letters(row) for row in rows]},
        xaxis2={"domain": [0.48, 1], "title": {"text": "column"}, "tickvals": columns.tolist(), "anchor": "y",
                "ticktext": [str(column + 1) for column in columns], "tickangle": 0, "showline": True,
                "linecolor": QUIET},
        yaxis={**PERCENT_AXIS, "title": {"text": "dead cells"}},
    )  # fmt: skip
    return figure


def imaging_order(
    fractions: xr.Dataset,
    fields: xr.Dataset,
    *,
    timepoint: int,
    quantity: str = "death",
    drift: xr.Dataset | None = None,
    height: int = 300,
) -> Figure:
    """A quantity against the time at which it was imaged within one timepoint; vehicle wells stand out.

    Wells that were left out are crosses.

    Parameters
    ----------
    fractions, fields
        The stored results; `fields` holds the time of each frame, which not every instrument writes.
    quantity
        "death", a point a well at the time of its first field, or a variable of `fields` such as "focus" or
        "medium_index", a point a field.
    drift
        The stored `drift` result, whose test of the vehicle wells is told in words.
    """
    fields = fields.reindex(well=fractions["well"].values).isel(timepoint=timepoint)
    figure = Figure()
    title = quantity.replace("_", " ")
    if "acquired" not in fields or np.isnat(taken := fields["acquired"].transpose("well", "field").values).all():
        say(figure, "The times of imaging are not known.")
    else:
        minutes = (taken - taken[~np.isnat(taken)].min()).astype("timedelta64[ns]").astype(float) / NANOSECONDS_A_MINUTE
        minutes[np.isnat(taken)] = np.nan
        if quantity == "death":
            minutes, values = minutes[:, :1], fractions["death"].isel(timepoint=timepoint).values[:, None]
        else:
            values = fields[quantity].transpose("well", "field").values.astype(float)
            if quantity == "medium_index" and np.isfinite(values).any():
                # an index near 1.337 would be cut to one line by the digits that pages keep
                middle = float(np.nanmedian(values))
                values, title = values - middle, f"medium index - {words.number(middle, 5)}"
        left_out = is_masked(fractions)
        vehicle = (fractions["control"].values == "negative") & ~left_out
        for chosen, name, look in (
            (~vehicle & ~left_out, "other wells", {"size": 6, "color": VEHICLE}),
            (vehicle, "vehicle", {"size": 9, "color": CURVE, "symbol": "diamond"}),
            (left_out, "left out", left_out_look(8)),
        ):
            if name == "left out" and not chosen.any():
                continue
            names = np.repeat(fractions["well"].values[chosen], values.shape[1])
            figure.add_scatter(
                x=minutes[chosen].ravel(), y=values[chosen].astype(float).ravel(), mode="markers", customdata=names,
                marker=look, name=name, opacity=0.9,
                hovertemplate="%{customdata}, %{x:.3g} min: %{y:.4g}<extra></extra>",
            )  # fmt: skip
        if drift is not None and quantity in drift["quantity"].values and "p" in drift:
            say(figure, _drift_told(drift.sel(quantity=quantity).isel(timepoint=timepoint)))
    axis = (
        {**PERCENT_AXIS, "title": {"text": "dead cells"}}
        if quantity == "death"
        else {"title": {"text": title}, "exponentformat": "power"}
    )
    figure.update_layout(
        template=TEMPLATE,
        height=height,
        **HIGH_LEGEND,
        xaxis={"title": {"text": "minutes since this timepoint began"}},
        yaxis=axis,
    )
    return figure


def field_quality(quality: xr.Dataset, *, quantity: str = "focus_z", height: int = 300) -> Figure:
    """How a quantity of the fields spreads at each timepoint, and every field that is proposed to be left out.

    Boxes hold the middle half of the fields, their whiskers the middle 90 %.

    Parameters
    ----------
    quality
        The stored `field_quality` result.
    quantity
        One of its numbers, such as "focus_z", "medium_difference", "foreground" or "outlier_share".
    """
    dims = ("well", "field", "timepoint")
    values = quality[quantity].transpose(*dims).values.astype(float)
    proposed = quality["proposed"].transpose(*dims).values.astype(bool)
    times = quality["timepoint"].values
    figure = Figure()
    held = [values[..., t][np.isfinite(values[..., t])] for t in range(len(times))]
    known = [t for t, one in enumerate(held) if len(one)]
    if known:
        low, first, middle, third, high = np.array(
            [np.quantile(held[t], (0.05, 0.25, 0.5, 0.75, 0.95)) for t in known]
        ).T
        figure.add_box(
            x=times[known], lowerfence=low, q1=first, median=middle, q3=third, upperfence=high, name="all fields",
            line={"color": CURVE, "width": 1.2}, fillcolor="rgba(11,60,93,0.10)", hoverinfo="y",
        )  # fmt: skip
    wells, places, frames = np.nonzero(proposed & np.isfinite(values))
    told = [
        f"{quality['well'].values[w]}, field {quality['field'].values[f]}: {words.in_figure(reason)}"
        for w, f, reason in zip(
            wells, places, quality["reason"].transpose(*dims).values[wells, places, frames], strict=True
        )
    ]
    figure.add_scatter(
        x=times[frames], y=values[wells, places, frames], mode="markers", name="proposed to be left out",
        customdata=told, marker={"symbol": "x", "size": 8, "color": COLOURS["necroptosis"]},
        hovertemplate="%{customdata}<br>%{y:.3g}<extra></extra>",
    )  # fmt: skip
    absent = int((proposed & ~np.isfinite(values)).sum())
    say(
        figure,
        f"{int(proposed.sum())} of {proposed.size} proposed" + (f", {absent} without a number" if absent else ""),
    )
    figure.update_layout(
        template=TEMPLATE,
        height=height,
        **HIGH_LEGEND,
        xaxis={"title": {"text": "timepoint"}, "tickvals": times.tolist()},
        yaxis={"title": {"text": quantity.replace("_", " ")}, "zeroline": True, "zerolinecolor": GRID},
    )
    return figure


def _place_told(death: xr.Dataset) -> str:
    test, p, effect = scalar(death, "test"), float(scalar(death, "p")), float(scalar(death, "effect"))
    if not test or math.isnan(p):
        return "vehicle wells too few for a test of place"
    by = words.percent(effect, 1)
    return f"vehicle wells: strongest pattern is {test}, death varies by {by}, p {words.number(p, 2)}"


def _drift_told(one: xr.Dataset) -> str:
    rho, p, count = (float(scalar(one, name)) for name in ("spearman", "p", "n"))
    if math.isnan(p):
        return "vehicle wells too few for a test of order"
    return f"{count:.0f} vehicle wells: rank correlation {words.number(rho, 2)}, p {words.number(p, 2)}"


def _row_letters(row: int) -> str:
    """0 -> A, 26 -> AA, as plates of 1536 wells go on."""
    return chr(65 + row) if row < 26 else _row_letters(row // 26 - 1) + chr(65 + row % 26)
