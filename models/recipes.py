"""How a network is trained: one checked object, from a TOML file or from code."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from plates.errors import MissingInputError, SettingsError
from plates.patches import PATCH_PX


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how a network is trained.

    The first `small_share` of the epochs sees patches at `small_px`, a quarter of the work at half the
    side; the rest, from which the best epoch is chosen, sees them at full size. `weights` is None,
    "imagenet", "kinetics" or the path of a file.

    Fine-tuning goes in stages: the first `head_epochs` epochs train the head alone, the others everything
    from the module `train_from` on (such as "layer3.2"; "" is all), the body at `body_rate` times the
    head's learning rate. `norm` "keep" leaves BatchNorm's means and variances as they came; "update" lets
    them follow the new patches.

    `noise` and `offset` change patches as in `batches.Augmentation`, for refractive index; for another
    quantity they are taken relative to the spread of its values. `cutmix` is the share of batches whose
    patches get a rectangle of another one (Yun et al. 2019). `planes` and `um_per_plane` are of volumes.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    architecture: str = "resnet101"
    weights: str | None = None
    epochs: int = 16
    batch: int = 32
    seed: int = 0
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    small_px: int = 80
    small_share: float = 0.7
    patience: int | None = None
    head_epochs: int = 0
    train_from: str = ""
    body_rate: float = 1.0
    norm: Literal["update", "keep"] = "update"
    noise: float = 3e-4
    offset: float = 4e-4
    focus: float = 0.3
    cutmix: float = 0.0
    patch_px: int = PATCH_PX
    planes: int = 24
    um_per_plane: float = 0.95
    weights_dtype: Literal["float32", "float16"] = "float16"

    def pixels(self, epoch: int) -> int:
        """Side of the patches in an epoch; the last epoch is always at full size."""
        small = min(int(self.small_share * self.epochs), self.epochs - 1)
        return self.small_px if epoch < small else self.patch_px


def read_recipe(path: Path, **chosen: object) -> Recipe:
    """Read a recipe from the table [recipe] of a TOML file; `chosen` fields that are not None overrule it.

    Raises
    ------
    MissingInputError
        There is no such file.
    SettingsError
        Naming every key that is unknown or has a wrong value.
    """
    if not path.is_file():
        raise MissingInputError(f"There is no file {path}. Correct the path of the recipe.")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}. Expected a table [recipe] with keys and values.") from None
    return make_recipe({**raw.get("recipe", {}), **_given(chosen)}, where=str(path))


def make_recipe(values: dict[str, object], *, where: str) -> Recipe:
    """Check the values of a recipe; `where` says in the message where they stand."""
    try:
        return TypeAdapter(Recipe).validate_python(values)
    except ValidationError as error:
        faults = [f"{where}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        known = ", ".join(item.name for item in fields(Recipe))
        raise SettingsError("\n".join(faults) + f"\nA recipe has the keys {known}.") from None


def _given(chosen: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in chosen.items() if value is not None}
