"""One function over many units: in this process, or over a Dask cluster with a bounded number under way."""

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import Any

from .patience import patiently
from .stopping import stop_if_wished

UNITS_A_WORKER = 2  # one is done while the next one waits beside it


def map_units(
    function: Callable[..., Any],
    units: Sequence[tuple[Any, ...]],
    *,
    client: Any = None,
    threads: int = 1,
    places: Sequence[Path] = (),
) -> Generator[tuple[tuple[Any, ...], Any], None, None]:
    """Yield each unit with what the function made of it, as they finish.

    An exception is yielded in the result's place: one unit's failure never stops the others. A unit that failed as
    its storage was away for a moment is tried again, a few times with pauses. At most two
    units a worker are under way, so that a million units cost the scheduler no more than a hundred.

    Parameters
    ----------
    function
        Called with the members of a unit; on a cluster it and they are pickled. A unit may be done twice when
        its worker is lost: doing it again must change nothing.
    client
        A Dask client; None works in this process. Workers may come and go.
    threads
        Units under way at a time in this process; with one, in order.
    places
        Files and folders that every worker must reach; one that does not is given no work.

    Yields
    ------
    unit, outcome
        `WorkerLostError` is the outcome of a unit that ended three workers, and a fourth when it was tried by
        itself after all others; a lack of memory is the usual reason.

    Raises
    ------
    ClusterLostError
        The scheduler is gone, or there was no worker for as long as `tomoscreen.patience` of Dask's
        configuration says, or none can do the work. What was yielded stands.
    KeyboardInterrupt
        A signal asked for the end (`stopping`).
    """
    if client is None:
        yield from _map_here(function, units, threads=threads)
        return
    from .cluster_mapping import map_on_cluster

    yield from map_on_cluster(function, units, client=client, places=places)


def _map_here(
    function: Callable[..., Any], units: Sequence[tuple[Any, ...]], *, threads: int
) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if threads == 1:
        for unit in units:
            stop_if_wished()
            yield unit, _attempt(function, unit)
        return
    waiting = iter(units)
    running: dict[Future[Any], tuple[Any, ...]] = {}
    pool = ThreadPoolExecutor(threads)
    try:
        while True:
            stop_if_wished()
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
        return patiently(function, *unit)
    except Exception as failure:
        return failure
