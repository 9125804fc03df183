"""A stained plate drawn with discs and rings, a cell in the middle of every patch, whose every state is known."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from plates.creation import create_plate
from plates.results import write_result
from plates.store import Plate

MEDIUM = 1.337
PITCH = 0.16
BACKGROUND = {"Hoechst": 12, "Annexin V": 180, "PI": 150}
LIGHT = {"Hoechst": 90.0, "Annexin V": 900.0, "PI": 1500.0}
# well -> control, inducer, compound, and which of its cells are stained
WELLS: Mapping[str, tuple[str, str, str, bool]] = {
    "A01": ("negative", "", "DMSO", False),
    "A02": ("negative", "", "DMSO", False),
    "B01": ("positive", "apoptosis", "CD95", True),
    "B02": ("positive", "necrosis", "NaOH", True),
    "C01": ("none", "", "cisplatin", False),
    "C02": ("none", "", "RSL3", True),
}


def stained_plate(
    folder: Path,
    *,
    wells: Mapping[str, tuple[str, str, str, bool]] = WELLS,
    masked: Sequence[str] = (),
    channels: Sequence[str] = ("Hoechst", "Annexin V", "PI"),
    brightness: Mapping[str, float] | None = None,
    registration: Mapping[str, Any] | None = None,
    unseen: Sequence[str] = (),
    emission_um: Mapping[str, float] | None = None,
    patches: int = 3,
    timepoints: int = 2,
    seed: int = 0,
) -> Plate:
    """Write a plate of one field a well with patches x patches cells.

    Parameters
    ----------
    channels
        Those that are stored; names are looked up in `LIGHT` by their stain.
    brightness
        Well -> factor on the light of its stained cells.
    registration
        What the placements say; borne out by the images unless given.
    unseen
        Wells of which the camera saw nothing.
    emission_um
        Channel -> emission, as `ingest` keeps it with the placements.
    """
    rng = np.random.default_rng(seed)
    size = 160 * patches
    plate = create_plate(
        folder / "S1.zarr",
        name="S1",
        wells=list(wells),
        fields=1,
        timepoints=timepoints,
        shape_zyx=(2, size, size),
        voxel_um=(1.0, PITCH, PITCH),
        rows=8,
        columns=12,
        hours=[8.0 * number for number in range(timepoints)],
        fluorescence=channels,
        provenance={"made": "by a test"},
    )
    middles = [(160 * row + 80, 160 * column + 80) for row in range(patches) for column in range(patches)]
    stains = dict(zip(channels, (stain_of(name) for name in channels), strict=True))
    for well, (_, _, _, stained) in wells.items():
        for timepoint in range(timepoints):
            place: dict[str, Any] = {"field": 0, "timepoint": timepoint}
            index = np.full((size, size), MEDIUM) + rng.normal(0, 5e-4, (size, size))
            lights = {stain: rng.normal(level, 2, (size, size)) for stain, level in BACKGROUND.items()}
            factor = (brightness or {}).get(well, 1.0)
            for middle in middles:
                draw_cell(index, lights, middle, stained=stained, factor=factor * rng.uniform(0.8, 1.2))
            counts = np.clip(np.rint(index * 1e4), 1, 65535).astype(np.uint16)
            plate.write_field(well, **place, volume=np.stack([counts, counts]))
            if channels and well not in unseen:
                images = {
                    name: np.clip(np.rint(lights[stain]) + 1, 1, 65535).astype(np.uint16)
                    for name, stain in stains.items()
                }
                plate.write_fluorescence(well, **place, images=images)
            elif channels:
                plate.write_fluorescence(
                    well, **place, images={name: np.zeros((size, size), np.uint16) for name in channels}
                )
    _write_results(plate, wells, masked, registration, emission_um)
    return plate


def stain_of(channel: str) -> str:
    """Which light a channel of a test shows."""
    plain = channel.casefold()
    if "hoechst" in plain or "dapi" in plain or plain == "ch0":
        return "Hoechst"
    return "Annexin V" if "annexin" in plain or "fitc" in plain or plain == "ch1" else "PI"


def draw_cell(
    index: np.ndarray, lights: Mapping[str, np.ndarray], middle: tuple[int, int], *, stained: bool, factor: float = 1.0
) -> None:
    """A round cell of 8 um with a nucleus of 4 um; a stained one has a green rim and a red nucleus."""
    rows, columns = (np.arange(size) for size in index.shape)
    away = np.hypot(rows[:, None] - middle[0], columns[None, :] - middle[1]) * PITCH
    index[away < 8] += 0.02
    lights["Hoechst"][away < 4] += LIGHT["Hoechst"]
    if stained:
        lights["Annexin V"] += factor * LIGHT["Annexin V"] * np.exp(-(((away - 7.5) / 0.9) ** 2))
        lights["PI"][away < 4] += factor * LIGHT["PI"]


def _write_results(
    plate: Plate,
    wells: Mapping[str, tuple[str, str, str, bool]],
    masked: Sequence[str],
    registration: Mapping[str, Any] | None,
    emission_um: Mapping[str, float] | None,
) -> None:
    shape = (len(plate.wells), plate.fields, plate.timepoints)
    dims = ("well", "field", "timepoint")
    places = {
        "well": np.array(plate.wells, dtype=object),
        "field": np.arange(plate.fields),
        "timepoint": np.arange(plate.timepoints),
    }
    layout = xr.Dataset(
        {
            "control": ("well", np.array([one[0] for one in wells.values()], dtype=object)),
            "inducer": ("well", np.array([one[1] for one in wells.values()], dtype=object)),
            "compound": ("well", np.array([one[2] for one in wells.values()], dtype=object)),
            "masked": ("well", np.array(["bubble" if well in masked else "" for well in wells], dtype=object)),
            "dose": ("well", np.full(len(wells), 10.0)),
        },
        coords={"well": places["well"]},
    )
    fields = xr.Dataset({"medium_index": (dims, np.full(shape, MEDIUM))}, coords=places)
    placed: dict[str, Any] = {"trusted": True, "residual_um": 0.2, "frame": 0, "reason": "", **(registration or {})}
    results = {"layout": layout, "fields": fields}
    if plate.fluorescence:
        results["registration"] = xr.Dataset(
            {name: (dims, np.full(shape, value)) for name, value in placed.items()}, coords=places
        )
        if emission_um:
            results["registration"].attrs["emission_um"] = json.dumps(dict(emission_um))
    for name, dataset in results.items():
        write_result(plate.path, name, dataset, provenance={"made": "by a test"})
