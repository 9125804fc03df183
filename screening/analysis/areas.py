"""How much a curve does over all tested doses together: areas under the curve, closed form."""

from __future__ import annotations

import numpy as np

from .log_logistic import LN10, Array, Curves


def mean_response(curves: Curves, first: float | Array, last: float | Array) -> Array:
    """Area under each fitted curve over log10 dose, divided by its width: the mean fitted response, (curve,).

    This is the AUC of dose-response work on a scale where no effect is 1; `first` and `last` are log10 doses.
    """
    steep = LN10 * curves.hill
    ends = (np.logaddexp(0, steep * (end - curves.location)) for end in (last, first))
    rise = np.subtract(*ends) / steep
    mean: Array = curves.bottom + (curves.top - curves.bottom) * rise / np.subtract(last, first)
    return mean


def activity_area(curves: Curves, first: float | Array, last: float | Array) -> Array:
    """Mean distance of each fitted curve from its response at dose 0, (curve,): 1 - AUC for viability from 1.

    Nothing is clipped. The sign is left out; `top` against `bottom` tells the direction.
    """
    area: Array = np.abs(mean_response(curves, first, last) - curves.bottom)
    return area
