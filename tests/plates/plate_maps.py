"""Plate maps written as a text, read or refused."""

from pathlib import Path

import pytest

from plates.errors import PlateMapError
from plates.layout import PlateMap, read_plate_map


def plate_map(folder: Path, text: str | bytes, **options: object) -> PlateMap:
    """What is read of a plate map with this content."""
    path = folder / "map.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_plate_map(path, **options)  # type: ignore[arg-type]


def refusal(folder: Path, text: str | bytes, **options: object) -> str:
    """The message with which it is refused."""
    with pytest.raises(PlateMapError) as caught:
        plate_map(folder, text, **options)
    return str(caught.value)
