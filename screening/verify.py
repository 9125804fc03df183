"""Everything that was written, read again: what is damaged, by plate, well, field and timepoint."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

from plates.checks import BAD, Checked, Finding, Kind, Part, chunks_of, plate_parts, result_parts, strays
from plates.errors import MissingInputError, StoreError
from plates.ingest.units import progress_folder, sha256_of
from plates.integrity import read_sealed, seal_broken, why_other, why_torn
from plates.results import has_result, results_path
from plates.store import Plate, open_plate
from screening.audit import AUDIT, broken_links
from screening.regions import work_folder
from screening.run_record import RUNS, last_run, read_run

Progress = Callable[[int, int, str], None]

THREADS = 4  # hide the time that a disk takes to answer; the checksums themselves run at memory speed
LISTED = 50
CARD, CHECKSUMS = "card.json", "SHA256SUMS"


@dataclass
class Verification:
    """What a verification read and found."""

    files: int = 0
    size: int = 0
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)

    @property
    def bad(self) -> list[Finding]:
        """Findings that make numbers doubtful."""
        return [found for found in self.findings if found.kind in BAD]

    def lines(self) -> list[str]:
        """The verification in words, what is bad first."""
        speed = self.size / 1e6 / max(self.seconds, 1e-9)
        told = [f"{self.files:,} files, {self.size / 1e6:,.1f} MB read in {self.seconds:.1f} s ({speed:,.0f} MB/s)"]
        told += [f"{found.kind}: {found}" for found in self.bad[:LISTED]]
        if len(self.bad) > LISTED:
            told.append(f"and {len(self.bad) - LISTED} more")
        notes = Counter(found.kind for found in self.findings if found.kind not in BAD)
        for kind, count in notes.items():
            first = next(found for found in self.findings if found.kind == kind)
            told.append(f"note: {count} {kind}, the first: {first}")
        told.append(f"{len(self.bad)} bad" if self.bad else "everything is as it was written")
        return told


def verify(paths: Iterable[Path], *, inputs: bool = False, progress: Progress | None = None) -> Verification:
    """Read all bytes of plates, results, classifiers or campaign folders, and compare them with what was written.

    Nothing is changed, and nothing that a disk can hold raises an error.

    Parameters
    ----------
    paths
        Plates (``P012.zarr``), results (``P012.results.zarr``), folders of classifiers, evaluations and comparisons, or
        folders that hold such.
    inputs
        Whether the acquisitions that plates were converted from are hashed again, too.
    progress
        Called with (parts done, of all, what).

    Raises
    ------
    MissingInputError
        A path is not there, or holds nothing that can be verified.
    """
    begun = time.monotonic()
    parts: list[Part] = []
    roots: list[Path] = []
    for path in paths:
        found, owned = _parts_of(Path(path), inputs=inputs)
        parts += found
        roots += owned
    total = Checked()
    with ThreadPoolExecutor(THREADS) as pool:
        for done, checked in enumerate(pool.map(_guarded, parts), start=1):
            total.add(checked)
            if progress is not None:
                progress(done, len(parts), "verifying")
    for root in roots:
        total.findings += strays(root, total.known)
    return Verification(total.files, total.size, time.monotonic() - begun, total.findings)


def _guarded(part: Part) -> Checked:
    try:
        return part()
    except (OSError, StoreError, KeyError, TypeError, ValueError) as error:
        # damage that the part itself did not foresee is damage all the same
        where = Path(getattr(error, "filename", None) or ".")
        return Checked(findings=[Finding("damaged", "file", where, f"cannot be checked: {error}")])


def _parts_of(path: Path, *, inputs: bool) -> tuple[list[Part], list[Path]]:
    """Parts to check below a path, and the folders of which every file should be known."""
    if (path / CARD).is_file() or (path / "weights.safetensors").is_file():
        return [partial(_listed, path)], []
    if path.name.endswith(".results.zarr"):
        return list(result_parts(path)), [path]
    if path.suffix == ".zarr":
        return _of_plate(path, inputs=inputs)
    if not path.is_dir():
        raise MissingInputError(
            f"{path} is not there, or no folder. Expected a plate, results, a classifier or a campaign."
        )
    parts: list[Part] = []
    roots: list[Path] = []
    stores = sorted(path.glob("*.zarr"))
    for store in stores:
        if store.name.endswith(".results.zarr"):
            if store.with_name(store.name.replace(".results.zarr", ".zarr")) not in stores:
                parts += result_parts(store)
                roots.append(store)
        elif not store.stem.endswith(("_mip", "_fl")):
            found, owned = _of_plate(store, inputs=inputs)
            parts += found
            roots += owned
    # classifiers, and what was found out about them: evaluations, comparisons, folds
    listed = {file.parent for name in (CARD, CHECKSUMS) for file in (*path.glob(name), *path.glob(f"*/{name}"))}
    parts += [partial(_listed, folder) for folder in sorted(listed)]
    if (path / RUNS).is_dir() or (path / AUDIT).exists():
        parts.append(partial(_runs, path, inputs=inputs))
    if not parts:
        raise MissingInputError(
            f"{path} holds nothing that can be verified. Expected a plate such as P012.zarr, results, the folder of a "
            "classifier or an evaluation, or a folder that holds some."
        )
    return parts, roots


def _of_plate(path: Path, *, inputs: bool) -> tuple[list[Part], list[Path]]:
    parts = list(plate_parts(path))
    roots = [path, path.with_name(f"{path.stem}_mip.zarr"), path.with_name(f"{path.stem}_fl.zarr")]
    try:
        plate = open_plate(path)
    except (StoreError, MissingInputError):
        return parts, []
    if results_path(path).is_dir():
        parts += result_parts(path)
        roots.append(results_path(path))
    parts.append(partial(_maps_and_units, plate))
    parts.append(partial(_promised, plate))
    parts.append(partial(_unfinished, path))
    if inputs:
        parts += [partial(_source, plate, record) for record in sorted(progress_folder(path).glob("*/*.source.json"))]
    return parts, [root for root in roots if root.is_dir()]


def _unfinished(path: Path) -> Checked:
    """What interrupted writes left beside a plate's stores, and in its folder of progress."""
    found = list(path.parent.glob(f"{path.stem}.results.zarr.*.partial"))
    found += progress_folder(path).rglob("*.partial")
    what = "was left by an interrupted write"
    return Checked(findings=[Finding("leftover", "file", file, what, path) for file in sorted(found)])


def _maps_and_units(plate: Plate) -> Checked:
    """Probabilities in work with their records, and the maps of states."""
    checked = Checked()
    folder = work_folder(plate.path)
    maps: dict[Path, tuple[list[object], str, int]] = {}
    for file in sorted((folder / "units").glob("*_*_*.json")):
        well, of_field, _ = file.stem.split("_")
        place: dict[str, Any] = {"plate": plate.path, "well": well, "field": int(of_field)}
        data = checked.read(file)
        try:
            record = read_sealed(file)
            files, vouched = dict(record["files"]), dict(record["maps"])
        except (StoreError, OSError, KeyError, TypeError, ValueError):
            files, vouched = {}, {}
        if seal_broken(data) is not False or not files:
            checked.findings.append(Finding("damaged", "unit", file, "is no whole record", **place))
            continue
        for name, recorded in files.items():
            chunk = folder / "work.zarr" / name
            checked.read(chunk)
            wrong = why_other(chunk, recorded)
            if wrong:
                checked.findings.append(Finding("damaged", "unit", chunk, wrong, **place))
        maps |= {plate.path.parent / name: (recorded, well, int(of_field)) for name, recorded in vouched.items()}
    for well in plate.wells:
        for number in range(plate.fields):
            for timepoint in range(plate.timepoints):
                chunks = chunks_of(plate, well, number, timepoint)
                for file in plate.label_files(well, field=number, timepoint=timepoint):
                    if file in maps or file.exists():
                        checked.add(_map(plate, file, maps.get(file), chunks[file], (well, number, timepoint)))
    return checked


def _map(
    plate: Plate, file: Path, vouched: tuple[list[object], str, int] | None, chunks: int, where: tuple[str, int, int]
) -> Checked:
    checked = Checked()
    data = checked.read(file)
    wrong = why_other(file, vouched[0]) if vouched is not None else ""
    wrong = wrong or why_torn(data, chunks=chunks)
    if wrong:
        kind: Kind = "missing" if wrong in ("is missing", "is empty") else "damaged"
        checked.findings.append(Finding(kind, "unit", file, wrong, plate.path, *where))
    return checked


def _promised(plate: Plate) -> Checked:
    """Fields that the results call converted although neither a record nor an image is there."""
    from plates.ingest.tables import DONE
    from plates.results import read_result

    checked = Checked()
    if not has_result(plate.path, "fields"):
        return checked
    try:
        status = read_result(plate.path, "fields")["status"]
    except StoreError:
        return checked  # told by the results' own check
    for well in plate.wells:
        if well not in status["well"].values:
            continue
        for number in range(plate.fields):
            for timepoint in range(plate.timepoints):
                marker = progress_folder(plate.path) / well / f"{number}_{timepoint}.json"
                place = {"field": number, "timepoint": timepoint}
                if int(status.sel({"well": well, **place})) != DONE or marker.exists():
                    continue
                image = plate.field_files(well, **place)[0]
                if not image.exists():
                    what = "is missing, though the result `fields` calls it converted"
                    found = Finding("missing", "frame", image, what, plate.path, well, number, timepoint)
                    checked.findings.append(found)
    return checked


def _source(plate: Plate, record: Path) -> Checked:
    """One acquisition against the SHA-256 that was taken when it was converted."""
    checked = Checked()
    number = int(record.name.split("_")[0])
    place = (plate.path, record.parent.name, number)
    try:
        taken = read_sealed(record)
        path, root = Path(taken["path"]), Path(taken["root"])
        files = [Path(name) for name in taken["paths"]]
    except (StoreError, OSError, KeyError, TypeError, ValueError):
        checked.findings.append(Finding("damaged", "record", record, "is no whole record", *place))
        return checked
    try:
        found = sha256_of(path, files=files, root=root)
        checked.files += len(files)
        checked.size += sum(file.stat().st_size for file in files)
    except OSError as error:
        what = f"cannot be read now ({error.strerror or error}), so that it cannot be compared"
        checked.findings.append(Finding("unverified", "input", path, what, *place))
        return checked
    if found != taken["sha256"]:
        what = f"was changed since it was converted: SHA-256 {found[:12]}, then {taken['sha256'][:12]}"
        checked.findings.append(Finding("changed", "input", path, what, *place))
    return checked


def _listed(path: Path) -> Checked:
    """The folder of a classifier or an evaluation against its list of checksums; without one, weights against card."""
    from models.checksums import altered_files

    checked = Checked()
    for file in path.iterdir():
        if file.is_file():
            checked.read(file)
    wrong = altered_files(path)
    for name, what in (wrong or {}).items():
        checked.findings.append(Finding("damaged", "classifier", path / name, what))
    if wrong is None:
        what = "has no list of checksums: only its weights are compared"
        checked.findings.append(Finding("unverified", "classifier", path, what))
        try:
            card = json.loads((path / CARD).read_text(encoding="utf-8"))
            with (path / "weights.safetensors").open("rb") as file_:
                same = hashlib.file_digest(file_, "sha256").hexdigest() == card["weights_sha256"]
            told = "" if same else "are not those that the card names"
        except (OSError, ValueError, KeyError, TypeError) as error:
            told = f"cannot be compared with the card: {error}"
        if told:
            checked.findings.append(Finding("damaged", "classifier", path / "weights.safetensors", told))
    return checked


def _runs(folder: Path, *, inputs: bool) -> Checked:
    """Records of runs, the chain of the audit trail, and pages and tables against what the last run wrote."""
    checked = Checked()
    checked.known.add(folder / AUDIT)
    for where, what in broken_links(folder):
        checked.findings.append(Finding("damaged", "file", where, what))
    for file in sorted((folder / RUNS).glob("*.json")):
        if seal_broken(checked.read(file)) is not False:
            checked.findings.append(Finding("damaged", "record", file, "was altered after it was written"))
    newest = last_run(folder, ended=True)
    if newest is None:
        return checked
    run = read_run(newest)
    for output in run["outputs"]:
        checked.add(_hashed(folder / output["path"], output["sha256"], "page", ended=run["ended"]))
    if inputs:
        for one in run["inputs"]:
            if one.get("path") and one.get("kind") != "acquisition":
                checked.add(_hashed(Path(one["path"]), one["sha256"], "input"))
    return checked


def _hashed(file: Path, sha256: str, scope: Literal["page", "input"], *, ended: str = "") -> Checked:
    checked = Checked()
    if not file.is_file():
        checked.findings.append(Finding("missing" if scope == "page" else "unverified", scope, file, "is missing"))
    elif hashlib.sha256(checked.read(file)).hexdigest() != sha256:
        # damage leaves a file's time as it is; whoever writes one anew does not
        anew = ended and file.stat().st_mtime > datetime.fromisoformat(ended).timestamp() + 1
        if anew:
            found = Finding("unverified", scope, file, "was written again since the last recorded run")
        else:
            found = Finding("changed", scope, file, f"is not as the last run {'wrote' if ended else 'read'} it")
        checked.findings.append(found)
    return checked
