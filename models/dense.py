"""Whole fields through a network at once: faster for windows that overlap, and allowed only where it is the same.

A network that was trained on patches has seen a border of zeros around every patch, and its features reach over
all of it. Within a field there is no such border, so the same network says something else: of ResNets on patches
of 160 px, 8 to 10 % of the labels change. `check_dense` therefore compares both on the user's own fields first.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from plates.errors import SettingsError
from plates.patches import window_grid

from .classifier import Classifier, normalise
from .engine import Engine, engine_of
from .fields import Field, prepare_field
from .inference import FieldProbabilities, classify_fields
from .reading import PROJECTIONS_AHEAD, VOLUMES_AHEAD, Image, read_ahead, stage_in_place
from .timing import Timing

# A label in a hundred is what two runs of a training differ by at the very least, and a tenth of what a patch's
# border costs a ResNet. A point of a field's fraction is below the spread between fields of one well, which is
# several points. bfloat16 moves a probability by 0.003: a change of 0.05 is another answer, not another rounding.
MOST_LABELS_CHANGED = 0.01
MOST_FRACTION_CHANGE = 0.01
MOST_CHANGE_99 = 0.05
# Of 300 windows without a change, the true share of changes is below 1 % with a confidence of 95 %.
LEAST_WINDOWS = 300

# A field goes through in tiles, since the features of a whole one would need gigabytes; around each lies a margin
# that the tile's own border of zeros does not reach beyond in effect.
TILE_PX, MARGIN_PX = 1280, 256


@dataclass(frozen=True)
class DenseCheck:
    """Dense against exact windows: what changed.

    Attributes
    ----------
    fields, windows
        How many were compared; windows of background are none.
    labels_changed
        Share of windows whose most probable state is another.
    fraction_change
        Largest change of the share of a state among a field's windows.
    change_99, largest_change
        Of the change of a window's probabilities, the 99th percentile and the largest.
    """

    fields: int
    windows: int
    labels_changed: float
    fraction_change: float
    change_99: float
    largest_change: float

    def __str__(self) -> str:
        plural = "s" if self.fields != 1 else ""
        return (
            f"on {self.windows} windows of {self.fields} field{plural}, {self.labels_changed:.1%} of the labels "
            f"change, a field's fraction by up to {100 * self.fraction_change:.1f} points, and probabilities by up to "
            f"{self.change_99:.3f} in 99 % of the windows ({self.largest_change:.3f} at most)"
        )


def check_dense(
    classifier: Classifier, images: Iterable[Image], *, stride: int, batch: int | None = None
) -> DenseCheck:
    """Compare dense with exact windows on some fields of a plate, and refuse if they are not the same.

    Parameters
    ----------
    classifier, images, batch
        As in `classify_fields`; a few fields of different wells and times, 300 windows with cells or more.
    stride
        As in `classify_dense`.

    Raises
    ------
    SettingsError
        With the numbers, if more than 1 % of the labels change, a field's fraction changes by more than a point,
        or the 99th percentile of the changes of probability is above 0.05. If fewer than 300 windows hold
        cells, which could not tell; if the stride does not fit.
    """
    changes: list[npt.NDArray[np.float32]] = []
    relabelled: list[npt.NDArray[np.bool_]] = []
    fractions, fields = [0.0], 0
    for image in images:
        (exact,) = classify_fields(classifier, [image], stride=stride, batch=batch)
        (dense,) = classify_dense(classifier, [image], stride=stride)
        shown = np.isfinite(exact.probability[..., 0])
        fields += 1
        if not shown.any():
            continue
        one, other = exact.probability[shown], dense.probability[shown]
        changes.append(np.abs(one - other).max(axis=1))
        labels, others = one.argmax(axis=1), other.argmax(axis=1)
        relabelled.append(labels != others)
        states = range(one.shape[1])
        fractions += [abs(float((labels == state).mean() - (others == state).mean())) for state in states]
    windows = sum(len(change) for change in changes)
    if windows < LEAST_WINDOWS:
        raise SettingsError(
            f"Dense mode was compared with exact windows on {windows} windows with cells of {fields} fields; at least "
            f"{LEAST_WINDOWS} are needed to tell. Compare on more fields, or use exact windows."
        )
    change = np.concatenate(changes)
    found = DenseCheck(
        fields=fields,
        windows=windows,
        labels_changed=float(np.concatenate(relabelled).mean()),
        fraction_change=max(fractions),
        change_99=float(np.quantile(change, 0.99)),
        largest_change=float(change.max()),
    )
    if (
        found.labels_changed > MOST_LABELS_CHANGED
        or found.fraction_change > MOST_FRACTION_CHANGE
        or not found.change_99 <= MOST_CHANGE_99  # also when it is NaN
    ):
        raise SettingsError(
            f"Dense mode is not the same as exact windows for the classifier {classifier.card.name}: {found}. Allowed "
            f"are {MOST_LABELS_CHANGED:.0%}, {100 * MOST_FRACTION_CHANGE:.0f} point and {MOST_CHANGE_99}. Use exact "
            'windows (mode = "exact"), or a classifier that was trained on whole fields.'
        )
    return found


def classify_dense(
    classifier: Classifier, images: Iterable[Image], *, stride: int, timing: Timing | None = None
) -> Iterator[FieldProbabilities]:
    """Classify fields as `classify_fields` does, each through the network at once; to be checked first.

    A window's features are the mean of the field's over the window. The windows are the same, and those of
    background are left out by the same rule. Where windows are spread evenly up to the border their first pixel
    may lie between two features, which then count in proportion.

    Parameters
    ----------
    classifier, images, timing
        As in `classify_fields`.
    stride
        Distance between windows: a multiple of the network's own stride, 32 px for a ResNet.

    Raises
    ------
    SettingsError
        If the stride, or the patch, is no multiple of the network's stride.
    """
    engine, card = engine_of(classifier), classifier.card
    timing = Timing() if timing is None else timing
    step = network_stride(engine)
    if stride % step or stride < 1:
        fitting = ", ".join(str(size) for size in range(step, card.patch_px + 1, step))
        raise SettingsError(
            f"Dense mode cannot look every {stride} px: the network of the classifier {card.name} has one feature per "
            f"{step} px. Expected a stride of {fitting}; or use exact windows, which may have any stride."
        )
    ahead = PROJECTIONS_AHEAD if card.planes is None else VOLUMES_AHEAD
    with closing(read_ahead(images, ahead=ahead, stage=stage_in_place, timing=timing)) as staged:
        for image in staged:
            with timing.measuring("preparing_s"):
                prepared = prepare_field(
                    image.counts.to(engine.device),
                    voxel_um=image.voxel_um,
                    medium_index=image.medium_index,
                    card=card,
                    stride=stride,
                    dtype=engine.dtype,
                )
            with timing.measuring("computing_s"):
                values = _answers(engine, prepared, step=step, stride=stride)
            timing.patches += len(prepared.windows)
            timing.fields += 1
            timing.peak_device_bytes = max(timing.peak_device_bytes, engine.lane.peak_bytes())
            yield FieldProbabilities(
                np.ascontiguousarray(values[..., :-1]), prepared.foreground, values[..., -1].copy()
            )


def network_stride(engine: Engine) -> int:
    """Pixels between two features of a network.

    Raises
    ------
    SettingsError
        If they do not divide the patch.
    """
    px = engine.card.patch_px
    cells = _feature_map(engine, engine.blank(1)[0, 0]).shape[-1]
    if px % cells:
        raise SettingsError(
            f"Dense mode cannot use the classifier {engine.card.name}: its {cells} features across a patch of {px} px "
            "do not lie a whole number of pixels apart. Use exact windows."
        )
    return px // cells


@torch.inference_mode()
def _answers(engine: Engine, field: Field, *, step: int, stride: int) -> npt.NDArray[np.float32]:
    """(row, column, state + 1) of a field's windows, NaN for background."""
    values = np.full((field.foreground.size, engine.columns), np.nan, np.float32)
    if len(field.windows):
        features = _tiled(engine, field.image, step=step)
        over_rows, over_columns = (
            _shares(size, cells, step=step, patch=field.patch_px, stride=stride).to(engine.device)
            for size, cells in zip(field.image.shape[-2:], features.shape[1:], strict=True)
        )
        pooled = (over_rows @ features @ over_columns.T).flatten(1).T  # (window, feature)
        chosen = torch.from_numpy(field.windows).to(engine.device)
        values[field.windows] = engine.say(pooled[chosen]).cpu().numpy()
    return values.reshape(*field.foreground.shape, engine.columns)


def _tiled(engine: Engine, image: torch.Tensor, *, step: int) -> torch.Tensor:
    """Features (feature, row, column) of a field ([z,] y, x), one per `step` pixels."""
    height, width = (math.ceil(size / step) for size in image.shape[-2:])
    medium = float(normalise(torch.zeros(()), engine.card))
    beyond = (0, width * step - image.shape[-1], 0, height * step - image.shape[-2])
    image = torch.nn.functional.pad(image, beyond, value=medium)
    tile, margin = (max(1, pixels // step) for pixels in (TILE_PX, MARGIN_PX))
    rows = []
    for top in range(0, height, tile):
        bands = []
        for left in range(0, width, tile):
            (up, down), (begin, end) = (
                (max(0, first - margin), min(size, first + tile + margin))
                for first, size in ((top, height), (left, width))
            )
            features = _feature_map(engine, image[..., up * step : down * step, begin * step : end * step])
            bands.append(features[:, top - up :, left - begin :][:, :tile, :tile])
        rows.append(torch.cat(bands, dim=2))
    return torch.cat(rows, dim=1)


@torch.inference_mode()
def _feature_map(engine: Engine, image: torch.Tensor) -> torch.Tensor:
    """What goes into the network's last pooling, (feature, row, column), of an image ([z,] y, x)."""
    seen: list[torch.Tensor] = []
    pooling = engine.body.get_submodule("avgpool")
    hook = pooling.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0].float()))
    try:
        engine.body(image[None, None].contiguous(memory_format=engine.layout))
    finally:
        hook.remove()
    return seen[0] if seen[0].ndim == 3 else seen[0].mean(dim=1)


def _shares(size: int, cells: int, *, step: int, patch: int, stride: int) -> torch.Tensor:
    """How much of each window along one axis lies on each feature, (window, cell)."""
    first = torch.from_numpy(window_grid(size, patch=patch, stride=stride))[:, None]
    cell = torch.arange(cells) * step
    overlap = torch.minimum(first + patch, cell + step) - torch.maximum(first, cell)
    return overlap.clamp_(min=0).float() / patch
