"""The control for real single-cell images: gradient boosting on intensities, edges and rings around the middle."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier

from models.datasets import Patches
from models.image_sets import border_median
from plates.counts import COUNTS_PER_INDEX

RINGS_PX = (0, 2, 4, 6, 8, 10, 12, 15, 18, 30)  # of the images as stored, 40 px on a side
STORED_PX = 40


def control_probability(train: Patches, test: Patches, *, seed: int = 0) -> npt.NDArray[np.float64]:
    """Probabilities (patch, state) of the test patches by gradient boosting on `features` of the training patches."""
    model = HistGradientBoostingClassifier(max_iter=200, class_weight="balanced", random_state=seed)
    model.fit(features(train), train.truth)
    probability = np.zeros((len(test), len(test.states)))
    probability[:, model.classes_] = model.predict_proba(features(test))
    return probability


def features(patches: Patches) -> npt.NDArray[np.float32]:
    """Moments, quantiles, gradients, and mean, spread and edges of rings around the middle: (patch, feature)."""
    image = (patches.counts / COUNTS_PER_INDEX - patches.medium_index[:, None, None]).astype(np.float32)
    side = image.shape[-1]
    flat = image.reshape(len(image), -1)
    edge = np.hypot(*np.gradient(image, axis=(1, 2)))
    border = border_median(image)[:, 0, 0]
    columns = [flat.mean(1), flat.std(1), flat.min(1), flat.max(1), border]
    columns += list(np.quantile(flat, (0.05, 0.25, 0.5, 0.75, 0.95), axis=1))
    columns += [edge.mean((1, 2)), edge.std((1, 2)), edge.max((1, 2))]
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    radius = np.hypot(y, x) * STORED_PX / side
    for low, high in pairwise(RINGS_PX):
        ring = (radius >= low) & (radius < high)
        columns += [image[:, ring].mean(1) - border, image[:, ring].std(1), edge[:, ring].mean(1)]
    middle = image[:, side // 5 : -(side // 5), side // 5 : -(side // 5)].reshape(len(image), -1)
    columns += [middle.std(1), middle.max(1) - border, middle.min(1) - border]
    return np.stack(columns, axis=1).astype(np.float32)
