"""The gallery of a plate's page: wide fields in grey with their patches' probabilities, fluorescence beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from plates.errors import StoreError
from plates.states import STATES
from plates.store import Plate

from . import overlay, words
from .page import Page

# a page of few fields shows them finer; what all pictures may weigh together, in bytes of the page, decides
SIZES = ((16, 512), (40, 384))
SMALLEST = 256
MOST_BYTES = 420_000
ATTEMPTS = 4
WITHOUT_SCRIPTS = 6  # fields whose overlay is also stored drawn
FLUORESCENT = 32  # fields with fluorescence: a colour picture weighs as much as the grey one
LIGHTS = ((0, 0, 255), (0, 255, 0), (255, 0, 0), (255, 255, 0))
LIGHT_NAMES = ("blue", "green", "red", "yellow")
BRIGHTEST = 99.7  # percentile of a channel over all its pictures that is drawn at full brightness


def gallery(
    page: Page, plate: Plate, results: Mapping[str, xr.Dataset], *, timepoint: int, limit: int
) -> dict[str, Any]:
    """Choose the fields, store their probabilities with the page and return what the template shows.

    Parameters
    ----------
    results
        By name: `layout`, `probabilities`, `fields`, `fractions` and `ranking`.
    timepoint
        Position of the timepoint that is read.
    limit
        The most fields to show.
    """
    layout, probabilities = results["layout"], results["probabilities"]
    scenes = overlay.default_scenes(
        layout,
        probabilities["status"],
        compounds=[str(name) for name in results["ranking"]["compound"].values],
        timepoint=timepoint,
        limit=layout.sizes["well"],
    )
    size_um = (plate.shape_zyx[1] * plate.voxel_um[1], plate.shape_zyx[2] * plate.voxel_um[2])
    pixels = next((size for most, size in SIZES if min(len(scenes), limit) <= most), SMALLEST)
    order = {str(well): place for place, well in enumerate(layout["well"].values)}
    attrs = probabilities.attrs
    stored: dict[str, Any] = {"height": round(size_um[0] * 10), "width": round(size_um[1] * 10), "fields": []}
    shown: list[dict[str, Any]] = []
    greys = []
    absent: list[str] = []
    for scene in scenes:
        if len(shown) == limit:
            break
        place = {"well": scene.well, "field": scene.field}
        medium = results["fields"]["medium_index"].sel(place).isel(timepoint=scene.timepoint).item()
        moment = int(probabilities["timepoint"].values[scene.timepoint])
        try:
            greys.append(overlay.projection(plate, scene, timepoint=moment, medium_index=medium, pixels=pixels))
        except StoreError:  # a plate may come without some of its images; the page says which
            absent.append(scene.well)
            continue
        probability = _probability(probabilities, scene)
        if not shown:
            stored |= overlay.tiles(probability, size_um=size_um)
        stored["fields"].append(overlay.packed(probability))
        told = ", ".join(f"{count} patches {state}" for state, count in _counts(probability).items() if count)
        label = f"Well {scene.well}: {told or 'no patch with cells'}"
        drawn = overlay.overlay(probability, size_um=size_um, label=label) if len(shown) < WITHOUT_SCRIPTS else None
        shown.append(
            {
                "scene": scene,
                "dose": float(layout["dose"].sel(well=scene.well).item()),
                "label": label,
                "at": f"well={scene.well}&t={moment}&field={scene.field}",  # as the plate browser's addresses
                "overlay": drawn,
                "place": order[scene.well],
                "doubt": _doubt(probability),
            }
        )
    lights = _fluorescence(plate, [item["scene"] for item in shown[:FLUORESCENT]], probabilities)
    pixels, pictures, light = _fitting(greys, lights, pixels=pixels)
    for number, item in enumerate(shown):
        item["picture"], item["light"] = pictures[number], light.get(number)
    if shown:
        page.data("field-store", stored)
    return {
        "shown": shown,
        "rule": overlay.RULE,
        "limit": limit,
        "absent": absent,
        "scale": overlay.scale_bar(size_um=size_um, symbol=True),
        "size_um": size_um,
        "patch_um": float(attrs["patch_um"]),
        "overlapping": float(attrs["stride_px"]) < float(attrs["patch_px"]),
        "hours": words.hours(float(results["fractions"]["hours"].values[timepoint])),
        "channels": [
            f"{words.plain(name)} in {colour}" for name, colour in zip(plate.fluorescence, LIGHT_NAMES, strict=False)
        ],
        "lit": len(light),
        "pixels": pixels,
        "drawn": WITHOUT_SCRIPTS,
    }


def _fitting(
    greys: list[np.ndarray], lights: dict[int, np.ndarray], *, pixels: int
) -> tuple[int, list[str], dict[int, str]]:
    """All pictures at the largest size at which they together weigh no more than the page can bear."""
    for _ in range(ATTEMPTS):
        pictures = [overlay.webp(grey, pixels=pixels) for grey in greys]
        light = {number: overlay.webp(one, pixels=pixels) for number, one in lights.items()}
        weight = sum(map(len, pictures)) + sum(map(len, light.values()))
        if weight <= MOST_BYTES:
            break
        pixels = int(pixels * min(math.sqrt(MOST_BYTES / weight), 0.95))
    return pixels, pictures, light


def _probability(probabilities: xr.Dataset, scene: overlay.Scene) -> xr.DataArray:
    place = {"well": scene.well, "field": scene.field}
    one: xr.DataArray = probabilities["probability"].sel(place).isel(timepoint=scene.timepoint)
    one.attrs["patch_um"] = probabilities.attrs["patch_um"]
    return one


def _counts(probability: xr.DataArray) -> dict[str, int]:
    values = probability.transpose("py", "px", "state").values
    likeliest = np.argmax(values[np.isfinite(values[..., 0])], axis=-1)
    return {state: int((likeliest == index).sum()) for index, state in enumerate(STATES)}


def _doubt(probability: xr.DataArray) -> float:
    """One minus the mean probability of the likeliest state; 0 where no patch was judged."""
    best = probability.max("state").values
    return 1 - float(np.nanmean(best)) if np.isfinite(best).any() else 0.0


def _fluorescence(plate: Plate, scenes: list[overlay.Scene], probabilities: xr.Dataset) -> dict[int, np.ndarray]:
    """Pictures of the fluorescence by the place of their scene, all channels in one; a channel has one brightness."""
    channels = plate.fluorescence[: len(LIGHTS)]
    images: dict[int, list[np.ndarray]] = {}
    for number, scene in enumerate(scenes if channels else []):
        timepoint = int(probabilities["timepoint"].values[scene.timepoint])
        place = {"field": scene.field, "timepoint": timepoint}
        try:
            images[number] = [
                plate.fluorescence_projection(scene.well, **place, channel=channel) for channel in channels
            ]
        except StoreError:
            continue  # single images may be absent; the page says of how many fields it is shown
    ends = []
    for index in range(len(channels)):
        seen = np.concatenate([found[index][found[index] > 0][::17] for found in images.values()] or [np.zeros(0)])
        ends.append((np.percentile(seen, 5), np.percentile(seen, BRIGHTEST)) if seen.size else (math.nan, math.nan))
    pictures = {}
    for number, found in images.items():
        drawn = np.zeros((*found[0].shape, 3))
        for image, (low, high), colour in zip(found, ends, LIGHTS, strict=False):
            bright = np.clip((image.astype(float) - low) / max(high - low, 1.0), 0, 1)
            drawn += np.where(image > 0, np.nan_to_num(bright), 0)[..., None] * np.array(colour)
        pictures[number] = np.clip(drawn, 0, 255).astype(np.uint8)
    return pictures
