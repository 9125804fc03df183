"""Where in a patch a classifier saw what it called: a heat map, and pictures of it for reports."""

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from .batches import Batches
from .classifier import Classifier, normalise
from .datasets import Patches

# The coarsest map that still tells parts of a cell apart: 20 x 20 for a patch of 160 px, 1.3 um each.
COARSEST = 8
BATCH_PX = 16 * 160 * 160
# Viridis at equal steps: readable with any colour vision, and in grey.
HEAT = np.array([(68, 1, 84), (65, 68, 135), (42, 120, 142), (34, 168, 132), (122, 209, 81), (253, 231, 37)], float)
MOST_COVER = 0.7

Stack = npt.NDArray[np.float32]


def explain(classifier: Classifier, patches: Stack, *, state: int | None = None) -> Stack:
    """Show which places of each patch speak for a state.

    Grad-CAM (Selvaraju et al. 2017, ICCV): feature maps weighted by how the state's logit rises with each
    map's mean, summed, cut at 0. The feature maps are those of the last stage that is at most eight times
    coarser than the patch. The last stage of all, which the method's authors took for photographs, has
    5 x 5 places in a patch of 160 px: less than a cell's parts. `tests/benchmarks/heat_maps.py` compares
    stages and methods on a planted cue.

    Parameters
    ----------
    classifier
        Of projections or of volumes.
    patches
        (patch, y, x) or (patch, z, y, x) index relative to the medium, at the classifier's scale, as for
        `predict`.
    state
        Index of the state to explain; None for the one that each patch was called.

    Returns
    -------
    maps
        The patches' shape; 0 where nothing speaks for the state, 1 at each patch's hottest place. All 0
        in a patch where no place speaks for it.
    """
    maps = np.zeros(patches.shape, dtype=np.float32)
    if len(patches) == 0:
        return maps
    # a caller who predicts without gradients gets his explanation all the same
    with torch.inference_mode(False), torch.enable_grad():
        first = _as_input(classifier, patches[:1])
        stage = _find_stage(classifier.network, first)
        size = max(1, BATCH_PX // first[0].numel())
        for start in range(0, len(patches), size):
            seen = _as_input(classifier, patches[start : start + size])
            maps[start : start + size] = _heat(classifier.network, stage, seen, state).cpu().numpy()
    return maps


def error_pictures(classifier: Classifier, patches: Patches, rows: Sequence[int]) -> dict[int, bytes]:
    """Picture each chosen patch beside what made the classifier call it as it did: {row: PNG}."""
    chosen = patches.take(np.asarray(rows, dtype=np.int64))
    pictures: list[bytes] = []
    # few at a time: volumes in full precision are large
    for index, _ in Batches(chosen, patch_px=classifier.card.patch_px).plain(8):
        seen = index.numpy()
        heat = explain(classifier, seen)
        window = classifier.card.index_window
        pictures += [heat_picture(patch, hot, window=window) for patch, hot in zip(seen, heat, strict=True)]
    return dict(zip((int(row) for row in rows), pictures, strict=True))


def heat_picture(patch: Stack, heat: Stack, *, window: tuple[float, float]) -> bytes:
    """Draw a patch and, to its right, the same patch under its heat map, as one PNG.

    Parameters
    ----------
    patch, heat
        (y, x), or (z, y, x): of a volume the maxima along z are drawn.
    window
        Index relative to the medium that is drawn black and white.
    """
    grey = np.repeat(_grey(patch, window)[..., None], 3, axis=-1)
    warmth = np.clip(_flat(heat), 0.0, 1.0)
    steps = np.linspace(0.0, 1.0, len(HEAT))
    colour = np.stack([np.interp(warmth, steps, HEAT[:, channel]) for channel in range(3)], axis=-1)
    # cold places stay as they are: what lies there must be seen, too
    cover = MOST_COVER * warmth[..., None]
    gap = np.full((len(grey), 4, 3), 255.0)
    return _png(np.concatenate([grey, gap, (1 - cover) * grey + cover * colour], axis=1))


def _as_input(classifier: Classifier, patches: Stack) -> torch.Tensor:
    index = torch.from_numpy(np.ascontiguousarray(patches, dtype=np.float32)).to(classifier.device)
    return normalise(index, classifier.card)[:, None]


def _find_stage(network: nn.Module, example: torch.Tensor) -> nn.Module:
    """The last part of a network whose output is a map that is fine enough.

    Only the network's direct parts are asked, which run one after the other: everything that the head
    learns goes through each. Parts deeper down can be bypassed by the connections of a residual block.
    """
    sides: list[tuple[nn.Module, int]] = []

    def note(part: nn.Module, _: object, output: torch.Tensor) -> None:
        if output.ndim == example.ndim:
            sides.append((part, min(output.shape[-2:])))

    hooks = [part.register_forward_hook(note) for part in network.children()]
    try:
        with torch.no_grad():
            network(example)
    finally:
        for hook in hooks:
            hook.remove()
    least = min(example.shape[-2:]) / COARSEST
    return [part for part, side in sides if side >= least][-1]


def _heat(network: nn.Module, stage: nn.Module, seen: torch.Tensor, state: int | None) -> torch.Tensor:
    kept: list[torch.Tensor] = []

    def cut(_: nn.Module, __: object, output: torch.Tensor) -> torch.Tensor:
        # gradients are wanted from here on, whether or not weights before or after are frozen
        kept.append(output.detach().requires_grad_())
        return kept[0]

    hook = stage.register_forward_hook(cut)
    try:
        logits = network(seen).float()
    finally:
        hook.remove()
    called = logits.argmax(dim=1) if state is None else torch.full((len(seen),), state, device=seen.device)
    features = kept[0]
    (gradient,) = torch.autograd.grad(logits.gather(1, called[:, None]).sum(), features)
    places = tuple(range(2, features.ndim))
    heat = (features.detach() * gradient.mean(dim=places, keepdim=True)).sum(dim=1, keepdim=True).relu()
    between = "bilinear" if heat.ndim == 4 else "trilinear"
    heat = nn.functional.interpolate(heat, size=seen.shape[2:], mode=between, align_corners=False)[:, 0]
    hottest = heat.flatten(1).amax(dim=1).view(-1, *[1] * (heat.ndim - 1))
    return torch.where(hottest > 0, heat / hottest, 0.0)


def _flat(image: Stack) -> npt.NDArray[np.float64]:
    flat = image.astype(np.float64)
    return flat.max(axis=0) if flat.ndim == 3 else flat


def _grey(patch: Stack, window: tuple[float, float]) -> npt.NDArray[np.float64]:
    low, high = window
    return 255.0 * np.clip((_flat(patch) - low) / (high - low), 0.0, 1.0)


def _png(image: npt.NDArray[np.float64]) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.rint(image).astype(np.uint8)).save(file, format="PNG", optimize=True)
    return file.getvalue()
