"""OME-Zarr 0.5 metadata of plates, wells, images and labels, as plain dictionaries.

The layout is that of the OME-NGFF specification 0.5 (https://ngff.openmicroscopy.org/0.5/). Readers
disagree on the corners of it: what is written here is the part that napari-ome-zarr, ome-zarr-py, ngio and
vizarr all read.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import StoreError

VERSION = "0.5"
AXES = ("t", "c", "z", "y", "x")
# without channels: napari lays a label's axes on those of a single channel, so that its time would be taken for another
LABEL_AXES = ("t", "z", "y", "x")

_SPACE = {"type": "space", "unit": "micrometer"}
_KINDS = {"t": {"type": "time", "unit": "hour"}, "c": {"type": "channel"}, "z": _SPACE, "y": _SPACE, "x": _SPACE}
_WELL = re.compile(r"([A-Z]{1,2})(\d{1,2})")


def plate_attributes(name: str, *, wells: Sequence[str], rows: int, columns: int, fields: int) -> dict[str, Any]:
    """Attributes of a plate's root group: all rows and columns of the format, and the wells imaged."""
    return _versioned(
        plate={
            "name": name,
            "rows": [{"name": row_name(row)} for row in range(rows)],
            "columns": [{"name": str(column + 1)} for column in range(columns)],
            "wells": [
                {"path": well_path(well), "rowIndex": row, "columnIndex": column}
                for well in wells
                for row, column in [well_position(well)]
            ],
            "field_count": fields,
            "version": VERSION,
        }
    )


def well_attributes(fields: int) -> dict[str, Any]:
    """Attributes of a well group: its fields, numbered from 0."""
    return _versioned(well={"images": [{"path": str(field)} for field in range(fields)], "version": VERSION})


def image_attributes(
    name: str,
    *,
    scales: Sequence[Sequence[float]],
    channels: Mapping[str, tuple[int, int]],
    colours: Sequence[str],
    downscaling: str,
) -> dict[str, Any]:
    """Attributes of an image group.

    Parameters
    ----------
    scales
        Per level, finest first: hours, channels, and um along z, y and x a sample. A coarser sample lies in the
        middle of those it stands for.
    channels
        Name -> contrast limits for viewers, in stored units.
    colours
        Of the channels, ``RRGGBB``.
    downscaling
        How coarser levels are made.
    """
    return _versioned(
        multiscales=[_multiscale(name, axes=AXES, scales=scales, downscaling=downscaling)],
        omero={
            "channels": [
                {
                    "label": channel,
                    "color": colour,
                    "active": number == 0,
                    "window": {"min": 0, "max": 65535, "start": window[0], "end": window[1]},
                }
                for number, ((channel, window), colour) in enumerate(zip(channels.items(), colours, strict=True))
            ]
        },
    )


def labels_attributes(names: Sequence[str]) -> dict[str, Any]:
    """Attributes of the group that lists an image's label images."""
    return _versioned(labels=list(names))


def label_attributes(
    name: str, *, scales: Sequence[Sequence[float]], values: Mapping[int, tuple[str, str]]
) -> dict[str, Any]:
    """Attributes of a label image, which has as many levels as the image it lies on.

    Parameters
    ----------
    scales
        Per level, finest first: hours, and um along z, y and x a sample.
    values
        Label value -> (what it means, its colour as ``#RRGGBB``).
    """
    return _versioned(
        multiscales=[_multiscale(name, axes=LABEL_AXES, scales=scales, downscaling="nearest")],
        **{
            "image-label": {
                "colors": [
                    {"label-value": value, "rgba": [*bytes.fromhex(colour.lstrip("#")), 255]}
                    for value, (_, colour) in values.items()
                ],
                "properties": [{"label-value": value, "state": meaning} for value, (meaning, _) in values.items()],
                "source": {"image": "../../"},
            }
        },
    )


def well_path(well: str) -> str:
    """``"A01"`` -> ``"A/1"``."""
    row, column = well_position(well)
    return f"{row_name(row)}/{column + 1}"


def well_position(well: str) -> tuple[int, int]:
    """Row and column of a well, counted from 0: ``"B03"`` -> ``(1, 2)``; 1536-well plates end at AF48."""
    match = _WELL.fullmatch(well)
    if match is None or int(match[2]) == 0:
        raise StoreError(f"{well!r} is not a well; expected a row letter and a column number such as 'A01'")
    row = 0
    for letter in match[1]:
        row = row * 26 + string.ascii_uppercase.index(letter) + 1
    return row - 1, int(match[2]) - 1


def row_name(row: int) -> str:
    """0 -> ``"A"``, 25 -> ``"Z"``, 26 -> ``"AA"``."""
    letters = string.ascii_uppercase
    return letters[row] if row < 26 else letters[row // 26 - 1] + letters[row % 26]


def _multiscale(
    name: str, *, axes: Sequence[str], scales: Sequence[Sequence[float]], downscaling: str
) -> dict[str, Any]:
    return {
        "name": name,
        "type": downscaling,
        "axes": [{"name": axis, **_KINDS[axis]} for axis in axes],
        "datasets": [
            {
                "path": str(level),
                "coordinateTransformations": _transformations(scale, finest=scales[0]),
            }
            for level, scale in enumerate(scales)
        ],
    }


def _transformations(scale: Sequence[float], *, finest: Sequence[float]) -> list[dict[str, Any]]:
    transformations: list[dict[str, Any]] = [{"type": "scale", "scale": [float(step) for step in scale]}]
    centre = [(step - fine) / 2 for step, fine in zip(scale, finest, strict=True)]
    if any(centre):
        transformations.append({"type": "translation", "translation": centre})
    return transformations


def _versioned(**metadata: Any) -> dict[str, Any]:
    """The one place that knows under which key and version the metadata lies."""
    return {"ome": {"version": VERSION, **metadata}}
