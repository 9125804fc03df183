"""Is this classifier folder whole, unaltered and usable here: one answer a question."""

import csv
import hashlib
import math
import time
from dataclasses import dataclass
from pathlib import Path

from plates.errors import ClassifierError
from plates.patches import UM_PER_PX
from plates.states import STATES

from .checksums import altered_files
from .classifier import Card, load_classifier, read_card
from .shelf import ADAPTATION, RECORD, WEIGHTS, find_pickles, require_files

RECORD_HAS = ("epoch", "train_loss", "validation_loss", "accuracy")


@dataclass(frozen=True)
class Check:
    """One question to a classifier folder: what was asked, whether all is well, and what was found."""

    name: str
    ok: bool
    text: str


def verify_classifier(path: Path, *, device: str = "cpu") -> list[Check]:
    """Ask a classifier folder everything that can be asked without a plate.

    Returns
    -------
    checks
        Of files, card, weights, states, scale, test input and training record, in this order; the list
        ends early where files or card are unusable, since everything else follows from them. Nothing
        that a folder can hold raises an error.
    """
    try:
        require_files(path)
    except ClassifierError as error:
        return [Check("files", False, str(error))]
    checks = [_check_files(path)]
    try:
        card = read_card(path)
    except ClassifierError as error:
        return [*checks, Check("card", False, str(error))]
    checks.append(Check("card", True, f"{card.name}, {card.architecture}, card format {card.card_format}"))
    checks += [_check_weights(path, card), _check_states(card), _check_scale(card)]
    return [*checks, _check_answer(path, device), _check_record(path, card)]


def _check_files(path: Path) -> Check:
    pickles = find_pickles(path)
    if pickles:
        return Check(
            "files",
            False,
            f"{', '.join(pickles)} beside {WEIGHTS}: such a file can run code when opened, and nothing here needs it. "
            "Remove it before sharing the folder.",
        )
    if wrong := altered_files(path):
        told = "; ".join(f"{name} {what}" for name, what in sorted(wrong.items()))
        return Check("files", False, f"{told}. Copy the classifier folder again.")
    size = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    return Check("files", True, f"card and weights there, no pickle, {size / 1e6:.1f} MB")


def _check_weights(path: Path, card: Card) -> Check:
    with (path / WEIGHTS).open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found == card.weights_sha256:
        return Check("weights", True, f"sha256 {found[:12]} as on the card")
    return Check(
        "weights",
        False,
        f"sha256 {found[:12]}, the card says {card.weights_sha256[:12]}: altered or not copied whole. "
        "Copy the classifier folder again.",
    )


def _check_states(card: Card) -> Check:
    names = ", ".join(str(state) for state in card.states)
    if len(set(card.states)) != len(card.states) or len(card.states) < 2 or not all(card.states):
        return Check("states", False, f"{names or 'none'}. Expected two or more different names.")
    if card.states == STATES:
        return Check("states", True, "the five states of a plate")
    return Check("states", True, f"{names}: its own, so that it can be evaluated and adapted, not run on plates")


def _check_scale(card: Card) -> Check:
    lengths = [card.um_per_px] if card.planes is None else [card.um_per_px, card.um_per_plane]
    if not all(isinstance(length, int | float) and math.isfinite(length) and length > 0 for length in lengths):
        return Check(
            "scale", False, f"um_per_px {card.um_per_px}, um_per_plane {card.um_per_plane}. Expected lengths above 0."
        )
    text = f"{card.patch_px} px of {card.um_per_px:g} um"
    if card.planes is not None:
        text += f", {card.planes} planes of {card.um_per_plane:g} um"
    if card.um_per_px != UM_PER_PX:
        text += f"; plates are classified at {UM_PER_PX:g} um, so that it cannot be run on them"
    return Check("scale", True, text)


def _check_answer(path: Path, device: str) -> Check:
    began = time.perf_counter()
    try:
        classifier = load_classifier(path, device=device)
    except ClassifierError as error:
        return Check("test input", False, str(error))
    except Exception as error:  # a value of the card that is of a wrong kind can fail anywhere in torch
        return Check("test input", False, f"it cannot be asked: {error}. Copy the classifier folder again.")
    seconds = time.perf_counter() - began
    test = classifier.card.test
    return Check(
        "test input",
        True,
        f"{test['patches']} patches answered within {test['tolerance']:g} on {classifier.device}, in {seconds:.2f} s",
    )


def _check_record(path: Path, card: Card) -> Check:
    file = path / RECORD
    if not file.is_file() and (path / ADAPTATION).is_file():
        return Check("record", True, f"adapted: {ADAPTATION} tells how; {card.trained_on}")
    if not file.is_file():
        return Check("record", False, f"no {RECORD}: how it was trained cannot be followed. Ask for the whole folder.")
    try:
        with file.open(newline="", encoding="utf-8", errors="replace") as lines:
            reader = csv.DictReader(lines)
            missing = [name for name in RECORD_HAS if name not in (reader.fieldnames or ())]
            epochs = sum(1 for _ in reader)
    except csv.Error as error:
        return Check("record", False, f"{RECORD} is no table ({error}). Copy the classifier folder again.")
    if missing or not epochs:
        what = f"no column {missing[0]!r}" if missing else "no epoch"
        return Check("record", False, f"{RECORD} has {what}. Copy the classifier folder again.")
    if not card.trained_on or not card.fingerprint:
        return Check("record", False, "the card does not say what it was trained on.")
    return Check("record", True, f"{epochs} epochs on {card.trained_on}; fingerprint {card.fingerprint[:12]}")
