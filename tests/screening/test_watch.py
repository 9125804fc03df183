"""Watching: the same results as `run`, whatever the files do on their way and whatever stops it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plates.errors import SettingsError, UnfinishedError
from plates.results import read_result
from screening.opened_files import Place
from screening.pipeline import run
from screening.settings import Settings, WorkerSettings, read_settings
from screening.tally import Tally
from screening.watch import folder_settings, watch
from tests.benchmarks.watching import campaign, differences, elsewhere, start_writer

SETTLE_S = 0.4


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory, classifier: Path) -> tuple[Path, Path]:
    """Eight acquisitions, and the settings of an empty folder into which they will come."""
    folder = tmp_path_factory.mktemp("eight")
    return campaign(folder, wells=8, shape=(8, 176, 176), classifier=classifier)


@pytest.fixture(scope="module")
def plain(eight: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plate that `run` makes of them."""
    settings = read_settings(eight[1]).model_copy(update={"workers": WorkerSettings(count=1)})
    source = settings.plates[0].model_copy(update={"acquisitions": eight[0]})
    settings = settings.model_copy(update={"plates": (source,)})
    return run(elsewhere(settings, tmp_path_factory.mktemp("plain"))).plates["P001"]


@pytest.fixture
def coming(eight: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Settings]:
    """The acquisitions, and settings with a folder of the test's own for them and for the results."""
    source, file = eight
    (tmp_path / "P001").mkdir()
    settings = read_settings(file)
    plate = settings.plates[0].model_copy(update={"acquisitions": tmp_path / "P001"})
    own = settings.model_copy(update={"plates": (plate,), "workers": WorkerSettings(count=1)})
    return source, elsewhere(own, tmp_path / "results")


def assert_same(found: Path, plain: Path) -> None:
    """All alike, but for where the acquisitions lie and when they were copied there."""
    assert differences(found, plain) == ["sources"]
    np.testing.assert_array_equal(read_result(found, "sources")["sha256"], read_result(plain, "sources")["sha256"])


def copy(source: Path, target: Path, *, files: slice = slice(None)) -> list[Path]:
    copied = []
    for file in sorted(source.rglob("*.TCF"))[files]:
        place = target / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.read_bytes())
        copied.append(place)
    return copied


def test_files_written_slowly_cut_short_or_renamed_end_as_run_ends(coming: tuple[Path, Settings], plain: Path) -> None:
    source, settings = coming
    told: list[str] = []
    writer = start_writer(source, settings.plates[0].acquisitions, every_s=0.3, cut_s=2.0)
    watched = watch(settings, settle_s=SETTLE_S, expected=(1, 1), tell=told.append)
    assert writer.wait() == 0
    assert_same(watched.outcome.plates["P001"], plain)
    assert watched.why == "all frames were there"
    assert any("not a complete TCF" in line for line in told), "a file cut short was waited for, and told of"
    assert sum("its file" in line for line in told) == 8
    page = watched.page.read_text(encoding="utf-8")
    assert "Finished" in page
    assert 'http-equiv="refresh"' not in page
    rows = (settings.campaign.out / "P001.lag.csv").read_text().splitlines()
    assert len(rows) == 9
    fractions = read_result(watched.outcome.plates["P001"], "fractions")
    # the numbers of the page are those of the analysis
    for well in fractions["well"].values:
        assert f"{100 * float(fractions['death'].sel(well=well, timepoint=0)):.0f} % dead" in page
    # whose numbers they are
    layout = read_result(watched.outcome.plates["P001"], "layout").attrs
    made_by = read_result(watched.outcome.plates["P001"], "probabilities").attrs
    for text in (layout["source"], layout["sha256"][:8], made_by["classifier_sha256"][:8], version("tomoscreen")):
        assert text in page
    assert made_by["calibration"] in page


@pytest.mark.skipif(os.name == "nt", reason="there are no such signals")
def test_a_watch_that_was_killed_and_terminated_goes_on_to_the_same_results(
    coming: tuple[Path, Settings], plain: Path, tmp_path: Path
) -> None:
    source, settings = coming
    copy(source, settings.plates[0].acquisitions, files=slice(4))
    stored = tmp_path / "settings.json"
    stored.write_text(settings.model_dump_json())
    code = (
        "import sys; from pathlib import Path; from screening.settings import Settings; "
        "from screening.watch import watch; "
        f"watch(Settings.model_validate_json(Path(sys.argv[1]).read_text(), strict=False), settle_s={SETTLE_S})"
    )
    progress = settings.campaign.out / "P001.zarr.progress"
    waited_for = (
        (signal.SIGKILL, "*/0_0.json", 2, -signal.SIGKILL),
        (signal.SIGTERM, "probabilities/units/*.json", 4, 143),
    )
    for number, records, enough, code_wanted in waited_for:
        process = subprocess.Popen([sys.executable, "-c", code, str(stored)])
        page = settings.campaign.out / f"{settings.campaign.name}.live.html"
        page.unlink(missing_ok=True)
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline:
            if page.exists() and len(list(progress.glob(records))) >= enough:
                break
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait(120) == code_wanted
    assert "Stopped" in page.read_text(encoding="utf-8")
    copy(source, settings.plates[0].acquisitions, files=slice(4, None))
    watched = watch(settings, settle_s=SETTLE_S, expected=(1, 1), port=None)
    assert_same(watched.outcome.plates["P001"], plain)
    assert not list(settings.campaign.out.rglob("*.partial"))


def test_a_file_that_stays_cut_short_is_waited_for_and_reported_at_the_end(coming: tuple[Path, Settings]) -> None:
    source, settings = coming
    *_, last = copy(source, settings.plates[0].acquisitions)
    last.write_bytes(last.read_bytes()[:-1000])
    told: list[str] = []
    with pytest.raises(UnfinishedError, match="1 of 8 files") as failed:
        watch(settings, settle_s=SETTLE_S, until_idle_s=2.0, port=None, tell=told.append)
    assert last.name in str(failed.value)
    assert sum("its file" in line for line in told) == 7
    page = next(settings.campaign.out.glob("*.live.html")).read_text(encoding="utf-8")
    assert "Stopped" in page
    assert "cut short" in page
    status = read_result(settings.campaign.out / "P001.zarr", "probabilities")["status"]
    assert int((status == 1).sum()) == 7


def test_first_looks_are_shown_and_not_stored(
    coming: tuple[Path, Settings], plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, settings = coming
    copy(source, settings.plates[0].acquisitions)
    looked: list[bool] = []
    whole = Tally.look_quickly

    def noted(self: Tally, *args: Any, **options: Any) -> Iterator[Place]:
        for place in whole(self, *args, **options):
            looked.append(self.frames[place].provisional)
            yield place

    monkeypatch.setattr(Tally, "look_quickly", noted)
    monkeypatch.setattr("screening.watched_plate._QUICK_ABOVE_S", 0.0)
    watched = watch(settings, settle_s=SETTLE_S, until_idle_s=1.0, port=None)
    assert looked == [True] * 8
    assert_same(watched.outcome.plates["P001"], plain)
    assert "first look</td>" not in watched.page.read_text(encoding="utf-8")


def test_a_folder_can_be_watched_without_a_settings_file(coming: tuple[Path, Settings], tmp_path: Path) -> None:
    _, settings = coming
    (plate,) = settings.plates
    made = folder_settings(plate.acquisitions, layout=plate.layout, out=tmp_path / "out", workers=1)
    assert made.plates[0].name == "P001"
    assert made.plates[0].acquisitions == plate.acquisitions
    with pytest.raises(SettingsError, match="does not exist"):
        folder_settings(tmp_path / "nowhere", layout=plate.layout, out=tmp_path / "out")


def test_a_stop_before_all_wells_were_imaged_says_what_run_would_say(coming: tuple[Path, Settings]) -> None:
    from plates.errors import PlateMapError

    source, settings = coming
    copy(source, settings.plates[0].acquisitions, files=slice(3))
    stop = threading.Event()
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        if sum("its file" in line for line in told) == 3:
            stop.set()

    with pytest.raises(PlateMapError):
        watch(settings, settle_s=SETTLE_S, port=None, stop=stop, tell=tell)
    assert any("some wells have no file yet" in line for line in told)
    # what was done is there for the next start
    fields = read_result(settings.campaign.out / "P001.zarr", "fields")
    assert int(np.isfinite(fields["medium_index"]).sum()) == 3
