"""Positions of a well that overlap become tiles of one wide field."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import AcquisitionError
from .manifest import Source, Tiles
from .opening import open_source
from .survey import Header

if TYPE_CHECKING:
    from ..stitching import StageConvention

Shape = tuple[int, int, int]

# Room that registration needs around what the stage says (z, y, x): sideways as far as stitching lets the stage err,
# axially the little that the sample is tilted. A field that outgrows it is refused, never cut.
_MARGIN_UM = (3.0, 10.0, 10.0)
# A group without texture cannot tell how the stage runs; so many are asked before giving up.
_ASKED = 5


def join_tiles(
    headers: Sequence[Header], *, shape_zyx: Shape | None = None, stage: StageConvention | None = None
) -> list[Header]:
    """Headers with overlapping positions of a well joined, and the fields of each well counted anew.

    All fields of a plate lie on one canvas: the largest that the stage positions of any of them ask for, and some
    room for registration. Fields of a well are numbered by their first position. A well with a position that cannot
    be read has one header, whose problem says so: nobody knows which of its positions go together. A file that does
    not say where it was taken stays a field of its own. Where nothing overlaps, the headers stay as they are, except
    that no position of a well with an unreadable one is converted.

    Parameters
    ----------
    headers
        Of all positions, readable or not.
    shape_zyx, stage
        Canvas of a plate that is there, and how the stage axes run in its pictures; by default found out.

    Raises
    ------
    AcquisitionError
        The overlaps do not tell how the stage axes run, or no field can be made at all.
    """
    visits: dict[tuple[str, int], list[Header]] = defaultdict(list)
    for header in headers:
        visits[header.source.well, header.source.timepoint].append(header)
    wells = [sorted(visit, key=lambda header: header.source.field) for visit in visits.values()]
    grouped = [_groups(visit) for visit in wells]
    tiled = [group for groups in grouped for group in groups if len(group) > 1]
    single = next(header.shape_zyx for header in headers if not header.problem)
    if shape_zyx == single or (shape_zyx is None and not tiled):
        joined = [header for visit, groups in zip(wells, grouped, strict=True) for header in _alone(visit, groups)]
    else:
        stage = stage or _decide_stage(tiled)
        sizes = {group: _size(group, stage=stage) for groups in grouped for group in groups}
        canvas = shape_zyx or _canvas([size for size, _ in sizes.values()], voxel_um=tiled[0][0].voxel_um)
        joined = []
        for visit, groups in zip(wells, grouped, strict=True):
            if unreadable := _unreadable(visit):
                joined.append(_joined(visit, field=0, stage=stage, canvas=canvas, problem=unreadable))
                continue
            for field, group in enumerate(groups):
                size, problem = sizes[group]
                problem = problem or _too_large(group, size=size, canvas=canvas)
                joined.append(_joined(group, field=field, stage=stage, canvas=canvas, problem=problem))
    if all(header.problem for header in joined):
        raise AcquisitionError(f"no field of {len(wells)} wells can be made; the first: {joined[0].problem}")
    return joined


def _groups(visit: Sequence[Header]) -> list[tuple[Header, ...]]:
    """Readable positions that go together, in the order of their first."""
    from ..stitching import group_tiles

    readable = [header for header in visit if not header.problem]
    places = {
        number: (header.position_mm, header.shape_zyx, header.voxel_um)
        for number, header in enumerate(readable)
        if not header.source.part and np.isfinite(header.position_mm).all()
    }
    groups = [*group_tiles(places), *((number,) for number in range(len(readable)) if number not in places)]
    return [tuple(readable[number] for number in group) for group in sorted(groups)]


def _alone(visit: Sequence[Header], groups: Sequence[tuple[Header, ...]]) -> list[Header]:
    """Headers of a well on a plate whose fields are single positions."""
    if unreadable := _unreadable(visit):
        return [_failed(header, problem=header.problem or unreadable) for header in visit]
    found: list[Header] = []
    for group in groups:
        problem = (
            f"{group[0].source.path}: overlaps {len(group) - 1} more positions of its well, but the plate has "
            "single positions as fields. Convert the well into another plate."
        )
        found += group if len(group) == 1 else [_failed(header, problem=problem) for header in group]
    return found


def _decide_stage(tiled: Sequence[tuple[Header, ...]]) -> StageConvention:
    """How the stage axes run, from the group that tells most; opening one is costly."""
    from ..stitching import Mosaic, StageConvention, stitch

    problem: AcquisitionError | None = None
    for group in sorted(tiled, key=_evidence, reverse=True)[:_ASKED]:
        try:
            with ExitStack() as stack:
                mosaic = stitch([stack.enter_context(open_source(header.source)) for header in group], refine=False)
        except AcquisitionError as error:
            problem = problem or error
            continue
        assert isinstance(mosaic, Mosaic)  # of several tiles
        return mosaic.convention
    if problem is not None:
        raise problem
    return StageConvention()  # of single positions, which have nothing to be laid out by


def _evidence(group: Sequence[Header]) -> tuple[int, int]:
    """Stage axes along which a group spreads, and its tiles: a single row says nothing of the other axis."""
    first = group[0]
    side_mm = min(size * step for size, step in zip(first.shape_zyx[1:], first.voxel_um[1:], strict=True)) / 1000
    spread = np.ptp([header.position_mm[:2] for header in group], axis=0)
    return int((spread > side_mm / 2).sum()), len(group)


def _size(group: Sequence[Header], *, stage: StageConvention) -> tuple[Shape, str]:
    """Voxels (z, y, x) that a group covers by the stage, and why it makes no field."""
    from ..stitching import tile_layout

    first = group[0]
    if not set.intersection(*(set(header.frames) for header in group)):
        return first.shape_zyx, f"{first.source.path} and {len(group) - 1} more tiles have no frame in common."
    try:
        offsets = tile_layout(
            [header.position_mm for header in group],
            shape=first.shape_zyx,
            voxel_um=first.voxel_um,
            convention=stage,
            names=[str(header.source.path) for header in group],
        ).offsets
    except AcquisitionError as error:
        return first.shape_zyx, str(error)
    z, y, x = (int(size) for size in np.ceil(np.ptp(offsets, axis=0)) + first.shape_zyx)
    return (z, y, x), ""


def _canvas(sizes: Sequence[Shape], *, voxel_um: tuple[float, float, float]) -> Shape:
    margin = np.ceil(np.array(_MARGIN_UM) / voxel_um)
    z, y, x = (int(size) for size in np.max(sizes, axis=0) + margin)
    return z, y, x


def _too_large(group: Sequence[Header], *, size: Shape, canvas: Shape) -> str:
    if all(have <= room for have, room in zip(size, canvas, strict=True)):
        return ""
    return (
        f"{group[0].source.path}: with {len(group)} overlapping positions its field measures {size} voxels (z, y, x), "
        f"but those of the plate {canvas}. Convert it into another plate."
    )


def _unreadable(visit: Sequence[Header]) -> str:
    """Why a well cannot be stitched; empty where all its positions can be read."""
    bad = [header for header in visit if header.problem]
    if not bad or len(visit) == 1:
        return bad[0].problem if bad else ""
    names = ", ".join(header.source.path.name for header in bad)
    return (
        f"well {visit[0].source.well}: position {names} of this well cannot be read, so its wide field is not made: "
        f"{bad[0].problem}"
    )


def _joined(group: Sequence[Header], *, field: int, stage: StageConvention, canvas: Shape, problem: str) -> Header:
    first = group[0]
    # a lone position lies on the same canvas, the rest of which is missing
    paths: tuple[Path, ...] = tuple(header.source.path for header in group)
    source: Source = replace(first.source, field=field, tiles=Tiles(paths=paths, stage=stage, shape_zyx=canvas))
    planned = max(header.planned for header in group)
    if problem:
        return _failed(replace(first, source=source, planned=planned), problem=problem)
    seconds = dict(zip(first.frames, first.seconds, strict=True))
    frames = sorted(set.intersection(*(set(header.frames) for header in group)))
    return replace(
        first,
        source=source,
        planned=planned,
        frames=tuple(frames),
        seconds=tuple(seconds[frame] for frame in frames),
        shape_zyx=canvas,
        channels=(),
    )


def _failed(header: Header, *, problem: str) -> Header:
    return Header(source=header.source, planned=header.planned, problem=problem)
