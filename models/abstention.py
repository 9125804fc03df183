"""When to say "uncertain": what is gained in error for what is lost in coverage."""

import numpy as np
import numpy.typing as npt

from .scores import thinned

UNCERTAIN_SHARE = 0.05


def choose_uncertain(probability: npt.ArrayLike) -> dict[str, float]:
    """The confidence below which a patch is to be called uncertain: 5 % of the validation patches are.

    Parameters
    ----------
    probability
        (patch, state) calibrated, of validation patches: a threshold that is chosen on the patches it is
        judged on flatters itself.

    Returns
    -------
    uncertain
        For the card: `threshold`, and the `coverage` it left on the validation patches. Where patches tie
        at the threshold they are kept.
    """
    confidence = np.asarray(probability, dtype=float).max(axis=1)
    threshold = float(np.quantile(confidence, UNCERTAIN_SHARE, method="higher"))
    return {"threshold": threshold, "coverage": float((confidence >= threshold).mean())}


def abstention(probability: npt.ArrayLike, truth: npt.ArrayLike, *, threshold: float) -> dict[str, float | None]:
    """Error of all patches and of those at or above a threshold that was chosen elsewhere.

    Returns
    -------
    abstention
        `threshold`, `coverage` (share kept), `error_of_all`, `error_of_kept` (None if none is kept).
    """
    confidence, wrong = _confidence_and_errors(probability, truth)
    kept = confidence >= threshold
    return {
        "threshold": threshold,
        "coverage": float(kept.mean()),
        "error_of_all": float(wrong.mean()),
        "error_of_kept": float(wrong[kept].mean()) if kept.any() else None,
    }


def risk_coverage(probability: npt.ArrayLike, truth: npt.ArrayLike) -> dict[str, list[float]]:
    """Error of the patches kept against their share, as the least confident are given up one by one.

    El-Yaniv and Wiener 2010. Ascending in coverage, at most 200 points; patches of equal confidence stay
    or go together.

    Returns
    -------
    curve
        `coverage`, `error` and `threshold`, lists of one length.
    """
    confidence, wrong = _confidence_and_errors(probability, truth)
    order = np.argsort(-confidence, kind="stable")
    last = np.append(np.flatnonzero(np.diff(confidence[order])), len(order) - 1)
    kept = np.arange(1, len(order) + 1)[last]
    error = np.cumsum(wrong[order])[last] / kept
    coverage = kept / len(order)
    keep = thinned(coverage)
    return {
        "coverage": coverage[keep].tolist(),
        "error": error[keep].tolist(),
        "threshold": confidence[order][last][keep].tolist(),
    }


def _confidence_and_errors(
    probability: npt.ArrayLike, truth: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    p = np.asarray(probability, dtype=float)
    return p.max(axis=1), p.argmax(axis=1) != np.asarray(truth)
