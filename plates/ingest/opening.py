"""A source opened as what it stands for: a file, an image of a plate, or several tiles as one wide field."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import AcquisitionError
from .acquisition import Acquisition, FluorescenceChannel, FluorescenceTransform, Slab, open_acquisition
from .manifest import Source
from .ome_tiff import open_tiff


@contextmanager
def open_source(source: Source) -> Iterator[Acquisition]:
    """Open a source with what a manifest or the other sources say of it; raises as `open_acquisition`.

    On Linux each file is read in a process of its own, which it may crash without harm.
    """
    if source.tiles is not None:
        from ..stitching import stitch

        with ExitStack() as stack:
            # as they are opened on their own: what a manifest or a person says of the source holds for each
            alone = [replace(source, path=path, tiles=None) for path in source.tiles.paths]
            tiles = [stack.enter_context(open_source(tile)) for tile in alone]
            yield fitted(stitch(tiles, convention=source.tiles.stage), shape_zyx=source.tiles.shape_zyx)
    else:
        with _opened_alone(source) as acquisition:
            yield acquisition


def _opened_alone(source: Source) -> AbstractContextManager[Acquisition]:
    path, part = source.path, source.part
    if source.voxel_um is not None and path.suffix.lower() not in (".tif", ".tiff"):
        raise AcquisitionError(
            f"{path}: the manifest gives it a voxel size, but only a TIFF can lack one. Leave these columns "
            "empty for other files."
        )
    if sys.platform == "linux":
        from .apart import open_apart

        return open_apart(path, part=part, channel=source.channel, voxel_um=source.voxel_um)
    if source.voxel_um is not None:
        return open_tiff(path, part=part, voxel_um=source.voxel_um)
    return open_acquisition(path, part=part, channel=source.channel)


def fitted(acquisition: Acquisition, *, shape_zyx: tuple[int, int, int]) -> Acquisition:
    """A wide field, or a lone position, on the canvas that all fields of a plate share; it has no fluorescence.

    Raises
    ------
    AcquisitionError
        It is larger than the canvas: nothing is cut.
    """
    if any(have > room for have, room in zip(acquisition.shape_zyx, shape_zyx, strict=True)):
        raise AcquisitionError(
            f"{acquisition.path}: its tiles as registered make a field of {acquisition.shape_zyx} voxels (z, y, x), "
            f"those of the plate have {shape_zyx}. The stage is further off than stitching allows for: convert "
            "the positions into another plate, without stitching."
        )
    return _Fitted(acquisition, shape_zyx)


class _Fitted:
    """An acquisition on a canvas at least as large; what it does not cover is missing (0)."""

    channels: Mapping[str, FluorescenceChannel]

    def __init__(self, acquisition: Acquisition, shape_zyx: tuple[int, int, int]) -> None:
        self._acquisition = acquisition
        self.path = acquisition.path
        self.frames = acquisition.frames
        self.planned = acquisition.planned
        self.shape_zyx = shape_zyx
        self.voxel_um = acquisition.voxel_um
        self.times_s = acquisition.times_s
        self.recorded = acquisition.recorded
        self.medium_index = acquisition.medium_index
        self.position_mm = acquisition.position_mm
        # a lone position on the canvas of wide fields, which have none
        self.channels = {}
        self.fluorescence_transform = FluorescenceTransform()
        self.format, self.stored = acquisition.format, acquisition.stored
        self.seams = getattr(acquisition, "seams", ())

    def describe_instrument(self) -> Mapping[str, Any]:
        return self._acquisition.describe_instrument()

    def slabs(self, frame: int, *, depth: int = 1) -> Iterator[Slab]:
        slices, *canvas = self.shape_zyx
        end = 0
        for slab in self._acquisition.slabs(frame, depth=depth):
            placed = np.zeros((len(slab.counts), *canvas), dtype=np.uint16)
            height, width = slab.counts.shape[1:]
            placed[:, :height, :width] = slab.counts
            end = slab.z + len(placed)
            yield Slab(z=slab.z, counts=placed, nonfinite=slab.nonfinite)
        if end < slices:
            yield Slab(z=end, counts=np.zeros((slices - end, *canvas), dtype=np.uint16), nonfinite=0)

    def read_fluorescence(self, channel: str, *, frame: int) -> np.ndarray:
        raise AcquisitionError(
            f"{self.path}: fluorescence {channel!r} (frame {frame}) of a wide field was asked for, but only tomograms "
            "are stitched. Convert the positions as fields of their own to keep their fluorescence."
        )
