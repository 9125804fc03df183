"""One thing about a plate map that a person should look at before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["stop", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("stop", "warning", "note")
LISTED = 8


@dataclass(frozen=True)
class Finding:
    """What is suspicious about a plate map.

    Attributes
    ----------
    severity
        "stop": results would belong to the wrong wells or to none; "warning": results will be weaker or
        wrong unless it is meant so; "note": good to know.
    what
        One sentence, with its numbers.
    wells
        The wells it speaks of, row-major; empty where it speaks of the whole plate.
    remedy
        What to do, one sentence.
    """

    severity: Severity
    what: str
    wells: tuple[str, ...]
    remedy: str


def listed(names: Iterable[object], *, most: int = LISTED) -> str:
    """The names with commas, the last ones counted where there are many."""
    texts = [str(name) for name in names]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def dose_text(dose: float) -> str:
    """A dose in micromolar as it is written in findings."""
    return f"{float(f'{dose:.4g}'):g} uM"
