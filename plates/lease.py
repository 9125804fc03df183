"""One writer at a time: a lease beside an output names who writes it, and ends with its process.

The lease of ``P012.zarr`` is the folder ``P012.zarr.lock.d``. It appears by one rename, which no two hosts can both
win, with all that it says inside. Its holder locks a file in it, where the file system can do that, so that processes
of the same machine see at once when the holder is gone; and it beats, which those on other machines watch. Nobody's
clock is compared with another's.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from .errors import LockedError, StorageError
from .files import is_remote
from .stopping import end_with, stop_if_wished

HEARTBEAT_S = 10.0
EXPIRY_S = 90.0
"""A holder on another machine that was silent for so long is gone; a network drive may show a beat a minute late."""

_LOOK_S = 0.5
_TRIES = 20
_FOLDER, _LEASE, _LOCKED, _TAKING, _PARTIAL = ".lock.d", "lease.json", "locked", "taking", ".partial"

log = logging.getLogger("tomoscreen")


@dataclass(frozen=True)
class Holder:
    """Who holds a lease.

    Attributes
    ----------
    machine, namespace
        One boot of one machine; where on it the number of a process counts.
    process_started
        By the system's record, which tells a process from a later one of the same number.
    device
        Number of the mounted disk on that machine.
    locks
        Whether it holds a lock of the system as well.
    """

    token: str
    host: str
    machine: str
    namespace: str
    pid: int
    process_started: float
    since: str
    command: str
    device: int = 0
    locks: bool = False

    def __str__(self) -> str:
        return f"`{self.command}` (process {self.pid} on {self.host}, since {self.since})"


@dataclass
class Lease:
    """A lease that is held; `taken_from` says whose it was before, where that one had not released it."""

    out: Path
    holder: Holder
    taken_from: str = ""
    beats: int = 0
    lock: int | None = field(default=None, repr=False)


@contextmanager
def leased(
    *outs: Path, command: str, steal: bool = False, expiry_s: float = EXPIRY_S, heartbeat_s: float = HEARTBEAT_S
) -> Iterator[list[Lease]]:
    """Hold the leases of outputs while they are written: all of them, or none.

    Parameters
    ----------
    outs
        Files or folders about to be written, there or not. What lies in an object store is not protected.
    command
        The work, as a person would call it; others are told.
    steal
        Take a lease of another machine without watching whether its holder lives.
    expiry_s, heartbeat_s
        How long a holder on another machine may be silent; how often this one beats. The same on all machines.

    Yields
    ------
    leases
        Those held; each says from whom it was taken over, which belongs into a record.

    Raises
    ------
    LockedError
        Another process writes one of them. Also later, at the next unit of work, where this process was held up so
        long that its lease was taken over.
    StorageError
        Nothing can be written there.
    """
    made: list[Path] = []
    held: list[Lease] = []
    stop = threading.Event()
    beating = threading.Thread(target=_beat, args=(held, stop, heartbeat_s), name="lease", daemon=True)
    try:
        for out in sorted({out.absolute() for out in outs if not is_remote(out)}):
            made += _make_parents(out)
            held.append(_acquire(out, command=command, steal=steal, expiry_s=expiry_s))
            if held[-1].taken_from:
                log.warning("%s: taken over from %s.", out, held[-1].taken_from)
        beating.start()
        yield list(held)
    finally:
        stop.set()
        if beating.is_alive():
            beating.join()
        for lease in held:
            _release(lease)
        for folder in reversed(made):
            with suppress(OSError):  # where something was written
                folder.rmdir()


def lease_folder(out: Path) -> Path:
    """Where the lease of an output lies."""
    return out.with_name(out.name + _FOLDER)


def read_holder(out: Path) -> Holder | None:
    """Who holds the lease of an output, dead or alive; None where nobody does, or where it cannot be read."""
    try:
        return Holder(**json.loads((lease_folder(out) / _LEASE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _make_parents(out: Path) -> list[Path]:
    """Make the folders above an output; those that were not there, top first."""
    missing = [folder for folder in (out.parent, *out.parent.parents) if not folder.exists()][::-1]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(out, error) from error
    return missing


def _acquire(out: Path, *, command: str, steal: bool, expiry_s: float) -> Lease:
    """Put a lease where there is none, or where its holder is gone."""
    taken_from = ""
    for _ in range(_TRIES):
        try:
            lease = _put(out, command=command)
        except FileNotFoundError:
            # the folder was another's, who removed it as it was empty again
            _make_parents(out)
            continue
        except OSError as error:
            raise _unwritable(out, error) from error
        if lease is not None:
            return replace(lease, taken_from=taken_from)
        holder = read_holder(out)
        try:
            lock = _lock(lease_folder(out) / _LOCKED)
        except BlockingIOError:
            raise _locked(out, holder) from None
        try:
            if holder is not None and _lives_here(holder):
                raise _locked(out, holder)
            gone = steal or (
                holder is not None and _died_here(holder, lease_folder(out), lock_is_free=lock is not None)
            )
            if not gone and not _is_silent(out, holder, expiry_s=expiry_s):
                continue  # released meanwhile
            if _take_away(out, holder, expiry_s=expiry_s):
                taken_from = str(holder or "a process that left no name")
        finally:
            _unlock(lock)
    raise _locked(out, read_holder(out))


def _put(out: Path, *, command: str) -> Lease | None:
    """A new lease, complete when it appears; None where there is one already."""
    folder, holder = lease_folder(out), _this_process(command)
    new = folder.with_name(f"{folder.name}.{holder.token}{_PARTIAL}")
    lock: int | None = None
    try:
        new.mkdir()
        (new / _LOCKED).touch()
        lock = _lock(new / _LOCKED)
        holder = replace(holder, device=new.stat().st_dev, locks=lock is not None)
        (new / _LEASE).write_text(json.dumps(asdict(holder), indent=1) + "\n", encoding="utf-8")
        new.rename(folder)
    except OSError as error:
        _unlock(lock)
        shutil.rmtree(new, ignore_errors=True)
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return None
        raise
    return Lease(out, holder, lock=lock)


def _is_silent(out: Path, holder: Holder | None, *, expiry_s: float) -> bool:
    """Watch a holder of another machine; False where its lease is gone. Raises LockedError when it beats."""
    first, began = _stamp(out), time.monotonic()
    log.warning(
        "%s is leased by %s. Watching for up to %.0f s whether it is alive.", out, holder or "nobody known", expiry_s
    )
    while time.monotonic() - began < expiry_s:
        stop_if_wished()
        time.sleep(min(_LOOK_S, expiry_s / 10))
        now = _stamp(out)
        if now is None:
            return False
        if now != first:
            raise _locked(out, read_holder(out))
    return True


def _stamp(out: Path) -> tuple[str, int] | None:
    """What changes with each beat; None where there is no lease. Opened anew: a network drive then asks its server."""
    try:
        with (lease_folder(out) / _LEASE).open(encoding="utf-8") as file:
            return file.read(), os.fstat(file.fileno()).st_mtime_ns
    except OSError:
        return ("", 0) if lease_folder(out).exists() else None


def _take_away(out: Path, holder: Holder | None, *, expiry_s: float) -> bool:
    """Remove the lease of a holder that is gone; False where another process was quicker."""
    folder = lease_folder(out)
    try:
        (folder / _TAKING).mkdir()  # one process at a time, and in this very folder
    except FileExistsError:
        # it takes a moment, unless that process ended in it
        if _is_silent(out, holder, expiry_s=expiry_s):
            with suppress(OSError):
                (folder / _TAKING).rmdir()
        return False
    except FileNotFoundError:
        return False
    if _token(read_holder(out)) != _token(holder):
        with suppress(OSError):
            (folder / _TAKING).rmdir()
        return False
    return _remove(out, token=_token(holder))


def _remove(out: Path, *, token: str) -> bool:
    """Let a lease disappear by one rename; False where it turned out to be another's, and was put back."""
    folder = lease_folder(out)
    gone = folder.with_name(f"{folder.name}.{uuid4().hex}{_PARTIAL}")
    try:
        folder.rename(gone)
    except FileNotFoundError:
        return False
    try:
        found = json.loads((gone / _LEASE).read_text(encoding="utf-8"))["token"]
    except (OSError, ValueError, KeyError, TypeError):
        found = ""
    if found != token:
        with suppress(OSError):
            gone.rename(folder)
        return False
    shutil.rmtree(gone, ignore_errors=True)
    return True


def _release(lease: Lease) -> None:
    with suppress(OSError):  # a disk that is gone keeps a lease that nobody beats any more
        if _token(read_holder(lease.out)) == lease.holder.token:
            _remove(lease.out, token=lease.holder.token)
    _unlock(lease.lock)


def _beat(held: list[Lease], stop: threading.Event, heartbeat_s: float) -> None:
    """Show that this process lives, and end its work where a lease is no longer its own."""
    while not stop.wait(heartbeat_s):
        for lease in held:
            file = lease_folder(lease.out) / _LEASE
            try:
                found = json.loads(file.read_text(encoding="utf-8"))["token"]
                if found == lease.holder.token:
                    lease.beats += 1
                    # a time costs no room on a full disk; not that of a clock, which may be set back
                    os.utime(file, (10 * lease.beats, 10 * lease.beats))
                    continue
            except FileNotFoundError:
                pass
            except (OSError, ValueError, KeyError, TypeError):
                continue  # a network drive that hesitates
            other = read_holder(lease.out)
            end_with(
                LockedError(
                    f"{lease.out}: this process was held up, and its lease was taken over"
                    f"{f' by {other}' if other else ''}. What it had finished is kept. Run it again when the other one "
                    "has ended."
                )
            )
            return


def _this_process(command: str) -> Holder:
    return Holder(
        token=uuid4().hex,
        host=socket.gethostname(),
        machine=_machine(),
        namespace=_namespace(),
        pid=os.getpid(),
        process_started=_started(os.getpid()) or 0.0,
        since=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        command=command,
    )


def _machine() -> str:
    """One boot of this machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        import psutil

        return f"{socket.gethostname()} {psutil.boot_time():.0f}"


def _namespace() -> str:
    """Within which a process number means one process; containers have their own."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _started(pid: int) -> float | None:
    """When a process started, by a clock that nobody sets; None where there is none of that number any more."""
    try:
        # after the name, which may hold anything: state, ..., ticks since the machine started
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else float(fields[19])
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


def _lives_here(holder: Holder) -> bool:
    """Whether the holder is a process that this one can see."""
    if (holder.machine, holder.namespace) != (_machine(), _namespace()):
        return False
    started = _started(holder.pid)
    return started is not None and abs(started - holder.process_started) < 1


def _died_here(holder: Holder, folder: Path, *, lock_is_free: bool) -> bool:
    """Whether the holder was a process of this machine and is gone; `_lives_here` was asked before."""
    if holder.machine != _machine():
        return False
    if holder.namespace == _namespace():
        return True
    # of another container: its lock tells, where both look at the same disk
    with suppress(OSError):
        return holder.locks and lock_is_free and folder.stat().st_dev == holder.device
    return False


def _lock(file: Path) -> int | None:
    """The system's lock of a file, which ends with the process; None where there is no file or no such lock.

    Raises
    ------
    BlockingIOError
        A living process has it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        descriptor = os.open(file, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise BlockingIOError from error
        return None
    return descriptor


def _unlock(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


def _token(holder: Holder | None) -> str:
    return holder.token if holder is not None else ""


def _locked(out: Path, holder: Holder | None) -> LockedError:
    if holder is None:
        return LockedError(
            f"{out} is being written by another process, which has not said its name in {lease_folder(out)}. Wait for "
            "it to end, then run again."
        )
    here = holder.machine == _machine()
    return LockedError(
        f"{out} is being written by {holder}. Two writers would spoil it: nothing was started. Wait for that one to "
        f"end, or stop it, then run again."
        + ("" if here else " If you know that it is dead, --steal takes its place at once.")
    )


def _unwritable(out: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{out} cannot be written: {error.strerror or error}. Give an output on a disk with room in a folder that you "
        "may write to, or mend that, then run again."
    )
