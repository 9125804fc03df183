"""Drawing cells into a volume of refractive index: bodies as height maps, what is inside as ellipsoids."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from plates.simulation.cells import Cell
from plates.simulation.looks import Look, look
from plates.states import DEAD, STATES

Plane = NDArray[np.float32]
Volume = NDArray[np.float32]

FLOOR_UM = 1.5  # height of the coverslip above the lower end of the volume
EDGE_UM = 0.35  # width over which a body's edge fades, so that it does not staircase on the grid
TEXTURE_PX = 512


def draw_field(
    cells: Iterable[Cell],
    *,
    hours: float,
    shape: tuple[int, int, int],
    voxel_um: tuple[float, float, float],
    rng: np.random.Generator,
) -> tuple[Volume, NDArray[np.uint8]]:
    """Draw all cells of a field at one time.

    Parameters
    ----------
    shape, voxel_um
        Of the grid drawn on, (z, y, x); z goes up from below the coverslip.

    Returns
    -------
    contrast
        Refractive index above the medium.
    states
        (y, x) footprint of the cells: 0 outside, 1 to 5 for the states in their fixed order.
    """
    canvas = _Canvas(shape, voxel_um, rng)
    # The dead lie above the living where they meet: they are thicker.
    for cell in sorted(cells, key=lambda cell: hours >= cell.fate.onset_h):
        if cell.born_h <= hours < cell.fate.detach_h:
            _draw_cell(canvas, cell, hours)
    _draw_debris(canvas, rng)
    return canvas.render(), canvas.states


@dataclass(frozen=True)
class _Frame:
    """Where a cell is and how far it reaches; turns places inside the cell into places in the field."""

    y: float
    x: float
    angle: float
    half_length: float
    half_width: float
    top: float

    @property
    def middle(self) -> float:
        return (FLOOR_UM + self.top) / 2

    def at(self, along: float, across: float) -> tuple[float, float]:
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return self.y + along * sin + across * cos, self.x + along * cos - across * sin


def _draw_cell(canvas: "_Canvas", cell: Cell, hours: float) -> None:
    state, seen = look(cell, hours)
    alive = state not in DEAD
    mitotic = cell.mitotic and alive
    spread = 0.08 if mitotic else seen.spread
    radius = (3 * cell.volume * seen.volume / (4 * np.pi)) ** (1 / 3)
    frame = _Frame(
        cell.y + cell.drift[0] * hours,
        cell.x + cell.drift[1] * hours,
        cell.angle,
        radius + spread * (cell.half_length - radius),
        radius + spread * (cell.half_width - radius),
        FLOOR_UM + spread * cell.height + (1 - spread) * 1.7 * radius,
    )
    number = STATES.index(state) + 1
    _draw_body(canvas, cell, seen, frame, radius, spread, number)
    # what moves from frame to frame, and what stays with the cell
    moving = np.random.default_rng((cell.seed, round(hours * 3600)))
    staying = np.random.default_rng((cell.seed, 7))
    if mitotic:
        y, x = frame.at(0, 0)
        canvas.ball(y, x, frame.middle, (4.5, 1.5, 3.5), cell.cytoplasm + 0.014, cell.angle)
    else:
        _draw_nucleus(canvas, cell, seen, frame, staying)
    for along, across, share, size, index in cell.droplets:
        y, x = frame.at(along * frame.half_length, across * frame.half_width)
        canvas.ball(y, x, FLOOR_UM + share * (frame.top - FLOOR_UM), (size, size, size), index)
    _draw_vacuoles(canvas, seen, frame, staying)
    _draw_granules(canvas, cell, seen, frame, staying)
    _draw_blebs(canvas, cell, seen, frame, moving)
    _draw_apoptotic_bodies(canvas, cell, seen, frame, staying, number)
    _draw_balloon(canvas, seen, frame, staying, number)


def _draw_body(
    canvas: "_Canvas", cell: Cell, seen: Look, frame: _Frame, radius: float, spread: float, number: int
) -> None:
    """Outline, height and cytoplasm; a pixel belongs to the thickest cell above it."""
    reach = 1.35 * max(frame.half_length, frame.half_width)
    box = canvas.box(frame.y, frame.x, reach)
    if box is None:
        return
    rows, columns, dy, dx = box
    cos, sin = np.float32(np.cos(frame.angle)), np.float32(np.sin(frame.angle))
    along, across = dx * cos + dy * sin, dy * cos - dx * sin
    bearing = np.arctan2(across / frame.half_width, along / frame.half_length)
    outline = np.ones_like(bearing)
    for order, amplitude, phase in cell.outline:
        strength = amplitude * spread * seen.ragged + 0.15 * amplitude * (1 - spread)
        outline += np.float32(strength) * np.cos(np.float32(order) * bearing + np.float32(phase))
    distance = np.hypot(along / frame.half_length, across / frame.half_width) / np.maximum(outline, 0.45)
    inside = np.clip(1 - distance**2, 0, 1)
    hill = np.exp(
        -(
            ((along - cell.nucleus_offset[0]) / (2.0 * cell.nucleus_axes[0])) ** 2
            + ((across - cell.nucleus_offset[1]) / (2.0 * cell.nucleus_axes[1])) ** 2
        )
    ).astype(np.float32)
    # a lamella of 1 to 2 um that thins out towards the rim, and the rise over the nucleus
    lamella = np.float32(1.9) * np.sqrt(inside)
    flat = lamella + np.float32(cell.height - 1.9) * hill * np.sqrt(inside)
    ball = np.float32(1.7 * radius) * np.sqrt(inside)
    height = np.float32(spread) * flat + np.float32(1 - spread) * ball
    lift = np.float32((1 - spread) * 0.5) * (np.float32(1.7 * radius) - ball)
    index = cell.cytoplasm * seen.dilute + seen.shift
    canvas.lay(rows, columns, FLOOR_UM + lift, height, index, seen, cell.filaments, number)


def _draw_nucleus(canvas: "_Canvas", cell: Cell, seen: Look, frame: _Frame, rng: np.random.Generator) -> None:
    along, across, up = (axis * seen.nucleus_size for axis in cell.nucleus_axes)
    stretch = min(1.0, 0.8 * frame.half_width / across)  # a nucleus stays inside its cell
    along, across = along * stretch, across * stretch
    up = min(up, 0.45 * (frame.top - FLOOR_UM))
    centre = (cell.nucleus_offset[0] * seen.spread, cell.nucleus_offset[1] * seen.spread)
    y, x = frame.at(*centre)
    index = cell.nucleus_index * seen.nucleus_dilute + seen.nucleus_shift
    z = FLOOR_UM + 0.5 * (frame.top - FLOOR_UM)
    if seen.fragments < 1:
        canvas.ball(y, x, z, (along, across, up), index + seen.nucleus_rim, frame.angle)
        core = (along - 0.6, across - 0.6, max(0.5, up - 0.5))
        canvas.ball(y, x, z, core, index, frame.angle)
        if seen.nucleoli:
            for u, v, size, spot in cell.nucleoli:
                place = frame.at(centre[0] + u * stretch, centre[1] + v * stretch)
                canvas.ball(*place, z, (size, size, min(size, up)), spot * seen.nucleus_dilute, 0.0)
    if seen.fragments > 0:
        for _ in range(int(rng.integers(3, 9))):
            size = rng.uniform(0.9, 2.0) * (0.6 + 0.4 * seen.fragments)
            u, v = rng.normal(0, 0.33, 2)
            place = frame.at(centre[0] + u * frame.half_length, centre[1] + v * frame.half_width)
            canvas.ball(*place, z + rng.normal(0, 1.2), (size, size, size), rng.uniform(0.046, 0.066))


def _draw_vacuoles(canvas: "_Canvas", seen: Look, frame: _Frame, rng: np.random.Generator) -> None:
    places = rng.uniform(-0.62, 0.62, (12, 2))
    sizes = rng.uniform(0.6, 1.7, 12)
    for (u, v), size in zip(places[: seen.vacuoles], sizes, strict=False):
        y, x = frame.at(u * frame.half_length, v * frame.half_width)
        # a hole in the projection must reach through the thin parts of the cell
        canvas.ball(y, x, FLOOR_UM + 1.2, (size, size, max(size, 2.2)), 0.004)


def _draw_granules(canvas: "_Canvas", cell: Cell, seen: Look, frame: _Frame, rng: np.random.Generator) -> None:
    index = cell.cytoplasm * seen.dilute + seen.shift
    for _ in range(seen.granules):
        radius, bearing = np.sqrt(rng.random()) * 0.85, rng.uniform(0, 2 * np.pi)
        size = rng.uniform(0.3, 0.7)
        y, x = frame.at(radius * np.cos(bearing) * frame.half_length, radius * np.sin(bearing) * frame.half_width)
        z = FLOOR_UM + rng.uniform(0.25, 0.75) * (frame.top - FLOOR_UM)
        canvas.ball(y, x, z, (size, size, size), index + rng.uniform(0.008, 0.022))


def _draw_blebs(canvas: "_Canvas", cell: Cell, seen: Look, frame: _Frame, rng: np.random.Generator) -> None:
    for _ in range(seen.blebs):
        bearing, size = rng.uniform(0, 2 * np.pi), rng.uniform(1.0, 3.2)
        y, x = frame.at(
            (frame.half_length + 0.4 * size) * np.cos(bearing),
            (frame.half_width + 0.4 * size) * np.sin(bearing),
        )
        index = cell.cytoplasm * seen.dilute + rng.uniform(-0.004, 0.008)
        canvas.ball(y, x, max(FLOOR_UM + size, rng.normal(frame.middle, 1.5)), (size, size, size), index)


def _draw_apoptotic_bodies(
    canvas: "_Canvas", cell: Cell, seen: Look, frame: _Frame, rng: np.random.Generator, number: int
) -> None:
    for _ in range(seen.bodies):
        bearing, size = rng.uniform(0, 2 * np.pi), rng.uniform(0.7, 2.2)
        away = rng.uniform(1.15, 1.9)
        y, x = frame.at(away * frame.half_length * np.cos(bearing), away * frame.half_width * np.sin(bearing))
        canvas.ball(y, x, FLOOR_UM + size, (size, size, size), rng.uniform(0.02, 0.045))
        canvas.mark(y, x, size, number)


def _draw_balloon(canvas: "_Canvas", seen: Look, frame: _Frame, rng: np.random.Generator, number: int) -> None:
    """The translucent balloon of necroptosis, of one to two cell diameters; torn after the rupture."""
    full, bearing, phase = rng.uniform(8.5, 16.0), rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi)
    strength = max(seen.balloon, seen.ghost)
    if strength <= 0.05:
        return
    radius = max(full * strength ** (1 / 3), frame.half_width * 0.8)
    shift = 0.55 * radius
    y, x = frame.y + shift * np.sin(bearing), frame.x + shift * np.cos(bearing)
    inside = 0.0028 * (1 - 0.8 * seen.ghost)
    wall = 0.0075 * (1 - 0.45 * seen.ghost)
    canvas.domes.append((y, x, radius, min(1.3 * radius, 15.0), inside, wall, 0.45 * seen.ghost, phase))
    canvas.mark(y, x, radius, number)


def _draw_debris(canvas: "_Canvas", rng: np.random.Generator) -> None:
    """Wisps and specks between the cells."""
    height, width = canvas.shape[1] * canvas.voxel[1], canvas.shape[2] * canvas.voxel[2]
    for _ in range(rng.poisson(height * width / 500)):
        y, x = rng.uniform(0, height), rng.uniform(0, width)
        for _ in range(int(rng.integers(1, 5))):
            size = rng.uniform(0.25, 0.7)
            canvas.ball(y, x, FLOOR_UM + rng.uniform(0.3, 1.5), (size, size, size), rng.uniform(0.006, 0.025))
            y, x = y + rng.normal(0, 0.8), x + rng.normal(0, 0.8)


class _Canvas:
    """Height maps that fill the volume once, and small bodies that are drawn into it afterwards."""

    def __init__(
        self, shape: tuple[int, int, int], voxel_um: tuple[float, float, float], rng: np.random.Generator
    ) -> None:
        self.shape, self.voxel = shape, voxel_um
        self.bottom, self.top, self.index, self.fibre, self.grain = np.zeros((5, *shape[1:]), np.float32)
        self.states = np.zeros(shape[1:], np.uint8)
        self.domes: list[tuple[float, ...]] = []
        self._balls: list[tuple[float, ...]] = []
        # one texture for all, seen from another place in every field
        self._texture_at = tuple(int(value) for value in rng.integers(0, TEXTURE_PX, 2))

    def box(self, y: float, x: float, reach: float) -> tuple[slice, slice, Plane, Plane] | None:
        """Pixels within `reach` um of a point and their distances from it; None outside the field."""
        slices, axes = [], []
        for centre, pitch, size in zip((y, x), self.voxel[1:], self.shape[1:], strict=True):
            first = max(0, int(np.floor((centre - reach) / pitch)))
            last = min(size, int(np.ceil((centre + reach) / pitch)) + 1)
            if first >= last:
                return None
            slices.append(slice(first, last))
            axes.append((np.arange(first, last) * pitch - centre).astype(np.float32))
        return slices[0], slices[1], axes[0][:, None], axes[1][None, :]

    def lay(
        self,
        rows: slice,
        columns: slice,
        bottom: Plane,
        height: Plane,
        index: float,
        seen: Look,
        fibre: float,
        number: int,
    ) -> None:
        """Lay a cell's body over what is there, where it is the higher one."""
        top = bottom + height
        wins = (height > 0.15) & (top > self.top[rows, columns])
        self.bottom[rows, columns][wins] = bottom[wins]
        self.top[rows, columns][wins] = top[wins]
        self.index[rows, columns][wins] = index
        self.fibre[rows, columns][wins] = 0.010 * fibre * seen.filaments
        self.grain[rows, columns][wins] = seen.grain
        self.states[rows, columns][wins] = number

    def mark(self, y: float, x: float, radius: float, number: int) -> None:
        """Add a disc to a cell's footprint where no other cell is."""
        box = self.box(y, x, radius)
        if box is not None:
            rows, columns, dy, dx = box
            part = self.states[rows, columns]
            part[(dy**2 + dx**2 <= radius**2) & (part == 0)] = number

    def ball(
        self,
        y: float,
        x: float,
        z: float,
        axes: tuple[float, float, float],
        index: float,
        angle: float = 0.0,
    ) -> None:
        """Queue an ellipsoid (half axes along, across, up) that puts its own index in the place of others."""
        self._balls.append((y, x, z, *axes, index, angle))

    def render(self) -> Volume:
        volume = np.empty(self.shape, np.float32)
        ridges, grains = _textures()
        fibre = self.fibre * _shifted(ridges, self._texture_at, self.shape[1:])
        middle = self.bottom + np.float32(0.45) * (self.top - self.bottom)
        soft = np.float32(1 / (2 * EDGE_UM))
        for plane in range(self.shape[0]):
            z = np.float32(plane * self.voxel[0])
            inside = np.clip((self.top - z) * soft + 0.5, 0, 1)
            inside *= np.clip((z - self.bottom) * soft + 0.5, 0, 1)
            inside[self.top == 0] = 0
            grain = _shifted(grains[plane % len(grains)], self._texture_at, self.shape[1:])
            cytoplasm = self.index * (1 + np.float32(0.16) * self.grain * grain)
            volume[plane] = inside * (cytoplasm + fibre * np.exp(-(((z - middle) / np.float32(1.1)) ** 2)))
        for dome in self.domes:
            self._fill_dome(volume, *dome)
        for ball in self._balls:
            self._fill_ball(volume, *ball)
        return volume

    def _planes(self, z: float, reach: float) -> tuple[int, int]:
        first = max(0, int(np.floor((z - reach) / self.voxel[0])))
        return first, min(self.shape[0], int(np.ceil((z + reach) / self.voxel[0])) + 1)

    def _fill_ball(
        self,
        volume: Volume,
        y: float,
        x: float,
        z: float,
        along: float,
        across: float,
        up: float,
        index: float,
        angle: float,
    ) -> None:
        box = self.box(y, x, max(along, across) + EDGE_UM)
        first, last = self._planes(z, up + EDGE_UM)
        if box is None or first >= last:
            return
        rows, columns, dy, dx = box
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        flat = ((dx * cos + dy * sin) / along) ** 2 + ((dy * cos - dx * sin) / across) ** 2
        heights = (((np.arange(first, last) * self.voxel[0] - z) / up) ** 2).astype(np.float32)
        distance = np.sqrt(flat[None] + heights[:, None, None])
        weight = np.clip((1 - distance) * np.float32(min(along, across, up) / (2 * EDGE_UM)) + 0.5, 0, 1)
        part = volume[first:last, rows, columns]
        part += weight * (np.float32(index) - part)

    def _fill_dome(
        self,
        volume: Volume,
        y: float,
        x: float,
        radius: float,
        height: float,
        inside: float,
        wall: float,
        torn: float,
        phase: float,
    ) -> None:
        box = self.box(y, x, 1.1 * radius + 1)
        if box is None:
            return
        rows, columns, dy, dx = box
        first, last = self._planes(FLOOR_UM + height / 2, height / 2 + 1)
        centre = FLOOR_UM + 0.45 * height
        heights = ((np.arange(first, last) * self.voxel[0] - centre) / (0.55 * height)).astype(np.float32)
        # slightly lobed: membranes are not spheres
        bearing = np.arctan2(dy, dx)
        lobes = (
            1
            + np.float32(0.05) * np.cos(3 * bearing + np.float32(phase))
            + np.float32(0.03) * np.cos(5 * bearing - np.float32(phase))
        )
        flat = (dy**2 + dx**2) / (np.float32(radius) * lobes) ** 2
        distance = np.sqrt(flat[None] + heights[:, None, None] ** 2)
        body = np.clip((1 - distance) * np.float32(radius / 0.8) + 0.5, 0, 1)
        shell = np.exp(-(((1 - distance) * np.float32(radius / 0.45)) ** 2))
        if torn > 0:
            arcs = np.cos(2 * bearing + phase) + 0.6 * np.cos(3 * bearing - 2 * phase) + 1 - 2 * torn
            shell *= np.clip(arcs, 0, 1).astype(np.float32)
        part = volume[first:last, rows, columns]
        np.maximum(part, np.float32(inside) * body + np.float32(wall) * shell, out=part)


@lru_cache(maxsize=1)
def _textures() -> tuple[Plane, Volume]:
    """Periodic textures: filaments (ridges of smooth noise, 0 to 1) and grains (unit noise per plane).

    Mitochondria and fibres are 0.3 to 0.6 um wide; grains 0.4 to 1 um. Drawn at 0.16 um a pixel.
    """
    rng = np.random.default_rng(20260)
    size = TEXTURE_PX
    frequency = np.hypot(scipy.fft.fftfreq(size)[:, None], scipy.fft.rfftfreq(size)[None, :])

    def noise(low: float, high: float) -> Plane:
        band = np.exp(-((frequency / high) ** 2)) * (1 - np.exp(-((frequency / low) ** 2)))
        plane = scipy.fft.irfft2(scipy.fft.rfft2(rng.standard_normal((size, size))) * band, s=(size, size))
        unit: Plane = (plane / plane.std()).astype(np.float32)
        return unit

    ridges = np.exp(-((noise(0.02, 0.055) / 0.25) ** 2)) * np.clip(noise(0.004, 0.012) + 0.7, 0, 1)
    layers = np.stack([noise(0.02, 0.12) for _ in range(16)])
    # neighbouring planes share a part, so that grains are round in z as well
    grains = (layers + 0.7 * np.roll(layers, 1, axis=0)) / np.hypot(1, 0.7)
    return ridges.astype(np.float32), grains.astype(np.float32)


def _shifted(texture: Plane, at: tuple[int, ...], shape: tuple[int, ...]) -> Plane:
    """A window of a periodic texture, from any place and of any size."""
    rows = (np.arange(shape[0]) + at[0]) % TEXTURE_PX
    columns = (np.arange(shape[1]) + at[1]) % TEXTURE_PX
    return texture[rows[:, None], columns[None, :]]
