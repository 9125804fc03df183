"""The served page in headless Chromium: renewed in place by its stream, and told when the stream ends."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reports.live import live_page, live_parts
from screening.live_server import LiveServer
from tests.reports.browser import CHROMIUM, Tab, browser
from tests.reports.test_live import seen


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with browser(tmp_path / "profile") as opened:
        yield opened


def test_the_page_renews_itself_in_place(tab: Tab) -> None:
    view, server = seen(), LiveServer()
    try:
        server.show(live_page(view, refresh_s=10, served=True), live_parts(view))
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.call(f"{domain}.enable")
        tab.call("Page.navigate", url=server.address)
        tab.wait_for("document.readyState === 'complete' && !!document.querySelector('progress')")
        tab.ask(
            "document.querySelector('details').open = false; document.querySelector('#frames').dataset.mark = 'kept'"
        )
        (plate,) = view.plates
        later = replace(view, at="14:06:00", plates=[replace(plate, classified=553)])
        server.show(live_page(later, refresh_s=10, served=True), live_parts(later))
        tab.wait_for("document.querySelector('.progress b').textContent === '553'")
        assert "14:06:00" in tab.ask("document.getElementById('status').textContent")
        assert tab.ask("document.querySelector('details').open") is False, "what a reader folded stays folded"
        assert tab.ask("document.querySelector('#frames').dataset.mark") == "kept", "what is the same is left alone"
        assert tab.complaints == []
        host = f"http://127.0.0.1:{server.port}/"
        assert [address for address in tab.requests if not address.startswith(host)] == []
        assert tab.ask("document.getElementById('connection').hidden") is True
    finally:
        server.close()
    tab.wait_for("document.getElementById('connection').hidden === false")
