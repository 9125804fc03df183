"""Annotated patches: from a table and its plates to batches, with every well on one side of each split."""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from models.classifier import relative_index, to_analysis_scale
from plates import store
from plates.counts import COUNTS_PER_INDEX
from plates.errors import SettingsError
from plates.patches import PATCH_PX
from plates.results import read_result, results_path
from plates.states import STATES

COLUMNS = ("plate", "well", "field", "timepoint", "y_um", "x_um", "state")
SPLITS = ("train", "validation", "test")
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


@dataclass(frozen=True)
class Patches:
    """Annotated patches in memory, one entry per patch on the first axis.

    `counts` is refractive index times 10,000 with some context around the patch, which starts at
    `corner` (y, x); `group` is plate and well, the unit that splits and intervals keep together;
    `split` is "train", "validation" or "test".
    """

    counts: npt.NDArray[np.uint16]  # (patch, y, x)
    corner: npt.NDArray[np.int64]  # (patch, 2)
    medium_index: npt.NDArray[np.float32]  # (patch,)
    truth: npt.NDArray[np.int64]  # (patch,) index into STATES
    group: npt.NDArray[np.str_]  # (patch,)
    split: npt.NDArray[np.str_]  # (patch,)

    def of(self, split: str) -> "Patches":
        """The patches of one split."""
        keep = self.split == split
        return Patches(**{name: values[keep] for name, values in vars(self).items()})

    def __len__(self) -> int:
        return len(self.truth)


def read_annotations(path: Path) -> pd.DataFrame:
    """Read a table of annotated patches (CSV) and check every line.

    Columns: plate (path of a plate store, relative to the table), well, field, timepoint, y_um, x_um
    (the patch's centre in its field), state, and optionally split (train, validation or test).

    Returns
    -------
    table
        One row per patch with those columns; plate is an absolute path, and `line` the line in the file.

    Raises
    ------
    SettingsError
        Naming the file, the line and the remedy.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"The annotation table {path} cannot be read ({error}). Expected a CSV file with the columns "
            f"{', '.join(COLUMNS)}."
        ) from error
    header = [name.strip() for name in lines[0]] if lines else []
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise SettingsError(
            f"{path}, line 1: the column {missing[0]!r} is missing. Expected {', '.join(COLUMNS)} "
            "and optionally split. Add it, or correct its name."
        )
    rows = [
        _checked_row(dict(zip(header, values, strict=False)), where=f"{path}, line {number}", base=path.parent)
        | {"line": number}
        for number, values in enumerate(lines[1:], start=2)
        if any(value.strip() for value in values)
    ]
    if not rows:
        raise SettingsError(f"{path} holds no annotated patch. Expected one row per patch below the header.")
    table = pd.DataFrame(rows)
    if "split" in header:
        _check_splits(table, path)
    return table


def _checked_row(row: dict[str, str], *, where: str, base: Path) -> dict[str, object]:
    values: dict[str, object] = {"plate": str((base / row.get("plate", "").strip()).resolve())}
    values["well"] = row.get("well", "").strip()
    for name, kind in (("field", int), ("timepoint", int), ("y_um", float), ("x_um", float)):
        text = row.get(name, "").strip()
        try:
            value = kind(text)
            if not 0 <= value < float("inf"):
                raise ValueError
        except ValueError:
            wanted = "a whole number from 0 up" if kind is int else "a distance in um from the field's corner"
            raise SettingsError(f"{where}: {name} {text!r} is not {wanted}. Correct the cell.") from None
        values[name] = value
    values["state"] = row.get("state", "").strip()
    if values["state"] not in STATES:
        raise SettingsError(
            f"{where}: state {values['state']!r} is not known. Expected one of {', '.join(STATES)}. Correct the cell."
        )
    if "split" in row:
        values["split"] = row["split"].strip()
        if values["split"] not in SPLITS:
            raise SettingsError(
                f"{where}: split {values['split']!r} is not known. Expected one of {', '.join(SPLITS)}, in "
                "every row. Correct the cell, or leave the column out and the wells are split for you."
            )
    return values


def _check_splits(table: pd.DataFrame, path: Path) -> None:
    for (plate, well), rows in table.groupby(["plate", "well"], sort=False):
        if rows["split"].nunique() > 1:
            second = rows[rows["split"] != rows["split"].iloc[0]].iloc[0]
            raise SettingsError(
                f"{path}, line {second['line']}: well {well} of {Path(str(plate)).name} is in "
                f"{second['split']!r} and, at line {rows['line'].iloc[0]}, in {rows['split'].iloc[0]!r}. "
                "Patches of one well look alike, so a well belongs to one split. Give all its rows the "
                "same split."
            )


def split_wells(
    table: pd.DataFrame, *, seed: int, shares: tuple[float, float, float] = (0.7, 0.15, 0.15)
) -> npt.NDArray[np.str_]:
    """Deal whole wells to train, validation and test, each state in about the wanted shares.

    Wells are shuffled within their commonest state; each goes to the split that lacks most patches.
    A state seen in three wells or more is present in every split.

    Returns
    -------
    split
        One name per row of the table.
    """
    groups = well_groups(table)
    random = np.random.default_rng(seed)
    split = np.full(len(table), SPLITS[0], dtype="U10")
    wells = pd.DataFrame({"group": groups, "state": table["state"].to_numpy()}).groupby("group", sort=True)
    commonest = wells["state"].agg(lambda states: states.value_counts(sort=True).index[0])
    sizes = wells.size()
    for state in STATES:
        names = [str(name) for name in commonest.index[commonest == state]]
        wanted = np.array(shares) * float(sizes[names].sum()) if names else np.zeros(3)
        given = np.zeros(3)
        order = random.permutation(len(names))
        for turn, place in enumerate(order):
            # the first three wells go one to each split, so that a rare state is nowhere missing
            goes_to = turn if turn < 3 <= len(names) else int(np.argmax(wanted - given))
            given[goes_to] += float(sizes[names[place]])
            split[groups == names[place]] = SPLITS[goes_to]
    return split


def well_groups(table: pd.DataFrame) -> npt.NDArray[np.str_]:
    """Plate and well of each row: the unit that is never divided."""
    return (table["plate"].astype(str) + ":" + table["well"].astype(str)).to_numpy(dtype=str)


def read_patches(
    table: pd.DataFrame,
    *,
    open_plate: Callable[[Path], Projections] | None = None,
    medium_of: Callable[[Path], Callable[[str, int, int], float]] | None = None,
    patch_px: int = PATCH_PX,
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
    progress
        Called with (patches read, patches in all) after each field.

    Raises
    ------
    SettingsError
        Naming the line, if a well, field or timepoint is not in its plate or a patch lies outside its field.
    """
    open_plate = open_plate or store.open_plate
    medium_of = medium_of or _stored_medium
    size = patch_px + 2 * MARGIN_PX
    counts = np.zeros((len(table), size, size), dtype=np.uint16)
    corner = np.zeros((len(table), 2), dtype=np.int64)
    medium_index = np.zeros(len(table), dtype=np.float32)
    table = table.reset_index(drop=True)
    done = 0
    for path, of_plate in table.groupby("plate", sort=True):
        plate, medium = open_plate(Path(str(path))), medium_of(Path(str(path)))
        for _, rows in of_plate.groupby(["well", "field", "timepoint"], sort=True):
            first = rows.iloc[0]
            well, field, timepoint = str(first["well"]), int(first["field"]), int(first["timepoint"])
            _check_place(plate, rows, well=well, field=field, timepoint=timepoint)
            index = medium(well, field, timepoint)
            if not np.isfinite(index):
                raise SettingsError(
                    f"{_where(first)}: field {field} of {well} at timepoint {timepoint} has no known index "
                    "of its medium: it is missing, or was not ingested. Remove its rows, or ingest it first."
                )
            stored = plate.projection(well, field=field, timepoint=timepoint)
            image, um_per_px = _at_analysis_scale(stored, voxel_um=plate.voxel_um[1:], medium_index=index)
            for place, row in zip(rows.index, rows.itertuples(), strict=True):
                centre = np.array([row.y_um, row.x_um], dtype=float) / um_per_px
                counts[place], corner[place] = _cut(image, centre, patch_px, size, _where(row))
            medium_index[rows.index] = index
            done += len(rows)
            if progress is not None:
                progress(done, len(table))
    split = table["split"].to_numpy(dtype=str) if "split" in table else np.full(len(table), "train")
    truth = np.array([STATES.index(state) for state in table["state"]], dtype=np.int64)
    return Patches(counts, corner, medium_index, truth, well_groups(table), split)


def _stored_medium(path: Path) -> Callable[[str, int, int], float]:
    medium = read_result(results_path(path), "fields")["medium_index"]
    return lambda well, field, timepoint: float(medium.sel(well=well, field=field, timepoint=timepoint))


def _check_place(plate: Projections, rows: pd.DataFrame, *, well: str, field: int, timepoint: int) -> None:
    where = _where(rows.iloc[0])
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


def _where(row: Any) -> str:
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


def _cut(
    image: npt.NDArray[np.uint16], centre: npt.NDArray[np.float64], patch: int, size: int, where: str
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.int64]]:
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


def class_weights(truth: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Weight of each state so that all count alike, 1 on average over the patches; 0 for an absent state."""
    counts = np.bincount(truth, minlength=len(STATES))
    present = int((counts > 0).sum())
    return np.where(counts > 0, len(truth) / (np.maximum(counts, 1) * present), 0.0).astype(np.float32)


class Batches:
    """Patches as tensors: whole in memory as 16-bit counts, cut and normalised batch by batch."""

    def __init__(self, patches: Patches, *, patch_px: int) -> None:
        # torch has few operations for uint16; an index below 3.27 fits int16 with the same bits
        self.counts = torch.from_numpy(patches.counts.view(np.int16))
        self.corner = torch.from_numpy(patches.corner)
        self.medium = torch.from_numpy(patches.medium_index)
        self.truth = torch.from_numpy(patches.truth)
        self.patch_px = patch_px

    def plain(self, batch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All patches in order, as (index relative to the medium (n, y, x), truth (n,))."""
        for start in range(0, len(self.truth), batch):
            chosen = torch.arange(start, min(start + batch, len(self.truth)))
            axis = torch.arange(self.patch_px)
            corner = self.corner[chosen]
            yield self._cut(chosen, corner[:, :1] + axis, corner[:, 1:] + axis), self.truth[chosen]

    def augmented(self, batch: int, *, generator: torch.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All patches once in random order, changed only as a cell on a microscope could be.

        Eight turns and mirrorings, whole-pixel shifts within the read context, a medium index that is
        wrong by 4e-4 (sd), and up to 3e-4 of noise. Contrast stays: refractive index is a measurement.
        The last batch is filled with patches drawn again, so that all have one size.
        """
        count = len(self.truth)
        order = torch.randperm(count, generator=generator)
        padding = -count % min(batch, count)
        order = torch.cat([order, order[torch.randint(count, (padding,), generator=generator)]])
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            yield self._augment(chosen, generator), self.truth[chosen]

    def _augment(self, chosen: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        number, patch = len(chosen), self.patch_px
        room = self.counts.shape[-1] - patch
        shift = torch.randint(-MARGIN_PX, MARGIN_PX + 1, (number, 2), generator=generator)
        corner = (self.corner[chosen] + shift).clamp(0, room)
        axis = torch.arange(patch)
        flips = torch.randint(2, (number, 3, 1), generator=generator, dtype=torch.bool)
        rows = corner[:, :1] + torch.where(flips[:, 0], axis.flip(0), axis)
        columns = corner[:, 1:] + torch.where(flips[:, 1], axis.flip(0), axis)
        index = self._cut(chosen, rows, columns)
        index = torch.where(flips[:, 2, :, None], index.transpose(1, 2), index)
        # one array of noise for the batch, scaled per patch
        noise = torch.randn(index.shape, generator=generator)
        index = index.addcmul_(noise, 3e-4 * torch.rand(number, 1, 1, generator=generator))
        return index.add_(4e-4 * torch.randn(number, 1, 1, generator=generator))

    def _cut(self, chosen: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        counts = self.counts[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]
        medium = self.medium[chosen][:, None, None] * COUNTS_PER_INDEX
        return counts.float().sub_(medium).div_(COUNTS_PER_INDEX)
