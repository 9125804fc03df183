"""What the commands say about classifier folders."""

import io
import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from models.shelf import SHIPPED, WEIGHTS, read_shelved
from plates.errors import ClassifierError
from screening.classifiers import card_lines, line_of, list_shelf, require_all, shelf_table, show, verify


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "classifiers" / "HeLa"))


def test_a_line_tells_what_a_classifier_is_and_how_right_it_is(copy: Path) -> None:
    card = json.loads((copy / "card.json").read_text())
    line = line_of(read_shelved(copy))
    test = card["metrics"]["test"]
    assert line["states"] == "the five"
    assert line["sees"] == "projections"
    assert line["calibrated"] == "yes"
    assert line["trained on"] == card["trained_on"]
    assert line["accuracy"] == f"{test['accuracy']:.3f} ({test['accuracy_low']:.3f} to {test['accuracy_high']:.3f})"
    assert line["sha256"] == card["weights_sha256"][:12]
    assert line["size"] == f"{(SHIPPED / WEIGHTS).stat().st_size / 1e6:.1f} MB"


def test_volumes_and_other_states_are_told(copy: Path) -> None:
    card = json.loads((copy / "card.json").read_text())
    (copy / "card.json").write_text(json.dumps(card | {"planes": 24, "states": ["G1", "G2"], "metrics": {}}))
    line = line_of(read_shelved(copy))
    assert (line["sees"], line["states"], line["accuracy"]) == ("volumes of 24 planes", "G1, G2", "not measured")


def test_without_folders_the_shipped_and_the_usual_ones_are_listed(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy.parent.parent)
    assert {entry.path.resolve() for entry in list_shelf()} == {SHIPPED, copy}
    assert [entry.path for entry in list_shelf([copy])] == [copy]


def test_a_damaged_folder_stands_in_the_table_with_its_reason(copy: Path) -> None:
    (copy / "weights.safetensors").rename(copy / "model.pt")
    file = io.StringIO()
    Console(file=file, width=400).print(shelf_table(list_shelf([copy.parent])))
    assert "unusable" in file.getvalue()
    assert "can run code" in file.getvalue()


def test_the_card_in_words_names_each_split_with_its_patches(copy: Path) -> None:
    lines = card_lines(show(copy))
    assert lines["test"].endswith("834 patches of 40 wells")
    assert lines["sees"].startswith("maximum projections, 160 px of 0.16 um")
    assert lines["weights"] == f"sha256 {json.loads((copy / 'card.json').read_text())['weights_sha256']}"


def test_verifying_leaves_with_the_classifiers_code_when_a_check_is_bad(copy: Path) -> None:
    require_all(verify(copy), path=copy)
    (copy / "training.csv").unlink()
    with pytest.raises(ClassifierError, match="is not in order: files, record") as caught:
        require_all(verify(copy), path=copy)
    assert caught.value.exit_code == 7
