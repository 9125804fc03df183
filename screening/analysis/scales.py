"""Scales of a readout against control wells: percent of vehicle, normalised percent inhibition, z and robust z."""

from __future__ import annotations

import numpy as np

from .control_statistics import center_and_spread


def percent_of_vehicle(values: np.ndarray, vehicle: np.ndarray, *, least: float = 0.0) -> np.ndarray:
    """100 x / m of the vehicle; NaN where that is no more than `least` or not known."""
    return 100 * _quotient(values, vehicle, least)


def npi(values: np.ndarray, vehicle: np.ndarray, positive: np.ndarray, *, least: float = 0.0) -> np.ndarray:
    """Normalised percent inhibition, 100 (m_n - x) / (m_n - m_p): 0 like the vehicle, 100 like the positive controls.

    `vehicle`, `positive` are centres; NaN where they differ by no more than `least`.
    """
    return 100 * _quotient(vehicle - values, np.asarray(vehicle - positive, dtype=float), least)


def z_score(values: np.ndarray, reference: np.ndarray, *, robust: bool = False) -> np.ndarray:
    """(x - mean) / SD of the reference wells, or (x - median) / (1.4826 MAD); wells along axis 0 of both.

    The reference may be the plate's vehicle wells or, where few wells are hits, its sample wells. NaN where
    fewer than two of them have a value or they do not differ.
    """
    middle, spread = center_and_spread(reference, robust=robust)
    return _quotient(finite(values) - middle, spread, 0.0)


def _quotient(above: np.ndarray, below: np.ndarray, least: float) -> np.ndarray:
    below = np.asarray(below, dtype=float)
    return np.asarray(above / np.where(np.abs(below) > max(least, 1e-12), below, np.nan))


def finite(values: np.ndarray) -> np.ndarray:
    """As float, with NaN for what is infinite."""
    values = np.asarray(values, dtype=float)
    return np.where(np.isfinite(values), values, np.nan)
