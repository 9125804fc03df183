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
REACH = 2.0  # decades beyond the tested doses in which an EC50 is looked for
START_LOCATIONS = 29  # EC50s of the grid that the starts are taken from
CHUNK = 1000  # curves on the profile's grid at a time: 30 MB


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

    def at(self, log_dose: Array) -> Array:
        """Fitted responses, (curve, dose)."""
        rise = _rise(np.log(self.hill), self.location, log_dose)
        response: Array = self.bottom[:, None] + (self.top - self.bottom)[:, None] * rise
        return response


def fit(design: Design, means: Array, spread: Array, *, limits: Limits) -> Curves:
    """Fit one curve per row of `means`, globally: three starts from a shared grid, then every corner checked.

    Parameters
    ----------
    design
        The doses that all curves share.
    means
        (curve, dose) mean response at each dose; finite.
    spread
        (curve,) sum of squares of the wells around their dose's mean.
    limits
        Box of the parameters.
    """
    slopes = np.geomspace(max(limits.hill[0], 0.3), min(limits.hill[1], 10.0), 5)
    locations = np.linspace(*design.reach, START_LOCATIONS)
    grid = np.concatenate([grid_rss(design, part, slopes, locations, limits) for part in chunks(means, 5 * CHUNK)])
    starts = _starts(grid, apart=5)  # (start, curve) cells of the grid
    fitted = [
        descend(design, means, np.log(slopes[cell // START_LOCATIONS]), locations[cell % START_LOCATIONS], limits)
        for cell in starts
    ]
    best = np.argmin([curves.rss for curves in fitted], axis=0)
    return add_spread(choose(fitted, best), spread)


def band(
    design: Design, curves: Curves, log_dose: Array, *, limits: Limits, design_effect: float | Array = 1.0
) -> tuple[Array, Array]:
    """Standard errors of the fitted responses at `log_dose` and of log10 EC50 (Gauss-Newton).

    Parameters that rest on a limit are taken as known.

    Returns
    -------
    response_se, location_se
        (curve, dose) and (curve,). A location that the data do not hold has a standard error of NaN.
    """
    jacobian = _jacobian(curves, design.log_dose, limits)  # (curve, dose, parameter)
    size = np.sqrt(np.einsum("cdp,d->cp", jacobian**2, design.weight))
    size[size == 0] = 1.0
    scaled = jacobian / size[:, None, :]
    information = np.einsum("cdp,cdq,d->cpq", scaled, scaled, design.weight)
    covariance = np.linalg.pinv(information, rcond=1e-11, hermitian=True)
    variance = design_effect * curves.rss / design.freedom(limits)
    wanted = _jacobian(curves, log_dose, limits) / size[:, None, :]
    response = np.einsum("cdp,cpq,cdq->cd", wanted, covariance, wanted)
    location_se = np.sqrt(np.maximum(variance * covariance[:, 3, 3], 0)) / size[:, 3]
    held = np.linalg.eigvalsh(information)[:, 0] > 1e-11 * np.linalg.eigvalsh(information)[:, -1]
    free = (jacobian**2).sum(axis=1)[:, 3] > 0
    return np.sqrt(np.maximum(response * variance[:, None], 0)), np.where(
        (held | (limits.parameters < 4)) & free, location_se, np.nan
    )


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


def _rise(ln_hill: Array, location: Array, log_dose: Array) -> Array:
    """Share of the way from bottom to top, (curve, dose)."""
    rise: Array = special.expit(LN10 * np.exp(ln_hill)[:, None] * (log_dose[None, :] - location[:, None]))
    return rise


def _slopes_of_rise(ln_hill: Array, location: Array, log_dose: Array, rise: Array) -> tuple[Array, Array]:
    """Derivatives of the rise by ln(hill) and by location, (curve, dose) each."""
    steepness = LN10 * np.exp(ln_hill)[:, None]
    bell = rise * (1 - rise)
    return bell * steepness * (log_dose[None, :] - location[:, None]), -bell * steepness


def _asymptotes(rise: Array, means: Array, weight: Array, limits: Limits) -> tuple[Array, Array, Array, Array]:
    """Best bottom and height (top - bottom) of each curve; whether bottom and top are off their limits."""
    mean_rise = rise @ weight / weight.sum()
    centred = rise - mean_rise[:, None]  # centred first: a rise of 1 +- 1e-9 keeps its digits
    variance = centred**2 @ weight
    height = np.divide((centred * means) @ weight, variance, out=np.zeros(len(rise)), where=variance > 0)
    bottom = means @ weight / weight.sum() - height * mean_rise
    free = np.ones((2, len(rise)), dtype=bool)
    if not limits.bounded:
        return bottom, height, free[0], free[1]
    top = bottom + height
    outside = (
        (bottom < limits.bottom[0])
        | (bottom > limits.bottom[1])
        | (top < limits.top[0])
        | (top > limits.top[1])
        | (variance <= 0)
    )
    if outside.any():
        edge = _on_edges(rise[outside], means[outside], weight, limits)
        bottom[outside], height[outside], free[0, outside], free[1, outside] = edge
    return bottom, height, free[0], free[1]


def _on_edges(rise: Array, means: Array, weight: Array, limits: Limits) -> tuple[Array, Array, Array, Array]:
    """The best point on the box's four edges: where a convex bowl's minimum lies if it is not inside."""
    fall = 1 - rise
    s00, s11 = fall**2 @ weight, rise**2 @ weight
    candidates = []
    for value in sorted({v for v in limits.bottom if np.isfinite(v)}):
        bottom = np.full(len(rise), value)
        free_top = np.divide((rise * (means - value * fall)) @ weight, s11, out=np.zeros(len(rise)), where=s11 > 0)
        candidates.append((bottom, np.clip(free_top, *limits.top)))
    for value in sorted({v for v in limits.top if np.isfinite(v)}):
        top = np.full(len(rise), value)
        free_bottom = np.divide((fall * (means - value * rise)) @ weight, s00, out=np.zeros(len(rise)), where=s00 > 0)
        candidates.append((np.clip(free_bottom, *limits.bottom), top))
    rss = np.stack([(means - b[:, None] * fall - t[:, None] * rise) ** 2 @ weight for b, t in candidates])
    best, curve = rss.argmin(axis=0), np.arange(len(rise))
    bottom = np.stack([b for b, _ in candidates])[best, curve]
    top = np.stack([t for _, t in candidates])[best, curve]
    return bottom, top - bottom, ~np.isin(bottom, limits.bottom), ~np.isin(top, limits.top)


def grid_rss(design: Design, means: Array, slopes: Array, locations: Array, limits: Limits) -> Array:
    """Residual sums of squares on a grid of slopes x locations that all curves share, (curve, cell)."""
    ln_hill, location = (a.ravel() for a in np.broadcast_arrays(np.log(slopes)[:, None], locations[None, :]))
    weight = design.weight
    rise = _rise(ln_hill, location, design.log_dose)  # (cell, dose)
    level = means @ weight / weight.sum()
    centred = means - level[:, None]
    total = centred**2 @ weight
    deviation = rise - (rise @ weight / weight.sum())[:, None]
    variance = deviation**2 @ weight
    held = variance > 1e-280
    scale = np.where(held, 1 / np.sqrt(np.where(held, variance, 1)), 0)
    projection = centred @ (deviation * scale[:, None] * weight).T
    rss: Array = np.maximum(total[:, None] - projection**2, 0)
    if not limits.bounded:
        return rss
    # asymptotes outside their limits: the best of the edges, in sums that all curves share
    height = projection * scale
    bottom = level[:, None] - height * (rise @ weight / weight.sum())
    top = bottom + height
    outside = (bottom < limits.bottom[0]) | (bottom > limits.bottom[1])
    outside |= (top < limits.top[0]) | (top > limits.top[1]) | ~held
    if outside.any():
        rss[outside] = _edge_rss(rise, means, weight, limits, outside)
    return rss


def _edge_rss(rise: Array, means: Array, weight: Array, limits: Limits, outside: Array) -> Array:
    """Residual sums of squares on the box's edges, for the (curve, cell) pairs that are `outside`."""
    curve, cell = np.nonzero(outside)
    fall = 1 - rise
    s00, s01, s11 = (fall**2 @ weight)[cell], (fall * rise @ weight)[cell], (rise**2 @ weight)[cell]
    t0 = (means @ (fall * weight).T)[curve, cell]
    t1 = (means @ (rise * weight).T)[curve, cell]
    lowest = np.full(curve.size, np.inf)
    for limit, other, own, other_own, target, other_target in (
        (limits.bottom, limits.top, s00, s11, t0, t1),
        (limits.top, limits.bottom, s11, s00, t1, t0),
    ):
        for value in sorted({v for v in limit if np.isfinite(v)}):
            free = np.divide(other_target - value * s01, other_own, out=np.zeros(curve.size), where=other_own > 0)
            free = np.clip(free, *other)
            quadratic = value**2 * own + 2 * value * free * s01 + free**2 * other_own
            lowest = np.minimum(lowest, quadratic - 2 * (value * target + free * other_target))
    rss: Array = np.maximum(lowest + (means**2 @ weight)[curve], 0)
    return rss


def _starts(grid: Array, *, apart: int) -> list[Array]:
    """The best cell, the best at least `apart` locations away from it, the best with another slope."""
    slope, location = np.divmod(np.arange(grid.shape[1]), START_LOCATIONS)
    first = grid.argmin(axis=1)
    near = np.abs(location[None, :] - location[first][:, None]) < apart
    same = slope[None, :] == slope[first][:, None]
    return [
        first,
        np.where(near, np.inf, grid).argmin(axis=1),
        np.where(same, np.inf, grid).argmin(axis=1),
    ]


def descend(
    design: Design,
    means: Array,
    ln_hill: Array,
    location: Array,
    limits: Limits,
    *,
    hold: bool = False,
    rounds: int = 150,
) -> Curves:
    """Levenberg-Marquardt on (ln hill, location), with `hold` on ln hill alone; damped curve by curve."""
    box = np.array([np.log(limits.hill), design.reach])  # (parameter, end)
    theta = np.stack([ln_hill, location]).astype(float)  # (parameter, curve)
    result = np.full((5, len(means)), np.nan)
    active = np.arange(len(means))
    y, weight = means, design.weight
    damping = np.full(len(means), 1e-3)
    state = _state(design, y, theta, limits)
    for _ in range(rounds):
        gradient, curvature = _normal(design, y, theta, state, weight)
        blocked = (theta <= box[:, :1]) & (gradient < 0) | (theta >= box[:, 1:]) & (gradient > 0)
        blocked[1] |= hold
        step = _damped_step(gradient, curvature, damping, blocked)
        trial = np.clip(theta + step, box[:, :1], box[:, 1:]) if not hold else theta + step
        trial[0] = np.clip(trial[0], *box[0])
        moved = np.abs(trial - theta).max(axis=0)
        new = _state(design, y, trial, limits)
        better = new[2] < state[2]
        gain = np.where(better, state[2] - new[2], 0.0)
        done = (moved < 1e-11) | (better & (gain <= 1e-15 * state[2]) & (moved < 1e-7))
        done |= ~better & (moved < 1e-9)
        damping = np.clip(damping * _trust(gain, trial - theta, gradient, curvature), 1e-12, 1e12)
        theta = np.where(better, trial, theta)
        state = tuple(_where(better, a, b) for a, b in zip(new, state, strict=True))
        if done.any():
            result[:, active[done]] = _packed(theta, state)[:, done]
            keep = ~done
            active, theta, damping, y = active[keep], theta[:, keep], damping[keep], y[keep]
            state = tuple(a[keep] for a in state)
            if not active.size:
                break
    result[:, active] = _packed(theta, state)
    return Curves(*result)


def _state(design: Design, y: Array, theta: Array, limits: Limits) -> tuple[Array, ...]:
    """Bottom, height, rss, rise, and which asymptotes are free, for one trial of every curve."""
    rise = _rise(theta[0], theta[1], design.log_dose)
    bottom, height, free_bottom, free_top = _asymptotes(rise, y, design.weight, limits)
    rss = (y - bottom[:, None] - height[:, None] * rise) ** 2 @ design.weight
    return bottom, height, rss, rise, free_bottom, free_top


def _normal(design: Design, y: Array, theta: Array, state: tuple[Array, ...], weight: Array) -> tuple[Array, Array]:
    """Descent direction (parameter, curve) and Gauss-Newton matrix (parameter, parameter, curve)."""
    bottom, height, _, rise, free_bottom, free_top = state
    residual = y - bottom[:, None] - height[:, None] * rise
    columns = []
    for slope in _slopes_of_rise(theta[0], theta[1], design.log_dose, rise):
        columns.append(_projected(height[:, None] * slope, rise, weight, free_bottom, free_top))
    gradient = np.stack([(c * residual) @ weight for c in columns])
    curvature = np.stack([[(a * b) @ weight for b in columns] for a in columns])
    return gradient, curvature


def _projected(column: Array, rise: Array, weight: Array, free_bottom: Array, free_top: Array) -> Array:
    """What remains of a column of the Jacobian once the free asymptotes have followed it (Kaufman 1975)."""
    centred = rise - (rise @ weight / weight.sum())[:, None]
    plain = column - (column @ weight / weight.sum())[:, None]
    out = _without(plain, centred, weight)
    if free_bottom.all() and free_top.all():
        return out
    out = np.where((free_bottom & ~free_top)[:, None], _without(column, 1 - rise, weight), out)
    out = np.where((~free_bottom & free_top)[:, None], _without(column, rise, weight), out)
    return np.where((~free_bottom & ~free_top)[:, None], column, out)


def _without(column: Array, direction: Array, weight: Array) -> Array:
    size = direction**2 @ weight
    share = np.divide((column * direction) @ weight, size, out=np.zeros(len(size)), where=size > 0)
    rest: Array = column - share[:, None] * direction
    return rest


def _damped_step(gradient: Array, curvature: Array, damping: Array, blocked: Array) -> Array:
    tiny = 1e-200
    a = np.where(blocked[0], 1.0, curvature[0, 0] * (1 + damping) + tiny)
    d = np.where(blocked[1], 1.0, curvature[1, 1] * (1 + damping) + tiny)
    b = np.where(blocked.any(axis=0), 0.0, curvature[0, 1])
    g = np.where(blocked, 0.0, gradient)
    # scaled by the diagonal, so that nothing under- or overflows for curves that are almost flat
    rho = b / np.sqrt(a) / np.sqrt(d)
    p, q = g[0] / np.sqrt(a), g[1] / np.sqrt(d)
    det = np.maximum(1 - rho**2, 1e-14)
    step = np.stack([(p - rho * q) / det / np.sqrt(a), (q - rho * p) / det / np.sqrt(d)])
    limited: Array = np.clip(step, [[-1.0], [-0.5]], [[1.0], [0.5]])
    return limited


def _trust(gain: Array, step: Array, gradient: Array, curvature: Array) -> Array:
    """Factor for the damping: how much of the promised descent a step has kept (0 where it was refused)."""
    bent = np.einsum("ac,abc,bc->c", step, curvature, step)
    promised = np.maximum(2 * (gradient * step).sum(axis=0) - bent, 1e-300)
    kept = gain / promised
    return np.select([kept <= 0, kept < 0.4, kept > 0.8], [6.0, 3.0, 0.2], 1.0)


def _packed(theta: Array, state: tuple[Array, ...]) -> Array:
    return np.stack([state[0], state[0] + state[1], np.exp(theta[0]), theta[1], state[2]])


def _where(condition: Array, a: Array, b: Array) -> Array:
    return np.where(condition[:, None] if a.ndim == 2 else condition, a, b)


def choose(fitted: list[Curves], best: Array) -> Curves:
    """For each curve the one of several fits that `best` names."""
    rows = np.arange(best.size)
    names = ("bottom", "top", "hill", "location", "rss")
    return Curves(*(np.stack([getattr(curves, name) for curves in fitted])[best, rows] for name in names))


def add_spread(curves: Curves, spread: Array) -> Curves:
    """Curves whose residual sum of squares holds the spread inside doses too."""
    return replace(curves, rss=curves.rss + spread)


def _jacobian(curves: Curves, log_dose: Array, limits: Limits) -> Array:
    """Derivatives by bottom, top, ln hill, location, (curve, dose, 4); zero for parameters on a limit."""
    ln_hill = np.log(curves.hill)
    rise = _rise(ln_hill, curves.location, log_dose)
    by_hill, by_location = _slopes_of_rise(ln_hill, curves.location, log_dose, rise)
    height = (curves.top - curves.bottom)[:, None]
    out = np.stack([1 - rise, rise, height * by_hill, height * by_location], axis=-1)
    out[np.isin(curves.bottom, limits.bottom), :, 0] = 0
    out[np.isin(curves.top, limits.top), :, 1] = 0
    out[np.isclose(curves.hill, limits.hill[0], rtol=1e-9), :, 2] = 0
    out[np.isclose(curves.hill, limits.hill[1], rtol=1e-9), :, 2] = 0
    return out


def chunks(rows: Array, size: int) -> list[Array]:
    """Rows in pieces of at most `size`."""
    return [rows[i : i + size] for i in range(0, max(len(rows), 1), size)]
