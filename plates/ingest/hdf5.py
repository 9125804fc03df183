"""HDF5 without trust: members of this file only, claims checked before memory is taken, attributes in any form.

HDF5 opens files named by external links, external storage and virtual datasets without asking (h5py issue
2891), and 3 kB of it can claim 80 TB; numbers come as scalars or arrays, strings as bytes or text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import AcquisitionError

_MAX_WHOLE = 1 << 32
_MAX_AXIS = 1 << 16
_MAX_VOXELS = 1 << 32  # the largest stitched field known has 0.8e9 voxels
_MAX_MEMBERS = 100_000
_MAX_CHUNK_BYTES = 1 << 30
# no lossless codec shrinks a large tomogram's noise so far
_MAX_COMPRESSION = 1000
_LARGE_BYTES = 1 << 28
# deflate, shuffle, Fletcher's checksum, szip; LZF, Blosc, bitshuffle, Zstandard, Blosc2
_FILTERS = frozenset({1, 2, 3, 4, 32000, 32001, 32008, 32015, 32026})


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a file for reading, with the reason in one sentence where that cannot be done."""
    import h5py
    import hdf5plugin  # noqa: F401  registers the Zstandard and Blosc filters with HDF5

    try:
        file = h5py.File(path, "r")
    except BlockingIOError as error:
        raise AcquisitionError(
            f"{path}: the file is still being written by another program. Wait until the acquisition "
            "has ended, then run again."
        ) from error
    except FileNotFoundError:
        raise
    except OSError as error:
        raise AcquisitionError(
            f"{path}: not a complete TCF (HDF5) file: {error}. It was probably cut short while being "
            "copied or is still being written. Copy it again from the microscope, or remove it."
        ) from error
    try:
        yield file
    finally:
        with damage_named(path):
            file.close()


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn what HDF5 raises over a damaged file into one clear error; errors of others pass."""
    try:
        yield
    except AcquisitionError:
        raise
    except Exception as error:
        if "h5py" not in _origin(error):
            raise
        raise AcquisitionError(
            f"{path}: damaged, or compressed with a filter that is not installed: {error}. Copy the "
            "file again from the microscope, or remove it."
        ) from error


def problem(node: Any, what: str, remedy: str) -> AcquisitionError:
    """Error that names the file in which a node lies."""
    return AcquisitionError(f"{node.file.filename}: {what}. {remedy}")


def is_group(node: Any) -> bool:
    """Whether a node holds others, rather than data."""
    import h5py

    return isinstance(node, h5py.Group)


def member(group: Any, *names: str) -> Any:
    """Walk down one name at a time, so that no link on the way leads out of the file.

    A check of the last link alone would miss an external one in the middle of a path.

    Raises
    ------
    AcquisitionError
        The member is missing, is a link to elsewhere, or takes its data from another file.
    """
    import h5py

    for name in names:
        if not is_group(group):
            raise problem(group, f"{group.name} holds no {name}", "This is not a complete holotomography file.")
        link = group.get(name, getlink=True)
        if link is None:
            raise problem(
                group, f"{group.name.rstrip('/')}/{name} is missing", "This is not a complete holotomography file."
            )
        if not isinstance(link, h5py.HardLink):
            raise problem(
                group,
                f"{group.name.rstrip('/')}/{name} is a link to elsewhere ({type(link).__name__})",
                "No microscope writes that; do not trust the file.",
            )
        group = group[name]
        if isinstance(group, h5py.Dataset):
            _check_dataset(group)
        elif not isinstance(group, h5py.Group):
            raise problem(group, f"{group.name} is neither data nor a group", "Remove the file.")
    return group


def optional_member(group: Any, *names: str) -> Any:
    """Member reached as by `member`, or None where there is none."""
    for name in names:
        # `name in group` would already open what an external link names
        if not is_group(group) or group.get(name, getlink=True) is None:
            return None
        group = member(group, name)
    return group


def member_names(group: Any) -> list[str]:
    """Names in a group, as text that can be compared; refused where there are too many to be true."""
    if len(group) > _MAX_MEMBERS:
        raise problem(group, f"{group.name} lists {len(group):,} members", "The file is damaged or hostile.")
    return [str(name) for name in group]


def check_shape(node: Any, shape: tuple[int, ...], *, axes: str) -> tuple[int, ...]:
    """Shape of an image, refused when it is impossible.

    Parameters
    ----------
    axes
        Axes that it must have, such as ``"ZYX"``.
    """
    if len(shape) != len(axes):
        expected = ", ".join(axes.lower())
        raise problem(node, f"{node.name} has the shape {shape}, expected ({expected})", "Remove it.")
    if min(shape) < 1 or max(shape) > _MAX_AXIS or math.prod(shape) > _MAX_VOXELS:
        claimed = " x ".join(str(size) for size in reversed(shape))
        raise problem(
            node,
            f"{node.name} claims {claimed} voxels, more than any instrument records",
            "The file is damaged; copy it again, or remove it.",
        )
    return shape


def check_stored(dataset: Any) -> None:
    """Refuse before allocating what claims far more than it stores, and what stores nothing."""
    stored = dataset.id.get_storage_size()
    claimed = dataset.size * dataset.dtype.itemsize
    chunk = math.prod(dataset.chunks) * dataset.dtype.itemsize if dataset.chunks else 0
    if (claimed > _LARGE_BYTES and claimed > _MAX_COMPRESSION * stored) or chunk > _MAX_CHUNK_BYTES:
        raise problem(
            dataset,
            f"{dataset.name} claims {claimed:,} bytes and stores {stored:,}",
            "No tomogram compresses so far; the file is damaged or hostile.",
        )
    if stored == 0:
        raise problem(dataset, f"{dataset.name} holds no data", "The acquisition was not finished; acquire it again.")


def number(node: Any, name: str, default: float = float("nan")) -> float:
    """Attribute as a number, whether stored as a scalar or as an array of length one."""
    if name not in node.attrs:
        return default
    values = np.asarray(node.attrs[name]).ravel()
    return float(values[0]) if values.size and values.dtype.kind in "uifb" else default


def whole_number(node: Any, name: str, default: int | None = None) -> int:
    """Attribute as a whole number.

    Raises
    ------
    AcquisitionError
        It is missing and there is no default, or it is no whole number of a sensible size.
    """
    value = number(node, name, float("nan") if default is None else default)
    if not abs(value) < _MAX_WHOLE or value != int(value):
        raise problem(
            node,
            f"{node.name} gives {name} as {value}, expected a whole number",
            "The file is damaged; copy it again, or remove it.",
        )
    return int(value)


def text(node: Any, name: str) -> str:
    """Attribute as text, whether stored as bytes or str, of fixed length or not; empty where there is none."""
    if name not in node.attrs:
        return ""
    values = np.asarray(node.attrs[name]).ravel()
    value: Any = values[0] if values.size else ""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    return str(value).split("\0")[0].strip() if isinstance(value, str | np.number) else ""


def timestamp(node: Any, name: str) -> datetime | None:
    """Attribute as local time, or None."""
    for form in ("%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S"):
        try:
            return datetime.strptime(text(node, name), form)
        except ValueError:
            continue
    return None


def _check_dataset(dataset: Any) -> None:
    from h5py import h5t

    if dataset.external is not None or dataset.is_virtual:
        raise problem(dataset, f"{dataset.name} takes its data from another file", "Do not trust the file.")
    if dataset.dtype.kind not in "uif":
        raise problem(dataset, f"{dataset.name} holds {dataset.dtype}, not numbers", "Remove the file.")
    # a bit flipped in the description of a type gives other numbers, not an error
    if not dataset.id.get_type().equal(h5t.py_create(dataset.dtype)):
        raise problem(
            dataset,
            f"{dataset.name} holds numbers of a kind of its own, like {dataset.dtype} but not it",
            "No microscope writes that; the file is damaged. Copy it again, or remove it.",
        )
    settings = dataset.id.get_create_plist()
    unknown = {settings.get_filter(place)[0] for place in range(settings.get_nfilters())} - _FILTERS
    if unknown:
        # a lossy one would change the tomogram, and some end the process when given what is not theirs
        raise problem(
            dataset,
            f"{dataset.name} is packed by filter {min(unknown)} of HDF5, which no tomogram needs",
            "The file is damaged, or was packed by other software. Copy it again from the microscope, or remove it.",
        )


def _origin(error: BaseException) -> str:
    """File of the innermost frame of an error, to tell HDF5's errors from ours."""
    trace = error.__traceback__
    name = ""
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        trace = trace.tb_next
    return name
