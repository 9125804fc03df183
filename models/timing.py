"""Where the time of an inference went: reading, waiting, preparing, computing."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from dataclasses import fields as fields_of


@dataclass
class Timing:
    """Seconds and counts of one run of the engine; added up over runs, tasks and workers with `+` or `add`.

    Attributes
    ----------
    reading_s
        Time that the reading thread spent on images, beside the device's work.
    waiting_s
        Time that the device stood still for want of an image.
    preparing_s
        Time that the device's thread spent on normalising, cutting and uploading.
    computing_s
        Time in the network. On a GPU, whose work runs behind the program, this is the time spent waiting
        for it to finish.
    patches, fields
        Windows that the network saw (background and padding left out), and images that were classified.
    peak_device_bytes
        Most memory of a GPU in use at once; 0 on a CPU. Of several, the largest.
    held_batch
        Windows of the batches that the device's memory held, where it did not hold those asked for; 0 where it did.
        Of several, the smallest.
    """

    reading_s: float = 0.0
    waiting_s: float = 0.0
    preparing_s: float = 0.0
    computing_s: float = 0.0
    patches: int = 0
    fields: int = 0
    peak_device_bytes: int = 0
    held_batch: int = 0

    def add(self, other: "Timing") -> None:
        """Take up what another run measured."""
        for name in (field.name for field in fields_of(self)):
            mine, theirs = getattr(self, name), getattr(other, name)
            if name == "held_batch":
                setattr(self, name, min(mine or theirs, theirs or mine))
            else:
                setattr(self, name, max(mine, theirs) if name == "peak_device_bytes" else mine + theirs)

    def __add__(self, other: "Timing") -> "Timing":
        total = replace(self)
        total.add(other)
        return total

    @contextmanager
    def measuring(self, what: str) -> Iterator[None]:
        """Add the time that passes within it to one of the measurements."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, what, getattr(self, what) + time.perf_counter() - begun)

    def as_dict(self) -> dict[str, float]:
        """The measurements by name, to be written or sent."""
        return asdict(self)
