"""TCF files of Tomocube's holotomography microscopes, read one slab of one tomogram at a time.

There is no public specification. What is known comes from the public readers (bioio-tomocube, TCFile,
tcf_to_ometiff, SegmentTomocube, tomocube-tools); where they disagree the choice is a parameter. A file
is decided on by its structure, never by its version strings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import AcquisitionError
from ..patches import COUNTS_PER_INDEX
from .acquisition import FluorescenceChannel, FluorescenceTransform, Slab, index_counts

_SLAB_VOXELS = 1 << 24
_MAX_AXIS = 1 << 16
_MAX_FRAMES = 10_000
_MAX_FRAME_VOXELS = 1 << 32  # the largest stitched field known has 0.8e9 voxels
_MAX_CHUNK_BYTES = 1 << 30
# no lossless codec shrinks a large tomogram's noise so far
_MAX_COMPRESSION = 1000
_LARGE_BYTES = 1 << 28
_FRAME_NAME = re.compile(r"\d+")
_TILE_NAME = re.compile(r"TILE_(\d+)")


@contextmanager
def open_tcf(path: Path, *, zero_level_is_missing: bool = True) -> Iterator[TcfFile]:
    """Open an acquisition for lazy reading; only headers are read.

    Parameters
    ----------
    path
        The TCF file.
    zero_level_is_missing
        Whether the stored value 0 of 8-bit tiles means "not reconstructed", as it does in every other
        variant, rather than the frame's lowest index.

    Raises
    ------
    AcquisitionError
        The file is cut short, still being written, no TCF, or not safe to read (links to other files,
        external storage, impossible sizes).
    """
    import h5py
    import hdf5plugin  # noqa: F401  registers the Zstandard and Blosc filters with HDF5

    try:
        file = h5py.File(path, "r")
    except BlockingIOError as error:
        raise AcquisitionError(
            f"{path}: the file is still being written by another program. Wait until the acquisition "
            "has ended, then run again."
        ) from error
    except FileNotFoundError:
        raise
    except OSError as error:
        raise AcquisitionError(
            f"{path}: not a complete TCF (HDF5) file: {error}. It was probably cut short while being "
            "copied or is still being written. Copy it again from the microscope, or remove it."
        ) from error
    try:
        with file:
            yield TcfFile(file, path=path, zero_level_is_missing=zero_level_is_missing)
    except Exception as error:
        if "h5py" not in _origin(error):
            raise
        raise AcquisitionError(
            f"{path}: damaged, or compressed with a filter that is not installed: {error}. Copy the "
            "file again from the microscope, or remove it."
        ) from error


class TcfFile:
    """An open acquisition: its header now, its tomograms on demand.

    Attributes
    ----------
    path
        The file.
    frames
        Numbers of the tomograms present, ascending; a missing one leaves a gap.
    planned
        Number of tomograms that the acquisition announced (``DataCount``), at least those present.
    shape_zyx, voxel_um
        Of the tomograms; um.
    times_s
        Seconds since the first frame, by frame number; NaN where the file does not say.
    recorded
        Local time of the acquisition, or None.
    medium_index
        Index of the medium as entered at the instrument, or NaN.
    position_mm
        Stage position (x, y, z) of the first frame; NaN where the file does not say.
    channels
        Fluorescence channels by name.
    fluorescence_transform
        How the instrument says they lie on the tomogram.
    """

    def __init__(self, file: Any, *, path: Path, zero_level_is_missing: bool = True) -> None:
        self.path = path
        self._file = file
        self._zero_level_is_missing = zero_level_is_missing
        volumes = self._member(file, "Data", "3D")
        if not _is_group(volumes):
            raise self._error("Data/3D is not a group", "This is not a holotomography file.")
        self.frames = tuple(sorted(int(name) for name in volumes if _FRAME_NAME.fullmatch(name)))
        if not self.frames:
            raise self._error("it holds no tomogram (Data/3D is empty)", "Acquire it again, or remove it.")
        self._names = {int(name): name for name in volumes if _FRAME_NAME.fullmatch(name)}
        self.planned = max(self._integer(volumes, "DataCount", 0), self.frames[-1] + 1)
        if self.planned > _MAX_FRAMES:
            raise self._error(
                f"it announces {self.planned} frames (numbers up to {self.frames[-1]})",
                "The file is damaged; copy it again, or remove it.",
            )
        self.voxel_um = self._resolution(volumes)
        first = self._frame(self.frames[0])
        self.shape_zyx = self._frame_shape(first)
        self.times_s: Mapping[int, float] = {frame: self._time(volumes, frame) for frame in self.frames}
        self.recorded = _timestamp(_text(file, "RecordingTime"))
        device = self._optional(file, "Info", "Device")
        self.medium_index = _as_index(_number(device, "RI")) if device is not None else float("nan")
        self.position_mm: tuple[float, ...] = tuple(_number(first, f"Position{axis}") for axis in "XYZ")
        self.channels: Mapping[str, FluorescenceChannel] = self._channels()
        self.fluorescence_transform = self._fluorescence_transform()

    def slabs(self, frame: int) -> Iterator[Slab]:
        """Yield a tomogram in slabs along z, each at most some 16 million voxels (or one slice or chunk).

        Raises
        ------
        AcquisitionError
            The frame is missing, of another shape, unreadable, or holds values that are no index.
        """
        if frame not in self._names:
            raise self._error(
                f"frame {frame} is missing (present: {len(self.frames)} of {self.planned})", "Leave it out."
            )
        node = self._frame(frame)
        shape = self._frame_shape(node)
        if shape != self.shape_zyx:
            raise self._error(
                f"frame {frame} has the shape {shape} where frame {self.frames[0]} has {self.shape_zyx}",
                "Only frames of one shape make a series; split the file.",
            )
        if not _is_group(node):
            self._check_stored(node)
        step = self._slab_thickness(node)
        for z in range(0, shape[0], step):
            end = min(z + step, shape[0])
            if _is_group(node):
                counts, nonfinite = self._tiled_counts(node, z, end)
            else:
                counts, nonfinite = index_counts(node[z:end], where=f"{self.path}: frame {frame}")
            yield Slab(z=z, counts=counts, nonfinite=nonfinite)

    def read_fluorescence(self, channel: str, *, frame: int) -> np.ndarray:
        """One fluorescence stack (z, y, x) in camera units, as stored (uint8 or uint16)."""
        if channel not in self.channels or frame not in self.channels[channel].frames:
            raise self._error(f"fluorescence {channel!r} frame {frame} is missing", "Leave it out.")
        group = self._member(self._file, "Data", "3DFL", channel)
        node = self._member(group, _frame_name(group, frame))
        shape = self._frame_shape(node)
        if not _is_group(node):
            self._check_stored(node)
            return np.asarray(node[()])
        eight_bit = self._integer(node, "ScalarType", 0) == 1
        base = self._integer(node, "MinIntensity", 0) if eight_bit else 0
        dtype = np.uint8 if eight_bit and base == 0 else np.uint16
        stack = np.zeros(shape, dtype=dtype)
        for tile, offset, last in self._tiles(node):
            block = tile[tuple(slice(0, e - s + 1) for s, e in zip(offset, last, strict=True))]
            target = tuple(slice(s, e + 1) for s, e in zip(offset, last, strict=True))
            stack[target] = block.astype(dtype) + dtype(base)
        return stack

    def _tiled_counts(self, frame: Any, start: int, end: int) -> tuple[np.ndarray, int]:
        """Slices `start` to `end` of a tiled frame; what no tile covers is missing."""
        depth, height, width = self.shape_zyx
        counts = np.zeros((min(end, depth) - start, height, width), dtype=np.uint16)
        eight_bit = self._integer(frame, "ScalarType", 0) == 1
        base = self._lowest_count(frame) if eight_bit else 0
        nonfinite = 0
        for tile, offset, last in self._tiles(frame):
            first_z, last_z = max(offset[0], start), min(last[0], end - 1)
            if first_z > last_z:
                continue
            block = tile[
                first_z - offset[0] : last_z - offset[0] + 1,
                : last[1] - offset[1] + 1,
                : last[2] - offset[2] + 1,
            ]
            if eight_bit:
                values = block.astype(np.uint16) * np.uint16(10) + np.uint16(base)
                if self._zero_level_is_missing:
                    values[block == 0] = 0
            else:
                values, lost = index_counts(block, where=f"{self.path}: {frame.name}")
                nonfinite += lost
            counts[first_z - start : last_z - start + 1, offset[1] : last[1] + 1, offset[2] : last[2] + 1] = values
        return counts, nonfinite

    def _lowest_count(self, frame: Any) -> int:
        """What level 0 of an 8-bit frame stands for."""
        lowest = _as_index(_number(frame, "RIMin"))
        if not 0.5 < lowest < 5:
            raise self._error(
                f"{frame.name} holds 8-bit levels above a lowest index (RIMin) of {lowest}",
                "Without it the levels mean nothing; copy the file again, or remove it.",
            )
        return round(lowest * COUNTS_PER_INDEX)

    def _tiles(self, frame: Any) -> Iterator[tuple[Any, tuple[int, ...], tuple[int, ...]]]:
        """Data tiles of a frame with their first and last voxel; down-sampled copies are left out."""
        shape = self._frame_shape(frame)
        names = sorted((int(match[1]), name) for name in frame if (match := _TILE_NAME.fullmatch(name)))
        found = False
        for _, name in names:
            tile = self._member(frame, name)
            if self._integer(tile, "SamplingStep", 1) != 1:
                continue
            found = True
            offset = tuple(self._integer(tile, f"DataIndexOffsetPoint{axis}") for axis in "ZYX")
            last = tuple(self._integer(tile, f"DataIndexLastPoint{axis}") for axis in "ZYX")
            extent = tuple(e - s + 1 for s, e in zip(offset, last, strict=True))
            fits = all(0 <= s <= e < size for s, e, size in zip(offset, last, shape, strict=True)) and all(
                have >= need for have, need in zip(tile.shape, extent, strict=True)
            )
            if tile.ndim != 3 or not fits:
                raise self._error(
                    f"{frame.name}/{name} covers voxels {offset} to {last} with data of shape {tile.shape}, "
                    f"which does not fit the frame's {shape}",
                    "Copy the file again from the microscope, or remove it.",
                )
            self._check_stored(tile)
            yield tile, offset, last
        if not found:
            raise self._error(f"{frame.name} holds no tile of full resolution", "Acquire it again.")

    def _slab_thickness(self, node: Any) -> int:
        """Slices a slab: some 16 million voxels, rounded to whole chunks so that none is read twice."""
        depth, height, width = self.shape_zyx
        thickness = max(1, _SLAB_VOXELS // (height * width))
        sample = next(self._tiles(node))[0] if _is_group(node) else node
        if sample.chunks is not None:
            thickness = max(sample.chunks[0], thickness // sample.chunks[0] * sample.chunks[0])
        return int(min(depth, thickness))

    def _frame(self, frame: int) -> Any:
        return self._member(self._file, "Data", "3D", self._names[frame])

    def _frame_shape(self, node: Any) -> tuple[int, int, int]:
        """Shape of a frame, refused when it is impossible."""
        if _is_group(node):
            shape = tuple(self._integer(node, f"DataSize{axis}") for axis in "ZYX")
        else:
            shape = tuple(node.shape)
        if len(shape) != 3:
            raise self._error(f"{node.name} has the shape {shape}, expected (z, y, x)", "Remove it.")
        if min(shape) < 1 or max(shape) > _MAX_AXIS or shape[0] * shape[1] * shape[2] > _MAX_FRAME_VOXELS:
            raise self._error(
                f"{node.name} claims {shape[2]} x {shape[1]} x {shape[0]} voxels, more than any instrument records",
                "The file is damaged; copy it again, or remove it.",
            )
        return shape[0], shape[1], shape[2]

    def _time(self, volumes: Any, frame: int) -> float:
        seconds = _number(self._frame(frame), "Time")
        if np.isfinite(seconds):
            return seconds
        interval = _number(volumes, "TimeInterval")
        if np.isfinite(interval):
            return interval * frame
        return 0.0 if self.frames == (frame,) else float("nan")

    def _resolution(self, group: Any) -> tuple[float, float, float]:
        z, y, x = (_number(group, f"Resolution{axis}") for axis in "ZYX")
        if not all(np.isfinite(step) and step > 0 for step in (z, y, x)):
            raise self._error(
                f"{group.name} does not give a voxel size (ResolutionX/Y/Z = {x}, {y}, {z})",
                "Without it nothing can be measured; copy the file again, or remove it.",
            )
        return z, y, x

    def _channels(self) -> dict[str, FluorescenceChannel]:
        stacks = self._optional(self._file, "Data", "3DFL")
        if stacks is None:
            return {}
        channels = {}
        for name in sorted(key for key in stacks if re.fullmatch(r"CH\d+", key)):
            group = self._member(stacks, name)
            frames = tuple(sorted(int(key) for key in group if _FRAME_NAME.fullmatch(key)))
            if not frames:
                continue
            first = self._member(group, _frame_name(group, frames[0]))
            offset = _number(group, "OffsetZ", _number(stacks, "OffsetZ", 0.0))
            channels[name] = FluorescenceChannel(
                name=name,
                frames=frames,
                shape_zyx=self._frame_shape(first),
                voxel_um=self._resolution(stacks),
                offset_z_um=offset,
                excitation_um=_number(group, "Excitation"),
                emission_um=_number(group, "Emission"),
            )
        return channels

    def _fluorescence_transform(self) -> FluorescenceTransform:
        stored = self._optional(self._file, "Info", "MetaData", "FL", "Registration")
        if stored is None:
            return FluorescenceTransform()
        return FluorescenceTransform(
            rotation_rad=_number(stored, "Rotation", 0.0),
            scale=_number(stored, "Scale", 1.0),
            translation_um=(_number(stored, "TranslationY", 0.0), _number(stored, "TranslationX", 0.0)),
        )

    def _optional(self, group: Any, *names: str) -> Any:
        for name in names:
            # `name in group` would already open what an external link names
            if group.get(name, getlink=True) is None:
                return None
            group = self._member(group, name)
        return group

    def _member(self, group: Any, *names: str) -> Any:
        """Walk down one name at a time, so that no link on the way leads out of the file.

        HDF5 opens files named by external links, external storage and virtual datasets without asking
        (h5py issue 2891), and a check of the last link alone misses one in the middle of a path.
        """
        import h5py

        for name in names:
            link = group.get(name, getlink=True)
            if link is None:
                raise self._error(
                    f"{group.name.rstrip('/')}/{name} is missing",
                    "This is not a complete holotomography file.",
                )
            if not isinstance(link, h5py.HardLink):
                raise self._error(
                    f"{group.name.rstrip('/')}/{name} is a link to elsewhere ({type(link).__name__})",
                    "No microscope writes that; do not trust the file.",
                )
            group = group[name]
            if isinstance(group, h5py.Dataset):
                self._check_dataset(group)
        return group

    def _check_dataset(self, dataset: Any) -> None:
        if dataset.external is not None or dataset.is_virtual:
            raise self._error(f"{dataset.name} takes its data from another file", "Do not trust the file.")
        if dataset.dtype.kind not in "uif":
            raise self._error(f"{dataset.name} holds {dataset.dtype}, not numbers", "Remove the file.")

    def _check_stored(self, dataset: Any) -> None:
        """Refuse before allocating: 3 kB of HDF5 can claim 80 TB."""
        stored = dataset.id.get_storage_size()
        claimed = dataset.size * dataset.dtype.itemsize
        chunk = int(np.prod(dataset.chunks)) * dataset.dtype.itemsize if dataset.chunks else 0
        if (claimed > _LARGE_BYTES and claimed > _MAX_COMPRESSION * stored) or chunk > _MAX_CHUNK_BYTES:
            raise self._error(
                f"{dataset.name} claims {claimed:,} bytes and stores {stored:,}",
                "No tomogram compresses so far; the file is damaged or hostile.",
            )
        if stored == 0:
            raise self._error(f"{dataset.name} holds no data", "The acquisition was not finished; acquire it again.")

    def _integer(self, node: Any, name: str, default: int | None = None) -> int:
        value = _number(node, name, float("nan") if default is None else default)
        if not abs(value) < _MAX_FRAME_VOXELS:
            raise self._error(
                f"{node.name} gives {name} as {value}, expected a whole number",
                "The file is damaged; copy it again, or remove it.",
            )
        return int(value)

    def _error(self, what: str, remedy: str) -> AcquisitionError:
        return AcquisitionError(f"{self.path}: {what}. {remedy}")


def _is_group(node: Any) -> bool:
    import h5py

    return isinstance(node, h5py.Group)


def _frame_name(group: Any, frame: int) -> str:
    return next(str(name) for name in group if _FRAME_NAME.fullmatch(name) and int(name) == frame)


def _as_index(value: float) -> float:
    """Indices come as 1.33 or as 13300."""
    return value / COUNTS_PER_INDEX if value > 100 else value


def _number(node: Any, name: str, default: float = float("nan")) -> float:
    if name not in node.attrs:
        return default
    values = np.asarray(node.attrs[name]).ravel()
    return float(values[0]) if values.size and values.dtype.kind in "uifb" else default


def _text(node: Any, name: str) -> str:
    if name not in node.attrs:
        return ""
    values = np.asarray(node.attrs[name]).ravel()
    value: Any = values[0] if values.size else ""
    return str(value.decode(errors="replace") if isinstance(value, bytes) else value)


def _timestamp(text: str) -> datetime | None:
    for form in ("%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S"):
        try:
            return datetime.strptime(text.strip("\0 "), form)
        except ValueError:
            continue
    return None


def _origin(error: BaseException) -> str:
    """File of the innermost frame of an error, to tell HDF5's errors from ours."""
    trace = error.__traceback__
    name = ""
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        trace = trace.tb_next
    return name
