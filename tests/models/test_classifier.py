"""A classifier folder: what is saved is what is loaded, and nothing altered passes."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from models.classifier import (
    Card,
    Classifier,
    build_classifier,
    load_classifier,
    made_up_patches,
    normalise,
    predict,
    relative_index,
    resolve_device,
    save_classifier,
    to_analysis_scale,
)
from models.inference import cached_classifier
from plates.errors import ClassifierError, SettingsError
from plates.states import STATES


def small_card(**changes: Any) -> Card:
    return Card(name="small", architecture="resnet18", **({"patch_px": 64} | changes))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Classifier, Path]:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("classifiers") / "small"
    return save_classifier(build_classifier(small_card(weights_dtype="float16")), path), path


@pytest.fixture
def folder(saved: tuple[Classifier, Path], tmp_path: Path) -> Path:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in saved[1].iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def alter(folder: Path, **changes: Any) -> None:
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | changes))


def test_a_loaded_classifier_equals_the_saved_one(saved: tuple[Classifier, Path]) -> None:
    classifier, path = saved
    loaded = load_classifier(path)
    patches = made_up_patches(classifier.card, seed=5, count=3)
    np.testing.assert_array_equal(predict(loaded, patches), predict(classifier, patches))
    assert loaded.card == classifier.card
    assert loaded.card.versions["torch"] == torch.__version__


def test_a_resnet18_in_float16_fits_25_mb_and_keeps_batchnorm_whole(saved: tuple[Classifier, Path]) -> None:
    weights = saved[1] / "weights.safetensors"
    assert weights.stat().st_size < 25e6
    types = {name: tensor.dtype for name, tensor in load_file(weights).items()}
    assert types["layer1.0.conv1.weight"] == torch.float16
    assert types["layer1.0.bn1.running_var"] == torch.float32


def test_float32_weights_come_back_bit_for_bit(tmp_path: Path) -> None:
    classifier = build_classifier(small_card())
    save_classifier(classifier, tmp_path / "full")
    loaded = load_classifier(tmp_path / "full").network.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in classifier.network.state_dict().items())


def test_probabilities_follow_the_temperature() -> None:
    torch.manual_seed(1)
    cold = build_classifier(small_card())
    hot = Classifier(network=cold.network, card=small_card(temperature=3.0), device=cold.device)
    patches = made_up_patches(cold.card, seed=1, count=2)
    log_cold, log_hot = np.log(predict(cold, patches)), np.log(predict(hot, patches))
    np.testing.assert_allclose(log_cold[:, 0] - log_cold[:, 1], 3 * (log_hot[:, 0] - log_hot[:, 1]), rtol=1e-3)


def test_a_missing_folder_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ClassifierError, match=r"There is no classifier folder .*tomoscreen train") as caught:
        load_classifier(tmp_path / "none")
    assert caught.value.exit_code == 7


@pytest.mark.parametrize("name", ["card.json", "weights.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ClassifierError, match=f"has no {name}"):
        load_classifier(folder)


def test_one_altered_bit_of_the_weights_is_found(folder: Path) -> None:
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(content)
    with pytest.raises(ClassifierError, match=r"altered or not copied whole. Copy the classifier folder again"):
        load_classifier(folder)


def test_weights_of_another_network_are_refused_even_with_their_own_hash(folder: Path) -> None:
    save_file({"fc.weight": torch.zeros(1)}, folder / "weights.safetensors")
    digest = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    alter(folder, weights_sha256=digest)
    with pytest.raises(ClassifierError, match="does not hold a resnet18 of 5 states"):
        load_classifier(folder)


def test_other_states_or_another_order_are_refused(folder: Path) -> None:
    alter(folder, states=STATES[::-1])
    with pytest.raises(ClassifierError, match="Expected the states apoptosis, necroptosis, necrosis"):
        cached_classifier(folder, device="cpu")


@pytest.mark.parametrize(
    "change", [{"mean": 0.02}, {"index_window": [-0.007, 0.03]}, {"temperature": 2.0}, {"sd": float("nan")}]
)
def test_an_altered_transform_betrays_itself_on_the_test_input(folder: Path, change: dict[str, Any]) -> None:
    alter(folder, **change)
    with pytest.raises(ClassifierError, match="answers its card's test input"):
        load_classifier(folder)


def test_cards_of_another_format_and_broken_cards_are_refused(folder: Path) -> None:
    alter(folder, card_format=2)
    with pytest.raises(ClassifierError, match="is of format 2, this version reads 1"):
        load_classifier(folder)
    (folder / "card.json").write_text("{}")
    with pytest.raises(ClassifierError, match="is not a classifier's card"):
        load_classifier(folder)


def test_a_trained_classifier_is_never_overwritten(saved: tuple[Classifier, Path]) -> None:
    with pytest.raises(ClassifierError, match="never overwritten"):
        save_classifier(*saved)


def test_missing_pixels_become_medium_and_the_caller_keeps_his_array() -> None:
    counts = torch.tensor([[0.0, 13370.0, 13620.0]])
    index = relative_index(counts, medium_index=1.337)
    torch.testing.assert_close(index, torch.tensor([[0.0, 0.0, 0.025]]))
    assert counts[0, 2] == 13620


def test_the_index_window_clips_before_scaling() -> None:
    card = small_card(index_window=(-0.01, 0.05), mean=0.01, sd=0.02)
    seen = normalise(torch.tensor([-0.5, 0.01, 0.03, 0.5]), card)
    torch.testing.assert_close(seen, torch.tensor([-1.0, 0.0, 1.0, 2.0]))


def test_resampling_keeps_places_and_means() -> None:
    y, x = np.mgrid[:200, :200] * 0.32
    image = torch.from_numpy(np.exp(-((y - 30) ** 2 + (x - 40) ** 2) / 60).astype(np.float32))
    finer = to_analysis_scale(image, voxel_um=(0.32, 0.32))
    assert finer.shape == (400, 400)
    assert float(finer.mean()) == pytest.approx(float(image.mean()), rel=1e-3)
    peak = np.unravel_index(int(finer.argmax()), finer.shape)
    np.testing.assert_allclose((np.array(peak) + 0.5) * 0.16, [30.16, 40.16], atol=0.2)
    assert to_analysis_scale(image, voxel_um=(0.16, 0.16)) is image


def test_a_device_that_is_not_there_is_refused_and_auto_finds_one() -> None:
    assert resolve_device("auto").type in ("cuda", "mps", "cpu")
    with pytest.raises(SettingsError, match="Expected 'auto', 'cpu', 'cuda' or 'mps'"):
        resolve_device("tpu")


def test_the_made_up_patches_are_the_same_for_ever() -> None:
    patches = made_up_patches(small_card(), seed=20250606, count=4)
    assert patches.shape == (4, 64, 64)
    np.testing.assert_allclose(patches.mean(axis=(1, 2)), [0.00202916, 0.00430025, 0.00472735, 0.00405696], rtol=1e-5)
