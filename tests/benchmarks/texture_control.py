"""The honest control: gradient boosting on intensity and texture, which the network has to beat.

If simple features tell the states apart as well as the network does, the network shows nothing and the
simulated plates are a toy. Same patches, same splits, no knowledge of form.
"""

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from sklearn.ensemble import HistGradientBoostingClassifier

from plates.patches import FOREGROUND_INDEX

LEVELS = 8
WINDOW = (-0.007, 0.063)


def texture_features(patches: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Describe each patch by its histogram, moments, co-occurrences, gradients and energy per scale.

    Parameters
    ----------
    patches
        (patch, y, x) refractive index relative to the medium.

    Returns
    -------
    features
        (patch, feature); none depends on where in the patch or in which direction a thing lies.
    """
    return np.stack([_describe(patch.astype(np.float64)) for patch in patches]).astype(np.float32)


def call_states(
    train: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]], features: npt.NDArray[np.float32], *, seed: int = 0
) -> npt.NDArray[np.int64]:
    """Fit on (features, truth) and call the state of other patches."""
    model = HistGradientBoostingClassifier(
        max_iter=300, learning_rate=0.08, l2_regularization=1.0, class_weight="balanced", random_state=seed
    )
    model.fit(*train)
    called: npt.NDArray[np.int64] = model.predict(features).astype(np.int64)
    return called


def _describe(index: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    cell = index[index > FOREGROUND_INDEX]
    histogram = np.histogram(index.clip(*WINDOW), bins=32, range=WINDOW)[0] / index.size
    return np.concatenate(
        [
            histogram,
            _moments(index.ravel()),
            _moments(cell),
            [cell.size / index.size],
            _quantiles(index.ravel()),
            _quantiles(cell),
            *(_cooccurrence(index, distance) for distance in (1, 3, 8)),
            *(_scale(index, sigma) for sigma in (1.0, 2.0, 4.0, 8.0)),
        ]
    )


def _moments(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if values.size == 0:
        return np.zeros(4)
    mean, sd = values.mean(), values.std() + 1e-9
    z = (values - mean) / sd
    return np.array([mean, sd, (z**3).mean(), (z**4).mean()])


def _quantiles(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if values.size == 0:
        return np.zeros(9)
    return np.quantile(values, (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99))


def _cooccurrence(index: npt.NDArray[np.float64], distance: int) -> npt.NDArray[np.float64]:
    """Haralick's contrast, homogeneity, energy, correlation and entropy, over both axes (Haralick 1973)."""
    low, high = WINDOW
    level = ((index - low) / (high - low) * LEVELS).astype(int).clip(0, LEVELS - 1)
    table = np.zeros((LEVELS, LEVELS))
    for one, other in (
        (level[distance:], level[:-distance]),
        (level[:, distance:], level[:, :-distance]),
    ):
        table += np.bincount((one * LEVELS + other).ravel(), minlength=LEVELS**2).reshape(LEVELS, LEVELS)
    table = table + table.T
    table /= table.sum()
    i, j = np.indices(table.shape)
    mean = (table * i).sum()
    variance = (table * (i - mean) ** 2).sum() + 1e-12
    return np.array(
        [
            (table * (i - j) ** 2).sum(),
            (table / (1 + (i - j) ** 2)).sum(),
            (table**2).sum(),
            (table * (i - mean) * (j - mean)).sum() / variance,
            -(table * np.log(table + 1e-12)).sum(),
        ]
    )


def _scale(index: npt.NDArray[np.float64], sigma: float) -> npt.NDArray[np.float64]:
    """Energy of edges and of blobs at one scale."""
    gradient = ndimage.gaussian_gradient_magnitude(index, sigma)
    blobs = ndimage.gaussian_laplace(index, sigma) * sigma**2
    edges = (gradient.mean(), gradient.std(), np.quantile(gradient, 0.95))
    return np.array([*edges, blobs.std(), np.abs(blobs).mean(), *np.quantile(blobs, (0.01, 0.99))])
