"""How far a patch lies from everything a classifier was trained on, and whether a plate does."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from plates.errors import ClassifierError, SettingsError

from .intervals import share_interval

PREFIX = "outlier."
COMPONENTS = 64
EXPECTED_SHARE = 0.01
LEAST_PATCHES = 20
# A plate like the training data has 1 to 2 % of its patches above the threshold; a flagged one surely has this.
LIMIT_SHARE = 0.05


@dataclass(frozen=True, eq=False)
class Outliers:
    """Where the training patches lie among the features of a network, as float32 tensors on one device.

    The score of a patch is the distance of its features, scaled to length 1 (Mueller and Hein 2025,
    "Mahalanobis++"), to the nearest state's mean (Lee et al. 2018): Mahalanobis' within the leading
    components, in units of the mean residual variance in all other directions (Moghaddam and Pentland
    1997), and as a root mean square, so that a patch like those trained on scores about 1.
    """

    mean: torch.Tensor  # (feature,)
    components: torch.Tensor  # (component, feature), orthonormal
    whitening: torch.Tensor  # (component, component)
    centres: torch.Tensor  # (state, component), whitened; of the states that were trained on
    residual: torch.Tensor  # () variance in each direction outside the components
    threshold: torch.Tensor  # () passed by 1 % of the validation patches

    def score_torch(self, features: torch.Tensor) -> torch.Tensor:
        """(patch, feature) on the device of the parameters -> (patch,)."""
        # in float32 the last bit depends on a patch's place in its batch; Apple's GPUs have nothing finer
        fine = torch.float32 if features.device.type == "mps" else torch.float64
        centred = _to_length_one(features.to(fine)) - self.mean.to(fine)
        within = centred @ self.components.to(fine).T
        inside = torch.cdist(within @ self.whitening.to(fine), self.centres.to(fine)).square().amin(dim=1)
        outside = (centred.square().sum(dim=1) - within.square().sum(dim=1)).clamp_min(0) / self.residual.to(fine)
        return ((inside + outside) / features.shape[1]).sqrt().float()

    def score(self, features: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """(patch, feature) -> (patch,)."""
        there = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32)).to(self.mean.device)
        distance: npt.NDArray[np.float32] = self.score_torch(there).cpu().numpy()
        return distance

    def to(self, device: torch.device) -> "Outliers":
        """The same on another device."""
        return Outliers(**{item.name: getattr(self, item.name).to(device) for item in fields(self)})


def fit_outliers(
    train_features: npt.ArrayLike, train_truth: npt.ArrayLike, validation_features: npt.ArrayLike
) -> Outliers:
    """Learn where the training patches lie, and how far off one in a hundred of other wells' patches is.

    Parameters
    ----------
    train_features
        (patch, feature) of the training patches.
    train_truth
        (patch,) index of their states.
    validation_features
        (patch, feature) of patches from wells that were not trained on: a network knows its training
        patches too well for a threshold on them to hold elsewhere.

    Raises
    ------
    SettingsError
        If there are fewer than 20 training patches or no validation patch.
    """
    x, truth = np.asarray(train_features, dtype=float), np.asarray(train_truth)
    if len(x) < LEAST_PATCHES or len(np.asarray(validation_features)) == 0:
        raise SettingsError(
            f"{len(x)} training and {len(np.asarray(validation_features))} validation patches do not tell what is "
            f"usual. Expected at least {LEAST_PATCHES} and 1. Annotate more patches."
        )
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    mean = x.mean(axis=0)
    x = x - mean
    count = max(1, min(COMPONENTS, x.shape[1] // 2, len(x) // 8))
    components = np.linalg.eigh(x.T @ x)[1][:, ::-1][:, :count].T
    states = np.unique(truth)
    centre = np.stack([x[truth == state].mean(axis=0) for state in states])
    deviation = x - centre[np.searchsorted(states, truth)]
    within = deviation @ components.T
    whitening = np.linalg.cholesky(np.linalg.inv(shrunk_covariance(within)))
    left_over = (deviation**2).sum() - (within**2).sum()
    residual = max(left_over / len(x) / (x.shape[1] - count), 1e-12) if x.shape[1] > count else 1.0
    arrays = {
        "mean": mean,
        "components": components,
        "whitening": whitening,
        "centres": centre @ components.T @ whitening,
        "residual": np.array(residual),
        "threshold": np.array(np.inf),
    }
    fitted = from_tensors(
        {PREFIX + name: torch.tensor(value.copy(), dtype=torch.float32) for name, value in arrays.items()}
    )
    usual = fitted.score(validation_features)
    threshold = torch.tensor(float(np.quantile(usual, 1 - EXPECTED_SHARE, method="higher")))
    return Outliers(**{**vars(fitted), "threshold": threshold})


def to_tensors(outliers: Outliers) -> dict[str, torch.Tensor]:
    """What is stored beside a network's weights, each name with the prefix "outlier."."""
    return {PREFIX + item.name: getattr(outliers, item.name).cpu().contiguous() for item in fields(Outliers)}


def from_tensors(tensors: Mapping[str, torch.Tensor]) -> Outliers:
    """Take the parameters out of stored tensors; names without the prefix are left alone.

    Raises
    ------
    ClassifierError
        If one is missing, or their shapes do not belong together.
    """
    missing = [item.name for item in fields(Outliers) if PREFIX + item.name not in tensors]
    if missing:
        raise ClassifierError(
            f"The classifier's file of weights has no {PREFIX}{missing[0]}. Copy the classifier folder again."
        )
    outliers = Outliers(**{item.name: tensors[PREFIX + item.name].float() for item in fields(Outliers)})
    count, size = outliers.whitening.shape[:1].numel(), outliers.mean.numel()
    wanted: dict[str, tuple[int, ...]] = {
        "mean": (size,),
        "components": (count, size),
        "whitening": (count, count),
        "centres": (outliers.centres.shape[:1].numel(), count),
        "residual": (),
        "threshold": (),
    }
    for name, shape in wanted.items():
        if getattr(outliers, name).shape != shape:
            raise ClassifierError(
                f"The classifier's {PREFIX}{name} has the shape {tuple(getattr(outliers, name).shape)}, not {shape}. "
                "Copy the classifier folder again."
            )
    return outliers


def judge_outliers(scores: npt.ArrayLike, *, groups: npt.ArrayLike, threshold: float) -> dict[str, Any]:
    """Whether patches, say of a plate, are unlike the training data as a whole.

    Parameters
    ----------
    scores
        (patch,) as `Outliers.score` gives them.
    groups
        (patch,) plate and well of each: one odd well does not make an odd plate, so the share above the
        threshold has an interval that knows of wells.
    threshold
        Of the outliers.

    Returns
    -------
    verdict
        `threshold`; `share_above` it with `low` and `high`; `expected_share` on wells like those of the
        validation; `limit`; `flagged` if even `low` is above the limit; `text`, one sentence.
    """
    above = np.asarray(scores, dtype=float) > threshold
    share = float(above.mean())
    low, high = share_interval(above, groups)
    flagged = low is not None and low > LIMIT_SHARE
    conclusion = "Unlike the training data: do not trust the calls without looking" if flagged else "As expected"
    if not flagged and share > LIMIT_SHARE:
        conclusion = "More than expected, in too few wells to be sure"
    return {
        "threshold": threshold,
        "share_above": share,
        "low": low,
        "high": high,
        "expected_share": EXPECTED_SHARE,
        "limit": LIMIT_SHARE,
        "flagged": flagged,
        "text": f"{share:.1%} of the patches lie further from the training data than {1 - EXPECTED_SHARE:.0%} of "
        f"the validation patches did. {conclusion}.",
    }


def shrunk_covariance(deviation: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Covariance of deviations from a known mean (patch, component), shrunk after Ledoit and Wolf 2004."""
    n, p = deviation.shape
    covariance = deviation.T @ deviation / n
    size = np.trace(covariance) / p
    target = size * np.eye(p)
    distance = ((covariance - target) ** 2).sum()
    doubt = (((deviation**2).sum(axis=1) ** 2).mean() - (covariance**2).sum()) / n
    weight = min(1.0, doubt / distance) if distance > 0 else 1.0
    shrunk: npt.NDArray[np.float64] = (1 - weight) * covariance + weight * target
    # where all patches are alike there is nothing to divide by
    return shrunk + 1e-12 * np.eye(p)


def _to_length_one(features: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(features, dim=1)
