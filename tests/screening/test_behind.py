import threading
import time

import pytest

from screening.behind import MOST_WAITING, WriteBehind


def test_calls_are_made_in_their_order_beside_the_caller() -> None:
    made: list[tuple[int, int]] = []

    def note(number: int) -> None:
        made.append((number, threading.get_ident()))

    with WriteBehind() as writer:
        for number in range(100):
            writer.call(note, number)
    assert [number for number, _ in made] == list(range(100))
    assert threading.get_ident() not in {thread for _, thread in made}


def test_the_caller_waits_for_a_slow_disk_and_knows_how_long() -> None:
    with WriteBehind() as writer:
        for _ in range(MOST_WAITING + 3):
            writer.call(time.sleep, 0.01)
        assert writer.writing_s > 0
    assert writer.waited_s >= 0.1
    assert writer.writing_s >= 0.01 * (MOST_WAITING + 3)


def test_nothing_is_written_after_a_failure_and_the_caller_learns_of_it() -> None:
    made: list[str] = []

    def fail() -> None:
        raise OSError("the disk is full")

    def write() -> None:
        with WriteBehind() as writer:
            writer.call(made.append, "map")
            writer.call(fail)
            writer.call(made.append, "record")

    with pytest.raises(OSError, match="full"):
        write()
    assert made == ["map"]


def test_what_waits_is_dropped_when_the_caller_fails() -> None:
    made: list[int] = []

    def work() -> None:
        with WriteBehind() as writer:
            writer.call(time.sleep, 0.05)
            for number in range(5):
                writer.call(made.append, number)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert made == []
