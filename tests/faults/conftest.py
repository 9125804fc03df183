"""A finished small campaign, made once; each test damages a copy of its own."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from models.checksums import write_checksums
from screening.pipeline import run
from screening.settings import read_settings

from .small_plate import SmallCampaign, write_small_campaign


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> SmallCampaign:
    """A small campaign that has run undisturbed, with its record and audit trail."""
    campaign = write_small_campaign(tmp_path_factory.mktemp("finished"))
    if not (campaign.classifier / "SHA256SUMS").exists():
        write_checksums(campaign.classifier)
    run(read_settings(campaign.settings))
    return campaign


@pytest.fixture
def fresh(finished: SmallCampaign, tmp_path: Path) -> SmallCampaign:
    """The same campaign before its first run; the acquisitions are those of the finished one."""
    out = tmp_path / "results"
    settings = tmp_path / "screen.toml"
    text = finished.settings.read_text().replace(finished.out.as_posix(), out.as_posix())
    for name in finished.acquisitions:
        text = text.replace(f'acquisitions = "{name}"', f'acquisitions = "{finished.acquisitions[name].as_posix()}"')
        text = text.replace(f'layout = "{name}.csv"', f'layout = "{finished.layouts[name].as_posix()}"')
    settings.write_text(text)
    return replace(finished, folder=tmp_path, settings=settings, out=out)


@pytest.fixture
def campaign(finished: SmallCampaign, fresh: SmallCampaign) -> SmallCampaign:
    """The finished campaign with a copy of its results, to be damaged; the acquisitions are not copied."""
    shutil.copytree(finished.out, fresh.out)
    return fresh
