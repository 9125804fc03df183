"""The page of a plate map: all wells drawn, masked ones crossed, names harmless, nothing fetched."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plates.layout import FORMATS, PlateMap, well_name
from plates.layout.finding import Finding
from plates.layout.findings import findings
from reports.layout import write_layout_page

from .browser import Tab
from .conftest import HOSTILE


def _plate_map(*, wells: int = 96, compounds: tuple[str, ...] = ("Nutlin-3a", "RSL3"), doses: bool = True) -> PlateMap:
    """A full plate: vehicle wells in the first column, inducers in the last, compounds between, A05 masked."""
    rows, columns = FORMATS[wells]
    table = []
    for row in range(rows):
        for column in range(columns):
            name = well_name(row, column)
            well = {"well": name, "row": row, "column": column, "compound": compounds[row % len(compounds)]}
            well |= {"dose": 10.0 ** (column % 5 - 2) if doses else np.nan, "control": "none", "inducer": ""}
            if column == 0:
                well |= {"compound": "DMSO", "dose": np.nan, "control": "negative"}
            elif column == columns - 1:
                well |= {"compound": "TNF", "dose": np.nan, "control": "positive", "inducer": "necroptosis"}
            masked = "bubble" if name == "A05" else ""
            table.append({**well, "replicate": 1, "cell_line": "HeLa", "vehicle": "DMSO", "masked": masked, "line": 2})
    return PlateMap(pd.DataFrame(table), rows=rows, columns=columns, source="P001.csv", sha256="ab" * 32, notes=())


def _page(plate_map: PlateMap, folder: Path) -> Path:
    return write_layout_page(plate_map, findings(plate_map), out=folder / "layout.html")


@pytest.mark.parametrize("wells", [24, 96, 384, 1536])
def test_every_well_is_drawn_three_times_and_tells_its_name(wells: int, tmp_path: Path) -> None:
    page = _page(_plate_map(wells=wells), tmp_path).read_text()
    titles = re.findall(r"<title>([A-Z]+[0-9]{2}): ", page)
    rows, columns = FORMATS[wells]
    assert len(titles) == 3 * wells
    assert set(titles) == {well_name(row, column) for row in range(rows) for column in range(columns)}


def test_one_file_is_written_and_equal_maps_give_equal_bytes(tmp_path: Path) -> None:
    first = _page(_plate_map(), tmp_path).read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["layout.html"]
    assert _page(_plate_map(), tmp_path).read_bytes() == first


def test_findings_come_first_and_say_what_to_do(tmp_path: Path) -> None:
    told = [
        Finding("stop", "The plate lay turned.", (), "Turn the map."),
        Finding("note", "Few wells.", ("A01", "B02"), "Nothing."),
    ]
    page = write_layout_page(_plate_map(), told, out=tmp_path / "layout.html").read_text()
    assert (
        page.index("The plate lay turned. Turn the map.") < page.index("Few wells. Nothing.") < page.index("<title>A01")
    )
    assert "1 to mend before anything is run" in page
    assert "Wells: A01, B02" in page


def test_a_masked_well_is_hatched_and_crossed_and_gives_its_reason(tmp_path: Path) -> None:
    page = _page(_plate_map(), tmp_path).read_text()
    wells = re.findall(r'<rect class="w"[^>]*fill="url\(#masked\)"[^>]*><title>([^<]*)</title></rect><path', page)
    assert wells == ["A05: Nutlin-3a, 100 µM, in DMSO, HeLa, masked: bubble"] * 3
    assert "<b>(1 masked)</b>" in page


def test_a_map_without_doses_has_no_plate_of_doses(tmp_path: Path) -> None:
    page = _page(_plate_map(doses=False), tmp_path).read_text()
    assert page.count('<svg class="plate"') == 2
    assert "in µM" not in page


def test_the_page_draws_without_complaint_or_request_and_hostile_names_stay_text(tab: Tab, tmp_path: Path) -> None:
    plate_map = _plate_map(compounds=HOSTILE)
    masked = np.where(plate_map.table["well"] == "C07", HOSTILE[0], "")
    hostile = PlateMap(
        plate_map.table.assign(masked=masked, vehicle=HOSTILE[1], cell_line=HOSTILE[2]),
        rows=8,
        columns=12,
        source=HOSTILE[0],
        sha256="ab" * 32,
        notes=HOSTILE,
    )
    page = _page(hostile, tmp_path)
    for width, height in ((1366, 900), (1920, 1080), (600, 900)):
        tab.open(page, width=width, height=height)
        assert tab.ask("document.documentElement.scrollWidth <= window.innerWidth"), "nothing reaches over the side"
    tab.ask("document.querySelectorAll('button, summary').forEach((b) => b.click())")
    assert tab.ask("document.querySelectorAll('svg.plate .w').length") == 3 * 96
    assert tab.ask("document.querySelector('svg.plate .w').getBoundingClientRect().width") > 10
    assert not tab.ask("document.title").startswith("run")
    assert tab.ask("document.querySelectorAll('main img, main script').length") == 0
    assert tab.dialogs == []
    assert tab.complaints == []
    assert set(tab.requests) == {page.as_uri()}


def test_a_large_plate_is_drawn_large_enough_to_point_at(tab: Tab, tmp_path: Path) -> None:
    tab.open(_page(_plate_map(wells=1536), tmp_path), width=1366, height=900)
    assert tab.ask("document.querySelector('svg.plate .w').getBoundingClientRect().width") > 8
    letters = "[...document.querySelectorAll('svg.plate text')].map((t) => t.getBoundingClientRect().height)"
    assert tab.ask(f"Math.min(...{letters})") > 7
    assert tab.complaints == []
