import base64
import gzip
import hashlib
import json
import re
import zlib
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs_version

from plates.states import COLOURS, LETTERS, STATES
from reports.page import Page, guard_formulas, relative_link, rounded, static_text
from reports.words import LETTER_INKS


class Reader(HTMLParser):
    """Everything on a page that a browser would act on."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.policy = ""
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.blobs: dict[str, str] = {}
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.shown: list[str] = []
        self._inside: tuple[str, dict[str, str | None]] = ("", {})
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "meta" and given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href", "srcset", "action", "data")]
        self.handlers += [key for key, _ in attrs if key.startswith("on") or key == "style"]
        self._inside = (tag, given)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ("", {})

    def handle_data(self, data: str) -> None:
        tag, given = self._inside
        if tag == "style":
            self.styles.append(data)
        elif tag == "script" and given.get("type") == "text/plain":
            self.blobs[str(given["id"])] = data
        elif tag == "script":
            self.scripts.append(data)
        else:
            self.shown.append(data)

    def figures(self) -> dict[str, Any]:
        return dict(json.loads(zlib.decompress(base64.b64decode(self.blobs["figures"]))))


def sha256(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_a_page_loads_nothing_from_anywhere(plate_page: Path, campaign_page: Path) -> None:
    for path in (plate_page, campaign_page):
        page = Reader(path.read_text())
        assert page.addresses
        for address in page.addresses:
            assert address.startswith(("#", "./", "data:image/webp;base64,"))
        assert "connect-src" not in page.policy
        assert page.policy.startswith("default-src 'none'; script-src 'sha256-")


def test_the_policy_allows_the_two_scripts_and_the_style_by_hash_and_nothing_else(plate_page: Path) -> None:
    page = Reader(plate_page.read_text())
    plotly = gzip.decompress(base64.b64decode(page.blobs["plotly-js"])).decode()
    allowed = dict(part.split(" ", 1) for part in page.policy.split("; "))
    assert set(allowed["script-src"].split()) == {sha256(page.scripts[0]), sha256(plotly)}
    assert set(allowed["style-src"].split()) == {sha256(page.styles[0]), sha256("")}
    assert len(page.scripts) == len(page.styles) == 1
    assert not page.handlers, "inline handlers and styles are blocked by the policy"


def test_no_figure_offers_an_upload(plate_page: Path, campaign_page: Path) -> None:
    for path in (plate_page, campaign_page):
        book = Reader(path.read_text()).figures()
        assert book["config"]["showSendToCloud"] is False
        assert book["config"]["plotlyServerURL"] == ""
        assert book["config"]["displaylogo"] is False
        assert "http" not in json.dumps(book["figures"])


def test_the_stored_plotly_js_is_the_version_that_plotly_py_writes_for() -> None:
    static = files("reports").joinpath("static")
    record = json.loads(static.joinpath("plotly-cartesian.json").read_text())
    code = gzip.decompress(static.joinpath("plotly-cartesian.min.js.gz").read_bytes())
    assert hashlib.sha256(code).hexdigest() == record["sha256"]
    assert record["version"] == get_plotlyjs_version()
    assert f"v{record['version']}".encode() in code[:200]
    assert "MIT License" in static.joinpath("plotly-cartesian.LICENSE.txt").read_text()


def test_the_template_is_stored_once(plate_page: Path) -> None:
    book = Reader(plate_page.read_text()).figures()
    assert book["template"]["layout"]
    assert all("template" not in figure["layout"] for figure in book["figures"])


def test_figures_keep_four_digits_and_no_nan() -> None:
    figure = go.Figure(go.Scatter(x=np.array([1.23456789, np.nan]), y=[np.float32(0.5), np.inf]))
    assert rounded(figure.to_plotly_json())["data"][0] == {"type": "scatter", "x": [1.235, None], "y": [0.5, None]}


def test_a_table_is_written_exactly_and_also_kept_in_the_page(tmp_path: Path) -> None:
    table = pd.DataFrame({"dose": [0.1 + 0.2, np.nan], "name": ["=1+1", "-5 uM"], "number": [-1, 2]})
    page = Page(tmp_path / "P1.html")
    link = page.table("wells", table)
    back = pd.read_csv(tmp_path / "P1.wells.csv")
    assert back["dose"][0] == 0.1 + 0.2
    assert list(back["name"]) == ["'=1+1", "'-5 uM"]
    assert list(back["number"]) == [-1, 2]
    assert 'href="./P1.wells.csv"' in link
    assert 'data-table="table-wells"' in link


def test_text_that_a_spreadsheet_would_run_is_guarded_and_numbers_are_not() -> None:
    cells = ["=HYPERLINK()", "+1", "-1", "@x", "\tx", "\rx", "plain", "a=b"]
    guarded = guard_formulas(pd.DataFrame({"text": cells, "value": np.arange(8.0) - 4}))
    assert list(guarded["text"]) == [*(f"'{cell}" for cell in cells[:5]), " x", *cells[6:]]
    assert list(guarded["value"]) == [-4, -3, -2, -1, 0, 1, 2, 3]


def test_no_file_name_becomes_a_scheme_or_leaves_its_quotes(tmp_path: Path) -> None:
    start = tmp_path / "campaign.html"
    assert relative_link(tmp_path / "javascript:alert(1).html", start=start) == "./javascript%3Aalert%281%29.html"
    assert relative_link(tmp_path / 'a "b"<c>.html', start=start) == "./a%20%22b%22%3Cc%3E.html"
    assert relative_link(tmp_path.parent / "P1.html", start=start) == "./../P1.html"


def test_a_page_is_put_in_place_whole(plate_page: Path) -> None:
    assert not list(plate_page.parent.glob(".*partial"))
    assert re.search(r"</html>\s*$", plate_page.read_text())


def test_the_chips_of_the_states_have_their_colours_and_letters() -> None:
    style = static_text("report.css")
    for state in STATES:
        rule = re.search(rf"\.state-{LETTERS[state]}::before \{{ ([^}}]+)", style)
        assert rule is not None
        assert f'content: "{LETTERS[state]}"' in rule[1]
        assert f"background: {COLOURS[state]}" in rule[1]
        assert ("color: #fff" in rule[1]) == (LETTER_INKS[state] == "#ffffff")
