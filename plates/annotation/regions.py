"""Regions drawn by a person (GeoJSON of QuPath or napari) to states of patches."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..counts import COUNTS_PER_INDEX
from ..errors import MissingInputError, SettingsError
from ..layout.wells import parse_well, well_name
from ..patches import FOREGROUND_INDEX, PATCH_PX, UM_PER_PX
from ..results import read_result
from ..states import STATES
from ..store import Plate
from .rule import BY_REGION, UNDECIDED

Unit = Literal["px", "um"]
MAJORITY = 0.5  # of a patch's cell area that regions of one state must cover

# words of a class without case, blanks and punctuation
_CLASSES = {
    "apoptosis": "apoptosis|apoptotic|apoptoticcell|apoptoticcells",
    "necroptosis": "necroptosis|necroptotic|necroptoticcell|necroptoticcells",
    "necrosis": "necrosis|necrotic|necroticcell|necroticcells",
    "live-control": "livecontrol|livecontrolcell|livecontrolcells|control|untreated|liveuntreated|healthy",
    "live-treated": "livetreated|livetreatedcell|livetreatedcells|treated|treatedlive|treatedalive",
    UNDECIDED: "undecided|ignore|unclear|unknown|exclude|excluded",
}
_NAME = re.compile(
    r"(?:^|[^A-Za-z0-9])(?P<well>[A-Za-z]{1,2}\d{1,2})[_ -]+f(?:ield)?(?P<field>\d+)"
    r"[_ -]+t(?:imepoint|ime)?(?P<timepoint>\d+)(?![0-9])",
    re.IGNORECASE,
)


@dataclass(frozen=True, eq=False)
class Region:
    """One region of one field at one timepoint.

    Attributes
    ----------
    state
        One of the states, or "undecided" for what is to be left out.
    rings
        For each polygon its outline and its holes, each (point, 2) of (y, x).
    source
        File it is from.
    """

    well: str
    field: int
    timepoint: int
    state: str
    rings: tuple[tuple[NDArray[np.float64], ...], ...]
    source: str


def read_regions(path: Path, *, plate: Plate) -> list[Region]:
    """Read the regions of one GeoJSON file, or of all ``.geojson`` and ``.json`` files of a folder.

    A file is a FeatureCollection (QuPath's export), a list of features or one feature, of Polygons and
    MultiPolygons with (x, y) coordinates. The class is ``properties.classification.name``,
    ``properties.classification`` or ``properties.state``. The field is told by properties well, field and timepoint
    of each feature, else by the file's name, such as ``B03_f0_t3.geojson``.

    Raises
    ------
    SettingsError
        Names file and feature: no GeoJSON, an unknown class, no place, a place or a point outside the plate.
    MissingInputError
        There is no such file, or the folder holds none.
    """
    path = Path(path)
    files = sorted(path.glob("*.geojson")) + sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise MissingInputError(
            f"{path}: no regions are there. Expected a GeoJSON file, or a folder of .geojson files."
        )
    return [region for file in files for region in _regions_of(file, plate)]


def region_states(regions: Sequence[Region], *, plate: Plate, table: pd.DataFrame, unit: Unit = "px") -> pd.DataFrame:
    """State of every patch of which regions of one state cover more than half of the cell area.

    Parameters
    ----------
    table
        Patches: well, field, timepoint, y_um, x_um.
    unit
        Of the coordinates: pixels of the projection, or um, both from the field's upper left corner.

    Returns
    -------
    rows
        row (label in `table`), state, rule, corrected_by (empty), note (empty), as `table.read_corrections` gives it.

    Raises
    ------
    SettingsError
        A region lies outside its field, as with the wrong unit.
    """
    medium = read_result(plate.path, "fields")["medium_index"]
    found = []
    groups: dict[tuple[str, int, int], list[Region]] = {}
    for region in regions:
        groups.setdefault((region.well, region.field, region.timepoint), []).append(region)
    for (well, field, timepoint), own in groups.items():
        index = float(medium.sel(well=well, field=field, timepoint=timepoint))
        counts = plate.projection(well, field=field, timepoint=timepoint)
        cell_area = (counts > 0) & (counts.astype(np.float32) / COUNTS_PER_INDEX - index > FOREGROUND_INDEX)
        painted = _painted(own, counts.shape, plate.voxel_um[1:], unit)
        here = (table["well"] == well) & (table["field"] == field) & (table["timepoint"] == timepoint)
        if not here.any():
            raise SettingsError(
                f"{own[0].source}: well {well}, field {field}, timepoint {timepoint} is not annotated in this run: "
                "the well is masked in the plate map, or --frames leaves the timepoint out. Remove the regions or "
                "change that."
            )
        for label, y_um, x_um in table.loc[here, ["y_um", "x_um"]].itertuples():
            window = tuple(_span(middle, step) for middle, step in zip((y_um, x_um), plate.voxel_um[1:], strict=True))
            cells = cell_area[window]
            votes = np.bincount(painted[window][cells], minlength=len(STATES) + 2)
            winner = int(votes[1:].argmax()) + 1
            if votes[winner] > MAJORITY * cells.sum():
                sources = sorted({region.source for region in own})
                state = [*STATES, UNDECIDED][winner - 1]
                found.append(
                    {
                        "row": label,
                        "state": state,
                        "rule": f"{BY_REGION} ({', '.join(sources)})",
                        "corrected_by": "",
                        "note": "",
                    }
                )
    return pd.DataFrame(found, columns=["row", "state", "rule", "corrected_by", "note"])


def _regions_of(file: Path, plate: Plate) -> list[Region]:
    try:
        content = json.loads(file.read_bytes().decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise SettingsError(f"{file} is not GeoJSON ({error}). Export the regions again as GeoJSON.") from error
    features = content.get("features", [content]) if isinstance(content, dict) else content
    if not isinstance(features, list):
        raise SettingsError(f"{file} is not GeoJSON: expected a FeatureCollection or a list of features.")
    regions = []
    for number, feature in enumerate(features, start=1):
        where = f"{file}, feature {number}"
        if not isinstance(feature, dict) or not isinstance(feature.get("geometry"), dict):
            raise SettingsError(f"{where}: expected a feature with a geometry. Export the regions again as GeoJSON.")
        raw = feature.get("properties")
        properties: Mapping[str, Any] = raw if isinstance(raw, dict) else {}
        well, field, timepoint = _place(properties, file, where, plate)
        regions.append(
            Region(
                well=well,
                field=field,
                timepoint=timepoint,
                state=_state(properties, where),
                rings=_rings(feature["geometry"], where),
                source=file.name,
            )
        )
    return regions


def _state(properties: Mapping[str, Any], where: str) -> str:
    named = properties.get("classification", properties.get("state"))
    if isinstance(named, Mapping):
        named = named.get("name") or (named.get("names") or [None])[-1]
    plain = re.sub(r"[^a-z]", "", str(named or "").casefold())
    for state, words in _CLASSES.items():
        if plain in words.split("|"):
            return state
    told = "has no class" if not named else f"has the class {str(named)[:60]!r}"
    raise SettingsError(
        f"{where}: the region {told}. Expected {', '.join(STATES)}, or {UNDECIDED} for what is to be left out. "
        "Rename the class and export again."
    )


def _place(properties: Mapping[str, Any], file: Path, where: str, plate: Plate) -> tuple[str, int, int]:
    told: Mapping[str, Any] = properties
    if not all(name in properties for name in ("well", "field", "timepoint")):
        match = _NAME.search(file.stem)
        told = {**(match.groupdict() if match else {}), **properties}
    try:
        well = well_name(*parse_well(str(told["well"])))
        field, timepoint = int(told["field"]), int(told["timepoint"])
    except (KeyError, TypeError, ValueError):
        raise SettingsError(
            f"{where}: it does not say which field it is of. Expected a file name such as B03_f0_t3.geojson (well, "
            "field, timepoint), or the properties well, field and timepoint."
        ) from None
    inside = well in plate.wells and 0 <= field < plate.fields and 0 <= timepoint < plate.timepoints
    if not inside or not plate.has_field(well, field=field, timepoint=timepoint):
        raise SettingsError(
            f"{where}: {plate.path.name} has no image of well {well}, field {field}, timepoint {timepoint}. Correct "
            "the file's name or the properties; fields and timepoints are numbered from 0."
        )
    return well, field, timepoint


def _rings(geometry: Mapping[str, Any], where: str) -> tuple[tuple[NDArray[np.float64], ...], ...]:
    kind = geometry.get("type")
    try:
        if kind not in ("Polygon", "MultiPolygon"):
            raise ValueError
        polygons = [geometry["coordinates"]] if kind == "Polygon" else geometry["coordinates"]
        # GeoJSON gives x before y
        rings = tuple(
            tuple(np.array([(point[1], point[0]) for point in ring], dtype=float) for ring in polygon)
            for polygon in polygons
        )
        if not all(len(ring) >= 3 and np.isfinite(ring).all() for polygon in rings for ring in polygon):
            raise ValueError
    except (KeyError, TypeError, ValueError, IndexError):
        raise SettingsError(
            f"{where}: its geometry ({kind}) is no area. Expected a Polygon or MultiPolygon of finite (x, y) points; "
            "draw an area instead of a point or a line."
        ) from None
    return rings


def _painted(
    regions: Sequence[Region], shape: tuple[int, ...], voxel_um: tuple[float, float], unit: Unit
) -> NDArray[np.uint8]:
    """Field (y, x): 0 where no region lies, else 1 + the state's number; later regions lie over earlier ones."""
    painted = np.zeros(shape, np.uint8)
    scale = np.array((1.0, 1.0) if unit == "px" else voxel_um)
    for region in regions:
        value = [*STATES, UNDECIDED].index(region.state) + 1
        for outline, *holes in region.rings:
            points = outline / scale
            low, high = points.min(axis=0), points.max(axis=0)
            # a hand slips over the border by a few pixels
            if (high > 1.02 * np.array(shape) + 2).any() or (low < -0.02 * np.array(shape) - 2).any():
                other = "um" if unit == "px" else "px"
                raise SettingsError(
                    f"{region.source}: a region of well {region.well}, field {region.field} reaches from "
                    f"({low[0]:.0f}, {low[1]:.0f}) to ({high[0]:.0f}, {high[1]:.0f}) px (y, x), outside the field of "
                    f"{shape[0]} x {shape[1]} px. Is it of another image, or in {other} (--region-unit {other})?"
                )
            mask = _inside(points, shape)
            for hole in holes:
                mask &= ~_inside(hole / scale, shape)
            painted[mask] = value
    return painted


def _inside(points: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    from skimage.draw import polygon2mask

    # the middle of the first pixel is at 0 for the rasteriser and at 0.5 for who draws
    inside: NDArray[np.bool_] = polygon2mask(shape, points - 0.5)  # type: ignore[no-untyped-call]
    return inside


def _span(middle_um: float, um_per_px: float) -> slice:
    half = PATCH_PX * UM_PER_PX / 2
    return slice(max(0, round((middle_um - half) / um_per_px)), round((middle_um + half) / um_per_px))
