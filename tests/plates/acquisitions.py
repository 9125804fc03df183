"""Small folders of acquisitions whose every voxel is known."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from plates.simulation.acquisition import Variant, acquisition_name, write_tcf

SHAPE = (6, 70, 64)
VOXEL_UM = (0.95, 0.16, 0.16)
START = datetime(2026, 3, 14, 9, 26, 53)

Truth = dict[tuple[str, int, int], np.ndarray]


def tomogram(seed: int, *, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Medium at 1.3370 with noise, a bright block, and a rim that was not reconstructed (0)."""
    rng = np.random.default_rng(seed)
    counts = np.rint(13370 + rng.normal(0, 3, shape)).astype(np.uint16)
    counts[1:4, 20:40, 10:30] += 400
    counts[:, :, :2] = 0
    return counts


def write_one(path: Path, frames: Sequence[np.ndarray], **changes: Any) -> Path:
    """One TCF file with plain settings."""
    settings: dict[str, Any] = {
        "voxel_um": VOXEL_UM,
        "times_s": [1800.0 * number for number in range(len(frames))],
        "medium_index": 1.337,
        "recording_time": START,
    }
    return write_tcf(path, frames=frames, **{**settings, **changes})


def write_folder(
    folder: Path,
    *,
    wells: Sequence[str] = ("A01", "A02", "B01"),
    fields: int = 2,
    timepoints: int = 2,
    variant: Variant = "uint16",
    shape: tuple[int, int, int] = SHAPE,
    experiment: str = "death v1.2 HeLa",
) -> Truth:
    """Time lapses named as the instrument names them; the truth by well, field and timepoint."""
    truth: Truth = {}
    for number, well in enumerate(wells):
        for field in range(fields):
            frames = [tomogram(1000 * number + 10 * field + t, shape=shape) for t in range(timepoints)]
            truth.update({(well, field, t): frame for t, frame in enumerate(frames)})
            name = acquisition_name(
                START + timedelta(seconds=number),
                experiment=experiment,
                number=number + 1,
                group="Group1",
                well=well,
                suffix=f"T001P{field + 1:02d}",
            )
            write_one(folder / Path(name).stem / name, frames, variant=variant, well=well)
    return truth
