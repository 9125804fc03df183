"""Temperature, so that of the patches called with 80 % four in five are right."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

# With fewer wrong patches than this a temperature is fitted to nothing: it runs off to certainty.
LEAST_ERRORS = 20
LOG_BOUND = float(np.log(10.0))


@dataclass(frozen=True)
class Calibration:
    """A temperature that divides the logits, and how it was found."""

    temperature: float
    text: str


def fit_temperature(logits: npt.ArrayLike, truth: npt.ArrayLike, *, held_out: str) -> Calibration:
    """Fit one temperature by maximum likelihood, after Guo et al. 2017 (ICML, "On Calibration").

    Parameters
    ----------
    logits
        (patch, state), of patches whose wells were not trained on.
    truth
        (patch,) index of the true state.
    held_out
        What the patches are, in words, for the card.

    Returns
    -------
    calibration
        Between 1/10 and 10; 1 and "not calibrated" where fewer than 20 patches are wrong.
    """
    z, y = np.asarray(logits, dtype=float), np.asarray(truth)
    errors = int((z.argmax(axis=1) != y).sum()) if len(y) else 0
    if errors < LEAST_ERRORS:
        return Calibration(1.0, f"not calibrated: {errors} errors in {len(y)} patches of {held_out}")
    found = minimize_scalar(
        lambda log_t: _nll_of_logits(z / np.exp(log_t), y), bounds=(-LOG_BOUND, LOG_BOUND), method="bounded"
    )
    temperature = float(np.exp(found.x))
    return Calibration(temperature, f"temperature {temperature:.3f} from {len(y)} patches of {held_out}")


def negative_log_likelihood(probability: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Mean negative log probability of the true state, in nats."""
    p, y = np.asarray(probability, dtype=float), np.asarray(truth)
    return float(-np.log(np.maximum(p[np.arange(len(y)), y], 1e-12)).mean())


def brier_score(probability: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Mean squared distance of the probabilities to the truth, summed over states (Brier 1950); 0 to 2."""
    p, y = np.asarray(probability, dtype=float), np.asarray(truth)
    return float(((p - np.eye(p.shape[1])[y]) ** 2).sum(axis=1).mean())


def expected_calibration_error(probability: npt.ArrayLike, truth: npt.ArrayLike, *, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over equal bins of confidence, weighted by their patches.

    Naeini, Cooper and Hauskrecht 2015; the confidence is the largest probability.
    """
    p, y = np.asarray(probability, dtype=float), np.asarray(truth)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(place, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(y))


def _nll_of_logits(logits: npt.NDArray[np.float64], truth: npt.NDArray[np.int64]) -> float:
    return float(-log_softmax(logits, axis=1)[np.arange(len(truth)), truth].mean())
