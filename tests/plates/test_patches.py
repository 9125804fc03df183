"""Where windows lie, what they cover, and which of them hold cells."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plates.errors import StoreError
from plates.patches import (
    FOREGROUND_SHARE,
    analysis_shape,
    class_map,
    foreground_shares,
    patch_centres,
    window_grid,
)


@given(size=st.integers(160, 6000), stride=st.integers(20, 160))
def test_windows_start_at_zero_stay_inside_and_leave_less_than_a_tenth_of_a_patch(size: int, stride: int) -> None:
    offsets = window_grid(size, patch=160, stride=stride)
    assert offsets[0] == 0
    assert offsets[-1] + 160 <= size
    assert size - (offsets[-1] + 160) <= (16 if len(offsets) == 1 else 0)
    assert (np.diff(offsets) <= stride + 16).all()
    assert np.ptp(np.diff(offsets)) <= 1 if len(offsets) > 1 else True


def test_a_stitched_field_of_588_um_has_529_windows() -> None:
    assert len(window_grid(round(588 / 0.16))) ** 2 == 529


def test_a_remainder_earns_a_window_only_from_a_tenth_of_a_patch_up() -> None:
    assert window_grid(320 + 16).tolist() == [0, 176]
    assert window_grid(320 + 17).tolist() == [0, 88, 177]


def test_half_the_stride_doubles_the_windows_and_reaches_the_same_border() -> None:
    assert window_grid(640, stride=80).tolist() == [0, 80, 160, 240, 320, 400, 480]


def test_a_field_smaller_than_a_patch_is_refused_with_both_sizes() -> None:
    with pytest.raises(StoreError, match=r"100 px \(16.0 um\) is smaller than one patch of 160 px \(25.6 um\)"):
        window_grid(100)


def test_centres_are_in_um_whatever_the_voxel() -> None:
    fine = patch_centres((640, 320), voxel_um=(0.16, 0.16))
    coarse = patch_centres((320, 160), voxel_um=(0.32, 0.32))
    np.testing.assert_allclose(fine[0], [12.8, 38.4, 64.0, 89.6])
    np.testing.assert_allclose(fine[1], [12.8, 38.4])
    np.testing.assert_allclose(coarse[0], fine[0])
    # 1000 px of 0.1556 um are 972.5 px of 0.16: the pixel is a little off, the last window ends at the border
    odd = patch_centres((1000, 1000), voxel_um=(0.1556, 0.1556))
    assert odd[0][-1] + 80 * 155.6 / 972 == pytest.approx(155.6)
    assert analysis_shape((1000, 1000), voxel_um=(0.1556, 0.1556)) == (972, 972)


def test_foreground_shares_equal_a_plain_count_in_each_window() -> None:
    random = np.random.default_rng(3)
    counts = random.integers(13300, 13500, (500, 430)).astype(np.uint16)
    shares = foreground_shares(counts, medium_index=1.337, stride=100)
    rows, columns = window_grid(500, stride=100), window_grid(430, stride=100)
    for i, y in enumerate(rows):
        for j, x in enumerate(columns):
            window = counts[y : y + 160, x : x + 160]
            assert shares[i, j] == pytest.approx((window > 13424).mean(), abs=1e-7)


def test_a_window_without_a_measured_pixel_has_no_share() -> None:
    counts = np.full((160, 320), 13500, dtype=np.uint16)
    counts[:, 160:] = 0
    shares = foreground_shares(counts, medium_index=1.337)
    assert shares[0, 0] == 1.0
    assert np.isnan(shares[0, 1])


def test_medium_with_noise_is_background_and_one_cell_is_foreground() -> None:
    random = np.random.default_rng(4)
    index = random.normal(1.337, 3e-4, (320, 160))
    index[200:250, 40:90] += 0.025
    shares = foreground_shares(np.rint(index * 1e4).astype(np.uint16), medium_index=1.337)
    assert (shares[:, 0] > FOREGROUND_SHARE).tolist() == [False, True]


def test_each_pixel_of_the_map_has_the_state_of_its_window() -> None:
    probability = np.full((3, 3, 5), np.nan, np.float32)
    probability[0, 0] = [0.1, 0.6, 0.1, 0.1, 0.1]
    probability[2, 1] = [0.0, 0.0, 0.1, 0.1, 0.8]
    classes = class_map(probability, shape=(480, 480), voxel_um=(0.16, 0.16))
    assert classes.shape == (480, 480)
    assert (classes[:160, :160] == 2).all()
    assert (classes[320:, 160:320] == 5).all()
    assert (classes > 0).sum() == 2 * 160 * 160


def test_overlapping_windows_vote_with_their_mean_probability() -> None:
    grid = window_grid(240, stride=80)
    assert list(grid) == [0, 80]
    probability = np.full((2, 2, 5), np.nan, np.float32)
    probability[0, 0] = [0.9, 0.1, 0, 0, 0]
    probability[0, 1] = [0.2, 0.8, 0, 0, 0]
    classes = class_map(probability, shape=(240, 240), voxel_um=(0.16, 0.16), stride=80)
    assert (classes[:160, :80] == 1).all()
    assert (classes[:160, 80:160] == 1).all()  # 0.55 against 0.45
    assert (classes[:160, 160:] == 2).all()
    assert (classes[160:] == 0).all()


def test_the_map_keeps_the_size_of_a_field_of_other_pixels() -> None:
    probability = np.full((3, 3, 5), 0.2, np.float32)
    assert (class_map(probability, shape=(481, 477), voxel_um=(0.16256, 0.16256)) > 0).all()
