"""Heat maps against patches whose deciding mark is known, and against networks that cannot know it."""

import io

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import nn

from models.classifier import Card, Classifier, build_classifier, predict
from models.explanation import error_pictures, explain, heat_picture
from models.shelf import SHIPPED, WEIGHTS
from tests.models.made_patches import make_patches
from tests.models.planted_cue import CARD, chance, cue_patches, found_cue, train_on

PX = 64
HeldOut = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.float64]]
START = SHIPPED / WEIGHTS


@pytest.fixture(scope="module")
def held_out() -> HeldOut:
    return cue_patches(100, px=PX, seed=2)


@pytest.fixture(scope="module")
def trained() -> Classifier:
    index, truth, _ = cue_patches(192, px=PX, seed=1)
    return train_on(index, truth, epochs=4, weights=START)


def test_the_heat_lies_on_the_mark_that_decides_and_not_on_its_distractors(
    trained: Classifier, held_out: HeldOut
) -> None:
    patches, truth, marks = held_out
    assert (predict(trained, patches).argmax(axis=1) == truth).mean() > 0.95
    points, heat = found_cue(explain(trained, patches), marks)
    assert chance(marks, px=PX) < 0.12
    assert points > 0.55
    assert heat > 0.22


def test_heat_of_a_network_trained_on_shuffled_labels_does_not_find_the_mark(held_out: HeldOut) -> None:
    # Adebayo et al. 2018 (NeurIPS): a map that finds it all the same would draw the image, not the network
    index, truth, _ = cue_patches(192, px=PX, seed=1)
    shuffled = train_on(index, np.random.default_rng(3).permutation(truth), epochs=4, weights=START)
    points, heat = found_cue(explain(shuffled, held_out[0]), held_out[2])
    assert points < 0.4
    assert heat < 0.2


def test_heat_of_an_untrained_network_does_not_find_the_mark(held_out: HeldOut) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        untrained = build_classifier(CARD)
    points, heat = found_cue(explain(untrained, held_out[0]), held_out[2])
    assert points < 0.45
    assert heat < 0.2


def test_covering_the_hottest_places_costs_more_than_covering_others(trained: Classifier, held_out: HeldOut) -> None:
    patches = held_out[0][:40]
    before = predict(trained, patches)
    called = before.argmax(axis=1)
    heat = explain(trained, patches)
    lost = {}
    for name, sign in (("hot", 1), ("cold", -1)):
        score = sign * heat + np.random.default_rng(0).uniform(0, 1e-6, heat.shape)
        covered = score >= np.quantile(score, 0.85, axis=(1, 2), keepdims=True)
        after = predict(trained, np.where(covered, np.float32(0.02), patches))
        lost[name] = float((before - after)[np.arange(len(called)), called].mean())
    assert lost["hot"] > 0.2
    assert lost["cold"] < 0.05


class Corner(nn.Module):
    """A network whose second state is decided by brightness of the first channel, whose first by darkness."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        conv: type[nn.Module] = nn.Conv3d if dimensions == 3 else nn.Conv2d
        pool: type[nn.Module] = nn.AvgPool3d if dimensions == 3 else nn.AvgPool2d
        self.stage = nn.Sequential(pool(4), conv(1, 2, 1, bias=False), nn.ReLU())
        self.late = nn.Sequential(pool(4))
        self.mean = nn.AdaptiveAvgPool3d(1) if dimensions == 3 else nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2, 2, bias=False)
        nn.init.eye_(self.fc.weight)
        with torch.no_grad():
            self.stage.get_parameter("1.weight").copy_(torch.tensor([-1.0, 1.0]).view(2, *[1] * (dimensions + 1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc(torch.flatten(self.mean(self.late(self.stage(x))), 1))
        return out


@pytest.mark.parametrize("shape", [(32, 32), (16, 32, 32)])
def test_a_network_whose_answer_is_known_by_heart_is_explained_in_its_own_places(shape: tuple[int, ...]) -> None:
    network = Corner(len(shape)).eval()
    planes = shape[0] if len(shape) == 3 else None
    card = Card(name="heart", architecture="resnet18", states=("dark", "bright"), patch_px=32, mean=0.02, planes=planes)
    classifier = Classifier(network=network, card=card, device=torch.device("cpu"))
    patch = np.full((1, *shape), 0.02, dtype=np.float32)
    patch[0, ..., :8, :8] = 0.05
    patch[0, ..., 24:, 24:] = 0.0
    bright, dark = (explain(classifier, patch, state=state)[0] for state in (1, 0))
    np.testing.assert_allclose(bright[..., 2:6, 2:6], 1.0, rtol=1e-5)
    np.testing.assert_allclose(bright[..., 12:, 12:], 0.0)
    np.testing.assert_allclose(dark[..., 26:30, 26:30], 1.0, rtol=1e-5)
    np.testing.assert_allclose(dark[..., :20, :20], 0.0)
    np.testing.assert_array_equal(explain(classifier, patch)[0], bright)  # the state that it was called


def test_a_patch_with_nothing_to_see_stays_cold() -> None:
    card = Card(name="heart", architecture="resnet18", states=("dark", "bright"), patch_px=32, mean=0.02)
    classifier = Classifier(network=Corner(2).eval(), card=card, device=torch.device("cpu"))
    heat = explain(classifier, np.full((2, 32, 32), 0.02, dtype=np.float32))
    assert heat.shape == (2, 32, 32)
    assert not heat.any()
    assert explain(classifier, np.zeros((0, 32, 32), dtype=np.float32)).shape == (0, 32, 32)


@pytest.mark.parametrize(
    ("architecture", "planes"),
    [("resnet18", None), ("resnet50", None), ("small3d", 8), ("r3d_18", 4), ("inflated_resnet18", 4)],
)
def test_every_architecture_is_explained_at_the_patches_resolution(architecture: str, planes: int | None) -> None:
    card = Card(name="any", architecture=architecture, patch_px=64, planes=planes, um_per_plane=planes and 1.0)
    classifier = build_classifier(card)
    shape = (2, 64, 64) if planes is None else (2, planes, 64, 64)
    patches = np.random.default_rng(0).uniform(0, 0.05, shape).astype(np.float32)
    with torch.inference_mode():  # as where it is called from
        heat = explain(classifier, patches)
    assert heat.shape == shape
    assert heat.min() >= 0.0
    assert heat.max() <= 1.0
    assert all(parameter.grad is None for parameter in classifier.network.parameters())


def test_frozen_weights_are_explained_as_free_ones(trained: Classifier, held_out: HeldOut) -> None:
    free = explain(trained, held_out[0][:3])
    trained.network.requires_grad_(False)
    try:
        np.testing.assert_array_equal(explain(trained, held_out[0][:3]), free)
    finally:
        trained.network.requires_grad_(True)


def opened(png: bytes) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_a_heat_picture_shows_the_patch_as_it_is_and_covered_where_it_is_hot() -> None:
    patch = np.linspace(0, 0.05, 32 * 32, dtype=np.float32).reshape(32, 32)
    heat = np.zeros_like(patch)
    heat[:8] = 1.0
    picture = opened(heat_picture(patch, heat, window=(0.0, 0.05)))
    plain = np.rint(255 * patch.astype(float) / 0.05)
    assert picture.shape == (32, 68, 3)
    np.testing.assert_array_equal(picture[:, :32], np.repeat(plain[..., None], 3, axis=-1))
    np.testing.assert_array_equal(picture[8:, 36:], picture[8:, :32])
    assert (picture[:8, 36:, 0] > picture[:8, 36:, 2] + 100).all()  # yellow: the hot end of the scale


def test_error_pictures_are_those_of_the_rows_asked_for(trained: Classifier) -> None:
    patches = make_patches(10, px=PX, seed=3)
    pictures = error_pictures(trained, patches, [7, 2])
    assert list(pictures) == [7, 2]
    y, x = patches.corner[7]
    index = patches.counts[7, y : y + PX, x : x + PX] / 1e4 - patches.medium_index[7]
    low, high = trained.card.index_window
    alone = 255 * np.clip((index - low) / (high - low), 0, 1)
    assert np.abs(opened(pictures[7])[:, :PX, 0] - alone).max() <= 1
    assert error_pictures(trained, patches, []) == {}
