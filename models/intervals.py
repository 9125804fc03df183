"""How far a score may be off: intervals that treat a well, not a patch, as the unit of doubt."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import norm, t

RESAMPLES = 2000
# The range of five wells holds their median with probability 1 - 2 / 2**5 = 94 %; of fewer, with less.
LEAST_WELLS = 5
# Few errors do not show how they crowd in wells: that many errors weigh as much as the correlation assumed.
ASSUMED_CORRELATION = 0.1
ASSUMED_WEIGHT = 20.0
Z = float(norm.ppf(0.975))
EPSILON = 1e-9

Interval = tuple[float | None, float | None]
NOTHING_KNOWN: Interval = (None, None)


@dataclass(frozen=True, eq=False)
class Wells:
    """The wells that patches come from, and draws of as many wells with replacement.

    A score that is a ratio of sums over wells is resampled by one product with `draws`.
    """

    of_patch: npt.NDArray[np.int64]  # (patch,) index of its well
    count: int
    seed: int = 0
    resamples: int = RESAMPLES

    @cached_property
    def draws(self) -> npt.NDArray[np.float64]:
        """(resample, well): how often each well was drawn."""
        random = np.random.default_rng(self.seed)
        return random.multinomial(self.count, np.full(self.count, 1 / self.count), size=self.resamples).astype(float)

    def sums(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(patch,) -> (well,)."""
        return np.bincount(self.of_patch, weights=values, minlength=self.count).astype(np.float64)


def wells_of(groups: npt.ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Wells:
    """Number the wells of some patches; `groups` (patch,) names plate and well."""
    names, place = np.unique(np.asarray(groups), return_inverse=True)
    return Wells(of_patch=place, count=len(names), seed=seed, resamples=resamples)


def resampled_interval(resampled: npt.NDArray[np.float64], *, wells: int) -> Interval:
    """The 95 % interval of a score from its values over resampled wells.

    Percentiles, spread for few wells: the plain ones are as narrow as if the spread of the wells were
    known, too narrow by sqrt(W / (W - 1)) and by Student's t over the normal quantile ("expanded
    percentile interval", Hesterberg 2015, The American Statistician 69:371).

    Parameters
    ----------
    resampled
        (resample,); NaN where a resample does not define the score.
    wells
        Wells that take part in the score; with fewer than five there is no interval.
    """
    known = resampled[~np.isnan(resampled)]
    if wells < LEAST_WELLS or len(known) == 0:
        return NOTHING_KNOWN
    tail = float(norm.cdf(-np.sqrt(wells / (wells - 1)) * t.ppf(0.975, wells - 1)))
    low, high = np.quantile(known, (tail, 1 - tail))
    return float(low), float(high)


def share_interval(values: npt.ArrayLike, well: npt.ArrayLike) -> Interval:
    """Wilson's 95 % interval of a share, with as many patches as the wells make them worth.

    A bootstrap of wells without an error says "100 %, certainly". This one does not (Wilson 1927, with
    an effective number of patches as in Korn and Graubard 1998, Survey Methodology 24:193).

    Parameters
    ----------
    values
        (patch,) 0 or 1, or shares between.
    well
        (patch,) well of each.
    """
    v = np.asarray(values, dtype=float)
    return wilson(float(v.mean()), effective_size(v, well)) if len(v) else NOTHING_KNOWN


def wilson(share: float, size: float) -> tuple[float, float]:
    """95 % interval of a share seen in `size` independent trials, which need not be a whole number."""
    centre = (share + Z**2 / (2 * size)) / (1 + Z**2 / size)
    half = Z * np.sqrt(share * (1 - share) / size + Z**2 / (4 * size**2)) / (1 + Z**2 / size)
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))


def effective_size(values: npt.ArrayLike, well: npt.ArrayLike) -> float:
    """Number of independent patches that would tell as much as these: n / (1 + (m - 1) rho).

    `m` is the mean number of patches in the well of a patch, rho the correlation within wells, estimated
    by analysis of variance. A handful of errors cannot show rho: it is drawn towards 0.1 as if that had
    been seen in 20 errors.
    """
    v = np.asarray(values, dtype=float)
    _, place, sizes = np.unique(np.asarray(well), return_inverse=True, return_counts=True)
    n, wells = len(v), len(sizes)
    if n == wells:
        return float(n)
    crowd = float((sizes**2).sum()) / n
    errors = float(min(v.sum(), n - v.sum()))
    seen = _correlation_within(v, place, sizes) if wells > 1 else 1.0
    rho = (errors * seen + ASSUMED_WEIGHT * ASSUMED_CORRELATION) / (errors + ASSUMED_WEIGHT)
    return n / (1 + (crowd - 1) * rho)


def auc_interval(auc: float, *, positives: float, negatives: float) -> tuple[float, float]:
    """95 % interval of an area under the ROC curve from (effective) numbers of patches on both sides.

    Wilson's idea with Hanley and McNeil's variance: method 5 of Newcombe 2006 (Statistics in Medicine
    25:559), which stays open below an area of 1.
    """

    def beyond(area: float) -> float:
        return (area - auc) ** 2 - Z**2 * _auc_variance(area, positives, negatives)

    # an area of 0 or 1 has no variance and is a root by itself: the one looked for lies inside
    low = brentq(beyond, 0.0, min(auc, 1 - EPSILON)) if auc > EPSILON else 0.0
    high = brentq(beyond, max(auc, EPSILON), 1.0) if auc < 1 - EPSILON else 1.0
    return float(low), float(high)


def mean_interval(values: npt.NDArray[np.float64], intervals: list[Interval]) -> Interval:
    """Interval of the mean of independent scores from their own intervals (MOVER, Zou and Donner 2008)."""
    low = np.array([np.nan if pair[0] is None else pair[0] for pair in intervals])
    high = np.array([np.nan if pair[1] is None else pair[1] for pair in intervals])
    if len(values) == 0 or np.isnan(low).any() or np.isnan(high).any():
        return NOTHING_KNOWN
    down, up = (float(np.sqrt(((values - end) ** 2).sum())) / len(values) for end in (low, high))
    return max(0.0, float(values.mean()) - down), min(1.0, float(values.mean()) + up)


def wider(one: Interval, other: Interval) -> Interval:
    """The interval that holds both; None where either is not known."""
    if one[0] is None or one[1] is None or other[0] is None or other[1] is None:
        return NOTHING_KNOWN
    return min(one[0], other[0]), max(one[1], other[1])


def _correlation_within(
    values: npt.NDArray[np.float64], place: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]
) -> float:
    n, wells = len(values), len(sizes)
    means = np.bincount(place, weights=values) / sizes
    between = float((sizes * (means - values.mean()) ** 2).sum()) / (wells - 1)
    within = float(((values - means[place]) ** 2).sum()) / (n - wells)
    size = (n - float((sizes**2).sum()) / n) / (wells - 1)
    total = between + (size - 1) * within
    return min(1.0, max(0.0, (between - within) / total)) if total > 0 else 0.0


def _auc_variance(area: float, positives: float, negatives: float) -> float:
    # Newcombe puts the mean of both sizes where Hanley and McNeil have each its own
    more = (positives + negatives) / 2 - 1
    spread = 1 + more * (1 - area) / (2 - area) + more * area / (1 + area)
    return area * (1 - area) * spread / (positives * negatives)
