"""What a reader must know before any number on the page, most serious first."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from plates.layout.roles import is_masked

from . import words

DONE = 1


@dataclass(frozen=True)
class Alert:
    """One sentence of warning: its weight ("failure", "warning" or "note") and the section that shows more.

    `wells` are those that the sentence is about; a page that can open a well links to them.
    """

    weight: str
    text: str
    section: str = ""
    wells: tuple[str, ...] = ()


UNLIKE = "unlike what the classifier was trained on"  # words of the verdict and of this page alike
ADVICE = (
    "Another cell line, instrument, focus or dose may be the reason; compare the overlays, and adapt the classifier "
    "with annotated patches of this plate (tomoscreen adapt)."
)
MOST_LINKS = 12  # wells that an alert links to
UNCERTAIN_FACTOR = 3  # times as many uncertain patches as expected are worth a note
CARD_TEXT = 200  # characters of a classifier's card that an alert quotes


def plate_alerts(
    *,
    layout: xr.Dataset,
    fields: xr.Dataset,
    probabilities: xr.Dataset,
    fractions: xr.Dataset,
    quality: xr.Dataset,
    field_quality: xr.Dataset | None = None,
    exclusions: xr.Dataset | None = None,
) -> list[Alert]:
    """Read the alerts of one plate out of its stored results."""
    alerts = [
        *_verdict(quality),
        *_controls(layout, fractions),
        *classifier_alerts(probabilities.attrs, cell_lines=cell_lines(layout)),
        *_strange(probabilities, said=any(UNLIKE in reason for reason in _reasons(quality))),
        *_missing(layout, fields, probabilities),
        *_flagged(quality),
        *_proposed(field_quality),
        *_left_out(fractions, exclusions),
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


def _reasons(quality: xr.Dataset) -> list[str]:
    """What the verdict says is wrong, the gravest first."""
    reasons = quality.attrs.get("reasons", "[]")
    return [str(reason) for reason in (json.loads(reasons) if isinstance(reasons, str) else reasons)]


def _verdict(quality: xr.Dataset) -> list[Alert]:
    weight = {"FAIL": "failure", "REVIEW": "warning"}.get(str(quality.attrs["verdict"]))
    if weight is None:
        return []
    return [
        Alert(weight, f"{reason} {ADVICE}", "fields") if UNLIKE in reason else Alert(weight, reason, "controls")
        for reason in _reasons(quality)
    ]


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


def _strange(probabilities: xr.Dataset, *, said: bool) -> list[Alert]:
    """What the classifier says against its own numbers on this plate, unless the verdict has said so already."""
    attrs, alerts = probabilities.attrs, []
    if attrs.get("outlier_flagged") and not said:
        alerts.append(Alert("warning", f"This plate is {UNLIKE}: {attrs['outlier_text']} {ADVICE}", "fields"))
    share, expected = attrs.get("uncertain_share", 0.0), attrs.get("uncertain_expected", 1.0)
    if share > UNCERTAIN_FACTOR * expected:
        alerts.append(
            Alert(
                "note",
                f"The classifier is uncertain about {share:.0%} of the patches; on wells like those it was trained on "
                f"it is about {expected:.0%} of them.",
                "maps",
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
        text = f"Wells without a classified image, {count}: {_and(absent)}."
        alerts.append(Alert("warning", text, "maps", wells=tuple(absent[:MOST_LINKS])))
    stored = fields["status"].values
    for code, text in ((2, "could not be read"), (3, "missing"), (0, "still to come")):
        if found := int((stored == code).sum()):
            alerts.append(
                Alert("warning", f"Images (well, field, timepoint) {text}: {found} of {stored.size}.", "maps")
            )
    return alerts


def _flagged(quality: xr.Dataset) -> list[Alert]:
    """Wells with a flag at the reading timepoint, and control wells that do not look like their kind."""
    flags = [str(flag) for flag in quality["flags"].values]
    names = [str(well) for well in quality["well"].values]
    # wells that were not imaged have an alert of their own
    mine = [well for well, flag in zip(names, flags, strict=True) if flag and flag != "missing"]
    alerts = []
    if mine:
        kinds = sorted(
            {part.strip() for flag in flags for part in flag.split(",") if part.strip() not in ("", "missing")}
        )
        told = ", ".join(kind.replace("_", " ") for kind in kinds)
        text = f"Wells with a flag ({told}): {_and(mine)}."
        alerts.append(Alert("note", text, "wells", wells=tuple(mine[:MOST_LINKS])))
    if "strange_control" in quality:
        odd = [well for well, strange in zip(names, quality["strange_control"].values, strict=True) if strange]
        if odd and not any("look like their kind" in reason for reason in _reasons(quality)):
            text = f"Control wells that do not look like the others of their kind: {_and(odd)}."
            alerts.append(Alert("note", text, "controls", wells=tuple(odd[:MOST_LINKS])))
    return alerts


def _proposed(found: xr.Dataset | None) -> list[Alert]:
    """Fields that somebody should look at; every one counts until somebody excludes it."""
    if found is None or not (flagged := found["proposed"].any("timepoint")).any():
        return []
    wells = [str(well) for well in found["well"].values[flagged.any("field").values]]
    count, all_fields = int(flagged.sum()), flagged.size
    text = (
        f"{count} of {all_fields} fields are proposed to be left out, in {_and(wells)}. They count until somebody "
        "excludes them."
    )
    return [Alert("note", text, "controls", wells=tuple(wells[:MOST_LINKS]))]


def _left_out(fractions: xr.Dataset, exclusions: xr.Dataset | None) -> list[Alert]:
    """Wells that no statistic sees, and exclusions that somebody decided on."""
    out = [str(well) for well in fractions["well"].values[is_masked(fractions)]]
    alerts = []
    if out:
        text = f"Wells left out of every statistic, {len(out)}: {_and(out)}. Their numbers are shown, crossed out."
        alerts.append(Alert("note", text, "exclusions", wells=tuple(out[:MOST_LINKS])))
    parts = 0 if exclusions is None else exclusions.sizes.get("exclusion", 0)
    if exclusions is not None and parts:
        moved = [str(name) for name in exclusions["compound"].values[exclusions["changed"].values.astype(bool)]]
        changed = f" They changed the numbers of {_and(moved)}." if moved else " They changed no compound's numbers."
        lines = "exclusion was" if parts == 1 else "exclusions were"
        alerts.append(Alert("note", f"{parts} {lines} decided by hand.{changed}", "exclusions"))
    return alerts


def _empty(fractions: xr.Dataset, probabilities: xr.Dataset) -> list[Alert]:
    """Wells that were imaged and hold no cells; those that were not imaged have an alert of their own."""
    imaged = (probabilities["status"] == DONE).any("field")
    bare = (fractions["patches"] == 0) & imaged.reindex_like(fractions["patches"], fill_value=False)
    wells = [str(well) for well in fractions["well"].values[bare.any("timepoint").values]]
    text = f"No cells were found at some timepoint in {_and(wells)}."
    return [Alert("note", text, "maps", wells=tuple(wells[:MOST_LINKS]))] if wells else []


def _names(text: str, line: str) -> bool:
    """Whether a text names a cell line, whatever the spelling: HeLa, hela, A-549."""
    return re.sub(r"[^a-z0-9]", "", line.lower()) in re.sub(r"[^a-z0-9]", "", text.lower())


def _and(names: Sequence[str], most: int = 12) -> str:
    shown = [words.plain(name) for name in names[:most]]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")
