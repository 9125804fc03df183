"""Classifier folders on the disk: found and read by their cards alone, so that no network is loaded."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plates.errors import ClassifierError

WEIGHTS = "weights.safetensors"
CARD = "card.json"
RECORD = "training.csv"
ADAPTATION = "adaptation.json"  # in its place where a classifier was adapted
# The classifier that comes with tomoscreen: it knows simulated cells only.
SHIPPED = Path(__file__).parent / "demonstration"
# Formats whose loading can run any code that somebody put into the file.
PICKLES = frozenset({".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib"})
DEEPEST = 4
# A card is some kilobytes; the names of ten thousand wells are one megabyte.
LARGEST_CARD = 20_000_000
EVERY_CARD_HAS = {"name": str, "architecture": str, "states": list, "metrics": dict, "weights_sha256": str}


@dataclass(frozen=True)
class Shelved:
    """One classifier folder: the values of its card, the bytes of its weights, and why it is no use, if so."""

    path: Path
    card: dict[str, Any]
    size: int
    trouble: str = ""


def list_classifiers(folders: Iterable[Path]) -> list[Shelved]:
    """Describe every classifier folder in the given folders, to four levels below; each once, by path.

    A folder with a card, or with weights under our name, counts as one; damaged ones are listed with their
    trouble. Plates, hidden folders and trainings under way are not entered, and no weights are read.

    Raises
    ------
    ClassifierError
        If one of the folders is not there.
    """
    found: dict[Path, Shelved] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ClassifierError(
                f"There is no folder {folder}. Expected a classifier folder or a folder of such. Correct the path."
            )
        for path in _classifier_folders(folder):
            found.setdefault(path.resolve(), read_shelved(path))
    return [found[path] for path in sorted(found)]


def read_shelved(path: Path) -> Shelved:
    """Describe one folder; what is wrong with it is told in `trouble` and raises nothing."""
    weights = path / WEIGHTS
    size = weights.stat().st_size if weights.is_file() else 0
    try:
        return Shelved(path, read_values(path), size)
    except ClassifierError as error:
        return Shelved(path, {}, size, trouble=str(error))


def read_values(path: Path) -> dict[str, Any]:
    """Values of a classifier folder's card as they are stored, its files' presence checked.

    Raises
    ------
    ClassifierError
        If the folder or a file is missing, holds a pickle in place of its weights, or the card lacks what
        every card has.
    """
    values = read_json(path)
    for name, kind in EVERY_CARD_HAS.items():
        if not isinstance(values.get(name), kind):
            raise not_a_card(path, f"it has no usable {name!r}")
    return values


def read_json(path: Path) -> dict[str, Any]:
    """Whatever names and values a classifier folder's card holds, its files' presence checked.

    Raises
    ------
    ClassifierError
        If the folder or a file is missing, or the card is too large, unreadable or no JSON object.
    """
    require_files(path)
    size = (path / CARD).stat().st_size
    if size > LARGEST_CARD:
        raise not_a_card(path, f"it has {size / 1e6:.0f} MB, at most {LARGEST_CARD / 1e6:.0f} are read")
    try:
        values = json.loads((path / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # also of bytes that are no text
        raise not_a_card(path, str(error)) from error
    if not isinstance(values, dict):
        raise not_a_card(path, "it holds no names and values")
    return values


def not_a_card(path: Path, reason: str) -> ClassifierError:
    """The error of a folder whose card.json is no card."""
    return ClassifierError(f"{path / CARD} is not a classifier's card ({reason}). Copy the classifier folder again.")


def require_files(path: Path) -> None:
    """Refuse a folder that lacks its card or weights, and say so where pickles stand in their place.

    Raises
    ------
    ClassifierError
        Naming what is missing.
    """
    if not path.is_dir():
        what = f"{path} is a file" if path.exists() else f"There is no classifier folder {path}"
        raise ClassifierError(
            f"{what}. Expected a folder with {WEIGHTS} and {CARD}. "
            "Correct the path, or make a classifier with 'tomoscreen train'."
        )
    pickles = find_pickles(path)
    if pickles and not (path / WEIGHTS).is_file():
        raise ClassifierError(
            f"The classifier folder {path} holds {pickles[0]} and no {WEIGHTS}. A {Path(pickles[0]).suffix} file is "
            "a pickle: opening it can run code that somebody put into it, so tomoscreen does not. Ask for the "
            "folder that 'tomoscreen train' wrote; or start a training of your own from these weights with "
            "'tomoscreen train --weights', which reads numbers from a .pth file and nothing else."
        )
    for name in (CARD, WEIGHTS):
        if not (path / name).is_file():
            raise ClassifierError(
                f"The classifier folder {path} has no {name}. Expected {WEIGHTS} and {CARD}. "
                "Copy the classifier folder again, or make one with 'tomoscreen train'."
            )


def find_pickles(path: Path) -> list[str]:
    """Names of files in a folder whose formats can carry code, sorted."""
    return sorted(file.name for file in path.iterdir() if file.suffix.lower() in PICKLES)


def accuracy_of(card: dict[str, Any]) -> tuple[float, float | None, float | None] | None:
    """Accuracy with its 95 % interval on the wells that a card's classifier was tested on, else validated on.

    None where the card holds no score; None for a bound that could not be estimated (fewer than five wells).
    """
    metrics = card.get("metrics") or {}
    scores = metrics.get("test") or metrics.get("validation") or {}
    accuracy = scores.get("accuracy")
    if accuracy is None:
        return None
    return accuracy, scores.get("accuracy_low"), scores.get("accuracy_high")


def is_calibrated(card: dict[str, Any]) -> bool:
    """Whether a card's temperature was fitted."""
    return not str(card.get("calibration", "not calibrated")).startswith("not calibrated")


def _classifier_folders(folder: Path) -> Iterator[Path]:
    for here, below, files in os.walk(folder):
        path = Path(here)
        if CARD in files or WEIGHTS in files:
            yield path
            below.clear()
            continue
        if len(path.relative_to(folder).parts) >= DEEPEST:
            below.clear()
        below[:] = sorted(name for name in below if _is_worth_entering(name))


def _is_worth_entering(name: str) -> bool:
    # a plate holds a folder for every well, field and chunk; an unfinished training has no card yet, the steps of
    # an unfinished adaptation have
    ours = (".zarr", ".training", ".adapting", ".progress", ".truth")
    return not name.startswith((".", "__")) and not name.endswith(ours)
