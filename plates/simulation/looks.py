"""How a state looks, and how the look changes in the hours after its onset."""

from dataclasses import dataclass

from plates.simulation.cells import Cell


@dataclass(frozen=True)
class Look:
    """What a state does to a cell, `tau` hours after its onset."""

    spread: float = 1.0  # 1: flat and long; 0: a ball
    volume: float = 1.0
    shift: float = 0.0  # change of the cytoplasm's index
    dilute: float = 1.0  # factor on the cytoplasm's index above the medium
    filaments: float = 1.0
    grain: float = 0.35
    nucleus_size: float = 1.0
    nucleus_shift: float = 0.0
    nucleus_dilute: float = 1.0
    nucleus_rim: float = 0.006
    nucleoli: bool = True
    ragged: float = 1.0
    vacuoles: int = 0
    blebs: int = 0
    fragments: float = 0.0  # 0: whole nucleus; 1: a few bright spheres
    bodies: int = 0
    granules: int = 0
    balloon: float = 0.0
    ghost: float = 0.0


def look(cell: Cell, hours: float) -> tuple[str, Look]:
    """Return a cell's true state at a time after dosing, and what the state makes of it.

    The first hour after an onset is truly ambiguous: the state has its name from the onset on, the look
    follows. That is an error floor which no classifier can beat.
    """
    state = cell.fate.state(hours)
    since = {"live-control": 0.0, "live-treated": hours - cell.fate.response_h}.get(state, hours - cell.fate.onset_h)
    pace = 0.8 + 0.4 * (cell.seed % 97) / 96
    vigour = (cell.seed % 101) / 100
    return state, _course(state, since * pace, vacuoles=5 + cell.seed % 6, vigour=vigour)


def _course(state: str, tau: float, *, vacuoles: int, vigour: float) -> Look:
    """Course of a state, `tau` hours (by the cell's own pace) after its onset.

    `vigour` (0 to 1) is how strongly the cell's index answers: bright live cells and pale dying ones
    overlap, so that brightness alone does not tell the state.
    """
    if state == "apoptosis":
        retract = _ease(tau, 0.0, 2.0)
        late = _ease(tau, 9.0, 16.0)
        return Look(
            spread=1 - 0.95 * retract,
            volume=1 - 0.5 * retract,
            shift=(0.002 + 0.016 * vigour) * retract,
            dilute=1 - 0.45 * late,
            filaments=1 - 0.9 * retract,
            grain=0.35 + 0.5 * retract,
            nucleus_size=1 - 0.35 * _ease(tau, 0.3, 1.8),
            nucleus_shift=0.016 * _ease(tau, 0.5, 1.8),
            nucleoli=tau < 1.0,
            blebs=round(9 * _ease(tau, 0.2, 1.2) * (1 - 0.7 * late)),
            fragments=_ease(tau, 1.2, 2.6),
            bodies=round(8 * _ease(tau, 1.8, 4.0)),
        )
    if state == "necroptosis":
        swell = _ease(tau, 0.0, 1.6)
        burst = _ease(tau, 8.0, 11.0)
        return Look(
            spread=1 - 0.9 * swell,
            volume=1 - 0.5 * _ease(tau, 0.8, 2.5),
            shift=(0.001 + 0.016 * vigour) * _ease(tau, 0.5, 2.5),
            filaments=1 - 0.9 * swell,
            grain=0.35 + 0.9 * swell,
            nucleus_size=1 - 0.2 * swell,
            nucleus_shift=0.006 * swell,
            nucleoli=tau < 2.0,
            granules=round(35 * swell),
            balloon=_ease(tau, 0.7, 3.0) * (1 - burst),
            ghost=burst,
        )
    if state == "necrosis":
        leak = _ease(tau, 0.0, 1.0)
        return Look(
            spread=1 - 0.35 * leak,
            volume=1 + 0.25 * leak,
            dilute=1 - (0.45 + 0.25 * vigour) * leak,
            filaments=1 - leak,
            grain=0.35 + 1.8 * leak,
            nucleus_size=1 + 0.12 * leak,
            nucleus_dilute=1 - 0.6 * leak,
            nucleus_rim=0.006 * (1 - 0.4 * leak),
            nucleoli=tau < 0.6,
            ragged=1 + 0.5 * leak,
            granules=round(22 * leak),
        )
    if state == "live-treated":
        grown = _ease(tau, 0.0, 2.0)
        return Look(
            spread=1 - 0.12 * grown,
            filaments=1 - 0.75 * grown,
            nucleus_size=1 + 0.16 * grown,
            vacuoles=round(vacuoles * grown),
        )
    return Look()


def _ease(tau: float, start: float, end: float) -> float:
    """Rise smoothly from 0 to 1 between two times."""
    share = min(max((tau - start) / (end - start), 0.0), 1.0)
    return share * share * (3 - 2 * share)
