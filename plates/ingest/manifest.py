"""Where each file belongs on the plate, and the table by which a person says so."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import AcquisitionError, MissingInputError
from .acquisition_name import well_name

if TYPE_CHECKING:
    from ..stitching.layout import StageConvention

_COLUMNS = ("path", "well", "field", "timepoint")
_VOXEL_COLUMNS = ("voxel_z_um", "voxel_y_um", "voxel_x_um")
_SHOWN = 80


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
    """Places given in a CSV table, whose cells are separated by commas, semicolons or tabs.

    Columns: path (from `folder`), well, field; where needed timepoint (0 where empty), part (which image of a
    file with several), and voxel_z_um, voxel_y_um, voxel_x_um, all three or none. Others are not used; capitals
    in their names do not matter.

    Raises
    ------
    MissingInputError
        There is no such table.
    AcquisitionError
        It is no UTF-8 text, a column is missing, or a line cannot be used; the message names it.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingInputError(f"{path}: there is no such manifest.")
    text = _text(path)
    head, _, _ = text.partition("\n")
    separator = max(",;\t", key=lambda mark: len({*_names(head, mark)} & {*_COLUMNS}))
    names = _names(head, separator)
    missing = [column for column in _COLUMNS[:3] if column not in names]
    if missing:
        raise AcquisitionError(
            f"{path}: the column {', '.join(missing)} is missing; the first line is {head.strip()[:_SHOWN]!r}. "
            f"Expected {', '.join(_COLUMNS)} in it, separated by commas, semicolons or tabs."
        )
    sources = []
    for line, cells in _lines(text, separator=separator, path=path):
        where = f"{path}, line {line}"
        if any(cell.strip() for cell in cells[len(names) :]):
            raise AcquisitionError(
                f"{where}: it has {len(cells)} cells, but the first line names {len(names)} columns. Put a cell that "
                f"holds {separator!r} in quotation marks; write numbers with a decimal point."
            )
        row = dict(zip_longest(names, cells[: len(names)], fillvalue=""))
        sources.append(_source(row, folder=folder, where=where))
    return sources


def _text(path: Path) -> str:
    data = path.read_bytes()
    encoding, kind = "utf-8-sig", "UTF-8 text (Latin-1, perhaps)"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding, kind = "utf-16", "UTF-16 text, though it starts so"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise AcquisitionError(f"{path}, line {line}: it is not {kind}. Save the manifest as 'CSV UTF-8'.") from error


def _names(head: str, separator: str) -> list[str]:
    return [name.strip().strip('"').strip().lower() for name in head.split(separator)]


def _lines(text: str, *, separator: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each line below the first that is not blank."""
    table = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        for number, cells in enumerate(table):
            if number > 0 and any(cell.strip() for cell in cells):
                yield table.line_num, cells
    except csv.Error as error:
        raise AcquisitionError(
            f"{path}, line {table.line_num}: cannot be split into cells ({error}). Check its quotation marks."
        ) from error


def _source(row: dict[str, str], *, folder: Path, where: str) -> Source:
    file = folder / row["path"].strip()
    if not row["path"].strip() or not file.exists():
        raise AcquisitionError(f"{where}: {row['path']!r} is not a file in {folder}. Correct the path.")
    try:
        source = Source(
            path=file,
            part=row.get("part", "").strip(),
            well=well_name(row["well"]),
            field=int(row["field"]),
            timepoint=int(row.get("timepoint", "").strip() or 0),
            voxel_um=_voxel([row.get(column, "") for column in _VOXEL_COLUMNS]),
        )
    except ValueError as error:
        raise AcquisitionError(
            f"{where}: {error}. Expected a well such as A01, whole numbers from 0 for field and timepoint, and "
            "all three voxel sizes in um or none; numbers have a decimal point."
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
