"""What a campaign's page weighs, costs to build and to open, and how fast its table answers, by number of compounds.

    python -m tests.benchmarks.campaign_page 1000 10000

Times in the page are those of its own clock, medians of three; processor time of opening is Chromium's own count of
the tab's main thread, over that of a blank page.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from reports.campaign import write_campaign_report
from tests.reports.browser import Tab, browser
from tests.reports.campaigns import write_large_campaign

READY = "!!document.querySelector('.tools:not([hidden])')"


def main(counts: list[int]) -> None:
    """Print one line for each number of compounds."""
    head = ("compounds", "MiB", "build CPU s", "open CPU s", "nodes", "heap MiB", "sort ms", "search ms", "filter ms")
    print(" | ".join(head))
    for count in counts:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            campaign = write_large_campaign(Path(folder), compounds=count)
            start = time.process_time()
            page = write_campaign_report(campaign, out=Path(folder) / "campaign.html", plate_reports={})
            built = time.process_time() - start
            with browser(Path(folder) / "profile") as tab:
                print(
                    " | ".join(
                        [f"{count}", f"{page.stat().st_size / 2**20:.2f}", f"{built:.1f}", *_measured(tab, page)]
                    )
                )


def _measured(tab: Tab, page: Path) -> list[str]:
    blank = page.with_name("blank.html")
    blank.write_text("<!doctype html><title>blank</title>")
    tab.call("Performance.enable")
    opening = []
    for place, ready in ((blank, "true"), (page, READY)):
        before = _task_seconds(tab)
        tab.open(place)
        tab.wait_for(ready)
        opening.append(_task_seconds(tab) - before)
    nodes, heap = tab.ask("document.querySelectorAll('*').length"), tab.ask("performance.memory.usedJSHeapSize")
    head = "[...document.querySelectorAll('#ranking-table th button')].find((b) => b.textContent === 'EC50')"
    search, bound = (
        f"document.querySelector('#ranking-table {part}')" for part in ("input[type=search]", "[name=emax]")
    )
    actions = (
        f"{head}.click()",
        f"({search}.value = '42', {search}.dispatchEvent(new Event('input')))",
        f"({bound}.value = '>40', {bound}.dispatchEvent(new Event('input')))",
    )
    took = [statistics.median(_took(tab, action) for _ in range(3)) for action in actions]
    return [f"{opening[1] - opening[0]:.2f}", f"{nodes}", f"{heap / 2**20:.0f}", *(f"{one:.0f}" for one in took)]


def _took(tab: Tab, action: str) -> float:
    done = "document.body.offsetHeight; return performance.now() - start;"
    return float(tab.ask(f"(() => {{ const start = performance.now(); {action}; {done} }})()"))


def _task_seconds(tab: Tab) -> float:
    metrics = tab.call("Performance.getMetrics")["metrics"]
    return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))


if __name__ == "__main__":
    main([int(count) for count in sys.argv[1:]] or [100])
