"""What the plate browser asks for beside the images: rows of the plate in small, and what is known of a field."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from plates.errors import StoreError
from plates.files import file_size
from plates.layout.wells import well_name
from plates.levels import projection_levels
from plates.results import has_result, read_result, results_path
from plates.states import STATES
from plates.store import Plate
from plates.tomogram import shrink

if TYPE_CHECKING:
    import xarray as xr

# longer side of a well in the mosaic: every format then fits a screen and has about 1.5 million pixels
_CELL_PX = {96: 128, 384: 64, 1536: 32}
ABSENT, IMAGE, WITH_STATES, DAMAGED = range(4)


@dataclass(frozen=True)
class Cell:
    """A well in small: its size (y, x), and how many pixels of the field, along each axis, are one of it."""

    height: int
    width: int
    factor: int


def mosaic_cell(plate: Plate) -> Cell:
    """Size of a well in the mosaic of a plate."""
    finest, coarsest = projection_levels(plate.shape_zyx)[0].shape, projection_levels(plate.shape_zyx)[-1]
    target = next(px for wells, px in _CELL_PX.items() if plate.rows * plate.columns <= wells)
    step = math.ceil(max(coarsest.shape[1:]) / target)
    factor = coarsest.factor * step
    return Cell(height=-(-finest[1] // factor), width=-(-finest[2] // factor), factor=factor)


def mosaic_row(plate: Plate, row: int, *, field: int, timepoint: int) -> bytes:
    """One row of the plate in small, from the coarsest level of the maximum projections.

    Returns
    -------
    bytes
        A byte for each column, padded to an even number: 0 never imaged, 1 image, 2 image and map of states,
        3 damaged. Then the images, uint16 little-endian (column, y, x), 0 = missing; then the maps, uint8 of the
        same shape, 0 = background.
    """
    cell = mosaic_cell(plate)
    known = np.zeros(plate.columns + plate.columns % 2, dtype=np.uint8)
    images = np.zeros((plate.columns, cell.height, cell.width), dtype="<u2")
    states = np.zeros(images.shape, dtype=np.uint8)
    for column in range(plate.columns):
        well = well_name(row, column)
        if well not in plate.wells or not file_size(_projection_file(plate, well, field=field, timepoint=timepoint)):
            continue
        try:
            images[column] = _small_image(plate, well, cell, field=field, timepoint=timepoint)
            known[column] = IMAGE
            if _has_states(plate, well, field=field, timepoint=timepoint):
                classes = plate.classes(well, field=field, timepoint=timepoint)
                half = cell.factor // 2
                sampled = classes[half :: cell.factor, half :: cell.factor]
                states[column, : sampled.shape[0], : sampled.shape[1]] = sampled
                known[column] = WITH_STATES
        except StoreError:
            known[column] = DAMAGED
    return known.tobytes() + images.tobytes() + states.tobytes()


def field_facts(plate: Plate, well: str, *, field: int, timepoint: int) -> dict[str, Any]:
    """Collect what is known of one field at one timepoint, as JSON values; results made anew are read anew.

    Returns
    -------
    dict
        `images`: which can be read. `patches`: centres `y` and `x` and size in um, and the stored `probability`
        (y, x, state), None without cells; None where the field was not classified. `fractions`: of the whole well
        at that timepoint; None where there are none.
    """
    return {
        "images": _images(plate, well, field=field, timepoint=timepoint),
        "patches": _patches(plate.path, well, field=field, timepoint=timepoint),
        "fractions": _fractions(plate.path, well, timepoint=timepoint),
    }


def _images(plate: Plate, well: str, *, field: int, timepoint: int) -> dict[str, Any]:
    place: dict[str, Any] = {"field": field, "timepoint": timepoint}
    stains = plate.fluorescence_files(well, **place) if plate.fluorescence else []
    levels = len(projection_levels(plate.shape_zyx))
    return {
        "projection": file_size(_projection_file(plate, well, **place)) > 0,
        "tomogram": plate.elsewhere is None and file_size(plate.field_files(well, **place)[0]) > 0,
        "states": _has_states(plate, well, **place),
        "fluorescence": [file_size(stains[number * levels]) > 0 for number in range(len(plate.fluorescence))],
    }


def _projection_file(plate: Plate, well: str, *, field: int, timepoint: int) -> Path:
    return plate.field_files(well, field=field, timepoint=timepoint)[-1]


def _has_states(plate: Plate, well: str, *, field: int, timepoint: int) -> bool:
    return file_size(plate.label_files(well, field=field, timepoint=timepoint)[-1]) > 0


def _small_image(plate: Plate, well: str, cell: Cell, *, field: int, timepoint: int) -> np.ndarray:
    coarsest = projection_levels(plate.shape_zyx)[-1]
    image = plate.thumbnail(well, field=field, timepoint=timepoint, level=len(projection_levels(plate.shape_zyx)) - 1)
    step = cell.factor // coarsest.factor
    return shrink(image[None], factor=step)[0] if step > 1 else image


def _patches(path: Path, well: str, *, field: int, timepoint: int) -> dict[str, Any] | None:
    if not has_result(path, "probabilities"):
        return None
    stored = _opened(results_path(path), _written(path, "probabilities"))
    if well not in stored["well"].values or field >= stored.sizes["field"] or timepoint >= stored.sizes["timepoint"]:
        return None
    number = stored["well"].values.tolist().index(well)
    one = stored["probability"].isel(well=number, field=field, timepoint=timepoint).transpose("py", "px", "state")
    values = one.sel(state=list(STATES)).values
    return {
        "y": stored["py_um"].values.tolist(),
        "x": stored["px_um"].values.tolist(),
        "size": float(stored.attrs["patch_um"]),
        "probability": [
            [None if np.isnan(patch).any() else [round(float(value), 6) for value in patch] for patch in row]
            for row in values
        ],
    }


@lru_cache(maxsize=1)
def _opened(store: Path, written: int) -> xr.Dataset:
    """The probabilities, of which only what is asked for is read; `written` tells one result from its successor."""
    import xarray as xr

    return xr.open_dataset(str(store), group="probabilities", engine="zarr", consolidated=False)


def _fractions(path: Path, well: str, *, timepoint: int) -> dict[str, Any] | None:
    if not has_result(path, "fractions"):
        return None
    stored = _read(path, _written(path, "fractions"))
    if well not in stored["well"].values or timepoint >= stored.sizes["timepoint"]:
        return None
    one = stored.isel(well=stored["well"].values.tolist().index(well), timepoint=timepoint)
    states = one.sel(state=list(STATES))
    return {
        "patches": int(one["patches"]),
        **{name: [_number(value) for value in states[name].values] for name in
           ("fraction", "fraction_low", "fraction_high")},
    }  # fmt: skip


@lru_cache(maxsize=1)
def _read(path: Path, written: int) -> xr.Dataset:
    return read_result(path, "fractions")


def _written(path: Path, name: str) -> int:
    return (results_path(path) / name / "zarr.json").stat().st_mtime_ns


def _number(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None
