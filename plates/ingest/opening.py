"""A source opened as what it stands for: a file, an image of a plate, or several tiles as one wide field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..errors import AcquisitionError
from .acquisition import Acquisition, Slab, open_acquisition
from .manifest import Source
from .ome_tiff import open_tiff


@contextmanager
def open_source(source: Source) -> Iterator[Acquisition]:
    """Open a source with what a manifest or the other sources say of it; raises as `open_acquisition`."""
    if source.tiles is not None:
        from ..stitching import open_mosaic

        with open_mosaic(source.tiles.paths, convention=source.tiles.stage) as mosaic:
            yield fitted(mosaic, shape_zyx=source.tiles.shape_zyx)
    elif source.voxel_um is None:
        with open_acquisition(source.path, part=source.part, channel=source.channel) as acquisition:
            yield acquisition
    elif source.path.suffix.lower() in (".tif", ".tiff"):
        with open_tiff(source.path, part=source.part, voxel_um=source.voxel_um) as acquisition:
            yield acquisition
    else:
        raise AcquisitionError(
            f"{source.path}: the manifest gives it a voxel size, but only a TIFF can lack one. Leave these columns "
            "empty for other files."
        )


def fitted(acquisition: Acquisition, *, shape_zyx: tuple[int, int, int]) -> Acquisition:
    """Cut or fill a wide field at its far edges: registration makes each a few voxels larger or smaller."""
    return acquisition if acquisition.shape_zyx == shape_zyx else _Fitted(acquisition, shape_zyx)


class _Fitted:
    """An acquisition on a canvas of a given shape; what it does not cover is missing (0)."""

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
        self.channels = acquisition.channels
        self.fluorescence_transform = acquisition.fluorescence_transform
        self.format, self.stored = acquisition.format, acquisition.stored
        self.seams = getattr(acquisition, "seams", ())

    def describe_instrument(self) -> Mapping[str, Any]:
        return self._acquisition.describe_instrument()

    def slabs(self, frame: int, *, depth: int = 1) -> Iterator[Slab]:
        slices, *canvas = self.shape_zyx
        end = 0
        for slab in self._acquisition.slabs(frame, depth=depth):
            counts = slab.counts[: max(0, slices - slab.z)]
            if len(counts) == 0:
                continue
            height, width = (min(have, want) for have, want in zip(counts.shape[1:], canvas, strict=True))
            placed = np.zeros((len(counts), *canvas), dtype=np.uint16)
            placed[:, :height, :width] = counts[:, :height, :width]
            end = slab.z + len(counts)
            yield Slab(z=slab.z, counts=placed, nonfinite=slab.nonfinite)
        if end < slices:
            yield Slab(z=end, counts=np.zeros((slices - end, *canvas), dtype=np.uint16), nonfinite=0)

    def read_fluorescence(self, channel: str, *, frame: int) -> np.ndarray:
        return self._acquisition.read_fluorescence(channel, frame=frame)
