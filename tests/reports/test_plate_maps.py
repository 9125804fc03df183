import re
from pathlib import Path

import numpy as np

from plates.results import read_result
from plates.states import COLOURS, STATES
from reports import plate_maps


def wells_by_colour(drawing: str) -> dict[tuple[int, int], str]:
    """Place of every well, (row, column), and its colour."""
    cell, head = plate_maps.CELL, plate_maps.HEAD
    found = {}
    for colour, path in re.findall(r'<path stroke="([^"]+)" d="([^"]+)"/>', drawing):
        for x, y in re.findall(r"M(\d+) (\d+)h0", path):
            found[(int(y) - head) // cell, (int(x) - head) // cell] = colour
    return found


def test_a_heat_map_colours_each_well_and_hatches_the_missing(plate: Path) -> None:
    layout, fractions = read_result(plate, "layout"), read_result(plate, "fractions")
    death = fractions["death"].isel(timepoint=-1).values
    drawing = plate_maps.heat_map(layout, death, rows=8, columns=12, label="x")
    scale = plate_maps.colour_scale()
    found = wells_by_colour(drawing)
    for row, column, value in zip(layout["row"].values, layout["column"].values, death, strict=True):
        step = "url(#missing)" if np.isnan(value) else scale[2 * round(round(value * 1000) / 20)]
        assert found[int(row), int(column)] == step
    assert len(found) == 62
    assert list(found.values()).count("url(#missing)") == 2
    dots = re.findall(r'class="dot (negative|positive)" d="([^"]+)"', drawing)
    assert {kind: path.count("M") for kind, path in dots} == {"negative": 8, "positive": 6}
    assert 'class="out"' not in drawing


def test_a_well_that_was_left_out_is_crossed_and_no_control_any_more(plate: Path) -> None:
    layout = read_result(plate, "layout")
    why = np.where(layout["well"].values == "A01", "bubble", "").astype(object)
    death = read_result(plate, "fractions")["death"].isel(timepoint=-1).values
    drawing = plate_maps.heat_map(layout.assign(masked=("well", why)), death, rows=8, columns=12, label="x")
    dots = dict(re.findall(r'class="dot (negative|positive)" d="([^"]+)"', drawing))
    assert dots["negative"].count("M") == 7
    assert drawing.count('class="out"') == 2, "a cross with a light rim"
    assert wells_by_colour(drawing)[0, 0] != "url(#missing)", "its number is shown all the same"


def test_other_quantities_have_a_scale_of_their_own() -> None:
    scale = plate_maps.Scale(low=0, high=24, factor=0.1, unit="h")
    assert scale.told(72) == "7.2 h"
    assert scale.step(0) == 0
    assert scale.step(240) == plate_maps.STEPS
    assert scale.step(9999) == plate_maps.STEPS
    assert scale.told(-1) == "not measured"
    assert scale.ends() == ("0", "24 h")


def test_small_time_courses_leave_missing_wells_open(plate: Path) -> None:
    drawing = plate_maps.small_time_courses(read_result(plate, "fractions"), rows=8, columns=12, label="x")
    for state in STATES:
        path = re.search(rf'<path d="([^"]*)" fill="{COLOURS[state]}"', drawing)
        assert path is not None
        assert path[1].count("M") == 60


def test_a_gap_in_time_interrupts_the_area_and_one_timepoint_fills_the_well(plate: Path) -> None:
    fractions = read_result(plate, "fractions").isel(well=[0])
    fractions["fraction"][0, 1] = np.nan
    drawing = plate_maps.small_time_courses(fractions, rows=8, columns=12, label="x")
    path = re.search(rf'<path d="([^"]*)" fill="{COLOURS["live-treated"]}"', drawing)
    assert path is not None
    assert path[1].count("M") == 2
    single = plate_maps.small_time_courses(fractions.isel(timepoint=[0]), rows=8, columns=12, label="x")
    assert f"M{plate_maps.HEAD} " in single
    assert f"l{plate_maps.WELL_WIDTH} 0" in single


def test_rows_beyond_z_have_two_letters() -> None:
    assert [plate_maps.row_letters(row) for row in (0, 25, 26, 31)] == ["A", "Z", "AA", "AF"]
