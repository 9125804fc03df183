"""Projections of fields -> calibrated probabilities of every window, on one device kept busy."""

import copy
import hashlib
import logging
import math
import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from plates.patches import FOREGROUND_INDEX, FOREGROUND_SHARE, window_grid

from .classifier import (
    Card,
    Classifier,
    fast_dtype,
    load_classifier,
    normalise,
    read_card,
    relative_index,
    require_for_screening,
    to_analysis_scale,
)
from .shelf import CARD

CPU_BATCH = 16
GPU_BATCH = 256
# Projections read while the device computes: one is in work, two wait.
READ_AHEAD = 2

Projection = tuple[npt.NDArray[np.uint16], tuple[float, float], float]
log = logging.getLogger("tomoscreen")


class FieldProbabilities(NamedTuple):
    """What a classifier says about one field, on its grid of windows."""

    probability: npt.NDArray[np.float32]  # (row, column, state); NaN for background
    foreground: npt.NDArray[np.float32]  # (row, column) share of pixels above the medium; NaN for missing
    # (row, column) distance from the training data; NaN for background, and where the classifier knows none
    outlier: npt.NDArray[np.float32]


def classify_projections(
    classifier: Classifier,
    projections: Iterable[Projection],
    *,
    stride: int | None = None,
    batch: int | None = None,
) -> Iterator[FieldProbabilities]:
    """Classify the windows of any number of fields, one result per projection and in their order.

    Windows of several fields share batches of one constant size, the last one padded: a window's
    probabilities therefore do not depend on which fields come together. `projections` is read by a
    thread of its own, ahead of the device.

    Parameters
    ----------
    classifier
        On the device that is to compute. On a CPU give each process one thread and run one per core.
    projections
        For each field: counts (y, x) as stored (refractive index times 10,000; 0 is missing and read as
        medium), pixel size in um (y, x), refractive index of the medium (NaN: all of the
        field is missing).
    stride
        Distance between windows in pixels at the classifier's scale; by default a whole patch.
    batch
        Windows per batch; 16 on a CPU and 256 on a GPU by default. Halved, with one warning, when the
        GPU's memory runs out.

    Yields
    ------
    result
        Probabilities, foreground shares and outlier scores. A window whose foreground share is not above 0.05 is
        background: it is not shown to the network, and its probabilities and outlier score are NaN.
    """
    engine = _engine(classifier)
    card = classifier.card
    batches = _Batches(engine, batch or (CPU_BATCH if engine.device.type == "cpu" else GPU_BATCH))
    fields: deque[_Field] = deque()
    for counts, voxel_um, medium_index in _read_ahead(projections):
        field = _Field(
            counts,
            voxel_um=voxel_um,
            medium_index=medium_index,
            card=card,
            stride=stride or card.patch_px,
            engine=engine,
        )
        fields.append(field)
        batches.add(field)
        while fields and fields[0].open_windows == 0:
            yield fields.popleft().result()
    batches.flush()
    for field in fields:
        yield field.result()


def cached_classifier(path: Path, *, device: str = "auto") -> Classifier:
    """Load a classifier once per process, device and content: what a worker calls for each task."""
    require_for_screening(read_card(path), path=path)
    # the card holds the hash of the weights, and what they do not show: temperature, window, threshold
    return _loaded(path, hashlib.sha256((path / CARD).read_bytes()).hexdigest(), device)


@lru_cache(maxsize=2)
def _loaded(path: Path, card_sha256: str, device: str) -> Classifier:
    return load_classifier(path, device=device)


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """A copy of a ResNet whose convolutions have taken up their BatchNorm: the same function, less work."""
    folded = copy.deepcopy(network).eval()
    for module in list(folded.modules()):
        children = dict(module.named_children())
        pairs = [(name, "bn" + name.removeprefix("conv")) for name in children if name.startswith("conv")]
        if isinstance(module, nn.Sequential):  # the shortcut of a ResNet's block
            pairs = [("0", "1")]
        for first, second in pairs:
            convolution, norm = children.get(first), children.get(second)
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, first, fuse_conv_bn_eval(convolution, norm))
                setattr(module, second, nn.Identity())
    return folded


class _Engine:
    """A classifier's network made fast: BatchNorm folded, channels last, bfloat16 where that is native."""

    def __init__(self, classifier: Classifier) -> None:
        self.device = classifier.device
        self.dtype = fast_dtype(self.device)
        self.temperature = classifier.card.temperature
        body = fold_batch_norm(classifier.network)
        # the head stays float32: logits of 8 bits would cut the probabilities into steps
        self.head = body.get_submodule("fc")
        body.fc = nn.Identity()
        self.body = body.to(self.device, self.dtype).to(memory_format=torch.channels_last)
        self.outliers = classifier.outliers
        self.columns = len(classifier.card.states) + 1

    @torch.inference_mode()
    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        """(batch, 1, y, x) as normalised -> (batch, state + 1): probabilities, then the outlier score."""
        features = self.body(windows.contiguous(memory_format=torch.channels_last)).float()
        probability = torch.softmax(self.head(features) / self.temperature, dim=1)
        if self.outliers is None:
            score = probability.new_full((len(probability), 1), torch.nan)
        else:
            score = self.outliers.score_torch(features)[:, None]
        return torch.cat([probability, score], dim=1)


@lru_cache(maxsize=2)
def _engine(classifier: Classifier) -> _Engine:
    return _Engine(classifier)


class _Field:
    """One field on the device: its normalised image, its windows, and the answers so far."""

    @torch.inference_mode()
    def __init__(
        self,
        counts: npt.NDArray[np.uint16],
        *,
        voxel_um: tuple[float, float],
        medium_index: float,
        card: Card,
        stride: int,
        engine: _Engine,
    ) -> None:
        # torch has few operations for uint16; an index below 3.27 has the same bits in int16
        stored = torch.from_numpy(np.minimum(counts, np.uint16(32767)).view(np.int16)).to(engine.device)
        relative = to_analysis_scale(relative_index(stored, medium_index=medium_index), voxel_um=voxel_um)
        rows, columns = (window_grid(size, patch=card.patch_px, stride=stride) for size in relative.shape)
        self.shape = (len(rows), len(columns))
        share = _window_means(relative > FOREGROUND_INDEX, rows, columns, card.patch_px)
        measured = to_analysis_scale((stored != 0).float(), voxel_um=voxel_um)
        unknown = _window_means(measured > 0, rows, columns, card.patch_px) == 0
        share[unknown | (not math.isfinite(medium_index))] = torch.nan
        self.foreground = share
        self.image = normalise(relative, card).to(engine.dtype)
        axis = torch.arange(card.patch_px, device=engine.device)
        self.rows = torch.from_numpy(rows).to(engine.device)[:, None] + axis
        self.columns = torch.from_numpy(columns).to(engine.device)[:, None] + axis
        self.windows = torch.nonzero(share.flatten() > FOREGROUND_SHARE).flatten()
        self.open_windows = len(self.windows)
        self.answers = torch.full((share.numel(), engine.columns), torch.nan, dtype=torch.float32, device=engine.device)

    def cut(self, windows: torch.Tensor) -> torch.Tensor:
        """(window,) -> (window, 1, y, x) of the normalised image."""
        row = torch.div(windows, self.shape[1], rounding_mode="floor")
        column = windows % self.shape[1]
        return self.image[self.rows[row][:, :, None], self.columns[column][:, None, :]][:, None]

    def answer(self, windows: torch.Tensor, answers: torch.Tensor) -> None:
        """Note what the network says about some windows."""
        self.answers[windows] = answers
        self.open_windows -= len(windows)

    def result(self) -> FieldProbabilities:
        """The finished field."""
        answers = self.answers.cpu().numpy().reshape(*self.shape, -1)
        return FieldProbabilities(
            np.ascontiguousarray(answers[..., :-1]), self.foreground.cpu().numpy(), answers[..., -1].copy()
        )


class _Batches:
    """Windows of fields in turn, packed into batches of one size."""

    def __init__(self, engine: _Engine, size: int) -> None:
        self.engine, self.size, self.part = engine, size, size
        self.waiting: list[tuple[_Field, torch.Tensor]] = []
        self.count = 0

    def add(self, field: _Field) -> None:
        """Queue all windows of a field and compute every batch that is full."""
        start = 0
        while start < len(field.windows):
            taken = field.windows[start : start + self.size - self.count]
            self.waiting.append((field, taken))
            self.count += len(taken)
            start += len(taken)
            if self.count == self.size:
                self.flush()

    @torch.inference_mode()
    def flush(self) -> None:
        """Compute the waiting windows as one batch, padded to its size."""
        if not self.waiting:
            return
        cut = torch.cat([field.cut(windows) for field, windows in self.waiting])
        if len(cut) < self.size:
            # the convolution's kernel, and with it the last bit, depends on the batch: keep it constant
            cut = torch.cat([cut, cut.new_zeros((self.size - len(cut), *cut.shape[1:]))])
        answers = self._compute(cut)
        start = 0
        for field, windows in self.waiting:
            field.answer(windows, answers[start : start + len(windows)])
            start += len(windows)
        self.waiting, self.count = [], 0

    def _compute(self, windows: torch.Tensor) -> torch.Tensor:
        while True:
            try:
                parts = [self.engine(windows[start : start + self.part]) for start in range(0, len(windows), self.part)]
                return torch.cat(parts)
            except torch.OutOfMemoryError:
                if self.part == 1:
                    raise
                if self.part == self.size:
                    log.warning(
                        "The memory of %s does not hold a batch of %d patches: going on with smaller ones.",
                        self.engine.device,
                        self.size,
                    )
                self.part = max(1, self.part // 2)
                if self.engine.device.type == "cuda":
                    torch.cuda.empty_cache()


def _window_means(
    mask: torch.Tensor, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], patch: int
) -> torch.Tensor:
    """Mean of a mask (y, x) over each window, as two products with bands of ones; exact up to 2**24."""

    def bands(offsets: npt.NDArray[np.int64], size: int) -> torch.Tensor:
        first = torch.from_numpy(offsets).to(mask.device)[:, None]
        place = torch.arange(size, device=mask.device)
        return ((place >= first) & (place < first + patch)).float()

    over_rows = bands(rows, mask.shape[0]) @ mask.float()
    return over_rows @ bands(columns, mask.shape[1]).T / patch**2


def _read_ahead(projections: Iterable[Projection]) -> Iterator[Projection]:
    """Iterate in a thread of its own, a few items ahead; its errors surface here."""
    ready: queue.Queue[Projection | BaseException | None] = queue.Queue(maxsize=READ_AHEAD)
    stopped = threading.Event()

    def offer(item: Projection | BaseException | None) -> None:
        while not stopped.is_set():
            with suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return

    def read() -> None:
        try:
            for item in projections:
                offer(item)
                if stopped.is_set():
                    return
            offer(None)
        except BaseException as error:  # the caller's thread raises it
            offer(error)

    thread = threading.Thread(target=read, name="read-ahead", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
