"""Every exit code of the documented table, by the command that gives it."""

import errno
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from plates import errors, workers
from plates.errors import TomoscreenError
from plates.lease import leased
from tests.faults.small_plate import SmallCampaign, write_small_campaign
from tests.hosts import ROOT
from tests.screening.test_cli import called

# by other tests: 104 and a lost device by test_devices, signals by test_signals and test_pipeline
ELSEWHERE = {1, 104, 130, 137, 143}
HERE = {0, 2, 3, 4, 5, 6, 7, 75}


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> SmallCampaign:
    return write_small_campaign(tmp_path_factory.mktemp("campaign"), wells=("A01", "A02"), frames=1)


def test_the_table_and_the_tests_know_the_same_codes() -> None:
    text = (ROOT / "docs" / "exit_codes.md").read_text(encoding="utf-8")
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    assert documented == HERE | ELSEWHERE
    kinds = [kind for module in (errors, workers) for kind in vars(module).values() if isinstance(kind, type)]
    assert {kind.exit_code for kind in kinds if issubclass(kind, TomoscreenError)} <= documented


class Command:
    """The command line, called in this process; remembers what it said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        self._monkeypatch, self._capsys, self.said = monkeypatch, capsys, ""

    def __call__(self, *words: object) -> int:
        code, _, self.said = called(self._monkeypatch, self._capsys, *words)
        assert "Traceback" not in self.said
        return code


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Command:
    return Command(monkeypatch, capsys)


def ingest_words(campaign: SmallCampaign, out: Path) -> tuple[object, ...]:
    return ("ingest", campaign.acquisitions["P001"], out, "--layout", campaign.layouts["P001"], "--workers", 1)


def test_0_done_and_5_a_result_that_is_not_what_it_should_be(
    campaign: SmallCampaign, tmp_path: Path, command: Command
) -> None:
    out = tmp_path / "P001.zarr"
    assert command(*ingest_words(campaign, out)) == 0
    (out / "zarr.json").write_text("{")
    assert command("classify", out, "--classifier", campaign.classifier, "--workers", 1) == 5, command.said


def test_2_an_option_or_a_setting(campaign: SmallCampaign, tmp_path: Path, command: Command) -> None:
    assert command("ingest") == 2
    settings = tmp_path / "screen.toml"
    settings.write_text(campaign.settings.read_text().replace("draws", "drawss"))
    assert command("run", settings) == 2
    assert "drawss" in command.said


def test_3_input_that_is_refused(campaign: SmallCampaign, tmp_path: Path, command: Command) -> None:
    plate_map = tmp_path / "map.csv"
    plate_map.write_text("well,compound\nZ99,x\n")
    out = tmp_path / "P.zarr"
    assert command("ingest", campaign.acquisitions["P001"], out, "--layout", plate_map, "--workers", 1) == 3
    assert not out.exists()


def test_4_a_file_that_cannot_be_converted(campaign: SmallCampaign, tmp_path: Path, command: Command) -> None:
    folder = tmp_path / "P001"
    shutil.copytree(campaign.acquisitions["P001"], folder)
    file = sorted(folder.rglob("*.TCF"))[0]
    file.write_bytes(file.read_bytes()[:5000])
    words = ("ingest", folder, tmp_path / "P.zarr", "--layout", campaign.layouts["P001"], "--workers", 1)
    assert command(*words) == 4
    assert file.name in command.said


WRITERS = ("ingest", "classify", "analyse", "annotate", "run", "train", "evaluate")


@pytest.mark.parametrize("name", WRITERS)
def test_6_an_output_that_another_process_writes(
    name: str, campaign: SmallCampaign, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("screening.train.prepare", lambda *_, **__: (None, []))
    out = campaign.out / "P001.zarr" if name == "run" else tmp_path / "P001.zarr"
    table = tmp_path / "table.csv"
    table.write_text("plate,well,field,timepoint,y_um,x_um,state\n")
    if name in ("classify", "analyse", "annotate"):
        out.mkdir()  # whatever it holds: the lease comes first
    words: dict[str, tuple[object, ...]] = {
        "ingest": ingest_words(campaign, out),
        "classify": ("classify", out, "--classifier", campaign.classifier, "--workers", 1),
        "analyse": ("analyse", out),
        "annotate": ("annotate", out),
        "run": ("run", campaign.settings),
        "train": ("train", table, out),
        "evaluate": ("evaluate", campaign.classifier, table, "--out", out),
    }
    held = out.with_name("P001.annotations.csv") if name == "annotate" else out
    with leased(held, command="tomoscreen watch screen.toml"):
        before = sorted(tmp_path.rglob("*"))
        assert command(*words[name]) == 6, command.said
        assert sorted(tmp_path.rglob("*")) == before
    assert "`tomoscreen watch screen.toml` (process " in command.said
    assert "Wait for that one to end" in command.said


def test_7_a_classifier_that_was_altered(campaign: SmallCampaign, tmp_path: Path, command: Command) -> None:
    classifier = tmp_path / "classifier"
    shutil.copytree(campaign.classifier, classifier)
    weights = classifier / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    settings = tmp_path / "screen.toml"
    text = campaign.settings.read_text().replace(campaign.classifier.as_posix(), classifier.as_posix())
    settings.write_text(text.replace('"P001"\nlayout = "', f'"{campaign.folder}/P001"\nlayout = "{campaign.folder}/'))
    assert command("run", settings) == 7


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ESTALE, errno.EROFS])
def test_75_storage_that_fails(
    number: int, campaign: SmallCampaign, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.faults.fault_store import FaultyDisk

    monkeypatch.setattr("plates.patience.PAUSES_S", ())
    with FaultyDisk(tmp_path / "P001.zarr", number=number, at=1, times=float("inf")).failing():
        assert command(*ingest_words(campaign, tmp_path / "P001.zarr")) == 75
    assert "What was finished is kept" in command.said
