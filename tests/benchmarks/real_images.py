"""Real single-cell images through the same training and evaluation as plates; prints tables in Markdown.

python -m tests.benchmarks.real_images OUT [livedead] [jurkat]

What is described in livedead.toml and jurkat.toml beside this file is read, trained on and scored by models/;
nothing here knows the images. Classifiers are kept under OUT, and an interrupted run goes on.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.adaptation import adapt, read_adaptation
from models.classifier import Classifier, load_classifier
from models.cross_validation import Fold, evaluate_folds, predict_fold
from models.datasets import Patches
from models.finetuning import Tuning
from models.image_sets import read_image_set
from models.recipes import Recipe, read_recipe
from models.scores import score
from models.training import fit
from plates.counts import COUNTS_PER_INDEX
from tests.benchmarks.image_features import control_probability

HERE = Path(__file__).parent
COMMAND = "python -m tests.benchmarks.real_images OUT"
# The epoch is chosen and the temperature fitted on one whole family; on the second where the first is left out.
VALIDATION = ("e", "c")
# Pairs of crops above this correlation show the same cell in the same frame, whatever the files are called.
SAME = 0.98
NEW_CELLS = 100


def livedead(out: Path, settings: Path = HERE / "livedead.toml") -> None:
    """Leave one family out, each in turn; frames that a family shares with the one left out are not trained on."""
    patches, recipe = read_image_set(settings), read_recipe(settings)
    linked = linked_sources(patches)
    network, purged = [], {}
    for name, fold in leave_one_family_out(patches, linked=linked):
        classifier = _fitted(fold, out / name, recipe=recipe, trained_on=f"{settings.stem} without family {name}")
        network.append(predict_fold(name, classifier, fold.of("test")))
        purged[name] = len(patches) - len(fold)
    # the control sees the values as they are stored, and learns from the validation family too
    stored = read_image_set(settings.with_stem(f"{settings.stem}_as_stored"))
    control = control_folds(stored, linked=linked)
    columns = {
        "ResNet-18": network,
        "gradient boosting": control,
        "gradient boosting, shared frames trained on": control_folds(stored, linked={}),
    }
    print(pooled_table(columns, states=patches.states))
    print(family_table({"ResNet-18": network, "gradient boosting": control}, states=patches.states, purged=purged))


def jurkat(out: Path, settings: Path = HERE / "jurkat.toml") -> None:
    """Train on experiment 1, score on cells of it that were kept out and on experiment 2, then adapt."""
    patches = split_cells(read_image_set(settings), seed=0)
    old, new = (patches.take(np.flatnonzero(families(patches) == name)) for name in ("1", "2"))
    recipe = read_recipe(settings)
    classifier = _fitted(old, out / "experiment 1", recipe=recipe, trained_on="experiment 1")
    judged = {
        what: score(control_probability(old.of("train"), part), part.truth, groups=part.group, states=part.states)
        for what, part in (("old", old.of("test")), ("new", new.of("test")))
    }
    rows = {"gradient boosting, before": judged}
    ways = {
        "without rehearsal": (Tuning(norm="keep"), old.of("test")),
        "three quarters of each batch rehearsed": (Tuning(norm="keep", rehearsal=0.75, batch=64), old),
        "the same, BatchNorm recalculated": (Tuning(norm="recalculate", rehearsal=0.75, batch=64), old),
    }
    for way, (tuning, known) in ways.items():
        record = _adapted(classifier, new, out / way, known=known, tuning=tuning)
        rows["ResNet-18, before"] = {"old": record["old_line"]["before"], "new": record["before"]}
        rows[f"after {NEW_CELLS} cells, {way}"] = {"old": record["old_line"]["after"], "new": record["after"]}
    print(adaptation_table(rows, state=patches.states[int(new.truth[0])]))


def families(patches: Patches) -> npt.NDArray[np.str_]:
    """Family of each image."""
    return np.array([group.split(":", 1)[0] for group in patches.group.tolist()])


def leave_one_family_out(patches: Patches, *, linked: dict[str, set[str]]) -> Iterator[tuple[str, Patches]]:
    """Each family as the test set: (its name, patches with their split, without sources `linked` to it)."""
    family = families(patches)
    for name in np.unique(family).tolist():
        chooses = next(other for other in VALIDATION if other != name)
        split = np.where(family == name, "test", np.where(family == chooses, "validation", "train"))
        keep = np.flatnonzero((family == name) | ~np.isin(patches.group, list(linked.get(name, ()))))
        yield name, replace(patches, split=split).take(keep)


def linked_sources(patches: Patches) -> dict[str, set[str]]:
    """For each family the sources of other families that hold an image of it, turned or mirrored or as it is."""
    family = families(patches)
    image = patches.counts.astype(np.float32) - patches.medium_index[:, None, None] * np.float32(COUNTS_PER_INDEX)
    side = image.shape[-1] // 2 * 2
    small = image[:, :side, :side].reshape(len(image), side // 2, 2, side // 2, 2).mean((2, 4))
    views = [np.rot90(view, turns, axes=(1, 2)) for view in (small, small[:, :, ::-1]) for turns in range(4)]
    unit = [_unit(view) for view in views]
    linked: dict[str, set[str]] = {name: set() for name in np.unique(family).tolist()}
    for start in range(0, len(image), 512):
        block = slice(start, start + 512)
        same = np.zeros((len(unit[0][block]), len(image)), dtype=bool)
        for view in unit:
            same |= unit[0][block] @ view.T > SAME
        same &= family[block, None] != family[None, :]
        for one, other in zip(*np.nonzero(same), strict=True):
            linked[str(family[start + one])].add(str(patches.group[other]))
            linked[str(family[other])].add(str(patches.group[start + one]))
    return linked


def split_cells(patches: Patches, *, seed: int) -> Patches:
    """Experiment 1 to train, validation and test (70, 15, 15 % of each state); of experiment 2 100 cells to train."""
    split = np.full(len(patches), "test", dtype="U10")
    first, random = families(patches) == "1", np.random.default_rng(seed)
    for state in range(len(patches.states)):
        cells = random.permutation(np.flatnonzero(first & (patches.truth == state)))
        split[cells[: int(0.7 * len(cells))]] = "train"
        split[cells[int(0.7 * len(cells)) : int(0.85 * len(cells))]] = "validation"
    split[random.permutation(np.flatnonzero(~first))[:NEW_CELLS]] = "train"
    return replace(patches, split=split)


def control_folds(patches: Patches, *, linked: dict[str, set[str]]) -> list[Fold]:
    """Gradient boosting on the other families, for each family."""
    folds = []
    for name, fold in leave_one_family_out(patches, linked=linked):
        test, others = fold.of("test"), fold.take(np.flatnonzero(fold.split != "test"))
        folds.append(Fold(name, control_probability(others, test), test.truth, test.group))
    return folds


def pooled_table(columns: dict[str, list[Fold]], *, states: Sequence[str]) -> str:
    """All families together, the worst, and what another family may give; the AUC is that of the last state."""
    recalls = [f"recall, {state}" for state in states]
    heads = ["balanced accuracy", "AUC", *recalls, "worst family", "mean of the families"]
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (1 + len(heads)) + "|"]
    for name, folds in columns.items():
        scores = evaluate_folds(folds, states=states)
        pooled = scores["pooled"]
        entries = [pooled["balanced_accuracy"], pooled["auc"][states[-1]], *(pooled["recall"][s] for s in states)]
        worst = min(row["balanced_accuracy"] for row in scores["folds"])
        cells = [*map(_text, entries), f"{worst:.3f} ({scores['worst']})", _text(scores["between_folds"])]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def family_table(columns: dict[str, list[Fold]], *, states: Sequence[str], purged: dict[str, int]) -> str:
    """Each family, by classifiers that never saw it; `purged` counts the images that were kept from them."""
    heads = [f"{name}: {what}" for name in columns for what in ("balanced accuracy", "AUC")]
    lines = ["| left out | images (sources) | shared, not trained on | " + " | ".join(heads) + " |"]
    lines.append("|---" * (3 + len(heads)) + "|")
    for folds in zip(*columns.values(), strict=True):
        name, groups = folds[0].name, folds[0].groups
        cells = [f"{len(groups)} ({len(np.unique(groups))})", str(purged[name])]
        for fold in folds:
            row = score(fold.probability, fold.truth, groups=fold.groups, states=states)
            cells += [_text(row["balanced_accuracy"]), _text(row["auc"][states[-1]])]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def adaptation_table(rows: dict[str, dict[str, Any]], *, state: str) -> str:
    """Scores on both experiments; of the second, which holds one state alone, the recall of that state."""
    known = next(iter(rows.values()))["old"]["recall"]
    heads = [*(f"{name}, 1" for name in known), "balanced accuracy, 1", f"{state}, 2"]
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (1 + len(heads)) + "|"]
    for name, row in rows.items():
        recalls = [f"{row['old']['recall'][each]['value']:.3f}" for each in known]
        cells = [*recalls, _text(row["old"]["balanced_accuracy"]), _text(row["new"]["recall"][state])]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _fitted(patches: Patches, folder: Path, *, recipe: Recipe, trained_on: str) -> Classifier:
    if folder.exists():
        return load_classifier(folder)
    return fit(
        patches,
        out=folder,
        recipe=recipe,
        name=folder.name,
        trained_on=trained_on,
        command=COMMAND,
        device="cpu",
    )


def _adapted(classifier: Classifier, new: Patches, folder: Path, *, known: Patches, tuning: Tuning) -> dict[str, Any]:
    if folder.exists():
        return read_adaptation(folder)
    return adapt(classifier, new, out=folder, budgets=(NEW_CELLS,), old=known, tuning=tuning, command=COMMAND)


def _unit(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    flat = image.reshape(len(image), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    # an image without any contrast is like no other
    return np.where(length > 0, flat / np.maximum(length, 1e-6), 0).astype(np.float32)


def _text(entry: dict[str, float | None]) -> str:
    if entry["low"] is None:
        return f"{entry['value']:.3f}"
    return f"{entry['value']:.3f} ({entry['low']:.3f} to {entry['high']:.3f})"


if __name__ == "__main__":
    if len(sys.argv) < 2 or set(sys.argv[2:]) - {"livedead", "jurkat"}:
        sys.exit(__doc__)
    for which in sys.argv[2:] or ["livedead", "jurkat"]:
        print(f"\n### {which}\n")
        {"livedead": livedead, "jurkat": jurkat}[which](Path(sys.argv[1]) / which)
