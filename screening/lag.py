"""How long each frame took from its file to its numbers: one row a frame, kept beside the plate."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from plates.files import write_text

STAGES = ("settling", "waiting", "converting", "classifying", "all")


@dataclass(frozen=True)
class FrameLag:
    """One frame on its way.

    Times of day are text for people; seconds come from a clock that never jumps.

    Attributes
    ----------
    file, well, field, timepoint
        Which frame.
    acquired, acquired_by
        Local time by the file (``"file"``), else when the file was last changed (``"modified"``).
    seen, landed, converted, done
        When the file was first seen as it is, had settled and could be opened, and when the frame's projection and
        its numbers were stored (UTC).
    settling_s, waiting_s, converting_s, classifying_s
        From seen to landed, from there until a worker was free for it, and what the work took with what was done
        beside it.
    lag_s
        Sum of these: from the last change of the file to the frame's numbers.
    there_before
        Whether the file lay there when watching began: its lag says nothing of the work.
    """

    file: str
    well: str
    field: int
    timepoint: int
    acquired: str
    acquired_by: str
    seen: str
    landed: str
    converted: str
    done: str
    settling_s: float
    waiting_s: float
    converting_s: float
    classifying_s: float
    lag_s: float
    there_before: bool


@dataclass(frozen=True)
class Percentiles:
    """Median and 95th percentile of one part of the way, in seconds; NaN where no frame counts."""

    stage: str
    p50: float
    p95: float


class LagTable:
    """The rows of one plate, in memory and as CSV on the disk; a later session adds to them."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: list[FrameLag] = []
        self._start()

    def add(self, rows: Iterable[FrameLag]) -> None:
        """Append rows, each of them in one write."""
        new = list(rows)
        self.rows += new
        if new:
            with self.file.open("a", encoding="utf-8", newline="") as handle:
                handle.write("".join(_line(asdict(row).values()) for row in new))

    def _start(self) -> None:
        """Write the heading, and drop half a row that a kill may have left."""
        heading = _line(item.name for item in fields(FrameLag))
        self.file.parent.mkdir(parents=True, exist_ok=True)
        text = self.file.read_text(encoding="utf-8", errors="replace") if self.file.exists() else ""
        if not text.startswith(heading):
            write_text(self.file, heading)
        elif not text.endswith("\n"):
            write_text(self.file, text[: text.rindex("\n") + 1])


def percentiles(rows: Sequence[FrameLag]) -> list[Percentiles]:
    """Median and 95th percentile of each part of the way, over the frames that came while we watched."""
    came = [row for row in rows if not row.there_before]
    columns = {
        "settling": [row.settling_s for row in came],
        "waiting": [row.waiting_s for row in came],
        "converting": [row.converting_s for row in came],
        "classifying": [row.classifying_s for row in came],
        "all": [row.lag_s for row in came],
    }
    return [
        Percentiles(stage, *(float(value) for value in np.percentile(columns[stage], [50, 95])))
        if came
        else Percentiles(stage, math.nan, math.nan)
        for stage in STAGES
    ]


def _line(cells: Iterable[object]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow([_cell(cell) for cell in cells])
    return buffer.getvalue()


def _cell(cell: object) -> object:
    if isinstance(cell, float):
        return f"{cell:.3f}"
    # text that a spreadsheet would run as a formula; a line break would make two rows of it
    text = " ".join(cell.splitlines()) if isinstance(cell, str) else cell
    return f"'{text}" if str(text).startswith(("=", "+", "-", "@", "\t")) else text
