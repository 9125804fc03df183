"""A plate in an object store: the same as on a disk, over a real S3 protocol."""

import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from plates.errors import SettingsError, StoreError
from plates.files import location
from plates.ingest.convert import ingest, last_summary
from plates.results import has_result, read_result
from plates.store import open_plate

from .acquisitions import tomogram, write_folder, write_one

BUCKET = "s3://campaign/2026"


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    pytest.importorskip("s3fs", reason="needs the extra tomoscreen[s3]")
    server = pytest.importorskip("moto.server", reason="needs moto, which speaks S3 on this machine")
    import boto3

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    keys = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in keys.items():
            patch.setenv(name, value)
        running.start()
        try:
            boto3.client("s3").create_bucket(Bucket="campaign")
            yield BUCKET
        finally:
            running.stop()


def files_of(place: Path) -> dict[str, bytes]:
    root = str(place)
    return {str(file)[len(root) :]: file.read_bytes() for file in place.rglob("*") if file.is_file()}


def test_a_plate_in_a_bucket_holds_the_same_files_as_on_a_disk(bucket: str, tmp_path: Path) -> None:
    truth = write_folder(tmp_path / "raw", wells=["A01", "B02"])
    plate = ingest(tmp_path / "raw", out=f"{bucket}/P1.zarr")
    local = ingest(tmp_path / "raw", out=tmp_path / "P1.zarr")
    for name in ("P1.zarr", "P1_mip.zarr"):
        assert files_of(location(f"{bucket}/{name}")) == files_of(tmp_path / name)
    again = open_plate(location(f"{bucket}/P1.zarr"))
    assert again == plate
    for (well, field, timepoint), frame in truth.items():
        np.testing.assert_array_equal(again.volume(well, field=field, timepoint=timepoint), frame)
        np.testing.assert_array_equal(again.projection(well, field=field, timepoint=timepoint), frame.max(axis=0))
    for result in ("fields", "sources"):
        assert read_result(plate.path, result).equals(read_result(local.path, result))


def test_a_second_run_converts_only_what_changed_or_was_lost(bucket: str, tmp_path: Path) -> None:
    truth = write_folder(tmp_path / "raw", wells=["A01", "B02"])
    place = f"{bucket}/second/P1.zarr"
    plate = ingest(tmp_path / "raw", out=place)
    ingest(tmp_path / "raw", out=place)
    assert (last_summary(plate.path).converted, last_summary(plate.path).skipped) == (0, 8)
    plate.field_files("A01", field=0, timepoint=1)[0].unlink()
    with pytest.raises(StoreError, match="A01, field 0, timepoint 1: never written"):
        plate.volume("A01", field=0, timepoint=1)
    changed = next((tmp_path / "raw").rglob("*.B2.T001P02.TCF"))
    write_one(changed, [tomogram(77), tomogram(78)])
    ingest(tmp_path / "raw", out=place)
    summary = last_summary(plate.path)
    assert (summary.converted, summary.skipped) == (3, 5)
    np.testing.assert_array_equal(plate.volume("A01", field=0, timepoint=1), truth["A01", 0, 1])
    np.testing.assert_array_equal(plate.volume("B02", field=1, timepoint=1), tomogram(78))


def test_a_result_is_replaced_and_its_root_comes_last(bucket: str, tmp_path: Path) -> None:
    write_folder(tmp_path / "raw", wells=["A01"], timepoints=1)
    plate = ingest(tmp_path / "raw", out=f"{bucket}/third/P1.zarr")
    before = read_result(plate.path, "fields")
    root = location(f"{bucket}/third/P1.results.zarr/fields/zarr.json")
    root.unlink()
    # as after an interruption: the other files are there, but there is no result
    assert not has_result(plate.path, "fields")
    ingest(tmp_path / "raw", out=f"{bucket}/third/P1.zarr")
    assert read_result(plate.path, "fields").equals(before)


def test_a_place_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"nowhere://bucket/P1\.zarr: this kind of place cannot be reached"):
        location("nowhere://bucket/P1.zarr")


def test_a_plain_path_stays_one() -> None:
    assert location("folder/P1.zarr") == Path("folder/P1.zarr")
