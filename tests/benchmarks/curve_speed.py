"""How many curves a CPU-second fits, beside scipy's bounded curve_fit and CurveCurator on the same curves.

    python -m tests.benchmarks.curve_speed [CURVES] [CAMPAIGN_CURVES] [CURVE_CURATOR_FOLDER]

CURVES of 8 doses x 3 replicates, 30 % of them flat (10,000 by default), with profile intervals and p-values; the
null is simulated inside the time. CAMPAIGN_CURVES (150,000: 100 plates) are fitted in calls of one plate of 1,500.
CurveCurator is measured if its package lies in the third folder (`pip install --no-deps --target FOLDER
curve-curator`). CPU seconds of one process; set OMP_NUM_THREADS=1. Prints a Markdown table.
"""

import sys
import time
import warnings
from collections.abc import Callable
from importlib import import_module

import numpy as np
from scipy.optimize import curve_fit

from screening.analysis import no_effect
from screening.analysis.curves import fit_curves

DOSE = np.repeat(np.geomspace(0.01, 30, 8), 3)
PLATE = 1500


def simulate(count: int, seed: int) -> np.ndarray:
    """Curves with EC50s from below to above the doses, 30 % without effect, noise 0.05; (curve, well)."""
    rng = np.random.default_rng(seed)
    ec50, hill = 10 ** rng.uniform(-2, 2, count), np.exp(rng.normal(0.2, 0.4, count))
    top = rng.uniform(0.4, 1, count) * (rng.random(count) > 0.3)
    clean = top[:, None] / (1 + (ec50[:, None] / DOSE) ** hill[:, None])
    return np.asarray(clean + rng.normal(0, 0.05, clean.shape))


def rate(count: int, work: Callable[[], object]) -> float:
    """Curves per CPU-second."""
    before = time.process_time()
    work()
    return count / (time.process_time() - before)


def scipy_bounded(curves: np.ndarray) -> None:
    """As most people do it: bounds, a guess from the data, no analytic Jacobian."""

    def model(x: np.ndarray, bottom: float, top: float, location: float, hill: float) -> np.ndarray:
        return np.asarray(bottom + (top - bottom) / (1 + 10 ** (hill * (location - x))))

    x = np.log10(DOSE)
    bounds = ([-np.inf, -np.inf, x[0] - 2, 0.1], [np.inf, np.inf, x[-1] + 2, 20.0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for y in curves:
            try:
                curve_fit(model, x, y, p0=[y.min(), y.max(), x.mean(), 1.0], bounds=bounds, maxfev=4000)
            except RuntimeError:  # no convergence
                continue


def curve_curator(curves: np.ndarray, folder: str, *, speed: str) -> float:
    """Its model classes called as its own pipeline calls them, least squares, `speed` "fast" or "standard"."""
    sys.path.insert(0, folder)
    models = import_module("curve_curator.models")
    x, ratios = np.append(-np.inf, np.log10(DOSE * 1e-6)), 1 - 0.9 * curves  # its fold changes are positive
    null, model = models.MeanModel(), models.LogisticModel()
    model.set_boundaries(x[1:])

    def work() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for ratio in ratios:
                y = np.append(1.0, ratio)
                model.reset()
                null.set_initial_guess(intercept=ratio.mean(), noise=y.std())
                null.fit_ols(x, y)
                if speed == "fast":
                    model.find_best_guess_ols(x, y, noise=null.noise)
                    model.fit_ols(x, y)
                else:
                    model.efficiently_fit_ols(x, y, noise=null.noise)
                model.calculate_parameter_error(x, y)
                model.evaluate(x, y)

    return rate(len(curves), work)


def main(count: int, campaign: int, folder: str | None) -> None:
    """Print the table."""
    curves = simulate(count, seed=1)
    no_effect.forget()
    ours = rate(count, lambda: fit_curves(DOSE, curves))
    bounded = rate(count, lambda: fit_curves(DOSE, curves, bottom=(-0.1, 1.0), top=(-0.1, 1.0)))
    few = rate(100, lambda: scipy_bounded(curves[:100]))
    no_effect.forget()
    before = time.process_time()
    for first in range(0, campaign, PLATE):
        fit_curves(DOSE, simulate(min(PLATE, campaign - first), seed=first))
    whole = time.process_time() - before
    rows = [
        (f"curves per CPU-second, {count:,} of 8 x 3, profile interval and p-value", f"{ours:,.0f}", ">= 5,000"),
        ("the same with asymptotes bounded", f"{bounded:,.0f}", "-"),
        ("scipy's bounded curve_fit, 100 of them", f"{few:.1f}", "-"),
        ("times scipy", f"{ours / few:,.0f}", ">= 500"),
    ]
    for speed in ("fast", "standard") if folder else ():
        theirs = curve_curator(curves[:100], folder or "", speed=speed)
        rows += [
            (f"CurveCurator's model classes, {speed}, 100 of them", f"{theirs:.1f}", "-"),
            (f"times CurveCurator, {speed}", f"{ours / theirs:,.0f}", ">= 40"),
        ]
    rows.append((f"CPU seconds for {campaign:,} curves, plate by plate", f"{whole:.1f}", "< 60 for 150,000"))
    print("| what | reached | required |\n|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 10_000,
        int(sys.argv[2]) if len(sys.argv) > 2 else 15_000,
        sys.argv[3] if len(sys.argv) > 3 else None,
    )
