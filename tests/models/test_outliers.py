"""Patches and plates unlike the training data, where it is known which they are."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import ledoit_wolf

from models.outliers import Outliers, fit_outliers, from_tensors, judge_outliers, shrunk_covariance, to_tensors
from plates.errors import ClassifierError, SettingsError

FEATURES = 40
WAYS = np.random.default_rng(99).normal(0, 1, (6, FEATURES))  # directions in which features vary
CENTRES = np.random.default_rng(98).normal(2, 1, (5, FEATURES))


def features(
    patches: int, *, seed: int, patches_per_well: int = 40, shift: float = 0.0, noise: float = 0.15
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Features of five states, with a deviation of their own in each well: (features, truth, well)."""
    random = np.random.default_rng(seed)
    truth = random.integers(5, size=patches)
    well = np.arange(patches) // patches_per_well
    of_well = random.normal(0, 0.1, (well.max() + 1, 6))
    inside = (random.normal(0, 0.4, (patches, 6)) + of_well[well]) @ WAYS
    odd = shift * np.random.default_rng(97).normal(0, 1, FEATURES)
    return CENTRES[truth] + inside + odd + random.normal(0, noise, (patches, FEATURES)), truth, well


def fitted(seed: int = 0) -> Outliers:
    train, truth, _ = features(2000, seed=seed)
    return fit_outliers(train, truth, features(1000, seed=seed + 1)[0])


def test_one_in_a_hundred_of_like_patches_is_an_outlier_and_most_of_unlike_ones() -> None:
    outliers = fitted()
    like, _, _ = features(4000, seed=5)
    for unlike in (features(500, seed=6, shift=0.5)[0], features(500, seed=7, noise=0.6)[0], -like[:500]):
        assert (outliers.score(unlike) > float(outliers.threshold)).mean() > 0.8
    assert 0.003 < (outliers.score(like) > float(outliers.threshold)).mean() < 0.025


def test_a_usual_patch_scores_about_one_and_brightness_alone_changes_nothing() -> None:
    outliers = fitted()
    like, _, _ = features(500, seed=8)
    assert np.median(outliers.score(like)) == pytest.approx(1.0, abs=0.15)
    np.testing.assert_allclose(outliers.score(3 * like), outliers.score(like), rtol=1e-3)


def test_the_distance_is_that_of_scipy_and_scikit_learn() -> None:
    """Where nearly all of the variance lies in the components, the score is Mahalanobis' distance within them."""
    train, truth, _ = features(400, seed=9)
    outliers = fit_outliers(train, truth, train)
    unit = train / np.linalg.norm(train, axis=1, keepdims=True)
    centred = unit - unit.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2]
    count = len(outliers.components)
    centres = np.stack([centred[truth == state].mean(axis=0) for state in range(5)])
    deviation = centred - centres[truth]
    inverse = np.linalg.inv(ledoit_wolf(deviation @ axes[:count].T, assume_centered=True)[0])
    beyond = deviation @ axes[count:].T
    variance = (beyond**2).sum() / len(train) / (FEATURES - count)
    for patch in range(5):
        near = min(
            mahalanobis(axes[:count] @ centred[patch], axes[:count] @ centre, inverse) ** 2 for centre in centres
        )
        rest = ((axes[count:] @ centred[patch]) ** 2).sum() / variance
        assert outliers.score(train[patch : patch + 1])[0] == pytest.approx(np.sqrt((near + rest) / FEATURES), rel=1e-3)


def test_shrinking_is_that_of_scikit_learn() -> None:
    deviation = np.random.default_rng(10).normal(0, [1, 2, 3, 4, 5, 6], (30, 6))
    np.testing.assert_allclose(shrunk_covariance(deviation), ledoit_wolf(deviation, assume_centered=True)[0], rtol=1e-9)


def test_a_plate_like_the_training_data_is_rarely_flagged_and_another_nearly_always() -> None:
    outliers = fitted()
    threshold = float(outliers.threshold)
    flagged = {0.0: 0, 0.5: 0}
    for shift in flagged:
        for seed in range(60):
            plate, _, well = features(480, seed=1000 + seed, shift=shift)
            flagged[shift] += judge_outliers(outliers.score(plate), groups=well, threshold=threshold)["flagged"]
    assert flagged[0.0] == 0
    assert flagged[0.5] == 60


def test_one_odd_well_makes_no_odd_plate() -> None:
    above, well = np.zeros(600), np.repeat(np.arange(12), 50)
    above[well == 3] = 1
    one = judge_outliers(above, groups=well, threshold=0.5)
    assert one["share_above"] == pytest.approx(1 / 12)
    assert not one["flagged"]
    assert "too few wells to be sure" in one["text"]
    # as many patches, spread over all wells, are a fault of the plate
    spread = judge_outliers(np.arange(600) % 12 == 0, groups=well, threshold=0.5)
    assert spread["flagged"]
    assert spread["text"].startswith("8.3% of the patches")


def test_stored_tensors_give_the_same_scores_and_leave_others_alone() -> None:
    outliers = fitted()
    stored = to_tensors(outliers)
    assert all(name.startswith("outlier.") and tensor.dtype == torch.float32 for name, tensor in stored.items())
    again = from_tensors({**stored, "fc.1.bias": torch.zeros(5)})
    like = features(50, seed=11)[0]
    np.testing.assert_array_equal(again.score(like), outliers.score(like))
    with pytest.raises(ClassifierError, match=r"no outlier\.mean\. Copy the classifier folder again"):
        from_tensors({name: tensor for name, tensor in stored.items() if name != "outlier.mean"})
    for name in stored:
        with pytest.raises(ClassifierError, match=r"outlier\.\w+ has the shape .* Copy the classifier folder again"):
            from_tensors(stored | {name: torch.zeros(2, 3)})


def test_a_state_without_training_patches_is_no_hindrance_and_too_few_patches_are_refused() -> None:
    train, truth, _ = features(300, seed=12)
    outliers = fit_outliers(train[truth != 2], truth[truth != 2], train)
    assert len(outliers.centres) == 4
    assert np.isfinite(outliers.score(train)).all()
    with pytest.raises(SettingsError, match="5 training and 300 validation patches"):
        fit_outliers(train[:5], truth[:5], train)


def test_features_that_never_vary_do_not_break_it() -> None:
    same = np.ones((50, 8))
    outliers = fit_outliers(same, np.zeros(50, dtype=int), same)
    assert np.isfinite(outliers.score(same)).all()
    assert np.isfinite(outliers.score(np.zeros((2, 8)))).all()
