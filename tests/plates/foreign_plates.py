"""Plates as other programs write them: ome-zarr-py, ngio, and metadata by hand for the corners of the standard."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr

from plates.ingest.acquisition import read_frame
from plates.ingest.ome_zarr import open_ome_zarr

from .acquisitions import tomogram

Tool = Literal["ome-zarr-py 0.4", "ome-zarr-py 0.5", "ngio 0.4", "ngio 0.5"]

TOOLS: tuple[Tool, ...] = ("ome-zarr-py 0.4", "ome-zarr-py 0.5", "ngio 0.4", "ngio 0.5")
VOXEL_UM = (0.95, 0.16, 0.16)
SHAPE = (6, 40, 36)
PART = "A/1/0"


def stack(seed: int = 0) -> np.ndarray:
    """A small tomogram."""
    return tomogram(seed, shape=SHAPE)


def read(path: Path, *, part: str = PART, frame: int = 0, **options: Any) -> np.ndarray:
    """One tomogram through our reader."""
    with open_ome_zarr(path, part=part, **options) as image:
        return read_frame(image, frame)[0]


def one(path: Path, image: np.ndarray | None = None, **choices: Any) -> Path:
    """A plate ``p.zarr`` of one image."""
    return write_by_hand(path / "p.zarr", {PART: stack() if image is None else image}, **choices)


def edit(file: Path, change: Callable[[Any], None]) -> None:
    """Change a document of metadata."""
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def write_with(
    tool: Tool, path: Path, images: Mapping[str, np.ndarray], *, voxel_um: Sequence[float] = VOXEL_UM
) -> Path:
    """A plate of images (z, y, x) by their paths such as ``"A/1/0"``, written by somebody else's tool."""
    if tool.startswith("ngio"):
        return _write_ngio(path, images, version=tool[-3:], voxel_um=voxel_um)
    return _write_ome_zarr_py(path, images, version=tool[-3:], voxel_um=voxel_um)


def write_by_hand(
    path: Path,
    images: Mapping[str, np.ndarray],
    *,
    axes: str = "zyx",
    version: Literal["0.4", "0.5"] = "0.5",
    array: Mapping[str, Any] | None = None,
    units: Mapping[str, str] | None = None,
    transformations: Sequence[Mapping[str, Any]] | None = None,
    multiscale: Mapping[str, Any] | None = None,
    labels: Sequence[str] | None = None,
    attributes: Mapping[str, Any] | None = None,
    acquisitions: Mapping[str, int] | None = None,
    runs: Sequence[Mapping[str, Any]] | None = None,
) -> Path:
    """A plate with one resolution level, whose every detail is a choice.

    Parameters
    ----------
    array
        Arguments of `zarr.create_array`, such as chunks, shards, dtype, fill_value, compressors.
    units
        By axis; all micrometer and second by default.
    transformations
        Of the dataset; the scale VOXEL_UM by default.
    multiscale
        Further entries of the multiscale.
    labels
        Of the channels.
    attributes
        Of the array.
    acquisitions, runs
        Path of an image -> its acquisition; what the plate says of them.
    """
    wells: dict[str, list[str]] = {}
    for part, image in images.items():
        well, _, field = part.rpartition("/")
        wells.setdefault(well, []).append(field)
        write_image(
            path / part,
            image,
            axes=axes,
            version=version,
            array=array,
            units=units,
            transformations=transformations,
            multiscale=multiscale,
            labels=labels,
            attributes=attributes,
        )
    rows = sorted({well.split("/")[0] for well in wells})
    columns = sorted({well.split("/")[1] for well in wells})
    plate: dict[str, Any] = {
        "name": path.stem,
        "rows": [{"name": row} for row in rows],
        "columns": [{"name": column} for column in columns],
        "wells": [
            {"path": f"{row}/{column}", "rowIndex": rows.index(row), "columnIndex": columns.index(column)}
            for row, column in (well.split("/") for well in wells)
        ],
    }
    if runs is not None:
        plate["acquisitions"] = list(runs)
    write_group(path, {"plate": plate}, version=version)
    for well, fields in wells.items():
        numbers = [(acquisitions or {}).get(f"{well}/{field}") for field in fields]
        entries = [
            {"path": field} if number is None else {"path": field, "acquisition": number}
            for field, number in zip(fields, numbers, strict=True)
        ]
        write_group(path / well, {"well": {"images": entries}}, version=version)
        write_group((path / well).parent, {}, version=version)
    return path


def write_image(
    folder: Path,
    image: np.ndarray,
    *,
    axes: str,
    version: Literal["0.4", "0.5"] = "0.5",
    array: Mapping[str, Any] | None = None,
    units: Mapping[str, str] | None = None,
    transformations: Sequence[Mapping[str, Any]] | None = None,
    multiscale: Mapping[str, Any] | None = None,
    labels: Sequence[str] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """One image group with the array ``0``."""
    if units is None:
        units = {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}
    kinds = {"t": "time", "c": "channel"}
    steps = dict(zip("zyx", VOXEL_UM, strict=True))
    described: dict[str, Any] = {
        "axes": [
            {"name": axis, "type": kinds.get(axis, "space"), **({"unit": units[axis]} if axis in units else {})}
            for axis in axes
        ],
        "datasets": [
            {
                "path": "0",
                "coordinateTransformations": list(
                    transformations or [{"type": "scale", "scale": [steps.get(axis, 1.0) for axis in axes]}]
                ),
            }
        ],
        **(multiscale or {}),
    }
    metadata: dict[str, Any] = {"multiscales": [described]}
    if labels is not None:
        metadata["omero"] = {"channels": [{"label": label} for label in labels]}
    write_group(folder, metadata, version=version)
    settings: dict[str, Any] = {"chunks": tuple(min(size, 16) for size in image.shape), "dtype": image.dtype}
    if version == "0.4":
        settings["chunk_key_encoding"] = {"name": "v2", "separator": "/"}
    else:
        settings["dimension_names"] = list(axes)
    settings.update(array or {})
    store = zarr.create_array(
        str(folder / "0"), shape=image.shape, zarr_format=2 if version == "0.4" else 3, overwrite=True, **settings
    )
    store.update_attributes(dict(attributes or {}))
    store[...] = image


def write_group(folder: Path, metadata: Mapping[str, Any], *, version: str) -> None:
    """Attributes of a group as the version of OME-Zarr wants them."""
    folder.mkdir(parents=True, exist_ok=True)
    if version == "0.4":
        versioned = {
            key: [{**value[0], "version": version}] if key == "multiscales" else {**value, "version": version}
            for key, value in metadata.items()
        }
        (folder / ".zgroup").write_text('{"zarr_format": 2}')
        (folder / ".zattrs").write_text(json.dumps(versioned))
    else:
        attributes = {"ome": {"version": version, **metadata}} if metadata else {}
        (folder / "zarr.json").write_text(
            json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes})
        )


def _write_ome_zarr_py(
    path: Path, images: Mapping[str, np.ndarray], *, version: str, voxel_um: Sequence[float]
) -> Path:
    from ome_zarr.format import format_from_version
    from ome_zarr.writer import write_image as write_theirs
    from ome_zarr.writer import write_plate_metadata, write_well_metadata

    form = format_from_version(version)
    root = zarr.open_group(str(path), mode="w", zarr_format=form.zarr_format)
    wells = sorted({part.rpartition("/")[0] for part in images})
    rows, columns = (sorted({well.split("/")[place] for well in wells}) for place in (0, 1))
    write_plate_metadata(root, rows, columns, wells, fmt=form)
    for well in wells:
        group = root.require_group(well)
        fields = [part.rpartition("/")[2] for part in images if part.startswith(f"{well}/")]
        write_well_metadata(group, fields, fmt=form)
        for field in fields:
            write_theirs(
                images[f"{well}/{field}"],
                group.require_group(field),
                fmt=form,
                axes="zyx",
                scale=dict(zip("zyx", voxel_um, strict=True)),
                axes_units=dict.fromkeys("zyx", "micrometer"),
                scale_factors=(2,),
            )
    return path


def _write_ngio(path: Path, images: Mapping[str, np.ndarray], *, version: str, voxel_um: Sequence[float]) -> Path:
    from ngio import ImageInWellPath, create_empty_plate, create_ome_zarr_from_array

    places = [
        ImageInWellPath(row=row, column=column, path=field)
        for row, column, field in (part.split("/") for part in images)
    ]
    create_empty_plate(str(path), name=path.stem, images=places, ngff_version=version)  # type: ignore[arg-type]
    for part, image in images.items():
        row, column, field = part.split("/")
        create_ome_zarr_from_array(
            str(path / row / f"{int(column):02d}" / field),  # ngio's own name for the well
            array=image,
            pixelsize=voxel_um[1],
            z_spacing=voxel_um[0],
            axes_names=list("zyx"),
            levels=2,
            consolidation_mode="auto",
            ngff_version=version,  # type: ignore[arg-type]
            overwrite=True,
        )
    return path
