"""Somebody else's OME-Zarr plate used in place: its geometry, and its tomograms where they lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from .errors import AcquisitionError, StoreError
from .ingest.acquisition import read_frame
from .ingest.names import Source
from .ingest.ngff_metadata import plate_size
from .ingest.ome_zarr import OmeZarrImage, plate_sources
from .ingest.survey import plate_format
from .ngff import well_position

_VOXEL_TOLERANCE = 1e-3
_LISTED = 8


def open_foreign_plate(path: Path, *, channel: str | None = None, acquisition: int | None = None) -> ForeignPlate:
    """Read what a plate holds; nothing is copied or written.

    Parameters
    ----------
    channel
        Label or number of the channel that holds the refractive index, where that is not plain.
    acquisition
        Number of the run to take, where the plate holds several.

    Raises
    ------
    AcquisitionError
        It is no plate of tomograms, damaged, or its fields do not share one geometry; the message lists them.
    """
    sources = plate_sources(path, acquisition=acquisition)
    images = [OmeZarrImage(Path(path), part=source.part, channel=channel) for source in sources]
    shape_zyx, voxel_um = _geometry(sources, images, path=path)
    timepoints = max(image.planned for image in images)
    wells = tuple(dict.fromkeys(source.well for source in sources))
    rows, columns = _format(Path(path).resolve(), wells=wells)
    return ForeignPlate(
        path=Path(path),
        channel=channel,
        parts={(source.well, source.field): source.part for source in sources},
        wells=wells,
        fields=1 + max(source.field for source in sources),
        timepoints=timepoints,
        shape_zyx=shape_zyx,
        voxel_um=voxel_um,
        rows=rows,
        columns=columns,
        hours=_hours(images, timepoints=timepoints),
        recorded={(source.well, source.field): source.recorded for source in sources},
    )


@dataclass(frozen=True)
class ForeignPlate:
    """Where somebody else's tomograms are and what they measure; holds only paths and numbers, so it pickles.

    Attributes
    ----------
    path, channel
        Folder of the plate; channel of the refractive index as it was asked for.
    parts
        Well and field -> path of the image below the plate. A well may have fewer fields than `fields`.
    wells, fields, timepoints
        Wells with images; most fields a well; most timepoints a field.
    shape_zyx, voxel_um
        Of every tomogram; um.
    rows, columns
        Format of the plate.
    hours
        Nominal hours since the first frame, one a timepoint; None where the plate does not say.
    recorded
        Well and field -> local start of its run, or None.
    """

    path: Path
    channel: str | None
    parts: Mapping[tuple[str, int], str]
    wells: tuple[str, ...]
    fields: int
    timepoints: int
    shape_zyx: tuple[int, int, int]
    voxel_um: tuple[float, float, float]
    rows: int
    columns: int
    hours: tuple[float, ...] | None
    recorded: Mapping[tuple[str, int], datetime | None]

    def volume(self, well: str, *, field: int, timepoint: int) -> np.ndarray:
        """Tomogram (z, y, x) as uint16 counts; 0 = missing.

        Opening an image anew takes two thousandths of a second, so nothing is kept between calls and a
        plate that grows is seen as it is.

        Raises
        ------
        StoreError
            The plate has no such image, or it is damaged.
        """
        try:
            return read_frame(self._image(well, field=field), timepoint)[0]
        except AcquisitionError as error:
            raise StoreError(f"{error}") from error

    def _image(self, well: str, *, field: int) -> OmeZarrImage:
        if (well, field) not in self.parts:
            raise StoreError(
                f"{self.path}: no well {well!r}, field {field}; the plate has {len(self.wells)} wells "
                f"({self.wells[0]} to {self.wells[-1]}) with at most {self.fields} fields"
            )
        return OmeZarrImage(self.path, part=self.parts[well, field], channel=self.channel)


def _geometry(
    sources: Sequence[Source], images: Sequence[OmeZarrImage], *, path: Path
) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    """Shape and voxel that all fields share."""
    usual_shape = Counter(image.shape_zyx for image in images).most_common(1)[0][0]
    usual_voxel = Counter(image.voxel_um for image in images).most_common(1)[0][0]
    odd = [
        f"{source.part} with {' x '.join(map(str, image.shape_zyx))} voxels of "
        f"{' x '.join(f'{step:g}' for step in image.voxel_um)} um"
        for source, image in zip(sources, images, strict=True)
        if image.shape_zyx != usual_shape or not np.allclose(image.voxel_um, usual_voxel, rtol=_VOXEL_TOLERANCE, atol=0)
    ]
    if odd:
        raise AcquisitionError(
            f"{path}: the fields do not share one geometry: most have {' x '.join(map(str, usual_shape))} voxels of "
            f"{' x '.join(f'{step:g}' for step in usual_voxel)} um (z, y, x), but there are {'; '.join(odd[:_LISTED])}"
            f"{f' and {len(odd) - _LISTED} more' if len(odd) > _LISTED else ''}. Make the others a plate of their own."
        )
    return usual_shape, usual_voxel


def _format(root: Path, *, wells: Sequence[str]) -> tuple[int, int]:
    """Rows and columns as the plate lists them, where that is a usual plate; else the smallest that holds its wells."""
    from .layout import FORMATS

    rows, columns = plate_size(root)
    positions = [well_position(well) for well in wells]
    if (rows, columns) in FORMATS.values() and all(row < rows and column < columns for row, column in positions):
        return rows, columns
    return plate_format(wells)


def _hours(images: Sequence[OmeZarrImage], *, timepoints: int) -> tuple[float, ...] | None:
    """Median over the fields of the hours since the first frame; None where a timepoint has none."""
    table = np.full((len(images), timepoints), np.nan)
    for row, image in zip(table, images, strict=True):
        row[: image.planned] = [seconds / 3600 for seconds in image.planned_times_s]
    if not np.isfinite(table).any(axis=0).all():
        return None
    return tuple(float(hour) for hour in np.nanmedian(table, axis=0))
