"""Storage that fails for a moment is asked again, a few times and not for ever; then it is said what failed."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .errors import TomoscreenError
from .files import gigabytes

PAUSES_S = (1.0, 4.0, 15.0)
"""Between tries; a drive that is still away after them is away for longer."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_AWAY = (
    "EIO ESTALE ETIMEDOUT EAGAIN EBUSY EREMOTEIO ECONNRESET ECONNABORTED ECONNREFUSED EPIPE ENOTCONN EHOSTDOWN "
    "EHOSTUNREACH ENETDOWN ENETRESET ENETUNREACH ENOLINK ESHUTDOWN"
)
AWAY = frozenset(getattr(errno, name) for name in _AWAY.split() if hasattr(errno, name))
_CLIENTS = ("botocore", "aiobotocore", "aiohttp", "s3fs", "gcsfs", "adlfs")

log = logging.getLogger("tomoscreen")


def patiently(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function again after a pause where storage failed for a moment; its last error is raised.

    Doing it again must change nothing.
    """
    for pause in PAUSES_S:
        try:
            return function(*arguments)
        except Exception as error:
            if not is_away(error):
                raise
            log.warning("Storage hesitates (%s). Trying again in %g s.", _reason(error), pause)
        time.sleep(pause)
    return function(*arguments)


def is_away(error: BaseException) -> bool:
    """Whether storage failed in a way that may pass: a drive that is away, a busy object store."""
    number = fault_of(error)
    return number in AWAY or number == -1


def is_of_storage(error: BaseException) -> bool:
    """Whether an error is of the storage that all units share, not of one unit's file: it is full, closed or away."""
    number = fault_of(error)
    # one sector that cannot be read is a file's own
    return number is not None and number != errno.EIO and (number in AWAY | FULL | {errno.EROFS, -1})


def raise_if_of_storage(error: Exception) -> None:
    """Raise what was wrong with the storage that all units share, where that is what caused an error of one unit."""
    if is_of_storage(error):
        raise next(cause for cause in _causes(error) if _fault(cause) is not None)


def fault_of(error: BaseException) -> int | None:
    """The system's number of a fault of storage that caused an error; -1 of a client of an object store's; or None."""
    return next((number for cause in _causes(error) if (number := _fault(cause)) is not None), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _fault(error: BaseException) -> int | None:
    if type(error).__module__.split(".")[0] in _CLIENTS:
        return -1
    if not isinstance(error, OSError) or isinstance(error, TomoscreenError):
        return None
    # HDF5 and others tell the number in the text alone
    told = re.search(r"\b[Ee]rrno(?: =)? (\d+)", str(error))
    number = error.errno or (int(told[1]) if told else None)
    if number in AWAY | FULL | {errno.EROFS}:
        return number
    return errno.ETIMEDOUT if isinstance(error, (TimeoutError, ConnectionError)) else None


def in_words(error: OSError) -> str:
    """What an error of the system says, of which file, and what to do about it."""
    where = str(error.filename) if error.filename else "a file"
    told = f"{where}: {error.strerror or error}."
    number = fault_of(error)
    if number in FULL:
        room = _free(Path(where)) if error.filename else None
        free = "" if room is None else f" {gigabytes(room)} are free."
        return f"{told}{free} What was finished is kept. Free some space, then run again."
    if number in AWAY:
        return f"{told} It was tried {len(PAUSES_S) + 1} times. What was finished is kept; run again when it is back."
    if number == errno.EROFS or isinstance(error, PermissionError):
        return f"{told} What was finished is kept. Get the right to use it, or give another output; then run again."
    return told


def _free(path: Path) -> int | None:
    """Bytes free on the disk of a path, which need not exist."""
    for folder in (path, *path.absolute().parents):
        if os.path.exists(folder):  # noqa: PTH110  answers on a disk that is in trouble as well
            try:
                return shutil.disk_usage(folder).free
            except OSError:
                return None
    return None


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
