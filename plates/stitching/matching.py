"""How far one tile is shifted against its neighbour, by what both show of the same sample."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .images import Image, TileImage, overlap_volumes

Array = npt.NDArray[np.float64]

_LEAST_SHARES = (0.3, 0.6)  # of the expected overlap that must remain; a small one may match by chance
_LEAST_PIXELS = 64
_SPLINE_REACH = 3  # pixels beside a missing one that interpolation spoils
_ROUNDS = 8


Masked = tuple[Image, npt.NDArray[np.bool_]]


def match(a: Masked, b: Masked, *, prior: npt.NDArray[np.int_], reach: int, sigma: float) -> tuple[Array, float]:
    """Offset of `b` relative to `a` (y, x) in pixels, and how well they correlate there.

    Masked normalised correlation (Padfield 2012, IEEE Trans. Image Process. 21, 2706) proposes whole pixels; the
    proposal whose overlap agrees best, for its size, is refined by least squares (Lucas and Kanade 1981). Both planes
    are high-passed on exactly the pixels that they share: filtered tile by tile, the traces of the filter at the
    tiles' edges would pull the offset by half a pixel.

    Parameters
    ----------
    a, b
        Planes (y, x) and where they are present.
    prior
        Offset expected.
    reach
        Largest departure from it that is looked for.
    sigma
        Changes slower than so many pixels are the medium's or the illumination's, and are ignored.

    Returns
    -------
    offset, correlation
        The prior and 0 where nothing was found.
    """
    best, found, correlation = 0.0, np.asarray(prior, dtype=np.float64), 0.0
    for whole in _proposals(a, b, prior=prior, reach=reach):
        offset, agreement, pixels = _refine(a, b, whole, sigma=sigma)
        # Fisher's z: a correlation weighs more, the more pixels show it
        score = np.arctanh(min(agreement, 0.999)) * np.sqrt(pixels)
        if score > best and np.abs(offset - whole).max() < _SPLINE_REACH:
            best, found, correlation = float(score), offset, agreement
    return found, correlation


def axial_offset(a: TileImage, b: TileImage, sideways: Array, *, min_correlation: float) -> float | None:
    """Offset along z in slices, by correlation of the reduced volumes; None without texture."""
    first, second = overlap_volumes(a, b, sideways)
    depth = len(first)
    if depth < 2:
        return None
    # structure sideways only: the level of a slice says nothing about its height
    first, second = (v - np.nanmean(v, axis=(1, 2), keepdims=True) for v in (first, second))
    reach = depth // 2
    scores = []
    for dz in range(-reach, reach + 1):
        low, high = max(0, dz), min(depth, depth + dz)
        upper, lower = first[low:high], second[low - dz : high - dz]
        both = np.isfinite(upper) & np.isfinite(lower)
        scores.append(_pearson(upper[both], lower[both]))
    best = int(np.argmax(scores))
    if scores[best] < min_correlation:
        return None
    if best in (0, len(scores) - 1):
        return float(best - reach)
    left, top, right = scores[best - 1 : best + 2]
    return best - reach + 0.5 * (left - right) / (left - 2 * top + right)


def _proposals(a: Masked, b: Masked, *, prior: npt.NDArray[np.int_], reach: int) -> list[npt.NDArray[np.int_]]:
    from skimage.registration import phase_cross_correlation

    low = np.maximum(prior, 0) - reach
    high = np.minimum(prior + b[0].shape, a[0].shape) + reach
    # the overlap that the stage expects, of `a`; the same and a margin around it, of `b`
    expected = tuple(slice(reach, stop - start - reach) for start, stop in zip(low, high, strict=True))
    reference, reference_mask = _window(a, low, high)
    inside = np.zeros_like(reference_mask)
    inside[expected] = reference_mask[expected]
    moving, moving_mask = _window(b, low - prior, high - prior)
    if min(inside.sum(), moving_mask.sum()) < _LEAST_PIXELS:
        return []
    # single precision is kept exact near 0
    reference, moving = _level(reference, inside), _level(moving, moving_mask)
    found: list[npt.NDArray[np.int_]] = []
    for share in _LEAST_SHARES:
        shift, _, _ = phase_cross_correlation(  # type: ignore[no-untyped-call]
            reference, moving, reference_mask=inside, moving_mask=moving_mask, overlap_ratio=share
        )
        whole = np.rint(shift).astype(int)
        if np.abs(whole).max() <= reach:
            found.append(prior + whole)
    return found


def _refine(a: Masked, b: Masked, whole: npt.NDArray[np.int_], *, sigma: float) -> tuple[Array, float, int]:
    """Offset to a few hundredths of a pixel, the correlation there, and of how many pixels."""
    first, second, both = _shared(a, b, whole)
    usable = ndimage.binary_erosion(both, iterations=_SPLINE_REACH)
    pixels = int(usable.sum())
    if pixels < _LEAST_PIXELS:
        return np.asarray(whole, dtype=np.float64), 0.0, pixels
    first = _level(first, both)
    spline = ndimage.spline_filter(_level(second, both), order=3)
    fraction, moved = np.zeros(2), second
    for _ in range(_ROUNDS):
        moved = ndimage.shift(spline, fraction, order=3, prefilter=False, mode="nearest")
        left, *slopes = (_high_pass(plane, usable, sigma)[usable] for plane in (first - moved, *np.gradient(moved)))
        step = -np.linalg.lstsq(np.stack(slopes, axis=1), left, rcond=None)[0]
        fraction += np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-3:
            break
    agreement = _pearson(_high_pass(first, usable, sigma)[usable], _high_pass(moved, usable, sigma)[usable])
    return whole + fraction, agreement, pixels


def _high_pass(plane: Image, mask: npt.NDArray[np.bool_], sigma: float) -> Image:
    """What changes faster than `sigma` pixels; what is masked does not bleed into its neighbours."""
    weight = mask.astype(np.float32)
    slow = ndimage.gaussian_filter(plane * weight, sigma) / np.maximum(ndimage.gaussian_filter(weight, sigma), 1e-3)
    return np.asarray((plane - slow) * weight, dtype=np.float32)


def _level(plane: Image, mask: npt.NDArray[np.bool_]) -> Image:
    """Plane above its median, 0 where masked."""
    return np.where(mask, plane - np.median(plane[mask]), 0).astype(np.float32)


def _shared(a: Masked, b: Masked, offset: npt.NDArray[np.int_]) -> tuple[Image, Image, npt.NDArray[np.bool_]]:
    """Overlap as either sees it, and where both do."""
    low = np.maximum(offset, 0)
    high = np.maximum(np.minimum(offset + b[0].shape, a[0].shape), low)
    (first, here), (second, there) = _window(a, low, high), _window(b, low - offset, high - offset)
    return first, second, here & there


def _window(image: Masked, low: npt.NDArray[np.int_], high: npt.NDArray[np.int_]) -> Masked:
    """Cut out of an image by its own coordinates; what lies outside is missing."""
    plane = np.zeros(tuple(high - low), dtype=np.float32)
    mask = np.zeros(plane.shape, dtype=bool)
    start, stop = np.maximum(low, 0), np.minimum(high, image[0].shape)
    if (stop > start).all():
        source = tuple(slice(s, e) for s, e in zip(start, stop, strict=True))
        target = tuple(slice(s - o, e - o) for s, e, o in zip(start, stop, low, strict=True))
        plane[target], mask[target] = image[0][source], image[1][source]
    return plane, mask


def _pearson(first: Image, second: Image) -> float:
    """Correlation coefficient; 0 where there is nothing to correlate."""
    if first.size < _LEAST_PIXELS:
        return 0.0
    first, second = first - first.mean(dtype=np.float64), second - second.mean(dtype=np.float64)
    scale = np.sqrt(float((first * first).sum()) * float((second * second).sum()))
    return float((first * second).sum()) / scale if scale > 0 else 0.0
