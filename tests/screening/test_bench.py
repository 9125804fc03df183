"""What `tomoscreen bench` measures: the run's own patches, from a plate of its own."""

from pathlib import Path

import numpy as np
import pytest

from plates.errors import SettingsError
from plates.ingest.convert import ingest
from plates.layout import read_plate_map
from screening import bench
from screening.bench import Speed, measure
from screening.classify import classify_plate
from screening.run_summary import RunSummary


def test_the_time_of_a_plate_follows_from_patches_and_rate() -> None:
    run = RunSummary(
        plate="bench", classifier="c", frames=10, skipped=0, workers=2, done=10, worked_s=9.0, loading_s=1.0
    )
    run.timing = {"patches": 800, "computing_s": 6.0, "preparing_s": 1.0, "waiting_s": 0.0, "reading_s": 0.5,
                  "fields": 10, "peak_device_bytes": 0}  # fmt: skip
    speed = Speed(network=120.0, run=run, device="cpu", stride=160, fields=10, field_um=(230.4, 230.4), simulated=True)
    assert speed.rate == pytest.approx(200)  # 800 patches in 8 s of two workers
    assert speed.hours(wells=100, fields=9, timepoints=10) == pytest.approx(80 * 9000 / 200 / 3600)
    told = "\n".join(speed.lines(wells=100, fields=9, timepoints=10))
    for part in ("120 patches/s in one process", "200 patches/s; the network computes 75% of", "takes about 1.0 h"):
        assert part in told


def test_a_simulated_field_is_classified_from_a_plate_that_is_gone_afterwards(
    classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "SIMULATED_PX", 480)
    monkeypatch.setattr(bench, "MOST_FIELDS", 3)
    seen: list[Path] = []

    def watched(path: Path, **options: object) -> RunSummary:
        seen.append(path)
        return classify_plate(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(bench, "classify_plate", watched)
    speed = measure(classifier, seconds=1)
    assert speed.simulated
    assert speed.run.done == speed.fields
    assert 0 < speed.run.efficiency <= 1
    assert speed.network > 0
    assert not seen[0].exists()


def test_the_fields_of_a_plate_are_taken_and_the_plate_stays_as_it_is(
    acquisitions: Path, classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "P001.zarr"
    plate = ingest(acquisitions / "P001", out=path, plate_map=read_plate_map(acquisitions / "P001.csv"))
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    monkeypatch.setattr(bench, "MOST_FIELDS", 4)
    speed = measure(classifier, plate=path, seconds=1)
    assert not speed.simulated
    assert speed.field_um == pytest.approx(
        [size * um for size, um in zip(plate.shape_zyx[1:], plate.voxel_um[1:], strict=True)]
    )
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


def test_a_plate_without_a_converted_field_is_refused(tmp_path: Path, classifier: Path) -> None:
    empty = bench._write(tmp_path, [(np.full((200, 200), 13370, np.uint16), float("nan"))], pixel_um=(0.16, 0.16))
    with pytest.raises(SettingsError, match="holds no converted field"):
        measure(classifier, plate=empty, seconds=1)
