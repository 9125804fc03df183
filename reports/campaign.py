"""The report of a campaign: its plates as one, compounds ranked by how, how strongly and how potently they kill."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from plates.results import has_result, read_result

from . import campaign_figures, figures, plate_agreement_figures, tables, words
from .alerts import Alert, by_weight, classifier_alerts
from .campaign_plates import changed_settings, differences, plates_of, store_of
from .dossier_links import dossier_command, dossier_links
from .methods import methods_text, references
from .page import Page, relative_link
from .plate_maps import colour_scale
from .ranking_table import SERVER_ROWS, ranking_columns, sheet, tested

VERDICTS = ("PASS", "REVIEW", "FAIL")
NEEDED = ("plates", "dose_response", "ranking")
OPTIONAL = ("kinetics", "pathways", "agreement", "batches", "control_charts")
CURVES = 100
MOST_CURVES = 1000  # compounds above which curves stay in the reports of the plates
STATUSES = {
    "quantified": "with an EC50",
    "slope_at_bound": "with an EC50 between two doses",
    "biphasic": "that rise and fall",
    "above_range": "with an EC50 above the tested doses",
    "below_range": "with an EC50 below the tested doses",
    "single_point": "of which only the highest dose acts",
    "no_effect": "without effect",
    "inverse": "with fewer deaths than vehicle",
    "not_fitted": "not fitted: too few doses or wells",
}


def write_campaign_report(
    campaign_results: Path,
    *,
    out: Path,
    plate_reports: dict[str, Path],
    analysed: str = "",
    settings: str = "",
    changed: Sequence[str] | None = None,
) -> Path:
    """Write the page of a campaign and the CSV files beside it; equal results give equal bytes.

    Parameters
    ----------
    campaign_results
        The campaign's results store, with groups `plates`, `ranking` and `dose_response`; of `kinetics`, `pathways`,
        `agreement`, `batches` and `control_charts` those that are not there leave their parts of the page out.
    out
        The page to write, for example `campaign.html`.
    plate_reports
        The page of each plate by the plate's name; a plate without one is listed without a link.
    analysed
        Date and time of the analysis from the run record, shown as given.
    settings
        The settings of the run as text, shown folded.
    changed
        Settings of the analysis that are not the defaults, one sentence each; None where nobody compared.

    Raises
    ------
    MissingInputError
        A result is not there; the message names the command that makes it.
    """
    results = {name: read_result(campaign_results, name) for name in NEEDED}
    results |= {name: read_result(campaign_results, name) for name in OPTIONAL if has_result(campaign_results, name)}
    plates, fits, ranking = results["plates"], results["dose_response"], results["ranking"]
    page = Page(out, scripts=("paged_table.js",), styles=("campaign.css",))
    count = ranking.sizes["compound"]
    drawn = min(CURVES, count) if count <= MOST_CURVES else 0
    columns = ranking_columns(ranking, fits, kinetics=results.get("kinetics"), pathways=results.get("pathways"))
    name = campaign_results.name.removesuffix(".results.zarr")
    compound_names = [str(compound) for compound in ranking["compound"].values]
    dossiers = dossier_links(compound_names, campaign=name, out=out)
    page.data("ranking-sheet", sheet(columns, anchor="ranking", drawn=drawn) | {"dossiers": dossiers})
    own = plates_of(plates, campaign_results)
    listed = _plate_rows(plates, own, plate_reports, out)
    return page.write(
        "campaign.html",
        name=name,
        analysed=analysed,
        settings=settings,
        counts=_counts(listed, own, ranking),
        alerts=campaign_alerts(plates, own),
        columns=columns,
        shown=[column for column in columns if column.shown],
        rows=range(min(count, SERVER_ROWS)),
        dossiers=dossiers,
        dossier_command=_dossier_command(campaign_results, compound_names, dossiers),
        compounds=count,
        drawn=drawn,
        file=f"{out.stem}.shown.csv",
        maps=_maps(page, results),
        curves=_curves(page, fits, ranking, drawn),
        agreement=_agreement(page, results),
        charts=_charts(page, results),
        batches=_batches(results),
        plates=listed,
        ledger=[line for row in own for line in row["ledger"]],
        made_by=[row for row in own if row["made"]],
        changed=changed_settings(own),
        methods=_methods(results, campaign_results, changed),
        records=[
            (name, json.dumps(tables.provenance(result), indent=1, sort_keys=True, default=str))
            for name, result in results.items()
        ],
        downloads=_downloads(page, results, listed),
    )


def campaign_alerts(plates: xr.Dataset, own: Sequence[Mapping[str, Any]]) -> list[Alert]:
    """Plates that were not treated alike, what the classifier does not know, and plates that failed.

    Parameters
    ----------
    plates
        The stored `plates` of the campaign.
    own
        One row a plate, as `campaign_plates.plates_of` reads it.
    """
    alerts = differences(own, mixed=str(plates.attrs.get("mixed", "")))
    made = [row["made"] for row in own if row["made"]]
    for card in {card["classifier_sha256"]: card for card in made}.values():
        lines = sorted({line for one in made for line in one["cell_lines"]})
        alerts += classifier_alerts(card, cell_lines=lines)
    if note := str(plates.attrs.get("note", "")):
        alerts.append(Alert("failure", note, "plates"))
    names, verdicts = plates["plate"].values, plates["verdict"].values
    for verdict, weight in (("FAIL", "failure"), ("REVIEW", "warning")):
        if (found := verdicts == verdict).any():
            few = [words.plain(name) for name in names[found][:12]]
            more = f" and {int(found.sum()) - 12} more" if found.sum() > 12 else ""
            alerts.append(
                Alert(
                    weight, f"{found.sum()} of {len(names)} plates: {verdict} ({', '.join(few)}{more}).", "plates"
                )
            )  # fmt: skip
    return by_weight(alerts)


def result_table(result: xr.Dataset, dims: tuple[str, ...]) -> pd.DataFrame:
    """Flatten the variables over exactly these dimensions; columns by name, for a store gives them in any order."""
    names = sorted(str(key) for key in result.data_vars if result[key].dims == dims)
    table: pd.DataFrame = result[names].reset_coords(drop=True).to_dataframe().reset_index()
    return table[[*(dim for dim in dims if dim in table.columns), *names]]


def _dossier_command(store: Path, compounds: Sequence[str], dossiers: Mapping[int, str]) -> str:
    """How to make the dossier of the first compound that has none; empty where all have one."""
    without = next((name for place, name in enumerate(compounds) if place not in dossiers), "")
    return dossier_command(store, without) if without else ""


def _counts(
    listed: Sequence[Mapping[str, Any]], own: Sequence[Mapping[str, Any]], ranking: xr.Dataset
) -> dict[str, Any]:
    counted = Counter(str(status) for status in ranking["status"].values).most_common()
    statuses = [(STATUSES.get(status, status.replace("_", " ")), count) for status, count in counted]
    hits = int(ranking["hit"].values.sum()) if "hit" in ranking else None
    return {
        "verdicts": [(verdict, sum(row["verdict"] == verdict for row in listed)) for verdict in VERDICTS],
        "statuses": statuses,
        "wells": sum(row["wells"] for row in own),
        "excluded": sum(row["excluded"] for row in own),
        "left_out": sum(
            row["wells"] - row["excluded"] for row, plate in zip(own, listed, strict=True) if not plate["used"]
        ),
        "hits": hits,
    }


def _maps(page: Page, results: Mapping[str, xr.Dataset]) -> dict[str, Any]:
    """Potency against pathway, the map of pathways and the map of timing."""
    ranking, fits = results["ranking"], results["dose_response"]
    if not ranking.sizes["compound"]:
        return {}
    lows, highs = tested(fits)
    lowest, highest = float(np.nanmin(lows, initial=math.inf)), float(np.nanmax(highs, initial=-math.inf))
    potency = campaign_figures.potency_and_share(ranking, dose_min=lowest, dose_max=highest)
    drawn: dict[str, Any] = {
        "potency": page.figure(potency, label="EC50 of every compound against the share of its dominant pathway"),
        "forest": page.figure(
            figures.potency_by_pathway(ranking, dose_max=highest), label="EC50 of compounds, grouped by pathway"
        ),
        "pathways": page.figure(
            campaign_figures.pathway_map(fits, ranking), label="Excess death by each pathway for every compound"
        ),
        "points": min(ranking.sizes["compound"], campaign_figures.MOST_POINTS),
        "rows": min(ranking.sizes["compound"], campaign_figures.MOST_ROWS),
        "forest_rows": min(ranking.sizes["compound"], figures.LONGEST_FOREST),
        "named": campaign_figures.NAMED_ROWS,
        "kinetics": "",
        "scale": colour_scale()[::4],
    }
    timing = campaign_figures.kinetics_map(results["kinetics"], ranking) if "kinetics" in results else None
    if timing is not None:
        drawn["kinetics"] = page.figure(timing, label="Onset of death against its rate for every compound")
    return drawn


def _curves(page: Page, fits: xr.Dataset, ranking: xr.Dataset, drawn: int) -> list[dict[str, Any]]:
    shown = ranking.isel(compound=slice(0, drawn))
    return [
        row
        | {
            "curve": page.figure(
                figures.dose_response(fits, compound=row["compound"], height=230),
                label=f"Death against dose of {words.plain(row['compound'])}: {words.ec50(row)}",
            )
        }
        for row in tables.ranking_rows(shown, fits)
    ]


def _agreement(page: Page, results: Mapping[str, xr.Dataset]) -> dict[str, Any] | None:
    """How far plates agree: a square of all pairs, limits of agreement, and the widest pair point by point."""
    if "agreement" not in results or not results["agreement"].sizes["pair"]:
        return None
    stored = results["agreement"]
    rows = [
        {str(key): stored[key].values[index].item() if stored[key].dtype.kind == "f" else stored[key].values[index]
         for key in stored if stored[key].dims == ("pair",)}
        for index in range(stored.sizes["pair"])
    ]  # fmt: skip
    between = [row for row in rows if row["kind"] == "plates"]
    drawn: list[tuple[Any, str]] = []
    if between:
        square = plate_agreement_figures.plate_correlation(stored)
        told = "Lin's concordance of every two plates: 1 where both give the same death for every compound and dose."
        most = plate_agreement_figures.MOST_PLATES
        count = len({str(row[side]) for row in between for side in ("first", "second")})
        if count > most:
            told += f" Drawn are the first {most} of {count} plates; the file has every pair."
        if len(between) > 1:
            drawn.append((page.figure(square, label="Concordance of every two plates"), told))
        limits = "Bias of every two plates and the range that holds 95 % of their differences (Bland and Altman)."
        if len(between) > most:
            limits += f" Drawn are the {most} of {len(between)} pairs that differ most; the file has every pair."
        drawn.append((page.figure(plate_agreement_figures.limits_of_agreement(stored), label=limits), limits))
        widest = max(between, key=lambda row: float(np.nan_to_num(row["sd"], nan=-1)))
        first, second = str(widest["first"]), str(widest["second"])
        points = plate_agreement_figures.bland_altman(stored, first=first, second=second)
        if points is not None:
            told = (
                f"The two plates that differ most, {words.plain(first)} and {words.plain(second)}: difference against "
                "mean of each compound and dose, with bias and limits of agreement."
            )
            drawn.append((page.figure(points, label=told), told))
    return {"figures": drawn, "rows": rows[:SERVER_ROWS], "count": len(rows)}


def _charts(page: Page, results: Mapping[str, xr.Dataset]) -> dict[str, Any] | None:
    if "control_charts" not in results:
        return None
    charts, days = results["control_charts"], plate_agreement_figures.days_of(results["control_charts"])
    drawn, rows = [], []
    for readout in (str(name) for name in charts["readout"].values):
        what = plate_agreement_figures.CHARTS.get(readout, readout)
        chart = plate_agreement_figures.control_chart(charts, readout=readout)
        if chart is None:
            continue
        if readout in plate_agreement_figures.DRAWN_CHARTS:
            drawn.append((page.figure(chart, label=f"Control chart over plates: {what}"), what))
        one = charts.sel(readout=readout)
        rows += [
            {"readout": what, "plate": str(plate), "day": day,
             **{key: one[key].values[place] for key in ("value", "z", "rules", "status")}}
            for place, (plate, day) in enumerate(zip(charts["plate"].values, days, strict=True))
        ]  # fmt: skip
    return {"figures": drawn, "rows": rows, "attrs": dict(charts.attrs)} if rows else None


def _batches(results: Mapping[str, xr.Dataset]) -> list[dict[str, Any]]:
    if "batches" not in results:
        return []
    stored = results["batches"]
    return [
        {"readout": readout, "level": level,
         **{str(key): stored[key].sel(readout=readout, level=level).item() for key in stored.data_vars}}
        for readout in map(str, stored["readout"].values)
        for level in map(str, stored["level"].values)
    ]  # fmt: skip


def _plate_rows(
    plates: xr.Dataset, own: Sequence[Mapping[str, Any]], plate_reports: Mapping[str, Path], out: Path
) -> list[dict[str, Any]]:
    rows = []
    for index, name in enumerate(str(name) for name in plates["plate"].values):
        one = plates.isel(plate=index)
        row = {str(key): one[key].item() for key in one.data_vars if one[key].ndim == 0}
        link = relative_link(plate_reports[name], start=out) if name in plate_reports else ""
        reasons = " ".join(json.loads(row["reasons"]))
        seen = {key: own[index][key] for key in ("wells", "excluded", "picture")}
        rows.append(row | seen | {"plate": name, "link": link, "reasons": reasons})
    return rows


def _methods(
    results: Mapping[str, xr.Dataset], campaign_results: Path, changed: Sequence[str] | None
) -> dict[str, list[str]]:
    """The methods section in words; of the first plate that is at hand where plates were treated alike."""
    known = dict(results)
    for name, path in zip(results["plates"]["plate"].values, results["plates"]["path"].values, strict=True):
        store = store_of(str(name), str(path), campaign_results)
        if all(has_result(store, part) for part in ("layout", "fields", "probabilities")):
            known |= {part: read_result(store, part) for part in ("layout", "fields")}
            # the probabilities may be large, and only what is known of them is wanted
            unread = ("probability", "foreground")
            with xr.open_dataset(
                store, group="probabilities", engine="zarr", consolidated=False, drop_variables=unread
            ) as probabilities:
                known["probabilities"] = probabilities.load()
            break
    return {"paragraphs": methods_text(known, changed=changed), "references": references(known)}


def _downloads(
    page: Page, results: Mapping[str, xr.Dataset], rows: Sequence[Mapping[str, Any]]
) -> list[tuple[Any, str]]:
    fits = results["dose_response"]
    plates = tables.plates_table(results["plates"])
    plates = plates.assign(**{name: [row[name] for row in rows] for name in ("wells", "excluded")})
    listed = [
        (page.table("ranking", tables.ranking_table(results["ranking"])), "the ranking as stored"),
        (page.table("curves", tables.curves_table(fits)), "every fit of every compound and readout"),
        (page.table("points", tables.points_table(fits)), "the wells that the curves were fitted to"),
        (page.table("plates", plates), "the plates with verdict, statistics and wells"),
    ]
    for name, dims, what in (
        ("kinetics", ("compound",), "onset, rate and half times of every compound at its top dose"),
        ("pathways", ("compound",), "how deaths split among pathways, and where a compound changes its way"),
        ("agreement", ("pair",), "every two plates, and replicates of each plate"),
        ("control_charts", ("readout", "plate"), "reference compound, controls and their statistics over the plates"),
        ("batches", ("readout", "level"), "what the scatter comes from"),
    ):
        if name in results:
            listed.append((page.table(name, result_table(results[name], dims)), what))
    return listed
