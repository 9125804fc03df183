"""Results are written by a thread of their own, behind the network, which never waits for a disk that keeps up."""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

# A field's probabilities are small, and so is the map of states that is made of them when it is written.
MOST_WAITING = 16


class WriteBehind:
    """Calls made one after the other, in their order, in a thread beside the caller's.

    After one that failed no further call is made: what stands for finished work is written last, and must not be
    there when the work is not. The failure is raised by the next call, or at the end.

    Attributes
    ----------
    writing_s
        Seconds that the calls took.
    waited_s
        Seconds that the caller waited for them: too many were under way, or it was the end.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="writing")
        self._waiting: deque[Future[None]] = deque()
        self._failed = False
        self.writing_s = 0.0
        self.waited_s = 0.0

    def call(self, function: Callable[..., None], *given: Any) -> None:
        """Have a function called when its turn comes."""
        while self._waiting and (self._waiting[0].done() or len(self._waiting) >= MOST_WAITING):
            self._settle()
        self._waiting.append(self._pool.submit(self._act, function, given))

    def __enter__(self) -> "WriteBehind":
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        try:
            while kind is None and self._waiting:
                self._settle()
        finally:
            self._failed = True  # after an error, what waits is dropped
            self._pool.shutdown(cancel_futures=True)

    def _settle(self) -> None:
        begun = time.perf_counter()
        try:
            self._waiting.popleft().result()
        finally:
            self.waited_s += time.perf_counter() - begun

    def _act(self, function: Callable[..., None], given: tuple[Any, ...]) -> None:
        if self._failed:
            return
        begun = time.perf_counter()
        try:
            function(*given)
        except BaseException:
            self._failed = True
            raise
        finally:
            self.writing_s += time.perf_counter() - begun
