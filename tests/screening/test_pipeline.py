"""The whole job: from TCF files to reports, resumed after a kill, the same for any number of workers."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from plates.errors import ClassifierError, PlateMapError, SettingsError, StoreError, UnfinishedError
from plates.results import read_result
from plates.store import open_plate
from screening.analyse import CAMPAIGN_RESULTS, PLATE_RESULTS, analyse_plate, require_current
from screening.classify import classify_plate
from screening.pipeline import Outcome, run
from screening.settings import AnalysisSettings, Settings, WorkerSettings, read_settings


def all_results(outcome: Outcome) -> dict[str, xr.Dataset]:
    """Every stored result of a campaign, without the record of who made it."""
    found = {}
    for name, path in outcome.plates.items():
        for result in ("layout", "fields", "probabilities", *PLATE_RESULTS):
            found[f"{name}/{result}"] = read_result(path, result)
    for result in CAMPAIGN_RESULTS:
        found[result] = read_result(outcome.campaign_results, result)
    for dataset in found.values():
        dataset.attrs.pop("provenance", None)
    # where a plate lies is no result
    found["plates"] = found["plates"].drop_vars("path", errors="ignore")
    return found


def assert_same(first: dict[str, xr.Dataset], second: dict[str, xr.Dataset]) -> None:
    assert first.keys() == second.keys()
    for name in first:
        xr.testing.assert_identical(first[name], second[name])


def first_plate(settings: Settings) -> Settings:
    return settings.model_copy(update={"plates": settings.plates[:1]})


def written(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_campaign_goes_from_acquisitions_to_reports(calm: Outcome) -> None:
    fractions = read_result(calm.plates["P001"], "fractions")
    assert set(fractions["fraction"].dims) == {"well", "timepoint", "state"}
    filled = (fractions["patches"] > 0).to_numpy()
    assert filled.sum() > 10
    assert np.allclose(fractions["fraction"].sum("state").to_numpy()[filled], 1, atol=1e-5)
    pages = [*calm.plate_reports.values(), calm.campaign_report]
    assert len(pages) == 3
    assert all("untrained" in page.read_text(encoding="utf-8") for page in pages[:2])


def test_a_finished_campaign_is_not_done_twice(calm: Outcome) -> None:
    results = calm.campaign_report.parent
    before = written(results)
    again = run(read_settings(results.with_name("screen.toml")))
    changed = {path for path, time_ in written(results).items() if before.get(path) != time_}
    # that there was a run, and what it did, is written anew; no image, number or page may be
    changed = {path for path in changed if Path(path).parent.name != "runs"}
    assert {Path(path).name for path in changed} <= {"summary.json", "audit.jsonl", "ro-crate-metadata.json"}
    assert "0 tomograms converted, 32 done before" in again.notes[0]


def test_two_workers_find_what_one_finds(calm: Outcome, settings_file: Path) -> None:
    together = run(read_settings(settings_file).model_copy(update={"workers": WorkerSettings(count=2)}))
    assert_same(all_results(calm), all_results(together))


def test_a_run_that_was_killed_is_completed_to_the_same_results(calm: Outcome, settings_file: Path) -> None:
    target = read_settings(settings_file).campaign.out
    command = [sys.executable, "-m", "screening", "run", str(settings_file)]
    for waited_for in ("*.zarr.progress/*/*.json", "*.zarr.progress/probabilities/units/*.json"):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + 120
        while not list(target.glob(waited_for)) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL
    resumed = run(read_settings(settings_file))
    assert_same(all_results(calm), all_results(resumed))
    assert not list(target.rglob("*.partial"))


def test_a_damaged_projection_costs_its_field_and_no_other(finished: dict[str, Path], settings_file: Path) -> None:
    settings = read_settings(settings_file)
    whole = read_result(finished["P001"], "probabilities")
    plate = open_plate(finished["P001"])
    well = plate.wells[3]
    file = next(
        path
        for path in plate.field_files(well, field=0, timepoint=1)
        if plate.mip_path in path.parents and "/0/" in path.as_posix()
    )
    content = bytearray(file.read_bytes())
    content[len(content) // 10] ^= 0xFF  # of the maximum, which comes first
    file.write_bytes(bytes(content))
    with pytest.raises(UnfinishedError, match=rf"1 of 32 timepoints of fields.*{well} field 0 timepoint 1"):
        classify_plate(plate.path, classifier=settings.classifier.folder, batch=settings.classify.batch)
    damaged = read_result(plate.path, "probabilities")
    others = [name for name in plate.wells if name != well]
    xr.testing.assert_identical(whole["probability"].sel(well=others), damaged["probability"].sel(well=others))
    assert damaged["status"].sel(well=well, field=0).values.tolist() == [1, 2]
    xr.testing.assert_identical(whole["probability"].sel(well=well)[:, 0], damaged["probability"].sel(well=well)[:, 0])


def test_an_altered_classifier_is_refused_before_anything_is_converted(settings_file: Path, tmp_path: Path) -> None:
    settings = read_settings(settings_file)
    copy = tmp_path / "altered"
    shutil.copytree(settings.classifier.folder, copy)
    weights = copy / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    altered = settings_file.read_text().replace(settings.classifier.folder.as_posix(), copy.as_posix())
    settings_file.write_text(altered)
    with pytest.raises(ClassifierError):
        run(read_settings(settings_file))
    assert not settings.campaign.out.exists()


def test_a_cluster_is_found_by_its_address(settings_file: Path) -> None:
    from distributed import LocalCluster

    settings = first_plate(read_settings(settings_file))
    with LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as there:
        workers = WorkerSettings(count=1, scheduler=there.scheduler_address)
        outcome = run(settings.model_copy(update={"workers": workers}))
    assert (read_result(outcome.plates["P001"], "probabilities")["status"] == 1).all()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_a_run_with_one_sentence_and_keeps_what_is_finished(
    number: signal.Signals, code: int, settings_file: Path
) -> None:
    text = settings_file.read_text().replace("count = 1", "count = 2")
    before, first, rest = text.split("[[plates]]")
    settings_file.write_text(before + "[[plates]]" + first + rest[rest.index("\n[") :])
    assert len(read_settings(settings_file).plates) == 1
    target = read_settings(settings_file).campaign.out
    process = subprocess.Popen(
        [sys.executable, "-m", "screening", "run", str(settings_file)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if list(target.glob("*.zarr.progress/*/?_?.json")):
            break
        time.sleep(0.02)
    os.killpg(process.pid, number)  # as a terminal does: to every process of the group
    _, told = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in told
    assert "Run the same command to go on" in told
    outcome = run(read_settings(settings_file))
    assert not outcome.notes[0].startswith("P001: 32 tomograms converted")


def test_wells_of_every_plate_are_checked_before_the_first_is_converted(settings_file: Path, tmp_path: Path) -> None:
    settings = read_settings(settings_file)
    short = tmp_path / "short.csv"
    lines = settings.plates[1].layout.read_text().splitlines()
    short.write_text("\n".join(lines[:-1]) + "\n")
    plates = (settings.plates[0], settings.plates[1].model_copy(update={"layout": short}))
    with pytest.raises(PlateMapError, match=lines[-1].split(",")[0]):
        run(settings.model_copy(update={"plates": plates}))
    assert not settings.campaign.out.exists()


def test_an_analysis_older_than_its_probabilities_is_not_reported(
    finished: dict[str, Path], settings_file: Path
) -> None:
    settings, path = read_settings(settings_file), finished["P001"]
    require_current(path)
    classify_plate(path, classifier=settings.classifier.folder, stride=80, batch=settings.classify.batch)
    with pytest.raises(StoreError, match="tomoscreen analyse"):
        require_current(path)
    with pytest.raises(SettingsError, match=r"timepoint is 7, but P001\.zarr has 2"):
        analyse_plate(path, settings=AnalysisSettings(timepoint=7))
    assert analyse_plate(path)
    require_current(path)
