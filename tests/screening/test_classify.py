"""Classification of a plate: nothing twice, nothing lost, each unit in a region of its own."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from plates.errors import SettingsError, UnfinishedError, WorkerLostError
from plates.ingest.convert import ingest
from plates.ingest.units import progress_folder
from plates.layout import read_plate_map
from plates.results import read_result, result_attributes
from plates.store import Plate, open_plate
from screening import classify, regions
from screening.classify import classify_plate
from screening.regions import RUN
from screening.run_summary import RunSummary
from screening.units import Done, Job, Unit, classify_units


@pytest.fixture(scope="module")
def converted(acquisitions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plate of 16 wells and two timepoints, not classified; not to be changed."""
    out = tmp_path_factory.mktemp("converted") / "P001.zarr"
    ingest(acquisitions / "P001", out=out, plate_map=read_plate_map(acquisitions / "P001.csv"))
    return out


@pytest.fixture
def plate(converted: Path, tmp_path: Path) -> Plate:
    """A copy of that plate which the test may change."""
    folder = tmp_path / "plate"
    shutil.copytree(converted.parent, folder)
    return open_plate(folder / converted.name)


def probabilities(path: Path) -> xr.Dataset:
    """What is stored, without who made it."""
    stored = read_result(path, "probabilities")
    del stored.attrs["provenance"]
    return stored


def test_a_second_run_does_nothing_and_the_numbers_stay(plate: Plate, classifier: Path) -> None:
    first = classify_plate(plate.path, classifier=classifier)
    assert (first.done, first.skipped, first.frames) == (32, 0, 32)
    stored = probabilities(plate.path)
    assert stored.sizes == {"well": 16, "field": 1, "timepoint": 2, "py": 2, "px": 2, "state": 5}
    assert (stored["status"] == 1).all()
    assert stored["probability"].sum("state").where(stored["foreground"] > 0.05).notnull().any()
    files = {file: file.stat().st_mtime_ns for file in plate.path.parent.rglob("*") if file.is_file()}
    second = classify_plate(plate.path, classifier=classifier)
    assert (second.done, second.skipped) == (0, 32)
    assert {file: file.stat().st_mtime_ns for file in files} == files
    xr.testing.assert_identical(probabilities(plate.path), stored)


def test_other_weights_and_other_settings_are_done_again_and_say_why(
    plate: Plate, classifier: Path, tmp_path: Path
) -> None:
    import torch

    from models.classifier import Card, build_classifier, save_classifier

    classify_plate(plate.path, classifier=classifier)
    torch.manual_seed(4)
    card = Card(name="another", architecture="resnet18", trained_on="nothing")
    save_classifier(build_classifier(card), tmp_path / "another")
    assert classify_plate(plate.path, classifier=tmp_path / "another").reasons == {"another classifier": 32}
    assert result_attributes(plate.path, "probabilities")["classifier"] == "another"
    finer = classify_plate(plate.path, classifier=tmp_path / "another", vote="majority")
    assert finer.reasons == {"other settings or version": 32}


def test_a_changed_image_is_done_again_alone(plate: Plate, classifier: Path) -> None:
    classify_plate(plate.path, classifier=classifier)
    before = probabilities(plate.path)
    well = plate.wells[2]
    plate.write_field(well, field=0, timepoint=1, volume=plate.volume(plate.wells[5], field=0, timepoint=1))
    summary = classify_plate(plate.path, classifier=classifier)
    assert (summary.done, summary.skipped, summary.reasons) == (1, 31, {"its images changed": 1})
    after = probabilities(plate.path)
    same = after["probability"].equals(before["probability"])
    assert not same
    others = [name for name in plate.wells if name != well]
    xr.testing.assert_identical(after["probability"].sel(well=others), before["probability"].sel(well=others))
    xr.testing.assert_identical(after["probability"].sel(well=well)[:, 0], before["probability"].sel(well=well)[:, 0])


def test_a_plate_that_grows_computes_what_is_new_and_ends_as_if_it_had_always_been_whole(
    acquisitions: Path, classifier: Path, converted: Path, tmp_path: Path
) -> None:
    plate_map = read_plate_map(acquisitions / "P001.csv")
    landing, out = tmp_path / "landing", tmp_path / "grown" / "P001.zarr"
    landing.mkdir()
    files = sorted((acquisitions / "P001").iterdir())
    early = files[1::2]  # wells between which others come to lie
    for file in early:
        (landing / file.name).symlink_to(file)
    ingest(landing, out=out, plate_map=plate_map, allow_unmatched=True)
    assert classify_plate(out, classifier=classifier).done == 2 * len(early)
    for file in files[::2]:
        (landing / file.name).symlink_to(file)
    ingest(landing, out=out, plate_map=plate_map, allow_unmatched=True)
    grown = classify_plate(out, classifier=classifier)
    assert (grown.done, grown.skipped) == (2 * len(files[::2]), 2 * len(early))
    whole = tmp_path / "whole"
    shutil.copytree(converted.parent, whole)
    classify_plate(whole / converted.name, classifier=classifier)
    xr.testing.assert_identical(probabilities(out), probabilities(whole / converted.name))


def test_a_chunk_that_is_lost_is_made_again(plate: Plate, classifier: Path) -> None:
    classify_plate(plate.path, classifier=classifier)
    stored = probabilities(plate.path)
    lost = next((regions.work_folder(plate.path) / "work.zarr" / "foreground" / "c").rglob("0"))
    lost = next(file for file in lost.parent.rglob("*") if file.is_file())
    lost.unlink()
    assert classify_plate(plate.path, classifier=classifier).done == 2
    xr.testing.assert_identical(probabilities(plate.path), stored)


def test_the_published_result_does_not_change_while_a_later_run_is_under_way(plate: Plate, classifier: Path) -> None:
    classify_plate(plate.path, classifier=classifier)
    stored = probabilities(plate.path)
    folder = regions.work_folder(plate.path)
    place = (plate.wells[0], 0, 0)
    record = regions.read_record(folder, place)
    assert record is not None
    values = {name: np.zeros_like(value) for name, value in regions.read_region(folder, place, timepoints=2).items()}
    regions.write_region(folder, place, values, record)
    xr.testing.assert_identical(probabilities(plate.path), stored)
    assert not regions.read_region(folder, place, timepoints=2)["probability"].any()


def test_a_unit_that_ends_its_workers_is_set_aside_and_its_neighbours_are_kept(
    plate: Plate, classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = plate.wells[4]

    def dying(function: Any, units: Sequence[tuple[Job, list[Unit]]], *, client: Any, places: Any) -> Iterator[Any]:
        for job, task in units:
            lost = any(unit.well == poison for unit in task)
            yield (job, task), WorkerLostError("it ended every worker that tried it.") if lost else function(job, task)

    monkeypatch.setattr(classify, "map_units", dying)
    with pytest.raises(UnfinishedError, match=f"{poison} field 0: it ended every worker"):
        classify_plate(plate.path, classifier=classifier)
    stored = probabilities(plate.path)
    assert (stored["status"].sel(well=poison) == 2).all()
    assert (stored["status"].drop_sel(well=poison) == 1).all()
    monkeypatch.undo()
    assert classify_plate(plate.path, classifier=classifier).done == 2
    assert (probabilities(plate.path)["status"] == 1).all()


def test_a_volume_that_cannot_be_read_leaves_a_note_until_it_can(plate: Plate, classifier: Path) -> None:
    well = plate.wells[1]
    file = next(path for path in plate.field_files(well, field=0, timepoint=0) if plate.mip_path in path.parents)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(UnfinishedError, match=f"1 of 32 timepoints of fields.*{well} field 0 timepoint 0"):
        classify_plate(plate.path, classifier=classifier)
    notes = list(regions.work_folder(plate.path).rglob("*.failed.txt"))
    assert [note.name.split("_")[0] for note in notes] == [well]
    file.write_bytes(content)
    assert classify_plate(plate.path, classifier=classifier).done == 1
    assert not list(regions.work_folder(plate.path).rglob("*.failed.txt"))


def test_units_run_over_eight_timepoints_and_a_later_one_leaves_the_first_run_alone(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    regions.prepare(folder, fields=1, timepoints=RUN, grid=(2, 3))
    shapes = {"probability": (2, 3, 5), "foreground": (2, 3), "outlier": (2, 3)}
    record = regions.Record("c", "s", {0: "a"}, {0: 1}, 6, 0, 0, 0)
    first = {name: np.full((RUN, *shape), 1, np.float32) for name, shape in shapes.items()}
    regions.write_region(folder, ("B02", 0, 0), first, record)
    regions.prepare(folder, fields=2, timepoints=RUN + 1, grid=(2, 3))
    second = {name: np.full((1, *shape), 2, np.float32) for name, shape in shapes.items()}
    regions.write_region(folder, ("B02", 0, 1), second, record)
    for run, length, value in ((0, RUN, 1), (1, 1, 2)):
        found = regions.read_region(folder, ("B02", 0, run), timepoints=length)
        assert all((array == value).all() for array in found.values())
        kept = regions.read_record(folder, ("B02", 0, run))
        assert kept is not None
        assert len(kept.files) == 3
        assert replace(kept, files={}) == record
    regions.prepare(folder, fields=2, timepoints=RUN + 1, grid=(4, 6))
    assert regions.read_record(folder, ("B02", 0, 0)) is None


def test_a_damaged_record_is_none(tmp_path: Path) -> None:
    regions.prepare(tmp_path, fields=1, timepoints=1, grid=(1, 1))
    values = {
        name: np.zeros((1, 1, 1, 5) if name == "probability" else (1, 1, 1), np.float32) for name in regions.MEANINGS
    }
    regions.write_region(tmp_path, ("A01", 0, 0), values, regions.Record("c", "s", {}, {}, 0, 0, 0, 0))
    assert regions.read_record(tmp_path, ("A01", 0, 0)) is not None
    file = next((tmp_path / "units").glob("*.json"))
    for content in ("", "{", "[]", '{"classifier": "c"}'):
        file.write_text(content)
        assert regions.read_record(tmp_path, ("A01", 0, 0)) is None


def test_the_summary_says_where_the_time_went() -> None:
    summary = RunSummary(plate="P001", classifier="c", frames=4, skipped=1, workers=2)
    timing = {
        "reading_s": 1.0, "waiting_s": 0.5, "preparing_s": 0.5, "computing_s": 8.0,
        "patches": 900, "fields": 3, "peak_device_bytes": 0,
    }  # fmt: skip
    summary.add(
        Done(
            frames=2, worked_s=5.0, writing_s=1.0, write_wait_s=0.25, timing=timing, peak_bytes=1_000_000_000, host="a"
        )
    )
    summary.add(Done(frames=1, worked_s=5.0, writing_s=1.0, write_wait_s=0.25, peak_bytes=2_000_000_000, host="b"))
    summary.wall_s = 9.0
    assert summary.efficiency == pytest.approx(0.8)
    told = "\n".join(summary.lines())
    for part in ("3 fields and timepoints classified by c, 1 done", "900 patches", "100 patches/s with 2 workers",
                 "network 80%", "preparing 5%", "waiting for images 5%", "to write 5%",
                 "writing 20%", "2.0 GB"):  # fmt: skip
        assert part in told
    assert summary.as_dict()["hosts"] == ["a", "b"]


def test_a_field_that_was_never_converted_is_missing_and_not_a_failure(plate: Plate, classifier: Path) -> None:
    for file in plate.field_files(plate.wells[7], field=0, timepoint=1):
        file.unlink()
    (progress_folder(plate.path) / plate.wells[7] / "0_1.json").unlink()
    summary = classify_plate(plate.path, classifier=classifier)
    assert not summary.failures
    assert probabilities(plate.path)["status"].sel(well=plate.wells[7], field=0).values.tolist() == [1, 3]


def test_a_task_tells_its_time_and_its_memory(plate: Plate, classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Done] = []

    def watched(job: Job, units: Sequence[Unit]) -> Done:
        told.append(classify_units(job, units))
        return told[-1]

    monkeypatch.setattr(classify, "classify_units", watched)
    classify_plate(plate.path, classifier=classifier)
    assert sum(done.frames for done in told) == 32
    assert all(
        0 < done.timing["computing_s"] + done.timing["preparing_s"] + done.write_wait_s <= done.worked_s
        for done in told
    )
    assert all(done.peak_bytes > 1e7 for done in told)


def test_dense_mode_is_refused_where_it_gives_other_numbers(
    plate: Plate, classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match="at least 300 are needed"):
        classify_plate(plate.path, classifier=classifier, mode="dense")
    monkeypatch.setattr("models.dense.LEAST_WINDOWS", 10)
    with pytest.raises(SettingsError, match="Dense mode is not the same as exact windows"):
        classify_plate(plate.path, classifier=classifier, mode="dense")
    monkeypatch.setattr("models.dense.check_dense", lambda *args, **options: None)
    classify_plate(plate.path, classifier=classifier, mode="dense")
    dense = probabilities(plate.path)
    assert dense.attrs["mode"] == "dense"
    exact = classify_plate(plate.path, classifier=classifier)
    assert exact.reasons == {"other settings or version": 32}
    assert float(abs(probabilities(plate.path)["probability"] - dense["probability"]).max()) > 0.001
