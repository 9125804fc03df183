"""Whole plates at a glance, drawn as SVG by the server: heat maps and small time courses, readable without scripts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from markupsafe import Markup
from plotly.colors import sample_colorscale

from plates.layout.roles import is_masked
from plates.states import COLOURS, STATES

from . import words

CELL = 30
HEAD = 18
NUMBERS_UP_TO = 12  # columns; in a denser plate a printed number cannot be read
WELL_WIDTH, WELL_HEIGHT, WELL_GAP = 100, 60, 8
STEPS = 50  # colours of a scale but one: wells of one colour are one path, which keeps a page light
MISSING = "url(#missing)"
DARK, LIGHT = "#111", "#fff"


@dataclass(frozen=True)
class Scale:
    """How a quantity is written and coloured: a whole number stored is `factor` of the `unit`.

    `low` and `high` are where the colours end, in units. `categories` are (letter, name, colour) where the stored
    number is the place in them.
    """

    low: float = 0.0
    high: float = 100.0
    factor: float = 0.1
    unit: str = "%"
    digits: int = 1
    categories: tuple[tuple[str, str, str], ...] = field(default=())

    def told(self, stored: int) -> str:
        """A stored number in words."""
        if stored < 0:
            return "not measured"
        if self.categories:
            return self.categories[stored][1]
        return f"{stored * self.factor:.{self.digits}f} {self.unit}".strip()

    def ends(self) -> tuple[str, str]:
        """Both ends of the colours in words."""
        return words.number(self.low), f"{words.number(self.high)} {self.unit}".strip()

    def step(self, stored: int) -> int:
        """Which colour a stored number has."""
        return int(np.clip(round((stored * self.factor - self.low) / (self.high - self.low) * STEPS), 0, STEPS))


SHARE = Scale()


def heat_map(
    layout: xr.Dataset, values: np.ndarray, *, rows: int, columns: int, label: str, scale: Scale | None = None
) -> Markup:
    """One plate coloured by a number a well: missing wells hatched, a black dot on vehicle wells, a white on positive.

    Excluded wells are crossed out; their number is shown, but no statistic saw it.

    Parameters
    ----------
    layout
        The stored `layout` result; its order of wells is the order of `values`.
    values
        One fraction a well, NaN where nothing was measured; with `scale`, its whole numbers, -1 where there is none.
    rows, columns
        Format of the plate. Positions that the plate map does not name are left as faint outlines.
    label
        What the map shows, for those who cannot see it.
    """
    stored = thousandths(values) if scale is None else [int(value) for value in values]
    scale = scale or SHARE
    at = list(zip(layout["row"].values.tolist(), layout["column"].values.tolist(), strict=True))
    colours = colour_scale()[::2]
    fills: dict[str, list[str]] = {}
    numbers = []
    for (row, column), value in zip(at, stored, strict=True):
        x, y = HEAD + column * CELL + CELL // 2, HEAD + row * CELL + CELL // 2
        fill, ink, text = _look(value, scale, colours)
        # a point with square line ends is a square: a third of the letters of its outline
        fills.setdefault(fill, []).append(f"M{x} {y}h0")
        if text and (columns <= NUMBERS_UP_TO or scale.categories):
            numbers.append((x, y + 6, ink, text))
    parts = axes(rows, columns, CELL, CELL)
    parts.append(_empty_wells(set(at), rows, columns))
    parts.append('<g class="fills">')
    parts += [f'<path stroke="{fill}" d="{"".join(path)}"/>' for fill, path in sorted(fills.items())]
    parts.append('</g><g class="numbers">')
    # a letter each for a whole kind of wells is one element, a number needs its own
    for ink in (LIGHT, DARK):
        mine = [(x, y, text) for x, y, its, text in numbers if its == ink]
        if scale.categories and mine:
            xs, ys = (" ".join(str(entry[axis]) for entry in mine) for axis in (0, 1))
            parts.append(f'<text class="v" x="{xs}" y="{ys}" fill="{ink}">{"".join(entry[2] for entry in mine)}</text>')
        elif mine:
            parts += [f'<text class="v" x="{x}" y="{y}" fill="{ink}">{text}</text>' for x, y, text in mine]
    parts += ["</g>", *_marks(layout, at)]
    return svg("plate", HEAD + columns * CELL, HEAD + rows * CELL, label, parts)


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
    boxes, crosses = [], []
    for (row, column), level, out in zip(at, levels, is_masked(fractions), strict=True):
        x, y = HEAD + column * step_x, HEAD + row * step_y
        boxes.append(f"M{x} {y}h{WELL_WIDTH}v{WELL_HEIGHT}h-{WELL_WIDTH}z")
        if out:
            crosses.append(f"M{x} {y}l{WELL_WIDTH} {WELL_HEIGHT}m-{WELL_WIDTH} 0l{WELL_WIDTH}-{WELL_HEIGHT}")
        for run in _runs(np.isfinite(level[:, 0])):
            for index, state in enumerate(STATES):
                paths[state].append(_area(x, y, times[run], level[run, index]))
    parts = axes(rows, columns, step_x, step_y)
    parts.append(f'<path d="{"".join(boxes)}" fill="{MISSING}" stroke="#c3cad1"/>')
    # painted from the top of the stack down, so that each area may reach to the floor
    parts += [f'<path d="{"".join(paths[state])}" fill="{COLOURS[state]}"/>' for state in reversed(STATES)]
    if crosses:
        parts.append(f'<path d="{"".join(crosses)}" stroke="#fff" stroke-width="5"/>')
        parts.append(f'<path d="{"".join(crosses)}" stroke="#9c2f00" stroke-width="2"/>')
    return svg("courses", HEAD + columns * step_x, HEAD + rows * step_y, label, parts)


def colour_scale() -> list[str]:
    """One colour for each whole percent."""
    sampled = sample_colorscale("Cividis", [step / 100 for step in range(101)], colortype="tuple")
    return ["#" + "".join(f"{round(255 * part):02x}" for part in colour) for colour in sampled]


def thousandths(values: Sequence[float] | np.ndarray) -> list[int]:
    """Fractions as whole thousandths, -1 where there is none."""
    clipped = np.clip(np.rint(np.nan_to_num(np.asarray(values, dtype=float), nan=-1.0) * 1000), -1, 1000)
    whole: list[int] = np.where(np.isnan(values), -1, np.maximum(clipped, 0)).astype(int).tolist()
    return whole


def row_letters(row: int) -> str:
    """A for the first row, AA for the twenty-seventh."""
    return (chr(64 + row // 26) if row >= 26 else "") + chr(65 + row % 26)


def _look(stored: int, scale: Scale, colours: Sequence[str]) -> tuple[str, str, str]:
    """Colour, ink and text of a well."""
    if stored < 0:
        return MISSING, DARK, ""
    if scale.categories:
        letter, name, colour = scale.categories[stored]
        return colour, LIGHT if words.LETTER_INKS.get(name) == "#ffffff" else DARK, letter
    step = scale.step(stored)
    # halves go up, as in the page's script
    return colours[step], LIGHT if step < 28 else DARK, str(math.floor(stored * scale.factor + 0.5))


def _marks(layout: xr.Dataset, at: Sequence[tuple[int, int]]) -> list[str]:
    """Dots of the controls and crosses of the excluded wells, one element a kind: round line ends are the dots."""
    control, out = layout["control"].values, is_masked(layout)
    parts = []
    for kind, ring, dot in (("negative", LIGHT, DARK), ("positive", DARK, LIGHT)):
        path = "".join(
            f"M{HEAD + column * CELL + CELL - 6} {HEAD + row * CELL + 6}h0"
            for (row, column), its, left in zip(at, control, out, strict=True)
            if its == kind and not left
        )
        if path:
            parts.append(f'<path class="dot" d="{path}" stroke="{ring}" stroke-width="8"/>')
            parts.append(f'<path class="dot {kind}" d="{path}" stroke="{dot}" stroke-width="5.4"/>')
    crossed = "".join(
        f"M{HEAD + column * CELL + 3} {HEAD + row * CELL + 3}l{CELL - 6} {CELL - 6}m0-{CELL - 6}l-{CELL - 6} {CELL - 6}"
        for (row, column), left in zip(at, out, strict=True)
        if left
    )
    if crossed:
        parts.append(f'<path class="out" d="{crossed}" stroke="#fff" stroke-width="4.4"/>')
        parts.append(f'<path class="out" d="{crossed}" stroke="#9c2f00" stroke-width="2.2"/>')
    return parts


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
