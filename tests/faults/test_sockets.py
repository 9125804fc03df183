"""What a run listens on, by the system's own tables: this machine's addresses alone, and no page without its token."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from tests.faults.small_plate import SmallCampaign, write_small_campaign
from tests.hosts import ROOT

pytestmark = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="the system's tables are Linux's")
LISTENING = "0A"


def listening(pid: int) -> set[tuple[str, int]]:
    """Addresses and ports on which a process and its children listen, from /proc/net/tcp and tcp6."""
    own = psutil.Process(pid)
    inodes = set()
    for process in (own, *own.children(recursive=True)):
        for entry in Path(f"/proc/{process.pid}/fd").iterdir():
            try:
                found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(entry))  # noqa: PTH115
            except OSError:
                continue
            if found:
                inodes.add(found[1])
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and fields[9] in inodes:
                host, port = fields[1].split(":")
                addresses.add((address(host), int(port, 16)))
    return addresses


def address(text: str) -> str:
    """Addresses stand there in words of four bytes, each the wrong way round."""
    words = [bytes.fromhex(text[start : start + 8])[::-1] for start in range(0, len(text), 8)]
    return str(IPv4Address(words[0]) if len(words) == 1 else IPv6Address(b"".join(words)))


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> SmallCampaign:
    return write_small_campaign(tmp_path_factory.mktemp("campaign"), wells=("A01", "A02"), frames=1)


@pytest.fixture(scope="module")
def watching(campaign: SmallCampaign) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A watch with two workers, and the address of its live page."""
    words = [campaign.acquisitions["P001"], "--layout", campaign.layouts["P001"], "--out", campaign.out]
    words += ["--classifier", campaign.classifier, "--workers", 2, "--settle", 0.5]
    process = subprocess.Popen(
        [sys.executable, "-m", "screening", "watch", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        told = ""
        while "http://" not in told:
            told = process.stderr.readline()
            assert told, process.poll()
        yield process, re.findall(r"http://\S+", told)[0]
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_a_watch_with_workers_listens_on_this_machine_alone(watching: tuple["subprocess.Popen[str]", str]) -> None:
    process, page = watching
    found: set[tuple[str, int]] = set()
    deadline = time.monotonic() + 120
    # the page, the scheduler, and of each worker its nanny and itself
    while len(found) < 6 and time.monotonic() < deadline:
        assert process.poll() is None
        found |= listening(process.pid)
        time.sleep(0.2)
    assert urlsplit(page).port in {port for _, port in found}
    assert len(found) >= 6
    assert {host for host, _ in found} <= {"127.0.0.1", "::1"}
    outside = {one.address for all_ in psutil.net_if_addrs().values() for one in all_ if one.family == socket.AF_INET}
    for host in outside - {"127.0.0.1"}:
        for _, port in found:
            with pytest.raises(OSError, match=r"refused|timed out"):
                socket.create_connection((host, port), timeout=2).close()


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [
        ("{token}", None, 200),
        ("{token}", "attacker.example", 403),
        ("{token}", "127.0.0.1.attacker.example", 403),
        ("/", None, 404),
        ("/wrong/", None, 404),
        ("{token}../../etc/passwd", None, 404),
        ("{token}%2e%2e/%2e%2e/etc/passwd", None, 404),
        ("/../../../etc/passwd", None, 404),
    ],
)
def test_the_live_page_answers_its_own_address_alone(
    path: str, host: str | None, status: int, watching: tuple["subprocess.Popen[str]", str]
) -> None:
    where = urlsplit(watching[1])
    connection = http.client.HTTPConnection("127.0.0.1", where.port or 0, timeout=20)
    connection.putrequest("GET", path.format(token=where.path), skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{where.port}")
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status == status
    assert b"root:" not in body


def test_a_watch_that_is_terminated_leaves_within_seconds_and_no_worker_behind(
    watching: tuple["subprocess.Popen[str]", str],
) -> None:
    process = watching[0]
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 3
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert time.monotonic() - began < 10
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
