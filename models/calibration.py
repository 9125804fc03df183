"""Temperature, so that of the patches called with 80 % four in five are right."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import rankdata

from .intervals import share_interval

# With fewer wrong patches than this a temperature is fitted to nothing: it runs off to certainty.
LEAST_ERRORS = 20
LOG_BOUND = float(np.log(10.0))
BINS = 15
CHANCE_DRAWS = 200


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
        Between 1/10 and 10. Where fewer than 20 patches are wrong the likelihood would run off to certainty: as
        much weight as is missing to 20 errors is then given to the wrong states of all patches, and the
        temperature may only make a timid classifier bolder (below 1), as label smoothing makes them timid.
        1 and "not calibrated" where even that says nothing.
    """
    z, y = np.asarray(logits, dtype=float), np.asarray(truth)
    errors = int((z.argmax(axis=1) != y).sum()) if len(y) else 0
    missing = max(0, LEAST_ERRORS - errors)
    untouched = Calibration(1.0, f"not calibrated: {errors} errors in {len(y)} patches of {held_out}, too few to tell")
    if len(y) <= missing:
        return untouched
    found = minimize_scalar(
        lambda log_t: _nll_of_logits(z / np.exp(log_t), y, missing=missing),
        bounds=(-LOG_BOUND, LOG_BOUND),
        method="bounded",
    )
    temperature = float(np.exp(found.x))
    text = f"temperature {temperature:.3f} from {len(y)} patches of {held_out}"
    if not missing:
        return Calibration(temperature, text)
    if temperature >= 1:
        return untouched
    return Calibration(temperature, f"{text}, whose {errors} errors were counted as {LEAST_ERRORS}")


def negative_log_likelihood(probability: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Mean negative log probability of the true state, in nats."""
    p, y = np.asarray(probability, dtype=float), np.asarray(truth)
    return float(-np.log(np.maximum(p[np.arange(len(y)), y], 1e-12)).mean())


def brier_score(probability: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Mean squared distance of the probabilities to the truth, summed over states (Brier 1950); 0 to 2."""
    p, y = np.asarray(probability, dtype=float), np.asarray(truth)
    return float(((p - np.eye(p.shape[1])[y]) ** 2).sum(axis=1).mean())


def expected_calibration_error(probability: npt.ArrayLike, truth: npt.ArrayLike, *, equal_mass: bool = False) -> float:
    """Mean gap between confidence and accuracy over 15 bins of confidence, weighted by their patches.

    Naeini, Cooper and Hauskrecht 2015; the confidence is the largest probability. Bins are equally wide,
    or hold equally many patches (`equal_mass`), which looks closer where nearly all patches are certain.
    Never below 0, so above it by chance alone: see `reliability`.
    """
    p, y = np.asarray(probability, dtype=float), np.asarray(truth)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    return _gap(confidence - right, _bin(confidence, equal_mass=equal_mass))


def reliability(
    probability: npt.ArrayLike, truth: npt.ArrayLike, *, groups: npt.ArrayLike, seed: int = 0
) -> dict[str, Any]:
    """How far confidence can be taken at its word: scores, bins to draw, and what chance alone would give.

    Parameters
    ----------
    probability
        (patch, state).
    truth
        (patch,) index of the true state.
    groups
        (patch,) plate and well of each patch, for the intervals of the bins.
    seed
        Of the draws for the error that a calibrated classifier would show.

    Returns
    -------
    reliability
        `ece` over 15 equally wide bins, `ece_equal_mass` over 15 equally full ones; `ece_by_chance`
        {"mean", "high"}, the error that a perfectly calibrated classifier with these confidences would
        show on as many independent patches (truth drawn from the confidences, as in Broecker and Smith
        2007; `high` is passed by 1 in 20); `brier`, `nll`; and `bins`, the equally wide ones that hold
        patches: mean `confidence`, `accuracy` with its 95 % interval `low` and `high`, `count`.
    """
    p, y = np.asarray(probability, dtype=float), np.asarray(truth)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    place = _bin(confidence, equal_mass=False)
    random = np.random.default_rng(seed)
    by_chance = [_gap(confidence - (random.random(len(y)) < confidence), place) for _ in range(CHANCE_DRAWS)]
    mean, high = float(np.mean(by_chance)), float(np.quantile(by_chance, 0.95))
    columns: dict[str, list[float | None]] = {name: [] for name in ("confidence", "accuracy", "count", "low", "high")}
    well = np.asarray(groups)
    for k in np.unique(place):
        inside = place == k
        low, up = share_interval(right[inside], well[inside])
        row = (float(confidence[inside].mean()), float(right[inside].mean()), int(inside.sum()), low, up)
        for name, value in zip(columns, row, strict=True):
            columns[name].append(value)
    return {
        "ece": expected_calibration_error(p, y),
        "ece_equal_mass": expected_calibration_error(p, y, equal_mass=True),
        "ece_by_chance": {"mean": mean, "high": high},
        "brier": brier_score(p, y),
        "nll": negative_log_likelihood(p, y),
        "bins": columns,
    }


def _bin(confidence: npt.NDArray[np.float64], *, equal_mass: bool) -> npt.NDArray[np.int64]:
    if not equal_mass:
        return np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    # equal confidences share a bin, whatever the order in which they came
    rank = rankdata(confidence, method="min") - 1
    place: npt.NDArray[np.int64] = (rank * BINS / len(confidence)).astype(np.int64)
    return place


def _gap(difference: npt.NDArray[np.float64], place: npt.NDArray[np.int64]) -> float:
    return float(np.abs(np.bincount(place, weights=difference)).sum() / len(difference))


def _nll_of_logits(logits: npt.NDArray[np.float64], truth: npt.NDArray[np.int64], *, missing: int) -> float:
    """Mean negative log-likelihood, as if `missing` patches more were wrong."""
    log_p = log_softmax(logits, axis=1)
    right = log_p[np.arange(len(truth)), truth]
    if not missing:
        return float(-right.mean())
    wrong = (log_p.sum(axis=1) - right) / (logits.shape[1] - 1)
    share = missing / len(truth)
    return float(-((1 - share) * right.mean() + share * wrong.mean()))
