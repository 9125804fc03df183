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
    """The first signal that came; None while there is none."""

    signal: int | None = None


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


def stop_if_wished() -> None:
    """Raise the KeyboardInterrupt of a signal that came while nothing could be raised.

    Raises
    ------
    KeyboardInterrupt
        A signal was noted since `stoppable` was entered.
    """
    if _now.signal is not None and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt


def _note(number: int, _: object) -> None:
    _now.signal = _now.signal or number
    raise KeyboardInterrupt
