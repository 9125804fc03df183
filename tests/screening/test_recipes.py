"""The recipes of docs/cluster.md, as far as they run without the systems that they are for."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

PAGE = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def stand_in(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


def test_the_slurm_job_starts_workers_and_gives_the_command_their_address(tmp_path: Path) -> None:
    """`srun` is imitated by two processes of this machine, and the command by one that counts who does its units."""
    script = next(block for block in blocks("bash") if "#SBATCH" in block)
    assert "tomoscreen run screen.toml --scheduler" in script
    activate = tmp_path / "tomoscreen" / ".venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.touch()
    commands, root = tmp_path / "commands", Path(__file__).parents[2]
    commands.mkdir()
    ours = Path(sys.executable).parent
    stand_in(commands, "hostname", "echo 127.0.0.1")
    stand_in(
        commands,
        "srun",
        'while [[ $1 == --* ]]; do shift; done\ntrap \'kill $(jobs -p)\' TERM\n"$@" &\n"$@" &\nwait',
    )
    stand_in(
        commands,
        "tomoscreen",
        f"exec {sys.executable} - \"$@\" <<'END'\n"
        "import os, sys, time\n"
        "from plates.mapping import map_units\n"
        "from screening.cluster import cluster\n"
        "def who(number):\n    time.sleep(0.1)\n    return os.getpid()\n"
        "with cluster(workers=1, scheduler=sys.argv[-1]) as client:\n"
        "    client.wait_for_workers(2)\n"
        "    units = [(number,) for number in range(20)]\n"
        "    print('processes', len({outcome for _, outcome in map_units(who, units, client=client)}), sys.argv[1:3])\n"
        "END",
    )
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "PATH": os.pathsep.join([str(commands), str(ours), os.environ["PATH"]]),
        "PYTHONPATH": str(root),
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": "7",
    }
    (tmp_path / "job.sh").write_text(script)
    done = subprocess.run(
        ["bash", "job.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "processes 2 ['run', 'screen.toml']" in done.stdout
    assert not (tmp_path / "scheduler-7.json").exists()


def test_the_parts_of_the_kubernetes_manifest_find_each_other() -> None:
    text = next(block for block in blocks("yaml") if "apiVersion" in block)
    parts: dict[str, dict[str, Any]] = {
        f"{part['kind']}/{part['metadata']['name']}": part for part in yaml.safe_load_all(text)
    }
    assert set(parts) == {
        "Deployment/tomoscreen-scheduler",
        "Service/tomoscreen-scheduler",
        "Deployment/tomoscreen-worker",
        "Job/tomoscreen-run",
    }
    pods = {name: part["spec"]["template"] for name, part in parts.items() if "template" in part["spec"]}
    containers = {name: pod["spec"]["containers"][0] for name, pod in pods.items()}
    for name in ("Deployment/tomoscreen-scheduler", "Deployment/tomoscreen-worker"):
        assert parts[name]["apiVersion"] == "apps/v1"
        assert parts[name]["spec"]["selector"]["matchLabels"] == pods[name]["metadata"]["labels"]
    scheduler, service = containers["Deployment/tomoscreen-scheduler"], parts["Service/tomoscreen-scheduler"]["spec"]
    assert service["type"] == "ClusterIP"  # never a port of the outside
    assert service["selector"] == pods["Deployment/tomoscreen-scheduler"]["metadata"]["labels"]
    port = scheduler["ports"][0]
    assert service["ports"][0]["targetPort"] == port["name"]
    assert scheduler["command"][:4] == ["dask", "scheduler", "--port", str(port["containerPort"])]
    address = f"tcp://tomoscreen-scheduler:{service['ports'][0]['port']}"
    assert containers["Deployment/tomoscreen-worker"]["command"][:3] == ["dask", "worker", address]
    assert containers["Job/tomoscreen-run"]["command"][-2:] == ["--scheduler", address]
    assert len({container["image"] for container in containers.values()}) == 1
    assert pods["Job/tomoscreen-run"]["spec"]["restartPolicy"] == "Never"
    # the same files under the same path
    mounts = [containers[name]["volumeMounts"] for name in ("Deployment/tomoscreen-worker", "Job/tomoscreen-run")]
    volumes = [pods[name]["spec"]["volumes"] for name in ("Deployment/tomoscreen-worker", "Job/tomoscreen-run")]
    assert mounts[0] == mounts[1]
    assert volumes[0] == volumes[1]
    assert all(isinstance(one["value"], str) for container in containers.values() for one in container.get("env", []))


@pytest.mark.parametrize("part", ["scheduler", "worker"])
def test_every_option_of_the_recipes_is_one_that_dask_has(part: str) -> None:
    told = subprocess.run(
        [sys.executable, "-m", f"distributed.cli.dask_{part}", "--help"], capture_output=True, text=True, check=True
    ).stdout
    text = " ".join(blocks("bash") + blocks("yaml")).replace("\\\n", " ")
    commands = re.findall(rf"(?:dask {part}|dask, {part},)([^&\n]*(?:\n +--[^&\n]*)?)", text)
    assert len(commands) >= 2
    options = {option for command in commands for option in re.findall(r"--[a-z][a-z-]*", command)}
    assert len(options) >= 3
    assert [option for option in sorted(options) if option not in told] == []
