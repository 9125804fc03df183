"""OME-TIFF, ImageJ's TIFF, plain TIFF and the microscope's TIFF exports as acquisitions, a page at a time.

The exports of the acquisition software (HT-X1) are ``<acquisition>_HT3D_0.00.TIFF``, refractive index x 10,000,
and ``<acquisition>_FL3D_CHn_0.00.TIFF`` beside it or in the folder ``<acquisition>``. The header of the latter
gives the slices and spacing that the fluorescence had before it was brought to the tomogram's grid
(bioio-tomocube says so of real exports): pages are counted, never believed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np

from ..counts import COUNTS_PER_INDEX
from ..errors import AcquisitionError
from .acquisition import FluorescenceChannel, FluorescenceTransform, Slab, index_counts
from .acquisition_name import parse_export
from .manifest import Source
from .ome_xml import is_ome, read_ome_xml
from .tiff_pages import PictureError, TiffPages, open_pages
from .tiff_stacks import Stack, read_stack

_SLAB_VOXELS = 1 << 24
_MAX_FRAMES = 10_000
_MAX_FRAME_VOXELS = 1 << 32
_GIVE_VOXEL = (
    "Give it in a manifest (CSV: path, well, field, timepoint, voxel_z_um, voxel_y_um, voxel_x_um), or export "
    "again as OME-TIFF."
)


@contextmanager
def open_tiff(
    path: Path, *, part: str = "", voxel_um: tuple[float, float, float] | None = None
) -> Iterator[TiffAcquisition]:
    """Open a TIFF acquisition for lazy reading; only tags are read.

    Parameters
    ----------
    part
        Identifier of an image, such as ``"Image:3"``, where an OME-TIFF holds several.
    voxel_um
        Voxel size (z, y, x), for files that do not give it; it wins over what a file says.

    Raises
    ------
    AcquisitionError
        The file is cut short, damaged, no tomogram, compressed in an unknown way, or does not give what a
        tomogram needs (voxel size, which channel is the refractive index).
    """
    with open_pages(path) as pages:
        yield TiffAcquisition(pages, part=part, voxel_um=voxel_um)


def tiff_sources(path: Path) -> list[Source]:
    """Images of an OME-TIFF that its own metadata put in wells; empty where it describes no plate.

    Raises
    ------
    AcquisitionError
        The file is damaged, or only some of its images have a well.
    """
    with open_pages(path) as pages:
        if not is_ome(pages.description):
            return []
        content = read_ome_xml(pages.description, path=path, pages=len(pages.pages))
        here = [image.identifier for image in content.images if image.pages]
        if not content.wells:
            return []
        lost = [identifier for identifier in here if identifier not in content.wells]
        if lost:
            raise pages.error(
                f"it describes a plate, but {', '.join(lost[:8])} of it is in no well",
                "Place its images by a manifest (CSV: path, part, well, field, timepoint).",
            )
        return [
            Source(
                path=path,
                part=identifier,
                well=content.wells[identifier][0],
                field=content.wells[identifier][1],
                timepoint=0,
            )
            for identifier in here
        ]


def side_files(path: Path) -> list[Path]:
    """Files whose content becomes part of an acquisition besides the file itself: the fluorescence of an export.

    Only folders are listed; nothing is opened and nothing is refused. Empty for any other file.
    """
    tomogram = parse_export(path)
    if tomogram is None or tomogram.content != "tomogram":
        return []
    found = []
    for folder in (path.parent, path.parent / tomogram.stem):
        # the whole plate may lie in this folder: only names that fit are parsed and sorted
        for file in sorted(folder.glob(f"{escape(tomogram.stem)}_*")) if folder.is_dir() else ():
            export = parse_export(file)
            if export is None or export.content != "fluorescence" or export.channel == "":
                continue
            if export.stem == tomogram.stem and export.frame == tomogram.frame:
                found.append(file)
    return found


def check_tomogram(path: Path) -> None:
    """Refuse a file that is no single tomogram, whatever its voxel size: `PictureError` where it is a picture."""
    with open_tiff(path, voxel_um=(1.0, 1.0, 1.0)):
        return


class TiffAcquisition:
    """An open TIFF file as an acquisition; see `Acquisition` for its attributes.

    Attributes
    ----------
    format
        ``"OME-TIFF"``, ``"ImageJ TIFF"`` or ``"TIFF"``.
    stored
        How the tomograms are stored, such as ``"uint16"``.
    """

    def __init__(self, pages: TiffPages, *, part: str = "", voxel_um: tuple[float, float, float] | None = None) -> None:
        self.path = pages.path
        self._pages = pages
        stack = read_stack(pages, part=part, one_stack=parse_export(self.path) is not None)
        first = next((list(planes) for planes in stack.frames.values()), [])
        if not first:
            raise pages.error("it holds no complete tomogram", "Acquire it again, or remove it.")
        self.format = stack.format
        page = pages.pages[first[0]]
        self.stored = page.dtype.newbyteorder("=").name
        if page.dtype.itemsize == 1:
            raise PictureError(
                f"{self.path}: it holds 8-bit values, which are no refractive index. Export the tomogram as 16-bit "
                "(refractive index x 10,000) or as floating point."
            )
        if len(first) == 1:
            swapped = f", or its {stack.planned} slices are declared as timepoints" if stack.planned > 1 else ""
            raise PictureError(
                f"{self.path}: it has a single slice: it is a projection{swapped}. Export the tomogram itself, with "
                "its slices along z."
            )
        self.shape_zyx = (len(first), *page.shape)
        if math.prod(self.shape_zyx) > _MAX_FRAME_VOXELS or stack.planned > _MAX_FRAMES:
            raise pages.error(
                f"it claims {stack.planned} tomograms of {self.shape_zyx} voxels", "More than any instrument records."
            )
        self.frames = tuple(sorted(stack.frames))
        self.planned = stack.planned
        self.voxel_um = stack.voxel_um if voxel_um is None else voxel_um
        if not all(math.isfinite(step) and 0 < step < 1e3 for step in self.voxel_um):
            z, y, x = self.voxel_um
            raise pages.error(f"it does not give a voxel size in um (z, y, x: {z:g}, {y:g}, {x:g})", _GIVE_VOXEL)
        self.times_s = stack.times_s
        self.recorded = stack.recorded
        self.medium_index = float("nan")
        self.position_mm: tuple[float, ...] = stack.position_mm
        self.fluorescence_transform = FluorescenceTransform()
        self._planes = stack.frames
        self._fluorescence = stack.fluorescence
        self._exports = _exported_channels(self.path)
        channels = [self._channel(name, stack) for name in stack.fluorescence]
        channels += [self._exported_channel(name, path) for name, path in self._exports.items()]
        self.channels: Mapping[str, FluorescenceChannel] = {channel.name: channel for channel in channels}

    def describe_instrument(self) -> dict[str, Any]:
        """Nothing that is not read elsewhere."""
        return {}

    def slabs(self, frame: int, *, depth: int = 1) -> Iterator[Slab]:
        """Yield a tomogram in slabs along z, each at most some 16 million voxels (or one slice).

        Raises
        ------
        AcquisitionError
            The frame is missing, does not decode, or holds values that are no refractive index.
        """
        if frame not in self._planes:
            raise self._pages.error(
                f"frame {frame} is missing (present: {len(self.frames)} of {self.planned})", "Leave it out."
            )
        planes = self._planes[frame]
        depth, height, width = self.shape_zyx
        step = min(depth, max(1, _SLAB_VOXELS // (height * width)))
        for z in range(0, depth, step):
            block = np.stack([self._pages.plane(page) for page in planes[z : z + step]])
            counts, nonfinite = index_counts(block, where=f"{self.path}: frame {frame}")
            self._check_index(counts, frame=frame)
            yield Slab(z=z, counts=counts, nonfinite=nonfinite)

    def read_fluorescence(self, channel: str, *, frame: int) -> np.ndarray:
        """One fluorescence stack (z, y, x) in camera units, as stored."""
        if channel not in self.channels or frame not in self.channels[channel].frames:
            raise self._pages.error(f"fluorescence {channel!r} frame {frame} is missing", "Leave it out.")
        if channel in self._fluorescence:
            return np.stack([self._pages.plane(page) for page in self._fluorescence[channel][frame]])
        with open_pages(self._exports[channel]) as pages:
            return np.stack([pages.plane(page) for page in range(len(pages.pages))])

    def _channel(self, name: str, stack: Stack) -> FluorescenceChannel:
        """Of the same image, hence on the tomogram's grid."""
        frames = stack.fluorescence[name]
        excitation, emission = stack.wavelengths_um.get(name, (float("nan"), float("nan")))
        return FluorescenceChannel(
            name=name,
            frames=tuple(sorted(frames)),
            shape_zyx=self.shape_zyx,
            voxel_um=self.voxel_um,
            offset_z_um=0.0,
            excitation_um=excitation,
            emission_um=emission,
        )

    def _exported_channel(self, name: str, path: Path) -> FluorescenceChannel:
        """Of another file; on the tomogram's grid where it has the same number of pages of the same size."""
        with open_pages(path) as pages:
            stack = read_stack(pages, one_stack=True)
            shape = (len(pages.pages), *pages.pages[0].shape)
        return FluorescenceChannel(
            name=name,
            frames=(0,),
            shape_zyx=shape,
            voxel_um=self.voxel_um if shape == self.shape_zyx else stack.voxel_um,
            offset_z_um=0.0,
            excitation_um=float("nan"),
            emission_um=float("nan"),
        )

    def _check_index(self, counts: np.ndarray, *, frame: int) -> None:
        """Any grey levels can be a TIFF: refuse what is no refractive index."""
        present = counts[counts > 0]
        sample = present[:: 1 + present.size // 100_000]
        median = float(np.median(sample)) / COUNTS_PER_INDEX if sample.size else 1.0
        if not 1 <= median < 3:
            raise self._pages.error(
                f"frame {frame} holds values about {median * COUNTS_PER_INDEX:g}, which are no refractive index "
                "(expected about 1.33, or 13300 as integers)",
                "Export the tomogram itself, not another channel, a difference or a rescaled picture.",
            )


def _exported_channels(path: Path) -> dict[str, Path]:
    """Fluorescence that the software exported with a tomogram, by channel."""
    found: dict[str, Path] = {}
    for file in side_files(path):
        export = parse_export(file)
        assert export is not None  # it was found by its name
        if export.channel in found:
            raise AcquisitionError(
                f"{found[export.channel]} and {file} are both {export.channel} of {path}. Remove one of them."
            )
        found[export.channel] = file
    return dict(sorted(found.items()))
