"""What was done to a campaign, by whom and when: lines that are only ever added, each bound to the one before.

A line carries the SHA-256 of the line before it, so that nothing in the middle can be altered, taken out or put in
without the chain breaking there. That the last lines were taken away shows in the records of the runs, which name
them. The trail supports records for regulated work; rights and signatures are the laboratory's.
"""

import getpass
import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

AUDIT = "audit.jsonl"
FIRST = "0" * 64  # stands before the first line


def note(folder: Path, action: str, *, operator: str = "", **details: Any) -> str:
    """Add a line to the audit trail of a campaign's folder, wait until it is on the disk, and return its hash.

    Parameters
    ----------
    action
        Such as "run started", "run ended", "exclusions changed", "results replaced", "repair", "lease stolen",
        "lease taken over" (of a holder that was gone).
    operator
        Who did it, where that is somebody else than the user of the computer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / AUDIT).open("a+b") as handle:
        _wait_for_others(handle)
        handle.seek(0)
        text = handle.read().decode("utf-8", errors="replace")
        entries = [entry for _, entry in _entries(text) if entry is not None]
        line = {
            "number": entries[-1]["number"] + 1 if entries else 1,
            "utc": utc_now(),
            "monotonic_s": round(time.monotonic(), 3),
            "user": user(),
            "operator": operator,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "action": action,
            "details": details,
            "previous": entries[-1]["hash"] if entries else FIRST,
        }
        line["hash"] = _hash(line)
        # a line that a power loss cut short stays as it is, and the next starts on its own
        start = "\n" if text and not text.endswith("\n") else ""
        handle.write((start + json.dumps(line, sort_keys=True, default=str) + "\n").encode())
        handle.flush()
        os.fsync(handle.fileno())
    return str(line["hash"])


def read_audit(folder: Path) -> list[dict[str, Any]]:
    """Lines of the trail in their order; those that cannot be read are left out, `broken_links` tells of them."""
    file = folder / AUDIT
    if not file.exists():
        return []
    text = file.read_bytes().decode("utf-8", errors="replace")
    return [entry for _, entry in _entries(text) if entry is not None]


def broken_links(folder: Path) -> list[tuple[Path, str]]:
    """Where the chain of a folder's audit trail breaks, and which records of runs it does not know."""
    file = folder / AUDIT
    wrong: list[tuple[Path, str]] = []
    text = file.read_bytes().decode("utf-8", errors="replace") if file.exists() else ""
    before, number = FIRST, 0
    for place, entry in _entries(text):
        if entry is None:
            wrong.append((file, f"is damaged in line {place}"))
            continue
        if entry["hash"] != _hash(entry):
            wrong.append((file, f"was altered in line {place}"))
        elif entry["previous"] != before or entry["number"] != number + 1:
            wrong.append((file, f"breaks before line {place}: a line was altered, taken out or put in"))
        before, number = str(entry["hash"]), int(entry["number"])
    if text and not text.endswith("\n"):
        wrong.append((file, "was cut short"))
    return wrong + list(_unknown_runs(folder))


def utc_now() -> str:
    """Time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def user() -> str:
    """Name of the user of the computer; empty where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _wait_for_others(handle: BinaryIO) -> None:
    """Hold the trail until the file is closed: two plates of a folder may be worked on at once."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    with suppress(OSError):  # a disk without locks
        fcntl.flock(handle, fcntl.LOCK_EX)


def _unknown_runs(folder: Path) -> Iterator[tuple[Path, str]]:
    """Records of runs and the trail must tell the same."""
    lines = read_audit(folder)
    started = {line["details"].get("run") for line in lines if line["action"] == "run started"}
    ended = {line["details"].get("run"): line["details"] for line in lines if line["action"] == "run ended"}
    files = {file.stem: file for file in sorted((folder / "runs").glob("*.json"))}
    for run, file in files.items():
        if run not in started:
            yield folder / AUDIT, f"does not know the run {run}: lines were taken away"
        elif run in ended and hashlib.sha256(file.read_bytes()).hexdigest() != ended[run].get("sha256"):
            yield file, "is not the record that the audit trail names"
        elif run not in ended and b'"state": "ended"' in file.read_bytes():
            yield folder / AUDIT, f"does not know the end of the run {run}: lines were taken away"
    for run in sorted(started - files.keys() - {None}):
        yield folder / "runs" / f"{run}.json", "is missing, though the audit trail names it"


def _entries(text: str) -> Iterator[tuple[int, dict[str, Any] | None]]:
    for place, line in enumerate(text.split("\n"), start=1):
        if not line:
            continue
        try:
            entry = json.loads(line)
            whole = isinstance(entry, dict) and {"number", "previous", "hash", "action", "details"} <= entry.keys()
            # as it is written, byte for byte
            yield place, entry if whole and json.dumps(entry, sort_keys=True) == line else None
        except ValueError:
            yield place, None


def _hash(entry: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in entry.items() if key != "hash"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, default=str).encode()).hexdigest()
