"""The commands that tell how a campaign is and bring it back: verify, repair, status, diff."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from screening.options import Steal, command_line
from screening.writing import writing

DAMAGED = 5  # as `plates.errors.StoreError` leaves with


def verify(
    paths: Annotated[list[Path], typer.Argument(help="Plates, results, classifiers, or a campaign's folder.")],
    inputs: Annotated[bool, typer.Option("--inputs", help="Hash the acquisitions again too.")] = False,
) -> None:
    """Read everything again and name what is not as it was written; exit code 5 if anything is bad.

    Example: tomoscreen verify results
    """
    from screening.terminal import Bars
    from screening.verify import verify as read_again

    with Bars() as bars:
        found = read_again(paths, inputs=inputs, progress=bars)
    for line in found.lines():
        typer.echo(line)
    if found.bad:
        raise typer.Exit(DAMAGED)


def repair(
    path: Annotated[Path, typer.Argument(help="A plate, or a campaign's folder.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done, and do nothing.")] = False,
    operator: Annotated[str, typer.Option(help="Who does it, for the audit trail.")] = "",
    steal: Steal = False,
) -> None:
    """Take away what is damaged and what interrupted writes left, so that the next run makes it again.

    Example: tomoscreen repair results --dry-run
    """
    from screening.repair import repair as take_away
    from screening.terminal import Bars

    stores = [path] if path.suffix == ".zarr" else sorted(path.glob("*.zarr"))
    with writing(*stores, command=command_line(), steal=steal, operator=operator), Bars() as bars:
        told = take_away(path, dry_run=dry_run, operator=operator, progress=bars)
    for line in told or ["nothing to repair"]:
        typer.echo(line)


def status(path: Annotated[Path, typer.Argument(help="A plate, or a campaign's folder.")]) -> None:
    """Tell what is done, missing, out of date or damaged at each step, why, and what a run would do.

    Example: tomoscreen status results
    """
    from screening.status import lines
    from screening.status import status as look

    for line in lines(path, look(path)):
        typer.echo(line)


def diff(
    first: Annotated[Path, typer.Argument(help="Record of a run (runs/RUN.json), or a folder for its last one.")],
    second: Annotated[Path, typer.Argument(help="The other.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what changed between two runs: inputs, settings, classifier, versions, results.

    Example: tomoscreen diff results/runs/A.json results/runs/B.json
    """
    from screening.diff import diff_runs

    told = diff_runs(first, second)
    if as_json:
        typer.echo(json.dumps(told))
        return
    for line in told or ["nothing changed"]:
        typer.echo(line)
