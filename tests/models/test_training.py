"""Training learns, chooses on validation wells, resumes bit for bit, and says in the card what it did."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from models.checkpoints import Epoch
from models.classifier import Classifier, load_classifier, predict
from models.datasets import MARGIN_PX, Patches
from models.recipes import Recipe
from models.training import _fingerprint, fit, train
from plates.errors import ClassifierError, SettingsError
from plates.states import STATES
from tests.models.made_patches import MEDIUM, make_patches

PX = 48
SPLITS = ("train", "train", "validation", "train", "test")
RECIPE = Recipe(architecture="resnet18", epochs=6, batch=32, patch_px=PX, small_px=24, small_share=0.34)


@pytest.fixture(scope="module")
def patches() -> Patches:
    return make_patches(400, px=PX, seed=1, splits=SPLITS)


@pytest.fixture(scope="module")
def trained(patches: Patches, tmp_path_factory: pytest.TempPathFactory) -> tuple[Classifier, Path, list[Epoch]]:
    out = tmp_path_factory.mktemp("trained") / "made-up"
    seen: list[Epoch] = []
    before = torch.random.get_rng_state()
    classifier = fit(
        patches, out=out, recipe=RECIPE, trained_on="made-up discs", command="make it", progress=seen.append
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    return classifier, out, seen


def test_a_trained_network_knows_new_patches(trained: tuple[Classifier, Path, list[Epoch]]) -> None:
    new = make_patches(100, px=PX, seed=77)
    inner = slice(MARGIN_PX, MARGIN_PX + PX)
    index = (new.counts[:, inner, inner] / 1e4 - MEDIUM).astype(np.float32)
    called = predict(load_classifier(trained[1]), index).argmax(axis=1)
    assert (called == new.truth).mean() >= 0.9


def test_the_card_tells_what_was_done(trained: tuple[Classifier, Path, list[Epoch]], patches: Patches) -> None:
    card = load_classifier(trained[1]).card
    assert card.name == "made-up"
    assert card.trained_on == "made-up discs"
    assert card.command == "make it"
    assert card.fingerprint == _fingerprint(patches, RECIPE, None)
    assert card.metrics["test"]["wells"] == 3
    assert card.metrics["test"]["accuracy"] >= 0.9
    assert sum(map(sum, card.metrics["test"]["confusion"])) == len(patches.of("test"))
    assert "validation wells" in card.calibration
    index = patches.of("train").counts[:, MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX] / 1e4 - MEDIUM
    assert card.mean == pytest.approx(index.clip(*card.index_window).mean(), abs=2e-6)
    assert card.sd == pytest.approx(index.clip(*card.index_window).std(), abs=2e-6)


def test_small_epochs_come_first_and_the_record_lies_beside_the_card(
    trained: tuple[Classifier, Path, list[Epoch]],
) -> None:
    _, out, seen = trained
    assert [epoch.px for epoch in seen] == [24, 24, 48, 48, 48, 48]
    with (out / "training.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["validation_loss"]) for row in rows] == [epoch.validation_loss for epoch in seen]
    assert not out.with_name("made-up.training").exists()


def test_a_killed_training_resumes_and_ends_bit_for_bit_the_same(
    trained: tuple[Classifier, Path, list[Epoch]], patches: Patches, tmp_path: Path
) -> None:
    def kill_after_the_third(epoch: Epoch) -> None:
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    resumed: list[Epoch] = []
    with pytest.raises(KeyboardInterrupt):
        fit(patches, out=tmp_path / "again", recipe=RECIPE, progress=kill_after_the_third)
    assert not (tmp_path / "again").exists()
    (tmp_path / "again.training" / "epoch-0004.part").mkdir()  # as a kill while writing leaves it
    again = fit(patches, out=tmp_path / "again", recipe=RECIPE, progress=resumed.append)
    assert [epoch.epoch for epoch in resumed] == [3, 4, 5]
    assert again.card.weights_sha256 == trained[0].card.weights_sha256


def test_a_checkpoint_of_other_settings_is_not_taken_up(patches: Patches, tmp_path: Path) -> None:
    def kill(_: Epoch) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(patches, out=tmp_path / "one", recipe=RECIPE, progress=kill)
    with pytest.raises(SettingsError, match="unfinished training on other patches or with other settings"):
        fit(patches, out=tmp_path / "one", recipe=replace(RECIPE, seed=9))


def test_the_last_epoch_is_at_full_size_whatever_the_share() -> None:
    recipe = Recipe(epochs=10, small_share=1.0)
    assert [recipe.pixels(epoch) for epoch in range(10)] == [80] * 9 + [160]
    assert {Recipe(epochs=3, small_share=0.0).pixels(epoch) for epoch in range(3)} == {160}


def test_the_fingerprint_follows_pixels_states_splits_and_recipe_but_not_the_folder(patches: Patches) -> None:
    base = _fingerprint(patches, RECIPE, None)
    elsewhere = replace(patches, group=np.array([f"/data/{group}" for group in patches.group]))
    assert _fingerprint(elsewhere, RECIPE, None) == base
    other = replace(patches, truth=patches.truth[::-1].copy())
    assert _fingerprint(other, RECIPE, None) != base
    assert _fingerprint(patches, replace(RECIPE, epochs=7), None) != base


def test_without_validation_wells_nothing_is_trained(patches: Patches, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No patch is in the split 'validation'"):
        fit(patches.of("train"), out=tmp_path / "none", recipe=RECIPE)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_classifier_is_kept(trained: tuple[Classifier, Path, list[Epoch]], patches: Patches) -> None:
    with pytest.raises(ClassifierError, match="never overwritten"):
        fit(patches, out=trained[1], recipe=RECIPE)


def test_a_table_without_splits_is_split_by_wells_and_trained(tmp_path: Path) -> None:
    made = make_patches(60, px=PX, seed=3)

    class Plate:
        wells = tuple(f"A{number:02d}" for number in range(1, 16))
        fields = 1
        timepoints = 1
        voxel_um = (1.0, 0.16, 0.16)

        def projection(self, well: str, *, field: int, timepoint: int) -> np.ndarray:
            of_well = np.flatnonzero(made.group == f"P.zarr:{well}")
            return np.concatenate(list(made.counts[of_well]), axis=1)

    size = PX + 2 * MARGIN_PX
    rows = []
    for well in Plate.wells:
        # here a well holds one state: the first of its patches
        for place in range((made.group == f"P.zarr:{well}").sum()):
            state = STATES[int(well[1:]) % 5]
            centre = {"y_um": size / 2 * 0.16, "x_um": (place + 0.5) * size * 0.16}
            rows.append({"plate": "P.zarr", "well": well, "field": 0, "timepoint": 0, **centre, "state": state})
    recipe = replace(RECIPE, epochs=1)
    classifier = train(
        pd.DataFrame(rows),
        out=tmp_path / "small",
        recipe=recipe,
        open_plate=lambda _: Plate(),
        medium_of=lambda _: lambda *__: MEDIUM,
    )
    assert classifier.card.trained_on.endswith("wells on 1 plate")
    assert {"validation", "test"} == classifier.card.metrics.keys()
