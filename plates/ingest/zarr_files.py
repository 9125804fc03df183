"""Files of zarr metadata written by others: nothing outside the plate's folder is read, nothing endless."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from ..errors import AcquisitionError

COPY_AGAIN = "Copy the plate again, or write it again with the program that made it."

_MAX_DOCUMENT_BYTES = 1 << 28
_MAX_NAME_BYTES = 255


def inside(root: Path, folder: Path, name: object) -> Path:
    """Folder below `folder` as metadata name it; refused where a name or a link leads out of the plate.

    Parameters
    ----------
    root
        Resolved folder of the plate or image.
    name
        Names joined by ``/``.
    """
    parts = name.split("/") if isinstance(name, str) else []
    if not parts or not all(_is_plain(part) for part in parts):
        raise AcquisitionError(
            f"{folder}: the metadata name the path {name!r}, expected plain names joined by '/'. Do not trust it."
        )
    path = folder.joinpath(*parts)
    check_inside(root, path)
    return path


def read_attributes(folder: Path, *, root: Path) -> dict[str, Any]:
    """Attributes of a group or array, of zarr version 3 or 2."""
    if (folder / "zarr.json").exists():
        attributes = read_document(folder / "zarr.json", root=root).get("attributes", {})
    elif (folder / ".zattrs").exists():
        attributes = read_document(folder / ".zattrs", root=root)
    elif (folder / ".zgroup").exists() or (folder / ".zarray").exists():
        attributes = {}
    else:
        raise AcquisitionError(f"{folder}: the metadata name this folder, but it holds no zarr data. {COPY_AGAIN}")
    if not isinstance(attributes, dict):
        raise AcquisitionError(f"{folder}: the attributes are no JSON object. {COPY_AGAIN}")
    return attributes


def read_document(file: Path, *, root: Path) -> dict[str, Any]:
    """One JSON object; a pipe, a huge file or broken text is refused."""
    check_inside(root, file)
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_DOCUMENT_BYTES:
            raise AcquisitionError(f"{file}: no ordinary file of metadata ({status.st_size:,} bytes). {COPY_AGAIN}")
        document = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        if isinstance(error, AcquisitionError):
            raise
        raise AcquisitionError(f"{file}: damaged, not JSON ({error}). {COPY_AGAIN}") from error
    except OSError as error:
        raise AcquisitionError(f"{file}: cannot be read ({error}). {COPY_AGAIN}") from error
    if not isinstance(document, dict):
        raise AcquisitionError(f"{file}: holds no JSON object. {COPY_AGAIN}")
    return document


def check_inside(root: Path, path: Path) -> None:
    """Refuse a path that links lead out of the resolved folder `root`."""
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError) as error:  # a loop of links
        raise AcquisitionError(f"{path}: cannot be followed ({error}). {COPY_AGAIN}") from error
    if not resolved.is_relative_to(root):
        raise AcquisitionError(
            f"{path}: a link to {resolved}, outside the plate {root}. Copy the plate with its files instead of links "
            "(cp -rL), or do not trust it."
        )


def _is_plain(name: str) -> bool:
    return (
        bool(name)
        and not name.startswith(".")
        and name.isprintable()
        and "\\" not in name
        and ":" not in name
        and len(name.encode(errors="replace")) <= _MAX_NAME_BYTES
    )
