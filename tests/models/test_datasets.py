"""Annotated patches: tables checked line by line, wells kept whole, pixels where they were annotated."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import xarray as xr

from models.annotations import read_annotations
from models.batches import Batches
from models.datasets import MARGIN_PX, read_patches
from models.splits import split_wells, well_groups
from plates.creation import create_plate
from plates.errors import SettingsError
from plates.results import write_result
from plates.states import STATES
from tests.models.made_patches import MEDIUM

HEADER = "plate,well,field,timepoint,y_um,x_um,state"


class MemoryPlate:
    """A plate of one projection per field, each pixel telling its row and column."""

    wells = ("A01", "A02")
    fields = 2
    timepoints = 3

    def __init__(self, shape: tuple[int, int] = (400, 500), um_per_px: float = 0.16) -> None:
        self.shape = shape
        self.voxel_um = (1.0, um_per_px, um_per_px)
        self.read: list[tuple[str, int, int]] = []

    def projection(self, well: str, *, field: int, timepoint: int) -> npt.NDArray[np.uint16]:
        self.read.append((well, field, timepoint))
        y, x = np.mgrid[: self.shape[0], : self.shape[1]]
        counts: npt.NDArray[np.uint16] = (13370 + 10 * (y // 2) + x // 2 + 7 * timepoint).astype(np.uint16)
        return counts


def medium_of(_: Path) -> Any:
    return lambda well, field, timepoint: MEDIUM


def table_of(*rows: dict[str, Any]) -> pd.DataFrame:
    base = {"plate": "P.zarr", "well": "A01", "field": 0, "timepoint": 0, "y_um": 32.0, "x_um": 32.0}
    return pd.DataFrame([base | {"state": "necrosis"} | row for row in rows])


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_good_table_is_read_with_plates_relative_to_it(tmp_path: Path) -> None:
    table = read_annotations(write(tmp_path / "a.csv", HEADER + ",split", "P.zarr,A01,0,2,30.5,40,apoptosis,train", ""))
    assert table.to_dict("records") == [
        {
            "plate": str(tmp_path / "P.zarr"),
            "well": "A01",
            "field": 0,
            "timepoint": 2,
            "y_um": 30.5,
            "x_um": 40.0,
            "state": "apoptosis",
            "split": "train",
            "line": 2,
        }
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "P.zarr,A01,0,0,30,40,dead",
            "line 3: state 'dead' is not known. Expected one of apoptosis, necroptosis",
        ),
        ("P.zarr,A01,first,0,30,40,necrosis", "line 3: field 'first' is not a whole number from 0 up"),
        ("P.zarr,A01,0,-1,30,40,necrosis", "line 3: timepoint '-1' is not a whole number"),
        ("P.zarr,A01,0,0,,40,necrosis", "line 3: y_um '' is not a distance in um"),
        ("P.zarr,A01,0,0,30,nan,necrosis", "line 3: x_um 'nan' is not a distance in um"),
    ],
)
def test_a_wrong_cell_is_named_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "a.csv", HEADER, "P.zarr,A01,0,0,30,40,necrosis", line)
    with pytest.raises(SettingsError, match=message):
        read_annotations(path)


def test_a_missing_column_an_empty_table_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="line 1: the column 'x_um' is missing"):
        read_annotations(write(tmp_path / "a.csv", HEADER.replace("x_um,", "")))
    with pytest.raises(SettingsError, match="holds no annotated patch"):
        read_annotations(write(tmp_path / "b.csv", HEADER))
    with pytest.raises(SettingsError, match="cannot be read"):
        read_annotations(tmp_path / "none.csv")
    with pytest.raises(SettingsError, match=r"cannot be read \(field larger than field limit"):
        read_annotations(write(tmp_path / "c.csv", HEADER, "P.zarr,A01,0,0,30,40," + "n" * 200_000))


def test_a_well_on_both_sides_of_a_split_is_refused_with_both_lines(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.csv",
        HEADER + ",split",
        "P.zarr,A01,0,0,30,40,necrosis,train",
        "P.zarr,A02,0,0,30,40,necrosis,test",
        "P.zarr,A01,1,0,30,40,necrosis,test",
    )
    with pytest.raises(SettingsError, match=r"line 4: well A01 of P.zarr is in 'test' and, at line 2, in 'train'"):
        read_annotations(path)


def test_splits_never_divide_a_well_and_show_every_state_everywhere() -> None:
    random = np.random.default_rng(0)
    rows = [
        {"well": f"{letter}{number:02d}", "plate": plate, "field": field, "state": state}
        for plate in ("P1.zarr", "P2.zarr")
        for letter, state in zip("ABCDE", STATES, strict=True)
        for number in range(1, 11)
        for field in range(random.integers(1, 5))
    ]
    table = table_of(*rows)
    split = split_wells(table, seed=3)
    assert pd.Series(split).groupby(well_groups(table)).nunique().max() == 1
    assert (pd.crosstab(table["state"], split) > 0).to_numpy().all()
    share = pd.Series(split).value_counts(normalize=True)
    assert share["train"] == pytest.approx(0.7, abs=0.06)
    assert share["test"] == pytest.approx(0.15, abs=0.05)
    assert (split == split_wells(table, seed=3)).all()
    assert (split != split_wells(table, seed=4)).any()


def test_the_middle_of_a_patch_is_where_it_was_annotated() -> None:
    plate = MemoryPlate()
    table = table_of({}, {"y_um": 12.8, "x_um": 12.8}, {"y_um": 51.2, "x_um": 67.2, "timepoint": 2})
    patches = read_patches(table, open_plate=lambda _: plate, medium_of=medium_of)
    full = plate.projection("A01", field=0, timepoint=0)
    for place, (y, x, later) in enumerate([(120, 120, 0), (0, 0, 0), (240, 340, 14)]):
        top, left = patches.corner[place]
        cut = patches.counts[place][top : top + 160, left : left + 160]
        np.testing.assert_array_equal(cut, full[y : y + 160, x : x + 160] + later)
    # context on all sides inside the field; at its border the context lies on the other side
    assert patches.corner.tolist() == [[MARGIN_PX] * 2, [0, 0], [2 * MARGIN_PX] * 2]


def test_each_projection_is_read_once_however_many_patches_it_holds() -> None:
    plate = MemoryPlate()
    table = table_of({}, {"timepoint": 1}, {"x_um": 40.0}, {"well": "A02"}, {"y_um": 40.0})
    seen: list[tuple[int, int]] = []
    read_patches(table, open_plate=lambda _: plate, medium_of=medium_of, progress=lambda *at: seen.append(at))
    assert plate.read == [("A01", 0, 0), ("A01", 0, 1), ("A02", 0, 0)]
    assert seen == [(3, 5), (4, 5), (5, 5)]


def test_a_plate_of_another_voxel_gives_the_same_patch() -> None:
    class Smooth(MemoryPlate):
        def projection(self, well: str, *, field: int, timepoint: int) -> npt.NDArray[np.uint16]:
            y, x = (np.mgrid[: self.shape[0], : self.shape[1]] + 0.5) * self.voxel_um[1]
            counts = np.rint(13370 + 300 * np.exp(-((y - 32) ** 2 + (x - 36) ** 2) / 40))
            return np.asarray(counts, dtype=np.uint16)

    table = table_of({"y_um": 32.0, "x_um": 36.0})
    fine = read_patches(table, open_plate=lambda _: Smooth((400, 500), 0.16), medium_of=medium_of)
    coarse = read_patches(table, open_plate=lambda _: Smooth((320, 400), 0.2), medium_of=medium_of)
    assert np.abs(fine.counts.astype(int) - coarse.counts).max() <= 6


def test_a_stored_plate_is_read_with_the_medium_that_ingest_measured(tmp_path: Path) -> None:
    plate = create_plate(
        tmp_path / "P.zarr",
        name="P",
        wells=["A01"],
        fields=1,
        timepoints=2,
        shape_zyx=(2, 192, 192),
        voxel_um=(1.0, 0.16, 0.16),
        rows=8,
        columns=12,
        hours=[0.0, 1.0],
        provenance={},
    )
    volume = np.full((2, 192, 192), 13372, dtype=np.uint16)
    volume[1, 90:100, 90:100] = 13700
    plate.write_field("A01", field=0, timepoint=0, volume=volume)
    medium = xr.DataArray(
        [[[1.3372, np.nan]]],
        dims=("well", "field", "timepoint"),
        coords={"well": ["A01"], "field": [0], "timepoint": [0, 1]},
    )
    write_result(plate.path, "fields", xr.Dataset({"medium_index": medium}), provenance={})
    path = write(tmp_path / "a.csv", HEADER, "P.zarr,A01,0,0,15.36,15.36,necrosis")
    patches = read_patches(read_annotations(path))
    index = next(Batches(patches, patch_px=160).plain(1))[0][0].numpy()
    assert (index > 0.0327).sum() == 100
    assert np.abs(index[:70]).max() < 1e-6
    write(path, HEADER, "P.zarr,A01,0,1,15.36,15.36,necrosis")
    with pytest.raises(SettingsError, match="line 2: field 0 of A01 at timepoint 1 has no known index"):
        read_patches(read_annotations(path))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"well": "H12"}, "line 7: well 'H12' is not in the plate. Expected one of A01, A02"),
        ({"field": 2}, "line 7: field 2 is not in the plate, which has fields 0 to 1"),
        ({"timepoint": 3}, "line 7: timepoint 3 is not in the plate, which has timepoints 0 to 2"),
        ({"y_um": 5.0}, r"line 7: a patch of 160 px around \(31, 200\) px leaves its field of 400 x 500 px"),
    ],
)
def test_a_place_that_the_plate_does_not_have_is_named_with_its_line(row: dict[str, Any], message: str) -> None:
    table = table_of(row | {"line": 7})
    with pytest.raises(SettingsError, match=message):
        read_patches(table, open_plate=lambda _: MemoryPlate(), medium_of=medium_of)


def test_patches_in_a_file_are_those_in_memory_and_splits_are_views_of_it(tmp_path: Path) -> None:
    rows = [{"well": well, "split": split} for well, split in (("A01", "test"), ("A02", "train"))]
    table = table_of(*rows)
    read: dict[str, Any] = {"open_plate": lambda _: MemoryPlate(), "medium_of": medium_of}
    held, filed = read_patches(table, **read), read_patches(table, **read, into=tmp_path / "cut" / "patches.npy")
    np.testing.assert_array_equal(held.counts, filed.counts)
    assert held.split.tolist() == filed.split.tolist() == ["train", "test"]
    assert np.shares_memory(filed.of("test").counts, filed.counts)
    assert (tmp_path / "cut" / "patches.npy").stat().st_size > held.counts.nbytes
