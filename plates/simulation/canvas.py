"""The volume that cells are drawn into: height maps that fill it once, and small bodies that go in afterwards."""

import numpy as np
from numpy.typing import NDArray

from plates.simulation.textures import TEXTURE_PX, shifted, textures

Plane = NDArray[np.float32]
Volume = NDArray[np.float32]

FLOOR_UM = 1.5  # height of the coverslip above the lower end of the volume
EDGE_UM = 0.35  # width over which a body's edge fades, so that it does not staircase on the grid


class Canvas:
    """Height maps that fill the volume once, and small bodies that are drawn into it afterwards."""

    def __init__(
        self, shape: tuple[int, int, int], voxel_um: tuple[float, float, float], rng: np.random.Generator
    ) -> None:
        self.shape, self.voxel = shape, voxel_um
        self.bottom, self.top, self.index, self.fibre, self.grain, self.films = np.zeros((6, *shape[1:]), np.float32)
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
        index: Plane,
        fibre: Plane,
        grain: float,
        number: int,
    ) -> None:
        """Lay a cell's body over what is there, where it is the higher one."""
        top = bottom + height
        wins = (height > 0.15) & (top > self.top[rows, columns])
        self.bottom[rows, columns][wins] = bottom[wins]
        self.top[rows, columns][wins] = top[wins]
        self.index[rows, columns][wins] = index[wins]
        self.fibre[rows, columns][wins] = fibre[wins]
        self.grain[rows, columns][wins] = grain
        self.states[rows, columns][wins] = number

    def span(self, y: float, x: float) -> tuple[float, float]:
        """Middle (above the volume's lower end) and thickness, in um, of what is laid at a point.

        Beyond the field's border, as at the border.
        """
        row, column = (
            min(max(round(value / pitch), 0), size - 1)
            for value, pitch, size in zip((y, x), self.voxel[1:], self.shape[1:], strict=True)
        )
        bottom, top = float(self.bottom[row, column]), float(self.top[row, column])
        return (bottom + top) / 2, top - bottom

    def film(self, rows: slice, columns: slice, index: Plane) -> None:
        """Add a film on the glass, seen where no cell lies over it."""
        np.maximum(self.films[rows, columns], index, out=self.films[rows, columns])

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
        """Fill the volume: cytoplasm first, then films, domes and small bodies in the order they were queued."""
        volume = np.empty(self.shape, np.float32)
        grains = textures().grains
        middle = self.bottom + np.float32(0.5) * (self.top - self.bottom)
        soft = np.float32(1 / (2 * EDGE_UM))
        for plane in range(self.shape[0]):
            z = np.float32(plane * self.voxel[0])
            inside = np.clip((self.top - z) * soft + 0.5, 0, 1)
            inside *= np.clip((z - self.bottom) * soft + 0.5, 0, 1)
            inside[self.top == 0] = 0
            grain = shifted(grains[plane % len(grains)], self._texture_at, self.shape[1:])
            cytoplasm = self.index * (1 + np.float32(0.16) * self.grain * grain)
            volume[plane] = inside * (cytoplasm + self.fibre * np.exp(-(((z - middle) / np.float32(1.1)) ** 2)))
        for plane in range(*self._planes(FLOOR_UM + 0.6, 0.6)):
            np.maximum(volume[plane], self.films, out=volume[plane], where=self.top == 0)
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
