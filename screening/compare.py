"""Is a look at volumes worth it? Networks of projections and of volumes, trained and judged on the same split."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plates.errors import SettingsError
from plates.files import write_durable
from plates.states import STATES
from screening.fingerprints import digest
from screening.train import claim, rows_of

if TYPE_CHECKING:
    import pandas as pd

    from models.classifier import Classifier
    from models.datasets import Patches
    from models.recipes import Recipe

RECORD = "comparison.json"
TABLE = "comparison.csv"
CALLS = "predictions.csv"
PAGE = "comparison.html"
HALVES = ("two", "three")
Progress = Callable[[int, int, str], None]


def compare(
    table: "pd.DataFrame",
    *,
    out: Path,
    two: "Recipe",
    three: "Recipe",
    states: Sequence[str] = STATES,
    device: str = "auto",
    command: str = "",
    open_plate: Callable[[Path], Any] | None = None,
    medium_of: Callable[[Path], Callable[[str, int, int], float]] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a network on projections and one on volumes of the same patches, and compare them on the test wells.

    Each half is resumed where it was interrupted, and not trained again once its folder is there.

    Parameters
    ----------
    table
        As `models.annotations.read_annotations` returns it, with a column `split` (see `models.splits.split_by`)
        that has patches in train, validation and test.
    out
        Folder for the classifiers `two` and `three` and for the comparison.
    two, three
        How to train either; `three` says the planes and their distance.
    states
        The states to tell apart, any two or more, in order.
    open_plate, medium_of
        As in `models.datasets.read_patches`.
    progress
        Called with (done, total, text) while patches are read and networks trained.

    Returns
    -------
    comparison
        What `comparison.json` holds: `classifiers`, `data`, `notes`, `two` and `three` (scores with intervals),
        `difference` (three less two) and `mcnemar`. Beside it lie `comparison.csv` (the scores as a table) and
        `predictions.csv` (every test patch with the calls of both).

    Raises
    ------
    SettingsError
        If an architecture looks at the wrong thing, no patch is held out, or `out` holds another comparison.
    """
    from models.checksums import write_checksums
    from models.comparison import compare_classifiers
    from models.datasets import by_split
    from models.networks import is_volumetric
    from reports.comparison import write_comparison_report

    for recipe, volumetric, what in ((two, False, "projections"), (three, True, "volumes")):
        if is_volumetric(recipe.architecture) != volumetric:
            raise SettingsError(
                f"{recipe.architecture} does not look at {what}. Expected a network of projections such as resnet18 "
                "for --two, and one of volumes such as small3d for --three."
            )
    for split in ("train", "validation", "test"):
        if split not in set(table["split"]):
            raise SettingsError(
                f"No patch is in the split {split!r}. Expected wells in train, validation and test: both networks are "
                "judged on wells that neither has seen. Annotate more wells, or correct the split column."
            )
    two = replace(two, patch_px=three.patch_px)
    claim(out, digest([rows_of(table), asdict(two), asdict(three), list(states)]), what="comparison")
    test = by_split(table[table["split"] == "test"])
    judged: dict[str, tuple[Classifier, Patches]] = {}
    for half, recipe in zip(HALVES, (two, three), strict=True):
        judged[half] = _half(
            table,
            test,
            out=out / half,
            recipe=recipe,
            states=states,
            device=device,
            command=command,
            open_plate=open_plate,
            medium_of=medium_of,
            progress=progress,
        )
    (flat, projections), (deep, volumes) = judged["two"], judged["three"]
    found = compare_classifiers(flat, deep, seen_by_one=projections, seen_by_other=volumes, seed=two.seed)
    comparison = {
        "classifiers": {half: _classifier_entry(classifier) for half, (classifier, _) in judged.items()},
        "data": {
            "states": list(states),
            "patches": {split: int((table["split"] == split).sum()) for split in ("train", "validation", "test")},
            "wells": found["one"]["wells"],
            "plates": sorted({Path(str(path)).name for path in test["plate"]}),
        },
        "notes": held_out_notes(table),
        "two": found["one"],
        "three": found["other"],
        "difference": found["difference"],
        "mcnemar": {
            "only_two_right": found["mcnemar"]["only_one_right"],
            "only_three_right": found["mcnemar"]["only_other_right"],
            "p_value": found["mcnemar"]["p_value"],
        },
    }
    _write_calls(out / CALLS, test, found["probability"], states)
    _write_table(out / TABLE, comparison)
    write_durable(out / RECORD, (json.dumps(comparison, indent=1) + "\n").encode())
    write_comparison_report(comparison, out=out / PAGE)
    for half in HALVES:
        (out / f"{half}.npy").unlink(missing_ok=True)
    write_checksums(out)
    return comparison


def held_out_notes(table: "pd.DataFrame") -> list[str]:
    """What the test patches share with those trained on, one sentence each; empty if neither plate nor date."""
    import numpy as np

    from models.dates import dates_of
    from models.splits import plate_names

    tested = (table["split"] == "test").to_numpy()
    notes = []
    for what, names in (("plate", plate_names(table)), ("date", dates_of(table))):
        if (names == "").any():
            notes.append("The date of some wells is not known, so that nobody can tell whether one is held out.")
            continue
        shared = sorted(set(names[tested]) & set(names[~tested]))
        if shared:
            listed = ", ".join(shared[:5]) + (", ..." if len(shared) > 5 else "")
            verb = "was" if len(shared) == 1 else "were"
            whole = "No" if set(shared) == set(np.unique(names[tested])) else "Not every"
            notes.append(
                f"{whole} {what} of the test wells is held out: {listed} {verb} trained on too. On another {what} both "
                "networks may do worse."
            )
    return notes


def in_words(comparison: dict[str, Any]) -> list[str]:
    """The comparison as sentences for a person, the answer first."""
    two, three = comparison["two"]["accuracy"], comparison["three"]["accuracy"]
    difference, mcnemar = comparison["difference"], comparison["mcnemar"]
    names = {half: entry["architecture"] for half, entry in comparison["classifiers"].items()}
    points = f"{100 * difference['value']:+.1f} points"
    low, high = difference["low"], difference["high"]
    if low is None or high is None:
        verdict = (
            f"Volumes against projections: {points}; fewer than five test wells, so nobody knows how sure that is."
        )
    else:
        sure = "Volumes tell more" if low > 0 else "Projections tell more" if high < 0 else "No difference is shown"
        verdict = f"{sure}: {points} (95 % interval {100 * low:+.1f} to {100 * high:+.1f}) for volumes."
    data = comparison["data"]
    return [
        verdict,
        f"Projections ({names['two']}): accuracy {_with_interval(two)}.",
        f"Volumes ({names['three']}): accuracy {_with_interval(three)}.",
        f"Only the volumes' network was right on {mcnemar['only_three_right']} patches, only the projections' on "
        f"{mcnemar['only_two_right']} (McNemar's exact test, patches taken as independent: p = "
        f"{mcnemar['p_value']:.2g}).",
        f"Judged on {data['patches']['test']} patches of {data['wells']} wells that neither was trained on "
        f"({', '.join(data['plates'])}).",
        *comparison["notes"],
    ]


def _half(
    table: "pd.DataFrame",
    test: "pd.DataFrame",
    *,
    out: Path,
    recipe: "Recipe",
    states: Sequence[str],
    device: str,
    command: str,
    open_plate: Callable[[Path], Any] | None,
    medium_of: Callable[[Path], Callable[[str, int, int], float]] | None,
    progress: Progress | None,
) -> "tuple[Classifier, Patches]":
    """The trained classifier of one half, and the test patches as it sees them."""
    from models.classifier import load_classifier
    from models.datasets import read_patches
    from models.networks import is_volumetric
    from models.training import fit
    from models.volumes import read_volumes

    def told(done: int, total: int, text: str) -> None:
        if progress is not None:
            progress(done, total, f"{out.name}: {text}")

    def read(rows: "pd.DataFrame") -> "Patches":
        options: dict[str, Any] = {
            "open_plate": open_plate,
            "medium_of": medium_of,
            "patch_px": recipe.patch_px,
            "states": states,
            "into": out.with_suffix(".npy"),
            "progress": lambda done, total: told(done, total, "reading patches"),
        }
        if is_volumetric(recipe.architecture):
            return read_volumes(rows, planes=recipe.planes, um_per_plane=recipe.um_per_plane, **options)
        return read_patches(rows, **options)

    if out.exists():
        return load_classifier(out, device=device), read(test)
    patches = read(table)
    classifier = fit(
        patches,
        out=out,
        recipe=recipe,
        name=out.name,
        command=command,
        device=device,
        progress=lambda epoch: told(epoch.epoch + 1, recipe.epochs, f"training {recipe.architecture}"),
    )
    return classifier, patches.of("test")


def _classifier_entry(classifier: "Classifier") -> dict[str, Any]:
    card = classifier.card
    return {
        "name": card.name,
        "architecture": card.architecture,
        "weights_sha256": card.weights_sha256,
        "planes": card.planes,
        "um_per_plane": card.um_per_plane,
        "temperature": card.temperature,
        "calibration": card.calibration,
    }


def _write_table(path: Path, comparison: dict[str, Any]) -> None:
    rows: list[list[object]] = []
    for half in HALVES:
        for measure in ("accuracy", "balanced_accuracy"):
            rows.append([half, measure, "", *comparison[half][measure].values()])
        for measure in ("recall", "precision", "f1", "auc"):
            rows += [[half, measure, state, *entry.values()] for state, entry in comparison[half][measure].items()]
    rows.append(["three less two", "accuracy", "", *comparison["difference"].values()])
    _write_csv(path, ["classifier", "measure", "state", "value", "low", "high"], rows)


def _write_calls(path: Path, test: "pd.DataFrame", probabilities: Sequence[Any], states: Sequence[str]) -> None:
    places = ["plate", "well", "field", "timepoint", "y_um", "x_um", "state"]
    called = [[states[k] for k in probability.argmax(axis=1)] for probability in probabilities]
    rows = zip(test[places].itertuples(index=False), *called, *probabilities, strict=True)
    header = [*places, *(f"called_{half}" for half in HALVES)]
    header += [f"p_{half}_{state}" for half in HALVES for state in states]
    _write_csv(path, header, [[*place, a, b, *map(_short, p), *map(_short, q)] for place, a, b, p, q in rows])


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _short(probability: float) -> str:
    return f"{probability:.5f}"


def _with_interval(entry: dict[str, float | None]) -> str:
    if entry["low"] is None or entry["high"] is None:
        return f"{entry['value']:.3f} (no interval: fewer than five wells)"
    return f"{entry['value']:.3f} ({entry['low']:.3f} to {entry['high']:.3f})"
