"""What the microscope makes of a cell: a missing cone, a blur that is worse along z, fringes and noise."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Volume = NDArray[np.float32]


@dataclass(frozen=True)
class Optics:
    """The microscope, in micrometres and refractive-index units.

    Objective and condenser apertures are those of an HT-X1 type instrument (0.95 and 0.72 at 450 nm).
    `cone_fill` is a guess: it stands for what the instrument's regularised reconstruction puts back into
    the missing cone; without it, flat living cells would show their rims only. `noise` and `fringes` are
    standard deviations of the white noise and of the coherent-like background.
    """

    na_objective: float = 0.95
    na_condenser: float = 0.72
    wavelength_um: float = 0.45
    cone_fill: float = 0.45
    noise: float = 2e-4
    fringes: float = 4e-4
    negative_leak: float = 0.25


def image(contrast: Volume, *, voxel_um: tuple[float, float, float], medium_index: float, optics: Optics) -> Volume:
    """See an object through the microscope; every second plane is kept.

    Parameters
    ----------
    contrast
        (2z, y, x) refractive index above the medium, on a z grid twice as fine as is stored: the axial
        support reaches 0.9 per um and would alias on the stored one.
    voxel_um
        Stored voxel (z, y, x).

    Returns
    -------
    Volume
        (z, y, x) index above the medium, without noise.
    """
    planes = contrast.shape[0]
    fine = (voxel_um[0] / 2, voxel_um[1], voxel_um[2])
    transfer = transfer_function(contrast.shape, fine, medium_index, optics)
    spectrum = scipy.fft.rfftn(contrast)
    spectrum *= transfer
    # Folding the spectrum along kz is exactly the subsampling of every second plane, at half the cost.
    folded = spectrum[: planes // 2] + spectrum[planes // 2 :]
    seen: Volume = scipy.fft.irfftn(folded, s=(planes // 2, *contrast.shape[1:]))
    seen *= np.float32(0.5)
    # Reconstructions are regularised against indices below the medium; a part of them always stays.
    np.multiply(seen, np.float32(optics.negative_leak), out=seen, where=seen < 0)
    return seen


def add_background(
    seen: Volume, *, rng: np.random.Generator, voxel_um: tuple[float, float, float], optics: Optics
) -> None:
    """Add fringes, a slow tilt and white noise in place."""
    planes, height, width = seen.shape
    fringes = _fringe_plane(rng, height, width, voxel_um[1])
    # the coherent background changes slowly with z: two planes mixed over the depth
    second = _fringe_plane(rng, height, width, voxel_um[1])
    mix = np.linspace(0, np.pi / 2, planes, dtype=np.float32)
    tilt = rng.normal(0, 1e-4, 2).astype(np.float32)
    slope = (
        tilt[0] * np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        + tilt[1] * np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    )
    for plane in range(planes):
        seen[plane] += np.float32(optics.fringes) * (np.cos(mix[plane]) * fringes + np.sin(mix[plane]) * second) + slope
    seen += np.float32(optics.noise) * rng.standard_normal(seen.shape, dtype=np.float32)


@lru_cache(maxsize=4)
def transfer_function(
    shape: tuple[int, ...], voxel_um: tuple[float, float, float], medium_index: float, optics: Optics
) -> Volume:
    """Weight of every spatial frequency, (kz, ky, kx >= 0) in the order of `scipy.fft.rfftn`.

    An object's frequency is seen where it equals k_out - k_in, with k_out on the Ewald cap of the
    objective and k_in on that of the condenser, both of radius n / wavelength (Wolf 1969, Opt. Commun. 1,
    153). The support is built by sampling pairs of directions; a real object mirrors it. Frequencies
    that many pairs reach are fully seen, rare ones fade out.
    """
    outgoing = _cap(optics.na_objective, medium_index, optics.wavelength_um, rings=48)
    incoming = _cap(optics.na_condenser, medium_index, optics.wavelength_um, rings=14)
    steps = [1 / (size * pitch) for size, pitch in zip(shape, voxel_um, strict=True)]
    density = np.zeros(shape, dtype=np.float32)
    for k_in in incoming:
        index = [np.rint((outgoing[:, axis] - k_in[axis]) / steps[axis]).astype(np.int64) for axis in range(3)]
        inside = np.ones(len(outgoing), dtype=bool)
        for axis in range(3):
            inside &= np.abs(index[axis]) < shape[axis] // 2
        np.add.at(density, tuple(part[inside] % shape[axis] for axis, part in enumerate(index)), 1)
    density += np.roll(density[::-1, ::-1, ::-1], 1, axis=(0, 1, 2))
    # A Gaussian of one to two bins closes the gaps between sampled directions.
    density = _smooth_periodic(density, sigma=(0.8, 2.0, 2.0))
    level = np.quantile(density[density > 1e-3 * density.max()], 0.25)
    weight = 1 - np.exp(-density / level)
    lateral = np.hypot(
        scipy.fft.fftfreq(shape[1], voxel_um[1])[:, None], scipy.fft.fftfreq(shape[2], voxel_um[2])[None, :]
    )
    axial = np.abs(scipy.fft.fftfreq(shape[0], voxel_um[0]))[:, None, None]
    cutoff = (optics.na_objective + optics.na_condenser) / optics.wavelength_um
    # the filled cone: strong at low frequencies, gone at the optical limits
    fill = optics.cone_fill * np.exp(-((axial / 0.25) ** 2)) * np.exp(-((lateral[None] / (0.5 * cutoff)) ** 2))
    weight = np.maximum(weight, fill)
    weight[0, 0, 0] = 1
    half: Volume = np.ascontiguousarray(weight[:, :, : shape[2] // 2 + 1], dtype=np.float32)
    half.setflags(write=False)
    return half


def _cap(aperture: float, index: float, wavelength_um: float, *, rings: int) -> NDArray[np.float64]:
    """Directions that an aperture lets pass, as wave vectors (z, y, x) per um; even in projected area."""
    radius = np.sqrt((np.arange(rings) + 0.5) / rings) * aperture / wavelength_um
    angles = 2 * np.pi * np.arange(3 * rings) / (3 * rings)
    ky, kx = np.outer(radius, np.sin(angles)).ravel(), np.outer(radius, np.cos(angles)).ravel()
    kz = np.sqrt((index / wavelength_um) ** 2 - kx**2 - ky**2)
    return np.stack([kz, ky, kx], axis=1)


def _smooth_periodic(values: Volume, *, sigma: tuple[float, float, float]) -> Volume:
    spectrum = scipy.fft.rfftn(values)
    for axis, width in enumerate(sigma):
        size = values.shape[axis]
        frequency = scipy.fft.rfftfreq(size) if axis == 2 else scipy.fft.fftfreq(size)
        shape = [1, 1, 1]
        shape[axis] = len(frequency)
        spectrum *= np.exp(-2 * (np.pi * width * frequency) ** 2).reshape(shape).astype(np.float32)
    smooth: Volume = scipy.fft.irfftn(spectrum, s=values.shape)
    return np.maximum(smooth, 0)


def _fringe_plane(rng: np.random.Generator, height: int, width: int, pitch_um: float) -> Volume:
    """Band-limited noise (periods of 1.5 to 8 um) of unit standard deviation."""
    frequency = np.hypot(scipy.fft.fftfreq(height, pitch_um)[:, None], scipy.fft.rfftfreq(width, pitch_um)[None, :])
    band = (np.exp(-((frequency / 0.45) ** 2)) * (1 - np.exp(-((frequency / 0.12) ** 2)))).astype(np.float32)
    spectrum = scipy.fft.rfft2(rng.standard_normal((height, width), dtype=np.float32)) * band
    plane: Volume = scipy.fft.irfft2(spectrum, s=(height, width)).astype(np.float32)
    plane /= plane.std()
    return plane
