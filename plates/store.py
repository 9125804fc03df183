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
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from . import metadata, ngff
from .errors import AcquisitionError, MissingInputError, StoreError
from .files import appearing_whole, file_size, location, remove
from .integrity import seal_broken
from .levels import PROJECTION_FACTOR, VOLUME_FACTOR, Level, projection_levels, volume_levels
from .metadata import PROJECTIONS
from .projections import FieldStatistics, summarise
from .shards import ShardWriter
from .states import STATES
from .tomogram import pass_through, shrink

SCHEMA = 2
# zarrs, to which importing other packages may switch all of zarr, does not check the checksums of parts of a shard
_OPENING = Lock()
_CHECKING_CODECS = "zarr.core.codec_pipeline.BatchedCodecPipeline"


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
    check_name(path)
    root = path / "zarr.json"
    if not root.exists():
        raise MissingInputError(
            f"{path}: there is no plate. Expected a folder such as P012.zarr, made by `tomoscreen ingest`."
        )
    try:
        described = root.read_bytes()
        if seal_broken(described):
            raise StoreError(f"{root}: was altered after it was written. Run `tomoscreen repair {path}`.")
        record = json.loads(described)["attributes"][metadata.KEY]
        if record["schema"] != SCHEMA:
            raise StoreError(
                f"{path}: written with layout {record['schema']} of the store, this version reads {SCHEMA}. "
                "Convert the acquisitions again."
            )
        return Plate(
            path=path,
            name=record["name"],
            wells=tuple(record["wells"]),
            fields=record["fields"],
            timepoints=record["timepoints"],
            shape_zyx=triple(record["shape_zyx"]),
            voxel_um=triple(record["voxel_um"]),
            hours=tuple(record["hours"]),
            rows=record["rows"],
            columns=record["columns"],
            fluorescence=tuple(record["fluorescence"]),
            elsewhere=Elsewhere.from_record(record["elsewhere"]) if record["elsewhere"] else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, StoreError):
            raise
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
    channel
        Which channel holds the refractive index; None where there is only one.
    images
        Well, field, timepoint of the first frame, and path of the image below the plate's folder.
    """

    path: str
    channel: str | None
    images: tuple[tuple[str, int, int, str], ...]

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Elsewhere:
        """Read it from JSON, where tuples are lists."""
        images = tuple((well, field, timepoint, part) for well, field, timepoint, part in record["images"])
        return cls(path=record["path"], channel=record["channel"], images=images)

    def volume(self, well: str, *, field: int, timepoint: int) -> np.ndarray:
        """Tomogram (z, y, x) as uint16 counts; 0 = missing. Raises StoreError."""
        from .ingest.acquisition import read_frame
        from .ingest.ome_zarr import OmeZarrImage

        begun = [image for image in self.images if image[:2] == (well, field) and image[2] <= timepoint]
        if not begun:
            raise StoreError(f"{self.path}: holds no well {well}, field {field}, timepoint {timepoint}")
        _, _, first, part = max(begun, key=lambda image: image[2])
        try:
            image = OmeZarrImage(Path(self.path), part=part, channel=self.channel)
            return read_frame(image, timepoint - first)[0]
        except (AcquisitionError, OSError) as error:
            raise StoreError(f"well {well}, field {field}, timepoint {timepoint}: {error}") from error


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
            return self.elsewhere.volume(well, field=field, timepoint=timepoint)
        return self._read(self.path, well, field=field, timepoint=timepoint, level=0)

    def fluorescence_projection(self, well: str, *, field: int, timepoint: int, channel: str) -> np.ndarray:
        """Maximum projection of a fluorescence channel (y, x) on the projection's pixels, in camera units + 1.

        Outside the area that the camera saw it is 0. Raises as `volume`.
        """
        if channel not in self.fluorescence:
            raise StoreError(f"{self.path}: no fluorescence channel {channel!r}; there are {list(self.fluorescence)}")
        number = self.fluorescence.index(channel)
        image = self._read(
            self.fluorescence_path,
            well,
            field=field,
            timepoint=timepoint,
            level=0,
            channel=number,
            shard_channel=number,
        )
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
            for sibling in self.siblings()
            if sibling.path != self.fluorescence_path
            for level in range(len(sibling.levels))
        ]

    def fluorescence_files(self, well: str, *, field: int, timepoint: int) -> list[Path]:
        """Files that may hold the fluorescence of one field at one timepoint, channel by channel."""
        return [
            file
            for channel in range(len(self.fluorescence))
            for file in self._channel_files(well, field=field, timepoint=timepoint, channel=channel)
        ]

    def label_files(self, well: str, *, field: int, timepoint: int) -> list[Path]:
        """Files that may hold the map of states of one field at one timepoint."""
        self._check_place(well, field=field, timepoint=timepoint)
        return [
            _shard(self.mip_path, well, field=field, level=level, timepoint=timepoint, label=True)
            for level in range(len(projection_levels(self.shape_zyx)))
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
        metadata.mend_groups(self, self.siblings(), well, field=field)
        files = self.field_files(well, field=field, timepoint=timepoint)
        # a map of states of another tomogram is none of this one
        for file in (*self.label_files(well, field=field, timepoint=timepoint), *files):
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
        for channel, image in images.items():
            if channel not in self.fluorescence or image.shape != self.shape_zyx[1:] or image.dtype != np.uint16:
                raise StoreError(
                    f"{self.fluorescence_path}, well {well}, field {field}: got {channel} {image.dtype} "
                    f"{image.shape}, expected uint16 {self.shape_zyx[1:]} of {list(self.fluorescence)}"
                )
        for file in self.fluorescence_files(well, field=field, timepoint=timepoint):
            remove(file)
        for channel, image in images.items():
            number = self.fluorescence.index(channel)
            files = self._channel_files(well, field=field, timepoint=timepoint, channel=number)
            _write_pyramid(files, [image[None]], levels=projection_levels(self.shape_zyx))

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
        files = self.label_files(well, field=field, timepoint=timepoint)
        for file, level in zip(files, projection_levels(self.shape_zyx), strict=True):
            remove(file)
            _write_shard(file, [classes[None, :: level.factor, :: level.factor]], level=level)

    def _channel_files(self, well: str, *, field: int, timepoint: int, channel: int) -> list[Path]:
        self._check_place(well, field=field, timepoint=timepoint)
        return [
            _shard(self.fluorescence_path, well, field=field, level=level, timepoint=timepoint, channel=channel)
            for level in range(len(projection_levels(self.shape_zyx)))
        ]

    def _read(
        self,
        root: Path,
        well: str,
        *,
        field: int,
        timepoint: int,
        level: int,
        channel: int = 0,
        shard_channel: int = 0,
        label: bool = False,
    ) -> np.ndarray:
        import zarr

        self._check_place(well, field=field, timepoint=timepoint)
        file = _shard(root, well, field=field, level=level, timepoint=timepoint, channel=shard_channel, label=label)
        # zarr reads an absent or empty file as fill values: nothing would tell them from data
        if not file_size(file):
            raise StoreError(
                f"{root}, well {well}, field {field}, timepoint {timepoint}: never written, or its file was "
                f"lost ({file}). Run `tomoscreen {'classify' if label else 'ingest'}` again."
            )
        array = _array_path(root, well, field=field, level=level, label=label)
        try:
            if seal_broken((array / "zarr.json").read_bytes()):
                raise ValueError(f"{array / 'zarr.json'} was altered")
            # zarr's settings are those of the process: two threads must not take turns in setting them back
            with _OPENING, zarr.config.set({"codec_pipeline.path": _CHECKING_CODECS}):
                stored = zarr.open_array(str(array), mode="r")
            return np.asarray(stored[timepoint] if label else stored[timepoint, channel])
        except (ValueError, RuntimeError, OSError, IndexError) as error:
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

    def siblings(self) -> list[metadata.Sibling]:
        """Stores with images, as others read them."""
        projections = projection_levels(self.shape_zyx)
        siblings = [metadata.Sibling(self.mip_path, projections, metadata.PROJECTIONS)]
        if self.elsewhere is None:
            siblings.insert(0, metadata.Sibling(self.path, volume_levels(self.shape_zyx), metadata.TOMOGRAM))
        if self.fluorescence:
            channels = dict.fromkeys(self.fluorescence, metadata.CAMERA)
            siblings.append(metadata.Sibling(self.fluorescence_path, projections, channels))
        return siblings

    def record(self, provenance: Mapping[str, Any]) -> dict[str, Any]:
        """What the root group says of the plate, for `open_plate`."""
        return {
            "schema": SCHEMA,
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


def _shard(
    root: Path, well: str, *, field: int, level: int, timepoint: int, channel: int = 0, label: bool = False
) -> Path:
    array = _array_path(root, well, field=field, level=level, label=label)
    # a map of states has no channels
    return array.joinpath("c", str(timepoint), *([] if label else [str(channel)]), "0", "0", "0")


def check_name(path: Path) -> None:
    """Refuse the name of a plate's sibling: its images would be taken for the plate's own."""
    if path.suffix != ".zarr" or path.stem.endswith(("_mip", "_fl", ".results")):
        raise StoreError(
            f"{path}: no plate can be called so. Expected a folder such as P012.zarr; P012_mip.zarr, P012_fl.zarr and "
            "P012.results.zarr are its siblings."
        )


def triple(values: Sequence[Any]) -> tuple[Any, Any, Any]:
    """Three values as a tuple of three."""
    first, second, third = values
    return first, second, third
