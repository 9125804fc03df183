from pathlib import Path

import numpy as np

from plates.results import read_result
from plates.states import STATES
from reports import figures


def test_the_curve_and_its_band_are_the_stored_ones(plate: Path) -> None:
    fits = read_result(plate, "dose_response")
    figure = figures.dose_response(fits, compound="TNF mimetic")
    stored = fits.sel(compound="TNF mimetic", readout="death")
    band, curve, *_, points = figure.data
    np.testing.assert_array_equal(curve.y, stored["curve"].values)
    np.testing.assert_array_equal(band.y, np.r_[stored["curve_high"].values, stored["curve_low"].values[::-1]])
    assert sorted(points.y) == sorted(stored["response"].values.ravel())


def test_a_stack_shows_every_well_of_the_compound_and_sums_to_one(plate: Path) -> None:
    fractions = read_result(plate, "fractions")
    figure = figures.pathway_stack(fractions, compound="TNF mimetic", timepoint=3)
    heights = np.array([bar.y for bar in figure.data])
    assert heights.shape == (len(STATES), 8 + 12)
    np.testing.assert_allclose(heights.sum(axis=0), 1)
    assert len(set(figure.data[0].x)) == 20, "bars lie side by side"


def test_a_time_course_follows_each_well(plate: Path) -> None:
    fractions = read_result(plate, "fractions")
    figure = figures.time_courses(fractions, compound="TNF mimetic")
    assert len(figure.data) == 8 + 12
    well = figure.data[-1].hovertemplate.split(",")[0]
    np.testing.assert_array_equal(figure.data[-1].y, fractions["death"].sel(well=well).values)


def test_controls_are_shown_by_what_they_induce(plate: Path) -> None:
    figure = figures.control_strip(read_result(plate, "fractions"), timepoint=3)
    assert [len(trace.y) for trace in figure.data] == [8, 2, 2, 2]
    assert [trace.name for trace in figure.data][1] == "anti-CD95 (apoptosis)"


def test_a_compound_that_met_two_cell_lines_finds_its_own_wells(plate: Path) -> None:
    fractions = read_result(plate, "fractions")
    lines = np.where(np.arange(fractions.sizes["well"]) % 2, "HeLa", "A549").astype(object)
    fractions = fractions.assign_coords(cell_line=("well", lines))
    figure = figures.time_courses(fractions, compound="TNF mimetic [A549]")
    mine = (fractions["compound"].values == "TNF mimetic") & (lines == "A549")
    assert len(figure.data) == 8 + mine.sum()
