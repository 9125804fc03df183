"""Single commands leave what a run leaves: a record of the folder's state, and lines in the trail that stay a chain."""

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from models.shelf import SHIPPED
from plates.creation import create_plate
from plates.errors import DeviceMemoryError
from plates.integrity import write_sealed
from plates.results import write_result
from screening import audit
from screening.audit import broken_links, note, read_audit
from screening.diff import diff_runs
from screening.run_record import last_run, read_run, recorded_command
from screening.run_state import outputs_of
from screening.verify import verify

from .harm import flip_bit
from .small_plate import SHAPE, VOXEL_UM

CLASSIFY: dict[str, Any] = {
    "command": "tomoscreen classify P001.zarr --stride 80",
    "settings": {"classify": {"stride_px": 80}},
    "classifier": SHIPPED,
    "device": "cpu",
}


def fractions(plate: Path, value: float) -> None:
    write_result(plate, "fractions", xr.Dataset({"fraction": ("well", np.full(4, value))}), provenance={})


def empty_plate(path: Path) -> Path:
    return create_plate(
        path, name=path.stem, wells=["A01"], fields=1, timepoints=1, shape_zyx=SHAPE,
        voxel_um=VOXEL_UM, rows=2, columns=3, hours=[0.0], provenance={},
    ).path  # fmt: skip


def actions(folder: Path) -> list[str]:
    return [line["action"] for line in read_audit(folder)]


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    """An empty plate with a result, its plate map, and the record of one command on it."""
    plate = empty_plate(tmp_path / "results" / "P001.zarr")
    fractions(plate, 0.25)
    layout = tmp_path / "P001.csv"
    layout.write_text("well,compound\nA01,DMSO\n")
    with recorded_command(plate, layout=layout, **CLASSIFY):
        (plate.parent / "P001.html").write_text("<p>0.25</p>")
    return plate


def test_a_command_says_with_what_it_was_done_and_what_came_of_it(plate: Path) -> None:
    told = read_run(plate.parent)
    assert (told["state"], told["exit_code"], told["command"]) == ("ended", 0, CLASSIFY["command"])
    assert told["settings"]["classify"] == {"stride_px": 80}
    assert told["classifier"]["files"].keys() >= {"card.json", "weights.safetensors"}
    assert told["device"]["asked"] == "cpu"
    assert [one["kind"] for one in told["inputs"]] == ["plate map of P001"]
    assert list(told["results"]) == ["P001.results.zarr/fractions"]
    assert [one["path"] for one in told["outputs"]] == ["P001.html"]
    assert actions(plate.parent) == ["run started", "run ended"]
    assert broken_links(plate.parent) == []
    assert verify([plate.parent]).bad == []


def test_what_a_command_does_not_touch_stands_as_before(plate: Path) -> None:
    before = last_run(plate.parent, ended=True)
    with recorded_command(plate, command="tomoscreen report P001.zarr"):
        pass
    assert last_run(plate.parent, ended=True) != before
    assert before is not None
    assert diff_runs(before, plate.parent) == []


def test_results_that_a_command_replaced_are_named_and_no_others(plate: Path) -> None:
    other = empty_plate(plate.with_name("P002.zarr"))
    fractions(other, 0.5)
    with recorded_command(other, command="tomoscreen analyse P002.zarr", analyses=True):
        pass
    with recorded_command(plate, command="tomoscreen analyse P001.zarr", analyses=True):
        fractions(plate, 0.75)
        fractions(other, 0.75)  # by another process
    replaced = [line["details"]["results"] for line in read_audit(plate.parent) if line["action"] == "results replaced"]
    assert replaced == [["P001.results.zarr/fractions"]]


def test_an_analysis_on_its_own_ends_the_exclusions_of_a_campaign_and_that_is_told(plate: Path) -> None:
    line = "P001,B01,,,pipetting,EM,2026-03-15"
    file = last_run(plate.parent, ended=True)
    assert file is not None
    write_sealed(file, {**read_run(file), "exclusions": {"path": "x.csv", "sha256": "", "lines": [line]}})
    with recorded_command(plate, command="tomoscreen report P001.zarr"):
        pass
    assert "exclusions changed" not in actions(plate.parent)
    with recorded_command(plate, command="tomoscreen analyse P001.zarr", analyses=True):
        pass
    (told,) = [one for one in read_audit(plate.parent) if one["action"] == "exclusions changed"]
    assert told["details"]["gone"] == [line]
    assert read_run(plate.parent)["settings"]["analysis"]["exclusions"] is None


def test_a_command_that_fails_has_its_exit_code_and_words(plate: Path) -> None:
    with pytest.raises(DeviceMemoryError), recorded_command(plate, **CLASSIFY):
        raise DeviceMemoryError("a single patch is too much")
    told = read_run(plate.parent)
    assert (told["exit_code"], told["error"]) == (104, "a single patch is too much")


def test_a_plate_that_is_not_there_gets_no_record(tmp_path: Path) -> None:
    with recorded_command(tmp_path / "none" / "P001.zarr", command="tomoscreen analyse none/P001.zarr") as record:
        assert record == {}
    assert list(tmp_path.iterdir()) == []


def test_a_record_does_not_vouch_for_damage_that_was_there_before(plate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flip_bit(plate.parent / "P001.html", byte=5)
    with recorded_command(plate, command="tomoscreen analyse P001.zarr", analyses=True):
        pass
    assert [found.file.name for found in verify([plate.parent]).bad] == ["P001.html"]
    # all hashed anew, as they lie there
    monkeypatch.setattr("screening.run_record.outputs_of", lambda out, _: outputs_of(out, []))
    with recorded_command(plate, command="tomoscreen analyse P001.zarr", analyses=True):
        pass
    assert verify([plate.parent]).bad == []


def test_a_page_that_others_wrote_anew_is_taken_as_it_is(plate: Path) -> None:
    (plate.parent / "P001.html").write_text("<p>0.50</p>")
    with recorded_command(plate, command="tomoscreen report P001.zarr"):
        pass
    assert verify([plate.parent]).bad == []


@pytest.mark.parametrize("protected", [True, False])
def test_two_that_write_the_trail_at_once_leave_one_chain(
    protected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits, once it has read the trail, a moment for the other to have read it too."""
    both = threading.Barrier(2)

    def meet() -> str:
        with suppress(threading.BrokenBarrierError):
            both.wait(timeout=0.5)
        return "somebody"

    monkeypatch.setattr(audit, "user", meet)
    if not protected:
        monkeypatch.setattr(audit, "_wait_for_others", lambda _: None)
    writers = [threading.Thread(target=note, args=(tmp_path, f"run {number}")) for number in range(2)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    assert sorted(actions(tmp_path)) == ["run 0", "run 1"]
    assert (broken_links(tmp_path) == []) == protected
