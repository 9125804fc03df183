"""The short way from the simulator to patches shows the same pixels as the long one through files and store."""

from pathlib import Path
from typing import Any

import numpy as np

from plates.ingest.convert import ingest
from plates.layout import read_plate_map
from plates.simulation.design import design_annotation_plate
from plates.simulation.plate import simulate_plate
from plates.simulation.truth import annotate as annotate_store
from plates.store import open_plate
from tests.benchmarks.simulated_patches import annotate, read, simulate


def test_projections_volumes_states_and_patches_are_those_of_the_store(tmp_path: Path) -> None:
    design = design_annotation_plate(
        5, name="C5", wells_per_state=1, hours=(12.0,), fields=1, shape=(8, 240, 240), confluency=(0.5, 0.7)
    )
    short = simulate(design, tmp_path / "short", processes=1, volumes=True)
    folder = simulate_plate(design, tmp_path)
    stored = ingest(folder, out=tmp_path / "C5.zarr", plate_map=read_plate_map(tmp_path / "C5.csv"))
    plate = open_plate(stored.path)
    for well in plate.wells:
        place: dict[str, Any] = {"field": 0, "timepoint": 0}
        np.testing.assert_array_equal(short.projection(well, **place), plate.projection(well, **place))
        np.testing.assert_array_equal(short.volume(well, **place), plate.volume(well, **place))
    ours = annotate(short, split="train", least_area=0.05, purity=0.5)
    theirs = annotate_store(tmp_path / "C5.truth", stored.path)
    columns = ["well", "field", "timepoint", "y_um", "x_um", "state"]
    order = ["well", "y_um", "x_um"]
    one, other = (table[columns].sort_values(order, ignore_index=True) for table in (ours, theirs))
    assert one.astype(str).equals(other.astype(str))
    patches = read([short], ours)
    assert len(patches) == len(one) > 5
    assert patches.counts.max() > 13500


def test_a_plate_that_is_there_is_not_simulated_again(tmp_path: Path) -> None:
    design = design_annotation_plate(5, name="C5", wells_per_state=1, hours=(12.0,), fields=1, shape=(8, 200, 200))
    plate = simulate(design, tmp_path, processes=1)
    before = (plate.folder / "projections.npy").stat().st_mtime_ns
    assert (simulate(design, tmp_path, processes=1).folder / "projections.npy").stat().st_mtime_ns == before
    simulate(design, tmp_path, processes=1, volumes=True)
    assert (plate.folder / "volumes.npy").exists()
