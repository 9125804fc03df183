"""The record of an evaluation as its page needs it: read and checked, as rows of tables, and as files to take away."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from plates.errors import MissingInputError, StoreError

from . import words
from .classifier_words import score
from .page import Page
from .state_looks import Look

RECORD, PREDICTIONS, CARD_FILE = "evaluation.json", "predictions.csv", "card.json"
NEEDED = ("classifier", "data", "scores")
# what the page tells of a card: its name for it, and the unit
CARD = {
    "name": ("name", ""),
    "architecture": ("architecture", ""),
    "quantity": ("sees", ""),
    "planes": ("planes", ""),
    "um_per_plane": ("plane distance", "µm"),
    "projection": ("projection", ""),
    "patch_px": ("patch size", "px"),
    "um_per_px": ("scale", "µm per pixel"),
    "index_window": ("window", ""),
    "temperature": ("temperature", ""),
    "calibration": ("calibration", ""),
    "trained_on": ("trained on", ""),
    "fingerprint": ("training data, SHA-256", ""),
    "seed": ("seed", ""),
    "command": ("command", ""),
    "weights_sha256": ("weights, SHA-256", ""),
    "versions": ("versions", ""),
}


def read_evaluation(folder: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """Read the record of an evaluation and its patches; names stay text, whatever they look like."""
    for name in (RECORD, PREDICTIONS):
        if not (folder / name).is_file():
            raise MissingInputError(
                f"{folder} holds no {name}. Expected the folder that an evaluation wrote. "
                "Correct the path, or run 'tomoscreen evaluate' first."
            )
    try:
        record = dict(json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except ValueError as error:
        raise StoreError(f"{folder / RECORD} is not JSON ({error}). Run 'tomoscreen evaluate' again.") from error
    if absent := [key for key in NEEDED if not isinstance(record.get(key), dict)]:
        raise StoreError(
            f"{folder / RECORD} has no {', '.join(absent)}: it is not the record of an evaluation. "
            "Run 'tomoscreen evaluate' again."
        )
    # a well "1E5" or a state "NA" is a name, and stays one
    predictions = pd.read_csv(folder / PREDICTIONS, dtype=str, keep_default_na=False)
    if "outlier" in predictions:
        predictions["outlier"] = pd.to_numeric(predictions["outlier"], errors="coerce")
    return record, predictions


def read_card(folder: Path) -> dict[str, Any]:
    """What the card in a classifier's folder says; empty where the folder has none yet, or one that cannot be read."""
    try:
        card = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return dict(card) if isinstance(card, dict) else {}


def confusion_rows(table: Sequence[Sequence[int]], looks: Sequence[Look]) -> list[dict[str, Any]]:
    """Rows of a confusion table: true state, patches, and for each called state the count and its share of the row."""
    rows = []
    for index, (look, counts) in enumerate(zip(looks, table, strict=True)):
        total = sum(counts)
        cells = [
            {"count": count, "share": count / total if total else float("nan"), "right": other == index}
            for other, count in enumerate(counts)
        ]
        rows.append({"look": look, "patches": total, "cells": cells})
    return rows


def card_rows(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a card says, in the order of interest; what it does not say is left out."""
    listed = []
    for key, (name, unit) in CARD.items():
        value = card.get(key)
        if key == "planes" and value is None:
            value = "none: projections"
        if value is None or value in ("", {}):
            continue
        if isinstance(value, Mapping):
            value = ", ".join(f"{part} {version}" for part, version in sorted(value.items()))
        elif isinstance(value, list | tuple):
            value = " to ".join(str(end) for end in value)
        elif isinstance(value, float):
            value = words.number(value, 4)
        listed.append((name, f"{value} {unit}".strip()))
    return listed


def downloads(page: Page, record: Mapping[str, Any]) -> list[tuple[Markup, str]]:
    """Write the tables of a record beside the page; each comes with a word on what it holds."""
    states = [str(state) for state in record["classifier"]["states"]]
    scores = record["scores"]
    confusion = pd.DataFrame(scores["confusion"], columns=list(states))
    confusion.insert(0, "true", list(states))
    per_state = pd.DataFrame(
        {
            "state": state,
            **{
                f"{key}{end}": getattr(score((scores.get(key) or {}).get(state)), end.strip("_") or "value")
                for key in ("recall", "precision", "f1", "auc")
                for end in ("", "_low", "_high")
            },
        }
        for state in states
    )
    files = [
        (page.table("confusion", confusion), "patches by true (rows) and called (columns) state"),
        (page.table("states", per_state), "recall, precision, F1 and AUC with 95 % intervals"),
    ]
    for name, rows, what in (
        ("wells", record.get("by_well"), "accuracy of every well"),
        ("errors", record.get("errors"), "the worst errors; the column row counts from 0 in the file of patches"),
        ("training", record.get("training"), "the training record"),
    ):
        if rows:
            files.append((page.table(name, pd.DataFrame(rows)), what))
    bins = [
        pd.DataFrame(part["bins"]).assign(calibration=name)
        for name, part in (record.get("calibration") or {}).items()
        if part and part.get("bins")
    ]
    if bins:
        files.append((page.table("reliability", pd.concat(bins)), "the bins of the reliability diagram"))
    if record.get("risk_coverage"):
        files.append((page.table("risk", pd.DataFrame(record["risk_coverage"])), "the risk-coverage curve"))
    curves = [pd.DataFrame(curve).assign(state=state) for state, curve in (record.get("roc") or {}).items() if curve]
    if curves:
        files.append((page.table("roc", pd.concat(curves)), "the ROC curves"))
    return files
