"""The lock holds the versions of constraints.txt, pip refuses other hashes, and the lowest bounds are those tested."""

import base64
import csv
import hashlib
import io
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.benchmarks.supply_chain import NVIDIA, holes, pinned, runtime_distributions

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
TESTED_EXTRAS = ("s3", "tiff", "parquet", "export")
ENTRY = re.compile(
    r"(?P<name>[a-z0-9-]+)==(?P<version>[^\s;]+)(?: ; (?P<marker>[^\\\n]+?))?(?P<hashes>(?: --hash=\S+)+)"
)


def entries() -> dict[str, re.Match[str]]:
    """Lines of the lock by package, continued lines made one."""
    lines = LOCK.read_text(encoding="utf-8").replace(" \\\n    ", " ").splitlines()
    found = {}
    for line in lines:
        entry = ENTRY.fullmatch(line)
        assert entry is not None, f"neither a package nor its hashes: {line[:80]}"
        assert entry["name"] not in found, f"{entry['name']} is locked twice"
        found[entry["name"]] = entry
    return found


def test_the_lock_and_the_constraints_name_the_same_versions() -> None:
    known = pinned()
    locked = {name: entry["version"] for name, entry in entries().items()}
    assert locked == {name: known.get(name) for name in locked}, "run: make lock"


def test_all_that_runs_is_locked_in_a_version_that_is_allowed() -> None:
    locked = entries()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [Requirement(text) for text in (*project["project"]["dependencies"], *project["build-system"]["requires"])]
    for requirement in wanted:
        entry = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(Version(entry["version"])), requirement
    # what a machine's torch brings along may differ from one kind of machine to another
    own = {name for name in runtime_distributions() if not NVIDIA.fullmatch(name)}
    assert own <= locked.keys()


def test_every_package_has_whole_hashes_and_no_server_is_named() -> None:
    for name, entry in entries().items():
        for text in entry["hashes"].split():
            assert re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", text), name
    assert "://" not in LOCK.read_text()
    assert LOCK.stat().st_size < 150_000


def test_the_lowest_versions_that_are_tested_are_the_bounds_that_are_promised() -> None:
    lines = (ROOT / "constraints-lowest.txt").read_text().splitlines()
    lowest = dict(line.split("==") for line in lines)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [text for name in TESTED_EXTRAS for text in project["optional-dependencies"][name]]
    for requirement in map(Requirement, [*project["dependencies"], *extras]):
        (bound,) = requirement.specifier
        tested = Version(lowest[canonicalize_name(requirement.name)])
        assert (bound.operator, Version(bound.version)) == (">=", tested), requirement
    assert holes(lowest) == []


def test_pip_takes_a_file_of_the_right_hash_and_refuses_one_changed_byte(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path / "files", name="tiny", version="1.0")
    lock = tmp_path / "lock.txt"
    lock.write_text(f"tiny==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    taken = install(lock, files=wheel.parent, into=tmp_path / "whole")
    assert taken.returncode == 0, taken.stderr
    assert (tmp_path / "whole" / "tiny.py").read_text() == "LOADED = True\n"

    content = bytearray(wheel.read_bytes())
    content[10] ^= 1  # the time of day of the first member: the archive stays readable
    wheel.write_bytes(bytes(content))
    refused = install(lock, files=wheel.parent, into=tmp_path / "changed")
    assert refused.returncode != 0
    assert "DO NOT MATCH THE HASHES" in refused.stderr
    assert not (tmp_path / "changed").exists()

    # off-check: without its hash the same file is taken
    lock.write_text("tiny==1.0\n")
    assert install(lock, files=wheel.parent, into=tmp_path / "unchecked", check=False).returncode == 0


def test_what_is_not_in_the_lock_is_refused(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path / "files", name="tiny", version="1.0", needs="hidden")
    write_wheel(tmp_path / "files", name="hidden", version="1.0")
    lock = tmp_path / "lock.txt"
    lock.write_text(f"tiny==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    refused = install(lock, files=wheel.parent, into=tmp_path / "into")
    assert refused.returncode != 0
    assert "hidden" in refused.stderr


@pytest.mark.parametrize("name", ["toolz", "jinja2"])
def test_a_forged_package_of_a_locked_version_is_refused_by_our_lock(tmp_path: Path, name: str) -> None:
    entry = entries()[name]
    forged = write_wheel(tmp_path / "files", name=name, version=entry["version"])
    lock = tmp_path / "lock.txt"
    lock.write_text(entry[0] + "\n")
    refused = install(lock, files=forged.parent, into=tmp_path / "into")
    assert refused.returncode != 0
    assert "DO NOT MATCH THE HASHES" in refused.stderr


def install(lock: Path, *, files: Path, into: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """What `make install-locked` runs, with a folder in place of a server."""
    command = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "--no-cache-dir", "install"]
    command += ["--no-index", "--find-links", str(files), "--only-binary", ":all:", "--requirement", str(lock)]
    command += ["--target", str(into), *(["--require-hashes"] if check else [])]
    environment = {**os.environ, "PIP_CONFIG_FILE": os.devnull}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def write_wheel(folder: Path, *, name: str, version: str, needs: str = "") -> Path:
    """A package of one module, made by hand so that nothing has to be built."""
    folder.mkdir(exist_ok=True)
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += f"Requires-Dist: {needs}\n" if needs else ""
    about = f"{name}-{version}.dist-info"
    members = {
        f"{name}.py": "LOADED = True\n",
        f"{about}/METADATA": metadata,
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    for path, text in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.writerow([path, f"sha256={digest}", len(text.encode())])
    rows.writerow([f"{about}/RECORD", "", ""])
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in {**members, f"{about}/RECORD": record.getvalue()}.items():
            archive.writestr(path, text)
    return wheel
