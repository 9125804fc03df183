"""Which acquisitions are tiles of one wide field, and where the stage says that each of them lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import AcquisitionError

_BESIDE = 0.5  # neighbours share at least this much of their height or of their width
_SAME_PLACE = 0.9  # sharing more than this in both directions is the same field again, no tile
_LEAST_OVERLAP = 0.05

Key = TypeVar("Key")


class Place(NamedTuple):
    """Where an acquisition was taken: stage position (x, y, z) in mm, voxels (z, y, x), their size in um."""

    position_mm: tuple[float, ...]
    shape_zyx: tuple[int, int, int]
    voxel_um: tuple[float, float, float]


@dataclass(frozen=True)
class StageConvention:
    """How the axes of the stage run in the picture; no public source states it.

    Attributes
    ----------
    flip_x, flip_y
        Whether columns (rows) run against the stage axis that they follow.
    swap_xy
        Whether columns follow the stage's y, and rows its x.
    """

    flip_x: bool = False
    flip_y: bool = False
    swap_xy: bool = False

    def __str__(self) -> str:
        return f"flip_x={self.flip_x}, flip_y={self.flip_y}, swap_xy={self.swap_xy}"

    def offset_um(self, stage_um: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Stage displacements (tile, [x, y, z]) as displacements in the picture (tile, [z, y, x]), um."""
        x, y, z = stage_um.T
        if self.swap_xy:
            x, y = y, x
        return np.stack([z, -y if self.flip_y else y, -x if self.flip_x else x], axis=1)


CONVENTIONS = tuple(StageConvention(x, y, swap) for swap, y, x in product((False, True), repeat=3))


@dataclass(frozen=True)
class TileLayout:
    """Tiles of one wide field as the stage positions place them.

    Attributes
    ----------
    offsets
        (tile, 3) first voxel of each tile (z, y, x) relative to the first tile's, in voxels, not rounded.
    pairs
        Tiles that overlap side by side, lower number first; the graph of pairs is connected.
    convention
        How the stage axes were taken to run.
    """

    offsets: npt.NDArray[np.float64]
    pairs: tuple[tuple[int, int], ...]
    convention: StageConvention


def group_tiles(
    places: Mapping[Key, Place | tuple[tuple[float, ...], tuple[int, int, int], tuple[float, float, float]]],
    *,
    least_overlap: float = _LEAST_OVERLAP,
) -> list[tuple[Key, ...]]:
    """Group fields that overlap side by side by their stage position; a field on its own is a group of one.

    Two fields are neighbours if they share at least half of one side and `least_overlap` of the other, and have
    the same shape and voxel. The same place imaged twice is no pair of tiles, and a field whose position is not
    known stays on its own.

    Parameters
    ----------
    places
        Any key (a field's number, a path) -> position (x, y, z) in mm, shape and voxel size (z, y, x).
    least_overlap
        Share of a side that neighbours have in common at least.

    Returns
    -------
    list
        Groups in the order of their first field; the fields of a group in the order given.
    """
    keys, known = list(places), [Place(*place) for place in places.values()]
    pairs = [
        (i, j)
        for i, j in combinations(range(len(keys)), 2)
        if known[i][1:] == known[j][1:] and _side_by_side(known[i], known[j], least_overlap=least_overlap)
    ]
    groups = _connected(len(keys), pairs)
    return [tuple(keys[number] for number in group) for group in groups]


def tile_layout(
    positions_mm: Sequence[tuple[float, ...]],
    *,
    shape: tuple[int, int, int],
    voxel_um: tuple[float, float, float],
    convention: StageConvention = StageConvention(),
    least_overlap: float = _LEAST_OVERLAP,
    names: Sequence[str] | None = None,
) -> TileLayout:
    """Lay tiles out by their stage positions.

    Parameters
    ----------
    positions_mm
        Stage position (x, y, z) of each tile.
    shape, voxel_um
        Of every tile, (z, y, x).
    convention
        How the stage axes run in the picture. The sign of z is taken as it is: registration measures the axial
        offset whatever its sign.
    names
        What to call the tiles in the messages of errors; else their numbers.

    Raises
    ------
    AcquisitionError
        A position is unknown, a tile lies away from all others, two tiles lie at one place, or their heights
        differ by more than half a stack.
    """
    names = names or [f"tile {number}" for number in range(len(positions_mm))]
    positions = np.array([tuple(position)[:3] for position in positions_mm], dtype=np.float64)
    for name, position in zip(names, positions, strict=True):
        if not np.isfinite(position).all():
            raise AcquisitionError(
                f"{name}: its stage position is not known ({position.tolist()} mm), so it cannot be stitched. "
                "Convert it as a field of its own."
            )
    offsets_um = convention.offset_um(1000 * (positions - positions[0]))
    offsets = offsets_um / np.array(voxel_um)
    size = np.array(shape[1:])
    pairs = []
    for i, j in combinations(range(len(names)), 2):
        shared = 1 - np.abs(offsets[j, 1:] - offsets[i, 1:]) / size
        if shared.min() > _SAME_PLACE:
            raise AcquisitionError(
                f"{names[i]} and {names[j]} lie at the same place ({_apart(offsets_um, i, j):.1f} um apart): the same "
                "field twice, not two tiles. Leave one of them out."
            )
        if shared.min() >= least_overlap and shared.max() >= _BESIDE:
            pairs.append((i, j))
    _check_connected(offsets_um, pairs, names=names, size_um=size * np.array(voxel_um[1:]))
    for i, j in pairs:
        if 2 * abs(offsets[j, 0] - offsets[i, 0]) > max(shape[0], 2):
            raise AcquisitionError(
                f"{names[i]} and {names[j]} overlap, but their heights differ by "
                f"{abs(offsets_um[j, 0] - offsets_um[i, 0]):.1f} um, more than half a stack. Check the stage positions."
            )
    return TileLayout(offsets=offsets, pairs=tuple(pairs), convention=convention)


def _side_by_side(first: Place, second: Place, *, least_overlap: float) -> bool:
    size_yx = np.array(first.shape_zyx[1:]) * np.array(first.voxel_um[1:])
    apart_xy = 1000 * np.abs(np.array(second.position_mm[:2]) - np.array(first.position_mm[:2]))
    # which stage axis runs along which side is not known: a pair under either convention is one
    for apart in (apart_xy, apart_xy[::-1]):
        shared = 1 - apart / size_yx
        # NaN compares false
        if least_overlap <= shared.min() <= _SAME_PLACE and shared.max() >= _BESIDE:
            return True
    return False


def _connected(count: int, pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Connected components, each ascending, in the order of their first members."""
    group = list(range(count))
    for i, j in pairs:
        low, high = sorted((group[i], group[j]))
        group = [low if number == high else number for number in group]
    return [[member for member in range(count) if group[member] == number] for number in sorted(set(group))]


def _check_connected(
    offsets_um: npt.NDArray[np.float64],
    pairs: Sequence[tuple[int, int]],
    *,
    names: Sequence[str],
    size_um: npt.NDArray[np.float64],
) -> None:
    groups = _connected(len(names), pairs)
    if len(groups) == 1:
        return
    lost = min(groups, key=len)
    others = [number for number in range(len(names)) if number not in lost]
    apart, tile, nearest = min((_apart(offsets_um, i, j), i, j) for i in lost for j in others)
    raise AcquisitionError(
        f"{names[tile]} overlaps no other tile: the nearest, {names[nearest]}, lies {apart:.0f} um away, and a tile "
        f"is {size_um[0]:.0f} x {size_um[1]:.0f} um. Check its stage position, or convert it as a field of its own."
    )


def _apart(offsets_um: npt.NDArray[np.float64], i: int, j: int) -> float:
    return float(np.hypot(*(offsets_um[j, 1:] - offsets_um[i, 1:])))
