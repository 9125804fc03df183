"""The control is a fair opponent: it learns texture, and knows nothing of place and direction."""

import numpy as np

from tests.benchmarks.texture_control import call_states, texture_features
from tests.models.made_patches import made_index


def test_features_do_not_depend_on_direction_and_hold_for_an_empty_patch() -> None:
    patch = made_index(4, px=64, random=np.random.default_rng(0))
    turned = np.stack([patch, patch.T, patch[::-1], np.rot90(patch)])
    features = texture_features(turned)
    for other in features[1:]:
        np.testing.assert_allclose(other, features[0], rtol=1e-4, atol=1e-6)
    assert np.isfinite(texture_features(np.zeros((1, 64, 64)))).all()


def test_the_control_tells_textures_apart_and_cannot_tell_what_is_random() -> None:
    random = np.random.default_rng(1)
    truth = np.arange(200) % 5
    features = texture_features(np.stack([made_index(int(k), px=48, random=random) for k in truth]))
    train, test = slice(0, 120), slice(120, 200)
    called = call_states((features[train], truth[train]), features[test])
    assert (called == truth[test]).mean() > 0.9
    shuffled = random.permutation(truth)
    chance = call_states((features[train], shuffled[train]), features[test])
    assert (chance == shuffled[test]).mean() < 0.45
