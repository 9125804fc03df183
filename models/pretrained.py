"""Starting weights: from a file, a classifier, the torch cache or the network, fitted to one channel."""

from pathlib import Path

import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

from plates.errors import ClassifierError

from .outliers import PREFIX
from .shelf import WEIGHTS

PUBLISHED = ("imagenet", "kinetics")


def starting_tensors(source: Path | str, *, architecture: str) -> dict[str, torch.Tensor]:
    """Return the state dict that a network of torchvision's name `architecture` starts from.

    Parameters
    ----------
    source
        "imagenet" or "kinetics" for torchvision's own (from the torch cache or the network); a path for a
        state dict (.pth or .safetensors) or the folder of a classifier.

    Raises
    ------
    ClassifierError
        If nobody publishes such weights, or they are not there or cannot be read; both ways to get them are named.
    """
    if source not in PUBLISHED:
        return _from_file(Path(source), architecture=architecture)
    name = _published_name(architecture)
    if source != name:
        offered = "random weights (none given)" if name is None else f"'{name}'"
        raise ClassifierError(
            f"There are no '{source}' weights for {architecture}. Expected {offered} or the path of a file."
        )
    try:
        published = torchvision.models.get_model_weights(architecture).DEFAULT
        tensors: dict[str, torch.Tensor] = published.get_state_dict(progress=False, check_hash=True)
        return tensors
    except (OSError, RuntimeError) as error:  # no network, no room, or a download whose hash is wrong
        raise ClassifierError(_neither_there(architecture, str(error))) from error


def load_backbone(
    network: nn.Module, tensors: dict[str, torch.Tensor], *, stem: str, source: object, architecture: str
) -> None:
    """Load all but the head `fc` into a network of one channel; a stem of three colours is summed over them.

    The sum is exact for a grey image repeated in three channels.

    Parameters
    ----------
    stem
        Name of the first convolution's weight.
    source, architecture
        For the message.

    Raises
    ------
    ClassifierError
        If a tensor is missing, unknown or of another shape.
    """
    backbone = {name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")}
    first = backbone.get(stem)
    if first is not None and first.ndim > 1 and first.shape[1] == 3:
        backbone[stem] = first.sum(dim=1, keepdim=True)
    expected = {name: tensor.shape for name, tensor in network.state_dict().items() if not name.startswith("fc.")}
    found = {name: tensor.shape for name, tensor in backbone.items()}
    if found != expected:
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise ClassifierError(
            f"The weights in {source} are not those of a {architecture}: {len(wrong)} tensors are missing, "
            f"unknown or of another shape, the first is {wrong[0]!r}. Give the file that belongs to "
            f"{architecture}, or the architecture that belongs to the file."
        )
    network.load_state_dict(backbone, strict=False)


def _from_file(path: Path, *, architecture: str) -> dict[str, torch.Tensor]:
    file = path / WEIGHTS if path.is_dir() else path
    if not file.is_file():
        raise ClassifierError(_neither_there(architecture, f"there is no file {file}"))
    try:
        if file.suffix == ".safetensors":
            # a classifier may keep its weights in float16, and where its training patches lie beside them
            return {
                name: tensor.float() if tensor.is_floating_point() else tensor
                for name, tensor in load_file(file).items()
                if not name.startswith(PREFIX)
            }
        tensors: dict[str, torch.Tensor] = torch.load(file, map_location="cpu", weights_only=True)
        if not isinstance(tensors, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
            raise ValueError("it holds other things than named tensors, as a checkpoint of a training does")
        return tensors
    except Exception as error:  # safetensors, pickle and zip each have their own; all mean a damaged file
        raise ClassifierError(
            f"The weights in {file} cannot be read ({error}). Expected a state dict as torchvision publishes "
            "it (.pth) or in safetensors. Download the file again."
        ) from error


def _published_name(architecture: str) -> str | None:
    """Which of the names gives torchvision's weights of a network; None where it has none."""
    if architecture not in torchvision.models.list_models():
        return None
    return "kinetics" if architecture in torchvision.models.list_models(torchvision.models.video) else "imagenet"


def _neither_there(architecture: str, reason: str) -> str:
    name = _published_name(architecture)
    if name is None:
        return f"The weights for {architecture} are not there: {reason}. Correct the path."
    url = torchvision.models.get_model_weights(architecture).DEFAULT.url
    spelled = {"kinetics": "Kinetics", "imagenet": "ImageNet"}[name]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    return (
        f"The {spelled} weights of {architecture} are not there: {reason}. Either let torchvision fetch them "
        f"once (weights '{name}', with network; they are kept in {folder}), or download {url} elsewhere "
        "and give the path of that file as weights."
    )
