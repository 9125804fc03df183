"""The contact sheet of an annotation: its gates, what was decided, and patches of every state to check by eye."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup
from PIL import Image

from plates.annotation.channels import SPELLED, STAINS
from plates.annotation.gates import GATED, Gates
from plates.annotation.measure import PlateMarkers
from plates.annotation.rule import UNDECIDED
from plates.counts import COUNTS_PER_INDEX
from plates.errors import StoreError
from plates.patches import PATCH_PX, UM_PER_PX
from plates.results import read_result, result_attributes
from plates.states import COLOURS, STATES
from plates.store import Plate

from . import words
from .alerts import Alert
from .figures import GRID, QUIET, TEMPLATE, VEHICLE
from .overlay import INDEX_HIGH, INDEX_LOW, QUALITY
from .page import Page, relative_link

PER_STATE = 20
PER_REASON = 5
IN_ROW = 5
TILE_PX = 128  # a patch of 25.6 um on the sheet
GAP_PX, LINE_PX = 12, 15
DARKEST = 1.0  # light drawn at the left end of the logarithmic axes; what is less is drawn there
SCATTERED = 4000  # most cells of the scatter plot
OTHERS = "#56B4E9"
TREATED = "#1b2733"
# blue, green, red as on the microscope's screen; the numbers below each patch say the same
LIGHTS = {"hoechst": (0.25, 0.45, 1.0), "annexin_v": (0.2, 1.0, 0.2), "pi": (1.0, 0.2, 0.2)}


def write_annotation_page(
    plate: Plate,
    *,
    out: Path,
    table: pd.DataFrame,
    markers: PlateMarkers,
    gates: Mapping[str, Gates],
    csv: Path | None,
    warnings: Sequence[str] = (),
    per_state: int = PER_STATE,
    seed: int = 0,
) -> Path:
    """Write the page of an annotation; equal inputs give equal bytes.

    Parameters
    ----------
    table
        As `plates.annotation.rule.apply_rule` gives it, corrections included.
    csv
        The table's file, to be linked; None where none was written.
    warnings
        What is wrong with the annotation, a sentence each.
    per_state
        Patches shown of each state, drawn at random and spread over the wells.
    """
    page = Page(out)
    channels = dict(markers.channels)
    pictures = _Pictures(plate, channels, gates)
    groups = _groups(markers)
    sheets = []
    for state in (*STATES, UNDECIDED):
        rows = table[table["state"] == state]
        kinds = [("", rows, per_state)] if state != UNDECIDED else []
        if state == UNDECIDED:
            kinds = [(str(rule), rows[rows["rule"] == rule], PER_REASON) for rule in rows["rule"].value_counts().index]
        for rule, own, most in kinds:
            if len(own):
                shown = sample(own, most, seed=seed)
                sheets.append(
                    {
                        "state": state,
                        "rule": rule,
                        "patches": len(own),
                        "wells": own["well"].nunique(),
                        "drawing": pictures.sheet(shown, label=f"{len(shown)} patches: {rule or state}"),
                        "rows": [_row(one, markers.hours) for one in shown.to_dict("records")],
                    }
                )
    histograms = [
        (SPELLED[marker], page.figure(gate_histogram(groups, marker, gates[marker]), label=_gate_text(marker, gates)))
        for marker in GATED
        if np.isfinite(markers.cells[marker]).any()
    ]
    scatter = ""
    if np.isfinite(markers.cells[list(GATED)]).all(axis=1).any():
        figure = marker_scatter(groups, gates, seed=seed)
        scatter = page.figure(figure, label="Annexin V against PI of every cell, by what is in its well")
    layout = result_attributes(plate.path, "layout")
    alerts = [Alert("warning", text, "gates") for text in (*warnings, *markers.notes)]
    return page.write(
        "annotation.html",
        plate=plate.name,
        layout={key: str(layout.get(key, "")) for key in ("source", "sha256")},
        alerts=alerts,
        csv=None if csv is None else Markup('<a href="{}">{}</a>').format(relative_link(csv, start=out), csv.name),
        states=(*STATES, UNDECIDED),
        total=len(table),
        decided=int((table["state"] != UNDECIDED).sum()),
        by_hand=int(table["rule"].str.startswith("by ").sum()),
        gates=[_gate_row(marker, gates[marker], plate.hours) for marker in GATED],
        channels=[(SPELLED[stain], channels.get(stain, "")) for stain in STAINS],
        histograms=histograms,
        scatter=scatter,
        reasons=list(table.loc[table["state"] == UNDECIDED, "rule"].value_counts().items()),
        by_time=_counted(table, "timepoint", [f"{hours:g} h" for hours in markers.hours]),
        by_well=_counted(table, "well", None),
        sheets=sheets,
    )


def sample(rows: pd.DataFrame, most: int, *, seed: int) -> pd.DataFrame:
    """Rows at random, one from each well before a second from any."""
    rng = np.random.default_rng(seed)
    shuffled = rows.iloc[rng.permutation(len(rows))]
    turn = shuffled.groupby("well").cumcount()
    return shuffled.iloc[np.argsort(turn.to_numpy(), kind="stable")[:most]]


def gate_histogram(groups: Mapping[str, tuple[str, pd.DataFrame]], marker: str, gates: Gates) -> go.Figure:
    """Share of the cells of each kind of well by their light on a logarithmic axis, with the gate.

    Parameters
    ----------
    groups
        Kind of well -> colour and its cells.
    """
    values = {name: one[marker].dropna().to_numpy(float) for name, (_, one) in groups.items()}
    top = max((cells.max() for cells in values.values() if len(cells)), default=10.0)
    # an empty bin on either side: bars are drawn between the middles of bins, and the outermost would be cut in half
    edges = np.geomspace(DARKEST / 1.3, max(top, 10 * DARKEST) * 1.3, 49)
    figure = go.Figure()
    for name, (colour, _) in groups.items():
        if len(values[name]):
            share = np.histogram(np.maximum(values[name], DARKEST), edges)[0] / len(values[name])
            figure.add_scatter(
                x=np.sqrt(edges[:-1] * edges[1:]), y=share, mode="lines", line={"color": colour, "shape": "hvh"},
                name=f"{words.in_figure(name)} ({len(values[name])})",
                hovertemplate="%{x:.3g}: %{y:.1%}<extra>" + words.in_figure(name) + "</extra>",
            )  # fmt: skip
    for gate in dict.fromkeys([*gates.at.values()] or ([gates.plate] if gates.plate else [])):
        _add_gate(figure, gate.low, gate.high, across="x")
    title = f"{SPELLED[marker]} (camera units)"
    figure.update_layout(
        template=TEMPLATE, height=400, margin={"t": 60},
        xaxis={"type": "log", "dtick": 1, "title": {"text": title}},
        yaxis={"tickformat": ".0%", "title": {"text": "share of cells"}},
    )  # fmt: skip
    return figure


def marker_scatter(
    groups: Mapping[str, tuple[str, pd.DataFrame]], gates: Mapping[str, Gates], *, seed: int
) -> go.Figure:
    """Annexin V against PI, a point a cell, with the gates; of very many cells a random part."""
    rng = np.random.default_rng(seed)
    total = sum(len(cells) for _, cells in groups.values())
    figure = go.Figure()
    for name, (colour, cells) in groups.items():
        seen = cells[np.isfinite(cells[list(GATED)]).all(axis=1)]
        kept = seen.iloc[np.sort(rng.permutation(len(seen))[: round(len(seen) * min(1.0, SCATTERED / max(total, 1)))])]
        figure.add_scatter(
            x=np.maximum(kept["annexin_v"], DARKEST), y=np.maximum(kept["pi"], DARKEST), mode="markers",
            marker={"color": colour, "size": 5, "opacity": 0.6}, name=words.in_figure(name),
            customdata=kept["well"], hovertemplate="%{customdata}: annexin V %{x:.3g}, PI %{y:.3g}<extra></extra>",
        )  # fmt: skip
    for marker, across in (("annexin_v", "x"), ("pi", "y")):
        one = gates[marker]
        for gate in dict.fromkeys([*one.at.values()] or ([one.plate] if one.plate else [])):
            _add_gate(figure, gate.low, gate.high, across=across)
    figure.update_layout(
        template=TEMPLATE, height=400, showlegend=False,
        xaxis={"type": "log", "dtick": 1, "title": {"text": "annexin V (camera units)"}},
        yaxis={"type": "log", "dtick": 1, "title": {"text": "PI (camera units)"},
               "gridcolor": GRID},
    )  # fmt: skip
    return figure


def _add_gate(figure: go.Figure, low: float, high: float, *, across: str) -> None:
    if high > low:
        add = figure.add_vrect if across == "x" else figure.add_hrect
        ends = {f"{across}0": low, f"{across}1": high}
        add(**ends, fillcolor=QUIET, opacity=0.18, line_width=0)
    else:
        line = figure.add_vline if across == "x" else figure.add_hline
        line(**{across: low}, line={"color": QUIET, "width": 1.5})


def _groups(markers: PlateMarkers) -> dict[str, tuple[str, pd.DataFrame]]:
    """Kind of well -> its colour and cells: vehicle, each inducer, other treated wells."""
    wells = markers.wells
    groups = {}
    kinds = [("vehicle", VEHICLE, wells["role"] == "negative")]
    for inducer in sorted(set(wells.loc[wells["role"] == "positive", "inducer"])):
        own = (wells["role"] == "positive") & (wells["inducer"] == inducer)
        kinds.append((f"induces {inducer}", COLOURS.get(inducer, OTHERS), own))
    kinds.append(("compound", TREATED, wells["role"] == "none"))
    for name, colour, chosen in kinds:
        cells = markers.cells[markers.cells["well"].isin(wells.loc[chosen, "well"])]
        if len(cells):
            groups[name] = (colour, cells)
    return groups


def _gate_text(marker: str, gates: Mapping[str, Gates]) -> str:
    gate = gates[marker].plate
    told = "no gate" if gate is None else f"gate {gate.low:.0f} to {gate.high:.0f}"
    return f"Histogram of {SPELLED[marker]} by kind of well; {told}"


def _gate_row(marker: str, gates: Gates, hours: Sequence[float]) -> dict[str, Any]:
    moments = [(f"{hours[timepoint]:g} h", gate) for timepoint, gate in sorted(gates.at.items())]
    if not moments and gates.plate is not None:
        moments = [("all", gates.plate)]
    return {"name": SPELLED[marker], "given": gates.given, "problem": gates.problem, "gates": moments}


def _counted(table: pd.DataFrame, by: str, names: Sequence[str] | None) -> list[tuple[str, list[int]]]:
    counted = pd.crosstab(table[by], table["state"]).reindex(columns=[*STATES, UNDECIDED], fill_value=0)
    return [
        (str(key) if names is None else f"{key} ({names[int(key)]})", [int(number) for number in row])
        for key, row in zip(counted.index, counted.to_numpy(), strict=True)
    ]


def _row(one: Mapping[Any, Any], hours: Sequence[float]) -> dict[str, Any]:
    place = f"{one['well']}, field {one['field']}, {hours[one['timepoint']]:g} h"
    return {"place": place, **{str(name): one[name] for name in ("y_um", "x_um", "rule", *STAINS, "area", "positive")}}


class _Pictures:
    """Patches cut out of a plate's projections and fluorescence."""

    def __init__(self, plate: Plate, channels: Mapping[str, str], gates: Mapping[str, Gates]) -> None:
        self._plate, self._channels = plate, channels
        self._medium = read_result(plate.path, "fields")["medium_index"]
        self._gates = gates

    def sheet(self, rows: pd.DataFrame, *, label: str) -> Markup:
        """All given patches as one picture with a line of text below each: grey index left, colours right."""
        width, height = 2 * TILE_PX + GAP_PX, TILE_PX + 2 * LINE_PX + GAP_PX
        lines = -(-len(rows) // IN_ROW)
        canvas = np.full((lines * height, IN_ROW * width, 3), 255, np.uint8)
        texts = []
        tiles = self._tiles(rows)
        for number, one in enumerate(rows.to_dict("records")):
            top, left = number // IN_ROW * height, number % IN_ROW * width
            canvas[top : top + TILE_PX, left : left + 2 * TILE_PX] = tiles[number]
            place = f"{one['well']} field {one['field']}, {self._plate.hours[one['timepoint']]:g} h"
            numbers = f"annexin {words.number(one['annexin_v'])}, PI {words.number(one['pi'])}"
            told = f"{place}, ({one['y_um']:.0f}, {one['x_um']:.0f}) um, Hoechst {words.number(one['hoechst'])}"
            texts.append(
                Markup(
                    '<g><title>{}, {}, cells cover {}. {}</title><rect x="{}" y="{}" width="{}" height="{}" '
                    'fill="none" pointer-events="all"/><text x="{}" y="{}" font-size="12" fill="#1b2733">{}</text>'
                    '<text x="{}" y="{}" font-size="12" fill="#5b6875">{}</text></g>'
                ).format(
                    told, numbers, words.percent(one["area"]), one["rule"],
                    left, top, 2 * TILE_PX, TILE_PX + 2 * LINE_PX,
                    left, top + TILE_PX + LINE_PX - 2, place, left, top + TILE_PX + 2 * LINE_PX - 3, numbers,
                )
            )  # fmt: skip
        stream = io.BytesIO()
        Image.fromarray(canvas).save(stream, "WEBP", quality=QUALITY, method=4)
        picture = "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
        size = (canvas.shape[1], canvas.shape[0])
        return (
            Markup('<svg class="plate sheet" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(*size, label)
            + Markup('<image href="{}" width="{}" height="{}"/>').format(picture, *size)
            + Markup("").join(texts)
            + Markup("</svg>")
        )

    def _tiles(self, rows: pd.DataFrame) -> dict[int, np.ndarray]:
        """Both pictures of each patch side by side, by its place among the rows; a field is read once."""
        tiles = {}
        numbered = rows.assign(number=range(len(rows)))
        half = PATCH_PX * UM_PER_PX / 2
        for _, own in numbered.groupby(["well", "field", "timepoint"], sort=False):
            first = own.iloc[0]
            images = self._field(str(first["well"]), int(first["field"]), int(first["timepoint"]))
            for number, *middle in own[["number", "y_um", "x_um"]].itertuples(index=False):
                window = tuple(
                    slice(max(0, round((at - half) / step)), round((at + half) / step))
                    for at, step in zip(middle, self._plate.voxel_um[1:], strict=True)
                )
                halves = [np.array(Image.fromarray(image[window]).resize((TILE_PX, TILE_PX))) for image in images]
                halves[1][:, :2] = 255  # a line between the two
                tiles[int(number)] = np.concatenate(halves, axis=1)
        return tiles

    def _field(self, well: str, field: int, timepoint: int) -> tuple[np.ndarray, np.ndarray]:
        """Grey index and coloured light of a field, (y, x, 3) each."""
        counts = self._plate.projection(well, field=field, timepoint=timepoint)
        medium = float(self._medium.sel(well=well, field=field, timepoint=timepoint))
        share = np.clip((counts / COUNTS_PER_INDEX - medium - INDEX_LOW) / (INDEX_HIGH - INDEX_LOW), 0, 1)
        share = np.where((counts > 0) & np.isfinite(share), share, 0)
        colour = np.repeat(share[..., None] * 0.35, 3, axis=2)
        for stain, channel in self._channels.items():
            try:
                light = self._plate.fluorescence_projection(well, field=field, timepoint=timepoint, channel=channel)
            except StoreError:
                continue  # not taken at this timepoint
            colour += self._brightness(light, stain, timepoint)[..., None] * LIGHTS[stain]
        grey = np.repeat((share * 255).astype(np.uint8)[..., None], 3, axis=2)
        return grey, (np.clip(colour, 0, 1) * 255).astype(np.uint8)

    def _brightness(self, light: np.ndarray, stain: str, timepoint: int) -> np.ndarray:
        """0 to 1; what lies on a gate is a quarter as bright as can be, so that faint and bright are told apart."""
        seen = light[light > 0]
        if not seen.size:
            return np.zeros(light.shape)
        dark = float(np.median(seen))
        gate = self._gates[stain].of(timepoint) if stain in self._gates else None
        full = 4 * gate.high if gate is not None else max(float(np.quantile(seen, 0.995)) - dark, 1.0)
        bright: np.ndarray = np.where(light > 0, np.clip((light - dark) / full, 0, 1), 0)
        return bright
