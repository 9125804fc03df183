"""A disk that fails at the n-th thing it is asked for: once, a few times, or from then on."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


class FaultyDisk:
    """Counts what files below a folder are asked for, and fails where it was told to.

    Opening, renaming and zarr's own reading count; each is one operation.

    Parameters
    ----------
    folder
        Everything below it may fail.
    number
        Of the system's error, such as errno.ESTALE.
    at, times
        The first operation that fails, counted from 0, and how many do.
    """

    def __init__(self, folder: Path, *, number: int, at: int, times: float = 1) -> None:
        self._root, self._number, self._at, self._times = str(folder), number, at, times
        self.operations = self.failures = 0
        self.armed = True

    def ask(self, path: object) -> None:
        """Raise the error where it is due."""
        if not self.armed or not str(path).startswith(self._root):
            return
        place, self.operations = self.operations, self.operations + 1
        if self._at <= place and self.failures < self._times:
            self.failures += 1
            raise OSError(self._number, os.strerror(self._number), str(path))

    def within(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same work; only within it the disk fails."""
        self.armed = False

        def watched(*arguments: Any) -> Any:
            self.armed = True
            try:
                return work(*arguments)
            finally:
                self.armed = False

        return watched

    @contextmanager
    def failing(self) -> Iterator["FaultyDisk"]:
        """Let the disk fail meanwhile, in this process."""
        from zarr.storage import LocalStore

        opened, renamed, got = Path.open, Path.replace, LocalStore.get

        def open_(path: Path, *arguments: Any, **named: Any) -> Any:
            self.ask(path)
            return opened(path, *arguments, **named)

        def replace(path: Path, target: Any) -> Any:
            self.ask(path)
            return renamed(path, target)

        async def get(store: Any, key: str, *arguments: Any, **named: Any) -> Any:
            self.ask(Path(store.root) / key)
            return await got(store, key, *arguments, **named)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "open", open_)
            patch.setattr(Path, "replace", replace)
            patch.setattr(LocalStore, "get", get)
            yield self


NUMBERS = {"ESTALE": errno.ESTALE, "ETIMEDOUT": errno.ETIMEDOUT, "EIO": errno.EIO}
