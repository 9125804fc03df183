import re
from pathlib import Path

import numpy as np

from plates.results import read_result
from plates.states import COLOURS, STATES
from reports import plate_maps


def test_a_heat_map_colours_each_well_and_hatches_the_missing(plate: Path) -> None:
    layout, fractions = read_result(plate, "layout"), read_result(plate, "fractions")
    death = fractions["death"].isel(timepoint=-1).values
    drawing = plate_maps.heat_map(layout, death, rows=8, columns=12, label="x")
    fills = re.findall(r'class="w"[^>]*fill="([^"]+)"', drawing)
    scale = plate_maps.colour_scale()
    assert fills == ["url(#missing)" if np.isnan(value) else scale[round(round(value * 1000) / 10)] for value in death]
    assert drawing.count("<circle") == 14, "eight rings and six dots"
    assert fills.count("url(#missing)") == 2


def test_the_cube_holds_what_is_stored_to_a_thousandth(plate: Path) -> None:
    fractions = read_result(plate, "fractions")
    cube = plate_maps.cube(fractions)
    values = np.array(cube["values"], dtype=float)
    assert values.shape == (1 + len(STATES), 4, 62)
    stored = fractions["death"].transpose("timepoint", "well").values
    np.testing.assert_allclose(values[0][values[0] >= 0] / 1000, stored[np.isfinite(stored)], atol=5.1e-4)
    np.testing.assert_array_equal(values[0] < 0, np.isnan(stored))


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
