"""What a step was made from, as a short text: equal inputs, equal text, nothing to do again."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import xarray as xr

from plates.errors import StoreError
from plates.results import has_result, read_result


def content(dataset: xr.Dataset) -> str:
    """SHA-256 of a dataset's numbers, names and attributes, whatever step or time made it."""
    digester = hashlib.sha256()
    for name in sorted(map(str, dataset.variables)):
        variable = dataset[name]
        digester.update(repr((name, variable.dims, variable.shape)).encode())
        values = variable.to_numpy()
        digester.update(repr(values.tolist()).encode() if values.dtype == object else values.tobytes())
    attributes = {str(key): str(value) for key, value in dataset.attrs.items() if key != "provenance"}
    digester.update(json.dumps(attributes, sort_keys=True).encode())
    return digester.hexdigest()


def digest(value: object) -> str:
    """SHA-256 of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def provenance(step: str, fingerprint: str) -> dict[str, str]:
    """What made a result, to be stored with it."""
    return {"step": step, "fingerprint": fingerprint, "version": version("tomoscreen")}


def current_result(path: Path, name: str, *, fingerprint: str) -> xr.Dataset | None:
    """Return a stored result if it was made from just that; None where it is absent, damaged or older."""
    if not has_result(path, name):
        return None
    try:
        stored = read_result(path, name)
        return stored if recorded(stored, "fingerprint") == fingerprint else None
    except (StoreError, ValueError):
        return None


def recorded(dataset: xr.Dataset, key: str) -> str | None:
    """Return an entry of a result's provenance."""
    entry: str | None = json.loads(dataset.attrs.get("provenance", "{}")).get(key)
    return entry
