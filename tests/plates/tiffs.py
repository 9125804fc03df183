"""TIFF files as others write them: tifffile's writer, and OME-XML as Bio-Formats words it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from tests.plates.acquisitions import SHAPE, VOXEL_UM, tomogram

WRITTEN = {
    "axes": "ZYX",
    "PhysicalSizeZ": VOXEL_UM[0],
    "PhysicalSizeY": VOXEL_UM[1] * 1000,
    "PhysicalSizeX": VOXEL_UM[2] * 1000,
    "PhysicalSizeYUnit": "nm",
    "PhysicalSizeXUnit": "nm",
}
ACQUISITION = "251003.112316.6 Well Mito.018.Group1.A1.TP01"


def write_ome(path: Path, volume: np.ndarray, *, metadata: dict[str, Any] | None = None, **options: Any) -> Path:
    """One image by tifffile; voxel size given in um along z and in nm along y and x."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(
        path, volume, ome=True, photometric="minisblack", metadata={**WRITTEN, **(metadata or {})}, **options
    )
    return path


def write_imagej(path: Path, volume: np.ndarray, *, metadata: dict[str, Any] | None = None) -> Path:
    """As the acquisition software exports: lengths in cm, and its own word for the date."""
    path.parent.mkdir(parents=True, exist_ok=True)
    z, y, x = (step / 1e4 for step in VOXEL_UM)
    tifffile.imwrite(
        path,
        volume,
        imagej=True,
        resolution=(1 / x, 1 / y),
        datetime="2025:10:03 12:36:59",
        metadata={"axes": "ZYX", "spacing": z, "unit": "cm", **(metadata or {})},
    )
    return path


def write_pages(path: Path, pages: Iterable[np.ndarray], description: str = "") -> Path:
    """Pages one by one, with a text on the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path) as file:
        for number, page in enumerate(pages):
            text = description.encode() if number == 0 and description else None
            file.write(page, photometric="minisblack", metadata=None, description=text, contiguous=False)
    return path


def image_xml(
    number: int,
    *,
    size_zct: tuple[int, int, int] = (SHAPE[0], 1, 1),
    order: str = "XYZCT",
    channels: Sequence[str] = ("RI",),
    first_page: int = 0,
    file: tuple[str, str] = ("urn:uuid:1", "plate.ome.tif"),
    dtype: str = "uint16",
    extra: str = "",
) -> str:
    """One image as Bio-Formats describes it: a TiffData for every plane, with the file that holds it."""
    sizes = dict(zip("ZCT", size_zct, strict=True))
    planes = []
    for page, index in enumerate(np.ndindex(*(sizes[axis] for axis in reversed(order[2:])))):
        place = dict(zip(reversed(order[2:]), index, strict=True))
        planes.append(
            f'<TiffData FirstC="{place["C"]}" FirstT="{place["T"]}" FirstZ="{place["Z"]}" IFD="{first_page + page}" '
            f'PlaneCount="1"><UUID FileName="{file[1]}">{file[0]}</UUID></TiffData>'
        )
    named = "".join(
        f'<Channel ID="Channel:{number}:{c}" Name="{name}" SamplesPerPixel="1" EmissionWavelength="460.0"/>'
        for c, name in enumerate(channels)
    )
    return (
        f'<Image ID="Image:{number}" Name="image {number}"><AcquisitionDate>2026-03-14T09:26:53</AcquisitionDate>'
        f'<Pixels BigEndian="false" DimensionOrder="{order}" ID="Pixels:{number}" Interleaved="false" '
        f'PhysicalSizeX="160.0" PhysicalSizeXUnit="nm" PhysicalSizeY="0.16" PhysicalSizeYUnit="µm" '
        f'PhysicalSizeZ="9.5E-4" PhysicalSizeZUnit="mm" SizeC="{sizes["C"]}" SizeT="{sizes["T"]}" '
        f'SizeX="{SHAPE[2]}" SizeY="{SHAPE[1]}" SizeZ="{sizes["Z"]}" Type="{dtype}">{named}{"".join(planes)}{extra}'
        "</Pixels></Image>"
    )


def ome_xml(*parts: str, uuid: str = "urn:uuid:1") -> str:
    """A whole document."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        f'UUID="{uuid}">{"".join(parts)}</OME>'
    )


def plate_xml(*wells: tuple[int, int, Sequence[int]]) -> str:
    """Wells as (row, column, numbers of their images)."""
    described = "".join(
        f'<Well ID="Well:{row}:{column}" Row="{row}" Column="{column}">'
        + "".join(
            f'<WellSample ID="WellSample:{image}" Index="{index}"><ImageRef ID="Image:{image}"/></WellSample>'
            for index, image in enumerate(images)
        )
        + "</Well>"
        for row, column, images in wells
    )
    return f'<Plate ID="Plate:0">{described}</Plate>'


def write_plate(path: Path) -> dict[tuple[str, int], np.ndarray]:
    """Two wells, three images in one OME-TIFF; the truth by well and field."""
    volumes = [tomogram(number) for number in range(3)]
    images = [image_xml(number, first_page=number * SHAPE[0]) for number in range(3)]
    write_pages(path, np.concatenate(volumes), ome_xml(plate_xml((0, 0, [0, 2]), (1, 1, [1])), *images))
    return {("A01", 0): volumes[0], ("B02", 0): volumes[1], ("A01", 1): volumes[2]}
