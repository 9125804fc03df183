"""What the simulated microscope does to an object whose shape is known."""

import numpy as np
import pytest
import scipy.fft
from numpy.typing import NDArray

from plates.simulation.optics import Optics, add_background, image, transfer_function

VOXEL = (0.874, 0.16256, 0.16256)
OPTICS = Optics()


def full_width(profile: NDArray[np.float32], pitch: float) -> float:
    """Width at half height by linear interpolation, in um."""
    half, peak = profile.max() / 2, int(profile.argmax())
    right = next(i for i in range(peak, len(profile)) if profile[i] < half)
    left = next(i for i in range(peak, -1, -1) if profile[i] < half)
    right_at = right - (half - profile[right]) / (profile[right - 1] - profile[right])
    left_at = left + (half - profile[left]) / (profile[left + 1] - profile[left])
    return float((right_at - left_at) * pitch)


def test_a_point_is_blurred_several_times_more_along_z_than_across() -> None:
    contrast = np.zeros((64, 128, 128), np.float32)
    contrast[32, 64, 64] = 1
    transfer = transfer_function(contrast.shape, (VOXEL[0] / 2, *VOXEL[1:]), 1.337, OPTICS)
    seen = scipy.fft.irfftn(scipy.fft.rfftn(contrast) * transfer, s=contrast.shape)
    lateral, axial = full_width(seen[32, 64], VOXEL[1]), full_width(seen[:, 64, 64], VOXEL[0] / 2)
    assert 0.1 < lateral < 0.45
    assert 2.5 < axial / lateral < 9


def test_nothing_is_seen_beyond_the_apertures() -> None:
    shape, pitch = (64, 128, 128), (0.2, 0.1, 0.1)
    transfer = transfer_function(shape, pitch, 1.337, OPTICS)
    lateral = np.hypot(np.fft.fftfreq(128, 0.1)[:, None], np.fft.rfftfreq(128, 0.1)[None])
    cutoff = (OPTICS.na_objective + OPTICS.na_condenser) / OPTICS.wavelength_um
    assert transfer[0][lateral < 0.6 * cutoff].max() == pytest.approx(1, abs=0.02)
    assert transfer[:, lateral > 1.1 * cutoff].max() < 0.01
    # the missing cone: along kz, near the axis, little passes at the axial frequencies that others show
    axial = np.abs(np.fft.fftfreq(64, 0.2))
    in_cone = transfer[(axial > 0.5) & (axial < 0.8)][:, lateral < 0.2].max()
    beside = transfer[(axial > 0.5) & (axial < 0.8)][:, (lateral > 1.5) & (lateral < 2.5)].max()
    assert in_cone < 0.1 < 0.8 < beside


def test_every_second_plane_is_kept_without_changing_the_object_s_mean() -> None:
    rng = np.random.default_rng(0)
    contrast = rng.random((32, 48, 48)).astype(np.float32) * 0.02
    kind = Optics(negative_leak=1.0)
    seen = image(contrast, voxel_um=VOXEL, medium_index=1.337, optics=kind)
    full = scipy.fft.irfftn(
        scipy.fft.rfftn(contrast) * transfer_function((32, 48, 48), (VOXEL[0] / 2, *VOXEL[1:]), 1.337, kind),
        s=contrast.shape,
    )
    assert seen.shape == (16, 48, 48)
    assert np.allclose(seen, full[::2], atol=1e-6)


def test_the_background_has_the_stated_spread_and_follows_its_seed() -> None:
    empty = np.zeros((12, 128, 128), np.float32)
    first, second = empty.copy(), empty.copy()
    for target in (first, second):
        add_background(target, rng=np.random.default_rng(5), voxel_um=VOXEL, optics=OPTICS)
    assert np.array_equal(first, second)
    expected = np.hypot(OPTICS.noise, OPTICS.fringes)
    assert first.std() == pytest.approx(expected, rel=0.25)
