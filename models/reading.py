"""Images are read by a thread of their own, ahead of the device, into memory that a GPU can fetch from by itself."""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from .timing import Timing

# Images read while the device computes: one is in work, so many wait. A volume takes up to 2 GB.
PROJECTIONS_AHEAD, VOLUMES_AHEAD = 2, 1

T = TypeVar("T")
Image = tuple[npt.NDArray[np.uint16], tuple[float, ...], float]


class Mark(Protocol):
    """A place in a GPU's work that can be waited for."""

    def query(self) -> bool:
        """Whether the GPU has passed it."""
        ...

    def synchronize(self) -> None:
        """Wait until the GPU has passed it."""
        ...


@dataclass
class Slot:
    """A place for one image; `uploaded` is set by who fetches it, and waited for before the next image comes."""

    memory: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int16))
    uploaded: Mark | None = None


class Staged(NamedTuple):
    """An image that was read: counts as int16, pixel size, medium, and the slot that it lies in."""

    counts: torch.Tensor
    voxel_um: tuple[float, ...]
    medium_index: float
    slot: Slot


def read_ahead(
    images: Iterable[Image], *, ahead: int, stage: Callable[[Image], Staged], timing: Timing
) -> Generator[Staged, None, None]:
    """Iterate in a thread of its own, `ahead` images before the caller; its errors surface here."""
    ready: queue.Queue[Staged | BaseException | None] = queue.Queue(maxsize=ahead)
    stopped = threading.Event()

    def offer(item: Staged | BaseException | None) -> None:
        while not stopped.is_set():
            with suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return

    def read() -> None:
        try:
            source = iter(images)
            while not stopped.is_set():
                begun = time.perf_counter()
                image = next(source, None)
                staged = None if image is None else stage(image)
                timing.reading_s += time.perf_counter() - begun
                offer(staged)
                if staged is None:
                    return
        except BaseException as error:  # the caller's thread raises it
            offer(error)

    thread = threading.Thread(target=read, name="read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            begun = time.perf_counter()
            item = ready.get()
            timing.waiting_s += time.perf_counter() - begun
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()


def in_threads(reads: Iterable[Callable[[], T]], *, threads: int) -> Iterator[T]:
    """Do each of many readings in one of several threads, and yield what they give in their order.

    For devices that are faster than one thread can decompress: use it inside the `images` of `classify_fields`. No more
    than `threads` readings wait for the caller. What a reading raises surfaces in its turn.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="reader")
    waiting: deque[Future[T]] = deque()
    try:
        for read in reads:
            waiting.append(pool.submit(read))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class PinnedRing:
    """Page-locked places for images, used in turn: from there a GPU fetches while the program goes on.

    Two places more than images are read ahead: when the reader comes to a place again, whoever took its last image
    has taken another one since, and has told the GPU to fetch it. What is left is to wait for the GPU.
    """

    def __init__(self, ahead: int, *, pinned: bool = True) -> None:
        self.slots = [Slot() for _ in range(ahead + 2)]
        self.pinned = pinned
        self.turn = 0

    def __call__(self, image: Image) -> Staged:
        """Copy an image into the next place."""
        counts, voxel_um, medium_index = image
        slot = self.slots[self.turn % len(self.slots)]
        self.turn += 1
        if slot.uploaded is not None:
            slot.uploaded.synchronize()
            slot.uploaded = None
        if slot.memory.numel() < counts.size:
            slot.memory = self._allocate(counts.size)
        place = slot.memory[: counts.size].view(counts.shape)
        np.minimum(counts, LARGEST, out=place.numpy().view(np.uint16))
        return Staged(place, voxel_um, medium_index, slot)

    def _allocate(self, size: int) -> torch.Tensor:
        if self.pinned:
            with suppress(RuntimeError):  # the system gives no more page-locked memory: plain memory will do
                return torch.empty(size, dtype=torch.int16, pin_memory=True)
        return torch.empty(size, dtype=torch.int16)


# torch has few operations for uint16; an index below 3.27 has the same bits in int16
LARGEST = np.uint16(32767)


def stage_in_place(image: Image) -> Staged:
    """An image as it was read, where the device works in the processor's own memory."""
    counts, voxel_um, medium_index = image
    if counts.max() > LARGEST:
        counts = np.minimum(counts, LARGEST)
    counts = np.require(counts, requirements=["C", "W"])  # what torch can look at without a copy
    return Staged(torch.from_numpy(counts.view(np.int16)), voxel_um, medium_index, Slot())
