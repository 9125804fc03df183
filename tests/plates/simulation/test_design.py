"""Plates of controls, harder settings, other cell lines: what is planned is what is drawn and written."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plates.errors import SettingsError
from plates.layout import read_plate_map
from plates.simulation.cells import A549, CELL_LINES, CellLine, draw_culture, make_cell
from plates.simulation.death import NEVER, Fate, draw_fate
from plates.simulation.design import (
    HARDER,
    SUBLETHAL,
    SUBTLE,
    PlannedWell,
    design_annotation_plate,
    design_plates,
    make_library,
    write_plate_map,
)
from plates.simulation.drawing import draw_field
from plates.simulation.plate import _populate, day_optics
from plates.simulation.textures import textures
from plates.states import DEAD

SHAPE, VOXEL = (40, 300, 300), (0.437, 0.1626, 0.1626)
ALIVE = Fate("apoptosis", NEVER, NEVER, NEVER, NEVER, NEVER)


def test_an_annotation_plate_holds_every_state_s_control_and_its_map_is_read(tmp_path: Path) -> None:
    design = design_annotation_plate(4, name="N", wells_per_state=3, line=A549, fields=1, fluorescence=True)
    assert design.fluorescence
    assert len({planned.well for planned in design.wells}) == 15
    write_plate_map(design, tmp_path / "N.csv")
    table = read_plate_map(tmp_path / "N.csv").table
    assert (table["control"] == "negative").sum() == 3
    assert table.loc[table["control"] == "positive", "inducer"].value_counts().to_dict() == dict.fromkeys(DEAD, 3)
    treated = table[table["compound"] == SUBLETHAL.name]
    assert set(treated["control"]) == {"none"}
    assert treated["dose"].tolist() == [10.0] * 3
    assert sorted(treated["replicate"]) == [1, 2, 3]
    assert set(table["cell_line"]) == {"A549-like"}


def test_the_sub_lethal_compound_leaves_cells_alive_and_treated() -> None:
    rng = np.random.default_rng(0)
    states = [draw_fate(rng, SUBLETHAL, 10.0).state(16.0) for _ in range(500)]
    assert states.count("live-treated") > 0.93 * len(states)


def test_too_many_wells_are_refused() -> None:
    with pytest.raises(SettingsError, match="do not fit"):
        design_annotation_plate(1, name="N", wells_per_state=100)


@pytest.mark.parametrize("name", HARDER)
def test_harder_settings_make_a_plate_that_differs_from_the_default(name: str) -> None:
    usual = design_plates(make_library(1), seed=1, plates=1)[0]
    hard = design_plates(make_library(1), seed=1, plates=1, **HARDER[name])[0]
    changed = {field for field in HARDER[name] if getattr(hard, field) != getattr(usual, field)}
    assert changed == set(HARDER[name])


def test_noise_varies_by_well_about_what_the_design_says() -> None:
    design = design_annotation_plate(2, name="N")
    noisy = replace(design, optics=replace(design.optics, noise=2 * design.optics.noise))
    drawn = [day_optics(design, number).noise for number in range(len(design.wells))]
    assert len(set(drawn)) == len(drawn)
    assert 0.4 * design.optics.noise < np.mean(drawn) < 2.5 * design.optics.noise
    assert day_optics(noisy, 3).noise == pytest.approx(2 * drawn[3])


def test_cells_of_another_line_are_larger_flatter_paler_and_fuller_of_droplets() -> None:
    assert set(CELL_LINES) == {"HeLa-like", "A549-like", "Jurkat-like"}
    seen = {}
    for name, line in CELL_LINES.items():
        area, height, index, droplets = [], [], [], []
        for seed in range(6):
            middle = SHAPE[1] * VOXEL[1] / 2
            alone = replace(line, mitotic_share=0.0, compact=0.0)
            cell = make_cell(np.random.default_rng(seed), y=middle, x=middle, fate=ALIVE, line=alone)
            contrast, states = draw_field(
                [cell], hours=1.0, shape=SHAPE, voxel_um=VOXEL, rng=np.random.default_rng(seed)
            )
            area.append((states > 0).sum())
            height.append((contrast.max(axis=(1, 2)) > 0.008).sum())
            index.append(np.median(contrast[contrast > 0.005]))
            droplets.append(len(cell.droplets))
        seen[name] = [np.mean(values) for values in (area, height, index, droplets)]
    ratio = np.array(seen["A549-like"]) / np.array(seen["HeLa-like"])
    assert ratio[0] > 1.2
    assert ratio[1] < 0.9
    assert ratio[2] < 0.8
    assert ratio[3] > 2
    suspended = np.array(seen["Jurkat-like"]) / np.array(seen["HeLa-like"])
    assert suspended[0] < 0.35
    assert suspended[1] > 1.2
    assert suspended[2] > 1.2


def test_a_plate_of_another_line_has_its_cells_and_its_medium() -> None:
    design = design_plates(make_library(1), seed=1, plates=1, line=A549)[0]
    planned = PlannedWell("B02", None, 0.0, "negative", "", 1)
    cells = _populate(design, planned, np.random.default_rng(0))
    assert design.line.medium_index == 1.335
    assert min(cell.half_length for cell in cells) >= A549.half_length_um[0]


def test_the_cells_of_a_well_share_a_culture_that_other_wells_do_not() -> None:
    rng = np.random.default_rng(1)
    first, second = draw_culture(rng), draw_culture(rng)
    cells = [
        make_cell(np.random.default_rng(5), y=0, x=0, fate=ALIVE, line=CellLine(), culture=culture)
        for culture in (first, second)
    ]
    assert cells[0].cytoplasm / first.index == pytest.approx(cells[1].cytoplasm / second.index)
    assert cells[0].cytoplasm != cells[1].cytoplasm


def test_rings_have_the_histogram_of_threads_and_another_form() -> None:
    for threads, rings in zip(textures().threads, textures().rings, strict=True):
        assert np.array_equal(np.sort(threads, axis=None), np.sort(rings, axis=None))
        assert abs(np.corrcoef(threads.ravel(), rings.ravel())[0, 1]) < 0.1


def test_debris_belongs_to_no_cell() -> None:
    contrast, states = draw_field([], hours=1.0, shape=SHAPE, voxel_um=VOXEL, rng=np.random.default_rng(2))
    assert contrast.max() > 0.005
    assert not states.any()


def test_the_subtle_drugs_differ_in_where_their_granules_lie_and_kill_nothing() -> None:
    heights = [compound.granule_height for compound in SUBTLE.values()]
    assert heights[0] == -heights[1] != 0
    rng = np.random.default_rng(0)
    fate = draw_fate(rng, SUBTLE["cisplatin-like"], 10.0)
    assert fate.granule_height == heights[1]
    assert all(set(compound.hazards) == {"response"} for compound in SUBTLE.values())
