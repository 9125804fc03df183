"""The pages in headless Chromium: drawn without a complaint, without a request, and deaf to hostile names."""

import base64
import math
import re
import zlib
from pathlib import Path

import numpy as np
import pytest

from plates.results import read_result
from plates.states import STATES
from reports.plate import write_plate_report

from .axe import violations
from .browser import Tab
from .conftest import HOSTILE
from .full_plate import write_full_plate

DRAWN = "[...document.querySelectorAll('[data-figure]')].every((p) => p.querySelector('svg.main-svg'))"
DRAWER = "document.getElementById('well-drawer')"
WORSE = (
    *HOSTILE,
    "left\u202eright\u202c \u2066isolated\u2069",
    "long" * 2500,
    "nul\x00inside",
    "\N{SKULL AND CROSSBONES}\N{GRINNING FACE}",
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plate with every result, of few compounds and timepoints; well B01 was left out by hand."""
    return write_full_plate(tmp_path_factory.mktemp("small"), compounds=3, frames=4, images=12)


@pytest.fixture(scope="module")
def small_page(small: Path) -> Path:
    return write_plate_report(small, out=small.parent / "P384.html", overlays=10)


def allowed(address: str) -> bool:
    return address.startswith(("file:", "data:", "blob:"))


def place_of(tab: Tab, well: str, *, panel: int = 0) -> tuple[float, float]:
    """Where a well of a plate map lies in the window, after the map was brought into view."""
    tab.ask(f"document.querySelectorAll('svg.plate')[{panel}].scrollIntoView({{behavior: 'instant', block: 'center'}})")
    x, y = tab.ask(
        "plateCube().then((cube) => {"
        f"const svg = document.querySelectorAll('svg.plate')[{panel}]; const well = cube.wells.indexOf('{well}');"
        "const middle = (at) => cube.head + (at + 0.5) * cube.cell;"
        "const inside = new DOMPoint(middle(cube.column[well]), middle(cube.row[well]));"
        "const at = inside.matrixTransform(svg.getScreenCTM());"
        "return [at.x, at.y]})"
    )
    return x, y


def test_all_figures_of_a_plate_are_drawn_late_without_complaint_or_request(tab: Tab, plate_page: Path) -> None:
    tab.open(plate_page)
    assert tab.ask("document.querySelectorAll('*').length") < 5000
    assert tab.ask("document.querySelectorAll('.plot[data-state=drawn]').length") == 0, "none before it is scrolled to"
    tab.draw_all()
    assert tab.ask(DRAWN)
    assert tab.ask("document.querySelectorAll('[data-title*=Share], [data-title*=loud]').length") == 0
    assert tab.ask("Plotly.toImage(document.querySelector('.plot'), {format: 'svg'}).then((s) => s.length)") > 1000
    assert tab.complaints == []
    assert [address for address in tab.requests if not address.startswith(("data:", "blob:"))] == [plate_page.as_uri()]


def test_the_slider_shows_another_timepoint_and_a_well_tells_its_value(tab: Tab, plate: Path, plate_page: Path) -> None:
    death = read_result(plate, "fractions")["death"].sel(well="B05").values
    tab.open(plate_page)
    for presses, time in ((0, 3), (2, 1)):
        tab.ask("timepoint.focus()")
        for _ in range(presses):
            tab.press("ArrowLeft", 37)
        x, y = place_of(tab, "B05")
        tab.hover_at(x, y)
        told = f"B05: dead cells {100 * death[time]:.1f} %"
        tab.wait_for(f"document.getElementById('plate-readout').textContent === '{told}'")
    assert tab.ask("document.getElementById('timepoint-label').textContent") == "4 h"
    cells = read_result(plate, "fractions").isel(timepoint=1)
    printed = tab.ask(
        "[...document.querySelectorAll('svg.plate')[0].querySelectorAll('.v')].map((t) => +t.textContent)"
    )
    stored = cells["death"].values
    assert printed == [math.floor(round(1000 * value) / 10 + 0.5) for value in stored[np.isfinite(stored)]]
    missing = "[...document.querySelectorAll('svg.plate')[0].querySelectorAll('.fills path')]"
    assert (
        tab.ask(f"{missing}.find((p) => p.getAttribute('stroke') === 'url(#missing)').getAttribute('d')").count("M")
        == 2
    )


def test_the_maps_of_other_quantities_are_a_tab_that_keys_reach(tab: Tab, small: Path, small_page: Path) -> None:
    tab.open(small_page)
    assert tab.ask("getComputedStyle(document.getElementById('maps-other')).display") == "none"
    tab.ask("document.getElementById('tab-maps-states').focus()")
    tab.press("ArrowRight", 39)
    assert tab.ask("document.activeElement.id") == "tab-maps-other"
    assert tab.ask("document.activeElement.ariaSelected") == "true"
    assert tab.ask("getComputedStyle(document.getElementById('maps-other')).display") == "grid"
    shown = tab.ask("[...document.querySelectorAll('#maps-other figcaption b')].map((b) => b.textContent)")
    assert shown == ["dominant pathway", "viability", "time of 50 % death", "half-time of death", "patches with cells",
                     "mean entropy", "uncertain patches"]  # fmt: skip
    patches = read_result(small, "fractions")["patches"].sel(well="A05").values[-1]
    panel = shown.index("patches with cells") + 1 + len(STATES)
    x, y = place_of(tab, "A05", panel=panel + 0)
    tab.hover_at(x, y)
    tab.wait_for(
        f"document.getElementById('plate-readout').textContent === 'A05: patches with cells {patches} patches'"
    )


def test_a_click_on_a_well_opens_its_drawer_and_escape_gives_the_page_back(
    tab: Tab, small: Path, small_page: Path
) -> None:
    fractions = read_result(small, "fractions").sel(well="A05")
    tab.open(small_page)
    x, y = place_of(tab, "A05")
    tab.click_at(x, y)
    tab.wait_for(f"{DRAWER}.open")
    assert tab.ask("location.hash") == "#well=A05"
    assert tab.ask("document.getElementById('well-name').textContent") == "Well A05"
    rows = tab.ask(
        f"[...{DRAWER}.querySelectorAll('.scroll tbody tr')].map((r) => [...r.cells].map((c) => c.textContent))"
    )
    assert len(rows) == 4
    for time, row in enumerate(rows):
        one = fractions.isel(timepoint=time)
        expected = [one["death"].item(), *[one["fraction"].sel(state=state).item() for state in STATES]]
        assert [row[1], *row[3:8]] == [f"{100 * value:.1f} %" for value in expected]
        assert row[8] == str(one["patches"].item())
    text = tab.ask(f"{DRAWER}.textContent")
    assert str(fractions["compound"].item()) in text
    assert "tomoscreen view P384.zarr" in text
    tab.press("Escape", 27)
    tab.wait_for(f"!{DRAWER}.open && location.hash === ''")


def test_an_address_opens_a_well_and_tells_who_left_it_out(tab: Tab, small_page: Path) -> None:
    tab.open(small_page)
    tab.ask("location.hash = 'well=B01'")
    tab.wait_for(f"{DRAWER}.open")
    text = tab.ask(f"{DRAWER}.textContent")
    assert "the whole well, by A. Person on 2026-03-05: bubble" in text
    assert "P384_map.csv" in text
    line = f"[...{DRAWER}.querySelectorAll('tr')].find((r) => r.cells[0].textContent === 'line').cells[1].textContent"
    assert tab.ask(line) == "26", "the line of the plate map's file, header included"
    tab.ask(f"[...{DRAWER}.querySelectorAll('.around a')].find((a) => a.textContent.startsWith('B02')).click()")
    tab.wait_for("document.getElementById('well-name').textContent === 'Well B02'")
    tab.ask("location.hash = 'well=Z99'")
    tab.wait_for("document.getElementById('well-name').textContent === 'No such well'")
    assert tab.complaints == []


def test_focus_returns_to_what_opened_the_drawer(tab: Tab, small_page: Path) -> None:
    tab.open(small_page)
    tab.ask("document.getElementById('well-choice').value = 'a5'; document.getElementById('well-open').focus()")
    tab.press("Enter", 13, text="\r")
    tab.wait_for(f"{DRAWER}.open && document.getElementById('well-name').textContent === 'Well A05'")
    assert tab.ask(f"{DRAWER}.contains(document.activeElement)")
    tab.ask("document.getElementById('well-close').click()")
    tab.wait_for("document.activeElement.id === 'well-open'")


def test_overlays_are_drawn_from_the_probabilities_and_can_be_sorted(tab: Tab, small: Path, small_page: Path) -> None:
    probabilities = read_result(small, "probabilities")
    tab.open(small_page)
    tab.ask("document.querySelector('.gallery').scrollIntoView({behavior: 'instant'})")
    tab.wait_for("document.querySelector('figure[data-field]').dataset.state === 'drawn'")
    well = tab.ask("document.querySelector('figure[data-field]').dataset.well")
    values = probabilities["probability"].sel(well=well, field=0).isel(timepoint=-1).values.reshape(-1, 5)
    values = values[np.isfinite(values[:, 0])]
    letters = tab.ask(
        "[...document.querySelector('figure[data-field]').querySelectorAll('.letter')].map((t) => t.textContent)"
    )
    assert letters == ["APNCT"[state] for state in values.argmax(axis=1)]
    tab.ask("surer.value = 60; surer.dispatchEvent(new Event('input'))")
    faint = tab.ask("document.querySelector('figure[data-field]').querySelectorAll('.faint').length")
    assert faint == (np.rint(values.max(axis=1) * 200) / 200 < 0.6).sum()
    order = "document.getElementById('field-order')"
    tab.ask(f"{order}.value = 'doubt'; {order}.dispatchEvent(new Event('change'))")
    doubts = tab.ask("[...document.querySelectorAll('figure[data-field]')].map((f) => +f.dataset.doubt)")
    assert doubts == sorted(doubts, reverse=True)
    tab.click("button.enlarge")
    tab.wait_for("document.getElementById('lightbox').open")


def test_a_click_on_a_heading_sorts_and_compounds_without_a_number_stay_last(tab: Tab, plate_page: Path) -> None:
    tab.open(plate_page)
    heading = "[...document.querySelectorAll('#ranking th button')].find((b) => b.textContent.startsWith('EC50'))"
    key = "[...document.querySelectorAll('#ranking tbody tr')].map((r) => r.cells[3].dataset.sort)"
    for direction in (1, -1):
        tab.ask(f"{heading}.click()")
        keys = tab.ask(key)
        numbers = [float(value) for value in keys if value]
        assert numbers == sorted(numbers, reverse=direction < 0)
        assert [value for value in keys if not value] == keys[len(numbers) :]
    assert tab.ask(f"{heading}.closest('th').ariaSort") == "descending"


def test_the_table_of_wells_appears_when_it_is_unfolded_and_sorts_by_its_numbers(tab: Tab, plate_page: Path) -> None:
    tab.open(plate_page)
    assert tab.ask("document.querySelectorAll('#wells table').length") == 0, "no row before somebody asks"
    tab.click("#wells summary")
    tab.wait_for("document.querySelectorAll('#wells tbody tr').length === 62")
    tab.ask("[...document.querySelectorAll('#wells th button')].find((b) => b.textContent === 'Dead').click()")
    shown = tab.ask("[...document.querySelectorAll('#wells tbody tr')].map((r) => parseFloat(r.cells[4].textContent))")
    assert shown[:60] == sorted(shown[:60])
    assert shown[60:] == [None, None]


def test_a_table_can_be_saved_from_a_page_that_was_sent_alone(tab: Tab, plate_page: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.html"
    alone.write_bytes(plate_page.read_bytes())
    tab.open(alone)
    saved = tab.ask("inflate('table-ranking', 'deflate')")
    assert saved.encode() == plate_page.with_name("P012.ranking.csv").read_bytes()


def test_prepared_for_print_every_figure_is_on_paper_and_otherwise_the_paper_says_so(
    tab: Tab, small_page: Path
) -> None:
    notice = (
        "[...document.querySelectorAll('.plot, #course-wall, figure[data-field]')]"
        ".filter((p) => getComputedStyle(p, '::after').content.startsWith('\"Not drawn')).length"
    )
    all_places = "document.querySelectorAll('.plot, #course-wall, figure[data-field]').length"
    tab.open(small_page)
    tab.call("Emulation.setEmulatedMedia", media="print")
    assert tab.ask(notice) >= tab.ask(all_places) - 2
    bare = pdf_content(tab)
    tab.call("Emulation.setEmulatedMedia", media="screen")
    tab.ask("window.print = () => (window.printed = true)")
    tab.click("#print")
    tab.wait_for("window.printed")
    tab.call("Emulation.setEmulatedMedia", media="print")
    assert tab.ask(notice) == 0
    assert tab.ask(DRAWN)
    sizes = tab.ask("[...document.querySelectorAll('.plot svg.main-svg')].map((s) => s.getBoundingClientRect().width)")
    assert min(sizes) > 100
    assert tab.ask(all_places) == tab.ask("document.querySelectorAll('[data-state=drawn]').length")
    assert pdf_content(tab) > 1.5 * bare, "the drawings are in the file"


def pdf_content(tab: Tab) -> int:
    """How much is drawn on the pages of a PDF: the length of its unpacked streams, fonts and pictures left out."""
    pdf = base64.b64decode(tab.call("Page.printToPDF", printBackground=True)["data"])
    total = 0
    for header, start in ((found[1], found.end()) for found in re.finditer(rb"<<([^<>]*)>>\s*stream\r?\n", pdf)):
        length = re.search(rb"/Length (\d+)", header)
        if length is None or b"/Filter /FlateDecode" not in header or b"Length1" in header or b"Image" in header:
            continue
        total += len(zlib.decompress(pdf[start : start + int(length[1])]))
    return total


def test_without_scripts_maps_pictures_and_tables_can_be_read(tab: Tab, small: Path, small_page: Path) -> None:
    tab.without_scripts()
    tab.open(small_page)
    layout = tab.call("DOM.getDocument", depth=1)["root"]["nodeId"]

    def found(selector: str) -> int:
        return len(tab.call("DOM.querySelectorAll", nodeId=layout, selector=selector)["nodeIds"])

    assert found("svg.plate") == 6 + 7
    assert found("svg.courses") == 1
    assert found("#wells tbody tr") == read_result(small, "fractions").sizes["well"]
    assert found("#compounds details table") == 3
    assert found("figure[data-field] img") == 10
    assert found("figure[data-field] svg.over") == 6


def test_axe_finds_nothing_serious_on_the_page_its_drawer_and_its_folds(tab: Tab, small_page: Path) -> None:
    tab.open(small_page)
    assert violations(tab) == []
    tab.ask("location.hash = 'well=B01'")
    tab.wait_for(f"{DRAWER}.open && document.getElementById('well-body').children.length > 3")
    tab.wait_for(f"{DRAWER}.getAnimations().length === 0")  # half faded in, nothing has contrast
    assert violations(tab, within=DRAWER) == []
    tab.ask(f"{DRAWER}.close(); document.querySelectorAll('details').forEach((d) => (d.open = true))")
    tab.ask("document.getElementById('tab-maps-other').click()")
    tab.draw_all()
    assert violations(tab) == []


def test_axe_notices_what_it_should_notice(tab: Tab, small_page: Path) -> None:
    tab.open(small_page)
    tab.ask("document.querySelector('.gallery img').removeAttribute('alt')")
    assert any("image-alt" in line for line in violations(tab))


def test_hostile_names_run_nothing_when_all_is_drawn_clicked_and_hovered(
    tab: Tab, hostile_pages: tuple[Path, Path]
) -> None:
    for page in hostile_pages:
        tab.open(page)
        tab.draw_all()
        tab.ask("document.querySelectorAll('button:not(#print), summary').forEach((b) => b.click())")
        hover = "new MouseEvent('mouseover', {bubbles: true})"
        tab.ask(f"document.querySelectorAll('.plot *, td, th').forEach((e) => e.dispatchEvent({hover}))")
        assert not tab.ask("document.title").startswith("run")
        assert tab.ask("[...document.querySelectorAll('a')].every((a) => a.protocol === 'file:')")
        assert tab.ask("document.querySelectorAll('svg a').length") == 0
        assert tab.dialogs == []
        assert [line for line in tab.complaints if "Content Security" in line] == []
        assert all(allowed(address) for address in tab.requests)


def test_worse_names_stay_text_on_every_part_of_the_plate_page(tab: Tab, tmp_path: Path) -> None:
    plate = write_full_plate(tmp_path, names=list(WORSE), frames=2, images=8, name="P1")
    page = write_plate_report(plate, out=tmp_path / "page.html", overlays=8, campaign=WORSE[0], settings=WORSE[1])
    tab.open(page)
    tab.draw_all()
    tab.ask("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    for well in ("A03", "B04", "C05"):
        tab.ask(f"location.hash = 'well={well}'")
        tab.wait_for(f"document.getElementById('well-name').textContent === 'Well {well}'")
    tab.ask(f"{DRAWER}.close()")
    tab.ask("location.hash = 'well=' + encodeURIComponent('\"><img src=x>')")
    tab.ask("document.querySelectorAll('button:not(#print)').forEach((b) => b.click())")
    hover = "new MouseEvent('mouseover', {bubbles: true})"
    tab.ask(f"document.querySelectorAll('.plot *, td, th, svg.over *').forEach((e) => e.dispatchEvent({hover}))")
    assert tab.ask("document.title") == "Plate P1 - tomoscreen"
    assert tab.ask("[...document.querySelectorAll('a')].every((a) => a.protocol === 'file:')")
    assert tab.ask("document.querySelectorAll('svg a, img[src=x], [onerror]').length") == 0
    text = tab.ask("document.body.innerText")
    assert "<img src=x onerror" in text, "shown as what it is"
    assert not {"\u202e", "\u2066", "\x00"} & set(text)
    assert "long" * 20 not in text, "cut on the page, whole in the files"
    assert tab.dialogs == []
    assert tab.complaints == []
    assert all(allowed(address) for address in tab.requests)
