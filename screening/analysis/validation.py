"""What a classifier's held-out wells say about its errors, as plain numbers that travel with its probabilities."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.counted_errors import SCORE_EDGES, measure
from plates.states import DEAD, STATES

from .quantification import LEAST_VALIDATED

if TYPE_CHECKING:
    from models.classifier import Card

LIVE = "live"
GROUPS = (*DEAD, LIVE)
"""The states between which a correction is possible: the two live ones are one state under two conditions."""

ATTRIBUTE = "validation"
ABSENT = "not corrected: the classifier brings no confusion matrix"

GROUP_OF_STATE = np.array([GROUPS.index(state) if state in DEAD else len(DEAD) for state in STATES])


@dataclass(frozen=True, eq=False)
class Validation:
    """Patches of known state of wells that the classifier has not seen; the five states, or the four groups."""

    confusion: NDArray[np.float64]  # (true, called)
    effective: NDArray[np.float64]  # (true,), independent patches that they are worth
    prior: NDArray[np.float64]  # (state,), for which the probabilities are calibrated
    scores: NDArray[np.float64] | None  # (true, called, bin of the called state's probability)
    text: str


def record_of_card(card: Card) -> dict[str, Any]:
    """What a classifier's card says of its errors, for the attribute `validation` of the probabilities.

    The test wells are taken where they hold ten patches of each group, else the validation wells, on which its
    best epoch and temperature were chosen.

    Returns
    -------
    record
        `confusion` (true, called) over the five states, `text`, and where the card has them `effective`, `prior`,
        `scores` (see `measure`). Empty where the card has no matrix of the five states.
    """
    for part in ("test", "validation"):
        metrics = card.metrics.get(part, {})
        counts = _matrix(metrics.get("confusion"))
        if counts is not None and (part == "validation" or (_merged(counts).sum(axis=1) >= LEAST_VALIDATED).all()):
            kept = {name: metrics[name] for name in ("confusion", "effective", "prior", "scores") if name in metrics}
            return {**kept, "text": _text_of_card(card, part, int(counts.sum()))}
    return {}


def record_of_evaluation(folder: Path) -> dict[str, Any]:
    """The same of an evaluation's folder, so that a matrix measured on one's own stained plates can be used.

    Raises
    ------
    SettingsError
        If the folder holds no evaluation, or one of other states.
    """
    import pandas as pd

    from models.evaluation import PREDICTIONS, read_evaluation
    from plates.errors import SettingsError

    record = read_evaluation(folder)
    states = tuple(record["classifier"]["states"])
    if states != STATES:
        raise SettingsError(
            f"{folder} is an evaluation of the states {', '.join(states)}. Expected {', '.join(STATES)}, in this "
            "order. Give an evaluation of the classifier that classified the plate."
        )
    table = pd.read_csv(folder / PREDICTIONS, dtype={"plate": str, "well": str})
    truth = np.array([STATES.index(state) for state in table["state"]])
    measured = measure(
        table[[f"p_{state}" for state in STATES]].to_numpy(dtype=float),
        truth,
        groups=(table["plate"] + ":" + table["well"]).to_numpy(dtype=str),
    )
    data = record["data"]
    text = f"{data['patches']} patches of {data['wells']} wells on {data['plates']} plates: {data['text']}"
    if data["known_wells"].get("train"):
        text += f"; {data['known_wells']['train']} of these wells were trained on, which flatters it"
    return {**measured, "text": text}


def read_record(stored: object) -> Validation | None:
    """The record as it is stored (JSON text, or a mapping); None where it holds no matrix of the five states."""
    if isinstance(stored, str):
        try:
            stored = json.loads(stored or "{}")
        except ValueError:
            return None
    if not isinstance(stored, Mapping):
        return None
    counts = _matrix(stored.get("confusion"))
    if counts is None:
        return None
    rows = counts.sum(axis=1)
    effective = _numbers(stored.get("effective"), shape=(len(STATES),))
    prior = _numbers(stored.get("prior"), shape=(len(STATES),))
    scores = _numbers(stored.get("scores"), shape=(len(STATES), len(STATES), len(SCORE_EDGES) + 1))
    known = [str(stored.get("text", ""))]
    if effective is None:
        known.append("patches of one well taken as independent")
    if prior is None:
        known.append("prior taken as equal for the five states")
        prior = np.full(len(STATES), 1 / len(STATES))
    return Validation(
        confusion=counts,
        effective=rows if effective is None else np.minimum(effective, rows),
        prior=prior / prior.sum() if prior.sum() > 0 else prior,
        scores=scores,
        text="; ".join(part for part in known if part),
    )


def merge_live(found: Validation) -> Validation:
    """The same of the four groups, the bins of the calls left out."""
    return Validation(_merged(found.confusion), _summed(found.effective), _summed(found.prior), None, found.text)


def _merged(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(true, called) of the five states -> of the four groups."""
    result = np.zeros((len(GROUPS), len(GROUPS)))
    np.add.at(result, (GROUP_OF_STATE[:, None], GROUP_OF_STATE[None, :]), counts)
    return result


def _summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.bincount(GROUP_OF_STATE, weights=values, minlength=len(GROUPS)).astype(np.float64)


def _matrix(value: object) -> NDArray[np.float64] | None:
    return _numbers(value, shape=(len(STATES), len(STATES)))


def _numbers(value: object, *, shape: Sequence[int]) -> NDArray[np.float64] | None:
    """Numbers of a shape, none of them negative; None where they are not that."""
    try:
        numbers = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return None
    usable = numbers.shape == tuple(shape) and bool(np.isfinite(numbers).all()) and bool((numbers >= 0).all())
    return numbers if usable else None


def _text_of_card(card: Card, part: str, patches: int) -> str:
    wells = card.wells.get(part, [])
    plates = {name.rpartition(":")[0] for name in wells}
    shared = plates & {name.rpartition(":")[0] for name in card.wells.get("train", [])}
    text = f"{patches} {part} patches"
    if wells:
        where = "of plates it was not trained on" if not shared else "of plates it was trained on, which flatters it"
        text += f" of {len(wells)} wells {where}"
    return text
