"""Field statistics against fields whose medium, cells and holes are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from plates.projections import field_statistics, medium_index
from plates.tomogram import shrink

VOXEL_UM = (0.9, 0.16, 0.16)


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
    assert field_statistics(field(cells=cells), voxel_um=VOXEL_UM).confluency == pytest.approx(cells, abs=0.005)


def test_confluency_counts_only_what_was_reconstructed() -> None:
    volume = field(cells=0.5)
    volume[:, :, 100:150] = 0  # half of the area without cells
    statistics = field_statistics(volume, voxel_um=VOXEL_UM)
    assert statistics.confluency == pytest.approx(2 / 3, abs=0.005)
    assert statistics.missing_share == pytest.approx(0.25)


def test_a_blurred_field_is_out_of_focus_whatever_its_confluency() -> None:
    values = {}
    for cells in (0.3, 0.6):
        sharp = field(cells=cells)
        blurred = np.rint(gaussian_filter(sharp.astype(float), (0, 2, 2))).astype(np.uint16)
        values[cells] = (
            field_statistics(sharp, voxel_um=VOXEL_UM).focus,
            field_statistics(blurred, voxel_um=VOXEL_UM).focus,
        )
    assert max(pair[1] for pair in values.values()) < 0.5 * min(pair[0] for pair in values.values())


def test_a_field_without_data_says_nothing() -> None:
    statistics = field_statistics(np.zeros((3, 40, 40), np.uint16), voxel_um=VOXEL_UM, nonfinite=7)
    assert np.isnan([statistics.medium_index, statistics.confluency, statistics.focus]).all()
    assert (statistics.missing_share, statistics.nonfinite) == (1.0, 7)


def test_dry_mass_of_a_known_ball() -> None:
    z, y, x = np.ogrid[:40, :120, :120]
    radius_um, excess = 8.0, 0.03
    inside = ((z - 20) * 0.9) ** 2 + ((y - 60) * 0.16) ** 2 + ((x - 60) * 0.16) ** 2 < radius_um**2
    rng = np.random.default_rng(0)
    volume = np.rint(13370 + excess * 1e4 * inside + rng.normal(0, 4, inside.shape)).astype(np.uint16)
    statistics = field_statistics(volume, voxel_um=VOXEL_UM)
    # Barer: index excess times volume over 0.19 um3/pg
    truth = excess * inside.sum() * np.prod(VOXEL_UM) / 0.19
    assert statistics.dry_mass == pytest.approx(truth, rel=0.01)
    # a field of which half is missing loses the cells of that half, and no more
    volume[:, :60] = 0
    assert field_statistics(volume, voxel_um=VOXEL_UM).dry_mass == pytest.approx(truth / 2, rel=0.05)


def test_percentiles_and_mean_are_those_of_numpy() -> None:
    volume = field(cells=0.3)
    volume[:, 5:9] = 0
    statistics = field_statistics(volume, voxel_um=VOXEL_UM)
    there = volume[volume > 0] * 1e-4
    assert statistics.mean_index == pytest.approx(there.mean(), rel=1e-9)
    expected = np.percentile(there, [1, 50, 99, 99.9])
    measured = [getattr(statistics, f"percentile_{name}") for name in ("1", "50", "99", "99_9")]
    np.testing.assert_allclose(measured, expected, atol=1.5e-4)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_shrinking_is_the_rounded_mean_of_what_is_there(data: st.DataObject) -> None:
    factor = data.draw(st.sampled_from([2, 4, 8]))
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 19), st.integers(1, 19)))
    highest = data.draw(st.sampled_from([14000, 65535]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    image = rng.integers(1, highest, shape).astype(np.uint16)
    image[rng.random(shape) < data.draw(st.sampled_from([0.0, 0.3, 0.95]))] = 0
    small = shrink(image, factor=factor)
    assert small.shape == (shape[0], -(-shape[1] // factor), -(-shape[2] // factor))
    for z, y, x in np.ndindex(small.shape):
        block = image[z, y * factor : (y + 1) * factor, x * factor : (x + 1) * factor].astype(int)
        there = block[block > 0]
        assert small[z, y, x] == ((there.sum() + there.size // 2) // there.size if there.size else 0)
