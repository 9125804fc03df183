"""What is said of a classifier before any figure: a sentence of verdict, then what one must know, worst first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import words
from .alerts import CARD_TEXT, Alert, by_weight

FEW_WELLS = 10
NEAR_ALL = 0.99


@dataclass(frozen=True)
class Score:
    """A number with the ends of its 95 % interval; NaN where there is none."""

    value: float
    low: float
    high: float

    @property
    def share(self) -> str:
        """As percent with the interval; two decimals where the whole interval is near 100 %."""
        digits = 2 if (self.low if self.has_interval else self.value) > NEAR_ALL else 1
        interval = f" ({100 * self.low:.{digits}f} to {100 * self.high:.{digits}f} %)" if self.has_interval else ""
        return words.percent(self.value, digits) + interval

    @property
    def plain(self) -> str:
        """As a plain number of four digits with the interval."""
        if math.isnan(self.value):
            return words.NOTHING
        return f"{self.value:.4f}" + (f" ({self.low:.4f} to {self.high:.4f})" if self.has_interval else "")

    @property
    def has_interval(self) -> bool:
        """Whether both ends are known."""
        return math.isfinite(self.low) and math.isfinite(self.high)


def score(stored: Any) -> Score:
    """Read {"value", "low", "high"}, a bare number, or null."""
    given = stored if isinstance(stored, Mapping) else {"value": stored}
    value, low, high = (math.nan if given.get(key) is None else float(given[key]) for key in ("value", "low", "high"))
    return Score(value, low, high)


def verdict(record: Mapping[str, Any]) -> str:
    """The result in one sentence: how right, on what, whether it was held out, and what the probabilities are worth."""
    classifier, data = record["classifier"], record["data"]
    accuracy = score(record["scores"]["accuracy"])
    ece = score(_after(record).get("ece"))
    doubt = "" if accuracy.has_interval else " (too few wells for an interval)"
    calibrated = "calibrated" if is_calibrated(classifier) else "not calibrated"
    patches, wells, plates = (
        count(data["patches"], "patch", "patches"), count(data["wells"], "well"), count(data["plates"], "plate")
    )  # fmt: skip
    error = f" (expected calibration error {words.number(ece.value)})" if math.isfinite(ece.value) else ""
    return (
        f"{words.plain(classifier['name'])} calls {accuracy.share}{doubt} of {patches} right, in {wells} of {plates} "
        f"{_held_out(data)}; its probabilities are {calibrated}{error}."
    )


def classifier_alerts(record: Mapping[str, Any]) -> list[Alert]:
    """Read the alerts of an evaluation record, most serious first."""
    return by_weight(
        [*_training(record), *_doubt(record), *_probabilities(record), *_weakest(record), *_outliers(record)]
    )


def is_calibrated(classifier: Mapping[str, Any]) -> bool:
    """Whether a temperature was fitted, in the words of the card."""
    text = str(classifier.get("calibration") or "not calibrated").strip().lower()
    return not text.startswith("not calibrated")


def count(number: Any, one: str, many: str = "") -> str:
    """A number of things with thousands apart."""
    return f"{int(number):,} {one if int(number) == 1 else many or one + 's'}"


def _after(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The calibrated probabilities' scores; empty where there are none."""
    return (record.get("calibration") or {}).get("after") or {}


def _held_out(data: Mapping[str, Any]) -> str:
    known = data.get("known_wells")
    if not known:
        return "(whether it was trained on them is not recorded)"
    trained = int(known.get("train", 0))
    return f"of which {trained} were trained on" if trained else "that it was not trained on"


def _training(record: Mapping[str, Any]) -> list[Alert]:
    trained_on = str(record["classifier"].get("trained_on") or "").strip()
    alerts = _known_wells(record["data"])
    if not trained_on:
        alerts.append(Alert("warning", "The classifier does not say what it was trained on.", "card"))
    elif "simulat" in trained_on.lower():
        alerts.append(
            Alert(
                "warning",
                f'Trained on simulated cells: its card says "{words.plain(trained_on, longest=CARD_TEXT)}". '
                "No number here says how right it is on real cells before it is trained and evaluated on annotated "
                "ones.",
                "card",
            )
        )
    return alerts


def _known_wells(data: Mapping[str, Any]) -> list[Alert]:
    """Whether the classifier has met the wells that it is judged on."""
    known = data.get("known_wells")
    if not known:
        return [
            Alert("note", "The card does not name the wells that were trained on: they may be among these.", "card")
        ]
    alerts = []
    if trained := int(known.get("train", 0)):
        text = (
            f"{count(trained, 'well')} of {data['wells']} were trained on: the numbers are too good. "
            "Evaluate on wells, better on plates, that were held out."
        )
        alerts.append(Alert("failure", text, "card"))
    if chosen := int(known.get("validation", 0)):
        text = (
            f"On {count(chosen, 'well')} of {data['wells']} the epoch and the temperature were chosen: "
            "the numbers are somewhat too good."
        )
        alerts.append(Alert("warning", text, "card"))
    if plates := int(data.get("known_plates") or 0):
        met = "The plate was" if data["plates"] == 1 else f"{plates} of the {data['plates']} plates were"
        text = (
            f"{met} trained on, with these or other wells: "
            "on a plate that it has never met the classifier may do worse."
        )
        alerts.append(Alert("note", text, "card"))
    return alerts


def _doubt(record: Mapping[str, Any]) -> list[Alert]:
    wells, alerts = int(record["data"]["wells"]), []
    if not score(record["scores"]["accuracy"]).has_interval:
        text = f"No interval can be given: the patches come from {count(wells, 'well')} only."
        alerts.append(Alert("warning", text, "wells"))
    elif wells < FEW_WELLS:
        alerts.append(Alert("warning", f"The intervals are rough: they come from {count(wells, 'well')}.", "wells"))
    states = record["classifier"]["states"]
    absent = [
        words.plain(state) for state, row in zip(states, record["scores"]["confusion"], strict=True) if not sum(row)
    ]
    if absent:
        alerts.append(Alert("warning", f"No patch of {', '.join(absent)} was evaluated.", "states"))
    return alerts


def _probabilities(record: Mapping[str, Any]) -> list[Alert]:
    classifier = record["classifier"]
    alerts = []
    if not is_calibrated(classifier):
        text = words.plain(classifier.get("calibration") or "not calibrated", longest=CARD_TEXT)
        alerts.append(Alert("warning", f"Probabilities are as the network gave them ({text}).", "calibration"))
    after = _after(record)
    found, bound = score(after.get("ece")).value, score(after.get("ece_by_chance")).high
    if found > bound:
        alerts.append(
            Alert(
                "warning",
                f"The calibration error of {words.number(found)} is more than chance gives to a perfectly "
                f"calibrated classifier on as many patches (up to {words.number(bound)}).",
                "calibration",
            )
        )
    return alerts


def _weakest(record: Mapping[str, Any]) -> list[Alert]:
    """The state that is recognised least, and what it is taken for."""
    states, table = record["classifier"]["states"], record["scores"]["confusion"]
    shares = [(row[index] / sum(row), index) for index, row in enumerate(table) if sum(row)]
    if not shares or min(shares)[0] == 1:
        return []
    index = min(shares)[1]
    wrong = [(number, other) for other, number in enumerate(table[index]) if other != index]
    number, other = max(wrong)
    return [
        Alert(
            "note",
            f"Recognised least: {words.plain(states[index])}, {words.percent(min(shares)[0], 1)}; most often taken "
            f"for {words.plain(states[other])} ({number} of {sum(table[index])} patches).",
            "confusion",
        )
    ]


def _outliers(record: Mapping[str, Any]) -> list[Alert]:
    outliers = record.get("outliers") or {}
    return [Alert("warning", words.plain(outliers["text"], longest=400), "outliers")] if outliers.get("flagged") else []
