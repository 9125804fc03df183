"""Residual networks from torchvision that look at one channel: refractive index instead of colours."""

from collections.abc import Sequence
from pathlib import Path

import torchvision
from torch import nn

from plates.errors import ClassifierError

from .pretrained import load_backbone, starting_tensors

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
        tensors = starting_tensors(weights, architecture=architecture)
        load_backbone(network, tensors, stem="conv1.weight", source=weights, architecture=architecture)
    return network
