"""Where each file belongs on the plate, and the table by which a person says so."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import AcquisitionError, MissingInputError
from .acquisition_name import well_name

if TYPE_CHECKING:
    from ..stitching.layout import StageConvention

_COLUMNS = ("path", "well", "field", "timepoint")
_VOXEL_COLUMNS = ("voxel_z_um", "voxel_y_um", "voxel_x_um")


@dataclass(frozen=True)
class Tiles:
    """Acquisitions that make one wide field.

    Attributes
    ----------
    paths
        Their files.
    stage
        How the axes of the stage run in the picture.
    shape_zyx
        Of the wide field, the same all over the plate.
    """

    paths: tuple[Path, ...]
    stage: StageConvention
    shape_zyx: tuple[int, int, int]


@dataclass(frozen=True)
class Source:
    """One file and its place on the plate.

    Attributes
    ----------
    path
        The file, or the folder of an OME-Zarr plate.
    part
        Which image of it, where it holds several; empty for the only one.
    well, field
        ``"A01"``; fields count from 0 within a well.
    timepoint
        Of the file's first frame.
    recorded
        Local start of the acquisition by its name; None where only a manifest placed it.
    voxel_um
        Voxel size (z, y, x) that a manifest gives to a TIFF without one.
    channel
        Which channel holds the refractive index, where that is not plain.
    fluorescence
        What becomes of it: registered on the tomogram, placed by the metadata alone, or left out.
    tiles
        The files that are stitched into it; `path` is then the first.
    """

    path: Path
    well: str
    field: int
    timepoint: int
    recorded: datetime | None = None
    part: str = ""
    voxel_um: tuple[float, float, float] | None = None
    channel: str | None = None
    fluorescence: Literal["registered", "metadata", "none"] = "registered"
    tiles: Tiles | None = None


def read_manifest(path: Path, *, folder: Path) -> list[Source]:
    """Places given in a CSV table.

    Columns: path (from `folder`), well, field; where needed timepoint (0 where empty), part (which image of a
    file with several), and voxel_z_um, voxel_y_um, voxel_x_um, all three or none.

    Raises
    ------
    MissingInputError
        There is no such table.
    AcquisitionError
        A line of it cannot be used; the message names it.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingInputError(f"{path}: there is no such manifest.")
    with path.open(newline="", encoding="utf-8-sig") as handle:
        table = csv.DictReader(handle)
        missing = set(_COLUMNS[:3]) - set(table.fieldnames or ())
        if missing:
            raise AcquisitionError(
                f"{path}: the column {', '.join(sorted(missing))} is missing; expected the columns "
                f"{', '.join(_COLUMNS)} in the first line"
            )
        return [_source(row, folder=folder, where=f"{path}, line {table.line_num}") for row in table]


def _source(row: dict[str, str | None], *, folder: Path, where: str) -> Source:
    file = folder / (row["path"] or "")
    if not row["path"] or not file.exists():
        raise AcquisitionError(f"{where}: {row['path']!r} is not a file in {folder}. Correct the path.")
    try:
        source = Source(
            path=file,
            part=(row.get("part") or "").strip(),
            well=well_name(row["well"] or ""),
            field=int(row["field"] or ""),
            timepoint=int(row.get("timepoint") or 0),
            voxel_um=_voxel([row.get(column) or "" for column in _VOXEL_COLUMNS]),
        )
    except ValueError as error:
        raise AcquisitionError(
            f"{where}: {error}. Expected a well such as A01, whole numbers from 0 for field and timepoint, and "
            "all three voxel sizes in um or none."
        ) from error
    if source.field < 0 or source.timepoint < 0:
        raise AcquisitionError(f"{where}: fields and timepoints count from 0.")
    return source


def _voxel(texts: list[str]) -> tuple[float, float, float] | None:
    if not any(text.strip() for text in texts):
        return None
    z, y, x = (float(text) for text in texts)
    if not all(math.isfinite(step) and 0 < step < 1e3 for step in (z, y, x)):
        raise ValueError(f"voxel size {z} x {y} x {x} um is impossible")
    return z, y, x
