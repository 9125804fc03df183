"""One-channel ResNets against torchvision's own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from models.classifier import Card, build_classifier, save_classifier
from models.networks import build_network
from models.outliers import fit_outliers
from models.resnet import build_resnet
from plates.errors import ClassifierError
from plates.states import STATES


def pictures(count: int, *, channels: int) -> torch.Tensor:
    """Soft blobs that differ from picture to picture: in white noise all pictures look alike to deep layers."""
    coarse = 2 * torch.randn(count, channels, 6, 6) + torch.randn(count, channels, 1, 1)
    return nn.functional.interpolate(coarse, size=96, mode="bicubic")


def publish(architecture: str, path: Path, *, zipped: bool = True) -> nn.Module:
    """Write a network of torchvision's as it publishes them, with statistics that a training would leave."""
    torch.manual_seed(0)
    network: nn.Module = torchvision.models.get_model(architecture, weights=None)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.uniform_(module.weight, 0.1, 0.4)
            nn.init.normal_(module.bias, std=0.1)
    network.train()(pictures(16, channels=3))
    torch.save(network.state_dict(), path, _use_new_zipfile_serialization=zipped)
    return network.eval()


@pytest.mark.parametrize("architecture", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_logits_equal_torchvisions_for_grey_in_three_channels(architecture: str, tmp_path: Path) -> None:
    theirs = publish(architecture, tmp_path / "weights.pth")
    ours = build_resnet(architecture, states=STATES, weights=tmp_path / "weights.pth").eval()
    head = theirs.get_submodule("fc").state_dict()
    ours.get_submodule("fc.1").load_state_dict({name: tensor[: len(STATES)] for name, tensor in head.items()})
    grey = pictures(4, channels=1)
    colours = grey.expand(4, 3, 96, 96)
    with torch.inference_mode():
        expected, found = theirs(colours)[:, : len(STATES)], ours(grey)
        exactly = theirs.double()(colours.double())[:, : len(STATES)]
        found_exactly = ours.double()(grey.double())
    assert float(exactly.std(dim=0).max()) > 0.01  # pictures differ: equal logits say something
    torch.testing.assert_close(found_exactly, exactly, atol=1e-5, rtol=0.0)
    # in single precision no further from theirs than theirs are from exact: a hundred random layers multiply rounding
    rounding = float((expected - exactly).abs().max())
    torch.testing.assert_close(found, expected, atol=max(1e-5, 3 * rounding), rtol=0.0)


def test_weights_in_torchs_older_file_format_are_read_too(tmp_path: Path) -> None:
    theirs = publish("resnet18", tmp_path / "weights.pth", zipped=False)
    ours = build_resnet("resnet18", states=STATES, weights=tmp_path / "weights.pth")
    assert torch.equal(ours.get_parameter("layer4.1.conv2.weight"), theirs.get_parameter("layer4.1.conv2.weight"))


def test_weights_in_safetensors_and_in_torchvisions_format_are_the_same(tmp_path: Path) -> None:
    state = torchvision.models.resnet18(weights=None).state_dict()
    torch.save(state, tmp_path / "weights.pth")
    save_file(state, tmp_path / "weights.safetensors")
    one = build_resnet("resnet18", states=STATES, weights=tmp_path / "weights.pth")
    other = build_resnet("resnet18", states=STATES, weights=tmp_path / "weights.safetensors")
    assert torch.equal(one.get_parameter("conv1.weight"), other.get_parameter("conv1.weight"))
    assert torch.equal(one.get_parameter("conv1.weight"), state["conv1.weight"].sum(1, keepdim=True))


def test_imagenet_weights_come_from_the_torch_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    published = torchvision.models.resnet18(weights=None).state_dict()
    (tmp_path / "checkpoints").mkdir()
    name = torchvision.models.ResNet18_Weights.DEFAULT.url.rsplit("/", 1)[1]
    torch.save(published, tmp_path / "checkpoints" / name)
    network = build_resnet("resnet18", states=STATES, weights="imagenet")
    assert torch.equal(network.get_parameter("layer1.0.conv1.weight"), published["layer1.0.conv1.weight"])


def test_without_cache_and_network_one_error_names_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def no_network(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(ClassifierError) as caught:
        build_resnet("resnet101", states=STATES, weights="imagenet")
    text = str(caught.value)
    assert "Network is unreachable" in text
    assert "let torchvision fetch them once" in text
    assert "resnet101-cd907fc2.pth" in text


def test_a_missing_file_a_damaged_file_and_a_foreign_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ClassifierError, match="there is no file"):
        build_resnet("resnet18", states=STATES, weights=tmp_path / "none.pth")
    (tmp_path / "cut.pth").write_bytes(b"PK half a file")
    with pytest.raises(ClassifierError, match="cannot be read"):
        build_resnet("resnet18", states=STATES, weights=tmp_path / "cut.pth")
    torch.save(torchvision.models.resnet34(weights=None).state_dict(), tmp_path / "34.pth")
    with pytest.raises(ClassifierError, match="not those of a resnet18"):
        build_resnet("resnet18", states=STATES, weights=tmp_path / "34.pth")


def test_a_checkpoint_of_a_training_is_no_state_dict(tmp_path: Path) -> None:
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}, "epoch": 3}, tmp_path / "last.pth")
    with pytest.raises(ClassifierError, match=r"cannot be read \(it holds other things than named tensors"):
        build_resnet("resnet18", states=STATES, weights=tmp_path / "last.pth")


@pytest.mark.parametrize("architecture", ["resnet18", "inflated_resnet18"])
def test_a_classifier_that_knows_outliers_is_a_start_for_others(architecture: str, tmp_path: Path) -> None:
    built = build_classifier(Card(name="flat", architecture="resnet18", patch_px=32))
    features = np.random.default_rng(0).random((40, 512))
    knowing = replace(built, outliers=fit_outliers(features, np.arange(40) % 5, features))
    save_classifier(knowing, tmp_path / "flat")
    network = build_network(architecture, states=("a", "b"), weights=tmp_path / "flat")
    norm = "layer4.1.bn2.weight"
    assert torch.equal(network.get_parameter(norm), built.network.get_parameter(norm))
    first, flat = (of.get_parameter("conv1.weight") for of in (network, built.network))
    assert torch.allclose(first if first.ndim == 4 else first.sum(dim=2), flat, atol=1e-6)


def test_an_unknown_architecture_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ClassifierError, match=r"'vgg16' is not known. Expected one of resnet18, resnet34"):
        build_resnet("vgg16", states=STATES)


def test_the_head_has_dropout_and_one_output_per_state() -> None:
    head = build_resnet("resnet34", states=STATES).get_submodule("fc")
    assert [type(layer) for layer in head.children()] == [nn.Dropout, nn.Linear]
    assert head.get_parameter("1.weight").shape == (5, 512)
