"""One-channel ResNets against torchvision's own."""

from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from models.resnet import build_resnet
from plates.errors import ClassifierError
from plates.states import STATES


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_logits_equal_torchvisions_for_grey_in_three_channels(architecture: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(architecture, weights=None, num_classes=5).eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    ours = build_resnet(architecture, states=STATES, weights=tmp_path / "weights.pth").eval()
    ours.get_submodule("fc.1").load_state_dict(theirs.fc.state_dict())
    grey = torch.randn(3, 1, 64, 64)
    with torch.inference_mode():
        expected = theirs(grey.expand(3, 3, 64, 64))
        torch.testing.assert_close(ours(grey), expected, atol=1e-5, rtol=1e-5)


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


def test_an_unknown_architecture_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ClassifierError, match=r"'vgg16' is not known. Expected one of resnet18, resnet34"):
        build_resnet("vgg16", states=STATES)


def test_the_head_has_dropout_and_one_output_per_state() -> None:
    head = build_resnet("resnet34", states=STATES).get_submodule("fc")
    assert [type(layer) for layer in head.children()] == [nn.Dropout, nn.Linear]
    assert head.get_parameter("1.weight").shape == (5, 512)
