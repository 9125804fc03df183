"""The report of one plate: one HTML page and its tables, drawn from the results stored beside the plate."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from plates.layout.roles import is_masked, roles
from plates.results import has_result, read_result
from plates.states import STATES
from plates.store import Plate, open_plate

from . import alerts, drawer, figures, plate_maps, plate_quality, quantities, tables, words
from .figures.pathways import told as pathway_told
from .gallery import gallery
from .methods import methods_text, references
from .methods_imaging import sentence
from .page import Page

OVERLAYS = 96
NEEDED = ("layout", "fields", "probabilities", "fractions", "quality", "dose_response", "ranking")
WHERE_THERE = (
    "normalized", "vehicle_quality", "spatial", "drift", "layout_check", "field_quality", "kinetics", "pathways",
    "growth", "exclusions",
)  # fmt: skip
DRAWN_VEHICLES = 8  # vehicle wells in the figures of a compound: all of them in all of its figures weigh too much
PLAIN_COURSES = 1200  # wells x timepoints of the time courses that are also stored drawn


def write_plate_report(
    plate_path: Path,
    *,
    out: Path,
    analysed: str = "",
    campaign: str = "",
    settings: str = "",
    changed: Sequence[str] | None = None,
    overlays: int = OVERLAYS,
) -> Path:
    """Write the page of a plate and the CSV files beside it; equal results give equal bytes.

    Parameters
    ----------
    plate_path
        The plate's volume store; its projections and results lie beside it.
    out
        The page to write, for example `P012.html`. Its tables are named after it: `P012.wells.csv` and so on.
    analysed
        Date and time of the analysis from the run record, shown as given.
    campaign
        Name of the campaign, shown in the header.
    settings
        The settings of the run as text, shown folded.
    changed
        Settings of the analysis that are not the defaults, one sentence each; None where nobody compared.
    overlays
        The most fields in the gallery.

    Raises
    ------
    MissingInputError
        The plate or one of its results is not there; the message names the command that makes it.
    """
    plate = open_plate(plate_path)
    results = {name: read_result(plate_path, name) for name in NEEDED}
    results |= {name: read_result(plate_path, name) for name in WHERE_THERE if has_result(plate_path, name)}
    fractions, fits = results["fractions"], results["dose_response"]
    reading = reading_timepoint(fits, fractions)
    page = Page(out, scripts=("plate.js",), styles=("plate.css",))
    page.data("well-store", drawer.wells_of_plate(results))
    return page.write(
        "plate.html",
        name=plate.name,
        view=shlex.join(["tomoscreen", "view", plate_path.name]),
        analysed=analysed,
        campaign=campaign,
        settings=settings,
        header=_header(results),
        summary=_summary(results, reading),
        alerts=alerts.plate_alerts(
            **{name: results[name] for name in ("layout", "fields", "probabilities", "fractions", "quality")},
            field_quality=results.get("field_quality"),
            exclusions=results.get("exclusions"),
        ),
        maps=_maps(page, plate, results, reading),
        quality=plate_quality.quality_of_plate(results, timepoint=reading),
        controls=_control_figures(page, results, reading),
        exclusions=_exclusions(results),
        ranking=tables.ranking_rows(results["ranking"], fits),
        compounds=_compounds(page, results, reading),
        vehicles_drawn=DRAWN_VEHICLES if _vehicles(fractions).sum() > DRAWN_VEHICLES else 0,
        gallery=gallery(page, plate, results, timepoint=reading, limit=overlays),
        wells=_well_rows(results, reading),
        methods=_methods(results, plate, reading, changed),
        downloads=_downloads(page, results),
    )


def reading_timepoint(fits: xr.Dataset, fractions: xr.Dataset) -> int:
    """Position of the timepoint at which the curves were read; the last one where the fits do not say."""
    last = fractions.sizes["timepoint"] - 1
    stored = int(fits.attrs.get("timepoint", -1))
    return int(np.flatnonzero(fractions["timepoint"].values == stored)[0]) if stored >= 0 else last


def _header(results: Mapping[str, xr.Dataset]) -> dict[str, Any]:
    card, layout = results["probabilities"].attrs, results["layout"]
    classified = (results["probabilities"]["status"] == alerts.DONE).any(("field", "timepoint"))
    calibration = str(card.get("calibration", "")).strip()
    return {
        "verdict": str(results["quality"].attrs["verdict"]),
        "cell_lines": ", ".join(words.plain(line) for line in alerts.cell_lines(layout)) or "cell line not stated",
        "classifier": words.plain(card["classifier"]),
        "hash": str(card["classifier_sha256"]),
        "calibration": words.plain(calibration, longest=400) or "not calibrated",
        "layout": words.plain(layout.attrs.get("source", "not recorded")),
        "layout_hash": str(layout.attrs.get("sha256", "")),
        "wells": layout.sizes["well"],
        "classified": int(classified.sum()),
        "version": _version(results),
        "acquired": _acquired(results["fields"]),
    }


def _summary(results: Mapping[str, xr.Dataset], reading: int) -> dict[str, Any]:
    """What tells at one glance what the plate is worth: how well it separates its controls, and what it found."""
    quality, ranking = results["quality"], results["ranking"]
    death = quality.sel(readout="death").isel(timepoint=reading)
    value, low, high = (
        float(death[name]) if name in death else math.nan
        for name in ("robust_z_prime", "robust_z_prime_low", "robust_z_prime_high")
    )
    rows = tables.ranking_rows(ranking, results["dose_response"])
    return {
        "z": value,
        "ends": words.between(low, high),
        "vehicle": float(death["n_negative"]),
        "positive": float(death["n_positive"]),
        "compounds": len(rows),
        "known": sum(words.has_ec50(row) for row in rows),
        "first": [words.plain(row["compound"]) for row in rows[:3]],
    }


def _acquired(fields: xr.Dataset) -> str:
    """Day of the first image, or days of the first and the last; empty where the instrument did not say."""
    taken = fields["acquired"].values if "acquired" in fields else np.zeros(0, dtype="datetime64[ns]")
    known = taken[~np.isnat(taken)]
    if not known.size:
        return ""
    first, last = (str(moment.astype("datetime64[D]")) for moment in (known.min(), known.max()))
    return first if first == last else f"{first} to {last}"


def _maps(page: Page, plate: Plate, results: Mapping[str, xr.Dataset], reading: int) -> dict[str, Any]:
    fractions = results["fractions"].reindex(well=results["layout"]["well"].values)
    # the layout is as it was read; what was excluded later is known to the fractions
    layout = results["layout"].assign(masked=("well", fractions["masked"].values)) if "masked" in fractions else (
        results["layout"]
    )  # fmt: skip
    hours = fractions["hours"].values.astype(float)
    found = quantities.plate_quantities(results)
    size = {"rows": plate.rows, "columns": plate.columns}
    stored = quantities.cube(found, layout, hours) | {"out": np.flatnonzero(is_masked(layout)).tolist()} | size
    stored["timepoints"] = fractions["timepoint"].values.astype(int).tolist()  # as the plate browser counts them
    page.data("plate-cube", stored)
    panels: list[dict[str, Any]] = []
    for number, one in enumerate(found):
        label = f"Plate map of {one.name} at {words.hours(hours[reading])}; the table of wells holds the numbers."
        drawing = plate_maps.heat_map(layout, one.at(reading), scale=one.scale, label=label, **size)
        panels.append({"number": number, "quantity": one, "ends": one.scale.ends(), "drawing": drawing})
    timepoints = max(PLAIN_COURSES // max(layout.sizes["well"], 1), 2)
    chosen = np.unique(np.linspace(0, len(hours) - 1, min(timepoints, len(hours))).round().astype(int))
    courses = plate_maps.small_time_courses(
        results["fractions"].isel(timepoint=chosen), label="The five states of each well stacked over time.", **size
    )
    return {
        "groups": [
            ("states", "States", [panel for panel in panels if panel["quantity"].group == quantities.STATE_MAPS]),
            ("other", "Other quantities", [panel for panel in panels if panel["quantity"].group != "states"]),
        ],
        "courses": courses,
        "course_times": len(chosen),
        "last": len(hours) - 1,
        "reading": reading,
        "hours": [words.hours(hour) for hour in hours],
        "scale": plate_maps.colour_scale()[::4],
        "excluded": bool(is_masked(layout).any()),
        "unnamed": layout.sizes["well"] < plate.rows * plate.columns,
    }


def _control_figures(page: Page, results: Mapping[str, xr.Dataset], reading: int) -> list[tuple[Any, str]]:
    quality, fractions = results["quality"], _drawn(results["fractions"])  # what was left out is marked
    hours = [float(hour) for hour in results["fractions"]["hours"].values]
    limit = float(quality.attrs.get("z_prime_limit", math.nan))
    drawn = [
        (page.figure(figures.control_strip(fractions, timepoint=reading), label="Death in every control well"),
         "Every control well at the reading time. Bars are 95 % intervals from the fields of a well."),
    ]  # fmt: skip
    if len(hours) > 1:
        drawn.append(
            (page.figure(figures.quality_over_time(quality, hours=hours, limit=limit), label="Z' of death over time"),
             "How well death separates the controls at each timepoint; bars are 95 % intervals. What is below -1 lies "
             "under the frame.")
        )  # fmt: skip
    places = figures.rows_and_columns(fractions, timepoint=reading, spatial=results.get("spatial"), height=320)
    drawn.append(
        (page.figure(places, label="Death by row and by column"),
         "Rows and columns: vehicle wells should be equal wherever they lie; the line in a box is their median.")
    )  # fmt: skip
    if "acquired" in results["fields"]:
        order = figures.imaging_order(
            fractions, results["fields"], timepoint=reading, drift=results.get("drift"), height=320
        )
        drawn.append(
            (page.figure(order, label="Death against the time of imaging"),
             "Order of imaging: vehicle wells should not change with the minute at which they were imaged.")
        )  # fmt: skip
    return drawn


def _vehicles(fractions: xr.Dataset) -> np.ndarray:
    return np.asarray(roles(fractions) == "negative")


def _drawn(fractions: xr.Dataset) -> xr.Dataset:
    """Without what no figure of this page draws."""
    names = ("fraction", "death", "death_low", "death_high", "masked")
    return fractions[[name for name in names if name in fractions.data_vars]]


def _in_use(fractions: xr.Dataset) -> xr.Dataset:
    """Of that, without the wells that no statistic sees."""
    return _drawn(fractions).isel(well=np.flatnonzero(~is_masked(fractions)))


def _compounds(page: Page, results: Mapping[str, xr.Dataset], reading: int) -> list[dict[str, Any]]:
    fits, fractions = results["dose_response"], _in_use(results["fractions"])
    spare = np.flatnonzero(_vehicles(fractions))[DRAWN_VEHICLES:]
    fractions = fractions.isel(well=np.setdiff1d(np.arange(fractions.sizes["well"]), spare))
    cards = []
    for row in tables.ranking_rows(results["ranking"], fits):
        compound = row["compound"]
        shown = words.plain(compound)
        cards.append(
            row
            | {
                "readouts": tables.readout_rows(fits, compound),
                "switch": _switch(results.get("pathways"), compound),
                "timing": _timing(results.get("kinetics"), compound),
                "curve": page.figure(
                    figures.dose_response(fits, compound=compound),
                    label=f"Death against dose of {shown}: {words.ec50(row)}",
                ),
                "stack": page.figure(
                    figures.pathway_stack(fractions, compound=compound, timepoint=reading),
                    label=f"The five states against dose of {shown}",
                ),
                "courses": page.figure(
                    figures.time_courses(fractions, compound=compound), label=f"Death over time under {shown}"
                ),
            }
        )
    return cards


def _switch(pathways: xr.Dataset | None, compound: str) -> str:
    """Whether and where the leading pathway changes with dose, in words; empty where nobody asked."""
    if pathways is None or compound not in pathways["compound"].values:
        return ""
    one = pathways.sel(compound=compound)
    known = {str(name): one[name].item() for name in one.data_vars if one[name].ndim == 0}
    return pathway_told(known) if known.get("status") in ("switch", "shift", "constant") else ""


def _timing(kinetics: xr.Dataset | None, compound: str) -> str:
    """When half of the cells had died at the top dose, in words; empty where no course was fitted."""
    if kinetics is None or "t50" not in kinetics or compound not in kinetics["compound"].values:
        return ""
    one = kinetics.sel(compound=compound)
    value, low, high = (float(one[name].item()) for name in ("t50", "t50_low", "t50_high"))
    if not math.isfinite(value):
        return ""
    interval = words.between(low, high) if math.isfinite(low) and math.isfinite(high) else ""
    return f"half of all cells dead after {words.hours(value)}" + (f" ({interval})" if interval else "")


def _exclusions(results: Mapping[str, xr.Dataset]) -> dict[str, Any]:
    """Who left out what, when and why, and what it changed; wells masked by the plate map are told beside it."""
    found = results.get("exclusions")
    rows, changed = [], []
    if found is not None and found.sizes.get("exclusion", 0):
        names = ("well", "field", "timepoint", "reason", "name", "date")
        rows = [{name: found[name].values[index] for name in names} for index in range(found.sizes["exclusion"])]
        for index in np.flatnonzero(found["changed"].values.astype(bool)):
            one = {
                name: found[name].values[index]
                for name in ("rank_before", "rank_after", "ec50_before", "ec50_after", "emax_before", "emax_after")
            }
            changed.append({"compound": str(found["compound"].values[index])} | one)
    return {"rows": rows, "changed": changed, "masked": plate_quality.excluded_wells(results["layout"])}


def _well_rows(results: Mapping[str, xr.Dataset], reading: int) -> list[dict[str, Any]]:
    fractions, quality = results["fractions"], results["quality"]
    at_time = fractions.isel(timepoint=reading)
    names = ("well", "compound", "dose", "control", "inducer", "death", "death_low", "death_high", "patches")
    columns = {name: at_time[name].values.tolist() for name in names}
    states = at_time["fraction"].transpose("well", "state").sel(state=list(STATES)).values.tolist()
    flags = quality["flags"].reindex(well=at_time["well"].values, fill_value="").values.tolist()
    out = is_masked(fractions)
    return [
        {name: values[index] for name, values in columns.items()}
        | {"states": states[index], "flags": flags[index], "excluded": bool(out[index])}
        for index in range(at_time.sizes["well"])
    ]


def _methods(
    results: Mapping[str, xr.Dataset], plate: Plate, reading: int, changed: Sequence[str] | None
) -> dict[str, Any]:
    card, layout = results["probabilities"].attrs, results["layout"].attrs
    # results of one step have one record: it is told once
    records: dict[str, list[str]] = {}
    for name, result in results.items():
        record = json.dumps(tables.provenance(result), indent=1, sort_keys=True, default=str)
        records.setdefault(record, []).append(name)
    text = methods_text(results, plate=plate, changed=changed)
    rule = sentence(results["quality"].attrs.get("rule", ""))
    return {
        "card": dict(card),
        "layout": dict(layout),
        "hours": words.hours(float(results["fractions"]["hours"].values[reading])),
        "text": text,
        "verdict_rule": next((place for place, paragraph in enumerate(text) if rule and rule in paragraph), -1),
        "references": references(results, plate=plate),
        "rule": str(results["dose_response"].attrs.get("rule", "")),
        "records": [(", ".join(names), record) for record, names in records.items()],
    }


def _downloads(page: Page, results: Mapping[str, xr.Dataset]) -> list[tuple[Any, str]]:
    fractions, fits = results["fractions"], results["dose_response"]
    return [
        (
            page.table("wells", tables.wells_table(fractions, results["quality"], results.get("normalized"))),
            "every well at every timepoint: plate map, death and states with intervals, flags, normalised values",
        ),
        (page.table("curves", tables.curves_table(fits)), "every fit of every compound and readout"),
        (page.table("points", tables.points_table(fits)), "the wells that the curves were fitted to"),
        (page.table("ranking", tables.ranking_table(results["ranking"])), "the ranking as stored"),
        (
            page.table("controls", tables.quality_table(results["quality"])),
            "statistics of the controls, every readout at every timepoint",
        ),
        *[
            (page.table(name, _of_readouts(results[name])), what)
            for name, what in (
                ("spatial", "tests for effects of place on vehicle wells and replicates"),
                ("drift", "tests for effects of the order of imaging on vehicle wells"),
            )
            if name in results
        ],
    ]


def _of_readouts(result: xr.Dataset) -> pd.DataFrame:
    """A result over readouts or quantities and timepoints as a table, its columns in an order of their own."""
    table: pd.DataFrame = result.to_dataframe().reset_index().sort_index(axis=1)
    return table


def _version(results: Mapping[str, xr.Dataset]) -> str:
    """The version that made the results, in the words of their own record."""
    versions: Sequence[str] = sorted(
        {str(record["version"]) for result in results.values() if "version" in (record := tables.provenance(result))}
    )
    return ", ".join(versions) or "version not recorded"
