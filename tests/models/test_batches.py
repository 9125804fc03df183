"""Batches: index relative to the medium, and changes that a microscope could make."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.batches import Augmentation, Batches, class_weights
from models.datasets import MARGIN_PX, Patches
from tests.models.made_patches import make_patches


def make_volumes(count: int, *, px: int, planes: int) -> Patches:
    """Volumes whose planes are numbered: plane k is k * 1e-3 above the medium, with one bright pixel."""
    flat = make_patches(count, px=px, seed=0)
    size = px + 2 * MARGIN_PX
    counts = np.full((count, planes, size, size), 13370, np.uint16)
    counts += 10 * np.arange(planes, dtype=np.uint16)[None, :, None, None]
    counts[:, :, size // 2, size // 2 - 3] += 600
    return replace(flat, counts=counts, um_per_plane=0.95)


def test_weights_make_all_states_count_alike() -> None:
    truth = np.array([0, 0, 0, 1, 2, 2])
    weights = class_weights(truth, states=5)
    np.testing.assert_allclose(np.bincount(truth, weights=weights[truth], minlength=5), [2, 2, 2, 0, 0])


def test_plain_batches_give_every_patch_relative_to_its_medium() -> None:
    patches = make_patches(7, px=32, seed=0)
    patches.medium_index[3] += np.float32(0.001)
    index = torch.cat([index for index, _ in Batches(patches, patch_px=32).plain(3)]).numpy()
    inner = patches.counts[:, MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX] / 1e4
    np.testing.assert_allclose(index, inner - patches.medium_index[:, None, None], atol=2e-6)


def test_augmentation_turns_mirrors_and_shifts_but_leaves_the_index_alone() -> None:
    patches = make_patches(1, px=32, seed=0)
    size = 32 + 2 * MARGIN_PX
    patches.counts[:] = 13370
    patches.counts[0, size // 2, size // 2 - 1] = 13970
    patches.counts[0, size // 2, size // 2 + 5] = 13770
    repeated = patches.take(np.zeros(400, dtype=np.int64))
    generator = torch.Generator().manual_seed(0)
    batches = Batches(repeated, patch_px=32).augmented(100, generator=generator)
    index = torch.cat([index for index, _ in batches]).numpy()
    directions, places, heights = set(), set(), []
    for one in index:
        first = np.array(np.unravel_index(one.argmax(), one.shape))
        if one.max() < 0.05:  # the brighter one was shifted out
            continue
        heights.append(one.max() - np.median(one))
        places.add(tuple(first))
        rest = one.copy()
        rest[tuple(first)] = -1
        second = np.array(np.unravel_index(rest.argmax(), one.shape))
        if rest.max() > 0.03:
            directions.add(tuple(second - first))
    assert directions == {(0, 6), (0, -6), (6, 0), (-6, 0)}
    assert len(places) > 100
    assert np.mean(heights) == pytest.approx(0.06, abs=2e-4)
    medium = np.median(index, axis=(1, 2))
    assert np.std(medium) == pytest.approx(4e-4, rel=0.15)


def test_augmented_batches_have_one_size_show_every_patch_and_follow_the_seed() -> None:
    patches = make_patches(50, px=32, seed=0)
    batches = Batches(patches, patch_px=32)

    def run(seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return list(batches.augmented(16, generator=torch.Generator().manual_seed(seed)))

    first, again, other = run(1), run(1), run(2)
    assert [len(truth) for _, truth in first] == [16, 16, 16, 16]
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0][0], other[0][0])
    assert (np.bincount(torch.cat([truth for _, truth in first]), minlength=5) >= 10).all()


def test_a_volume_is_turned_in_its_plane_and_never_upside_down() -> None:
    volumes = make_volumes(60, px=24, planes=6)
    change = Augmentation(noise=0.0, offset=0.0)
    batches = Batches(volumes, patch_px=24)
    plain = torch.cat([index for index, _ in batches.plain(7)])
    np.testing.assert_allclose(np.median(plain, axis=(2, 3)), np.tile(np.arange(6) * 1e-3, (60, 1)), atol=1e-6)
    seen = batches.augmented(60, generator=torch.Generator().manual_seed(0), change=change)
    index = next(iter(seen))[0].numpy()
    first = np.rint(np.median(index, axis=(2, 3)) * 1e3).astype(int)
    shifts = {tuple(row) for row in first}
    # one plane up, none, or one down, the border plane shown twice
    assert shifts == {(0, 1, 2, 3, 4, 5), (1, 2, 3, 4, 5, 5), (0, 0, 1, 2, 3, 4)}
    spots = [np.unravel_index(one[0].argmax(), one[0].shape) for one in index]
    assert len(set(spots)) > 20
    same_place = [[np.unravel_index(plane.argmax(), plane.shape) for plane in one] for one in index]
    assert all(len(set(places)) == 1 for places in same_place)


def test_focus_softens_edges_and_keeps_the_mean() -> None:
    patches = make_patches(40, px=32, seed=0)
    sharp, soft = (
        next(
            iter(
                Batches(patches, patch_px=32).augmented(
                    40,
                    generator=torch.Generator().manual_seed(1),
                    change=Augmentation(noise=0.0, offset=0.0, focus=focus),
                )
            )
        )[0]
        for focus in (1e-9, 1.0)
    )
    roughness = [float(image.diff(dim=-1).abs().mean()) for image in (sharp, soft)]
    assert roughness[1] < 0.9 * roughness[0]
    assert float(soft.mean()) == pytest.approx(float(sharp.mean()), rel=0.02)
