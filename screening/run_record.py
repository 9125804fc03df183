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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from plates.errors import MissingInputError, StoreError, TomoscreenError
from plates.files import is_remote
from plates.integrity import read_sealed, write_sealed
from screening.audit import note, user, utc_now
from screening.fingerprints import digest
from screening.run_state import found_in, outputs_of, sizes_of
from screening.settings import AnalysisSettings, Settings

RUNS = "runs"
SCHEMA = 1


@contextmanager
def recorded(settings: Settings, *, command: str = "run", operator: str = "") -> Iterator[dict[str, Any]]:
    """Keep a record of a run while it goes on: ``<out>/runs/<run>.json``, and its lines in the audit trail.

    Yields
    ------
    dict
        The record. `warnings` (a list of sentences) may be added to; what else there is to tell is collected.

    An error of the run passes through; its words and exit code stand in the record.
    """
    described = settings.model_dump(mode="json")
    about = {
        "campaign": settings.campaign.name,
        "settings": described,
        "plate_maps": {plate.name: _file(plate.layout) for plate in settings.plates},
        "exclusions": _exclusions(settings.analysis.exclusions),
        "classifier": _classifier(settings.classifier.folder),
        "seeds": {"analysis": settings.analysis.seed},
    }
    out, names = settings.campaign.out, [plate.name for plate in settings.plates]
    written = [*names, settings.campaign.name]
    device = settings.classifier.device
    with _kept(out, about, plates=names, written=written, device=device, command=command, operator=operator) as run:
        yield run


@contextmanager
def recorded_command(
    plate: Path,
    *,
    command: str,
    operator: str = "",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    layout: Path | None = None,
    classifier: Path | None = None,
    analyses: bool = False,
    device: str = "",
) -> Iterator[dict[str, Any]]:
    """Keep a record of a command on one plate, as `recorded` does of a run of a campaign.

    The record tells the state of the plate's folder: what the command does not touch stands as in the record before.
    There is neither record nor trail in an object store, nor where the plate is not there for the command to read.

    Parameters
    ----------
    plate
        The plate's store; the record lies beside it.
    command
        As it was typed.
    settings
        What the command does by its options, in the sections of a campaign's settings; one that is given stands in
        place of that of the record before.
    layout, classifier
        The plate map and the folder of the classifier that the command reads.
    analyses
        Whether the command analyses the plate: with the default settings, and leaving nothing out.
    device
        What the network is asked to run on; empty where none runs.

    Yields
    ------
    dict
        The record, as of `recorded`; an empty one where none is kept.
    """
    if is_remote(plate) or not (plate.exists() or layout):
        yield {}
        return
    out, name = plate.absolute().parent, plate.name.removesuffix(".zarr")
    earlier = _earlier(out)
    own = {"campaign": {"name": name, "out": str(out)}}
    about = {
        "campaign": earlier.get("campaign", name),
        "settings": {**own, **earlier.get("settings", {}), **(settings or {})},
        "plate_maps": {**earlier.get("plate_maps", {}), **({name: _file(layout.absolute())} if layout else {})},
        "exclusions": earlier.get("exclusions", _exclusions(None)),
        "classifier": _classifier(classifier.absolute()) if classifier else earlier.get("classifier", {}),
        "seeds": earlier.get("seeds", {}),
    }
    if analyses:
        defaults = AnalysisSettings()
        about["settings"] = {**about["settings"], "analysis": defaults.model_dump(mode="json")}
        about |= {"exclusions": _exclusions(defaults.exclusions), "seeds": {"analysis": defaults.seed}}
    with _kept(
        out, about, plates=[name], written=[name], others=earlier, device=device, command=command, operator=operator
    ) as run:
        yield run


@contextmanager
def _kept(
    out: Path,
    about: Mapping[str, Any],
    *,
    plates: Sequence[str],
    written: Sequence[str],
    others: Mapping[str, Any] | None = None,
    device: str,
    command: str,
    operator: str,
) -> Iterator[dict[str, Any]]:
    """A record from its start to its end, with its lines in the trail.

    `plates` are those of which inputs and units are told; `written` names the stores whose results may be replaced;
    of `others`, an earlier record, the inputs and units of other plates stand.
    """
    earlier = _earlier(out)
    began = time.monotonic()
    run = {**_started(command=command, operator=operator), **about, "settings_sha256": digest(about["settings"])}
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
        run |= {"exit_code": code, "error": error, "outputs": outputs_of(out, earlier.get("outputs", []))}
        run |= found_in(out, run["plate_maps"], plates=plates, others=others or {})
        run["device"] = _device(device) if device or not others else others.get("device", {})
        stores = {f"{name}.results.zarr" for name in written}
        replaced = [
            name
            for name, value in earlier.get("results", {}).items()
            if name.split("/")[0] in stores and run["results"].get(name) != value
        ]
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


def _earlier(out: Path) -> dict[str, Any]:
    """The record of the last run that ended; empty where there is none."""
    before = last_run(out, ended=True)
    return read_run(before) if before is not None else {}


def _started(*, command: str, operator: str) -> dict[str, Any]:
    packages = _packages()
    # to the microsecond, for short commands follow each other within a second and are sorted by it
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    return {
        "schema": SCHEMA,
        "run": f"{stamp}-{secrets.token_hex(3)}",
        "state": "started",
        "command": command,
        "started": utc_now(),
        "monotonic_s": round(time.monotonic(), 3),
        "user": user(),
        "operator": operator,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "code": {"version": version("tomoscreen"), "git": _git()},
        "packages": packages,
        "packages_sha256": digest(packages),
        "platform": {"system": platform.platform(), "python": sys.version.split()[0], "cores": os.cpu_count()},
        "warnings": [],
    }


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
    files = {file.name: sizes_of(file)["sha256"] for file in sorted(folder.iterdir()) if file.is_file()}
    wanted = ("name", "architecture", "weights_sha256", "trained_on", "fingerprint", "calibration")
    return {"path": str(folder), **{key: card.get(key, "") for key in wanted}, "files": files}


def _device(asked: str) -> dict[str, Any]:
    """What the network ran on, with the switches that change numbers; little where torch was not loaded."""
    told: dict[str, Any] = {
        "asked": asked,
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
    return {"path": str(file), **sizes_of(file), "modified_ns": file.stat().st_mtime_ns}
