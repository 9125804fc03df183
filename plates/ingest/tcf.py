"""TCF files of Tomocube's holotomography microscopes, read one slab of one tomogram at a time.

There is no public specification. What is known comes from the public readers (bioio-tomocube, TCFile,
tcf_to_ometiff, SegmentTomocube, tomocube-tools); where they disagree the choice is a parameter. A file
is decided on by its structure, never by its version strings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from itertools import chain
from math import lcm
from pathlib import Path
from typing import Any

import numpy as np

from ..counts import COUNTS_PER_INDEX
from .acquisition import FluorescenceChannel, Slab, index_counts
from .blocks import BlockReader, RawFile, block_reader, check_disjoint, stored_spans
from .fluorescence import read_channels, read_stack, read_transform
from .hdf5 import (
    damage_named,
    is_group,
    member,
    member_names,
    number,
    opened,
    optional_member,
    problem,
    timestamp,
    whole_number,
)
from .instrument import Instrument, read_instrument
from .tiles import Convert, Tile, assemble, data_tiles, frame_names, frame_shape, is_eight_bit, resolution

_SLAB_VOXELS = 1 << 24
_MAX_FRAMES = 10_000
_LEVEL_COUNTS = 10  # an 8-bit level is 1e-3 of index


@contextmanager
def open_tcf(path: Path, *, zero_level_is_missing: bool = True, threads: int = 1) -> Iterator[TcfFile]:
    """Open an acquisition for lazy reading; only headers are read.

    Parameters
    ----------
    path
        The TCF file.
    zero_level_is_missing
        Whether the stored value 0 of 8-bit data means "not reconstructed", as it does in every other
        variant, rather than the frame's lowest index.
    threads
        How many threads decode the chunks of a slab.

    Raises
    ------
    AcquisitionError
        The file is cut short, still being written, no TCF, or not safe to read (links to other files,
        external storage, impossible sizes).
    """
    path = Path(path)
    with ExitStack() as stack:
        file = stack.enter_context(opened(path))
        raw = stack.enter_context(RawFile(path))
        run: Any = map
        if threads > 1:
            run = stack.enter_context(ThreadPoolExecutor(threads)).map
        reader = partial(block_reader, raw=raw, run=run)
        with damage_named(path):
            acquisition = TcfFile(file, path=path, reader=reader, zero_level_is_missing=zero_level_is_missing)
        yield acquisition


class TcfFile:
    """An open acquisition: its header now, its tomograms on demand.

    Attributes
    ----------
    path
        The file.
    frames
        Numbers of the tomograms present, ascending; a missing one leaves a gap.
    planned
        Number of tomograms that the acquisition announced (``DataCount``), at least those present.
    shape_zyx, voxel_um
        Of the tomograms; um.
    times_s
        Seconds since the first frame, by frame number; NaN where the file does not say.
    recorded
        Local time of the acquisition, or None.
    recorded_frames
        Local time of each frame, or None.
    medium_index
        Index of the medium as entered at the instrument, or NaN.
    positions_mm
        Stage position (x, y, z) of each frame; NaN where the file does not say.
    position_mm
        That of the first.
    channels
        Fluorescence channels by name.
    fluorescence_transform
        How the instrument says they lie on the tomogram.
    """

    def __init__(self, file: Any, *, path: Path, reader: Any, zero_level_is_missing: bool) -> None:
        self.path = path
        self._file = file
        self._reader = reader
        self._zero_level_is_missing = zero_level_is_missing
        volumes = member(file, "Data", "3D")
        if not is_group(volumes):
            raise problem(file, "Data/3D is not a group", "This is not a holotomography file.")
        self._names = frame_names(volumes)
        self.frames = tuple(self._names)
        if not self.frames:
            raise problem(file, "it holds no tomogram (Data/3D is empty)", "Acquire it again, or remove it.")
        announced = whole_number(volumes, "DataCount", 0)
        strangers = [name for name in member_names(volumes) if name not in self._names.values()]
        if strangers and len(self.frames) < announced:
            raise problem(
                file,
                f"it announces {announced} frames and holds {len(self.frames)} beside {strangers[0]!r}, which is none",
                "The file is damaged; copy it again, or remove it.",
            )
        self.planned = max(announced, self.frames[-1] + 1)
        if self.planned > _MAX_FRAMES:
            raise problem(
                file,
                f"it announces {self.planned} frames (numbers up to {self.frames[-1]})",
                "The file is damaged; copy it again, or remove it.",
            )
        self.voxel_um = resolution(volumes)
        nodes = {frame: self._frame(frame) for frame in self.frames}
        first = nodes[self.frames[0]]
        check_disjoint(volumes, chain.from_iterable(map(stored_spans, nodes.values())))
        depth, height, width = frame_shape(first)
        self.shape_zyx = (depth, height, width)
        _check_announced(volumes, self.shape_zyx, frame=first)
        interval = number(volumes, "TimeInterval")
        self.times_s: Mapping[int, float] = {
            frame: _seconds(node, frame, interval=interval, only=len(nodes) == 1) for frame, node in nodes.items()
        }
        self.recorded = timestamp(file, "RecordingTime")
        self.recorded_frames: Mapping[int, datetime | None] = {
            frame: timestamp(node, "RecordingTime") for frame, node in nodes.items()
        }
        self.positions_mm: Mapping[int, tuple[float, ...]] = {
            frame: tuple(number(node, f"Position{axis}") for axis in "XYZ") for frame, node in nodes.items()
        }
        self.position_mm = self.positions_mm[self.frames[0]]
        device = optional_member(file, "Info", "Device")
        self.medium_index = _as_index(number(device, "RI")) if device is not None else float("nan")
        self.channels: Mapping[str, FluorescenceChannel] = read_channels(file)
        self.fluorescence_transform = read_transform(file)
        first = self._frame(self.frames[0])
        self.format = "TCF"
        self.stored = f"LDM {data_tiles(first)[0].data.dtype.name}" if is_group(first) else first.dtype.name

    @cached_property
    def instrument(self) -> Instrument:
        """What the file and those beside it say of the microscope and the vessel; read on first use."""
        return read_instrument(self._file, path=self.path)

    def describe_instrument(self) -> dict[str, Any]:
        """What the file and those beside it say of the microscope and the vessel, as JSON."""
        return self.instrument.to_dict()

    def slabs(self, frame: int, *, depth: int = 1) -> Iterator[Slab]:
        """Yield a tomogram in slabs along z, in order, each of whole chunks and some 16 million voxels at most.

        A slab holds at least one slice, or the depth of one chunk.

        Parameters
        ----------
        depth
            Slabs of a multiple of so many slices suit the caller, where chunks allow it.

        Raises
        ------
        AcquisitionError
            The frame is missing, of another shape, unreadable, or holds values that are no index.
        """
        if frame not in self._names:
            raise problem(
                self._file, f"frame {frame} is missing (present: {len(self.frames)} of {self.planned})", "Leave it out."
            )
        with damage_named(self.path):
            node = self._frame(frame)
            shape = frame_shape(node)
            if shape != self.shape_zyx:
                raise problem(
                    self._file,
                    f"frame {frame} has the shape {shape} where frame {self.frames[0]} has {self.shape_zyx}",
                    "Only frames of one shape make a series; split the file.",
                )
            image = self._image(node, axes="ZYX", where=f"{self.path}: frame {frame}")
        step = image.thickness(depth)
        for z in range(0, shape[0], step):
            with damage_named(self.path):
                counts, nonfinite = image.read(z, min(z + step, shape[0]))
            yield Slab(z=z, counts=counts, nonfinite=nonfinite)

    def projection(self, frame: int) -> np.ndarray:
        """Maximum over z of a tomogram as uint16 counts (y, x); 0 = missing.

        The instrument's own where the file holds one, else made from the volume.
        """
        own = self.own_projection(frame)
        if own is not None:
            return own
        top = np.zeros(self.shape_zyx[1:], dtype=np.uint16)
        for slab in self.slabs(frame):
            np.maximum(top, slab.counts.max(axis=0), out=top)
        return top

    def own_projection(self, frame: int) -> np.ndarray | None:
        """Maximum over z that the instrument stored beside a tomogram, or None where there is none of its size.

        A few MB that stand for hundreds; and a check of them, since neither has a checksum in many files.
        """
        if frame not in self._names:
            return None
        with damage_named(self.path):
            stored = optional_member(self._file, "Data", "2DMIP", self._names[frame])
            if stored is None or not (is_group(stored) or stored.ndim == 2):
                return None
            if frame_shape(stored, axes="YX") != self.shape_zyx[1:]:
                return None
            image = self._image(stored, axes="YX", where=f"{self.path}: projection of frame {frame}")
            return image.read(0, self.shape_zyx[1])[0]

    def read_fluorescence(self, channel: str, *, frame: int) -> np.ndarray:
        """One fluorescence stack (z, y, x) in camera units, as stored (uint8 or uint16)."""
        if channel not in self.channels or frame not in self.channels[channel].frames:
            raise problem(self._file, f"fluorescence {channel!r} frame {frame} is missing", "Leave it out.")
        with damage_named(self.path):
            return read_stack(self._file, self.channels[channel], frame=frame, reader=self._reader)

    def _frame(self, frame: int) -> Any:
        return member(self._file, "Data", "3D", self._names[frame])

    def _image(self, node: Any, *, axes: str, where: str) -> _Image:
        """A tomogram or a projection, whole or tiled, ready to be read in slabs."""
        shape = frame_shape(node, axes=axes)
        tiles = data_tiles(node, axes=axes) if is_group(node) else [_whole(node)]
        if is_eight_bit(node, [tile.data for tile in tiles]):
            convert = partial(_level_counts, table=self._level_table(node))
        else:
            convert = partial(index_counts, where=where)
        return _Image(
            shape=shape,
            tiles=tuple((tile, self._reader(tile.data)) for tile in tiles),
            tiled=is_group(node),
            convert=convert,
        )

    def _level_table(self, frame: Any) -> np.ndarray:
        """Counts that the levels of an 8-bit frame stand for."""
        lowest = _as_index(number(frame, "RIMin"))
        if not 1 <= lowest < 3:
            raise problem(
                frame,
                f"{frame.name} holds 8-bit levels above a lowest index (RIMin) of {lowest}",
                "Without it the levels mean nothing; copy the file again, or remove it.",
            )
        table = round(lowest * COUNTS_PER_INDEX) + _LEVEL_COUNTS * np.arange(256, dtype=np.uint16)
        if self._zero_level_is_missing:
            table[0] = 0
        return np.asarray(table, dtype=np.uint16)


@dataclass(frozen=True)
class _Image:
    """A frame on its way to counts."""

    shape: tuple[int, ...]
    tiles: tuple[tuple[Tile, BlockReader], ...]
    tiled: bool
    convert: Convert

    def thickness(self, wanted: int) -> int:
        """Slices a slab: some 16 million voxels, rounded to whole chunks so that none is decoded twice."""
        chunk = max(1, *(reader.depth for _, reader in self.tiles))
        thickness = _SLAB_VOXELS // (self.shape[1] * self.shape[2])
        both = lcm(chunk, wanted)
        # somewhat more than that in memory costs less than copying slabs together
        unit = both if both <= 2 * thickness else chunk
        return min(self.shape[0], max(unit, thickness // unit * unit))

    def read(self, start: int, stop: int) -> tuple[np.ndarray, int]:
        """Slices as counts, and how many voxels were no number."""
        if not self.tiled:
            return self.convert(self.tiles[0][1].read(start, stop))
        return assemble(self.tiles, start=start, stop=stop, row=self.shape[1:], dtype=np.uint16, convert=self.convert)


def _whole(data: Any) -> Tile:
    return Tile(data=data, first=(0,) * data.ndim, last=tuple(size - 1 for size in data.shape))


def _level_counts(levels: np.ndarray, *, table: np.ndarray) -> tuple[np.ndarray, int]:
    return table[levels.view(np.uint8)], 0


def _check_announced(volumes: Any, shape: tuple[int, ...], *, frame: Any) -> None:
    """What the series says of its size must be what the frame says: no checksum guards either."""
    announced = tuple(whole_number(volumes, f"Size{axis}", size) for axis, size in zip("ZYX", shape, strict=True))
    if announced != shape:
        raise problem(
            volumes,
            f"{volumes.name} announces tomograms of {announced} voxels (z, y, x), {frame.name} has {shape}",
            "The file is damaged; copy it again, or remove it.",
        )


def _seconds(node: Any, frame: int, *, interval: float, only: bool) -> float:
    seconds = number(node, "Time")
    if np.isfinite(seconds):
        return seconds
    if np.isfinite(interval):
        return interval * frame
    return 0.0 if only else float("nan")


def _as_index(value: float) -> float:
    """Indices come as 1.33 or as 13300."""
    return value / COUNTS_PER_INDEX if value > 100 else value
