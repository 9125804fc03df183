"""The five-state rule of the study: stained cells have the inducer's state, unstained ones live by treatment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..states import STATES
from .channels import STAINS
from .gates import GATED, Gates
from .measure import PlateMarkers

UNDECIDED = "undecided"
LEAST_AREA = 0.10  # share of a patch that cells must cover, as for the study's training
PURITY = 0.8  # share of the cell area of a patch that cells of one kind must cover

# Every way to decide, and what it decides; an inducer's well has the state of its inducer.
UNTREATED_NEGATIVE = "untreated, markers negative"
TREATED_NEGATIVE = "treated, markers negative"
INDUCED_POSITIVE = "inducer's well, markers positive"
BY_HAND = "by hand"
BY_REGION = "by region"
IMPLIED = {UNTREATED_NEGATIVE: "live-control", TREATED_NEGATIVE: "live-treated"}

_UNSTAINED, _STAINED, _BETWEEN, _UNSEEN = range(4)


def apply_rule(
    markers: PlateMarkers,
    gates: Mapping[str, Gates],
    *,
    least_area: float = LEAST_AREA,
    purity: float = PURITY,
    live_frames: Sequence[int] | None = None,
    dead_frames: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Give every patch a state or "undecided", and say by which rule.

    A cell is stained when annexin V or PI is above its gate, unstained when both are below. A patch is marker-positive
    when stained cells cover at least `purity` of its cell area, marker-negative when unstained cells do. Then:

    - untreated (vehicle) and negative: live-control;
    - treated (compound or inducer) and negative: live-treated;
    - positive in the well of an inducer: the inducer's state;
    - everything else: undecided, and the rule is the reason.

    Parameters
    ----------
    markers, gates
        As `measure_plate` and `find_gates` give them.
    least_area
        Patches with less cell area (share of the patch) are undecided.
    live_frames, dead_frames
        Timepoints at which live and dead states are given; all unless given. The study took live cells at the first
        two frames and dead ones at 16 h.

    Returns
    -------
    table
        One row a patch: well, field, timepoint, y_um, x_um, state, rule, hoechst, annexin_v, pi (means over its cells
        by the area they cover; NaN without any), inducer, area (share of the patch that cells cover) and positive
        (share of its cell area that stained cells cover).
    """
    patches = markers.patches.reset_index(drop=True)
    wells = markers.wells.set_index("well")
    role = patches["well"].map(wells["role"])
    inducer = patches["well"].map(wells["inducer"]).where(role == "positive", "")
    shares = _shares(markers, gates)
    area = patches["area"].to_numpy(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        stained, unstained, between = (shares[:, kind] / area for kind in (_STAINED, _UNSTAINED, _BETWEEN))
        unseen = (shares[:, _UNSEEN]) / area
        unowned = patches["unowned"].to_numpy(float) / area
    judged = role.isin(["none", "combination"])  # whose pathway nobody states
    treated = judged | (role == "positive")
    known = inducer.isin(STATES)
    problem = patches["problem"].to_numpy(object)
    no_gate = "; ".join(one.problem for one in gates.values() if one.problem)
    state = np.full(len(patches), UNDECIDED, dtype=object)
    reasons: list[tuple[Any, str]] = [
        (role == "", "well not in the plate map"),
        (~(area > 0), "no cells"),
        (area < least_area, "too little cell area"),
        *((problem == text, text) for text in dict.fromkeys(problem) if text),
        (np.full(len(patches), bool(no_gate)), f"no gate: {no_gate}"),
        (unowned > 1 - purity, "cells without a nucleus in Hoechst"),
        (unseen > 1 - purity, "a marker was not seen"),
        ((stained >= purity) & (role == "negative"), "markers positive in an untreated well"),
        ((stained >= purity) & judged, "markers positive, the compound's pathway is unknown"),
        ((stained >= purity) & ~known, "markers positive, the inducer names none of the states"),
        (stained >= purity, INDUCED_POSITIVE),
        ((unstained >= purity) & treated, TREATED_NEGATIVE),
        (unstained >= purity, UNTREATED_NEGATIVE),
        ((between > 1 - purity) | (np.maximum(stained, unstained) + between >= purity), "between the gates"),
        (np.minimum(stained, unstained) > 0, "stained and unstained cells"),
    ]
    rule = np.select([np.asarray(chosen) for chosen, _ in reasons], [text for _, text in reasons], "too few cells seen")
    rule = rule.astype(object)
    for text, implied in IMPLIED.items():
        state[rule == text] = implied
    state[rule == INDUCED_POSITIVE] = inducer.to_numpy(object)[rule == INDUCED_POSITIVE]
    for frames, kind in ((live_frames, "live"), (dead_frames, "dead")):
        if frames is not None:
            is_live = np.isin(state, list(IMPLIED.values()))
            decided = is_live if kind == "live" else (state != UNDECIDED) & ~is_live
            outside = decided & ~patches["timepoint"].isin(list(frames)).to_numpy()
            state[outside], rule[outside] = UNDECIDED, f"{kind} states are not taken at this timepoint"
    table = patches[["well", "field", "timepoint", "y_um", "x_um"]].assign(state=state, rule=rule)
    for stain, values in _means(markers).items():
        table[stain] = values
    return table.assign(inducer=inducer.to_numpy(object), area=area, positive=stained)


def implied_state(rule: str, inducer: str) -> str:
    """State that a rule gives, so that a state which a person changed is told from one which the gates gave."""
    return inducer if rule == INDUCED_POSITIVE else IMPLIED.get(rule, UNDECIDED)


def _shares(markers: PlateMarkers, gates: Mapping[str, Gates]) -> np.ndarray:
    """Share of each patch that unstained, stained, doubtful and unseen cells cover; (patch, kind)."""
    shares = np.zeros((len(markers.patches), 4))
    kinds = _kinds(markers.cells, gates)
    overlaps = markers.overlaps
    np.add.at(shares, (overlaps["patch"].to_numpy(), kinds[overlaps["cell"].to_numpy()]), overlaps["share"].to_numpy())
    return shares


def _kinds(cells: pd.DataFrame, gates: Mapping[str, Gates]) -> np.ndarray:
    """(cell,) whether each cell is stained, unstained, between the gates or not seen."""
    on, off, seen = (np.full(len(cells), value) for value in (False, True, True))
    for marker in GATED:
        light = cells[marker].to_numpy(float)
        seen &= np.isfinite(light)
        for timepoint in cells["timepoint"].unique():
            gate = gates[marker].of(int(timepoint))
            now = (cells["timepoint"] == timepoint).to_numpy()
            with np.errstate(invalid="ignore"):
                on[now] |= light[now] >= (np.inf if gate is None else gate.high)
                off[now] &= light[now] <= (-np.inf if gate is None else gate.low)
    return np.select([on, ~seen, off], [_STAINED, _UNSEEN, _UNSTAINED], _BETWEEN)


def _means(markers: PlateMarkers) -> dict[str, np.ndarray]:
    """Marker -> (patch,) mean over the cells of each patch, by the area they cover; NaN without a seen cell."""
    overlaps = markers.overlaps
    patch, share = overlaps["patch"].to_numpy(), overlaps["share"].to_numpy(float)
    means = {}
    for stain in STAINS:
        light = markers.cells[stain].to_numpy(float)[overlaps["cell"].to_numpy()]
        seen = np.isfinite(light)
        count = len(markers.patches)
        weight = np.bincount(patch[seen], share[seen], minlength=count)
        with np.errstate(invalid="ignore", divide="ignore"):
            means[stain] = np.bincount(patch[seen], (share * light)[seen], minlength=count) / weight
    return means
