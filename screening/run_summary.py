"""What a run of classification did and where its time went, in numbers and in words."""

import time
from dataclasses import asdict, dataclass, field
from typing import Any

from screening.units import Done


class Stopwatch:
    """Seconds since it was made, whatever happens to the wall clock."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def seconds(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self._started


@dataclass
class RunSummary:
    """A run of `classify_plate`.

    Attributes
    ----------
    frames, skipped, done
        Timepoints of fields in all, those whose numbers stood already, and those that this run did.
    reasons
        Why some were done again -> how many.
    wall_s, worked_s
        Seconds from start to end, and inside tasks, summed over workers.
    timing
        `models.timing.Timing` summed over workers.
    writing_s, write_wait_s, loading_s
        Seconds in which probabilities and maps were written beside the network, in which it waited for that, and in
        which the classifier was loaded.
    peak_bytes
        Most memory of a single worker.
    """

    plate: str
    classifier: str
    frames: int
    skipped: int
    workers: int
    reasons: dict[str, int] = field(default_factory=dict)
    done: int = 0
    failures: list[str] = field(default_factory=list)
    wall_s: float = 0.0
    worked_s: float = 0.0
    writing_s: float = 0.0
    write_wait_s: float = 0.0
    loading_s: float = 0.0
    timing: dict[str, float] = field(default_factory=dict)
    peak_bytes: int = 0
    hosts: set[str] = field(default_factory=set)
    devices: set[str] = field(default_factory=set)

    def add(self, task: Done) -> None:
        """Take up what a worker tells about a task."""
        from models.timing import Timing

        self.done += task.frames
        self.failures += task.failures
        self.worked_s += task.worked_s
        self.writing_s += task.writing_s
        self.write_wait_s += task.write_wait_s
        self.loading_s += task.loading_s
        self.peak_bytes = max(self.peak_bytes, task.peak_bytes)
        self.hosts |= {task.host} - {""}
        self.devices |= {task.device} - {""}
        if task.timing:
            total = Timing(**self.timing)  # type: ignore[arg-type]
            total.add(Timing(**task.timing))  # type: ignore[arg-type]
            self.timing = total.as_dict()

    @property
    def tried(self) -> int:
        """Timepoints of fields that were done or failed."""
        return self.done + len(self.failures)

    @property
    def efficiency(self) -> float:
        """Share of the workers' time, once they had the classifier, in which the network computed.

        NaN where nothing was done.
        """
        working = self.worked_s - self.loading_s
        return self.timing["computing_s"] / working if self.timing and working > 0 else float("nan")

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        return {
            **asdict(self),
            "hosts": sorted(self.hosts),
            "devices": sorted(self.devices),
            "efficiency": self.efficiency,
        }

    def lines(self) -> list[str]:
        """The run in a few lines."""
        done = f"{self.done} fields and timepoints classified by {self.classifier}"
        told = [f"{self.plate}: {done}, {self.skipped} done before"]
        told += [f"  {count} done again: {reason}" for reason, count in self.reasons.items()]
        if not self.timing or not self.done:
            return told
        patches = int(self.timing["patches"])
        told.append(
            f"  {patches} patches with cells in {self.wall_s:.1f} s: {patches / max(self.wall_s, 1e-9):.0f} patches/s "
            f"with {self.workers} worker{'s' if self.workers > 1 else ''} on {', '.join(sorted(self.devices))}"
        )
        told.append(f"  the workers' time: {self._shares()}")
        if self.timing.get("held_batch"):
            told.append(
                f"  the device's memory did not hold the batches asked for: some were cut down to "
                f"{self.timing['held_batch']}"
            )
        memory = f"  most memory of a worker: {self.peak_bytes / 1e9:.1f} GB"
        if self.timing["peak_device_bytes"]:
            memory += f", of its device: {self.timing['peak_device_bytes'] / 1e9:.1f} GB"
        return [*told, memory]

    def _shares(self) -> str:
        parts = {
            "network": self.timing["computing_s"],
            "preparing": self.timing["preparing_s"],
            "waiting for images": self.timing["waiting_s"],
            "waiting for the disk to write": self.write_wait_s,
            "loading the classifier": self.loading_s,
        }
        parts["other"] = max(0.0, self.worked_s - sum(parts.values()))
        shown = ", ".join(f"{name} {seconds / self.worked_s:.0%}" for name, seconds in parts.items())
        beside = {"reading": self.timing["reading_s"], "writing": self.writing_s}
        return f"{shown} (beside it: {', '.join(f'{name} {s / self.worked_s:.0%}' for name, s in beside.items())})"
