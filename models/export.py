"""A classifier as one ONNX file, from refractive index to calibrated probabilities, held against our own answers."""

import json
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from plates.errors import ClassifierError, SettingsError
from plates.files import write_durable

from .classifier import Card, Classifier, made_up_patches, normalise, predict

if TYPE_CHECKING:
    import onnx

# What torch's exporter writes without converting; runtimes since 2023 read it.
OPSET = 18
LARGEST_DIFFERENCE = 1e-4
RANDOM_SEED = 7
INPUT, OUTPUT = "index", "probability"
_NEEDED = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Exported:
    """An ONNX file that was written, and how far its answers lie from ours at most."""

    path: Path
    opset: int
    difference: float
    patches: int
    size: int


def export_onnx(classifier: Classifier, path: Path) -> Exported:
    """Write a classifier as ONNX, whole and only if ONNX Runtime answers with it as torch does.

    The graph's input "index" is (n, 1, y, x), or (n, 1, z, y, x) for volumes: refractive index relative to
    the medium, float32, not normalised, n free. Its output "probability" is (n, state), calibrated: window,
    normalisation and temperature are inside. The card's essentials are the file's metadata.

    Parameters
    ----------
    classifier
        Any classifier, best loaded on the CPU.
    path
        File to write, ending in .onnx; never overwritten.

    Raises
    ------
    SettingsError
        If the export's packages are not installed, or the path is no new .onnx file.
    ClassifierError
        If a probability differs by more than 1e-4 on the card's test input or on random patches; no file
        is left then.
    """
    absent = [name for name in _NEEDED if find_spec(name) is None]
    if absent:
        raise SettingsError(
            f"Exporting needs {', '.join(absent)}, not installed here. Install with: pip install 'tomoscreen[export]'"
        )
    if path.suffix != ".onnx":
        raise SettingsError(f"{path}: the file of an export ends in .onnx. Give such a name.")
    if path.exists():
        raise SettingsError(f"{path} exists already and is not overwritten. Give another name, or remove it.")
    model = _to_onnx(classifier)
    data = model.SerializeToString()
    patches = [*_test_patches(classifier.card), _random_patches(classifier.card)]
    difference = max(_difference(classifier, data, some) for some in patches)
    if not difference <= LARGEST_DIFFERENCE:  # also when it is NaN
        raise ClassifierError(
            f"{path} was not written: ONNX Runtime's probabilities of {classifier.card.name} differ from torch's by "
            f"{difference:.2g}, at most {LARGEST_DIFFERENCE:g} is expected. Try other versions of torch, onnxscript or "
            "onnxruntime; those of constraints.txt are known to agree."
        )
    write_durable(path, data)
    return Exported(path, OPSET, difference, sum(len(some) for some in patches), len(data))


class _Whole(nn.Module):
    """A network with what stands before and after it: index relative to the medium to calibrated probability."""

    def __init__(self, network: nn.Module, card: Card) -> None:
        super().__init__()
        self.network, self.card = network, card

    def forward(self, index: torch.Tensor) -> torch.Tensor:
        logits = self.network(normalise(index, self.card))
        return torch.softmax(logits / self.card.temperature, dim=1)


def _to_onnx(classifier: Classifier) -> "onnx.ModelProto":
    card = classifier.card
    example = torch.from_numpy(made_up_patches(card, seed=RANDOM_SEED, count=2))[:, None].to(classifier.device)
    # a batch of one or two must not become a constant of the graph: it is named as free
    program = torch.onnx.export(
        _Whole(classifier.network, card).eval(),
        (example,),
        dynamo=True,
        opset_version=OPSET,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: "batch"},),
        external_data=False,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    model.doc_string = f"{card.name}: states of cells from refractive index relative to the medium"
    for key, value in _metadata(card).items():
        model.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
    return model


def _metadata(card: Card) -> dict[str, Any]:
    shape = "(n, 1, y, x)" if card.planes is None else "(n, 1, z, y, x)"
    return {
        "made_by": f"tomoscreen {version('tomoscreen')}",
        "name": card.name,
        "architecture": card.architecture,
        "states": list(card.states),
        "input": f"{shape}: {card.quantity} minus that of the medium, float32, not normalised",
        "output": "(n, state): calibrated probabilities",
        "patch_px": card.patch_px,
        "um_per_px": card.um_per_px,
        "planes": card.planes,
        "um_per_plane": card.um_per_plane,
        "projection": card.projection,
        "index_window": list(card.index_window),
        "temperature": card.temperature,
        "calibration": card.calibration,
        "trained_on": card.trained_on,
        "fingerprint": card.fingerprint,
        "weights_sha256": card.weights_sha256,
    }


def _test_patches(card: Card) -> list[npt.NDArray[np.float32]]:
    if not card.test:
        return []
    return [made_up_patches(card, seed=int(card.test["seed"]), count=int(card.test["patches"]))]


def _random_patches(card: Card) -> npt.NDArray[np.float32]:
    """Noise that leaves the index window on both sides, in a batch of another size than the exported one."""
    low, high = card.index_window
    side = (card.patch_px, card.patch_px) if card.planes is None else (card.planes, card.patch_px, card.patch_px)
    raw = np.random.default_rng(RANDOM_SEED).uniform(2 * low, 1.5 * high, (3, *side))
    return raw.astype(np.float32)


def _difference(classifier: Classifier, data: bytes, patches: npt.NDArray[np.float32]) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (found,) = session.run([OUTPUT], {INPUT: patches[:, None]})
    return float(np.abs(found - predict(classifier, patches)).max())
