"""How a training went: loss and accuracy after every epoch with the kept one marked, as a part of a page or alone."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plates.errors import MissingInputError, StoreError

from . import classifier_figures as figures
from .classifier_record import card_rows, read_card
from .page import Page

COLUMNS = ("epoch", "px", "train_loss", "validation_loss", "accuracy", "seconds", "images_per_second")


def write_training_plot(training_csv: Path, out: Path) -> Path:
    """Write one page without side files that shows a training record; it may be of a training under way.

    Parameters
    ----------
    training_csv
        One row an epoch: `epoch` (from 0), `px`, `train_loss`, `validation_loss`, `accuracy` (mean recall on
        validation wells), `seconds`, `images_per_second`. Empty cells leave gaps. The card beside it, which a
        training leaves at its end, is shown too.
    out
        The page to write.

    Raises
    ------
    MissingInputError
        There is no such file.
    StoreError
        The file has no column `epoch`, or a cell is not a number.
    """
    if not training_csv.is_file():
        raise MissingInputError(
            f"There is no training record {training_csv}. Expected the training.csv of a classifier's folder."
        )
    with training_csv.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if rows and "epoch" not in rows[0]:
        raise StoreError(
            f"{training_csv} has the columns {', '.join(rows[0])}. "
            f"Expected a training record with {', '.join(COLUMNS)}."
        )
    try:
        numbers = [{key: float(row[key]) for key in COLUMNS if row.get(key)} for row in rows]
    except ValueError as error:
        raise StoreError(
            f"{training_csv} holds a cell that is no number ({error}). Copy the classifier's folder again."
        ) from error
    page = Page(out)
    name = training_csv.resolve().parent.name
    card = card_rows(read_card(training_csv.parent))
    return page.write("training.html", name=name, training=training_section(page, numbers), card=card)


def training_section(page: Page, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Figures and numbers of a training record, for the template; without rows there are no figures."""
    if not rows:
        return {"rows": []}
    numbers = [{key: figures.one(row.get(key)) for key in COLUMNS} for row in rows]
    chosen = chosen_epoch(numbers)
    return {
        "rows": numbers,
        "chosen": chosen,
        "seconds": sum(figures.one(row["seconds"], missing=0.0) for row in numbers),
        "figures": [
            page.figure(figures.training_loss(numbers, chosen=chosen), label="Loss after every epoch"),
            page.figure(figures.training_accuracy(numbers, chosen=chosen), label="Mean recall after every epoch"),
        ],
    }


def chosen_epoch(rows: Sequence[Mapping[str, float]]) -> int | None:
    """The epoch that training keeps: of those at full patch size the highest mean recall, then the lowest loss."""
    full = max((figures.one(row["px"], missing=0.0) for row in rows), default=0.0)
    judged = [row for row in rows if figures.one(row["px"], missing=0.0) == full and row["accuracy"] >= 0]
    best = max(
        judged, key=lambda row: (row["accuracy"], -figures.one(row["validation_loss"], missing=0.0)), default=None
    )
    return None if best is None else int(best["epoch"])
