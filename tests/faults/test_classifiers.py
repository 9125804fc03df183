"""Classifier files that carry code, are altered or do not fit (row 20), and plates unlike the training (row 44)."""

import json
import pickle
import shutil
import struct
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.version import Version

from models.classifier import load_classifier
from models.outliers import judge_outliers
from models.pretrained import starting_tensors
from models.verification import verify_classifier
from plates.errors import ClassifierError
from tests.faults.small_plate import write_untrained_classifier

NAMES = ("weights.pt", "weights.pth", "model.pkl", "weights.bin", "weights.ckpt")


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.write_text, (self.canary, "executed"))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_untrained_classifier(tmp_path_factory.mktemp("good") / "classifier")


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "classifier"))


def as_torch_file(canary: Path) -> bytes:
    """A pickle with code, in the zip file that torch.save makes."""
    path = canary.with_name("made.pt")
    torch.save({"layer": Payload(canary)}, path)
    data = path.read_bytes()
    path.unlink()
    return data


@pytest.mark.parametrize("kind", ["pickle", "torch"])
@pytest.mark.parametrize("name", NAMES)
def test_a_pickle_in_place_of_the_weights_is_refused_and_not_run(
    folder: Path, tmp_path: Path, name: str, kind: str
) -> None:
    canary = tmp_path / "canary"
    data = pickle.dumps(Payload(canary)) if kind == "pickle" else as_torch_file(canary)
    (folder / "weights.safetensors").unlink()
    (folder / name).write_bytes(data)
    with pytest.raises(ClassifierError) as caught:
        load_classifier(folder)
    assert caught.value.exit_code == 7
    assert not all(check.ok for check in verify_classifier(folder))
    assert not canary.exists()


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_pickle_under_the_name_of_the_weights_is_refused_and_not_run(folder: Path, tmp_path: Path, kind: str) -> None:
    from hashlib import sha256

    canary = tmp_path / "canary"
    data = pickle.dumps(Payload(canary)) if kind == "pickle" else as_torch_file(canary)
    (folder / "weights.safetensors").write_bytes(data)
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, "weights_sha256": sha256(data).hexdigest()}))
    with pytest.raises(ClassifierError) as caught:
        load_classifier(folder)
    assert caught.value.exit_code == 7
    assert not canary.exists()


@pytest.mark.parametrize("name", ["resnet.pth", "resnet.pt"])
def test_foreign_weights_to_start_from_are_read_as_numbers_only(tmp_path: Path, name: str) -> None:
    canary = tmp_path / "canary"
    (tmp_path / name).write_bytes(as_torch_file(canary))
    with pytest.raises(ClassifierError, match=r"cannot be read"):
        starting_tensors(tmp_path / name, architecture="resnet18")
    assert not canary.exists()


def test_off_check_the_same_files_run_their_code_when_they_are_unpickled(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    pickle.loads(pickle.dumps(Payload(canary)))
    assert canary.read_text() == "executed"
    canary.unlink()
    (tmp_path / "a.pt").write_bytes(as_torch_file(canary))
    torch.load(tmp_path / "a.pt", weights_only=False)
    assert canary.read_text() == "executed"


def test_torch_is_new_enough_for_weights_only_to_be_safe() -> None:
    """CVE-2026-24747: before 2.10 even a file read with weights_only=True could corrupt memory."""
    assert Version(version("torch")) >= Version("2.10")


def test_one_altered_bit_or_other_weights_are_refused(folder: Path) -> None:
    weights = folder / "weights.safetensors"
    whole = weights.read_bytes()
    altered = bytearray(whole)
    altered[-1] ^= 1
    weights.write_bytes(altered)
    with pytest.raises(ClassifierError, match="was altered or not copied whole"):
        load_classifier(folder)
    weights.write_bytes(whole)
    assert load_classifier(folder).card.name == "untrained"  # off-check: it was the bit
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, "architecture": "resnet50"}))
    with pytest.raises(ClassifierError) as caught:
        load_classifier(folder)
    assert caught.value.exit_code == 7


@pytest.mark.parametrize("length", [1 << 40, 1 << 62, 0])
def test_a_header_of_weights_that_claims_terabytes_is_refused(folder: Path, length: int) -> None:
    from hashlib import sha256

    weights = folder / "weights.safetensors"
    data = struct.pack("<Q", length) + weights.read_bytes()[8:]
    weights.write_bytes(data)
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, "weights_sha256": sha256(data).hexdigest()}))
    with pytest.raises(ClassifierError):
        load_classifier(folder)


def test_a_zip_file_is_no_classifier(tmp_path: Path) -> None:
    bundle = tmp_path / "classifier.zip"
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr("../../card.json", "{}")
    with pytest.raises(ClassifierError, match=r"classifier\.zip is a file"):
        load_classifier(bundle)
    assert [path.name for path in tmp_path.iterdir()] == ["classifier.zip"]


def test_a_plate_unlike_the_training_is_told_and_one_like_it_is_not() -> None:
    """Row 44: distances of a plate's patches from the training data, as the network gives them."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 50)
    usual = judge_outliers(rng.random(600) * 1.005, groups=groups, threshold=1.0)
    drifted = judge_outliers(rng.random(600) * 3, groups=groups, threshold=1.0)
    assert int(drifted["flagged"]) == 1
    assert int(usual["flagged"]) == 0
    assert "%" in drifted["text"]
