"""The five-state rule: each way to decide, and each reason not to."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from plates.annotation.gates import Gate, Gates
from plates.annotation.measure import PlateMarkers
from plates.annotation.rule import apply_rule, implied_state

GATES = {"annexin_v": Gates(Gate(100, 200)), "pi": Gates(Gate(300, 400))}
WELLS = pd.DataFrame(
    {
        "well": ["V01", "I01", "C01", "F01", "X01"],
        "role": ["negative", "positive", "none", "positive", ""],
        "inducer": ["", "necroptosis", "", "ferroptosis", ""],
        "compound": ["DMSO", "TNF", "RSL3", "erastin", ""],
        "dose": [np.nan, 10, 1, 1, np.nan],
    }
)
Cells = Sequence[tuple[float, float, float]]  # annexin V, PI, share of the patch


def markers(well: str, cells: Cells, *, unowned: float = 0.0, problem: str = "", timepoint: int = 0) -> PlateMarkers:
    """One patch with some cells in it."""
    place = {"well": well, "field": 0, "timepoint": timepoint}
    rows = [{**place, "hoechst": 90.0, "annexin_v": annexin, "pi": pi, "nucleus_um2": 50.0} for annexin, pi, _ in cells]
    area = sum(share for *_, share in cells) + unowned
    patch = {**place, "y_um": 12.8, "x_um": 12.8, "area": area, "unowned": unowned, "problem": problem}
    columns = ["well", "field", "timepoint", "hoechst", "annexin_v", "pi", "nucleus_um2"]
    return PlateMarkers(
        cells=pd.DataFrame(rows, columns=columns).astype({"annexin_v": float, "pi": float}),
        patches=pd.DataFrame([patch]),
        overlaps=pd.DataFrame(
            {"patch": [0] * len(cells), "cell": range(len(cells)), "share": [share for *_, share in cells]}
        ).astype({"patch": int, "cell": int, "share": float}),
        wells=WELLS,
        hours=(0.0, 16.0),
        channels={},
        notes=(),
    )


LIVE, ANNEXIN, PI = (10.0, 5.0, 0.4), (900.0, 5.0, 0.4), (10.0, 1500.0, 0.4)


@pytest.mark.parametrize(
    ("well", "cells", "state"),
    [
        ("V01", [LIVE], "live-control"),
        ("C01", [LIVE], "live-treated"),
        ("I01", [LIVE], "live-treated"),
        ("F01", [LIVE], "live-treated"),
        ("I01", [ANNEXIN], "necroptosis"),
        ("I01", [PI], "necroptosis"),
        ("I01", [ANNEXIN, PI], "necroptosis"),
        ("I01", [ANNEXIN, (10.0, 5.0, 0.05)], "necroptosis"),
    ],
)
def test_patches_of_one_kind_get_their_state(well: str, cells: Cells, state: str) -> None:
    (row,) = apply_rule(markers(well, cells), GATES).to_dict("records")
    assert row["state"] == state
    assert implied_state(str(row["rule"]), str(row["inducer"])) == state


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        (markers("V01", [ANNEXIN]), "markers positive in an untreated well"),
        (markers("C01", [PI]), "markers positive, the compound's pathway is unknown"),
        (markers("F01", [PI]), "markers positive, the inducer names none of the states"),
        (markers("I01", [(150.0, 5.0, 0.5)]), "between the gates"),
        (markers("V01", [(10.0, 350.0, 0.5)]), "between the gates"),
        (markers("I01", [ANNEXIN, LIVE]), "stained and unstained cells"),
        (markers("V01", [(10.0, 5.0, 0.05)]), "too little cell area"),
        (markers("V01", []), "no cells"),
        (markers("V01", [LIVE], unowned=0.4), "cells without a nucleus in Hoechst"),
        (markers("V01", [(np.nan, 5.0, 0.5)]), "a marker was not seen"),
        (markers("V01", [LIVE], problem="placement not trusted"), "placement not trusted"),
        (markers("X01", [LIVE]), "well not in the plate map"),
    ],
)
def test_everything_else_is_undecided_with_its_reason(given: PlateMarkers, rule: str) -> None:
    (row,) = apply_rule(given, GATES).to_dict("records")
    assert (row["state"], row["rule"]) == ("undecided", rule)
    assert implied_state(rule, str(row["inducer"])) == "undecided"


def test_a_stained_cell_counts_although_its_other_marker_was_not_seen() -> None:
    (row,) = apply_rule(markers("I01", [(np.nan, 1500.0, 0.5)]), GATES).to_dict("records")
    assert row["state"] == "necroptosis"


def test_without_a_gate_nothing_is_decided_and_the_rule_says_why() -> None:
    gates = {**GATES, "pi": Gates(None, problem="PI: controls do not separate")}
    for cells in ([LIVE], [ANNEXIN]):
        (row,) = apply_rule(markers("I01", cells), gates).to_dict("records")
        assert row["state"] == "undecided"
        assert "PI: controls do not separate" in str(row["rule"])


def test_values_of_a_patch_are_means_over_its_cells_by_area() -> None:
    (row,) = apply_rule(markers("I01", [(900.0, 1000.0, 0.3), (500.0, 1000.0, 0.1)]), GATES).to_dict("records")
    assert row["annexin_v"] == pytest.approx(800)
    assert row["area"] == pytest.approx(0.4)
    assert row["positive"] == pytest.approx(1)


def test_live_and_dead_states_can_be_taken_at_chosen_timepoints_only() -> None:
    states = {
        (name, timepoint): apply_rule(
            markers("I01", cells, timepoint=timepoint), GATES, live_frames=[0], dead_frames=[1]
        )["state"].item()
        for name, cells in (("live", [LIVE]), ("dead", [ANNEXIN]))
        for timepoint in (0, 1)
    }
    assert states == {
        ("live", 0): "live-treated",
        ("live", 1): "undecided",
        ("dead", 0): "undecided",
        ("dead", 1): "necroptosis",
    }


def test_each_timepoint_is_judged_by_its_own_gate() -> None:
    gates = {**GATES, "annexin_v": Gates(Gate(100, 200), at={0: Gate(100, 200), 1: Gate(2000, 3000)})}
    for timepoint, state in ((0, "necroptosis"), (1, "live-treated")):
        table = apply_rule(markers("I01", [ANNEXIN], timepoint=timepoint), gates)
        assert table["state"].item() == state


def test_a_looser_purity_decides_mixed_patches_by_their_majority() -> None:
    mixed = markers("I01", [ANNEXIN, (10.0, 5.0, 0.2)])
    assert apply_rule(mixed, GATES)["state"].item() == "undecided"
    assert apply_rule(mixed, GATES, purity=0.6)["state"].item() == "necroptosis"
