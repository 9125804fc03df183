"""What the metadata of an OME-Zarr plate or image written by others say, versions 0.4 and 0.5."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import AcquisitionError, StoreError
from ..ngff import row_name, well_position
from .names import well_name
from .zarr_files import COPY_AGAIN, inside, read_attributes

VERSIONS = ("0.4", "0.5")

_UM = {
    "angstrom": 1e-4,
    "nanometer": 1e-3,
    "nm": 1e-3,
    "micrometer": 1.0,
    "micron": 1.0,
    "um": 1.0,
    "\N{MICRO SIGN}m": 1.0,
    "\N{GREEK SMALL LETTER MU}m": 1.0,
    "millimeter": 1e3,
    "mm": 1e3,
    "centimeter": 1e4,
    "meter": 1e6,
}
_SECONDS = {
    "microsecond": 1e-6,
    "millisecond": 1e-3,
    "ms": 1e-3,
    "second": 1.0,
    "s": 1.0,
    "minute": 60.0,
    "min": 60.0,
    "hour": 3600.0,
    "h": 3600.0,
    "day": 86400.0,
}
# voxels of holotomography; what lies outside without a unit is in other units, or in pixels
_PLAUSIBLE_UM = (0.02, 20.0)
_LISTED = 8
_MILLISECONDS = 1e11  # later than the year 5000 in seconds


@dataclass(frozen=True)
class PlateImage:
    """One image that a plate lists.

    Attributes
    ----------
    well, part
        ``"A01"``; path of the image below the plate.
    acquisition
        Number of the run that it belongs to, None where the plate does not say.
    recorded
        Local start of that run, or None.
    """

    well: str
    part: str
    acquisition: int | None
    recorded: datetime | None


@dataclass(frozen=True)
class ImageMetadata:
    """What an image says of itself.

    Attributes
    ----------
    array
        Path of the array of full resolution, below the image.
    axes
        Names in the order of the array, a subset of t, c, z, y, x.
    voxel_um
        z, y, x.
    position_um
        Of the first voxel (z, y, x); NaN where it is not given.
    interval_s
        Seconds between timepoints; NaN where it is not given.
    channels
        One entry a channel as its writer left it, with ``label``; may be empty.
    """

    array: str
    axes: tuple[str, ...]
    voxel_um: tuple[float, float, float]
    position_um: tuple[float, float, float]
    interval_s: float
    channels: tuple[Mapping[str, Any], ...]


def read_ngff(folder: Path, *, root: Path) -> Mapping[str, Any]:
    """Metadata of a plate, well or image group.

    Raises
    ------
    AcquisitionError
        They are damaged or of a version that is not read.
    """
    attributes = read_attributes(folder, root=root)
    with _damage(folder):
        metadata: Mapping[str, Any] = attributes.get("ome", attributes)
        described: Any = next((metadata[key] for key in ("plate", "well", "multiscales") if key in metadata), {})
        first = described[0] if isinstance(described, list) else described
        version = metadata.get("version", first.get("version"))
        if version is None and "multiscales" in metadata and not _has_described_axes(first):
            version = "0.3 or older"
    if version is not None and str(version) not in VERSIONS:
        raise AcquisitionError(
            f"{folder}: OME-Zarr version {version}; versions {' and '.join(VERSIONS)} are read. Convert the plate, for "
            "example with ome2024-ngff-challenge or ngff-zarr."
        )
    return metadata


def plate_images(root: Path, *, well_path: str = "") -> list[PlateImage]:
    """All images that a plate lists, well by well in the order of its metadata.

    Parameters
    ----------
    well_path
        Look only into this well, such as ``"A/1"``.

    Raises
    ------
    AcquisitionError
        The metadata are damaged, contradict each other, or name wells that are not there.
    """
    plate = read_ngff(root, root=root)
    with _damage(root):
        plate = plate["plate"]
        starts = {int(run["id"]): _start(run.get("starttime")) for run in plate.get("acquisitions") or ()}
        wells = [(str(entry["path"]), _well(entry, plate, root=root)) for entry in plate["wells"]]
    names = [well for _, well in wells]
    twice = sorted({well for well in names if names.count(well) > 1})
    if twice:
        raise AcquisitionError(f"{root}: the plate lists the wells {', '.join(twice)} twice. {COPY_AGAIN}")
    images = []
    for path, well in wells:
        if well_path and path != well_path:
            continue
        folder = inside(root, root, path)
        metadata = read_ngff(folder, root=root)
        with _damage(folder):
            for image in metadata["well"]["images"]:
                inside(root, folder, image["path"])
                run = image.get("acquisition")
                run = None if run is None else int(run)
                start = starts.get(run) if run is not None else next(iter(starts.values()), None)
                images.append(PlateImage(well, f"{path}/{image['path']}", run, start))
    parts = [image.part for image in images]
    if len(set(parts)) < len(parts):
        raise AcquisitionError(f"{root}: wells list an image twice among {', '.join(parts[:_LISTED])}. {COPY_AGAIN}")
    return images


def image_metadata(folder: Path, *, root: Path) -> ImageMetadata:
    """Axes, voxel size, place and channels of an image.

    Raises
    ------
    AcquisitionError
        The folder holds no image, no tomogram, or no usable voxel size.
    """
    metadata = read_ngff(folder, root=root)
    if "multiscales" not in metadata:
        raise AcquisitionError(
            f"{folder}: neither an OME-Zarr image nor a plate (no multiscales). Give the folder of a plate or an image."
        )
    with _damage(folder):
        multiscale = metadata["multiscales"][0]
        entries = list(multiscale["axes"])
        axes = tuple(str(axis["name"]).lower() for axis in entries)
        dataset = multiscale["datasets"][0]
        scale, shift = _transformation(
            [*dataset["coordinateTransformations"], *(multiscale.get("coordinateTransformations") or ())], len(axes)
        )
        units = {axis: str(entry.get("unit") or "") for axis, entry in zip(axes, entries, strict=True)}
        channels = tuple(dict(channel) for channel in (metadata.get("omero") or {}).get("channels") or ())
        array = dataset["path"]
    if not set("zyx") <= set(axes) <= set("tczyx") or len(set(axes)) != len(axes):
        raise AcquisitionError(
            f"{folder}: an image with the axes {', '.join(axes)}; a tomogram has z, y, x and at most t and c. Leave it "
            "out, or give the plate of tomograms."
        )
    steps = {axis: (scale[number], shift[number]) for number, axis in enumerate(axes)}
    factors = _um_factors([steps[axis][0] for axis in "zyx"], [units[axis] for axis in "zyx"], folder=folder)
    z, y, x = (steps[axis][0] * factor for axis, factor in zip("zyx", factors, strict=True))
    pz, py, px = (steps[axis][1] * factor for axis, factor in zip("zyx", factors, strict=True))
    interval = steps["t"][0] * _SECONDS.get(units["t"].lower(), math.nan) if "t" in axes else math.nan
    return ImageMetadata(array, axes, (z, y, x), (pz, py, px), interval, channels)


def _um_factors(steps: Sequence[float], units: Sequence[str], *, folder: Path) -> list[float]:
    """From the units of z, y and x to um; a missing unit is um where the voxel is then one of this technique."""
    unknown = sorted({unit for unit in units if unit and unit.lower() not in _UM})
    if unknown:
        raise AcquisitionError(
            f"{folder}: lengths in {', '.join(unknown)}, expected a unit of length such as micrometer. Correct the "
            "unit of the axes in the metadata of the image."
        )
    factors = [_UM[unit.lower()] if unit else 1.0 for unit in units]
    voxel = [step * factor for step, factor in zip(steps, factors, strict=True)]
    low, high = _PLAUSIBLE_UM
    # 1, 1, 1 is what writers put where they know nothing
    if not all(units) and (not all(low <= step <= high for step in voxel) or set(steps) == {1.0}):
        raise AcquisitionError(
            f"{folder}: a voxel of {' x '.join(f'{step:g}' for step in steps)} (z, y, x) without a unit. Without the "
            'true size nothing can be measured: write scale and "unit": "micrometer" into the axes of the image.'
        )
    return factors


def _transformation(steps: Sequence[Mapping[str, Any]], axes: int) -> tuple[list[float], list[float]]:
    """Scale and shift (NaN where none is given) of transformations applied one after the other."""
    scale, shift, moved = [1.0] * axes, [0.0] * axes, False
    for step in steps:
        kind = step["type"]
        if kind == "identity":
            continue
        if kind not in ("scale", "translation"):
            raise ValueError(f"a transformation of the kind {kind!r}")
        values = [float(value) for value in step[kind]]
        if len(values) != axes or not all(math.isfinite(value) and abs(value) < 1e12 for value in values):
            raise ValueError(f"{kind} {values} for {axes} axes")
        if kind == "scale":
            if min(values) <= 0:
                raise ValueError(f"scale {values}")
            scale = [one * value for one, value in zip(scale, values, strict=True)]
            shift = [one * value for one, value in zip(shift, values, strict=True)]
        else:
            moved = True
            shift = [one + value for one, value in zip(shift, values, strict=True)]
    return scale, shift if moved else [math.nan] * axes


def _well(entry: Mapping[str, Any], plate: Mapping[str, Any], *, root: Path) -> str:
    """``"A01"`` from the names of row and column, or from their places in the lists where the names say nothing."""
    path = str(entry["path"])
    row, _, column = path.partition("/")
    if "rowIndex" in entry:
        number, other = int(entry["rowIndex"]), int(entry["columnIndex"])
        listed = (str(plate["rows"][number]["name"]), str(plate["columns"][other]["name"]))
        if min(number, other) < 0 or listed != (row, column):
            raise AcquisitionError(
                f"{root}: the well {path!r} is said to lie in row {listed[0]!r} and column {listed[1]!r}. {COPY_AGAIN}"
            )
    else:
        number = [str(one["name"]) for one in plate["rows"]].index(row)
        other = [str(one["name"]) for one in plate["columns"]].index(column)
    try:
        letters = row if row.isalpha() else row_name(int(row) - 1 if row.isdecimal() and int(row) else number)
        well = well_name(f"{letters}{column if column.isdecimal() else other + 1}")
        well_position(well)
    except (ValueError, StoreError) as error:
        raise AcquisitionError(
            f"{root}: the plate lists the well {path!r}; expected a row letter and a column number such as 'A/1'. "
            "Rename it with the program that made the plate."
        ) from error
    return well


def _start(value: Any) -> datetime | None:
    """Local time from seconds or milliseconds since 1970; writers use both."""
    if value is None:
        return None
    seconds = float(value) / (1e3 if abs(float(value)) > _MILLISECONDS else 1)
    return datetime.fromtimestamp(seconds)


def _has_described_axes(multiscale: Mapping[str, Any]) -> bool:
    axes = multiscale.get("axes") or [""]
    return all(isinstance(axis, dict) for axis in axes)


@contextmanager
def _damage(folder: Path) -> Iterator[None]:
    """Whatever foreign metadata lack or hold amiss is one error that names the folder."""
    try:
        yield
    except AcquisitionError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, OSError) as error:
        raise AcquisitionError(
            f"{folder}: the OME-Zarr metadata are damaged or incomplete ({type(error).__name__}: {error}). {COPY_AGAIN}"
        ) from error
