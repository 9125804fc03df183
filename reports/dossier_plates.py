"""What one plate of a campaign holds of a compound: its wells, and a field of each dose with its patches' states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from plates.errors import StoreError
from plates.layout.roles import roles
from plates.results import has_result, read_result
from plates.states import STATES
from plates.store import open_plate

from . import overlay, tables, words

MOST_FIELDS = 24
PIXELS = 384
DONE = 1
FIELD_RULE = (
    "For every dose from the highest down the first used well on the first plate that has an image of it; always the "
    "first classified field at the reading time."
)


@dataclass(frozen=True)
class OnPlate:
    """What one plate holds of the compound: its own results, and positions of the compound's wells in them."""

    name: str
    store: Path
    normalized: xr.Dataset
    wells: np.ndarray
    reading: int


def on_plate(name: str, store: Path, entries: Sequence[str]) -> OnPlate | None:
    """Read what a plate holds of the compound; None where its results are gone or it has no such well."""
    if not has_result(store, "normalized"):
        return None
    normalized = read_result(store, "normalized")
    wells = np.unique(np.concatenate([tables.wells_of(normalized, entry) for entry in entries]))
    last = normalized.sizes["timepoint"] - 1
    reading = last
    if has_result(store, "dose_response"):
        stored = int(read_result(store, "dose_response").attrs.get("timepoint", -1))
        reading = stored if 0 <= stored <= last else last
    return OnPlate(name, store, normalized, wells.astype(int), reading) if len(wells) else None


def fields_of(plates: Sequence[OnPlate]) -> list[dict[str, Any]]:
    """One field a dose, the highest first, with the states of its patches."""
    doses = sorted({float(plate.normalized["dose"].values[well]) for plate in plates for well in plate.wells})
    shown: list[dict[str, Any]] = []
    wanted = set(doses)
    for plate in plates:
        images = plate.store.with_name(f"{plate.name}.zarr")
        there = all(has_result(plate.store, name) for name in ("probabilities", "fields"))
        if not (wanted and images.exists() and there):
            continue
        opened = open_plate(images)
        probabilities, fields = (read_result(plate.store, name) for name in ("probabilities", "fields"))
        size_um = (opened.shape_zyx[1] * opened.voxel_um[1], opened.shape_zyx[2] * opened.voxel_um[2])
        role = roles(plate.normalized)
        for dose in sorted(wanted, reverse=True)[: MOST_FIELDS - len(shown)]:
            for well, field in _candidates(plate, probabilities, dose, role):
                place = {"well": well, "field": field}
                medium = fields["medium_index"].sel(place).isel(timepoint=plate.reading).item()
                scene = overlay.Scene(well=well, field=field, timepoint=plate.reading, title=plate.name, why="")
                timepoint = int(probabilities["timepoint"].values[plate.reading])
                try:
                    picture = overlay.picture(opened, scene, timepoint=timepoint, medium_index=medium, pixels=PIXELS)
                except StoreError:  # its image was moved or lost: another well may have one
                    continue
                probability = probabilities["probability"].sel(place).isel(timepoint=plate.reading)
                probability.attrs["patch_um"] = probabilities.attrs["patch_um"]
                counts = _counted(probability)
                label = f"Plate {words.plain(plate.name)}, well {well}: {counts}"
                shown.append(
                    {"dose": dose, "plate": plate.name, "well": well, "field": field, "picture": picture,
                     "overlay": overlay.overlay(probability, size_um=size_um, label=label),
                     "scale": overlay.scale_bar(size_um=size_um), "counts": counts}
                )  # fmt: skip
                wanted.discard(dose)
                break
    return sorted(shown, key=lambda row: -row["dose"])


def _candidates(plate: OnPlate, probabilities: xr.Dataset, dose: float, role: np.ndarray) -> Iterator[tuple[str, int]]:
    """Wells of a dose that are used and classified at the reading time, each with its first classified field."""
    status = probabilities["status"].isel(timepoint=plate.reading).transpose("well", "field")
    known = {str(well): place for place, well in enumerate(status["well"].values)}
    for place in plate.wells:
        well = str(plate.normalized["well"].values[place])
        if float(plate.normalized["dose"].values[place]) != dose or role[place] != "none" or well not in known:
            continue
        done = np.flatnonzero(status.values[known[well]] == DONE)
        if len(done):
            yield well, int(status["field"].values[done[0]])


def _counted(probability: xr.DataArray) -> str:
    values = probability.transpose("py", "px", "state").values
    likeliest = np.argmax(values[np.isfinite(values[..., 0])], axis=-1)
    counted = {state: int((likeliest == place).sum()) for place, state in enumerate(STATES)}
    return ", ".join(f"{count} {state}" for state, count in counted.items() if count) or "no patch with cells"
