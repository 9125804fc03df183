"""A small simulated campaign and an untrained classifier: the true path, in seconds."""

import shutil
from pathlib import Path

import pytest

from screening.demo import simulate_campaign
from screening.pipeline import Outcome, run
from screening.settings import read_settings


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a ResNet-18 that has seen nothing: its numbers are arbitrary, but always the same."""
    import torch

    from models.classifier import Card, build_classifier, save_classifier

    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("classifier") / "untrained"
    card = Card(name="untrained", architecture="resnet18", trained_on="nothing")
    save_classifier(build_classifier(card), folder)
    return folder


@pytest.fixture(scope="session")
def acquisitions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two plates of 16 wells: one compound in six doses, vehicles and inducers; one small field a well."""
    folder = tmp_path_factory.mktemp("acquisitions")
    simulate_campaign(
        folder,
        seed=11,
        compounds=1,
        hours=(0.0, 12.0),
        fields=1,
        shape=(8, 176, 176),
        workers=1,
        vehicles=4,
    )
    return folder


@pytest.fixture
def settings_file(acquisitions: Path, classifier: Path, tmp_path: Path) -> Path:
    """The screen.toml of that campaign, with results in a folder of the test's own."""
    return write_settings(acquisitions, classifier, tmp_path)


@pytest.fixture(scope="session")
def calm(acquisitions: Path, classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What an undisturbed run of that campaign makes, with one worker. Tests read it, and change nothing."""
    return run(read_settings(write_settings(acquisitions, classifier, tmp_path_factory.mktemp("calm"))))


@pytest.fixture
def finished(calm: Outcome, tmp_path: Path) -> dict[str, Path]:
    """A copy of its plates of the test's own, as a folder that was moved; to be used with `settings_file`."""
    shutil.copytree(calm.campaign_report.parent, tmp_path / "results")
    return {name: tmp_path / "results" / path.name for name, path in calm.plates.items()}


def write_settings(acquisitions: Path, classifier: Path, folder: Path) -> Path:
    text = (acquisitions / "screen.toml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("out =")]
    text = "\n".join(lines).replace('"P00', f'"{acquisitions.as_posix()}/P00')
    for name in ("P001", "P002"):  # the plates' names are no paths
        text = text.replace(f'name = "{acquisitions.as_posix()}/{name}"', f'name = "{name}"')
    text = text.replace("[campaign]", f'[campaign]\nout = "{(folder / "results").as_posix()}"')
    path = folder / "screen.toml"
    path.write_text(text + f'\n[classifier]\npath = "{classifier.as_posix()}"\n')
    return path
