"""The pages in headless Chromium: drawn without a complaint, without a request, and deaf to hostile names."""

from pathlib import Path

from .browser import Tab

DRAWN = "[...document.querySelectorAll('[data-figure]')].every((p) => p.querySelector('svg.main-svg'))"


def test_all_figures_of_a_plate_are_drawn_late_without_complaint_or_request(tab: Tab, plate_page: Path) -> None:
    tab.open(plate_page)
    assert tab.ask("document.querySelectorAll('*').length") < 5000
    assert tab.ask("document.querySelectorAll('[data-state=drawn]').length") == 0, "nothing before it is scrolled to"
    tab.draw_all()
    assert tab.ask(DRAWN)
    assert tab.ask("document.querySelectorAll('[data-title*=Share], [data-title*=loud]').length") == 0
    assert tab.ask("Plotly.toImage(document.querySelector('.plot'), {format: 'svg'}).then((s) => s.length)") > 1000
    assert tab.complaints == []
    assert [address for address in tab.requests if not address.startswith(("data:", "blob:"))] == [plate_page.as_uri()]


def test_the_slider_shows_another_timepoint_and_a_well_tells_its_value(tab: Tab, plate: Path, plate_page: Path) -> None:
    from plates.results import read_result

    death = read_result(plate, "fractions")["death"].sel(well="B05").values
    tab.open(plate_page)
    wells = "[...document.querySelectorAll('#wells tbody th')]"
    cell = f"document.querySelectorAll('svg.plate .w')[{wells}.findIndex((h) => h.textContent === 'B05')]"
    for time in (3, 1):
        tab.ask(f"timepoint.value = {time}; timepoint.dispatchEvent(new Event('input'))")
        tab.ask(f"{cell}.dispatchEvent(new MouseEvent('mouseover', {{bubbles: true}}))")
        told = tab.ask("document.getElementById('plate-readout').textContent")
        assert told == f"B05: dead cells {100 * death[time]:.1f} %"
    assert tab.ask("document.getElementById('timepoint-label').textContent") == "4 h"


def test_a_click_on_a_heading_sorts_and_compounds_without_a_number_stay_last(tab: Tab, campaign_page: Path) -> None:
    tab.open(campaign_page)
    heading = "[...document.querySelectorAll('#ranking th button')].find((b) => b.textContent.startsWith('EC50'))"
    key = "[...document.querySelectorAll('#ranking tbody tr')].map((r) => r.cells[3].dataset.sort)"
    for direction in (1, -1):
        tab.ask(f"{heading}.click()")
        keys = tab.ask(key)
        numbers = [float(value) for value in keys if value]
        assert numbers == sorted(numbers, reverse=direction < 0)
        assert [value for value in keys if not value] == keys[len(numbers) :]
    assert tab.ask(f"{heading}.closest('th').ariaSort") == "descending"
    tab.draw_all()
    assert tab.ask(DRAWN)
    assert tab.complaints == []


def test_a_table_can_be_saved_from_a_page_that_was_sent_alone(tab: Tab, plate_page: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.html"
    alone.write_bytes(plate_page.read_bytes())
    tab.open(alone)
    saved = tab.ask("inflate('table-ranking', 'deflate')")
    assert saved.encode() == plate_page.with_name("P012.ranking.csv").read_bytes()


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
        assert all(address.startswith(("file:", "data:", "blob:")) for address in tab.requests)
