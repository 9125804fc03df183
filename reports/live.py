"""The page of plates that are being acquired: what is known by now, what is under way, what waits and why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jinja2 import Environment
from markupsafe import Markup, escape

from plates.states import DEAD, STATES

from . import plate_maps, words
from .alerts import Alert, by_weight
from .page import content_hash, environment, static_text, write_text
from .state_looks import state_looks

CLEARLY_DEAD = 0.1  # share of dead cells from which a well's pathway is named
_CELL, _HEAD = plate_maps.CELL, plate_maps.HEAD


@dataclass(frozen=True)
class LiveFrame:
    """A frame that was finished, or looked at first: when (as shown), where, how long it took, what it says."""

    at: str
    plate: str
    well: str
    field: int
    timepoint: int
    death: float
    pathway: str
    lag_s: float
    provisional: bool


@dataclass(frozen=True)
class LiveFile:
    """A file that waits: its name from the folder of acquisitions, since when (as shown), and why."""

    name: str
    since: str
    why: str


@dataclass(frozen=True)
class LivePlate:
    """One plate by now.

    Attributes
    ----------
    fractions
        (well, timepoint, state) `fraction`; (well, timepoint) `death`, `provisional`; coordinates of the plate map
        (row, column, control, compound, dose) and `hours`. None where nothing is known yet.
    rows, columns
        Format of the plate.
    converted, classified, queued, planned
        Frames; planned are those that the files announce.
    wells, wells_imaged
        Wells of the plate map; those of which a file landed.
    note
        What else is to be known, such as that it is done at the end.
    plate_map
        Its name and the beginning of its SHA-256.
    """

    name: str
    fractions: xr.Dataset | None
    rows: int
    columns: int
    converted: int
    classified: int
    queued: int
    planned: int
    wells: int
    wells_imaged: int
    waiting: Sequence[LiveFile] = ()
    note: str = ""
    plate_map: str = ""


@dataclass(frozen=True)
class LiveLag:
    """One part of the way of a frame: median and 95th percentile in seconds; NaN where no frame counts."""

    stage: str
    p50: float
    p95: float


@dataclass(frozen=True)
class LiveView:
    """All that the page shows.

    Attributes
    ----------
    state
        "watching", "finishing", "finished" or "stopped".
    at
        When it was so, as shown.
    classifier
        Its name, the beginning of its hash and its calibration.
    version
        Of tomoscreen.
    reports
        Names of pages beside this one that can be opened now.
    """

    campaign: str
    state: str
    at: str
    classifier: str
    plates: Sequence[LivePlate]
    lag: Sequence[LiveLag]
    lag_frames: int
    frames: Sequence[LiveFrame]
    alerts: Sequence[Alert] = ()
    reports: Sequence[str] = ()
    version: str = ""


def write_live_page(view: LiveView, *, out: Path, refresh_s: int) -> Path:
    """Write the page whole, in one step; while the watch goes on a browser reads it again every so many seconds."""
    write_text(out, live_page(view, refresh_s=refresh_s))
    return out


def live_page(view: LiveView, *, refresh_s: int, served: bool = False) -> str:
    """The page as HTML that fetches nothing.

    Parameters
    ----------
    refresh_s
        Seconds after which a browser reads it again, as long as the watch goes on and the reader does not hold it.
    served
        Whether a server sends the parts that change: then only a browser without scripts reads it again.
    """
    refreshed = refresh_s if view.state in ("watching", "finishing") else 0
    # a page that a browser reads anew without being asked has to offer a way to stop that
    script = static_text("live.js") if served else static_text("live_file.js") if refreshed else ""
    style = static_text("report.css") + static_text("live.css")
    policy = [
        "default-src 'none'",
        f"script-src {content_hash(script.encode())}" if script else "script-src 'none'",
        f"style-src {content_hash(style.encode())}",
        "connect-src 'self'" if served else "connect-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    template = _templates().get_template("live.html")
    return template.render(
        **_context(view),
        served=served,
        refresh_s=refreshed,
        policy="; ".join(policy),
        script=Markup(script),
        style=Markup(style),
    )


def live_parts(view: LiveView) -> dict[str, str]:
    """The parts of the page that change, by the identifier of their element."""
    module = _templates().get_template("live_parts.html").make_module(_context(view))
    shown: dict[str, str] = {name: str(getattr(module, name)()) for name in ("status", "sections")}
    return shown


@lru_cache(maxsize=1)
def _templates() -> Environment:
    """The templates, compiled once: the page is written every few seconds."""
    return environment()


def _context(view: LiveView) -> dict[str, Any]:
    return {
        "view": view,
        "alerts": by_weight(list(view.alerts)),
        "plates": [_plate(plate) for plate in view.plates],
        "lag": [lag for lag in view.lag if math.isfinite(lag.p50)],
        "chips": dict(zip(STATES, state_looks(STATES), strict=True)),
        "scale": plate_maps.colour_scale()[::4],
    }


def _plate(plate: LivePlate) -> dict[str, Any]:
    drawn: dict[str, Any] = {"plate": plate, "death": None, "pathways": None, "courses": None}
    if plate.fractions is None:
        return drawn
    fractions, name = plate.fractions, words.plain(plate.name)
    last = _last(fractions["death"].values)
    at_last = np.take_along_axis(fractions["death"].values, last[:, None], axis=1)[:, 0]
    drawn["death"] = plate_maps.heat_map(
        fractions.coords.to_dataset().reset_coords(), at_last, label=f"Dead cells in every well of {name}, last frame.",
        rows=plate.rows, columns=plate.columns,
    )  # fmt: skip
    drawn["pathways"] = pathway_map(
        fractions,
        label=f"Dominant pathway in every well of {name}, last frame.",
        rows=plate.rows,
        columns=plate.columns,
    )
    if fractions.sizes["timepoint"] > 1:
        drawn["courses"] = plate_maps.small_time_courses(
            fractions,
            label=f"The five states of each well of {name} over time.",
            rows=plate.rows,
            columns=plate.columns,
        )
    return drawn


def pathway_map(fractions: xr.Dataset, *, rows: int, columns: int, label: str) -> Markup:
    """One plate with the pathway that kills most in each well, by colour and letter, at its last frame.

    Where fewer cells are dead than `CLEARLY_DEAD` the larger of the two live states is shown. A first look has a
    dashed outline. Pointing at a well tells its content in words.
    """
    looks = dict(zip(STATES, state_looks(STATES), strict=True))
    death = fractions["death"].values
    shares = fractions["fraction"].transpose("well", "timepoint", "state").values
    last = _last(death)
    parts = plate_maps.axes(rows, columns, _CELL, _CELL)
    for index, (row, column) in enumerate(zip(fractions["row"].values, fractions["column"].values, strict=True)):
        x, y = _HEAD + int(column) * _CELL, _HEAD + int(row) * _CELL
        dead, share = float(death[index, last[index]]), shares[index, last[index]]
        title = _title(fractions, index, last[index], dead)
        box = f'x="{x + 1}" y="{y + 1}" width="{_CELL - 2}" height="{_CELL - 2}" rx="3"'
        if math.isnan(dead):
            parts.append(f'<rect class="w" {box} fill="url(#missing)"><title>{title}</title></rect>')
            continue
        look = looks[pathway_of(share, dead)]
        first = bool(fractions["provisional"].values[index, last[index]])
        outline = ' stroke="#111" stroke-width="2" stroke-dasharray="4 3"' if first else ""
        parts.append(f'<rect class="w" {box} fill="{look.colour}"{outline}><title>{title}</title></rect>')
        parts.append(f'<text class="v" x="{x + _CELL // 2}" y="{y + 20}" fill="{look.ink}">{look.letter}</text>')
    return plate_maps.svg("plate", _HEAD + columns * _CELL, _HEAD + rows * _CELL, label, parts)


def pathway_of(share: np.ndarray, death: float) -> str:
    """State that stands for a well: its largest pathway where cells are clearly dead, else its larger live state."""
    names = DEAD if death >= CLEARLY_DEAD else STATES[len(DEAD) :]
    return max(names, key=lambda state: float(share[STATES.index(state)]))


def _title(fractions: xr.Dataset, index: int, timepoint: int, dead: float) -> Markup:
    well = fractions.isel(well=index)
    content = words.plain(well["compound"].item())
    dose = float(well["dose"].item())
    if math.isfinite(dose):
        content += f" {words.concentration(dose)}"
    said = f"{words.percent(dead)} dead at {words.hours(float(fractions['hours'].values[timepoint]))}"
    first = ", a first look" if bool(well["provisional"].values[timepoint]) else ""
    return escape(f"{well['well'].item()}: {content}, {'no frame yet' if math.isnan(dead) else said + first}")


def _last(death: np.ndarray) -> np.ndarray:
    """Last timepoint of each well that has a number; 0 where none has."""
    known = np.isfinite(death)
    last: np.ndarray = np.where(known.any(axis=1), death.shape[1] - 1 - known[:, ::-1].argmax(axis=1), 0)
    return last
