"""What is damaged is taken away, so that the next run makes it again; nothing else is touched."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from plates import metadata, ngff
from plates.checks import BAD, Finding
from plates.errors import MissingInputError, StoreError
from plates.files import remove, write_durable
from plates.ingest.units import progress_folder
from plates.integrity import read_sealed, seal_broken
from plates.store import Plate, open_plate
from screening.audit import AUDIT, note
from screening.regions import work_folder
from screening.run_record import RUNS
from screening.verify import Progress, verify

Act = Callable[[], None]


def repair(path: Path, *, dry_run: bool = False, operator: str = "", progress: Progress | None = None) -> list[str]:
    """Remove what is damaged and what interrupted writes left, of a plate, its results or a campaign folder.

    Acquisitions, plate maps, classifiers, the audit trail and files of other programs are never touched; nor is an
    image whose acquisition is not there any more, for it could not be made again. Metadata that follow from the rest
    are written anew. In a campaign's folder the audit trail says what was done.

    Parameters
    ----------
    dry_run
        Only say what would be done.

    Returns
    -------
    list of str
        What was done, or left, a sentence each; empty where everything is as it was written.
    """
    told: list[str] = []
    done: set[str] = set()
    for found in verify([path], progress=progress).findings:
        if found.kind not in (*BAD, "leftover"):
            continue
        what, act = _remedy(found)
        if what in done:
            continue
        done.add(what)
        told.append(f"{found}: {what}")
        if act is not None and not dry_run:
            act()
    acted = [line for line in told if ": left:" not in line]
    campaign = path if (path / AUDIT).exists() else path.parent
    if acted and not dry_run and (campaign / AUDIT).exists():
        note(campaign, "repair", operator=operator, removed=acted)
    return told


def _remedy(found: Finding) -> tuple[str, Act | None]:
    """What is to be done about a finding, in words and as a call; None where it is left as it is."""
    if found.kind == "leftover":
        return f"removed {_leftover(found.file)}", lambda: _remove_any(_leftover(found.file))
    plate = _plate(found)
    if found.scope == "root":
        source = _whole_root(found.file.parent)
        if source is None:
            return "left: no sibling's zarr.json is whole. Convert the plate again.", None
        data = (source / "zarr.json").read_bytes()
        return f"written from {source.name}", lambda: write_durable(found.file, data)
    if found.scope == "result":
        folder = _result_folder(found)
        return f"removed {folder.name}, the next run makes it again", lambda: shutil.rmtree(folder)
    if found.scope == "page":
        return f"removed {found.file.name}, the next run writes it again", lambda: remove(found.file)
    if found.scope == "document" and found.file.parent.name.endswith(".results.zarr"):
        return "removed, the next run writes it again", lambda: _rewrite_results_root(found.file)
    if plate is None:
        return f"left: {_advice(found)}", None
    if found.scope == "document":
        return f"written again for well {found.well or 'groups'}", lambda: _rewrite(plate, found.well)
    if found.scope == "frame":
        source = _acquisition(plate, found)
        if source is not None and not source.exists():
            return f"left: its acquisition {source} is not there, so that it cannot be made again", None
        where = f"well {found.well}, field {found.field}, timepoint {found.timepoint}"
        return f"removed {where}, the next run makes it again", lambda: _forget_frame(plate, found)
    if found.scope == "unit":
        where = f"probabilities of well {found.well}, field {found.field}"
        return f"removed {where}, the next run makes them again", lambda: _forget_units(plate, found)
    return f"left: {_advice(found)}", None


def _advice(found: Finding) -> str:
    if found.scope == "classifier":
        return "copy the classifier folder again"
    if found.scope == "input":
        return "compare with the instrument's own copy; a changed acquisition is converted again by the next run"
    if found.file.name == AUDIT or found.file.parent.name == RUNS:
        return "records are never altered; keep it, and ask who changed it"
    return "nothing can be done here"


def _plate(found: Finding) -> Plate | None:
    if found.plate is None or found.plate.name.endswith(".results.zarr"):
        return None
    try:
        return open_plate(found.plate)
    except (StoreError, MissingInputError):
        return None


def _whole_root(store: Path) -> Path | None:
    """A sibling whose root's zarr.json is whole, and holds the same record; none for a plate in place."""
    stem = store.name.removesuffix(".zarr").removesuffix("_mip").removesuffix("_fl")
    for name in (f"{stem}.zarr", f"{stem}_mip.zarr", f"{stem}_fl.zarr"):
        other = store.with_name(name)
        file = other / "zarr.json"
        if other != store and file.is_file() and seal_broken(file.read_bytes()) is False:
            return other if b'"elsewhere": null' in file.read_bytes() else None
    return None


def _rewrite(plate: Plate, well: str) -> None:
    """Write the groups and arrays of a well; they follow from the plate's own record."""
    one = replace(plate, wells=(well,)) if well else plate
    for sibling in plate.siblings():
        _unlink_damaged(sibling.path, [well] if well else list(plate.wells))
        metadata.write_groups(one, sibling, tidy=False)
        for number in range(plate.fields if well else 0):
            image = sibling.path / ngff.well_path(well) / str(number)
            if (image / "labels").is_dir():
                metadata.write_label_groups(plate, image, levels=sibling.levels)


def _unlink_damaged(root: Path, wells: list[str]) -> None:
    for well in wells:
        row = root / ngff.well_path(well).split("/")[0] / "zarr.json"
        if row.is_file() and seal_broken(row.read_bytes()) is not False:
            remove(row)


def _rewrite_results_root(file: Path) -> None:
    from plates.results import group_root

    write_durable(file, group_root().encode())


def _result_folder(found: Finding) -> Path:
    store = next(parent for parent in found.file.parents if parent.name.endswith(".results.zarr"))
    return store / found.result


def _acquisition(plate: Plate, found: Finding) -> Path | None:
    """The file that a frame was converted from, by its record or that of its neighbours."""
    folder = progress_folder(plate.path) / found.well
    records = [folder / f"{found.field}_{found.timepoint}.json", *sorted(folder.glob(f"{found.field}_*.json"))]
    for record in records:
        try:
            if source := read_sealed(record).get("source"):
                return Path(source)
        except (OSError, StoreError):
            continue
    return None


def _forget_frame(plate: Plate, found: Finding) -> None:
    place = {"field": found.field, "timepoint": found.timepoint}
    remove(progress_folder(plate.path) / found.well / f"{found.field}_{found.timepoint}.json")
    for listed in (plate.field_files, plate.fluorescence_files, plate.label_files):
        for file in listed(found.well, **place):
            remove(file)


def _forget_units(plate: Plate, found: Finding) -> None:
    """Remove the records of a field's probabilities; where only a map is damaged, the map."""
    if "labels" in found.file.parts:
        remove(found.file)
    folder = work_folder(plate.path)
    for record in folder.glob(f"units/{found.well}_{found.field}_*.json"):
        try:
            chunks = list(read_sealed(record).get("files", {}))
        except (OSError, StoreError):
            chunks = []
        if record == found.file or any(found.file == folder / "work.zarr" / chunk for chunk in chunks):
            remove(record)
            for chunk in chunks:
                remove(folder / "work.zarr" / chunk)


def _leftover(file: Path) -> Path:
    """The folder that an interrupted write of a result left, or the file itself."""
    parents: Iterator[Path] = (parent for parent in file.parents if parent.name.endswith(".partial"))
    return next(parents, file)


def _remove_any(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
