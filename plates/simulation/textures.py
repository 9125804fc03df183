"""What cytoplasm looks like close up: threads, rings, patches and grains, as periodic textures."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Volume = NDArray[np.float32]

TEXTURE_PX = 512


@dataclass(frozen=True)
class Textures:
    """Periodic textures, drawn at 0.16 um a pixel."""

    threads: tuple[Plane, ...]  # long mitochondria and fibres, thin to thick; 0 to 1
    rings: tuple[Plane, ...]  # the same amount of them as rings and curls; 0 to 1
    patches: Plane  # smooth noise of unit spread
    grains: Volume  # unit noise per plane


@lru_cache(maxsize=1)
def textures() -> Textures:
    """Draw the textures once: mitochondria 0.3 to 0.6 um wide, grains of 0.4 to 1 um.

    Mitochondria of a stressed cell break up and close to rings of 1 to 2 um (Liu and Hajnoczky 2011, Cell
    Death Differ. 18, 1561; Ahmad et al. 2013, Cell Death Dis. 4, e461). Rings have the histogram of the
    threads of their width: only the form differs.
    """
    rng = np.random.default_rng(20260)
    size = TEXTURE_PX
    frequency = np.hypot(scipy.fft.fftfreq(size)[:, None], scipy.fft.rfftfreq(size)[None, :])

    def noise(low: float, high: float) -> Plane:
        band = np.exp(-((frequency / high) ** 2)) * (1 - np.exp(-((frequency / low) ** 2)))
        plane = scipy.fft.irfft2(scipy.fft.rfft2(rng.standard_normal((size, size))) * band, s=(size, size))
        unit: Plane = (plane / plane.std()).astype(np.float32)
        return unit

    threads, rings = [], []
    for finest, width_px in ((0.070, 1.1), (0.054, 1.35), (0.041, 1.65)):
        ridges = np.exp(-((noise(0.37 * finest, finest) / 0.25) ** 2))
        ridges = (ridges * np.clip(noise(0.004, 0.012) + 1.2, 0, 1)).astype(np.float32)
        curls = _draw_rings(rng, width_px) * np.clip(noise(0.004, 0.012) + 1.2, 0, 1)
        same = np.empty(size * size, np.float32)
        same[np.argsort(curls, axis=None)] = np.sort(ridges, axis=None)
        threads.append(ridges)
        rings.append(same.reshape(size, size))
    layers = np.stack([noise(0.02, 0.12) for _ in range(16)])
    # neighbouring planes share a part, so that grains are round in z as well
    grains = (layers + 0.7 * np.roll(layers, 1, axis=0)) / np.hypot(1, 0.7)
    return Textures(tuple(threads), tuple(rings), noise(0.01, 0.03), grains.astype(np.float32))


def _draw_rings(rng: np.random.Generator, width_px: float) -> Plane:
    """Rings and curls at random places of a periodic plane; `width_px` is the half width of their tube."""
    plane = rng.random((TEXTURE_PX, TEXTURE_PX)).astype(np.float32) * np.float32(1e-3)
    axis = np.arange(-16, 17, dtype=np.float32)
    for y, x, radius, squeeze, angle, opening, strength in rng.uniform(
        (0, 0, 2.1 * width_px, 0.7, 0, -0.6, 0.7),
        (TEXTURE_PX, TEXTURE_PX, 3.7 * width_px, 1, np.pi, 0.5, 1),
        (round(1250 / width_px), 7),
    ):
        dy, dx = axis[:, None] - np.float32(y % 1), axis[None, :] - np.float32(x % 1)
        along = dx * np.float32(np.cos(angle)) + dy * np.float32(np.sin(angle))
        across = (dy * np.float32(np.cos(angle)) - dx * np.float32(np.sin(angle))) / np.float32(squeeze)
        tube = np.exp(-(((np.hypot(along, across) - np.float32(radius)) / np.float32(width_px)) ** 2))
        # about half of them are open: curls, not rings
        tube *= np.clip((np.cos(np.arctan2(across, along)) + 1 - opening) * 3, 0, 1)
        rows, columns = (int(y) + axis.astype(int)) % TEXTURE_PX, (int(x) + axis.astype(int)) % TEXTURE_PX
        part = plane[rows[:, None], columns[None, :]]
        plane[rows[:, None], columns[None, :]] = np.maximum(part, np.float32(strength) * tube)
    return plane


def shifted(texture: Plane, at: tuple[int, ...], shape: tuple[int, ...]) -> Plane:
    """A window of a periodic texture, from any place and of any size."""
    rows = (np.arange(shape[0]) + at[0]) % TEXTURE_PX
    columns = (np.arange(shape[1]) + at[1]) % TEXTURE_PX
    return texture[rows[:, None], columns[None, :]]
