"""The plate store: tomograms and their projections, written once a field, read by anybody.

A plate is OME-Zarr 0.5 with axes t, c, z, y, x in siblings with the same wells and fields: ``P012.zarr`` holds the
tomograms, ``P012_mip.zarr`` their projections and the map of states, ``P012_fl.zarr`` the fluorescence on the
projections' pixels, where there is any. A voxel is the refractive index x 10,000 as uint16; 0 means "no data". The
tomogram of one field at one timepoint is one file (a shard), so that two writers never share one and a half-written
one never spoils another.

Tomograms of somebody else's OME-Zarr plate may stay where they are: ``P012.zarr`` then only names them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from .foreign import ForeignPlate

_SCHEMA = 2
_KEY = "tomoscreen"
# zarrs, to which importing other packages may switch all of zarr, does not check the checksums of parts of a shard
_CHECKING_CODECS = "zarr.core.codec_pipeline.BatchedCodecPipeline"


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
    fluorescence: Sequence[str] = (),
    elsewhere: Elsewhere | None = None,
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
    fluorescence
        Names of the fluorescence channels.
    elsewhere
        The plate that holds the tomograms, where they are not to be copied.
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
        fluorescence=tuple(fluorescence),
        elsewhere=elsewhere,
    )
    _check_new(plate)
    present = open_plate(plate.path) if (plate.path / "zarr.json").exists() else None
    if present is not None:
        plate = _joined(present, plate)
    siblings = plate._siblings()
    if present is None or present != plate:
        for sibling in siblings:
            metadata.write_groups(plate, sibling)
    attributes = ngff.plate_attributes(
        plate.name, wells=plate.wells, rows=plate.rows, columns=plate.columns, fields=plate.fields
    )
    record = {_KEY: plate._record(provenance)}
    # the roots come last: a plate that was interrupted before them is no plate yet, and is made again
    roots = {sibling.path: {**attributes, **record} for sibling in reversed(siblings)}
    if plate.elsewhere is not None:
        # it holds no image, so it is no plate to others
        roots[plate.path] = record
    for root, described in roots.items():
        document = metadata.group_document(described).encode()
        if not (root / "zarr.json").exists() or (root / "zarr.json").read_bytes() != document:
            write_durable(root / "zarr.json", document)
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
            fluorescence=tuple(record["fluorescence"]),
            elsewhere=Elsewhere(**record["elsewhere"]) if record["elsewhere"] else None,
        )
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise StoreError(
            f"{path}: not a plate made by `tomoscreen ingest`, or its zarr.json is damaged ({error})."
        ) from error


@dataclass(frozen=True)
class Elsewhere:
    """Somebody else's OME-Zarr plate whose tomograms are used in place.

    Attributes
    ----------
    path
        Its folder.
    channel, acquisition
        Which channel holds the refractive index, and which run is meant; None where there is only one.
    """

    path: str
    channel: str | None = None
    acquisition: int | None = None


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
    fluorescence
        Names of the fluorescence channels; single images may be absent.
    elsewhere
        Where the tomograms are, if not here.
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
    fluorescence: tuple[str, ...] = ()
    elsewhere: Elsewhere | None = None

    @property
    def mip_path(self) -> Path:
        """Sibling store of the projections."""
        return self.path.with_name(f"{self.path.stem}_mip.zarr")

    @property
    def fluorescence_path(self) -> Path:
        """Sibling store of the fluorescence; absent where there is none."""
        return self.path.with_name(f"{self.path.stem}_fl.zarr")

    def volume(self, well: str, *, field: int, timepoint: int) -> np.ndarray:
        """Tomogram (z, y, x) as uint16 counts; 0 = missing.

        Raises
        ------
        StoreError
            It was never written, or its file is damaged.
        """
        if self.elsewhere is not None:
            self._check_place(well, field=field, timepoint=timepoint)
            return _open_elsewhere(self.elsewhere).volume(well, field=field, timepoint=timepoint)
        return self._read(self.path, well, field=field, timepoint=timepoint, level=0)

    def fluorescence_projection(self, well: str, *, field: int, timepoint: int, channel: str) -> np.ndarray:
        """Maximum projection of a fluorescence channel (y, x) on the projection's pixels, in camera units + 1.

        Outside the area that the camera saw it is 0. Raises as `volume`.
        """
        if channel not in self.fluorescence:
            raise StoreError(f"{self.path}: no fluorescence channel {channel!r}; there are {list(self.fluorescence)}")
        number = self.fluorescence.index(channel)
        image = self._read(self.fluorescence_path, well, field=field, timepoint=timepoint, level=0, channel=number)
        return np.squeeze(image, axis=0)

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
            _shard(sibling.path, well, field=field, level=level, timepoint=timepoint)
            for sibling in self._siblings()
            if sibling.path != self.fluorescence_path
            for level in range(len(sibling.levels))
        ]

    def fluorescence_files(self, well: str, *, field: int, timepoint: int) -> list[Path]:
        """Files that hold the fluorescence of one field at one timepoint, if there is any."""
        self._check_place(well, field=field, timepoint=timepoint)
        levels = projection_levels(self.shape_zyx) if self.fluorescence else []
        return [
            _shard(self.fluorescence_path, well, field=field, level=level, timepoint=timepoint)
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
        kept = levels if self.elsewhere is None else []
        slabs = [volume] if isinstance(volume, np.ndarray) else volume
        try:
            with ExitStack() as stack:
                writers = [
                    ShardWriter(stack.enter_context(appearing_whole(file)), shape=level.shape, chunk=level.chunk)
                    for file, level in zip(files, kept, strict=False)
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
        _write_pyramid(files[len(kept) :], images, levels=projection_levels(self.shape_zyx))
        return statistics

    def write_fluorescence(self, well: str, *, field: int, timepoint: int, images: Mapping[str, np.ndarray]) -> None:
        """Write the fluorescence of a field: channel -> uint16 (y, x) in camera units + 1; 0 = not seen.

        A channel of the plate that is not given was not recorded.

        Raises
        ------
        StoreError
            The images do not fit the plate.
        """
        files = self.fluorescence_files(well, field=field, timepoint=timepoint)
        for channel, image in images.items():
            if channel not in self.fluorescence or image.shape != self.shape_zyx[1:] or image.dtype != np.uint16:
                raise StoreError(
                    f"{self.fluorescence_path}, well {well}, field {field}: got {channel} {image.dtype} "
                    f"{image.shape}, expected uint16 {self.shape_zyx[1:]} of {list(self.fluorescence)}"
                )
        for file in files:
            remove(file)
        nothing = np.zeros(self.shape_zyx[1:], dtype=np.uint16)
        stacks = [images.get(channel, nothing)[None] for channel in self.fluorescence]
        _write_pyramid(files, stacks, levels=projection_levels(self.shape_zyx))

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
            with zarr.config.set({"codec_pipeline.path": _CHECKING_CODECS}):
                stored = zarr.open_array(str(array), mode="r")
            return np.asarray(stored[timepoint] if label else stored[timepoint, channel])
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

    def _siblings(self) -> list[metadata.Sibling]:
        """Stores with images, as others read them."""
        projections = projection_levels(self.shape_zyx)
        siblings = [metadata.Sibling(self.mip_path, projections, metadata.PROJECTIONS)]
        if self.elsewhere is None:
            siblings.insert(0, metadata.Sibling(self.path, volume_levels(self.shape_zyx), metadata.TOMOGRAM))
        if self.fluorescence:
            channels = dict.fromkeys(self.fluorescence, metadata.CAMERA)
            siblings.append(metadata.Sibling(self.fluorescence_path, projections, channels))
        return siblings

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
            "fluorescence": list(self.fluorescence),
            "elsewhere": asdict(self.elsewhere) if self.elsewhere else None,
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
        for what in ("shape_zyx", "voxel_um", "rows", "columns", "elsewhere")
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
        fluorescence=tuple(dict.fromkeys((*present.fluorescence, *wanted.fluorescence))),
        timepoints=longer.timepoints,
        hours=wanted.hours if wanted.timepoints == longer.timepoints else longer.hours,
    )


def _brief(value: Any) -> str:
    if isinstance(value, tuple) and len(value) > 6:
        return f"({len(value)}: {value[0]} to {value[-1]})"
    return str(value)


@lru_cache(maxsize=4)
def _open_elsewhere(elsewhere: Elsewhere) -> ForeignPlate:
    from .foreign import open_foreign_plate

    return open_foreign_plate(Path(elsewhere.path), channel=elsewhere.channel, acquisition=elsewhere.acquisition)


def _write_pyramid(files: Sequence[Path], images: Sequence[np.ndarray], *, levels: Sequence[Level]) -> None:
    """Images (1, y, x), one a channel, and their coarser levels."""
    for file, level in zip(files, levels, strict=True):
        if level.factor > 1:
            images = [shrink(image, factor=PROJECTION_FACTOR) for image in images]
        _write_shard(file, images, level=level)


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
    # a map of states has no channels
    return array.joinpath("c", str(timepoint), *["0"] * (3 if label else 4))


def _triple(values: Sequence[Any]) -> tuple[Any, Any, Any]:
    first, second, third = values
    return first, second, third
