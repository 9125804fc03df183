"""Regions drawn in QuPath or napari become states of the patches that they cover."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from plates.annotation.regions import read_regions, region_states
from plates.errors import MissingInputError, SettingsError
from plates.store import Plate

from .stained_plates import stained_plate

POINT = {"geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": {"state": "necrosis"}}
PLACE = {"well": "A01", "field": 0, "timepoint": 1}


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Plate:
    return stained_plate(tmp_path_factory.mktemp("regions"), channels=(), patches=3)


def patches(plate: Plate) -> pd.DataFrame:
    middles = (np.arange(3) + 0.5) * 25.6
    rows = [{**PLACE, "y_um": y, "x_um": x} for y in middles for x in middles]
    return pd.DataFrame(rows + [{**row, "timepoint": 0} for row in rows])


def feature(
    points: list[tuple[float, float]], name: Any = "Apoptosis", *, holes: tuple[Any, ...] = (), **properties: Any
) -> dict[str, Any]:
    """A region as QuPath exports it; points are (x, y)."""
    rings = [[*points, points[0]], *holes]
    return {
        "type": "Feature",
        "id": "1f",
        "geometry": {"type": "Polygon", "coordinates": rings},
        "properties": {"objectType": "annotation", "classification": {"name": name, "color": [200, 0, 0]}} | properties,
    }


def box(left: float, top: float, right: float, bottom: float) -> list[tuple[float, float]]:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def save(folder: Path, content: Any, name: str = "A01_f0_t1.geojson") -> Path:
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def states(path: Path, plate: Plate, **options: Any) -> dict[int, str]:
    found = region_states(read_regions(path, plate=plate), plate=plate, table=patches(plate), **options)
    return dict(zip(found["row"], found["state"], strict=True))


def test_patches_get_the_state_of_the_region_over_most_of_their_cells(plate: Plate, tmp_path: Path) -> None:
    collection = {
        "type": "FeatureCollection",
        "features": [feature(box(0, 0, 320, 160)), feature(box(330, 330, 470, 470), "Necrotic cells")],
    }
    found = states(save(tmp_path, collection), plate)
    # the first row of patches but its last, and the lower right one; x is the first coordinate
    assert found == {0: "apoptosis", 1: "apoptosis", 8: "necrosis"}


def test_a_region_over_less_than_half_of_the_cells_decides_nothing(plate: Plate, tmp_path: Path) -> None:
    assert states(save(tmp_path, [feature(box(0, 0, 75, 160))]), plate) == {}
    assert states(save(tmp_path, [feature(box(0, 0, 90, 160))]), plate) == {0: "apoptosis"}


def test_background_inside_a_region_has_no_vote(plate: Plate, tmp_path: Path) -> None:
    # the cell of 8 um lies in the middle of its patch of 25.6 um: a region just around it is enough
    assert states(save(tmp_path, [feature(box(25, 25, 135, 135))]), plate) == {0: "apoptosis"}


def test_holes_and_multipolygons_are_areas_too(plate: Plate, tmp_path: Path) -> None:
    hole = [*box(20, 20, 140, 140), (20, 20)]
    assert states(save(tmp_path, [feature(box(0, 0, 160, 160), holes=(hole,))]), plate) == {}
    several = feature(box(0, 0, 1, 1))
    several["geometry"] = {
        "type": "MultiPolygon",
        "coordinates": [[[*box(0, 0, 160, 160)]], [[*box(320, 0, 480, 160)]]],
    }
    assert states(save(tmp_path, several), plate) == {0: "apoptosis", 2: "apoptosis"}


def test_a_later_region_lies_over_an_earlier_one_and_undecided_takes_patches_out(plate: Plate, tmp_path: Path) -> None:
    drawn = [feature(box(0, 0, 480, 480), "live treated"), feature(box(0, 0, 160, 160), "Ignore*")]
    found = states(save(tmp_path, drawn), plate)
    assert found[0] == "undecided"
    assert set(found.values()) == {"undecided", "live-treated"}


def test_micrometres_are_read_when_told(plate: Plate, tmp_path: Path) -> None:
    path = save(tmp_path, [feature(box(0, 0, 25.6, 25.6))])
    assert states(path, plate, unit="um") == {0: "apoptosis"}
    far = save(tmp_path, [feature(box(0, 0, 470, 470))])
    with pytest.raises(SettingsError, match=r"outside the field of 480 x 480 px.*--region-unit px"):
        states(far, plate, unit="um")


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("Live-Control", "live-control"),
        ("live control cells", "live-control"),
        ("NECROPTOTIC", "necroptosis"),
        ("apoptotic cell", "apoptosis"),
        ("treated (alive)", "live-treated"),
        ("Untreated", "live-control"),
    ],
)
def test_classes_are_known_in_any_usual_spelling(plate: Plate, tmp_path: Path, name: str, state: str) -> None:
    (region,) = read_regions(save(tmp_path, [feature(box(0, 0, 9, 9), name)]), plate=plate)
    assert region.state == state


def test_other_writers_shapes_of_the_class_are_read(plate: Plate, tmp_path: Path) -> None:
    newer = feature(box(0, 0, 9, 9))
    newer["properties"]["classification"] = {"names": ["Cells", "Necrosis"]}
    plain = feature(box(0, 0, 9, 9))
    plain["properties"] = {"state": "necrosis"}
    text = feature(box(0, 0, 9, 9))
    text["properties"] = {"classification": "necrosis"}
    regions = read_regions(save(tmp_path, [newer, plain, text]), plate=plate)
    assert [region.state for region in regions] == ["necrosis"] * 3


def test_a_folder_of_files_and_properties_tell_the_place(plate: Plate, tmp_path: Path) -> None:
    save(tmp_path, [feature(box(0, 0, 160, 160))], "plate S1 a1_field0_time1.geojson")
    save(tmp_path, [feature(box(0, 0, 160, 160), well="b01", field=0, timepoint=0)], "anything.json")
    places = {(region.well, region.field, region.timepoint) for region in read_regions(tmp_path, plate=plate)}
    assert places == {("A01", 0, 1), ("B01", 0, 0)}


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ([feature(box(0, 0, 9, 9), "Tumor")], "A01_f0_t1.geojson", "feature 1: the region has the class 'Tumor'"),
        ([feature(box(0, 0, 9, 9), None)], "A01_f0_t1.geojson", "has no class"),
        ([feature(box(0, 0, 9, 9))], "drawing.geojson", "does not say which field it is of"),
        ([feature(box(0, 0, 9, 9))], "H12_f0_t1.geojson", "no image of well H12, field 0, timepoint 1"),
        ([feature(box(0, 0, 9, 9))], "A01_f0_t7.geojson", "no image of well A01, field 0, timepoint 7"),
        ([POINT], "A01_f0_t1.geojson", r"its geometry \(Point\) is no area"),
        ([feature([(0, 0), (9, float("nan")), (9, 9)])], "A01_f0_t1.geojson", "is no area"),
        ([{"geometry": None}], "A01_f0_t1.geojson", "expected a feature with a geometry"),
        ({"features": 3}, "A01_f0_t1.geojson", "is not GeoJSON"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_naming_file_and_feature(
    plate: Plate, tmp_path: Path, content: Any, name: str, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        states(save(tmp_path, content, name), plate)


def test_no_json_and_no_file_are_told(plate: Plate, tmp_path: Path) -> None:
    path = tmp_path / "A01_f0_t1.geojson"
    path.write_text("{")
    with pytest.raises(SettingsError, match="is not GeoJSON"):
        read_regions(path, plate=plate)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingInputError, match="no regions are there"):
        read_regions(tmp_path / "empty", plate=plate)
