"""A trained network goes on with few patches of another kind: BatchNorm first, then the head, then the layers."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import nn

from .batches import Augmentation, Batches, class_weights
from .classifier import Card, Classifier
from .datasets import Patches
from .epochs import change_for
from .prediction import as_input, run, training_precision, uses_bf16

Norm = Literal["keep", "recalculate", "update"]
NORMS: tuple[Norm, ...] = ("keep", "recalculate", "update")


@dataclass(frozen=True)
class Tuning:
    """How a trained network is tuned to few patches.

    `norm` says what becomes of BatchNorm's means and variances: "keep" leaves those of the old patches,
    "recalculate" replaces them by those of the new patches and then holds them, "update" takes each batch's
    own in training, as a training from scratch does, and ends (`settle`) with those of the new patches.
    `head_steps` steps train the head alone, `steps` then everything, a layer by `layer_decay` slower than the
    one above it: the first layers see edges and grains, which are much the same in every cell. `rehearsal` is
    the share of old patches in every batch, if there are any; `focus` is as in `batches.Augmentation`.
    """

    norm: Norm = "update"
    head_steps: int = 30
    steps: int = 160
    batch: int = 32
    learning_rate: float = 1e-3
    layer_decay: float = 0.85
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    rehearsal: float = 0.25
    focus: float = 0.3
    settle: bool = True
    seed: int = 0


# What is commonly done, to be compared with: everything at once, at one rate, statistics by the batch.
NAIVE = Tuning(
    norm="update",
    head_steps=0,
    learning_rate=1e-3,
    layer_decay=1.0,
    rehearsal=0.0,
    focus=0.0,
    settle=False,
)


def fine_tune(classifier: Classifier, patches: Patches, tuning: Tuning, *, old: Patches | None = None) -> nn.Module:
    """Tune a copy of a classifier's network on all of the patches, whatever their split.

    The schedule is fixed: few patches leave none to choose an epoch by, and an epoch chosen on a handful of
    wells is chosen by chance.

    Parameters
    ----------
    classifier
        Left as it is.
    patches
        The few new ones; their states are the classifier's.
    tuning
        How.
    old
        Patches of the kind that the classifier knows, for rehearsal.

    Returns
    -------
    network
        In evaluation mode, on the classifier's device. On one kind of CPU with one number of threads it
        depends on classifier, patches and tuning alone.
    """
    network = copy.deepcopy(classifier.network).requires_grad_(True)
    network.to(memory_format=torch.channels_last if patches.planes is None else torch.channels_last_3d)
    with torch.random.fork_rng():
        torch.manual_seed(tuning.seed)
        generator = torch.Generator().manual_seed(tuning.seed)
        if tuning.norm == "recalculate":
            recalculate_norm(network, patches, classifier.card)
        for steps, head_only in ((tuning.head_steps, True), (tuning.steps, False)):
            if steps:
                _train(network, patches, old, classifier.card, tuning, steps, head_only=head_only, generator=generator)
        if tuning.norm == "update" and tuning.settle:
            recalculate_norm(network, patches, classifier.card)
    return network.requires_grad_(True).eval()


def choose_norm(
    classifier: Classifier, patches: Patches, tuning: Tuning, *, validation: Patches, old: Patches | None = None
) -> tuple[Norm, dict[str, float]]:
    """Choose what becomes of BatchNorm by tuning each way, half as long, and judging on wells not tuned to.

    Without validation wells a third of the patches' wells is put aside for it.

    Returns
    -------
    norm
        The one with the lowest log loss; `tuning`'s own where there are fewer than three wells.
    log_loss
        Of each, in nats per patch; empty where nothing could be measured.
    """
    training, judged = patches, validation
    if len(judged) == 0:
        wells = np.unique(patches.group)
        if len(wells) < 3:
            return tuning.norm, {}
        aside = np.random.default_rng(tuning.seed).permutation(wells)[: len(wells) // 3]
        is_aside = np.isin(patches.group, aside)
        training, judged = (patches.take(np.flatnonzero(part)) for part in (~is_aside, is_aside))
    losses: dict[str, float] = {}
    for norm in NORMS:
        shorter = replace(tuning, norm=norm, head_steps=tuning.head_steps // 2, steps=tuning.steps // 2)
        network = fine_tune(classifier, training, shorter, old=old)
        logits = torch.from_numpy(run(network, judged, classifier.card))
        losses[norm] = float(nn.functional.cross_entropy(logits, torch.from_numpy(judged.truth)))
    return min(NORMS, key=lambda norm: losses[norm]), losses


def recalculate_norm(network: nn.Module, patches: Patches, card: Card, *, passes: int = 2) -> None:
    """Replace the means and variances of every BatchNorm by those of these patches, in place; no state is used.

    After Li et al. 2018 (Pattern Recognition 80, "Adaptive Batch Normalization"): much of what differs between
    two instruments or cell lines is the level and spread of each channel.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches, each counting alike
        norm.train()
    still = Augmentation(noise=0.0, offset=0.0, focus=0.0)
    generator = torch.Generator().manual_seed(0)  # in random order: a batch of one well is no sample of all
    batches = Batches(patches, patch_px=card.patch_px)
    size = 64 if patches.planes is None else 8
    device = next(network.parameters()).device
    with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=uses_bf16(device)):
        for _ in range(passes):
            for index, _ in batches.augmented(size, generator=generator, change=still):
                network(as_input(index.to(device), card, card.patch_px))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def _train(
    network: nn.Module,
    patches: Patches,
    old: Patches | None,
    card: Card,
    tuning: Tuning,
    steps: int,
    *,
    head_only: bool,
    generator: torch.Generator,
) -> None:
    _set_modes(network, tuning, head_only=head_only)
    device = next(network.parameters()).device
    optimizer = torch.optim.AdamW(_groups(network, tuning, head_only=head_only), lr=tuning.learning_rate)
    rates = [group["lr"] for group in optimizer.param_groups]
    usual = Augmentation()
    change = change_for(card, noise=usual.noise, offset=usual.offset, focus=tuning.focus)
    rehearsed = round(tuning.batch * tuning.rehearsal) if old is not None else 0
    drawn = [_endless(patches, tuning.batch - rehearsed, card, generator, change)]
    if old is not None and rehearsed:
        drawn.append(_endless(old, rehearsed, card, generator, change))
    for step in range(steps):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps)) * min(1.0, (step + 1) / 10)
        optimizer.zero_grad(set_to_none=True)
        # new and old patches pass one after the other: a batch of both would be normalised as neither
        for source in drawn:
            index, truth, weight = (part.to(device) for part in next(source))
            with training_precision(device, card, card.patch_px):
                logits = network(as_input(index, card, card.patch_px)).float()
            each = nn.functional.cross_entropy(logits, truth, label_smoothing=tuning.label_smoothing, reduction="none")
            ((each * weight).sum() / tuning.batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _endless(
    patches: Patches, size: int, card: Card, generator: torch.Generator, change: Augmentation
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Batches (index, truth, weight) for ever; the weights make all states count alike."""
    batches = Batches(patches, patch_px=card.patch_px)
    weight = torch.from_numpy(class_weights(patches.truth, states=len(card.states)))
    while True:
        for index, truth in batches.augmented(size, generator=generator, change=change):
            yield index, truth, weight[truth]


def _set_modes(network: nn.Module, tuning: Tuning, *, head_only: bool) -> None:
    network.train(not head_only)
    network.get_submodule("fc").train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train(tuning.norm == "update")
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith("fc.") or not head_only)


def _groups(network: nn.Module, tuning: Tuning, *, head_only: bool) -> list[dict[str, object]]:
    """Parameters by layer, each layer slower than the one above it."""
    named = [(name, value) for name, value in network.named_parameters() if value.requires_grad]
    layers = list(dict.fromkeys(name.split(".")[0] for name, _ in named))
    # the head alone is a small convex problem and takes larger steps
    fastest = tuning.learning_rate * (4.0 if head_only else 1.0)
    groups: list[dict[str, object]] = []
    for name, value in named:
        depth = len(layers) - 1 - layers.index(name.split(".")[0])
        decay = tuning.weight_decay if value.ndim > 1 else 0.0
        groups.append({"params": [value], "lr": fastest * tuning.layer_decay**depth, "weight_decay": decay})
    return groups
