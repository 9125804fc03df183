"""What a network says about many patches of any kind, without making a choice of it."""

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from models.batches import Batches
from models.classifier import Card, Classifier, fast_dtype, normalise
from models.datasets import Patches


def predict_logits(classifier: Classifier, patches: Patches, *, batch: int = 64) -> npt.NDArray[np.float32]:
    """Logits of every patch, (patch, state); the card's temperature is not applied.

    On a device with native bfloat16 the convolutions use it, as in training and on plates.
    """
    return run(classifier.network, patches, classifier.card, batch=batch)


def predict_features(classifier: Classifier, patches: Patches, *, batch: int = 64) -> npt.NDArray[np.float32]:
    """What the head of the network sees of every patch, (patch, feature)."""
    seen: list[torch.Tensor] = []
    head = classifier.network.get_submodule("fc")

    def keep(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.append(inputs[0].float().cpu())

    hook = head.register_forward_pre_hook(keep)
    try:
        run(classifier.network, patches, classifier.card, batch=batch)
    finally:
        hook.remove()
    features: npt.NDArray[np.float32] = torch.cat(seen).numpy()
    return features


@torch.inference_mode()
def run(
    network: nn.Module, patches: Patches, card: Card, *, px: int | None = None, batch: int = 64
) -> npt.NDArray[np.float32]:
    """Logits of a network that may still be in training; `px` scales the patches down first."""
    network.eval()
    device = next(network.parameters()).device
    parts = []
    # a volume holds as much as many patches
    size = batch if patches.planes is None else max(1, batch // 8)
    for index, _ in Batches(patches, patch_px=card.patch_px).plain(size):
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=uses_bf16(device)):
            parts.append(network(as_input(index.to(device), card, px or card.patch_px)).float().cpu())
    if not parts:
        return np.zeros((0, len(card.states)), dtype=np.float32)
    logits: npt.NDArray[np.float32] = torch.cat(parts).numpy()
    return logits


def as_input(index: torch.Tensor, card: Card, px: int) -> torch.Tensor:
    """Index relative to the medium (n, [z,] y, x) -> what the network sees (n, 1, [z,] px, px)."""
    image = normalise(index, card)
    if px != image.shape[-1]:
        # volumes are made smaller plane by plane: planes lie far apart already
        flat = image.reshape(-1, 1, *image.shape[-2:])
        flat = nn.functional.interpolate(flat, size=(px, px), mode="bilinear", align_corners=False, antialias=True)
        image = flat.reshape(*image.shape[:-2], px, px)
    image = image[:, None]
    return image.contiguous(memory_format=torch.channels_last if image.ndim == 4 else torch.channels_last_3d)


def uses_bf16(device: torch.device) -> bool:
    """Whether this device trains and predicts in bfloat16."""
    return fast_dtype(device) == torch.bfloat16
