"""A plate's cells and patches with their marker values, field by field."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..errors import MissingInputError, SettingsError, StoreError
from ..layout.roles import roles
from ..mapping import map_units
from ..patches import PATCH_PX
from ..results import has_result, read_result
from ..store import Plate
from .cells import FieldCells, measure_field
from .channels import STAINS, find_channels, missing_text

if TYPE_CHECKING:
    import xarray as xr

# Estimated error up to which a placement serves: an eighth of a patch, a fifth of a cell. Estimates are on average
# three times the true error (docs/registration.md).
MAX_RESIDUAL_UM = 3.0

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, eq=False)
class PlateMarkers:
    """Every cell and every patch of a plate that was looked at.

    Attributes
    ----------
    cells
        One row a cell: well, field, timepoint, hoechst, annexin_v, pi (light above the background in camera units,
        NaN where not seen), nucleus_um2.
    patches
        One row a patch: well, field, timepoint, y_um, x_um, area (share of it that cells cover), unowned (share that
        is cell area without a nucleus) and problem (why no state can be given, "" where one may).
    overlaps
        One row for each patch and cell that meet: patch and cell (row numbers of the two tables), share (of the
        patch's area).
    wells
        One row a well of the plate: well, role ("negative", "positive", "none", "masked", or "" where the plate map
        does not know it), inducer, compound, dose.
    hours
        Nominal hours, one a timepoint.
    channels
        Stain -> channel.
    notes
        What a person should know, a sentence each.
    """

    cells: pd.DataFrame
    patches: pd.DataFrame
    overlaps: pd.DataFrame
    wells: pd.DataFrame
    hours: tuple[float, ...]
    channels: Mapping[str, str]
    notes: tuple[str, ...]


def measure_plate(
    plate: Plate,
    *,
    channels: Mapping[str, str] | None = None,
    frames: Sequence[int] | None = None,
    stride: int = PATCH_PX,
    max_residual_um: float = MAX_RESIDUAL_UM,
    believe_metadata: bool = False,
    client: Any = None,
    progress: Progress | None = None,
) -> PlateMarkers:
    """Measure the three markers in every cell of every well that is not masked.

    Parameters
    ----------
    channels
        Stain -> channel, where names do not tell.
    frames
        Timepoints to look at; all unless given.
    stride
        Distance of the patches, in pixels of 0.16 um.
    max_residual_um
        A placement of the fluorescence whose estimated error is larger, or that has none, is not used.
    believe_metadata
        Use placements as the instrument says them, checked or not.
    client
        A Dask client; None works in this process.

    Raises
    ------
    SettingsError
        A channel or a timepoint that was asked for is not there.
    MissingInputError
        The plate has no plate map or was not ingested.
    """
    chosen = _frames(plate, frames)
    found = find_channels(plate.fluorescence, told=channels, emission_um=_emissions(plate))
    wells = plate_wells(plate)
    used = [str(well) for well, role in zip(wells["well"], wells["role"], strict=True) if role != "masked"]
    notes = _notes(plate, wells, found)
    fields = read_result(plate.path, "fields")
    placed = read_result(plate.path, "registration") if has_result(plate.path, "registration") else None
    units = []
    for well in used:
        for field in range(plate.fields):
            for timepoint in chosen:
                if not plate.has_field(well, field=field, timepoint=timepoint):
                    continue
                place = {"well": well, "field": field, "timepoint": timepoint}
                problem = _placement_problem(placed, place, max_residual_um, believe_metadata)
                units.append((plate, well, field, timepoint, _medium(fields, place), dict(found), stride, problem))
    cells, patches, overlaps = [], [], []
    first_cell = first_patch = 0
    results = dict(_measured(plate.path, units, client=client, progress=progress))
    for unit in units:
        part = results[unit[1:4]]
        cells.append(part[0])
        patches.append(part[1])
        overlaps.append(part[2].assign(patch=part[2]["patch"] + first_patch, cell=part[2]["cell"] + first_cell))
        first_cell += len(part[0])
        first_patch += len(part[1])
    if not units:
        raise MissingInputError(f"{plate.path}: no field of an unmasked well is there. Run `tomoscreen ingest` first.")
    return PlateMarkers(
        cells=pd.concat(cells, ignore_index=True),
        patches=pd.concat(patches, ignore_index=True),
        overlaps=pd.concat(overlaps, ignore_index=True),
        wells=wells,
        hours=plate.hours,
        channels=found,
        notes=tuple(notes),
    )


def plate_wells(plate: Plate) -> pd.DataFrame:
    """What is in each imaged well by the stored plate map; role "" where the map does not know it."""
    layout = read_result(plate.path, "layout")
    known = pd.DataFrame({name: layout[name].values for name in ("well", "inducer", "compound", "dose")})
    known["role"] = roles(layout)
    imaged = pd.DataFrame({"well": list(plate.wells)}).merge(known, on="well", how="left")
    texts = {name: imaged[name].fillna("").astype(str) for name in ("role", "inducer", "compound")}
    return imaged.assign(**texts)


def _frames(plate: Plate, frames: Sequence[int] | None) -> list[int]:
    if frames is None:
        return list(range(plate.timepoints))
    outside = [frame for frame in frames if not 0 <= frame < plate.timepoints]
    if outside or not frames:
        raise SettingsError(
            f"--frames names timepoint {outside[0] if outside else 'none'}, but {plate.path.name} has timepoints 0 to "
            f"{plate.timepoints - 1}. Give some of those."
        )
    return sorted(set(frames))


def _emissions(plate: Plate) -> dict[str, float]:
    """Peak of each channel's emission in um, where `ingest` kept it with the placements."""
    if not has_result(plate.path, "registration"):
        return {}
    stored: dict[str, float] = json.loads(read_result(plate.path, "registration").attrs.get("emission_um", "{}"))
    return stored


def _notes(plate: Plate, wells: pd.DataFrame, found: Mapping[str, str]) -> list[str]:
    notes = []
    if not plate.fluorescence:
        notes.append("The plate holds no fluorescence: no state can be given from markers.")
    elif missing_text(found, plate.fluorescence):
        notes.append(missing_text(found, plate.fluorescence))
    masked = wells.loc[wells["role"] == "masked", "well"].tolist()
    if masked:
        notes.append(f"Left out as masked in the plate map: {', '.join(masked)}.")
    unknown = wells.loc[wells["role"] == "", "well"].tolist()
    if unknown:
        notes.append(f"Imaged, but not in the plate map, so undecided: {', '.join(unknown)}.")
    return notes


def _medium(fields: xr.Dataset, place: dict[str, Any]) -> float:
    if place["well"] not in fields["well"].values:
        return float("nan")
    return float(fields["medium_index"].sel(place))


def _placement_problem(
    placed: xr.Dataset | None, place: dict[str, Any], max_residual_um: float, believe_metadata: bool
) -> str:
    """Why the fluorescence of a field is of no use here, "" where it is."""
    if placed is None or place["well"] not in placed["well"].values:
        return "no fluorescence"
    one = placed.sel(place)
    if int(one["frame"]) < 0:
        return "no fluorescence"
    residual = float(one["residual_um"])
    if believe_metadata or bool(one["trusted"]) or residual <= max_residual_um:
        return ""
    return "placement not trusted"


def _measured(plate: Path, units: Sequence[tuple[Any, ...]], *, client: Any, progress: Progress | None) -> Any:
    for done, (unit, outcome) in enumerate(map_units(field_tables, units, client=client, places=[plate]), start=1):
        if isinstance(outcome, Exception):
            raise outcome
        if progress is not None:
            progress(done, len(units), "measuring markers")
        yield unit[1:4], outcome


def field_tables(
    plate: Plate,
    well: str,
    field: int,
    timepoint: int,
    medium_index: float,
    channels: Mapping[str, str],
    stride: int,
    problem: str,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Cells, patches and overlaps of one field at one timepoint; light that cannot be used is left unread."""
    lights = {}
    for stain, channel in channels.items() if not problem else ():
        try:
            lights[stain] = plate.fluorescence_projection(well, field=field, timepoint=timepoint, channel=channel)
        except StoreError:
            # a stain that was not taken at this timepoint has no file
            if any(file.exists() for file in plate.fluorescence_files(well, field=field, timepoint=timepoint)):
                lost = plate.fluorescence.index(channel)
                if _file_of(plate, well, field, timepoint, lost):
                    raise
    if not problem and not lights:
        problem = "no fluorescence"
    found = measure_field(
        plate.projection(well, field=field, timepoint=timepoint),
        lights,
        medium_index=medium_index,
        voxel_um=plate.voxel_um[1:],
        stride=stride,
    )
    if not np.isfinite(medium_index):
        problem = "index of the medium unknown"
    return _tables(found, {"well": well, "field": field, "timepoint": timepoint}, problem)


def _file_of(plate: Plate, well: str, field: int, timepoint: int, channel: int) -> bool:
    files = plate.fluorescence_files(well, field=field, timepoint=timepoint)
    levels = len(files) // len(plate.fluorescence)
    return any(file.exists() for file in files[channel * levels : (channel + 1) * levels])


def _tables(
    found: FieldCells, place: Mapping[str, Any], problem: str
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    cells = pd.DataFrame({**place, **dict(zip(STAINS, found.light.T, strict=True))}, index=range(len(found.light)))
    cells["nucleus_um2"] = found.nucleus_um2
    patches = pd.DataFrame({**place, "y_um": found.y_um, "x_um": found.x_um, "area": found.area})
    patches["unowned"] = np.nan_to_num(found.area) - found.nearest.sum(axis=1)
    patches["problem"] = problem
    patch, cell = np.nonzero(found.nearest)
    overlaps = pd.DataFrame({"patch": patch, "cell": cell, "share": found.nearest[patch, cell]})
    return cells, patches, overlaps
