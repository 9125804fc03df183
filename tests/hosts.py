"""Schedulers and workers as their owners start them: processes of their own, each in a folder of its own."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from screening.cluster import Certificates

ROOT = Path(__file__).parents[1]
PATIENCE_S = 60


@contextmanager
def scheduler_process(folder: Path, *options: str) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A scheduler on this machine; its address and its process."""
    file = folder / "scheduler.json"
    command = ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    command += ["--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(file), *options]
    with _process(folder, command) as process:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                yield json.loads(file.read_text())["address"], process
                return
            except (FileNotFoundError, json.JSONDecodeError):
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.05)
        raise AssertionError((folder / "log").read_text())


@contextmanager
def worker_process(
    folder: Path,
    address: str,
    *options: str,
    environment: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker of one thread that joins a scheduler; `before` is a command that starts it, such as nice."""
    command = ["distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard", "--no-nanny", *options]
    with _process(folder, command, environment=environment, before=before) as process:
        yield process


@contextmanager
def _process(
    folder: Path, command: Sequence[str], *, environment: Mapping[str, str] | None = None, before: Sequence[str] = ()
) -> Iterator["subprocess.Popen[bytes]"]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = os.pathsep.join([*(environment or {}).get("PYTHONPATH", "").split(os.pathsep), str(ROOT)]).strip(os.pathsep)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*before, sys.executable, "-m", *command],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {}), "PYTHONPATH": paths},
            stdout=log,
            stderr=log,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def hidden(folder: Path) -> list[str]:
    """A command that starts another one in which a folder is empty, as where a network drive is not mounted."""
    command = [
        "unshare",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        'mount -t tmpfs none "$0" && exec "$@"',
        str(folder),
    ]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("this system lets no process have mounts of its own")
    return command


def certificates(folder: Path) -> Certificates:
    """An authority of an hour, and one certificate that it signed for 127.0.0.1."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes the certificates, is not installed")
    folder.mkdir(parents=True)

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)

    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    run("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", "1", "-subj", "/CN=test authority")
    run("req", *curve, "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=127.0.0.1")
    sign = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1"]
    run("x509", "-req", "-in", "request.pem", *sign, "-out", "certificate.pem")
    return Certificates(folder / "ca.pem", folder / "certificate.pem", folder / "key.pem")
