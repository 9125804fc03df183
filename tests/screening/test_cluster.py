"""Where work is done: local processes that only this machine sees, GPUs shared out, clusters joined by address."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from plates.errors import SettingsError
from plates.mapping import map_units
from plates.workers import ClusterLostError
from screening.cluster import WORKER_ENVIRONMENT, Certificates, cluster, clusters, visible_gpus, worker_count
from tests.hosts import ROOT, certificates, hidden, scheduler_process, worker_process


def where(number: int) -> tuple[str, str]:
    return os.environ.get("CUDA_VISIBLE_DEVICES", "all"), str(Path.cwd())


def check_loopback(before: set[Any]) -> None:
    here = psutil.Process()
    listening = [
        connection.laddr
        for process in (here, *here.children(recursive=True))
        for connection in process.net_connections("tcp")
        if connection.status == "LISTEN" and connection.laddr not in before
    ]
    assert listening
    assert {address.ip for address in listening} <= {"127.0.0.1", "::1"}


def listening_before() -> set[Any]:
    return {one.laddr for one in psutil.Process().net_connections("tcp") if one.status == "LISTEN"}


def test_nothing_listens_beyond_this_machine() -> None:
    before = listening_before()
    with cluster(workers=2) as client:
        assert len(client.nthreads()) == 2
        check_loopback(before)


def test_workers_start_with_their_environment() -> None:
    with cluster(workers=2) as client:
        found = client.submit(lambda: dict(os.environ)).result()
    assert WORKER_ENVIRONMENT.items() <= found.items()


def test_one_worker_needs_no_cluster_and_auto_is_one_a_core() -> None:
    with cluster(workers=1) as client:
        assert client is None
    assert worker_count(3) == 3
    assert worker_count("auto") >= 1


def test_each_gpu_has_a_process_of_its_own_that_sees_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("screening.cluster.visible_gpus", lambda device: ["0", "1"] if device == "cuda" else [])
    before = listening_before()
    with cluster(workers=16, device="cuda") as client:
        threads = client.nthreads()
        assert sorted(client.run(lambda: os.environ["CUDA_VISIBLE_DEVICES"]).values()) == ["0", "1"]
        check_loopback(before)
    assert set(threads.values()) == {1}


def test_one_gpu_needs_no_cluster_however_many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("screening.cluster.visible_gpus", lambda device: ["0"])
    with cluster(workers=16, device="auto") as client:
        assert client is None


def test_processors_of_a_machine_with_gpus_have_work_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("screening.cluster.visible_gpus", lambda device: [] if device == "cpu" else ["0"])
    with clusters(workers=2, device="auto") as (hands, eyes):
        assert len(hands.nthreads()) == 2
        assert eyes is None  # one GPU: in this process
    with clusters(workers=1, device="cpu") as (hands, eyes):
        assert (hands, eyes) == (None, None)
    with clusters(workers=2, device="cpu") as (hands, eyes):
        assert hands is eyes


@pytest.mark.parametrize(
    ("given", "device", "expected"),
    [
        (None, "auto", ["0", "1"]),
        (None, "cuda", ["0", "1"]),
        (None, "cuda:1", ["1"]),
        ("5,GPU-8f3a", "auto", ["5", "GPU-8f3a"]),
        ("5,GPU-8f3a", "cuda:1", ["GPU-8f3a"]),
        ("5,GPU-8f3a", "cpu", []),
        (None, "mps", ["mps"]),
    ],
)
def test_gpus_are_named_as_the_driver_numbers_them(
    given: str | None, device: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert visible_gpus(device) == expected


def test_a_machine_without_gpus_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus("auto") == []


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "foo"])
def test_a_scheduler_that_does_not_answer_is_named(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("screening.cluster.SCHEDULER_TIMEOUT", "1s")
    with pytest.raises(SettingsError, match=re.escape(address)), cluster(workers=1, scheduler=address):
        raise AssertionError("no client can be had")


def test_workers_of_two_hosts_share_the_units(tmp_path: Path) -> None:
    """Hosts are imitated by processes in folders of their own, as nothing else connects them but an address."""
    with (
        scheduler_process(tmp_path / "login") as (address, _),
        worker_process(tmp_path / "one", address),
        worker_process(tmp_path / "two", address),
        cluster(workers=1, scheduler=address) as client,
    ):
        client.wait_for_workers(2)
        outcomes = [outcome for _, outcome in map_units(where, [(number,) for number in range(40)], client=client)]
    assert {folder for _, folder in outcomes} == {str(tmp_path / "one"), str(tmp_path / "two")}


def test_a_worker_that_does_not_see_the_plate_is_named_and_the_others_do_its_work(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plate = tmp_path / "share" / "P001.zarr"
    plate.mkdir(parents=True)
    with (
        scheduler_process(tmp_path / "login") as (address, _),
        worker_process(tmp_path / "one", address),
        worker_process(tmp_path / "two", address, "--name", "blind", before=hidden(plate.parent)),
        cluster(workers=1, scheduler=address) as client,
    ):
        client.wait_for_workers(2)
        blind = next(worker for worker, about in client.scheduler_info()["workers"].items() if about["name"] == "blind")
        units = [(number,) for number in range(12)]
        outcomes = [outcome for _, outcome in map_units(where, units, client=client, places=[plate])]
    assert len(outcomes) == 12
    assert {folder for _, folder in outcomes} == {str(tmp_path / "one")}
    assert f"Worker {blind} on {os.uname().nodename} is of no use: {plate} cannot be reached" in caplog.text


def other_software(folder: Path) -> dict[str, str]:
    """An environment in which another version of tomoscreen is the installed one."""
    info = folder / "tomoscreen-9.9.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tomoscreen\nVersion: 9.9\n")
    return {"PYTHONPATH": str(folder)}


def test_a_worker_with_another_version_is_refused_before_any_work(tmp_path: Path) -> None:
    with (
        scheduler_process(tmp_path / "login") as (address, _),
        worker_process(tmp_path / "one", address, environment=other_software(tmp_path / "other")),
    ):
        from distributed import Client

        with Client(address) as client:
            client.wait_for_workers(1)
        message = r"(?s)nothing was started.*tcp://\S+: tomoscreen is 9\.9 there, \S+ here"
        with pytest.raises(SettingsError, match=message), cluster(workers=1, scheduler=address):
            raise AssertionError("the cluster must be refused")


def test_a_worker_with_another_version_that_comes_later_is_given_no_work(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        scheduler_process(tmp_path / "login") as (address, _),
        worker_process(tmp_path / "one", address),
        cluster(workers=1, scheduler=address) as client,
        worker_process(tmp_path / "two", address, environment=other_software(tmp_path / "other")),
    ):
        client.wait_for_workers(2)
        outcomes = [outcome for _, outcome in map_units(where, [(number,) for number in range(12)], client=client)]
    assert {folder for _, folder in outcomes} == {str(tmp_path / "one")}
    assert "tomoscreen is 9.9 there" in caplog.text


def test_a_worker_with_other_code_of_the_same_version_is_given_no_work(tmp_path: Path) -> None:
    for package in ("plates", "models", "screening"):
        shutil.copytree(ROOT / package, tmp_path / "other" / package, ignore=shutil.ignore_patterns("*.safetensors"))
    with (tmp_path / "other" / "screening" / "units.py").open("a") as file:
        file.write("# a line more\n")
    with (
        scheduler_process(tmp_path / "login") as (address, _),
        cluster(workers=1, scheduler=address) as client,
        worker_process(tmp_path / "one", address, environment={"PYTHONPATH": str(tmp_path / "other")}),
        pytest.raises(
            ClusterLostError, match=r"(?s)No worker can do the work.*tomoscreen's code is \w+ there, \w+ here"
        ),
    ):
        list(map_units(where, [(1,)], client=client))


def test_an_encrypted_cluster_answers_those_with_its_certificates_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("screening.cluster.SCHEDULER_TIMEOUT", "20s")
    ours, theirs = certificates(tmp_path / "ours"), certificates(tmp_path / "theirs")
    options = ["--tls-ca-file", str(ours.authority), "--tls-cert", str(ours.certificate), "--tls-key", str(ours.key)]
    with (
        scheduler_process(tmp_path / "login", "--protocol", "tls", *options) as (address, _),
        worker_process(tmp_path / "one", address, *options),
    ):
        assert address.startswith("tls://")
        with cluster(workers=1, scheduler=address, certificates=ours) as client:
            assert [outcome for _, outcome in map_units(abs, [(-1,), (-2,)], client=client)] in ([1, 2], [2, 1])
        named_in_dask(ours, lambda: reach(address))
        monkeypatch.setattr("screening.cluster.SCHEDULER_TIMEOUT", "2s")
        with pytest.raises(SettingsError, match="No Dask scheduler answers"):
            reach(address, certificates=theirs)
        with pytest.raises(SettingsError, match="no certificates are given"):
            reach(address)
        with pytest.raises(SettingsError, match="which is not encrypted"):
            reach(address.replace("tls://", "tcp://"), certificates=ours)
        with pytest.raises(SettingsError, match="No Dask scheduler answers"):
            reach(address.replace("tls://", "tcp://"))
        gone = Certificates(ours.authority, ours.certificate, tmp_path / "gone.pem")
        with pytest.raises(SettingsError, match=r"gone\.pem cannot be read"):
            reach(address, certificates=gone)


def reach(address: str, **how: Any) -> None:
    with cluster(workers=1, scheduler=address, **how):
        pass


def named_in_dask(files: Certificates, act: Callable[[], None]) -> None:
    import dask

    settings = {
        "distributed.comm.tls.ca-file": str(files.authority),
        "distributed.comm.tls.client.cert": str(files.certificate),
        "distributed.comm.tls.client.key": str(files.key),
    }
    with dask.config.set(settings):
        act()
