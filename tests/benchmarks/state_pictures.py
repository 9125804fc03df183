"""Draw the five simulated states hour by hour as maximum projections, to be judged by eye.

python -m tests.benchmarks.state_pictures docs/images/states.png
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from plates.simulation.cells import CellLine, make_cell
from plates.simulation.death import NEVER, Fate
from plates.simulation.drawing import draw_field
from plates.simulation.optics import Optics, add_background, image
from plates.states import DEAD, STATES

VOXEL_UM = (0.87449, 0.16256, 0.16256)
SIZE, SHOWN = 400, 260
HOURS_SINCE = (0.3, 1.0, 2.0, 4.0, 12.0)
WINDOW = (-0.002, 0.055)  # index above the medium, black to white
NOW = 20.0


def fate_of(state: str, since: float) -> Fate:
    """A cell that entered its state so many hours ago."""
    if state in DEAD:
        return Fate(state, NOW - since, NEVER, NEVER, NEVER, NEVER)
    return Fate("apoptosis", NEVER, NEVER, NEVER, NOW - since if state == "live-treated" else NEVER, NEVER)


def projection(state: str, since: float) -> np.ndarray:
    """Maximum projection of a field of five cells, all in one state; the same cells in every picture."""
    rng = np.random.default_rng(12)
    places = [(18, 17), (20, 48), (47, 14), (46, 46), (33, 31)]
    line = CellLine(mitotic_share=0.0)
    cells = [make_cell(rng, y=float(y), x=float(x), fate=fate_of(state, since), line=line) for y, x in places]
    fine = (VOXEL_UM[0] / 2, *VOXEL_UM[1:])
    contrast, _ = draw_field(cells, hours=NOW, shape=(48, SIZE, SIZE), voxel_um=fine, rng=np.random.default_rng(3))
    seen = image(contrast, voxel_um=VOXEL_UM, medium_index=line.medium_index, optics=Optics())
    add_background(seen, rng=np.random.default_rng(4), voxel_um=VOXEL_UM, optics=Optics())
    shown: np.ndarray = seen.max(axis=0)
    return shown


def main(out: Path) -> None:
    margin, head = 110, 24
    sheet = Image.new("L", (margin + SHOWN * len(HOURS_SINCE), head + SHOWN * len(STATES)), 255)
    draw = ImageDraw.Draw(sheet)
    for column, since in enumerate(HOURS_SINCE):
        draw.text((margin + SHOWN * column + 8, 6), f"{since:g} h after onset", fill=0)
    for row, state in enumerate(STATES):
        draw.text((8, head + SHOWN * row + SHOWN // 2), state, fill=0)
        for column, since in enumerate(HOURS_SINCE):
            low, high = WINDOW
            grey = np.clip((projection(state, since) - low) / (high - low), 0, 1) * 255
            picture = Image.fromarray(grey.astype(np.uint8)).resize((SHOWN - 4, SHOWN - 4))
            sheet.paste(picture, (margin + SHOWN * column, head + SHOWN * row))
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
