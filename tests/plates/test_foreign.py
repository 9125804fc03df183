"""Somebody else's plate used in place: its geometry is known, its tomograms are read where they lie."""

import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from plates.errors import AcquisitionError, StoreError
from plates.foreign import open_foreign_plate

from .acquisitions import tomogram
from .foreign_plates import VOXEL_UM, write_by_hand, write_image

SHAPE = (4, 40, 36)


def lapse(seed: int, *, timepoints: int = 2) -> np.ndarray:
    return np.stack([tomogram(10 * seed + t, shape=SHAPE) for t in range(timepoints)])


def write(path: Path) -> dict[str, np.ndarray]:
    """Two wells, the first with two fields."""
    images = {"B/2/fov1": lapse(1), "B/2/fov0": lapse(0), "C/3/a": lapse(2)}
    scale = {"type": "scale", "scale": [1800, *VOXEL_UM]}
    write_by_hand(path, images, axes="tzyx", transformations=[scale])
    return images


def test_geometry_and_tomograms_are_those_of_the_plate(tmp_path: Path) -> None:
    images = write(tmp_path / "p.zarr")
    before = sorted(tmp_path.rglob("*"))
    plate = open_foreign_plate(tmp_path / "p.zarr")
    assert plate.wells == ("B02", "C03")
    assert (plate.fields, plate.timepoints) == (2, 2)
    assert plate.shape_zyx == SHAPE
    assert plate.voxel_um == VOXEL_UM
    assert plate.hours == (0.0, 0.5)
    assert (plate.rows, plate.columns) == (3, 4)  # the smallest usual plate with a well C03
    for part, (well, field) in {"B/2/fov1": ("B02", 0), "B/2/fov0": ("B02", 1), "C/3/a": ("C03", 0)}.items():
        for timepoint in range(2):
            np.testing.assert_array_equal(plate.volume(well, field=field, timepoint=timepoint), images[part][timepoint])
    with pytest.raises(StoreError, match="no well 'C03', field 1; the plate has 2 wells"):
        plate.volume("C03", field=1, timepoint=0)
    assert sorted(tmp_path.rglob("*")) == before  # nothing was written


def test_a_plate_travels_to_other_processes_and_serves_many_threads(tmp_path: Path) -> None:
    images = write(tmp_path / "p.zarr")
    plate = pickle.loads(pickle.dumps(open_foreign_plate(tmp_path / "p.zarr")))
    with ThreadPoolExecutor(8) as threads:
        volumes = list(threads.map(lambda n: plate.volume("C03", field=0, timepoint=n % 2), range(24)))
    for number, volume in enumerate(volumes):
        np.testing.assert_array_equal(volume, images["C/3/a"][number % 2])


def test_a_lost_tomogram_is_absent_and_a_damaged_one_an_error(tmp_path: Path) -> None:
    write(tmp_path / "p.zarr")
    plate = open_foreign_plate(tmp_path / "p.zarr")
    array = tmp_path / "p.zarr/C/3/a/0"
    chunk = sorted(file for file in (array / "c").rglob("*") if file.is_file())[0]
    chunk.write_bytes(chunk.read_bytes()[:-5])
    with pytest.raises(StoreError, match="damaged"):
        plate.volume("C03", field=0, timepoint=1)
    shutil.rmtree(array / "c")
    reopened = open_foreign_plate(tmp_path / "p.zarr")  # one empty field does not spoil the plate
    with pytest.raises(StoreError, match="frame 1 is missing"):
        reopened.volume("C03", field=0, timepoint=1)


def test_fields_of_another_shape_are_listed(tmp_path: Path) -> None:
    images = {f"A/{column}/0": tomogram(0, shape=SHAPE) for column in range(1, 5)}
    images["A/3/0"] = images["A/3/0"][:, :30]
    path = write_by_hand(tmp_path / "p.zarr", images)
    with pytest.raises(AcquisitionError, match="there are A/3/0 with 4 x 30 x 36 voxels of"):
        open_foreign_plate(path)
    write_image(
        path / "A/3/0",
        images["A/1/0"],
        axes="zyx",
        transformations=[{"type": "scale", "scale": [0.95, 0.17, 0.17]}],
    )
    with pytest.raises(AcquisitionError, match=r"4 x 40 x 36 voxels of 0\.95 x 0\.17 x 0\.17 um"):
        open_foreign_plate(path)


def test_the_format_is_the_one_that_the_plate_lists(tmp_path: Path) -> None:
    path = write_by_hand(tmp_path / "p.zarr", {"A/1/0": tomogram(0, shape=SHAPE)})
    document = json.loads((path / "zarr.json").read_text())
    listed = document["attributes"]["ome"]["plate"]
    listed["rows"] = [{"name": letter} for letter in "ABCDEFGH"]
    listed["columns"] = [{"name": str(number)} for number in range(1, 13)]
    (path / "zarr.json").write_text(json.dumps(document))
    plate = open_foreign_plate(path)
    assert (plate.rows, plate.columns) == (8, 12)


def test_hours_that_the_plate_does_not_say_are_not_invented(tmp_path: Path) -> None:
    units = dict.fromkeys("zyx", "micrometer")
    path = write_by_hand(tmp_path / "p.zarr", {"A/1/0": lapse(0)}, axes="tzyx", units=units)
    assert open_foreign_plate(path).hours is None
