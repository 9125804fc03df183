"""What a methods section says of the images: how they were taken, and how states were called from them."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from plates.states import STATES
from plates.store import Plate

from . import words
from .citations import Citations

Results = Mapping[str, xr.Dataset]
DONE = 1
NOT_RECORDED = "not recorded"
UNEVEN = 0.02  # of the interval between frames: below that they count as evenly spaced


def acquisition(results: Results, plate: Plate | None, cite: Citations) -> str:
    """What was imaged: cells, wells, fields, times, voxels, instrument and plate map; empty without a layout."""
    if "layout" not in results:
        return ""
    layout = results["layout"]
    cell_lines = [words.plain(name) for name in dict.fromkeys(map(str, layout["cell_line"].values)) if name]
    text = f"{', '.join(cell_lines) or 'Cells (the line is not stated)'} "
    where = f"plate {words.plain(plate.name)} of {plate.rows * plate.columns} wells" if plate else "one plate"
    text += f"in {count(layout.sizes['well'], 'well')} of {where} were imaged by holotomography"
    frames = results.get("fractions", results.get("probabilities"))
    hours = frames["hours"].values.astype(float) if frames is not None else np.array(plate.hours if plate else [])
    fields = results["probabilities"].sizes["field"] if "probabilities" in results else plate.fields if plate else 0
    if fields:
        text += f", {count(fields, 'field')} a well"
    text += f", {_times(hours)}." if len(hours) else "."
    if plate:
        size = " x ".join(str(count) for count in plate.shape_zyx)
        voxel = " x ".join(words.number(length, 4) for length in plate.voxel_um)
        text += f" Tomograms have {size} voxels (z, y, x) of {voxel} \N{MICRO SIGN}m."
    text += _instrument(results) + _contents(layout) + _missing(results)
    if "sha256" in layout.attrs:
        text += f" Plate map: {words.plain(layout.attrs.get('source', ''))}, SHA-256 {layout.attrs['sha256']}."
    return text + f" Tomograms are kept as OME-Zarr{cite('ome-zarr')}."


def _times(hours: np.ndarray) -> str:
    steps = np.diff(hours)
    if len(hours) == 1:
        return "at one timepoint"
    if np.ptp(steps) <= UNEVEN * steps.mean():
        return (
            f"{len(hours)} timepoints, one every {words.hours(steps.mean())} over {words.hours(hours[-1] - hours[0])}"
        )
    return f"{len(hours)} timepoints, at {', '.join(words.number(hour) for hour in hours)} h"


def _instrument(results: Results) -> str:
    text = ""
    if "sources" in results:
        sources = results["sources"]
        formats = Counter(str(name) for name in sources["format"].values)
        text += " Read were " + ", ".join(f"{count(n, 'file')} ({words.plain(f)})" for f, n in formats.items()) + "."
        if named := sorted({_device(str(record)) for record in sources["instrument"].values} - {""}):
            text += f" Instrument, as the files name it: {'; '.join(named)}."
    acquired = results["fields"].get("acquired") if "fields" in results else None
    if acquired is not None and not np.isnat(first := acquired.min().values):
        text += f" The first frame was taken at {str(first)[:16].replace('T', ' ')} by the instrument's clock."
    return text


def _device(record: str) -> str:
    """What the files of one acquisition say of the microscope, in words; empty where they are silent."""
    try:
        told = json.loads(record or "{}")
    except ValueError:
        return words.plain(record)
    parts = [words.plain(told["model"])] if told.get("model") else []
    for key, label, unit in (
        ("magnification", "magnification", "x"),
        ("objective_na", "objective NA", ""),
        ("condenser_na", "condenser NA", ""),
        ("wavelength_um", "wavelength", " \N{MICRO SIGN}m"),
    ):
        if isinstance(told.get(key), int | float):
            parts.append(f"{label} {words.number(told[key])}{unit}")
    return ", ".join(parts)


def _contents(layout: xr.Dataset) -> str:
    control = layout["control"].values
    treated = (control == "none") & (layout["dose"].values.astype(float) > 0)
    compounds = {str(name) for name in layout["compound"].values[treated]}
    doses = layout["dose"].values.astype(float)[treated]
    text = f" {count(int(treated.sum()), 'well')} held {count(len(compounds), 'compound')}"
    if len(doses):
        text += f" at {words.concentration(doses.min())} to {words.concentration(doses.max())}"
    text += f", {int((control == 'negative').sum())} vehicle"
    inducers = Counter(
        f"{words.plain(name)}{f' for {inducer}' if inducer else ''}"
        for name, inducer, kind in zip(layout["compound"].values, layout["inducer"].values, control, strict=True)
        if kind == "positive"
    )
    positive = ", ".join(f"{count} {name}" for name, count in inducers.items())
    text += f", {int((control == 'positive').sum())} positive controls{f' ({positive})' if positive else ''}."
    masked = int((layout["masked"].values != "").sum()) if "masked" in layout else 0
    return text + (f" {count(masked, 'well')} masked in the plate map and not used." if masked else "")


def _missing(results: Results) -> str:
    if "probabilities" not in results:
        return ""
    status = results["probabilities"]["status"].values
    absent = int((status != DONE).sum())
    return f" {absent} of {status.size} frames of fields are missing or could not be read." if absent else ""


def classification(results: Results, cite: Citations) -> str:
    """How states were called: patches, classifier, calibration, known errors and doubts; empty without calls."""
    if "probabilities" not in results:
        return ""
    card = results["probabilities"].attrs
    volume = card.get("planes")
    seen = f"volumes of {volume} planes" if volume else "maximum projections along z"
    name, sha256 = (
        words.plain(card.get(key) or NOT_RECORDED, longest=64) for key in ("classifier", "classifier_sha256")
    )
    text = (
        f"Cell states were called without labels after the study{cite('study')}: {seen} of the refractive index were "
        f"cut into {_patches(card)} The classifier {name} (SHA-256 {sha256}) gave every such patch the probabilities "
        f"of {', '.join(STATES)}. "
        f"It was trained on {words.plain(card.get('trained_on') or 'data that it does not state', longest=400)}. "
    )
    calibration = words.plain(card.get("calibration") or "not calibrated", longest=200)
    if "temperature" in calibration:
        text += f"Its probabilities were calibrated by temperature scaling{cite('calibration')}: {calibration}."
    else:
        text += f"Calibration of its probabilities: {calibration}."
    return text + _accuracy(card) + _doubts(card)


def _patches(card: Mapping[str, Any]) -> str:
    """Which patches were judged; probabilities that another program wrote may not say so."""
    text = f"patches (their size is {NOT_RECORDED})."
    if all(name in card for name in ("patch_um", "patch_px", "stride_px")):
        text = (
            f"patches of {words.number(card['patch_um'])} \N{MICRO SIGN}m ({words.number(card['patch_px'])} px, "
            f"one every {words.number(card['stride_px'])} px)."
        )
    if not all(name in card for name in ("foreground_share", "foreground_index")):
        return f"{text} How many cells a patch had to hold is {NOT_RECORDED}."
    share, index = words.percent(float(card["foreground_share"])), words.number(card["foreground_index"], 2)
    return f"{text} A patch was judged where more than {share} of its pixels exceed the index of the medium by {index}."


def _accuracy(card: Mapping[str, Any]) -> str:
    record = json.loads(card.get("validation") or "{}") or {}
    if not record.get("confusion"):
        return " It brings no record of its errors."
    confusion = np.array(record["confusion"], dtype=float)
    right, every = np.trace(confusion), confusion.sum()
    each = ", ".join(
        f"{state} {words.number(confusion[k, k])} of {words.number(confusion[k].sum())}"
        for k, state in enumerate(STATES)
        if confusion[k].sum()
    )
    return (
        f" On {words.plain(record.get('text', 'its validation patches'), longest=200)} it called "
        f"{words.number(right, 6)} of {words.number(every, 6)} right ({words.percent(right / every, 1)}): {each}."
    )


def _doubts(card: Mapping[str, Any]) -> str:
    text = f" Unlike its training: {words.plain(card['outlier_text'], longest=400)}" if card.get("outlier_text") else ""
    if "uncertain_share" in card:
        text += (
            f" {words.percent(float(card['uncertain_share']), 1)} of the patches had a highest probability below "
            f"{words.number(card['uncertain_below'])}, where {words.percent(float(card['uncertain_expected']), 1)} "
            "were expected from its validation."
        )
    return text


def count(number: int, noun: str) -> str:
    """A number with its noun, which takes an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def sentence(text: object) -> str:
    """A stored sentence on one line, however long, without control characters."""
    return words.plain(text, longest=4000)
