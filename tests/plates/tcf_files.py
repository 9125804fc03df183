"""A second writer of TCF files, apart from the simulation's: any layout that HDF5 has, truth known voxel by voxel."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np

GEOMETRY = {"ResolutionX": 0.16, "ResolutionY": 0.16, "ResolutionZ": 0.95}


@dataclass
class Stored:
    """An image as it is to be stored, and what must come back.

    Attributes
    ----------
    values
        As stored (z, y, x), or one array a tile.
    truth
        What the reader must give.
    nonfinite
        Voxels that are no number.
    layout
        Options of `h5py.Group.create_dataset`.
    written
        Share of the chunks that are written; the others hold the fill value.
    unfiltered
        Share of the chunks that are stored past their filters.
    tiles
        First and last voxel of each tile that is data; empty for a plain dataset.
    decoys
        Sampling steps of the down-sampled copies.
    spare
        Voxels that a tile is larger than what it covers, per axis.
    attributes
        Of the frame.
    """

    values: np.ndarray
    truth: np.ndarray
    nonfinite: int = 0
    layout: Mapping[str, Any] = field(default_factory=dict)
    written: float = 1.0
    unfiltered: float = 0.0
    tiles: Sequence[tuple[tuple[int, ...], tuple[int, ...]]] = ()
    decoys: Sequence[int] = ()
    decoys_first: bool = True
    digits: int = 2
    spare: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)


Set = Callable[..., None]


def as_arrays(node: Any, **values: Any) -> None:
    """Attributes as the instrument writes them: arrays of length one, strings of fixed length."""
    for name, value in values.items():
        node.attrs[name] = np.array([value.encode() if isinstance(value, str) else value])


def as_scalars(node: Any, **values: Any) -> None:
    """Attributes as scalars, strings as text of any length."""
    for name, value in values.items():
        node.attrs[name] = value


def write_file(
    path: Path,
    frames: Mapping[int, Stored],
    *,
    set_attributes: Set = as_arrays,
    count: int | None = None,
    libver: str = "earliest",
    userblock: int = 0,
    channels: Mapping[str, Mapping[int, Stored]] | None = None,
    projections: Mapping[int, Stored] | None = None,
    seed: int = 0,
) -> Path:
    """Write an acquisition; `count` is the announced number of frames, None for none announced."""
    rng = np.random.default_rng(seed)
    with h5py.File(path, "w", libver=libver, userblock_size=userblock) as file:
        volumes = file.create_group("Data/3D")
        set_attributes(volumes, **GEOMETRY)
        shape = next(iter(frames.values())).values.shape
        set_attributes(volumes, **{f"Size{axis}": size for axis, size in zip("ZYX", shape, strict=True)})
        if count is not None:
            set_attributes(volumes, DataCount=count)
        for number, frame in frames.items():
            write_frame(volumes, f"{number:06d}", frame, set_attributes=set_attributes, rng=rng)
        for number, frame in (projections or {}).items():
            write_frame(
                file.require_group("Data/2DMIP"), f"{number:06d}", frame, set_attributes=set_attributes, rng=rng
            )
        for channel, stacks in (channels or {}).items():
            group = file.require_group(f"Data/3DFL/{channel}")
            set_attributes(file["Data/3DFL"], **GEOMETRY)
            for number, stack in stacks.items():
                write_frame(group, f"{number:06d}", stack, set_attributes=set_attributes, rng=rng)
    return path


def write_frame(group: Any, name: str, frame: Stored, *, set_attributes: Set, rng: np.random.Generator) -> None:
    """A plain dataset, or a group of tiles and decoys."""
    if not frame.tiles:
        node = _write_array(group, name, frame.values, frame, rng=rng)
        set_attributes(node, **frame.attributes)
        return
    node = group.create_group(name)
    axes = "ZYX"[3 - frame.values.ndim :]
    eight_bit = int(frame.values.dtype.itemsize == 1)
    sizes = {f"DataSize{axis}": size for axis, size in zip(axes, frame.values.shape, strict=True)}
    whole = (tuple(0 for _ in axes), tuple(size - 1 for size in frame.values.shape))
    members = [(1, first, last) for first, last in frame.tiles]
    decoys = [(step, *whole) for step in frame.decoys]
    members = decoys + members if frame.decoys_first else members + decoys
    set_attributes(node, **{"ScalarType": eight_bit, "NumberOfTiles": len(members), **sizes, **frame.attributes})
    for number, (step, first, last) in enumerate(members):
        block = frame.values[tuple(slice(f, e + 1, step) for f, e in zip(first, last, strict=True))]
        if step == 1 and frame.spare:
            block = np.pad(block, [(0, frame.spare)] * block.ndim, constant_values=77)
        tile = _write_array(node, f"TILE_{number:0{frame.digits}d}", block, frame, rng=rng)
        set_attributes(tile, SamplingStep=step)
        for axis, start, end in zip(axes, first, last, strict=True):
            set_attributes(tile, **{f"DataIndexOffsetPoint{axis}": start, f"DataIndexLastPoint{axis}": end})


def _write_array(group: Any, name: str, values: np.ndarray, frame: Stored, *, rng: np.random.Generator) -> Any:
    options = dict(frame.layout)
    if options.pop("compact", False):
        return _compact(group, name, values)
    if "chunks" in options:
        options["chunks"] = tuple(min(c, s) for c, s in zip(options["chunks"], values.shape, strict=False))
    if frame.written == 1 and frame.unfiltered == 0:
        return group.create_dataset(name, data=values, **options)
    dataset = group.create_dataset(name, values.shape, dtype=values.dtype, **options)
    chunks = dataset.chunks
    corners = list(product(*(range(0, size, step) for size, step in zip(values.shape, chunks, strict=True))))
    for number, corner in enumerate(corners):
        area = tuple(slice(c, c + step) for c, step in zip(corner, chunks, strict=True))
        if number and rng.random() > frame.written:
            # the truth of a chunk never written is the fill value
            frame.truth[area] = dataset.fillvalue
        elif rng.random() < frame.unfiltered:
            block = np.zeros(chunks, dtype=values.dtype)
            part = values[area]
            block[tuple(slice(0, size) for size in part.shape)] = part
            every = (1 << dataset.id.get_create_plist().get_nfilters()) - 1
            dataset.id.write_direct_chunk(corner, block.tobytes(), filter_mask=every)
        else:
            dataset[area] = values[area]
    return dataset


def _compact(group: Any, name: str, values: np.ndarray) -> Any:
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple(values.shape)
    kind = h5py.h5t.py_create(values.dtype)
    dataset = h5py.Dataset(h5py.h5d.create(group.id, name.encode(), kind, space, settings))
    dataset[...] = values
    return dataset
