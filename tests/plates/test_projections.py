"""Field statistics against fields whose medium, cells and holes are known."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from plates.projections import field_statistics, maximum_projection, medium_index


def field(*, medium: float = 1.33713, noise: float = 3.0, cells: float = 0.0, seed: int = 0) -> np.ndarray:
    """Medium with noise in counts; cells as a column of higher index over a share of the area."""
    rng = np.random.default_rng(seed)
    volume = medium * 1e4 + rng.normal(0, noise, (16, 200, 200))
    width = round(200 * cells)
    volume[4:10, :, :width] += rng.uniform(100, 400, (6, 200, width))
    return np.rint(volume).astype(np.uint16)


@pytest.mark.parametrize("medium", [1.3350, 1.33713, 1.33708])
@pytest.mark.parametrize("noise", [1.0, 3.0, 8.0])
@pytest.mark.parametrize("cells", [0.0, 0.7])
def test_medium_is_found_finer_than_a_count(medium: float, noise: float, cells: float) -> None:
    # 8 counts of noise in this small sample leave half a count of doubt
    tolerance = 2e-5 if noise < 5 else 5e-5
    assert medium_index(field(medium=medium, noise=noise, cells=cells)) == pytest.approx(medium, abs=tolerance)


def test_missing_voxels_do_not_move_the_medium() -> None:
    volume = field(cells=0.3)
    holes = volume.copy()
    holes[:, :150] = 0
    assert medium_index(holes) == pytest.approx(medium_index(volume), abs=3e-5)
    assert np.isnan(medium_index(np.zeros_like(volume)))


def test_a_constant_field_is_its_own_medium() -> None:
    assert medium_index(np.full((4, 50, 50), 13370, np.uint16)) == pytest.approx(1.3370, abs=1e-9)


@pytest.mark.parametrize("cells", [0.0, 0.1, 0.5, 0.7])
def test_confluency_is_the_share_of_the_area_with_cells(cells: float) -> None:
    assert field_statistics(field(cells=cells)).confluency == pytest.approx(cells, abs=0.005)


def test_confluency_counts_only_what_was_reconstructed() -> None:
    volume = field(cells=0.5)
    volume[:, :, 100:150] = 0  # half of the area without cells
    statistics = field_statistics(volume)
    assert statistics.confluency == pytest.approx(2 / 3, abs=0.005)
    assert statistics.missing_share == pytest.approx(0.25)


def test_a_blurred_field_is_out_of_focus_whatever_its_confluency() -> None:
    values = {}
    for cells in (0.3, 0.6):
        sharp = field(cells=cells)
        blurred = np.rint(gaussian_filter(sharp.astype(float), (0, 2, 2))).astype(np.uint16)
        values[cells] = field_statistics(sharp).focus, field_statistics(blurred).focus
    assert max(pair[1] for pair in values.values()) < 0.5 * min(pair[0] for pair in values.values())


def test_a_field_without_data_says_nothing() -> None:
    statistics = field_statistics(np.zeros((3, 40, 40), np.uint16), nonfinite=7)
    assert np.isnan([statistics.medium_index, statistics.confluency, statistics.focus]).all()
    assert (statistics.missing_share, statistics.nonfinite) == (1.0, 7)


def test_maximum_projection_ignores_the_missing() -> None:
    volume = field()
    volume[3:] = 0
    assert np.array_equal(maximum_projection(volume), volume[:3].max(axis=0))
