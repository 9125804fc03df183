"""Storage that fails: asked again a few times, then 75, and the next run ends as an undisturbed one."""

import errno
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from plates import patience
from plates.errors import AcquisitionError, LockedError, StoreError, UnfinishedError
from plates.ingest.convert import ingest
from plates.ingest.opening import open_source
from plates.ingest.units import work_on
from plates.layout import read_plate_map
from plates.mapping import map_units
from plates.patience import fault_of, in_words, is_away, is_of_storage, patiently
from plates.results import read_result
from plates.store import open_plate
from screening.classify import classify_plate
from tests.faults.fault_store import NUMBERS, FaultyDisk
from tests.faults.small_plate import SmallCampaign, write_small_campaign

# zarr leaves requests beside the one that failed unasked
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PAUSES_S", (0.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> SmallCampaign:
    return write_small_campaign(tmp_path_factory.mktemp("campaign"), wells=("A01", "A02"), frames=2)


def convert(campaign: SmallCampaign, out: Path) -> None:
    ingest(campaign.acquisitions["P001"], out=out, plate_map=read_plate_map(campaign.layouts["P001"]))


def classify(campaign: SmallCampaign, out: Path) -> None:
    classify_plate(out, classifier=campaign.classifier, batch=4, device="cpu")


@pytest.fixture(scope="module")
def calm(campaign: SmallCampaign, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plate made on a disk in order: converted, then classified."""
    out = tmp_path_factory.mktemp("calm") / "P001.zarr"
    convert(campaign, out)
    shutil.copytree(out.parent, out.parent.with_name("converted"))
    classify(campaign, out)
    return out


def check_same(out: Path, calm: Path, *names: str) -> None:
    one, other = open_plate(out), open_plate(calm)
    for well in other.wells:
        for timepoint in range(other.timepoints):
            place = {"field": 0, "timepoint": timepoint}
            np.testing.assert_array_equal(one.volume(well, **place), other.volume(well, **place))
            if "probabilities" in names:
                np.testing.assert_array_equal(one.classes(well, **place), other.classes(well, **place))
    for name in names:
        found, expected = read_result(out, name), read_result(calm, name)
        for dataset in (found, expected):
            dataset.attrs.pop("provenance")
        xr.testing.assert_identical(found, expected)


def outcome(work: Callable[[], None]) -> int | None:
    """The system's number of what ended a piece of work."""
    try:
        work()
    except (OSError, StoreError) as error:
        return fault_of(error)
    return None


def operations(work: Callable[[], None], folder: Path) -> int:
    """How often a piece of work asks the disk."""
    with FaultyDisk(folder, number=0, at=1 << 30).failing() as disk:
        work()
    return disk.operations


def convert_on(disk: FaultyDisk, campaign: SmallCampaign, out: Path) -> None:
    """Convert while a disk fails in the units of work."""
    with pytest.MonkeyPatch.context() as patch, disk.failing():
        patch.setattr("plates.ingest.convert.work_on", disk.within(work_on))
        convert(campaign, out)


@pytest.mark.parametrize("name", NUMBERS)
def test_a_drive_that_is_away_for_a_moment_costs_nothing(
    name: str, campaign: SmallCampaign, calm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = FaultyDisk(tmp_path, number=0, at=1 << 30)
    convert_on(counting, campaign, tmp_path / "count" / "P001.zarr")
    draw = np.random.default_rng(len(name))
    places = draw.integers(0, counting.operations - 4, 6).tolist()
    for place in places:
        out = tmp_path / str(place) / "P001.zarr"
        disk = FaultyDisk(out.parent, number=NUMBERS[name], at=place, times=2)
        convert_on(disk, campaign, out)
        assert disk.failures == 2
        check_same(out, calm, "fields")
    # without patience the first of them ends the run, or costs a file
    monkeypatch.setattr(patience, "PAUSES_S", ())
    with pytest.raises((OSError, UnfinishedError)):
        convert_on(FaultyDisk(tmp_path, number=NUMBERS[name], at=places[0]), campaign, tmp_path / "off" / "P001.zarr")


@pytest.mark.parametrize("name", ["ESTALE", "ETIMEDOUT"])
def test_a_drive_that_stays_away_ends_the_run_and_the_next_one_goes_on(
    name: str, campaign: SmallCampaign, calm: Path, tmp_path: Path
) -> None:
    draw = np.random.default_rng(7)
    asked = operations(lambda: convert(campaign, tmp_path / "count" / "P001.zarr"), tmp_path / "count")
    failed = 0
    for place in sorted(draw.integers(0, asked, 6).tolist()):
        out = tmp_path / str(place) / "P001.zarr"
        with FaultyDisk(out.parent, number=NUMBERS[name], at=place, times=float("inf")).failing():
            failed += outcome(partial(convert, campaign, out)) == NUMBERS[name]
        convert(campaign, out)
        check_same(out, calm, "fields")
    assert failed >= 5


def test_a_drive_that_leaves_while_fields_are_classified_fails_no_field_for_good(
    campaign: SmallCampaign, calm: Path, tmp_path: Path
) -> None:
    start = calm.parent.with_name("converted")
    shutil.copytree(start, tmp_path / "count")
    asked = operations(lambda: classify(campaign, tmp_path / "count" / "P001.zarr"), tmp_path / "count")
    ended = 0
    for place in (asked // 4, asked // 2, 3 * asked // 4):
        out = tmp_path / str(place) / "P001.zarr"
        shutil.copytree(start, out.parent)
        with FaultyDisk(out.parent, number=errno.ESTALE, at=place, times=float("inf")).failing():
            # not UnfinishedError: that would be fields that cannot be read
            ended += outcome(partial(classify, campaign, out)) == errno.ESTALE
        classify(campaign, out)
        check_same(out, calm, "probabilities")
    assert ended >= 2


def test_without_patience_one_moment_ends_a_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def unit(number: int) -> int:
        tries.append(number)
        if len(tries) == 1:
            raise OSError(errno.ESTALE, "Stale file handle")
        return number

    assert [outcome for _, outcome in map_units(unit, [(5,)])] == [5]
    tries.clear()
    monkeypatch.setattr(patience, "PAUSES_S", ())
    ((_, outcome),) = map_units(unit, [(5,)])
    assert isinstance(outcome, OSError)


def test_patience_has_an_end_and_is_for_storage_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[Exception] = []
    slept: list[float] = []

    def failing(error: Exception) -> None:
        tries.append(error)
        raise error

    monkeypatch.setattr(patience, "PAUSES_S", (1.0, 4.0, 15.0))
    monkeypatch.setattr("plates.patience.time.sleep", slept.append)
    with pytest.raises(TimeoutError):
        patiently(failing, TimeoutError("the drive"))
    assert (len(tries), slept) == (4, [1.0, 4.0, 15.0])
    for error in (OSError(errno.ENOSPC, "full"), ValueError("x"), FileNotFoundError(2, "none"), LockedError("held")):
        tries.clear()
        with pytest.raises(type(error)):
            patiently(failing, error)
        assert len(tries) == 1


def test_what_a_reader_wrapped_is_known_by_its_cause_and_a_bad_sector_is_a_files_own() -> None:
    def wrapped(cause: Exception) -> Exception:
        error = AcquisitionError("cannot be read")
        error.__cause__ = cause
        return error

    hdf5 = OSError("Can't synchronously read data (file read failed: errno = 116, error message = 'Stale')")
    assert is_away(wrapped(hdf5))
    assert is_of_storage(wrapped(hdf5))
    assert is_away(wrapped(OSError(errno.EIO, "bad")))
    assert not is_of_storage(wrapped(OSError(errno.EIO, "bad")))
    assert not is_away(wrapped(ValueError("no number")))
    assert not is_of_storage(AcquisitionError("errno = 116 in a name is no fault"))


def test_an_object_store_that_is_busy_is_waited_for() -> None:
    exceptions = pytest.importorskip("botocore.exceptions", reason="needs the extra tomoscreen[s3]")
    answer = {"Error": {"Code": "503", "Message": "Slow Down"}, "ResponseMetadata": {"HTTPStatusCode": 503}}
    busy = exceptions.ClientError(answer, "PutObject")
    tries = []

    def put() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise busy
        return "stored"

    assert patiently(put) == "stored"


def test_a_well_that_may_not_be_read_is_named_and_the_others_are_done(
    campaign: SmallCampaign, calm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = campaign.tcf("A02")

    def open_(source: Any) -> Any:
        if source.path == denied:
            raise PermissionError(errno.EACCES, "Permission denied", str(denied))
        return open_source(source)

    out = tmp_path / "P001.zarr"
    with monkeypatch.context() as patch:
        patch.setattr("plates.ingest.units.open_source", open_)
        with pytest.raises(UnfinishedError, match=f"(?s)1 of 2 files.*{denied.name}.*Permission denied"):
            convert(campaign, out)
    plate = open_plate(out)
    np.testing.assert_array_equal(plate.volume("A01", field=0, timepoint=1), campaign.truth["P001", "A01", 0, 1])
    convert(campaign, out)
    check_same(out, calm, "fields")


def test_a_read_only_output_is_told_with_what_to_do(campaign: SmallCampaign, tmp_path: Path) -> None:
    out = tmp_path / "P001.zarr"
    disk = FaultyDisk(tmp_path, number=errno.EROFS, at=0, times=float("inf"))
    with disk.failing(), pytest.raises(OSError, match="Read-only") as told:
        convert(campaign, out)
    assert told.value.errno == errno.EROFS
    assert "Read-only file system" in in_words(told.value)
    assert "give another output" in in_words(told.value)
