"""The contact sheet: every state shown, its gates drawn, names harmless, nothing fetched, at two widths."""

import re
from pathlib import Path

import pandas as pd
import pytest

from plates.annotation.gates import Gates, find_gates
from plates.annotation.measure import PlateMarkers, measure_plate
from plates.annotation.rule import apply_rule
from plates.store import Plate, open_plate
from reports.annotation import gate_histogram, sample, write_annotation_page
from tests.plates.annotation.stained_plates import WELLS, stained_plate

from .browser import Tab
from .conftest import HOSTILE

Made = tuple[Plate, PlateMarkers, dict[str, Gates], pd.DataFrame]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    plate = open_plate(stained_plate(tmp_path_factory.mktemp("annotated")).path)
    markers = measure_plate(plate)
    gates = find_gates(markers.cells, markers.wells)
    return plate, markers, gates, apply_rule(markers, gates)


@pytest.fixture(scope="module")
def page(made: Made) -> Path:
    plate, markers, gates, table = made
    csv = plate.path.with_name("S1.annotations.csv")
    return write_annotation_page(
        plate, out=csv.with_suffix(".html"), table=table, markers=markers, gates=gates, csv=csv, warnings=["Look here."]
    )


def test_every_state_that_occurs_is_shown_with_its_patches_and_reasons(page: Path, made: Made) -> None:
    text = page.read_text()
    for state, number in made[3]["state"].value_counts().items():
        assert str(number) in text
        assert str(state) in text
    assert "the compound&#39;s pathway is unknown" in text
    assert text.count("data:image/webp;base64,") == made[3]["state"].nunique()
    assert "Look here." in text
    assert 'href="./S1.annotations.csv"' in text


def test_each_patch_says_where_it_is_and_what_was_measured(page: Path) -> None:
    titles = re.findall(r"<title>([^<]*um, Hoechst[^<]*)</title>", page.read_text())
    # 20 of 36 live-control, 18 of each other state, 5 of the one reason
    assert len(titles) == 20 + 3 * 18 + 5
    assert all(re.search(r"[ABC]0[12] field 0, (0|8) h, .*annexin .*, PI .*cells cover \d+ %", one) for one in titles)


def test_patches_are_spread_over_wells_and_the_same_for_the_same_seed(made: Made) -> None:
    live = made[3][made[3]["state"] == "live-control"]
    chosen = sample(live, 4, seed=5)
    assert chosen["well"].value_counts().to_dict() == {"A01": 2, "A02": 2}
    assert sample(live, 4, seed=5).equals(chosen)
    assert not sample(live, 4, seed=6).equals(chosen)


def test_the_histogram_holds_all_cells_of_each_kind_of_well(made: Made) -> None:
    _, markers, gates, _ = made
    groups = {"vehicle": ("#000000", markers.cells[markers.cells["well"].str.startswith("A")])}
    (trace,) = gate_histogram(groups, "pi", gates["pi"]).data
    assert sum(trace.y) == pytest.approx(1)
    assert trace.name == "vehicle (36)"
    assert trace.y[0] == trace.y[-1] == 0, "no bar is cut in half at the border"


@pytest.mark.parametrize("width", [1366, 1920])
def test_the_page_is_drawn_without_complaint_request_or_overflow(page: Path, tab: Tab, width: int) -> None:
    tab.open(page, width=width)
    tab.draw_all()
    assert tab.complaints == []
    assert [address for address in tab.requests if not address.startswith(("data:", "blob:"))] == [page.as_uri()]
    assert tab.ask("document.documentElement.scrollWidth <= window.innerWidth")
    assert tab.ask("[...document.querySelectorAll('svg[role=img]')].every((s) => s.getAttribute('aria-label'))")
    smallest = (
        "Math.min(...[...document.querySelectorAll('svg.plate text')].map((t) => t.getBoundingClientRect().height))"
    )
    assert tab.ask(smallest) >= 11, "text below the patches must be legible"


def test_hostile_names_run_nothing(tab: Tab, tmp_path: Path) -> None:
    wells = {
        well: (control, inducer and HOSTILE[0], HOSTILE[1], on) for well, (control, inducer, _, on) in WELLS.items()
    }
    plate = stained_plate(tmp_path, wells=wells, channels=("Hoechst " + HOSTILE[1], "Annexin V", "PI"))
    markers = measure_plate(plate)
    gates = find_gates(markers.cells, markers.wells)
    table = apply_rule(markers, gates)
    page = write_annotation_page(
        plate, out=tmp_path / "a.html", table=table, markers=markers, gates=gates, csv=None, warnings=[HOSTILE[2]]
    )
    tab.open(page)
    tab.draw_all()
    assert not tab.ask("document.title").startswith("run")
    assert tab.ask("document.querySelectorAll('svg a, main img').length") == 0
    assert tab.dialogs == []
    assert [line for line in tab.complaints if "Content Security" in line] == []
