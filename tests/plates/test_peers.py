"""Our plates in other people's tools: the same voxels, in the same place, at the same time, under the same names."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from plates.creation import create_plate
from plates.results import write_result
from plates.states import COLOURS, STATES
from plates.store import Plate

# two chunks deep and two high, the last ones cut by the edge; of an odd depth, so that no mean lies halfway
SHAPE = (25, 330, 100)
VOXEL_UM = (0.95, 0.16, 0.16)
INTERVAL = 0.5  # h
LEVELS = {"path": 2, "mip_path": 3, "fluorescence_path": 3}
CHANNELS = {"path": ["RI"], "mip_path": ["maximum", "mean", "dry mass"], "fluorescence_path": ["CH0", "CH1"]}
WINDOWS = {
    "path": [(13300, 13900)],
    "mip_path": [(13300, 13900), (13300, 13600), (0, 30000)],
    "fluorescence_path": [(0, 4000), (0, 4000)],
}
IMAGES = ["A/1/0", "A/1/1", "B/3/0", "B/3/1"]
FIRST_FIELDS = ["A/1/0", "B/3/0"]  # what mosaics of a plate show
NEVER_IMAGED = ("B03", 1, 2)
NEVER_LIT = ("A01", 1, 0)
RGBA = {value: [*bytes.fromhex(COLOURS[state][1:]), 255] for value, state in enumerate(STATES, start=1)}

siblings = pytest.mark.parametrize("sibling", LEVELS)


@pytest.fixture(autouse=True)
def codecs_as_before() -> Iterator[None]:
    # iohub may switch all of zarr to the codecs of zarrs, which let damaged chunks pass
    with zarr.config.set({"codec_pipeline.path": zarr.config.get("codec_pipeline.path")}):
        yield


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Plate:
    plate = create_plate(
        tmp_path_factory.mktemp("plates") / "P012.zarr",
        name="P012",
        wells=["A01", "B03"],
        fields=2,
        timepoints=3,
        shape_zyx=SHAPE,
        voxel_um=VOXEL_UM,
        rows=2,
        columns=3,
        hours=[0.0, INTERVAL, 2 * INTERVAL],
        fluorescence=("CH0", "CH1"),
        provenance={},
    )
    for well, field, timepoint in product(plate.wells, range(plate.fields), range(plate.timepoints)):
        if (well, field, timepoint) == NEVER_IMAGED:
            continue
        place: Any = {"field": field, "timepoint": timepoint}
        plate.write_field(well, **place, volume=tomogram(well, field, timepoint))
        plate.write_classes(well, **place, classes=states(well, field, timepoint))
        if (well, field, timepoint) != NEVER_LIT:
            plate.write_fluorescence(well, **place, images={"CH1": light(well, field, timepoint)})
    return plate


def tomogram(well: str, field: int, timepoint: int) -> np.ndarray:
    """Noisy medium with a missing corner, and a ball that moves with field and timepoint."""
    if (well, field, timepoint) == NEVER_IMAGED:
        return np.zeros(SHAPE, np.uint16)
    volume = random(well, field, timepoint).integers(13300, 13350, SHAPE)
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    height, width = 100 + 60 * field + 10 * timepoint, 50
    distance = ((z - 12) / 4) ** 2 + ((y - height) / 8) ** 2 + ((x - width) / 8) ** 2
    volume += np.rint(500 * np.exp(-distance / 2)).astype(volume.dtype)
    volume[:, :5, :7] = 0
    return volume.astype(np.uint16)


def states(well: str, field: int, timepoint: int) -> np.ndarray:
    if (well, field, timepoint) == NEVER_IMAGED:
        return np.zeros(SHAPE[1:], np.uint8)
    return random(well, field, timepoint).integers(0, 6, SHAPE[1:]).astype(np.uint8)


def light(well: str, field: int, timepoint: int) -> np.ndarray:
    if (well, field, timepoint) in (NEVER_IMAGED, NEVER_LIT):
        return np.zeros(SHAPE[1:], np.uint16)
    return random(well, field, timepoint).integers(1, 4000, SHAPE[1:]).astype(np.uint16)


def random(well: str, field: int, timepoint: int) -> np.random.Generator:
    return np.random.default_rng([ord(well[0]), field, timepoint])


def truth(sibling: str, image: str) -> np.ndarray:
    """Finest level of an image (t, c, z, y, x) as it was given; the projections without dry mass."""
    row, column, field = image.split("/")
    places = [(f"{row}{int(column):02d}", int(field), timepoint) for timepoint in range(3)]
    if sibling == "fluorescence_path":
        return np.stack([np.stack([np.zeros_like(light(*place)), light(*place)]) for place in places])[:, :, None]
    volumes = np.stack([tomogram(*place) for place in places])
    if sibling == "path":
        return volumes[:, None]
    present = np.maximum((volumes > 0).sum(axis=1), 1)
    mean = np.rint(volumes.sum(axis=1) / present).astype(np.uint16)
    return np.stack([volumes.max(axis=1), mean], axis=1)[:, :, None]


def mosaic(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Images of A01 and B03 at their places on a plate of 2 x 3; wells without images are 0."""
    empty = np.zeros_like(first)
    rows = ([first, empty, empty], [empty, empty, last])
    return np.concatenate([np.concatenate(row, axis=-1) for row in rows], axis=-2)


def states_of(image: str) -> np.ndarray:
    """Map of states of an image (t, y, x) as it was given."""
    row, column, field = image.split("/")
    return np.stack([states(f"{row}{int(column):02d}", int(field), timepoint) for timepoint in range(3)])


def agree(read: Any, sibling: str, expected: np.ndarray) -> bool:
    """Whether all channels whose truth is known are the same; dry mass is the third projection."""
    known = np.asarray(read)[:, : expected.shape[1]]
    return known.dtype == np.uint16 and np.array_equal(known, expected)


def pixel_um(sibling: str, level: int) -> float:
    return VOXEL_UM[1] * float((4 if sibling == "path" else 2) ** level)


def ball_um(image: Any, *, scale: Sequence[float], translation: Sequence[float]) -> np.ndarray:
    """Where the ball's centre lies along y and x, of an image (z, y, x) placed by its reader; um."""
    weight = np.maximum(np.asarray(image, dtype=float) - 13370, 0).sum(axis=0)
    grid = np.indices(weight.shape)
    centre = [float((weight * axis).sum() / weight.sum()) for axis in grid]
    return np.asarray(centre) * scale[-2:] + translation[-2:]


def coloured(colours: Mapping[int, Sequence[float]]) -> bool:
    return {value: [round(255 * part) for part in colour] for value, colour in colours.items()} == RGBA


@siblings
def test_two_validators_find_nothing_in_any_sibling(plate: Plate, sibling: str) -> None:
    import yaozarrs
    from ome_zarr_models.v05 import HCS, Image, ImageLabel, Labels

    root = getattr(plate, sibling)
    yaozarrs.validate_zarr_store(str(root))
    plate_model = HCS.from_zarr(zarr.open_group(str(root), mode="r")).ome_attributes.plate
    assert [well.path for well in plate_model.wells] == ["A/1", "B/3"]
    for place in IMAGES:
        yaozarrs.validate_zarr_store(str(root / place))
        image = Image.from_zarr(zarr.open_group(str(root / place), mode="r")).ome_attributes
        assert len(image.multiscales[0].datasets) == LEVELS[sibling]
    if sibling == "mip_path":
        Labels.from_zarr(zarr.open_group(str(root / "A/1/0/labels"), mode="r"))
        ImageLabel.from_zarr(zarr.open_group(str(root / "A/1/0/labels/states"), mode="r"))


def with_zarr(array: Path) -> np.ndarray:
    return np.asarray(zarr.open_array(str(array), mode="r")[...])


def with_dask(array: Path) -> np.ndarray:
    import dask.array as da

    return np.asarray(da.from_zarr(str(array)))


def with_tensorstore(array: Path) -> np.ndarray:
    tensorstore = pytest.importorskip("tensorstore")
    store = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(array)}}
    return np.asarray(tensorstore.open(store).result().read().result())


@siblings
@pytest.mark.parametrize("read", [with_zarr, with_dask, with_tensorstore])
def test_readers_of_plain_arrays_decode_every_shard(
    plate: Plate, sibling: str, read: Callable[[Path], np.ndarray]
) -> None:
    root = getattr(plate, sibling)
    for image in IMAGES:
        assert agree(read(root / image / "0"), sibling, truth(sibling, image))
        for level in range(1, LEVELS[sibling]):
            coarse = root / image / str(level)
            assert np.array_equal(read(coarse), with_zarr(coarse))
    masses = read(plate.mip_path / "A/1/0/0")[1, 2, 0]
    assert np.array_equal(masses, plate.projection("A01", field=0, timepoint=1, kind="dry mass"))


def test_xarray_gives_refractive_indices_and_leaves_out_what_is_missing(plate: Plate) -> None:
    image = xr.open_zarr(plate.path / "B/3/1", consolidated=False, drop_variables=["1"])["0"]
    assert image.dims == ("t", "c", "z", "y", "x")
    given = truth("path", "B/3/1")
    np.testing.assert_allclose(image, np.where(given > 0, given * 1e-4, np.nan), rtol=0, atol=1e-12)
    assert bool(image.isel(t=2).isnull().all())
    lit = xr.open_zarr(plate.fluorescence_path / "B/3/1", consolidated=False, drop_variables=["1", "2"])["0"]
    camera = truth("fluorescence_path", "B/3/1").astype(float)
    np.testing.assert_array_equal(lit, np.where(camera > 0, camera, np.nan))


@siblings
@pytest.mark.parametrize("level", range(3))
def test_ngio_finds_wells_channels_sizes_and_voxels(plate: Plate, sibling: str, level: int) -> None:
    from ngio import open_ome_zarr_plate

    if level >= LEVELS[sibling]:
        return
    theirs = open_ome_zarr_plate(str(getattr(plate, sibling)), mode="r")
    assert (theirs.rows, theirs.columns) == (["A", "B"], ["1", "2", "3"])
    assert theirs.wells_paths() == ["A/1", "B/3"]
    assert theirs.images_paths(max_workers=1) == IMAGES
    container = theirs.get_image(row="B", column=3, image_path="1")
    assert container.levels == LEVELS[sibling]
    image = container.get_image(path=str(level))
    size, pixel = image.pixel_size, pixel_um(sibling, level)
    assert (size.t, size.z, size.y, size.x) == pytest.approx((INTERVAL, VOXEL_UM[0], pixel, pixel))
    assert (image.time_unit, image.space_unit) == ("hour", "micrometer")
    assert image.channel_labels == CHANNELS[sibling]
    shown = [channel.channel_visualisation for channel in image.channels_meta.channels]
    assert [(channel.start, channel.end) for channel in shown] == WINDOWS[sibling]
    if level == 0:
        assert agree(image.get_as_numpy(axes_order=["t", "c", "z", "y", "x"]), sibling, truth(sibling, "B/3/1"))
        only = image.get_array(channel_selection=CHANNELS[sibling][-1], axes_order=["z", "y", "x"], t=1)
        assert np.array_equal(np.asarray(only), with_zarr(getattr(plate, sibling) / "B/3/1/0")[1, -1])


@pytest.mark.parametrize("level", range(3))
def test_ngio_lays_the_map_of_states_on_its_image(plate: Plate, level: int) -> None:
    from ngio import open_ome_zarr_plate

    container = open_ome_zarr_plate(str(plate.mip_path), mode="r").get_image(row="A", column=1, image_path="1")
    assert container.list_labels() == ["states"]
    image, label = container.get_image(path=str(level)), container.get_label("states", path=str(level))
    assert label.pixel_size == image.pixel_size
    assert [label.dataset.translation[-2:], label.shape[-2:]] == [image.dataset.translation[-2:], image.shape[-2:]]
    assert np.array_equal(
        label.get_as_numpy(axes_order=["t", "y", "x"], z=0), states_of("A/1/1")[:, :: 2**level, :: 2**level]
    )


@pytest.mark.parametrize("sibling", ["path", "mip_path"])
def test_levels_lie_on_each_other_in_ngio_ome_zarr_py_and_ours(plate: Plate, sibling: str) -> None:
    from ngio import open_ome_zarr_plate

    truly = np.array([100 + 60 + 10, 50]) * VOXEL_UM[1]
    container = open_ome_zarr_plate(str(getattr(plate, sibling)), mode="r").get_image("A", 1, "1")
    node = first_node(getattr(plate, sibling) / "A/1/1")
    for level in range(LEVELS[sibling]):
        image = container.get_image(path=str(level))
        where = {"scale": image.dataset.scale, "translation": image.dataset.translation}
        assert ball_um(image.zarr_array[1, 0], **where) == pytest.approx(truly, abs=0.02)
        scale, *moved = node.metadata["coordinateTransformations"][level]
        origin = moved[0]["translation"] if moved else [0.0] * 5
        placed = ball_um(node.data[level][1, 0], scale=scale["scale"], translation=origin)
        assert placed == pytest.approx(truly, abs=0.02)


@siblings
def test_ome_zarr_py_lays_out_the_plate_and_knows_its_channels(plate: Plate, sibling: str) -> None:
    node = first_node(getattr(plate, sibling))
    assert len(node.data) == LEVELS[sibling]
    assert agree(node.data[0], sibling, mosaic(*(truth(sibling, image) for image in FIRST_FIELDS)))
    assert node.metadata["channel_names"] == CHANNELS[sibling]
    assert [tuple(limits) for limits in node.metadata["contrast_limits"]] == WINDOWS[sibling]
    image = first_node(getattr(plate, sibling) / "B/3/1")
    assert agree(image.data[0], sibling, truth(sibling, "B/3/1"))


def test_ome_zarr_py_reads_the_map_of_states_in_our_colours(plate: Plate) -> None:
    label = all_nodes(plate.mip_path / "A/1/0")[-1]
    assert np.array_equal(np.squeeze(np.asarray(label.data[0])), states_of("A/1/0"))
    assert coloured(label.metadata["color"])
    assert [label.metadata["properties"][value]["state"] for value in range(1, 6)] == list(STATES)


def first_node(path: Path) -> Any:
    return all_nodes(path)[0]


def all_nodes(path: Path) -> list[Any]:
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    location = parse_url(str(path))
    assert location is not None
    return list(Reader(location)())


def napari_layers(path: Path) -> list[tuple[list[Any], dict[str, Any], str]]:
    """What napari's reader makes of a path: (levels, how to show them, kind) of every layer."""
    pytest.importorskip("napari", reason="napari-ome-zarr imports napari; see the Makefile")
    # napari's import warns of its own dependencies' changes, which importorskip passes over
    reader = pytest.importorskip("napari_ome_zarr").napari_get_reader(str(path))
    assert reader is not None
    return list(reader())


@siblings
def test_napari_shows_the_plate_with_empty_wells_and_our_contrast(plate: Plate, sibling: str) -> None:
    levels, shown, kind = napari_layers(getattr(plate, sibling))[0]
    assert kind == "image"
    assert agree(levels[0], sibling, mosaic(*(truth(sibling, image) for image in FIRST_FIELDS)))
    for level, coarse in enumerate(levels):
        stored = (with_zarr(getattr(plate, sibling) / image / str(level)) for image in FIRST_FIELDS)
        assert np.array_equal(np.asarray(coarse), mosaic(*stored))
    assert shown["channel_axis"] == 1
    assert shown["scale"] == pytest.approx([INTERVAL, *VOXEL_UM])
    assert np.array_equal(shown["affine"].affine_matrix, np.eye(5))
    assert shown["axis_labels"] == ("t", "z", "y", "x")
    assert shown["units"] == ("hour", "micrometer", "micrometer", "micrometer")
    assert shown["name"] == [f"P012: {channel}" for channel in CHANNELS[sibling]]
    assert [tuple(limits) for limits in shown["contrast_limits"]] == WINDOWS[sibling]
    assert shown["visible"] == [True] + [False] * (len(CHANNELS[sibling]) - 1)


def test_napari_shows_the_map_of_states_on_the_plate_and_in_our_colours_on_a_field(plate: Plate) -> None:
    _, (levels, shown, kind) = napari_layers(plate.mip_path)
    assert kind == "labels"
    assert np.array_equal(np.squeeze(np.asarray(levels[0])), mosaic(*map(states_of, FIRST_FIELDS)))
    assert shown["scale"][-3:] == pytest.approx(VOXEL_UM)
    _, (levels, shown, kind) = napari_layers(plate.mip_path / "A/1/0")
    assert kind == "labels"
    assert np.array_equal(np.squeeze(np.asarray(levels[0])), states_of("A/1/0"))
    assert coloured(shown["colormap"])
    assert shown["properties"] == {"state": list(STATES), "index": [1, 2, 3, 4, 5]}


@pytest.mark.parametrize("path", [".", "A/1/0"])
def test_one_time_slider_moves_image_and_map_of_states_in_napari(plate: Plate, path: str) -> None:
    (images, image, _), (labels, label, _) = napari_layers(plate.mip_path / path)
    # napari lays the axes of its layers on each other from the last one
    assert label["axis_labels"] == image["axis_labels"]
    assert label["scale"] == image["scale"]
    channel = image["channel_axis"]
    assert labels[0].shape == images[0].shape[:channel] + images[0].shape[channel + 1 :]


@siblings
def test_iohub_reads_positions_channels_scales_and_voxels(plate: Plate, sibling: str) -> None:
    iohub = pytest.importorskip("iohub", minversion="0.3.0a7", reason="older iohub reads Zarr v2 only")
    with iohub.open_ome_zarr(getattr(plate, sibling), mode="r") as theirs:
        assert [name for name, _ in theirs.positions()] == IMAGES
        position = theirs["B/3/1"]
        assert position.channel_names == CHANNELS[sibling]
        assert agree(position["0"][...], sibling, truth(sibling, "B/3/1"))
        for level in range(LEVELS[sibling]):
            pixel = pixel_um(sibling, level)
            scale = position.get_effective_scale(str(level))
            assert scale == pytest.approx([INTERVAL, 1, VOXEL_UM[0], pixel, pixel])
            moved = position.get_effective_translation(str(level))
            assert moved[-2:] == pytest.approx([(pixel - VOXEL_UM[1]) / 2] * 2)


@siblings
def test_bioio_reads_an_image_with_its_sizes(plate: Plate, sibling: str) -> None:
    reader = pytest.importorskip("bioio_ome_zarr").Reader(str(getattr(plate, sibling) / "B/3/1"))
    assert reader.channel_names == CHANNELS[sibling]
    assert tuple(reader.physical_pixel_sizes) == pytest.approx(VOXEL_UM)
    assert reader.resolution_levels == tuple(range(LEVELS[sibling]))
    assert agree(reader.get_image_data("TCZYX"), sibling, truth(sibling, "B/3/1"))


@siblings
def test_ngff_zarr_reads_a_field_of_the_plate_at_its_place(plate: Plate, sibling: str) -> None:
    well = pytest.importorskip("ngff_zarr").from_hcs_zarr(str(getattr(plate, sibling))).get_well("B", "3")
    images = well.get_image(1).images
    assert agree(images[0].data, sibling, truth(sibling, "B/3/1"))
    for level, image in enumerate(images):
        pixel = pixel_um(sibling, level)
        assert [image.scale[axis] for axis in "tzyx"] == pytest.approx([INTERVAL, VOXEL_UM[0], pixel, pixel])
        assert [image.translation[axis] for axis in "yx"] == pytest.approx([(pixel - VOXEL_UM[1]) / 2] * 2)


PAGE = Path(__file__).parents[2] / "docs" / "store.md"
SAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


@pytest.mark.filterwarnings("default")  # a sample need not silence what other people's imports warn of
@pytest.mark.parametrize("sample", SAMPLES, ids=[sample.split("\n")[0] for sample in SAMPLES])
def test_every_sample_of_the_page_runs(plate: Plate, sample: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in re.findall(r"^(?:import|from) (\w+)", sample, flags=re.MULTILINE):
        pytest.importorskip({"napari_ome_zarr": "napari"}.get(package, package))
    fractions = xr.Dataset({"fraction": (("well", "timepoint"), np.zeros((2, 3)))}, coords={"well": ["A01", "B03"]})
    write_result(plate.path, "fractions", fractions, provenance={})
    monkeypatch.chdir(plate.path.parent)
    names: dict[str, Any] = {}
    exec(compile(sample, str(PAGE), "exec"), names)
    if "tomogram" in names:
        assert np.array_equal(names["tomogram"], tomogram("B03", 1, 1))
