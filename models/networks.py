"""Every network a classifier can be: one name, one input channel, a head called `fc`."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from plates.errors import ClassifierError

from .resnet import ARCHITECTURES as FLAT
from .resnet import build_resnet

# Named here and built in models/volumetric.py, which need not be loaded to know a name.
VOLUMETRIC = (
    "small3d",
    "r3d_18",
    "inflated_resnet18",
    "inflated_resnet34",
    "inflated_resnet50",
    "inflated_resnet101",
)
ARCHITECTURES = (*FLAT, *VOLUMETRIC)


def build_network(architecture: str, *, states: Sequence[str], weights: Path | str | None = None) -> nn.Module:
    """Build a network for projections (n, 1, y, x) or, by its name, for volumes (n, 1, z, y, x).

    Parameters
    ----------
    architecture
        One of `ARCHITECTURES`.
    states
        The states to tell apart, in order.
    weights
        None for random weights, a name that the architecture knows ("imagenet", "kinetics"), or a path.

    Raises
    ------
    ClassifierError
        If the architecture is unknown, or the weights cannot be had or do not fit.
    """
    if architecture not in ARCHITECTURES:
        raise ClassifierError(
            f"Architecture {architecture!r} is not known. Expected one of {', '.join(ARCHITECTURES)}."
        )
    if is_volumetric(architecture):
        from .volumetric import build_volumetric

        return build_volumetric(architecture, states=states, weights=weights)
    return build_resnet(architecture, states=states, weights=weights)


def is_volumetric(architecture: str) -> bool:
    """Whether a network of this name looks at volumes."""
    return architecture in VOLUMETRIC
