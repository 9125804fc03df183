"""Fluorescence of a TCF file: its channels, where they lie on the tomogram, and their stacks."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from .acquisition import FluorescenceChannel, FluorescenceTransform
from .blocks import BlockReader
from .hdf5 import is_group, member, member_names, number, optional_member, problem, whole_number
from .tiles import assemble, data_tiles, frame_names, frame_shape, is_eight_bit, resolution

_CHANNEL_NAME = re.compile(r"CH[0-9]{1,3}")
_MAX_COUNT = np.iinfo(np.uint16).max


def read_channels(file: Any) -> dict[str, FluorescenceChannel]:
    """Channels by name; those without a frame are left out."""
    stacks = optional_member(file, "Data", "3DFL")
    if stacks is None or not is_group(stacks):
        return {}
    channels = {}
    for name in sorted(key for key in member_names(stacks) if _CHANNEL_NAME.fullmatch(key)):
        group = member(stacks, name)
        frames = frame_names(group) if is_group(group) else {}
        if not frames:
            continue
        depth, height, width = frame_shape(member(group, next(iter(frames.values()))))
        channels[name] = FluorescenceChannel(
            name=name,
            frames=tuple(frames),
            shape_zyx=(depth, height, width),
            voxel_um=resolution(stacks),
            offset_z_um=number(group, "OffsetZ", number(stacks, "OffsetZ", 0.0)),
            excitation_um=number(group, "Excitation"),
            emission_um=number(group, "Emission"),
            times_s={frame: number(member(group, key), "Time") for frame, key in frames.items()},
        )
    return channels


def read_transform(file: Any) -> FluorescenceTransform:
    """Where the instrument says that fluorescence lies on the tomogram."""
    stored = optional_member(file, "Info", "MetaData", "FL", "Registration")
    if stored is None:
        return FluorescenceTransform()
    return FluorescenceTransform(
        rotation_rad=number(stored, "Rotation", 0.0),
        scale=number(stored, "Scale", 1.0),
        translation_um=(number(stored, "TranslationY", 0.0), number(stored, "TranslationX", 0.0)),
    )


def read_stack(
    file: Any, channel: FluorescenceChannel, *, frame: int, reader: Callable[[Any], BlockReader]
) -> np.ndarray:
    """One stack (z, y, x) in camera units, as stored (uint8 or uint16).

    Tiles of 8 bits are levels above the frame's lowest intensity; where that is not 0 they become uint16.

    Raises
    ------
    AcquisitionError
        It is damaged, of another shape than the channel's first, or holds what no camera gives.
    """
    group = member(file, "Data", "3DFL", channel.name)
    node = member(group, frame_names(group)[frame])
    shape = frame_shape(node)
    if shape != channel.shape_zyx:
        raise problem(
            file,
            f"{node.name} has the shape {shape} where the channel's first frame has {channel.shape_zyx}",
            "Only frames of one shape make a series; split the file.",
        )
    if not is_group(node):
        return _camera_units(node, reader(node).read(0, shape[0]))
    tiles = data_tiles(node)
    eight_bit = is_eight_bit(node, [tile.data for tile in tiles])
    base = whole_number(node, "MinIntensity", 0) if eight_bit else 0
    if not 0 <= base <= _MAX_COUNT - 255:
        raise problem(node, f"{node.name} gives MinIntensity as {base}, expected 0 to 65280", "Leave it out.")
    dtype: type[np.generic] = np.uint8 if eight_bit and base == 0 else np.uint16
    stack, _ = assemble(
        [(tile, reader(tile.data)) for tile in tiles],
        start=0,
        stop=shape[0],
        row=shape[1:],
        dtype=dtype,
        convert=lambda block: (_camera_units(node, block).astype(dtype) + dtype(base), 0),
    )
    return stack


def _camera_units(node: Any, stack: np.ndarray) -> np.ndarray:
    if stack.dtype.kind == "f" or (stack.size and not 0 <= stack.min() <= stack.max() <= _MAX_COUNT):
        raise problem(
            node,
            f"{node.name} holds {stack.dtype} from {stack.min()} to {stack.max()}, expected whole numbers to 65535",
            "No camera gives that; leave the channel out.",
        )
    return stack if stack.dtype == np.uint8 else stack.astype(np.uint16, copy=False)
