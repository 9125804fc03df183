"""Simulated plates as annotated patches and volumes, without files of the instrument between them.

The voxels are those that `simulate_plate` writes and `ingest` stores (a test compares them); projections, true
states and, where wanted, tomograms lie in memory maps, so that thousands of fields fit a small machine.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.datasets import Patches, read_patches
from plates.patches import PATCH_PX, UM_PER_PX, patch_centres
from plates.simulation.design import PlateDesign
from plates.simulation.plate import VERSION, _frames, _medium_index, _populate
from plates.states import STATES

# A patch is clear when enough of it is cell and nearly all of its cell area is in one state.
LEAST_AREA = 0.15
PURITY = 0.8


@dataclass(frozen=True)
class SimulatedPlate:
    """A simulated plate whose images lie in memory maps; read as a plate's store is read."""

    design: PlateDesign
    folder: Path

    @property
    def wells(self) -> tuple[str, ...]:
        """Wells of the plate."""
        return tuple(planned.well for planned in self.design.wells)

    @property
    def fields(self) -> int:
        """Fields of each well."""
        return self.design.fields

    @property
    def timepoints(self) -> int:
        """Timepoints of each field."""
        return len(self.design.hours)

    @property
    def voxel_um(self) -> tuple[float, float, float]:
        """Size of a voxel (z, y, x)."""
        return self.design.voxel_um

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Voxels of a tomogram."""
        return self.design.shape

    def projection(self, well: str, *, field: int, timepoint: int) -> npt.NDArray[np.uint16]:
        """Maximum projection (y, x) in counts."""
        return np.array(self.images("projections")[self.wells.index(well), field, timepoint])

    def volume(self, well: str, *, field: int, timepoint: int) -> npt.NDArray[np.uint16]:
        """Tomogram (z, y, x) in counts."""
        return np.array(self.images("volumes")[self.wells.index(well), field, timepoint])

    def states(self, well: str) -> npt.NDArray[np.uint8]:
        """True state of every pixel (field, timepoint, y, x); 0 outside cells."""
        return np.array(self.images("states")[self.wells.index(well)])

    def medium(self, well: str, field: int, timepoint: int) -> float:
        """Refractive index of the medium, as the file's header gives it."""
        return _medium_index(self.design, self.wells.index(well))

    def images(self, name: str) -> npt.NDArray[np.integer]:
        """One of the memory maps, (well, field, timepoint, ...)."""
        return np.lib.format.open_memmap(self.folder / f"{name}.npy", mode="r+")


def simulate(design: PlateDesign, work: Path, *, processes: int = 2, volumes: bool = False) -> SimulatedPlate:
    """Simulate a plate into `work/<name>`; one that is there already is not done again."""
    plate = SimulatedPlate(design, work / design.name)
    record = {"design": hashlib.sha256(f"{VERSION} {design!r}".encode()).hexdigest(), "volumes": volumes}
    done = plate.folder / "done.json"
    if done.exists() and json.loads(done.read_text()) == record:
        return plate
    shutil.rmtree(plate.folder, ignore_errors=True)
    plate.folder.mkdir(parents=True)
    grid = (len(design.wells), design.fields, len(design.hours))
    for name, shape, kind in (
        ("projections", design.shape[1:], np.uint16),
        ("states", design.shape[1:], np.uint8),
        *((("volumes", design.shape, np.uint16),) if volumes else ()),
    ):
        np.lib.format.open_memmap(plate.folder / f"{name}.npy", mode="w+", dtype=kind, shape=(*grid, *shape)).flush()
    jobs = [(plate, well, field, volumes) for well in range(grid[0]) for field in range(grid[1])]
    with get_context("spawn").Pool(processes) as pool:
        for _ in pool.imap_unordered(_draw, jobs):
            pass
    done.write_text(json.dumps(record))
    return plate


def _draw(job: tuple[SimulatedPlate, int, int, bool]) -> None:
    plate, number, field, volumes = job
    design, planned = plate.design, plate.design.wells[number]
    cells = _populate(design, planned, np.random.default_rng([design.seed, number, field]))
    states = np.zeros((len(design.hours), *design.shape[1:]), np.uint8)
    frames = _frames(design, planned, cells, states, _medium_index(design, number), (number, field))
    projections = plate.images("projections")
    for timepoint, counts in enumerate(frames):
        projections[number, field, timepoint] = counts.max(axis=0)
        if volumes:
            plate.images("volumes")[number, field, timepoint] = counts
    plate.images("states")[number, field] = states


def annotate(
    plate: SimulatedPlate,
    *,
    split: str,
    least_area: float = LEAST_AREA,
    purity: float = PURITY,
    named: Callable[[str], str] | None = None,
    stride: int = PATCH_PX,
) -> pd.DataFrame:
    """Annotation table of the plate's clear patches, by the true state of their pixels.

    `named` gives a well's label where that is not the state of the cells in it; purity is then not asked for.
    The columns `hours`, `area` and `purity` stand beside those that `read_patches` needs.
    """
    rows, columns = patch_centres(plate.shape_zyx[1:], voxel_um=plate.voxel_um[1:], stride=stride)
    half, pitch = PATCH_PX * UM_PER_PX / 2, plate.voxel_um[1:]
    found = []
    for well in plate.wells:
        states = plate.states(well)
        for y in rows:
            for x in columns:
                top, bottom = (max(0, round((y + side) / pitch[0])) for side in (-half, half))
                left, right = (max(0, round((x + side) / pitch[1])) for side in (-half, half))
                part = states[:, :, top:bottom, left:right]
                shares = np.stack([(part == k + 1).mean(axis=(2, 3)) for k in range(len(STATES))], axis=-1)
                for field, timepoint in np.argwhere(shares.sum(axis=-1) >= least_area):
                    share = shares[field, timepoint]
                    pure = float(share.max() / share.sum())
                    if named is None and pure < purity:
                        continue
                    state = STATES[int(share.argmax())] if named is None else named(well)
                    hours = plate.design.hours[timepoint]
                    found.append((well, field, timepoint, y, x, state, hours, float(share.sum()), pure))
    names = ["well", "field", "timepoint", "y_um", "x_um", "state", "hours", "area", "purity"]
    table = pd.DataFrame(found, columns=names)
    return table.assign(plate=str(plate.folder), split=split)


def read(
    plates: Sequence[SimulatedPlate],
    table: pd.DataFrame,
    *,
    states: Sequence[str] = STATES,
    into: Path | None = None,
) -> Patches:
    """Read the patches of a table with the code that reads those of a plate's store."""
    known = {str(plate.folder): plate for plate in plates}
    return read_patches(
        table,
        open_plate=lambda path: known[str(path)],
        medium_of=lambda path: known[str(path)].medium,
        states=states,
        into=into,
    )
