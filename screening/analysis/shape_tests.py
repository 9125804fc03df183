"""Whether a dose-response is more than a sigmoid: means that miss the curve, and means that turn around."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import stats

from .log_logistic import ZERO_DOSE, Array, Curves, Design, Limits

DRAWS = 4000


def lack_of_fit(curves: Curves, spread: Array, design: Design, limits: Limits, design_effect: Array) -> Array:
    """p-value of the means missing the curve, by the wells' spread (pure error); NaN without replicates."""
    extra = design.log_dose.size - limits.parameters
    if extra < 1 or design.within < 1:
        return np.full(spread.size, np.nan)
    return _f_test(np.maximum(curves.rss - spread, 0) / extra, spread / design.within, extra, design, design_effect)


def doses_differ(means: Array, spread: Array, design: Design, design_effect: Array) -> Array:
    """p-value of the doses' means being different at all (analysis of variance); NaN without replicates."""
    extra = design.log_dose.size - 1
    if extra < 1 or design.within < 1:
        return np.full(spread.size, np.nan)
    level = means @ design.weight / design.weight.sum()
    between = (means - level[:, None]) ** 2 @ design.weight
    return _f_test(between / extra, spread / design.within, extra, design, design_effect)


def non_monotone(
    design: Design, means: Array, spread: Array, curves: Curves, *, design_effect: Array, seed: int
) -> tuple[Array, Array]:
    """p-value of the means turning around, and how much of the sum of squares a monotone curve leaves.

    The isotonic regression in the direction of the fitted curve leaves a sum of squares; its ratio to the
    wells' spread is compared with simulated noise around a constant, the monotone truth for which it is
    largest (Robertson, Wright & Dykstra 1988). Vehicle is left out: its wells often sit elsewhere on the
    plate. The p-value is NaN without replicates.
    """
    tested = design.log_dose > ZERO_DOSE
    weight = design.weight[tested]
    rising = np.where(curves.top >= curves.bottom, 1.0, -1.0)
    left = isotonic_rss(means[:, tested] * rising[:, None], weight)
    if design.within < 1:
        return np.full(spread.size, np.nan), left
    null = _null(tuple(weight), design.within, seed)
    ratio = np.divide(left / design_effect, spread, out=np.full(spread.size, np.nan), where=spread > 0)
    above = null.size - np.searchsorted(null, ratio, side="left")
    return np.where(np.isnan(ratio), np.nan, (1 + above) / (null.size + 1)), left


def isotonic_rss(means: Array, weight: Array) -> Array:
    """What the best rising sequence leaves, (curve,); by the max-min formula, for (curve, dose) means."""
    doses = weight.size
    sums = np.cumsum(np.pad(means * weight, ((0, 0), (1, 0))), axis=1)
    total = np.cumsum(np.pad(weight, (1, 0)))
    j, k = np.triu_indices(doses)
    average = np.full((len(means), doses, doses), np.inf)
    average[:, j, k] = (sums[:, k + 1] - sums[:, j]) / (total[k + 1] - total[j])
    lowest = np.minimum.accumulate(average[:, :, ::-1], axis=2)[:, :, ::-1]  # over all ends from here on
    lowest[:, *np.tril_indices(doses, -1)] = -np.inf
    fitted = lowest.max(axis=1)
    left: Array = (means - fitted) ** 2 @ weight
    return left


def _f_test(missed: Array, pure: Array, extra: int, design: Design, design_effect: Array) -> Array:
    ratio = np.divide(missed, pure * design_effect, out=np.full(pure.size, np.nan), where=pure > 0)
    p: Array = stats.f.sf(ratio, extra, design.within)
    return p


@lru_cache(maxsize=256)
def _null(weight: tuple[float, ...], within: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    sizes = np.array(weight)
    means = rng.standard_normal((DRAWS, sizes.size)) / np.sqrt(sizes)
    ratio = np.sort(isotonic_rss(means, sizes) / rng.chisquare(within, DRAWS))
    ratio.setflags(write=False)  # shared by every caller of the cache
    return ratio
