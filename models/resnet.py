"""Residual networks from torchvision that look at one channel: refractive index instead of colours."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

from plates.errors import ClassifierError

ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "resnet101")
DROPOUT = 0.2


def build_resnet(architecture: str, *, states: Sequence[str], weights: Path | str | None = None) -> nn.Module:
    """Build a torchvision ResNet with a one-channel stem and one output per state.

    Parameters
    ----------
    architecture
        "resnet18", "resnet34", "resnet50" or "resnet101".
    states
        The states to tell apart, in order.
    weights
        None for random weights; "imagenet" for torchvision's own (from the torch cache or the network);
        a path for a file of theirs (.pth) or a state dict in safetensors. The stem takes the sum of the
        RGB weights, which is exact for a grey image repeated in three channels; the head starts new.

    Raises
    ------
    ClassifierError
        If the architecture is unknown or the weights cannot be had or do not fit.
    """
    if architecture not in ARCHITECTURES:
        raise ClassifierError(
            f"Architecture {architecture!r} is not known. Expected one of {', '.join(ARCHITECTURES)}."
        )
    network: nn.Module = torchvision.models.get_model(architecture, weights=None)
    network.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    # torchvision's own rule for a new convolution
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    features = network.get_submodule("fc").in_features
    assert isinstance(features, int)
    network.fc = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(features, len(states)))
    if weights is not None:
        _load_backbone(network, architecture, weights)
    return network


def _load_backbone(network: nn.Module, architecture: str, weights: Path | str) -> None:
    if weights == "imagenet":
        tensors = _imagenet_weights(architecture)
    else:
        tensors = _read_weights(Path(weights), architecture)
    backbone = {name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")}
    stem = backbone.get("conv1.weight")
    if stem is not None and stem.ndim == 4 and stem.shape[1] == 3:
        backbone["conv1.weight"] = stem.sum(dim=1, keepdim=True)
    expected = {name: tensor.shape for name, tensor in network.state_dict().items() if not name.startswith("fc.")}
    found = {name: tensor.shape for name, tensor in backbone.items()}
    if found != expected:
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise ClassifierError(
            f"The weights in {weights} are not those of a {architecture}: {len(wrong)} tensors are missing, "
            f"unknown or of another shape, the first is {wrong[0]!r}. Give the file that belongs to "
            f"{architecture}, or the architecture that belongs to the file."
        )
    network.load_state_dict(backbone, strict=False)


def _read_weights(path: Path, architecture: str) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise ClassifierError(_neither_there(architecture, f"there is no file {path}"))
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return tensors
    except Exception as error:  # safetensors, pickle and zip each have their own; all mean a damaged file
        raise ClassifierError(
            f"The weights in {path} cannot be read ({error}). Expected a state dict as torchvision publishes "
            "it (.pth) or in safetensors. Download the file again."
        ) from error


def _imagenet_weights(architecture: str) -> dict[str, torch.Tensor]:
    try:
        published = torchvision.models.get_model_weights(architecture).DEFAULT
        tensors: dict[str, torch.Tensor] = published.get_state_dict(progress=False, check_hash=True)
        return tensors
    except (OSError, RuntimeError) as error:  # no network, no room, or a download whose hash is wrong
        raise ClassifierError(_neither_there(architecture, str(error))) from error


def _neither_there(architecture: str, reason: str) -> str:
    url = torchvision.models.get_model_weights(architecture).DEFAULT.url
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    return (
        f"The ImageNet weights of {architecture} are not there: {reason}. Either let torchvision fetch them "
        f"once (weights 'imagenet', with network; they are kept in {folder}), or download {url} elsewhere "
        "and give the path of that file as weights."
    )
