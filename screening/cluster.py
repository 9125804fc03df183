"""Where the work is done: in this process, in local processes, or on the Dask cluster behind an address."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from plates.errors import SettingsError

SCHEDULER_TIMEOUT = "30s"

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


@contextmanager
def cluster(*, workers: int, scheduler: str = "") -> Iterator[Any]:
    """Yield a Dask client: of the scheduler at an address, of local processes, or None for one worker.

    Nothing listens outside this machine: local clusters bind to 127.0.0.1 and have no dashboard.
    """
    if not scheduler and workers <= 1:
        yield None
        return
    import dask
    from distributed import Client, LocalCluster

    if scheduler:
        try:
            client = Client(scheduler, timeout=SCHEDULER_TIMEOUT)
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"No Dask scheduler answers at '{scheduler}' ({error}). Expected an address such as "
                "tcp://host:8786. Start the scheduler, or correct the address."
            ) from error
        with client:
            yield client
        return
    # the allocator reads its settings when a process starts, before a worker's `env` would be set
    with dask.config.set({"distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT}):
        with _deaf_to_interrupts():
            local = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",  # None would still listen on all interfaces, port 8787
                silence_logs=40,
            )
        with local, Client(local) as client:
            yield client


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Let processes that start meanwhile ignore Ctrl-C: the terminal sends it to all, but only one answers it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals can be set in the main thread alone
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def worker_count(setting: int | Literal["auto"] = "auto") -> int:
    """Workers to use: a number as given, "auto" for one a core that this process may use."""
    if isinstance(setting, int):
        return setting
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
