"""Whether a worker can do our work: it has the same software and reaches the same files."""

import os
import pickle
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .errors import TomoscreenError
from .files import is_remote
from .patience import patiently

SOFTWARE = ("tomoscreen", "torch", "numpy", "zarr", "dask", "distributed")
"""Packages whose versions must agree: they decide the numbers, the files, or what travels between machines."""

HAND_BACK_S = 1.0  # an unfit worker answers at once, and would otherwise take every unit before the others do


class ClusterLostError(TomoscreenError, ConnectionError):
    """The cluster is gone, or has no worker that can do the work."""

    exit_code = 75  # a failure for now: run again

    def __str__(self) -> str:
        # OSError renders (errno, text) pairs; ours carries one sentence.
        return str(self.args[0]) if self.args else ""


class UnfitWorkerError(Exception):
    """A worker hands a unit back: (its address, host and what it lacks)."""


@dataclass(frozen=True)
class Terms:
    """What a worker needs in order to do a unit: the versions of the software, and files or folders."""

    software: tuple[tuple[str, str], ...]
    places: tuple[str, ...]


def terms(places: Sequence[Path]) -> Terms:
    """The terms of this process: its own versions, and places on disks that workers must reach as well."""
    return Terms(installed(), tuple(str(place.absolute()) for place in places if not is_remote(place)))


def installed() -> tuple[tuple[str, str], ...]:
    """Versions of what decides numbers and files; "" where a package is absent."""
    versions = [(name, comparable(_version(name))) for name in SOFTWARE]
    # of tomoscreen itself also what the version does not tell: checkouts of one version differ
    return (*versions, ("tomoscreen's code", _code()))


def comparable(text: str | None) -> str:
    """A version without its build: 2.15.0+cpu computes what 2.15.0+cu132 does."""
    return (text or "").split("+")[0]


def do_unit(packed: bytes, agreed: Terms) -> Any:
    """Do one unit on a worker, after a look at the worker itself; `packed` is a pickled (function, unit)."""
    try:
        require_fit(agreed)
    except UnfitWorkerError:
        time.sleep(HAND_BACK_S)
        raise
    function, unit = pickle.loads(packed)
    return patiently(function, *unit)


@lru_cache(maxsize=16)  # a failure is not remembered: a network drive may come back
def require_fit(agreed: Terms) -> None:
    """Raise `UnfitWorkerError` unless this process has the software and reaches the places."""
    lacks = differences(agreed.software, installed())
    lacks += [f"{place} cannot be reached" for place in agreed.places if not os.path.exists(place)]  # noqa: PTH110
    if lacks:
        raise UnfitWorkerError(_address(), socket.gethostname(), "; ".join(lacks))


def differences(wanted: Iterable[tuple[str, str]], found: Iterable[tuple[str, str]]) -> list[str]:
    """Say which packages differ from those wanted."""
    there = dict(found)
    return [
        f"{name} is {there.get(name) or 'not installed'} there, {here or 'not installed'} here"
        for name, here in wanted
        if there.get(name, "") != here
    ]


def _address() -> str:
    from distributed import get_worker

    try:
        return str(get_worker().address)
    except ValueError:  # in no worker
        return ""


@lru_cache(maxsize=1)
def _code() -> str:
    """Digest of the code that makes numbers, as it lay on the disk when this process first asked."""
    root, digest = Path(__file__).parents[1], sha256()
    for file in sorted(
        file for package in ("plates", "models", "screening") for file in (root / package).rglob("*.py")
    ):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
