"""Images of OME-Zarr plates written by others, read one slab of one tomogram at a time.

Versions 0.4 and 0.5 are read, at full resolution. In zarr a chunk that was never written reads as the fill
value, and nearly every writer leaves out chunks of nothing else. So a missing chunk is "not reconstructed"
where the fill value means that, and an error where it would pass for an index; and a tomogram of which no
chunk is stored is not present.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import AcquisitionError
from .acquisition import FluorescenceChannel, FluorescenceTransform, Slab
from .index_encoding import IndexEncoding
from .names import Source
from .ngff_metadata import image_metadata, plate_images, read_ngff
from .zarr_array import Box, open_array
from .zarr_files import COPY_AGAIN, inside, read_attributes

_SLAB_VOXELS = 1 << 24
_MAX_AXIS = 1 << 16
_MAX_FRAMES = 10_000
_MAX_CHANNELS = 100
_MAX_FRAME_VOXELS = 1 << 32
# no lossless codec shrinks a large tomogram's noise so far
_MAX_COMPRESSION = 1000
_LARGE_BYTES = 1 << 28
_INDEX_LABELS = ("ri", "refractive index", "ht")
_METADATA_FILES = ("zarr.json", ".zattrs", ".zgroup")
_LISTED = 8


def is_ome_zarr(path: Path) -> bool:
    """Whether a folder is an OME-Zarr plate or image, of any version; also one whose metadata are damaged."""
    path = Path(path)
    if not any((path / name).is_file() for name in _METADATA_FILES):
        return False
    try:
        attributes = read_attributes(path, root=path.resolve())
    except AcquisitionError:
        return True  # opening it says what is wrong
    metadata = attributes.get("ome", attributes)
    return isinstance(metadata, dict) and ("plate" in metadata or "multiscales" in metadata)


def plate_sources(path: Path, *, acquisition: int | None = None) -> list[Source]:
    """All images of an OME-Zarr plate and their places.

    Fields count from 0 in the order in which a well lists its images. A plate of several acquisitions holds
    runs that may differ in everything, so one is to be chosen; a repeated imaging of the same fields belongs
    on a time axis.

    Parameters
    ----------
    acquisition
        Number of the run to take, where the plate holds several.

    Raises
    ------
    AcquisitionError
        It is no plate or a damaged one, or it holds several runs and none was chosen.
    """
    root = Path(path).resolve()
    if "plate" not in read_ngff(root, root=root):
        raise AcquisitionError(
            f"{path}: an OME-Zarr group, but not a plate. Give the plate's folder, or place the image by a manifest "
            "(CSV: path, well, field, timepoint)."
        )
    images = plate_images(root)
    runs = sorted({-1 if image.acquisition is None else image.acquisition for image in images})
    if acquisition is None and len(runs) > 1:
        raise AcquisitionError(
            f"{path}: the plate holds the acquisitions {', '.join(str(run) for run in runs if run >= 0)}"
            f"{', and images of none' if runs[0] < 0 else ''}, which may differ in everything. Choose one "
            f"(acquisition = {runs[-1]})."
        )
    if acquisition is not None:
        images = [image for image in images if image.acquisition == acquisition]
    if not images:
        raise AcquisitionError(
            f"{path}: the plate lists no image{'' if acquisition is None else f' of acquisition {acquisition}'}. "
            "Give another plate or acquisition."
        )
    fields: dict[str, int] = {}
    sources = []
    for image in images:
        field = fields.get(image.well, 0)
        fields[image.well] = field + 1
        sources.append(
            Source(path=Path(path), part=image.part, well=image.well, field=field, timepoint=0, recorded=image.recorded)
        )
    return sources


@contextmanager
def open_ome_zarr(path: Path, *, part: str = "", channel: str | None = None) -> Iterator[OmeZarrImage]:
    """Open one image for lazy reading; only metadata and the presence of chunks are read.

    Parameters
    ----------
    path
        Folder of a plate or of an image.
    part
        Which image of a plate (``"A/1/0"``); empty for the only one.
    channel
        Label, or number from 0, of the channel that holds the refractive index. By default the only channel,
        or the one labelled ``RI``, ``refractive index`` or ``HT``.

    Raises
    ------
    AcquisitionError
        It is no OME-Zarr image of a tomogram, damaged, or not safe to read (paths and links that leave the
        plate, impossible sizes).
    """
    image = OmeZarrImage(Path(path), part=part, channel=channel)
    if not image.frames:
        raise AcquisitionError(
            f"{path}{'/' if part else ''}{part}: no chunk of a tomogram is stored. It was never written or was lost; "
            "leave it out."
        )
    yield image


class OmeZarrImage:
    """An image of a plate: its metadata now, its tomograms on demand.

    Nothing is kept open, so one object serves several threads. Its attributes are those of every acquisition.
    """

    def __init__(self, path: Path, *, part: str = "", channel: str | None = None) -> None:
        self.path = path
        root = path.resolve()
        part, self.recorded = _find_part(path, root=root, part=part)
        folder = inside(root, root, part) if part else root
        self._name = f"{path}/{part}" if part else str(path)
        metadata = image_metadata(folder, root=root)
        self._axes = metadata.axes
        self._array = open_array(inside(root, folder, metadata.array), root=root)
        if len(self._array.shape) != len(self._axes):
            raise self._error(f"an array of shape {self._array.shape} for the axes {self._axes}", COPY_AGAIN)
        sizes = dict(zip(self._axes, self._array.shape, strict=True))
        self.shape_zyx = (sizes["z"], sizes["y"], sizes["x"])
        self.planned = sizes.get("t", 1)
        self._check_sizes(channels=sizes.get("c", 1))
        self.voxel_um = metadata.voxel_um
        z, y, x = (um / 1000 for um in metadata.position_um)
        self.position_mm: tuple[float, ...] = (x, y, z)
        self.medium_index = math.nan
        labels = _labels(metadata.channels, number=sizes.get("c", 1))
        self._channel = self._index_channel(labels, wanted=channel)
        described = metadata.channels[self._channel] if self._channel < len(metadata.channels) else {}
        self._encoding = IndexEncoding({**described, **self._array.attributes}, fill=self._array.fill, where=self._name)
        self.frames = self._present(self._channel)
        times = self._times(hours=_stored_hours(root), interval=metadata.interval_s)
        self.times_s: Mapping[int, float] = {frame: times[frame] for frame in self.frames}
        self._numbers = {label: number for number, label in enumerate(labels) if number != self._channel}
        self.channels: Mapping[str, FluorescenceChannel] = {
            label: FluorescenceChannel(
                name=label,
                frames=self._present(number),
                shape_zyx=self.shape_zyx,
                voxel_um=self.voxel_um,
                offset_z_um=0.0,
                excitation_um=math.nan,
                emission_um=math.nan,
            )
            for label, number in self._numbers.items()
        }
        self.fluorescence_transform = FluorescenceTransform()
        self.format, self.stored = "OME-Zarr", str(self._array.dtype)

    def describe_instrument(self) -> dict[str, Any]:
        """Nothing: the standard has no place for it."""
        return {}

    def slabs(self, frame: int, *, depth: int = 1) -> Iterator[Slab]:
        """Yield a tomogram in slabs along z, each at most some 16 million voxels (or one layer of chunks).

        Raises
        ------
        AcquisitionError
            The frame is missing or damaged, chunks of it were lost, or it holds values that are no index.
        """
        if frame not in self.frames:
            raise self._error(f"frame {frame} is missing", f"It has the frames {_brief(self.frames)}.")
        where = f"{self._name}, timepoint {frame}"
        depth = self.shape_zyx[0]
        layers = self._stored_layers(frame, self._channel)
        lost = int(np.count_nonzero(~layers))
        if lost and not self._encoding.fill_is_missing:
            raise self._error(
                f"{lost} of {layers.size} chunks of timepoint {frame} are not stored and would read as "
                f"{self._array.fill}, which is a refractive index",
                "They may be lost. Copy the plate again, or write it again with all chunks.",
            )
        chunk = self._chunk_zyx()
        thickness = min(depth, max(chunk[0], self._slab_thickness() // chunk[0] * chunk[0]))
        for start in range(0, depth, thickness):
            end = min(start + thickness, depth)
            block = self._read(frame, self._channel, start, end)
            if lost:
                self._check_lost(block, layers[start // chunk[0] :], frame=frame)
            counts, nonfinite = self._encoding.counts(block, where=where)
            yield Slab(z=start, counts=np.ascontiguousarray(counts), nonfinite=nonfinite)

    def read_fluorescence(self, channel: str, *, frame: int) -> np.ndarray:
        """One fluorescence stack (z, y, x) in camera units, uint8 or uint16."""
        if channel not in self.channels or frame not in self.channels[channel].frames:
            raise self._error(f"fluorescence {channel!r} frame {frame} is missing", "Leave it out.")
        number = self._numbers[channel]
        self._stored_layers(frame, number)
        stack = self._read(frame, number, 0, self.shape_zyx[0])
        if stack.dtype in (np.dtype(np.uint8), np.dtype(np.uint16)):
            return np.ascontiguousarray(stack)
        if not np.isfinite(stack).all() or stack.min() < 0 or stack.max() > np.iinfo(np.uint16).max:
            raise self._error(
                f"fluorescence {channel!r} holds {stack.dtype} values from {stack.min()} to {stack.max()}",
                "Camera units from 0 to 65535 are expected; write them so, or leave the channel out.",
            )
        return np.ascontiguousarray(np.rint(stack).astype(np.uint16))

    def files(self, frame: int) -> list[Path]:
        """Files that hold a frame, and the array's metadata, which tell how to read them."""
        return self._array.files(self._box(frame, self._channel, 0, self.shape_zyx[0]))

    def _read(self, frame: int, channel: int, start: int, end: int) -> np.ndarray:
        """Values (z, y, x) of slices `start` to `end`, as stored."""
        block = self._array.read(self._box(frame, channel, start, end))
        order = [axis for axis in self._axes if axis in "zyx"]
        block = block.reshape([size for axis, size in zip(self._axes, block.shape, strict=True) if axis in "zyx"])
        return block.transpose([order.index(axis) for axis in "zyx"])

    def _box(self, frame: int, channel: int, start: int, end: int) -> Box:
        _, height, width = self.shape_zyx
        spans = {
            "t": (frame, frame + 1),
            "c": (channel, channel + 1),
            "z": (start, end),
            "y": (0, height),
            "x": (0, width),
        }
        return tuple(slice(*spans[axis]) for axis in self._axes)

    def _present(self, channel: int) -> tuple[int, ...]:
        depth = self.shape_zyx[0]
        return tuple(
            frame for frame in range(self.planned) if self._array.is_stored(self._box(frame, channel, 0, depth))
        )

    def _stored_layers(self, frame: int, channel: int) -> np.ndarray:
        """Which chunks (z, y, x) of a frame are stored; refused where they cannot hold what is claimed."""
        present, stored = self._array.stored(self._box(frame, channel, 0, self.shape_zyx[0]))
        claimed = math.prod(self.shape_zyx) * self._array.dtype.itemsize
        if claimed > _LARGE_BYTES and claimed > _MAX_COMPRESSION * stored:
            raise self._error(
                f"timepoint {frame} claims {claimed:,} bytes and stores {stored:,}",
                "No tomogram compresses so far; the plate is damaged or hostile.",
            )
        order = [axis for axis in self._axes if axis in "zyx"]
        sizes = [size for axis, size in zip(self._axes, present.shape, strict=True) if axis in "zyx"]
        return present.reshape(sizes).transpose([order.index(axis) for axis in "zyx"])

    def _check_lost(self, block: np.ndarray, layers: np.ndarray, *, frame: int) -> None:
        """A writer that stores chunks of nothing leaves none out: then what is missing was lost."""
        steps = self._chunk_zyx()
        for place in np.argwhere(layers[: -(-len(block) // steps[0])]):
            part = block[tuple(slice(n * step, (n + 1) * step) for n, step in zip(place, steps, strict=True))]
            if self._encoding.is_fill(part):
                raise self._error(
                    f"chunks of timepoint {frame} were lost: its writer stores even empty ones, and some are not there",
                    "Copy the plate again from where it was made.",
                )

    def _index_channel(self, labels: Sequence[str], *, wanted: str | None) -> int:
        """Number of the channel that holds the refractive index."""
        if wanted is not None:
            found = [number for number, label in enumerate(labels) if label.lower() == wanted.strip().lower()]
            if not found and wanted.strip().isdecimal():
                found = [number for number in range(len(labels)) if number == int(wanted)]
        elif len(labels) == 1:
            return 0
        else:
            found = [number for number, label in enumerate(labels) if label.strip().lower() in _INDEX_LABELS]
        if len(found) != 1:
            raise self._error(
                f"{len(found) or 'none'} of the channels {', '.join(labels)} "
                f"{'is' if wanted is None else f'is {wanted!r}, which was asked for as'} the refractive index",
                f"Name the one that is (option channel), by its label or its number from 0 to {len(labels) - 1}.",
            )
        return found[0]

    def _times(self, *, hours: Sequence[float] | None, interval: float) -> tuple[float, ...]:
        if hours is not None and len(hours) == self.planned:
            return tuple((hour - hours[0]) * 3600 for hour in hours)
        return tuple(frame * interval for frame in range(self.planned)) if self.planned > 1 else (0.0,)

    def _chunk_zyx(self) -> tuple[int, ...]:
        sizes = dict(zip(self._axes, self._array.chunk, strict=True))
        return tuple(sizes[axis] for axis in "zyx")

    def _slab_thickness(self) -> int:
        return max(1, _SLAB_VOXELS // (self.shape_zyx[1] * self.shape_zyx[2]))

    def _check_sizes(self, *, channels: int) -> None:
        if max(self.shape_zyx) > _MAX_AXIS or math.prod(self.shape_zyx) > _MAX_FRAME_VOXELS:
            depth, height, width = self.shape_zyx
            raise self._error(
                f"it claims {width} x {height} x {depth} voxels, more than any instrument records", COPY_AGAIN
            )
        if self.planned > _MAX_FRAMES or channels > _MAX_CHANNELS:
            raise self._error(f"it claims {self.planned} timepoints and {channels} channels", COPY_AGAIN)

    def _error(self, what: str, remedy: str) -> AcquisitionError:
        return AcquisitionError(f"{self._name}: {what}. {remedy}")


def _find_part(path: Path, *, root: Path, part: str) -> tuple[str, datetime | None]:
    """The image meant, and when its run began."""
    if "plate" not in read_ngff(root, root=root):
        return part, None
    images = plate_images(root, well_path=part.rpartition("/")[0])
    if part:
        return part, next((image.recorded for image in images if image.part == part), None)
    if len(images) != 1:
        raise AcquisitionError(
            f"{path}: a plate of {len(images)} images ({_brief([image.part for image in images])}); say which one "
            "(part), or give the plate where a plate is wanted."
        )
    return images[0].part, images[0].recorded


def _labels(channels: Sequence[Mapping[str, Any]], *, number: int) -> list[str]:
    """A name for each channel: its label, where it has one of its own."""
    labels: list[str] = []
    for channel in range(number):
        label = str(channels[channel].get("label") or "") if channel < len(channels) else ""
        labels.append(label if label and label not in labels else f"CH{channel}")
    return labels


def _stored_hours(root: Path) -> list[float] | None:
    """Exact hours that this program keeps with its own plates; OME-Zarr itself knows only an even step."""
    record = read_attributes(root, root=root).get("tomoscreen")
    hours = record.get("hours") if isinstance(record, dict) else None
    if not isinstance(hours, list) or not all(isinstance(hour, int | float) for hour in hours):
        return None
    return [float(hour) for hour in hours]


def _brief(names: Sequence[object]) -> str:
    shown = ", ".join(str(name) for name in names[:_LISTED])
    return f"{shown}, ..." if len(names) > _LISTED else shown or "none"
