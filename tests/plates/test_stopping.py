import os
import signal

import pytest

from plates.mapping import map_units
from plates.stopping import Wish, stop_if_wished, stoppable

UNITS = [(number,) for number in range(5)]


class Interrupted:
    """Python prints and drops what is raised in here."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):  # the handler runs between two steps of the interpreter
            pass


def interrupted_in_a_destructor(number: int) -> int:
    if number == 1:
        Interrupted()
    return number


def work(done: list[int], threads: int = 1) -> None:
    for (number,), _ in map_units(interrupted_in_a_destructor, UNITS, threads=threads):
        done.append(number)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_was_dropped_ends_the_work_at_the_next_unit() -> None:
    done: list[int] = []
    with stoppable() as wish, pytest.raises(KeyboardInterrupt):
        work(done)
    assert done == [0, 1]
    assert wish.signal == signal.SIGINT


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_such_an_interrupt_is_lost_without_the_note() -> None:
    done: list[int] = []
    work(done)
    assert done == [0, 1, 2, 3, 4]


def test_the_wish_to_end_reaches_work_in_threads() -> None:
    done: list[int] = []
    with stoppable() as wish:
        wish.signal = signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            work(done, threads=2)
    assert not done


def test_a_termination_is_told_from_an_interrupt() -> None:
    with stoppable() as wish, pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
    assert wish == Wish(signal.SIGTERM)


def test_every_further_signal_is_raised_again_to_force_an_end() -> None:
    with stoppable():
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_put_back_and_the_next_run_knows_nothing_of_this_one() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stoppable(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    with stoppable() as wish:
        stop_if_wished()
        assert wish == Wish()
