"""How long the plate browser takes to show a whole plate with its map of states, and then a well.

    python -m tests.benchmarks.plate_browser
    python -m tests.benchmarks.plate_browser --wells 384 --repeats 5

A full plate of the demonstration's size (fields of 480 x 480 pixels, 24 slices) is written and opened in headless
Chromium without a GPU, from a new server and an empty profile each time. Seconds from asking for the address to the
last well being drawn; and the processor time of this process, which serves. About a minute for 96 wells.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import xarray as xr

from plates.creation import create_plate
from plates.layout.wells import well_name
from plates.patches import patch_centres
from plates.results import write_result
from plates.states import STATES
from plates.store import Plate
from screening.view import serve_plate
from tests.reports.browser import browser

FORMATS = {96: (8, 12), 384: (16, 24)}
READY = "!!document.body && document.body.dataset.state === 'ready'"


def write(folder: Path, *, wells: int) -> Plate:
    """Every well imaged and classified once; the images of all are the same noise with bodies in it."""
    rows, columns = FORMATS[wells]
    shape = (24, 480, 480)
    names = [well_name(row, column) for row in range(rows) for column in range(columns)]
    plate = create_plate(
        folder / "P001.zarr", name="P001", wells=names, fields=1, timepoints=1, shape_zyx=shape,
        voxel_um=(0.87449, 0.16256, 0.16256), rows=rows, columns=columns, hours=(0.0,), provenance={},
    )  # fmt: skip
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:480, :480]
    volume = rng.normal(13370, 8, shape)
    for centre_y, centre_x in rng.uniform(0, 480, (12, 2)):
        volume += 300 * np.exp(-((((y - centre_y) ** 2 + (x - centre_x) ** 2) / 900) ** 2))
    stored = volume.astype(np.uint16)
    for well in plate.wells:
        plate.write_field(well, field=0, timepoint=0, volume=stored)
        classes = np.kron(rng.integers(0, 6, (3, 3)), np.ones((160, 160))).astype(np.uint8)
        plate.write_classes(well, field=0, timepoint=0, classes=classes)
    _write_results(plate, rng)
    return plate


def _write_results(plate: Plate, rng: np.random.Generator) -> None:
    names, states = np.array(plate.wells, dtype=object), np.array(STATES, dtype=object)
    centres = patch_centres(plate.shape_zyx[1:], voxel_um=plate.voxel_um[1:])
    shape = (len(names), 1, 1, len(centres[0]), len(centres[1]))
    probability = rng.dirichlet(np.ones(len(states)), shape).astype(np.float32)
    results = {
        "layout": xr.Dataset(
            {"compound": ("well", names), "dose": ("well", np.ones(len(names)))}, coords={"well": names}
        ),
        "probabilities": xr.Dataset(
            {"probability": (("well", "field", "timepoint", "py", "px", "state"), probability)},
            coords={"well": names, "state": states, "py_um": ("py", centres[0]), "px_um": ("px", centres[1])},
            attrs={"classifier": "invented", "patch_um": 25.6},
        ),
    }
    for name, dataset in results.items():
        write_result(plate.path, name, dataset, provenance={})


def measure(plate: Plate) -> dict[str, float]:
    """One opening of the plate, then of a well."""
    server = serve_plate(plate)
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, browser(Path(folder)) as tab:
            tab.call("Page.enable")
            tab.resize(1440, 900)
            begun, busy = time.monotonic(), time.process_time()
            tab.call("Page.navigate", url=server.address)
            tab.wait_for(READY)
            whole, served = time.monotonic() - begun, time.process_time() - busy
            begun = time.monotonic()
            tab.ask(f"show({{well: '{plate.wells[len(plate.wells) // 2]}'}})")
            tab.wait_for(READY)
            return {"plate_s": whole, "plate_served_cpu_s": served, "well_s": time.monotonic() - begun}
    finally:
        server.close()


def main() -> None:
    """Print the median of each number."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--wells", type=int, default=96, choices=FORMATS)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plate = write(Path(folder), wells=asked.wells)
        rounds = [measure(plate) for _ in range(asked.repeats)]
    for name in rounds[0]:
        values = [one[name] for one in rounds]
        print(f"{asked.wells} wells  {name:20s} median {statistics.median(values):.2f}  highest {max(values):.2f}")


if __name__ == "__main__":
    main()
