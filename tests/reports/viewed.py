"""A small plate whose every pixel and probability is known, as the plate browser would meet it."""

from pathlib import Path

import numpy as np
import xarray as xr

from plates.creation import create_plate
from plates.patches import patch_centres
from plates.results import write_result
from plates.states import STATES
from plates.store import Plate

SHAPE = (20, 330, 490)  # two by three patches; tomograms of several chunks, not square
VOXEL_UM = (0.9, 0.16, 0.16)
WELLS = ("A01", "A02", "B03", "H12")
PLANNED = ("A01", "A02", "B03", "C07", "H12")  # C07 was never imaged
HOURS = (0.0, 8.0, 16.0)
HOSTILE = "</script><img src=x onerror=alert(1)>"


def write_viewed_plate(folder: Path) -> Plate:
    """Field 1 is imaged at the first timepoint only; H12 has no map of states; B03 has missing voxels."""
    rng = np.random.default_rng(7)
    plate = create_plate(
        folder / "P012.zarr", name="P012", wells=WELLS, fields=2, timepoints=3, shape_zyx=SHAPE, voxel_um=VOXEL_UM,
        rows=8, columns=12, hours=HOURS, fluorescence=("PI",), provenance={},
    )  # fmt: skip
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    for number, well in enumerate(WELLS):
        for field, timepoint in ((0, 0), (0, 1), (0, 2), (1, 0)):
            volume = rng.normal(13370, 8, SHAPE)
            for centre_y, centre_x, radius in rng.uniform((0, 0, 25), (*SHAPE[1:], 60), (8, 3)):
                body = 300 * np.exp(-((((y - centre_y) ** 2 + (x - centre_x) ** 2) / radius**2) ** 2))
                volume += body * np.exp(-((np.arange(SHAPE[0]) - 6 - 3 * timepoint)[:, None, None] ** 2) / 30)
            if well == "B03":
                volume[:, :40, :50] = 0
            plate.write_field(well, field=field, timepoint=timepoint, volume=volume.astype(np.uint16))
            if well != "H12":
                classes = np.kron(rng.integers(0, 6, (3, 4)), np.ones((160, 160)))[: SHAPE[1], : SHAPE[2]]
                plate.write_classes(well, field=field, timepoint=timepoint, classes=classes.astype(np.uint8))
        light = rng.integers(1, 5000, SHAPE[1:]).astype(np.uint16)
        if number == 0:
            plate.write_fluorescence(well, field=0, timepoint=1, images={"PI": light})
    _write_results(plate, rng)
    return plate


def _write_results(plate: Plate, rng: np.random.Generator) -> None:
    centres = patch_centres(SHAPE[1:], voxel_um=VOXEL_UM[1:])
    shape = (len(WELLS), 2, len(HOURS), len(centres[0]), len(centres[1]), len(STATES))
    probability = rng.dirichlet(np.ones(len(STATES)), shape[:-1]).astype(np.float32)
    probability[:, :, :, 0, 0] = np.nan  # background
    states = np.array(STATES, dtype=object)
    probabilities = xr.Dataset(
        {"probability": (("well", "field", "timepoint", "py", "px", "state"), probability)},
        coords={"well": np.array(WELLS, dtype=object), "state": states, "py_um": ("py", centres[0]),
                "px_um": ("px", centres[1])},
        attrs={"classifier": "demo-resnet18", "patch_um": 25.6},
    )  # fmt: skip
    shares = rng.dirichlet(np.ones(len(STATES)), (len(WELLS), len(HOURS)))
    dims = ("well", "timepoint", "state")
    fractions = xr.Dataset(
        {"fraction": (dims, shares), "fraction_low": (dims, shares - 0.01), "fraction_high": (dims, shares + 0.01),
         "patches": (dims[:2], np.full(shares.shape[:2], 12))},
        coords={"well": np.array(WELLS, dtype=object), "timepoint": np.arange(len(HOURS)), "state": states},
    )  # fmt: skip
    columns = {
        "compound": [HOSTILE, "DMSO", "NaOH", "toxin 7", "weak"],
        "control": ["none", "negative", "positive", "none", "none"],
        "inducer": ["", "", "necrosis", "", ""],
    }
    layout = xr.Dataset(
        {**{name: ("well", np.array(values, dtype=object)) for name, values in columns.items()},
         "dose": ("well", [3.0, 0.0, 1.0, 30.0, 0.03])},
        coords={"well": np.array(PLANNED, dtype=object)},
    )  # fmt: skip
    for name, dataset in {"probabilities": probabilities, "fractions": fractions, "layout": layout}.items():
        write_result(plate.path, name, dataset, provenance={"version": "0.1.0"})
