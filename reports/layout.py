"""The page of a plate map before anything runs: what is suspicious first, then the plate drawn three ways."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from plates.layout import PlateMap, well_name
from plates.layout.finding import SEVERITIES, Finding
from plates.layout.roles import MASKED, roles
from plates.states import COLOURS, LETTERS

from . import words
from .page import Page
from .plate_maps import colour_scale

CELL = 30
WRITTEN_UP_TO = 12  # columns; text in the wells of a denser plate cannot be read
NARROWEST = 290  # of a drawing, so that the wells of small plates do not become huge
VEHICLE, POSITIVE, TREATED, NO_DOSE = "#ffffff", "#1b2733", "#dfe7ee", "#eef0f2"
INK, PAPER = "#111111", "#ffffff"
UNTOUCHED = Markup('pointer-events="none"')  # the well below is what is pointed at
# what a well shows: its fill, the colour of its text, and the text itself
Look = tuple[str, str, str]
Well = Mapping[str, Any]


def write_layout_page(plate_map: PlateMap, findings: Sequence[Finding], *, out: Path) -> Path:
    """Write one page without side files that shows a plate map and what was found in it.

    Parameters
    ----------
    plate_map
        As read by `plates.layout.read_plate_map`.
    findings
        What `plates.layout.findings.findings` says of it.
    out
        The page to write.
    """
    role = roles(plate_map.table)
    wells: list[Well] = plate_map.table.assign(role=role).to_dict("records")  # type: ignore[assignment]
    compounds = _compounds(wells)
    doses = [float(well["dose"]) for well in wells if well["dose"] > 0]
    return Page(out).write(
        "layout.html",
        source=plate_map.source,
        sha256=plate_map.sha256,
        format=plate_map.rows * plate_map.columns,
        used=int((role != MASKED).sum()),
        wells=wells,
        findings=findings,
        counts={severity: sum(finding.severity == severity for finding in findings) for severity in SEVERITIES},
        panels=_panels(plate_map, wells, compounds, doses),
        dense=plate_map.columns > WRITTEN_UP_TO,
        inducers=sorted({str(well["inducer"]) for well in wells if well["control"] == "positive"}),
        compounds=compounds,
        doses=(min(doses), max(doses)) if doses else None,
        scale=colour_scale()[::4],
    )


def _compounds(wells: Sequence[Well]) -> list[dict[str, Any]]:
    """One entry a treated compound in the order of the wells: number, colour, doses, wells."""
    members: dict[str, list[Well]] = {}
    for well in wells:
        if well["control"] == "none":
            members.setdefault(str(well["compound"]), []).append(well)
    listed = []
    for number, (name, own) in enumerate(members.items(), start=1):
        doses = sorted({float(well["dose"]) for well in own if well["dose"] > 0})
        used = sum(well["role"] != MASKED for well in own)
        listed.append(
            {"number": number, "name": name, "colour": _colour(number), "doses": doses, "wells": len(own), "used": used}
        )
    return listed


def _colour(number: int) -> str:
    """Colours of neighbours in the list lie far apart; the number is the second channel, and the safe one."""
    red, green, blue = colorsys.hls_to_rgb(number * 0.618034 % 1, (0.62, 0.74, 0.5)[number % 3], 0.55)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def _ink(colour: str) -> str:
    """Black or white, whichever can be read on the colour (luma of Rec. 601)."""
    red, green, blue = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.42 else PAPER


def _panels(
    plate_map: PlateMap, wells: Sequence[Well], compounds: Sequence[Mapping[str, Any]], doses: Sequence[float]
) -> list[tuple[str, Markup]]:
    by_name = {compound["name"]: compound for compound in compounds}
    scale = colour_scale()
    low, high = (math.log10(min(doses)), math.log10(max(doses))) if doses else (0.0, 0.0)

    def role(well: Well) -> Look:
        return _control(well) or (TREATED, INK, "")

    def compound(well: Well) -> Look:
        own = by_name.get(str(well["compound"])) if well["control"] == "none" else None
        return (own["colour"], _ink(own["colour"]), str(own["number"])) if own else _control(well) or (NO_DOSE, INK, "")

    def dose(well: Well) -> Look:
        value = float(well["dose"])
        if not value > 0:
            return _control(well) or (NO_DOSE, INK, "")
        step = round(100 * (math.log10(value) - low) / max(high - low, 1e-9))
        return scale[step], PAPER if step < 55 else INK, words.number(value, 2)

    drawn = [
        ("Role", _drawing(plate_map, wells, role, label="Plate map of roles: vehicle, positive controls, treated.")),
        ("Compound", _drawing(plate_map, wells, compound, label="Plate map of compounds, numbered as in the table.")),
    ]
    if doses:
        label = "Plate map of doses in micromolar, coloured by their logarithm."
        drawn.append(("Dose", _drawing(plate_map, wells, dose, label=label)))
    return drawn


def _control(well: Well) -> Look | None:
    """How a control looks on every panel; None for treated wells."""
    if well["control"] == "negative":
        return VEHICLE, INK, "\N{MIDDLE DOT}"
    if well["control"] == "positive":
        state = str(well["inducer"])
        return COLOURS.get(state, POSITIVE), words.LETTER_INKS.get(state, PAPER), LETTERS.get(state, "+")
    return None


def _drawing(plate_map: PlateMap, wells: Sequence[Well], look: Callable[[Well], Look], *, label: str) -> Markup:
    """One plate as SVG; each well tells itself when pointed at, masked ones are hatched and crossed."""
    rows, columns = plate_map.rows, plate_map.columns
    written = columns <= WRITTEN_UP_TO
    # the drawing is scaled to its place, so that the letters of a large plate must be large to be read
    letter = 10 if written else round(0.46 * columns + 1)
    head = 2 * letter
    width, height = max(head + columns * CELL, NARROWEST), head + rows * CELL + 1
    described = {(int(well["row"]), int(well["column"])): well for well in wells}
    parts = [_names(rows, columns, head, letter)]
    for row in range(rows):
        for column in range(columns):
            x, y = head + column * CELL, head + row * CELL
            well = described.get((row, column))
            if well is None:
                parts.append(Markup('<path d="M{} {}h26v26h-26z" fill="none" stroke="#dfe3e8"/>').format(x + 2, y + 2))
                continue
            fill, ink, text = look(well)
            if well["role"] == MASKED:
                fill, text = "url(#masked)", ""
            parts.append(
                Markup(
                    '<rect class="w" x="{}" y="{}" width="28" height="28" rx="3" fill="{}" stroke="#8d98a3">'
                    "<title>{}</title></rect>"
                ).format(x + 1, y + 1, fill, _told(well))
            )
            if well["role"] == MASKED:
                parts.append(
                    Markup('<path d="M{} {}l16 16m0 -16l-16 16" stroke="#9c2f00" stroke-width="2.4" {}/>').format(
                        x + 7, y + 7, UNTOUCHED
                    )
                )
            elif well["control"] == "negative":
                parts.append(
                    Markup('<circle cx="{}" cy="{}" r="3.6" fill="{}" {}/>').format(x + 15, y + 15, ink, UNTOUCHED)
                )
            elif text and (written or well["control"] != "none"):
                size = 16 if text.isalpha() or text == "+" else 12 if len(text) < 4 else 11 if len(text) < 5 else 8
                parts.append(_centred(x + 15, y + 15, text, size=size, ink=ink))
    head_tag = Markup('<svg class="plate" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(width, height, label)
    return head_tag + Markup("").join(parts) + Markup("</svg>")


def _names(rows: int, columns: int, head: int, letter: int) -> Markup:
    """Letters and numbers along the rim, every second number where they would touch."""
    every = 1 if letter < 15 else 2
    places = [
        (head + (column + 0.5) * CELL, head - 0.8 * letter, str(column + 1)) for column in range(0, columns, every)
    ]
    places += [(head / 2 - 1, head + (row + 0.5) * CELL, well_name(row, 0)[:-2]) for row in range(rows)]
    return Markup("").join(_centred(x, y, name, size=letter, ink="#5b6875") for x, y, name in places)


def _centred(x: float, y: float, text: str, *, size: int, ink: str) -> Markup:
    return Markup('<text x="{:g}" y="{:g}" font-size="{}" fill="{}" text-anchor="middle" {}>{}</text>').format(
        x, y + 0.36 * size, size, ink, UNTOUCHED, text
    )


def _told(well: Well) -> str:
    """A well in one line, as it is told when pointed at."""
    said = [f"{well['well']}: {words.plain(well['compound'])}"]
    if well["dose"] > 0:
        said.append(words.concentration(float(well["dose"])))
    if well["control"] == "combination":
        said.append(f"with {words.plain(well['compound_2'])} {words.concentration(float(well['dose_2']))}")
    if well["control"] == "negative":
        said.append("vehicle control")
    if well["control"] == "positive":
        said.append(f"positive control {words.plain(well['inducer'])}".strip())
    if well["control"] == "none" and well["vehicle"]:
        said.append(f"in {words.plain(well['vehicle'])}")
    if well["cell_line"]:
        said.append(words.plain(well["cell_line"]))
    if well["role"] == MASKED:
        said.append(f"masked: {words.plain(well['masked'])}")
    return ", ".join(said)
