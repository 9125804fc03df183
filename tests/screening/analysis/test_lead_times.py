"""Lead of one signal over another that are both seen in frames."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from screening.analysis.lead_times import crossings, estimate_lead, first_calls, lead_table

NAN = float("nan")


def calls(*rows: tuple[float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["after", "until"], dtype=float)


def seen(times: np.ndarray, hours: np.ndarray) -> pd.DataFrame:
    return first_calls(hours, (hours[None] >= times[:, None]).astype(float), confirm=1)


def test_the_first_call_is_the_first_that_the_next_frame_confirms() -> None:
    hours = np.arange(5.0)
    called = np.array(
        [
            [0, 0, 1, 1, 1],
            [0, 1, 0, 1, 1],
            [0, 0, 0, 0, 1],
            [0, 0, 0, 0, 0],
            [1, 1, 1, 1, 1],
            [0, NAN, 1, 1, NAN],
            [NAN] * 5,
        ]
    )
    found = first_calls(hours, called)
    expected = calls((1, 2), (2, 3), (3, 4), (4, np.inf), (-np.inf, 0), (0, 2), (NAN, NAN))
    pd.testing.assert_frame_equal(found, expected)


def test_a_crossing_is_read_off_the_line_between_its_frames() -> None:
    courses = np.array([[0.0, 0.1, 0.3, 0.5], [0.0, 0.0, 0.1, 0.1], [0.4, 0.5, 0.6, 0.7], [NAN] * 4])
    found = crossings(np.array([0.0, 1.0, 2.0, 3.0]), courses, 0.2)
    assert found["at"].to_numpy() == pytest.approx([1.5, NAN, NAN, NAN], nan_ok=True)
    assert list(found["until"][:3]) == [2, np.inf, 0]


def test_each_kind_of_answer_has_its_bounds() -> None:
    label = calls((1, 2), (1, 2), (9, np.inf), (9, np.inf), (-np.inf, 0), (NAN, NAN))
    marker = calls((4, 5), (9, np.inf), (4, 5), (9, np.inf), (4, 5), (4, 5))
    found = lead_table(label, marker)
    assert list(found["status"]) == ["both", "label_free_only", "marker_only", "neither", "before_first", "not_seen"]
    assert found["low"].to_numpy() == pytest.approx([2, 7, -np.inf, NAN, NAN, NAN], nan_ok=True)
    assert found["high"].to_numpy() == pytest.approx([4, np.inf, -4, NAN, NAN, NAN], nan_ok=True)


@pytest.mark.parametrize("step", [0.5, 1.0, 2.0])
def test_a_lead_of_two_to_four_hours_is_recovered_from_coarser_frames(step: float) -> None:
    rng = np.random.default_rng(0)
    onset = 1 + rng.exponential(4, 600)
    lead = rng.uniform(2, 4, 600)
    hours = np.arange(0, 18.1, step)
    found = estimate_lead(seen(onset, hours), seen(onset + lead, hours), np.arange(600) % 12, draws=100)
    assert found.median == pytest.approx(3.0, abs=0.15)
    assert found.low <= 3.0 <= found.high
    assert found.status == "estimated"


def test_units_that_end_without_a_marker_do_not_shorten_the_lead() -> None:
    # deaths go on until the end, so that many markers would come later: subtraction would see the short leads only
    rng = np.random.default_rng(1)
    onset = rng.uniform(0.5, 10, 800)
    lead = rng.uniform(1, 7, 800)
    hours = np.arange(0, 10.1, 0.5)
    label, marker = seen(onset, hours), seen(onset + lead, hours)
    table = lead_table(label, marker)
    both = table[table["status"] == "both"]
    assert ((both["low"] + both["high"]) / 2).median() < 3.3
    found = estimate_lead(label, marker, np.arange(800) % 10, draws=100)
    assert found.median == pytest.approx(4.0, abs=0.3)
    assert found.counts["label_free_only"] > 200


def test_the_interval_grows_with_what_wells_disagree_about() -> None:
    rng = np.random.default_rng(2)
    hours = np.arange(0, 18.1, 0.5)
    onset = 1 + rng.exponential(3, 400)
    well = np.arange(400) % 8
    widths = []
    for spread in (0.0, 1.0):
        lead = 3 + spread * np.linspace(-1, 1, 8)[well] + rng.uniform(-0.5, 0.5, 400)
        found = estimate_lead(seen(onset, hours), seen(onset + lead, hours), well, draws=100)
        widths.append(found.high - found.low)
    assert widths[1] > 3 * widths[0]


def test_a_lead_shorter_than_the_frames_has_the_interval_that_they_leave() -> None:
    rng = np.random.default_rng(3)
    hours = np.arange(0, 20.1, 4)
    onset = 1 + rng.exponential(4, 300)
    found = estimate_lead(seen(onset, hours), seen(onset + 1, hours), np.arange(300) % 6)
    assert found.status == "between_frames"
    assert found.low < 1 < found.high
    assert found.high - found.low >= 4


def test_what_was_never_reached_is_said() -> None:
    only = estimate_lead(calls((1, 2), (2, 3)), calls((9, np.inf), (9, np.inf)), np.array(["A01", "A02"]))
    assert (only.median, only.status) == (np.inf, "not_reached")
    nothing = estimate_lead(calls((9, np.inf)), calls((9, np.inf)), np.array(["A01"]))
    assert np.isnan(nothing.median)
    assert nothing.status == "not_computable"
    assert nothing.counts["neither"] == 1
    empty = estimate_lead(calls(), calls(), np.array([]))
    assert empty.status == "not_computable"


def test_two_wells_give_a_lead_and_no_interval() -> None:
    found = estimate_lead(calls(*[(1, 1.5)] * 6), calls(*[(4, 4.5)] * 6), np.array(["A01", "A02"] * 3))
    assert found.median == pytest.approx(3, abs=0.2)
    assert np.isnan(found.low)
    assert found.status == "too_few_wells"
