"""The plate browser's page and what it is sent, against what is stored."""

import hashlib
import html.parser
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plates.creation import create_plate
from plates.results import read_result, write_result
from plates.states import COLOURS, LETTERS, STATES
from plates.store import Plate
from reports.page import content_hash
from reports.viewer import describe, viewer_page
from reports.viewer_data import DAMAGED, IMAGE, WITH_STATES, field_facts, mosaic_cell, mosaic_row

from .viewed import HOSTILE, PLANNED, SHAPE, WELLS, write_viewed_plate

STATIC = Path(str(files("reports"))) / "static"


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Plate:
    return write_viewed_plate(tmp_path_factory.mktemp("viewed"))


class Scripts(html.parser.HTMLParser):
    """Scripts and styles of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self.attributes: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [name for name, _ in attrs]
        if tag in ("script", "style"):
            self.found.append((tag, dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.found and not self.found[-1][2]:
            tag, attributes, _ = self.found[-1]
            self.found[-1] = (tag, attributes, data)


def test_the_bundle_is_the_one_on_record_built_from_the_locked_packages() -> None:
    record = json.loads((STATIC / "zarrita.json").read_text())
    assert hashlib.sha256((STATIC / "zarrita.min.js").read_bytes()).hexdigest() == record["sha256"]
    locked = json.loads((STATIC / "viewer-bundle" / "package-lock.json").read_text())["packages"]
    asked = json.loads((STATIC / "viewer-bundle" / "package.json").read_text())["dependencies"]
    licences = (STATIC / "zarrita.LICENSE.txt").read_text()
    for name, package in record["packages"].items():
        assert package.items() <= locked[f"node_modules/{name}"].items()
        assert f"= {name} (npm) =" in licences
    assert all(record["packages"][name]["version"] == version for name, version in asked.items())
    assert not [entry for entry in locked.values() if "resolved" in entry], "the lock file names packages, not places"


def test_only_the_pages_own_script_and_style_may_run(plate: Plate) -> None:
    page = viewer_page(plate)
    scripts = Scripts(page.html)
    run = [text for tag, attributes, text in scripts.found if tag == "script" and "type" not in attributes]
    styles = [text for tag, _, text in scripts.found if tag == "style"]
    assert len(run) == len(styles) == 1
    assert f"script-src {content_hash(run[0].encode())};" in page.policy
    assert f"style-src {content_hash(styles[0].encode())};" in page.policy
    assert page.policy.startswith("default-src 'none';")
    assert "unsafe" not in page.policy
    assert not [name for name in scripts.attributes if name.startswith("on") or name == "style"]
    assert not re.findall(r"""(?:src|href)=["']https?:""", page.html)


def test_text_of_the_plate_map_stays_text(plate: Plate) -> None:
    page = viewer_page(plate)
    assert HOSTILE not in page.html
    (told,) = [text for _, attributes, text in Scripts(page.html).found if attributes.get("type") == "application/json"]
    assert json.loads(told)["wells"]["A01"]["content"]["compound"] == HOSTILE


def test_the_page_knows_what_is_where(plate: Plate) -> None:
    told = describe(plate)
    wells = told["wells"]
    assert list(wells) == list(PLANNED)
    assert [name for name, well in wells.items() if not well["imaged"]] == ["C07"]
    assert wells["H12"]["path"] == "H/12"
    assert (wells["H12"]["row"], wells["H12"]["column"]) == (7, 11)
    assert wells["H12"]["content"] == {"compound": "weak", "dose": "30 nM"}
    assert wells["A02"]["content"] == {"compound": "DMSO", "control": "negative (vehicle)"}
    assert [(state["letter"], state["colour"]) for state in told["states"]] == [
        (LETTERS[state], COLOURS[state]) for state in STATES
    ]
    assert [image["key"] for image in told["images"]] == ["maximum", "mean", "dry-mass", "slice", "stain0"]
    assert told["classifier"] == "demo-resnet18"


def test_rows_beyond_z_stay_in_the_order_of_the_plate(tmp_path: Path) -> None:
    wells = ("A01", "Z01", "AA01", "AF48")
    large = create_plate(
        tmp_path / "L.zarr", name="L", wells=wells, fields=1, timepoints=1, shape_zyx=(1, 64, 64),
        voxel_um=(1.0, 0.16, 0.16), rows=32, columns=48, hours=(0.0,), provenance={},
    )  # fmt: skip
    page = viewer_page(large)
    (told,) = [text for _, attributes, text in Scripts(page.html).found if attributes.get("type") == "application/json"]
    assert list(json.loads(told)["wells"]) == list(wells)
    assert max(mosaic_cell(large).height, mosaic_cell(large).width) <= 32


def unpacked(plate: Plate, row: int, *, field: int = 0, timepoint: int = 1) -> tuple[Any, Any, Any]:
    """What the page makes of a row: what is known of each well, images and maps (column, y, x)."""
    content = mosaic_row(plate, row, field=field, timepoint=timepoint)
    cell = mosaic_cell(plate)
    pixels = plate.columns * cell.height * cell.width
    shape = (plate.columns, cell.height, cell.width)
    assert len(content) == plate.columns + 3 * pixels
    return (
        np.frombuffer(content, np.uint8, plate.columns),
        np.frombuffer(content, "<u2", pixels, plate.columns).reshape(shape),
        np.frombuffer(content, np.uint8, pixels, plate.columns + 2 * pixels).reshape(shape),
    )


def test_the_mosaic_holds_the_projections_and_maps_of_the_plate(plate: Plate) -> None:
    known, images, states = unpacked(plate, 0)
    assert known.tolist() == [WITH_STATES, WITH_STATES] + [0] * 10
    cell = mosaic_cell(plate)
    assert (cell.height, cell.width) == (-(-SHAPE[1] // cell.factor), -(-SHAPE[2] // cell.factor))
    whole = plate.projection("A02", field=0, timepoint=1).astype(float)
    inner = whole[: SHAPE[1] // cell.factor * cell.factor, : SHAPE[2] // cell.factor * cell.factor]
    means = inner.reshape(inner.shape[0] // cell.factor, cell.factor, inner.shape[1] // cell.factor, cell.factor).mean(
        axis=(1, 3)
    )
    # each of the levels is rounded
    np.testing.assert_allclose(images[1, : means.shape[0], : means.shape[1]], means, atol=1.6)
    classes = plate.classes("A02", field=0, timepoint=1)
    assert states[1, 2, 3] == classes[2 * cell.factor, 3 * cell.factor]
    assert set(np.unique(states[1])) == set(np.unique(classes))
    assert not images[2:].any()


def test_the_mosaic_tells_what_is_missing_what_has_no_map_and_what_is_damaged(plate: Plate, tmp_path: Path) -> None:
    assert unpacked(plate, 7)[0][11] == IMAGE
    assert not unpacked(plate, 0, field=1, timepoint=2)[0].any(), "never imaged then"
    other = write_viewed_plate(tmp_path)
    shard = other.field_files("A01", field=0, timepoint=1)[-1]
    content = bytearray(shard.read_bytes())
    content[40] ^= 1
    shard.write_bytes(content)
    known, images, _ = unpacked(other, 0)
    assert known[:2].tolist() == [DAMAGED, WITH_STATES]
    assert not images[0].any()


def test_the_facts_of_a_field_are_the_stored_ones(plate: Plate) -> None:
    facts = field_facts(plate, "B03", field=0, timepoint=2)
    stored = read_result(plate.path, "probabilities").sel(well="B03").isel(field=0, timepoint=2)
    told = [
        [np.full(5, np.nan) if patch is None else patch for patch in row] for row in facts["patches"]["probability"]
    ]
    np.testing.assert_allclose(np.array(told, dtype=float), stored["probability"].values, atol=1e-6)
    assert facts["patches"]["probability"][0][0] is None
    assert facts["patches"]["y"] == stored["py_um"].values.tolist()
    fractions = read_result(plate.path, "fractions").sel(well="B03").isel(timepoint=2)
    np.testing.assert_allclose(facts["fractions"]["fraction"], fractions["fraction"].values, atol=1e-6)
    assert facts["images"] == {"projection": True, "tomogram": True, "states": True, "fluorescence": [False]}
    absent = field_facts(plate, "B03", field=1, timepoint=2)["images"]
    assert absent == {"projection": False, "tomogram": False, "states": False, "fluorescence": [False]}


def test_results_that_are_made_anew_are_read_anew(tmp_path: Path) -> None:
    plate = write_viewed_plate(tmp_path)
    first = field_facts(plate, WELLS[0], field=0, timepoint=0)["patches"]["probability"][1][1]
    stored = read_result(plate.path, "probabilities")
    write_result(plate.path, "probabilities", stored.roll(state=1, roll_coords=False), provenance={"version": "0.1.1"})
    again = field_facts(plate, WELLS[0], field=0, timepoint=0)["patches"]["probability"][1][1]
    assert again == [first[-1], *first[:-1]]


def test_a_plate_that_was_only_converted_is_shown_without_results(tmp_path: Path) -> None:
    bare = create_plate(
        tmp_path / "B.zarr", name="B", wells=("A01",), fields=1, timepoints=1, shape_zyx=(1, 64, 64),
        voxel_um=(1.0, 0.16, 0.16), rows=8, columns=12, hours=(0.0,), provenance={},
    )  # fmt: skip
    bare.write_field("A01", field=0, timepoint=0, volume=np.full((1, 64, 64), 13400, np.uint16))
    facts = field_facts(bare, "A01", field=0, timepoint=0)
    assert (facts["patches"], facts["fractions"]) == (None, None)
    assert "none yet" in viewer_page(bare).html
    assert [image["key"] for image in describe(bare)["images"]] == ["maximum", "mean", "dry-mass"], (
        "one plane has no slices"
    )
