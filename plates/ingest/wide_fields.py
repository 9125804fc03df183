"""Positions of a well that overlap become tiles of one wide field."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from .manifest import Source, Tiles
from .survey import Header


def join_tiles(headers: Sequence[Header]) -> list[Header]:
    """Headers with overlapping positions of a well joined, and the fields of each well counted anew.

    How the axes of the stage run, and the size of a wide field, are those of the largest group of tiles, which is
    registered for that; registration moves the size of the others by a few voxels, so they are cut or filled.
    A file that cannot be read, or that does not say where it was taken, stays a field of its own.

    Raises
    ------
    AcquisitionError
        The tiles do not make one field.
    """
    from ..stitching import Mosaic, group_tiles, open_mosaic

    visits: dict[tuple[str, int], list[Header]] = defaultdict(list)
    for header in headers:
        visits[header.source.well, header.source.timepoint].append(header)
    groups: list[tuple[Header, ...]] = []
    for members in visits.values():
        members = sorted(members, key=lambda header: (bool(header.problem), header.source.field))
        places = {
            number: (header.position_mm, header.shape_zyx, header.voxel_um)
            for number, header in enumerate(members)
            if not header.problem and not header.source.part and np.isfinite(header.position_mm).all()
        }
        joined = [tuple(members[number] for number in group) for group in group_tiles(places)]
        alone = [(header,) for number, header in enumerate(members) if number not in places]
        groups += [*joined, *alone]
    largest = max(groups, key=len)
    if len(largest) == 1:
        return list(headers)
    with open_mosaic(_paths(largest)) as mosaic:
        assert isinstance(mosaic, Mosaic)  # of several tiles
        stage, shape_zyx = mosaic.convention, mosaic.shape_zyx
    fields: dict[tuple[str, int], int] = defaultdict(int)
    joined_headers = []
    for group in groups:
        place = (group[0].source.well, group[0].source.timepoint)
        source = replace(group[0].source, field=fields[place])
        fields[place] += 1
        if not group[0].problem:
            # a lone position lies on the same canvas, the rest of which is missing
            source = replace(source, tiles=Tiles(paths=_paths(group), stage=stage, shape_zyx=shape_zyx))
        joined_headers.append(_joined(group, source=source))
    return joined_headers


def _joined(group: Sequence[Header], *, source: Source) -> Header:
    if source.tiles is None:
        return replace(group[0], source=source)
    first = group[0]
    seconds = dict(zip(first.frames, first.seconds, strict=True))
    frames = sorted(set.intersection(*(set(header.frames) for header in group)))
    return replace(
        first,
        source=source,
        planned=max(header.planned for header in group),
        frames=tuple(frames),
        seconds=tuple(seconds[frame] for frame in frames),
        shape_zyx=source.tiles.shape_zyx,
        channels=(),
    )


def _paths(group: Sequence[Header]) -> tuple[Path, ...]:
    return tuple(header.source.path for header in group)
