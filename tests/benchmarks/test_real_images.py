"""The folds of the benchmark on real images keep apart what shows the same cells."""

from dataclasses import replace

import numpy as np
import pytest

from models.cross_validation import Fold
from models.datasets import Patches
from tests.benchmarks.image_features import control_probability
from tests.benchmarks.real_images import (
    families,
    family_table,
    leave_one_family_out,
    linked_sources,
    pooled_table,
    split_cells,
)


def made_cells(seed: int = 0) -> Patches:
    """48 spots in noise in families b, c and e, four images a source; those of state 1 are wide."""
    random = np.random.default_rng(seed)
    truth = np.arange(48) % 2
    y, x = np.mgrid[:24, :24] - 11.5
    spread = np.where(truth, 6.0, 2.0)[:, None, None]
    index = 0.5 * np.exp(-(y**2 + x**2) / (2 * spread**2)) + random.normal(0, 0.2, (48, 24, 24))
    place = np.arange(48) // 4
    return Patches(
        counts=np.rint(16384 + 1e4 * index).astype(np.uint16),
        corner=np.zeros((48, 2), dtype=np.int64),
        medium_index=np.full(48, 1.6384, dtype=np.float32),
        truth=truth.astype(np.int64),
        group=np.array([f"{'bce'[number % 3]}:frame {number}" for number in place]),
        split=np.full(48, "train", dtype="U10"),
        states=("narrow", "wide"),
        quantity="grey value",
        window=(-1.6, 1.6),
    )


def with_image_of(cells: Patches, place: int, image: np.ndarray) -> Patches:
    counts = cells.counts.copy()
    counts[place] = image
    return replace(cells, counts=counts)


def test_cells_of_their_own_are_linked_to_nothing() -> None:
    assert linked_sources(made_cells()) == {"b": set(), "c": set(), "e": set()}


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_frame_under_another_name_is_found_turned_mirrored_or_dimmed(turns: int, mirrored: bool) -> None:
    cells = made_cells()
    own = cells.counts[0][:, ::-1] if mirrored else cells.counts[0]
    cells = with_image_of(cells, 5, (0.5 * np.rot90(own, turns) + 9000).astype(np.uint16))
    assert linked_sources(cells) == {"b": {"c:frame 1"}, "c": {"b:frame 0"}, "e": set()}


def test_images_without_contrast_are_not_taken_for_the_same_cell() -> None:
    cells = made_cells()
    flat = np.full((24, 24), 16384)
    assert linked_sources(with_image_of(with_image_of(cells, 0, flat), 5, flat))["b"] == set()


def test_no_family_no_source_and_no_linked_frame_is_on_two_sides() -> None:
    cells = with_image_of(made_cells(), 5, made_cells().counts[0])
    folds = dict(leave_one_family_out(cells, linked=linked_sources(cells)))
    assert list(folds) == ["b", "c", "e"]
    for name, fold in folds.items():
        family = families(fold)
        assert set(family[fold.split == "test"]) == {name}
        assert len(set(family[fold.split == "validation"])) == 1
        assert not set(family[fold.split == "train"]) & set(family[fold.split != "train"])
    assert "c:frame 1" not in folds["b"].group
    assert "b:frame 0" not in folds["c"].group
    assert len(folds["b"]) == len(cells) - 4
    assert len(folds["e"]) == len(cells)


def test_of_the_second_experiment_a_hundred_cells_are_annotated_and_the_others_judge() -> None:
    cells = made_cells().take(np.tile(np.arange(48), 10))
    cells = replace(cells, group=np.array([f"{1 + (place % 3 == 0)}:image {place}" for place in range(480)]))
    split = split_cells(cells, seed=0)
    first = families(cells) == "1"
    assert [(split.split[~first] == name).sum() for name in ("train", "validation", "test")] == [100, 0, 60]
    for name in ("train", "validation", "test"):
        assert set(split.truth[first & (split.split == name)]) == {0, 1}
    assert (split.split[first] == "train").mean() == pytest.approx(0.7, abs=0.01)


def test_the_control_tells_wide_from_narrow() -> None:
    train, test = made_cells(seed=0), made_cells(seed=1)
    train = train.take(np.tile(np.arange(48), 3))  # its leaves want 20 images
    probability = control_probability(train, test)
    assert probability.sum(axis=1) == pytest.approx(1)
    assert (probability.argmax(axis=1) == test.truth).mean() >= 0.95


def test_the_tables_tell_the_worst_family_and_what_was_kept_from_training() -> None:
    cells = made_cells()
    right = np.eye(2)[cells.truth]
    right[np.flatnonzero((families(cells) == "c") & (cells.truth == 1))[:4]] = (1, 0)
    folds = []
    for name in "bce":
        chosen = families(cells) == name
        folds.append(Fold(name, right[chosen], cells.truth[chosen], cells.group[chosen]))
    *_, pooled, _ = pooled_table({"made up": folds}, states=cells.states).split("\n")
    assert pooled.startswith("| made up | 0.917 ")  # 4 of 24 wide ones are missed
    assert "| 0.750 (c) |" in pooled
    *_, last, _ = family_table({"made up": folds}, states=cells.states, purged={"b": 0, "c": 4, "e": 9}).split("\n")
    assert last.startswith("| e | 16 (4) | 9 | 1.000")
