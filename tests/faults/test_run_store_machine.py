"""Whatever happens to a plate between runs, in any order: what is told to be done holds the model's values."""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from plates.errors import TomoscreenError, UnfinishedError
from plates.ingest.convert import ingest
from plates.ingest.manifest import Source
from plates.ingest.survey import read_headers
from plates.ingest.units import Frames, source_fingerprint, why_convert
from plates.store import Plate, open_plate
from tests.faults.small_plate import made_up_tomogram, write_small_acquisition

SHAPE = (4, 48, 48)
WELLS = ("A01", "A02")
FRAMES = 2


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


@contextmanager
def dying_at(number: int) -> Iterator[None]:
    """The process ends when it puts its n-th file in place, before or after."""
    left = number

    def end_after(original: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0 and number % 2:
                raise Killed
            result = original(*arguments, **options)
            if left == 0:
                raise Killed
            return result

        return counted

    with patch.object(Path, "replace", end_after(Path.replace)), patch.object(os, "fsync", end_after(os.fsync)):
        yield


class RunStore(RuleBasedStateMachine):
    """A plate of two wells and two frames, and what its acquisitions hold now."""

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tomoscreen-machine-"))
        self.truth: dict[tuple[str, int], np.ndarray] = {}
        self.paths: dict[str, Path] = {}
        self.seed = 0
        for number, well in enumerate(WELLS):
            self._acquire(well, number=number)

    @rule()
    def run(self) -> None:
        """A run to its end: everything is done, and right."""
        ingest(self.folder / "in", out=self._out)
        assert len(self._done()) == len(WELLS) * FRAMES
        for (well, timepoint), image in self.truth.items():
            if not self._is_spoilt(well, timepoint):
                found = self._plate().volume(well, field=0, timepoint=timepoint)
                np.testing.assert_array_equal(found, image)

    @rule(number=st.integers(1, 30))
    def die(self, number: int) -> None:
        """A run that is killed at some place; or it was done before."""
        try:
            with dying_at(number):
                ingest(self.folder / "in", out=self._out)
        except Killed:
            pass

    @rule(well=st.sampled_from(WELLS), cut=st.sampled_from([0.0, 0.5, 0.99]), which=st.integers(0, 20))
    def truncate(self, well: str, cut: float, which: int) -> None:
        """An image of the store is cut, or emptied."""
        if file := self._image(well, which):
            file.write_bytes(file.read_bytes()[: int(file.stat().st_size * cut)])

    @rule(well=st.sampled_from(WELLS), which=st.integers(0, 20))
    def delete(self, well: str, which: int) -> None:
        if file := self._image(well, which):
            file.unlink()

    @rule(well=st.sampled_from(WELLS), which=st.integers(0, 20), place=st.floats(0, 0.999), bit=st.integers(0, 7))
    def flip(self, well: str, which: int, place: float, bit: int) -> None:
        """One bit of an image changes; sizes and times stay."""
        if file := self._image(well, which):
            data = bytearray(file.read_bytes())
            if data:
                data[int(len(data) * place)] ^= 1 << bit
                state = file.stat()
                file.write_bytes(data)
                os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))

    @rule(well=st.sampled_from(WELLS))
    def acquire_again(self, well: str) -> None:
        """The acquisition is replaced by another of the same name."""
        shutil.rmtree(self.paths[well].parent)
        self._acquire(well, number=WELLS.index(well))

    @rule(well=st.sampled_from(WELLS))
    def cut_the_acquisition(self, well: str) -> None:
        """It is cut short for one run, and whole again."""
        path, others = self.paths[well], [other for other in WELLS if other != well]
        whole, state = path.read_bytes(), path.stat()
        path.write_bytes(whole[: len(whole) // 3])
        try:
            with pytest.raises(UnfinishedError, match=re.escape(path.name)):
                ingest(self.folder / "in", out=self._out)
            # asked of the cut file, the well is not done; the others are
            assert {place for place, _ in self._done()} == set(others)
        finally:
            path.write_bytes(whole)
            os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))

    @invariant()
    def what_is_told_to_be_done_is_right_or_refused(self) -> None:
        for well, timepoint in self._done():
            try:
                found = self._plate().volume(well, field=0, timepoint=timepoint)
            except (TomoscreenError, ValueError, OSError):
                continue  # a flipped bit: told, and no number comes of it
            np.testing.assert_array_equal(found, self.truth[well, timepoint])

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    @property
    def _out(self) -> Path:
        return self.folder / "plate.zarr"

    def _plate(self) -> Plate:
        return open_plate(self._out)

    def _acquire(self, well: str, *, number: int) -> None:
        self.seed += FRAMES
        images = [made_up_tomogram(self.seed + frame, shape=SHAPE) for frame in range(FRAMES)]
        self.truth |= {(well, frame): image for frame, image in enumerate(images)}
        self.paths[well] = write_small_acquisition(self.folder / "in", well, images, number=number)

    def _done(self) -> list[tuple[str, int]]:
        """What the store says of itself."""
        if not (self._out / "zarr.json").exists():
            return []
        done = []
        for header in read_headers([Source(path=self.paths[w], well=w, field=0, timepoint=0) for w in WELLS]):
            unit = Frames(self._plate(), header.source, header.frames)
            fingerprint = source_fingerprint(header.source)
            for number in header.frames:
                if why_convert(unit, number, fingerprint=fingerprint) is None:
                    done.append((header.source.well, number))
        return done

    def _is_spoilt(self, well: str, timepoint: int) -> bool:
        try:
            self._plate().volume(well, field=0, timepoint=timepoint)
        except (TomoscreenError, ValueError, OSError):
            return True
        return False

    def _image(self, well: str, which: int) -> Path | None:
        """Some image file of a well, if there is one."""
        if not (self._out / "zarr.json").exists():
            return None
        plate = self._plate()
        files = [
            file
            for timepoint in range(FRAMES)
            for file in plate.field_files(well, field=0, timepoint=timepoint)
            if file.is_file() and file.stat().st_size
        ]
        return files[which % len(files)] if files else None


TestRunStore = RunStore.TestCase
TestRunStore.settings = settings(
    max_examples=int(os.environ.get("TOMOSCREEN_MACHINE_EXAMPLES", "6")),
    stateful_step_count=8,
    deadline=None,
    derandomize="TOMOSCREEN_MACHINE_EXAMPLES" not in os.environ,
    suppress_health_check=[*HealthCheck],
)


def test_off_check_a_lost_image_is_seen_by_its_check_alone() -> None:
    machine = RunStore()
    try:
        machine.start()
        machine.run()
        for which in range(6):
            machine.delete("A01", which)
        machine.what_is_told_to_be_done_is_right_or_refused()
        machine.run()
        machine.delete("A01", 0)
        assert len(machine._done()) < len(WELLS) * FRAMES
        with patch.dict(globals(), {"why_convert": lambda unit, number, fingerprint: None}):
            assert len(machine._done()) == len(WELLS) * FRAMES
    finally:
        machine.teardown()
