"""A classifier's network made fast for its device, and how fast it is with nothing around it."""

import copy
import ctypes
import logging
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import lru_cache

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .classifier import Classifier, fast_dtype
from .reading import Mark

# Windows of a batch: (processor, GPU). A volume holds as much as many patches.
FLAT_BATCH = (16, 256)
VOLUME_BATCH = (8, 32)
# Bytes: the largest layer's output of a batch fits in, a tomogram does not.
KEPT_BLOCK, KEPT_IN_ALL = 1 << 28, 1 << 30
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # as <malloc.h> numbers them
log = logging.getLogger("tomoscreen")


class Engine:
    """A network in the number format and memory order that its device likes best; its head stays exact.

    BatchNorm is folded into the convolutions, channels come last, and numbers are bfloat16 where that is native.
    On CUDA it may be compiled, which takes a minute and pays from some ten thousand patches on.
    """

    def __init__(self, classifier: Classifier, *, compiled: bool = False) -> None:
        self.device = classifier.device
        self.dtype = fast_dtype(self.device)
        self.card = classifier.card
        self.outliers = classifier.outliers
        self.columns = len(self.card.states) + 1
        self.lane = Lane(self.device)
        body = fold_batch_norm(classifier.network)
        # the head stays float32: logits of 8 bits would cut the probabilities into steps
        self.head = body.get_submodule("fc")
        body.fc = nn.Identity()
        self.layout = _layout(self.device, volumes=self.card.planes is not None)
        self.body = body.to(self.device, self.dtype).to(memory_format=self.layout)
        if self.device.type == "cpu":
            keep_memory()
        self.features: Callable[[torch.Tensor], torch.Tensor] = self.body
        if compiled and self.device.type == "cuda":
            self.features = compile_body(self.body, self.blank(self.default_batch))

    @property
    def default_batch(self) -> int:
        """Windows per batch unless somebody asks for another number."""
        sizes = FLAT_BATCH if self.card.planes is None else VOLUME_BATCH
        return sizes[self.device.type != "cpu"]

    def blank(self, batch: int) -> torch.Tensor:
        """A batch of empty windows, as the network sees them."""
        planes = () if self.card.planes is None else (self.card.planes,)
        shape = (batch, 1, *planes, self.card.patch_px, self.card.patch_px)
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    @torch.inference_mode()
    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        """(batch, 1, [z,] y, x) as normalised -> (batch, state + 1): probabilities, then the outlier score."""
        return self.say(self.features(windows.contiguous(memory_format=self.layout)).float())

    def say(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, feature) -> (batch, state + 1), in full precision."""
        probability = torch.softmax(self.head(features) / self.card.temperature, dim=1)
        if self.outliers is None:
            score = probability.new_full((len(probability), 1), torch.nan)
        else:
            score = self.outliers.score_torch(features)[:, None]
        return torch.cat([probability, score], dim=1)


@lru_cache(maxsize=2)
def engine_of(classifier: Classifier, compiled: bool = False) -> Engine:
    """The engine of a classifier, made once per process."""
    return Engine(classifier, compiled=compiled)


def pure_forward_rate(
    classifier: Classifier,
    *,
    batch: int | None = None,
    seconds: float = 2.0,
    compiled: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Patches per second of the network alone, on a batch that lies on the device: what no run can exceed.

    Parameters
    ----------
    classifier
        On its device, and as in `classify_fields`: the same network in the same number format.
    batch
        Windows per batch, as in `classify_fields`.
    seconds
        How long to measure, after two batches that are not counted.
    compiled
        As in `classify_fields`.
    clock
        Seconds so far; `time.process_time` where other programs take the processor in turns.
    """
    engine = engine_of(classifier, compiled)
    windows = engine.blank(batch or engine.default_batch).normal_()
    for _ in range(2):
        engine(windows)
    engine.lane.finish()
    begun, done = clock(), 0
    while (passed := clock() - begun) < seconds or not done:
        for _ in range(1 if engine.device.type == "cpu" else 10):  # a GPU works on while the next are called
            engine(windows)
            done += len(windows)
        engine.lane.finish()
    return done / passed


class Lane:
    """The two ways through a device: images are prepared on one while the network works on the other.

    A GPU does what it is told in order, lane by lane, behind the program's back; other devices have one lane,
    and on a processor all is done when a call returns.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.side = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    @property
    def apart(self) -> bool:
        """Whether the device works behind the program's back, and fetches images from page-locked memory."""
        return self.side is not None

    def preparing(self) -> AbstractContextManager[object]:
        """Within it, work goes to the lane beside the network."""
        return nullcontext() if self.side is None else torch.cuda.stream(self.side)

    def hand_over(self, prepared: torch.Tensor) -> torch.Tensor:
        """What was prepared, for the network's lane: that waits for it, and its memory stays until then."""
        if self.side is not None:
            network = torch.cuda.current_stream(self.device)
            network.wait_stream(self.side)
            prepared.record_stream(network)
        return prepared

    def mark(self) -> Mark | None:
        """A mark behind everything that the current lane was told so far; None where there is nothing to wait for."""
        if self.side is None:
            return None
        return torch.cuda.current_stream(self.device).record_event()  # type: ignore[no-any-return]

    def to_host(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy in the processor's memory: on a GPU on its way, until a mark set after it is passed."""
        if self.side is None:
            return tensor.cpu()
        return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)

    def finish(self) -> None:
        """Wait until the device has done everything."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def free_memory(self) -> None:
        """Give back what the device keeps for later."""
        self.finish()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()

    def peak_bytes(self) -> int:
        """Most memory of a GPU that this process used at once; 0 elsewhere."""
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else 0


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """A copy of a residual network whose convolutions have taken up their BatchNorm: the same function, less work."""
    folded = copy.deepcopy(network).eval()
    for module in list(folded.modules()):
        children = dict(module.named_children())
        pairs = [(name, "bn" + name.removeprefix("conv")) for name in children if name.startswith("conv")]
        if isinstance(module, nn.Sequential):  # a shortcut; in networks on volumes, a stem or a step
            pairs = [("0", "1")]
        for first, second in pairs:
            convolution, norm = children.get(first), children.get(second)
            if isinstance(convolution, nn.Conv2d | nn.Conv3d) and isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
                setattr(module, first, fuse_conv_bn_eval(convolution, norm))
                setattr(module, second, nn.Identity())
    return folded


def keep_memory() -> None:
    """Let this process keep memory that its tensors have freed, up to 1 GB, for the next ones.

    Linux takes blocks above some size back at once and hands out new ones page by page, each cleared: measured,
    6,000 pages a batch and 15 % of the time of a ResNet-18. Other systems are left as they are.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):  # a C library without these settings
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, KEPT_BLOCK)
        library.mallopt(_TRIM_THRESHOLD, KEPT_IN_ALL)


def compile_body(body: nn.Module, example: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """A network compiled for one size of batch, tried at once; as it was, with one warning, where that fails."""
    compiled: Callable[[torch.Tensor], torch.Tensor] = torch.compile(body, dynamic=False)
    try:
        with torch.inference_mode():
            compiled(example)
    except Exception as error:  # whatever a compiler can lack: Triton, a C compiler, a supported chip
        reason = str(error).strip().split("\n")[0]
        log.warning("The network could not be compiled and runs as it is, more slowly: %s", reason)
        return body
    return compiled


def _layout(device: torch.device, *, volumes: bool) -> torch.memory_format:
    if device.type == "mps":  # it has one order of its own, and the others cost it copies
        return torch.contiguous_format
    return torch.channels_last_3d if volumes else torch.channels_last
