"""Pages beside those of plates and campaigns: reached by keyboard, told to those who listen, traced to a source."""

import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import unescape
from importlib.metadata import version
from pathlib import Path
from urllib.request import url2pathname, urlopen

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import xarray as xr
from PIL import Image

from plates.annotation.gates import find_gates
from plates.annotation.measure import measure_plate
from plates.annotation.rule import apply_rule
from plates.layout.findings import findings
from plates.results import has_result, read_result, write_result
from plates.store import Plate, open_plate
from reports.adaptation import write_adaptation_report
from reports.annotation import write_annotation_page
from reports.classifier import picture_file, write_classifier_report
from reports.comparison import write_comparison_report
from reports.exports import origin, write_figures
from reports.layout import write_layout_page
from reports.live import write_live_page
from reports.training import write_training_plot
from screening.view import serve_plate
from tests.plates.annotation.stained_plates import stained_plate

from .axe import violations
from .browser import CHROMIUM, Tab, browser
from .evaluated import adaptation, comparison, write_evaluation
from .test_layout import _plate_map as plate_map
from .test_live import seen
from .test_studies import _training_csv as training_csv
from .viewed import write_viewed_plate

PAGES = ("adaptation", "annotation", "classifier", "comparison", "figure", "layout", "live", "training", "viewer")
OF_A_CLASSIFIER = ("adaptation", "classifier", "comparison", "figure", "live", "training", "viewer")
OF_A_PLATE_MAP = ("annotation", "figure", "layout", "live", "viewer")
SHA256, MAP_SHA256 = "3f" * 32, "ab" * 32
CALIBRATION = "temperature 1.310 from 2,517 patches of 62 validation wells"
CARD = {"name": "resnet18", "architecture": "resnet18", "weights_sha256": SHA256, "calibration": CALIBRATION}
PICTURED = 3
RECORDED = "0.0.9"  # the version that classified, which need not be the one that serves the page
LIVE = f"resnet18 {SHA256[:8]}, {CALIBRATION}"

# what a keyboard has to reach; a group of radio buttons is one stop, and none of these pages has one
STOPS = """[...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex="0"]')].filter(
  (e) => !e.disabled && e.checkVisibility({visibilityProperty: true}) && e.type !== 'hidden')"""
# where the focus is: its place among the stops, its ring, and whether it is seen, not under a header that stays
FOCUSED = f"""(() => {{
  const one = document.activeElement, all = {STOPS}, style = getComputedStyle(one), box = one.getBoundingClientRect();
  const middle = (from, to, end) => (Math.max(from, 0) + Math.min(to, end)) / 2;
  const [x, y] = [middle(box.left, box.right, innerWidth), middle(box.top, box.bottom, innerHeight)];
  const hit = document.elementFromPoint(x, y);
  return [all.indexOf(one), all.length, style.outlineStyle, parseFloat(style.outlineWidth),
    !!hit && (one.contains(hit) || hit.contains(one)), one.outerHTML.slice(0, 120)];
}})()"""
# how a page is built, as a list of what is wrong with it
STRUCTURE = """(() => {
  const wrong = [], all = (selector) => [...document.querySelectorAll(selector)];
  const told = (e) => e.outerHTML.slice(0, 120);
  const expect = (held, what) => held || wrong.push(what);
  expect(document.documentElement.lang === 'en', 'no language');
  expect(all('main').length === 1, 'not one main');
  expect(all('h1').length === 1 && all('h1')[0].textContent.trim(), 'not one h1');
  expect(document.title.endsWith(' - tomoscreen') && document.title.length > 14, 'title ' + document.title);
  const levels = all('h1, h2, h3, h4').filter((e) => e.checkVisibility()).map((e) => Number(e.tagName[1]));
  levels.forEach((level, at) => expect(!at || level - levels[at - 1] <= 1, 'heading ' + at + ' skips a level'));
  for (const table of all('table')) {
    const filled = [...table.tBodies].some((body) => body.rows.length);
    if (!filled) continue;
    expect(table.querySelector('thead th[scope=col]') || table.caption, 'no header: ' + told(table));
    for (const cell of table.querySelectorAll('thead tr > *')) {
      expect(cell.matches('th[scope]') && cell.textContent.trim(), 'column: ' + told(cell));
    }
    for (const row of table.tBodies[0].rows) expect(row.querySelector('th[scope=row]'), 'row: ' + told(row));
  }
  for (const svg of all('svg')) {
    if (svg.closest('[aria-hidden=true], [role=figure], svg svg, button, #js-plotly-tester')) continue;
    expect(svg.matches('[role=img][aria-label]') && svg.getAttribute('aria-label'), 'svg: ' + told(svg));
  }
  for (const place of all('[data-figure], [role=figure]')) {
    expect(place.matches('[role=figure]') && place.getAttribute('aria-label'), 'figure: ' + told(place));
  }
  const names = all('[data-figure], svg[role=img], [role=region]').map((e) => e.getAttribute('aria-label'));
  for (const name of new Set(names)) {
    expect(names.filter((one) => one === name).length === 1, 'two are called ' + name);
  }
  for (const image of all('img')) expect(image.alt.trim(), 'picture: ' + told(image));
  for (const box of all('input, select, progress')) expect(box.labels?.length, 'no label: ' + told(box));
  for (const link of all('a[href^="#"]')) {
    expect(document.getElementById(link.hash.slice(1)), 'leads nowhere: ' + told(link));
  }
  const ids = all('[id]').map((e) => e.id);
  expect(new Set(ids).size === ids.length, 'an id stands twice');
  return wrong;
})()"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Address of a page of every kind, from small results of which every source is known."""
    folder = tmp_path_factory.mktemp("pages")
    made = {name: build(folder) for name, build in BUILDERS.items()}
    server = serve_plate(_with_sources(write_viewed_plate(folder)))
    yield {name: path.resolve().as_uri() for name, path in made.items()} | {"viewer": server.address}
    server.close()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        for domain in ("Page", "Runtime", "Log", "Network"):
            opened.call(f"{domain}.enable")
        # so that what is focused is in its place at once
        opened.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
        yield opened


def _with_sources(plate: Plate) -> Plate:
    """The same plate, whose results say which classifier and which plate map they come from."""
    sources = {
        "layout": {"source": "P001.csv", "sha256": MAP_SHA256},
        "probabilities": {"classifier": "resnet18", "classifier_sha256": SHA256, "calibration": CALIBRATION},
    }
    for name, attributes in sources.items():
        if has_result(plate.path, name):
            result = read_result(plate.path, name).load()
            write_result(plate.path, name, result.assign_attrs(attributes), provenance={"version": RECORDED})
    return plate


def _classifier(folder: Path) -> Path:
    record = write_evaluation(folder / "evaluation", wells=12, per_well=40)
    worst = [error["row"] for error in json.loads((record / "evaluation.json").read_text())["errors"][:PICTURED]]
    for row in worst:
        (record / picture_file(row)).write_bytes(_png())
    return write_classifier_report(record, out=folder / "classifier.html")


def _png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 68), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def _layout(folder: Path) -> Path:
    layout = plate_map()
    return write_layout_page(layout, findings(layout), out=folder / "layout.html")


def _annotation(folder: Path) -> Path:
    plate = open_plate(_with_sources(stained_plate(folder)).path)
    markers = measure_plate(plate)
    gates = find_gates(markers.cells, markers.wells)
    return write_annotation_page(
        plate, out=folder / "annotation.html", table=apply_rule(markers, gates), markers=markers, gates=gates,
        csv=folder / "S1.annotations.csv", warnings=["Look here."], per_state=4,
    )  # fmt: skip


def _of_card(folder: Path) -> Path:
    folder.mkdir()
    (folder / "card.json").write_text(json.dumps(CARD))
    return folder


def _training(folder: Path) -> Path:
    own = _of_card(folder / "trained")
    return write_training_plot(training_csv(own), own / "training.html")


def _adaptation(folder: Path) -> Path:
    record = adaptation() | {"from": {"name": "demonstration", "weights_sha256": "c5" * 32}}
    return write_adaptation_report(record, out=_of_card(folder / "adapted") / "adaptation.html")


def _comparison(folder: Path) -> Path:
    record = comparison()
    record["classifiers"]["three"]["calibration"] = CALIBRATION
    return write_comparison_report(record, out=folder / "comparison.html")


def _live(folder: Path) -> Path:
    view = seen()
    plates = [replace(plate, plate_map=f"P001.csv {MAP_SHA256[:8]}") for plate in view.plates]
    view = replace(view, plates=plates, classifier=LIVE, version=version("tomoscreen"))
    return write_live_page(view, out=folder / "live.html", refresh_s=600)


def _figure(folder: Path) -> Path:
    results = {
        "probabilities": xr.Dataset(
            attrs={"classifier": "resnet18", "classifier_sha256": SHA256, "calibration": CALIBRATION}
        ),
        "layout": xr.Dataset(attrs={"source": "P001.csv", "sha256": MAP_SHA256}),
    }
    drawn = {"001_SIM-1.states": go.Figure().add_scatter(x=[1, 2], y=[2, 1])}
    return write_figures(drawn, folder / "figures", form="html", made=origin(results))[0]


BUILDERS: dict[str, Callable[[Path], Path]] = {
    "adaptation": _adaptation,
    "annotation": _annotation,
    "classifier": _classifier,
    "comparison": _comparison,
    "figure": _figure,
    "layout": _layout,
    "live": _live,
    "training": _training,
}


def show(tab: Tab, address: str, *, width: int = 1280) -> None:
    """Open a page, unfold all of it and have every figure drawn."""
    tab.call("Page.navigate", url="about:blank")
    tab.wait_for("location.href === 'about:blank'")
    tab.complaints.clear()
    tab.requests.clear()
    tab.resize(width, 900)
    tab.call("Page.navigate", url=address)
    tab.wait_for("location.href !== 'about:blank' && document.readyState === 'complete'")
    if address.startswith("http"):
        tab.wait_for("document.body.dataset.state === 'ready'")
    tab.ask("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    tab.draw_all()
    tab.ask("scrollTo({top: 0, behavior: 'instant'})")


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_and_the_page_is_built_to_be_listened_to(
    chromium: Tab, pages: dict[str, str], name: str
) -> None:
    for width in (1280, 390):
        show(chromium, pages[name], width=width)
        assert violations(chromium, impacts=("moderate", "serious", "critical")) == []
        assert chromium.ask("document.documentElement.scrollWidth <= innerWidth"), f"too wide for {width} px"
    assert chromium.ask(STRUCTURE) == []
    assert chromium.complaints == []
    own = ("data:", "blob:", pages[name].partition("#")[0].rsplit("/", 1)[0])
    assert [address for address in chromium.requests if not address.startswith(own)] == []
    if name not in ("figure", "viewer"):  # the first brings its plotly.js in its folder, the second asks its server
        assert {address for address in chromium.requests if not address.startswith(own[:2])} == {pages[name]}


@pytest.mark.parametrize("name", PAGES)
def test_tab_reaches_every_control_in_order_with_a_ring_that_is_seen(
    chromium: Tab, pages: dict[str, str], name: str
) -> None:
    show(chromium, pages[name])
    reached = []
    for _ in range(400):
        chromium.press("Tab", 9)
        place, stops, style, ring, in_sight, told = chromium.ask(FOCUSED)
        if place < 0 or place in reached:
            break
        reached.append(place)
        assert style not in ("none", "hidden"), told
        assert ring >= 1, told
        assert in_sight, told
    assert reached == list(range(stops)), "in the order in which they stand, and none left out"


def test_the_check_of_structure_and_of_the_ring_notices_what_is_wrong(chromium: Tab, pages: dict[str, str]) -> None:
    show(chromium, pages["training"])
    chromium.ask(
        "document.documentElement.lang = '';"
        "document.querySelector('thead th').replaceWith(document.createElement('td'));"
        "document.querySelector('tbody th').removeAttribute('scope');"
        "document.querySelector('[data-figure]').removeAttribute('aria-label');"
        "document.querySelector('main').insertAdjacentHTML('beforeend', '<h4>deep</h4><a href=\"#nowhere\">x</a>"
        "<svg></svg><h1>two</h1><input><p id=main></p>')"
    )
    wrong = chromium.ask(STRUCTURE)
    for start in ("no language", "not one h1", "heading", "column", "row", "svg", "figure", "no label", "leads nowhere",
                  "an id stands twice"):  # fmt: skip
        assert [one for one in wrong if one.startswith(start)], start
    chromium.ask("document.querySelector('.skip').style.outline = 'none'")
    chromium.press("Tab", 9)
    assert chromium.ask(FOCUSED)[2] == "none"


def test_a_live_page_is_held_by_its_reader(chromium: Tab, pages: dict[str, str], tmp_path: Path) -> None:
    page = tmp_path / "live.html"
    write_live_page(seen(), out=page, refresh_s=1)
    chromium.call("Page.navigate", url=page.as_uri())
    chromium.wait_for("document.readyState === 'complete' && !document.getElementById('hold').hidden")
    chromium.ask("document.getElementById('hold').click()")
    chromium.ask("document.body.dataset.mark = 'kept'")
    assert chromium.ask("new Promise((done) => setTimeout(() => done(document.body.dataset.mark), 1500))") == "kept"
    chromium.ask("document.getElementById('hold').click()")
    chromium.wait_for("document.readyState === 'complete' && document.body.dataset.mark === undefined")


def said(address: str) -> str:
    """What a page says, those words included that only a pointer brings up."""
    with urlopen(address) as answer:
        text = answer.read().decode()
    body = re.sub(r"(?s)<(script|style)\b.*?</\1>", " ", text.partition("<body")[2])
    return " ".join(unescape(body).split())


@pytest.mark.parametrize("name", PAGES)
def test_a_page_names_its_version_and_what_its_content_comes_from(pages: dict[str, str], name: str) -> None:
    told = said(pages[name])
    wanted = [f"tomoscreen</dt><dd>{RECORDED}" if name == "viewer" else version("tomoscreen")]
    length = 8 if name == "live" else 64  # the live page holds the beginnings of hashes
    if name in OF_A_CLASSIFIER:
        wanted += ["resnet18", SHA256[:length], CALIBRATION]
    if name in OF_A_PLATE_MAP:
        wanted += ["P001.csv", MAP_SHA256[:length]]
    if name == "adaptation":  # which is about two
        wanted += ["demonstration, weights, SHA-256", "c5" * 32]
    assert [text for text in wanted if text not in told] == []


def test_wrongly_called_patches_are_pictured_with_both_states_and_their_probabilities(pages: dict[str, str]) -> None:
    told = said(pages["classifier"]).partition('id="errors"')[2]
    folder = Path(url2pathname(pages["classifier"].removeprefix("file://"))).parent / "evaluation"
    record = json.loads((folder / "evaluation.json").read_text())
    patches = pd.read_csv(folder / "predictions.csv")
    shown = re.findall(r"<img [^>]*alt=\"(.*?)\"> <figcaption>.*?<small>(.*?);", told)
    assert len(shown) == PICTURED
    for (name, numbers), error in zip(shown, record["errors"], strict=False):
        truth = patches[f"p_{error['state']}"][error["row"]]
        assert name == f"Patch of row {error['row']}: {error['state']}, called {error['called']}"
        assert numbers == f"with {100 * error['probability']:.1f} %, {error['state']} {100 * truth:.1f} %"
