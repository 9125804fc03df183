"""How fast this machine classifies: the network alone, a plate from end to end, and how long a plate would take."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from plates.creation import create_plate
from plates.errors import SettingsError
from plates.layout.wells import FORMATS, well_name
from plates.patches import PATCH_PX, UM_PER_PX
from plates.results import has_result, read_result, write_result
from plates.store import open_plate
from screening.classify import Progress, classify_plate
from screening.fingerprints import provenance
from screening.run_summary import RunSummary

SECONDS = 15.0
MOST_FIELDS = 384
SIMULATED_PX = 1440  # 230 um, a usual field

Image = tuple[NDArray[np.uint16], float]


@dataclass(frozen=True)
class Speed:
    """What was measured.

    Attributes
    ----------
    network
        Patches per second of the network alone, in this process.
    run
        Of the fields that were classified from a stored plate.
    field_um
        Size (y, x) of these fields.
    """

    network: float
    run: RunSummary
    device: str
    stride: int
    fields: int
    field_um: tuple[float, float]
    simulated: bool

    @property
    def rate(self) -> float:
        """Patches per second from end to end, all workers together, once they have started."""
        return float(self.run.timing["patches"]) * self.run.workers / (self.run.worked_s - self.run.loading_s)

    def hours(self, *, wells: int, fields: int, timepoints: int) -> float:
        """How long a plate of such fields takes."""
        patches = float(self.run.timing["patches"]) / self.fields * wells * fields * timepoints
        return patches / self.rate / 3600

    def lines(self, *, wells: int, fields: int, timepoints: int) -> list[str]:
        """All of it in words, with the time for a plate of that size."""
        size = " x ".join(f"{side:.0f}" for side in self.field_um)
        kind = "simulated fields" if self.simulated else "fields of the plate"
        patches = self.run.timing["patches"] / self.fields
        hours = self.hours(wells=wells, fields=fields, timepoints=timepoints)
        took = f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"
        return [
            f"{self.run.classifier} on {self.device}: {self.fields} {kind}, {size} um, a window every {self.stride} px",
            f"  the network alone: {self.network:.0f} patches/s in one process",
            *self.run.lines()[1:],
            f"  end to end, once started: {self.rate:.0f} patches/s; the network computes {self.run.efficiency:.0%} of "
            "the workers' time",
            f"A plate of {wells} wells x {fields} fields x {timepoints} timepoints with {patches:.0f} patches a field "
            f"takes about {took}.",
        ]


def measure(
    classifier: Path,
    *,
    plate: Path | None = None,
    stride: int = PATCH_PX,
    batch: int | None = None,
    device: str = "auto",
    client: Any = None,
    seconds: float = SECONDS,
    progress: Progress | None = None,
) -> Speed:
    """Time a classifier on this machine.

    Fields are written into a plate of their own in a temporary folder and classified as `tomoscreen classify`
    does it; the plate given stays as it is.

    Parameters
    ----------
    plate
        A converted plate, whose first fields are taken; without one a field is simulated.
    stride, batch, device, client
        As in `classify_plate`.
    seconds
        About how long the fields are to keep the workers busy.
    """
    from models.engine import pure_forward_rate
    from models.inference import cached_classifier

    loaded = cached_classifier(classifier, device=device)
    if loaded.card.planes is not None:
        raise SettingsError(f"{classifier} looks at volumes; only classifiers of projections can be timed yet.")
    network = pure_forward_rate(loaded, batch=batch)
    images, pixel_um = _stored(plate) if plate is not None else (_simulated(), (UM_PER_PX, UM_PER_PX))
    shape = images[0][0].shape
    windows = max(1.0, np.prod([size * um / UM_PER_PX / stride for size, um in zip(shape, pixel_um, strict=True)]))
    workers = 1 if client is None else max(1, len(client.nthreads()))
    fields = int(np.clip(seconds * network * workers / windows, 2 * workers, MOST_FIELDS))
    with tempfile.TemporaryDirectory(prefix="tomoscreen-bench-") as folder:
        made = _write(Path(folder), list(islice(cycle(images), fields)), pixel_um=pixel_um)
        run = classify_plate(
            made, classifier=classifier, stride=stride, batch=batch, device=device, client=client, progress=progress
        )
    return Speed(
        network=network,
        run=run,
        device=str(loaded.device),
        stride=stride,
        fields=fields,
        field_um=(shape[0] * pixel_um[0], shape[1] * pixel_um[1]),
        simulated=plate is None,
    )


def _stored(path: Path, most: int = 8) -> tuple[list[Image], tuple[float, float]]:
    """The first fields of a plate that have cells to show."""
    plate = open_plate(path)
    medium = read_result(path, "fields")["medium_index"] if has_result(path, "fields") else None
    found: list[Image] = []
    for well in plate.wells if medium is not None else ():
        value = float(medium.sel(well=well).isel(field=0, timepoint=0)) if medium is not None else np.nan
        if np.isfinite(value) and len(found) < most:
            found.append((plate.projection(well, field=0, timepoint=0), value))
    if not found:
        raise SettingsError(f"{path} holds no converted field at its first timepoint. Give another plate, or none.")
    return found, plate.voxel_um[1:]


def _simulated() -> list[Image]:
    """A usual field, from one that is simulated in small and laid side by side."""
    from plates.simulation.cells import CellLine, make_cell
    from plates.simulation.death import NEVER, Fate
    from plates.simulation.drawing import draw_field

    line, rng = CellLine(), np.random.default_rng(0)
    side, pitch = SIMULATED_PX // 3, UM_PER_PX
    alive = Fate("apoptosis", *(NEVER,) * 5)
    extent = side * pitch
    places = [(y, x) for y in (0.2, 0.55, 0.85) for x in (0.2, 0.5, 0.8)]
    cells = [make_cell(rng, y=y * extent, x=x * extent, fate=alive, line=line) for y, x in places]
    contrast, _ = draw_field(cells, hours=1.0, shape=(12, side, side), voxel_um=(1.0, pitch, pitch), rng=rng)
    index = contrast.max(axis=0) + line.medium_index
    counts = np.rint(np.tile(index, (3, 3)) * 1e4).astype(np.uint16)
    return [(counts, line.medium_index)]


def _write(folder: Path, images: Sequence[Image], *, pixel_um: tuple[float, float]) -> Path:
    """A plate with one image a well, as conversion leaves it."""
    rows, columns = FORMATS[384]
    names = [well_name(number // columns, number % columns) for number in range(len(images))]
    path = folder / "bench.zarr"
    made = create_plate(
        path,
        name="bench",
        wells=names,
        fields=1,
        timepoints=1,
        shape_zyx=(1, *images[0][0].shape),
        voxel_um=(1.0, *pixel_um),
        rows=rows,
        columns=columns,
        hours=(0.0,),
        provenance={"step": "bench"},
    )
    for well, (counts, _) in zip(names, images, strict=True):
        made.write_field(well, field=0, timepoint=0, volume=counts[None])
    medium = np.array([value for _, value in images])[:, None, None]
    fields = xr.Dataset({"medium_index": (("well", "field", "timepoint"), medium)}, coords={"well": names})
    write_result(path, "fields", fields, provenance=provenance("bench", ""))
    return path
