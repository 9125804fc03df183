"""Annotated volumes: the same patches as on projections, cut from the tomograms around the plane of focus."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from plates import store
from plates.counts import COUNTS_PER_INDEX
from plates.errors import SettingsError
from plates.patches import FOREGROUND_INDEX, PATCH_PX, analysis_shape
from plates.states import STATES

from .classifier import relative_index, to_analysis_scale
from .datasets import (
    MARGIN_PX,
    Patches,
    Projections,
    annotated_fields,
    by_split,
    cut_patch,
    labelled,
    room_for,
    where_of,
)


class Tomograms(Projections, Protocol):
    """What is asked of a plate here; `plates.store.open_plate` gives it."""

    def volume(self, well: str, *, field: int, timepoint: int) -> npt.NDArray[np.uint16]:
        """Tomogram (z, y, x) in counts."""
        ...


def read_volumes(
    table: pd.DataFrame,
    *,
    planes: int,
    um_per_plane: float,
    open_plate: Callable[[Path], Tomograms] | None = None,
    medium_of: Callable[[Path], Callable[[str, int, int], float]] | None = None,
    patch_px: int = PATCH_PX,
    states: Sequence[str] = STATES,
    into: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Patches:
    """Read every annotated patch from its plate's tomograms, at 0.16 um per pixel and `um_per_plane` along z.

    Each tomogram is read once. Its planes are taken around the focus (`focus_plane`); where it is shallower
    than `planes`, medium is added below and above.

    Parameters
    ----------
    table, open_plate, medium_of, patch_px, states, progress
        As in `datasets.read_patches`: the patches of the same table are the same places in the same order.
    planes, um_per_plane
        Planes of a volume, and their distance.
    into
        File (.npy) to hold the volumes, 74 kB a plane, so that they need no memory; None keeps them in memory.

    Raises
    ------
    SettingsError
        Naming the line, if a well, field or timepoint is not in its plate or a patch lies outside its field.
    StoreError
        If a tomogram is missing or damaged.
    """
    if planes < 1 or not 0 < um_per_plane < math.inf:
        raise SettingsError(
            f"Volumes of {planes} planes {um_per_plane} um apart cannot be cut. Expected at least one plane and a "
            "distance above 0 um, such as 24 planes of 0.875 um."
        )
    size = patch_px + 2 * MARGIN_PX
    table = by_split(table)
    counts = room_for((len(table), planes, size, size), into=into)
    corner = np.zeros((len(table), 2), dtype=np.int64)
    medium_index = np.zeros(len(table), dtype=np.float32)
    done = 0
    for field in annotated_fields(table, open_plate=open_plate or store.open_plate, medium_of=medium_of):
        volume = field.plate.volume(field.well, field=field.field, timepoint=field.timepoint)
        resampled = planes_at_analysis_scale(
            volume,
            voxel_um=field.plate.voxel_um,
            medium_index=field.medium_index,
            planes=planes,
            um_per_plane=um_per_plane,
        )
        extent_um = np.array(volume.shape[1:]) * np.array(field.plate.voxel_um[1:])
        for number, image in enumerate(resampled):
            um_per_px = extent_um / np.array(image.shape)
            for place, row in zip(field.rows.index, field.rows.itertuples(), strict=True):
                centre = np.array([row.y_um, row.x_um], dtype=float) / um_per_px
                counts[place, number], corner[place] = cut_patch(image, centre, patch_px, size, where_of(row))
        medium_index[field.rows.index] = field.medium_index
        done += len(field.rows)
        if progress is not None:
            progress(done, len(table))
    return labelled(table, counts, corner, medium_index, states=states, um_per_plane=um_per_plane)


def planes_at_analysis_scale(
    volume: npt.NDArray[np.uint16],
    *,
    voxel_um: tuple[float, float, float],
    medium_index: float,
    planes: int,
    um_per_plane: float,
) -> Iterator[npt.NDArray[np.uint16]]:
    """Yield a tomogram's planes around the focus, from below upwards, resampled as projections are.

    A few planes are held at a time, however wide the field.

    Parameters
    ----------
    volume
        (z, y, x) in counts; missing voxels become medium.
    voxel_um
        Its voxel (z, y, x).
    medium_index
        Of the field.
    planes, um_per_plane
        Planes wanted, and their distance.

    Yields
    ------
    plane
        (y, x) in counts at 0.16 um per pixel.
    """
    weights = axial_weights(
        len(volume),
        centre=focus_plane(volume, medium_index=medium_index),
        planes=planes,
        step=um_per_plane / voxel_um[0],
    )
    shape = analysis_shape((volume.shape[1], volume.shape[2]), voxel_um=voxel_um[1:])
    held: dict[int, torch.Tensor] = {}
    for row in weights:
        wanted = [int(plane) for plane in np.flatnonzero(row)]
        held = {plane: image for plane, image in held.items() if plane in wanted}
        for plane in wanted:
            if plane not in held:
                relative = relative_index(torch.from_numpy(volume[plane].astype(np.int32)), medium_index=medium_index)
                held[plane] = to_analysis_scale(relative, voxel_um=voxel_um[1:])
        image = torch.zeros(shape)
        for plane in wanted:
            image.add_(held[plane], alpha=float(row[plane]))
        # clipped as projections are: 0 would mean missing
        yield image.add_(medium_index).mul_(COUNTS_PER_INDEX).round_().clamp_(1, 32767).numpy().astype(np.uint16)


def focus_plane(volume: npt.NDArray[np.uint16], *, medium_index: float) -> int:
    """The plane in which the cells' dry mass has its centre: halfway up the layer of cells.

    Over the whole field, of all voxels more than `FOREGROUND_INDEX` above the medium, each by its excess,
    which is proportional to its dry mass. A whole plane, not a fraction of one: interpolation would soften the
    noise of some fields and not of others. The middle plane where there is no cell.
    """
    threshold = (medium_index + FOREGROUND_INDEX) * COUNTS_PER_INDEX
    mass = np.zeros(len(volume))
    for number, plane in enumerate(volume):
        cells = plane[plane > threshold]
        mass[number] = cells.sum(dtype=np.float64) - cells.size * medium_index * COUNTS_PER_INDEX
    if mass.sum() <= 0:
        return len(volume) // 2
    return round(float((mass * np.arange(len(volume))).sum() / mass.sum()))


def axial_weights(stored: int, *, centre: int, planes: int, step: float) -> npt.NDArray[np.float64]:
    """How much each stored plane gives to each plane wanted, (planes, stored).

    Linear between neighbours, or over `step` planes where that is more, as antialiasing wants. A window that
    fits into the tomogram is moved inside; one that does not is centred on it, and where it looks beyond the
    tomogram the rows sum to less than 1: the rest is medium.

    Parameters
    ----------
    stored
        Planes of the tomogram.
    centre
        The plane that is to be in the middle: at place planes // 2.
    planes
        Planes wanted.
    step
        Their distance, in stored planes.
    """
    lowest, highest = -step * (planes // 2), step * (planes - 1 - planes // 2)
    room = (-lowest, stored - 1 - highest)
    if room[0] <= room[1]:
        middle = min(max(float(centre), math.ceil(room[0])), math.floor(room[1]))
    else:
        middle = float(math.floor((room[0] + room[1]) / 2))
    position = middle + lowest + step * np.arange(planes)
    width = max(1.0, step)
    # planes beyond the tomogram take part in the sum to 1, and are then left out
    beyond = math.ceil(step * planes + width) + stored
    lattice = np.arange(-beyond, stored + beyond)
    weights = np.maximum(1 - np.abs(lattice - position[:, None]) / width, 0)
    weights /= weights.sum(axis=1, keepdims=True)
    inside: npt.NDArray[np.float64] = weights[:, beyond : beyond + stored]
    return inside
