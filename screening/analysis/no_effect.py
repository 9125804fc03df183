"""How good a curve pure noise makes on a plate's own doses: the p-value of "this compound does something".

The textbook F(3, n - 4) does not hold for a curve whose EC50 is searched for: the parameters mean nothing
when there is no effect, and the limits of the slope matter. So the null distribution is simulated for the
very design (doses, wells per dose, limits of the slope), once, and looked up for every curve.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import optimize, special

from .log_logistic import ZERO_DOSE, Array, Curves, Design, Limits, fit

TAIL = 0.02  # below this p the simulation is too coarse and a fitted beta distribution goes on


def p_values(
    design: Design,
    means: Array,
    spread: Array,
    curves: Curves,
    *,
    limits: Limits,
    design_effect: float | Array = 1.0,
    draws: int = 4000,
    seed: int = 0,
) -> Array:
    """Probability that a compound without effect is fitted at least as well, (curve,).

    The null curves may use any asymptotes, also where `limits` bounds them: that can only raise the p-value.

    Parameters
    ----------
    design, means, spread, curves, limits
        As in `log_logistic.fit`, both asymptotes free or bounded, not fixed.
    design_effect
        Factor by which wells that share a plate inflate the variance.
    draws, seed
        Null curves and their random numbers; the same for every call with this design.
    """
    if limits.parameters < 4:
        raise ValueError("the test for no effect needs both asymptotes free")
    constant = (means - means @ design.weight[:, None] / design.weight.sum()) ** 2 @ design.weight + spread
    explained = np.maximum(constant - curves.rss, 0) / design_effect
    unexplained = np.divide(curves.rss, curves.rss + explained, out=np.ones_like(explained), where=constant > 0)
    # the same dilution scheme has the same null wherever it starts
    relative = np.where(design.tested[0] <= design.log_dose, design.log_dose - design.tested[0], 0.0)
    null, shape = _null(
        tuple(np.round(relative, 4)),
        tuple(design.weight),
        bool(design.tested.size < design.log_dose.size),
        design.within,
        limits.hill,
        draws,
        seed,
    )
    counted = (1 + np.searchsorted(null, unexplained, side="right")) / (draws + 1)
    fitted = special.betainc(design.freedom(limits) / 2, shape, unexplained)
    p: Array = np.where(counted < TAIL, np.minimum(fitted, TAIL), counted)
    return p


@lru_cache(maxsize=256)
def _null(
    relative: tuple[float, ...],
    weight: tuple[float, ...],
    has_vehicle: bool,
    within: int,
    hill: tuple[float, float],
    draws: int,
    seed: int,
) -> tuple[Array, float]:
    """Sorted RSS(curve) / RSS(constant) of noise, and the shape of the beta distribution of its tail.

    For a linear model with q more parameters that ratio is Beta(df / 2, q / 2); q is matched at `TAIL`.
    """
    log_dose = np.array(relative)
    if has_vehicle:
        log_dose[0] = ZERO_DOSE
    design = Design(log_dose, np.array(weight), within)
    limits = Limits(hill=hill)
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((draws, len(weight))) / np.sqrt(design.weight)
    spread = rng.chisquare(within, draws) if within else np.zeros(draws)
    curves = fit(design, means, spread, limits=limits)
    level = means @ design.weight / design.weight.sum()
    constant = (means - level[:, None]) ** 2 @ design.weight + spread
    ratio = np.sort(curves.rss / constant)
    ratio.setflags(write=False)  # shared by every caller of the cache
    half = design.freedom(limits) / 2
    edge = float(np.quantile(ratio, TAIL))
    shape = optimize.brentq(lambda b: special.betainc(half, b, edge) - TAIL, 1e-3, 1e3)
    return ratio, float(shape)
