"""The report of a campaign: its plates as one, compounds ranked by how, how strongly and how potently they kill."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from plates.results import has_result, read_result

from . import figures, tables, words
from .alerts import Alert, by_weight, cell_lines, classifier_alerts
from .page import Page, relative_link

VERDICTS = ("PASS", "REVIEW", "FAIL")
CURVES = 100
STATUSES = {
    "quantified": "with an EC50",
    "slope_at_bound": "with an EC50 between two doses",
    "biphasic": "that rise and fall",
    "above_range": "with an EC50 above the tested doses",
    "below_range": "with an EC50 below the tested doses",
    "no_effect": "without effect",
    "not_fitted": "not fitted",
}


def write_campaign_report(
    campaign_results: Path, *, out: Path, plate_reports: dict[str, Path], analysed: str = "", settings: str = ""
) -> Path:
    """Write the page of a campaign and the CSV files beside it; equal results give equal bytes.

    Parameters
    ----------
    campaign_results
        The campaign's results store, with groups `plates`, `ranking` and `dose_response`.
    out
        The page to write, for example `campaign.html`.
    plate_reports
        The page of each plate by the plate's name; a plate without one is listed without a link.
    analysed
        Date and time of the analysis from the run record, shown as given.
    settings
        The settings of the run as text, shown folded.

    Raises
    ------
    MissingInputError
        A result is not there; the message names the command that makes it.
    """
    results = {name: read_result(campaign_results, name) for name in ("plates", "dose_response", "ranking")}
    plates, fits, ranking = results["plates"], results["dose_response"], results["ranking"]
    rows = tables.ranking_rows(ranking, fits)
    page = Page(out)
    highest = max((row["dose_max"] for row in rows if math.isfinite(row["dose_max"])), default=math.nan)
    forest = figures.potency_by_pathway(ranking, dose_max=highest)
    potency = page.figure(forest, label="EC50 of every compound, grouped by pathway") if rows else ""
    curves = [
        row
        | {
            "curve": page.figure(
                figures.dose_response(fits, compound=row["compound"], height=230),
                label=f"Death against dose of {words.plain(row['compound'])}: {words.ec50(row)}",
            )
        }
        for row in rows[:CURVES]
    ]
    listed = _plate_rows(plates, plate_reports, out)
    counted = Counter(str(status) for status in ranking["status"].values).most_common()
    made_by = _made_by(plates, campaign_results)
    return page.write(
        "campaign.html",
        name=campaign_results.name.removesuffix(".results.zarr"),
        analysed=analysed,
        settings=settings,
        verdicts=[(verdict, sum(row["verdict"] == verdict for row in listed)) for verdict in VERDICTS],
        statuses=[(STATUSES.get(status, status.replace("_", " ")), count) for status, count in counted],
        alerts=campaign_alerts(plates, made_by),
        made_by=made_by,
        ranking=rows,
        potency=potency,
        potency_limit=figures.LONGEST_FOREST,
        curves=curves,
        plates=listed,
        records=[
            (name, json.dumps(tables.provenance(result), indent=1, sort_keys=True, default=str))
            for name, result in results.items()
        ],
        downloads=[
            (page.table("ranking", tables.ranking_table(ranking)), "the ranking as stored"),
            (page.table("curves", tables.curves_table(fits)), "every fit of every compound and readout"),
            (page.table("points", tables.points_table(fits)), "the wells that the curves were fitted to"),
            (page.table("plates", tables.plates_table(plates)), "the plates with verdict and control statistics"),
        ],
    )  # fmt: skip


def campaign_alerts(plates: xr.Dataset, made_by: Sequence[Mapping[str, Any]]) -> list[Alert]:
    """What the classifier does not know, plates that were not treated alike, and plates that failed.

    Parameters
    ----------
    plates
        The stored `plates` of the campaign.
    made_by
        Per plate: classifier, classifier_sha256, trained_on, calibration, version and cell_lines.
    """
    alerts = []
    for column, what in (
        ("classifier_sha256", "classifiers"),
        ("calibration", "calibrations"),
        ("version", "versions"),
    ):
        if (different := len({row[column] for row in made_by})) > 1:
            alerts.append(Alert("failure", f"The plates were analysed with {different} different {what}.", "methods"))
    for card in {row["classifier_sha256"]: row for row in made_by}.values():
        lines = sorted({line for row in made_by for line in row["cell_lines"]})
        alerts += classifier_alerts(card, cell_lines=lines)
    if note := str(plates.attrs.get("note", "")):
        alerts.append(Alert("failure", note, "plates"))
    names, verdicts = plates["plate"].values, plates["verdict"].values
    for verdict, weight in (("FAIL", "failure"), ("REVIEW", "warning")):
        if (found := verdicts == verdict).any():
            listed = ", ".join(words.plain(name) for name in names[found])
            alerts.append(Alert(weight, f"{found.sum()} of {len(names)} plates: {verdict} ({listed}).", "plates"))
    return by_weight(alerts)


def _plate_rows(plates: xr.Dataset, plate_reports: Mapping[str, Path], out: Path) -> list[dict[str, Any]]:
    rows = []
    for index, name in enumerate(str(name) for name in plates["plate"].values):
        one = plates.isel(plate=index)
        row = {str(key): one[key].item() for key in one.data_vars if one[key].ndim == 0}
        link = relative_link(plate_reports[name], start=out) if name in plate_reports else ""
        rows.append(row | {"plate": name, "link": link, "reasons": " ".join(json.loads(row["reasons"]))})
    return rows


def _made_by(plates: xr.Dataset, campaign_results: Path) -> list[dict[str, Any]]:
    """What each plate was analysed with, from its own results: beside the campaign's, or where they were then."""
    rows = []
    for name, path in zip(plates["plate"].values, plates["path"].values, strict=True):
        near = campaign_results.with_name(f"{name}.results.zarr")
        store = near if near.exists() else Path(path)
        if not (has_result(store, "layout") and has_result(store, "probabilities")):
            continue
        layout = read_result(store, "layout")
        # the table of probabilities may be large, and only its attributes are wanted
        with xr.open_dataset(store, group="probabilities", engine="zarr", consolidated=False) as probabilities:
            card = {
                key: probabilities.attrs[key]
                for key in ("classifier", "classifier_sha256", "trained_on", "calibration")
            }
            version = str(tables.provenance(probabilities).get("version", "not recorded"))
        rows.append(
            card
            | {"plate": str(name), "version": version, "cell_lines": cell_lines(layout)}
            | {key: str(layout.attrs[key]) for key in ("source", "sha256")}
        )
    return rows
