"""Whole plates at a glance, drawn as SVG by the server: heat maps and small time courses, readable without scripts."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from markupsafe import Markup
from plotly.colors import sample_colorscale

from plates.states import COLOURS, STATES

CELL = 30
HEAD = 18
NUMBERS_UP_TO = 12  # columns; in a denser plate a printed number cannot be read
WELL_WIDTH, WELL_HEIGHT, WELL_GAP = 100, 60, 8


def heat_map(layout: xr.Dataset, values: np.ndarray, *, rows: int, columns: int, label: str) -> Markup:
    """One plate coloured by a fraction of one: missing wells hatched, a ring on vehicle wells, a dot on positive ones.

    Parameters
    ----------
    layout
        The stored `layout` result; its order of wells is the order of `values`.
    values
        One fraction a well, NaN where nothing was measured.
    rows, columns
        Format of the plate. Positions that the plate map does not name are left as faint outlines.
    label
        What the map shows, for those who cannot see it.
    """
    colours = colour_scale()
    at = list(zip(layout["row"].values, layout["column"].values, strict=True))
    parts = [*axes(rows, columns, CELL, CELL), _empty_wells(set(at), rows, columns)]
    numbers, marks = [], []
    for (row, column), value, control in zip(at, thousandths(values), layout["control"].values, strict=True):
        x, y = HEAD + column * CELL, HEAD + row * CELL
        fill = "url(#missing)" if value < 0 else colours[round(value / 10)]
        parts.append(
            f'<rect class="w" x="{x + 1}" y="{y + 1}" width="{CELL - 2}" height="{CELL - 2}" rx="3" fill="{fill}"/>'
        )
        if columns <= NUMBERS_UP_TO:
            ink = "#fff" if round(value / 10) < 55 else "#111"
            text = "" if value < 0 else round(value / 10)
            numbers.append(f'<text class="v" x="{x + CELL // 2}" y="{y + 21}" fill="{ink}">{text}</text>')
        if control == "negative":
            marks.append(
                f'<circle cx="{x + CELL - 6}" cy="{y + 6}" r="2.7" fill="#111" stroke="#fff" stroke-width="1.3"/>'
            )
        elif control == "positive":
            marks.append(
                f'<circle cx="{x + CELL - 6}" cy="{y + 6}" r="3.2" fill="#fff" stroke="#111" stroke-width=".8"/>'
            )
    return svg("plate", HEAD + columns * CELL, HEAD + rows * CELL, label, [*parts, *numbers, *marks])


def small_time_courses(fractions: xr.Dataset, *, rows: int, columns: int, label: str) -> Markup:
    """Every well as a stack of the five states over time; dead states rise from the bottom.

    Timepoints without foreground patches leave a gap. One path a state keeps the page light.
    """
    at = list(zip(fractions["row"].values, fractions["column"].values, strict=True))
    hours = fractions["hours"].values.astype(float)
    span = max(float(hours[-1] - hours[0]), 1e-9)
    times = (hours - hours[0]) / span * WELL_WIDTH if len(hours) > 1 else np.array([0.0])
    levels = np.cumsum(fractions["fraction"].transpose("well", "timepoint", "state").values, axis=2)
    step_x, step_y = WELL_WIDTH + WELL_GAP, WELL_HEIGHT + WELL_GAP
    paths: dict[str, list[str]] = {state: [] for state in STATES}
    boxes = []
    for (row, column), level in zip(at, levels, strict=True):
        x, y = HEAD + column * step_x, HEAD + row * step_y
        boxes.append(f"M{x} {y}h{WELL_WIDTH}v{WELL_HEIGHT}h-{WELL_WIDTH}z")
        for run in _runs(np.isfinite(level[:, 0])):
            for index, state in enumerate(STATES):
                paths[state].append(_area(x, y, times[run], level[run, index]))
    parts = axes(rows, columns, step_x, step_y)
    parts.append(f'<path d="{"".join(boxes)}" fill="url(#missing)" stroke="#c3cad1"/>')
    # painted from the top of the stack down, so that each area may reach to the floor
    parts += [f'<path d="{"".join(paths[state])}" fill="{COLOURS[state]}"/>' for state in reversed(STATES)]
    return svg("courses", HEAD + columns * step_x, HEAD + rows * step_y, label, parts)


def cube(fractions: xr.Dataset) -> dict[str, object]:
    """All panels at all timepoints in thousandths, for the slider and the readout of the page."""
    panels = panel_values(fractions)
    hours = fractions["hours"].values.astype(float)
    return {
        "colours": colour_scale(),
        "panels": list(panels),
        "times": [f"{hour:.4g} h" for hour in hours],
        "values": [[thousandths(column) for column in values.T] for values in panels.values()],
        "wells": [str(well) for well in fractions["well"].values],
    }


def panel_values(fractions: xr.Dataset) -> dict[str, np.ndarray]:
    """What the plate maps show: death, then the five states; each an array (well, timepoint)."""
    panels = {"dead cells": fractions["death"].transpose("well", "timepoint").values}
    for state in STATES:
        panels[state] = fractions["fraction"].sel(state=state).transpose("well", "timepoint").values
    return panels


def colour_scale() -> list[str]:
    """One colour for each whole percent."""
    sampled = sample_colorscale("Cividis", [step / 100 for step in range(101)], colortype="tuple")
    return ["#" + "".join(f"{round(255 * part):02x}" for part in colour) for colour in sampled]


def thousandths(values: Sequence[float] | np.ndarray) -> list[int]:
    """Fractions as whole thousandths, -1 where there is none."""
    return [-1 if np.isnan(value) else int(np.clip(np.rint(value * 1000), 0, 1000)) for value in values]


def row_letters(row: int) -> str:
    """A for the first row, AA for the twenty-seventh."""
    return (chr(64 + row // 26) if row >= 26 else "") + chr(65 + row % 26)


def _area(x: int, y: int, times: np.ndarray, level: np.ndarray) -> str:
    """A path from the floor up to a level; a lone timepoint becomes a block as wide as a well that has only one."""
    if len(times) == 1:
        width = WELL_WIDTH if times[0] == 0 else 4
        times, level = np.array([times[0], min(times[0] + width, WELL_WIDTH)]), np.repeat(level, 2)
    xs = np.rint(x + times).astype(int)
    ys = np.rint(y + WELL_HEIGHT * (1 - np.clip(level, 0, 1))).astype(int)
    floor = y + WELL_HEIGHT
    steps = [f"M{xs[0]} {floor}V{ys[0]}"]
    steps += [f"l{dx} {dy}" for dx, dy in zip(np.diff(xs), np.diff(ys), strict=True)]
    return "".join([*steps, f"V{floor}z"]).replace(" -", "-")


def _runs(valid: np.ndarray) -> list[slice]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], valid, [False]]).astype(int)))
    return [slice(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def axes(rows: int, columns: int, step_x: int, step_y: int) -> list[str]:
    """Letters of the rows and numbers of the columns, as elements of an SVG picture."""
    names = [
        f'<text class="a" x="{HEAD + (column + 0.5) * step_x:g}" y="{HEAD - 5}">{column + 1}</text>'
        for column in range(columns)
    ]
    names += [
        f'<text class="a" x="{HEAD / 2:g}" y="{HEAD + (row + 0.5) * step_y + 4:g}">{row_letters(row)}</text>'
        for row in range(rows)
    ]
    return names


def _empty_wells(named: set[tuple[int, int]], rows: int, columns: int) -> str:
    path = "".join(
        f"M{HEAD + column * CELL + 2} {HEAD + row * CELL + 2}h{CELL - 4}v{CELL - 4}h-{CELL - 4}z"
        for row in range(rows)
        for column in range(columns)
        if (row, column) not in named
    )
    return f'<path d="{path}" fill="none" stroke="#dfe3e8"/>'


def svg(kind: str, width: int, height: int, label: str, parts: list[str]) -> Markup:
    """A picture from its parts, which must be numbers, letters of wells and our own words."""
    head = Markup('<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(kind, width, height, label)
    # all text below is numbers, well letters and our own words
    return head + Markup("".join(parts)) + Markup("</svg>")
