"""How right the shipped classifier is on plates it never saw, beside a control that knows no form.

    python -m tests.benchmarks.five_states WORK_FOLDER [CLASSIFIER_FOLDER]

Plates of controls of seeds used for nothing else (the study's protocol: inducers, vehicle and a sub-lethal compound at
12 and 18 h), clear patches only: at least 15 % of the patch is cell and 80 % of that is in one state. The control is
gradient boosting on histogram and texture, trained on clear patches of the classifier's own training plates. Harder
settings follow, then hours after the onset, and what abstaining saves. WORK_FOLDER is that of
`tests.benchmarks.demonstration_classifier`, whose plates are simulated first where they are not there.
"""

import sys
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import softmax

from models.calibration import expected_calibration_error
from models.classifier import load_classifier
from models.datasets import Patches
from models.evaluation import evaluate
from models.prediction import predict_logits
from plates.patches import PATCH_PX
from plates.simulation.design import HARDER, design_annotation_plate
from plates.simulation.plate import VERSION
from plates.states import STATES
from tests.benchmarks.demonstration_classifier import CONFLUENCY, make_plates
from tests.benchmarks.simulated_patches import LEAST_AREA, PURITY, annotate, read, simulate
from tests.benchmarks.texture_control import fit_control, texture_features

SEEDS = (7001, 7002, 7003)
HARDER_SEEDS = (7101,)
CONTROL_PATCHES = 6000


def score(classifier: Any, work: Path, *, seeds: Sequence[int], name: str, **options: Any) -> tuple[Patches, Any]:
    """Clear patches of held-out plates, and the classifier's probabilities of them."""
    options = {"confluency": CONFLUENCY, "wells_per_state": 8, "hours": (12.0, 18.0), **options}
    plates = [
        simulate(design_annotation_plate(seed, name=f"{name}-{seed}".replace(" ", ""), **options), work / "plates")
        for seed in seeds
    ]
    table = pd.concat([annotate(plate, split="test") for plate in plates], ignore_index=True)
    patches = read(plates, table)
    probability = softmax(predict_logits(classifier, patches) / classifier.card.temperature, axis=1)
    return patches, probability


def index_of(patches: Patches) -> npt.NDArray[np.float32]:
    """Patches (n, y, x) as index above the medium."""
    size = PATCH_PX
    cut = [counts[y : y + size, x : x + size] for counts, (y, x) in zip(patches.counts, patches.corner, strict=True)]
    return (np.stack(cut) / 1e4 - patches.medium_index[:, None, None]).astype(np.float32)


def features_of(patches: Patches) -> npt.NDArray[np.float32]:
    """Histogram and texture of every patch, on two processes."""
    with get_context("spawn").Pool(2) as pool:
        return np.concatenate(pool.map(texture_features, np.array_split(index_of(patches), 64)))


def control(work: Path, held_out: Patches) -> tuple[float, npt.NDArray[np.int64], int]:
    """Accuracy and confusion of the honest control, and the number of patches it was trained on."""
    plates, table = make_plates(work)
    clear = table[(table["split"] == "train") & (table["area"] >= LEAST_AREA) & (table["purity"] >= PURITY)]
    chosen = clear.sample(min(CONTROL_PATCHES, len(clear)), random_state=0)
    train = read(plates, chosen.reset_index(drop=True))
    accuracy, confusion = fit_control((features_of(train), train.truth), (features_of(held_out), held_out.truth))
    return accuracy, confusion, len(train)


def main(work: Path, folder: Path) -> None:
    classifier = load_classifier(folder)
    print(f"Simulator version {VERSION}; classifier {classifier.card.name} {classifier.card.weights_sha256[:12]}\n")
    held_out, probability = score(classifier, work, seeds=SEEDS, name="five-states")
    scores = evaluate(probability, held_out.truth, groups=held_out.group)
    accuracy, confusion, trained = control(work, held_out)
    print(f"default difficulty: {len(held_out)} clear patches, {scores['wells']} wells, seeds {SEEDS}")
    print(scores)
    print(f"control on the same patches (trained on {trained}): {accuracy:.3f}\n{confusion}\n")
    print(f"ECE {expected_calibration_error(probability, held_out.truth):.4f}")
    print("| setting | patches | accuracy |\n|---|---|---|")
    for name, options in HARDER.items():
        patches, answer = score(classifier, work, seeds=HARDER_SEEDS, name=name, **options)
        right = answer.argmax(axis=1) == patches.truth
        print(f"| {name} | {len(patches)} | {right.mean():.3f} |", flush=True)
    print(f"\nstates in order: {', '.join(STATES)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else Path("models/demonstration"))
