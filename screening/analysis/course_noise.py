"""How far replicate wells stray from their common course of death, and how long they stay astray."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

Array: TypeAlias = NDArray[Any]

FEWEST_RESIDUALS = 8  # degrees of freedom between replicate wells below which the noise is not known
EXTREME = 0.02  # variance of a fraction, relative to F (1 - F), below which frames lose their say
FLOOR = 0.005  # raw death is taken to stay this far from 0 and 1: no course is without noise


@dataclass(frozen=True)
class CourseNoise:
    """Covariance of one well's death fraction between two frames s <= t, at mean death F.

        cohort F(s) (1 - F(t))  +  pace v(s) v(t)  +  [s = t] frame F(t) (1 - F(t)),   v = (1 - F) ln(1 - F)

    `cohort`: the same cells are followed, a death that came early stays (1 / number of cells for the empirical
    distribution function); `pace`: the wells of a dose die at somewhat different rates (variance of log rate,
    proportional hazards); `frame`: what is new at every frame, such as classification and the patches that
    were seen. `freedom` is the degrees of freedom between replicate wells that the three rest on.
    """

    cohort: float
    pace: float
    frame: float
    freedom: int

    def covariance(self, mean: Array, *, baseline: Array | float = 0.0) -> Array:
        """Covariance (..., time, time) of one well's course with mean excess death (..., time).

        `baseline` (time,) is the death of vehicle; excess = (death - baseline) / (1 - baseline).
        """
        cohort, pace, frame = _terms(mean, baseline)
        total: Array = self.cohort * cohort + self.pace * pace + self.frame * frame
        return total


def course_noise(courses: Array, means: Array, *, baseline: Array | float = 0.0) -> CourseNoise | None:
    """Estimate the three terms from products of residuals, pooled over all groups.

    Parameters
    ----------
    courses
        (group, well, time) excess death; wells with a NaN do not count.
    means
        (group, time) smooth courses that the covariances are evaluated at.
    baseline
        (time,) death of vehicle.

    Returns
    -------
    CourseNoise or None
        None where fewer than eight degrees of freedom exist between replicate wells.
    """
    complete: Array = np.asarray(np.isfinite(courses).all(axis=2))
    number = complete.sum(axis=1)
    used = (number > 1) & np.isfinite(means).all(axis=1)
    freedom = int((number[used] - 1).sum())
    if freedom < FEWEST_RESIDUALS:
        return None
    kept = np.where(complete[used][..., None], courses[used], 0.0)
    centre = kept.sum(axis=1, keepdims=True) / number[used][:, None, None]
    residual = np.where(complete[used][..., None], kept - centre, 0.0)
    observed = np.einsum("gws,gwt->gst", residual, residual)  # (n - 1) times the covariance
    terms = np.stack(_terms(means[used], baseline))  # (term, group, time, time)
    # frames with next to no deaths, or hardly a survivor, say little about how noise grows in between
    spread = np.sqrt(np.einsum("gtt->gt", terms[2]) + EXTREME)
    weight = (number[used] - 1)[:, None, None] / (spread[:, :, None] * spread[:, None, :]) ** 2
    normal = np.einsum("agst,bgst,gst->ab", terms, terms, weight)
    right = np.einsum("agst,gst,gst->a", terms, observed, weight / (number[used] - 1)[:, None, None])
    scale = np.sqrt(np.maximum(np.diag(normal), 1e-300))
    root = np.linalg.cholesky(normal / np.outer(scale, scale) + 1e-9 * np.eye(3))
    found, _ = optimize.nnls(root.T, np.linalg.solve(root, right / scale))
    cohort, pace, frame = found / scale
    # frames without any noise of their own would make every covariance nearly singular
    frame = max(frame, 0.02 * cohort, 1e-8)
    return CourseNoise(float(cohort), float(pace), float(frame), freedom)


def _terms(mean: Array, baseline: Array | float) -> tuple[Array, Array, Array]:
    """The three terms at unit size, on the scale of excess death; (..., time, time) each."""
    alive = 1 - np.asarray(baseline, dtype=float)
    # squeezed, not cut off: frames cut off to one level would seem to have no noise between them
    raw = FLOOR + (1 - 2 * FLOOR) * (1 - alive * (1 - np.clip(mean, 0.0, 1.0)))
    early = np.minimum(raw[..., :, None], raw[..., None, :])
    late = np.maximum(raw[..., :, None], raw[..., None, :])
    sensitivity = (1 - raw) * np.log1p(-raw)
    scale = np.broadcast_to(1 / alive, raw.shape)
    back = scale[..., :, None] * scale[..., None, :]
    steps = np.eye(raw.shape[-1]) * (raw * (1 - raw))[..., None, :]
    return back * early * (1 - late), back * sensitivity[..., :, None] * sensitivity[..., None, :], back * steps
