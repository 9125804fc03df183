"""A real cell as a plate: the measured HL60 tomogram in TCF files, to run tomoscreen on real input.

The tomogram is one untreated HL60 cell in PBS, 140 x 140 x 140 voxels of 0.139 um, reconstructed with
ODTbrain from the data of Schuermann et al., J. Biophotonics 11(3), e201700145 (2017),
doi:10.1002/jbio.201700145 (CC0). Every field holds several copies of it, turned and mirrored in the plane, so
all wells hold the same living cell: there is no death to find, and the plate map's doses are in name only.

    python -m tests.benchmarks.hl60_plate OUT_FOLDER [SOURCE_FOLDER]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path

import numpy as np
import tifffile

from plates.simulation.acquisition import acquisition_name, write_tcf

VOXEL_UM = 0.139
MEDIUM = 13350  # index of PBS x 1e4
SIZE_PX = 480  # 66.7 um, 2.6 patches
SLOTS = 3  # copies along each side of a field at most
JITTER_PX = 8
NOISE = 1.5  # standard deviation, index x 1e4
START = datetime(2026, 4, 1, 9, 0, 0)

PLATE_MAP = """\
well,compound,dose (uM),control,inducer,replicate,cell line
A1,PBS,,negative,,1,HL60
A2,PBS,,negative,,2,HL60
B1,sham,1,none,,1,HL60
B2,sham,10,none,,1,HL60
"""
SETTINGS = """\
[campaign]
name = "HL60-campaign"
out = "results"

[[plates]]
name = "HL60"
acquisitions = "HL60"
layout = "HL60.csv"
"""


def make_hl60_acquisitions(folder: Path, *, source: Path, fields: int = 2, timepoints: int = 2, seed: int = 60) -> Path:
    """Write acquisitions of four wells, their plate map `HL60.csv` and a `screen.toml` into a folder.

    Parameters
    ----------
    source
        Folder of the tomogram, a TIFF of uint16 = index x 1e4 (z, y, x).

    Returns
    -------
    Path
        The `screen.toml`, ready for `tomoscreen run`.
    """
    folder, source = Path(folder), Path(source)
    cell = read_cell(source)
    wells = [line.split(",")[0] for line in PLATE_MAP.splitlines()[1:]]
    for order, (number, field) in enumerate(product(range(len(wells)), range(fields))):
        recorded = START + timedelta(minutes=order)
        name = acquisition_name(
            recorded,
            experiment="HL60 in PBS",
            number=1,
            group="Group1",
            well=wells[number],
            suffix=f"T001P{field + 1:02d}",
        )
        write_tcf(
            folder / "HL60" / name.removesuffix(".TCF") / name,
            frames=_frames(cell, (seed, number, field), timepoints),
            voxel_um=(VOXEL_UM, VOXEL_UM, VOXEL_UM),
            times_s=[3600.0 * timepoint for timepoint in range(timepoints)],
            medium_index=MEDIUM / 1e4,
            recording_time=recorded,
            well=wells[number],
            device_serial="HL60",
            wavelength_um=0.647,
        )
    (folder / "HL60.csv").write_text(PLATE_MAP, encoding="utf-8")
    settings = folder / "screen.toml"
    settings.write_text(SETTINGS, encoding="utf-8")
    return settings


def read_cell(source: Path) -> np.ndarray:
    """Return what the cell adds to the medium, index x 1e4 (z, y, x), z cropped to the cell.

    The reconstruction's own background lies up to 2e-3 below the medium, so it is faded out around the cell:
    pasted as it is, each copy would show as a dark box.
    """
    files = sorted(source.glob("*.tif"))
    if not files:
        raise FileNotFoundError(f"no .tif in {source}; expected the HL60 tomogram, index x 1e4")
    excess = tifffile.imread(files[0]).astype(np.float32) - MEDIUM
    axes = np.ogrid[tuple(slice(-(n - 1) / 2, n / 2) for n in excess.shape)]
    distance = np.sqrt(sum(axis**2 for axis in axes))
    # the cell ends 53 voxels from the centre; the fade must end within the box
    window = np.clip((69 - distance) / 10, 0, 1)
    inside = np.flatnonzero((excess * window > 100).any(axis=(1, 2)))
    lower, upper = max(inside[0] - 4, 0), inside[-1] + 5
    return np.asarray((excess * window)[lower:upper], dtype=np.float32)


def _frames(cell: np.ndarray, seed: tuple[int, ...], timepoints: int) -> Iterator[np.ndarray]:
    """Yield frames of one field, uint16 (z, y, x): the copies stay, each stirring by a voxel or two."""
    rng = np.random.default_rng(seed)
    slots = list(product(range(SLOTS), repeat=2))
    taken = [slots[i] for i in rng.permutation(len(slots))[: int(rng.integers(5, 8))]]
    pitch, box = SIZE_PX // SLOTS, cell.shape[1]
    copies = []
    for slot in taken:
        copy = np.rot90(cell, k=int(rng.integers(4)), axes=(1, 2))
        copy = copy[:, ::-1] if rng.integers(2) else copy
        corner = pitch * np.array(slot) + (pitch - box) // 2 + rng.integers(-JITTER_PX, JITTER_PX + 1, 2)
        copies.append((copy, corner))
    for _ in range(timepoints):
        frame = np.full((cell.shape[0], SIZE_PX, SIZE_PX), MEDIUM, dtype=np.float32)
        for copy, corner in copies:
            y, x = corner + rng.integers(-2, 3, 2)
            frame[:, y : y + box, x : x + box] += copy
        frame += NOISE * rng.standard_normal(frame.shape, dtype=np.float32)
        yield np.rint(frame).astype(np.uint16)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    default = Path(__file__).parents[1] / "data" / "hl60_tomogram"
    print(make_hl60_acquisitions(Path(sys.argv[1]), source=Path(sys.argv[2]) if len(sys.argv) == 3 else default))
