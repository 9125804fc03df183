"""A classifier folder's files and their SHA-256, in a list that ``sha256sum --check`` reads too."""

import hashlib
from pathlib import Path

from plates.files import write_durable

CHECKSUMS = "SHA256SUMS"


def write_checksums(folder: Path) -> Path:
    """List every file of a finished classifier folder with its SHA-256."""
    lines = [f"{_sha256(folder / name)}  {name}\n" for name in _names(folder)]
    file = folder / CHECKSUMS
    write_durable(file, "".join(lines).encode())
    return file


def altered_files(folder: Path) -> dict[str, str] | None:
    """File -> what is wrong with it; empty where all are as they were listed, None where there is no list.

    Every file must be listed, so that a list that was cut short is noticed.
    """
    file = folder / CHECKSUMS
    if not file.is_file():
        return None
    wrong: dict[str, str] = {}
    listed: dict[str, str] = {}
    lines = file.read_bytes().decode("utf-8", errors="replace").split("\n")
    if lines.pop():  # after the last line's end there is nothing
        wrong[CHECKSUMS] = "was cut short"
    for number, line in enumerate(lines, start=1):
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name or "/" in name or "\\" in name:
            wrong[CHECKSUMS] = f"is damaged in line {number}"
            continue
        listed[name] = digest
    for name in _names(folder):
        if name not in listed:
            wrong[name] = f"is not listed in {CHECKSUMS}"
        elif _sha256(folder / name) != listed[name]:
            wrong[name] = f"is not what {CHECKSUMS} lists"
    wrong |= {name: "is missing" for name in listed if not (folder / name).is_file()}
    return wrong


def _names(folder: Path) -> list[str]:
    hidden = (CHECKSUMS, "Thumbs.db", "desktop.ini")
    files = (file.name for file in folder.iterdir() if file.is_file())
    return sorted(name for name in files if name not in hidden and not name.startswith("."))


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
