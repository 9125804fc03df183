"""Stains that tell the truth to a person: Hoechst, annexin V and PI on the fluorescence camera's own grid."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from plates.simulation.acquisition import FluorescenceFrames, Registration
from plates.simulation.cells import Cell
from plates.simulation.design import PlateDesign
from plates.simulation.looks import look
from plates.states import DEAD

VOXEL_UM = (1.043, 0.1215, 0.1215)
PLANES = 12
CHANNELS: dict[str, tuple[str, float, float, tuple[int, int, int], type[np.uint8 | np.uint16]]] = {
    "CH0": ("Hoechst", 0.385, 0.43, (0, 0, 255), np.uint8),
    "CH1": ("annexin V", 0.488, 0.525, (0, 255, 0), np.uint16),
    "CH2": ("PI", 0.561, 0.63, (255, 0, 0), np.uint16),
}
BLEED_THROUGH = 0.03  # of each channel into its neighbour
FULL_SCALE = {"CH0": 160.0, "CH1": 3000.0, "CH2": 3000.0}
BACKGROUND = {"CH0": 8.0, "CH1": 180.0, "CH2": 150.0}


def registration(design: PlateDesign, key: tuple[int, int]) -> Registration:
    """How a field's fluorescence lies: turned by up to 3 degrees, scaled by 0.88 to 1, shifted."""
    rng = np.random.default_rng([design.seed, *key, 55])
    shift = tuple(float(value) for value in rng.normal(0, 1.5, 2))
    return Registration(
        rotation_rad=float(np.deg2rad(rng.uniform(-3, 3))),
        scale=float(rng.uniform(0.88, 1.0)),
        translation_um=(shift[0], shift[1]),
    )


def fluorescence_frames(
    cells: Sequence[Cell], design: PlateDesign, key: tuple[int, int]
) -> dict[str, FluorescenceFrames]:
    """Return the three channels of a field, their frames drawn when asked for."""
    return {
        channel: FluorescenceFrames(
            frames=_frames(cells, design, key, channel),
            voxel_um=VOXEL_UM,
            times_s=[3600.0 * (hour - design.hours[0]) for hour in design.hours],
            offset_z_um=1.0,
            excitation_um=excitation,
            emission_um=emission,
            colour=colour,
        )
        for channel, (_, excitation, emission, colour, _) in CHANNELS.items()
    }


def _frames(
    cells: Sequence[Cell], design: PlateDesign, key: tuple[int, int], channel: str
) -> Iterator[NDArray[np.uint8] | NDArray[np.uint16]]:
    names = list(CHANNELS)
    dtype = CHANNELS[channel][-1]
    size = [round(n * p / VOXEL_UM[1]) for n, p in zip(design.shape[1:], design.voxel_um[1:], strict=True)]
    heights = np.arange(PLANES) * VOXEL_UM[0]
    profile = np.exp(-(((heights - 4.0) / 3.0) ** 2))
    for number, hour in enumerate(design.hours):
        planes = _planes(cells, design, key, hour, (size[0], size[1]))
        own = names.index(channel)
        signal = planes[own].copy()
        for neighbour in (own - 1, own + 1):
            if 0 <= neighbour < len(names):
                signal += BLEED_THROUGH * planes[neighbour]
        rng = np.random.default_rng([design.seed, *key, 300 + number, own])
        stack = profile[:, None, None] * signal[None] * FULL_SCALE[channel] + BACKGROUND[channel]
        noisy = rng.poisson(stack) + rng.normal(0, 2.0, stack.shape)
        yield np.clip(np.rint(noisy), 0, np.iinfo(dtype).max).astype(dtype)


def _planes(
    cells: Sequence[Cell], design: PlateDesign, key: tuple[int, int], hours: float, size: tuple[int, int]
) -> NDArray[np.float64]:
    """Light of the three stains in focus, (channel, y, x); 1 is a bright healthy nucleus or a full rim."""
    moved = registration(design, key)
    cos, sin = np.cos(moved.rotation_rad), np.sin(moved.rotation_rad)
    centre = np.array([n * p / 2 for n, p in zip(design.shape[1:], design.voxel_um[1:], strict=True)])
    light = np.zeros((3, *size))
    for cell in cells:
        if not cell.born_h <= hours < cell.fate.detach_h:
            continue
        state, seen = look(cell, hours)
        body = np.array([cell.y + cell.drift[0] * hours, cell.x + cell.drift[1] * hours])
        # the nucleus lies beside the cell's middle, as it is drawn in the tomogram
        along, across = (offset * seen.spread for offset in cell.nucleus_offset)
        sin_cell, cos_cell = np.sin(cell.angle), np.cos(cell.angle)
        nucleus = body + np.array([along * sin_cell + across * cos_cell, along * cos_cell - across * sin_cell])
        (y, x), (rim_y, rim_x) = (
            moved.scale * np.array([cos * p[0] - sin * p[1], sin * p[0] + cos * p[1]])
            + centre
            + (moved.translation_um[1], moved.translation_um[0])
            for p in (nucleus - centre, body - centre)
        )
        radius = moved.scale * seen.nucleus_size * np.sqrt(cell.nucleus_axes[0] * cell.nucleus_axes[1])
        condensed = 1 + 1.5 * seen.fragments
        light[0] += 0.6 * condensed * _disc(size, y, x, radius)
        if state in DEAD and hours >= cell.fate.annexin_h:
            rim = moved.scale * (3 * cell.volume * seen.volume / (4 * np.pi)) ** (1 / 3)
            light[1] += 0.7 * _ring(size, rim_y, rim_x, rim)
        if state in DEAD and hours >= cell.fate.pi_h:
            light[2] += 0.9 * _disc(size, y, x, radius)
    return np.clip(light, 0, 1.5)


def _distance(size: tuple[int, int], y: float, x: float) -> NDArray[np.float64]:
    rows = np.arange(size[0])[:, None] * VOXEL_UM[1] - y
    columns = np.arange(size[1])[None, :] * VOXEL_UM[2] - x
    distance: NDArray[np.float64] = np.hypot(rows, columns)
    return distance


def _disc(size: tuple[int, int], y: float, x: float, radius: float) -> NDArray[np.float64]:
    return 1 / (1 + np.exp((_distance(size, y, x) - radius) / 0.4))


def _ring(size: tuple[int, int], y: float, x: float, radius: float) -> NDArray[np.float64]:
    ring: NDArray[np.float64] = np.exp(-(((_distance(size, y, x) - radius) / 0.9) ** 2))
    return ring
