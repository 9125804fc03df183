"""What is pipetted where: compounds, doses and controls on a simulated plate, and its faults."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np

from plates.errors import SettingsError
from plates.simulation.acquisition import Variant
from plates.simulation.cells import CellLine
from plates.simulation.death import RESPONSE, Compound, Hazard, random_compound
from plates.simulation.optics import Optics
from plates.states import DEAD

INDUCERS = {
    "apoptosis": Compound("inducer-A", {"apoptosis": Hazard(0.1, 0.45, 2.0, 1.0), RESPONSE: Hazard(0.1, 0.8)}),
    "necroptosis": Compound("inducer-P", {"necroptosis": Hazard(0.1, 0.45, 2.0, 1.5), RESPONSE: Hazard(0.1, 0.8)}),
    "necrosis": Compound("inducer-N", {"necrosis": Hazard(0.1, 0.55, 2.0, 0.3), RESPONSE: Hazard(0.1, 0.8)}),
}
INDUCER_DOSE_UM = 10.0
PLATE_FORMATS = {96: (8, 12), 384: (16, 24)}


@dataclass(frozen=True)
class PlannedWell:
    """One well: what was meant to be in it, and the hazards that truly act there."""

    well: str
    compound: Compound | None
    dose_um: float
    control: str
    inducer: str
    replicate: int


@dataclass(frozen=True)
class Faults:
    """What goes wrong on a real plate; every entry can be switched off or on.

    `edge` scales evaporation at the rim (medium index and background deaths), `dispensing` is the
    log-normal spread of the true dose, `drift` the change of the medium index over the plate's acquisition.
    The well lists name wells without compound though planned (dead tip), without cells, out of focus, and
    vehicle wells that hold an inducer.
    """

    edge: float = 1.0
    dispensing: float = 0.06
    drift: float = 1e-4
    dead_tip: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    defocused: tuple[str, ...] = ()
    mislabelled: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlateDesign:
    """A whole simulated plate; with the same design and seed it is always the same plate.

    `shape` is (z, y, x) of the stored voxels; `difficulty` scales the noise and the spread between cells'
    looks, 1 being the default of all published numbers.
    """

    name: str
    seed: int
    wells: tuple[PlannedWell, ...]
    hours: tuple[float, ...] = (0.0, 8.0, 16.0)
    fields: int = 2
    shape: tuple[int, int, int] = (24, 480, 480)
    voxel_um: tuple[float, float, float] = (0.87449, 0.16256, 0.16256)
    confluency: tuple[float, float] = (0.35, 0.7)
    plate_format: int = 96
    variant: Variant = "uint16"
    fluorescence: bool = False
    line: CellLine = field(default_factory=CellLine)
    optics: Optics = field(default_factory=Optics)
    faults: Faults = field(default_factory=Faults)

    def at_rim(self, well: str) -> bool:
        """Whether a well lies at the edge of the plate."""
        rows, columns = PLATE_FORMATS[self.plate_format]
        return row_of(well) in (0, rows - 1) or column_of(well) in (0, columns - 1)


def row_of(well: str) -> int:
    """Row of a well from 0 ("A01" is 0)."""
    return ord(well[0]) - ord("A")


def column_of(well: str) -> int:
    """Column of a well from 0 ("A01" is 0)."""
    return int(well[1:]) - 1


def make_library(seed: int, *, compounds: int = 8) -> list[Compound]:
    """Draw a compound library: the three pathways in turn, and one inert compound in eight."""
    rng = np.random.default_rng([seed, 1])
    kinds = [DEAD[number % 3] for number in range(compounds)]
    for number in range(7, compounds, 8):
        kinds[number] = "none"
    order = rng.permutation(compounds)
    return [random_compound(rng, f"SIM-{number + 1:03d}", pathway=kinds[order[number]]) for number in range(compounds)]


def design_plates(
    library: Sequence[Compound],
    *,
    seed: int,
    plates: int = 2,
    doses_um: Sequence[float] = (0.03, 0.12, 0.48, 1.92, 7.68, 30.72),
    vehicles: int = 8,
    inducers: int = 2,
    names: Sequence[str] | None = None,
    **options: Any,
) -> list[PlateDesign]:
    """One replicate of every compound and dose on each plate, wells and controls scattered.

    Parameters
    ----------
    vehicles, inducers
        Vehicle wells, and control wells for each death pathway, on every plate.
    names
        Of the plates; by default P001 and so on.
    options
        Fields of `PlateDesign`.
    """
    _check(options)
    designs = []
    for number in range(plates):
        rng = np.random.default_rng([seed, 2, number])
        content: list[tuple[Compound | None, float, str, str]] = [(None, 0.0, "negative", "")] * vehicles
        for pathway in DEAD:
            content += [(INDUCERS[pathway], INDUCER_DOSE_UM, "positive", pathway)] * inducers
        content += [(compound, float(dose), "none", "") for compound in library for dose in doses_um]
        rows, columns = PLATE_FORMATS[96 if len(content) <= 96 else 384]
        if len(content) > rows * columns:
            raise SettingsError(
                f"{len(content)} wells do not fit a {rows * columns}-well plate. Use fewer compounds or doses."
            )
        places = sorted(rng.choice(rows * columns, size=len(content), replace=False))
        order = rng.permutation(len(content))
        wells = []
        for place, which in zip(places, order, strict=True):
            compound, dose, control, inducer = content[which]
            well = f"{chr(65 + place // columns)}{place % columns + 1:02d}"
            wells.append(PlannedWell(well, compound, dose, control, inducer, number + 1))
        designs.append(
            PlateDesign(
                name=names[number] if names else f"P{number + 1:03d}",
                seed=seed * 1000 + number,
                wells=tuple(wells),
                plate_format=rows * columns,
                **options,
            )
        )
    return designs


def _check(options: Mapping[str, Any]) -> None:
    hours = tuple(options.get("hours", (0.0,)))
    if not all(0 <= hour < np.inf for hour in hours) or list(hours) != sorted(set(hours)):
        raise SettingsError(f"Hours {hours} do not rise from 0 on. Expected times such as 0, 8, 16.")
    variant = options.get("variant", "uint16")
    if variant not in get_args(Variant):
        raise SettingsError(f"Variant '{variant}' is not known. Expected one of {', '.join(get_args(Variant))}.")


def write_plate_map(design: PlateDesign, path: Path) -> None:
    """Write the plate map as a laboratory would: what was meant to be in the wells."""
    lines = ["well,compound,concentration,control,inducer,replicate,cell_line"]
    for planned in design.wells:
        compound = planned.compound.name if planned.compound else "DMSO"
        dose = f"{planned.dose_um:g} uM" if planned.compound else ""
        lines.append(
            f"{planned.well},{compound},{dose},{planned.control},{planned.inducer},{planned.replicate},{design.line.name}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
