"""Volumes cut from tomograms: the same places as on projections, planes around the focus, a file instead of memory."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from models.batches import Batches
from models.datasets import MARGIN_PX, read_patches, room_for
from models.volumes import axial_weights, focus_plane, planes_at_analysis_scale, read_volumes
from plates.creation import create_plate
from plates.errors import NoSpaceError, SettingsError, StoreError
from tests.models.made_patches import MEDIUM


class MemoryPlate:
    """A plate of noise-like tomograms, drawn anew from well, field and timepoint at every reading."""

    wells = ("A01", "A02")
    fields = 2
    timepoints = 2

    def __init__(
        self, shape: tuple[int, int, int] = (6, 210, 230), voxel_um: tuple[float, float, float] = (1.0, 0.16, 0.16)
    ) -> None:
        self.shape, self.voxel_um = shape, voxel_um
        self.read: list[tuple[str, int, int]] = []

    def volume(self, well: str, *, field: int, timepoint: int) -> npt.NDArray[np.uint16]:
        self.read.append((well, field, timepoint))
        random = np.random.default_rng([int(well[1:]), field, timepoint])
        return random.integers(13350, 13700, self.shape, dtype=np.uint16)

    def projection(self, well: str, *, field: int, timepoint: int) -> npt.NDArray[np.uint16]:
        projection: npt.NDArray[np.uint16] = self.volume(well, field=field, timepoint=timepoint).max(axis=0)
        return projection


def medium_of(_: Path) -> Any:
    return lambda well, field, timepoint: MEDIUM


def table_of(*rows: dict[str, Any]) -> pd.DataFrame:
    base = {"plate": "P.zarr", "well": "A01", "field": 0, "timepoint": 0, "y_um": 16.0, "x_um": 18.0}
    return pd.DataFrame([base | {"state": "necrosis"} | row for row in rows])


PLACES = table_of({"split": "test"}, {"well": "A02", "x_um": 13.0, "split": "train"}, {"y_um": 14.0, "split": "test"})


def test_all_planes_of_a_volume_give_the_projection_of_the_same_place() -> None:
    options: dict[str, Any] = {"open_plate": lambda _: MemoryPlate(), "medium_of": medium_of}
    volumes = read_volumes(PLACES, planes=6, um_per_plane=1.0, **options)
    patches = read_patches(PLACES, **options)
    np.testing.assert_array_equal(volumes.counts.max(axis=1), patches.counts)
    for name in ("corner", "medium_index", "truth", "group", "split"):
        np.testing.assert_array_equal(getattr(volumes, name), getattr(patches, name))
    assert (volumes.planes, volumes.um_per_plane) == (6, 1.0)


def test_volumes_in_a_file_are_those_in_memory(tmp_path: Path) -> None:
    options: dict[str, Any] = {"planes": 4, "um_per_plane": 1.5, "open_plate": lambda _: MemoryPlate()}
    inside = read_volumes(PLACES, medium_of=medium_of, **options)
    beside = read_volumes(PLACES, medium_of=medium_of, into=tmp_path / "new" / "volumes.npy", **options)
    assert isinstance(beside.counts, np.memmap)
    np.testing.assert_array_equal(inside.counts, beside.counts)
    # a split is a part of the file, not a copy of it
    assert isinstance(beside.of("test").counts, np.memmap)
    index, _ = next(Batches(beside.of("test"), patch_px=160).plain(8))
    assert index.shape == (2, 4, 160, 160)


def test_reading_again_leaves_the_pixels_of_who_still_looks_at_the_file(tmp_path: Path) -> None:
    options: dict[str, Any] = {"planes": 2, "um_per_plane": 1.5, "medium_of": medium_of, "into": tmp_path / "v.npy"}
    first = read_volumes(PLACES, open_plate=lambda _: MemoryPlate(), **options)
    before = np.array(first.counts)
    read_volumes(PLACES[:1], open_plate=lambda _: MemoryPlate((6, 210, 260)), **options)
    np.testing.assert_array_equal(first.counts, before)


def test_a_disk_without_room_is_said_before_it_is_full(tmp_path: Path) -> None:
    with pytest.raises(NoSpaceError, match=r"5000000000 patches take .* GB, but only .* GB are free"):
        room_for((5_000_000_000, 192, 192), into=tmp_path / "patches.npy")
    assert list(tmp_path.iterdir()) == []


def test_each_tomogram_is_read_once() -> None:
    plate = MemoryPlate()
    seen: list[tuple[int, int]] = []
    read_volumes(
        PLACES,
        planes=3,
        um_per_plane=1.0,
        open_plate=lambda _: plate,
        medium_of=medium_of,
        progress=lambda *at: seen.append(at),
    )
    assert sorted(plate.read) == [("A01", 0, 0), ("A02", 0, 0)]
    assert seen[-1] == (3, 3)


def test_missing_voxels_become_medium_and_a_shallow_tomogram_lies_in_medium() -> None:
    volume = np.full((3, 170, 170), 13670, dtype=np.uint16)
    volume[1, :5] = 0
    options: dict[str, Any] = {"voxel_um": (1.0, 0.16, 0.16), "medium_index": MEDIUM, "um_per_plane": 1.0}
    planes = np.stack(list(planes_at_analysis_scale(volume, planes=7, **options)))
    assert planes.shape == (7, 170, 170)
    assert planes[:, 100, 100].tolist() == [13370, 13370, 13670, 13670, 13670, 13370, 13370]
    assert planes[3, 2, 100] == 13370


def test_a_plate_of_another_voxel_gives_the_same_volume() -> None:
    def seen(shape: tuple[int, int, int], voxel: tuple[float, float, float]) -> npt.NDArray[np.int64]:
        z, y, x = ((np.arange(size) + 0.5) * pitch for size, pitch in zip(shape, voxel, strict=True))
        r2 = ((z[:, None, None] - 12) / 4) ** 2 + ((y[:, None] - 14) / 3) ** 2 + ((x - 15) / 3) ** 2
        volume = np.rint(13370 + 300 * np.exp(-r2)).astype(np.uint16)
        planes = planes_at_analysis_scale(volume, voxel_um=voxel, medium_index=MEDIUM, planes=9, um_per_plane=1.0)
        return np.stack(list(planes)).astype(np.int64)

    fine = seen((48, 200, 200), (0.5, 0.16, 0.16))
    coarse = seen((24, 160, 160), (1.0, 0.2, 0.2))
    # the focus is a whole plane, so the two grids lie up to half a coarse plane apart
    assert np.abs(fine - coarse).max() <= 25
    assert abs(int(fine.max()) - int(coarse.max())) <= 8


def test_the_focus_is_where_the_cells_dry_mass_is() -> None:
    volume = np.full((20, 30, 30), 13370, dtype=np.uint16)
    volume[4:9, 10:20, 10:20] = 13600
    volume[6, 3:6, 3:6] = 13900
    assert focus_plane(volume, medium_index=MEDIUM) == 6
    # noise of the medium and missing voxels weigh nothing, wherever they are
    volume[15:, :10] = 0
    volume[12:, 25:] = 13400
    assert focus_plane(volume, medium_index=MEDIUM) == 6
    assert focus_plane(np.full((9, 4, 4), 13375, dtype=np.uint16), medium_index=MEDIUM) == 4


def test_planes_that_are_asked_for_as_stored_are_not_interpolated() -> None:
    weights = axial_weights(30, centre=11, planes=8, step=1.0)
    assert weights.argmax(axis=1).tolist() == list(range(7, 15))
    assert set(np.unique(weights)) == {0.0, 1.0}


def test_a_window_of_planes_is_moved_into_the_tomogram_while_it_fits() -> None:
    assert axial_weights(12, centre=0, planes=6, step=1.0).argmax(axis=1).tolist() == [0, 1, 2, 3, 4, 5]
    assert axial_weights(12, centre=11, planes=6, step=1.0).argmax(axis=1).tolist() == [6, 7, 8, 9, 10, 11]
    deep = axial_weights(4, centre=3, planes=8, step=1.0)
    assert deep.sum(axis=1).tolist() == [0, 0, 1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("step", [0.4, 1.0, 1.7, 3.0])
def test_coarser_and_finer_planes_keep_a_slope_and_use_every_stored_plane(step: float) -> None:
    planes = int(20 / step)
    weights = axial_weights(41, centre=20, planes=planes, step=step)
    heights = weights @ np.arange(41.0)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose(np.diff(heights), step, atol=0.12 * step)
    np.testing.assert_allclose(heights[planes // 2], 20, atol=1e-9)
    inside = weights.sum(axis=0)[15:25]
    np.testing.assert_allclose(inside, 1 / step, rtol=0.2)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"well": "H12"}, "line 7: well 'H12' is not in the plate. Expected one of A01, A02"),
        ({"timepoint": 2}, "line 7: timepoint 2 is not in the plate, which has timepoints 0 to 1"),
        ({"y_um": 5.0}, r"line 7: a patch of 160 px around .* leaves its field of 210 x 230 px"),
    ],
)
def test_a_place_that_the_plate_does_not_have_is_named_with_its_line(row: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_volumes(
            table_of(row | {"line": 7}),
            planes=3,
            um_per_plane=1.0,
            open_plate=lambda _: MemoryPlate(),
            medium_of=medium_of,
        )


def test_a_field_without_a_medium_and_volumes_without_planes_are_refused() -> None:
    options: dict[str, Any] = {"open_plate": lambda _: MemoryPlate()}
    with pytest.raises(SettingsError, match="no known index"):
        read_volumes(PLACES, planes=3, um_per_plane=1.0, medium_of=lambda _: lambda *_: float("nan"), **options)
    with pytest.raises(SettingsError, match="Volumes of 0 planes"):
        read_volumes(PLACES, planes=0, um_per_plane=1.0, medium_of=medium_of, **options)


def test_a_stored_plates_tomogram_is_read_and_a_missing_one_is_named(tmp_path: Path) -> None:
    plate = create_plate(
        tmp_path / "P.zarr",
        name="P",
        wells=["A01"],
        fields=1,
        timepoints=2,
        shape_zyx=(3, 200, 200),
        voxel_um=(1.0, 0.16, 0.16),
        rows=8,
        columns=12,
        hours=[0.0, 1.0],
        provenance={},
    )
    volume = np.full((3, 200, 200), 13370, dtype=np.uint16)
    volume[2, 90:100, 90:100] = 13700
    plate.write_field("A01", field=0, timepoint=0, volume=volume)
    table = table_of({"plate": str(plate.path), "y_um": 16.0, "x_um": 16.0})
    volumes = read_volumes(table, planes=3, um_per_plane=1.0, medium_of=medium_of)
    assert volumes.counts.shape == (1, 3, 160 + 2 * MARGIN_PX, 160 + 2 * MARGIN_PX)
    assert [(plane == 13700).sum() for plane in volumes.counts[0]] == [0, 0, 100]
    with pytest.raises(StoreError):
        read_volumes(table.assign(timepoint=1), planes=3, um_per_plane=1.0, medium_of=medium_of)
