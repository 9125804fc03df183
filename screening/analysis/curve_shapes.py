"""The families of curves beside the sigmoid, each as a basis that is linear in some of its parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from .log_logistic import LN10, REACH, Array, Design, Limits

NAMES = ("five_parameter", "hormesis", "bell")


@dataclass(frozen=True)
class Shape:
    """A family: `basis(theta, log_dose)` is (curve, dose, linear) for theta (curve, nonlinear)."""

    name: str
    basis: Callable[[Array, Array], Array]
    low: Array  # of theta
    high: Array
    cells: Array  # (cell, nonlinear), where to begin
    linear: int


def shapes(design: Design, limits: Limits) -> list[Shape]:
    """The families for a design; Richards' curve has two branches, sharp at the foot and sharp at the shoulder."""
    first, last = design.tested[0], design.tested[-1]
    ln_hill = np.log(limits.hill)
    slopes = np.linspace(max(ln_hill[0], np.log(0.4)), min(ln_hill[1], np.log(12)), 7)
    locations = np.linspace(first - 0.5, last + 0.5, 25)
    reach = first - REACH, last + REACH
    uneven = np.log(20.0)
    five = (
        np.array([ln_hill[0], reach[0], -uneven]),
        np.array([ln_hill[1], reach[1], uneven]),
        _cells(slopes, locations, np.log([0.1, 0.3, 3.0, 10.0])),
    )
    steep = np.linspace(np.log(1.3), max(np.log(1.4), min(ln_hill[1], np.log(12))), 7)
    wide = np.linspace(0.3, max(last - first, 0.6), 10)
    return [
        Shape("five_parameter", _shoulder, *five, 2),
        Shape("five_parameter", _foot, *five, 2),
        Shape(
            "hormesis",
            _brain_cousens,
            np.array([np.log(1.05), reach[0]]),
            np.array([max(ln_hill[1], np.log(1.4)), reach[1]]),
            _cells(steep, locations),
            3,
        ),
        Shape(
            "bell",
            _bell,
            np.array([ln_hill[0], reach[0], 0.05]),
            np.array([ln_hill[1], reach[1], last - first + REACH]),
            _cells(slopes, locations, wide),
            2,
        ),
    ]


def _cells(*axes: Array) -> Array:
    return np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1)


def _half_shift(theta: Array) -> Array:
    """How far half the effect lies from Richards' location, log10."""
    # 2 ** (1 / f) - 1 without losing digits where f is large
    shift: Array = np.log10(np.expm1(np.log(2.0) * np.exp(-theta[:, 2:3]))) / np.exp(theta[:, :1])
    return shift


def _shoulder(theta: Array, log_dose: Array) -> Array:
    z = LN10 * np.exp(theta[:, :1]) * (log_dose - theta[:, 1:2] + _half_shift(theta))
    rise = -np.expm1(-np.exp(theta[:, 2:3]) * np.logaddexp(0, z))
    return np.stack([np.ones_like(rise), rise], axis=-1)


def _foot(theta: Array, log_dose: Array) -> Array:
    z = LN10 * np.exp(theta[:, :1]) * (log_dose - theta[:, 1:2] - _half_shift(theta))
    rise = np.exp(-np.exp(theta[:, 2:3]) * np.logaddexp(0, -z))
    return np.stack([np.ones_like(rise), rise], axis=-1)


def _brain_cousens(theta: Array, log_dose: Array) -> Array:
    z = LN10 * np.exp(theta[:, :1]) * (log_dose - theta[:, 1:2])
    fall = special.expit(-z)
    # dose in units of the location, times the fall, in one exponent: neither overflows
    early = np.exp(np.clip(LN10 * (log_dose - theta[:, 1:2]) - np.logaddexp(0, z), -700, 700))
    return np.stack([fall, 1 - fall, early], axis=-1)


def _bell(theta: Array, log_dose: Array) -> Array:
    steep = LN10 * np.exp(theta[:, :1])
    up = special.expit(steep * (log_dose - theta[:, 1:2]))
    down = special.expit(-steep * (log_dose - theta[:, 1:2] - theta[:, 2:3]))
    return np.stack([np.ones_like(up), up * down], axis=-1)
