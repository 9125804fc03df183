"""A classifier of one kind of cell is adapted to another kind with few patches, and says what that cost."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.adaptation import adapt, nested_order, read_adaptation
from models.classifier import Classifier, load_classifier
from models.datasets import Patches
from models.finetuning import NAIVE, Norm, Tuning, choose_norm, fine_tune, recalculate_norm
from models.prediction import predict_logits
from models.recipes import Recipe
from models.training import fit
from plates.errors import ClassifierError, SettingsError
from tests.models.made_patches import make_patches

PX = 48
RECIPE = Recipe(architecture="resnet18", epochs=6, batch=32, patch_px=PX, small_px=24, small_share=0.34)
TUNING = Tuning(norm="recalculate", head_steps=8, steps=16, batch=16)


def other_line(count: int, *, seed: int, splits: tuple[str, ...] = ("train", "test")) -> Patches:
    """The same five forms, much paler and on a rough background: what another line does to a classifier."""
    made = make_patches(count, px=PX, seed=seed, splits=splits)
    index = made.counts / 1e4 - made.medium_index[:, None, None]
    rough = np.random.default_rng(seed).normal(0, 3e-3, index.shape)
    pale = 0.35 * index + 0.008 + rough
    counts = np.rint((pale + made.medium_index[:, None, None]) * 1e4).astype(np.uint16)
    return replace(made, counts=counts, group=np.char.replace(made.group, "P.zarr", "Q.zarr"))


@pytest.fixture(scope="module")
def old() -> Patches:
    return make_patches(400, px=PX, seed=1, splits=("train", "train", "validation", "train", "test"))


@pytest.fixture(scope="module")
def classifier(old: Patches, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return fit(old, out=tmp_path_factory.mktemp("made") / "first", recipe=RECIPE, trained_on="made-up discs")


@pytest.fixture(scope="module")
def new() -> Patches:
    return other_line(300, seed=5)


@pytest.fixture(scope="module")
def adapted(
    classifier: Classifier, new: Patches, old: Patches, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("adapted") / "second"
    return adapt(classifier, new, out=out, budgets=(25, 1000), old=old, tuning=TUNING, text={"new_line": "pale"}), out


def running_mean(network: torch.nn.Module, module: str) -> torch.Tensor:
    norm = network.get_submodule(module)
    assert isinstance(norm, torch.nn.BatchNorm2d)
    assert norm.running_mean is not None
    return norm.running_mean


def accuracy(classifier: Classifier, patches: Patches) -> float:
    return float((predict_logits(classifier, patches).argmax(axis=1) == patches.truth).mean())


def test_a_few_patches_bring_back_what_another_line_took(
    classifier: Classifier, adapted: tuple[dict[str, Any], Path], new: Patches, old: Patches
) -> None:
    record, out = adapted
    written = load_classifier(out)
    before, after = accuracy(classifier, new.of("test")), accuracy(written, new.of("test"))
    assert accuracy(classifier, old.of("test")) >= 0.9
    assert before <= 0.6
    assert after >= before + 0.2
    assert record["before"]["accuracy"]["value"] == pytest.approx(before)
    assert record["after"]["accuracy"]["value"] == pytest.approx(after)
    assert record["old_line"]["after"]["accuracy"]["value"] == pytest.approx(accuracy(written, old.of("test")))
    low, high = (record["after"]["accuracy"][end] for end in ("low", "high"))
    assert low < after <= high


def test_the_curve_has_every_budget_once_and_ends_with_all_patches(
    adapted: tuple[dict[str, Any], Path], new: Patches
) -> None:
    record, _ = adapted
    assert [step["patches"] for step in record["curve"]] == [25, len(new.of("train"))]
    assert record["curve"][-1]["accuracy"] == record["after"]["accuracy"]


def test_the_card_says_from_which_classifier_and_that_it_is_not_calibrated(
    classifier: Classifier, adapted: tuple[dict[str, Any], Path], new: Patches
) -> None:
    card = load_classifier(adapted[1]).card
    assert card.name == "second"
    assert card.trained_on.startswith(
        f"adapted with {len(new.of('train'))} patches of 8 wells from the classifier first"
    )
    assert classifier.card.weights_sha256[:12] in card.trained_on
    assert "made-up discs" in card.trained_on
    assert card.temperature == 1.0
    assert card.calibration.startswith("not calibrated: no validation wells")
    assert card.uncertain == {}
    assert load_classifier(adapted[1]).outliers is None
    assert set(classifier.card.wells["train"]) < set(card.wells["train"])
    assert "Q.zarr:A01" in card.wells["train"]
    assert "Q.zarr:A02" in card.wells["test"]
    assert card.metrics["test"]["wells"] == 7


def test_the_record_is_plain_and_lies_in_the_folder(adapted: tuple[dict[str, Any], Path]) -> None:
    record, out = adapted
    assert read_adaptation(out) == json.loads(json.dumps(record))
    assert record["text"]["new_line"] == "pale"
    assert record["from"]["name"] == "first"
    assert not out.with_name("second.adapting").exists()
    with pytest.raises(SettingsError, match="holds no adaptation"):
        read_adaptation(out.parent)


def test_the_classifier_that_was_given_stays_as_it_was(
    classifier: Classifier, adapted: tuple[dict[str, Any], Path], old: Patches
) -> None:
    fresh = {name: tensor.clone() for name, tensor in classifier.network.state_dict().items()}
    fine_tune(classifier, old.of("test"), replace(TUNING, steps=2))
    assert all(torch.equal(fresh[name], tensor) for name, tensor in classifier.network.state_dict().items())
    assert not classifier.network.training


def test_budgets_that_are_done_are_not_trained_again_after_a_kill(
    classifier: Classifier, new: Patches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned: list[int] = []

    def counting(*args: Any, **more: Any) -> torch.nn.Module:
        tuned.append(len(args[1]))
        if len(tuned) == 2:
            raise KeyboardInterrupt
        return fine_tune(*args, **more)

    monkeypatch.setattr("models.adaptation.fine_tune", counting)
    call: Callable[[], dict[str, Any]] = lambda: adapt(  # noqa: E731
        classifier, new, out=tmp_path / "out", budgets=(10, 20), tuning=replace(TUNING, head_steps=1, steps=2)
    )
    with pytest.raises(KeyboardInterrupt):
        call()
    assert not (tmp_path / "out").exists()
    record = call()
    assert tuned == [10, 20, 20]
    assert [step["patches"] for step in record["curve"]] == [10, 20]
    tuned.clear()
    again = adapt(classifier, new, out=tmp_path / "again", budgets=(10,), tuning=replace(TUNING, head_steps=1, steps=2))
    assert again["curve"][0] == record["curve"][0]


def test_without_a_tuning_the_statistics_are_chosen_once_on_the_largest_budget(
    classifier: Classifier, new: Patches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    used: list[str] = []

    def choosing(_: Classifier, patches: Patches, __: Tuning, *, validation: Patches, **more: Any) -> tuple[Norm, Any]:
        asked.append((len(patches), len(validation)))
        return "keep", {"keep": 0.5, "update": 0.7}

    def quick(start: Classifier, _: Patches, tuning: Tuning, **more: Any) -> torch.nn.Module:
        used.append(tuning.norm)
        return copy.deepcopy(start.network)

    monkeypatch.setattr("models.adaptation.choose_norm", choosing)
    monkeypatch.setattr("models.adaptation.fine_tune", quick)
    record = adapt(classifier, new, out=tmp_path / "out", budgets=(10, 20))
    assert asked == [(20, 0)]
    assert used == ["keep", "keep"]
    assert record["norm"] == {"chosen": "keep", "log_loss": {"keep": 0.5, "update": 0.7}}
    assert record["tuning"]["norm"] == "keep"


def test_test_patches_decide_nothing(classifier: Classifier, new: Patches, tmp_path: Path) -> None:
    few = new.take(np.concatenate([np.flatnonzero(new.split == "train")[:30], np.flatnonzero(new.split == "test")]))
    wrong = np.where(few.split == "test", (few.truth + 1) % 5, few.truth)
    short = replace(TUNING, norm="recalculate", head_steps=1, steps=2)
    networks = []
    for name, truth in (("right", few.truth), ("wrong", wrong)):
        adapt(classifier, replace(few, truth=truth), out=tmp_path / name, budgets=(30,), tuning=short)
        networks.append(load_classifier(tmp_path / name).network.state_dict())
    assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])


def test_every_beginning_of_the_order_is_balanced_over_states_and_spread_over_wells() -> None:
    pool = make_patches(200, px=8, seed=2, wells=10)
    order = nested_order(pool, seed=0)
    assert sorted(order.tolist()) == list(range(200))
    for size in (5, 25, 50):
        chosen = pool.take(order[:size])
        assert np.bincount(chosen.truth).tolist() == [size // 5] * 5
        assert len(np.unique(chosen.group)) == min(size, 10)
    assert nested_order(pool, seed=1).tolist() != order.tolist()


def test_a_rare_state_leaves_its_turns_to_the_others() -> None:
    pool = make_patches(100, px=8, seed=2)
    rare = pool.take(np.flatnonzero((pool.truth != 2) | (np.arange(100) < 10)))
    order = nested_order(rare, seed=0)
    assert np.bincount(rare.truth[order[:30]], minlength=5).tolist() == [7, 7, 2, 7, 7]


def test_recalculated_statistics_are_those_of_the_new_patches(classifier: Classifier, new: Patches) -> None:
    network = copy.deepcopy(classifier.network)
    seen: list[torch.Tensor] = []
    network.get_submodule("bn1").register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].float()))
    recalculate_norm(network, new, classifier.card, passes=1)
    first = network.get_submodule("bn1")
    assert isinstance(first, torch.nn.BatchNorm2d)
    assert first.running_var is not None
    every = torch.cat([batch.transpose(0, 1).flatten(1) for batch in seen], dim=1)
    assert torch.allclose(running_mean(network, "bn1"), every.mean(1), atol=2e-2)
    assert torch.allclose(first.running_var, every.var(1), rtol=0.1, atol=1e-3)
    assert first.momentum == 0.1
    assert not any(module.training for module in network.modules())
    before = running_mean(classifier.network, "bn1")
    assert not torch.allclose(before, running_mean(network, "bn1"), atol=2e-2)


def test_statistics_are_held_or_follow_as_asked(classifier: Classifier, new: Patches) -> None:
    few = new.of("train")
    start = running_mean(classifier.network, "layer1.0.bn1").clone()
    norms: tuple[Norm, ...] = ("keep", "recalculate", "update")
    tuned = {
        norm: running_mean(
            fine_tune(classifier, few, replace(TUNING, norm=norm, head_steps=2, steps=3)), "layer1.0.bn1"
        )
        for norm in norms
    }
    assert torch.equal(tuned["keep"], start)
    assert not torch.equal(tuned["recalculate"], start)
    assert not torch.equal(tuned["update"], start)


def test_statistics_are_chosen_by_wells_that_were_not_tuned_to(
    classifier: Classifier, new: Patches, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned_to: list[set[str]] = []

    def watched(start: Classifier, patches: Patches, tuning: Tuning, **_: Any) -> torch.nn.Module:
        tuned_to.append(set(patches.group.tolist()))
        assert tuning.steps == 4
        return fine_tune(start, patches, tuning)

    monkeypatch.setattr("models.finetuning.fine_tune", watched)
    tuning = replace(TUNING, head_steps=2, steps=8)
    few = new.of("train")
    wells = set(few.group.tolist())
    chosen, losses = choose_norm(classifier, few, tuning, validation=new.of("none"))
    assert set(losses) == {"keep", "recalculate", "update"}
    assert chosen == min(losses, key=losses.__getitem__)
    assert all(wells - known and known < wells for known in tuned_to)
    choose_norm(classifier, few, tuning, validation=new.of("test"))
    assert tuned_to[-1] == wells
    one = few.take(np.flatnonzero(few.group == few.group[0]))
    assert choose_norm(classifier, one, tuning, validation=new.of("none")) == (tuning.norm, {})


def test_the_head_alone_leaves_the_body_as_it_is(classifier: Classifier, new: Patches) -> None:
    tuned = fine_tune(classifier, new.of("train"), replace(TUNING, norm="keep", steps=0)).state_dict()
    same = {name for name, tensor in classifier.network.state_dict().items() if torch.equal(tensor, tuned[name])}
    assert {name.split(".")[0] for name in set(tuned) - same} == {"fc"}


def test_the_same_seed_tunes_the_same_network_and_leaves_the_callers_numbers(
    classifier: Classifier, new: Patches
) -> None:
    before = torch.random.get_rng_state()
    one, other = (fine_tune(classifier, new.of("train"), replace(NAIVE, steps=2)).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_validation_wells_calibrate(classifier: Classifier, tmp_path: Path) -> None:
    patches = other_line(400, seed=6, splits=("train", "validation", "test"))
    # every third annotation is wrong: nobody can be certain of these
    doubtful = (patches.split == "validation") & (np.arange(400) % 3 == 0)
    patches = replace(patches, truth=np.where(doubtful, (patches.truth + 1) % 5, patches.truth))
    adapt(classifier, patches, out=tmp_path / "out", budgets=(30,), tuning=replace(TUNING, head_steps=1, steps=2))
    written = load_classifier(tmp_path / "out")
    card = written.card
    assert card.uncertain != classifier.card.uncertain
    assert written.outliers is not None
    assert card.calibration.startswith("temperature ")
    assert card.calibration.endswith("5 validation wells of the new kind")


def test_what_cannot_be_adapted_is_refused(classifier: Classifier, new: Patches, old: Patches, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(SettingsError, match="annotated as a, b, the classifier 'first' tells apoptosis"):
        adapt(classifier, replace(new, states=("a", "b")), out=out)
    with pytest.raises(SettingsError, match="None of the new patches is in the split 'test'"):
        adapt(classifier, new.of("train"), out=out)
    with pytest.raises(SettingsError, match="None of the old patches is in the split 'test'"):
        adapt(classifier, new, out=out, old=old.of("train"))
    with pytest.raises(SettingsError, match="was made for refractive index"):
        adapt(classifier, replace(new, quantity="brightness"), out=out)
    with pytest.raises(SettingsError, match=r"The budgets are 0, 25\. Expected numbers of patches from 1 up"):
        adapt(classifier, new, out=out, budgets=(0, 25))
    assert list(tmp_path.iterdir()) == []
    out.mkdir()
    with pytest.raises(ClassifierError, match="never overwritten"):
        adapt(classifier, new, out=out)
