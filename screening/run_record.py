"""One file a run: from what, with what, by whom and when, and what came of it.

It is written when the run starts, so that a run that was killed has one too, and whole when it ends.
"""

import hashlib
import os
import platform
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from plates.errors import MissingInputError, StoreError, TomoscreenError
from plates.ingest.units import progress_folder
from plates.integrity import read_sealed, write_sealed
from plates.results import checksums, has_result, read_result, results_path
from screening.audit import note, user, utc_now
from screening.fingerprints import digest
from screening.settings import Settings

RUNS = "runs"
SCHEMA = 1
STATES = ("pending", "done", "failed", "missing")
STATED = (".html", ".csv", ".json", ".toml", ".svg", ".png", ".parquet", ".xlsx")
"""Kinds of plain files that count as outputs of a run."""


@contextmanager
def recorded(settings: Settings, *, command: str = "run", operator: str = "") -> Iterator[dict[str, Any]]:
    """Keep a record of a run while it goes on: ``<out>/runs/<run>.json``, and its lines in the audit trail.

    Yields
    ------
    dict
        The record. `warnings` (a list of sentences) may be added to; what else there is to tell is collected.

    An error of the run passes through; its words and exit code stand in the record.
    """
    out = settings.campaign.out
    before = last_run(out, ended=True)
    earlier = read_run(before) if before is not None else {}
    began = time.monotonic()
    run = _started(settings, command=command, operator=operator)
    file = out / RUNS / f"{run['run']}.json"
    write_sealed(file, run)
    note(out, "run started", operator=operator, run=run["run"], command=command)
    _note_exclusions(out, earlier, run, operator=operator)
    code, error = 0, ""
    try:
        yield run
    except BaseException as raised:
        code, error = _told(raised)
        raise
    finally:
        run |= {"state": "ended", "ended": utc_now(), "seconds": round(time.monotonic() - began, 3)}
        run |= {"exit_code": code, "error": error, **_found(settings), "device": _device(settings)}
        replaced = [name for name, value in earlier.get("results", {}).items() if run["results"].get(name) != value]
        if replaced:
            note(out, "results replaced", operator=operator, run=run["run"], results=sorted(replaced))
        write_sealed(file, run)
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        note(out, "run ended", operator=operator, run=run["run"], exit_code=code, sha256=sha256)


def read_run(file: Path) -> dict[str, Any]:
    """A run's record.

    Parameters
    ----------
    file
        The record, or a campaign's folder of results for its last run that ended.

    Raises
    ------
    MissingInputError
        There is none.
    StoreError
        It was altered.
    """
    if file.is_dir():
        found = last_run(file, ended=True)
        if found is None:
            raise MissingInputError(f"{file} holds no record of a run that ended. Expected {RUNS}/<run>.json in it.")
        file = found
    try:
        return read_sealed(file)
    except FileNotFoundError:
        raise MissingInputError(
            f"There is no record of a run at {file}. Expected a file such as {RUNS}/<run>.json."
        ) from None


def last_run(out: Path, *, ended: bool) -> Path | None:
    """Record of the last run of a campaign, of those that ended if `ended`; None where none can be read."""
    for file in sorted((out / RUNS).glob("*.json"), reverse=True):
        try:
            if not ended or read_sealed(file).get("state") == "ended":
                return file
        except (OSError, StoreError):
            continue
    return None


def for_crate(run: Mapping[str, Any]) -> dict[str, Any]:
    """What `screening.crate.write_crate` takes, of a run's record."""
    return {
        "name": run["campaign"],
        "started": run["started"],
        "ended": run.get("ended", run["started"]),
        "operator": run["operator"] or run["user"],
        "error": run.get("error", ""),
        "version": run["code"]["version"],
        "inputs": run.get("inputs", []),
        "classifiers": [{"name": run["classifier"]["name"], "sha256": run["classifier"]["weights_sha256"]}],
        "outputs": [*(one["path"] for one in run.get("outputs", [])), *run.get("stores", [])],
    }


def _started(settings: Settings, *, command: str, operator: str) -> dict[str, Any]:
    described = settings.model_dump(mode="json")
    packages = _packages()
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    return {
        "schema": SCHEMA,
        "run": f"{stamp}-{secrets.token_hex(3)}",
        "state": "started",
        "campaign": settings.campaign.name,
        "command": command,
        "started": utc_now(),
        "monotonic_s": round(time.monotonic(), 3),
        "user": user(),
        "operator": operator,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "settings": described,
        "settings_sha256": digest(described),
        "plate_maps": {plate.name: _file(plate.layout) for plate in settings.plates},
        "exclusions": _exclusions(settings.analysis.exclusions),
        "classifier": _classifier(settings.classifier.folder),
        "code": {"version": version("tomoscreen"), "git": _git()},
        "packages": packages,
        "packages_sha256": digest(packages),
        "platform": {"system": platform.platform(), "python": sys.version.split()[0], "cores": os.cpu_count()},
        "seeds": {"analysis": settings.analysis.seed},
        "warnings": [],
    }


def _found(settings: Settings) -> dict[str, Any]:
    """What can only be told at the end: inputs with their hashes, units by state, outputs with theirs."""
    out = settings.campaign.out
    inputs: list[dict[str, Any]] = []
    units: dict[str, dict[str, Any]] = {}
    results: dict[str, str] = {}
    for plate in settings.plates:
        path = out / f"{plate.name}.zarr"
        inputs += _sources(path, plate.name)
        inputs.append({**_file(plate.layout), "name": plate.layout.name, "kind": f"plate map of {plate.name}"})
        units[plate.name] = _units(path)
        results |= _results(path)
    results |= _results(out / f"{settings.campaign.name}.results.zarr")
    files = [file for file in sorted(out.iterdir()) if file.is_file() and file.suffix in STATED]
    outputs = [{"path": file.name, **_sizes(file)} for file in files if file.name != "ro-crate-metadata.json"]
    stores = [store.name for store in sorted(out.glob("*.zarr"))]
    return {"inputs": inputs, "units": units, "results": results, "outputs": outputs, "stores": stores}


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
    failed = {}
    for file in sorted(progress_folder(path).glob("*/*.failed.json")):
        try:
            failed[f"{file.parent.name} {file.name.split('.')[0]}"] = read_sealed(file).get("problem", "")
        except (OSError, StoreError):
            continue
    return {**told, "failed": failed}


def _results(path: Path) -> dict[str, str]:
    """Result -> digest of the list of its files' checksums."""
    store = results_path(path)
    found = {}
    for part in sorted(store.iterdir()) if store.is_dir() else []:
        if has_result(store, part.name):
            try:
                found[f"{store.name}/{part.name}"] = digest(checksums(store, part.name))
            except StoreError:
                found[f"{store.name}/{part.name}"] = "damaged"
    return found


def _note_exclusions(out: Path, earlier: Mapping[str, Any], run: Mapping[str, Any], *, operator: str) -> None:
    old, new = (set(one.get("exclusions", {}).get("lines", [])) for one in (earlier, run))
    if (earlier or new) and old != new:
        note(
            out,
            "exclusions changed",
            operator=operator,
            run=run["run"],
            added=sorted(new - old),
            gone=sorted(old - new),
        )


def _exclusions(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {"path": "", "sha256": "", "lines": []}
    lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()[1:]
    return {**_file(file), "lines": [line for line in lines if line.strip()]}


def _classifier(folder: Path) -> dict[str, Any]:
    from models.shelf import read_values

    card = read_values(folder)
    files = {file.name: _sizes(file)["sha256"] for file in sorted(folder.iterdir()) if file.is_file()}
    wanted = ("name", "architecture", "weights_sha256", "trained_on", "fingerprint", "calibration")
    return {"path": str(folder), **{key: card.get(key, "") for key in wanted}, "files": files}


def _device(settings: Settings) -> dict[str, Any]:
    """What the network ran on, with the switches that change numbers; little where torch was not loaded."""
    told: dict[str, Any] = {
        "asked": settings.classifier.device,
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS", ""),
    }
    torch = sys.modules.get("torch")
    if torch is None:
        return told
    cuda = torch.cuda.is_available()
    return {
        **told,
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda if cuda else "",
        "gpu": torch.cuda.get_device_name(0) if cuda else "",
        "tf32_matmul": bool(torch.backends.cuda.matmul.allow_tf32),
        "tf32_convolution": bool(torch.backends.cudnn.allow_tf32),
        "deterministic": bool(torch.are_deterministic_algorithms_enabled()),
    }


def _packages() -> list[str]:
    """Packages that can be imported, as name==version, by the names of their folders: their texts take long to read."""
    folders = {folder.name for place in sys.path if place for folder in Path(place).glob("*.dist-info")}
    return sorted("==".join(name.removesuffix(".dist-info").rsplit("-", 1)) for name in folders)


def _git() -> dict[str, Any]:
    """Commit of the code and whether it was changed since; empty where it is installed and no checkout."""
    home = Path(__file__).resolve().parent.parent
    if not (home / ".git").exists():
        return {}
    try:
        asked = [["git", "-C", str(home), "rev-parse", "HEAD"], ["git", "-C", str(home), "status", "--porcelain"]]
        commit, changed = (subprocess.run(ask, capture_output=True, text=True, timeout=10, check=True) for ask in asked)
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"commit": commit.stdout.strip(), "changed": sorted(line[3:] for line in changed.stdout.splitlines())}


def _told(raised: BaseException) -> tuple[int, str]:
    """Exit code and words of what ended a run."""
    if isinstance(raised, TomoscreenError):
        return raised.exit_code, str(raised)
    if isinstance(raised, KeyboardInterrupt):
        return 130, "stopped by the user"
    if isinstance(raised, OSError):
        return 75, f"{raised.filename or 'a file'}: {raised.strerror or raised}"
    return 1, f"{type(raised).__name__}: {raised}"


def _file(file: Path) -> dict[str, Any]:
    return {"path": str(file), **_sizes(file), "modified_ns": file.stat().st_mtime_ns}


def _sizes(file: Path) -> dict[str, Any]:
    with file.open("rb") as handle:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(handle, "sha256").hexdigest()}
