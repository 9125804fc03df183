"""Where fluorescence lies on the tomogram: the transform, what the instrument says of it, and resampling by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from .errors import AcquisitionError

if TYPE_CHECKING:
    from .ingest.acquisition import Acquisition, FluorescenceChannel

OffsetZ = Literal["first-slice", "centre"]
Direction = Literal["tomogram-to-fluorescence", "fluorescence-to-tomogram"]


@dataclass(frozen=True)
class Placement:
    """Where the moving image (fluorescence) lies relative to the fixed one (the tomogram).

    What lies at `p` (y, x in um from the centre of the fixed grid) is seen at ``scale * R @ p + shift`` from
    the centre of the moving grid, with ``R = [[cos, -sin], [sin, cos]]`` acting on (y, x): rotated and scaled
    about the centre first, shifted last. Along z there is only the shift. The centre of a grid of n voxels is
    (n - 1) / 2 voxels from the centre of its first.

    Attributes
    ----------
    rotation_rad
        Turn of the moving image; in a picture whose y points down a positive one turns it against the clock.
    scale
        Its magnification; 1 = none.
    shift_um
        Its shift (z, y, x).
    how
        ``"metadata"``: as the instrument says; ``"refined"``: improved on the images.
    before, after
        Similarity at the start and at the end, larger is better; NaN where none was computed.
    residual_um
        Estimated error of the placement, root mean square over the field; NaN where it was not estimated.
    trusted
        Whether the images bear the placement out. False for metadata that were not, or could not be, checked.
    reason
        Why not; empty where trusted.
    """

    rotation_rad: float = 0.0
    scale: float = 1.0
    shift_um: tuple[float, float, float] = (0.0, 0.0, 0.0)
    how: Literal["metadata", "refined"] = "metadata"
    before: float = float("nan")
    after: float = float("nan")
    residual_um: float = float("nan")
    trusted: bool = False
    reason: str = ""

    @property
    def matrix(self) -> np.ndarray:
        """``scale * R`` on (y, x), (2, 2)."""
        cos, sin = np.cos(self.rotation_rad), np.sin(self.rotation_rad)
        return self.scale * np.array([[cos, -sin], [sin, cos]])

    def distance_um(self, other: Placement, *, extent_um: tuple[float, float]) -> float:
        """How far apart two placements put the points of a field, root mean square in the plane.

        Parameters
        ----------
        extent_um
            Height and width of the field.
        """
        # the mean over an even field of |D p + d|^2, with D and d the differences
        turn = self.matrix - other.matrix
        shift = np.subtract(self.shift_um[1:], other.shift_um[1:])
        spread = np.square(extent_um) / 12
        return float(np.sqrt(np.sum(turn**2 * spread) + np.sum(shift**2)))


def metadata_placement(
    acquisition: Acquisition,
    channel: str,
    *,
    offset_z: OffsetZ = "first-slice",
    direction: Direction = "tomogram-to-fluorescence",
    use_scale: bool = True,
    use_registration: bool = True,
) -> Placement:
    """Where the instrument says that a fluorescence channel lies.

    Public readers of these files disagree on what the stored numbers mean, so every reading is an option.

    Parameters
    ----------
    channel
        ``CH0``, ``CH1``, ...
    offset_z
        Whether the stored offset is the height of the first fluorescence slice above the tomogram's first, or
        that of the middle of the stack.
    direction
        Whether the stored rotation, scale and shift lead from a place in the tomogram to that in the
        fluorescence, or back.
    use_scale
        Whether the stored scale is used; 1 otherwise.
    use_registration
        Whether anything but the offset along z is used; without it both grids share their centre.

    Raises
    ------
    AcquisitionError
        There is no such channel, or the stored numbers are no transform.
    """
    if channel not in acquisition.channels:
        known = ", ".join(acquisition.channels) or "none"
        raise AcquisitionError(
            f"{acquisition.path}: fluorescence channel {channel!r} is missing (present: {known}). Name one of those."
        )
    held = acquisition.channels[channel]
    stored = acquisition.fluorescence_transform
    numbers = (stored.rotation_rad, stored.scale, *stored.translation_um, held.offset_z_um)
    if not all(np.isfinite(numbers)) or not 0.2 < stored.scale < 5:
        raise AcquisitionError(
            f"{acquisition.path}: the registration of the fluorescence (rotation {numbers[0]}, scale {numbers[1]}, "
            f"shift {numbers[2:4]}, offset {numbers[4]}) is no placement; expected finite numbers and a scale near 1. "
            "Copy the file again, or convert it without the stored registration."
        )
    rotation, scale, shift = 0.0, 1.0, np.zeros(2)
    if use_registration:
        rotation, shift = stored.rotation_rad, np.array(stored.translation_um, dtype=float)
        scale = stored.scale if use_scale else 1.0
    if direction == "fluorescence-to-tomogram":
        rotation, scale = -rotation, 1 / scale
        shift = -Placement(rotation_rad=rotation, scale=scale).matrix @ shift
    return Placement(
        rotation_rad=float(rotation),
        scale=float(scale),
        shift_um=(_shift_z(acquisition, held, offset_z), float(shift[0]), float(shift[1])),
        reason="as the instrument says; not checked on the images",
    )


def _shift_z(acquisition: Acquisition, held: FluorescenceChannel, offset_z: OffsetZ) -> float:
    middle = (acquisition.shape_zyx[0] - 1) / 2 * acquisition.voxel_um[0]
    reach = (held.shape_zyx[0] - 1) / 2 * held.voxel_um[0] if offset_z == "first-slice" else 0.0
    return middle - (held.offset_z_um + reach)


def resample(
    image: np.ndarray,
    placement: Placement,
    *,
    voxel_um: tuple[float, ...],
    onto_shape: tuple[int, ...],
    onto_voxel_um: tuple[float, ...],
) -> np.ndarray:
    """Bring a moving image onto the fixed grid, by linear interpolation.

    An image on a finer grid than the target is smoothed first, so that no light falls between the samples.
    Intensities keep their scale: a sample is a mean of camera counts.

    Parameters
    ----------
    image
        (y, x) or (z, y, x) of any numeric kind.
    voxel_um
        Its voxel size, one an axis.
    onto_shape, onto_voxel_um
        The fixed grid, one an axis.

    Returns
    -------
    numpy.ndarray
        float32 of `onto_shape`; NaN where the moving image does not reach.
    """
    from scipy.ndimage import affine_transform, gaussian_filter

    matrix, offset = grid_map(
        placement, shape=image.shape, voxel_um=voxel_um, onto_shape=onto_shape, onto_voxel_um=onto_voxel_um
    )
    steps = np.abs(np.linalg.det(matrix[-2:, -2:])) ** 0.5
    sigma = [0.0] * image.ndim
    # as scikit-image's resize does; axial planes are optical sections, there is nothing between them
    sigma[-2:] = [max(0.0, float(steps - 1) / 2)] * 2
    source = np.asarray(image, dtype=np.float32)
    if sigma[-1] > 0:
        source = gaussian_filter(source, sigma, mode="nearest", truncate=3.0)
    resampled: np.ndarray = affine_transform(
        source, matrix, offset, output_shape=tuple(onto_shape), order=1, mode="constant", cval=np.nan
    )
    return resampled


def grid_map(
    placement: Placement,
    *,
    shape: tuple[int, ...],
    voxel_um: tuple[float, ...],
    onto_shape: tuple[int, ...],
    onto_voxel_um: tuple[float, ...],
) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and offset that lead from a voxel of the fixed grid to its place in the moving one, in voxels."""
    axes = len(shape)
    turn = np.eye(axes)
    turn[-2:, -2:] = placement.matrix
    shift = np.array(placement.shift_um[-axes:])
    own, onto = np.array(voxel_um[-axes:]), np.array(onto_voxel_um[-axes:])
    middle, onto_middle = (np.array(shape) - 1) / 2, (np.array(onto_shape) - 1) / 2
    matrix = turn * onto[None, :] / own[:, None]
    return matrix, middle + shift / own - matrix @ onto_middle
