"""How a state looks, and how the look changes in the hours after its onset."""

from dataclasses import dataclass

from plates.simulation.cells import Cell


@dataclass(frozen=True)
class Look:
    """What a state does to a cell, `tau` hours after its onset; all but `rings` and below scale its own traits."""

    spread: float = 1.0  # 1: as flat as it was; 0: a ball
    volume: float = 1.0
    shift: float = 0.0  # change of the cytoplasm's index
    dilute: float = 1.0  # factor on the cytoplasm's index above the medium
    filaments: float = 1.0
    grain: float = 1.0
    nucleus_size: float = 1.0
    nucleus_shift: float = 0.0
    nucleus_dilute: float = 1.0
    nucleus_rim: float = 0.006
    ragged: float = 1.0
    rings: float = 0.0  # 0: mitochondria are threads; 1: rings and short curls
    nucleoli: bool = True
    vacuoles: int = 0
    blebs: int = 0
    fragments: float = 0.0  # 0: whole nucleus; 1: a few dense spheres
    bodies: int = 0
    granules: int = 0
    holes: float = 0.0  # share of the way to a perforated, torn body
    remains: float = 0.0  # strands that a retracting cell leaves on the glass
    balloon: float = 0.0
    ghost: float = 0.0
    lifted: float = 0.0  # how far a drug's granules and the nucleus lie above (below: < 0) the cell's middle


def look(cell: Cell, hours: float) -> tuple[str, Look]:
    """Return a cell's true state at a time after dosing, and what the state makes of it.

    The first hour after an onset is truly ambiguous: the state has its name from the onset on, the look
    follows. That is an error floor which no classifier can beat.
    """
    state = cell.fate.state(hours)
    since = {"live-control": 0.0, "live-treated": hours - cell.fate.response_h}.get(state, hours - cell.fate.onset_h)
    pace = 0.8 + 0.4 * (cell.seed % 97) / 96
    return state, _course(state, since * pace, cell)


def _course(state: str, tau: float, cell: Cell) -> Look:
    """Course of a state, `tau` hours (by the cell's own pace) after its onset.

    The index of a dying cell answers with a strength of its own, and granules come in all deaths: bright
    live cells, pale dying ones and granular ones of any kind overlap, so that form has to tell the state.
    """
    vigour, granules = cell.vigour, 8 + cell.seed % 28
    if state == "apoptosis":
        retract = _ease(tau, 0.0, 2.0)
        late = _ease(tau, 10.0, 18.0)
        return Look(
            spread=1 - 0.95 * retract,
            volume=1 - 0.5 * retract,
            shift=(-0.002 + 0.015 * vigour) * retract,
            dilute=1 - 0.3 * late,
            filaments=1 - 0.9 * retract,
            nucleus_size=1 - 0.35 * _ease(tau, 0.3, 1.8),
            nucleus_shift=0.016 * _ease(tau, 0.5, 1.8),
            nucleoli=tau < 1.0,
            blebs=round((8 + cell.seed % 5) * _ease(tau, 0.2, 1.2) * (1 - 0.4 * late)),
            fragments=_ease(tau, 1.2, 2.6),
            bodies=round((5 + cell.seed % 6) * _ease(tau, 1.8, 4.0)),
            granules=round(0.7 * granules * retract),
            remains=retract,
        )
    if state == "necroptosis":
        swell = _ease(tau, 0.0, 1.6)
        burst = _ease(tau, 9.0, 14.0)
        return Look(
            spread=1 - 0.9 * swell,
            volume=1 - 0.5 * _ease(tau, 0.8, 2.5),
            shift=(-0.002 + 0.015 * vigour) * _ease(tau, 0.5, 2.5),
            filaments=1 - 0.9 * swell,
            nucleus_size=1 - 0.35 * swell,
            nucleus_shift=0.018 * swell,
            nucleoli=tau < 1.5,
            granules=round(granules * swell),
            remains=0.4 * swell,
            balloon=_ease(tau, 0.7, 3.0) * (1 - burst),
            ghost=burst,
        )
    if state == "necrosis":
        leak = _ease(tau, 0.0, 1.0)
        return Look(
            spread=1 - 0.3 * leak,
            volume=1 + 0.25 * leak,
            dilute=1 - (0.3 + 0.3 * vigour) * leak,
            filaments=1 - leak,
            grain=1 + 0.9 * leak,
            nucleus_size=1 + 0.12 * leak,
            nucleus_dilute=1 - 0.5 * leak,
            nucleus_rim=0.006 * (1 - 0.4 * leak),
            nucleoli=tau < 0.6,
            ragged=1 + 0.8 * leak,
            granules=round(granules * leak),
            holes=_ease(tau, 0.3, 1.5),
        )
    if state == "live-treated":
        grown = _ease(tau, 0.0, 2.0)
        if cell.fate.granule_height:
            return Look(granules=round(45 * grown), lifted=cell.fate.granule_height * grown)
        return Look(
            spread=1 - 0.08 * grown,
            nucleus_size=1 + 0.1 * grown,
            rings=grown,
            vacuoles=round((3 + cell.seed % 6) * grown),
        )
    return Look()


def _ease(tau: float, start: float, end: float) -> float:
    """Rise smoothly from 0 to 1 between two times."""
    share = min(max((tau - start) / (end - start), 0.0), 1.0)
    return share * share * (3 - 2 * share)
