"""Ctrl-C and SIGTERM: gone within seconds, with nothing half done and no process left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from models.datasets import Patches
from models.recipes import Recipe
from models.training import fit
from tests.hosts import ROOT
from tests.models.made_patches import make_patches

SOON_S = 10.0

# As the command line does it: units of a minute that no interrupt reaches, on two workers or in this process.
LONG = """
import sys, time
print("begun", flush=True)
from plates.mapping import map_units
from plates.stopping import stoppable
from screening.cluster import cluster

def unit(number):
    try:
        time.sleep(60)
    finally:
        print("cleaning", flush=True)
        time.sleep(60)

with stoppable() as wish:
    try:
        with cluster(workers=2 if sys.argv[1] == "workers" else 1) as client:
            if client is not None:
                client.wait_for_workers(2)
            print("working", flush=True)
            for _ in map_units(unit, [(number,) for number in range(20)], client=client):
                pass
    except KeyboardInterrupt:
        sys.exit(128 + wish.signal)
"""

TRAINING = """
import sys
from pathlib import Path
from models.recipes import Recipe
from models.training import fit
from plates.stopping import stoppable
from tests.faults.test_signals import RECIPE, patches

def told(epoch):
    print(epoch.epoch, flush=True)

with stoppable() as wish:
    try:
        fit(patches(), out=Path(sys.argv[1]), recipe=RECIPE, device="cpu", progress=told)
    except KeyboardInterrupt:
        sys.exit(128 + wish.signal)
"""

RECIPE = Recipe(architecture="resnet18", patch_px=32, epochs=4, batch=16, small_share=0.0)


def patches() -> Patches:
    return make_patches(30, px=32, seed=1, splits=("train", "train", "validation"))


@contextmanager
def program(text: str, *words: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", text, *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for one in family(process):
            one.kill()
        process.communicate()


def family(process: "subprocess.Popen[str]") -> list[Any]:
    """The processes of a program, its own included."""
    try:
        own = psutil.Process(process.pid)
        return [own, *own.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def left(processes: list[Any], *, within_s: float = 5.0) -> list[Any]:
    """Those that are still alive after a while."""
    deadline = time.monotonic() + within_s
    while alive := [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return alive


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_workers_with_long_units_are_gone_within_seconds(how: str) -> None:
    with program(LONG, "workers") as process:
        assert line(process) == "begun"
        assert line(process) == "working"
        time.sleep(1)  # the units are under way
        everyone = family(process)
        assert len(everyone) >= 3
        began = time.monotonic()
        if how == "Ctrl-C":  # a terminal sends it to all
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGTERM)
        assert process.wait(60) == (130 if how == "Ctrl-C" else 143)
        assert time.monotonic() - began < SOON_S
        assert left(everyone) == []


def test_a_killed_run_leaves_no_workers() -> None:
    with program(LONG, "workers") as process:
        assert [line(process), line(process)] == ["begun", "working"]
        everyone = family(process)
        process.kill()
        process.wait()
        assert left(everyone) == []


def test_a_signal_while_workers_start_is_not_lost_and_leaves_none() -> None:
    with program(LONG, "workers") as process:
        assert line(process) == "begun"
        while len(family(process)) < 2 and process.poll() is None:
            time.sleep(0.02)
        began = time.monotonic()
        everyone: list[Any] = []
        process.send_signal(signal.SIGINT)
        while process.poll() is None and time.monotonic() - began < 60:
            everyone += family(process)
            time.sleep(0.05)
        assert process.returncode in (130, -signal.SIGINT)  # the latter before anybody listens
        assert time.monotonic() - began < SOON_S
        assert left(everyone) == []


def test_a_second_signal_ends_what_the_first_one_left_to_clean() -> None:
    with program(LONG, "here") as process:
        assert [line(process), line(process)] == ["begun", "working"]
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert line(process) == "cleaning"
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(SOON_S) == 130  # the first says what it was


def test_a_training_that_was_terminated_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    calm = fit(patches(), out=tmp_path / "calm", recipe=RECIPE, device="cpu")
    with program(TRAINING, str(tmp_path / "stopped")) as process:
        while line(process) != "1":
            assert process.poll() is None
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
        assert time.monotonic() - began < SOON_S
    assert not (tmp_path / "stopped").exists()
    epochs: list[int] = []
    again = fit(
        patches(), out=tmp_path / "stopped", recipe=RECIPE, device="cpu", progress=lambda one: epochs.append(one.epoch)
    )
    assert epochs
    assert 2 <= epochs[0] < RECIPE.epochs
    assert again.card.weights_sha256 == calm.card.weights_sha256
