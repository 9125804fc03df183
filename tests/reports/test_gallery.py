"""The gallery with fluorescence beside the overlays, and the commands that lead from it to the plate browser."""

import base64
import io
import queue
import re
import shlex
import threading
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reports.plate import write_plate_report
from screening.view import view
from tests.reports.browser import CHROMIUM, browser
from tests.reports.simulated import HOURS, write_plate

CHANNELS = ("Hoechst", "annexin V")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lit")
    path = write_plate(folder, fluorescence=CHANNELS)
    return write_plate_report(path, out=folder / "P012.html")


def figures(html: str) -> list[str]:
    return re.findall(r"<figure data-field=.*?</figure>", html, re.DOTALL)


def pixels(address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB"), dtype=float)


def test_fluorescence_shows_the_same_crop_at_the_same_size_beside_every_picture(page: Path) -> None:
    shown = figures(page.read_text())
    assert len(shown) > 4
    for figure in shown:
        grey, light = (pixels(address) for address in re.findall(r'<img src="(data:image/webp[^"]+)"', figure))
        assert grey.shape == light.shape
        blue, green = light[..., 2], light[..., 1]
        bodies = np.corrcoef(grey.mean(axis=2).ravel(), blue.ravel())[0, 1]
        assert bodies > 0.8, "the first channel was written where the bodies lie"
        side = green.shape[0] // 8
        assert green[:side, :side].mean() > 200, "the corner lit in the second channel is the first rows and columns"
        assert green[-side:, -side:].mean() < 30


def test_channels_are_named_with_their_colours_and_the_scale_is_that_of_one_picture(page: Path) -> None:
    html = page.read_text()
    assert "Beside it the fluorescence: Hoechst in blue, annexin V in green, one brightness for all pictures" in html
    for figure in figures(html):
        assert re.search(r'alt="Fluorescence of well [A-H]\d\d: Hoechst in blue, annexin V in green"', figure)
        assert figure.count('<svg class="scale"') == 1
    # a scale bar as wide as two pictures would tell twice the length
    assert ".gallery figure:has(.light) svg.scale { width: calc(50% - 2px); }" in html


def test_a_plate_without_fluorescence_shows_and_says_nothing_of_it(tmp_path: Path) -> None:
    path = write_plate(tmp_path)
    html = write_plate_report(path, out=tmp_path / "P012.html").read_text()
    assert "fluorescence:" not in html
    assert 'class="enlarge light"' not in html


def test_the_command_of_every_field_names_its_well_timepoint_and_field(page: Path) -> None:
    html = page.read_text()
    commands = [unescape(text) for text in re.findall(r"<code>(tomoscreen view .*?)</code>", html)]
    first = re.search(r'data-well="([A-H]\d\d)"', figures(html)[0])
    assert first is not None
    words = shlex.split(commands[0])
    assert words == ["tomoscreen", "view", "P012.zarr", "--at", f"well={first[1]}&t={len(HOURS) - 1}&field=0"]
    for figure in figures(html):
        well, at = (re.search(rf'data-{name}="([^"]+)"', figure) for name in ("well", "at"))
        assert well is not None
        assert at is not None
        assert unescape(at[1]) == f"well={well[1]}&t={len(HOURS) - 1}&field=0"


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_an_enlarged_picture_and_an_opened_well_have_a_command_to_copy(page: Path, tmp_path: Path) -> None:
    with browser(tmp_path) as tab:
        tab.open(page)
        tab.click("figure[data-field='1'] .picture")
        well = tab.ask("document.querySelector('figure[data-field=\"1\"]').dataset.well")
        command = f'tomoscreen view P012.zarr --at "well={well}&t={len(HOURS) - 1}&field=0"'
        assert tab.ask("document.querySelector('#lightbox .command code').textContent") == command
        tab.click("#lightbox .command button")
        assert tab.ask("document.querySelector('#lightbox').open"), "copying does not close the picture"
        tab.press("Escape", 27)
        tab.ask("location.hash = 'well=C03'; 1")
        tab.wait_for("!!document.querySelector('#well-body .command code')")
        command = f'tomoscreen view P012.zarr --at "well=C03&t={len(HOURS) - 1}&field=0"'
        assert tab.ask("document.querySelector('#well-body .command code').textContent") == command
        assert tab.complaints == []


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_the_verdict_links_to_its_rule_and_the_link_unfolds_it(page: Path, tmp_path: Path) -> None:
    assert page.read_text().count("PASS when Z&#39; of death is at least 0.4.") == 1
    with browser(tmp_path) as tab:
        tab.open(page)
        place = "document.querySelector('#verdict-rule')"
        assert not tab.ask(f"{place}.closest('details').open")
        tab.click(".verdict-line a")
        tab.wait_for(f"{place}.closest('details').open && {place}.getBoundingClientRect().height > 0")


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_the_command_on_the_page_opens_the_browser_at_that_well(page: Path, tmp_path: Path) -> None:
    at = shlex.split(unescape(re.findall(r"<code>(tomoscreen view .*?)</code>", page.read_text())[0]))
    told: queue.Queue[str] = queue.Queue()
    stop = threading.Event()
    keywords = {"at": at[4], "browser": False, "tell": told.put, "stop": stop}
    served = threading.Thread(target=view, args=(page.parent / at[2],), kwargs=keywords)
    served.start()
    try:
        address = re.search(r"http://\S+", told.get(timeout=60))
        assert address is not None
        with browser(tmp_path) as tab:
            tab.call("Page.navigate", url=address[0])
            well = at[4].split("&")[0].removeprefix("well=")
            tab.wait_for(f"document.querySelector('#title')?.textContent === 'Well {well}'")
            tab.wait_for("document.querySelector('#time').value === '3'")
    finally:
        stop.set()
        served.join(timeout=30)
    assert not served.is_alive()
