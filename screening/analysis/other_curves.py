"""Curves that rise unevenly, or rise and fall: chosen over a sigmoid only where the data ask for one.

`five_parameter` (Richards; LL.5 of R's drc) bends more sharply at one end than at the other. `hormesis`
(Brain & Cousens 1989; BC.5) first goes the other way. `bell` rises and falls back, with one slope for both, as a
pathway does that another one overtakes. Each has one parameter more than the sigmoid. All are linear in two
or three of the five, which are solved exactly (variable projection); Levenberg-Marquardt moves the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from .curve_shapes import NAMES, Shape, shapes
from .log_logistic import ZERO_DOSE, Array, Curves, Design, Limits

PARAMETERS = 5
LEVEL = 0.01  # of the F test that lets another shape replace the sigmoid
GRID_POINTS = 301  # doses between which a half effect is looked for
NEAR_ENOUGH = 0.5  # of the F that is asked for: the grid's best cell must reach it before anything is fitted
STEPS = 40


@dataclass(frozen=True)
class Other:
    """The chosen other shape of each curve, (curve,); "" and NaN where the sigmoid stays.

    `location` is log10 EC50 with its standard error, `loss` log10 of the dose that takes half of the effect
    away again (bell), `peak` log10 of the dose of the largest departure from the start, `departure` that
    departure, `p_value` of the F test against the sigmoid, `rss` with the spread inside doses; `curve` and
    its standard error `curve_se`, (curve, drawn).
    """

    name: Array
    location: Array
    location_se: Array
    loss: Array
    peak: Array
    departure: Array
    p_value: Array
    rss: Array
    curve: Array
    curve_se: Array


def choose(
    design: Design,
    means: Array,
    spread: Array,
    curves: Curves,
    *,
    limits: Limits,
    design_effect: Array,
    drawn: Array,
) -> Other:
    """Fit the other shapes and take the one with the lowest AICc, if F test and AICc both prefer it.

    The F test has one degree of freedom more in the curve, its level is 0.01 and its ratio is divided by the
    design effect. The asymptotes of other shapes are free. `drawn` are log10 doses to tell the curve at.
    """
    count = len(means)
    points = design.log_dose.size + design.within
    freedom = points - PARAMETERS
    empty = (np.full(count, np.nan) for _ in range(7)), (np.full((count, drawn.size), np.nan) for _ in range(2))
    out = Other(np.full(count, "", dtype=object), *empty[0], *empty[1])
    if freedom < 1 or limits.parameters != PARAMETERS - 1 or not count:
        return out
    needed = stats.f.isf(LEVEL, 1, freedom) * design_effect
    for shape in shapes(design, limits):
        grid, cell = _best_cells(shape, design, means)
        ratio = _ratio(curves.rss, grid + spread, freedom)
        rows = np.flatnonzero(ratio > NEAR_ENOUGH * needed)
        if not rows.size:
            continue
        theta, rss = _descend(shape, design, means[rows], shape.cells[cell[rows]])
        rss = rss + spread[rows]
        p = stats.f.sf(_ratio(curves.rss[rows], rss, freedom) / design_effect[rows], 1, freedom)
        better = (p < LEVEL) & (_aicc(rss, points, PARAMETERS) < _aicc(curves.rss[rows], points, PARAMETERS - 1))
        better &= ~(rss >= out.rss[rows])  # the same number of parameters: the lowest AICc is the lowest RSS
        rows, theta, rss, p = rows[better], theta[better], rss[better], p[better]
        if not rows.size:
            continue
        full = np.hstack([theta, _coefficients(shape, theta, design, means[rows])[0]])
        variance = design_effect[rows] * rss / freedom
        *told, curve_se = _describe(shape, design, full, variance, drawn)
        found = (*told, p, rss, _at(shape, full, drawn), curve_se)
        out.name[rows] = shape.name
        for values, new in zip(list(vars(out).values())[1:], found, strict=True):
            values[rows] = new
    return out


def fit_shape(
    dose: Array, responses: Array, *, shape: str, hill: tuple[float, float] = (0.1, 20.0)
) -> dict[str, Array]:
    """Fit one other shape to plain arrays, whatever the data ask for.

    Parameters
    ----------
    dose
        (point,); vehicle is 0. Replicates repeat the dose.
    responses
        (curve, point), finite.
    shape
        One of `NAMES`.
    hill
        Limits of the slope.

    Returns
    -------
    dict
        (curve,) each: ec50 (of five_parameter the dose of half the effect, not Richards' location; of
        hormesis half-way from dose 0 to infinite dose; of bell half-way up), its log10 standard error
        (Gauss-Newton), the dose of half loss (bell), that of the peak, departure there from dose 0, rss.
    """
    if shape not in NAMES:
        raise ValueError(f"shape {shape!r} is not known; expected one of {', '.join(NAMES)}")
    dose, responses = np.asarray(dose, dtype=float), np.atleast_2d(np.asarray(responses, dtype=float))
    if responses.shape[1] != dose.size or not np.isfinite(responses).all() or not (dose >= 0).all():
        raise ValueError(f"expected finite (curve, {dose.size}) responses and doses >= 0, got {responses.shape}")
    unique, inverse, number = np.unique(dose, return_inverse=True, return_counts=True)
    log_dose = np.where(unique > 0, np.log10(np.where(unique > 0, unique, 1)), ZERO_DOSE)
    design = Design(log_dose, number.astype(float), dose.size - unique.size)
    if design.tested.size < 3 or dose.size <= PARAMETERS:
        raise ValueError(f"{PARAMETERS} parameters need 3 doses and more than {PARAMETERS} points, got {dose.size}")
    means = responses @ np.eye(unique.size)[inverse] / number
    spread = ((responses - means[:, inverse]) ** 2).sum(axis=1)
    best: dict[str, Array] = {}
    for one in shapes(design, Limits(hill=hill)):
        if one.name != shape:
            continue
        tried = [_descend(one, design, means, one.cells[cells]) for cells in _cells_apart(one, design, means)]
        which = np.argmin([rss for _, rss in tried], axis=0)
        theta = np.stack([t for t, _ in tried])[which, np.arange(len(means))]
        rss = np.min([rss for _, rss in tried], axis=0) + spread
        full = np.hstack([theta, _coefficients(one, theta, design, means)[0]])
        variance = rss / (dose.size - PARAMETERS)
        location, se, loss, peak, departure, _ = _describe(one, design, full, variance, design.tested)
        new = {
            "ec50": 10**location,
            "log10_ec50_se": se,
            "ec50_loss": 10**loss,
            "peak_dose": 10**peak,
            "departure": departure,
            "rss": rss,
        }
        lower = rss < best["rss"] if best else np.ones(len(rss), dtype=bool)
        best = {name: np.where(lower, values, best.get(name, values)) for name, values in new.items()}
    return best


def _solve(matrix: Array, target: Array) -> Array:
    """Solution of scaled normal equations with the smallest of ridges: families overlap at their edges."""
    size = np.sqrt(np.einsum("cpp->cp", matrix))
    size = np.where(size > 0, size, 1.0)
    scaled = matrix / size[:, :, None] / size[:, None, :] + 1e-12 * np.eye(matrix.shape[-1])
    solution: Array = np.linalg.solve(scaled, (target / size)[..., None])[..., 0] / size
    return solution


def _coefficients(shape: Shape, theta: Array, design: Design, means: Array) -> tuple[Array, Array]:
    """Linear parameters (curve, linear) and residuals (curve, dose)."""
    basis = shape.basis(theta, design.log_dose)
    weighted = basis * design.weight[None, :, None]
    normal = np.einsum("cdp,cdq->cpq", weighted, basis)
    level = means @ design.weight / design.weight.sum()  # both constant and sum of bases hold it: fewer digits lost
    found = _solve(normal, np.einsum("cdp,cd->cp", weighted, means - level[:, None]))
    residual = means - level[:, None] - np.einsum("cdp,cp->cd", basis, found)
    if shape.linear == 3:  # falls and rises sum to one
        found[:, :2] += level[:, None]
    else:
        found[:, 0] += level
    return found, residual


def _grid(shape: Shape, design: Design, means: Array) -> Array:
    """Residual sums of squares of every curve at every cell: one matrix product a linear parameter."""
    root = np.sqrt(design.weight)
    basis = shape.basis(shape.cells, design.log_dose) * root[None, :, None]
    q, r = np.linalg.qr(basis)
    held = np.abs(np.einsum("cpp->cp", r))
    q = q * (held > 1e-8 * held.max(axis=1, keepdims=True))[:, None, :]
    level = means @ design.weight / design.weight.sum()
    y = (means - level[:, None]) * root
    rss = (y**2).sum(axis=1, keepdims=True) - sum((y @ q[:, :, p].T) ** 2 for p in range(shape.linear))
    out: Array = np.maximum(rss, 0)
    return out


def _best_cells(shape: Shape, design: Design, means: Array) -> tuple[Array, Array]:
    rss = _grid(shape, design, means)
    return rss.min(axis=1), rss.argmin(axis=1)


def _cells_apart(shape: Shape, design: Design, means: Array) -> list[Array]:
    """The best cell, and the best ones with another EC50 and another slope."""
    rss = _grid(shape, design, means)
    first = rss.argmin(axis=1)
    out = [first]
    for axis, apart in ((1, 0.5), (0, 0.5)):
        near = np.abs(shape.cells[None, :, axis] - shape.cells[first, axis][:, None]) < apart
        out.append(np.where(near, np.inf, rss).argmin(axis=1))
    return out


def _descend(shape: Shape, design: Design, means: Array, start: Array) -> tuple[Array, Array]:
    """Levenberg-Marquardt over theta with a numerical Jacobian of the projected residuals."""
    weight, theta = design.weight, np.clip(start.astype(float), shape.low, shape.high)
    damping = np.full(len(means), 1e-3)
    residual = _coefficients(shape, theta, design, means)[1]
    rss = residual**2 @ weight
    step, number = 1e-6, theta.shape[1]
    shifts = np.stack([-step * np.eye(number), step * np.eye(number)])  # (sign, parameter, parameter)
    repeated = np.tile(means, (2 * number, 1))
    for _ in range(STEPS):
        # all of a step's small moves in one call
        moved = (theta + shifts[:, :, None]).reshape(-1, number)
        below, above = _coefficients(shape, moved, design, repeated)[1].reshape(2, number, *means.shape)
        jacobian = np.moveaxis((above - below) / (2 * step), 0, -1)
        weighted = jacobian * weight[None, :, None]
        gradient = -np.einsum("cdk,cd->ck", weighted, residual)
        curvature = np.einsum("cdk,cdl->ckl", weighted, jacobian)
        blocked = (theta <= shape.low) & (gradient < 0) | (theta >= shape.high) & (gradient > 0)
        gradient = np.where(blocked, 0, gradient)
        curvature = np.where(blocked[:, :, None] | blocked[:, None, :], 0, curvature)
        diagonal = np.einsum("ckk->ck", curvature)
        curvature = curvature + (damping[:, None] * diagonal + 1e-30 + blocked)[:, :, None] * np.eye(theta.shape[1])
        trial = np.clip(theta + np.clip(_solve(curvature, gradient), -0.7, 0.7), shape.low, shape.high)
        trial_residual = _coefficients(shape, trial, design, means)[1]
        trial_rss = trial_residual**2 @ weight
        better = trial_rss < rss
        moved_by = np.abs(trial - theta).max(axis=1)
        theta = np.where(better[:, None], trial, theta)
        residual = np.where(better[:, None], trial_residual, residual)
        rss = np.where(better, trial_rss, rss)
        damping = np.clip(np.where(better, damping * 0.2, damping * 6), 1e-12, 1e12)
        if (moved_by < 1e-7).all():
            break
    return theta, rss


def _at(shape: Shape, full: Array, log_dose: Array) -> Array:
    nonlinear = shape.cells.shape[1]
    values: Array = np.einsum("cdp,cp->cd", shape.basis(full[:, :nonlinear], log_dose), full[:, nonlinear:])
    return values


def _describe(shape: Shape, design: Design, full: Array, variance: Array, drawn: Array) -> tuple[Array, ...]:
    """log10 EC50, its standard error, log10 of half loss and of the peak, departure there, errors of the curve."""
    location, loss, peak, departure = _landmarks(shape, design, full)
    slopes, turns, drawn_slopes = [], [], []
    for k in range(full.shape[1]):
        step = 1e-5 * np.maximum(np.abs(full[:, k]), 1e-2)
        ends = []
        for sign in (-1, 1):
            moved = full.copy()
            moved[:, k] += sign * step
            ends.append([_at(shape, moved, x) for x in (design.log_dose, drawn)])
            ends[-1].append(_landmarks(shape, design, moved)[0])
        wide = 2 * step[:, None]
        slopes.append((ends[1][0] - ends[0][0]) / wide)
        drawn_slopes.append((ends[1][1] - ends[0][1]) / wide)
        turns.append((ends[1][2] - ends[0][2]) / wide[:, 0])
    jacobian, turn = np.stack(slopes, axis=-1), np.stack(turns, axis=-1)
    information = np.einsum("cdk,cdl,d->ckl", jacobian, jacobian, design.weight)
    size = np.sqrt(np.einsum("ckk->ck", information))
    size = np.where(size > 0, size, 1.0)
    covariance = np.linalg.pinv(information / size[:, :, None] / size[:, None, :], rcond=1e-10, hermitian=True)
    covariance = covariance / size[:, :, None] / size[:, None, :] * variance[:, None, None]
    se = np.sqrt(np.maximum(np.einsum("ck,ckl,cl->c", turn, covariance, turn), 0))
    along = np.stack(drawn_slopes, axis=-1)
    curve_se = np.sqrt(np.maximum(np.einsum("cdk,ckl,cdl->cd", along, covariance, along), 0))
    return location, np.where(np.isfinite(location), se, np.nan), loss, peak, departure, curve_se


def _landmarks(shape: Shape, design: Design, full: Array) -> tuple[Array, Array, Array, Array]:
    """Where the curve is half-way, has lost half again, peaks, and how high, within a decade of the doses."""
    count = len(full)
    drawn = np.linspace(design.tested[0] - 1, design.tested[-1] + 1, GRID_POINTS)
    start = _at(shape, full, np.array([ZERO_DOSE]))[:, 0]
    departure = _at(shape, full, drawn) - start[:, None]
    tested = (drawn >= design.tested[0]) & (drawn <= design.tested[-1])
    top = np.where(tested, np.abs(departure), -1).argmax(axis=1)
    peak = departure[np.arange(count), top]
    if shape.name == "five_parameter":
        return full[:, 1], np.full(count, np.nan), drawn[top], peak
    if shape.name == "hormesis":
        final = full[:, -2] - full[:, -3]  # from dose 0 to infinite dose
        half = _crossing(drawn, departure * np.sign(final)[:, None], np.abs(final) / 2, last=True)
        return half, np.full(count, np.nan), drawn[top], peak
    upward = departure * np.sign(peak)[:, None]
    after = np.arange(drawn.size) >= top[:, None]
    half = _crossing(drawn, np.where(after, np.abs(peak)[:, None], upward), np.abs(peak) / 2, last=False)
    loss = _crossing(drawn, np.where(after, -upward, -np.abs(peak)[:, None]), -np.abs(peak) / 2, last=False)
    return half, loss, drawn[top], peak


def _crossing(drawn: Array, values: Array, level: Array, *, last: bool) -> Array:
    """Where values rise through the level, for the last or the first time; NaN where they never do."""
    over = values - level[:, None]
    up = (over[:, :-1] < 0) & (over[:, 1:] >= 0)
    k = up.shape[1] - 1 - up[:, ::-1].argmax(axis=1) if last else up.argmax(axis=1)
    rows = np.arange(len(values))
    a, b = over[rows, k], over[rows, k + 1]
    share = np.divide(-a, b - a, out=np.zeros_like(a), where=b > a)
    found: Array = np.where(up.any(axis=1), drawn[k] + share * (drawn[k + 1] - drawn[k]), np.nan)
    return found


def _ratio(sigmoid: Array, other: Array, freedom: int) -> Array:
    floor = np.maximum(other, 1e-12 * np.maximum(sigmoid, 1e-300))
    ratio: Array = np.maximum(sigmoid - other, 0) / (floor / freedom)
    return ratio


def _aicc(rss: Array, points: int, parameters: int) -> Array:
    """Akaike's criterion for small samples; infinite where there are too few points for it."""
    k = parameters + 1
    if points - k - 1 < 1:
        return np.full(rss.shape, np.inf)
    value: Array = points * np.log(np.maximum(rss, 1e-300) / points) + 2 * k + 2 * k * (k + 1) / (points - k - 1)
    return value
