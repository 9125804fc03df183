"""The report of one classifier: how right it is, what its probabilities are worth, and where it errs, on one page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from . import classifier_figures as figures
from . import words
from .classifier_record import PREDICTIONS, card_rows, confusion_rows, downloads, read_evaluation
from .classifier_words import classifier_alerts, score, verdict
from .page import Page, relative_link
from .state_looks import state_looks
from .training import training_section

MOST_PICTURES = 24
MOST_ERRORS = 60  # in the table; the file beside the page holds all
NEAR_ONE = 0.99  # areas from which a whole ROC curve is a corner
PICTURE_PX = 144  # height on the page; a patch beside its heat map is twice as wide
QUALITY = 70
SHARES = ("recall", "precision", "f1")


def write_classifier_report(evaluation: Path, *, out: Path, pictures: Mapping[int, bytes] | None = None) -> Path:
    """Write the page of a classifier and the CSV files beside it; equal records give equal bytes.

    Parameters
    ----------
    evaluation
        Folder with `evaluation.json` and `predictions.csv`, as an evaluation leaves it. Parts of the record
        that are absent are said to be absent.
    out
        The page to write, for example `resnet18.html`. Its tables are named after it.
    pictures
        PNG, JPEG or WebP files of patches by their row in `predictions.csv` (0 is the first patch), each may hold
        its heat map beside it. Of the worst errors those with a picture are shown, at most 24. By default those
        that the evaluation left in its folder, see `picture_file`.

    Raises
    ------
    PIL.UnidentifiedImageError
        A picture is of another kind.
    MissingInputError
        There is no evaluation in the folder.
    StoreError
        The record is not one of an evaluation.
    """
    record, predictions = read_evaluation(evaluation)
    if pictures is None:
        pictures = _stored_pictures(evaluation, record)
    states = [str(state) for state in record["classifier"]["states"]]
    page = Page(out)
    return page.write(
        "classifier.html",
        classifier=record["classifier"],
        data=record["data"],
        calibrated=words.plain(record["classifier"].get("calibration") or "not calibrated", longest=400),
        accuracy=score(record["scores"]["accuracy"]),
        verdict=verdict(record),
        alerts=classifier_alerts(record),
        looks=state_looks(states),
        confusion=confusion_rows(record["scores"]["confusion"], state_looks(states)),
        balanced=score(record["scores"].get("balanced_accuracy")),
        states=_state_rows(record["scores"], states),
        roc=_roc(page, record, states),
        calibration=_calibration(page, record.get("calibration") or {}),
        abstention=_abstention(page, record),
        outliers=_outliers(page, record.get("outliers") or {}, predictions),
        wells=_wells(page, record.get("by_well") or []),
        errors=_errors(record, predictions, states, pictures),
        training=training_section(page, record.get("training") or []),
        card=card_rows(record["classifier"]),
        predictions=relative_link(evaluation / PREDICTIONS, start=out),
        downloads=downloads(page, record),
    )


def picture_file(row: int) -> str:
    """What the picture of a wrongly called patch is called in the folder of an evaluation."""
    return f"error-{row:06d}.png"


def _stored_pictures(evaluation: Path, record: Mapping[str, Any]) -> dict[int, bytes]:
    """Pictures beside the record, by row; those of errors that it does not hold stay where they are."""
    rows = [int(error["row"]) for error in record.get("errors") or []]
    files = {row: evaluation / picture_file(row) for row in rows}
    return {row: file.read_bytes() for row, file in files.items() if file.is_file()}


def _state_rows(scores: Mapping[str, Any], states: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "look": look,
            "patches": sum(counts),
            "shares": [score((scores.get(key) or {}).get(state)) for key in SHARES],
            "auc": score((scores.get("auc") or {}).get(state)),
        }
        for state, look, counts in zip(states, state_looks(states), scores["confusion"], strict=True)
    ]


def _roc(page: Page, record: Mapping[str, Any], states: Sequence[str]) -> dict[str, Any]:
    curves = {state: curve for state, curve in (record.get("roc") or {}).items() if curve}
    if not curves:
        return {"figures": []}
    areas = [score((record["scores"].get("auc") or {}).get(state)).value for state in curves]
    near_one = min(areas) >= NEAR_ONE
    drawn = [(figures.roc(curves, states=states, log=near_one), "ROC of every state against the rest")]
    # a curve that stays below the corner would leave its picture empty
    corner = any(figures.reaches_corner(curve) for curve in curves.values())
    if corner:
        drawn.append((figures.roc(curves, states=states, corner=True), "The upper left corner of the ROC"))
    return {
        "near_one": near_one,
        "corner": corner,
        "figures": [page.figure(figure, label=label) for figure, label in drawn],
    }


def _calibration(page: Page, calibration: Mapping[str, Any]) -> dict[str, Any]:
    held = [(name, calibration[name]) for name in ("before", "after") if calibration.get(name)]
    if not held:
        return {"rows": []}
    return {
        "rows": [
            (name, {key: score(part.get(key)) for key in ("ece", "brier", "nll")}, _by_chance(part))
            for name, part in held
        ],
        "figure": page.figure(figures.reliability(calibration), label="Accuracy against confidence, before and after"),
        "bins": [(name, _bins(part["bins"])) for name, part in held if part.get("bins")],
    }


def _by_chance(part: Mapping[str, Any]) -> tuple[float, float]:
    """Mean and upper bound of the calibration error that a perfectly calibrated classifier would show."""
    chance = part.get("ece_by_chance") or {}
    return figures.one(chance.get("mean")), figures.one(chance.get("high"))


def _bins(bins: Mapping[str, Sequence[float | None]]) -> list[dict[str, float]]:
    columns = {key: figures.floats(bins[key]) for key in ("confidence", "accuracy", "low", "high", "count")}
    rows = [{key: float(values[index]) for key, values in columns.items()} for index in range(len(bins["count"]))]
    return [row for row in rows if row["count"] > 0]


def _abstention(page: Page, record: Mapping[str, Any]) -> dict[str, Any]:
    curve, chosen = record.get("risk_coverage"), record.get("abstention")
    drawn = page.figure(
        figures.risk_coverage(curve, chosen=chosen), label="Share of wrong patches against the share kept"
    ) if curve else None  # fmt: skip
    told = {
        key: figures.one((chosen or {}).get(key)) for key in ("threshold", "coverage", "error_of_all", "error_of_kept")
    }
    return {"figure": drawn, "chosen": told, "chosen_on": str((chosen or {}).get("chosen_on") or "")}


def _outliers(page: Page, outliers: Mapping[str, Any], predictions: pd.DataFrame) -> dict[str, Any]:
    if not outliers:
        return {}
    threshold = score(outliers.get("threshold")).value
    drawn = None
    if "outlier" in predictions:
        drawn = page.figure(
            figures.outlier_scores(predictions["outlier"].to_numpy(), threshold=threshold),
            label="Histogram of the outlier scores with the threshold",
        )
    return {
        "figure": drawn,
        "threshold": threshold,
        "share": score({"value": outliers.get("share_above")} | {key: outliers.get(key) for key in ("low", "high")}),
        "expected": figures.one(outliers.get("expected_share")),
        "text": str(outliers.get("text") or ""),
    }


def _wells(page: Page, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if not rows:
        return {"rows": []}
    worst = figures.worst_first(rows)
    return {
        "rows": [
            {
                "plate": figures.plate_name(row["plate"]),
                "well": row["well"],
                "patches": row["patches"],
                "accuracy": figures.one(row["accuracy"]),
            }
            for row in worst
        ],
        "drawn": min(len(worst), figures.MOST_WELLS),
        "figure": page.figure(figures.accuracy_by_well(rows), label="Share of patches right in every well"),
        "plates": _plates(rows),
    }


def _plates(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Wells, patches and share right of every plate, in the order of the record."""
    members: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        members.setdefault(str(row["plate"]), []).append(row)
    plates = []
    for plate, own in members.items():
        patches = sum(int(row["patches"]) for row in own)
        right = sum(figures.one(row["accuracy"], missing=0.0) * int(row["patches"]) for row in own)
        plates.append(
            {
                "plate": figures.plate_name(plate),
                "wells": len(own),
                "patches": patches,
                "accuracy": right / patches if patches else float("nan"),
            }
        )
    return plates


def _errors(
    record: Mapping[str, Any],
    predictions: pd.DataFrame,
    states: Sequence[str],
    pictures: Mapping[int, bytes],
) -> dict[str, Any]:
    looks = dict(zip(states, state_looks(states), strict=True))
    table = record["scores"]["confusion"]
    rows: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    for error in record.get("errors") or []:
        row = int(error["row"])
        patch = predictions.iloc[row].to_dict() if row < len(predictions) else {}
        told = {
            "row": row,
            "place": _place(patch),
            "of_truth": float(patch.get(f"p_{error['state']}") or "nan"),
            "true": looks[str(error["state"])],
            "called": looks[str(error["called"])],
            "probability": figures.one(error["probability"]),
        }
        rows.append(told)
        if row in pictures and len(shown) < MOST_PICTURES:
            shown.append(told | {"picture": _picture(pictures[row])})
    # the record holds the worst errors only
    total = sum(map(sum, table)) - sum(counts[index] for index, counts in enumerate(table))
    return {"rows": rows[:MOST_ERRORS], "total": total, "shown": shown}


def _place(row: Mapping[Any, Any]) -> str:
    """Where a patch was seen, as far as the table says."""
    where = " ".join(
        words.plain(figures.plate_name(row[name]) if name == "plate" else row[name])
        for name in ("plate", "well")
        if name in row
    )
    parts = [where] if where else []
    parts += [f"{name} {words.plain(row[name])}" for name in ("field", "timepoint") if row.get(name, "") != ""]
    if row.get("y_um", "") != "" and row.get("x_um", "") != "":
        parts.append(f"y {float(row['y_um']):.0f}, x {float(row['x_um']):.0f} µm")
    return ", ".join(parts)


def _picture(given: bytes) -> dict[str, Any]:
    """A picture made small for the page: its address inside the page, and its size there.

    It is written anew, so that nothing but pixels comes along.
    """
    with Image.open(io.BytesIO(given), formats=("PNG", "JPEG", "WEBP")) as opened:
        pixels = opened.convert("RGB")
    stream = io.BytesIO()
    pixels.save(stream, "WEBP", quality=QUALITY, method=6)
    address = "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
    return {"address": address, "width": round(pixels.width * PICTURE_PX / pixels.height), "height": PICTURE_PX}
