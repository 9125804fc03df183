"""A plate is made, or grows: what it will be is settled first, and written only then."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from . import metadata, ngff
from .errors import StoreError
from .files import location, write_durable
from .store import Elsewhere, Plate, check_name, open_plate, triple

_VOXEL_TOLERANCE = 1e-3


def create_plate(path: Path, *, provenance: Mapping[str, Any], **described: Any) -> Plate:
    """Make an empty plate and its siblings, or let one that is there grow; see `design_plate` and `write_plate`."""
    plate = design_plate(path, **described)
    write_plate(plate, provenance=provenance)
    return plate


def design_plate(
    path: Path,
    *,
    name: str,
    wells: Sequence[str],
    fields: int,
    timepoints: int,
    shape_zyx: tuple[int, int, int],
    voxel_um: tuple[float, float, float],
    rows: int,
    columns: int,
    hours: Sequence[float],
    fluorescence: Sequence[str] = (),
    elsewhere: Elsewhere | None = None,
) -> Plate:
    """What a plate will be, together with what is there already; nothing is written.

    A plate that is there keeps its wells, fields and timepoints, and gains those that are new.

    Parameters
    ----------
    path
        ``<name>.zarr``, a folder or a URL; projections go to ``<name>_mip.zarr`` beside it.
    wells
        Wells imaged, such as ``"A01"``.
    fields, timepoints
        Fields a well and timepoints a field.
    shape_zyx, voxel_um
        Of every tomogram; um.
    rows, columns
        Format of the plate, such as 8 x 12.
    hours
        Nominal hours since the first frame, one a timepoint.
    fluorescence
        Names of the fluorescence channels.
    elsewhere
        The plate that holds the tomograms, where they are not to be copied.

    Raises
    ------
    StoreError
        The plate exists with tomograms of another kind, something else lies where a sibling would be, or the
        arguments make no plate.
    """
    plate = Plate(
        path=location(path),
        name=name,
        wells=tuple(wells),
        fields=fields,
        timepoints=timepoints,
        shape_zyx=triple(shape_zyx),
        voxel_um=triple(voxel_um),
        hours=tuple(float(hour) for hour in hours),
        rows=rows,
        columns=columns,
        fluorescence=tuple(fluorescence),
        elsewhere=elsewhere,
    )
    _check_new(plate)
    if (plate.path / "zarr.json").exists():
        plate = _joined(open_plate(plate.path), plate)
    for sibling in plate.siblings():
        _check_ours(sibling.path)
    return plate


def write_plate(plate: Plate, *, provenance: Mapping[str, Any]) -> None:
    """Write a plate's metadata; images are untouched, and those that are never written stay absent.

    Parameters
    ----------
    provenance
        What made the plate; kept as it is, must be JSON.
    """
    siblings = plate.siblings()
    present = open_plate(plate.path) if (plate.path / "zarr.json").exists() else None
    if present != plate:
        # wells that come to others change nothing in these
        grown = present is not None and replace(present, wells=plate.wells) == plate
        there = present.wells if present is not None and grown else ()
        added = replace(plate, wells=tuple(well for well in plate.wells if well not in there))
        for sibling in siblings:
            metadata.write_groups(added, sibling, tidy=not grown)
    attributes = ngff.plate_attributes(
        plate.name, wells=plate.wells, rows=plate.rows, columns=plate.columns, fields=plate.fields
    )
    record = {metadata.KEY: plate.record(provenance)}
    # the roots come last: a plate that was interrupted before them is no plate yet, and is made again
    roots = {sibling.path: {**attributes, **record} for sibling in reversed(siblings)}
    if plate.elsewhere is not None:
        # it holds no image, so it is no plate to others
        roots[plate.path] = record
    for root, described in roots.items():
        document = metadata.group_document(described).encode()
        if not (root / "zarr.json").exists() or (root / "zarr.json").read_bytes() != document:
            write_durable(root / "zarr.json", document)


def _check_new(plate: Plate) -> None:
    check_name(plate.path)
    if len(plate.hours) != plate.timepoints:
        raise StoreError(f"{plate.path}: {len(plate.hours)} hours for {plate.timepoints} timepoints")
    if not plate.wells or min(plate.fields, plate.timepoints, *plate.shape_zyx) < 1:
        raise StoreError(f"{plate.path}: a plate needs a well, a field, a timepoint and voxels")
    seen: set[tuple[int, int]] = set()
    for well in plate.wells:
        place = ngff.well_position(well)
        if place in seen or place[0] >= plate.rows or place[1] >= plate.columns:
            raise StoreError(
                f"{plate.path}: well {well} is listed twice or lies outside a plate of {plate.rows} x "
                f"{plate.columns} wells"
            )
        seen.add(place)


def _check_ours(root: Path) -> None:
    """Refuse to write into somebody else's store that happens to have a sibling's name."""
    document = root / "zarr.json"
    if not document.exists():
        theirs = any((root / name).exists() for name in (".zgroup", ".zattrs"))
    else:
        try:
            theirs = metadata.KEY not in json.loads(document.read_text())["attributes"]
        except (ValueError, KeyError, TypeError):
            # half a document is left by an interruption of ours at most
            theirs = False
    if theirs:
        raise StoreError(f"{root}: was not made by tomoscreen and is not written into. Give another output.")


def _joined(present: Plate, wanted: Plate) -> Plate:
    """A plate that is there, with what is new; the kind of its tomograms is fixed once written."""
    differences = [
        f"{what} {there} there, {now} now"
        for what, there, now in (
            ("shape_zyx", present.shape_zyx, wanted.shape_zyx),
            ("voxel_um", present.voxel_um, wanted.voxel_um),
            ("tomograms in", _home(present), _home(wanted)),
        )
        if there != now and not (what == "voxel_um" and np.allclose(there, now, rtol=_VOXEL_TOLERANCE, atol=0))
    ]
    if differences:
        raise StoreError(
            f"{present.path}: a plate of another kind is already there: {'; '.join(differences)}. Give another "
            "output, or remove the old plate."
        )
    longer = max(present, wanted, key=lambda plate: plate.timepoints)
    larger = max(present, wanted, key=lambda plate: plate.rows * plate.columns)
    elsewhere = wanted.elsewhere
    if present.elsewhere is not None and elsewhere is not None:
        elsewhere = replace(elsewhere, images=tuple(sorted({*present.elsewhere.images, *elsewhere.images})))
    return replace(
        wanted,
        voxel_um=present.voxel_um,
        wells=tuple(sorted({*present.wells, *wanted.wells}, key=ngff.well_position)),
        rows=larger.rows,
        columns=larger.columns,
        fields=max(present.fields, wanted.fields),
        fluorescence=tuple(dict.fromkeys((*present.fluorescence, *wanted.fluorescence))),
        timepoints=longer.timepoints,
        hours=wanted.hours if wanted.timepoints == longer.timepoints else longer.hours,
        elsewhere=elsewhere,
    )


def _home(plate: Plate) -> str:
    return str(plate.path) if plate.elsewhere is None else f"{plate.elsewhere.path} ({plate.elsewhere.channel or 'RI'})"
