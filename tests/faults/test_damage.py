"""Bits flipped, files cut short, emptied or lost: found, named by their place, made again, and never read as data."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from plates.errors import StoreError
from plates.ingest import convert
from plates.integrity import read_sealed, seal_broken, write_sealed
from plates.layout import read_plate_map
from plates.results import read_result, write_result
from plates.store import open_plate
from screening import regions
from screening.classify import classify_plate
from screening.pipeline import run
from screening.repair import repair
from screening.settings import read_settings
from screening.status import status
from screening.verify import verify

from .harm import assert_same_plate, assert_same_results, flip_bit, truncate
from .small_plate import SmallCampaign

PLACE: dict[str, Any] = {"field": 0, "timepoint": 1}


def shard_of(campaign: SmallCampaign, well: str = "B01") -> Path:
    return open_plate(campaign.store()).field_files(well, **PLACE)[0]


def test_a_finished_campaign_has_nothing_wrong_and_nothing_to_do(finished: SmallCampaign) -> None:
    found = verify([finished.out, finished.classifier], inputs=True)
    assert found.findings == []
    assert found.files > 1000
    stages = status(finished.out)
    assert {stage.name for stage in stages} == {"convert", "classify", "analyse", "report", "combine"}
    assert sum(stage.waiting for stage in stages) == 0
    assert repair(finished.out, dry_run=True) == []


# rows 2 and 4: cut short, empty, lost


@pytest.mark.parametrize("harm", ["half", "empty", "lost"])
def test_a_torn_shard_is_made_again_by_the_next_run(campaign: SmallCampaign, harm: str) -> None:
    shard = shard_of(campaign)
    if harm == "lost":
        shard.unlink()
    else:
        truncate(shard, shard.stat().st_size // 2 if harm == "half" else 0)
    with pytest.raises(StoreError, match="well B01, field 0, timepoint 1"):
        open_plate(campaign.store()).volume("B01", **PLACE)
    (bad,) = verify([campaign.store()]).bad
    assert (bad.plate, bad.well, bad.field, bad.timepoint) == (campaign.store(), "B01", 0, 1)
    (converted,) = [stage for stage in status(campaign.store()) if stage.name == "convert"]
    assert (converted.done, converted.damaged) == (11, 1)
    plate = ingest(campaign)
    assert convert.last_summary(plate.path).converted == 1
    np.testing.assert_array_equal(plate.volume("B01", **PLACE), campaign.truth["P001", "B01", 0, 1])


def test_without_the_check_of_sizes_a_torn_shard_stays_torn(
    campaign: SmallCampaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    truncate(shard_of(campaign), 1000)
    monkeypatch.setattr(convert, "why_convert", lambda *_, **__: None)
    plate = ingest(campaign)
    with pytest.raises(StoreError, match="damaged"):
        plate.volume("B01", **PLACE)


def test_a_lost_shard_reads_as_zeros_to_those_who_do_not_look(campaign: SmallCampaign) -> None:
    import zarr

    shard_of(campaign).unlink()
    assert not np.asarray(zarr.open_array(campaign.store() / "B/1/0/0", mode="r")[1]).any()
    with pytest.raises(StoreError, match="its file was lost"):
        open_plate(campaign.store()).volume("B01", **PLACE)


def test_a_field_whose_projection_was_lost_fails_by_name_and_is_not_called_missing(
    campaign: SmallCampaign,
) -> None:
    plate = open_plate(campaign.store())
    lost = plate.field_files("B01", **PLACE)[2]  # the projection that the network reads
    lost.unlink()
    with pytest.raises(Exception, match=r"B01 field 0 timepoint 1.*its file was lost"):
        classify_plate(campaign.store(), classifier=campaign.classifier, batch=8)


# row 3: one bit


def test_a_flipped_bit_in_a_tomogram_raises_is_found_and_repaired(
    campaign: SmallCampaign, finished: SmallCampaign
) -> None:
    shard = shard_of(campaign)
    flip_bit(shard, byte=shard.stat().st_size // 2)
    with pytest.raises(StoreError, match="well B01, field 0, timepoint 1: damaged"):
        open_plate(campaign.store()).volume("B01", **PLACE)
    (bad,) = verify([campaign.out]).bad
    assert (bad.well, bad.field, bad.timepoint, bad.kind) == ("B01", 0, 1, "damaged")
    told = repair(campaign.out, dry_run=True)
    assert len(told) == 1
    assert shard.exists()
    assert repair(campaign.out) == told
    assert not shard.exists()
    run(read_settings(campaign.settings))
    assert verify([campaign.store()]).bad == []
    assert_same_plate(campaign.store(), finished.store())


@pytest.mark.parametrize("result", ["probabilities", "layout"])
def test_a_flipped_bit_in_a_result_is_never_read(campaign: SmallCampaign, finished: SmallCampaign, result: str) -> None:
    store = campaign.out / "P001.results.zarr"
    chunks = (file for file in (store / result).rglob("c/**/*") if file.is_file())
    chunk = max(chunks, key=lambda file: file.stat().st_size)
    flip_bit(chunk, byte=chunk.stat().st_size // 2, bit=3)
    with pytest.raises(StoreError, match=f"result '{result}' is damaged"):
        read_result(store, result)
    bad = verify([campaign.out]).bad
    assert any(found.result == result for found in bad)
    assert repair(campaign.out)
    run(read_settings(campaign.settings))
    assert verify([campaign.store()]).bad == []
    assert_same_results(campaign.store(), finished.store())


def test_without_checksums_a_flipped_bit_is_a_number_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = xr.Dataset({"ec50": ("compound", np.array([0.5, 2.0, 8.0]))})

    def harmed(path: Path) -> Path:
        write_result(path, "ranking", numbers, provenance={})
        chunk = path.with_name("P001.results.zarr") / "ranking" / "ec50" / "c" / "0"
        flip_bit(chunk, byte=6, bit=4)
        return path

    with pytest.raises(StoreError, match="damaged"):
        read_result(harmed(tmp_path / "with" / "P001.zarr"), "ranking")
    monkeypatch.setattr("plates.results._vouch", lambda _: None)
    monkeypatch.setattr("plates.results._encoding", lambda dataset: {n: {"compressors": ()} for n in dataset.variables})
    found = read_result(harmed(tmp_path / "without" / "P001.zarr"), "ranking")["ec50"].to_numpy()
    assert found[0] != 0.5  # wrong, and nobody says so


def test_a_lost_chunk_of_a_result_is_no_missing_value(campaign: SmallCampaign, monkeypatch: pytest.MonkeyPatch) -> None:
    store = campaign.out / "P001.results.zarr"
    shutil.rmtree(store / "fractions" / "fraction" / "c")
    with pytest.raises(StoreError, match=r"fraction/c.* is missing"):
        read_result(store, "fractions")
    (bad,) = {found.result for found in verify([store]).bad}
    assert bad == "fractions"
    monkeypatch.setattr("plates.results.checksums", lambda *_: {})
    assert np.isnan(read_result(store, "fractions")["fraction"]).all()  # what it would be without the list


def test_damaged_metadata_are_found_and_written_again(campaign: SmallCampaign, finished: SmallCampaign) -> None:
    store = campaign.store()
    for name in ("B/1/0/0/zarr.json", "B/zarr.json", "A/2/0/zarr.json"):
        flip_bit(store / name, byte=40)
    (store.with_name("P001_mip.zarr") / "A/1/0/labels/states/1/zarr.json").unlink()
    # a digit of the voxel size: another number, and still JSON
    root = (store / "zarr.json").read_text()
    (store / "zarr.json").write_text(root.replace("0.16", "0.17", 1))
    with pytest.raises(StoreError, match="altered after it was written"):
        open_plate(store)
    assert "zarr.json" in {found.file.name for found in verify([campaign.out]).bad}
    for _ in range(2):  # the root first: without it nobody knows what else there should be
        assert repair(campaign.out)
    assert verify([campaign.out]).bad == []
    assert (store / "zarr.json").read_text() == root
    assert_same_plate(store, finished.store())


def test_a_record_that_was_altered_vouches_for_nothing(campaign: SmallCampaign) -> None:
    marker = campaign.store().with_name("P001.zarr.progress") / "A01" / "0_0.json"
    text = marker.read_text()
    medium = text.index('"medium_index"') + len('"medium_index": 1.')
    flip_bit(marker, byte=medium)
    assert marker.read_text() != text
    (bad,) = verify([campaign.store()]).bad
    assert (bad.well, bad.timepoint) == ("A01", 0)
    plate = ingest(campaign)
    assert dict(convert.last_summary(plate.path).recomputed).popitem()[1] == "its record of completion is damaged"


def test_a_seal_shows_every_single_flipped_bit(tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    write_sealed(file, {"fingerprint": {"size": 12}, "statistics": {"medium_index": 1.337}})
    data = file.read_bytes()
    for byte in range(len(data)):
        for bit in range(8):
            flip_bit(file, byte=byte, bit=bit)
            assert seal_broken(file.read_bytes()) is not False
            file.write_bytes(data)
    for size in range(len(data)):
        assert seal_broken(data[:size]) is not False
    assert read_sealed(file)["fingerprint"] == {"size": 12}


@pytest.mark.parametrize("name", ["card.json", "weights.safetensors", "SHA256SUMS"])
def test_a_classifier_with_a_flipped_bit_is_found(finished: SmallCampaign, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "classifier"
    shutil.copytree(finished.classifier, folder)
    assert verify([folder]).bad == []
    flip_bit(folder / name, byte=(folder / name).stat().st_size // 3)
    assert verify([folder]).bad


# row 43: writes that a power loss took


def test_what_a_power_loss_emptied_is_made_again(campaign: SmallCampaign, finished: SmallCampaign) -> None:
    """The disk kept names and records, but not the bytes of what was written last."""
    plate = open_plate(campaign.store())
    for timepoint in range(3):
        for file in plate.field_files("B02", field=0, timepoint=timepoint):
            truncate(file, 0)
    work = regions.work_folder(campaign.store()) / "work.zarr"
    for name in regions.MEANINGS:
        last = sorted(file for file in (work / name / "c").rglob("*") if file.is_file())[-1]
        last.write_bytes(b"")  # also that of the result, which is a link to it
    for file in (campaign.out / "P001.results.zarr" / "fractions" / "fraction" / "c").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    run(read_settings(campaign.settings))
    assert verify([campaign.store()]).bad == []
    assert_same_plate(campaign.store(), finished.store())


def test_without_sizes_in_the_record_an_empty_chunk_counts_as_done(
    campaign: SmallCampaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = regions.work_folder(campaign.store())
    chunk = next(file for file in (folder / "work.zarr" / "outlier" / "c").rglob("*") if file.is_file())
    chunk.unlink()
    chunk.write_bytes(b"")
    records = [tuple(file.stem.split("_")) for file in (folder / "units").glob("*.json")]
    places = [(well, int(field), int(number)) for well, field, number in records]
    assert sum(regions.read_record(folder, place) is None for place in places) == 1
    sizes = {name: size for place in places for name, (size, _) in _files(folder, place).items()}
    monkeypatch.setattr(regions, "file_size", lambda file: sizes.get(_below(file, folder), file.stat().st_size))
    assert all(regions.read_record(folder, place) is not None for place in places)


def _files(folder: Path, place: tuple[str, int, int]) -> dict[str, Any]:
    return dict(read_sealed(folder / "units" / "{}_{}_{}.json".format(*place))["files"])


def _below(file: Path, folder: Path) -> str:
    return file.relative_to(folder / "work.zarr").as_posix() if "work.zarr" in file.parts else ""


def ingest(campaign: SmallCampaign) -> Any:
    return convert.ingest(
        campaign.acquisitions["P001"],
        out=campaign.store(),
        plate_map=read_plate_map(campaign.layouts["P001"]),
        name="P001",
    )
