"""The campaign's table in headless Chromium: sorted, filtered, searched, chosen, saved, shared, and deaf to names."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plates.results import read_result
from reports.campaign import write_campaign_report

from .axe import violations
from .browser import Tab
from .campaigns import write_large_campaign
from .conftest import HOSTILE

FORMULA = "=HYPERLINK(1)"
READY = "!!document.querySelector('.tools:not([hidden])')"
TABLE = "#ranking-table tbody"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    return write_large_campaign(folder, compounds=1000, names=(*HOSTILE, FORMULA, 'a "b", c'))


@pytest.fixture(scope="module")
def page(large: Path) -> Path:
    return write_campaign_report(large, out=large.with_name("campaign.html"), plate_reports={})


def opened(tab: Tab, page: Path, fragment: str = "") -> None:
    tab.open(page)
    if fragment:
        tab.ask(f"location.hash = {json.dumps(fragment)}")
    tab.wait_for(READY)


def heading(label: str) -> str:
    return f"[...document.querySelectorAll('#ranking-table th button')].find((b) => b.textContent === '{label}')"


def column(tab: Tab, label: str, part: str = "textContent") -> list[str]:
    place = f"{heading(label)}.closest('th').cellIndex"
    return list(tab.ask(f"[...document.querySelectorAll('{TABLE} tr')].map((r) => r.cells[{place}].{part})"))


def typed(tab: Tab, selector: str, text: str) -> None:
    tab.ask(
        f"(() => {{ const i = document.querySelector('{selector}'); i.value = {json.dumps(text)};"
        " i.dispatchEvent(new Event('input')); })()"
    )


def saved(tab: Tab) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(tab.ask("ranked.csv()"))))


def test_the_rows_that_the_script_writes_are_those_of_the_server(tab: Tab, page: Path) -> None:
    opened(tab, page)
    row = "[...r.cells].map((c) => c.textContent.trim().replace(/\\s+/g, ' '))"
    text = f"[...document.querySelectorAll('{TABLE} tr')].map((r) => {row})"
    size = "document.querySelector('#ranking-table select')"
    script = tab.ask(f"({size}.value = 200, {size}.dispatchEvent(new Event('change')), {text})")
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    tab.call("Page.reload")
    tab.wait_for(f"document.querySelectorAll('{TABLE} tr').length === 200 && !{READY}")
    server = tab.ask(text)
    assert len(server) == 200
    assert script == server


def test_a_heading_sorts_stably_both_ways_and_rows_without_a_value_stay_last(tab: Tab, page: Path, large: Path) -> None:
    opened(tab, page)
    stored = read_result(large, "ranking")
    ec50 = np.where(np.isfinite(stored["ec50"].values), stored["ec50"].values, np.nan)
    for sign in (1, -1):
        tab.ask(f"{heading('EC50')}.click()")
        # a stable sort keeps the stored order of equal rows, and of those without a value
        order = np.argsort(np.where(np.isnan(ec50), np.inf, sign * ec50), kind="stable")
        assert [row["compound"].lstrip("'") for row in saved(tab)] == [
            str(name) for name in stored["compound"].values[order]
        ]
    assert tab.ask(f"{heading('EC50')}.closest('th').ariaSort") == "descending"
    assert tab.ask("document.querySelectorAll('#ranking-table [aria-sort]').length") == 1


def test_a_sort_of_1000_rows_takes_less_than_0_3_s(tab: Tab, page: Path) -> None:
    opened(tab, page)
    took = [
        tab.ask(
            f"(() => {{ const b = {heading(label)}; const t = performance.now(); b.click();"
            " document.body.offsetHeight; return performance.now() - t; })()"
        )
        for label in ("EC50", "Compound", "Dominant pathway")
    ]
    assert min(took) < 300, took


def test_filters_take_bounds_ranges_units_percent_and_text(tab: Tab, page: Path, large: Path) -> None:
    opened(tab, page)
    stored = read_result(large, "ranking")
    ec50, emax = stored["ec50"].values, stored["emax"].values
    quantified = stored["status"].values == "quantified"
    for selector, text, kept in (
        ("ec50", "<50 nM", quantified & (ec50 < 0.05)),
        ("ec50", "0.1 to 1 uM", quantified & (ec50 >= 0.1) & (ec50 <= 1)),
        ("emax", ">50", emax > 0.5),
        ("emax", "<= 20 %", emax <= 0.2),
        ("dominant_pathway", "NECROP", stored["dominant_pathway"].values == "necroptosis"),
        ("ec50", "no effect", stored["status"].values == "no_effect"),
    ):
        typed(tab, f"input[name={selector}]", text)
        assert {row["compound"].lstrip("'") for row in saved(tab)} == set(stored["compound"].values[kept]), text
        typed(tab, f"input[name={selector}]", "")
    typed(tab, "input[name=rank]", ">>5")
    assert tab.ask("document.querySelector('input[name=rank]').ariaInvalid") == "true"
    assert "is not understood" in tab.ask("document.querySelector('#ranking-table [role=status]').textContent")
    assert len(saved(tab)) == 1000


def test_search_pages_and_columns_show_what_was_asked_for(tab: Tab, page: Path, large: Path) -> None:
    opened(tab, page)
    assert tab.ask(f"document.querySelectorAll('{TABLE} tr').length") == 50
    typed(tab, "input[type=search]", "cpd-0010")
    names = [name for name in map(str, read_result(large, "ranking")["compound"].values) if "CPD-0010" in name]
    assert column(tab, "Compound") == names
    typed(tab, "input[type=search]", "")
    tab.ask("document.querySelector('[data-act=next]').click()")
    assert tab.ask("document.querySelector('[data-act=page]').textContent") == "Page 2 of 20"
    assert column(tab, "Rank")[0].startswith("51")
    tab.ask("document.querySelector('.columns input[value=emax]').click()")
    tab.ask("document.querySelector('.columns input[value=status]').click()")
    assert tab.ask(f"{heading('Highest excess death')} === undefined")
    assert set(column(tab, "Kind of answer")) <= {"quantified", "above_range", "no_effect"}


def test_the_saved_file_holds_the_shown_columns_and_rows_and_no_formula(tab: Tab, page: Path, large: Path) -> None:
    opened(tab, page)
    stored = read_result(large, "ranking")
    rows = saved(tab)
    assert len(rows) == 1000
    known = stored["status"].values == "quantified"
    told = np.array([float(row["ec50"] or "nan") for row in rows])
    assert told == pytest.approx(np.where(known, stored["ec50"].values, np.nan), rel=1e-5, nan_ok=True)
    assert [row["ec50_words"] != "" for row in rows] == (~known).tolist()
    names = [row["compound"] for row in rows]
    assert f"'{FORMULA}" in names
    assert 'a "b", c' in names
    assert "emax_low" in rows[0]
    tab.ask("document.querySelector('.columns input[value=emax]').click()")
    assert "emax_low" not in saved(tab)[0]
    assert tab.ask(
        "new Promise((done) => { HTMLAnchorElement.prototype.click = function () { done(this.download); };"
        " document.querySelector('[data-act=csv]').click(); })"
    ) == "campaign.shown.csv"  # fmt: skip


def test_the_address_holds_the_state_and_restores_it(tab: Tab, page: Path) -> None:
    opened(tab, page)
    tab.ask(f"{heading('EC50')}.click(), {heading('EC50')}.click()")
    typed(tab, "input[type=search]", "cpd")
    typed(tab, "input[name=emax]", ">40 %")
    tab.ask("document.querySelector('.columns input[value=wells]').click()")
    tab.ask("document.querySelector('[data-act=next]').click()")
    fragment, before = tab.ask("location.hash"), tab.ask("ranked.csv()")
    first = column(tab, "Compound")
    assert fragment.startswith("#ranking?sort=-ec50&q=cpd&f.emax=")
    tab.call("Page.navigate", url="about:blank")
    tab.call("Page.navigate", url=page.resolve().as_uri() + fragment)
    tab.wait_for("document.readyState === 'complete'")
    tab.wait_for(READY)
    assert tab.ask("ranked.csv()") == before
    assert column(tab, "Compound") == first
    assert tab.ask("document.querySelector('input[type=search]').value") == "cpd"
    assert tab.ask(f"{heading('EC50')}.closest('th').ariaSort") == "descending"
    assert tab.ask("[...document.querySelectorAll('.columns input')].find((i) => i.value === 'wells').checked") is False
    tab.ask("document.querySelector('[data-act=reset]').click()")
    assert len(saved(tab)) == 1000
    assert tab.ask("location.hash") == "#ranking"


def test_a_point_of_the_scatter_brings_its_row_to_sight(tab: Tab, page: Path, large: Path) -> None:
    opened(tab, page)
    typed(tab, "input[type=search]", "nothing is called this")
    place = "document.querySelector('#potency [data-figure]')"
    tab.ask(f"{place}.scrollIntoView({{behavior: 'instant'}})")
    tab.wait_for(f"{place}.dataset.state === 'drawn'")
    row = tab.ask(f"{place}.data[0].customdata[30]")
    tab.ask(f"{place}.emit('plotly_click', {{points: [{{customdata: {row}}}]}})")
    tab.wait_for("!!document.querySelector('tr.picked')")
    name = read_result(large, "ranking")["compound"].values[row]
    assert tab.ask("document.querySelector('tr.picked th').textContent") == name
    assert tab.ask("document.activeElement.className") == "picked"


def test_everything_is_drawn_without_a_complaint_a_request_or_a_run_of_hostile_names(tab: Tab, page: Path) -> None:
    opened(tab, page)
    assert tab.ask("document.querySelectorAll('*').length") <= 5000
    tab.draw_all()
    typed(tab, "input[type=search]", "title")
    shown: list[Any] = column(tab, "Compound")
    assert len(shown) >= 3
    typed(tab, "input[type=search]", "")
    tab.ask("document.querySelectorAll('button:not(#print), summary').forEach((b) => b.click())")
    hover = "new MouseEvent('mouseover', {bubbles: true})"
    tab.ask(f"document.querySelectorAll('td, th').forEach((e) => e.dispatchEvent({hover}))")
    assert not tab.ask("document.title").startswith("run")
    assert tab.ask("document.querySelectorAll('img[src=x], svg a').length") == 0
    assert tab.dialogs == []
    assert tab.complaints == []
    assert [address for address in tab.requests if not address.startswith(("data:", "blob:"))] == [page.as_uri()]


def test_the_page_breaks_no_rule_of_accessibility(tab: Tab, tmp_path: Path) -> None:
    campaign = write_large_campaign(tmp_path, compounds=12)
    opened(tab, write_campaign_report(campaign, out=tmp_path / "campaign.html", plate_reports={}))
    tab.ask("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    typed(tab, "input[name=rank]", ">>5")
    tab.draw_all()
    assert violations(tab, impacts=("moderate", "serious", "critical")) == []
    search = "document.querySelector('input[type=search]')"
    tab.ask(f"{search}.closest('label').replaceWith({search})")
    assert any("label" in found for found in violations(tab, within="'#ranking-table'"))
