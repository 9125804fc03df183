"""Stitch simulated wide fields whose truth is known: print what is measured, draw tiles, seams and what differs.

python -m tests.benchmarks.stitching OUT.png
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.fft
from PIL import Image, ImageDraw

from plates.ingest.acquisition import read_frame
from plates.simulation.acquisition import write_tcf
from plates.simulation.cells import CellLine, make_cell
from plates.simulation.death import NEVER, Fate
from plates.simulation.drawing import draw_field
from plates.simulation.optics import Optics, image
from plates.stitching import Mosaic, open_mosaic
from tests.plates.acquisitions import START

VOXEL_UM = (1.104, 0.332, 0.332)  # of the 24-well acquisitions: a wide field in few voxels
DEPTH, SIZE = 10, 640
MEDIUM = 13370.0
NOISE = 4.0  # counts
RIM = 3  # pixels not reconstructed

Plane = npt.NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """A wide field cut into tiles.

    Attributes
    ----------
    paths
        Files of the tiles.
    truth
        (z, y, x) the field without noise, index x 10,000.
    corners
        (tile, 3) true place of each tile's first voxel in it.
    levels
        (tile,) what was added to each tile, counts.
    """

    paths: list[Path]
    truth: npt.NDArray[np.float32]
    corners: Plane
    levels: Plane


@lru_cache(maxsize=2)
def wide_field(seed: int = 1, *, size: int = SIZE, cells: int = 46) -> npt.NDArray[np.float32]:
    """Simulated cells seen through the microscope, without noise (z, y, x), index x 10,000; periodic."""
    rng = np.random.default_rng(seed)
    living = Fate("apoptosis", NEVER, NEVER, NEVER, NEVER, NEVER)
    places = rng.uniform(0, size * VOXEL_UM[1], (cells, 2))
    bodies = [make_cell(rng, y=y, x=x, fate=living, line=CellLine()) for y, x in places]
    fine = (VOXEL_UM[0] / 2, *VOXEL_UM[1:])
    contrast, _ = draw_field(bodies, hours=0, shape=(2 * DEPTH, size, size), voxel_um=fine, rng=rng)
    seen = image(contrast, voxel_um=VOXEL_UM, medium_index=MEDIUM / 1e4, optics=Optics())
    field = np.asarray(MEDIUM + 1e4 * _soften(seen), dtype=np.float32)
    field.setflags(write=False)
    return field


def cut(
    folder: Path,
    field: npt.NDArray[np.float32],
    *,
    rows: int,
    columns: int,
    overlap: float = 0.15,
    error_um: float = 3.0,
    whole: bool = False,
    axial: bool = False,
    level: float = 5.0,
    bow: float = 4.0,
    seed: int = 0,
    frames: int = 1,
    wander: int = 0,
    mirror: tuple[int, int] = (1, 1),
    swap: bool = False,
) -> World:
    """Cut a field into overlapping tiles as a stage that errs would, and write them as acquisitions.

    The stage stands at the planned place in the metadata, and up to `error_um` away from it in truth (per axis).
    `mirror` and `swap` tell how its axes run. At every later frame it errs anew by up to `wander` pixels.
    """
    rng = np.random.default_rng((seed, rows, columns))
    depth, height, width = field.shape
    border = int(np.ceil(error_um / VOXEL_UM[1])) + 1
    tile = int(min((n - 2 * border) / (k - (k - 1) * overlap) for n, k in ((height, rows), (width, columns))))
    step = tile * (1 - overlap)
    levels = rng.uniform(-level, level, rows * columns)
    grid = np.linspace(-1, 1, tile)
    # the fall-off of a lens, not the parabola that the correction fits
    shading = np.cos(0.6 * np.hypot(grid[:, None], grid[None, :])) ** 4
    shading = bow * (shading - shading.mean()) / np.ptp(shading)
    paths, corners = [], []
    for number in range(rows * columns):
        planned = border + step * np.array(divmod(number, columns))
        if whole:
            planned = np.rint(planned)
        error = rng.uniform(-error_um, error_um, 2) / VOXEL_UM[1]
        place = planned + (np.trunc(error) if whole else error)
        lift = int(rng.integers(0, 2)) if axial else 0
        volumes = []
        for frame in range(frames):
            stray = rng.integers(-wander, wander + 1, 2) if frame and number else np.zeros(2)
            seen = _shifted(field, place + stray, tile)[lift : depth - 1 + lift if axial else depth]
            seen = seen + levels[number] + shading + rng.normal(0, NOISE, seen.shape)
            counts = np.rint(seen).astype(np.uint16)
            for edge in (np.s_[:, :RIM], np.s_[:, -RIM:], np.s_[:, :, :RIM], np.s_[:, :, -RIM:]):
                counts[edge] = 0
            volumes.append(counts)
        x, y = planned[1] * mirror[0], planned[0] * mirror[1]
        if swap:
            x, y = y, x
        path = folder / f"tile{number:02d}.TCF"
        write_tcf(
            path,
            frames=volumes,
            voxel_um=VOXEL_UM,
            times_s=[1800.0 * t for t in range(frames)],
            medium_index=MEDIUM / 1e4,
            recording_time=START,
            position_mm=(x * VOXEL_UM[2] / 1000, y * VOXEL_UM[1] / 1000, 0.0),
        )
        paths.append(path)
        corners.append((lift, *place))
    return World(paths, field, np.array(corners), levels)


def truth_of(world: World, mosaic: Mosaic) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return the field on the mosaic's grid, and where it is known (the field has an end along z)."""
    origin = world.corners[0] - np.array(mosaic.placement[0])
    height, width = mosaic.shape_zyx[1:]
    moved = scipy.fft.ifftn(
        scipy.fft.fftn(world.truth, axes=(1, 2)) * _phase(world.truth.shape[1:], -origin[1:]), axes=(1, 2)
    ).real
    expected = np.zeros(mosaic.shape_zyx, dtype=np.float32)
    low = round(origin[0])
    source = np.arange(low, low + mosaic.shape_zyx[0])
    known = (source >= 0) & (source < len(world.truth))
    expected[known] = np.take(np.take(moved, range(height), axis=1, mode="wrap"), range(width), axis=2, mode="wrap")[
        source[known]
    ]
    return expected, np.broadcast_to(known[:, None, None], expected.shape)


def offset_errors(world: World, mosaic: Mosaic) -> Plane:
    """Return (pair, 3) measured offset less the true one, voxels."""
    return np.array(
        [np.subtract(s.refined_offset, world.corners[s.second] - world.corners[s.first]) for s in mosaic.seams]
    )


def seam_steps(difference: npt.NDArray[np.floating], mosaic: Mosaic, tile: int, *, band: int = 8) -> Plane:
    """Return the mean step across each overlap, from a band on its one side to one on its other, counts.

    Parameters
    ----------
    difference
        (z, y, x) mosaic less truth, NaN where missing.
    """
    steps = []
    for seam in mosaic.seams:
        a, b = (np.rint(mosaic.placement[n]).astype(int)[1:] for n in (seam.first, seam.second))
        axis = int(np.argmax(np.abs(b - a)))
        plane = difference if axis == 1 else difference.swapaxes(1, 2)
        low, high = sorted((a[axis], b[axis]))
        side = slice(max(a[1 - axis], b[1 - axis]) + 40, min(a[1 - axis], b[1 - axis]) + tile - 40)
        before, after = plane[:, side, high - band : high], plane[:, side, low + tile : low + tile + band]
        steps.append(np.nanmean(after) - np.nanmean(before))
    return np.array(steps)


def line_steps(difference: npt.NDArray[np.floating], width: int, *, length: int, count: int = 200) -> Plane:
    """Return the same across random places that are no seams in particular."""
    rng = np.random.default_rng(5)
    steps = []
    for _ in range(count):
        plane = difference if rng.integers(2) else difference.swapaxes(1, 2)
        x = rng.integers(12, plane.shape[2] - width - 24)
        y = rng.integers(12, plane.shape[1] - length - 12)
        rows = plane[:, y : y + length]
        steps.append(np.nanmean(rows[:, :, x + width + 8 : x + width + 16]) - np.nanmean(rows[:, :, x : x + 8]))
    return np.array(steps)


def _soften(seen: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Take away what a grid this coarse cannot hold: bodies drawn on it have sharper edges than any optics show."""
    spectrum = scipy.fft.rfft2(seen)
    y, x = scipy.fft.fftfreq(seen.shape[1])[:, None], scipy.fft.rfftfreq(seen.shape[2])[None, :]
    soft: npt.NDArray[np.float32] = scipy.fft.irfft2(spectrum * np.exp(-2 * (np.pi * 0.8) ** 2 * (y**2 + x**2)))
    return soft


def _phase(shape: Sequence[int], shift: Plane) -> npt.NDArray[np.complex128]:
    y, x = scipy.fft.fftfreq(shape[0])[:, None], scipy.fft.fftfreq(shape[1])[None, :]
    return np.asarray(np.exp(-2j * np.pi * (y * shift[0] + x * shift[1])))


def _shifted(field: npt.NDArray[np.float32], place: Plane, size: int) -> npt.NDArray[np.float32]:
    """Cut a square out of a periodic field at any place, exactly."""
    whole = np.floor(place).astype(int)
    moved = field
    if (place != whole).any():
        spectrum = scipy.fft.fft2(field) * _phase(field.shape[1:], whole - place)
        moved = scipy.fft.ifft2(spectrum).real.astype(np.float32)
    return moved[:, whole[0] : whole[0] + size, whole[1] : whole[1] + size]


def measure(world: World) -> tuple[Mosaic, np.ndarray, npt.NDArray[np.float32]]:
    """Stitch, print a line of numbers, and return the mosaic, its counts and what differs from the truth."""
    start = time.perf_counter()
    with open_mosaic(world.paths) as mosaic:
        assert isinstance(mosaic, Mosaic)
        placed = time.perf_counter()
        counts, _ = read_frame(mosaic, 0)
        done = time.perf_counter()
        expected, known = truth_of(world, mosaic)
    difference = np.where(known & (counts > 0), counts - expected - world.levels.mean(), np.nan).astype(np.float32)
    with open_mosaic(world.paths[:1]) as first:
        tile = first.shape_zyx[1]
    errors = np.abs(offset_errors(world, mosaic)[[s.registered for s in mosaic.seams]])
    steps = np.abs(seam_steps(difference, mosaic, tile))
    lines = np.abs(line_steps(difference, tile // 6, length=tile - 80))
    left = [seam for seam in mosaic.seams if not seam.registered]
    residual = max(seam.residual_um for seam in mosaic.seams if seam.registered)
    print(
        f"{len(world.paths):2d} tiles of {tile} px, {len(mosaic.seams):2d} seams, {len(left)} left to the stage: "
        f"offset error y, x {errors[:, 1:].max():.3f} px, z {errors[:, 0].max():.2f}; residual <= {residual:.3f} um; "
        f"step before {max(abs(s.step_before) for s in mosaic.seams) * 1e4:.2f}, in the mosaic {steps.max():.2f} "
        f"(random lines 95 %: {np.quantile(lines, 0.95):.2f}); less truth: mean {np.nanmean(difference):+.3f}, "
        f"sd {np.nanstd(difference):.2f} counts; {placed - start:.1f} s to place, {done - placed:.1f} s to blend"
    )
    return mosaic, counts, difference


def draw(mosaic: Mosaic, counts: np.ndarray, difference: npt.NDArray[np.float32], tile: int) -> Image.Image:
    """Maximum projection with the tiles' outlines beside the mean difference to the truth (+-5 counts)."""
    shown = np.clip((counts.max(axis=0) - 13350.0) / 450, 0, 1)
    left = Image.fromarray((255 * shown).astype(np.uint8)).convert("RGB")
    seen = np.isfinite(difference)
    right = np.clip(0.5 + np.where(seen, difference, 0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1) / 10, 0, 1)
    sheet = Image.new("RGB", (2 * left.width + 10, left.height), "white")
    sheet.paste(left, (0, 0))
    sheet.paste(Image.fromarray((255 * right).astype(np.uint8)).convert("RGB"), (left.width + 10, 0))
    pen = ImageDraw.Draw(sheet)
    colours = ("#ff5050", "#50ff50", "#60a0ff", "#ffd040", "#ff60ff", "#40ffff", "#ff9040", "#a0ff90", "#c0a0ff")
    for number, (_, y, x) in enumerate(mosaic.placement):
        colour = colours[number % len(colours)]
        pen.rectangle((x, y, x + tile, y + tile), outline=colour)
        pen.text((x + 6, y + 4), str(number), fill=colour)
    return sheet


def main(out: Path) -> None:
    field = wide_field()
    with tempfile.TemporaryDirectory() as folder:
        for rows, columns, overlap in ((2, 2, 0.1), (2, 2, 0.2), (1, 4, 0.2), (3, 3, 0.2), (3, 3, 0.15)):
            world = cut(Path(folder) / f"{rows}{columns}{overlap}", field, rows=rows, columns=columns, overlap=overlap)
            mosaic, counts, difference = measure(world)
        with open_mosaic(world.paths[:1]) as first:
            sheet = draw(mosaic, counts, difference, first.shape_zyx[1])
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
