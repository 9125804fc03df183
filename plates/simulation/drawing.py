"""Drawing cells into a volume of refractive index: bodies as height maps, what is inside as ellipsoids."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from plates.simulation.canvas import FLOOR_UM, Canvas
from plates.simulation.cells import Cell
from plates.simulation.looks import Look, look
from plates.simulation.textures import TEXTURE_PX, shifted, textures
from plates.states import DEAD, STATES

Plane = NDArray[np.float32]
Volume = NDArray[np.float32]


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
    canvas = Canvas(shape, voxel_um, rng)
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


def _draw_cell(canvas: Canvas, cell: Cell, hours: float) -> None:
    state, seen = look(cell, hours)
    alive = state not in DEAD
    mitotic = cell.mitotic and alive
    spread = 0.08 if mitotic else cell.spread * seen.spread
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
    # what moves from frame to frame, and what stays with the cell
    moving = np.random.default_rng((cell.seed, round(hours * 3600)))
    staying = np.random.default_rng((cell.seed, 7))
    texture_at = tuple(int(value) for value in moving.integers(0, TEXTURE_PX, 2))
    _draw_remains(canvas, cell, seen, frame, texture_at)
    _draw_body(canvas, cell, seen, frame, radius, spread, number, texture_at)
    if mitotic:
        y, x = frame.at(0, 0)
        canvas.ball(y, x, frame.middle, (4.5, 1.5, 3.5), cell.cytoplasm + 0.014, cell.angle)
    else:
        _draw_nucleus(canvas, cell, seen, frame, staying)
    for along, across, share, size, index in cell.droplets:
        y, x = frame.at(along * frame.half_length, across * frame.half_width)
        canvas.ball(y, x, FLOOR_UM + share * (frame.top - FLOOR_UM), (size, size, size), index)
    _draw_vacuoles(canvas, cell, seen, frame, staying)
    _draw_granules(canvas, cell, seen, frame, staying)
    _draw_blebs(canvas, cell, seen, frame, moving)
    _draw_apoptotic_bodies(canvas, cell, seen, frame, staying, number)
    _draw_balloon(canvas, seen, frame, staying, number)


def _draw_body(
    canvas: Canvas,
    cell: Cell,
    seen: Look,
    frame: _Frame,
    radius: float,
    spread: float,
    number: int,
    texture_at: tuple[int, ...],
) -> None:
    """Outline, height and cytoplasm; a pixel belongs to the thickest cell above it."""
    box = canvas.box(frame.y, frame.x, 1.35 * max(frame.half_length, frame.half_width))
    if box is None:
        return
    rows, columns, dy, dx = box
    along, across, inside = _outline(cell, frame, dy, dx, spread * seen.ragged + 0.15 * (1 - spread))
    flat = _spread_height(cell, along, across, inside)
    ball = np.float32(1.7 * radius) * np.sqrt(inside)
    height = np.float32(spread) * flat + np.float32(1 - spread) * ball
    lift = np.float32((1 - spread) * 0.5) * (np.float32(1.7 * radius) - ball)
    index = np.full_like(height, cell.cytoplasm * seen.dilute + seen.shift)
    form = textures()
    if seen.holes > 0:
        # a membrane that has given way: patches of the body are washed out, most of all at the rim
        patchy = shifted(form.patches, texture_at, height.shape)
        kept = np.clip((patchy + 0.9 - 1.1 * (1 - inside)) * 1.6 + 0.5, 0, 1)
        index *= 1 - np.float32(0.8 * seen.holes) * (1 - kept)
    threads = shifted(form.threads[cell.thread_width], texture_at, height.shape)
    rings = shifted(form.rings[cell.thread_width], texture_at, height.shape)
    fibre = np.float32((0.006 + 0.18 * cell.cytoplasm) * cell.filaments * seen.filaments) * (
        np.float32(1 - seen.rings) * threads + np.float32(seen.rings) * rings
    )
    canvas.lay(rows, columns, FLOOR_UM + lift, height, index, fibre, cell.grain * seen.grain, number)


def _spread_height(cell: Cell, along: Plane, across: Plane, inside: Plane) -> Plane:
    """Height of a fully spread cell: a thin lamella that ends at the rim, and the rise over the nucleus."""
    hill = np.exp(
        -(
            ((along - cell.nucleus_offset[0]) / (2.0 * cell.nucleus_axes[0])) ** 2
            + ((across - cell.nucleus_offset[1]) / (2.0 * cell.nucleus_axes[1])) ** 2
        )
    ).astype(np.float32)
    return (np.float32(1.9) + np.float32(cell.height - 1.9) * hill) * np.sqrt(inside)


def _draw_remains(canvas: Canvas, cell: Cell, seen: Look, frame: _Frame, texture_at: tuple[int, ...]) -> None:
    """Fibres and shreds of membrane on the glass, where the cell was spread before it retracted; no part of it."""
    strength = seen.remains * (cell.seed % 89) / 88
    if strength < 0.1:
        return
    was = replace(frame, half_length=cell.half_length * cell.spread, half_width=cell.half_width * cell.spread)
    box = canvas.box(frame.y, frame.x, 1.35 * max(was.half_length, was.half_width))
    if box is None:
        return
    rows, columns, dy, dx = box
    _, _, inside = _outline(cell, was, dy, dx, cell.spread)
    form = textures()
    shreds = np.clip(shifted(form.patches, texture_at, inside.shape) + 0.2, 0, 1)
    strands = shifted(form.threads[cell.thread_width], texture_at, inside.shape)
    canvas.film(rows, columns, (inside > 0) * np.float32(strength) * (0.010 * strands + 0.004 * shreds))


def _outline(cell: Cell, frame: _Frame, dy: Plane, dx: Plane, waves: float) -> tuple[Plane, Plane, NDArray[np.float32]]:
    """Places along and across a cell, and how far inside its outline they lie: 1 in the middle, 0 at the rim."""
    cos, sin = np.float32(np.cos(frame.angle)), np.float32(np.sin(frame.angle))
    along, across = dx * cos + dy * sin, dy * cos - dx * sin
    bearing = np.arctan2(across / frame.half_width, along / frame.half_length)
    outline = np.ones_like(bearing)
    for order, amplitude, phase in cell.outline:
        outline += np.float32(amplitude * waves) * np.cos(np.float32(order) * bearing + np.float32(phase))
    distance = np.hypot(along / frame.half_length, across / frame.half_width) / np.maximum(outline, 0.45)
    return along, across, np.clip(1 - distance**2, 0, 1)


def _draw_nucleus(canvas: Canvas, cell: Cell, seen: Look, frame: _Frame, rng: np.random.Generator) -> None:
    along, across, up = (axis * seen.nucleus_size for axis in cell.nucleus_axes)
    stretch = min(1.0, 0.8 * frame.half_width / across)  # a nucleus stays inside its cell
    along, across = along * stretch, across * stretch
    up = min(up, 0.45 * (frame.top - FLOOR_UM))
    centre = (cell.nucleus_offset[0] * seen.spread, cell.nucleus_offset[1] * seen.spread)
    y, x = frame.at(*centre)
    index = cell.nucleus_index * seen.nucleus_dilute + seen.nucleus_shift
    z = frame.middle
    if seen.lifted:
        # flatter and above, or below, the middle: the same from above
        up *= 1 - 0.3 * abs(seen.lifted)
        middle, height = canvas.span(y, x)
        z = middle + 0.06 * seen.lifted * height
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
            canvas.ball(*place, z + rng.normal(0, 1.2), (size, size, size), index + rng.uniform(0.004, 0.022))


def _draw_vacuoles(canvas: Canvas, cell: Cell, seen: Look, frame: _Frame, rng: np.random.Generator) -> None:
    """Round vacuoles of a treated cell; every living cell has a few small pinosomes and slits."""
    if cell.fate.pathway and seen.filaments < 0.5:
        return
    watery = 0.45 * cell.cytoplasm
    # around the nucleus, not in it
    bearings, radii = rng.uniform(0, 2 * np.pi, 24), rng.uniform(0.45, 0.8, 24)
    places = np.column_stack([radii * np.cos(bearings), radii * np.sin(bearings)])
    sizes = rng.uniform(0.6, 1.6, 12)
    for (u, v), size in zip(places[: seen.vacuoles], sizes, strict=False):
        y, x = frame.at(u * frame.half_length, v * frame.half_width)
        # a hole in the projection must reach through the thin parts of the cell
        canvas.ball(y, x, canvas.span(y, x)[0], (size, size, max(size, 2.2)), watery)
    slits = rng.uniform((0.25, 0), (0.55, np.pi), (12, 2))
    for (u, v), (size, angle) in zip(places[12 : 12 + cell.pinosomes], slits, strict=False):
        y, x = frame.at(u * frame.half_length, v * frame.half_width)
        canvas.ball(y, x, canvas.span(y, x)[0], (3.5 * size, size, 2.2), watery, angle)


def _draw_granules(canvas: Canvas, cell: Cell, seen: Look, frame: _Frame, rng: np.random.Generator) -> None:
    index = cell.cytoplasm * seen.dilute + seen.shift
    if seen.lifted:
        for u, v, size, dense in rng.uniform((-0.5, -0.5, 0.35, 0.018), (0.5, 0.5, 0.6, 0.035), (seen.granules, 4)):
            y, x = frame.at(u * frame.half_length, v * frame.half_width)
            middle, height = canvas.span(y, x)
            if height > 2.5:
                canvas.ball(y, x, middle + 0.3 * seen.lifted * height, (size, size, size), index + dense)
        return
    for _ in range(seen.granules):
        radius, bearing = np.sqrt(rng.random()) * 0.85, rng.uniform(0, 2 * np.pi)
        size = rng.uniform(0.3, 0.7)
        y, x = frame.at(radius * np.cos(bearing) * frame.half_length, radius * np.sin(bearing) * frame.half_width)
        z = FLOOR_UM + rng.uniform(0.25, 0.75) * (frame.top - FLOOR_UM)
        canvas.ball(y, x, z, (size, size, size), index + rng.uniform(0.008, 0.022))


def _draw_blebs(canvas: Canvas, cell: Cell, seen: Look, frame: _Frame, rng: np.random.Generator) -> None:
    for _ in range(seen.blebs):
        bearing, size = rng.uniform(0, 2 * np.pi), rng.uniform(1.0, 3.2)
        y, x = frame.at(
            (frame.half_length + 0.4 * size) * np.cos(bearing),
            (frame.half_width + 0.4 * size) * np.sin(bearing),
        )
        index = cell.cytoplasm * seen.dilute + rng.uniform(-0.004, 0.008)
        canvas.ball(y, x, max(FLOOR_UM + size, rng.normal(frame.middle, 1.5)), (size, size, size), index)


def _draw_apoptotic_bodies(
    canvas: Canvas, cell: Cell, seen: Look, frame: _Frame, rng: np.random.Generator, number: int
) -> None:
    for _ in range(seen.bodies):
        bearing, size = rng.uniform(0, 2 * np.pi), rng.uniform(0.7, 2.2)
        away = rng.uniform(1.15, 1.9)
        y, x = frame.at(away * frame.half_length * np.cos(bearing), away * frame.half_width * np.sin(bearing))
        canvas.ball(y, x, FLOOR_UM + size, (size, size, size), rng.uniform(0.02, 0.045))
        canvas.mark(y, x, size, number)


def _draw_balloon(canvas: Canvas, seen: Look, frame: _Frame, rng: np.random.Generator, number: int) -> None:
    """The translucent balloon of necroptosis, of one to two cell diameters; torn after the rupture."""
    full, bearing, phase = rng.uniform(10.0, 17.0), rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi)
    strength = max(seen.balloon, seen.ghost)
    if strength <= 0.05:
        return
    radius = max(full * strength ** (1 / 3), frame.half_width * 0.8)
    shift = 0.65 * radius
    y, x = frame.y + shift * np.sin(bearing), frame.x + shift * np.cos(bearing)
    inside = 0.0028 * (1 - 0.8 * seen.ghost)
    wall = 0.0075 * (1 - 0.3 * seen.ghost)
    canvas.domes.append((y, x, radius, min(1.3 * radius, 15.0), inside, wall, 0.35 * seen.ghost, phase))
    canvas.mark(y, x, radius, number)


def _draw_debris(canvas: Canvas, rng: np.random.Generator) -> None:
    """Specks and clumps between the cells: fragments of cells from elsewhere, dense or watery, some granular."""
    height, width = canvas.shape[1] * canvas.voxel[1], canvas.shape[2] * canvas.voxel[2]
    dirt = np.exp(rng.normal(0, 0.6))
    for _ in range(rng.poisson(dirt * height * width / 500)):
        y, x = rng.uniform(0, height), rng.uniform(0, width)
        for _ in range(int(rng.integers(1, 5))):
            size = rng.uniform(0.25, 0.7)
            canvas.ball(y, x, FLOOR_UM + rng.uniform(0.3, 1.5), (size, size, size), rng.uniform(0.006, 0.025))
            y, x = y + rng.normal(0, 0.8), x + rng.normal(0, 0.8)
    for _ in range(rng.poisson(dirt * height * width / 1500)):
        y, x, dense = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(0.006, 0.05)
        for _ in range(int(rng.integers(2, 9))):
            size = rng.uniform(0.3, 1.1)
            axes = (size * rng.uniform(1, 2), size, size)
            canvas.ball(
                y, x, FLOOR_UM + rng.uniform(0.5, 3), axes, dense * rng.uniform(0.6, 1.3), rng.uniform(0, np.pi)
            )
            y, x = y + rng.normal(0, 1.2), x + rng.normal(0, 1.2)
