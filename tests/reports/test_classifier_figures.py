"""Figures of an evaluation: every number drawn is one of the record."""

import math

import numpy as np
import pytest

from reports import classifier_figures as figures
from reports import study_figures
from reports.training import chosen_epoch

from .evaluated import training_rows

CURVES = {"a": {"false_positive": [0, 0, 0.01, 1], "true_positive": [0, 0.4, 0.9, 1]}, "b": None}


def test_a_state_without_a_curve_is_left_out_of_the_roc() -> None:
    drawn = figures.roc(CURVES, states=("a", "b")).data
    assert [trace.name for trace in drawn if trace.name] == ["A a"]
    assert list(drawn[0].x) == [0, 0, 0.01, 1]


def test_on_the_logarithmic_axis_the_best_rate_without_false_positives_is_kept() -> None:
    figure = figures.roc(CURVES, states=("a", "b"), log=True)
    assert list(figure.data[0].y) == [0.4, 0.9, 1]
    assert list(figure.data[0].x) == [0.005, 0.01, 1]
    assert 10 ** figure.layout.xaxis.range[0] == pytest.approx(0.005)


def test_the_reliability_diagram_leaves_empty_bins_out_and_draws_both_ends_of_each_interval() -> None:
    bins = {"confidence": [None, 0.5, 0.9], "accuracy": [None, 0.6, 0.95], "count": [0, 10, 200],
            "low": [None, 0.3, 0.91], "high": [None, 0.8, 0.97]}  # fmt: skip
    points = figures.reliability({"after": {"bins": bins}}).data[1]
    assert list(points.x) == [0.5, 0.9]
    np.testing.assert_allclose(points.y + points.error_y.array, [0.8, 0.97])
    np.testing.assert_allclose(points.y - points.error_y.arrayminus, [0.3, 0.91])


def test_no_bar_of_outlier_scores_holds_patches_of_both_sides_of_the_threshold() -> None:
    scores = np.random.default_rng(0).gamma(4, 1, 5000)
    within, above = figures.outlier_scores(scores, threshold=7.3).data
    assert sum(within.y) == (scores <= 7.3).sum()
    assert sum(above.y) == (scores > 7.3).sum()
    assert max(within.x) + within.width / 2 == pytest.approx(7.3)
    empty = figures.outlier_scores([math.nan], threshold=7.3)
    assert sum(sum(trace.y) for trace in empty.data) == 0


def test_the_worst_wells_are_on_top_and_at_most_forty_are_drawn() -> None:
    rows = [{"plate": "/data/P1.zarr", "well": f"A{n:02d}", "patches": 10, "accuracy": n / 50} for n in range(50)]
    figure = figures.accuracy_by_well(rows[::-1])
    assert list(figure.layout.yaxis.ticktext) == [f"P1 A{n:02d}" for n in range(40)]
    low, high = figure.layout.yaxis.range
    assert low > high, "the first is drawn on top"


def test_the_kept_epoch_is_the_best_at_full_size_although_a_small_one_was_better() -> None:
    rows = training_rows()
    assert chosen_epoch(rows) == 10
    assert rows[3]["accuracy"] > rows[10]["accuracy"]
    tie = [row | {"accuracy": 0.9} for row in rows]
    assert chosen_epoch(tie) == 11, "of equals the one of lowest loss"
    assert figures.training_loss(rows, chosen=10).layout.shapes[0].x0 == 11, "epochs are counted from 1 on the page"


def test_a_step_of_an_adaptation_without_a_score_leaves_a_gap() -> None:
    curve = [{"patches": 25, "accuracy": {"value": 0.8, "low": None, "high": None}, "old_accuracy": None}]
    drawn = study_figures.accuracy_against_patches(curve, before=0.6).data
    assert [trace.name for trace in drawn] == ["new line, before", "new line"]
    assert list(drawn[1].error_y.array) == [0]


def test_only_a_curve_that_gets_there_asks_for_the_picture_of_the_corner() -> None:
    good = {"false_positive": [0, 0.05, 1], "true_positive": [0.5, 0.95, 1]}
    poor = {"false_positive": [0, 0.05, 1], "true_positive": [0.1, 0.3, 1]}
    assert figures.reaches_corner(good)
    assert not figures.reaches_corner(poor)


def test_few_epochs_have_whole_ticks() -> None:
    assert figures.training_loss(training_rows(3)).layout.xaxis.dtick == 1
    assert figures.training_loss(training_rows(40)).layout.xaxis.dtick is None
