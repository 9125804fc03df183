"""How good a curve pure noise makes on a plate's own doses: the p-value of "this compound does something".

The textbook F(3, n - 4) does not hold for a curve whose EC50 is searched for: the parameters mean nothing
when there is no effect, and the limits of the slope matter. So the null distribution is simulated for the
very design (doses, wells per dose, limits of the slope), once, and looked up for every curve.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import optimize, special

from .global_fit import fit
from .log_logistic import ZERO_DOSE, Array, Curves, Design, Limits

NULL_ROUNDS = 20
TAIL = 0.02  # below this p the simulation is too coarse and a fitted beta distribution goes on


def p_values(
    design: Design,
    means: Array,
    spread: Array,
    curves: Curves,
    *,
    limits: Limits,
    design_effect: float | Array = 1.0,
    draws: int = 8000,
    seed: int = 0,
) -> Array:
    """Probability that a compound without effect is fitted at least as well, (curve,).

    The null curves may use any asymptotes, also where `limits` bounds them: that can only raise the p-value.
    A bottom that is fixed is known to the null too, which then is that number.

    Parameters
    ----------
    design, means, spread, curves, limits
        As in `global_fit.fit`; the top not fixed.
    design_effect
        Factor by which wells that share a plate inflate the variance.
    draws, seed
        Null curves and their random numbers; the same for every call with this design.
    """
    if not testable(limits):
        raise ValueError("the test for no effect needs a top that is not fixed")
    fixed = limits.bottom[0] if limits.bottom[0] == limits.bottom[1] else None
    constant = _constant(design, means, fixed) + spread
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
        fixed is not None,
        draws,
        seed,
    )
    counted = (1 + np.searchsorted(null, unexplained, side="right")) / (draws + 1)
    fitted = special.betainc(design.freedom(limits) / 2, shape, unexplained)
    p: Array = np.where(counted < TAIL, np.minimum(fitted, TAIL), counted)
    return p


def testable(limits: Limits) -> bool:
    """Whether no effect is a curve within the limits: a fixed top that the data stay away from rules it out."""
    return limits.top[0] < limits.top[1]


def _constant(design: Design, means: Array, fixed: float | None) -> Array:
    """What a constant leaves of the means, the best one or the one that is known."""
    level = (means @ design.weight / design.weight.sum())[:, None] if fixed is None else fixed
    left: Array = (means - level) ** 2 @ design.weight
    return left


@lru_cache(maxsize=256)
def _null(
    relative: tuple[float, ...],
    weight: tuple[float, ...],
    has_vehicle: bool,
    within: int,
    hill: tuple[float, float],
    known: bool,
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
    limits = Limits((0.0, 0.0), hill=hill) if known else Limits(hill=hill)
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((draws, len(weight))) / np.sqrt(design.weight)
    spread = rng.chisquare(within, draws) if within else np.zeros(draws)
    # a p-value needs no ten digits: these rounds leave every quantile of the ratio as it is to 1e-5
    curves = fit(design, means, spread, limits=limits, close=1e-4, rounds=NULL_ROUNDS)
    constant = _constant(design, means, 0.0 if known else None) + spread
    ratio = np.sort(curves.rss / constant)
    ratio.setflags(write=False)  # shared by every caller of the cache
    half = design.freedom(limits) / 2
    edge = float(np.quantile(ratio, TAIL))
    shape = optimize.brentq(lambda b: special.betainc(half, b, edge) - TAIL, 1e-3, 1e3)
    return ratio, float(shape)


def forget() -> None:
    """Drop all simulated nulls, so that the time of the next call holds its own."""
    _null.cache_clear()
