"""One function over many units: in this process, or over a Dask cluster with a bounded number under way."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any

from .errors import WorkerLostError

UNITS_A_WORKER = 2


def map_units(
    function: Callable[..., Any], units: Sequence[tuple[Any, ...]], *, client: Any = None, threads: int = 1
) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield each unit with what the function made of it, as they finish.

    An exception is yielded in the result's place: one unit's failure never stops the others. At most two
    units a worker are under way, so that a million units cost the scheduler no more than a hundred.

    Parameters
    ----------
    function
        Called with the members of a unit; on a cluster it and they are pickled.
    client
        A Dask client; None works in this process.
    threads
        Units under way at a time in this process; with one, in order.

    Yields
    ------
    unit, outcome
        `WorkerLostError` is the outcome of a unit that ended three workers, of which a lack of memory is the
        usual reason.
    """
    if client is None:
        yield from _map_here(function, units, threads=threads)
        return
    from distributed import KilledWorker, as_completed

    waiting = iter(units)
    running: dict[Any, tuple[Any, ...]] = {}
    finished = as_completed()

    def submit_next() -> None:
        unit = next(waiting, None)
        if unit is not None:
            future = client.submit(function, *unit, pure=False)
            running[future] = unit
            finished.add(future)

    for _ in range(UNITS_A_WORKER * max(1, sum(client.nthreads().values()))):
        submit_next()
    for future in finished:
        unit = running.pop(future)
        error = future.exception()
        if isinstance(error, KilledWorker):
            error = WorkerLostError("it ended every worker that tried it, probably for want of memory.")
        yield unit, future.result() if error is None else error
        future.release()
        submit_next()


def _map_here(
    function: Callable[..., Any], units: Sequence[tuple[Any, ...]], *, threads: int
) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if threads == 1:
        yield from ((unit, _attempt(function, unit)) for unit in units)
        return
    waiting = iter(units)
    running: dict[Future[Any], tuple[Any, ...]] = {}
    pool = ThreadPoolExecutor(threads)
    try:
        while True:
            for unit in islice(waiting, UNITS_A_WORKER * threads - len(running)):
                running[pool.submit(_attempt, function, unit)] = unit
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _attempt(function: Callable[..., Any], unit: tuple[Any, ...]) -> Any:
    try:
        return function(*unit)
    except Exception as failure:
        return failure
