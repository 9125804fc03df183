"""Networks that see death in a patch's volume instead of its projection: three dimensions, one channel."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torchvision
from torch import nn

from plates.errors import ClassifierError

from .networks import VOLUMETRIC
from .pretrained import load_backbone, starting_tensors
from .resnet import DROPOUT, build_resnet

INFLATED = "inflated_"
WIDTHS = (16, 32, 64, 128)
# A tomogram's planes lie 0.8 to 1 um apart: a stem of five reaches over as much as its 7 px would at a third of
# the resolution, and seven would be a whole cell.
DEEPEST_KERNEL = 5


def build_volumetric(architecture: str, *, states: Sequence[str], weights: Path | str | None = None) -> nn.Module:
    """Build a network on (n, 1, z, y, x) with one output per state; any number of planes from 1 up.

    Parameters
    ----------
    architecture
        "small3d": a residual network of 0.9 million parameters for processors without a GPU. "r3d_18":
        torchvision's (Tran et al. 2018, CVPR). "inflated_resnet18" (34, 50, 101): a ResNet on pictures,
        inflated (`inflate`).
    states
        The states to tell apart, in order.
    weights
        None for random weights; a path for a state dict (.pth, .safetensors) or a classifier's folder;
        "kinetics" for torchvision's r3d_18; "imagenet" for an inflated network. An inflated network takes
        the weights of the network on pictures or its own. A stem of three colours is summed over them; the
        head starts new.

    Raises
    ------
    ClassifierError
        If the architecture is unknown or the weights cannot be had or do not fit.
    """
    if architecture not in VOLUMETRIC:
        raise ClassifierError(
            f"Architecture {architecture!r} does not look at volumes. Expected one of {', '.join(VOLUMETRIC)}."
        )
    if architecture.startswith(INFLATED):
        return _inflated(architecture, states, weights)
    network = SmallResNet3d(states=len(states)) if architecture == "small3d" else _r3d_18(len(states))
    if weights is not None:
        tensors = starting_tensors(weights, architecture=architecture)
        load_backbone(network, tensors, stem="stem.0.weight", source=weights, architecture=architecture)
    return network


def inflate(network: nn.Module) -> nn.Module:
    """Turn a ResNet on pictures (n, 1, y, x) into one on volumes (n, 1, z, y, x), in place, and return it.

    Carreira and Zisserman 2017 (CVPR, "I3D"): every kernel is repeated along z and divided by its depth, so
    that a volume whose planes are all alike gives what one plane gave. For that to hold at the first and the
    last plane too, these are continued beyond the border (`_PlaneConv3d`): zeros there would look like a change.
    Kernels of one pixel stay one voxel. Planes are skipped where pixels are, save in the first pooling.
    """
    for name, child in list(network.named_children()):
        if isinstance(child, nn.Conv2d):
            setattr(network, name, _inflated_conv(child))
        elif isinstance(child, nn.BatchNorm2d):
            setattr(network, name, _same_norm(child))
        elif isinstance(child, nn.MaxPool2d):
            # planes are few and coarse: none is dropped by the pooling
            setattr(network, name, nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)))
        elif isinstance(child, nn.AdaptiveAvgPool2d):
            setattr(network, name, nn.AdaptiveAvgPool3d(1))
        else:
            inflate(child)
    return network


class SmallResNet3d(nn.Module):
    """One residual block at each of four widths; the stem drops every second plane and three of four pixels.

    The voxels of a tomogram are five times longer along z than across, so is its blur: the stem brings both
    to about 0.6 x 1.7 um, from where kernels of 3 x 3 x 3 are as good along z as across.
    """

    def __init__(self, *, states: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(1, WIDTHS[0], (5, 7, 7), stride=(2, 4, 4), padding=(2, 3, 3), bias=False),
            nn.BatchNorm3d(WIDTHS[0]),
            nn.ReLU(inplace=True),
        )
        self.layer1 = _Block3d(WIDTHS[0], WIDTHS[0], stride=(1, 1, 1))
        # z has few planes left: it is halved once less often than y and x
        self.layer2 = _Block3d(WIDTHS[0], WIDTHS[1], stride=(1, 2, 2))
        self.layer3 = _Block3d(WIDTHS[1], WIDTHS[2], stride=(2, 2, 2))
        self.layer4 = _Block3d(WIDTHS[2], WIDTHS[3], stride=(2, 2, 2))
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(WIDTHS[3], states))
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """(n, 1, z, y, x) -> (n, state)."""
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(volume)))))
        logits: torch.Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return logits


class _Block3d(nn.Module):
    """The basic residual block of He et al. 2016 (CVPR) in three dimensions."""

    def __init__(self, inward: int, outward: int, *, stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inward, outward, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm3d(outward)
        self.conv2 = nn.Conv3d(outward, outward, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm3d(outward)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if inward != outward:
            self.downsample = nn.Sequential(
                nn.Conv3d(inward, outward, 1, stride=stride, bias=False), nn.BatchNorm3d(outward)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        changed = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out: torch.Tensor = self.relu(changed + self.downsample(x))
        return out


class _PlaneConv3d(nn.Conv3d):
    """A convolution that continues the first and last plane along z and pads zeros along y and x."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        beyond = (self.kernel_size[0] - 1) // 2
        if beyond:
            first, last = input[:, :, :1], input[:, :, -1:]
            ends = (-1, -1, beyond, -1, -1)
            input = torch.cat([first.expand(ends), input, last.expand(ends)], dim=2)
        return super().forward(input)


def _inflated_conv(conv: nn.Conv2d) -> _PlaneConv3d:
    (height, width), (down, right) = conv.kernel_size, conv.stride
    depth = min(height, DEEPEST_KERNEL)
    over, beside = (int(pixels) for pixels in conv.padding)
    inflated = _PlaneConv3d(
        conv.in_channels,
        conv.out_channels,
        (depth, height, width),
        stride=(down, down, right),
        padding=(0, over, beside),
        bias=False,
    )
    inflated.weight = nn.Parameter(conv.weight.detach()[:, :, None].repeat(1, 1, depth, 1, 1) / depth)
    return inflated


def _same_norm(norm: nn.BatchNorm2d) -> nn.BatchNorm3d:
    same = nn.BatchNorm3d(norm.num_features, eps=norm.eps, momentum=norm.momentum)
    same.load_state_dict(norm.state_dict(), assign=True)
    return same


def _inflated(architecture: str, states: Sequence[str], weights: Path | str | None) -> nn.Module:
    flat = architecture.removeprefix(INFLATED)
    if weights is None:
        return inflate(build_resnet(flat, states=states))
    tensors = starting_tensors(weights, architecture=flat)
    stem = tensors.get("conv1.weight")
    network = build_resnet(flat, states=states)
    if stem is not None and stem.ndim == 5:  # a network inflated earlier
        network = inflate(network)
        load_backbone(network, tensors, stem="conv1.weight", source=weights, architecture=architecture)
        return network
    load_backbone(network, tensors, stem="conv1.weight", source=weights, architecture=flat)
    return inflate(network)


def _r3d_18(states: int) -> nn.Module:
    network: nn.Module = torchvision.models.get_model("r3d_18", weights=None)
    stem = nn.Conv3d(1, 64, kernel_size=(3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False)
    # torchvision's own rule for a new convolution
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    network.get_submodule("stem").register_module("0", stem)
    features = network.get_submodule("fc").in_features
    assert isinstance(features, int)
    network.fc = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(features, states))
    return network
