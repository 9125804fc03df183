"""What a folder of results holds when a run ends: inputs, units, results and pages, with their hashes."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from plates.errors import StoreError
from plates.ingest.units import progress_folder
from plates.integrity import read_sealed
from plates.results import checksums, has_result, read_result
from screening.fingerprints import digest
from screening.regions import work_folder

STATES = ("pending", "done", "failed", "missing")
STATED = (".html", ".csv", ".json", ".toml", ".svg", ".png", ".parquet", ".xlsx")
"""Kinds of plain files that count as outputs of a run."""


def found_in(
    out: Path, plate_maps: Mapping[str, Mapping[str, Any]], *, plates: Sequence[str], others: Mapping[str, Any]
) -> dict[str, Any]:
    """What can only be told at the end: inputs with their hashes, units by state, results with their digests."""
    inputs = [one for one in others.get("inputs", []) if one.get("plate", plates[0]) not in plates]
    units = {name: told for name, told in others.get("units", {}).items() if name not in plates}
    for plate in plates:
        inputs += _sources(out / f"{plate}.zarr", plate)
        units[plate] = _units(out / f"{plate}.zarr")
    for plate, file in plate_maps.items():
        inputs.append({**file, "name": Path(file["path"]).name, "kind": f"plate map of {plate}"})
    results: dict[str, str] = {}
    for store in sorted(out.glob("*.results.zarr")):
        results |= _results(store)
    stores = [store.name for store in sorted(out.glob("*.zarr"))]
    return {"inputs": inputs, "units": units, "results": results, "stores": stores}


def outputs_of(out: Path, recorded: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Pages and tables with their hashes; those that were not written since the record before stand as in that.

    What damaged a file left its time as it was: a record so does not vouch for damage that was there before.
    """
    known = {str(one["path"]): dict(one) for one in recorded}
    found = []
    for file in sorted(file for file in out.iterdir() if file.is_file() and file.suffix in STATED):
        if file.name == "ro-crate-metadata.json":
            continue
        written = {"path": file.name, "modified_ns": file.stat().st_mtime_ns}
        before = known.get(file.name, {})
        found.append(before if written.items() <= before.items() else written | sizes_of(file))
    return found


def sizes_of(file: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file."""
    with file.open("rb") as handle:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(handle, "sha256").hexdigest()}


def _sources(path: Path, plate: str) -> Iterator[dict[str, Any]]:
    for record in sorted(progress_folder(path).glob("*/*.source.json")):
        try:
            taken = read_sealed(record)
        except (OSError, StoreError):
            continue
        yield {
            "name": taken.get("name", ""), "path": taken.get("path", ""), "bytes": taken.get("size", 0),
            "modified_ns": taken.get("modified", 0), "sha256": taken.get("sha256", ""), "kind": "acquisition",
            "plate": plate, "well": record.parent.name,
        }  # fmt: skip


def _units(path: Path) -> dict[str, Any]:
    """Frames converted and classified, by their state, and why some failed."""
    told: dict[str, Any] = {}
    for name in ("fields", "probabilities"):
        if has_result(path, name):
            try:
                status = read_result(path, name)["status"].to_numpy()
            except StoreError:
                continue
            counts = {state: int((status == number).sum()) for number, state in enumerate(STATES)}
            told["converted" if name == "fields" else "classified"] = counts
    told |= _last_classification(path)
    failed = {}
    for file in sorted(progress_folder(path).glob("*/*.failed.json")):
        try:
            failed[f"{file.parent.name} {file.name.split('.')[0]}"] = read_sealed(file).get("problem", "")
        except (OSError, StoreError):
            continue
    return {**told, "failed": failed}


def _last_classification(path: Path) -> dict[str, Any]:
    """On what the network last ran, and how large its batches were where memory did not hold those asked for."""
    try:
        last = json.loads((work_folder(path) / "last_run.json").read_text(encoding="utf-8"))
        batch = last["timing"].get("held_batch", 0)
        return {"devices": last["devices"], **({"batches_halved_to": batch} if batch else {})}
    except (OSError, ValueError, KeyError, AttributeError):
        return {}


def _results(store: Path) -> dict[str, str]:
    """Result -> digest of the list of its files' checksums."""
    found = {}
    for part in sorted(store.iterdir()):
        if has_result(store, part.name):
            try:
                found[f"{store.name}/{part.name}"] = digest(checksums(store, part.name))
            except StoreError:
                found[f"{store.name}/{part.name}"] = "damaged"
    return found
