"""Single-cell images of any microscope, described in a TOML file: the same patches as a plate's, in other units."""

import re
import tomllib
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import nn

from models.datasets import Patches
from plates.counts import COUNTS_PER_INDEX
from plates.errors import MissingInputError, SettingsError

# Deviations from the medium fill 16 bits around the middle of the range that patches have (1 to 32767).
MEDIUM_COUNTS = 16384
FULL_COUNTS = 16000


@dataclass(frozen=True)
class Values:
    """How pixel values become what a network sees: (value - medium) / unit, cut off at `largest`.

    `medium` is "border" (median of the outermost pixels of each image) or one value for all images. The
    unit is 1, or with `contrast` "image" the root mean square deviation of each image from its medium,
    but at least `least_contrast`, so that the noise of an empty image is not blown up.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    largest: float
    quantity: str = "grey value"
    medium: Literal["border"] | float = "border"
    contrast: Literal["image", "as stored"] = "as stored"
    least_contrast: float = 1.0


@dataclass(frozen=True)
class ImageSet:
    """The table [images] of a settings file.

    `file` is an .npz without pickled objects, its path relative to the settings. `image`, `label` and the
    others name its arrays: images (n, y, x), their labels (n,), and the name of the file or frame that each
    came from, (n,) or looked up by `source_index` (n,). `family` names an array (n,), or is a regular
    expression whose first group is the family in the source's name; one family stands for a plate, one
    source for a well. Without `source` every image is a source of its own.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    file: str
    image: str
    label: str
    px: int
    states: dict[str, list[int | str]]
    values: Values
    leave_out: list[int | str] = field(default_factory=list)
    source: str | None = None
    source_index: str | None = None
    family: str | None = None


def read_image_set(settings: Path) -> Patches:
    """Read the images that a settings file describes; all of them are "train" until they are split.

    Parameters
    ----------
    settings
        TOML file with a table [images] (see `ImageSet`); other tables, such as [recipe], are left alone.

    Returns
    -------
    patches
        Images resampled to `px` on a side, as counts around a medium; `group` is "family:source", and
        `window` the whole range of values.

    Raises
    ------
    MissingInputError
        If the settings or the file of images are not there.
    SettingsError
        If a key is unknown, an array is missing or of a wrong shape, a label belongs to no state, or a
        source's name shows no family.
    """
    described = _read_settings(settings)
    path = settings.parent / described.file
    arrays = _Arrays(path, where=str(settings))
    image = arrays.images(described.image)
    label = arrays.column(described.label, len(image))
    truth = _truth(label, described, where=str(settings))
    family, source = _places(arrays, described, len(image), where=str(settings))
    keep = np.flatnonzero(truth >= 0)
    counts = _counts(image[keep], described)
    limit = FULL_COUNTS / COUNTS_PER_INDEX
    return Patches(
        counts=counts,
        corner=np.zeros((len(keep), 2), dtype=np.int64),
        medium_index=np.full(len(keep), MEDIUM_COUNTS / COUNTS_PER_INDEX, dtype=np.float32),
        truth=truth[keep],
        group=np.char.add(np.char.add(family, ":"), source)[keep],
        split=np.full(len(keep), "train", dtype="U10"),
        states=tuple(described.states),
        quantity=described.values.quantity,
        window=(-limit, limit),
    )


def _read_settings(path: Path) -> ImageSet:
    if not path.is_file():
        raise MissingInputError(f"There is no file {path}. Correct the path of the settings.")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}. Expected a table [images] with keys and values.") from None
    try:
        described = TypeAdapter(ImageSet).validate_python(raw.get("images", {}))
    except ValidationError as error:
        faults = [f"{path}: images.{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        raise SettingsError("\n".join(faults) + "\nThe keys are listed in docs/image_sets.md.") from None
    if len(described.states) < 2 or described.px < 8 or not described.values.largest > 0:
        raise SettingsError(
            f"{path}: {len(described.states)} states, px = {described.px} and largest = {described.values.largest} "
            "were given. Expected at least two states, at least 8 px, and a largest deviation above 0."
        )
    return described


# bytes in memory that nobody fears, and how far images may be compressed beyond that
_UNSUSPICIOUS, _MOST_UNFOLDING = 1 << 28, 100


class _Arrays:
    """The arrays of an .npz, each checked as it is taken."""

    def __init__(self, path: Path, *, where: str) -> None:
        if not path.is_file():
            raise MissingInputError(
                f"{where}: there is no file {path}. Correct images.file; it starts at the settings."
            )
        self.where = f"{where}: {path.name}"
        self._refuse_a_bomb(path)
        try:
            with np.load(path, allow_pickle=False) as stored:
                self.arrays = {name: stored[name] for name in stored.files}
        except (ValueError, OSError, AttributeError) as error:  # pickled objects, no zip file, a bare .npy
            raise SettingsError(
                f"{self.where} cannot be read ({error}). Expected an .npz of plain arrays, without pickled objects."
            ) from error

    def _refuse_a_bomb(self, path: Path) -> None:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > _UNSUSPICIOUS and size > _MOST_UNFOLDING * path.stat().st_size:
            raise SettingsError(
                f"{self.where} claims to unpack from {path.stat().st_size:,} to {size:,} bytes. Images do not: "
                f"expected at most {_MOST_UNFOLDING} times as much. Do not trust this file."
            )

    def named(self, name: str) -> npt.NDArray[Any]:
        if name not in self.arrays:
            raise SettingsError(
                f"{self.where} holds no array {name!r}. Expected one of {', '.join(sorted(self.arrays))}. "
                "Correct the name in the table [images]."
            )
        found: npt.NDArray[Any] = self.arrays[name]
        return found

    def images(self, name: str) -> npt.NDArray[np.float32]:
        found = self.named(name)
        if found.ndim != 3 or found.shape[1] != found.shape[2] or found.dtype.kind not in "uif" or len(found) == 0:
            raise SettingsError(
                f"{self.where}: array {name!r} has the shape {found.shape} and type {found.dtype}. "
                "Expected square grey images (image, y, x) of numbers."
            )
        images = found.astype(np.float32)
        if not np.isfinite(images).all():
            raise SettingsError(
                f"{self.where}: array {name!r} holds values that are not finite. Expected numbers. Fill or remove them."
            )
        return images

    def column(self, name: str, length: int) -> npt.NDArray[Any]:
        found = self.named(name)
        if found.shape != (length,):
            raise SettingsError(
                f"{self.where}: array {name!r} has the shape {found.shape}. Expected one entry for each of the "
                f"{length} images."
            )
        return found


def _truth(label: npt.NDArray[Any], described: ImageSet, *, where: str) -> npt.NDArray[np.int64]:
    """Place of each image's state in the list of states, -1 where it is left out."""
    place: dict[int | str, int] = dict.fromkeys(described.leave_out, -1)
    for number, (state, labels) in enumerate(described.states.items()):
        for name in labels:
            if name in place:
                raise SettingsError(f"{where}: label {name!r} is given twice, the second time in {state!r}. Keep one.")
            place[name] = number
    there = np.unique(label).tolist()
    unknown = [name for name in there if name not in place]
    if unknown:
        raise SettingsError(
            f"{where}: {int((label == unknown[0]).sum())} images have the label {unknown[0]!r}, which belongs to no "
            f"state. Expected one of {', '.join(map(repr, place))}. Add it to a state in [images.states], or to "
            "leave_out."
        )
    absent = [state for state, labels in described.states.items() if not set(labels) & set(there)]
    if absent:
        raise SettingsError(
            f"{where}: no image has a label of the state {absent[0]!r} ({described.states[absent[0]]}). Labels in the "
            f"file: {', '.join(map(repr, there))}. Correct [images.states]."
        )
    return np.array([place[name] for name in label.tolist()], dtype=np.int64)


def _places(
    arrays: _Arrays, described: ImageSet, length: int, *, where: str
) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.str_]]:
    """Family and source of every image, as text."""
    source = _sources(arrays, described, length)
    if described.family is None:
        return np.full(length, Path(described.file).stem), source
    if described.family in arrays.arrays:
        return arrays.column(described.family, length).astype(str), source
    try:
        pattern = re.compile(described.family)
    except re.error as error:
        raise SettingsError(f"{where}: family {described.family!r} is no regular expression ({error}).") from None
    found = {name: pattern.search(name) for name in np.unique(source).tolist()}
    family = {name: match.group(1) for name, match in found.items() if match is not None and match.re.groups}
    unplaced = [name for name in found if not family.get(name)]
    if unplaced:
        raise SettingsError(
            f"{where}: family {described.family!r} is no array of the file and finds nothing in {len(unplaced)} of "
            f"{len(found)} source names, such as {unplaced[0]!r}. Expected a regular expression with one group, such "
            "as '^([a-z]+)'."
        )
    return np.array([family[name] for name in source.tolist()]), source


def _sources(arrays: _Arrays, described: ImageSet, length: int) -> npt.NDArray[np.str_]:
    if described.source is None:
        return np.array([f"image {number}" for number in range(length)])
    if described.source_index is None:
        return arrays.column(described.source, length).astype(str)
    names = arrays.named(described.source)
    index = arrays.column(described.source_index, length)
    if names.ndim != 1 or index.dtype.kind not in "ui" or index.min() < 0 or index.max() >= len(names):
        raise SettingsError(
            f"{arrays.where}: {described.source_index!r} does not point into the {len(names)} names of "
            f"{described.source!r}. Expected whole numbers from 0 to {len(names) - 1}."
        )
    looked_up: npt.NDArray[np.str_] = names[index].astype(str)
    return looked_up


def _counts(image: npt.NDArray[np.float32], described: ImageSet) -> npt.NDArray[np.uint16]:
    """Deviation from the medium in 16-bit counts, (n, px, px)."""
    values = described.values
    relative = image - (border_median(image) if values.medium == "border" else np.float32(values.medium))
    if values.contrast == "image":
        spread = np.sqrt((relative**2).mean(axis=(1, 2), keepdims=True))
        relative = relative / np.maximum(spread, np.float32(values.least_contrast))
    if described.px != image.shape[-1]:
        relative = nn.functional.interpolate(
            torch.from_numpy(relative)[:, None],
            size=(described.px, described.px),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )[:, 0].numpy()
    deviation = np.rint(np.clip(relative / values.largest, -1, 1) * FULL_COUNTS)
    counts: npt.NDArray[np.uint16] = (MEDIUM_COUNTS + deviation).astype(np.uint16)
    return counts


def border_median(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Median of the outermost pixels of each image, (n, 1, 1): what surrounds a cell cut out around its middle."""
    sides = (image[:, 0], image[:, -1], image[:, 1:-1, 0], image[:, 1:-1, -1])
    median: npt.NDArray[np.float32] = np.median(np.concatenate(sides, axis=1), axis=1)[:, None, None]
    return median
