"""One file's frames into the plate: what a worker does, and the record that vouches for each frame."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import AcquisitionError, StoreError, TomoscreenError
from ..files import file_size, remove
from ..integrity import fingerprint_of, read_sealed, write_sealed
from ..levels import volume_levels
from ..patience import patiently, raise_if_of_storage
from ..store import Plate
from .acquisition import Acquisition
from .light import add_fluorescence
from .manifest import Source
from .ome_tiff import side_files
from .opening import open_source

# Raised whenever what conversion stores for the same file changes: everything is then converted again.
SETTINGS = 3
# A tomogram with more voxels than this that are no number is refused.
MAX_NONFINITE_SHARE = 0.01

_HASHED_BYTES = 1 << 20


@dataclass(frozen=True)
class Frames:
    """Frames of one file, to be converted one after the other by one worker."""

    plate: Plate
    source: Source
    numbers: tuple[int, ...]

    def marker(self, number: int) -> Path:
        """Record of a finished frame, beside the store, so that a copied plate carries no state."""
        name = f"{self.source.field}_{self.source.timepoint + number}.json"
        return progress_folder(self.plate.path) / self.source.well / name

    def failure(self, number: int) -> Path:
        """Record of why a frame failed."""
        return self.marker(number).with_suffix(".failed.json")


@dataclass(frozen=True)
class Digest:
    """A file whose SHA-256 is to be taken."""

    plate: Plate
    source: Source

    @property
    def record(self) -> Path:
        """Where the digest is kept, beside the store."""
        name = f"{self.source.field}_{self.source.timepoint}.source.json"
        return progress_folder(self.plate.path) / self.source.well / name


def progress_folder(plate_path: Path) -> Path:
    """Where the records of a plate's conversion lie: ``P012.zarr.progress`` beside the plate."""
    return plate_path.with_name(plate_path.name + ".progress")


def work_on(unit: Frames | Digest) -> dict[int, str]:
    """Do a unit of work; frame -> why it failed, for those that did."""
    return convert_frames(unit) if isinstance(unit, Frames) else take_digest(unit)


def convert_frames(unit: Frames) -> dict[int, str]:
    """Convert frames of a file and leave a record of each; a frame that fails leaves no image.

    Returns
    -------
    dict
        Frame -> why it failed; the others are converted.
    """
    problems: dict[int, str] = {}
    for number in unit.numbers:
        forget(unit, number)
        # and what a killed run wrote before it could leave a record
        delete_images(unit, number)
    try:
        fingerprint = source_fingerprint(unit.source)
        with open_source(unit.source) as acquisition:
            for number in unit.numbers:
                try:
                    record = patiently(partial(_convert_frame, unit, number, acquisition=acquisition))
                    if source_fingerprint(unit.source) != fingerprint:
                        raise AcquisitionError(
                            f"{unit.source.path}: the file changed while it was read. Wait until the acquisition "
                            "has ended."
                        )
                except (AcquisitionError, StoreError) as error:
                    delete_images(unit, number)
                    raise_if_of_storage(error)
                    problems[number] = str(error)
                    continue
                marker = {"source": str(unit.source.path), "frame": number, "fingerprint": fingerprint, **record}
                write_sealed(unit.marker(number), marker)
    except (AcquisitionError, OSError) as error:
        problem = told(error, unit.source)
        # of a file that fails as a whole, what was not converted by then
        for number in unit.numbers:
            if not file_size(unit.marker(number)):
                delete_images(unit, number)
                problems.setdefault(number, problem)
    return problems


def told(error: Exception, source: Source) -> str:
    """What went wrong with one source, in a sentence; raises again what is wrong with the disk they all share."""
    raise_if_of_storage(error)
    if isinstance(error, TomoscreenError):
        return str(error)
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{source.path}: cannot be read: {reason}. Check the file and the drive, then run again."


def take_digest(unit: Digest) -> dict[int, str]:
    """Record a source's SHA-256, for those who ask later which file the numbers came from."""
    try:
        state, digest = _state(unit.source), source_sha256(unit.source)
    except OSError as error:
        # conversion says what is wrong with the file; the next run takes the digest
        told(error, unit.source)
        return {}
    # where it lies and of what files it consists, so that it can be taken again without finding it anew
    files = [str(file) for file in _files(unit.source)]
    where = {"path": str(unit.source.path), "root": str(_root(unit.source)), "paths": files}
    write_sealed(unit.record, {**state, **where, "sha256": digest})
    return {}


def why_convert(unit: Frames, number: int, *, fingerprint: dict[str, Any]) -> str | None:
    """None where a frame is done; otherwise why not, empty where it was never done."""
    try:
        marker = read_sealed(unit.marker(number))
        recorded, images = marker["fingerprint"], marker["bytes"]
    except FileNotFoundError:
        return ""
    except (ValueError, KeyError, TypeError):  # StoreError is a ValueError
        return "its record of completion is damaged"
    if marker.get("frame") != number:
        return "it was another frame of its file"
    if recorded != fingerprint:
        changed = [key for key in fingerprint if recorded.get(key) != fingerprint[key]]
        return f"changed since it was converted: {', '.join(changed)}"
    for name, size in images.items():
        if file_size(unit.plate.path.parent / name) != size:
            return f"its image {name} was lost or cut short"
    return None


def has_digest(unit: Digest) -> bool:
    """Whether the digest of the source as it is now was taken."""
    recorded = read_record(unit.record)
    return "sha256" in recorded and all(recorded.get(key) == value for key, value in _state(unit.source).items())


def recorded_frames(unit: Frames) -> list[int]:
    """Frames of this source, by its name, that have a record; also those that the file no longer has."""
    found = []
    for number in range(unit.plate.timepoints - unit.source.timepoint):
        recorded = read_record(unit.marker(number)).get("fingerprint", {})
        if (recorded.get("name"), recorded.get("part")) == (unit.source.path.name, unit.source.part):
            found.append(number)
    return found


def read_record(file: Path) -> dict[str, Any]:
    """A record of progress; empty where there is none, or a damaged one."""
    try:
        return read_sealed(file)
    except (FileNotFoundError, ValueError):
        return {}


def forget(unit: Frames, number: int) -> None:
    """Remove a frame's records, then the images they vouched for."""
    marker = unit.marker(number)
    images = [unit.plate.path.parent / name for name in read_record(marker).get("bytes", {})]
    marker.unlink(missing_ok=True)
    unit.failure(number).unlink(missing_ok=True)
    for image in images:
        remove(image)


def delete_images(unit: Frames, number: int) -> None:
    """Remove whatever was written of a frame."""
    source, plate = unit.source, unit.plate
    place = {"field": source.field, "timepoint": source.timepoint + number}
    if source.well not in plate.wells or source.field >= plate.fields:
        return
    files = (plate.field_files, plate.fluorescence_files, plate.label_files)
    for file in (file for listed in files for file in listed(source.well, **place)):
        remove(file)


def record_failure(unit: Frames, number: int, problem: str) -> None:
    """Keep why a frame failed."""
    record = {"source": str(unit.source.path), "frame": number, "problem": problem}
    write_sealed(unit.failure(number), record)


def source_fingerprint(source: Source) -> dict[str, Any]:
    """What tells that a source changed without reading it: names, sizes and times of its files."""
    return {
        **_state(source),
        "channel": source.channel,
        "fluorescence": source.fluorescence,
        "settings": SETTINGS,
    }


def _state(source: Source) -> dict[str, Any]:
    files = _files(source)
    states = [file.stat() for file in files]
    return {
        "name": source.path.name,
        "part": source.part,
        "files": len(files),
        "size": sum(state.st_size for state in states),
        "modified": max((state.st_mtime_ns for state in states), default=0),
    }


def source_sha256(source: Source) -> str:
    """SHA-256 of a file; of several, that of the list of their SHA-256 and names, as ``sha256sum`` makes it."""
    return sha256_of(source.path, files=_files(source), root=_root(source))


def sha256_of(path: Path, *, files: Sequence[Path], root: Path) -> str:
    """SHA-256 of a source that is one file, or of the list of its files' SHA-256 and names below `root`."""
    if list(files) == [path]:
        return _sha256(path)
    names = [Path(os.path.relpath(file, root)).as_posix() for file in files]
    lines = [f"{_sha256(file)}  {name}\n" for file, name in zip(files, names, strict=True)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _root(source: Source) -> Path:
    return source.path if source.path.is_dir() else source.path.parent


def _files(source: Source) -> list[Path]:
    if source.tiles is not None and not source.part:
        return list(source.tiles.paths)
    if source.path.is_file():
        return [source.path, *side_files(source.path)]
    root = source.path / source.part
    return sorted(Path(folder) / name for folder, _, names in os.walk(root) for name in names)


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_HASHED_BYTES))
    with file.open("rb", buffering=0) as handle:
        while count := handle.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def _convert_frame(unit: Frames, number: int, *, acquisition: Acquisition) -> dict[str, Any]:
    source, plate = unit.source, unit.plate
    place = {"field": source.field, "timepoint": source.timepoint + number}
    nonfinite = 0

    def counts() -> Iterator[np.ndarray]:
        nonlocal nonfinite
        for slab in acquisition.slabs(number, depth=volume_levels(plate.shape_zyx)[0].chunk[0]):
            nonfinite += slab.nonfinite
            yield slab.counts

    slabs = counts()
    # a frame that cannot be read at all is told by its reader, not by the store
    first = next(slabs)
    statistics = plate.write_field(source.well, volume=chain([first], slabs), **place)
    if nonfinite > MAX_NONFINITE_SHARE * np.prod(acquisition.shape_zyx):
        raise AcquisitionError(
            f"{source.path}: frame {number} holds {nonfinite:,} voxels that are no number, more than "
            f"{MAX_NONFINITE_SHARE:.0%} of it. Reconstruct it again, or remove it."
        )
    files: Sequence[Path] = plate.field_files(source.well, **place)
    # fluorescence that fails takes the frame with it: half a frame would look whole
    light = add_fluorescence(plate, source, acquisition, frame=number)
    if light:
        files = [*files, *(file for file in plate.fluorescence_files(source.well, **place) if file_size(file))]
    return {
        "timepoint": place["timepoint"],
        "fluorescence": light,
        "seams": [asdict(seam) for seam in getattr(acquisition, "seams", ())],
        "statistics": asdict(replace(statistics, nonfinite=nonfinite)),
        **_vouched(plate, files),
    }


def _vouched(plate: Plate, files: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Sizes and checksums of a frame's files, read back from where they were written."""
    names = [file.relative_to(plate.path.parent).as_posix() for file in files]
    vouched = dict(zip(names, map(fingerprint_of, files), strict=True))
    return {
        "bytes": {name: size for name, (size, _) in vouched.items()},
        # named after what older records hold, see `has_checksum`
        "crc32c_of": {name: checksum for name, (_, checksum) in vouched.items()},
    }
