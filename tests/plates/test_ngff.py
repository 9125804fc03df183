"""Plates that we write, in the eyes of other projects' validators and readers."""

from pathlib import Path

import numpy as np
import pytest
import yaozarrs
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from ome_zarr_models.v05 import HCS, Image

from plates import ngff
from plates.creation import create_plate
from plates.errors import StoreError
from plates.store import Plate

SHAPE = (5, 96, 128)


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Plate:
    plate = create_plate(
        tmp_path_factory.mktemp("plates") / "P012.zarr",
        name="P012",
        wells=["A01", "B12"],
        fields=2,
        timepoints=2,
        shape_zyx=SHAPE,
        voxel_um=(0.95, 0.16, 0.16),
        rows=8,
        columns=12,
        hours=[0.0, 0.5],
        provenance={},
    )
    for number, (well, field, timepoint) in enumerate(images(plate)):
        plate.write_field(well, field=field, timepoint=timepoint, volume=volume(number))
        classes = np.full(SHAPE[1:], number % 6, np.uint8)
        plate.write_classes(well, field=field, timepoint=timepoint, classes=classes)
    return plate


def images(plate: Plate) -> list[tuple[str, int, int]]:
    return [(w, f, t) for w in plate.wells for f in range(plate.fields) for t in range(plate.timepoints)]


def volume(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(13300, 13900, SHAPE).astype(np.uint16)


@pytest.mark.parametrize("sibling", ["path", "mip_path"])
def test_yaozarrs_accepts_the_plate_and_all_its_images(plate: Plate, sibling: str) -> None:
    yaozarrs.validate_zarr_store(str(getattr(plate, sibling)))


@pytest.mark.parametrize("sibling", ["path", "mip_path"])
def test_ome_zarr_models_accepts_the_plate_its_wells_and_images(plate: Plate, sibling: str) -> None:
    import zarr

    root = getattr(plate, sibling)
    model = HCS.from_zarr(zarr.open_group(str(root), mode="r"))
    assert [row.name for row in model.ome_attributes.plate.rows] == list("ABCDEFGH")
    assert [well.path for well in model.ome_attributes.plate.wells] == ["A/1", "B/12"]
    for place in ("A/1/0", "B/12/1"):
        image = Image.from_zarr(zarr.open_group(str(root / place), mode="r"))
        levels = 2 if sibling == "path" else 3
        assert len(image.ome_attributes.multiscales[0].datasets) == levels


def test_ome_zarr_models_accepts_the_map_of_states(plate: Plate) -> None:
    import zarr
    from ome_zarr_models.v05 import ImageLabel, Labels

    labels = zarr.open_group(str(plate.mip_path / "A/1/0/labels"), mode="r")
    assert Labels.from_zarr(labels).ome_attributes.labels == ["states"]
    label = ImageLabel.from_zarr(zarr.open_group(labels.store_path / "states", mode="r"))
    attributes = label.ome_attributes.image_label
    assert attributes is not None
    assert attributes.colors is not None
    assert [colour.label_value for colour in attributes.colors] == [1, 2, 3, 4, 5]


def test_ome_zarr_py_reads_the_values_we_wrote(plate: Plate) -> None:
    for root, expected in (
        (plate.path, volume(3)),
        (plate.mip_path, volume(3).max(axis=0, keepdims=True)),
    ):
        location = parse_url(str(root / "A/1/1"))
        assert location is not None
        node = next(iter(Reader(location)()))
        assert np.array_equal(node.data[0][1, 0].compute(), expected)


def test_ome_zarr_py_lays_the_whole_plate_out(plate: Plate) -> None:
    location = parse_url(str(plate.mip_path))
    assert location is not None
    node = next(iter(Reader(location)()))
    mosaic = node.data[0]
    # well A01 is the first tile, its fields side by side
    assert np.array_equal(mosaic[0, 0, 0, : SHAPE[1], : SHAPE[2]].compute(), volume(0).max(axis=0))


def test_xarray_sees_refractive_indices_and_missing_voxels_as_nan(plate: Plate, tmp_path: Path) -> None:
    import xarray as xr

    holes = volume(0)
    holes[:, 0, 0] = 0
    copy = create_plate(
        tmp_path / "Q.zarr",
        name="Q",
        wells=["A01"],
        fields=1,
        timepoints=1,
        shape_zyx=SHAPE,
        voxel_um=(0.95, 0.16, 0.16),
        rows=8,
        columns=12,
        hours=[0.0],
        provenance={},
    )
    copy.write_field("A01", field=0, timepoint=0, volume=holes)
    with xr.open_dataset(copy.path / "A/1/0", engine="zarr", consolidated=False, drop_variables=["1"]) as image:
        index = image["0"].isel(t=0, c=0).to_numpy()
    assert np.isnan(index[:, 0, 0]).all()
    assert index[2, 5, 5] == pytest.approx(holes[2, 5, 5] / 1e4)


@pytest.mark.parametrize(
    ("well", "position", "path"),
    [("A01", (0, 0), "A/1"), ("P24", (15, 23), "P/24"), ("AF48", (31, 47), "AF/48")],
)
def test_wells_have_one_place_up_to_1536(well: str, position: tuple[int, int], path: str) -> None:
    assert ngff.well_position(well) == position
    assert ngff.well_path(well) == path


@pytest.mark.parametrize("text", ["", "A00", "1A", "../x", "A/1", "a01", "AAA1"])
def test_what_is_no_well_is_refused(text: str) -> None:
    with pytest.raises(StoreError, match="is not a well"):
        ngff.well_position(text)
