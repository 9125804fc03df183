"""The files of a classifier's or an evaluation's folder and their SHA-256, in a list that `sha256sum --check` reads."""

import hashlib
from pathlib import Path

from plates.files import write_durable

CHECKSUMS = "SHA256SUMS"


def write_checksums(folder: Path) -> Path:
    """List every file of a finished folder with its SHA-256; folders in it are not looked into."""
    return _write(folder, {name: _sha256(folder / name) for name in _names(folder)})


def add_checksums(folder: Path, *names: str) -> Path:
    """Put files that were added or replaced on a folder's list.

    What the list says of all other files stays as it is: damage to one of them is not vouched for. A list that is
    damaged itself is left alone, for `altered_files` to tell. A folder without one gets a list of all its files.
    """
    listed = _read(folder)
    if listed is None:
        return write_checksums(folder)
    digests, wrong = listed
    if wrong:
        return folder / CHECKSUMS
    return _write(folder, digests | {name: _sha256(folder / name) for name in names})


def altered_files(folder: Path) -> dict[str, str] | None:
    """File -> what is wrong with it; empty where all are as they were listed, None where there is no list.

    Every file must be listed, so that a list that was cut short is noticed.
    """
    read = _read(folder)
    if read is None:
        return None
    listed, wrong = read
    for name in _names(folder):
        if name not in listed:
            wrong[name] = f"is not listed in {CHECKSUMS}"
        elif _sha256(folder / name) != listed[name]:
            wrong[name] = f"is not what {CHECKSUMS} lists"
    wrong |= {name: "is missing" for name in listed if not (folder / name).is_file()}
    return wrong


def _read(folder: Path) -> tuple[dict[str, str], dict[str, str]] | None:
    """File -> digest as listed, and what is wrong with the list itself; None where there is none."""
    file = folder / CHECKSUMS
    if not file.is_file():
        return None
    listed: dict[str, str] = {}
    wrong: dict[str, str] = {}
    lines = file.read_bytes().decode("utf-8", errors="replace").split("\n")
    if lines.pop():  # after the last line's end there is nothing
        wrong[CHECKSUMS] = "was cut short"
    for number, line in enumerate(lines, start=1):
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name or "/" in name or "\\" in name:
            wrong[CHECKSUMS] = f"is damaged in line {number}"
            continue
        listed[name] = digest
    return listed, wrong


def _write(folder: Path, digests: dict[str, str]) -> Path:
    file = folder / CHECKSUMS
    write_durable(file, "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode())
    return file


def _names(folder: Path) -> list[str]:
    hidden = (CHECKSUMS, "Thumbs.db", "desktop.ini")
    files = (file.name for file in folder.iterdir() if file.is_file())
    return sorted(name for name in files if name not in hidden and not name.startswith("."))


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
