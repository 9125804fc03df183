"""Train a classifier on annotated patches: best epoch by held-out wells, resumed after an interruption."""

import csv
import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from scipy.special import softmax
from torch import nn

from models.calibration import fit_temperature
from models.classifier import (
    Card,
    Classifier,
    fast_dtype,
    normalise,
    refuse_existing,
    resolve_device,
    save_classifier,
)
from models.datasets import Batches, Patches, Projections, class_weights, read_patches, split_wells
from models.evaluation import evaluate
from models.resnet import build_resnet
from plates.errors import SettingsError
from plates.patches import PATCH_PX
from plates.states import STATES

RECORD = "training.csv"


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how a network is trained.

    The first `small_share` of the epochs sees patches at `small_px`, a quarter of the work at half the
    side; the rest, from which the best epoch is chosen, sees them at full size. `weights` is None,
    "imagenet" or the path of a file.
    """

    architecture: str = "resnet101"
    weights: str | None = None
    epochs: int = 16
    batch: int = 32
    seed: int = 0
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    small_px: int = 80
    small_share: float = 0.7
    patience: int | None = None
    patch_px: int = PATCH_PX
    weights_dtype: Literal["float32", "float16"] = "float16"

    def start(self) -> Path | Literal["imagenet"] | None:
        """The starting weights, as `build_resnet` takes them."""
        if self.weights == "imagenet":
            return "imagenet"
        return None if self.weights is None else Path(self.weights)

    def pixels(self, epoch: int) -> int:
        """Side of the patches in an epoch; the last epoch is always at full size."""
        small = min(int(self.small_share * self.epochs), self.epochs - 1)
        return self.small_px if epoch < small else self.patch_px


@dataclass(frozen=True)
class Epoch:
    """One line of the training record; `accuracy` is the mean recall of the states, on validation wells."""

    epoch: int
    epochs: int
    px: int
    train_loss: float
    validation_loss: float
    accuracy: float
    seconds: float
    images_per_second: float


def train(
    table: pd.DataFrame,
    *,
    out: Path,
    recipe: Recipe,
    name: str | None = None,
    trained_on: str = "",
    command: str = "",
    device: str = "auto",
    open_plate: Callable[[Path], Projections] | None = None,
    medium_of: Callable[[Path], Callable[[str, int, int], float]] | None = None,
    progress: Callable[[Epoch], None] | None = None,
) -> Classifier:
    """Train a classifier on a table of annotated patches and write its folder.

    Parameters
    ----------
    table
        As `datasets.read_annotations` returns it. Without a `split` column whole wells are dealt to
        train (70 %), validation (15 %) and test (15 %).
    out
        Folder to make; the checkpoint of a training under way is kept beside it (`<out>.training`).
    recipe
        How to train.
    name, trained_on, command
        For the card: the classifier's name (by default the folder's), what its patches show, and the
        command that made it.
    device
        "auto", "cpu", "cuda" or "mps".
    open_plate, medium_of
        As in `datasets.read_patches`.
    progress
        Called after each epoch.

    Raises
    ------
    SettingsError
        If the table does not fit its plates, or no validation well is left.
    ClassifierError
        If `out` exists, or the starting weights cannot be had.
    """
    refuse_existing(out)
    if "split" not in table:
        table = table.assign(split=split_wells(table, seed=recipe.seed))
    patches = read_patches(table, open_plate=open_plate, medium_of=medium_of, patch_px=recipe.patch_px)
    return fit(
        patches,
        out=out,
        recipe=recipe,
        name=name,
        trained_on=trained_on,
        command=command,
        device=device,
        progress=progress,
    )


def fit(
    patches: Patches,
    *,
    out: Path,
    recipe: Recipe,
    name: str | None = None,
    trained_on: str = "",
    command: str = "",
    device: str = "auto",
    progress: Callable[[Epoch], None] | None = None,
) -> Classifier:
    """Train on patches that are in memory already; otherwise as `train`.

    On one kind of CPU with one number of threads the result depends on patches and recipe alone, also
    when the training was interrupted and resumed.
    """
    refuse_existing(out)
    place = resolve_device(device)
    training, validation, test = (patches.of(split) for split in ("train", "validation", "test"))
    for part, what in ((training, "train"), (validation, "validation")):
        if len(part) == 0:
            raise SettingsError(
                f"No patch is in the split {what!r}. Expected wells in both 'train' and 'validation', since "
                "the best epoch is chosen on wells that were not trained on. Annotate more wells, or correct "
                "the split column."
            )
    card = _new_card(training, patches, recipe, name or out.name, trained_on, command)
    work = out.with_name(out.name + ".training")
    with _own_random_numbers(recipe.seed):
        network = _trained_network(training, validation, card, recipe, place, work, progress)
        logits = _logits(network, Batches(validation, patch_px=recipe.patch_px), card, recipe.patch_px)
        calibration = fit_temperature(logits, validation.truth, held_out=f"{_count_wells(validation)} validation wells")
        metrics = {}
        for part, what in ((validation, "validation"), (test, "test")):
            if len(part):
                logits = _logits(network, Batches(part, patch_px=recipe.patch_px), card, recipe.patch_px)
                probability = softmax(logits / calibration.temperature, axis=1)
                metrics[what] = evaluate(probability, part.truth, groups=part.group, seed=recipe.seed)
    card = replace(card, temperature=calibration.temperature, calibration=calibration.text, metrics=metrics)
    saved = save_classifier(Classifier(network=network, card=card, device=place), out)
    shutil.copy(work / RECORD, out / RECORD)
    shutil.rmtree(work)
    return saved


def _new_card(training: Patches, patches: Patches, recipe: Recipe, name: str, trained_on: str, command: str) -> Card:
    low, high = Card.index_window
    count, total, squares = 0, 0.0, 0.0
    for index, _ in Batches(training, patch_px=recipe.patch_px).plain(256):
        clipped = index.clamp_(low, high).double()
        count += clipped.numel()
        total += float(clipped.sum())
        squares += float(clipped.square().sum())
    mean = total / count
    sd = math.sqrt(max(squares / count - mean**2, 1e-8))
    return Card(
        name=name,
        architecture=recipe.architecture,
        patch_px=recipe.patch_px,
        mean=round(mean, 6),
        sd=round(sd, 6),
        trained_on=trained_on
        or f"{len(training)} patches of {_count_wells(training)} wells on {_count_plates(training)} plates",
        fingerprint=_fingerprint(patches, recipe),
        seed=recipe.seed,
        command=command,
        weights_dtype=recipe.weights_dtype,
    )


def _trained_network(
    training: Patches,
    validation: Patches,
    card: Card,
    recipe: Recipe,
    device: torch.device,
    work: Path,
    progress: Callable[[Epoch], None] | None,
) -> nn.Module:
    """The network after its best epoch at full size."""
    network = build_resnet(recipe.architecture, states=STATES, weights=recipe.start())
    network.to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(_groups(network, recipe.weight_decay), lr=recipe.learning_rate, fused=True)
    run = _Run(network=network, optimizer=optimizer, work=work, fingerprint=card.fingerprint)
    run.resume()
    batches, held_out = (Batches(part, patch_px=recipe.patch_px) for part in (training, validation))
    weight = torch.from_numpy(class_weights(training.truth)).to(device)
    while not run.is_finished(recipe):
        epoch = len(run.record)
        began = time.perf_counter()
        px = recipe.pixels(epoch)
        loss = _one_epoch(run, batches, weight, card, recipe, epoch, px)
        seconds = time.perf_counter() - began
        logits = _logits(network, held_out, card, px)
        run.add(
            Epoch(
                epoch=epoch,
                epochs=recipe.epochs,
                px=px,
                train_loss=loss,
                validation_loss=_loss(logits, validation.truth),
                accuracy=_mean_recall(logits, validation.truth),
                seconds=round(seconds, 2),
                images_per_second=round(len(training) / seconds, 1),
            ),
            eligible=px == recipe.patch_px,
        )
        if progress is not None:
            progress(run.record[-1])
    network.load_state_dict(run.best)
    return network.eval()


def _one_epoch(
    run: "_Run",
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
    network = run.network.train()
    device = weight.device
    steps = math.ceil(len(batches.truth) / recipe.batch)
    total = torch.zeros((), device=device)
    for step, (index, truth) in enumerate(batches.augmented(recipe.batch, generator=generator)):
        for group in run.optimizer.param_groups:
            group["lr"] = _rate(recipe, (epoch + step / steps) / recipe.epochs)
        truth = truth.to(device, non_blocking=True)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=_uses_bf16(device)):
            logits = network(_as_input(index.to(device, non_blocking=True), card, px))
        loss = nn.functional.cross_entropy(logits.float(), truth, weight=weight, label_smoothing=recipe.label_smoothing)
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        run.optimizer.step()
        total += loss.detach()
    return float(total) / steps


def _as_input(index: torch.Tensor, card: Card, px: int) -> torch.Tensor:
    image = normalise(index, card)[:, None]
    if px != image.shape[-1]:
        image = nn.functional.interpolate(image, size=(px, px), mode="bilinear", align_corners=False, antialias=True)
    return image.contiguous(memory_format=torch.channels_last)


def _rate(recipe: Recipe, progress: float) -> float:
    """Learning rate: a short linear rise, then half a cosine down to nothing."""
    rise = 0.08
    if progress < rise:
        return recipe.learning_rate * (0.02 + 0.98 * progress / rise)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - rise) / (1 - rise)))


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    # biases and BatchNorm's scales are few and not to be pulled to zero
    decayed = [value for value in network.parameters() if value.ndim > 1]
    others = [value for value in network.parameters() if value.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _uses_bf16(device: torch.device) -> bool:
    return fast_dtype(device) == torch.bfloat16


@torch.inference_mode()
def _logits(network: nn.Module, batches: Batches, card: Card, px: int) -> npt.NDArray[np.float32]:
    network.eval()
    device = next(network.parameters()).device
    parts = []
    for index, _ in batches.plain(64):
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=_uses_bf16(device)):
            parts.append(network(_as_input(index.to(device), card, px)).float().cpu())
    logits: npt.NDArray[np.float32] = torch.cat(parts).numpy()
    return logits


def _loss(logits: npt.NDArray[np.float32], truth: npt.NDArray[np.int64]) -> float:
    return float(nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(truth)))


def _mean_recall(logits: npt.NDArray[np.float32], truth: npt.NDArray[np.int64]) -> float:
    right = logits.argmax(axis=1) == truth
    return float(np.mean([right[truth == state].mean() for state in np.unique(truth)]))


class _Run:
    """A training under way: its network, its record, its best epoch, and a folder to resume from."""

    def __init__(self, *, network: nn.Module, optimizer: torch.optim.Optimizer, work: Path, fingerprint: str) -> None:
        self.network, self.optimizer, self.work, self.fingerprint = network, optimizer, work, fingerprint
        self.record: list[Epoch] = []
        self.best_epoch = -1
        self.best: dict[str, torch.Tensor] = {}

    def add(self, epoch: Epoch, *, eligible: bool) -> None:
        """Note an epoch, keep it if it is the best that may be chosen, and write a checkpoint."""
        self.record.append(epoch)
        best = self.record[self.best_epoch] if self.best_epoch >= 0 else None
        better = best is None or (epoch.accuracy, -epoch.validation_loss) > (
            best.accuracy,
            -best.validation_loss,
        )
        if eligible and better:
            self.best_epoch = epoch.epoch
            self.best = _copy(self.network)
        self._write()

    def is_finished(self, recipe: Recipe) -> bool:
        """After the last epoch, or when none of the last `patience` epochs was better."""
        done = len(self.record)
        tired = recipe.patience is not None and 0 <= self.best_epoch < done - recipe.patience
        return done >= recipe.epochs or tired

    def resume(self) -> None:
        """Take up the newest complete checkpoint, if there is one."""
        done = sorted(self.work.glob("epoch-????")) if self.work.is_dir() else []
        if not done:
            return
        state = json.loads((done[-1] / "run.json").read_text(encoding="utf-8"))
        if state["fingerprint"] != self.fingerprint:
            raise SettingsError(
                f"{self.work} holds an unfinished training on other patches or with other settings. "
                "Remove that folder to start anew, or repeat the settings to finish it."
            )
        self.network.load_state_dict(load_file(done[-1] / "network.safetensors"))
        self.optimizer.load_state_dict(torch.load(done[-1] / "optimizer.pt", weights_only=True))
        self.record = [Epoch(**values) for values in state["record"]]
        self.best_epoch = state["best_epoch"]
        self.best = load_file(done[-1] / "best.safetensors") if self.best_epoch >= 0 else {}

    def _write(self) -> None:
        self.work.mkdir(parents=True, exist_ok=True)
        name = f"epoch-{len(self.record):04d}"
        folder = self.work / f"{name}.part"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        save_file(_copy(self.network), folder / "network.safetensors")
        if self.best:
            save_file(self.best, folder / "best.safetensors")
        torch.save(self.optimizer.state_dict(), folder / "optimizer.pt")
        state = {
            "fingerprint": self.fingerprint,
            "best_epoch": self.best_epoch,
            "record": [asdict(epoch) for epoch in self.record],
        }
        (folder / "run.json").write_text(json.dumps(state), encoding="utf-8")
        folder.rename(self.work / name)  # whole or not at all
        for older in self.work.glob("epoch-????"):
            if older.name != name:
                shutil.rmtree(older)
        with (self.work / RECORD).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [item.name for item in fields(Epoch)])
            writer.writeheader()
            writer.writerows(asdict(epoch) for epoch in self.record)


def _copy(network: nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }


@contextmanager
def _own_random_numbers(seed: int) -> Iterator[None]:
    # the caller's random numbers go on as if nothing had been trained
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _fingerprint(patches: Patches, recipe: Recipe) -> str:
    """Sha256 of what was trained on (patches, states, wells, splits) and of the recipe."""
    digest = hashlib.sha256(json.dumps(asdict(recipe), sort_keys=True).encode())
    # wells by plate name, not by the folder that the plates happen to lie in
    wells = [Path(group).name for group in patches.group.tolist()]
    digest.update(json.dumps([wells, patches.split.tolist()]).encode())
    for values in (patches.counts, patches.corner, patches.medium_index, patches.truth):
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def _count_wells(patches: Patches) -> int:
    return len(np.unique(patches.group))


def _count_plates(patches: Patches) -> int:
    return len({group.rsplit(":", 1)[0] for group in patches.group.tolist()})
