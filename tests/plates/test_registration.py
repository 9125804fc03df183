"""Fluorescence and tomograms of known place: found again, and not trusted where nothing can be told."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.ndimage import affine_transform, center_of_mass

from plates.aligned import aligned_projections, registration_picture
from plates.errors import AcquisitionError
from plates.index_registration import register_index
from plates.ingest.tcf import open_tcf
from plates.placement import Placement, metadata_placement, resample
from plates.registration import register
from plates.simulation.acquisition import FluorescenceFrames, Registration, write_tcf
from tests.plates.acquisitions import START

FIELD_UM = 110.0
PITCH, LIGHT_PITCH = 0.2, 0.15
TRUTH = Placement(rotation_rad=np.deg2rad(2.3), scale=0.93, shift_um=(0.0, 1.7, -1.2))
HL60 = Path(__file__).parents[1] / "data" / "hl60_tomogram" / "hl60_ri_x10000_140x140x140_0.139um.tif"


def axis(size: int, pitch: float) -> np.ndarray:
    """Places of pixels, um from the middle of their row."""
    places: np.ndarray = (np.arange(size) - (size - 1) / 2) * pitch
    return places


def made_field(seed: int, *, cells: int, truth: Placement = TRUTH) -> tuple[np.ndarray, np.ndarray]:
    """Tomogram's projection of long cells with a nucleus each, and the nuclei's light where `truth` puts it."""
    rng = np.random.default_rng(seed)
    size, light_size = round(FIELD_UM / PITCH), round(FIELD_UM / LIGHT_PITCH)
    y, x = axis(size, PITCH)[:, None], axis(size, PITCH)[None, :]
    v, u = axis(light_size, LIGHT_PITCH)[:, None], axis(light_size, LIGHT_PITCH)[None, :]
    index, light = np.zeros((size, size)), np.zeros((light_size, light_size))
    cos, sin = np.cos(truth.rotation_rad), np.sin(truth.rotation_rad)
    # spread over the field without covering each other's nuclei
    grid = np.stack(np.meshgrid(np.linspace(-48, 48, 7), np.linspace(-48, 48, 7)), axis=-1).reshape(-1, 2)
    places = rng.permutation(grid)[:cells] + rng.uniform(-3.5, 3.5, (cells, 2))
    for row, column in places:
        angle = rng.uniform(0, np.pi)
        along = (x - column) * np.cos(angle) + (y - row) * np.sin(angle)
        across = (y - row) * np.cos(angle) - (x - column) * np.sin(angle)
        body = ((along / 11) ** 2 + (across / 7) ** 2 < 1) & (index == 0)
        index[body] = rng.uniform(120, 250)
        index[(along / 5) ** 2 + (across / 4) ** 2 < 1] = rng.choice([rng.uniform(80, 110), rng.uniform(270, 320)])
        seen_row = truth.scale * (cos * row - sin * column) + truth.shift_um[1]
        seen_column = truth.scale * (sin * row + cos * column) + truth.shift_um[2]
        light += 1 / (1 + np.exp((np.hypot(v - seen_row, u - seen_column) - 4.5 * truth.scale) / 0.4))
    counts = np.rint(13370 + index + rng.normal(0, 6, index.shape)).astype(np.uint16)
    return counts, rng.poisson(20 + 400 * np.minimum(light, 1)).astype(np.uint16)


def registered(counts: np.ndarray, light: np.ndarray, start: Placement) -> Placement:
    return register(
        counts, {"CH0": light}, voxel_um=(PITCH, PITCH), fluorescence_voxel_um=(LIGHT_PITCH, LIGHT_PITCH), start=start
    )


def error_um(placement: Placement, truth: Placement = TRUTH) -> float:
    """Root mean square over the places of a field; written out, so as not to share the code under test."""
    places = np.stack(np.meshgrid(np.linspace(-55, 55, 9), np.linspace(-55, 55, 9)), axis=-1).reshape(-1, 2)

    def put(where: Placement) -> np.ndarray:
        cos, sin = np.cos(where.rotation_rad), np.sin(where.rotation_rad)
        y, x = places.T
        turned = np.array([cos * y - sin * x, sin * y + cos * x])
        moved: np.ndarray = where.scale * turned + np.array(where.shift_um[1:])[:, None]
        return moved

    return float(np.sqrt(np.mean(np.sum((put(placement) - put(truth)) ** 2, axis=0))))


@pytest.mark.parametrize(
    "start",
    [
        Placement(),
        replace(TRUTH, rotation_rad=TRUTH.rotation_rad - np.deg2rad(2), shift_um=(0.0, 4.2, 0.5)),
        replace(TRUTH, scale=TRUTH.scale * 1.06, shift_um=(0.0, -0.9, -2.8)),
    ],
    ids=["metadata absent", "wrong by 3 um and 2 degrees", "wrong by 3 um and 6 % of scale"],
)
def test_a_known_placement_is_found_from_any_start(start: Placement) -> None:
    found = registered(*made_field(1, cells=45), start)
    assert error_um(start) > 2.5
    assert error_um(found) < 0.5
    assert found.trusted
    assert found.how == "refined"
    assert found.after > found.before
    assert 0 < found.residual_um < 0.8


def test_metadata_that_the_images_bear_out_are_kept() -> None:
    found = registered(*made_field(2, cells=45), replace(TRUTH, reason="as the instrument says"))
    assert found.trusted
    assert found.how == "metadata"
    assert error_um(found) == 0


def test_the_estimated_error_grows_as_cells_become_few() -> None:
    many = registered(*made_field(3, cells=45), Placement())
    fields = [registered(*made_field(seed, cells=6), Placement()) for seed in (3, 4)]
    assert all(not few.trusted for few in fields)
    assert all(np.isnan(few.residual_um) or few.residual_um > many.residual_um for few in fields)


@pytest.mark.parametrize("cells", [0, 3])
def test_a_field_that_tells_nothing_keeps_its_start_and_says_why(cells: int) -> None:
    start = replace(TRUTH, shift_um=(0.5, 4.0, 0.0))
    found = registered(*made_field(5, cells=cells), start)
    assert not found.trusted
    assert "few" in found.reason or "little" in found.reason
    assert (found.rotation_rad, found.scale, found.shift_um) == (start.rotation_rad, start.scale, start.shift_um)


def test_light_without_any_stain_is_refused() -> None:
    counts, light = made_field(6, cells=40)
    dark = np.random.default_rng(6).poisson(20, light.shape).astype(np.uint16)
    found = registered(counts, dark, Placement())
    assert not found.trusted
    assert "too little light" in found.reason


def test_the_light_of_another_field_is_not_trusted() -> None:
    counts, _ = made_field(7, cells=40)
    _, light = made_field(8, cells=40)
    found = registered(counts, light, Placement())
    assert not found.trusted
    assert found.reason


def test_a_field_too_small_to_tell_its_error_is_not_trusted() -> None:
    counts, light = made_field(1, cells=45)
    found = registered(counts[250:350, 250:350], light[333:467, 333:467], Placement())
    assert not found.trusted


def test_metadata_that_lead_out_of_the_field_are_refused_without_harm() -> None:
    counts, light = made_field(1, cells=45)
    found = registered(counts, light, Placement(shift_um=(0.0, 300.0, 0.0)))
    assert not found.trusted
    assert found.shift_um == (0.0, 300.0, 0.0)


def test_what_was_not_reconstructed_does_not_draw_the_placement() -> None:
    counts, light = made_field(9, cells=45)
    counts[:, :60] = 0
    counts[-50:] = 0
    found = registered(counts, light, Placement())
    assert error_um(found) < 0.5


def test_all_channels_are_used_and_none_is_changed() -> None:
    counts, light = made_field(10, cells=45)
    half = light.shape[1] // 2
    left, right = light.copy(), light.copy()
    dark = np.random.default_rng(10).poisson(20, light.shape)
    left[:, half:], right[:, :half] = dark[:, half:], dark[:, :half]
    channels = {"CH0": np.stack([left, left // 2]), "CH1": right[None]}
    copies = {name: stack.copy() for name, stack in channels.items()}
    found = register(
        np.stack([counts, counts - 10]),
        channels,
        voxel_um=(0.9, PITCH, PITCH),
        fluorescence_voxel_um=(1.0, LIGHT_PITCH, LIGHT_PITCH),
        start=Placement(),
    )
    assert error_um(found) < 0.5
    assert all(np.array_equal(channels[name], copies[name]) for name in channels)


def written(folder: Path, stacks: Sequence[np.ndarray], counts: np.ndarray, **transform: object) -> Path:
    """A TCF file of one frame of a flat tomogram, its channels with the light at 2 um."""
    channels = {
        f"CH{number}": FluorescenceFrames(
            frames=[stack], voxel_um=(1.0, LIGHT_PITCH, LIGHT_PITCH), times_s=[0.0], offset_z_um=2.0
        )
        for number, stack in enumerate(stacks)
    }
    return write_tcf(
        folder / "field.TCF",
        frames=[np.stack([counts - 5, counts, counts - 5]), np.stack([counts, counts, counts])],
        voxel_um=(0.9, PITCH, PITCH),
        times_s=[0.0, 60.0],
        medium_index=1.337,
        recording_time=START,
        fluorescence=channels,
        registration=Registration(**transform),  # type: ignore[arg-type]
    )


def test_the_instrument_s_transform_is_read_in_each_way_that_readers_know(tmp_path: Path) -> None:
    counts = np.full((40, 60), 13370, np.uint16)
    path = written(
        tmp_path, [np.zeros((5, 50, 70), np.uint8)], counts, rotation_rad=0.03, scale=0.9, translation_um=(2.0, -1.0)
    )
    with open_tcf(path) as acquisition:
        plain = metadata_placement(acquisition, "CH0")
        middle = metadata_placement(acquisition, "CH0", offset_z="centre")
        unscaled = metadata_placement(acquisition, "CH0", use_scale=False)
        unused = metadata_placement(acquisition, "CH0", use_registration=False)
        back = metadata_placement(acquisition, "CH0", direction="fluorescence-to-tomogram")
        with pytest.raises(AcquisitionError, match="CH7"):
            metadata_placement(acquisition, "CH7")
        acquisition.fluorescence_transform = replace(acquisition.fluorescence_transform, scale=0.0)
        with pytest.raises(AcquisitionError, match="is no placement"):
            metadata_placement(acquisition, "CH0")
    assert (plain.rotation_rad, plain.scale, plain.how, plain.trusted) == (0.03, 0.9, "metadata", False)
    # the tomogram's middle is at 0.9 um; the stack runs from 2 to 6 um, or lies about 2 um
    assert plain.shift_um == pytest.approx((0.9 - 4.0, -1.0, 2.0))
    assert middle.shift_um == pytest.approx((0.9 - 2.0, -1.0, 2.0))
    assert (unscaled.rotation_rad, unscaled.scale) == (0.03, 1.0)
    assert (unused.rotation_rad, unused.scale, unused.shift_um[1:]) == (0.0, 1.0, (0.0, 0.0))
    # there and back is nowhere
    point = np.array([7.0, -11.0])
    there = plain.matrix @ point + plain.shift_um[1:]
    assert back.matrix @ there + back.shift_um[1:] == pytest.approx(point)


def test_a_spot_comes_to_lie_where_it_was_seen(tmp_path: Path) -> None:
    light_size, size = 400, 300
    v, u = axis(light_size, LIGHT_PITCH)[:, None], axis(light_size, LIGHT_PITCH)[None, :]
    row, column = 6.0, -9.0
    place = TRUTH.matrix @ [row, column] + TRUTH.shift_um[1:]
    spot = 1000 * np.exp(-((v - place[0]) ** 2 + (u - place[1]) ** 2) / 2)
    onto = resample(
        spot, TRUTH, voxel_um=(LIGHT_PITCH, LIGHT_PITCH), onto_shape=(size, size), onto_voxel_um=(PITCH, PITCH)
    )
    found = (np.array(center_of_mass(np.nan_to_num(onto))) - (size - 1) / 2) * PITCH
    assert found == pytest.approx([row, column], abs=0.02)


def test_intensities_keep_their_scale_and_the_uncovered_is_missing() -> None:
    stack = np.full((4, 100, 100), 37, np.uint8)
    onto = resample(
        stack,
        Placement(shift_um=(0, 3.0, 0)),
        voxel_um=(1, 0.1, 0.1),
        onto_shape=(4, 50, 50),
        onto_voxel_um=(1, 0.3, 0.3),
    )
    covered = np.isfinite(onto)
    assert np.unique(onto[covered]) == pytest.approx([37])
    assert 0.3 < covered.mean() < 0.6
    # 3 um further down in the light: the tomogram's lower rows look beyond its edge
    assert not covered[:, -10:].any()


def test_a_finer_light_is_averaged_rather_than_skipped() -> None:
    speckle = np.random.default_rng(1).poisson(50, (400, 400)).astype(float)
    onto = resample(speckle, Placement(), voxel_um=(0.1, 0.1), onto_shape=(90, 90), onto_voxel_um=(0.4, 0.4))
    assert np.nanstd(onto) < 0.4 * speckle.std()


def test_projections_come_on_the_tomogram_s_grid_with_no_data_told_from_no_light(tmp_path: Path) -> None:
    counts, light = made_field(11, cells=45)
    light[300:320, 300:320] = 0
    bright = np.zeros((3, *light.shape), np.uint16)
    bright[1, 360:380, 360:380] = 65535
    path = written(
        tmp_path,
        [np.stack([light // 2, light, light // 3]), bright],
        counts,
        rotation_rad=TRUTH.rotation_rad,
        scale=TRUTH.scale,
        translation_um=(TRUTH.shift_um[2], TRUTH.shift_um[1] + 9.0),
    )
    with open_tcf(path) as acquisition:
        told, metadata = aligned_projections(acquisition, 0, counts, refine=False)
        later, _ = aligned_projections(acquisition, 1, counts)
        borrowed, _ = aligned_projections(acquisition, 1, counts, fluorescence_frame=0, refine=False)
        refined, placement = aligned_projections(acquisition, 0, counts, use_registration=False)
    assert set(told) == {"CH0", "CH1"}
    assert all(image.shape == counts.shape and image.dtype == np.uint16 for image in told.values())
    assert (told["CH0"] == 0).any()
    assert 1 in told["CH0"]
    assert told["CH1"].max() == 65535
    assert metadata.how == "metadata"
    assert later == {}
    assert np.array_equal(borrowed["CH0"], told["CH0"])
    assert placement.trusted
    assert error_um(placement) < 0.5
    # light lies in cells once it is placed right
    cells = counts > 13370 + 60
    assert refined["CH0"][cells].mean() > 1.5 * refined["CH0"][~cells].mean()


def test_the_picture_outlines_nuclei_within_cells_after_registration() -> None:
    counts, light = made_field(12, cells=45)
    picture = registration_picture(
        counts,
        {"CH0": light},
        voxel_um=(PITCH, PITCH),
        fluorescence_voxel_um=(LIGHT_PITCH, LIGHT_PITCH),
        before=Placement(shift_um=(0, 12.0, 12.0)),
        after=TRUTH,
    )
    pixels = np.asarray(picture).astype(int)
    blue = pixels[..., 2] - pixels[..., 0] > 100
    step = round(max(counts.shape) / 700) or 1
    cells = counts[::step, ::step] > 13370 + 60
    before, after = blue[:, : cells.shape[1]], blue[:, -cells.shape[1] :]
    assert after.sum() > 500
    assert cells[after].mean() > 0.9 > cells[before].mean() + 0.1


def moved_hl60(volume: np.ndarray, shift: Sequence[float], turn: float) -> np.ndarray:
    """The volume moved by `shift` voxels and turned, by splines of fifth order, with fresh noise."""
    cos, sin = np.cos(turn), np.sin(turn)
    # the value at q comes from the place that was moved there
    back = np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])
    middle = (np.array(volume.shape) - 1) / 2
    offset = middle - back @ (middle + np.array(shift))
    moved: np.ndarray = affine_transform(volume.astype(float), back, offset, order=5, mode="nearest")
    noisy: np.ndarray = np.rint(moved + np.random.default_rng(1).normal(0, 3, moved.shape)).astype(np.uint16)
    return noisy


@pytest.mark.parametrize(
    ("shift", "turn"), [((0.3, -1.4, 2.6), 0.0), ((-1.7, 4.5, -3.25), np.deg2rad(1.5))], ids=["shifted", "turned too"]
)
def test_a_tomogram_is_found_on_another_within_a_tenth_of_a_voxel(shift: tuple[float, ...], turn: float) -> None:
    volume = tifffile.imread(HL60)[30:110, 10:130, 10:130]
    found = register_index(volume, moved_hl60(volume, shift, turn), voxel_um=(0.139,) * 3)
    assert np.array(found.shift_um) / 0.139 == pytest.approx(shift, abs=0.1)
    assert found.rotation_rad == pytest.approx(turn, abs=np.deg2rad(0.05))
    assert found.trusted
    assert found.after > 0.99 > found.before


def test_projections_of_tomograms_are_registered_in_the_plane() -> None:
    volume = tifffile.imread(HL60)[30:110, 10:130, 10:130]
    moved = moved_hl60(volume, (0.0, 2.3, -0.6), 0.0)
    found = register_index(volume.max(axis=0), moved.max(axis=0), voxel_um=(0.139, 0.139))
    assert np.array(found.shift_um) / 0.139 == pytest.approx((0, 2.3, -0.6), abs=0.1)


def test_tomograms_that_have_nothing_in_common_are_not_trusted() -> None:
    rng = np.random.default_rng(2)
    one, other = (rng.normal(13370, 5, (6, 60, 60)).astype(np.uint16) for _ in range(2))
    assert not register_index(one, other, voxel_um=(1, 0.2, 0.2)).trusted
    nothing = register_index(one, np.zeros_like(one), voxel_um=(1, 0.2, 0.2))
    assert not nothing.trusted
    assert "no structure" in nothing.reason
    with pytest.raises(AcquisitionError, match="one shape"):
        register_index(one, other[:, 1:], voxel_um=(1, 0.2, 0.2))
