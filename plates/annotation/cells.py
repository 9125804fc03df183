"""A field's cells by their nuclei, the light each marker gives in them, and which cell covers how much of a patch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..counts import COUNTS_PER_INDEX
from ..patches import FOREGROUND_INDEX, PATCH_PX, UM_PER_PX, patch_centres
from .channels import STAINS

GRID_UM = 0.5  # pixels of all that is measured here: finer than the placement of the light is known
AROUND_NUCLEUS_UM = 5.0  # annexin V is read on the nucleus and up to here around it
REACH_UM = 25.0  # cell area farther than this from every nucleus belongs to none
SMALLEST_NUCLEUS_UM2 = 6.0
BETWEEN_NUCLEI_UM = 3.0  # centres of two nuclei are farther apart than this
# Of the light around a nucleus, from the dark end. A stained membrane takes up a quarter to a third of it; a
# neighbour's membrane that lies across it less than a fifth.
ANNEXIN_QUANTILE = 0.8
SEEN_SHARE = 0.9  # of a cell's pixels that the camera must have seen

_Floats = NDArray[np.floating[Any]]
_Labels = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class FieldCells:
    """One field at one timepoint, cell by cell and patch by patch.

    Attributes
    ----------
    light
        (cell, 3) light above the background in camera units, of Hoechst, annexin V and PI in this order; NaN where
        the camera did not see the cell or the channel is missing.
    nucleus_um2
        (cell,) area of each nucleus.
    y_um, x_um
        (patch,) centres of the patches, row by row.
    area
        (patch,) share of each patch that cells cover, by the refractive index; NaN where nothing was measured.
    nearest
        (patch, cell) share of each patch that each cell covers; what `area` has more belongs to no nucleus.
    background
        Stain -> what was taken off, in camera units.
    """

    light: _Floats
    nucleus_um2: _Floats
    y_um: _Floats
    x_um: _Floats
    area: _Floats
    nearest: _Floats
    background: Mapping[str, float]


def measure_field(
    projection: NDArray[np.uint16],
    lights: Mapping[str, NDArray[np.uint16]],
    *,
    medium_index: float,
    voxel_um: tuple[float, float],
    stride: int = PATCH_PX,
) -> FieldCells:
    """Find the cells of a field by their nuclei and measure their markers.

    A nucleus is what is bright in Hoechst. Each piece of cell area (index above the medium by 0.0054) belongs to the
    nucleus that is nearest along cell area, or, where no cell area leads to one, nearest in the plane. Hoechst and PI
    are the mean light over the nucleus; annexin V, which lies on the membrane, is the 80 % quantile of the light within
    5 um of it.

    Parameters
    ----------
    projection
        Maximum projection (y, x) in counts of index; 0 = missing.
    lights
        Stain ("hoechst", "annexin_v", "pi") -> projection (y, x) on the same pixels in camera units + 1; 0 = not seen.
        Without Hoechst no cell is found.
    medium_index
        Of the field's medium; NaN where it is unknown, and then no cell area is found.
    voxel_um
        Pixel size (y, x).
    stride
        Distance of the patches, in pixels of 0.16 um.
    """
    factor = tuple(max(1, round(GRID_UM / step)) for step in voxel_um)
    pitch = (factor[0] * voxel_um[0], factor[1] * voxel_um[1])
    measured, index = _coarse(projection, factor)
    cell_area = measured & (index / COUNTS_PER_INDEX - medium_index > FOREGROUND_INDEX)
    above, seen, background = {}, {}, {}
    for stain, light in lights.items():
        seen[stain], image = _coarse(light, factor)
        background[stain] = _background(image, seen[stain], cell_area, pitch)
        above[stain] = image - background[stain]
    nuclei = (
        _nuclei(above["hoechst"], seen["hoechst"] & np.isfinite(above["hoechst"]), cell_area, pitch)
        if "hoechst" in lights
        else np.zeros(index.shape, np.int32)
    )
    count = int(nuclei.max(initial=0))
    above_in_cells: _Floats = np.full((count, len(STAINS)), np.nan)
    for column, stain in enumerate(STAINS):
        if stain in lights and count:
            zone = _around(nuclei, pitch) if stain == "annexin_v" else nuclei
            above_in_cells[:, column] = _per_cell(above[stain], seen[stain], zone, count, mean=stain != "annexin_v")
    owner = _owners(nuclei, cell_area, pitch)
    centres = patch_centres((projection.shape[0], projection.shape[1]), voxel_um=voxel_um, stride=stride)
    area, nearest = _in_patches(centres, owner, cell_area, measured, pitch, count)
    return FieldCells(
        light=above_in_cells,
        nucleus_um2=np.bincount(nuclei.ravel(), minlength=count + 1)[1:] * pitch[0] * pitch[1],
        y_um=np.repeat(centres[0], len(centres[1])),
        x_um=np.tile(centres[1], len(centres[0])),
        area=area,
        nearest=nearest,
        background=background,
    )


def _coarse(image: NDArray[np.uint16], factor: tuple[int, ...]) -> tuple[NDArray[np.bool_], _Floats]:
    """Whether all fine pixels of a coarse one are there, and their mean; a rest at the end is left out."""
    rows, columns = (size // step for size, step in zip(image.shape, factor, strict=True))
    blocks = image[: rows * factor[0], : columns * factor[1]].reshape(rows, factor[0], columns, factor[1])
    present: NDArray[np.bool_] = np.all(blocks > 0, axis=(1, 3))
    return present, blocks.mean(axis=(1, 3), dtype=np.float64)


def _background(
    image: _Floats, seen: NDArray[np.bool_], cell_area: NDArray[np.bool_], pitch: tuple[float, float]
) -> float:
    """Median light 3 um or more beside all cells; where hardly any is, the darkest twentieth of all light."""
    from scipy.ndimage import distance_transform_edt

    if not seen.any():
        return float("nan")
    beside = seen & (distance_transform_edt(~cell_area, sampling=pitch) > 3.0) if cell_area.any() else seen
    if beside.sum() >= 0.02 * seen.sum():
        return float(np.median(image[beside]))
    return float(np.quantile(image[seen], 0.05))


def _nuclei(
    above: _Floats, seen: NDArray[np.bool_], cell_area: NDArray[np.bool_], pitch: tuple[float, float]
) -> _Labels:
    """Labelled nuclei: Otsu's threshold on a logarithmic scale in units of the noise, touching ones cut apart."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter
    from skimage.filters import threshold_otsu
    from skimage.segmentation import watershed

    empty = np.zeros(above.shape, np.int32)
    if not seen.any():
        return empty
    filled = np.where(seen, above, 0.0)
    quiet = filled[seen & ~cell_area] if (seen & ~cell_area).sum() > 100 else filled[seen]
    noise = max(1.4826 * float(np.median(np.abs(quiet - np.median(quiet)))), 0.5)
    scaled = np.arcsinh(filled / noise)
    # condensed nuclei are several times as bright as healthy ones: their logarithms lie together
    cut = float(threshold_otsu(scaled[seen]))  # type: ignore[no-untyped-call]
    bright = seen & (scaled > max(cut, float(np.arcsinh(6.0))))
    depth = distance_transform_edt(bright, sampling=pitch)
    smooth = gaussian_filter(depth, [1.0 / step for step in pitch])
    peaks = _peaks(smooth, bright, pitch)
    parts = watershed(-smooth, peaks, mask=bright)  # type: ignore[no-untyped-call]
    sizes = np.bincount(parts.ravel())
    keep = sizes * pitch[0] * pitch[1] >= SMALLEST_NUCLEUS_UM2
    keep[0] = False
    numbers = np.cumsum(keep) * keep
    kept: _Labels = numbers[parts].astype(np.int32)
    return kept


def _peaks(depth: _Floats, bright: NDArray[np.bool_], pitch: tuple[float, float]) -> _Labels:
    from skimage.feature import peak_local_max

    apart = max(1, round(BETWEEN_NUCLEI_UM / max(pitch)))
    found = peak_local_max(  # type: ignore[no-untyped-call]
        depth, min_distance=apart, labels=bright.astype(int), exclude_border=False
    )
    marked = np.zeros(depth.shape, np.int32)
    marked[tuple(found.T)] = np.arange(1, len(found) + 1)
    return marked


def _around(nuclei: _Labels, pitch: tuple[float, float]) -> _Labels:
    """Each nucleus and what is nearer to it than to any other, up to 5 um away."""
    from scipy.ndimage import distance_transform_edt

    away, nearest = distance_transform_edt(nuclei == 0, sampling=pitch, return_indices=True)
    around: _Labels = np.where(away <= AROUND_NUCLEUS_UM, nuclei[tuple(nearest)], 0)
    return around


def _per_cell(above: _Floats, seen: NDArray[np.bool_], zone: _Labels, count: int, *, mean: bool) -> _Floats:
    """Mean or 80 % quantile of the light in each zone (cell,); NaN where the camera saw too little of it."""
    from scipy.ndimage import labeled_comprehension

    cells = np.arange(1, count + 1)
    total = np.bincount(zone.ravel(), minlength=count + 1)[1:]
    lit = np.where(seen, zone, 0)
    visible = np.bincount(lit.ravel(), minlength=count + 1)[1:]
    value: _Floats = labeled_comprehension(
        above, lit, cells, np.mean if mean else lambda values: np.quantile(values, ANNEXIN_QUANTILE), float, np.nan
    )
    return np.where(visible >= SEEN_SHARE * total, value, np.nan)


def _owners(nuclei: _Labels, cell_area: NDArray[np.bool_], pitch: tuple[float, float]) -> _Labels:
    """Which cell each pixel of cell area belongs to; 0 where no nucleus is in reach."""
    from scipy.ndimage import distance_transform_edt
    from skimage.segmentation import watershed

    if not nuclei.any():
        return np.zeros(nuclei.shape, np.int32)
    away, nearest = distance_transform_edt(nuclei == 0, sampling=pitch, return_indices=True)
    along = watershed(away, nuclei, mask=cell_area | (nuclei > 0))  # type: ignore[no-untyped-call]
    owner = np.where(along > 0, along, nuclei[tuple(nearest)])
    owned: _Labels = np.where(cell_area & (away <= REACH_UM), owner, 0).astype(np.int32)
    return owned


def _in_patches(
    centres: tuple[_Floats, _Floats],
    owner: _Labels,
    cell_area: NDArray[np.bool_],
    measured: NDArray[np.bool_],
    pitch: tuple[float, float],
    count: int,
) -> tuple[_Floats, _Floats]:
    """Share of each patch that is cell area, and that each cell covers: (patch,) and (patch, cell)."""
    half = PATCH_PX * UM_PER_PX / 2
    rows, columns = (
        [(max(0, round((middle - half) / step)), round((middle + half) / step)) for middle in axis]
        for axis, step in zip(centres, pitch, strict=True)
    )
    area = np.full(len(rows) * len(columns), np.nan)
    nearest = np.zeros((area.size, count))
    windows = [(slice(*row), slice(*column)) for row in rows for column in columns]
    for number, window in enumerate(windows):
        if measured[window].any():
            area[number] = cell_area[window].mean()
            nearest[number] = np.bincount(owner[window].ravel(), minlength=count + 1)[1:] / owner[window].size
    return area, nearest
