"""Which heat map finds the mark that decides: methods and stages on a planted cue of full-size patches.

    python -m tests.benchmarks.heat_maps

A ResNet-18 that starts from the shipped classifier learns to tell a dark from a bright disc among four bars of both
kinds; on 200 held-out patches each map is scored by its hottest place and by the heat near the disc. The same for a
network that was never trained. About 3 minutes on one core.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from models.classifier import Classifier, build_classifier, normalise, predict
from models.shelf import SHIPPED, WEIGHTS
from tests.models.planted_cue import CARD, chance, cue_patches, found_cue, train_on

PX, RADIUS, BARS = 160, 9.0, 4
STAGES = ("layer2", "layer3", "layer4")
Maps = dict[str, npt.NDArray[np.float32]]


def compare_maps(classifier: Classifier, patches: npt.NDArray[np.float32]) -> Maps:
    """Heat maps of the called state by method and stage; a network's last stage comes last."""
    features: dict[str, torch.Tensor] = {}

    def keep(name: str, output: torch.Tensor) -> None:
        features[name] = output

    hooks = [
        classifier.network.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: keep(name, out))
        for name in STAGES
    ]
    logits = classifier.network(normalise(torch.from_numpy(patches), classifier.card)[:, None])
    for hook in hooks:
        hook.remove()
    gradients = torch.autograd.grad(logits.amax(dim=1).sum(), list(features.values()))
    maps = {}
    for (name, values), slope in zip(features.items(), gradients, strict=True):
        by_method = {
            "Grad-CAM": values * slope.mean(dim=(2, 3), keepdim=True),  # Selvaraju 2017
            "HiResCAM": values * slope,  # Draelos 2020
            "LayerCAM": values * slope.relu(),  # Jiang 2021
        }
        for method, weighed in by_method.items():
            heat = weighed.sum(dim=1, keepdim=True).relu()
            heat = nn.functional.interpolate(heat, size=patches.shape[1:], mode="bilinear", align_corners=False)
            maps[f"{method} {name}"] = heat[:, 0].detach().numpy()
    return maps


def main() -> None:
    """Print one line a map and network."""
    index, truth, _ = cue_patches(320, px=PX, seed=1, radius=RADIUS, distractors=BARS)
    patches, held_out, marks = cue_patches(200, px=PX, seed=2, radius=RADIUS, distractors=BARS)
    print(f"chance {chance(marks, px=PX, radius=RADIUS):.3f}")
    torch.manual_seed(0)
    untrained = build_classifier(CARD)
    trained = train_on(index, truth, epochs=6, weights=SHIPPED / WEIGHTS)
    for name, classifier in (("trained", trained), ("untrained", untrained)):
        right = float((predict(classifier, patches).argmax(axis=1) == held_out).mean())
        print(f"{name}: accuracy {right:.3f}")
        for which, maps in compare_maps(classifier, patches).items():
            points, heat = found_cue(maps, marks, radius=RADIUS)
            print(f"  {which:16} hottest place at the disc {points:.3f}, heat near it {heat:.3f}")


if __name__ == "__main__":
    main()
