"""What the OME-XML of a TIFF file says: images, their axes and units, where each plane is, and their wells.

Schema: OME 2016-06 (https://docs.openmicroscopy.org/ome-model/6.3.1/), older ones as far as they agree.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from ..errors import AcquisitionError
from ..ngff import row_name

Plane = tuple[int, int, int]  # z, channel, timepoint

_MAX_PLANES = 1_000_000
_LENGTHS_UM = {
    **dict.fromkeys(("µm", "μm", "um", "micron", "microns", "micrometer"), 1.0),
    **{"m": 1e6, "cm": 1e4, "mm": 1e3, "nm": 1e-3, "pm": 1e-6, "Å": 1e-4, "inch": 25_400.0},
}
_TIMES_S = {"d": 86_400.0, "h": 3600.0, "min": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_TYPES = {
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "uint8": "uint8",
    "uint16": "uint16",
    "uint32": "uint32",
    "float": "float32",
    "double": "float64",
}


@dataclass(frozen=True)
class OmeChannel:
    """A channel: its name, empty where there is none, and wavelengths in um, NaN where unknown."""

    name: str
    excitation_um: float
    emission_um: float


@dataclass(frozen=True)
class OmeImage:
    """One image of the file.

    Attributes
    ----------
    identifier, name
        Such as ``"Image:0"``, and what a person called it.
    size_zct, shape
        Slices, channels and timepoints; (y, x).
    dtype
        Of the pixels, in the byte order of this machine.
    voxel_um
        (z, y, x); NaN where it is not given in a unit of length.
    channels
        As many as there are.
    pages
        Page of the file, from 0, by (z, channel, timepoint); planes of other files are left out.
    elsewhere
        Other files that hold planes of the image.
    times_s
        Seconds since the first timepoint; NaN where unknown.
    recorded
        Local time of the first timepoint, or None.
    position_mm
        Stage (x, y, z); NaN where unknown.
    """

    identifier: str
    name: str
    size_zct: tuple[int, int, int]
    shape: tuple[int, int]
    dtype: np.dtype
    voxel_um: tuple[float, float, float]
    channels: tuple[OmeChannel, ...]
    pages: Mapping[Plane, int]
    elsewhere: tuple[str, ...]
    times_s: tuple[float, ...]
    recorded: datetime | None
    position_mm: tuple[float, float, float]


@dataclass(frozen=True)
class OmeFile:
    """All images of a file, and the well and the field of those on a plate."""

    images: tuple[OmeImage, ...]
    wells: Mapping[str, tuple[str, int]]


def is_ome(description: str) -> bool:
    """Whether the text of a TIFF's first page is OME-XML."""
    return description[:10_000].lstrip("\ufeff \r\n\t").startswith("<") and "<OME" in description[:10_000].replace(
        "<ome:OME", "<OME"
    )


def read_ome_xml(text: str, *, path: Path, pages: int) -> OmeFile:
    """Read the OME-XML of a TIFF file.

    Parameters
    ----------
    path
        The file, for its name and for errors.
    pages
        How many it holds.

    Raises
    ------
    AcquisitionError
        The text is damaged, contradicts itself, or leaves all pixels to other files.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise _error(path, "its OME-XML defines entities", "No microscope writes that; do not trust the file.")
    try:
        root = ElementTree.fromstring(text.strip("\ufeff\0 \r\n\t").encode())
        return _read(root, path=path, pages=pages)
    except ElementTree.ParseError as error:
        raise _error(path, f"its OME-XML is damaged ({error})") from error
    except (LookupError, ValueError, OverflowError) as error:
        if isinstance(error, AcquisitionError):
            raise
        raise _error(path, f"its OME-XML has a missing or impossible value ({error!r})") from error


def length_um(value: float, unit: str) -> float:
    """Length in um; NaN for a unit that is none of length, such as ``"pixel"``."""
    return value * _LENGTHS_UM.get(unit.strip(), float("nan"))


def _read(root: ElementTree.Element, *, path: Path, pages: int) -> OmeFile:
    companion = next(_children(root, "BinaryOnly"), None)
    if companion is not None:
        raise _error(
            path,
            f"its description lies in another file, {companion.get('MetadataFile')!r}",
            "Save each image as an OME-TIFF of its own.",
        )
    identity = root.get("UUID", "")
    images = tuple(_image(node, path=path, pages=pages, identity=identity) for node in _children(root, "Image"))
    if not images:
        raise _error(path, "its OME-XML describes no image")
    used = [page for image in images for page in image.pages.values()]
    if len(set(used)) < len(used):
        raise _error(path, "its OME-XML gives one page to two planes")
    return OmeFile(images=images, wells=_wells(root, path=path))


def _wells(root: ElementTree.Element, *, path: Path) -> dict[str, tuple[str, int]]:
    """Well and field by image; the samples of a well are its fields, in the order of their index."""
    places: dict[str, tuple[str, int]] = {}
    plates = list(_children(root, "Plate"))
    if len(plates) > 1:
        raise _error(path, f"it holds {len(plates)} plates", "Save each as a file of its own.")
    for node in (well for plate in plates for well in _children(plate, "Well")):
        row, column = int(node.attrib["Row"]), int(node.attrib["Column"])
        if not (0 <= row < 32 and 0 <= column < 48):
            raise _error(path, f"its OME-XML names the well in row {row}, column {column}, which no plate has")
        samples = [
            (int(sample.get("Index", "0")), reference.attrib["ID"])
            for sample in _children(node, "WellSample")
            for reference in _children(sample, "ImageRef")
        ]
        for field, (_, identifier) in enumerate(sorted(samples, key=lambda sample: sample[0])):
            places[identifier] = f"{row_name(row)}{column + 1:02d}", field
    return places


def _image(node: ElementTree.Element, *, path: Path, pages: int, identity: str) -> OmeImage:
    pixels = next(_children(node, "Pixels"), None)
    if pixels is None:
        raise _error(path, "its OME-XML has an image without pixels")
    sizes = {axis: int(pixels.attrib[f"Size{axis}"]) for axis in "XYZCT"}
    if min(sizes.values()) < 1 or sizes["Z"] * sizes["C"] * sizes["T"] > _MAX_PLANES:
        claim = " x ".join(f"{axis} {sizes[axis]}" for axis in "XYZCT")
        raise _error(path, f"its OME-XML claims an image of {claim}")
    if pixels.attrib["Type"] not in _TYPES:
        raise _error(path, f"its pixels are of type {pixels.attrib['Type']!r}", "Export it again as uint16 or float.")
    found, elsewhere = _planes(pixels, sizes, path=path, pages=pages, identity=identity)
    deltas = _times(pixels, sizes["T"])
    recorded = next((_timestamp(date.text or "") for date in _children(node, "AcquisitionDate")), None)
    if recorded is not None and math.isfinite(deltas[0]) and 0 <= deltas[0] < 1e9:
        recorded += timedelta(seconds=deltas[0])
    channels = [
        OmeChannel(
            name=(channel.get("Name") or "").strip(),
            excitation_um=_length(channel, "ExcitationWavelength", unit="nm"),
            emission_um=_length(channel, "EmissionWavelength", unit="nm"),
        )
        for channel in _children(pixels, "Channel")
    ]
    unnamed = OmeChannel(name="", excitation_um=float("nan"), emission_um=float("nan"))
    return OmeImage(
        identifier=node.attrib["ID"],
        name=node.get("Name", ""),
        size_zct=(sizes["Z"], sizes["C"], sizes["T"]),
        shape=(sizes["Y"], sizes["X"]),
        dtype=np.dtype(_TYPES[pixels.attrib["Type"]]),
        voxel_um=(
            _length(pixels, "PhysicalSizeZ"),
            _length(pixels, "PhysicalSizeY"),
            _length(pixels, "PhysicalSizeX"),
        ),
        channels=tuple(channels) if len(channels) == sizes["C"] else (unnamed,) * sizes["C"],
        pages=found,
        elsewhere=elsewhere,
        times_s=tuple(delta - deltas[0] for delta in deltas),
        recorded=recorded,
        position_mm=_position(node, pixels),
    )


def _planes(
    pixels: ElementTree.Element, sizes: Mapping[str, int], *, path: Path, pages: int, identity: str
) -> tuple[dict[Plane, int], tuple[str, ...]]:
    """Page by (z, channel, timepoint), and the other files that hold planes.

    TiffData gives a first plane and a first page, from where both go on, planes in the dimension order. The
    count of planes is 1 by default where a page is given, else that of all that are left.
    """
    order = pixels.attrib["DimensionOrder"]
    if sorted(order) != sorted("XYZCT") or order[:2] != "XY":
        raise _error(path, f"its dimension order is {order!r}")
    axes = order[2:]
    total = sizes["Z"] * sizes["C"] * sizes["T"]
    found: dict[Plane, int] = {}
    elsewhere = []
    for node in _children(pixels, "TiffData"):
        start = [int(node.get(f"First{axis}", "0")) for axis in axes]
        first = int(np.ravel_multi_index(start, [sizes[axis] for axis in axes], order="F"))
        page = int(node.get("IFD", "0"))
        count = int(node.get("PlaneCount", 1 if "IFD" in node.attrib else min(total - first, pages - page)))
        owner = next(_children(node, "UUID"), None)
        if owner is not None and not _is_this(owner, path=path, identity=identity):
            elsewhere.append(owner.get("FileName") or (owner.text or "").strip())
            continue
        if page < 0 or count < 0 or page + count > pages or first + count > total:
            raise _error(path, f"its OME-XML places planes on pages {page + 1} to {page + count} of {pages}")
        for step in range(count):
            index = np.unravel_index(first + step, [sizes[axis] for axis in axes], order="F")
            place = dict(zip(axes, (int(number) for number in index), strict=True))
            plane = place["Z"], place["C"], place["T"]
            if plane in found:
                raise _error(path, "its OME-XML places one plane on two pages")
            found[plane] = page + step
    return found, tuple(dict.fromkeys(elsewhere))


def _is_this(owner: ElementTree.Element, *, path: Path, identity: str) -> bool:
    """Whether pixels lie in this very file, which may have been renamed since."""
    named = owner.get("FileName")
    return (bool(identity) and (owner.text or "").strip() == identity) or named is None or named == path.name


def _times(pixels: ElementTree.Element, count: int) -> list[float]:
    """Seconds of every timepoint: the earliest plane's, else multiples of the increment."""
    seconds = [float("nan")] * count
    for plane in _children(pixels, "Plane"):
        timepoint = int(plane.get("TheT", "0"))
        if "DeltaT" in plane.attrib and 0 <= timepoint < count:
            delta = float(plane.attrib["DeltaT"]) * _TIMES_S.get(plane.get("DeltaTUnit", "s"), float("nan"))
            seconds[timepoint] = float(np.fmin(seconds[timepoint], delta))
    if all(math.isfinite(second) for second in seconds):
        return seconds
    if "TimeIncrement" in pixels.attrib:
        unit = _TIMES_S.get(pixels.get("TimeIncrementUnit", "s"), float("nan"))
        return [number * float(pixels.attrib["TimeIncrement"]) * unit for number in range(count)]
    return [0.0] if count == 1 else [float("nan")] * count


def _position(node: ElementTree.Element, pixels: ElementTree.Element) -> tuple[float, float, float]:
    """Stage position in mm: of the first plane that gives one, else of the stage label."""
    for plane in _children(pixels, "Plane"):
        if "PositionX" in plane.attrib:
            x, y, z = (_length(plane, f"Position{axis}", unit="reference frame") / 1e3 for axis in "XYZ")
            return x, y, z
    for label in _children(node, "StageLabel"):
        x, y, z = (_length(label, axis, unit="reference frame") / 1e3 for axis in "XYZ")
        return x, y, z
    return float("nan"), float("nan"), float("nan")


def _length(node: ElementTree.Element, name: str, *, unit: str = "µm") -> float:
    """Length in um; NaN where there is none, or in no unit of length."""
    if name not in node.attrib:
        return float("nan")
    return length_um(float(node.attrib[name]), node.get(f"{name}Unit", unit))


def _timestamp(text: str) -> datetime | None:
    """Clock of the instrument, whatever time zone it names."""
    try:
        return datetime.fromisoformat(text.strip()).replace(tzinfo=None)
    except ValueError:
        return None


def _children(node: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    """Children of a name in any version of the schema."""
    return (child for child in node if child.tag.rpartition("}")[2] == name)


def _error(
    path: Path, what: str, remedy: str = "The file is damaged; export it again, or remove it."
) -> AcquisitionError:
    return AcquisitionError(f"{path}: {what}. {remedy}")
