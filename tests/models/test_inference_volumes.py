"""Volumes go the way of projections: the network sees what it saw in training, cells are found by the same rule."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch

from models import engine, prediction
from models.classifier import Card, Classifier, build_classifier, require_for_screening
from models.engine import fold_batch_norm
from models.fields import _focus_plane
from models.inference import classify_fields
from models.networks import build_network
from models.prediction import predict_logits
from models.volumes import focus_plane, read_volumes
from plates.errors import ClassifierError
from plates.patches import foreground_shares, patch_centres
from plates.states import STATES
from tests.models.made_patches import MEDIUM

PX = 48
Voxel = tuple[float, float, float]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    torch.manual_seed(1)
    card = Card(name="x", architecture="small3d", patch_px=PX, planes=6, um_per_plane=1.2, temperature=1.3)
    built = build_classifier(card)
    head = built.network.get_submodule("fc.1")
    assert isinstance(head, torch.nn.Linear)
    with torch.no_grad():  # an untrained head says the same of everything
        head.weight.mul_(20)
    return built


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in (engine, prediction):
        monkeypatch.setattr(module, "fast_dtype", lambda _: torch.float32)
    engine.engine_of.cache_clear()
    yield
    engine.engine_of.cache_clear()


def tomogram(shape: tuple[int, int, int], *, seed: int = 0) -> npt.NDArray[np.uint16]:
    """Blobs at several depths in medium, the left quarter empty, with a hole of missing voxels."""
    random = np.random.default_rng(seed)
    z, y, x = (np.arange(size) for size in shape)
    index = random.normal(MEDIUM, 2e-4, shape)
    for _ in range(14):
        at = random.uniform((0.3 * shape[0], 0, 0.35 * shape[2]), np.array(shape) * (0.6, 1, 1))
        far = ((z - at[0]) / 2)[:, None, None] ** 2 + ((y - at[1]) / 12)[:, None] ** 2 + ((x - at[2]) / 12) ** 2
        index += random.uniform(0.02, 0.06) * np.exp(-far)
    counts = np.rint(index * 1e4).astype(np.uint16)
    counts[: shape[0] // 2, 20:40, -60:-30] = 0
    return counts


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("voxel_um", [(1.0, 0.16, 0.16), (0.8, 0.2, 0.15), (1.5, 0.1632, 0.1632)])
def test_a_plate_gives_what_the_patches_of_a_training_give(classifier: Classifier, voxel_um: Voxel) -> None:
    counts = tomogram((11, 150, 190))

    class Plate:
        wells, fields, timepoints = ("A01",), 1, 1

        def __init__(self) -> None:
            self.voxel_um = voxel_um

        def volume(self, well: str, *, field: int, timepoint: int) -> npt.NDArray[np.uint16]:
            return counts

        projection = volume

    (found,) = classify_fields(classifier, [(counts, voxel_um, MEDIUM)], stride=31, batch=4)
    rows, columns = patch_centres((150, 190), voxel_um=voxel_um[1:], patch=PX, stride=31)
    assert found.probability.shape == (len(rows), len(columns), 5)
    table = pd.DataFrame([{"y_um": y, "x_um": x} for y in rows for x in columns])
    table = table.assign(plate="P.zarr", well="A01", field=0, timepoint=0, state=STATES[0])
    options: dict[str, Any] = {"open_plate": lambda _: Plate(), "medium_of": lambda _: lambda *__: MEDIUM}
    patches = read_volumes(table, planes=6, um_per_plane=1.2, patch_px=PX, **options)
    logits = torch.from_numpy(predict_logits(classifier, patches)) / 1.3
    plain = torch.softmax(logits, dim=1).numpy().reshape(found.probability.shape)
    shown = np.isfinite(found.probability[..., 0])
    assert 5 <= shown.sum() < shown.size
    assert plain[shown].std(axis=0).max() > 0.03  # the patches differ, or nothing would be compared
    # patches are kept as counts: an index of 1e-4
    np.testing.assert_allclose(found.probability[shown], plain[shown], atol=2e-3)


def test_the_fast_number_format_stays_within_a_percent(classifier: Classifier) -> None:
    image = tomogram((11, 150, 190)), (1.0, 0.16, 0.16), MEDIUM
    (fast,) = classify_fields(classifier, [image])
    engine.engine_of.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "fast_dtype", lambda _: torch.float32)
        (exact,) = classify_fields(classifier, [image])
    engine.engine_of.cache_clear()
    assert np.nanmax(np.abs(fast.probability - exact.probability)) < 0.01


def test_cells_are_found_on_the_maximum_projection_by_the_rule_of_projections(classifier: Classifier) -> None:
    counts = tomogram((7, 2 * PX, 4 * PX))
    counts[:, :PX, :PX] = 0
    (found,) = classify_fields(classifier, [(counts, (1.0, 0.16, 0.16), MEDIUM)], stride=24)
    expected = foreground_shares(counts.max(axis=0), medium_index=MEDIUM, patch=PX, stride=24)
    np.testing.assert_array_equal(found.foreground, expected)
    assert np.isnan(found.foreground[0, 0])
    assert 0 < np.isnan(found.probability[..., 0]).sum() < found.foreground.size
    np.testing.assert_array_equal(np.isfinite(found.probability[..., 0]), found.foreground > 0.05)


def test_empty_and_missing_volumes_come_back_in_their_place(classifier: Classifier) -> None:
    voxel_um = (1.0, 0.16, 0.16)
    empty = np.full((5, PX, 2 * PX), 13370, np.uint16)
    images = [(empty, voxel_um, MEDIUM), (tomogram((5, PX, 150)), voxel_um, MEDIUM), (empty * 0, voxel_um, MEDIUM)]
    results = list(classify_fields(classifier, [*images, (images[1][0], voxel_um, float("nan"))]))
    assert (results[0].foreground == 0).all()
    assert np.isfinite(results[1].probability).any()
    for missing in results[2:]:
        assert np.isnan(missing.foreground).all()
        assert np.isnan(missing.probability).all()


@pytest.mark.parametrize("medium", [1.337, 1.33703, 1.3421])
def test_the_focus_on_a_device_is_the_plane_found_in_training(medium: float) -> None:
    planes = set()
    for seed in range(8):
        counts = tomogram((9 + seed, 60, 70), seed=seed)
        counts[3, 5, 5] = 40000  # more than 16 bits with a sign hold
        clipped = np.minimum(counts, 32767)
        found = _focus_plane(torch.from_numpy(clipped.view(np.int16)), medium_index=medium)
        assert found == focus_plane(clipped, medium_index=medium)
        planes.add(found)
    assert len(planes) > 2
    assert _focus_plane(torch.full((6, 4, 4), 13370, dtype=torch.int16), medium_index=medium) == 3


def test_an_image_of_other_dimensions_is_refused(classifier: Classifier) -> None:
    projection = np.full((PX, PX), 13500, np.uint16)
    with pytest.raises(ValueError, match="looks at images of 3 dimensions, not at \\(48, 48\\)"):
        list(classify_fields(classifier, [(projection, (0.16, 0.16), MEDIUM)]))


@pytest.mark.parametrize("architecture", ["small3d", "r3d_18", "inflated_resnet18"])
def test_folding_leaves_the_function_of_networks_on_volumes(architecture: str) -> None:
    torch.manual_seed(3)
    network = build_network(architecture, states=STATES).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    volumes = torch.randn(2, 1, 6, PX, PX)
    with torch.inference_mode():
        folded = fold_batch_norm(network)
        torch.testing.assert_close(folded(volumes), network(volumes), atol=1e-4, rtol=1e-4)
    assert not any(isinstance(module, torch.nn.BatchNorm3d) for module in folded.modules())


def test_a_plate_takes_classifiers_of_volumes_that_say_how_far_apart_their_planes_are(classifier: Classifier) -> None:
    require_for_screening(classifier.card, path=Path("net"))
    with pytest.raises(ClassifierError, match="how far apart the classifier's 6 planes are"):
        require_for_screening(replace(classifier.card, um_per_plane=None), path=Path("net"))
