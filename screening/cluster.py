"""Where the work is done: in this process, in local processes, or on the Dask cluster behind an address."""

import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from plates.errors import SettingsError
from plates.stopping import starting_processes
from plates.workers import SOFTWARE, comparable, differences

SCHEDULER_TIMEOUT = "30s"

# How long a worker's process may take to start anew; Dask's own 15 s are too few on a busy machine.
RESTART_TIMEOUT = "30s"

# One thread a worker: two OpenMP threads in one process cost 1.5 to 2.6 times more CPU per patch.
# Units of one size come one after the other: memory that one frees serves the next. Dask's own 65536 gives it
# back to the system after each array, and fetching it again doubled the time of a simulated field.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
}

log = logging.getLogger("tomoscreen")


@dataclass(frozen=True)
class Certificates:
    """PEM files by which this machine and a cluster know each other: the authority's, our own, our own key."""

    authority: Path
    certificate: Path
    key: Path


@contextmanager
def cluster(
    *, workers: int, scheduler: str = "", device: str = "cpu", certificates: Certificates | None = None
) -> Iterator[Any]:
    """Yield a Dask client: of the scheduler at an address, of local processes, or None for one worker.

    Nothing listens outside this machine: local clusters bind to 127.0.0.1 and have no dashboard.

    Parameters
    ----------
    workers
        Local processes; where the device is a GPU, no more than there are GPUs, and each sees its own only.
    scheduler
        Address of a Dask scheduler, such as tcp://host:8786 or tls://host:8786.
    device
        What the work is done on: "cpu" (conversion, simulation), or as a classifier's device.
    certificates
        For a tls:// address; without them those of Dask's own configuration (distributed.comm.tls) are used.

    Raises
    ------
    SettingsError
        No scheduler answers there, or its workers have other versions of the software than this process.
    """
    if scheduler:
        with _client_of(scheduler, certificates) as client:
            _require_same_software(client, scheduler)
            yield client
        return
    gpus = visible_gpus(device)
    count = min(workers, len(gpus)) if gpus else workers
    if count <= 1:
        yield None
        return
    with _local(count, gpus=gpus) as client:
        yield client


@contextmanager
def clusters(
    *, workers: int, scheduler: str = "", device: str = "auto", certificates: Certificates | None = None
) -> Iterator[tuple[Any, Any]]:
    """Yield two clients: one for work on processors, such as conversion, and one for work on a device.

    They are one and the same except on a machine with GPUs: its processors would stand idle behind one process a GPU.
    """
    with cluster(workers=workers, scheduler=scheduler, certificates=certificates) as hands:
        if scheduler or not visible_gpus(device):
            yield hands, hands
            return
        with cluster(workers=workers, device=device) as eyes:
            yield hands, eyes


def worker_count(setting: int | Literal["auto"] = "auto") -> int:
    """Workers to use: a number as given, "auto" for one a core that this process may use."""
    if isinstance(setting, int):
        return setting
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def visible_gpus(device: str) -> list[str]:
    """GPUs that a device's name stands for, as CUDA_VISIBLE_DEVICES would name them; Apple's is "mps".

    CUDA is not started here: the driver is asked.
    """
    if device == "cpu":
        return []
    if device == "mps":
        return ["mps"]
    import torch

    # of a batch system, these may be any numbers or long names
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    names = given.split(",")[:count] if given is not None else [str(number) for number in range(count)]
    if device.startswith("cuda:"):
        return names[int(device[5:]) :][:1]
    if not names and device == "auto" and torch.backends.mps.is_available():
        return ["mps"]
    return names


@contextmanager
def _local(count: int, *, gpus: Sequence[str]) -> Iterator[Any]:
    """A client of so many processes on this machine, each with one thread and, where there are GPUs, one of them."""
    import dask
    from distributed import Client, Nanny, Scheduler, SpecCluster
    from distributed.system import MEMORY_LIMIT

    # what goes wrong in a worker is told by map_units, once
    here = {"host": "127.0.0.1", "dashboard": False, "dashboard_address": "127.0.0.1:0"}
    worker = {**here, "nthreads": 1, "memory_limit": MEMORY_LIMIT // count, "silence_logs": logging.CRITICAL}
    environments = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus[:count]] or [{}] * count
    # a unit whose worker ends comes back to us at once: map_units counts, and knows who was beside it
    scheduler = {"cls": Scheduler, "options": {**here, "port": 0, "allowed_failures": 0}}
    settings = {
        # the allocator reads its settings when a process starts, before a worker's `env` would be set
        "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
        "distributed.deploy.lost-worker-timeout": RESTART_TIMEOUT,
    }
    with dask.config.set(settings):

        def start() -> Any:
            return SpecCluster(
                scheduler=scheduler,
                workers={
                    number: {"cls": Nanny, "options": {**worker, "env": environment}}
                    for number, environment in enumerate(environments)
                },
                silence_logs=logging.CRITICAL,
            )

        # not the default of everything that Dask does in this process: a client that is lost would stay it
        with _ended_at_once(start) as local, Client(local, set_as_default=False) as client:
            yield client


@contextmanager
def _ended_at_once(start: Callable[[], Any]) -> Iterator[Any]:
    """A local cluster; an interrupt drops what its workers have under way, which the next run does again."""
    local = None
    try:
        with starting_processes():
            local = start()
        yield local
    except (KeyboardInterrupt, SystemExit):
        for nanny in local.workers.values() if local is not None else ():
            nanny.auto_restart = False
            if nanny.pid is not None:
                with suppress(OSError):  # it ended by itself
                    os.kill(nanny.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        raise
    finally:
        if local is not None:
            local.close()


@contextmanager
def _client_of(address: str, certificates: Certificates | None) -> Iterator[Any]:
    import warnings

    from distributed import Client
    from distributed.security import Security
    from distributed.versions import VersionMismatchWarning

    security = Security()  # as Dask's configuration says
    if certificates is not None:
        if not address.startswith("tls://"):
            raise SettingsError(
                f"Certificates are given, but the scheduler's address is '{address}', which is not encrypted. "
                "Expected tls://host:port. Correct the address, or leave the certificates out."
            )
        security = Security(
            tls_ca_file=_readable(certificates.authority),
            tls_client_cert=_readable(certificates.certificate),
            tls_client_key=_readable(certificates.key),
            require_encryption=True,
        )
    elif address.startswith("tls://") and not security.tls_client_cert:
        raise SettingsError(
            f"The scheduler's address '{address}' is encrypted, but no certificates are given. Name the authority's "
            "certificate, this machine's and its key in [workers] (tls_ca, tls_certificate, tls_key), or in Dask's "
            "configuration (distributed.comm.tls)."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VersionMismatchWarning)  # ours is an error, and names what matters
            client = Client(address, timeout=SCHEDULER_TIMEOUT, security=security, set_as_default=False)
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"No Dask scheduler answers at '{address}' ({error}). Expected an address such as tcp://host:8786, or "
            "tls://host:8786 for an encrypted one. Start the scheduler, or correct the address."
        ) from error
    with client:
        yield client


def _readable(path: Path) -> str:
    try:
        path.read_bytes()
    except OSError as error:
        raise SettingsError(f"Certificate {path} cannot be read ({error.strerror}). Correct the path.") from None
    return str(path)


def _require_same_software(client: Any, address: str) -> None:
    """Compare versions before any work: other ones give other numbers, or fail in ways hard to read.

    Workers that come later are looked at when they take their first unit; see `plates.workers`.
    """
    found = client.get_versions(packages=list(SOFTWARE))
    mine = _versions(found["client"])
    faults = {}
    # the scheduler runs none of our code, but must speak the same Dask
    for where, theirs in {"the scheduler": found["scheduler"], **found["workers"]}.items():
        wanted = (
            mine if where != "the scheduler" else [one for one in mine if one[0] in ("Python", "dask", "distributed")]
        )
        lacks = differences(wanted, _versions(theirs))
        if lacks:
            faults[where] = ", ".join(lacks)
    if faults:
        shown = "\n".join(f"  {where}: {what}" for where, what in list(faults.items())[:5])
        raise SettingsError(
            f"The Dask cluster at '{address}' has other software than this machine; nothing was started.\n{shown}\n"
            "Install the same versions everywhere (constraints.txt holds a set that fits together)."
        )
    threads = max(client.nthreads().values(), default=1)
    if threads > 1:
        log.warning(
            "Workers of %s have up to %d threads. One thread a worker is faster: --nthreads 1.", address, threads
        )


def _versions(report: dict[str, Any]) -> list[tuple[str, str]]:
    packages = report["packages"]
    python = ".".join(packages["python"].split(".")[:2])
    return [("Python", python), *((name, comparable(packages.get(name))) for name in SOFTWARE)]
