"""TCF files written as a holotomography microscope writes them, from arrays whose truth is known."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .instrument_files import (
    Conditions,
    set_attributes,
    write_beside,
    write_configuration,
    write_device,
)
from .instrument_files import (
    Registration as Registration,
)

Variant = Literal["uint16", "float", "ldm", "ldm8"]
Compression = Literal["none", "gzip", "zstd"]

_RI_SCALE = 1e4  # stored integer = refractive index x 10,000
_LDM8_STEP = 10  # an 8-bit level is 1e-3 of index, so 10 of the integer steps
_CHUNK_BYTES = 1 << 20
_TIME_FORMAT = "%Y-%m-%d %H:%M:%S.%f"


@dataclass(frozen=True)
class FluorescenceFrames:
    """One fluorescence channel of an acquisition, on its own grid.

    Attributes
    ----------
    frames
        uint8 or uint16 stacks (z, y, x), one a recorded time.
    voxel_um
        Voxel size (z, y, x) in um.
    times_s
        Seconds since the first tomogram, one a frame.
    offset_z_um
        Height of the first slice in the tomogram's coordinates.
    excitation_um, emission_um
        Wavelengths in um.
    colour
        Display colour, red, green and blue from 0 to 255.
    """

    frames: Iterable[np.ndarray]
    voxel_um: tuple[float, float, float]
    times_s: Sequence[float]
    offset_z_um: float = 0.0
    excitation_um: float = 0.0
    emission_um: float = 0.0
    colour: tuple[int, int, int] = (255, 255, 255)


def write_tcf(
    path: Path,
    *,
    frames: Iterable[np.ndarray],
    voxel_um: tuple[float, float, float],
    times_s: Sequence[float],
    medium_index: float,
    recording_time: datetime,
    variant: Variant = "uint16",
    fluorescence: Mapping[str, FluorescenceFrames] | None = None,
    registration: Registration | None = None,
    title: str = "",
    user: str = "tomoscreen",
    device_serial: str = "SIMULATED",
    device_model: str = "HT-X1",
    magnification: float = 40.0,
    condenser_na: float = 0.72,
    wavelength_um: float = 0.45,
    compression: Compression = "zstd",
    well: str = "A01",
    position_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    tiles_yx: tuple[int, int] = (2, 2),
    decoy: bool = True,
    beside: bool = False,
) -> Path:
    """Write one acquisition; the same arguments always give the same bytes.

    The file is written under a temporary name and renamed, so a reader never meets half of it.

    Parameters
    ----------
    path
        Target, ending in .TCF; its folder is made.
    frames
        Tomograms (z, y, x) of one shape, one a timepoint, consumed one at a time: floating arrays hold
        the refractive index (NaN or 0 = not reconstructed), integer arrays the index x 10,000
        (0 = not reconstructed).
    voxel_um
        Voxel size (z, y, x) in um.
    times_s
        Seconds since the first frame, one a frame.
    recording_time
        Local time of the first frame; nothing is taken from the clock.
    variant
        How tomograms are stored: 16-bit integers, floating index, tiles of 16-bit integers ("level of
        detail"), or tiles of 8-bit levels of 1e-3 above the frame's lowest index.
    fluorescence
        Channel name (``"CH0"``, ``"CH1"``, ...) -> its frames.
    well
        Well of the position, as written into the embedded configuration.
    position_mm
        Stage position (x, y, z) in mm.
    tiles_yx
        Number of tiles along y and x in the tiled variants.
    decoy
        Whether tiled variants also carry a down-sampled copy (SamplingStep 2) over the whole area, as
        the instrument's do; only SamplingStep 1 is data.
    beside
        Whether the files that the instrument puts beside an acquisition are written too.

    Returns
    -------
    Path
        The file written.
    """
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    conditions = Conditions(
        title=title or path.stem,
        user=user,
        well=well,
        frames=len(times_s),
        position_mm=position_mm,
        tiles_yx=tiles_yx,
        magnification=magnification,
        condenser_na=condenser_na,
        medium_index=medium_index,
        device_serial=device_serial,
    )
    writer = _FrameWriter(variant=variant, compression=compression, tiles_yx=tiles_yx, decoy=decoy)
    try:
        with h5py.File(temporary, "w") as file:
            _write_tomograms(
                file,
                frames,
                writer=writer,
                voxel_um=voxel_um,
                times_s=times_s,
                recording_time=recording_time,
                position_mm=position_mm,
            )
            if fluorescence:
                _write_fluorescence(file, fluorescence, writer=writer, recording_time=recording_time)
            write_device(
                file,
                medium_index=medium_index,
                magnification=magnification,
                condenser_na=condenser_na,
                wavelength_um=wavelength_um,
                registration=registration or Registration(),
            )
            write_configuration(file, conditions)
            identity = hashlib.sha256(f"{path.name}|{recording_time}|{title}".encode()).hexdigest()
            recorded = recording_time.strftime(_TIME_FORMAT)[:-3]
            set_attributes(
                file,
                CreateDate=recorded,
                DataID=identity[:16],
                Description="",
                DeviceHost="simulation",
                DeviceSerial=device_serial,
                DeviceModelType=device_model,
                DeviceSoftwareVersion="simulation",
                FormatVersion="1.6.1" if variant in ("ldm", "ldm8") else "1.5",
                RecordingTime=recorded,
                SoftwareVersion="simulation",
                Title=title or path.stem,
                UniqueID=identity[16:48],
                UserID=user,
            )
        if beside:
            write_beside(path.parent, conditions)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def acquisition_name(recorded: datetime, *, experiment: str, number: int, group: str, well: str, suffix: str) -> str:
    """File name that the acquisition software gives: date, time, experiment, job, group, well, suffix.

    Parameters
    ----------
    recorded
        Local time of the first frame.
    experiment
        May hold dots and spaces.
    number
        Number of the job within the experiment.
    group
        Usually the treatment; must hold no dot, or the name could not be read back.
    well
        ``"A01"`` or ``"A1"``; the instrument writes no leading zero.
    suffix
        ``S001`` snapshot, ``T001P02`` position 2 of time lapse 1, ``TP03`` third of single-frame jobs.
    """
    match = re.fullmatch(r"([A-Za-z]{1,2})0*([1-9]\d*)", well)
    if match is None or "." in group or re.fullmatch(r"S\d+|T\d+P\d+|TP\d+", suffix) is None:
        raise ValueError(f"no acquisition is named so: well {well!r}, group {group!r}, suffix {suffix!r}")
    place = f"{match[1].upper()}{match[2]}"
    return f"{recorded:%y%m%d.%H%M%S}.{experiment}.{number:03d}.{group}.{place}.{suffix}.TCF"


@dataclass(frozen=True)
class _FrameWriter:
    """How a frame is stored: one dataset, or a group of tiles."""

    variant: Variant
    compression: Compression
    tiles_yx: tuple[int, int]
    decoy: bool

    @property
    def tiled(self) -> bool:
        return self.variant in ("ldm", "ldm8")

    def dataset(self, group: Any, name: str, data: np.ndarray) -> Any:
        options: dict[str, Any] = {}
        if self.compression != "none":
            import hdf5plugin

            codec = hdf5plugin.Zstd(clevel=1) if self.compression == "zstd" else {"compression": "gzip"}
            thickness = max(1, _CHUNK_BYTES // max(1, int(np.prod(data.shape[1:])) * data.itemsize))
            chunks = data.shape if data.ndim == 2 else (min(thickness, data.shape[0]), *data.shape[1:])
            options = {"chunks": chunks, "shuffle": data.itemsize > 1, **codec}
        return group.create_dataset(name, data=data, track_times=False, **options)

    def tiles(self, group: Any, name: str, data: np.ndarray) -> Any:
        frame = group.create_group(name)
        depth, height, width = data.shape
        set_attributes(
            frame,
            DataSizeX=width,
            DataSizeY=height,
            DataSizeZ=depth,
            ScalarType=0 if data.dtype == np.uint16 else 1,
        )
        members: list[tuple[int, tuple[int, int, int], tuple[int, int, int], np.ndarray]] = []
        if self.decoy:
            members.append((2, (0, 0, 0), (depth - 1, height - 1, width - 1), data[::2, ::2, ::2]))
        edges_y = np.linspace(0, height, self.tiles_yx[0] + 1).astype(int)
        edges_x = np.linspace(0, width, self.tiles_yx[1] + 1).astype(int)
        for row, column in product(range(self.tiles_yx[0]), range(self.tiles_yx[1])):
            y0, y1, x0, x1 = edges_y[row], edges_y[row + 1], edges_x[column], edges_x[column + 1]
            members.append((1, (0, y0, x0), (depth - 1, y1 - 1, x1 - 1), data[:, y0:y1, x0:x1]))
        set_attributes(frame, NumberOfTiles=len(members))
        for number, (step, first, last, block) in enumerate(members):
            tile = self.dataset(frame, f"TILE_{number:02d}", np.ascontiguousarray(block))
            set_attributes(tile, SamplingStep=step)
            for axis, start, end in zip("ZYX", first, last, strict=True):
                set_attributes(tile, **{f"DataIndexOffsetPoint{axis}": start, f"DataIndexLastPoint{axis}": end})
        return frame


def _write_tomograms(
    file: Any,
    frames: Iterable[np.ndarray],
    *,
    writer: _FrameWriter,
    voxel_um: tuple[float, float, float],
    times_s: Sequence[float],
    recording_time: datetime,
    position_mm: tuple[float, float, float],
) -> None:
    volumes, projections = file.create_group("Data/3D"), file.create_group("Data/2DMIP")
    shape: tuple[int, ...] | None = None
    lowest, highest, count = np.inf, -np.inf, 0
    for count, (frame, seconds) in enumerate(zip(frames, times_s, strict=True), start=1):
        if shape is not None and frame.shape != shape:
            raise ValueError(f"frame {count - 1} has shape {frame.shape}, the first had {shape}")
        shape = frame.shape
        stored, base = _as_stored(frame, variant=writer.variant)
        name = f"{count - 1:06d}"
        node = writer.tiles(volumes, name, stored) if writer.tiled else writer.dataset(volumes, name, stored)
        # the instrument's own projection stays a plain dataset in index units of its file
        top = stored.max(axis=0)
        if writer.variant == "ldm8":
            top = np.where(top > 0, top.astype(np.uint16) * _LDM8_STEP + base, 0).astype(np.uint16)
        projection = writer.dataset(projections, name, top)
        low, high = _index_range(stored, variant=writer.variant, base=base)
        lowest, highest = min(lowest, low), max(highest, high)
        recorded = (recording_time + timedelta(seconds=float(seconds))).strftime(_TIME_FORMAT)[:-3]
        for target in (node, projection):
            set_attributes(
                target,
                PositionX=position_mm[0],
                PositionY=position_mm[1],
                PositionZ=position_mm[2],
                PositionC=0.0,
                RIMin=low,
                RIMax=high,
                RecordingTime=recorded,
                Time=float(seconds),
            )
    if shape is None:
        raise ValueError("an acquisition needs at least one frame")
    for group, axes in ((volumes, "ZYX"), (projections, "YX")):
        set_attributes(group, DataCount=count, RIMin=lowest, RIMax=highest)
        for axis, size, step in zip("ZYX", shape, voxel_um, strict=True):
            if axis in axes:
                set_attributes(group, **{f"Size{axis}": size, f"Resolution{axis}": float(step)})


def _as_stored(frame: np.ndarray, *, variant: Variant) -> tuple[np.ndarray, int]:
    """Frame as the file holds it, and the integer index that an 8-bit zero stands for."""
    floating = np.issubdtype(frame.dtype, np.floating)
    if floating:
        frame = np.where(np.isnan(frame), 0.0, frame)
    if variant == "float":
        return (frame if floating else frame / _RI_SCALE).astype(np.float32), 0
    scaled = np.rint(frame * _RI_SCALE) if floating else frame
    if scaled.min() < 0 or scaled.max() > np.iinfo(np.uint16).max:
        raise ValueError(f"refractive index x 1e4 from {scaled.min()} to {scaled.max()} does not fit 16 bits")
    counts = scaled.astype(np.uint16)
    if variant != "ldm8":
        return counts, 0
    present = counts > 0
    # level 0 is kept for what was not reconstructed, so the lowest index is level 1
    base = int(counts[present].min()) - _LDM8_STEP if present.any() else 0
    levels = np.where(present, np.rint((counts.astype(np.int32) - base) / _LDM8_STEP), 0)
    if levels.max() > np.iinfo(np.uint8).max:
        raise ValueError(f"indices from {base / _RI_SCALE} span more than 8-bit levels of 1e-3 can hold")
    return levels.astype(np.uint8), base


def _index_range(stored: np.ndarray, *, variant: Variant, base: int) -> tuple[float, float]:
    """RIMin and RIMax of a frame: plain index for floating files, x 10,000 for integer ones."""
    if variant == "ldm8":
        return float(base), float(base + _LDM8_STEP * int(stored.max()))
    present = stored[stored > 0]  # NaN compares false
    return (float(present.min()), float(present.max())) if present.size else (0.0, 0.0)


def _write_fluorescence(
    file: Any,
    fluorescence: Mapping[str, FluorescenceFrames],
    *,
    writer: _FrameWriter,
    recording_time: datetime,
) -> None:
    stacks, projections = file.create_group("Data/3DFL"), file.create_group("Data/2DFLMIP")
    counts: list[int] = []
    for name, channel in fluorescence.items():
        group, flat = stacks.create_group(name), projections.create_group(name)
        for number, (frame, seconds) in enumerate(zip(channel.frames, channel.times_s, strict=True)):
            node = (writer.tiles if writer.tiled else writer.dataset)(group, f"{number:06d}", frame)
            writer.dataset(flat, f"{number:06d}", frame.max(axis=0))
            recorded = (recording_time + timedelta(seconds=float(seconds))).strftime(_TIME_FORMAT)[:-3]
            set_attributes(node, RecordingTime=recorded, Time=float(seconds), MinIntensity=0.0)
        for target in (group, flat):
            set_attributes(
                target,
                OffsetZ=channel.offset_z_um,
                Excitation=channel.excitation_um,
                Emission=channel.emission_um,
                ColorR=channel.colour[0],
                ColorG=channel.colour[1],
                ColorB=channel.colour[2],
            )
        counts.append(len(channel.times_s))
        for axis, size, step in zip("ZYX", frame.shape, channel.voxel_um, strict=True):
            set_attributes(stacks, **{f"Size{axis}": size, f"Resolution{axis}": float(step)})
    set_attributes(stacks, Channels=len(counts), DataCount=max(counts))
