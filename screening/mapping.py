"""One function over many units: in this process, or over a Dask cluster with a bounded number under way."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

# One thread a worker: two OpenMP threads in one process cost 1.5 to 2.6 times more CPU per patch.
# MALLOC_TRIM_THRESHOLD_ must be there before the process starts, or freed memory is never given back.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": "65536",
}


def map_units(
    function: Callable[..., Any], units: Sequence[tuple[Any, ...]], *, client: Any = None
) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield each unit with what the function made of it, as they finish.

    An exception is yielded in the result's place: one unit's failure never stops the others. At most two
    units a worker are under way, so that a million units cost the scheduler no more than a hundred.
    """
    if client is None:
        for unit in units:
            try:
                outcome = function(*unit)
            except Exception as failure:
                outcome = failure
            yield unit, outcome
        return
    from distributed import as_completed

    waiting = iter(units)
    running: dict[Any, tuple[Any, ...]] = {}
    results = as_completed(with_results=False)

    def submit_next() -> None:
        unit = next(waiting, None)
        if unit is not None:
            future = client.submit(function, *unit, pure=False, retries=1)
            running[future] = unit
            results.add(future)

    for _ in range(2 * max(1, sum(client.nthreads().values()))):
        submit_next()
    for future in results:
        unit = running.pop(future)
        error = future.exception()
        yield unit, future.result() if error is None else error
        future.release()
        submit_next()


@contextmanager
def cluster(*, workers: int, scheduler: str = "") -> Iterator[Any]:
    """Yield a Dask client: of the scheduler at an address, of local processes, or None for one worker.

    Nothing listens outside this machine: local clusters bind to 127.0.0.1 and have no dashboard.
    """
    if not scheduler and workers <= 1:
        yield None
        return
    from distributed import Client, LocalCluster

    if scheduler:
        with Client(scheduler, timeout="30s") as client:
            yield client
        return
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            env=WORKER_ENVIRONMENT,
            silence_logs=40,
        ) as local,
        Client(local) as client,
    ):
        yield client


def worker_count(setting: int | str = "auto") -> int:
    """Workers to use: a number as given, "auto" for one a core that this process may use."""
    if isinstance(setting, int):
        return setting
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
