"""Overlapping acquisitions as one: a wide field read slab by slab, like any other acquisition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..counts import COUNTS_PER_INDEX
from ..errors import AcquisitionError
from ..ingest.acquisition import Acquisition, FluorescenceChannel, FluorescenceTransform, Slab
from ..ingest.manifest import Source
from ..ingest.opening import open_source
from .blending import Plane, blend, feather, snap
from .images import TileImage, tile_image
from .layout import StageConvention, TileLayout, tile_layout
from .levels import TileLevels, tile_levels
from .offsets import PairOffset, decide_layout, refine_offsets

Array = npt.NDArray[np.float64]

_SLAB_VOXELS = 1 << 24


@dataclass(frozen=True)
class Seam:
    """Where two tiles meet, and how well.

    Attributes
    ----------
    first, second
        Numbers of the tiles.
    metadata_offset, refined_offset
        Second tile relative to the first by the stage and as measured, voxels (z, y, x).
    registered
        False where the overlap had too little texture, so that the stage was believed.
    correlation
        Of the overlap; NaN if it was not measured.
    residual_um
        Distance between the refined offset and what the solution for all tiles makes of it.
    overlap_px
        Rows and columns that the tiles share in the end.
    step_before, step_after
        Median step of the refractive index from the first to the second, without and with equalised levels.
    """

    first: int
    second: int
    metadata_offset: tuple[float, float, float]
    refined_offset: tuple[float, float, float]
    registered: bool
    correlation: float
    residual_um: float
    overlap_px: tuple[int, int]
    step_before: float
    step_after: float


@dataclass(frozen=True)
class _Fit:
    """How the tiles of one frame go together; offsets relative to the first tile."""

    offsets: Array
    pairs: tuple[PairOffset, ...]
    levels: TileLevels
    weights: list[Plane]


@contextmanager
def open_mosaic(
    paths: Sequence[Path],
    *,
    refine: bool = True,
    convention: StageConvention | None = None,
    max_error_um: float = 10.0,
    min_correlation: float = 0.5,
) -> Iterator[Acquisition]:
    """Open overlapping acquisitions as one wide field; a single one is given as it is.

    On Linux each tile is read in a process of its own, which it may crash without harm.

    Parameters
    ----------
    paths
        The tiles, in any order.
    refine, convention, max_error_um, min_correlation
        As of `stitch`.

    Raises
    ------
    AcquisitionError
        A tile cannot be read, or the tiles do not make one field; see `stitch`.
    """
    with ExitStack() as stack:
        # a place on a plate says nothing here
        sources = [Source(Path(path), well="", field=0, timepoint=0) for path in paths]
        tiles = [stack.enter_context(open_source(source)) for source in sources]
        yield stitch(
            tiles,
            refine=refine,
            convention=convention,
            max_error_um=max_error_um,
            min_correlation=min_correlation,
        )


def stitch(
    tiles: Sequence[Acquisition],
    *,
    refine: bool = True,
    convention: StageConvention | None = None,
    max_error_um: float = 10.0,
    min_correlation: float = 0.5,
) -> Acquisition:
    """Make one wide field of open acquisitions, which must stay open; a single one is given back as it is.

    Parameters
    ----------
    refine
        Whether to measure the offsets, instead of believing the stage.
    convention
        How the stage axes run in the picture; by default decided from the overlaps.
    max_error_um
        How far the stage may err between neighbours.
    min_correlation
        Pairs of tiles that correlate less fall back to the stage.

    Raises
    ------
    AcquisitionError
        Tiles of different voxel size or shape, without a common frame, at unknown positions, away from all others,
        or with overlaps that do not tell how the stage axes run.
    """
    if not tiles:
        raise AcquisitionError("no tiles to stitch. Name at least one acquisition.")
    if len(tiles) == 1:
        return tiles[0]
    _check_alike(tiles)
    return Mosaic(
        tiles, refine=refine, convention=convention, max_error_um=max_error_um, min_correlation=min_correlation
    )


class Mosaic:
    """Several acquisitions as one, an `Acquisition` itself; make it with `stitch` or `open_mosaic`.

    The stage does not return to the same micrometre, so every frame is registered for itself, on the canvas that the
    first one set. Axially, tiles are placed on whole slices: interpolation between slices as far apart as the
    resolution would blur. Fluorescence is not stitched.

    Attributes
    ----------
    path, recorded, times_s, medium_index
        Of the first tile.
    frames
        Those present in all tiles.
    position_mm
        Mean of the tiles' positions.
    channels
        Always empty.
    seams
        Pairs of neighbours on the first frame.
    placement
        First voxel (z, y, x) of each tile in the wide field on the first frame, in the order of the tiles.
    levels
        Level of each tile above the mean of all on the first frame, as refractive index; it was subtracted.
    convention
        How the stage axes run in the picture, as given or as decided.
    """

    channels: Mapping[str, FluorescenceChannel]

    def __init__(
        self,
        tiles: Sequence[Acquisition],
        *,
        refine: bool,
        convention: StageConvention | None,
        max_error_um: float,
        min_correlation: float,
    ) -> None:
        self._tiles = tuple(tiles)
        self._refine, self._max_error_um, self._min_correlation = refine, max_error_um, min_correlation
        first = self._tiles[0]
        self.path: Path = first.path
        self.frames: tuple[int, ...] = tuple(sorted(set.intersection(*(set(tile.frames) for tile in tiles))))
        self.planned: int = max(tile.planned for tile in tiles)
        self.voxel_um: tuple[float, float, float] = first.voxel_um
        self.times_s: Mapping[int, float] = {frame: first.times_s[frame] for frame in self.frames}
        self.recorded: datetime | None = first.recorded
        self.medium_index: float = first.medium_index
        self.position_mm: tuple[float, ...] = tuple(np.mean([tile.position_mm for tile in tiles], axis=0).tolist())
        self.channels = {}
        self.fluorescence_transform = FluorescenceTransform()
        self.format, self.stored = first.format, first.stored

        images = self._images(self.frames[0])
        layout = self._layout(images, convention)
        self.convention: StageConvention = layout.convention
        self._fitted = {self.frames[0]: self._fit(images, layout)}
        self._pairs = layout.pairs
        fit = self._fitted[self.frames[0]]
        self._origin = np.floor(fit.offsets.min(axis=0)).astype(int)
        far = np.ceil(fit.offsets.max(axis=0)).astype(int) + first.shape_zyx
        self.shape_zyx: tuple[int, int, int] = _shape(far - self._origin)
        self.placement: tuple[tuple[float, float, float], ...] = tuple(
            (float(z), float(y), float(x)) for z, y, x in fit.offsets - self._origin
        )
        self.levels: tuple[float, ...] = tuple((fit.levels.offsets / COUNTS_PER_INDEX).tolist())
        self.seams: tuple[Seam, ...] = tuple(
            _seam(pair, fit.offsets, steps=steps, shape_yx=first.shape_zyx[1:])
            for pair, steps in zip(fit.pairs, fit.levels.steps, strict=True)
        )

    def describe_instrument(self) -> Mapping[str, Any]:
        """That of the first tile."""
        return self._tiles[0].describe_instrument()

    def slabs(self, frame: int, *, depth: int = 1) -> Iterator[Slab]:
        """Yield the wide field in slabs along z, some 16 million voxels each at most (or one slice).

        One slab of each tile is in memory at a time. Frames after the first are read twice: to register them, and
        to blend them.

        Raises
        ------
        AcquisitionError
            The frame is missing or a tile's part of it cannot be read.
        """
        if frame not in self.frames:
            raise AcquisitionError(
                f"{self.path}: frame {frame} is not in all {len(self._tiles)} tiles (common: {len(self.frames)} of "
                f"{self.planned}). Leave it out."
            )
        fit = self._frame_fit(frame)
        slices, *shape_yx = self.shape_zyx
        tile_shape = self._tiles[0].shape_zyx
        offsets = fit.offsets - self._origin
        corrections = [fit.levels.correction(n, shape_yx=tile_shape[1:]) for n in range(len(self._tiles))]
        sources = [_Planes(tile, frame) for tile in self._tiles]
        starts = np.rint(offsets[:, 0]).astype(int)
        for source, start in zip(sources, starts, strict=True):
            source.skip(max(0, -int(start)))
        thickness = max(depth, _SLAB_VOXELS // int(np.prod(shape_yx)) // depth * depth)
        for low in range(0, slices, thickness):
            high = min(low + thickness, slices)
            counts = np.empty((high - low, *shape_yx), dtype=np.uint16)
            for z in range(low, high):
                # no name for the planes: it would keep the last slabs alive while the next are read
                counts[z - low] = blend(
                    [
                        source.take() if 0 <= z - start < tile_shape[0] else None
                        for source, start in zip(sources, starts, strict=True)
                    ],
                    offsets_yx=offsets[:, 1:],
                    weights=fit.weights,
                    corrections=corrections,
                    shape_yx=(shape_yx[0], shape_yx[1]),
                )
            yield Slab(z=low, counts=counts, nonfinite=sum(source.take_nonfinite() for source in sources))

    def read_fluorescence(self, channel: str, *, frame: int) -> np.ndarray:
        """Refuse: fluorescence is not stitched."""
        raise AcquisitionError(
            f"{self.path}: fluorescence {channel!r} (frame {frame}) of a stitched field was asked for, but only "
            "tomograms are stitched. Convert the tiles as fields of their own to keep their fluorescence."
        )

    def _images(self, frame: int) -> list[TileImage]:
        return [tile_image(tile.slabs(frame), shape=tile.shape_zyx, voxel_um=tile.voxel_um) for tile in self._tiles]

    def _layout(self, images: list[TileImage], convention: StageConvention | None) -> TileLayout:
        positions = [tile.position_mm for tile in self._tiles]
        names = [str(tile.path) for tile in self._tiles]
        if convention is None:
            return decide_layout(
                images,
                positions,
                voxel_um=self.voxel_um,
                names=names,
                max_error_um=self._max_error_um,
                min_correlation=self._min_correlation,
            )
        shape = self._tiles[0].shape_zyx
        return tile_layout(positions, shape=shape, voxel_um=self.voxel_um, convention=convention, names=names)

    def _frame_fit(self, frame: int) -> _Fit:
        if frame not in self._fitted:
            # the stage said where the first frame lies: what was found there is the better start
            found = self._fitted[self.frames[0]].offsets
            layout = TileLayout(offsets=found, pairs=self._pairs, convention=self.convention)
            # one other frame is kept at a time
            self._fitted = {self.frames[0]: self._fitted[self.frames[0]], frame: self._fit(self._images(frame), layout)}
        return self._fitted[frame]

    def _fit(self, images: list[TileImage], layout: TileLayout) -> _Fit:
        if self._refine:
            offsets, pairs = refine_offsets(
                images,
                layout,
                voxel_um=self.voxel_um,
                max_error_um=self._max_error_um,
                min_correlation=self._min_correlation,
            )
        else:
            offsets, pairs = layout.offsets, tuple(_unmeasured(layout, i, j) for i, j in layout.pairs)
        placed = np.column_stack([np.rint(offsets[:, 0]), snap(offsets[:, 1:])])
        levels = tile_levels(images, layout.pairs, offsets=placed)
        return _Fit(placed, pairs, levels, [feather(image.present) for image in images])


class _Planes:
    """Planes of one tile's frame in order, one slab in memory."""

    def __init__(self, tile: Acquisition, frame: int) -> None:
        self._slabs = tile.slabs(frame)
        self._counts: np.ndarray | None = None
        self._next = 0
        self._nonfinite = 0

    def skip(self, planes: int) -> None:
        for _ in range(planes):
            self.take()

    def take(self) -> np.ndarray:
        if self._counts is None or self._next == len(self._counts):
            self._counts = None  # let go of the last slab before the next is read
            slab = next(self._slabs)
            self._counts, self._next = slab.counts, 0
            self._nonfinite += slab.nonfinite
        self._next += 1
        plane: np.ndarray = self._counts[self._next - 1]
        return plane

    def take_nonfinite(self) -> int:
        number, self._nonfinite = self._nonfinite, 0
        return number


def _check_alike(tiles: Sequence[Acquisition]) -> None:
    first = tiles[0]
    for tile in tiles[1:]:
        if not np.allclose(tile.voxel_um, first.voxel_um, rtol=1e-4):
            raise AcquisitionError(
                f"{tile.path}: its voxels (z, y, x) measure {tile.voxel_um} um, those of {first.path} "
                f"{first.voxel_um}. Only tiles of one voxel size make a field; convert them as fields of their own."
            )
        if tile.shape_zyx != first.shape_zyx:
            raise AcquisitionError(
                f"{tile.path}: has the shape {tile.shape_zyx}, {first.path} {first.shape_zyx}. Only tiles of one shape "
                "make a field; convert them as fields of their own."
            )
    if not set.intersection(*(set(tile.frames) for tile in tiles)):
        raise AcquisitionError(
            f"{first.path} and {len(tiles) - 1} more tiles have no frame in common. Convert them as fields of "
            "their own."
        )


def _unmeasured(layout: TileLayout, first: int, second: int) -> PairOffset:
    z, y, x = (layout.offsets[second] - layout.offsets[first]).tolist()
    return PairOffset(first, second, (z, y, x), (z, y, x), False, float("nan"))


def _seam(pair: PairOffset, offsets: Array, *, steps: Array, shape_yx: tuple[int, ...]) -> Seam:
    shared = np.maximum(shape_yx - np.abs(np.rint(offsets[pair.second, 1:] - offsets[pair.first, 1:])), 0)
    return Seam(
        first=pair.first,
        second=pair.second,
        metadata_offset=pair.metadata,
        refined_offset=pair.measured,
        registered=pair.registered,
        correlation=pair.correlation,
        residual_um=pair.residual_um,
        overlap_px=(int(shared[0]), int(shared[1])),
        step_before=float(steps[0]) / COUNTS_PER_INDEX,
        step_after=float(steps[1]) / COUNTS_PER_INDEX,
    )


def _shape(values: npt.NDArray[np.int_]) -> tuple[int, int, int]:
    return int(values[0]), int(values[1]), int(values[2])
