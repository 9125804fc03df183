"""A classifier: weights, states, transform and calibration in one folder that vouches for itself."""

import hashlib
import json
import logging
import platform
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import safetensors
import torch
import torchvision
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file, save_file
from torch import nn

from plates.counts import COUNTS_PER_INDEX
from plates.errors import ClassifierError, DeviceError, SettingsError
from plates.files import settle, write_durable
from plates.patches import PATCH_PX, UM_PER_PX, analysis_shape
from plates.states import STATES

from .checksums import write_checksums
from .networks import ARCHITECTURES, build_network, is_volumetric
from .outliers import PREFIX, Outliers, from_tensors, to_tensors
from .shelf import CARD, RECORD, WEIGHTS, not_a_card, read_json

CARD_FORMAT = 1
# Processors and library versions round differently; a wrong transform moves probabilities by far more.
TEST_TOLERANCE = 0.005
TEST_SEED = 20250606
TEST_PATCHES = 4
# A card is not vouched for by a hash: these keep a wrong one from asking for all memory.
LARGEST_PATCH, MOST_PLANES = 2048, 1024
INDEX = "refractive index"

log = logging.getLogger("tomoscreen")


@dataclass(frozen=True)
class Card:
    """What a classifier is, knows and was made from.

    `index_window`, `mean` and `sd` are refractive indices relative to the field's medium: a network sees
    (clip(n - n_medium, *index_window) - mean) / sd. `quantity` is "refractive index", or what else its
    images hold. `planes` is None for projections, else the planes of a volume, `um_per_plane` apart.
    `wells` names the wells of each split ("plate:well"), so that nobody scores a classifier on them again.
    """

    name: str
    architecture: str
    states: tuple[str, ...] = STATES
    patch_px: int = PATCH_PX
    um_per_px: float = UM_PER_PX
    projection: str = "maximum"
    planes: int | None = None
    um_per_plane: float | None = None
    quantity: str = INDEX
    index_window: tuple[float, float] = (-0.007, 0.063)
    mean: float = 0.012
    sd: float = 0.014
    temperature: float = 1.0
    calibration: str = "not calibrated"
    trained_on: str = ""
    wells: dict[str, list[str]] = field(default_factory=dict)
    fingerprint: str = ""
    seed: int = 0
    command: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    uncertain: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    weights_dtype: Literal["float32", "float16"] = "float32"
    weights_sha256: str = ""
    test: dict[str, Any] = field(default_factory=dict)
    card_format: int = CARD_FORMAT


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network in evaluation mode, the card that describes it, and the device it lives on.

    `outliers` tell how far a patch lies from what the network was trained on; None where nobody fitted them.
    """

    network: nn.Module
    card: Card
    device: torch.device
    outliers: Outliers | None = None


def build_classifier(card: Card, *, weights: Path | str | None = None, device: str = "cpu") -> Classifier:
    """Build a new classifier for a card, with random, published or a file's weights (see `build_network`)."""
    network = build_network(card.architecture, states=card.states, weights=weights)
    place = resolve_device(device)
    return Classifier(network=network.eval().to(place), card=card, device=place)


def predict(classifier: Classifier, patches: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Calibrated probabilities of a few patches in full precision: the plain way, to hold others against.

    Parameters
    ----------
    classifier
        Any classifier.
    patches
        (patch, y, x), or (patch, z, y, x) for a classifier of volumes: refractive index relative to the
        medium, at the classifier's scale.

    Returns
    -------
    probability
        (patch, state).
    """
    with torch.inference_mode():
        index = torch.from_numpy(np.ascontiguousarray(patches, dtype=np.float32)).to(classifier.device)
        logits = classifier.network(normalise(index, classifier.card)[:, None]).float()
        probability: npt.NDArray[np.float32] = torch.softmax(logits / classifier.card.temperature, dim=1).cpu().numpy()
    return probability


def normalise(index: torch.Tensor, card: Card) -> torch.Tensor:
    """Refractive index relative to the medium -> what the network sees."""
    low, high = card.index_window
    return (index.clamp(low, high) - card.mean) / card.sd


def relative_index(counts: torch.Tensor, *, medium_index: float) -> torch.Tensor:
    """Stored counts (refractive index times 10,000, 0 missing) -> float32 index relative to the medium.

    Missing pixels become medium. The medium is taken off in float32 before anything is rounded:
    between 13,370 and 13,900 bfloat16 has steps of 64 counts.
    """
    relative = counts.to(torch.float32, copy=True)
    relative.sub_(medium_index * COUNTS_PER_INDEX).div_(COUNTS_PER_INDEX)
    return relative.masked_fill_(counts == 0, 0.0)


def to_analysis_scale(image: torch.Tensor, *, voxel_um: tuple[float, float]) -> torch.Tensor:
    """Resample a field (y, x) to 0.16 um per pixel; a field already at that scale comes back as it is."""
    shape = analysis_shape((image.shape[0], image.shape[1]), voxel_um=voxel_um)
    if shape == tuple(image.shape):
        return image
    resampled: torch.Tensor = nn.functional.interpolate(
        image[None, None], size=shape, mode="bilinear", align_corners=False, antialias=True
    )[0, 0]
    return resampled


def save_classifier(classifier: Classifier, path: Path, *, record: Path | None = None) -> Classifier:
    """Write a classifier folder (weights.safetensors, card.json, SHA256SUMS) and return what was written.

    The returned classifier holds the weights as they were stored (float16 rounds them; BatchNorm's
    statistics stay float32) and the completed card: hash, library versions, test input and its output.
    A `record` of the training is laid beside it. The folder appears when all of it is on the disk; whoever adds a
    file to it later puts that on its list, see `checksums.add_checksums`.

    Raises
    ------
    ClassifierError
        If the folder is there already: a trained classifier is never overwritten.
    """
    refuse_existing(path)
    tensors = stored_tensors(classifier.network, classifier.card.weights_dtype)
    if classifier.outliers is not None:
        tensors |= to_tensors(classifier.outliers)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as temporary:
        folder = Path(temporary) / path.name
        folder.mkdir()
        save_file(tensors, folder / WEIGHTS)
        (folder / WEIGHTS).chmod(0o644)  # safetensors writes for the owner alone
        card = replace(classifier.card, versions=_versions(), weights_sha256=_sha256(folder / WEIGHTS), test={})
        stored = _classifier_from(folder / WEIGHTS, card, classifier.device)
        card = replace(card, test=_measure_test(stored))
        settle(folder / WEIGHTS)
        write_durable(folder / CARD, (json.dumps(asdict(card), indent=2) + "\n").encode())
        if record is not None:
            write_durable(folder / RECORD, record.read_bytes())
        write_checksums(folder)
        folder.rename(path)
    return replace(stored, card=card)


def load_classifier(path: Path, *, device: str = "cpu") -> Classifier:
    """Open a classifier folder, checking the weights' hash and the card's test input.

    Parameters
    ----------
    path
        Folder with weights.safetensors and card.json.
    device
        "auto", "cpu", "cuda" or "mps".

    Raises
    ------
    ClassifierError
        If the folder or a file is missing or altered, or it answers its test input otherwise.
    """
    card = read_card(path)
    found = _sha256(path / WEIGHTS)
    if found != card.weights_sha256:
        raise ClassifierError(
            f"{path / WEIGHTS} has sha256 {found[:12]}..., but its card says {card.weights_sha256[:12]}...: "
            "the file was altered or not copied whole. Copy the classifier folder again."
        )
    place = resolve_device(device)
    classifier = _classifier_from(path / WEIGHTS, card, place)
    _check_test(classifier, path)
    return classifier


def read_card(path: Path) -> Card:
    """Read the card of a classifier folder, without its weights."""
    values = read_json(path)
    if "card_format" not in values:
        raise not_a_card(path, "it has no 'card_format'")
    if values["card_format"] != CARD_FORMAT:
        raise ClassifierError(
            f"{path / CARD} is of format {values['card_format']}, this version reads {CARD_FORMAT}. "
            "Update tomoscreen, or give a classifier that this version made."
        )
    try:
        card = TypeAdapter(Card).validate_python(values)
    except ValidationError as error:
        fault = error.errors()[0]
        raise not_a_card(path, f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error
    planes = 1 if card.planes is None else card.planes
    for what, size, most in (("patch_px", card.patch_px, LARGEST_PATCH), ("planes", planes, MOST_PLANES)):
        if not 1 <= size <= most:
            raise not_a_card(path, f"{what} is {size}, between 1 and {most} is expected")
    if card.architecture not in ARCHITECTURES:
        raise ClassifierError(
            f"{path / CARD} names the architecture {card.architecture!r}; this version knows "
            f"{', '.join(ARCHITECTURES)}. Update tomoscreen, or give another classifier."
        )
    if is_volumetric(card.architecture) != (card.planes is not None):
        raise ClassifierError(
            f"{path / CARD} says that a {card.architecture} looks at {looks_at(card)}. The card was altered: copy the "
            "classifier folder again."
        )
    return card


def require_for_screening(card: Card, *, path: Path) -> None:
    """Refuse a classifier that cannot call the states of a plate, from its projections or its tomograms.

    Raises
    ------
    ClassifierError
        If it tells other states apart than the five, looks at something else than index, or was trained at
        another scale than that of plates.
    """
    if card.states != STATES:
        raise ClassifierError(
            f"The classifier in {path} tells {', '.join(card.states)} apart. Expected the states "
            f"{', '.join(STATES)}, in this order. Train it again with these states, or give another one."
        )
    if card.quantity != INDEX:
        raise ClassifierError(
            f"The classifier in {path} looks at images of {card.quantity}; a plate is classified from refractive "
            "index. Give a classifier of refractive index, or judge this one with `tomoscreen evaluate`."
        )
    if card.planes is not None and not (card.um_per_plane and card.um_per_plane > 0):
        raise ClassifierError(
            f"The card in {path} does not say how far apart the classifier's {card.planes} planes are. Expected "
            "um_per_plane above 0. Copy the classifier folder again, or train it again."
        )
    if card.um_per_px != UM_PER_PX:
        raise ClassifierError(
            f"The classifier in {path} was trained at {card.um_per_px} um per pixel; plates are resampled to "
            f"{UM_PER_PX}, whatever the microscope's own pixels. Train it at that scale, or give another one."
        )


def looks_at(card: Card) -> str:
    """What a classifier looks at, in words."""
    return "projections" if card.planes is None else f"volumes of {card.planes} planes"


def refuse_existing(path: Path) -> None:
    """Raise ClassifierError if something is at the place where a classifier is to be written."""
    if path.exists():
        raise ClassifierError(
            f"{path} exists already, and a classifier is never overwritten. Give another folder, or remove this one."
        )


def resolve_device(device: str) -> torch.device:
    """Turn "auto", "cpu", "cuda" or "mps" into a device; "auto" takes the fastest that is there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        found = next(name for name, is_there in there.items() if is_there)
        if found == "cpu" and Path("/dev/nvidiactl").exists():
            log.warning(
                "This machine has a GPU that PyTorch cannot use (driver or CUDA version): computing on the processor, "
                "many times slower. Mend that, or say --device cpu to be told no more."
            )
        return torch.device(found)
    kind = device.split(":")[0]  # "cuda:1" is the second GPU
    if kind not in there:
        raise SettingsError(f"Device {device!r} is not known. Expected 'auto', 'cpu', 'cuda' or 'mps'.")
    if not there[kind]:
        raise DeviceError(f"This machine has no device {device!r}. Use 'auto', which takes what is there, or 'cpu'.")
    if kind == "cuda" and (torch.device(device).index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"This machine has no device {device!r}: its GPUs are 0 to {torch.cuda.device_count() - 1}.")
    return torch.device(device)


def fast_dtype(device: torch.device) -> torch.dtype:
    """The number format in which a device multiplies fastest without loss that matters: bfloat16 or float32.

    bfloat16 only where it is native: emulated on a CPU it is many times slower. Measured on ResNets, it
    moves a class probability by at most 0.003.
    """
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    # the only public question that torch answers is about the GPU; getattr, since the name is not promised
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    if device.type == "cpu" and native is not None and native():
        return torch.bfloat16
    return torch.float32


def stored_tensors(network: nn.Module, dtype: str) -> dict[str, torch.Tensor]:
    """A network's numbers as its folder keeps them, rounded to `dtype` where that loses nothing that matters."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    if dtype == "float32":
        return tensors
    return {
        # BatchNorm's statistics span many orders of magnitude and are few: they keep their bits
        name: tensor.half() if tensor.is_floating_point() and "running_" not in name else tensor
        for name, tensor in tensors.items()
    }


def _classifier_from(weights: Path, card: Card, device: torch.device) -> Classifier:
    with torch.device("meta"):  # no time spent on random weights that are replaced at once
        network = build_network(card.architecture, states=card.states)
    try:
        tensors = {
            name: tensor.float() if tensor.is_floating_point() else tensor
            for name, tensor in load_file(weights).items()
        }
        beside = {name: tensors.pop(name) for name in list(tensors) if name.startswith(PREFIX)}
        network.load_state_dict(tensors, assign=True)
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise ClassifierError(
            f"{weights} does not hold a {card.architecture} of {len(card.states)} states. "
            "Copy the classifier folder again."
        ) from error
    outliers = from_tensors(beside).to(device) if beside else None
    return Classifier(network=network.eval().to(device), card=card, device=device, outliers=outliers)


def _measure_test(classifier: Classifier) -> dict[str, Any]:
    probability = predict(classifier, made_up_patches(classifier.card, seed=TEST_SEED, count=TEST_PATCHES))
    return {
        "input": "models.classifier.made_up_patches",
        "seed": TEST_SEED,
        "patches": TEST_PATCHES,
        "tolerance": TEST_TOLERANCE,
        "probability": [[round(float(value), 6) for value in row] for row in probability],
    }


def _check_test(classifier: Classifier, path: Path) -> None:
    try:
        test = classifier.card.test
        expected = np.asarray(test["probability"], dtype=float)
        count = int(test["patches"])
        if expected.shape != (count, len(classifier.card.states)):
            raise ValueError(f"{count} patches and an answer of shape {expected.shape}")
        patches = made_up_patches(classifier.card, seed=int(test["seed"]), count=count)
        tolerance = float(test["tolerance"])
        found = predict(classifier, patches)
    except (KeyError, TypeError, ValueError) as error:
        raise ClassifierError(
            f"{path / CARD} has no usable test input ({error}). Copy the classifier folder again."
        ) from error
    difference = float(np.abs(found - expected).max())
    if not difference <= tolerance:  # also when it is NaN
        raise ClassifierError(
            f"The classifier in {path} answers its card's test input with probabilities that differ by "
            f"{difference:.3g} (at most {tolerance:g} is expected): the card was altered or this version "
            "reads it otherwise. Copy the classifier folder again, or use the library versions that its "
            "card names."
        )


def made_up_patches(card: Card, *, seed: int, count: int) -> npt.NDArray[np.float32]:
    """Patches of soft blobs ((patch, y, x), or (patch, z, y, x)), index above the medium, the same everywhere.

    Only raw bits of the generator are used: NumPy promises those, and not its distributions, for ever.
    """
    blobs = 6
    raw = np.random.PCG64(seed).random_raw(count * blobs * 4)
    y, x, width, height = (raw / 2.0**64).reshape(count, blobs, 4).transpose(2, 0, 1)[..., None]
    axis = np.arange(card.patch_px) / card.patch_px
    spread = 0.02 + 0.15 * width
    low, high = card.index_window
    bumps = np.einsum(
        "pby,pbx->pbyx",
        (low / 2 + (high - low / 2) * height) * np.exp(-(((axis - y) / spread) ** 2)),
        np.exp(-(((axis - x) / spread) ** 2)),
    )
    patches: npt.NDArray[np.float32]
    if card.planes is None:
        patches = bumps.sum(axis=1).astype(np.float32)
        return patches
    # a volume holds the same blobs, each in a plane of its own
    plane = np.arange(card.planes) / card.planes
    depth = np.exp(-(((plane - (y + x) / 2) / 0.1) ** 2))
    patches = np.einsum("pbz,pbyx->pzyx", depth, bumps).astype(np.float32)
    return patches


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "safetensors": safetensors.__version__,
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
