"""Named results kept beside the plate, each with its provenance, each there whole or not at all.

Results lie in ``P012.results.zarr`` beside ``P012.zarr`` and not inside it: readers of OME-Zarr plates take
a foreign group for a row of wells. Every result is readable with plain
``xarray.open_dataset(path, group=name, engine="zarr", consolidated=False)``.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import MissingInputError, StoreError
from .files import is_remote, location, remove, settle, write_text
from .integrity import SEAL, UNSEALED, fingerprint_of, has_checksum, read_recorded, read_sealed, seal
from .shards import KEY

if TYPE_CHECKING:
    import xarray as xr
    from zarr.core.buffer import Buffer
    from zarr.storage import MemoryStore

_SUFFIX = ".results.zarr"
_ONE_CHUNK_BYTES = 1 << 26
_IN_MEMORY_BYTES = 1 << 26
_CHECKSUMS = "checksums"
_COMMANDS = {
    **dict.fromkeys(("layout", "fields", "sources", "seams", "registration", "medium_drift"), "ingest"),
    "probabilities": "classify",
}


def results_path(plate_path: Path) -> Path:
    """``P012.zarr`` -> ``P012.results.zarr``; a path of results is returned as it is."""
    plate_path = location(plate_path)
    if plate_path.name.endswith(_SUFFIX):
        return plate_path
    return plate_path.with_name(plate_path.name.removesuffix(".zarr") + _SUFFIX)


def write_result(
    path: Path,
    name: str,
    dataset: xr.Dataset,
    *,
    provenance: Mapping[str, Any],
    add: Callable[[Path], None] | None = None,
) -> None:
    """Write a result under its name, replacing an earlier one.

    It is written beside the store, down to the disk, and renamed into it, so that an interruption or a power loss
    leaves the earlier result or none, never half of one.

    Parameters
    ----------
    path
        The plate, or its results.
    name
        Name of the result, such as ``"fractions"``.
    dataset
        Text may be of any dtype; it is stored as variable-length strings, missing text as ``""``.
    provenance
        What made the result; kept as the attribute ``provenance`` (JSON text).
    add
        Called with the result's Zarr group on the disk before it appears under its name, to add arrays that
        are too large for memory.
    """
    store = results_path(path)
    if not name.isidentifier():
        raise StoreError(f"{store}: {name!r} cannot name a result; expected a plain word")
    if not (store / "zarr.json").exists():
        write_text(store / "zarr.json", group_root())
    prepared = _with_plain_text(dataset)
    prepared.attrs["provenance"] = json.dumps(dict(provenance), sort_keys=True, default=str)
    if is_remote(store):
        if add is not None:
            raise StoreError(f"{store}: {name} is too large to be put into an object store in one piece.")
        _put(prepared, store / name)
        return
    for leftover in store.parent.glob(f"{escape(store.name)}.{name}.*.partial"):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = store.with_name(f"{store.name}.{name}.{os.getpid()}.partial")
    try:
        _to_zarr(prepared, temporary)
        if add is not None:
            add(temporary)
        _vouch(temporary)
        _settle_all(temporary)
        _replace_folder(temporary, store / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_result(path: Path, name: str) -> xr.Dataset:
    """Result as a dataset in memory.

    Raises
    ------
    MissingInputError
        It was not made yet; the message names the command that makes it.
    StoreError
        It is there but damaged.
    """
    import xarray as xr

    store = results_path(path)
    if not has_result(store, name):
        raise MissingInputError(
            f"{store}: there is no result {name!r} yet. Run `tomoscreen {_COMMANDS.get(name, 'analyse')}` first."
        )
    try:
        # a file that is gone would read as values that are missing
        files = checksums(store, name)
        if files and not is_remote(store):
            # what was checked is what is decoded, and each file is opened once
            source: dict[str, Any] = {"filename_or_obj": _checked(store / name, files)}
        else:
            # from an object store each file would travel twice: damage is left to the checksums in the chunks
            gone = next((file for file in files if not (store / name / file).exists()), None)
            if gone is not None:
                raise ValueError(f"{gone} is missing")
            source = {"filename_or_obj": str(store), "group": name}
        with xr.open_dataset(**source, engine="zarr", consolidated=False) as stored:
            return _with_plain_text(stored.load())
    except (ValueError, RuntimeError, OSError, KeyError) as error:
        raise StoreError(
            f"{store}: the result {name!r} is damaged ({error}). Delete {store / name} and run "
            f"`tomoscreen {_COMMANDS.get(name, 'analyse')}` again, or let `tomoscreen repair` delete what is damaged."
        ) from error


def result_attributes(path: Path, name: str) -> dict[str, Any]:
    """Attributes of a result without its numbers, whatever their size; empty where there is none or it is damaged."""
    try:
        group = (results_path(path) / name / "zarr.json").read_bytes()
        files = checksums(path, name)
        if files and not has_checksum(group, files["zarr.json"][1]):
            return {}
        return dict(json.loads(group)["attributes"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def checksums(path: Path, name: str) -> dict[str, list[Any]]:
    """What a result consists of: file below its group -> size in bytes and checksum; empty for one of an older version.

    Raises
    ------
    StoreError
        The list itself is damaged.
    """
    file = results_path(path) / name / _CHECKSUMS / "zarr.json"
    try:
        return dict(read_sealed(file)["attributes"]["files"])
    except FileNotFoundError:
        return {}
    except (KeyError, TypeError) as error:
        raise StoreError(f"{file}: is damaged ({error}).") from error


def group_root() -> str:
    """The zarr.json of a store of results, sealed."""
    return _group({})


def has_result(path: Path, name: str) -> bool:
    """Whether a result of that name is there."""
    return (results_path(path) / name / "zarr.json").exists()


def _checked(folder: Path, files: Mapping[str, list[Any]]) -> MemoryStore:
    """The files of a result in memory, each as it was written. Raises ValueError for one that is not."""
    from zarr.core.buffer import default_buffer_prototype
    from zarr.storage import MemoryStore

    as_buffer = default_buffer_prototype().buffer.from_bytes
    found = {}
    for file, recorded in files.items():
        data, wrong = read_recorded(folder / file, recorded)
        if wrong:
            raise ValueError(f"{file} {wrong}")
        found[file] = as_buffer(data)
    return MemoryStore(found, read_only=True)


def _vouch(folder: Path) -> None:
    """List the files of a result with their sizes and checksums, in a group of its own beside its arrays."""
    files = {
        file.relative_to(folder).as_posix(): fingerprint_of(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    write_text(folder / _CHECKSUMS / "zarr.json", _group({"files": files}))


def _settle_all(folder: Path) -> None:
    """Wait until a result is on the disk; a power loss then leaves the earlier one or this one, whole.

    Chunks that are links to those of the work on them waited for the disk when they were written.
    """
    files = [file for file in folder.rglob("*") if file.is_file() and file.stat().st_nlink == 1]
    with ThreadPoolExecutor(4) as pool:  # a disk settles several at once; each thread wants memory of its own
        for _ in pool.map(settle, files):
            pass


def _group(attributes: Mapping[str, Any]) -> str:
    described = {**attributes, KEY: {SEAL: UNSEALED}}
    return seal(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": described}))


def _with_plain_text(dataset: xr.Dataset) -> xr.Dataset:
    """Copy with text as objects: fixed-width strings have no specification in Zarr and warn."""
    texts = {}
    for name, variable in dataset.variables.items():
        # pandas' text columns come with a dtype that is not numpy's
        if not isinstance(variable.dtype, np.dtype) or variable.dtype.kind in "UTO":
            values = np.asarray(variable.values, dtype=object)
            text = np.empty(values.shape, dtype=object)
            text[...] = np.vectorize(_plain, otypes=[object])(values) if values.size else values
            texts[name] = (variable.dims, text, variable.attrs)
    # all at once: each assignment looks at every variable
    prepared = dataset.assign_coords({name: text for name, text in texts.items() if name in dataset.coords})
    prepared = prepared.assign({name: text for name, text in texts.items() if name not in dataset.coords})
    for variable in prepared.variables.values():
        variable.encoding = {}
    return prepared


def _plain(value: Any) -> str:
    return "" if value is None or value != value else str(value)


def _encoding(dataset: xr.Dataset) -> dict[Any, dict[str, Any]]:
    """One chunk a variable where it is small: a result is read whole, and files cost more than bytes; each checked."""
    from zarr.codecs import Crc32cCodec, ZstdCodec

    stored = {"compressors": (ZstdCodec(level=0), Crc32cCodec())}
    return {
        name: {"chunks": variable.shape, **stored} if 0 < variable.nbytes <= _ONE_CHUNK_BYTES else stored
        for name, variable in dataset.variables.items()
    }


def _to_zarr(prepared: xr.Dataset, folder: Path) -> None:
    from zarr.storage import MemoryStore

    options: dict[str, Any] = {"mode": "w", "zarr_format": 3, "consolidated": False, "encoding": _encoding(prepared)}
    if prepared.nbytes > _IN_MEMORY_BYTES:
        prepared.to_zarr(folder, **options)
        return
    # dozens of small files: through memory they take half the time, and the folder has no readers yet
    files: dict[str, Buffer] = {}
    prepared.to_zarr(MemoryStore(files), **options)
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.to_bytes())


def _put(prepared: xr.Dataset, target: Path) -> None:
    """Write a result into an object store, where nothing is renamed: its root, which says it is there, comes last."""
    remove(target / "zarr.json")
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "result.zarr"
        _to_zarr(prepared, local)
        _vouch(local)
        files = [file for file in sorted(local.rglob("*")) if file.is_file() and file != local / "zarr.json"]
        kept = {target.joinpath(*file.relative_to(local).parts) for file in files}
        for old in target.rglob("*"):
            if old.is_file() and old not in kept:
                remove(old)
        for file in (*files, local / "zarr.json"):
            target.joinpath(*file.relative_to(local).parts).write_bytes(file.read_bytes())


def _replace_folder(new: Path, target: Path) -> None:
    """Folders cannot replace each other in one step: between the two the result is absent, not mixed."""
    old = new.with_name(new.name.replace(".partial", ".old.partial"))
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)
