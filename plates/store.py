"""The plate store: tomograms and their projections, written once a field, read by anybody.

A plate is OME-Zarr 0.5 with axes t, c, z, y, x in two siblings: ``P012.zarr`` holds the tomograms and
``P012_mip.zarr``, with the same wells and fields, their maximum projections and the map of states. A voxel
is the refractive index x 10,000 as uint16; 0 means "no data". The tomogram of one field at one timepoint is
one file (a shard), so that two writers never share one and a half-written one never spoils another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import ngff
from .errors import MissingInputError, StoreError
from .shards import array_document, chunk_shape, encode, pyramid, remove, write_durable, write_text
from .states import COLOURS, STATES

SCALE_FACTOR = 1e-4  # stored count -> refractive index

_SCHEMA = 1
_KEY = "tomoscreen"
# A quarter of a tomogram's depth by a patch: measured as fast for a patch as whole columns and three times
# faster for a slice.
_VOLUME_CHUNK = (15, 160, 160)
# Projections are read whole; small ones are a single chunk.
_PROJECTION_CHUNK = (1, 512, 512)
_PROJECTION_LEVELS = 3
_SMALLEST_VOLUME_LEVEL = 256  # px; coarser levels of a tomogram serve nobody
_VOLUME_LEVELS = 3
_WINDOW = (13300, 13900)


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
    channels: Sequence[str] = ("RI",),
    provenance: Mapping[str, Any],
) -> Plate:
    """Make an empty plate and its sibling for projections, or reopen one of the same geometry.

    Only metadata is written; images that are never written stay absent.

    Parameters
    ----------
    path
        ``<name>.zarr``; projections go to ``<name>_mip.zarr`` beside it.
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
        The plate exists with another geometry, or the arguments make no plate.
    """
    plate = Plate(
        path=Path(path),
        name=name,
        wells=tuple(wells),
        fields=fields,
        timepoints=timepoints,
        shape_zyx=_triple(shape_zyx),
        voxel_um=_triple(voxel_um),
        hours=tuple(float(hour) for hour in hours),
        channels=tuple(channels),
        rows=rows,
        columns=columns,
    )
    _check_new(plate)
    record = plate._record(provenance)
    if (plate.path / "zarr.json").exists():
        _check_same(open_plate(plate.path), plate)
    else:
        _write_metadata(plate, root=plate.path, volumes=True)
        _write_metadata(plate, root=plate.mip_path, volumes=False)
    attributes = ngff.plate_attributes(name, wells=plate.wells, rows=rows, columns=columns, fields=fields)
    # the roots come last: a plate that was interrupted before them is no plate yet, and is made again
    described = _group({**attributes, _KEY: record}).encode()
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
    root = Path(path) / "zarr.json"
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
            path=Path(path),
            name=record["name"],
            wells=tuple(record["wells"]),
            fields=record["fields"],
            timepoints=record["timepoints"],
            shape_zyx=_triple(record["shape_zyx"]),
            voxel_um=_triple(record["voxel_um"]),
            hours=tuple(record["hours"]),
            channels=tuple(record["channels"]),
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
    channels: tuple[str, ...]
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

    def projection(self, well: str, *, field: int, timepoint: int) -> np.ndarray:
        """Maximum projection (y, x) as uint16 counts; 0 = missing. Raises as `volume`."""
        return np.squeeze(self._read(self.mip_path, well, field=field, timepoint=timepoint, level=0), axis=0)

    def thumbnail(self, well: str, *, field: int, timepoint: int, level: int) -> np.ndarray:
        """Projection (y, x) at a coarser level, each halving the one before. Raises as `volume`."""
        return np.squeeze(self._read(self.mip_path, well, field=field, timepoint=timepoint, level=level), axis=0)

    def classes(self, well: str, *, field: int, timepoint: int) -> np.ndarray:
        """Map of states (y, x): 0 background, then the states in their order. Raises as `volume`."""
        return np.squeeze(
            self._read(self.mip_path, well, field=field, timepoint=timepoint, level=0, label=True), axis=0
        )

    def has_field(self, well: str, *, field: int, timepoint: int) -> bool:
        """Whether the field was written at that timepoint."""
        return all(_is_written(file) for file in self.field_files(well, field=field, timepoint=timepoint))

    def field_files(self, well: str, *, field: int, timepoint: int) -> list[Path]:
        """Files that hold one field at one timepoint, tomogram first."""
        self._check_place(well, field=field, timepoint=timepoint)
        return [
            _shard(root, well, field=field, level=level, timepoint=timepoint)
            for root, levels in (
                (self.path, _volume_shapes(self.shape_zyx)),
                (self.mip_path, _projection_shapes(self.shape_zyx)),
            )
            for level in range(len(levels))
        ]

    def write_field(self, well: str, *, field: int, timepoint: int, volume: np.ndarray) -> None:
        """Write a tomogram, its pyramid, its maximum projection and that one's pyramid.

        Each file appears whole or not at all. What was there before is deleted first, so that an
        interruption never leaves a new tomogram beside an old projection.

        Parameters
        ----------
        volume
            uint16 counts (z, y, x); 0 = missing.

        Raises
        ------
        StoreError
            The tomogram does not fit the plate.
        """
        self._check_place(well, field=field, timepoint=timepoint)
        if volume.dtype != np.uint16 or volume.shape != self.shape_zyx:
            raise StoreError(
                f"{self.path}, well {well}, field {field}: got {volume.dtype} {volume.shape}, "
                f"expected uint16 {self.shape_zyx}"
            )
        files = self.field_files(well, field=field, timepoint=timepoint)
        for file in files:
            remove(file)
        projection = volume.max(axis=0, keepdims=True)
        images = [
            *pyramid(volume, levels=len(_volume_shapes(self.shape_zyx))),
            *pyramid(projection, levels=_PROJECTION_LEVELS),
        ]
        targets = [_VOLUME_CHUNK] * _volume_levels(self.shape_zyx) + [_PROJECTION_CHUNK] * _PROJECTION_LEVELS
        for file, image, target in zip(files, images, targets, strict=True):
            write_durable(file, encode(image, chunk=chunk_shape(image.shape, target=target)))

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
            self._write_label_metadata(image)
        for level in range(_PROJECTION_LEVELS):
            file = _shard(self.mip_path, well, field=field, level=level, timepoint=timepoint, label=True)
            remove(file)
            reduced = np.ascontiguousarray(classes[None, :: 2**level, :: 2**level])
            write_durable(file, encode(reduced, chunk=chunk_shape(reduced.shape, target=_PROJECTION_CHUNK)))

    def _read(
        self, root: Path, well: str, *, field: int, timepoint: int, level: int, label: bool = False
    ) -> np.ndarray:
        import zarr

        self._check_place(well, field=field, timepoint=timepoint)
        file = _shard(root, well, field=field, level=level, timepoint=timepoint, label=label)
        # zarr reads an absent or empty file as fill values: nothing would tell them from data
        if not _is_written(file):
            raise StoreError(
                f"{root}, well {well}, field {field}, timepoint {timepoint}: never written, or its file was "
                f"lost ({file}). Run `tomoscreen {'classify' if label else 'ingest'}` again."
            )
        array = _array_path(root, well, field=field, level=level, label=label)
        try:
            stored = zarr.open_array(str(array), mode="r")
            return np.asarray(stored[timepoint, 0])
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
            "channels": list(self.channels),
            "rows": self.rows,
            "columns": self.columns,
            "scale_factor": SCALE_FACTOR,
            "missing": 0,
            "provenance": dict(provenance),
        }

    def _scales(self, levels: int) -> list[tuple[float, ...]]:
        # the standard knows only an even step in time; the exact hours are in the plate's own record
        steps = np.diff(self.hours)
        interval = float(np.median(steps)) if len(steps) and np.median(steps) > 0 else 1.0
        z, y, x = self.voxel_um
        return [(interval, 1.0, z, y * 2**level, x * 2**level) for level in range(levels)]

    def _write_label_metadata(self, image: Path) -> None:
        labels = image / "labels"
        values = {value: (state, COLOURS[state]) for value, state in enumerate(STATES, start=1)}
        attributes = ngff.label_attributes("states", scales=self._scales(_PROJECTION_LEVELS), values=values)
        write_text(labels / "states" / "zarr.json", _group(attributes))
        for level, shape in enumerate(_projection_shapes(self.shape_zyx)):
            document = array_document(
                (self.timepoints, 1, *shape),
                chunk=chunk_shape(shape, target=_PROJECTION_CHUNK),
                dtype="uint8",
                attributes={},
            )
            write_text(labels / "states" / str(level) / "zarr.json", document)
        write_text(labels / "zarr.json", _group(ngff.labels_attributes(["states"])))


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


def _check_same(present: Plate, wanted: Plate) -> None:
    """A plate's geometry is fixed once written."""
    differences = [
        f"{what} {_brief(getattr(present, what))} there, {_brief(getattr(wanted, what))} now"
        for what in (
            "wells",
            "fields",
            "timepoints",
            "shape_zyx",
            "voxel_um",
            "channels",
            "rows",
            "columns",
        )
        if getattr(present, what) != getattr(wanted, what)
    ]
    if differences:
        raise StoreError(
            f"{present.path}: a plate of another geometry is already there: {'; '.join(differences)}. Give "
            "another output, or remove the old plate."
        )


def _brief(value: Any) -> str:
    if isinstance(value, tuple) and len(value) > 6:
        return f"({len(value)}: {value[0]} to {value[-1]})"
    return str(value)


def _write_metadata(plate: Plate, *, root: Path, volumes: bool) -> None:
    """Groups and arrays of every field, as JSON: all fields share one text, so it is made once."""
    for leftover in root.rglob("*.partial"):
        leftover.unlink()
    if volumes:
        shapes, target, downscaling = _volume_shapes(plate.shape_zyx), _VOLUME_CHUNK, "mean of 2 x 2"
    else:
        shapes, target, downscaling = (
            _projection_shapes(plate.shape_zyx),
            _PROJECTION_CHUNK,
            "maximum projection, then mean of 2 x 2",
        )
    scale = {"scale_factor": SCALE_FACTOR, "missing_value": 0, "long_name": "refractive index"}
    arrays = [
        array_document(
            (plate.timepoints, len(plate.channels), *shape),
            chunk=chunk_shape(shape, target=target),
            dtype="uint16",
            attributes=scale,
        )
        for shape in shapes
    ]
    image = _group(
        ngff.image_attributes(
            plate.name,
            scales=plate._scales(len(shapes)),
            channels=plate.channels,
            window=_WINDOW,
            downscaling=downscaling,
        )
    )
    well_group = _group(ngff.well_attributes(plate.fields))
    for row in {ngff.well_path(well).split("/")[0] for well in plate.wells}:
        write_text(root / row / "zarr.json", _group({}))
    for well in plate.wells:
        folder = root / ngff.well_path(well)
        write_text(folder / "zarr.json", well_group)
        for field in range(plate.fields):
            write_text(folder / str(field) / "zarr.json", image)
            for level, array in enumerate(arrays):
                write_text(folder / str(field) / str(level) / "zarr.json", array)


def _group(attributes: Mapping[str, Any]) -> str:
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}, indent=1)


def _volume_levels(shape_zyx: tuple[int, int, int]) -> int:
    """Two levels, or three for large fields; z is never reduced, being coarse already."""
    levels = 2
    while levels < _VOLUME_LEVELS and min(shape_zyx[1:]) >> (levels - 1) > _SMALLEST_VOLUME_LEVEL:
        levels += 1
    return levels


def _volume_shapes(shape_zyx: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    return _halved_shapes(shape_zyx, levels=_volume_levels(shape_zyx))


def _projection_shapes(shape_zyx: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    return _halved_shapes((1, *shape_zyx[1:]), levels=_PROJECTION_LEVELS)


def _halved_shapes(shape: tuple[int, int, int], *, levels: int) -> list[tuple[int, int, int]]:
    z, y, x = shape
    return [(z, -(-y // 2**level), -(-x // 2**level)) for level in range(levels)]


def _array_path(root: Path, well: str, *, field: int, level: int, label: bool = False) -> Path:
    image = root / ngff.well_path(well) / str(field)
    return (image / "labels" / "states" if label else image) / str(level)


def _shard(root: Path, well: str, *, field: int, level: int, timepoint: int, label: bool = False) -> Path:
    array = _array_path(root, well, field=field, level=level, label=label)
    return array / "c" / str(timepoint) / "0" / "0" / "0" / "0"


def _is_written(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:
        return False


def _triple(values: Sequence[Any]) -> tuple[Any, Any, Any]:
    first, second, third = values
    return first, second, third
