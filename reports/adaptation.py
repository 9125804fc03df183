"""The page of an adaptation: what a classifier gained on a new cell line, at what price, and what it forgot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import study_figures, words
from .classifier_record import card_rows, confusion_rows, read_card
from .classifier_words import count, score
from .page import Page
from .state_looks import state_looks

TEXTS = ("classifier", "new_line", "old_line", "data", "method")


def write_adaptation_report(adaptation: Mapping[str, Any], *, out: Path) -> Path:
    """Write one page without side files from the record of an adaptation.

    Parameters
    ----------
    adaptation
        Plain values, None where unknown:

        - `states`: names, in the order of the confusion tables;
        - `before`, `after`: scores on patches of the new line that were not adapted to;
        - `curve`: a list of {`patches` (annotated ones adapted to), `wells`, `accuracy`, `old_accuracy`}, may be
          empty; the last is `after`;
        - `old_line`: {`before`, `after`} scores on the line trained on first, or None;
        - `from`: `name` and `weights_sha256` of the classifier that was adapted, may be absent;
        - `text`: {`classifier`, `new_line`, `old_line`, `data`, `method`} in words, each may be absent.

        Scores are {`accuracy`, `confusion` (true, called), `recall` {state: score}}; a score is {`value`, `low`,
        `high`} with the ends of its 95 % interval.
    out
        The page to write. In a classifier's folder it shows the card that lies there, which is the adapted one's.
    """
    states = [str(state) for state in adaptation["states"]]
    page = Page(out)
    lines = [_line(page, adaptation, states, name="new line")]
    if adaptation.get("old_line"):
        lines.append(_line(page, adaptation["old_line"], states, name="old line"))
    curve = adaptation.get("curve") or []
    return page.write(
        "adaptation.html",
        verdict=adaptation_verdict(adaptation),
        doubts=adaptation_doubts(adaptation),
        text={key: str((adaptation.get("text") or {}).get(key) or "") for key in TEXTS},
        looks=state_looks(states),
        start=adaptation.get("from") or {},
        card=card_rows(read_card(out.parent)),
        lines=lines,
        curve=[
            {
                "patches": int(step["patches"]),
                "wells": score(step.get("wells")).value,
                "accuracy": score(step["accuracy"]),
                "old": score(step.get("old_accuracy")),
            }
            for step in curve
        ],
        figure=page.figure(
            study_figures.accuracy_against_patches(curve, before=score(adaptation["before"]["accuracy"]).value),
            label="Accuracy on the new line against the number of annotated patches",
        )
        if curve
        else None,
    )


def adaptation_verdict(adaptation: Mapping[str, Any]) -> str:
    """What the adaptation gained and what it lost, in one sentence."""
    text = adaptation.get("text") or {}
    name = words.plain(text.get("classifier") or "The classifier")
    line = words.plain(text.get("new_line") or "the new line")
    before, after = (score(adaptation[key]["accuracy"]) for key in ("before", "after"))
    curve = adaptation.get("curve") or []
    price = f" with {count(curve[-1]['patches'], 'annotated patch', 'annotated patches')}" if curve else ""
    gained = (
        f"{name} called {before.share} of the patches of {line} right before, {after.share} after adaptation{price}"
    )
    old = adaptation.get("old_line")
    if not old:
        return f"{gained}; what it forgot was not measured."
    was, now = (score(old[key]["accuracy"]) for key in ("before", "after"))
    points = 100 * (now.value - was.value)
    change = f"lost {-points:.1f} points" if points < 0 else f"lost nothing ({points:+.1f} points)"
    return f"{gained}; on the line that it was trained on first it {change}, from {was.share} to {now.share}."


def adaptation_doubts(adaptation: Mapping[str, Any]) -> list[str]:
    """What the scores do not show, a sentence each."""
    doubts = []
    lines = [("new", adaptation), ("old", adaptation.get("old_line"))]
    for name, line in ((name, line) for name, line in lines if line):
        before, after = (score(line[key]["accuracy"]) for key in ("before", "after"))
        if not (before.has_interval and after.has_interval):
            doubts.append(
                f"No interval can be given for the {name} line, whose patches come from fewer than five wells: nobody "
                "knows how sure the difference is."
            )
        elif before.low <= after.value <= before.high or after.low <= before.value <= after.high:
            doubts.append(
                f"On the {name} line one accuracy lies within the interval of the other: that the difference is more "
                "than chance is not shown."
            )
    return doubts


def _line(page: Page, scores: Mapping[str, Any], states: list[str], *, name: str) -> dict[str, Any]:
    """Before and after on one cell line: recalls as a figure and a table, and both confusion tables."""
    looks = state_looks(states)
    both = {key: scores[key] for key in ("before", "after")}
    return {
        "name": name,
        "accuracy": {key: score(part["accuracy"]) for key, part in both.items()},
        "states": [
            (look, {key: score((part.get("recall") or {}).get(state)) for key, part in both.items()})
            for state, look in zip(states, looks, strict=True)
        ],
        "confusion": {key: confusion_rows(part["confusion"], looks) for key, part in both.items()},
        "figure": page.figure(
            study_figures.recalls(both["before"], both["after"], states=states),
            label=f"Recall of every state before and after, {name}",
        ),
    }
