"""A small made-up campaign for fault tests: four wells of three frames, every voxel known; seconds for all steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from plates.simulation.acquisition import Variant, acquisition_name, write_tcf

WELLS = ("A01", "A02", "B01", "B02")
FRAMES = 3
SHAPE = (8, 176, 176)  # one patch of 160 px at 0.16 um
VOXEL_UM = (0.95, 0.16, 0.16)
START = datetime(2026, 3, 14, 9, 26, 53)
MEDIUM = 13370

PLATE_MAP = """well,compound,dose (uM),control,inducer
A01,DMSO,,negative,
A02,TNF + zVAD,0.02,positive,necroptosis
B01,doxorubicin,0.3,none,
B02,doxorubicin,3,none,
"""
SETTINGS = """[campaign]
name = "{name}"
out = "{out}"

{plates}
[classifier]
path = "{classifier}"
device = "cpu"

[classify]
batch = {batch}

[analysis]
draws = 100

[workers]
count = {workers}
"""
PLATE = """[[plates]]
name = "{name}"
acquisitions = "{name}"
layout = "{name}.csv"

"""


@dataclass(frozen=True)
class SmallCampaign:
    """Where the parts of a small campaign lie, and what its tomograms hold.

    Attributes
    ----------
    settings
        Its screen.toml.
    acquisitions, layouts
        Plate -> folder of TCF files, and plate map.
    out
        Where a run puts its results.
    truth
        (plate, well, field, timepoint) -> counts (z, y, x).
    """

    folder: Path
    settings: Path
    acquisitions: Mapping[str, Path]
    layouts: Mapping[str, Path]
    classifier: Path
    out: Path
    truth: Mapping[tuple[str, str, int, int], np.ndarray]

    def store(self, plate: str = "P001") -> Path:
        """Where a run puts a plate."""
        return self.out / f"{plate}.zarr"

    def tcf(self, well: str = "A01", *, field: int = 0, plate: str = "P001") -> Path:
        """The TCF file of a field."""
        (found,) = self.acquisitions[plate].rglob(f"*.{well[0]}{int(well[1:])}.T001P{field + 1:02d}.TCF")
        return found


def write_small_campaign(
    folder: Path,
    *,
    classifier: Path | None = None,
    plates: Sequence[str] = ("P001",),
    wells: Sequence[str] = WELLS,
    fields: int = 1,
    frames: int = FRAMES,
    shape: tuple[int, int, int] = SHAPE,
    variant: Variant = "uint16",
    workers: int = 1,
    batch: int = 8,
    seed: int = 0,
    **changes: Any,
) -> SmallCampaign:
    """Write TCF files, plate maps and a screen.toml into a folder.

    Parameters
    ----------
    classifier
        Folder of a classifier (see `write_untrained_classifier`); by default one is written beside the settings.
    wells
        Wells imaged, of those in `PLATE_MAP`; the plate maps list these only.
    changes
        To every file: arguments of `plates.simulation.acquisition.write_tcf`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if classifier is None:
        classifier = write_untrained_classifier(folder / "classifier")
    truth: dict[tuple[str, str, int, int], np.ndarray] = {}
    layouts: dict[str, Path] = {}
    for number, plate in enumerate(plates):
        header, *lines = PLATE_MAP.splitlines()
        layouts[plate] = folder / f"{plate}.csv"
        layouts[plate].write_text("\n".join([header, *(line for line in lines if line[:3] in wells)]) + "\n")
        for place, well in enumerate(wells):
            for field in range(fields):
                draw = ((seed * 10 + number) * 100 + place) * 10 + field
                images = [made_up_tomogram(draw * 100 + frame, shape=shape) for frame in range(frames)]
                truth |= {(plate, well, field, frame): image for frame, image in enumerate(images)}
                write_small_acquisition(
                    folder / plate, well, images, field=field, number=place + 1, variant=variant, **changes
                )
    settings = folder / "screen.toml"
    out = folder / "results"
    settings.write_text(
        SETTINGS.format(
            name="small",
            out=out.as_posix(),
            plates="".join(PLATE.format(name=plate) for plate in plates),
            classifier=classifier.as_posix(),
            workers=workers,
            batch=batch,
        ),
        encoding="utf-8",
    )
    return SmallCampaign(
        folder=folder,
        settings=settings,
        acquisitions={plate: folder / plate for plate in plates},
        layouts=layouts,
        classifier=classifier,
        out=out,
        truth=truth,
    )


def write_small_acquisition(
    folder: Path, well: str, images: Sequence[np.ndarray], *, field: int = 0, number: int = 1, **changes: Any
) -> Path:
    """Write one TCF file, named and placed as the instrument does; `changes` go to `write_tcf`."""
    name = acquisition_name(
        START + timedelta(seconds=number),
        experiment="death v1.2 HeLa",
        number=number,
        group="Group1",
        well=well,
        suffix=f"T001P{field + 1:02d}",
    )
    arguments: dict[str, Any] = {
        "voxel_um": VOXEL_UM,
        "times_s": [3600.0 * frame for frame in range(len(images))],
        "medium_index": MEDIUM / 1e4,
        "recording_time": START + timedelta(seconds=number),
        "well": well,
    }
    return write_tcf(folder / Path(name).stem / name, frames=images, **{**arguments, **changes})


def made_up_tomogram(seed: int, *, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Counts (z, y, x): medium with noise, and bright blocks that cover about a third of the field."""
    rng = np.random.default_rng(seed)
    counts = np.rint(MEDIUM + rng.normal(0, 3, shape)).astype(np.uint16)
    depth, height, width = shape
    for _ in range(8):
        y, x = rng.integers(0, max(1, height - height // 4)), rng.integers(0, max(1, width - width // 4))
        bright = rng.integers(150, 600)
        counts[1 : max(2, depth - 1), y : y + height // 4, x : x + width // 4] += np.uint16(bright)
    return counts


def write_untrained_classifier(folder: Path) -> Path:
    """A ResNet-18 that has seen nothing: its numbers are arbitrary, but always the same."""
    import torch

    from models.classifier import Card, build_classifier, save_classifier

    torch.manual_seed(3)
    card = Card(name="untrained", architecture="resnet18", trained_on="nothing")
    save_classifier(build_classifier(card), folder)
    return folder
