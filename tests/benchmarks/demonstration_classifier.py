"""Make the shipped demonstration classifier from simulated plates.

    python -m tests.benchmarks.demonstration_classifier WORK_FOLDER models/demonstration

Two kinds of plates train it: screens, each with its own library of compounds, frame times and cell density, whose
patches may hold cells of several states and of the first hours after an onset; and plates of controls, as a
laboratory makes them to annotate. One plate of each kind chooses the epoch and calibrates, one of controls is only
scored. `tests.benchmarks.five_states` measures it on plates of other seeds. About an hour on two cores and 15 GB of
disk; an interrupted run goes on.
"""

import sys
from pathlib import Path
from typing import Any

import pandas as pd

from models.classifier import load_classifier
from models.recipes import Recipe
from models.training import fit
from plates.simulation.design import PlateDesign, design_annotation_plate, design_plates, make_library
from plates.simulation.plate import VERSION
from screening.terminal import Bars
from tests.benchmarks.simulated_patches import SimulatedPlate, annotate, read, simulate

SCREENS: dict[str, tuple[int, ...]] = {"train": (301, 302, 303, 304), "validation": (306,), "test": ()}
CONTROLS = {"train": (401, 402, 403, 404, 411, 412), "validation": (405,), "test": (406,)}
HOURS = ((3.0, 8.0, 16.0), (5.0, 10.0, 15.0), (2.0, 6.0, 12.0), (4.0, 9.0, 14.0), (3.0, 7.0, 18.0), (0.0, 8.0, 16.0))
CONFLUENCY = (0.15, 0.7)
# Patches of screens count with less cell and less purity, as they do on a plate to be classified.
SCREEN_RULE = {"least_area": 0.05, "purity": 0.5}
RECIPE = Recipe(architecture="resnet18", epochs=14, batch=32, seed=1, small_share=0.6, label_smoothing=0.02)


def make_plates(work: Path) -> tuple[list[SimulatedPlate], pd.DataFrame]:
    """Simulate and annotate all plates; the table names the split of each."""
    plates, tables = [], []
    for split in ("train", "validation", "test"):
        designs: list[tuple[PlateDesign, dict[str, Any]]] = []
        for seed in SCREENS[split]:
            library = make_library(seed)
            hours = HOURS[seed % len(HOURS)]
            options: dict[str, Any] = {"hours": hours, "confluency": CONFLUENCY, "names": [f"S{seed}"]}
            designs.append((design_plates(library, seed=seed, plates=1, **options)[0], SCREEN_RULE))
        for seed in CONTROLS[split]:
            options = {"wells_per_state": 8, "hours": (9.0, 15.0), "confluency": CONFLUENCY}
            designs.append((design_annotation_plate(seed, name=f"C{seed}", **options), {}))
        for design, rule in designs:
            plates.append(simulate(design, work / "plates"))
            tables.append(annotate(plates[-1], split=split, **rule))
            print(f"{design.name}: {len(tables[-1])} patches for {split}", flush=True)
    return plates, pd.concat(tables, ignore_index=True)


def main(work: Path, out: Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    plates, table = make_plates(work)
    table.to_csv(work / "annotations.csv", index=False)
    patches = read(plates, table, into=work / "patches.npy")
    if not out.exists():
        with Bars() as bars:
            fit(
                patches,
                out=out,
                recipe=RECIPE,
                name="demonstration",
                trained_on=f"simulated HeLa-like cells only (simulator version {VERSION}); it knows no real cell",
                command="python -m tests.benchmarks.demonstration_classifier WORK_FOLDER models/demonstration",
                progress=lambda epoch: bars(epoch.epoch + 1, RECIPE.epochs, "training"),
            )
    print(load_classifier(out).card.metrics["test"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
