"""What a GPU needs, tried without one: work that is done later, memory used in turns, formats that it has."""

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from models import engine, inference
from models.classifier import Card, Classifier, build_classifier, resolve_device, to_analysis_scale
from models.engine import Engine, Lane, compile_body, engine_of, pure_forward_rate
from models.fields import _unmeasured
from models.inference import IN_FLIGHT, classify_fields
from models.reading import PinnedRing, in_threads, stage_in_place
from models.timing import Timing
from plates.patches import analysis_shape, window_grid
from tests.models.made_patches import MEDIUM
from tests.models.test_inference import PX, field


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    torch.manual_seed(0)
    return build_classifier(Card(name="x", architecture="resnet18", patch_px=PX, temperature=1.3))


class LaterMark:
    """A place in the work of a device that does nothing until somebody waits for it."""

    def __init__(self, lane: "LateLane", place: int) -> None:
        self.lane, self.place = lane, place

    def query(self) -> bool:
        return self.place <= self.lane.passed

    def synchronize(self) -> None:
        if self.place:
            self.lane.waits.append((self.lane.batches, self.lane.batches_at[self.place]))
            self.lane.work_up_to(self.place)


class LateLane(Lane):
    """A device whose answers arrive only when a mark behind them is waited for."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.passed, self.marks, self.batches, self.beside = 0, 0, 0, False
        self.batches_at: dict[int, int] = {}
        self.waits: list[tuple[int, int]] = []  # (batches told so far, batches that were waited for)
        self.under_way: deque[tuple[int, torch.Tensor, torch.Tensor]] = deque()

    @property
    def apart(self) -> bool:
        return True

    @contextmanager
    def preparing(self) -> Iterator[None]:
        self.beside = True
        yield
        self.beside = False

    def hand_over(self, prepared: torch.Tensor) -> torch.Tensor:
        self.batches += 1
        return prepared

    def mark(self) -> LaterMark:
        if self.beside:  # images come up while the network works, whatever it has come to
            return LaterMark(self, 0)
        self.marks += 1
        self.batches_at[self.marks] = self.batches
        return LaterMark(self, self.marks)

    def to_host(self, tensor: torch.Tensor) -> torch.Tensor:
        there = torch.full_like(tensor, -1.0)
        self.under_way.append((self.marks + 1, there, tensor))
        return there

    @torch.inference_mode()
    def work_up_to(self, place: int) -> None:
        self.passed = max(self.passed, place)
        while self.under_way and self.under_way[0][0] <= self.passed:
            _, there, tensor = self.under_way.popleft()
            there.copy_(tensor)


@pytest.fixture
def late_device(monkeypatch: pytest.MonkeyPatch, classifier: Classifier) -> Engine:
    monkeypatch.setattr(engine, "Lane", LateLane)
    late = Engine(classifier)
    monkeypatch.setattr(inference, "engine_of", lambda *_: late)
    return late


def test_a_device_is_told_of_several_batches_before_the_first_is_waited_for(
    late_device: Engine, classifier: Classifier
) -> None:
    lane = late_device.lane
    assert isinstance(lane, LateLane)
    fields = [field(seed) for seed in range(9)]
    found = list(classify_fields(classifier, fields, batch=4))
    total = lane.batches
    assert total > 2 * IN_FLIGHT
    # until all has been told, there are always batches behind the one that is waited for
    early = [(told, waited) for told, waited in lane.waits if waited and told < total]
    assert len(early) >= total - IN_FLIGHT - 2
    assert all(told - waited >= 2 for told, waited in early)
    assert max(told - waited for told, waited in lane.waits) <= IN_FLIGHT
    plain = list(classify_fields(Classifier(classifier.network, classifier.card, classifier.device), fields, batch=4))
    assert len(found) == len(plain) == 9
    for one, other in zip(found, plain, strict=True):
        np.testing.assert_array_equal(one.probability, other.probability)
        assert np.nanmin(one.probability) >= 0  # nothing was read before it had arrived


def test_the_ring_waits_for_the_upload_before_it_uses_a_place_again() -> None:
    ring = PinnedRing(ahead=1, pinned=False)
    waited: list[int] = []

    class Upload:
        def __init__(self, number: int) -> None:
            self.number = number

        def query(self) -> bool:
            return False

        def synchronize(self) -> None:
            waited.append(self.number)

    staged = []
    for number in range(5):
        counts = np.full((2 + number, 3), 13000 + number, np.uint16)
        staged.append(ring((counts, (0.16, 0.16), MEDIUM)))
        staged[-1].slot.uploaded = Upload(number)
        assert waited == list(range(number - 2))  # three places
        for earlier in staged[-3:]:  # those not waited for are as they were
            assert len(set(earlier.counts.flatten().tolist())) == 1
        assert staged[-1].counts.shape == (2 + number, 3)
    assert [int(image.counts[0, 0]) for image in staged[-3:]] == [13002, 13003, 13004]
    assert staged[0].slot is staged[3].slot


@pytest.mark.parametrize("stage", [PinnedRing(ahead=1, pinned=False), stage_in_place])
def test_counts_reach_the_device_as_they_are_and_an_index_beyond_all_matter_is_cut(stage: Any) -> None:
    counts = np.array([[0, 13370, 32767, 65535]], np.uint16)
    kept = counts.copy()
    assert stage((counts, (0.16, 0.16), MEDIUM)).counts.tolist() == [[0, 13370, 32767, 32767]]
    np.testing.assert_array_equal(counts, kept)


def test_images_that_torch_cannot_look_at_are_copied() -> None:
    strange = np.arange(24, dtype=np.uint16).reshape(4, 6)[::-1, ::2]
    strange.flags.writeable = False
    assert stage_in_place((strange, (0.16, 0.16), MEDIUM)).counts.tolist() == strange.tolist()


def test_page_locked_memory_that_cannot_be_had_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.empty

    def no_more(*size: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
        if pin_memory:
            raise RuntimeError("CUDA error: out of memory")
        return real(*size, **options)

    monkeypatch.setattr(torch, "empty", no_more)
    counts = np.full((2, 3), 13370, np.uint16)
    assert PinnedRing(ahead=1)((counts, (0.16, 0.16), MEDIUM)).counts.tolist() == counts.tolist()


@pytest.mark.parametrize(
    ("there", "taken"),
    [((True, False), "cuda"), ((False, True), "mps"), ((True, True), "cuda"), ((False, False), "cpu")],
)
def test_auto_takes_the_fastest_device_that_is_there(
    there: tuple[bool, bool], taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there[0])
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: there[1])
    assert resolve_device("auto").type == taken


class NoDoubles(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses what Apple's GPUs do not have: numbers of 64 bits that are not whole."""

    seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else [out]:
            if isinstance(value, torch.Tensor):
                self.seen += 1
                assert value.dtype != torch.float64, f"{func} gives float64"
        return out


@pytest.mark.parametrize("planes", [None, 3])
def test_nothing_on_the_device_is_of_double_precision(classifier: Classifier, planes: int | None) -> None:
    counts, _, medium = field(1)
    counts[:9, :9] = 0
    voxel: tuple[float, ...] = (0.17, 0.17)
    if planes is not None:
        card = Card(name="v", architecture="small3d", patch_px=PX, planes=planes, um_per_plane=1.3)
        classifier = build_classifier(card)
        counts, voxel = np.stack([counts] * 5), (1.0, *voxel)
    with NoDoubles() as mode:  # type: ignore[no-untyped-call]
        (found,) = classify_fields(classifier, [(counts, voxel, medium)])
    assert np.isfinite(found.probability).any()
    assert mode.seen > 50


def test_batches_and_memory_order_fit_the_device(classifier: Classifier) -> None:
    volumes = build_classifier(Card(name="v", architecture="small3d", patch_px=PX, planes=3, um_per_plane=1.0))
    assert (Engine(classifier).default_batch, Engine(volumes).default_batch) == (16, 8)
    assert engine._layout(torch.device("cuda"), volumes=False) == torch.channels_last
    assert engine._layout(torch.device("cpu"), volumes=True) == torch.channels_last_3d
    assert engine._layout(torch.device("mps"), volumes=False) == torch.contiguous_format


def test_a_network_that_cannot_be_compiled_runs_as_it_is(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def compiler(body: torch.nn.Module, **_: Any) -> Any:
        def run(windows: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("Failed to find C compiler.\nPlease specify one")

        return run

    monkeypatch.setattr(torch, "compile", compiler)
    with caplog.at_level(logging.WARNING):
        assert compile_body(classifier.network, torch.zeros(1, 1, PX, PX)) is classifier.network
    assert caplog.messages == [
        "The network could not be compiled and runs as it is, more slowly: Failed to find C compiler."
    ]


def test_a_network_is_compiled_for_cuda_and_for_nothing_else(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def compiler(body: torch.nn.Module, **options: Any) -> Any:
        asked.append(options)
        return lambda windows: body(windows)

    monkeypatch.setattr(torch, "compile", compiler)
    assert engine_of(classifier, True).features is engine_of(classifier, True).body
    assert asked == []
    compiled = compile_body(classifier.network, torch.zeros(1, 1, PX, PX))
    assert compiled is not classifier.network
    assert asked == [{"dynamic": False}]


def test_other_errors_of_the_network_are_not_taken_for_want_of_memory(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Engine, windows: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(Engine, "__call__", broken)
    with pytest.raises(RuntimeError, match="device-side assert"):
        list(classify_fields(classifier, [field(1)]))


def test_time_is_told_where_it_went(classifier: Classifier) -> None:
    def slow_images() -> Iterator[tuple[npt.NDArray[np.uint16], tuple[float, ...], float]]:
        for seed in range(3):
            time.sleep(0.3)
            yield field(seed)

    timing = Timing()
    found = list(classify_fields(classifier, slow_images(), timing=timing))
    assert timing.fields == 3
    assert timing.patches == sum(int(np.isfinite(result.probability[..., 0]).sum()) for result in found)
    assert timing.reading_s >= 0.9
    assert timing.waiting_s >= 0.25  # for the first one at least
    assert timing.preparing_s > 0
    assert timing.computing_s > 0
    assert timing.peak_device_bytes == 0


def test_timings_add_up_save_for_the_peak() -> None:
    one = Timing(1.0, 2.0, 3.0, 4.0, patches=5, fields=6, peak_device_bytes=7)
    both = one + Timing(0.5, 0.5, 0.5, 0.5, patches=1, fields=1, peak_device_bytes=3)
    assert both == Timing(1.5, 2.5, 3.5, 4.5, patches=6, fields=7, peak_device_bytes=7)
    assert one.patches == 5
    one.add(Timing(patches=2, peak_device_bytes=9))
    assert Timing(**one.as_dict()) == Timing(1.0, 2.0, 3.0, 4.0, patches=7, fields=6, peak_device_bytes=9)  # type: ignore[arg-type]


def test_the_rate_of_the_network_alone_is_patches_over_seconds(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[int, ...]] = []
    real = Engine.__call__

    def watched(self: Engine, windows: torch.Tensor) -> torch.Tensor:
        shown.append(tuple(windows.shape))
        return real(self, windows)

    monkeypatch.setattr(Engine, "__call__", watched)
    ticks = iter(range(100))
    # a clock that passes one second at each look: two batches before the third look
    assert pure_forward_rate(classifier, batch=6, seconds=3, clock=lambda: next(ticks)) == pytest.approx(6 * 2 / 3)
    assert shown == [(6, 1, PX, PX)] * 4  # two of them to warm up


def test_a_caller_who_stops_early_leaves_no_thread_beside_a_late_device(
    late_device: Engine, classifier: Classifier
) -> None:
    results = classify_fields(classifier, (field(seed % 3) for seed in range(40)), batch=1)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "read-ahead"]


def test_readings_of_several_threads_come_in_their_order_and_not_all_at_once() -> None:
    together = threading.Barrier(3)
    begun: list[int] = []

    def reading(number: int) -> int:
        begun.append(number)
        if number < 3:
            together.wait(timeout=20)  # passed only if three are read at a time
            time.sleep(0.05 * (3 - number))
        return number

    results = in_threads((partial(reading, number) for number in range(12)), threads=3)
    assert next(results) == 0
    assert max(begun) <= 4
    assert list(results) == list(range(1, 12))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reader")]


def test_what_a_thread_raises_surfaces_in_its_turn() -> None:
    def broken() -> int:
        raise OSError("the disk is gone")

    results = in_threads([lambda: 1, broken, lambda: 3], threads=2)
    assert next(results) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(results)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands memory back page by page")
def test_memory_that_a_batch_has_freed_is_there_for_the_next(classifier: Classifier) -> None:
    import resource

    Engine(classifier)
    torch.empty(12_000_000).fill_(1.0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.empty(12_000_000).fill_(1.0)  # 48 MB: 12,000 pages if they are new
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 50_000


@pytest.mark.parametrize("um_per_px", [(0.16, 0.16), (0.2, 0.13), (0.1632, 0.31), (0.07, 0.16)])
def test_windows_without_any_measured_pixel_are_found_as_on_the_whole_field(um_per_px: tuple[float, float]) -> None:
    random = np.random.default_rng(7)
    shape = analysis_shape((150, 170), voxel_um=um_per_px)
    rows, columns = (window_grid(size, patch=20, stride=13) for size in shape)
    spans = (rows, rows + 20), (columns, columns + 20)
    some = 0
    for sparse in (0.0, 0.001, 0.003, 0.02, 1.0):
        measured = torch.from_numpy(random.random((150, 170)) < sparse)
        resampled = to_analysis_scale(measured.float(), voxel_um=um_per_px) > 0
        expected = torch.tensor([[not resampled[y : y + 20, x : x + 20].any() for x in columns] for y in rows])
        found = _unmeasured(measured, *spans, shape=shape, yx=um_per_px)
        assert torch.equal(found, expected)
        some += 0 < int(expected.sum()) < expected.numel()
    assert some >= 2
