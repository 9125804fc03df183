"""Cells as bodies of refractive index: the traits that one cell keeps all its life."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plates.simulation.death import Fate


@dataclass(frozen=True)
class CellLine:
    """Sizes (um) and indices (above the medium) of a cell line, as ranges of uniform draws.

    The default is HeLa-like: spread 30 to 60 um, 5 to 9 um high, 2 to 4 pl, cytoplasm 1.351 to 1.370,
    nucleus a little below it, nucleoli 1.373 to 1.387, lipid droplets up to 1.447, medium 1.337 (values of
    the holotomography literature, doi 10.1002/aisy.202500633; how they scatter between cells is a guess).
    """

    name: str = "HeLa-like"
    medium_index: float = 1.337
    half_length_um: tuple[float, float] = (15.0, 29.0)
    half_width_um: tuple[float, float] = (7.0, 12.0)
    height_um: tuple[float, float] = (5.0, 9.0)
    volume_um3: tuple[float, float] = (2000.0, 3800.0)
    cytoplasm: tuple[float, float] = (0.014, 0.033)
    nucleus: tuple[float, float] = (0.013, 0.026)
    nucleolus: tuple[float, float] = (0.036, 0.050)
    droplet: tuple[float, float] = (0.055, 0.110)
    droplets: tuple[int, int] = (5, 40)
    mitotic_share: float = 0.03


@dataclass(frozen=True)
class Cell:
    """One cell's traits; lengths in um, indices above the medium, angles in radians."""

    y: float
    x: float
    born_h: float
    fate: Fate
    seed: int
    half_length: float
    half_width: float
    angle: float
    height: float
    volume: float
    outline: NDArray[np.float64]  # (wave, [order, amplitude, phase])
    cytoplasm: float
    nucleus_index: float
    nucleus_axes: tuple[float, float, float]  # half axes along, across, up
    nucleus_offset: tuple[float, float]  # along, across
    nucleoli: NDArray[np.float64]  # (n, [along, across, radius, index])
    droplets: NDArray[np.float64]  # (n, [along, across, height share, radius, index])
    filaments: float
    mitotic: bool
    drift: tuple[float, float]  # um per hour


def make_cell(
    rng: np.random.Generator, *, y: float, x: float, fate: Fate, line: CellLine, born_h: float = -np.inf
) -> Cell:
    """Draw the traits of one cell."""
    half_length, half_width = rng.uniform(*line.half_length_um), rng.uniform(*line.half_width_um)
    orders = np.arange(2, 7)
    # low orders are the strongest: an irregular outline without jags
    outline = np.column_stack([orders, rng.normal(0, 0.22, 5) / (orders - 0.6), rng.uniform(0, 2 * np.pi, 5)])
    nucleus = (rng.uniform(6, 9), rng.uniform(4.2, 6.5), rng.uniform(2.4, 3.4))
    return Cell(
        y=y,
        x=x,
        born_h=born_h,
        fate=fate,
        seed=int(rng.integers(2**31)),
        half_length=half_length,
        half_width=half_width,
        angle=rng.uniform(0, np.pi),
        height=rng.uniform(*line.height_um),
        volume=rng.uniform(*line.volume_um3),
        outline=outline,
        cytoplasm=rng.uniform(*line.cytoplasm),
        nucleus_index=rng.uniform(*line.nucleus),
        nucleus_axes=nucleus,
        nucleus_offset=(rng.normal(0, 0.15) * half_length, rng.normal(0, 0.1) * half_width),
        nucleoli=_draw_nucleoli(rng, nucleus, line),
        droplets=_draw_droplets(rng, line),
        filaments=rng.uniform(0.6, 1.3),
        mitotic=bool(rng.random() < line.mitotic_share),
        drift=(rng.normal(0, 0.25), rng.normal(0, 0.25)),
    )


def _draw_nucleoli(
    rng: np.random.Generator, nucleus: tuple[float, float, float], line: CellLine
) -> NDArray[np.float64]:
    count = int(rng.integers(2, 5))
    along, across = rng.uniform(-0.55, 0.55, (2, count))
    radius, index = rng.uniform(0.6, 1.5, count), rng.uniform(*line.nucleolus, count)
    return np.column_stack([along * nucleus[0], across * nucleus[1], radius, index])


def _draw_droplets(rng: np.random.Generator, line: CellLine) -> NDArray[np.float64]:
    """Lipid droplets sit in a few clusters beside the nucleus; places are shares of the half axes."""
    count = int(rng.integers(*line.droplets, endpoint=True))
    centres = rng.uniform(-0.65, 0.65, (int(rng.integers(1, 5)), 2))
    chosen = centres[rng.integers(len(centres), size=count)]
    places = np.clip(chosen + rng.normal(0, 0.12, (count, 2)), -0.85, 0.85)
    radius = rng.uniform(0.15, 0.5, count)
    return np.column_stack([places, rng.uniform(0.2, 0.7, count), radius, rng.uniform(*line.droplet, count)])
