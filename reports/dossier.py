"""The dossier of one compound: everything that a campaign says of it, over plates, cell lines and time."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from plates.errors import MissingInputError
from plates.results import has_result, read_result

from . import dossier_figures, figures, tables, words
from .alerts import by_weight, classifier_alerts
from .campaign import result_table
from .campaign_plates import differences, plates_of, store_of
from .dossier_plates import FIELD_RULE, OnPlate, fields_of, on_plate
from .figures.pathways import told as told_switch
from .page import Page, relative_link

NEEDED = ("plates", "dose_response", "ranking")
OPTIONAL = ("kinetics", "pathways")
COURSES = 6  # plates whose deaths over time are drawn


def write_dossier(
    campaign_results: Path,
    compound: str,
    *,
    out: Path,
    plate_reports: Mapping[str, Path] | None = None,
    analysed: str = "",
) -> Path:
    """Write the page of one compound and the CSV files beside it; equal results give equal bytes.

    Parameters
    ----------
    campaign_results
        The campaign's results store. The plates' own results and images are looked for beside it, then where they lay
        when the campaign was made; what is gone leaves its part out and is said.
    compound
        Name as in the plate maps; with a cell line in brackets, as in the ranking, only that one is shown.
    out
        The page to write.
    plate_reports
        The page of each plate by the plate's name; a plate without one is listed without a link.
    analysed
        Date and time of the analysis from the run record, shown as given.

    Raises
    ------
    MissingInputError
        A result is not there, or the campaign knows no such compound; the message names the nearest.
    """
    results = {name: read_result(campaign_results, name) for name in NEEDED}
    results |= {name: read_result(campaign_results, name) for name in OPTIONAL if has_result(campaign_results, name)}
    entries = entries_of(results["ranking"], compound)
    plates = [
        found
        for name, path in zip(results["plates"]["plate"].values, results["plates"]["path"].values, strict=True)
        if (found := on_plate(str(name), store_of(str(name), str(path), campaign_results), entries)) is not None
    ]
    page = Page(out, styles=("campaign.css", "dossier.css"))
    own = plates_of(results["plates"], campaign_results)
    mine = [row for row in own if row["plate"] in {plate.name for plate in plates}]
    days = {plate.name: _day(plate.store) for plate in plates}
    parts = [_part(page, name, results, plates, days) for name in entries]
    wells = _wells(plates, entries, results["dose_response"])
    listed = _plates(plates, results["plates"], wells, days, plate_reports or {}, out)
    return page.write(
        "dossier.html",
        compound=compound,
        campaign=campaign_results.name.removesuffix(".results.zarr"),
        analysed=analysed,
        lines=parts,
        count=results["ranking"].sizes["compound"],
        alerts=_alerts(mine),
        made_by=[row for row in mine if row["made"]],
        fields=fields_of(plates),
        rule=FIELD_RULE,
        wells=wells,
        plates=listed,
        gone=results["plates"].sizes["plate"] - len(own) + sum(not row["wells"] for row in own),
        records=[
            (name, json.dumps(tables.provenance(result), indent=1, sort_keys=True, default=str))
            for name, result in results.items()
        ],
        downloads=_downloads(page, results, entries, wells, listed),
    )


def entries_of(ranking: xr.Dataset, compound: str) -> list[str]:
    """Names in the ranking that mean the compound: itself, or it with each cell line in brackets.

    Raises
    ------
    MissingInputError
        There is none; the nearest names are told.
    """
    names = [str(name) for name in ranking["compound"].values]
    found = [name for name in names if name == compound]
    found = found or [name for name in names if name.startswith(f"{compound} [") and name.endswith("]")]
    if found:
        return found
    import difflib

    near = difflib.get_close_matches(compound, names, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(repr(name) for name in near)}?" if near else "Look into the ranking's table."
    raise MissingInputError(f"The campaign ranks no compound {compound!r} among its {len(names)}. {hint}")


def verdict_line(row: Mapping[str, Any], *, compounds: int, split: str = "") -> str:
    """Tell a compound in a few sentences.

    Parameters
    ----------
    row
        One row of `tables.ranking_rows`.
    compounds
        How many were ranked.
    split
        What is known of the split among pathways over dose, in words.
    """
    name = words.plain(row["compound"])
    rank = f"It ranks {words.number(row['rank'])} of {compounds}"
    if "rank_low" in row and row["rank_low"] != row["rank_high"]:
        rank += (
            f" and may truly stand anywhere from {words.number(row['rank_low'])} to {words.number(row['rank_high'])}"
        )
    if not row["dominant_pathway"]:
        return f"{name}: {words.ec50(row)}. {rank}."
    share = words.percent(row["dominant_share"])
    ends = words.percent_interval(row["dominant_share_low"], row["dominant_share_high"])
    second = f"; {row['second_pathway']} is within error of it" if row["dominant_tied"] else ""
    sentences = [
        f"{name} kills by {row['dominant_pathway']}: {share} of the deaths{f' ({ends})' if ends else ''}{second}",
        words.ec50(row),
        f"at {words.concentration(row['dose_max'])} {words.percent(row['emax'])} die beyond vehicle"
        f" ({words.percent_interval(row['emax_low'], row['emax_high'])})",
    ]
    if row["t_half_status"] == "before_first" or math.isfinite(float(row["t_half"])):
        by = "" if row["t_half_status"] == "before_first" else "by "
        sentences.append(f"half of the deaths have happened {by}{words.half_time(row)}")
    if split:
        sentences.append(split)
    first, *others = [*sentences, rank]  # a name keeps its small letter
    return ". ".join([first, *(sentence[0].upper() + sentence[1:] for sentence in others)]) + "."


def _part(
    page: Page, name: str, results: Mapping[str, xr.Dataset], plates: Sequence[OnPlate], days: Mapping[str, str]
) -> dict[str, Any]:
    """One compound in one cell line: its line in words, its figures and its numbers."""
    ranking, fits = results["ranking"], results["dose_response"]
    row = tables.ranking_rows(ranking.sel(compound=[name]), fits)[0]
    mine = [plate for plate in plates if len(tables.wells_of(plate.normalized, name))]
    curves = {plate.name: fit for plate in mine if (fit := _own_curve(plate, name)) is not None}
    shown = words.plain(name)
    drawn = [
        (dossier_figures.curves_of_plates(fits, curves, compound=name),
         "Excess death over vehicle against dose: pooled curve with its band, each plate's own curve dashed, every "
         "marker a well.", f"Death against dose of {shown} on each plate and pooled: {words.ec50(row)}")
    ]  # fmt: skip
    if curves:
        drawn.append(
            (dossier_figures.ec50_of_plates(fits, curves, compound=name, days=days),
             "EC50 of each plate by itself; line and band are those of all plates together.",
             f"EC50 of {shown} on each plate")
        )  # fmt: skip
    split, switch = "", None
    if "pathways" in results and name in results["pathways"]["compound"].values:
        pathways = results["pathways"]
        one = pathways.sel(compound=name)
        switch = {str(key): one[key].item() for key in one.data_vars if one[key].ndim == 0}
        split = told_switch(switch) if switch["status"] in ("switch", "shift", "constant") else ""
        split = f"with rising dose it changes from {split}" if switch["status"] == "switch" else split
        drawn.append(
            (figures.pathway_curves(pathways, compound=name, fits=fits),
             "Excess death by each pathway against dose, and the dose at which the leading pathway changes.",
             f"Pathways of {shown} against dose: {split or 'no split'}")
        )  # fmt: skip
    doses: list[dict[str, Any]] = []
    if "kinetics" in results and name in results["kinetics"]["compound"].values:
        kinetics = results["kinetics"]
        drawn += _timing(kinetics, name, shown)
        doses = _doses(kinetics.sel(compound=name))
    courses = [
        (page.figure(
            figures.cumulative_incidence(plate.normalized, compound=name, kinetics=None),
            label=f"Deaths of {shown} over time on plate {words.plain(plate.name)}"), plate.name)
        for plate in mine[:COURSES]
        if "excess" in plate.normalized
    ]  # fmt: skip
    return {
        "name": name,
        "row": row,
        "verdict": verdict_line(row, compounds=ranking.sizes["compound"], split=split),
        "figures": [(page.figure(figure, label=label), caption) for figure, caption, label in drawn],
        "courses": courses,
        "readouts": tables.readout_rows(fits, name),
        "switch": switch,
        "doses": doses,
    }


def _timing(kinetics: xr.Dataset, name: str, shown: str) -> list[tuple[Any, str, str]]:
    drawn = [
        (figures.ec50_over_time(kinetics, compound=name), "EC50 at each frame, with its interval.",
         f"EC50 of {shown} against time"),
        (figures.half_time_against_dose(kinetics, compound=name), "Time to half of the final deaths at each dose.",
         f"Half-times of {shown} against dose"),
    ]  # fmt: skip
    onset = dossier_figures.onset_and_rate(kinetics, compound=name)
    if onset is not None:
        drawn.append((onset, "Lag before death begins, at each dose.", f"Onset of death under {shown} against dose"))
    return drawn


def _doses(one: xr.Dataset) -> list[dict[str, Any]]:
    """Timing at each dose, from the highest down."""
    names = ("t_half", "onset", "rate", "t50", "final_excess")
    rows = []
    for index in np.argsort(-np.nan_to_num(one["dose_by_dose"].values.astype(float), nan=-1), kind="stable"):
        at = one.isel(dose_index=int(index))
        if not math.isfinite(float(at["dose_by_dose"])):
            continue
        row: dict[str, Any] = {"dose": float(at["dose_by_dose"])}
        for name in names:
            for end in ("", "_low", "_high"):
                key = f"{name}{end}_by_dose"
                row[f"{name}{end}"] = float(at[key]) if key in at else math.nan
        rows.append(row | {"status": str(at["status_by_dose"].item()) if "status_by_dose" in at else ""})
    return rows


def _own_curve(plate: OnPlate, name: str) -> xr.Dataset | None:
    """The plate's own fit; on a plate of one cell line the compound has no brackets."""
    if not has_result(plate.store, "dose_response"):
        return None
    fits = read_result(plate.store, "dose_response")
    known = [str(one) for one in fits["compound"].values]
    bare = name.rpartition(" [")[0] if name.endswith("]") else name
    found = next((one for one in (name, bare) if one in known), None)
    return None if found is None else fits.sel(compound=found)


def _wells(plates: Sequence[OnPlate], entries: Sequence[str], fits: xr.Dataset) -> list[dict[str, Any]]:
    """Every well of the compound on every plate, used or not, and why."""
    fitted = set()
    for name in entries:
        one = fits.sel(compound=name, readout="death")
        dims = ("dose_index", "replicate")
        held = np.isfinite(one["response"].transpose(*dims).values)
        plate, well = (one[key].transpose(*dims).values[held] for key in ("plate", "well"))
        fitted |= set(zip(map(str, plate), map(str, well), strict=True))
    rows = []
    for plate in plates:
        data = plate.normalized
        excess = "death_excess" if "death_excess" in data else "death_percent"
        for place in plate.wells:
            one = data.isel(well=int(place), timepoint=plate.reading)
            row: dict[str, Any] = {"plate": plate.name, "well": str(one["well"].item())}
            masked = str(one["masked"].item()) if "masked" in one.variables else ""
            row |= {
                "cell_line": str(one["cell_line"].item()),
                "dose": float(one["dose"].item()),
                "death": float(one["death"].item()) if "death" in one else math.nan,
                "excess": float(one[excess].item()) / (1 if excess == "death_excess" else 100),
                "used": (row["plate"], row["well"]) in fitted,
            }
            reason = masked or ("" if row["used"] else "no value" if math.isnan(row["excess"]) else "plate not used")
            rows.append(row | {"reason": reason})
    return sorted(rows, key=lambda row: (-row["dose"], row["plate"], row["well"]))


def _plates(
    plates: Sequence[OnPlate],
    stored: xr.Dataset,
    wells: Sequence[Mapping[str, Any]],
    days: Mapping[str, str],
    reports: Mapping[str, Path],
    out: Path,
) -> list[dict[str, Any]]:
    rows = []
    for plate in plates:
        one = stored.sel(plate=plate.name)
        mine = [row for row in wells if row["plate"] == plate.name]
        rows.append(
            {"plate": plate.name, "verdict": str(one["verdict"].item()), "used": bool(one["used"].item()),
             "day": days[plate.name], "wells": len(mine), "fitted": sum(row["used"] for row in mine),
             "cell_lines": ", ".join(sorted({words.plain(row["cell_line"]) for row in mine if row["cell_line"]})),
             "link": relative_link(reports[plate.name], start=out) if plate.name in reports else ""}
        )  # fmt: skip
    return rows


def _alerts(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    made = [row["made"] for row in rows if row["made"]]
    alerts = differences(rows)
    for card in {one["classifier_sha256"]: one for one in made}.values():
        alerts += classifier_alerts(card, cell_lines=sorted({line for one in made for line in one["cell_lines"]}))
    return by_weight(alerts)


def _day(store: Path) -> str:
    if not has_result(store, "fields"):
        return ""
    fields = read_result(store, "fields")
    if "acquired" not in fields:
        return ""
    times = fields["acquired"].values.astype("datetime64[ns]")
    times = times[~np.isnat(times)]
    return str(times.min().astype("datetime64[D]")) if times.size else ""


def _downloads(
    page: Page,
    results: Mapping[str, xr.Dataset],
    entries: Sequence[str],
    wells: Sequence[Mapping[str, Any]],
    listed: Sequence[Mapping[str, Any]],
) -> list[tuple[Any, str]]:
    mine = {name: one.sel(compound=list(entries)) for name, one in results.items() if "compound" in one.dims}
    downloads = [
        (page.table("wells", pd.DataFrame(wells)), "every well of the compound, used or not"),
        (page.table("ranking", tables.ranking_table(mine["ranking"])), "its row of the ranking"),
        (page.table("curves", tables.curves_table(mine["dose_response"])), "its fits, a row a readout"),
        (page.table("points", tables.points_table(mine["dose_response"])), "the wells that the curves were fitted to"),
        (page.table("plates", pd.DataFrame(listed).drop(columns="link", errors="ignore")), "the plates that hold it"),
    ]
    for name, dims, what in (
        ("kinetics", ("compound", "dose_index"), "timing at each dose"),
        ("pathways", ("compound",), "how its deaths split among pathways"),
    ):
        if name in mine:
            downloads.append((page.table(name, result_table(mine[name], dims)), what))
    if "kinetics" in mine:
        over_time = result_table(mine["kinetics"], ("compound", "frame")).merge(
            mine["kinetics"]["hours"].to_dataframe().reset_index(), on="frame"
        )  # fmt: skip
        downloads.append((page.table("ec50_by_time", over_time), "EC50 and effect at each frame"))
    return downloads
