"""Everything that can be wrong with a classifier folder is found under its own name."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from models.checksums import write_checksums
from models.classifier import Card, build_classifier, save_classifier
from models.verification import Check, verify_classifier

RECORD = "epoch,train_loss,validation_loss,accuracy\n0,1.2,0.8,0.7\n1,0.9,0.6,0.8\n"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("classifiers") / "small"
    record = path.with_name("record.csv")
    record.write_text(RECORD)
    card = Card(name="small", architecture="resnet18", patch_px=64, trained_on="simulated cells", fingerprint="ab" * 32)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_classifier(build_classifier(card), path, record=record)
    return path


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def alter(folder: Path, **changes: Any) -> None:
    """Change a card on purpose, its list of checksums with it: each question must find what is its own."""
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | changes))
    write_checksums(folder)


def bad(folder: Path) -> dict[str, str]:
    return {check.name: check.text for check in verify_classifier(folder) if not check.ok}


def test_a_folder_in_order_answers_every_question(folder: Path) -> None:
    checks = verify_classifier(folder)
    assert [check.name for check in checks] == ["files", "card", "weights", "states", "scale", "test input", "record"]
    assert all(check.ok for check in checks)
    assert checks[-1] == Check("record", True, "2 epochs on simulated cells; fingerprint abababababab")


def test_an_altered_bit_of_the_weights_is_found(folder: Path) -> None:
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(content)
    found = bad(folder)
    assert set(found) == {"files", "weights", "test input"}
    assert "altered or not copied whole" in found["weights"]


def test_a_flipped_bit_of_any_file_is_found_by_the_list_of_checksums_alone(folder: Path) -> None:
    content = bytearray((folder / "training.csv").read_bytes())
    content[-4] ^= 1  # an accuracy of 0.8 becomes 0.9
    (folder / "training.csv").write_bytes(content)
    assert bad(folder)["files"].startswith("training.csv is not what SHA256SUMS lists")
    (folder / "SHA256SUMS").unlink()
    assert bad(folder) == {}


def test_an_altered_transform_is_found_by_the_test_input_alone(folder: Path) -> None:
    alter(folder, mean=0.03)
    assert set(bad(folder)) == {"test input"}


def test_missing_files_and_unreadable_cards_end_the_questions(folder: Path) -> None:
    alter(folder, architecture="vgg16")
    checks = verify_classifier(folder)
    assert [(check.name, check.ok) for check in checks] == [("files", True), ("card", False)]
    assert "vgg16" in checks[-1].text
    (folder / "card.json").unlink()
    assert [(check.name, check.ok) for check in verify_classifier(folder)] == [("files", False)]


def test_a_pickle_beside_the_weights_is_not_shared_unnoticed(folder: Path) -> None:
    (folder / "optimizer.pt").write_bytes(b"")
    assert "optimizer.pt beside weights.safetensors: such a file can run code" in bad(folder)["files"]


@pytest.mark.parametrize("states", [["a", "a", "b", "c", "d"], ["a", "", "b", "c", "d"]])
def test_states_that_cannot_be_told_apart_are_bad(folder: Path, states: list[str]) -> None:
    alter(folder, states=states)
    assert set(bad(folder)) == {"states"}


def test_other_states_and_other_scales_are_in_order_and_said_not_to_fit_plates(folder: Path) -> None:
    alter(folder, states=["a", "b", "c", "d", "e"], um_per_px=0.2)
    texts = {check.name: check.text for check in verify_classifier(folder)}
    assert bad(folder) == {}
    assert "not run on plates" in texts["states"]
    assert "plates are classified at 0.16 um" in texts["scale"]


@pytest.mark.parametrize("length", [0, -0.16, float("nan")])
def test_an_impossible_scale_is_bad(folder: Path, length: float) -> None:
    alter(folder, um_per_px=length)
    assert "scale" in bad(folder)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("", "no column 'epoch'"),
        (RECORD.splitlines()[0] + "\n", "no epoch"),
        (RECORD + "2," + "9" * 200_000, "is no table"),
        (None, "followed"),
    ],
)
def test_a_missing_or_empty_training_record_is_bad(folder: Path, record: str | None, message: str) -> None:
    if record is None:
        (folder / "training.csv").unlink()
    else:
        (folder / "training.csv").write_text(record)
    assert message in bad(folder)["record"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": "much"}, "mean: "),
        ({"patch_px": None}, "patch_px: "),
        ({"um_per_px": None}, "um_per_px: "),
        ({"states": [1, 2, 3, 4, 5]}, "states.0: "),
        ({"wells": ["A01"]}, "wells: "),
        ({"uncertain": {"threshold": "low"}}, "uncertain.threshold: "),
        ({"planes": 8, "um_per_plane": 1.0}, "looks at volumes of 8 planes"),
        # 4 patches of a million pixels on a side are 16 terabytes
        ({"patch_px": 1_000_000}, "patch_px is 1000000, between 1 and 2048 is expected"),
        ({"architecture": "small3d", "planes": 0}, "planes is 0"),
    ],
)
def test_values_of_a_wrong_kind_are_bad_and_raise_nothing(folder: Path, change: dict[str, Any], message: str) -> None:
    alter(folder, **change)
    assert message in bad(folder)["card"]


@pytest.mark.parametrize("test", [{}, {"seed": 1, "patches": 10**12, "tolerance": 0.005, "probability": [[1.0]]}])
def test_a_test_input_that_cannot_be_asked_is_bad_and_raises_nothing(folder: Path, test: dict[str, Any]) -> None:
    alter(folder, test=test)
    assert "has no usable test input" in bad(folder)["test input"]
