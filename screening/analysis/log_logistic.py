"""Thousands of four-parameter log-logistic curves at once: least squares, profile intervals, bands.

    y(dose) = bottom + (top - bottom) / (1 + 10 ** (hill * (log10 EC50 - log10 dose)))

`bottom` is the response at dose 0 and `top` the one at infinite dose, whichever is larger; `hill` is
positive, so that a curve has one description only. This is LL.4 of R's drc with b = hill, d = bottom, c =
top.

The curve is linear in its two asymptotes, which are therefore solved exactly for every trial (hill, EC50)
(variable projection: Golub & Pereyra 1973, with Kaufman's 1975 Jacobian); Levenberg-Marquardt moves only
ln(hill) and log10(EC50), for all curves together. Wells of one dose enter as their mean with a weight: the
spread inside a dose is the same for every curve and is added to the residual sum of squares.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array: TypeAlias = NDArray[Any]  # float64, or bool where it says whether

LN10 = np.log(10.0)
ZERO_DOSE = -1e4  # log10 of "no dose": far enough for every slope, finite so that 0 * log(0) never appears
LARGEST = 1e30  # responses beyond are no measurement; their squares would be infinite
REACH = 2.0  # decades beyond the tested doses in which an EC50 is looked for


@dataclass(frozen=True)
class Limits:
    """What the parameters may be; an asymptote with equal limits is fixed and costs no degree of freedom."""

    bottom: tuple[float, float] = (-np.inf, np.inf)
    top: tuple[float, float] = (-np.inf, np.inf)
    hill: tuple[float, float] = (0.1, 20.0)

    @property
    def parameters(self) -> int:
        """Free parameters of a curve."""
        return 2 + (self.bottom[0] < self.bottom[1]) + (self.top[0] < self.top[1])

    @property
    def bounded(self) -> bool:
        """Whether an asymptote has a limit."""
        return bool(np.isfinite((*self.bottom, *self.top)).any())


@dataclass(frozen=True)
class Design:
    """The doses that a set of curves shares.

    `log_dose` (dose,) ascending, log10 of micromolar, `ZERO_DOSE` for vehicle; `weight` (dose,) wells
    behind each mean; `within` degrees of freedom of the wells' spread inside doses.
    """

    log_dose: Array
    weight: Array
    within: int

    @property
    def tested(self) -> Array:
        """Doses other than vehicle, log10."""
        return self.log_dose[self.log_dose > ZERO_DOSE]

    @property
    def reach(self) -> tuple[float, float]:
        """Lowest and highest log10 EC50 that is looked for."""
        return float(self.tested[0]) - REACH, float(self.tested[-1]) + REACH

    def freedom(self, limits: Limits) -> int:
        """Degrees of freedom of the residuals."""
        return self.log_dose.size + self.within - limits.parameters


@dataclass(frozen=True)
class Curves:
    """Fitted curves, arrays (curve,). `location` is log10 EC50, `rss` includes the spread inside doses."""

    bottom: Array
    top: Array
    hill: Array
    location: Array
    rss: Array

    def packed(self) -> Array:
        """All five as one array, (5, curve)."""
        return np.stack([self.bottom, self.top, self.hill, self.location, self.rss])

    def at(self, log_dose: Array) -> Array:
        """Fitted responses, (curve, dose)."""
        rise = rise_of(np.log(self.hill), self.location, log_dose)
        response: Array = self.bottom[:, None] + (self.top - self.bottom)[:, None] * rise
        return response


def band(
    design: Design,
    curves: Curves,
    log_dose: Array,
    *,
    limits: Limits,
    design_effect: float | Array = 1.0,
    level: float | None = None,
) -> tuple[Array, Array, Array]:
    """Standard errors of the fitted responses at `log_dose`, of log10 EC50 and of `dose_at` (Gauss-Newton).

    Parameters that rest on a limit are taken as known.

    Returns
    -------
    response_se, location_se, level_se
        (curve, dose), (curve,) and (curve,), the last for the dose at which the response is `level`, the
        level being exact. A location that the data do not hold has a standard error of NaN.
    """
    jacobian = _jacobian(curves, design.log_dose, limits)  # (curve, dose, parameter)
    weighted = jacobian * design.weight[None, :, None]
    plain = np.swapaxes(jacobian, 1, 2) @ weighted
    size = np.sqrt(np.einsum("cpp->cp", plain))
    free = size[:, 3] > 0
    size[size == 0] = 1.0
    value, vector = np.linalg.eigh(plain / size[:, :, None] / size[:, None, :])
    known = value > 1e-11 * value[:, -1:]
    held = known[:, 0] | (limits.parameters < 4)
    scale = np.divide(1, np.sqrt(value, where=known, out=np.ones_like(value)), out=np.zeros_like(value), where=known)
    root = vector * scale[:, None, :] / size[:, :, None]  # root @ root.T is the covariance over the variance
    variance = design_effect * curves.rss / design.freedom(limits)
    response = ((_jacobian(curves, log_dose, limits) @ root) ** 2).sum(axis=-1)
    response_se = np.sqrt(response * variance[:, None])
    location_se = np.where(held & free, np.sqrt((root[:, 3] ** 2).sum(axis=-1) * variance), np.nan)
    if level is None:
        return response_se, location_se, np.full(len(variance), np.nan)
    turn = _turn_of_level(curves, level)
    turn_se = np.sqrt((np.einsum("cp,cpq->cq", turn, root) ** 2).sum(axis=-1) * variance)
    return response_se, location_se, np.where(held, turn_se, np.nan)


def dose_at(curves: Curves, level: float) -> Array:
    """log10 of the dose at which each curve meets a response, (curve,); NaN where it does not lie between."""
    share = _share_left(curves, level)
    found: Array = curves.location - np.log10(share) / curves.hill
    return found


def _share_left(curves: Curves, level: float) -> Array:
    """(top - level) / (level - bottom); NaN where the level does not lie between."""
    over, under = curves.top - level, level - curves.bottom
    between = over * under > 0
    share: Array = np.divide(over, under, out=np.full(over.shape, np.nan), where=between)
    return share


def _turn_of_level(curves: Curves, level: float) -> Array:
    """Derivatives of `dose_at` by bottom, top, ln hill, location, (curve, 4); zero where there is none."""
    share = _share_left(curves, level)
    there = np.isfinite(share)
    steep = LN10 * curves.hill
    by_bottom = np.divide(-1, steep * (level - curves.bottom), out=np.zeros_like(steep), where=there)
    by_top = np.divide(-1, steep * (curves.top - level), out=np.zeros_like(steep), where=there)
    by_hill = np.where(there, np.log10(np.where(there, share, 1)) / curves.hill, 0)
    return np.stack([by_bottom, by_top, by_hill, np.ones_like(steep)], axis=-1)


def information(design: Design, curves: Curves, *, limits: Limits) -> Array:
    """Share of each dose in what is known of log10 EC50, all else being free, (curve, dose)."""
    jacobian = _jacobian(curves, design.log_dose, limits) * np.sqrt(design.weight)[None, :, None]
    others, location = jacobian[..., :3], jacobian[..., 3]
    size = np.sqrt((others**2).sum(axis=1, keepdims=True))
    others = others / np.where(size > 0, size, 1.0)
    followed = np.einsum("cdp,cpe,ce->cd", others, np.linalg.pinv(others, rcond=1e-9), location)
    score = (location - followed) ** 2
    total = score.sum(axis=1, keepdims=True)
    share: Array = np.divide(score, total, out=np.zeros_like(score), where=total > 1e-300)
    return share


def rise_of(ln_hill: Array, location: Array, log_dose: Array) -> Array:
    """Share of the way from bottom to top, (curve, dose)."""
    rise: Array = special.expit(LN10 * np.exp(ln_hill)[:, None] * (log_dose[None, :] - location[:, None]))
    return rise


def _slopes_of_rise(ln_hill: Array, location: Array, log_dose: Array, rise: Array) -> tuple[Array, Array]:
    """Derivatives of the rise by ln(hill) and by location, (curve, dose) each."""
    steepness = LN10 * np.exp(ln_hill)[:, None]
    bell = rise * (1 - rise)
    return bell * steepness * (log_dose[None, :] - location[:, None]), -bell * steepness


def add_spread(curves: Curves, spread: Array) -> Curves:
    """Curves whose residual sum of squares holds the spread inside doses too."""
    return replace(curves, rss=curves.rss + spread)


def _jacobian(curves: Curves, log_dose: Array, limits: Limits) -> Array:
    """Derivatives by bottom, top, ln hill, location, (curve, dose, 4); zero for parameters on a limit."""
    ln_hill = np.log(curves.hill)
    rise = rise_of(ln_hill, curves.location, log_dose)
    by_hill, by_location = _slopes_of_rise(ln_hill, curves.location, log_dose, rise)
    height = (curves.top - curves.bottom)[:, None]
    out = np.stack([1 - rise, rise, height * by_hill, height * by_location], axis=-1)
    out[np.isin(curves.bottom, limits.bottom), :, 0] = 0
    out[np.isin(curves.top, limits.top), :, 1] = 0
    out[np.isclose(curves.hill, limits.hill[0], rtol=1e-9), :, 2] = 0
    out[np.isclose(curves.hill, limits.hill[1], rtol=1e-9), :, 2] = 0
    return out
