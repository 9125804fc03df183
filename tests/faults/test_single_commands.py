"""The commands of a campaign one by one: each leaves its record and its lines, and the folder verifies."""

from pathlib import Path

import pytest

from screening.audit import broken_links, read_audit
from screening.run_record import read_run
from screening.verify import verify
from tests.screening.test_cli import called

from .small_plate import write_small_campaign


def test_the_steps_one_by_one_leave_what_a_run_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    campaign = write_small_campaign(tmp_path)
    plate = campaign.store()
    alone = ("--workers", 1)
    steps = {
        "ingest": (campaign.acquisitions["P001"], plate, "--layout", campaign.layouts["P001"], *alone),
        "classify": (plate, "--classifier", campaign.classifier, *alone, "--device", "cpu"),
        "analyse": (plate,),
        "report": (plate,),
    }
    for number, (step, words) in enumerate(steps.items(), start=1):
        code, _, said = called(monkeypatch, capsys, step, *words)
        assert code == 0, said
        told = read_run(campaign.out)
        assert told["command"].startswith(f"tomoscreen {step} ")
        assert (told["exit_code"], len(list((campaign.out / "runs").glob("*.json")))) == (0, number)
    assert told["units"]["P001"]["classified"]["done"] == 12
    assert {one["well"] for one in told["inputs"] if one["kind"] == "acquisition"} == {"A01", "A02", "B01", "B02"}
    assert told["classifier"]["name"] == "untrained"
    assert "P001.html" in {one["path"] for one in told["outputs"]}
    assert [line["action"] for line in read_audit(campaign.out)] == ["run started", "run ended"] * 4
    assert broken_links(campaign.out) == []
    assert verify([campaign.out]).bad == []
    assert called(monkeypatch, capsys, "classify", tmp_path / "none" / "P001.zarr", *alone)[0] != 0
    assert not (tmp_path / "none").exists()
