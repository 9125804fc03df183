"""The budgets of the plate page: 384 wells, 24 timepoints, 40 curves and 96 overlays."""

import statistics
import tempfile
import time
from pathlib import Path

import pytest

from reports.plate import write_plate_report

from .browser import CHROMIUM, Tab, browser
from .full_plate import write_full_plate

ROUNDS = 4  # the machine may be busy: the budget must be met in one of so many
BLANK = '<!doctype html><html lang="en"><title>blank</title><body></body></html>'


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_full_plate(tmp_path_factory.mktemp("full"))


@pytest.fixture(scope="module")
def built(full: Path) -> tuple[Path, float]:
    """The page and the processor time that it took."""
    began = time.process_time()
    page = write_plate_report(full, out=full.parent / "P384.html")
    return page, time.process_time() - began


def test_the_page_is_built_within_ten_seconds_and_weighs_at_most_two_mebibytes(built: tuple[Path, float]) -> None:
    page, seconds = built
    text = page.read_text()
    assert text.count("<figure data-field=") == 96
    assert text.count('<article class="compound"') == 40
    assert text.count('data-figure="') == 40 * 3 + 4
    assert page.stat().st_size <= 2 * 2**20
    assert seconds <= 10


def test_the_page_has_few_elements_and_asks_nobody_for_anything(tab: Tab, built: tuple[Path, float]) -> None:
    page, _ = built
    tab.open(page)
    assert tab.ask("document.querySelectorAll('*').length") <= 5000
    for place in ("course-wall", "compounds", "fields", "wells"):
        tab.ask(f"document.getElementById('{place}').scrollIntoView({{behavior: 'instant'}})")
        tab.settle(quiet=0.2)
    assert tab.ask("document.getElementById('course-wall').dataset.state") == "drawn"
    assert tab.ask("document.querySelectorAll('svg.courses path').length") < 20, "one path a state, for 384 wells"
    assert tab.complaints == []
    assert [address for address in tab.requests if not address.startswith(("data:", "blob:"))] == [page.as_uri()]


def opening(page: Path) -> float:
    """Processor time of a fresh browser from the page's address to the last thing that it does."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, browser(Path(folder)) as tab:
        tab.settle()
        before = tab.cpu_seconds()
        tab.open(page)
        tab.settle()
        return tab.cpu_seconds() - before


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_the_page_opens_within_a_second_of_processor_time_over_a_blank_one(
    built: tuple[Path, float], tmp_path: Path
) -> None:
    blank = tmp_path / "blank.html"
    blank.write_text(BLANK, encoding="utf-8")
    costs: list[float] = []
    for _ in range(ROUNDS):
        pairs = [opening(built[0]) - opening(blank) for _ in range(3)]
        costs.append(statistics.median(pairs))
        if costs[-1] <= 1.0:
            break
    assert min(costs) <= 1.0, costs
