"""Downhill for many curves at once: Levenberg-Marquardt on slope and EC50, asymptotes solved at every step.

Arrays are (dose, curve) here, so that a sum over doses runs along memory.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from scipy import special

from .log_logistic import LN10, Array, Curves, Design, Limits

CLOSE = 1e-8  # last step of ln hill and log10 EC50 at which a curve is done
ROUNDS = 150  # after which a curve that still moves is left where it is
STALLED = 3  # rounds in a row that gain nothing


@dataclass
class State:
    """One trial for every curve: asymptotes, residual sum of squares and what the next step needs."""

    bottom: Array
    height: Array
    rss: Array
    z: Array  # (dose, curve) slope times log distance
    rise: Array
    residual: Array
    free_bottom: Array
    free_top: Array

    def take(self, kept: Array) -> State:
        """Some of the curves."""
        return State(*(getattr(self, f.name)[..., kept] for f in fields(self)))

    def put(self, other: State, where: Array) -> None:
        """Take over those of another trial."""
        for f in fields(self):
            np.copyto(getattr(self, f.name), getattr(other, f.name), where=where)


def descend(
    design: Design,
    means: Array,
    ln_hill: Array,
    location: Array,
    limits: Limits,
    *,
    hold: bool = False,
    rounds: int = ROUNDS,
    close: float = CLOSE,
) -> Curves:
    """Fit from one start each, with `hold` the slope alone; damped curve by curve.

    Curves leave as they converge: `means` is (curve, dose), starts are (curve,).
    """
    box = np.array([np.log(limits.hill), design.reach])  # (parameter, end)
    theta = np.stack([ln_hill, location]).astype(float)  # (parameter, curve)
    result = np.full((5, len(means)), np.nan)
    active = np.arange(len(means))
    y, weight = np.ascontiguousarray(means.T), design.weight
    damping = np.full(len(means), 1e-3)
    over, stalled = np.zeros(len(means), dtype=bool), np.zeros(len(means), dtype=int)
    state = trial_at(design, y, theta, limits)
    for _ in range(rounds):
        gradient, curvature = normal(theta, state, weight)
        blocked = (theta <= box[:, :1]) & (gradient < 0) | (theta >= box[:, 1:]) & (gradient > 0)
        blocked[1] |= hold
        step = _damped_step(gradient, curvature, damping, blocked)
        trial = theta + step
        trial[0] = np.clip(trial[0], *box[0])
        if not hold:
            trial[1] = np.clip(trial[1], *box[1])
        step = trial - theta
        moved = np.abs(step).max(axis=0)
        new = trial_at(design, y, trial, limits)
        better = new.rss < state.rss
        gain = np.where(better, state.rss - new.rss, 0.0)
        damping = np.clip(damping * _trust(gain, step, gradient, curvature), 1e-12, 1e12)
        over |= (moved < close) | (better & (gain <= 1e-15 * state.rss) & (moved < 1e-6))
        over |= ~better & (moved < 10 * close)
        # along a ridge (a slope that no dose tells) there is always another step, and nothing to be gained
        stalled = np.where((gain <= 1e-13 * state.rss) & (better | (moved < 1e-3)), stalled + 1, 0)
        over |= stalled >= STALLED
        if better.all():
            theta, state = trial, new
        else:
            np.copyto(theta, trial, where=better)
            state.put(new, better)
        # leaving one by one would cost more copying than it saves
        if over.sum() * 8 >= over.size:
            result[:, active[over]] = _packed(theta, state)[:, over]
            kept = np.flatnonzero(~over)
            active, theta, damping, y = active[kept], theta[:, kept], damping[kept], y[:, kept]
            state, over, stalled = state.take(kept), over[kept], stalled[kept]
            if not active.size:
                break
    result[:, active] = _packed(theta, state)
    return Curves(*result)


def trial_at(design: Design, y: Array, theta: Array, limits: Limits) -> State:
    """Asymptotes and residuals at one (ln hill, log10 EC50) for every curve; y is (dose, curve)."""
    z = design.log_dose[:, None] - theta[1]
    z *= LN10 * np.exp(theta[0])
    rise = special.expit(z)
    weight, total = design.weight, design.weight.sum()
    mean_rise = weight @ rise / total
    centred = rise - mean_rise  # centred first: a rise of 1 +- 1e-9 keeps its digits
    weighted = centred * weight[:, None]
    variance = np.einsum("dc,dc->c", centred, weighted)
    height = np.einsum("dc,dc->c", weighted, y)
    height = np.divide(height, variance, out=np.zeros_like(height), where=variance > 0)
    bottom = weight @ y / total - height * mean_rise
    free_bottom, free_top = np.ones(bottom.size, dtype=bool), np.ones(bottom.size, dtype=bool)
    if limits.bounded:
        top = bottom + height
        outside = (bottom < limits.bottom[0]) | (bottom > limits.bottom[1])
        outside |= (top < limits.top[0]) | (top > limits.top[1]) | (variance <= 0)
        out = np.flatnonzero(outside)
        if out.size:
            bottom[out], height[out], free_bottom[out], free_top[out] = _on_edges(
                rise[:, out], y[:, out], weight, limits
            )
    residual = y - rise * height
    residual -= bottom
    rss = weight @ residual**2
    return State(bottom, height, rss, z, rise, residual, free_bottom, free_top)


def _on_edges(rise: Array, y: Array, weight: Array, limits: Limits) -> tuple[Array, Array, Array, Array]:
    """The best point on the box's four edges: where a convex bowl's minimum lies if it is not inside."""
    fall = 1 - rise
    s00, s01, s11 = weight @ fall**2, weight @ (fall * rise), weight @ rise**2
    t0, t1 = weight @ (fall * y), weight @ (rise * y)
    candidates = []
    for value in sorted({v for v in limits.bottom if np.isfinite(v)}):
        top = np.divide(t1 - value * s01, s11, out=np.zeros_like(s11), where=s11 > 0)
        candidates.append((np.full_like(top, value), np.clip(top, *limits.top)))
    for value in sorted({v for v in limits.top if np.isfinite(v)}):
        bottom = np.divide(t0 - value * s01, s00, out=np.zeros_like(s00), where=s00 > 0)
        candidates.append((np.clip(bottom, *limits.bottom), np.full_like(bottom, value)))
    rss = np.stack([weight @ (y - b * fall - t * rise) ** 2 for b, t in candidates])
    best, curve = rss.argmin(axis=0), np.arange(rise.shape[1])
    bottom = np.stack([b for b, _ in candidates])[best, curve]
    top = np.stack([t for _, t in candidates])[best, curve]
    return bottom, top - bottom, ~np.isin(bottom, limits.bottom), ~np.isin(top, limits.top)


def normal(theta: Array, state: State, weight: Array) -> tuple[Array, Array]:
    """Half the steepest descent (parameter, curve) and Gauss-Newton matrix (parameter, parameter, curve)."""
    bell = state.rise * (1 - state.rise)
    bell *= state.height
    by_hill = bell * state.z
    bell *= -LN10 * np.exp(theta[0])
    wide = weight[:, None]
    if state.free_bottom.all() and state.free_top.all():
        total = weight.sum()
        centred = state.rise - weight @ state.rise / total
        weighted = centred * wide
        variance = np.einsum("dc,dc->c", centred, weighted)
        for column in (by_hill, bell):
            column -= weight @ column / total
            share = np.einsum("dc,dc->c", column, weighted)
            column -= centred * np.divide(share, variance, out=np.zeros_like(share), where=variance > 0)
        columns = by_hill, bell
    else:
        columns = _projected(by_hill, state, weight), _projected(bell, state, weight)
    a, b = (column * wide for column in columns)
    gradient = np.stack([np.einsum("dc,dc->c", c, state.residual) for c in (a, b)])
    aa, ab, bb = (np.einsum("dc,dc->c", p, q) for p, q in ((a, columns[0]), (a, columns[1]), (b, columns[1])))
    return gradient, np.stack([[aa, ab], [ab, bb]])


def _projected(column: Array, state: State, weight: Array) -> Array:
    """What remains of a column of the Jacobian once the free asymptotes have followed it (Kaufman 1975)."""
    rise, free_bottom, free_top = state.rise, state.free_bottom, state.free_top
    total = weight.sum()
    both = _without(column - weight @ column / total, rise - weight @ rise / total, weight)
    out = np.where(free_bottom & free_top, both, column)
    out = np.where(free_bottom & ~free_top, _without(column, 1 - rise, weight), out)
    return np.where(~free_bottom & free_top, _without(column, rise, weight), out)


def _without(column: Array, direction: Array, weight: Array) -> Array:
    size = weight @ direction**2
    share = np.divide(weight @ (column * direction), size, out=np.zeros_like(size), where=size > 0)
    rest: Array = column - share * direction
    return rest


def _damped_step(gradient: Array, curvature: Array, damping: Array, blocked: Array) -> Array:
    tiny = 1e-200
    a = np.where(blocked[0], 1.0, curvature[0, 0] * (1 + damping) + tiny)
    d = np.where(blocked[1], 1.0, curvature[1, 1] * (1 + damping) + tiny)
    b = np.where(blocked[0] | blocked[1], 0.0, curvature[0, 1])
    g = np.where(blocked, 0.0, gradient)
    # scaled by the diagonal, so that nothing under- or overflows for curves that are almost flat
    root_a, root_d = np.sqrt(a), np.sqrt(d)
    rho = b / root_a / root_d
    p, q = g[0] / root_a, g[1] / root_d
    det = np.maximum(1 - rho**2, 1e-14)
    step = np.stack([(p - rho * q) / det / root_a, (q - rho * p) / det / root_d])
    limited: Array = np.clip(step, [[-1.0], [-0.5]], [[1.0], [0.5]])
    return limited


def _trust(gain: Array, step: Array, gradient: Array, curvature: Array) -> Array:
    """Factor for the damping: how much of the promised descent a step has kept (0 where it was refused)."""
    h, e = step
    bent = h * h * curvature[0, 0] + 2 * h * e * curvature[0, 1] + e * e * curvature[1, 1]
    promised = np.maximum(2 * (gradient * step).sum(axis=0) - bent, 1e-300)
    kept = gain / promised
    return np.where(kept <= 0, 6.0, np.where(kept < 0.4, 3.0, np.where(kept > 0.8, 0.2, 1.0)))


def _packed(theta: Array, state: State) -> Array:
    return np.stack([state.bottom, state.bottom + state.height, np.exp(theta[0]), theta[1], state.rss])
