"""Wide fields cut into tiles by a stage that errs must come back as they were."""

import gc
import os
import signal
import sys
import weakref
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from plates.errors import AcquisitionError
from plates.ingest.acquisition import Acquisition, Slab, open_acquisition, read_frame
from plates.stitching import CONVENTIONS, Mosaic, StageConvention, blend, group_tiles, open_mosaic, stitch, tile_layout
from plates.stitching import mosaic as mosaic_module
from plates.stitching.blending import feather
from plates.stitching.levels import TileLevels
from plates.stitching.offsets import PairOffset, reconcile
from tests.benchmarks.stitching import (
    DEPTH,
    MEDIUM,
    NOISE,
    VOXEL_UM,
    World,
    cut,
    line_steps,
    offset_errors,
    seam_steps,
    truth_of,
    wide_field,
)
from tests.plates.acquisitions import START, write_one

HL60 = Path(__file__).parents[1] / "data" / "hl60_tomogram" / "hl60_ri_x10000_140x140x140_0.139um.tif"
GRIDS = [(2, 2), (1, 4), (3, 3)]
STRAIGHT = StageConvention()


@pytest.fixture(scope="module")
def field() -> npt.NDArray[np.float32]:
    return wide_field()


def stitched(world: World, *, frame: int = 0, **options: Any) -> tuple[Mosaic, np.ndarray, npt.NDArray[np.float32]]:
    """Mosaic, counts, and counts less truth (NaN where missing); the stage's axes are known unless asked for."""
    with open_mosaic(world.paths, **{"convention": STRAIGHT, **options}) as mosaic:
        assert isinstance(mosaic, Mosaic)
        counts, _ = read_frame(mosaic, frame)
    expected, known = truth_of(world, mosaic)
    difference = np.where(known & (counts > 0), counts - expected - world.levels.mean(), np.nan)
    return mosaic, counts, difference.astype(np.float32)


def tile_size(world: World) -> int:
    with open_acquisition(world.paths[0]) as tile:
        return tile.shape_zyx[1]


def placement_errors(world: World, mosaic: Mosaic) -> npt.NDArray[np.float64]:
    placed = np.array(mosaic.placement)
    return np.asarray((placed - placed[0]) - (world.corners - world.corners[0]))


def write_tile(path: Path, counts: np.ndarray, corner_yx: tuple[float, float], **changes: Any) -> Path:
    voxel = changes.get("voxel_um", VOXEL_UM)
    position = (corner_yx[1] * voxel[2] / 1000, corner_yx[0] * voxel[1] / 1000, 0.0)
    return write_one(path, [counts], **{"voxel_um": voxel, "position_mm": position, **changes})


@pytest.mark.parametrize(("rows", "columns"), GRIDS)
def test_errors_of_whole_pixels_are_found_exactly(
    tmp_path: Path, field: npt.NDArray[np.float32], rows: int, columns: int
) -> None:
    world = cut(tmp_path, field, rows=rows, columns=columns, overlap=0.2, whole=True)
    mosaic, _, _ = stitched(world)
    errors = offset_errors(world, mosaic)
    stage = [np.subtract(s.metadata_offset, world.corners[s.second] - world.corners[s.first]) for s in mosaic.seams]
    assert np.abs(stage).max() > 5, "the stage must have erred, or nothing is shown"
    assert all(seam.registered for seam in mosaic.seams)
    assert np.array_equal(np.rint(errors), np.zeros_like(errors))
    assert np.array_equal(placement_errors(world, mosaic), np.zeros((rows * columns, 3)))


@pytest.mark.parametrize(("rows", "columns"), GRIDS)
def test_errors_of_part_of_a_pixel_are_found(
    tmp_path: Path, field: npt.NDArray[np.float32], rows: int, columns: int
) -> None:
    world = cut(tmp_path, field, rows=rows, columns=columns, overlap=0.2)
    mosaic, counts, difference = stitched(world)
    assert np.abs(offset_errors(world, mosaic)).max() < 0.5
    assert np.abs(placement_errors(world, mosaic)).max() < 0.25
    assert np.nanstd(difference) < 1.1 * NOISE
    assert abs(np.nanmean(difference)) < 0.2
    assert (counts > 0).mean() > 0.85


def test_tiles_that_hardly_overlap_lie_right_although_some_pairs_are_left_to_the_stage(tmp_path: Path) -> None:
    sparse = wide_field(cells=38)
    world = cut(tmp_path, sparse, rows=3, columns=3, overlap=0.15)
    mosaic, _, difference = stitched(world)
    registered = np.array([seam.registered for seam in mosaic.seams])
    assert 0 < (~registered).sum() < 4
    assert np.abs(offset_errors(world, mosaic)[registered]).max() < 0.5
    assert np.abs(placement_errors(world, mosaic)).max() < 0.25
    assert np.nanstd(difference) < 1.1 * NOISE


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (3, 3)])
def test_no_step_is_left_across_a_seam(tmp_path: Path, field: npt.NDArray[np.float32], rows: int, columns: int) -> None:
    world = cut(tmp_path, field, rows=rows, columns=columns, overlap=0.2)
    mosaic, _, difference = stitched(world)
    tile = tile_size(world)
    steps = np.abs(seam_steps(difference, mosaic, tile))
    lines = np.abs(line_steps(difference, tile // 5, length=tile - 80))
    assert max(abs(seam.step_before) for seam in mosaic.seams) > 3e-4
    assert max(abs(seam.step_after) for seam in mosaic.seams) < 0.5e-4
    assert steps.max() < 0.5
    assert steps.max() <= np.quantile(lines, 0.95)


def test_levels_left_alone_would_show(
    tmp_path: Path, field: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    def untouched(images: Any, pairs: Any, *, offsets: Any) -> TileLevels:
        return TileLevels(offsets=np.zeros(len(images)), bow=(0.0, 0.0), steps=np.zeros((len(pairs), 2)))

    monkeypatch.setattr(mosaic_module, "tile_levels", untouched)
    world = cut(tmp_path, field, rows=2, columns=2, overlap=0.2)
    mosaic, _, difference = stitched(world)
    assert np.abs(seam_steps(difference, mosaic, tile_size(world))).max() > 2


def test_levels_are_reported_and_the_scale_does_not_drift(tmp_path: Path, field: npt.NDArray[np.float32]) -> None:
    world = cut(tmp_path, field, rows=3, columns=3, overlap=0.2)
    mosaic, _, _ = stitched(world)
    assert sum(mosaic.levels) == pytest.approx(0, abs=1e-12)
    assert 1e4 * np.array(mosaic.levels) == pytest.approx(world.levels - world.levels.mean(), abs=0.3)


def test_tiles_at_different_heights_are_put_level(tmp_path: Path, field: npt.NDArray[np.float32]) -> None:
    world = cut(tmp_path, field, rows=2, columns=2, overlap=0.2, axial=True, seed=1)
    assert len(set(world.corners[:, 0])) == 2
    mosaic, counts, difference = stitched(world)
    assert mosaic.shape_zyx[0] == DEPTH
    assert np.array_equal(placement_errors(world, mosaic)[:, 0], np.zeros(4))
    assert np.abs(offset_errors(world, mosaic)[:, 0]).max() < 0.5
    assert np.nanstd(difference) < 1.1 * NOISE
    assert (counts[0] == 0).any(), "a tile that does not reach the lowest slice leaves it missing"


@pytest.mark.parametrize("convention", CONVENTIONS, ids=str)
def test_the_run_of_the_stage_axes_is_decided_from_the_overlaps(
    tmp_path: Path, field: npt.NDArray[np.float32], convention: StageConvention
) -> None:
    mirror = (-1 if convention.flip_x else 1, -1 if convention.flip_y else 1)
    world = cut(tmp_path, field, rows=2, columns=2, overlap=0.2, mirror=mirror, swap=convention.swap_xy)
    mosaic, _, _ = stitched(world, convention=None)
    assert mosaic.convention == convention
    assert np.abs(placement_errors(world, mosaic)).max() < 0.25


def test_later_frames_are_registered_for_themselves(tmp_path: Path, field: npt.NDArray[np.float32]) -> None:
    world = cut(tmp_path, field, rows=2, columns=2, overlap=0.2, whole=True, frames=2, wander=4)
    mosaic, _, difference = stitched(world, frame=1)
    assert mosaic.frames == (0, 1)
    # the canvas is that of the first frame
    assert np.nanstd(difference) < 1.1 * NOISE


def test_empty_medium_is_left_to_the_stage_and_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    paths = []
    for number, x in enumerate((0, 100)):
        counts = np.rint(MEDIUM + 3 * number + rng.normal(0, NOISE, (4, 128, 128))).astype(np.uint16)
        paths.append(write_tile(tmp_path / f"{number}.TCF", counts, (0, x)))
    with open_mosaic(paths, convention=STRAIGHT) as mosaic:
        assert isinstance(mosaic, Mosaic)
        (seam,) = mosaic.seams
        counts, _ = read_frame(mosaic, 0)
    assert not seam.registered
    assert seam.correlation < 0.3
    assert seam.refined_offset == seam.metadata_offset == pytest.approx((0, 0, 100))
    assert seam.overlap_px == (128, 28)
    assert seam.step_before == pytest.approx(3e-4, abs=0.3e-4)
    assert counts.shape == (4, 128, 228)
    assert counts.mean() == pytest.approx(MEDIUM + 1.5, abs=0.2)
    with (
        pytest.raises(AcquisitionError, match="which way the stage axes run cannot be told from the overlaps"),
        open_mosaic(paths),
    ):
        pass


def test_positions_alone_place_tiles_where_no_refinement_is_wanted(
    tmp_path: Path, field: npt.NDArray[np.float32]
) -> None:
    world = cut(tmp_path, field, rows=2, columns=2, overlap=0.2)
    mosaic, _, _ = stitched(world, refine=False)
    assert not any(seam.registered for seam in mosaic.seams)
    assert np.abs(placement_errors(world, mosaic)).max() > 3


def test_a_tile_far_away_is_refused() -> None:
    positions = [(0.0, 0.0, 0.0), (0.04, 0.0, 0.0), (5.0, 0.0, 0.0)]
    with pytest.raises(AcquisitionError) as error:
        tile_layout(positions, shape=(10, 150, 150), voxel_um=VOXEL_UM, names=["a.TCF", "b.TCF", "c.TCF"])
    assert str(error.value) == (
        "c.TCF overlaps no other tile: the nearest, b.TCF, lies 4960 um away, and a tile is 50 x 50 um. Check its "
        "stage position, or convert it as a field of its own."
    )


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ((0.001, 0.0, 0.0), "the same field twice"),
        ((float("nan"), 0.0, 0.0), "stage position is not known"),
        ((0.04, 0.0, 0.02), "heights differ by 20.0 um"),
    ],
)
def test_positions_that_make_no_field_are_refused(second: tuple[float, float, float], message: str) -> None:
    with pytest.raises(AcquisitionError, match=message):
        tile_layout([(0.0, 0.0, 0.0), second], shape=(10, 150, 150), voxel_um=VOXEL_UM)


def test_tiles_of_different_kind_are_refused(tmp_path: Path) -> None:
    counts = np.full((4, 64, 64), 13370, dtype=np.uint16)
    first = write_tile(tmp_path / "first.TCF", counts, (0, 0))
    coarse = write_tile(tmp_path / "coarse.TCF", counts, (0, 50), voxel_um=(1.104, 0.4, 0.4))
    larger = write_tile(tmp_path / "larger.TCF", np.full((4, 80, 80), 13370, dtype=np.uint16), (0, 50))
    for other, message in ((coarse, "one voxel size"), (larger, "one shape")):
        with pytest.raises(AcquisitionError, match=message), open_mosaic([first, other]):
            pass
    with pytest.raises(AcquisitionError, match="no tiles"), open_mosaic([]):
        pass


def test_a_single_acquisition_passes_through(tmp_path: Path) -> None:
    path = write_tile(tmp_path / "only.TCF", np.full((4, 64, 64), 13370, dtype=np.uint16), (0, 0))
    with open_acquisition(path) as tile:
        assert stitch([tile]) is tile
    with open_mosaic([path]) as field:
        assert not isinstance(field, Mosaic)
        assert field.shape_zyx == (4, 64, 64)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere files are read in the process itself")
def test_tiles_are_read_in_processes_of_their_own(tmp_path: Path) -> None:
    path = write_tile(tmp_path / "only.TCF", np.full((4, 64, 64), 13370, dtype=np.uint16), (0, 0))

    def killed() -> None:
        with open_mosaic([path]) as tile:
            assert tile.process != os.getpid()  # type: ignore[attr-defined]
            os.kill(tile.process, signal.SIGKILL)  # type: ignore[attr-defined]
            read_frame(tile, 0)

    with pytest.raises(AcquisitionError, match=path.name):
        killed()


def test_fluorescence_is_not_stitched_and_says_so(tmp_path: Path, field: npt.NDArray[np.float32]) -> None:
    mosaic, _, _ = stitched(cut(tmp_path, field, rows=2, columns=2))
    assert mosaic.channels == {}
    with pytest.raises(AcquisitionError, match="only tomograms are stitched"):
        mosaic.read_fluorescence("CH0", frame=0)


def test_a_frame_that_a_tile_lacks_is_left_out(tmp_path: Path, field: npt.NDArray[np.float32]) -> None:
    long = cut(tmp_path / "long", field, rows=1, columns=2, overlap=0.2, frames=2)
    short = cut(tmp_path / "short", field, rows=1, columns=2, overlap=0.2, frames=1)
    with open_mosaic([long.paths[0], short.paths[1]]) as mosaic:
        assert mosaic.frames == (0,)
        assert mosaic.planned == 2
        with pytest.raises(AcquisitionError, match="frame 1 is not in all 2 tiles"):
            next(mosaic.slabs(1))


class Watched:
    """An acquisition that counts how many of its slabs are alive, one slice each."""

    alive = 0
    most = 0

    def __init__(self, tile: Acquisition) -> None:
        self._tile = tile

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tile, name)

    def slabs(self, frame: int, *, depth: int = 1) -> Iterator[Slab]:
        counts, _ = read_frame(self._tile, frame)
        return (self._slab(counts, z) for z in range(len(counts)))

    def _slab(self, counts: np.ndarray, z: int) -> Slab:
        plane = counts[z : z + 1].copy()
        Watched.alive += 1
        Watched.most = max(Watched.most, Watched.alive)
        weakref.finalize(plane, self._gone)
        return Slab(z=z, counts=plane, nonfinite=1)

    @staticmethod
    def _gone() -> None:
        Watched.alive -= 1


def test_one_slab_of_each_tile_is_in_memory(
    tmp_path: Path, field: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = cut(tmp_path, field, rows=2, columns=2, overlap=0.2)
    monkeypatch.setattr(mosaic_module, "_SLAB_VOXELS", 1)
    with ExitStack() as stack:
        tiles: list[Any] = [Watched(stack.enter_context(open_acquisition(path))) for path in world.paths]
        mosaic = stitch(tiles, convention=STRAIGHT)
        gc.collect()
        assert Watched.alive == 0
        assert Watched.most <= 2, "tiles are looked at one after the other, slice by slice"
        Watched.most = 0
        nonfinite = 0
        for z, slab in enumerate(mosaic.slabs(0)):
            assert slab.z == z
            assert slab.counts.shape == (1, *mosaic.shape_zyx[1:])
            nonfinite += slab.nonfinite
        assert Watched.most <= len(tiles) + 1
        assert nonfinite == len(tiles) * DEPTH


def test_hl60_cut_into_tiles_comes_back(tmp_path: Path) -> None:
    cell = tifffile.imread(HL60)
    corners = [(0, 0), (0, 58), (58, 0), (58, 58)]
    rng = np.random.default_rng(8)
    voxel = (0.139, 0.139, 0.139)
    paths = []
    for number, (y, x) in enumerate(corners):
        stage = np.array((y, x)) + (rng.integers(-4, 5, 2) if number else 0)
        counts = np.ascontiguousarray(cell[:, y : y + 82, x : x + 82])
        paths.append(write_tile(tmp_path / f"{number}.TCF", counts, (stage[0], stage[1]), voxel_um=voxel))
    with open_mosaic(paths, max_error_um=1.5) as mosaic:
        counts, _ = read_frame(mosaic, 0)
    assert counts.shape == cell.shape
    assert np.abs(counts.astype(int) - cell).max() <= 1


def test_one_wrong_pair_does_not_move_the_others() -> None:
    truth = np.array([(0, 100.0 * y, 100.0 * x) for y in range(3) for x in range(3)])
    pairs = []
    for i in range(9):
        for j in [i + 1] * (i % 3 < 2) + [i + 3] * (i < 6):
            offset = truth[j] - truth[i] + ((0, 9, -12) if (i, j) == (3, 4) else 0)
            z, y, x = offset.tolist()
            pairs.append(PairOffset(i, j, (z, y, x), (z, y, x), True, 0.9))
    places = reconcile(truth + np.random.default_rng(1).normal(0, 5, truth.shape), pairs)
    assert np.abs(places - truth).max() < 0.1


def test_missing_voxels_have_no_weight() -> None:
    first, second = np.full((8, 10), 13400, np.uint16), np.full((8, 10), 13300, np.uint16)
    first[:, 8:] = 0
    second[2, 3] = 0
    flat = np.zeros((8, 10), np.float32)
    seen = blend(
        [first, second],
        offsets_yx=np.array([(0.0, 0.0), (0.0, 6.0)]),
        weights=[feather(first > 0), feather(second > 0)],
        corrections=[flat, flat],
        shape_yx=(9, 17),
    )
    assert (seen[:8, :6] == 13400).all()
    assert (seen[:8, 8:16][second[:, 2:] > 0] == 13300).all()
    assert seen[2, 9] == 0
    assert (seen[8] == 0).all()
    assert (seen[:, 16] == 0).all()
    mixed = seen[4, 6:8].astype(int)
    assert (np.diff([13400, *mixed, 13300]) < 0).all()


def test_a_tile_moved_by_part_of_a_pixel_keeps_its_form_and_its_level() -> None:
    y, x = np.mgrid[:60, :60]
    counts = np.rint(13370 + 1000 * np.sin(y / 3.0) * np.cos(x / 4.0)).astype(np.uint16)
    moved = blend(
        [counts],
        offsets_yx=np.array([(0.3, 0.4)]),
        weights=[feather(counts > 0)],
        corrections=[np.zeros(counts.shape, np.float32)],
        shape_yx=(60, 60),
    )
    expected = 13370 + 1000 * np.sin((y - 0.3) / 3.0) * np.cos((x - 0.4) / 4.0)
    assert np.abs(moved - expected)[5:-5, 5:-5].max() < 5  # of 1000
    assert (moved[0] == 0).all()
    assert (moved[:, 0] == 0).all()


def test_fields_that_overlap_are_grouped_and_others_stay_fields() -> None:
    shape, step = (60, 1000, 1000), 0.9 * 0.155
    places: dict[str, Any] = {
        f"tile{row}{column}": ((1 + step * column, 2 + step * row, 0.1), shape, (0.95, 0.155, 0.155))
        for row in range(2)
        for column in range(2)
    }
    places["apart"] = ((1.6, 2.0, 0.1), shape, (0.95, 0.155, 0.155))
    places["touches a corner"] = ((1 - step, 2 - step, 0.1), shape, (0.95, 0.155, 0.155))
    places["again"] = ((1.6, 2.001, 0.1), shape, (0.95, 0.155, 0.155))
    places["unknown"] = ((float("nan"),) * 3, shape, (0.95, 0.155, 0.155))
    places["other voxels"] = ((1.0, 2 - step, 0.1), shape, (0.95, 0.2, 0.2))
    assert group_tiles(places) == [
        ("tile00", "tile01", "tile10", "tile11"),
        ("apart",),
        ("touches a corner",),
        ("again",),
        ("unknown",),
        ("other voxels",),
    ]


def test_one_row_of_tiles_is_one_group_and_the_first_frame_sets_the_time(tmp_path: Path) -> None:
    field = wide_field()
    world = cut(tmp_path, field, rows=1, columns=4, overlap=0.2)
    places: dict[Path, Any] = {}
    for path in world.paths:
        with open_acquisition(path) as tile:
            places[path] = (tile.position_mm, tile.shape_zyx, tile.voxel_um)
    assert group_tiles(places) == [tuple(world.paths)]
    mosaic, _, _ = stitched(world)
    assert mosaic.path == world.paths[0]
    assert mosaic.recorded == START
    assert mosaic.times_s == {0: 0.0}
    assert mosaic.medium_index == pytest.approx(1.337)
