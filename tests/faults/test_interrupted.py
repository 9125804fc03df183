"""A run that is killed at any moment (row 1): the next one ends as an undisturbed run does, and does only the rest."""

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from plates import store
from plates.creation import create_plate
from plates.errors import StoreError
from plates.results import has_result
from screening.audit import read_audit
from screening.pipeline import run
from screening.run_record import read_run, recorded
from screening.settings import read_settings
from screening.verify import verify

from .harm import assert_same_plate, assert_same_results
from .small_plate import SHAPE, VOXEL_UM, SmallCampaign, made_up_tomogram

PATIENCE_S = 300


def records(out: Path, pattern: str) -> int:
    """How many records of a kind a run has written so far."""
    return len(list((out / "P001.zarr.progress").glob(pattern)))


def test_a_campaign_killed_in_each_of_its_steps_ends_like_a_calm_one(
    fresh: SmallCampaign, finished: SmallCampaign
) -> None:
    out = fresh.out
    moments: dict[str, Callable[[], bool]] = {
        "converting": lambda: records(out, "*/[0-9]_[0-9].json") >= 5,
        "classifying": lambda: records(out, "probabilities/units/*.json") >= 1,
        "analysing": lambda: has_result(out / "P001.zarr", "quality"),
    }
    for moment in moments.values():
        process = subprocess.Popen(
            [sys.executable, "-m", "screening", "run", str(fresh.settings)], stdout=subprocess.DEVNULL
        )
        began = time.monotonic()
        while not moment() and process.poll() is None and time.monotonic() - began < PATIENCE_S:
            time.sleep(0.005)
        process.kill()
        process.wait()
    converted = records(out, "*/[0-9]_[0-9].json")
    times = {file: file.stat().st_mtime_ns for file in (out / "P001.zarr").rglob("c/**/*") if file.is_file()}
    run(read_settings(fresh.settings))
    if converted == 12:  # what was done is not done again
        assert all(file.stat().st_mtime_ns == when for file, when in times.items())
    assert_same_plate(fresh.store(), finished.store())
    assert_same_results(out / "small.results.zarr", finished.out / "small.results.zarr")
    found = verify([out])
    assert found.bad == []
    assert not [one for one in found.findings if one.kind == "leftover"]


def test_a_run_that_died_has_a_record_that_says_so(fresh: SmallCampaign) -> None:
    settings = read_settings(fresh.settings)
    seen: list[dict[str, Any]] = []

    def stopped() -> None:
        with recorded(settings):
            seen.append(read_run(next((fresh.out / "runs").glob("*.json"))))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    (begun,) = seen
    assert begun["state"] == "started"
    ended = read_run(fresh.out)
    assert (ended["run"], ended["state"], ended["exit_code"]) == (begun["run"], "ended", 130)
    assert [line["action"] for line in read_audit(fresh.out)] == ["run started", "run ended"]


def test_without_temporary_names_a_killed_write_leaves_half_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plate_at(folder: Path) -> Any:
        return create_plate(
            folder / "P001.zarr", name="P001", wells=["A01"], fields=1, timepoints=1, shape_zyx=SHAPE,
            voxel_um=VOXEL_UM, rows=2, columns=3, hours=[0.0], provenance={},
        )  # fmt: skip

    def dies() -> Any:
        image = made_up_tomogram(1)
        yield image[:4]
        raise KeyboardInterrupt

    @contextmanager
    def in_place(file: Path) -> Any:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as handle:
            yield handle

    place: dict[str, Any] = {"field": 0, "timepoint": 0}
    for protected in (True, False):
        plate = plate_at(tmp_path / str(protected))
        with monkeypatch.context() as patch:
            if not protected:
                patch.setattr(store, "appearing_whole", in_place)
            with pytest.raises(KeyboardInterrupt):
                plate.write_field("A01", volume=dies(), **place)
        torn = plate.field_files("A01", **place)[0]
        assert torn.exists() is not protected
        if torn.exists():
            with pytest.raises(StoreError, match=r"damaged|its file was lost"):
                plate.volume("A01", **place)
