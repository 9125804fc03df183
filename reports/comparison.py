"""The page of a comparison: a classifier of projections and one of volumes on the same patches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import study_figures, words
from .classifier_record import card_rows, confusion_rows
from .classifier_words import count, score
from .page import Page
from .state_looks import state_looks

KINDS = {"two": "projections", "three": "volumes"}
SCORES = ("recall", "precision", "f1", "auc")
LEAST_P = 0.0001  # below this a p value says no more


def write_comparison_report(comparison: Mapping[str, Any], *, out: Path) -> Path:
    """Write one page without side files from a comparison of classifiers on the same test wells.

    Parameters
    ----------
    comparison
        As `comparison.json` holds it, with None where a number is not known:

        - `classifiers`: for `two` (projections) and `three` (volumes) what their cards say;
        - `data`: {`states`, `patches` {split: number}, `wells`, `plates` (names)} of the comparison;
        - `notes`: sentences on what the test wells share with those trained on;
        - `two`, `three`: {`accuracy`, `balanced_accuracy`, `recall`, `precision`, `f1`, `auc` (by state), `confusion`
          (true, called)}; a score is {`value`, `low`, `high`} with the ends of its 95 % interval;
        - `difference`: accuracy of `three` less that of `two`, a score;
        - `mcnemar`: {`only_two_right`, `only_three_right`, `p_value`}.
    out
        The page to write.
    """
    states = [str(state) for state in comparison["data"]["states"]]
    looks = state_looks(states)
    page = Page(out)
    names = {half: _name(comparison, half) for half in KINDS}
    return page.write(
        "comparison.html",
        verdict=comparison_verdict(comparison),
        notes=[str(note) for note in comparison["notes"]],
        patches=int(comparison["data"]["patches"]["test"]),
        data=comparison["data"],
        mcnemar=comparison["mcnemar"],
        p_value=p_value(comparison["mcnemar"]["p_value"]),
        looks=looks,
        classifiers=[
            {
                "name": names[half],
                "accuracy": score(comparison[half]["accuracy"]),
                "balanced": score(comparison[half]["balanced_accuracy"]),
                "states": [[score(comparison[half][key][state]) for key in SCORES] for state in states],
                "confusion": confusion_rows(comparison[half]["confusion"], looks),
                "card": card_rows(comparison["classifiers"][half]),
            }
            for half in KINDS
        ],
        figure=page.figure(
            study_figures.accuracies({names[half]: comparison[half]["accuracy"] for half in KINDS}),
            label="Accuracy of both classifiers",
        ),
    )


def comparison_verdict(comparison: Mapping[str, Any]) -> str:
    """Which of the two is right more often, by how much, and whether chance could do that."""
    gap, data = score(comparison["difference"]), comparison["data"]
    patches, wells = count(data["patches"]["test"], "test patch", "test patches"), count(data["wells"], "well")
    two, three = (f"{score(comparison[half]['accuracy']).share}" for half in KINDS)
    told = (
        f"Of {patches} of {wells}, {_name(comparison, 'three')} call {three} rightly and "
        f"{_name(comparison, 'two')} {two}"
    )
    if not gap.has_interval:
        return f"{told}; with so few wells nobody knows whether they differ by more than chance."
    interval = f"{100 * gap.low:+.1f} to {100 * gap.high:+.1f}"
    chance = ", which may be chance" if gap.low <= 0 <= gap.high else ""
    return f"{told}; {100 * gap.value:+.1f} points for volumes (95 % interval {interval}){chance}."


def p_value(p: float) -> str:
    """A p value as it is printed."""
    return f"p < {LEAST_P:g}" if p < LEAST_P else f"p = {words.number(p, 2)}"


def _name(comparison: Mapping[str, Any], half: str) -> str:
    """What a classifier is called: what it sees, and its architecture."""
    return f"{KINDS[half]} ({words.plain(comparison['classifiers'][half]['architecture'])})"
