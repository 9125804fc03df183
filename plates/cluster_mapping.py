"""Units over a Dask cluster whose workers come and go: each is done, or it is known why not."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from .errors import WorkerLostError
from .mapping import UNITS_A_WORKER
from .stopping import stop_if_wished
from .workers import ClusterLostError, UnfitWorkerError, do_unit, terms

TRIES = 3
LOSSES = 10
POLL_S = 1.0
PATIENCE = "30 minutes"

log = logging.getLogger("tomoscreen")


@dataclass(eq=False)
class _Attempt:
    """A unit on its way: workers that ended with it, answers that were lost, whether it is tried by itself."""

    unit: tuple[Any, ...]
    tries: int = 0
    losses: int = 0
    alone: bool = False


def map_on_cluster(
    function: Callable[..., Any], units: Sequence[tuple[Any, ...]], *, client: Any, places: Sequence[Path]
) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield each unit with its outcome, as they finish; see `mapping.map_units`.

    A unit whose task was lost is submitted again. A unit beside which three workers ended is set aside: it may be
    the cause, or have been their neighbour. When all others are done each of these is tried once more with the
    cluster to itself, which shows the innocent, and leaves one that wants much memory all of it.
    """
    from distributed import KilledWorker
    from distributed.client import ClosedClientError
    from distributed.protocol.pickle import dumps
    from distributed.scheduler import NoValidWorkerError

    agreed, crew = terms(places), _Crew(client)
    waiting = iter(units)
    again: deque[_Attempt] = deque()
    suspects: deque[_Attempt] = deque()
    running: dict[Any, _Attempt] = {}
    finished: SimpleQueue[Any] = SimpleQueue()

    def next_attempt() -> _Attempt | None:
        if again:
            return again.popleft()
        unit = next(waiting, None)
        if unit is not None:
            return _Attempt(unit)
        return suspects.popleft() if suspects and not running else None

    def submit(attempt: _Attempt) -> None:
        # packed: a worker with other software must be able to say so before it unpacks what it cannot know
        future = client.submit(do_unit, dumps((function, attempt.unit)), agreed, pure=False)
        running[future] = attempt
        client.loop.add_callback(_fetch, future, finished)

    try:
        while True:
            stop_if_wished()
            room = max(0, UNITS_A_WORKER * max(1, crew.threads()) - len(running))
            for attempt in islice(iter(next_attempt, None), room):
                submit(attempt)
            if not running:
                return
            try:
                future, outcome = finished.get(timeout=POLL_S)
            except Empty:
                continue
            attempt = running.pop(future)
            future.release()
            if isinstance(outcome, KilledWorker):
                attempt.tries += outcome.allowed_failures + 1
                if attempt.alone:
                    yield attempt.unit, _given_up(attempt, outcome)
                elif attempt.tries < TRIES:
                    again.append(attempt)
                else:
                    attempt.alone = True
                    suspects.append(attempt)
            elif isinstance(outcome, UnfitWorkerError):
                crew.note_unfit(*outcome.args)
                again.append(attempt)
            elif isinstance(outcome, (_TaskLostError, NoValidWorkerError)):
                attempt.losses += 1
                if attempt.losses < LOSSES:
                    again.append(attempt)
                else:
                    lost = WorkerLostError(f"its task or result was lost {attempt.losses} times, lastly: {outcome}")
                    yield attempt.unit, lost
            else:
                yield attempt.unit, outcome
    except ClosedClientError as error:
        raise crew.lost() from error
    finally:
        for future in running:
            future.release()


async def _fetch(future: Any, finished: SimpleQueue[Any]) -> None:
    """Put a task with its outcome into the queue; runs in the client's own thread, so that no other task waits.

    A result lies on its worker until it is fetched. If the worker is gone by then, Dask does the task again.
    """
    try:
        outcome = await future
    except Exception as error:
        outcome = error if future.status == "error" else _TaskLostError(str(error))
    finished.put((future, outcome))


class _TaskLostError(Exception):
    """A task was not done, or its result did not arrive, for no fault of its own."""


def _given_up(attempt: _Attempt, killed: Any) -> WorkerLostError:
    return WorkerLostError(
        f"it ended {attempt.tries} workers, the last one ({killed.last_worker.address}) with nothing else under "
        "way, probably for want of memory."
    )


class _Crew:
    """The workers of a cluster, looked at now and then."""

    def __init__(self, client: Any) -> None:
        import dask
        from dask.utils import parse_timedelta

        self._client = client
        self._address = getattr(client.scheduler, "address", "")
        self._patience: str = dask.config.get("tomoscreen.patience", PATIENCE)
        self._patience_s: float = parse_timedelta(self._patience)
        self._workers: dict[str, int] = {}
        self._unfit: dict[str, str] = {}
        self._looked = -POLL_S
        self._seen = time.monotonic()
        self._missed = False

    def threads(self) -> int:
        """Threads of all workers, some moments ago; 0 while there is no worker.

        Raises
        ------
        ClusterLostError
            The scheduler is gone, or no worker was seen for too long.
        """
        now = time.monotonic()
        if now - self._looked >= POLL_S:
            self._look()
            # answers may take long while a scheduler is busy
            self._looked = now = time.monotonic()
            if self._workers:
                self._seen = now
                if self._missed:
                    log.warning("Workers are back: %d.", len(self._workers))
                self._missed = False
            elif not self._missed:
                self._missed = True
                log.warning("No worker is connected to %s. Waiting up to %s for one.", self._address, self._patience)
            elif now - self._seen > self._patience_s:
                raise ClusterLostError(
                    f"No worker was connected to the Dask scheduler {self._address} for {self._patience}. What is "
                    "finished is kept. Start workers, then run the same command to go on."
                )
        return sum(self._workers.values())

    def note_unfit(self, address: str, host: str, lacks: str) -> None:
        """A worker handed a unit back; it is told once, and an error when there is no other worker."""
        if address not in self._unfit:
            log.warning("Worker %s on %s is of no use: %s.", address, host, lacks)
        self._unfit[address] = f"{address} on {host}: {lacks}"
        self._look()
        if self._workers and self._unfit.keys() >= self._workers.keys():
            reasons = [self._unfit[worker] for worker in self._workers]
            more = f"\n  and {len(reasons) - 5} more" if len(reasons) > 5 else ""
            raise ClusterLostError(
                "No worker can do the work:\n  " + "\n  ".join(reasons[:5]) + more + "\nAll machines need the same "
                "software, and the same files under the same paths. Mend that, then run the same command again."
            )

    def lost(self) -> ClusterLostError:
        """The scheduler has gone for good."""
        return ClusterLostError(
            f"The Dask scheduler {self._address} was lost. What is finished is kept. Start a scheduler and workers, "
            "then run the same command to go on."
        )

    def _look(self) -> None:
        if self._client.status == "connecting":
            return  # the client tries for a while to find its scheduler again, and closes if it does not
        try:
            self._workers = self._client.nthreads()
            ours = self._client.cluster
            if ours is not None and len(self._workers) < len(ours.worker_spec):
                # a local process that died while it started is not started again by Dask itself
                ours.scale(len(ours.worker_spec))
        except Exception as error:  # of many kinds, depending on what was cut off where
            if self._client.status not in ("running", "connecting"):
                raise self.lost() from error
