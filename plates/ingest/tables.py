"""What conversion leaves for the steps above: statistics of every field, and where each came from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields as attributes
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from ..projections import SPECIFIC_INCREMENT, FieldStatistics
from ..store import Plate
from .survey import Header, measured_hours
from .units import Digest, Frames, read_record

if TYPE_CHECKING:
    import xarray as xr

PENDING, DONE, FAILED, MISSING = range(4)  # status of a field at a timepoint

_DIMS = ("well", "field", "timepoint")
_ATTRIBUTES: dict[str, dict[str, Any]] = {
    "medium_index": {"units": "1", "long_name": "refractive index of the medium"},
    "mean_index": {"units": "1", "long_name": "mean refractive index of all voxels"},
    "percentile_1": {"units": "1", "long_name": "1st percentile of the refractive index"},
    "percentile_50": {"units": "1", "long_name": "median of the refractive index"},
    "percentile_99": {"units": "1", "long_name": "99th percentile of the refractive index"},
    "percentile_99_9": {"units": "1", "long_name": "99.9th percentile of the refractive index"},
    "confluency": {"units": "1", "long_name": "share of the field covered by cells"},
    "dry_mass": {
        "units": "pg",
        "long_name": "dry mass of all cells of the field",
        "specific_increment_um3_per_pg": SPECIFIC_INCREMENT,
    },
    "focus": {"units": "1", "long_name": "sharpness of the cells' texture"},
    "missing_share": {"units": "1", "long_name": "share of voxels that were not reconstructed"},
    "nonfinite": {"units": "voxels", "long_name": "voxels that held no number"},
}
_PLACEMENT_ATTRIBUTES = {
    "rotation_deg": {"units": "degree", "long_name": "turn of the fluorescence"},
    "scale": {"units": "1", "long_name": "magnification of the fluorescence"},
    **{f"shift_{axis}_um": {"units": "um", "long_name": f"shift along {axis}"} for axis in "zyx"},
    "residual_um": {"units": "um", "long_name": "estimated error of the placement over the field"},
}
_SEAM_ATTRIBUTES = {
    "correlation": {"units": "1", "long_name": "correlation of the tiles where they overlap"},
    "residual_um": {"units": "um", "long_name": "offset of the pair against the solution for all tiles"},
    "step_before": {"units": "1", "long_name": "step of the refractive index across the seam as acquired"},
    "step_after": {"units": "1", "long_name": "step of the refractive index across the seam as stitched"},
}


def fields_table(plate: Plate, headers: Sequence[Header]) -> xr.Dataset:
    """Statistics of every field at every timepoint, from the records of conversion; NaN where there are none."""
    import xarray as xr

    shape = (len(plate.wells), plate.fields, plate.timepoints)
    values = {item.name: np.full(shape, np.nan) for item in attributes(FieldStatistics)}
    status = np.full(shape, MISSING, dtype=np.int8)
    hours = np.full(shape, np.nan)
    acquired = np.full(shape, np.datetime64("NaT"), dtype="datetime64[ns]")
    wells = {well: row for row, well in enumerate(plate.wells)}
    for (well, field), measured in measured_hours(headers, timepoints=plate.timepoints).items():
        hours[wells[well], field] = measured
    for header in headers:
        source = header.source
        here = (wells[source.well], source.field)
        seconds = dict(zip(header.frames, header.seconds, strict=True))
        # of an unreadable file nobody knows where it ends
        for number in header.frames or range(plate.timepoints - source.timepoint):
            index = (*here, source.timepoint + number)
            if header.recorded is not None and np.isfinite(seconds.get(number, np.nan)):
                acquired[index] = np.datetime64(header.recorded + timedelta(seconds=seconds[number]))
            record = read_record(Frames(plate, source, header.frames).marker(number))
            if not record:
                status[index] = FAILED
                continue
            for name, table in values.items():
                table[index] = record["statistics"][name]
            # nothing reconstructed is nothing seen
            status[index] = MISSING if record["statistics"]["missing_share"] == 1 else DONE
    nonfinite = np.nan_to_num(values.pop("nonfinite")).astype(np.int64)
    variables: dict[str, Any] = {name: (_DIMS, table, _ATTRIBUTES[name]) for name, table in values.items()}
    flags = {"flag_values": [PENDING, DONE, FAILED, MISSING], "flag_meanings": "pending done failed missing"}
    return xr.Dataset(
        {
            **variables,
            "nonfinite": (_DIMS, nonfinite, _ATTRIBUTES["nonfinite"]),
            "hours": (_DIMS, hours, {"units": "h", "long_name": "measured since the field's first frame"}),
            "acquired": (_DIMS, acquired, {"long_name": "local time of the frame by the instrument"}),
            "status": (_DIMS, status, flags),
        },
        coords=_places(plate),
    )


def _records(plate: Plate, header: Header) -> Iterator[dict[str, Any]]:
    """Records of a source's converted frames, in their order."""
    unit = Frames(plate, header.source, header.frames)
    return (record for number in header.frames if (record := read_record(unit.marker(number))))


def _places(plate: Plate) -> dict[str, np.ndarray]:
    return {
        "well": np.array(plate.wells, dtype=object),
        "field": np.arange(plate.fields),
        "timepoint": np.arange(plate.timepoints),
    }


def sources_table(plate: Plate, headers: Sequence[Header]) -> xr.Dataset:
    """One row a source file: its place on the plate, name, size, SHA-256, time of acquisition, and instrument."""
    import xarray as xr

    rows = []
    for header in headers:
        source = header.source
        digest = read_record(Digest(plate, source).record)
        recorded = header.recorded.isoformat(sep=" ", timespec="milliseconds") if header.recorded else ""
        rows.append(
            {
                "path": str(source.path),
                "part": source.part,
                "name": source.path.name,
                "well": source.well,
                "acquired": recorded,
                "sha256": digest.get("sha256", ""),
                "format": f"{header.file_format} {header.stored}".strip(),
                "instrument": header.instrument,
                "problem": header.problem,
                "field": source.field,
                "timepoint": source.timepoint,
                "frames": len(header.frames),
                "planned": header.planned,
                "bytes": digest.get("size", 0),
            }
        )
    columns: dict[str, Any] = {}
    for name in rows[0]:
        kind: Any = object if isinstance(rows[0][name], str) else np.int64
        columns[name] = ("source", np.array([row[name] for row in rows], dtype=kind))
    return xr.Dataset(columns, coords={"source": np.arange(len(rows))})


def registration_table(plate: Plate, headers: Sequence[Header]) -> xr.Dataset:
    """How the fluorescence of every field and timepoint was placed on its tomogram; NaN where there is none."""
    import xarray as xr

    shape = (len(plate.wells), plate.fields, plate.timepoints)
    values = {name: np.full(shape, np.nan) for name in _PLACEMENT_ATTRIBUTES}
    texts = {name: np.full(shape, "", dtype=object) for name in ("how", "reason")}
    trusted, frames = np.zeros(shape, dtype=bool), np.full(shape, -1, dtype=np.int64)
    wells = {well: row for row, well in enumerate(plate.wells)}
    for header in headers:
        for record in _records(plate, header):
            found = record["fluorescence"]
            if not found:
                continue
            index = (wells[header.source.well], header.source.field, record["timepoint"])
            numbers = {"rotation_deg": np.rad2deg(found["rotation_rad"]), "scale": found["scale"]}
            numbers |= {f"shift_{axis}_um": found["shift_um"][place] for place, axis in enumerate("zyx")}
            numbers["residual_um"] = found["residual_um"]
            for name, value in numbers.items():
                values[name][index] = value
            for name, table in texts.items():
                table[index] = found[name]
            trusted[index], frames[index] = found["trusted"], found["frame"]
    variables: dict[str, Any] = {name: (_DIMS, table, _PLACEMENT_ATTRIBUTES[name]) for name, table in values.items()}
    variables |= {name: (_DIMS, table) for name, table in texts.items()}
    return xr.Dataset(
        {
            **variables,
            "trusted": (_DIMS, trusted, {"long_name": "whether the images bear the placement out"}),
            "frame": (_DIMS, frames, {"long_name": "fluorescence frame of the file; -1 where there is none"}),
        },
        coords=_places(plate),
    )


def with_earlier(new: xr.Dataset, earlier: xr.Dataset, plate: Plate, headers: Sequence[Header]) -> xr.Dataset:
    """A result completed by what an earlier run said of wells, fields and timepoints that have no source today."""
    here = {(header.source.well, header.source.field) for header in headers}
    if "source" in earlier.dims or "seam" in earlier.dims:
        (row,) = earlier.dims
        places = zip(earlier["well"].values, earlier["field"].values, strict=True) if earlier.sizes[row] else ()
        kept = [number for number, place in enumerate(places) if (str(place[0]), int(place[1])) not in here]
        parts = {name: (row, _rows(new, earlier.isel({row: kept}), name), new[name].attrs) for name in new.data_vars}
        return type(new)(parts, coords={row: np.arange(new.sizes[row] + len(kept))}, attrs=new.attrs)
    result = new.copy(deep=True)
    for well in (str(name) for name in earlier["well"].values):
        for field in (int(number) for number in earlier["field"].values):
            if (well, field) in here or well not in plate.wells or field >= plate.fields:
                continue
            place = {"well": well, "field": field, "timepoint": earlier["timepoint"].values}
            for name in result.data_vars:
                if name in earlier:
                    result[name].loc[place] = earlier[name].sel(place).values
    return result


def _rows(new: xr.Dataset, kept: xr.Dataset, name: Any) -> np.ndarray:
    if name not in kept or kept.sizes[next(iter(kept.dims))] == 0:
        return np.asarray(new[name].values)
    return np.concatenate([new[name].values, kept[name].values])


def seams_table(plate: Plate, headers: Sequence[Header]) -> xr.Dataset:
    """One row a seam of the stitched fields: its tiles, and how well they fit at the field's first frame."""
    import xarray as xr

    rows: list[dict[str, Any]] = []
    for header in headers:
        first = next(_records(plate, header), None)
        for seam in first["seams"] if first else ():
            place = {"well": header.source.well, "field": header.source.field}
            offsets = {
                f"{kind}_{axis}": seam[f"{kind}_offset"][index]
                for kind in ("metadata", "refined")
                for index, axis in enumerate("zyx")
            }
            numbers = {key: seam[key] for key in ("first", "second", "registered")}
            measures = {key: float(seam[key]) for key in _SEAM_ATTRIBUTES}
            rows.append({**place, **numbers, **measures, **offsets})
    columns: dict[str, Any] = {}
    for name in rows[0] if rows else ():
        kind: Any = object if isinstance(rows[0][name], str) else None
        columns[name] = ("seam", np.array([row[name] for row in rows], dtype=kind), _SEAM_ATTRIBUTES.get(name, {}))
    return xr.Dataset(columns, coords={"seam": np.arange(len(rows))}, attrs={"offsets": "voxels"})
