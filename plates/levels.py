"""The levels of an image: how coarse each is, and how it is cut into chunks."""

from __future__ import annotations

from dataclasses import dataclass

from .shards import chunk_shape

# A quarter of a tomogram's depth by a patch: measured as fast for a patch as whole columns and three times
# faster for a slice.
_VOLUME_CHUNK = (15, 160, 160)
# Projections are read whole; small ones are a single chunk.
_PROJECTION_CHUNK = (1, 512, 512)
# 4 x 4 pixels of 0.16 um are as wide as a slice is thick, so the second level of a tomogram has even voxels;
# steps of 2 would cost five times the time and room for levels that few look at.
VOLUME_FACTOR = 4
PROJECTION_FACTOR = 2
_PROJECTION_LEVELS = 3
_WIDE = 256  # px; a coarser level of a narrower image serves nobody


@dataclass(frozen=True)
class Level:
    """One level of an image.

    Attributes
    ----------
    shape, chunk
        (z, y, x).
    factor
        Pixels of the finest level in one of this along y and x.
    """

    shape: tuple[int, int, int]
    chunk: tuple[int, int, int]
    factor: int


def volume_levels(shape_zyx: tuple[int, int, int]) -> list[Level]:
    """Levels of a tomogram, finest first: two, and more while the coarsest is wide; z, coarse already, is kept."""
    levels = [_level(shape_zyx, factor=VOLUME_FACTOR**number, target=_VOLUME_CHUNK) for number in range(2)]
    while min(levels[-1].shape[1:]) > _WIDE:
        levels.append(_level(shape_zyx, factor=VOLUME_FACTOR ** len(levels), target=_VOLUME_CHUNK))
    return levels


def projection_levels(shape_zyx: tuple[int, int, int]) -> list[Level]:
    """Levels of a tomogram's projections, finest first."""
    return [
        _level((1, *shape_zyx[1:]), factor=PROJECTION_FACTOR**number, target=_PROJECTION_CHUNK)
        for number in range(_PROJECTION_LEVELS)
    ]


def _level(shape_zyx: tuple[int, int, int], *, factor: int, target: tuple[int, int, int]) -> Level:
    z, y, x = shape_zyx
    shape = (z, -(-y // factor), -(-x // factor))
    return Level(shape=shape, chunk=chunk_shape(shape, target=target, step=VOLUME_FACTOR), factor=factor)
