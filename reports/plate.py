"""The report of one plate: one HTML page and its tables, drawn from the results stored beside the plate."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from plates.results import has_result, read_result
from plates.states import STATES
from plates.store import Plate, open_plate

from . import alerts, figures, overlay, plate_maps, tables, words
from .page import Page

OVERLAYS = 24
RULE = (
    "Shown are one vehicle well, one well of each positive control, then for each compound in the order of the "
    "ranking the first well at its highest dose; always the first classified field at the reading time."
)


def write_plate_report(
    plate_path: Path, *, out: Path, analysed: str = "", campaign: str = "", settings: str = "", overlays: int = OVERLAYS
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
    overlays
        The most fields in the gallery.

    Raises
    ------
    MissingInputError
        The plate or one of its results is not there; the message names the command that makes it.
    """
    plate = open_plate(plate_path)
    results = {
        name: read_result(plate_path, name)
        for name in ("layout", "fields", "probabilities", "fractions", "quality", "dose_response", "ranking")
    }
    if has_result(plate_path, "normalized"):
        results["normalized"] = read_result(plate_path, "normalized")
    fractions, fits = results["fractions"], results["dose_response"]
    reading = reading_timepoint(fits, fractions)
    page = Page(out)
    return page.write(
        "plate.html",
        name=plate.name,
        analysed=analysed,
        campaign=campaign,
        settings=settings,
        header=_header(results),
        alerts=alerts.plate_alerts(
            **{name: results[name] for name in ("layout", "fields", "probabilities", "fractions", "quality")}
        ),
        maps=_maps(page, plate, results, reading),
        controls=_controls(page, results, reading),
        ranking=tables.ranking_rows(results["ranking"], fits),
        compounds=_compounds(page, results, reading),
        gallery=_gallery(plate, results, reading, overlays),
        wells=_well_rows(fractions, results["quality"], reading),
        methods=_methods(results, reading),
        downloads=[
            (
                page.table("wells", tables.wells_table(fractions, results["quality"], results.get("normalized"))),
                "every well at every timepoint: plate map, death and states with intervals, flags, normalised values",
            ),
            (page.table("curves", tables.curves_table(fits)), "every fit of every compound and readout"),
            (page.table("points", tables.points_table(fits)), "the wells that the curves were fitted to"),
            (page.table("ranking", tables.ranking_table(results["ranking"])), "the ranking as stored"),
        ],
    )  # fmt: skip


def reading_timepoint(fits: xr.Dataset, fractions: xr.Dataset) -> int:
    """Position of the timepoint at which the curves were read; the last one where the fits do not say."""
    last = fractions.sizes["timepoint"] - 1
    stored = int(fits.attrs.get("timepoint", -1))
    return int(np.flatnonzero(fractions["timepoint"].values == stored)[0]) if stored >= 0 else last


def _header(results: Mapping[str, xr.Dataset]) -> dict[str, Any]:
    card = results["probabilities"].attrs
    layout = results["layout"]
    classified = (results["probabilities"]["status"] == alerts.DONE).any(("field", "timepoint"))
    return {
        "verdict": str(results["quality"].attrs["verdict"]),
        "rule": str(results["quality"].attrs.get("rule", "")),
        "cell_lines": ", ".join(words.plain(line) for line in alerts.cell_lines(layout)) or "cell line not stated",
        "classifier": words.plain(card["classifier"]),
        "hash": str(card["classifier_sha256"]),
        "wells": layout.sizes["well"],
        "classified": int(classified.sum()),
        "version": _version(results),
    }


def _maps(page: Page, plate: Plate, results: Mapping[str, xr.Dataset], reading: int) -> dict[str, Any]:
    layout, fractions = results["layout"], results["fractions"]
    fractions = fractions.sel(well=layout["well"].values)
    hours = fractions["hours"].values.astype(float)
    page.data("plate-cube", plate_maps.cube(fractions))
    panels = [
        (
            name,
            plate_maps.heat_map(
                layout,
                values[:, reading],
                rows=plate.rows,
                columns=plate.columns,
                label=f"Plate map of {name} at {words.hours(hours[reading])}; every value is in the table of wells.",
            ),
        )
        for name, values in plate_maps.panel_values(fractions).items()
    ]
    courses = plate_maps.small_time_courses(
        fractions,
        rows=plate.rows,
        columns=plate.columns,
        label="Plate of small time courses: the five states of each well stacked over time.",
    )
    return {
        "panels": panels,
        "courses": courses,
        "last": len(hours) - 1,
        "reading": reading,
        "hours": [words.hours(hour) for hour in hours],
        "scale": plate_maps.colour_scale()[::4],
    }


def _controls(page: Page, results: Mapping[str, xr.Dataset], reading: int) -> dict[str, Any]:
    quality, fractions = results["quality"], results["fractions"]
    hours = [float(hour) for hour in fractions["hours"].values]
    limit = float(quality.attrs.get("z_prime_limit", math.nan))
    drawn = [
        (page.figure(figures.control_strip(fractions, timepoint=reading), label="Death in every control well"),
         "Every control well at the reading time. Bars are 95 % intervals from the fields of a well."),
    ]  # fmt: skip
    if len(hours) > 1:
        drawn.append(
            (page.figure(figures.quality_over_time(quality, hours=hours, limit=limit), label="Z' of death over time"),
             "How well death separates the controls at each timepoint. Values below -1 lie under the frame.")
        )  # fmt: skip
    return {"rows": tables.quality_rows(quality, timepoint=reading), "figures": drawn}


def _compounds(page: Page, results: Mapping[str, xr.Dataset], reading: int) -> list[dict[str, Any]]:
    fits, fractions = results["dose_response"], results["fractions"]
    cards = []
    for row in tables.ranking_rows(results["ranking"], fits):
        compound = row["compound"]
        shown = words.plain(compound)
        cards.append(
            row
            | {
                "readouts": tables.readout_rows(fits, compound),
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


def _gallery(plate: Plate, results: Mapping[str, xr.Dataset], reading: int, limit: int) -> dict[str, Any]:
    layout, probabilities = results["layout"], results["probabilities"]
    scenes = overlay.default_scenes(
        layout,
        probabilities["status"],
        compounds=[str(name) for name in results["ranking"]["compound"].values],
        timepoint=reading,
        limit=limit,
    )
    size_um = (plate.shape_zyx[1] * plate.voxel_um[1], plate.shape_zyx[2] * plate.voxel_um[2])
    shown = []
    for scene in scenes:
        place = {"well": scene.well, "field": scene.field}
        timepoint = int(probabilities["timepoint"].values[scene.timepoint])
        probability = probabilities["probability"].sel(place).isel(timepoint=scene.timepoint)
        probability.attrs["patch_um"] = probabilities.attrs["patch_um"]
        medium = results["fields"]["medium_index"].sel(place).isel(timepoint=scene.timepoint).item()
        seen = np.nanargmax(probability.values[np.isfinite(probability.values[..., 0])], axis=-1)
        counts = {state: int((seen == index).sum()) for index, state in enumerate(STATES)}
        label = f"Well {scene.well}: " + ", ".join(
            f"{count} patches {state}" for state, count in counts.items() if count
        )
        shown.append(
            {
                "scene": scene,
                "dose": layout["dose"].sel(well=scene.well).item(),
                "picture": overlay.picture(plate, scene, timepoint=timepoint, medium_index=medium),
                "overlay": overlay.overlay(probability, size_um=size_um, label=label),
                "scale": overlay.scale_bar(size_um=size_um),
                "size_um": size_um,
            }
        )
    attrs = probabilities.attrs
    return {
        "shown": shown,
        "rule": RULE,
        "patch_um": float(attrs["patch_um"]),
        "overlapping": float(attrs["stride_px"]) < float(attrs["patch_px"]),
        "hours": words.hours(float(results["fractions"]["hours"].values[reading])),
    }


def _well_rows(fractions: xr.Dataset, quality: xr.Dataset, reading: int) -> list[dict[str, Any]]:
    at_time = fractions.isel(timepoint=reading)
    columns = ("well", "compound", "dose", "control", "inducer", "death", "death_low", "death_high", "patches")
    rows = []
    for index in range(at_time.sizes["well"]):
        one = at_time.isel(well=index)
        row = {name: one[name].item() for name in columns}
        row["states"] = [one["fraction"].sel(state=state).item() for state in STATES]
        row["flags"] = quality["flags"].sel(well=row["well"]).item()
        rows.append(row)
    return rows


def _methods(results: Mapping[str, xr.Dataset], reading: int) -> dict[str, Any]:
    card, layout = results["probabilities"].attrs, results["layout"].attrs
    return {
        "card": dict(card),
        "layout": dict(layout),
        "hours": words.hours(float(results["fractions"]["hours"].values[reading])),
        "interval": str(results["fractions"].attrs.get("interval", "")),
        "response": str(results["dose_response"].attrs.get("response", "")),
        "rule": str(results["dose_response"].attrs.get("rule", "")),
        "records": [
            (name, json.dumps(tables.provenance(result), indent=1, sort_keys=True, default=str))
            for name, result in results.items()
        ],
    }


def _version(results: Mapping[str, xr.Dataset]) -> str:
    """The version that made the results, in the words of their own record."""
    versions: Sequence[str] = sorted(
        {str(record["version"]) for result in results.values() if "version" in (record := tables.provenance(result))}
    )
    return ", ".join(versions) or "version not recorded"
