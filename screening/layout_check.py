"""A plate map on the terminal before anything runs: the plate drawn, its compounds, and what is suspicious."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from plates.errors import PlateMapError
from plates.ingest.names import discover
from plates.layout import PlateMap, well_name
from plates.layout.finding import SEVERITIES, Finding, dose_text, listed
from plates.layout.findings import findings
from plates.layout.roles import MASKED, roles
from plates.states import COLOURS, LETTERS

SHADES = "░▒▓█"
PLAIN = {"·": ".", **dict(zip(SHADES, "abcd", strict=True))}  # for terminals that know ASCII only
NUMBERED_UP_TO = 12  # columns; in a denser plate a compound's number cannot be read
LONGEST_TABLE = 30
STYLES = {"stop": "bold red", "warning": "yellow", "note": "cyan"}
HEADINGS = {"stop": "Stop", "warning": "Warnings", "note": "Notes"}


def check_layout(
    plate_map: PlateMap, *, acquisitions: Path | None = None, out: Path | None = None, as_json: bool = False
) -> list[Finding]:
    """Draw a plate map and print everything suspicious about it to standard output.

    Parameters
    ----------
    plate_map
        As read by `plates.layout.read_plate_map`.
    acquisitions
        Folder of acquisitions, whose wells are compared with the map's.
    out
        Page to write as well.
    as_json
        Print one JSON object instead of drawing.

    Raises
    ------
    PlateMapError
        A finding is a "stop"; all of them are printed first.
    """
    imaged = None if acquisitions is None else sorted({source.well for source in discover(acquisitions)})
    found = findings(plate_map, imaged)
    console = Console(highlight=False)
    if as_json:
        console.out(json.dumps(_described(plate_map, imaged, found), indent=1), highlight=False)
    else:
        with console.capture() as drawn:
            draw(plate_map, found, console=console)
        console.file.write(_spelled(drawn.get(), console.encoding))
    if out is not None:
        from reports.layout import write_layout_page

        page = write_layout_page(plate_map, found, out=out)
        if not as_json:
            console.print(f"Page: {page}", markup=False, soft_wrap=True)
    stops = [finding for finding in found if finding.severity == "stop"]
    if stops:
        raise PlateMapError(f"{plate_map.source} must not be used as it is. {stops[0].what} {stops[0].remedy}")
    return found


def draw(plate_map: PlateMap, found: list[Finding], *, console: Console) -> None:
    """Print plate, legend, compounds and findings; in colour on a terminal, as plain text elsewhere."""
    table = plate_map.table.assign(role=roles(plate_map.table))
    numbers = {name: number for number, name in enumerate(_treated(table)["compound"].unique(), start=1)}
    numbered = plate_map.columns <= NUMBERED_UP_TO
    shades = _shades(table)
    wells = plate_map.rows * plate_map.columns
    console.print(
        f"{plate_map.source}: {wells}-well plate, {len(table)} wells described, {(table['role'] != MASKED).sum()} used",
        markup=False,
        soft_wrap=True,
    )
    console.print()
    for line in _plate(plate_map, table, numbers if numbered else {}, shades):
        console.print(line, soft_wrap=True)
    console.print()
    console.print(_indented(_legend(table, numbered), 3, console), soft_wrap=True)
    if numbers:
        console.print()
        console.print(_compounds(table, numbers))
        if len(numbers) > LONGEST_TABLE:
            console.print(f"    and {len(numbers) - LONGEST_TABLE} more compounds; all are on the page (--out)")
    _print_findings(found, console)


def _treated(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["control"] == "none"]


def _shades(table: pd.DataFrame) -> dict[str, int]:
    """0 to 3 for each treated well with a dose, low to high in powers of ten over the plate."""
    dosed = _treated(table)
    dosed = dosed[dosed["dose"] > 0]
    if dosed.empty:
        return {}
    powers = np.log10(dosed["dose"].to_numpy())
    share = (powers - powers.min()) / max(np.ptp(powers), 1e-9)
    return dict(zip(dosed["well"], np.minimum((share * len(SHADES)).astype(int), len(SHADES) - 1), strict=True))


def _plate(plate_map: PlateMap, table: pd.DataFrame, numbers: dict[str, int], shades: dict[str, int]) -> list[Text]:
    """One line a row; wells take six columns of text up to 96 wells, three up to 384, one above."""
    width = 6 if plate_map.columns <= NUMBERED_UP_TO else 3 if plate_map.columns <= 24 else 1
    wells = {str(well["well"]): well for well in table.to_dict("records")}
    every = 1 if width > 1 else 4
    names = [str(column + 1) if column % every == 0 else "" for column in range(plate_map.columns)]
    head = "".join(name.rjust(width) for name in names) if width > 1 else "".join(n.ljust(4) for n in names[::4])
    lines = [Text("   " + head, style="dim")]
    for row in range(plate_map.rows):
        line = Text(well_name(row, 0)[:-2].rjust(3), style="dim")
        for column in range(plate_map.columns):
            well = wells.get(well_name(row, column))
            symbol, style = (" ", "") if well is None else _symbol(well, shades)
            if well is not None and width > 1 and str(well["compound"]) in numbers and well["role"] == "none":
                symbol = f"{numbers[str(well['compound'])]}{symbol}"
            line.append(symbol.rjust(width), style=style)
        lines.append(line)
    return lines


def _symbol(well: Mapping[Any, object], shades: dict[str, int]) -> tuple[str, str]:
    """The symbol carries the meaning, the colour repeats it."""
    if well["role"] == MASKED:
        return "x", "red"
    if well["role"] == "negative":
        return "·", "bold"
    if well["role"] == "positive":
        state = str(well["inducer"])
        return LETTERS.get(state, "+"), f"bold {COLOURS.get(state, '')}".strip()
    if well["role"] == "combination":
        return "&", COLOURS["live-treated"]
    shade = shades.get(str(well["well"]))
    return ("o" if shade is None else SHADES[shade]), COLOURS["live-treated"]


def _legend(table: pd.DataFrame, numbered: bool) -> str:
    parts = ["· vehicle"]
    for state in sorted(set(table.loc[table["role"] == "positive", "inducer"]), key=lambda s: (s not in LETTERS, s)):
        parts.append(f"{LETTERS[state]} induces {state}" if state in LETTERS else f"+ positive control {state}".strip())
    if (table["role"] == "combination").any():
        parts.append("& two compounds")
    number = "number and " if numbered else ""
    dosed = _treated(table)["dose"]
    if (dosed > 0).any():
        low, high = dosed[dosed > 0].min(), dosed[dosed > 0].max()
        parts.append(f"{number}{SHADES} treated, {dose_text(low)} to {dose_text(high)}")
    else:
        parts.append(f"{number}o treated, no dose")
    if (table["role"] == MASKED).any():
        parts.append("x masked")
    return ", ".join(parts) + ", blank: not in the map"


def _compounds(table: pd.DataFrame, numbers: dict[str, int]) -> Table:
    shown = Table(title=None, box=None, pad_edge=False)
    for column in ("", "compound", "doses", "range", "wells", "vehicle"):
        shown.add_column(column, justify="right" if column in ("", "doses", "wells") else "left", overflow="fold")
    treated = _treated(table)
    for name, number in list(numbers.items())[:LONGEST_TABLE]:
        wells = treated[treated["compound"] == name]
        used = int((wells["role"] != MASKED).sum())
        doses = sorted(dose for dose in set(wells["dose"]) if not math.isnan(dose))
        told = (
            f"{dose_text(doses[0])} to {dose_text(doses[-1])}"
            if len(doses) > 1
            else dose_text(doses[0])
            if doses
            else ""
        )
        count = str(used) if used == len(wells) else f"{used} of {len(wells)}"
        vehicle = listed(sorted(set(wells["vehicle"]) - {""}))
        shown.add_row(str(number), Text(name), str(len(doses)), told, count, Text(vehicle))
    for role, symbol in (("negative", "·"), ("positive", "+")):
        for control, wells in table[table["role"] == role].groupby("compound", sort=False):
            vehicle = listed(sorted(set(wells["vehicle"]) - {""}))
            shown.add_row(symbol, Text(str(control)), "", "", str(len(wells)), Text(vehicle))
    return shown


def _print_findings(found: list[Finding], console: Console) -> None:
    for severity in SEVERITIES:
        chosen = [finding for finding in found if finding.severity == severity]
        if chosen:
            console.print()
            console.print(Text(f"{HEADINGS[severity]} ({len(chosen)})", style=STYLES[severity]))
        for finding in chosen:
            for text, indent in ((finding.what, 2), (finding.remedy, 4)):
                console.print(_indented(text, indent, console), soft_wrap=True)
            if finding.wells:
                console.print(
                    _indented(f"Wells: {listed(finding.wells, most=12)}", 4, console), style="dim", soft_wrap=True
                )
    if not found:
        console.print()
        console.print("Nothing suspicious.")


def _indented(text: str, by: int, console: Console) -> Text:
    """Text of the terminal's width, without the blanks at line ends that a grid would leave in a file."""
    margin = " " * by
    return Text(textwrap.fill(text, console.width, initial_indent=margin, subsequent_indent=margin))


def _described(plate_map: PlateMap, imaged: list[str] | None, found: list[Finding]) -> dict[str, object]:
    return {
        "source": plate_map.source,
        "sha256": plate_map.sha256,
        "rows": plate_map.rows,
        "columns": plate_map.columns,
        "wells": len(plate_map.table),
        "masked": int((roles(plate_map.table) == MASKED).sum()),
        "imaged": None if imaged is None else len(imaged),
        "findings": [asdict(finding) for finding in found],
    }


def _spelled(text: str, encoding: str) -> str:
    """Text as a terminal of that encoding can show it."""
    if encoding.startswith("utf"):
        return text
    plain = "".join(PLAIN.get(letter, letter) for letter in text)
    return plain.encode(encoding, "replace").decode(encoding)
