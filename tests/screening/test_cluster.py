"""Local workers: seen from this machine only, one thread each, as many as asked for."""

import os
import re

import psutil
import pytest

from plates.errors import SettingsError
from screening.cluster import WORKER_ENVIRONMENT, cluster, worker_count


def test_nothing_listens_beyond_this_machine() -> None:
    here = psutil.Process()
    before = {connection.laddr for connection in here.net_connections("tcp") if connection.status == "LISTEN"}
    with cluster(workers=2) as client:
        assert len(client.nthreads()) == 2
        listening = [
            connection.laddr
            for process in (here, *here.children(recursive=True))
            for connection in process.net_connections("tcp")
            if connection.status == "LISTEN" and connection.laddr not in before
        ]
        assert listening
        assert {address.ip for address in listening} <= {"127.0.0.1", "::1"}


def test_workers_start_with_their_environment() -> None:
    with cluster(workers=2) as client:
        found = client.submit(lambda: dict(os.environ)).result()
    assert WORKER_ENVIRONMENT.items() <= found.items()


def test_one_worker_needs_no_cluster_and_auto_is_one_a_core() -> None:
    with cluster(workers=1) as client:
        assert client is None
    assert worker_count(3) == 3
    assert worker_count("auto") >= 1


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "foo"])
def test_a_scheduler_that_does_not_answer_is_named(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("screening.cluster.SCHEDULER_TIMEOUT", "1s")
    with pytest.raises(SettingsError, match=re.escape(address)), cluster(workers=1, scheduler=address):
        raise AssertionError("no client can be had")
