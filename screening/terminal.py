"""What a person sees while a command runs, and the tables it ends with."""

import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from plates.files import gigabytes

if TYPE_CHECKING:
    import pandas as pd

    from plates.ingest.convert import Reading, Summary
    from plates.layout import PlateMap
    from screening.pipeline import Outcome

PLAIN_LINE_SECONDS = 30.0


class Bars:
    """Progress bars on a terminal, a plain line now and then elsewhere: progress(done, total, text).

    Everything goes to standard error: standard output carries results only.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._live = self._console.is_terminal
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._spoken: dict[str, float] = {}

    def __enter__(self) -> Self:
        if self._live:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._bars.stop()

    def __call__(self, done: int, total: int, text: str) -> None:
        """Show that `done` of `total` parts of the step named `text` are finished."""
        if self._live:
            if text not in self._tasks:
                self._tasks[text] = self._bars.add_task(text, total=total)
            self._bars.update(self._tasks[text], completed=done, total=total)
        elif self._is_due(done, total, text):
            sys.stderr.write(f"{text}: {done} of {total}\n")

    def _is_due(self, done: int, total: int, text: str) -> bool:
        now = time.monotonic()
        if done < total and now - self._spoken.get(text, -PLAIN_LINE_SECONDS) < PLAIN_LINE_SECONDS:
            return False
        self._spoken[text] = now
        return True


def print_outcome(outcome: "Outcome") -> None:
    """Say where the reports are."""
    console = Console()
    for note in outcome.notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    console.print("Reports:", highlight=False)
    for page in [*outcome.plate_reports.values(), outcome.campaign_report]:
        console.print(f"  {page}", highlight=False, markup=False, soft_wrap=True)


def print_preview(acquisitions: Path, *, out: Path, plate_map: "PlateMap", reading: "Reading", workers: int) -> None:
    """Say what converting a folder will take; raise where the disk is too small for it."""
    from plates.ingest.convert import preview
    from plates.ingest.estimate import refuse_if_too_large

    plan, needed = preview(acquisitions, out=out, plate_map=plate_map, reading=reading)
    lit = any(header.channels for header in plan.readable)
    shape = " x ".join(str(size) for size in plan.readable[0].shape_zyx)
    lines = {
        "wells": f"{len(plan.wells)} of {plan.rows * plan.columns}, {plan.fields} fields, {plan.timepoints} timepoints",
        "tomograms": f"{needed.tomograms} of {shape} voxels to convert",
        "unreadable": f"{len(plan.headers) - len(plan.readable)} of {len(plan.headers)} files",
        "voxels": gigabytes(needed.raw_bytes),
        "on the disk": f"about {gigabytes(needed.stored_bytes)} (compression {needed.ratio:.1f} on a sample)",
        "free": gigabytes(needed.free_bytes) if needed.free_bytes >= 0 else "unknown",
        "time": f"about {duration(needed.seconds / workers)} with {workers} workers"
        + (", and some seconds a frame to register fluorescence" if lit and reading.fluorescence != "none" else ""),
    }
    console = Console()
    for name, text in lines.items():
        console.print(f"{name:12} {text}", highlight=False, markup=False, soft_wrap=True)
    refuse_if_too_large(needed, out=out)


def print_conversion(out: Path, summary: "Summary", *, failed: bool = False) -> None:
    """Say what a conversion did: how much, what was done again and why, and how fluorescence was placed.

    Of one that failed in part on standard error, for standard output carries results only.
    """
    from plates.results import has_result, read_result

    lines = [f"{out}: {summary.converted} tomograms converted, {summary.skipped} done before."]
    again = Counter(summary.recomputed.values())
    lines += [f"  {count} files again: {why}" for why, count in again.most_common(5)]
    if summary.converted and has_result(out, "registration"):
        placed = read_result(out, "registration")
        there = int((placed["frame"] >= 0).sum())
        if there:
            lines.append(
                f"  fluorescence: {int(placed['trusted'].sum())} of {there} placements are borne out by the images, "
                "the others are as the file's metadata say; see the result 'registration'."
            )
    if has_result(out, "seams"):
        seams = read_result(out, "seams")
        if seams.sizes["seam"]:
            worst = float(seams["residual_um"].max())
            lines.append(f"  stitched: {seams.sizes['seam']} seams, largest residual {worst:.2f} um.")
    console = Console(stderr=failed)
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Time for people: 40 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def print_comparison(comparison: "pd.DataFrame") -> None:
    """Print truth beside what was recovered, one row a compound."""
    table = Table(title="Simulated truth and what the plates said")
    for column in comparison.columns:
        table.add_column(str(column), justify="left" if comparison[column].dtype == object else "right")
    for row in comparison.itertuples(index=False):
        table.add_row(*_cells(row))
    Console(width=140).print(table)


def _cells(row: Iterable[object]) -> list[str]:
    return ["-" if value != value else f"{value:.3g}" if isinstance(value, float) else str(value) for value in row]
