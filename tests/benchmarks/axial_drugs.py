"""Two drugs whose marks differ along z only: what a network of projections and one of volumes make of them.

    python -m tests.benchmarks.axial_drugs WORK_FOLDER [--fields N] [--plates N] [--epochs N]

Simulates plates of the two drugs of `plates.simulation.design.SUBTLE` (plates that train, one that chooses the
epoch and calibrates, one that is only scored; each with its own seed), cuts the same patches from projections and
from tomograms, and runs `tomoscreen compare` on them. Beside it stands what makes the comparison worth anything:
that the projections of the two drugs are alike, by the texture control trained and scored on the same patches and by
a test of each texture feature between wells. An interrupted run goes on. Prints a table in Markdown.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import ks_2samp
from sklearn.ensemble import HistGradientBoostingClassifier

from models.datasets import MARGIN_PX, Patches, read_patches
from models.intervals import share_interval
from models.recipes import Recipe
from plates.simulation.design import SUBTLE, PlannedWell, PlateDesign
from plates.simulation.plate import VERSION
from screening.compare import compare, in_words
from screening.terminal import Bars
from tests.benchmarks.axial_alike import holm
from tests.benchmarks.simulated_patches import SimulatedPlate, annotate, simulate
from tests.benchmarks.texture_control import texture_features

STATES = tuple(SUBTLE)
DOSE_UM = 10.0
HOUR = 16.0
WELLS_PER_DRUG = 24
TRAIN, VALIDATION, TEST = (3101, 3102), 3111, 3122
SHAPE = (24, 480, 480)
VOXEL_UM = (0.87449, 0.16256, 0.16256)
# A patch needs a cell that has responded: a third of it.
LEAST_AREA = 0.33


def design(seed: int, *, fields: int, wells: int = WELLS_PER_DRUG) -> PlateDesign:
    """Plate of both drugs at one dose, scattered over its wells; nothing but the drug differs between them."""
    places = [f"{row}{column:02d}" for row in "BCDEFG" for column in range(2, 12)]
    chosen = np.random.default_rng([seed, 5]).permutation(len(places))[: 2 * wells]
    planned = tuple(
        PlannedWell(places[place], SUBTLE[STATES[turn % 2]], DOSE_UM, "none", "", turn // 2 + 1)
        for turn, place in enumerate(chosen)
    )
    return PlateDesign(
        name=f"axial-{seed}",
        seed=seed,
        wells=planned,
        hours=(HOUR,),
        fields=fields,
        shape=SHAPE,
        voxel_um=VOXEL_UM,
    )


def make_table(plate: SimulatedPlate, split: str) -> pd.DataFrame:
    """Annotation table of a plate: its patches of living, treated cells, by the drug in their well."""
    drug = {well.well: well.compound.name for well in plate.design.wells if well.compound is not None}
    states = annotate(plate, split=split, least_area=LEAST_AREA)  # by true state: the dead tell nothing of a drug
    return states[states["state"] == "live-treated"].assign(state=lambda rows: rows["well"].map(drug))


def alike(patches: Patches) -> dict[str, Any]:
    """How alike the projections of the drugs are: accuracy of the texture control, and features that differ.

    Wells are the units of the tests: a feature's mean in each test well, drug against drug
    (Kolmogorov-Smirnov), corrected for the number of features (Holm).
    """
    features, truth, groups = {}, {}, {}
    for split in ("train", "test"):
        part = patches.of(split)
        features[split] = texture_features(np.stack(list(_index(part))))
        truth[split], groups[split] = part.truth, part.group
    model = HistGradientBoostingClassifier(max_iter=300, learning_rate=0.08, l2_regularization=1.0, random_state=0)
    right = model.fit(features["train"], truth["train"]).predict(features["test"]) == truth["test"]
    everything = np.concatenate([features["train"], features["test"]])
    well, state = _well_means(
        everything, np.concatenate([truth["train"], truth["test"]]), np.concatenate([groups["train"], groups["test"]])
    )
    p = holm(np.array([ks_2samp(well[state == 0, k], well[state == 1, k]).pvalue for k in range(well.shape[1])]))
    low, high = share_interval(right, groups["test"])
    return {
        "accuracy": {"value": float(right.mean()), "low": low, "high": high},
        "features": len(p),
        "differ": int((p < 0.05).sum()),
        "smallest_p": float(p.min()),
        "wells": len(well),
    }


def _index(patches: Patches) -> Iterator[npt.NDArray[np.float32]]:
    size = patches.counts.shape[-1] - 2 * MARGIN_PX
    for counts, (y, x), medium in zip(patches.counts, patches.corner, patches.medium_index, strict=True):
        yield (counts[y : y + size, x : x + size] / 1e4 - medium).astype(np.float32)


def _well_means(
    features: npt.NDArray[np.float32], truth: npt.NDArray[np.int64], groups: npt.NDArray[np.str_]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """(well, feature) means and the drug of each well."""
    _, first, place = np.unique(groups, return_index=True, return_inverse=True)
    sums = np.stack([np.bincount(place, weights=column) for column in features.T], axis=1)
    return sums / np.bincount(place)[:, None], truth[first]


def main(work: Path, *, fields: int, plates: int, epochs: int, wells: int) -> None:
    splits = {**dict.fromkeys(TRAIN[:plates], "train"), VALIDATION: "validation", TEST: "test"}
    with Bars() as bars:
        made = []
        for done, seed in enumerate(splits):
            made.append(simulate(design(seed, fields=fields, wells=wells), work / "plates", volumes=True))
            bars(done + 1, len(splits), "simulating")
        table = pd.concat(
            [make_table(plate, split) for plate, split in zip(made, splits.values(), strict=True)], ignore_index=True
        )
        known = {str(plate.folder): plate for plate in made}
        options: dict[str, Any] = {
            "open_plate": lambda path: known[str(path)],
            "medium_of": lambda path: known[str(path)].medium,
            "states": STATES,
        }
        two = Recipe(architecture="resnet18", epochs=epochs, batch=32, seed=1, small_share=0.5)
        # a fine mark such as a granule is gone at half the size: volumes are seen whole in every epoch
        three = Recipe(
            architecture="small3d",
            epochs=epochs,
            batch=16,
            seed=1,
            learning_rate=2e-3,
            small_share=0.0,
            focus=0.0,
            planes=SHAPE[0],
            um_per_plane=VOXEL_UM[0],
        )
        found = compare(table, out=work / "comparison", two=two, three=three, progress=bars, **options)
    control = alike(read_patches(table, **options))
    (work / "axial_drugs.json").write_text(json.dumps({"comparison": found, "alike": control}, indent=1) + "\n")
    for line in in_words(found):
        print(line)
    print()
    _print_table(found, control, table)


def _print_table(found: dict[str, Any], control: dict[str, Any], table: pd.DataFrame) -> None:
    counts = table.groupby("split").size()
    difference = {key: 100 * value for key, value in found["difference"].items() if value is not None}
    print(f"Simulator version {VERSION}; plates of seeds {TRAIN} (train), {VALIDATION} (validation), {TEST} (test);")
    print(f"{counts['train']} / {counts['validation']} / {counts['test']} patches of {STATES[0]} and {STATES[1]}.")
    print()
    print("| what looks | at | accuracy on the test plate | AUC |")
    print("|---|---|---|---|")
    for half, seen in (("two", "projections"), ("three", "volumes")):
        name = found["classifiers"][half]["architecture"]
        print(f"| {name} | {seen} | {_cell(found[half]['accuracy'])} | {_cell(found[half]['auc'][STATES[0]])} |")
    print(f"| texture control | projections | {_cell(control['accuracy'])} | |")
    if len(difference) == 3:
        low, high = difference["low"], difference["high"]
        print(f"| difference | | {difference['value']:+.1f} points ({low:+.1f} to {high:+.1f}) | |")
    print()
    print(
        f"Projections alike: {control['differ']} of {control['features']} texture features differ between the drugs "
        f"({control['wells']} wells, Kolmogorov-Smirnov, Holm's correction; smallest p {control['smallest_p']:.2f})."
    )


def _cell(entry: dict[str, float | None]) -> str:
    if entry["low"] is None or entry["high"] is None:
        return f"{entry['value']:.3f}"
    return f"{entry['value']:.3f} ({entry['low']:.3f} to {entry['high']:.3f})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--fields", type=int, default=3)
    parser.add_argument("--plates", type=int, default=len(TRAIN))
    parser.add_argument("--wells", type=int, default=WELLS_PER_DRUG)
    parser.add_argument("--epochs", type=int, default=26)
    given = parser.parse_args()
    main(given.work, fields=given.fields, plates=given.plates, epochs=given.epochs, wells=given.wells)
