"""Cells as bodies of refractive index: the traits that one cell keeps all its life."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plates.simulation.death import Fate


@dataclass(frozen=True)
class CellLine:
    """Sizes (um) and indices (above the medium) of a cell line, as ranges of uniform draws.

    The default is HeLa-like: spread 30 to 60 um, 5 to 9 um high, 2 to 4 pl, cytoplasm 1.349 to 1.372,
    nucleus a little below it, nucleoli 1.371 to 1.389, lipid droplets up to 1.447, medium 1.337 (values of
    the holotomography literature, doi 10.1002/aisy.202500633; how they scatter between cells is a guess).
    `grain` (relative), `filaments` (relative) and `thread_width` (0 thin, 1 middle, 2 thick; both ends
    included) describe the cytoplasm, `compact` the share of living cells that are not fully spread.
    """

    name: str = "HeLa-like"
    medium_index: float = 1.337
    half_length_um: tuple[float, float] = (15.0, 29.0)
    half_width_um: tuple[float, float] = (7.0, 12.0)
    height_um: tuple[float, float] = (5.0, 9.0)
    volume_um3: tuple[float, float] = (2000.0, 3800.0)
    cytoplasm: tuple[float, float] = (0.011, 0.035)
    nucleus: tuple[float, float] = (0.011, 0.027)
    nucleolus: tuple[float, float] = (0.034, 0.052)
    droplet: tuple[float, float] = (0.040, 0.110)
    droplets: tuple[int, int] = (2, 45)
    droplet_um: tuple[float, float] = (0.15, 0.55)
    nucleus_um: tuple[tuple[float, float], tuple[float, float], tuple[float, float]] = (
        (6.0, 9.0),
        (4.2, 6.5),
        (2.4, 3.4),
    )
    grain: tuple[float, float] = (0.25, 0.9)
    filaments: tuple[float, float] = (1.0, 1.8)
    thread_width: tuple[int, int] = (0, 2)
    compact: float = 0.15
    mitotic_share: float = 0.04


A549 = CellLine(
    name="A549-like",
    medium_index=1.335,
    half_length_um=(19.0, 36.0),
    half_width_um=(13.0, 20.0),
    height_um=(3.2, 5.5),
    volume_um3=(2600.0, 5200.0),
    cytoplasm=(0.007, 0.020),
    nucleus=(0.006, 0.017),
    nucleolus=(0.022, 0.036),
    droplet=(0.045, 0.125),
    droplets=(40, 120),
    droplet_um=(0.25, 0.9),
    nucleus_um=((7.5, 11.0), (6.0, 8.5), (1.5, 2.3)),
    grain=(0.7, 1.6),
    filaments=(1.2, 1.8),
    thread_width=(2, 2),
    compact=0.05,
)
"""Flatter and larger, with lamellar bodies: many large bright droplets in a pale, coarse cytoplasm.

That A549 cells are flat, large and rich in lamellar bodies is known; the numbers are guesses.
"""

JURKAT = CellLine(
    name="Jurkat-like",
    half_length_um=(5.4, 7.2),
    half_width_um=(5.0, 6.4),
    height_um=(8.0, 11.0),
    volume_um3=(700.0, 1300.0),
    cytoplasm=(0.026, 0.046),
    nucleus=(0.024, 0.040),
    nucleolus=(0.040, 0.058),
    droplet=(0.040, 0.090),
    droplets=(0, 12),
    droplet_um=(0.15, 0.35),
    nucleus_um=((3.8, 5.0), (3.6, 4.6), (3.0, 4.2)),
    grain=(0.3, 0.9),
    filaments=(1.0, 1.2),
    thread_width=(0, 1),
    compact=0.6,
)
"""Lymphocytes that have settled on the glass: round, small, dense, almost filled by their nucleus.

A living one is round and bright, as a dying HeLa cell is. That lymphocytes measure 10 to 14 um and that their nucleus
fills most of them is known; how their textures compare with HeLa's is a guess.
"""

CELL_LINES = {line.name: line for line in (CellLine(), A549, JURKAT)}
"""The lines that can be simulated, by name."""


@dataclass(frozen=True)
class Culture:
    """What the cells of one well share: factors on their own traits, 1 being the line's average.

    Passage, serum, temperature and dispensing differ from well to well. That they do is known, by how
    much is a guess.
    """

    index: float = 1.0
    grain: float = 1.0
    filaments: float = 1.0
    droplets: float = 1.0
    compact: float = 1.0


def draw_culture(rng: np.random.Generator) -> Culture:
    """Draw what one well's cells share."""
    index, grain, filaments, droplets, compact = np.exp(rng.normal(0, 1, 5) * (0.08, 0.2, 0.1, 0.4, 0.5))
    return Culture(float(index), float(grain), float(filaments), float(droplets), float(compact))


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
    thread_width: int
    grain: float
    spread: float  # while it lives; 1: flat
    pinosomes: int
    vigour: float  # how strongly the index answers to a death, 0 to 1
    mitotic: bool
    drift: tuple[float, float]  # um per hour


def make_cell(
    rng: np.random.Generator,
    *,
    y: float,
    x: float,
    fate: Fate,
    line: CellLine,
    born_h: float = -np.inf,
    culture: Culture | None = None,
) -> Cell:
    """Draw the traits of one cell; without a culture it is of the line's average."""
    shared = culture or Culture()
    half_length, half_width = rng.uniform(*line.half_length_um), rng.uniform(*line.half_width_um)
    orders = np.arange(2, 7)
    # low orders are the strongest: an irregular outline without jags
    outline = np.column_stack([orders, rng.normal(0, 0.22, 5) / (orders - 0.6), rng.uniform(0, 2 * np.pi, 5)])
    along, across, up = (rng.uniform(*span) for span in line.nucleus_um)
    nucleus = (along, across, up)
    # a cell's own concentration scales its cytoplasm and its nucleus alike
    cytoplasm = rng.uniform(*line.cytoplasm)
    share = (cytoplasm - line.cytoplasm[0]) / (line.cytoplasm[1] - line.cytoplasm[0])
    nucleus_share = np.clip(share + rng.normal(0, 0.15), 0, 1)
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
        cytoplasm=cytoplasm * shared.index,
        nucleus_index=(line.nucleus[0] + nucleus_share * (line.nucleus[1] - line.nucleus[0])) * shared.index,
        nucleus_axes=nucleus,
        nucleus_offset=(rng.normal(0, 0.15) * half_length, rng.normal(0, 0.1) * half_width),
        nucleoli=_draw_nucleoli(rng, nucleus, line),
        droplets=_draw_droplets(rng, line, shared.droplets),
        filaments=float(np.exp(rng.uniform(*np.log(line.filaments)))) * shared.filaments,
        thread_width=int(rng.integers(*line.thread_width, endpoint=True)),
        grain=float(np.exp(rng.uniform(*np.log(line.grain)))) * shared.grain,
        spread=rng.uniform(0.5, 0.85) if rng.random() < line.compact * shared.compact else rng.uniform(0.88, 1.0),
        pinosomes=int(min(rng.poisson(np.exp(rng.normal(1.2, 0.6))), 12)),
        vigour=rng.random(),
        mitotic=bool(rng.random() < line.mitotic_share * shared.compact),
        drift=(rng.normal(0, 0.25), rng.normal(0, 0.25)),
    )


def _draw_nucleoli(
    rng: np.random.Generator, nucleus: tuple[float, float, float], line: CellLine
) -> NDArray[np.float64]:
    count = int(rng.integers(2, 5))
    along, across = rng.uniform(-0.55, 0.55, (2, count))
    radius, index = rng.uniform(0.6, 1.5, count), rng.uniform(*line.nucleolus, count)
    return np.column_stack([along * nucleus[0], across * nucleus[1], radius, index])


def _draw_droplets(rng: np.random.Generator, line: CellLine, richness: float) -> NDArray[np.float64]:
    """Lipid droplets sit in a few clusters beside the nucleus; places are shares of the half axes."""
    count = round(rng.integers(*line.droplets, endpoint=True) * richness)
    centres = rng.uniform(-0.65, 0.65, (int(rng.integers(1, 5)), 2))
    chosen = centres[rng.integers(len(centres), size=count)]
    places = np.clip(chosen + rng.normal(0, 0.12, (count, 2)), -0.85, 0.85)
    radius = rng.uniform(*line.droplet_um, count)
    return np.column_stack([places, rng.uniform(0.25, 0.75, count), radius, rng.uniform(*line.droplet, count)])
