"""Train a classifier on annotated patches: best epoch by held-out wells, resumed after an interruption."""

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy.special import softmax
from torch import nn

from plates.errors import ClassifierError, SettingsError, TomoscreenError
from plates.states import STATES

from .abstention import choose_uncertain
from .batches import Batches, class_weights
from .calibration import fit_temperature
from .checkpoints import RECORD, Epoch, Run
from .classifier import Card, Classifier, looks_at, refuse_existing, resolve_device, save_classifier, stored_tensors
from .datasets import Patches, read_patches, update_digest, well_names
from .epochs import parameter_groups, train_epoch
from .evaluation import evaluate
from .networks import build_network, is_volumetric
from .outliers import LEAST_PATCHES, Outliers, fit_outliers
from .prediction import predict_features, predict_logits, run
from .recipes import Recipe
from .splits import split_wells

# So many training patches tell where all of them lie.
OUTLIER_PATCHES = 4000


def train(
    table: pd.DataFrame,
    *,
    out: Path,
    recipe: Recipe,
    states: Sequence[str] = STATES,
    name: str | None = None,
    trained_on: str = "",
    command: str = "",
    device: str = "auto",
    start: Classifier | None = None,
    open_plate: Callable[[Path], Any] | None = None,
    medium_of: Callable[[Path], Callable[[str, int, int], float]] | None = None,
    progress: Callable[[Epoch], None] | None = None,
) -> Classifier:
    """Train a classifier on a table of annotated patches and write its folder.

    Parameters
    ----------
    table
        As `annotations.read_annotations` returns it. Without a `split` column whole wells are dealt to
        train (70 %), validation (15 %) and test (15 %).
    out
        Folder to make; the checkpoint of a training under way, and its patches, are kept beside it
        (`<out>.training`).
    recipe
        How to train; its architecture decides whether projections or volumes are read.
    states
        The states to tell apart, in order.
    name, trained_on, command
        For the card: the classifier's name (by default the folder's), what its patches show, and the
        command that made it.
    device
        "auto", "cpu", "cuda" or "mps".
    start
        A classifier to go on from, see `fit`.
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
    held = training_folder(out) / "patches.npy"
    try:
        patches = read_for(recipe, table, states=states, into=held, open_plate=open_plate, medium_of=medium_of)
        return fit(
            patches,
            out=out,
            recipe=recipe,
            name=name,
            trained_on=trained_on,
            command=command,
            device=device,
            start=start,
            progress=progress,
        )
    except TomoscreenError:
        # what is refused leaves nothing; the checkpoints of an earlier training stay
        held.unlink(missing_ok=True)
        with suppress(OSError):
            held.parent.rmdir()
        raise


def read_for(
    recipe: Recipe,
    table: pd.DataFrame,
    *,
    states: Sequence[str] = STATES,
    into: Path | None = None,
    open_plate: Callable[[Path], Any] | None = None,
    medium_of: Callable[[Path], Callable[[str, int, int], float]] | None = None,
) -> Patches:
    """Read what a recipe's network looks at: projections or volumes (see `read_patches`, `read_volumes`)."""
    if is_volumetric(recipe.architecture):
        from .volumes import read_volumes

        return read_volumes(
            table,
            planes=recipe.planes,
            um_per_plane=recipe.um_per_plane,
            open_plate=open_plate,
            medium_of=medium_of,
            patch_px=recipe.patch_px,
            states=states,
            into=into,
        )
    return read_patches(
        table, open_plate=open_plate, medium_of=medium_of, patch_px=recipe.patch_px, states=states, into=into
    )


def training_folder(out: Path) -> Path:
    """Where a training under way keeps what it needs to go on."""
    return out.with_name(out.name + ".training")


def fit(
    patches: Patches,
    *,
    out: Path,
    recipe: Recipe,
    name: str | None = None,
    trained_on: str = "",
    command: str = "",
    device: str = "auto",
    start: Classifier | None = None,
    progress: Callable[[Epoch], None] | None = None,
) -> Classifier:
    """Train on patches that have been read already; otherwise as `train`.

    Parameters
    ----------
    start
        A classifier of the same architecture to go on from: its network, and its window, mean and sd, to
        which the network is used. Its head goes on as well where it tells the same states apart.

    Notes
    -----
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
    _check_splits(patches)
    card = _new_card(training, patches, recipe, name or out.name, trained_on, command, start)
    work = training_folder(out)
    with _own_random_numbers(recipe.seed):
        network = _trained_network(training, validation, card, recipe, place, work, start, progress)
    # from here on it is what the folder will hold: rounded, so that the card's numbers are those of the file
    network.load_state_dict(stored_tensors(network, recipe.weights_dtype))
    network.eval()
    logits = run(network, validation, card)
    calibration = fit_temperature(logits, validation.truth, held_out=f"{_count_wells(validation)} validation wells")
    card = replace(
        card,
        temperature=calibration.temperature,
        calibration=calibration.text,
        uncertain=choose_uncertain(softmax(logits / calibration.temperature, axis=1)),
    )
    classifier = Classifier(network=network, card=card, device=place)
    classifier = replace(
        classifier,
        card=replace(card, metrics=_scores(classifier, validation, test, seed=recipe.seed)),
        outliers=_outliers(classifier, training, validation, seed=recipe.seed),
    )
    saved = save_classifier(classifier, out, record=work / RECORD)
    shutil.rmtree(work)
    return saved


def _check_splits(patches: Patches) -> None:
    """Refuse a split that divides a well: its patches look alike, and scores would be too good."""
    pairs = np.unique(np.stack([patches.group, patches.split]), axis=1)
    wells, often = np.unique(pairs[0], return_counts=True)
    if (often > 1).any():
        raise SettingsError(
            f"The patches of {Path(str(wells[often > 1][0])).name} lie in {int(often.max())} splits. Patches of one "
            "well look alike, so a well belongs to one split. Give all its patches the same."
        )


def _scores(classifier: Classifier, validation: Patches, test: Patches, *, seed: int) -> dict[str, object]:
    metrics: dict[str, object] = {}
    for part, what in ((validation, "validation"), (test, "test")):
        if len(part):
            probability = softmax(predict_logits(classifier, part) / classifier.card.temperature, axis=1)
            metrics[what] = evaluate(probability, part.truth, groups=part.group, states=part.states, seed=seed)
    return metrics


def _outliers(classifier: Classifier, training: Patches, validation: Patches, *, seed: int) -> Outliers | None:
    """Where the training patches lie; a few thousand of them tell."""
    if len(training) < LEAST_PATCHES:
        return None
    chosen = np.random.default_rng(seed).permutation(len(training))[:OUTLIER_PATCHES]
    chosen = np.sort(chosen)
    # in parts: thousands of volumes are more than memory holds
    parts = np.array_split(chosen, math.ceil(len(chosen) / 256))
    features = np.concatenate([predict_features(classifier, training.take(part)) for part in parts])
    return fit_outliers(features, training.truth[chosen], predict_features(classifier, validation))


def _new_card(
    training: Patches,
    patches: Patches,
    recipe: Recipe,
    name: str,
    trained_on: str,
    command: str,
    start: Classifier | None,
) -> Card:
    if start is not None:
        window, mean, sd = start.card.index_window, start.card.mean, start.card.sd
    else:
        window = patches.window or Card.index_window
        mean, sd = _moments(training, recipe.patch_px, window)
    return Card(
        name=name,
        architecture=recipe.architecture,
        states=patches.states,
        patch_px=recipe.patch_px,
        projection="maximum" if patches.planes is None else "none",
        planes=patches.planes,
        um_per_plane=patches.um_per_plane,
        quantity=patches.quantity,
        index_window=window,
        mean=mean,
        sd=sd,
        trained_on=trained_on
        or f"{len(training)} patches of {_count_wells(training)} wells on {_count_plates(training)} "
        f"plate{'s' * (_count_plates(training) != 1)}",
        wells={split: _wells(patches.of(split)) for split in ("train", "validation", "test")},
        fingerprint=_fingerprint(patches, recipe, start),
        seed=recipe.seed,
        command=command,
        weights_dtype=recipe.weights_dtype,
    )


def _moments(training: Patches, patch_px: int, window: tuple[float, float]) -> tuple[float, float]:
    """Mean and standard deviation of all pixels within the window."""
    count, total, squares = 0, 0.0, 0.0
    for index, _ in Batches(training, patch_px=patch_px).plain(256 if training.planes is None else 16):
        clipped = index.clamp_(*window).double()
        count += clipped.numel()
        total += float(clipped.sum())
        squares += float(clipped.square().sum())
    mean = total / count
    return float(f"{mean:.6g}"), float(f"{math.sqrt(max(squares / count - mean**2, 1e-8)):.6g}")


def _trained_network(
    training: Patches,
    validation: Patches,
    card: Card,
    recipe: Recipe,
    device: torch.device,
    work: Path,
    start: Classifier | None,
    progress: Callable[[Epoch], None] | None,
) -> nn.Module:
    """The network after its best epoch at full size."""
    network = build_network(recipe.architecture, states=card.states, weights=recipe.weights)
    if start is not None:
        _take_over(network, start, recipe, card)
    network.to(device)
    network.to(memory_format=torch.channels_last if training.planes is None else torch.channels_last_3d)
    optimizer = torch.optim.AdamW(parameter_groups(network, recipe), lr=recipe.learning_rate, fused=True)
    under_way = Run(network=network, optimizer=optimizer, work=work, fingerprint=card.fingerprint)
    under_way.resume()
    batches = Batches(training, patch_px=recipe.patch_px)
    weight = torch.from_numpy(class_weights(training.truth, states=len(card.states))).to(device)
    while not under_way.is_finished(recipe):
        epoch = len(under_way.record)
        began = time.perf_counter()
        px = recipe.pixels(epoch)
        loss = train_epoch(under_way, batches, weight, card, recipe, epoch, px)
        seconds = time.perf_counter() - began
        if not math.isfinite(loss):
            raise ClassifierError(
                f"The training of {card.name} diverged in epoch {epoch + 1}: its loss is {loss}. What was reached "
                f"before is kept in {work}. Lower the recipe's learning_rate (now {recipe.learning_rate:g})."
            )
        logits = run(network, validation, card, px=px)
        under_way.add(
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
            progress(under_way.record[-1])
    network.load_state_dict(under_way.best)
    return network.requires_grad_(True).eval()


def _take_over(network: nn.Module, start: Classifier, recipe: Recipe, card: Card) -> None:
    """Fill a new network with a trained one's numbers; the head only where the states are the same."""
    if start.card.quantity != card.quantity:
        raise SettingsError(
            f"The classifier {start.card.name!r} was trained on images of {start.card.quantity}, these are of "
            f"{card.quantity}: its window does not fit them. Start from one of the same quantity."
        )
    if start.card.architecture != recipe.architecture or start.card.planes != card.planes:
        raise SettingsError(
            f"The classifier {start.card.name!r} is a {start.card.architecture} of "
            f"{looks_at(start.card)}, the training asks for a {recipe.architecture} of {looks_at(card)}. "
            "Start from a classifier of the same kind."
        )
    same = start.card.states == card.states
    tensors = {
        name: tensor for name, tensor in start.network.state_dict().items() if same or not name.startswith("fc.")
    }
    network.load_state_dict(tensors, strict=same)


def _loss(logits: npt.NDArray[np.float32], truth: npt.NDArray[np.int64]) -> float:
    return float(nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(truth)))


def _mean_recall(logits: npt.NDArray[np.float32], truth: npt.NDArray[np.int64]) -> float:
    right = logits.argmax(axis=1) == truth
    return float(np.mean([right[truth == state].mean() for state in np.unique(truth)]))


@contextmanager
def _own_random_numbers(seed: int) -> Iterator[None]:
    # the caller's random numbers go on as if nothing had been trained
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _fingerprint(patches: Patches, recipe: Recipe, start: Classifier | None) -> str:
    """Sha256 of what was trained on (patches, states, wells, splits), of the recipe and of the start."""
    digest = hashlib.sha256(json.dumps(asdict(recipe), sort_keys=True).encode())
    digest.update(json.dumps([patches.states, patches.quantity, patches.window, patches.um_per_plane]).encode())
    if start is not None:
        digest.update(start.card.weights_sha256.encode())
    update_digest(digest, patches)
    return digest.hexdigest()


def _count_wells(patches: Patches) -> int:
    return len(np.unique(patches.group))


def _wells(patches: Patches) -> list[str]:
    """Wells as "plate:well", the plate by its name alone."""
    return sorted(set(well_names(patches)))


def _count_plates(patches: Patches) -> int:
    return len({group.rsplit(":", 1)[0] for group in patches.group.tolist()})
