"""Make the shipped demonstration classifier: simulate annotated plates, train on them, measure the honest control.

    python -m tests.benchmarks.demonstration_classifier WORK_FOLDER models/demonstration

Each plate has its own library of compounds, its own frame times and its own seed. Six plates train, one chooses
the epoch and calibrates, one is only scored. The honest control (gradient boosting on histogram and texture
features) is trained and scored on the same patches. About 40 minutes on two cores and 25 GB
of disk; an interrupted run goes on.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from models.datasets import Patches, read_patches
from models.training import Recipe, fit
from plates.ingest.convert import ingest
from plates.layout import read_plate_map
from plates.simulation.design import design_plates, make_library
from plates.simulation.plate import VERSION, simulate_plate
from plates.simulation.truth import annotate
from screening.cluster import cluster, worker_count
from screening.terminal import Bars
from tests.benchmarks.texture_control import fit_control, texture_features

TRAIN, VALIDATION, TEST = (101, 102, 103, 104, 105, 106), (107,), (108,)
HOURS = (
    (3.0, 8.0, 16.0),
    (5.0, 10.0, 15.0),
    (2.0, 6.0, 12.0),
    (4.0, 9.0, 14.0),
    (3.0, 7.0, 18.0),
    (2.0, 8.0, 15.0),
    (0.0, 8.0, 16.0),
)
CONTROL_PATCHES = 6000
RECIPE = Recipe(architecture="resnet18", epochs=14, batch=32, seed=1, small_share=0.65)


def make_plates(work: Path, bars: Bars) -> pd.DataFrame:
    """Simulate, convert and annotate all plates; return their annotation table with its splits."""
    tables = []
    splits = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
    with cluster(workers=worker_count()) as client:
        for split, seeds in splits.items():
            for seed in seeds:
                hours = HOURS[seed % len(HOURS)]
                design = design_plates(
                    make_library(seed), seed=seed, plates=1, hours=hours, confluency=(0.15, 0.7), names=[f"T{seed}"]
                )[0]
                folder = simulate_plate(design, work, client=client, progress=bars)
                plate_map = read_plate_map(work / f"{design.name}.csv")
                plate = ingest(folder, out=work / "store" / f"{design.name}.zarr", plate_map=plate_map, client=client)
                table = annotate(work / f"{design.name}.truth", plate.path)
                tables.append(table.assign(split=split))
    return pd.concat(tables, ignore_index=True)


def control_accuracy(patches: Patches) -> dict[str, object]:
    """Accuracy of gradient boosting on texture features, on the same test patches as the network's."""
    rng = np.random.default_rng(0)
    parts = []
    for split in ("train", "test"):
        part = patches.of(split)
        chosen = np.sort(rng.permutation(len(part))[:CONTROL_PATCHES])
        size = RECIPE.patch_px
        index = np.stack(
            [
                part.counts[patch, y : y + size, x : x + size] / 1e4 - part.medium_index[patch]
                for patch, (y, x) in zip(chosen, part.corner[chosen], strict=True)
            ]
        )
        parts.append((texture_features(index.astype(np.float32)), part.truth[chosen]))
    accuracy, confusion = fit_control(parts[0], parts[1])
    return {"accuracy": accuracy, "confusion": confusion.tolist(), "patches": [len(parts[0][1]), len(parts[1][1])]}


def main(work: Path, out: Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    with Bars() as bars:
        table = make_plates(work, bars)
        table.to_csv(work / "annotations.csv", index=False)
        patches = read_patches(table)
        classifier = fit(
            patches,
            out=out,
            recipe=RECIPE,
            name="demonstration",
            trained_on=f"simulated HeLa-like cells only (simulator version {VERSION}); it knows no real cell",
            command="python -m tests.benchmarks.demonstration_classifier WORK_FOLDER models/demonstration",
            progress=lambda epoch: bars(epoch.epoch + 1, RECIPE.epochs, "training"),
        )
    control = control_accuracy(patches)
    (work / "control.json").write_text(json.dumps(control) + "\n")
    test = classifier.card.metrics["test"]
    print(f"network: {test['accuracy']:.3f} ({test['accuracy_low']:.3f} to {test['accuracy_high']:.3f}, test plate)")
    print(f"honest control: {control['accuracy']:.3f} (same plate)")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
