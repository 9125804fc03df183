"""Patches of five made-up states that differ in form, for tests that need something to learn."""

import numpy as np
import numpy.typing as npt

from models.datasets import MARGIN_PX, Patches
from plates.states import STATES

MEDIUM = 1.337


def made_index(state: int, *, px: int, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Index above the medium (y, x) of one cell: a disc, a ring, debris, a bright spot, or two discs."""
    y, x = (np.mgrid[:px, :px] - px / 2 + random.uniform(-0.08, 0.08, size=(2, 1, 1)) * px) / px
    r = np.hypot(y, x)
    turn = random.uniform(0, np.pi)
    along = y * np.sin(turn) + x * np.cos(turn)
    if state == 0:
        index = 0.025 * (r < 0.22)
    elif state == 1:
        index = 0.025 * (np.abs(r - 0.22) < 0.05)
    elif state == 2:
        index = 0.05 * (random.random((px, px)) < 0.08) * (r < 0.35)
    elif state == 3:
        index = 0.02 * (r < 0.3) + 0.03 * (r < 0.08)
    else:
        index = 0.025 * (r < 0.32) * (np.abs(along) > 0.1)
    noisy: npt.NDArray[np.float64] = index * random.uniform(0.9, 1.1) + random.normal(0, 2e-4, (px, px))
    return noisy


def make_patches(count: int, *, px: int, seed: int, wells: int = 15, splits: tuple[str, ...] = ("train",)) -> Patches:
    """`count` patches with context, their states and wells in turn; wells dealt to the splits in turn."""
    random = np.random.default_rng(seed)
    truth = np.arange(count) % len(STATES)
    size = px + 2 * MARGIN_PX
    index = np.zeros((count, size, size))
    inner = slice(MARGIN_PX, MARGIN_PX + px)
    for place, state in enumerate(truth):
        index[place, inner, inner] = made_index(int(state), px=px, random=random)
    well = np.arange(count) // len(STATES) % wells
    return Patches(
        counts=np.rint((index + MEDIUM) * 1e4).astype(np.uint16),
        corner=np.full((count, 2), MARGIN_PX),
        medium_index=np.full(count, MEDIUM, dtype=np.float32),
        truth=truth.astype(np.int64),
        group=np.array([f"P.zarr:A{number + 1:02d}" for number in well]),
        split=np.array(splits)[well % len(splits)],
    )
