"""The zarr.json files of a plate: what other people's readers see of it before they read a voxel."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import ngff
from .counts import SCALE_FACTOR
from .files import file_size, is_remote, write_text
from .integrity import seal, seal_broken
from .levels import Level
from .shards import KEY as KEY
from .shards import array_document, with_seal
from .states import COLOURS, STATES

if TYPE_CHECKING:
    from .store import Plate

# channel -> contrast limits in stored units
TOMOGRAM = {"RI": (13300, 13900)}
PROJECTIONS = {"maximum": (13300, 13900), "mean": (13300, 13600), "dry mass": (0, 30000)}
_LIGHTS = ("4A90FF", "3CE63C", "FF463C", "FFC828")  # blue, green, red, yellow: the usual stains in their order
CAMERA = (0, 4000)  # contrast limits of a fluorescence channel

_DOWNSCALING = "mean of the pixels that are there"


@dataclass(frozen=True)
class Sibling:
    """One of a plate's stores: where it is, what its images are.

    Attributes
    ----------
    path
        Its folder.
    levels
        Of every image, finest first.
    channels
        Name -> contrast limits in stored units.
    """

    path: Path
    levels: Sequence[Level]
    channels: Mapping[str, tuple[int, int]]

    @property
    def attributes(self) -> dict[str, Any]:
        """What the numbers of its arrays mean."""
        if self.channels.keys() == TOMOGRAM.keys():
            return {"scale_factor": SCALE_FACTOR, "missing_value": 0, "long_name": "refractive index"}
        if self.channels.keys() == PROJECTIONS.keys():
            # one scale serves all: counts of 0.0001 of index, and of 0.0001 pg/um2
            name = "refractive index (maximum, mean); dry mass in pg/um2"
            return {"scale_factor": SCALE_FACTOR, "missing_value": 0, "long_name": name}
        return {"missing_value": 0, "long_name": "fluorescence, maximum along z, in camera units + 1"}

    @property
    def together(self) -> int:
        """Channels in one file: all projections, but each stain on its own, for others may come later."""
        return len(self.channels) if self.channels.keys() == PROJECTIONS.keys() else 1

    @property
    def colours(self) -> list[str]:
        """Of its channels: grey for the index, told apart for fluorescence."""
        if self.channels.keys() in (TOMOGRAM.keys(), PROJECTIONS.keys()):
            return ["FFFFFF"] * len(self.channels)
        return list(islice(cycle(_LIGHTS), len(self.channels)))


def write_groups(plate: Plate, sibling: Sibling, *, tidy: bool = True) -> None:
    """Write the groups and arrays of every field of a store, but not its root's own.

    `tidy` removes what killed writers left behind in the whole store, which takes longer the larger it is.
    """
    root = sibling.path
    if tidy and not is_remote(root):
        for leftover in root.rglob("*.partial"):
            leftover.unlink()
    documents = _field_documents(plate, sibling)
    well_group = group_document(ngff.well_attributes(plate.fields))
    for row in {ngff.well_path(well).split("/")[0] for well in plate.wells}:
        write_text(root / row / "zarr.json", group_document({}))
    for well in plate.wells:
        folder = root / ngff.well_path(well)
        for field in range(plate.fields):
            for name, document in documents.items():
                write_text(folder / str(field) / name, document)
            if (folder / str(field) / "labels" / "zarr.json").exists():
                # the maps of states grow with their images
                write_label_groups(plate, folder / str(field), levels=sibling.levels)
        write_text(folder / "zarr.json", well_group)


def mend_groups(plate: Plate, siblings: Sequence[Sibling], well: str, *, field: int) -> None:
    """Write what was lost or altered of a field's groups and arrays: without them nobody can read its images."""
    for sibling in siblings:
        folder = sibling.path / ngff.well_path(well) / str(field)
        names = ["zarr.json", *(f"{number}/zarr.json" for number in range(len(sibling.levels)))]
        if all(file_size(folder / name) and not seal_broken((folder / name).read_bytes()) for name in names):
            continue
        for name, document in _field_documents(plate, sibling).items():
            write_text(folder / name, document)


def _field_documents(plate: Plate, sibling: Sibling) -> dict[str, str]:
    """Name below a field's folder -> its text, which all fields share."""
    projected = sibling.channels.keys() != TOMOGRAM.keys()
    image = ngff.image_attributes(
        plate.name,
        scales=_scales(plate, levels=sibling.levels),
        channels=sibling.channels,
        colours=sibling.colours,
        downscaling=f"projection along z, then {_DOWNSCALING}" if projected else _DOWNSCALING,
    )
    arrays = {
        f"{number}/zarr.json": array_document(
            (plate.timepoints, len(sibling.channels), *level.shape),
            chunk=level.chunk,
            dtype="uint16",
            attributes=sibling.attributes,
            together=sibling.together,
        )
        for number, level in enumerate(sibling.levels)
    }
    return {"zarr.json": group_document(image), **arrays}


def write_label_groups(plate: Plate, image: Path, *, levels: Sequence[Level]) -> None:
    """Write the groups and arrays of the label image "states" of a field's projection."""
    labels = image / "labels"
    # without the step along the channels, which a map has not
    scales = [(hours, *lengths) for hours, _, *lengths in _scales(plate, levels=levels)]
    values = {value: (state, COLOURS[state]) for value, state in enumerate(STATES, start=1)}
    attributes = ngff.label_attributes("states", scales=scales, values=values)
    write_text(labels / "states" / "zarr.json", group_document(attributes))
    for number, level in enumerate(levels):
        document = array_document((plate.timepoints, *level.shape), chunk=level.chunk, dtype="uint8", attributes={})
        write_text(labels / "states" / str(number) / "zarr.json", document)
    write_text(labels / "zarr.json", group_document(ngff.labels_attributes(["states"])))


def group_document(attributes: Mapping[str, Any]) -> str:
    """The zarr.json of a group, sealed."""
    return seal(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": with_seal(attributes)}, indent=1))


def _scales(plate: Plate, *, levels: Sequence[Level]) -> list[tuple[float, ...]]:
    # the standard knows only an even step in time; the exact hours are in the plate's own record
    steps = np.diff(plate.hours)
    interval = float(np.median(steps)) if len(steps) and np.median(steps) > 0 else 1.0
    z, y, x = plate.voxel_um
    return [(interval, 1.0, z, y * level.factor, x * level.factor) for level in levels]
