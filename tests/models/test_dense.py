"""Whole fields at once: the same where a network has no borders, refused where it has learned them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from models import dense, engine
from models.classifier import Card, Classifier, load_classifier
from models.dense import check_dense, classify_dense
from models.inference import FieldProbabilities, classify_fields
from models.networks import build_network
from models.timing import Timing
from plates.errors import SettingsError
from plates.patches import window_grid
from plates.states import STATES
from tests.models.made_patches import MEDIUM, made_index

PX, STEP = 64, 16
Field = tuple[npt.NDArray[np.uint16], tuple[float, ...], float]


class Squares(nn.Module):
    """Looks at squares of 16 px, each for itself, with `reach` pixels of their neighbours."""

    def __init__(self, *, reach: int = 0, planes: bool = False) -> None:
        super().__init__()
        conv, pool = (nn.Conv3d, nn.AdaptiveAvgPool3d) if planes else (nn.Conv2d, nn.AdaptiveAvgPool2d)
        deep = (1,) if planes else ()
        self.near = nn.Identity() if not reach else nn.Conv2d(1, 1, 2 * reach + 1, padding=reach)
        self.squares = conv(1, 8, (*deep, STEP, STEP), stride=(*deep, STEP, STEP))
        self.avgpool = pool(1)
        self.fc = nn.Sequential(nn.Dropout(0.2), nn.Linear(8, len(STATES)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = torch.flatten(self.avgpool(torch.relu(self.squares(self.near(images)))), 1)
        logits: torch.Tensor = self.fc(features)
        return logits


def squares(*, reach: int = 0, planes: int | None = None) -> Classifier:
    torch.manual_seed(2)
    network = Squares(reach=reach, planes=planes is not None).eval()
    with torch.no_grad():  # an untrained head says the same of everything
        head = network.fc[1]
        assert isinstance(head, nn.Linear)
        head.weight.mul_(10)
    architecture = "resnet18" if planes is None else "small3d"
    card = Card(name="squares", architecture=architecture, patch_px=PX, planes=planes, um_per_plane=planes and 1.0)
    return Classifier(network, card, torch.device("cpu"))


def field(seed: int, *, rows: int, columns: int, px: int = PX, extra: int = 0) -> Field:
    """A field of cells, every third place left empty."""
    random = np.random.default_rng(seed)
    index = random.normal(MEDIUM, 2e-4, (rows * px + extra, columns * px + extra))
    for place in range(rows * columns):
        if place % 3:
            y, x = px * (place // columns), px * (place % columns)
            index[y : y + px, x : x + px] += made_index(place % 5, px=px, random=random)
    return np.rint(index * 1e4).astype(np.uint16), (0.16, 0.16), MEDIUM


def test_where_no_feature_sees_a_border_dense_and_exact_windows_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "fast_dtype", lambda _: torch.float32)
    classifier, image = squares(), field(1, rows=4, columns=5)
    timing = Timing()
    (whole,) = classify_dense(classifier, [image], stride=32, timing=timing)
    (exact,) = classify_fields(classifier, [image], stride=32)
    assert np.nanstd(exact.probability, axis=(0, 1)).max() > 0.02
    assert 0 < np.isnan(exact.probability[..., 0]).sum() < exact.foreground.size
    for one, other in zip(whole, exact, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert (timing.fields, timing.patches) == (1, int(np.isfinite(exact.probability[..., 0]).sum()))


def test_volumes_go_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "fast_dtype", lambda _: torch.float32)
    counts, _, medium = field(4, rows=3, columns=3)
    image = np.stack([counts - 40, counts, counts - 20]), (1.0, 0.16, 0.16), medium
    classifier = squares(planes=3)
    (whole,) = classify_dense(classifier, [image], stride=16)
    (exact,) = classify_fields(classifier, [image], stride=16)
    np.testing.assert_allclose(whole.probability, exact.probability, atol=1e-5)


def test_such_a_network_passes_the_gate_with_its_numbers() -> None:
    found = check_dense(squares(), [field(seed, rows=5, columns=6) for seed in range(2)], stride=16)
    assert found.fields == 2
    assert found.windows > 300
    assert found.labels_changed <= 0.01
    assert found.change_99 <= found.largest_change < 0.02
    assert f"on {found.windows} windows of 2 fields" in str(found)


def test_an_ordinary_resnet_is_refused_with_its_numbers() -> None:
    classifier = load_classifier(Path(dense.__file__).parent / "demonstration")
    image = field(1, rows=6, columns=5, px=160)
    with pytest.raises(SettingsError, match=r"not the same .* demonstration: on \d+ windows of 1 field, .* points"):
        check_dense(classifier, [image], stride=32)


def close_calls(windows: int) -> npt.NDArray[np.float32]:
    """(window, 1, state): the five states in turn, each two points before the next."""
    return np.stack([np.roll([0.40, 0.38, 0.1, 0.1, 0.02], state % 5) for state in range(windows)])[:, None].astype(
        "f4"
    )


@pytest.mark.parametrize(
    ("what", "allowed"),
    [("nothing", True), ("labels, evenly", False), ("a label of a small field", False), ("probabilities", False)],
)
def test_each_limit_refuses_for_itself(what: str, allowed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = [close_calls(40), close_calls(360)]
    other = [fields.copy() for fields in exact]
    if what == "labels, evenly":  # 10 of 400, by 0.02, and no fraction changes
        for window in range(10):
            top = window % 5
            other[1][window, 0, [top, (top + 1) % 5]] = 0.38, 0.40
    elif what == "a label of a small field":  # 1 of 400, by 0.02, is 2.5 points of its field
        other[0][0, 0, :2] = 0.38, 0.40
    elif what == "probabilities":  # by 0.06, and no label changes
        other = [np.where(values == np.float32(0.40), np.float32(0.46), values) for values in exact]

    def answers(values: list[npt.NDArray[np.float32]]) -> Callable[..., list[FieldProbabilities]]:
        waiting = [FieldProbabilities(value, value[..., 0], value[..., 0]) for value in values]
        return lambda *_, **__: [waiting.pop(0)]

    monkeypatch.setattr(dense, "classify_fields", answers(exact))
    monkeypatch.setattr(dense, "classify_dense", answers(other))
    images = [field(0, rows=1, columns=1)] * 2
    if allowed:
        assert check_dense(squares(), images, stride=16).largest_change == 0
    else:
        with pytest.raises(SettingsError, match="not the same as exact windows"):
            check_dense(squares(), images, stride=16)


def test_too_few_windows_cannot_tell() -> None:
    images = [field(1, rows=2, columns=3), (np.full((2 * PX, PX), 13370, np.uint16), (0.16, 0.16), MEDIUM)]
    with pytest.raises(SettingsError, match="on 3 windows with cells of 2 fields; at least 300 are needed"):
        check_dense(squares(), images, stride=64)


def test_a_stride_between_features_is_refused() -> None:
    torch.manual_seed(0)
    network = build_network("resnet18", states=STATES).eval()
    classifier = Classifier(network, Card(name="r", architecture="resnet18", patch_px=160), torch.device("cpu"))
    with pytest.raises(SettingsError, match=r"cannot look every 80 px: .* Expected a stride of 32, 64, 96, 128, 160"):
        next(classify_dense(classifier, [], stride=80))


def test_a_patch_that_features_do_not_divide_is_refused() -> None:
    classifier = squares()
    uneven = Classifier(classifier.network, Card(name="u", architecture="resnet18", patch_px=70), classifier.device)
    with pytest.raises(SettingsError, match="4 features across a patch of 70 px"):
        next(classify_dense(uneven, [], stride=70))


def test_tiles_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "fast_dtype", lambda _: torch.float32)
    classifier, image = squares(reach=7), field(3, rows=4, columns=5, extra=11)
    (whole,) = classify_dense(classifier, [image], stride=32)
    monkeypatch.setattr(dense, "TILE_PX", 3 * STEP)
    monkeypatch.setattr(dense, "MARGIN_PX", STEP)
    (tiled,) = classify_dense(classifier, [image], stride=32)
    np.testing.assert_allclose(tiled.probability, whole.probability, atol=1e-5)


@pytest.mark.parametrize("size", [256, 251, 203])
def test_a_window_between_features_takes_each_in_proportion(size: int) -> None:
    # features that rise linearly: the mean over a window is the value at its middle, wherever it starts
    cells = -(-size // STEP)
    middle_of_cell = (np.arange(cells) + 0.5) * STEP
    shares = dense._shares(size, cells, step=STEP, patch=PX, stride=48).numpy()
    offsets = window_grid(size, patch=PX, stride=48)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(shares @ middle_of_cell, offsets + PX / 2, rtol=1e-5)
