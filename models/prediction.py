"""What a network says about many patches of any kind, without making a choice of it."""

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from .batches import Batches
from .classifier import Card, Classifier, fast_dtype, normalise
from .datasets import Patches

LEAST_BF16_PX = 32  # from 16 px, the last stride of a ResNet meets pictures one pixel wide


def predict_logits(classifier: Classifier, patches: Patches, *, batch: int = 64) -> npt.NDArray[np.float32]:
    """Logits of every patch, (patch, state); the card's temperature is not applied.

    On a device with native bfloat16 the convolutions use it and the head does not, as on plates.
    """
    return run(classifier.network, patches, classifier.card, batch=batch)


def predict_features(classifier: Classifier, patches: Patches, *, batch: int = 64) -> npt.NDArray[np.float32]:
    """What the head of the network sees of every patch, (patch, feature)."""
    return predict_both(classifier, patches, batch=batch)[1]


def predict_both(
    classifier: Classifier, patches: Patches, *, batch: int = 64
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Logits (patch, state) and features (patch, feature) of every patch, from one pass."""
    return _run(classifier.network, patches, classifier.card, px=classifier.card.patch_px, batch=batch)


def run(
    network: nn.Module, patches: Patches, card: Card, *, px: int | None = None, batch: int = 64
) -> npt.NDArray[np.float32]:
    """Logits of a network that may still be in training; `px` scales the patches down first."""
    return _run(network, patches, card, px=px or card.patch_px, batch=batch)[0]


@torch.inference_mode()
def _run(
    network: nn.Module, patches: Patches, card: Card, *, px: int, batch: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    network.eval()
    device = next(network.parameters()).device
    head = network.get_submodule("fc")
    seen: list[torch.Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].float()))
    logits, features = [torch.zeros(0, len(card.states))], []
    # a volume holds as much as many patches
    size = batch if patches.planes is None else max(1, batch // 8)
    try:
        for index, _ in Batches(patches, patch_px=card.patch_px).plain(size):
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=uses_bf16(device)):
                network(as_input(index.to(device), card, px))
            features.append(seen.pop(0))
            # again, and not from autocast: logits of 8 bits would cut the probabilities into steps
            logits.append(head(features[-1]).cpu())
            seen.clear()
    finally:
        hook.remove()
    found = torch.cat(features).cpu() if features else torch.zeros(0, 0)
    return torch.cat(logits).numpy(), found.numpy()


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
    """Whether this device predicts in bfloat16."""
    return fast_dtype(device) == torch.bfloat16


def training_precision(device: torch.device, card: Card, px: int) -> torch.autocast:
    """The precision of forward passes that gradients follow: as in prediction, save where gradients are wrong.

    oneDNN (in torch 2.15) computes the gradient of a convolution's weights in bfloat16 on a processor partly from
    memory that nothing wrote, where volumes are small (3 x 3 x 3 kernels on 2 x 2 x 2 voxels) and where a
    stride of two leaves a picture one pixel wide: NaN at times, a wrong finite number more often
    (docs/three_dimensions.md). So volumes, and pictures below `LEAST_BF16_PX`, are trained in float32 there.
    """
    wrong = device.type == "cpu" and (card.planes is not None or px < LEAST_BF16_PX)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=uses_bf16(device) and not wrong)
