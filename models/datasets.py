"""Annotated patches: from a table and its plates to images with the state of each."""

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from plates import store
from plates.counts import COUNTS_PER_INDEX
from plates.errors import NoSpaceError, SettingsError
from plates.patches import PATCH_PX
from plates.results import read_result, results_path
from plates.states import STATES

from .classifier import Card, relative_index, to_analysis_scale
from .splits import SPLITS, well_groups

# Context read around a patch, so that a random shift shows real pixels and not a filled border.
MARGIN_PX = 16


class Projections(Protocol):
    """What is asked of a plate here; `plates.store.open_plate` gives it."""

    @property
    def wells(self) -> tuple[str, ...]:
        """Wells of the plate."""
        ...

    @property
    def fields(self) -> int:
        """Fields of each well."""
        ...

    @property
    def timepoints(self) -> int:
        """Timepoints of each field."""
        ...

    @property
    def voxel_um(self) -> tuple[float, float, float]:
        """Size of a voxel (z, y, x)."""
        ...

    def projection(self, well: str, *, field: int, timepoint: int) -> npt.NDArray[np.uint16]:
        """Projection (y, x) in counts."""
        ...


AnyPlate = TypeVar("AnyPlate", bound=Projections)


@dataclass(frozen=True, eq=False)
class Patches:
    """Annotated patches, one entry per patch on the first axis.

    `counts` is refractive index times 10,000 with some context around the patch, which starts at
    `corner` (y, x); it may be a memory map, so that any number of patches fits a small machine. `group` is
    plate and well, the unit that splits and intervals keep together; `split` is "train", "validation" or
    "test". `window` is the range of values worth telling apart, relative to the medium, for images whose
    `quantity` is not refractive index; None leaves it to the classifier's card.
    """

    counts: npt.NDArray[np.uint16]  # (patch, y, x) of projections, or (patch, z, y, x) of volumes
    corner: npt.NDArray[np.int64]  # (patch, 2)
    medium_index: npt.NDArray[np.float32]  # (patch,)
    truth: npt.NDArray[np.int64]  # (patch,) index into states
    group: npt.NDArray[np.str_]  # (patch,)
    split: npt.NDArray[np.str_]  # (patch,)
    states: tuple[str, ...] = STATES
    um_per_plane: float | None = None
    quantity: str = "refractive index"
    window: tuple[float, float] | None = None

    @property
    def planes(self) -> int | None:
        """Planes of a volume; None for projections."""
        return int(self.counts.shape[1]) if self.counts.ndim == 4 else None

    def of(self, split: str) -> "Patches":
        """The patches of one split."""
        return self.take(np.flatnonzero(self.split == split))

    def take(self, index: npt.NDArray[np.int64]) -> "Patches":
        """The patches at these places, in this order; a run of neighbours shares memory with the whole."""
        index = np.asarray(index, dtype=np.int64)
        run = len(index) > 0 and bool((np.diff(index) == 1).all())
        chosen = slice(int(index[0]), int(index[-1]) + 1) if run else index
        columns = ("counts", "corner", "medium_index", "truth", "group", "split")
        return replace(self, **{name: getattr(self, name)[chosen] for name in columns})

    def __len__(self) -> int:
        return len(self.truth)


def well_names(patches: Patches) -> list[str]:
    """Well of each patch as cards name it: "plate:well", the plate by its name and not by the folder it lies in."""
    return [Path(group).name for group in patches.group.tolist()]


def update_digest(digest: "hashlib._Hash", patches: Patches) -> None:
    """Add what was trained on to a hash: wells, splits, places, media, states and pixels."""
    digest.update(json.dumps([well_names(patches), patches.split.tolist()]).encode())
    for values in (patches.corner, patches.medium_index, patches.truth):
        digest.update(np.ascontiguousarray(values).data)
    for block in range(0, len(patches), 256):  # volumes may be more than memory holds
        digest.update(np.ascontiguousarray(patches.counts[block : block + 256]).data)


def read_patches(
    table: pd.DataFrame,
    *,
    open_plate: Callable[[Path], Projections] | None = None,
    medium_of: Callable[[Path], Callable[[str, int, int], float]] | None = None,
    patch_px: int = PATCH_PX,
    states: Sequence[str] = STATES,
    into: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Patches:
    """Read every annotated patch from its plate's projections, resampled to 0.16 um per pixel.

    Parameters
    ----------
    table
        As `read_annotations` returns it; without a `split` column all patches are "train".
    open_plate
        Opens a plate by its path; `plates.store.open_plate` unless given.
    medium_of
        For a plate's path, a function (well, field, timepoint) -> medium index; by default the one
        stored in the plate's results by `tomoscreen ingest`.
    patch_px
        Side of a patch.
    states
        The states to tell apart, in order.
    into
        File (.npy) to hold the patches, 74 kB each, so that they need no memory; None keeps them in memory.
    progress
        Called with (patches read, patches in all) after each field.

    Raises
    ------
    SettingsError
        Naming the line, if a well, field or timepoint is not in its plate or a patch lies outside its field.
    """
    size = patch_px + 2 * MARGIN_PX
    table = by_split(table)
    counts = room_for((len(table), size, size), into=into)
    corner = np.zeros((len(table), 2), dtype=np.int64)
    medium_index = np.zeros(len(table), dtype=np.float32)
    done = 0
    for field in annotated_fields(table, open_plate=open_plate or store.open_plate, medium_of=medium_of):
        stored = field.plate.projection(field.well, field=field.field, timepoint=field.timepoint)
        image, um_per_px = _at_analysis_scale(
            stored, voxel_um=field.plate.voxel_um[1:], medium_index=field.medium_index
        )
        for place, row in zip(field.rows.index, field.rows.itertuples(), strict=True):
            centre = np.array([row.y_um, row.x_um], dtype=float) / um_per_px
            counts[place], corner[place] = cut_patch(image, centre, patch_px, size, where_of(row))
        medium_index[field.rows.index] = field.medium_index
        done += len(field.rows)
        if progress is not None:
            progress(done, len(table))
    return labelled(table, counts, corner, medium_index, states=states)


class AnnotatedField(NamedTuple, Generic[AnyPlate]):
    """One field that is to be read, and the rows of the table that lie in it."""

    plate: AnyPlate
    rows: pd.DataFrame
    well: str
    field: int
    timepoint: int
    medium_index: float


def annotated_fields(
    table: pd.DataFrame,
    *,
    open_plate: Callable[[Path], AnyPlate],
    medium_of: Callable[[Path], Callable[[str, int, int], float]] | None,
) -> Iterator[AnnotatedField[AnyPlate]]:
    """Every field that the table names, once, checked to be in its plate and to have a known medium.

    Raises
    ------
    SettingsError
        Naming the line, if a well, field or timepoint is not in its plate or its medium is not known.
    """
    medium_of = medium_of or _stored_medium
    for path, of_plate in table.groupby("plate", sort=True):
        plate, medium = open_plate(Path(str(path))), medium_of(Path(str(path)))
        for _, rows in of_plate.groupby(["well", "field", "timepoint"], sort=True):
            first = rows.iloc[0]
            well, field, timepoint = str(first["well"]), int(first["field"]), int(first["timepoint"])
            _check_place(plate, rows, well=well, field=field, timepoint=timepoint)
            index = medium(well, field, timepoint)
            if not np.isfinite(index):
                raise SettingsError(
                    f"{where_of(first)}: field {field} of {well} at timepoint {timepoint} has no known index "
                    "of its medium: it is missing, or was not ingested. Remove its rows, or ingest it first."
                )
            yield AnnotatedField(plate, rows, well, field, timepoint, index)


def require_kind(patches: Patches, card: Card) -> None:
    """Refuse images of another kind than a classifier was made for.

    Raises
    ------
    SettingsError
        If planes, their distance or the quantity differ: a network answers whatever it is shown.
    """
    given, wanted = (
        f"{of.quantity} in {'projections' if of.planes is None else f'{of.planes} planes {of.um_per_plane} um apart'}"
        for of in (patches, card)
    )
    if given != wanted:
        raise SettingsError(
            f"The patches show {given}, the classifier {card.name!r} was made for {wanted}. Read them for its kind."
        )


def by_split(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its splits one after another, so that each is one run of a memory map."""
    if "split" not in table:
        table = table.assign(split=SPLITS[0])
    return table.sort_values("split", kind="stable", key=lambda split: split.map(SPLITS.index), ignore_index=True)


def room_for(shape: tuple[int, ...], *, into: Path | None) -> npt.NDArray[np.uint16]:
    """Zeros in memory, or in a new file that the system pages in and out.

    Raises
    ------
    NoSpaceError
        If the disk has no room for the file: filling it would end the program without a word.
    """
    if into is None:
        return np.zeros(shape, dtype=np.uint16)
    into.parent.mkdir(parents=True, exist_ok=True)
    # an older file goes its way: who still reads it keeps his pixels
    into.unlink(missing_ok=True)
    needed, free = 2 * math.prod(shape), shutil.disk_usage(into.parent).free
    if needed > free:
        raise NoSpaceError(
            f"{into}: {shape[0]} patches take {needed / 1e9:.2f} GB, but only {free / 1e9:.2f} GB are free. Free some "
            "space, or give an output on a larger disk."
        )
    return np.lib.format.open_memmap(into, mode="w+", dtype=np.uint16, shape=shape)


def labelled(
    table: pd.DataFrame,
    counts: npt.NDArray[np.uint16],
    corner: npt.NDArray[np.int64],
    medium_index: npt.NDArray[np.float32],
    *,
    states: Sequence[str],
    um_per_plane: float | None = None,
) -> Patches:
    """Images and the table that they were read for, row by row, as one set of patches."""
    return Patches(
        counts=counts,
        corner=corner,
        medium_index=medium_index,
        truth=np.array([list(states).index(state) for state in table["state"]], dtype=np.int64),
        group=well_groups(table),
        split=table["split"].to_numpy(dtype=str),
        states=tuple(states),
        um_per_plane=um_per_plane,
    )


def _stored_medium(path: Path) -> Callable[[str, int, int], float]:
    medium = read_result(results_path(path), "fields")["medium_index"]
    return lambda well, field, timepoint: float(medium.sel(well=well, field=field, timepoint=timepoint))


def _check_place(plate: Projections, rows: pd.DataFrame, *, well: str, field: int, timepoint: int) -> None:
    where = where_of(rows.iloc[0])
    if well not in plate.wells:
        raise SettingsError(
            f"{where}: well {well!r} is not in the plate. Expected one of {', '.join(plate.wells[:8])}"
            f"{', ...' if len(plate.wells) > 8 else ''}. Correct the cell."
        )
    for name, value, count in (("field", field, plate.fields), ("timepoint", timepoint, plate.timepoints)):
        if value >= count:
            raise SettingsError(
                f"{where}: {name} {value} is not in the plate, which has {name}s 0 to {count - 1}. Correct the cell."
            )


def where_of(row: Any) -> str:
    """Plate and line of a row of the table, for a message."""
    place = Path(str(row.plate)).name
    line = getattr(row, "line", None)
    return f"Annotation of {place}" + ("" if line is None else f", line {line}")


def _at_analysis_scale(
    counts: npt.NDArray[np.uint16], *, voxel_um: Sequence[float], medium_index: float
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.float64]]:
    # the whole field is resampled, by the same function as at inference, so both see the same pixels
    tensor = torch.from_numpy(counts.astype(np.int32))
    relative = relative_index(tensor, medium_index=medium_index)
    image = to_analysis_scale(relative, voxel_um=(voxel_um[0], voxel_um[1])).numpy()
    um_per_px = np.array(counts.shape) * np.array(voxel_um) / np.array(image.shape)
    index = np.rint((image + medium_index) * COUNTS_PER_INDEX)
    return index.clip(1, 32767).astype(np.uint16), um_per_px


def cut_patch(
    image: npt.NDArray[np.uint16], centre: npt.NDArray[np.float64], patch: int, size: int, where: str
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.int64]]:
    """Cut `size` px around a centre (y, x in px) out of an image, and say where the patch starts in the cutting.

    Raises
    ------
    SettingsError
        If the patch leaves the image by more than half a pixel's rounding; `where` begins the message.
    """
    shape = np.array(image.shape)
    start = np.rint(centre - patch / 2).astype(np.int64)
    # half a pixel of rounding is forgiven, a patch that leaves its field is not
    if (start < -1).any() or (start + patch > shape + 1).any():
        raise SettingsError(
            f"{where}: a patch of {patch} px around ({centre[0]:.0f}, {centre[1]:.0f}) px leaves its field "
            f"of {shape[0]} x {shape[1]} px (y, x). Expected centres at least half a patch from the border. "
            "Remove the row."
        )
    start = start.clip(0, shape - patch)
    first = (start - (size - patch) // 2).clip(0, np.maximum(shape - size, 0))
    block = image[first[0] : first[0] + size, first[1] : first[1] + size]
    missing = [(0, size - count) for count in block.shape]  # only where the whole field is smaller than the context
    return np.pad(block, missing, mode="edge"), start - first
