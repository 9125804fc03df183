"""How right the shipped classifier is on plates it never saw, beside a control that knows no form.

    python -m tests.benchmarks.five_states WORK_FOLDER [CLASSIFIER_FOLDER]

Plates of controls of seeds used for nothing else (the study's protocol: inducers, vehicle and a sub-lethal compound at
12 and 18 h), clear patches only: at least 15 % of the patch is cell and 80 % of that is in one state. The control is
gradient boosting on histogram and texture, trained on clear patches of the classifier's own training plates. Harder
settings follow, then hours after the onset, and what abstaining saves. WORK_FOLDER is that of
`tests.benchmarks.demonstration_classifier`, whose plates are simulated first where they are not there.
"""

import shutil
import sys
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.classifier import Classifier, load_classifier
from models.datasets import Patches, by_split
from models.evaluation import write_evaluation
from models.intervals import share_interval
from models.prediction import predict_logits
from models.scores import confusion
from plates.patches import PATCH_PX
from plates.simulation.design import HARDER, design_annotation_plate
from plates.simulation.plate import VERSION
from plates.states import STATES
from screening.evaluate import summary
from tests.benchmarks.demonstration_classifier import CONFLUENCY, make_plates
from tests.benchmarks.simulated_patches import LEAST_AREA, PURITY, annotate, read, simulate
from tests.benchmarks.texture_control import call_states, texture_features

SEEDS = (7001, 7002, 7003)
HARDER_SEEDS = (7101,)
CONTROL_PATCHES = 6000


def held_out(work: Path, *, seeds: Sequence[int], name: str, **options: Any) -> tuple[Patches, pd.DataFrame]:
    """Clear patches of plates of controls that no classifier has seen, and their table."""
    options = {"confluency": CONFLUENCY, "wells_per_state": 8, "hours": (12.0, 18.0), **options}
    plates = [
        simulate(design_annotation_plate(seed, name=f"{name}-{seed}".replace(" ", ""), **options), work / "plates")
        for seed in seeds
    ]
    table = by_split(pd.concat([annotate(plate, split="test") for plate in plates], ignore_index=True))
    return read(plates, table), table


def share(right: npt.NDArray[np.bool_], patches: Patches) -> str:
    """Accuracy with its 95 % interval over wells."""
    low, high = share_interval(right, patches.group)
    return f"{right.mean():.3f}" if low is None else f"{right.mean():.3f} ({low:.3f} to {high:.3f})"


def called(classifier: Classifier, patches: Patches) -> npt.NDArray[np.bool_]:
    """Whether each patch was called right."""
    right: npt.NDArray[np.bool_] = predict_logits(classifier, patches).argmax(axis=1) == patches.truth
    return right


def index_of(patches: Patches) -> npt.NDArray[np.float32]:
    """Patches (n, y, x) as index above the medium."""
    size = PATCH_PX
    cut = [counts[y : y + size, x : x + size] for counts, (y, x) in zip(patches.counts, patches.corner, strict=True)]
    return (np.stack(cut) / 1e4 - patches.medium_index[:, None, None]).astype(np.float32)


def features_of(patches: Patches) -> npt.NDArray[np.float32]:
    """Histogram and texture of every patch, on two processes."""
    with get_context("spawn").Pool(2) as pool:
        return np.concatenate(pool.map(texture_features, np.array_split(index_of(patches), 64)))


def control(work: Path, patches: Patches) -> tuple[npt.NDArray[np.int64], int]:
    """States called by the honest control, and the number of clear patches it was trained on."""
    plates, table = make_plates(work)
    clear = table[(table["split"] == "train") & (table["area"] >= LEAST_AREA) & (table["purity"] >= PURITY)]
    chosen = clear.sample(min(CONTROL_PATCHES, len(clear)), random_state=0)
    train = read(plates, chosen.reset_index(drop=True))
    return call_states((features_of(train), train.truth), features_of(patches)), len(train)


def main(work: Path, folder: Path) -> None:
    classifier = load_classifier(folder)
    print(f"Simulator version {VERSION}; {folder}, sha256 {classifier.card.weights_sha256[:12]}; seeds {SEEDS}\n")
    patches, table = held_out(work, seeds=SEEDS, name="five-states")
    out = work / "evaluation"
    shutil.rmtree(out, ignore_errors=True)
    record = write_evaluation(classifier, patches, out=out, table=table, folder=folder, text="held-out plates")
    print("\n".join(summary(record)))
    states, trained = control(work, patches)
    print(f"\nhonest control, trained on {trained} clear patches: {share(states == patches.truth, patches)}")
    print(confusion(patches.truth, states, states=len(STATES)))
    print("\n| setting | patches | network |\n|---|---|---|")
    print(f"| default | {len(patches)} | {share(called(classifier, patches), patches)}  |")
    for name, options in HARDER.items():
        patches, table = held_out(work, seeds=HARDER_SEEDS, name=name, **options)
        right = called(classifier, patches)
        print(f"| {name} | {len(patches)} | {share(right, patches)} |", flush=True)
        if len(options.get("hours", ())) > 1:
            for hour, rows in table.groupby("hours"):
                print(f"| {name}, {hour:g} h | {len(rows)} | {right[rows.index].mean():.3f}  |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else Path("models/demonstration"))
