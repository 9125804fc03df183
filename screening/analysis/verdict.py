"""PASS, REVIEW or FAIL: the rule, written out, and the reasons for what it says of one plate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

LISTED = 12  # wells named in a sentence


@dataclass(frozen=True)
class Rule:
    """When a plate passes. Z' is the robust one of death at the reading timepoint.

    `fail_z_prime`, `pass_z_prime`: below the first the plate fails, from the second on it can pass (Zhang
    1999: 0 and 0.5). `pass_ssmd`: robust |SSMD| of death below which it is for review (Zhang 2007).
    `fewest_controls`: wells of each kind below which Z' is not believed. `contamination`: gap between
    robust and classical Z' that tells of outlying control wells. `edge`: |t| of edge against inner vehicle
    wells. `flagged_review`, `flagged_fail`: share of the plate's wells with a flag. `fewest_patches`: of a
    well. `focus`: robust z of a well's focus, below minus which it is out of focus.

    `chance`: of accusing a clean plate, for each of three questions: does place matter among vehicle wells,
    among replicates, does the order of imaging matter. `effect`: standard deviation of death along a pattern
    of places, and change of death over the time of imaging, below which such an effect is no reason.
    `strange_controls`: share of control wells that may look unlike their kind. `turned`: verdict where the
    plate map fits only when it is turned, transposed or shifted. `proposed_fields`: share of fields that are
    proposed to be left out.
    """

    fail_z_prime: float = 0.0
    pass_z_prime: float = 0.5
    pass_ssmd: float = 3.0
    fewest_controls: int = 4
    contamination: float = 0.3
    edge: float = 4.0
    flagged_review: float = 0.05
    flagged_fail: float = 0.25
    fewest_patches: int = 10
    focus: float = 5.0
    chance: float = 0.01
    effect: float = 0.01
    strange_controls: float = 0.1
    turned: str = "FAIL"
    proposed_fields: float = 0.1

    def __str__(self) -> str:
        return (
            f"Robust Z' of death at the reading timepoint: FAIL below {self.fail_z_prime:g}, REVIEW below "
            f"{self.pass_z_prime:g} or where it cannot be computed; REVIEW if robust |SSMD| of death is "
            f"below {self.pass_ssmd:g}. Wells with a flag: FAIL above "
            f"{self.flagged_fail:.0%}, REVIEW above {self.flagged_review:.0%}. {self.turned} if the wells fit the "
            "plate map only when it is turned, transposed or shifted. REVIEW also if a kind of "
            f"control has fewer than {self.fewest_controls} wells, if robust and classical Z' differ by more than "
            f"{self.contamination:g}, if more than {self.strange_controls:.0%} of the control wells do not look "
            f"like their kind, if edge and inner vehicle wells differ by |t| > {self.edge:g} (and "
            f"p < {self.chance:g}), if place or the order of imaging matters (p < {self.chance:g}, death changing by "
            f"{self.effect:g} or more), if two rows or columns look exchanged, if the plate is unlike what the "
            f"classifier was trained on, or if more than {self.proposed_fields:.0%} of the fields are proposed to be "
            "left out. Otherwise PASS."
        )


@dataclass(frozen=True)
class Findings:
    """What the tests of one plate found, at the reading timepoint where it is not said otherwise.

    `death`: control statistics of death. `flags`: (well) bool per flag, of the wells that count. `spatial`:
    results of `spatial_tests` on vehicle wells and, with the prefix `replicate_`, on replicates, for death.
    `drift`: of death over the order of imaging, or None. `layout`: ways of lying as by `fit_layout`.
    `strange`: names of control wells unlike their kind, of `controls`. `proposed`: share of the plate's
    fields proposed to be left out (NaN: not known). `unlike`: what the classifier says if the plate is unlike
    its training, else "".
    """

    death: xr.Dataset
    flags: Mapping[str, np.ndarray]
    spatial: Mapping[str, Any]
    drift: Mapping[str, Any] | None
    layout: pd.DataFrame
    strange: list[str]
    controls: int
    proposed: float
    unlike: str


def judge(found: Findings, rule: Rule) -> tuple[str, list[str]]:
    """PASS, REVIEW or FAIL, and a sentence for everything that is wrong, the gravest first."""
    failures: list[str] = []
    doubts: list[str] = []
    for failed, sentence in (
        *_controls(found.death, rule),
        *_layout(found.layout, rule),
        *_flagged(found.flags, rule),
        *_strange(found, rule),
        *_places(found.spatial, rule),
        *_order(found.drift, rule),
        *_images(found, rule),
    ):
        (failures if failed else doubts).append(sentence)
    return ("FAIL" if failures else "REVIEW" if doubts else "PASS"), [*failures, *doubts]


def _controls(death: xr.Dataset, rule: Rule) -> list[tuple[bool, str]]:
    said = []
    robust, classical = float(death.robust_z_prime), float(death.z_prime)
    if np.isnan(robust):
        said.append((False, f"Z' of death: {death.reason.item() or 'not computable'}."))
    elif robust < rule.pass_z_prime:
        low, high = float(death.robust_z_prime_low), float(death.robust_z_prime_high)
        interval = f" ({low:.2f} to {high:.2f})" if np.isfinite([low, high]).all() else ""
        failed = robust < rule.fail_z_prime
        limit = rule.fail_z_prime if failed else rule.pass_z_prime
        said.append((failed, f"Robust Z' of death is {robust:.2f}{interval}, below {limit:g}."))
    if abs(float(death.robust_ssmd)) < rule.pass_ssmd:
        size = float(death.robust_ssmd)
        said.append((False, f"Robust SSMD of death is {size:.1f}, below {rule.pass_ssmd:g} in size."))
    if robust - classical > rule.contamination:
        said.append(
            (
                False,
                f"Robust ({robust:.2f}) and classical ({classical:.2f}) Z' differ: "
                "some control wells do not behave like controls.",
            )
        )
    for name in ("negative", "positive"):
        number = int(death[f"n_{name}"])
        if number < rule.fewest_controls:
            sentence = f"{number} {name} control wells with cells; {rule.fewest_controls} are the least to judge by."
            said.append((False, sentence))
    return said


def _layout(ways: pd.DataFrame, rule: Rule) -> list[tuple[bool, str]]:
    better = ways[ways["better"]]
    whole = better[better["kind"] != "exchanged"].sort_values("gain", ascending=False)
    if len(whole):
        best = whole.iloc[0]
        sentence = (
            f"The wells fit the plate map better {best['way']}: what replicates and controls leave unexplained falls "
            f"by {best['gain']:.0%} over {best['wells']} wells (chance {best['p']:.1g}). No number holds before this "
            "is settled."
        )
        return [(rule.turned == "FAIL", sentence)]
    lines = better.sort_values("gain", ascending=False)
    if lines.empty:
        return []
    best = lines.iloc[0]
    return [(False, f"The wells fit the plate map better {best['way']} (chance {best['p']:.1g}).")]


def _flagged(flags: Mapping[str, np.ndarray], rule: Rule) -> list[tuple[bool, str]]:
    flagged = np.any(list(flags.values()), axis=0)
    share = float(flagged.mean()) if flagged.size else 0.0
    if share <= rule.flagged_review:
        return []
    which = ", ".join(f"{name.replace('_', ' ')} {int(wells.sum())}" for name, wells in flags.items() if wells.any())
    failed = share > rule.flagged_fail
    limit = rule.flagged_fail if failed else rule.flagged_review
    return [(failed, f"{int(flagged.sum())} of {flagged.size} wells carry a flag ({which}), more than {limit:.0%}.")]


def _strange(found: Findings, rule: Rule) -> list[tuple[bool, str]]:
    if len(found.strange) <= rule.strange_controls * found.controls:
        return []
    named = ", ".join(found.strange[:LISTED]) + (" and more" if len(found.strange) > LISTED else "")
    return [(False, f"{len(found.strange)} of {found.controls} control wells do not look like their kind: {named}.")]


def _places(spatial: Mapping[str, Any], rule: Rule) -> list[tuple[bool, str]]:
    said = []
    edge_t = float(spatial["edge_t"])
    at_edge = abs(edge_t) > rule.edge and float(spatial["edge_p"]) < rule.chance
    if at_edge:
        said.append((False, f"Vehicle wells at the edge die differently from inner ones (t = {edge_t:.1f})."))
    for prefix, whose in (("", "vehicle wells"), ("replicate_", "replicates")):
        p, effect, test = (spatial[f"{prefix}{name}"] for name in ("p", "effect", "test"))
        if float(p) >= rule.chance or not float(effect) >= rule.effect or (at_edge and not prefix and test == "edge"):
            continue
        pattern = {
            "edge": "edge and inner wells differ",
            "row": "rows differ",
            "column": "columns differ",
            "gradient": "there is a gradient",
            "morans": "neighbours are alike",
        }[str(test)]
        said.append(
            (
                False,
                f"Death depends on the place of {whose}: {pattern} (chance {float(p):.2g} over all tests, standard "
                f"deviation {float(effect):.3f} along it).",
            )
        )
    return said


def _order(drift: Mapping[str, Any] | None, rule: Rule) -> list[tuple[bool, str]]:
    if drift is None or not drift["p"] < rule.chance or not abs(drift["change"]) >= rule.effect:
        return []
    more = "more" if drift["change"] > 0 else "less"
    sentence = (
        f"Vehicle wells that were imaged later show {abs(drift['change']):.3f} {more} death than the first ones "
        f"(chance {drift['p']:.2g}); places were imaged in order, so this may be an effect of place."
    )
    return [(False, sentence)]


def _images(found: Findings, rule: Rule) -> list[tuple[bool, str]]:
    said = []
    if found.unlike:
        said.append((False, f"This plate is unlike what the classifier was trained on: {found.unlike}"))
    if found.proposed > rule.proposed_fields:
        limit = f"more than {rule.proposed_fields:.0%}"
        said.append((False, f"{found.proposed:.0%} of the fields are proposed to be left out, {limit}."))
    return said
