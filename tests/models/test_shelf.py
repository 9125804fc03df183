"""Classifier folders are found and read by their cards, damaged ones with the reason, and without torch."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import models
from models.shelf import SHIPPED, accuracy_of, is_calibrated, list_classifiers, read_shelved, require_files
from plates.errors import ClassifierError


def make_folder(path: Path, **changes: Any) -> Path:
    """A folder with a card as ours and weights that nobody reads."""
    path.mkdir(parents=True)
    card = {"name": path.name, "architecture": "resnet18", "states": ["a", "b"], "metrics": {}, "weights_sha256": "0"}
    (path / "card.json").write_text(json.dumps(card | changes))
    (path / "weights.safetensors").write_bytes(b"12345")
    return path


def test_folders_are_found_below_the_given_ones_each_once_and_in_order(tmp_path: Path) -> None:
    make_folder(tmp_path / "b")
    make_folder(tmp_path / "lab" / "2026" / "a")
    make_folder(tmp_path / "b" / "inside")  # of another classifier: not looked for
    found = list_classifiers([tmp_path, tmp_path / "b", tmp_path / "lab"])
    assert [entry.path.name for entry in found] == ["b", "a"]
    assert [entry.size for entry in found] == [5, 5]
    assert not any(entry.trouble for entry in found)


@pytest.mark.parametrize("name", ["P001.zarr", "HeLa.training", "A549.adapting", ".hidden", "__pycache__"])
def test_plates_unfinished_trainings_and_hidden_folders_are_not_entered(tmp_path: Path, name: str) -> None:
    make_folder(tmp_path / name / "a")
    assert list_classifiers([tmp_path]) == []


def test_the_search_ends_four_levels_down(tmp_path: Path) -> None:
    make_folder(tmp_path / "1" / "2" / "3" / "four")
    make_folder(tmp_path / "1" / "2" / "3" / "4" / "five")
    assert [entry.path.name for entry in list_classifiers([tmp_path])] == ["four"]


def test_a_damaged_folder_is_listed_with_its_trouble(tmp_path: Path) -> None:
    make_folder(tmp_path / "whole")
    (make_folder(tmp_path / "cut") / "card.json").write_text('{"name": "cut"')
    (make_folder(tmp_path / "no_states") / "card.json").write_text('{"name": "x", "architecture": "resnet18"}')
    (make_folder(tmp_path / "no_weights") / "weights.safetensors").unlink()
    (make_folder(tmp_path / "bytes") / "card.json").write_bytes(b"\xff\xfe\x00")
    (make_folder(tmp_path / "deep") / "card.json").write_text("[" * 200_000)
    with (make_folder(tmp_path / "large") / "card.json").open("r+b") as file:
        file.truncate(10**10)
    trouble = {entry.path.name: entry.trouble for entry in list_classifiers([tmp_path])}
    assert trouble["whole"] == ""
    assert "is not a classifier's card" in trouble["cut"]
    assert "no usable 'states'" in trouble["no_states"]
    assert "has no weights.safetensors" in trouble["no_weights"]
    assert "is not a classifier's card" in trouble["bytes"]
    assert "is not a classifier's card" in trouble["deep"]
    assert "it has 10000 MB, at most 20 are read" in trouble["large"]


@pytest.mark.parametrize("name", ["model.pt", "best.PTH", "classifier.pkl"])
def test_a_pickle_in_place_of_the_weights_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    folder = make_folder(tmp_path / "theirs")
    (folder / "weights.safetensors").rename(folder / name)
    with pytest.raises(ClassifierError, match=f"holds {name} and no weights.safetensors.*can run code"):
        require_files(folder)
    assert "can run code" in read_shelved(folder).trouble


def test_a_file_and_a_missing_folder_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ClassifierError, match=r"is a file\. Expected a folder"):
        require_files(tmp_path / "file")
    with pytest.raises(ClassifierError, match="There is no folder"):
        list_classifiers([tmp_path / "none"])


def test_the_accuracy_of_a_card_is_that_of_its_test_wells_else_of_its_validation_wells() -> None:
    test = {"accuracy": 0.9, "accuracy_low": 0.8, "accuracy_high": 0.95}
    assert accuracy_of({"metrics": {"validation": {"accuracy": 0.99}, "test": test}}) == (0.9, 0.8, 0.95)
    assert accuracy_of({"metrics": {"validation": {"accuracy": 0.99}}}) == (0.99, None, None)
    assert accuracy_of({"metrics": {}}) is None


def test_the_shipped_classifier_is_listed_as_what_it_is() -> None:
    (shipped,) = list_classifiers([SHIPPED])
    assert shipped.trouble == ""
    assert shipped.size == (SHIPPED / "weights.safetensors").stat().st_size
    assert is_calibrated(shipped.card)
    assert not is_calibrated({"calibration": "not calibrated: 3 errors in 100 patches of 4 validation wells"})


def test_listing_loads_no_network_library(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED, tmp_path / "classifiers" / "copy")
    code = (
        "import sys; from screening.classifiers import card_lines, list_shelf, shelf_table, show; "
        "shelf = list_shelf(); shelf_table(shelf); card_lines(show(shelf[0].path)); "
        "print(len(shelf), *sorted(sys.modules.keys() & {'torch', 'torchvision', 'xarray', 'zarr', 'pandas', 'numpy'}))"
    )
    home = Path(models.__path__[0]).parent
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(home), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["2"]
