from collections.abc import Iterator
from pathlib import Path

import pytest

from reports.campaign import write_campaign_report
from reports.plate import write_plate_report

from . import simulated
from .browser import CHROMIUM, Tab, browser

# what a hostile or careless plate map may hold; each must come out as text
HOSTILE = (
    "</script><script>document.title='run'</script>",
    "<img src=x onerror=\"document.title='run'\">",
    '<a href="https://evil.example/">click</a>',
    "javascript:document.title='run'",
)


@pytest.fixture(scope="session")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plate of 62 wells, of which two are missing, read by a classifier that knows simulated cells only."""
    return simulated.write_plate(
        tmp_path_factory.mktemp("plate"), missing=("C06", "C07"), card="simulated cells only, seeds 1 to 40"
    )


@pytest.fixture(scope="session")
def plate_page(plate: Path) -> Path:
    return write_plate_report(
        plate,
        out=plate.parent / "pages" / "P012.html",
        analysed="2026-03-01 10:00",
        settings="[campaign]\nname = 'x'\n",
    )


@pytest.fixture(scope="session")
def campaign(plate: Path) -> Path:
    """A campaign of three plates; the first is the plate above."""
    return simulated.write_campaign(plate.parent)


@pytest.fixture(scope="session")
def campaign_page(campaign: Path, plate_page: Path) -> Path:
    return write_campaign_report(
        campaign,
        out=plate_page.with_name("campaign.html"),
        plate_reports={"P012": plate_page},
        analysed="2026-03-01 10:00",
    )


@pytest.fixture(scope="session")
def hostile_pages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The plate and the campaign page of compounds that are called what nobody should call a compound."""
    folder = tmp_path_factory.mktemp("hostile")
    plate = simulated.write_plate(folder, compounds=HOSTILE, card=HOSTILE[0], verdict="REVIEW", seed=3)
    campaign = simulated.write_campaign(folder, compounds=HOSTILE, seed=3)
    page = write_plate_report(plate, out=folder / "javascript:alert(1).html", campaign=HOSTILE[1], settings=HOSTILE[0])
    return page, write_campaign_report(
        campaign, out=folder / "campaign.html", plate_reports={"P012": page}, settings=HOSTILE[1]
    )


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with browser(tmp_path / "profile") as opened:
        yield opened
