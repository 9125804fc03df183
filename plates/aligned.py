"""Fluorescence as projections on the tomogram's grid, and a picture that shows whether they lie right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from .placement import Direction, OffsetZ, Placement, metadata_placement, resample
from .registration import TRUSTED_RESIDUAL_UM, register

if TYPE_CHECKING:
    from PIL.Image import Image

    from .ingest.acquisition import Acquisition

_COLOURS = ((60, 140, 255), (60, 230, 60), (255, 70, 60), (255, 200, 40))
_WIDTH = 700  # of each half of the picture, in pixels


def aligned_projections(
    acquisition: Acquisition,
    frame: int,
    tomogram_projection: np.ndarray,
    *,
    fluorescence_frame: int | None = None,
    offset_z: OffsetZ = "first-slice",
    direction: Direction = "tomogram-to-fluorescence",
    use_scale: bool = True,
    use_registration: bool = True,
    refine: bool = True,
    max_residual_um: float = TRUSTED_RESIDUAL_UM,
) -> tuple[dict[str, np.ndarray], Placement]:
    """Maximum projections of all fluorescence channels of a frame, on the tomogram's (y, x) grid.

    Parameters
    ----------
    frame
        Of the tomogram.
    tomogram_projection
        Its maximum projection, uint16 counts (y, x); 0 = missing.
    fluorescence_frame
        Which fluorescence frame belongs to it, where they are not numbered alike.
    offset_z, direction, use_scale, use_registration
        How the stored registration is read; see `metadata_placement`.
    refine
        Whether the placement is refined on the images; see `register`. Where that fails the metadata are used
        and the placement says so.
    max_residual_um
        A refinement whose estimated error is larger is refused.

    Returns
    -------
    projections, placement
        Channel -> uint16 (y, x): 0 = no data (the camera did not reach), otherwise the intensity in camera
        units plus one, at most 65,535. Empty where the frame has no fluorescence.

    Raises
    ------
    AcquisitionError
        The stored registration is no transform, or a stack cannot be read.
    """
    wanted = frame if fluorescence_frame is None else fluorescence_frame
    held = {name: channel for name, channel in acquisition.channels.items() if wanted in channel.frames}
    if not held:
        return {}, Placement(reason=f"frame {wanted} has no fluorescence")
    first = next(iter(held))
    placement = metadata_placement(
        acquisition,
        first,
        offset_z=offset_z,
        direction=direction,
        use_scale=use_scale,
        use_registration=use_registration,
    )
    lights = {name: acquisition.read_fluorescence(name, frame=wanted).max(axis=0) for name in held}
    pitch = acquisition.voxel_um[1:]
    if refine:
        grid = (lights[first].shape, held[first].voxel_um[1:])
        alike = {name: lights[name] for name in held if (lights[name].shape, held[name].voxel_um[1:]) == grid}
        placement = register(tomogram_projection, alike, voxel_um=pitch, fluorescence_voxel_um=grid[1], start=placement)
    projections = {
        name: _stored(
            resample(
                lights[name],
                placement,
                voxel_um=held[name].voxel_um[1:],
                onto_shape=tomogram_projection.shape,
                onto_voxel_um=pitch,
            )
        )
        for name in held
    }
    return projections, placement


def _stored(light: np.ndarray) -> np.ndarray:
    """Camera units plus one as uint16; 0 where there is none."""
    top = np.iinfo(np.uint16).max
    return np.where(np.isnan(light), 0, np.clip(np.rint(light) + 1, 1, top)).astype(np.uint16)


def registration_picture(
    tomogram_projection: np.ndarray,
    fluorescence: Mapping[str, np.ndarray],
    *,
    voxel_um: tuple[float, ...],
    fluorescence_voxel_um: tuple[float, ...],
    before: Placement,
    after: Placement,
) -> Image:
    """Draw the tomogram in grey with the outlines of the light over it, at the start (left) and the end (right).

    Parameters
    ----------
    tomogram_projection
        uint16 counts (y, x); 0 = missing.
    fluorescence
        Channel -> projection (y, x); each is outlined in its own colour, at half of its brightness.
    voxel_um, fluorescence_voxel_um
        Voxel sizes; the last two are used.
    """
    from PIL import Image

    step = max(1, round(max(tomogram_projection.shape) / _WIDTH))
    small = tomogram_projection[::step, ::step]
    present = small[small > 0]
    low, high = np.percentile(present, (2, 99.7)) if present.size else (0, 1)
    grey = np.clip((small.astype(np.float32) - low) / max(high - low, 1), 0, 1) * 255
    halves = []
    for placement in (before, after):
        picture = np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)
        for colour, light in zip(_COLOURS, fluorescence.values(), strict=False):
            onto = resample(
                light,
                placement,
                voxel_um=fluorescence_voxel_um[-2:],
                onto_shape=tomogram_projection.shape,
                onto_voxel_um=voxel_um[-2:],
            )[::step, ::step]
            picture[_outline(onto)] = colour
        halves.append(picture)
    gap = np.full((len(grey), 8, 3), 255, np.uint8)
    return Image.fromarray(np.concatenate([halves[0], gap, halves[1]], axis=1))


def _outline(light: np.ndarray) -> np.ndarray:
    """Border of what is brighter than half way from the background to the brightest, two pixels wide."""
    from scipy.ndimage import binary_dilation, gaussian_filter

    filled = np.nan_to_num(light, nan=float(np.nanmedian(light)) if np.isfinite(light).any() else 0.0)
    smooth = gaussian_filter(filled, 1.0)
    background, top = np.median(smooth), np.quantile(smooth, 0.998)
    noise = 1.4826 * np.median(np.abs(smooth - background))
    lit = smooth > background + max((top - background) / 2, 8 * noise)
    border: np.ndarray = binary_dilation(lit) & ~lit
    return border
