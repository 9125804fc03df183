"""Many units: each is done once and told once, whatever happens to the workers."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any, cast

import dask
import pytest
from distributed import Client, LocalCluster
from distributed.chaos import KillWorker

from plates.errors import WorkerLostError
from plates.mapping import UNITS_A_WORKER, map_units
from plates.workers import ClusterLostError
from screening.cluster import cluster
from tests.hosts import scheduler_process, worker_process

Unit = tuple[Any, ...]


@contextmanager
def threads(workers: int) -> Iterator[Client]:
    """Workers in threads of this process: quick to start, hard to kill."""
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as there,
        Client(there) as client,
    ):
        yield client


def squared(number: int) -> int:
    return number * number


def outcomes(function: Callable[..., Any], units: list[Unit], **where: Any) -> dict[Any, Any]:
    """Outcome by the unit's first member; no unit may come twice."""
    found: dict[Any, Any] = {}
    for unit, outcome in map_units(function, units, **where):
        assert unit[0] not in found
        found[unit[0]] = outcome
    return found


def uneven(number: int) -> int:
    if number % 3 == 0:
        raise ValueError(f"{number} is a multiple of 3")
    return number


def check_failures(found: dict[Any, Any]) -> None:
    assert {number for number, outcome in found.items() if isinstance(outcome, ValueError)} == set(range(0, 10, 3))
    assert str(found[9]) == "9 is a multiple of 3"
    assert all(found[number] == number for number in range(10) if number % 3)


@pytest.mark.parametrize("count", [1, 3])
def test_a_unit_that_fails_here_stops_no_other(count: int) -> None:
    check_failures(outcomes(uneven, [(number,) for number in range(10)], threads=count))


def test_a_unit_that_fails_on_a_cluster_stops_no_other() -> None:
    with threads(2) as client:
        check_failures(outcomes(uneven, [(number,) for number in range(10)], client=client))


def test_no_units_are_no_work() -> None:
    assert list(map_units(squared, [])) == []
    with threads(1) as client:
        assert list(map_units(squared, [], client=client)) == []


def test_the_number_under_way_follows_the_number_of_workers() -> None:
    handed_out = 0

    def units() -> Iterator[Unit]:
        nonlocal handed_out
        for handed_out in range(1, 400):
            yield (handed_out,)

    def nap(number: int) -> None:
        time.sleep(0.05)

    with threads(1) as client:
        waiting = map_units(nap, cast(Sequence[Unit], units()), client=client)
        few = [handed_out - told for told, _ in enumerate(islice(waiting, 10))]
        client.cluster.scale(4)
        client.wait_for_workers(4)
        many = [handed_out - told for told, _ in enumerate(islice(waiting, 150), start=10)]
        waiting.close()
    assert set(few) == {UNITS_A_WORKER}
    assert max(many) == UNITS_A_WORKER * 4


def test_work_that_nobody_waits_for_any_more_is_taken_back() -> None:
    with threads(1) as client:
        begun = map_units(slow_square, [(number,) for number in range(5)], client=client)
        next(begun)
        begun.close()
        deadline = time.monotonic() + 5
        while client.futures and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not client.futures


def test_tasks_that_vanish_are_submitted_again() -> None:
    with threads(1) as client:
        waiting = map_units(slow_square, [(number,) for number in range(12)], client=client)
        found = [next(waiting)[0]]
        client.cancel(list(client.futures), force=True)
        found += [unit for unit, outcome in waiting if outcome == unit[0] ** 2]
    assert sorted(found) == [(number,) for number in range(12)]


class Unreadable:
    """A result that no other process can take up."""

    def __reduce__(self) -> Any:
        return int, ("not a number",)


def test_a_result_that_never_arrives_is_the_units_failure(tmp_path: Path) -> None:
    with (
        scheduler_process(tmp_path / "scheduler") as (address, _),
        worker_process(tmp_path / "worker", address),
        cluster(workers=1, scheduler=address) as client,
    ):
        units = [(0,), (1,)]
        found = outcomes(lambda number: Unreadable() if number else number, units, client=client)
    assert found[0] == 0
    assert isinstance(found[1], WorkerLostError)
    assert "not a number" in str(found[1])


def logged(number: int, log: str, poison: int) -> int:
    with Path(log).open("a") as file:
        file.write(f"{number}\n")
    time.sleep(0.02)
    if number == poison:
        os._exit(1)
    return number * number


def test_a_unit_that_ends_every_worker_is_given_up_and_its_neighbours_are_not(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with cluster(workers=2) as client:
        found = outcomes(logged, [(number, str(log), 5) for number in range(30)], client=client)
    lost = found.pop(5)
    assert isinstance(lost, WorkerLostError)
    assert "ended 4 workers" in str(lost)
    assert found == {number: number * number for number in range(30) if number != 5}
    tried = log.read_text().split()
    # three times among the others, and once by itself; a neighbour that was suspected may come after it
    assert tried.count("5") == 4


def hungry(number: int, folder: str) -> int:
    """Units 0 and 1 end their worker while another unit is under way, as a lack of memory would."""
    mark = Path(folder) / f"{os.getpid()}-{number}"
    mark.touch()
    try:
        time.sleep(0.3)
        if number < 2 and len(list(Path(folder).iterdir())) > 1:
            mark.unlink()
            os._exit(1)
    finally:
        mark.unlink(missing_ok=True)
    return number


def test_units_that_need_the_machine_to_themselves_get_it_in_the_end(tmp_path: Path) -> None:
    with cluster(workers=2) as client:
        found = outcomes(hungry, [(number, str(tmp_path)) for number in range(16)], client=client)
    assert found == {number: number for number in range(16)}


def slow_square(number: int) -> int:
    time.sleep(0.05)
    return number * number


def test_workers_that_die_at_random_change_no_result() -> None:
    """Units are handed out until five processes have worked, of which two at most are alive."""
    found: dict[int, int] = {}
    processes: set[int] = set()

    def units() -> Iterator[Unit]:
        for number in range(5000):
            if number >= 60 and len(processes) >= 5:
                return
            yield (number,)

    def square_and_process(number: int) -> tuple[int, int]:
        # inside, so that it travels by value: a new process need not load this module, which may outlast it
        time.sleep(0.05)
        return number * number, os.getpid()

    with cluster(workers=2) as client:
        client.register_plugin(KillWorker(delay="3 s", mode="segfault"))
        for (number,), outcome in map_units(square_and_process, cast(Sequence[Unit], units()), client=client):
            assert number not in found
            found[number], process = outcome
            processes.add(process)
    assert len(processes) >= 5
    assert found == {number: number * number for number in range(len(found))}


def unhurried(number: int) -> int:
    time.sleep(0.5)
    return number


def test_a_while_without_workers_is_waited_for_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with scheduler_process(tmp_path / "scheduler") as (address, _), cluster(workers=1, scheduler=address) as client:
        found: dict[Any, Any] = {}
        thread = Thread(target=lambda: found.update(outcomes(unhurried, [(n,) for n in range(5)], client=client)))
        with caplog.at_level(logging.WARNING, "tomoscreen"):
            thread.start()
            time.sleep(2.5)
            assert not found
            with worker_process(tmp_path / "worker", address):
                thread.join(60)
    assert found == {number: number for number in range(5)}
    assert f"No worker is connected to {address}. Waiting up to 30 minutes" in caplog.text
    assert "Workers are back: 1" in caplog.text


def test_too_long_without_workers_ends_the_run_with_what_to_do(tmp_path: Path) -> None:
    with (
        dask.config.set({"tomoscreen.patience": "1 s"}),
        scheduler_process(tmp_path) as (address, _),
        cluster(workers=1, scheduler=address) as client,
        pytest.raises(ClusterLostError, match=r"(?s)No worker was connected .* for 1 s\. .*run the same command"),
    ):
        outcomes(squared, [(1,)], client=client)


def test_a_scheduler_that_dies_ends_the_run_and_what_was_told_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("screening.cluster.SCHEDULER_TIMEOUT", "2s")
    found: dict[int, Any] = {}
    with (
        scheduler_process(tmp_path / "scheduler") as (address, process),
        cluster(workers=1, scheduler=address) as client,
        worker_process(tmp_path / "worker", address),
    ):
        waiting = map_units(slow_square, [(number,) for number in range(1000)], client=client)
        for (number,), outcome in islice(waiting, 10):
            found[number] = outcome
        process.kill()
        with pytest.raises(ClusterLostError, match=f"{address} was lost. What is finished is kept"):
            found.update((number, outcome) for (number,), outcome in waiting)
    assert 10 <= len(found) < 1000
    assert all(outcome == number * number for number, outcome in found.items())


def test_a_scheduler_that_comes_back_is_worked_with_again(tmp_path: Path) -> None:
    found: dict[int, Any] = {}
    with scheduler_process(tmp_path / "first") as (address, process):
        port = address.rsplit(":", 1)[1]
        with cluster(workers=1, scheduler=address) as client, worker_process(tmp_path / "one", address):
            waiting = map_units(slow_square, [(number,) for number in range(60)], client=client)
            found |= {number: outcome for (number,), outcome in islice(waiting, 10)}
            process.kill()
            process.wait()
            with (
                scheduler_process(tmp_path / "second", "--port", port) as (again, _),
                worker_process(tmp_path / "two", again),
            ):
                assert again == address
                for (number,), outcome in waiting:
                    assert number not in found
                    found[number] = outcome
    assert found == {number: number * number for number in range(60)}


def test_a_place_that_no_worker_reaches_is_named_with_the_worker(tmp_path: Path) -> None:
    missing = tmp_path / "P001.zarr"
    with (
        threads(1) as client,
        pytest.raises(ClusterLostError, match=f"(?s)No worker can do the work.*{missing} cannot be reached"),
    ):
        outcomes(squared, [(1,)], client=client, places=[missing])
