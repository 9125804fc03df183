"""The steps of a plate on a disk that is full whenever it hurts; run on a small disk of its own by `test_full_disk`."""

import contextlib
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

KEPT_FREE = 1 << 14


class Disk:
    """A small disk, filled up and emptied at will."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ballast = folder, folder / "ballast"

    def fill(self, *, leave: int = KEPT_FREE) -> None:
        """Leave so many bytes free."""
        size = shutil.disk_usage(self.folder).free - leave
        with self.ballast.open("ab") as file:
            file.write(bytes(max(0, size)))

    def empty(self) -> None:
        self.ballast.unlink(missing_ok=True)


def command(*words: object) -> dict[str, Any]:
    """A command as a shell would give it: its exit code and what it said."""
    from screening.cli import main

    before, sys.argv = sys.argv, ["tomoscreen", *map(str, words)]
    said = io.StringIO()
    code: Any = 0
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            main()
    except SystemExit as left:
        code = left.code or 0
    finally:
        sys.argv = before
    return {"code": code, "said": said.getvalue()}


def run(disk: Disk, source: Path) -> dict[str, Any]:
    """Each step: refused or failed on the full disk, then done on the emptied one."""
    from plates.ingest import convert

    acquisitions, layout, classifier = source / "P001", source / "P001.csv", source / "classifier"
    plate = disk.folder / "P001.zarr"
    page = disk.folder / "P001.html"
    steps: dict[str, Callable[[], dict[str, Any]]] = {
        "ingest": lambda: command("ingest", acquisitions, plate, "--layout", layout, "--workers", 1),
        "classify": lambda: command("classify", plate, "--classifier", classifier, "--workers", 1, "--device", "cpu"),
        "analyse": lambda: command("analyse", plate),
        "report": lambda: command("report", plate, "--out", page),
    }
    told: dict[str, Any] = {}
    disk.fill()
    told["refused"] = steps["ingest"]() | {"written": os.listdir(disk.folder)}  # noqa: PTH208
    # as if somebody else filled it while we write
    checked = vars(convert)["refuse_if_too_large"]
    vars(convert)["refuse_if_too_large"] = lambda *_, **__: None
    for name, step in steps.items():
        disk.fill(leave=(1 << 20) if name == "ingest" else KEPT_FREE)
        told[f"{name} full"] = step()
        disk.empty()
        told[name] = step() | {"unfinished": [str(path) for path in disk.folder.rglob("*.partial")]}
    vars(convert)["refuse_if_too_large"] = checked
    before = page.read_bytes()
    disk.fill()
    told["again"] = steps["report"]() | {"intact": page.read_bytes() == before}
    disk.empty()
    return told


if __name__ == "__main__":
    print(json.dumps(run(Disk(Path(sys.argv[1])), Path(sys.argv[2]))))
    shutil.copytree(sys.argv[1], sys.argv[3])  # the disk ends with this process
