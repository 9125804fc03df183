"""What a reader must know before any number on the page, most serious first."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from . import words

DONE = 1


@dataclass(frozen=True)
class Alert:
    """One sentence of warning: its weight ("failure", "warning" or "note") and the section that shows more."""

    weight: str
    text: str
    section: str = ""


UNCERTAIN_FACTOR = 3  # times as many uncertain patches as expected are worth a note
CARD_TEXT = 200  # characters of a classifier's card that an alert quotes


def plate_alerts(
    *, layout: xr.Dataset, fields: xr.Dataset, probabilities: xr.Dataset, fractions: xr.Dataset, quality: xr.Dataset
) -> list[Alert]:
    """Read the alerts of one plate out of its stored results."""
    alerts = [
        *_verdict(quality),
        *_controls(layout, fractions),
        *classifier_alerts(probabilities.attrs, cell_lines=cell_lines(layout)),
        *_strange(probabilities),
        *_missing(layout, fields, probabilities),
        *_empty(fractions, probabilities),
    ]
    return by_weight(alerts)


def classifier_alerts(card: Mapping[str, object], *, cell_lines: Sequence[str]) -> list[Alert]:
    """Whether the classifier knows such cells, and whether its probabilities mean what they say."""
    trained_on = str(card.get("trained_on", "")).strip()
    strangers = [line for line in cell_lines if not _names(trained_on, line)]
    alerts = []
    if not trained_on:
        alerts.append(Alert("warning", "The classifier does not say what it was trained on.", "methods"))
    elif "simulat" in trained_on.lower():
        cells = f"for {_and(strangers)} and every other line, " if strangers else ""
        alerts.append(
            Alert(
                "warning",
                "The classifier was not trained on real cells: its card says "
                f'"{words.plain(trained_on, longest=CARD_TEXT)}". '
                f"On images from a microscope, {cells}no state and no number on this page means anything before "
                "the classifier is trained on annotated patches of such cells.",
                "methods",
            )
        )
    elif strangers:
        alerts.append(
            Alert(
                "warning",
                f"The classifier was not trained on such data: its card does not name {_and(strangers)}. "
                "Fine-tune it with annotated patches of these cells, or check the overlays by eye.",
                "methods",
            )
        )
    calibration = str(card.get("calibration", "")).strip()
    if not calibration or re.search(r"\b(not|un)[ -]?calibrated|\bnone\b", calibration.lower()):
        said = f' (its card says "{words.plain(calibration, longest=CARD_TEXT)}")' if calibration else ""
        alerts.append(
            Alert(
                "warning",
                f"The classifier is not calibrated{said}: 80 % on a patch does not mean right in 80 of 100.",
                "methods",
            )
        )
    return alerts


def by_weight(alerts: Sequence[Alert]) -> list[Alert]:
    """Most serious first, otherwise as given."""
    return sorted(alerts, key=lambda alert: ("failure", "warning", "note").index(alert.weight))


def cell_lines(layout: xr.Dataset) -> list[str]:
    """The cell lines that a plate map names."""
    return sorted({str(name) for name in layout["cell_line"].values if str(name)})


def _verdict(quality: xr.Dataset) -> list[Alert]:
    weight = {"FAIL": "failure", "REVIEW": "warning"}.get(str(quality.attrs["verdict"]))
    if weight is None:
        return []
    reasons = quality.attrs.get("reasons", "[]")
    listed = json.loads(reasons) if isinstance(reasons, str) else list(reasons)
    return [Alert(weight, str(reason), "controls") for reason in listed]


def _controls(layout: xr.Dataset, fractions: xr.Dataset) -> list[Alert]:
    alerts = []
    measured = np.isfinite(fractions["death"].values).any(axis=fractions["death"].get_axis_num("timepoint"))
    for kind, name in (("negative", "vehicle"), ("positive", "positive control")):
        wells = layout["control"].values == kind
        if not wells.any():
            alerts.append(Alert("failure", f"The plate map names no {name} wells.", "controls"))
        elif not measured[wells].any():
            alerts.append(Alert("failure", f"None of the {wells.sum()} {name} wells was measured.", "controls"))
    return alerts


def _strange(probabilities: xr.Dataset) -> list[Alert]:
    """What the classifier says against its own numbers on this plate."""
    attrs, alerts = probabilities.attrs, []
    if attrs.get("outlier_flagged"):
        alerts.append(
            Alert(
                "warning",
                f"This plate is unlike what the classifier was trained on: {attrs['outlier_text']} "
                "Another cell line, instrument, focus or dose may be the reason; compare the overlays, and adapt the "
                "classifier with annotated patches of this plate (tomoscreen adapt).",
                "methods",
            )
        )
    share, expected = attrs.get("uncertain_share", 0.0), attrs.get("uncertain_expected", 1.0)
    if share > UNCERTAIN_FACTOR * expected:
        alerts.append(
            Alert(
                "note",
                f"The classifier is uncertain about {share:.0%} of the patches; on wells like those it was trained on "
                f"it is about {expected:.0%} of them.",
                "methods",
            )
        )
    return alerts


def _missing(layout: xr.Dataset, fields: xr.Dataset, probabilities: xr.Dataset) -> list[Alert]:
    alerts = []
    status = probabilities["status"].transpose("well", "field", "timepoint")
    seen = set(status["well"].values[(status.values == DONE).any(axis=(1, 2))])
    absent = [str(well) for well in layout["well"].values if well not in seen]
    if absent:
        count = f"{len(absent)} of {layout.sizes['well']}"
        alerts.append(Alert("warning", f"Wells without a classified image, {count}: {_and(absent)}.", "maps"))
    stored = fields["status"].values
    for code, text in ((2, "could not be read"), (3, "missing"), (0, "still to come")):
        if found := int((stored == code).sum()):
            alerts.append(
                Alert("warning", f"Images (well, field, timepoint) {text}: {found} of {stored.size}.", "maps")
            )
    return alerts


def _empty(fractions: xr.Dataset, probabilities: xr.Dataset) -> list[Alert]:
    """Wells that were imaged and hold no cells; those that were not imaged have an alert of their own."""
    imaged = (probabilities["status"] == DONE).any("field")
    bare = (fractions["patches"] == 0) & imaged.reindex_like(fractions["patches"], fill_value=False)
    wells = [str(well) for well in fractions["well"].values[bare.any("timepoint").values]]
    return [Alert("note", f"No cells were found at some timepoint in {_and(wells)}.", "maps")] if wells else []


def _names(text: str, line: str) -> bool:
    """Whether a text names a cell line, whatever the spelling: HeLa, hela, A-549."""
    return re.sub(r"[^a-z0-9]", "", line.lower()) in re.sub(r"[^a-z0-9]", "", text.lower())


def _and(names: Sequence[str], most: int = 12) -> str:
    shown = [words.plain(name) for name in names[:most]]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")
