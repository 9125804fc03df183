"""A folder's list of checksums: what it vouches for, and what it must not vouch for."""

import subprocess
from pathlib import Path

import pytest

from models.checksums import CHECKSUMS, add_checksums, altered_files, write_checksums


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("card.json", "weights.safetensors", "training.csv"):
        (tmp_path / name).write_text(f"what {name} holds\n")
    write_checksums(tmp_path)
    return tmp_path


def test_another_program_reads_the_list(folder: Path) -> None:
    checked = subprocess.run(["sha256sum", "--check", CHECKSUMS], cwd=folder, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.count(": OK") == 3


def test_a_file_that_was_added_or_replaced_is_listed(folder: Path) -> None:
    (folder / "adaptation.json").write_text("{}")
    assert altered_files(folder) == {"adaptation.json": f"is not listed in {CHECKSUMS}"}
    (folder / "training.csv").write_text("replaced")
    add_checksums(folder, "adaptation.json", "training.csv")
    assert altered_files(folder) == {}


def test_adding_a_file_does_not_vouch_for_damage_to_another(folder: Path) -> None:
    (folder / "card.json").write_text("damaged")
    (folder / "page.html").write_text("<p>")
    add_checksums(folder, "page.html")
    assert altered_files(folder) == {"card.json": f"is not what {CHECKSUMS} lists"}
    write_checksums(folder)  # anew, it would
    assert altered_files(folder) == {}


def test_a_damaged_list_is_not_mended_by_adding_to_it(folder: Path) -> None:
    lines = (folder / CHECKSUMS).read_text()
    (folder / CHECKSUMS).write_text(lines[:-5])
    (folder / "page.html").write_text("<p>")
    add_checksums(folder, "page.html")
    assert set(altered_files(folder) or {}) >= {CHECKSUMS, "page.html"}
    assert "cut short" in (altered_files(folder) or {})[CHECKSUMS]


def test_a_folder_of_an_older_version_gets_a_list_of_all_its_files(folder: Path) -> None:
    (folder / CHECKSUMS).unlink()
    assert altered_files(folder) is None
    add_checksums(folder, "card.json")
    assert altered_files(folder) == {}
    assert len((folder / CHECKSUMS).read_text().splitlines()) == 3
