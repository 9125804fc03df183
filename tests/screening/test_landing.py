"""Which files have landed: by what the polls see, whatever clocks and drives do."""

import os
from pathlib import Path

import pytest

from screening.landing import Landing, poll_seconds


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def landing(tmp_path: Path, clock: Clock) -> Landing:
    return Landing(tmp_path, settle_s=5, clock=clock)


def look(landing: Landing, clock: Clock, *, after: float) -> set[str]:
    clock.now += after
    landing.look()
    return {path.name for path in landing.landed()}


def test_a_file_lands_when_size_and_time_have_not_changed_for_the_settle_time(
    tmp_path: Path, landing: Landing, clock: Clock
) -> None:
    file = tmp_path / "one.TCF"
    file.write_bytes(b"half")
    assert look(landing, clock, after=1) == set()
    assert look(landing, clock, after=4.9) == set()
    file.write_bytes(b"half and half")  # written on: the time starts again
    assert look(landing, clock, after=0.2) == set()
    assert {path.name for path in landing.unsettled()} == {"one.TCF"}
    assert look(landing, clock, after=4.9) == set()
    assert look(landing, clock, after=0.2) == {"one.TCF"}


def test_content_of_the_same_size_that_was_written_anew_settles_anew(
    tmp_path: Path, landing: Landing, clock: Clock
) -> None:
    file = tmp_path / "one.TCF"
    file.write_bytes(b"zeros")
    look(landing, clock, after=1)
    assert look(landing, clock, after=6) == {"one.TCF"}
    file.write_bytes(b"ones!")
    os.utime(file, ns=(1, 1))
    assert look(landing, clock, after=6) == set()


@pytest.mark.parametrize("modified", [0, 1_000_000_000, 10_000_000_000])
def test_the_clock_of_the_drive_does_not_matter(tmp_path: Path, landing: Landing, clock: Clock, modified: int) -> None:
    file = tmp_path / "one.TCF"
    file.write_bytes(b"whole")
    os.utime(file, (modified, modified))  # 1970, 2001, 2286
    assert look(landing, clock, after=0) == set()
    assert look(landing, clock, after=5) == {"one.TCF"}


def test_what_cannot_be_listed_for_now_is_as_it_was(
    tmp_path: Path, landing: Landing, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "A1").mkdir()
    (tmp_path / "A1" / "one.TCF").write_bytes(b"whole")
    look(landing, clock, after=0)
    listed = os.scandir

    def gone(place: str) -> object:
        if place.endswith("A1"):
            raise OSError(112, "Host is down")
        return listed(place)

    monkeypatch.setattr(os, "scandir", gone)
    assert look(landing, clock, after=6) == {"one.TCF"}
    assert "Host is down" in landing.problem
    monkeypatch.setattr(os, "scandir", listed)
    assert look(landing, clock, after=1) == {"one.TCF"}
    assert landing.problem == ""


def test_a_file_under_a_temporary_name_lands_under_its_own(tmp_path: Path, landing: Landing, clock: Clock) -> None:
    for name in ("one.TCF.part", "two.tcf.crdownload", "three.partial", ".hidden.TCF", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert look(landing, clock, after=0) == set()
    assert look(landing, clock, after=9) == set()
    assert {path.name for path in landing.temporary()} == {"one.TCF.part", "two.tcf.crdownload", "three.partial"}
    (tmp_path / "one.TCF.part").rename(tmp_path / "one.TCF")
    look(landing, clock, after=1)
    assert look(landing, clock, after=5) == {"one.TCF"}


def test_an_ome_zarr_plate_lands_as_a_whole_and_links_in_circles_end(
    tmp_path: Path, landing: Landing, clock: Clock
) -> None:
    store = tmp_path / "plate.zarr" / "A" / "1"
    store.mkdir(parents=True)
    (store / "zarr.json").write_text("{}")
    (tmp_path / "around").symlink_to(tmp_path, target_is_directory=True)
    look(landing, clock, after=0)
    (store / "chunk").write_bytes(b"more")
    assert look(landing, clock, after=6) == set()
    assert look(landing, clock, after=6) == {"plate.zarr"}


def test_files_that_were_there_before_are_told_apart(tmp_path: Path, landing: Landing, clock: Clock) -> None:
    (tmp_path / "old.TCF").write_bytes(b"x")
    look(landing, clock, after=0)
    (tmp_path / "new.TCF").write_bytes(b"x")
    look(landing, clock, after=1)
    look(landing, clock, after=6)
    assert {path.name: seen.there_before for path, seen in landing.landed().items()} == {
        "old.TCF": True,
        "new.TCF": False,
    }


def test_polls_are_neither_idle_nor_a_burden() -> None:
    assert [poll_seconds(settle) for settle in (0.1, 5, 60)] == [0.2, 1, 5]
