"""Devices that are absent, too small or lost: told, never silently replaced, and what was finished is kept."""

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from models.classifier import resolve_device
from models.devices import device_fault
from models.engine import Engine
from plates.errors import DeviceError, DeviceMemoryError
from plates.ingest.convert import ingest
from plates.layout import read_plate_map
from screening.classify import classify_plate
from screening.run_record import read_run, recorded_command
from tests.faults.small_plate import SmallCampaign, write_small_campaign
from tests.screening.test_cli import called

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> SmallCampaign:
    return write_small_campaign(tmp_path_factory.mktemp("campaign"), wells=("A01", "A02"), frames=2)


@pytest.fixture(scope="module")
def converted(campaign: SmallCampaign, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("converted") / "P001.zarr"
    ingest(campaign.acquisitions["P001"], out=out, plate_map=read_plate_map(campaign.layouts["P001"]))
    return out


@pytest.fixture
def plate(converted: Path, tmp_path: Path) -> Path:
    shutil.copytree(converted.parent, tmp_path / "results")
    return tmp_path / "results" / converted.name


@needs_no_gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps"])
def test_a_device_that_is_absent_ends_a_run_before_it_begins(
    device: str, campaign: SmallCampaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    settings = tmp_path / "screen.toml"
    text = campaign.settings.read_text().replace('device = "cpu"', f'device = "{device}"')
    text = text.replace('"P001"\nlayout = "', f'"{campaign.folder}/P001"\nlayout = "{campaign.folder}/')
    settings.write_text(text.replace(campaign.out.as_posix(), (tmp_path / "out").as_posix()))
    code, _, said = called(monkeypatch, capsys, "run", settings)
    assert code == 3, said
    assert f"no device '{device}'" in said
    assert not (tmp_path / "out").exists()


@needs_no_gpu
def test_a_gpu_that_cannot_be_used_is_not_passed_over_in_silence(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    exists = Path.exists
    with caplog.at_level(logging.WARNING, "tomoscreen"):
        assert resolve_device("auto").type in ("cpu", "mps")
        assert not caplog.text
        monkeypatch.setattr(Path, "exists", lambda path: str(path) == "/dev/nvidiactl" or exists(path))
        monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
        assert resolve_device("auto").type == "cpu"
    assert "GPU that PyTorch cannot use" in caplog.text


def test_what_was_computed_on_is_recorded(campaign: SmallCampaign, plate: Path) -> None:
    summary = classify_plate(plate, classifier=campaign.classifier, batch=2, device="auto")
    assert summary.devices == {str(resolve_device("auto"))}
    assert f"on {resolve_device('auto')}" in "\n".join(summary.lines())
    assert summary.as_dict()["devices"] == sorted(summary.devices)


def test_a_batch_that_memory_did_not_hold_is_recorded_with_its_size(
    campaign: SmallCampaign, plate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Engine.__call__

    def holds_one(engine: Engine, windows: torch.Tensor) -> torch.Tensor:
        if len(windows) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB.")
        return real(engine, windows)

    def classify(batch: int) -> tuple[list[str], dict[str, Any]]:
        with recorded_command(plate, command="tomoscreen classify P001.zarr", device="cpu"):
            summary = classify_plate(plate, classifier=campaign.classifier, batch=batch, device="cpu")
        return summary.lines(), read_run(plate.parent)["units"]["P001"]

    lines, units = classify(batch=2)
    assert "batches_halved_to" not in units
    assert units["devices"] == ["cpu"]
    assert "did not hold" not in "\n".join(lines)
    monkeypatch.setattr(Engine, "__call__", holds_one)
    lines, units = classify(batch=4)
    assert units["batches_halved_to"] == 1
    assert "  the device's memory did not hold the batches asked for: some were cut down to 1" in lines


def failing_from(batch: int, error: Exception) -> Any:
    """An engine that fails from its n-th batch on."""
    real, count = Engine.__call__, 0

    def call(engine: Engine, windows: torch.Tensor) -> torch.Tensor:
        nonlocal count
        count += 1
        if count > batch:
            raise error
        return real(engine, windows)

    return call


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB."), 104, "a single patch"),
        (RuntimeError("CUDA error: unspecified launch failure\nmore"), 3, "stopped working"),
    ],
)
def test_a_device_that_fails_ends_a_run_with_its_own_code_and_the_next_one_goes_on(
    error: Exception,
    code: int,
    words: str,
    campaign: SmallCampaign,
    plate: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    monkeypatch.setattr("screening.classify.FRAMES_PER_TASK", (1, 1))
    command = ("classify", plate, "--classifier", campaign.classifier, "--workers", 1, "--device", "cpu")
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "__call__", failing_from(1, error))
        left, _, said = called(monkeypatch, capsys, *command)
    assert left == code, said
    assert words in said
    assert "What was finished is kept" in said
    assert "Traceback" not in said
    left, out, _ = called(monkeypatch, capsys, *command)
    assert left == 0
    assert "2 fields and timepoints classified" in out  # the other well was done before


def test_only_faults_of_devices_are_taken_for_them() -> None:
    assert isinstance(device_fault(RuntimeError("CUDA error: out of memory")), DeviceMemoryError)
    assert isinstance(device_fault(RuntimeError("MPS backend out of memory")), DeviceMemoryError)
    fault = device_fault(RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"))
    assert type(fault) is DeviceError
    assert device_fault(RuntimeError("shape '[2]' is invalid for input of size 3")) is None
    assert device_fault(ValueError("CUDA error: x")) is None
