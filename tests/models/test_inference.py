"""The fast path gives what the plain path gives, in order, whatever comes together."""

import logging
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch

from models import engine
from models.batches import Batches
from models.classifier import Card, Classifier, build_classifier, load_classifier, normalise, predict, save_classifier
from models.datasets import read_patches
from models.engine import Engine, fold_batch_norm
from models.inference import cached_classifier, classify_fields
from models.outliers import fit_outliers
from models.prediction import predict_features
from models.resnet import build_resnet
from models.timing import Timing
from plates.errors import StoreError
from plates.patches import foreground_shares, patch_centres, window_grid
from plates.states import STATES
from tests.models.made_patches import MEDIUM, made_index, make_patches

PX = 64
Field = tuple[npt.NDArray[np.uint16], tuple[float, float], float]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    torch.manual_seed(0)
    return build_classifier(Card(name="x", architecture="resnet18", patch_px=PX, temperature=1.3))


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(engine, "fast_dtype", lambda _: torch.float32)
    engine.engine_of.cache_clear()
    yield
    engine.engine_of.cache_clear()


def field(seed: int, *, rows: int = 3, columns: int = 4, medium: float = MEDIUM) -> Field:
    """A field of cells, every third place left empty."""
    random = np.random.default_rng(seed)
    index = random.normal(medium, 2e-4, (rows * PX, columns * PX))
    for place in range(rows * columns):
        if place % 3:
            y, x = PX * (place // columns), PX * (place % columns)
            index[y : y + PX, x : x + PX] += made_index(place % 5, px=PX, random=random)
    return np.rint(index * 1e4).astype(np.uint16), (0.16, 0.16), medium


@pytest.mark.usefixtures("in_float32")
def test_every_window_equals_the_plain_prediction_of_its_cutting(classifier: Classifier) -> None:
    counts, voxel_um, medium = field(1)
    (found,) = classify_fields(classifier, [(counts, voxel_um, medium)], stride=40, batch=8)
    rows, columns = (window_grid(size, patch=PX, stride=40) for size in counts.shape)
    assert found.probability.shape == (len(rows), len(columns), 5)
    index = (counts / 1e4 - medium).astype(np.float32)
    for i, y in enumerate(rows):
        for j, x in enumerate(columns):
            if found.foreground[i, j] > 0.05:
                plain = predict(classifier, index[None, y : y + PX, x : x + PX])[0]
                np.testing.assert_allclose(found.probability[i, j], plain, atol=1e-4)
            else:
                assert np.isnan(found.probability[i, j]).all()
    assert 0 < np.isnan(found.probability[..., 0]).sum() < len(rows) * len(columns)


def test_the_fast_number_format_stays_within_a_percent(classifier: Classifier) -> None:
    counts, voxel_um, medium = field(2)
    (found,) = classify_fields(classifier, [(counts, voxel_um, medium)])
    index = (counts / 1e4 - medium).astype(np.float32)
    blocks = index.reshape(3, PX, 4, PX).swapaxes(1, 2).reshape(12, PX, PX)
    plain = predict(classifier, blocks).reshape(3, 4, 5)
    assert np.nanmax(np.abs(found.probability - plain)) < 0.01


def test_the_foreground_is_that_of_the_plates_rule(classifier: Classifier) -> None:
    counts, voxel_um, medium = field(3, medium=1.3374)
    counts[:PX, :PX] = 0
    counts[:PX, PX : PX + 10] = 0
    (found,) = classify_fields(classifier, [(counts, voxel_um, medium)], stride=32)
    expected = foreground_shares(counts, medium_index=medium, patch=PX, stride=32)
    np.testing.assert_array_equal(found.foreground, expected)
    assert np.isnan(found.foreground[0, 0])
    assert np.isnan(found.probability[0, 0]).all()


@pytest.mark.parametrize("batch", [4, 7])
def test_a_field_alone_and_among_others_gives_the_same_bits(classifier: Classifier, batch: int) -> None:
    fields = [field(seed, rows=2 + seed % 2) for seed in range(5)]
    together = list(classify_fields(classifier, fields, batch=batch))
    for one, result in zip(fields, together, strict=True):
        (alone,) = classify_fields(classifier, [one], batch=batch)
        np.testing.assert_array_equal(result.probability, alone.probability)
    assert [result.probability.shape[0] for result in together] == [2, 3, 2, 3, 2]


def test_another_voxel_shows_the_network_the_same_cells(classifier: Classifier) -> None:
    def smooth(um_per_px: float) -> Field:
        y, x = (np.mgrid[: round(41 / um_per_px), : round(41 / um_per_px)] + 0.5) * um_per_px
        index = MEDIUM + 0.03 * np.exp(-((y - 10) ** 2 + (x - 10) ** 2) / 12)
        return np.rint(index * 1e4).astype(np.uint16), (um_per_px, um_per_px), MEDIUM

    fine, coarse = classify_fields(classifier, [smooth(0.16), smooth(0.2)])
    assert fine.probability.shape == coarse.probability.shape == (4, 4, 5)
    assert np.nanmax(np.abs(fine.probability - coarse.probability)) < 0.02
    np.testing.assert_array_equal(np.isnan(fine.probability), np.isnan(coarse.probability))


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("um_per_px", [0.16, 0.2, 0.1632])
def test_training_and_plates_show_the_network_the_same_pixels(
    classifier: Classifier, um_per_px: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = np.random.default_rng(5).integers(13300, 14000, (181, 203), dtype=np.uint16)
    counts[20:40, 30:60] = 0  # missing

    class Plate:
        wells, fields, timepoints, voxel_um = ("A01",), 1, 1, (1.0, um_per_px, um_per_px)

        def projection(self, well: str, *, field: int, timepoint: int) -> npt.NDArray[np.uint16]:
            return counts

    shown: list[torch.Tensor] = []
    real = Engine.__call__

    def watched(self: Engine, windows: torch.Tensor) -> torch.Tensor:
        shown.append(windows)
        return real(self, windows)

    monkeypatch.setattr(Engine, "__call__", watched)
    voxel_um = (um_per_px, um_per_px)
    (found,) = classify_fields(classifier, [(counts, voxel_um, MEDIUM)], stride=23)
    assert (found.foreground > 0.05).all()
    rows, columns = patch_centres((181, 203), voxel_um=voxel_um, patch=PX, stride=23)
    table = pd.DataFrame([{"y_um": y, "x_um": x} for y in rows for x in columns])
    table = table.assign(plate="P.zarr", well="A01", field=0, timepoint=0, state=STATES[0])
    patches = read_patches(table, open_plate=lambda _: Plate(), medium_of=lambda _: lambda *__: MEDIUM, patch_px=PX)
    index = torch.cat([index for index, _ in Batches(patches, patch_px=PX).plain(16)])
    on_plates = torch.cat(shown)[: len(table), 0]
    # patches are kept as counts: an index of 1e-4
    torch.testing.assert_close(normalise(index, classifier.card), on_plates, atol=6e-5 / classifier.card.sd, rtol=0)


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_folding_batchnorm_leaves_the_function_and_no_batchnorm(architecture: str) -> None:
    torch.manual_seed(2)
    network = build_resnet(architecture, states=STATES).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    patches = torch.randn(2, 1, PX, PX)
    with torch.inference_mode():
        folded = fold_batch_norm(network)
        torch.testing.assert_close(folded(patches), network(patches), atol=1e-4, rtol=1e-4)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())


def test_empty_fields_and_missing_fields_come_back_in_their_place(classifier: Classifier) -> None:
    empty = (np.full((PX, 2 * PX), 13370, dtype=np.uint16), (0.16, 0.16), MEDIUM)
    missing = (np.zeros((PX, 2 * PX), dtype=np.uint16), (0.16, 0.16), MEDIUM)
    unknown = (field(1)[0], (0.16, 0.16), float("nan"))
    results = list(classify_fields(classifier, [empty, field(1), missing, unknown]))
    assert (results[0].foreground == 0).all()
    assert np.isfinite(results[1].probability).any()
    assert np.isnan(results[2].foreground).all()
    assert np.isnan(results[3].foreground).all()
    assert np.isnan(results[3].probability).all()
    assert np.isnan(results[0].probability).all()
    assert list(classify_fields(classifier, [])) == []


def test_when_memory_runs_out_the_batch_is_halved_once_and_said_once(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fields = [field(1), field(2)]
    plain = list(classify_fields(classifier, fields, batch=8))
    real = Engine.__call__
    asked: list[int] = []

    def small_memory(self: Engine, windows: torch.Tensor) -> torch.Tensor:
        asked.append(len(windows))
        if len(windows) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return real(self, windows)

    monkeypatch.setattr(Engine, "__call__", small_memory)
    with caplog.at_level(logging.WARNING):
        timing = Timing()
        halved = list(classify_fields(classifier, fields, batch=8, timing=timing))
    assert asked[:3] == [8, 4, 2]
    assert set(asked[3:]) == {2}
    assert timing.held_batch == 2
    assert (timing + Timing(held_batch=4)).held_batch == (Timing() + timing).held_batch == 2
    assert len(caplog.records) == 1
    assert "does not hold a batch of 8 patches" in caplog.text
    for one, other in zip(plain, halved, strict=True):
        np.testing.assert_allclose(one.probability, other.probability, atol=0.01)


def test_projections_are_read_ahead_in_a_thread_of_their_own(classifier: Classifier) -> None:
    readers: list[str] = []

    def projections() -> Iterator[Field]:
        for seed in range(3):
            readers.append(threading.current_thread().name)
            yield field(seed)

    assert len(list(classify_fields(classifier, projections()))) == 3
    assert readers == ["read-ahead"] * 3


def test_an_error_while_reading_reaches_the_caller_after_the_fields_before_it(classifier: Classifier) -> None:
    def projections() -> Iterator[Field]:
        yield field(1)
        raise StoreError("the plate ends here")

    results = classify_fields(classifier, projections(), batch=1)
    assert np.isfinite(next(results).probability).any()
    with pytest.raises(StoreError, match="the plate ends here"):
        next(results)


def test_a_caller_who_stops_early_leaves_no_thread_behind(classifier: Classifier) -> None:
    results = classify_fields(classifier, (field(seed) for seed in range(50)), batch=1)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "read-ahead"]


def test_a_field_smaller_than_a_patch_is_refused(classifier: Classifier) -> None:
    small = (np.full((PX - 1, 200), 13370, dtype=np.uint16), (0.16, 0.16), MEDIUM)
    with pytest.raises(StoreError, match="smaller than one patch of 64 px"):
        list(classify_fields(classifier, [small]))


def test_a_worker_loads_a_classifier_once(classifier: Classifier, tmp_path: Path) -> None:
    save_classifier(classifier, tmp_path / "one")
    first = cached_classifier(tmp_path / "one", device="cpu")
    assert cached_classifier(tmp_path / "one", device="cpu") is first
    save_classifier(build_classifier(Card(name="y", architecture="resnet18", patch_px=PX)), tmp_path / "two")
    for name in ("card.json", "weights.safetensors"):
        (tmp_path / "two" / name).replace(tmp_path / "one" / name)
    second = cached_classifier(tmp_path / "one", device="cpu")
    assert second.card.name == "y"
    # calibrated again: other probabilities from the same weights
    shutil.rmtree(tmp_path / "one")
    save_classifier(replace(second, card=replace(second.card, temperature=2.0)), tmp_path / "one")
    assert cached_classifier(tmp_path / "one", device="cpu").card.temperature == 2.0


@pytest.mark.usefixtures("in_float32")
def test_outlier_scores_of_windows_are_those_of_their_patches_and_survive_the_folder(
    classifier: Classifier, tmp_path: Path
) -> None:
    patches = make_patches(80, px=PX, seed=3)
    features = predict_features(classifier, patches)
    fitted = replace(classifier, outliers=fit_outliers(features[:60], patches.truth[:60], features[60:]))
    save_classifier(fitted, tmp_path / "net")
    loaded = load_classifier(tmp_path / "net")
    counts, voxel_um, medium = field(4)
    counts[:PX, PX : 2 * PX] = 13370 + (np.random.default_rng(0).random((PX, PX)) < 0.3) * 900  # no cell at all
    (found,) = classify_fields(loaded, [(counts, voxel_um, medium)])
    blocks = counts.reshape(3, PX, 4, PX).swapaxes(1, 2).reshape(12, PX, PX)
    cut = replace(
        patches.take(np.arange(12)),
        counts=blocks,
        corner=np.zeros((12, 2), np.int64),
        medium_index=np.full(12, medium, np.float32),
    )
    assert loaded.outliers is not None
    plain = loaded.outliers.score(predict_features(loaded, cut)).reshape(3, 4)
    shown = np.isfinite(found.probability[..., 0])
    assert shown.sum() >= 5
    np.testing.assert_allclose(found.outlier[shown], plain[shown], rtol=0.02)
    assert np.isnan(found.outlier[~shown]).all()
    (none,) = classify_fields(classifier, [(counts, voxel_um, medium)])
    assert np.isnan(none.outlier).all()
