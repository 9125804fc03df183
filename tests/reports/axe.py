"""axe-core on an open page: which rules of accessibility it breaks, and where."""

from pathlib import Path

from .browser import Tab

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
GRAVE = ("serious", "critical")


def violations(tab: Tab, *, impacts: tuple[str, ...] = GRAVE, within: str = "document") -> list[str]:
    """One line a broken rule: how grave, its name, what it wants, and the first places.

    The script is put into the page by the debugger, so a page's Content-Security-Policy does not stand in its way.

    Parameters
    ----------
    impacts
        Of axe-core: minor, moderate, serious, critical.
    within
        JavaScript expression of the part of the page to look at.
    """
    if tab.ask("typeof axe") != "object":
        tab.call("Runtime.evaluate", expression=AXE.read_text(encoding="utf-8"))
    found = tab.ask(
        f"axe.run({within}, {{resultTypes: ['violations']}}).then((r) => r.violations.map((v) => "
        "[v.impact, v.id, v.help, v.nodes.length, v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160))]))"
    )
    return [
        f"{impact}: {name}: {help_text} ({count}): {' | '.join(places)}"
        for impact, name, help_text, count, places in found
        if impact in impacts
    ]
