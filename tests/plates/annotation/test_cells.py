"""Cells of a field by their nuclei: counted, measured, and given the patches that they cover."""

import numpy as np
import pytest

from plates.annotation.cells import measure_field

from .stained_plates import BACKGROUND, LIGHT, MEDIUM, PITCH, draw_cell

SIZE = 480
Field = tuple[np.ndarray, dict[str, np.ndarray]]


def field(cells: list[tuple[int, int, bool]], *, seed: int = 0) -> Field:
    rng = np.random.default_rng(seed)
    index = np.full((SIZE, SIZE), MEDIUM) + rng.normal(0, 5e-4, (SIZE, SIZE))
    lights = {stain: rng.normal(level, 2, (SIZE, SIZE)) for stain, level in BACKGROUND.items()}
    for y, x, stained in cells:
        draw_cell(index, lights, (y, x), stained=stained)
    counts = np.rint(index * 1e4).astype(np.uint16)
    named = {"Hoechst": "hoechst", "Annexin V": "annexin_v", "PI": "pi"}
    return counts, {named[stain]: np.rint(light).astype(np.uint16) + 1 for stain, light in lights.items()}


def test_each_nucleus_is_one_cell_with_the_light_that_was_put_there() -> None:
    found = measure_field(
        *field([(80, 80, True), (80, 400, False), (300, 200, True)]), medium_index=MEDIUM, voxel_um=(PITCH, PITCH)
    )
    assert len(found.light) == 3
    assert np.allclose(found.nucleus_um2, np.pi * 4**2, rtol=0.15)
    assert np.allclose(found.light[:, 0], LIGHT["Hoechst"], rtol=0.1)
    stained = found.light[:, 2] > 500
    assert stained.sum() == 2
    assert np.allclose(found.light[stained, 2], LIGHT["PI"], rtol=0.1)
    assert (found.light[stained, 1] > 0.5 * LIGHT["Annexin V"]).all()
    assert np.abs(found.light[~stained, 1:]).max() < 5
    for stain, level in BACKGROUND.items():
        name = {"Hoechst": "hoechst", "Annexin V": "annexin_v", "PI": "pi"}[stain]
        assert found.background[name] == pytest.approx(level + 1, abs=1)


def test_touching_nuclei_are_two_cells() -> None:
    found = measure_field(*field([(200, 200, True), (200, 246, True)]), medium_index=MEDIUM, voxel_um=(PITCH, PITCH))
    assert len(found.light) == 2


def test_a_neighbours_stained_membrane_does_not_stain_a_cell() -> None:
    found = measure_field(*field([(200, 200, True), (200, 285, False)]), medium_index=MEDIUM, voxel_um=(PITCH, PITCH))
    annexin = np.sort(found.light[:, 1])
    assert annexin[1] > 0.5 * LIGHT["Annexin V"]
    assert annexin[0] < 0.05 * LIGHT["Annexin V"]


def test_condensed_bright_nuclei_do_not_hide_pale_ones() -> None:
    counts, lights = field([(80, 80, False), (80, 400, False)])
    bright = lights["hoechst"].astype(float)
    rows, columns = np.indices(bright.shape)
    bright[np.hypot(rows - 80, columns - 80) * PITCH < 4] += 8 * LIGHT["Hoechst"]
    lights["hoechst"] = bright.astype(np.uint16)
    assert len(measure_field(counts, lights, medium_index=MEDIUM, voxel_um=(PITCH, PITCH)).light) == 2


def test_shares_of_a_patch_add_up_to_its_cell_area() -> None:
    found = measure_field(*field([(80, 80, True), (80, 160, False)]), medium_index=MEDIUM, voxel_um=(PITCH, PITCH))
    assert found.area.shape == (9,)
    disc = np.pi * 8**2 / 25.6**2
    assert found.area[:2].sum() == pytest.approx(2 * disc, rel=0.1)
    assert np.allclose(found.nearest.sum(axis=1), found.area, atol=1e-9)
    # the second cell lies on the border of the first two patches
    assert (found.nearest[:2] > 0.1 * disc).sum() == 3


def test_cells_without_a_nucleus_belong_to_none() -> None:
    counts, lights = field([(80, 80, False)])
    counts[400:470, 400:470] = round((MEDIUM + 0.02) * 1e4)
    found = measure_field(counts, lights, medium_index=MEDIUM, voxel_um=(PITCH, PITCH))
    assert found.area[8] > 0.15
    assert found.nearest[8].sum() == 0


def test_what_the_camera_did_not_see_is_nan_and_not_unstained() -> None:
    counts, lights = field([(80, 80, True), (300, 300, False)])
    lights["pi"][:160, :160] = 0
    found = measure_field(counts, lights, medium_index=MEDIUM, voxel_um=(PITCH, PITCH))
    assert np.isnan(found.light[:, 2]).sum() == 1
    assert np.isfinite(found.light[:, 1]).all()


def test_without_hoechst_there_are_areas_but_no_cells() -> None:
    counts, lights = field([(80, 80, True)])
    del lights["hoechst"]
    found = measure_field(counts, lights, medium_index=MEDIUM, voxel_um=(PITCH, PITCH))
    assert found.light.shape == (0, 3)
    assert found.area[0] > 0.1


def test_an_empty_field_and_a_field_without_data_hold_no_cells() -> None:
    assert len(measure_field(*field([]), medium_index=MEDIUM, voxel_um=(PITCH, PITCH)).light) == 0
    counts, lights = field([(80, 80, True)])
    nothing = measure_field(np.zeros_like(counts), lights, medium_index=MEDIUM, voxel_um=(PITCH, PITCH))
    assert np.isnan(nothing.area).all()
    unknown = measure_field(counts, lights, medium_index=float("nan"), voxel_um=(PITCH, PITCH))
    assert (unknown.area == 0).all()


def test_a_nucleus_cut_by_the_border_of_the_field_is_a_cell() -> None:
    found = measure_field(*field([(3, 200, True), (479, 479, False)]), medium_index=MEDIUM, voxel_um=(PITCH, PITCH))
    assert len(found.light) == 2
