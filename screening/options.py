"""Options and arguments that several commands share, and how their texts are read."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from plates.errors import SettingsError

if TYPE_CHECKING:
    from screening.settings import Settings

Choice = TypeVar("Choice", bound=str)


def plate_on_disk(text: str) -> Path:
    """A plate's path; only `ingest` writes into object stores yet."""
    if "://" in text:
        raise SettingsError(f"{text}: only `ingest` works in an object store. Copy the plate to a disk.")
    return Path(text)


PlatePath = Annotated[Path, typer.Argument(parser=plate_on_disk, help="The plate's store, such as results/P012.zarr.")]
Workers = Annotated[str, typer.Option(help="Local processes; 'auto' is one a core.")]
Steal = Annotated[bool, typer.Option("--steal", help="Take the place of a dead run of another machine at once.")]
Scheduler = Annotated[str, typer.Option(help="Address of a Dask scheduler, such as tcp://host:8786.")]


def command_line() -> str:
    """The command as it was typed, for a card or a record."""
    return shlex.join(["tomoscreen", *sys.argv[1:]])


def numbers(text: str, *, option: str) -> tuple[float, ...]:
    """Read a comma-separated list of numbers, such as "0,8,16"."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(f"{option} got '{text}'. Expected numbers and commas, such as 0,8,16.") from None


def one_of(choices: tuple[Choice, ...], text: str, *, option: str) -> Choice:
    """Read one of a few words.

    Raises
    ------
    SettingsError
        It is none of them.
    """
    for choice in choices:
        if choice == text:
            return choice
    raise SettingsError(f"{option} got '{text}'. Expected {', '.join(choices)}.")


def workers_from(text: str) -> int:
    """Read a number of workers; "auto" is one a core."""
    from screening.cluster import worker_count

    if text == "auto":
        return worker_count("auto")
    if not text.isdigit() or int(text) < 1:
        raise SettingsError(f"--workers got '{text}'. Expected 'auto' or a number from 1 up.")
    return int(text)


def campaign_outputs(settings: "Settings") -> list[Path]:
    """What a run of a campaign writes: its plates and its own results."""
    out = settings.campaign.out
    plates = [out / f"{plate.name}.zarr" for plate in settings.plates]
    return [*plates, out / f"{settings.campaign.name}.results.zarr"]
