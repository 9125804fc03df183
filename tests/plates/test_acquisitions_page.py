"""What docs/acquisitions.md shows is so."""

import re
from pathlib import Path
from typing import get_args

import pytest

from plates.ingest.convert import Fluorescence
from plates.ingest.manifest import read_manifest
from plates.ingest.names import FileFormat, discover

PAGE = (Path(__file__).parents[2] / "docs" / "acquisitions.md").read_text(encoding="utf-8")


def test_the_manifest_of_the_page_is_read(tmp_path: Path) -> None:
    text = re.findall(r"```csv\n(.*?)```", PAGE, flags=re.DOTALL)[0]
    for line in text.splitlines()[1:]:
        file = tmp_path / line.split(",")[0]
        file.parent.mkdir(exist_ok=True)
        file.touch()
    (tmp_path / "m.csv").write_text(text, encoding="utf-8")
    sources = read_manifest(tmp_path / "m.csv", folder=tmp_path)
    assert [(source.well, source.field, source.timepoint, source.part) for source in sources] == [
        ("B07", 0, 0, ""),
        ("B08", 0, 0, ""),
        ("B09", 1, 0, "Image:3"),
    ]
    assert sources[1].voxel_um == (0.8745, 0.1626, 0.1626)
    for column in text.splitlines()[0].split(","):
        assert f"`{column}`" in PAGE


def test_the_names_of_the_page_become_its_wells_and_fields(tmp_path: Path) -> None:
    rows = re.findall(r"\| `([^`<]+\.TCF)` \| (\w+) \| (\d) \|", PAGE)
    assert len(rows) == 3
    for name, _, _ in rows:
        (tmp_path / name).touch()
    found = {source.path.name: (source.well, str(source.field)) for source in discover(tmp_path)}
    assert found == {name: (well, field) for name, well, field in rows}


@pytest.mark.parametrize("word", [*get_args(FileFormat), *get_args(Fluorescence)])
def test_every_word_of_an_option_is_on_the_page(word: str) -> None:
    assert f"`{word}`" in PAGE or f" {word}`" in PAGE


def test_the_options_of_the_page_are_those_of_the_command() -> None:
    from typer.main import get_command

    from screening.cli import app

    command = get_command(app)
    known = {name for option in command.commands["ingest"].params for name in option.opts}  # type: ignore[attr-defined]
    told = set(re.findall(r"^\| `(--[a-z-]+)", PAGE, flags=re.MULTILINE))
    assert told >= {"--format", "--acquisition", "--channel", "--fluorescence", "--stitch", "--in-place", "--dry-run"}
    assert told <= known
