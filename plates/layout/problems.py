"""Every fault of a file at once: collected with its place, so that a plate map is mended in one go."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from ..errors import PlateMapError

MAX_ERRORS = 20

_Value = TypeVar("_Value")


class Problems:
    """Collects the faults of one file."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.found: list[tuple[int, str]] = []

    def add(self, line: int, what: str, *, well: str = "") -> None:
        """Note a fault in this line (0: of the whole file)."""
        place = "".join([f", line {line}" if line else "", f", well {well}" if well else ""])
        self.found.append((line, f"{self.source}{place}: {what}"))

    def attempt(self, line: int, well: str, parse: Callable[..., _Value], *cells: object) -> _Value | None:
        """Return what `parse` makes of the cells, or None with its complaint noted."""
        try:
            return parse(*cells)
        except PlateMapError as error:
            self.add(line, str(error), well=well)
            return None

    def stop(self) -> None:
        """Raise what was noted, in the order of lines, if anything was."""
        if not self.found:
            return
        lines = [text for _, text in sorted(self.found, key=lambda fault: fault[0])]
        if len(lines) > 1:
            lines.insert(0, f"{self.source} has {len(lines)} errors:")
        if len(lines) > MAX_ERRORS + 1:
            lines = [*lines[: MAX_ERRORS + 1], f"... and {len(lines) - MAX_ERRORS - 1} more."]
        raise PlateMapError("\n".join(lines))


def shown(text: str) -> str:
    """Return the text in quotation marks, cut where it is long."""
    return repr(text if len(text) <= 40 else text[:39] + "…")


def listed(names: Iterable[object]) -> str:
    """Return the first dozen of the names, and how many more there are."""
    texts = [str(name) for name in names]
    more = f" and {len(texts) - 12} more" if len(texts) > 12 else ""
    return ", ".join(texts[:12]) + more
