"""How much of the time the network computes, and how that compares with what a user would write.

    python -m tests.benchmarks.inference_speed WORK [efficiency] [peers] [gpu]

A plate of simulated fields is made below WORK (60 MB, 10 s of one core). Rates on a processor are patches per second
of processor time, reading thread included, of processes with one thread each: the machine is shared. Rounds of what is
compared take turns, and medians are printed. `peers` compares with MONAI where it can be imported; put the folder
it was installed to on PYTHONPATH. `gpu` says "not run" where there is none.
"""

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache, partial
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import torch

import models
from models.classifier import (
    Card,
    Classifier,
    build_classifier,
    load_classifier,
    made_up_patches,
    normalise,
    relative_index,
    to_analysis_scale,
)
from models.engine import FLAT_BATCH, engine_of, pure_forward_rate
from models.inference import classify_fields
from models.reading import Image, in_threads
from models.timing import Timing
from plates.creation import create_plate
from plates.patches import PATCH_PX, window_grid
from plates.simulation.design import INDUCERS, PlannedWell, PlateDesign
from plates.simulation.plate import _frames, _medium_index, _populate
from plates.store import Plate, open_plate

ARCHITECTURES = ("resnet18", "resnet101")
STRIDES = (160, 80)
ROUNDS = 3
SIDE = 1200
BATCH = FLAT_BATCH[0]
# A run ends with one batch that is not full; over so many its share is about that of a task of a real plate.
LEAST_BATCHES = {"resnet18": 30, "resnet101": 12}
READERS = 8
# Images per second of timm's ResNet-101 at 160 px, mixed precision: published for its benchmark tables.
PUBLISHED = {
    "timm, RTX 4090, NCHW": 5347,
    "timm, RTX 4090, channels last": 6655,
    "timm, RTX 4090, compiled": 10467,
    "timm, RTX 5090, compiled": 15061,
}
Probabilities = npt.NDArray[np.float32]
Fields = Sequence[npt.NDArray[np.uint16]]


def main(work: Path, parts: Sequence[str]) -> None:
    """Run the parts named, or all."""
    path = make_plate(work / "speed.zarr")
    for part in parts or ("efficiency", "peers", "gpu"):
        {"efficiency": efficiency, "peers": peers, "gpu": gpu}[part](path)


def make_plate(path: Path) -> Path:
    """A stored plate of one well at two times, half covered by cells."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    planned = PlannedWell("A01", INDUCERS["apoptosis"], 10.0, "positive", "apoptosis", 1)
    design = PlateDesign("speed", 1, (planned,), hours=(4.0, 12.0), fields=1, shape=(24, SIDE, SIDE))
    plate = create_plate(
        path,
        provenance={"step": "benchmark"},
        name=design.name,
        wells=["A01"],
        fields=1,
        timepoints=2,
        shape_zyx=design.shape,
        voxel_um=design.voxel_um,
        rows=8,
        columns=12,
        hours=design.hours,
    )
    states = np.zeros((2, SIDE, SIDE), np.uint8)
    cells = _populate(design, planned, np.random.default_rng([1, 0, 0]))
    for timepoint, counts in enumerate(_frames(design, planned, cells, states, _medium_index(design, 0), (0, 0))):
        plate.write_field("A01", field=0, timepoint=timepoint, volume=counts)
    return path


def efficiency(path: Path) -> None:
    """Patches from end to end over those of the network alone, in one and in two processes."""
    print(f"\n{os.cpu_count()} cores, {fast_format()}, batch {BATCH}; per second of processor time\n")
    print("| network | stride | processes | network alone | from stored projections | efficiency |")
    print("|---|---|---|---|---|---|")
    for architecture in ARCHITECTURES:
        rates: dict[tuple[int, int], float] = {}
        for stride in STRIDES:
            for processes in (1, 2):
                with get_context("spawn").Pool(processes) as pool:
                    rounds = pool.map(_rounds, [(path, architecture, stride)] * processes, chunksize=1)
                pure = sum(median(pure for pure, _ in of_one) for of_one in rounds)
                rates[stride, processes] = sum(median(rate for _, rate in of_one) for of_one in rounds)
                ratio = median(rate / pure for of_one in rounds for pure, rate in of_one)
                print(
                    f"| {architecture} | {stride} | {processes} | {pure:.1f} | {rates[stride, processes]:.1f} "
                    f"| {ratio:.3f} |",
                    flush=True,
                )
        scaling = ", ".join(f"{rates[stride, 2] / rates[stride, 1]:.2f} at stride {stride}" for stride in STRIDES)
        print(f"\n{architecture}: two processes over one {scaling}\n", flush=True)


def _rounds(job: tuple[Path, str, int]) -> list[tuple[float, float]]:
    """(network alone, from end to end) in patches per second of this process, several times in turn."""
    path, architecture, stride = job
    torch.set_num_threads(1)
    classifier, plate = untrained(architecture), open_plate(path)
    patches = run(plate, 2, classifier=classifier, stride=stride)  # warms up, too
    fields = 2 * math.ceil(LEAST_BATCHES[architecture] * BATCH / patches)
    found = []
    for _ in range(ROUNDS):
        before = pure_forward_rate(classifier, seconds=1, clock=time.process_time)
        begun = time.process_time()
        patches = run(plate, fields, classifier=classifier, stride=stride)
        rate = patches / (time.process_time() - begun)
        after = pure_forward_rate(classifier, seconds=1, clock=time.process_time)
        found.append(((before + after) / 2, rate))
    return found


def run(plate: Plate, fields: int, *, classifier: Classifier, stride: int) -> int:
    """Classify so many fields of a stored plate, its two in turn, and say how many windows held cells."""

    def images() -> Iterator[Image]:
        for number in range(fields):
            yield plate.projection("A01", field=0, timepoint=number % 2), plate.voxel_um[1:], 1.3372

    timing = Timing()
    for _ in classify_fields(classifier, images(), stride=stride, timing=timing):
        pass
    return timing.patches


def peers(path: Path) -> None:
    """Fields of 0.16 um and whole patches, so that all find the same windows, in four ways."""
    plate = open_plate(path)
    fields = [_whole_patches(plate, timepoint) for timepoint in (0, 1)] * 2
    windows = sum((counts.shape[0] // PATCH_PX) ** 2 for counts in fields)
    print(f"\n{len(fields)} fields of {fields[0].shape} px, {windows} windows, batch {BATCH}, {fast_format()}. Ours")
    print("leaves background out, the others have no rule for it. Per second of processor time. Differences are")
    print("to ours in the same number format; 'other state' is the share of patches whose state is not ours.\n")
    print("| network | way | patches/s | ours: times per patch | times per field | largest difference | other state |")
    print("|---|---|---|---|---|---|---|")
    ways = ["ours", "ours, float32", "DataLoader, a NumPy slice per patch, float32"]
    if monai_version():
        ways += [f"MONAI {monai_version()} SlidingWindowInferer, float32", "the same around our network in bfloat16"]
    for architecture in ARCHITECTURES:
        with ExitStack() as stack:
            # each in a process of its own: ours sets how a process keeps its memory
            pools = [stack.enter_context(get_context("spawn").Pool(1)) for _ in ways]
            for pool, way in zip(pools, WAYS, strict=False):
                pool.apply(_timed, (way, architecture, fields[:1]))  # warms up
            rounds = [
                [pool.apply(_timed, (way, architecture, fields)) for pool, way in zip(pools, WAYS, strict=False)]
                for _ in range(ROUNDS)
            ]
        answers = [found for _, found in rounds[-1]]
        shown = np.isfinite(answers[0][..., 0])
        patches = [int(np.isfinite(found[..., 0]).sum()) for found in answers]
        for number, name in enumerate(ways):
            seconds = median(of_round[number][0] for of_round in rounds)
            times = median(of_round[number][0] / of_round[0][0] for of_round in rounds)
            # the numbers as such are compared in the number format that all share
            reference = answers[0] if number == 0 or "bfloat16" in name else answers[1]
            difference = float(np.abs(answers[number][shown] - reference[shown]).max())
            other = float((answers[number][shown].argmax(-1) != answers[0][shown].argmax(-1)).mean())
            print(
                f"| {architecture} | {name} | {patches[number] / seconds:.1f} "
                f"| {times * patches[0] / patches[number]:.2f} | {times:.2f} | {difference:.4f} | {other:.1%} |",
                flush=True,
            )
    if not monai_version():
        print("\nMONAI: not run, it cannot be imported here")


def _timed(way: str, architecture: str, fields: Fields) -> tuple[float, Probabilities]:
    """Processor time that one way took in this process, and what it found (field, row, column, state)."""
    torch.set_num_threads(1)
    classifier = _classifier(architecture)
    begun = time.process_time()
    found = np.stack(WAYS[way](classifier, fields))
    return time.process_time() - begun, found


@cache
def _classifier(architecture: str) -> Classifier:
    # trained, where there is one: how far probabilities move is a question of what was learned
    if architecture == "resnet18":
        return load_classifier(Path(models.__file__).parent / "demonstration")
    return untrained(architecture)


def _whole_patches(plate: Plate, timepoint: int) -> npt.NDArray[np.uint16]:
    """A field at 0.16 um, cut to a whole number of patches: all grids of windows are the same then."""
    stored = torch.from_numpy(plate.projection("A01", field=0, timepoint=timepoint).astype(np.float32))
    resampled = to_analysis_scale(stored, voxel_um=plate.voxel_um[1:])
    side = min(resampled.shape) // PATCH_PX * PATCH_PX
    return resampled[:side, :side].round().numpy().astype(np.uint16)


def ours(classifier: Classifier, fields: Fields) -> list[Probabilities]:
    """The engine (row, column, state)."""
    images: list[Image] = [(counts, (0.16, 0.16), 1.3372) for counts in fields]
    return [found.probability for found in classify_fields(classifier, images)]


def ours_exactly(classifier: Classifier, fields: Fields) -> list[Probabilities]:
    """The engine in the number format of the others."""
    with patch("models.engine.fast_dtype", return_value=torch.float32):
        return ours(classifier, fields)


def with_data_loader(classifier: Classifier, fields: Fields) -> list[Probabilities]:
    """What is written first: a dataset that cuts and normalises each patch, a loader, the network as it was built."""
    card = classifier.card
    offsets = window_grid(fields[0].shape[0])
    places = [(number, y, x) for number in range(len(fields)) for y in offsets for x in offsets]

    class Windows(torch.utils.data.Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return len(places)

        def __getitem__(self, place: int) -> torch.Tensor:
            number, y, x = places[place]
            counts = fields[number][y : y + PATCH_PX, x : x + PATCH_PX]
            index = np.where(counts > 0, counts.astype(np.float32) / 1e4 - 1.3372, 0)  # 0 is missing
            return torch.from_numpy((np.clip(index, *card.index_window) - card.mean) / card.sd)[None]

    answers = []
    with torch.inference_mode():
        # in this process: the time of loading processes would not be counted
        for batch in torch.utils.data.DataLoader(Windows(), batch_size=BATCH):
            answers.append(torch.softmax(classifier.network(batch) / card.temperature, dim=1))
    return list(torch.cat(answers).numpy().reshape(len(fields), len(offsets), len(offsets), -1))


def with_monai(classifier: Classifier, fields: Fields, *, fast: bool = False) -> list[Probabilities]:
    """MONAI's sliding windows over the normalised field, around the network as it was built or around ours."""
    from monai.inferers import SlidingWindowInferer  # type: ignore[import-not-found]

    engine = engine_of(classifier) if fast else None

    def predict(windows: torch.Tensor) -> torch.Tensor:
        if engine is not None:
            probability = engine(windows.to(engine.dtype))[:, :-1]
        else:
            probability = torch.softmax(classifier.network(windows) / classifier.card.temperature, dim=1)
        return probability[:, :, None, None].contiguous()

    slide = SlidingWindowInferer(roi_size=(PATCH_PX, PATCH_PX), sw_batch_size=BATCH, overlap=0)
    answers = []
    with torch.inference_mode():
        for counts in fields:
            relative = relative_index(torch.from_numpy(counts.astype(np.int32)), medium_index=1.3372)
            found: torch.Tensor = slide(normalise(relative, classifier.card)[None, None], predict)
            answers.append(found[0].permute(1, 2, 0).numpy())
    return answers


WAYS: dict[str, Callable[[Classifier, Fields], list[Probabilities]]] = {
    "ours": ours,
    "ours, float32": ours_exactly,
    "data loader": with_data_loader,
    "monai": with_monai,
    "monai, fast": partial(with_monai, fast=True),
}


def gpu(path: Path) -> None:
    """ResNet-101 compiled in bfloat16, beside what is published for this network at 160 px."""
    print("\n| device | stride | network alone | from stored projections | efficiency |")
    print("|---|---|---|---|---|")
    if not torch.cuda.is_available():
        print("| not run: no GPU | | | | |")
    else:
        plate, name = open_plate(path), torch.cuda.get_device_name()
        classifier = untrained("resnet101", device="cuda")
        for stride in STRIDES:
            pures, rates = [], []
            for number in range(ROUNDS + 1):
                pure = pure_forward_rate(classifier, seconds=3, compiled=True)
                timing, begun = Timing(), time.perf_counter()
                fields = islice(cycle([0, 1]), 600 if stride == PATCH_PX else 150)
                reads = (partial(_image, plate, timepoint) for timepoint in fields)
                images = in_threads(reads, threads=READERS)
                for _ in classify_fields(classifier, images, stride=stride, compiled=True, timing=timing):
                    pass
                if number:
                    pures.append(pure)
                    rates.append(timing.patches / (time.perf_counter() - begun))
            ratio = median(rate / pure for rate, pure in zip(rates, pures, strict=True))
            print(f"| {name} | {stride} | {median(pures):.0f} | {median(rates):.0f} | {ratio:.3f} |", flush=True)
    for name, rate in PUBLISHED.items():
        print(f"| {name} | - | {rate} | - | - |")


def _image(plate: Plate, timepoint: int) -> Image:
    return plate.projection("A01", field=0, timepoint=timepoint), plate.voxel_um[1:], 1.3372


def untrained(architecture: str, *, device: str = "cpu") -> Classifier:
    """A network with random weights, as fast as a trained one, whose answers are neither all alike nor all certain."""
    torch.manual_seed(0)
    classifier = build_classifier(Card(name=architecture, architecture=architecture), device=device)
    head = classifier.network.get_submodule("fc.1")
    assert isinstance(head, torch.nn.Linear)
    patches = torch.from_numpy(made_up_patches(classifier.card, seed=0, count=8)).to(device)
    with torch.inference_mode():
        logits = classifier.network(normalise(patches, classifier.card)[:, None])
    with torch.no_grad():
        head.weight.div_(float(logits.std()))
    return classifier


def fast_format() -> str:
    """The number format in which this processor multiplies."""
    return str(engine_of(untrained("resnet18")).dtype).removeprefix("torch.")


def monai_version() -> str:
    """Version of MONAI; empty where it cannot be imported."""
    try:
        import monai  # type: ignore[import-not-found]
    except ImportError:
        return ""
    return str(monai.__version__)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
