"""The truth of a simulated plate: the true state of every patch, well and compound."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from plates.errors import MissingInputError
from plates.patches import PATCH_PX, UM_PER_PX, patch_centres
from plates.states import STATES


def read_state_maps(truth: Path) -> xr.DataArray:
    """Open the true state of every pixel, lazily: (well, field, timepoint, y, x); 0 is outside all cells."""
    path = truth / "states.zarr"
    if not path.exists():
        raise MissingInputError(
            f"{truth} holds no states.zarr. Expected the .truth folder of a simulated plate. "
            "Simulate it again with `tomoscreen simulate`."
        )
    dataset = xr.open_dataset(path, engine="zarr", consolidated=False, chunks={}, mask_and_scale=False)
    return dataset["state"].assign_coords(well=dataset["well"].astype(object), hours=dataset["hours"])


def read_compounds(truth: Path) -> dict[str, Any]:
    """Read every compound's true EC50 (uM, None for inert ones), dominant pathway and hazards."""
    record: dict[str, Any] = json.loads((truth / "compounds.json").read_text(encoding="utf-8"))
    compounds: dict[str, Any] = record["compounds"]
    return compounds


def patch_areas(truth: Path, *, stride: int = PATCH_PX) -> xr.DataArray:
    """Share of each patch's area that each state covers.

    Returns
    -------
    xr.DataArray
        (well, field, timepoint, py, px, state), 0 to 1; coordinates y_um and x_um are the patch centres.
        The windows are those of the classification, so the values stand beside its probabilities.
    """
    maps = read_state_maps(truth)
    voxel = xr.open_dataset(truth / "states.zarr", engine="zarr", consolidated=False).attrs["voxel_um"][1:]
    centres = patch_centres((maps.sizes["y"], maps.sizes["x"]), voxel_um=(voxel[0], voxel[1]), stride=stride)
    half = PATCH_PX * UM_PER_PX / 2
    spans = [
        [(max(0, round((c - half) / pitch)), round((c + half) / pitch)) for c in axis]
        for axis, pitch in zip(centres, voxel, strict=True)
    ]
    shape = (*maps.shape[:3], len(centres[0]), len(centres[1]), len(STATES))
    areas = np.zeros(shape, np.float32)
    for well in range(shape[0]):
        states = maps[well].to_numpy()  # (field, timepoint, y, x)
        for py, (top, bottom) in enumerate(spans[0]):
            for px, (left, right) in enumerate(spans[1]):
                areas[well, :, :, py, px] = _shares(states[:, :, top:bottom, left:right])
    return xr.DataArray(
        areas,
        dims=("well", "field", "timepoint", "py", "px", "state"),
        coords={
            "well": maps["well"],
            "hours": maps["hours"],
            "state": list(STATES),
            "py_um": ("py", centres[0]),
            "px_um": ("px", centres[1]),
        },
        name="area",
    )


def annotate(truth: Path, plate: Path, *, least_area: float = 0.05, purity: float = 0.5) -> pd.DataFrame:
    """Annotation table of a simulated plate: one row a patch, by the state that covers most of it.

    Parameters
    ----------
    plate
        The plate store that the acquisitions were converted into; written into the table.
    least_area
        Patches with less cell area than this are left out.
    purity
        Share of the patch's cell area that its state must cover; below it the patch is undecided.
    """
    areas = patch_areas(truth)
    total = areas.sum("state")
    chosen = (total >= least_area) & (areas.max("state") >= purity * total)
    well, field, timepoint, py, px = np.nonzero(chosen.to_numpy())
    state = areas.argmax("state").to_numpy()[well, field, timepoint, py, px]
    return pd.DataFrame(
        {
            "plate": str(plate),
            "well": areas["well"].to_numpy()[well],
            "field": field,
            "timepoint": timepoint,
            "y_um": areas["py_um"].to_numpy()[py],
            "x_um": areas["px_um"].to_numpy()[px],
            "state": np.array(STATES, dtype=object)[state],
        }
    )


def true_fractions(truth: Path, *, least_area: float = 0.05) -> xr.DataArray:
    """Fraction of each well's patches in each state, a patch by its largest; (well, timepoint, state).

    NaN where no patch of the well holds a cell.
    """
    areas = patch_areas(truth)
    filled = areas.sum("state") >= least_area
    winner = areas.argmax("state").where(filled)
    votes = xr.concat([(winner == number) for number in range(len(STATES))], dim="state")
    fractions = votes.sum(("field", "py", "px")) / filled.sum(("field", "py", "px"))
    return fractions.transpose("well", "timepoint", "state").assign_coords(state=list(STATES))


def _shares(states: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(..., y, x) states -> (..., state) shares of the area."""
    flat = states.reshape(*states.shape[:2], -1)
    return np.stack([(flat == number).mean(axis=-1) for number in range(1, len(STATES) + 1)], axis=-1).astype(
        np.float32
    )
