"""What is suspicious about a plate map, in sentences, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from ..states import DEAD
from .dose_findings import dose_findings
from .finding import SEVERITIES, Finding, listed
from .place_findings import orientation_findings, place_findings
from .plate_map import PlateMap
from .roles import MASKED, roles, vehicle_controls, vehicles
from .wells import parse_well, well_name

# Fewer control wells than this say next to nothing about their own spread (a judgement, not a standard).
FEWEST_CONTROLS = 4
MASKED_SHARE = 0.2
# Beginnings of the reader's notes that findings say with more detail.
_SAID_BETTER = (
    "No vehicle wells",
    "Vehicle wells: only",
    "No positive controls",
    "One dose only",
    "A single well",
    "Masked",
    "Doses go up",
)


def findings(plate_map: PlateMap, imaged: Iterable[str] | None = None) -> list[Finding]:
    """List everything suspicious about a plate map, the gravest first.

    Parameters
    ----------
    plate_map
        As read by `read_plate_map`.
    imaged
        Wells that have acquisitions, in any accepted spelling; without them the map is judged on its own.

    Returns
    -------
    list of Finding
        Empty where there is nothing to say.

    Raises
    ------
    PlateMapError
        One of `imaged` is no well.
    """
    table = plate_map.table.assign(role=roles(plate_map.table), vehicle_key=vehicles(plate_map.table))
    used = table[table["role"] != MASKED]
    shape = (plate_map.rows, plate_map.columns)
    seen = None if imaged is None else {parse_well(well) for well in imaged}
    found = [
        *(_imaged(plate_map, table, seen) if seen is not None else []),
        *orientation_findings(table, shape, seen),
        *_masks(table),
        *_controls(used),
        *_vehicles(used),
        *place_findings(used, shape),
        *dose_findings(used[used["role"] == "none"]),
        *(Finding("note", note, (), "Look whether it is meant so.") for note in _other_notes(plate_map)),
    ]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def _imaged(plate_map: PlateMap, table: pd.DataFrame, seen: set[tuple[int, int]]) -> list[Finding]:
    """Wells on one side only; a masked well need not have been imaged."""
    at = dict(zip(zip(table["row"], table["column"], strict=True), table["role"], strict=True))
    found = []
    extra = sorted(seen - set(at))
    beyond = [place for place in extra if place[0] >= plate_map.rows or place[1] >= plate_map.columns]
    if extra:
        outside = f", {len(beyond)} of them outside its {plate_map.rows * plate_map.columns} wells" if beyond else ""
        found.append(
            Finding(
                "stop",
                f"Imaged, but not in {plate_map.source}: {_count(extra)} ({_named(extra)}){outside}.",
                _wells(extra),
                "Describe these wells in the plate map, or move their files away; it may be the map of another plate.",
            )
        )
    absent = sorted(place for place, role in at.items() if place not in seen and role != MASKED)
    if absent:
        found.append(
            Finding(
                "stop",
                f"In {plate_map.source}, but not imaged: {_count(absent)} ({_named(absent)}).",
                _wells(absent),
                "Find their files, or delete their lines in the plate map, or mask them with the reason.",
            )
        )
    return found


def _masks(table: pd.DataFrame) -> list[Finding]:
    masked = table[table["role"] == MASKED]
    if masked.empty:
        return []
    reasons = masked.groupby("masked", sort=False)["well"].agg(list)
    told = "; ".join(f"{reason}: {listed(wells)}" for reason, wells in reasons.items())
    share = len(masked) / len(table)
    what = (
        f"{len(masked)} of {len(table)} wells ({100 * share:.2g} %) are masked and take no part in any number: {told}."
    )
    wells = tuple(masked["well"])
    if len(masked) == len(table):
        return [Finding("stop", f"All {len(table)} wells are masked.", wells, "Clear the mask of the wells to use.")]
    if share > MASKED_SHARE:
        found = [Finding("warning", what, wells, "Ask whether the rest of the plate can be trusted, or repeat it.")]
    else:
        found = [Finding("note", what, wells, "Nothing, if the reasons hold.")]
    kept = set(table.loc[table["role"] != MASKED, "compound"])
    lost = [name for name in dict.fromkeys(masked["compound"]) if name not in kept]
    if lost:
        gone = tuple(masked.loc[masked["compound"].isin(lost), "well"])
        what = f"Every well of {listed(lost)} is masked, so nothing will be said about it."
        found.append(Finding("warning", what, gone, "Repeat it on another plate."))
    return found


def _controls(used: pd.DataFrame) -> list[Finding]:
    """Whether there are enough controls, and of which kind."""
    vehicle, positive = (used[used["role"] == role] for role in ("negative", "positive"))
    found = []
    if vehicle.empty:
        what = "No vehicle wells: death cannot be compared with untreated cells, and plate quality cannot be judged."
        found.append(Finding("warning", what, (), "Mark the vehicle wells as 'negative' in the control column."))
    elif len(vehicle) < FEWEST_CONTROLS:
        what = (
            f"Only {len(vehicle)} vehicle wells, which say little about their spread; {FEWEST_CONTROLS} are the least."
        )
        found.append(Finding("warning", what, tuple(vehicle["well"]), "Give the next plate more vehicle wells."))
    if positive.empty:
        what = "No positive controls: death cannot be given in percent of an inducer's, and Z' cannot be computed."
        found.append(
            Finding("warning", what, (), "Mark wells of a known inducer as 'positive', with the death it induces.")
        )
        return found
    if len(positive) < FEWEST_CONTROLS:
        what = f"Only {len(positive)} positive control wells; Z' from fewer than {FEWEST_CONTROLS} is not believed."
        found.append(Finding("warning", what, tuple(positive["well"]), "Give the next plate more of them."))
    return [*found, *_inducers(positive)]


def _inducers(positive: pd.DataFrame) -> list[Finding]:
    found = []
    wells = positive.groupby("inducer", sort=False)["well"].agg(tuple)
    for name, at in wells.items():
        if name not in DEAD:
            told = (
                f"Inducer '{name}' of {listed(at)} is" if name else f"Positive controls without inducer: {listed(at)};"
            )
            what = f"{told} none of {', '.join(DEAD)}, so it is a control of death, but of no pathway."
            remedy = "Write the death that it induces in the inducer column, its name in the compound column."
            found.append(Finding("warning", what, at, remedy))
        elif len(at) < 2:
            what = f"Only one well induces {name} ({at[0]}), which gives no Z' of {name}."
            found.append(Finding("warning", what, at, "Give every inducer at least two wells, better four."))
    absent = [state for state in DEAD if state not in wells.index]
    if absent and len(absent) < len(DEAD):
        what = f"No positive control induces {' or '.join(absent)}: its Z' cannot be computed."
        found.append(Finding("note", what, (), "Add such a control if that death matters in this screen."))
    return found


def _vehicles(used: pd.DataFrame) -> list[Finding]:
    """Compounds must be compared with cells in the same vehicle."""
    if not (used["role"] == "negative").any():
        return []
    found = []
    treated = used[used["role"] == "none"]
    held = vehicle_controls(used)
    for key, wells in treated.groupby("vehicle_key", sort=False):
        if not held[str(key)].any():
            what = (
                f"No vehicle well holds {wells['vehicle'].iloc[0]}, the vehicle of {len(wells)} treated wells "
                f"({listed(dict.fromkeys(wells['compound']))}): their death cannot be compared with untreated cells."
            )
            remedy = "Add negative controls in this vehicle, or spell the vehicle as in the control wells."
            found.append(Finding("warning", what, tuple(wells["well"]), remedy))
    named = {str(key) for key in used.loc[used["role"] == "negative", "vehicle_key"]} - {""}
    unknown = treated[treated["vehicle_key"] == ""]
    if len(named) > 1 and len(unknown):
        what = (
            f"{len(unknown)} treated wells name no vehicle, but the controls have {len(named)} "
            f"({listed(sorted(named))}): they are compared with all of them together."
        )
        found.append(Finding("warning", what, tuple(unknown["well"]), "Write the vehicle of these wells."))
    return found


def _other_notes(plate_map: PlateMap) -> list[str]:
    return [note for note in plate_map.notes if not note.startswith(_SAID_BETTER)]


def _count(places: list[tuple[int, int]]) -> str:
    return "1 well" if len(places) == 1 else f"{len(places)} wells"


def _named(places: list[tuple[int, int]]) -> str:
    return listed(_wells(places))


def _wells(places: list[tuple[int, int]]) -> tuple[str, ...]:
    return tuple(well_name(*place) for place in places)
