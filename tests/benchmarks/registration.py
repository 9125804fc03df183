"""How far placements of fluorescence are off on simulated fields, and where they say so.

python -m tests.benchmarks.registration OUT.png [--fields N]

Fields of 166 um and 78 um, sparse and dense, of living and dying cells, each registered from correct metadata, from
none, and from metadata wrong by 3 um and 2 degrees.
SimpleITK's Mattes mutual information, if it is installed, is measured on the same fields from the same starts.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.ndimage import fourier_shift

from plates.aligned import registration_picture
from plates.index_registration import register_index
from plates.placement import Placement
from plates.registration import register
from plates.simulation.cells import CellLine, make_cell
from plates.simulation.death import NEVER, Fate
from plates.simulation.design import PlateDesign, design_plates, make_library
from plates.simulation.drawing import draw_field
from plates.simulation.fluorescence import VOXEL_UM, fluorescence_frames, registration
from plates.simulation.optics import Optics, add_background, image
from plates.simulation.plate import _frames, _populate

HOUR = 8.0
SEED = 7000
KINDS = ("", "apoptosis", "necroptosis", "necrosis")
SIZES = {
    "dense, 166 um": (1024, (0.35, 0.7)),
    "sparse, 166 um": (1024, (0.05, 0.2)),
    "dense, 78 um": (480, (0.35, 0.7)),
}
NEAR_UM = 0.5

# tomogram, channels, pixel, start, end
Shown = tuple[np.ndarray, dict[str, np.ndarray], float, Placement, Placement]


def field(seed: int, kind: str, size: str) -> tuple[PlateDesign, np.ndarray, dict[str, np.ndarray], Placement, int]:
    """A field's tomogram as a projection, its channels, where they truly lie, and the number of cells."""
    side, confluency = SIZES[size]
    design = design_plates(
        make_library(seed), seed=seed, plates=1, fields=1, shape=(24, side, side), hours=(HOUR,), confluency=confluency
    )[0]
    planned = next(well for well in design.wells if well.control != "none" and well.inducer == kind)
    cells = _populate(design, planned, np.random.default_rng(seed))
    states = np.zeros((1, side, side), np.uint8)
    volume = next(iter(_frames(design, planned, cells, states, design.line.medium_index, (0, 0))))
    centred = fluorescence_frames(cells, design, (0, 0))
    bodies = fluorescence_frames(cells, design, (0, 0))
    chosen = {"CH0": centred, "CH1": bodies, "CH2": centred}
    light = {name: next(iter(channels[name].frames)).max(axis=0) for name, channels in chosen.items()}
    stored = registration(design, (0, 0))
    truth = Placement(
        rotation_rad=stored.rotation_rad,
        scale=stored.scale,
        shift_um=(0.0, stored.translation_um[1], stored.translation_um[0]),
    )
    return design, volume.max(axis=0), light, truth, len(cells)


def starts(truth: Placement, rng: np.random.Generator) -> dict[str, Placement]:
    """Metadata that are right, absent, and wrong by 3 um and 2 degrees."""
    bearing, sign = rng.uniform(0, 2 * np.pi), rng.choice([-1, 1])
    wrong = replace(
        truth,
        rotation_rad=truth.rotation_rad + float(sign * np.deg2rad(2)),
        shift_um=(0.0, truth.shift_um[1] + 3 * float(np.sin(bearing)), truth.shift_um[2] + 3 * float(np.cos(bearing))),
    )
    return {"correct": truth, "absent": Placement(), "wrong": wrong}


def by_simpleitk(counts: np.ndarray, light: np.ndarray, pitch: float, start: Placement) -> Placement:
    """The same by SimpleITK: Mattes mutual information, three resolutions, gradient descent with own scales."""
    sitk: Any = import_module("SimpleITK")
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)

    def centred(image: np.ndarray, step: float) -> Any:
        picture = sitk.GetImageFromArray(image.astype(np.float32))
        picture.SetSpacing((step, step))
        picture.SetOrigin([-(size - 1) / 2 * step for size in image.shape[::-1]])
        return sitk.BinShrink(picture, [max(1, round(0.5 / step))] * 2)

    # its points are (x, y), in which our turn goes the other way round
    transform = sitk.Similarity2DTransform(start.scale, -start.rotation_rad, start.shift_um[:0:-1])
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 0.005, 300, 0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2.0, 1.0, 0.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInterpolator(sitk.sitkLinear)
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(centred(counts, pitch), centred(np.arcsinh(light), VOXEL_UM[1]))
    shift = transform.GetTranslation()
    return Placement(rotation_rad=-transform.GetAngle(), scale=transform.GetScale(), shift_um=(0.0, shift[1], shift[0]))


def measure(each: int) -> tuple[pd.DataFrame, list[Shown]]:
    """One row a field, start and method; and what is needed to draw some."""
    rows: list[dict[str, Any]] = []
    shown: list[Shown] = []
    number = 0
    for size in SIZES:
        for kind in KINDS:
            for _ in range(each):
                design, counts, light, truth, cells = field(SEED + number, kind, size)
                pitch = design.voxel_um[1]
                extent = (counts.shape[0] * pitch, counts.shape[1] * pitch)
                total = sum(image.astype(float) / np.quantile(image, 0.999) for image in light.values())
                for case, start in starts(truth, np.random.default_rng(SEED + number)).items():
                    begin = time.process_time()
                    found = register(
                        counts, light, voxel_um=(pitch, pitch), fluorescence_voxel_um=VOXEL_UM, start=start
                    )
                    ended = time.process_time()
                    forced = register(
                        counts,
                        light,
                        voxel_um=(pitch, pitch),
                        fluorescence_voxel_um=VOXEL_UM,
                        start=replace(start, how="refined"),
                        max_residual_um=np.inf,
                    )
                    again = time.process_time()
                    other = by_simpleitk(counts, np.asarray(total) * 100, pitch, start)
                    rows.append(
                        {
                            "size": size,
                            "kind": kind or "living",
                            "cells": cells,
                            "start": case,
                            "error": found.distance_um(truth, extent_um=extent),
                            "residual": found.residual_um,
                            "trusted": found.trusted,
                            "how": found.how,
                            "seconds": ended - begin,
                            "unjudged": forced.distance_um(truth, extent_um=extent),
                            "estimate": forced.residual_um,
                            "itk": other.distance_um(truth, extent_um=extent),
                            "itk_seconds": time.process_time() - again,
                        }
                    )
                    print(rows[-1], found.reason, flush=True)
                    if case == "absent" and number % each == 0:
                        shown.append((counts, light, pitch, start, found))
                number += 1
    return pd.DataFrame(rows), shown


def table(rows: pd.DataFrame) -> str:
    """Summary a size of field and start."""
    lines = [
        "| fields | start | trusted | of these, start kept | their error, um: median, worst; share < 0.5 "
        "| all as refined: median, share < 0.5 | SimpleITK: median, share < 0.5 | CPU s (SimpleITK) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (size, start), group in rows.groupby(["size", "start"], sort=False):
        good = group[group.trusted]
        lines.append(
            f"| {size} | {start} | {len(good)} of {len(group)} | {(good.how == 'metadata').sum()} "
            f"| {good.error.median():.2f}, {good.error.max():.2f}; {(good.error < NEAR_UM).mean():.2f} "
            f"| {group.unjudged.median():.2f}, {(group.unjudged < NEAR_UM).mean():.2f} "
            f"| {group.itk.median():.2f}, {(group.itk < NEAR_UM).mean():.2f} "
            f"| {group.seconds.median():.1f} ({group.itk_seconds.median():.1f}) |"
        )
    refined = rows[(rows.how == "refined") & rows.trusted]
    known = rows[(rows.start == "absent") & np.isfinite(rows.estimate)]
    ranks = known.estimate.rank().corr(known.unjudged.rank())
    lines += [
        f"refined and trusted: {len(refined)}, {(refined.error < NEAR_UM).mean():.3f} below {NEAR_UM} um, "
        f"worst {refined.error.max():.2f} um",
        f"estimated against true error, {len(known)} fields without metadata: rank correlation {ranks:.2f}, "
        f"median ratio {(known.estimate / known.unjudged).median():.2f}",
    ]
    return "\n".join(lines)


def pairs(count: int = 6) -> str:
    """Tomograms moved by a known part of a voxel by Fourier transform, each with its own noise and fringes."""
    worst, turns = np.zeros((count, 3)), np.zeros(count)
    pitch = (0.87449, 0.16256, 0.16256)
    for number in range(count):
        rng = np.random.default_rng([SEED, number])
        cells = [
            make_cell(rng, y=y, x=x, fate=Fate("apoptosis", 20.0 * (number % 2), *[NEVER] * 4), line=CellLine())
            for y, x in rng.uniform(4, 48, (5, 2))
        ]
        contrast, _ = draw_field(cells, hours=HOUR, shape=(48, 320, 320), voxel_um=(pitch[0] / 2, *pitch[1:]), rng=rng)
        seen = image(contrast, voxel_um=pitch, medium_index=1.337, optics=Optics())
        shift = rng.uniform((-1.5, -6, -6), (1.5, 6, 6))
        moved = np.fft.ifftn(fourier_shift(np.fft.fftn(seen), shift)).real.astype(np.float32)
        volumes = []
        for volume in (seen.copy(), moved):
            add_background(volume, rng=rng, voxel_um=pitch, optics=Optics())
            volumes.append(np.rint((volume + 1.337) * 1e4).astype(np.uint16))
        found = register_index(volumes[0], volumes[1], voxel_um=pitch)
        worst[number] = np.abs(np.array(found.shift_um) / pitch - shift)
        turns[number] = abs(np.rad2deg(found.rotation_rad))
    return (
        f"RI/RI, {count} fields of 24 x 320 x 320: worst error {worst.max(axis=0).round(3)} voxels (z, y, x), "
        f"{turns.max():.3f} degrees"
    )


def main(arguments: Sequence[str]) -> None:
    from PIL import Image

    each = int(arguments[arguments.index("--fields") + 1]) if "--fields" in arguments else 3
    print(pairs(), flush=True)
    rows, shown = measure(each)
    print(table(rows))
    pictures = [
        registration_picture(
            counts,
            light,
            voxel_um=(pitch, pitch),
            fluorescence_voxel_um=VOXEL_UM,
            before=start,
            after=found,
        )
        for counts, light, pitch, start, found in shown[:3]
    ]
    sheet = Image.new("RGB", (max(p.width for p in pictures), sum(p.height + 8 for p in pictures)), "white")
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height + 8
    Path(arguments[0]).parent.mkdir(parents=True, exist_ok=True)
    sheet.save(arguments[0])


if __name__ == "__main__":
    main(sys.argv[1:])
