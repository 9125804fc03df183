"""Probabilities in work: each unit's own region of the arrays, the record that vouches for it, their publication.

A unit is a field of a well over a run of timepoints; one unit is one chunk of each array, so that no two workers
ever write the same file. The arrays have a place for every well that a plate may have and grow along fields and
time: a plate that grows moves nothing. They lie beside the plate, in its folder of progress; a result gets links to
the finished chunks and costs neither memory nor time.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from dataclasses import field as value_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from plates.errors import StoreError
from plates.files import file_size, remove, settle, write_text
from plates.ingest.units import progress_folder
from plates.integrity import fingerprint_of, read_sealed, write_sealed
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
    maps: dict[str, list[Any]] = value_of(default_factory=dict)  # map of states, below the plate's folder -> as `files`
    files: dict[str, list[Any]] = value_of(default_factory=dict)  # chunk, below work.zarr -> size in bytes and CRC-32C


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
    if arrays is None or any(array.shape[3:5] != grid or array.compressors != codecs() for array in arrays.values()):
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
            compressors=codecs(),
            dimension_names=("well", "field", "timepoint", "py", "px", *dims),
            attributes={"long_name": meaning},
        )


def codecs() -> tuple[Any, ...]:
    """How chunks are stored: compressed, and with a checksum that every reader checks."""
    from zarr.codecs import Crc32cCodec, ZstdCodec

    return ZstdCodec(level=0), Crc32cCodec()


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
    well, number, run = _number(place[0]), place[1], place[2]
    chunks = {name: _chunk(folder / "work.zarr", name, (well, number, run)) for name in values}
    for name, value in values.items():
        remove(chunks[name])
        # a chunk that is there says that the unit was done, also where nothing was found
        with zarr.config.set({"array.write_empty_chunks": True}):
            array = zarr.open_array(folder / "work.zarr" / name, mode="r+")
        array[well, number, run * RUN : run * RUN + len(value)] = value
        settle(chunks[name])
    files = {chunk.relative_to(folder / "work.zarr").as_posix(): fingerprint_of(chunk) for chunk in chunks.values()}
    write_sealed(_record_file(folder, place), asdict(replace(record, files=files)))


def read_region(folder: Path, place: tuple[str, int, int], *, timepoints: int) -> dict[str, NDArray[np.float32]]:
    """Read the arrays of a unit, (timepoint, py, px[, state]) with so many timepoints of its run."""
    import zarr

    well, field, run = _number(place[0]), place[1], place[2]
    found = {}
    for name in MEANINGS:
        array: Any = zarr.open_array(folder / "work.zarr" / name, mode="r")
        try:
            found[name] = np.asarray(array[well, field, run * RUN : run * RUN + timepoints], dtype=np.float32)
        except (ValueError, RuntimeError) as error:
            raise StoreError(
                f"{folder}: the {name} of well {place[0]}, field {field}, timepoints from {run * RUN} is damaged "
                f"({error}). Run `tomoscreen repair {folder.parent.parent}`, then the same command again."
            ) from error
    return found


def withdraw(folder: Path, place: tuple[str, int, int]) -> Record | None:
    """Remove a unit's record, so that nothing vouches for what is about to be replaced, and return it."""
    record = read_record(folder, place)
    remove(_record_file(folder, place))
    return record


def read_record(folder: Path, place: tuple[str, int, int]) -> Record | None:
    """Return the record of a unit; None where there is none, it is damaged, or a chunk of it is gone or cut short.

    A timepoint whose map of states is gone or cut short has an input that equals none.
    """
    try:
        stored = read_sealed(_record_file(folder, place))
        for name in ("inputs", "status"):
            stored[name] = {int(timepoint): value for timepoint, value in stored[name].items()}
        record = Record(**stored)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    chunks = {folder / "work.zarr" / name: size for name, (size, _) in record.files.items()}
    if len(chunks) != len(MEANINGS) or any(file_size(chunk) != size for chunk, size in chunks.items()):
        return None
    beside = folder.parent.parent  # <plate>.zarr.progress/probabilities -> the folder that holds the plate
    for name, (size, _) in record.maps.items():
        if file_size(beside / name) != size:
            record.inputs[timepoint_of(name)] = ""  # whose map is gone is done again
    return record


def timepoint_of(name: str) -> int:
    """Timepoint of a map of states by its name, <plate>_mip.zarr/B/3/1/labels/states/<level>/c/<timepoint>/0/0/0."""
    return int(name.split("/")[-4])


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
