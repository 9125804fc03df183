"""One plate, file by file: places that move, files that grow, and files that `run` would refuse."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from plates.errors import StoreError
from plates.ingest.convert import ingest
from plates.layout import read_plate_map
from plates.results import read_result
from plates.simulation.acquisition import write_tcf
from plates.store import open_plate
from screening.arrivals import Arrivals
from screening.interim import InterimFields
from screening.landing import Landing
from screening.settings import PlateSettings

SHAPE = (4, 48, 48)
START = datetime(2026, 3, 2, 9, 0, 0)


def acquire(
    folder: Path, well: str, *, position: int = 1, frames: int = 1, minute: int = 0, shape: Sequence[int] = SHAPE
) -> Path:
    """Write an acquisition whose content depends on its name and frame alone."""
    recorded = START + timedelta(minutes=minute)
    name = f"{recorded:%y%m%d.%H%M%S}.screen.001.Group1.{well}.T001P{position:02d}.TCF"
    rng = np.random.default_rng([ord(well[0]), int(well[1:]), position])
    volumes = [(13370 + 200 * rng.random(tuple(shape))).astype(np.uint16) for _ in range(frames)]
    return write_tcf(
        folder / name,
        frames=volumes,
        voxel_um=(0.95, 0.16, 0.16),
        times_s=[3600.0 * frame for frame in range(frames)],
        medium_index=1.337,
        recording_time=recorded,
        well=well,
    )


@pytest.fixture
def plate(tmp_path: Path) -> PlateSettings:
    (tmp_path / "files").mkdir()
    rows = "".join(f"{well},DMSO,,negative\n" for well in ("A1", "A2", "A3"))
    (tmp_path / "map.csv").write_text("well,compound,dose,control\n" + rows)
    return PlateSettings(name="P1", acquisitions=tmp_path / "files", layout=tmp_path / "map.csv")


@pytest.fixture
def arrivals(plate: PlateSettings, tmp_path: Path) -> Arrivals:
    return start(plate, tmp_path)


def start(plate: PlateSettings, folder: Path) -> Arrivals:
    landing = Landing(plate.acquisitions, settle_s=0)
    return Arrivals(plate, out=folder / "P1.zarr", plate_map=read_plate_map(plate.layout), landing=landing)


def work(arrivals: Arrivals) -> list[tuple[str, int, int]]:
    """Take all that has landed; return the places that were converted, in order."""
    arrivals.landing.look()
    arrivals.plan()
    frames = list(arrivals.queue)
    for _, problem in arrivals.convert(frames, client=None, threads=1):
        assert problem == ""
    return [frame.place for frame in frames]


def assert_same_as_ingest(arrivals: Arrivals, folder: Path) -> None:
    """What was converted bit by bit is what `ingest` makes of the folder at once, and it finds nothing to do."""
    plate_map = read_plate_map(arrivals.settings.layout)
    options = {"plate_map": plate_map, "name": "P1", "allow_unmatched": True}
    whole = ingest(arrivals.settings.acquisitions, out=folder / "whole.zarr", **options)  # type: ignore[arg-type]
    marks = {file: file.stat().st_mtime_ns for file in arrivals.out.rglob("c/*") if file.is_file()}
    ingest(arrivals.settings.acquisitions, out=arrivals.out, **options)  # type: ignore[arg-type]
    assert marks == {file: file.stat().st_mtime_ns for file in marks}
    mine = open_plate(arrivals.out)
    assert (mine.wells, mine.fields, mine.timepoints, mine.hours) == (
        whole.wells,
        whole.fields,
        whole.timepoints,
        whole.hours,
    )
    for name in ("fields", "sources"):
        first, second = read_result(mine.path, name), read_result(whole.path, name)
        assert first.drop_attrs().identical(second.drop_attrs())
    for well in whole.wells:
        for field in range(whole.fields):
            for timepoint in range(whole.timepoints):
                place = {"field": field, "timepoint": timepoint}
                assert np.array_equal(mine.volume(well, **place), whole.volume(well, **place))


def test_newest_frames_come_first(plate: PlateSettings, arrivals: Arrivals) -> None:
    acquire(plate.acquisitions, "A1", minute=0, frames=2)
    acquire(plate.acquisitions, "A3", minute=2)
    acquire(plate.acquisitions, "A2", minute=1)
    assert work(arrivals) == [("A01", 0, 1), ("A03", 0, 0), ("A02", 0, 0), ("A01", 0, 0)]


def test_only_what_is_new_is_opened(plate: PlateSettings, arrivals: Arrivals, monkeypatch: pytest.MonkeyPatch) -> None:
    from plates.ingest import survey

    opened: list[str] = []
    read = survey.read_headers

    def counted(sources: Sequence[object]) -> object:
        opened.extend(source.well for source in sources)  # type: ignore[attr-defined]
        return read(sources)  # type: ignore[arg-type]

    monkeypatch.setattr("screening.opened_files.read_headers", counted)
    acquire(plate.acquisitions, "A1")
    work(arrivals)
    acquire(plate.acquisitions, "A2")
    work(arrivals)
    work(arrivals)
    assert opened == ["A01", "A02"]


def test_a_position_that_comes_late_moves_those_after_it(
    plate: PlateSettings, arrivals: Arrivals, tmp_path: Path
) -> None:
    for well in ("A1", "A2"):
        acquire(plate.acquisitions, well, position=2)
    assert work(arrivals) == [("A02", 0, 0), ("A01", 0, 0)]
    for well in ("A1", "A2"):
        acquire(plate.acquisitions, well, position=1)
    assert len(work(arrivals)) == 4
    assert_same_as_ingest(arrivals, tmp_path)


def test_a_position_that_comes_late_after_a_restart_moves_them_as_well(plate: PlateSettings, tmp_path: Path) -> None:
    acquire(plate.acquisitions, "A1", position=2)
    work(start(plate, tmp_path))
    acquire(plate.acquisitions, "A1", position=1)
    again = start(plate, tmp_path)
    assert len(work(again)) == 2
    assert_same_as_ingest(again, tmp_path)


def test_of_a_file_that_grows_only_the_new_frames_are_converted(
    plate: PlateSettings, arrivals: Arrivals, tmp_path: Path
) -> None:
    acquire(plate.acquisitions, "A1", frames=2)
    assert len(work(arrivals)) == 2
    acquire(plate.acquisitions, "A1", frames=3)
    assert work(arrivals) == [("A01", 0, 2)]
    assert arrivals.later == {("A01", 0, 0), ("A01", 0, 1)}
    acquire(plate.acquisitions, "A1", frames=4)
    assert work(start(plate, tmp_path)) == [("A01", 0, 3)]
    # the end makes sure of the others
    assert ingest(plate.acquisitions, out=arrivals.out, name="P1").timepoints == 4


def test_a_file_that_was_replaced_is_converted_again(plate: PlateSettings, arrivals: Arrivals, tmp_path: Path) -> None:
    file = acquire(plate.acquisitions, "A1")
    work(arrivals)
    other = acquire(tmp_path, "A2")
    file.write_bytes(other.read_bytes())
    assert work(arrivals) == [("A01", 0, 0)]
    assert_same_as_ingest(arrivals, tmp_path)


def test_a_truncated_file_waits_until_it_is_whole(plate: PlateSettings, arrivals: Arrivals, tmp_path: Path) -> None:
    acquire(plate.acquisitions, "A1")
    file = acquire(plate.acquisitions, "A2", minute=1)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert work(arrivals) == [("A01", 0, 0)]
    arrivals.plan()
    assert [(one.path, "cut short" in one.why) for one in arrivals.waiting] == [(file, True)]
    file.write_bytes(whole)
    assert work(arrivals) == [("A02", 0, 0)]
    arrivals.plan()
    assert arrivals.waiting == []
    assert_same_as_ingest(arrivals, tmp_path)


def test_what_run_would_refuse_waits_with_the_reason(plate: PlateSettings, arrivals: Arrivals) -> None:
    acquire(plate.acquisitions, "A1", minute=0)
    acquire(plate.acquisitions, "A2", minute=1, shape=(4, 48, 64))
    acquire(plate.acquisitions, "H9", minute=2)
    (plate.acquisitions / "a name that tells nothing.TCF").write_bytes(b"x")
    acquire(plate.acquisitions, "A3", minute=3)
    arrivals.landing.look()
    assert sorted(work(arrivals)) == [("A01", 0, 0), ("A03", 0, 0)]
    arrivals.plan()
    reasons = "\n".join(one.why for one in arrivals.waiting)
    assert len(arrivals.waiting) == 3
    assert "H09 is not in the plate map" in reasons
    assert "4 x 48 x 64 voxels" in reasons
    assert "does not say which well" in reasons


def test_another_plates_acquisitions_are_not_written_over(plate: PlateSettings, tmp_path: Path) -> None:
    file = acquire(plate.acquisitions, "A1")
    work(start(plate, tmp_path))
    file.unlink()
    acquire(plate.acquisitions, "A1", minute=7)
    with pytest.raises(StoreError, match="was converted from"):
        work(start(plate, tmp_path))


def test_a_manifest_may_list_files_that_have_not_come_yet(plate: PlateSettings, tmp_path: Path) -> None:
    table = tmp_path / "files.csv"
    table.write_text("path;well;field\nfirst.TCF;A1;0\nsecond.TCF;A2;0\n")
    arrivals = start(plate.model_copy(update={"manifest": table}), tmp_path)
    acquire(plate.acquisitions, "A1").rename(plate.acquisitions / "first.TCF")
    assert work(arrivals) == [("A01", 0, 0)]
    acquire(plate.acquisitions, "A2").rename(plate.acquisitions / "second.TCF")
    assert work(arrivals) == [("A02", 0, 0)]


def test_the_statistics_so_far_are_those_of_all_frames_converted(
    plate: PlateSettings, arrivals: Arrivals, tmp_path: Path
) -> None:
    fields: InterimFields | None = None
    for number, well in enumerate(("A2", "A1", "A3")):
        acquire(plate.acquisitions, well, frames=1 + number % 2, minute=number)
        places = work(arrivals)
        assert arrivals.plate is not None
        fields = fields or InterimFields(arrivals.plate)
        fields.update(arrivals.plate, arrivals.converted_headers(), changed={place[:2] for place in places})
    so_far = read_result(arrivals.out, "fields")
    whole = ingest(plate.acquisitions, out=tmp_path / "whole.zarr", plate_map=read_plate_map(plate.layout))
    expected = read_result(whole.path, "fields")
    assert so_far.drop_attrs().identical(expected.drop_attrs())
