"""Another cell line: what a classifier of HeLa-like cells loses on it, and what few annotated patches bring back.

    python -m tests.benchmarks.other_cell_line CLASSIFIER WORK_FOLDER [--line NAME] [--parts] [--pool-plates N]

CLASSIFIER is a folder trained on simulated HeLa-like plates. Plates of another line are simulated in WORK_FOLDER: few
of their patches are adapted to, all of them train a classifier of that line from scratch, and plates of other seeds
judge both. Beside it stands what is commonly done (all layers at once, one rate, statistics by the batch); `--parts`
adds the adaptation without each of its parts. An interrupted run goes on. About 25 core-minutes, 15 more with
`--parts`.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.special import softmax

from models.adaptation import adapt, read_adaptation
from models.classifier import Classifier, load_classifier
from models.datasets import Patches
from models.finetuning import NAIVE, Tuning
from models.prediction import predict_logits
from models.recipes import Recipe
from models.scores import score
from models.training import fit
from plates.simulation.cells import CELL_LINES, CellLine
from plates.simulation.design import design_annotation_plate
from plates.simulation.plate import VERSION
from tests.benchmarks.simulated_patches import annotate, read, simulate

# Seeds that nothing else is trained, tuned or scored on.
POOL, VALIDATION, TEST = (9501, 9502, 9503, 9504, 9505, 9506), (9511,), (9521, 9522)
OLD_TRAIN, OLD_TEST = (9531,), (9541,)
BUDGETS = (25, 50, 100, 200)
NAIVE_BUDGETS = (50, 200)
CONFLUENCY = (0.15, 0.7)
# Small cells: as many of them on less of the field, and fewer pixels of a patch make it clear.
SMALL = {"Jurkat-like": {"confluency": (0.1, 0.4), "least_area": 0.1}}
SCRATCH = Recipe(architecture="resnet18", epochs=20, batch=32, seed=1, small_share=0.65)
TUNING = Tuning()
PARTS = {
    "statistics as they were": replace(TUNING, norm="keep"),
    "statistics by the batch": replace(TUNING, norm="update"),
    "without rehearsal": replace(TUNING, rehearsal=0.0),
    "head alone": replace(TUNING, steps=0, head_steps=TUNING.head_steps + TUNING.steps),
    "all layers at one rate": replace(TUNING, layer_decay=1.0),
}


def patches_of(line: CellLine, seeds: dict[str, Sequence[int]], work: Path, *, wells_per_state: int = 8) -> Patches:
    """Clear patches of plates of controls of one line, in the splits that their seeds are named for."""
    plates, tables = [], []
    small: dict[str, Any] = dict(SMALL.get(line.name, {}))
    confluency = small.pop("confluency", CONFLUENCY)
    for split, numbers in seeds.items():
        for seed in numbers:
            name = f"{line.name}-{seed}"
            options: dict[str, Any] = {"wells_per_state": wells_per_state, "confluency": confluency, "line": line}
            plates.append(simulate(design_annotation_plate(seed, name=name, **options), work / "plates"))
            tables.append(annotate(plates[-1], split=split, **small))
    return read(plates, pd.concat(tables, ignore_index=True))


def scores_of(classifier: Classifier, patches: Patches) -> dict[str, Any]:
    """Scores of "test" patches."""
    test = patches.of("test")
    probability = softmax(predict_logits(classifier, test) / classifier.card.temperature, axis=1)
    return score(probability, test.truth, groups=test.group, states=test.states)


def adapted(classifier: Classifier, new: Patches, old: Patches, out: Path, **more: Any) -> dict[str, Any]:
    """Record of an adaptation; one that is done already is read."""
    if out.exists():
        return read_adaptation(out)
    return adapt(classifier, new, out=out, old=old, progress=lambda *said: print("  ", *said, flush=True), **more)


def main(folder: Path, plates: Path, line: CellLine, *, parts: bool, pool_plates: int) -> None:
    classifier = load_classifier(folder)
    work = plates / line.name
    new = patches_of(line, {"train": POOL[:pool_plates], "validation": VALIDATION, "test": TEST}, plates)
    old = patches_of(CellLine(), {"train": OLD_TRAIN, "test": OLD_TEST}, plates)
    # adapting has few patches and no wells to spare: it never sees the validation plate
    few = new.take((new.split != "validation").nonzero()[0])

    rows: list[tuple[str, int, dict[str, Any], dict[str, Any] | None]] = []
    record = adapted(classifier, few, old, work / "adapted", budgets=BUDGETS)
    rows.append(("as it is", 0, record["before"]["accuracy"], record["old_line"]["before"]["accuracy"]))
    rows += [("adapted", step["patches"], step["accuracy"], step["old_accuracy"]) for step in record["curve"]]
    other: dict[str, tuple[Tuning, tuple[int, ...]]] = {"commonly done: all layers at once": (NAIVE, NAIVE_BUDGETS)}
    if parts:
        other |= {f"adapted, {name}": (tuning, (BUDGETS[-1],)) for name, tuning in PARTS.items()}
    for name, (tuning, budgets) in other.items():
        told = adapted(
            classifier, few, old, work / name.replace(" ", "-").replace(":", ""), budgets=budgets, tuning=tuning
        )
        rows += [(name, step["patches"], step["accuracy"], step["old_accuracy"]) for step in told["curve"]]

    scratch = work / "scratch"
    if not scratch.exists():
        fit(new, out=scratch, recipe=SCRATCH, progress=lambda epoch: print("  ", epoch, flush=True))
    own = load_classifier(scratch)
    rows.append(
        (
            "trained on the line from scratch",
            len(new.of("train")) + len(new.of("validation")),
            scores_of(own, new)["accuracy"],
            scores_of(own, old)["accuracy"],
        )
    )
    test = new.of("test")
    print(
        f"\nSimulator version {VERSION}; classifier {classifier.card.name} {classifier.card.weights_sha256[:12]}; "
        f"{line.name} plates: seeds {POOL[:pool_plates]} adapt, {VALIDATION} chooses the epoch of the one from "
        f"scratch, {TEST} judge ({len(test)} patches, {len(set(test.group.tolist()))} wells); HeLa-like: {OLD_TRAIN} "
        f"are rehearsed, {OLD_TEST} judge ({len(old.of('test'))} patches). BatchNorm: {record['norm']}.\n"
    )
    print(
        f"| classifier | annotated patches | accuracy, {line.name} | 95 % interval over wells | accuracy, HeLa-like |"
    )
    print("|---|---|---|---|---|")
    for name, patches, accuracy, forgotten in rows:
        kept = "-" if forgotten is None else f"{forgotten['value']:.3f}"
        interval = f"{accuracy['low']:.3f} to {accuracy['high']:.3f}"
        print(f"| {name} | {patches} | {accuracy['value']:.3f} | {interval} | {kept} |")
    best, target = record["after"]["accuracy"]["value"], rows[-1][2]["value"]
    lost = record["old_line"]["before"]["accuracy"]["value"] - record["before"]["accuracy"]["value"]
    print(f"\nthe shift costs {100 * lost:.1f} points; adapted minus from scratch: {100 * (best - target):+.1f} points")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classifier", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--parts", action="store_true", help="also adapt without each part")
    parser.add_argument("--pool-plates", type=int, default=2, choices=range(1, len(POOL) + 1))
    parser.add_argument("--line", default="A549-like", choices=[name for name in CELL_LINES if name != CellLine().name])
    given = parser.parse_args()
    main(given.classifier, given.work, CELL_LINES[given.line], parts=given.parts, pool_plates=given.pool_plates)
