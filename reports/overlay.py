"""The wide field as in the study's Figure 1: a grey projection, patches tinted by state, probabilities as bars.

The picture and what is drawn over it stay apart: the overlay is SVG made from the stored probabilities, so it
can be switched off, and it is sharp at any size. A page of many fields keeps the probabilities alone (`packed`)
and draws them when they come near the window; `overlay` draws the same for a reader without scripts.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from markupsafe import Markup
from PIL import Image

from plates.layout.roles import roles
from plates.states import COLOURS, LETTERS, STATES
from plates.store import Plate

from .tables import wells_of

COARSEST = 2  # level of the projections that every plate has
QUALITY = 58
# grey window relative to the medium: the medium dark but not black, droplets white
INDEX_LOW, INDEX_HIGH = -0.004, 0.050
COUNTS_PER_INDEX = 10_000
PERCENT = 200  # steps of a packed probability
BACKGROUND = 255
OUTLINE = 'stroke-width="2" vector-effect="non-scaling-stroke"'
BAR_BELOW = 0.11  # share of a patch's height
SCALE_BARS = (5, 10, 20, 50, 100, 200, 500)


RULE = (
    "Chosen are one vehicle well, one well of each positive control, then for each compound in the order of the "
    "ranking the first well at its highest dose, then the next lower dose of every compound and so on; always the "
    "first classified field at the reading time."
)


@dataclass(frozen=True)
class Scene:
    """One field at one timepoint, chosen for the gallery.

    `title` is what stands above the picture, `why` the part of the rule that chose it.
    """

    well: str
    field: int
    timepoint: int
    title: str
    why: str


def default_scenes(
    layout: xr.Dataset, status: xr.DataArray, *, compounds: Sequence[str], timepoint: int, limit: int
) -> list[Scene]:
    """Choose scenes as `RULE` says: vehicle, positive controls, then the compounds from their highest dose down.

    Parameters
    ----------
    layout
        The stored `layout` result. Excluded wells are not chosen.
    status
        `status` of the stored `probabilities`: (well, field, timepoint), 1 where done. The first field that is
        done is shown; a well without one gives way to the next of its kind.
    compounds
        Compounds in the order of the ranking.
    limit
        The most scenes to choose.
    """
    # a plate map may name wells that were not imaged, in an order of its own
    mapped = status.reindex(well=layout["well"].values, fill_value=0)
    done = mapped.isel(timepoint=timepoint).transpose("well", "field").values == 1
    role, inducer, compound = roles(layout), layout["inducer"].values, layout["compound"].values
    dose = layout["dose"].values.astype(float)
    wanted = [("vehicle", "vehicle control", np.flatnonzero(role == "negative"))]
    for name in sorted(set(inducer[role == "positive"])):
        wells = np.flatnonzero((role == "positive") & (inducer == name))
        wanted.append((str(compound[wells[0]]), f"positive control {name}".strip(), wells))
    steps: list[list[tuple[str, str, np.ndarray]]] = []
    for name in compounds:
        wells = wells_of(layout, name)
        wells = wells[role[wells] == "none"]
        for place, level in enumerate(np.unique(dose[wells])[::-1]):
            if place == len(steps):
                steps.append([])
            why = f"dose {place + 1} from the top" if place else "top dose"
            steps[place].append((name, why, wells[dose[wells] == level]))
    wanted += [entry for step in steps for entry in step]
    scenes = []
    for title, why, wells in wanted:
        usable = wells[done[wells].any(axis=1)] if len(wells) else wells
        if len(usable):
            well = int(usable[0])
            scenes.append(
                Scene(
                    well=str(layout["well"].values[well]),
                    field=int(status["field"].values[np.flatnonzero(done[well])[0]]),
                    timepoint=timepoint,
                    title=title,
                    why=why,
                )
            )
    return scenes[:limit]


def picture(plate: Plate, scene: Scene, *, timepoint: int, medium_index: float, pixels: int) -> str:
    """The projection of a scene as a grey WebP data address, at most so many pixels wide."""
    grey = projection(plate, scene, timepoint=timepoint, medium_index=medium_index, pixels=pixels)
    return webp(grey, pixels=pixels)


def projection(plate: Plate, scene: Scene, *, timepoint: int, medium_index: float, pixels: int) -> np.ndarray:
    """The projection of a scene as greys, read at the coarsest level that has so many pixels.

    All pictures of a page share one window of refractive index about the medium, so their greys compare.
    Voxels that were not reconstructed are black.
    """
    level = 0
    counts = plate.thumbnail(scene.well, field=scene.field, timepoint=timepoint, level=0)
    while max(counts.shape) >= 2 * pixels and level < COARSEST:
        level += 1
        counts = plate.thumbnail(scene.well, field=scene.field, timepoint=timepoint, level=level)
    index = counts.astype(np.float32) / COUNTS_PER_INDEX - medium_index
    grey = np.clip((index - INDEX_LOW) / (INDEX_HIGH - INDEX_LOW), 0, 1) * 255
    grey[counts == 0] = 0
    bytes_of_grey: np.ndarray = grey.astype(np.uint8)
    return bytes_of_grey


def webp(values: np.ndarray, *, pixels: int) -> str:
    """A picture of bytes, (y, x) or (y, x, colour), as a WebP data address, at most so many pixels wide."""
    image = Image.fromarray(values)
    image.thumbnail((pixels, pixels), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=QUALITY, method=6)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()


def packed(probability: xr.DataArray) -> list[int]:
    """Probabilities of all patches, row by row, in half percents; background patches have `BACKGROUND` throughout."""
    values = probability.transpose("py", "px", "state").values
    steps = np.where(np.isfinite(values), np.rint(np.nan_to_num(values) * PERCENT), BACKGROUND)
    stored: list[int] = steps.astype(int).ravel().tolist()
    return stored


def tiles(probability: xr.DataArray, *, size_um: tuple[float, float]) -> dict[str, list[int]]:
    """Where the patches of every field lie, in tenths of a micrometre: strips of rows and of columns.

    Where windows overlap, each is drawn as the square around its centre that is nearer to it than to any other.
    """
    patch_um = float(probability.attrs["patch_um"])
    tops, heights = _tiles(probability["py_um"].values, size_um[0], patch_um)
    lefts, widths = _tiles(probability["px_um"].values, size_um[1], patch_um)
    return {"tops": tops, "heights": heights, "lefts": lefts, "widths": widths}


def overlay(probability: xr.DataArray, *, size_um: tuple[float, float], label: str) -> Markup:
    """Patches over a field: tint, outline and letter of the most probable state, and the five probabilities as a bar.

    Parameters
    ----------
    probability
        (py, px, state) with coordinates `py_um`, `px_um`; NaN for background, which stays clear.
    size_um
        Height and width of the field.
    label
        What the picture shows, for those who cannot see it.
    """
    values = probability.transpose("py", "px", "state").values
    place = tiles(probability, size_um=size_um)
    tops, heights, lefts, widths = (place[name] for name in ("tops", "heights", "lefts", "widths"))
    squares: dict[str, list[str]] = {state: [] for state in STATES}
    bars: dict[str, list[str]] = {state: [] for state in STATES}
    letters: dict[str, list[tuple[int, int]]] = {state: [] for state in STATES}
    grounds = []
    size = max(24, min(46, round(min(*heights, *widths) / 5)))
    for row, column in np.argwhere(np.isfinite(values[..., 0])):
        x, y, width, height = lefts[column], tops[row], widths[column], heights[row]
        state = STATES[int(np.argmax(values[row, column]))]
        squares[state].append(f"M{x + 3} {y + 3}h{width - 6}v{height - 6}h-{width - 6}z")
        letters[state].append((x + 14, y + 10 + size))
        bar_height = round(height * BAR_BELOW)
        edges = x + 10 + np.rint(np.concatenate([[0], np.cumsum(values[row, column])]) * (width - 20)).astype(int)
        bar_top = y + height - bar_height - 10
        grounds.append(f"M{x + 8} {bar_top - 2}h{width - 16}v{bar_height + 4}h-{width - 16}z")
        for name, start, stop in zip(STATES, edges[:-1], edges[1:], strict=True):
            if stop > start:
                bars[name].append(f"M{start} {bar_top}H{stop}v{bar_height}H{start}z")
    parts = []
    for state in STATES:
        if squares[state]:
            colour, path = COLOURS[state], "".join(squares[state])
            parts.append(f'<path d="{path}" fill="{colour}" fill-opacity=".2" stroke="{colour}" {OUTLINE}/>')
    parts.append(f'<path d="{"".join(grounds)}" fill="#fff"/>')
    parts += [f'<path d="{"".join(bars[state])}" fill="{COLOURS[state]}"/>' for state in STATES if bars[state]]
    parts += [_letters(state, letters[state], size) for state in STATES if letters[state]]
    width, height = round(size_um[1] * 10), round(size_um[0] * 10)
    head = Markup('<svg class="over" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(width, height, label)
    return head + Markup("".join(parts) + "</svg>")


def scale_bar(*, size_um: tuple[float, float], symbol: bool = False) -> Markup:
    """A bar of a round length near a fifth of the field's width, to stand below the picture and hide nothing of it.

    It is as wide as the picture and 6 % of that high; as a `symbol` it can be used below every picture of a page.
    """
    width = round(size_um[1] * 10)
    length = 10 * max((bar for bar in SCALE_BARS if bar <= size_um[1] / 4), default=SCALE_BARS[0])
    unit = width / 100
    x = width - length
    box = f'viewBox="0 0 {width} {6 * unit:g}"'
    label = f"Scale bar: {length // 10} µm"
    head = f'<symbol id="scale-bar" {box}>' if symbol else f'<svg class="scale" {box} role="img" aria-label="{label}">'
    return Markup(
        f'{head}<rect x="{x}" y="{2.4 * unit:g}" width="{length}" height="{1.2 * unit:g}" fill="#1b2733"/>'
        f'<text x="{x - 1.5 * unit:g}" y="{4.5 * unit:g}" font-size="{4.4 * unit:g}" text-anchor="end" '
        f'fill="#1b2733">{length // 10} µm</text></{"symbol" if symbol else "svg"}>'
    )


def _tiles(centres_um: np.ndarray, size_um: float, patch_um: float) -> tuple[list[int], list[int]]:
    """Starts and lengths in tenths of a micrometre of the strips that share a field out among patch centres."""
    centres = np.asarray(centres_um, dtype=float)
    middles = (centres[:-1] + centres[1:]) / 2
    edges = np.concatenate([[max(centres[0] - patch_um / 2, 0)], middles, [min(centres[-1] + patch_um / 2, size_um)]])
    starts = np.rint(edges * 10).astype(int)
    return starts[:-1].tolist(), np.diff(starts).tolist()


def _letters(state: str, places: list[tuple[int, int]], size: int) -> str:
    """All letters of a state as one text element: the lists of x and y place its glyphs one by one."""
    xs, ys = (" ".join(str(place[axis]) for place in places) for axis in (0, 1))
    return (
        f'<text x="{xs}" y="{ys}" font-size="{size}" font-weight="700" fill="#fff" stroke="#000" stroke-width="5" '
        f'paint-order="stroke">{LETTERS[state] * len(places)}</text>'
    )
