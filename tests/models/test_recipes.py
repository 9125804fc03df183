"""Recipes: a file says how to train, and a wrong key is named."""

from pathlib import Path

import pytest

from models.recipes import read_recipe
from plates.errors import MissingInputError, SettingsError


def test_a_recipe_is_read_and_the_command_line_overrules_it(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('[recipe]\narchitecture = "resnet50"\nepochs = 5\nhead_epochs = 2\nnorm = "keep"\n')
    recipe = read_recipe(path, epochs=7, batch=None)
    assert (recipe.architecture, recipe.epochs, recipe.head_epochs, recipe.norm) == ("resnet50", 7, 2, "keep")
    assert recipe.batch == 32


def test_every_wrong_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('[recipe]\nepoch = 5\nnorm = "freeze"\nlearning_rate = "fast"\n')
    with pytest.raises(SettingsError) as told:
        read_recipe(path)
    for word in ("epoch:", "norm", "'update' or 'keep'", "learning_rate", "A recipe has the keys architecture"):
        assert word in str(told.value)


def test_a_file_that_is_missing_or_no_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"no file .*recipe\.toml"):
        read_recipe(tmp_path / "recipe.toml")
    (tmp_path / "recipe.toml").write_text("epochs: 5")
    with pytest.raises(SettingsError, match="is not TOML"):
        read_recipe(tmp_path / "recipe.toml")


def test_a_file_without_the_table_and_numbers_out_of_range_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("epochs = 5\n[recipes]\nbatch = 3\n")
    with pytest.raises(SettingsError, match=r"has no table \[recipe\]; found epochs, recipes"):
        read_recipe(path)
    path.write_text("[recipe]\nepochs = 0\nbatch = 1\nlabel_smoothing = 1.0\n")
    with pytest.raises(SettingsError) as told:
        read_recipe(path)
    assert all(name in str(told.value) for name in ("epochs:", "batch:", "label_smoothing:"))
