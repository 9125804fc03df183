"""An evaluation record of an invented classifier, written as an evaluation writes it; no network and no plates."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plates.states import STATES

BINS = 15


def write_evaluation(
    folder: Path,
    *,
    states: Sequence[str] = STATES,
    wells: int = 24,
    per_well: int = 60,
    skill: float = 3.2,
    name: str = "resnet18",
    trained_on: str = "HeLa, 12 plates of 2025",
    plates: Sequence[str] = ("P001", "P002"),
    calibration: str = "temperature 1.310 from 2,517 patches of 62 validation wells",
    seed: int = 0,
    **card: Any,
) -> Path:
    """Write evaluation.json and predictions.csv; `skill` is how far the true state's logit stands out."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(rng.integers(len(states), size=wells), per_well)
    logits = rng.normal(size=(wells * per_well, len(states))) + np.repeat(
        rng.normal(0, 0.4, (wells, len(states))), per_well, 0
    )
    logits[np.arange(len(truth)), truth] += skill
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    called, confidence = p.argmax(axis=1), p.max(axis=1)
    right = called == truth
    table = pd.DataFrame(
        {
            "plate": [plates[(row // per_well) % len(plates)] for row in range(len(truth))],
            "well": [f"{'ABCDEFGH'[row // per_well % 8]}{row // per_well // 8 + 1:02d}" for row in range(len(truth))],
            "field": 1,
            "timepoint": 4,
            "y_um": rng.uniform(0, 400, len(truth)).round(2),
            "x_um": rng.uniform(0, 400, len(truth)).round(2),
            "state": np.asarray(states)[truth],
            "called": np.asarray(states)[called],
            **{f"p_{state}": p[:, index].round(6) for index, state in enumerate(states)},
            "outlier": rng.gamma(6, 1.5, len(truth)).round(4),
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "predictions.csv", index=False)
    confusion = np.zeros((len(states), len(states)), dtype=int)
    np.add.at(confusion, (truth, called), 1)
    order = np.argsort(-confidence)
    worst = [int(row) for row in order if not right[row]][:30]
    wrong = np.cumsum(~right[order]) / np.arange(1, len(order) + 1)
    kept = np.linspace(0, len(order) - 1, 120).astype(int)
    record = {
        "classifier": {
            "name": name,
            "weights_sha256": "3f" * 32,
            "architecture": "resnet18",
            "states": list(states),
            "trained_on": trained_on,
            "calibration": calibration,
            "temperature": 1.31,
            "um_per_px": 0.16,
            "patch_px": 160,
            "planes": None,
            **card,
        },
        "data": {"text": "plates of seeds 900 to 901", "patches": len(truth), "wells": wells, "plates": len(plates),
                 "known_wells": {"train": 0, "validation": 0, "test": wells}},
        "scores": _scores(truth, called, p, states) | {"confusion": confusion.tolist()},
        "roc": {state: _roc(p[:, index], truth == index) for index, state in enumerate(states)},
        "calibration": {
            "before": _calibration(np.clip(confidence + 0.08, 0, 1), right),
            "after": _calibration(confidence, right),
        },
        "risk_coverage": {
            "coverage": ((kept + 1) / len(order)).tolist(),
            "error": wrong[kept].tolist(),
            "threshold": confidence[order][kept].tolist(),
        },
        "abstention": {"threshold": float(confidence[order][int(0.95 * len(order))]), "coverage": 0.95,
                       "error_of_all": float((~right).mean()), "error_of_kept": float(wrong[int(0.95 * len(order))]),
                       "chosen_on": "validation patches"},
        "outliers": {"threshold": 19.0, "share_above": 0.009, "low": 0.002, "high": 0.02,
                     "expected_share": 0.01, "limit": 0.05, "flagged": False, "text": "As expected."},
        "by_well": [
            {"plate": plate, "well": well, "patches": len(own), "accuracy": float(own.mean())}
            for (plate, well), own in pd.Series(right).groupby([table["plate"], table["well"]])
        ],
        "errors": [
            {"row": row, "state": states[truth[row]], "called": states[called[row]],
             "probability": float(confidence[row])}
            for row in worst
        ],
        "training": training_rows(),
    }  # fmt: skip
    (folder / "evaluation.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def training_rows(epochs: int = 12, *, small: int = 8) -> list[dict[str, float]]:
    """A training whose last but one epoch is the best of those at full size."""
    accuracy = [0.99 if epoch == 3 else 0.5 + 0.04 * epoch for epoch in range(epochs - 1)] + [0.6]
    return [
        {
            "epoch": epoch,
            "epochs": epochs,
            "px": 80 if epoch < small else 160,
            "train_loss": 1.4 * 0.85**epoch,
            "validation_loss": 1.5 * 0.88**epoch,
            "accuracy": accuracy[epoch],
            "seconds": 30.0,
            "images_per_second": 118.1,
        }
        for epoch in range(epochs)
    ]


def entry(value: float) -> dict[str, float]:
    """A share with an interval."""
    return {"value": value, "low": max(0.0, value - 0.015), "high": min(1.0, value + 0.01)}


def _scores(truth: np.ndarray, called: np.ndarray, p: np.ndarray, states: Sequence[str]) -> dict[str, Any]:
    right = called == truth
    recall = {
        state: entry(float(right[truth == k].mean())) if (truth == k).any() else dict.fromkeys(("value", "low", "high"))
        for k, state in enumerate(states)
    }
    precision = {
        state: entry(float(right[called == k].mean()))
        if (called == k).any()
        else dict.fromkeys(("value", "low", "high"))
        for k, state in enumerate(states)
    }
    return {
        "patches": len(truth),
        "accuracy": entry(float(right.mean())),
        "balanced_accuracy": entry(float(right.mean())),
        "recall": recall,
        "precision": precision,
        "f1": recall,
        "auc": {
            state: entry(_auc(p[:, k], truth == k)) if (truth == k).any() else dict.fromkeys(("value", "low", "high"))
            for k, state in enumerate(states)
        },
    }


def _auc(score: np.ndarray, positive: np.ndarray) -> float:
    rank = np.argsort(np.argsort(score)) + 1
    n, m = positive.sum(), (~positive).sum()
    return float((rank[positive].sum() - n * (n + 1) / 2) / (n * m))


def _roc(score: np.ndarray, positive: np.ndarray) -> dict[str, list[float]] | None:
    if not positive.any() or positive.all():
        return None
    order = np.argsort(-score)
    true = np.append(0, np.cumsum(positive[order]) / positive.sum())
    false = np.append(0, np.cumsum(~positive[order]) / (~positive).sum())
    keep = np.unique(np.searchsorted(true + false, np.linspace(0, 2, 180)).clip(0, len(true) - 1))
    return {"false_positive": false[keep].tolist(), "true_positive": true[keep].tolist()}


def _calibration(confidence: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    count = np.bincount(place, minlength=BINS)
    bins: dict[str, list[Any]] = {"count": count.tolist(), "confidence": [], "accuracy": [], "low": [], "high": []}
    for index in range(BINS):
        own = place == index
        mean, share = (float(values[own].mean()) if own.any() else None for values in (confidence, right))
        half = float(1 / np.sqrt(count[index] + 4))
        bins["confidence"].append(mean)
        bins["accuracy"].append(share)
        bins["low"].append(None if share is None else max(0.0, share - half))
        bins["high"].append(None if share is None else min(1.0, share + half))
    gap = np.abs(np.bincount(place, weights=confidence - right, minlength=BINS)).sum() / len(right)
    return {
        "ece": float(gap),
        "brier": 0.31,
        "nll": 0.42,
        "ece_by_chance": {"mean": 0.014, "high": 0.021},
        "bins": bins,
    }


def comparison(*, states: Sequence[str] = ("doxorubicin", "cisplatin"), **changed: Any) -> dict[str, Any]:
    """A classifier of volumes that sees what one of projections cannot, as `comparison.json` holds it."""

    def scores(right: int) -> dict[str, Any]:
        share = entry(right / 100)
        return {
            "accuracy": share,
            "balanced_accuracy": share,
            "confusion": _table(states, right=right, wrong=100 - right),
            **{key: dict.fromkeys(states, share) for key in ("recall", "precision", "f1", "auc")},
        }

    card = {"weights_sha256": "3f" * 32, "temperature": 1.2, "calibration": "not calibrated: 3 errors"}
    return {
        "classifiers": {
            "two": {"architecture": "resnet18", "planes": None, "um_per_plane": None} | card,
            "three": {"architecture": "small3d", "planes": 30, "um_per_plane": 0.8} | card,
        },
        "data": {
            "states": list(states),
            "patches": {"train": 800, "validation": 200, "test": 100 * len(states)},
            "wells": 20,
            "plates": ["P001"],
        },
        "notes": ["No plate of the test wells is held out: P001 was trained on too."],
        "two": scores(52),
        "three": scores(91),
        "difference": {"value": 0.39, "low": 0.36, "high": 0.42},
        "mcnemar": {"only_two_right": 3, "only_three_right": 81, "p_value": 1e-20},
    } | changed


def adaptation(*, states: Sequence[str] = STATES, old_line: bool = True) -> dict[str, Any]:
    """A classifier that falls to 61 % on a new line, comes back to 96 % and forgets three points of the old one."""

    def scores(accuracy: float) -> dict[str, Any]:
        right = round(100 * accuracy)
        return {"accuracy": entry(accuracy), "confusion": _table(states, right=right, wrong=100 - right),
                "recall": {state: entry(accuracy) for state in states}}  # fmt: skip

    return {
        "states": list(states),
        "before": scores(0.61),
        "after": scores(0.96),
        "curve": [
            {"patches": patches, "wells": patches // 5, "accuracy": entry(accuracy),
             "old_accuracy": entry(0.95) if old_line else None}
            for patches, accuracy in ((25, 0.74), (50, 0.88), (100, 0.93), (200, 0.96))
        ],
        "old_line": {"before": scores(0.98), "after": scores(0.95)} if old_line else None,
        "text": {"classifier": "resnet18", "new_line": "A549-like", "old_line": "HeLa-like",
                 "data": "1,440 patches of 24 wells", "method": "head for 5 epochs, then layer4 for 10"},
    }  # fmt: skip


def _table(states: Sequence[str], *, right: int, wrong: int) -> list[list[int]]:
    """Every state called rightly `right` times and taken for the next one `wrong` times."""
    table = np.eye(len(states), dtype=int) * right + np.roll(np.eye(len(states), dtype=int), 1, axis=1) * wrong
    return [[int(number) for number in row] for row in table]
