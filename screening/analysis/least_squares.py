"""Any model of a few parameters fitted to one set of points by least squares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from .log_logistic import Array

TRIES = 3  # fresh starts of the search from where it stopped: each has a new scale of the parameters


@dataclass(frozen=True)
class ModelFit:
    """Parameters with standard errors (Gauss-Newton), residual sum of squares and degrees of freedom.

    `converged` is False, and numbers are those of the last good step, where the search did not settle.
    """

    parameters: Array
    standard_errors: Array
    rss: float
    freedom: int
    converged: bool


def fit_model(model: Callable[..., Array], x: Array, y: Array, *, start: Array) -> ModelFit:
    """Fit `y = model(x, *parameters)` from a start, Levenberg-Marquardt (MINPACK) with central differences.

    The dose-response families have faster ways of their own (`curves.fit_curves`); this one is for a model
    that has none. It finds the valley that the start lies in.

    Parameters
    ----------
    model
        Takes x and one number a parameter.
    x, y
        Points; x as the model likes it, y (point,). Points without a finite y are left out by setting both
        to NaN beforehand, not here.
    start
        (parameter,).
    """
    y, parameters = np.asarray(y, dtype=float), np.asarray(start, dtype=float)
    if y.size < parameters.size or not np.isfinite(y).all() or not np.isfinite(parameters).all():
        raise ValueError(f"{parameters.size} finite parameters need as many finite points, got {y.size}")

    def residuals(values: Array) -> Array:
        with np.errstate(all="ignore"):
            left = np.asarray(model(x, *values), dtype=float) - y
        return np.where(np.isfinite(left), left, 1e150)  # a wall where the model has no value

    def rss(values: Array) -> float:
        left = residuals(values)
        return float(left @ left) if np.abs(left).max() < 1e150 else np.inf

    best, converged = parameters, False
    for _ in range(TRIES):
        scale = np.where(best != 0, np.abs(best), 1.0)
        with np.errstate(all="ignore"):
            found = optimize.least_squares(
                lambda v, s=scale: residuals(v * s),
                best / scale,
                method="lm",
                jac=_central(residuals, scale),
                x_scale="jac",
                ftol=1e-15,
                xtol=1e-15,
                gtol=1e-15,
                max_nfev=2000,
            )
        trial = found.x * scale
        if rss(trial) <= rss(best):
            best, converged = trial, bool(found.success)
    jacobian = _central(residuals, np.ones(best.size))(best)
    freedom = y.size - best.size
    size = np.linalg.norm(jacobian, axis=0)
    size = np.where((size > 0) & np.isfinite(size), size, 1.0)
    lowest = rss(best)
    errors = np.full(best.size, np.nan)
    if freedom > 0 and np.isfinite(jacobian).all():
        _, r = np.linalg.qr(jacobian / size)
        if np.abs(np.diag(r)).min() > 1e-13:
            errors = np.sqrt((np.linalg.inv(r) ** 2).sum(axis=1) * lowest / freedom) / size
    return ModelFit(best, errors, lowest, freedom, converged)


def _central(residuals: Callable[[Array], Array], scale: Array) -> Callable[[Array], Array]:
    """Jacobian of the residuals by the scaled parameters: central differences with Richardson's correction."""

    def jacobian(values: Array) -> Array:
        columns = []
        for k in range(values.size):
            step = 1e-4 * max(abs(float(values[k])), 1e-6)
            ends = []
            for factor in (1.0, 0.5):
                moved = [values.copy(), values.copy()]
                moved[0][k] += factor * step
                moved[1][k] -= factor * step
                ends.append((residuals(moved[0] * scale) - residuals(moved[1] * scale)) / (2 * factor * step))
            columns.append((4 * ends[1] - ends[0]) / 3)
        return np.stack(columns, axis=1)

    return jacobian
