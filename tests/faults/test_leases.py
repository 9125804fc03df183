"""Two runs on one output: the second is refused with a name; what a dead one left blocks nobody for long."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

import pytest

from plates import lease as leases
from plates.errors import LockedError, StorageError
from plates.lease import Holder, lease_folder, leased, read_holder
from plates.mapping import map_units
from screening.audit import broken_links, read_audit, user
from screening.writing import writing
from tests.hosts import ROOT

# Appends to a file like a journal, a line at a time, for a while; leased or not.
WRITER = """
import sys, time
from contextlib import nullcontext
from pathlib import Path
from plates.errors import TomoscreenError
from plates.lease import leased
out, protected, lines = Path(sys.argv[1]), sys.argv[2] == "leased", int(sys.argv[3])
try:
    with leased(out, command="writer", heartbeat_s=0.2, expiry_s=float(sys.argv[4])) if protected else nullcontext():
        print("ready", flush=True)
        for number in range(lines):
            with out.open("a") as file:
                file.write(f"{sys.argv[5]}\\n")
            time.sleep(0.02)
except TomoscreenError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@contextmanager
def writer(
    out: Path, name: str, *, protected: bool = True, lines: int = 3000, expiry_s: float = 90
) -> Iterator["subprocess.Popen[str]"]:
    """A process that writes into an output; given once it does, or has ended."""
    words = [str(out), "leased" if protected else "bare", str(lines), str(expiry_s), name]
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        process.first = process.stdout.readline()  # type: ignore[attr-defined]
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def elsewhere(holder: Holder, **changes: object) -> Holder:
    """The same process, as it would be on another machine."""
    return replace(holder, host="bio-7", machine="another boot", **changes)  # type: ignore[arg-type]


def put(out: Path, holder: Holder) -> Path:
    """The lease of a holder that may not exist; its file."""
    folder = lease_folder(out)
    folder.mkdir(parents=True)
    file = folder / "lease.json"
    file.write_text(json.dumps(asdict(holder)))
    return file


@pytest.fixture
def me(tmp_path: Path) -> Holder:
    with leased(tmp_path / "any", command="tomoscreen run screen.toml") as (lease,):
        return lease.holder


def test_a_second_process_is_refused_and_told_who_writes_and_what_to_do(tmp_path: Path) -> None:
    out = tmp_path / "P001.zarr"
    with writer(out, "first") as first, pytest.raises(LockedError) as refusal, leased(out, command="second"):
        raise AssertionError("two writers")
    told = str(refusal.value)
    assert refusal.value.exit_code == 6
    assert all(part in told for part in ("`writer`", f"process {first.pid}", os.uname().nodename, "since 20", "Wait"))


def test_without_the_lease_both_write(tmp_path: Path) -> None:
    """What the lease is for: the same two processes, unprotected and protected."""
    found = {}
    for protected in (False, True):
        out = tmp_path / f"{protected}.txt"
        with writer(out, "first", protected=protected, lines=100) as first:
            with writer(out, "second", protected=protected, lines=5) as second:
                second.wait()
            first.wait()
        found[protected] = set(out.read_text().split()), second.returncode
    assert found == {False: ({"first", "second"}, 0), True: ({"first"}, 6)}


def test_a_killed_process_blocks_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = tmp_path / "P001.zarr"
    for _ in range(3):
        with writer(out, "first") as first:
            first.send_signal(signal.SIGKILL)
            first.wait()
            began = time.monotonic()
            with leased(out, command="second") as (lease,):
                assert f"process {first.pid}" in lease.taken_from
            assert time.monotonic() - began < 2
    assert "taken over from `writer`" in caplog.text
    assert not lease_folder(out).exists()


def test_a_number_that_another_process_has_by_now_is_not_taken_for_the_holder(tmp_path: Path, me: Holder) -> None:
    out = tmp_path / "P001.zarr"
    put(out, replace(me, process_started=me.process_started - 100))
    with leased(out, command="second") as (lease,):
        assert "tomoscreen run screen.toml" in lease.taken_from


def test_without_locks_of_the_system_the_process_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on network drives that have none: only the folder and the process's number are left."""
    monkeypatch.setattr(leases, "_lock", lambda file: None)
    out = tmp_path / "P001.zarr"
    with writer(out, "first") as first:
        with pytest.raises(LockedError, match=f"process {first.pid}"), leased(out, command="second"):
            raise AssertionError("two writers")
        first.send_signal(signal.SIGKILL)
        first.wait()
        with leased(out, command="second"):
            pass


def test_a_holder_on_another_machine_that_beats_is_left_alone(tmp_path: Path, me: Holder) -> None:
    """Its clock is a day behind, and that changes nothing."""
    out = tmp_path / "P001.zarr"
    file = put(out, elsewhere(me))
    stop = threading.Event()

    def beat() -> None:
        at = time.time() - 86400
        while not stop.wait(0.1):
            at += 10
            os.utime(file, (at, at))

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        with pytest.raises(LockedError, match=r"on bio-7.*--steal"), leased(out, command="second", expiry_s=5):
            raise AssertionError("two writers")
    finally:
        stop.set()
        beating.join()


def test_a_holder_on_another_machine_that_is_silent_is_taken_over_after_a_while(tmp_path: Path, me: Holder) -> None:
    out = tmp_path / "P001.zarr"
    file = put(out, elsewhere(me))
    future = time.time() + 86400  # an age by clocks would call it fresh
    os.utime(file, (future, future))
    began = time.monotonic()
    with leased(out, command="second", expiry_s=0.5) as (lease,):
        assert time.monotonic() - began >= 0.5
        assert "bio-7" in lease.taken_from
        assert read_holder(out) == lease.holder


def test_steal_does_not_wait_but_never_takes_from_a_living_process_of_this_machine(tmp_path: Path, me: Holder) -> None:
    out = tmp_path / "P001.zarr"
    put(out, elsewhere(me))
    with leased(out, command="second", steal=True) as (lease,):
        assert "bio-7" in lease.taken_from
        with pytest.raises(LockedError), leased(out, command="third", steal=True):
            raise AssertionError("two writers")


def test_whose_place_was_taken_stands_in_the_audit_trail(tmp_path: Path, me: Holder) -> None:
    campaign = tmp_path / "results"
    outs = [campaign / "P001.zarr", campaign / "P002.zarr"]
    for out in outs:
        put(out, elsewhere(me))
    with leased(*outs, command="run", steal=True):  # the lease alone says it to the log
        assert not (campaign / "audit.jsonl").exists()
    for out in outs:
        put(out, elsewhere(me))
    with writing(*outs, command="tomoscreen run screen.toml --steal", steal=True, operator="EM"):
        (line,) = read_audit(campaign)
    assert (line["action"], line["operator"], line["user"]) == ("lease stolen", "EM", user())
    assert datetime.fromisoformat(line["utc"]).tzinfo is not None
    assert line["details"]["outputs"] == ["P001.zarr", "P002.zarr"]
    assert f"process {me.pid} on bio-7" in line["details"]["taken_from"]
    put(outs[0], replace(me, process_started=0.0))  # one of this machine that died
    with writing(outs[0], command="tomoscreen analyse"):
        pass
    assert read_audit(campaign)[-1]["action"] == "lease taken over"
    assert broken_links(campaign) == []
    with writing(outs[0], command="tomoscreen analyse"):
        pass
    assert len(read_audit(campaign)) == 2  # nobody's place was taken


def test_a_folder_without_a_campaign_gets_no_trail(tmp_path: Path, me: Holder) -> None:
    put(tmp_path / "classifiers" / "HeLa", replace(me, process_started=0.0))
    with writing(tmp_path / "classifiers" / "HeLa", command="tomoscreen train"):
        assert not (tmp_path / "classifiers" / "audit.jsonl").exists()


def test_a_lease_without_a_name_is_watched_too(tmp_path: Path) -> None:
    out = tmp_path / "P001.zarr"
    lease_folder(out).mkdir()
    (lease_folder(out) / "lease.json").write_text("{")
    with leased(out, command="second", expiry_s=0.3) as (lease,):
        assert lease.taken_from == "a process that left no name"


def test_a_process_that_ended_while_it_took_over_blocks_nobody_for_long(tmp_path: Path, me: Holder) -> None:
    out = tmp_path / "P001.zarr"
    put(out, replace(me, process_started=0.0))
    (lease_folder(out) / "taking").mkdir()
    with leased(out, command="third", expiry_s=0.3):
        pass


def test_of_many_that_want_a_dead_ones_place_one_gets_it(tmp_path: Path, me: Holder) -> None:
    """Threads stand for hosts: no system's lock helps, nor does a look at processes."""
    out, inside, most, times = tmp_path / "P001.zarr", 0, 0, 0
    guard = threading.Lock()

    def contend() -> None:
        nonlocal inside, most, times
        try:
            with leased(out, command="contender", expiry_s=0.2, heartbeat_s=0.02):
                with guard:
                    inside, times = inside + 1, times + 1
                    most = max(most, inside)
                time.sleep(0.05)
                with guard:
                    inside -= 1
        except LockedError:
            pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leases, "_lock", lambda file: None)
        patch.setattr(leases, "_lives_here", lambda holder: False)
        patch.setattr(leases, "_died_here", lambda holder, folder, lock_is_free: False)
        patch.setattr(leases, "_LOOK_S", 0.01)
        for _ in range(5):
            put(out, elsewhere(me))
            threads = [threading.Thread(target=contend) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            shutil.rmtree(lease_folder(out), ignore_errors=True)
    assert most == 1
    assert times >= 5


def test_a_process_that_was_held_up_ends_when_its_lease_was_taken_over(tmp_path: Path, me: Holder) -> None:
    out = tmp_path / "P001.zarr"
    done = []

    def unit(number: int) -> int:
        time.sleep(0.05)
        return number

    def work() -> None:
        for (number,), _ in map_units(unit, [(number,) for number in range(200)]):
            done.append(number)
            if number == 3:
                shutil.rmtree(lease_folder(out))
                put(out, elsewhere(me))

    with leased(out, command="first", heartbeat_s=0.05), pytest.raises(LockedError, match="taken over"):
        work()
    assert len(done) < 20
    assert read_holder(out) == elsewhere(me)  # and it is not released by who lost it
    list(map_units(unit, [(1,)]))  # the next work knows nothing of it


def test_a_full_disk_stops_no_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with leased(tmp_path / "P001.zarr", command="first", heartbeat_s=0.02) as (lease,):
        stamp = leases._stamp(tmp_path / "P001.zarr")
        full = OSError(28, "No space left on device")
        monkeypatch.setattr(Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(full))
        time.sleep(0.2)
        assert lease.beats > 2
        assert leases._stamp(tmp_path / "P001.zarr") != stamp


def test_all_outputs_are_leased_or_none_and_nothing_is_left(tmp_path: Path) -> None:
    first, second = tmp_path / "results" / "P001.zarr", tmp_path / "results" / "P002.zarr"
    with leased(second, command="one"):
        with pytest.raises(LockedError), leased(first, second, command="two"):
            raise AssertionError("two writers")
        assert not lease_folder(first).exists()
        with leased(first, command="three"):
            pass
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_written_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StorageError, match=r"P001\.zarr cannot be written") as refusal,
        leased(tmp_path / "file" / "P001.zarr", command="one"),
    ):
        raise AssertionError("nothing can be written")
    assert refusal.value.exit_code == 75
