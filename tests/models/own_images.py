"""A set of four small images and the settings that describe it, each part of which a test may replace."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.datasets import Patches

SETTINGS = """
[images]
file = '{file}'
image = "image"
label = "label"
px = {px}
{places}
[images.states]
{states}
"""


def write_images(
    folder: Path,
    *,
    image: npt.NDArray[Any] | None = None,
    label: npt.NDArray[Any] | None = None,
    arrays: dict[str, npt.NDArray[Any]] | None = None,
    px: int = 10,
    places: str = "",
    states: str = "live = [0]\ndead = [1]",
    values: str = "",
) -> Path:
    """Write images.npz and images.toml; returns the settings. Values run to 100."""
    own: dict[str, npt.NDArray[Any]] = {
        "image": np.zeros((4, 10, 10)) if image is None else image,
        "label": np.array([0, 1, 0, 1]) if label is None else label,
    }
    np.savez(folder / "images.npz", **{**own, **(arrays or {})})  # type: ignore[arg-type]
    text = SETTINGS.format(file="images.npz", px=px, places=places, states=states)
    path = folder / "images.toml"
    path.write_text(f"{text}\n[images.values]\nlargest = 100.0\n{values}\n", encoding="utf-8")
    return path


def values_of(patches: Patches, *, largest: float) -> npt.NDArray[np.float64]:
    """What a network sees before its window and mean, in the unit of the settings."""
    assert patches.window is not None
    index = patches.counts / 1e4 - patches.medium_index[:, None, None].astype(float)
    values: npt.NDArray[np.float64] = index / patches.window[1] * largest
    return values
