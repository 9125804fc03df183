"""Simulated plates on disk: TCF files as the instrument writes them, with the truth beside them."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plates.errors import StoreError
from plates.files import write_durable
from plates.mapping import map_units
from plates.simulation.acquisition import acquisition_name, write_tcf
from plates.simulation.cells import Cell, draw_culture, make_cell
from plates.simulation.death import (
    Compound,
    dominant_pathway,
    draw_fate,
    expected_fractions,
    true_ec50,
)
from plates.simulation.design import INDUCERS, PlannedWell, PlateDesign, write_plate_map
from plates.simulation.drawing import draw_field
from plates.simulation.fluorescence import fluorescence_frames, registration
from plates.simulation.optics import Optics, add_background, image
from plates.states import STATES

VERSION = "3"
"""Of the simulator; quoted beside every number that rests on it."""

GROWTH_PER_H = np.log(2) / 26
MARGIN_UM = 12.0
START = datetime(2026, 3, 2, 9, 0, 0)


def simulate_plate(
    design: PlateDesign,
    folder: Path,
    *,
    client: Any = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Path:
    """Write a plate's acquisitions to `folder/<name>/`, its plate map and its truth beside them.

    Every random draw is seeded by plate, well, field and time: the files are the same for any number of
    workers. Wells whose files are all there are not done again.

    Parameters
    ----------
    client
        A Dask client; None works in this process.

    Returns
    -------
    Path
        Folder of the acquisitions. `<name>.csv` (plate map) and `<name>.truth/` lie beside it: `cells.csv`
        (one row a cell), `wells.csv` (expected fractions), `states.zarr` (the true state of
        every pixel, read by `truth.read_state_maps`), `compounds.json`.
    """
    target, truth = folder / design.name, folder / f"{design.name}.truth"
    truth.mkdir(parents=True, exist_ok=True)
    _claim(design, truth)
    write_plate_map(design, folder / f"{design.name}.csv")
    _create_state_maps(design, truth)
    jobs = [(design, number, target, truth) for number in range(len(design.wells))]
    tables = []
    for done, (_, outcome) in enumerate(map_units(simulate_well, jobs, client=client), start=1):
        if isinstance(outcome, Exception):
            raise outcome
        tables.append(outcome)
        if progress is not None:
            progress(done, len(jobs), f"simulating {design.name}")
    cells = pd.concat(tables).sort_values(["well", "field", "cell"], ignore_index=True)
    cells.to_csv(truth / "cells.csv", index=False)
    _write_expected(design, truth)
    return target


def simulate_well(design: PlateDesign, number: int, target: Path, truth: Path) -> pd.DataFrame:
    """Write all fields of one well; return its cells (one row each, times in hours after dosing)."""
    planned = design.wells[number]
    table_path = truth / "cells" / f"{planned.well}.csv"
    files = [_file(design, number, target, field) for field in range(design.fields)]
    if table_path.exists() and all(file.exists() for file in files):
        return pd.read_csv(table_path)
    rows = []
    for field in range(design.fields):
        rng = np.random.default_rng([design.seed, number, field])
        medium = _medium_index(design, number)
        cells = _populate(design, planned, rng)
        states = np.zeros((len(design.hours), *design.shape[1:]), np.uint8)
        write_tcf(
            files[field],
            frames=_frames(design, planned, cells, states, medium, (number, field)),
            voxel_um=design.voxel_um,
            times_s=[3600.0 * (hour - design.hours[0]) for hour in design.hours],
            medium_index=medium,
            recording_time=_recorded(design, number, field),
            variant=design.variant,
            title=f"{design.name} {planned.well}",
            well=planned.well,
            position_mm=(9.0 * (field % 2) * 0.1, 0.9 * (field // 2), 0.0),
            fluorescence=fluorescence_frames(cells, design, (number, field)) if design.fluorescence else None,
            registration=registration(design, (number, field)) if design.fluorescence else None,
        )
        _write_state_maps(truth, number, field, states)
        rows += [_cell_row(design, planned, field, order, cell) for order, cell in enumerate(cells)]
    table = pd.DataFrame(rows, columns=_CELL_COLUMNS)
    write_durable(table_path, table.to_csv(index=False).encode())
    return table


_CELL_COLUMNS = [
    "well",
    "field",
    "cell",
    "y_um",
    "x_um",
    "born_h",
    "pathway",
    "onset_h",
    "annexin_h",
    "pi_h",
    "response_h",
    "detach_h",
]


def _cell_row(design: PlateDesign, planned: PlannedWell, field: int, order: int, cell: Cell) -> list[Any]:
    fate = cell.fate
    return [
        planned.well,
        field,
        order,
        cell.y,
        cell.x,
        cell.born_h,
        fate.pathway,
        fate.onset_h,
        fate.annexin_h,
        fate.pi_h,
        fate.response_h,
        fate.detach_h,
    ]


def _recorded(design: PlateDesign, number: int, field: int) -> datetime:
    """Time of a field's first frame: the fields follow each other every half minute."""
    return START + timedelta(seconds=30.0 * (number * design.fields + field))


def _file(design: PlateDesign, number: int, target: Path, field: int) -> Path:
    name = acquisition_name(
        _recorded(design, number, field),
        experiment=f"{design.name} death screen",
        number=1,
        group="Group1",
        well=design.wells[number].well,
        suffix=f"T001P{field + 1:02d}",
    )
    return target / name.removesuffix(".TCF") / name


def _claim(design: PlateDesign, truth: Path) -> None:
    """Refuse a folder that holds another simulation: its wells would be taken for this one's."""
    digest = hashlib.sha256(f"{VERSION} {design!r}".encode()).hexdigest()
    record = truth / "design.sha256"
    if record.exists() and record.read_text() != digest:
        raise StoreError(
            f"{truth} holds the truth of another simulation (other seed, compounds, times or size). "
            "Choose another folder, or remove this one."
        )
    record.write_text(digest)


def _populate(design: PlateDesign, planned: PlannedWell, rng: np.random.Generator) -> list[Cell]:
    """Seed cells up to the well's confluency, and let them grow over the hours."""
    if planned.well in design.faults.empty:
        return []
    compound, dose = _true_treatment(design, planned, rng)
    stress = 1 + 2 * design.faults.edge * design.at_rim(planned.well)
    # cells may lie across the border, so they are seeded beyond it
    height, width = (
        size * pitch + MARGIN_UM for size, pitch in zip(design.shape[1:], design.voxel_um[1:], strict=True)
    )
    # seeding varies by well: the fields of a well share its density
    shared = np.random.default_rng([design.seed, 77, ord(planned.well[0]), int(planned.well[1:])])
    confluency = shared.uniform(*design.confluency) * rng.uniform(0.9, 1.1)
    culture = draw_culture(shared)
    footprint = np.pi * np.mean(design.line.half_length_um) * np.mean(design.line.half_width_um)
    start = confluency * (height + MARGIN_UM) * (width + MARGIN_UM) / footprint
    last = max(design.hours)
    births = [-np.inf] * round(start)
    births += list(rng.uniform(0, last, rng.poisson(start * (np.exp(GROWTH_PER_H * last) - 1))))
    cells: list[Cell] = []
    for born in births:
        y, x = _free_place(cells, rng, height, width)
        fate = draw_fate(rng, compound, dose, stress=stress)
        if born > 0 and fate.onset_h < born:
            continue  # its mother was dead by then
        cells.append(make_cell(rng, y=y, x=x, fate=fate, line=design.line, born_h=born, culture=culture))
    return cells


def _free_place(cells: list[Cell], rng: np.random.Generator, height: float, width: float) -> tuple[float, float]:
    """Of some random places the one farthest from other cells: spread out, yet touching when crowded."""
    places = rng.uniform(-MARGIN_UM, (height, width), (12, 2))
    if not cells:
        return float(places[0, 0]), float(places[0, 1])
    others = np.array([[cell.y, cell.x] for cell in cells])
    nearest = np.hypot(*(places[:, None, :] - others[None]).transpose(2, 0, 1)).min(axis=1)
    chosen = int(np.argmax(nearest))
    return float(places[chosen, 0]), float(places[chosen, 1])


def _true_treatment(
    design: PlateDesign, planned: PlannedWell, rng: np.random.Generator
) -> tuple[Compound | None, float]:
    if planned.well in design.faults.dead_tip:
        return None, 0.0
    if planned.well in design.faults.mislabelled:
        return INDUCERS["necrosis"], 10.0
    error = np.random.default_rng([design.seed, 78, ord(planned.well[0]), int(planned.well[1:])]).normal()
    return planned.compound, planned.dose_um * float(np.exp(design.faults.dispensing * error))


def _medium_index(design: PlateDesign, number: int) -> float:
    share = number / max(1, len(design.wells) - 1)
    rim = 2e-4 * design.faults.edge * design.at_rim(design.wells[number].well)
    return design.line.medium_index + rim + design.faults.drift * share


def _frames(
    design: PlateDesign,
    planned: PlannedWell,
    cells: list[Cell],
    states: NDArray[np.uint8],
    medium: float,
    key: tuple[int, int],
) -> Iterator[NDArray[np.uint16]]:
    """Yield one tomogram a time as stored counts; the true states are filled in as a side effect."""
    fine = (2 * design.shape[0], *design.shape[1:])
    pitch = (design.voxel_um[0] / 2, *design.voxel_um[1:])
    for number, hour in enumerate(design.hours):
        rng = np.random.default_rng([design.seed, *key, 100 + number])
        contrast, states[number] = draw_field(cells, hours=hour, shape=fine, voxel_um=pitch, rng=rng)
        if planned.well in design.faults.defocused:
            contrast = _defocus(contrast)
        seen = image(contrast, voxel_um=design.voxel_um, medium_index=design.line.medium_index, optics=design.optics)
        seen = np.roll(seen, int(rng.integers(-1, 2)), axis=0)  # focus drifts by a plane
        add_background(seen, rng=rng, voxel_um=design.voxel_um, optics=day_optics(design, key[0]))
        seen += np.float32(medium)
        seen *= np.float32(1e4)
        counts = np.rint(seen, out=seen).astype(np.uint16)
        _stitch(counts, rng)
        yield counts


def day_optics(design: PlateDesign, number: int) -> Optics:
    """The optics with the noise and fringes of this plate and well: they vary by day, laser and dust."""
    by_plate = np.exp(np.random.default_rng([design.seed, 79]).normal(0, 0.25, 2))
    by_well = np.exp(np.random.default_rng([design.seed, 80, number]).normal(0, 0.15, 2))
    noise, fringes = by_plate * by_well * (design.optics.noise, design.optics.fringes)
    return replace(design.optics, noise=float(noise), fringes=float(fringes))


def _defocus(contrast: NDArray[np.float32]) -> NDArray[np.float32]:
    from scipy.ndimage import gaussian_filter

    blurred: NDArray[np.float32] = gaussian_filter(contrast, (4.0, 6.0, 6.0))
    return blurred


def _stitch(counts: NDArray[np.uint16], rng: np.random.Generator) -> None:
    """Seams of tiles: a faint dark line, an offset of 0 to 3 px beyond it; borders never reconstructed."""
    _, height, width = counts.shape
    row, shift = int(rng.integers(height // 4, 3 * height // 4)), int(rng.integers(0, 4))
    if shift:
        counts[:, row:, shift:] = counts[:, row:, :-shift].copy()
    counts[:, row : row + 2] -= 3
    column = int(rng.integers(width // 4, 3 * width // 4))
    counts[:, :, column : column + 2] -= 3
    border = int(rng.integers(0, 4))
    if border:
        counts[:, height - border :] = 0
        counts[:, :, :border] = 0


def _create_state_maps(design: PlateDesign, truth: Path) -> None:
    import zarr

    path = truth / "states.zarr"
    if path.exists():
        return
    shape = (len(design.wells), design.fields, len(design.hours), *design.shape[1:])
    group = zarr.open_group(path, mode="w")
    group.create_array(
        "state",
        shape=shape,
        chunks=(1, 1, *shape[2:]),
        dtype="uint8",
        fill_value=0,
        dimension_names=("well", "field", "timepoint", "y", "x"),
        attributes={"flag_values": list(range(6)), "flag_meanings": " ".join(("outside", *STATES))},
    )
    wells = np.array([planned.well for planned in design.wells], dtype=object)
    names = group.create_array("well", shape=wells.shape, dtype=str, dimension_names=("well",))
    names[:] = wells
    hours = group.create_array("hours", shape=(len(design.hours),), dtype="float64", dimension_names=("timepoint",))
    hours[:] = np.array(design.hours)
    group.attrs["voxel_um"] = list(design.voxel_um)


def _write_state_maps(truth: Path, number: int, field: int, states: NDArray[np.uint8]) -> None:
    import zarr

    array = zarr.open_array(truth / "states.zarr", path="state", mode="r+")
    array[number, field] = states


def _write_expected(design: PlateDesign, truth: Path) -> None:
    """Truth that needs no cells: expected fractions of every well, EC50 and pathway of every compound."""
    last = design.hours[-1]
    rows = []
    for planned in design.wells:
        for hour in design.hours:
            shares = expected_fractions(planned.compound, [planned.dose_um], hour)[0]
            rows.append([planned.well, hour, *shares])
    pd.DataFrame(rows, columns=["well", "hours", *STATES]).to_csv(truth / "wells.csv", index=False)
    doses: dict[str, list[float]] = {}
    known: dict[str, Compound] = {}
    for planned in design.wells:
        if planned.compound is not None and planned.control == "none":
            known[planned.compound.name] = planned.compound
            doses.setdefault(planned.compound.name, []).append(planned.dose_um)
    compounds = {
        name: {
            "ec50_um": _number(true_ec50(compound, last)),
            "dominant_pathway": dominant_pathway(compound, max(doses[name]), last),
            "top_dose_um": max(doses[name]),
            "hazards": {key: asdict(hazard) for key, hazard in compound.hazards.items()},
        }
        for name, compound in sorted(known.items())
    }
    record = {"simulator": VERSION, "seed": design.seed, "hours": list(design.hours), "compounds": compounds}
    (truth / "compounds.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
