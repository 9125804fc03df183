"""Images of fields -> calibrated probabilities of every window, on one device kept busy."""

import hashlib
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from .classifier import Classifier, load_classifier, read_card, require_for_screening
from .engine import Engine, engine_of
from .fields import Field, prepare_field
from .reading import PROJECTIONS_AHEAD, VOLUMES_AHEAD, Image, Mark, PinnedRing, Staged, read_ahead, stage_in_place
from .shelf import CARD
from .timing import Timing

# Batches that a GPU may be told of before the first of them is waited for.
IN_FLIGHT = 4

log = logging.getLogger("tomoscreen")


class FieldProbabilities(NamedTuple):
    """What a classifier says about one field, on its grid of windows."""

    probability: npt.NDArray[np.float32]  # (row, column, state); NaN for background
    foreground: npt.NDArray[np.float32]  # (row, column) share of pixels above the medium; NaN for missing
    # (row, column) distance from the training data; NaN for background, and where the classifier knows none
    outlier: npt.NDArray[np.float32]


def classify_fields(
    classifier: Classifier,
    images: Iterable[Image],
    *,
    stride: int | None = None,
    batch: int | None = None,
    compiled: bool = False,
    timing: Timing | None = None,
) -> Iterator[FieldProbabilities]:
    """Classify the windows of any number of fields, one result per image and in their order.

    Windows of several fields share batches of one constant size, the last one padded: a window's
    probabilities therefore do not depend on which fields come together. `images` is read by a
    thread of its own, ahead of the device; on CUDA uploading and preparing run beside the network.

    Parameters
    ----------
    classifier
        On the device that is to compute. On a CPU give each process one thread and run one per core.
    images
        For each field: counts as stored (refractive index times 10,000; 0 is missing and read as medium),
        its pixel in um, and the refractive index of the medium (NaN: all of the field is missing). A maximum
        projection (y, x); the tomogram (z, y, x) for a classifier of volumes.
    stride
        Distance between windows in pixels at the classifier's scale; by default a whole patch.
    batch
        Windows per batch; by default 16 on a CPU and 256 on a GPU, of volumes 8 and 32. Halved, with one
        warning, when the device's memory runs out.
    compiled
        Compile the network first, on CUDA: a minute that pays from some ten thousand patches on.
    timing
        Told where the time goes, while it goes.

    Yields
    ------
    result
        Probabilities, foreground shares and outlier scores. A window whose foreground share is not above 0.05 is
        background: it is not shown to the network, and its probabilities and outlier score are NaN.
    """
    engine = engine_of(classifier, compiled)
    card = classifier.card
    timing = Timing() if timing is None else timing
    ahead = PROJECTIONS_AHEAD if card.planes is None else VOLUMES_AHEAD
    stage = PinnedRing(ahead) if engine.lane.apart else stage_in_place
    batches = _Batches(engine, batch or engine.default_batch, timing)
    answers: deque[_Answer] = deque()
    with closing(read_ahead(images, ahead=ahead, stage=stage, timing=timing)) as staged:
        for image in staged:
            with timing.measuring("preparing_s"), engine.lane.preparing():
                prepared = prepare_field(
                    _upload(image, engine),
                    voxel_um=image.voxel_um,
                    medium_index=image.medium_index,
                    card=card,
                    stride=stride or card.patch_px,
                    dtype=engine.dtype,
                )
            answers.append(batches.add(prepared))
            while answers and answers[0].is_there():
                yield _result(answers.popleft(), engine, timing)
    batches.flush()
    while answers:
        yield _result(answers.popleft(), engine, timing)


def cached_classifier(path: Path, *, device: str = "auto") -> Classifier:
    """Load a classifier once per process, device and content: what a worker calls for each task."""
    require_for_screening(read_card(path), path=path)
    # the card holds the hash of the weights, and what they do not show: temperature, window, threshold
    return _loaded(path, hashlib.sha256((path / CARD).read_bytes()).hexdigest(), device)


@lru_cache(maxsize=2)
def _loaded(path: Path, card_sha256: str, device: str) -> Classifier:
    return load_classifier(path, device=device)


def _upload(image: Staged, engine: Engine) -> torch.Tensor:
    """An image on the device, or on its way there; the slot that it came from knows when it has arrived."""
    counts = image.counts.to(engine.device, non_blocking=engine.lane.apart)
    image.slot.uploaded = engine.lane.mark()
    return counts


@dataclass(eq=False)
class _Answer:
    """What the network has said about a field so far; on a GPU, what it is going to have said."""

    foreground: npt.NDArray[np.float32]
    windows: npt.NDArray[np.int64]
    parts: list[torch.Tensor] = field(default_factory=list)
    answered: int = 0
    fetched: torch.Tensor | None = None  # (window, state + 1) in the processor's memory, once all is said
    arrived: Mark | None = None

    def is_there(self) -> bool:
        """Whether the answer can be read without waiting."""
        return self.answered == len(self.windows) and (self.arrived is None or self.arrived.query())


class _Batches:
    """Windows of fields in turn, packed into batches of one size."""

    def __init__(self, engine: Engine, size: int, timing: Timing) -> None:
        self.engine, self.size, self.part, self.timing = engine, size, size, timing
        self.waiting: list[tuple[_Answer, torch.Tensor]] = []
        self.count = 0
        self.in_flight: deque[Mark] = deque()

    def add(self, prepared: Field) -> _Answer:
        """Cut all windows of a field and compute every batch that is full."""
        answer = _Answer(prepared.foreground, prepared.windows)  # not the image: it need not stay
        start = 0
        while start < len(prepared.windows):
            stop = min(start + self.size - self.count, len(prepared.windows))
            with self.timing.measuring("preparing_s"), self.engine.lane.preparing():
                self.waiting.append((answer, prepared.cut(start, stop)))
            self.count += stop - start
            start = stop
            if self.count == self.size:
                self.flush()
        return answer

    @torch.inference_mode()
    def flush(self) -> None:
        """Compute the waiting windows as one batch, padded to its size."""
        if not self.waiting:
            return
        with self.timing.measuring("preparing_s"), self.engine.lane.preparing():
            cut = [windows for _, windows in self.waiting]
            if self.count < self.size:
                # the convolution's kernel, and with it the last bit, depends on the batch: keep it constant
                cut.append(cut[0].new_zeros((self.size - self.count, *cut[0].shape[1:])))
            windows = torch.cat(cut) if len(cut) > 1 else cut[0]
        with self.timing.measuring("computing_s"):
            said = self._compute(self.engine.lane.hand_over(windows))
            start = 0
            for answer, part in self.waiting:
                self._note(answer, said[start : start + len(part)])
                start += len(part)
            # a GPU is told of a few batches at once, so that it never waits for the next; not of any number,
            # for each holds memory
            mark = self.engine.lane.mark()
            if mark is not None:
                self.in_flight.append(mark)
            while len(self.in_flight) > IN_FLIGHT:
                self.in_flight.popleft().synchronize()
        self.timing.patches += self.count
        self.waiting, self.count = [], 0

    def _note(self, answer: _Answer, part: torch.Tensor) -> None:
        answer.parts.append(part)
        answer.answered += len(part)
        if answer.answered == len(answer.windows):
            answer.fetched = self.engine.lane.to_host(torch.cat(answer.parts))
            answer.arrived = self.engine.lane.mark()

    def _compute(self, windows: torch.Tensor) -> torch.Tensor:
        while True:
            try:
                parts = [self.engine(windows[start : start + self.part]) for start in range(0, len(windows), self.part)]
                return torch.cat(parts) if len(parts) > 1 else parts[0]
            except RuntimeError as error:
                # not all devices have an error of their own for it
                if "out of memory" not in str(error) or self.part == 1:
                    raise
                if self.part == self.size:
                    log.warning(
                        "The memory of %s does not hold a batch of %d patches: going on with smaller ones.",
                        self.engine.device,
                        self.size,
                    )
                self.part = self.timing.held_batch = max(1, self.part // 2)
            # not while the error is being handled: it holds what the network had come to
            self.engine.lane.free_memory()


def _result(answer: _Answer, engine: Engine, timing: Timing) -> FieldProbabilities:
    """The finished field; waits for a GPU where it must."""
    with timing.measuring("computing_s"):
        if answer.arrived is not None:
            answer.arrived.synchronize()
    foreground = answer.foreground
    values = np.full((foreground.size, engine.columns), np.nan, np.float32)
    if answer.fetched is not None:
        values[answer.windows] = answer.fetched.numpy()
    values = values.reshape(*foreground.shape, engine.columns)
    timing.fields += 1
    timing.peak_device_bytes = max(timing.peak_device_bytes, engine.lane.peak_bytes())
    return FieldProbabilities(np.ascontiguousarray(values[..., :-1]), foreground, values[..., -1].copy())
