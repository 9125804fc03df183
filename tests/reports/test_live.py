"""The live page: whole without scripts, deaf to hostile names, renewed by its server."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from plates.states import STATES
from reports.alerts import Alert
from reports.live import LiveFile, LiveFrame, LiveLag, LivePlate, LiveView, live_page, live_parts, pathway_of
from reports.live import write_live_page as write

from .browser import Tab
from .conftest import HOSTILE


def fractions(*, rows: int = 8, columns: int = 12, timepoints: int = 6, compound: str = "SIM-1") -> xr.Dataset:
    """A plate whose rows go different ways, imaged as far as its tenth column at the last timepoint."""
    wells = [(row, column) for row in range(rows) for column in range(columns)]
    hours = np.arange(timepoints) * 2.0
    share = np.full((len(wells), timepoints, len(STATES)), np.nan)
    for index, (row, column) in enumerate(wells):
        for timepoint in range(timepoints):
            if (timepoint == timepoints - 1 and column > 9) or (row, column) == (2, 3):
                continue
            dead = min(1.0, 0.05 + 0.17 * timepoint * (column / columns))
            mix = np.array([0.1, 0.1, 0.1, 0, 0])
            mix[row % 3] = 0.8
            share[index, timepoint] = dead * mix
            share[index, timepoint, 3 + (column > 1)] = 1 - dead * mix.sum()
    provisional = np.zeros(share.shape[:2], dtype=bool)
    provisional[5, -1] = True
    return xr.Dataset(
        {
            "fraction": (("well", "timepoint", "state"), share),
            "death": (("well", "timepoint"), share[..., :3].sum(axis=-1)),
            "provisional": (("well", "timepoint"), provisional),
        },
        coords={
            "well": np.array([f"{chr(65 + row)}{column + 1:02d}" for row, column in wells], dtype=object),
            "timepoint": np.arange(timepoints),
            "state": list(STATES),
            "hours": ("timepoint", hours),
            "row": ("well", [row for row, _ in wells]),
            "column": ("well", [column for _, column in wells]),
            "control": ("well", np.array(["negative" if c < 2 else "none" for _, c in wells], dtype=object)),
            "compound": ("well", np.array([compound] * len(wells), dtype=object)),
            "dose": ("well", np.full(len(wells), 0.5)),
        },
    )


@pytest.fixture
def view() -> LiveView:
    return seen()


def seen(*, name: str = "P001", compound: str = "SIM-1") -> LiveView:
    plate = LivePlate(
        name=name,
        fractions=fractions(compound=compound),
        rows=8,
        columns=12,
        converted=560,
        classified=552,
        queued=3,
        planned=576,
        wells=96,
        wells_imaged=95,
        waiting=[
            LiveFile("260302.090330.screen.001.G1.H9.T001P01.TCF", "14:03:22", "not a complete TCF (HDF5) file"),
            LiveFile(compound + ".TCF.part", "14:05:02", "its name says that it is still being copied"),
        ],
    )
    frames = [
        LiveFrame("14:05:03", name, "B05", 0, 5, 0.31, "necroptosis", 9.2, False),
        LiveFrame("14:05:01", name, "A06", 0, 5, 0.12, "apoptosis", float("nan"), True),
        LiveFrame("14:04:55", name, "A05", 0, 5, float("nan"), "", 8.7, False),
    ]
    return LiveView(
        campaign=name,
        state="watching",
        at="14:05:04",
        classifier=compound,
        plates=[plate],
        lag=[LiveLag("settling", 5.1, 5.4), LiveLag("converting", 1.2, 2.0), LiveLag("all", 8.9, 12.3)],
        lag_frames=552,
        frames=frames,
        alerts=[Alert("failure", f"{compound}: the folder cannot be listed: Host is down")],
    )


def test_everything_can_be_read_without_scripts(view: LiveView, tmp_path: Path) -> None:
    page = write(view, out=tmp_path / "live.html", refresh_s=10).read_text(encoding="utf-8")
    assert '<noscript><meta http-equiv="refresh" content="10"></noscript>' in page
    page = re.sub(r"(?s)<script.*?</script>", "", page)
    for text in (
        "552",
        "of 576 frames",
        "95 of 96 wells",
        "not a complete TCF",
        "12.3 s",
        "Host is down",
        "first look",
    ):
        assert text in page
    death = float(view.plates[0].fractions["death"].sel(well="B05", timepoint=5))  # type: ignore[index]
    assert f"B05: SIM-1 0.5 µM, {100 * death:.0f} % dead at 10 h" in page
    assert "C04: SIM-1 0.5 µM, no frame yet" in page
    # of wells that the last timepoint has not reached, the one before is shown
    assert re.search(r"A12: SIM-1 0.5 µM, \d+ % dead at 8 h", page)


def test_the_page_stops_reading_itself_again_when_the_watch_ends(view: LiveView) -> None:
    for state in ("finished", "stopped"):
        page = live_page(replace(view, state=state), refresh_s=10)
        assert 'http-equiv="refresh"' not in page
        assert "<script" not in page
    assert "<noscript><meta" in live_page(view, refresh_s=10, served=True)


def test_a_first_look_is_told_apart_in_the_map(view: LiveView) -> None:
    page = live_page(view, refresh_s=10)
    assert page.count("stroke-dasharray") == 1
    assert "A06: SIM-1 0.5 µM, " in page
    assert page.count(", a first look</title>") == 1


def test_a_pathway_is_named_where_cells_are_clearly_dead() -> None:
    share = np.array([0.05, 0.3, 0.1, 0.5, 0.05])
    assert pathway_of(share, 0.45) == "necroptosis"
    assert pathway_of(np.array([0.02, 0.01, 0.01, 0.3, 0.66]), 0.04) == "live-treated"


def test_an_empty_plate_and_a_single_timepoint_are_pages_too(view: LiveView) -> None:
    (plate,) = view.plates
    empty = replace(view, plates=[replace(plate, fractions=None, waiting=())], frames=[], lag=[], alerts=[])
    assert "No frame is classified yet" in live_page(empty, refresh_s=10)
    one = replace(view, plates=[replace(plate, fractions=fractions(timepoints=1))])
    assert "Over time" not in live_page(one, refresh_s=10)
    assert "Over time" in live_parts(view)["sections"]


@pytest.mark.parametrize("served", [False, True])
def test_hostile_names_are_text_and_nothing_is_asked_for(tab: Tab, tmp_path: Path, served: bool) -> None:
    for number, hostile in enumerate(HOSTILE):
        page = tmp_path / f"live{number}.html"
        page.write_text(live_page(seen(name=hostile, compound=hostile), refresh_s=0, served=served), encoding="utf-8")
        asked = len(tab.requests)
        tab.open(page)
        assert tab.ask("document.title") != "run"
        assert tab.ask("document.querySelectorAll('main a, main img, main script').length") == 0
        assert hostile[:20] in tab.ask("document.querySelector('h2 + ul, h1').closest('body').textContent")
        addresses = [address for address in tab.requests[asked:] if not address.startswith("data:")]
        assert [address for address in addresses if not address.endswith(("/events", page.name))] == []
    assert tab.dialogs == []


@pytest.mark.parametrize("width", [1366, 1920, 800])
def test_nothing_is_wider_than_the_window(tab: Tab, view: LiveView, tmp_path: Path, width: int) -> None:
    tab.open(write(view, out=tmp_path / "live.html", refresh_s=600), width=width)
    assert tab.ask("document.documentElement.scrollWidth") <= width
    assert [one for one in tab.complaints if "live.html" in one] == []
