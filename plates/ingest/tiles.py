"""Frames of any modality: their names and grid, and how the tiles of one ("level of detail") become one image."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .blocks import BlockReader
from .hdf5 import check_shape, is_group, member, member_names, number, problem, whole_number

_FRAME_NAME = re.compile(r"[0-9]{1,9}")
_TILE_NAME = re.compile(r"TILE_([0-9]{1,9})")
_DAMAGED = "Copy the file again from the microscope, or remove it."

Convert = Callable[[np.ndarray], tuple[np.ndarray, int]]


@dataclass(frozen=True)
class Tile:
    """A tile of full resolution.

    Attributes
    ----------
    data
        Its array; may be larger than what it covers.
    first, last
        First and last voxel covered.
    """

    data: Any
    first: tuple[int, ...]
    last: tuple[int, ...]


def frame_names(group: Any) -> dict[int, str]:
    """Names of the frames of a group by their numbers, ascending."""
    names: dict[int, str] = {}
    for name in member_names(group):
        if not _FRAME_NAME.fullmatch(name):
            continue
        if int(name) in names:
            raise problem(
                group, f"{group.name} holds frame {int(name)} twice ({names[int(name)]}, {name})", "Remove the file."
            )
        names[int(name)] = name
    return dict(sorted(names.items()))


def resolution(group: Any) -> tuple[float, float, float]:
    """Voxel size (z, y, x) in um of a modality; refused where it is not given."""
    z, y, x = (number(group, f"Resolution{axis}") for axis in "ZYX")
    if not all(np.isfinite(step) and step > 0 for step in (z, y, x)):
        raise problem(
            group,
            f"{group.name} does not give a voxel size (ResolutionX/Y/Z = {x}, {y}, {z})",
            "Without it nothing can be measured; copy the file again, or remove it.",
        )
    return z, y, x


def frame_shape(node: Any, *, axes: str = "ZYX") -> tuple[int, ...]:
    """Shape of a frame, whole or tiled; refused when it is impossible."""
    if is_group(node):
        shape = tuple(whole_number(node, f"DataSize{axis}") for axis in axes)
    else:
        shape = tuple(int(size) for size in node.shape)
    return check_shape(node, shape, axes=axes)


def data_tiles(frame: Any, *, axes: str = "ZYX") -> list[Tile]:
    """Tiles that are data, in the order of their numbers; down-sampled copies are left out.

    Raises
    ------
    AcquisitionError
        There is none, or one does not fit the frame.
    """
    shape = frame_shape(frame, axes=axes)
    names = sorted((int(match[1]), name) for name in member_names(frame) if (match := _TILE_NAME.fullmatch(name)))
    tiles = []
    for _, name in names:
        data = member(frame, name)
        if whole_number(data, "SamplingStep", 1) != 1:
            continue
        first = tuple(whole_number(data, f"DataIndexOffsetPoint{axis}") for axis in axes)
        last = tuple(whole_number(data, f"DataIndexLastPoint{axis}") for axis in axes)
        have = () if is_group(data) else data.shape
        fits = len(have) == len(shape) and all(
            0 <= s <= e < size and h >= e - s + 1 for s, e, size, h in zip(first, last, shape, have, strict=True)
        )
        if not fits:
            raise problem(
                frame,
                f"{frame.name}/{name} covers voxels {first} to {last} with data of shape {have}, "
                f"which does not fit the frame's {shape}",
                _DAMAGED,
            )
        tiles.append(Tile(data=data, first=first, last=last))
    if not tiles:
        raise problem(frame, f"{frame.name} holds no tile of full resolution", "Acquire it again.")
    return tiles


def is_eight_bit(frame: Any, stored: Sequence[Any]) -> bool:
    """Whether values are 8-bit levels above the frame's lowest, by their type; the header must agree.

    Parameters
    ----------
    stored
        Arrays of the frame: itself, or its tiles.
    """
    eight_bit = [data.dtype.itemsize == 1 for data in stored]
    told = whole_number(frame, "ScalarType", int(eight_bit[0]))
    if any((told == 1) != found for found in eight_bit):
        kinds = sorted({str(data.dtype) for data in stored})
        raise problem(frame, f"{frame.name} gives ScalarType {told} for values of {', '.join(kinds)}", _DAMAGED)
    return told == 1


def assemble(
    tiles: Sequence[tuple[Tile, BlockReader]],
    *,
    start: int,
    stop: int,
    row: tuple[int, ...],
    dtype: type[np.generic],
    convert: Convert,
) -> tuple[np.ndarray, int]:
    """Rows or slices `start` to `stop` of a tiled frame; later tiles replace earlier ones, never add.

    Parameters
    ----------
    row
        Shape of the other axes.
    convert
        Stored values -> values of `dtype`, and how many were no number.

    Returns
    -------
    image, nonfinite
        0 where no tile lies.
    """
    image = np.zeros((stop - start, *row), dtype=dtype)
    nonfinite = 0
    for tile, reader in tiles:
        first, last = max(tile.first[0], start), min(tile.last[0], stop - 1)
        if first > last:
            continue
        block = reader.read(first - tile.first[0], last - tile.first[0] + 1)
        extent = tuple(slice(0, e - s + 1) for s, e in zip(tile.first[1:], tile.last[1:], strict=True))
        values, lost = convert(block[(slice(None), *extent)])
        target = tuple(slice(s, e + 1) for s, e in zip(tile.first[1:], tile.last[1:], strict=True))
        image[(slice(first - start, last - start + 1), *target)] = values
        nonfinite += lost
    return image, nonfinite
