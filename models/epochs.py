"""One epoch of training: which parts of the network move, at what rate, on patches changed in which way."""

import math

import torch
from torch import nn

from plates.errors import SettingsError

from .batches import Augmentation, Batches
from .checkpoints import Run
from .classifier import Card
from .prediction import as_input, training_precision
from .recipes import Recipe


def parameter_groups(network: nn.Module, recipe: Recipe) -> list[dict[str, object]]:
    """Parameters for the optimiser, each group with its share of the learning rate."""
    # biases and BatchNorm's scales are few and not to be pulled to zero
    groups: list[dict[str, object]] = []
    for is_head, share in ((False, recipe.body_rate), (True, 1.0)):
        part = [value for name, value in network.named_parameters() if name.startswith("fc.") == is_head]
        for decay, chosen in (
            (recipe.weight_decay, [value for value in part if value.ndim > 1]),
            (0.0, [value for value in part if value.ndim <= 1]),
        ):
            groups.append({"params": chosen, "weight_decay": decay, "share": share})
    return groups


def train_epoch(
    under_way: Run,
    batches: Batches,
    weight: torch.Tensor,
    card: Card,
    recipe: Recipe,
    epoch: int,
    px: int,
) -> float:
    """Train once over all patches; the mean loss."""
    # each epoch has numbers of its own, so that a resumed training draws what it would have drawn
    torch.manual_seed(recipe.seed * 10_007 + epoch)
    generator = torch.Generator().manual_seed(recipe.seed * 10_007 + epoch)
    network = under_way.network
    _set_stage(network, recipe, epoch)
    change = change_for(card, noise=recipe.noise, offset=recipe.offset, focus=recipe.focus)
    device = weight.device
    steps = math.ceil(len(batches.truth) / recipe.batch)
    total = torch.zeros((), device=device)
    for step, (index, truth) in enumerate(batches.augmented(recipe.batch, generator=generator, change=change)):
        rate = _rate(recipe, (epoch + step / steps) / recipe.epochs)
        for group in under_way.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        other, kept = truth, 1.0
        if recipe.cutmix > 0 and float(torch.rand((), generator=generator)) < recipe.cutmix:
            index, other, kept = _cut_and_mix(index, truth, generator)
        truth, other = truth.to(device, non_blocking=True), other.to(device, non_blocking=True)
        with training_precision(device, card, px):
            logits = network(as_input(index.to(device, non_blocking=True), card, px)).float()
        loss = _weighted_loss(logits, truth, weight, recipe)
        if kept < 1:
            loss = kept * loss + (1 - kept) * _weighted_loss(logits, other, weight, recipe)
        under_way.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        under_way.optimizer.step()
        total += loss.detach()
    return float(total) / steps


def _set_stage(network: nn.Module, recipe: Recipe, epoch: int) -> None:
    """Training mode for what is to change in this epoch; everything before it stands still."""
    network.train()
    first = "fc" if epoch < recipe.head_epochs else recipe.train_from
    names = [name for name, _ in network.named_parameters()]
    starts = [place for place, name in enumerate(names) if not first or name.startswith(first + ".")]
    if not starts:
        modules = dict.fromkeys(name.rsplit(".", 2)[0] for name in names)
        raise SettingsError(
            f"train_from {first!r} is no part of a {recipe.architecture}. Expected one of {', '.join(modules)}."
        )
    for place, parameter in enumerate(network.parameters()):
        parameter.requires_grad_(place >= starts[0])
    if recipe.norm == "keep":
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def change_for(card: Card, *, noise: float, offset: float, focus: float) -> Augmentation:
    """How much patches may change: strengths are meant for index, another quantity has them by its spread."""
    scale = 1.0 if card.quantity == Card.quantity else card.sd / Card.sd
    return Augmentation(noise=noise * scale, offset=offset * scale, focus=focus)


def _weighted_loss(logits: torch.Tensor, truth: torch.Tensor, weight: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    return nn.functional.cross_entropy(logits, truth, weight=weight, label_smoothing=recipe.label_smoothing)


def _cut_and_mix(
    index: torch.Tensor, truth: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """A rectangle of every patch comes from another one; the share of the patch that is still its own."""
    partner = torch.randperm(len(truth), generator=generator)
    height, width = index.shape[-2:]
    side = math.sqrt(float(torch.rand((), generator=generator)) * 0.5)  # at most half of the area
    top, left = (int(float(torch.rand((), generator=generator)) * (size - side * size + 1)) for size in (height, width))
    rows, columns = slice(top, top + int(side * height)), slice(left, left + int(side * width))
    mixed = index.clone()
    mixed[..., rows, columns] = index[partner][..., rows, columns]
    taken = int(side * height) * int(side * width) / (height * width)
    return mixed, truth[partner], 1 - taken


def _rate(recipe: Recipe, progress: float) -> float:
    """Learning rate: a short linear rise, then half a cosine down to nothing."""
    rise = 0.08
    if progress < rise:
        return recipe.learning_rate * (0.02 + 0.98 * progress / rise)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - rise) / (1 - rise)))
