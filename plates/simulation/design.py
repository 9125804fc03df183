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
    "apoptosis": Compound("inducer-A", {"apoptosis": Hazard(0.1, 0.6, 2.0, 1.0), RESPONSE: Hazard(0.1, 0.8)}),
    "necroptosis": Compound("inducer-P", {"necroptosis": Hazard(0.1, 0.6, 2.0, 1.5), RESPONSE: Hazard(0.1, 0.8)}),
    "necrosis": Compound("inducer-N", {"necrosis": Hazard(0.1, 0.6, 2.0, 0.3), RESPONSE: Hazard(0.1, 0.8)}),
}
INDUCER_DOSE_UM = 10.0
SUBLETHAL = Compound("sub-lethal", {RESPONSE: Hazard(0.1, 0.8)})
"""Kills nothing: its cells live and show that they are treated."""

SUBTLE = {
    "doxorubicin-like": Compound("doxorubicin-like", {RESPONSE: Hazard(0.1, 0.8)}, granule_height=1.0),
    "cisplatin-like": Compound("cisplatin-like", {RESPONSE: Hazard(0.1, 0.8)}, granule_height=-1.0),
}
"""Two drugs whose living cells differ along z only: mirror images about the cell's middle.

Named after the two drugs that the study could tell apart in volumes and not in projections
(doi 10.1002/aisy.202500633). That granules and nucleus shift in this way is an invention.
"""

HARDER: dict[str, dict[str, Any]] = {
    "noise x2": {"optics": Optics(noise=4e-4, fringes=8e-4)},
    "noise x3": {"optics": Optics(noise=6e-4, fringes=12e-4)},
    "noise x4": {"optics": Optics(noise=8e-4, fringes=16e-4)},
    "crowded": {"confluency": (0.7, 0.95)},
    "early": {"hours": (2.0, 3.0, 4.0)},
}
"""Settings harder than the default, as fields of `PlateDesign`.

Noise and fringes of twice to four times the default; cells that touch and lie over each other nearly
everywhere; frames of the first hours after most onsets (the inducers wait 0.3 to 1.5 h), where a death has
its name but not yet its look, and no classifier can be right throughout.
"""

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

    `shape` is (z, y, x) of the stored voxels. How hard a plate is to read follows from `optics` (noise,
    fringes), `confluency` and `hours`; their defaults are those of all published numbers, `HARDER` names
    other settings.
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
        rows, columns = _format(len(content))
        wells = _scatter(content, rows, columns, rng, replicate=number + 1)
        designs.append(
            PlateDesign(
                name=names[number] if names else f"P{number + 1:03d}",
                seed=seed * 1000 + number,
                wells=wells,
                plate_format=rows * columns,
                **options,
            )
        )
    return designs


def design_annotation_plate(
    seed: int,
    *,
    name: str,
    wells_per_state: int = 6,
    hours: Sequence[float] = (12.0, 18.0),
    line: CellLine | None = None,
    inducer_dose_um: float = INDUCER_DOSE_UM,
    sublethal_dose_um: float = INDUCER_DOSE_UM,
    **options: Any,
) -> PlateDesign:
    """Design a plate of controls only, as a laboratory makes it to annotate.

    Vehicle wells, wells of the three inducers, and wells of a sub-lethal compound whose cells live and
    respond, all scattered over a 96- or 384-well plate.

    Parameters
    ----------
    wells_per_state
        Wells of the vehicle, of each inducer, and of the sub-lethal compound.
    hours
        Times of the frames after dosing. The default are times at which nearly all cells of an inducer's
        well have died; early ones need purer patches.
    line
        Cell line; by default the HeLa-like one.
    options
        Further fields of `PlateDesign`, such as `fluorescence=True`.
    """
    content: list[tuple[Compound | None, float, str, str]] = [(None, 0.0, "negative", "")] * wells_per_state
    for pathway in DEAD:
        content += [(INDUCERS[pathway], inducer_dose_um, "positive", pathway)] * wells_per_state
    content += [(SUBLETHAL, sublethal_dose_um, "none", "")] * wells_per_state
    options = {"hours": tuple(hours), "line": line or CellLine(), **options}
    _check(options)
    rows, columns = _format(len(content))
    return PlateDesign(
        name=name,
        seed=seed,
        wells=_scatter(content, rows, columns, np.random.default_rng([seed, 3]), replicate=None),
        plate_format=rows * columns,
        **options,
    )


def _format(wells: int) -> tuple[int, int]:
    """Rows and columns of the smallest plate that holds so many wells."""
    rows, columns = PLATE_FORMATS[96 if wells <= 96 else 384]
    if wells > rows * columns:
        raise SettingsError(f"{wells} wells do not fit a {rows * columns}-well plate. Use fewer compounds or doses.")
    return rows, columns


def _scatter(
    content: Sequence[tuple[Compound | None, float, str, str]],
    rows: int,
    columns: int,
    rng: np.random.Generator,
    *,
    replicate: int | None,
) -> tuple[PlannedWell, ...]:
    """Deal (compound, dose, control, inducer) to random wells; without a replicate they are counted."""
    places = sorted(rng.choice(rows * columns, size=len(content), replace=False))
    seen: dict[tuple[str, float], int] = {}
    wells = []
    for place, which in zip(places, rng.permutation(len(content)), strict=True):
        compound, dose, control, inducer = content[which]
        key = (compound.name if compound else "", dose)
        seen[key] = seen.get(key, 0) + 1
        well = f"{chr(65 + place // columns)}{place % columns + 1:02d}"
        wells.append(PlannedWell(well, compound, dose, control, inducer, replicate or seen[key]))
    return tuple(wells)


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
