"""The record of an evaluation: every number about a classifier on patches of known state, in one folder."""

import csv
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import softmax

from plates.errors import SettingsError
from plates.states import STATES

from .abstention import abstention, choose_uncertain, risk_coverage
from .calibration import brier_score, expected_calibration_error, negative_log_likelihood, reliability
from .classifier import Card, Classifier
from .counted_errors import measure
from .datasets import Patches, by_split, require_kind
from .outliers import judge_outliers
from .prediction import predict_both
from .scores import roc_curve, score
from .shelf import RECORD
from .splits import well_groups

PREDICTIONS = "predictions.csv"
EVALUATION = "evaluation.json"
RECORD_FORMAT = 1
MOST_ERRORS = 500
FROM_CARD = (
    "name",
    "weights_sha256",
    "architecture",
    "states",
    "trained_on",
    "calibration",
    "temperature",
    "um_per_px",
    "patch_px",
    "planes",
    "um_per_plane",
    "projection",
    "quantity",
    "index_window",
    "fingerprint",
    "seed",
    "command",
    "versions",
)
PLACES = ("field", "timepoint", "y_um", "x_um")


def write_evaluation(
    classifier: Classifier,
    patches: Patches,
    *,
    out: Path,
    table: pd.DataFrame | None = None,
    folder: Path | None = None,
    text: str = "",
    seed: int = 0,
) -> dict[str, Any]:
    """Score a classifier on patches and write the record: predictions.csv and evaluation.json.

    Parameters
    ----------
    classifier
        Any classifier whose states are those of the patches.
    patches
        All of them are scored; take the split that is to be judged beforehand.
    out
        Folder to make; it is there whole or not at all.
    table
        The rows that the patches were read from, for their places (field, timepoint, y_um, x_um), in the order
        in which they were given to `read_patches` or `read_volumes`.
    folder
        The classifier's folder, for its record of training.
    text
        What the patches are, in words.
    seed
        Of the resampling of wells.

    Returns
    -------
    record
        What evaluation.json holds.

    Raises
    ------
    SettingsError
        If `out` exists, no patch is given, or they are not of the classifier's states and kind.
    ValueError
        If the table's rows are not those of the patches.
    """
    refuse_record(out)
    _check(classifier.card, patches)
    table = None if table is None else _rows_of(patches, table)
    logits, features = predict_both(classifier, patches)
    outliers = classifier.outliers
    distance = None if outliers is None else outliers.score(features)
    record = evaluation_record(
        classifier.card, logits=logits, truth=patches.truth, groups=patches.group, text=text, seed=seed
    )
    if outliers is not None and distance is not None:
        record["outliers"] = judge_outliers(distance, groups=patches.group, threshold=float(outliers.threshold))
    record["training"] = _training_rows(folder)
    predictions = _predictions(classifier.card, logits, patches, table, distance)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        made = Path(temporary) / out.name
        made.mkdir()
        predictions.to_csv(made / PREDICTIONS, index=False, float_format="%.6g")
        (made / EVALUATION).write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        made.rename(out)
    return record


def read_evaluation(folder: Path) -> dict[str, Any]:
    """Read the numbers of an evaluation's folder.

    Raises
    ------
    SettingsError
        If the folder holds no complete record of this format.
    """
    try:
        record: dict[str, Any] = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
        found = record["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"{folder} holds no evaluation ({error}). Expected a folder with {EVALUATION} and {PREDICTIONS}. "
            "Make one with 'tomoscreen evaluate'."
        ) from error
    if found != RECORD_FORMAT:
        raise SettingsError(
            f"{folder / EVALUATION} is of format {found}, this version reads {RECORD_FORMAT}. "
            "Evaluate again with this version."
        )
    return record


def refuse_record(out: Path) -> None:
    """Raise SettingsError if something is where an evaluation is to be written."""
    if out.exists():
        raise SettingsError(f"{out} exists already. Give another folder for the evaluation, or remove this one.")


def evaluation_record(
    card: Card,
    *,
    logits: npt.ArrayLike,
    truth: npt.ArrayLike,
    groups: npt.ArrayLike,
    text: str = "",
    seed: int = 0,
) -> dict[str, Any]:
    """Every number about the logits of some patches, (patch, state), at the card's temperature.

    Plain numbers, lists and dicts that JSON can hold; None where a number is not defined. `groups` names
    plate and well of each patch ("plate:well"). Where the card has no threshold for `abstention` it is
    chosen on these patches, and `chosen_on` says so. `data.known_wells` counts the wells that were in the
    classifier's own splits and `known_plates` the plates with wells that were trained on; the first is
    empty where the card does not name them.
    """
    z, y, group = np.asarray(logits, dtype=float), np.asarray(truth, dtype=np.int64), np.asarray(groups)
    raw, p = softmax(z, axis=1), softmax(z / card.temperature, axis=1)
    uncertain = dict(card.uncertain) or choose_uncertain(p)
    place = pd.DataFrame([_plate_and_well(name) for name in group.tolist()], columns=["plate", "well"])
    return {
        "format": RECORD_FORMAT,
        "classifier": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in ((name, getattr(card, name)) for name in FROM_CARD)
        },
        "data": {
            "text": text,
            "patches": len(y),
            "wells": len(np.unique(group)),
            "plates": place["plate"].nunique(),
            "known_wells": _known_wells(card, group),
            "known_plates": _known_plates(card, group),
        },
        "scores": score(p, y, groups=group, states=card.states, seed=seed),
        "roc": {state: roc_curve(p[:, k], y == k) for k, state in enumerate(card.states)},
        "calibration": {
            "before": reliability(raw, y, groups=group, seed=seed),
            "after": reliability(p, y, groups=group, seed=seed),
        },
        "risk_coverage": risk_coverage(p, y),
        "abstention": {
            **abstention(p, y, threshold=uncertain["threshold"]),
            "chosen_on": "validation patches" if card.uncertain else "these patches",
        },
        "outliers": None,
        "by_well": _by_well(p.argmax(axis=1) == y, place),
        "errors": _worst_errors(p, y, card.states),
        "training": [],
    }


def evaluate(
    probability: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    groups: npt.ArrayLike,
    states: Sequence[str] = STATES,
    seed: int = 0,
) -> dict[str, Any]:
    """The few scores that a classifier's card carries.

    Parameters are those of `scores.score`.

    Returns
    -------
    scores
        `accuracy` with its interval and `balanced_accuracy`, each state's recall, precision, F1 and AUC
        as plain numbers, `confusion`, `ece`, `nll` and `brier`; `effective`, `prior` and `scores` of
        `counted_errors.measure`.
    """
    p, y = np.asarray(probability, dtype=float), np.asarray(truth, dtype=np.int64)
    full = score(p, y, groups=groups, states=states, seed=seed)
    counted = measure(p, y, groups=groups)
    per_state = ("recall", "precision", "f1", "auc")
    return {
        "patches": full["patches"],
        "wells": full["wells"],
        "accuracy": full["accuracy"]["value"],
        "accuracy_low": full["accuracy"]["low"],
        "accuracy_high": full["accuracy"]["high"],
        "balanced_accuracy": full["balanced_accuracy"]["value"],
        **{name: {state: entry["value"] for state, entry in full[name].items()} for name in per_state},
        "confusion": full["confusion"],
        "ece": expected_calibration_error(p, y),
        "nll": negative_log_likelihood(p, y),
        "brier": brier_score(p, y),
        **{name: counted[name] for name in ("effective", "prior", "scores")},
    }


def _check(card: Card, patches: Patches) -> None:
    if len(patches) == 0:
        raise SettingsError("There is no patch to evaluate on. Expected at least one annotated patch.")
    if patches.states != card.states:
        raise SettingsError(
            f"The patches are of the states {', '.join(patches.states)}, but the classifier {card.name} tells "
            f"{', '.join(card.states)} apart. Give annotations with the classifier's states."
        )
    require_kind(patches, card)


def _known_wells(card: Card, group: npt.NDArray[np.str_]) -> dict[str, int]:
    """How many of the wells were in the classifier's own splits: on these it flatters itself."""
    here = {Path(name).name for name in group.tolist()}  # as a card names them, wherever the plate lies
    return {split: len(here & set(wells)) for split, wells in card.wells.items()}


def _known_plates(card: Card, group: npt.NDArray[np.str_]) -> int:
    """How many of the plates had wells that were trained on."""
    trained = {_plate_and_well(name)[0] for name in card.wells.get("train", [])}
    return len({_plate_and_well(Path(name).name)[0] for name in group.tolist()} & trained)


def _plate_and_well(group: str) -> tuple[str, str]:
    plate, _, well = group.rpartition(":")
    return plate, well


def _by_well(right: npt.NDArray[np.bool_], place: pd.DataFrame) -> list[dict[str, Any]]:
    wells = place.assign(right=right).groupby(["plate", "well"], sort=True)["right"].agg(["size", "mean"])
    return [
        {"plate": plate, "well": well, "patches": int(size), "accuracy": float(mean)}
        for (plate, well), size, mean in zip(wells.index, wells["size"], wells["mean"], strict=True)
    ]


def _worst_errors(
    probability: npt.NDArray[np.float64], truth: npt.NDArray[np.int64], states: Sequence[str]
) -> list[dict[str, Any]]:
    """Wrong calls, the surest first; `probability` is that of the called state."""
    called, confidence = probability.argmax(axis=1), probability.max(axis=1)
    wrong = np.flatnonzero(called != truth)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MOST_ERRORS]
    return [
        {
            "row": int(row),
            "state": states[truth[row]],
            "called": states[called[row]],
            "probability": float(confidence[row]),
        }
        for row in worst
    ]


def _predictions(
    card: Card,
    logits: npt.NDArray[np.float32],
    patches: Patches,
    table: pd.DataFrame | None,
    distance: npt.NDArray[np.float32] | None,
) -> pd.DataFrame:
    p = softmax(np.asarray(logits, dtype=float) / card.temperature, axis=1)
    rows = pd.DataFrame([_plate_and_well(name) for name in patches.group.tolist()], columns=["plate", "well"])
    for name in PLACES:
        if table is not None and name in table:
            rows[name] = table[name].to_numpy()
    rows["state"] = [card.states[k] for k in patches.truth]
    rows["called"] = [card.states[k] for k in p.argmax(axis=1)]
    for k, state in enumerate(card.states):
        rows[f"p_{state}"] = p[:, k]
    if distance is not None:
        rows["outlier"] = distance
    return rows


def _rows_of(patches: Patches, table: pd.DataFrame) -> pd.DataFrame:
    # patches are read split by split, whatever the order of the table's rows
    ordered = by_split(table)
    if not np.array_equal(well_groups(ordered), patches.group):
        raise ValueError(
            f"the table of {len(table)} rows is not the one that the {len(patches)} patches were read from"
        )
    return ordered


def _training_rows(folder: Path | None) -> list[dict[str, Any]]:
    if folder is None or not (folder / RECORD).is_file():
        return []
    with (folder / RECORD).open(newline="", encoding="utf-8") as file:
        return [{name: _number(value) for name, value in row.items()} for row in csv.DictReader(file)]


def _number(text: str) -> float | str | None:
    try:
        value = float(text)
    except ValueError:
        return text
    return value if np.isfinite(value) else None
