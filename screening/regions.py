"""Probabilities in work: each unit's own region of the arrays, the record that vouches for it, their publication.

A unit is a field of a well over a run of timepoints; one unit is one chunk of each array, so that no two workers
ever write the same file. The arrays have a place for every well that a plate may have and grow along fields and
time: a plate that grows moves nothing. They lie beside the plate, in its folder of progress; a result gets links to
the finished chunks and costs neither memory nor time.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from plates.files import remove, write_durable, write_text
from plates.ingest.units import progress_folder
from plates.layout.wells import FORMATS, parse_well
from plates.states import STATES

if TYPE_CHECKING:
    import zarr

RUN = 8
"""Timepoints of a unit: few enough to be lost without regret, enough to keep files from being many."""

MEANINGS = {
    "probability": "calibrated probability of the state",
    "foreground": "share of the patch's pixels that belong to cells",
    "outlier": "distance from what the classifier was trained on; NaN where it knows none",
}
"""The arrays and what they mean; (well, field, timepoint, py, px), `probability` also (..., state)."""

_PLACES = FORMATS[1536]


@dataclass(frozen=True)
class Record:
    """What vouches for a region: what it was made from, and what it holds at each timepoint of its run."""

    classifier: str  # SHA-256 of the weights
    settings: str  # digest of all else that numbers depend on but the input
    inputs: dict[int, str]  # timepoint -> digest of the projection; those that failed are absent
    status: dict[int, int]
    called: int  # patches with cells
    uncertain: int  # of these, below the classifier's own threshold of doubt
    scored: int
    unlike: int  # of those scored, further from the training data than its threshold


def work_folder(plate_path: Path) -> Path:
    """Where a plate's probabilities are worked on."""
    return progress_folder(plate_path) / "probabilities"


def prepare(folder: Path, *, fields: int, timepoints: int, grid: tuple[int, int]) -> None:
    """Create the arrays, or let them grow; those of another grid of patches are deleted with their records.

    The driver calls it before it hands out work: workers change no metadata.
    """
    import zarr

    shape = (_PLACES[0] * _PLACES[1], fields, timepoints)
    arrays = _open_all(folder, mode="r+")
    if arrays is None or any(array.shape[3:5] != grid for array in arrays.values()):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        zarr.create_group(folder / "work.zarr")
        create(folder / "work.zarr", shape=shape, grid=grid)
        return
    for array in arrays.values():
        grown = tuple(max(now, then) for now, then in zip(shape, array.shape[:3], strict=True))
        if grown != array.shape[:3]:
            array.resize((*grown, *array.shape[3:]))


def create(group: Path, *, shape: tuple[int, int, int], grid: tuple[int, int]) -> None:
    """Create the arrays in a Zarr group, empty: NaN everywhere.

    Parameters
    ----------
    shape, grid
        Wells, fields and timepoints; rows and columns of patches.
    """
    import zarr

    for name, meaning in MEANINGS.items():
        tail, dims = ((len(STATES),), ("state",)) if name == "probability" else ((), ())
        zarr.create_array(
            group,
            name=name,
            shape=(*shape, *grid, *tail),
            chunks=(1, 1, RUN, *grid, *tail),
            dtype="float32",
            fill_value=np.nan,
            dimension_names=("well", "field", "timepoint", "py", "px", *dims),
            attributes={"long_name": meaning},
        )


def write_region(
    folder: Path, place: tuple[str, int, int], values: Mapping[str, NDArray[np.float32]], record: Record
) -> None:
    """Write what a worker found for a unit.

    The order makes an interruption harmless: what vouches for the old numbers goes first, what vouches for
    the new ones comes last.

    Parameters
    ----------
    place
        Well, field and number of the run.
    values
        (timepoint, py, px[, state]) for each array, from the run's first timepoint to its last that exists.
    """
    import zarr

    remove(_record_file(folder, place))
    well, field, run = _number(place[0]), place[1], place[2]
    for name, value in values.items():
        remove(_chunk(folder / "work.zarr", name, (well, field, run)))
        # a chunk that is there says that the unit was done, also where nothing was found
        with zarr.config.set({"array.write_empty_chunks": True}):
            array = zarr.open_array(folder / "work.zarr" / name, mode="r+")
        array[well, field, run * RUN : run * RUN + len(value)] = value
    write_durable(_record_file(folder, place), json.dumps(asdict(record)).encode())


def read_region(folder: Path, place: tuple[str, int, int], *, timepoints: int) -> dict[str, NDArray[np.float32]]:
    """Read the arrays of a unit, (timepoint, py, px[, state]) with so many timepoints of its run."""
    import zarr

    well, field, run = _number(place[0]), place[1], place[2]
    found = {}
    for name in MEANINGS:
        array: Any = zarr.open_array(folder / "work.zarr" / name, mode="r")
        found[name] = np.asarray(array[well, field, run * RUN : run * RUN + timepoints], dtype=np.float32)
    return found


def read_record(folder: Path, place: tuple[str, int, int]) -> Record | None:
    """Return the record of a unit; None where there is none, it is damaged, or a chunk that it vouches for is gone."""
    try:
        stored = json.loads(_record_file(folder, place).read_text(encoding="utf-8"))
        for name in ("inputs", "status"):
            stored[name] = {int(timepoint): value for timepoint, value in stored[name].items()}
        record = Record(**stored)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    number = (_number(place[0]), *place[1:])
    return record if all(_chunk(folder / "work.zarr", name, number).exists() for name in MEANINGS) else None


def link_regions(folder: Path, group: Path, *, wells: Sequence[str], places: Sequence[tuple[str, int, int]]) -> None:
    """Give a result's arrays the chunks of finished units, as links or, where the disk has none, as copies."""
    index = {well: number for number, well in enumerate(wells)}
    for well, field, run in places:
        for name in MEANINGS:
            source = _chunk(folder / "work.zarr", name, (_number(well), field, run))
            target = _chunk(group, name, (index[well], field, run))
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source, target)
            except OSError:
                shutil.copyfile(source, target)


def note_failure(folder: Path, place: tuple[str, int, int], why: str) -> None:
    """Keep why a unit failed beside its record; an empty text removes the note."""
    file = _record_file(folder, place).with_suffix(".failed.txt")
    if why:
        write_text(file, why + "\n")
    else:
        remove(file)


def _open_all(folder: Path, *, mode: Any) -> dict[str, zarr.Array[Any]] | None:
    import zarr

    try:
        return {name: zarr.open_array(folder / "work.zarr" / name, mode=mode) for name in MEANINGS}
    except (OSError, ValueError, KeyError):
        return None


def _number(well: str) -> int:
    """Place of a well on the largest plate there is: the same whatever other wells a plate has."""
    row, column = parse_well(well)
    return row * _PLACES[1] + column


def _chunk(group: Path, name: str, number: tuple[int, int, int]) -> Path:
    tail = ("0",) * (3 if name == "probability" else 2)
    return group.joinpath(name, "c", *map(str, number), *tail)


def _record_file(folder: Path, place: tuple[str, int, int]) -> Path:
    well, field, run = place
    return folder / "units" / f"{well}_{field}_{run}.json"
