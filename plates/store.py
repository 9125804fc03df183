"""The plate store: tomograms and their projections, written once a field, read by anybody.

A plate is OME-Zarr 0.5 with axes t, c, z, y, x in two siblings: ``P012.zarr`` holds the tomograms and
``P012_mip.zarr``, with the same wells and fields, their projections and the map of states. A voxel is the
refractive index x 10,000 as uint16; 0 means "no data". The tomogram of one field at one timepoint is one file
(a shard), so that two writers never share one and a half-written one never spoils another.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import metadata, ngff
from .errors import MissingInputError, StoreError
from .files import appearing_whole, file_size, location, remove, write_durable
from .levels import PROJECTION_FACTOR, VOLUME_FACTOR, Level, projection_levels, volume_levels
from .metadata import PROJECTIONS
from .projections import FieldStatistics, summarise
from .shards import ShardWriter
from .states import STATES
from .tomogram import pass_through, shrink

_SCHEMA = 2
_KEY = "tomoscreen"


def create_plate(
    path: Path,
    *,
    name: str,
    wells: Sequence[str],
    fields: int,
    timepoints: int,
    shape_zyx: tuple[int, int, int],
    voxel_um: tuple[float, float, float],
    rows: int,
    columns: int,
    hours: Sequence[float],
    provenance: Mapping[str, Any],
) -> Plate:
    """Make an empty plate and its sibling for projections, or reopen one, which may grow.

    Only metadata is written; images that are never written stay absent. A plate that is there keeps its wells,
    fields and timepoints, and gains those that are new.

    Parameters
    ----------
    path
        ``<name>.zarr``, a folder or a URL; projections go to ``<name>_mip.zarr`` beside it.
    wells
        Wells imaged, such as ``"A01"``.
    fields, timepoints
        Fields a well and timepoints a field.
    shape_zyx, voxel_um
        Of every tomogram; um.
    rows, columns
        Format of the plate, such as 8 x 12.
    hours
        Nominal hours since the first frame, one a timepoint.
    provenance
        What made the plate; kept as it is, must be JSON.

    Raises
    ------
    StoreError
        The plate exists with tomograms of another kind, or the arguments make no plate.
    """
    plate = Plate(
        path=location(path),
        name=name,
        wells=tuple(wells),
        fields=fields,
        timepoints=timepoints,
        shape_zyx=_triple(shape_zyx),
        voxel_um=_triple(voxel_um),
        hours=tuple(float(hour) for hour in hours),
        rows=rows,
        columns=columns,
    )
    _check_new(plate)
    present = open_plate(plate.path) if (plate.path / "zarr.json").exists() else None
    if present is not None:
        plate = _joined(present, plate)
    if present is None or present != plate:
        metadata.write_groups(plate, root=plate.path, levels=volume_levels(plate.shape_zyx), channels=metadata.TOMOGRAM)
        levels = projection_levels(plate.shape_zyx)
        metadata.write_groups(plate, root=plate.mip_path, levels=levels, channels=PROJECTIONS)
    attributes = ngff.plate_attributes(
        plate.name, wells=plate.wells, rows=plate.rows, columns=plate.columns, fields=plate.fields
    )
    # the roots come last: a plate that was interrupted before them is no plate yet, and is made again
    described = metadata.group_document({**attributes, _KEY: plate._record(provenance)}).encode()
    for root in (plate.mip_path, plate.path):
        if not (root / "zarr.json").exists() or (root / "zarr.json").read_bytes() != described:
            write_durable(root / "zarr.json", described)
    return plate


def open_plate(path: Path) -> Plate:
    """Open a plate for reading and writing fields.

    Raises
    ------
    MissingInputError
        There is no plate at `path`.
    StoreError
        What lies there was not made by this program, or is damaged.
    """
    path = location(path)
    root = path / "zarr.json"
    if not root.exists():
        raise MissingInputError(
            f"{path}: there is no plate. Expected a folder such as P012.zarr, made by `tomoscreen ingest`."
        )
    try:
        record = json.loads(root.read_text())["attributes"][_KEY]
        if record["schema"] != _SCHEMA:
            raise StoreError(
                f"{path}: written with layout {record['schema']} of the store, this version reads {_SCHEMA}. "
                "Convert the acquisitions again."
            )
        return Plate(
            path=path,
            name=record["name"],
            wells=tuple(record["wells"]),
            fields=record["fields"],
            timepoints=record["timepoints"],
            shape_zyx=_triple(record["shape_zyx"]),
            voxel_um=_triple(record["voxel_um"]),
            hours=tuple(record["hours"]),
            rows=record["rows"],
            columns=record["columns"],
        )
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise StoreError(
            f"{path}: not a plate made by `tomoscreen ingest`, or its zarr.json is damaged ({error})."
        ) from error


@dataclass(frozen=True)
class Plate:
    """One plate: where its images are and what they measure.

    Attributes
    ----------
    path
        The store of tomograms.
    wells, fields, timepoints
        Wells imaged; fields a well; timepoints a field. Single images may be absent (`has_field`).
    shape_zyx, voxel_um
        Of every tomogram; um.
    hours
        Nominal hours since the first frame, one a timepoint.
    rows, columns
        Format of the plate.
    """

    path: Path
    name: str
    wells: tuple[str, ...]
    fields: int
    timepoints: int
    shape_zyx: tuple[int, int, int]
    voxel_um: tuple[float, float, float]
    hours: tuple[float, ...]
    rows: int
    columns: int

    @property
    def mip_path(self) -> Path:
        """Sibling store of the projections."""
        return self.path.with_name(f"{self.path.stem}_mip.zarr")

    def volume(self, well: str, *, field: int, timepoint: int) -> np.ndarray:
        """Tomogram (z, y, x) as uint16 counts; 0 = missing.

        Raises
        ------
        StoreError
            It was never written, or its file is damaged.
        """
        return self._read(self.path, well, field=field, timepoint=timepoint, level=0)

    def projection(self, well: str, *, field: int, timepoint: int, kind: str = "maximum") -> np.ndarray:
        """Projection (y, x) as uint16; 0 = missing. Raises as `volume`.

        Parameters
        ----------
        kind
            ``"maximum"`` or ``"mean"`` in counts of index, or ``"dry mass"`` in 0.0001 pg/um2.
        """
        channel = list(PROJECTIONS).index(kind)
        image = self._read(self.mip_path, well, field=field, timepoint=timepoint, level=0, channel=channel)
        return np.squeeze(image, axis=0)

    def thumbnail(self, well: str, *, field: int, timepoint: int, level: int) -> np.ndarray:
        """Maximum projection (y, x) at a coarser level, each halving the one before. Raises as `volume`."""
        return np.squeeze(self._read(self.mip_path, well, field=field, timepoint=timepoint, level=level), axis=0)

    def classes(self, well: str, *, field: int, timepoint: int) -> np.ndarray:
        """Map of states (y, x): 0 background, then the states in their order. Raises as `volume`."""
        return np.squeeze(
            self._read(self.mip_path, well, field=field, timepoint=timepoint, level=0, label=True), axis=0
        )

    def has_field(self, well: str, *, field: int, timepoint: int) -> bool:
        """Whether the field was written at that timepoint."""
        return all(file_size(file) > 0 for file in self.field_files(well, field=field, timepoint=timepoint))

    def field_files(self, well: str, *, field: int, timepoint: int) -> list[Path]:
        """Files that hold one field at one timepoint, tomogram first."""
        self._check_place(well, field=field, timepoint=timepoint)
        return [
            _shard(root, well, field=field, level=level, timepoint=timepoint)
            for root, levels in (
                (self.path, volume_levels(self.shape_zyx)),
                (self.mip_path, projection_levels(self.shape_zyx)),
            )
            for level in range(len(levels))
        ]

    def write_field(
        self, well: str, *, field: int, timepoint: int, volume: np.ndarray | Iterable[np.ndarray]
    ) -> FieldStatistics:
        """Write a tomogram and its projections, with their coarser levels, while it passes by once.

        Each file appears whole or not at all. What was there before is deleted first, so that an
        interruption never leaves a new tomogram beside an old projection.

        Parameters
        ----------
        volume
            uint16 counts (z, y, x), whole or in slabs along z; 0 = missing.

        Returns
        -------
        FieldStatistics
            Its statistics; voxels that are no number are not counted.

        Raises
        ------
        StoreError
            The tomogram does not fit the plate.
        """
        self._check_place(well, field=field, timepoint=timepoint)
        files = self.field_files(well, field=field, timepoint=timepoint)
        for file in files:
            remove(file)
        levels = volume_levels(self.shape_zyx)
        slabs = [volume] if isinstance(volume, np.ndarray) else volume
        try:
            with ExitStack() as stack:
                writers = [
                    ShardWriter(stack.enter_context(appearing_whole(file)), shape=level.shape, chunk=level.chunk)
                    for file, level in zip(files, levels, strict=False)
                ]
                passed = pass_through(
                    slabs, shape_zyx=self.shape_zyx, chunk=levels[0].chunk, writers=writers, factor=VOLUME_FACTOR
                )
                for writer in writers:
                    writer.finish()
        except StoreError as error:
            raise StoreError(f"{self.path}, well {well}, field {field}: {error}") from error
        projections, statistics = summarise(passed, voxel_um=self.voxel_um)
        images = [projections.maximum[None], projections.mean[None], projections.dry_mass[None]]
        for file, level in zip(files[len(levels) :], projection_levels(self.shape_zyx), strict=True):
            if level.factor > 1:
                images = [shrink(image, factor=PROJECTION_FACTOR) for image in images]
            _write_shard(file, images, level=level)
        return statistics

    def write_classes(self, well: str, *, field: int, timepoint: int, classes: np.ndarray) -> None:
        """Write the map of states of a field as the label image "states" of its projection.

        Parameters
        ----------
        classes
            uint8 (y, x) on the projection's pixels: 0 = background, 1 to 5 = the states in their order.

        Raises
        ------
        StoreError
            The map does not fit the plate or holds other values.
        """
        self._check_place(well, field=field, timepoint=timepoint)
        if classes.shape != self.shape_zyx[1:] or classes.dtype != np.uint8 or classes.max() > len(STATES):
            raise StoreError(
                f"{self.mip_path}, well {well}, field {field}: a map of states must be uint8 "
                f"{self.shape_zyx[1:]} with values 0 to {len(STATES)}; got {classes.dtype} {classes.shape} "
                f"up to {classes.max()}"
            )
        image = self.mip_path / ngff.well_path(well) / str(field)
        if not (image / "labels" / "zarr.json").exists():
            metadata.write_label_groups(self, image, levels=projection_levels(self.shape_zyx))
        for number, level in enumerate(projection_levels(self.shape_zyx)):
            file = _shard(self.mip_path, well, field=field, level=number, timepoint=timepoint, label=True)
            remove(file)
            _write_shard(file, [classes[None, :: level.factor, :: level.factor]], level=level)

    def _read(
        self,
        root: Path,
        well: str,
        *,
        field: int,
        timepoint: int,
        level: int,
        channel: int = 0,
        label: bool = False,
    ) -> np.ndarray:
        import zarr

        self._check_place(well, field=field, timepoint=timepoint)
        file = _shard(root, well, field=field, level=level, timepoint=timepoint, label=label)
        # zarr reads an absent or empty file as fill values: nothing would tell them from data
        if not file_size(file):
            raise StoreError(
                f"{root}, well {well}, field {field}, timepoint {timepoint}: never written, or its file was "
                f"lost ({file}). Run `tomoscreen {'classify' if label else 'ingest'}` again."
            )
        array = _array_path(root, well, field=field, level=level, label=label)
        try:
            stored = zarr.open_array(str(array), mode="r")
            return np.asarray(stored[timepoint, channel])
        except (ValueError, RuntimeError, OSError) as error:
            raise StoreError(
                f"{root}, well {well}, field {field}, timepoint {timepoint}: damaged ({error}). Delete "
                f"{file} and run `tomoscreen {'classify' if label else 'ingest'}` again; only it is redone."
            ) from error

    def _check_place(self, well: str, *, field: int, timepoint: int) -> None:
        if well not in self.wells or not 0 <= field < self.fields or not 0 <= timepoint < self.timepoints:
            raise StoreError(
                f"{self.path}: no well {well!r}, field {field}, timepoint {timepoint}; the plate has "
                f"{len(self.wells)} wells ({self.wells[0]} to {self.wells[-1]}), {self.fields} fields and "
                f"{self.timepoints} timepoints"
            )

    def _record(self, provenance: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "schema": _SCHEMA,
            "name": self.name,
            "wells": list(self.wells),
            "fields": self.fields,
            "timepoints": self.timepoints,
            "shape_zyx": list(self.shape_zyx),
            "voxel_um": list(self.voxel_um),
            "hours": list(self.hours),
            "rows": self.rows,
            "columns": self.columns,
            "projections": list(PROJECTIONS),
            "provenance": dict(provenance),
        }


def _check_new(plate: Plate) -> None:
    if plate.path.suffix != ".zarr":
        raise StoreError(f"{plate.path}: a plate's folder must end in .zarr, such as P012.zarr")
    if len(plate.hours) != plate.timepoints:
        raise StoreError(f"{plate.path}: {len(plate.hours)} hours for {plate.timepoints} timepoints")
    if not plate.wells or min(plate.fields, plate.timepoints, *plate.shape_zyx) < 1:
        raise StoreError(f"{plate.path}: a plate needs a well, a field, a timepoint and voxels")
    seen: set[tuple[int, int]] = set()
    for well in plate.wells:
        place = ngff.well_position(well)
        if place in seen or place[0] >= plate.rows or place[1] >= plate.columns:
            raise StoreError(
                f"{plate.path}: well {well} is listed twice or lies outside a plate of {plate.rows} x "
                f"{plate.columns} wells"
            )
        seen.add(place)


def _joined(present: Plate, wanted: Plate) -> Plate:
    """A plate that is there, with what is new; the kind of its tomograms is fixed once written."""
    differences = [
        f"{what} {_brief(getattr(present, what))} there, {_brief(getattr(wanted, what))} now"
        for what in ("shape_zyx", "voxel_um", "rows", "columns")
        if getattr(present, what) != getattr(wanted, what)
    ]
    if differences:
        raise StoreError(
            f"{present.path}: a plate of another kind is already there: {'; '.join(differences)}. Give another "
            "output, or remove the old plate."
        )
    longer = max(present, wanted, key=lambda plate: plate.timepoints)
    return replace(
        wanted,
        wells=tuple(sorted({*present.wells, *wanted.wells}, key=ngff.well_position)),
        fields=max(present.fields, wanted.fields),
        timepoints=longer.timepoints,
        hours=wanted.hours if wanted.timepoints == longer.timepoints else longer.hours,
    )


def _brief(value: Any) -> str:
    if isinstance(value, tuple) and len(value) > 6:
        return f"({len(value)}: {value[0]} to {value[-1]})"
    return str(value)


def _write_shard(file: Path, images: Sequence[np.ndarray], *, level: Level) -> None:
    """One image (z, y, x) a channel into one file."""
    with appearing_whole(file) as handle:
        writer = ShardWriter(handle, shape=level.shape, chunk=level.chunk, channels=len(images))
        for channel, image in enumerate(images):
            writer.write(image, channel=channel)
        writer.finish()


def _array_path(root: Path, well: str, *, field: int, level: int, label: bool = False) -> Path:
    image = root / ngff.well_path(well) / str(field)
    return (image / "labels" / "states" if label else image) / str(level)


def _shard(root: Path, well: str, *, field: int, level: int, timepoint: int, label: bool = False) -> Path:
    array = _array_path(root, well, field=field, level=level, label=label)
    return array / "c" / str(timepoint) / "0" / "0" / "0" / "0"


def _triple(values: Sequence[Any]) -> tuple[Any, Any, Any]:
    first, second, third = values
    return first, second, third
