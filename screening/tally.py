"""What the patches of each frame say, summed: enough for the fractions of wells, little enough to keep in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from plates.ingest.tables import DONE
from plates.patches import PATCH_PX
from plates.states import DEAD, STATES
from plates.store import Plate
from screening.opened_files import Place
from screening.regions import RUN, read_record, read_region, work_folder

if TYPE_CHECKING:
    import xarray as xr

QUICK_STRIDE = 2 * PATCH_PX
"""Every fourth window: every second one along both axes."""


@dataclass(frozen=True)
class Counted:
    """One frame: summed probability of each state, number of patches with cells, and whether it is a first look."""

    sums: NDArray[np.float64]
    patches: int
    provisional: bool = False

    @property
    def death(self) -> float:
        """Share of dead cells; NaN where no patch has cells."""
        return float(self.sums[: len(DEAD)].sum() / self.patches) if self.patches else float("nan")


class Tally:
    """All frames of one plate. First looks live here alone and are never stored."""

    def __init__(self) -> None:
        self.frames: dict[Place, Counted] = {}

    def read(self, plate: Plate, places: Collection[Place]) -> set[Place]:
        """Take up frames that were classified; return those that were, of the ones asked for."""
        folder = work_folder(plate.path)
        runs: dict[Place, list[int]] = defaultdict(list)
        for well, field, timepoint in places:
            runs[well, field, timepoint // RUN].append(timepoint)
        found = set()
        for (well, field, run), timepoints in runs.items():
            record = read_record(folder, (well, field, run))
            done = [] if record is None else [t for t in timepoints if record.status.get(t) == DONE]
            if not done:
                continue
            length = min(RUN, plate.timepoints - run * RUN)
            probability = read_region(folder, (well, field, run), timepoints=length)["probability"]
            for timepoint in done:
                self.frames[well, field, timepoint] = _count(probability[timepoint - run * RUN])
                found.add((well, field, timepoint))
        return found

    def look_quickly(
        self, plate: Plate, places: Sequence[tuple[Place, float]], *, classifier: Path, device: str
    ) -> Iterator[Place]:
        """Classify every fourth window of frames and yield each as it is counted.

        Parameters
        ----------
        places
            Frames, each with the index of its medium.
        """
        from models.inference import cached_classifier, classify_fields

        loaded = cached_classifier(classifier.resolve(), device=device)
        volumes = loaded.card.planes is not None

        def images() -> Iterator[tuple[NDArray[np.uint16], Any, float]]:
            for (well, field, timepoint), medium in places:
                read = plate.volume if volumes else plate.projection
                counts = read(well, field=field, timepoint=timepoint)
                yield counts, plate.voxel_um if volumes else plate.voxel_um[1:], medium

        for (place, _), answer in zip(places, classify_fields(loaded, images(), stride=QUICK_STRIDE), strict=True):
            self.frames[place] = _count(answer.probability, provisional=True)
            yield place

    def fractions(self, plate: Plate, layout: xr.Dataset) -> xr.Dataset:
        """Fractions of every well of the plate map over time, as the result `fractions` has them, without intervals.

        Returns
        -------
        Dataset
            (well, timepoint, state) `fraction`; (well, timepoint) `death`, `patches`, and `provisional`: whether a
            first look is among them. NaN where no patch has cells.
        """
        import xarray as xr

        wells = {str(well): row for row, well in enumerate(layout["well"].values)}
        shape = (len(wells), plate.fields, plate.timepoints)
        sums = np.zeros((*shape, len(STATES)))
        patches = np.zeros(shape, dtype=np.int64)
        provisional = np.zeros((shape[0], shape[2]), dtype=bool)
        for (well, field, timepoint), counted in self.frames.items():
            if well in wells and field < shape[1] and timepoint < shape[2]:
                sums[wells[well], field, timepoint] = counted.sums
                patches[wells[well], field, timepoint] = counted.patches
                provisional[wells[well], timepoint] |= counted.provisional
        number = patches.sum(axis=1)
        filled = np.where(number > 0, number, 1)[..., None]
        mean = np.where(number[..., None] > 0, sums.sum(axis=1) / filled, np.nan)
        death = np.where(number > 0, sums[..., : len(DEAD)].sum(axis=-1).sum(axis=1) / filled[..., 0], np.nan)
        return xr.Dataset(
            {
                "fraction": (("well", "timepoint", "state"), mean),
                "death": (("well", "timepoint"), death),
                "patches": (("well", "timepoint"), number),
                "provisional": (("well", "timepoint"), provisional),
            },
            coords={
                "well": layout["well"].values.astype(object),
                "timepoint": np.arange(plate.timepoints),
                "state": list(STATES),
                "hours": ("timepoint", np.array(plate.hours, dtype=np.float64)),
                **{name: ("well", layout[name].values) for name in layout.variables if name != "well"},
            },
        )


def _count(probability: NDArray[np.float32], *, provisional: bool = False) -> Counted:
    values = probability.reshape(-1, probability.shape[-1])
    counted: NDArray[np.bool_] = np.asarray(np.isfinite(values).all(axis=-1))
    sums = np.where(counted[:, None], values, 0).sum(axis=0, dtype=np.float64)
    return Counted(sums, int(counted.sum()), provisional)
