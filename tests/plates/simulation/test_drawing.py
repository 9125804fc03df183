"""Each state must look as it is described, measured on cells drawn alone."""

import numpy as np
import pytest
from numpy.typing import NDArray

from plates.simulation.cells import CellLine, make_cell
from plates.simulation.death import NEVER, Fate
from plates.simulation.drawing import draw_field
from plates.states import DEAD, STATES

SHAPE, VOXEL = (48, 420, 420), (0.437, 0.1626, 0.1626)
HOURS = 20.0


def drawn(state: str, since: float, seed: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """One cell in the middle of an empty field, `since` hours after its onset."""
    onset = HOURS - since
    fate = {
        "live-control": Fate("apoptosis", NEVER, NEVER, NEVER, NEVER, NEVER),
        "live-treated": Fate("apoptosis", NEVER, NEVER, NEVER, onset, NEVER),
    }.get(state, Fate(state, onset, NEVER, NEVER, NEVER, NEVER))
    rng = np.random.default_rng(seed)
    middle = SHAPE[1] * VOXEL[1] / 2
    cell = make_cell(rng, y=middle, x=middle, fate=fate, line=CellLine(mitotic_share=0.0))
    return draw_field([cell], hours=HOURS, shape=SHAPE, voxel_um=VOXEL, rng=np.random.default_rng(0))


def body_area(contrast: NDArray[np.float32]) -> float:
    """Square micrometres where the projection is clearly above the medium."""
    return float((contrast.max(axis=0) > 0.01).sum() * VOXEL[1] * VOXEL[2])


@pytest.mark.parametrize("state", STATES)
def test_the_footprint_carries_the_true_state(state: str) -> None:
    _, states = drawn(state, 4.0, seed=1)
    assert set(np.unique(states)) == {0, STATES.index(state) + 1}


def test_a_living_cell_has_the_size_of_a_spread_hela_cell() -> None:
    for seed in range(6):
        contrast, states = drawn("live-control", 0, seed)
        covered = (states > 0).sum() * VOXEL[1] * VOXEL[2]
        height = (contrast.max(axis=(1, 2)) > 0.008).sum() * VOXEL[0]
        assert 250 < covered < 1500
        assert 4 < height < 11


def test_apoptosis_shrinks_the_cell_and_condenses_it() -> None:
    for seed in range(6):
        alive, _ = drawn("live-control", 0, seed)
        dying, _ = drawn("apoptosis", 3.0, seed)
        assert body_area(dying) < 0.75 * body_area(alive)
        cell = alive.max(axis=0) > 0.01
        assert np.median(dying[dying > 0.01]) > np.median(alive[:, cell][alive[:, cell] > 0.01])


def test_necroptosis_shows_a_balloon_barely_above_the_medium() -> None:
    for seed in range(6):
        contrast, states = drawn("necroptosis", 5.0, seed)
        projection = contrast.max(axis=0)
        faint = (projection > 0.0015) & (projection < 0.0085) & (states > 0)
        assert faint.sum() * VOXEL[1] * VOXEL[2] > 50
        gone, _ = drawn("live-control", 0, seed)
        assert ((gone.max(axis=0) > 0.0015) & (gone.max(axis=0) < 0.0085)).sum() < faint.sum()


def test_necrosis_loses_index_and_keeps_its_outline() -> None:
    for seed in range(6):
        alive, _ = drawn("live-control", 0, seed)
        dead, _ = drawn("necrosis", 3.0, seed)
        inside = alive.max(axis=0) > 0.012
        assert np.median(dead.max(axis=0)[inside]) < 0.8 * np.median(alive.max(axis=0)[inside])


def test_a_treated_living_cell_keeps_its_brightness_and_gains_holes() -> None:
    changed = 0
    for seed in range(6):
        control, _ = drawn("live-control", 0, seed)
        treated, _ = drawn("live-treated", 6.0, seed)
        ratio = np.median(treated[treated > 0.01]) / np.median(control[control > 0.01])
        assert 0.9 < ratio < 1.1
        changed += not np.array_equal(control, treated)
    assert changed == 6


@pytest.mark.parametrize("state", DEAD)
def test_the_first_minutes_of_a_death_are_not_to_be_seen(state: str) -> None:
    alive, _ = drawn("live-control", 0, seed=2)
    dying, _ = drawn(state, 0.02, seed=2)
    assert np.abs(dying - alive).mean() < 0.05 * alive.mean()


def test_dead_cells_detach_and_unborn_ones_are_not_there() -> None:
    gone = Fate("necrosis", 1.0, 2.0, 2.0, NEVER, 10.0)
    line = CellLine()
    rng = np.random.default_rng(0)
    detached = make_cell(rng, y=30, x=30, fate=gone, line=line)
    unborn = make_cell(
        rng, y=30, x=30, fate=Fate("necrosis", NEVER, NEVER, NEVER, NEVER, NEVER), line=line, born_h=25.0
    )
    _, states = draw_field([detached, unborn], hours=HOURS, shape=SHAPE, voxel_um=VOXEL, rng=np.random.default_rng(0))
    assert not states.any()
