import math

import pytest

from reports.words import concentration, ec50, in_figure, number, percent_interval, plain

FIT = {"status": "quantified", "ec50": 2.345, "ec50_low": 1.9, "ec50_high": 2.84, "dose_min": 0.1, "dose_max": 30.0}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, "EC50 2.35 µM (1.9 to 2.84 µM)"),
        (
            {"status": "above_range", "ec50": math.inf, "ec50_low": 12.0, "ec50_high": math.inf},
            "not determined, EC50 > 12 µM",
        ),
        (
            {"status": "above_range", "ec50": math.inf, "ec50_low": 0.0, "ec50_high": math.inf},
            "not determined, EC50 > 30 µM",
        ),
        ({"status": "below_range", "ec50": 0.0, "ec50_low": 0.0, "ec50_high": 0.05}, "not determined, EC50 < 50 nM"),
        ({"status": "no_effect", "ec50": math.nan}, "no effect up to 30 µM"),
        ({"ec50": 0.044, "ec50_low": 0.005, "ec50_high": 0.12}, "EC50 44 nM (5 to 120 nM)"),
        (
            {"status": "no_effect", "ec50": math.nan, "emax_low": 0.6},
            "not determined: with so few wells the effect may be chance",
        ),
        ({"status": "single_point", "ec50": 20.0}, "not determined: only the highest dose acts"),
        ({"status": "not_fitted", "ec50": math.nan}, "not determined: too few doses or wells for a curve"),
    ],
)
def test_a_potency_is_a_number_with_its_interval_or_words(changed: dict[str, object], told: str) -> None:
    assert ec50(FIT | changed) == told


def test_numbers_keep_three_digits_and_no_needless_zeros() -> None:
    shown = [number(value) for value in (0.0012345, 2.0, 123.456, 123456.0, 0, math.nan, math.inf)]
    assert shown == ["0.00123", "2", "123", "123456", "0", "—", "unbounded"]


def test_doses_are_told_in_the_unit_a_chemist_would_write() -> None:
    assert [concentration(dose) for dose in (0.03, 0.1, 30.0, 2500.0)] == ["30 nM", "0.1 µM", "30 µM", "2.5 mM"]
    assert percent_interval(0.123, 0.5) == "12 to 50 %"


def test_text_of_a_plate_map_is_one_visible_line_of_bounded_length() -> None:
    assert plain("a\u202eb\x00c\nd") == "a\ufffdb\ufffdc d"
    assert len(plain("x" * 10_000)) == 60
    assert in_figure('<a href="https://x">') == '&lt;a href="https://x"&gt;'
