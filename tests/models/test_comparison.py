"""Comparing two classifiers on the same patches: against a textbook, a known difference, and repeated experiments."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.classifier import Card, Classifier
from models.comparison import compare_calls, compare_classifiers
from plates.errors import SettingsError
from tests.models.made_patches import make_patches


def drawn(
    random: np.random.Generator, *, wells: int, size: int, one: float, other: float, spread: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether two classifiers are right; wells differ by `spread` in how hard they are, for both alike."""
    hard = random.normal(0, spread, wells).repeat(size)
    right = [random.random(wells * size) < np.clip(accuracy + hard, 0, 1) for accuracy in (one, other)]
    return right[0], right[1], np.arange(wells).repeat(size).astype(str)


def test_mcnemars_exact_test_gives_the_textbooks_value() -> None:
    # 1 against 9 discordant pairs: twice the binomial tail (1 + 10) / 2**10
    one = np.array([True] * 20 + [True] + [False] * 9)
    other = np.array([True] * 20 + [False] + [True] * 9)
    found = compare_calls(one, other, groups=np.arange(30) % 6)
    assert found["mcnemar"] == {"only_one_right": 1, "only_other_right": 9, "p_value": pytest.approx(22 / 1024)}
    assert found["difference"]["value"] == pytest.approx(8 / 30)


def test_a_difference_seen_in_every_well_is_sure_and_one_from_a_single_well_is_not() -> None:
    one = np.arange(400) % 2 == 0
    wells = np.repeat(np.arange(10), 40)
    everywhere, somewhere = one.copy(), one.copy()
    everywhere[np.arange(400) % 40 < 4] = True  # two patches more in each well
    somewhere[:40] = True  # twenty patches more, all in the first well
    sure = compare_calls(one, everywhere, groups=wells)
    unsure = compare_calls(one, somewhere, groups=wells)
    assert sure["difference"]["value"] == unsure["difference"]["value"] == pytest.approx(0.05)
    assert sure["mcnemar"] == unsure["mcnemar"]
    assert sure["difference"]["low"] is not None
    assert sure["difference"]["low"] > 0
    assert unsure["difference"]["low"] is not None
    assert unsure["difference"]["low"] <= 0


def test_the_same_wells_are_drawn_for_both_so_that_hard_wells_do_not_blur_the_difference() -> None:
    random = np.random.default_rng(1)
    one, _, wells = drawn(random, wells=20, size=50, one=0.6, other=0.6, spread=0.25)
    other = one | (random.random(len(one)) < 0.08)
    found = compare_calls(one, other, groups=wells)["difference"]
    assert found["low"] is not None
    assert found["high"] is not None
    accuracy = np.array([one[wells == well].mean() for well in np.unique(wells)])
    unpaired = 2 * 1.96 * np.sqrt(2) * accuracy.std() / np.sqrt(20)
    assert found["high"] - found["low"] < unpaired / 3


def test_the_interval_holds_the_true_difference_in_about_95_of_100_experiments() -> None:
    random = np.random.default_rng(2)
    held = 0
    for seed in range(200):
        one, other, wells = drawn(random, wells=12, size=15, one=0.7, other=0.8, spread=0.05)
        found = compare_calls(one, other, groups=wells, seed=seed)["difference"]
        assert found["low"] is not None
        assert found["high"] is not None
        held += found["low"] <= 0.1 <= found["high"]
    assert 184 <= held <= 200


def test_two_that_never_disagree_are_not_certainly_equal_and_few_wells_say_nothing() -> None:
    same = np.ones(60, dtype=bool)
    found = compare_calls(same, same, groups=np.arange(60) % 6)
    assert found["difference"]["value"] == 0
    assert found["difference"]["low"] is not None
    assert found["difference"]["low"] < -0.005
    assert found["mcnemar"]["p_value"] == 1
    few = compare_calls(same, same, groups=np.arange(60) % 4)
    assert few["difference"] == {"value": 0.0, "low": None, "high": None}


class Threshold(torch.nn.Module):
    """Calls a patch by the brightness of its middle."""

    def __init__(self, sign: float) -> None:
        super().__init__()
        self.fc = torch.nn.Identity()
        self.sign = torch.nn.Parameter(torch.tensor(sign))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        middle = image[..., 8:24, 8:24].flatten(1).mean(dim=1) * self.sign
        logits: torch.Tensor = self.fc(torch.stack([middle, -middle], dim=1))
        return logits


def test_classifiers_are_compared_on_the_same_places_and_states_only() -> None:
    whole = make_patches(60, px=32, seed=0, wells=10)
    bright = (whole.counts[:, 24:40, 24:40].mean(axis=(1, 2)) < 13500).astype(np.int64)
    patches = replace(whole, truth=bright, states=("bright", "dark"))
    card = Card(name="made", architecture="resnet18", states=("bright", "dark"), patch_px=32, mean=0.013, sd=0.01)
    good, bad = (Classifier(Threshold(sign).eval(), card, torch.device("cpu")) for sign in (1.0, -1.0))
    found = compare_classifiers(bad, good, seen_by_one=patches, seen_by_other=patches)
    assert found["difference"]["value"] > 0.9
    assert found["other"]["accuracy"]["value"] > 0.95
    assert found["probability"][0].shape == (60, 2)
    for other in (patches.take(np.arange(59)), patches.take(np.arange(60)[::-1]), replace(patches, states=("a", "b"))):
        with pytest.raises(SettingsError, match="made and made cannot be compared"):
            compare_classifiers(bad, good, seen_by_one=patches, seen_by_other=other)
