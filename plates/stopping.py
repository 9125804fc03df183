"""A wish to end, by Ctrl-C or SIGTERM: it ends the work at hand, and is not lost when it comes at a bad moment.

Python drops an exception that is raised while it collects garbage, and with it the interrupt that raised it. So
the wish is also noted, and asked for between units of work.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Wish:
    """The first signal that came; None while there is none. `why` is an error that a thread found meanwhile."""

    signal: int | None = None
    why: Exception | None = None


_now = Wish()  # signals belong to the process, and so does what is known of them


@contextmanager
def stoppable() -> Iterator[Wish]:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt in the main thread meanwhile, and note which one came.

    Each further signal raises it again, which forces an end while the first one is being cleaned up after.
    """
    global _now
    if threading.current_thread() is not threading.main_thread():
        yield Wish()  # signals can be handled in the main thread alone
        return
    outer, _now = _now, Wish()
    before = {number: signal.signal(number, _note) for number in SIGNALS}
    try:
        yield _now
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _now = outer


@contextmanager
def starting_processes() -> Iterator[None]:
    """Let signals wait until processes have started; these ignore Ctrl-C from then on.

    A terminal sends Ctrl-C to all processes, but only one is to answer it. An interrupt in the midst of starting
    would leave processes that nobody knows.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # what is blocked stays blocked in processes that start meanwhile, and here comes when it is no longer
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    terminate = signal.getsignal(signal.SIGTERM)
    if terminate is _note:  # not blocked: processes that are started must be able to be ended
        signal.signal(signal.SIGTERM, _note_only)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, terminate)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    stop_if_wished()


def stop_if_wished() -> None:
    """Raise what came while nothing could be raised; called between units of work.

    Raises
    ------
    KeyboardInterrupt
        A signal was noted since `stoppable` was entered.
    Exception
        What `end_with` was given.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if _now.signal is not None:
        raise KeyboardInterrupt
    if _now.why is not None:
        why, _now.why = _now.why, None
        raise why


def end_with(error: Exception) -> None:
    """Let the work end with an error at its next unit; for threads that look after something beside it."""
    _now.why = _now.why or error


def _note_only(number: int, _: object) -> None:
    _now.signal = _now.signal or number


def _note(number: int, _: object) -> None:
    _now.signal = _now.signal or number
    raise KeyboardInterrupt
