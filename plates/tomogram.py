"""A tomogram passes through memory once: its shards, coarser levels, projections and histogram are made on the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .errors import StoreError
from .shards import ShardWriter, chunk_columns

_SAMPLED_VOXELS = 500_000
_VALUES = 1 << 16


@dataclass(frozen=True)
class Passed:
    """What is left of a tomogram when it has passed.

    Attributes
    ----------
    maximum
        Largest count along z (y, x), uint16; 0 = missing throughout.
    total, present
        Sum of counts along z and number of voxels that are not missing (y, x), uint32.
    histogram
        Voxels by count (65536) on an even grid of some 500,000; voxels that are missing left out.
    missing
        Voxels that are missing.
    shape_zyx
        Of the tomogram.
    """

    maximum: np.ndarray
    total: np.ndarray
    present: np.ndarray
    histogram: np.ndarray
    missing: int
    shape_zyx: tuple[int, int, int]


def pass_through(
    slabs: Iterable[np.ndarray],
    *,
    shape_zyx: tuple[int, int, int],
    chunk: tuple[int, int, int],
    writers: Sequence[ShardWriter] = (),
    factor: int = 4,
) -> Passed:
    """Write a tomogram and its coarser levels, and gather what its projections and statistics need.

    A chunk is compressed, summed, searched for its maximum and shrunk while it lies in the processor's cache.
    At most one slab, and one layer of chunks where slabs and layers do not coincide, are in memory.

    Parameters
    ----------
    slabs
        Parts of the tomogram along z in order, uint16 counts (z, y, x); 0 = missing. They are not altered.
    shape_zyx
        Of the whole tomogram.
    chunk
        Of the finest level; the depth is that of all levels.
    writers
        Shards of the levels, finest first; none where only the digest is wanted.
    factor
        By which each level is coarser along y and x than the one before; a power of two that divides the chunks.

    Raises
    ------
    StoreError
        The slabs do not make a tomogram of that shape.
    """
    maximum = np.zeros(shape_zyx[1:], dtype=np.uint16)
    total = np.zeros(shape_zyx[1:], dtype=np.uint32)
    present = np.zeros(shape_zyx[1:], dtype=np.uint32)
    histogram = np.zeros(_VALUES, dtype=np.int64)
    stride = sampling_stride(shape_zyx)
    missing = 0
    for number, layer in enumerate(_layers(slabs, shape_zyx=shape_zyx, depth=chunk[0])):
        histogram += np.bincount(layer[:, ::stride, ::stride].ravel(), minlength=_VALUES)
        coarse = np.zeros((len(layer), *(-(-size // factor) for size in shape_zyx[1:])), dtype=np.uint16)
        for row, column, part in chunk_columns(layer, chunk=chunk):
            part = np.ascontiguousarray(part)
            if writers:
                writers[0].write_chunk((number, row, column), part)
            y, x = row * chunk[1], column * chunk[2]
            here = np.s_[y : y + part.shape[1], x : x + part.shape[2]]
            np.maximum(maximum[here], part.max(axis=0), out=maximum[here])
            total[here] += part.sum(axis=0, dtype=np.uint32)
            if part.min() > 0:
                present[here] += len(part)
            else:
                there = np.count_nonzero(part, axis=0).astype(np.uint32)
                present[here] += there
                missing += part.size - int(there.sum())
            if len(writers) > 1:
                small = shrink(part, factor=factor)
                y, x = y // factor, x // factor
                coarse[:, y : y + small.shape[1], x : x + small.shape[2]] = small
        for writer in writers[1:]:
            writer.write_slab(number, coarse)
            if writer is not writers[-1]:
                coarse = shrink(coarse, factor=factor)
    histogram[0] = 0
    return Passed(maximum, total, present, histogram, missing, shape_zyx)


def sampling_stride(shape_zyx: tuple[int, ...]) -> int:
    """Every how many pixels along y and x a tomogram is sampled."""
    return max(1, int(np.sqrt(np.prod(shape_zyx, dtype=float) / _SAMPLED_VOXELS)))


def shrink(image: np.ndarray, *, factor: int) -> np.ndarray:
    """Rounded mean of factor x factor pixels of every slice (z, y, x), over those that are not missing (0).

    A truncated mean, as most writers take, would lower the index by half a count at every level. At an edge that
    does not divide, the mean is over the pixels there are.
    """
    height, width = (size // factor * factor for size in image.shape[1:])
    rows, columns = height // factor, width // factor
    small = np.empty((len(image), *(-(-size // factor) for size in image.shape[1:])), dtype=np.uint16)
    small[:, :rows, :columns] = _means(image[:, :height, :width], factor=factor)
    for strip, target in (
        (image[:, height:], small[:, rows:]),
        (image[:, :height, width:], small[:, :rows, columns:]),
    ):
        if strip.size:
            # missing pixels have no say in the mean, so they may fill the edge
            filled = np.zeros((len(strip), *(size * factor for size in target.shape[1:])), dtype=image.dtype)
            filled[:, : strip.shape[1], : strip.shape[2]] = strip
            target[...] = _means(filled, factor=factor)
    return small


def _means(image: np.ndarray, *, factor: int) -> np.ndarray:
    if image.size == 0:
        return np.empty((len(image), image.shape[1] // factor, image.shape[2] // factor), dtype=np.uint16)
    if image.min() > 0 and factor * int(image.max()) < _VALUES:
        # all there, and the sum of a column of pixels fits 16 bits: the usual case, several times faster
        rows = image[:, ::factor].copy()
        for step in range(1, factor):
            rows += image[:, step::factor]
        sums = _neighbour_sums(rows, factor=factor)
        sums += sums.dtype.type(factor * factor // 2)
        sums >>= sums.dtype.type(2 * (factor.bit_length() - 1))
        return sums.astype(np.uint16)
    rows32 = np.add.reduce([image[:, step::factor] for step in range(factor)], dtype=np.uint32)
    there = np.add.reduce([image[:, step::factor] > 0 for step in range(factor)], dtype=np.uint32)
    sums = np.add.reduce([rows32[:, :, step::factor] for step in range(factor)])
    number = np.add.reduce([there[:, :, step::factor] for step in range(factor)])
    return np.asarray((sums + number // 2) // np.maximum(number, 1)).astype(np.uint16)


def _neighbour_sums(rows: np.ndarray, *, factor: int) -> np.ndarray:
    """Sums of `factor` neighbours along x of uint16: 2 or 4 of them are added as lanes of one wide integer."""
    if factor == 2:
        pairs = rows.view(np.uint32)
        return np.asarray((pairs & np.uint32(0xFFFF)) + (pairs >> np.uint32(16)))
    if factor == 4:
        lanes = rows.view(np.uint64)
        mask = np.uint64(0x0000FFFF0000FFFF)
        pairs = (lanes & mask) + ((lanes >> np.uint64(16)) & mask)
        return np.asarray((pairs & np.uint64(0xFFFFFFFF)) + (pairs >> np.uint64(32)))
    return np.asarray(np.add.reduce([rows[:, :, step::factor] for step in range(factor)], dtype=np.uint32))


def _layers(slabs: Iterable[np.ndarray], *, shape_zyx: tuple[int, int, int], depth: int) -> Iterator[np.ndarray]:
    """Slabs of any thickness as layers of one chunk's depth; the last may be thinner."""
    held: list[np.ndarray] = []
    seen = 0
    for slab in slabs:
        seen += len(slab)
        if slab.dtype != np.uint16 or slab.ndim != 3 or slab.shape[1:] != shape_zyx[1:] or seen > shape_zyx[0]:
            raise StoreError(f"got {slab.dtype} {(seen, *slab.shape[1:])}, expected uint16 {shape_zyx}")
        while len(slab):
            wanted = depth - sum(len(part) for part in held)
            held.append(slab[:wanted])
            slab = slab[wanted:]
            if sum(len(part) for part in held) == depth:
                yield held[0] if len(held) == 1 else np.concatenate(held)
                held = []
        # a slice of the slab would keep all of it alive
        held = [part.copy() for part in held]
    if seen != shape_zyx[0]:
        raise StoreError(f"got {seen} slices, expected uint16 {shape_zyx}")
    if held:
        yield np.concatenate(held)
