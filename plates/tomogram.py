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
    absent = np.zeros(shape_zyx[1:], dtype=np.uint32)
    histogram = np.zeros(_VALUES, dtype=np.int64)
    stride = sampling_stride(shape_zyx)
    whole = np.zeros(chunk, dtype=np.uint16)
    for number, layer in enumerate(_layers(slabs, shape_zyx=shape_zyx, depth=chunk[0])):
        histogram += np.bincount(layer[:, ::stride, ::stride].ravel(), minlength=_VALUES)
        coarse = np.zeros((len(layer), *(-(-size // factor) for size in shape_zyx[1:])), dtype=np.uint16)
        for row, column, seen in chunk_columns(layer, chunk=chunk):
            if seen.shape != chunk:
                whole[...] = 0
            part = whole[tuple(slice(size) for size in seen.shape)]
            part[...] = seen
            if writers:
                writers[0].write_chunk((number, row, column), whole)
            y, x = row * chunk[1], column * chunk[2]
            here = np.s_[y : y + part.shape[1], x : x + part.shape[2]]
            tops = part.max(axis=0)
            lowest, highest = int(part.min()), int(tops.max())
            np.maximum(maximum[here], tops, out=maximum[here])
            total[here] += _sums(part, lowest=lowest, highest=highest)
            if lowest == 0:
                absent[here] += np.count_nonzero(part == 0, axis=0).astype(np.uint32)
            if len(writers) > 1:
                small = _shrink(part, factor=factor, lowest=lowest, highest=highest)
                y, x = y // factor, x // factor
                coarse[:, y : y + small.shape[1], x : x + small.shape[2]] = small
        for writer in writers[1:]:
            writer.write_slab(number, coarse)
            if writer is not writers[-1]:
                coarse = shrink(coarse, factor=factor)
    histogram[0] = 0
    missing = int(absent.sum(dtype=np.uint64))
    return Passed(maximum, total, np.uint32(shape_zyx[0]) - absent, histogram, missing, shape_zyx)


def sampling_stride(shape_zyx: tuple[int, ...]) -> int:
    """Every how many pixels along y and x a tomogram is sampled."""
    return max(1, int(np.sqrt(np.prod(shape_zyx, dtype=float) / _SAMPLED_VOXELS)))


def shrink(image: np.ndarray, *, factor: int) -> np.ndarray:
    """Rounded mean of factor x factor pixels of every slice (z, y, x), over those that are not missing (0).

    A truncated mean, as most writers take, would lower the index by half a count at every level. At an edge that
    does not divide, the mean is over the pixels there are.
    """
    return _shrink(image, factor=factor, lowest=int(image.min()), highest=int(image.max()))


def _shrink(image: np.ndarray, *, factor: int, lowest: int, highest: int) -> np.ndarray:
    height, width = (size // factor * factor for size in image.shape[1:])
    rows, columns = height // factor, width // factor
    small = np.empty((len(image), *(-(-size // factor) for size in image.shape[1:])), dtype=np.uint16)
    even = image[:, :height, :width]
    if lowest > 0 and factor in (2, 4) and (highest - lowest) * factor**2 < _VALUES:
        _mean_of_near(even, factor=factor, lowest=lowest, out=small[:, :rows, :columns])
    else:
        small[:, :rows, :columns] = _mean_of_present(even, factor=factor)
    for strip, target in (
        (image[:, height:], small[:, rows:]),
        (image[:, :height, width:], small[:, :rows, columns:]),
    ):
        if strip.size:
            # missing pixels have no say in the mean, so they may fill the edge
            filled = np.zeros((len(strip), *(size * factor for size in target.shape[1:])), dtype=image.dtype)
            filled[:, : strip.shape[1], : strip.shape[2]] = strip
            target[...] = _mean_of_present(filled, factor=factor)
    return small


def _mean_of_near(image: np.ndarray, *, factor: int, lowest: int, out: np.ndarray) -> None:
    """Means where no pixel is missing and what exceeds the lowest, summed over a block, fits 16 bits.

    Several times faster than the general case: everything stays in 16 bits, and neighbours along x are added as
    parts of one wide integer, none of which overflows into the next.
    """
    base = np.uint16(factor * lowest % _VALUES)
    excess = image[:, ::factor] - base  # wraps around, and back with the rows that are added
    for step in range(1, factor):
        excess += image[:, step::factor]
    if factor == 2:
        pairs = excess.view(np.uint32)
        pairs += pairs >> np.uint32(16)
        sums = pairs.astype(np.uint16)
    else:
        fours = excess.view(np.uint64)
        fours += fours >> np.uint64(32)
        fours += fours >> np.uint64(16)
        sums = fours.astype(np.uint16)
    # the rounding must not overflow either
    half, bits = factor * factor // 2, np.uint16(2 * (factor.bit_length() - 1))
    rest = sums & np.uint16(2 * half - 1)
    np.right_shift(sums, bits, out=out)
    out += rest >= half
    out += np.uint16(lowest)


def _mean_of_present(image: np.ndarray, *, factor: int) -> np.ndarray:
    if image.size == 0:
        return np.empty((len(image), image.shape[1] // factor, image.shape[2] // factor), dtype=np.uint16)
    rows = np.add.reduce([image[:, step::factor] for step in range(factor)], dtype=np.uint32)
    there = np.add.reduce([image[:, step::factor] > 0 for step in range(factor)], dtype=np.uint32)
    sums = np.add.reduce([rows[:, :, step::factor] for step in range(factor)])
    number = np.add.reduce([there[:, :, step::factor] for step in range(factor)])
    return np.asarray((sums + number // 2) // np.maximum(number, 1)).astype(np.uint16)


def _sums(part: np.ndarray, *, lowest: int, highest: int) -> np.ndarray:
    """Sums along z (y, x), uint32."""
    if (highest - lowest) * len(part) >= _VALUES:
        return np.asarray(part.sum(axis=0, dtype=np.uint32))
    # what exceeds the lowest fits 16 bits, so the sum may wrap around: four times faster than in 32 bits
    excess = part.sum(axis=0, dtype=np.uint16) - np.uint16(lowest * len(part) % _VALUES)
    return np.asarray(excess + np.uint32(lowest * len(part)))


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
