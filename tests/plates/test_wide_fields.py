"""Wide fields on one plate: nothing is cut, nothing is stored by half, and mended files need no new plate."""

import shutil
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from plates.errors import AcquisitionError, UnfinishedError
from plates.ingest.acquisition import open_acquisition, read_frame
from plates.ingest.convert import Reading, ingest, last_summary, survey
from plates.ingest.names import discover
from plates.ingest.opening import fitted
from plates.ingest.survey import Header, read_headers
from plates.ingest.wide_fields import join_tiles
from plates.results import read_result
from plates.simulation.acquisition import FluorescenceFrames, acquisition_name
from plates.stitching import StageConvention, open_mosaic
from plates.store import Plate, open_plate
from tests.benchmarks.stitching import VOXEL_UM, World, cut, wide_field

from .acquisitions import START, write_one

WIDE = Reading(stitch=True)
MIRRORED = StageConvention(flip_y=True)


@lru_cache(maxsize=1)
def worlds(folder: Path) -> tuple[World, World]:
    """A square of 2 x 2 tiles and a row of 4, all of one shape; the stage's y axis runs upwards."""
    field = wide_field(size=520, cells=30)
    row = cut(folder / "row", field, rows=1, columns=4, overlap=0.25, error_um=1, whole=True, mirror=(1, -1))
    side = int(1.75 * tile_shape(row)[1]) + 10
    square = cut(
        folder / "square", field[:, :side, :side], rows=2, columns=2, overlap=0.25, error_um=1, whole=True,
        mirror=(1, -1),
    )  # fmt: skip
    return row, square


@pytest.fixture(scope="module")
def row_and_square(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, World]:
    return worlds(tmp_path_factory.mktemp("worlds"))


def tile_shape(world: World) -> tuple[int, int, int]:
    with open_acquisition(world.paths[0]) as tile:
        return tile.shape_zyx


def fill(folder: Path, wells: Mapping[str, Sequence[Path]]) -> Path:
    """Files named as positions P01, P02, ... of wells."""
    folder.mkdir(exist_ok=True)
    for well, paths in wells.items():
        for number, path in enumerate(paths):
            shutil.copy(path, folder / position(well, number))
    return folder


def position(well: str, number: int) -> str:
    return acquisition_name(START, experiment="e", number=1, group="g", well=well, suffix=f"T001P{number + 1:02d}")


def headers_of(folder: Path) -> list[Header]:
    return read_headers(discover(folder))


def assert_whole(plate: Plate, well: str, world: World) -> None:
    """The field is what its tiles make, voxel by voxel, and the rest of the canvas is missing."""
    with open_mosaic(world.paths, convention=MIRRORED) as mosaic:
        counts, _ = read_frame(mosaic, 0)
    stored = plate.volume(well, field=0, timepoint=0)
    depth, height, width = counts.shape
    np.testing.assert_array_equal(stored[:depth, :height, :width], counts)
    assert (stored > 0).sum() == (counts > 0).sum()


def test_no_wide_field_is_cut_whichever_well_comes_first(tmp_path: Path, row_and_square: tuple[World, World]) -> None:
    row, square = row_and_square
    raw = fill(tmp_path / "raw", {"A1": square.paths, "B1": row.paths})
    plate = ingest(raw, out=tmp_path / "P1.zarr", reading=WIDE)
    assert_whole(plate, "A01", square)
    assert_whole(plate, "B01", row)
    turned = fill(tmp_path / "turned", {"A1": row.paths, "B1": square.paths, "C1": row.paths[:1]})
    plan = survey(turned, reading=WIDE)
    assert {header.shape_zyx for header in plan.headers} == {plate.shape_zyx}
    # a row alone does not tell which way the stage's y axis runs, so the square was asked
    assert {header.source.tiles.stage for header in plan.headers if header.source.tiles} == {MIRRORED}


def test_a_field_larger_than_the_canvas_is_refused_not_cut(row_and_square: tuple[World, World]) -> None:
    depth, height, width = tile_shape(row_and_square[0])
    with open_acquisition(row_and_square[0].paths[0]) as tile:
        for smaller in ((depth - 1, height, width), (depth, height - 1, width), (depth, height, width - 1)):
            with pytest.raises(AcquisitionError, match=r"tile00\.TCF: its tiles as registered make a field of"):
                fitted(tile, shape_zyx=smaller)
        whole, _ = read_frame(tile, 0)
        placed, _ = read_frame(fitted(tile, shape_zyx=(depth + 2, height + 3, width + 5)), 0)
    np.testing.assert_array_equal(placed, np.pad(whole, ((0, 2), (0, 3), (0, 5))))


def test_a_stage_that_errs_more_than_the_canvas_allows_fails_that_field_alone(
    tmp_path: Path, row_and_square: tuple[World, World], monkeypatch: pytest.MonkeyPatch
) -> None:
    row, square = row_and_square
    raw = fill(tmp_path / "raw", {"A1": row.paths, "B1": square.paths})
    # room for the column that registration adds to the row, not for the rows that it adds to the square
    monkeypatch.setattr("plates.ingest.wide_fields._MARGIN_UM", (0.0, 0.0, VOXEL_UM[2]))
    with pytest.raises(UnfinishedError, match="its tiles as registered make a field of"):
        ingest(raw, out=tmp_path / "P1.zarr", reading=WIDE)
    plate = open_plate(tmp_path / "P1.zarr")
    assert_whole(plate, "A01", row)
    assert not plate.has_field("B01", field=0, timepoint=0)


def test_a_group_without_texture_leaves_the_stage_to_another(
    tmp_path: Path, row_and_square: tuple[World, World]
) -> None:
    _, square = row_and_square
    blank = []
    for number, path in enumerate(square.paths):
        with open_acquisition(path) as tile:
            noise = np.random.default_rng(number).normal(13370, 4, tile.shape_zyx)
            settings = {"voxel_um": VOXEL_UM, "position_mm": tile.position_mm}
            blank.append(write_one(tmp_path / f"b{number}.TCF", [np.rint(noise).astype(np.uint16)], **settings))
    raw = fill(tmp_path / "raw", {"A1": blank, "B1": square.paths})
    assert all(header.source.tiles.stage == MIRRORED for header in survey(raw, reading=WIDE).headers)  # type: ignore[union-attr]
    empty = fill(tmp_path / "empty", {"A1": blank})
    with pytest.raises(AcquisitionError, match="which way the stage axes run cannot be told"):
        survey(empty, reading=WIDE)


def test_wells_with_an_unreadable_position_wait_until_it_is_mended(
    tmp_path: Path, row_and_square: tuple[World, World]
) -> None:
    _, square = row_and_square
    alone = []
    for number in range(3):
        counts = np.full(tile_shape(square), 13370 + 100 * number, np.uint16)
        place = (10.0 * number, 0.0, 0.0)
        alone.append(write_one(tmp_path / f"x{number}.TCF", [counts], voxel_um=VOXEL_UM, position_mm=place))
    raw = fill(tmp_path / "raw", {"A1": square.paths, "B1": square.paths, "C1": alone})
    for well, first in (("A1", square.paths[0]), ("C1", alone[0])):
        (raw / position(well, 0)).write_bytes(first.read_bytes()[:3000])
    with pytest.raises(UnfinishedError, match=r"position \S*A1\S*P01.TCF of this well cannot be read, so its wide"):
        ingest(raw, out=tmp_path / "P1.zarr", reading=WIDE)
    summary = last_summary(tmp_path / "P1.zarr")
    assert (summary.converted, summary.failed_files) == (1, 2)
    fill(raw, {"A1": square.paths, "C1": alone})
    plate = ingest(raw, out=tmp_path / "P1.zarr", reading=WIDE)
    assert (last_summary(plate.path).converted, last_summary(plate.path).skipped) == (4, 1)
    assert plate.fields == 3
    assert_whole(plate, "A01", square)
    for field in range(3):
        assert plate.volume("C01", field=field, timepoint=0).max() == 13370 + 100 * field
        assert (plate.volume("A01", field=0, timepoint=0) > 0).sum() == (
            plate.volume("B01", field=0, timepoint=0) > 0
        ).sum()
    assert not plate.has_field("A01", field=1, timepoint=0)


def test_a_converted_wide_field_is_kept_while_a_tile_is_out_of_reach(
    tmp_path: Path, row_and_square: tuple[World, World], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, square = row_and_square
    raw = fill(tmp_path / "raw", {"A1": square.paths, "B1": square.paths})
    ingest(raw, out=tmp_path / "P1.zarr", reading=WIDE)

    def without_first(sources: Sequence[object]) -> list[Header]:
        headers = read_headers(sources)  # type: ignore[arg-type]
        return [Header(source=headers[0].source, problem="cannot be read today"), *headers[1:]]

    monkeypatch.setattr("plates.ingest.convert.read_headers", without_first)
    plate = ingest(raw, out=tmp_path / "P1.zarr", reading=WIDE)
    assert (last_summary(plate.path).converted, last_summary(plate.path).skipped) == (0, 2)
    assert_whole(plate, "A01", square)


def test_nothing_of_a_well_is_stored_as_single_positions_while_one_is_unreadable(
    tmp_path: Path, row_and_square: tuple[World, World]
) -> None:
    row, _ = row_and_square
    # of a pair of tiles one is left, so that nothing seems to overlap
    raw = fill(tmp_path / "raw", {"A1": row.paths[:2], "B1": row.paths[:1]})
    (raw / position("A1", 1)).write_bytes(b"cut short")
    headers = survey(raw, reading=WIDE).headers
    assert [(header.source.well, header.source.field, bool(header.problem)) for header in headers] == [
        ("A01", 0, True),
        ("A01", 1, True),
        ("B01", 0, False),
    ]
    fill(raw, {"A1": row.paths[:2]})
    shape = tile_shape(row)
    a01, b01 = [[h for h in join_tiles(headers_of(raw), shape_zyx=shape) if h.source.well == w] for w in ("A01", "B01")]
    assert all("overlaps 1 more positions" in header.problem for header in a01)
    assert b01 == [header for header in headers if header.source.well == "B01"]


def test_a_plate_that_is_there_gives_its_canvas_to_wells_that_are_new(
    tmp_path: Path, row_and_square: tuple[World, World]
) -> None:
    row, square = row_and_square
    first = survey(fill(tmp_path / "first", {"A1": square.paths, "B1": square.paths[:1]}), reading=WIDE).headers[0]
    assert first.source.tiles is not None
    canvas, stage = first.shape_zyx, first.source.tiles.stage
    grown = headers_of(fill(tmp_path / "grown", {"A1": square.paths[:2], "B1": row.paths, "C1": row.paths[:1]}))
    pair, too_wide, alone = join_tiles(grown, shape_zyx=canvas, stage=stage)
    for header in (pair, alone):
        assert header.shape_zyx == canvas
        assert header.source.tiles is not None
        assert header.source.tiles.shape_zyx == canvas
        assert not header.problem
    assert "4 overlapping positions" in too_wide.problem
    assert str(canvas) in too_wide.problem
    with pytest.raises(AcquisitionError, match="no field of 1 wells can be made"):
        join_tiles([header for header in grown if header.source.well == "B01"], shape_zyx=canvas, stage=stage)


def test_tiles_without_a_common_frame_are_a_problem_not_an_empty_field(
    tmp_path: Path, row_and_square: tuple[World, World]
) -> None:
    _, square = row_and_square
    headers = headers_of(fill(tmp_path / "raw", {"A1": square.paths, "B1": square.paths}))
    object.__setattr__(headers[0], "frames", (1,))
    torn, whole = join_tiles(headers)
    assert "no frame in common" in torn.problem
    assert not whole.problem


def test_a_lone_position_with_fluorescence_is_a_wide_field_without_it(
    tmp_path: Path, row_and_square: tuple[World, World]
) -> None:
    _, square = row_and_square
    shape = tile_shape(square)
    light = FluorescenceFrames(
        frames=[np.full((2, *shape[1:]), 50, np.uint16)], voxel_um=(1.0, *VOXEL_UM[1:]), times_s=[0.0]
    )
    lit = write_one(
        tmp_path / "lit.TCF", [np.full(shape, 13400, np.uint16)], voxel_um=VOXEL_UM, fluorescence={"CH0": light}
    )
    raw = fill(tmp_path / "raw", {"A1": square.paths, "B1": [lit]})
    plate = ingest(raw, out=tmp_path / "P1.zarr", reading=WIDE)
    assert plate.fluorescence == ()
    assert (plate.volume("B01", field=0, timepoint=0) == 13400).sum() == np.prod(shape)
    assert list(read_result(plate.path, "sources")["problem"].values) == ["", ""]
    with open_acquisition(lit) as alone:
        assert list(alone.channels) == ["CH0"]
        with pytest.raises(AcquisitionError, match="only tomograms are stitched"):
            fitted(alone, shape_zyx=plate.shape_zyx).read_fluorescence("CH0", frame=0)


def test_a_stitched_plate_grows_on_its_canvas(tmp_path: Path, row_and_square: tuple[World, World]) -> None:
    row, square = row_and_square
    plate = ingest(fill(tmp_path / "raw", {"B1": row.paths}), out=tmp_path / "P1.zarr", reading=WIDE)
    before = plate.projection("B01", field=0, timepoint=0)
    # a well that sorts first and has a canvas of its own
    grown = ingest(fill(tmp_path / "raw", {"A1": row.paths[:2]}), out=tmp_path / "P1.zarr", reading=WIDE)
    assert (grown.wells, grown.shape_zyx) == (("A01", "B01"), plate.shape_zyx)
    assert last_summary(grown.path).converted == 1
    np.testing.assert_array_equal(grown.projection("B01", field=0, timepoint=0), before)
    # one that does not fit is told, and nothing of it is stored
    with pytest.raises(UnfinishedError, match="1 of 3 files"):
        ingest(fill(tmp_path / "raw", {"C1": square.paths}), out=tmp_path / "P1.zarr", reading=WIDE)
