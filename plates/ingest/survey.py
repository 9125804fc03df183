"""What the acquisitions of a plate are, from names and headers alone, checked before any is converted."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import AcquisitionError, PlateMapError
from ..ngff import well_position
from .manifest import Source
from .opening import open_source

if TYPE_CHECKING:
    from ..layout import PlateMap

_VOXEL_TOLERANCE = 1e-3
_LISTED = 8


@dataclass(frozen=True)
class Header:
    """What a file's header says; an unreadable file says only why.

    Attributes
    ----------
    source
        The file and its place on the plate.
    planned, frames, seconds
        Frames announced; numbers of those present, and their seconds since the first.
    recorded
        Local start of the acquisition by the file, else by its name.
    shape_zyx, voxel_um
        Of the tomograms; um.
    problem
        Why the file cannot be read; empty where it can.
    file_format, stored
        Such as ``"OME-TIFF"`` and ``"uint16"``; empty where unknown.
    channels
        Names of the fluorescence channels.
    emission_um
        Emission wavelength of those channels that the file tells it of.
    position_mm
        Of the stage (x, y, z) at the first frame; NaN where the file does not say.
    instrument
        What the file says of the microscope and its settings, as JSON.
    """

    source: Source
    planned: int = 1
    frames: tuple[int, ...] = ()
    seconds: tuple[float, ...] = ()
    recorded: datetime | None = None
    shape_zyx: tuple[int, int, int] = (0, 0, 0)
    voxel_um: tuple[float, float, float] = (0.0, 0.0, 0.0)
    problem: str = ""
    file_format: str = ""
    stored: str = ""
    channels: tuple[str, ...] = ()
    emission_um: tuple[tuple[str, float], ...] = ()
    position_mm: tuple[float, ...] = (float("nan"),) * 3
    instrument: str = "{}"


def check_wells(sources: Iterable[Source], plate_map: PlateMap) -> None:
    """Refuse a plate map of other wells than were imaged."""
    differences = plate_map.check_against({source.well for source in sources})
    if differences:
        raise PlateMapError(" ".join(differences) + " Correct the plate map or the folder.")


def read_header(source: Source) -> Header:
    """Header of a file; what is wrong with it is kept, so that one bad file does not stop the others."""
    try:
        with open_source(source) as acquisition:
            return Header(
                source=source,
                planned=acquisition.planned,
                frames=acquisition.frames,
                seconds=tuple(acquisition.times_s[frame] for frame in acquisition.frames),
                recorded=acquisition.recorded or source.recorded,
                shape_zyx=acquisition.shape_zyx,
                voxel_um=acquisition.voxel_um,
                file_format=acquisition.format,
                stored=acquisition.stored,
                channels=tuple(acquisition.channels),
                emission_um=tuple(
                    (name, one.emission_um)
                    for name, one in acquisition.channels.items()
                    if math.isfinite(one.emission_um)
                ),
                position_mm=acquisition.position_mm,
                instrument=json.dumps(acquisition.describe_instrument(), sort_keys=True),
            )
    except AcquisitionError as error:
        return Header(source=source, problem=str(error))
    except OSError as error:
        why = error.strerror or error
        problem = f"{source.path}: cannot be read: {why}. Check the file and the drive, then run again."
        return Header(source=source, problem=problem)


def read_headers(sources: Sequence[Source], *, threads: int = 8) -> list[Header]:
    """Headers in the order of the sources; several at a time, since each mostly waits for the disk."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(read_header, sources))


def check_uniform(headers: Sequence[Header]) -> None:
    """Patches must have the same physical size everywhere, so all files must share voxel and shape."""
    kinds = [_Kind(header.shape_zyx, tuple(round(step, 4) for step in header.voxel_um)) for header in headers]
    usual = Counter(kinds).most_common(1)[0][0]
    odd: dict[_Kind, set[str]] = defaultdict(set)
    for header, kind in zip(headers, kinds, strict=True):
        same_voxel = np.allclose(header.voxel_um, usual.voxel_um, rtol=_VOXEL_TOLERANCE, atol=1e-4)
        if kind.shape_zyx != usual.shape_zyx or not same_voxel:
            odd[kind].add(header.source.well)
    if odd:
        others = "; ".join(f"{kind} in {_brief(sorted(wells))}" for kind, wells in odd.items())
        raise AcquisitionError(
            f"the files do not share one geometry: most have {usual}, but {others}. One plate holds one "
            "geometry: ingest the others as a plate of their own."
        )


@dataclass(frozen=True)
class _Kind:
    """Geometry of a file, for comparison and for people."""

    shape_zyx: tuple[int, ...]
    voxel_um: tuple[float, ...]

    def __str__(self) -> str:
        shape = " x ".join(str(size) for size in self.shape_zyx)
        voxel = " x ".join(f"{step:g}" for step in self.voxel_um)
        return f"{shape} voxels of {voxel} um (z, y, x)"


def check_overlap(headers: Sequence[Header]) -> None:
    """Files of one field must not claim the same timepoint."""
    taken: dict[tuple[str, int, int], Path] = {}
    for header in headers:
        source = header.source
        for timepoint in range(source.timepoint, source.timepoint + header.planned):
            place = (source.well, source.field, timepoint)
            if place in taken:
                raise AcquisitionError(
                    f"{taken[place]} and {source.path} both hold timepoint {timepoint} of well "
                    f"{source.well}, field {source.field}. Move one away, or place them by a manifest."
                )
            taken[place] = source.path


def plate_format(wells: Sequence[str]) -> tuple[int, int]:
    """Smallest usual plate that holds the wells."""
    from ..layout import FORMATS

    positions = [well_position(well) for well in wells]
    for rows, columns in FORMATS.values():
        if all(row < rows and column < columns for row, column in positions):
            return rows, columns
    raise AcquisitionError(f"no plate has the wells {_brief(wells)}. Correct the names, or give a manifest.")


def measured_hours(headers: Sequence[Header], *, timepoints: int) -> dict[tuple[str, int], np.ndarray]:
    """Measured hours since the first frame of each field, in the order of the frames.

    NaN where there is no frame, and where the clock stood or went back: a frame that claims to be no later than one
    before it has no time that can be trusted.
    """
    measured = {}
    for place, hours in _clock_hours(headers, timepoints=timepoints).items():
        measured[place] = np.where(hours <= _latest_before(hours), np.nan, hours)
    return measured


def clock_faults(headers: Sequence[Header]) -> list[str]:
    """Fields whose clock went back between two frames, one sentence each: summer time, or another computer."""
    if not headers:
        return []
    timepoints = max(header.source.timepoint + header.planned for header in headers)
    faults = []
    for (well, field), hours in _clock_hours(headers, timepoints=timepoints).items():
        back = np.flatnonzero(hours < _latest_before(hours))
        if back.size:
            faults.append(
                f"the clock went back in well {well}, field {field}: the frame of timepoint {back[0]} claims to be "
                f"older than one before it. {back.size} frames are without a time of their own; the order of the "
                "frames stands."
            )
    return faults


def _clock_hours(headers: Sequence[Header], *, timepoints: int) -> dict[tuple[str, int], np.ndarray]:
    """Hours by field and timepoint as the files tell them, since the first file that has a date."""
    members: dict[tuple[str, int], list[Header]] = defaultdict(list)
    for header in headers:
        members[header.source.well, header.source.field].append(header)
    told = {}
    for place, files in members.items():
        files.sort(key=lambda header: header.source.timepoint)
        dated = [header.recorded for header in files if header.recorded is not None]
        hours = np.full(timepoints, np.nan)
        for header in files:
            start = (header.recorded - dated[0]).total_seconds() if header.recorded is not None else 0.0
            for frame, seconds in zip(header.frames, header.seconds, strict=True):
                hours[header.source.timepoint + frame] = (start + seconds) / 3600
        told[place] = hours
    return told


def _latest_before(hours: np.ndarray) -> np.ndarray:
    """Latest of all times before each."""
    latest = np.fmax.accumulate(np.where(np.isnan(hours), -np.inf, hours))
    return np.concatenate([[-np.inf], latest[:-1]])


def nominal_hours(headers: Sequence[Header], *, timepoints: int) -> list[float]:
    """Median over the fields of the measured hours; a timepoint that nobody measured is interpolated."""
    table = np.stack(list(measured_hours(headers, timepoints=timepoints).values()))
    known = np.flatnonzero(np.isfinite(table).any(axis=0))
    if len(known) == 0:
        return [float(timepoint) for timepoint in range(timepoints)]
    medians = np.nanmedian(table[:, known], axis=0)
    interval = np.diff(medians).mean() / np.diff(known).mean() if len(known) > 1 else 1.0
    hours = np.interp(np.arange(timepoints), known, medians)
    after = np.arange(timepoints) > known[-1]
    hours[after] = medians[-1] + interval * (np.arange(timepoints)[after] - known[-1])
    return [float(hour) for hour in hours]


def _brief(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_LISTED])
    return shown if len(names) <= _LISTED else f"{shown} and {len(names) - _LISTED} more"
