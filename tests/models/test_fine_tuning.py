"""Fine-tuning: in stages, from a trained classifier, with BatchNorm kept or updated, for any states and quantity."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.batches import Batches
from models.classifier import Card, Classifier, load_classifier, require_for_screening
from models.datasets import Patches
from models.epochs import _cut_and_mix, change_for
from models.prediction import as_input, predict_both, predict_features, predict_logits
from models.recipes import Recipe
from models.training import fit
from plates.errors import ClassifierError, SettingsError
from tests.models.made_patches import make_patches

PX = 32
SPLITS = ("train", "train", "validation", "train", "test")
RECIPE = Recipe(architecture="resnet18", epochs=3, batch=32, patch_px=PX, small_share=0.0, focus=0.0)


@pytest.fixture(scope="module")
def patches() -> Patches:
    return make_patches(200, px=PX, seed=1, splits=SPLITS)


@pytest.fixture(scope="module")
def trained(patches: Patches, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return fit(patches, out=tmp_path_factory.mktemp("start") / "first", recipe=RECIPE)


def changed(before: Classifier, after: Classifier) -> set[str]:
    """Names of the modules (up to the block) whose numbers differ."""
    old, new = before.network.state_dict(), after.network.state_dict()
    return {".".join(name.split(".")[:2]) for name in old if not torch.equal(old[name], new[name])}


def test_the_head_alone_is_trained_first(patches: Patches, trained: Classifier, tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=1, head_epochs=1, norm="keep")
    after = fit(patches, out=tmp_path / "head", recipe=recipe, start=trained)
    assert changed(trained, after) == {"fc.1"}


def test_the_layers_before_train_from_stand_still(patches: Patches, trained: Classifier, tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=1, train_from="layer4.1", norm="keep")
    after = fit(patches, out=tmp_path / "last", recipe=recipe, start=trained)
    assert changed(trained, after) == {"layer4.1", "fc.1"}
    assert all(parameter.requires_grad for parameter in after.network.parameters())


def test_batch_norm_follows_the_new_patches_only_where_it_may(
    patches: Patches, trained: Classifier, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, epochs=1, head_epochs=1, norm="update")
    after = fit(patches, out=tmp_path / "update", recipe=recipe, start=trained)
    old, new = trained.network.state_dict(), after.network.state_dict()
    moved = {name.rsplit(".", 1)[1] for name in old if not torch.equal(old[name], new[name]) and "fc" not in name}
    assert moved == {"running_mean", "running_var", "num_batches_tracked"}


def test_a_module_that_is_not_there_is_named(patches: Patches, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"train_from 'layer9' is no part of a resnet18. Expected one of .*layer4"):
        fit(patches, out=tmp_path / "none", recipe=replace(RECIPE, train_from="layer9"))


def test_a_start_of_another_kind_is_refused(patches: Patches, trained: Classifier, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is a resnet18 of projections, the training asks for a resnet34"):
        fit(patches, out=tmp_path / "other", recipe=replace(RECIPE, architecture="resnet34"), start=trained)


def test_other_states_take_the_body_and_a_new_head(patches: Patches, trained: Classifier, tmp_path: Path) -> None:
    two = replace(patches, truth=np.minimum(patches.truth, 1), states=("disc", "other"))
    recipe = replace(RECIPE, epochs=1, head_epochs=1, norm="keep")
    after = fit(two, out=tmp_path / "two", recipe=recipe, start=trained)
    loaded = load_classifier(tmp_path / "two")
    assert loaded.card.states == ("disc", "other")
    assert predict_logits(after, two).shape == (200, 2)
    np.testing.assert_allclose(predict_features(after, two), predict_features(trained, two), atol=1e-5)
    with pytest.raises(ClassifierError, match=r"tells disc, other apart\. Expected the states apoptosis"):
        require_for_screening(loaded.card, path=tmp_path / "two")


def test_another_quantity_brings_its_own_window_and_noise_in_proportion(patches: Patches, tmp_path: Path) -> None:
    # the same forms as grey values of 0 to 255: contrast 100 times that of an index
    index = patches.counts.astype(float) - 13370
    grey = np.clip(120 + index / 4, 0, 255).astype(np.uint16)
    images = replace(
        patches,
        counts=grey,
        medium_index=np.full(200, 120 / 1e4, np.float32),
        quantity="grey value",
        window=(-0.012, 0.0135),
    )
    card = fit(images, out=tmp_path / "grey", recipe=replace(RECIPE, epochs=1)).card
    assert (card.quantity, card.index_window) == ("grey value", (-0.012, 0.0135))
    shown = torch.cat([index for index, _ in Batches(images.of("train"), patch_px=PX).plain(64)])
    seen = as_input(shown, card, PX)
    assert float(seen.mean()) == pytest.approx(0, abs=1e-3)
    assert float(seen.std()) == pytest.approx(1, abs=1e-3)
    change = change_for(card, noise=RECIPE.noise, offset=RECIPE.offset, focus=0.0)
    assert change.noise / card.sd == pytest.approx(RECIPE.noise / Card.sd)
    assert change.offset / card.sd == pytest.approx(RECIPE.offset / Card.sd)
    with pytest.raises(ClassifierError, match="looks at images of grey value"):
        require_for_screening(replace(card, states=patches.states), path=tmp_path)


def test_cutmix_takes_a_rectangle_of_another_patch_and_its_share_of_the_truth() -> None:
    generator = torch.Generator().manual_seed(4)
    index = torch.arange(16.0).view(16, 1, 1).expand(16, 40, 40).contiguous()  # patch k is k everywhere
    for _ in range(20):
        mixed, other, kept = _cut_and_mix(index, torch.arange(16), generator)
        for own, partner, image in zip(range(16), other.tolist(), mixed, strict=True):
            assert set(image.unique().tolist()) <= {float(own), float(partner)}
            if own != partner:
                assert float((image == own).float().mean()) == pytest.approx(kept, abs=1e-6)
        assert 0.5 <= kept <= 1


def test_a_training_with_cutmix_takes_its_draws_from_the_seed(patches: Patches, tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=1, cutmix=0.9)
    one, two = (fit(patches, out=tmp_path / name, recipe=recipe) for name in ("one", "two"))
    assert one.card.weights_sha256 == two.card.weights_sha256
    plain = fit(patches, out=tmp_path / "plain", recipe=replace(recipe, cutmix=0.0))
    assert plain.card.weights_sha256 != one.card.weights_sha256


def test_the_card_names_the_wells_of_each_split(trained: Classifier) -> None:
    assert set(trained.card.wells) == {"train", "validation", "test"}
    assert not set(trained.card.wells["train"]) & set(trained.card.wells["test"])
    assert trained.card.wells["test"] == ["P.zarr:A05", "P.zarr:A10", "P.zarr:A15"]


def test_a_split_that_divides_a_well_is_refused(patches: Patches, tmp_path: Path) -> None:
    split = patches.split.copy()
    split[np.flatnonzero(patches.group == "P.zarr:A03")[0]] = "test"
    with pytest.raises(SettingsError, match=r"The patches of P.zarr:A03 lie in 2 splits"):
        fit(replace(patches, split=split), out=tmp_path / "x", recipe=RECIPE)
    assert not list(tmp_path.iterdir())


def test_a_training_that_diverges_says_so_and_writes_no_classifier(patches: Patches, tmp_path: Path) -> None:
    with pytest.raises(
        ClassifierError, match=r"diverged in epoch 1: its loss is nan.*Lower the recipe's learning_rate"
    ):
        fit(patches, out=tmp_path / "x", recipe=replace(RECIPE, learning_rate=1e30))
    assert not (tmp_path / "x").exists()


def test_a_start_of_another_quantity_is_refused(patches: Patches, trained: Classifier, tmp_path: Path) -> None:
    grey = replace(patches, quantity="grey value", window=(-0.01, 0.01))
    with pytest.raises(SettingsError, match="was trained on images of refractive index, these are of grey value"):
        fit(grey, out=tmp_path / "x", recipe=RECIPE, start=trained)


def test_the_head_runs_in_full_precision_as_on_plates(patches: Patches, trained: Classifier) -> None:
    logits, features = predict_both(trained, patches)
    with torch.inference_mode():
        head = trained.network.get_submodule("fc")(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(logits, head, atol=1e-5)
    none = patches.take(np.zeros(0, np.int64))
    assert predict_logits(trained, none).shape == (0, 5)
    assert len(predict_features(trained, none)) == 0
